"""What a reader of a running reply shows."""

from __future__ import annotations

from atlas.tasks.follow import MoreText, Reader, Restart
from atlas.tasks.port import Part


def part(text: str, offset: int = 0, attempt: int = 1, generation: int = 0) -> Part:
    return Part(attempt=attempt, generation=generation, seq=1, offset=offset, text=text)


def test_a_final_reply_that_is_shorter_than_what_was_shown_leaves_no_tail() -> None:
    reader = Reader()
    reader.feed(part("Use Kafka. Not Rabbit."))
    reader.feed(part("Use Kafka.", attempt=2))
    reader.finish("Use Kafka.")
    assert reader.take() == [MoreText(text="Use Kafka. Not Rabbit."), Restart(text="Use Kafka.")]


def test_a_final_reply_that_was_shown_already_says_nothing_more() -> None:
    reader = Reader()
    reader.feed(part("Use Kafka."))
    reader.finish("Use Kafka.")
    assert reader.take() == [MoreText(text="Use Kafka.")]


def test_a_part_that_overlaps_what_is_held_adds_its_end() -> None:
    """A broadcast carries all since the one before; a look at the tables may have been in between."""
    reader = Reader()
    reader.feed(part("Use 😀 K"))
    assert reader.feed(part("😀 Kafka", offset=4))
    assert reader.feed(part("Ka", offset=6)), "had it before"
    assert not reader.feed(part("!", offset=12)), "something is missing"
    assert "".join(event.text for event in reader.take()) == reader.text == "Use 😀 Kafka"
    assert reader.offset == 10, "what comes after begins at 11"
