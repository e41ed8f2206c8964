"""
RateLimit as a policy: how many at once, when the next one, in which order, and what a cancellation leaves.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    CircuitState,
    ConfigurationError,
    Pipeline,
    RateLimit,
    RateLimitedError,
    Retry,
    Timeout,
)
from resilience.call import Call
from resilience.clock import loop_time
from resilience.core.buckets import Bucket
from resilience.core.lines import locked
from resilience.events import CallQueued, CallRejected, listen
from resilience.policies import rate_limit as module
from resilience.testing import Hang, Recorder, Script, disabled
from tests.composition.support import about, breaker, timed


def roughly(seconds, backend):
    """A wait for tokens that also came in while a real machine did something else: there, less or more."""
    return pytest.approx(seconds, abs=2.0 if backend == "uvloop" else 1e-5)


@pytest.fixture(params=["plain", "locked"], autouse=True)
def _bucket(request, monkeypatch):
    """The bucket with and without a GIL."""
    kind = Bucket if request.param == "plain" else locked(Bucket)
    monkeypatch.setattr(module, "BUCKET", kind)


async def test_so_many_at_once_and_one_more_is_turned_away(backend, clock):
    """
    RL-001, RL-010: five at once, the sixth is rejected; `retry_after` is exact, and nothing was reserved for it.
    """
    limit = RateLimit(5, per=2, clock=clock)
    script = Script(1)
    for _ in range(5):
        await limit(script)
    for _ in range(3):
        with pytest.raises(RateLimitedError) as caught:
            await limit(script)
        assert pytest.approx(0.4) == caught.value.retry_after
    assert "RateLimit(5, per=2.0, clock=" in caught.value.policy
    assert "rate_limited" == caught.value.reason
    assert 5 == script.calls

    clock.advance(0.39)
    with pytest.raises(RateLimitedError):
        await limit(script)
    clock.advance(caught.value.retry_after - 0.39)
    assert 1 == await limit(script)
    with pytest.raises(RateLimitedError):
        await limit(script)


async def test_rest_is_not_saved_up(backend, clock):
    """
    RL-002, RL-009, L2: after a long time of rest there is one burst and no more.
    """
    limit = RateLimit(10, burst=3, clock=clock)
    clock.advance(3600)
    for _ in range(3):
        limit.admit()
    with pytest.raises(RateLimitedError):
        limit.admit()
    clock.advance(0.1)
    limit.admit()


async def test_spaced_out(backend, unit):
    """
    GCRA: with a burst of one, calls start evenly, in order.
    """
    limit = RateLimit(4, per=unit, burst=1, max_wait=10 * unit)
    starts = []

    async def work(number):
        starts.append((number, loop_time()))

    began = loop_time()
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(limit, work, number)
            await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
    assert list(range(5)) == [number for number, _ in starts]
    for number, at in starts:
        assert about(number * unit / 4, backend) == at - began
    assert 0 == limit.waiting


async def test_who_would_wait_too_long_is_turned_away_at_once(backend, clock):
    """
    Its turn is known when it comes: no wait for nothing, and nothing reserved.
    """
    limit = RateLimit(1, per=10, max_wait=20, clock=clock)
    limit.admit()
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(limit.acquire)
            await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            with pytest.raises(RateLimitedError) as caught:
                await limit(Script(1))
            # when it would be served without a wait, if nobody else came
            assert pytest.approx(30) == caught.value.retry_after
        assert (2, 2) == (limit.waiting, limit.snapshot().rejected)
        clock.advance(10)
        group.start_soon(limit.acquire)
        await anyio.wait_all_tasks_blocked()
        assert 2 == limit.waiting
        group.cancel_scope.cancel()
    assert 0 == limit.waiting


async def test_a_turn_after_the_deadline_is_refused_at_once(backend, unit):
    """
    Law 24, issue 5: a place in the queue whose deadline cannot be met is refused without a wait.
    """
    limit = RateLimit(1, per=2 * unit, max_wait=50 * unit)
    limit.admit()
    guarded = Pipeline(Timeout(60 * unit), Retry(1, on=OSError), limit)
    hasty = Pipeline(Timeout(lambda _: unit), limit)
    error, seconds = await timed(hasty(Script(1)))
    assert isinstance(error, RateLimitedError)
    assert about(0.0, backend) == seconds
    answer, seconds = await timed(guarded(Script(7)))
    assert (7, roughly(2 * unit, backend)) == (answer, seconds)

    late = Call()
    late.entered, late.until = 0, -1e9
    with pytest.raises(RateLimitedError):
        await limit._linked()(late)


async def test_a_small_call_does_not_overtake_a_large_one(backend, unit):
    """
    RL-013, L6: first come, first served, by weight.
    """
    limit = RateLimit(10, per=unit, burst=10, max_wait=10 * unit, weight=lambda call: call.args[0])
    order = []

    async def work(weight):
        order.append((weight, loop_time()))

    began = loop_time()
    async with anyio.create_task_group() as group:
        for weight in (6, 8, 1):
            group.start_soon(limit, work, weight)
            await anyio.wait_all_tasks_blocked()
        assert 2 == limit.waiting
    assert [6, 8, 1] == [weight for weight, _ in order]
    assert about(0.4 * unit, backend) == order[1][1] - began
    assert about(0.5 * unit, backend) == order[2][1] - began


async def test_more_than_the_bucket_holds_takes_as_long_as_it_takes(backend, unit):
    """
    RL-003: it waits for what is missing to a full bucket; where it may not wait so long, it never gets in.
    """
    limit = RateLimit(2, per=unit, burst=2, max_wait=2 * unit)
    _, seconds = await timed(limit.acquire(5))
    assert roughly(1.5 * unit, backend) == seconds
    with pytest.raises(RateLimitedError) as caught:
        await limit.acquire(7)
    assert caught.value.retry_after is None
    with pytest.raises(RateLimitedError) as caught:
        await limit.acquire(6)
    assert roughly(unit, backend) == caught.value.retry_after
    await anyio.sleep(caught.value.retry_after)
    _, seconds = await timed(limit.acquire(6))
    assert roughly(2 * unit, backend) == seconds


@pytest.mark.parametrize("who", ["first", "middle", "last"])
async def test_who_leaves_the_queue_reserves_nothing(backend, unit, who):
    """
    RL-005, L5: those behind it move up, wherever it stood.
    """
    limit = RateLimit(1, per=unit, burst=1, max_wait=50 * unit)
    await limit.acquire()
    leaving = ["first", "middle", "last"].index(who)
    served = []
    scopes = [anyio.CancelScope() for _ in range(3)]
    began = loop_time()

    async def call(number):
        with scopes[number]:
            await limit.acquire()
            served.append((number, loop_time() - began))

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(call, number)
            await anyio.wait_all_tasks_blocked()
        await anyio.sleep(unit / 4)
        scopes[leaving].cancel()
    others = [number for number in range(3) if number != leaving]
    assert others == [number for number, _ in served]
    assert roughly(unit, backend) == served[0][1]
    assert roughly(2 * unit, backend) == served[1][1]
    assert roughly(unit, backend) == limit.retry_after


async def test_who_is_cancelled_in_the_moment_of_its_turn_has_spent_nothing(backend, clock):
    """
    RL-005, H4: what was handed over goes to the next. On trio who has been woken is not cancelled in that wait.
    """
    limit = RateLimit(1, burst=1, max_wait=50, clock=clock)
    limit.admit()
    served, tasks = [], []

    async def call(name):
        if backend != "trio":
            tasks.append(asyncio.current_task())
        try:
            await limit.acquire()
        except asyncio.CancelledError:
            tasks[0].uncancel()
        else:
            served.append(name)

    async with anyio.create_task_group() as group:
        for name in ("first", "second"):
            group.start_soon(call, name)
            await anyio.wait_all_tasks_blocked()
        clock.advance(1.0)
        limit._core.bucket.advance(clock.now())
        for task in tasks[:1]:
            task.cancel()
        await anyio.wait_all_tasks_blocked()
        assert (["first"] if backend == "trio" else ["second"]) == served
        group.cancel_scope.cancel()


async def test_drained(backend, clock):
    """
    RL-007: empty now, filling at its rate; draining what is empty changes nothing.
    """
    limit = RateLimit(2, clock=clock)
    assert 2.0 == limit.available
    limit.drain()
    assert 0.0 == limit.available
    clock.advance(0.25)
    limit.drain()
    assert pytest.approx(0.5) == limit.retry_after
    clock.advance(0.5)
    limit.admit()


async def test_a_drain_turns_away_who_can_no_longer_be_served(backend, unit):
    """
    RL-007: a turn that moved beyond what the caller can wait for is refused then, not at its end.
    """
    limit = RateLimit(4, per=4 * unit, max_wait=unit)
    for _ in range(4):
        limit.admit()
    await anyio.sleep(unit / 2)
    answers = []

    async def call():
        answers.append(await timed(limit.acquire()))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        assert 1 == limit.waiting
        limit.change(rate=0.01)
    error, seconds = answers[0]
    assert isinstance(error, RateLimitedError)
    assert about(0.0, backend) == seconds


async def test_another_rate_for_who_waits(backend, unit):
    """
    RL-006, law 38: the change is one step; who waits gets its turn at the new rate, and the wrapped function obeys.
    """
    limit = RateLimit(1, per=10 * unit, burst=1, max_wait=100 * unit)
    guarded = limit.wrap(Script(1))
    await guarded()
    served = []
    began = loop_time()

    async def call():
        await guarded()
        served.append(loop_time() - began)

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
        limit.change(per=unit, burst=1)
        assert RateLimit(1, per=unit, burst=1, max_wait=100 * unit).__repr__() == repr(limit)
    assert roughly(unit, backend) == served[0]
    assert roughly(2 * unit, backend) == served[1]


@pytest.mark.parametrize(
    ("given", "field"),
    [({"rate": 0}, "rate"), ({"per": -1}, "per"), ({"burst": 0}, "burst"), ({"max_wait": -1}, "max_wait"),
     ({"rate": 5, "per": 1e-12}, "per")],
)  # fmt: skip
def test_a_change_is_checked_like_a_new_one(given, field):
    """
    Law 21: and nothing changes where it is refused.
    """
    limit = RateLimit(2, max_wait=1)
    with pytest.raises(ConfigurationError, match=f"RateLimit.{field} must be"):
        limit.change(**given)
    assert (2, 1.0, 1.0) == (limit.rate, limit.per, limit.max_wait)


def test_more_than_a_clock_can_tell_apart_is_refused():
    """
    Law 21: rate and period together.
    """
    with pytest.raises(ConfigurationError, match=r"RateLimit\.per must be long enough"):
        RateLimit(1e9, per=1e-3)


async def test_a_function_says_what_a_call_costs(backend, clock, caplog):
    """
    Weights by call; one that raises costs 1 and is logged once (law 6).
    """
    limit = RateLimit(10, weight=lambda call: call.kwargs["tokens"], clock=clock)
    script = Script(1)
    await limit(script, tokens=7)
    assert pytest.approx(3.0) == limit.available
    with pytest.raises(RateLimitedError) as caught:
        await limit(script, tokens=5)
    assert pytest.approx(0.2) == caught.value.retry_after
    with caplog.at_level(logging.ERROR, "resilience"):
        await limit(script)
    assert pytest.approx(2.0) == limit.available
    assert "RateLimit.weight" in caplog.text
    fixed = RateLimit(10, weight=6, clock=clock)
    await fixed(script)
    with pytest.raises(RateLimitedError):
        await fixed(script)


# ------------------------------------------------------------------------ around it


async def test_a_retry_foresees_the_rejection(backend, unit):
    """
    Law 25: where the next attempt would be rejected, nobody sleeps for it; the attempt's own error is raised.
    """
    limit = RateLimit(1, per=100 * unit)
    guarded = Pipeline(Retry(3, on=OSError, wait=lambda _: unit), limit)
    script = Script(OSError("its own"))
    outcome, seconds = await timed(guarded.outcome(script))
    assert "its own" in str(outcome.error)
    assert isinstance(outcome.rejection, RateLimitedError)
    assert about(0.0, backend) == seconds
    assert 1 == script.calls


async def test_a_retry_goes_on_where_its_turn_comes_in_time(backend, unit):
    """
    Law 25: the next attempt would be let in, at once or to wait.
    """
    for limit in (RateLimit(1, per=unit / 2), RateLimit(1, per=3 * unit, max_wait=3 * unit)):
        script = Script(OSError, 42)
        assert 42 == await Pipeline(Retry(2, on=OSError, wait=lambda _: unit), limit)(script)


async def test_a_retry_that_names_it_comes_back_when_told(backend, unit):
    """
    Law 25: `retry_after` is the floor of the wait, and enough.
    """
    limit = RateLimit(1, per=3 * unit)
    limit.admit()
    guarded = Pipeline(Retry(2, on=RateLimitedError, wait=lambda _: 0.0), limit)
    answer, seconds = await timed(guarded(Script(42)))
    assert (42, roughly(3 * unit, backend)) == (answer, seconds)


async def test_a_breaker_outside_does_not_count_a_rejection(backend):
    """
    Law 4: the dependency was never asked.
    """
    gate, limit = breaker(1), RateLimit(1, per=100)
    limit.admit()
    with pytest.raises(RateLimitedError):
        await Pipeline(gate, limit, Timeout(50))(Script(1))
    assert (CircuitState.CLOSED, 0) == (gate.state, gate.snapshot().totals.failures)


async def test_what_is_spent_is_spent(backend, clock, unit):
    """
    A token is for the start of a call: its end, however it comes, gives none back.
    """
    limit = RateLimit(5, per=100, clock=clock)
    with pytest.raises(OSError, match="step"):
        await limit(Script(OSError))
    with anyio.move_on_after(unit / 10):
        await limit(Script(Hang()))
    assert pytest.approx(3.0) == limit.available


async def test_what_is_told(backend, unit):
    """
    Events: a rejection with its reason and `retry_after`, a wait with its length.
    """
    recorder = Recorder(CallRejected, CallQueued)
    limit = RateLimit(1, per=unit, max_wait=unit, name="api")
    guarded = Pipeline(limit, name="orders", listeners=[recorder])
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(guarded, Script("secret"))
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(RateLimitedError):
            await guarded(Script("secret"))

    assert ["CallRejected", "CallQueued"] == recorder.kinds
    assert {("api", "orders")} == {(each.policy, each.pipeline) for each in recorder}
    rejected, queued = recorder.events
    assert "rate_limited" == rejected.reason
    assert roughly(2 * unit, backend) == rejected.retry_after
    assert queued.admitted
    assert roughly(unit, backend) == queued.waited


def test_by_hand_the_process_hears_of_it(clock):
    """
    Events: where there is no pipeline, whoever listens to all of it.
    """
    recorder = Recorder(CallRejected)
    limit = RateLimit(1, clock=clock, name="api")
    limit.admit()
    with listen(recorder), pytest.raises(RateLimitedError):
        limit.admit()
    assert ["api"] == [each.policy for each in recorder]
    with pytest.raises(ConfigurationError, match=r"RateLimit\.admit\.weight"):
        limit.admit(0)


async def test_switched_off_it_is_the_bare_call(backend, clock):
    """
    The kit's switch.
    """
    limit = RateLimit(1, clock=clock)
    with disabled():
        for _ in range(3):
            assert 1 == await limit(Script(1))


@pytest.mark.parametrize("split", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_refuses_to_be_split(split):
    """
    Law 37.
    """
    with pytest.raises(TypeError, match="a RateLimit holds the state of this process"):
        split(RateLimit(1))


def test_at_one_instant(clock):
    """
    A snapshot is frozen, and reading takes nothing.
    """
    limit = RateLimit(0.5, clock=clock, name="slow")
    limit.admit()
    told = limit.snapshot()
    assert ("slow", 0.5, 1.0, 1, 0.0, 0, 0, 2.0) == (
        told.name, told.rate, told.per, told.burst, told.available, told.waiting, told.rejected,
        told.retry_after,
    )  # fmt: skip
    clock.advance(1.0)
    assert pytest.approx(0.5) == limit.available
    assert pytest.approx(1.0) == limit.retry_after == limit.snapshot().retry_after


def test_eight_threads_spend_no_token_twice(clock):
    """
    H38, L1: exactly the burst, of thousands that race; the clock stands still.
    """
    limit = RateLimit(500, clock=clock)
    granted, lock = 0, threading.Lock()

    def work():
        nonlocal granted
        mine = 0
        for _ in range(300):
            try:
                limit.admit()
                mine += 1
            except RateLimitedError:
                pass
        with lock:
            granted += mine

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert 500 == granted
    assert 8 * 300 - 500 == limit.snapshot().rejected


async def test_who_would_wait_in_vain_by_hand_is_turned_away(backend, clock):
    """
    RL-001: without a wait there is no line to stand in, awaited or not.
    """
    limit = RateLimit(1, per=60, clock=clock)
    await limit.acquire()
    with pytest.raises(RateLimitedError) as caught:
        await limit.acquire()

    assert 60 == caught.value.retry_after
    assert 1 == limit.snapshot().rejected
