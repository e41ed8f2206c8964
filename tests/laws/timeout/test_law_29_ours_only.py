"""
Law 29: ours is raised only if our own deadline cut the call; a result beats it; cancellations are counted right.
"""

import asyncio
import contextlib
import time

import anyio
import pytest
import trio

from resilience import DeadlineExpiredError, Pipeline, Retry, Timeout, TimeoutExceededError
from resilience.events import TimedOut
from resilience.testing import Hang, Recorder, Script, Wait
from tests.composition.support import about, pending_cancellations, timed


async def test_a_call_that_takes_too_long_is_cut_off(backend, unit):
    """
    At its deadline the callee is cancelled, and the error names the limit and the policy (law 29, TO-001, T7).
    """
    ended = []

    async def callee():
        try:
            await anyio.sleep(100 * unit)
        finally:
            ended.append(True)

    error, took = await timed(Timeout(2 * unit)(callee))

    assert isinstance(error, TimeoutExceededError)
    assert isinstance(error, TimeoutError)
    assert (2 * unit, f"Timeout({2 * unit!r})") == (error.seconds, error.policy)
    assert [True] == ended
    assert about(2 * unit, backend) == took
    assert 0 == pending_cancellations()


async def test_on_asyncio_the_cancellation_is_the_cause(backend, unit):
    """
    The cancellation that ended the callee is chained, where the loop hands it out (TO-001); trio keeps its own.
    """
    error, _ = await timed(Timeout(unit)(Script(Hang())))

    expected = type(None) if backend == "trio" else asyncio.CancelledError
    assert expected is type(error.__cause__)


async def test_a_callees_own_timeout_error_passes_by_identity(backend, unit):
    """
    A `TimeoutError` is ours only if we cut the call: the callee's passes as it is (law 29, H19, T2).
    """
    mine = TimeoutError("of the callee")

    error, _ = await timed(Timeout(2 * unit)(Script(Wait(unit, mine))))

    assert mine is error


@pytest.mark.parametrize(
    "later", [TimeoutError("late"), ValueError("late")], ids=["timeout", "other"]
)
async def test_what_the_callee_raises_in_answer_to_the_cut_passes_by_identity(backend, unit, later):
    """
    A callee that answers our cancellation with an error of its own has the last word (law 29).
    """

    async def callee():
        try:
            await anyio.sleep_forever()
        finally:
            raise later

    error, took = await timed(Timeout(unit)(callee))

    assert later is error
    assert about(unit, backend) == took
    assert 0 == pending_cancellations()


async def test_a_scope_of_the_callees_own_is_its_own_affair(backend, unit):
    """
    A deadline inside the callee that it set and handled is not ours to report (law 29).
    """

    async def callee():
        with anyio.move_on_after(unit):
            await anyio.sleep_forever()
        with pytest.raises(TimeoutError) as caught, anyio.fail_after(unit):
            await anyio.sleep_forever()
        assert not isinstance(caught.value, TimeoutExceededError)
        return "moved on"

    assert ("moved on", about(2 * unit, backend)) == await timed(Timeout(5 * unit)(callee))
    assert 0 == pending_cancellations()


async def test_a_result_that_was_produced_beats_the_deadline(backend, unit):
    """
    The callee swallows our cancellation and returns: the result is kept, nothing is left pending (trap 3, TO-005).
    """

    async def callee():
        with contextlib.suppress(asyncio.CancelledError, trio.Cancelled):
            await anyio.sleep_forever()
        return "produced"

    answer, took = await timed(Timeout(unit)(callee))

    assert ("produced", about(unit, backend)) == (answer, took)
    assert 0 == pending_cancellations()
    await anyio.sleep(2 * unit)  # nothing of it is left for a later wait


async def test_a_result_in_the_very_tick_of_the_deadline_is_kept(backend):
    """
    A callee that computes past its deadline without waiting has a result, and it is not thrown away (H18, law 29).
    """
    if backend == "uvloop":
        pytest.skip("real time: the tick of the deadline cannot be hit there")

    async def callee():
        await anyio.sleep(0.5)
        if backend == "trio":
            trio.lowlevel.current_clock().jump(10)
        else:
            asyncio.get_running_loop().jump(10)
        return "late, but here"

    assert "late, but here" == await Timeout(1)(callee)
    assert 0 == pending_cancellations()
    await anyio.sleep(2)


async def cancelled_by(kind, unit, coroutine):
    """Run it, and have it cancelled from outside after one unit in the way of *kind*; what came out, and of whom."""
    seen = []

    async def inside():
        try:
            await coroutine
        except BaseException as error:
            seen.append(error)
            raise

    if kind == "scope":
        with anyio.move_on_after(unit) as scope:
            await inside()
        assert scope.cancelled_caught
    elif kind == "group":
        async with anyio.create_task_group() as group:
            group.start_soon(inside)
            await anyio.sleep(unit)
            group.cancel_scope.cancel()
    else:
        task = asyncio.get_running_loop().create_task(inside())
        await anyio.sleep(unit)
        task.cancel("from outside")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 1 == task.cancelling()
    (error,) = seen
    return error


@pytest.mark.parametrize("kind", ["scope", "group", "task"])
async def test_a_caller_who_leaves_is_no_timeout(backend, unit, kind):
    """
    A cancellation from outside passes as the same object, is not counted as ours, and is no event (TO-002, TO-003, T3).
    """
    if kind == "task" and backend == "trio":
        pytest.skip("trio has no Task.cancel")
    thrown = []

    async def callee():
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            thrown.append(error)
            raise

    recorder = Recorder(TimedOut)
    guarded = Pipeline(Timeout(30 * unit), Timeout(20 * unit), listeners=[recorder])

    error = await cancelled_by(kind, unit, guarded(callee))

    assert thrown[0] is error
    assert isinstance(error, anyio.get_cancelled_exc_class())
    assert 0 == len(recorder)
    assert 0 == pending_cancellations()


def asyncio_only(backend):
    if backend == "trio":
        pytest.skip("trio has no Task.cancel and no counts of it")


async def test_a_caller_who_leaves_while_the_callee_cleans_up_is_reported(backend, unit):
    """
    We have cut it, the caller leaves before it has ended: the call ends cancelled, as the caller expects (law 29).
    """
    asyncio_only(backend)

    async def callee():
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(5 * unit)  # an edge: on asyncio this waits

    with anyio.move_on_after(2 * unit) as scope:
        await Timeout(unit)(callee)

    assert scope.cancelled_caught
    assert 0 == pending_cancellations()


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_task_cancel_in_the_tick_of_our_deadline_wins(backend, unit, first):
    """
    The task is cancelled at the same instant, before or after our own cancel: it ends cancelled, counted once (law 29).
    """
    asyncio_only(backend)
    loop = asyncio.get_running_loop()

    async def call():
        await Timeout(unit)(anyio.sleep_forever)

    task = loop.create_task(call())
    at = loop.time() + unit
    if first == "ours":
        await asyncio.sleep(unit / 2)  # our timer is in the loop already
    loop.call_at(at, task.cancel)
    error = (await asyncio.gather(task, return_exceptions=True))[0]

    if backend == "uvloop" and isinstance(error, TimeoutExceededError):
        return  # real timers of one millisecond: they did not meet in one tick
    assert isinstance(error, asyncio.CancelledError)
    assert not isinstance(error.__cause__, TimeoutExceededError)
    assert task.cancelled()
    assert 1 == task.cancelling()


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("kind", ["move_on_after", "cancel", "asyncio.timeout"])
async def test_an_outer_scope_in_the_tick_of_our_deadline_loses_nothing(backend, kind, first):
    """
    Whoever fires first, the call ends then, no cancellation escapes its scope, and nothing is left pending (H15).
    """
    if backend == "uvloop":
        pytest.skip("real time: two timers cannot be made to meet in one tick there")
    if backend == "trio" and kind == "asyncio.timeout":
        pytest.skip("asyncio's own")
    guarded = Timeout(1)
    at = anyio.current_time() + 1
    outer = None

    async def fire():
        if kind == "cancel":
            await anyio.sleep_until(at)
            outer.cancel()
        else:
            await anyio.sleep(0.5)
            if kind == "move_on_after":
                outer.deadline = at
            else:
                outer.reschedule(at)

    async with anyio.create_task_group() as group:
        late = first == "ours"
        before = anyio.current_time()
        try:
            if kind == "asyncio.timeout":
                async with asyncio.timeout_at(at + 9 if late else at) as outer:
                    if late:
                        group.start_soon(fire)
                    await guarded(anyio.sleep_forever)
            else:
                deadline = at if kind == "move_on_after" and not late else at + 9
                with anyio.CancelScope(deadline=deadline) as outer:
                    if kind == "cancel" or late:
                        group.start_soon(fire)
                    await guarded(anyio.sleep_forever)
        except TimeoutError as error:
            reported = error
        else:
            reported = None
        assert about(1.0, backend) == anyio.current_time() - before
        assert 0 == pending_cancellations()
        await anyio.sleep(0.01)  # neither of the two is still on its way

    if kind == "asyncio.timeout" or first == "theirs":
        assert not isinstance(reported, TimeoutExceededError) or kind == "cancel"
    if reported is None:
        assert outer.cancelled_caught


@pytest.mark.parametrize("kind", ["anyio", "asyncio"])
async def test_an_inner_scope_in_the_tick_of_our_deadline_does_not_swallow_ours(backend, kind):
    """
    A scope of the callee's fires at the same instant: ours is the outer one, and it cuts the call (law 31, T6).
    """
    if backend == "uvloop":
        pytest.skip("real time: two timers cannot be made to meet in one tick there")
    if backend == "trio" and kind == "asyncio":
        pytest.skip("asyncio's own")

    async def callee():
        if kind == "anyio":
            with anyio.move_on_after(1):
                await anyio.sleep_forever()
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await anyio.sleep_forever()
        await anyio.sleep(50)
        return "never"

    error, took = await timed(Timeout(1)(callee))

    assert isinstance(error, TimeoutExceededError)
    assert about(1.0, backend) == took
    assert 0 == pending_cancellations()


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize(
    "ends",
    ["cut", "swallowed", "swallowed and uncancelled", "raised", "raised after uncancel", "well"],
)
async def test_the_count_of_pending_cancellations_is_the_same_before_and_after(
    backend, unit, before, ends
):
    """
    `task.cancelling()` is what it was, however the call ends, and even where it was not zero (law 29, T4, PY-002).
    """
    asyncio_only(backend)

    async def callee():
        if ends == "well":
            return "well"
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            if ends == "cut":
                raise
            if "uncancel" in ends:
                asyncio.current_task().uncancel()
            if ends.startswith("raised"):
                raise ValueError("mine") from None
        return "swallowed"

    async def call():
        task = asyncio.current_task()
        for _ in range(before):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        assert before == task.cancelling()
        answer, _ = await timed(Timeout(unit)(callee))
        return answer, task.cancelling()

    answer, after = await asyncio.get_running_loop().create_task(call())

    assert before == after
    expected = {"cut": TimeoutExceededError, "raised": ValueError}.get(ends.split()[0], str)
    assert expected is type(answer)


async def test_a_pending_cancellation_is_not_swallowed(backend, unit):
    """
    `task.cancel()` just before the guarded call: it is raised, however short the deadline (H finding 4, T3).

    `asyncio.timeout(0)` swallows it (cpython #134471).
    """
    asyncio_only(backend)
    reached = []

    async def callee():
        if backend == "uvloop":
            time.sleep(0.003)  # noqa: ASYNC251 - so that our deadline is due before anything is delivered
        else:
            asyncio.get_running_loop().jump(1)
        await anyio.sleep_forever()

    async def call():
        asyncio.current_task().cancel("before")
        try:
            await Timeout(1e-3)(callee)
        except asyncio.CancelledError as error:
            reached.append(error.args)
            raise

    task = asyncio.get_running_loop().create_task(call())
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [("before",)] == reached
    assert 1 == task.cancelling()


@pytest.mark.parametrize(
    "answer", [None, float("nan"), float("inf"), "raises"], ids=["none", "nan", "inf", "raises"]
)
async def test_a_function_that_gives_no_limit_sets_none(backend, unit, answer):
    """
    None, NaN, infinity or a function that raises: the call runs without a deadline (law 21, TO-007).
    """

    def seconds(call):
        if answer == "raises":
            raise RuntimeError("mine")
        return answer

    remaining = []

    async def callee(call):
        remaining.append(call.remaining())
        await anyio.sleep(2 * unit)
        return "well"

    assert "well" == await Timeout(seconds).informed(callee)()
    assert [float("inf")] == remaining


@pytest.mark.parametrize("answer", [0, 0.0, -1, -float("inf")])
async def test_a_function_that_gives_no_time_rejects(backend, answer):
    """
    0 or less: the time is over already, the callee is not called, and it is a rejection, not a timeout (law 21).
    """
    script = Script(42)

    error, _ = await timed(Timeout(lambda _: answer)(script))

    assert isinstance(error, DeadlineExpiredError)
    assert not isinstance(error, TimeoutError)
    assert 0 == script.calls


async def test_a_function_sees_the_call(backend, unit):
    """
    `seconds` may be worked out from the call: its attempt, its key, its arguments' key (TO-007).
    """
    asked = []

    def seconds(call):
        asked.append((call.attempt, call.key))
        return call.attempt * unit

    guarded = Pipeline(Retry(3, on=TimeoutError, wait=lambda _: 0), Timeout(seconds), key="k")
    error, took = await timed(guarded(Script(Hang())))

    assert 3 * unit == error.seconds
    assert [(1, "k"), (2, "k"), (3, "k")] == asked
    assert about(6 * unit, backend) == took
