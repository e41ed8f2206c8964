"""
Law 27: a result that is refused to the end is returned, and `outcome` says `exhausted`.
"""

import pytest
from tenacity import (
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
    wait_fixed,
    wait_none,
)

from resilience import Pipeline, Retry, Timeout
from resilience.events import RetryScheduled, RetryStopped
from resilience.testing import Recorder, Script

REFUSALS = {
    "predicate": {"on_result": lambda result: result is None or result < 0},
    "tenacity's": {"on_result": retry_if_result(lambda result: result < 0)},
    "in on": {"on": retry_if_exception_type(OSError) | retry_if_result(lambda result: result < 0)},
}


def retry(attempts=3, refusal="predicate", **options):
    return Retry(attempts, **{"on": OSError, "wait": wait_none(), **REFUSALS[refusal], **options})


async def async_is_negative(result):
    return result < 0


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_the_last_result_is_returned_even_if_refused(backend, refusal):
    """
    Three refused results are three attempts and the third result: no error is made up (law 27, RT-003).
    """
    script = Script(-1, -2, -3)

    assert -3 == await retry(refusal=refusal)(script)
    assert 3 == script.calls


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_welcome_result_ends_it(backend, refusal):
    """
    The first result nobody refuses is the answer, and nothing was exhausted (law 27).
    """
    outcome = await retry(refusal=refusal).outcome(Script(-1, OSError, 7))

    assert (7, 3, False) == (outcome.unwrap(), outcome.attempts, outcome.exhausted)


async def test_the_result_is_the_callees_object(backend):
    """
    A refused result is handed on by identity (law 27).
    """
    last = [-3]
    guarded = Retry(2, on=OSError, on_result=lambda _: True, wait=wait_none())

    assert last is await guarded(Script([-1], last))


@pytest.mark.parametrize(
    "ends",
    [
        retry(),
        retry(None, stop=stop_after_attempt(3)),
        retry(9, stop=lambda state: state.outcome.result() == -3),
    ],
    ids=["attempts", "stop", "a function"],
)
async def test_outcome_says_exhausted(backend, ends):
    """
    `outcome` tells a result that was refused to the end from one that was welcome (law 27).
    """
    outcome = await ends.outcome(Script(-1, -2, -3))

    assert outcome.ok
    assert (-3, 3, True) == (outcome.unwrap(), outcome.attempts, outcome.exhausted)


async def test_a_deadline_returns_the_last_result_too(backend, unit):
    """
    No time for another wait: the refused result is what there is, now, and it is exhausted (laws 24 and 27).
    """
    guarded = Pipeline(Timeout(5 * unit), retry(9, wait=wait_fixed(4 * unit)))

    outcome = await guarded.outcome(Script(-1, -2))

    assert (-2, 2, True) == (outcome.unwrap(), outcome.attempts, outcome.exhausted)


async def test_an_error_after_a_refused_result_is_raised(backend):
    """
    What happened last counts: an error in the last attempt is raised, by identity (laws 23 and 27).
    """
    error = OSError("last")

    outcome = await retry().outcome(Script(-1, -2, error))

    assert error is outcome.error
    assert outcome.exhausted
    assert "earlier: result refused, result refused" in error.__notes__[0]


async def test_a_refused_result_after_an_error_is_returned(backend):
    """
    The other way round: the last attempt returned, so its result is returned (law 27).
    """
    assert -3 == await retry()(Script(OSError, OSError, -3))


async def test_an_error_that_on_does_not_name_ends_it(backend):
    """
    Result predicates do not make other errors worth an attempt (law 27, RT-002).
    """
    script = Script(-1, ValueError("no"))

    with pytest.raises(ValueError, match="no"):
        await retry(9)(script)

    assert 2 == script.calls


async def test_a_predicate_may_be_async(backend):
    """
    An async predicate of the result is awaited (law 28, and law 27 with it).
    """
    guarded = Retry(3, on=OSError, on_result=async_is_negative, wait=wait_none())

    assert 5 == await guarded(Script(-1, 5))


async def test_a_predicate_that_raises_counts_as_a_refusal(backend, caplog):
    """
    A failing predicate is a failure: another attempt, and in the end the result, never the predicate's error (law 6).
    """

    def bad_predicate(result):
        raise RuntimeError("mine")

    script = Script(1, 2, 3)
    assert 3 == await Retry(3, on=OSError, on_result=bad_predicate, wait=wait_none())(script)
    assert 3 == script.calls


async def test_events_have_no_error_where_a_result_was_refused(backend):
    """
    Of a refused result an event tells that it was, and never the result (laws 27 and 36).
    """
    recorder = Recorder()
    guarded = Pipeline(retry(2), listeners=[recorder])

    await guarded(Script(-12345))

    (scheduled,), (stopped,) = recorder.of(RetryScheduled), recorder.of(RetryStopped)
    assert (1, None) == (scheduled.attempt, scheduled.error)
    assert (2, "attempts", None) == (stopped.attempts, stopped.reason, stopped.error)
    assert "12345" not in repr(recorder.events)
