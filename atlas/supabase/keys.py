"""Supabase's keys and tokens: which kind a key is, what a token claims, and how it is checked.

Supabase knows two generations of API keys: legacy JWTs signed with the project's secret (`anon`, `service_role`), and
`sb_publishable_…` / `sb_secret_…`, which are no JWTs: the gateway turns them into one. Users' tokens are JWTs, signed by
the secret (HS256) or by an asymmetric key whose public half is in the project's JWKS.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import jwt

from atlas.errors import AtlasError

Claims = dict[str, Any]

ALGORITHMS = ("HS256", "ES256", "RS256", "EdDSA")
JWKS_PATH = "/auth/v1/.well-known/jwks.json"


class TokenRefused(AtlasError):
    """A token that is malformed, forged or expired. code: Realtime's name of the reason."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "log in again", *, code: str = "InvalidJWTToken") -> None:
        super().__init__(message, hint)
        self.code = code


def is_opaque(key: str) -> bool:
    """Whether it is a new API key, which is not a JWT."""
    return key.startswith("sb_")


def headers_of(key: str) -> dict[str, str]:
    """How a key is shown to Supabase's gateway. The new keys are not JWTs: the gateway makes one of them."""
    return {"apikey": key} | ({} if is_opaque(key) else {"authorization": f"Bearer {key}"})


def role_of(key: str) -> str | None:
    """The role that a key gives, None where it does not say. Reads a JWT without checking it: for messages, not for trust."""
    if key.startswith("sb_secret_"):
        return "service_role"
    if key.startswith("sb_publishable_"):
        return "anon"
    return read_unchecked(key).get("role")


def expiry_of(token: str) -> float | None:
    """When a JWT expires (Unix seconds), None where it does not say or is none."""
    exp = read_unchecked(token).get("exp")
    return float(exp) if isinstance(exp, int | float) else None


def read_unchecked(token: str) -> Claims:
    """The claims of a JWT, unchecked; empty for what is none."""
    try:
        return dict(jwt.decode(token, options={"verify_signature": False}))
    except jwt.PyJWTError:
        return {}


def mint(secret: str, claims: Mapping[str, Any], *, lasts: float, now: float | None = None) -> str:
    """A JWT signed with the project's secret. lasts: seconds."""
    issued = time.time() if now is None else now
    return jwt.encode({"iat": int(issued), "exp": int(issued + lasts), **claims}, secret, algorithm="HS256")


def _is_moment(value: object) -> bool:
    """Whether it is Unix seconds: JSON as Python reads it has NaN and Infinity too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


class Verifier:
    """Checks tokens by a secret (HS256), and by a JWKS (asymmetric keys) that is fetched when a key is not known.

    fetch answers the JWKS as JSON. A JWKS is fetched at most once in `keep` seconds, so that tokens with made-up key ids
    cause no flood.
    """

    def __init__(
        self,
        *,
        secret: str | None = None,
        fetch: Callable[[], Awaitable[Mapping[str, Any]]] | None = None,
        keep: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._fetch = fetch
        self._keep = keep
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")

    async def claims(self, token: str) -> Claims:
        """What the token claims. Raises TokenRefused."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise TokenRefused("The token provided is not a valid JWT", code="MalformedJWT") from None
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise TokenRefused("Failed to validate JWT signature", code="JwtSignatureError")
        # the key's own kind decides: a public key is never used as an HMAC secret
        key: Any = self._secret if algorithm == "HS256" else await self._public(str(header.get("kid")), algorithm)
        if key is None:
            raise TokenRefused("Failed to validate JWT signature", code="JwtSignatureError")
        try:
            claims = dict(
                jwt.decode(
                    token, key, algorithms=[algorithm], options={"verify_aud": False, "verify_exp": False, "verify_iat": False}
                )
            )
        except jwt.PyJWTError:
            raise TokenRefused("Failed to validate JWT signature", code="JwtSignatureError") from None
        exp = claims.get("exp")
        if not isinstance(claims.get("role"), str) or not claims["role"] or not _is_moment(exp):
            raise TokenRefused("Fields `role` and `exp` are required in JWT", code="InvalidJWTToken")
        late = self._clock() - float(claims["exp"])
        if late >= 0:
            raise TokenRefused(f"Token has expired {int(late)} seconds ago", code="InvalidJWTToken")
        return claims

    async def _public(self, kid: str, algorithm: str) -> Any:
        if kid not in self._keys and self._fetch is not None and self._clock() - self._fetched >= self._keep:
            self._fetched = self._clock()
            found = jwt.PyJWKSet.from_dict(dict(await self._fetch()))
            self._keys = {str(key.key_id): key for key in found.keys}
        key = self._keys.get(kid)
        return key.key if key is not None and key.algorithm_name == algorithm else None
