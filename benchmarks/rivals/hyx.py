"""
hyx: its three decorators. ``attempts`` there counts retries, so it gets one less; it has no listeners.

What its breaker is not told about is ignored. Its timeout asks for the running loop when it is built, and runs the call
in a task of its own.
"""

from __future__ import annotations

from hyx.circuitbreaker import consecutive_breaker
from hyx.circuitbreaker.exceptions import BreakerFailing
from hyx.retry import retry
from hyx.timeout import timeout
from hyx.timeout.exceptions import MaxDurationExceeded

from benchmarks.rivals import Adapter, Breaker, Function, Hook, Settings

__all__ = ["ADAPTER"]

_STATES = {"working": "closed", "failing": "open", "recovering": "half-open"}


class _Breaker(Breaker):
    def __init__(self, settings: Settings) -> None:
        self._circuit = consecutive_breaker(
            exceptions=(*settings.on, MaxDurationExceeded),
            failure_threshold=settings.failures,
            recovery_time_secs=settings.break_seconds,
            recovery_threshold=settings.successes,
        )

    def wrap(self, fn: Function) -> Function:
        return self._circuit(fn)  # type: ignore[no-any-return]

    def state(self) -> str:
        return _STATES[self._circuit.state.name]

    def failures(self) -> int:
        return int(getattr(self._circuit.state, "consecutive_exceptions", 0))


class ADAPTER(Adapter):
    rejected = (BreakerFailing,)
    timed_out = (MaxDurationExceeded,)
    kinds = ("consecutive",)
    listens = False

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return _Breaker(settings)

    def retry(self, fn: Function, settings: Settings) -> Function:
        on = (*settings.on, MaxDurationExceeded)
        return retry(on=on, attempts=settings.attempts - 1, backoff=0)(fn)

    def timeout(self, fn: Function, settings: Settings) -> Function:
        return timeout(settings.seconds)(fn)  # type: ignore[no-any-return]
