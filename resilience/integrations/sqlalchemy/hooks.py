"""
What SQLAlchemy's events tell about a unit of work: that COMMIT is under way, and which errors the driver did not name.

Events belong to an engine and know nothing of units; a context variable says which one runs. SQLAlchemy's greenlets see
the context of the task that they work for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import attrs
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError

from resilience.errors import CircuitOpenError
from resilience.integrations.sqlalchemy.errors import is_lost, sqlstate

__all__ = ["NO_FALLBACK", "UNIT", "Unit", "follow", "named"]

NO_FALLBACK: Any = object()


@attrs.define
class Unit:
    """
    One unit of work, over all its attempts.

    Attributes:
        again: Whether it may run again after a COMMIT of unknown fate.
        fallback: What answers for it where the circuit is open, or NO_FALLBACK.
        committing: Its COMMIT was sent, and nobody knows that it was refused.
        foreign: What another circuit said, which the unit itself asked: no fallback of ours answers for it.
    """

    again: bool
    fallback: Any = attrs.field(default=NO_FALLBACK, repr=False)
    committing: bool = False
    foreign: CircuitOpenError | None = None

    @property
    def unknown(self) -> bool:
        return self.committing and not self.again


UNIT: ContextVar[Unit | None] = ContextVar("resilience_sqlalchemy_unit", default=None)


def follow(engine: Engine) -> None:
    """Listen to an engine, once, whoever asks."""
    for name, function in _EVENTS.items():
        if not event.contains(engine, name, function):
            event.listen(engine, name, function)


def named(error: OSError, statement: str | None = None, *, lost: bool) -> OperationalError:
    """The error of a socket, as SQLAlchemy spells what a database raises. Parameters stay out of it."""
    return OperationalError(
        statement, None, error, hide_parameters=True, connection_invalidated=lost
    )


def _commit(_: Connection, *_two_phase: Any) -> None:
    unit = UNIT.get()
    if unit is not None:
        unit.committing = True


def _never_connected(context: ExceptionContext) -> bool:
    """A failed connection has no SQLSTATE from libpq, whatever the reason."""
    return (
        context.connection is None
        and isinstance(context.sqlalchemy_exception, OperationalError)
        and sqlstate(context.original_exception) is None
    )


def _judge(context: ExceptionContext) -> BaseException | None:
    """Some drivers let errors of the socket through, which SQLAlchemy then takes for ours."""
    error = context.original_exception
    if is_lost(error) or _never_connected(context):
        context.is_disconnect = True
    if not isinstance(error, OSError) or context.sqlalchemy_exception is not None:
        return None
    # A TimeoutError without a number is the driver's own clock; the connection lives.
    lost = not isinstance(error, TimeoutError) or error.errno is not None
    context.is_disconnect = context.is_disconnect or lost
    return named(error, context.statement, lost=context.is_disconnect)


_EVENTS: dict[str, Callable[..., Any]] = {
    "commit": _commit,
    "commit_twophase": _commit,
    "handle_error": _judge,
}
