"""
What was raised or returned, as values that can be compared between two runs.

A run makes its own objects, so identity is told by name: the callee's errors and answers are numbered as they are made,
and one that comes out of a call is told by its number if it is that very object.
"""

from __future__ import annotations

import re
from typing import Any

from resilience import Failure, Success

__all__ = ["Answer", "Boom", "Bye", "Known"]

_UNLIKE = re.compile(r"0x[0-9a-f]{6,}|\b[0-9a-f]{8,}\b|Task-\d+")
_DEPTH = 12


class Boom(Exception):  # noqa: N818 - short, as it stands in every trace
    """The callee's own."""


class Bye(BaseException):
    """What is no `Exception`."""


class Answer:
    """What a callee returns; ``word`` is good or bad."""

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word


class Known:
    """The objects of one run that have a name."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._names: dict[int, str] = {}
        self._kept: list[object] = []

    def add(self, thing: Any, name: str) -> Any:
        self._names.setdefault(id(thing), name)
        self._kept.append(thing)
        return thing

    def value(self, value: Any) -> Any:
        """A result."""
        if (name := self._names.get(id(value))) is not None:
            return name
        if isinstance(value, Success | Failure):
            fields = [
                getattr(value, each)
                for each in ("attempts", "elapsed", "exhausted", "from_fallback")
            ]
            if isinstance(value, Success):
                return (
                    "success",
                    self.value(value.value),
                    *fields,
                    value.age,
                    self.error(value.rejection),
                )
            same = "the same" if value.rejection is value.error else self.error(value.rejection)
            return "failure", self.error(value.error), *fields, same
        if isinstance(value, list | tuple):
            return tuple(self.value(each) for each in value)
        if isinstance(value, BaseException):
            return self.error(value)
        return value if isinstance(value, str | int | float | None) else type(value).__name__

    def error(self, error: BaseException | None, depth: int = 0) -> Any:
        """An error with its chain, and the errors in it."""
        if error is None:
            return None
        if depth > _DEPTH:
            return "..."
        name = self._names.get(id(error))
        told: list[Any] = [
            type(error).__qualname__,
            f"#{name}" if name is not None else None,
            tuple(self._argument(each, depth) for each in error.args),
        ]
        fields = vars(error)
        if fields:
            told.append(tuple((each, self._field(value)) for each, value in fields.items()))
        if isinstance(error, BaseExceptionGroup):
            told.append(tuple(self.error(each, depth + 1) for each in error.exceptions))
        if error.__suppress_context__:
            told.append("from None" if error.__cause__ is None else "from")
        if error.__cause__ is not None:
            told.append(("cause", self.error(error.__cause__, depth + 1)))
        if error.__context__ is not None:
            told.append(("context", self.error(error.__context__, depth + 1)))
        return tuple(told)

    def frames(self, error: BaseException) -> tuple[str, ...]:
        """The functions of the run itself in its traceback: it must not grow, nor lose the callee."""
        found, traceback = [], error.__traceback__
        while traceback is not None:
            code = traceback.tb_frame.f_code
            if code.co_filename == self._home:
                found.append(code.co_name)
            traceback = traceback.tb_next
        return tuple(found)

    def _argument(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return _UNLIKE.sub("...", value)
        if isinstance(value, list | tuple):
            return tuple(self._argument(each, depth) for each in value)
        if isinstance(value, BaseException):
            return self.error(value, depth + 1)
        return value if isinstance(value, int | float | None) else type(value).__name__

    def _field(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(map(str, value))
        return value if isinstance(value, str | int | float | None) else type(value).__name__
