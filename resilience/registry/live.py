"""
A pipeline that can be exchanged while calls run through it.

New calls take the new one, running ones finish on the old; a function wrapped before goes through the same object and
so obeys at its next call. That, and the count of the calls in flight, is all that the one step more does.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, final

from resilience.bounds import Around, Inner
from resilience.call import Call, Step
from resilience.checks import Explanation
from resilience.doors import F_co, Policy
from resilience.errors import RejectedError
from resilience.events import Hub
from resilience.pipeline import Pipeline, flat

__all__ = ["LivePipeline", "Slot"]


class _Route(NamedTuple):
    """The way calls take now; ``inside`` has one element for each that is on it."""

    step: Step
    inside: list[None]
    gates: list[Callable[[], RejectedError | None]]


@final
class _Line:
    """One place where the pipeline was linked: the step it guards there, and the way to it."""

    __slots__ = ("__weakref__", "_hub", "_step", "route", "slot")

    route: _Route

    def __init__(self, slot: Slot, step: Step, hub: Hub) -> None:
        # The slot lives as long as something is guarded by it.
        self.slot: Slot = slot
        self._step = step
        self._hub = hub

    def planned(self, pipeline: Pipeline, inside: list[None]) -> _Route:
        hub = Hub(self._hub.pipeline, (), self._hub)
        # Gates of its own: those of the pipeline before must not stay among them.
        hub.gates = []
        return _Route(pipeline.link(self._step, hub), inside, hub.gates)

    def foresee(self) -> RejectedError | None:
        """The rejection a call would meet now."""
        found = (gate() for gate in self.route.gates)
        return next((rejection for rejection in found if rejection is not None), None)

    async def __call__(self, call: Call) -> Any:
        step, inside, _ = self.route
        # Append and pop are one step each in any thread, and a sum is not.
        inside.append(None)
        try:
            return await step(call)
        finally:
            inside.pop()


@final
class Slot:
    """What the lines of a live pipeline share, and what the calls in flight hold on to."""

    __slots__ = ("__weakref__", "_lines", "_lock", "_past", "current", "domain", "inside", "name")

    def __init__(self, name: str, domain: str | None, pipeline: Pipeline[Any]) -> None:
        self.name: str = name
        self.domain: str | None = domain
        self.current: Pipeline[Any] = pipeline
        self.inside: list[None] = []
        self._past: list[list[None]] = []
        self._lines: weakref.WeakSet[_Line] = weakref.WeakSet()
        self._lock = threading.Lock()

    def line(self, step: Step, hub: Hub) -> _Line:
        line = _Line(self, step, hub)
        with self._lock:
            line.route = line.planned(self.current, self.inside)
            self._lines.add(line)
        return line

    def change(self, pipeline: Pipeline[Any]) -> None:
        """Exchange it on every line; all are planned before the first one is switched."""
        with self._lock:
            inside: list[None] = []
            routes = [(line, line.planned(pipeline, inside)) for line in self._lines]
            self._past = [each for each in (*self._past, self.inside) if each]
            self.current, self.inside = pipeline, inside
            for line, route in routes:
                line.route = route

    def drain(self) -> Callable[[], bool]:
        """From now on calls are counted anew; returns a look at whether those of before still run."""
        self.change(self.current)
        past = self._past
        return lambda: any(past)

    def in_flight(self) -> int:
        return len(self.inside) + sum(map(len, self._past))


@final
class LivePipeline(Policy[F_co]):
    """
    A pipeline of a `Registry`: all doors of a `Pipeline`, and it may be exchanged at run time.

    It is got from a registry and changed there. It may stand in another pipeline like any policy. Pickle and copy are
    refused.

    Attributes:
        name, domain: As it is registered.
        pipeline: The `Pipeline` that new calls take now.
        policies: Of that pipeline, outermost first.
        in_flight: Calls that run through it now, those on a former pipeline included.
    """

    __slots__ = ("__weakref__", "_slot")

    _slot: Slot

    def __init__(self, slot: Slot) -> None:
        self._slot = slot

    def __repr__(self) -> str:
        return f"<LivePipeline {self.name!r} {self.pipeline!r}>"

    @property
    def name(self) -> str:
        return self._slot.name

    @property
    def domain(self) -> str | None:
        return self._slot.domain

    @property
    def pipeline(self) -> Pipeline[Any]:
        return self._slot.current

    @property
    def policies(self) -> tuple[Policy[Any] | Pipeline[Any], ...]:
        return self._slot.current.policies

    def _keeper(self) -> str | None:
        return self._slot.current._keeper()  # noqa: SLF001 - our own class

    @property
    def in_flight(self) -> int:
        return self._slot.in_flight()

    def explain(self) -> Explanation:
        """As `Pipeline.explain`, of the pipeline that new calls take."""
        return self._slot.current.explain()

    @property
    def _key(self) -> Any:
        return self._slot.current._key  # noqa: SLF001 - it is this guard's own

    def _watched(self, step: Step, call: Call) -> Step:
        return self.pipeline._watched(step, call)  # noqa: SLF001 - our own classes

    def link(self, step: Step, hub: Hub) -> Step:
        line = self._slot.line(step, hub)
        hub.gates.append(line.foresee)
        return line

    def worst(self, inner: Inner, around: Around) -> Inner:
        policies = flat([self.pipeline])
        for place in reversed(range(len(policies))):
            outside = (*around.policies, *policies[:place])
            inner = policies[place].worst(inner, Around(outside, around.effort))
        return inner

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise TypeError("a LivePipeline belongs to its registry and cannot be pickled or copied")

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(2)

    def __deepcopy__(self, _: Any) -> NoReturn:
        self.__reduce_ex__(2)
