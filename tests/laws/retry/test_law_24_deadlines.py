"""
Law 24: an attempt starts only if time remains, a sleep only if it ends before the deadline.
"""

import anyio
from tenacity import wait_fixed, wait_none

from resilience import Pipeline, Retry, Timeout, TimeoutExceededError
from resilience.events import RetryScheduled, RetryStopped
from resilience.testing import Recorder, Script, Wait
from tests.composition.support import about, timed


async def test_a_sleep_that_would_outlast_the_deadline_is_not_begun(backend, unit):
    """
    Deadline 11, waits of 3: the fourth attempt at 9 is the last, and its error ends the call then (law 24).
    """
    script = Script(OSError)
    guarded = Pipeline(Timeout(11 * unit), Retry(9, on=OSError, wait=wait_fixed(3 * unit)))

    error, took = await timed(guarded(script))

    # Where time is real a busy machine may have come late to the third attempt.
    attempts = 4 if backend != "uvloop" else min(script.calls, 4)
    assert OSError is type(error)
    assert attempts == script.calls
    assert about(3 * (attempts - 1) * unit, backend) == took
    assert "(deadline)" in error.__notes__[0]


async def test_a_sleep_that_ends_at_the_deadline_is_not_begun(backend, unit):
    """
    "Before" means before: a wait that would end at the very deadline leaves no time for an attempt (law 24).
    """
    script = Script(OSError)
    guarded = Pipeline(Timeout(10 * unit), Retry(9, on=OSError, wait=wait_fixed(10 * unit)))

    error, took = await timed(guarded(script))

    assert OSError is type(error)
    assert 1 == script.calls
    assert about(0.0, backend) == took


async def test_an_attempt_is_cut_at_what_remains(backend, unit):
    """
    The second attempt starts with two seconds left, and gets two, not the whole deadline again (law 24).
    """
    script = Script(OSError, Wait(100 * unit))
    guarded = Pipeline(Timeout(5 * unit), Retry(3, on=OSError, wait=wait_fixed(3 * unit)))

    error, took = await timed(guarded(script))

    assert isinstance(error, TimeoutExceededError)
    assert 5 * unit == error.seconds
    assert 2 == script.calls
    assert about(5 * unit, backend) == took


async def test_an_attempt_that_outlived_the_deadline_is_not_followed_by_another(backend, unit):
    """
    A shielded attempt fails after the deadline: no further one starts, without a wait or with one (law 24).
    """

    async def shielded():
        with anyio.CancelScope(shield=True):
            await anyio.sleep(3 * unit)
        raise OSError("late")

    script = Script(shielded)
    error, took = await timed(
        Pipeline(Timeout(unit), Retry(3, on=OSError, wait=wait_none()))(script)
    )

    assert OSError is type(error)
    assert 1 == script.calls
    assert about(3 * unit, backend) == took


async def test_the_nearest_of_several_deadlines_counts(backend, unit):
    """
    Of two deadlines around a retry the earlier one decides whether a sleep is begun (law 24).
    """
    script = Script(OSError)
    retry = Retry(9, on=OSError, wait=wait_fixed(3 * unit))
    guarded = Pipeline(Timeout(50 * unit), Timeout(4 * unit), retry)

    error, took = await timed(guarded(script))

    assert OSError is type(error)
    assert 2 == script.calls
    assert about(3 * unit, backend) == took


async def test_a_deadline_inside_the_retry_does_not_bound_its_sleeps(backend, unit):
    """
    An attempt's deadline ends with the attempt: the wait after it may be longer (law 24).
    """
    script = Script(Wait(100 * unit), 42)
    guarded = Pipeline(Retry(2, on=TimeoutError, wait=wait_fixed(5 * unit)), Timeout(unit))

    answer, took = await timed(guarded(script))

    assert 42 == answer
    assert about(6 * unit, backend) == took


async def test_a_deadline_of_an_earlier_call_is_forgotten(backend, unit):
    """
    A wrapped function's second call has the whole time again (law 24; TO-006).
    """
    guarded = Pipeline(Timeout(4 * unit), Retry(3, on=OSError, wait=wait_fixed(3 * unit)))
    wrapped = guarded.wrap(Script(OSError, 1, OSError, 2))

    assert 1 == await wrapped()
    assert 2 == await wrapped()


async def test_a_retry_that_stops_for_the_deadline_says_so(backend, unit):
    """
    Listeners hear of each wait that is begun, of none that is not, and why there is no further one (law 24).
    """
    recorder = Recorder()
    guarded = Pipeline(
        Timeout(11 * unit), Retry(9, on=OSError, wait=wait_fixed(4 * unit)), listeners=[recorder]
    )

    await timed(guarded(Script(OSError)))

    assert [4 * unit] * 2 == [event.delay for event in recorder.of(RetryScheduled)]
    (stopped,) = recorder.of(RetryStopped)
    assert (3, "deadline", "OSError") == (stopped.attempts, stopped.reason, stopped.error)


async def test_without_a_deadline_every_wait_is_begun(backend, unit):
    """
    The rule is the deadline's: a retry of its own waits as long as it is told (law 24).
    """
    script = Script(OSError, 42)

    answer, took = await timed(Retry(2, on=OSError, wait=wait_fixed(8 * unit))(script))

    assert 42 == answer
    assert about(8 * unit, backend) == took
