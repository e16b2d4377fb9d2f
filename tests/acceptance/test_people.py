"""The other face of the command: people with a login, over Realtime and REST, row level security in force."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import jwt
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from atlas.ids import short_id
from atlas.messages import chat
from atlas.supabase.channel import Patience
from atlas.supabase.deltas import Deltas
from atlas.supabase.keys import mint
from atlas.supabase.tasks import SessionTokens, connect, open_client
from atlas.supabase.tokens import KeyTokens
from atlas.tasks.follow import Ended, MoreText, Restart, follow
from atlas.variables import load
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, Database, Workers, ask, claim, person, reply, run_atlas, stand_in_of, until
from tests.support.faults import Faults

ANN_ID = "00000000-0000-4000-8000-000000000001"


async def test_people_and_operators_see_the_same_task(
    database: Database, db: asyncpg.Connection, workers: Workers, tmp_path: Path
) -> None:
    await workers.start()
    operator = {"DATABASE_URL": database.url()}

    async def as_operator(*arguments: str) -> Any:
        return json.loads((await asyncio.to_thread(run_atlas, *arguments, "--json", env=operator)).stdout)

    async with stand_in_of(database) as stand_in:
        ann = await person(stand_in, tmp_path, "ann")
        done = await ann.atlas("ask", "How do we deploy?")
        assert "How do we deploy?" in done.stdout
        mine, theirs = await ann.json("show", "last"), await as_operator("show", "last")
        assert len(theirs["audit"]) >= 3
        assert mine == theirs
        assert await ann.json("tasks") == await as_operator("tasks")
        assert await ann.json("show", short_id(mine["id"])) == mine
        for by in ("day", "model", "sender", "project"):
            assert await ann.json("spend", "--by", by) == await as_operator("spend", "--by", by), by
        assert (await ann.atlas("tail", "last")).stdout == done.stdout
        # the same id again asks once, also over REST
        again = await ann.json("ask", "How do we deploy?", "--task-id", mine["id"], "--detach")
        assert again == {"task_id": mine["id"], "state": "completed", "created": False}


async def test_others_see_nothing_until_they_are_members(
    database: Database, db: asyncpg.Connection, workers: Workers, tmp_path: Path
) -> None:
    await workers.start()
    env = {"DATABASE_URL": database.url()}

    async def project(*arguments: str, code: int = 0) -> str:
        done = await asyncio.to_thread(run_atlas, "project", *arguments, env=env)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    async with stand_in_of(database) as stand_in:
        ann, bob = await person(stand_in, tmp_path, "ann"), await person(stand_in, tmp_path, "bob")
        await project("create", "payments")
        assert "already" in await project("create", "payments", code=2)
        await project("members", "payments", "--add", ann.email)
        assert "no user" in await project("members", "payments", "--add", "nobody@example.com", code=4)
        assert "no user has the id" in await project("members", "payments", "--add", str(uuid4()), code=4)
        said = await project("create", "Bad Name", code=4)
        assert "'Bad Name' is too long, or has other characters" in said
        assert "use such as bad-name" in said
        await ann.atlas("ask", "Which queue?", "--project", "payments")
        task = (await ann.json("tasks"))[0]["id"]
        for word in ("tasks", "spend"):
            assert await bob.json(word) == []
        for words in (("show", "last"), ("show", task), ("tail", task)):
            assert "of yours" in (await bob.atlas(*words, ok=4)).stderr
        assert "none of yours" in (await bob.atlas("ask", "Which queue?", "--project", "payments", ok=4)).stderr
        assert "no task" in (await bob.atlas("cancel", task, ok=4)).stderr
        await db.execute("select atlas.pause('so that the next question stays in the queue')")
        second = (await ann.json("ask", "And which broker?", "--detach"))["task_id"]
        assert "is cancelled" in (await ann.atlas("cancel", second)).stdout, "a question of one's own"
        await db.execute("select atlas.resume()")
        listed = await project("members", "payments", "--add", bob.email, "--role", "admin")
        assert "bob@example.com\tadmin" in listed
        assert (await bob.json("show", task))["reply"] == (await ann.json("show", task))["reply"]
        assert task in [row["id"] for row in await bob.json("tasks")]
        await project("members", "payments", "--remove", bob.email)
        assert await bob.json("tasks") == []
        assert "payments" in await project("list")


async def test_members_index_search_and_retry_under_their_login(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "refunds.md").write_text("# Refunds\n\nA refund waits for two approvals.\n")
    (docs / "old.md").write_text("# Old\n\nApprovals were on paper.\n")
    env = {"DATABASE_URL": database.url()}
    async with stand_in_of(database) as stand_in:
        ann, bob = await person(stand_in, tmp_path, "ann"), await person(stand_in, tmp_path, "bob")
        for name, who in (("payments", ann), ("others", bob)):
            await asyncio.to_thread(run_atlas, "project", "create", name, env=env)
            await asyncio.to_thread(run_atlas, "project", "members", name, "--add", who.email, env=env)

        assert "project is missing: name one of yours" in (await ann.atlas("index", str(docs), ok=4)).stderr
        assert "no project 'others' of yours" in (await ann.atlas("index", str(docs), "--project", "others", ok=4)).stderr
        assert "2 files: 2 indexed" in (await ann.atlas("index", str(docs), "--project", "payments")).stdout
        assert "2 unchanged" in (await ann.atlas("index", str(docs), "--project", "payments")).stdout
        (found,) = await ann.json("search", "who approves a refund?", "-k", "1")
        assert (found["source"], found["heading"]) == (f"{docs}/refunds.md", "Refunds")
        assert await bob.json("search", "who approves a refund?") == []
        (row,) = await ann.json("index", "list")
        assert (row["project"], row["repository"], row["documents"]) == ("payments", str(docs), 2)
        assert await bob.json("index", "list") == []
        (docs / "old.md").unlink()
        assert "1 dropped" in (await ann.atlas("index", str(docs), "--project", "payments", "--prune")).stdout
        assert "removed 1 document of" in (await ann.atlas("index", "remove", str(docs), "-y", "--project", "payments")).stdout
        # REST answers with a thousand rows at most
        await db.execute(
            "select rag.put_document(p.id, $1 || '/old/' || n || '.md', 'Old', 'text', sha256(n::text::bytea), '[]', null, $1) "
            "from generate_series(1, 1100) n, atlas.project p where p.name = 'payments'", str(docs),
        )  # fmt: skip
        assert len((await ann.json("index", str(docs), "--project", "payments"))["stale"]) == 1100
        assert "removed 1101 documents" in (await ann.atlas("index", "remove", str(docs), "-y", "--project", "payments")).stdout
        assert await db.fetchval("select count(*) from rag.document") == 0

        sent = UUID((await ann.json("ask", "Which queue?", "--project", "payments", "--detach"))["task_id"])
        assert "goes on by itself" in (await ann.atlas("retry", str(sent), ok=4)).stderr
        (task,) = await claim(db)
        await db.execute("select atlas.fail_task($1, 'invalid_prompt', 'not this', 'final')", task["attempt_id"])
        await asyncio.to_thread(run_atlas, "project", "members", "payments", "--add", bob.email, env=env)
        (seen,) = await bob.json("tasks")
        assert (seen["asker"], seen["state"]) == (ann.email, "failed")
        assert "no task" in (await bob.atlas("retry", str(sent), ok=4)).stderr, "a member reads it, and its asker retries it"
        await asyncio.to_thread(run_atlas, "project", "members", "payments", "--remove", ann.email, env=env)
        assert "project is not one of yours any more" in (await ann.atlas("retry", str(sent), ok=4)).stderr
        await asyncio.to_thread(run_atlas, "project", "members", "payments", "--add", ann.email, env=env)
        assert "is queued again" in (await ann.atlas("retry", str(sent))).stdout
        for words in (
            ("dlq", "list"),
            ("status",),
            ("pause",),
            ("audit", "verify"),
            ("control", "status"),
            ("project", "list"),
        ):
            assert "this is for operators, and a login does not open it" in (await ann.atlas(*words, ok=2)).stderr, words


async def test_a_session_is_kept_for_its_owner_alone_and_refreshed(database: Database, tmp_path: Path) -> None:
    async with stand_in_of(database) as stand_in:
        stand_in.auth.lasts = 1.0
        ann = await person(stand_in, tmp_path, "ann")
        (file,) = Path(ann.env["ATLAS_CONFIG_DIR"]).glob("session-*.json")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        before = file.read_text()
        await asyncio.sleep(1.2)
        stand_in.auth.lasts = 3600.0
        assert (await ann.json("whoami"))["email"] == ann.email
        assert file.read_text() != before, "the expired token was refreshed, and the new one kept"
        await ann.atlas("logout")
        assert not file.exists()
        assert "log in with `atlas login`" in (await ann.atlas("tasks", ok=2)).stderr
        wrong = await ann.atlas("login", ann.email, "--password-file", "-", stdin="another password", ok=4)
        assert "Invalid login credentials" in wrong.stderr
        await ann.atlas("login", ann.email, "--password-file", "-", stdin="a password")
        assert (await ann.atlas("tasks")).returncode == 0
        ann.env["SUPABASE_URL"] = "http://127.0.0.1:9"
        ann.env["SUPABASE_PUBLISHABLE_KEY"] = ""
        assert "SUPABASE_PUBLISHABLE_KEY" in (await ann.atlas("tasks", ok=2)).stderr


async def test_keys_of_both_generations_open_the_door(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    await ask(db, "Which key?")
    async with stand_in_of(database) as stand_in:
        keys = stand_in.keys
        for name, key in (("SUPABASE_SECRET_KEY", keys.secret), ("SUPABASE_SERVICE_ROLE_KEY", keys.service_role)):
            env = {"SUPABASE_URL": stand_in.url, name: key, "ATLAS_CONFIG_DIR": str(tmp_path)}
            done = await asyncio.to_thread(run_atlas, "tasks", "--json", env=env)
            assert [row["title"] for row in json.loads(done.stdout)] == ["Which key?"], done.stderr
        for name, key in (("SUPABASE_PUBLISHABLE_KEY", keys.publishable), ("SUPABASE_ANON_KEY", keys.anon)):
            env = {"SUPABASE_URL": stand_in.url, name: key, "ATLAS_CONFIG_DIR": str(tmp_path)}
            done = await asyncio.to_thread(run_atlas, "tasks", env=env)
            assert (done.returncode, "nobody is logged in" in done.stderr) == (2, True)
        forged = {"SUPABASE_URL": stand_in.url, "SUPABASE_SERVICE_ROLE_KEY": mint("x" * 32, {"role": "service_role"}, lasts=60)}
        done = await asyncio.to_thread(run_atlas, "tasks", env=forged | {"ATLAS_CONFIG_DIR": str(tmp_path)})
        assert (done.returncode, "signature" in done.stderr or "session is over" in done.stderr) == (4, True), done.stderr


async def test_the_doctor_and_the_worker_know_a_wrong_key(database: Database, tmp_path: Path) -> None:
    async with stand_in_of(database) as stand_in:

        async def doctor(**env: str) -> str:
            done = await asyncio.to_thread(
                run_atlas, "doctor", env={"DATABASE_URL": database.url(), "SUPABASE_URL": stand_in.url} | env
            )
            return done.stdout

        right = {"SUPABASE_PUBLISHABLE_KEY": stand_in.keys.publishable, "SUPABASE_SECRET_KEY": stand_in.keys.secret}
        assert f"ok\tsupabase\t{stand_in.url} takes workers' key" in await doctor(**right)
        swapped = await doctor(SUPABASE_PUBLISHABLE_KEY=stand_in.keys.secret, SUPABASE_SECRET_KEY=stand_in.keys.publishable)
        assert "people's key is one of service_role" in swapped
        assert "workers' key is one of anon" in swapped
        assert "SUPABASE_URL is set without a key" in await doctor()
        assert "cannot be reached" in await doctor(**right | {"SUPABASE_URL": "http://127.0.0.1:9"})
        env = {
            "DATABASE_URL": database.url("atlas_worker"),
            "SUPABASE_URL": stand_in.url,
            "SUPABASE_SECRET_KEY": stand_in.keys.anon,
        }
        done = await asyncio.to_thread(run_atlas, "worker", env=env)
        assert (done.returncode, "the worker's Supabase key is one of anon" in done.stderr) == (2, True)


async def test_user_tokens_are_asymmetric_and_checked_by_the_jwks(database: Database, tmp_path: Path) -> None:
    async with stand_in_of(database) as stand_in:
        ann = await person(stand_in, tmp_path, "ann")
        (file,) = Path(ann.env["ATLAS_CONFIG_DIR"]).glob("session-*.json")
        (session,) = json.loads(file.read_text()).values()
        header = jwt.get_unverified_header(json.loads(session)["access_token"])
        assert header["alg"] == "ES256"
        assert header["kid"] in json.dumps(await stand_in.auth.jwks())
        forged = jwt.encode(
            {"role": "authenticated", "sub": ANN_ID, "exp": time.time() + 60}, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256",
            headers={"kid": header["kid"]},
        )  # fmt: skip
        async with httpx.AsyncClient(base_url=stand_in.url, headers={"apikey": stand_in.keys.publishable}) as web:
            for token, status in ((json.loads(session)["access_token"], 200), (forged, 401)):
                answer = await web.get("/rest/v1/architect_in", headers={"authorization": f"Bearer {token}"})
                assert answer.status_code == status


async def test_a_web_page_that_knows_no_key_gets_nothing(database: Database, tmp_path: Path) -> None:
    """The stand-in listens on this machine, where any page in a browser can reach it."""
    async with stand_in_of(database) as stand_in:
        ann = await person(stand_in, tmp_path, "ann")
        (file,) = Path(ann.env["ATLAS_CONFIG_DIR"]).glob("session-*.json")
        (session,) = json.loads(file.read_text()).values()
        token = json.loads(session)["access_token"]
        credentials = {"email": "evil@example.com", "password": "a password"}
        tries: list[dict[str, str]] = [
            {},
            {"apikey": "guess"},
            {"apikey": token},
            {"apikey": token, "authorization": f"Bearer {token}"},
        ]
        async with httpx.AsyncClient(base_url=stand_in.url, headers={"origin": "https://evil.example"}) as web:
            for headers in tries:
                for path in ("/auth/v1/signup", "/auth/v1/token?grant_type=password"):
                    assert (await web.post(path, json=credentials, headers=headers)).status_code == 401
                call = await web.post(
                    "/rest/v1/rpc/submit_task", json={"data": {}}, headers=headers | {"content-profile": "atlas"}
                )
                assert call.status_code == 401


async def test_a_session_token_is_refreshed_before_it_runs_out(database: Database, tmp_path: Path) -> None:
    async with stand_in_of(database) as stand_in:
        ann = await person(stand_in, tmp_path, "ann")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ATLAS_CONFIG_DIR", ann.env["ATLAS_CONFIG_DIR"])
            client = await open_client(load(ann.env), stand_in.keys.publishable)
            first, _ = await SessionTokens(client).token()
            assert (await SessionTokens(client).token())[0] == first, "a fresh one is kept"
            # 90 seconds are left of it: longer than the client's own margin, shorter than ours
            stand_in.auth.lasts = 90
            await client.auth.refresh_session()
            stand_in.auth.lasts = 3600
            second, good_until = await SessionTokens(client).token()
            assert second != first
            assert good_until is not None
            assert good_until > time.time() + 3000


@pytest.mark.cooks_the_books
async def test_long_lists_come_whole(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    """The server answers with 1,000 rows at most, and does not say that there are more."""
    await db.execute(
        "insert into public.architect_in (data) select jsonb_set(jsonb_set($1, '{task_id}', to_jsonb(gen_random_uuid()::text)), '{metadata}', "
        "jsonb_build_object('sender_key', 'sender-' || n)) from generate_series(1, 1100) n", chat("many"),
    )  # fmt: skip
    await db.fetch("select * from atlas.claim_tasks(gen_random_uuid(), 1100, 0, interval '1 hour')")
    await db.execute(
        "insert into atlas.spend (task_id, attempt_id, call, state, model, day, scopes, reserved_tokens, tokens, known, settled_at) "
        "select t.id, t.attempt_id, 0, 'settled', 'gpt-4.1', current_date, '{}', 1, 1, 'reported', now() from atlas.task t"
    )
    async with stand_in_of(database) as stand_in:
        env = {"SUPABASE_URL": stand_in.url, "SUPABASE_SECRET_KEY": stand_in.keys.secret, "ATLAS_CONFIG_DIR": str(tmp_path)}
        async with connect(load(env)) as reads:
            assert sum(row["tokens"] for row in await reads.spend("sender", since=None, until=None)) == 1100
            rows = await reads.tasks(limit=5000, state=None, sender=None, project=None)
            assert len({row["id"] for row in rows}) == 1100
            assert len(await reads.tasks(limit=7, state=None, sender=None, project=None)) == 7


async def test_atlas_up_opens_the_door(tmp_path: Path) -> None:
    """UI clients work without Docker: what `atlas up` prints is all that they need."""
    home = {"ATLAS_HOME": str(tmp_path / "home"), "ATLAS_HTTP_PORT": "0"}

    async def atlas(*arguments: str, **env: str) -> str:
        done = await asyncio.to_thread(run_atlas, *arguments, env=home | env, stdin=b"a password")
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        up = json.loads(await atlas("up", "--json"))
        again = json.loads(await atlas("up", "--json"))
        assert again == up, "up again is the same stack"
        env = {
            "SUPABASE_URL": up["supabase_url"],
            "SUPABASE_PUBLISHABLE_KEY": up["publishable_key"],
            "ATLAS_CONFIG_DIR": str(tmp_path),
        }
        await atlas("login", "ann@example.com", "--sign-up", "--password-file", "-", **env)
        assert "How do we deploy?" in await atlas("ask", "How do we deploy?", **env)
        assert [row["title"] for row in json.loads(await atlas("tasks", "--json", **env))] == ["How do we deploy?"]
    finally:
        await atlas("down", "--erase")
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(process.info["cmdline"] or ())
    ]


# --- streams ----------------------------------------------------------------------------------------------------


class Watch(list[str]):
    """What a follower was shown."""

    restarts = 0

    @property
    def text(self) -> str:
        return "".join(self)


async def watch(reads: Any, task: UUID, shown: Watch) -> Watch:
    """Follows a task to its end."""
    async for event in follow(reads, task):
        match event:
            case MoreText(text=text):
                shown.append(text)
            case Restart(text=text):
                shown.restarts += 1
                shown.clear()
                shown.append(text)
            case Ended():
                return shown
            case _:
                pass
    raise AssertionError("a followed task ends")


def watching(db: asyncpg.Connection, task: UUID) -> Callable[[], Awaitable[object]]:
    """One reader of a task, which says so."""
    reader = uuid4()
    return lambda: db.fetchval("select atlas.watch_task($1, $2)", task, reader)


async def test_deltas_come_as_they_are_written_and_in_order(database: Database, db: asyncpg.Connection) -> None:
    task = await ask(db)
    (claimed,) = await claim(db, lease="1 hour")
    async with stand_in_of(database) as stand_in:
        heard: list[Any] = []
        async with Deltas(stand_in.url, KeyTokens(stand_in.keys.secret), task, watching(db, task)) as deltas:
            assert await deltas.next(5) is None, "joined"
            for number, text in enumerate(("Ä", "rger 😀", " done")):
                item = {"attempt_id": str(claimed["attempt_id"]), "call": 0, "generation": 0, "response_id": "r", "resumable": True,
                        "sequence_number": number, "offset": [0, 1, 7][number], "text": text, "model": "gpt-4.1"}  # fmt: skip
                await db.fetch("select * from atlas.record_progress($1, 100000)", [item])
            while len(heard) < 3:
                part = await deltas.next(5)
                if part is not None:
                    heard.append((part.attempt, part.generation, part.seq, part.offset, part.text))
        assert heard == [(1, 0, 1, 0, "Ä"), (1, 0, 2, 1, "rger 😀"), (1, 0, 3, 7, " done")]
        rows = await db.fetch(
            "select event, payload from realtime.messages where topic = $1 order by inserted_at, id", f"task:{task}"
        )
        assert {row["event"] for row in rows} == {"delta"}
        # a repair begins anew: readers are told before its first text
        item |= {"generation": 1, "offset": 0, "text": "Again"}
        await db.fetch("select * from atlas.record_progress($1)", [item])
        resets = await db.fetch("select payload from realtime.messages where topic = $1 and event = 'reset'", f"task:{task}")
        assert [{k: v for k, v in row["payload"].items() if k != "id"} for row in resets] == [
            {"attempt": 1, "generation": 1, "offset": 0}
        ]


@pytest.mark.alone
@pytest.mark.parametrize("code", [1006, 1012])
async def test_a_reader_whose_socket_is_cut_at_every_delta_misses_nothing(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, tmp_path: Path, code: int
) -> None:
    openai.plan(text=ADR, chunk=8, delay=0.08)
    await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    faults = Faults.quick()
    async with stand_in_of(database, faults) as stand_in:
        ann = await person(stand_in, tmp_path, "ann")
        faults.cut_after_broadcast = code
        sent = await ann.json("ask", "How do we stream?", "--detach")
        shown = Watch()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ATLAS_CONFIG_DIR", ann.env["ATLAS_CONFIG_DIR"])
            async with connect(load(ann.env), patience=Patience(longest_pause=0.05, look=0.02)) as reads:
                await asyncio.wait_for(watch(reads, UUID(sent["task_id"]), shown), 60)
        final = await reply(db, UUID(sent["task_id"]))
        assert shown.text == final["content"]
        assert shown.restarts == 0
        assert faults.cuts >= 3, "how many there are in the time is the machine's"


async def test_a_reader_goes_on_when_the_worker_is_killed(
    database: Database, db: asyncpg.Connection, workers: Workers, openai: OpenAIDouble, tmp_path: Path
) -> None:
    openai.plan(text=ADR, chunk=12, delay=0.05)
    first = await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
    async with stand_in_of(database) as stand_in:
        ann = await person(stand_in, tmp_path, "ann")
        sent = await ann.json("ask", "How do we survive?", "--detach")
        shown = Watch()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ATLAS_CONFIG_DIR", ann.env["ATLAS_CONFIG_DIR"])
            async with connect(load(ann.env)) as reads:
                watching = asyncio.create_task(watch(reads, UUID(sent["task_id"]), shown))
                await until(lambda: _true(len(shown) > 2), 20, "text")
                first.process.kill()
                await workers.start(openai_api_key="sk-test", openai_base_url=openai.url)
                await asyncio.wait_for(watching, 60)
        final = await reply(db, UUID(sent["task_id"]))
        assert shown.text == final["content"]
        assert shown.restarts == 0, "the response was taken up, not begun anew"


async def _true(value: bool) -> bool:
    return value


async def test_a_late_reader_gets_the_whole_text(database: Database, db: asyncpg.Connection) -> None:
    task = await ask(db)
    (claimed,) = await claim(db, lease="1 hour")
    attempt = claimed["attempt_id"]
    item = {"attempt_id": str(attempt), "call": 0, "generation": 0, "response_id": "r", "resumable": True, "model": "gpt-4.1"}
    await db.fetch("select * from atlas.record_progress($1)", [item | {"sequence_number": 1, "offset": 0, "text": "before "}])
    async with stand_in_of(database) as stand_in:
        settings = load({"SUPABASE_URL": stand_in.url, "SUPABASE_SECRET_KEY": stand_in.keys.secret})
        shown = Watch()
        async with connect(settings) as reads:
            watching = asyncio.create_task(watch(reads, task, shown))
            await until(lambda: _true(shown.text == "before "), 10, "what was written before")
            await db.fetch(
                "select * from atlas.record_progress($1)", [item | {"sequence_number": 2, "offset": 7, "text": "and after"}]
            )
            await until(lambda: _true(shown.text == "before and after"), 10, "what came after")
            await db.fetchval("select testing.complete_task($1, $2)", attempt, "before and after")
            await asyncio.wait_for(watching, 10)


async def test_a_stranger_cannot_join_the_topic_of_a_task(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with stand_in_of(database) as stand_in:
        ann, bob = await person(stand_in, tmp_path, "ann"), await person(stand_in, tmp_path, "bob")
        sent = await ann.json("ask", "Mine?", "--detach")
        patience = Patience(join=1, look=0.02, longest_pause=0.1)
        for who, expected in ((ann, True), (bob, False)):
            (file,) = Path(who.env["ATLAS_CONFIG_DIR"]).glob("session-*.json")
            (session,) = json.loads(file.read_text()).values()

            class Token(KeyTokens):
                async def token(self) -> tuple[str, float | None]:
                    return json.loads(session)["access_token"], None  # noqa: B023

            async with Deltas(
                stand_in.url,
                Token(stand_in.keys.publishable),
                UUID(sent["task_id"]),
                watching(db, UUID(sent["task_id"])),
                patience=patience,
            ) as deltas:
                end = time.monotonic() + 1.5
                while not deltas.joined and time.monotonic() < end:
                    await asyncio.sleep(0.02)
                assert deltas.joined is expected, who.email
