"""
The last good answer of each key, until it is too old.

Bounded: of too many keys the one goes that was used longest ago. Each operation is one of the dict's own, so threads
may share it without a lock; where two meet, one of two good answers is kept.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple, final

__all__ = ["Answer", "Answers"]


class Answer(NamedTuple):
    """What was returned, and when."""

    value: Any
    at: float


@final
class Answers:
    """
    Answers by key.

    Args:
        ttl: Seconds an answer may be given again; at that age it may not.
        limit: Keys that are kept.
    """

    __slots__ = ("_by_key", "_limit", "_ttl")

    def __init__(self, ttl: float, limit: int) -> None:
        self._ttl = ttl
        self._limit = limit
        self._by_key: OrderedDict[Hashable, Answer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_key)

    def keep(self, key: Hashable, value: Any, now: float) -> None:
        """This is the last good answer of *key*."""
        by_key = self._by_key
        by_key[key] = Answer(value, now)
        with contextlib.suppress(KeyError):  # another thread may have dropped it
            by_key.move_to_end(key)
            while len(by_key) > self._limit:
                by_key.popitem(last=False)

    def last(self, key: Hashable, now: float) -> tuple[Any, float] | None:
        """The last good answer of *key* and its age in seconds, or None; one that is too old is forgotten."""
        found = self._by_key.get(key)
        if found is None:
            return None
        age = max(0.0, now - found.at)  # a clock that ran backwards makes nothing younger than new
        if age >= self._ttl:
            self._by_key.pop(key, None)
            return None
        with contextlib.suppress(KeyError):
            self._by_key.move_to_end(key)
        return found.value, age

    def forget(self) -> None:
        """All of them."""
        self._by_key.clear()
