"""
Issue 4.1: a name is taken out at once, and whoever asks waits for the calls that were in flight.
"""

from __future__ import annotations

import itertools

import anyio
import pytest

from resilience import Bulkhead, CircuitState, ConsecutiveFailures, Pipeline, Timeout
from resilience.registry import Registry
from resilience.testing import ManualClock, Script, Wait
from tests.composition.support import timed
from tests.laws.breaker.kit import open_up

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    return f"removed-{next(_numbers)}"


GUARDS = {
    "breaker": lambda registry, name: registry.breaker(name, on=OSError),
    "watched breaker": lambda registry, name: registry.breaker(name, on=OSError, overdue_after=999),
    "pipeline": lambda registry, name: registry.pipeline(name, Timeout(999)),
    "family": lambda registry, name: registry.family(name, on=OSError)["key"],
}


@pytest.mark.parametrize("what", GUARDS)
@pytest.mark.parametrize("end", [42, OSError, ValueError], ids=["good", "failed", "other"])
async def test_it_waits_for_calls_in_flight(backend, unit, name, what, end):
    """
    RG-001: the calls that run when the name is removed, however they end, and no others.
    """
    registry = Registry()
    guarded = GUARDS[what](registry, name)
    call = guarded.wrap(Script(Wait(2 * unit, end), Wait(2 * unit, end), Wait(99 * unit)))
    ended, kept = [], []

    async def one() -> None:
        # The error is kept, with its traceback and all the frames in it, as an error tracker would.
        kept.append((await timed(call()))[0])
        ended.append(1)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
        await anyio.sleep(unit)

        async def late() -> None:
            await anyio.sleep(unit / 2)
            assert name not in registry
            group.start_soon(timed, call())

        group.start_soon(late)
        assert await registry.remove(name, timeout=60 * unit)
        assert 2 == len(ended) == len(kept)
        group.cancel_scope.cancel()


async def test_a_cancelled_call_is_not_waited_for(backend, unit, name):
    """
    Law 33: it is gone when it is gone.
    """
    registry = Registry()
    call = registry.breaker(name, on=OSError).wrap(Script(Wait(99 * unit)))
    with anyio.move_on_after(unit / 2):
        await call()

    with anyio.fail_after(30 * unit):
        assert await registry.remove(name)


async def test_the_wait_is_bounded(backend, unit, name):
    """
    RL0-03: at most so long; the answer says whether all have ended.
    """
    registry = Registry()
    call = registry.breaker(name, on=OSError).wrap(Script(Wait(99 * unit)))

    async with anyio.create_task_group() as group:
        group.start_soon(timed, call())
        await anyio.sleep(unit)
        assert not await registry.remove(name, timeout=unit)
        group.cancel_scope.cancel()


async def test_nothing_in_flight_is_at_once(backend, name):
    """
    No wait, and the name is free.
    """
    registry = Registry()
    first = registry.breaker(name, on=OSError)
    assert await registry.remove(name)
    del first
    assert name not in registry
    assert registry.breaker(name, on=ValueError).on is ValueError
    with pytest.raises(KeyError):
        await registry.remove("nobody")


async def test_permits_and_probes_count_as_calls(backend, name):
    """
    Law 8: a permit in somebody's hand is a call in flight, a probe's too.
    """
    clock = ManualClock()
    registry = Registry()
    gate = registry.breaker(
        name, on=OSError, trip=ConsecutiveFailures(1), break_duration=1, clock=clock
    )
    permit = gate.admit()
    assert not await registry.remove(name, timeout=0.05)
    permit.success()
    del permit
    open_up(gate)
    clock.advance(1)
    probe = gate.admit()
    assert CircuitState.HALF_OPEN is gate.state
    running = gate._core.circuit.drain(clock.now())
    assert running()
    assert CircuitState.HALF_OPEN is gate.state
    probe.success()
    assert not running()


async def test_calls_through_a_pipeline_of_ones_own(backend, unit, name):
    """
    A registered breaker in a pipeline that the registry does not know: its calls are known all the same.
    """
    registry = Registry()
    gate = registry.breaker(name, on=OSError)
    call = Pipeline(Timeout(99 * unit), gate, Timeout(50 * unit)).wrap(Script(Wait(3 * unit, 42)))
    done = []

    async def one() -> None:
        done.append(await call())

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await anyio.sleep(unit)
        assert await registry.remove(name, timeout=60 * unit)
        assert [42] == done


async def test_another_policy_is_waited_for_as_well(backend, unit, name):
    """
    A bulkhead knows its calls in flight.
    """
    registry = Registry()
    bulkhead = registry.policy(Bulkhead, name, limit=3)
    assert bulkhead is registry.policy(Bulkhead, name, limit=3)
    place = bulkhead.admit()
    assert not await registry.remove(name, timeout=unit / 10)
    registry.policy(Bulkhead, name, limit=3)
    place.release()
    assert await registry.remove(name)
