"""The door's keys: which it gives out, and what each of them, and each token, may claim."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from atlas.keys import Claims, TokenRefused, Verifier, mint

TEN_YEARS = 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The API keys of a project, in both generations."""

    jwt_secret: str
    publishable: str
    secret: str
    anon: str
    service_role: str

    @classmethod
    def create(cls) -> Keys:
        jwt_secret = secrets.token_urlsafe(32)
        return cls(
            jwt_secret=jwt_secret,
            publishable=f"sb_publishable_{secrets.token_urlsafe(16)}",
            secret=f"sb_secret_{secrets.token_urlsafe(24)}",
            anon=mint(jwt_secret, {"iss": "supabase", "role": "anon"}, lasts=TEN_YEARS),
            service_role=mint(jwt_secret, {"iss": "supabase", "role": "service_role"}, lasts=TEN_YEARS),
        )


class Access:
    """Turns keys and tokens into claims."""

    def __init__(self, keys: Keys, verifier: Verifier) -> None:
        self.keys = keys
        self.verifier = verifier

    async def of_key(self, key: str) -> Claims:
        """The claims of an API key. Raises TokenRefused."""
        later = time.time() + TEN_YEARS
        if secrets.compare_digest(key.encode(), self.keys.publishable.encode()):
            return {"role": "anon", "exp": later}
        if secrets.compare_digest(key.encode(), self.keys.secret.encode()):
            return {"role": "service_role", "exp": later}
        return await self.verifier.claims(key)

    async def of_request(self, apikey: str | None, authorization: str | None) -> Claims:
        """The claims of a REST call: the bearer's token, else the key's. Raises TokenRefused."""
        if not apikey:
            raise TokenRefused("No API key found in request", "send it as the header apikey")
        by_key = await self.of_key(apikey)
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
