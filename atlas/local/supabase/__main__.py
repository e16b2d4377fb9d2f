"""The stand-in as a process: `python -m atlas.local.supabase --home .atlas`, as `atlas up` starts it."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

from atlas import logs
from atlas.errors import AtlasError, StackError
from atlas.local.postgres import EmbeddedPostgres
from atlas.local.process import bound_logs
from atlas.local.supabase.access import Keys
from atlas.local.supabase.app import open_stand_in


async def _serve(home: Path, port: int, port_file: Path | None) -> None:
    cluster = EmbeddedPostgres(home).load()
    if cluster is None:
        raise StackError(f"there is no stack in {home}", "run `atlas up`")
    keys = Keys(**json.loads((home / "keys.json").read_text()))
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with open_stand_in(cluster.url(), keys, port=port, port_file=port_file) as stand_in:
        logging.getLogger("atlas.supabase").info("the stand-in is open at %s", stand_in.url)
        keeping = asyncio.create_task(_keep_logs(home))
        # a stand-in that has lost a part of itself must not look open
        await asyncio.wait([asyncio.ensure_future(stopping.wait()), stand_in.running], return_when=asyncio.FIRST_COMPLETED)
        keeping.cancel()


async def _keep_logs(home: Path) -> None:
    while True:
        await asyncio.to_thread(bound_logs, home)
        await asyncio.sleep(60)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, help="leave the port here; take another one where it is in use")
    arguments = parser.parse_args()
    logs.set_up("console")
    try:
        asyncio.run(_serve(arguments.home, arguments.port, arguments.port_file))
    except AtlasError as error:
        print(f"atlas: {error.line}", file=sys.stderr)  # noqa: T201  its one line on the way out
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
