"""
What somebody reads at three in the morning: a rejection says why, where its state alone does not.
"""

import pytest

from resilience import CircuitBreaker, CircuitIsolatedError, CircuitOpenError, ConsecutiveFailures


def a_breaker(name, clock):
    options = {"trip": ConsecutiveFailures(1), "break_duration": 10, "clock": clock}
    return CircuitBreaker(name, on=OSError, **options)


def test_a_half_open_circuit_says_that_its_probes_are_in_flight(clock):
    """Law 11: the others are rejected at once; until when, nobody knows."""
    breaker = a_breaker("half", clock)
    breaker.admit().failure(OSError())
    clock.advance(10)

    with breaker.admit(), pytest.raises(CircuitOpenError) as caught:
        breaker.admit()

    assert (
        "circuit 'half' is HALF_OPEN and all its probes are in flight; last failure: OSError"
        == str(caught.value)
    )


def test_an_open_circuit_says_for_how_long(clock):
    """The seconds, and what was seen last."""
    breaker = a_breaker("open", clock)
    breaker.admit().failure(OSError())
    clock.advance(4)

    with pytest.raises(CircuitOpenError) as caught:
        breaker.admit()

    assert "circuit 'open' is OPEN; retry in 6 s; last failure: OSError" == str(caught.value)


def test_an_isolated_circuit_says_that_it_was_by_hand(clock):
    """It ends by hand as well; the hold says of which breaker it is."""
    breaker = a_breaker("held", clock)
    with breaker.isolate() as hold, pytest.raises(CircuitIsolatedError) as caught:
        breaker.admit()

    assert "circuit 'held' is ISOLATED by hand" == str(caught.value)
    assert "<Isolation of 'held'>" == repr(hold)
