"""
circuitbreaker: its decorator. It has no retry, no timeout, no listeners, and no errors to ignore.
"""

from __future__ import annotations

import itertools

import circuitbreaker

from benchmarks.rivals import Adapter, Breaker, Function, Hook, Settings

__all__ = ["ADAPTER"]

_NUMBERS = itertools.count(1)


class _Breaker(Breaker):
    def __init__(self, settings: Settings) -> None:
        self._circuit = circuitbreaker.CircuitBreaker(
            failure_threshold=settings.failures,
            recovery_timeout=settings.break_seconds,
            expected_exception=settings.on,
            name=f"benchmark-{next(_NUMBERS)}",
        )

    def wrap(self, fn: Function) -> Function:
        return self._circuit(fn)  # type: ignore[no-any-return]

    def state(self) -> str:
        return str(self._circuit.state).replace("_", "-")

    def failures(self) -> int:
        return int(self._circuit.failure_count)


class ADAPTER(Adapter):
    rejected = (circuitbreaker.CircuitBreakerError,)
    kinds = ("consecutive",)
    ignores = False
    listens = False
    counts_successes = False

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return _Breaker(settings)
