"""Server-sent events: the data of each, as bytes, in the batches in which they arrive.

The client's own reader makes an object of its types of every event, which costs some fifteen times what the event's JSON does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

LONGEST = 64 * 1024 * 1024
"""Bytes of one event; the last one of a response holds its whole text."""


class EventTooLong(Exception):
    """A server sends an event that never ends."""


class EventParser:
    """Cuts a stream into events. Mutable: what came of an event that is not over."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of the events that are whole now. Raises EventTooLong."""
        text = self._rest + chunk
        if not self._begun:
            self._begun = True
            text = text.removeprefix(b"\xef\xbb\xbf")
        half = b""
        if b"\r" in text:
            if text.endswith(b"\r"):
                # the other half of a line's end may come with the next chunk
                text, half = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *whole, rest = text.split(b"\n\n")
        self._rest = rest + half
        if len(self._rest) > LONGEST:
            raise EventTooLong(f"an event is longer than {LONGEST} bytes")
        return [data for block in whole if (data := _data(block))]


def _data(block: bytes) -> bytes:
    """What the lines `data:` of an event hold; empty for a comment."""
    found = [line[6:] if line.startswith(b"data: ") else line[5:] for line in block.split(b"\n") if line.startswith(b"data:")]
    return found[0] if len(found) == 1 else b"\n".join(found)


async def batches(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """The data of the events of a stream, as many as came together, at least one. An event that is cut off is left out."""
    parser = EventParser()
    async for chunk in chunks:
        if found := parser.feed(chunk):
            yield found
