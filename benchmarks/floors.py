"""
The callees, and what cannot be beaten: bare calls, hand-written wrappers, and the timeouts of the event loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import anyio

from benchmarks.rounds import Contender

__all__ = ["any_callee", "callee", "failing", "on_asyncio", "suspending", "w", "w_suspending"]


async def callee(value: int) -> int:
    return value


async def any_callee(*args: Any, **kwargs: Any) -> Any:
    return args[0]


async def suspending(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def failing(value: int) -> int:
    raise ConnectionError


async def w(*args: Any, **kwargs: Any) -> Any:
    return await callee(*args, **kwargs)


async def w_suspending(*args: Any, **kwargs: Any) -> Any:
    return await suspending(*args, **kwargs)


async def exact(value: int) -> int:
    return await callee(value)


async def caught(*args: Any, **kwargs: Any) -> Any:
    try:
        return await callee(*args, **kwargs)
    except ConnectionError:
        return None


async def timed(*args: Any, **kwargs: Any) -> Any:
    time.monotonic()
    return await callee(*args, **kwargs)


async def asked(*args: Any, **kwargs: Any) -> Any:
    asyncio.current_task()
    return await callee(*args, **kwargs)


async def nested_twice(*args: Any, **kwargs: Any) -> Any:
    return await w(*args, **kwargs)


async def nested_thrice(*args: Any, **kwargs: Any) -> Any:
    return await nested_twice(*args, **kwargs)


class _Callable:
    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await callee(*args, **kwargs)


async def asyncio_timeout(value: int) -> int:
    async with asyncio.timeout(5):
        return await callee(value)


async def anyio_fail_after(value: int) -> int:
    with anyio.fail_after(5):
        return await callee(value)


async def raised_and_caught(value: int) -> None:
    """What a call that fails costs with nothing around it."""
    with contextlib.suppress(ConnectionError):
        await failing(value)


async def three_failing_attempts(value: int) -> None:
    """The bare loop that three failing attempts are held against."""
    for _ in range(3):
        with contextlib.suppress(ConnectionError):
            await failing(value)


def on_asyncio() -> dict[str, Contender]:
    """The floors, by name."""
    return {
        "bare await": callee,
        "a wrapper with the callee's exact signature": exact,
        "W": w,
        "W with try and except": caught,
        "W with one time.monotonic()": timed,
        "W with one asyncio.current_task()": asked,
        "a class with async __call__": _Callable(),
        "three nested wrappers": nested_thrice,
        "asyncio.timeout": asyncio_timeout,
        "anyio.fail_after": anyio_fail_after,
    }
