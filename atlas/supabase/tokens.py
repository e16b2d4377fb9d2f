"""Tokens for a Realtime channel: where they come from, and until when they are good."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from atlas.supabase.keys import expiry_of, mint


class Tokens(Protocol):
    """Where the key and the token of a channel come from."""

    @property
    def apikey(self) -> str:
        """The key that opens the socket."""

    async def token(self) -> tuple[str, float | None]:
        """A token that is good now, and when it expires (Unix seconds; None: never)."""


@dataclass(frozen=True, slots=True)
class KeyTokens:
    """An API key that is its own token: a legacy JWT, or a new key that the server exchanges itself."""

    apikey: str

    async def token(self) -> tuple[str, float | None]:
        return self.apikey, expiry_of(self.apikey)


class RenewedTokens:
    """Those of now: of a secret that may be renewed while the process runs."""

    def __init__(self, now: Callable[[], Tokens]) -> None:
        self._now = now

    @property
    def apikey(self) -> str:
        return self._now().apikey

    async def token(self) -> tuple[str, float | None]:
        return await self._now().token()


@dataclass(frozen=True, slots=True)
class MintedTokens:
    """Short-lived tokens of a role, signed with the project's JWT secret, so that the socket carries no long-lived one."""

    apikey: str
    secret: str
    role: str = "service_role"
    lasts: float = 3600.0

    async def token(self) -> tuple[str, float | None]:
        now = time.time()
        return mint(self.secret, {"role": self.role, "iss": "atlas"}, lasts=self.lasts, now=now), now + self.lasts
