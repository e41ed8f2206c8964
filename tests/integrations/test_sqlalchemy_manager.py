"""
What a DatabaseManager does that needs no server: the pool's limit, the end, what it takes, on a file of SQLite.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import sqlite3
from typing import Any

import pytest
import trio
from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitIsolatedError,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    Hedge,
    Pipeline,
    RejectedError,
    Retry,
    SingleFlight,
    Timeout,
)
from resilience.integrations.sqlalchemy import (
    CommitUnknownError,
    DatabaseManager,
    PoolFullError,
    is_outage,
    is_transient,
    sqlstate,
)
from resilience.integrations.sqlalchemy.arguments import FIELDS

_numbers = itertools.count(1)


class _DriverError(Exception):
    def __init__(self, state: object) -> None:
        super().__init__()
        self.sqlstate = state


def _wrapped(state: object, *, lost: bool = False) -> exc.DBAPIError:
    return exc.DBAPIError("SELECT 1", None, _DriverError(state), connection_invalidated=lost)


@pytest.fixture
def url(tmp_path):
    path = tmp_path / "data.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    return f"sqlite+aiosqlite:///{path}"


def managed(url: Any, **given: Any) -> DatabaseManager:
    return DatabaseManager(url, **({"name": f"file-{next(_numbers)}"} | given))


async def note(session: AsyncSession) -> None:
    await session.execute(text("INSERT INTO notes VALUES ('x')"))


async def count(session: AsyncSession) -> int:
    found: int = (await session.execute(text("SELECT count(*) FROM notes"))).scalar_one()
    return found


def test_a_unit_is_committed_or_undone(url):
    """
    Issue 6.2: what returns is there, what raises is not, and its error is raised itself.
    """
    error = KeyError("mine")

    async def fails(session: AsyncSession) -> None:
        await note(session)
        raise error

    async def main() -> None:
        async with managed(url) as db:
            await db.write(note)
            with pytest.raises(KeyError) as caught:
                await db.write(fails)
            assert caught.value is error
            assert 1 == await db.read(count)
            seen = db.snapshot()
            assert (1, 2, 0, False) == (seen.reads, seen.writes, seen.in_flight, seen.closed)
            assert ("AsyncAdaptedQueuePool", 0) == (seen.pool.kind, seen.pool.in_use)
            assert [f"{db.name}-reads", f"{db.name}-writes"] == [
                each.name for each in seen.breakers
            ]

    asyncio.run(main())


def test_a_full_pool_is_not_the_databases_fault(url):
    """
    Issue 6.2: our overload: the unit never runs, nothing is tried again, and no breaker counts it, whatever it names.
    """
    breaker = CircuitBreaker("full", on=Exception, trip=ConsecutiveFailures(1))
    guard = Pipeline(Retry(3, on=is_transient), breaker, Timeout(60))
    engine = create_async_engine(url, pool_size=1, max_overflow=0, pool_timeout=0.01)

    async def main() -> None:
        async with managed(engine, reads=guard, writes=guard) as db:
            leave, inside = asyncio.Event(), asyncio.Event()

            async def stay(_: AsyncSession) -> None:
                inside.set()
                await leave.wait()

            staying = asyncio.create_task(db.read(stay))
            await inside.wait()
            for call in (db.read, db.write):
                with pytest.raises(PoolFullError, match="connection pool") as caught:
                    await call(note)
                assert isinstance(caught.value, RejectedError)
                assert isinstance(caught.value, exc.TimeoutError)
                assert "pool_full" == caught.value.reason
            assert "PoolFullError" == (await db.check()).error
            seen = db.snapshot()
            assert (2, 1, 1) == (seen.pool_full, seen.in_flight, seen.pool.in_use)
            assert (CircuitState.CLOSED, 1) == (breaker.state, len(seen.breakers))
            assert 0 == breaker.snapshot().failures
            leave.set()
            await staying
            assert 0 == await db.read(count)

    asyncio.run(main())


def test_a_locked_file_is_tried_again(url):
    """
    SQLite's busy is what a serialization failure is elsewhere: another try, and nothing against the database.
    """
    attempts: list[int] = []
    breaker = CircuitBreaker("locked", on=is_outage, trip=ConsecutiveFailures(1))
    rival = sqlite3.connect(url.removeprefix("sqlite+aiosqlite:///"), isolation_level=None)

    def release(_: Any) -> float:
        rival.execute("COMMIT")
        return 0.0

    async def main() -> None:
        engine = create_async_engine(url, connect_args={"timeout": 0})
        guard = Pipeline(Retry(2, on=is_transient, wait=release), breaker, Timeout(60))
        async with managed(engine, writes=guard) as db:

            async def unit(session: AsyncSession) -> None:
                attempts.append(1)
                await note(session)

            rival.execute("BEGIN EXCLUSIVE")
            await db.write(unit)
            assert 1 == await db.read(count)

    asyncio.run(main())
    rival.close()
    assert (2, 0) == (len(attempts), breaker.snapshot().failures)


def test_another_services_error_is_not_the_databases(url):
    """
    A unit that asks something else: what that raises speaks neither against the database nor for another try.
    """
    attempts: list[int] = []
    breaker = CircuitBreaker("others", on=is_outage, trip=ConsecutiveFailures(1))

    async def main() -> None:
        guard = Pipeline(Retry(2, on=is_transient), breaker, Timeout(60))
        async with managed(url, reads=guard) as db:

            async def unit(_: AsyncSession) -> None:
                attempts.append(1)
                raise ConnectionRefusedError

            with pytest.raises(ConnectionRefusedError):
                await db.read(unit)

    asyncio.run(main())
    assert (1, CircuitState.CLOSED) == (len(attempts), breaker.state)


def test_a_unit_that_is_cancelled_leaves_nothing(url):
    """
    Law 33: the places of a pipeline are free, the connection is back, what was written is undone.
    """
    places = Bulkhead(1)

    async def main() -> None:
        async with managed(url, writes=places) as db:
            inside = asyncio.Event()

            async def unit(session: AsyncSession) -> None:
                await note(session)
                inside.set()
                await asyncio.Event().wait()

            writing = asyncio.create_task(db.write(unit))
            await inside.wait()
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            seen = db.snapshot()
            assert (0, 0, 0) == (seen.in_flight, seen.pool.in_use, seen.commits_unknown)
            await db.write(note)
            assert 1 == await db.read(count)

    asyncio.run(main())


def test_an_isolated_circuit_is_an_open_one(url):
    """
    Issue 6.2: a read has its fallback then too, None included; one that was not given is no fallback.
    """

    async def main() -> None:
        async with managed(url) as db:
            breaker: Any = db.reads.policies[1]
            with breaker.isolate():
                assert await db.read(count, fallback=None) is None
                with pytest.raises(CircuitIsolatedError):
                    await db.read(count)
            assert 0 == await db.read(count, fallback=None)

    asyncio.run(main())


def test_an_engine_of_others_too(url):
    """
    Two managers and code without one may use an engine: what happens outside of units is nobody's unit.
    """

    async def main() -> None:
        engine = create_async_engine(url)
        first, second = managed(engine), managed(engine)
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO notes VALUES ('bare')"))
        await first.write(note)
        assert 2 == await second.read(count)
        await first.aclose()

    asyncio.run(main())


def test_a_circuit_that_opens_within_the_call(url):
    """
    Issue 6.2: the last try of a read is rejected, which the fallback answers for.

    Without one the error of the try before is raised.
    """

    async def main() -> None:
        for fallback in ({}, {"fallback": 7}):
            breaker = CircuitBreaker(
                f"within-{next(_numbers)}", on=is_outage, trip=ConsecutiveFailures(2)
            )
            retry = Retry(3, on=is_transient, wait=lambda _: 0.0)
            async with managed(url, reads=Pipeline(retry, breaker, Timeout(60))) as db:

                async def unit(_: AsyncSession) -> None:
                    raise _wrapped("08006")

                if fallback:
                    assert 7 == await db.read(unit, **fallback)
                else:
                    with pytest.raises(exc.DBAPIError):
                        await db.read(unit)
                assert CircuitState.OPEN is breaker.state

    asyncio.run(main())


def test_another_services_circuit_is_not_the_databases(url):
    """
    A unit asks a service whose circuit is open: that is its own affair, and no fallback of the database's answers.
    """
    service = CircuitBreaker("service", on=OSError)

    async def main() -> None:
        async with managed(url) as db:

            async def unit(_: AsyncSession) -> None:
                with service.admit():
                    pass

            with service.isolate(), pytest.raises(CircuitIsolatedError):
                await db.read(unit, fallback="of the database")
            assert (0, 0) == tuple(each.failures for each in db.snapshot().breakers)

    asyncio.run(main())


def test_a_fallback_need_not_be_async(url):
    """
    A function that returns its answer is as good, as in `Fallback.using`.
    """

    async def main() -> None:
        async with managed(url) as db:
            with db.reads.policies[1].isolate():  # type: ignore[union-attr, attr-defined]
                assert "CircuitIsolatedError" == await db.read(
                    count,
                    fallback=lambda error: type(error).__name__,
                )

    asyncio.run(main())


@pytest.mark.parametrize("in_time", [True, False])
def test_the_end_waits_for_units_in_flight(url, in_time):
    """
    Issue 6.2: closing takes no more units and waits, but not for ever; no connection is left behind either way.
    """
    ended: list[object] = []

    async def main() -> None:
        db = managed(url, drain=60 if in_time else 0.01)
        leave, inside = asyncio.Event(), asyncio.Event()

        async def unit(session: AsyncSession) -> None:
            await note(session)
            inside.set()
            await leave.wait()

        pool = db.engine.sync_engine.pool
        for how in ("close", "invalidate"):
            event.listen(pool, how, lambda connection, *_: ended.append(connection))
        writing = asyncio.create_task(db.write(unit))
        await inside.wait()
        closing = asyncio.create_task(db.aclose())
        if in_time:
            await asyncio.sleep(0)
            assert db.snapshot().closed
            leave.set()
        assert in_time is await closing
        with pytest.raises(RejectedError, match="is closed") as caught:
            await db.read(count)
        assert "closed" == caught.value.reason
        leave.set()
        await writing
        assert await db.aclose()
        assert ended

    asyncio.run(main())


def test_sessions_of_the_users_own(url):
    """
    A sessionmaker decides what a session is; objects live on after the unit where it is ours.
    """

    class Mine(AsyncSession):
        pass

    async def kind(session: AsyncSession) -> tuple[type, bool]:
        return type(session), session.sync_session.expire_on_commit

    async def main() -> None:
        engine = create_async_engine(url, poolclass=NullPool)
        mine = async_sessionmaker(engine, class_=Mine)
        async with managed(engine, sessions=mine) as db:
            assert (Mine, True) == await db.read(kind)
            assert (None, None) == (db.snapshot().pool.in_use, db.snapshot().pool.idle)
        async with managed(url) as db:
            assert (AsyncSession, False) == await db.read(kind)
            assert (await db.check()).ok

    asyncio.run(main())


def test_on_trio_it_says_why_not(url):
    """
    SQLAlchemy's extension knows asyncio alone.
    """
    db = managed(url)
    for call in (lambda: db.read(count), lambda: db.write(note), db.check, db.aclose):
        with pytest.raises(RuntimeError, match="asyncio only"):
            trio.run(call)
    asyncio.run(db.engine.dispose())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{rule}")
        for field, allowed in FIELDS.items()
        for rule, value in allowed.breaches.items()
    ],
)
def test_what_it_does_not_take(field, value):
    """
    Law 20: the error names the argument.
    """
    given = {"engine": "sqlite+aiosqlite://"} | {field: value}
    with pytest.raises(ConfigurationError, match=rf"^DatabaseManager\.{field} must be"):
        DatabaseManager(**given)


def test_what_a_call_does_not_take(url):
    """
    Law 20, for units and their options.
    """

    async def main() -> None:
        async with managed(url) as db:
            for call in (db.read, db.write):
                with pytest.raises(ConfigurationError, match="an async function of the session"):
                    await call("SELECT 1")
            with pytest.raises(ConfigurationError, match=r"write\.idempotent"):
                await db.write(note, idempotent=1)
            with pytest.raises(ConfigurationError, match=r"check\.timeout"):
                await db.check(timeout=0)

    asyncio.run(main())


@pytest.mark.parametrize(
    "url", ["nonsense:secret", "sqlite://", "postgresql+nonsense://u:secret@h/d"]
)
def test_a_url_that_is_refused_is_not_shown(url):
    """
    Secrets do not reach errors; a driver that is not async is refused at once.
    """
    with pytest.raises(ConfigurationError, match=r"DatabaseManager\.engine") as caught:
        DatabaseManager(url)
    assert "secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


def test_policies_that_would_do_harm(url):
    """
    A timeout that a full pool would use up, one answer for several units, a write twice at once.
    """
    engine = create_async_engine(url, pool_timeout=2)
    refused: dict[str, Any] = {
        "longer than": {"reads": Pipeline(Timeout(2))},
        "one answer": {"reads": SingleFlight(), "name": "keeper"},
        "at once": {"writes": Hedge(0.5, idempotent=True), "name": "racer"},
    }
    for reason, given in refused.items():
        with pytest.raises(ConfigurationError, match=reason):
            managed(engine, **given)
    managed(engine, reads=Timeout(2.1), writes=Timeout(lambda _: 1))
    asyncio.run(engine.dispose())


_MEANINGS: dict[str, tuple[Exception, bool, bool]] = {
    "serialization failure": (_wrapped("40001"), True, False),
    "deadlock": (_wrapped("40P01"), True, False),
    "connection failure": (_wrapped("08006"), True, True),
    "admin shutdown": (_wrapped("57P01"), True, True),
    "crash shutdown": (_wrapped("57P02"), True, True),
    "starting": (_wrapped("57P03"), True, True),
    "too many connections": (_wrapped("53300"), True, True),
    "disk full": (_wrapped("53100"), False, True),
    "io error": (_wrapped("58030"), False, True),
    "statement timeout": (_wrapped("57014"), False, True),
    "unique violation": (_wrapped("23505"), False, False),
    "no code": (_wrapped(None), False, False),
    "a number": (_wrapped(8006), False, False),
    "invalidated": (_wrapped(None, lost=True), True, True),
    "of a socket": (OSError(), False, False),
    "full pool": (PoolFullError(policy="p"), False, False),
    "unknown commit": (CommitUnknownError("p"), False, True),
}


@pytest.mark.parametrize("case", _MEANINGS)
def test_what_errors_mean(case):
    """
    Issue 6.2: by SQLSTATE, through whatever wraps it, a circle of causes included.
    """
    error, again, outage = _MEANINGS[case]
    assert (again, outage) == (is_transient(error), is_outage(error))
    around = KeyError()
    around.__cause__ = error
    error.__cause__ = around
    assert sqlstate(around) == sqlstate(error)


def test_errors_can_be_sent():
    """
    Errors survive pickle, with their texts.
    """
    for error in (PoolFullError(policy="x"), CommitUnknownError("orders")):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (type(error), str(error)) == (type(again), str(again))
