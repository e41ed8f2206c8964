"""
The picture: cost against concurrency, written as SVG by hand. Both axes are logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import attrs

from benchmarks.report import Table

__all__ = ["Line", "drawn", "lines_of"]

_WIDTH, _HEIGHT = 1000, 560
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 400, 92, 66
_LABEL_GAP = 17.0
_MARGIN = 30.0  # px left of the first number of tasks, and right of the last one
_DODGE = (
    4.0  # px between the lines at each number of tasks, so that their spreads stand side by side
)
_FONT = 'font-family="Helvetica, Arial, sans-serif" font-size="13"'
_INK, _GREY = 'fill="#1c2529"', 'fill="#5a666c"'
_OURS = ("#0b5fa5", "#3d8fd1")
# Told apart by people who do not see all colours, and all darker than the grid.
_OTHERS = (
    "#c8553d",
    "#7a5195",
    "#2f8f5b",
    "#b8860b",
    "#8c564b",
    "#5f6b73",
    "#d1477a",
    "#4f6d1f",
    "#a0522d",
    "#37718e",
)
_TICKS = (0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500)


@attrs.frozen
class Line:
    """A contender: its name, and for each number of tasks the ratio with its spread."""

    name: str
    points: Sequence[tuple[float, float, float, float]]

    @property
    def ours(self) -> bool:
        return self.name.startswith("resilience")


def lines_of(table: Table) -> list[Line]:
    """The lines of the table that `benchmarks.concurrency` makes."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for record in table.records():
        if record["call"] != "W":
            low, _, high = record["spread (10 % to 90 %)"].partition(" to ")
            point = float(record["tasks"]), float(record["x W"]), float(low), float(high)
            found.setdefault(record["call"].removesuffix(", three layers"), []).append(point)
    return [Line(name, sorted(points)) for name, points in found.items()]


@attrs.frozen
class _Frame:
    """From tasks and ratios to places on the canvas."""

    tasks: tuple[float, float]
    ratios: tuple[float, float]

    def x(self, tasks: float) -> float:
        low, high = self.tasks
        share = math.log(tasks / low) / math.log(high / low) if low < high else 0.0
        return _LEFT + _MARGIN + share * (_WIDTH - _RIGHT - _LEFT - 2 * _MARGIN)

    def y(self, ratio: float) -> float:
        low, high = self.ratios
        share = math.log(ratio / low) / math.log(high / low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


def _spread_out(wanted: Mapping[str, float]) -> dict[str, float]:
    """Places for labels, in the wanted order and at least one line apart."""
    names = sorted(wanted, key=lambda name: wanted[name])
    places: list[float] = []
    for name in names:
        places.append(max(wanted[name], places[-1] + _LABEL_GAP) if places else wanted[name])
    overflow = places[-1] - (_HEIGHT - _BOTTOM)
    if overflow > 0:
        places[-1] -= overflow
        for index in range(len(places) - 2, -1, -1):
            places[index] = min(places[index], places[index + 1] - _LABEL_GAP)
    return dict(zip(names, places, strict=True))


def _colours(lines: Iterable[Line]) -> dict[str, str]:
    ours, others = iter(_OURS), iter(_OTHERS * 3)
    return {
        line.name: next(ours if line.ours else others, "#333333")
        if line.name != "bare"
        else "#9aa3a8"
        for line in lines
    }


def drawn(lines: Sequence[Line], *, subtitle: str) -> str:
    """
    The picture.

    Args:
        lines: What to draw; at least one point each.
        subtitle: What it was measured with; at most two lines.
    """
    levels = sorted({point[0] for line in lines for point in line.points})
    ratios = [value for line in lines for point in line.points for value in point[1:]]
    frame = _Frame((levels[0], levels[-1]), (min(*ratios, 0.9) * 0.9, max(*ratios, 1.1) * 1.15))
    colours = _colours(lines)
    labels = _spread_out({line.name: frame.y(line.points[-1][1]) for line in lines})
    parts = [*_headed(subtitle), *_axes(frame, levels)]
    drawn_last = sorted(lines, key=lambda each: each.ours)
    for place, line in enumerate(drawn_last):
        shift = (place - (len(lines) - 1) / 2) * _DODGE
        parts += _curve(line, colours[line.name], labels[line.name], frame, shift)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _headed(subtitle: str) -> list[str]:
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    title = "Cost of one guarded call against the number of tasks that share the guard"
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
        f'<rect {size} fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="30" font-size="19" font-weight="bold" {_INK}>{title}</text>',
        *(
            f'<text x="{_LEFT}" y="{51 + 17 * number}" {_GREY}>{escape(each)}</text>'
            for number, each in enumerate(subtitle.splitlines())
        ),
    ]


def _axes(frame: _Frame, levels: Sequence[float]) -> list[str]:
    left, right, top, bottom = _LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM
    parts = []
    for x, tasks in ((f"{frame.x(each):.1f}", each) for each in levels):
        line = f'<line x1="{x}" x2="{x}" y1="{top}" y2="{bottom}" stroke="#f0f3f4"/>'
        text = f'<text x="{x}" y="{bottom + 21}" text-anchor="middle" {_GREY}>{tasks:,.0f}</text>'
        parts += [line, text]
    low, high = frame.ratios
    for tick in (each for each in _TICKS if low <= each <= high):
        y, stroke = frame.y(tick), "#8d989e" if tick == 1 else "#e3e8ea"
        line = f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{stroke}"/>'
        text = f'<text x="{left - 9}" y="{y + 4:.1f}" text-anchor="end" {_GREY}>{tick:g}</text>'
        parts += [line, text]
    turned = f"translate(26 {(top + bottom) / 2:.0f}) rotate(-90)"
    middle = f'text-anchor="middle" {_INK}'
    return [
        *parts,
        f'<text x="{(left + right) / 2:.0f}" y="{_HEIGHT - 18}" {middle}>tasks</text>',
        f'<text transform="{turned}" {middle}>time per call, in multiples of W</text>',
    ]


def _curve(line: Line, colour: str, label: float, frame: _Frame, shift: float) -> list[str]:
    width = 3.0 if line.ours else 1.6
    path = " ".join(
        f"{frame.x(tasks) + shift:.1f},{frame.y(ratio):.1f}" for tasks, ratio, _, _ in line.points
    )
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>']
    for tasks, ratio, low, high in line.points:
        x, bar = (
            f"{frame.x(tasks) + shift:.1f}",
            f'y1="{frame.y(low):.1f}" y2="{frame.y(high):.1f}"',
        )
        stroke = f'stroke="{colour}" stroke-opacity="0.4" stroke-width="3"'
        dot = f'<circle cx="{x}" cy="{frame.y(ratio):.1f}" r="{width + 0.6:.1f}" fill="{colour}"/>'
        parts += [f'<line x1="{x}" x2="{x}" {bar} {stroke}/>', dot]
    tasks, ratio, _, _ = line.points[-1]
    start, weight = _WIDTH - _RIGHT + 42, ' font-weight="bold"' if line.ours else ""
    last = frame.x(tasks) + shift + 4
    ends = f'x1="{last:.1f}" x2="{start - 3}" y1="{frame.y(ratio):.1f}" y2="{label:.1f}"'
    leader = f'stroke="{colour}" stroke-opacity="0.5" stroke-dasharray="2 3"'  # no measurement
    name = f"{escape(line.name)} ({ratio:.1f})"
    return [
        *parts,
        f"<line {ends} {leader}/>",
        f'<text x="{start}" y="{label + 4:.1f}" fill="{colour}"{weight}>{name}</text>',
    ]
