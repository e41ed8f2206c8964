"""
Switches for a test: no waiting, no policies, an engine, a breaker in a given state.

All but the last hold for the current context only, so tests that run side by side do not see each other's.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

from resilience.core.generations import CircuitState
from resilience.modes import MODES, Engine
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.validation import check, one_of

__all__ = ["disabled", "engine", "forced", "instant"]

_ENGINE = one_of(
    '"linked" or "express"',
    lambda value: value in ("linked", "express"),
    {"none": None, "other": "fast"},
)


def instant() -> AbstractContextManager[None]:
    """Within this block and the tasks it starts, retries wait no time between attempts."""
    return MODES.make_instant()


def disabled() -> AbstractContextManager[None]:
    """Within this block and the tasks it starts, every pipeline is the bare call."""
    return MODES.disable()


@contextmanager
def engine(name: Engine) -> Generator[None]:
    """
    What is wrapped within this block runs on this engine; they differ in nothing but speed.

    A guard that runs functions unwrapped keeps the engine of its first call.

    Args:
        name: ``"linked"``, one step inside another; or ``"express"``, the default: one frame for all of them where the
            policies allow it, which leaves whatever is not a plain success to the linked steps.

    Raises:
        ConfigurationError: it is neither.
    """
    check("engine.name", name, _ENGINE)
    token = MODES.engine.set(name)
    try:
        yield
    finally:
        MODES.engine.reset(token)


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
