"""Hints that there may be work: LISTEN on a direct connection, and a timer for what no hint announced."""

from __future__ import annotations

import asyncio
import logging
import random

import asyncpg

from atlas.adapters.postgres import CONNECTION_LOST
from atlas.ports import Wake

log = logging.getLogger("atlas.wake")


class SweepWakeUps:
    """A timer: the one source that misses nothing. Jittered, so that workers do not march in step."""

    name = "sweep"

    def __init__(self, *, every: float = 5.0) -> None:
        self._every = every

    async def run(self, wake: Wake) -> None:
        while True:
            await asyncio.sleep(self._every * random.uniform(0.75, 1))  # noqa: S311  jitter
            wake(self.name, False)


class ListenWakeUps:
    """LISTEN atlas_wake. Connects again for ever, with full jitter up to 5 s, and hints after each connect."""

    name = "listen"

    def __init__(self, url: str, *, check_every: float = 15.0) -> None:
        self._url = url
        self._check_every = check_every

    async def run(self, wake: Wake) -> None:
        failures = 0
        while True:
            try:
                connection = await asyncpg.connect(self._url, timeout=10, server_settings={"application_name": "atlas listen"})
            except (*CONNECTION_LOST, asyncpg.PostgresError, TimeoutError) as error:
                failures += 1
                log.debug("listen: cannot connect (%s)", error)
                await asyncio.sleep(random.uniform(0.05, min(5, 0.1 * 2**failures)))  # noqa: S311  jitter
                continue
            failures = 0
            closed = asyncio.Event()
            connection.add_termination_listener(lambda _connection, closed=closed: closed.set())
            try:
                await connection.add_listener(
                    "atlas_wake", lambda _connection, _pid, _channel, payload: wake(self.name, payload == "cancel")
                )
                # what was queued while nobody listened
                wake(self.name, False)
                while not closed.is_set():
                    try:
                        async with asyncio.timeout(self._check_every):
                            await closed.wait()
                    except TimeoutError:
                        # a connection that is dead without a word, behind a firewall say, is found here
                        await connection.fetchval("select 1", timeout=5)
            except (*CONNECTION_LOST, asyncpg.PostgresError, TimeoutError) as error:
                log.debug("listen: connection lost (%s)", error)
            finally:
                connection.terminate()
