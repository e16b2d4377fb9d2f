"""Keys that are stored once, `.env`, and a stack that is found from every folder and starts anew with what changed."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from atlas.environment import digests, environment, origin
from atlas.errors import SettingsError
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ROOT, run_atlas

KEY = "sk-test-abcdefghijklmnop1234"


def listed(env: dict[str, str], cwd: Path) -> dict[str, Any]:
    rows = json.loads(run_atlas("keys", "list", "--json", env=env, cwd=cwd).stdout)
    return {row["name"]: row for row in rows}


def test_a_key_is_stored_for_its_user_alone_and_what_is_nearer_overrides_it(tmp_path: Path) -> None:
    env = {"ATLAS_CONFIG_DIR": str(tmp_path / "config"), "ATLAS_ENV_FILE": str(tmp_path / ".env")}
    (tmp_path / ".env").write_text("UNRELATED=1\n")
    done = run_atlas("keys", "set", "openai", env=env, cwd=tmp_path, stdin=f"{KEY}\n".encode())
    assert done.returncode == 0, done.stderr
    path = tmp_path / "config/openai.key"
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == (f"{KEY}\n", 0o600)
    assert KEY not in done.stdout + done.stderr
    assert listed(env, tmp_path)["openai"] == {
        "name": "openai",
        "setting": "OPENAI_API_KEY",
        "from": str(path),
        "ends": "…1234",
    }
    (tmp_path / ".env").write_text("export OPENAI_API_KEY='sk-of-the-env-file'  # a comment\nUNRELATED=1\n")
    assert listed(env, tmp_path)["openai"]["from"] == str(tmp_path / ".env")
    assert listed(env | {"OPENAI_API_KEY": "sk-of-the-shell"}, tmp_path)["openai"]["from"] == "the environment"
    done = run_atlas("keys", "set", "openai", env=env, cwd=tmp_path, stdin=KEY.encode())
    assert f"{tmp_path}/.env sets OPENAI_API_KEY as well, and overrides it" in done.stdout
    (tmp_path / ".env").unlink()
    assert run_atlas("keys", "remove", "openai", env=env | {"ATLAS_ENV_FILE": ""}, cwd=tmp_path).returncode == 0
    done = run_atlas("keys", "remove", "openai", env=env | {"ATLAS_ENV_FILE": ""}, cwd=tmp_path)
    assert (done.returncode, "no key 'openai' is stored" in done.stderr) == (4, True)
    assert "ATLAS_ENV_FILE=" in run_atlas("keys", "list", env=env, cwd=tmp_path).stderr, "a file that was named is not there"


@pytest.mark.parametrize("key", ["", " \n", "two words", "sk-\x1b[2J", "sk-ümlaut", "x" * 5000])
def test_what_is_no_key_is_not_stored(tmp_path: Path, key: str) -> None:
    env = {"ATLAS_CONFIG_DIR": str(tmp_path)}
    done = run_atlas("keys", "set", "openai", env=env, stdin=key.encode())
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "that is not a key" in done.stderr
    assert run_atlas("keys", "set", "opnai", env=env, stdin=KEY.encode()).returncode == 2


def test_the_environment_is_read_in_order(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "OPENAI_API_KEY=b\nOPENAI_MODEL=o3\nPATH=/nowhere\nDATABASE_URL_FILE=url.txt\nOPENAI_MODEL_FILE=x\n"
    )
    (tmp_path / "openai.key").write_text("c\n")
    base = {"ATLAS_ENV_FILE": str(tmp_path / ".env"), "ATLAS_CONFIG_DIR": str(tmp_path), "PATH": "/bin"}
    found = environment(base)
    assert {name: found.get(name) for name in ("OPENAI_API_KEY", "OPENAI_API_KEY_FILE", "OPENAI_MODEL", "PATH")} == {
        "OPENAI_API_KEY": "b", "OPENAI_API_KEY_FILE": None, "OPENAI_MODEL": "o3", "PATH": "/bin",
    }  # fmt: skip
    assert found["DATABASE_URL_FILE"] == "url.txt"
    assert "OPENAI_MODEL_FILE" not in found, "only secrets have a file"
    assert environment(base | {"OPENAI_API_KEY_FILE": "mine"}).get("OPENAI_API_KEY") is None, "one setting in two spellings"
    assert origin(base | {"ATLAS_ENV_FILE": ""}, "OPENAI_API_KEY") == str(tmp_path / "openai.key")
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    with pytest.raises(SettingsError, match="cannot be read"):
        environment(base)


def test_a_file_of_others_sends_no_key_elsewhere(tmp_path: Path) -> None:
    """A repository's .env names a server; the key is this user's own."""
    (tmp_path / "openai.key").write_text("mine\n")
    (tmp_path / ".env").write_text("OPENAI_BASE_URL=https://evil.example/v1\n")
    base = {"ATLAS_ENV_FILE": str(tmp_path / ".env"), "ATLAS_CONFIG_DIR": str(tmp_path)}
    for more in ({}, {"OPENAI_API_KEY": "mine"}, {"OPENAI_API_KEY_FILE": str(tmp_path / "openai.key")}):
        with pytest.raises(SettingsError, match=r"OPENAI_BASE_URL is set in \.env, and OPENAI_API_KEY elsewhere"):
            environment(base | more)
    assert environment(base | {"OPENAI_BASE_URL": "https://mine.example/v1"})["OPENAI_BASE_URL"] == "https://mine.example/v1"
    (tmp_path / ".env").write_text("OPENAI_BASE_URL=https://theirs.example/v1\nOPENAI_API_KEY=theirs\n")
    assert environment(base)["OPENAI_API_KEY"] == "theirs", "both are theirs"
    same = base | {"OPENAI_BASE_URL": "https://evil.example/v1", "OPENAI_API_KEY": "mine"}
    (tmp_path / ".env").write_text("OPENAI_BASE_URL=https://evil.example/v1\n")
    assert environment(same)["OPENAI_API_KEY"] == "mine", "this user named the server as well"
    (tmp_path / ".env").write_text(f"OPENAI_BASE_URL=https://evil.example/v1\nOPENAI_API_KEY_FILE={tmp_path}/openai.key\n")
    with pytest.raises(SettingsError, match="OPENAI_API_KEY elsewhere"):
        environment(base)
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())
    assert environment(base | {"OPENAI_API_KEY": "mine"})["OPENAI_API_KEY"] == "mine", (
        "a copy of .env.example redirects nothing"
    )
    (tmp_path / ".env").write_text("SUPABASE_URL=https://evil.example\n")
    with pytest.raises(SettingsError, match="SUPABASE_SECRET_KEY elsewhere"):
        environment(base | {"SUPABASE_SECRET_KEY": "sb_secret_x"})


def test_digests_tell_settings_apart_and_nothing_of_their_values(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("one")
    found = {"OPENAI_API_KEY_FILE": str(tmp_path / "k"), "RAG_COLLAPSE_BY_FILE": "true", "HOME": "/x", "RAG_TOP_K": ""}
    first = digests(found, "s")
    assert list(first) == ["OPENAI_API_KEY_FILE", "RAG_COLLAPSE_BY_FILE"]
    assert first == digests(found, "s") != digests(found, "t")
    (tmp_path / "k").write_text("two")
    assert digests(found, "s")["OPENAI_API_KEY_FILE"] != first["OPENAI_API_KEY_FILE"], "another key in the same file"
    assert digests(found | {"RAG_COLLAPSE_BY_FILE": "false"}, "s") != digests(found, "s"), "no file, whatever its name ends in"


def test_a_new_key_reaches_the_worker_that_runs_from_every_folder(tmp_path: Path, openai: OpenAIDouble) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    env = {
        "HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": "", "ATLAS_HOME": "", "ATLAS_CONFIG_DIR": "", "ATLAS_HTTP_PORT": "0",
        "OPENAI_BASE_URL": openai.url, "COLUMNS": "300",
    }  # fmt: skip

    def atlas(*words: str, cwd: Path = there, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        return run_atlas(*words, env=env, cwd=cwd, stdin=stdin)

    def worker() -> Any:
        return json.loads(atlas("up", "--json", cwd=here).stdout)["worker_pid"]

    try:
        first = worker()
        assert "ready" in atlas("status").stdout, "another folder finds the same stack"
        assert not (here / ".atlas").exists()
        assert worker() == first, "nothing changed"
        assert atlas("keys", "set", "openai", stdin=KEY.encode()).returncode == 0
        said = atlas("doctor").stdout
        assert f"{openai.url} takes the key, and has gpt-4.1" in said
        assert "calls offline; the settings here say gpt-4.1 > o3 > o1-pro: `atlas up` starts it anew" in said
        again = atlas("up")
        assert "the worker starts anew: OPENAI_API_KEY changed" in again.stderr, again.stderr
        assert worker() != first
        said = atlas("doctor").stdout
        assert "calls gpt-4.1 > o3 > o1-pro\n" in said
        assert "calls offline" not in said
        openai.missing_models.add("gpt-4.1")
        wrong = atlas("doctor")
        assert wrong.returncode == 7
        assert "problem\tkey" in wrong.stdout
    finally:
        atlas("down")
