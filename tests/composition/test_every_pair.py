"""
Every ordered pair of policies around one callee.

An answer passes as it is, an error by identity or is answered, a cancellation leaves nothing behind, and what was taken
is given back.
"""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from resilience import (
    Bulkhead,
    Chaos,
    CircuitBreaker,
    ConcurrencyLimit,
    ConfigurationError,
    Fallback,
    Hedge,
    LastGood,
    Pipeline,
    PipelineWarning,
    RateLimit,
    Retry,
    RetryBudget,
    SingleFlight,
    Throttle,
    Timeout,
    deadline,
)

_names = itertools.count(1)
ANSWER, STALE = object(), object()

POLICIES: dict[str, Callable[[float], Any]] = {
    "Timeout": lambda length: Timeout(60 - length),
    "Retry": lambda _: Retry(2, on=OSError, wait=lambda _: 0.0, budget=RetryBudget()),
    "CircuitBreaker": lambda _: CircuitBreaker(
        f"pair-{next(_names)}", on=OSError, overdue_after=90
    ),
    "Bulkhead": lambda _: Bulkhead(5, queue=5),
    "RateLimit": lambda _: RateLimit(1000, burst=1000),
    "Hedge": lambda _: Hedge(50, idempotent=True),
    "Fallback": lambda _: Fallback(STALE, on=OSError),
    "LastGood": lambda _: LastGood(60, key="one"),
    "SingleFlight": lambda _: SingleFlight(key="one"),
    "Chaos": lambda _: Chaos(0.0, fault=ValueError),
    "Throttle": lambda _: Throttle(2.0),
    "ConcurrencyLimit": lambda _: ConcurrencyLimit(),
}
ANSWERING = {"Fallback", "LastGood"}


def gauges(policy: Any) -> dict[str, Any]:
    """What is in use, as far as the policy tells."""
    if not hasattr(policy, "snapshot"):
        return {}
    snapshot = policy.snapshot()
    names = ("in_flight", "waiting")
    return {name: getattr(snapshot, name) for name in names if hasattr(snapshot, name)}


def built(*policies: Any) -> Pipeline[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)
        return Pipeline(*policies)


@pytest.mark.parametrize("inner", POLICIES)
@pytest.mark.parametrize("outer", POLICIES)
async def test_a_pair(backend, outer, inner):
    """
    Issue 5, laws 2, 23, 33: outer over inner, for each two.
    """
    one, two = POLICIES[outer](0), POLICIES[inner](1)
    try:
        guarded = built(one, two)
    except ConfigurationError:
        assert outer == inner == "Timeout"
        return
    error = OSError("down")
    calls = 0
    behaviour: list[Any] = [ANSWER]
    held = anyio.Event()

    async def callee() -> Any:
        nonlocal calls
        calls += 1
        await anyio.lowlevel.checkpoint()
        match behaviour[0]:
            case "hang":
                held.set()
                await anyio.sleep_forever()
            case OSError() as failure:
                raise failure
        return behaviour[0]

    async with contextlib.AsyncExitStack() as stack:
        for each in (one, two):
            if isinstance(each, SingleFlight):
                await stack.enter_async_context(each)

        with deadline(90):
            assert ANSWER is await guarded(callee)
        assert 1 == calls

        behaviour[0] = error
        outcome = await guarded.outcome(callee)
        if ANSWERING & {outer, inner}:
            expected = STALE if "Fallback" in {outer, inner} else ANSWER
            # Next to the callee the last good answer comes first, and outside the fallback is a good one.
            if {outer, inner} == ANSWERING and inner == "LastGood":
                expected = ANSWER
            assert expected is outcome.unwrap()
            assert outcome.from_fallback
        else:
            assert error is outcome.error
        assert calls >= 2

        behaviour[0] = "hang"
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(guarded, callee)
                await held.wait()
                scope.cancel()
        assert scope.cancelled_caught

        behaviour[0] = ANSWER
        assert ANSWER is await guarded(callee)
        for each in (one, two):
            assert not any(gauges(each).values()), gauges(each)
