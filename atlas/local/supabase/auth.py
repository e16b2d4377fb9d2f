"""The login of the stand-in: sign up, sign in, refresh; what `supabase start` offers with e-mail confirmation off."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from atlas.local.supabase.access import Access
from atlas.local.supabase.bodies import BadBody, read_json
from atlas.supabase.keys import TokenRefused

MAX_BODY = 16_384


class Failures:
    """Failed log-ins, by address and e-mail: so many within so many seconds, then a wait."""

    def __init__(self, *, most: int = 10, within: float = 300.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._within = within
        self._clock = clock
        self._at: dict[tuple[str, str], list[float]] = {}

    def may_try(self, who: tuple[str, str]) -> bool:
        return len(self._recent(who)) < self._most

    def count(self, who: tuple[str, str]) -> None:
        self._at[who] = [*self._recent(who), self._clock()]
        if len(self._at) > 10_000:
            self._at = {one: recent for one in self._at if (recent := self._recent(one))}

    def _recent(self, who: tuple[str, str]) -> list[float]:
        return [at for at in self._at.get(who, ()) if at > self._clock() - self._within]


class Auth:
    """Users are rows of auth.users; their tokens are signed by the stand-in's own key (ES256, its public half in the JWKS)."""

    def __init__(self, pool: asyncpg.Pool, pem: str, *, lasts: float = 3600.0) -> None:
        self._pool = pool
        self.lasts = lasts
        key = serialization.load_pem_private_key(pem.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._failures = Failures()
        self._kid = hashlib.sha256(pem.encode()).hexdigest()[:16]

    async def jwks(self) -> dict[str, Any]:
        """The public keys, for whoever checks tokens."""
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [public | {"kid": self._kid, "alg": "ES256", "use": "sig"}]}

    async def show_jwks(self, request: Request) -> Response:
        return JSONResponse(await self.jwks())

    async def health(self, request: Request) -> Response:
        return JSONResponse({"name": "atlas stand_in", "version": "1"})

    async def sign_up(self, request: Request) -> Response:
        body = await _body(request)
        email, password = str(body.get("email", "")).strip().lower(), str(body.get("password", ""))
        if "@" not in email:
            return _refusal(400, "validation_failed", "Unable to validate email address: invalid format")
        if len(password) < 6:
            return _refusal(422, "weak_password", "Password should be at least 6 characters.")
        user = await self._pool.fetchrow(
            "insert into auth.users (email, encrypted_password) values ($1, $2) on conflict (email) do nothing returning *",
            email, await asyncio.to_thread(_hashed, password),
        )  # fmt: skip
        if user is None:
            return _refusal(422, "user_already_exists", "User already registered")
        return await self._session(user)

    async def token(self, request: Request) -> Response:
        body = await _body(request)
        if request.query_params.get("grant_type") == "refresh_token":
            # the row stays, so that its session is never without one
            fresh = secrets.token_urlsafe(24)
            user = await self._pool.fetchrow(
                "with used as (update auth.refresh_tokens set token = $2 where token = $1 returning user_id, session_id) "
                "select u.*, used.session_id from auth.users u join used on used.user_id = u.id",
                str(body.get("refresh_token")), fresh,
            )  # fmt: skip
            if user is None:
                return _refusal(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
            return self._tokens(user, str(user["session_id"]), fresh)
        email = str(body.get("email", "")).strip().lower()
        who = (request.client.host if request.client else "", email)
        if not self._failures.may_try(who):
            return _refusal(429, "over_request_rate_limit", "Request rate limit reached")
        user = await self._pool.fetchrow("select * from auth.users where email = $1", email)
        # an unknown user takes as long as a wrong password
        stored = user["encrypted_password"] if user is not None else None
        fits = await asyncio.to_thread(_fits, str(body.get("password", "")), stored or NOBODY)
        if user is None or not fits:
            self._failures.count(who)
            return _refusal(400, "invalid_credentials", "Invalid login credentials")
        return await self._session(user)

    async def lives(self, session: str) -> bool:
        """Whether a session was not logged out of."""
        try:
            session_id = UUID(session)
        except ValueError:
            return False
        return bool(
            await self._pool.fetchval("select exists (select from auth.refresh_tokens where session_id = $1)", session_id)
        )

    async def user(self, request: Request, access: Access) -> Response:
        try:
            claims = await access.of_request(request.headers.get("apikey"), request.headers.get("authorization"))
        except TokenRefused as error:
            return _refusal(403, "bad_jwt", str(error))
        found = await self._pool.fetchrow("select * from auth.users where id = $1", _uuid(claims.get("sub")))
        return (
            JSONResponse(_user(found))
            if found
            else _refusal(403, "user_not_found", "User from sub claim in JWT does not exist")
        )

    async def log_out(self, request: Request, access: Access) -> Response:
        try:
            claims = await access.of_request(request.headers.get("apikey"), request.headers.get("authorization"))
        except TokenRefused as error:
            return _refusal(403, "bad_jwt", str(error))
        await self._pool.execute("delete from auth.refresh_tokens where user_id = $1", _uuid(claims.get("sub")))
        return Response(status_code=204)

    async def _session(self, user: asyncpg.Record) -> Response:
        refresh = secrets.token_urlsafe(24)
        session = await self._pool.fetchval(
            "insert into auth.refresh_tokens (token, user_id) values ($1, $2) returning session_id", refresh, user["id"]
        )
        return self._tokens(user, str(session), refresh)

    def _tokens(self, user: asyncpg.Record, session: str, refresh: str) -> Response:
        now = time.time()
        claims = {
            "iss": "atlas stand_in", "sub": str(user["id"]), "aud": "authenticated", "role": "authenticated",
            "email": user["email"], "iat": int(now), "exp": int(now + self.lasts), "session_id": session,
        }  # fmt: skip
        token = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._kid})
        return JSONResponse({
            "access_token": token, "token_type": "bearer", "expires_in": int(self.lasts), "expires_at": claims["exp"],
            "refresh_token": refresh, "user": _user(user),
        })  # fmt: skip


def _user(row: asyncpg.Record) -> dict[str, Any]:
    created = row["created_at"].astimezone(UTC).isoformat()
    return {
        "id": str(row["id"]), "aud": "authenticated", "role": "authenticated", "email": row["email"], "phone": "",
        "email_confirmed_at": created, "confirmed_at": created, "last_sign_in_at": datetime.now(UTC).isoformat(),
        "app_metadata": {"provider": "email", "providers": ["email"]}, "user_metadata": {}, "identities": [],
        "created_at": created, "updated_at": created, "is_anonymous": False,
    }  # fmt: skip


def _hashed(password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${_scrypt(password, salt).hex()}"


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


NOBODY = _hashed("")
"""The hash to compare with when the user does not exist, so that both cases take equally long."""


def _fits(password: str, stored: str) -> bool:
    kind, _, rest = stored.partition("$")
    salt, _, digest = rest.partition("$")
    return kind == "scrypt" and hmac.compare_digest(_scrypt(password, bytes.fromhex(salt)).hex(), digest)


async def _body(request: Request) -> dict[str, Any]:
    try:
        found = await read_json(request, MAX_BODY)
    except BadBody:
        return {}
    return found if isinstance(found, dict) else {}


def _uuid(value: object) -> UUID:
    try:
        return UUID(str(value))
    except ValueError:
        return UUID(int=0)


def _refusal(status: int, code: str, message: str) -> Response:
    return JSONResponse({"code": status, "error_code": code, "msg": message}, status_code=status)
