"""
Who plays: each contender as its own documentation would write it, around the same request.

Settings are equal where two libraries have the same setting, and the library's default where they have not. All limits
of a call are the same (10 s in all, 2 s for an attempt, three attempts), but for the bare call, which has a client's
timeout of 30 s and nothing else.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from random import Random
from types import SimpleNamespace
from typing import Any

import attrs

from benchmarks.outcomes.server import TooManyRequestsError
from resilience import (
    CircuitBreaker,
    CountWindow,
    FailureRate,
    Pipeline,
    Retry,
    RetryBudget,
    Timeout,
    TimeWindow,
)
from resilience.clock import loop_time
from resilience.errors import RejectedError
from resilience.events import CircuitStateChanged

__all__ = [
    "ATTEMPT", "CLOSED", "CONTENDERS", "HALF_OPEN", "OPEN", "STATED", "TOTAL", "Contender", "missing",
    "our_pipeline", "rivals_in_virtual_time",
]  # fmt: skip

Request = Callable[[int], Awaitable[None]]
Note = Callable[[str], None]

TOTAL, ATTEMPT, CLIENT = 10.0, 2.0, 30.0
ATTEMPTS = 3
FAILURES = (ConnectionError, TimeoutError)
RETRYABLE = (*FAILURES, TooManyRequestsError)
CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"
_NUMBERS = itertools.count()  # two live breakers of one name warn


@attrs.frozen
class Contender:
    """
    One way to make the call.

    Attributes:
        key, name: For the command line, and for people.
        text: What stands around the request.
        build: From the request, a function that hears of each state of the breaker, and a seed, the guarded call.
        needs: Distributions that must be installed.
        breaks: Whether it has a circuit breaker.
    """

    key: str
    name: str
    text: str
    build: Callable[[Request, Note, int], Request]
    needs: tuple[str, ...] = ()
    breaks: bool = True


def missing(needs: Iterable[str]) -> tuple[str, ...]:
    """Those of these distributions that are not installed."""

    def absent(name: str) -> bool:
        try:
            version(name)
        except PackageNotFoundError:
            return True
        return False

    return tuple(name for name in needs if absent(name))


def rejection_classes() -> tuple[type[Exception], ...]:
    """What an open circuit of any contender raises."""
    found: list[type[Exception]] = [RejectedError]
    for module, name in (("circuitbreaker", "CircuitBreakerError"), ("nopanic", "CircuitOpen")):
        try:
            found.append(getattr(importlib.import_module(module), name))
        except ModuleNotFoundError:
            continue
    return tuple(found)


@contextmanager
def rivals_in_virtual_time(seed: int, now: Callable[[], float] = loop_time) -> Iterator[None]:
    """
    While this holds, contenders that read the clock or draw from the module `random` directly can be repeated.

    circuitbreaker imports `time.monotonic` by name and has no setting for it, so the name is replaced there. tenacity
    and nopanic draw their jitter from the module `random`.
    """
    before = random.getstate()
    random.seed(seed)
    try:
        module: Any = importlib.import_module("circuitbreaker")
    except ModuleNotFoundError:
        module = SimpleNamespace()
    module.monotonic = now
    try:
        yield
    finally:
        module.monotonic = time.monotonic
        random.setstate(before)


def _bare(request: Request, note: Note, seed: int) -> Request:
    async def call(number: int) -> None:
        async with asyncio.timeout(CLIENT):
            await request(number)

    return call


def _naive(request: Request, note: Note, seed: int) -> Request:
    async def call(number: int) -> None:
        for _ in range(ATTEMPTS - 1):
            try:
                async with asyncio.timeout(ATTEMPT):
                    return await request(number)
            except RETRYABLE:
                pass  # at once
        async with asyncio.timeout(ATTEMPT):
            return await request(number)

    return call


def _mix(request: Request, note: Note, seed: int) -> Request:
    import circuitbreaker  # noqa: PLC0415 - a rival
    import tenacity  # noqa: PLC0415 - (as circuitbreaker)

    breaker: Any = circuitbreaker.CircuitBreaker(
        expected_exception=FAILURES, name=f"mix {next(_NUMBERS)}"
    )

    async def attempt(number: int) -> None:
        async with asyncio.timeout(ATTEMPT):
            await request(number)

    guarded = breaker(attempt)

    async def watched(number: int) -> None:
        note(breaker.state)  # it tells nobody, so it is asked before and after
        try:
            await guarded(number)
        finally:
            note(breaker.state)

    retried = tenacity.retry(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=5),
        retry=tenacity.retry_if_exception_type(RETRYABLE),
        reraise=True,
    )(watched)

    async def call(number: int) -> None:
        async with asyncio.timeout(TOTAL):
            await retried(number)

    return call


def _nopanic(*, budget: bool = False, **settings: float) -> Callable[[Request, Note, int], Request]:
    def build(request: Request, note: Note, seed: int) -> Request:
        import nopanic  # noqa: PLC0415 - a rival

        breaker = nopanic.circuit_breaker(
            **NOPANIC_LIKE_OURS | settings,
            on=FAILURES,
            on_state_change=lambda _, __, new: note(new),
            clock=loop_time,
        )
        retry = nopanic.retry(
            attempts=ATTEMPTS,
            on=RETRYABLE,
            backoff=nopanic.backoff.full_jitter(base=0.1, cap=5.0),
            budget=nopanic.RetryBudget(clock=loop_time) if budget else None,
            clock=loop_time,
        )

        async def plain(number: int) -> None:
            await request(number)

        guarded = nopanic.compose(nopanic.timeout(TOTAL), retry, breaker, nopanic.timeout(ATTEMPT))
        return guarded(plain)  # type: ignore[no-any-return]

    return build


def our_pipeline(
    *, budget: bool = False, **settings: Any
) -> Callable[[Request, Note, int], Request]:
    """The four policies, the breaker with these settings, the retry with a budget of its own or without."""

    def build(request: Request, note: Note, seed: int) -> Request:
        def heard(event: CircuitStateChanged) -> None:
            note(event.new.lower())

        heard.listens_to = (CircuitStateChanged,)  # type: ignore[attr-defined]
        guarded = Pipeline(
            Timeout(TOTAL),
            Retry(
                attempts=ATTEMPTS,
                on=RETRYABLE,
                budget=RetryBudget() if budget else None,
                rng=Random(seed),
            ),
            CircuitBreaker(f"outcomes {next(_NUMBERS)}", on=FAILURES, **settings),
            Timeout(ATTEMPT),
            listeners=(heard,),
        )

        @guarded.wrap
        async def call(number: int) -> None:
            await request(number)

        return call

    return build


NOPANIC_LIKE_OURS = {
    "failure_threshold": 0.5,
    "min_calls": 10,
    "window": 30.0,
    "reset_timeout": 30.0,
}
"""nopanic's settings that equal the defaults of this package."""
NOPANIC_BRISK = {
    "window": 2.0, "reset_timeout": 2.0, "slow_call_duration": 0.5, "slow_call_threshold": 0.5,
}  # fmt: skip
STATED = {
    "trip": FailureRate(0.5, TimeWindow(30)) | FailureRate(0.5, CountWindow(50)),
    "break_duration": 2.0,
    "overdue_after": 0.5,
}
"""
The breaker of the pipeline that meets all targets, word for word that of docs/how-to/notice-within-a-second.md.

It looks at the last 50 calls too, and at calls that still run; its retry has a budget.
"""

CONTENDERS: dict[str, Contender] = {
    contender.key: contender
    for contender in (
        Contender("bare", "bare call", "a client timeout of 30 s", _bare, breaks=False),
        Contender(
            "naive",
            "naive retries",
            "three attempts of 2 s, the next one at once",
            _naive,
            breaks=False,
        ),
        Contender(
            "mix",
            "tenacity + circuitbreaker",
            "`asyncio.timeout(10)`, tenacity's `retry` (3 attempts, `wait_random_exponential(0.1, max=5)`), "
            "`CircuitBreaker()` with its defaults (5 failures in a row, 30 s), `asyncio.timeout(2)`",
            _mix,
            ("tenacity", "circuitbreaker"),
        ),
        Contender(
            "nopanic",
            "nopanic",
            "`compose(timeout(10), retry(3, backoff=full_jitter(0.1, cap=5)), circuit_breaker(0.5, min_calls=10, "
            "window=30, reset_timeout=30), timeout(2))`",
            _nopanic(),
            ("nopanic",),
        ),
        Contender(
            "nopanic-budget",
            "nopanic + budget",
            "the same with its `RetryBudget()` (20 % and 1 per second)",
            _nopanic(budget=True),
            ("nopanic",),
        ),
        Contender(
            "nopanic-brisk",
            "nopanic, brisk",
            "the first of the two with `window=2, reset_timeout=2, slow_call_duration=0.5, slow_call_threshold=0.5`",
            _nopanic(**NOPANIC_BRISK),
            ("nopanic",),
        ),
        Contender(
            "ours",
            "resilience",
            "`Pipeline(Timeout(10), Retry(attempts=3), CircuitBreaker(...), Timeout(2))`, all else by default "
            "(50 % of 30 s, at least 10 calls; open for 30 s)",
            our_pipeline(),
        ),
        Contender(
            "ours-budget",
            "resilience + budget",
            "the same with `budget=RetryBudget()` (20 % of what succeeded and 0.5 per second)",
            our_pipeline(budget=True),
        ),
        Contender(
            "stated",
            "resilience, stated",
            "the same with the budget and `trip=FailureRate(0.5, TimeWindow(30)) | FailureRate(0.5, CountWindow(50)), "
            "break_duration=2, overdue_after=0.5`: "
            "[notice within a second](../../docs/how-to/notice-within-a-second.md)",
            our_pipeline(budget=True, **STATED),
        ),
    )
}
