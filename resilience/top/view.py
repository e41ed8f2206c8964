"""
What `top` draws: the verdict, the breakers, the calls of the last minute, the last transitions. Needs rich.

It shows what another process sent, so nothing of it is taken for a number, for markup or for a control character
without a look. Colour repeats what the words say.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, final

import rich.box
import rich.console
import rich.live
from rich.table import Table
from rich.text import Text

__all__ = ["Screen", "drawn", "print_once"]

_LOOKS = {
    "closed": ("✓ closed", "green"),
    "open": ("✕ OPEN", "bold red"),
    "half_open": ("◐ half-open", "yellow"),
    "isolated": ("■ ISOLATED", "bold red"),
    "disabled": ("○ disabled", "bright_black"),
    "observing": ("◎ observing", "blue"),
}
_WHY = {
    "tripped": "tripped",
    "probe failed": "the probe failed",
    "probe slow": "the probe was too slow",
    "probe lease over": "the probe did not come back",
    "by hand": "by hand",
    "break over": "looking whether it is back",
    "probes succeeded": "",
}
_MINUTE, _HOUR, _DAY, _AGES = 60, 3600, 86_400, 10**10
_LARGE = 1e300
_FEW = 3
_BAD, _SOSO = 0.5, 0.9
_LOAD = 1.2
_WIDE = 100
"""Columns from which on there is room for everything."""
_FURNITURE = 10
"""Lines that are not breakers, pipelines or events: verdict, headings, rules."""


def _word(value: object, limit: int = 200) -> str:
    """Text from outside, on one line, with nothing that a terminal would obey."""
    text = "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(value)
    )
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _number(value: object) -> float | None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGE
    return value if fine else None  # type: ignore[return-value]  # looked at; NaN is not below either


def _span(value: object) -> str:
    number = _number(value)
    if number is None:
        return ""
    seconds = int(min(max(number, 0.0), _AGES))
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min {seconds % _MINUTE} s"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE} min"
    return f"{seconds // _DAY} d {seconds % _DAY // _HOUR} h"


def _brief(value: object) -> str:
    seconds = _number(value)
    if seconds is None:
        return "-"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _percent(value: object) -> str:
    share = _number(value)
    return "-" if share is None else f"{100 * share:.3g} %"


def _count(value: object) -> str:
    number = _number(value)
    return "-" if number is None else f"{number:,.0f}"


def _why(each: dict[str, Any]) -> str:
    reason, moved = each.get("reason"), each.get("transition")
    words = [_WHY.get(str(reason), _word(reason)) if reason else ""]
    if reason == "tripped" and isinstance(moved, dict) and each.get("state") == "open":
        words.append(f"{_count(moved.get('failures'))} of {_count(moved.get('calls'))} failed")
    if each.get("last_failure"):
        words.append(f"last failure {_word(each['last_failure'], 60)}")
    return ", ".join(word for word in words if word)


def _until(each: dict[str, Any]) -> str:
    left = _number(each.get("retry_after"))
    match each.get("state"):
        case "open" if left:
            return f"for {_span(left)} more"
        case "open":
            return "next call probes"
        case "isolated":
            return "until released"
        case "half_open":
            return "probing"
        case _:
            return ""


def _verdict(found: dict[str, Any]) -> Text:
    summary = found["summary"]
    total = int(_number(summary.get("total")) or 0)
    away = sum(int(_number(summary.get(state)) or 0) for state in ("open", "isolated"))
    if not total:
        return Text("no circuit breaker yet", "bold")
    if not away:
        probing = int(_number(summary.get("half_open")) or 0)
        if probing:
            return Text(f"◐ {probing} of {total} circuits probing", "bold yellow")
        return Text(f"✓ all {total} circuits let calls pass", "bold green")
    names = [
        _word(each.get("name"), 40)
        for each in found["circuit_breakers"]
        if each.get("state") in {"open", "isolated"}
    ]
    more = f" and {away - _FEW} more" if away > _FEW else ""
    text = f"✕ {away} of {total} circuits turn calls away: {', '.join(names[:_FEW])}{more}"
    return Text(text, "bold red")


def _circuits(rows: list[dict[str, Any]], width: int) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("state", no_wrap=True)
    table.add_column("circuit", ratio=2, overflow="ellipsis", no_wrap=True)
    table.add_column("why, and until when", ratio=4, overflow="fold")
    numbers: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("failures", lambda each: _percent(each.get("failure_rate"))),
        ("turned away", lambda each: _count(each.get("rejected"))),
    ]
    if width >= _WIDE:
        numbers.insert(1, ("calls", lambda each: _count(each.get("calls"))))
        numbers.append(("since", lambda each: _span(each.get("for_seconds"))))
    for heading, _ in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for each in rows:
        words, style = _LOOKS.get(str(each.get("state")), (_word(each.get("state"), 12), ""))
        why, until = _why(each), _until(each)
        story = Text.assemble((until, style), "; " if until and why else "", why)
        table.add_row(
            Text(words, style),
            Text(_word(each.get("name"))),
            story,
            *(read(each) for _, read in numbers),
        )
    return table


def _calls(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("last minute", ratio=1, overflow="ellipsis", no_wrap=True)
    for heading in ("calls", "succeed", "failed", "away", "attempts", "mean"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in rows:
        rate, load = _number(each.get("success_rate")), _number(each.get("attempts_per_call"))
        tone = "" if rate is None or rate >= _SOSO else "yellow" if rate >= _BAD else "bold red"
        table.add_row(
            Text(_word(each.get("name"))),
            _count(each.get("calls")),
            Text(_percent(rate), tone),
            _count(each.get("failure")),
            Text(_count(each.get("rejected")), "yellow" if each.get("rejected") else ""),
            Text("-" if load is None else f"{load:.2f}", "yellow" if load and load > _LOAD else ""),
            _brief(each.get("mean_seconds")),
        )
    return table


def _events(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right", no_wrap=True, min_width=8)
    table.add_column(overflow="ellipsis", no_wrap=True)
    for each in rows:
        name = _word(each.get("policy"), 60)
        if each.get("event") == "circuit_state_changed":
            last = f", {_word(each['last_failure'], 60)}" if each.get("last_failure") else ""
            old, new, reason = (_word(each.get(key), 40) for key in ("old", "new", "reason"))
            text = f"{name}: {old} → {new} ({reason}{last})"
        else:
            text = f"{name}: {_word(each.get('event'), 40).replace('_', ' ')}"
        table.add_row(Text(_span(each.get("seconds_ago")), "bright_black"), Text(text))
    return table


def drawn(found: dict[str, Any], width: int, height: int | None = None) -> rich.console.Group:
    """All of it, or what fits *height* lines: the breakers first, the worst first."""
    circuits, pipelines, events = (
        found[key] for key in ("circuit_breakers", "pipelines", "events")
    )
    if height is not None:
        room = max(height - _FURNITURE, 3)
        circuits = circuits[: max(room - min(len(pipelines), 4) - min(len(events), 3), 3)]
        room -= len(circuits)
        pipelines = pipelines[: max(room - min(len(events), 3), 0)]
        events = events[: max(room - len(pipelines), 0)]
    parts: list[rich.console.RenderableType] = [_verdict(found), _circuits(circuits, width)]
    hidden = int(_number(found["summary"].get("total")) or 0) - len(circuits)
    if hidden > 0:
        parts.append(Text(f"and {hidden} more, in no worse state", "bright_black"))
    if pipelines:
        parts.append(_calls(pipelines))
    if events:
        parts.append(_events(events))
    return rich.console.Group(*parts)


def print_once(found: dict[str, Any]) -> None:
    """Print all of it."""
    console = rich.console.Console(highlight=False)
    with console.capture() as captured:
        console.print(drawn(found, console.width))
    # Not by the console: what it makes of a reader that has left differs from release to release.
    sys.stdout.write(captured.get())
    sys.stdout.flush()


@final
class Screen:
    """The whole terminal, until it is left."""

    def __init__(self, console: rich.console.Console | None = None) -> None:
        self._console = console or rich.console.Console(highlight=False)
        self._live = rich.live.Live(console=self._console, screen=True, auto_refresh=False)
        self._found: dict[str, Any] | None = None
        self._at = time.monotonic()

    def __enter__(self) -> Self:
        self._live.__enter__()
        self._draw(Text("waiting for the first answer", "bright_black"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    def show(self, found: dict[str, Any]) -> None:
        """This is how it is now."""
        self._found, self._at = found, time.monotonic()
        self._draw(Text(f"live, {_word(found.get('timestamp'), 40)}   Ctrl-C ends", "bright_black"))

    def lost(self, why: str) -> None:
        """Nothing was heard; what was seen last stays, and says how old it is."""
        age = _span(time.monotonic() - self._at)
        old = f"; what you see is {age} old" if self._found is not None else ""
        self._draw(Text(f"✕ {_word(why)}{old}   Ctrl-C ends", "bold yellow"))

    def _draw(self, line: Text) -> None:
        parts: list[rich.console.RenderableType] = [line]
        if self._found is not None:
            parts.append(drawn(self._found, self._console.width, self._console.height - 1))
        self._live.update(rich.console.Group(*parts), refresh=True)
