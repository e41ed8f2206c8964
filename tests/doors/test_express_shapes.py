"""
Which guards have a lane: those whose policies can let a success pass with nothing to decide, and no others.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import tenacity

from resilience import (
    Bulkhead,
    Chaos,
    CircuitBreaker,
    ConcurrencyLimit,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    Fallback,
    Hedge,
    LastGood,
    Pipeline,
    RateLimit,
    Retry,
    RetryBudget,
    SingleFlight,
    SlowRate,
    Throttle,
    Timeout,
    TimeWindow,
)
from resilience.events import AttemptFinished, CallFinished, Event, RetryScheduled
from resilience.registry import Registry
from resilience.testing import engine
from tests.doors.kit import pipeline, plain_breaker
from tests.doors.lanes import has_lane, idle, quick_retry, unwrapped, wrapped_on

_numbers = itertools.count(1)


def named(**options: Any) -> CircuitBreaker:
    return CircuitBreaker(f"shape-{next(_numbers)}", on=OSError, **options)


class Hears:
    """A listener for these events."""

    def __init__(self, *kinds: type[Event]) -> None:
        self.listens_to = kinds

    def __call__(self, event: Event) -> None:
        """Nothing."""


def canonical() -> Pipeline:
    return Pipeline(Timeout(20), quick_retry(), plain_breaker(), Bulkhead(9), Timeout(5))


LANES: dict[str, Any] = {
    "nothing": Pipeline,
    "Timeout": lambda: Timeout(5),
    "two deadlines": lambda: pipeline(Timeout(9), Timeout(5)),
    "three deadlines": lambda: pipeline(Timeout(9), Timeout(7), quick_retry(), Timeout(5)),
    "Retry": quick_retry,
    "Retry with strategies": lambda: Retry(on=OSError, wait=tenacity.wait_none(), stop=tenacity.stop_never),
    "Retry by a predicate": lambda: Retry(3, on=lambda error: True),
    "Retry by a strategy of errors": lambda: Retry(3, on=tenacity.retry_if_exception_type(OSError)),
    "Retry with a budget": lambda: quick_retry(budget=RetryBudget()),
    "CircuitBreaker": named,
    "CircuitBreaker, consecutive failures": lambda: named(trip=ConsecutiveFailures(2)),
    "CircuitBreaker, count window": lambda: named(trip=FailureRate(0.5, CountWindow(10), 2)),
    "CircuitBreaker, time window": lambda: named(trip=FailureRate(0.5, TimeWindow(10), 2)),
    "CircuitBreaker that judges results": lambda: named(on_result=lambda result: False),
    "CircuitBreaker that watches": lambda: named(overdue_after=9),
    "CircuitBreaker for slow calls": lambda: named(trip=SlowRate(0.5, 3, CountWindow(10), 2)),
    "Bulkhead": lambda: Bulkhead(9),
    "Bulkhead with a line": lambda: Bulkhead(9, queue=9, max_wait=1),
    "Bulkhead with a weight": lambda: Bulkhead(9, weight=3),
    "RateLimit": lambda: RateLimit(9),
    "RateLimit with a line": lambda: RateLimit(9, max_wait=5),
    "RateLimit with a weight": lambda: RateLimit(9, weight=3),
    "Throttle": Throttle,
    "Throttle with a priority": lambda: Throttle(priority=2),
    "ConcurrencyLimit": ConcurrencyLimit,
    "breaker, retry, timeout": lambda: Pipeline(quick_retry(), plain_breaker(), Timeout(5)),
    "the canonical five": canonical,
    "every role": lambda: pipeline(
        Timeout(9), quick_retry(), quick_retry(budget=RetryBudget()), named(), plain_breaker(),
        Bulkhead(9), RateLimit(9), Throttle(), ConcurrencyLimit(), Timeout(5),
    ),
    "in an unusual order": lambda: pipeline(Bulkhead(9), plain_breaker(), Timeout(5), quick_retry()),
    "a key": lambda: pipeline(Timeout(5), key="k"),
    "a name and a listener": lambda: pipeline(Timeout(5), name="n", listeners=Hears(RetryScheduled)),
    "unnamed inside": lambda: pipeline(Timeout(9), pipeline(quick_retry(), Timeout(5))),
}  # fmt: skip
"""Guards whose plain successes run in one frame."""

NO_LANES: dict[str, Any] = {
    "Timeout by a function": lambda: Timeout(lambda call: 5.0),
    "Retry that judges results": lambda: quick_retry(on_result=lambda result: False),
    "Retry by a strategy of results": lambda: Retry(3, on=tenacity.retry_if_result(lambda result: False)),
    "Bulkhead with a weight function": lambda: Bulkhead(9, weight=lambda call: 1),
    "RateLimit with a weight function": lambda: RateLimit(9, weight=lambda call: 1),
    "Throttle with a priority function": lambda: Throttle(priority=lambda call: 1),
    "Throttle that judges results": lambda: Throttle(on_result=lambda result: False),
    "ConcurrencyLimit with parts": lambda: ConcurrencyLimit(
        partitions={"a": 0.5, "b": 0.5}, partition=lambda call: "a"
    ),
    "ConcurrencyLimit with a way around": lambda: ConcurrencyLimit(bypass=lambda call: False),
    "Fallback": lambda: Fallback(None, on=OSError),
    "Hedge": lambda: Hedge(0.1, idempotent=True),
    "SingleFlight": lambda: SingleFlight(key="k"),
    "LastGood": lambda: LastGood(5, key="k"),
    "Chaos": lambda: Chaos(0, fault=OSError),
    "one of them among others": lambda: pipeline(Timeout(9), Fallback(None, on=OSError), Timeout(5)),
    "one of them innermost": lambda: pipeline(Timeout(9), Chaos(0, fault=OSError)),
    "a switch": lambda: pipeline(Timeout(5), enabled=lambda: True),
    "switched off": lambda: pipeline(Timeout(5), enabled=False),
    "a listener for calls": lambda: pipeline(Timeout(5), listeners=Hears(CallFinished)),
    "a listener for attempts": lambda: pipeline(Timeout(5), listeners=Hears(AttemptFinished)),
    "named inside": lambda: pipeline(Timeout(9), pipeline(Timeout(5), name="inner")),
    "alone in a named one": lambda: pipeline(pipeline(Timeout(5), name="inner")),
    "a live pipeline": lambda: Registry().pipeline(f"live-{next(_numbers)}", Timeout(5)),
}  # fmt: skip
"""Guards that run their linked steps from the start."""


@pytest.mark.parametrize("door", ["wrap", "call"])
@pytest.mark.parametrize(
    ("make", "expected"),
    [*((make, True) for make in LANES.values()), *((make, False) for make in NO_LANES.values())],
    ids=[*LANES, *NO_LANES],
)
def test_a_lane_exactly_where_it_is_promised(door, make, expected):
    """
    Issue 7.1: the usual policies in any order have a lane; where something has to be decided on each call, none.
    """
    with engine("express"):
        guard = make()
        made = guard.wrap(idle) if door == "wrap" else unwrapped(guard)
    assert (has_lane(made) if made.__closure__ else False) is expected


@pytest.mark.parametrize("make", LANES.values(), ids=LANES)
def test_no_lane_on_the_linked_engine(make):
    """
    Issue 7.3: `resilience.testing.engine` says which it is, when a function is wrapped or first called.
    """
    with engine("linked"):
        guard = make()
        wrapped, called = guard.wrap(idle), unwrapped(guard)
    assert not has_lane(wrapped)
    assert called.__closure__ is None
    # What has been decided stays.
    with engine("express"):
        assert called is unwrapped(guard)
        assert has_lane(guard.wrap(idle))


@pytest.mark.parametrize("make", NO_LANES.values(), ids=NO_LANES)
async def test_what_has_no_lane_runs_all_the_same(backend, make):
    """
    Issue 7.1: wrapped for the express engine, a guard without a lane is the linked one.
    """
    guard = make()
    if backend == "trio" and isinstance(guard, SingleFlight):
        pytest.skip("on trio a SingleFlight is entered first; its own tests do")
    wrapped = wrapped_on("express", guard, idle)
    assert await wrapped() is None
    assert await guard(idle) is None
