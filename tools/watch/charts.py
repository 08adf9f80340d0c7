"""Draws as SVG what a Prometheus answered: a dashboard's panels on Grafana's grid, and replicas over time."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from cycler import cycler
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Affine2D

from tools.watch.dashboards import WIDE, Dashboard, Panel

Line = tuple[str, Sequence[tuple[float, float]]]
"""A name for the legend; times and values."""

_COLUMN, _ROW, _GAP, _HEAD = 52, 30, 8, 64  # pixels
_COLOURS = ("#2f6fde", "#e8833a", "#2e9e6b", "#c2417c", "#7a5cd0", "#b58900", "#1b9aaa", "#8a8f98")
_INK, _PALE, _GRID, _GOOD, _BAD = "#1f2430", "#6b7280", "#e5e7eb", "#1f8a5b", "#c8322b"
_MOST_NAMED, _LONGEST_NAME = 8, 40
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "trunkline",  # the same answers give the same file
    "font.size": 8,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.prop_cycle": cycler(color=_COLOURS),
    "grid.color": _GRID,
    "lines.linewidth": 1.5,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _PALE,
    "ytick.labelcolor": _PALE,
}


def dashboard(shown: Dashboard, answers: Mapping[str, Sequence[Line]], begin: float, end: float) -> str:
    """Return the picture; `answers` by the panel's title, over the time from `begin` to `end` (Unix seconds)."""
    places, x, y, tallest = [], 0, 0, 0
    for panel in shown.panels:
        places.append((x * _COLUMN + _GAP, _HEAD + y * _ROW))
        x, tallest = x + panel.width, max(tallest, panel.height)
        if x >= WIDE:
            x, y, tallest = 0, y + tallest, 0
    with style.context(_STYLE):
        board = _Board(WIDE * _COLUMN + _GAP, _HEAD + (y + tallest) * _ROW)
        board.text(_GAP + 4, 28, shown.title, size=15, weight="bold")
        board.text(_GAP + 4, 48, shown.tells, size=9, color=_PALE)
        for panel, (left, top) in zip(shown.panels, places, strict=True):
            width, height = panel.width * _COLUMN - _GAP, panel.height * _ROW - _GAP
            board.card(left, top, width, height)
            board.text(left + 12, top + 21, panel.title, size=9, weight="bold")
            lines = answers[panel.title]
            if not any(points for _, points in lines):
                board.text(left + 12, top + 56, "no data", size=12, color=_PALE)
            elif panel.kind == "stat":
                points = lines[0][1]
                colour = _BAD if _is_bad(panel, points[-1][1]) else _GOOD
                board.text(
                    left + 12, top + 58, said(points[-1][1], panel.unit), size=19, weight="bold", color=colour
                )
                _spark(board.axes(left + 12, top + height - 36, width - 24, 28), points, colour)
            else:
                _chart(board.axes(left + 72, top + 36, width - 90, height - 108), panel, lines, begin, end)
        return board.svg()


def scaling(history: Sequence[tuple[float, Mapping[str, int]]], most: Mapping[str, int]) -> str:
    """Return the picture of a run; `history` is seconds and replicas, `most` the bound of each service."""
    with style.context(_STYLE):
        board = _Board(760, 40 + 90 * len(most) + 20)
        board.text(90, 22, "Replicas of each service, as its HorizontalPodAutoscaler set them", size=11)
        seconds = [at for at, _ in history]
        for lane, (name, bound) in enumerate(most.items()):
            axes = board.axes(90, 44 + 90 * lane, 650, 66)
            axes.step(seconds, [counts[name] for _, counts in history], where="post")
            axes.axhline(bound, color=_PALE, linestyle="--", linewidth=0.8)
            axes.set(xlim=(0, seconds[-1] or 1), ylim=(0, bound * 1.08), yticks=(0, bound))
            axes.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=18)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:.0f} s"))
            axes.tick_params(labelbottom=lane == len(most) - 1)
        return board.svg()


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


class _Board:
    """A figure whose places are pixels from the upper left."""

    def __init__(self, width: float, height: float) -> None:
        self._width, self._height = width, height
        self._figure = Figure(figsize=(width / 72, height / 72), facecolor="#f3f4f6")

    def text(self, x: float, y: float, text: str, **style: object) -> None:
        self._figure.text(x / self._width, 1 - y / self._height, text.replace("$", r"\$"), **style)  # type: ignore[arg-type]

    def card(self, x: float, y: float, width: float, height: float) -> None:
        box = FancyBboxPatch(
            (x, self._height - y - height),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=6",
            facecolor="white",
            edgecolor=_GRID,
            zorder=-1,  # below the charts
            transform=Affine2D().scale(1 / 72) + self._figure.dpi_scale_trans,
        )
        self._figure.add_artist(box)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        axes = self._figure.add_axes(
            (x / self._width, 1 - (y + height) / self._height, width / self._width, height / self._height)
        )
        axes.spines[["top", "right", "left"]].set_visible(False)
        return axes

    def svg(self) -> str:
        into = io.StringIO()
        self._figure.savefig(into, format="svg", metadata={"Date": None, "Creator": None})
        return "\n".join(line.rstrip() for line in into.getvalue().splitlines()) + "\n"


def _is_bad(panel: Panel, value: float) -> bool:
    if panel.bad_from is None:
        return False
    return value <= panel.bad_from if panel.bad_below else value >= panel.bad_from


def _spark(axes: Axes, points: Sequence[tuple[float, float]], colour: str) -> None:
    times, values = zip(*points, strict=True)
    axes.plot(times, values, color=colour, linewidth=1.2)
    axes.fill_between(times, values, color=colour, alpha=0.1, linewidth=0)
    axes.set(xlim=(times[0], times[-1] + 1e-9), ylim=(0, max(*values, 1e-9) * 1.05))
    axes.set_axis_off()


def _chart(axes: Axes, panel: Panel, lines: Sequence[Line], begin: float, end: float) -> None:
    ordered = sorted(lines, key=lambda line: -sum(value for _, value in line[1]))
    most = max(value for _, points in ordered for _, value in points)
    part = 60 if panel.unit == "s" and most >= 100 else 1  # ticks at whole minutes
    names = [_cut(name) for name, _ in ordered[:_MOST_NAMED]]
    if len(ordered) > _MOST_NAMED:
        names[-1] += f" (+ {len(ordered) - _MOST_NAMED})"
    if panel.kind == "stacked":
        times = sorted({at for _, points in ordered for at, _ in points})
        values = [[dict(points).get(at, 0.0) / part for at in times] for _, points in ordered]
        axes.stackplot([at - begin for at in times], values, labels=names, alpha=0.7, linewidth=0)
    else:
        for number, (_, points) in enumerate(ordered):
            times, heights = _with_gaps(points)
            named = {"label": names[number]} if number < len(names) else {}
            axes.plot([at - begin for at in times], [height / part for height in heights], **named)  # type: ignore[arg-type]
    axes.set(xlim=(0, end - begin), ylim=(0, None if most > 0 else 1))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: said(value * part, panel.unit).replace("$", r"\$"))
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 1.5, 3, 6, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{int(at) // 60}:{int(at) % 60:02}"))
    columns = max(1, min(4, 100 // (max(map(len, names)) + 5)))
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.06, -0.1), ncols=columns, fontsize=7, frameon=False,
        handlelength=1.2, labelcolor=_PALE, borderpad=0, columnspacing=1.2,
    )  # fmt: skip


def _cut(name: str) -> str:
    """A name that a legend has room for; of an RPC's method, the package goes."""
    package, _, rest = name.rpartition("/")
    if rest and "." in package:
        name = f"{package.rpartition('.')[2]}/{rest}"
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME // 2] + "…" + name[1 - _LONGEST_NAME // 2 :]
    return name.lstrip("_") or "all"


def _with_gaps(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Times and values, with a value that is no number where some are missing: the line breaks there."""
    step = min((later[0] - one[0] for one, later in pairwise(points)), default=0.0)
    times: list[float] = []
    values: list[float] = []
    for at, value in points:
        if times and at - times[-1] > 1.5 * step:
            times.append(times[-1] + step)
            values.append(math.nan)
        times.append(at)
        values.append(value)
    return times, values
