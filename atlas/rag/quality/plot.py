"""A bar chart of an evaluation as SVG: it shows in a browser and in a README, and needs no library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from atlas.rag.quality.evaluate import DEPTHS, Scores

_COLOURS = ("#8da0cb", "#fc8d62", "#66c2a5", "#e78ac3")


def chart(scores: Sequence[Scores], title: str) -> str:
    """Groups of bars, one a measure; a bar a way to search."""
    measures = [(f"recall@{depth}", [score.recall[depth] for score in scores]) for depth in DEPTHS]
    measures += [("MRR", [score.mrr for score in scores]), ("nDCG@10", [score.ndcg for score in scores])]
    width, height, left, top, bar = 760, 340, 48, 64, 26
    group = len(scores) * bar + 34
    width = max(width, left + len(measures) * group + 20)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="15">{escape(title)}</text>',
    ]
    for index, score in enumerate(scores):
        x = left + index * 170
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{_COLOURS[index % len(_COLOURS)]}"/>')
        parts.append(f'<text x="{x + 18}" y="45">{escape(score.name)} (p95 {score.p95:.0f} ms)</text>')
    floor = height - 34
    for step in range(0, 11, 2):
        y = floor - (floor - top) * step / 10
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{width - 10}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{step / 10:.1f}</text>')
    for number, (name, values) in enumerate(measures):
        x = left + 12 + number * group
        for index, value in enumerate(values):
            tall = (floor - top) * value
            parts.append(
                f'<rect x="{x + index * bar}" y="{floor - tall:.1f}" width="{bar - 4}" height="{tall:.1f}" '
                f'fill="{_COLOURS[index % len(_COLOURS)]}"/>'
            )
            parts.append(
                f'<text x="{x + index * bar + (bar - 4) / 2:.1f}" y="{floor - tall - 4:.1f}" text-anchor="middle" '
                f'font-size="10">{value:.2f}</text>'
            )
        parts.append(f'<text x="{x + len(values) * bar / 2:.1f}" y="{floor + 18}" text-anchor="middle">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])
