"""Draws a dashboard as SVG from what a Prometheus answered: cards on the grid that Grafana has them on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

from tools.watch.dashboards import WIDE, Dashboard, Panel

Line = tuple[str, Sequence[tuple[float, float]]]
"""A name for the legend; times and values."""

_COLUMN, _ROW, _GAP, _HEAD = 52, 30, 8, 64
_COLOURS = ("#2f6fde", "#e8833a", "#2e9e6b", "#c2417c", "#7a5cd0", "#b58900", "#1b9aaa", "#8a8f98")
_INK, _PALE, _GRID, _GOOD, _BAD = "#1f2430", "#6b7280", "#e5e7eb", "#1f8a5b", "#c8322b"
_MOST_NAMED = 8
_MOST_ROWS = 3
_PACKAGE = re.compile(r"/[\w.]+\.(?=\w+/)")
"""Of an RPC's method."""
_LETTER = 5.9
"""About how wide a letter of the legend is, in pixels."""


def drawn(shown: Dashboard, answers: Mapping[str, Sequence[Line]], begin: float, end: float) -> str:
    """Return the picture; `answers` by the panel's title, over the time from `begin` to `end` (Unix seconds)."""
    cards, x, y, tallest = [], 0, 0, 0
    for panel in shown.panels:
        left, top = x * _COLUMN, _HEAD + y * _ROW
        size = (panel.width * _COLUMN - _GAP, panel.height * _ROW - _GAP)
        draw = _figure if panel.kind == "stat" else _chart
        inner = draw(panel, answers[panel.title], *size, begin, end)
        cards.append(f'<g transform="translate({left + _GAP},{top})">{inner}</g>')
        x, tallest = x + panel.width, max(tallest, panel.height)
        if x >= WIDE:
            x, y, tallest = 0, y + tallest, 0
    width, height = WIDE * _COLUMN + _GAP, _HEAD + (y + tallest) * _ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="Inter, Helvetica, Arial, sans-serif" font-size="11">',
            f'<rect width="{width}" height="{height}" fill="#f3f4f6"/>',
            _text(_GAP + 4, 28, shown.title, size=20, weight=600),
            _text(_GAP + 4, 48, shown.tells, _PALE, size=13),
            *cards,
            "</svg>",
            "",
        ]
    )


def said(value: float, unit: str) -> str:
    """Return a value with its unit, as a person reads it."""
    if unit == "s":
        if 0 < value < 1:
            return f"{_short(value * 1000)} ms"
        return f"{_short(value)} s" if value < 120 else f"{_short(value / 60)} min"
    if unit == "percentunit":
        return f"{_short(value * 100)} %"
    if unit == "currencyUSD":
        return f"${value:,.2f}" if value >= 0.01 or value == 0 else f"${_short(value)}"
    return _short(value) + {"reqps": " req/s", "ops": "/s", "bytes": " B"}.get(unit, "")


def _short(value: float) -> str:
    """Three digits that count, without zeros at the end."""
    if value and abs(value) < 0.0005:
        return f"{value:.1e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{min(digits, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text(
    x: float,
    y: float,
    text: str,
    colour: str = _INK,
    *,
    size: int = 11,
    weight: int = 400,
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _card(panel: Panel, width: float, height: float) -> str:
    box = f'<rect width="{width}" height="{height}" rx="6" fill="#fff" stroke="{_GRID}"/>'
    return box + _text(12, 21, panel.title, size=13, weight=600)


def _figure(
    panel: Panel, lines: Sequence[Line], width: float, height: float, begin: float, end: float
) -> str:
    out = [_card(panel, width, height)]
    points = list(lines[0][1]) if lines else []
    if not points:
        return "".join([*out, _text(12, 62, "no data", _PALE, size=22)])
    value, colour = points[-1][1], _GOOD
    if panel.bad_from is not None:
        bad = value <= panel.bad_from if panel.bad_below else value >= panel.bad_from
        colour = _BAD if bad else _GOOD
    out.append(_text(12, 58, said(value, panel.unit), colour, size=26, weight=600))
    most = max(value for _, value in points) or 1.0
    base, across, up = height - 8, (width - 24) / (end - begin), 26 / most
    way = " ".join(f"{12 + (at - begin) * across:.1f},{base - value * up:.1f}" for at, value in points)
    first, last = 12 + (points[0][0] - begin) * across, 12 + (points[-1][0] - begin) * across
    out.append(
        f'<polygon points="{first:.1f},{base} {way} {last:.1f},{base}" fill="{colour}" fill-opacity="0.1"/>'
    )
    out.append(f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return "".join(out)


def _chart(panel: Panel, lines: Sequence[Line], width: float, height: float, begin: float, end: float) -> str:
    out = [_card(panel, width, height)]
    if not lines:
        return "".join([*out, _text(width / 2, height / 2, "no data", _PALE, size=13, anchor="middle")])
    ordered = sorted(lines, key=lambda line: -sum(value for _, value in line[1]))
    legend, rows = _legend(ordered, width)
    left, top, right, base = 74.0, 36.0, width - 14, height - 34 - 16.0 * rows
    stacks = (
        _stacked(ordered) if panel.kind == "stacked" else [(name, points, ()) for name, points in ordered]
    )
    most = max((value for _, points, _ in stacks for _, value in points), default=0.0)
    minutes = panel.unit == "s" and most >= 100
    ticks = [60 * tick for tick in _ticks(most / 60)] if minutes else _ticks(most)
    across, up = (right - left) / (end - begin), (base - top) / ticks[-1]
    for tick in ticks:
        y = base - tick * up
        out.append(f'<line x1="{left}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_GRID}"/>')
        out.append(_text(left - 6, y + 4, said(tick, panel.unit), _PALE, anchor="end"))
    for part in range(5):
        seconds = (end - begin) * part / 4
        anchor = {0: "start", 4: "end"}.get(part, "middle")
        out.append(_text(left + seconds * across, base + 15, _clock(seconds), _PALE, anchor=anchor))
    # The last of a stack is its top: it is drawn first, and those below it over it.
    for number, (_, points, below) in reversed(list(enumerate(stacks))):
        colour = _COLOURS[number % len(_COLOURS)]
        back = " ".join(
            f"{left + (at - begin) * across:.1f},{base - value * up:.1f}" for at, value in reversed(below)
        )
        for run in [points] if back else _runs(points):
            way = " ".join(f"{left + (at - begin) * across:.1f},{base - value * up:.1f}" for at, value in run)
            out.append(
                f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="1.8" '
                'stroke-linejoin="round"/>'
            )
        if back:
            out.append(f'<polygon points="{way} {back}" fill="{colour}" fill-opacity="0.35"/>')
    out.append(f'<g transform="translate(0,{base + 34:.1f})">{legend}</g>')
    return "".join(out)


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """A line in parts, without those times for which it has no values."""
    step = min((later[0] - one[0] for one, later in pairwise(points)), default=0.0)
    runs: list[list[tuple[float, float]]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] <= 1.5 * step:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _stacked(
    lines: Sequence[Line],
) -> list[tuple[str, Sequence[tuple[float, float]], Sequence[tuple[float, float]]]]:
    """Each line on top of those before it, with what is below it; a time without a value counts as 0."""
    times = sorted({at for _, points in lines for at, _ in points})
    below = dict.fromkeys(times, 0.0)
    stacks: list[tuple[str, Sequence[tuple[float, float]], Sequence[tuple[float, float]]]] = []
    for name, points in lines:
        values = dict(points)
        above = {at: below[at] + values.get(at, 0.0) for at in times}
        stacks.append((name, tuple(above.items()), tuple(below.items())))
        below = above
    return stacks


def _legend(lines: Sequence[Line], width: float) -> tuple[str, int]:
    """The names in rows, and how many rows they take."""
    out, x, row = [], 14.0, 0
    for number, (name, _) in enumerate(lines):
        text, colour = _PACKAGE.sub("", name), _COLOURS[number % len(_COLOURS)]
        text = text if len(text) <= 44 else text[:20] + "…" + text[-23:]
        takes = 22 + len(text) * _LETTER + 6
        fits = x == 14.0 or x + takes <= width - 8
        if number == _MOST_NAMED or (not fits and row + 1 == _MOST_ROWS):
            out.append(_text(x + 4, row * 16 + 2, f"+ {len(lines) - number}", _PALE))
            break
        if not fits:
            x, row = 14.0, row + 1
        out.append(f'<rect x="{x:.1f}" y="{row * 16 - 4}" width="12" height="4" rx="2" fill="{colour}"/>')
        out.append(_text(x + 17, row * 16 + 2, text, _PALE))
        x += takes
    return "".join(out), row + 1


def _ticks(most: float) -> list[float]:
    """Round values from 0 to at least `most`, three to six of them."""
    if most <= 0:
        return [0.0, 1.0]
    step = 10.0 ** math.floor(math.log10(most / 4))
    step *= next(times for times in (1, 2, 2.5, 5, 10) if step * times * 5 >= most)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
