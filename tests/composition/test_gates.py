"""
Bulkhead and RateLimit with every policy, in every order that makes sense; each test is named as its pipeline is drawn.

Outermost first: ``test_timeout_over_bulkhead_...`` is ``Pipeline(Timeout(...), Bulkhead(...))``.
"""

from __future__ import annotations

import anyio
import pytest

from resilience import (
    Bulkhead,
    BulkheadFullError,
    CircuitOpenError,
    CircuitState,
    Pipeline,
    RateLimit,
    RateLimitedError,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.testing import Hang, Script, Wait, forced
from tests.composition.support import about, breaker, timed


def retry(attempts=3, wait=0.0, on=OSError):
    return Retry(attempts, on=on, wait=lambda _: wait)


# ------------------------------------------------------------------------------- bulkhead


async def test_timeout_over_bulkhead_counts_the_wait_in_the_queue(backend, unit):
    """
    Timeout(Bulkhead): the deadline cuts the wait; the callee never ran, and the queue is empty again.
    """
    bulkhead, script = Bulkhead(1, queue=1), Script(1)
    with bulkhead.admit():
        error, seconds = await timed(Pipeline(Timeout(unit), bulkhead)(script))
        assert isinstance(error, TimeoutExceededError)
        assert (about(unit, backend), 0, 0) == (seconds, script.calls, bulkhead.waiting)


async def test_bulkhead_over_timeout_does_not_count_it(backend, unit):
    """
    Bulkhead(Timeout): the time begins when the call is in; cut off, it gives its place to the next.
    """
    bulkhead = Bulkhead(1, queue=1)
    guarded = Pipeline(bulkhead, Timeout(unit))
    answers = []

    async def call(script):
        answers.append(await timed(guarded(script)))

    async with anyio.create_task_group() as group:
        group.start_soon(call, Script(Hang()))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(call, Script(Wait(unit / 2, then=7)))
    (cut, _), (answer, seconds) = answers
    assert isinstance(cut, TimeoutExceededError)
    assert (7, about(1.5 * unit, backend)) == (answer, seconds)
    assert 0 == bulkhead.in_flight


async def test_bulkhead_over_retry_keeps_the_place_in_back_off(backend, unit):
    """
    Bulkhead(Retry): one place for all attempts and the waits between them.
    """
    bulkhead, script = Bulkhead(1), Script(OSError, 42)
    async with anyio.create_task_group() as group:
        group.start_soon(Pipeline(bulkhead, retry(wait=unit)), script)
        await anyio.sleep(unit / 2)
        assert (1, 1) == (script.calls, bulkhead.in_flight)
    assert (2, 0) == (script.calls, bulkhead.in_flight)


async def test_retry_over_bulkhead_frees_it_in_back_off(backend, unit):
    """
    Retry(Bulkhead): each attempt takes a place; while it waits for the next another call may have it.
    """
    bulkhead, script = Bulkhead(1), Script(OSError, 42)
    async with anyio.create_task_group() as group:
        group.start_soon(Pipeline(retry(wait=unit), bulkhead), script)
        await anyio.sleep(unit / 2)
        assert (1, 0) == (script.calls, bulkhead.in_flight)
        assert 7 == await bulkhead(Script(7))
    assert 2 == script.calls


async def test_bulkhead_over_circuit_breaker_gives_back_what_an_open_circuit_rejects(backend):
    """
    Bulkhead(CircuitBreaker): a rejection inside is an end of the call like any other.
    """
    gate, bulkhead = breaker(break_duration=1000), Bulkhead(1)
    with forced(gate, CircuitState.OPEN), pytest.raises(CircuitOpenError):
        await Pipeline(bulkhead, gate, Timeout(50))(Script(1))
    assert 0 == bulkhead.in_flight


async def test_circuit_breaker_over_bulkhead_hands_its_probe_on(backend):
    """
    CircuitBreaker(Bulkhead): a full bulkhead says nothing of the dependency; the next caller may probe (law 4, law 11).
    """
    gate, bulkhead = breaker(), Bulkhead(1)
    guarded = Pipeline(gate, bulkhead, Timeout(50))
    gate._core.force(CircuitState.HALF_OPEN)
    with bulkhead.admit(), pytest.raises(BulkheadFullError):
        await guarded(Script(1))
    assert CircuitState.HALF_OPEN is gate.state
    assert 1 == await guarded(Script(1))
    assert CircuitState.CLOSED is gate.state


async def test_circuit_breaker_over_bulkhead_counts_no_deadline_that_fell_into_the_queue(
    backend, unit
):
    """
    Timeout(CircuitBreaker(Bulkhead)): the callee was not entered, so the deadline is nobody's failure (law 3).
    """
    gate, bulkhead = breaker(1), Bulkhead(1, queue=1)
    with bulkhead.admit(), pytest.raises(TimeoutExceededError):
        await Pipeline(Timeout(unit), gate, bulkhead, Timeout(unit / 2))(Script(1))
    totals = gate.snapshot().totals
    assert (CircuitState.CLOSED, 0, 1) == (gate.state, totals.failures, totals.ignored)


async def test_bulkhead_over_bulkhead_gives_back_the_outer_place_of_who_is_rejected_inside(backend):
    """
    Bulkhead(Bulkhead): both limits hold, and the tighter one inside leaves nothing taken outside.
    """
    outer, inner = Bulkhead(5), Bulkhead(1)
    with inner.admit(), pytest.raises(BulkheadFullError) as caught:
        await Pipeline(outer, inner)(Script(1))
    assert "Bulkhead(1)" == caught.value.policy
    assert (0, 0) == (outer.in_flight, inner.in_flight)


async def test_bulkhead_over_bulkhead_holds_a_place_while_it_waits_for_another(backend, unit):
    """
    Bulkhead(Bulkhead): who waits inside is in flight outside; cancelled there, both are free.
    """
    outer, inner = Bulkhead(5), Bulkhead(1, queue=1)
    with inner.admit():
        with anyio.move_on_after(unit):
            async with anyio.create_task_group() as group:
                group.start_soon(Pipeline(outer, inner), Script(1))
                await anyio.wait_all_tasks_blocked()
                assert (1, 1) == (outer.in_flight, inner.waiting)
        assert (0, 0) == (outer.in_flight, inner.waiting)


# ------------------------------------------------------------------------------- rate limit


async def test_timeout_over_rate_limit_refuses_a_turn_that_comes_too_late(backend, unit):
    """
    Timeout(RateLimit): a wait that cannot end in time is not begun.
    """
    limit = RateLimit(1, per=3 * unit, max_wait=9 * unit)
    limit.admit()
    error, seconds = await timed(Pipeline(Timeout(lambda _: unit), limit)(Script(1)))
    assert isinstance(error, RateLimitedError)
    assert about(0.0, backend) == seconds


async def test_timeout_over_rate_limit_counts_the_wait(backend, unit):
    """
    Timeout(RateLimit): what is left after the wait is what the call has.
    """
    limit = RateLimit(1, per=unit, max_wait=unit)
    limit.drain()
    error, seconds = await timed(Pipeline(Timeout(2 * unit), limit)(Script(Hang())))
    assert isinstance(error, TimeoutExceededError)
    assert about(2 * unit, backend) == seconds


async def test_rate_limit_over_timeout_does_not_count_the_wait(backend, unit):
    """
    RateLimit(Timeout): the time begins with the turn.
    """
    limit = RateLimit(1, per=2 * unit, max_wait=2 * unit)
    limit.drain()
    answer, seconds = await timed(Pipeline(limit, Timeout(unit))(Script(Wait(unit / 2, then=7))))
    assert 7 == answer
    assert seconds > 2 * unit


async def test_rate_limit_over_retry_counts_calls(backend, clock):
    """
    RateLimit(Retry): one token, however many attempts.
    """
    limit = RateLimit(10, clock=clock)
    assert 42 == await Pipeline(limit, retry())(Script(OSError, OSError, 42))
    assert pytest.approx(9) == limit.available


async def test_retry_over_rate_limit_counts_attempts(backend, clock):
    """
    Retry(RateLimit): a token for each attempt; where there is none the last error is raised, and says so.
    """
    limit = RateLimit(2, clock=clock)
    script = Script(OSError("its own"))
    outcome = await Pipeline(retry(5), limit).outcome(script)
    assert "its own" in str(outcome.error)
    assert isinstance(outcome.rejection, RateLimitedError)
    assert 2 == script.calls


async def test_rate_limit_over_circuit_breaker_spends_before_the_circuit_rejects(backend, clock):
    """
    RateLimit(CircuitBreaker): the token is spent by who asks; put the limit inside to spend it on real calls only.
    """
    gate, limit = breaker(break_duration=1000), RateLimit(10, clock=clock)
    with forced(gate, CircuitState.OPEN):
        for policies, left in (((limit, gate), 9), ((gate, limit), 9)):
            with pytest.raises(CircuitOpenError):
                await Pipeline(*policies, Timeout(50))(Script(1))
            assert pytest.approx(left) == limit.available


async def test_circuit_breaker_over_rate_limit_hands_its_probe_on(backend, clock):
    """
    CircuitBreaker(RateLimit): a used-up limit says nothing of the dependency (law 4, law 11).
    """
    gate, limit = breaker(), RateLimit(1, clock=clock)
    guarded = Pipeline(gate, limit, Timeout(50))
    gate._core.force(CircuitState.HALF_OPEN)
    limit.drain()
    with pytest.raises(RateLimitedError):
        await guarded(Script(1))
    assert CircuitState.HALF_OPEN is gate.state
    clock.advance(1)
    assert 1 == await guarded(Script(1))
    assert CircuitState.CLOSED is gate.state


async def test_rate_limit_over_rate_limit_keeps_both(backend, clock):
    """
    RateLimit(RateLimit): ten a second and no more than three at once; who is rejected inside has spent outside.
    """
    outer, inner = RateLimit(10, clock=clock), RateLimit(100, burst=3, clock=clock)
    guarded = Pipeline(outer, inner)
    for _ in range(3):
        assert 1 == await guarded(Script(1))
    with pytest.raises(RateLimitedError) as caught:
        await guarded(Script(1))
    assert pytest.approx(0.01) == caught.value.retry_after
    assert (pytest.approx(6), 0) == (outer.available, inner.available)


# ------------------------------------------------------------------------------- the two


async def test_bulkhead_over_rate_limit_holds_a_place_while_it_waits_for_its_turn(backend, unit):
    """
    Bulkhead(RateLimit): waiting for the rate is being in flight; cancelled there, place and turn are free.
    """
    bulkhead, limit = Bulkhead(1), RateLimit(1, per=9 * unit, max_wait=9 * unit)
    limit.drain()
    guarded = Pipeline(bulkhead, limit)
    async with anyio.create_task_group() as group:
        group.start_soon(guarded, Script(1))
        await anyio.wait_all_tasks_blocked()
        assert (1, 1) == (bulkhead.in_flight, limit.waiting)
        with pytest.raises(BulkheadFullError):
            await guarded(Script(1))
        group.cancel_scope.cancel()
    assert (0, 0) == (bulkhead.in_flight, limit.waiting)


async def test_rate_limit_over_bulkhead_spends_a_token_on_who_waits(backend, clock):
    """
    RateLimit(Bulkhead): the rate counts callers; one that finds the bulkhead full has spent its token.
    """
    limit, bulkhead = RateLimit(10, clock=clock), Bulkhead(1)
    with bulkhead.admit(), pytest.raises(BulkheadFullError):
        await Pipeline(limit, bulkhead)(Script(1))
    assert pytest.approx(9) == limit.available


async def test_the_canonical_five(backend, unit):
    """
    Timeout(Retry(CircuitBreaker(Bulkhead(Timeout)))): a hanging attempt is cut, tried again on a place of its own.
    """
    gate, bulkhead = breaker(5), Bulkhead(1, queue=2)
    guarded = Pipeline(
        Timeout(20 * unit), retry(3, on=(OSError, TimeoutError)), gate, bulkhead, Timeout(unit)
    )
    answers = []

    async def call():
        answers.append(await guarded(Script(Hang(), 42)))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(call)
    assert [42, 42, 42] == answers
    assert (0, 0, 3) == (bulkhead.in_flight, bulkhead.waiting, gate.snapshot().totals.failures)
