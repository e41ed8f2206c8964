"""
Events as words: names, fields and severities for logs, and labels of which there is never too many.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, final

import attrs

from resilience.events import CircuitStateChanged, CircuitTripped, Event
from resilience.validation import check, count

__all__ = ["OTHER", "Labels", "fields_of", "level_of", "name_of", "snake_case"]

OTHER = "other"
"""The label of everything that came after the limit."""

_LONGEST = 128


def name_of(event: Event) -> str:
    """``circuit_state_changed`` for a `CircuitStateChanged`."""
    return snake_case(type(event).__name__)


@cache
def snake_case(text: str) -> str:
    """``RetryBudget`` as ``retry_budget``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", text).lower()


def fields_of(event: Event) -> dict[str, Any]:
    """What is known, by field; what is None is left out."""
    names = (each.name for each in attrs.fields(type(event)))
    found = ((name, getattr(event, name)) for name in names)
    return {name: value for name, value in found if value is not None}


def level_of(event: Event, levels: Mapping[type[Event], int | None]) -> int | None:
    """
    The level of `logging` for an event: the user's for its class or the nearest base, else the built-in one.

    WARNING where calls are turned away from now on, INFO for other transitions, DEBUG for the rest; None: silence.
    """
    for kind in type(event).__mro__:
        if kind in levels:
            return levels[kind]
    if isinstance(event, CircuitTripped):
        return logging.WARNING
    if isinstance(event, CircuitStateChanged):
        return logging.WARNING if event.new in {"OPEN", "ISOLATED"} else logging.INFO
    return logging.DEBUG


@final
class Labels:
    """
    The values of one label: the first *limit* as they are, all others ``other``.

    A name that somebody makes of user ids must not fill the memory of a metrics server.
    """

    __slots__ = ("_known", "_limit")

    def __init__(self, limit: int) -> None:
        check("limit", limit, count())
        self._limit = limit
        self._known: dict[str, str] = {}

    def __call__(self, value: str | None) -> str:
        text = value or ""
        known = self._known.get(text)
        if known is not None:
            return known
        if len(self._known) >= self._limit:
            return OTHER
        return self._known.setdefault(text, _printable(text))


def _printable(text: str) -> str:
    if not text.isprintable():
        text = text.encode("unicode_escape", "backslashreplace").decode("ascii")
    return text[:_LONGEST]
