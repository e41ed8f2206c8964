"""
purgatory: the async factory as a decorator. It has no retry and no timeout; only exclusions name what is no failure.
"""

from __future__ import annotations

import itertools

import purgatory
from purgatory.domain.model import Context, OpenedState

from benchmarks.rivals import Adapter, Breaker, Function, Hook, Settings

__all__ = ["ADAPTER"]

_NUMBERS = itertools.count(1)
_FACTORY = purgatory.AsyncCircuitBreakerFactory()


class _Breaker(Breaker):
    def __init__(self, settings: Settings, listener: Hook | None) -> None:
        self._factory = _FACTORY
        if listener is not None:
            self._factory = purgatory.AsyncCircuitBreakerFactory()
            self._factory.add_listener(listener)
        self._name = f"benchmark-{next(_NUMBERS)}"
        self._decorator = self._factory(
            self._name,
            threshold=settings.failures,
            ttl=settings.break_seconds,
            exclude=list(settings.ignore),
        )

    def wrap(self, fn: Function) -> Function:
        return self._decorator(fn)  # type: ignore[no-any-return]

    @property
    def _context(self) -> Context:
        return self._factory.uow.contexts.breakers[self._name]  # type: ignore[attr-defined,no-any-return]

    def state(self) -> str:
        return {"opened": "open", "half-opened": "half-open"}.get(self._context.state, "closed")

    def failures(self) -> int:
        return self._context.failure_count or 0


class ADAPTER(Adapter):
    rejected = (OpenedState,)
    kinds = ("consecutive",)
    counts_successes = False

    def breaker(self, settings: Settings, listener: Hook | None = None) -> Breaker:
        return _Breaker(settings, listener)
