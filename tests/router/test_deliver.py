"""The way back: replies as comments and thread messages, once each, whatever is lost on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from starlette.responses import JSONResponse, Response

from tests.doubles.github import GitHubDouble, error, github
from tests.doubles.slack import SlackDouble, slack
from tests.support.core import ADR, Database, Json, ask, claim
from tests.support.router import Function, app_key, function, hook, router_env

GITHUB, SLACK = "github:o/r#7", "slack:T1:C1:1700000000.000100"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """deliver as a process, on a real Postgres, between doubles."""

    deliver: Function
    hub: GitHubDouble
    chat: SlackDouble
    db: asyncpg.Connection

    async def task(self, address: str, reply: str | None = None, **metadata: Any) -> UUID:
        """A question from an address; answered where a reply is given."""
        task = await ask(self.db, "How?", reply_to=address)
        (row,) = await claim(self.db)
        if reply is not None:
            await self.db.execute("select testing.complete_task($1, $2, $3)", row["attempt_id"], reply, metadata)
        return task

    async def bring(self, task: UUID, status: str, content: str = "", *, kind: str | None = None, address: str = GITHUB,
                    event: str | None = None, ok: int = 200, **metadata: Any) -> Json:  # fmt: skip
        """An event as the mirror sends it."""
        data = {"task_id": str(task), "role": "architect", "msg_type": "spec", "content": content,
                "metadata": {"status": status, "model": "m", "tokens": 5, "reply_to": address, "schema_ver": 2} | metadata}  # fmt: skip
        answer = await hook(self.deliver, kind or f"spec.{status}", data, event)
        assert answer.status_code == ok, answer.text
        found: Json = answer.json()
        return found

    async def lease_ends(self) -> None:
        """A minute passes."""
        await self.db.execute("update atlas.post set lease_expires_at = now() where state = 'posting'")

    async def export(self, task: UUID, what: str, *, ok: int = 200, reply_to: str | None = GITHUB) -> Json:
        data = {"task_id": str(task), "export": what, "repository": "o/r", "reply_to": reply_to}
        answer = await hook(self.deliver, "export", data)
        assert answer.status_code == ok, answer.text
        found: Json = answer.json()
        return found


@pytest.fixture
async def scene(database: Database, db: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[Scene]:
    async with (
        github(app_key()[1]) as hub,
        slack() as chat,
        function("deliver", tmp_path, **router_env(database.url(), hub.url, chat.url)) as deliver,
    ):
        yield Scene(deliver=deliver, hub=hub, chat=chat, db=db)


# --- GitHub ---------------------------------------------------------------------------------------------------------


async def test_one_comment_is_edited_while_the_task_runs_and_becomes_the_reply(scene: Scene) -> None:
    task = await scene.task(GITHUB)
    await scene.bring(task, "in_progress")
    assert scene.hub.bodies() == ["Atlas is working on it."]
    await scene.bring(task, "in_progress", kind="progress", progress={"characters": 120, "seconds": 15})
    assert scene.hub.bodies() == ["Atlas is working on it: 120 characters after 15 s, m."]
    (row,) = await scene.db.fetch("select attempt_id from atlas.task where id = $1", task)
    await scene.db.execute("select testing.complete_task($1, $2)", row["attempt_id"], ADR)
    event = str(uuid4())
    for _ in range(2):  # and once more, as a mirror whose answer was lost
        await scene.bring(task, "completed", ADR, event=event)
    (body,) = scene.hub.bodies()
    assert body.startswith(ADR.rstrip())
    assert f"Atlas, task {task}, m, 5 tokens" in body
    hidden = next(iter(scene.hub.comments.values()))["body"].split("\n")[0]
    assert hidden.startswith(f"<!-- atlas task={task} part=reply:0 event={event}")
    # late, and replayed: what is shown by now is newer
    assert "ignored" in await scene.bring(task, "in_progress", kind="progress")
    assert "ignored" in await scene.bring(task, "in_progress")
    assert scene.hub.bodies() == [body]


async def test_a_long_reply_is_split_at_githubs_limit(scene: Scene) -> None:
    spec = "# Long\n\n" + "\n\n".join(f"## Part {n}\n\n{'words and 😀 ' * 300}" for n in range(60))
    task = await scene.task(GITHUB, spec)
    await scene.bring(task, "completed", spec)
    bodies = [comment["body"] for comment in scene.hub.comments.values()]
    assert len(bodies) >= 4
    assert all(len(body.encode("utf-16-le")) // 2 <= 65_536 for body in bodies)
    said = "".join(body.split("\n", 1)[1] for body in bodies)
    assert [f"## Part {n}\n" in said for n in range(60)] == [True] * 60
    await scene.bring(task, "completed", spec)
    assert len(scene.hub.comments) == len(bodies)


async def test_an_uncertain_post_is_looked_up_before_it_is_made_again(scene: Scene) -> None:
    task = await scene.task(GITHUB, ADR)
    # made, and the answer lost
    scene.hub.lose = lambda method, path: method == "POST" and path.endswith("/comments")
    await scene.bring(task, "completed", ADR, ok=409)
    scene.hub.lose = lambda _method, _path: False
    await scene.bring(task, "completed", ADR, ok=409)
    assert len(scene.hub.comments) == 1, "GitHub may list it late: nothing is made while the lease runs"
    await scene.lease_ends()
    await scene.bring(task, "completed", ADR)
    assert len(scene.hub.comments) == 1
    assert await scene.db.fetchval("select state from atlas.post where task_id = $1", task) == "posted"


async def test_a_function_killed_between_the_post_and_its_record_posts_no_second_one(scene: Scene) -> None:
    task = await scene.task(GITHUB, ADR)

    def kill(method: str, path: str) -> bool:
        if method == "POST" and path.endswith("/comments"):
            scene.deliver.kill()
        return False

    scene.hub.lose = kill
    with pytest.raises(httpx.TransportError):
        await scene.bring(task, "completed", ADR)
    scene.hub.lose = lambda _method, _path: False
    await scene.deliver.start()
    assert len(scene.hub.comments) == 1
    # its lease still runs: another call could be at it
    await scene.bring(task, "completed", ADR, ok=409)
    await scene.lease_ends()
    await scene.bring(task, "completed", ADR)
    assert len(scene.hub.comments) == 1


async def test_somebody_elses_marker_is_not_ours(scene: Scene) -> None:
    task = await scene.task(GITHUB, ADR)
    forged = f"<!-- atlas task={task} part=reply:0 event={uuid4()} -->\nmine"
    scene.hub.comments[1] = {"id": 1, "number": 7, "body": forged, "created_at": "2999-01-01T00:00:00+00:00", "html_url": "x"}
    scene.hub.fail = lambda method, path: error(502, "x") if method == "POST" and path.endswith("/comments") else None
    await scene.bring(task, "completed", ADR, ok=409)
    scene.hub.fail = lambda _method, _path: None
    await scene.lease_ends()
    await scene.bring(task, "completed", ADR)
    assert scene.hub.comments[1]["body"] == forged
    assert len(scene.hub.comments) == 2


async def test_a_comment_that_was_removed_is_made_anew(scene: Scene) -> None:
    task = await scene.task(GITHUB)
    await scene.bring(task, "in_progress")
    scene.hub.comments.clear()
    await scene.bring(task, "in_progress", kind="progress", progress={"characters": 1, "seconds": 1})
    assert len(scene.hub.comments) == 1


async def test_a_sign_of_life_that_is_overtaken_does_not_cover_the_reply(scene: Scene) -> None:
    task = await scene.task(GITHUB)
    await scene.bring(task, "in_progress")
    attempt = await scene.db.fetchval("select attempt_id from atlas.task where id = $1", task)

    async def overtake(method: str, _path: str) -> None:
        # the task ends, and its reply is shown, while the edit that says "working" is on its way
        if method == "PATCH":
            scene.hub.before = None
            await scene.db.execute("select testing.complete_task($1, $2)", attempt, ADR)
            await scene.bring(task, "completed", ADR)

    scene.hub.before = overtake
    await scene.bring(task, "in_progress", kind="progress", progress={"characters": 1, "seconds": 1})
    (body,) = scene.hub.bodies()
    assert body.startswith(ADR.rstrip())


async def test_failures_and_waiting_are_said_in_the_same_comment(scene: Scene) -> None:
    task = await scene.task(GITHUB)
    await scene.bring(task, "in_progress")
    data = {"task_id": str(task), "role": "architect", "msg_type": "control", "content": '{"command": "escalate"}',
            "metadata": {"status": "queued", "reply_to": GITHUB, "error": {"code": "overloaded", "message": "every model is away"}}}  # fmt: skip
    assert (await hook(scene.deliver, "control.queued", data)).status_code == 200
    assert scene.hub.bodies() == ["Atlas is waiting: every model is away. It goes on by itself, and people were told."]
    await scene.db.execute("update atlas.task set max_attempts = 1 where id = $1", task)
    attempt = await scene.db.fetchval("select attempt_id from atlas.task where id = $1", task)
    await scene.db.execute("select atlas.fail_task($1, 'internal', 'it broke')", attempt)
    await scene.bring(task, "dead_lettered", error={"code": "internal", "message": "it broke @octocat"})
    assert scene.hub.bodies() == ["Atlas could not answer: it broke @\u200boctocat (`internal`)"]


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (error(500, "x"), 409), (error(429, "x", {"retry-after": "7"}), 409), (error(403, "x", {"x-ratelimit-remaining": "0"}), 409),
        (error(403, "You have exceeded a secondary rate limit"), 409),
        (error(403, "Resource not accessible"), 422), (error(404, "Not Found"), 422), (error(410, "Gone"), 422),
        (Response("<html>", 200, media_type="text/html"), 200),
    ],
)  # fmt: skip
async def test_what_github_says_decides_whether_it_is_tried_again(scene: Scene, refusal: Response, status: int) -> None:
    task = await scene.task(GITHUB, ADR)
    scene.hub.fail = lambda method, path: refusal if method == "POST" and path.endswith("/comments") else None
    answer = await scene.bring(task, "completed", ADR, ok=status)
    if status == 422:
        assert await scene.db.fetchval("select count(*) from atlas.post") == 0, "nothing was made for certain"
        assert answer["error"]["code"] == "refused"


async def test_an_address_that_the_database_does_not_know_is_refused(scene: Scene) -> None:
    task = await scene.task("github:o/other#1", ADR)
    await scene.bring(task, "completed", ADR, ok=422)
    await scene.bring(uuid4(), "completed", ADR, ok=422)
    assert "ignored" in await scene.bring(task, "completed", ADR, address="mail:x@example.com")
    assert "ignored" in await scene.bring(task, "completed", ADR, address="github:../x#1")
    assert scene.hub.comments == {}


async def test_only_the_mirrors_signature_is_taken(scene: Scene) -> None:
    data: Json = {"task_id": str(uuid4())}
    assert (await hook(scene.deliver, "spec.completed", data, secret="whsec_" + "A" * 32)).status_code == 401
    assert (await hook(scene.deliver, "spec.completed", data, event="no uuid")).status_code == 422
    assert (await hook(scene.deliver, "spec.completed", {"x": "y" * 3_000_000})).status_code == 413


# --- Slack ----------------------------------------------------------------------------------------------------------


async def test_a_thread_gets_its_reply_in_blocks(scene: Scene) -> None:
    spec = (
        ADR + "\n\n## More\n\n" + "\n\n".join(f"Paragraph {n} " + "words " * 100 for n in range(80)) + "\n\n<!channel> **bold**"
    )
    task = await scene.task(SLACK)
    await scene.bring(task, "in_progress", address=SLACK)
    assert scene.chat.texts("1700000000.000100") == ["Atlas is working on it."]
    attempt = await scene.db.fetchval("select attempt_id from atlas.task where id = $1", task)
    await scene.db.execute("select testing.complete_task($1, $2)", attempt, spec)
    for _ in range(2):
        await scene.bring(task, "completed", spec, address=SLACK)
    texts = scene.chat.texts("1700000000.000100")
    assert len(texts) >= 2
    assert texts[0].startswith("*Ship with a pipeline*")
    said = "\n".join(texts)
    assert all(f"Paragraph {n} " in said for n in range(80))
    assert "&lt;!channel&gt; *bold*" in said
    first = next(iter(scene.chat.messages.values()))
    assert first["metadata"]["event_payload"]["task_id"] == str(task)


async def test_a_slash_commands_thread_is_begun_once_also_when_an_answer_is_lost(scene: Scene) -> None:
    address = f"slack:T1:C1:/{uuid4()}"
    task = await scene.task(address)
    scene.chat.lose = lambda method: method == "chat.postMessage"
    await scene.bring(task, "in_progress", address=address, ok=409)  # the thread's beginning is there
    await scene.lease_ends()
    await scene.bring(task, "in_progress", address=address, ok=409)  # and now the message in it
    scene.chat.lose = lambda _method: False
    await scene.lease_ends()
    await scene.bring(task, "in_progress", address=address)
    (root,) = [message for message in scene.chat.messages.values() if "thread_ts" not in message]
    assert scene.chat.texts() == ["*Question:* How?"]
    assert scene.chat.texts(root["ts"]) == ["Atlas is working on it."]


async def test_slacks_errors_are_told_apart(scene: Scene) -> None:
    task = await scene.task(SLACK, ADR)
    for refusal, status in (
        (Response(status_code=429, headers={"retry-after": "3"}), 409), (JSONResponse({"ok": False, "error": "ratelimited"}), 409),
        (JSONResponse({"ok": False, "error": "channel_not_found"}), 422), (JSONResponse({"ok": False, "error": "not_in_channel"}), 422),
    ):  # fmt: skip
        scene.chat.fail = lambda method, refusal=refusal: refusal if method == "chat.postMessage" else None  # type: ignore[misc]
        await scene.lease_ends()
        await scene.bring(task, "completed", ADR, address=SLACK, ok=status)
    scene.chat.fail = lambda _method: None
    await scene.bring(task, "completed", ADR, address=SLACK)
    assert len(scene.chat.messages) == 1


async def test_notifications_go_to_their_channel_once(scene: Scene) -> None:
    event = str(uuid4())
    for _ in range(2):
        answer = await hook(
            scene.deliver, "notification", {"kind": "notification", "cause": "x", "text": "80 % <spent>"}, event
        )
        assert answer.status_code == 200, answer.text
    assert scene.chat.texts() == ["80 % &lt;spent&gt;"]
    assert next(iter(scene.chat.messages.values()))["channel"] == "CNOTIFY"


# --- exports --------------------------------------------------------------------------------------------------------


async def test_a_pull_request_is_opened_once_and_then_updated(scene: Scene) -> None:
    scene.hub.refs["main"]["docs/adr/0041-old.md"] = b"# Old\n"
    task = await scene.task(GITHUB, ADR)
    said = (await scene.export(task, "pull_request"))["said"]
    (pull,) = scene.hub.pulls.values()
    assert pull["html_url"] in said
    branch = scene.hub.refs[pull["head"]["ref"]]
    assert branch["docs/adr/0042-ship-with-a-pipeline.md"].decode() == ADR
    assert scene.hub.bodies() == [said]
    puts = [call for call in scene.hub.calls if call[0] == "PUT"]
    await scene.export(task, "pull_request")
    assert [call for call in scene.hub.calls if call[0] == "PUT"] == puts, "nothing changed"
    # the main branch went on, and the spec changed
    scene.hub.refs["main"]["docs/adr/0042-another.md"] = b"# Another\n"
    await scene.db.execute("update public.architect_out set data = jsonb_set(data, '{content}', to_jsonb($1::text)) where data #>> "
                           "'{metadata,status}' = 'completed'", ADR + "\nMore.\n")  # fmt: skip
    assert "Updated" in (await scene.export(task, "pull_request"))["said"]
    assert len(scene.hub.pulls) == 1
    assert branch["docs/adr/0042-ship-with-a-pipeline.md"].endswith(b"More.\n")
    pull["merged_at"] = "2026-11-24T00:00:00Z"
    pull["state"] = "closed"
    assert "merged already" in (await scene.export(task, "pull_request"))["said"]
    assert len(scene.hub.pulls) == 1


async def test_a_pull_request_that_was_closed_is_followed_by_another_and_numbers_are_not_taken_twice(scene: Scene) -> None:
    first, second = await scene.task(GITHUB, ADR), await scene.task(GITHUB, ADR.replace("Ship with", "Test with"))
    await scene.export(first, "pull_request")
    await scene.export(second, "pull_request")
    named = {name for files in scene.hub.refs.values() for name in files if name.startswith("docs/adr/")}
    assert named == {"docs/adr/0001-ship-with-a-pipeline.md", "docs/adr/0002-test-with-a-pipeline.md"}
    closed = next(iter(scene.hub.pulls.values()))
    closed["state"] = "closed"
    assert "Opened" in (await scene.export(first, "pull_request"))["said"]
    assert sum(pull["state"] == "open" for pull in scene.hub.pulls.values()) == 2


@pytest.mark.parametrize("step", ["/git/refs", "/contents/", "/pulls"])
async def test_a_pull_request_survives_a_lost_answer_at_each_step(scene: Scene, step: str) -> None:
    task = await scene.task(GITHUB, ADR)
    scene.hub.lose = lambda method, path: method != "GET" and step in path
    await scene.export(task, "pull_request", ok=409)
    scene.hub.lose = lambda _method, _path: False
    await scene.lease_ends()
    await scene.export(task, "pull_request")
    assert len(scene.hub.pulls) == 1
    (files,) = [files for name, files in scene.hub.refs.items() if name != "main"]
    assert [name for name in files if name.startswith("docs/adr/")] == ["docs/adr/0001-ship-with-a-pipeline.md"]


async def test_work_items_become_issues_once_and_never_of_half_a_plan(scene: Scene) -> None:
    task = await scene.task(GITHUB, ADR)
    scene.hub.lose = lambda method, path: method == "POST" and path == "/repos/o/r/issues"
    await scene.export(task, "issues", ok=409)
    scene.hub.lose = lambda _method, _path: False
    await scene.lease_ends()
    said = (await scene.export(task, "issues"))["said"]
    await scene.export(task, "issues")
    (issue,) = scene.hub.issues.values()
    assert issue["title"] == "Add the workflow"
    assert "One job." in issue["body"]
    assert issue["html_url"] in said
    cut = await scene.task(GITHUB, ADR, truncated=True)
    await scene.export(cut, "issues", ok=422)
    assert len(scene.hub.issues) == 1
