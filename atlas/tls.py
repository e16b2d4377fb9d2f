"""TLS of Atlas's own ports, and towards the knowledge service: certificates of the operator, mutual where they ask for it."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import uvicorn

from atlas.errors import SettingsError
from atlas.settings import Settings

log = logging.getLogger("atlas.tls")


def server_options(settings: Settings) -> dict[str, Any]:
    """What uvicorn is told; empty where the ports speak plain HTTP. Raises SettingsError, every problem in one message."""
    cert, key, ca = settings.atlas_tls_cert, settings.atlas_tls_key, settings.atlas_tls_ca
    problems = []
    if (cert is None) != (key is None):
        missing = "ATLAS_TLS_KEY" if key is None else "ATLAS_TLS_CERT"
        problems.append(f"{missing} is not set: a certificate and its key belong together")
    if settings.atlas_tls_verify_clients and (cert is None or ca is None):
        problems.append("ATLAS_TLS_VERIFY_CLIENTS needs ATLAS_TLS_CERT, ATLAS_TLS_KEY and ATLAS_TLS_CA: set them")
    if problems:
        raise SettingsError(problems)
    if cert is None or key is None:
        return {}
    _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), settings)
    words: dict[str, Any] = {"ssl_certfile": cert, "ssl_keyfile": key}
    if settings.atlas_tls_verify_clients:
        words |= {"ssl_ca_certs": ca, "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return words


def client_context(settings: Settings) -> ssl.SSLContext:
    """How a worker calls the knowledge service: it trusts the system's roots and ATLAS_TLS_CA, and shows its certificate."""
    return _loaded(ssl.create_default_context(), settings)


def show_again(context: ssl.SSLContext, settings: Settings) -> None:
    """As load_again, for the certificate that is shown to others, and the authority that they are checked by."""
    try:
        _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings)
        _loaded(context, settings)
    except SettingsError as error:
        log.error("the certificate that is shown stays as it is: %s", error.line)


def load_again(config: uvicorn.Config) -> None:
    """Takes a renewed certificate for connections from now on; one that cannot be used is said, and changes nothing."""
    if config.ssl is None or config.ssl_certfile is None:
        return
    try:
        # tried first: a context that took half of a pair would refuse everybody
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(config.ssl_certfile, config.ssl_keyfile)
        config.ssl.load_cert_chain(config.ssl_certfile, config.ssl_keyfile)
        if config.ssl_ca_certs is not None:
            config.ssl.load_verify_locations(config.ssl_ca_certs)
    except (OSError, ssl.SSLError) as error:
        log.error("the certificate stays as it is: %s cannot be used (%s)", config.ssl_certfile, error)


def _loaded(context: ssl.SSLContext, settings: Settings) -> ssl.SSLContext:
    try:
        if settings.atlas_tls_ca is not None:
            context.load_verify_locations(_readable(settings.atlas_tls_ca, "ATLAS_TLS_CA"))
        if settings.atlas_tls_cert is not None and settings.atlas_tls_key is not None:
            cert = _readable(settings.atlas_tls_cert, "ATLAS_TLS_CERT")
            context.load_cert_chain(cert, _readable(settings.atlas_tls_key, "ATLAS_TLS_KEY"))
    except ssl.SSLError as error:
        raise SettingsError(
            [f"ATLAS_TLS_CERT, ATLAS_TLS_KEY or ATLAS_TLS_CA cannot be used ({error}): give PEM, and the certificate's key"]
        ) from None
    return context


def _readable(path: Path, name: str) -> Path:
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError([f"{name}={path} cannot be read ({error.__class__.__name__}): name a readable PEM file"]) from None
    return path
