"""
What the pictures are drawn with: time from left to right, and under one another lanes of calls, curves and states.

Written by hand as SVG: a plotting library would be a dependency for rectangles and lines. Light or dark as the reader's
system asks for; told apart by shape as well as by colour. The same story gives the same text, byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias
from xml.sax.saxutils import escape

import attrs

__all__ = ["Curve", "Kind", "Lane", "Lanes", "Mark", "Panel", "Plot", "Span", "Strip", "drawn"]

Kind: TypeAlias = Literal[
    "run", "wait", "good", "bad", "stale", "quiet", "rejected", "cancelled", "note"
]
"""
``run``: at work (blue). ``wait``: in a queue or asleep (hatched). ``good``, ``bad``, ``stale``: ended well (green),
badly (red), with something else (violet). ``quiet``: of no weight (grey). As a mark ``rejected`` is a red cross,
``cancelled`` a grey one, ``note`` a tick.
"""


@attrs.frozen
class Span:
    """From *start* to *end*, in seconds of the story; *text* stands in it if it fits."""

    start: float
    end: float
    kind: Kind
    text: str = ""


@attrs.frozen
class Mark:
    """At one instant; *text* stands to the right of it."""

    at: float
    kind: Kind
    text: str = ""


@attrs.frozen
class Lane:
    """One row: what happened to one call, one server or one state."""

    name: str
    parts: Sequence[Span | Mark]


@attrs.frozen
class Lanes:
    """Rows under one another."""

    title: str
    rows: Sequence[Lane]


@attrs.frozen
class Curve:
    """
    A line over time.

    Args:
        name: For the legend of its panel.
        kind: Its colour; ``wait`` and ``quiet`` are dashed.
        points: (second, value), in order.
        steps: The value holds until the next point. Default: straight lines.
        area: Filled below.
    """

    name: str
    kind: Kind
    points: Sequence[tuple[float, float]]
    steps: bool = False
    area: bool = False


@attrs.frozen
class Plot:
    """Curves over one axis from 0 to *top* (default: what they need)."""

    title: str
    curves: Sequence[Curve]
    top: float | None = None
    height: int = 96


@attrs.frozen
class Strip:
    """One row of spans that touch: the state of something over time."""

    title: str
    spans: Sequence[Span]


Panel: TypeAlias = Lanes | Plot | Strip

_WIDTH, _LEFT, _RIGHT, _TOP = 860, 132, 24, 84
_ROW, _BAR, _GAP, _AXIS = 24, 14, 40, 34
_LETTER = 6.2  # px, of the small font

_STYLE = """
text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f }
.title { font-size: 16px; font-weight: 600 } .name { font-size: 13px; font-weight: 600 }
.small { fill: #57606a; font-size: 11px } .in { fill: #ffffff; font-size: 11px } .page { fill: #ffffff }
.axis { stroke: #8c959f; fill: none } .grid { stroke: #d0d7de; fill: none; stroke-width: .7 }
.shade { fill: #f3e9d8 }
.run { fill: #0a69c7 } .good { fill: #1a7f37 } .bad { fill: #cf222e } .stale { fill: #8250df } .quiet { fill: #afb8c1 }
.wait { fill: url(#hatch); stroke: #9a6700; stroke-width: 1 } .hatch { stroke: #9a6700; stroke-width: 2 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
.l-run { stroke: #0a69c7 } .l-good { stroke: #1a7f37 } .l-bad { stroke: #cf222e } .l-stale { stroke: #8250df }
.l-wait { stroke: #9a6700; stroke-dasharray: 5 3 } .l-quiet { stroke: #6e7781; stroke-dasharray: 2 3 }
.l-rejected { stroke: #cf222e; stroke-width: 2.2 } .l-cancelled { stroke: #6e7781; stroke-width: 2.2 }
.l-note { stroke: #24292f }
.area { fill-opacity: .16; stroke: none }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 } .in { fill: #0d1117 } .page { fill: #0d1117 }
.axis { stroke: #656c76 } .grid { stroke: #2a313c } .shade { fill: #2d2618 }
.run { fill: #58a6ff } .good { fill: #3fb950 } .bad { fill: #f85149 } .stale { fill: #bc8cff } .quiet { fill: #3d444d }
.wait { stroke: #d29922 } .hatch { stroke: #d29922 }
.l-run { stroke: #58a6ff } .l-good { stroke: #3fb950 } .l-bad { stroke: #f85149 } .l-stale { stroke: #bc8cff }
.l-wait { stroke: #d29922 } .l-quiet { stroke: #9198a1 } .l-rejected { stroke: #f85149 }
.l-cancelled { stroke: #9198a1 } .l-note { stroke: #e6edf3 }
}
"""
_HATCH = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<line class="hatch" x1="0" y1="0" x2="0" y2="6"/></pattern></defs>'
)


def drawn(
    title: str,
    about: str,
    seconds: float,
    panels: Sequence[Panel],
    *,
    legend: Mapping[Kind, str] | None = None,
    shaded: Sequence[tuple[float, float]] = (),
) -> str:
    """
    The picture.

    Args:
        title: One line.
        about: One or two sentences: what is seen, for those who do not see it too.
        seconds: How long the story is.
        panels: From top to bottom.
        legend: What the kinds of the lanes and strips mean here.
        shaded: Spans in which something was wrong, behind everything.
    """
    body: list[str] = []
    y = float(_TOP if legend else _TOP - 14)
    for panel in panels:
        y += 18
        body.append(
            f'<text class="name" x="{_LEFT}" y="{_short(y - 6)}">{escape(panel.title)}</text>'
        )
        if isinstance(panel, Plot):
            body += _plot_legend(panel, y)
        height = _height(panel)
        body += (_shade(span, seconds, y, height) for span in shaded)
        body += _grid(seconds, y, height)
        body += _parts(panel, seconds, y)
        y += height + _GAP - 18
    y += 18 - _GAP
    body += _time(seconds, y)
    height = y + _AXIS
    return (
        "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_short(height)}" role="img">',
                f"<title>{escape(title)}</title>",
                f"<desc>{escape(about)}</desc>",
                f"<style>{_STYLE}</style>",
                _HATCH,
                f'<rect class="page" width="{_WIDTH}" height="{_short(height)}"/>',
                f'<text class="title" x="24" y="28">{escape(title)}</text>',
                *(
                    f'<text class="small" x="24" y="{46 + 14 * place}">{escape(line)}</text>'
                    for place, line in enumerate(_wrapped(about)[:2])
                ),
                *_legend(legend or {}),
                *body,
                "</svg>",
            ]
        )
        + "\n"
    )


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _wrapped(text: str, limit: int = 128) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > limit:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines


def _x(at: float, seconds: float) -> float:
    return _LEFT + min(max(at, 0.0), seconds) / seconds * (_WIDTH - _LEFT - _RIGHT)


def _height(panel: Panel) -> float:
    if isinstance(panel, Plot):
        return panel.height
    return _ROW * (len(panel.rows) if isinstance(panel, Lanes) else 1)


def _nice(value: float) -> float:
    """The next of 1, 2, 4, 5, 6, 8, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 4, 5, 6, 8, 10) if step * power >= value)


def _ticks(seconds: float) -> list[float]:
    step = next(
        each * power
        for power in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
        for each in (1, 2, 5)
        if seconds / (each * power) <= 12  # as many as can be read
    )
    return [tick * step for tick in range(math.floor(seconds / step + 1e-9) + 1)]


def _shade(span: tuple[float, float], seconds: float, y: float, height: float) -> str:
    x, end = _x(span[0], seconds), _x(span[1], seconds)
    return f'<rect class="shade" x="{_short(x)}" y="{_short(y)}" width="{_short(end - x)}" height="{_short(height)}"/>'


def _grid(seconds: float, y: float, height: float) -> Iterator[str]:
    for tick in _ticks(seconds):
        yield f'<path class="grid" d="M{_short(_x(tick, seconds))} {_short(y)}v{_short(height)}"/>'


def _time(seconds: float, y: float) -> Iterator[str]:
    yield f'<path class="axis" d="M{_LEFT} {_short(y)}H{_WIDTH - _RIGHT}"/>'
    for tick in _ticks(seconds):
        x = _short(_x(tick, seconds))
        yield f'<path class="axis" d="M{x} {_short(y)}v4"/>'
        text = f"{tick:g}" if tick else "0 s"
        yield f'<text class="small" x="{x}" y="{_short(y + 17)}" text-anchor="middle">{text}</text>'


def _legend(legend: Mapping[Kind, str]) -> Iterator[str]:
    x, y = 24.0, float(_TOP - 8)
    for kind, text in legend.items():
        if kind in {"rejected", "cancelled", "note"}:
            yield _mark(kind, x + 7, y - 4)
        else:
            yield f'<rect class="{kind}" x="{_short(x)}" y="{_short(y - 9)}" width="14" height="10"/>'
        yield f'<text class="small" x="{_short(x + 20)}" y="{_short(y)}">{escape(text)}</text>'
        x += 40 + _LETTER * len(text)


def _plot_legend(plot: Plot, y: float) -> Iterator[str]:
    x = _LEFT + 16 + 7.6 * len(plot.title)
    for curve in plot.curves:
        ends = f'x1="{_short(x)}" x2="{_short(x + 20)}" y1="{_short(y - 10)}" y2="{_short(y - 10)}"'
        yield f'<line class="line l-{curve.kind}" {ends}/>'
        yield f'<text class="small" x="{_short(x + 26)}" y="{_short(y - 6)}">{escape(curve.name)}</text>'
        x += 46 + _LETTER * len(curve.name)


def _parts(panel: Panel, seconds: float, y: float) -> Iterator[str]:
    if isinstance(panel, Plot):
        yield from _curves(panel, seconds, y)
        return
    rows = panel.rows if isinstance(panel, Lanes) else [Lane("", panel.spans)]
    for place, row in enumerate(rows):
        middle = y + _ROW * (place + 0.5)
        yield (
            f'<text class="small" x="{_LEFT - 10}" y="{_short(middle + 4)}" text-anchor="end">{escape(row.name)}</text>'
        )
        for part in row.parts:
            yield from _part(part, seconds, middle)


def _part(part: Span | Mark, seconds: float, middle: float) -> Iterator[str]:
    if isinstance(part, Mark):
        x = _x(part.at, seconds)
        yield _mark(part.kind, x, middle)
        if part.text:
            yield f'<text class="small" x="{_short(x + 9)}" y="{_short(middle + 4)}">{escape(part.text)}</text>'
        return
    x = _x(part.start, seconds)
    width = max(_x(part.end, seconds) - x, 1.5)
    yield (
        f'<rect class="{part.kind}" x="{_short(x)}" y="{_short(middle - _BAR / 2)}" width="{_short(width)}" '
        f'height="{_BAR}" rx="2"/>'
    )
    if part.text and width > _LETTER * len(part.text) + 6 and part.kind != "wait":
        yield f'<text class="in" x="{_short(x + 5)}" y="{_short(middle + 4)}">{escape(part.text)}</text>'


def _mark(kind: Kind, x: float, y: float) -> str:
    if kind == "note":
        return f'<path class="line l-note" d="M{_short(x)} {_short(y - 7)}v14"/>'
    a, b = _short(x - 4.5), _short(y - 4.5)
    return f'<path class="line l-{kind}" d="M{a} {b}l9 9m0 -9l-9 9"/>'


def _curves(plot: Plot, seconds: float, y: float) -> Iterator[str]:
    top = plot.top or _nice(max(value for curve in plot.curves for _, value in curve.points))

    def at(value: float) -> float:
        return y + plot.height * (1 - min(max(value, 0.0), top) / top)

    for share in (0.0, 0.5, 1.0):
        line = _short(at(top * share))
        yield f'<path class="{"grid" if share else "axis"}" d="M{_LEFT} {line}H{_WIDTH - _RIGHT}"/>'
        yield (
            f'<text class="small" x="{_LEFT - 10}" y="{_short(at(top * share) + 4)}" '
            f'text-anchor="end">{top * share:g}</text>'
        )
    for curve in plot.curves:
        points = [(_x(when, seconds), at(value)) for when, value in _stepped(curve)]
        text = " ".join(f"{_short(x)},{_short(height)}" for x, height in points)
        if curve.area:
            first, last, base = _short(points[0][0]), _short(points[-1][0]), _short(at(0.0))
            yield f'<polygon class="area {curve.kind}" points="{first},{base} {text} {last},{base}"/>'
        yield f'<polyline class="line l-{curve.kind}" points="{text}"/>'


def _stepped(curve: Curve) -> Iterator[tuple[float, float]]:
    before: float | None = None
    for when, value in curve.points:
        if curve.steps and before is not None:
            yield when, before
        yield when, value
        before = value
