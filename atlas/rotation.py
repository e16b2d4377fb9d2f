"""Secrets that are renewed while a process runs: SIGHUP reads them again, and whoever uses one asks for it each time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from urllib.parse import unquote, urlsplit

from atlas.environment import environment
from atlas.errors import SettingsError
from atlas.settings import SECRETS, Settings, load

log = logging.getLogger("atlas.rotation")


class Held:
    """The settings of a running process. Its secrets may change; everything else is as it was at the start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._listeners: list[Callable[[], None]] = []

    def when_renewed(self, call: Callable[[], None]) -> None:
        """Calls this each time the secrets are read again: what holds something that was opened with one opens it anew."""
        self._listeners.append(call)

    def renew(self, fresh: Settings) -> list[str]:
        """Takes the secrets of fresh; the names of those that differ."""
        before = self.settings
        changed = {name: getattr(fresh, name) for name in SECRETS if getattr(fresh, name) != getattr(before, name)}
        if changed:
            self.settings = before.model_copy(update=changed)
        for call in self._listeners:
            call()
        # a field holds the secrets of all webhooks, each by the name of its variable
        hooks = {name for name, _ in before.webhook_secrets.items() ^ fresh.webhook_secrets.items()}
        return sorted({name.upper() for name in changed if name != "webhook_secrets"} | hooks)

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
        """Reads the environment and the files that it names, as at the start; what is wrong is said, and changes nothing."""
        try:
            names = self.renew(load(environment(os.environ)))
        except SettingsError as error:
            log.error("the secrets stay as they are: %s", error.line)
            return
        log.warning("read again: %s", f"{', '.join(names)} changed" if names else "no secret has changed")


def _password(url: str) -> str | None:
    password = urlsplit(url).password
    return None if password is None else unquote(password)


@contextlib.contextmanager
def reads_again(held: Held) -> Iterator[None]:
    """Until the context ends, SIGHUP reads the secrets again. Nothing where the platform, or the thread, has no signals."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGHUP, held.read_again)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGHUP)
