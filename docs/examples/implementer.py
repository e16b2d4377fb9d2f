"""An implementer that takes finished specs and hands each to a coding agent, once: from Pub/Sub, or from architect_out.

    python docs/examples/implementer.py specs --subscription projects/p/subscriptions/claude-code \\
        --run "claude -p" --from 7d44…
    SUPABASE_URL=… SUPABASE_KEY=… python docs/examples/implementer.py specs --run "claude -p" --from 7d44…

An agent that writes code is started for the specs of those alone who are named by --from: user ids, and "service" for what the
service role asked. Everybody else's specs are written down, and no more.

The spec goes to the command's standard input, never into its words: it is text that somebody wrote, and may hold anything. Each
event is handled once by its event id, which is the same on both ways and at every replay; a crash in between repeats it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sqlite3
import subprocess
import time
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Message = dict[str, Any]


def from_pubsub(subscription: str) -> Generator[tuple[str, str, Message], None, None]:
    """Messages of a subscription: event id, whose it is (a hash), message. What was yielded is acked when the next is asked
    for, or this is closed."""
    import grpc
    from google.api_core.exceptions import DeadlineExceeded
    from google.pubsub_v1 import SubscriberClient
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    transport = SubscriberGrpcTransport(channel=grpc.insecure_channel(emulator)) if emulator else None
    with SubscriberClient(transport=transport) as client:
        while True:
            try:
                pulled = client.pull(subscription=subscription, max_messages=10, timeout=30)
            except DeadlineExceeded:
                continue  # nothing came
            for item in pulled.received_messages:
                try:
                    attributes = item.message.attributes
                    yield attributes["event_id"], attributes["sender_hash"], json.loads(item.message.data)
                except GeneratorExit:
                    client.acknowledge(subscription=subscription, ack_ids=[item.ack_id])
                    raise
                client.acknowledge(subscription=subscription, ack_ids=[item.ack_id])


def from_table(days: int, handled: sqlite3.Connection) -> Generator[tuple[str, str, Message], None, None]:
    """Finished specs of architect_out that are not handled yet, as from_pubsub has them. Not by `id > last`: ids are not
    the order of commits."""
    from supabase import create_client

    client = create_client(os.environ["SUPABASE_URL"], os.environ["SUPABASE_KEY"])
    while True:
        since = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        page = 0
        while True:
            query = client.table("architect_out").select("event_id,data").eq("data->>msg_type", "spec")
            query = query.eq("data->metadata->>status", "completed").gte("created_at", since).order("id")
            rows: list[Any] = query.limit(200).offset(200 * page).execute().data
            for row in rows:
                if not handled.execute("select 1 from handled where event_id = ?", [row["event_id"]]).fetchone():
                    asked = client.schema("atlas").table("task").select("sender_key").eq("id", row["data"]["task_id"])
                    found: list[Any] = asked.execute().data
                    yield row["event_id"], sender_hash(found[0]["sender_key"]) if found else "", row["data"]
            if len(rows) < 200:
                break
            page += 1
        time.sleep(2)  # nothing announces a row to a plain reader; Realtime could, and this would still have to look


def sender_hash(sender: str) -> str:
    """A sender as messages on Pub/Sub name it."""
    return hashlib.sha256(sender.encode()).hexdigest()[:32]


def handle(message: Message, folder: Path, command: str | None, may_run: bool) -> None:
    """Writes the spec to <task_id>.md, whole or not at all, and hands it to the agent."""
    path = folder / f"{message['task_id']}.md"
    fresh = path.with_suffix(".new")
    fresh.write_text(message["content"], encoding="utf-8")
    fresh.replace(path)
    if command is None:
        print(path, flush=True)
    elif not may_run:
        print(f"{path}: its sender is not named by --from, and it is not implemented", flush=True)
    elif message["metadata"].get("truncated"):
        print(f"{path}: cut by its budget, and not implemented", flush=True)
    else:
        subprocess.run(shlex.split(command), input=message["content"].encode(), cwd=folder, check=True)


def main() -> None:
    """Runs until it is stopped; --most N ends it after N specs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where specs are written")
    parser.add_argument("--subscription", help="projects/<project>/subscriptions/<name>; without it, architect_out is read")
    parser.add_argument("--run", help="the agent's command; the spec is its standard input")
    parser.add_argument("--from", dest="senders", action="append", default=[], help="whose specs --run takes; may be repeated")
    parser.add_argument("--days", type=int, default=7, help="how far back architect_out is read")
    parser.add_argument("--most", type=int, help="ends after so many")
    options = parser.parse_args()
    if options.run and not options.senders:
        parser.error("--run needs --from: whose specs may start the agent? A user id (`atlas whoami`), or service")
    trusted = {sender_hash(sender) for sender in options.senders}
    options.folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(options.folder / "handled.sqlite", isolation_level=None)) as handled:
        handled.execute("create table if not exists handled (event_id text primary key)")
        source = from_pubsub(options.subscription) if options.subscription else from_table(options.days, handled)
        count = 0
        for event, sender, message in source:
            is_spec = message.get("msg_type") == "spec" and message["metadata"].get("status") == "completed"
            if not is_spec or handled.execute("select 1 from handled where event_id = ?", [event]).fetchone():
                continue
            handle(message, options.folder, options.run, sender in trusted)
            handled.execute("insert or ignore into handled values (?)", [event])
            count += 1
            if count == options.most:
                source.close()
                return


if __name__ == "__main__":
    main()
