"""The mirror against a real Pub/Sub protocol and real HTTP: at least once, in order per task, nothing lost, nobody blocked.

ATLAS_TEST_PUBSUB=host:port runs what injects no errors against Google's emulator there.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import defaultdict
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from google.pubsub_v1 import types
from google.pubsub_v1.services.subscriber import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from atlas.database.outbox import PostgresOutbox
from atlas.database.pool import Pool
from atlas.mirror.pubsub import connect
from tests.doubles.pubsub import PubSubDouble, pubsub
from tests.doubles.webhook import Got, Receiver, receiver
from tests.support.core import ROOT, Database, Json, Workers, ask, claim, clean_environment, command, ended, run_atlas, until
from tests.support.mirror import SECRET, emulator, mirroring, sent
from tests.support.outbox import destination, finish, hook

TOPIC = "projects/p/topics/architect_out"


def in_order(messages: list[types.PubsubMessage]) -> dict[str, list[str]]:
    """Statuses by ordering key, without repetitions of an event."""
    found: dict[str, list[str]] = defaultdict(list)
    seen = set()
    for message in messages:
        if message.attributes["event_id"] not in seen:
            seen.add(message.attributes["event_id"])
            found[message.ordering_key].append(message.attributes["status"])
    return found


# --- Pub/Sub --------------------------------------------------------------------------------------------------------


async def test_replies_are_published_with_their_attributes_and_in_order(database: Database, db: asyncpg.Connection) -> None:
    async with emulator() as host:
        project = f"p-{uuid4().hex[:8]}"
        topic, name = f"projects/{project}/topics/architect_out", f"projects/{project}/subscriptions/s"
        publisher = await connect(host)
        await publisher.create_topic(request=types.Topic(name=topic))
        subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(host)))
        await subscriber.create_subscription(
            request=types.Subscription(name=name, topic=topic, enable_message_ordering=True, ack_deadline_seconds=10)
        )
        async with mirroring(database, PUBSUB_PROJECT_ID=project, PUBSUB_EMULATOR_HOST=host):
            tasks = await finish(db, 3)
            await sent(db, 6)
        got: list[types.PubsubMessage] = []
        while len(got) < 6:
            answer = await subscriber.pull(request=types.PullRequest(subscription=name, max_messages=10), timeout=20)
            got += [item.message for item in answer.received_messages]
            ids = [item.ack_id for item in answer.received_messages]
            if ids:
                await subscriber.acknowledge(request=types.AcknowledgeRequest(subscription=name, ack_ids=ids))
        assert in_order(got) == {str(task): ["in_progress", "completed"] for task in tasks}
        last = next(message for message in got if message.attributes["status"] == "completed")
        assert last.attributes.keys() == {"event_id", "task_id", "msg_type", "status", "schema_ver", "sender_hash"}
        assert last.attributes["task_id"] == last.ordering_key
        stored = await db.fetchrow(
            "select data, event_id from public.architect_out where event_id = $1", UUID(last.attributes["event_id"])
        )
        assert json.loads(last.data) == stored["data"]
        await publisher.transport.close()  # type: ignore[no-untyped-call]
        await subscriber.transport.close()  # type: ignore[no-untyped-call]


async def test_a_topic_that_is_away_costs_no_row_anything_and_loses_none(database: Database, db: asyncpg.Connection) -> None:
    double = PubSubDouble()
    async with (
        pubsub(double) as first,
        mirroring(database, PUBSUB_PROJECT_ID="p", PUBSUB_EMULATOR_HOST=first.host) as (_, metrics),
    ):
        await finish(db, 1)
        await sent(db, 2)
        double.fail = lambda _request: grpc.StatusCode.UNAVAILABLE
        await finish(db, 10)

        async def open_breaker() -> bool:
            return bool(await db.fetchval("select open_until is not null from atlas.destination"))

        await until(open_breaker, 20, "the breaker opens")
        assert await db.fetchval("select max(rejections) from atlas.outbox") == 0
        before = double.publishes
        await asyncio.sleep(1)
        assert double.publishes - before <= 4, "an open breaker lets one row through at a time"
        double.fail = lambda _request: None
        await finish(db, 10)
        await sent(db, 42, 60)
        assert metrics.registry.get_sample_value("atlas_mirrored_total", {"destination": "pubsub", "result": "failed"})
    assert set(map(tuple, in_order(double.published).values())) == {("in_progress", "completed")}
    assert await db.fetchval("select failures from atlas.destination") == 0
    assert await db.fetchval("select count(*) from atlas.outbox where state = 'dead'") == 0


async def test_a_poison_row_blocks_no_other_task_and_waits_for_an_operator(database: Database, db: asyncpg.Connection) -> None:
    await db.execute("select atlas.provide_topic($1)", TOPIC)
    poison, *others = await finish(db, 6)

    def refuse(request: types.PublishRequest) -> grpc.StatusCode | None:
        bad = any(m.attributes["task_id"] == str(poison) and m.attributes["status"] == "in_progress" for m in request.messages)
        return grpc.StatusCode.INVALID_ARGUMENT if bad else None

    async with pubsub() as double:
        double.fail = refuse
        async with mirroring(database, PUBSUB_PROJECT_ID="p", PUBSUB_EMULATOR_HOST=double.host):
            await sent(db, 10)

            async def dead() -> Any:
                await db.execute("update atlas.outbox set run_after = now() where state = 'pending' and run_after > now()")
                return await db.fetchval("select id from atlas.outbox where state = 'dead'")

            row = await until(dead, 20, "three rejections make it dead")
            await sent(db, 11)  # the escalation
            escalations = [m for m in double.published if b'\\"escalate\\"' in m.data]
            assert [m.attributes["task_id"] for m in escalations] == [str(poison)]
            assert in_order(double.published).keys() == {str(one) for one in others} | {str(poison)}
            assert await db.fetchval("select rejections from atlas.outbox where id = $1", row) == 3
            operator = {"DATABASE_URL": database.url()}
            listed = await asyncio.to_thread(run_atlas, "dlq", "list", "--kind", "outbox", env=operator)
            assert "INVALID" in listed.stdout.upper()
            wrong = await asyncio.to_thread(run_atlas, "dlq", "skip", "999999", env=operator)
            assert (wrong.returncode, "is not waiting for that" in wrong.stderr) == (4, True)
            skipped = await asyncio.to_thread(run_atlas, "dlq", "skip", str(row), env=operator)
            assert "1 given up" in skipped.stdout, skipped.stderr
            await sent(db, 12)
    assert in_order(double.published)[str(poison)][-1] == "completed"


async def test_a_topic_that_is_missing_is_the_destinations_trouble(database: Database, db: asyncpg.Connection) -> None:
    async with pubsub() as double:
        to = await destination(db, "architect_out")
        await finish(db)
        async with mirroring(database, PUBSUB_EMULATOR_HOST=double.host):
            await sent(db, 2)
            assert list(double.topics) == [TOPIC], "on an emulator it is made"
            del double.topics[TOPIC]
            await finish(db)

            async def failed() -> bool:
                return "NotFound" in str(await db.fetchval("select last_error from atlas.destination where id = $1", to))

            await until(failed, 20, "the destination says what is wrong")
            assert await db.fetchval("select max(rejections) from atlas.outbox") == 0


# --- webhooks -------------------------------------------------------------------------------------------------------


def standard_webhooks_verify(got: Got) -> Json:
    """The receiver's side by npm's own `standardwebhooks`, not by the code under test."""
    script = (
        "const {Webhook} = require('standardwebhooks');const d=JSON.parse(require('fs').readFileSync(0,'utf8'));"
        "try{process.stdout.write(JSON.stringify(new Webhook(d.secret).verify(d.body,d.headers)))}"
        "catch(e){process.stdout.write(JSON.stringify({refused:String(e.message)}))}"
    )
    given = json.dumps({"secret": SECRET, "body": got.body.decode(), "headers": got.headers})
    done = subprocess.run(["node", "-e", script], input=given, capture_output=True, text=True, check=True, cwd=ROOT / "tests")
    found: Json = json.loads(done.stdout)
    return found


async def test_webhooks_are_signed_by_the_standard_scheme(database: Database, db: asyncpg.Connection) -> None:
    async with receiver() as there:
        await hook(db, there.url, filter={"status": "completed"})
        async with mirroring(database):
            (task,) = await finish(db)
            await sent(db, 1)
    (got,) = there.got
    body = await asyncio.to_thread(standard_webhooks_verify, got)
    assert (body["type"], body["data"]["task_id"]) == ("spec.completed", str(task))
    assert got.headers["webhook-id"] == str(await db.fetchval("select event_id from atlas.outbox"))
    forged = Got(headers=got.headers, body=got.body.replace(b"completed", b"cancelled"))
    assert "refused" in await asyncio.to_thread(standard_webhooks_verify, forged)


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404, 302])
async def test_what_is_not_a_rows_fault_is_tried_again_until_it_is_well(
    database: Database, db: asyncpg.Connection, status: int
) -> None:
    async with receiver() as there, receiver() as elsewhere:
        there.answer = lambda _got: (status, {"location": elsewhere.url})
        await hook(db, there.url)
        async with mirroring(database):
            await finish(db)

            async def tried() -> bool:
                return bool(await db.fetchval("select failures from atlas.destination"))

            await until(tried, 20, "a failure of the destination")
            there.answer = lambda _got: (204, {})
            await db.execute("update atlas.destination set open_until = null")
            await sent(db, 2)
        assert await db.fetchval("select max(rejections) from atlas.outbox") == 0
        assert elsewhere.got == [], "redirects are not followed"
    statuses = [body["data"]["metadata"]["status"] for body in there.accepted]
    assert list(dict.fromkeys(statuses)) == ["in_progress", "completed"]


async def test_an_event_that_comes_too_early_waits_alone(database: Database, db: asyncpg.Connection) -> None:
    async with receiver() as there:
        await hook(db, there.url)
        early, *others = await finish(db, 4)
        there.answer = lambda got: (409 if got.json["data"]["task_id"] == str(early) else 200, {})
        async with mirroring(database):
            await sent(db, 6)
            assert await db.fetchval("select failures from atlas.destination") == 0
            there.answer = lambda _got: (200, {})
            await sent(db, 8)
    assert await db.fetchval("select max(rejections) from atlas.outbox") == 0
    assert len(others) == 3


async def test_a_slow_receiver_is_a_failure_and_a_refusal_is_the_rows(database: Database, db: asyncpg.Connection) -> None:
    async with receiver() as there:
        there.delay = 5
        await hook(db, there.url)
        async with mirroring(database, ATLAS_LEASE_SECONDS="2"):
            await finish(db)

            async def late() -> bool:
                return "no answer within" in str(await db.fetchval("select last_error from atlas.destination"))

            await until(late, 20, "a time-out")
            there.delay, there.answer = 0, lambda _got: (422, {})
            await db.execute("update atlas.destination set open_until = null")

            async def dead() -> bool:
                await db.execute("update atlas.outbox set run_after = now() where state = 'pending' and lease_owner is null")
                return bool(await db.fetchval("select count(*) from atlas.outbox where state = 'dead'"))

            await until(dead, 20, "three refusals")
    assert "HTTP 422" in await db.fetchval("select last_error from atlas.outbox where state = 'dead' limit 1")


@pytest.mark.parametrize(
    "target",
    [
        "https://[::1/x",
        "https://[x]/",
        "https://ex\u2100mple.com/",
        "https://h:99999/",
        "https://h:abc/",
        "https://" + "a" * 70 + ".com/",
    ],
)
async def test_a_target_that_is_no_url_ends_nobody_elses_mirror(
    database: Database, db: asyncpg.Connection, target: str
) -> None:
    async with receiver() as there:
        bad = await hook(db, target, name="bad")
        await hook(db, there.url, name="good")
        await finish(db)
        async with mirroring(database) as (mirror, _):
            await sent(db, 2)

            async def said() -> bool:
                return bool(await db.fetchval("select last_error from atlas.destination where id = $1", bad))

            await until(said, 20, "what is wrong with it")
            assert list(mirror._relays) != []
    assert len(there.accepted) == 2


@pytest.mark.parametrize("status", [422, 500])
async def test_whatever_a_receiver_says_its_rows_are_settled(database: Database, db: asyncpg.Connection, status: int) -> None:
    async with receiver() as there:
        there.text = "bad \0 text \ud800 <b>"
        late = "Tue, 01 Jan 99999999999999999999 00:00:00 GMT"
        there.answer = lambda _got: (status, {"retry-after": late})
        await hook(db, there.url)
        async with mirroring(database):
            await finish(db)

            async def counted() -> bool:
                column = "rejections" if status == 422 else "failures"
                table = "outbox" if status == 422 else "destination"
                return bool(await db.fetchval(f"select max({column}) from atlas.{table}"))

            await until(counted, 10, "it is counted")
            there.answer = lambda _got: (200, {})
            await db.execute("update atlas.destination set open_until = null")
            await sent(db, 2)


async def test_one_row_that_always_fails_keeps_no_other_back(database: Database, db: asyncpg.Connection) -> None:
    (poison,) = await finish(db)
    async with receiver() as there:
        there.answer = lambda got: (500 if got.json["data"]["task_id"] == str(poison) else 200, {})
        await hook(db, there.url)
        async with mirroring(database):

            async def open_breaker() -> bool:
                return bool(await db.fetchval("select open_until > now() from atlas.destination"))

            await until(open_breaker, 30, "the breaker opens")
            await finish(db, 10)
            await sent(db, 20, 60)
    assert {got.json["data"]["task_id"] for got in there.got if there.answer(got)[0] == 200}.isdisjoint({str(poison)})


async def test_a_slow_receiver_gets_a_tasks_events_in_order_and_each_once(database: Database, db: asyncpg.Connection) -> None:
    async with receiver(Receiver(delay=1.2)) as there:
        await hook(db, there.url)
        task = await ask(db)
        (row,) = await claim(db)
        for n in range(5):
            await db.execute(
                "insert into public.architect_out (data, task_id) values (jsonb_build_object('task_id', $1::text, 'msg_type', 'spec', "
                "'content', $2::text, 'metadata', '{}'::jsonb), $3)", str(task), str(n), task,
            )  # fmt: skip
        # two relays, and leases shorter than all of it together
        async with mirroring(database, ATLAS_LEASE_SECONDS="4"), mirroring(database, ATLAS_LEASE_SECONDS="4"):
            await asyncio.sleep(2)
            await db.execute("select testing.complete_task($1, 'last')", row["attempt_id"])
            await sent(db, 7, 40)
    assert [got.json["data"]["content"] for got in there.got] == ["", "0", "1", "2", "3", "4", "last"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://127.0.0.1:9/x", "private address"), ("https://localhost/x", "private address"), ("https://[::1]/x", "private address"),
        ("https://169.254.169.254/latest", "private address"), ("https://[::ffff:10.0.0.1]/x", "private address"),
        ("https://2130706433/x", "private address"), ("https://0x7f.1/x", "private address"), ("http://example.com/x", "without TLS"),
        ("https://[64:ff9b::a00:1]/x", "private address"), ("https://[fec0::1]/x", "private address"), ("https://192.88.99.1/x", "private address"),
    ],
)  # fmt: skip
async def test_private_addresses_are_not_called(database: Database, db: asyncpg.Connection, url: str, why: str) -> None:
    await hook(db, url)
    async with mirroring(database, ATLAS_WEBHOOK_ALLOW="10.9.9.0/24"):
        await finish(db)

        async def said() -> str:
            return str(await db.fetchval("select last_error from atlas.destination") or "")

        found = await until(said, 20, "the destination says why")
    assert why in found
    assert await db.fetchval("select count(*) from atlas.outbox where state = 'sent'") == 0


async def test_a_secret_that_is_not_set_is_said_and_the_rows_wait(database: Database, db: asyncpg.Connection) -> None:
    async with receiver() as there:
        await hook(db, there.url, secret_name="ATLAS_WEBHOOK_SECRET_CHAT")
        await finish(db)
        async with mirroring(database):

            async def said() -> bool:
                return "ATLAS_WEBHOOK_SECRET_CHAT is not set" in str(
                    await db.fetchval("select last_error from atlas.destination")
                )

            await until(said, 20, "what is missing")
        doctor = await asyncio.to_thread(run_atlas, "doctor", env={"DATABASE_URL": database.url()})
        assert "ATLAS_WEBHOOK_SECRET_CHAT is not set here" in doctor.stdout
        async with mirroring(database, ATLAS_WEBHOOK_SECRET_CHAT=f"{SECRET} whsec_{'A' * 32}"):
            await sent(db, 2)
    assert len(there.got[0].headers["webhook-signature"].split()) == 2, "one signature a key, while keys are rotated"


async def test_one_destinations_trouble_is_not_anothers(database: Database, db: asyncpg.Connection) -> None:
    async with receiver() as well, receiver(Receiver(answer=lambda _got: (500, {}))) as ill:
        await hook(db, well.url, name="well")
        await hook(db, ill.url, name="ill")
        async with mirroring(database):
            await finish(db, 5)
            await sent(db, 10)
    assert len(well.accepted) == 10
    rows = await db.fetch("select destination, pending, dead, failures from atlas.outbox_status order by destination")
    assert [tuple(row)[:3] for row in rows] == [("ill", 10, 0), ("well", 0, 0)]
    assert rows[0]["failures"] > 0


async def test_destinations_come_and_go_while_it_runs(database: Database, db: asyncpg.Connection) -> None:
    async with receiver() as there, mirroring(database):
        await finish(db)  # kept
        await asyncio.sleep(0.5)
        to = await hook(db, there.url)
        await sent(db, 1)
        await db.execute("update atlas.destination set enabled = false")
        await asyncio.sleep(0.5)
        await finish(db)
        await asyncio.sleep(0.5)
        assert len(there.got) == 1
        await db.execute("update atlas.destination set enabled = true where id = $1", to)
        await sent(db, 2)
        await finish(db)
        await sent(db, 4)
    found = [body["data"]["metadata"]["status"] for body in there.accepted]
    assert found == ["completed", "completed", "in_progress", "completed"], "that a task began is not kept for later"


# --- as processes ---------------------------------------------------------------------------------------------------


async def test_a_relay_that_is_killed_loses_nothing_and_repeats_with_the_same_ids(
    database: Database, db: asyncpg.Connection
) -> None:
    async with receiver(Receiver(delay=0.3)) as there:
        await hook(db, there.url)
        await finish(db, 20)
        env = clean_environment() | {"DATABASE_URL": database.url("atlas_worker"), "ATLAS_WEBHOOK_SECRET": SECRET,
                                     "ATLAS_WEBHOOK_ALLOW": "127.0.0.1/32", "ATLAS_LEASE_SECONDS": "2"}  # fmt: skip
        command = [sys.executable, "-m", "atlas.cli", "mirror"]
        for _ in range(2):
            seen = len(there.got)
            process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
            await until(lambda seen=seen: _true(len(there.got) > seen + 3), 30, "it sends")  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        last = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
        await sent(db, 40)
        last.send_signal(signal.SIGTERM)
        assert last.wait(15) == 0, last.stderr.read() if last.stderr else ""
    first_seen: dict[str, list[str]] = defaultdict(list)
    events = set()
    for got in there.got:
        if got.headers["webhook-id"] not in events:
            events.add(got.headers["webhook-id"])
            first_seen[got.json["data"]["task_id"]].append(got.json["data"]["metadata"]["status"])
    assert len(events) == 40
    assert set(map(tuple, first_seen.values())) == {("in_progress", "completed")}


async def _true(value: bool) -> bool:
    return value


async def test_a_worker_mirrors_by_itself_and_replays_on_request(
    database: Database, db: asyncpg.Connection, workers: Workers
) -> None:
    async with receiver() as there:
        await hook(db, there.url)
        worker = await workers.start(atlas_webhook_secret=SECRET, atlas_webhook_allow="127.0.0.1/32")
        task = await ask(db)
        await ended(db, task)
        await sent(db, 2)
        assert await asyncio.to_thread(worker.metric, 'atlas_mirrored_total{destination="hook",result="sent"}') == 2
        operator = {"DATABASE_URL": database.url()}
        assert (
            "2 will be sent again"
            in (await asyncio.to_thread(run_atlas, "mirror", "replay", "--task", "last", env=operator)).stdout
        )
        await until(lambda: _true(len(there.got) == 4), 20, "both again")
        ids = [got.headers["webhook-id"] for got in there.got]
        assert ids[:2] == ids[2:]
        for words in (
            ("mirror", "replay"),
            ("mirror", "replay", "--since", "yesterday"),
            ("mirror", "replay", "--since", "1h", "--destination", "x"),
        ):
            done = await asyncio.to_thread(run_atlas, *words, env=operator)
            assert done.returncode in (2, 4), done.stdout
        doctor = await asyncio.to_thread(run_atlas, "doctor", env=operator | {"ATLAS_WEBHOOK_SECRET": SECRET})
        assert "hook: 0 to send" in doctor.stdout


async def test_a_worker_without_a_mirror_keeps_what_it_wrote(
    database: Database, db: asyncpg.Connection, workers: Workers
) -> None:
    async with receiver() as there:
        await hook(db, there.url)
        await workers.start(atlas_webhook_secret=SECRET, atlas_webhook_allow="127.0.0.1/32", atlas_mirror="false")
        await ended(db, await ask(db))
        await asyncio.sleep(1.5)
        assert there.got == []
    assert await db.fetchval("select count(*) from atlas.outbox where state = 'pending'") == 2


async def test_kept_events_are_trimmed_and_the_doctor_says_so(database: Database, db: asyncpg.Connection) -> None:
    await finish(db)
    doctor = await asyncio.to_thread(run_atlas, "doctor", env={"DATABASE_URL": database.url()})
    assert "1 event is kept for one, for 7 days" in doctor.stdout
    async with Pool.connect(database.url("atlas_worker")) as bus:
        assert await PostgresOutbox(bus).trim_outbox(7) == 0
        await db.execute("update atlas.outbox set created_at = now() - interval '8 days'")
        assert await PostgresOutbox(bus).trim_outbox(7) == 1


async def test_an_escalation_of_a_router_is_audited_and_counted(db: asyncpg.Connection, workers: Workers) -> None:
    worker = await workers.start()
    message = await command(db, {"command": "escalate", "task_id": str(uuid4()), "code": "delivery_failed", "message": "x"})

    async def done() -> Any:
        return await db.fetchval("select id from atlas.task where message_task_id = $1 and state = 'completed'", message)

    task = await until(done, 20, "it is carried out")
    events = await db.fetch("select event from atlas.audit where task_id = $1 order by seq", task)
    assert [row["event"] for row in events] == ["submit_task", "complete_task"]
    assert await asyncio.to_thread(worker.metric, "atlas_escalations_total") == 1
