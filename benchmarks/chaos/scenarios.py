"""What is done, and to what. The first five are the scenarios of hardbyte/postgresql-job-queue-benchmarking."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from benchmarks.chaos.arena import Arena, Fault, Started, arena
from benchmarks.chaos.peers import provider, provider_slow, pubsub_down, rag_hung, realtime
from benchmarks.chaos.postgres import backend_kill, disk_full, failover, pool_exhaustion, pooled, postgres_restart
from benchmarks.chaos.workers import all_killed, clocks, crash_recovery, leases_expire, repeated_kills


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is done, and to what. made: the arena and its fleet, before the clock starts."""

    text: str
    made: Callable[[float], AbstractAsyncContextManager[Started]]


def plain(text: str, fault: Callable[[Arena], Fault], workers: int = 2, **settings: object) -> Scenario:
    """A scenario whose arena needs nothing of its own."""

    @asynccontextmanager
    async def made(seconds: float) -> AsyncIterator[Started]:
        async with arena(seconds) as found:
            found.start(workers, **settings)
            yield found, lambda: fault(found)

    return Scenario(text=text, made=made)


SCENARIOS: dict[str, Scenario] = {
    "crash_recovery": plain("one of two workers is killed (-9), and started again later", crash_recovery),
    "postgres_restart": plain("Postgres is stopped, and started again", postgres_restart),
    "repeated_kills": plain("one of two workers is killed and started again, five times", repeated_kills),
    "pg_backend_kill": plain("a connection of the fleet is terminated twice a second", backend_kill),
    "pool_exhaustion": plain(
        "others take all connections that Postgres allows; the fleet loses one of its own twice a second", pool_exhaustion
    ),
    "ten_workers_killed": plain(
        "ten workers are killed at once, and started again", all_killed, workers=10, atlas_concurrency=4
    ),
    "leases_expire": plain("all workers stand still for longer than their leases", leases_expire),
    "clocks_off": Scenario(text="workers an hour ahead and behind; one is killed", made=clocks),
    "disk_full": Scenario(text="Postgres's file system is full", made=disk_full),
    "failover": Scenario(text="the primary is killed, a synchronous replica promoted", made=failover),
    "pgbouncer": Scenario(text="through PgBouncer in transaction mode, which is killed and started again", made=pooled),
    "provider_reset": plain("the provider takes requests, and resets", provider("close")),
    "provider_black_hole": plain("the provider takes requests, and says nothing", provider("silent")),
    "provider_gateway": plain("a gateway answers 502 in the provider's place", provider("502")),
    "provider_malformed": plain(
        "the provider answers with something that cannot be read as an event stream", provider("malformed")
    ),
    "provider_slow": plain("each reply takes seconds more", provider_slow),
    "rag_hung": Scenario(text="the knowledge service stops answering", made=rag_hung),
    "pubsub_down": Scenario(text="Pub/Sub refuses connections; each event has to arrive in the end", made=pubsub_down),
    "realtime_silent": Scenario(
        text="Realtime delivers nothing; little to do, and no LISTEN beside it", made=realtime(deaf=True, no_broadcasts=True)
    ),
    "realtime_half_deaf": Scenario(
        text="Realtime delivers broadcasts, and no changes; little to do, and no LISTEN", made=realtime(deaf=True)
    ),
}
