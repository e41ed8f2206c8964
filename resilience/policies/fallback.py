"""
Fallback: another answer where the call has none.

A cancellation is never answered, and nothing is that ``on`` does not name: an error that nobody thought of stays one.
What a fallback raises is raised as it is, with the error it was to answer for as its context.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, final, overload

import attrs

from resilience.bounds import Around, Inner, Reach, merged
from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK
from resilience.doors import F_co, Policy
from resilience.errors import RejectedError
from resilience.events import FallbackFailed, FallbackUsed, Hub
from resilience.validation import by_type, check, one_of, refuse, spelled
from resilience.verdicts import (
    ErrorFilter,
    Judge,
    Named,
    ResultFilter,
    Verdict,
    error_filter,
    refuse_nothing,
    result_filter,
)

__all__ = ["Fallback"]

V = TypeVar("V")

_FUNCTIONS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CoroutineType,
    functools.partial,
)


@final
@attrs.frozen
class _Functions(Generic[F_co]):
    """In the place of a value: functions that make one, each asked if the one before failed."""

    asked: tuple[Callable[[Any, Call], Awaitable[F_co]], ...]


def _is_error(value: object) -> bool:
    kind = value if isinstance(value, type) else type(value)
    return issubclass(kind, BaseException)


_VALUE = one_of(
    "a value to answer with, no error, no coroutine and no function (an async function: Fallback.using)",
    lambda value: not isinstance(value, _FUNCTIONS) and not _is_error(value),
    {
        "function": refuse,
        "lambda": lambda: None,
        "builtin": len,
        "partial": functools.partial(int, "7"),
        "error": OSError("down"),
        "error class": OSError,
    },
)
_FUNCTION = one_of(
    "an async function of the error and the call",
    lambda value: callable(value) and not isinstance(value, type),
    {"none": None, "text": "cached", "class": dict},
)


def _seen(value: object) -> object:
    """What two fallbacks are compared by, and hashed: their values, or which objects they are."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


@final
@attrs.frozen(repr=False)
class Fallback(Policy[F_co]):
    """
    Answer with something else where a call fails: ``Fallback(None, on=CircuitOpenError)``.

    It stands outermost, or next to what it answers for: what is outside of it sees a success. A call guarded by it
    gives ``T | F``. A cancellation is never answered.

    Args:
        value: The answer, the same object each time. For one that has to be made, see `using`.
        on: Required. What is answered for: exception classes, a predicate of the error, or one of tenacity's
            ``retry_if_*`` objects; of a rejection that ended a retry as well, although the error of the last attempt is
            what was raised. Groups count by their leaves: all must be named.
        on_result: A predicate of the result; true: answered for. Default: every result is welcome.

    Raises:
        What the call raises and ``on`` does not name, itself.
    """

    value: F_co = attrs.field(validator=_VALUE, eq=_seen)
    on: ErrorFilter = attrs.field(kw_only=True, validator=error_filter())
    on_result: ResultFilter | None = attrs.field(
        default=None, kw_only=True, validator=result_filter()
    )

    def __attrs_post_init__(self) -> None:
        refuse_nothing("Fallback", self.on, self.on_result)

    @overload
    @staticmethod
    def using(
        *functions: Callable[[Exception, Call], Awaitable[V]], on: ErrorFilter
    ) -> Fallback[V]: ...
    @overload
    @staticmethod
    def using(
        *functions: Callable[[Exception | None, Call], Awaitable[V]],
        on: ErrorFilter,
        on_result: ResultFilter,
    ) -> Fallback[V]: ...
    @staticmethod
    def using(
        *functions: Callable[[Any, Call], Awaitable[V]],
        on: ErrorFilter,
        on_result: ResultFilter | None = None,
    ) -> Fallback[V]:
        """
        Answer with what an async function of the error and the call returns: ``Fallback.using(replica, on=OSError)``.

        Args:
            functions: Called with the error (None where a result was refused) and the `Call`. Of several each is asked
                if the one before raised what ``on`` names, and gets its error: a chain.
            on: As for a value.
            on_result: As for a value.

        Raises:
            What the last function asked raises, with the call's own error as its context.
        """
        if not functions:
            raise refuse("Fallback.using", functions, "at least one async function")
        for place, function in enumerate(functions):
            check(f"Fallback.using[{place}]", function, _FUNCTION)
        answer: Any = _Functions(functions)
        return Fallback(answer, on=on, on_result=on_result)

    @property
    def makes_its_answer(self) -> bool:
        """Whether functions make the answer, which takes time and may fail; false for a value."""
        return isinstance(self.value, _Functions)

    def __repr__(self) -> str:
        value: Any = self.value
        if isinstance(value, _Functions):
            names = [getattr(each, "__qualname__", type(each).__name__) for each in value.asked]
            return spelled(self, name="Fallback.using", first=", ".join(names))
        return spelled(self, first=by_type(value))

    def link(self, step: Step, hub: Hub) -> Step:
        return _linked(self, step, hub)

    def worst(self, inner: Inner, around: Around) -> Inner:  # noqa: ARG002
        if not self.makes_its_answer:
            return inner

        def reach(starts: Sequence[Reach], deadline: float) -> Sequence[Reach]:
            # A function takes as long as it likes.
            return merged(
                Reach(each.attempts, each.first, deadline) for each in inner(starts, deadline)
            )

        return reach


def _linked(policy: Fallback[Any], step: Step, hub: Hub) -> Step:  # noqa: C901 - one guard and what it tells
    named, judge, label = (
        Named("Fallback", policy.on),
        Judge((), (), policy.on_result),
        repr(policy),
    )
    value: Any = policy.value
    functions = value.asked if isinstance(value, _Functions) else ()
    judges_results = policy.on_result is not None

    async def guarded(call: Call) -> Any:
        try:
            result = await step(call)
        except Exception as error:
            if not _answered_for(named, error, call.rejection):
                raise
            return await answered(call, error)
        if judges_results and judge.result(result) is Verdict.FAILURE:
            return await answered(call, None)
        return result

    async def answered(call: Call, error: Exception | None) -> Any:
        rejection = call.rejection
        answer = await asked(0, call, error) if functions else value
        call.from_fallback = True
        call.age = None
        if hub.wants(FallbackUsed):
            event = FallbackUsed(
                policy=label,
                pipeline=hub.pipeline,
                at=PROCESS_CLOCK.now(),
                error=_type_name(error),
                rejection=_type_name(rejection),
            )
            hub.emit(event)
        return answer

    async def asked(place: int, call: Call, error: Exception | None) -> Any:
        try:
            answer = functions[place](error, call)
            return await answer if hasattr(answer, "__await__") else answer
        except Exception as failure:
            if hub.wants(FallbackFailed):
                event = FallbackFailed(
                    policy=label,
                    pipeline=hub.pipeline,
                    at=PROCESS_CLOCK.now(),
                    error=_type_name(error),
                    failure=type(failure).__name__,
                )
                hub.emit(event)
            if place + 1 == len(functions) or not named(failure):
                raise
            # Inside the handler, so that each failure is the context of the next.
            return await asked(place + 1, call, failure)

    return guarded


def _answered_for(named: Named, error: Exception, rejection: RejectedError | None) -> bool:
    return named(error) or (rejection is not None and named(rejection))


def _type_name(error: Exception | None) -> str | None:
    return None if error is None else type(error).__name__
