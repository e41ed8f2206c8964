"""
tenacity's strategy objects, asked the way tenacity asks them, without its loop.

`stop_*`, `wait_*` and `retry_if_*` are plain callables of one state object. The state here is our own,
because tenacity's
reads the clock for itself; the outcome inside it is tenacity's, so that every strategy, plain callables included, finds
what it expects. Nothing of tenacity is imported before a strategy has to be asked.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, final

from resilience.loaded import loaded

__all__ = [
    "AttemptState",
    "asked_about_error",
    "asked_about_result",
    "is_asynchronous",
    "is_other_strategy",
    "is_strategy",
    "judges_errors_only",
    "named_exceptions",
    "only_counts",
    "stops_from",
    "wait_bounds",
]


def is_strategy(value: object) -> bool:
    """Whether *value* is one of tenacity's ``retry_if_*`` objects, which take a state and not an error."""
    tenacity = loaded("tenacity")
    return tenacity is not None and isinstance(value, tenacity.retry_base)


def is_other_strategy(value: object, kind: str) -> bool:
    """Whether *value* is a strategy of tenacity's, but none of its ``retry``, ``stop`` or ``wait`` strategies."""
    tenacity = sys.modules.get("tenacity")
    if tenacity is None:
        return False
    kinds: dict[str, type] = {
        "retry": tenacity.retry_base,
        "stop": tenacity.stop.stop_base,
        "wait": tenacity.wait.wait_base,
    }
    return isinstance(value, tuple(kinds.values())) and not isinstance(value, kinds[kind])


def is_asynchronous(value: Any) -> bool:
    """Whether calling *value* gives an awaitable, as far as can be seen without calling it."""
    if not callable(value):
        return False
    while isinstance(value, functools.partial):
        value = value.func
    if inspect.iscoroutinefunction(value):
        return True
    if inspect.iscoroutinefunction(getattr(type(value), "__call__", None)):  # noqa: B004 - async def, not callability
        return True
    return is_strategy(value) and any(map(is_asynchronous, getattr(value, "retries", ())))


def judges_errors_only(strategy: Any) -> bool:
    """Whether a ``retry_if_*`` object says no to every result, so that a success need not ask it."""
    tenacity = sys.modules["tenacity"]
    asynchronous = tenacity.asyncio.retry
    if isinstance(strategy, (tenacity.retry_any, asynchronous.retry_any)):
        return all(map(judges_errors_only, strategy.retries))
    if isinstance(strategy, (tenacity.retry_all, asynchronous.retry_all)):
        return any(map(judges_errors_only, strategy.retries))
    # Exact classes: retry_unless_exception_type and others derive from these and say yes to results.
    return type(strategy) in {
        tenacity.retry_if_exception,
        tenacity.retry_if_exception_type,
        tenacity.retry_if_not_exception_type,
        tenacity.retry_if_exception_cause_type,
        tenacity.retry_if_exception_message,
        asynchronous.retry_if_exception,
    }


def named_exceptions(spec: Any) -> tuple[type[BaseException], ...]:
    """The exception classes that ``on`` names, through tenacity's objects and their unions."""
    if isinstance(spec, tuple):
        return tuple(name for each in spec for name in named_exceptions(each))
    if isinstance(spec, type):
        return (spec,)
    if is_strategy(spec):
        if hasattr(spec, "retries"):
            return named_exceptions(tuple(spec.retries))
        return named_exceptions(getattr(spec, "exception_types", ()))
    return ()


@final
class AttemptState:
    """
    What a strategy sees at a decision; the attributes are those of ``tenacity.RetryCallState``.

    Times are seconds on the policy's clock. Built after an attempt that may have failed, never before; and its
    ``outcome``, a future with a lock, when a strategy asks for it.
    """

    __slots__ = (
        "_answer", "_outcome", "args", "attempt_number", "fn", "idle_for", "kwargs", "next_action",
        "outcome_timestamp", "retry_object", "start_time", "upcoming_sleep",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - a retry gives them by position, as names cost
        self,
        fn: Callable[..., Any] | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        start_time: float = 0.0,
        retry_object: object = None,
        attempt_number: int = 1,
        idle_for: float = 0.0,
    ) -> None:
        self.fn: Callable[..., Any] | None = fn
        self.args: tuple[Any, ...] = args
        self.kwargs: Mapping[str, Any] = {} if kwargs is None else kwargs
        self.start_time: float = start_time
        self.retry_object: object = retry_object
        self.attempt_number: int = attempt_number
        self.idle_for: float = idle_for
        # Of an answer that no outcome was made of yet: the number of its attempt, its error, or else its result.
        self._answer: tuple[int, BaseException | None, object] | None = None
        self._outcome: Any = None
        self.outcome_timestamp: float | None = None
        self.next_action: Any = None
        self.upcoming_sleep: float = 0.0

    @property
    def seconds_since_start(self) -> float | None:
        if self.outcome_timestamp is None:
            return None
        return self.outcome_timestamp - self.start_time

    def get_fn_name(self) -> str:
        return getattr(self.fn, "__qualname__", None) or type(self.fn).__qualname__

    @property
    def outcome(self) -> Any:
        if self._answer is not None:
            self.outcome = _outcome(*self._answer)
        return self._outcome

    @outcome.setter
    def outcome(self, outcome: Any) -> None:
        self._outcome = outcome
        self._answer = None

    def failed(self, error: BaseException, at: float) -> AttemptState:
        self._answer = self.attempt_number, error, None
        self.outcome_timestamp = at
        return self

    def returned(self, result: object, at: float) -> AttemptState:
        self._answer = self.attempt_number, None, result
        self.outcome_timestamp = at
        return self


def _outcome(attempt: int, error: BaseException | None, result: object) -> Any:
    from tenacity import Future  # noqa: PLC0415 - not before a strategy asks

    made = Future(attempt)
    if error is None:
        made.set_result(result)
    else:
        made.set_exception(error)
    return made


def asked_about_error(strategy: Callable[[Any], object], error: BaseException) -> object:
    """A ``retry_if_*`` object as a predicate of an error."""
    return strategy(AttemptState().failed(error, 0.0))


def asked_about_result(strategy: Callable[[Any], object], result: object) -> object:
    """A ``retry_if_*`` object as a predicate of a result."""
    return strategy(AttemptState().returned(result, 0.0))


def wait_bounds(wait: Any, attempt: int, cap: float) -> tuple[float, float]:
    """The shortest and the longest wait after *attempt* failures, seconds; (0, cap) where it cannot be read off."""
    if hasattr(wait, "bound"):
        return 0.0, min(wait.bound(attempt), cap)
    low, high = _drawn_from(wait, attempt)
    # What is no number of seconds >= 0 becomes the default wait.
    return (min(low, cap), min(high, cap)) if low >= 0 else (0.0, cap)


def _drawn_from(wait: Any, attempt: int) -> tuple[float, float]:
    """What a wait strategy draws from; all numbers where nobody can tell."""
    tenacity = loaded("tenacity")
    # A subclass of a user's own may do anything.
    if tenacity is None or type(wait).__module__ != "tenacity.wait":
        return -math.inf, math.inf
    state = AttemptState(attempt_number=attempt)
    match wait:
        case tenacity.wait_chain():
            number = min(max(attempt, 1), len(wait.strategies))
            return _drawn_from(wait.strategies[number - 1], attempt)
        case tenacity.wait_combine():
            lows, highs = zip(
                *(_drawn_from(part, attempt) for part in wait.wait_funcs), strict=True
            )
            return sum(lows), sum(highs)
        case tenacity.wait_random():
            ends = wait.wait_random_min, wait.wait_random_max
        case tenacity.wait_random_exponential():
            ends = wait.min, tenacity.wait_exponential.__call__(wait, state)
        case tenacity.wait_exponential_jitter():
            ends = _jittered(wait, attempt, 0.0), _jittered(wait, attempt, wait.jitter)
        case tenacity.wait_fixed() | tenacity.wait_incrementing() | tenacity.wait_exponential():
            ends = (wait(state),) * 2
        case _:
            return -math.inf, math.inf
    return min(ends), max(ends)


def _jittered(wait: Any, attempt: int, jitter: float) -> float:
    """What `wait_exponential_jitter` gives for this jitter; ``multiplier`` and ``min`` came with tenacity 9.1."""
    try:
        grown: float = getattr(wait, "multiplier", 0) or wait.initial
        result: float = grown * wait.exp_base ** (attempt - 1) + jitter
    except OverflowError:
        result = wait.max
    return float(max(0, getattr(wait, "min", 0), min(result, wait.max)))


def only_counts(stop: Any) -> bool:
    """Whether a stop strategy goes by the number of attempts alone, as far as can be read off it; None does."""
    if stop is None:
        return True
    if type(stop).__module__ != "tenacity.stop":
        return False
    if hasattr(stop, "stops"):
        return all(map(only_counts, stop.stops))
    return hasattr(stop, "max_attempt_number") or stop is sys.modules["tenacity"].stop_never


def stops_from(stop: Any, attempt: int) -> tuple[float, float]:
    """
    The limits of a stop strategy after that many attempts, seconds since the first one started.

    An attempt that ends at the first limit or later is the last, and so is one whose wait would not end before the
    second. Infinity where there is none, or none that can be read off it.
    """
    tenacity = loaded("tenacity")
    if tenacity is not None and type(stop).__module__ == "tenacity.stop":
        match stop:
            case tenacity.stop_after_attempt():
                return (0.0 if attempt >= stop.max_attempt_number else math.inf), math.inf
            case tenacity.stop_after_delay():
                return stop.max_delay, math.inf
            case tenacity.stop_before_delay():
                return math.inf, stop.max_delay
            case tenacity.stop_any() | tenacity.stop_all():
                chosen = min if isinstance(stop, tenacity.stop_any) else max
                after, before = zip(
                    *(stops_from(each, attempt) for each in stop.stops), strict=True
                )
                return chosen(after), chosen(before)
            case _:
                pass
    return math.inf, math.inf
