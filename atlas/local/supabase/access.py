"""The stand-in's keys: which it gives out, and what each of them, and each token, may claim."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from atlas.supabase.keys import Claims, TokenRefused, Verifier, mint

TEN_YEARS = 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The API keys of a project, in both generations."""

    jwt_secret: str
    publishable: str
    secret: str
    anon: str
    service_role: str
    signing_key: str = ""
    """PEM of the key that signs people's tokens; one of its own for each stand-in where it is empty."""

    @classmethod
    def create(cls) -> Keys:
        jwt_secret = secrets.token_urlsafe(32)
        return cls(
            jwt_secret=jwt_secret,
            publishable=f"sb_publishable_{secrets.token_urlsafe(16)}",
            secret=f"sb_secret_{secrets.token_urlsafe(24)}",
            anon=mint(jwt_secret, {"iss": "supabase", "role": "anon"}, lasts=TEN_YEARS),
            signing_key=new_signing_key(),
            service_role=mint(jwt_secret, {"iss": "supabase", "role": "service_role"}, lasts=TEN_YEARS),
        )


def new_signing_key() -> str:
    """The PEM of a new EC key."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


class Access:
    """Turns keys and tokens into claims."""

    def __init__(self, keys: Keys, verifier: Verifier, *, lives: Callable[[str], Awaitable[bool]]) -> None:
        self.keys = keys
        self.verifier = verifier
        self._lives = lives

    async def of_key(self, key: str) -> Claims:
        """The claims of an API key. Raises TokenRefused."""
        later = time.time() + TEN_YEARS
        if secrets.compare_digest(key.encode(), self.keys.publishable.encode()):
            return {"role": "anon", "exp": later}
        if secrets.compare_digest(key.encode(), self.keys.secret.encode()):
            return {"role": "service_role", "exp": later}
        return await self.of_token(key)

    async def of_token(self, token: str) -> Claims:
        """The claims of a JWT; lives tells whether its session is still there. Raises TokenRefused."""
        claims = await self.verifier.claims(token)
        session = claims.get("session_id")
        if session is not None and not await self._lives(str(session)):
            raise TokenRefused("Session from session_id claim in JWT does not exist")
        return claims

    def check_apikey(self, apikey: str | None) -> str:
        """One of this stand-in's four keys, which a web page that its owner visits cannot know. Raises TokenRefused."""
        if not apikey:
            raise TokenRefused("No API key found in request", "send it as the header apikey")
        keys = (self.keys.publishable, self.keys.secret, self.keys.anon, self.keys.service_role)
        if not any(secrets.compare_digest(apikey.encode(), key.encode()) for key in keys):
            raise TokenRefused("Invalid API key", "send one of the keys that `atlas up` prints")
        return apikey

    async def of_request(self, apikey: str | None, authorization: str | None) -> Claims:
        """The claims of a REST call: the bearer's token, else the key's. Raises TokenRefused."""
        by_key = await self.of_key(self.check_apikey(apikey))
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token or token == apikey:
            return by_key
        return await self.of_key(token)

    @staticmethod
    def check_time(claims: Claims) -> None:
        """Raises TokenRefused for claims that have run out."""
        late = time.time() - float(claims["exp"])
        if late >= 0:
            raise TokenRefused(f"Token has expired {int(late)} seconds ago", code="InvalidJWTToken")
