"""
Success, failure or nothing: how an outcome is judged, in one place for every policy.

`on` says what is a failure and `ignore` what is nothing; both match: ignored; neither matches: success, the dependency
answered. Before either is asked: a rejection is nothing (the dependency was never called) and our own deadline is a
failure, unless `ignore` names it itself. Exception groups count by their leaves.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, final

from resilience.errors import RejectedError, ResilienceError, TimeoutExceededError
from resilience.events import hook_failed
from resilience.strategies import (
    asked_about_error,
    asked_about_result,
    is_asynchronous,
    is_other_strategy,
    is_strategy,
)
from resilience.validation import Allowed, one_of, refuse

if TYPE_CHECKING:
    from tenacity.retry import retry_base

__all__ = [
    "ErrorFilter",
    "Judge",
    "Named",
    "ResultFilter",
    "Verdict",
    "error_filter",
    "leaves",
    "refuse_nothing",
    "result_filter",
]

ErrorFilter: TypeAlias = (
    "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], object] | retry_base"
)
"""Exception classes, a predicate of the error, or one of tenacity's ``retry_if_*`` objects."""

ResultFilter: TypeAlias = "Callable[[Any], object] | retry_base"
"""A predicate of the result (true: the result counts as a failure), or one of tenacity's ``retry_if_*`` objects."""


class Verdict(enum.Enum):
    """How a call counts."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


def is_types(value: object) -> bool:
    """Whether *value* is an exception class or a tuple of them; a cancellation is none of ours to judge."""
    kinds = value if isinstance(value, tuple) else (value,)
    return all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds)


def error_filter(*, asynchronous: bool = False) -> Allowed:
    """The validator of ``on`` and ``ignore``."""

    def accepts(value: object) -> bool:
        if is_types(value):
            return True
        if isinstance(value, type) or not callable(value) or is_other_strategy(value, "retry"):
            return False
        return asynchronous or not is_asynchronous(value)

    text = "an exception class, a tuple of them, a predicate of the error, or a tenacity retry_if_* object"
    breaches: dict[str, object] = {
        "text": "OSError",
        "none": None,
        "list": [OSError],
        "other class": int,
        "other class among them": (OSError, int),
        "cancellation": KeyboardInterrupt,
        "error": OSError("down"),
        "number": 503,
    }
    if not asynchronous:
        text += " (none of them async)"
        breaches["async predicate"] = _an_async_predicate
    return one_of(text, accepts, breaches)


def result_filter(*, asynchronous: bool = False) -> Allowed:
    """The validator of ``on_result``."""

    def accepts(value: object) -> bool:
        if value is None:
            return True
        if isinstance(value, type) or not callable(value) or is_other_strategy(value, "retry"):
            return False
        return asynchronous or not is_asynchronous(value)

    text = "None, a predicate of the result, or a tenacity retry_if_result object"
    breaches: dict[str, object] = {"number": 500, "class": OSError, "text": "None"}
    if not asynchronous:
        text += " (not async)"
        breaches["async predicate"] = _an_async_predicate
    return one_of(text, accepts, breaches)


def refuse_nothing(owner: str, on: object, on_result: object) -> None:
    """Nothing would ever be a failure: ``on=()`` and no ``on_result``."""
    if isinstance(on, tuple) and not on and on_result is None:
        raise refuse(f"{owner}.on", on, "at least one exception class where on_result is None")


async def _an_async_predicate(
    _: object,
) -> bool:  # pragma: no cover - a value to be refused, never called
    return True


def leaves(error: Exception) -> Iterator[Exception]:
    """The errors inside a group, however deeply nested; an error that is no group is its own leaf."""
    stack = [error]
    while stack:
        each = stack.pop()
        if isinstance(each, ExceptionGroup):
            stack.extend(each.exceptions)
        else:
            yield each


def _matcher(spec: Any) -> Callable[[Exception], object]:
    if is_types(spec):
        kinds = spec if isinstance(spec, tuple) else (spec,)
        return lambda error: isinstance(error, kinds)
    if is_strategy(spec):
        return lambda error: asked_about_error(spec, error)
    return spec  # type: ignore[no-any-return]


@final
class Named:
    """
    Whether an error is what ``on`` names, rejections and our own deadlines included.

    A group is, if it is so itself or all its leaves are: what nobody named is not to be answered for. A predicate that
    raises has said yes (law 6). Synchronous; safe in any thread if the user's predicates are.
    """

    __slots__ = ("_matches", "_owner", "_spec")

    def __init__(self, owner: str, spec: Any) -> None:
        self._owner = owner
        self._spec = spec
        self._matches = _matcher(spec)

    def __call__(self, error: Exception) -> bool:
        if is_types(self._spec) and self._matches(error):
            return True
        return all(map(self._leaf, leaves(error)))

    def _leaf(self, error: Exception) -> bool:
        try:
            return bool(self._matches(error))
        except Exception as fault:  # noqa: BLE001 - law 6
            hook_failed(f"{self._owner}.on", self._spec, fault)
            return True


@final
class Judge:
    """The verdicts of one policy. Synchronous; safe in any thread if the user's predicates are."""

    __slots__ = (
        "_ignore", "_ignores", "_kinds", "_matches", "_on", "_timeout", "_unhappy", "on_result",
    )  # fmt: skip

    def __init__(self, on: Any, ignore: Any, on_result: Any) -> None:
        self._on = on
        self._ignore = ignore
        self._matches = _matcher(on)
        self._ignores = _matcher(ignore)
        # Both where both name classes, as they mostly do: then nobody need be called.
        self._kinds: Any = (ignore, on) if is_types(ignore) and is_types(on) else None
        named = ignore if isinstance(ignore, tuple) else (ignore,)
        ours = TimeoutExceededError in named
        self._timeout = Verdict.IGNORED if ours else Verdict.FAILURE
        self.on_result: Any = on_result
        self._unhappy: Callable[[Any], object] = (
            (lambda result: asked_about_result(on_result, result))
            if is_strategy(on_result)
            else on_result
        )

    def error(self, error: Exception) -> Verdict:
        """The verdict on a raised error."""
        if not isinstance(error, ExceptionGroup):
            return self._leaf(error)
        verdicts = {self._leaf(leaf) for leaf in leaves(error)}
        if Verdict.FAILURE in verdicts:
            return Verdict.FAILURE
        return Verdict.IGNORED if verdicts == {Verdict.IGNORED} else Verdict.SUCCESS

    def result(self, result: object) -> Verdict:
        """The verdict on a returned value."""
        if self.on_result is None:
            return Verdict.SUCCESS
        try:
            return Verdict.FAILURE if self._unhappy(result) else Verdict.SUCCESS
        except Exception as fault:  # noqa: BLE001 - law 6: a failing predicate counts as failure
            hook_failed("on_result", self.on_result, fault)
            return Verdict.FAILURE

    def _leaf(self, error: Exception) -> Verdict:  # noqa: PLR0911 - a rule each
        if isinstance(error, ResilienceError):
            if isinstance(error, RejectedError):
                return Verdict.IGNORED
            if isinstance(error, TimeoutExceededError):
                return self._timeout
        if self._kinds is not None:
            ignored, failures = self._kinds
            if isinstance(error, ignored):
                return Verdict.IGNORED
            return Verdict.FAILURE if isinstance(error, failures) else Verdict.SUCCESS
        try:
            if self._ignores(error):
                return Verdict.IGNORED
        except Exception as fault:  # noqa: BLE001 - law 6
            hook_failed("ignore", self._ignore, fault)
            return Verdict.FAILURE
        try:
            return Verdict.FAILURE if self._matches(error) else Verdict.SUCCESS
        except Exception as fault:  # noqa: BLE001 - law 6
            hook_failed("on", self._on, fault)
            return Verdict.FAILURE
