"""
Breakers in every state, and callees that stop where a test wants them to.

For the laws, the cases and the hazards of the circuit breaker; the checks are the tests' own.
"""

from __future__ import annotations

import itertools
import os
import types
import warnings
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
from hypothesis import HealthCheck, settings

from resilience import (
    CircuitBreaker,
    CircuitState,
    ConsecutiveFailures,
    Pipeline,
    PipelineWarning,
    Policy,
)
from resilience.core.generations import Ticket
from resilience.testing import ManualClock
from resilience.verdicts import Verdict

BREAK = 10.0
"""Seconds that a breaker of this kit stays open, unless told otherwise."""

_numbers = itertools.count(1)


def a_breaker(clock: ManualClock | None = None, **options: Any) -> CircuitBreaker:
    """Opens at the first OSError, for `BREAK` seconds, under a name of its own; options as they are given."""
    given: dict[str, Any] = {
        "on": OSError,
        "trip": ConsecutiveFailures(1),
        "break_duration": BREAK,
        "clock": clock,
    }
    return CircuitBreaker(f"breaker-{next(_numbers)}", **(given | options))


def pipeline(*policies: Policy | Pipeline, **options: Any) -> Pipeline:
    """A pipeline of a shape that the test is about, whatever the checks would warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)
        return Pipeline(*policies, **options)


def open_up(breaker: CircuitBreaker) -> CircuitBreaker:
    """Failures by hand until it is open."""
    for _ in range(1000):
        breaker.admit().failure(OSError("down"))
        if breaker.state is CircuitState.OPEN:
            return breaker
    raise RuntimeError(f"{breaker!r} does not open")


def due(breaker: CircuitBreaker, clock: ManualClock) -> CircuitBreaker:
    """Opened, and its break is over: the next caller is a probe."""
    open_up(breaker)
    clock.advance(breaker.retry_after or 0.0)
    return breaker


def stranger(breaker: CircuitBreaker) -> Ticket | None:
    """A permit for somebody who is no task and can ride on none, or None if the breaker refuses."""
    answer = breaker._core.circuit.admit(breaker._core.now())
    return answer if isinstance(answer, Ticket) else None


def settle(breaker: CircuitBreaker, ticket: Ticket, verdict: Verdict) -> None:
    """The end of a stranger's call."""
    breaker._core.circuit.settle(ticket, verdict, breaker._core.now())


def free_seats(breaker: CircuitBreaker) -> int:
    """Probes that a half-open breaker would admit now: all are taken, and given back unused."""
    if breaker.state is not CircuitState.HALF_OPEN:
        raise RuntimeError(f"{breaker.state} has no seats")
    taken = []
    while (ticket := stranger(breaker)) is not None:
        taken.append(ticket)
    for ticket in taken:
        settle(breaker, ticket, Verdict.IGNORED)
    return len(taken)


def totals(breaker: CircuitBreaker) -> dict[str, int]:
    """Every outcome of its life, by name."""
    counted = breaker.snapshot().totals
    names = ("successes", "failures", "ignored", "slow", "rejected", "openings")
    return {name: getattr(counted, name) for name in names}


def gained(breaker: CircuitBreaker, before: dict[str, int]) -> dict[str, int]:
    """What its lifetime totals have gained since, without the zeros."""
    after = totals(breaker)
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def visible(breaker: CircuitBreaker) -> tuple[Any, ...]:
    """All that a snapshot shows but the lifetime totals."""
    seen = breaker.snapshot()
    return (
        seen.state,
        seen.generation,
        seen.since,
        seen.retry_after,
        seen.calls,
        seen.failures,
        seen.slow,
        seen.failure_rate,
        seen.slow_rate,
        seen.openings,
        seen.rejected,
        seen.last_failure,
    )


def a_cancellation() -> BaseException:
    """A cancellation that nobody asked for, as a callee could raise it by itself."""
    kind = anyio.get_cancelled_exc_class()
    # trio's has no public constructor: there, only trio makes them.
    return kind._create(source="unknown") if hasattr(kind, "_create") else kind("own")


class Held:
    """
    An async callee that says when it is entered and ends when it is told to.

    Args:
        ending: What it returns, or an exception that it raises.
    """

    def __init__(self, ending: Any = None) -> None:
        self.ending = ending
        self.calls = 0
        self.entered = anyio.Event()
        self.go = anyio.Event()
        self.thrown: BaseException | None = None

    async def __call__(self) -> Any:
        self.calls += 1
        self.entered.set()
        try:
            await self.go.wait()
        except BaseException as error:
            self.thrown = error
            raise
        if isinstance(self.ending, BaseException):
            raise self.ending
        return self.ending


class Caught:
    """What a call in a task of its own came to: ``result`` or ``error``."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = anyio.Event()

    async def __call__(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> None:
        try:
            self.result = await fn(*args)
        except BaseException as error:
            self.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self.done.set()


@types.coroutine
def suspended(mark: str) -> Generator[str, Any, Any]:
    """Awaited in a coroutine that is driven by hand: stops it there and hands *mark* to whoever drives."""
    return (yield mark)


def examples(count: int) -> settings:
    """So many examples, the same ones wherever CI runs."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize="CI" in os.environ,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
