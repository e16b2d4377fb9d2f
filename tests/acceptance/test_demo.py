"""The demo from nothing: its output, a second run, Ctrl-C at any time, the embedded stack around it."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from atlas.llm.replay import read_replay
from atlas.local.stack import Stack
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR, ROOT, clean_environment, run_atlas, until


def env_of(home: Path, **more: str) -> dict[str, str]:
    return {"ATLAS_HOME": str(home / ".atlas"), "ATLAS_HTTP_PORT": "0"} | more


def processes_of(home: Path) -> list[str]:
    """Processes that belong to a stack: its Postgres and its workers."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        line = " ".join(process.info["cmdline"] or [])
        environ = process.info["environ"] or {}
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        if str(home) in line or ("atlas.main" in line and environ.get("ATLAS_HOME", "").startswith(str(home))):
            found.append(line)
    return found


def test_the_demo_from_nothing_and_again(tmp_path: Path) -> None:
    first = run_atlas("demo", "Design a minimal CI pipeline", env=env_of(tmp_path), cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    for step in ("[1/4] Postgres", "[2/4] migrations", "[3/4] worker", "[4/4] knowledge"):
        assert re.search(re.escape(step) + r" … \d+\.\d s", first.stderr), first.stderr
    assert "11 documents: 11 indexed" in first.stderr
    assert "an answer that ships with the example team is replayed,\nand no model is called" in first.stderr
    text, receipt = first.stdout.split("\n" + "─" * 72 + "\n")
    shown(text)
    # its worker was killed in mid-sentence, by a signal that it cannot catch, and another one went on
    killed = re.search(r"kill -9 of worker (\d+), after (\d+) characters; worker (\d+) starts", first.stderr)
    assert killed
    assert killed[1] != killed[3]
    assert text[int(killed[2]) - 1] not in ".!?\n"
    for line in ("status       completed", "model        replay (an example, at gpt-4.1's prices: nobody is paid)",
                 "workers      2; the second took up what the first was writing", f"text         {len(text)} characters, each once; cut after {killed[2]} by kill -9",
                 "budget       250000 tokens a day", "cited        6 of 7 sources", "example-team/adr/0002-github-actions-for-ci.md:",
                 "audit        chains hold", "first token", "total", "Try next:"):  # fmt: skip
        assert line in receipt
    # what went in at 2 dollars a million, and what it wrote at 8
    tokens = re.search(r"tokens +(\d+) in, (\d+) out, in 1 call\n", receipt)
    usd = re.search(r"USD +(\S+) reserved, (\S+) spent, (\S+) given back", receipt)
    assert tokens
    assert usd
    reserved, spent, given_back = (float(figure) for figure in usd.groups())
    assert spent == round((int(tokens[1]) * 2 + int(tokens[2]) * 8) / 1e6, 4) > 0
    assert abs(reserved - spent - given_back) < 0.00011
    assert [line for line in first.stdout.splitlines() if len(line) > 80 and "export ATLAS_HOME=" not in line] == []
    assert receipt.split("Try next:")[1].strip().count("\n") == 4
    assert processes_of(tmp_path) == []
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "atlas.cli", "demo"], env=clean_environment() | env_of(tmp_path), cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    first_character = process.stdout.read(1)
    assert time.monotonic() - began < 10, "from the command to the first token, set-up included"
    output, errors = process.communicate(timeout=60)
    second = subprocess.CompletedProcess(process.args, process.returncode, first_character + output, errors)
    assert second.returncode == 0
    assert "11 documents: 0 indexed, 11 unchanged" in second.stderr
    match = re.search(r"first token +(\d+\.\d+) s", second.stdout)
    assert match
    assert float(match[1]) < 10
    assert processes_of(tmp_path) == []


def shown(text: str) -> None:
    """What was shown is the example, every character of it once: but for the citations, which are numbers of this prompt."""
    _, example = read_replay((ROOT / "examples/replies/minimal-ci-pipeline.md").read_text())
    assert re.sub(r"\[S\d{4}\]", "[]", text) == re.sub(r"\[\[[^\]]+\]\]", "[]", example)
    assert "no model was called" in text.splitlines()[0]


def test_another_question_without_a_key_gets_the_passages_that_answer(tmp_path: Path) -> None:
    done = run_atlas("demo", "How do we roll back a release?", env=env_of(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the offline architect shows the passages that answer,\nand no model is called" in done.stderr
    assert done.stdout.startswith("> **No model was called.**")
    assert re.search(r"^## 1\. Runbook: releases and incidents > Roll back a release\n\n`example-team/runbook.md:\d+-\d+` \[S\d{4}\]$",
                     done.stdout, re.MULTILINE)  # fmt: skip
    assert "> - Within an hour: `./deploy traffic blue`. It takes seconds." in done.stdout
    assert not re.search(r"^#+ Decision$", done.stdout, re.MULTILINE), "a decision that nobody made"
    for line in ("model        offline", "workers      1\n", "USD          0.0000 reserved, 0.0000 spent", "0 in, 0 out"):
        assert line in done.stdout


def test_a_demo_that_is_killed_leaves_a_worker_that_answers_others_honestly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "atlas.cli", "demo"], env=clean_environment() | env_of(tmp_path), cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.kill()
        process.wait()
        done = run_atlas("ask", "How do we roll back a release?", env=env_of(tmp_path), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "# Passages on “How do we roll back a release?”" in done.stdout
        assert "offline · $0.0000" in done.stderr
    finally:
        assert "stopped" in run_atlas("down", env=env_of(tmp_path)).stdout
    assert processes_of(tmp_path) == []
    assert f"nothing was running in {tmp_path}/.atlas" in run_atlas("down", env=env_of(tmp_path)).stdout


async def test_the_demo_ends_when_its_worker_dies_and_says_why(tmp_path: Path, openai: OpenAIDouble) -> None:
    openai.plan(text=ADR * 20, delay=0.5)
    env = env_of(tmp_path, OPENAI_API_KEY="k", OPENAI_BASE_URL=openai.url)
    demo = asyncio.create_task(asyncio.to_thread(run_atlas, "demo", "When?", env=env, cwd=tmp_path))
    stack = Stack(tmp_path / ".atlas")

    async def called() -> bool:
        return bool(openai.calls)

    await until(called, 60, "the model writes")
    assert stack.worker.kill() is not None
    async with asyncio.timeout(30):
        done = await demo
    assert done.returncode == 3
    assert "the worker has died; its last words:" in done.stderr
    assert processes_of(tmp_path) == []


def test_the_demo_with_a_key_calls_openai(tmp_path: Path, openai: OpenAIDouble) -> None:
    openai.plan(text=ADR.replace("Merges are rare [assumed].", "Merges are rare [S1]."))
    docs = tmp_path / "mine"
    docs.mkdir()
    (docs / "ship.md").write_text("# Shipping\n\nWe ship on Fridays.\n")
    env = env_of(tmp_path, OPENAI_API_KEY="k", OPENAI_BASE_URL=openai.url, DAILY_USD_BUDGET="5")
    done = run_atlas("demo", "When is shipping?", "--docs", str(docs), env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Asking gpt-4.1." in done.stderr
    assert "tokens       100 in, 50 out" in done.stdout
    assert "0.0006 spent" in done.stdout
    assert "budget       5.00 USD a day" in done.stdout
    assert "mine/ship.md:1-3" in done.stdout
    assert "We ship on Fridays." in openai.calls[0]["input"][0]["content"]


MOMENTS = ["Postgres", "migrations", "worker", "knowledge", "stream", "at once"]
SAMPLE = set(random.Random(4).sample(MOMENTS, 2))  # a seeded sample; scripts/test --long has all


@pytest.mark.parametrize("when", [when if when in SAMPLE else pytest.param(when, marks=pytest.mark.long) for when in MOMENTS])
def test_ctrl_c_leaves_nothing_behind_and_the_next_run_works(tmp_path: Path, when: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "atlas.cli", "demo"], env=clean_environment() | env_of(tmp_path), cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        # a shell's background job ignores SIGINT, and its children would
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    if when == "at once":
        time.sleep(0.7)
    else:
        marks = {
            "Postgres": b"[1/4]",
            "migrations": b"[2/4]",
            "worker": b"[3/4]",
            "knowledge": b"[4/4]",
            "stream": b"## Context",
        }
        for line in process.stdout:
            if marks[when] in line:
                break
    # as a terminal does: to the whole foreground group, and impatiently
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    # in its first moments Python itself, and not yet the command, takes the signal
    assert process.returncode in ((130, -signal.SIGINT) if when == "at once" else (130,)), output.decode()
    assert processes_of(tmp_path) == []
    done = run_atlas("demo", env=env_of(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "status       completed" in done.stdout


def test_keep_leaves_the_stack_up_and_down_ends_it(tmp_path: Path) -> None:
    env = env_of(tmp_path)
    done = run_atlas("demo", "--keep", env=env, cwd=tmp_path)
    try:
        assert done.returncode == 0, done.stderr
        psql, url = re.search(r"(\S+/psql) '(postgresql://\S+)'", done.stdout).groups()  # type: ignore[union-attr]
        asked = subprocess.run([psql, url, "-Atc", "show wal_level"], capture_output=True, text=True, check=True)
        assert asked.stdout == "logical\n"
        facts = "select current_user, rolsuper from pg_roles where rolname = current_user union all select 'vector', true "
        facts += "from pg_extension where extname = 'vector' union all select current_setting('listen_addresses'), null"
        asked = subprocess.run([psql, url, "-Atc", facts], capture_output=True, text=True, check=True)
        assert asked.stdout.split() == ["postgres|f", "vector|t", "127.0.0.1|"]
        wrong = re.sub(r"//postgres:[^@]+@", "//postgres:wrong@", url)
        assert subprocess.run([psql, wrong, "-c", "select 1"], capture_output=True, check=False).returncode == 2
        assert "ready" in run_atlas("status", env=env).stdout
        assert "worker" in run_atlas("logs", "-n", "20", env=env).stdout
        asked = run_atlas("ask", "And how do we roll back?", env=env)
        assert "runbook.md" in asked.stdout
        # the worker that stays replays nothing
        assert asked.stdout.startswith("> **No model was called.** What the team wrote")
        assert f"`ATLAS_HOME={tmp_path}/.atlas atlas down` stops it" in done.stdout
        # a second demo leaves a stack up that somebody keeps
        assert run_atlas("demo", env=env, cwd=tmp_path).returncode == 0
        assert run_atlas("up", env=env).returncode == 0
    finally:
        assert run_atlas("down", env=env).returncode == 0
    assert processes_of(tmp_path) == []
    assert run_atlas("down", "--erase", env=env).returncode == 0
    assert not (tmp_path / ".atlas" / "postgres").exists()


def test_a_stack_that_was_killed_comes_back_with_its_data(tmp_path: Path) -> None:
    env = env_of(tmp_path)
    assert run_atlas("up", env=env).returncode == 0
    try:
        task = run_atlas("ask", "-d", "before the crash", env=env).stdout.strip()
        for process in psutil.process_iter(["cmdline"]):
            if str(tmp_path) in " ".join(process.info["cmdline"] or []):
                process.kill()
        done = run_atlas("up", env=env)
        assert done.returncode == 0, done.stderr
        done = run_atlas("tail", task, env=env)
        assert done.returncode == 0, done.stderr
    finally:
        run_atlas("down", env=env)
    assert processes_of(tmp_path) == []


def test_two_demos_do_not_stop_each_others_stack(tmp_path: Path) -> None:
    async def both() -> list[subprocess.CompletedProcess[str]]:
        work = [asyncio.to_thread(run_atlas, "demo", env=env_of(tmp_path), cwd=tmp_path) for _ in range(2)]
        return list(await asyncio.gather(*work))

    codes = sorted(done.returncode for done in asyncio.run(both()))
    assert codes == [0, 3]
    assert processes_of(tmp_path) == []
