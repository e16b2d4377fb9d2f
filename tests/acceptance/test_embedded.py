"""The embedded Postgres where it is hard: as root below a folder that only root may enter, on a port that is taken."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path

import asyncpg
import psutil
import pytest

from atlas.errors import StackError
from atlas.local.postgres import EmbeddedPostgres, default_binaries
from atlas.local.process import LONGEST_LOG, bound_logs
from atlas.local.stack import Stack
from atlas.local.supabase.app import open_stand_in


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to drop root; CI runs as root")
async def test_root_runs_it_as_somebody_else_also_below_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = default_binaries().parent.parent
    for name in (package.name, f"{package.name}.libs"):
        if (package.parent / name).exists():
            shutil.copytree(package.parent / name, closed / name, symlinks=True)
    postgres = EmbeddedPostgres(closed / "home", binaries=closed / package.name / "pginstall" / "bin")
    cluster = postgres.start()
    try:
        pid = int((cluster.data / "postmaster.pid").read_text().split()[0])
        assert psutil.Process(pid).uids().real != 0
        assert cluster.data.stat().st_mode & 0o077 == 0
        connection = await asyncpg.connect(cluster.url("supabase_admin"))
        assert await connection.fetchval("select current_setting('listen_addresses')") == "127.0.0.1"
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(cluster.url("supabase_admin"), password="wrong")
    finally:
        postgres.stop()
    assert not postgres.running()


async def test_it_moves_when_its_port_is_taken(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "home")
    first = postgres.start()
    postgres.stop()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", first.port))
        thief.listen()
        second = postgres.start()
        assert second.port != first.port
        await (await asyncpg.connect(second.url("supabase_admin"))).close()
    postgres.erase()
    assert not (tmp_path / "home" / "postgres").exists()


def test_a_broken_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{broken")
    with pytest.raises(StackError) as caught:
        EmbeddedPostgres(tmp_path).start()
    assert "run `atlas down --erase` to begin anew" in caught.value.line


def test_binaries_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="initdb is not there"):
        EmbeddedPostgres(tmp_path / "home", binaries=tmp_path).start()


async def test_an_idle_stack_writes_no_log(tmp_path: Path) -> None:
    """The stand-in looks for changes all the time; what it reads of them is nobody's news."""
    stack = Stack(tmp_path / "home")
    cluster = stack.start_postgres()
    try:
        await stack.prepare(cluster)
        async with open_stand_in(cluster.url(), stack.keys()):
            db = await asyncpg.connect(cluster.url())
            begun = cluster.log.stat().st_size
            for _ in range(20):
                await db.execute("select realtime.send('{}', 'x', 'y', false)")
                await asyncio.sleep(0.1)
            assert cluster.log.read_text()[begun:] == ""
            with pytest.raises(asyncpg.PostgresError):
                await db.execute("this is not SQL")
            assert "this is not SQL" in cluster.log.read_text()[begun:], "other sessions' errors are kept"
            await db.close()
    finally:
        stack.postgres.stop("immediate")


def test_a_long_log_begins_anew_and_its_writer_goes_on(tmp_path: Path) -> None:
    log, short = tmp_path / "worker.log", tmp_path / "stand_in.log"
    short.write_text("short\n")
    with log.open("ab", buffering=0) as writer:
        for n in range(3):
            writer.write(b"%d\n" % n + b"x" * LONGEST_LOG)
            bound_logs(tmp_path)
            writer.write(b"next\n")
            assert log.read_bytes() == b"next\n"
            os.truncate(log, 0)
    assert (tmp_path / "worker.log.1").stat().st_size == LONGEST_LOG + 2
    assert short.read_text() == "short\n"
