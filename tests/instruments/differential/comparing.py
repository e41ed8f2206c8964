"""
Two engines, one plan: what is different, and what is left of the plan when all that does not matter is taken away.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from resilience.modes import Engine
from tests.instruments.differential.plans import Asked, Caller, Part, Pipe, Plan, make
from tests.instruments.differential.playing import Played, play, prepared

__all__ = ["Mismatch", "Report", "compare", "shrunk", "sweep"]

ENGINES: tuple[Engine, Engine] = ("linked", "express")
_BEFORE = 6

Plant = Callable[[], contextlib.AbstractContextManager[Any]]


@attrs.frozen
class Mismatch:
    """
    A plan that two engines played differently.

    Attributes:
        place: Of the first difference in the traces.
        traces: Of the linked engine and of the express lane.
    """

    plan: Plan
    place: int
    traces: tuple[list[Any], list[Any]]

    def __str__(self) -> str:
        place, (linked, _) = self.place, self.traces
        lines = [self.plan.text()]
        lines += [f"      {_line(each)}" for each in linked[max(0, place - _BEFORE) : place]]
        for name, trace in zip(ENGINES, self.traces, strict=True):
            entry = _line(trace[place]) if place < len(trace) else "nothing more"
            lines.append(f"{name:>8}: {entry}")
        where = f"--backend {self.plan.backend} --seeds {self.plan.seed}"
        lines.append(f"to replay: python -m tests.instruments.differential {where}")
        return "\n".join(lines)


def _line(entry: Any) -> str:
    return " ".join(map(str, entry))


def compare(
    plan: Plan, plant: Plant = contextlib.nullcontext, told: Callable[[Played], None] | None = None
) -> Mismatch | None:
    """
    Play it on both engines, within `prepared`.

    Args:
        plant: What to change for the second run only, to see whether that is noticed.
        told: Called with each run.
    """
    linked = play(plan, "linked")
    with plant():
        express = play(plan, "express")
    if told is not None:
        told(linked)
        told(express)
    if linked.trace == express.trace:
        return None
    pairs = itertools.zip_longest(linked.trace, express.trace)
    place = next(place for place, (one, other) in enumerate(pairs) if one != other)
    return Mismatch(plan, place, (linked.trace, express.trace))


@attrs.define
class Report:
    """
    What a sweep over seeds found.

    Attributes:
        seen: In how many runs each possibility occurred.
        entries, lane: Times a callee was entered under "express", and times it was by the lane itself.
        crashed: Seeds of runs that came to no end.
    """

    plans: int = 0
    seen: Counter[str] = attrs.field(factory=Counter)
    entries: int = 0
    lane: int = 0
    crashed: list[tuple[int, str]] = attrs.field(factory=list)
    wrong: list[Mismatch] = attrs.field(factory=list)

    def add(self, other: Report) -> None:
        self.plans += other.plans
        self.seen += other.seen
        self.entries += other.entries
        self.lane += other.lane
        self.crashed += other.crashed
        self.wrong += other.wrong


def sweep(
    backend: str,
    seeds: range,
    plant: Plant = contextlib.nullcontext,
    stop_at: float = float("inf"),
) -> Report:
    """
    Compare the plans of *seeds*.

    Args:
        plant: As of `compare`.
        stop_at: Mismatches after which it stops.
    """
    report = Report()
    with prepared():
        for seed in seeds:
            runs: list[Played] = []
            mismatch = compare(make(seed, backend), plant, runs.append)
            report.plans += 1
            linked, express = runs
            report.seen.update(linked.seen)
            report.entries += express.entries
            report.lane += express.lane
            report.crashed += [(seed, each.crashed) for each in runs if each.crashed]
            if mismatch is not None:
                report.wrong.append(mismatch)
                if len(report.wrong) >= stop_at:
                    break
    return report


# ------------------------------------------------------------------------------ less of a plan


def shrunk(plan: Plan, differs: Callable[[Plan], bool]) -> Plan:
    """The smallest plan that is found by leaving things out one at a time, and still differs."""
    again = True
    while again:
        again = False
        for less in _lesser(plan):
            if differs(less):
                plan, again = less, True
                break
    return plan


def _without(things: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    for place in range(len(things)):
        yield (*things[:place], *things[place + 1 :])


def _lesser(plan: Plan) -> Iterator[Plan]:
    for field in ("acts", "cuts"):
        for less in _without(getattr(plan, field)):
            yield plan._replace(**{field: less})
    for place, caller in enumerate(plan.callers):
        # Cuts go by the number of the caller.
        if len(plan.callers) > 1 and (place == len(plan.callers) - 1 or not plan.cuts):
            yield plan._replace(callers=(*plan.callers[:place], *plan.callers[place + 1 :]))
        for less in _lesser_callers(caller):
            yield plan._replace(callers=(*plan.callers[:place], less, *plan.callers[place + 1 :]))
    for place, pipe in enumerate(plan.pipes):
        for less in _lesser_pipes(pipe):
            yield plan._replace(pipes=(*plan.pipes[:place], less, *plan.pipes[place + 1 :]))
    for place, part in enumerate(plan.parts):
        for less in _lesser_parts(part):
            yield plan._replace(parts=(*plan.parts[:place], less, *plan.parts[place + 1 :]))
    for field in ("eager", "log", "clock"):
        if getattr(plan, field):
            yield plan._replace(**{field: False})


def _lesser_callers(caller: Caller) -> Iterator[Caller]:
    if caller.start:
        yield caller._replace(start=0.0)
    for less in _without(caller.calls):
        yield caller._replace(calls=less)
    for place, asked in enumerate(caller.calls):
        for less in _lesser_calls(asked):
            yield caller._replace(calls=(*caller.calls[:place], less, *caller.calls[place + 1 :]))


def _lesser_calls(asked: Asked) -> Iterator[Asked]:
    plainest: dict[str, Any] = {
        "door": "wrap",
        "callee": "plain",
        "level": False,
        "pause": 0.0,
        "pipe": 0,
    }
    for field, plain in plainest.items():
        if getattr(asked, field) != plain:
            yield asked._replace(**{field: plain})
    for less in _without(asked.around):
        yield asked._replace(around=less)
    if len(asked.scripts) > 1:
        for scripts in _without(asked.scripts):
            yield asked._replace(scripts=scripts)
    for place, script in enumerate(asked.scripts):
        for steps in _without(script.steps):
            scripts = (
                *asked.scripts[:place],
                script._replace(steps=steps),
                *asked.scripts[place + 1 :],
            )
            yield asked._replace(scripts=scripts)
        if script.end not in {("return", "good"), ("raise", "Boom")}:
            for end in (("return", "good"), ("raise", "Boom")):
                scripts = (
                    *asked.scripts[:place],
                    script._replace(end=end),
                    *asked.scripts[place + 1 :],
                )
                yield asked._replace(scripts=scripts)


def _lesser_pipes(pipe: Pipe) -> Iterator[Pipe]:
    plainest: dict[str, Any] = {"name": None, "key": None, "enabled": "on"}
    for field, plain in plainest.items():
        if getattr(pipe, field) != plain:
            yield pipe._replace(**{field: plain})
    for less in _without(pipe.listeners):
        yield pipe._replace(listeners=less)
    for parts in _without(pipe.parts):
        yield pipe._replace(parts=parts)
    for place, part in enumerate(pipe.parts):
        if isinstance(part, Pipe):
            yield pipe._replace(parts=(*pipe.parts[:place], *part.parts, *pipe.parts[place + 1 :]))
            for less in _lesser_pipes(part):
                yield pipe._replace(parts=(*pipe.parts[:place], less, *pipe.parts[place + 1 :]))


_NEEDED = {
    "seconds", "attempts", "on", "wait", "trip", "break_duration", "limit", "rate", "algorithm", "after", "answer",
    "ttl",
}  # fmt: skip


def _lesser_parts(part: Part) -> Iterator[Part]:
    for name in part.options:
        if name not in _NEEDED or (part.kind == "RetryBudget"):
            options = {each: value for each, value in part.options.items() if each != name}
            yield part._replace(options=options)
