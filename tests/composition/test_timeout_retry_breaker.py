"""
Retry, CircuitBreaker and Timeout in all sensible orders; each test is named as the drawing of its pipeline.

Outermost first: ``test_timeout_over_retry_...`` is ``Pipeline(Timeout(...), Retry(...))``.
"""

import anyio
import pytest
from tenacity import wait_fixed, wait_none

from resilience import (
    CircuitOpenError,
    CircuitState,
    Pipeline,
    PipelineWarning,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.testing import Hang, Recorder, Script, Wait
from tests.composition.support import about, breaker, timed

FAILS = (OSError, TimeoutError)


def retry(attempts=3, wait=None, on=FAILS):
    return Retry(attempts, on=on, wait=wait or wait_none())


def watched(*policies):
    recorder = Recorder()
    return Pipeline(*policies, listeners=[recorder]), recorder


# ------------------------------------------------------------------------------- two policies


async def test_timeout_over_retry_cuts_the_running_attempt(backend, unit):
    """
    Timeout(Retry): the total deadline falls into the second attempt, which is the last.
    """
    script = Script(Wait(unit, OSError), Hang())

    error, took = await timed(Pipeline(Timeout(3 * unit), retry(5))(script))

    assert isinstance(error, TimeoutExceededError)
    assert (2, about(3 * unit, backend)) == (script.calls, took)


async def test_timeout_over_retry_does_not_begin_a_backoff_it_would_cut(backend, unit):
    """
    Timeout(Retry): the wait of four does not fit what is left of three: the last error, now (law 24).
    """
    script = Script(OSError("first"))

    error, took = await timed(Pipeline(Timeout(3 * unit), retry(5, wait_fixed(4 * unit)))(script))

    assert "first" == str(error)
    assert (1, about(0.0, backend)) == (script.calls, took)


async def test_timeout_over_retry_cuts_a_pending_backoff(backend, unit):
    """
    Timeout(f(Retry)): around a function of its own the deadline is not known to the retry, and cuts its wait.
    """
    script = Script(OSError)
    inner = retry(5, wait_fixed(4 * unit)).wrap(script)

    error, took = await timed(Timeout(3 * unit)(inner))

    assert isinstance(error, TimeoutExceededError)
    assert (1, about(3 * unit, backend)) == (script.calls, took)
    await anyio.sleep(3 * unit)
    assert 1 == script.calls


async def test_timeout_over_retry_lets_a_success_in_time_pass(backend, unit):
    """
    Timeout(Retry): three attempts and two waits within the total.
    """
    script = Script(OSError, OSError, 42)

    answer, took = await timed(Pipeline(Timeout(9 * unit), retry(3, wait_fixed(unit)))(script))

    assert (42, about(2 * unit, backend)) == (answer, took)


async def test_retry_over_timeout_retries_the_cut_attempt(backend, unit):
    """
    Retry(Timeout): each attempt has its own deadline, and a cut one is tried again.
    """
    script = Script(Hang(), Hang(), 42)

    answer, took = await timed(Pipeline(retry(), Timeout(unit))(script))

    assert (42, 3, about(2 * unit, backend)) == (answer, script.calls, took)


async def test_retry_over_timeout_raises_the_last_cut(backend, unit):
    """
    Retry(Timeout): all attempts hang: the timeout of the third, with a note of the two before.
    """
    error, took = await timed(Pipeline(retry(), Timeout(unit))(Script(Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert "TimeoutExceededError, TimeoutExceededError" in error.__notes__[0]
    assert about(3 * unit, backend) == took


async def test_retry_over_timeout_leaves_a_cut_that_on_does_not_name(backend, unit):
    """
    Retry(Timeout): `on=ConnectionError` says nothing of deadlines, so a cut attempt is the last.
    """
    script = Script(Hang())

    error, took = await timed(Pipeline(retry(on=ConnectionError), Timeout(unit))(script))

    assert isinstance(error, TimeoutExceededError)
    assert (1, about(unit, backend)) == (script.calls, took)


async def test_retry_over_breaker_counts_every_attempt(backend):
    """
    Retry(CircuitBreaker): each attempt is a call of its own to the breaker (CP-005).
    """
    gate = breaker(9)

    await timed(Pipeline(retry(), gate, Timeout(50))(Script(OSError)))

    assert (3, 3) == (gate.snapshot().calls, gate.snapshot().failures)


async def test_retry_over_breaker_stops_when_the_circuit_opens(backend, unit):
    """
    Retry(CircuitBreaker): the second failure opens it: no third attempt, no wait for one, the error of the second.
    """
    gate = breaker(2, break_duration=100)
    script = Script(OSError("1"), OSError("2"), 42)
    guarded = Pipeline(retry(9, wait_fixed(unit)), gate, Timeout(50))

    error, took = await timed(guarded(script))

    assert "2" == str(error)
    assert (2, about(unit, backend), CircuitState.OPEN) == (script.calls, took, gate.state)


async def test_retry_over_breaker_gives_up_at_once_on_an_open_circuit(backend):
    """
    Retry(CircuitBreaker): open before the call: one rejection, the callee never called.
    """
    gate = breaker(1, break_duration=100)
    gate.admit().failure(OSError())
    script = Script(42)

    error, took = await timed(Pipeline(retry(9, wait_fixed(9)), gate, Timeout(50))(script))

    assert isinstance(error, CircuitOpenError)
    assert (0, about(0.0, backend)) == (script.calls, took)


async def test_retry_over_breaker_waits_for_a_named_circuit_and_closes_it(backend, unit):
    """
    Retry(CircuitBreaker): `on` names the rejection: it waits the break out, probes, and closes the circuit.
    """
    gate = breaker(1, break_duration=2 * unit)
    on = (*FAILS, CircuitOpenError)

    answer, took = await timed(Pipeline(retry(3, on=on), gate, Timeout(50))(Script(OSError, 42)))

    assert (42, about(2 * unit, backend), CircuitState.CLOSED) == (answer, took, gate.state)


async def test_breaker_over_retry_counts_one_execution(backend):
    """
    CircuitBreaker(Retry): three attempts are one failure, three attempts with a good end one success; it warns.
    """
    gate = breaker(9)
    with pytest.warns(PipelineWarning, match="hides failed attempts"):
        guarded = Pipeline(gate, retry(), Timeout(50))

    await timed(guarded(Script(OSError)))
    await timed(guarded(Script(OSError, OSError, 42)))

    assert (2, 1) == (gate.snapshot().calls, gate.snapshot().failures)


async def test_breaker_over_retry_rejects_before_the_first_attempt(backend):
    """
    CircuitBreaker(Retry): open: nothing inside is reached.
    """
    gate = breaker(1, break_duration=100)
    with pytest.warns(PipelineWarning, match="hides failed attempts"):
        guarded = Pipeline(gate, retry(), Timeout(50))
    await timed(guarded(Script(OSError)))
    script = Script(42)

    error, _ = await timed(guarded(script))

    assert isinstance(error, CircuitOpenError)
    assert 0 == script.calls


async def test_breaker_over_timeout_opens_by_hangs(backend, unit):
    """
    CircuitBreaker(Timeout): two calls that hang open it; the third is rejected without a wait.
    """
    gate = breaker(2, break_duration=100)
    guarded = Pipeline(gate, Timeout(unit))

    for _ in range(2):
        assert isinstance((await timed(guarded(Script(Hang()))))[0], TimeoutExceededError)
    error, took = await timed(guarded(Script(Hang())))

    assert isinstance(error, CircuitOpenError)
    assert ("TimeoutExceededError", about(0.0, backend)) == (error.last_failure, took)


async def test_timeout_over_breaker_opens_by_hangs_too(backend, unit):
    """
    Timeout(CircuitBreaker): the same, with the deadline outside: hang for hang a failure (law 3).
    """
    gate = breaker(2, break_duration=100)
    with pytest.warns(PipelineWarning, match="ends a call that hangs"):
        guarded = Pipeline(Timeout(unit), gate)

    for _ in range(2):
        assert isinstance((await timed(guarded(Script(Hang()))))[0], TimeoutExceededError)
    error, took = await timed(guarded(Script(Hang())))

    assert isinstance(error, CircuitOpenError)
    assert about(0.0, backend) == took


# ----------------------------------------------------------------------------- three and four


async def test_timeout_over_retry_over_breaker_over_timeout_recovers(backend, unit):
    """
    Timeout(Retry(CircuitBreaker(Timeout))), the canonical order: a hang, an error, a success; one call, two failures.
    """
    gate = breaker(9)
    script = Script(Hang(), OSError, 42)
    guarded, recorder = watched(
        Timeout(30 * unit), retry(3, wait_fixed(unit)), gate, Timeout(2 * unit)
    )

    answer, took = await timed(guarded(script))

    assert (42, about(4 * unit, backend)) == (answer, took)
    assert (3, 2) == (gate.snapshot().calls, gate.snapshot().failures)
    kinds = ["TimedOut", "RetryScheduled", "RetryScheduled", "CallFinished"]
    assert kinds == recorder.kinds


async def test_timeout_over_retry_over_breaker_over_timeout_opens_and_ends(backend, unit):
    """
    Timeout(Retry(CircuitBreaker(Timeout))): the circuit opens by two cut attempts: the call ends with the second cut.
    """
    gate = breaker(2, break_duration=1000)
    script = Script(Hang())
    guarded = Pipeline(Timeout(40 * unit), retry(9, wait_fixed(unit)), gate, Timeout(2 * unit))

    outcome = await guarded.outcome(script)

    assert isinstance(outcome.error, TimeoutExceededError)
    assert 2 * unit == outcome.error.seconds
    assert isinstance(outcome.rejection, CircuitOpenError)
    assert (2, CircuitState.OPEN) == (script.calls, gate.state)
    assert about(5 * unit, backend) == outcome.elapsed


async def test_timeout_over_retry_over_breaker_over_timeout_the_total_cuts_the_attempt(
    backend, unit
):
    """
    Timeout(Retry(CircuitBreaker(Timeout))): the total falls due inside an attempt: its failure, the total's name.
    """
    gate = breaker(9)
    with pytest.warns(PipelineWarning, match="9 attempts"):
        guarded = Pipeline(Timeout(5 * unit), retry(9), gate, Timeout(2 * unit))

    error, took = await timed(guarded(Script(Hang())))

    assert f"Timeout({5 * unit!r})" == error.policy
    assert about(5 * unit, backend) == took
    assert (3, 3) == (gate.snapshot().calls, gate.snapshot().failures)


async def test_retry_over_timeout_over_breaker_an_open_circuit_is_no_timeout(backend, unit):
    """
    Retry(Timeout(CircuitBreaker)): the rejection passes the deadline and ends the retry.
    """
    gate = breaker(1, break_duration=100)
    with pytest.warns(PipelineWarning, match="ends a call that hangs"):
        guarded = Pipeline(retry(), Timeout(unit), gate)
    script = Script(Hang())

    outcome = await guarded.outcome(script)

    assert isinstance(outcome.error, TimeoutExceededError)
    assert isinstance(outcome.rejection, CircuitOpenError)
    assert (1, CircuitState.OPEN) == (script.calls, gate.state)
    assert about(unit, backend) == outcome.elapsed


async def test_timeout_over_breaker_over_retry_one_cut_is_one_failure(backend, unit):
    """
    Timeout(CircuitBreaker(Retry)): the deadline around it all: one failure for the breaker, however many attempts ran.
    """
    gate = breaker(9)
    with pytest.warns(PipelineWarning):
        guarded = Pipeline(Timeout(5 * unit), gate, retry(5))

    error, _ = await timed(guarded(Script(OSError, OSError, Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert (1, 1) == (gate.snapshot().calls, gate.snapshot().failures)


async def test_breaker_over_timeout_over_retry_judges_what_comes_out(backend, unit):
    """
    CircuitBreaker(Timeout(Retry)): an error that the retry gave up on, and a total that was cut: a failure each.
    """
    gate = breaker(9)
    with pytest.warns(PipelineWarning, match="hides failed attempts"):
        guarded = Pipeline(gate, Timeout(5 * unit), retry(2))

    assert isinstance((await timed(guarded(Script(OSError))))[0], OSError)
    assert isinstance((await timed(guarded(Script(Hang()))))[0], TimeoutExceededError)
    assert 42 == (await timed(guarded(Script(OSError, 42))))[0]

    assert (3, 2) == (gate.snapshot().calls, gate.snapshot().failures)


async def test_breaker_over_retry_over_timeout_one_failure_after_all_cuts(backend, unit):
    """
    CircuitBreaker(Retry(Timeout)): three cut attempts are one failure.
    """
    gate = breaker(9)
    with pytest.warns(PipelineWarning, match="hides failed attempts"):
        guarded = Pipeline(gate, retry(), Timeout(unit))

    error, took = await timed(guarded(Script(Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert about(3 * unit, backend) == took
    assert (1, 1) == (gate.snapshot().calls, gate.snapshot().failures)


async def test_retry_over_breaker_over_breaker_the_inner_one_opens_alone(backend):
    """
    Retry(CircuitBreaker(CircuitBreaker)): the inner opens; its rejections are nothing to the outer (law 4).
    """
    outer, inner = breaker(3), breaker(1, break_duration=100)
    guarded = Pipeline(retry(), outer, inner, Timeout(50))

    for _ in range(5):
        await timed(guarded(Script(OSError)))

    assert (CircuitState.CLOSED, CircuitState.OPEN) == (outer.state, inner.state)
    assert (1, 4) == (outer.snapshot().totals.failures, outer.snapshot().totals.ignored)


async def test_retry_over_retry_over_timeout_multiplies(backend, unit):
    """
    Retry(Retry(Timeout)): 2 x 2 attempts, which is warned of.
    """
    script = Script(Hang())
    with pytest.warns(PipelineWarning, match="4 attempts"):
        guarded = Pipeline(retry(2), retry(2), Timeout(unit))

    error, took = await timed(guarded(script))

    assert isinstance(error, TimeoutExceededError)
    assert (4, about(4 * unit, backend)) == (script.calls, took)


# ------------------------------------------------------------------------- shared and nested


async def test_two_pipelines_over_one_breaker_share_its_state(backend, unit):
    """
    Timeout(CircuitBreaker a) and Retry(CircuitBreaker a): what one learns the other obeys (STA-006).
    """
    gate = breaker(2, break_duration=100)
    one = Pipeline(gate, Timeout(unit))
    other = Pipeline(retry(), gate, Timeout(9 * unit))

    await timed(one(Script(Hang())))
    await timed(one(Script(Hang())))
    error, _ = await timed(other(Script(42)))

    assert isinstance(error, CircuitOpenError)
    assert gate.name == error.breaker


async def test_a_named_pipeline_over_another_is_the_same_as_one(backend, unit):
    """
    Timeout(Retry(Pipeline(CircuitBreaker(Timeout)))): nesting adds the inner call's own end, and changes nothing else.
    """
    outcomes = []
    for nested in (False, True):
        gate = breaker(2, break_duration=1000)
        inside = (gate, Timeout(2 * unit))
        steps = (Pipeline(*inside, name="inner"),) if nested else inside
        guarded, recorder = watched(Timeout(40 * unit), retry(9, wait_fixed(unit)), *steps)
        outcome = await guarded.outcome(Script(Hang()))
        outcomes.append(
            (
                type(outcome.error),
                outcome.attempts,
                type(outcome.rejection),
                gate.state,
                [kind for kind in recorder.kinds if kind != "CallFinished"],
            )
        )

    assert outcomes[0] == outcomes[1]


async def test_a_guarded_call_inside_a_guarded_call_of_the_same_breaker_counts_once(backend):
    """
    CircuitBreaker(f(CircuitBreaker)): half-open, the task rides on its own permit (law 13).
    """
    gate = breaker(1, break_duration=0.001)
    guarded = Pipeline(gate, Timeout(50))
    inner = guarded.wrap(Script(42))
    await timed(guarded(Script(OSError)))
    await anyio.sleep(0.002)

    assert 42 == await guarded(inner)
    assert CircuitState.CLOSED is gate.state


async def test_many_callers_over_one_pipeline_each_get_their_own(backend, unit):
    """
    Timeout(Retry(CircuitBreaker(Timeout))) shared by fifty tasks: successes, retries and cuts do not mix.
    """
    gate = breaker(999)
    guarded = Pipeline(Timeout(60 * unit), retry(2, wait_fixed(unit)), gate, Timeout(2 * unit))
    answers = {}

    async def caller(n):
        steps = {
            0: Script(n),
            1: Script(OSError(n), n),
            2: Script(Hang(), n),
            3: Script(OSError(n)),
            4: Script(KeyError(n)),
        }
        answers[n] = (await timed(guarded(steps[n % 5])))[0]

    async with anyio.create_task_group() as group:
        for n in range(50):
            group.start_soon(caller, n)

    for n, answer in answers.items():
        if n % 5 < 3:
            assert n == answer
        else:
            assert (n,) == answer.args
    assert 50 == len(answers)
    assert (40, 40) == (gate.snapshot().totals.failures, gate.snapshot().totals.successes)
