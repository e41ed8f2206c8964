"""
Laws 2 and 3: who cancelled, and what that says of the dependency.
"""

from __future__ import annotations

import asyncio

import anyio
import pytest

from resilience import (
    CircuitState,
    Pipeline,
    Policy,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.testing import Script
from tests.laws.breaker.kit import (
    Caught,
    Held,
    a_breaker,
    a_cancellation,
    due,
    free_seats,
    gained,
    pipeline,
    totals,
    visible,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class Lobby(Policy):
    """A policy of a user's own that waits before it calls what is inside."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = 0

    def __repr__(self) -> str:
        return f"Lobby({self.seconds})"

    def link(self, step, hub):
        async def waiting(call):
            await anyio.sleep(self.seconds)
            self.passed += 1
            return await step(call)

        return waiting


class FreePassThen(Policy):
    """Lets the first call through at once, and makes the next ones wait in a lobby."""

    def __init__(self, lobby: Lobby) -> None:
        self.lobby = lobby

    def __repr__(self) -> str:
        return f"FreePassThen({self.lobby})"

    def link(self, step, hub):
        waiting, calls = self.lobby.link(step, hub), []

        async def turn(call):
            calls.append(call)
            return await (step if len(calls) == 1 else waiting)(call)

        return turn


@pytest.fixture(params=["closed", "watched", "half-open"])
def breaker(request, clock):
    """A breaker for each way a call can be taken through it."""
    if request.param == "half-open":
        half_open = due(a_breaker(clock, on=Exception), clock)
        half_open.admit().ignore()
        return half_open
    options = {"overdue_after": 50.0} if request.param == "watched" else {}
    return a_breaker(clock, on=Exception, **options)


@pytest.fixture(params=["call", "wrap", "outcome"])
def door(request):
    """The doors that take a function."""
    return {
        "call": lambda p, fn: p(fn),
        "wrap": lambda p, fn: p.wrap(fn)(),
        "outcome": lambda p, fn: p.outcome(fn),
    }[request.param]


async def _left(guarded, callee: Held, door) -> BaseException | None:
    """The caller leaves while the callee runs; what came out of the door."""
    caught = Caught()
    async with anyio.create_task_group() as group:
        group.start_soon(caught, door, guarded, callee)
        await callee.entered.wait()
        group.cancel_scope.cancel()
    return caught.error


# ------------------------------------------------------------------------------------------ law 2


async def test_a_caller_who_leaves_is_ignored_and_not_retried(backend, breaker, door):
    """
    Law 2, H1, H5, HO-027, PY-006: nothing moves but the total, the place is free, and the same object comes out.
    """
    before, seen, callee = totals(breaker), visible(breaker), Held()
    guarded = pipeline(Retry(5, on=Exception), breaker)
    error = await _left(guarded, callee, door)
    assert isinstance(error, anyio.get_cancelled_exc_class())
    assert error is callee.thrown
    assert 1 == callee.calls
    assert seen == visible(breaker)
    assert {"ignored": 1} == gained(breaker, before)
    if breaker.state is HALF_OPEN:
        assert 1 == free_seats(breaker)


async def test_a_task_that_is_cancelled_by_hand_is_ignored(backend, breaker):
    """
    Law 2: edge cancellation of asyncio's own; on trio, where there is none, a scope around one call.
    """
    callee, guarded, before = Held(), pipeline(breaker), totals(breaker)
    if backend == "trio":
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(guarded, callee)
                await callee.entered.wait()
                scope.cancel()
    else:
        task = asyncio.ensure_future(guarded(callee))
        await callee.entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
    assert {"ignored": 1} == gained(breaker, before)


async def test_a_caller_who_has_left_before_the_call_still_gives_the_place_back(backend, breaker):
    """
    Law 2, PY-001: the cancellation is delivered at the callee's first await, inside the permit.
    """
    before = totals(breaker)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pipeline(breaker)(anyio.sleep, 1.0)
    assert scope.cancelled_caught
    assert {"ignored": 1} == gained(breaker, before)
    if breaker.state is HALF_OPEN:
        assert 1 == free_seats(breaker)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_is_no_exception_is_ignored_and_passes_by_identity(backend, breaker, door, kind):
    """
    Law 2, CB-015, H6: accounted once, never retried, never leaks a permit, re-raised unchanged.
    """
    error, before = kind("stop"), totals(breaker)
    script = Script(error)
    with pytest.raises(kind) as caught:
        await door(pipeline(Retry(5, on=Exception), breaker), script)
    assert error is caught.value
    assert (1, ()) == (script.calls, getattr(error, "__notes__", ()))
    assert {"ignored": 1} == gained(breaker, before)
    if breaker.state is HALF_OPEN:
        assert 1 == free_seats(breaker)


async def test_a_cancellation_of_the_callees_own_is_ignored_and_passes_by_identity(
    backend, breaker, door
):
    """
    Law 2: nobody cancelled the caller; the callee raised the cancellation by itself.
    """
    error, before = a_cancellation(), totals(breaker)
    script = Script(error)
    with pytest.raises(type(error)) as caught:
        await door(pipeline(Retry(5, on=Exception), Timeout(50.0), breaker), script)
    assert error is caught.value
    assert 1 == script.calls
    assert {"ignored": 1} == gained(breaker, before)
    if breaker.state is HALF_OPEN:
        assert 1 == free_seats(breaker)


# ------------------------------------------------------------------------------------------ law 3


PLACES = {
    "inside": lambda breaker, timeout: (breaker, timeout),
    "outside": lambda breaker, timeout: (timeout, breaker),
    "outside a retry": lambda breaker, timeout: (timeout, Retry(3, on=OSError), breaker),
    "between retry and breaker": lambda breaker, timeout: (Retry(3, on=OSError), timeout, breaker),
    "inside a named pipeline": lambda breaker, timeout: (Pipeline(timeout, name="in"), breaker),
    "around a named pipeline": lambda breaker, timeout: (timeout, pipeline(breaker, name="in")),
}


@pytest.fixture(params=PLACES)
def around(request):
    """Puts a breaker and a timeout together, each way there is."""
    return PLACES[request.param]


async def test_our_deadline_that_cuts_a_running_call_is_a_failure_wherever_it_stands(
    backend, unit, breaker, around
):
    """
    Law 3, PY-007, H7, H8: the slow dependency opens the circuit, with the timeout inside and with it outside.
    """
    callee, before = Held(), totals(breaker)
    with pytest.raises(TimeoutExceededError):
        await pipeline(*around(breaker, Timeout(unit)))(callee)
    assert 1 == callee.calls
    assert (OPEN, "TimeoutExceededError") == (breaker.state, breaker.snapshot().last_failure)
    assert {"failures": 1, "openings": 1} == gained(breaker, before)


async def test_a_caller_who_leaves_before_our_deadline_is_ignored_wherever_it_stands(
    backend, breaker, around
):
    """
    Law 3: the same pipelines; it is the deadline that makes the difference, not its presence.
    """
    callee, before, seen = Held(), totals(breaker), visible(breaker)
    error = await _left(pipeline(*around(breaker, Timeout(50.0))), callee, lambda p, fn: p(fn))
    assert error is callee.thrown
    assert seen == visible(breaker)
    assert {"ignored": 1} == gained(breaker, before)
    if breaker.state is HALF_OPEN:
        assert 1 == free_seats(breaker)


async def test_a_deadline_that_cuts_what_was_not_yet_a_call_is_ignored(backend, unit, breaker):
    """
    Law 3: settled as failure if the callee had been entered, else as ignored; here a policy in between still waits.
    """
    lobby, script, before = Lobby(5 * unit), Script(1), totals(breaker)
    with pytest.raises(TimeoutExceededError):
        await pipeline(Timeout(unit), breaker, lobby)(script)
    assert (0, 0) == (lobby.passed, script.calls)
    assert {"ignored": 1} == gained(breaker, before)


async def test_a_deadline_between_two_attempts_is_a_failure_of_breakers_around_the_retry(
    backend, unit
):
    """
    Law 3: the callee had been entered since the permit was issued; that it is not running now makes no difference.
    """
    breaker, script = a_breaker(on=ValueError), Script(OSError)
    retry = Retry(3, on=OSError, wait=lambda _: 0.0)
    with pytest.raises(TimeoutExceededError):
        await pipeline(Timeout(unit), breaker, retry, FreePassThen(Lobby(9 * unit)))(script)
    assert (1, OPEN) == (script.calls, breaker.state)


async def test_every_parked_permit_below_the_deadline_is_settled(backend, unit, clock):
    """
    Law 3: two breakers, one round of the same cancellation; each hears of it once.
    """
    outer, inner = a_breaker(clock), a_breaker(clock)
    with pytest.raises(TimeoutExceededError):
        await pipeline(Timeout(unit), outer, inner)(Held())
    for breaker in (outer, inner):
        assert (OPEN, 1, 0) == (
            breaker.state,
            totals(breaker)["failures"],
            totals(breaker)["ignored"],
        )


async def test_a_breaker_around_the_timeout_hears_the_error_and_one_below_the_cut(
    backend, unit, clock
):
    """
    Law 3: above the timeout it is an error with a verdict of its own, which ``ignore`` can give; below it is a cut.
    """
    above, below = a_breaker(clock, ignore=TimeoutExceededError), a_breaker(clock)
    with pytest.raises(TimeoutExceededError):
        await pipeline(above, Timeout(unit), below)(Held())
    assert (CLOSED, 1) == (above.state, totals(above)["ignored"])
    assert (OPEN, 1) == (below.state, totals(below)["failures"])


async def test_the_deadline_of_another_pipeline_is_a_caller_who_leaves(backend, unit, breaker):
    """
    Law 3: a deadline of *this* pipeline counts; what somebody sets around it is their own affair.
    """
    inner, callee, before = pipeline(breaker), Held(), totals(breaker)
    with pytest.raises(TimeoutExceededError):
        await Pipeline(Timeout(unit))(inner, callee)
    assert 1 == callee.calls
    assert {"ignored": 1} == gained(breaker, before)
    with anyio.move_on_after(unit):
        await inner(Held())
    assert {"ignored": 2} == gained(breaker, before)


async def test_a_callee_that_turns_the_cancellation_into_an_answer_has_answered(
    backend, unit, clock
):
    """
    Law 3: nothing was cut off; a parked permit belongs to a cancellation that passed the breaker, and none did.
    """
    breaker = a_breaker(clock)

    async def stubborn():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        return "answered"

    assert "answered" == await pipeline(Timeout(50 * unit), breaker)(stubborn)
    assert (1, 0) == (totals(breaker)["successes"], totals(breaker)["ignored"])


async def test_a_cut_probe_reopens_and_one_that_was_left_hands_its_place_on(backend, unit, clock):
    """
    Laws 3 and 11, together: the same half-open circuit, the two endings one after the other.
    """
    breaker = due(a_breaker(clock), clock)
    guarded = pipeline(Timeout(unit), breaker)
    await _left(guarded, Held(), lambda p, fn: p(fn))
    assert (HALF_OPEN, 1) == (breaker.state, breaker.snapshot().openings)
    with pytest.raises(TimeoutExceededError):
        await guarded(Held())
    assert (OPEN, 2) == (breaker.state, breaker.snapshot().openings)
