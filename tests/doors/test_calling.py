"""
`await p(fn, *args, **kwargs)`: any callable that returns an awaitable, and nothing that only looks like one.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import warnings
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import anyio
import pytest

from resilience import CircuitState, Timeout
from resilience.testing import Script
from tests.doors.kit import GUARDS, breaker, pipeline, retry

every_guard = pytest.mark.parametrize("guard", GUARDS)


async def fetch(url: str, *parts: int, retries: int = 0, **more: int) -> tuple[Any, ...]:
    await anyio.lowlevel.checkpoint()
    return url, parts, retries, more


class Shop:
    async def find(self, sku: str) -> tuple[Any, str]:
        return self, sku

    @classmethod
    async def named(cls, sku: str) -> tuple[Any, str]:
        return cls, sku

    @staticmethod
    async def static(sku: str) -> str:
        return sku

    async def __call__(self, sku: str) -> tuple[Any, str]:
        return self, sku


class Awaited:
    """An awaitable that is no coroutine."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from anyio.lowlevel.checkpoint().__await__()
        return self.value


@every_guard
async def test_a_coroutine_function_with_its_arguments(backend, guard):
    """Api, Doors: runs ``fn(*args, **kwargs)`` and gives its result."""
    guarded = GUARDS[guard]()

    assert ("u", (1, 2), 3, {"x": 4}) == await guarded(fetch, "u", 1, 2, retries=3, x=4)


@every_guard
async def test_everything_that_returns_an_awaitable(backend, guard):
    """Api, Doors: lambda, partial, bound method, object with async ``__call__``, a mock, a plain function."""
    guarded, shop = GUARDS[guard](), Shop()

    def plainly(sku: str) -> Any:
        return Awaited(sku)

    assert ("u", (), 0, {}) == await guarded(lambda: fetch("u"))
    assert ("u", (1,), 2, {}) == await guarded(partial(fetch, "u", retries=2), 1)
    assert (shop, "a") == await guarded(shop.find, "a")
    assert (Shop, "a") == await guarded(shop.named, "a")
    assert "a" == await guarded(shop.static, "a")
    assert (shop, "a") == await guarded(shop, "a")
    assert "a" == await guarded(Awaited, "a")
    assert "a" == await guarded(plainly, "a")
    assert "a" == await guarded(AsyncMock(return_value="a"), 1, b=2)
    assert ("u", (), 0, {}) == await guarded(MagicMock(side_effect=fetch), "u")


async def test_arguments_of_any_name_are_the_callees(backend):
    """Api, Doors: every door takes ``(self, fn, /, ...)``, so ``self``, ``fn``, ``args`` and ``call`` are free."""

    async def callee(**kwargs: Any) -> dict[str, Any]:
        return kwargs

    wanted = {"self": 1, "fn": 2, "args": 3, "kwargs": 4, "call": 5, "hold": 6}
    guarded = Timeout(60)

    assert wanted == await guarded(callee, **wanted)
    assert wanted == await guarded.wrap(callee)(**wanted)
    assert wanted == (await guarded.outcome(callee, **wanted)).unwrap()


@every_guard
async def test_the_callee_runs_in_the_callers_context(backend, guard):
    """Law 30: the context is the caller's, in both directions."""
    variable = contextvars.ContextVar("variable", default=0)

    async def callee() -> int:
        seen = variable.get()
        variable.set(seen + 1)
        return seen

    variable.set(5)

    assert 5 == await GUARDS[guard]()(callee)
    assert 6 == variable.get()


@every_guard
async def test_an_error_is_the_callees_own(backend, guard):
    """Law 23: raised by identity, whatever it passes."""
    error = LookupError("own")

    with pytest.raises(LookupError) as caught:
        await GUARDS[guard]()(Script(error))

    assert error is caught.value


@every_guard
async def test_nothing_runs_before_it_is_awaited(backend, guard):
    """A call is made when it is awaited: until then no permit is taken and no callee entered."""
    script = Script("done")
    coroutine = GUARDS[guard]()(script)

    assert 0 == script.calls
    assert "done" == await coroutine
    assert 1 == script.calls


async def test_a_result_that_cannot_be_awaited_is_pythons_error(backend):
    """What returns no awaitable is a programming error: not retried, no failure of the dependency."""
    watched = breaker(1)

    with pytest.raises(TypeError, match="await"):
        await pipeline(retry(), watched)(len, "abc")

    assert CircuitState.CLOSED is watched.state
    assert 0 == watched.snapshot().failures


# --------------------------------------------------------------- coroutine objects

DOORS = {
    "call": lambda guarded, it: guarded(it),
    "wrap": lambda guarded, it: guarded.wrap(it),
    "informed": lambda guarded, it: guarded.informed(it),
    "opening": lambda guarded, it: guarded.opening(it),
    "stream": lambda guarded, it: guarded.stream(it),
    "outcome": lambda guarded, it: asyncio.run(guarded.outcome(it)),
}


@pytest.mark.parametrize("door", DOORS)
@every_guard
def test_a_coroutine_object_is_closed_and_told_the_right_spelling(guard, door):
    """Api, Doors: a retry cannot run it twice, so no door takes it, and nobody warns that it was not awaited."""
    guarded, coroutine = GUARDS[guard](), fetch("order", 1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError) as refused:
            DOORS[door](guarded, coroutine)
        assert None is coroutine.cr_frame
        del coroutine
        gc.collect()

    assert str(refused.value) == (
        "pass the function and its arguments: await guarded(fetch, ...), not guarded(fetch(...))"
    )


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "value", [None, 5, "fetch", (n for n in ()), Awaited("a")], ids=lambda v: type(v).__name__
)
def test_what_is_no_function_is_named(door, value):
    """Api, Doors: the error says what came instead; an awaitable that is no coroutine is left alone."""
    with pytest.raises(
        TypeError,
        match=f"a callable that returns an awaitable is needed, got {type(value).__name__}",
    ):
        DOORS[door](Timeout(60), value)


def test_a_rejected_call_creates_no_coroutine():
    """Law 10: the callee of a rejected call is never called, so there is nothing to close."""
    calls = []
    opened = breaker(1)
    opened.admit().failure(OSError())

    async def main() -> None:
        await opened.outcome(lambda: calls.append(1) or fetch("u"))
        await opened.outcome(partial(fetch, "u"))

    asyncio.run(main())

    assert [] == calls
    assert CircuitState.OPEN is opened.state
    assert 2 == opened.snapshot().rejected
