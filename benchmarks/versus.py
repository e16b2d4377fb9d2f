"""A commit against the working tree: a checkout of it for as long as it is measured, and a table of both."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """A worktree of the commit in a folder that is there."""
    other = folder / "base"
    subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(other), commit], cwd=ROOT, check=True)
    try:
        yield other
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(other)], cwd=ROOT, check=True)


def table(base: str, pairs: Sequence[tuple[Any, Any]]) -> str:
    """Each figure of two dataclasses of one kind: medians of both, and the ratios pair by pair."""
    lines = [f"| | {base} | here | ratio, pair by pair: median (range) |", "| --- | --- | --- | --- |"]
    for field in fields(pairs[0][0]):
        before = [getattr(one, field.name) for one, _ in pairs]
        after = [getattr(two, field.name) for _, two in pairs]
        ratios = [two / one for one, two in zip(before, after, strict=True)]
        lines.append(
            f"| {field.name} | {statistics.median(before):.4g} | {statistics.median(after):.4g} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return "\n".join(lines)
