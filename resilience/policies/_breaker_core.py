"""
What a breaker's steps and permits hold on to: its circuit, with a clock, verdicts, the asking task and listeners.

Not the breaker itself, so that nothing here is a cycle and a breaker that is dropped is gone.
"""

from __future__ import annotations

import contextlib
import math
import warnings
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, final

from resilience.clock import PROCESS_CLOCK, RNG, Rng
from resilience.core.backoff import FullJitter
from resilience.core.circuit import CIRCUIT, Circuit
from resilience.core.generations import (
    CircuitState,
    Closed,
    Generation,
    Isolated,
    Open,
    Rules,
    Ticket,
    Transition,
)  # fmt: skip
from resilience.core.windows import Counts
from resilience.errors import CircuitIsolatedError, CircuitOpenError, ResilienceWarning, made_of
from resilience.events import (
    EVERYWHERE,
    CallRejected,
    CircuitStateChanged,
    CircuitTripped,
    Event,
    Hub,
    by_hand,
    error_text_of,
    hook_failed,
    publish,
)
from resilience.here import running_loop, task_of
from resilience.loaded import loaded
from resilience.strategies import AttemptState
from resilience.validation import in_seconds
from resilience.verdicts import Judge, Verdict, is_types

__all__ = ["DEFAULT_BREAK", "Core", "current_task"]

DEFAULT_BREAK = 30.0
_SHARED = (
    256  # sets of options remembered at most; those that are no longer among them are made anew
)


@final
class _Audience:
    """Who hears what a circuit has to tell: the pipelines around the breaker. Not the core, which holds the circuit."""

    __slots__ = ("_hubs", "_label")

    def __init__(self, label: str) -> None:
        self._label = label
        self._hubs: list[weakref.ref[Hub]] = []

    def add(self, hub: Hub) -> None:
        """Tell the listeners of *hub* as well, as long as it is there."""
        for ref in tuple(self._hubs):
            if ref() is None:
                with contextlib.suppress(ValueError):  # another thread was faster
                    self._hubs.remove(ref)
        self._hubs.append(weakref.ref(hub))

    def hubs(self) -> list[Hub]:
        """Those that are there; a copy first, as another thread may build a pipeline meanwhile."""
        return [hub for ref in tuple(self._hubs) if (hub := ref()) is not None]

    def _publish(self, event: Event) -> None:
        """To every listener of every pipeline around and of the process, once each."""
        heard: dict[int, Any] = {id(each): each for each in EVERYWHERE.listeners(type(event))}
        for hub in self.hubs():
            for listener in hub.listeners(type(event)):
                heard[id(listener)] = listener
        publish(event, heard.values())

    def tripped(self, counts: Counts, slow: int, last_failure: str | None, at: float) -> None:
        self._publish(
            CircuitTripped(
                policy=self._label,
                at=at,
                calls=counts.calls,
                failures=counts.hits,
                slow=slow,
                last_failure=last_failure,
            )
        )

    def changed(self, transition: Transition) -> None:
        self._publish(
            CircuitStateChanged(
                policy=self._label,
                at=transition.at,
                old=transition.old.name,
                new=transition.new.name,
                generation=transition.generation,
                reason=transition.reason,
                retry_after=transition.break_duration,
                calls=transition.failures.calls,
                failures=transition.failures.hits,
                slow=transition.slow,
                last_failure=transition.last_failure,
                error_text=transition.last_text,
            )
        )


@final
class Core:
    """What a breaker's steps and permits hold on to; not the breaker, so that nothing here is a cycle."""

    __slots__ = (
        "__weakref__",
        "_label",
        "audience",
        "circuit",
        "clock",
        "error_text",
        "judge",
        "name",
        "timed",
        "watching",
    )  # fmt: skip

    def __init__(self, options: Any) -> None:
        self.name: str = options.name
        self._label: str | None = None  # as its errors write it, from the first of them on
        self.error_text: bool = options.error_text
        self.clock: Any = options.clock or PROCESS_CLOCK
        self.judge: Judge = _judge(options)
        self.timed: bool = options.trip.timed
        self.audience: _Audience = _Audience(self.name)
        rules = _rules(options)
        self.watching: bool = bool(rules.watched)
        self.circuit: Circuit = CIRCUIT(
            rules, self.now(), self.audience.changed, self.audience.tripped
        )

    def now(self) -> float:
        return self.clock.now()  # type: ignore[no-any-return]

    def change(self, options: Any) -> None:
        """Other options for the calls to come, in every pipeline around."""
        self.error_text = options.error_text
        self.judge = _judge(options)
        self.timed = options.trip.timed
        rules = _rules(options)
        self.watching = bool(rules.watched)
        for hub in self.audience.hubs():
            for owner, follow in hub.followers:
                if owner is self:
                    follow()
        # Last: until here a call in the new ways still counts in the generation of the old ones.
        self.circuit.change(rules, self.now())

    def force(self, state: CircuitState) -> None:
        self.circuit.force(state, self.now())

    def admit(self) -> Ticket:
        answer = self.circuit.admit(self.now(), current_task())
        if isinstance(answer, Ticket):
            return answer
        raise self.rejection(answer.state, answer.retry_after, by_hand())

    def turn_away(self, hub: Hub, generation: Generation) -> CircuitOpenError | None:
        """`Circuit.admit` where the state alone decides: the rejection, told to *hub*; None: it has to be asked."""
        circuit = self.circuit
        if circuit.locked:
            return None
        if isinstance(generation, Open):
            if (now := self.clock.now()) >= generation.until:
                return None
            retry_after = generation.remaining(now)
        elif isinstance(generation, Isolated):
            retry_after = None
        else:
            return None
        circuit.totals.rejected += 1
        return self.rejection(generation.state, retry_after, hub)

    def turned_away(self, hub: Hub) -> CircuitOpenError | None:
        """The rejection of a call that would begin now, for who need not raise it."""
        generation = self.circuit.current
        return None if type(generation) is Closed else self.turn_away(hub, generation)

    def foresee(self) -> CircuitOpenError | None:
        """The rejection that a call would meet now; None where it may pass, or only asking would tell."""
        current = self.circuit.current
        if isinstance(current, Open):
            return self.rejection(current.state, current.remaining(self.now()))
        if current.state is CircuitState.ISOLATED:
            return self.rejection(current.state, None)
        return None

    def rejection(
        self, state: CircuitState, retry_after: float | None, hub: Hub | None = None
    ) -> CircuitOpenError:
        """What a call meets; if it is more than foreseen, *hub* hears of it."""
        if (label := self._label) is None:
            self._label = label = f"CircuitBreaker({self.name!r})"
        error = made_of(
            CircuitIsolatedError if state is CircuitState.ISOLATED else CircuitOpenError,
            {
                "policy": label,
                "retry_after": retry_after,
                "breaker": self.name,
                "state": state._name_,  # `name` is a property, three times as dear
                "last_failure": self.circuit.last_failure,
            },
        )
        if hub is not None and hub.wants(CallRejected):
            hub.emit(
                CallRejected(
                    policy=self.name,
                    pipeline=hub.pipeline,
                    at=self.now(),
                    reason=error.reason,
                    retry_after=retry_after,
                )
            )
        return error

    def settle(self, ticket: Ticket, verdict: Verdict, error: BaseException | None = None) -> None:
        if verdict is Verdict.FAILURE and error is not None:
            text = error_text_of(error, self.error_text)
            self.circuit.settle(ticket, verdict, self.now(), type(error).__name__, text)
        else:
            self.circuit.settle(ticket, verdict, self.now())

    def settle_plain(self, generation: Closed, error: Exception) -> None:
        """`settle_by_error` for a call that ran with the generation itself as its permit."""
        verdict = Verdict.IGNORED
        try:
            verdict = self.judge.error(error)
        finally:  # also when the user's predicate is interrupted
            wanted = self.error_text and verdict is Verdict.FAILURE
            text = error_text_of(error, wanted) if wanted else None
            self.circuit.settle_plain(
                generation, verdict, self.clock.now(), type(error).__name__, text
            )

    def settle_by_error(self, ticket: Ticket, error: BaseException) -> None:
        verdict = Verdict.IGNORED
        try:
            if isinstance(error, Exception):
                verdict = self.judge.error(error)
        finally:  # also when the user's predicate is interrupted: the place is given back
            self.settle(ticket, verdict, error)


def _rules(options: Any) -> Rules:
    """Of equal numbers one object for all breakers that have them: there may be one breaker for each host."""
    numbers = (
        ("trip", options.trip),
        ("probes", options.probes),
        ("successes_to_close", options.successes_to_close or options.probes),
        ("probe_lease", options.probe_lease),
        ("overdue_after", options.overdue_after),
        ("judges_results", options.on_result is not None),
    )
    if isinstance(options.break_duration, float):
        with contextlib.suppress(TypeError):  # a trip of the user's own need not have a hash
            return _shared_rules(options.break_duration, numbers)
    return Rules(
        break_after=_break_after(options.break_duration, options.rng or RNG), **dict(numbers)
    )


@lru_cache(maxsize=_SHARED)
def _shared_rules(seconds: float, numbers: tuple[tuple[str, Any], ...]) -> Rules:
    return Rules(break_after=_break_after(seconds, RNG), **dict(numbers))


def _judge(options: Any) -> Judge:
    """One for all breakers that judge by the same classes."""
    given = options.on, options.ignore, options.on_result
    if options.on_result is None and is_types(options.on) and is_types(options.ignore):
        return _shared_judge(*given)
    return Judge(*given)


_shared_judge = lru_cache(maxsize=_SHARED)(Judge)


def current_task() -> object:
    """The task that asks, on asyncio or trio; None outside of tasks, where nothing can ride on a permit."""
    loop = running_loop()
    if loop is not None and (task := task_of(loop)) is not None:
        return task
    trio = loaded("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_task()
    return None


def _break_after(given: Any, source: Rng) -> Callable[[int], float]:
    """Seconds of the n-th consecutive opening; what a user's function returns is mended, never raised."""
    if isinstance(given, float):
        return lambda _: given
    if isinstance(given, FullJitter):
        return lambda opening: given.draw(opening, given.rng or source)
    tenacity = loaded("tenacity")
    strategy = tenacity is not None and isinstance(given, tenacity.wait.wait_base)
    warned: list[None] = []

    def drawn(opening: int) -> float:
        try:
            seconds = in_seconds(
                given(AttemptState(attempt_number=opening) if strategy else opening)
            )
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("CircuitBreaker.break_duration", given, error)
            return DEFAULT_BREAK
        if isinstance(seconds, float) and 0 <= seconds < math.inf:
            return seconds
        if not warned:
            warned.append(None)
            # A filter that makes errors of warnings must not break the transition.
            with contextlib.suppress(ResilienceWarning):
                warnings.warn(
                    f"break_duration returned {seconds!r}, no finite number of seconds >= 0; "
                    f"{DEFAULT_BREAK:g} s are taken",
                    ResilienceWarning,
                    stacklevel=2,
                )
        return DEFAULT_BREAK

    return drawn
