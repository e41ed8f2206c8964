"""
How many calls a dependency can bear at once, found out from how long they take: AIMD, Vegas and Gradient2.

Each is a frozen set of numbers that starts an *estimate*; the estimate is told of each call and says the limit. The
rules and defaults are those of Netflix's concurrency-limits, with one correction: a call that was dropped (cut off, or
turned away by the dependency) says only that it would have taken longer. It lowers the limit and is never taken for a
fast one, however soon it failed; there it became the shortest time ever seen, and the limit collapsed afterwards.

An estimate is not for several threads at once; whoever tells it sees to that. A limit grows only while it is used: with
fewer than half as many in flight nothing can be learned of it.

Jacobson, 1988 (AIMD); Brakmo and Peterson, "TCP Vegas", 1994; Netflix concurrency-limits (Gradient2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, final

import attrs

from resilience.clock import Rng
from resilience.errors import ConfigurationError
from resilience.validation import Allowed, as_seconds, count, duration, is_function, one_of, ratio

__all__ = ["AIMD", "Algorithm", "Estimate", "Gradient2", "Vegas"]

_MOST = 10**6


class Estimate(Protocol):
    """
    What is known so far.

    ``limit``: calls at once, >= 1. ``sample(seconds, in_flight, dropped=...)``: a call ended; the limit from now on.
    *seconds* is how long it took, > 0, or how long until it was dropped; *in_flight* how many ran when it began, itself
    included.
    """

    @property
    def limit(self) -> int: ...

    def sample(self, seconds: float, in_flight: int, *, dropped: bool) -> int: ...


class Algorithm(Protocol):
    """The numbers of one way to find a limit; ``start`` makes a fresh estimate."""

    def start(self, rng: Rng) -> Estimate: ...


def _function() -> Allowed:
    return one_of(
        "None, or a function of the limit that returns the next one, not async",
        lambda value: value is None or is_function(value),
        {"number": 0.5, "text": "half", "class": float},
    )


def _tolerance() -> Allowed:
    return one_of(
        "a number >= 1",
        lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < math.inf
        ),
        {"text": "2", "boolean": True, "none": None, "below": 0.9, "infinite": math.inf},
    )


def _in_order(owner: str, minimum: int, initial: int, maximum: int) -> None:
    if not minimum <= initial <= maximum:
        raise ConfigurationError(
            f"{owner}.initial",
            got=f"{initial} with a minimum of {minimum} and a maximum of {maximum}",
            allowed="from the minimum to the maximum",
        )


def _check(seconds: float) -> None:
    if not seconds > 0:
        raise ValueError(f"a call takes more than no time, got {seconds!r}")


@final
@attrs.frozen(kw_only=True)
class AIMD:
    """
    One more while it is used and answers come in time, a tenth less for each call that is dropped or late.

    Args:
        initial, minimum, maximum: Of the limit, >= 1. Default 20, 20 and 200.
        backoff: What is left of the limit after a drop, in (0, 1]. Default 0.9.
        timeout: Seconds from which an answer is as bad as none, > 0. Default 5.
    """

    initial: int = attrs.field(default=20, validator=count(high=_MOST))
    minimum: int = attrs.field(default=20, validator=count(high=_MOST))
    maximum: int = attrs.field(default=200, validator=count(high=_MOST))
    backoff: float = attrs.field(default=0.9, validator=ratio())
    timeout: float = attrs.field(default=5.0, converter=as_seconds, validator=duration())

    def __attrs_post_init__(self) -> None:
        _in_order("AIMD", self.minimum, self.initial, self.maximum)

    def start(self, rng: Rng) -> Estimate:  # noqa: ARG002 - nothing here is left to chance
        """A fresh estimate."""
        return _AIMD(self)


@final
class _AIMD:
    __slots__ = ("_numbers", "limit")

    def __init__(self, numbers: AIMD) -> None:
        self._numbers = numbers
        self.limit: int = numbers.initial

    def sample(self, seconds: float, in_flight: int, *, dropped: bool) -> int:
        numbers, limit = self._numbers, self.limit
        if dropped or seconds > numbers.timeout:
            limit = int(limit * numbers.backoff)
        else:
            _check(seconds)
            limit += in_flight * 2 >= limit
        self.limit = min(numbers.maximum, max(numbers.minimum, limit))
        return self.limit


@final
@attrs.frozen(kw_only=True)
class Vegas:
    """
    As many as keep a short queue at the dependency, whose length is worked out from the shortest time ever seen.

    Args:
        initial, maximum: Of the limit, >= 1. Default 20 and 1000.
        smoothing: Weight of a new limit against the old one, in (0, 1]. Default 1.
        increase, decrease: Functions of the limit. Default: more or less by its decimal logarithm, at least 1.
        probe_after: Every so many calls per place the shortest time is measured anew, >= 1. Default 30.
    """

    initial: int = attrs.field(default=20, validator=count(high=_MOST))
    maximum: int = attrs.field(default=1000, validator=count(high=_MOST))
    smoothing: float = attrs.field(default=1.0, validator=ratio())
    increase: Callable[[float], float] | None = attrs.field(default=None, validator=_function())
    decrease: Callable[[float], float] | None = attrs.field(default=None, validator=_function())
    probe_after: int = attrs.field(default=30, validator=count(high=_MOST))

    def __attrs_post_init__(self) -> None:
        _in_order("Vegas", 1, self.initial, self.maximum)

    def start(self, rng: Rng) -> Estimate:
        """A fresh estimate."""
        return _Vegas(self, rng)


def _log10(limit: float) -> int:
    return max(1, int(math.log10(max(limit, 1.0))))


@final
class _Vegas:
    __slots__ = ("_exact", "_jitter", "_numbers", "_rng", "_seen", "_shortest")

    def __init__(self, numbers: Vegas, rng: Rng) -> None:
        self._numbers = numbers
        self._rng = rng
        self._exact: float = float(numbers.initial)
        self._shortest = 0.0
        self._seen = 0
        self._jitter = 0.5 + rng.random() / 2

    @property
    def limit(self) -> int:
        return int(self._exact)

    def sample(self, seconds: float, in_flight: int, *, dropped: bool) -> int:
        if not dropped:
            _check(seconds)
            self._seen += 1
            if self._seen >= self._jitter * self._numbers.probe_after * self._exact:
                # The shortest time may be of another day: measure it anew, not all callers at once.
                self._seen, self._shortest = 0, seconds
                self._jitter = 0.5 + self._rng.random() / 2
                return self.limit
            if self._shortest == 0.0 or seconds < self._shortest:
                self._shortest = seconds
                return self.limit
        wanted = self._next(seconds, in_flight, dropped=dropped)
        if wanted is not None:
            wanted = max(1.0, min(float(self._numbers.maximum), wanted))
            smoothing = self._numbers.smoothing
            self._exact = (1 - smoothing) * self._exact + smoothing * wanted
        return self.limit

    def _next(self, seconds: float, in_flight: int, *, dropped: bool) -> float | None:
        exact = self._exact
        if dropped:
            return self._less(exact)
        if in_flight * 2 < exact:
            return None
        queue = math.ceil(exact * (1 - self._shortest / seconds))
        step = _log10(int(exact))
        if queue <= step:
            return exact + 6 * step
        if queue < 3 * step:
            return self._more(exact)
        return self._less(exact) if queue > 6 * step else None

    def _more(self, limit: float) -> float:
        increase = self._numbers.increase
        return limit + _log10(limit) if increase is None else increase(limit)

    def _less(self, limit: float) -> float:
        decrease = self._numbers.decrease
        return limit - _log10(limit) if decrease is None else decrease(limit)


@final
@attrs.frozen(kw_only=True)
class Gradient2:
    """
    As many as keep calls about as fast as they have been on average; the ratio of the two is the slope.

    Args:
        initial, minimum, maximum: Of the limit, >= 1. Default 20, 20 and 200.
        smoothing: Weight of a new limit against the old one, in (0, 1]. Default 0.2.
        tolerance: How much slower than on average is not yet slow, >= 1. Default 1.5.
        window: Calls that the average looks back on, >= 1. Default 600.
        headroom: Calls by which it grows where nothing slows down, >= 1. Default 4.
    """

    initial: int = attrs.field(default=20, validator=count(high=_MOST))
    minimum: int = attrs.field(default=20, validator=count(high=_MOST))
    maximum: int = attrs.field(default=200, validator=count(high=_MOST))
    smoothing: float = attrs.field(default=0.2, validator=ratio())
    tolerance: float = attrs.field(default=1.5, validator=_tolerance())
    window: int = attrs.field(default=600, validator=count(high=_MOST))
    headroom: int = attrs.field(default=4, validator=count(high=_MOST))

    def __attrs_post_init__(self) -> None:
        _in_order("Gradient2", self.minimum, self.initial, self.maximum)

    def start(self, rng: Rng) -> Estimate:  # noqa: ARG002 - nothing here is left to chance
        """A fresh estimate."""
        return _Gradient2(self)


_WARM_UP = 10
_STEEPEST = 0.5


@final
class _Gradient2:
    __slots__ = ("_average", "_exact", "_numbers", "_seen", "_sum")

    def __init__(self, numbers: Gradient2) -> None:
        self._numbers = numbers
        self._exact: float = float(numbers.initial)
        self._average = 0.0
        self._sum = 0.0
        self._seen = 0

    @property
    def limit(self) -> int:
        return int(self._exact)

    def sample(self, seconds: float, in_flight: int, *, dropped: bool) -> int:
        numbers, exact = self._numbers, self._exact
        if dropped:
            # It would have taken longer than anybody knows: the steepest slope, and nothing for the average.
            slope = _STEEPEST
        else:
            _check(seconds)
            average = self._added(seconds)
            if average / seconds > 2:  # noqa: PLR2004 - twice as fast as on average: it is catching up
                self._average *= 0.95
            if in_flight < exact / 2:
                return self.limit
            slope = max(_STEEPEST, min(1.0, numbers.tolerance * average / seconds))
        wanted = exact * slope + numbers.headroom
        wanted = exact * (1 - numbers.smoothing) + wanted * numbers.smoothing
        self._exact = max(float(numbers.minimum), min(float(numbers.maximum), wanted))
        return self.limit

    def _added(self, seconds: float) -> float:
        if self._seen < _WARM_UP:
            self._seen += 1
            self._sum += seconds
            self._average = self._sum / self._seen
        else:
            weight = 2 / (self._numbers.window + 1)
            self._average = self._average * (1 - weight) + seconds * weight
        return self._average
