"""
What happened, as frozen values, and who hears of it.

An event never carries arguments, results or an error: of an error only its type name, and its text only where the user
asked for it. It is made only if somebody listens, after the thing it tells of has happened, and a listener that raises
changes nothing: it is logged once, with its name.

Listening costs on the paths that already failed. Per-call events (`CallFinished`, `AttemptFinished`) are the
exception: a pipeline whose listeners want them is built with one step more, and no other pipeline is.

Who listens to the whole process (`listen`) reaches pipelines built and functions wrapped before. The rare events look
the listeners up when they are made; for the per-call ones the doors take another way in while somebody listens, behind
a look at `MODES` that every call takes anyway. So what nobody listens to pays nothing.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol, Self, final, runtime_checkable
from weakref import WeakSet

from resilience.clock import never_raises
from resilience.errors import RejectedError
from resilience.modes import MODES
from resilience.validation import check, is_function, one_of
from resilience.values import Value

__all__ = [
    "EVERYWHERE",
    "LINES",
    "LISTENER",
    "LOGGER",
    "AttemptFinished",
    "CallFinished",
    "CallQueued",
    "CallRejected",
    "ChangeRefused",
    "ChaosInjected",
    "CircuitStateChanged",
    "CircuitTripped",
    "Event",
    "FallbackFailed",
    "FallbackUsed",
    "FlightAbandoned",
    "FlightJoined",
    "HedgeFinished",
    "HedgeSkipped",
    "HedgeStarted",
    "Hub",
    "Listener",
    "OptionsChanged",
    "RetryScheduled",
    "RetryStopped",
    "StaleServed",
    "Subscription",
    "TimedOut",
    "WouldHaveActed",
    "by_hand",
    "error_text_of",
    "hears",
    "hook_failed",
    "listen",
    "outcome_of",
    "publish",
    "seldom",
]

LOGGER = logging.getLogger("resilience")
"""Transitions at WARNING and INFO, retries at DEBUG. Silence: ``logging.getLogger("resilience").disabled = True``."""

_TEXT_LIMIT = 200


def error_text_of(error: BaseException, wanted: bool) -> str | None:  # noqa: FBT001 - the option itself
    """The error's text if the user opted in: at most 200 characters, control characters escaped."""
    if not wanted:
        return None
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the error is the user's, and so is its __str__
        return None
    return text.encode("unicode_escape", "backslashreplace").decode("ascii")[:_TEXT_LIMIT]


class Event(Value):
    """
    Base of all events.

    Attributes:
        policy: The policy it is about, as it is written; the breaker's name for breakers.
        pipeline: Name of the pipeline it happened in; None for an unnamed one or a breaker driven by hand.
        at: Monotonic seconds on the policy's clock.
    """

    policy: str
    pipeline: str | None = None
    at: float


class CircuitStateChanged(Event):
    """
    A circuit moved to another state. Published exactly once per transition, after it happened, in order.

    Attributes:
        old, new: Names of the states, such as ``CLOSED`` and ``OPEN``.
        generation: Number of the new generation; it grows by one with each.
        reason: ``tripped``, ``break over``, ``probes succeeded``, ``probe failed``, ``probe slow``,
        ``probe lease over``
            or ``by hand``.
        retry_after: Seconds the circuit stays open, else None.
        calls, failures, slow: What the window held when it moved.
        last_failure: Type name of the failure seen last, or None.
        error_text: Its text, only with ``error_text=True``.
    """

    old: str
    new: str
    generation: int
    reason: str
    retry_after: float | None = None
    calls: int = 0
    failures: int = 0
    slow: int = 0
    last_failure: str | None = None
    error_text: str | None = None


class CircuitTripped(Event):
    """An observing circuit met its trip condition: enforcing, it would have opened. Once per crossing."""

    calls: int
    failures: int
    slow: int
    last_failure: str | None = None


class CallRejected(Event):
    """A policy turned a call away before it ran; ``retry_after`` in seconds or None."""

    reason: str
    retry_after: float | None = None


class CallQueued(Event):
    """
    A call has waited in a policy's queue; told when the wait is over.

    Attributes:
        waited: Seconds.
        admitted: It went on; otherwise it was turned away, or the caller left.
    """

    waited: float
    admitted: bool


class RetryScheduled(Event):
    """
    An attempt failed and another will follow.

    Attributes:
        attempt: Number of the attempt that failed, from 1.
        delay: Seconds about to be slept.
        elapsed: Seconds since the first attempt started.
        error: Type name of the error, or None where a result was refused.
        error_text: Its text, only with ``error_text=True``.
    """

    attempt: int
    delay: float
    elapsed: float
    error: str | None
    error_text: str | None = None


class RetryStopped(Event):
    """
    A retry gave up after at least one failed attempt.

    Attributes:
        attempts: Attempts that ran.
        reason: ``attempts``, ``stop``, ``deadline``, ``retry_after``, ``budget`` (spent), ``nested`` (a retry around it
            retries), ``rejected`` or ``not retryable``.
        error: Type name of the last error, or None where a result was refused.
    """

    attempts: int
    reason: str
    error: str | None


class HedgeStarted(Event):
    """
    A further attempt was started beside those that run.

    Attributes:
        attempt: Its number, from 2.
        reason: ``slow``, or ``failed`` where an attempt before it failed.
        error: Type name of that failure, or None.
    """

    attempt: int
    reason: str
    error: str | None = None


class HedgeSkipped(Event):
    """A further attempt was due and none is started any more: ``budget``, ``deadline`` or ``retry_after``."""

    reason: str


class HedgeFinished(Event):
    """
    A call that had more than one attempt ended.

    Attributes:
        attempts: How many were started.
        winner: Number of the attempt whose answer it was, or None if all failed or the caller left.
    """

    attempts: int
    winner: int | None


class TimedOut(Event):
    """Our own deadline cut a call off after ``seconds``."""

    seconds: float


class FallbackUsed(Event):
    """
    A fallback answered in the place of a call.

    Attributes:
        error: Type name of the error it answered for, or None where a result was refused.
        rejection: Type name of the rejection that ended the retries after that error, or None.
    """

    error: str | None
    rejection: str | None = None


class FallbackFailed(Event):
    """
    A fallback was asked and failed itself.

    Attributes:
        error: Type name of the error it was asked to answer for, or None where a result was refused.
        failure: Type name of what it raised.
    """

    error: str | None
    failure: str


class StaleServed(Event):
    """
    The last good answer was given in the place of a call that failed.

    Attributes:
        age: Seconds since it was returned.
        error: Type name of the error, or None where a result was refused.
    """

    age: float
    error: str | None


class FlightJoined(Event):
    """A call waits for the answer to one like it that is in flight; ``callers`` wait for it by now."""

    callers: int


class FlightAbandoned(Event):
    """The last caller left, so the call in flight was cancelled, ``after`` seconds."""

    after: float


class ChaosInjected(Event):
    """
    Something was done to a call on purpose.

    Attributes:
        kind: ``behaviour``, ``latency``, ``fault`` or ``result``.
        seconds: Of a latency, else None.
        error: Type name of a fault, else None.
    """

    kind: str
    seconds: float | None = None
    error: str | None = None


class CallFinished(Event):
    """
    A call left the pipeline.

    Attributes:
        outcome: ``success``, ``failure``, ``rejected`` or ``cancelled``.
        attempts: Times the callee was entered.
        elapsed: Seconds from the door and back.
        error: Type name of what was raised, or None.
    """

    outcome: str
    attempts: int
    elapsed: float
    error: str | None


class AttemptFinished(Event):
    """
    The callee, or what stands inside a pipeline that is part of another, was entered and has ended.

    Those who listen to the whole process hear of the callee's own, from the pipeline at whose door the call came in.

    Attributes:
        attempt: Its number, from 1.
        outcome: ``success``, ``failure``, ``rejected`` or ``cancelled``, as it left the callee.
        elapsed: Seconds it ran.
        error: Type name of what was raised, or None.
    """

    attempt: int
    outcome: str
    elapsed: float
    error: str | None


def seldom() -> tuple[type[Event], ...]:
    """Every class of events but the two that come with each call."""
    return tuple(
        each for each in Event.__subclasses__() if each not in {AttemptFinished, CallFinished}
    )


def outcome_of(error: BaseException | None) -> str:
    """The word of `CallFinished.outcome` for what a call raised."""
    if error is None:
        return "success"
    if isinstance(error, RejectedError):
        return "rejected"
    return "failure" if isinstance(error, Exception) else "cancelled"


class WouldHaveActed(Event):
    """
    A policy that only observes would have turned a call away, or cut it off; the call ran all the same.

    Attributes:
        action: ``timeout``, or the ``reason`` of the rejection.
    """

    action: str


class OptionsChanged(Event):
    """
    Options were changed at run time; calls that begin now use the new ones.

    Attributes:
        changed: Names of the options, without their values.
    """

    changed: tuple[str, ...]


class ChangeRefused(Event):
    """
    A change at run time was faulty; the last good configuration stays.

    Attributes:
        reason: What is wrong, as the error says it.
    """

    reason: str


@runtime_checkable
class Listener(Protocol):
    """
    Called with each event, synchronously, in the task and thread in which it happened; it must not block.

    A listener may carry ``listens_to``, a tuple of event classes; without it a listener hears all of them, the per-call
    `CallFinished` included. `AttemptFinished`, which costs a step more around the callee, has to be named.
    """

    def __call__(self, event: Any, /) -> object: ...


_reported: set[str] = set()
_REPORTED_LIMIT = 1000


def hook_failed(kind: str, hook: object, error: Exception) -> None:
    """Log once that a user's predicate, strategy or listener raised; the call goes on as if it had not."""
    name = getattr(hook, "__qualname__", None) or type(hook).__qualname__
    key = f"{kind} {name}"
    if key not in _reported and len(_reported) < _REPORTED_LIMIT:
        _reported.add(key)
        with contextlib.suppress(Exception):  # what hangs on the logger is the user's too
            LOGGER.error("%s raised %s; this is logged once", key, type(error).__name__)


def hears(listener: Listener, kind: type[Event]) -> bool:
    """Whether a listener wants events of this class."""
    wanted: tuple[type[Event], ...] | None = getattr(listener, "listens_to", None)
    if wanted is None:
        return kind is not AttemptFinished
    return issubclass(kind, wanted)


def _once(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    return tuple({id(each): each for each in listeners}.values())


def _listens_to_events(listener: object) -> bool:
    wanted = getattr(listener, "listens_to", None)
    return wanted is None or (
        isinstance(wanted, tuple)
        and all(isinstance(each, type) and issubclass(each, Event) for each in wanted)
    )


class _Deaf:
    """A value to be refused, never called."""

    listens_to = ("CallFinished",)

    def __call__(self, _: Event) -> None: ...


async def _async_listener(_: Event) -> None: ...


LISTENER = one_of(
    "a function of an event, not async, whose listens_to, if it has one, is a tuple of event classes",
    lambda value: is_function(value) and _listens_to_events(value),
    {
        "text": "log",
        "number": 1,
        "none": None,
        "class": _Deaf,
        "async": _async_listener,
        "no event": _Deaf(),
    },
)
"""What may listen."""


class Unaware(Protocol):
    """Who was built while nobody listened, and has to know when somebody does."""

    def aware(self) -> None: ...


@final
class Everywhere:
    """
    Who listens to the whole process.

    ``by_kind`` is replaced at each change and never emptied, so that a `Hub` sees that it moved. ``per_call`` says that
    somebody wants to hear of each call or attempt; the doors look at it only while ``MODES.in_use``.
    """

    __slots__ = ("_lock", "_subscriptions", "_unaware", "by_kind", "per_call")

    def __init__(self) -> None:
        self._lock = threading.Lock()  # between those who begin or stop to listen; no call takes it
        self._subscriptions: tuple[Subscription, ...] = ()
        self._unaware: WeakSet[Unaware] = WeakSet()
        self.by_kind: dict[type[Event], tuple[Listener, ...]] = {}
        self.per_call: bool = False

    def listeners(self, kind: type[Event]) -> tuple[Listener, ...]:
        """Those who want events of this class, each once."""
        by_kind = self.by_kind
        try:
            return by_kind[kind]
        except KeyError:
            heard = _once(each.listener for each in self._subscriptions)
            return by_kind.setdefault(kind, tuple(each for each in heard if hears(each, kind)))

    def tell_when_heard(self, unaware: Unaware) -> None:
        """Call its ``aware`` as soon as anybody listens; held weakly."""
        with self._lock:
            self._unaware.add(unaware)
        if self._subscriptions:
            unaware.aware()

    def add(self, subscription: Subscription) -> None:
        with self._lock:
            self._change((*self._subscriptions, subscription))
            for each in tuple(self._unaware):
                each.aware()

    def remove(self, subscription: Subscription) -> None:
        with self._lock:
            self._change(tuple(each for each in self._subscriptions if each is not subscription))

    def _change(self, subscriptions: tuple[Subscription, ...]) -> None:
        before = self.per_call
        self._subscriptions = subscriptions
        self.by_kind = {}  # after the subscriptions: a new table is never made from the old ones
        self.per_call = bool(self.listeners(CallFinished) or self.listeners(AttemptFinished))
        MODES.in_use += self.per_call - before


EVERYWHERE = Everywhere()


@final
class Subscription:
    """What `listen` gives: a context manager, or ``stop()``. Stopping a second time does nothing."""

    __slots__ = ("listener",)

    def __init__(self, listener: Listener) -> None:
        self.listener: Listener = listener

    def stop(self) -> None:
        """Listen no longer."""
        EVERYWHERE.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def listen(listener: Listener) -> Subscription:
    """
    Hear of every pipeline and breaker in this process, of those made before and of those to come.

    A listener that also stands in a pipeline hears each of its events once. Of pipelines in one another the outermost
    tells of the call. Meant for start-up; it takes effect with the next call, in every thread.

    Raises:
        ConfigurationError: *listener* is no function, is async, or its ``listens_to`` is no tuple of event classes.
    """
    check("listen.listener", listener, LISTENER)
    subscription = Subscription(listener)
    EVERYWHERE.add(subscription)
    return subscription


@final
class Hub:
    """
    What the policies of one pipeline share: its listeners, those of the pipeline around it, and the gates.

    A gate says now what would turn a call away; linking goes from inside to outside, so a policy finds here the gates
    inside it. A follower is told when the options of a policy change, so that its guard need not look at each call. A
    part is what a policy has in the express lane, or None.
    """

    __slots__ = ("__weakref__", "_heard", "_listeners", "followers", "gates", "parts", "pipeline")

    def __init__(
        self, pipeline: str | None, listeners: Iterable[Listener] = (), outer: Hub | None = None
    ) -> None:
        around = outer._listeners if outer is not None else ()  # noqa: SLF001 - our own class
        self.pipeline: str | None = pipeline
        self._listeners: tuple[Listener, ...] = (*listeners, *around)
        self.gates: list[Callable[[], RejectedError | None]] = [] if outer is None else outer.gates
        self.followers: list[tuple[object, Callable[[], None]]] = []
        self.parts: list[Any] = []  # list[_express.Part | None]
        # By class, and the table of those who listen everywhere that it was made from.
        self._heard: tuple[object, dict[type[Event], tuple[Listener, ...]]] = None, {}

    def own(self, kind: type[Event]) -> tuple[Listener, ...]:
        """Those of the pipeline, and of the one around it, who want events of this class."""
        return tuple(each for each in self._listeners if hears(each, kind))

    def listeners(self, kind: type[Event]) -> tuple[Listener, ...]:
        """Those who want events of this class, here or everywhere, each once."""
        everywhere = EVERYWHERE.by_kind
        seen, by_kind = self._heard
        if seen is not everywhere:
            by_kind = {}
            self._heard = everywhere, by_kind
        try:
            return by_kind[kind]
        except KeyError:
            heard = _once((*self.own(kind), *EVERYWHERE.listeners(kind)))
            return by_kind.setdefault(kind, heard)

    def take_parts(self, laned: Iterable[bool]) -> tuple[Any, ...] | None:
        """
        What the policies, linked from inside to outside, have in the express lane, outermost first.

        Args:
            laned: For each policy, whether its kind has something there. Without all of it, or with a clock that may
                raise between what was taken and what gives it back: None.
        """
        parts = tuple(each for each in reversed(self.parts) if each is not None)
        kinds = list(laned)
        whole = all(kinds) and len(parts) == len(self.parts) == len(kinds)
        whole = whole and all(never_raises(clock) for each in parts for clock in each.clocks())
        self.parts.clear()  # parts know this hub
        return parts if whole else None

    def wants(self, kind: type[Event]) -> bool:
        """Whether an event of this class is worth making."""
        # `listeners`, written out: asked on each path that fails.
        everywhere, by_kind = self._heard
        if everywhere is not EVERYWHERE.by_kind or (heard := by_kind.get(kind)) is None:
            heard = self.listeners(kind)
        return bool(heard) or (
            kind in _LOGGED and not LINES.replaced and LOGGER.isEnabledFor(_LOGGED[kind])
        )

    def emit(self, event: Event) -> None:
        """Log it and tell those who listen."""
        publish(event, self.listeners(type(event)))


def by_hand() -> Hub:
    """
    That of a policy driven by hand: no pipeline, only those who listen everywhere.

    For this one time: one that is kept would keep those who have stopped.
    """
    return Hub(None)


@final
class BuiltInLines:
    """The lines this module logs by itself; ``replaced`` counts those who write them in another form."""

    __slots__ = ("replaced",)

    def __init__(self) -> None:
        self.replaced: int = 0


LINES = BuiltInLines()


def publish(event: Event, listeners: Iterable[Listener]) -> None:
    """Tell each listener once; one that raises is logged once and heard no less often."""
    try:
        if not LINES.replaced:
            _log(event)
    except Exception as error:  # noqa: BLE001 - nor must that of a log handler
        hook_failed("logger", LOGGER, error)
    for listener in listeners:
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - a listener's fault must not become the call's
            hook_failed("listener", listener, error)


_LOGGED: dict[type[Event], int] = {
    CircuitTripped: logging.WARNING,
    RetryScheduled: logging.DEBUG,
    RetryStopped: logging.DEBUG,
    TimedOut: logging.DEBUG,
    WouldHaveActed: logging.DEBUG,
    OptionsChanged: logging.INFO,
    ChangeRefused: logging.WARNING,
    FallbackUsed: logging.DEBUG,
    FallbackFailed: logging.WARNING,
    StaleServed: logging.DEBUG,
    FlightAbandoned: logging.DEBUG,
    ChaosInjected: logging.INFO,
}


def _log(event: Event) -> None:  # noqa: C901, PLR0912 - a line for each
    match event:
        case CircuitStateChanged():
            level = logging.WARNING if event.new in {"OPEN", "ISOLATED"} else logging.INFO
            wait = f" for {event.retry_after:.3g} s" if event.retry_after is not None else ""
            seen = f", last failure {event.last_failure}" if event.last_failure else ""
            LOGGER.log(
                level,
                "circuit %r: %s -> %s%s (%s; %d calls, %d failed, %d slow%s)",
                event.policy, event.old, event.new, wait,
                event.reason, event.calls, event.failures, event.slow, seen,
            )  # fmt: skip
        case CircuitTripped():
            LOGGER.warning(
                "circuit %r would open, but observes only (%d calls, %d failed, %d slow)",
                event.policy, event.calls, event.failures, event.slow,
            )  # fmt: skip
        case RetryScheduled():
            LOGGER.debug(
                "%s: attempt %d failed (%s), next in %.3g s",
                event.pipeline or event.policy, event.attempt, event.error or "result", event.delay,
            )  # fmt: skip
        case RetryStopped():
            LOGGER.debug(
                "%s: gave up after %d attempts (%s, %s)",
                event.pipeline or event.policy, event.attempts, event.reason, event.error or "result",
            )  # fmt: skip
        case FallbackUsed():
            LOGGER.debug(
                "%s: the fallback answered (%s)",
                event.pipeline or event.policy,
                event.error or "result",
            )
        case FallbackFailed():
            LOGGER.warning(
                "%s: the fallback failed (%s) in the place of %s",
                event.pipeline or event.policy, event.failure, event.error or "a result",
            )  # fmt: skip
        case StaleServed():
            LOGGER.debug(
                "%s: gave an answer %.3g s old (%s)",
                event.pipeline or event.policy, event.age, event.error or "result",
            )  # fmt: skip
        case FlightAbandoned():
            LOGGER.debug(
                "%s: nobody waits any more, cancelled after %.3g s",
                event.pipeline or event.policy, event.after,
            )  # fmt: skip
        case ChaosInjected():
            LOGGER.info("%s: injected %s", event.pipeline or event.policy, event.kind)
        case TimedOut():
            LOGGER.debug("%s: cut off after %g s", event.pipeline or event.policy, event.seconds)
        case WouldHaveActed():
            LOGGER.debug(
                "%s: %s would have acted, but observes only (%s)",
                event.pipeline or "a call", event.policy, event.action,
            )  # fmt: skip
        case OptionsChanged():
            LOGGER.info("%s: %s changed", event.policy, ", ".join(event.changed))
        case ChangeRefused():
            LOGGER.warning(
                "%s: a change was refused, the last good configuration stays (%s)",
                event.policy, event.reason,
            )  # fmt: skip
        case _:
            pass
