"""
resilix: ``protect.when`` for the retry, its breaker in consecutive mode, ``protect.timeout``.
"""

from __future__ import annotations

import resilix

from benchmarks.rivals import Adapter, Breaker, Function, Hook, Settings

__all__ = ["ADAPTER"]


class _Breaker(Breaker):
    def __init__(self, settings: Settings, listener: Hook | None) -> None:
        self._circuit = resilix.CircuitBreaker(
            failures=settings.failures,
            reset_timeout=settings.break_seconds,
            on=settings.on,
            half_open_max=settings.probes,
            on_state_change=listener,
            window=30.0 if settings.kind == "time" else None,
        )

    def wrap(self, fn: Function) -> Function:
        return self._circuit(fn)

    def state(self) -> str:
        return self._circuit.state.replace("_", "-")

    def failures(self) -> int:
        return self._circuit.failure_count


class ADAPTER(Adapter):
    rejected = (resilix.CircuitOpenError,)
    kinds = ("consecutive", "time")
    counts_successes = False

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return _Breaker(settings, listener)

    def retry(self, fn: Function, settings: Settings) -> Function:
        return resilix.protect.when(settings.on, retry=resilix.Retry(attempts=settings.attempts))(
            fn
        )

    def timeout(self, fn: Function, settings: Settings) -> Function:
        return resilix.protect.timeout(settings.seconds)(fn)
