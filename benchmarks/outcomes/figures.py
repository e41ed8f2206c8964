"""
The figures of a story, each defined where it is reckoned.
"""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections.abc import Sequence

import attrs

from benchmarks.outcomes.contenders import CLOSED, HALF_OPEN, OPEN
from benchmarks.outcomes.play import Call, Story

__all__ = ["PATIENCE", "Figures", "Series", "figures_of", "series_of"]

PATIENCE = 10.0
"""Seconds after which an answer is nobody's answer any more: the total deadline of all contenders but the bare call."""
_ENOUGH = 0.95
_SPAN = 5.0
_STEP = 0.1


@attrs.frozen
class Figures:
    """
    One cell of every table.

    Attributes:
        goodput: Share of the calls that arrived during the fault and were answered within `PATIENCE`.
        goodput_after: The same for the calls that arrived after it; None if the plan does not heal.
        load: Requests that reached the server during the fault, per call that arrived then.
        load_peak: The same in the worst second of the plan.
        noticed: Seconds from the start of the fault until the circuit opened and calls were rejected; None: never.
        openings: How often the circuit opened in the whole plan.
        recovered: Seconds from healing until 95 % of the calls of the next 5 s are answered within `PATIENCE`; infinity
            if not before the plan ends, None if it does not heal.
        recovered_break: The same from the end of the break that was running when the server healed; None if none was.
        waited: Seconds within which 99 % of all callers had their answer or error.
        in_flight: Most calls in flight at once.
        wasted: Requests the server worked on although nobody waited any more.
    """

    goodput: float
    goodput_after: float | None
    load: float
    load_peak: float
    noticed: float | None
    openings: int
    recovered: float | None
    recovered_break: float | None
    waited: float
    in_flight: int
    wasted: int


@attrs.frozen
class Series:
    """Per second of the plan: calls that arrived, requests that reached the server, answers that arrived in time."""

    offered: list[int]
    load: list[int]
    goodput: list[int]


def _good(call: Call) -> bool:
    return call.answered and call.waited <= PATIENCE


def _share(calls: Sequence[Call]) -> float:
    return sum(map(_good, calls)) / len(calls) if calls else 1.0


def series_of(story: Story) -> Series:
    """What the pictures show."""
    seconds = round(story.plan.seconds)

    def binned(instants: list[float]) -> list[int]:
        counts = [0] * seconds
        for at in instants:
            if 0 <= at < seconds:
                counts[int(at)] += 1
        return counts

    return Series(
        binned([call.at for call in story.calls]),
        binned(story.reached),
        binned([call.at + call.waited for call in story.calls if _good(call)]),
    )


def figures_of(story: Story) -> Figures:
    """Reckon them."""
    plan, calls = story.plan, story.calls
    start, end = plan.fault
    instants = [call.at for call in calls]

    def between(first: float, last: float) -> Sequence[Call]:
        return calls[bisect_left(instants, first) : bisect_left(instants, last)]

    def recovery(since: float) -> float:
        """From *since* until 95 % of the calls of the next seconds are answered."""
        step = 0
        while (first := since + step * _STEP) + _SPAN <= plan.seconds:
            if _share(between(first, first + _SPAN)) >= _ENOUGH:
                return first - since
            step += 1
        return float("inf")

    series = series_of(story)
    worst = [
        load / max(offered, 1) for load, offered in zip(series.load, series.offered, strict=True)
    ]
    reached = bisect_left(story.reached, end) - bisect_left(story.reached, start)
    opened = [at for at, state in story.states if state == OPEN]
    opened_in_fault = [at for at in opened if at >= start]
    over = _end_of_break(story, end)
    waits = [call.waited for call in calls]
    return Figures(
        goodput=_share(between(start, end)),
        goodput_after=_share(between(end, plan.seconds)) if plan.heals else None,
        load=reached / max(len(between(start, end)), 1),
        load_peak=max(worst[int(start) :]),
        noticed=opened_in_fault[0] - start if opened_in_fault else None,
        openings=len(opened),
        recovered=recovery(end) if plan.heals else None,
        recovered_break=None if over is None else recovery(over),
        waited=statistics.quantiles(waits, n=100)[-1],
        in_flight=story.in_flight,
        wasted=story.wasted,
    )


def _end_of_break(story: Story, healed: float) -> float | None:
    """When the break that was running at *healed* ended; None if the circuit was not open then or never asked again."""
    if not story.plan.heals:
        return None
    before = [state for at, state in story.states if at < healed]
    if before[-1] == CLOSED:
        return None
    return next((at for at, state in story.states if at >= healed and state == HALF_OPEN), None)
