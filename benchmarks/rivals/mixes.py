"""
What people put together from several libraries, and what they write by hand: the same three layers.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.rivals import RIVALS, Adapter, Breaker, Function, Hook, Missing, Settings, load

__all__ = ["ByHand", "Mix", "mixes"]


class Mix(Adapter):
    """
    A retry of one library, a breaker of another and `asyncio.timeout`.

    Args:
        retry: Whose retry.
        breaker: Whose breaker.
    """

    def __init__(self, retry: Adapter, breaker: Adapter) -> None:
        self._retry = retry
        self._breaker = breaker
        self.rejected = breaker.rejected  # type: ignore[misc]
        self.kinds = breaker.kinds  # type: ignore[misc]

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return self._breaker.breaker(settings, listener)

    def retry(self, fn: Function, settings: Settings) -> Function:
        return self._retry.retry(fn, settings)

    def timeout(self, fn: Function, settings: Settings) -> Function:
        seconds = settings.seconds

        async def timed(value: int) -> Any:
            async with asyncio.timeout(seconds):
                return await fn(value)

        return timed


class _OpenError(Exception):
    pass


class ByHand(Adapter):
    """One frame: a loop, three numbers for the breaker, `asyncio.timeout`."""

    rejected = (_OpenError,)
    kinds = ("consecutive",)

    def layers(self, fn: Function, settings: Settings) -> Function:
        failures, until = 0, 0.0
        seconds, on, limit = settings.seconds, settings.on, settings.failures

        async def guarded(value: int) -> Any:
            nonlocal failures, until
            for attempt in range(settings.attempts):
                if failures >= limit and time.monotonic() < until:
                    raise _OpenError
                try:
                    async with asyncio.timeout(seconds):
                        result = await fn(value)
                except on:
                    failures += 1
                    if failures >= limit:
                        until = time.monotonic() + settings.break_seconds
                    if attempt + 1 == settings.attempts:
                        raise
                else:
                    failures = 0
                    return result
            return None

        return guarded


_MIXED = (("hyx", "circuitbreaker"), ("tenacity", "circuitbreaker"), ("stamina", "aiobreaker"))


def mixes() -> dict[str, Adapter]:
    """Those whose libraries are installed, by the names they get in the tables."""
    loaded = {rival.name: load(rival) for rival in RIVALS}
    found: dict[str, Adapter] = {"one frame by hand with asyncio.timeout": ByHand()}
    for retry, breaker in _MIXED:
        asks, breaks = loaded[retry], loaded[breaker]
        if not isinstance(asks, Missing) and not isinstance(breaks, Missing):
            found[f"{retry} + {breaker} + asyncio.timeout"] = Mix(asks, breaks)
    return found
