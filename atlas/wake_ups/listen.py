"""Wake-ups by LISTEN on a direct connection."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time

import asyncpg

from atlas.backoff import full_jitter, pause_after
from atlas.database.pool import CONNECTION_LOST, Password
from atlas.wake_ups.port import Wake

log = logging.getLogger("atlas.wake")


class ListenWakeUps:
    """LISTEN atlas_wake. Connects again forever, with full jitter up to 5 s, and wakes after each connect.

    Through a transaction pooler (Supavisor, PgBouncer) a LISTEN is registered on a server connection that the next
    transaction of somebody else gets: it is tried out after each connect, and off where it does not work.
    """

    name = "listen"

    def __init__(
        self, url: str, *, password: Password = None, check_every: float = 15.0, try_for: float = 3.0, off_for: float = 600.0,
    ) -> None:  # fmt: skip
        self._url = url
        self._password = password
        self._check_every = check_every
        self._try_for = try_for
        self._off_for = off_for
        self.works: bool | None = None

    async def run(self, wake: Wake) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._listen(wake)
            except (*CONNECTION_LOST, asyncpg.PostgresError, TimeoutError) as error:
                log.debug("listen: %s", error)
            if self.works is False:
                await asyncio.sleep(self._off_for)
                continue
            failures = 1 if time.monotonic() - began > 10 else failures + 1
            await asyncio.sleep(max(0.05, pause_after(full_jitter(0.2, 5), failures)))

    async def _listen(self, wake: Wake) -> None:
        """One connection, until it is lost; or found to hear nothing."""
        connection = await self._connect()
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _connection: closed.set())
        try:
            if not await self._hears(connection):
                if self.works is not False:
                    log.warning("LISTEN does not work here (a transaction pooler?): it is off, other wake-ups remain")
                self.works = False
                return
            self.works = True
            await connection.add_listener(
                "atlas_wake", lambda _connection, _pid, _channel, payload: wake(self.name, payload == "cancel")
            )
            # what was queued while nobody listened
            wake("listen_join", False)
            while not closed.is_set():
                try:
                    async with asyncio.timeout(self._check_every):
                        await closed.wait()
                except TimeoutError:
                    # a connection that died silently, behind a firewall for example, is found here
                    await connection.fetchval("select 1", timeout=5)
        finally:
            connection.terminate()

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._url,
            password=self._password,
            timeout=10,
            statement_cache_size=0,
            server_settings={"application_name": "atlas listen"},
        )

    async def _hears(self, connection: asyncpg.Connection) -> bool:
        """Whether a NOTIFY of another connection arrives. The connection is idle meanwhile, as it will be later."""
        channel = f"atlas_try_{secrets.token_hex(8)}"
        heard = asyncio.Event()
        await connection.add_listener(channel, lambda *_: heard.set())
        other = await self._connect()
        try:
            await other.execute(f"notify {channel}")
            async with asyncio.timeout(self._try_for):
                await heard.wait()
        except TimeoutError:
            return False
        finally:
            other.terminate()
        await connection.execute(f"unlisten {channel}")
        return True
