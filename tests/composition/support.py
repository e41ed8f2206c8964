"""
What the tests of retry, timeout and their compositions share: names, clocks, counters and a policy that waits.

Time is asserted exactly where it jumps; uvloop keeps real time, so there only "not earlier, and not absurdly late".
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import attrs
import pytest

from resilience import CircuitBreaker, ConsecutiveFailures, Policy
from resilience.call import Call, Step
from resilience.events import Hub

_numbers = itertools.count(1)


def breaker(failures: int = 2, **options: Any) -> CircuitBreaker:
    """A breaker of its own name that opens after so many consecutive failures."""
    options = {"on": OSError, "trip": ConsecutiveFailures(failures), **options}
    return CircuitBreaker(f"composed-{next(_numbers)}", **options)


def about(seconds: float, backend: str) -> Any:
    """*seconds* as they can be compared on *backend*."""
    return _NotEarlier(seconds) if backend == "uvloop" else pytest.approx(seconds, abs=1e-6)


class _NotEarlier:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"{self.seconds:g} s or a little more"

    def __eq__(self, other: object) -> bool:
        # libuv's clock has a grain of one millisecond and may fire one early.
        return isinstance(other, float) and self.seconds - 0.003 <= other <= self.seconds + 2.0

    __hash__ = None  # type: ignore[assignment]


def pending_cancellations() -> int:
    """The count of the current asyncio task; trio keeps none."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return 0 if task is None else task.cancelling()


async def timed(awaitable: Awaitable[Any]) -> tuple[Any, float]:
    """What it returned or raised (as a value), and the seconds it took."""
    started = anyio.current_time()
    try:
        answer = await awaitable
    except Exception as error:  # noqa: BLE001 - the answer is asserted on
        answer = error
    return answer, anyio.current_time() - started


class Checkpoints:
    """An awaitable that counts how often another one hands control back to the loop, on any loop."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._inner = awaitable
        self.count = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._inner.__await__()
        step: Callable[[], Any] = lambda: next(inner)  # noqa: E731
        while True:
            try:
                wanted = step()
            except StopIteration as end:
                return end.value
            self.count += 1
            try:
                value = yield wanted
            except BaseException as error:  # noqa: BLE001 - handed on to where it belongs
                step = lambda error=error: inner.throw(error)  # type: ignore[attr-defined] # noqa: E731
            else:
                step = lambda value=value: inner.send(value)  # type: ignore[attr-defined] # noqa: E731


@attrs.frozen(repr=False)
class Queue(Policy):
    """A policy that keeps a call waiting before it lets it through, as a bulkhead's queue would."""

    seconds: float

    def link(self, step: Step, hub: Hub) -> Step:
        async def guarded(call: Call) -> Any:
            await anyio.sleep(self.seconds)
            return await step(call)

        return guarded


@attrs.frozen(repr=False)
class Turnstile(Policy):
    """A policy that writes down who comes and goes, and how many are inside."""

    name: str
    log: list[str]
    inside: list[str] = attrs.field(factory=list)

    def link(self, step: Step, hub: Hub) -> Step:
        async def guarded(call: Call) -> Any:
            self.inside.append(self.name)
            self.log.append(f"+{self.name}")
            try:
                return await step(call)
            finally:
                self.inside.remove(self.name)
                self.log.append(f"-{self.name}")

        return guarded
