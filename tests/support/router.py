"""What tests of the router share: the App's key, edge functions as Deno processes, deliveries as GitHub and Slack sign them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from atlas.local.postgres import free_port
from atlas.webhooks import read_secrets, sign
from tests.support.core import ROOT, Json, until

FUNCTIONS = ROOT / "functions"
HOOK_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
SIGNING = "it is only a test"


@lru_cache
def app_key() -> tuple[str, str]:
    """The App's private key, as GitHub gives it (PKCS#1), and its public one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def deno(*words: str | Path, env: dict[str, str] | None = None, timeout: float = 170) -> subprocess.CompletedProcess[str]:
    """The real Deno, in functions/."""
    from deno import find_deno_bin  # the package that carries the binary

    return subprocess.run(
        [find_deno_bin(), *map(str, words)], cwd=FUNCTIONS, env=os.environ | {"NO_COLOR": "1"} | (env or {}), capture_output=True,
        text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@dataclass(kw_only=True)
class Function:
    """An edge function as a process of Deno; it can be killed, and started again on its port."""

    name: str
    env: dict[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.name}"

    async def start(self) -> None:
        from deno import find_deno_bin

        command = [
            find_deno_bin(),
            "run",
            "--frozen",
            "--allow-net=127.0.0.1",
            "--allow-env",
            "--allow-read",
            f"{self.name}/index.ts",
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=FUNCTIONS,
                env=os.environ | {"NO_COLOR": "1"} | self.env | {"PORT": str(self.port), "HOST": "127.0.0.1"},
                stdout=log,
                stderr=log,
            )

        async def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            try:
                async with httpx.AsyncClient() as web:
                    await web.get(self.url)
            except httpx.TransportError:
                return False
            return True

        await until(answers, 40, f"{self.name} answers")

    def kill(self) -> None:
        """As kill -9 does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)


@asynccontextmanager
async def function(name: str, folder: Path, **env: str) -> AsyncIterator[Function]:
    """Runs a function."""
    found = Function(name=name, env=env, log=folder / f"{name}.log")
    try:
        await found.start()
        yield found
    finally:
        found.kill()


@contextmanager
def quiet(folder: Path) -> Iterator[None]:
    """The logs of the functions hold no error when the context ends."""
    yield
    for log in folder.glob("*.log"):
        assert '"level":"error"' not in log.read_text(errors="replace"), log.read_text()


def router_env(db_url: str, github_url: str, slack_url: str) -> dict[str, str]:
    """Settings of all functions."""
    return {
        "SUPABASE_DB_URL": db_url, "GITHUB_APP_ID": "4242", "GITHUB_APP_PRIVATE_KEY": app_key()[0], "GITHUB_API_URL": github_url,
        "GITHUB_WEBHOOK_SECRET": SIGNING, "SLACK_API_URL": slack_url, "SLACK_BOT_TOKEN": "xoxb-test", "SLACK_SIGNING_SECRET": SIGNING,
        "SLACK_NOTIFY_CHANNEL": "CNOTIFY", "ATLAS_WEBHOOK_SECRET": HOOK_SECRET,
    }  # fmt: skip


async def github_delivery(to: Function, event: str, payload: Json, delivery: str | None = None) -> httpx.Response:
    """A webhook as GitHub sends it."""
    body = json.dumps(payload).encode()
    headers = {
        "content-type": "application/json", "x-github-event": event, "x-github-delivery": delivery or str(uuid4()),
        "x-hub-signature-256": "sha256=" + hmac.new(SIGNING.encode(), body, hashlib.sha256).hexdigest(),
    }  # fmt: skip
    async with httpx.AsyncClient(timeout=30) as web:
        return await web.post(to.url, content=body, headers=headers)


async def hook(to: Function, kind: str, data: Json, event: str | None = None, *, secret: str = HOOK_SECRET) -> httpx.Response:
    """A webhook as the mirror signs it."""
    body = json.dumps({"type": kind, "timestamp": "2026-11-24T00:00:00Z", "data": data}).encode()
    event = event or str(uuid4())
    stamp = int(time.time())
    headers = {
        "content-type": "application/json", "webhook-id": event, "webhook-timestamp": str(stamp),
        "webhook-signature": sign(read_secrets(secret), event, stamp, body),
    }  # fmt: skip
    async with httpx.AsyncClient(timeout=60) as web:
        return await web.post(to.url, content=body, headers=headers)


def comment(body: str, *, number: int = 7, comment_id: int = 1, is_pull: bool = False) -> Json:
    """The payload of issue_comment."""
    person = {"id": 583231, "login": "octocat", "type": "User"}
    issue: Json = {"number": number, "title": "Releases are slow", "body": "They take a day."}
    if is_pull:
        issue["pull_request"] = {"url": "x"}
    return {
        "action": "created", "issue": issue, "comment": {"id": comment_id, "body": body, "user": person}, "sender": person,
        "repository": {"id": 1, "full_name": "o/r", "default_branch": "main", "clone_url": "https://github.com/o/r.git"},
        "installation": {"id": 99},
    }  # fmt: skip


async def settled(seconds: float) -> None:
    """Leaves time for what must not happen."""
    await asyncio.sleep(seconds)
