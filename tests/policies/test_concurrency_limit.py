"""
ConcurrencyLimit as a policy: who gets in, what is learned of whom, shares, and that all places come back.
"""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import AsyncGenerator

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    AIMD,
    CircuitState,
    ConcurrencyLimit,
    Pipeline,
    ThrottledError,
    Timeout,
    TimeoutExceededError,
    Vegas,
)
from resilience.core.lines import Places, locked
from resilience.events import CallRejected
from resilience.policies import concurrency_limit as module
from resilience.testing import Hang, Recorder, Script, Wait
from resilience.verdicts import Verdict
from tests.composition.support import breaker


@pytest.fixture(params=["plain", "locked"], autouse=True)
def _places(request, monkeypatch):
    """The places with and without a GIL."""
    monkeypatch.setattr(module, "PLACES", Places if request.param == "plain" else locked(Places))


def small(limit=2, **options):
    """A limit of its own that moves by one."""
    numbers = AIMD(initial=limit, minimum=1, maximum=100, timeout=50)
    return ConcurrencyLimit(numbers, **options)


async def running(group, guarded, times, *args, **kwargs):
    """So many calls that hang."""
    for _ in range(times):
        group.start_soon(lambda: guarded(Script(Hang()), *args, **kwargs))
        await anyio.wait_all_tasks_blocked()


async def test_one_more_than_the_limit_is_turned_away(backend):
    """
    As in a bulkhead: rejected at once, and its callee never called.
    """
    limit, script, recorder = small(2), Script(1), Recorder(CallRejected)
    async with anyio.create_task_group() as group:
        await running(group, limit, 2)
        with pytest.raises(ThrottledError) as caught:
            await Pipeline(limit, listeners=[recorder])(script)
        assert (2, 2, 1) == (limit.limit, limit.in_flight, limit.snapshot().rejected)
        group.cancel_scope.cancel()
    assert (0, 0) == (limit.in_flight, script.calls)
    assert ("throttled", None) == (caught.value.reason, caught.value.retry_after)
    assert ["throttled"] == [each.reason for each in recorder]


async def test_it_learns_from_answers_drops_and_deadlines(backend, unit):
    """
    AL-001, AL-007: answers let it grow, what was not answered and what was cut off make it smaller; the place is back.
    """
    limit = small(10)
    async with anyio.create_task_group() as group:
        await running(group, limit, 6)
        assert 1 == await limit(Script(Wait(unit / 20, then=1)))
        assert 11 == limit.limit
        with pytest.raises(KeyError):  # an answer, if not a welcome one
            await limit(Script(Wait(unit / 20, then=KeyError)))
        assert 12 == limit.limit
        with pytest.raises(ConnectionError):
            await limit(Script(ConnectionError))
        assert 10 == limit.limit
        for policies in ((Timeout(unit / 10), limit), (limit, Timeout(unit / 10))):
            with pytest.raises(TimeoutExceededError):
                await Pipeline(*policies)(Script(Hang()))
        assert 8 == limit.limit
        assert 6 == limit.in_flight
        group.cancel_scope.cancel()
    assert 0 == limit.in_flight


async def test_who_leaves_and_what_is_ignored_say_nothing(backend, unit):
    """
    AL-007, law 1: cancelled by the caller, ignored, or rejected inside: no sample, and the place is back.
    """
    limit = small(1, ignore=KeyError)
    with anyio.move_on_after(unit / 10):
        await limit(Script(Hang()))
    with pytest.raises(KeyError):
        await limit(Script(Wait(unit / 20, then=KeyError)))
    inner = small(1)
    async with anyio.create_task_group() as group:
        await running(group, inner, 1)
        with pytest.raises(ThrottledError):
            await Pipeline(limit, inner)(Script(1))
        group.cancel_scope.cancel()
    assert (1, 0) == (limit.limit, limit.in_flight)


async def test_a_clock_that_stands_still_says_nothing(backend, clock):
    """
    Law 20: a call that took no time is no sample, and nothing is raised.
    """
    limit = small(1, clock=clock)
    assert 1 == await limit(Script(1))
    assert 1 == limit.limit


async def test_a_smaller_limit_revokes_nothing_and_a_reset_begins_again(backend):
    """
    AL-011, K8.
    """
    limit = small(4)
    async with anyio.create_task_group() as group:
        await running(group, limit, 3)
        for _ in range(6):
            limit._core.learn(Verdict.FAILURE, 0.0, 3)
        assert (1, 3) == (limit.limit, limit.in_flight)
        with pytest.raises(ThrottledError):
            await limit(Script(1))
        limit.reset()
        assert 4 == limit.limit
        assert 1 == await limit(Script(1))
        group.cancel_scope.cancel()


def by_tenant(call):
    return call.args[0]


async def test_a_partition_has_its_share_and_what_others_leave(backend):
    """
    BH-013: 0.3 and 0.7 of 10: one may use all 10 while the other rests, which still gets its 7.
    """
    limit = small(10, partitions={"batch": 0.3, "live": 0.7}, partition=by_tenant)
    async with anyio.create_task_group() as group:
        await running(group, limit, 10, "batch")
        with pytest.raises(ThrottledError):
            await limit(Script(1), "batch")
        await running(group, limit, 7, "live")
        for name in ("live", "nobody knows"):
            with pytest.raises(ThrottledError):
                await limit(Script(1), name)
        told = limit.snapshot()
        assert (17, {"batch": (3, 10), "live": (7, 7)}) == (told.in_flight, dict(told.partitions))
        group.cancel_scope.cancel()
    assert {"batch": (3, 0), "live": (7, 0)} == dict(limit.snapshot().partitions)
    assert 0 == limit.in_flight


async def test_shares_follow_the_limit(backend):
    """
    AL-011, BH-013: rounded up, at least one.
    """
    limit = small(10, partitions={"a": 0.05, "b": 0.5}, partition=by_tenant)
    assert {"a": (1, 0), "b": (5, 0)} == dict(limit.snapshot().partitions)
    limit._core._set(3)
    assert {"a": (1, 0), "b": (2, 0)} == dict(limit.snapshot().partitions)


async def test_who_may_bypass_it_is_let_in_and_counts(backend, clock):
    """
    BH-014.
    """
    # On a clock that stands still nothing is learned.
    limit = small(
        1,
        bypass=lambda call: call.args[0] == "critical",
        partitions={"x": 1.0},
        partition=by_tenant,
        clock=clock,
    )
    async with anyio.create_task_group() as group:
        await running(group, limit, 3, "critical")
        assert 3 == limit.in_flight
        await running(group, limit, 1, "x")
        with pytest.raises(ThrottledError):
            await limit(Script(1), "x")
        group.cancel_scope.cancel()
    options = {"partitions": {"x": 1.0}, "partition": by_tenant, "clock": clock}
    whole = small(1, bypass=lambda _: True, **options)
    assert 1 == await whole(Script(1), "x")
    assert (0, {"x": (1, 0)}) == (whole.in_flight, dict(whole.snapshot().partitions))


async def test_functions_that_raise_change_nothing(backend, unit, caplog):
    """
    Law 6: the call goes on; logged once for each.
    """

    def raises(_):
        raise KeyError

    limit = ConcurrencyLimit(
        Vegas(initial=5, decrease=raises),
        partitions={"x": 0.5},
        partition=raises,
        bypass=raises,
    )
    with caplog.at_level(logging.ERROR, "resilience"):
        for _ in range(2):
            assert 1 == await limit(Script(Wait(unit / 20, then=1)))
            with pytest.raises(ConnectionError):
                await limit(Script(ConnectionError))
    assert 3 == len(caplog.records)
    assert (5, 0) == (limit.limit, limit.in_flight)


async def rows(error=None) -> AsyncGenerator[int, None]:
    yield 1
    await anyio.lowlevel.checkpoint()
    if error is not None:
        raise error


async def test_a_stream_that_is_held_gives_its_place_back_at_its_end(backend):
    """
    `hold=True`: how long it took is its consumer's doing; only that it was dropped says something.
    """
    limit = small(10)
    async with limit.stream(rows, hold=True)() as items:
        assert 1 == limit.in_flight
        assert [1] == [item async for item in items]
    assert (10, 0) == (limit.limit, limit.in_flight)
    async with limit.stream(rows, hold=True)(ConnectionError()) as items:
        with pytest.raises(ConnectionError):
            assert [1] == [item async for item in items]
    assert (9, 0) == (limit.limit, limit.in_flight)


async def test_a_breaker_outside_does_not_count_a_rejection(backend):
    """
    Law 4.
    """
    gate, limit = breaker(1), small(1)
    async with anyio.create_task_group() as group:
        await running(group, limit, 1)
        with pytest.raises(ThrottledError):
            await Pipeline(gate, limit, Timeout(50))(Script(1))
        group.cancel_scope.cancel()
    assert (CircuitState.CLOSED, 0) == (gate.state, gate.snapshot().totals.failures)


@pytest.mark.parametrize("split", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_refuses_to_be_split(split):
    """
    Law 37.
    """
    with pytest.raises(TypeError, match="a ConcurrencyLimit holds the state of this process"):
        split(ConcurrencyLimit())


def test_it_is_shown_as_it_is_written():
    """
    `repr` prints what one would type.
    """
    assert "ConcurrencyLimit(AIMD(" in repr(small(3))
    assert "initial=3" in repr(small(3))
