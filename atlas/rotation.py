"""Secrets that are renewed while a process runs: SIGHUP reads them again, and whoever uses one asks for it each time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from urllib.parse import unquote, urlsplit

from atlas.environment import environment
from atlas.errors import SettingsError
from atlas.settings import SECRETS, Settings
from atlas.variables import load

log = logging.getLogger("atlas.rotation")


RESTART = frozenset(
    {"OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET", "OTEL_EXPORTER_OTLP_HEADERS", "RAG_EMBED_API_KEY", "RAG_RERANK_API_KEY"}
)
"""Secrets whose users keep them: a change of these takes a restart, and the log says so."""


class CurrentSettings:
    """The settings of a running process. Its secrets may change; everything else is as it was at the start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._listeners: list[Callable[[Collection[str]], None]] = []

    def when_renewed(self, call: Callable[[Collection[str]], None]) -> None:
        """Calls this each time the secrets are read again, with the names of those that changed."""
        self._listeners.append(call)

    def renew(self, fresh: Settings) -> list[str]:
        """Takes the secrets of fresh; the names of those that differ."""
        before = self.settings
        changed = {name: getattr(fresh, name) for name in SECRETS if getattr(fresh, name) != getattr(before, name)}
        # a field holds the secrets of all webhooks, each by the name of its variable
        hooks = {name for name, _ in before.webhook_secrets.items() ^ fresh.webhook_secrets.items()}
        names = sorted({name.upper() for name in changed if name != "webhook_secrets"} | hooks)
        if changed:
            self.settings = before.model_copy(update=changed)
        for call in self._listeners:
            call(names)
        return names

    def password_of(self, url: str) -> Callable[[], str | None] | None:
        """Says the password for connections to a URL: that of DATABASE_URL as it is now, else the URL's own.

        None where the URL has none: Postgres's own ways (peer, .pgpass) are left alone.
        """
        own = _password(url)
        if own is None:
            return None

        def now() -> str | None:
            named = self.settings.database_url
            return (_password(named.get_secret_value()) if named is not None else None) or own

        return now

    async def openai_key(self) -> str:
        """The key of OPENAI_API_KEY."""
        key = self.settings.openai_api_key
        return key.get_secret_value() if key is not None else ""

    def read_again(self) -> None:
        """Reads the environment and the files that it names, as at the start. A bad file is logged, and nothing changes."""
        try:
            names = self.renew(load(environment(os.environ)))
        except SettingsError as error:
            log.error("the secrets stay as they are: %s", error.line)
            return
        log.warning("read again: %s", f"{', '.join(names)} changed" if names else "no secret has changed")
        if kept := sorted(RESTART.intersection(names)):
            log.warning("%s: the old value is in use until the process restarts", ", ".join(kept))


def _password(url: str) -> str | None:
    password = urlsplit(url).password
    return None if password is None else unquote(password)


def _at_terminal() -> bool:
    # a daemon may have no stdin at all
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def hears_sighup() -> bool:
    """Whether a SIGHUP asks this process to read its secrets again.

    At a terminal it means that the terminal is gone, and ends the process. Windows has none; only a main thread takes signals.
    """
    return hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread() and not _at_terminal()


def ignore_early() -> None:
    """A SIGHUP that comes before the process can read its secrets again does not end it: it has read them just now."""
    if hears_sighup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextlib.contextmanager
def reads_again(current: CurrentSettings) -> Iterator[None]:
    """Until the context ends, SIGHUP reads the secrets again; from then on, while the process drains, it does nothing."""
    if not hears_sighup():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, current.read_again)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        ignore_early()
