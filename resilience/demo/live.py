"""
The live view: what both groups go through, on one axis of time. Needs rich.

Each column of the strips is a slice of the plan. Its glyph says how the calls that arrived in it ended, so that a late
failure still paints the slice in which its caller began to wait. Colour repeats what the glyph says.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence

import rich.box
import rich.console
import rich.live
from rich.table import Table
from rich.text import Text

from resilience import CircuitBreaker
from resilience.demo.clients import BARE_TIMEOUT, Group
from resilience.demo.plan import Mode, Plan
from resilience.demo.records import Call, Outcome
from resilience.demo.report import PATIENCE, Report, Sheet, quantile, span_text
from resilience.demo.view import Scene, transition, wrapped
from resilience.events import CircuitStateChanged

__all__ = ["History", "Live"]

_LABEL = 8
_WIDEST = 100
_SLICE = 0.2  # seconds; a slice is at least this long
_RECENT = 2.0  # seconds; what "now" means
_NOTES = 4

_MODES = {
    Mode.HEALTHY: "black on green",
    Mode.SLOW: "black on yellow",
    Mode.FAILING: "white on red",
    Mode.HANGING: "white on magenta",
    Mode.DEAD: "white on grey30",
    Mode.RECOVERING: "black on dark_sea_green4",
}
_LATE = "late"  # answered, after longer than a caller is patient
_LOOKS: dict[str, tuple[str, str]] = {
    Outcome.ANSWERED: ("█", "green"),
    _LATE: ("▂", "yellow"),
    Outcome.REJECTED: ("░", "blue"),
    Outcome.FAILED: ("x", "bold red"),
    Outcome.DROPPED: ("↓", "magenta"),
    Outcome.UNFINISHED: ("·", "yellow"),
}
_PARTLY = ("▄", "green")
_MOSTLY = 0.95
_BARS = " ▁▂▃▄▅▆▇█"


class History:
    """
    One group's calls and attempts by slices of the run.

    Args:
        group: The group.
        seconds: Length of the run.
        slices: Number of slices.
    """

    def __init__(self, group: Group, seconds: float, slices: int) -> None:
        self.group = group
        self.attempts: list[int] = [0] * slices
        self.totals: Counter[str] = Counter()
        self._per_slice = seconds / slices
        self._ended: list[Counter[str]] = [Counter() for _ in range(slices)]
        self._ended_calls = 0
        self._counted_attempts = 0

    def _slice(self, at: float) -> int:
        return min(int(at / self._per_slice), len(self._ended) - 1)

    def outcomes(self) -> list[Counter[str]]:
        """How the calls that arrived in each slice ended; those in flight are unfinished. Counts new attempts too."""
        calls, attempts = self.group.calls, self.group.attempts
        for attempt in attempts[self._counted_attempts :]:
            self.attempts[self._slice(attempt.at)] += 1
        self._counted_attempts = len(attempts)
        # The oldest calls have all ended and are counted once; only those after them are looked at each time.
        while self._ended_calls < len(calls) and calls[self._ended_calls].end is not None:
            call = calls[self._ended_calls]
            self._ended[self._slice(call.at)][_look(call)] += 1
            self._ended_calls += 1
        slices = [Counter(ended) for ended in self._ended]
        for call in calls[self._ended_calls :]:
            slices[self._slice(call.at)][_look(call)] += 1
        self.totals = sum(slices, Counter[str]())
        return slices

    def recent_waits(self, now: float) -> list[float]:
        """How long the calls took that were answered within the last two seconds."""
        waits: list[float] = []
        for call in reversed(self.group.calls):
            if call.at < now - _RECENT - BARE_TIMEOUT:
                break
            if (
                call.outcome is Outcome.ANSWERED
                and call.end is not None
                and call.end >= now - _RECENT
            ):
                waits.append(call.end - call.at)
        return waits


def _look(call: Call) -> str:
    is_late = call.end is not None and call.end - call.at > PATIENCE
    return _LATE if is_late and call.outcome is Outcome.ANSWERED else call.outcome


def glyph(outcomes: Counter[str]) -> tuple[str, str]:
    """The glyph and colour of a slice: answered in time, partly so, or what happened to most of the others."""
    calls = outcomes.total()
    if not calls:
        return " ", ""
    answered = outcomes[Outcome.ANSWERED]
    if answered >= _MOSTLY * calls:
        return _LOOKS[Outcome.ANSWERED]
    if 2 * answered >= calls:
        return _PARTLY
    others = outcomes - Counter[str]({Outcome.ANSWERED: answered})
    return _LOOKS[others.most_common(1)[0][0]]


def bars(counts: Sequence[int], most: int) -> str:
    """Bars of one line's height; anything above 0 is seen."""
    return "".join(
        _BARS[math.ceil(count / most * (len(_BARS) - 1)) if most else 0] for count in counts
    )


def phase_bar(plan: Plan, width: int) -> Text:
    """The plan as coloured stretches with their names, as far as they fit."""
    bar = Text()
    for span in plan.spans():
        room = round(span.end / plan.seconds * width) - round(span.start / plan.seconds * width)
        name = f" {span.mode}" if len(span.mode) < room else f" {span.mode[: max(0, room - 2)]}…"
        bar.append(name[:room].ljust(room), _MODES[span.mode])
    return bar


class Live:
    """
    The live view.

    Args:
        console: Where to draw. Default: rich's own choice, the terminal.
    """

    def __init__(self, console: rich.console.Console | None = None) -> None:
        self._console = console or rich.console.Console()
        self._screen: rich.live.Live | None = None
        self._scene: Scene | None = None
        self._histories: list[History] = []
        self._notes: deque[str] = deque(maxlen=_NOTES)

    def begin(self, scene: Scene) -> None:
        """Take the lower part of the terminal until the end."""
        width = min(self._console.width - _LABEL - 1, _WIDEST)
        slices = max(1, min(width, math.ceil(scene.plan.seconds / _SLICE)))
        self._scene = scene
        self._histories = [
            History(group, scene.plan.seconds, slices) for group in scene.groups.values()
        ]
        for line in scene.captions(self._console.width):
            self._console.print(line, markup=False, highlight=False)
        self._screen = rich.live.Live(
            self._picture(scene),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            transient=True,
        )
        self._screen.start(refresh=True)

    def refresh(self) -> None:
        """Draw it anew."""
        if self._screen is not None and self._scene is not None:
            self._screen.update(self._picture(self._scene), refresh=True)

    def circuit(self, event: CircuitStateChanged) -> None:
        """Keep the transition for the lines at the bottom."""
        if self._scene is not None:
            self._notes.append(f"{self._scene.clock():5.1f} s  {transition(event)}")

    def end(self) -> None:
        """Give the terminal back, with the strips as they are now."""
        if self._screen is None or self._scene is None:
            return
        self._screen.stop()
        self._screen = None
        self._console.print(self._strips(self._scene))

    def report(self, report: Report) -> None:
        """Print the tables and what they mean."""
        for sheet in report.sheets():
            self._console.print("", _table(sheet), sep="\n")
        self._console.print()
        for note in report.notes():
            text = wrapped(f"• {note}", self._console.width, "")
            self._console.print(text, style="dim", markup=False, highlight=False)

    def _picture(self, scene: Scene) -> rich.console.RenderableType:
        now = scene.clock()
        head = Text.assemble(
            (f"{min(now, scene.plan.seconds):5.1f} s", "bold"),
            f" of {scene.plan.seconds:.1f} s   the service is ",
            (f" {scene.plan.at(now).mode} ", _MODES[scene.plan.at(now).mode]),
            "   waiting for the last calls" if now > scene.plan.seconds else "",
        )
        notes = [*self._notes] + [""] * (_NOTES - len(self._notes))
        return rich.console.Group(
            "",
            head,
            "",
            self._strips(scene),
            "",
            self._numbers(now),
            "",
            _circuits(scene),
            Text("\n".join(notes), "dim"),
        )

    def _strips(self, scene: Scene) -> rich.console.RenderableType:
        outcomes = [history.outcomes() for history in self._histories]
        most = max(count for history in self._histories for count in history.attempts)
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(min_width=_LABEL, justify="right", style="bold")
        grid.add_column(no_wrap=True)
        grid.add_row("", phase_bar(scene.plan, len(self._histories[0].attempts)))
        for history, slices in zip(self._histories, outcomes, strict=True):
            grid.add_row(history.group.name, Text.assemble(*map(glyph, slices)))
            grid.add_row(Text("requests", "dim"), Text(bars(history.attempts, most), "cyan"))
        looks = [*_LOOKS.items(), ("partly", _PARTLY)]
        legend = Text("  ").join(Text.assemble(look, f" {_named(name)}") for name, look in looks)
        return rich.console.Group(grid, "", legend)

    def _numbers(self, now: float) -> rich.console.RenderableType:
        shown = (Outcome.ANSWERED, _LATE, Outcome.REJECTED, Outcome.FAILED, Outcome.DROPPED)
        table = _columns(("", "in flight", *shown, "p50", "p99"))
        for history in self._histories:
            waits = history.recent_waits(now)
            table.add_row(
                Text(history.group.name, "bold"),
                str(history.group.in_flight),
                *(str(history.totals[each]) for each in shown),
                span_text(quantile(waits, 0.5)),
                span_text(quantile(waits, 0.99)),
            )
        return table


def _named(outcome: str) -> str:
    return "in flight" if outcome is Outcome.UNFINISHED else outcome


def _circuits(scene: Scene) -> Text:
    text = Text()
    for breaker in scene.pipeline.policies:
        if isinstance(breaker, CircuitBreaker):
            state, wait = breaker.state.name, breaker.retry_after
            text.append(f"circuit {breaker.name!r}: ")
            text.append(state, "bold green" if state == "CLOSED" else "bold red")
            text.append(f", asks again in {wait:.1f} s" if wait else "")
    return text


def _columns(names: Sequence[str], title: str | None = None) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=rich.box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if index else "left", no_wrap=True)
    return table


def _table(sheet: Sheet) -> Table:
    table = _columns(sheet.columns, sheet.title)
    for row in sheet.rows:
        table.add_row(*row, style="bold" if len(row) == 1 else None)
    return table
