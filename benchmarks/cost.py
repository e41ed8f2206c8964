"""
The contenders: floors, each policy, compositions and doors of ours, and the timeouts of asyncio, anyio and trio.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings

import anyio
import trio

from benchmarks.rounds import Contender
from resilience import (
    CircuitBreaker,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    Pipeline,
    PipelineWarning,
    Retry,
    SlowRate,
    Timeout,
)
from resilience.events import CircuitStateChanged, RetryScheduled

TRANSIENT = (ConnectionError, TimeoutError)


async def callee(value: int) -> int:
    return value


async def suspending(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def failing(value: int) -> int:
    raise ConnectionError


async def w(*args: object, **kwargs: object) -> object:
    return await callee(*args, **kwargs)  # type: ignore[arg-type]


async def w_suspending(*args: object, **kwargs: object) -> object:
    return await suspending(*args, **kwargs)  # type: ignore[arg-type]


async def three_failing_attempts(value: int) -> None:
    """The bare loop that three failing attempts are held against."""
    for _ in range(3):
        with contextlib.suppress(ConnectionError):
            await failing(value)


def pipeline(*policies: object, **options: object) -> Pipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)
        return Pipeline(*policies, **options)  # type: ignore[arg-type]


def canonical(name: str) -> Pipeline:
    """Breaker, retry and timeout, as the targets mean them."""
    return pipeline(Retry(3, on=TRANSIENT), CircuitBreaker(name, on=TRANSIENT), Timeout(5))


def listening(name: str) -> Pipeline:
    def listener(event: object) -> None:
        del event

    listener.listens_to = (CircuitStateChanged, RetryScheduled)  # type: ignore[attr-defined]
    return pipeline(
        Retry(3, on=TRANSIENT), CircuitBreaker(name, on=TRANSIENT), Timeout(5), listeners=[listener]
    )


async def asyncio_timeout(value: int) -> int:
    async with asyncio.timeout(5):
        return await callee(value)


async def anyio_fail_after(value: int) -> int:
    with anyio.fail_after(5):
        return await callee(value)


def on_asyncio() -> dict[str, Contender]:
    """Everything that can be measured on asyncio, by name."""
    count = FailureRate(0.5, CountWindow(100))
    slow = FailureRate() | SlowRate(0.5, 2.0)
    never = ConsecutiveFailures(10**9)
    breaker = CircuitBreaker("open", on=TRANSIENT)
    breaker.isolate()
    rejected = pipeline(breaker).wrap(callee)
    retried = pipeline(
        Retry(3, on=TRANSIENT, wait=lambda _: 0.0),
        CircuitBreaker("failing", on=TRANSIENT, trip=never),
    ).wrap(failing)

    async def rejected_and_caught(value: int) -> None:
        with contextlib.suppress(Exception):
            await rejected(value)

    async def retried_and_caught(value: int) -> None:
        with contextlib.suppress(ConnectionError):
            await retried(value)

    async def raised_and_caught(value: int) -> None:
        with contextlib.suppress(ConnectionError):
            await failing(value)

    called = canonical("called")
    return {
        "bare await": callee,
        "W": w,
        "empty pipeline": pipeline().wrap(callee),
        "Retry": pipeline(Retry(3, on=TRANSIENT)).wrap(callee),
        "CircuitBreaker, time window": pipeline(CircuitBreaker("t", on=TRANSIENT)).wrap(callee),
        "CircuitBreaker, count window": pipeline(
            CircuitBreaker("c", on=TRANSIENT, trip=count)
        ).wrap(callee),
        "CircuitBreaker, SlowRate": pipeline(CircuitBreaker("s", on=TRANSIENT, trip=slow)).wrap(
            callee
        ),
        "Timeout": pipeline(Timeout(5)).wrap(callee),
        "asyncio.timeout": asyncio_timeout,
        "anyio.fail_after": anyio_fail_after,
        "Retry + CircuitBreaker + Timeout": canonical("wrapped").wrap(callee),
        "the same, called: await p(fn, x)": lambda value: called(callee, value),
        "the same, a listener for transitions and retries": listening("heard").wrap(callee),
        "with a total Timeout outside": pipeline(Timeout(60), canonical("total")).wrap(callee),
        "suspends once: W": w_suspending,
        "suspends once: Retry + CircuitBreaker + Timeout": canonical("suspends").wrap(suspending),
        "raises: bare": raised_and_caught,
        "rejected by an isolated CircuitBreaker": rejected_and_caught,
        "three failing attempts: bare loop": three_failing_attempts,
        "three failing attempts: Retry + CircuitBreaker": retried_and_caught,
    }


def on_trio() -> dict[str, Contender]:
    """Timeouts on trio, by name."""

    async def fail_after(value: int) -> int:
        with trio.fail_after(5):
            return await callee(value)

    async def cancel_scope(value: int) -> int:
        with trio.CancelScope(deadline=trio.current_time() + 5):
            return await callee(value)

    return {
        "W": w,
        "trio.CancelScope with a deadline": cancel_scope,
        "trio.fail_after": fail_after,
        "Timeout": pipeline(Timeout(5)).wrap(callee),
        "Retry + CircuitBreaker + Timeout": canonical("trio").wrap(callee),
    }
