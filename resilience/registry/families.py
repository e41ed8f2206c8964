"""
One guard per key (a host, a tenant, a connection), bounded in number.

Keys come from outside, so a family that kept all of them would be a leak and one that forgot just any of them would
let an attacker flush the open circuits out. So the least recently used goes first, and of those only what is closed,
or open with its break over for a whole round of looks. What goes is not forgotten while anything still holds it, a
wrapped function or a call in flight: asked for again, it is the same. Where everything is open, new keys share one.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar, final

from resilience.core.generations import CircuitState
from resilience.doors import Policy
from resilience.pipeline import Pipeline, flat
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.registry.live import LivePipeline
from resilience.registry.same import options_of

__all__ = ["OTHERS", "Family", "breakers_in", "label_of"]

G = TypeVar("G", bound=Policy[Any])

OTHERS = "(others)"
"""The key of the guard that keys share for which there is no place."""

_LOOKS = 1000
"""Members looked at, at most, to find one that may go: what one new key can cost."""

_LONGEST_KEY = 128


def label_of(name: str, key: Hashable) -> str:
    """``name[key]``, in printable characters; a long key is cut and told apart by a digest."""
    text = "".join(each if each.isprintable() else "?" for each in str(key))
    if len(text) > _LONGEST_KEY or text != str(key):
        digest = hashlib.blake2s(str(key).encode(errors="backslashreplace"), digest_size=6)
        text = f"{text[:_LONGEST_KEY]}#{digest.hexdigest()}"
    return f"{name[:100]}[{text}]"


def breakers_in(guard: Policy[Any] | Pipeline[Any]) -> tuple[CircuitBreaker, ...]:
    """The breakers of a guard, itself included."""
    found: list[CircuitBreaker] = []
    for each in flat([guard.pipeline if isinstance(guard, LivePipeline) else guard]):
        if isinstance(each, LivePipeline):
            found += breakers_in(each)
        elif isinstance(each, CircuitBreaker):
            found.append(each)
    return tuple(found)


@final
class _Member(Generic[G]):
    """``recent``: asked for, and ``over``: its break was over, when somebody last looked for one that may go."""

    __slots__ = ("born", "guard", "over", "recent")

    def __init__(self, guard: G) -> None:
        self.guard = guard
        self.recent = self.over = False
        self.born = tuple({each.state for each in breakers_in(guard)})  # a fourth of a set


@final
class _Faded(weakref.ref[Any]):
    """A member that went, as long as something it guards is there; refers to what such a thing holds."""

    __slots__ = ("guard", "key", "options")

    guard: weakref.ref[Any]
    key: Hashable
    options: dict[str, Any]


@final
class Family(Generic[G]):
    """
    One guard per key; got from `Registry.family`.

    Attributes:
        name, domain: As it is registered.
        max_keys: Members it keeps at most.
    """

    def __init__(
        self, name: str, domain: str | None, max_keys: int, build: Callable[[Any], G]
    ) -> None:
        self.name: str = name
        self.domain: str | None = domain
        self.max_keys: int = max_keys
        self.build: Callable[[Any], G] = build
        self._kept: OrderedDict[Hashable, _Member[G]] = OrderedDict()
        self._faded: dict[Hashable, _Faded] = {}
        self._others: G | None = None
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<Family {self.name!r}: {len(self)} of at most {self.max_keys}>"

    def __getitem__(self, key: Hashable) -> G:
        """
        The guard of *key*: the one there is, or a new one.

        Raises:
            Exception: whatever the function that builds it raises; the next one who asks builds anew.
        """
        # No lock where there is one already: this may stand on the path of a call.
        member = self._kept.get(key)
        if member is not None:
            member.recent = True
            return member.guard
        with self._lock:
            member = self._kept.get(key)
            if member is None:  # pragma: no branch - else another thread made it meanwhile
                member = self._new(key)
            return self._shared() if member is None else member.guard

    def peek(self, key: Hashable) -> G | None:
        """The guard of *key* if there is one; none is made, and it counts as no use."""
        member = self._kept.get(key)
        return None if member is None else member.guard

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(tuple(self._kept))

    def items(self) -> tuple[tuple[Hashable, G], ...]:
        """Keys and guards, that which keys without a place share last, under the key ``(others)``."""
        with self._lock:
            found: list[tuple[Hashable, G]] = [
                (key, member.guard) for key, member in self._kept.items()
            ]
            if self._others is not None:
                found.append((OTHERS, self._others))
        return tuple(found)

    def discard(self, key: Hashable) -> None:
        """Let go of a key, whatever its state."""
        with self._lock:
            self._kept.pop(key, None)
            self._faded.pop(key, None)

    # ------------------------------------------------------------------ inside

    def _new(self, key: Hashable) -> _Member[G] | None:
        guard = self._again(key)
        if len(self._kept) >= self.max_keys and not self._make_room():
            if guard is None:
                return None
            # It cannot be kept, but it is there and stays the one of its key.
            return _Member(guard)
        member = _Member(self.build(key) if guard is None else guard)
        self._faded.pop(key, None)
        self._kept[key] = member
        return member

    def _shared(self) -> G:
        if self._others is None:
            self._others = self.build(OTHERS)
        return self._others

    def _make_room(self) -> bool:
        # Twice round: who was asked for lately, or whose break was not yet seen to be over, gets a second chance.
        for _ in range(min(len(self._kept) * 2, _LOOKS)):
            key = next(iter(self._kept))
            member = self._kept[key]
            hold = _hold(member)
            if not member.recent and (hold == "none" or (hold == "break over" and member.over)):
                self._fade(key)
                return True
            member.recent, member.over = False, hold == "break over"
            self._kept.move_to_end(key)
        return False

    def _fade(self, key: Hashable) -> None:
        """Keep it no longer, and know it as long as something else does."""
        guard = self._kept.pop(key).guard
        faded = _Faded(_anchor_of(guard), self._gone)
        faded.guard, faded.key = weakref.ref(guard), key
        faded.options = options_of(guard) if isinstance(guard, CircuitBreaker) else {}
        self._faded[key] = faded

    def _gone(self, faded: Any) -> None:
        # Without the lock: the collector may call this in the middle of anything.
        key = faded.key
        if self._faded.get(key) is faded:  # pragma: no branch - else it was made anew meanwhile
            self._faded.pop(key, None)

    def _again(self, key: Hashable) -> G | None:
        faded = self._faded.get(key)
        if faded is None or (anchor := faded()) is None:
            return None
        guard: Any = faded.guard()
        if guard is None:
            # Nobody holds the breaker, but a permit of it holds what it was about.
            guard = CircuitBreaker._around(anchor, faded.options)  # noqa: SLF001 - our own class
        return guard  # type: ignore[no-any-return]


def _hold(member: _Member[Any]) -> str:
    """What keeps a member from going: ``none``, ``break over`` or a word for its state."""
    hold = "none"
    for breaker in breakers_in(member.guard):
        state = breaker.state
        if state is CircuitState.CLOSED:
            continue
        if state in {CircuitState.OBSERVING, CircuitState.DISABLED} and state in member.born:
            continue
        if state is not CircuitState.OPEN or breaker.retry_after:
            return str(state.value)
        hold = "break over"
    return hold


def _anchor_of(guard: Policy[Any]) -> Any:
    """What everything that runs through a guard holds, and a guard that nobody uses does not outlive."""
    return guard._core if isinstance(guard, CircuitBreaker) else guard  # noqa: SLF001 - our own class
