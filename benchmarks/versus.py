"""A commit against the working tree: a checkout of it for as long as it is measured, one measurement by it, and a table of both."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg

from atlas.local.postgres import Cluster

ROOT = Path(__file__).parent.parent


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """A worktree of the commit in a folder that is there."""
    other = folder / "base"
    subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(other), commit], cwd=ROOT, check=True)
    try:
        yield other
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=ROOT, check=True)


@asynccontextmanager
async def in_database(cluster: Cluster) -> AsyncIterator[str]:
    """An empty database, by its name, for as long as something is measured in it."""
    name = f"versus_{uuid4().hex}"
    admin = await asyncpg.connect(cluster.url("supabase_admin"))
    await admin.execute(f"create database {name} owner postgres")
    yield name
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()


async def by_code_of(checkout: Path, cluster: Cluster, file: str, *words: object, database: str | None = None) -> Any:
    """What a file says of a database that the code of a checkout migrates, in a process of its own: JSON in its last line.

    The file is called with --one, the URLs of the superuser, of an operator and of a worker, and the words. database: one that is
    there; by default a fresh one.
    """
    if database is None:
        async with in_database(cluster) as fresh:
            return await by_code_of(checkout, cluster, file, *words, database=fresh)
    urls = [cluster.url(role, database) for role in ("supabase_admin", "postgres", "atlas_worker")]
    process = await asyncio.create_subprocess_exec(
        # -P: its imports come from the checkout alone, not from beside the file
        sys.executable, "-P", file, "--one", *urls, *map(str, words),
        stdout=asyncio.subprocess.PIPE, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)},
    )  # fmt: skip
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the measurement of {checkout} failed")
    return json.loads(out.decode().splitlines()[-1])


def table(base: str, pairs: Sequence[tuple[Any, Any]], here: str = "here") -> str:
    """Each figure of two dataclasses of one kind: medians of both, and the ratios pair by pair."""
    lines = [f"| | {base} | {here} | ratio, pair by pair: median (range) |", "| --- | --- | --- | --- |"]
    for field in fields(pairs[0][0]):
        before = [getattr(one, field.name) for one, _ in pairs]
        after = [getattr(two, field.name) for _, two in pairs]
        ratios = [two / one for one, two in zip(before, after, strict=True)]
        lines.append(
            f"| {field.name} | {statistics.median(before):.4g} | {statistics.median(after):.4g} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return "\n".join(lines)
