"""
What a database's error means: worth another try, an outage, or an answer. By SQLSTATE, never by text.

Drivers hide the code in different places: SQLAlchemy's errors hold the driver's in ``orig``, its adapters keep the
original as a cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from resilience.errors import RejectedError, ResilienceError

__all__ = [
    "CommitUnknownError",
    "PoolFullError",
    "is_lost",
    "is_outage",
    "is_refused_commit",
    "is_transient",
    "sqlstate",
]

_LOST = frozenset({
    "57P01",  # admin shutdown
    "57P02",  # crash shutdown
    "57P03",  # cannot connect now: starting, or shutting down
    "57P05",  # idle session timeout
})  # fmt: skip
_AGAIN = frozenset({
    "40001",  # serialization failure
    "40P01",  # deadlock detected
    "53300",  # too many connections
})  # fmt: skip
_CANCELLED = "57014"  # by statement_timeout, mostly: the database is too slow
_BUSY = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED


@final
class PoolFullError(RejectedError, PoolTimeoutError):
    """
    No connection came free within the pool's timeout; the unit never ran.

    That is our overload and not the database's, so breakers do not count it. Also SQLAlchemy's ``TimeoutError``.
    """

    reason = "pool_full"

    def _text(self) -> str:
        return f"the connection pool of {self.policy} is full"


@final
class CommitUnknownError(ResilienceError):
    """
    The connection or our patience ended while COMMIT was under way: the write may be there or not.

    It is not tried again. Its cause is the driver's error. Look whether the write is there, or give such units an
    idempotency key of their own and ``idempotent=True``.
    """

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.name = name

    def __str__(self) -> str:
        return f"the write to {self.name!r} may have been committed or not: COMMIT was not answered"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it wraps and what caused it."""
    seen: set[int] = set()
    stack: list[object] = [error]
    while stack:
        each = stack.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        stack += [each.__cause__, getattr(each, "orig", None)]


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a driver's error, of one that SQLAlchemy wrapped, or of a cause; None where there is none."""
    for each in _chain(error):
        for attribute in ("sqlstate", "pgcode"):
            found = getattr(each, attribute, None)
            if isinstance(found, str) and len(found) == 5:  # noqa: PLR2004 - the standard's
                return found
    return None


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or never came to be."""
    if any(isinstance(each, DBAPIError) and each.connection_invalidated for each in _chain(error)):
        return True
    state = sqlstate(error)
    return state is not None and (state.startswith("08") or state in _LOST)


def _is_busy(error: BaseException) -> bool:
    codes = (getattr(each, "sqlite_errorcode", None) for each in _chain(error))
    return any(isinstance(code, int) and code & 0xFF in _BUSY for code in codes)


def is_transient(error: Exception) -> bool:
    """
    Whether the same unit of work may succeed another time.

    Serialization failures (40001), deadlocks (40P01), too many connections (53300), lost connections (class 08,
    57P01 to 57P03, 57P05, ``connection_invalidated``), and SQLite's busy. Not a full pool, not a timeout, and not a
    write of unknown fate.
    """
    if isinstance(error, ResilienceError):
        return False
    return is_lost(error) or sqlstate(error) in _AGAIN or _is_busy(error)


def is_outage(error: Exception) -> bool:
    """
    Whether the error speaks against the database, for a breaker's ``on``.

    Lost connections, insufficient resources (class 53), system errors (class 58), statements that ran out of time
    (57014, the driver's timeouts), and writes of unknown fate. Constraints, syntax, serialization failures and
    deadlocks are answers. An `OSError` that is not a driver's, such as of another service called in the unit, is
    nobody's here.
    """
    if isinstance(error, RejectedError):
        return False
    if isinstance(error, CommitUnknownError):
        return True
    state = sqlstate(error) or ""
    return (
        is_lost(error)
        or state.startswith(("53", "58"))
        or state == _CANCELLED
        or any(
            isinstance(each, DBAPIError) and isinstance(each.orig, TimeoutError)
            for each in _chain(error)
        )
    )


def is_refused_commit(error: BaseException) -> bool:
    """Whether the database itself said no to a COMMIT, so that nothing of the unit is there."""
    return not is_lost(error) and (sqlstate(error) is not None or _is_busy(error))
