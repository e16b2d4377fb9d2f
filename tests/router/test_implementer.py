"""The example of an implementer, as its own words say it is run: from Pub/Sub and from architect_out, each spec once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
from google.pubsub_v1 import types

from atlas.messages import chat
from tests.doubles.pubsub import pubsub
from tests.support.core import ROOT, Database, ask, claim, stand_in_of
from tests.support.mirror import mirroring, sent
from tests.support.outbox import finish
from tests.support.people import ANN

# the agent keeps what it was given
AGENT = f"{sys.executable} -c \"import sys; open('agent.log', 'a').write(sys.stdin.read() + '|')\""


async def implement(folder: Path, *words: str, **env: str) -> None:
    command = [
        sys.executable,
        str(ROOT / "docs/examples/implementer.py"),
        str(folder),
        "--run",
        AGENT,
        "--from",
        "service",
        *words,
    ]
    done = await asyncio.to_thread(
        subprocess.run, command, env=os.environ | env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


async def specs(db: asyncpg.Connection, *contents: str, **metadata: Any) -> None:
    for content in contents:
        await ask(db)
        (row,) = await claim(db)
        await db.execute("select testing.complete_task($1, $2, $3)", row["attempt_id"], content, metadata)


async def test_specs_are_taken_from_pubsub_once(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with pubsub() as topic:
        name = "projects/p/subscriptions/claude-code"
        async with mirroring(database, PUBSUB_PROJECT_ID="p", PUBSUB_EMULATOR_HOST=topic.host):
            await finish(db)
            await sent(db, 2)  # now the topic is there
            await topic.create_subscription(
                types.Subscription(name=name, topic="projects/p/topics/architect_out", enable_message_ordering=True), None
            )
            await specs(db, "# One; rm -rf $HOME", "# Two")
            await sent(db, 6)
            await implement(tmp_path, "--subscription", name, "--most", "2", PUBSUB_EMULATOR_HOST=topic.host)
            # all of it again, and one more
            await db.execute("select atlas.replay_outbox(p_since => now() - interval '1 hour')")
            await specs(db, "# Three")
            await sent(db, 8)
            await implement(tmp_path, "--subscription", name, "--most", "2", PUBSUB_EMULATOR_HOST=topic.host)
    said = (tmp_path / "agent.log").read_text().split("|")[:-1]
    assert sorted(said[:2]) == ["# One; rm -rf $HOME", "# Two"]
    assert sorted(said[2:]) == ["# Three", "x"], "x was published before there was a subscription, and came by the replay"


async def test_specs_are_taken_from_the_table_once(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with stand_in_of(database) as stand_in:
        env = {"SUPABASE_URL": stand_in.url, "SUPABASE_KEY": stand_in.keys.service_role}
        await specs(db, "# One", "# Two")
        await implement(tmp_path, "--most", "2", **env)
        await specs(db, "# Half", truncated=True)
        await specs(db, "# Three")
        await implement(tmp_path, "--most", "2", **env)
    assert (tmp_path / "agent.log").read_text() == "# One|# Two|# Three|", "half a plan is written, and not implemented"
    assert len(list(tmp_path.glob("*.md"))) == 4


async def test_only_named_senders_start_the_agent(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    async with stand_in_of(database) as stand_in:
        env = {"SUPABASE_URL": stand_in.url, "SUPABASE_KEY": stand_in.keys.service_role}
        # as a GitHub comment of somebody unknown, and as a user
        for data, sender in ((chat("x", sender_key="github:7"), None), (chat("y"), ANN)):
            await db.execute("insert into public.architect_in (data, sender) values ($1, $2)", data, sender)
            (row,) = await claim(db)
            await db.execute("select testing.complete_task($1, $2)", row["attempt_id"], f"# Of {sender}")
        await specs(db, "# Ours")
        await implement(tmp_path, "--most", "3", **env)
        assert (tmp_path / "agent.log").read_text() == "# Ours|"
        assert len(list(tmp_path.glob("*.md"))) == 3, "all are written down"
        await implement(tmp_path / "ann", "--most", "3", "--from", str(ANN), **env)
        assert (tmp_path / "ann/agent.log").read_text() == f"# Of {ANN}|# Ours|"
    script = [sys.executable, str(ROOT / "docs/examples/implementer.py"), str(tmp_path), "--run", AGENT]
    done = await asyncio.to_thread(subprocess.run, script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "--run needs --from" in done.stderr
