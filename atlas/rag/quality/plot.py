"""A bar chart of an evaluation as SVG: it shows in a browser and in a README, and needs no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from atlas.rag.quality.evaluate import DEPTHS, Scores

_COLOURS = ("#8da0cb", "#fc8d62", "#66c2a5", "#e78ac3", "#a6d854")


def chart(scores: Sequence[Scores], title: str) -> str:
    """Groups of bars, one a measure; a bar a way to search."""
    groups = [(f"recall@{depth}", [score.recall[depth] for score in scores]) for depth in DEPTHS]
    groups += [("MRR", [score.mrr for score in scores]), ("nDCG@10", [score.ndcg for score in scores])]
    return bars(title, [f"{score.name} (p95 {score.p95:.0f} ms)" for score in scores], groups, most=1.0)


def bars(
    title: str,
    names: Sequence[str],
    groups: Sequence[tuple[str, Sequence[float]]],
    *,
    most: float | None = None,
    form: str = "{:.2f}",
) -> str:
    """Groups of bars, each with a bar a name. most: what the axis ends with; None: the largest value."""
    most = most or max(value for _, values in groups for value in values)
    width, height, left, top, bar = 760, 340, 48, 64, 26
    group = len(names) * bar + 34
    width = max(width, left + len(groups) * group + 20, left + 170 * len(names))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="15">{escape(title)}</text>',
    ]
    for index, name in enumerate(names):
        x = left + index * 170
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{_COLOURS[index % len(_COLOURS)]}"/>')
        parts.append(f'<text x="{x + 18}" y="45">{escape(name)}</text>')
    floor = height - 34
    for step in range(0, 11, 2):
        y = floor - (floor - top) * step / 10
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - 10}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{most * step / 10:{".1f" if most <= 1 else ".0f"}}</text>'
        )
    for number, (label, values) in enumerate(groups):
        x = left + 12 + number * group
        for index, value in enumerate(values):
            tall = (floor - top) * value / most
            parts.append(
                f'<rect x="{x + index * bar}" y="{floor - tall:.1f}" width="{bar - 4}" height="{tall:.1f}" '
                f'fill="{_COLOURS[index % len(_COLOURS)]}"/>'
            )
            parts.append(
                f'<text x="{x + index * bar + (bar - 4) / 2:.1f}" y="{floor - tall - 4:.1f}" text-anchor="middle" '
                f'font-size="10">{form.format(value)}</text>'
            )
        parts.append(f'<text x="{x + len(values) * bar / 2:.1f}" y="{floor + 18}" text-anchor="middle">{escape(label)}</text>')
    return "\n".join([*parts, "</svg>", ""])
