"""
Laws 16 and 17: what is compared how, what may open, and what reading does.
"""

from __future__ import annotations

import pytest

from resilience import (
    CircuitOpenError,
    CircuitState,
    CountWindow,
    FailureRate,
    SlowRate,
    TimeWindow,
)
from resilience.testing import Script
from resilience.verdicts import Verdict
from tests.laws.breaker.kit import (
    BREAK,
    a_breaker,
    due,
    open_up,
    pipeline,
    settle,
    stranger,
    totals,
    visible,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


# ----------------------------------------------------------------------------------------- law 16


@pytest.mark.parametrize("window", [CountWindow(20), TimeWindow(60)])
@pytest.mark.parametrize(
    ("ratio", "calls", "bad"), [(0.5, 10, 5), (0.07, 20, 2), (0.55, 20, 11), (1.0, 3, 3)]
)
async def test_it_opens_at_its_ratio_and_not_a_failure_before(
    *, backend, clock, window, ratio, calls, bad
):
    """
    Law 16, CB-005, B12: ``>=``, and at once.
    """
    breaker = a_breaker(clock, trip=FailureRate(ratio, window, calls))
    guarded = pipeline(breaker)
    for step in [1] * (calls - bad) + [OSError] * bad:
        assert CLOSED is breaker.state
        await guarded.outcome(Script(step))
    assert OPEN is breaker.state


@pytest.mark.parametrize("start", [0.0, 1000.0, 1e9 + 0.1, 86_400 * 3650.0])
@pytest.mark.parametrize("length", [0.1, 10.0, 1 / 3])
async def test_at_the_very_end_of_the_break_a_call_is_admitted(backend, clock, start, length):
    """
    Law 16, HO-002, H34, B2: ``now >= until``, whatever floats make of the sum; a moment before it is not.
    """
    clock.set(start)
    breaker = open_up(a_breaker(clock, break_duration=length))
    guarded, until = pipeline(breaker), start + length
    clock.set(until - max(1e-3 * length, 1e-6))
    with pytest.raises(CircuitOpenError) as caught:
        await guarded(Script(1))
    assert 0.0 < caught.value.retry_after <= length
    clock.set(until)
    assert 1 == await guarded(Script(1))
    assert CLOSED is breaker.state


async def test_open_past_its_end_is_open_until_somebody_asks(backend, clock):
    """
    Law 16, HO-022: ``state`` is OPEN and ``retry_after`` 0.0, for as long as nobody comes.
    """
    breaker = open_up(a_breaker(clock))
    for passed, left in ((0.0, BREAK), (4.0, 6.0), (6.0, 0.0), (1e6, 0.0)):
        clock.advance(passed)
        assert (OPEN, left, 2) == (breaker.state, breaker.retry_after, breaker.generation)
    await pipeline(breaker)(Script(1))
    assert (CLOSED, None) == (breaker.state, breaker.retry_after)


STATES = {
    "closed": lambda breaker, clock: None,
    "open": lambda breaker, clock: open_up(breaker),
    "open past its end": due,
    "half-open": lambda breaker, clock: (
        due(breaker, clock) and settle(breaker, stranger(breaker), Verdict.IGNORED)
    ),
    "half-open and full": lambda breaker, clock: due(breaker, clock) and stranger(breaker),
    "half-open past its lease": lambda breaker, clock: (
        due(breaker, clock) and stranger(breaker) and clock.advance(1000.0)
    ),
    "isolated": lambda breaker, clock: breaker.isolate(),
    "disabled": lambda breaker, clock: breaker.disable(),
    "observing": lambda breaker, clock: breaker.observe(),
}


@pytest.mark.parametrize("overdue_after", [None, 5.0])
@pytest.mark.parametrize("state", STATES)
async def test_reading_changes_nothing(*, backend, clock, state, overdue_after):
    """
    Law 16, B22: in every state, however often, with a call that has become overdue and a window that has aged.
    """
    trip = FailureRate(0.5, TimeWindow(20), 1) | SlowRate(0.5, 3.0, TimeWindow(20), 1)
    breaker = a_breaker(clock, trip=trip, overdue_after=overdue_after)
    guarded = pipeline(breaker)
    await guarded(Script(1))
    running = breaker.admit()
    STATES[state](breaker, clock)
    clock.advance(7.0)
    before, counted = visible(breaker), totals(breaker)
    for _ in range(5):
        assert (breaker.state, breaker.generation, breaker.retry_after) == (
            before[0],
            before[1],
            before[3],
        )
        assert f"{breaker.name!r}" in repr(breaker)
        assert (before, counted) == (visible(breaker), totals(breaker))
    running.ignore()


async def test_what_is_read_between_two_calls_does_not_change_what_comes_of_them(backend, clock):
    """
    Law 16, B22: two breakers live the same life, and one of them is looked at all the time.
    """
    trip = FailureRate(0.5, TimeWindow(10, 4), 4)
    watched, left_alone = a_breaker(clock, trip=trip), a_breaker(clock, trip=trip)
    steps = [1, OSError, 1, 1, OSError, 1, OSError, OSError, OSError, 1, 1, OSError] * 4
    for number, step in enumerate(steps):
        for _ in range(number % 3):
            clock.advance(0.9)
            assert watched.snapshot().retry_after == watched.retry_after
        for breaker in (watched, left_alone):
            await pipeline(breaker).outcome(Script(step))
    assert (visible(watched), totals(watched)) == (visible(left_alone), totals(left_alone))
    assert watched.snapshot().openings > 1


# ----------------------------------------------------------------------------------------- law 17


async def test_a_success_never_opens_though_the_ratio_has_come_to_be_met(backend, clock):
    """
    Law 17, CB-002, CB-007: the window ages past its successes; only the next failure opens.

    CB-002 has the fifth call, a success, open the circuit at 3 of 5; the law says that a success never does.
    """
    breaker = a_breaker(clock, trip=FailureRate(0.5, TimeWindow(10, 10), 2))
    guarded = pipeline(breaker)
    for _ in range(3):
        await guarded(Script(1))
    clock.advance(5.0)
    for _ in range(2):
        await guarded.outcome(Script(OSError))
    clock.advance(5.0)
    for _ in range(2):
        seen = breaker.snapshot()
        assert seen.failure_rate >= 0.5
        await guarded(Script(1))
        assert CLOSED is breaker.state
    await guarded.outcome(Script(OSError))
    assert OPEN is breaker.state


async def test_an_unmatched_error_and_an_ignored_one_open_nothing_either(backend, clock):
    """
    Law 17: the one is a success, the other is nothing.
    """
    breaker = a_breaker(clock, ignore=KeyError, trip=FailureRate(0.5, TimeWindow(10, 10), 2))
    guarded = pipeline(breaker)
    for step in (1, 1, 1):
        await guarded(Script(step))
    clock.advance(5.0)
    for step in (OSError, OSError):
        await guarded.outcome(Script(step))
    clock.advance(5.0)
    for step in (ValueError, KeyError):
        await guarded.outcome(Script(step))
        assert CLOSED is breaker.state
    assert breaker.snapshot().failure_rate >= 0.5


@pytest.mark.parametrize("ending", [1, OSError, ValueError])
async def test_a_slow_call_opens_whatever_its_outcome_is(backend, clock, ending):
    """
    Law 17, CB-019: a success, a failure and an answer nobody minds, if they took too long.
    """
    breaker = a_breaker(clock, trip=SlowRate(0.5, 5.0, CountWindow(4), 2))

    def slowly():
        clock.advance(5.0)
        if isinstance(ending, type):
            raise ending
        return ending

    guarded = pipeline(breaker)
    await guarded(Script(1))
    await guarded.outcome(Script(slowly))
    assert (OPEN, 1) == (breaker.state, breaker.snapshot().openings)


@pytest.mark.parametrize("how", ["overdue_after", "SlowRate"])
async def test_the_admission_that_finds_a_call_overdue_is_itself_rejected(backend, clock, how):
    """
    Law 17: a call found overdue may open, and who finds it is turned away by what was found.
    """
    options = {
        "overdue_after": {"overdue_after": 5.0},
        "SlowRate": {"trip": SlowRate(1.0, 5.0, CountWindow(10), 1)},
    }[how]
    breaker, script = a_breaker(clock, **options), Script(1)
    hanging = breaker.admit()
    clock.advance(5.0)
    with pytest.raises(CircuitOpenError) as caught:
        await pipeline(breaker)(script)
    assert ("OPEN", BREAK, 0) == (caught.value.state, caught.value.retry_after, script.calls)
    hanging.ignore()
