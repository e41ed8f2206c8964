"""
The circuit by itself, with time as an argument: both kinds of it, with and without a lock.
"""

from __future__ import annotations

from typing import Any

import pytest

from resilience import (
    CircuitState,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    SlowRate,
)
from resilience.core.circuit import Circuit, LockedCircuit
from resilience.core.generations import Refusal, Rules, Ticket
from resilience.core.windows import Counts
from resilience.verdicts import Verdict
from tests.laws.breaker.kit import a_breaker

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
SUCCESS, FAILURE, IGNORED = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED


@pytest.fixture(params=[Circuit, LockedCircuit])
def circuit_of(request):
    """Makes a circuit that begins at 0 s and, unless told otherwise, opens at the first failure for 10 s."""

    def make(announce=lambda _: None, crossed=lambda *_: None, **given: Any):
        rules: dict[str, Any] = {
            "trip": ConsecutiveFailures(1),
            "break_after": lambda _: 10.0,
            "probes": 1,
            "successes_to_close": 1,
            "probe_lease": 60.0,
            "overdue_after": None,
        }
        return request.param(Rules(**(rules | given)), 0.0, announce, crossed)

    return make


def opened(circuit, now: float = 0.0):
    """Opened by one failure."""
    circuit.settle(circuit.admit(now), FAILURE, now)
    return circuit


def test_admission_gives_a_ticket_or_a_refusal_that_says_for_how_long(circuit_of):
    """
    Law 8 and 16: closed admits, open refuses with the seconds that remain, and admits at the very end.
    """
    circuit = opened(circuit_of())
    assert Refusal(OPEN, 10.0) == circuit.admit(0.0)
    assert Refusal(OPEN, 0.5) == circuit.admit(9.5)
    assert isinstance(circuit.admit(10.0), Ticket)
    assert Refusal(HALF_OPEN, None) == circuit.admit(10.0)
    assert 3 == circuit.totals.rejected


def test_the_first_lease_to_end_decides_when_the_break_begins(circuit_of):
    """
    Law 12: a probe has failed from the instant its lease ended, also when its own late answer is what is heard first.
    """
    circuit = opened(circuit_of(probes=2))
    first, second = circuit.admit(10.0), circuit.admit(15.0)
    circuit.settle(first, SUCCESS, 90.0)
    assert (OPEN, 70.0, 80.0) == (
        circuit.current.state,
        circuit.current.since,
        circuit.current.until,
    )
    circuit.settle(second, SUCCESS, 90.0)
    assert OPEN is circuit.current.state


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_probe_that_hangs_past_its_lease_reopens_when_another_one_settles(circuit_of, verdict):
    """
    Laws 12 and 18: it counts as failure from that instant, so a success that comes later cannot close.
    """
    circuit = opened(circuit_of(probes=2))
    circuit.admit(10.0)
    later = circuit.admit(15.0)
    circuit.settle(later, verdict, 70.0)
    assert (OPEN, 70.0) == (circuit.current.state, circuit.current.since)


def test_an_overdue_probe_reopens_when_another_one_settles(circuit_of):
    """
    Laws 11 and 18: a call that runs too long counts as soon as another is settled, a probe among them.
    """
    circuit = opened(circuit_of(probes=2, overdue_after=5.0))
    circuit.admit(10.0)
    later = circuit.admit(12.0)
    circuit.settle(later, SUCCESS, 15.0)
    assert (OPEN, 15.0, 25.0) == (
        circuit.current.state,
        circuit.current.since,
        circuit.current.until,
    )


def test_an_opening_is_counted_before_it_is_announced(circuit_of):
    """
    Law 14: announced after it happened; who reads the circuit then finds all of it.
    """
    seen = []
    circuit = circuit_of(
        announce=lambda _: seen.append((circuit.totals.openings, circuit.current.state))
    )
    opened(circuit)
    circuit.settle(circuit.admit(10.0), FAILURE, 10.0)
    assert [(1, OPEN), (1, HALF_OPEN), (2, OPEN)] == seen


@pytest.mark.parametrize("now", [0.0, -0.5, -3600.0])
def test_a_clock_that_runs_backwards_promises_no_longer_break_than_there_is(circuit_of, now):
    """
    Law 20, B2, B21, H33: still open, and ``retry_after`` stays within the break.
    """
    circuit = opened(circuit_of())
    assert Refusal(OPEN, 10.0) == circuit.admit(now)
    assert 10.0 == circuit.retry_after(now)


def test_a_failure_window_that_is_not_there_is_all_of_the_generation(circuit_of):
    """
    The counts of a circuit that trips on slow calls alone: no failure is counted among fewer calls than there were.
    """
    circuit = circuit_of(trip=SlowRate(1.0, 5.0, CountWindow(4), 4))
    for _ in range(10):
        circuit.settle(circuit.admit(0.0), FAILURE, 0.0)
    slow = circuit.admit(0.0)
    circuit.settle(slow, SUCCESS, 5.0)
    assert (Counts(11, 10), Counts(4, 1)) == circuit.counts(5.0)


def test_shares_are_shares_of_their_own_windows(clock):
    """
    A rate is never more than 1: slow calls are compared with the calls of the slow window, failures with theirs.
    """
    trip = FailureRate(1.0, CountWindow(2), 2) | SlowRate(1.0, 5.0, CountWindow(10), 10)
    breaker = a_breaker(clock, trip=trip)
    for _ in range(4):
        permit = breaker.admit()
        clock.advance(5.0)
        permit.success()
    seen = breaker.snapshot()
    assert (2, 0, 4) == (seen.calls, seen.failures, seen.slow)
    assert (0.0, 1.0) == (seen.failure_rate, seen.slow_rate)

    slow_only = a_breaker(clock, trip=SlowRate(1.0, 5.0, CountWindow(2), 2))
    for _ in range(6):
        slow_only.admit().failure()
    slow_only.admit().success()
    assert (7, 6, 0) == (
        slow_only.snapshot().calls,
        slow_only.snapshot().failures,
        slow_only.snapshot().slow,
    )
    assert (6 / 7, 0.0) == (slow_only.snapshot().failure_rate, slow_only.snapshot().slow_rate)


def test_an_overdue_call_is_judged_before_the_success_that_finds_it(circuit_of):
    """
    Laws 17 and 18, B12: what trips is taken at once; the finder's own success comes after, and opens nothing itself.
    """
    circuit = circuit_of(overdue_after=5.0)
    finder = circuit.admit(0.0)
    circuit.admit(0.0)
    circuit.settle(finder, SUCCESS, 5.0)
    assert (OPEN, 1) == (circuit.current.state, circuit.lifetime_successes())

    circuit = circuit_of(overdue_after=5.0, trip=FailureRate(0.5, CountWindow(10), 2))
    finder = circuit.admit(0.0)
    circuit.admit(0.0)
    circuit.settle(finder, SUCCESS, 5.0)
    assert (CLOSED, Counts(2, 1)) == (circuit.current.state, circuit.counts(5.0)[0])


def test_a_transition_that_another_thread_makes_is_left_to_it(circuit_of):
    """
    Laws 14 and 15: one makes the move out of a generation; who comes meanwhile draws no break and counts nothing.
    """
    drawn = []
    circuit = circuit_of(break_after=lambda number: drawn.append(number) or 10.0)
    token = circuit.current.turn.pop()
    circuit.settle(circuit.admit(0.0), FAILURE, 0.0)
    assert ([], CLOSED, 0) == (drawn, circuit.current.state, circuit.totals.openings)
    circuit.current.turn.append(token)
    opened(circuit)
    assert ([1], OPEN, 1) == (drawn, circuit.current.state, circuit.totals.openings)


def test_a_break_that_trips_its_own_circuit_opens_it_once(circuit_of):
    """
    Law 14: the user's function runs before the move, and may have made it when it returns.
    """
    heard, deep = [], []

    def breaks(number):
        if not deep:
            deep.append(1)
            opened(circuit)
        return 10.0 * number

    circuit = circuit_of(announce=lambda moved: heard.append(moved.new), break_after=breaks)
    opened(circuit)
    assert ([OPEN], 2, 1, 10.0) == (
        heard,
        circuit.current.number,
        circuit.totals.openings,
        circuit.retry_after(0.0),
    )


def test_an_observing_circuit_tells_each_crossing_once(circuit_of):
    """
    Law 14, MAN-006: not each failure beyond it; and again when the condition has been false in between.
    """
    told = []
    circuit = circuit_of(
        trip=FailureRate(0.5, CountWindow(4), 2), crossed=lambda *seen: told.append(seen)
    )
    circuit.observe(0.0)
    for verdict in (
        SUCCESS,
        FAILURE,
        FAILURE,
        FAILURE,
        SUCCESS,
        SUCCESS,
        SUCCESS,
        FAILURE,
        FAILURE,
    ):
        circuit.settle(circuit.admit(0.0), verdict, 0.0, "OSError")
    assert [(Counts(2, 1), 0, "OSError", 0.0), (Counts(4, 2), 0, "OSError", 0.0)] == told
    assert (CircuitState.OBSERVING, 0) == (circuit.current.state, circuit.totals.openings)
