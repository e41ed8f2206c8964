"""
nopanic: a failure rate over a time window of ten buckets, for every breaker.
"""

from __future__ import annotations

import nopanic

from benchmarks.rivals import Adapter, Breaker, Function, Hook, Settings

__all__ = ["ADAPTER"]


class _Breaker(Breaker):
    def __init__(self, settings: Settings, listener: Hook | None) -> None:
        self._breaker = nopanic.circuit_breaker(
            failure_threshold=0.5,
            min_calls=settings.failures,
            window=30.0,
            reset_timeout=settings.break_seconds,
            half_open_max_calls=max(settings.probes, settings.successes),
            on=settings.on,
            on_state_change=listener,
        )

    def wrap(self, fn: Function) -> Function:
        return self._breaker(fn)

    def state(self) -> str:
        return self._breaker.state.replace("_", "-")

    def failures(self) -> int:
        return self._breaker.metrics.failures

    def calls(self) -> int:
        return self._breaker.metrics.calls

    def open(self) -> bool:
        self._breaker.force_open()
        return True


class ADAPTER(Adapter):
    rejected = (nopanic.CircuitOpen,)
    kinds = ("time",)
    on_trio = True

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return _Breaker(settings, listener)

    def retry(self, fn: Function, settings: Settings) -> Function:
        return nopanic.retry(settings.attempts, on=settings.on, backoff=0.0)(fn)

    def timeout(self, fn: Function, settings: Settings) -> Function:
        return nopanic.timeout(settings.seconds)(fn)
