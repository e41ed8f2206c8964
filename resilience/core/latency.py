"""
How long calls take, as a quantile, in memory that does not grow.

A histogram whose buckets are each four percent wider than the one before: whatever quantile is read from it is within
two percent of an observed value (DDSketch: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
relative-error guarantees", VLDB 2019), from a microsecond to a day, in 640 integers. Two of them take turns, so that
what is read is between half a window and a whole one old (tower's rotating histogram).

What was cut short is recorded as what it had taken by then. To leave it out would forget the slow ones first: the
quantile would sink, and what goes by it would cut ever more.

Why no lock: a sample is two straight-line ``+= 1``, and the turn is one assignment. Time comes in as ``now``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from typing import final

import attrs

from resilience.validation import as_seconds, count, duration, ratio, spelled

__all__ = ["Latencies", "Quantile"]

_ERROR = 0.02
_LOG_GROWTH = math.log((1 + _ERROR) / (1 - _ERROR))
_SHORTEST, _LONGEST = 1e-6, 86_400.0
_LAST = math.ceil(math.log(_LONGEST / _SHORTEST) / _LOG_GROWTH)
# How many samples more there have to be before the answer is worked out again.
_STALE, _SHARE = 8, 16


@final
@attrs.frozen(repr=False)
class Quantile:
    """
    A quantile of observed latency, in the place of a number of seconds.

    Args:
        ratio: Which one, in (0, 1]: 0.95 is exceeded by one call in twenty. Default 0.95.
        minimum_calls: Calls that must have been observed before it means anything, >= 1. Default 20.
        window: Seconds that an observation counts, > 0; half of that at least. Default 60.
    """

    ratio: float = attrs.field(default=0.95, validator=ratio())
    minimum_calls: int = attrs.field(default=20, kw_only=True, validator=count())
    window: float = attrs.field(
        default=60.0, kw_only=True, converter=as_seconds, validator=duration()
    )

    def __repr__(self) -> str:
        return spelled(self)


class _Half:
    """One of the two histograms, from the instant it ``began``."""

    __slots__ = ("began", "buckets", "samples")

    def __init__(self, began: float) -> None:
        self.began = began
        self.buckets = [0] * (_LAST + 1)
        self.samples = 0


_Answer = tuple[object, int, float | None]


@final
class Latencies:
    """The observations of one `Quantile`."""

    __slots__ = ("_answer", "_halves", "_options")

    def __init__(self, options: Quantile) -> None:
        self._options = options
        self._halves: tuple[_Half, _Half] | None = None
        self._answer: _Answer | None = None

    def add(self, seconds: float, now: float) -> None:
        """A call took that long, or was cut short after it."""
        half = self._turned(now)[0]
        place = 0
        if seconds > _SHORTEST:
            place = min(_LAST, math.ceil(math.log(seconds / _SHORTEST) / _LOG_GROWTH))
        buckets = half.buckets
        buckets[place] += 1
        half.samples += 1

    def read(self, now: float) -> float | None:
        """The quantile in seconds; None before there are enough observations."""
        halves = new, old = self._turned(now)
        samples = new.samples + old.samples
        if samples < self._options.minimum_calls:
            return None
        answer = self._answer
        if answer is None or answer[0] is not halves or samples >= answer[1]:
            found = self._found(new.buckets, old.buckets)
            # What is read may lag behind what was observed by these few.
            answer = halves, samples + max(_STALE, samples // _SHARE), found
            self._answer = answer
        return answer[2]

    def _found(self, new: list[int], old: list[int]) -> float:
        seen = list(accumulate(a + b for a, b in zip(new, old, strict=True)))
        place = bisect_left(seen, self._options.ratio * seen[-1] - 1e-9)
        # Of a bucket the value that is as far from its least as from its greatest, in percent.
        return _SHORTEST * math.exp(place * _LOG_GROWTH) * (1 - _ERROR)

    def _turned(self, now: float) -> tuple[_Half, _Half]:
        halves = self._halves
        if halves is None:
            halves = self._halves = _Half(now), _Half(now)
        elapsed, half = now - halves[0].began, self._options.window / 2
        if elapsed >= half:
            # After a whole window without a look what was new is too old as well.
            kept = halves[0] if elapsed < 2 * half else _Half(now)
            halves = self._halves = _Half(now), kept
        return halves
