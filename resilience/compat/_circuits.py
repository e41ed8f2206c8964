"""
The old breaker's ways in (``call``, ask-do-record, decorator, ``with``) over one circuit.

Asking, doing and recording were three acts that knew nothing of one another, so an open circuit never closed. Here
asking takes leave and recording settles it: `can_execute` remembers, for the task that asks (outside of tasks: the
thread), which generation it asked in, and in half-open holds a probe's place for it.
"""

from __future__ import annotations

import enum
import functools
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
import attrs

from resilience.clock import PROCESS_CLOCK, Clock
from resilience.compat._deprecations import deprecated
from resilience.compat._errors import CircuitBreakerOpenError
from resilience.compat._figures import CircuitMetrics, Figures
from resilience.compat._health import HealthChecker, HealthGate
from resilience.compat._settings import CircuitConfig, Settings, UnifiedCircuitConfig
from resilience.core.generations import CircuitState as State
from resilience.core.generations import Closed, HalfOpen, Open, Refusal, Ticket
from resilience.doors import Guard
from resilience.errors import CircuitOpenError, TimeoutExceededError
from resilience.pipeline import Pipeline
from resilience.policies._breaker_core import current_task
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.timeout import Timeout
from resilience.strategies import is_asynchronous
from resilience.validation import refuse
from resilience.verdicts import Verdict

__all__ = ["UnifiedCircuitBreaker", "UnifiedCircuitBreakerState"]


class UnifiedCircuitBreakerState(enum.StrEnum):
    """The three old states. Isolated is ``open``, disabled and observing are ``closed``: calls pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_OLD_STATES = {
    State.OPEN: UnifiedCircuitBreakerState.OPEN,
    State.ISOLATED: UnifiedCircuitBreakerState.OPEN,
    State.HALF_OPEN: UnifiedCircuitBreakerState.HALF_OPEN,
}


class _Fallback(Protocol):
    async def execute(self, operation: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any: ...


class UnifiedCircuitBreaker:
    """
    The old breaker: `resilience.CircuitBreaker` with a `Timeout` inside, under the old names.

    One object serves any number of tasks, loops and threads. By whatever way a call comes in, it is counted once.

    Args:
        config: A `UnifiedCircuitConfig`, any object with some of its fields, a name, or None for the defaults.
        health_checker: An object with ``await check_health()``. While the circuit recovers, `call` asks it before a
            probe, at most once per ``health_check_interval``: where it says no, or raises, the circuit stays open. No
            task is started.
        name, failure_threshold, recovery_timeout: Settings by themselves, where there is no configuration.
        fallback_chain: An object with ``await execute(operation, ...)``, asked when a call fails or is rejected.
        clock: Monotonic clock. Default: the process-wide one.

    Raises:
        ConfigurationError: a setting that cannot be.

    Warns:
        DeprecationWarning: with what one writes instead.
    """

    _renamed = "UnifiedCircuitBreaker"

    def __init__(
        self,
        config: Settings | str | Any | None = None,
        health_checker: HealthChecker | None = None,
        *,
        name: str | None = None,
        failure_threshold: int | None = None,
        recovery_timeout: float | None = None,
        fallback_chain: _Fallback | None = None,
        clock: Clock | Callable[[], float] | None = None,
    ) -> None:
        named: dict[str, Any] = {
            "name": config if isinstance(config, str) else name,
            "failure_threshold": failure_threshold,
            "recovery_timeout": recovery_timeout,
        }
        given = {key: value for key, value in named.items() if value is not None}
        settings: UnifiedCircuitConfig
        if config is None or isinstance(config, str):
            settings = UnifiedCircuitConfig(**given)
        elif isinstance(config, CircuitConfig) and not given:
            settings = config.unified()
        else:
            settings = UnifiedCircuitConfig.of(config, **given)
        self._begin(settings, health_checker, fallback_chain, clock)
        self._deprecate()

    def _begin(
        self,
        settings: UnifiedCircuitConfig,
        health_checker: HealthChecker | None,
        fallback_chain: _Fallback | None,
        clock: Clock | Callable[[], float] | None,
    ) -> None:
        self._settings = settings
        self.health_checker = health_checker
        self.fallback_chain = fallback_chain
        self._policy = settings.breaker(clock)
        self._core = self._policy._core  # noqa: SLF001 - the old way in by hand has no permits
        self._guard = self._built()
        # What a record falls on that belongs to no generation: it counts in the totals alone.
        born = self._core.circuit.current
        self._born = born if isinstance(born, Closed) else None
        self._asked: WeakKeyDictionary[Any, Ticket] = WeakKeyDictionary()
        self._inside: WeakKeyDictionary[Any, list[Ticket]] = WeakKeyDictionary()
        self._figures = Figures.since_now(self._core.circuit)
        self._health = (
            None
            if health_checker is None
            else HealthGate(health_checker, settings.health_check_interval)
        )

    def _built(self) -> Guard:
        seconds = self._settings.timeout_seconds
        return self._policy if seconds is None else Pipeline(self._policy, Timeout(seconds))

    def _deprecate(self) -> None:
        deprecated(f"{self._renamed} is deprecated; write resilience.{self._guard!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    # ------------------------------------------------------------------ reading

    @property
    def policy(self) -> CircuitBreaker:
        """The circuit breaker it is: what to put into a pipeline."""
        return self._policy

    @property
    def guard(self) -> Guard:
        """The breaker with its timeout, if it has one: what to write instead."""
        return self._guard

    @property
    def config(self) -> Any:
        """The settings."""
        return self._settings

    @property
    def name(self) -> str:
        """For errors, events and logs."""
        return self._settings.name

    @property
    def state(self) -> UnifiedCircuitBreakerState:
        """The state; reading it changes nothing."""
        return _OLD_STATES.get(self._policy.state, UnifiedCircuitBreakerState.CLOSED)

    @state.setter
    def state(self, _: object) -> NoReturn:
        self._refuse_setting("state", "await force_open(), await reset() or policy.isolate()")

    @property
    def is_open(self) -> bool:
        """Whether calls are refused."""
        return self.state is UnifiedCircuitBreakerState.OPEN

    @property
    def is_closed(self) -> bool:
        """Whether calls pass."""
        return self.state is UnifiedCircuitBreakerState.CLOSED

    @property
    def is_half_open(self) -> bool:
        """Whether only probes pass."""
        return self.state is UnifiedCircuitBreakerState.HALF_OPEN

    @property
    def failure_threshold(self) -> int:
        """Failures in a row that open it. May be set; the circuit keeps its state and counts anew."""
        return self._settings.failure_threshold

    @failure_threshold.setter
    def failure_threshold(self, value: int) -> None:
        self._settings = attrs.evolve(self._settings, failure_threshold=value)
        core = self._core
        core.circuit.rules = attrs.evolve(core.circuit.rules, trip=self._settings.trip())
        if isinstance(core.circuit.current, Closed):
            core.force(core.circuit.current.state)

    @property
    def timeout(self) -> float | None:
        """Seconds a call has. May be set; calls that run keep theirs."""
        return self._settings.timeout_seconds

    @timeout.setter
    def timeout(self, value: float | None) -> None:
        self._settings = attrs.evolve(self._settings, timeout_seconds=value)
        self._guard = self._built()

    @property
    def failure_count(self) -> int:
        """Failures since the last success."""
        return self._figures.failures_in_a_row

    @property
    def success_count(self) -> int:
        """Successes since it was made or reset."""
        return self.metrics.successful_calls

    @property
    def total_calls(self) -> int:
        """Calls that succeeded or failed since it was made or reset."""
        return self.metrics.total_calls

    @property
    def last_failure_time(self) -> float | None:
        """Seconds since the epoch."""
        return self._figures.last_failure_time

    @last_failure_time.setter
    def last_failure_time(self, _: object) -> NoReturn:
        self._refuse_setting("last_failure_time", "clock=, or virtual time of resilience.testing")

    @property
    def last_success_time(self) -> float | None:
        """Seconds since the epoch."""
        return self._figures.last_success_time

    @property
    def last_state_change(self) -> float:
        """Seconds since the epoch."""
        return self._wall(self._core.circuit.current.since)

    @property
    def opened_at(self) -> float | None:
        """Seconds since the epoch; None unless open."""
        current = self._core.circuit.current
        return self._wall(current.since) if isinstance(current, Open) else None

    @opened_at.setter
    def opened_at(self, _: object) -> NoReturn:
        self._refuse_setting("opened_at", "clock=, or virtual time of resilience.testing")

    def _refuse_setting(self, attribute: str, instead: str) -> NoReturn:
        raise AttributeError(
            f"{type(self).__name__}.{attribute} cannot be set from outside; use {instead}"
        )

    def _wall(self, at: float) -> float:
        return PROCESS_CLOCK.wall() - (self._core.now() - at)

    @property
    def metrics(self) -> CircuitMetrics:
        """Its figures now."""
        return self._figures.metrics(self._core.circuit, self.failure_threshold)

    def get_state(self) -> UnifiedCircuitBreakerState:
        """The state."""
        return self.state

    def get_status(self) -> dict[str, Any]:
        """Everything under its old keys, with ``retry_after`` in seconds while open. Reading it changes nothing."""
        metrics, state, opened = self.metrics, self.state.value, self.opened_at
        return {
            "state": state,
            "status": state,
            "name": self.name,
            "is_healthy": self.is_closed,
            "can_execute": self._would_allow(),
            "retry_after": self._policy.retry_after,
            "metrics": {
                "failure_count": metrics.consecutive_failures,
                "success_count": metrics.successful_calls,
                "total_calls": metrics.total_calls,
                "failed_calls": metrics.failed_calls,
                "rejected_calls": metrics.rejected_calls,
                "failure_threshold": self.failure_threshold,
                "success_rate": 1 - metrics.current_error_rate if metrics.total_calls else 0.0,
                "error_rate": metrics.current_error_rate,
                "last_failure_time": metrics.last_failure_time,
                "last_success_time": metrics.last_success_time,
                "opened_at": opened,
                "time_since_opened": None if opened is None else PROCESS_CLOCK.wall() - opened,
                "recovery_timeout": self._settings.recovery_timeout,
            },
            "domain": "unified",
        }

    def _would_allow(self) -> bool:
        current = self._core.circuit.current
        if isinstance(current, HalfOpen):
            return bool(current.seats)
        return self._policy.retry_after == 0.0 or not self.is_open

    def _probes_out(self) -> int:
        current = self._core.circuit.current
        return len(current.live) if isinstance(current, HalfOpen) else 0

    # ------------------------------------------------------------------ by hand

    def can_execute(self) -> bool:
        """
        Leave to make one call now, to be followed by `record_success` or `record_failure` in the same task or thread.

        Past the end of the break it takes a probe's place, which a record gives back, or the end of the lease.
        """
        circuit, now, owner = self._core.circuit, self._core.now(), self._owner()
        self._forget_old_failures(now)
        current = circuit.current
        if isinstance(current, Closed):
            # Not entered in the register of running calls: nobody promised to come back.
            self._asked[owner] = Ticket(current, now)
            return True
        answer = circuit.admit(now, owner)
        if isinstance(answer, Refusal):
            return False
        if answer.generation is not None:  # else it rides on the leave that its task has already
            self._asked[owner] = answer
        return True

    def record_success(self) -> None:
        """The call that `can_execute` allowed went well; without having asked, one that is counted all the same."""
        self._record(Verdict.SUCCESS, None)

    def record_failure(
        self, error_type: str | BaseException | type[BaseException] = "Exception"
    ) -> None:
        """
        The call that `can_execute` allowed failed.

        Args:
            error_type: The error, its class or its name. An error that ``expected_exception`` does not name is a
                success: the dependency answered.
        """
        verdict = Verdict.FAILURE
        if isinstance(error_type, Exception):
            verdict = self._core.judge.error(error_type)
        self._record(verdict, error_type)

    @staticmethod
    def _owner() -> object:
        return current_task() or threading.current_thread()

    def _record(self, verdict: Verdict, error: object) -> None:
        circuit, now = self._core.circuit, self._core.now()
        ticket = self._asked.pop(self._owner(), None)
        if ticket is None or ticket.settled:
            self._forget_old_failures(now)
            ticket = self._asked_by_another(circuit.current) or Ticket(
                # In any other state it falls on a generation of the past: the totals count it, nobody votes.
                circuit.current if isinstance(circuit.current, Closed) else self._born,
                now,
            )
        self._settle(ticket, verdict, _name_of(error))

    def _asked_by_another(self, current: object) -> Ticket | None:
        """The oldest probe that was asked for: some ask in one task and record in another."""
        for ticket in tuple(self._asked.values()):
            if (
                isinstance(current, HalfOpen)
                and ticket.generation is current
                and not ticket.settled
            ):
                return ticket
        return None

    def _settle(self, ticket: Ticket, verdict: Verdict, error: str | None) -> None:
        now = self._core.now()
        self._core.circuit.settle(ticket, verdict, now, error)
        self._learn(verdict, now - ticket.started, error)

    def _learn(
        self, verdict: Verdict, seconds: float, error: str | None, *, timeout: bool = False
    ) -> None:
        slow = seconds > self._settings.slow_call_threshold
        now = self._core.now()
        self._figures.learn(verdict, seconds, now, error=error, slow=slow, timeout=timeout)

    def _forget_old_failures(self, now: float) -> None:
        """``reset_timeout``: a failure that is older does not count any more."""
        limit, last = self._settings.reset_timeout, self._figures.failed_at
        if limit is None or last is None or now - last < limit:
            return
        self._figures.failed_at = None
        self._figures.failures_in_a_row = 0
        if self._core.circuit.current.state is State.CLOSED:
            self._core.force(State.CLOSED)

    # -------------------------------------------------------------------- calls

    async def call(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """
        Run ``operation(*args, **kwargs)`` in time, or not at all.

        Whatever returns an awaitable is awaited: a coroutine function, a lambda, a callable object. A function that is
        not async runs in a worker thread, so that it does not hold up the loop; cut off, it runs on there unheeded.

        Raises:
            CircuitBreakerOpenError: the circuit is open; the operation was not called.
            TimeoutExceededError: it was cut off after ``timeout_seconds``; also a builtin `TimeoutError`.
        """
        try:
            return await self._call(operation, args, kwargs)
        except Exception:
            if self.fallback_chain is None:
                raise
            return await self.fallback_chain.execute(operation, *args, **kwargs)

    async def _call(
        self, operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        core = self._core
        gate = (
            self._health if self._policy.retry_after == 0.0 else None
        )  # past the end of its break
        if gate is not None and not await gate.lets_pass(core.now()):
            raise self._open_error()
        began = core.now()
        self._forget_old_failures(began)
        run = operation if _makes_awaitables(operation) else functools.partial(_plainly, operation)
        try:
            result = await self._guard(run, *args, **kwargs)
        except CircuitOpenError as error:
            # That of another breaker inside is the operation's own, and no verdict on this one.
            if error.breaker != self.name or isinstance(error, CircuitBreakerOpenError):
                raise
            raise CircuitBreakerOpenError.of(error) from None
        except Exception as error:
            self.observe(error, core.now() - began)
            raise
        self.observe(None, core.now() - began)
        return result

    def observe(self, error: BaseException | None, seconds: float) -> None:
        """A call that went through ``policy`` ended after *seconds*: for its figures; the circuit has counted it."""
        if error is None:
            verdict = Verdict.SUCCESS
        elif isinstance(error, Exception):
            verdict = self._core.judge.error(error)
        else:
            verdict = Verdict.IGNORED
        timeout = isinstance(error, TimeoutExceededError)
        name = None if error is None else type(error).__name__
        self._learn(verdict, seconds, name, timeout=timeout)

    def _open_error(self) -> CircuitBreakerOpenError:
        circuit = self._core.circuit
        circuit.totals.rejected += 1
        return CircuitBreakerOpenError(
            self.name, last_failure=circuit.last_failure, retry_after=self._policy.retry_after
        )

    def run(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The same for a function that is not async, in place: only the time cannot be kept."""
        with self:
            return operation(*args, **kwargs)

    def _enter(self) -> Ticket:
        self._forget_old_failures(self._core.now())
        try:
            return self._core.admit()
        except CircuitOpenError as error:
            raise CircuitBreakerOpenError.of(error) from None

    def __enter__(self) -> Self:
        """Guard a block by hand, in the task or thread that enters it; blocks may be nested."""
        ticket = self._enter()
        self._inside.setdefault(self._owner(), []).append(ticket)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        owner = self._owner()
        tickets = self._inside[owner]
        ticket = tickets.pop()
        if not tickets:
            self._inside.pop(owner, None)
        if error is None:
            verdict = Verdict.SUCCESS
        elif isinstance(error, Exception):
            verdict = self._core.judge.error(error)
        else:
            verdict = Verdict.IGNORED
        self._settle(ticket, verdict, None if error is None else type(error).__name__)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    # ------------------------------------------------------------------ control

    async def force_open(self) -> None:
        """Open it now; it recovers as from any opening."""
        self._core.force(State.OPEN)

    async def reset(self) -> None:
        """Closed, its figures at zero."""
        self.reset_sync()

    def reset_sync(self) -> None:
        """The same without a loop."""
        self._policy.reset()
        self._asked.clear()
        self._figures = Figures.since_now(self._core.circuit)

    def cleanup(self) -> None:
        """Nothing is left behind: no task was started."""


def _name_of(error: object) -> str | None:
    if error is None or isinstance(error, str):
        return error
    kind = error if isinstance(error, type) else type(error)
    if not issubclass(kind, BaseException):
        raise refuse("record_failure.error_type", error, "an error, its class or its name")
    return kind.__name__


def _makes_awaitables(operation: Any) -> bool:
    while isinstance(operation, functools.partial):
        operation = operation.func
    return isinstance(operation, Guard) or is_asynchronous(operation)


async def _plainly(operation: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """What is not async, or not to be seen to be: a lambda in place, as it makes an awaitable; the rest in a thread."""
    if getattr(operation, "__name__", None) == "<lambda>":
        answer = operation(*args, **kwargs)
    else:
        call = functools.partial(operation, *args, **kwargs)
        answer = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    return await answer if hasattr(answer, "__await__") else answer
