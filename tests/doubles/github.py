"""A small GitHub: the calls of its REST API that the router makes, in the shapes that its documentation gives, with real state.

`fail` answers a call with an error before it is carried out; `lose` carries it out and loses the answer; `before` is awaited first.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.doubles.serving import serving
from tests.support.core import Json

APP = 4242
DIFF = "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-old\n+new\n"


def error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"message": message, "documentation_url": "https://docs.github.com/rest"}, status, headers=headers)


@dataclass(kw_only=True)
class GitHubDouble:
    """One repository, o/r, with the App installed. public_key: of the App's key, PEM."""

    public_key: str
    writers: set[str] = field(default_factory=lambda: {"octocat", "Codertocat"})
    comments: dict[int, Json] = field(default_factory=dict)
    issues: dict[int, Json] = field(default_factory=dict)
    pulls: dict[int, Json] = field(default_factory=dict)
    refs: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {"README.md": b"hello\n"}})
    calls: list[tuple[str, str]] = field(default_factory=list)
    fail: Callable[[str, str], Response | None] = lambda _method, _path: None
    lose: Callable[[str, str], bool] = lambda _method, _path: False
    before: Callable[[str, str], Awaitable[None]] | None = None
    port: int = 0
    _numbers: Any = field(default_factory=lambda: itertools.count(1001))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self, number: int = 7) -> list[str]:
        """What stands below an issue, without hidden lines."""
        return [c["body"].split("\n", 1)[1] for c in self.comments.values() if c["number"] == number]

    async def handle(self, request: Request) -> Response:
        method, path = request.method, request.url.path
        self.calls.append((method, path))
        if self.before is not None:
            await self.before(method, path)
        refused = self.fail(method, path)
        if refused is not None:
            return refused
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if path.endswith("/installation") or path.startswith("/app/"):
            try:
                jwt.decode(token, self.public_key, algorithms=["RS256"], issuer=str(APP))
            except jwt.PyJWTError as problem:
                return error(401, f"A JSON web token could not be decoded ({problem})")
        elif token != "ghs_installation":
            return error(401, "Bad credentials")
        answer = await self._route(method, path.strip("/").split("/"), request)
        return error(502, "Server Error") if self.lose(method, path) else answer

    async def _route(self, method: str, path: list[str], request: Request) -> Response:
        body = await request.json() if method in ("POST", "PATCH", "PUT") else {}
        match method, path:
            case "GET", ["repos", _, _, "installation"]:
                return JSONResponse({"id": 99, "app_id": APP})
            case "POST", ["app", "installations", "99", "access_tokens"]:
                until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
                return JSONResponse({"token": "ghs_installation", "expires_at": until}, 201)
            case "GET", ["repos", _, _, "collaborators", login, "permission"]:
                return JSONResponse({"permission": "write" if login in self.writers else "read", "role_name": "x"})
            case "GET", ["repos", owner, name]:
                return JSONResponse({"full_name": f"{owner}/{name}", "default_branch": "main"})
            case "GET", ["repos", _, _, "pulls", number]:
                diff = "diff" in request.headers.get("accept", "")
                return PlainTextResponse(DIFF) if diff else JSONResponse(self.pulls[int(number)])
            case "GET", ["repos", _, _, "issues", number, "comments"]:
                return self._page(request, [c for c in self.comments.values() if c["number"] == int(number)])
            case "POST", ["repos", owner, name, "issues", number, "comments"]:
                if len(body["body"]) > 65536:
                    return error(422, "Validation Failed: body is too long (maximum is 65536 characters)")
                found = self._item(f"{owner}/{name}/issues/{number}", body) | {"number": int(number)}
                self.comments[found["id"]] = found
                return JSONResponse(found, 201)
            case "PATCH", ["repos", _, _, "issues", "comments", comment]:
                if int(comment) not in self.comments:
                    return error(404, "Not Found")
                self.comments[int(comment)]["body"] = body["body"]
                return JSONResponse(self.comments[int(comment)])
            case "GET", ["repos", _, _, "issues"]:
                return self._page(request, list(self.issues.values()))
            case "POST", ["repos", owner, name, "issues"]:
                found = self._item(f"{owner}/{name}/issues", body)
                self.issues[found["number"]] = found
                return JSONResponse(found, 201)
            case "GET", ["repos", _, _, "pulls"]:
                head = request.query_params["head"].split(":", 1)[1]
                return JSONResponse([pull for pull in self.pulls.values() if pull["head"]["ref"] == head])
            case "POST", ["repos", owner, name, "pulls"]:
                if any(pull["head"]["ref"] == body["head"] and pull["state"] == "open" for pull in self.pulls.values()):
                    return error(422, "Validation Failed: A pull request already exists")
                found = self._item(f"{owner}/{name}/pull", body) | {
                    "head": {"ref": body["head"]},
                    "state": "open",
                    "merged_at": None,
                }
                self.pulls[found["number"]] = found
                return JSONResponse(found, 201)
            case "GET", ["repos", _, _, "git", "ref", "heads", *ref]:
                known = "/".join(ref) in self.refs
                return JSONResponse({"object": {"sha": "a" * 40}}) if known else error(404, "Not Found")
            case "GET", ["repos", _, _, "git", "matching-refs", "heads", *prefix]:
                return JSONResponse([{"ref": f"refs/heads/{name}"} for name in self.refs if name.startswith("/".join(prefix))])
            case "POST", ["repos", _, _, "git", "refs"]:
                ref = body["ref"].removeprefix("refs/heads/")
                if ref in self.refs:
                    return error(422, "Reference already exists")
                self.refs[ref] = dict(self.refs["main"])
                return JSONResponse({"ref": body["ref"]}, 201)
            case "GET", ["repos", _, _, "contents", *folder]:
                files = self.refs.get(request.query_params["ref"], {})
                inside = [path for path in files if path.startswith("/".join(folder) + "/")]
                if not inside:
                    return error(404, "Not Found")
                return JSONResponse([{"name": p.rsplit("/", 1)[1], "path": p, "sha": blob(files[p])} for p in inside])
            case "PUT", ["repos", _, _, "contents", *file]:
                files, name = self.refs[body["branch"]], "/".join(file)
                if name in files and body.get("sha") != blob(files[name]):
                    return error(409, f"{name} does not match {body.get('sha')}")
                files[name] = base64.b64decode(body["content"])
                return JSONResponse({"content": {"path": name}}, 200)
        return error(404, "Not Found")

    def _item(self, path: str, body: Json) -> Json:
        number = next(self._numbers)
        return {
            **body, "id": number, "number": number, "html_url": f"https://github.com/{path}/{number}",
            "performed_via_github_app": {"id": APP}, "created_at": datetime.now(UTC).isoformat(),
        }  # fmt: skip

    @staticmethod
    def _page(request: Request, items: list[Json]) -> Response:
        since = datetime.fromisoformat(request.query_params.get("since", "1970-01-01T00:00:00+00:00"))
        fresh = [item for item in items if datetime.fromisoformat(item["created_at"]) >= since]
        size, page = int(request.query_params.get("per_page", 30)), int(request.query_params.get("page", 1))
        return JSONResponse(fresh[(page - 1) * size : page * size])


def blob(content: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324  git's own


@asynccontextmanager
async def github(public_key: str, port: int = 0) -> AsyncIterator[GitHubDouble]:
    """Serves one on loopback."""
    found = GitHubDouble(public_key=public_key)
    route = Route("/{path:path}", found.handle, methods=["GET", "POST", "PATCH", "PUT"])
    async with serving(Starlette(routes=[route]), port) as found.port:
        yield found
