"""
What is shown while the demo runs: the scene every view draws from, and the plain view.

The plain view prints one line per phase and per transition of the circuit, for pipes, logs and terminals that are none.
The live view is in `live`, and needs rich.
"""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TextIO

import attrs

from resilience import Pipeline
from resilience.demo.clients import BARE_TIMEOUT, Group
from resilience.demo.plan import Plan, Span
from resilience.demo.report import Report
from resilience.events import LOGGER, CircuitStateChanged

__all__ = ["Plain", "Scene", "View", "quiet", "transition", "wrapped"]

_WIDTH = 100


@attrs.frozen
class Scene:
    """
    The run that is shown.

    Attributes:
        plan: What goes wrong.
        backend: ``asyncio`` or ``trio``.
        rate: Calls per second of each group.
        groups: By name.
        pipeline: What the guarded group calls through.
        clock: Seconds since the run began.
    """

    plan: Plan
    backend: str
    rate: float
    groups: Mapping[str, Group]
    pipeline: Pipeline
    clock: Callable[[], float]

    def captions(self, width: int) -> tuple[str, ...]:
        """How the two groups call, in lines of this width."""
        return (
            f"plan {self.plan.name}, {self.plan.seconds:.1f} s, {self.rate:g} calls/s per group, {self.backend}",
            f"bare:    one attempt with a client timeout of {BARE_TIMEOUT:g} s, nothing else",
            "guarded: a pipeline of",
            *(wrapped(repr(policy), width, " " * 9) for policy in self.pipeline.policies),
        )


def wrapped(text: str, width: int, indent: str) -> str:
    """The text in lines of this width, those after the first indented by two more."""
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent + "  ")


def transition(event: CircuitStateChanged) -> str:
    """A transition in a few words."""
    wait = "" if event.retry_after is None else f" for {event.retry_after:g} s"
    share = f": {event.failures} of {event.calls} attempts failed" if event.calls else ""
    return f"circuit {event.old} -> {event.new}{wait}, {event.reason}{share}"


class View(Protocol):
    """Shows a run while it lasts, and its report."""

    def begin(self, scene: Scene) -> None:
        """The run begins."""

    def refresh(self) -> None:
        """Time has passed; called about ten times a second."""

    def circuit(self, event: CircuitStateChanged) -> None:
        """The circuit moved to another state."""

    def end(self) -> None:
        """The run is over, or was cut short; called once, begun or not."""

    def report(self, report: Report) -> None:
        """Show the figures."""


class Plain:
    """Lines of text, each written once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._scene: Scene | None = None
        self._span: Span | None = None

    def _print(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()

    def begin(self, scene: Scene) -> None:
        """Say what is about to happen."""
        self._scene = scene
        for line in scene.captions(_WIDTH):
            self._print(line)
        self.refresh()

    def refresh(self) -> None:
        """Print the phase, if it is another one."""
        if self._scene is None:
            return
        span = self._scene.plan.at(self._scene.clock())
        if span != self._span:
            self._span = span
            self._print(f"{span.start:6.1f} s  {span.mode}")

    def circuit(self, event: CircuitStateChanged) -> None:
        """Print the transition with its time, below the phase it happened in."""
        if self._scene is not None:
            self.refresh()
            self._print(f"{self._scene.clock():6.1f} s    {transition(event)}")

    def end(self) -> None:
        """Stop printing phases."""
        self._scene = None

    def report(self, report: Report) -> None:
        """Print the tables and what they mean."""
        for sheet in report.sheets():
            self._print("\n" + sheet.text())
        self._print("")
        for note in report.notes():
            self._print(wrapped("* " + note, _WIDTH, ""))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the library's own log: the views show the transitions, and other lines would tear the live one."""
    before = LOGGER.disabled
    LOGGER.disabled = True
    try:
        yield
    finally:
        LOGGER.disabled = before
