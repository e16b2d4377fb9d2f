"""docs/security.md and docs/troubleshooting.md: each line of their tables names a test that exists."""

from __future__ import annotations

import re

import pytest

from tests.support.core import ROOT


def known_tests() -> set[str]:
    """The names of all tests."""
    return {
        name for path in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in path.parts
        for name in re.findall(r"(?m)^(?:async )?def (test_\w+)", path.read_text())
    }  # fmt: skip


@pytest.mark.parametrize(("page", "least"), [("security.md", 30), ("troubleshooting.md", 15)])
def test_each_line_names_tests_that_exist(page: str, least: int) -> None:
    known = known_tests()
    text = (ROOT / "docs" / page).read_text()
    tables = re.findall(r"(?m)^\| .* \| test \|\n\| [- |]+\n((?:\|.*\n)+)", text)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) >= least
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.strip("| ").rpartition(" | ")[2])
        assert named, row
        assert set(named) <= known, row
