"""The image and the compose file: Docker does not run in tests, so they are linted, checked against their schema, and every
command in them is run outside."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from check_jsonschema.cli import main as check_jsonschema
from click.testing import CliRunner
from ruamel.yaml import YAML

from atlas.variables import describe, is_setting, secret_in_file
from tests.support.core import ROOT, Database, Workers, run_atlas

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")


def check(path: Path) -> int:
    return CliRunner().invoke(check_jsonschema, ["--builtin-schema", "vendor.compose-spec", str(path)]).exit_code


def test_the_dockerfile_is_linted(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, "--no-color", "--failure-threshold", "style", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.replace("python:3.13-slim-bookworm", "python"))
    assert subprocess.run([hadolint, bad], capture_output=True, check=False).returncode != 0, "the check can fail"


def test_compose_is_true_to_its_schema(tmp_path: Path) -> None:
    assert check(ROOT / "docker-compose.yml") == 0
    bad = tmp_path / "docker-compose.yml"
    bad.write_text((ROOT / "docker-compose.yml").read_text().replace("read_only:", "read_onli:"))
    assert check(bad) != 0, "the check can fail"


def test_the_image_is_slim_and_runs_as_nobody_special() -> None:
    last = DOCKERFILE.split("FROM ")[-1]
    assert re.search(r"^USER 10001$", last, re.MULTILINE)
    assert not re.search(r"gcc|build-essential|curl|wget", DOCKERFILE), "wheels only"
    assert "apt-get" not in last, "no tools that the worker does not need"
    assert "--only-binary :all: --require-hashes" in DOCKERFILE
    assert last.count("COPY") == 1


def test_every_file_that_the_image_copies_is_there() -> None:
    for line in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name


def test_settings_of_the_image_and_compose_are_settings() -> None:
    worker = COMPOSE["services"]["worker"]["environment"]
    for name in [*worker, *COMPOSE["services"]["migrate"]["environment"], *re.findall(r"(ATLAS_\w+)=", DOCKERFILE)]:
        assert is_setting(name), name
    for name, value in worker.items():
        if secret_in_file(name):
            assert value.removeprefix("/run/secrets/") in COMPOSE["services"]["worker"]["secrets"]


def test_compose_passes_every_setting_to_the_worker() -> None:
    passed = {secret_in_file(name) or name: value for name, value in COMPOSE["services"]["worker"]["environment"].items()}
    # the image's own: where it listens; a container has no embedded stack, and no knowledge service in the worker
    own = {"ATLAS_HTTP_HOST", "ATLAS_HTTP_PORT", "ATLAS_HOME", "RAG_HTTP_HOST", "RAG_HTTP_PORT"}
    assert {row.name for row in describe()} - own == set(passed)
    for name, value in passed.items():
        assert name in value or value.startswith("/run/secrets/"), name
    assert COMPOSE["services"]["worker"]["container_name"] == "atlas-worker"


def test_compose_passes_every_setting_to_the_knowledge_service() -> None:
    passed = {secret_in_file(name) or name: value for name, value in COMPOSE["services"]["rag"]["environment"].items()}
    # RAG_URL is how others find it; where it listens stands in its command
    own = {"RAG_URL", "RAG_HTTP_HOST", "RAG_HTTP_PORT"}
    assert {row.name for row in describe() if row.name.startswith("RAG_")} - own <= set(passed)
    assert {"DATABASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "ATLAS_LOG_FORMAT"} <= set(passed)
    for name, value in passed.items():
        assert is_setting(name), name
        assert name in value or value.startswith("/run/secrets/"), name


def test_the_functions_runtime_knows_every_function() -> None:
    main = COMPOSE["configs"]["functions_main"]["content"]
    (known,) = re.findall(r"new Set\(\[(.*?)\]\)", main)
    functions = {path.parent.name for path in (ROOT / "functions").glob("*/index.ts")}
    assert set(re.findall(r'"([\w-]+)"', known)) == functions
    assert "$" not in main, "compose would take it for a variable"


def test_every_service_of_the_manual_is_there_and_full_is_a_profile() -> None:
    services = COMPOSE["services"]
    assert {name for name, service in services.items() if "profiles" not in service} == {
        "migrate", "worker", "mirror", "rag", "pubsub", "prometheus", "grafana",
    }  # fmt: skip
    assert {name for name, service in services.items() if service.get("profiles") == ["full"]} == {
        "db",
        "auth",
        "rest",
        "realtime",
        "gateway",
        "meta",
        "studio",
        "functions",
    }
    for service in services.values():
        assert not re.search(r"[^}]:latest$", service["image"])
        # what is published is published to this machine alone
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))
    text = (ROOT / "docker-compose.yml").read_text()
    assert not re.search(r"eyJ|sb_secret_\w|sk-\w", text), "no secret"


async def test_the_images_commands_run_outside_it(workers: Workers, db: asyncpg.Connection) -> None:
    entry = json.loads(re.findall(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE, re.MULTILINE)[0])
    command = json.loads(re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[-1])
    assert entry == ["atlas"]
    worker = await workers.start(module=("-m", "atlas.cli", *command))
    rag, health = re.findall(r"HEALTHCHECK.*?CMD (\[.*?\])\n", DOCKERFILE, re.DOTALL)
    assert rag.replace("RAG_HTTP_PORT", "ATLAS_HTTP_PORT") == health, "each stage that runs is asked in the same way"
    python, *arguments = json.loads(health)
    assert python == "python"

    def healthy(port: int) -> int:
        return subprocess.run(
            [sys.executable, *arguments], env={"ATLAS_HTTP_PORT": str(port)}, capture_output=True, check=False
        ).returncode

    assert healthy(worker.port) == 0
    worker.process.terminate()
    assert worker.process.wait(30) == 0, "STOPSIGNAL drains it"
    assert healthy(worker.port) != 0


async def test_composes_commands_run_outside_it(database: Database, db: asyncpg.Connection, tmp_path: Path) -> None:
    password = tmp_path / "worker_password"
    password.write_text("a password of the worker\n")
    command = [str(password) if word.startswith("/run/secrets") else word for word in COMPOSE["services"]["migrate"]["command"]]
    done = run_atlas(*command, env={"DATABASE_URL": database.url()})
    try:
        assert done.returncode == 0, done.stderr
        url = database.url("atlas_worker").replace(database.cluster.worker_password, "a%20password%20of%20the%20worker")
        worker = await asyncpg.connect(url)
        await worker.close()
    finally:
        for role in ("atlas_worker", "atlas_rag"):
            await db.execute(f"alter role {role} password '{database.cluster.worker_password}'")
    # the whole URL from a file, as the service has it
    file = tmp_path / "worker_url"
    file.write_text(database.url())
    assert run_atlas("tasks", env={"DATABASE_URL_FILE": str(file)}).returncode == 0


@pytest.mark.parametrize("service", ["migrate", "worker", "mirror", "rag"])
def test_services_of_ours_have_no_more_rights_than_they_need(service: str) -> None:
    found = COMPOSE["services"][service]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]


def test_no_secret_is_committed_or_copied_into_an_image() -> None:
    """Each file that the documents put a secret into."""
    ignored, left_out = ((ROOT / name).read_text().split() for name in (".gitignore", ".dockerignore"))
    for name in (".env", ".rag_key", ".worker_password", "secrets"):
        assert name in ignored or f"{name}/" in ignored
        assert name in left_out


STUB = """#!/usr/bin/env bash
# docker buildx imagetools inspect --format '{{.Manifest.Digest}}' IMAGE: a digest that depends on the image alone
[ "$1 $2 $3 $4 $5" = "buildx imagetools inspect --format {{.Manifest.Digest}}" ] || exit 64
[ "$6" != "$MISSING" ] || { echo "not found" >&2; exit 1; }
echo "sha256:$(printf %s "$6$SALT" | sha256sum | cut -d' ' -f1)"
"""


def test_images_are_pinned_by_one_command(tmp_path: Path) -> None:
    """No registry is asked here: Docker's command is a stub, and all else is real."""
    stub = tmp_path / "bin/docker"
    stub.parent.mkdir()
    stub.write_text(STUB)
    stub.chmod(0o755)
    files = [tmp_path / "Dockerfile", tmp_path / "docker-compose.yml"]
    for file in files:
        file.write_text((ROOT / file.name).read_text())
    before = [file.read_text() for file in files]

    def pin(**more: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"PATH": f"{stub.parent}:{os.environ['PATH']}", "MISSING": "", "SALT": ""} | more
        return subprocess.run([ROOT / "scripts/pin_images", *files], env=env, capture_output=True, text=True, check=False)

    assert pin(MISSING="supabase/studio:2026.02.16-sha-26c615c").returncode != 0
    assert [file.read_text() for file in files] == before
    for salt in ("", "updated", "updated"):
        done = pin(SALT=salt)
        assert done.returncode == 0, done.stderr
        pinned = [file.read_text() for file in files]
        assert [re.sub(r"@sha256:[0-9a-f]{64}", "", text) for text in pinned] == before, "nothing else was changed"
    assert (
        len(re.findall(r"^FROM \S+:\S+@sha256:", pinned[0], re.MULTILINE))
        == len(re.findall(r"^FROM \S+:", pinned[0], re.MULTILINE))
        > 0
    )
    images = re.findall(r"^ *image: (\S+)$", pinned[1], re.MULTILINE)
    assert [image for image in images if "@sha256:" not in image] == ["atlas:local", "atlas-rag:local"]
    config = YAML(typ="safe").load(pinned[1])["services"]["db"]["image"]
    assert re.fullmatch(r"\$\{SUPABASE_POSTGRES_IMAGE:-supabase/postgres:[\w.]+@sha256:[0-9a-f]{64}\}", config)
