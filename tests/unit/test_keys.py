"""Tokens: which are taken, and which are refused, by a secret and by a JWKS."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from atlas.supabase.keys import TokenRefused, Verifier, expiry_of, is_opaque, mint, role_of

SECRET = "a secret of thirty-two bytes or so"
CLAIMS = {"role": "authenticated", "sub": "ann"}
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def jwks() -> dict[str, Any]:
    """The public halves of both keys."""
    one = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key()))
    two = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY.public_key()))
    return {"keys": [one | {"kid": "rsa", "alg": "RS256"}, two | {"kid": "ec", "alg": "ES256"}]}


class Fetch:
    """Serves a JWKS, and counts."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self) -> dict[str, Any]:
        self.count += 1
        return jwks()


def signed(key: Any, algorithm: str, kid: str | None, **claims: Any) -> str:
    return jwt.encode(
        {"exp": time.time() + 60, **CLAIMS, **claims}, key, algorithm=algorithm, headers={"kid": kid} if kid else None
    )


async def test_a_secret_and_both_kinds_of_public_keys_are_taken() -> None:
    fetch = Fetch()
    verifier = Verifier(secret=SECRET, fetch=fetch)
    for token in (mint(SECRET, CLAIMS, lasts=60), signed(RSA_KEY, "RS256", "rsa"), signed(EC_KEY, "ES256", "ec")):
        assert (await verifier.claims(token))["sub"] == "ann"
    assert fetch.count == 1, "one fetch for both"


def confused() -> str:
    """A token signed by HMAC with a public key's text as the secret, as an attacker has it."""
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "rsa"}, {"exp": time.time() + 60, **CLAIMS}]
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hmac.new(pem, text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: "garbage", "MalformedJWT"),
        (lambda: mint("another secret of thirty-two bytes", CLAIMS, lasts=60), "JwtSignatureError"),
        (lambda: mint(SECRET, CLAIMS, lasts=-5), "InvalidJWTToken"),
        (lambda: mint(SECRET, {"sub": "ann"}, lasts=60), "InvalidJWTToken"),
        (lambda: jwt.encode(CLAIMS, SECRET, algorithm="HS256"), "InvalidJWTToken"),
        (lambda: jwt.encode({"exp": time.time() + 60, **CLAIMS}, "", algorithm="none"), "JwtSignatureError"),
        (lambda: signed(EC_KEY, "ES256", "unknown"), "JwtSignatureError"),
        (lambda: signed(ec.generate_private_key(ec.SECP256R1()), "ES256", "ec"), "JwtSignatureError"),
        (lambda: signed(EC_KEY, "ES256", "rsa"), "JwtSignatureError"),
        # a public key is not an HMAC secret, whatever the header says
        (lambda: confused(), "JwtSignatureError"),
    ],
)  # fmt: skip
async def test_what_is_forged_or_over_is_refused_by_name(make: Callable[[], str], code: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        await Verifier(secret=SECRET, fetch=Fetch()).claims(make())
    assert caught.value.code == code


async def test_made_up_key_ids_fetch_the_jwks_once_a_minute() -> None:
    fetch, now = Fetch(), [1000.0]
    verifier = Verifier(fetch=fetch, clock=lambda: now[0])
    for n in range(50):
        with pytest.raises(TokenRefused):
            await verifier.claims(signed(EC_KEY, "ES256", f"made-up-{n}"))
    assert fetch.count == 1
    now[0] += 61
    with pytest.raises(TokenRefused):
        await verifier.claims(signed(EC_KEY, "ES256", "made-up"))
    assert fetch.count == 2, "a key that was rotated in is found a minute later"


async def test_without_a_secret_no_hmac_token_is_taken() -> None:
    with pytest.raises(TokenRefused):
        await Verifier(fetch=Fetch()).claims(mint(SECRET, CLAIMS, lasts=60))


def test_keys_say_what_they_are() -> None:
    assert (role_of("sb_secret_x"), role_of("sb_publishable_x")) == ("service_role", "anon")
    assert role_of(mint(SECRET, {"role": "service_role"}, lasts=60)) == "service_role"
    assert role_of("garbage") is None
    assert is_opaque("sb_secret_x")
    assert expiry_of("sb_secret_x") is None
    assert expiry_of(mint(SECRET, CLAIMS, lasts=60, now=100)) == 160
