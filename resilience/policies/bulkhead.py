"""
Bulkhead: so many calls at once and no more, so that one slow dependency cannot take every task there is.

The places and the queue are `resilience.core.lines`, the waiting is `_waiting`. Where a place is free, a call takes it
in one statement and gives it back in another. Nothing awaits between taking a place and the ``try`` that gives it back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, ClassVar, final

import attrs

from resilience._fronts import Part
from resilience.bounds import Around, Inner, Reach, merged
from resilience.call import GRAIN, Call, Step
from resilience.clock import PROCESS_CLOCK, Clock, Rng, loop_time
from resilience.core.lines import PLACES, Places
from resilience.doors import Stateful
from resilience.errors import BulkheadFullError, made_of
from resilience.events import CallQueued, CallRejected, Hub, by_hand
from resilience.policies._nested import guards_around
from resilience.policies._places import Place, Weight, weigher, weight_option
from resilience.policies._waiting import stand_in_line, waiter_here
from resilience.validation import (
    as_clock,
    as_optional_seconds,
    check,
    clock,
    count,
    duration,
    name,
    rng,
)
from resilience.values import Value

__all__ = ["Acquiring", "Bulkhead", "BulkheadSnapshot", "Place"]

"""Where there is no pipeline: whoever listens to the whole process hears of it."""


@final
class BulkheadSnapshot(Value):
    """
    A bulkhead at one instant; it does not change afterwards.

    Attributes:
        name: Of the bulkhead, or None.
        limit: Places there are.
        in_flight: Places taken, by weight.
        available: Places free; 0 where a lowered limit is still exceeded.
        queue: Callers that may wait.
        waiting: Callers that wait.
        rejected: Callers turned away since it was made.
    """

    name: str | None
    limit: int
    in_flight: int
    available: int
    queue: int
    waiting: int
    rejected: int


@final
@attrs.frozen(eq=False, repr=False)
class Bulkhead(Stateful):
    """
    Let so many calls run at once, let so many more wait for a place, and turn the others away.

    It holds state and has identity: used in two pipelines it is shared. One object serves any number of tasks, loops
    and threads without a lock. Who waits is served in order, and nobody who comes later overtakes. Pickle and copy are
    refused.

    A task that holds a place and asks again when none is free goes in on the place it has, instead of waiting for
    itself. That is seen for calls inside one another; not for places that are held by hand, by a stream or by a task
    that waits for another one.

    Args:
        limit: Places, >= 0. 0 turns every call away.
        queue: Callers that may wait for a place, >= 0. Default 0: nobody waits.
        max_wait: Seconds a caller waits at most, >= 0, or None: as long as the deadlines around allow. Default None.
        weight: Places that a call takes, >= 1, or a function of the `Call` that returns it. One that takes more than
            ``limit`` is turned away. Default 1.
        name: For events and metrics: 1 to 256 printable characters. Default: as it is written.
        clock: For the instants of events. Default: the process-wide monotonic clock.
        rng: Nothing here is left to chance; taken so that every policy that holds state takes the same.

    Raises:
        BulkheadFullError: every place and every place in the queue was taken, ``max_wait`` was over, or the deadline
            around had passed. The call never ran.

    Nygard, *Release It!*, 2nd ed., ch. 5; names follow Polly v8 and resilience4j.
    """

    laned: ClassVar[bool] = True

    limit: int = attrs.field(validator=count(low=0))
    queue: int = attrs.field(default=0, kw_only=True, validator=count(low=0))
    max_wait: float | None = attrs.field(
        default=None,
        kw_only=True,
        converter=as_optional_seconds,
        validator=duration(zero=True, none=True),
    )
    weight: Weight = attrs.field(default=1, kw_only=True, validator=weight_option())
    name: str | None = attrs.field(default=None, kw_only=True, validator=name(none=True))
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng())
    _core: _Core = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_core", _Core(self))

    def link(self, step: Step, hub: Hub) -> Step:
        core = self._core
        lane = core.places.plain and core.weigh is None
        objects = {"places": core.places, "weight": core.weight}
        hub.parts.append(Part("places", objects) if lane else None)
        return _linked(core, step, hub)

    def worst(self, inner: Inner, around: Around) -> Inner:  # noqa: ARG002
        if not self.queue or self.max_wait == 0:
            return inner
        wait = math.inf if self.max_wait is None else self.max_wait

        def reach(starts: Sequence[Reach], deadline: float) -> Sequence[Reach]:
            waited = (each._replace(last=min(each.last + wait, deadline)) for each in starts)
            return inner(merged(waited), deadline)

        return reach

    # ------------------------------------------------------------------ state

    @property
    def in_flight(self) -> int:
        """Places taken now, by weight."""
        return self._core.places.taken

    @property
    def available(self) -> int:
        """Places free now."""
        places = self._core.places
        return max(0, places.limit - places.taken)

    @property
    def waiting(self) -> int:
        """Callers that wait now."""
        return self._core.places.waiting

    def snapshot(self) -> BulkheadSnapshot:
        """Everything there is to know at this instant, frozen."""
        places = self._core.places
        limit, taken = places.limit, places.taken
        return BulkheadSnapshot(
            name=self.name,
            limit=limit,
            in_flight=taken,
            available=max(0, limit - taken),
            queue=places.queue,
            waiting=places.waiting,
            rejected=places.rejected,
        )

    def change(self, *, limit: int | None = None, queue: int | None = None) -> None:
        """
        Another limit, or another length of the queue, from now on; from any thread.

        Calls that run go on, and so do those that wait, except for those that take more places than there are now. What
        is free because of it goes to those who wait, in order.

        Raises:
            ConfigurationError: as for a new bulkhead.
        """
        kinds = attrs.fields(Bulkhead)
        for field, value in ((kinds.limit, limit), (kinds.queue, queue)):
            if value is not None:
                check(f"Bulkhead.{field.name}", value, field.validator)  # type: ignore[arg-type]  # ours
                object.__setattr__(self, field.name, value)
        self._core.label = repr(self)
        self._core.places.change(self.limit, self.queue)

    # ---------------------------------------------------------------- by hand

    def admit(self, weight: int = 1) -> Place:
        """
        A place at once, to be released by ``release()`` or a ``with`` block: ``with bulkhead.admit():``.

        Raises:
            BulkheadFullError: there is none, or others wait for one.
        """
        check("Bulkhead.admit.weight", weight, count())
        core = self._core
        if not core.places.take(weight):
            raise core.rejection(by_hand())
        return Place(core.places, weight)

    def acquire(self, weight: int = 1) -> Acquiring:
        """
        A place, after a wait in the queue if need be: ``async with bulkhead.acquire():`` or ``place = await ...``.

        Raises:
            BulkheadFullError: when it is awaited: there is none, and no place in the queue, or ``max_wait`` was over.
        """
        check("Bulkhead.acquire.weight", weight, count())
        return Acquiring(self._core, weight)


@final
class Acquiring:
    """What ``Bulkhead.acquire`` returns: awaited it gives a `Place`, in ``async with`` it takes and releases one."""

    __slots__ = ("_core", "_place", "_weight")

    def __init__(self, core: _Core, weight: int) -> None:
        self._core = core
        self._weight = weight
        self._place: Place | None = None

    async def _taken(self) -> Place:
        core, weight = self._core, self._weight
        if not core.places.take(weight):
            if core.in_vain(None):
                raise core.rejection(by_hand())
            await core.enter(None, weight, by_hand())
        return Place(core.places, weight)

    def __await__(self) -> Generator[Any, Any, Place]:
        return self._taken().__await__()

    async def __aenter__(self) -> Place:
        self._place = place = await self._taken()
        return place

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._place is not None:
            self._place.release()


@final
class _Core:
    """What a bulkhead's steps hold on to; not the bulkhead, so that nothing here is a cycle."""

    __slots__ = ("clock", "label", "max_wait", "name", "places", "weigh", "weight")

    def __init__(self, options: Bulkhead) -> None:
        self.label: str = repr(options)
        self.name: str | None = options.name
        self.max_wait: float = math.inf if options.max_wait is None else options.max_wait
        self.clock: Any = options.clock or PROCESS_CLOCK
        self.places: Places = PLACES(options.limit, options.queue)
        given = options.weight
        self.weight: int = given if isinstance(given, int) else 1
        self.weigh: Callable[[Call], int] | None = (
            None if isinstance(given, int) else weigher("Bulkhead", given)
        )

    def now(self) -> float:
        return self.clock.now()  # type: ignore[no-any-return]

    def in_vain(self, call: Call | None) -> bool:
        """Whether a wait would not help, asked before a waiter or a coroutine is made."""
        return (
            self.max_wait == 0
            or (call is not None and call.until != math.inf and call.until - loop_time() <= GRAIN)
            or self.places.waiting >= self.places.queue
        ) and not self.stands_inside(call)

    def stands_inside(self, call: Call | None) -> bool:
        return call is not None and guards_around("places", self.places) > 1

    async def enter(self, call: Call | None, weight: int, hub: Hub) -> int:
        """Get in after a wait, if at all; how many places that took, 0 for who goes in on its own."""
        places = self.places
        if self.stands_inside(call):
            return 0
        waiter = waiter_here(weight)
        if not places.join(waiter):
            raise self.rejection(hub)
        due = loop_time() + self.max_wait

        def left() -> float:
            seconds = due - loop_time()
            return seconds if seconds > GRAIN else 0.0

        began = self.now()
        handed = False
        try:
            handed = await stand_in_line(places, waiter, left, self.now)
        finally:
            if hub.wants(CallQueued):
                at = self.now()
                hub.emit(
                    CallQueued(
                        policy=self.name or self.label,
                        pipeline=hub.pipeline,
                        at=at,
                        waited=at - began,
                        admitted=handed,
                    )
                )
        if not handed:
            raise self.rejection(hub)
        return weight

    def rejection(self, hub: Hub) -> BulkheadFullError:
        """Counted, and told to *hub*."""
        self.places.reject()
        if hub.wants(CallRejected):
            hub.emit(
                CallRejected(
                    policy=self.name or self.label,
                    pipeline=hub.pipeline,
                    at=self.now(),
                    reason=BulkheadFullError.reason,
                )
            )
        return made_of(BulkheadFullError, {"policy": self.label, "retry_after": None})


def _linked(core: _Core, step: Step, hub: Hub) -> Step:  # noqa: C901 - `take` and `give` written out
    places, usual, weigh, plain = core.places, core.weight, core.weigh, core.places.plain

    async def guarded(call: Call) -> Any:  # noqa: C901, PLR0912 - (as above)
        weight = usual if weigh is None else weigh(call)
        if call.lane is not None:
            free = call.take_over()
        elif plain:
            # `Places.take` and, below, `Places.give`, written out: this is the path every call takes.
            places.taken += weight * (free := not places.waiting and places.taken + weight <= places.limit)  # fmt: skip
        else:
            free = places.take(weight)
        if not free:
            if core.in_vain(call):
                raise core.rejection(hub)
            weight = await core.enter(call, weight, hub)
        try:
            result = await step(call)
        except Exception:
            places.give(weight)
            raise
        except BaseException:
            if call.parked is None:
                places.give(weight)
            else:
                # Law 33: those inside were taken later and are given back earlier.
                call.park(Place(places, weight), call.entered)
            raise
        if call.held is not None:
            call.held.append(Place(places, weight))
        elif plain:
            places.taken -= weight
            if places.waiting:
                places.advance()
        else:
            places.give(weight)
        return result

    return guarded
