"""
aiobreaker: its decorator with in-memory storage. It has no retry and no timeout; exclusions name what is no failure.
"""

from __future__ import annotations

from datetime import timedelta

import aiobreaker

from benchmarks.rivals import Adapter, Breaker, Function, Hook, Settings

__all__ = ["ADAPTER"]


class _Listener(aiobreaker.CircuitBreakerListener):
    """One hook for all of its events."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    def failure(self, breaker: object, exception: BaseException) -> None:
        self._hook("failure")

    def success(self, breaker: object) -> None:
        self._hook("success")

    def state_change(self, breaker: object, old: object, new: object) -> None:
        self._hook("state_change")


class _Breaker(Breaker):
    def __init__(self, settings: Settings, listener: Hook | None) -> None:
        self._circuit = aiobreaker.CircuitBreaker(
            fail_max=settings.failures,
            timeout_duration=timedelta(seconds=settings.break_seconds),
            exclude=list(settings.ignore),
            listeners=[] if listener is None else [_Listener(listener)],
        )

    def wrap(self, fn: Function) -> Function:
        return self._circuit(fn)  # type: ignore[no-any-return]

    def state(self) -> str:
        return str(self._circuit.current_state.name).lower().replace("_", "-")

    def failures(self) -> int:
        return int(self._circuit.fail_counter)

    def open(self) -> bool:
        self._circuit.open()
        return True


class ADAPTER(Adapter):
    rejected = (aiobreaker.CircuitBreakerError,)
    kinds = ("consecutive",)
    counts_successes = False

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return _Breaker(settings, listener)
