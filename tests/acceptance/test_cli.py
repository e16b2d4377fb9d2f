"""The command as people use it: each command, wrong words, pipes, JSON, exit codes, controls with their answers."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from atlas import __version__
from atlas.commands.common import cell, fitting
from atlas.database.migrate import read_migrations
from atlas.ids import short_id
from atlas.messages import chat
from atlas.supabase.keys import mint
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ROOT, Database, Workers, ask, clean_environment, command, ended, run_atlas, stand_in_of, until


class Atlas:
    """Runs commands against a database."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.env = {"DATABASE_URL": database.url(), "COLUMNS": "200"}
        self.folder = folder

    async def __call__(
        self, *arguments: str, code: int = 0, stdin: bytes | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        done = await asyncio.to_thread(run_atlas, *arguments, env=self.env | env, cwd=self.folder, stdin=stdin)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done

    async def json(self, *arguments: str) -> Any:
        return json.loads((await self(*arguments, "--json")).stdout)


def in_terminal(atlas: Atlas, *words: str, **env: str) -> str:
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "atlas.cli", *words], stdout=slave, stderr=slave,
        env=clean_environment() | atlas.env | {"TERM": "xterm"} | env,
    )  # fmt: skip
    os.close(slave)
    found = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        found += part
    process.wait(30)
    return found.decode()


@pytest.fixture
def atlas(database: Database, tmp_path: Path) -> Atlas:
    return Atlas(database, tmp_path)


async def test_ask_follows_the_reply_and_the_others_show_it(atlas: Atlas, workers: Workers, db: asyncpg.Connection) -> None:
    await workers.start()
    done = await atlas("ask", "How do we ship?")
    assert done.stdout.startswith("> **No model was called.**")
    assert "# Passages on “How do we ship?”" in done.stdout
    (row,) = await db.fetch("select id from atlas.task where kind = 'chat'")
    task = str(row["id"])
    assert task in done.stderr
    assert (await atlas("tail", "last")).stdout == done.stdout
    shown = await atlas("show", short_id(task), "--audit")
    assert "How do we ship?" in shown.stdout
    assert "complete_task" in shown.stdout
    whole = await atlas.json("show", "last")
    assert whole["reply"] in done.stdout
    assert whole["state"] == "completed"
    listed = (await atlas("tasks")).stdout.splitlines()
    assert listed[0].split("\t")[:3] == ["ID", "STATE", "WAITS FOR"]
    assert listed[1].split("\t")[:2] == [short_id(task), "completed"]
    again = await atlas("ask", "and then?", "--parent", "last", "--json")
    assert json.loads(again.stdout)["parent_id"] == task


async def test_ask_in_its_other_forms(atlas: Atlas, tmp_path: Path, db: asyncpg.Connection) -> None:
    (tmp_path / "question.txt").write_text("From a file?", encoding="utf-8")
    ids = [
        (await atlas("ask", "--detach", "From words?")).stdout.strip(),
        (await atlas("ask", "-d", "--file", "question.txt")).stdout.strip(),
        (await atlas("ask", "-d", "-", stdin=b"From a pipe?")).stdout.strip(),
    ]
    rows = await db.fetch("select id::text, title from atlas.task order by in_id")
    assert [row["id"] for row in rows] == ids
    assert [row["title"] for row in rows] == ["From words?", "From a file?", "From a pipe?"]
    own = str(uuid4())
    first = await atlas("ask", "-d", "--task-id", own, "Once?", "--json")
    second = await atlas("ask", "-d", "--task-id", own, "Once?", "--json")
    assert [json.loads(done.stdout)["created"] for done in (first, second)] == [True, False]
    assert (await atlas("cancel", own)).stdout == f"task {own} is cancelled\n"
    assert "was cancelled before" in (await atlas("cancel", own)).stdout
    failed = await atlas("tail", own, code=5)
    assert f"task {short_id(own)} is cancelled (cancelled)" in failed.stderr
    assert (await atlas("retry", own)).stdout == f"task {own} is queued again\n"


WRONG: list[tuple[list[str], int, str]] = [
    (["ask"], 2, "there is no question: ask with"),
    (["ask", "   "], 2, "there is no question"),
    (["ask", "x", "--file", "y"], 2, "both a question and --file are given: give one of them"),
    (["ask", "--file", "missing.txt"], 2, "missing.txt cannot be read (No such file or directory): name a readable file"),
    (["ask", "--file", "."], 2, ". cannot be read (Is a directory)"),
    (["ask", "--file", "binary"], 2, "is not UTF-8: save it as UTF-8"),
    (["ask", "x", "--task-id", "7"], 2, "'7' is not a UUID"),
    (["ask", "x", "--parent", "ffffffff"], 4, "no task begins with ffffffff: see `atlas tasks`"),
    (["ask", "x", "--project", "nope"], 4, "metadata.project 'nope' is none of yours"),
    (["ask", "x", "--priority", "1000"], 2, "--priority"),
    (["show", "last"], 4, "there is no task yet: ask with"),
    (["show", "xyz!"], 2, "'xyz!' is not a task id: give an id"),
    (["show", "ab"], 2, "'ab' is not a task id"),
    (["tasks", "--state", "odd"], 2, "state 'odd' is not known: use one of queued, running"),
    (["tasks", "--project", "nope"], 4, "no project 'nope'"),
    (["cancel", "00000000-0000-4000-8000-00000000dead"], 4, "no task begins with"),
    (["spend", "--by", "hour"], 2, "--by 'hour' is not known: use day, model, sender, project or decision"),
    (["spend", "--month", "November"], 2, "--month 'November' is not a month: write it as 2026-11"),
    (["spend", "--month", "9999-12"], 2, "--month '9999-12' is too far off"),
    (["budget", "set"], 2, "no limit is given: use --per-run, --daily, --usd-daily or another"),
    (["budget", "set", "--daily", "lots"], 2, "--daily 'lots' is not a number: give a number, or `none`"),
    (["budget", "set", "--daily", "-5"], 2, "--daily -5 is out of range"),
    (["budget", "set", "--scope", "me", "--daily", "5"], 2, "--scope 'me' is not known"),
    (["budget", "set", "--scope", "sender:", "--daily", "5"], 2, "--scope 'sender:' is not known"),
    (
        ["budget", "set", "--scope", "project:00000000-0000-4000-8000-00000000dead", "--daily", "5"],
        4,
        "no project '00000000-0000-4000-8000-00000000dead'",
    ),
    (["dlq", "retry"], 2, "nothing is named: name one, or use --all"),
    (["dlq", "list", "--kind", "letters"], 2, "--kind 'letters' is not known: use task or outbox"),
    (["dlq", "retry", "x", "--kind", "outbox"], 2, "'x' is not an outbox row"),
    (["dlq", "retry", "²", "--kind", "outbox"], 2, "'²' is not an outbox row"),
    (["dlq", "retry", "7", "--kind", "outbox"], 4, "outbox row 7 is not waiting for that"),
    (["control", "reboot"], 4, "content.command 'reboot' is not known: use one of flush_cache"),
    (["control", "{broken"], 2, "the command is not JSON"),
    (["control", "set_budget", "per_run"], 2, "'per_run' is not name=value: write per_run=8000"),
    (["control", "heartbeat", "--timeout", "0.2"], 5, "no worker answered within 0.2 s: see `atlas status`"),
    (["index", "missing"], 2, "missing is not there: name a file or a folder"),
    (["index", ".", "--project", "nope"], 4, "no project 'nope'"),
    (["search", "x", "--project", "nope"], 4, "no project 'nope'"),
    (["demo"], 2, "DATABASE_URL is set, and the demo has a Postgres of its own: unset it"),
    (["up"], 2, "DATABASE_URL is set: the embedded stack is not used"),
    (["migrate", "--worker-password-file", "/"], 2, "/ cannot be read: name a readable file"),
    (["migrate", "--worker-password-file", "short"], 2, "short holds fewer than 12 characters"),
    (["nonsense"], 2, "No such command"),
    (["ask", "--file", "\\[/x]"], 2, "\\[/x] cannot be read"),
]


@pytest.mark.parametrize(("words", "code", "line"), WRONG, ids=[" ".join(words)[:40] for words, _, _ in WRONG])
async def test_wrong_words_are_one_line_that_says_what_to_do(
    atlas: Atlas, tmp_path: Path, words: list[str], code: int, line: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "short").write_text("short")
    done = await atlas(*words, code=code)
    assert line in " ".join(done.stderr.split())
    assert done.stdout == ""
    if "No such command" not in line and "--priority" not in line:
        assert done.stderr.count("\n") == 1, done.stderr


WRONG_SETTINGS = [
    ({"TOKEN_BUDGET_PER_RUN": "many"}, "TOKEN_BUDGET_PER_RUN=many: Input should be a valid integer"),
    ({"TOKEN_BUDGET_PER_RUN": "0"}, "TOKEN_BUDGET_PER_RUN=0: Input should be greater than or equal to 1"),
    ({"DAILY_USD_BUDGET": "-1"}, "DAILY_USD_BUDGET=-1"),
    ({"OPENAI_BASE_URL": "api.openai.com"}, "OPENAI_BASE_URL=api.openai.com: send a URL with http:// or https://"),
    ({"OPENAI_BACKGROUND": "on"}, "OPENAI_BACKGROUND=on: Input should be 'auto' or 'off'"),
    ({"OPENAI_MODEL": "gpt 4"}, "OPENAI_MODEL=gpt 4: name a model"),
    ({"ATLAS_CONCURRENCY": "0"}, "ATLAS_CONCURRENCY=0"),
    ({"ATLAS_HTTP_PORT": "70000"}, "ATLAS_HTTP_PORT=70000"),
    ({"ATLAS_LOG_FORMAT": "xml"}, "ATLAS_LOG_FORMAT=xml"),
    ({"RAG_TOP_K": "-1"}, "RAG_TOP_K=-1"),
    ({"OPENAI_API_KEY_FILE": "/nowhere"}, "OPENAI_API_KEY_FILE=/nowhere cannot be read"),
    ({"OPENAI_API_KEY_FILE": "/dev/null"}, "OPENAI_API_KEY_FILE=/dev/null is empty"),
    ({"OPENAI_API_KEY": "secret-key", "OPENAI_API_KEY_FILE": "/x"}, "OPENAI_API_KEY and OPENAI_API_KEY_FILE are both set"),
    ({"DATABASE_URL": "mysql://secret-key@x"}, "DATABASE_URL: must begin with postgresql://"),
    ({"DATABASE_URL": "postgresql://u:secret-key@localhost:port/db"}, "DATABASE_URL: its port is not a number"),
]


@pytest.mark.parametrize(("env", "line"), WRONG_SETTINGS, ids=[" ".join(env) for env, _ in WRONG_SETTINGS])
async def test_wrong_settings_are_named_and_secrets_are_not_shown(atlas: Atlas, env: dict[str, str], line: str) -> None:
    atlas.env |= env
    done = await atlas("status", code=2)
    assert line in done.stderr
    assert "secret-key" not in done.stderr


async def test_all_wrong_settings_come_in_one_message(atlas: Atlas) -> None:
    done = await atlas("worker", code=2, RAG_TOP_K="x", ATLAS_HTTP_PORT="y", OPENAI_BACKGROUND="z")
    assert all(name in done.stderr for name in ("RAG_TOP_K", "ATLAS_HTTP_PORT", "OPENAI_BACKGROUND"))


async def test_a_database_that_is_away_is_one_line(atlas: Atlas) -> None:
    for words in (["tasks"], ["worker"], ["index", "."], ["ask", "x"], ["status"]):
        done = await atlas(*words, code=3, DATABASE_URL="postgresql://postgres@127.0.0.1:9/x")
        assert "Postgres cannot be reached" in done.stderr
    done = await atlas("tasks", code=3, DATABASE_URL="", ATLAS_HOME=str(atlas.folder / "none"))
    assert "the embedded Postgres is down: run `atlas up`" in done.stderr


async def test_a_database_without_atlas_says_to_migrate(atlas: Atlas, database: Database) -> None:
    admin = await asyncpg.connect(database.url("supabase_admin"))
    name = f"{database.name}_empty"
    await admin.execute(f"create database {name} owner postgres")
    try:
        url = database.cluster.url("supabase_admin", name)
        done = await atlas("tasks", code=3, DATABASE_URL=url)
        assert "the database has no Atlas in it: run `atlas migrate`" in done.stderr
        done = await atlas("doctor", code=7, DATABASE_URL=url)
        assert f"{len(read_migrations())} are not applied" in done.stdout
        assert "00000100_access" not in (await atlas("migrate", "--dry-run", DATABASE_URL=url)).stderr
        done = await atlas("migrate", "--include-seed", DATABASE_URL=url + "?sslmode=prefer")
        assert f"{len(read_migrations())} migrations applied" in done.stdout
        assert "nothing is pending" in (await atlas("migrate", "--dry-run", DATABASE_URL=url)).stdout
        assert "no task yet" in (await atlas("tasks", DATABASE_URL=url)).stderr
    finally:
        await admin.execute(f"drop database {name} with (force)")
        await admin.close()


async def test_spend_by_everything_in_every_form(atlas: Atlas, db: asyncpg.Connection) -> None:
    from tests.support.core import claim, reserve

    await ask(db)
    (task,) = await claim(db)
    await reserve(db, task["attempt_id"], 1000)
    usage = {"0": {"input_tokens": 100, "output_tokens": 50, "known": "reported"}}
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", task["attempt_id"], usage)
    for by, key in (("model", "gpt-4.1"), ("sender", "service"), ("project", "default")):
        (row,) = await atlas.json("spend", "--by", by)
        assert (row[by], row["tokens"], row["calls"]) == (key, 150, 1)
    day = await db.fetchval("select atlas.today()::text")
    (row,) = csv.DictReader(io.StringIO((await atlas("spend", "--csv")).stdout))
    assert (row["day"], row["tokens"]) == (day, "150")
    assert float(row["usd"]) == pytest.approx(0.0006)
    assert (await atlas("spend", "--month", day[:7])).stdout.count("\n") == 2
    assert "nothing was spent" in (await atlas("spend", "--month", "2001-01")).stderr


@pytest.mark.cooks_the_books
async def test_budgets_are_shown_set_and_checked(atlas: Atlas, db: asyncpg.Connection) -> None:
    assert (await atlas("budget", "set", "--daily", "1000", "--per-run", "8000")).stdout.startswith(
        "global: per_run 8000, daily 1000"
    )
    (row,) = await atlas.json("budget", "get")
    assert (row["daily"], row["set_by"]) == (1000, "control")
    assert "the question has 2 tokens" in (await atlas("budget", "check", "How?")).stdout
    done = await atlas("budget", "check", "word " * 5000, code=6)
    assert "fit into half of a run of 8000" in done.stderr
    await db.execute("select atlas.lock_days(array[atlas.today()], array['global'])")
    await db.execute("update atlas.budget_day set settled_tokens = 850")
    assert "warning: global: 850 of 1000 tokens" in (await atlas("budget", "check")).stderr
    await db.execute("update atlas.budget_day set settled_tokens = 1000")
    await atlas("budget", "check", code=6)
    assert (await atlas("budget", "set", "--daily", "none")).stdout.strip() == "global: daily none"


HOSTILE = "Which\x1b]0;owned\x07 queue\x1b[2J \x9b31m \u202e?\x1b]52;c;ZXZpbA==\x07 \x1b]8;;http://evil.example\x1b\\\\link\x7f"
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\x1b[^\\[]|\x1b\\[[0-9;]*[^0-9;m]"
)
"""What may not reach a terminal: all control characters but the colours that the command line itself sends."""
LIVE = re.compile("\x1b\\[\\?25[lh]|\x1b\\[1A|\x1b\\[2K")
"""How the command line redraws its status line."""


async def test_what_others_write_cannot_act_on_a_terminal(atlas: Atlas, workers: Workers, db: asyncpg.Connection) -> None:
    await workers.start()
    asked = await atlas("ask", HOSTILE)
    commands = [
        ("tasks",),
        ("show", "last"),
        ("show", "last", "--audit"),
        ("tail", "last"),
        ("tasks", "--json"),
        ("show", "last", "--json"),
    ]
    for said in (asked, *[await atlas(*words) for words in commands]):
        assert UNSEEN.findall(said.stdout + said.stderr) == []
    assert "\\u001b]0;owned\\u0007" in (await atlas("show", "last")).stdout, "it is shown as text"
    assert (await atlas.json("show", "last"))["question"] == HOSTILE, "JSON holds what was asked"
    for words in (("tasks",), ("show", "last"), ("tail", "last")):
        shown = LIVE.sub("", await asyncio.to_thread(in_terminal, atlas, *words))
        assert UNSEEN.findall(shown) == [], words
        assert "owned" in shown or words == ("tail", "last")


async def test_the_audit_is_proved_against_the_replies(atlas: Atlas, workers: Workers, db: asyncpg.Connection) -> None:
    await workers.start()
    await atlas("ask", "How do we ship?")
    assert "replies are those that were completed" in (await atlas("audit", "verify")).stdout
    await db.execute("update public.architect_out set data = '{}' where data ->> 'content' <> ''")
    assert "the reply is not the one that was completed" in (await atlas("audit", "verify", code=7)).stdout
    assert "the reply is not the one that was completed" in (await atlas("doctor", code=7)).stdout


async def test_csv_holds_no_formula(atlas: Atlas, db: asyncpg.Connection) -> None:
    from tests.support.core import claim, reserve, used

    await ask(db, sender_key="x")
    (row,) = await claim(db)
    await reserve(db, row["attempt_id"], 1000, model='=HYPERLINK("http://evil.example")')
    await db.execute("select testing.complete_task($1, 'x', '{}', $2)", row["attempt_id"], {"0": used(10)})
    said = (await atlas("spend", "--by", "model", "--csv")).stdout
    assert '"\'=HYPERLINK(""http://evil.example"")"' in said


async def test_csv_holds_no_escape_sequence_and_no_exponent(atlas: Atlas, workers: Workers, db: asyncpg.Connection) -> None:
    await workers.start()
    await ended(db, await ask(db, sender_key="gh:\x1b]0;pwn\x07\u202eevil"))
    said = (await atlas("spend", "--by", "sender", "--csv")).stdout
    assert "key:gh:\\u001b]0;pwn\\u0007\\u202eevil," in said
    assert "0.0000" in said
    assert "E-" not in said


async def test_markdown_spells_no_bidi_characters_either(atlas: Atlas, workers: Workers, db: asyncpg.Connection) -> None:
    """An entity is decoded where Markdown is rendered."""
    await workers.start()
    await ended(db, await ask(db, "Entities &#x202e;desrever &rlm; &#x2066; \u202e end"))
    said = await asyncio.to_thread(in_terminal, atlas, "show", "last", COLUMNS="200")
    assert "desrever" in said
    assert re.findall("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", said) == []


async def test_dead_letters_are_listed_and_retried(atlas: Atlas, db: asyncpg.Connection) -> None:
    from tests.support.core import claim

    assert "no dead letters of kind task" in (await atlas("dlq", "list")).stderr
    task = await ask(db, "doomed", sender_key="x")
    for _ in range(3):
        await db.execute("update atlas.task set wait_reason = null, run_after = now()")
        (row,) = await claim(db)
        await db.execute("select atlas.fail_task($1, 'bad', 'it is bad')", row["attempt_id"])
    (letter,) = await atlas.json("dlq", "list")
    assert letter["id"] == str(task)
    assert (await atlas("dlq", "retry", short_id(task))).stdout == "1 queued again\n"
    assert (await atlas("dlq", "retry", "--all")).stdout == "0 queued again\n"
    await db.execute("update atlas.outbox set state = 'dead' where id = (select min(id) from atlas.outbox)")
    (row,) = await atlas.json("dlq", "list", "--kind", "outbox")
    assert (await atlas("dlq", "retry", str(row["id"]), "--kind", "outbox")).stdout == "1 queued again\n"


async def test_each_control_command_is_answered(atlas: Atlas, workers: Workers, db: asyncpg.Connection) -> None:
    await workers.start()
    beat = await atlas.json("control", "heartbeat")
    assert beat["metadata"]["status"] == "ok"
    content = json.loads(beat["content"])
    assert content["version"]
    assert content["models"] == ["offline"]
    assert content["queue_depth"] == 0
    assert content["uptime_seconds"] > 0
    for words, key, value in (
        (["flush_cache"], "command", "flush_cache"),
        (["escalate", "code=delivery_failed"], "code", "delivery_failed"),
        (["pause", "reason=test"], "command", "pause"),
    ):
        answer = await atlas.json("control", *words)
        assert answer["metadata"]["status"] == "completed"
        assert json.loads(answer["content"])[key] == value
    assert await db.fetchval("select cache_flushed_at is not null and paused_at is not null from atlas.control")
    task = await ask(db, "held up by the pause")
    answer = await atlas.json("control", "set_budget", "per_run=8000", "usd_daily=2.5")
    assert json.loads(answer["content"])["budget"]["per_run"] == 8000
    answer = await atlas.json("control", "cancel", f"task_id={task}")
    assert json.loads(answer["content"])["state"] == "cancelled"
    assert json.loads((await atlas.json("control", "cancel", "task_id=last"))["content"])["task_id"] == str(task)
    failed = await atlas("control", "cancel", f"task_id={uuid4()}", code=5)
    assert "failed" in failed.stdout
    assert "(paused)" in (await atlas("status")).stdout
    await atlas.json("control", "resume")
    task = await ask(db)
    assert (await ended(db, task))["state"] == "completed"
    events = await db.fetch("select distinct event from atlas.audit where task_id is null")
    assert {row["event"] for row in events} >= {"pause", "resume", "flush_cache", "set_budget"}


async def test_pause_resume_and_status(atlas: Atlas) -> None:
    await atlas("pause", "--reason", "maintenance")
    assert "(paused)" in (await atlas("status")).stdout
    assert (await atlas.json("status"))["paused"] is True
    await atlas("resume")
    assert "(paused)" not in (await atlas("status")).stdout


async def test_the_doctor_tries_the_keys(atlas: Atlas, database: Database) -> None:
    async with stand_in_of(database) as stand_in:
        keys = stand_in.keys
        env: dict[str, Any] = {
            "SUPABASE_URL": stand_in.url,
            "SUPABASE_PUBLISHABLE_KEY": keys.publishable,
            "SUPABASE_SECRET_KEY": keys.secret,
        }
        said = " ".join((await atlas("doctor", **env)).stdout.split())
        assert f"{stand_in.url} takes people's key" in said
        assert f"{stand_in.url} takes workers' key" in said
        forged = mint("a secret of another project, and long enough", {"role": "service_role"}, lasts=600)
        for secret in (forged, "sb_secret_of_another_project"):
            said = " ".join((await atlas("doctor", code=7, **(env | {"SUPABASE_SECRET_KEY": secret}))).stdout.split())
            assert f"{stand_in.url} refuses workers' key" in said
            assert "check SUPABASE_SECRET_KEY" in said
            assert "takes people's key" in said


async def test_the_doctor_finds_what_is_wrong(
    atlas: Atlas, workers: Workers, db: asyncpg.Connection, openai: OpenAIDouble
) -> None:
    task = await ask(db)
    worker = await workers.start(atlas_audit_key="k" * 20)
    await ended(db, task)
    await until(lambda: db.fetchval("select count(*) > 0 from atlas.audit_checkpoint"), 20, "it is sealed")
    done = await atlas("doctor", OPENAI_API_KEY="k", OPENAI_BASE_URL=openai.url, ATLAS_AUDIT_KEY="k" * 20)
    assert "o1-pro was shut down on 2026-10-23: gpt-6.1-sol is called instead" in done.stdout
    assert "gpt-4.1 shuts down on 2027-01-14; then gpt-6-luna is called" in done.stdout
    assert "chains hold, 1 seal," in done.stdout
    assert f"({__version__}, " in done.stdout
    assert "seal 1 was made with another key" in (await atlas("doctor", code=7, ATLAS_AUDIT_KEY="another")).stdout
    worker.process.kill()
    await db.execute("alter table atlas.audit disable trigger append_only")
    await db.execute("update atlas.audit set actor = 'x' where id = (select min(id) from atlas.audit)")
    assert "hash does not fit the row" in (await atlas("doctor", code=7)).stdout
    done = await atlas("doctor", code=7, RAG_TOP_K="x")
    assert "RAG_TOP_K=x" in done.stdout
    folder = atlas.folder / "bin"
    folder.mkdir()
    (folder / "atlas").write_text("#!/bin/sh\n")
    (folder / "atlas").chmod(0o755)
    done = await atlas("doctor", code=7, PATH=f"{folder}:{os.environ['PATH']}")
    assert "another `atlas` is on PATH" in done.stdout


async def test_index_and_search(atlas: Atlas, tmp_path: Path, db: asyncpg.Connection) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "deploy.md").write_text("# Deploy\n\n## Canary\n\nFive percent of the traffic goes to the new version.\n")
    (docs / "code.py").write_text("def rollback():\n    '''Puts the old version back.'''\n")
    (docs / ".env").write_text("TOKEN=x")
    (docs / "key.txt").write_text("-----BEGIN RSA PRIVATE KEY-----\n")
    (docs / "binary.md").write_bytes(b"\x00\x01")
    (docs / "latin.md").write_bytes("café".encode("latin-1"))
    os.mkfifo(docs / "pipe.md")
    done = await atlas("index", "docs")
    assert "2 indexed" in done.stdout
    assert "4 skipped" in done.stdout
    for line in (".env: its name looks like a secret", "key.txt: it holds a private key", "binary.md: it is binary",
                 "latin.md: it is not UTF-8"):  # fmt: skip
        assert line in done.stderr
    assert "0 indexed" in (await atlas("index", "docs")).stdout
    (found,) = json.loads((await atlas("search", "canary traffic?", "--json")).stdout)
    assert (found["source"], found["heading"], found["start_line"], found["end_line"]) == (
        f"{docs}/deploy.md", "Deploy > Canary", 3, 5,
    )  # fmt: skip
    assert "docs/code.py:1-2\trollback" in (await atlas("search", "rollback the old version")).stdout
    shown = await asyncio.to_thread(in_terminal, atlas, "search", "rollback the old version", COLUMNS="40")
    assert f" 1. {docs}/code.py:1-2  (" in shown, "a place is whole, whatever the width"
    (docs / "code.py").unlink()
    assert "1 dropped" in (await atlas("index", "docs", "--prune")).stdout
    assert "nothing found" in (await atlas("search", "zebra")).stderr
    assert await db.fetchval("select count(*) from rag.document") == 1


async def test_schema_is_json_schema_and_fits_the_examples() -> None:
    from atlas.messages import Message

    done = await asyncio.to_thread(run_atlas, "schema", env={})
    schema = json.loads(done.stdout)
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(schema["discriminator"]["mapping"]) == {"chat", "spec", "control"}
    for file in sorted((ROOT / "docs" / "event_examples").glob("*.json")):
        Message.validate_json(file.read_text())


async def test_help_version_and_completion() -> None:
    done = await asyncio.to_thread(run_atlas, "--help", env={})
    commands = ["demo", "up", "down", "status", "logs", "worker", "migrate", "index", "search", "ask", "tail", "tasks", "show", "cancel", "retry", "dlq", "spend", "budget", "pause", "resume", "control", "schema", "doctor"]  # fmt: skip
    assert [name for name in commands if not re.search(rf"\b{name}\b", done.stdout)] == []
    assert "130 interrupted" in " ".join(done.stdout.replace("│", " ").split())
    assert (await asyncio.to_thread(run_atlas, "--version", env={})).stdout == f"atlas {__version__}\n"
    env = clean_environment() | {"_ATLAS_COMPLETE": "complete_bash", "COMP_WORDS": "atlas ta", "COMP_CWORD": "1"}
    completed = await asyncio.to_thread(run_script, ".venv/bin/atlas", env=env)
    assert completed.stdout.split() == ["tail", "tasks"]


async def test_a_terminal_gets_a_table_with_colour(atlas: Atlas, db: asyncpg.Connection) -> None:
    await ask(db, "What [bold]is[/bold] a table?")

    shown = await asyncio.to_thread(in_terminal, atlas, "tasks")
    assert "\x1b[" in shown
    assert "QUESTION" in shown
    assert "What [bold]is[/bold] a table?" in shown
    assert "\t" not in shown


def run_script(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / words[0], *words[1:]], env=env, capture_output=True, check=True, text=True)


async def test_the_manuals_two_scripts(atlas: Atlas, tmp_path: Path, db: asyncpg.Connection) -> None:
    if not (ROOT / ".venv/bin/atlas").exists():
        pytest.fail("the scripts run .venv/bin/atlas, which scripts/test installs")
    (tmp_path / "a.md").write_text("# A\n\ntext\n")
    env = clean_environment() | atlas.env
    done = await asyncio.to_thread(run_script, "scripts/index_repo.sh", str(tmp_path), env=env)
    assert "1 indexed" in done.stdout
    done = await asyncio.to_thread(run_script, "scripts/publish_task.sh", "Design a minimal CI pipeline", env=env)
    assert await db.fetchval("select id::text from atlas.task") == done.stdout.strip()


async def test_tables_read_well_at_80_columns(atlas: Atlas, workers: Workers, db: asyncpg.Connection) -> None:
    """Whole columns are left out, the least important first, and named; nothing is squeezed until its letters stand one by one."""
    await workers.start()
    title = "How do we release to the customers who run it in their own data centres, without a maintenance window?"
    task = await ask(db, title)
    await ended(db, task)
    await command(db, {"command": "heartbeat"})
    await until(lambda: db.fetchval("select count(*) = 2 from atlas.task where state = 'completed'"), 20, "both are over")
    lines = (await asyncio.to_thread(in_terminal, atlas, "tasks", COLUMNS="80")).replace("\r", "").splitlines()
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert max(len(line) for line in plain if not line.startswith("not shown")) <= 80, plain
    # the title is folded, and every word of it is there
    stored = await db.fetchval("select title from atlas.task where id = $1", task)
    column = plain[0].index("QUESTION")
    assert "".join(line[column:].rstrip() for line in plain[1:-1]).replace(" ", "") == stored.replace(" ", "")
    assert plain[0].split() == ["ID", "STATE", "QUEUED", "ASKER", "QUESTION"]
    assert plain[1].startswith(short_id(task))
    assert any(line.startswith("not shown in 80 columns: MODEL, TOKENS, USD, TOOK") for line in plain)
    wide = await asyncio.to_thread(in_terminal, atlas, "tasks", COLUMNS="200")
    assert "not shown" not in wide
    assert "heartbeat" not in (await atlas("tasks")).stdout
    assert "heartbeat" in (await atlas("tasks", "--all")).stdout


def test_columns_are_left_out_by_rank() -> None:
    widths = {"id": 8, "name": 40, "count": 6, "note": 60}
    assert fitting(widths, 200, right=["id", "count"], rank=list(widths)) == set(widths)
    assert fitting(widths, 46, right=["id", "count"], rank=["id", "note", "name", "count"]) == {"id", "note", "name"}
    assert fitting(widths, 43, right=["id", "count"], rank=["id", "note", "name", "count"]) == {"id", "note"}
    assert fitting(widths, 30, right=["id", "count"], rank=["id", "note", "name", "count"]) == {"id", "note"}
    assert fitting(widths, 3, right=["id", "count"], rank=["id", "note", "name", "count"]) == {"id"}
    assert cell(Decimal("0E-9"), "threshold") == "0.000000000"


async def test_a_limit_is_taken_away_by_a_control_message_too(atlas: Atlas, workers: Workers, db: asyncpg.Connection) -> None:
    await workers.start()
    await atlas("control", "set_budget", "daily=1000")
    assert await db.fetchval("select daily from atlas.budget where scope = 'global'") == 1000
    await atlas("control", "daily=none")
    assert await db.fetchval("select daily from atlas.budget where scope = 'global'") is None
    assert (await atlas("tasks", "-h")).stdout == (await atlas("tasks", "--help")).stdout
    assert (await atlas("-h")).stdout == (await atlas("--help")).stdout


@pytest.mark.parametrize("home", ["/proc/x", "/dev/null", "/etc/passwd/x"])
@pytest.mark.parametrize("words", ["up", "down", "demo", "status"])
def test_a_home_that_cannot_be_one_is_said(home: str, words: str) -> None:
    """Nothing is broken, and nothing is to be erased."""
    done = run_atlas(words, env={"ATLAS_HOME": home})
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "erase" not in done.stderr
    if (words, home) != ("status", "/proc/x"):  # there may be a stack one day
        assert f"ATLAS_HOME={home} cannot be used" in done.stderr


def test_no_command_needs_the_folder_it_is_called_from(tmp_path: Path) -> None:
    script = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec {sys.executable} -m atlas.cli tasks"
    (tmp_path / "gone").mkdir()
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=clean_environment(), check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "this folder is gone" in done.stderr


async def test_a_sender_is_named_by_address(atlas: Atlas, db: asyncpg.Connection) -> None:
    user = await db.fetchval("insert into auth.users (id, email) values (gen_random_uuid(), 'Ann@acme.example') returning id")
    said = (await atlas("budget", "set", "--scope", "sender:ann@acme.example", "--daily", "5000")).stdout
    assert said == f"sender:{user}: daily 5000\n"
    await db.execute("insert into public.architect_in (data, sender) values ($1, $2)", chat("mine"), user)
    await ask(db, "another's")
    assert [row["title"] for row in await atlas.json("tasks", "--sender", "ann@acme.example")] == ["mine"]
    assert "no user bob@acme.example has signed up" in (await atlas("tasks", "--sender", "bob@acme.example", code=4)).stderr


def test_a_command_is_named_as_its_reader_can_call_it(tmp_path: Path) -> None:
    """A venv's command that PATH does not have, from the folder above, from elsewhere, and by PATH; its path is quoted."""
    folder = tmp_path / "my project/.venv/bin"
    folder.mkdir(parents=True)
    command = folder / "atlas"
    command.write_text(f"#!{sys.executable}\nfrom atlas.cli import main\nmain()\n")
    command.chmod(0o755)
    env = clean_environment() | {"PYTHONPATH": str(ROOT)}

    def said(cwd: Path, **more: str) -> str:
        done = subprocess.run([command, "tasks"], cwd=cwd, env=env | more, capture_output=True, text=True, check=False)
        assert done.returncode == 3
        return done.stderr

    assert "run `.venv/bin/atlas up`" in said(tmp_path / "my project")
    (tmp_path / "elsewhere").mkdir()
    assert f"run `'{command}' up`" in said(tmp_path / "elsewhere")
    assert "run `atlas up`" in said(tmp_path, PATH=f"{folder}:{os.environ['PATH']}")
