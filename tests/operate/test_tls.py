"""TLS of Atlas's ports, mutual where it is asked for, renewed on SIGHUP; and TLS to Postgres."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import re
import signal
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from atlas.errors import SettingsError
from atlas.local.postgres import free_port
from atlas.probe import lives
from atlas.tls import server_options
from atlas.variables import load
from tests.support.core import ROOT, Database, Workers, ask, clean_environment, ended, run_atlas, until
from tests.support.fifteen import postgres_15


@dataclass(frozen=True, kw_only=True)
class Authority:
    """Makes certificates for loopback."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    cert: x509.Certificate

    @classmethod
    def create(cls, folder: Path) -> Authority:
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        found = cls(folder=folder, key=key, cert=_certificate("Atlas's tests", key, None, key))
        (folder / "ca.pem").write_bytes(found.cert.public_bytes(serialization.Encoding.PEM))
        return found

    @property
    def path(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key, as PEM; made anew each time."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert, secret = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(_certificate(name, key, self.cert, self.key).public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        secret.chmod(0o600)
        return cert, secret

    def client(self, name: str | None = None) -> ssl.SSLContext:
        """Trusts this authority; shows a certificate of that name."""
        context = ssl.create_default_context(cafile=str(self.path))
        if name is not None:
            context.load_cert_chain(*self.issue(name))
        return context


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )  # fmt: skip
    if issuer is None:
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
            key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True)
    else:
        loopback = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(loopback), critical=False)
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "ca")


async def get(url: str, context: ssl.SSLContext) -> int:
    async with httpx.AsyncClient(verify=context) as client:
        return (await client.get(url)).status_code


async def serial(port: int, context: ssl.SSLContext) -> int:
    """Of the certificate that a port shows."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


async def until_ready(workers: Workers, port: int, context: ssl.SSLContext) -> None:
    async def look() -> bool:
        assert workers.started[-1].process.poll() is None, workers.started[-1].log.read_text()
        try:
            return await get(f"https://localhost:{port}/readyz", context) == 200
        except httpx.TransportError:
            return False

    await until(look, 30, "the worker is ready")


async def test_a_worker_speaks_tls_and_takes_a_renewed_certificate(
    workers: Workers, db: asyncpg.Connection, authority: Authority
) -> None:
    cert, key = authority.issue("worker")
    worker = await workers.start(wait=False, atlas_tls_cert=cert, atlas_tls_key=key)
    context = authority.client()
    await until_ready(workers, worker.port, context)
    assert await get(f"https://localhost:{worker.port}/metrics", context) == 200
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await get(f"https://localhost:{worker.port}/metrics", ssl.create_default_context())
    with pytest.raises(httpx.TransportError):
        await get(f"http://localhost:{worker.port}/metrics", context)
    assert await asyncio.to_thread(lives, worker.port, tls=True)

    before = await serial(worker.port, context)
    # a broken certificate leaves the served one in place
    whole = cert.read_bytes()
    cert.write_bytes(b"not a certificate")
    worker.process.send_signal(signal.SIGHUP)

    async def said() -> bool:
        return "the certificate stays as it is" in worker.log.read_text()

    await until(said, 10, "it says so")
    assert await serial(worker.port, context) == before
    cert.write_bytes(whole)
    authority.issue("worker")
    worker.process.send_signal(signal.SIGHUP)

    async def changed() -> bool:
        return await serial(worker.port, context) != before

    await until(changed, 10, "the new one is shown")
    assert (await ended(db, await ask(db)))["state"] == "completed"


async def test_mutual_tls_between_worker_knowledge_service_and_whoever_scrapes(
    database: Database, workers: Workers, db: asyncpg.Connection, authority: Authority, tmp_path: Path
) -> None:
    port = free_port()

    def tls(name: str) -> dict[str, str]:
        cert, key = authority.issue(name)
        return {
            "ATLAS_TLS_CERT": str(cert), "ATLAS_TLS_KEY": str(key), "ATLAS_TLS_CA": str(authority.path), "ATLAS_TLS_VERIFY_CLIENTS": "true",
        }  # fmt: skip

    env = clean_environment() | tls("rag") | {
        "DATABASE_URL": database.url(), "RAG_HTTP_PORT": str(port), "RAG_API_KEY": "k" * 32,
    }  # fmt: skip
    log = tmp_path / "rag.log"
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/ship.md").write_text(
        "# Shipping\n\nReleases are shipped by the zanzibar procedure, each Tuesday at noon, by two people.\n"
    )
    indexed = await asyncio.to_thread(run_atlas, "index", str(tmp_path / "docs"), env={"DATABASE_URL": database.url()})
    assert indexed.returncode == 0, indexed.stderr
    with log.open("wb") as file:
        rag = subprocess.Popen([sys.executable, "-m", "atlas.cli", "rag", "serve"], env=env, stdout=file, stderr=file, cwd=ROOT)
    try:
        context = authority.client("prometheus")

        async def serves() -> bool:
            assert rag.poll() is None, log.read_text()
            try:
                return await get(f"https://localhost:{port}/healthz", context) == 200
            except httpx.TransportError:
                return False

        await until(serves, 30, "the service is there")
        worker = await workers.start(
            wait=False,
            rag_url=f"https://localhost:{port}",
            rag_api_key="k" * 32,
            **cast(dict[str, Any], {name.lower(): value for name, value in tls("worker").items()}),
        )
        await until_ready(workers, worker.port, context)
        for place in (port, worker.port):
            assert await get(f"https://localhost:{place}/metrics", context) == 200
            with pytest.raises(httpx.TransportError):
                await get(f"https://localhost:{place}/metrics", authority.client())
            assert await asyncio.to_thread(lives, place, tls=True), "a server that asks for a certificate lives"
        task = await ask(db, "How are releases shipped by zanzibar?")
        assert (await ended(db, task))["state"] == "completed"
        sources = await db.fetchval(
            "select o.data #> '{metadata,sources}' from atlas.task t join public.architect_out o on o.id = t.out_id where t.id = $1",
            task,
        )
        assert sources, "what the service knows came over mutual TLS"
        async with httpx.AsyncClient(verify=context) as client:
            text = (await client.get(f"https://localhost:{worker.port}/metrics")).text
        assert not re.search(r"(?m)^atlas_retrieval_fail_opens_total.* [1-9]", text)
    finally:
        rag.terminate()
        rag.wait(20)
    assert not await asyncio.to_thread(lives, port, tls=True)


def test_settings_that_do_not_fit_are_named_at_the_start(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("one")
    other = authority.issue("two")[1]
    for words, said in (
        ({"ATLAS_TLS_CERT": cert}, "ATLAS_TLS_KEY is not set"),
        ({"ATLAS_TLS_KEY": key}, "ATLAS_TLS_CERT is not set"),
        ({"ATLAS_TLS_CERT": tmp_path / "none.pem", "ATLAS_TLS_KEY": key}, "none.pem cannot be read (FileNotFoundError)"),
        ({"ATLAS_TLS_CERT": cert, "ATLAS_TLS_KEY": other}, "cannot be used"),
        ({"ATLAS_TLS_CERT": cert, "ATLAS_TLS_KEY": key, "ATLAS_TLS_VERIFY_CLIENTS": "true"}, "needs ATLAS_TLS_CERT"),
        ({"ATLAS_TLS_CERT": cert, "ATLAS_TLS_KEY": key, "ATLAS_TLS_CA": key}, "cannot be used"),
    ):
        with pytest.raises(SettingsError, match=re.escape(said)):
            server_options(load({name: str(value) for name, value in words.items()}))
    assert server_options(load({})) == {}


async def test_postgres_is_checked_where_the_url_says_so(authority: Authority, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other")
    cert, key = authority.issue("postgres")
    async with postgres_15(tmp_path / "postgres") as cluster:
        data = cluster.home / "postgres"
        for source, name in ((cert, "server.crt"), (key, "server.key")):
            (data / name).write_bytes(source.read_bytes())
            (data / name).chmod(0o600)
        admin = await asyncpg.connect(cluster.url("supabase_admin"))
        await admin.execute("alter system set ssl = on")
        await admin.execute("select pg_reload_conf()")
        await admin.close()
        tcp = f"postgresql://postgres:x@localhost:{cluster.port}/postgres?sslmode=verify-full&sslrootcert="
        done = await asyncio.to_thread(run_atlas, "status", env={"DATABASE_URL": f"{tcp}{authority.path}"})
        assert done.returncode == 0, done.stderr
        done = await asyncio.to_thread(run_atlas, "status", env={"DATABASE_URL": f"{tcp}{other.path}"})
        assert done.returncode != 0
        assert "CERTIFICATE_VERIFY_FAILED" in done.stderr.replace("\n", "") or "certificate verify failed" in done.stderr
        assert "Traceback" not in done.stderr


async def test_uvicorn_with_our_settings_does_not_speak_plain_http(workers: Workers, authority: Authority) -> None:
    """`uvicorn atlas.main:app` has options of its own for that: what Atlas is told of TLS would not be done."""
    cert, key = authority.issue("worker")
    worker = await workers.start(
        ("-m", "uvicorn", "atlas.main:app", "--port", "{port}"), wait=False, atlas_tls_cert=cert, atlas_tls_key=key
    )
    assert await asyncio.to_thread(worker.process.wait, 30) != 0
    assert "give uvicorn its own --ssl-certfile and --ssl-keyfile" in worker.log.read_text()
