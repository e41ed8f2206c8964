"""
What an adapter must show before it is measured.

A call passes, failures open the circuit and it rejects, a retry retries, a timeout cuts.
"""

from __future__ import annotations

import time

import anyio

from benchmarks.rivals import Adapter, Settings

__all__ = ["problems_of"]

_CUT = 0.02


class _Callee:
    """Plays its steps, the last one again and again, and counts its calls."""

    def __init__(self, *steps: object) -> None:
        self.steps = steps
        self.calls = 0
        self.cut = False

    async def play(self, value: int) -> int:
        step = self.steps[min(self.calls, len(self.steps) - 1)]
        self.calls += 1
        if isinstance(step, float):
            try:
                await anyio.sleep(step)
            except BaseException:
                self.cut = True
                raise
        if isinstance(step, type):
            raise step
        return value


async def problems_of(adapter: Adapter) -> list[str]:
    """What is wrong with this adapter, for people; empty if it may be measured. Takes a twentieth of a second."""
    found: list[str] = []
    if adapter.has("breaker"):
        for kind in adapter.kinds:
            settings = Settings(kind=kind, failures=3)
            found += [f"breaker ({kind}): {each}" for each in await _breaker(adapter, settings)]
    if adapter.has("retry"):
        found += [f"retry: {each}" for each in await _retry(adapter)]
    if adapter.has("timeout"):
        found += [f"timeout: {each}" for each in await _timeout(adapter)]
    if adapter.has("layers"):
        found += [f"layers: {each}" for each in await _layers(adapter)]
    return found


async def _breaker(adapter: Adapter, settings: Settings) -> list[str]:
    callee = _Callee(None)

    async def fn(value: int) -> int:
        return await callee.play(value)

    breaker = adapter.breaker(settings)
    guarded = breaker.wrap(fn)
    found = []
    if await guarded(7) != 7:
        found.append("a call does not pass")
    if breaker.state() != "closed":
        found.append(f"it says {breaker.state()} when it is new")
    # The success above stands in the window; twice as many failures are more than half of any.
    callee.steps = (ConnectionError,)
    for _ in range(2 * settings.failures):
        await _swallowed(guarded(7))
    if breaker.state() != "open":
        found.append(f"{2 * settings.failures} failures leave it {breaker.state()}")
    before = callee.calls
    error = await _swallowed(guarded(7))
    if not isinstance(error, adapter.rejected):
        found.append(f"open, it raises {error!r} and not one of {adapter.rejected}")
    if callee.calls != before:
        found.append("open, it calls the function")
    if before > 1 + settings.failures + 1:
        found.append(f"{before - 1} failing calls reach the function, {settings.failures} should")
    return found


async def _retry(adapter: Adapter) -> list[str]:
    settings = Settings()
    callee = _Callee(ConnectionError, ConnectionError, None)

    async def fn(value: int) -> int:
        return await callee.play(value)

    found = []
    if await adapter.retry(fn, settings)(7) != 7 or callee.calls != 3:
        found.append(f"two failures and a success made {callee.calls} calls")
    callee = _Callee(ConnectionError)
    if (
        await _swallowed(adapter.retry(fn, settings)(7)) is None
        or callee.calls != settings.attempts
    ):
        found.append(f"{settings.attempts} attempts made {callee.calls} calls")
    callee = _Callee(KeyError)
    if (
        not isinstance(await _swallowed(adapter.retry(fn, settings)(7)), KeyError)
        or callee.calls != 1
    ):
        found.append(f"an error that is not to be retried made {callee.calls} calls")
    return found


async def _timeout(adapter: Adapter) -> list[str]:
    callee = _Callee(None)

    async def fn(value: int) -> int:
        return await callee.play(value)

    guarded = adapter.timeout(fn, Settings(seconds=_CUT))
    found = []
    if await guarded(7) != 7:
        found.append("a call does not pass")
    callee.steps = (10.0,)
    started = time.monotonic()
    error = await _swallowed(guarded(7))
    if not isinstance(error, adapter.timed_out):
        found.append(f"it raises {error!r} and not one of {adapter.timed_out}")
    if not callee.cut or time.monotonic() - started > 5:
        found.append("it does not cut the call off")
    return found


async def _layers(adapter: Adapter) -> list[str]:
    """The three of them together: the timeout is per attempt, the retry asks again, the breaker opens and rejects."""
    settings = Settings(failures=100, kind=adapter.kinds[0], seconds=_CUT)
    callee = _Callee(10.0, ConnectionError, None)

    async def fn(value: int) -> int:
        return await callee.play(value)

    found = []
    if await adapter.layers(fn, settings)(7) != 7 or callee.calls != 3:
        found.append(f"a hang, a failure and a success made {callee.calls} calls")
    callee = _Callee(ConnectionError)
    guarded = adapter.layers(fn, Settings(failures=4, kind=adapter.kinds[0]))
    for _ in range(4):
        await _swallowed(guarded(7))
    if callee.calls != 4:
        found.append(f"a breaker of four failures let {callee.calls} calls of twelve attempts pass")
    return found


async def _swallowed(call: object) -> Exception | None:
    try:
        await call  # type: ignore[misc]
    except Exception as error:  # noqa: BLE001 - which one it is, is the question
        return error
    return None
