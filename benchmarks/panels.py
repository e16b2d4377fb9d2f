"""Draws a Grafana dashboard as SVG, from its JSON and what Prometheus answers to its queries: its grid, titles, units and legends."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

UNIT, ROW, GAP = 62, 26, 6
"""Pixels of a column and of a row of the grid, and between panels."""
COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#f2495c", "#8ab8ff", "#c0d8ff")
MOST = 5
"""Series that a legend names."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """points: seconds and values."""

    name: str
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        return self.points[-1][1]


def named(template: str, labels: Mapping[str, str]) -> str:
    """A legend as Grafana writes it: {{label}} by its value; without a template, the labels."""
    if not template:
        return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template).strip()


def said(value: float, unit: str | None) -> str:
    """A value with its unit, short."""
    match unit:
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "currencyUSD":
            return f"${value:.3g}" if value < 100 else f"${value:,.0f}"
        case "s":
            return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min"
        case "d":
            return f"{value:.0f} days"
        case _:
            return f"{value / 1000:.3g} K" if abs(value) >= 10_000 else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def picture(dashboard: Mapping[str, Any], found: Mapping[int, Sequence[Series]], title: str, since: float, until: float) -> str:
    """The dashboard. found: series by the id of their panel; since, until: the seconds that all of them show."""
    deep = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    width, height = 24 * UNIT, deep * ROW + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="Inter, Helvetica, Arial, sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#111217"/>',
        f'<text x="{GAP}" y="24" font-size="16" fill="#ccccdc">{escape(title)}</text>',
    ]
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        x, y, w, h = at["x"] * UNIT, at["y"] * ROW + 40, at["w"] * UNIT, at["h"] * ROW
        if panel["type"] == "row":
            parts.append(f'<text x="{x + GAP}" y="{y + 18}" font-size="13" fill="#ccccdc">▾ {escape(panel["title"])}</text>')
            continue
        box = (x + GAP / 2, y + GAP / 2, w - GAP, h - GAP)
        parts.append(
            f'<rect x="{box[0]}" y="{box[1]}" width="{box[2]}" height="{box[3]}" rx="2" fill="#181b1f" stroke="#2c3235"/>'
        )
        parts.append(f'<text x="{box[0] + 8}" y="{box[1] + 17}" font-size="12" fill="#ccccdc">{escape(panel["title"])}</text>')
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit")
        draw = {"stat": _stat, "bargauge": _bars}.get(panel["type"], partial(_lines, since=since, until=until))
        series = [one for one in found.get(panel["id"], ()) if one.points]
        parts += draw(series, unit, box) if series else [_text(box, "No data")]
    return "\n".join([*parts, "</svg>", ""])


Box = tuple[float, float, float, float]


def _text(box: Box, words: str) -> str:
    x, y, w, h = box
    return f'<text x="{x + w / 2}" y="{y + h / 2 + 8}" text-anchor="middle" fill="#6e7177">{words}</text>'


def _stat(series: Sequence[Series], unit: str | None, box: Box) -> list[str]:
    x, y, w, h = box
    value = said(max(one.last for one in series), unit)
    return [
        f'<text x="{x + w / 2}" y="{y + h / 2 + 20}" text-anchor="middle" font-size="30" fill="{COLOURS[0]}">{escape(value)}</text>'
    ]


def _bars(series: Sequence[Series], unit: str | None, box: Box) -> list[str]:
    x, y, w, h = box
    most = max(one.last for one in series) or 1
    step = (h - 34) / len(series)
    parts = []
    for number, one in enumerate(series):
        top = y + 28 + number * step
        wide = (w - 130) * max(0.0, one.last) / most
        parts.append(f'<text x="{x + 8}" y="{top + step / 2}" fill="#ccccdc">{escape(one.name[:18])}</text>')
        parts.append(
            f'<rect x="{x + 80}" y="{top + step / 2 - 9}" width="{wide:.1f}" height="11" fill="{COLOURS[number % len(COLOURS)]}"/>'
        )
        parts.append(
            f'<text x="{x + w - 8}" y="{top + step / 2}" text-anchor="end" fill="#ccccdc">{said(one.last, unit)}</text>'
        )
    return parts


def _lines(series: Sequence[Series], unit: str | None, box: Box, *, since: float, until: float) -> list[str]:
    x, y, w, h = box
    shown = sorted(series, key=lambda one: -max(value for _, value in one.points))
    legend = min(len(shown), MOST)
    left, right, top, floor = x + 52, x + w - 10, y + 28, y + h - 24 - 13 * legend
    most = _round(max(max(value for _, value in one.points) for one in shown))
    parts = []
    for step in range(3):
        level = floor - (floor - top) * step / 2
        parts.append(f'<line x1="{left}" y1="{level:.1f}" x2="{right}" y2="{level:.1f}" stroke="#2c3235"/>')
        parts.append(
            f'<text x="{left - 5}" y="{level + 4:.1f}" text-anchor="end" font-size="10" fill="#8e8e96">{said(most * step / 2, unit)}</text>'
        )
    for number in range(4):
        at = left + (right - left) * number / 3
        anchor = "start" if number == 0 else "end" if number == 3 else "middle"
        parts.append(
            f'<text x="{at:.1f}" y="{floor + 12:.1f}" text-anchor="{anchor}" font-size="10" fill="#8e8e96">{(until - since) * number / 180:.1f} min</text>'
        )
    for number, one in reversed(list(enumerate(shown))):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{left + (right - left) * (at - since) / (until - since):.1f},{floor - (floor - top) * min(value, most) / most:.1f}"
            for at, value in one.points
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        if number < MOST:
            line = y + h - 8 - 13 * (legend - 1 - number)
            parts.append(f'<rect x="{x + 10}" y="{line - 6}" width="10" height="3" fill="{colour}"/>')
            parts.append(
                f'<text x="{x + 25}" y="{line}" font-size="10" fill="#ccccdc">{escape(one.name[:44] or "value")}</text>'
            )
            parts.append(
                f'<text x="{x + w - 10}" y="{line}" text-anchor="end" font-size="10" fill="#ccccdc">{said(one.last, unit)}</text>'
            )
    return parts


def _round(value: float) -> float:
    """The end of an axis: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)
