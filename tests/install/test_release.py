"""A release, made by scripts/release in a copy of this repository; and its wheel, installed where there is nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import asyncpg
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from atlas.local.postgres import Cluster
from tests.support.core import ROOT, clean_environment, empty_database

VERSION = "9.9.9"


def run(*command: str | Path, cwd: Path, code: int = 0, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=580,
        env=clean_environment() | {"PYTHONPATH": ""} | env,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is here, as a repository of its own; its .venv has the packages of this one, and says that they are those of the lock."""
    folder = tmp_path_factory.mktemp("copy")
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in names.splitlines():
        if not name.startswith(("tests/", "benchmarks/")) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    (folder / ".venv").mkdir()
    shutil.copy2(Path(sys.prefix, "pyvenv.cfg"), folder / ".venv")
    for name in ("bin", "lib"):
        (folder / ".venv" / name).symlink_to(Path(sys.prefix, name))
    want = run("bash", "-c", "cat pyproject.toml requirements-dev.lock | cksum", cwd=folder)
    (folder / ".venv/.requirements-dev.lock.installed").write_text(want)
    (folder / ".git-exclude").write_text(".venv\n.git-exclude\n")
    run("git", "init", "--quiet", "-b", "main", cwd=folder)
    run("git", "config", "core.excludesFile", folder / ".git-exclude", cwd=folder)
    for name, value in (("user.name", "A Maintainer"), ("user.email", "maintainer@example.com")):
        run("git", "config", name, value, cwd=folder)
    run("git", "add", "--all", cwd=folder)
    run("git", "commit", "--quiet", "--message", "All of it", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def released(copy: Path) -> Path:
    run("scripts/release", VERSION, cwd=copy)
    return copy


@pytest.mark.parametrize(
    ("version", "said"),
    [("", "name a version"), ("1.0", "name a version"), ("v1.0.0", "name a version"), ("1.0.0; rm x", "name a version")],
)
def test_what_is_no_version_is_refused(copy: Path, version: str, said: str) -> None:
    before = run("git", "rev-parse", "HEAD", cwd=copy)
    assert said in run("scripts/release", version, cwd=copy, code=2)
    assert run("git", "rev-parse", "HEAD", cwd=copy) == before


def test_what_is_not_committed_is_not_released(copy: Path) -> None:
    stray = copy / "stray.txt"
    stray.write_text("x")
    try:
        assert "not committed" in run("scripts/release", "9.9.8", cwd=copy, code=2)
    finally:
        stray.unlink()


def test_a_release_is_committed_tagged_and_in_dist(released: Path) -> None:
    assert run("git", "describe", "--exact-match", cwd=released).strip() == f"v{VERSION}"
    assert f'__version__ = "{VERSION}"' in (released / "atlas/__init__.py").read_text()
    changelog = (released / "CHANGELOG.md").read_text()
    assert changelog.index("## [Unreleased]") < changelog.index(f"## [{VERSION}] - 20")
    assert f"newTag: {VERSION}" in (released / "deploy/kubernetes/example/kustomization.yaml").read_text()
    assert sorted(path.name for path in (released / "dist").iterdir()) == [
        "SHA256SUMS", f"atlas-architect-{VERSION}.cdx.json", f"atlas_architect-{VERSION}-py3-none-any.whl",
    ]  # fmt: skip
    run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=released / "dist")
    assert "is tagged already" in run("scripts/release", VERSION, cwd=released, code=2)
    assert "nothing under Unreleased" in run("scripts/release", "9.9.10", cwd=released, code=2)


def test_a_release_that_is_refused_leaves_everything_as_it_was(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "refused"
    shutil.copytree(copy, folder, symlinks=True)
    shutil.rmtree(folder / "dist", ignore_errors=True)
    (folder / "scripts/audit_packages").write_text("#!/bin/sh\nexit 1\n")
    (folder / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n- something\n")
    run("git", "commit", "-qam", "a package has a known vulnerability", cwd=folder)
    before = run("git", "rev-parse", "HEAD", cwd=folder)
    assert "known vulnerability" in run("scripts/release", "9.9.11", cwd=folder, code=2)
    assert run("git", "status", "--porcelain", cwd=folder) == ""
    assert run("git", "rev-parse", "HEAD", cwd=folder) == before
    assert "v9.9.11" not in run("git", "tag", cwd=folder)
    assert not (folder / "dist").exists()


def test_the_sbom_names_every_package_that_runs(released: Path) -> None:
    text = (released / f"dist/atlas-architect-{VERSION}.cdx.json").read_text()
    bom = json.loads(text)
    assert JsonStrictValidator(SchemaVersion.from_version(bom["specVersion"])).validate_str(text) is None
    assert (bom["metadata"]["component"]["name"], bom["metadata"]["component"]["version"]) == ("atlas-architect", VERSION)
    listed = {(one["name"].lower(), one["version"]) for one in bom["components"]}
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {tuple(line.split()[0].lower().split("==")) for line in lines if "==" in line and line[0].isalnum()}
    assert listed == locked
    without = [
        one["name"] for one in bom["components"]
        if not any(reference.get("hashes") for reference in one.get("externalReferences", []))
    ]  # fmt: skip
    assert without == [], "each says the hashes of its files"


def test_the_wheel_has_what_it_needs_and_nothing_else(released: Path) -> None:
    with zipfile.ZipFile(released / f"dist/atlas_architect-{VERSION}-py3-none-any.whl") as wheel:
        names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"atlas", f"atlas_architect-{VERSION}.dist-info"}
    for folder in ("migrations", "seed", "examples/team", "examples/replies"):
        ours = {path.name for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert {name.rpartition("/")[2] for name in names if name.startswith(f"atlas/_{folder}/")} == ours


# --- installed ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions of the lock, without the hashes, which a wheel on disk does not have."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    found = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    found.write_text("\n".join(line.rstrip(" \\") for line in lines if "==" in line and line[0].isalnum()) + "\n")
    return found


def at_home(folder: Path) -> dict[str, str]:
    """An environment of somebody who has nothing: no clone, no packages, a home of their own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    bins = Path(sys.executable).parent
    names = (
        "PATH",
        "LANG",
        "PIP_CERT",
        "SSL_CERT_FILE",
        "PIP_INDEX_URL",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "http_proxy",
        "https_proxy",
    )
    return {name: os.environ[name] for name in names if name in os.environ} | {
        "HOME": str(home), "PATH": f"{bins}:{os.environ['PATH']}", "UV_CACHE_DIR": str(folder / "cache"), "UV_NATIVE_TLS": "true",
        "PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "bin"), "PIPX_DEFAULT_BACKEND": "pip", "ATLAS_ENV_FILE": "",
    }  # fmt: skip


def alone(env: dict[str, str], *command: str | Path, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_uvx_runs_the_bare_wheel(released: Path, tmp_path: Path, cluster: Cluster, constraints: Path) -> None:
    env = at_home(tmp_path)
    wheel = released / f"dist/atlas_architect-{VERSION}-py3-none-any.whl"

    async def atlas(*words: str, code: int = 0, **more: str) -> str:
        command: tuple[str | Path, ...] = (
            "uvx",
            "--python",
            sys.executable,
            "--constraints",
            constraints,
            "--from",
            wheel,
            "atlas-architect",
            *words,
        )
        return await asyncio.to_thread(alone, env | more, *command, cwd=tmp_path, code=code)

    assert f"atlas {VERSION}" in await atlas("--version")
    assert "atlas-architect[stack]" in await atlas("up", code=2)
    async with empty_database(cluster, "wheel") as database:
        assert "migrations applied" in await atlas("migrate", "--include-seed", DATABASE_URL=database.url())
        assert "all are applied" in await atlas("doctor", DATABASE_URL=database.url())
        async with database.connect() as db:
            assert await db.fetchval("select count(*) from atlas.model") == 9
            assert isinstance(db, asyncpg.Connection)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_pipx_installs_what_runs_the_demo(released: Path, tmp_path: Path, constraints: Path) -> None:
    env = at_home(tmp_path) | {"PIP_CONSTRAINT": str(constraints), "ATLAS_HOME": str(tmp_path / "stack")}
    wheel = released / f"dist/atlas_architect-{VERSION}-py3-none-any.whl"
    alone(env, "pipx", "install", "--python", sys.executable, f"{wheel}[stack,rag]", cwd=tmp_path)
    atlas = tmp_path / "bin" / "atlas"
    said = alone(env, atlas, "demo", cwd=tmp_path)
    assert "## Decision" in said
    assert "receipt" in said.lower() or "USD" in said
    assert alone(env, atlas, "schema", cwd=tmp_path).lstrip().startswith("{")
