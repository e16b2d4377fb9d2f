"""Decisions and the repository that they are for: written into it, read from it, checked against it; without loss."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import yaml

from atlas.errors import UsageError
from atlas.local.postgres import Cluster
from atlas.record import agents, files, front_matter, plan, stale
from atlas.record.parse import parse
from tests.acceptance.test_decisions import answered
from tests.support.core import ADR, ROOT, Database, atlas_on, empty_database

NYGARD = {
    "0001-record-architecture-decisions.md": "# 1. Record architecture decisions\n\nDate: 2024-03-01\n\n## Status\n\nAccepted\n\n"
    "## Context\n\nWe need to record them.\n\n## Decision\n\nWe will.\n\n## Consequences\n\nSee Nygard.\n",
    "0002-use-mysql.md": "# 2. Use MySQL\n\nDate: 2024-03-02\n\n## Status\n\nSuperceded by [3. Use Postgres](0003-use-postgres.md)\n\n"
    "## Context\n\nx\n",
    "0003-use-postgres.md": "# 3. Use Postgres\n\nDate: 2024-03-05\n\n## Status\n\nAccepted\n\nSupercedes [2. Use MySQL](0002-use-mysql.md)\n\n"
    "## Context\n\nx\n",
    "0004-maybe-redis.md": "# 4. Maybe Redis\n\nDate: 2024-03-06\n\n## Status\n\nProposed\n\n## Context\n\nx\n",
}  # fmt: skip
ODD = {
    "0000-use-records.md": "\ufeff# Use records\r\n\r\n## Context\r\n\r\nx\r\n",
    "0001-in-review.md": "# 1. In review\n\n## Status\n\nIn Review\n\n## Context\n\nx\n",
    "0002-modules.md": "---\nstatus: accepted\ndeciders: @ann, @bob\ndate: 2025-01-01\n---\n\n# Modules\n\nx\n",
    "0003-old-modules.md": "# 3. Old modules\n\n## Status\n\nSuperseded by [ES2020 modules](0002-modules.md)\n\n"
    "Amends [1](0001-in-review.md)\n\n## Context\n\nx\n",
}  # fmt: skip
MADR = {
    "0001-use-madr.md": "---\nstatus: accepted\ndate: 2025-01-02\ndecision-makers: [Ann, Bob]\n---\n\n# Use MADR\n\n## Context and Problem Statement\n\nx\n",
    "0002-old-way.md": "---\n# a comment\nstatus: superseded by ADR-0001\ndate: 2025-01-01\n---\n\n# The old way\n\nx\n",
    "0003-bullets.md": "# Bullets of MADR 2\n\n* Status: rejected\n* Date: 2025-01-03\n\n## Context\n\nx\n",
}  # fmt: skip


def repository(folder: Path, **texts: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def adr_folder(folder: Path, records: dict[str, str]) -> Path:
    return repository(folder, **{f"docs/adr/{name}": text for name, text in records.items()})


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_bytes().decode() for path in sorted((folder / "docs/adr").glob("*.md"))}


@pytest.mark.parametrize("records", [NYGARD, MADR, ODD], ids=["nygard", "madr", "odd"])
async def test_a_folder_goes_in_and_comes_out_byte_for_byte(
    database: Database, db: asyncpg.Connection, tmp_path: Path, records: dict[str, str]
) -> None:
    folder = adr_folder(tmp_path / "a", records)
    assert f"{len(records)} imported, 0 unchanged" in await atlas_on(database, "decisions", "import", str(folder))
    assert f"0 imported, {len(records)} unchanged" in await atlas_on(database, "decisions", "import", str(folder))
    rows = await db.fetch(
        "select number, status, superseded_by, title, decided_at::date::text as day from atlas.decision order by number"
    )
    found = [(row["number"], row["status"], row["superseded_by"]) for row in rows]
    if records is NYGARD:
        assert found == [(1, "accepted", None), (2, "superseded", 3), (3, "accepted", None), (4, "proposed", None)]
        assert (rows[1]["title"], rows[1]["day"]) == ("Use MySQL", "2024-03-02")
    elif records is MADR:
        assert found == [(1, "accepted", None), (2, "superseded", 1), (3, "rejected", None)]
    else:
        assert found == [(0, "accepted", None), (1, "proposed", None), (2, "accepted", None), (3, "superseded", 2)]
    await atlas_on(database, "decisions", "export", str(folder))
    assert contents(folder) == records
    other = repository(tmp_path / "b")
    await atlas_on(database, "decisions", "export", str(other))
    assert contents(other) == records


async def test_what_was_superseded_since_changes_its_status_and_nothing_else(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    folder = adr_folder(tmp_path / "a", NYGARD)
    await atlas_on(database, "decisions", "import", str(folder))
    task = await answered(
        db, "Use SQLite", kind="adr", record={"constraints": ["The store must be one file."], "paths": [], "checks": []}
    )
    assert "ADR-5 accepted" in await atlas_on(database, "accept", str(task), "--supersedes", "3")
    said = await atlas_on(database, "decisions", "export", str(folder))
    now = contents(folder)
    assert now["0003-use-postgres.md"] == NYGARD["0003-use-postgres.md"].replace(
        "Accepted\n\nSupercedes", "Superseded by ADR-0005\n\nSupercedes"
    )
    assert {name: now[name] for name in NYGARD if "0003" not in name} == {n: NYGARD[n] for n in NYGARD if "0003" not in n}
    assert now["0005-use-sqlite.md"].startswith("# 5. Use SQLite\n\nDate: "), "in the team's format"
    assert "docs/adr/0005-use-sqlite.md" in said
    assert "- ADR-5 Use SQLite (everything):\n  - The store must be one file." in (folder / "AGENTS.md").read_text()
    assert "nothing changed" in await atlas_on(database, "decisions", "export", str(folder)), "it is idempotent"
    assert "0 imported, 5 unchanged" in await atlas_on(database, "decisions", "import", str(folder))
    (folder / "docs/adr/0003-use-postgres.md").write_text(NYGARD["0003-use-postgres.md"])
    await atlas_on(database, "decisions", "import", str(folder))
    assert await db.fetchval("select status from atlas.decision where number = 3") == "superseded", "an old file undoes nothing"


async def test_a_decision_of_atlas_is_the_same_in_another_database(
    database: Database, db: asyncpg.Connection, cluster: Cluster, tmp_path: Path
) -> None:
    binds = {"constraints": ["Each push must be checked: “always”."], "paths": ["ci/**"], "checks": ["make check"]}
    source = {"id": "S1", "path": "a.md:1-2", "sha256": "ab" * 32, "cited": True}
    task = await answered(
        db, "Ship it", kind="adr", record=binds, sources=[source, source | {"cited": False, "path": "b.md:1-2"}]
    )
    await db.execute("select atlas.accept($1)", task)
    folder = repository(tmp_path / "a", **{"ci/x.yml": "x"})
    await atlas_on(database, "decisions", "export", str(folder))
    (text,) = contents(folder).values()
    front = yaml.safe_load(text.split("---")[1])
    assert front["sources"] == [f"sha256:{'ab' * 32} a.md:1-2"]
    assert {name: front[name] for name in binds} == binds
    assert (front["number"], front["status"]) == (1, "accepted")
    async with empty_database(cluster, "elsewhere") as other:
        await atlas_on(other, "migrate")
        assert "1 imported" in await atlas_on(other, "decisions", "import", str(folder))
        copied = repository(tmp_path / "b", **{"ci/x.yml": "x"})
        await atlas_on(other, "decisions", "export", str(copied))
    assert contents(copied) == contents(folder)
    assert (copied / "AGENTS.md").read_text() == (folder / "AGENTS.md").read_text()


async def test_agents_are_told_what_binds_the_paths_at_hand_between_marks(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    for title, paths in (("Here", ["src/**", "x`\n-->"]), ("There", ["android/**"])):
        record = {"constraints": [f"{title} must hold <!-- really -->."], "paths": paths, "checks": []}
        await db.execute("select atlas.accept($1)", await answered(db, title, kind="adr", record=record))
    folder = repository(tmp_path / "a", **{"src/a.py": "x", "CLAUDE.md": "# Ours\n\nBe kind.\n"})
    await atlas_on(database, "decisions", "export", str(folder))
    text = (folder / "CLAUDE.md").read_text()
    assert text.startswith("# Ours\n\nBe kind.\n\n" + agents.BEGIN)
    assert "Here must hold ‹!-- really --›." in text
    assert "There" not in text
    (folder / "CLAUDE.md").write_text(text + "\nAfter it.\n")
    await db.execute("select atlas.supersede((select project_id from atlas.decision limit 1), 1, 2)")
    await atlas_on(database, "decisions", "export", str(folder))
    text = (folder / "CLAUDE.md").read_text()
    assert "Here must hold" not in text
    assert text.endswith("\nAfter it.\n")
    (folder / "CLAUDE.md").write_text(agents.BEGIN)
    assert "the marks of its section are broken" in await atlas_on(database, "decisions", "export", str(folder), code=2)
    assert "outside of" in await atlas_on(database, "decisions", "export", str(folder), "--records", "../up", code=2)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"0007-a.md": "# A\n\n## Status\n\nPerhaps\n"}, "0007-a.md has no status that is known (Perhaps)"),
        ({"0007-a.md": "# A\n\n* Status: accepted\n* Date: 2024-02-30\n"}, "2024-02-30 is not a valid date"),
        ({"0007-a.md": "---\nnumber: 7\nowner: a\nstatus: superseded\ndate: 2026-01-01\n---\n\n# A\n"}, "goes with superseded_by"),
        (
            {"0007-a.md": "---\nnumber: 7\nowner: a\nstatus: accepted\ndate: 2026-01-01\npaths: ['a`b']\n---\n\n# A\n"},
            "a path is a glob inside of the repository",
        ),
        ({"0007-a.md": "---\nstatus: [\n---\n# A\n"}, "0007-a.md: its front matter cannot be read"),
        ({"0007-a.md": "---\na: &a [x]\nb: *a\nstatus: accepted\n---\n# A\n"}, "it has anchors"),
        ({"0007-a.md": "---\nnumber: 7\nowner: ann\nstatus: accepted\ndate: soon\n---\n\n# A\n"}, "breaks the schema at date"),
        (
            {"0007-a.md": "---\nnumber: 7\nowner: a\nstatus: accepted\ndate: 2026-01-01\nconstraints: [be nice]\n---\n\n# A\n"},
            "a constraint says must or must not",
        ),
        ({"0001-a.md": "# A\n\n* Status: superseded by ADR-2\n", "0002-b.md": "# B\n\n* Status: superseded by ADR-1\n"}, "in a circle"),
        ({"0001-a.md": "# A\n\n* Status: superseded by ADR-9\n"}, "superseded by ADR-9, which is not there"),
        ({"notes.md": "x"}, "no records found"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_folder_is_named_and_nothing_is_taken(
    database: Database, db: asyncpg.Connection, tmp_path: Path, broken: dict[str, str], said: str
) -> None:
    good = {} if "notes.md" in broken else {"0099-good.md": "# Good\n\n* Status: accepted\n"}
    folder = adr_folder(tmp_path / "a", broken | good)
    code = 4 if "circle" in said or "not there" in said else 2
    out = await atlas_on(database, "decisions", "import", str(folder), code=code)
    assert said in " ".join(out.split())
    assert await db.fetchval("select count(*) from atlas.decision") == 0


async def test_five_hundred_files_of_which_two_have_one_number(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    many = {f"{n:04}-record.md": f"# Record {n}\n\n* Status: accepted\n" for n in range(1, 501)}
    folder = adr_folder(tmp_path / "a", many | {"0250-other.md": "# Other\n\n* Status: accepted\n"})
    out = await atlas_on(database, "decisions", "import", str(folder), code=2)
    assert "0250-other.md and 0250-record.md are both ADR-250" in " ".join(out.split())
    (folder / "docs/adr/0250-other.md").unlink()
    assert "500 imported" in await atlas_on(database, "decisions", "import", str(folder))
    assert await db.fetchval("select count(*) from rag.document") == 500


async def test_a_checkout_that_outgrew_its_decisions_is_told_so(
    database: Database, db: asyncpg.Connection, tmp_path: Path
) -> None:
    context = "## Context\n\n`src/app.py` calls `OldClient` and `NewClient`; `src/gone.py` is read by `load_all()`."
    record = {
        "constraints": ["Handlers must use the client library."],
        "paths": ["src/**", "lib/**"],
        "checks": ["true", "false --really"],
    }
    task = await answered(db, "Use the client", kind="adr", record=record)
    await db.execute("update public.architect_out set data = jsonb_set(data, '{content}', to_jsonb($2::text)) where task_id = $1 "
                     "and data #>> '{metadata,status}' = 'completed'", task, f"# Use the client\n\n{context}\n")  # fmt: skip
    await db.execute("select atlas.accept($1)", task)
    other = {"constraints": ["Handlers must not use the client library."], "paths": [], "checks": []}
    await db.execute("select atlas.accept($1)", await answered(db, "Drop the client", kind="adr", record=other))
    folder = repository(tmp_path / "a", **{"src/app.py": "from x import NewClient\ndef load_all(): ...\n", "a.md": "OldClient"})
    found = json.loads(await atlas_on(database, "decisions", "check", str(folder), "--json", code=1))
    assert [(one["adr"], one["kind"], one["text"]) for one in found] == [
        ("ADR-1", "path", "no file matches lib/**"),
        ("ADR-1", "reference", "src/gone.py is gone"),
        ("ADR-1", "symbol", "OldClient is nowhere in the code"),
        ("ADR-1, ADR-2", "conflict", "“Handlers must use the client library.” and “Handlers must not use the client library.”"),
    ]  # fmt: skip
    indexed = await atlas_on(database, "index", str(folder), cwd=tmp_path)
    assert "ADR-1: src/gone.py is gone" in indexed, "a repository that is indexed is looked at"
    listed = await atlas_on(database, "check", str(folder))
    assert "false --really" in listed
    assert "not run" in listed
    said = await atlas_on(database, "check", str(folder), "--run", "--json", code=1)
    ran, _ = json.JSONDecoder().raw_decode(said)
    assert [one["outcome"] for one in ran] == ["passed", "failed (1)"]
    await db.execute("select atlas.supersede((select project_id from atlas.decision limit 1), 1, 2)")
    assert "1 decisions hold, and nothing speaks against them" in await atlas_on(database, "decisions", "check", str(folder))


@pytest.mark.parametrize(
    "bad",
    [
        {"file": "../../../evil.md"}, {"file": "/etc/x.md"}, {"file": "x.sh"}, {"number": "abc"}, {"number": 99999999999},
        {"decided_at": "x"}, {"status": "superseded"}, {"superseded_by": 7, "status": "accepted"},
        {"superseded_by": 7, "status": "superseded"}, {"paths": ["a`\n<!-- x -->"]}, {"paths": ["../up"]},
    ],
)  # fmt: skip
async def test_records_that_are_none_are_refused_at_the_entrance(db: asyncpg.Connection, bad: dict[str, Any]) -> None:
    record = {"number": 7, "title": "A", "content": "# A\n", "status": "accepted"} | bad
    with pytest.raises(asyncpg.PostgresError) as refused:
        await db.execute("select atlas.import_decisions('00000000-0000-0000-0000-000000000001', $1)", [record])
    assert refused.value.sqlstate == "AT001"


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("src/**", ["src/a.py", "src/x/b.py"], ["a.py", "lib/src/a.py"]),
        ("**/*.sql", ["a.sql", "db/x/a.sql"], ["a.py"]),
        ("api/*.py", ["api/a.py"], ["api/x/a.py"]),
        ("docs", ["docs/a.md", "docs"], ["docs2/a.md"]),
        ("./web/", ["web/a/b.ts"], ["web.ts"]),
        ("a?.[ch]", ["ab.c"], ["ab.o", "abc.c"]),
        ("**/" * 12 + "x", ["a/" * 20 + "x", "x"], ["a/" * 24 + "y", "a/" * 600 + "y"]),
        ("**a" * 8 + "x", ["a" * 60 + "x"], ["a" * 60]),
    ],
)
def test_globs_are_those_of_git(pattern: str, matching: list[str], other: list[str]) -> None:
    assert [file for file in matching if not stale.matches(pattern, file)] == []
    assert [file for file in other if stale.matches(pattern, file)] == []


def test_a_record_in_form_binds_what_its_file_says() -> None:
    row: dict[str, Any] = {
        "number": 7, "title": "Keep ünïcode / slashes", "status": "accepted", "superseded_by": None, "decided_at": "2026-11-28T10:00:00+00:00",
        "decided_by": "user:1", "constraints": ["x must: 'hold'"], "paths": [], "checks": [], "sources": [], "file": None,
        "project_id": UUID(int=1),
    }  # fmt: skip
    name, text = files.file_of(row, ADR, [3])
    assert name == "0007-keep-unicode-slashes.md"
    read = files.read_file(text, name)
    assert (read.number, read.owner, read.content, read.binds.constraints) == (7, "user:1", text, ("x must: 'hold'",))
    assert parse(read.content).title == "Ship with a pipeline"
    for kind in ("madr", "nygard"):
        _, written = files.file_of(row, ADR, [3], kind)
        assert files.format_of(written, name) == kind
        assert files.read_file(written, name).status == "accepted"
    with pytest.raises(UsageError, match="has no number"):
        files.read_file("# A\n", "a.md")


def test_the_schemas_are_published() -> None:
    for name, known in (("decision", front_matter.schema()), ("plan", plan.schema())):
        assert json.loads((ROOT / f"docs/schemas/{name}.json").read_text()) == known, (
            f"atlas schema {name} > docs/schemas/{name}.json"
        )
