"""
Which breakers a collector reads: all that live in this process, or the ones it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias, final

from resilience.clock import PROCESS_CLOCK
from resilience.core.generations import CircuitState
from resilience.errors import ConfigurationError, brief
from resilience.events import Event, Listener
from resilience.policies.circuit_breaker import CircuitSnapshot, live_breakers
from resilience.registry import Registry
from resilience.telemetry._words import OTHER, Labels

__all__ = [
    "GAUGES",
    "Breakers",
    "Readable",
    "gauges",
    "limited",
    "others",
    "readable",
    "severity",
    "snapshots",
]


class Readable(Protocol):
    """A breaker, as far as telemetry cares."""

    @property
    def name(self) -> str: ...

    def snapshot(self) -> CircuitSnapshot: ...


Breakers: TypeAlias = "Registry | Iterable[Readable] | Callable[[], Iterable[Readable]] | None"
"""None: every breaker of the process, now and later. Else a registry's, the ones given, or a function's."""

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
    if isinstance(breakers, Registry):
        return breakers.breakers
    if callable(breakers):
        return breakers
    if isinstance(breakers, Iterable) and not isinstance(breakers, str | bytes):
        given = tuple(breakers)
        if all(hasattr(each, "snapshot") for each in given):
            return lambda: given
    raise ConfigurationError(
        path,
        got=brief(breakers),
        allowed="None, a Registry, circuit breakers, or a function that gives them",
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


_ANEW_AFTER = 1.0
_STRANGERS = 1000


@final
class Among:
    """Whether an event is about something in a registry: a pipeline or a breaker, by name."""

    __slots__ = ("_names", "_registry", "_strangers")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._names: frozenset[str | None] = frozenset()
        self._strangers: dict[str, float] = {}

    def __call__(self, event: Event) -> bool:
        names = self._names
        if event.pipeline in names or event.policy in names:
            return True
        # Registered since, or a stranger: who was one a moment ago is not looked up again.
        name, now = event.pipeline or event.policy, PROCESS_CLOCK.now()
        if now < self._strangers.get(name, now):
            return False
        self._names = names = frozenset(_names_in(self._registry))
        if event.pipeline in names or event.policy in names:
            return True
        if len(self._strangers) >= _STRANGERS:
            self._strangers.clear()
        self._strangers[name] = now + _ANEW_AFTER
        return False


def _names_in(registry: Registry) -> Iterator[str]:
    for entry in registry.entries():
        # A breaker's own name has its domain or key in it.
        yield getattr(entry.guard, "name", None) or entry.name


@final
class Filtered:
    """A listener that hears only what *about* lets through."""

    __slots__ = ("_about", "_listener", "listens_to")

    def __init__(self, listener: Any, about: Callable[[Event], bool]) -> None:
        self._listener = listener
        self._about = about
        self.listens_to: tuple[type[Event], ...] = listener.listens_to

    def __call__(self, event: Event, /) -> None:
        if self._about(event):
            self._listener(event)


def limited(listener: Any, breakers: Breakers) -> Listener:
    """The listener as it is to be wired: of a registry it hears that registry's events alone."""
    return Filtered(listener, Among(breakers)) if isinstance(breakers, Registry) else listener


GAUGES: Mapping[str, tuple[str, ...]] = {
    "Bulkhead": ("limit", "in_flight", "waiting"),
    "RateLimit": ("available", "waiting"),
    "Throttle": ("probability",),
    "RetryBudget": ("available", "asleep"),
}
"""What is measured of the snapshots of other policies that hold state."""


def others(path: str, given: Iterable[Any]) -> tuple[Any, ...]:
    """
    The policies to measure, by hand.

    Raises:
        ConfigurationError: one has no name or is of a class of which nothing is measured.
    """
    found = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    for place, each in enumerate(found):
        if type(each).__name__ not in GAUGES or not getattr(each, "name", None):
            allowed = f"a named {', '.join(GAUGES)}"
            raise ConfigurationError(f"{path}[{place}]", got=brief(each), allowed=allowed)
    return found


def gauges(
    breakers: Breakers, others: tuple[Any, ...], limit: int
) -> Iterator[tuple[str, str, str, float]]:
    """Class, field, name and value of what the given policies, and those of a registry, hold now; *limit* policies."""
    held: list[Any] = [
        entry.guard
        for entry in (breakers.entries() if isinstance(breakers, Registry) else ())
        if type(entry.guard).__name__ in GAUGES
    ]
    label = Labels(limit)
    seen: set[tuple[str, str]] = set()
    for each in [*others, *held]:
        kind, name = type(each).__name__, label(each.name)
        if (kind, name) in seen or name == OTHER:
            continue
        seen.add((kind, name))
        snapshot = each.snapshot()
        for field in GAUGES[kind]:
            yield kind, field, name, getattr(snapshot, field)


def severity(snapshot: CircuitSnapshot) -> int:
    """0 for the worst state; the larger, the better."""
    return _WORST_FIRST.index(snapshot.state)
