"""
What other toolkits' suites expect of a timeout: the cases TO-*.

Cases without a test, and why:

======  ==========================================================================================
TO-013  there is no hedging yet
TO-015  there is one mode: the callee is cancelled and awaited; giving up a call that still runs leaks it
======  ==========================================================================================

Decided by the laws: in TO-007 a limit of 0 or less has expired and rejects, it does not mean "no limit" (law 21).
"""

import asyncio

import anyio
import pytest
from tenacity import wait_fixed, wait_none

from resilience import (
    DeadlineExpiredError,
    Pipeline,
    PipelineWarning,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.events import TimedOut
from resilience.testing import Hang, Recorder, Script, Wait
from tests.composition.support import about, pending_cancellations, timed


async def test_to_001_the_callee_is_cancelled_and_the_limit_named(backend, unit):
    """
    TO-001: inner cancelled, an error with the limit, and (on asyncio, which has it) the cancellation as its cause.
    """
    ended = []

    async def callee():
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            ended.append(error)
            raise

    error, _ = await timed(Timeout(unit)(callee))

    assert unit == error.seconds
    assert isinstance(ended[0], anyio.get_cancelled_exc_class())
    if backend != "trio":
        assert ended[0] is error.__cause__


PLACES = {
    "timeout": lambda t: Timeout(50 * t),
    "retry(timeout)": lambda t: Pipeline(Retry(3, on=Exception, wait=wait_none()), Timeout(50 * t)),
    "timeout(retry)": lambda t: Pipeline(Timeout(50 * t), Retry(3, on=Exception, wait=wait_none())),
    "timeout(timeout)": lambda t: Pipeline(Timeout(60 * t), Timeout(50 * t)),
    "a function": lambda t: Timeout(lambda call: 50 * t),
}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("leaves", ["scope", "task"])
async def test_to_002_and_003_the_callers_cancellation_is_the_callers(backend, unit, make, leaves):
    """
    TO-002, TO-003: a cancellation and no timeout, in the caller's own scope or task, and no event of a timeout.
    """
    if (backend, leaves) == ("trio", "task"):
        pytest.skip("trio has no Task.cancel")
    recorder = Recorder(TimedOut)
    script = Script(Hang())
    guarded = Pipeline(make(unit), name="named", listeners=[recorder])

    if leaves == "scope":
        with anyio.move_on_after(unit) as scope:
            await guarded(script)
        assert scope.cancelled_caught
    else:
        task = asyncio.get_running_loop().create_task(guarded(script))
        await anyio.sleep(unit)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    assert (1, 0, 0) == (script.calls, len(recorder), pending_cancellations())


async def test_to_005_a_value_beats_the_deadline_that_fired(backend, unit):
    """
    TO-005: the callee finished with a value although the deadline fired: the value wins.
    """

    async def callee():
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return "value"

    assert "value" == await Timeout(unit)(callee)


@pytest.mark.parametrize("end", ["returns", "raises", "is cut"])
async def test_to_006_afterwards_the_callers_deadline_is_as_before(backend, unit, end):
    """
    TO-006: what the caller had is what the caller has: its scope is open, its time not shortened, its count the same.
    """
    steps = {"returns": 42, "raises": OSError, "is cut": Hang()}
    with anyio.fail_after(50 * unit) as scope:
        deadline = anyio.current_effective_deadline()
        await timed(Timeout(unit)(Script(steps[end])))
        assert deadline == anyio.current_effective_deadline()
        await anyio.sleep(2 * unit)

    assert not scope.cancel_called
    assert 0 == pending_cancellations()


async def test_to_007_a_function_gives_each_call_its_limit(backend, unit):
    """
    TO-007: per call; None and infinity: no limit; 0 or less: expired (law 21).
    """
    limits = iter([unit, None, float("inf"), 3 * unit, 0, -1])
    policy = Timeout(lambda call: next(limits))
    found = [type((await timed(policy(Script(Wait(2 * unit, 42)))))[0]) for _ in range(6)]

    assert [
        TimeoutExceededError,
        int,
        int,
        int,
        DeadlineExpiredError,
        DeadlineExpiredError,
    ] == found


async def test_to_009_of_two_timeouts_inside_a_retry_the_shorter_fires_each_time(backend, unit):
    """
    TO-009: retry x 3 (outer 1 (inner 2)): the outer one fires three times, the inner never.
    """
    recorder = Recorder(TimedOut)
    inner = Pipeline(Timeout(2 * unit), name="inner", listeners=[recorder])

    async def call():
        return await inner(Script(Hang()))

    guarded = Pipeline(
        Retry(3, on=TimeoutError, wait=wait_none()),
        Timeout(unit),
        name="outer",
        listeners=[recorder],
    )
    error, took = await timed(guarded(call))

    assert isinstance(error, TimeoutExceededError)
    assert ["outer"] * 3 == [event.pipeline for event in recorder]
    assert about(3 * unit, backend) == took


async def test_to_010_the_outer_timeout_ends_the_retries(backend, unit):
    """
    TO-010: total 5, ten attempts of 1: at least three inner timeouts, then the outer one, and no attempt after it.
    """
    recorder = Recorder(TimedOut)
    script = Script(Hang())
    with pytest.warns(PipelineWarning, match="10 attempts"):
        guarded = Pipeline(
            Timeout(5.5 * unit),
            Retry(10, on=TimeoutError, wait=wait_none()),
            Timeout(unit),
            listeners=[recorder],
        )

    error, took = await timed(guarded(script))

    assert 5.5 * unit == error.seconds
    assert about(5.5 * unit, backend) == took
    assert [unit, 5.5 * unit] == sorted({event.seconds for event in recorder})
    assert 5.5 * unit == recorder.events[-1].seconds
    calls = script.calls
    assert len(recorder) == calls
    assert calls == 6 or (
        backend == "uvloop" and 4 <= calls < 6
    )  # where time is real it may be late
    await anyio.sleep(2 * unit)
    assert calls == script.calls


async def test_to_011_an_outer_timeout_during_a_retry_delay(backend, unit):
    """
    TO-011: no further attempt. In one pipeline the delay is not begun; around a function it is cut.
    """
    script = Script(OSError)
    retry = Retry(5, on=OSError, wait=wait_fixed(9 * unit))

    error, took = await timed(Pipeline(Timeout(2 * unit), retry)(script))
    assert isinstance(error, OSError)
    assert not isinstance(error, TimeoutExceededError)
    assert (1, about(0.0, backend)) == (script.calls, took)

    error, took = await timed(Timeout(2 * unit)(retry.wrap(script)))
    assert isinstance(error, TimeoutExceededError)
    assert (2, about(2 * unit, backend)) == (script.calls, took)


async def test_to_014_nothing_piles_up(backend):
    """
    TO-014: after very many calls there are no more timers, entries or tasks than after one.
    """
    if backend != "asyncio":
        pytest.skip(
            "the timers of the other loops cannot be counted; the traps count these for eager tasks too"
        )
    loop = asyncio.get_running_loop()
    guarded = Pipeline(Timeout(60), Timeout(50), Timeout(lambda call: 40)).wrap(Script(42).__call__)

    def kept():
        return (
            sum(not handle.cancelled() for handle in loop._scheduled),
            len(loop._ready),
            len(asyncio.all_tasks()),
        )

    await guarded()
    after_one = kept()
    for _ in range(10_000):
        await guarded()

    assert after_one == kept()
