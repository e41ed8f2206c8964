"""
One database: reads and writes under their policies, a health check, an orderly end.

The unit of work is what is guarded, not the statement: after a serialization failure or a lost connection only the
whole transaction can be tried again. The pool's own limit is never taken for the database's: a connection is had before
the unit begins, and the pool must give up before any timeout around it does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeAlias, TypeVar, cast, final, overload

from sqlalchemy import URL, event, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.pool import ConnectionPoolEntry

from resilience.doors import Policy
from resilience.errors import CircuitOpenError, ConfigurationError, RejectedError
from resilience.integrations.sqlalchemy.arguments import (
    FIELDS,
    WORK,
    check_policies,
    default_policies,
    made,
)
from resilience.integrations.sqlalchemy.errors import (
    CommitUnknownError,
    PoolFullError,
    is_refused_commit,
)
from resilience.integrations.sqlalchemy.figures import DatabaseSnapshot, Health, PoolSnapshot
from resilience.integrations.sqlalchemy.hooks import NO_FALLBACK, UNIT, Unit, follow, named
from resilience.pipeline import Pipeline, flat
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.fallback import Fallback
from resilience.validation import as_seconds, check, duration, flag

__all__ = ["DatabaseManager"]

T = TypeVar("T")
F = TypeVar("F")
Work: TypeAlias = Callable[[AsyncSession], Awaitable[T]]

_PROBE = 5.0  # seconds for the health check, and for connections to close


@final
class DatabaseManager:
    """
    A database under policies: ``await database.read(unit)``, ``await database.write(unit)``.

    A unit is an async function of a session. Each attempt has a fresh session in a transaction of its own, committed
    when the function returns and rolled back when it raises. An attempt that failed leaves nothing in the database;
    what else a unit does, it may do several times.

    Args:
        engine: An `AsyncEngine`, or the URL of an async driver: then with ``pool_pre_ping`` and a ``pool_timeout`` of
            5 s. The manager disposes of it.
        name: For breakers, errors and logs. Default ``database``.
        reads: Policies of reads. Default ``Pipeline(Retry(3, on=is_transient), CircuitBreaker(f"{name}-reads",
            on=is_outage, trip=ConsecutiveFailures(5)), Timeout(60))``.
        writes: Policies of writes. Default the same with a breaker of their own; give both one breaker to share it.
        sessions: What makes sessions. Default: of the engine, ``expire_on_commit=False``.
        drain: Seconds that `aclose` waits for units in flight. Default 30.

    Raises:
        ConfigurationError: an argument that is not allowed; a `Timeout` that the pool's timeout is not shorter than, so
            that our own overload would look like an outage; a policy that shares answers, or a hedge of writes.

    One manager serves any number of tasks of one event loop: connections belong to a loop.
    """

    def __init__(
        self,
        engine: AsyncEngine | URL | str,
        *,
        name: str = "database",
        reads: Policy[Any] | Pipeline[Any] | None = None,
        writes: Policy[Any] | Pipeline[Any] | None = None,
        sessions: async_sessionmaker[Any] | None = None,
        drain: float = 30.0,
    ) -> None:
        given = {
            "engine": engine,
            "name": name,
            "reads": reads,
            "writes": writes,
            "sessions": sessions,
            "drain": as_seconds(drain),
        }
        for field, allowed in FIELDS.items():
            if field == "engine" and not allowed.accepts(engine):
                raise ConfigurationError(
                    "DatabaseManager.engine", got=type(engine).__name__, allowed=allowed.text
                )
            check(f"DatabaseManager.{field}", given[field], allowed)
        self.name = name
        self.engine: AsyncEngine = engine if isinstance(engine, AsyncEngine) else made(engine)
        self.reads: Pipeline[Any] | Policy[Any] = (
            default_policies(f"{name}-reads") if reads is None else reads
        )
        self.writes: Pipeline[Any] | Policy[Any] = (
            default_policies(f"{name}-writes") if writes is None else writes
        )
        check_policies(self.engine, {"reads": self.reads, "writes": self.writes})
        self._sessions = sessions or async_sessionmaker(self.engine, expire_on_commit=False)
        self._drain = as_seconds(drain)
        answered = Fallback.using(_answer, on=_is_answered_for)
        self._pipelines: dict[str, Pipeline[Any]] = {
            "read": Pipeline(answered, self.reads, name=f"{name}-reads"),
            "write": Pipeline(self.writes, name=f"{name}-writes"),
        }
        self._counts = {"read": 0, "write": 0}
        self._in_flight = self._pool_full = self._commits_unknown = 0
        self._idle: asyncio.Event | None = None
        self._closed = False
        follow(self.engine.sync_engine)

    def __repr__(self) -> str:
        return f"DatabaseManager({self.name!r})"

    async def __aenter__(self) -> DatabaseManager:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # -------------------------------------------------------------------- units

    @overload
    async def read(self, unit: Work[T], /) -> T: ...
    @overload
    async def read(
        self, unit: Work[T], /, *, fallback: Callable[[Exception], Awaitable[F]]
    ) -> T | F: ...
    @overload
    async def read(self, unit: Work[T], /, *, fallback: F) -> T | F: ...
    async def read(self, unit: Work[Any], /, *, fallback: Any = NO_FALLBACK) -> Any:
        """
        Read, as often as the policies allow.

        Args:
            unit: An async function of the session.
            fallback: What is answered while the circuit is open: a value, or an async function of the error.

        Raises:
            PoolFullError: the pool had no connection.
            CircuitOpenError: the circuit is open and there is no fallback; ``retry_after`` in seconds.
            Exception: what the last attempt raised, itself.
        """
        check("DatabaseManager.read", unit, WORK)
        return await self._run("read", unit, Unit(again=True, fallback=fallback))

    async def write(self, unit: Work[T], /, *, idempotent: bool = False) -> T:
        """
        Write, as often as the policies allow, and never again after a COMMIT that was not answered.

        Args:
            unit: An async function of the session.
            idempotent: Done twice is done once, so that it may run again even then. Default False.

        Raises:
            CommitUnknownError: the write may be there or not.
            PoolFullError: the pool had no connection.
            CircuitOpenError: the circuit is open; ``retry_after`` in seconds.
            Exception: what the last attempt raised, itself.
        """
        check("DatabaseManager.write", unit, WORK)
        check("DatabaseManager.write.idempotent", idempotent, flag())
        return cast("T", await self._run("write", unit, Unit(again=idempotent)))

    async def _run(self, kind: str, work: Work[Any], unit: Unit) -> Any:
        _on_asyncio()
        if self._closed:
            raise RejectedError(f"{self!r} is closed", policy=repr(self), reason="closed")
        self._counts[kind] += 1
        self._in_flight += 1
        token = UNIT.set(unit)
        try:
            return await self._pipelines[kind](self._attempt, work, unit)
        except Exception as error:
            if not unit.unknown:
                raise
            self._commits_unknown += 1
            if isinstance(error, CommitUnknownError):
                raise
            raise CommitUnknownError(self.name) from error  # cut off by a timeout
        finally:
            UNIT.reset(token)
            self._in_flight -= 1
            if self._idle is not None and not self._in_flight:
                self._idle.set()

    async def _attempt(self, work: Work[Any], unit: Unit) -> Any:
        if unit.unknown:  # a policy of the user's that tries everything again
            raise CommitUnknownError(self.name)
        unit.committing = False
        try:
            async with self._sessions() as session, session.begin():
                await self._connect(session)
                try:
                    result = await work(session)
                except CircuitOpenError as error:
                    unit.foreign = error
                    raise
                except asyncio.CancelledError:
                    await self._hang_up(session)
                    raise
        except DBAPIError as error:
            if unit.unknown and not is_refused_commit(error):
                raise CommitUnknownError(self.name) from error
            unit.committing = False
            raise
        unit.committing = False
        return result

    async def _connect(self, session: AsyncSession) -> None:
        try:
            await session.connection()
        except PoolTimeoutError as error:
            self._pool_full += 1
            raise PoolFullError(policy=repr(self)) from error
        except OSError as error:
            raise named(error, lost=True) from error

    async def _hang_up(self, session: AsyncSession) -> None:
        """Who is cut off does not wait for a ROLLBACK that may never be answered. A file answers."""
        if self.engine.dialect.name != "sqlite":
            await session.invalidate()

    # ------------------------------------------------------------------- around

    async def check(self, *, timeout: float = _PROBE) -> Health:  # noqa: ASYNC109
        """
        Ask the database for its health, past the breakers and without telling them. It raises nothing of the database.

        Args:
            timeout: Seconds it may take, > 0. Default 5.
        """
        check("DatabaseManager.check.timeout", as_seconds(timeout), duration())
        _on_asyncio()
        began, failure = time.monotonic(), None
        try:
            async with asyncio.timeout(as_seconds(timeout)), self.engine.connect() as connection:
                await connection.execute(select(1))
        except Exception as error:  # noqa: BLE001 - whatever a driver raises: it is not healthy
            failure = (
                "PoolFullError" if isinstance(error, PoolTimeoutError) else type(error).__name__
            )
        return Health(ok=failure is None, seconds=time.monotonic() - began, error=failure)

    def snapshot(self) -> DatabaseSnapshot:
        """Its figures now."""
        pool: Any = self.engine.pool
        counts = hasattr(pool, "checkedout")
        breakers = {
            id(each): each
            for each in flat((self.reads, self.writes))
            if isinstance(each, CircuitBreaker)
        }
        return DatabaseSnapshot(
            name=self.name,
            in_flight=self._in_flight,
            reads=self._counts["read"],
            writes=self._counts["write"],
            pool_full=self._pool_full,
            commits_unknown=self._commits_unknown,
            pool=PoolSnapshot(
                kind=type(pool).__name__,
                in_use=pool.checkedout() if counts else None,
                idle=pool.checkedin() if counts else None,
            ),
            breakers=tuple(each.snapshot() for each in breakers.values()),
            closed=self._closed,
        )

    async def aclose(self) -> bool:
        """
        Take no more units, wait for those in flight, and dispose of the engine.

        Returns:
            Whether all had ended in time. A connection of one that had not is closed when it ends.
        """
        _on_asyncio()
        self._closed = True
        if self._in_flight:
            self._idle = self._idle or asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._drain):
                    await self._idle.wait()
        ended = not self._in_flight
        if not ended:
            # Disposing of an engine forgets its pool, and would forget what comes back to it.
            pool = self.engine.sync_engine.pool
            event.listen(pool, "checkin", _dropped)  # codespell:ignore checkin
        try:
            async with asyncio.timeout(_PROBE):
                await self.engine.dispose()
        except TimeoutError:  # nobody answers our goodbye
            await self.engine.dispose(close=False)
        return ended


def _is_answered_for(error: Exception) -> bool:
    unit = UNIT.get()
    return (
        isinstance(error, CircuitOpenError)
        and unit is not None
        and unit.fallback is not NO_FALLBACK
        and error is not unit.foreign
    )


async def _answer(error: Exception, _: object) -> Any:
    unit = UNIT.get()
    assert unit is not None  # noqa: S101 - `_is_answered_for` said so
    answer = unit.fallback(error) if callable(unit.fallback) else unit.fallback
    return await cast("Awaitable[Any]", answer) if hasattr(answer, "__await__") else answer


def _dropped(_: object, record: ConnectionPoolEntry) -> None:
    record.invalidate()


def _on_asyncio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "DatabaseManager runs on asyncio only, as SQLAlchemy's asyncio extension does"
        ) from None
