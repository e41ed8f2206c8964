"""
Law 25: a rejection is retried only if `on` names it; an open circuit below a retry ends it without a sleep.
"""

import anyio
import pytest
import tenacity
from tenacity import (
    retry_if_exception,
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_type,
    wait_fixed,
    wait_none,
)

from resilience import (
    CircuitIsolatedError,
    CircuitOpenError,
    Pipeline,
    RejectedError,
    Retry,
    Timeout,
)
from resilience.testing import Recorder, Script
from tests.composition.support import about, breaker, timed


def rejection(retry_after=None):
    return CircuitOpenError("below", retry_after=retry_after)


@pytest.mark.parametrize(
    "on",
    [
        Exception,
        (OSError, Exception),
        lambda error: True,
        retry_if_exception_type(Exception),
        retry_if_exception(lambda error: True),
        retry_if_not_exception_type(ValueError),
        tenacity.retry_always,
    ],
    ids=["a base", "among others", "predicate", "type", "strategy", "not a type", "always"],
)
async def test_a_rejection_is_not_retried_unless_it_is_named(backend, on):
    """
    A base class or a predicate that says yes to everything does not name a rejection: one attempt (law 25).
    """
    error = rejection()
    script = Script(error)

    with pytest.raises(CircuitOpenError) as caught:
        await Retry(5, on=on, wait=wait_none())(script)

    assert error is caught.value
    assert 1 == script.calls


@pytest.mark.parametrize(
    "on",
    [
        RejectedError,
        CircuitOpenError,
        (OSError, CircuitOpenError),
        retry_if_exception_type(CircuitOpenError),
        retry_if_exception_type(OSError) | retry_if_exception_type((KeyError, CircuitOpenError)),
        retry_if_exception_type(CircuitOpenError) & retry_if_exception_message(match="circuit"),
    ],
    ids=["the root", "the class", "a tuple", "type", "or", "and"],
)
async def test_a_rejection_that_is_named_is_retried(backend, on):
    """
    `on` names it itself or by a class of rejections, through tenacity's objects and unions too (law 25).
    """
    script = Script(rejection(), rejection(), 42)

    assert 42 == await Retry(5, on=on, wait=wait_none())(script)


@pytest.mark.parametrize(
    "on",
    [
        retry_if_not_exception_type(CircuitOpenError),
        retry_if_not_exception_type((ValueError, RejectedError)),
        tenacity.retry_unless_exception_type(CircuitOpenError),
        retry_if_exception_type(CircuitOpenError) & retry_if_exception_message(match="database"),
        retry_if_exception_type(CircuitOpenError) & retry_if_not_exception_type(RejectedError),
    ],
    ids=["not", "not the root", "unless", "and a text it has not", "and not"],
)
async def test_a_name_is_leave_to_ask_not_the_answer(backend, on):
    """
    "Retry unless it is a CircuitOpenError" names it too, and says no: the strategy has the last word (law 25).
    """
    script = Script(rejection())

    with pytest.raises(CircuitOpenError):
        await Retry(5, on=on, wait=wait_none())(script)

    assert 1 == script.calls


async def test_a_class_below_the_named_one_is_named(backend):
    """
    Naming CircuitOpenError names CircuitIsolatedError, and not the other way round (law 25).
    """
    isolated, opened = Script(CircuitIsolatedError("below")), Script(rejection())

    with pytest.raises(CircuitIsolatedError):
        await Retry(3, on=CircuitOpenError, wait=wait_none())(isolated)
    with pytest.raises(CircuitOpenError):
        await Retry(3, on=CircuitIsolatedError, wait=wait_none())(opened)

    assert (3, 1) == (isolated.calls, opened.calls)


async def test_the_retry_after_of_a_named_rejection_is_the_floor_of_the_wait(backend, unit):
    """
    It waits 3 for a circuit that is open for 3, not 1; and 5 where the wait is longer than the break (law 25).
    """
    on = (OSError, CircuitOpenError)

    answer, took = await timed(
        Retry(2, on=on, wait=wait_fixed(unit))(Script(rejection(3 * unit), 42))
    )
    assert (42, about(3 * unit, backend)) == (answer, took)

    answer, took = await timed(
        Retry(2, on=on, wait=wait_fixed(5 * unit))(Script(rejection(3 * unit), 42))
    )
    assert (42, about(5 * unit, backend)) == (answer, took)


async def test_a_named_rejection_beyond_max_delay_stops(backend):
    """
    A circuit that is open for longer than any wait may last is not waited for (law 25, law 26).
    """
    error = rejection(61.0)

    answer, took = await timed(Retry(3, on=CircuitOpenError, wait=wait_none())(Script(error)))

    assert error is answer
    assert about(0.0, backend) == took


async def test_a_real_breaker_is_waited_for_where_it_is_named(backend, unit):
    """
    Opened by the first attempt, waited out, closed by the second (law 25).
    """
    gate = breaker(1, break_duration=3 * unit)
    guarded = Pipeline(
        Retry(5, on=(OSError, CircuitOpenError), wait=wait_fixed(unit / 100)), gate, Timeout(50)
    )

    answer, took = await timed(guarded(Script(OSError, 42)))

    assert 42 == answer
    assert about(3 * unit, backend) == took


async def test_an_open_circuit_ends_the_retry_before_it_began(backend):
    """
    The first attempt is rejected: no sleep, no second one, and the rejection itself is raised (law 25, law 4, RT-023).
    """
    gate = breaker()
    gate.isolate()
    script = Script(OSError)

    error, took = await timed(
        Pipeline(Retry(5, on=OSError, wait=wait_fixed(10)), gate, Timeout(50))(script)
    )

    assert isinstance(error, CircuitIsolatedError)
    assert about(0.0, backend) == took
    assert 0 == script.calls


async def test_a_circuit_that_opens_meanwhile_ends_the_retry_without_a_sleep(backend):
    """
    Two failures open it: nobody sleeps for a third attempt, and the second error names the circuit (law 25).

    pyresilience sleeps first, and raises the rejection in the place of the error.
    """
    first, second = OSError(1), OSError(2)
    script = Script(first, second, 42)
    gate = breaker(2)
    guarded = Pipeline(Retry(5, on=OSError, wait=wait_fixed(0.01)), gate, Timeout(50))

    error, took = await timed(guarded(script))

    assert second is error
    assert 2 == script.calls
    assert about(0.01, backend) == took
    (note,) = error.__notes__
    assert "CircuitOpenError" in note
    assert gate.name in note


async def test_outcome_sees_the_rejection_that_ended_it(backend):
    """
    `outcome` has the error of the attempt that ran, and the rejection that kept the next from running (law 25).
    """
    gate = breaker(2)
    guarded = Pipeline(Retry(5, on=OSError, wait=wait_none()), gate, Timeout(50))

    outcome = await guarded.outcome(Script(OSError(1), OSError(2)))

    assert (2,) == outcome.error.args
    assert 2 == outcome.attempts
    assert isinstance(outcome.rejection, CircuitOpenError)
    assert gate.name == outcome.rejection.breaker
    assert not outcome.exhausted


async def test_a_rejection_in_a_later_attempt_leaves_the_last_error(backend):
    """
    A policy below that turns the second attempt away: the first one's error is raised, the rejection seen (law 4, 25).
    """
    failed, refused = OSError("ran"), rejection()

    outcome = await Retry(5, on=OSError, wait=wait_none()).outcome(Script(failed, refused, 42))

    assert failed is outcome.error
    assert refused is outcome.rejection


async def test_a_rejection_after_a_refused_result_leaves_the_result(backend):
    """
    The last answer of the dependency was a result nobody liked; it is what the caller gets (law 25, law 27).
    """
    outcome = await Retry(5, on=OSError, on_result=lambda r: r < 0, wait=wait_none()).outcome(
        Script(-1, -2, rejection())
    )

    assert -2 == outcome.unwrap()
    assert isinstance(outcome.rejection, CircuitOpenError)
    assert outcome.exhausted


async def test_a_wait_that_outlasts_the_break_is_worth_it(backend, unit):
    """
    A circuit that admits a probe before the wait is over is not open for the next attempt (law 25).
    """
    gate = breaker(1, break_duration=unit)
    guarded = Pipeline(Retry(2, on=OSError, wait=wait_fixed(2 * unit)), gate, Timeout(50))

    answer, took = await timed(guarded(Script(OSError, 42)))

    assert (42, about(2 * unit, backend)) == (answer, took)


async def test_a_breaker_around_the_retry_does_not_end_it(backend):
    """
    "Below" is below: a circuit outside that opens meanwhile lets the attempts go on (law 25).
    """
    gate = breaker(1)

    async def others_fail():
        if gate.state.name == "CLOSED":
            gate.admit().failure(OSError())
            raise OSError("first")
        return 42

    with pytest.warns(UserWarning, match="hides failed attempts"):
        guarded = Pipeline(gate, Retry(2, on=OSError, wait=wait_none()), Timeout(50))

    assert 42 == await guarded(others_fail)


async def test_events_tell_of_the_end_by_rejection(backend):
    """
    A retry that ended for an open circuit says so, with the attempts that ran and the error's name (law 25).
    """
    recorder = Recorder()
    guarded = Pipeline(
        Retry(5, on=OSError, wait=wait_none()), breaker(2), Timeout(50), listeners=[recorder]
    )

    await guarded.outcome(Script(OSError))

    (stopped,) = [event for event in recorder if type(event).__name__ == "RetryStopped"]
    assert ("rejected", 2, "OSError") == (stopped.reason, stopped.attempts, stopped.error)


async def test_a_disabled_inner_pipeline_has_no_gate(backend):
    """
    A breaker that is switched off for this call rejects nothing, so it ends nothing either (law 25, law 38).
    """
    gate = breaker()
    gate.isolate()
    inner = Pipeline(gate, Timeout(50), name="inner", enabled=lambda: False)
    guarded = Pipeline(Retry(3, on=OSError, wait=wait_none()), inner)

    assert 42 == await guarded(Script(OSError, OSError, 42))


async def test_a_deadline_that_has_passed_is_a_rejection_like_others(backend):
    """
    A timeout function that says 0: the call never ran, and `on=Exception` does not try again (law 25, law 21).
    """
    script = Script(42)

    outcome = await Pipeline(
        Retry(5, on=Exception, wait=wait_none()), Timeout(lambda _: 0)
    ).outcome(script)

    assert "DeadlineExpiredError" == type(outcome.error).__name__
    assert 0 == script.calls == outcome.attempts
    await anyio.lowlevel.checkpoint()
