"""
A second reading of what a pipeline allows, and the search for the worst a callee can make of it.

`Shape` is a pipeline as bare numbers. `Search` walks through what a callee that knows them can do: fail at once, hang
until it is cut off, take exactly as long as it needs for a wait to fit or not to fit any more, ask for a wait with
Retry-After, raise what only an outer retry takes up; and through what chance can do to the waits. It shares nothing
with ``resilience.bounds``; what it finds is then played to the real pipeline.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import attrs

HAIR = 1e-5
"""Seconds by which something is in time or too late; more than the grain of the deadline wheel."""


@attrs.frozen
class Draw:
    """One wait: between *low* and *high*, in that many draws, cut at *cap*."""

    low: float
    high: float
    draws: int
    cap: float

    @property
    def shortest(self) -> float:
        return min(self.low, self.cap)

    @property
    def longest(self) -> float:
        return min(self.high, self.cap)

    def chance(self, seconds: float) -> float:
        """What every draw must be in [0, 1] for this wait."""
        return (seconds - self.low) / (self.high - self.low) if self.high > self.low else 0.0


@attrs.frozen
class Tries:
    """
    A retry: a `Draw` after each attempt but the last, which errors it takes up, whether a server is heard.

    ``unused``: draws after the last attempt, for a wait that is drawn before a stop strategy says no. ``yields``: it
    makes one attempt, and draws nothing, while a retry around it is at one that is not its first.
    """

    waits: tuple[Draw, ...]
    unused: int
    kinds: frozenset[str]
    asked: bool
    max_delay: float
    yields: bool = False

    @property
    def attempts(self) -> int:
        return len(self.waits) + 1


@attrs.frozen
class Limit:
    """A timeout."""

    seconds: float


Shape = tuple[Tries | Limit, ...]
"""Outermost first."""


@attrs.frozen
class Failing:
    """One attempt: it fails *after* so many seconds with an error of that kind that asks for a wait, or for none."""

    after: float
    kind: str
    ask: float | None


@attrs.frozen
class Plan:
    """What the callee does, what chance does, and what that comes to."""

    failings: tuple[Failing, ...]
    chances: tuple[float, ...]
    duration: float

    @property
    def attempts(self) -> int:
        return len(self.failings)


@attrs.frozen
class _Level:
    """A retry at work: at which attempt it is, and the deadline around it."""

    tries: Tries
    number: int
    deadline: float

    @property
    def wait(self) -> Draw | None:
        return None if self.number > len(self.tries.waits) else self.tries.waits[self.number - 1]


@attrs.frozen
class _Node:
    """The callee is entered: when, in which attempts of which retries, and what deadline is around it."""

    now: float
    levels: tuple[_Level, ...]
    deadline: float
    failings: tuple[Failing, ...] = ()
    chances: tuple[float, ...] = ()

    @property
    def key(self) -> tuple[Any, ...]:
        return (
            round(self.now, 9),
            len(self.failings),
            round(self.deadline, 9),
            *((level.number, round(level.deadline, 9)) for level in self.levels),
        )


class Search:
    """Every way through one shape that can matter."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        # The one that every retry takes up comes first.
        kinds = {kind for each in self._retries() for kind in each.kinds}
        self._kinds = ["boom", *sorted(kinds - {"boom"})]
        self.start = self._entered(0.0, (), -1, float("inf"))

    def _retries(self) -> list[Tries]:
        return [each for each in self._shape if isinstance(each, Tries)]

    def most(self) -> int:
        """Attempts that no plan exceeds, deadlines or not."""
        product = 1
        for each in self._retries():
            product *= each.attempts
        return product

    def _entered(
        self, now: float, levels: tuple[_Level, ...], place: int, deadline: float
    ) -> _Node:
        """From the layer after *place* inward: every timeout begins, every retry is at its first attempt."""
        for layer in self._shape[place + 1 :]:
            if isinstance(layer, Limit):
                deadline = min(deadline, now + layer.seconds)
            else:
                once = layer.yields and any(level.number > 1 for level in levels)
                tries = attrs.evolve(layer, waits=(), unused=0) if once else layer
                levels = (*levels, _Level(tries, 1, deadline))
        return _Node(now, levels, deadline)

    def _place(self, level: int) -> int:
        return [place for place, each in enumerate(self._shape) if isinstance(each, Tries)][level]

    # ------------------------------------------------------------------ moves

    def moves(self, node: _Node, prefer: str) -> Iterator[_Node | Plan]:
        """What can come next, the most promising first: ``attempts`` or ``duration``."""
        for at in self._ends(node, prefer):
            for kind in self._kinds:
                for ask in self._asks(node, at, prefer):
                    failing = Failing(at - node.now, kind, ask)
                    failed = attrs.evolve(node, now=at, failings=(*node.failings, failing))
                    yield from self._up(failed, len(node.levels) - 1, kind, ask, prefer)

    def _thresholds(self, node: _Node, *, later: bool = False) -> list[float]:
        """The instants from which one of the waits that come now, or *later*, does not fit any more."""
        return sorted(
            {
                level.deadline - seconds
                for level in node.levels
                if level.deadline < float("inf")
                for wait in level.tries.waits[level.number - 1 :][: None if later else 1]
                for seconds in (wait.shortest, wait.longest, level.tries.max_delay)
            }
        )

    def _ends(self, node: _Node, prefer: str) -> list[float]:
        middle = [
            instant
            for threshold in self._thresholds(node)
            for instant in (threshold - HAIR, threshold + HAIR)
            if node.now < instant < node.deadline
        ]
        late = [node.deadline] if node.deadline < float("inf") else []
        if prefer == "attempts":
            return [node.now, *middle, *late]
        return [*late, *reversed(middle), node.now]

    def _asks(self, node: _Node, at: float, prefer: str) -> list[float | None]:
        """No wait, the longest that is honoured, one that ends just in time for something, one that nobody honours."""
        levels = [level for level in node.levels if level.tries.asked]
        wanted = {level.tries.max_delay for level in levels}
        instants = [level.deadline for level in levels] + self._thresholds(node, later=True)
        wanted |= {each - at - HAIR for each in instants if at + HAIR < each < float("inf")}
        asks: list[float | None] = [None, *sorted(wanted)]
        too_long = [level.tries.max_delay + HAIR for level in levels]
        return [*(asks if prefer == "attempts" else asks[::-1]), *too_long]

    def _up(
        self, node: _Node, place: int, kind: str, ask: float | None, prefer: str
    ) -> Iterator[_Node | Plan]:
        """The error at the retry *place*, and outside of it."""
        if place < 0:
            yield Plan(node.failings, node.chances, node.now)
            return
        level = node.levels[place]
        floor = ask if ask is not None and level.tries.asked else 0.0
        wait = level.wait
        if kind not in level.tries.kinds or wait is None:
            if kind in level.tries.kinds:
                node = attrs.evolve(node, chances=(*node.chances, *(0.0,) * level.tries.unused))
            yield from self._up(node, place - 1, kind, ask, prefer)
            return
        for drawn in self._waits(node, level, wait, prefer):
            chances = (*node.chances, *(wait.chance(drawn),) * wait.draws)
            drew = attrs.evolve(node, chances=chances)
            seconds = max(drawn, floor)
            if floor > level.tries.max_delay or node.now + seconds >= level.deadline:
                yield from self._up(drew, place - 1, kind, ask, prefer)
                continue
            begun = (*node.levels[:place], attrs.evolve(level, number=level.number + 1))
            entered = self._entered(node.now + seconds, begun, self._place(place), level.deadline)
            yield attrs.evolve(entered, failings=drew.failings, chances=drew.chances)

    def _waits(self, node: _Node, level: _Level, wait: Draw, prefer: str) -> list[float]:
        if wait.shortest == wait.longest:
            return [wait.shortest]
        instants = [level.deadline, *self._thresholds(node, later=True)]
        fitting = {
            seconds
            for instant in instants
            for seconds in (instant - node.now - HAIR, instant - node.now + HAIR)
            if wait.shortest < seconds < wait.longest
        }
        waits = [wait.shortest, *sorted(fitting), wait.longest]
        return waits if prefer == "attempts" else waits[::-1]

    # ----------------------------------------------------------------- search

    def plan(self, prefer: str, goal: float, patience: int = 400_000) -> Plan | None:
        """A plan with at least *goal* attempts or seconds; None if there is none, or none was found in time."""
        seen: set[tuple[Any, ...]] = set()
        stack = [self.moves(self.start, prefer)]
        for _ in range(patience):
            if not stack:
                return None
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
            elif isinstance(found, Plan):
                if (found.attempts if prefer == "attempts" else found.duration) >= goal:
                    return found
            elif found.key not in seen:
                seen.add(found.key)
                stack.append(self.moves(found, prefer))
        return None

    def wander(self, chance: random.Random) -> Plan:
        """Any plan, by chance."""
        node = self.start
        while True:
            found = chance.choice(list(self.moves(node, chance.choice(["attempts", "duration"]))))
            if isinstance(found, Plan):
                return found
            node = found
