"""One real Postgres for all tests; a database of its own for each that asks."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import settings

from atlas.database import migrate
from atlas.local.postgres import Cluster
from atlas.local.stack import Stack
from tests.doubles.openai import OpenAIDouble
from tests.support.core import Database, Workers, books_wrong, drop_database, workers_of

_numbers = itertools.count(1)


settings.register_profile("atlas", deadline=None)  # a busy machine is not a failure
settings.load_profile("atlas")

_QUICK = ("fsync", "synchronous_commit", "full_page_writes")
"""What keeps data through a crash of the machine: tests crash processes, and never the machine."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also what is long by nature: scripts/test --long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="long by nature: scripts/test --long runs it, and CI does"))


@pytest.fixture(scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """The embedded Postgres, with a template database."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    found = stack.start_postgres()
    try:
        await stack.prepare(found)
        admin = await asyncpg.connect(found.url("supabase_admin"))
        for name in _QUICK:
            await admin.execute(f"alter system set {name} = off")
        await admin.execute("select pg_reload_conf()")
        await admin.execute("create database atlas_template owner postgres")
        await admin.close()
        admin = await asyncpg.connect(found.url("supabase_admin", "atlas_template"))
        await migrate.provide_supabase(admin)
        await admin.close()
        operator = await asyncpg.connect(found.url("postgres", "atlas_template"))
        await migrate.migrate(operator)
        await migrate.seed(operator)
        await operator.execute((Path(__file__).parent / "support" / "testing.sql").read_text())
        await operator.close()
        yield found
    finally:
        stack.postgres.stop("immediate")


@pytest.fixture
async def database(cluster: Cluster, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """A fresh database, whose books are right in the end."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(cluster.url("supabase_admin"))
    await admin.execute(f"create database {name} template atlas_template strategy file_copy owner postgres")
    found = Database(cluster=cluster, name=name)
    try:
        yield found
        if request.node.get_closest_marker("cooks_the_books") is None:
            assert await books_wrong(found) == []
    finally:
        await drop_database(admin, name)
        await admin.close()


@pytest.fixture
async def db(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """An operator's connection to a fresh database."""
    async with database.connect() as connection:
        yield connection


@pytest.fixture
def workers(database: Database, tmp_path: Path) -> Iterator[Workers]:
    """Starts worker processes; kills them in the end."""
    with workers_of(database, tmp_path) as found:
        yield found


@pytest.fixture
def openai() -> Iterator[OpenAIDouble]:
    """A server that speaks the Responses API."""
    with OpenAIDouble() as double:
        yield double
