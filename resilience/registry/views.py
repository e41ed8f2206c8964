"""
What a registry shows: frozen values, read at one instant, for endpoints, pages and collectors.

Reading changes nothing and takes no lock that a call would wait for.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Literal, TypeAlias

import attrs

from resilience.core.generations import CircuitState
from resilience.doors import Policy
from resilience.policies.circuit_breaker import CircuitBreaker, CircuitSnapshot
from resilience.registry.live import LivePipeline

__all__ = ["Entry", "EntrySnapshot", "Kind", "RegistrySnapshot", "Summary", "kind_of", "summary_of"]

Kind: TypeAlias = Literal["breaker", "pipeline", "policy"]


def kind_of(guard: Policy[Any]) -> Kind:
    """What an entry is, as a word."""
    if isinstance(guard, CircuitBreaker):
        return "breaker"
    return "pipeline" if isinstance(guard, LivePipeline) else "policy"


@attrs.frozen
class Entry:
    """
    One object of a registry, with its address.

    Attributes:
        kind: ``breaker``, ``pipeline`` or ``policy`` (any other policy that holds state).
        domain: The domain it is registered in, or None.
        name: Its name there; of a member of a family, the family's.
        key: Of a member of a family, its key; else None.
        guard: The object itself.
        inside: The registered pipeline it was found in, if it is not registered itself; else None.
    """

    kind: Kind
    domain: str | None
    name: str
    key: Hashable | None
    guard: Policy[Any]
    inside: str | None = None

    @property
    def address(self) -> str:
        """One text for one entry: ``name``, ``domain:name``, ``name[key]``."""
        path = self.name if self.domain is None else f"{self.domain}:{self.name}"
        return path if self.key is None else f"{path}[{self.key}]"


@attrs.frozen(kw_only=True)
class EntrySnapshot:
    """
    An entry at one instant.

    Attributes:
        kind, domain, name, key, inside, address: As in `Entry`.
        text: The object as it is written.
        circuit: Of a breaker, its snapshot; else None.
        in_flight: Of a pipeline, the calls that run through it; else None.
    """

    kind: Kind
    domain: str | None
    name: str
    key: Hashable | None
    inside: str | None
    address: str
    text: str
    circuit: CircuitSnapshot | None
    in_flight: int | None


@attrs.frozen(kw_only=True)
class Summary:
    """
    Breakers by state.

    Attributes:
        total: All breakers.
        closed, open, half_open, isolated, disabled, observing: How many are in that state.
        health: Per cent of the breakers that let calls pass: closed, observing or disabled. 100.0 without a breaker.
    """

    total: int
    closed: int
    open: int
    half_open: int
    isolated: int
    disabled: int
    observing: int
    health: float


@attrs.frozen(kw_only=True)
class RegistrySnapshot:
    """
    A registry at one instant, entry by entry; it does not change afterwards.

    Attributes:
        entries: In the order of their registration, the members of families and breakers inside pipelines included.
        summary: Of its breakers.
    """

    entries: tuple[EntrySnapshot, ...]
    summary: Summary


def snapshot_of(entry: Entry) -> EntrySnapshot:
    """What there is to know of one entry now."""
    guard = entry.guard
    return EntrySnapshot(
        kind=entry.kind,
        domain=entry.domain,
        name=entry.name,
        key=entry.key,
        inside=entry.inside,
        address=entry.address,
        text=repr(guard.pipeline) if isinstance(guard, LivePipeline) else repr(guard),
        circuit=guard.snapshot() if isinstance(guard, CircuitBreaker) else None,
        in_flight=guard.in_flight if isinstance(guard, LivePipeline) else None,
    )


def summary_of(states: Iterable[CircuitState]) -> Summary:
    """Count the states."""
    counted = dict.fromkeys(CircuitState, 0)
    for state in states:
        counted[state] += 1
    total = sum(counted.values())
    passing = sum(
        counted[each]
        for each in (CircuitState.CLOSED, CircuitState.OBSERVING, CircuitState.DISABLED)
    )
    return Summary(
        total=total,
        closed=counted[CircuitState.CLOSED],
        open=counted[CircuitState.OPEN],
        half_open=counted[CircuitState.HALF_OPEN],
        isolated=counted[CircuitState.ISOLATED],
        disabled=counted[CircuitState.DISABLED],
        observing=counted[CircuitState.OBSERVING],
        health=100.0 * passing / total if total else 100.0,
    )
