"""
SingleFlight: calls that ask for the same thing at the same time ask once.

The call flies in a task of its own, because it belongs to none of its callers: one that leaves must not take it along,
and one that waits must not be held by it. So it outlives every caller but the last, who cancels it and stays until it
has ended; nothing is left behind. That is a nursery's promise, kept on asyncio without one; trio has no tasks outside
of nurseries, and there the policy is entered first.
"""

from __future__ import annotations

import asyncio
import types
from asyncio.events import _get_running_loop as running_loop
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from math import inf
from typing import Any, ClassVar, Self, final

import anyio
import anyio.abc
import attrs

from resilience.bounds import Around, Inner, Reach, bounds_of, merged
from resilience.call import Call, Step, twin
from resilience.clock import PROCESS_CLOCK, Clock, Rng
from resilience.core.flights import Fleet, Flight
from resilience.doors import Stateful
from resilience.events import FlightAbandoned, FlightJoined, Hub
from resilience.keys import NO_KEY, key_of
from resilience.loaded import loaded
from resilience.modes import MODES
from resilience.policies._last_error import forget_older_tracebacks, raise_it
from resilience.validation import as_clock, clock, count, key, name, rng
from resilience.values import Value

__all__ = ["SingleFlight", "SingleFlightSnapshot"]

# The flight in which this code runs: whoever asks for it again would wait for itself.
_INSIDE: ContextVar[Flight | None] = ContextVar("resilience_flight", default=None)


@final
class SingleFlightSnapshot(Value):
    """
    A `SingleFlight` at one instant.

    Attributes:
        name: The policy's.
        in_flight: Calls in flight, on all loops.
        waiting: Callers that wait for them.
        started: Flights since it was made.
        joined: Callers that joined one.
        abandoned: Flights that were cancelled because nobody waited any more.
    """

    name: str | None
    in_flight: int
    waiting: int
    started: int
    joined: int
    abandoned: int


@final
class _Base:
    """What belongs to one loop: its flights, and the task group that was entered there, if any."""

    __slots__ = ("fleet", "group", "place")

    def __init__(self, place: Any) -> None:
        self.place = place
        self.fleet = Fleet()
        self.group: anyio.abc.TaskGroup | None = None


@final
class _Core:
    """The state of one `SingleFlight`; its counters are added to in straight lines, see core/circuit."""

    __slots__ = ("abandoned", "bases", "clock", "joined", "label", "started", "tasks")

    def __init__(self, policy: SingleFlight) -> None:
        self.bases: dict[Any, _Base] = {}
        self.tasks: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly
        self.clock: Any = policy.clock or PROCESS_CLOCK
        self.label = policy.name or repr(policy)
        self.started = self.joined = self.abandoned = 0

    def base(self) -> _Base:
        """That of the running loop."""
        place = _here(self.label)
        found = self.bases.get(place)
        if found is None:
            for other in [*self.bases]:
                # A loop that was stopped in the middle of a flight.
                if isinstance(other, asyncio.AbstractEventLoop) and other.is_closed():
                    self.bases.pop(other, None)
            found = self.bases[place] = _Base(place)
        return found

    def tidy(self, base: _Base) -> None:
        """What holds a loop does not outlive its use."""
        if not base.fleet and base.group is None and self.bases.get(base.place) is base:
            del self.bases[base.place]

    def spawn(self, base: _Base, fly: Callable[[], Any]) -> None:
        """Run it in a task of its own, with a copy of the caller's context."""
        if base.group is not None:
            base.group.start_soon(fly, name=self.label)
        elif isinstance(base.place, asyncio.AbstractEventLoop):
            task = base.place.create_task(fly(), name=self.label)
            if not task.done():  # an eager one may be
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
        else:
            raise RuntimeError(
                f"{self.label} owns tasks, and on trio they need a nursery: enter it first, "
                "async with flights: ..."
            )


def _here(label: str) -> Any:
    """What stands for the running loop: asyncio's loop or trio's token."""
    loop = running_loop()
    # No current task in a running loop: trio as a guest of that loop, or a coroutine driven by hand.
    if loop is not None and asyncio.current_task(loop) is not None:
        return loop
    trio = loaded("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        raise RuntimeError(f"{label} must be awaited in a task of asyncio or trio")
    return trio.lowlevel.current_trio_token()


@final
@attrs.frozen(eq=False, repr=False)
class SingleFlight(Stateful):
    """
    Let calls that ask for the same thing at the same time ask once, and share what came of it.

    Results and errors are shared as the objects they are, so share what nobody changes. The call runs in a task of its
    own, in a copy of its first caller's context and with that one's pipeline around it, and knows none of its callers'
    deadlines: a `Timeout` inside bounds it; one outside, or a `deadline` block, bounds each caller's wait. A caller
    who leaves leaves the others alone; the last one cancels the call and waits until it has ended. A breaker inside
    counts one verdict for each flight.

    It holds state and has identity. Loops do not share flights. On trio it has to be entered first,
    ``async with SingleFlight() as flights:``; on asyncio it may be. Leaving that block waits for what is in flight.
    Pickle and copy are refused, and so are the doors ``opening`` and ``stream``.

    Args:
        key: What makes two calls the same, as in `LastGood`: a function of the call's arguments, or one value for all
            calls. Default: the callee with the pipeline's ``key``, and where there is none, with its arguments. A call
            whose key cannot be told flies alone; that is logged once.
        max_flights: Keys in flight at once on one loop, >= 1; a call beyond them flies alone. Default 10,000.
        name: For events and logs.
        clock: Monotonic clock, for events. Default: the process-wide one.
        rng: Nothing here is left to chance; taken so that every policy that holds state takes the same.

    Raises:
        RuntimeError: awaited outside a task, on trio without having been entered, or the call in flight was cancelled
            from outside.
    """

    key: Any = attrs.field(default=None, kw_only=True, validator=key())
    max_flights: int = attrs.field(default=10_000, kw_only=True, validator=count())
    name: str | None = attrs.field(default=None, kw_only=True, validator=name(none=True))
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng())
    _core: _Core = attrs.field(init=False)

    shares_answers: ClassVar[bool] = True

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_core", _Core(self))

    def link(self, step: Step, hub: Hub) -> Step:
        return _linked(self, self._core, step, hub)

    def worst(self, inner: Inner, around: Around) -> Inner:  # noqa: ARG002
        def reach(starts: Sequence[Reach], deadline: float) -> Sequence[Reach]:
            ends = inner(starts, deadline)
            if deadline == inf:
                return ends
            # Inside, nobody knows of the deadline: what cannot end in time is begun all the same, and cut off at it.
            late = min(deadline, bounds_of(inner(starts, inf)).duration)
            return merged(each._replace(last=max(each.last, late)) for each in ends)

        return reach

    def snapshot(self) -> SingleFlightSnapshot:
        """Everything there is to know at this instant, frozen."""
        core = self._core
        fleets = [base.fleet for base in [*core.bases.values()]]
        return SingleFlightSnapshot(
            name=self.name,
            in_flight=sum(map(len, fleets)),
            waiting=sum(fleet.callers for fleet in fleets),
            started=core.started,
            joined=core.joined,
            abandoned=core.abandoned,
        )

    async def __aenter__(self) -> Self:
        base = self._core.base()
        if base.group is not None:
            raise RuntimeError(f"{self._core.label} was entered in this loop already")
        group = anyio.create_task_group()
        base.group = await group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> bool | None:
        base = self._core.base()
        group, base.group = base.group, None
        self._core.tidy(base)
        if group is None:
            raise RuntimeError(f"{self._core.label} was not entered in this loop")
        try:
            return await group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as raised:
            # Flights keep their errors to their callers, so this one is the block's own.
            if raised.exceptions == (error,):
                return False
            raise  # pragma: no cover - nothing else has been seen to get into it


@final
class _Flown:
    """What the task of a flight and its callers share."""

    __slots__ = ("base", "call", "done", "flight", "orphaned", "scope", "started")

    def __init__(self, base: _Base, flight: Flight, call: Call, started: float) -> None:
        self.base = base
        self.flight = flight
        self.call = call
        self.started = started
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.orphaned = False


def _linked(policy: SingleFlight, core: _Core, step: Step, hub: Hub) -> Step:  # noqa: C901, PLR0915 - one guard
    label, limit = core.label, policy.max_flights
    named = policy.key

    async def guarded(call: Call) -> Any:
        same = key_of(call, named, "SingleFlight")
        if same is NO_KEY:
            return await step(call)
        base = core.base()
        flight = base.fleet.find(same)
        inside = _INSIDE.get()
        if flight is None:
            if len(base.fleet) >= limit:
                return await step(call)
            flown = start(base, same, call, inside)
        elif inside is not None and flight.waits_for(inside):
            return await step(call)
        else:
            flown = flight.work
            base.fleet.join(flight, inside)
            core.joined += 1
            if hub.wants(FlightJoined):
                tell_joined(flight.callers)
        try:
            await flown.done.wait()
        except BaseException as left:
            call.entered += flown.call.entered
            if base.fleet.leave(flown.flight, inside):
                again = await abandon(flown, call, left)
                if again is not None:
                    raise again  # noqa: B904 - it came by itself
            raise
        return answer(flown, call, inside)

    def start(base: _Base, same: Any, call: Call, inside: Flight | None) -> _Flown:
        flight = base.fleet.start(same)
        flown = flight.work = _Flown(base, flight, twin(call), core.clock.now())
        base.fleet.join(flight, inside)
        try:
            core.spawn(base, lambda: fly(flown))
        except BaseException:
            base.fleet.leave(flight, inside)
            flight.work = None
            core.tidy(base)
            raise
        core.started += 1
        return flown

    async def fly(flown: _Flown) -> None:
        flight, call = flown.flight, flown.call
        result: Any = None
        failure: BaseException | None = None
        _INSIDE.set(flight)
        MODES.block.set(None)  # the first caller's own, as his other deadlines are
        try:
            with flown.scope:
                if not flight.over:  # whoever asked may have left before it started
                    result = await step(call)
        except anyio.get_cancelled_exc_class() as error:
            if not _by_the_callee():
                failure = RuntimeError(f"{label}: the call in flight was cancelled from outside")
                raise
            failure = error
        except BaseException as error:  # noqa: BLE001 - it is the callers'
            failure = error
            forget_older_tracebacks_of(error)
        finally:
            if flown.orphaned or not flown.scope.cancel_called:
                call.settle_parked(cut=False)
            flown.base.fleet.land(flight, result, failure)
            failure = None
            flight.work = None  # which holds the flight
            core.tidy(flown.base)
            flown.done.set()

    def forget_older_tracebacks_of(error: BaseException) -> None:
        if isinstance(error, Exception):
            forget_older_tracebacks(error, core, None)

    async def abandon(flown: _Flown, call: Call, left: BaseException) -> BaseException | None:
        """End the flight; returns the cancellation that came while it ended, if one did."""
        again: BaseException | None = None
        flown.scope.cancel()
        core.abandoned += 1
        core.tidy(flown.base)
        if isinstance(left, GeneratorExit):  # nothing may be awaited
            flown.orphaned = True
        else:
            again = await _until(flown.done)
            # Only who turns this cancellation into an error knows what it means for the permits inside.
            flown.call.hand_over(call)
        if hub.wants(FlightAbandoned):
            at = core.clock.now()
            hub.emit(
                FlightAbandoned(
                    policy=label, pipeline=hub.pipeline, at=at, after=at - flown.started
                )
            )
        return again

    def answer(flown: _Flown, call: Call, inside: Flight | None) -> Any:
        flight, other = flown.flight, flown.call
        call.entered += other.entered
        call.end_like(other)
        result, error = flight.result, flight.error
        context, traceback = flight.context, flight.traceback
        flown.base.fleet.leave(flight, inside)
        if error is None:
            return result
        try:
            # Each caller raises it from where it landed: tracebacks do not pile up, and no caller's handler becomes
            # the context that the others see.
            shared: Any = error.with_traceback(traceback)
            raise_it(shared, core)
        finally:
            error.__context__ = context
            error = shared = context = traceback = None

    def tell_joined(callers: int) -> None:
        at = core.clock.now()
        hub.emit(FlightJoined(policy=label, pipeline=hub.pipeline, at=at, callers=callers))

    return guarded


def _by_the_callee() -> bool:
    """Whether a cancellation that left the flight was raised by the callee itself, which only asyncio has."""
    loop = running_loop()
    task = None if loop is None else asyncio.current_task(loop)
    return task is not None and not task.cancelling()


async def _until(done: anyio.Event) -> BaseException | None:
    """Wait for it, whoever cancels meanwhile, as a task group waits for its tasks; the last cancellation that came."""
    came: BaseException | None = None
    with anyio.CancelScope(shield=True):
        while not done.is_set():
            try:
                await done.wait()
            except asyncio.CancelledError as error:  # once more, from outside of any scope
                came = error
    return came
