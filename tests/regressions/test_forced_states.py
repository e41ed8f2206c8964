"""
`forced` lost the mode and the isolation that a breaker had been given by hand.
"""

from __future__ import annotations

import pytest

from resilience import CircuitBreaker, CircuitState
from resilience.testing import forced


@pytest.mark.parametrize("state", list(CircuitState))
def test_a_forced_state_leaves_the_mode_as_it_was(clock, state):
    """A disabled breaker is disabled again afterwards, and still is when an isolation ends."""
    breaker = CircuitBreaker(f"forced mode {state}", on=OSError, clock=clock)
    breaker.disable()

    with forced(breaker, state):
        assert state is breaker.state

    assert CircuitState.DISABLED is breaker.state
    with breaker.isolate():
        assert CircuitState.ISOLATED is breaker.state
    assert CircuitState.DISABLED is breaker.state


@pytest.mark.parametrize("state", list(CircuitState))
def test_a_forced_state_leaves_an_isolation_as_it_was(clock, state):
    """An isolated breaker is isolated again afterwards, by the same hold."""
    breaker = CircuitBreaker(f"forced isolation {state}", on=OSError, clock=clock)
    hold = breaker.isolate()

    with forced(breaker, state):
        assert state is breaker.state

    assert CircuitState.ISOLATED is breaker.state
    hold.release()
    assert CircuitState.CLOSED is breaker.state


@pytest.mark.parametrize("state", list(CircuitState))
def test_a_breaker_that_was_open_is_closed_and_fresh_after_a_forced_state(clock, state):
    """What it knew before the test is not the test's to bring back."""
    breaker = CircuitBreaker(f"forced open {state}", on=OSError, clock=clock)

    with forced(breaker, CircuitState.OPEN), forced(breaker, state):
        assert state is breaker.state

    assert CircuitState.CLOSED is breaker.state
    assert 0 == breaker.snapshot().calls
