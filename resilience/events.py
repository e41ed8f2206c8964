"""
What happened, as frozen values, and who hears of it.

An event never carries arguments, results or an error: of an error only its type name, and its text only where the user
asked for it. It is made only if somebody listens, after the thing it tells of has happened, and a listener that raises
changes nothing: it is logged once, with its name.

Listening costs on the paths that already failed. Per-call events (`CallFinished`) are the exception: a pipeline whose
listeners want them is built with one step more, and no other pipeline is.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, final, runtime_checkable

import attrs

from resilience.errors import RejectedError

__all__ = [
    "LOGGER",
    "CallFinished",
    "CallRejected",
    "CircuitStateChanged",
    "CircuitTripped",
    "Event",
    "Hub",
    "Listener",
    "RetryScheduled",
    "RetryStopped",
    "TimedOut",
    "error_text_of",
    "hook_failed",
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


@attrs.frozen(kw_only=True)
class Event:
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


@attrs.frozen(kw_only=True)
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


@attrs.frozen(kw_only=True)
class CircuitTripped(Event):
    """An observing circuit met its trip condition: enforcing, it would have opened. Once per crossing."""

    calls: int
    failures: int
    slow: int
    last_failure: str | None = None


@attrs.frozen(kw_only=True)
class CallRejected(Event):
    """A policy turned a call away before it ran; ``retry_after`` in seconds or None."""

    reason: str
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
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


@attrs.frozen(kw_only=True)
class RetryStopped(Event):
    """
    A retry gave up after at least one failed attempt.

    Attributes:
        attempts: Attempts that ran.
        reason: ``attempts``, ``stop``, ``deadline``, ``retry_after``, ``rejected`` or ``not retryable``.
        error: Type name of the last error, or None where a result was refused.
    """

    attempts: int
    reason: str
    error: str | None


@attrs.frozen(kw_only=True)
class TimedOut(Event):
    """Our own deadline cut a call off after ``seconds``."""

    seconds: float


@attrs.frozen(kw_only=True)
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


@runtime_checkable
class Listener(Protocol):
    """
    Called with each event, synchronously, in the task and thread in which it happened; it must not block.

    A listener may carry ``listens_to``, a tuple of event classes; without it a listener hears all of them, the per-call
    `CallFinished` included.
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


def _hears(listener: Listener, kind: type[Event]) -> bool:
    wanted: tuple[type[Event], ...] | None = getattr(listener, "listens_to", None)
    return wanted is None or issubclass(kind, wanted)


@final
class Hub:
    """
    What the policies of one pipeline share: its listeners, those of the pipeline around it, and the gates.

    A gate says now what would turn a call away; linking goes from inside to outside, so a policy finds here the gates
    inside it.
    """

    __slots__ = ("__weakref__", "_by_kind", "_listeners", "gates", "pipeline")

    def __init__(
        self, pipeline: str | None, listeners: Iterable[Listener] = (), outer: Hub | None = None
    ) -> None:
        around = outer._listeners if outer is not None else ()  # noqa: SLF001 - our own class
        self.pipeline: str | None = pipeline
        self._listeners: tuple[Listener, ...] = (*listeners, *around)
        self.gates: list[Callable[[], RejectedError | None]] = [] if outer is None else outer.gates
        self._by_kind: dict[type[Event], tuple[Listener, ...]] = {}

    def listeners(self, kind: type[Event]) -> tuple[Listener, ...]:
        """Those who want events of this class."""
        try:
            return self._by_kind[kind]
        except KeyError:
            heard = tuple(each for each in self._listeners if _hears(each, kind))
            return self._by_kind.setdefault(kind, heard)

    def wants(self, kind: type[Event]) -> bool:
        """Whether an event of this class is worth making."""
        return bool(self.listeners(kind)) or (
            kind in _LOGGED and LOGGER.isEnabledFor(_LOGGED[kind])
        )

    def emit(self, event: Event) -> None:
        """Log it and tell those who listen."""
        publish(event, self.listeners(type(event)))


def publish(event: Event, listeners: Iterable[Listener]) -> None:
    """Tell each listener once; one that raises is logged once and heard no less often."""
    try:
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
}


def _log(event: Event) -> None:
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
        case TimedOut():
            LOGGER.debug("%s: cut off after %g s", event.pipeline or event.policy, event.seconds)
        case _:
            pass
