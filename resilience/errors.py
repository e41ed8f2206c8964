"""
Every error this package raises, and nothing else, so that one ``except`` line can be chosen by looking here.

    ResilienceError
    ├─ RejectedError              the call never ran
    │  ├─ CircuitOpenError
    │  │  └─ CircuitIsolatedError
    │  ├─ BulkheadFullError       every place, and every place in the queue, was taken
    │  ├─ RateLimitedError        the rate was used up
    │  ├─ ThrottledError          a limit that adapts to what the dependency can do
    │  └─ DeadlineExpiredError    its deadline had passed before it could start
    ├─ TimeoutExceededError       the call ran and was cut off; also a builtin TimeoutError
    └─ ConfigurationError         also a ValueError

Texts are built when somebody reads them: a rejection under load costs no formatting. Errors survive pickle and copy.
"""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = [
    "BulkheadFullError",
    "CircuitIsolatedError",
    "CircuitOpenError",
    "ConfigurationError",
    "DeadlineExpiredError",
    "PipelineWarning",
    "RateLimitedError",
    "RejectedError",
    "ResilienceError",
    "ResilienceWarning",
    "ThrottledError",
    "TimeoutExceededError",
    "brief",
    "made_of",
]


def brief(value: object, limit: int = 80) -> str:
    """``repr(value)`` on one line, cut at *limit* characters; safe for a value whose repr raises."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the value is the user's, and so is its repr
        text = f"<{type(value).__name__} whose repr raises>"
    text = text.encode("unicode_escape", "backslashreplace").decode("ascii")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _revive(
    cls: type[ResilienceError], args: tuple[Any, ...], state: dict[str, Any]
) -> ResilienceError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ResilienceWarning(UserWarning):
    """What is allowed and probably not meant."""


class PipelineWarning(ResilienceWarning):
    """A pipeline that works and is likely to disappoint; the text names the remedy."""


class ResilienceError(Exception):
    """Base of all errors of this package."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _revive, (type(self), self.args, self.__dict__.copy())


E = TypeVar("E", bound=ResilienceError)
_bare: Any = ResilienceError.__new__


def made_of(kind: type[E], attributes: dict[str, Any]) -> E:
    """
    What *kind* makes of the same attributes, all of them, a third as dear: no ``__init__`` runs.

    For rejections, which come by the thousand when there is least time for them. The dict becomes the error's own.
    """
    error: E = _bare(kind)
    error.__dict__ = attributes
    return error


class RejectedError(ResilienceError):
    """
    The call never ran.

    Attributes:
        policy: What rejected it, as it is written, such as ``CircuitBreaker('catalogue')``.
        retry_after: Seconds until another try makes sense, or None where nobody knows.
        reason: A word for metrics: ``circuit_open``, ``circuit_isolated``, ``bulkhead_full``, ``rate_limited``,
            ``throttled``, ``deadline``, ``rejected``.
    """

    reason: str = "rejected"

    def __init__(
        self,
        message: str = "",
        *,
        policy: str = "",
        retry_after: float | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(*((message,) if message else ()))
        self.policy = policy
        self.retry_after = retry_after
        if reason is not None:
            self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self._text()

    def _text(self) -> str:
        return f"rejected by {self.policy or 'a policy'}{_wait_hint(self.retry_after)}"


def _wait_hint(retry_after: float | None) -> str:
    return "" if retry_after is None else f"; retry in {retry_after:.3g} s"


_WHY = {"HALF_OPEN": " and all its probes are in flight", "ISOLATED": " by hand"}


class CircuitOpenError(RejectedError):
    """
    The circuit is open, or half-open with all its probes in flight; the call never ran.

    Attributes:
        breaker: The breaker's name.
        state: The state that rejected, such as ``OPEN``.
        last_failure: Type name of the failure seen last, or None.
    """

    reason = "circuit_open"

    def __init__(
        self,
        breaker: str = "",
        *,
        state: str = "OPEN",
        last_failure: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(policy=f"CircuitBreaker({breaker!r})", retry_after=retry_after)
        self.breaker = breaker
        self.state = state
        self.last_failure = last_failure

    def _text(self) -> str:
        seen = f"; last failure: {self.last_failure}" if self.last_failure else ""
        why = _WHY.get(self.state, "")
        return f"circuit {self.breaker!r} is {self.state}{why}{_wait_hint(self.retry_after)}{seen}"


class CircuitIsolatedError(CircuitOpenError):
    """The circuit was isolated by hand; only its release ends that, so ``retry_after`` is None."""

    reason = "circuit_isolated"

    def __init__(self, breaker: str = "", *, last_failure: str | None = None) -> None:
        super().__init__(breaker, state="ISOLATED", last_failure=last_failure)


class BulkheadFullError(RejectedError):
    """Every place was taken, and the queue was full or the wait would have been too long; the call never ran."""

    reason = "bulkhead_full"

    def _text(self) -> str:
        return f"{self.policy or 'bulkhead'} is full{_wait_hint(self.retry_after)}"


class RateLimitedError(RejectedError):
    """The rate was used up; ``retry_after`` is exact, and nothing was reserved. The call never ran."""

    reason = "rate_limited"

    def _text(self) -> str:
        return f"{self.policy or 'rate limit'} is used up{_wait_hint(self.retry_after)}"


class ThrottledError(RejectedError):
    """A limit that adapts to what the dependency can take turned the call away; it never ran."""

    reason = "throttled"

    def _text(self) -> str:
        return f"throttled by {self.policy or 'an adaptive limit'}{_wait_hint(self.retry_after)}"


class DeadlineExpiredError(RejectedError):
    """The deadline had passed before the first attempt could start; the call never ran."""

    reason = "deadline"

    def _text(self) -> str:
        return f"deadline of {self.policy or 'the call'} had passed before the call could start"


class TimeoutExceededError(ResilienceError, TimeoutError):
    """
    The call ran and was cut off by our own deadline.

    Attributes:
        seconds: The time it was given.
        policy: The policy whose deadline it was, as it is written, such as ``Timeout(2.0)``.
    """

    def __init__(self, seconds: float = 0.0, *, policy: str = "") -> None:
        super().__init__()
        self.seconds = seconds
        self.policy: str = policy or f"Timeout({seconds!r})"

    def __str__(self) -> str:
        return f"cut off after {self.seconds:g} s by {self.policy}"


class ConfigurationError(ResilienceError, ValueError):
    """
    A setting that cannot work, found where it was written.

    Attributes:
        field: Path of the field, such as ``CircuitBreaker.break_duration``.
        got: What it was given, as text.
        allowed: What it takes.
    """

    def __init__(self, field: str = "", *, got: str = "", allowed: str = "") -> None:
        super().__init__()
        self.field = field
        self.got = got
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.field} must be {self.allowed}, got {self.got}"
