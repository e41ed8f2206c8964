"""
Laws 8 and 10: a permit settles once, and nothing comes between it and the call.
"""

from __future__ import annotations

import gc
import inspect
import itertools

import pytest

from resilience import (
    CircuitBreaker,
    CircuitIsolatedError,
    CircuitOpenError,
    CircuitState,
    ConsecutiveFailures,
    Permit,
    Retry,
)
from resilience.core.circuit import Circuit
from resilience.testing import Script
from tests.laws.breaker.kit import (
    Held,
    a_breaker,
    due,
    free_seats,
    gained,
    open_up,
    pipeline,
    stranger,
    suspended,
    totals,
    visible,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN

ENDINGS = {
    "successes": lambda permit: permit.success(),
    "failures": lambda permit: permit.failure(OSError("down")),
    "ignored": lambda permit: permit.ignore(),
}


@pytest.fixture(params=["closed", "watched", "half-open"])
def breaker(request, clock):
    """A breaker for each way a permit can be taken from it; two failures open the closed ones."""
    options = {"overdue_after": 50.0} if request.param == "watched" else {}
    if request.param == "half-open":
        return due(a_breaker(clock), clock)
    return a_breaker(clock, trip=ConsecutiveFailures(2), **options)


# ------------------------------------------------------------------------------------------ law 8


@pytest.mark.parametrize(("first", "second"), [*itertools.product(ENDINGS, repeat=2)])
def test_a_permit_settles_once_whatever_it_is_told_afterwards(breaker, first, second):
    """
    Law 8, B5, H30, CB-018: a second settle does nothing, of whatever kind it is.
    """
    before, permit = totals(breaker), breaker.admit()
    ENDINGS[first](permit)
    seen = visible(breaker)
    for _ in range(3):
        ENDINGS[second](permit)
    assert seen == visible(breaker)
    assert 1 == gained(breaker, before)[first]
    assert {"openings"} >= gained(breaker, before).keys() - {first}


async def test_a_permit_of_a_pipeline_settles_once(backend, breaker):
    """
    Law 8: success, failure and a caller's own error are counted once each, and the place of a probe is free after each.
    """
    guarded = pipeline(breaker)
    for step, counted in ((1, "successes"), (ValueError, "successes"), (OSError, "failures")):
        before = totals(breaker)
        await guarded.outcome(Script(step))
        assert 1 == gained(breaker, before)[counted]
        if breaker.state is HALF_OPEN:
            assert 1 == free_seats(breaker)


async def test_one_coroutine_awaited_twice_counts_once(backend, breaker):
    """
    Law 8, CB-017: the second await fails before it reaches the breaker.
    """
    before, script = totals(breaker), Script(1)
    coroutine = pipeline(breaker)(script)
    assert 1 == await coroutine
    with pytest.raises(RuntimeError, match="reuse"):
        await coroutine
    assert (1, {"successes": 1}) == (script.calls, gained(breaker, before))


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (None, "successes"),
        (OSError(), "failures"),
        (ValueError(), "successes"),
        (SystemExit(), "ignored"),
    ],
)
def test_a_permit_as_a_context_manager_is_settled_by_the_outcome_of_its_block(
    breaker, error, counted
):
    """
    Law 8: ``with breaker.admit():`` counts as a pipeline would, and lets the error through.
    """
    before = totals(breaker)

    def block():
        with breaker.admit() as permit:
            assert isinstance(permit, Permit)
            if error is not None:
                raise error
        return "passed"

    if error is None:
        assert "passed" == block()
    else:
        with pytest.raises(type(error)) as caught:
            block()
        assert error is caught.value
    assert 1 == gained(breaker, before)[counted]


def test_a_permit_settled_inside_its_block_is_not_settled_again_at_its_end(breaker):
    """
    Law 8: the first word counts, be it an error that leaves the block.
    """
    before = totals(breaker)

    def block():
        with breaker.admit() as permit:
            permit.ignore()
            raise OSError("down")

    with pytest.raises(OSError, match="down"):
        block()
    assert {"ignored": 1} == gained(breaker, before)


def test_a_permit_that_is_dropped_counts_as_ignored_and_warns(breaker):
    """
    Law 8, B16: it gives back what it took, and says whose it was.
    """
    before = totals(breaker)
    permits = [breaker.admit()]
    if breaker.state is HALF_OPEN:
        assert stranger(breaker) is None
        before["rejected"] += 1
    seen = visible(breaker)
    with pytest.warns(ResourceWarning, match=f"{breaker.name!r} was never settled"):
        permits.clear()
    assert seen == visible(breaker)
    assert {"ignored": 1} == gained(breaker, before)
    if breaker.state is HALF_OPEN:
        assert 1 == free_seats(breaker)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_settled_permit_is_dropped_in_silence(breaker, ending):
    """
    Law 8: warnings are errors here, so that a warning too many would be heard.
    """
    permit = breaker.admit()
    assert f"<Permit of {breaker.name!r}>" == repr(permit)
    ENDINGS[ending](permit)
    assert f"<Permit of {breaker.name!r} (settled)>" == repr(permit)
    del permit
    gc.collect()


# ----------------------------------------------------------------------------------------- law 10


def test_admit_and_settle_need_no_loop_and_are_no_coroutines():
    """
    Law 10: synchronous, as is everything else on the way from one state to another.
    """
    steps = [
        getattr(Circuit, name)
        for name in ("admit", "settle", "isolate", "release", "reset", "force")
    ]
    steps += [getattr(Permit, name) for name in ("success", "failure", "ignore")]
    steps += [CircuitBreaker.admit, CircuitBreaker.isolate, CircuitBreaker.reset]
    assert [] == [step for step in steps if inspect.iscoroutinefunction(step)]
    breaker = open_up(a_breaker())
    with pytest.raises(CircuitOpenError):
        breaker.admit()


def _refusing(clock, state):
    """A breaker that turns the next caller away."""
    if state == "open":
        return open_up(a_breaker(clock)), CircuitOpenError
    if state == "half-open":
        breaker = due(a_breaker(clock), clock)
        assert stranger(breaker) is not None
        return breaker, CircuitOpenError
    breaker = a_breaker(clock)
    breaker.isolate()
    return breaker, CircuitIsolatedError


@pytest.mark.parametrize("state", ["open", "half-open", "isolated"])
async def test_the_function_of_a_rejected_call_is_never_called(backend, clock, state):
    """
    Law 10, B17, H46, HO-001: no coroutine is made that nobody would await, through any door.
    """
    breaker, kind = _refusing(clock, state)
    called = []

    async def coroutine():
        raise AssertionError("not reached")

    def function(*_):
        called.append(1)
        return coroutine()

    guarded = pipeline(Retry(3, on=OSError), breaker)
    for _ in range(2):
        with pytest.raises(kind):
            await guarded(function)
        with pytest.raises(kind):
            await guarded.wrap(coroutine)()
        assert isinstance((await guarded.outcome(function)).error, kind)
    assert ([], 6) == (called, breaker.snapshot().rejected)


@pytest.mark.parametrize("state", ["open", "half-open", "isolated"])
async def test_a_rejection_takes_no_time_on_the_loop(backend, clock, state):
    """
    Law 10: a rejected call raises at its first step; it never suspends, so nothing can happen in between.
    """
    breaker, kind = _refusing(clock, state)
    coroutine = pipeline(breaker)(Script(1))
    with pytest.raises(kind):
        coroutine.send(None)


async def test_nothing_is_awaited_between_the_permit_and_the_callee(backend, breaker):
    """
    Law 10, H3, H24: the first suspension is the callee's own, whichever way the breaker is passed.
    """

    async def callee():
        return await suspended("in the callee")

    coroutine = pipeline(breaker)(callee)
    assert "in the callee" == coroutine.send(None)
    with pytest.raises(StopIteration) as caught:
        coroutine.send("answer")
    assert "answer" == caught.value.value
    assert 1 == totals(breaker)["successes"]


async def test_a_call_that_is_torn_down_at_its_first_suspension_leaks_nothing(backend, breaker):
    """
    Laws 2 and 10, H46: a coroutine that is closed, as a collected one is, was nobody's failure.
    """

    async def callee():
        await suspended("in the callee")

    for _ in range(3):
        before = totals(breaker)
        coroutine = pipeline(breaker)(callee)
        coroutine.send(None)
        coroutine.close()
        assert {"ignored": 1} == gained(breaker, before)
    if breaker.state is HALF_OPEN:
        assert 1 == free_seats(breaker)


async def test_an_admitted_call_is_entered_exactly_once(backend, breaker):
    """
    Law 10, B18: one permit, one call.
    """
    script = Script(1)
    assert 1 == await pipeline(breaker)(script)
    assert (1, 1) == (script.calls, totals(breaker)["successes"])


async def test_a_coroutine_object_is_closed_and_never_reaches_the_breaker(backend, breaker):
    """
    Law 10, H46: given one all the same, it is closed, and the error tells the right spelling.
    """
    before = totals(breaker)
    coroutine = Held()()
    with pytest.raises(TypeError, match=r"await guarded\("):
        await pipeline(breaker)(coroutine)
    assert inspect.CORO_CLOSED == inspect.getcoroutinestate(coroutine)
    assert {} == gained(breaker, before)
    assert CLOSED is breaker.state or OPEN is breaker.state
