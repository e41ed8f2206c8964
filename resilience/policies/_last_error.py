"""
The error a retry ends with: the last one itself, with one note, and no longer traceback than one attempt makes.

An instance that is raised again and again (a constant of the callee's, or one it keeps) would otherwise collect a note
and the tracebacks of every time before.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, NoReturn

from resilience.errors import RejectedError

__all__ = ["forget_older_tracebacks", "note", "raise_it", "summary"]

_OURS = "resilience: "


def summary(attempt: int, reason: str, earlier: Iterable[str], end: RejectedError | None) -> str:
    """The note: how many attempts, why no more, and the type names of what went before."""
    before = ", ".join(earlier)
    text = f"{_OURS}gave up after attempt {attempt} ({reason}){before and '; earlier: '}{before}"
    if end is not None:
        text += f"; then {type(end).__name__}: {end}"
    return text


def note(error: Exception, text: str) -> None:
    """Put *text* on the error in the place of an older note of ours."""
    try:
        notes: Iterable[Any] = getattr(error, "__notes__", ())
        others = [each for each in notes if not str(each).startswith(_OURS)] if notes else ()
        error.__notes__ = [*others, text]
    except Exception:  # noqa: BLE001, S110 - an error that takes no notes is raised without
        pass


def raise_it(error: Exception, owner: object) -> NoReturn:  # noqa: ARG001 - found in this frame
    """Raise it, from a frame by which *owner* finds this traceback again, and with the context it has."""
    context = error.__context__
    try:
        raise error
    finally:
        # What is handled around the guarded call would take its place.
        error.__context__ = context
        del error, context


_RAISED = raise_it.__code__


def forget_older_tracebacks(
    error: Exception, owner: object, seen: types.TracebackType | None
) -> None:
    """
    Cut off what the traceback of a re-raised instance carries behind the new one.

    That is *seen*, the traceback of the attempt before, or one that holds the frame in which *owner* raised it.
    """
    entry = error.__traceback__
    while entry is not None and (after := entry.tb_next) is not None:
        if after is seen or (
            (frame := after.tb_frame).f_code is _RAISED and frame.f_locals.get("owner") is owner
        ):
            entry.tb_next = None
            return
        entry = after
