"""doctor --production: what the deployment manual asks of a worker that serves a team, checked with its own settings."""

from __future__ import annotations

import ipaddress
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from atlas.commands.common import Found
from atlas.database.inspection import inspect_connection
from atlas.database.pool import CONNECTION_LOST
from atlas.errors import AtlasError
from atlas.local.address import database_url
from atlas.settings import SECRETS, Settings
from atlas.supabase.keys import is_opaque

QUARTER = 92
"""Days after which the manual has a secret renewed."""


async def check_production(known: Settings, environment: Mapping[str, str], found: Found) -> None:
    """All checks. environment: what the process was started with, `.env` included."""
    _check_secrets(known, environment, found)
    _check_transport(known, found)
    _check_supabase(known, found)
    if known.atlas_audit_key is None:
        found(
            "problem",
            "audit",
            "it is not sealed: set ATLAS_AUDIT_KEY_FILE (openssl rand -hex 32), and keep the key outside Postgres",
        )
    else:
        found("ok", "audit", "it is sealed with ATLAS_AUDIT_KEY")
    if known.daily_usd_budget is None:
        found("warning", "money", "only tokens are limited: set DAILY_USD_BUDGET, since a fallback may cost more per token")
    else:
        found("ok", "money", f"{known.daily_usd_budget:g} USD and {known.daily_token_budget} tokens a day at most")
    destinations = await _check_database(known, found)
    hosts = sorted({*_hosts(known), *destinations})
    found("check", "egress", f"allow DNS, and these hosts alone: {', '.join(hosts)} (deploy/kubernetes/base/network.yaml)")
    if known.supabase_url is not None:
        found(
            "check",
            "logs",
            "turn on Supabase's audit logs (for the organization and for Authentication): Atlas cannot check them",
        )
    if known.pubsub_project_id is not None:
        found(
            "check",
            "logs",
            f"turn on Data Access audit logs of the Pub/Sub API in {known.pubsub_project_id} (IAM & Admin, Audit Logs)",
        )


def _check_secrets(known: Settings, environment: Mapping[str, str], found: Found) -> None:
    names = {name.upper() for name in SECRETS - {"webhook_secrets"} if getattr(known, name) is not None}
    for variable in sorted(names | set(known.webhook_secrets)):
        file = environment.get(f"{variable}_FILE")
        if not file:
            found(
                "warning",
                "secrets",
                f"{variable} is in the environment, which child processes inherit: use {variable}_FILE",
            )
            continue
        path = Path(file)
        status = path.stat()
        days = (time.time() - status.st_mtime) / 86_400
        if status.st_mode & stat.S_IWOTH:
            found("problem", "secrets", f"{variable}_FILE={path} is world-writable: chmod 440")
        elif status.st_mode & stat.S_IROTH and path.parent.stat().st_mode & stat.S_IXOTH:
            found("warning", "secrets", f"{variable}_FILE={path} is world-readable: chmod 440")
        elif days > QUARTER:
            found(
                "warning",
                "secrets",
                f"{variable} is {days:.0f} days old: renew it each quarter, and send SIGHUP (docs/deploy.md)",
            )
        else:
            found("ok", "secrets", f"{variable} is from a file, {days:.0f} days old")


def _check_transport(known: Settings, found: Found) -> None:
    for setting, host in (("ATLAS_HTTP_HOST", known.atlas_http_host), ("RAG_HTTP_HOST", known.rag_http_host)):
        if known.atlas_tls_cert is None and not _is_local(host):
            found(
                "warning",
                "TLS",
                f"{setting}={host} speaks plain HTTP: set ATLAS_TLS_CERT and ATLAS_TLS_KEY, or terminate TLS in a mesh",
            )
    for setting, url in (
        ("SUPABASE_URL", known.supabase_url), ("RAG_URL", known.rag_url), ("OPENAI_BASE_URL", known.openai_base_url),
        ("RAG_EMBED_URL", known.rag_embed_url), ("RAG_RERANK_URL", known.rag_rerank_url),
    ):  # fmt: skip
        if url is None:
            continue
        plain = url.startswith("http://") and not _is_local(urlsplit(url).hostname or "")
        found(
            "problem" if plain else "ok",
            "TLS",
            f"{setting} is {'not encrypted: use https://' if plain else 'encrypted, or local'}",
        )
    if known.database_url is None:
        return
    parts = urlsplit(known.database_url.get_secret_value())
    mode = parse_qs(parts.query).get("sslmode", ["prefer"])[0]
    if _is_local(parts.hostname or "") or mode in ("verify-full", "verify-ca"):
        found("ok", "TLS", f"Postgres at {parts.hostname or 'a socket'}: sslmode={mode}")
    else:
        found(
            "problem",
            "TLS",
            f"sslmode={mode} does not check who Postgres at {parts.hostname} is: add sslmode=verify-full to DATABASE_URL",
        )


def _check_supabase(known: Settings, found: Found) -> None:
    if known.supabase_url is None or known.worker_key is None:
        return
    if known.supabase_jwt_secret is not None:
        found("ok", "Supabase key", "Realtime is opened with tokens of an hour (SUPABASE_JWT_SECRET)")
    elif is_opaque(known.worker_key):
        found(
            "ok",
            "Supabase key",
            "a secret key, which can be revoked on its own; the worker uses it to open Realtime, and for nothing else",
        )
    else:
        found(
            "warning", "Supabase key",
            "a legacy service_role JWT passes row level security everywhere, for years: make a secret key for the worker alone",
        )  # fmt: skip


async def _check_database(known: Settings, found: Found) -> list[str]:
    """The hosts of enabled webhooks."""
    try:
        url = database_url(known)
    except AtlasError as error:
        found("problem", "database", error.line)
        return []
    try:
        seen = await inspect_connection(url)
    except (*CONNECTION_LOST, TimeoutError, asyncpg.PostgresError) as error:
        found("problem", "database", f"Postgres cannot be reached ({error}): check DATABASE_URL")
        return []
    if seen.powerful:
        found("problem", "database", f"it connects as {seen.role}, which has full rights: DATABASE_URL must name atlas_worker")
    else:
        found("ok", "database", f"it connects as {seen.role}, which owns nothing and is subject to row level security")
    if seen.open_tables:
        found("problem", "row level security", f"it is off for {', '.join(seen.open_tables)}: turn it on for each of them")
    else:
        found("ok", "row level security", "it is on for every table of public, atlas and rag")
    return [host for target in seen.webhooks if (host := urlsplit(target).hostname)]


def _hosts(known: Settings) -> Iterator[str]:
    for url in (known.openai_base_url, known.supabase_url, known.rag_url, known.rag_embed_url, known.rag_rerank_url):
        if url is not None and (host := urlsplit(url).hostname):
            yield host
    if known.database_url is not None and (host := urlsplit(known.database_url.get_secret_value()).hostname):
        yield host
    if known.pubsub_project_id is not None:
        yield from ("pubsub.googleapis.com", "oauth2.googleapis.com")


def _is_local(host: str) -> bool:
    """Loopback, a socket, or a name without a dot: another service of the same host or cluster."""
    if host in ("", "localhost") or ("." not in host and ":" not in host):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.endswith(".svc.cluster.local")
