"""
SingleFlight: who flies, who waits, who may leave, and what is shared.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import gc
import pickle
import threading
import traceback
import weakref
from contextlib import asynccontextmanager
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    Bulkhead,
    Call,
    CircuitState,
    Fallback,
    Pipeline,
    Retry,
    SingleFlight,
    Timeout,
    TimeoutExceededError,
    deadline,
)
from resilience.events import FlightAbandoned, FlightJoined
from resilience.policies.single_flight import _Core
from resilience.testing import Hang, Recorder, Script, Wait, run
from tests.composition.support import about, breaker, pending_cancellations, timed
from tests.explain.kit import built

_seen: ContextVar[str] = ContextVar("seen", default="")


async def gathered(*works):
    """What each returned or raised; begun in the same instant and, on trio too, in this order."""
    found = [None] * len(works)
    turns = [anyio.Event() for _ in range(len(works) + 1)]
    turns[0].set()

    async def one(place, work):
        await turns[place].wait()
        turns[place + 1].set()  # and the next one runs when this one waits
        try:
            found[place] = await work()
        except Exception as error:  # noqa: BLE001 - asserted on
            found[place] = error

    async with anyio.create_task_group() as group:
        for place, work in enumerate(works):
            group.start_soon(one, place, work)
    return found


def at_rest(flights):
    """No flight and nobody who waits, and no hold on a loop but that of a block around."""
    told = flights.snapshot()
    tasks = [task for task in flights._core.tasks if not task.done()]
    return (told.in_flight, told.waiting, tasks) == (0, 0, [])


async def test_calls_of_one_key_share_one_flight(backend, unit):
    """
    CA-002: three callers, one call; the result is the same object.
    """
    answer = object()
    service = Script(Wait(unit, then=answer))
    async with SingleFlight() as flights:
        fetch = flights.wrap(service)
        found = await gathered(*[lambda: fetch("sku")] * 3)

        assert [answer] * 3 == found
        assert 1 == service.calls
        assert at_rest(flights)
        assert (1, 2, 0) == (
            flights.snapshot().started,
            flights.snapshot().joined,
            flights.snapshot().abandoned,
        )


async def test_calls_of_other_keys_fly_on_their_own(backend, unit):
    """
    Callee and arguments say which calls are the same; ``key=`` says it otherwise.
    """
    service = Script(Wait(unit))
    other = Script(Wait(unit))
    async with SingleFlight() as flights, SingleFlight(key=lambda sku, user: sku) as by_sku:
        await gathered(
            lambda: flights(service, "a"),
            lambda: flights(service, "b"),
            lambda: flights(other, "a"),
        )
        assert (2, 1) == (service.calls, other.calls)

        third = Script(Wait(unit))
        await gathered(lambda: by_sku(third, "a", "ada"), lambda: by_sku(third, "a", "bob"))
        assert 1 == third.calls


async def test_each_flight_is_a_new_one(backend, unit):
    """
    CA-002: what landed, well or not, is not kept.
    """
    service = Script(Wait(unit, then=1), Wait(unit, then=OSError), Wait(unit, then=3))
    async with SingleFlight() as flights:
        fetch = flights.wrap(service)
        found = [(await gathered(fetch, fetch))[1] for _ in range(3)]

        assert [1, 3] == found[::2]
        assert isinstance(found[1], OSError)
        assert 3 == service.calls


async def test_an_error_is_shared_as_the_object_it_is(backend, unit):
    """
    Law 23: the same instance in every caller, and its traceback does not grow with their number.
    """
    own = OSError("down")

    async def fails():
        await anyio.sleep(unit)
        raise own

    async with SingleFlight() as flights:
        fetch = flights.wrap(fails)
        found = await gathered(fetch)
        alone = len(traceback.extract_tb(own.__traceback__))
        own.__traceback__ = None
        found = await gathered(*[fetch] * 20)

    assert [own] * 20 == found
    assert alone == len(traceback.extract_tb(own.__traceback__))


async def test_a_constant_error_does_not_pile_up_tracebacks(backend):
    """
    Law 23: an instance that is raised by flight after flight keeps the traceback of a few.
    """
    constant = OSError("raised for ever")

    async def fails():
        await anyio.lowlevel.checkpoint()
        raise constant

    async with SingleFlight() as flights:
        fetch = flights.wrap(fails)
        lengths = []
        for _ in range(12):
            await gathered(fetch, fetch)
            lengths.append(len(traceback.extract_tb(constant.__traceback__)))

    assert lengths[3] >= max(lengths[3:])


async def test_no_caller_sees_what_another_was_handling(backend, unit):
    """
    Law 23: the context of the error is the flight's, not that of whoever raised it last.
    """
    inner = KeyError("inside the flight")

    async def fails():
        await anyio.sleep(unit)
        try:
            raise inner
        except KeyError:
            raise OSError("down") from None

    async with SingleFlight() as flights:
        fetch = flights.wrap(fails)

        async def while_handling():
            try:
                int("the caller's own")
            except ValueError:
                return await fetch()

        first, second = await gathered(while_handling, fetch)

    assert first is second
    assert inner is first.__context__


async def test_a_caller_who_leaves_leaves_the_others_alone(backend, unit):
    """
    Issue 5: whoever asked first may leave; the flight goes on.
    """
    service = Script(Wait(2 * unit, then="answer"))
    async with SingleFlight() as flights:
        fetch = flights.wrap(service)

        async def impatient():
            with anyio.move_on_after(unit):
                await fetch()
            return "left"

        assert ["left", "answer"] == await gathered(impatient, fetch)
        assert 1 == service.calls
        assert 0 == flights.snapshot().abandoned


async def test_the_last_caller_who_leaves_cancels_and_waits(backend, unit):
    """
    Nothing is left behind: the callee's clean-up has ended when the last caller is out.
    """
    cleaned = []

    async def callee():
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(unit)
            cleaned.append("up")

    recorder = Recorder(FlightAbandoned)
    async with SingleFlight(name="lookups") as flights:
        fetch = Pipeline(flights, Timeout(50), listeners=[recorder]).wrap(callee)

        async def impatient(units):
            with anyio.move_on_after(units * unit):
                await fetch()
            return list(cleaned)

        assert [[], ["up"]] == await gathered(lambda: impatient(1), lambda: impatient(2))
        assert at_rest(flights)
        assert 1 == flights.snapshot().abandoned
    [event] = recorder.events
    assert "lookups" == event.policy
    assert about(3 * unit, backend) == event.after


async def test_a_flight_that_nobody_waits_for_is_not_joined(backend, unit):
    """
    While the last one cancels it, the next caller starts another.
    """
    service = Script(Hang(), "second")

    async def slow_to_leave():
        try:
            return await service()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2 * unit)
            raise

    async with SingleFlight() as flights:
        fetch = flights.wrap(slow_to_leave)

        async def impatient():
            with anyio.move_on_after(unit):
                await fetch()

        async def later():
            await anyio.sleep(2 * unit)
            return await timed(fetch())

        _, (answer, seconds) = await gathered(impatient, later)
        assert "second" == answer
        assert about(0.0, backend) == seconds
        assert at_rest(flights)


async def test_the_callers_deadline_is_his_own(backend, unit):
    """
    Law 31: a Timeout outside bounds one caller's wait; whoever has more time gets the answer.
    """
    service = Script(Wait(2 * unit, then="answer"))
    async with SingleFlight() as flights:
        patient = Pipeline(Timeout(9 * unit), flights, Timeout(8 * unit)).wrap(service)
        hasty = Pipeline(Timeout(unit), flights, Timeout(8 * unit)).wrap(service)

        first, second = await gathered(hasty, patient)

        assert isinstance(first, TimeoutExceededError)
        assert "answer" == second


async def test_inside_nobody_plans_with_a_deadline_that_is_one_callers(backend, unit):
    """
    Law 24 is each caller's: a retry in the flight waits for the one who has the time.
    """
    remaining = []

    async def callee(call: Call):
        remaining.append(call.remaining())
        await anyio.lowlevel.checkpoint()
        if len(remaining) == 1:
            raise OSError
        return call.attempt

    async with SingleFlight(key="one") as flights:
        inner = Retry(2, on=OSError, wait=lambda _: 2 * unit)
        hasty = built(Timeout(unit), flights, inner).informed(callee)
        patient = built(Timeout(9 * unit), flights, inner).informed(callee)

        first, second = await gathered(hasty, patient)

    assert isinstance(first, TimeoutExceededError)
    assert 2 == second
    assert [float("inf")] * 2 == remaining


async def test_a_deadline_block_is_its_callers_own(backend, unit):
    """
    Issue 5: a block's deadline bounds the wait of who opened it, and no call that the shared callee makes.
    """
    work = Script(Wait(2 * unit, then="answer"))

    async def callee():
        return await Timeout(50)(work)

    async with SingleFlight() as flights:
        fetch = flights.wrap(callee)

        async def hasty():
            with deadline(unit):
                return await fetch()

        first, second = await gathered(hasty, fetch)

    assert isinstance(first, TimeoutExceededError)
    assert "answer" == second


async def test_a_deadline_of_the_last_caller_is_a_failure_inside(backend, unit):
    """
    Law 3: our own deadline, wherever the Timeout stands, if it ended the call; the breaker in the flight counts it.
    """
    inside = breaker(1)
    async with SingleFlight() as flights:
        guarded = Pipeline(Timeout(unit), flights, inside, Timeout(50))
        with pytest.raises(TimeoutExceededError):
            await guarded(Script(Hang()))
        assert CircuitState.OPEN is inside.state
        assert 1 == inside.snapshot().totals.failures


async def test_a_caller_who_leaves_is_nothing_inside(backend, unit):
    """
    Law 3: not a deadline of ours but the caller's own leaving: ignored by the breaker in the flight.
    """
    inside = breaker(1)
    async with SingleFlight() as flights:
        with anyio.move_on_after(unit):
            await Pipeline(flights, inside, Timeout(50))(Script(Hang()))
        totals = inside.snapshot().totals
        assert (0, 1) == (totals.failures, totals.ignored)


async def test_a_deadline_of_one_of_several_callers_is_a_failure_outside_only(backend, unit):
    """
    Law 3: the caller's breaker counts that it got no answer in time; the flight's counts the answer.
    """
    outside, inside = breaker(1), breaker(1)
    service = Script(Wait(2 * unit, then="answer"))
    async with SingleFlight() as flights:
        with pytest.warns(UserWarning, match="once for each caller"):
            hasty = Pipeline(Timeout(unit), outside, flights, inside, Timeout(50))
        patient = Pipeline(flights, inside, Timeout(50))

        await gathered(lambda: hasty(service), lambda: patient(service))

        assert CircuitState.OPEN is outside.state
        assert (0, 1) == (inside.snapshot().totals.failures, inside.snapshot().totals.successes)


async def test_our_deadline_inside_the_flight_is_everybodys(backend, unit):
    """
    A Timeout inside bounds the call: all who wait get its error.
    """
    async with SingleFlight() as flights:
        fetch = Pipeline(flights, Timeout(unit)).wrap(Script(Hang()))
        first, second = await gathered(fetch, fetch)

        assert first is second
        assert isinstance(first, TimeoutExceededError)


async def test_the_flight_runs_in_a_copy_of_the_first_callers_context(backend, unit):
    """
    Law 30 ends at a flight: what it sets is seen by no caller, and what the first one had set is seen by it.
    """

    async def callee():
        before = _seen.get()
        _seen.set("flight")
        await anyio.sleep(unit)
        return before

    async with SingleFlight() as flights:
        fetch = flights.wrap(callee)

        async def caller(name):
            _seen.set(name)
            return await fetch(), _seen.get()

        assert [("ada", "ada"), ("ada", "bob")] == await gathered(
            lambda: caller("ada"), lambda: caller("bob")
        )


async def test_who_asks_for_his_own_flight_flies_alone(backend):
    """
    Law 13: a callee that asks for the same again would wait for itself; so do tasks that it starts.
    """
    depths = []

    async with SingleFlight(key="one") as flights:

        async def callee(depth):
            depths.append(depth)
            await anyio.lowlevel.checkpoint()
            if depth < 2:
                async with anyio.create_task_group() as group:
                    group.start_soon(fetch, depth + 1)
            return depth

        fetch = flights.wrap(callee)
        with anyio.fail_after(5):
            assert 0 == await fetch(0)
    assert [0, 1, 2] == depths


async def test_flights_that_would_wait_for_one_another(backend):
    """
    Two callees that ask for each other's key, begun by two callers: one of them flies alone, nobody waits for ever.
    """
    async with SingleFlight(key=lambda mine, other: mine) as flights:

        async def callee(mine, other):
            await anyio.lowlevel.checkpoint()
            return f"{mine}({await fetch(other, None) if other else ''})"

        fetch = flights.wrap(callee)
        with anyio.fail_after(5):
            found = await gathered(lambda: fetch("a", "b"), lambda: fetch("b", "a"))
    assert all(found)
    assert at_rest(flights)


async def test_inner_flights_of_an_outer_one_are_shared(backend, unit):
    """
    A flight may wait for another: what comes after joins both.
    """
    service = Script(Wait(unit, then="rate"))
    async with SingleFlight() as flights:
        rate = flights.wrap(service)

        async def price(sku):
            return sku, await rate()

        fetch = flights.wrap(price)
        found = await gathered(lambda: fetch("a"), lambda: fetch("b"), rate)
    assert [("a", "rate"), ("b", "rate"), "rate"] == found
    assert 1 == service.calls


async def test_outcomes_tell_of_the_flight(backend, unit):
    """
    Each caller's outcome has the attempts, and what a fallback or a retry inside said.
    """
    service = Script(Wait(unit, then=OSError), Wait(unit, then=OSError))
    async with SingleFlight() as flights:
        guarded = Pipeline(
            flights,
            Fallback("cached", on=OSError),
            Retry(2, on=OSError, wait=lambda _: 0.0),
            Timeout(50),
        )
        outcomes = await gathered(
            lambda: guarded.outcome(service), lambda: guarded.outcome(service)
        )

    assert [("cached", True, True, 2)] * 2 == [
        (each.unwrap(), each.from_fallback, each.exhausted, each.attempts) for each in outcomes
    ]


async def test_informed_callees_are_told_of_the_flights_call(backend):
    """
    The attempt that a callee sees is that of the flight's retry.
    """
    attempts = []

    async def callee(call: Call, sku: str):
        attempts.append(call.attempt)
        await anyio.lowlevel.checkpoint()
        raise OSError(sku)

    async with SingleFlight() as flights:
        fetch = Pipeline(flights, Retry(3, on=OSError, wait=lambda _: 0.0), Timeout(50)).informed(
            callee
        )
        await gathered(lambda: fetch("a"), lambda: fetch("a"))
    assert [1, 2, 3] == attempts


async def test_joining_is_told(backend, unit):
    """
    An event for each caller who joins, with how many wait by then.
    """
    recorder = Recorder(FlightJoined)
    async with SingleFlight(name="lookups") as flights:
        fetch = Pipeline(flights, Timeout(50), listeners=[recorder]).wrap(Script(Wait(unit)))
        await gathered(fetch, fetch, fetch)
    assert [("lookups", 2), ("lookups", 3)] == [
        (event.policy, event.callers) for event in recorder.of(FlightJoined)
    ]


async def test_more_keys_than_allowed_fly_alone(backend, unit):
    """
    It is bounded: beyond ``max_flights`` a call is not shared, and not refused.
    """
    service = Script(Wait(unit))
    async with SingleFlight(max_flights=1) as flights:
        fetch = flights.wrap(service)
        await gathered(*[lambda: fetch("a")] * 2, *[lambda: fetch("b")] * 2)
    assert 3 == service.calls


async def test_a_call_whose_key_cannot_be_told_flies_alone(backend, caplog):
    """
    Law 6: logged once, and nothing shared.
    """
    service = Script(1)
    async with SingleFlight() as flights:
        assert [1, 1] == await gathered(*[lambda: flights(service, [])] * 2)
    assert 2 == service.calls
    assert 1 == caplog.text.count("SingleFlight.key")


async def test_what_is_no_exception_reaches_the_callers(backend):
    """
    Law 2: it passes as the object it is, although another task met it.
    """

    class Stop(BaseException):
        """Not an `Exception`."""

    own = Stop()

    async def callee():
        await anyio.lowlevel.checkpoint()
        raise own

    async with SingleFlight() as flights:
        with pytest.raises(Stop) as caught:
            await flights(callee)
        assert own is caught.value
        assert at_rest(flights)


def test_a_cancellation_that_the_callee_raises_is_the_callers():
    """
    Law 2: asyncio's, raised by the callee itself, passes as the object it is.
    """
    own = asyncio.CancelledError("the callee's own")

    async def callee():
        await asyncio.sleep(0)
        raise own

    async def main():
        flights = SingleFlight()
        try:
            await flights(callee)
        except asyncio.CancelledError as error:
            assert own is error  # noqa: PT017 - pytest.raises would not catch it here
            assert 0 == asyncio.current_task().cancelling()
            return at_rest(flights)

    assert run(main)


@pytest.mark.parametrize("backend_", ["asyncio", "asyncio+eager", "uvloop"])
def test_on_asyncio_it_need_not_be_entered(backend_):
    """
    The last caller waits until the flight has ended, so that nothing is left behind without a block either.
    """

    async def main():
        flights = SingleFlight()
        service = Script(Wait(0.05, then="answer"), Hang())
        fetch = flights.wrap(service)

        assert ["answer"] * 3 == await gathered(fetch, fetch, fetch)
        assert 7 == await flights(Script(7))
        with anyio.move_on_after(0.05):
            await fetch()
        assert at_rest(flights)
        assert {} == flights._core.bases
        assert 1 == len(asyncio.all_tasks())

    try:
        run(main, backend=backend_)
    except ValueError as error:
        pytest.skip(f"eager tasks came with Python 3.12: {error}")


def test_on_trio_it_has_to_be_entered():
    """
    Api: nothing may outlive its nursery there; the error says what to write.
    """

    async def main():
        flights = SingleFlight()
        service = Script(1)
        with pytest.raises(RuntimeError, match="async with flights"):
            await flights(service)
        assert 0 == service.calls
        assert at_rest(flights)
        assert {} == flights._core.bases

    run(main, backend="trio")


async def test_leaving_the_block_waits_for_what_is_in_flight(backend, unit):
    """
    As a task group: the callers get their answer.
    """
    flights = SingleFlight()
    found = []

    async def caller():
        found.append(await flights(Script(Wait(2 * unit, then="answer"))))

    async with anyio.create_task_group() as group:
        async with flights:
            group.start_soon(caller)
            await anyio.sleep(unit)
        assert 1 == flights._core.started
        await anyio.lowlevel.checkpoint()
    assert ["answer"] == found
    assert {} == flights._core.bases


async def test_a_block_that_is_cancelled_takes_its_flights_along(backend, unit):
    """
    Whoever still waits outside of it is told so; he was not cancelled himself.
    """
    flights = SingleFlight(name="lookups")
    found = []

    async def caller():
        try:
            await flights(Script(Hang()))
        except RuntimeError as error:
            found.append(str(error))

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(unit):
            async with flights:
                group.start_soon(caller)
                await anyio.sleep_forever()
    assert ["lookups: the call in flight was cancelled from outside"] == found
    assert at_rest(flights)


async def test_an_error_of_the_block_leaves_it_as_it_is(backend):
    """
    Flights have no errors of their own for the block: there is no group to unpack.
    """
    own = KeyError("the block's")

    with pytest.raises(KeyError) as caught:
        async with SingleFlight():
            raise own
    assert own is caught.value


async def test_a_block_is_entered_once_in_each_loop(backend):
    """
    A second time in the same loop would take the flights of the first.
    """
    async with SingleFlight() as flights:
        with pytest.raises(RuntimeError, match="entered in this loop already"):
            await flights.__aenter__()
    with pytest.raises(RuntimeError, match="was not entered"):
        await flights.__aexit__(None, None, None)


def test_loops_in_threads_do_not_share_flights():
    """
    Law 15, 37: each loop has flights of its own, and what a loop holds dies with it.
    """
    flights = SingleFlight(key="one")
    barrier = threading.Barrier(2)
    calls = []

    async def callee():
        calls.append(threading.get_ident())
        await anyio.lowlevel.checkpoint()
        barrier.wait(30)
        return threading.get_ident()

    async def main():
        async with flights:
            return await gathered(lambda: flights(callee), lambda: flights(callee))

    found = []
    threads = [
        threading.Thread(target=lambda name=name: found.append(run(main, backend=name)))
        for name in ("asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert 2 == len(calls)
    assert 2 == len({tuple(each) for each in found})
    assert all(first == second for first, second in found)
    assert {} == flights._core.bases


def test_a_loop_that_was_stopped_in_mid_flight_is_forgotten():
    """
    Law 37: its flights go with the first use of another loop.
    """
    flights = SingleFlight(key="one")
    loop = asyncio.new_event_loop()
    task = loop.create_task(flights(Script(Hang())))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert 1 == flights.snapshot().in_flight

    assert "answer" == run(flights.wrap(Script("answer")))
    assert at_rest(flights) or flights._core.tasks
    assert {} == flights._core.bases
    task._log_destroy_pending = False
    for each in list(flights._core.tasks):
        each._log_destroy_pending = False


def test_a_second_cancellation_waits_for_the_flight_too():
    """
    As in asyncio's TaskGroup, whoever is cancelled again stays until the flight has ended; he leaves by the last one.
    """
    ended = []

    async def callee():
        try:
            await asyncio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(5)
            ended.append(True)

    async def main():
        flights = SingleFlight()
        task = asyncio.create_task(flights(callee))
        await asyncio.sleep(1)
        task.cancel("first")
        await asyncio.sleep(1)
        task.cancel("second")
        try:
            await task
        except asyncio.CancelledError as error:
            return ended, str(error), task.cancelling(), at_rest(flights)

    assert ([True], "second", 2, True) == run(main)


def test_a_caller_that_is_closed_orphans_its_flight():
    """
    H6: a coroutine that is closed can wait for nothing; the flight is cancelled and settles its own permits.
    """
    inside = breaker(1)

    async def main():
        flights = SingleFlight()
        coroutine = Pipeline(flights, inside, Timeout(50))(Script(Hang()))
        waits = coroutine.send(None)
        waits._asyncio_future_blocking = False
        await asyncio.sleep(1)
        coroutine.close()
        await asyncio.sleep(1)
        assert at_rest(flights)
        totals = inside.snapshot().totals
        return totals.failures, totals.ignored

    assert (0, 1) == run(main)


def test_outside_of_a_task_it_says_so():
    """
    A coroutine driven by hand has no loop to fly on.
    """
    with pytest.raises(RuntimeError, match="must be awaited in a task of asyncio or trio"):
        SingleFlight(key=1)(Script(1)).send(None)


async def test_nothing_of_a_flight_is_kept(backend, unit):
    """
    Neither the result, the error nor the arguments live longer than the calls.
    """

    class Thing:
        """Something that can be looked for."""

    class Own(Exception):  # noqa: N818 - an error with weak references
        """The callee's."""

    async def callee(thing):
        await anyio.sleep(unit)
        raise Own(thing)

    async with SingleFlight(key=id) as flights:
        thing = Thing()
        watched = weakref.ref(thing)
        gc.disable()
        try:
            errors = await gathered(*[functools.partial(flights, callee, thing)] * 2)
            for error in errors:
                error.__traceback__ = None
            del error, errors, thing
            assert None is watched()
        finally:
            gc.enable()


async def test_a_caller_who_has_left_before_it_starts(backend):
    """
    CP-003: whether the flight had begun or not, nothing of it is left; trio begins tasks in any order.
    """
    async with SingleFlight() as flights:
        for _ in range(30):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await flights(Script(Hang()))
            assert scope.cancelled_caught
            assert at_rest(flights)


async def test_cancellation_leaves_no_trace(backend, unit):
    """
    Law 33, PY-002: the count of pending cancellations is as before.
    """
    pending = pending_cancellations()
    async with SingleFlight() as flights:
        with anyio.move_on_after(unit):
            await flights(Script(Hang()))
        assert pending == pending_cancellations()
        assert at_rest(flights)


def test_doors_that_open_something_are_refused():
    """
    A connection belongs to the one who opened it, a stream to the one who reads it.
    """

    @asynccontextmanager
    async def connect():
        yield 1

    async def rows():
        yield 1

    with pytest.raises(TypeError, match=r"SingleFlight\(\) gives one answer .* opening"):
        SingleFlight().opening(connect)
    with pytest.raises(TypeError, match=r"SingleFlight\(\) gives one answer .* stream"):
        Pipeline(SingleFlight(), Timeout(1)).stream(rows)


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pickle_and_copy_are_refused(attempt):
    """
    Law 37: in one sentence.
    """
    with pytest.raises(TypeError, match="SingleFlight holds the state of this process"):
        attempt(SingleFlight())


def test_a_repr_is_what_one_would_type():
    """
    Law 36.
    """
    assert "SingleFlight(max_flights=5, name='lookups')" == repr(
        SingleFlight(max_flights=5, name="lookups")
    )
    assert "SingleFlight()" == _Core(SingleFlight()).label


@pytest.mark.parametrize("leaver", ["all at once", "one after the other", "by a deadline"])
async def test_whenever_the_callers_leave_everything_is_given_back(backend, unit, leaver):
    """
    Law 33, PY-001: after any number of steps and at any time; permits inside settle once, gauges are at zero.
    """
    places, inside = Bulkhead(1), breaker(1000)
    inside_the_callee = []

    async def callee():
        inside_the_callee.append(None)
        try:
            await anyio.lowlevel.checkpoint()
            await anyio.sleep(unit)
            raise OSError
        finally:
            inside_the_callee.pop()

    async def leave_after(steps, seconds, scope):
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(seconds)
        scope.cancel()

    async with SingleFlight() as flights:
        inner = (flights, Retry(2, on=OSError, wait=lambda _: unit), places, inside, Timeout(50))
        for steps, quarters in [
            *((steps, 0) for steps in range(12)),
            *((1, each) for each in range(14)),
        ]:
            seconds = quarters * unit / 4
            guarded = (
                built(Timeout(seconds or unit / 8), *inner)
                if leaver == "by a deadline"
                else built(*inner)
            )

            async def caller(number, guarded=guarded, steps=steps, seconds=seconds):
                late = number * unit / 8 if leaver == "one after the other" else 0.0
                async with anyio.create_task_group() as group:
                    if leaver != "by a deadline":
                        group.start_soon(leave_after, steps, seconds + late, group.cancel_scope)
                    with contextlib.suppress(OSError):
                        await guarded(callee)
                    group.cancel_scope.cancel()

            await gathered(*[functools.partial(caller, number) for number in range(3)])

            totals = inside.snapshot().totals
            assert [] == inside_the_callee, (steps, quarters)
            assert at_rest(flights), (steps, quarters)
            assert (0, 0) == (places.in_flight, places.waiting), (steps, quarters)
            assert 0 == totals.successes, (steps, quarters)
        if leaver == "by a deadline":
            assert totals.failures > 10
        assert totals.failures + totals.ignored > 10
