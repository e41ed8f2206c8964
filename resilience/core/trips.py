"""
When a circuit opens: a condition on its generation, as a value that can be joined with ``|`` and ``&``.

A trip is a frozen description; `Trip.start` makes its running meter, one for each generation. A meter hears of every
call that is not a plain, fast success. Ratios compare with ``>=``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, final

import attrs

from resilience.core.windows import Counts, CountWindow, Span, Tally, TimeWindow, Window
from resilience.errors import ConfigurationError
from resilience.validation import Allowed, as_seconds, count, duration, instance, ratio

__all__ = [
    "ConsecutiveFailures", "FailureRate", "Meter", "Record", "SlowRate", "Trip", "trip_validator",
]  # fmt: skip


class Record(NamedTuple):
    """
    One call that is not a plain, fast success.

    Attributes:
        failed: It counts as a failure.
        duration: Seconds it ran, as far as known; 0.0 where nobody measures.
        success: It is among the tally's successes (a slow success).
    """

    failed: bool
    duration: float
    success: bool = False


class Meter(Protocol):
    """A trip at work in one generation."""

    @property
    def edge(self) -> float:
        """As in `Span`."""
        ...

    def roll(self, tally: Tally, now: float) -> None: ...
    def record(self, tally: Tally, now: float, record: Record) -> object:
        """Count it, after the tally did; returns a place for `retract`."""
        ...

    def retract(self, place: Any, record: Record) -> None: ...
    def tripped(self, tally: Tally, now: float) -> bool: ...
    def read(self, tally: Tally, now: float) -> tuple[Counts | None, Counts | None]:
        """What the first failure window and the first slow window hold."""
        ...


class Trip:
    """Base of the conditions; ``a | b`` trips when either does, ``a & b`` when both do."""

    __slots__ = ()

    def __or__(self, other: Trip) -> Trip:
        return _Joined(any, "|", self, other) if isinstance(other, Trip) else NotImplemented

    def __and__(self, other: Trip) -> Trip:
        return _Joined(all, "&", self, other) if isinstance(other, Trip) else NotImplemented

    def start(self, now: float) -> Meter:
        """The running meter of a generation that begins *now*."""
        raise NotImplementedError

    @property
    def slow_thresholds(self) -> frozenset[float]:
        """Durations in seconds from which a call is slow to this trip or a part of it."""
        return frozenset()

    @property
    def timed(self) -> bool:
        """Whether a success must be told the time."""
        return False


def trip_validator() -> Allowed:
    """The validator of ``CircuitBreaker.trip``."""
    return instance(
        Trip, "a trip such as FailureRate(0.5, TimeWindow(30)), or several joined with | and &"
    )


_WINDOW = instance((CountWindow, TimeWindow), "a CountWindow or a TimeWindow")


@final
@attrs.frozen
class ConsecutiveFailures(Trip):
    """
    Trips at the n-th failure in a row; any success between starts anew.

    Args:
        n: How many, >= 1. Default 5.
    """

    n: int = attrs.field(default=5, validator=count())

    def start(self, now: float) -> Meter:  # noqa: ARG002
        return _StreakMeter(self.n)


def _fits(window: Window, minimum_calls: int, owner: str) -> None:
    if isinstance(window, CountWindow) and minimum_calls > window.calls:
        raise ConfigurationError(
            f"{owner}.minimum_calls",
            got=f"{minimum_calls} with a window of {window.calls} calls",
            allowed="at most the calls of its window",
        )


@final
@attrs.frozen
class FailureRate(Trip):
    """
    Trips at a share of failures among the calls of a window.

    Args:
        ratio: Share of failed calls, in (0, 1], at which it trips. Default 0.5.
        window: `TimeWindow` or `CountWindow`. Default ``TimeWindow(30)``.
        minimum_calls: Calls the window must hold before the ratio means anything, >= 1. Default 10.
    """

    ratio: float = attrs.field(default=0.5, validator=ratio())
    window: Window = attrs.field(default=TimeWindow(30), validator=_WINDOW)
    minimum_calls: int = attrs.field(default=10, validator=count())

    def __attrs_post_init__(self) -> None:
        _fits(self.window, self.minimum_calls, "FailureRate")

    def start(self, now: float) -> Meter:
        return _RateMeter(self.window.start(now), self.ratio, self.minimum_calls, None)

    @property
    def timed(self) -> bool:
        return isinstance(self.window, TimeWindow)


@final
@attrs.frozen
class SlowRate(Trip):
    """
    Trips at a share of slow calls, whether they succeed or fail. A call counts as slow while it still runs.

    Args:
        ratio: Share of slow calls, in (0, 1], at which it trips.
        slower_than: Seconds from which a call is slow, > 0, or a timedelta.
        window: `TimeWindow` or `CountWindow`. Default ``TimeWindow(30)``.
        minimum_calls: Calls the window must hold before the ratio means anything, >= 1. Default 10.
    """

    ratio: float = attrs.field(validator=ratio())
    slower_than: float = attrs.field(converter=as_seconds, validator=duration())
    window: Window = attrs.field(default=TimeWindow(30), validator=_WINDOW)
    minimum_calls: int = attrs.field(default=10, validator=count())

    def __attrs_post_init__(self) -> None:
        _fits(self.window, self.minimum_calls, "SlowRate")

    def start(self, now: float) -> Meter:
        return _RateMeter(self.window.start(now), self.ratio, self.minimum_calls, self.slower_than)

    @property
    def slow_thresholds(self) -> frozenset[float]:
        return frozenset({self.slower_than})

    @property
    def timed(self) -> bool:
        return isinstance(self.window, TimeWindow)


@final
class _Joined(Trip):
    __slots__ = ("_parts", "_rule", "_sign")

    def __init__(self, rule: Callable[[Iterable[bool]], bool], sign: str, *parts: Trip) -> None:
        self._rule = rule
        self._sign = sign
        self._parts = parts

    def __repr__(self) -> str:
        return "(" + f" {self._sign} ".join(map(repr, self._parts)) + ")"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Joined):
            return NotImplemented
        return (self._sign, self._parts) == (other._sign, other._parts)

    def __hash__(self) -> int:
        return hash((self._sign, self._parts))

    def start(self, now: float) -> Meter:
        return _JoinedMeter(self._rule, [part.start(now) for part in self._parts])

    @property
    def slow_thresholds(self) -> frozenset[float]:
        return frozenset().union(*(part.slow_thresholds for part in self._parts))

    @property
    def timed(self) -> bool:
        return any(part.timed for part in self._parts)


@final
class _StreakMeter:
    """The streak is over as soon as the tally holds a success more than it did at the last failure."""

    __slots__ = ("_n", "_seen", "_streak")

    edge = math.inf

    def __init__(self, n: int) -> None:
        self._n = n
        self._streak = 0
        self._seen = 0

    def roll(self, tally: Tally, now: float) -> None:
        """Nothing rolls."""

    def _length(self, tally: Tally) -> int:
        return self._streak if tally.successes == self._seen else 0

    def record(self, tally: Tally, now: float, record: Record) -> int:  # noqa: ARG002
        if not record.failed:
            return self._seen
        if tally.successes == self._seen:
            self._streak += 1
        else:
            self._seen = tally.successes
            self._streak = 1
        return self._seen

    def retract(self, place: int, record: Record) -> None:
        # A streak that a success has ended since is not the one to take it from.
        if record.failed and place == self._seen:
            self._streak -= 1

    def tripped(self, tally: Tally, now: float) -> bool:  # noqa: ARG002
        return self._length(tally) >= self._n

    def read(self, tally: Tally, now: float) -> tuple[Counts | None, Counts | None]:  # noqa: ARG002
        return None, None


@final
class _RateMeter:
    __slots__ = ("_minimum", "_ratio", "_slower_than", "_span")

    def __init__(self, span: Span, ratio: float, minimum: int, slower_than: float | None) -> None:
        self._span = span
        self._ratio = ratio
        self._minimum = minimum
        self._slower_than = slower_than

    @property
    def edge(self) -> float:
        return self._span.edge

    def roll(self, tally: Tally, now: float) -> None:
        self._span.roll(tally, now)

    def _hit(self, record: Record) -> bool:
        if self._slower_than is None:
            return record.failed
        return record.duration >= self._slower_than

    def record(self, tally: Tally, now: float, record: Record) -> tuple[int, int]:
        slower_than = self._slower_than
        # `_hit`, written out.
        hit = record.failed if slower_than is None else record.duration >= slower_than
        return self._span.record(tally, now, hit=hit, success=record.success)

    def retract(self, place: tuple[int, int], record: Record) -> None:
        self._span.retract(place, hit=self._hit(record))

    def tripped(self, tally: Tally, now: float) -> bool:
        calls, hits = self._span.read(tally, now)
        # Divided, not multiplied: 7 of 100 is exactly 0.07, but 0.07 * 100 is more than 7.
        return calls >= self._minimum and hits / calls >= self._ratio

    def read(self, tally: Tally, now: float) -> tuple[Counts | None, Counts | None]:
        counts = self._span.read(tally, now)
        return (counts, None) if self._slower_than is None else (None, counts)


@final
class _JoinedMeter:
    __slots__ = ("_meters", "_rule")

    def __init__(self, rule: Callable[[Iterable[bool]], bool], meters: list[Meter]) -> None:
        self._rule = rule
        self._meters = meters

    @property
    def edge(self) -> float:
        return min(meter.edge for meter in self._meters)

    def roll(self, tally: Tally, now: float) -> None:
        for meter in self._meters:
            meter.roll(tally, now)

    def record(self, tally: Tally, now: float, record: Record) -> list[object]:
        return [meter.record(tally, now, record) for meter in self._meters]

    def retract(self, place: list[object], record: Record) -> None:
        for meter, each in zip(self._meters, place, strict=True):
            meter.retract(each, record)

    def tripped(self, tally: Tally, now: float) -> bool:
        return self._rule(meter.tripped(tally, now) for meter in self._meters)

    def read(self, tally: Tally, now: float) -> tuple[Counts | None, Counts | None]:
        failures = slow = None
        for meter in self._meters:
            one, other = meter.read(tally, now)
            failures = failures or one
            slow = slow or other
        return failures, slow
