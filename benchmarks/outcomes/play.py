"""
One plan played by one contender: calls arrive whether or not the earlier ones are done, and everything is written down.
"""

from __future__ import annotations

import asyncio
from random import Random

import attrs

from benchmarks.outcomes.contenders import (
    CLOSED,
    RETRYABLE,
    Contender,
    rejection_classes,
    rivals_in_virtual_time,
)
from benchmarks.outcomes.plans import Plan
from benchmarks.outcomes.server import Luck, Server, failing_aloud
from resilience.events import LOGGER
from resilience.testing import run

__all__ = ["BASE_RATE", "Call", "Story", "arrivals", "play"]

BASE_RATE = 100.0
"""Calls per second for which the plans size their server."""


@attrs.define
class Call:
    """One call: when it arrived, how long its caller waited, whether there was an answer; seconds."""

    at: float
    waited: float = 0.0
    answered: bool = False


@attrs.frozen
class Story:
    """
    What happened.

    Attributes:
        plan, contender: Who played what; the contender's key.
        rate: Calls per second on average.
        calls: In the order in which they arrived.
        reached: Instants at which a request reached the server, in order.
        states: Instants and states of the breaker, from "closed" at 0 on; one entry only for who has none.
        in_flight: Most calls in flight at once.
        wasted: Requests the server worked on for nobody.
    """

    plan: Plan
    contender: str
    rate: float
    calls: list[Call]
    reached: list[float]
    states: list[tuple[float, str]]
    in_flight: int
    wasted: int


def arrivals(rate: float, seconds: float, seed: int, *, poisson: bool = True) -> list[float]:
    """
    When calls arrive.

    Args:
        rate: Calls per second.
        seconds: Until when.
        seed: The same seed, the same instants.
        poisson: Independent of one another; else at equal distances.
    """
    if not poisson:
        return [number / rate for number in range(int(rate * seconds))]
    rng = Random(seed)
    found, at = [], rng.expovariate(rate)
    while at < seconds:
        found.append(at)
        at += rng.expovariate(rate)
    return found


def play(
    plan: Plan,
    contender: Contender,
    *,
    seed: int = 1,
    rate: float = BASE_RATE,
    poisson: bool = True,
) -> Story:
    """
    Play it in virtual time. The same arguments give the same story, and every contender gets the same calls and luck.

    Args:
        plan: As in `PLANS`; its server is scaled to the rate.
        contender: Who guards the calls.
        seed: Of arrivals, work and jitter.
        rate: Calls per second, > 0. Default 100.
        poisson: As in `arrivals`.
    """
    plan = plan.scaled(rate / BASE_RATE)
    silent, LOGGER.disabled = LOGGER.disabled, True
    try:
        with rivals_in_virtual_time(seed):
            return run(_play, plan, contender, seed, rate, poisson)
    finally:
        LOGGER.disabled = silent


async def _play(plan: Plan, contender: Contender, seed: int, rate: float, poisson: bool) -> Story:  # noqa: FBT001
    calls = [Call(at) for at in arrivals(rate, plan.seconds, seed, poisson=poisson)]
    server = Server(plan, Luck(len(calls), seed + 1))
    states = [(0.0, CLOSED)]

    def note(state: str) -> None:
        if state != states[-1][1]:
            states.append((server.now, state))

    guarded = contender.build(server.request, note, seed + 2)
    expected = (*RETRYABLE, *rejection_classes())
    flying = most = 0

    async def one(number: int, call: Call) -> None:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        try:
            await guarded(number)
            call.answered = True
        except expected:
            pass
        finally:
            flying -= 1
            call.waited = server.now - call.at

    with failing_aloud():
        async with asyncio.TaskGroup() as tasks:
            for number, call in enumerate(calls):
                await asyncio.sleep(max(0.0, call.at - server.now))
                call.at = server.now
                tasks.create_task(one(number, call))
    return Story(plan, contender.key, rate, calls, server.reached, states, most, server.wasted)
