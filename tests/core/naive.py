"""
What windows and trips hold, said as slowly and as plainly as it can be: a list of calls, counted again each time.

Written from the laws, not from the code. Two things the laws leave open are taken from docstrings: a call that is
overdue stands in its windows as a call that is no success, and the place it is taken back from stays empty.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resilience import ConsecutiveFailures, CountWindow, FailureRate, SlowRate, TimeWindow
from resilience.core.trips import Trip
from resilience.core.windows import Counts

Spec = Any
"""A trip as it is joined here: a plain trip, or ("|" or "&", spec, spec)."""


@dataclass(eq=False)
class Entry:
    """One call as a window sees it. ``gone``: an overdue call that ended, so that its record no longer counts."""

    at: float
    failed: bool
    duration: float
    success: bool
    gone: bool = False


@dataclass
class History:
    """All calls of one generation, in the order in which they were recorded."""

    begin: float
    entries: list[Entry] = field(default_factory=list)

    def add(
        self, at: float, *, failed: bool, duration: float = 0.0, success: bool = False
    ) -> Entry:
        entry = Entry(at, failed, duration, success)
        self.entries.append(entry)
        return entry

    def inside(self, window: CountWindow | TimeWindow, now: float) -> list[Entry]:
        if isinstance(window, CountWindow):
            latest = self.entries[-window.calls :]
        else:
            width = window.seconds / window.buckets
            oldest = bucket(now, self.begin, width) - window.buckets + 1
            latest = [each for each in self.entries if bucket(each.at, self.begin, width) >= oldest]
        return [each for each in latest if not each.gone]


def bucket(at: float, begin: float, width: float) -> int:
    """The number of the bucket: how many edges ``begin + k * width`` have been reached."""
    low, high = 0, 1
    while begin + high * width <= at:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if begin + middle * width <= at:
            low = middle
        else:
            high = middle
    return low


def joined(spec: Spec) -> Trip:
    """The real trip."""
    match spec:
        case ("|", left, right):
            return joined(left) | joined(right)
        case ("&", left, right):
            return joined(left) & joined(right)
    return spec


def holds(spec: Spec, history: History, now: float) -> bool:
    """Whether it trips."""
    match spec:
        case ("|", left, right):
            return holds(left, history, now) or holds(right, history, now)
        case ("&", left, right):
            return holds(left, history, now) and holds(right, history, now)
        case ConsecutiveFailures():
            return streak(history) >= spec.n
        case FailureRate() | SlowRate():
            calls, hits = counts(spec, history, now)
            return calls >= spec.minimum_calls and hits / calls >= spec.ratio
    raise TypeError(spec)


def streak(history: History) -> int:
    """Failures since the last success."""
    length = 0
    for entry in reversed(history.entries):
        if entry.success:
            break
        length += entry.failed and not entry.gone
    return length


def counts(spec: FailureRate | SlowRate, history: History, now: float) -> tuple[int, int]:
    """Calls and hits in its window."""
    inside = history.inside(spec.window, now)
    if isinstance(spec, FailureRate):
        return len(inside), sum(each.failed for each in inside)
    return len(inside), sum(each.duration >= spec.slower_than for each in inside)


def leaves(spec: Spec) -> list[Trip]:
    """The plain trips in it, from left to right."""
    if isinstance(spec, tuple):
        return leaves(spec[1]) + leaves(spec[2])
    return [spec]


def shown(spec: Spec, history: History, now: float) -> tuple[Counts | None, Counts | None]:
    """What the first failure window and the first slow window hold."""
    failures = [each for each in leaves(spec) if isinstance(each, FailureRate)]
    slow = [each for each in leaves(spec) if isinstance(each, SlowRate)]
    return (
        Counts(*counts(failures[0], history, now)) if failures else None,
        Counts(*counts(slow[0], history, now)) if slow else None,
    )


def thresholds(spec: Spec) -> set[float]:
    """Durations from which a call is slow."""
    return {each.slower_than for each in leaves(spec) if isinstance(each, SlowRate)}
