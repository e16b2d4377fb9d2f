"""Headings: the quick scan says what the parser says, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atlas import markdown
from atlas.llm.replay import read_replay
from tests.support.core import ADR, ROOT

BITS = [
    "#", "##", "#######", "# ", "\t", " ", "  ", "   ", "    ", "a", "word", "\\#", "\\", "```", "````", "~~~", "~~~~", "`", "> ", ">", "- ",
    "-", "--", "---", "* ", "1. ", "=", "===", "<div>", "</div>", "<!-- ", "-->", "<https://x>", "[a]: /b", "\"t", "\"", "|", "\u00a0",
    "\x0b", "\x0c", "\u2028", "é", "\\`",
]  # fmt: skip
LINES = st.lists(st.lists(st.sampled_from(BITS), max_size=5).map("".join), max_size=8).map("\n".join)


@given(LINES)
@example("> ```\n# in the open\n```\n# in a fence")
@example("- ```\n# in the open\n  ```\n# in a fence")
@example("text\n```` a\n# b\n```\n# c\n````` \n# d")
@example("# a ##\n## ##\n# #\n#\n#a\n# a#\n# a \\##\n####### a")
@settings(max_examples=3000, deadline=None)
def test_the_scan_finds_what_the_parser_finds(text: str) -> None:
    found = markdown._scanned(text)
    assert found is None or found == markdown.parsed(text)
    assert markdown.headings(text) == markdown.parsed(text)


@pytest.mark.parametrize(
    "text", ["a\n---", "a\n===", "<div>\n# a\n</div>", " # a", "- a\n\n  # b", "a\r# b", "```\n ```\n# a", "  ```\n# a"]
)
def test_what_needs_the_parser_gets_it(text: str) -> None:
    assert markdown._scanned(text) is None


def test_replies_are_scanned() -> None:
    """Else the scan would be right, and of no use."""
    _, example = read_replay((ROOT / "examples/replies/minimal-ci-pipeline.md").read_text())
    for text in (ADR, example, "---\nstatus: proposed\n\n# a"):
        assert markdown._scanned(text)
