"""
Alerts: rules that look at each event and at what has happened of late, and a handler that is told when one holds.

For processes without a metrics server, and for what has to be known at once. A rule that keeps holding is told of once
per cool-down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeAlias, final, runtime_checkable

import attrs

from resilience.clock import PROCESS_CLOCK, Clock
from resilience.events import CallFinished, CircuitStateChanged, Event, hook_failed
from resilience.telemetry._words import Labels
from resilience.validation import (
    as_clock,
    check,
    clock,
    count,
    duration,
    in_seconds,
    is_function,
    one_of,
    ratio,
)

__all__ = ["Alert", "Alerts", "CircuitOpened", "LowSuccess", "ManyRejections", "Rule", "Tally"]

Severity: TypeAlias = Literal["low", "medium", "high"]

_BUCKETS = 10
_SUBJECTS = 1000


@final
@attrs.frozen(kw_only=True)
class Alert:
    """
    A rule holds.

    Attributes:
        rule: The rule's name.
        severity: ``low``, ``medium`` or ``high``.
        subject: The breaker or the pipeline it is about.
        text: One sentence for whoever is woken by it.
        at: Monotonic seconds.
        event: The event at which it came to hold.
    """

    rule: str
    severity: str
    subject: str
    text: str
    at: float
    event: Event


class _Bucket:
    __slots__ = ("answered", "number", "rejected", "succeeded")

    def __init__(self, number: int) -> None:
        self.number = number
        self.answered = self.succeeded = self.rejected = 0


@final
class Tally:
    """What a pipeline's calls came to within the window: answered, succeeded, rejected. Cancelled ones are nothing."""

    __slots__ = ("_buckets", "_width")

    def __init__(self, window: float) -> None:
        self._width = window / _BUCKETS
        self._buckets: dict[int, _Bucket] = {}

    def add(self, outcome: str, now: float) -> None:
        """One call came to an end."""
        number = int(now // self._width)
        bucket = self._buckets.get(number % _BUCKETS)
        if bucket is None or bucket.number != number:
            bucket = self._buckets[number % _BUCKETS] = _Bucket(number)
        if outcome == "rejected":
            bucket.rejected += 1
        elif outcome != "cancelled":
            bucket.answered += 1
            bucket.succeeded += outcome == "success"

    def _sum(self, field: str, now: float) -> int:
        oldest = int(now // self._width) - _BUCKETS
        live = [each for each in tuple(self._buckets.values()) if each.number > oldest]
        return sum(getattr(each, field) for each in live)

    def answered(self, now: float) -> int:
        """Calls that succeeded or failed."""
        return self._sum("answered", now)

    def succeeded(self, now: float) -> int:
        """Calls that succeeded."""
        return self._sum("succeeded", now)

    def rejected(self, now: float) -> int:
        """Calls that were turned away."""
        return self._sum("rejected", now)


@runtime_checkable
class Rule(Protocol):
    """
    A rule of one's own: a function of the event, the tally of its pipeline and the instant; a text if it holds.

    ``name`` and ``severity`` are read from it if it has them. It must not block; one that raises does not hold.
    """

    def __call__(self, event: Any, tally: Tally, now: float, /) -> str | None: ...


_SEVERITY = one_of(
    "'low', 'medium' or 'high'",
    lambda value: value in ("low", "medium", "high"),
    {"other": "urgent", "none": None, "number": 1},
)


@final
@attrs.frozen(kw_only=True)
class CircuitOpened:
    """A circuit opened, or was isolated."""

    severity: Severity = attrs.field(default="high", validator=_SEVERITY)
    name: str = attrs.field(default="circuit_opened", init=False)

    def __call__(self, event: Event, tally: Tally, now: float, /) -> str | None:  # noqa: ARG002 - as all rules
        if not isinstance(event, CircuitStateChanged) or event.new not in {"OPEN", "ISOLATED"}:
            return None
        why = f", last failure {event.last_failure}" if event.last_failure else ""
        return f"circuit {event.policy!r} is {event.new} ({event.reason}{why})"


@final
@attrs.frozen(kw_only=True)
class LowSuccess:
    """
    Fewer than *below* of the answered calls succeed, over more than *calls* of them.

    Args:
        below: Share, 0 to 1. Default 0.5.
        calls: Calls within the window, >= 1. Default 10.
    """

    below: float = attrs.field(default=0.5, validator=ratio())
    calls: int = attrs.field(default=10, validator=count())
    severity: Severity = attrs.field(default="medium", validator=_SEVERITY)
    name: str = attrs.field(default="low_success", init=False)

    def __call__(self, event: Event, tally: Tally, now: float, /) -> str | None:
        if not isinstance(event, CallFinished) or event.outcome != "failure":
            return None
        answered = tally.answered(now)
        if answered <= self.calls or tally.succeeded(now) >= self.below * answered:
            return None
        return f"{tally.succeeded(now)} of {answered} calls succeeded"


@final
@attrs.frozen(kw_only=True)
class ManyRejections:
    """
    More than *above* of all calls are turned away, and more than *rejections* of them.

    Args:
        above: Share, 0 to 1. Default 0.1.
        rejections: Calls within the window, >= 1. Default 5.
    """

    above: float = attrs.field(default=0.1, validator=ratio())
    rejections: int = attrs.field(default=5, validator=count())
    severity: Severity = attrs.field(default="high", validator=_SEVERITY)
    name: str = attrs.field(default="many_rejections", init=False)

    def __call__(self, event: Event, tally: Tally, now: float, /) -> str | None:
        if not isinstance(event, CallFinished) or event.outcome != "rejected":
            return None
        rejected = tally.rejected(now)
        calls = rejected + tally.answered(now)
        if rejected <= self.rejections or rejected <= self.above * calls:
            return None
        return f"{rejected} of {calls} calls were turned away"


_RULES = one_of(
    "a function of an event, a tally and an instant, not async",
    is_function,
    {"text": "opened", "none": None, "class": CircuitOpened},
)
_HANDLER = one_of(
    "a function of an Alert, not async", is_function, {"text": "page", "none": None, "class": Alert}
)


@final
class Alerts:
    """
    A listener that calls *handler* with an `Alert` when a rule holds: ``listen(Alerts(page_me))``.

    The handler is called in the middle of a call and must not block; from asynchronous code read an `EventQueue`, or
    hand the alert to a task.

    Args:
        handler: A function of an `Alert`; one that raises is logged once.
        rules: Default `CircuitOpened`, `LowSuccess` and `ManyRejections` with their defaults.
        cooldown: Seconds for which a rule that was told of stays quiet about the same subject, >= 0. Default 300.
        window: Seconds of calls that the rules look at, > 0. Default 60.
        clock: Monotonic clock. Default: the process-wide one.
    """

    listens_to: tuple[type[Event], ...] = (Event,)

    def __init__(
        self,
        handler: Callable[[Alert], object],
        *,
        rules: Iterable[Rule] | None = None,
        cooldown: float | timedelta = 300.0,
        window: float | timedelta = 60.0,
        clock: Clock | Callable[[], float] | None = None,
    ) -> None:
        check("Alerts.handler", handler, _HANDLER)
        chosen = (CircuitOpened(), LowSuccess(), ManyRejections()) if rules is None else rules
        self._rules: tuple[Rule, ...] = tuple(chosen)
        for place, rule in enumerate(self._rules):
            check(f"Alerts.rules[{place}]", rule, _RULES)
        check("Alerts.cooldown", quiet := in_seconds(cooldown), duration(zero=True))
        check("Alerts.window", seconds := in_seconds(window), duration())
        ticking = as_clock(clock)
        check("Alerts.clock", ticking, _CLOCK)
        self._handler = handler
        self._cooldown: float = quiet
        self._window: float = seconds
        self._clock: Any = ticking or PROCESS_CLOCK
        self._subject = Labels(_SUBJECTS)
        self._tallies: dict[str, Tally] = {}
        self._quiet_until: dict[tuple[int, str], float] = {}
        self._telling = threading.Lock()  # only taken where a rule holds

    def __call__(self, event: Event, /) -> None:
        now = self._clock.now()
        circuit = isinstance(event, CircuitStateChanged)
        subject = self._subject(event.policy if circuit else event.pipeline or event.policy)
        tally = self._tallies.get(subject)
        if tally is None:
            tally = self._tallies.setdefault(subject, Tally(self._window))
        if isinstance(event, CallFinished):
            tally.add(event.outcome, now)
        for place, rule in enumerate(self._rules):
            try:
                text = rule(event, tally, now)
            except Exception as error:  # noqa: BLE001 - law 6: a rule that raises does not hold
                hook_failed("alert rule", rule, error)
                continue
            if text is not None and self._may_tell(place, subject, now):
                self._tell(rule, subject, text, now, event)

    def _may_tell(self, place: int, subject: str, now: float) -> bool:
        with self._telling:
            if now < self._quiet_until.get((place, subject), now):
                return False
            self._quiet_until[place, subject] = now + self._cooldown
            return True

    def _tell(self, rule: Rule, subject: str, text: str, now: float, event: Event) -> None:
        name = getattr(rule, "name", getattr(rule, "__name__", type(rule).__name__))
        alert = Alert(
            rule=str(name),
            severity=getattr(rule, "severity", "medium"),
            subject=subject,
            text=text,
            at=now,
            event=event,
        )
        try:
            self._handler(alert)
        except Exception as error:  # noqa: BLE001 - law 6
            hook_failed("alert handler", self._handler, error)


_CLOCK = clock()
