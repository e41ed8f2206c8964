"""
A failing dependency must not make garbage that only the collector finds: it fails when memory is least to spare.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from weakref import ref

import anyio
import anyio.lowlevel
import pytest

from resilience import CircuitBreaker, ConsecutiveFailures, FullJitter, Pipeline, Retry, Timeout
from resilience.testing import Hang, Script

CALLS = 20


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def guard(name: str, unit: float, opens_after: int = 10**6) -> Pipeline:
    return Pipeline(
        Timeout(10 * unit),
        Retry(3, on=OSError, wait=FullJitter(0, 0)),
        CircuitBreaker(name, on=OSError, trip=ConsecutiveFailures(opens_after)),
        Timeout(0.1 * unit),
    )


@pytest.mark.parametrize(
    ("name", "step"),
    [("retried", OSError), ("raised", ValueError), ("cut off", Hang()), ("good", 1)],
)
async def test_a_failing_call_leaves_no_cycle(backend, unit, collector_off, name, step):
    """
    R11, P11: errors are freed with their call; nothing waits for the collector.
    """
    guarded = guard(f"cycles {name}", unit)
    for _ in range(2):  # what the first calls import and cache is not garbage
        with contextlib.suppress(OSError, ValueError):
            await guarded(Script(step))
    gc.collect()
    for _ in range(CALLS):
        with contextlib.suppress(OSError, ValueError):
            await guarded(Script(step))
    # The loop's own leftovers are constant; a cycle per call would show twenty times.
    assert gc.collect() < CALLS


async def test_a_rejection_leaves_no_cycle(backend, unit, collector_off):
    """
    R11: the rejection that an outcome keeps does not hold its call, nor the call the rejection.
    """
    guarded = guard("cycles rejected", unit, opens_after=1)
    await guarded.outcome(Script(OSError))
    gc.collect()
    for _ in range(CALLS):
        await guarded.outcome(Script(OSError))
    assert gc.collect() < CALLS


async def test_a_dropped_breaker_is_gone_at_once(backend, unit, collector_off):
    """
    Law 37: nobody but its users keeps a breaker, and its name is free when they let go.
    """
    breaker = CircuitBreaker("cycles dropped", on=OSError, overdue_after=5 * unit)
    assert 1 == await breaker(Script(1))
    circuit = ref(breaker._core.circuit)
    del breaker
    await anyio.lowlevel.checkpoint()
    assert circuit() is None
