"""
However a call in the lane ends, it ends as on the linked engine: the error, what is chained to it, what is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import traceback
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from weakref import ref

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    Bulkhead,
    BulkheadFullError,
    CircuitBreaker,
    CircuitOpenError,
    ConcurrencyLimit,
    ConsecutiveFailures,
    Pipeline,
    RateLimit,
    Timeout,
    TimeoutExceededError,
)
from resilience.testing import disabled, engine
from tests.composition.support import about, pending_cancellations, timed
from tests.doors.kit import pipeline, plain_breaker
from tests.doors.lanes import ENGINES, Watched, by_hand, quick_retry, wrapped_on

CALLS = 20
_names = itertools.count(1)


@pytest.fixture(params=ENGINES)
def name(request) -> Any:
    """The engine."""
    return request.param


def asyncio_only(backend: str) -> None:
    if backend == "trio":
        pytest.skip("about asyncio's tasks; on trio a deadline is a scope and leaves the lane")


@types.coroutine
def turn():
    """Hand control back once, to whoever drives."""
    return (yield)


def guards(unit: float) -> dict[str, Callable[[], Any]]:
    """Guards with a lane."""
    return {
        "nothing": Pipeline,
        "breaker": lambda: plain_breaker(10**6),
        "retry": quick_retry,
        "gates": lambda: pipeline(Bulkhead(2), plain_breaker(10**6), ConcurrencyLimit()),
        "deadlines": lambda: pipeline(Timeout(30 * unit), Timeout(5 * unit)),
        "five": lambda: pipeline(
            Timeout(30 * unit), quick_retry(2), plain_breaker(10**6), Bulkhead(2), Timeout(5 * unit)
        ),
    }


# ------------------------------------------------------------------------------ errors


def chain_of(error: BaseException | None) -> Any:
    """Types, texts and notes of an error and of all that is chained to it."""
    if error is None:
        return None
    return (
        type(error),
        str(error),
        getattr(error, "__notes__", []),
        error.__suppress_context__,
        chain_of(error.__cause__),
        chain_of(error.__context__),
    )


async def plainly() -> None:
    raise KeyError("plainly")


async def from_another() -> None:
    try:
        raise LookupError("inside")  # noqa: TRY301 - it is caught on purpose
    except LookupError as error:
        raise KeyError("from another") from error


async def from_none() -> None:
    try:
        raise LookupError("inside")  # noqa: TRY301 - it is caught on purpose
    except LookupError:
        raise KeyError("from none") from None


async def while_handling() -> None:
    try:
        raise LookupError("inside")  # noqa: TRY301 - it is caught on purpose
    except LookupError:
        raise KeyError("while handling")  # noqa: B904 - the context is what is tested


async def retried() -> None:
    raise ConnectionError("retried")


async def grouped() -> None:
    raise ExceptionGroup("several", [ConnectionError("one"), KeyError("two")])


ERRORS = [plainly, from_another, from_none, while_handling, retried, grouped]


async def ended(call: Callable[[], Awaitable[Any]], *, around: bool) -> BaseException:
    """The error, raised while another one is handled or not."""
    if not around:
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - whatever it is
            await call()
        return caught.value
    try:
        raise ValueError("around")  # noqa: TRY301 - it is caught on purpose
    except ValueError:
        return await ended(call, around=False)


@pytest.mark.parametrize("around", [False, True], ids=["alone", "while another is handled"])
@pytest.mark.parametrize("guard", guards(1.0))
@pytest.mark.parametrize("fn", ERRORS, ids=lambda fn: fn.__name__)
async def test_what_is_chained_to_an_error_is_the_same_on_both_engines(
    backend, unit, fn, guard, around
):
    """
    Law 35: cause, context and notes, also where the guarded call is made while another error is handled.
    """
    make = guards(unit)[guard]
    express, linked = [
        chain_of(await ended(wrapped_on(each, make(), fn), around=around)) for each in ENGINES
    ]
    assert linked == express
    bare = chain_of(await ended(fn, around=around))
    if fn is not retried:
        assert bare == express
    if around:
        assert "around" in repr(express)


@pytest.mark.parametrize("guard", guards(1.0))
async def test_the_error_is_the_callees_own(backend, unit, name, guard):
    """
    Law 35: by identity, with the callee at the end of its traceback, each frame once.
    """
    error = KeyError("own")

    async def callee() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    caught = await ended(wrapped_on(name, guards(unit)[guard](), callee), around=True)
    assert error is caught
    frames = traceback.extract_tb(error.__traceback__)
    assert "callee" == frames[-1].name
    assert 1 == [frame.name for frame in frames].count("callee")


async def test_one_error_raised_again_and_again_does_not_grow(backend, name):
    """
    Law 23: calls that raise the same instance through a retry leave its traceback as long as it was.
    """
    error = ConnectionError("again")

    async def callee() -> None:
        raise error

    call = wrapped_on(name, pipeline(quick_retry(2), plain_breaker(10**6)), callee)
    lengths = []
    for _ in range(5):
        await ended(call, around=False)
        lengths.append(len(traceback.extract_tb(error.__traceback__)))
    assert lengths[1] == lengths[-1]


async def test_a_rejection_has_the_context_it_was_raised_in(backend, name):
    """
    Law 35: an open circuit turns away with the error that is handled around as context, and no other.
    """
    gate = plain_breaker(1)
    call = wrapped_on(name, pipeline(quick_retry(1), gate), retried)
    await ended(call, around=False)
    rejection = await ended(call, around=True)
    assert isinstance(rejection, CircuitOpenError)
    assert isinstance(rejection.__context__, ValueError)
    assert rejection.__context__.__context__ is None
    assert (await ended(call, around=False)).__context__ is None


def test_a_stop_iteration_is_what_it_is_in_any_coroutine(name):
    """
    PEP 479: a plain function that raises it fails the call with a `RuntimeError`, and a breaker has seen the former.
    """

    def plain() -> Awaitable[None]:
        raise StopIteration("plainly")

    gate = CircuitBreaker(
        f"ends-{next(_names)}", on=StopIteration, trip=ConsecutiveFailures(1), overdue_after=None
    )
    call = wrapped_on(name, pipeline(gate), plain)
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        by_hand(call())
    assert isinstance(caught.value.__cause__, StopIteration)
    assert "OPEN" == gate.state.name


@pytest.mark.parametrize("result", [5, None, "text"])
def test_what_cannot_be_awaited_is_a_type_error(name, result):
    """
    Law 35: in the words of Python, and nothing stays taken.
    """

    def plain() -> Awaitable[None]:
        return result

    places = Bulkhead(1)
    call = wrapped_on(name, pipeline(places, RateLimit(9)), plain)
    with pytest.raises(TypeError, match="can't be used in 'await' expression"):
        by_hand(call())
    assert 0 == places.in_flight


# ------------------------------------------------------------------------------ garbage


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def one_cut_off(call: Callable[..., Any]) -> None:
    await call(anyio.sleep_forever)


async def one_cancelled(call: Callable[..., Any]) -> None:
    if anyio_is_trio():
        with anyio.move_on_after(0.001):
            await call(anyio.sleep_forever)
        return
    task = asyncio.get_running_loop().create_task(call(anyio.sleep_forever))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def one_of_its_own(call: Callable[..., Any], step: Any) -> None:
    """In a task that ends with it."""

    async def alone() -> None:
        await anyio.lowlevel.checkpoint()  # what fails in an eager first step is kept by asyncio
        await call(step)

    if anyio_is_trio():
        async with anyio.create_task_group() as group:
            group.start_soon(alone)
    else:
        await asyncio.get_running_loop().create_task(alone())


def anyio_is_trio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


async def step_through(step: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    if isinstance(step, type):
        raise step
    return await step() if callable(step) else step


WAYS: dict[str, Callable[[Callable[..., Any]], Awaitable[Any]]] = {
    "success": lambda call: call(1),
    "failure": lambda call: call(KeyError),
    "retried": lambda call: call(ConnectionError),
    "cut off": one_cut_off,
    "cancelled": one_cancelled,
    "a task's success": lambda call: one_of_its_own(call, 1),
    "a task's failure": lambda call: one_of_its_own(call, KeyError),
    "a task's retries": lambda call: one_of_its_own(call, ConnectionError),
    "a task's rejection": lambda call: one_of_its_own(call, None),
    "a task's deadline": lambda call: one_of_its_own(call, anyio.sleep_forever),
}


@pytest.mark.parametrize("door", ["wrap", "call"])
@pytest.mark.parametrize("way", WAYS)
async def test_no_end_of_a_call_leaves_a_cycle(backend, unit, name, collector_off, way, door):
    """
    R11, P11: what a call has held is freed with it, also where its error ends its task; none is left to collect.
    """
    turned_away = way == "a task's rejection"
    gate = plain_breaker(1 if turned_away else 10**6)
    guard = pipeline(Timeout(0.4 * unit), quick_retry(2), gate, Bulkhead(2), Timeout(0.2 * unit))
    if turned_away:
        await guard.outcome(step_through, ConnectionError)
    with engine(name):
        call = guard.wrap(step_through) if door == "wrap" else _called(guard)
        for _ in range(2):  # what the first calls import and cache is not garbage
            await _quietly(WAYS[way], call)
        gc.collect()
        for _ in range(CALLS):
            await _quietly(WAYS[way], call)
    # The loop's own leftovers are constant; a cycle per call would show twenty times.
    assert gc.collect() < CALLS


def _called(guard: Any) -> Callable[..., Any]:
    return lambda step: guard(step_through, step)


async def _quietly(way: Any, call: Any) -> None:
    try:
        await way(call)
    except* (KeyError, ConnectionError, TimeoutError, CircuitOpenError):
        pass


@pytest.mark.parametrize("door", ["wrap", "call"])
async def test_a_guard_that_is_dropped_is_gone_at_once(backend, name, collector_off, door):
    """
    Law 37: neither the lane of ``await p(fn)`` nor a wrapped function makes a cycle with its guard.
    """
    gate = plain_breaker(trip=ConsecutiveFailures(2))
    circuit = ref(gate._core.circuit)
    guard = pipeline(
        Timeout(20), quick_retry(), gate, Bulkhead(2), RateLimit(99), ConcurrencyLimit()
    )
    with engine(name):
        call = guard.wrap(step_through) if door == "wrap" else _called(guard)
        assert 1 == await call(1)
        with pytest.raises(KeyError):
            await call(KeyError)
    del guard, gate
    assert circuit() is not None
    del call
    assert circuit() is None


# ------------------------------------------------------------------------------ coroutines given up


@pytest.mark.parametrize("how", ["close", "collect", "throw"])
@pytest.mark.parametrize("guard", guards(1.0))
async def test_a_coroutine_given_up_gives_everything_back(backend, unit, name, guard, how):
    """
    Trap 1, law 33: closed, dropped or thrown into, it holds no place, and no deadline of it cuts what comes later.
    """
    made = guards(unit)[guard]()

    async def callee() -> None:
        await turn()

    running = wrapped_on(name, made, callee)()
    running.send(None)
    if how == "close":
        running.close()
    elif how == "throw":
        with pytest.raises(KeyError):
            running.throw(KeyError())
    del running
    gc.collect()
    assert_all_given_back(made)
    await anyio.sleep(31 * unit if backend != "uvloop" else 6 * unit)
    assert 0 == pending_cancellations()


def assert_all_given_back(guard: Any) -> None:
    for policy in getattr(guard, "policies", (guard,)):
        assert 0 == getattr(policy, "in_flight", 0), policy


@pytest.mark.parametrize(
    "guard", [each for each in guards(1.0) if each not in ("deadlines", "five")]
)
def test_a_coroutine_is_closed_outside_of_any_loop(name, guard):
    """
    Trap 1: gates need no loop, so what runs behind them may be driven and closed by hand.
    """
    made = guards(1.0)[guard]()

    async def callee() -> None:
        await turn()

    running = wrapped_on(name, made, callee)()
    running.send(None)
    running.close()
    assert_all_given_back(made)


def test_a_coroutine_that_outlives_its_loop_is_closed_quietly(name):
    """
    Trap 1, law 37: begun in a task, with two deadlines, and closed when the loop is gone.
    """
    places = Bulkhead(1)
    begun: list[Any] = []

    async def callee() -> None:
        await turn()

    async def main() -> None:
        call = wrapped_on(name, pipeline(Timeout(60), places, Timeout(30)), callee)
        begun.append(call())
        begun[0].send(None)

    asyncio.run(main())
    assert 1 == places.in_flight
    begun.pop().close()
    assert 0 == places.in_flight


# ------------------------------------------------------------------------------ cut off, and swallowed


async def test_a_result_beats_both_deadlines(backend, unit, name):
    """
    Law 29: the callee swallows two cuts and returns: the result is kept, no cancellation is left, the next call is cut.
    """
    asyncio_only(backend)
    cuts: list[None] = []

    async def stubborn() -> str:
        until = anyio.current_time() + 3 * unit
        while (left := until - anyio.current_time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                cuts.append(None)
        return "kept"

    guard = pipeline(Timeout(2 * unit), plain_breaker(), Bulkhead(1), Timeout(unit))
    call = wrapped_on(name, guard, stubborn)
    for _ in range(2):
        assert ("kept", about(3 * unit, backend)) == await timed(call())
        assert 0 == pending_cancellations()
    assert 4 == len(cuts)
    hangs = wrapped_on(name, guard, anyio.sleep_forever)
    error, took = await timed(hangs())
    assert isinstance(error, TimeoutExceededError)
    assert about(unit, backend) == took
    assert 0 == pending_cancellations()


async def test_what_fails_after_a_swallowed_cut_fails_as_itself(backend, unit, name):
    """
    Law 29: the callee keeps the cut to itself and raises an error of its own: that error, and no cancellation left.
    """
    asyncio_only(backend)

    async def stubborn() -> str:
        try:
            await asyncio.sleep(50)
        except asyncio.CancelledError:
            raise KeyError("own") from None

    call = wrapped_on(name, pipeline(Timeout(2 * unit), plain_breaker(), Timeout(unit)), stubborn)
    error, took = await timed(call())
    assert isinstance(error, KeyError)
    assert about(unit, backend) == took
    assert 0 == pending_cancellations()


async def test_a_caller_who_cancels_as_the_deadline_does_is_heard(backend, unit, name):
    """
    Law 2: a cancellation from outside that was swallowed together with ours stays pending.
    """
    asyncio_only(backend)

    async def stubborn() -> str:
        try:
            await asyncio.sleep(50 * unit)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            try:
                await asyncio.sleep(50 * unit)
            except asyncio.CancelledError:
                return "kept"
        raise AssertionError

    task_count: list[int] = []

    async def caller() -> str:
        answer = await wrapped_on(name, pipeline(Timeout(2 * unit), Timeout(unit)), stubborn)()
        task_count.append(pending_cancellations())
        return answer

    task = asyncio.get_running_loop().create_task(caller())
    assert "kept" == await task
    assert [1] == task_count


@pytest.mark.parametrize("total", [None, 50], ids=["one deadline", "two deadlines"])
@pytest.mark.parametrize("told", [True, False], ids=["uncancelled", "pending"])
@pytest.mark.parametrize("ends", ["well", "badly", "closed"])
async def test_a_cut_that_the_driver_keeps_is_not_the_next_calls(backend, unit, ends, told, total):
    """
    Trap 5, `Wheel.cut`: the first of two coroutines in a task is cut off, and the driver swallows that.
    """
    asyncio_only(backend)
    task = asyncio.current_task()
    assert task is not None

    async def callee(error: Any) -> Any:
        await turn()
        if error is not None:
            raise error
        return "well"

    around = () if total is None else (Timeout(total * unit),)
    call = wrapped_on("express", pipeline(*around, plain_breaker(), Timeout(unit)), callee)
    watched = Watched(call)
    first = call(KeyError("own") if ends == "badly" else None)
    first.send(None)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(2 * unit)
    before = task.uncancel() if told else task.cancelling()

    second = call(None)
    second.send(None)
    assert 1 == watched.left, "the lane knows calls by their task, which is still at the first"
    if ends == "closed":
        first.close()
    else:
        with pytest.raises(StopIteration if ends == "well" else KeyError):
            first.send(None)
    assert 0 == pending_cancellations()

    with pytest.raises(asyncio.CancelledError) as caught:
        await asyncio.sleep(2 * unit)
    with pytest.raises(TimeoutExceededError) as cut:
        second.throw(caught.value)
    assert unit == cut.value.seconds
    assert before == pending_cancellations(), "as many as when it began"
    for _ in range(before):
        task.uncancel()
    assert "well" == by_hand_twice(call(None))
    assert 1 == watched.left, "all is forgotten"


def by_hand_twice(coroutine: Any) -> Any:
    coroutine.send(None)
    return by_hand(coroutine)


async def test_two_calls_in_one_task_keep_two_deadlines(backend, unit):
    """
    Trap 5: both begun before either is cut; the lane has the first, the linked steps the second.
    """
    asyncio_only(backend)

    async def callee() -> str:
        await turn()
        return "well"

    call = wrapped_on("express", Timeout(unit), callee)
    watched = Watched(call)
    first, second = call(), call()
    first.send(None)
    second.send(None)
    assert (1, 0) == watched.seen
    assert "well" == by_hand(first)
    with pytest.raises(asyncio.CancelledError) as caught:
        await asyncio.sleep(2 * unit)
    with pytest.raises(TimeoutExceededError):
        second.throw(caught.value)
    assert 0 == pending_cancellations()


# ------------------------------------------------------------------------------ shields


@pytest.mark.parametrize("leaves", ["returns", "waits"])
@pytest.mark.parametrize("deadlines", [(1, 9), (9, 1), (1.5, 1)], ids=["outer", "inner", "both"])
async def test_shields_are_respected_by_each_deadline_of_a_lane(
    backend, unit, name, deadlines, leaves
):
    """
    Law 32: whichever of two deadlines in one frame falls due inside a shield waits until the task has left it.
    """
    outer, inner = (each * unit for each in deadlines)

    async def callee() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2 * unit)
        if leaves == "waits":
            await anyio.sleep(50 * unit)
        return "kept"

    policies = (
        (Timeout(outer), plain_breaker(), Timeout(inner)) if inner < outer else (Timeout(outer),)
    )
    guard = pipeline(*policies, *(() if inner < outer else (Bulkhead(1),)))
    answer, took = await timed(wrapped_on(name, guard, callee)())
    assert about(2 * unit, backend) == took
    if leaves == "returns":
        assert "kept" == answer
    else:
        assert isinstance(answer, TimeoutExceededError)
    assert 0 == pending_cancellations()
    await anyio.sleep(unit / 10)


@pytest.mark.parametrize("parameter", ["call", "key", "entries"])
async def test_a_shield_is_seen_whatever_the_callee_gets(backend, unit, name, parameter):
    """
    Law 32: the guard's frame is found where a parameter holds the task, under a name that the linked steps use.
    """
    asyncio_only(backend)

    async def sleep() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2 * unit)
        return "kept"

    namespace: dict[str, Any] = {"sleep": sleep}
    exec(f"async def callee({parameter}):\n    return await sleep()", namespace)  # noqa: S102 - a name
    call = wrapped_on(name, Timeout(unit), namespace["callee"])
    assert ("kept", about(2 * unit, backend)) == await timed(call(asyncio.current_task()))


# ------------------------------------------------------------------------------ a guard inside itself


@pytest.mark.parametrize("outer", ["in the lane", "left", "after a failure"])
@pytest.mark.parametrize("inner", ["in the lane", "left"])
async def test_a_task_does_not_wait_for_the_place_it_holds(backend, name, outer, inner):
    """
    H14: whoever stands inside a bulkhead goes in again on that place, however it and the call around run.
    """
    places = Bulkhead(1, queue=5)
    failures = [ConnectionError("first")] if outer == "after a failure" else []
    depth: list[int] = []

    async def callee(level: int) -> str:
        depth.append(places.in_flight)
        if level == 0:
            return "inside"
        if failures:
            raise failures.pop()
        with disabled() if inner == "left" and level < 0 else anyio.CancelScope():
            return await call(level - 1)

    guard = pipeline(quick_retry(2), places)
    call = wrapped_on(name, guard, callee)
    if outer == "left":
        held = places.admit()

        async def free() -> None:
            held.release()

        async with anyio.create_task_group() as group:
            group.start_soon(free)
            assert "inside" == await call(2)
    else:
        assert "inside" == await call(2)
    assert 0 == places.in_flight
    assert {1} == {*depth}


async def test_only_those_inside_go_in_again(backend, name):
    """
    H14, a control: a call around that holds a place of another bulkhead, or none any more, helps nobody in.
    """
    places, other = Bulkhead(1), Bulkhead(5)
    call = wrapped_on(name, places, step_through)
    around = wrapped_on(name, other, step_through)
    with places.admit(), pytest.raises(BulkheadFullError):
        await around(lambda: call(1))
    after = wrapped_on(name, pipeline(quick_retry(1), places), step_through)
    with pytest.raises(KeyError):
        await after(KeyError)
    with places.admit(), pytest.raises(BulkheadFullError):
        await call(1)
    assert 1 == await call(1)


@pytest.mark.parametrize("seconds", [(2, 2), (2, 3), (2, 1)], ids=["same", "longer", "shorter"])
async def test_guards_inside_guards_are_cut_by_the_first(backend, unit, name, seconds):
    """
    Law 31: two guards with a deadline each, both in the lane: the earlier wins and is named, at a tie the outer.
    """
    outer, inner = (each * unit for each in seconds)
    inside = wrapped_on(name, Timeout(inner), anyio.sleep_forever)
    error, took = await timed(wrapped_on(name, Timeout(outer), inside)())
    assert isinstance(error, TimeoutExceededError)
    assert min(outer, inner) == error.seconds
    assert f"Timeout({min(outer, inner)!r})" == error.policy
    assert about(min(outer, inner), backend) == took
    assert 0 == pending_cancellations()
