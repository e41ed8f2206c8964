"""
Which breakers a collector reads: all that live in this process, or the ones it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

from resilience.core.generations import CircuitState
from resilience.errors import ConfigurationError, brief
from resilience.policies.circuit_breaker import CircuitSnapshot, live_breakers

__all__ = ["Breakers", "Readable", "readable", "snapshots"]


class Readable(Protocol):
    """A breaker, as far as telemetry cares."""

    @property
    def name(self) -> str: ...

    def snapshot(self) -> CircuitSnapshot: ...


Breakers: TypeAlias = "Iterable[Readable] | Callable[[], Iterable[Readable]] | None"
"""None: every breaker of the process, now and later. Else the breakers, or a function that gives them."""

_WORST_FIRST = (
    CircuitState.ISOLATED,
    CircuitState.OPEN,
    CircuitState.HALF_OPEN,
    CircuitState.OBSERVING,
    CircuitState.DISABLED,
    CircuitState.CLOSED,
)


def readable(path: str, breakers: Breakers) -> Callable[[], Iterable[Readable]]:
    """
    The function that gives the breakers.

    Raises:
        ConfigurationError: *breakers* is neither None, nor breakers, nor a function.
    """
    if breakers is None:
        return live_breakers
    if callable(breakers):
        return breakers
    if isinstance(breakers, Iterable) and not isinstance(breakers, str | bytes):
        given = tuple(breakers)
        if all(hasattr(each, "snapshot") for each in given):
            return lambda: given
    raise ConfigurationError(
        path, got=brief(breakers), allowed="None, circuit breakers, or a function that gives them"
    )


def snapshots(breakers: Callable[[], Iterable[Readable]]) -> list[CircuitSnapshot]:
    """One snapshot for each name, the worst of those that share it, in the order of their names."""
    found: dict[str, CircuitSnapshot] = {}
    for each in breakers():
        snapshot = each.snapshot()
        other = found.get(snapshot.name)
        if other is None or severity(snapshot) < severity(other):
            found[snapshot.name] = snapshot
    return [found[name] for name in sorted(found)]


def severity(snapshot: CircuitSnapshot) -> int:
    """0 for the worst state; the larger, the better."""
    return _WORST_FIRST.index(snapshot.state)
