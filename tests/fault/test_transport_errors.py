"""What a call costs that ended without an answer: by where it broke, and by who answered. Against sockets that break there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx2
import pytest
from openai import AsyncOpenAI

from atlas.llm.errors import CallHeld, ModelError, RateLimited, StreamCut, Unavailable, UpstreamFailed, WayLost
from atlas.llm.models import Model
from atlas.llm.openai_responses import OpenAIGenerator
from atlas.llm.port import Finished, ModelCall, ModelEvent
from atlas.llm.transport import probed_sockets, watched_client
from atlas.task import Usage
from tests.doubles.openai import OpenAIDouble
from tests.support.core import ADR

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def generator(url: str, read: float = 1.0) -> AsyncIterator[OpenAIGenerator]:
    async with AsyncOpenAI(
        api_key="k", base_url=url, max_retries=0, timeout=read, http_client=watched_client(read=read, connect=0.5)
    ) as client:
        yield OpenAIGenerator(client, background="auto", idle=read)


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


def call(size: int = 10) -> ModelCall:
    return ModelCall(model=Model(name="gpt-4.1"), instructions="Answer.", turns=(("user", "x" * size),), max_output_tokens=500)


async def failure(url: str, size: int = 10) -> ModelError:
    async with generator(url) as writer:
        with pytest.raises(ModelError) as caught:
            [event async for event in writer.generate(call(size))]
    return caught.value


async def whole(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    await reader.readexactly(sum(lengths))


# --- before the request was written in full: none -------------------------------------------------------------------


async def test_a_refused_connection_cost_nothing() -> None:
    async with listening(lambda _r, _w: asyncio.sleep(0)) as url:
        pass
    error = await failure(url)
    assert type(error) is UpstreamFailed
    assert error.usage is not None
    assert error.usage.known == "none"


async def test_a_name_that_does_not_resolve_cost_nothing() -> None:
    error = await failure("http://no-such-host.invalid/v1")
    assert (type(error), error.usage and error.usage.known) == (UpstreamFailed, "none")


async def test_tls_that_fails_cost_nothing() -> None:
    async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is not TLS\r\n")
        await writer.drain()

    async with listening(plain) as url:
        error = await failure(url.replace("http:", "https:"))
    assert (type(error), error.usage and error.usage.known) == (UpstreamFailed, "none")


async def test_a_connection_that_takes_too_long_cost_nothing() -> None:
    """TLS that never answers: the time-out of the connect."""

    async def mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(mute) as url:
        error = await failure(url.replace("http:", "https:"))
    assert (type(error), error.code, error.usage and error.usage.known) == (UpstreamFailed, "timeout", "none")


async def test_a_reset_while_the_request_is_written_cost_nothing() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.transport.abort()

    async with listening(reset) as url:
        error = await failure(url, size=30_000_000)
    assert (type(error), error.usage and error.usage.known) == (UpstreamFailed, "none"), error


async def test_a_server_that_stops_reading_cost_nothing() -> None:
    """The request is never written in full: the time-out of the write."""
    done = asyncio.Event()

    async def stuck(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        await done.wait()

    async with listening(stuck) as url:
        error = await failure(url, size=30_000_000)
        done.set()
    assert (type(error), error.code, error.usage and error.usage.known) == (UpstreamFailed, "timeout", "none"), error


async def test_a_url_that_is_none_of_http_cost_nothing() -> None:
    error = await failure("ftp://127.0.0.1/v1")
    assert (type(error), error.usage and error.usage.known) == (UpstreamFailed, "none")


async def test_a_request_that_breaks_the_protocol_here_cost_nothing() -> None:
    """A header that HTTP does not allow is refused before anything is sent."""
    async with listening(close) as url, AsyncOpenAI(
        api_key="k", base_url=url, max_retries=0, default_headers={"x": "a\x00b"}, http_client=watched_client(read=1)
    ) as client:  # fmt: skip
        with pytest.raises(ModelError) as caught:
            [event async for event in OpenAIGenerator(client, background="auto").generate(call())]
    assert (type(caught.value), caught.value.usage and caught.value.usage.known) == (UpstreamFailed, "none")


async def test_a_proxy_that_refuses_cost_nothing() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with listening(refuse) as proxy:
        error = await over_transport(
            "https://example.invalid/v1", lambda: httpx2.AsyncHTTPTransport(proxy=proxy.removesuffix("/v1"))
        )
    assert (type(error), error.usage and error.usage.known) == (UpstreamFailed, "none")


async def test_a_full_pool_cost_nothing() -> None:
    """One connection, and a stream that keeps it."""
    limits = httpx2.Limits(max_connections=1)
    client = watched_client(read=2, connect=0.3, transport=lambda: httpx2.AsyncHTTPTransport(limits=limits))
    async with listening(no_event) as url, AsyncOpenAI(api_key="k", base_url=url, max_retries=0, http_client=client) as ai:
        writer = OpenAIGenerator(ai, background="auto", idle=2)

        async def one() -> ModelError:
            with pytest.raises(ModelError) as caught:
                [event async for event in writer.generate(call())]
            return caught.value

        first = asyncio.create_task(one())
        await asyncio.sleep(0.2)
        error = await one()
        await first
    assert (type(error), error.code, error.usage and error.usage.known) == (UpstreamFailed, "timeout", "none")


async def over_transport(url: str, transport: Callable[[], httpx2.AsyncBaseTransport]) -> ModelError:
    client = watched_client(read=1, connect=0.5, transport=transport)
    async with AsyncOpenAI(api_key="k", base_url=url, max_retries=0, http_client=client) as ai:
        with pytest.raises(ModelError) as caught:
            [event async for event in OpenAIGenerator(ai, background="auto").generate(call())]
    return caught.value


# --- sent in full, and no answer: held ------------------------------------------------------------------------------


async def close(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await whole(reader)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole(reader)
    writer.transport.abort()


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await whole(reader)
    await reader.read()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole(reader)
    writer.write(b"\x00\x01\x02 not HTTP\r\n\r\n")
    await writer.drain()


async def half_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-ty")
    await writer.drain()


async def head_alone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n")
    await writer.drain()


async def no_event(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    await writer.drain()
    await reader.read()


async def undecodable(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole(reader)
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nplain"
    )
    await writer.drain()


async def around(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Redirects to itself, forever."""
    while True:
        await whole(reader)
        writer.write(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /v1/responses\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()


@pytest.mark.parametrize("serve", [close, reset, silent, garbage, half_a_head, head_alone, no_event, undecodable, around])
async def test_a_request_that_was_sent_and_not_answered_is_held(serve: Serve) -> None:
    async with listening(serve) as url:
        error = await failure(url)
    assert isinstance(error, CallHeld), error
    assert error.usage is not None
    assert error.usage.known == "held"
    assert error.outage


def test_connections_are_probed_by_tcp() -> None:
    options = {(level, name): value for level, name, value in probed_sockets()}
    assert options[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 1
    assert options[socket.IPPROTO_TCP, socket.TCP_KEEPIDLE] + 3 * options[socket.IPPROTO_TCP, socket.TCP_KEEPINTVL] <= 60


# --- who answered ---------------------------------------------------------------------------------------------------


def answering(status: int, body: bytes, kind: str = "application/json") -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole(reader)
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return serve


OWN = b'{"error": {"message": "it broke", "type": "server_error", "code": "server_error", "param": null}}'


@pytest.mark.parametrize(
    ("status", "body", "expected", "known"),
    [
        (500, OWN, UpstreamFailed, "none"),
        (502, OWN, UpstreamFailed, "none"),
        (503, OWN, UpstreamFailed, "none"),
        (429, OWN, RateLimited, "none"),
        (401, OWN, Unavailable, "none"),
        (502, b"<html>bad gateway</html>", CallHeld, "held"),
        (504, b"<html>gateway time-out</html>", CallHeld, "held"),
        (500, b"", CallHeld, "held"),
        (524, b"a timeout occurred", CallHeld, "held"),
        (503, b"<html>no backend</html>", UpstreamFailed, "none"),
        (521, b"web server is down", UpstreamFailed, "none"),
    ],
)
async def test_who_answered_says_what_it_cost(status: int, body: bytes, expected: type, known: str) -> None:
    kind = "application/json" if body == OWN else "text/html"
    async with listening(answering(status, body, kind)) as url:
        error = await failure(url)
    assert (type(error), error.usage and error.usage.known) == (expected, known)


async def test_an_answer_that_is_not_json_is_held() -> None:
    """A response may have been made: its id is what is missing."""
    async with listening(answering(200, b"<html>hello</html>", "text/html")) as url:
        error = await failure(url)
    assert isinstance(error, CallHeld)


# --- after the id ---------------------------------------------------------------------------------------------------


async def test_after_the_id_the_stream_is_cut_and_the_response_known() -> None:
    with OpenAIDouble() as double:
        double.plan(text=ADR, cut_after=3)
        events = []

        async def read() -> None:
            async with generator(double.url) as writer:
                async for event in writer.generate(call()):
                    events.append(event)  # noqa: PERF401  what came before the cut

        with pytest.raises(StreamCut) as caught:
            await read()
        assert events
        assert caught.value.usage is None


async def test_a_known_response_that_cannot_be_reached_is_kept() -> None:
    for serve in (close, silent, answering(502, b"<html></html>", "text/html"), answering(500, OWN), answering(401, OWN)):
        async with listening(_get(serve)) as url, generator(url) as writer:
            with pytest.raises(WayLost) as caught:
                [event async for event in writer.resume("resp_1", 3)]
        assert caught.value.kept


def _get(serve: Serve) -> Serve:
    """A GET has no body to wait for."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        again = asyncio.StreamReader()
        again.feed_data(head.rstrip(b"\r\n") + b"\r\ncontent-length: 0\r\n\r\n")
        if serve is silent:
            await reader.read()
        again.feed_eof()
        await serve(again, writer)

    return handle


# --- a page instead of an answer ------------------------------------------------------------------------------------

PAGES = {
    "a page": (b"<html>sign in</html>", "text/html"),
    "no response": (b"{}", "application/json"),
    "a list": (b"[1, 2]", "application/json"),
    "no output": (b'{"id": "resp_1", "object": "response", "status": "completed", "output": null}', "application/json"),
    "odd items": (b'{"id": "resp_1", "object": "response", "status": "completed", "output": [1, {"type": "message"}]}', "application/json"),
    "odd usage": (b'{"id": "resp_1", "object": "response", "status": "completed", "output": [], "usage": {"input_tokens": "x"}}',
                  "application/json"),
    **{name: (b'{"id": "resp_1", "object": "response", "status": "failed", "output": [], ' + odd + b"}", "application/json") for name, odd in {
        "odd error": b'"error": "upstream is away"',
        "odd reason": b'"incomplete_details": "x"',
        "odd details": b'"usage": {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": {"cached_tokens": "3"}}',
        "odd count": b'"usage": {"input_tokens": -5, "output_tokens": 2}',
    }.items()},
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
async def test_a_200_that_is_not_a_response_is_an_outage(page: str) -> None:
    """Something between here and the provider answers, a sign-in page say: it ended workers, and dead-lettered their tasks."""
    body, kind = PAGES[page]
    async with listening(answering(200, body, kind)) as url, generator(url) as writer:
        for ask in (writer.cancel, writer.usage, lambda response: _all(writer.resume(response, 3))):
            with pytest.raises(WayLost) as lost:
                await ask("resp_1")
            assert lost.value.code == "malformed"
        polled = replace(call(), model=Model(name="o1-pro", streams=False))
        with pytest.raises(CallHeld):
            await _all(writer.generate(polled))
        if page in ("a page", "no response", "a list"):
            with pytest.raises(UpstreamFailed):
                await writer.probe("gpt-4.1")
            with pytest.raises(UpstreamFailed):
                await writer.count(call())


def _stream(end: bytes) -> Serve:
    """A stream of one word, whose last event has this of a response."""
    events = (
        b'{"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1"}}',
        b'{"type": "response.output_text.delta", "sequence_number": 1, "delta": "word"}',
        b'{"type": "response.completed", "sequence_number": 2, "response": {"id": "resp_1", ' + end + b"}}",
    )
    return answering(200, b"".join(b"data: " + event + b"\n\n" for event in events), "text/event-stream")


@pytest.mark.parametrize("end", [
    b'"status": "failed", "error": "upstream is away"',
    b'"status": "incomplete", "incomplete_details": "x"',
    b'"status": "completed", "usage": {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": {"cached_tokens": "3"}}',
    b'"status": "completed", "usage": {"input_tokens": -5, "output_tokens": 2}',
    b'"status": null',
])  # fmt: skip
async def test_a_last_event_that_cannot_be_read_leaves_the_response_to_be_asked_for(end: bytes) -> None:
    async with listening(_stream(end)) as url, generator(url) as writer:
        with pytest.raises(UpstreamFailed) as caught:
            await _all(writer.generate(call()))
    assert (caught.value.code, caught.value.usage, caught.value.outage) == ("malformed", None, True)
    assert not caught.value.terminal


async def test_of_a_last_event_nothing_is_read_but_what_is_needed() -> None:
    end = b'"status": "completed", "output": null, "tools": 7, "usage": {"input_tokens": 3, "output_tokens": 2}'
    async with listening(_stream(end)) as url, generator(url) as writer:
        found = await _all(writer.generate(call()))
    assert found[-1] == Finished(usage=Usage(input_tokens=3, output_tokens=2), truncated=False, refused=False)


async def _all(events: AsyncIterator[ModelEvent]) -> list[ModelEvent]:
    return [event async for event in events]
