"""
CircuitBreaker: stop calling a dependency that keeps failing, and let a few calls through to see whether it is back.

The rules are the circuit's (`resilience.core.circuit`); this file gives it a clock, verdicts, the current task and
listeners. A closed circuit's success passes here with one increment. Nothing awaits between a permit's issue and the
``try`` that settles it.
"""

from __future__ import annotations

import asyncio
import math
import sys
import warnings
from asyncio.events import _get_running_loop as running_loop
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeAlias, final
from weakref import WeakSet, WeakValueDictionary

import attrs

from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK, RNG, Clock, Rng
from resilience.core.backoff import FullJitter
from resilience.core.circuit import CIRCUIT, Circuit
from resilience.core.generations import CircuitState, Closed, Refusal, Rules, Ticket, Totals, Transition
from resilience.core.trips import FailureRate, Trip, trip_validator
from resilience.core.windows import Counts
from resilience.doors import Policy
from resilience.errors import (
    CircuitIsolatedError, CircuitOpenError, ConfigurationError, ResilienceWarning, TimeoutExceededError,
)  # fmt: skip
from resilience.events import (
    CallRejected, CircuitStateChanged, CircuitTripped, Event, Hub, error_text_of, hook_failed, publish,
)  # fmt: skip
from resilience.strategies import AttemptState
from resilience.validation import as_clock, as_seconds, clock, count, duration, flag, name, rng
from resilience.verdicts import ErrorFilter, Judge, ResultFilter, Verdict, error_filter, result_filter

if TYPE_CHECKING:
    from tenacity.wait import wait_base

__all__ = ["CircuitBreaker", "CircuitSnapshot", "Isolation", "Permit"]

BreakDuration: TypeAlias = "float | Callable[[int], Any] | wait_base"

_DEFAULT_BREAK = 30.0
_LIVE: WeakValueDictionary[str, Circuit] = WeakValueDictionary()


@final
@attrs.frozen(kw_only=True)
class CircuitSnapshot:
    """
    A breaker at one instant; it does not change afterwards.

    Attributes:
        name, state, generation: Of the breaker; the generation grows by one with each transition.
        since: Monotonic instant of the last transition, on the breaker's clock.
        retry_after: Seconds an open circuit stays open, else None.
        calls, failures, slow: What the window of this generation holds. Without a window: all calls of the generation.
        failure_rate, slow_rate: Shares of those calls; None below the first call.
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
class CircuitBreaker(Policy):
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
        successes_to_close: Successful probes that close it, >= 1. Default: ``probes``. One failed or slow probe reopens.
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

    name: str = attrs.field(validator=name())
    on: ErrorFilter = attrs.field(kw_only=True, validator=error_filter(empty=True))
    ignore: ErrorFilter = attrs.field(default=(), kw_only=True, validator=error_filter(empty=True))
    on_result: ResultFilter | None = attrs.field(
        default=None, kw_only=True, validator=result_filter()
    )
    trip: Trip = attrs.field(factory=FailureRate, kw_only=True, validator=trip_validator())
    break_duration: BreakDuration = attrs.field(
        default=_DEFAULT_BREAK, kw_only=True, converter=as_seconds, validator=duration(function=True)
    )
    probes: int = attrs.field(default=1, kw_only=True, validator=count())
    successes_to_close: int | None = attrs.field(
        default=None, kw_only=True, validator=count(none=True)
    )
    probe_lease: float = attrs.field(
        default=60.0, kw_only=True, converter=as_seconds, validator=duration()
    )
    overdue_after: float | None = attrs.field(
        default=None, kw_only=True, converter=as_seconds, validator=duration(none=True)
    )
    error_text: bool = attrs.field(default=False, kw_only=True, validator=flag())
    clock: Clock | Callable[[], float] | None = attrs.field(
        default=None, kw_only=True, converter=as_clock, validator=clock()
    )
    rng: Rng | None = attrs.field(default=None, kw_only=True, validator=rng())
    _core: _Core = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.on == () and self.on_result is None:
            raise ConfigurationError(
                "CircuitBreaker.on", got="()", allowed="at least one exception class without on_result"
            )
        object.__setattr__(self, "_core", _Core(self))
        if self.name in _LIVE:
            warnings.warn(
                f"two live circuit breakers are called {self.name!r}; share one object, or get it by name from a "
                "Registry",
                ResilienceWarning,
                stacklevel=3,
            )
        _LIVE[self.name] = self._core.circuit

    def link(self, step: Step, hub: Hub) -> Step:
        self._core.hubs.add(hub)
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
        core = self._core
        circuit, now = core.circuit, core.now()
        current = circuit.current
        failures, slow = circuit.counts(now)
        totals = attrs.evolve(circuit.totals, successes=circuit.lifetime_successes())
        return CircuitSnapshot(
            name=self.name, state=current.state, generation=current.number, since=current.since,
            retry_after=circuit.retry_after(now),
            calls=failures.calls, failures=failures.hits, slow=slow,
            failure_rate=failures.hits / failures.calls if failures.calls else None,
            slow_rate=slow / failures.calls if failures.calls else None,
            openings=totals.openings, rejected=totals.rejected, totals=totals,
            last_failure=circuit.last_failure, last_failure_text=circuit.last_text,
        )  # fmt: skip

    # ---------------------------------------------------------------- by hand

    def admit(self) -> Permit:
        """
        Leave to make one call by hand; the permit must be settled, once, by the task that took it.

        Raises:
            CircuitOpenError, CircuitIsolatedError: the call must not be made.
        """
        return Permit(self._core, self._core.admit())

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

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise TypeError("a CircuitBreaker holds the state of this process and cannot be pickled or copied")

    __copy__ = __deepcopy__ = lambda self, _=None: self.__reduce_ex__(2)  # noqa: E731


@final
class _Core:
    """What a breaker's steps and permits hold on to; not the breaker, so that nothing here is a cycle."""

    __slots__ = ("_listened", "circuit", "clock", "error_text", "hubs", "judge", "name", "timed")

    def __init__(self, options: CircuitBreaker) -> None:
        self.name = options.name
        self.error_text = options.error_text
        self.clock: Any = options.clock or PROCESS_CLOCK
        self.judge = Judge(options.on, options.ignore, options.on_result)
        self.timed = options.trip.timed
        self.hubs: WeakSet[Hub] = WeakSet()
        rules = Rules(
            trip=options.trip,
            break_after=_break_after(options.break_duration, options.rng or RNG),
            probes=options.probes,
            successes_to_close=options.successes_to_close or options.probes,
            probe_lease=options.probe_lease,
            overdue_after=options.overdue_after,
        )
        hubs, label = self.hubs, self.name
        self.circuit = CIRCUIT(
            rules,
            self.now(),
            lambda transition: _announce(label, hubs, transition),
            lambda counts, slow, at: _crossed(label, hubs, counts, slow, at),
        )

    def now(self) -> float:
        return self.clock.now()  # type: ignore[no-any-return]

    def force(self, state: CircuitState) -> None:
        self.circuit.force(state, self.now())

    def admit(self) -> Ticket:
        answer = self.circuit.admit(self.now(), _current_task())
        if type(answer) is Ticket:
            return answer
        raise self.rejection(answer)  # type: ignore[arg-type]

    def rejection(self, refusal: Refusal) -> CircuitOpenError:
        last = self.circuit.last_failure
        if refusal.state is CircuitState.ISOLATED:
            return CircuitIsolatedError(self.name, last_failure=last)
        return CircuitOpenError(
            self.name, state=refusal.state.name, last_failure=last, retry_after=refusal.retry_after
        )

    def settle(self, ticket: Ticket, verdict: Verdict, error: BaseException | None = None) -> None:
        if verdict is Verdict.FAILURE and error is not None:
            text = error_text_of(error, self.error_text)
            self.circuit.settle(ticket, verdict, self.now(), type(error).__name__, text)
        else:
            self.circuit.settle(ticket, verdict, self.now())

    def settle_by_error(self, ticket: Ticket, error: BaseException) -> None:
        verdict = self.judge.error(error) if isinstance(error, Exception) else Verdict.IGNORED
        self.settle(ticket, verdict, error)


@final
class Permit:
    """
    Leave to make one call by hand.

    It settles exactly once: ``success()``, ``failure(error)`` or ``ignore()``; a second time does nothing. As a context
    manager it is settled by the outcome of the block, as a pipeline would. A permit that is collected unsettled counts
    as ignored and warns.
    """

    __slots__ = ("_core", "_ticket")

    def __init__(self, core: _Core, ticket: Ticket) -> None:
        self._core = core
        self._ticket = ticket

    def __repr__(self) -> str:
        return f"<Permit of {self._core.name!r}{' (settled)' if self._ticket.settled else ''}>"

    def success(self) -> None:
        """The dependency answered."""
        self._settle(Verdict.SUCCESS)

    def failure(self, error: BaseException | None = None) -> None:
        """The dependency failed; of *error* the type name is kept."""
        self._settle(Verdict.FAILURE, error)

    def ignore(self) -> None:
        """Nothing can be said; what was taken is given back."""
        self._settle(Verdict.IGNORED)

    def cut_off(self) -> None:
        """Our own deadline cut the call off: a failure, unless ``ignore`` names `TimeoutExceededError` itself."""
        error = TimeoutExceededError()
        self._settle(self._core.judge.error(error), error)

    def ended(self, error: BaseException | None) -> None:
        """The stream that held this permit ended, with *error* or well."""
        if error is None:
            self.success()
        elif not self._ticket.settled:
            self._core.settle_by_error(self._ticket, error)
            self._ticket.settled = True

    def _settle(self, verdict: Verdict, error: BaseException | None = None) -> None:
        self._core.settle(self._ticket, verdict, error)
        self._ticket.settled = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended(error)

    def __del__(self) -> None:
        if not self._ticket.settled:
            self.ignore()
            warnings.warn(
                f"a permit of circuit breaker {self._core.name!r} was never settled; it counts as ignored",
                ResourceWarning,
                stacklevel=2,
            )


@final
class Isolation:
    """A hold on an isolated breaker; released by ``release()`` or at the end of its ``with`` block."""

    __slots__ = ("_core", "_handle")

    def __init__(self, core: _Core, handle: object) -> None:
        self._core = core
        self._handle = handle

    def release(self) -> None:
        """Let go; the last hold that does ends the isolation. A second time does nothing."""
        self._core.circuit.release(self._handle, self._core.now())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _linked(core: _Core, step: Step, hub: Hub) -> Step:
    circuit, judge, clock, timed = core.circuit, core.judge, core.clock, core.timed
    judges_results = judge.on_result is not None

    async def guarded(call: Call) -> Any:
        generation = circuit.current
        if type(generation) is not Closed or not generation.plain or call.held is not None:
            return await ticketed(call)
        entered = call.entered
        try:
            result = await step(call)
        except Exception as error:
            core.settle_by_error(Ticket(generation, clock.now()), error)
            raise
        except BaseException:
            call.park(Permit(core, Ticket(generation, clock.now())), entered)
            raise
        if judges_results and judge.result(result) is Verdict.FAILURE:
            circuit.settle(Ticket(generation, now := clock.now()), Verdict.FAILURE, now, "result")
            return result
        if timed and (now := clock.now()) >= generation.edge:
            generation.roll(now)
        generation.successes += 1
        return result

    async def ticketed(call: Call) -> Any:
        entered = call.entered
        answer = circuit.admit(clock.now(), _current_task())
        if type(answer) is Refusal:
            if hub.wants(CallRejected):
                tell(answer)
            raise core.rejection(answer)
        ticket: Ticket = answer  # type: ignore[assignment]
        try:
            result = await step(call)
        except Exception as error:
            core.settle_by_error(ticket, error)
            raise
        except BaseException:
            call.park(Permit(core, ticket), entered)
            raise
        if judges_results and judge.result(result) is Verdict.FAILURE:
            circuit.settle(ticket, Verdict.FAILURE, clock.now(), "result")
        elif call.held is not None:
            call.held.append(Permit(core, ticket))
        else:
            circuit.settle(ticket, Verdict.SUCCESS, clock.now())
        return result

    def tell(refusal: Refusal) -> None:
        reason = "circuit_isolated" if refusal.state is CircuitState.ISOLATED else "circuit_open"
        hub.emit(
            CallRejected(
                policy=core.name, pipeline=hub.pipeline, at=clock.now(), reason=reason,
                retry_after=refusal.retry_after,
            )  # fmt: skip
        )

    return guarded


def _current_task() -> object:
    """The task that asks, on asyncio or trio; None outside of tasks, where nothing can ride on a permit."""
    loop = running_loop()
    if loop is not None and (task := asyncio.current_task(loop)) is not None:
        return task
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_task()
    return None


def _break_after(given: Any, source: Rng) -> Callable[[int], float]:
    """Seconds of the n-th consecutive opening; what a user's function returns is mended, never raised."""
    if isinstance(given, float):
        return lambda _: given
    if isinstance(given, FullJitter):
        return lambda opening: given.draw(opening, given.rng or source)
    tenacity = sys.modules.get("tenacity")
    strategy = tenacity is not None and isinstance(given, tenacity.wait.wait_base)
    warned: list[None] = []

    def drawn(opening: int) -> float:
        try:
            seconds = as_seconds(given(AttemptState(attempt_number=opening) if strategy else opening))
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("CircuitBreaker.break_duration", given, error)
            return _DEFAULT_BREAK
        if isinstance(seconds, float) and 0 <= seconds < math.inf:
            return seconds
        if not warned:
            warned.append(None)
            try:
                warnings.warn(
                    f"break_duration returned {seconds!r}, no finite number of seconds >= 0; "
                    f"{_DEFAULT_BREAK:g} s are taken",
                    ResilienceWarning,
                    stacklevel=2,
                )
            except ResilienceWarning:
                pass  # a filter that makes errors of warnings must not break the transition
        return _DEFAULT_BREAK

    return drawn


def _publish(hubs: WeakSet[Hub], event: Event) -> None:
    """To every listener of every pipeline around, once each."""
    heard: dict[int, Any] = {}
    for hub in tuple(hubs):
        for listener in hub.listeners(type(event)):
            heard[id(listener)] = listener
    publish(event, heard.values())


def _announce(label: str, hubs: WeakSet[Hub], transition: Transition) -> None:
    _publish(
        hubs,
        CircuitStateChanged(
            policy=label, at=transition.at, old=transition.old.name, new=transition.new.name,
            generation=transition.generation, reason=transition.reason,
            retry_after=transition.break_duration,
            calls=transition.failures.calls, failures=transition.failures.hits, slow=transition.slow,
            last_failure=transition.last_failure, error_text=transition.last_text,
        ),  # fmt: skip
    )


def _crossed(label: str, hubs: WeakSet[Hub], counts: Counts, slow: int, at: float) -> None:
    _publish(
        hubs,
        CircuitTripped(policy=label, at=at, calls=counts.calls, failures=counts.hits, slow=slow),
    )
