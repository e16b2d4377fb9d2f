"""Frames of the Realtime protocol, in both versions of its serializer: 1.0.0 (objects) and 2.0.0 (arrays, bytes for some)."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

VERSIONS = ("1.0.0", "2.0.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One message. join_ref travels in version 2 only."""

    topic: str
    event: str
    payload: dict[str, Any]
    ref: str | None = None
    join_ref: str | None = None

    @property
    def name(self) -> str:
        """The topic without its prefix."""
        return self.topic.removeprefix("realtime:")


def decode(text: str | bytes, version: str) -> Frame | None:
    """The frame of a message; None for what is none (the real server ignores it)."""
    try:
        if isinstance(text, bytes):
            return _pushed(text)
        found = json.loads(text)
        if version == "1.0.0":
            return Frame(
                topic=found["topic"], event=found["event"], payload=found["payload"] or {}, ref=found.get("ref"),
                join_ref=found.get("join_ref"),
            )  # fmt: skip
        join_ref, ref, topic, event, payload = found
        return Frame(topic=topic, event=event, payload=payload or {}, ref=ref, join_ref=join_ref)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None


def _pushed(data: bytes) -> Frame | None:
    """A broadcast of the JavaScript client, which sends them in bytes: kind 3, six lengths, as many fields, the payload."""
    kind, *lengths, encoding = data[:7]
    if kind != 3 or encoding != 1:
        return None
    fields, at = [], 7
    for length in lengths:
        fields.append(data[at : at + length].decode())
        at += length
    join_ref, ref, topic, event, _ = fields
    payload = {"type": "broadcast", "event": event, "payload": json.loads(data[at:])}
    return Frame(topic=topic, event="broadcast", payload=payload, ref=ref or None, join_ref=join_ref or None)


def encode(frame: Frame, version: str) -> str | bytes:
    """The text of a frame; bytes for a broadcast of SQL in version 2."""
    meta = frame.payload.get("meta")
    if version == "1.0.0":
        return _compact({"ref": frame.ref, "event": frame.event, "topic": frame.topic, "payload": frame.payload})
    if frame.event == "broadcast" and meta is not None:
        topic, event = frame.topic.encode(), str(frame.payload["event"]).encode()
        details = _compact(meta).encode()
        head = struct.pack("5B", 4, len(topic), len(event), len(details), 1)
        return head + topic + event + details + json.dumps(frame.payload["payload"], ensure_ascii=False).encode()
    return _compact([frame.join_ref, frame.ref, frame.topic, frame.event, frame.payload])


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
