"""
How often a circuit opens in a day on which nothing is wrong.

The breakers alone, through their own doors, in a clock moved by hand: a call takes no time and the coroutine is driven
without a loop, so a day of 1,728,000 calls takes a few seconds. Retries and timeouts have no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Any

import attrs

from benchmarks.outcomes.contenders import (
    FAILURES,
    NOPANIC_BRISK,
    NOPANIC_LIKE_OURS,
    OPEN,
    STATED,
    rejection_classes,
    rivals_in_virtual_time,
)
from resilience import CircuitBreaker, CircuitState
from resilience.events import LOGGER
from resilience.testing import ManualClock

__all__ = ["BREAKERS", "DAY", "TRAFFIC", "Breaker", "Traffic", "openings", "our_breaker"]

DAY = 86_400.0
Callee = Callable[[], Coroutine[Any, Any, None]]


@attrs.frozen(kw_only=True)
class Traffic:
    """
    Calls and errors of a day.

    Attributes:
        name: As in the table.
        rate: Calls per second, Poisson.
        errors: Share of the calls that fail, each for itself.
        blackout: Seconds for which everything fails, once in every `every` seconds. Default none.
    """

    name: str
    rate: float
    errors: float
    blackout: float = 0.0
    every: float = 100.0


TRAFFIC: dict[str, Traffic] = {
    traffic.name: traffic
    for traffic in (
        Traffic(name="1 % errors, 20 calls/s", rate=20.0, errors=0.01),
        Traffic(name="1 % errors, 0.5 calls/s", rate=0.5, errors=0.01),
        Traffic(name="10 % errors, 20 calls/s", rate=20.0, errors=0.1),
        Traffic(name="10 % errors, 0.5 calls/s", rate=0.5, errors=0.1),
        Traffic(name="25 % errors, 20 calls/s", rate=20.0, errors=0.25),
        Traffic(name="all fail for 1 s of 100, 20 calls/s", rate=20.0, errors=0.0, blackout=1.0),
    )
}


def _calls(traffic: Traffic, seconds: float, seed: int) -> Iterator[tuple[float, bool]]:
    rng = Random(seed)
    at = 0.0
    while (at := at + rng.expovariate(traffic.rate)) < seconds:
        fails = rng.random() < traffic.errors
        yield at, fails or at % traffic.every >= traffic.every - traffic.blackout


@attrs.frozen
class Breaker:
    """A breaker to be watched: from a clock and a callee it builds the guarded callee, and whether it is open now."""

    name: str
    build: Callable[[ManualClock, Callee], tuple[Callable[[], Any], Callable[[], bool]]]
    needs: tuple[str, ...] = ()


def our_breaker(name: str, **settings: Any) -> Breaker:
    """One of this package, with these settings."""

    def build(clock: ManualClock, callee: Callee) -> Any:
        breaker = CircuitBreaker(f"day of {name}", on=FAILURES, clock=clock, **settings)
        return breaker.wrap(callee), lambda: breaker.state is CircuitState.OPEN

    return Breaker(name, build)


def _nopanic(name: str, **settings: float) -> Breaker:
    def build(clock: ManualClock, callee: Callee) -> Any:
        import nopanic  # noqa: PLC0415 - a rival

        breaker = nopanic.circuit_breaker(
            **NOPANIC_LIKE_OURS | settings, on=FAILURES, clock=clock.now
        )
        return breaker(callee), lambda: breaker.state == OPEN

    return Breaker(name, build, ("nopanic",))


def _circuitbreaker(clock: ManualClock, callee: Callee) -> Any:
    import circuitbreaker  # noqa: PLC0415 - a rival

    breaker = circuitbreaker.CircuitBreaker(expected_exception=FAILURES, name="day")
    return breaker(callee), lambda: breaker.opened


BREAKERS: tuple[Breaker, ...] = (
    Breaker("circuitbreaker", _circuitbreaker, ("circuitbreaker",)),
    _nopanic("nopanic"),
    _nopanic("nopanic, brisk", **NOPANIC_BRISK),
    our_breaker("resilience"),
    our_breaker("resilience, stated", **STATED),
)


def openings(breaker: Breaker, traffic: Traffic, *, seconds: float = DAY, seed: int = 1) -> int:
    """
    How often it opens.

    Args:
        breaker: One of `BREAKERS`, or `our_breaker` with other settings.
        traffic: One of `TRAFFIC`.
        seconds: How long, simulated. Default a day.
        seed: Of the traffic.
    """
    clock = ManualClock(0.0)
    failing = ran = False
    opened = 0

    async def callee() -> None:
        nonlocal ran
        ran = True
        if failing:
            raise ConnectionError

    expected = (ConnectionError, *rejection_classes())
    silent, LOGGER.disabled = LOGGER.disabled, True
    try:
        with rivals_in_virtual_time(seed, clock.now):
            guarded, is_open = breaker.build(clock, callee)
            for at, failing in _calls(traffic, seconds, seed):  # noqa: B007 - the callee reads it
                clock.set(at)
                ran = False
                try:
                    guarded().send(None)
                except StopIteration:
                    continue
                except expected:
                    opened += ran and is_open()  # it was let in, so it found the circuit not open
                    continue
                raise RuntimeError(f"{breaker.name} waited for something")
    finally:
        LOGGER.disabled = silent
    return opened
