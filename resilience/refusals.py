"""
What goes through which door, and the right spelling where something does not.

A wrong kind of function would fail much later, in the middle of a call, or worse: work without being guarded. So each
door looks at what it is given when it is given it, and its error names the door that fits.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import opcode
import sys
import types
from collections.abc import Awaitable
from typing import Any, get_origin

from resilience.strategies import is_asynchronous

__all__ = [
    "is_bare_decorator",
    "place_of_the_call",
    "refuse_attempts_at_once",
    "refuse_shared_answers",
    "refuse_what_cannot_be_wrapped",
    "refuse_what_does_not_open",
    "refuse_what_does_not_stream",
    "require_function",
]


def _name(fn: Any) -> str:
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def require_function(fn: object) -> None:
    """Refuse what cannot be called; a coroutine object is closed, so that nobody warns of it."""
    if callable(fn):
        return
    if inspect.iscoroutine(fn):
        fn.close()
        name = fn.__name__
        raise TypeError(
            f"pass the function and its arguments: await guarded({name}, ...), not guarded({name}(...))"
        )
    raise TypeError(f"a callable that returns an awaitable is needed, got {type(fn).__name__}")


# ----------------------------------------------------------------- bare decorators


def is_bare_decorator(fn: object) -> bool:
    """
    Whether this call is ``@p`` above an ``async def``: the function was made by the instruction before the call.

    Asked only of a function nobody else refers to yet, which a decorated one is and a called one hardly ever. To be
    asked by the method that is called.
    """
    if (
        type(fn) is not types.FunctionType
        or sys.getrefcount(fn) > _FRESH
        or fn.__name__ == "<lambda>"
    ):
        return False
    return _made_by_the_line_before(sys._getframe(2))  # noqa: SLF001 - the frame that called the pipeline


# Of a function that only this call refers to: the caller's stack, the arguments of the frames in between.
_FRESH = 5

_SKIPPED = frozenset(
    opcode.opmap[name] for name in ("CACHE", "PRECALL", "EXTENDED_ARG") if name in opcode.opmap
)
_MAKING = frozenset(
    opcode.opmap[name]
    for name in ("MAKE_FUNCTION", "SET_FUNCTION_ATTRIBUTE")
    if name in opcode.opmap
)


def _made_by_the_line_before(frame: types.FrameType) -> bool:
    code = frame.f_code.co_code
    place = frame.f_lasti - 2
    while place > 0 and code[place] in _SKIPPED:
        place -= 2
    return code[place] in _MAKING


# ---------------------------------------------------------------------- the doors


def refuse_what_cannot_be_wrapped(fn: Any) -> None:
    """For ``wrap`` and ``informed``."""
    if isinstance(fn, classmethod | staticmethod):
        kind = type(fn).__name__
        raise TypeError(f"put @p.wrap below @{kind}, next to the function")
    require_function(fn)
    if inspect.isasyncgenfunction(inspect.unwrap(fn)):
        if _makes_a_manager(fn):
            raise TypeError(
                f"{_name(fn)} makes an async context manager: use p.opening({_name(fn)})"
            )
        raise TypeError(f"{_name(fn)} is an async generator function: use p.stream({_name(fn)})")
    if not _returns_awaitable(fn):
        raise TypeError(
            f"nobody can tell whether {_name(fn)} returns an awaitable: make it async def, annotate its return as "
            f"Awaitable[...], or call it as await p({_name(fn)}, ...)"
        )


def refuse_what_does_not_open(fn: Any) -> None:
    """For ``opening``."""
    require_function(fn)
    if inspect.iscoroutinefunction(fn):
        raise TypeError(f"{_name(fn)} is a coroutine function: use p.wrap({_name(fn)})")
    if inspect.isasyncgenfunction(fn):
        raise TypeError(
            f"{_name(fn)} is an async generator function: put @asynccontextmanager on it, or use p.stream({_name(fn)})"
        )
    if _makes_a_manager(fn) and not inspect.isasyncgenfunction(inspect.unwrap(fn)):
        raise TypeError(f"{_name(fn)} makes a context manager that is not async")


def refuse_what_does_not_stream(fn: Any) -> None:
    """For ``stream``."""
    if isinstance(fn, types.AsyncGeneratorType):
        name = fn.__name__
        raise TypeError(
            f"pass the function, then its arguments: p.stream({name})(...), not p.stream({name}(...))"
        )
    require_function(fn)
    if inspect.iscoroutinefunction(fn):
        raise TypeError(f"{_name(fn)} is a coroutine function: use p.wrap({_name(fn)})")
    if _makes_a_manager(fn):
        raise TypeError(f"{_name(fn)} makes a context manager: use p.opening({_name(fn)})")


def place_of_the_call(fn: Any) -> tuple[inspect.Signature, int]:
    """The signature of an informed function without its `Call`, and the place that goes to: 0, or 1 after self."""
    signature = inspect.signature(fn)
    parameters = list(signature.parameters.values())
    place = 1 if parameters and parameters[0].name in {"self", "cls"} else 0
    taker = parameters[place] if len(parameters) > place else None
    if taker is None or taker.kind in {taker.KEYWORD_ONLY, taker.VAR_KEYWORD}:
        raise TypeError(f"{_name(fn)} must take a Call as its first argument")
    if taker.kind is not taker.VAR_POSITIONAL:
        parameters.remove(taker)
    return signature.replace(parameters=parameters), place


def _makes_a_manager(fn: Any) -> bool:
    """Whether this is what ``contextmanager`` or ``asynccontextmanager`` made of a generator function."""
    return getattr(fn, "__globals__", None) is vars(contextlib)


_AWAITABLES = frozenset({"Awaitable", "Coroutine", "Future", "Task"})


def _returns_awaitable(fn: Any) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    if is_asynchronous(fn):
        return True
    try:
        annotation = inspect.signature(fn).return_annotation
    except (TypeError, ValueError):
        return False
    if isinstance(annotation, str):
        name, _, arguments = annotation.partition("[")
        return name.rpartition(".")[2] in _AWAITABLES and "|" not in arguments.rpartition("]")[2]
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Awaitable)


def refuse_shared_answers(keeper: str | None, door: str) -> None:
    """A connection or a stream belongs to the one who opened it."""
    if keeper is not None:
        raise TypeError(
            f"{keeper} gives one answer to several callers, and what {door} opens belongs to one: "
            "leave it out of this pipeline"
        )


def refuse_attempts_at_once(policy: str | None, door: str) -> None:
    """What is opened in a task has to be left in it, and a stream has one generator."""
    if policy is not None:
        raise TypeError(
            f"{policy} makes attempts in several tasks, and what {door} opens belongs to one: "
            "leave it out of this pipeline"
        )
