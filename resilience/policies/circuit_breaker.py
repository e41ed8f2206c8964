"""
CircuitBreaker: stop calling a dependency that keeps failing, and let a few calls through to see if it is back.

The rules are the circuit's (`resilience.core.circuit`). A closed circuit's success passes here with one increment.
Nothing awaits between a permit's issue and the ``try`` that settles it.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, final
from weakref import WeakValueDictionary

import attrs

from resilience._fronts import Part
from resilience.call import Call, Step
from resilience.clock import Clock, Rng
from resilience.core.generations import CircuitState, Closed, Refusal, Ticket, Totals
from resilience.core.trips import FailureRate, Trip, trip_validator
from resilience.doors import Stateful
from resilience.errors import ResilienceWarning
from resilience.events import Hub
from resilience.policies._breaker_core import DEFAULT_BREAK, Core, current_task
from resilience.policies._permit import Isolation, Permit
from resilience.validation import (
    as_clock,
    as_optional_seconds,
    as_seconds,
    clock,
    count,
    duration,
    flag,
    in_seconds,
    name,
    rng,
)
from resilience.values import Value
from resilience.verdicts import (
    ErrorFilter,
    ResultFilter,
    Verdict,
    error_filter,
    refuse_nothing,
    result_filter,
)

if TYPE_CHECKING:
    from tenacity.wait import wait_base

__all__ = [
    "CircuitBreaker",
    "CircuitSnapshot",
    "Isolation",
    "LiveBreaker",
    "Permit",
    "live_breakers",
]

BreakDuration: TypeAlias = "float | Callable[[int], Any] | wait_base"

# Every core, as its steps may outlive the breaker they were made by: by its name the one that was made last, by name
# and identity those before it.
_CORES: WeakValueDictionary[str | tuple[str, int], Core] = WeakValueDictionary()


def _break_duration(value: BreakDuration | timedelta) -> BreakDuration:
    return in_seconds(value)  # type: ignore[no-any-return]


@final
class CircuitSnapshot(Value):
    """
    A breaker at one instant; it does not change afterwards.

    Attributes:
        name, state, generation: Of the breaker; the generation grows by one with each transition.
        since: Monotonic instant of the last transition, on the breaker's clock.
        retry_after: Seconds an open circuit stays open, else None.
        calls, failures: What the failure window of this generation holds. Without one: all calls of the generation.
        slow: Slow calls in the window of the slow calls.
        failure_rate, slow_rate: Shares of the calls in their windows; None below the first call.
        openings, rejected: Since the breaker was made.
        totals: Every outcome since the breaker was made, late ones included.
        last_failure: Type name of the failure seen last; None after closing.
        last_failure_text: Its text, only with ``error_text=True``.
    """

    name: str
    state: CircuitState
    generation: int
    since: float
    retry_after: float | None
    calls: int
    failures: int
    slow: int
    failure_rate: float | None
    slow_rate: float | None
    openings: int
    rejected: int
    totals: Totals
    last_failure: str | None
    last_failure_text: str | None


@final
@attrs.frozen(eq=False, repr=False)
class CircuitBreaker(Stateful):
    """
    Stop calling a dependency that keeps failing; let a few calls through now and then to see whether it has recovered.

    It holds state and has identity: used in two pipelines it is shared. The numbers are per process. One object serves
    any number of tasks, loops and threads without a lock. Pickle and copy are refused.

    Args:
        name: For errors, events and logs: 1 to 256 printable characters. Two live breakers of one name warn.
        on: Required. What counts as a failure: exception classes, a predicate of the error, or one of tenacity's
            ``retry_if_*`` objects. What it does not name is a success: the dependency answered.
        ignore: What counts as nothing; stronger than ``on``. Default nothing.
        on_result: A predicate of the result; true: a failure. Default: every result is a success.
        trip: When to open. Default ``FailureRate(0.5, TimeWindow(30), minimum_calls=10)``.
        break_duration: Seconds it stays open, > 0; or a `FullJitter`, tenacity's ``wait_*`` object or a function of the
            number of the consecutive opening (1, 2, ...), drawn once per opening. Default 30.
        probes: Calls in flight at once while half-open, >= 1. Default 1.
        successes_to_close: Successful probes that close it, >= 1. Default: ``probes``. One failed or
            slow probe reopens.
        probe_lease: Seconds after which a probe that still runs has failed and its place is free, > 0. Default 60.
        overdue_after: Seconds after which a call that still runs counts as a failure while it runs. Default never.
        error_text: Keep the text of the last failure (200 characters) for snapshots and events. Default False.
        clock: Monotonic clock. Default: the process-wide one.
        rng: Where a ``FullJitter`` break duration draws from. Default: the library's own.

    Raises:
        CircuitOpenError: it is open, or half-open with all probes in flight; ``retry_after`` in seconds.
        CircuitIsolatedError: it was isolated by hand.

    Nygard, *Release It!*, 2nd ed., ch. 5; names follow Polly v8 and resilience4j.
    """

    laned: ClassVar[bool] = True

    name: str = attrs.field(validator=name())
    on: ErrorFilter = attrs.field(kw_only=True, validator=error_filter())
    ignore: ErrorFilter = attrs.field(default=(), kw_only=True, validator=error_filter())
    on_result: ResultFilter | None = attrs.field(
        default=None, kw_only=True, validator=result_filter()
    )
    trip: Trip = attrs.field(factory=FailureRate, kw_only=True, validator=trip_validator())
    break_duration: BreakDuration = attrs.field(
        default=DEFAULT_BREAK,
        kw_only=True,
        converter=_break_duration,
        validator=duration(function=True),
    )
    probes: int = attrs.field(default=1, kw_only=True, validator=count(high=10**6))
    successes_to_close: int | None = attrs.field(
        default=None, kw_only=True, validator=count(none=True)
    )
    probe_lease: float = attrs.field(
        default=60.0, kw_only=True, converter=as_seconds, validator=duration()
    )
    overdue_after: float | None = attrs.field(
        default=None, kw_only=True, converter=as_optional_seconds, validator=duration(none=True)
    )
    error_text: bool = attrs.field(default=False, kw_only=True, validator=flag())
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng())
    _core: Core = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        refuse_nothing("CircuitBreaker", self.on, self.on_result)
        core = Core(self)
        object.__setattr__(self, "_core", core)
        if (before := _CORES.get(self.name)) is not None:
            warnings.warn(
                f"two live circuit breakers are called {self.name!r}; share one object, or get it by name from a "
                "Registry",
                ResilienceWarning,
                stacklevel=3,
            )
            _CORES[self.name, id(before)] = before
        _CORES[self.name] = core

    def link(self, step: Step, hub: Hub) -> Step:
        self._core.audience.add(hub)
        core = self._core
        hub.gates.append(core.foresee)
        # Where the trip condition is changed for one of another kind, its calls leave the lane.
        role = "breaker in time" if core.timed else "breaker"
        objects = {
            "circuit": core.circuit,
            "clock": core.clock,
            "turn_away": functools.partial(core.turn_away, hub),
            "gate": functools.partial(core.turned_away, hub),
            "settle": core.settle_plain,
            "success": Verdict.SUCCESS,
        }
        hub.parts.append(Part("watching breaker" if core.watching else role, objects))
        return _linked(self._core, step, hub)

    # ------------------------------------------------------------------ state

    @property
    def state(self) -> CircuitState:
        """What it does with the next call. Reading never changes anything."""
        return self._core.circuit.current.state

    @property
    def generation(self) -> int:
        """Number of the current generation, from 1."""
        return self._core.circuit.current.number

    @property
    def retry_after(self) -> float | None:
        """Seconds it stays open, 0.0 if open past its end and not yet asked; None in every other state."""
        return self._core.circuit.retry_after(self._core.now())

    def snapshot(self) -> CircuitSnapshot:
        """Everything there is to know at this instant, frozen."""
        return _snapshot(self._core)

    # ---------------------------------------------------------------- by hand

    def admit(self) -> Permit:
        """
        Leave to make one call by hand; the permit must be settled, once, by the task that took it.

        Raises:
            CircuitOpenError, CircuitIsolatedError: the call must not be made.
        """
        core = self._core
        return Permit(core, core.admit())

    def isolate(self) -> Isolation:
        """Reject every call until all handles are released: a context manager, or ``release()``."""
        core = self._core
        return Isolation(core, core.circuit.isolate(core.now()))

    def disable(self) -> None:
        """Let every call pass and record nothing, until ``reset()`` or ``observe()``."""
        self._core.circuit.disable(self._core.now())

    def observe(self) -> None:
        """Record and report but reject nothing, until ``reset()`` or ``disable()``."""
        self._core.circuit.observe(self._core.now())

    def reset(self) -> None:
        """Closed and empty, from whatever state; all isolation handles are void. Calls in flight no longer count."""
        self._core.circuit.reset(self._core.now())

    # ---------------------------------------------------------- for a registry

    def _change(self, options: dict[str, Any]) -> None:
        """Other options from the next call on, all checked already; the state stays, windows and probes start anew."""
        for field, value in options.items():
            object.__setattr__(self, field, value)
        self._core.change(self)

    @classmethod
    def _around(cls, core: Core, options: dict[str, Any]) -> CircuitBreaker:
        """The breaker of a core that outlived it, because something it guards is still there."""
        breaker = object.__new__(cls)
        for field, value in options.items():
            object.__setattr__(breaker, field, value)
        object.__setattr__(breaker, "_core", core)
        return breaker


def _snapshot(core: Core) -> CircuitSnapshot:
    circuit, now = core.circuit, core.now()
    current = circuit.current
    failures, slow = circuit.counts(now)
    totals = attrs.evolve(circuit.totals, successes=circuit.lifetime_successes())
    return CircuitSnapshot(
        name=core.name,
        state=current.state,
        generation=current.number,
        since=current.since,
        retry_after=circuit.retry_after(now),
        calls=failures.calls,
        failures=failures.hits,
        slow=slow.hits,
        failure_rate=failures.hits / failures.calls if failures.calls else None,
        slow_rate=slow.hits / slow.calls if slow.calls else None,
        openings=totals.openings,
        rejected=totals.rejected,
        totals=totals,
        last_failure=circuit.last_failure,
        last_failure_text=circuit.last_text,
    )


@final
class LiveBreaker:
    """A breaker of this process, also where nothing but the functions it guards still holds it."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def __repr__(self) -> str:
        return f"<LiveBreaker {self.name!r}>"

    @property
    def name(self) -> str:
        return self._core.name

    def snapshot(self) -> CircuitSnapshot:
        """As `CircuitBreaker.snapshot`."""
        return _snapshot(self._core)

    def isolate(self) -> Isolation:
        """As `CircuitBreaker.isolate`."""
        return Isolation(self._core, self._core.circuit.isolate(self._core.now()))

    def reset(self) -> None:
        """As `CircuitBreaker.reset`."""
        self._core.circuit.reset(self._core.now())


def live_breakers() -> list[LiveBreaker]:
    """Every breaker of this process that can still be called, in the order of their names."""
    # `valuerefs` is one step; to iterate over a weak collection is many, and another thread may make a breaker.
    cores = [core for ref in _CORES.valuerefs() if (core := ref()) is not None]
    return [LiveBreaker(core) for core in sorted(cores, key=lambda core: core.name)]


def _linked(core: Core, step: Step, hub: Hub) -> Step:
    """
    The guard: a lane for plain calls and one for watched ones, as the options are now, first; tickets for all else.

    In a row, each with the next one as its *other*, as two lanes that knew each other would be a cycle.
    """
    ticketed = _with_tickets(core, step, hub)
    if core.watching:
        return _watched(core, step, hub, _plain(core, step, hub, ticketed))
    return _plain(core, step, hub, _watched(core, step, hub, ticketed))


def _plain(core: Core, step: Step, hub: Hub, other: Step) -> Step:
    circuit, judge, clock, timed = core.circuit, core.judge, core.clock, core.timed
    judges_results = judge.on_result is not None

    def follow() -> None:
        """The options changed: what this guard has at hand is read again, so that a call need not ask."""
        nonlocal judge, timed, judges_results
        judge, timed = core.judge, core.timed
        judges_results = judge.on_result is not None

    hub.followers.append((core, follow))

    async def guarded(call: Call) -> Any:
        generation = circuit.current if call.lane is None else call.take_over()
        if type(generation) is not Closed or not generation.plain or call.held is not None:
            if (rejection := core.turn_away(hub, generation)) is not None:
                try:
                    raise rejection
                finally:
                    del rejection
            # Who keeps an error keeps this frame, and must not look like a call in flight.
            del generation
            return await other(call)
        entered = call.entered
        try:
            result = await step(call)
        except Exception as error:
            core.settle_plain(generation, error)
            del generation  # (as above)
            raise
        except BaseException:
            call.park(Permit(core, Ticket(generation, clock.now())), entered)
            del generation
            raise
        if judges_results and judge.result(result) is Verdict.FAILURE:
            circuit.settle(Ticket(generation, now := clock.now()), Verdict.FAILURE, now, "result")
            return result
        if timed and (now := clock.now()) >= generation.edge:
            generation.roll(now)
        generation.successes += 1
        return result

    return guarded


def _watched(core: Core, step: Step, hub: Hub, other: Step) -> Step:
    circuit, clock = core.circuit, core.clock

    async def watched(call: Call) -> Any:
        if call.lane is not None:
            generation, key, started = call.take_over()
            running = generation.running
        else:
            generation = circuit.current
            if (
                type(generation) is not Closed
                or (running := generation.running) is None
                or call.held is not None
                or (started := clock.now()) >= generation.due
            ):
                if (rejection := core.turn_away(hub, generation)) is not None:
                    try:
                        raise rejection
                    finally:
                        del rejection
                del generation  # who keeps an error keeps this frame
                return await other(call)
            key = generation.entered = generation.entered + 1
            running[key] = started
        entered = call.entered
        try:
            result = await step(call)
            judge = core.judge
            refused = judge.on_result is not None and judge.result(result) is Verdict.FAILURE
            now = clock.now()
        except Exception as error:
            core.settle_by_error(generation.ticket_of(key, started), error)
            del generation
            raise
        except BaseException:
            call.park(Permit(core, generation.ticket_of(key, started)), entered)
            del generation
            raise
        if refused:
            circuit.settle(generation.ticket_of(key, started), Verdict.FAILURE, now, "result")
        elif now < generation.due and key in running:
            del running[key]
            generation.successes += 1
        else:
            circuit.settle(generation.ticket_of(key, started), Verdict.SUCCESS, now)
        return result

    return watched


def _with_tickets(core: Core, step: Step, hub: Hub) -> Step:
    circuit, clock = core.circuit, core.clock

    async def ticketed(call: Call) -> Any:
        entered = call.entered
        answer = circuit.admit(clock.now(), current_task())
        if isinstance(answer, Refusal):
            raise core.rejection(answer.state, answer.retry_after, hub)
        ticket = answer
        try:
            result = await step(call)
            judge = core.judge
            refused = judge.on_result is not None and judge.result(result) is Verdict.FAILURE
        except Exception as error:
            core.settle_by_error(ticket, error)
            del answer, ticket  # who keeps an error keeps this frame
            raise
        except BaseException:
            call.park(Permit(core, ticket), entered)
            del answer, ticket
            raise
        if refused:
            circuit.settle(ticket, Verdict.FAILURE, clock.now(), "result")
        elif call.held is not None:
            call.held.append(Permit(core, ticket))
        else:
            circuit.settle(ticket, Verdict.SUCCESS, clock.now())
        return result

    return ticketed
