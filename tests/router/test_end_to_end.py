"""From a comment on GitHub to the answer below it, with everything on the way killed once: one task, one comment, one event id."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from uuid import UUID

import httpx

from atlas.local.postgres import EmbeddedPostgres
from atlas.local.stack import Stack
from tests.doubles.github import github
from tests.doubles.openai import OpenAIDouble
from tests.doubles.pubsub import PubSubDouble, pubsub
from tests.doubles.slack import slack
from tests.support.core import ADR, Database, Json, clean_environment, ended, until, workers_of
from tests.support.router import HOOK_SECRET, app_key, comment, function, github_delivery, router_env


async def test_everything_is_killed_once_and_there_is_one_comment(tmp_path: Path, openai: OpenAIDouble) -> None:
    stack = Stack(tmp_path / "home")
    cluster = stack.start_postgres()
    try:
        await stack.prepare(cluster)
        database = Database(cluster=cluster, name="postgres")
        openai.plan(text=ADR, delay=0.2, chunk=40)
        double = PubSubDouble()
        async with github(app_key()[1]) as hub, slack() as chat, pubsub(double) as topic:
            env = router_env(database.url(), hub.url, chat.url)
            async with function("github-webhook", tmp_path, **env) as stand_in, function("deliver", tmp_path, **env) as deliver:
                async with database.connect() as db:
                    await db.execute(
                        "insert into atlas.destination (name, kind, target, secret_name, filter) values "
                        "('deliver', 'webhook', $1, 'ATLAS_WEBHOOK_SECRET', '{\"kind\": [\"message\", \"progress\", \"export\"]}')",
                        deliver.url,
                    )

                # 1. the function that takes questions is killed while it asks for the writer's permission
                def kill_door(_method: str, path: str) -> None:
                    if path.endswith("/permission") and stand_in.process is not None and stand_in.process.poll() is None:
                        stand_in.kill()

                hub.fail = kill_door
                payload = comment("/atlas How do we release faster?")
                answers = await asyncio.gather(
                    github_delivery(stand_in, "issue_comment", payload, "d1"), return_exceptions=True
                )
                assert isinstance(answers[0], httpx.TransportError)
                hub.fail = lambda _method, _path: None
                await stand_in.start()
                # redelivered, twice at once, and once more by another hook
                again = await asyncio.gather(
                    *(github_delivery(stand_in, "issue_comment", payload, delivery) for delivery in ("d1", "d1", "d2"))
                )
                assert Counter(answer.status_code for answer in again) == {202: 1, 200: 2}, [answer.text for answer in again]
                (task,) = {UUID(answer.json()["task_id"]) for answer in again}

                with workers_of(database, tmp_path) as workers:
                    settings: Json = {
                        "openai_api_key": "k", "openai_base_url": openai.url, "openai_fallback_models": "none",
                        "atlas_lease_seconds": 4, "atlas_mirror": "false",
                    }  # fmt: skip
                    mirror_env = clean_environment() | {
                        "DATABASE_URL": database.url("atlas_worker"), "ATLAS_WEBHOOK_SECRET": HOOK_SECRET,
                        "ATLAS_WEBHOOK_ALLOW": "127.0.0.1/32", "PUBSUB_PROJECT_ID": "p", "PUBSUB_EMULATOR_HOST": topic.host,
                        "ATLAS_LEASE_SECONDS": "4",
                    }  # fmt: skip

                    def start_mirror() -> subprocess.Popen[bytes]:
                        log = (tmp_path / "mirror.log").open("ab")
                        return subprocess.Popen([sys.executable, "-m", "atlas.cli", "mirror"], env=mirror_env, stderr=log)

                    mirror = start_mirror()
                    try:
                        # 2. the worker is killed in the middle of its reply
                        first = await workers.start(**settings)
                        async with database.connect() as db:
                            await until(
                                lambda: db.fetchval("select 1 from atlas.reply_part where task_id = $1", task), 30, "it streams"
                            )
                        first.process.send_signal(signal.SIGKILL)

                        # 3. Postgres is killed
                        EmbeddedPostgres(stack.home).stop("immediate")
                        await asyncio.sleep(0.5)
                        stack.start_postgres()
                        await workers.start(**settings)
                        async with database.connect() as db:
                            assert (await ended(db, task, 60))["state"] == "completed"

                            # 4. and 5. the mirror is killed while deliver writes, and deliver right after it wrote
                            killed: list[str] = []

                            def kill_both(method: str, path: str) -> bool:
                                if not killed and "/comments" in path and method in ("POST", "PATCH"):
                                    killed.append(path)
                                    mirror.kill()
                                    deliver.kill()
                                return False

                            hub.lose = kill_both
                            # at least one event is still to come, or is sent again
                            await db.execute("select atlas.replay_outbox(p_task_id => $1, p_destination => 'deliver')", task)

                            async def time_passes() -> None:
                                """Leases of posts run out, breakers close."""
                                await db.execute("update atlas.post set lease_expires_at = now() where state = 'posting'")
                                await db.execute("update atlas.destination set open_until = null")

                            async def is_killed() -> bool:
                                await time_passes()
                                return bool(killed)

                            await until(is_killed, 60, "deliver writes")
                            mirror.wait(10)
                            await deliver.start()
                            mirror = start_mirror()

                            async def all_sent() -> bool:
                                await time_passes()
                                return not await db.fetchval("select count(*) from atlas.outbox where state <> 'sent'")

                            await until(all_sent, 60, "everything left")
                            assert await db.fetchval("select count(*) from atlas.task where kind = 'chat'") == 1
                            assert await db.fetchval("select count(*) from atlas.spend") == 1, "paid for once"
                            assert await db.fetch("select * from atlas.verify_audit()") == []
                            stored = {
                                str(row["event_id"]) for row in await db.fetch("select event_id from public.architect_out")
                            }
                    finally:
                        mirror.kill()
                        mirror.wait(10)
            (body,) = hub.bodies()
            assert body.startswith(ADR.rstrip())
            assert str(task) in body
            events = {message.attributes["event_id"]: message.attributes["status"] for message in double.published}
            assert sorted(events.values()) == ["completed", "in_progress"], "one event id for each"
            assert events.keys() == stored
    finally:
        stack.postgres.stop("immediate")
