"""Server-sent events, however they are cut and spelt; and that what is read of them is what the client's types have."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent

from atlas.llm import sse
from atlas.llm.openai_events import NEEDED
from atlas.llm.sse import EventParser, EventTooLong

ENDS = st.sampled_from(["\n", "\r\n", "\r"])
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["", "event: x", "id: 7", ": a comment", "retry: 5"]), st.text("ab {}\u00e9\U0001f600", min_size=1)
    ),
    max_size=5,
)


@given(EVENTS, ENDS, st.lists(st.integers(1, 9), min_size=1), st.sampled_from(["data: ", "data:"]))
@example([("event: x", "é")], "\r\n", [1], "data: ")
@settings(max_examples=500, deadline=None)
def test_events_are_whole_however_they_are_cut(events: list[tuple[str, str]], end: str, cuts: list[int], field: str) -> None:
    # a space behind the colon is the field's, not the text's
    events = [(head, text.lstrip(" ") or "x") for head, text in events]
    stream = "".join((head + end if head else "") + field + text + end + end for head, text in events).encode() + b"data: cut"
    parser, found, place = EventParser(), [], 0
    for number in range(len(stream)):
        size = cuts[number % len(cuts)]
        found += parser.feed(stream[place : place + size])
        place += size
    # a lone carriage return at the very end may be half of a line's end: with the next byte it is known
    found += parser.feed(b"\n")
    assert [data.decode() for data in found[: len(events)]] == [text for _, text in events]


def test_lines_of_one_event_are_joined_and_comments_are_none() -> None:
    parser = EventParser()
    assert parser.feed(b"\xef\xbb\xbf: hello\n\ndata: a\ndata:b\n\n: ping\n\ndata: {}\n\nda") == [b"a\nb", b"{}"]


def test_an_event_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST", 1000)
    parser = EventParser()
    assert parser.feed(b"data: " + b"x" * 900) == []
    with pytest.raises(EventTooLong, match="longer than 1000 bytes"):
        parser.feed(b"x" * 100)


def test_what_is_read_of_an_event_is_what_the_clients_types_have() -> None:
    """A field that was renamed, or a type that went, is found when the client is updated."""
    types: dict[str, Any] = {}
    for one in get_args(get_args(ResponseStreamEvent)[0]):
        types[get_args(one.model_fields["type"].annotation)[0]] = one
    # servers differ in how they tell of a cancellation; the client has no event for it
    for kind, (field, of) in NEEDED.items():
        if kind == "response.cancelled":
            assert kind not in types
            continue
        annotation = types[kind].model_fields[field].annotation
        assert annotation is str if of is str else "id" in annotation.model_fields
        assert types[kind].model_fields["sequence_number"].annotation is int
    assert {"code", "message"} <= set(types["error"].model_fields)
    assert json.loads(types["response.output_text.delta"].construct(delta="x").to_json())["delta"] == "x"
