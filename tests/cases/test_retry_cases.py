"""
What other toolkits' suites expect of a retry: the cases RT-*.

Cases that the laws decide otherwise are asserted in the law's sense. Cases without a test, and why:

======  ==========================================================================================
RT-021  a retry sees functions and errors, no HTTP methods; what may be repeated is the caller's to know
RT-022  (as RT-021) bodies that were consumed are the client library's
======  ==========================================================================================

RT-007 holds for cancel scopes of either library. A bare ``Task.cancel`` that the callee answers with an error is over
for asyncio, and the retry sees an error like any other.

Decided by the laws: RT-005 (nothing waits before the first attempt, so a caller that is cancelled already enters the
callee, whose first wait is cancelled, as in the bare call: law 34); RT-010 (a negative wait becomes the default wait,
with a warning: law 21); the second half of RT-018 (a wait that follows a server's is the strategy's own for that
attempt; nothing restarts: law 26).
"""

import anyio
import pytest
import tenacity
from tenacity import stop_never, wait_fixed, wait_incrementing, wait_none

from resilience import (
    CircuitOpenError,
    FullJitter,
    Pipeline,
    PipelineWarning,
    ResilienceWarning,
    Retry,
    Timeout,
)
from resilience.events import RetryScheduled, RetryStopped
from resilience.testing import Recorder, Script, Wait, instant
from tests.composition.support import about, breaker, timed


class Half:
    """Chance that always says one half."""

    def random(self):
        return 0.5


@pytest.mark.parametrize("retries", [0, 1, 4])
async def test_rt_001_n_retries_are_n_plus_1_invocations(backend, retries):
    """
    RT-001: n + 1 invocations, n events of a retry, and the last error unwrapped.
    """
    recorder = Recorder(RetryScheduled)
    errors = [OSError(n) for n in range(retries + 1)]
    script = Script(*errors)
    guarded = Pipeline(Retry(retries + 1, on=OSError, wait=wait_none()), listeners=[recorder])

    error, _ = await timed(guarded(script))

    assert errors[-1] is error
    assert (retries + 1, retries) == (script.calls, len(recorder))


async def test_rt_002_an_unhandled_error_is_one_invocation_without_a_delay(backend):
    """
    RT-002: not named in `on`: one call, no time spent.
    """
    script = Script(KeyError)

    error, took = await timed(Retry(5, on=OSError, wait=wait_fixed(9))(script))

    assert isinstance(error, KeyError)
    assert (1, about(0.0, backend)) == (script.calls, took)


async def test_rt_003_a_result_that_stays_bad_is_returned(backend):
    """
    RT-003: the bad result itself, and `outcome` to tell; there is no error to fail with.
    """
    outcome = await Retry(3, on=OSError, on_result=lambda r: r == "bad", wait=wait_none()).outcome(
        Script("bad")
    )

    assert ("bad", 3, True) == (outcome.unwrap(), outcome.attempts, outcome.exhausted)


async def test_rt_005_cancelled_before_the_first_call(backend):
    """
    RT-005 by law 34: what the bare call does, and no attempt after it.
    """
    bare, guarded = Script(Wait(1, 42)), Script(Wait(1, 42))

    for call in (bare, lambda: Retry(5, on=Exception, wait=wait_none())(guarded)):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught

    assert bare.calls == guarded.calls == 1


async def test_rt_006_cancelled_during_a_call_that_returns_a_value(backend, unit):
    """
    RT-006: the value is returned.
    """

    async def callee():
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return "value"

    with anyio.CancelScope(deadline=anyio.current_time() + unit):
        value = await Retry(3, on=Exception)(callee)

    assert "value" == value


async def test_rt_007_cancelled_during_a_call_that_fails(backend, unit):
    """
    RT-007: a call that answers the cancellation of its scope with an error is not made again.
    """
    calls = []

    async def callee():
        calls.append(1)
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            raise OSError("while closing") from None

    with anyio.move_on_after(unit) as scope:
        await Retry(5, on=OSError, wait=wait_none())(callee)

    assert scope.cancelled_caught
    assert [1] == calls


@pytest.mark.parametrize("answer", [None, -1, -0.5], ids=["none", "-1", "-0.5"])
async def test_rt_009_and_010_a_delay_that_is_none(backend, answer):
    """
    RT-009, RT-010: None or less than nothing: the default wait, with one warning; not "stop", not "at once".
    """
    retry = Retry(3, on=OSError, wait=lambda state: answer, rng=Half(), max_delay=0.02)

    with pytest.warns(ResilienceWarning, match="became the default wait"):
        error, took = await timed(retry(Script(OSError)))

    assert isinstance(error, OSError)
    assert about(0.04, backend) == took


async def test_rt_011_a_zero_delay_sets_no_timer(backend, monkeypatch):
    """
    RT-011: no time passes and nothing sleeps; other tasks have their turn.
    """

    def boom(*_):
        raise AssertionError("slept")

    turns = []

    async def other():
        turns.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        monkeypatch.setattr(anyio, "sleep", boom)
        error, took = await timed(Retry(3, on=OSError, wait=wait_none())(Script(OSError)))
        monkeypatch.undo()

    assert isinstance(error, OSError)
    assert "slept" not in str(error)
    assert (about(0.0, backend), [True]) == (took, turns)


async def test_rt_013_an_error_that_aborts(backend):
    """
    RT-013: a predicate says no: that outcome surfaces, and an event tells that it was given up.
    """
    recorder = Recorder()
    abort = PermissionError("abort")
    guarded = Pipeline(
        Retry(5, on=lambda e: not isinstance(e, PermissionError), wait=wait_none()),
        listeners=[recorder],
    )

    error, _ = await timed(guarded(Script(OSError, abort)))

    assert abort is error
    (stopped,) = recorder.of(RetryStopped)
    assert (2, "not retryable", "PermissionError") == (
        stopped.attempts,
        stopped.reason,
        stopped.error,
    )


async def test_rt_014_what_a_listener_hears_of_a_retry(backend, unit):
    """
    RT-014: the attempt that failed (from 1), the delay about to be slept, the time so far and how it failed.
    """
    recorder = Recorder(RetryScheduled)
    guarded = Pipeline(
        Retry(3, on=OSError, wait=wait_incrementing(unit, unit)),
        name="heard",
        listeners=[recorder],
    )

    await guarded(Script(Wait(unit, OSError), Wait(unit, TimeoutError), 42))

    first, second = recorder.events
    assert ("heard", 1, unit, "OSError") == (
        first.pipeline,
        first.attempt,
        first.delay,
        first.error,
    )
    assert (2, 2 * unit, "TimeoutError") == (second.attempt, second.delay, second.error)
    assert about(unit, backend) == first.elapsed
    assert about(3 * unit, backend) == second.elapsed


async def test_rt_015_without_a_limit_it_goes_on(backend):
    """
    RT-015: no overflow of attempts or waits, however many there have been.
    """
    count = 3000 if backend != "uvloop" else 300
    script = Script(*[OSError] * count, "at last")

    with instant():
        outcome = await Retry(on=OSError, stop=stop_never).outcome(script)

    assert ("at last", count + 1) == (outcome.unwrap(), outcome.attempts)
    assert [5.0, 5.0, 5.0] == [FullJitter().bound(n) for n in (1024, 10**6, 2**63)]


async def test_rt_017_retry_after(backend, unit):
    """
    RT-017: a delta is waited for, what has passed is no wait; dates are in the tests of law 26.
    """

    class TooManyError(OSError):
        def __init__(self, said):
            self.retry_after = said

    script = Script(TooManyError(2 * unit), TooManyError(0), 42)

    answer, took = await timed(Retry(3, on=OSError, wait=wait_none())(script))

    assert (42, about(2 * unit, backend)) == (answer, took)


async def test_rt_018_pushback_is_slept_exactly_and_attempts_still_count(backend, unit):
    """
    RT-018: exactly what the server said, then the strategy's own wait, and no more attempts than allowed.
    """

    class PushedError(OSError):
        retry_after = None

    pushed = PushedError()
    pushed.retry_after = 3 * unit
    script = Script(pushed, OSError, OSError, 42)
    retry = Retry(3, on=OSError, wait=wait_incrementing(start=0, increment=unit))

    error, _ = await timed(retry(script))

    assert isinstance(error, OSError)
    assert [about(n * unit, backend) for n in (0, 3, 4)] == script.times


async def test_rt_019_nested_retries_multiply_and_report_each_for_itself(backend):
    """
    RT-019: 2 x 3 attempts, which is warned of at build; the events tell which of the two it was.
    """
    recorder = Recorder(RetryScheduled)
    outer, inner = Retry(2, on=OSError, wait=wait_none()), Retry(3, on=OSError, wait=wait_none())
    with pytest.warns(PipelineWarning, match="6 attempts"):
        guarded = Pipeline(outer, inner, listeners=[recorder])
    script = Script(OSError)

    await timed(guarded(script))

    assert 6 == script.calls
    labels = [event.policy for event in recorder]
    assert [repr(inner)] * 2 + [repr(outer)] + [repr(inner)] * 2 == labels
    assert [1, 2, 1, 1, 2] == [event.attempt for event in recorder]


async def test_rt_023_an_open_circuit_below_is_not_spun_on(backend):
    """
    RT-023: one rejection, no sleep, and it counts as one.
    """
    gate = breaker(1, break_duration=1000)
    gate.admit().failure(OSError())
    guarded = Pipeline(Retry(50, on=Exception, wait=wait_none()), gate, Timeout(50))

    error, took = await timed(guarded(Script(42)))

    assert isinstance(error, CircuitOpenError)
    assert (1, about(0.0, backend)) == (gate.snapshot().rejected, took)


async def test_a_user_of_tenacity_finds_attempts_meant_the_same(backend):
    """
    `stop_after_attempt(n)` there and `attempts=n` here are the same number of calls.
    """
    theirs, ours = Script(OSError), Script(OSError)
    loop = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(4), reraise=True, sleep=anyio.sleep
    )

    await timed(loop(theirs.__call__))
    await timed(Retry(4, on=OSError, wait=wait_none())(ours))

    assert theirs.calls == ours.calls == 4


async def test_the_default_wait_is_full_jitter_from_a_tenth_of_a_second(backend):
    """
    The stated default: at most 0.1, 0.2, 0.4 ... seconds, uniformly from nothing.
    """
    if backend == "uvloop":
        pytest.skip("real time: a third of a second for what the virtual loops show")
    script = Script(OSError)
    await timed(Retry(5, on=OSError, rng=Half())(script))

    assert FullJitter() == Retry(on=OSError).wait
    assert [0.0, 0.05, 0.15, 0.35, 0.75] == pytest.approx(script.times)
