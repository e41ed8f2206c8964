"""
What the differential oracle has found: calls that the express lane ended otherwise than the linked steps.
"""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from resilience import (
    Bulkhead,
    CircuitBreaker,
    RateLimit,
    Retry,
    RetryBudget,
    SlowRate,
    Timeout,
)
from resilience.testing import ManualClock
from tests.doors.kit import pipeline
from tests.doors.lanes import ENGINES, has_lane, wrapped_on


async def test_parameters_may_have_any_name(backend: str) -> None:
    """
    Law 35, trap 8: a keyword argument called ``self`` is the callee's, after a failure as well.
    """
    failure = OSError()

    async def fetch(*, self: int, fn: int, call: int, error: int) -> None:
        raise failure

    with pytest.raises(OSError) as caught:  # noqa: PT011 - this one
        await Retry(attempts=1, on=OSError).wrap(fetch)(self=1, fn=2, call=3, error=4)
    assert failure is caught.value


async def test_a_deadline_that_came_too_late_is_not_the_next_calls(
    backend: str, unit: float
) -> None:
    """
    Laws 32 and 35: a call that was shielded past its deadline has ended; the next one of its task has time of its own.
    """

    async def shielded() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2 * unit)
        return "shielded"

    async def quick() -> str:
        await anyio.sleep(unit / 2)
        return "quick"

    guard = Timeout(unit)
    first, second = guard.wrap(shielded), guard.wrap(quick)
    assert ["shielded", "quick"] == [await first(), await second()]


class BrokenError(RuntimeError):
    """What a clock has to say."""


class Breaking:
    """A clock that breaks at one of its readings."""

    def __init__(self) -> None:
        self.good = 10**9

    def now(self) -> float:
        self.good -= 1
        if self.good < 0:
            self.good = 10**9
            raise BrokenError
        return 0.0


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("kind", ["time", "slow", "tokens", "budget"])
async def test_a_clock_that_breaks_costs_no_place(backend: str, name: str, kind: str) -> None:
    """
    Laws 11 and 35: wherever among its readings a user's clock raises, the call gives back what it held.
    """
    clock = Breaking()
    inner: Any = {
        "time": lambda: CircuitBreaker(f"time {name} {backend}", on=OSError, clock=clock),
        "slow": lambda: CircuitBreaker(
            f"slow {name} {backend}", on=OSError, trip=SlowRate(0.5, 1), clock=clock
        ),
        "tokens": lambda: RateLimit(10**6, per=1, clock=clock),
        "budget": lambda: Retry(2, on=OSError, budget=RetryBudget(clock=clock)),
    }[kind]()
    bulkhead = Bulkhead(1, queue=0)

    async def fetch() -> str:
        return "fetched"

    fetched = wrapped_on(name, pipeline(Timeout(60), bulkhead, inner), fetch)
    broken = 0
    for good in range(6):
        clock.good = good
        try:
            await fetched()
        except BrokenError:
            broken += 1
        clock.good = 10**9
        assert 0 == bulkhead.snapshot().in_flight
        assert "fetched" == await fetched()
    assert broken, "its clock was never read"


async def test_only_a_clock_that_cannot_break_is_read_in_the_lane(backend: str) -> None:
    """
    Law 35: the process's clock, `time.monotonic` and a class that promises it; any other is read by the steps.
    """

    class Steady(Breaking):
        never_raises = True

    async def fetch() -> None: ...

    clocks = None, time.monotonic, ManualClock(), Steady(), Breaking(), lambda: 0.0
    lanes = [
        has_lane(
            wrapped_on(
                "express",
                CircuitBreaker(f"clock {number} {backend}", on=OSError, clock=clock),
                fetch,
            )
        )
        for number, clock in enumerate(clocks)
    ]
    assert [True] * 4 + [False] * 2 == lanes
