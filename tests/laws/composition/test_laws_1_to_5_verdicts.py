"""
Laws 1 to 5 across policies: what a call's end means to every policy around it.
"""

import asyncio

import anyio
import pytest
from tenacity import wait_fixed, wait_none

from resilience import (
    CircuitOpenError,
    CircuitState,
    ConsecutiveFailures,
    DeadlineExpiredError,
    Pipeline,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.events import CallFinished, RetryScheduled
from resilience.testing import Hang, Recorder, Script, forced
from tests.composition.support import Queue, about, breaker, pending_cancellations, timed

SHAPES = {
    "timeout(breaker)": lambda gate: Pipeline(Timeout(100), gate, Timeout(50)),
    "breaker(timeout)": lambda gate: Pipeline(gate, Timeout(50)),
    "retry(breaker)": lambda gate: Pipeline(retry(), gate, Timeout(50)),
    "timeout(retry(breaker(timeout)))": lambda gate: Pipeline(
        Timeout(100), retry(), gate, Timeout(30)
    ),
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def retry(attempts=3, on=OSError):
    return Retry(attempts, on=on, wait=wait_none())


def counts(gate):
    """What the breaker has counted in its life, and what it has now."""
    snapshot = gate.snapshot()
    totals = snapshot.totals
    return totals.successes, totals.failures, totals.ignored, snapshot.calls, gate.state.name


# ------------------------------------------------------------------------------------- 1


@shapes
async def test_a_success_is_one(backend, shape):
    """
    One success, whatever stands around the breaker (law 1).
    """
    gate = breaker()

    assert 42 == await shape(gate)(Script(42))
    assert (1, 0, 0, 1, "CLOSED") == counts(gate)


@shapes
async def test_a_failure_is_one_for_each_attempt(backend, shape):
    """
    Each attempt that reached the dependency and failed is one failure (law 1, CP-005).
    """
    gate = breaker(9)
    script = Script(OSError)

    with pytest.raises(OSError, match="step"):
        await shape(gate)(script)

    assert (0, script.calls, 0, script.calls, "CLOSED") == counts(gate)


@shapes
async def test_what_is_ignored_changes_nothing(backend, shape):
    """
    Ignored: no counter of the window, no state, no timer moves; only the lifetime total says there was a call (law 1).
    """
    gate = breaker(1, on=Exception, ignore=KeyError)

    with pytest.raises(KeyError):
        await shape(gate)(Script(KeyError))

    assert (0, 0, 1, 0, "CLOSED") == counts(gate)


@shapes
async def test_an_answer_that_is_no_failure_is_a_success(backend, shape):
    """
    An error that `on` does not name came from a dependency that answers (law 5, CB-013).
    """
    gate = breaker(1)

    with pytest.raises(KeyError):
        await shape(gate)(Script(KeyError))

    assert (1, 0, 0, 1, "CLOSED") == counts(gate)


# ------------------------------------------------------------------------------------- 2


class Odd(BaseException):
    """No `Exception`: nobody's to judge."""


@shapes
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Odd])
async def test_what_is_no_exception_is_nobodys_to_judge(backend, shape, kind):
    """
    Not retried, not counted, not replaced: the same object comes out, after one attempt (law 2, H6, P9, CB-015).
    """
    gate = breaker(1, on=Exception)
    error = kind("mine")
    script = Script(error)

    with pytest.raises(kind) as caught:
        await shape(gate)(script)

    assert error is caught.value
    assert 1 == script.calls
    assert (0, 0, 1, 0, "CLOSED") == counts(gate)


@shapes
async def test_a_cancellation_from_outside_is_ignored(backend, unit, shape):
    """
    The caller leaves: one attempt, no verdict, the permit is back, the same object passes (law 2, H5, PY-006).
    """
    gate = breaker(1, on=Exception)
    script = Script(Hang())
    seen = []

    async def inside():
        try:
            await shape(gate)(script)
        except BaseException as error:
            seen.append(error)
            raise

    with anyio.move_on_after(unit) as scope:
        await inside()

    assert scope.cancelled_caught
    assert isinstance(seen[0], anyio.get_cancelled_exc_class())
    assert 1 == script.calls
    assert (0, 0, 1, 0, "CLOSED") == counts(gate)
    assert 0 == pending_cancellations()


@shapes
async def test_a_cancellation_that_the_callee_raised_by_itself_is_ignored(backend, shape):
    """
    Nobody cancelled: the callee raised it. No policy takes it for its own, and it passes as the same object (law 2).
    """
    if backend == "trio":
        pytest.skip("trio.Cancelled cannot be made by hand")
    gate = breaker(1, on=Exception)
    error = asyncio.CancelledError("mine")
    script = Script(error)

    with pytest.raises(asyncio.CancelledError) as caught:
        await shape(gate)(script)

    assert error is caught.value
    assert 1 == script.calls
    assert (0, 0, 1, 0, "CLOSED") == counts(gate)
    assert 0 == pending_cancellations()


async def test_a_cancellation_in_the_wait_between_attempts_ends_it(backend, unit):
    """
    The caller leaves during a back-off: at once, without a further attempt (law 2, R8, RT-007).
    """
    gate = breaker(9)
    script = Script(OSError)
    started = anyio.current_time()

    with anyio.move_on_after(unit) as scope:
        await Pipeline(Retry(3, on=Exception, wait=wait_fixed(9 * unit)), gate, Timeout(50))(script)

    assert scope.cancelled_caught
    assert about(unit, backend) == anyio.current_time() - started
    assert 1 == script.calls
    assert (0, 1, 0, 1, "CLOSED") == counts(gate)


async def test_cancelled_before_the_call_nothing_is_called(backend):
    """
    A caller that is cancelled already: the callee's first wait says so, and nothing is counted (law 2, RT-005).
    """
    gate = breaker(1, on=Exception)

    with anyio.CancelScope() as scope:
        scope.cancel()
        await Pipeline(retry(), gate, Timeout(50))(anyio.lowlevel.checkpoint)

    assert scope.cancelled_caught
    assert (0, 0, 1, 0, "CLOSED") == counts(gate)


# ------------------------------------------------------------------------------------- 3

CUTS = {
    "inside": lambda gate, seconds: Pipeline(gate, Timeout(seconds)),
    "around": lambda gate, seconds: Pipeline(Timeout(seconds), gate, Queue(0)),
    "around, nested": lambda gate, seconds: Pipeline(
        Timeout(seconds), Pipeline(gate, Queue(0), name="inner")
    ),
    "around a retry": lambda gate, seconds: Pipeline(Timeout(seconds), retry(), gate, Queue(0)),
    "a function": lambda gate, seconds: Pipeline(Timeout(lambda call: seconds), gate, Queue(0)),
    "around another": lambda gate, seconds: Pipeline(Timeout(60), Timeout(seconds), gate, Queue(0)),
}


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_our_deadline_is_a_failure_wherever_the_timeout_stands(backend, unit, cut):
    """
    A running call that a deadline of this pipeline cut is a failure for the breaker inside or outside (law 3, PY-007).
    """
    gate = breaker(1)

    error, took = await timed(cut(gate, unit)(Script(Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert about(unit, backend) == took
    assert (0, 1, 0) == counts(gate)[:3]
    assert CircuitState.OPEN is gate.state
    assert "TimeoutExceededError" == gate.snapshot().last_failure


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
async def test_a_deadline_of_the_callers_own_is_the_caller_leaving(backend, unit):
    """
    A scope around the pipeline is not ours to know: nothing is counted (law 3, H7).
    """
    gate = breaker(1)

    with pytest.raises(TimeoutError), anyio.fail_after(unit):
        await Pipeline(gate, Queue(0))(Script(Hang()))

    assert (0, 0, 1, 0, "CLOSED") == counts(gate)


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
async def test_a_cut_before_the_callee_was_entered_is_ignored(backend, unit):
    """
    The deadline fell while the call still stood in a queue inside the breaker: the dependency was never asked (law 3).
    """
    gate = breaker(1)
    script = Script(42)

    error, _ = await timed(Pipeline(Timeout(unit), gate, Queue(50 * unit))(script))

    assert isinstance(error, TimeoutExceededError)
    assert 0 == script.calls
    assert (0, 0, 1, 0, "CLOSED") == counts(gate)


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
async def test_entered_is_since_the_permit_was_issued(backend, unit):
    """
    The first attempt reached the callee, the second was cut in the queue: one failure, one ignored (law 3).
    """
    gate = breaker(9)
    calls = []

    async def callee():
        calls.append(1)
        raise OSError

    waits = iter([0.0, 50 * unit])

    class Slow(Queue):
        def link(self, step, hub):
            async def guarded(call):
                await anyio.sleep(next(waits))
                return await step(call)

            return guarded

    error, _ = await timed(Pipeline(Timeout(unit), retry(), gate, Slow(0))(callee))

    assert isinstance(error, TimeoutExceededError)
    assert [1] == calls
    assert (0, 1, 1, 1, "CLOSED") == counts(gate)


async def test_a_cut_in_the_wait_between_attempts_is_nothing_to_the_breaker(backend, unit):
    """
    Between attempts nobody holds a permit: the breaker has the failure that was, and no more (law 3, TO-011).
    """
    gate = breaker(9)
    script = Script(OSError)
    inner = Pipeline(Retry(3, on=OSError, wait=wait_fixed(9 * unit)), gate, Timeout(50))

    # A guarded function inside a guarded function: the inner retry does not know the outer deadline.
    error, took = await timed(Timeout(unit)(inner.wrap(script)))

    assert isinstance(error, TimeoutExceededError)
    assert about(unit, backend) == took
    assert 1 == script.calls
    assert (0, 1, 0, 1, "CLOSED") == counts(gate)


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
async def test_every_breaker_inside_a_cut_learns_of_it(backend, unit):
    """
    Two breakers inside one deadline: a failure each; the one around sees the timeout's error: a failure too (law 3).
    """
    gates = [breaker(1) for _ in range(3)]
    around, *inside = gates
    guarded = Pipeline(around, Timeout(unit), *inside, Queue(0))

    error, _ = await timed(guarded(Script(Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert [(0, 1, 0)] * 3 == [counts(gate)[:3] for gate in gates]


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
async def test_a_cut_probe_reopens_and_a_cancelled_one_hands_its_place_on(backend, unit):
    """
    Half-open: our deadline around the breaker is a failed probe; a caller who leaves gives the seat back (laws 3, 11).
    """
    gate = breaker(1, break_duration=1000)
    guarded = Pipeline(Timeout(2 * unit), gate, Queue(0))

    with forced(gate, CircuitState.HALF_OPEN):
        with anyio.move_on_after(unit) as scope:
            await guarded(Script(Hang()))
        assert scope.cancelled_caught
        assert CircuitState.HALF_OPEN is gate.state

        error, _ = await timed(guarded(Script(Hang())))
        assert isinstance(error, TimeoutExceededError)
        assert CircuitState.OPEN is gate.state


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
async def test_a_cut_that_ignore_names_is_ignored(backend, unit):
    """
    `ignore=TimeoutExceededError` holds for deadlines around the breaker too (laws 3 and 5).
    """
    gate = breaker(1, ignore=TimeoutExceededError)

    await timed(Pipeline(Timeout(unit), gate, Queue(0))(Script(Hang())))

    assert (0, 0, 1, 0, "CLOSED") == counts(gate)


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
async def test_a_callee_that_answers_the_cut_is_judged_by_its_answer(backend, unit):
    """
    It was cut, and raised or returned something of its own: that is the verdict (laws 3, 5 and 29).
    """
    raised, returned = breaker(1), breaker(1)

    async def raises():
        try:
            await anyio.sleep_forever()
        finally:
            raise ConnectionError("while closing")

    async def returns():
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return 42

    error, _ = await timed(Pipeline(Timeout(unit), raised, Queue(0))(raises))
    assert isinstance(error, ConnectionError)
    assert (0, 1, 0) == counts(raised)[:3]

    assert 42 == await Pipeline(Timeout(unit), returned, Queue(0))(returns)
    assert (1, 0, 0) == counts(returned)[:3]


async def test_the_overdue_call_is_counted_before_it_is_cut(backend, unit):
    """
    A hang opens the circuit while it hangs; the deadline that cuts it later counts it no second time (laws 3 and 18).
    """
    gate = breaker(1, overdue_after=unit, break_duration=1000)
    guarded = Pipeline(Timeout(3 * unit), gate)
    rejected = []

    async def hang():
        await timed(guarded(Script(Hang())))

    async with anyio.create_task_group() as group:
        group.start_soon(hang)
        await anyio.sleep(2 * unit)
        rejected.append((await timed(guarded(Script(42))))[0])

    assert isinstance(rejected[0], CircuitOpenError)
    assert 1 == gate.snapshot().openings
    assert 1 == gate.snapshot().totals.failures


# ------------------------------------------------------------------------------------- 4


async def test_a_rejection_inside_is_nothing_to_a_breaker_outside(backend):
    """
    The inner circuit is open: for the outer one the dependency was never asked, in half-open neither (law 4, HO-026).
    """
    outer, inner = breaker(1, on=Exception), breaker()
    inner.isolate()
    guarded = Pipeline(outer, inner, Timeout(50))

    with pytest.raises(CircuitOpenError):
        await guarded(Script(42))
    assert (0, 0, 1, 0, "CLOSED") == counts(outer)

    with forced(outer, CircuitState.HALF_OPEN):
        for _ in range(3):
            with pytest.raises(CircuitOpenError):
                await guarded(Script(42))
        assert CircuitState.HALF_OPEN is outer.state
        inner.reset()
        assert 42 == await guarded(Script(42))
        assert CircuitState.CLOSED is outer.state


async def test_an_expired_deadline_inside_is_nothing_to_a_breaker_outside(backend):
    """
    A limit of nothing rejects: ignored outside, and the callee was not called (law 4, law 21).
    """
    gate = breaker(1, on=Exception)
    script = Script(42)

    with pytest.raises(DeadlineExpiredError):
        await Pipeline(gate, Timeout(lambda call: 0))(script)

    assert 0 == script.calls
    assert (0, 0, 1, 0, "CLOSED") == counts(gate)


async def test_a_rejection_is_raised_only_if_no_attempt_ran(backend):
    """
    The second attempt is rejected: the first one's error is raised, with a note that says so (law 4).
    """
    error = OSError("ran")
    recorder = Recorder(RetryScheduled)
    limits = iter([10, 0])
    guarded = Pipeline(retry(), Timeout(lambda call: next(limits)), listeners=[recorder])

    outcome = await guarded.outcome(Script(error))

    assert error is outcome.error
    assert "DeadlineExpiredError" in error.__notes__[0]
    assert isinstance(outcome.rejection, DeadlineExpiredError)
    assert (1, 1) == (outcome.attempts, len(recorder))


async def test_outcome_of_a_pure_rejection(backend):
    """
    No attempt ran: the rejection is the error and the rejection, attempts 0 (law 4).
    """
    gate = breaker()
    gate.isolate()

    outcome = await Pipeline(retry(), gate, Timeout(50)).outcome(Script(42))

    assert outcome.error is outcome.rejection
    assert 0 == outcome.attempts
    assert "rejected" == (await _finished(gate)).outcome


async def _finished(gate):
    recorder = Recorder(CallFinished)
    await Pipeline(retry(), gate, Timeout(50), listeners=[recorder]).outcome(Script(42))
    return recorder.events[0]


# ------------------------------------------------------------------------------------- 5


@pytest.mark.parametrize(
    ("on", "ignore", "expected"),
    [
        (ConnectionError, (), (0, 1, 0)),
        (ConnectionError, OSError, (0, 1, 0)),
        (OSError, TimeoutError, (0, 1, 0)),
        (lambda error: False, (), (0, 1, 0)),
        (OSError, TimeoutExceededError, (0, 0, 1)),
    ],
    ids=["not in on", "base in ignore", "builtin in ignore", "predicate says no", "named"],
)
@pytest.mark.parametrize("place", ["inside", "around"])
@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
async def test_our_deadline_is_a_failure_before_on_is_asked(
    backend, unit, on, ignore, expected, place
):
    """
    Unless `ignore` names `TimeoutExceededError` itself, wherever the timeout stands (law 5, trap 10).
    """
    gate = breaker(9, on=on, ignore=ignore)
    limit = Timeout(unit)
    guarded = Pipeline(gate, limit) if place == "inside" else Pipeline(limit, gate, Queue(0))

    await timed(guarded(Script(Hang())))

    assert expected == counts(gate)[:3]


async def test_a_callees_timeout_error_is_judged_like_any_other(backend):
    """
    A builtin `TimeoutError` from the callee is not our deadline: `on` and `ignore` decide (law 5).
    """
    named, ignored, neither = (
        breaker(9, on=TimeoutError),
        breaker(9, on=OSError, ignore=TimeoutError),
        breaker(9, on=ConnectionError),
    )
    for gate in (named, ignored, neither):
        with pytest.raises(TimeoutError):
            await Pipeline(gate, Timeout(50))(Script(TimeoutError))

    assert [(0, 1, 0), (0, 0, 1), (1, 0, 0)] == [
        counts(gate)[:3] for gate in (named, ignored, neither)
    ]


async def test_a_group_counts_by_its_leaves_for_every_policy(backend):
    """
    Retry: all leaves worth it; breaker: any leaf a failure; nested as they come (law 7, H10).
    """
    both = ExceptionGroup("two", [OSError(), ExceptionGroup("one", [ConnectionError()])])
    mixed = ExceptionGroup("two", [OSError(), KeyError()])
    gate = breaker(9)

    async def raising(error):
        script = Script(error)
        with pytest.raises(ExceptionGroup) as caught:
            await Pipeline(retry(), gate, Timeout(50))(script)
        assert error is caught.value
        return script.calls

    assert 3 == await raising(both)
    assert 1 == await raising(mixed)
    assert (0, 4, 0) == counts(gate)[:3]


def test_a_breaker_of_the_default_trip_is_not_opened_by_these():
    """
    The helper of these tests opens after consecutive failures, as its name says; so the counts above are of calls.
    """
    assert isinstance(breaker().trip, ConsecutiveFailures)
