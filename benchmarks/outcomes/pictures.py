"""
One picture per plan: load, goodput and the state of the circuit over time, a panel for each contender.

Written by hand as SVG: a plotting library would be a dependency for eight rectangles and three lines. Light or dark as
the reader's system asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from xml.sax.saxutils import escape

from benchmarks.outcomes.contenders import CONTENDERS, HALF_OPEN, OPEN
from benchmarks.outcomes.figures import Figures, figures_of, series_of
from benchmarks.outcomes.plans import Plan
from benchmarks.outcomes.play import Story
from benchmarks.outcomes.words import percent, seconds

__all__ = ["picture"]

_COLUMNS = 3
_WIDTH, _HEIGHT = 330, 110  # of one panel's plot
_LEFT, _TOP, _GAP_X, _GAP_Y, _BOTTOM = 62, 136, 68, 98, 44
_STRIP = 8
_TICKS = 2
_SMALLEST = 1.5  # px: a break that is over at once is still seen

_STYLE = """
text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 } .name { font-size: 13px; font-weight: 600 }
.quiet { fill: #57606a; font-size: 11px } .page { fill: #ffffff } .fault { fill: #f3e9d8 }
.axis { stroke: #8c959f; fill: none } .grid { stroke: #d0d7de; fill: none; stroke-width: .7 }
.offered { stroke: #6e7781; fill: none; stroke-dasharray: 3 3 }
.load { stroke: #d1600a; fill: none; stroke-width: 1.5; stroke-linejoin: round }
.good { stroke: #0a69c7; fill: none; stroke-width: 1.5; stroke-linejoin: round }
.area { fill: #0a69c7; fill-opacity: .16 }
.closed { fill: #d0d7de } .open { fill: #cf222e } .half_open { fill: #e3b341 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9198a1 } .page { fill: #0d1117 } .fault { fill: #2d2618 }
.axis { stroke: #656c76 } .grid { stroke: #2a313c } .offered { stroke: #9198a1 }
.load { stroke: #f0883e } .good { stroke: #58a6ff } .area { fill: #58a6ff; fill-opacity: .2 }
.closed { fill: #3d444d } .open { fill: #f85149 } .half_open { fill: #d29922 }
}
"""


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _nice(value: float) -> float:
    """The next of 1, 2, 4, 5, 6, 8 times a power of ten: a top whose half is a round number too."""
    power = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= value)


def picture(plan: Plan, stories: Sequence[Story]) -> str:
    """
    The picture of a plan.

    Args:
        plan: As it was played.
        stories: Of each contender, in the order of the panels: left to right, then down.
    """
    series = {story.contender: series_of(story) for story in stories}
    top = _nice(max(max(each.load) for each in series.values()))
    rows = math.ceil(len(stories) / _COLUMNS)
    width = _LEFT + _COLUMNS * _WIDTH + (_COLUMNS - 1) * _GAP_X + 24
    height = _TOP + rows * _HEIGHT + (rows - 1) * _GAP_Y + _BOTTOM
    about = (
        f"{plan.text} Calls offered, requests at the server, answers in time and the state of the circuit, over time, "
        "for each contender."
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(plan.name)}</title>",
        f"<desc>{escape(about)}</desc>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
        f'<text class="title" x="{_LEFT}" y="26">{escape(plan.name)}</text>',
        f'<text class="quiet" x="{_LEFT}" y="44">{escape(_first_sentences(plan.text))}</text>',
        *_legend(_LEFT, 62),
    ]
    for place, story in enumerate(stories):
        x = _LEFT + place % _COLUMNS * (_WIDTH + _GAP_X)
        y = _TOP + place // _COLUMNS * (_HEIGHT + _GAP_Y)
        parts.append(f'<g transform="translate({x} {y})">')
        parts += _Panel(plan, story, top).parts()
        parts.append("</g>")
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _first_sentences(text: str, limit: int = 150) -> str:
    return text if len(text) <= limit else text[: text.rindex(". ", 0, limit) + 1]


def _legend(x: float, y: float) -> Iterator[str]:
    lines = (
        ("offered", "calls offered"),
        ("load", "requests at the server"),
        ("good", "answers in time"),
    )
    blocks = (
        ("fault", "fault"),
        ("closed", "circuit closed"),
        ("half_open", "half-open"),
        ("open", "open"),
    )
    for name, label in lines:
        yield f'<line class="{name}" x1="{x}" x2="{x + 22}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{x + 28}" y="{y + 4}">{label}</text>'
        x += 48 + 6.4 * len(label)
    for name, label in blocks:
        yield f'<rect class="{name}" x="{x}" y="{y - 5}" width="14" height="10"/>'
        yield f'<text x="{x + 20}" y="{y + 4}">{label}</text>'
        x += 40 + 6.4 * len(label)


class _Panel:
    """One contender's plot; the origin is its top left corner."""

    def __init__(self, plan: Plan, story: Story, top: float) -> None:
        self._plan = plan
        self._story = story
        self._series = series_of(story)
        self._top = top

    def parts(self) -> Iterator[str]:
        yield from self._faults()
        yield from self._axes()
        yield from self._curves()
        contender, figures = CONTENDERS[self._story.contender], figures_of(self._story)
        yield f'<text class="name" x="0" y="-38">{escape(contender.name)}</text>'
        for place, line in enumerate(_summary(figures)):
            yield f'<text class="quiet" x="0" y="{15 * place - 22}">{escape(line)}</text>'
        if contender.breaks:
            yield from self._strip()

    def _x(self, at: float) -> float:
        return min(max(at, 0.0), self._plan.seconds) / self._plan.seconds * _WIDTH

    def _y(self, value: float) -> float:
        return _HEIGHT * (1 - value / self._top)

    def _faults(self) -> Iterator[str]:
        # One block for phases that follow one another: between two blocks there would be a seam.
        for troubled, spans in groupby(self._plan.spans(), key=lambda span: span.phase.troubled):
            if troubled:
                found = [*spans]
                x, end = self._x(found[0].start), self._x(found[-1].end)
                yield _block("fault", x, 0, end - x, _HEIGHT)

    def _axes(self) -> Iterator[str]:
        for tick in range(_TICKS + 1):
            value = self._top * tick / _TICKS
            y = self._y(value)
            yield f'<path class="{"grid" if tick else "axis"}" d="M0 {_short(y)}H{_WIDTH}"/>'
            yield f'<text class="quiet" x="-6" y="{_short(y + 4)}" text-anchor="end">{value:g}</text>'
        yield (
            f'<text class="quiet" transform="translate(-44 {_HEIGHT // 2}) rotate(-90)" '
            'text-anchor="middle">calls per second</text>'
        )
        base = _HEIGHT + _STRIP + 4
        for second in range(0, int(self._plan.seconds) + 1, 20 if self._plan.seconds > 60 else 10):
            x = _short(self._x(second))
            unit = "" if second else " s"
            yield f'<path class="axis" d="M{x} {base}v4"/>'
            yield f'<text class="quiet" x="{x}" y="{base + 16}" text-anchor="middle">{second}{unit}</text>'

    def _points(self, values: Sequence[int]) -> str:
        return " ".join(
            f"{_short(self._x(second + 0.5))},{_short(self._y(value))}"
            for second, value in enumerate(values)
        )

    def _curves(self) -> Iterator[str]:
        series = self._series
        first, last = self._x(0.5), self._x(len(series.goodput) - 0.5)
        good = self._points(series.goodput)
        yield f'<polygon class="area" points="{_short(first)},{_HEIGHT} {good} {_short(last)},{_HEIGHT}"/>'
        yield f'<polyline class="offered" points="{self._points(series.offered)}"/>'
        yield f'<polyline class="load" points="{self._points(series.load)}"/>'
        yield f'<polyline class="good" points="{good}"/>'

    def _strip(self) -> Iterator[str]:
        y = _HEIGHT + 2
        yield _block("closed", 0, y, _WIDTH, _STRIP)
        states = self._story.states
        ends = [at for at, _ in states[1:]] + [self._plan.seconds]
        # Half-open last: it is the shortest, and would be hidden by what comes after it.
        for wanted in (OPEN, HALF_OPEN):
            for (at, state), end in zip(states, ends, strict=True):
                if state == wanted and at < self._plan.seconds:
                    x = self._x(at)
                    yield _block(state, x, y, max(self._x(end) - x, _SMALLEST), _STRIP)


def _block(name: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{name}" x="{_short(x)}" y="{_short(y)}" width="{_short(width)}" '
        f'height="{_short(height)}"/>'
    )


def _summary(figures: Figures) -> tuple[str, str]:
    """Two lines: what callers and server had of it, and when."""
    first = f"{percent(figures.goodput)} answered, {figures.load:.2f} requests per call"
    parts = []
    if figures.noticed is not None:
        parts.append(f"open after {seconds(figures.noticed)}")
    if figures.recovered is not None:
        late = math.isinf(figures.recovered)
        parts.append("never well again" if late else f"well after {seconds(figures.recovered)}")
    return first, ", ".join(parts)
