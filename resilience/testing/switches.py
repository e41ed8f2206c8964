"""
Switches for a test: no waiting, no policies, a breaker in a given state.

The first two hold for the current context only, so tests that run side by side do not see each other's.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

from resilience.core.generations import CircuitState
from resilience.modes import MODES
from resilience.policies.circuit_breaker import CircuitBreaker

__all__ = ["disabled", "forced", "instant"]


def instant() -> AbstractContextManager[None]:
    """Within this block and the tasks it starts, retries wait no time between attempts."""
    return MODES.make_instant()


def disabled() -> AbstractContextManager[None]:
    """Within this block and the tasks it starts, every pipeline is the bare call."""
    return MODES.disable()


@contextmanager
def forced(breaker: CircuitBreaker, state: CircuitState) -> Generator[CircuitBreaker]:
    """
    Put *breaker* into a fresh generation of *state* for a while.

    At the end it is closed and fresh, or what it was by hand before.

    An OPEN one ends its break on its own clock as always; HALF_OPEN has all its probes to give.
    """
    before = breaker.state
    breaker._core.force(state)  # noqa: SLF001 - our own
    try:
        yield breaker
    finally:
        # Not reset(): that would void the holds of an isolation and forget the mode set by hand.
        passing = {CircuitState.OPEN, CircuitState.HALF_OPEN}
        breaker._core.force(CircuitState.CLOSED if before in passing else before)  # noqa: SLF001
