"""Two more roles of a crew on the bus: Forge builds, Sentinel checks. Each takes the messages of its role, once.

    DATABASE_URL=… python docs/examples/crew.py forge --run "make build" --from 7d44…
    DATABASE_URL=… python docs/examples/crew.py sentinel --run "make check"

A role is a word in the message: whoever wants something built inserts a row into architect_in with the role `forge`. Atlas
keeps it, and queues nothing. Anybody with a login may insert one, so each role takes messages of those alone whom --from
names: user ids, and "service" for what the service role sends, such as Forge's own (the default). Forge runs its command with
the text on standard input (never in its words: it may hold anything), and sends what came of it to `sentinel`. Sentinel runs
its own command on that; where it fails, it escalates: the audit has it, and `atlas_escalations_total` counts it. DATABASE_URL
is an operator's, or that of a role that may write to architect_in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

Message = dict[str, Any]
OUTPUT = 20_000
"""Characters of a command's output that are handed on."""


async def inbox(db: asyncpg.Connection, role: str, senders: list[str], handled: Path) -> list[Message]:
    """Messages of a role that are not handled yet, oldest first. handled: a file of ids, one per line."""
    done = set(handled.read_text().split()) if handled.exists() else set()
    rows = await db.fetch(
        "select data from public.architect_in where data ->> 'role' = $1 and coalesce(sender::text, 'service') = any ($2) "
        "and created_at > now() - interval '30 days' order by id",
        role, senders,
    )  # fmt: skip
    messages = [json.loads(row["data"]) for row in rows]
    return [message for message in messages if message["task_id"] not in done]


async def run(command: str, text: str, seconds: float) -> tuple[int, str]:
    """Exit code and output of a command that reads a text; 127 where it is not found, 124 where it takes longer than it may."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
    except OSError as error:
        return 127, str(error)
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate(text.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        return 124, f"{command} took longer than {seconds:g} s"
    return process.returncode or 0, output.decode(errors="replace")[-OUTPUT:]


async def send(db: asyncpg.Connection, role: str, msg_type: str, content: str, parent: str | None) -> None:
    message = {"task_id": str(uuid4()), "role": role, "msg_type": msg_type, "content": content,
               "metadata": {"parent_id": parent, "schema_ver": 1}}  # fmt: skip
    await db.execute("insert into public.architect_in (data) values ($1::jsonb)", json.dumps(message))


async def forge(db: asyncpg.Connection, message: Message, command: str, seconds: float) -> str:
    """Builds, and hands what came of it to Sentinel."""
    code, output = await run(command, message["content"], seconds)
    parent = message.get("metadata", {}).get("parent_id")
    await send(db, "sentinel", "chat", f"exit code {code}\n\n{output}", parent)
    return f"built with exit code {code}"


async def sentinel(db: asyncpg.Connection, message: Message, command: str, seconds: float) -> str:
    """Checks, and escalates what does not pass."""
    code, output = await run(command, message["content"], seconds)
    if code == 0:
        return "passed"
    parent = message.get("metadata", {}).get("parent_id")
    told = {"command": "escalate", "task_id": parent, "code": "sentinel", "message": output[-500:] or f"exit code {code}"}
    await send(db, "architect", "control", json.dumps(told), None)
    return f"escalated: exit code {code}"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=("forge", "sentinel"))
    parser.add_argument("--run", required=True, help="the command; the text comes on its standard input")
    parser.add_argument(
        "--from", dest="senders", action="append", help="whose messages it takes (default: service); may be repeated"
    )
    parser.add_argument("--timeout", type=float, default=600, help="seconds that the command may take (default: 600)")
    parser.add_argument("--handled", type=Path, help="a file of what is done (default: ROLE.handled)")
    parser.add_argument("--once", action="store_true", help="end when nothing waits")
    arguments = parser.parse_args()
    handled = arguments.handled or Path(f"{arguments.role}.handled")
    work = {"forge": forge, "sentinel": sentinel}[arguments.role]
    db = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        while True:
            for message in await inbox(db, arguments.role, arguments.senders or ["service"], handled):
                # what it sends is committed before the file is written: a crash in between repeats a message
                said = await work(db, message, arguments.run, arguments.timeout)
                with handled.open("a") as file:
                    file.write(message["task_id"] + "\n")
                print(f"{message['task_id']}: {said}", flush=True)
            if arguments.once:
                return
            await asyncio.sleep(2)
    finally:
        await db.close()


if __name__ == "__main__":
    asyncio.run(main())
