"""
Bulkhead as a policy: who gets in, who waits, who is turned away, and that everything is given back.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import logging
import pickle
import threading
import warnings
from collections.abc import AsyncGenerator

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    Bulkhead,
    BulkheadFullError,
    CircuitState,
    ConfigurationError,
    Pipeline,
    ResilienceWarning,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.call import Call
from resilience.core.lines import Places, locked
from resilience.events import CallQueued, CallRejected, listen
from resilience.policies import bulkhead as module
from resilience.policies._nested import guards_around
from resilience.testing import Hang, Recorder, Script, Wait, disabled
from tests.composition.support import about, breaker, timed


@pytest.fixture(params=["plain", "locked"], autouse=True)
def _places(request, monkeypatch):
    """The places with and without a GIL."""
    kind = Places if request.param == "plain" else locked(Places)
    monkeypatch.setattr(module, "PLACES", kind)


async def occupied(group, guarded, times=1, seconds=1.0):
    """Fill so many places, one after the other."""
    for _ in range(times):
        group.start_soon(guarded, Script(Wait(seconds)))
        await anyio.wait_all_tasks_blocked()


async def test_one_more_than_the_limit_is_turned_away(backend, unit):
    """
    BH-001, K1, K9: the third of two is rejected at once, and its callee is never called.
    """
    bulkhead = Bulkhead(2)
    script = Script(1)
    async with anyio.create_task_group() as group:
        await occupied(group, bulkhead, 2, unit)
        with pytest.raises(BulkheadFullError) as caught:
            await bulkhead(script)
        assert 2 == bulkhead.in_flight

    assert 0 == script.calls
    assert ("Bulkhead(2)", None, "bulkhead_full") == (
        caught.value.policy,
        caught.value.retry_after,
        caught.value.reason,
    )
    assert "Bulkhead(2) is full" == str(caught.value)
    assert 1 == await bulkhead(script)


async def test_so_many_wait_in_order_and_one_more_is_turned_away(backend, unit):
    """
    BH-002, BH-003, K2, K5: with a limit of 2 and a queue of 2 the fifth is rejected; the others start in order.
    """
    bulkhead = Bulkhead(2, queue=2)
    order = []

    async def work(number):
        order.append(number)
        await anyio.sleep(unit * (1 + number / 4))  # trio runs what is woken at once in any order

    seen = []
    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(bulkhead, work, number)
            await anyio.wait_all_tasks_blocked()
            told = bulkhead.snapshot()
            seen.append((told.in_flight, told.available, told.waiting))
        with pytest.raises(BulkheadFullError):
            await bulkhead(work, 4)

    assert [(1, 1, 0), (2, 0, 0), (2, 0, 1), (2, 0, 2)] == seen
    assert [0, 1, 2, 3] == order
    assert (0, 2, 0, 1) == (
        bulkhead.in_flight,
        bulkhead.available,
        bulkhead.waiting,
        bulkhead.snapshot().rejected,
    )


async def test_thousands_wait_in_order(backend):
    """
    Issue 5, K5: whoever joined first starts first, those who left in the middle forgotten.
    """
    number = 2000
    joined, started = [], []

    def weight(call):
        joined.append(call.args[0])
        return 1

    async def work(who):
        started.append(who)

    bulkhead = Bulkhead(1, queue=number, weight=weight)
    async with anyio.create_task_group() as group:
        with bulkhead.admit():
            for who in range(number // 4):
                group.start_soon(bulkhead, work, who)
            async with anyio.create_task_group() as leaving:
                for who in range(number // 4, number // 2):
                    leaving.start_soon(bulkhead, work, who)
                for who in range(number // 2, number):
                    group.start_soon(bulkhead, work, who)
                while bulkhead.waiting < number:
                    await anyio.lowlevel.checkpoint()
                leaving.cancel_scope.cancel()
            assert number - number // 4 == bulkhead.waiting
    gone = set(range(number // 4, number // 2))
    assert [who for who in joined if who not in gone] == started
    assert 0 == bulkhead.in_flight


async def test_a_limit_of_none_turns_everyone_away(backend):
    """
    BH-007: max 0 always rejects, with a queue as well.
    """
    for bulkhead in (Bulkhead(0), Bulkhead(0, queue=5)):
        with pytest.raises(BulkheadFullError):
            await bulkhead(Script(1))


ENDS = {"returns": 42, "raises": OSError, "raises no exception": SystemExit, "hangs": Hang()}


@pytest.mark.parametrize("end", ENDS)
async def test_the_place_is_given_back_however_the_call_ends(backend, unit, end):
    """
    BH-005, law 33: success, error, no exception at all, our deadline; and the caller's cancellation.
    """
    bulkhead = Bulkhead(1)
    guarded = Pipeline(Timeout(unit), bulkhead)

    with contextlib.suppress(OSError, SystemExit):
        await guarded(Script(ENDS[end]))
    assert 0 == bulkhead.in_flight

    with anyio.move_on_after(unit / 2):
        await guarded(Script(Hang()))
    assert 0 == bulkhead.in_flight


async def test_max_wait_ends_a_wait(backend, unit):
    """
    `max_wait` over: rejected, after that long and not earlier.
    """
    bulkhead = Bulkhead(1, queue=5, max_wait=unit)
    async with anyio.create_task_group() as group:
        await occupied(group, bulkhead, 1, 5 * unit)
        error, seconds = await timed(bulkhead(Script(1)))
        assert isinstance(error, BulkheadFullError)
        assert about(unit, backend) == seconds
        assert 0 == bulkhead.waiting
        group.cancel_scope.cancel()


async def test_no_time_to_wait_is_refused_at_once(backend, unit):
    """
    Issue 5: a place in the queue whose deadline cannot be met is refused without a wait.
    """
    hasty = Bulkhead(1, queue=5, max_wait=0)
    async with anyio.create_task_group() as group:
        await occupied(group, hasty, 1, unit)
        error, seconds = await timed(hasty(Script(1)))
        assert isinstance(error, BulkheadFullError)
        assert about(0.0, backend) == seconds
        group.cancel_scope.cancel()

    late = Bulkhead(1, queue=5)
    call = Call()
    call.entered, call.until = 0, -1e9  # a deadline that has passed
    async with anyio.create_task_group() as group:
        await occupied(group, late, 1, unit)
        with pytest.raises(BulkheadFullError):
            await late._linked()(call)
        assert 0 == late.waiting
        group.cancel_scope.cancel()


async def test_a_deadline_cuts_a_wait(backend, unit):
    """
    Inside a timeout the wait in the queue counts; nothing is left in the queue, and the callee never ran.
    """
    bulkhead = Bulkhead(1, queue=5)
    guarded = Pipeline(Timeout(unit), bulkhead)
    script = Script(1)
    async with anyio.create_task_group() as group:
        await occupied(group, bulkhead, 1, 5 * unit)
        with pytest.raises(TimeoutExceededError):
            await guarded(script)
        assert (1, 0, 0) == (bulkhead.in_flight, bulkhead.waiting, script.calls)
        group.cancel_scope.cancel()


async def test_a_large_call_is_not_overtaken(backend, unit):
    """
    K5, RL-013: weights are places; a small call that comes later waits behind a large one.
    """
    bulkhead = Bulkhead(3, queue=5, weight=lambda call: call.args[0])
    order = []

    async def work(weight, name):
        order.append(name)
        await anyio.sleep(unit)

    async with anyio.create_task_group() as group:
        for weight, name in ((2, "first"), (3, "large"), (1, "small")):
            group.start_soon(bulkhead, work, weight, name)
            await anyio.wait_all_tasks_blocked()
        assert (["first"], 2, 2) == (order, bulkhead.in_flight, bulkhead.waiting)
        with pytest.raises(BulkheadFullError):  # more than there is
            await bulkhead(work, 4, "never")

    assert ["first", "large", "small"] == order
    assert 0 == bulkhead.in_flight


async def test_every_call_may_weigh_the_same(backend):
    """
    A number as the weight.
    """
    bulkhead = Bulkhead(5, weight=2)
    with bulkhead.admit(2), bulkhead.admit(2), pytest.raises(BulkheadFullError):
        await bulkhead(Script(1))
    assert 1 == await bulkhead(Script(1))


@pytest.mark.parametrize("answer", [0, -3, 1.5, "2", None, True, 10**10])
async def test_what_is_no_weight_becomes_one_with_one_warning(backend, answer):
    """
    Law 21: what users' functions return later is mended.
    """
    bulkhead = Bulkhead(1, weight=lambda _: answer)
    with pytest.warns(ResilienceWarning, match="1 is taken") as caught:
        assert [7, 7] == [await bulkhead(Script(7)) for _ in range(2)]
    assert 1 == len(caught)
    assert 0 == bulkhead.in_flight


async def test_a_weight_that_raises_is_one_and_logged_once(backend, caplog):
    """
    Law 6: a function of the user's that raises leaks nothing and replaces nothing.
    """

    def weight(_):
        raise KeyError

    bulkhead = Bulkhead(1, weight=weight)
    with caplog.at_level(logging.ERROR, "resilience"):
        assert [7, 7] == [await bulkhead(Script(7)) for _ in range(2)]
    assert 1 == len(caplog.records)
    assert "Bulkhead.weight" in caplog.text


async def test_a_larger_limit_lets_in_who_waits(backend, unit):
    """
    K6, law 38: a function that was wrapped before obeys the change at once.
    """
    bulkhead = Bulkhead(1, queue=5)
    guarded = bulkhead.wrap(Script(Wait(unit)))
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(guarded)
        await anyio.wait_all_tasks_blocked()
        assert (1, 3) == (bulkhead.in_flight, bulkhead.waiting)
        bulkhead.change(limit=3)
        assert (3, 1) == (bulkhead.in_flight, bulkhead.waiting)
        assert "Bulkhead(3, queue=5)" == repr(bulkhead)


async def test_a_smaller_limit_revokes_nothing(backend, unit):
    """
    K8: none is let in before fewer are inside than the new limit.
    """
    bulkhead = Bulkhead(3, queue=5)
    async with anyio.create_task_group() as group:
        await occupied(group, bulkhead, 3, unit)
        bulkhead.change(limit=1, queue=0)
        assert (3, 0) == (bulkhead.in_flight, bulkhead.available)
        with pytest.raises(BulkheadFullError, match=r"Bulkhead\(1\) is full"):
            await bulkhead(Script(1))
    assert 1 == await bulkhead(Script(1))


async def test_who_can_no_longer_be_served_is_turned_away(backend, unit):
    """
    K8: it asks for more than there is now, and keeps nobody.
    """
    bulkhead = Bulkhead(2, queue=5, weight=lambda call: call.args[0])
    done = []

    async def work(weight):
        await anyio.sleep(unit)
        done.append(weight)

    async def turned_away():
        with pytest.raises(BulkheadFullError):
            await bulkhead(work, 2)
        done.append("turned away")

    async with anyio.create_task_group() as group:
        group.start_soon(bulkhead, work, 1)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(turned_away)
        await anyio.wait_all_tasks_blocked()
        bulkhead.change(limit=1)
        await anyio.wait_all_tasks_blocked()
        assert ["turned away"] == done
    assert 0 == bulkhead.waiting


@pytest.mark.parametrize(
    ("given", "field"),
    [({"limit": -1}, "limit"), ({"queue": 1.5}, "queue"), ({"limit": True}, "limit")],
)
def test_a_change_is_checked_like_a_new_one(given, field):
    """
    Law 21: and nothing changes where it is refused.
    """
    bulkhead = Bulkhead(2, queue=3)
    with pytest.raises(ConfigurationError, match=f"Bulkhead.{field} must be"):
        bulkhead.change(**given)
    assert (2, 3) == (bulkhead.limit, bulkhead.snapshot().queue)


# ------------------------------------------------------------------------ nested


async def test_a_task_does_not_wait_for_itself(backend):
    """
    H26: a call inside a call of the same bulkhead rides on the place its task has, if there is no other.
    """
    bulkhead = Bulkhead(1, queue=5)
    peak = []

    async def inner():
        peak.append(bulkhead.in_flight)
        return 7

    async def middle():
        return await Pipeline(bulkhead)(inner)

    async def outer():
        assert 7 == await bulkhead(middle)
        assert 1 == bulkhead.in_flight
        return 8

    assert 8 == await bulkhead(outer)
    assert [1] == peak
    assert 0 == bulkhead.in_flight
    roomy = Bulkhead(2)

    async def counted():
        return roomy.in_flight

    async def nested():
        return await roomy(counted)

    assert 2 == await roomy(nested)


async def test_another_task_is_another_caller(backend, unit):
    """
    H26: the task that was started inside is turned away like any other; eagerly started or not.
    """
    bulkhead = Bulkhead(1)
    answers = []

    async def child():
        answers.append(await timed(bulkhead(Script(1))))

    async def outer():
        async with anyio.create_task_group() as group:
            group.start_soon(child)

    await bulkhead(outer)
    assert isinstance(answers[0][0], BulkheadFullError)


# ------------------------------------------------------------------------ by hand


async def test_by_hand_at_once(backend):
    """
    A place with `admit`: given back once, at the end of the block, whatever ends it.
    """
    bulkhead = Bulkhead(2)
    with contextlib.suppress(OSError), bulkhead.admit() as place:
        assert 1 == bulkhead.in_flight
        raise OSError
    assert 0 == bulkhead.in_flight
    place.release()
    assert 0 == bulkhead.in_flight
    assert "<Place weight=1 (released)>" == repr(place)
    with bulkhead.admit(2), pytest.raises(BulkheadFullError):
        bulkhead.admit()


async def test_by_hand_after_a_wait(backend, unit):
    """
    BH-006: `acquire` waits in the queue; the place is given back once, however often that is asked for.
    """
    bulkhead = Bulkhead(1, queue=1)

    async def hold():
        async with bulkhead.acquire() as place:
            assert 1 == place.weight
            await anyio.sleep(unit)

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await anyio.wait_all_tasks_blocked()
        place, seconds = await timed(bulkhead.acquire()._taken())
        assert about(unit, backend) == seconds
        place.release()
        place.release()
    assert 0 == bulkhead.in_flight
    with await bulkhead.acquire():
        assert 1 == bulkhead.in_flight
    assert 0 == bulkhead.in_flight
    with pytest.raises(ConfigurationError, match=r"Bulkhead\.acquire\.weight"):
        bulkhead.acquire(0)
    with pytest.raises(ConfigurationError, match=r"Bulkhead\.admit\.weight"):
        bulkhead.admit(-1)


async def test_an_async_block_that_was_never_entered_gives_back_nothing(backend):
    """
    The queue was full: there is no place to give back.
    """
    bulkhead = Bulkhead(1)
    with bulkhead.admit():
        acquiring = bulkhead.acquire()
        with pytest.raises(BulkheadFullError):
            await acquiring.__aenter__()
        await acquiring.__aexit__(None, None, None)
        assert 1 == bulkhead.in_flight


def test_a_place_that_nobody_released_is_given_back_and_warns():
    """
    Law 8: collected unreleased.
    """
    bulkhead = Bulkhead(1)
    places = [bulkhead.admit()]
    with pytest.warns(ResourceWarning, match="never released"):
        places.clear()
    assert 0 == bulkhead.in_flight


@pytest.mark.parametrize("verdict", ["cut_off", "ignore", "ended"])
def test_whatever_the_verdict_the_place_is_free(verdict):
    """
    Law 33: a place that was parked, or that a stream held, has no verdict to wait for.
    """
    bulkhead = Bulkhead(1)
    place = bulkhead.admit()
    getattr(place, verdict)(*([OSError()] if verdict == "ended" else []))
    assert 0 == bulkhead.in_flight


def test_outside_of_tasks_nobody_waits_for_itself():
    """
    H26: where no task runs, nothing is found around it.
    """
    assert 0 == guards_around("places", Bulkhead(1)._core.places)


# ------------------------------------------------------------------------ around it


async def rows() -> AsyncGenerator[int, None]:
    for number in range(3):
        await anyio.lowlevel.checkpoint()
        yield number


async def test_a_stream_holds_its_place_as_long_as_it_is_asked_to(backend):
    """
    `hold=True`: to its end, and to the end of a consumer who stops early; else to the first item.
    """
    bulkhead = Bulkhead(1)
    for hold in (True, False):
        async with bulkhead.stream(rows, hold=hold)() as items:
            assert int(hold) == bulkhead.in_flight
            assert [0, 1, 2] == [item async for item in items]
            assert 0 == bulkhead.in_flight
        async with bulkhead.stream(rows, hold=hold)() as items:
            assert 0 == await anext(items)
            assert int(hold) == bulkhead.in_flight
        assert 0 == bulkhead.in_flight


async def test_opening_holds_the_place_while_it_opens(backend):
    """
    The body of an opened manager is the caller's.
    """
    bulkhead = Bulkhead(1)
    seen = []

    @contextlib.asynccontextmanager
    async def connect():
        seen.append(bulkhead.in_flight)
        yield

    async with bulkhead.opening(connect)():
        seen.append(bulkhead.in_flight)
    assert [1, 0] == seen


async def test_a_probe_inside_is_given_back_before_the_place_around_it(backend, unit):
    """
    Law 33: what was taken last is given back first, also where a cancellation parks a permit.
    """
    order = []
    gate = breaker(break_duration=unit / 100)
    gate._core.force(CircuitState.HALF_OPEN)
    bulkhead = Bulkhead(1)

    class Watching(Places):
        def give(self, weight=1):
            order.append(f"probe {len(gate._core.circuit.current.seats)}")
            super().give(weight)

    bulkhead._core.places = Watching(1, 0)
    with anyio.move_on_after(unit):
        await Pipeline(bulkhead, gate, Timeout(50))(Script(Hang()))

    assert ["probe 1"] == order
    assert 0 == bulkhead.in_flight


async def test_a_breaker_outside_does_not_count_a_rejection(backend):
    """
    Law 4: the dependency was never asked.
    """
    gate, bulkhead = breaker(1), Bulkhead(0)
    with pytest.raises(BulkheadFullError):
        await Pipeline(gate, bulkhead, Timeout(50))(Script(1))
    assert (CircuitState.CLOSED, 0) == (gate.state, gate.snapshot().totals.failures)


async def test_a_retry_does_not_stop_for_a_bulkhead_that_is_full_now(backend):
    """
    Law 25: only who knows that the next attempt will be rejected says so; after a failure the place is free again.
    """
    script = Script(OSError, 42)
    assert 42 == await Pipeline(Retry(2, on=OSError, wait=lambda _: 0.0), Bulkhead(1))(script)
    assert 2 == script.calls


async def test_a_retry_that_names_it_tries_again(backend, unit):
    """
    Law 25: `on` names it.
    """
    bulkhead = Bulkhead(1)
    guarded = Pipeline(Retry(3, on=BulkheadFullError, wait=lambda _: unit), bulkhead)
    async with anyio.create_task_group() as group:
        await occupied(group, bulkhead, 1, 1.5 * unit)
        assert 42 == await guarded(Script(42))


async def test_what_is_told(backend, unit):
    """
    Events: a rejection with its reason, a wait with its length; nothing of the call.
    """
    recorder = Recorder(CallRejected, CallQueued)
    bulkhead = Bulkhead(1, queue=1, max_wait=unit, name="db")
    guarded = Pipeline(bulkhead, name="orders", listeners=[recorder])
    async with anyio.create_task_group() as group:
        await occupied(group, guarded, 1, unit / 2)
        group.start_soon(guarded, Script(Wait(3 * unit)))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(BulkheadFullError):
            await guarded(Script("secret"))
        await anyio.sleep(unit)
        with pytest.raises(BulkheadFullError):
            await guarded(Script("secret"))
        group.cancel_scope.cancel()

    assert ["CallRejected", "CallQueued", "CallQueued", "CallRejected"] == recorder.kinds
    assert {("db", "orders")} == {(each.policy, each.pipeline) for each in recorder}
    waits = recorder.of(CallQueued)
    assert [True, False] == [each.admitted for each in waits]
    assert about(unit / 2, backend) == waits[0].waited
    assert about(unit, backend) == waits[1].waited
    assert {"bulkhead_full"} == {each.reason for each in recorder.of(CallRejected)}


def test_by_hand_the_process_hears_of_it():
    """
    Events: where there is no pipeline, whoever listens to all of it.
    """
    recorder = Recorder(CallRejected)
    with listen(recorder), pytest.raises(BulkheadFullError):
        Bulkhead(0).admit()
    assert ["Bulkhead(0)"] == [each.policy for each in recorder]


async def test_switched_off_it_is_the_bare_call(backend):
    """
    The kit's switch.
    """
    with disabled():
        assert 1 == await Bulkhead(0)(Script(1))


@pytest.mark.parametrize("split", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_refuses_to_be_split(split):
    """
    Law 37.
    """
    with pytest.raises(TypeError, match="a Bulkhead holds the state of this process"):
        split(Bulkhead(1))


def test_it_is_shown_as_it_is_written():
    """
    `repr` prints what one would type.
    """
    assert "Bulkhead(3)" == repr(Bulkhead(3))
    assert "Bulkhead(3, queue=2, max_wait=1.5, name='db')" == repr(
        Bulkhead(3, queue=2, max_wait=1.5, name="db")
    )


async def test_four_threads_share_the_places(backend):
    """
    H38, K1: loops in several threads never have more inside than the limit, and all is given back.
    """
    bulkhead = Bulkhead(3, queue=1000)
    inside, peak, lock = 0, 0, threading.Lock()
    errors = []

    async def work():
        nonlocal inside, peak
        with lock:
            inside += 1
            peak = max(peak, inside)
        await anyio.lowlevel.checkpoint()
        with lock:
            inside -= 1

    async def loop():
        async with anyio.create_task_group() as group:
            for _ in range(60):
                group.start_soon(bulkhead, work)

    def thread():
        try:
            anyio.run(loop, backend="trio" if backend == "trio" else "asyncio")
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        await anyio.to_thread.run_sync(each.join)
    assert [] == errors
    assert 1 <= peak <= 3
    assert (0, 0) == (bulkhead.in_flight, bulkhead.waiting)


def test_nothing_warns_when_it_is_dropped():
    """
    Law 37: nothing is bound to a loop, and nothing is left behind.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Bulkhead(1, queue=3)
        gc.collect()
