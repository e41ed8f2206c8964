"""
Units of work against a real PostgreSQL: killed, stopped, started again, in conflict, and asked for too much.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from resilience import (
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    ConsecutiveFailures,
    Pipeline,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.integrations.sqlalchemy import (
    CommitUnknownError,
    DatabaseManager,
    is_outage,
    is_transient,
    sqlstate,
)
from resilience.testing import Blackhole, ChaosProxy
from tests.integrations.postgres import Postgres, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "it can")

_PATIENCE = 60.0
_numbers = itertools.count(1)
DRIVERS = ["asyncpg", "psycopg"]


@pytest.fixture(scope="module")
def lasting() -> Iterator[Postgres]:
    server = Postgres()

    async def prepare() -> None:
        engine = create_async_engine(server.url())
        async with engine.begin() as connection:
            for statement in (
                "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL)",
                "CREATE TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
                "CREATE ROLE narrow LOGIN CONNECTION LIMIT 1",
                "CREATE SEQUENCE commits",
                "CREATE TABLE refused (id int)",
                """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF nextval('commits') = 1 THEN RAISE EXCEPTION USING ERRCODE = '40001'; END IF;
                   RETURN NULL; END $$""",
                """CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON refused
                   DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()""",
            ):
                await connection.execute(text(statement))
        await engine.dispose()

    try:
        server.create()
        asyncio.run(prepare())
        yield server
    finally:
        server.remove()


@pytest.fixture
def server(lasting: Postgres) -> Postgres:
    if lasting.process.poll() is not None:
        lasting.start()

    async def empty() -> None:
        engine = create_async_engine(lasting.url())
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE accounts, once, refused"))
            await connection.execute(text("INSERT INTO accounts VALUES (1, 100), (2, 100)"))
        await engine.dispose()

    asyncio.run(empty())
    return lasting


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def patiently() -> Any:
        async with asyncio.timeout(_PATIENCE):
            return await main()

    return asyncio.run(patiently())


def guards(name: str, **given: Any) -> Any:
    """The default policies, impatient."""
    breaker = CircuitBreaker(
        f"{name}-{next(_numbers)}",
        on=is_outage,
        trip=ConsecutiveFailures(given.get("failures", 5)),
        break_duration=given.get("break_duration", 60.0),
    )
    retry = Retry(given.get("attempts", 3), on=is_transient, wait=lambda _: 0.01)
    return Pipeline(retry, breaker, Timeout(given.get("timeout", 50.0))), breaker


def database(server: Postgres, driver: str = "asyncpg", **given: Any) -> DatabaseManager:
    """One on the server; the engine's own arguments in ``engine``."""
    number = next(_numbers)
    options = {"pool_pre_ping": True, "pool_timeout": 5.0} | given.pop("engine", {})
    engine = create_async_engine(server.url(driver, given.pop("user", "postgres")), **options)
    reads, writes = (given.pop(kind, None) or guards(kind)[0] for kind in ("reads", "writes"))
    return DatabaseManager(engine, name=f"db-{number}", reads=reads, writes=writes, **given)


async def balance(session: AsyncSession, account: int = 1) -> int:
    found = await session.execute(
        text("SELECT balance FROM accounts WHERE id = :id"), {"id": account}
    )
    answer: int = found.scalar_one()
    return answer


async def deposit(session: AsyncSession, amount: int = 1, account: int = 1) -> None:
    await session.execute(
        text("UPDATE accounts SET balance = balance + :amount WHERE id = :id"),
        {"amount": amount, "id": account},
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_serialization_failure_runs_the_unit_again(server, driver):
    """
    Issue 6.2: 40001; the second attempt reads what the rival wrote, so that no update is lost.
    """
    seen: list[int] = []

    async def main() -> int:
        async with database(server, driver, engine={"isolation_level": "REPEATABLE READ"}) as db:

            async def unit(session: AsyncSession) -> None:
                seen.append(await balance(session))
                if len(seen) == 1:
                    async with db.engine.begin() as rival:
                        await rival.execute(text("UPDATE accounts SET balance = 500 WHERE id = 1"))
                await deposit(session)

            await db.write(unit)
            return await db.read(balance)

    assert (501, [100, 500]) == (run(main), seen)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_deadlock_runs_its_victim_again(server, driver):
    """
    Issue 6.2: 40P01; two units lock two rows crosswise, and both are done.
    """
    attempts: list[int] = []

    async def main() -> list[int]:
        both = asyncio.Barrier(2)
        async with database(server, driver) as db:

            def unit(first: int, second: int) -> Any:
                async def crosswise(session: AsyncSession) -> None:
                    attempts.append(first)
                    await deposit(session, account=first)
                    if attempts.count(first) == 1:
                        await both.wait()
                    await deposit(session, account=second)

                return crosswise

            await asyncio.gather(db.write(unit(1, 2)), db.write(unit(2, 1)))
            return [await db.read(lambda session, n=n: balance(session, n)) for n in (1, 2)]

    assert [102, 102] == run(main)
    assert 3 == len(attempts)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_terminated_connection_is_replaced(server, driver):
    """
    Issue 6.2: 57P01 in the middle of a unit.
    """
    pids: list[int] = []

    async def main() -> int:
        async with database(server, driver) as db:

            async def unit(session: AsyncSession) -> None:
                pids.append((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())
                await deposit(session)
                if len(pids) == 1:
                    await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

            await db.write(unit)
            return await db.read(balance)

    assert 101 == run(main)
    assert 2 == len(set(pids))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_is_killed_in_the_middle(server, driver):
    """
    Issue 6.2: ``kill -9`` and a restart within a unit; it is done once.
    """
    attempts: list[int] = []

    async def main() -> int:
        async with database(server, driver) as db:

            async def unit(session: AsyncSession) -> None:
                attempts.append(1)
                await deposit(session)
                if len(attempts) == 1:
                    server.restart()
                await deposit(session)

            await db.write(unit)
            return await db.read(balance)

    assert (102, 2) == (run(main), len(attempts))


@pytest.mark.parametrize("driver", DRIVERS)
def test_open_reads_fall_back_and_open_writes_fail(server, driver):
    """
    Issue 6.2: the server is gone: reads are answered by a value or a function, writes know when to come again.

    Both recover.
    """

    async def main() -> None:
        reads, reading = guards("down-reads", failures=2, attempts=2)
        writes, writing = guards("down-writes", failures=2, attempts=2)
        async with database(server, driver, reads=reads, writes=writes) as db:
            assert 100 == await db.read(balance)
            server.kill()
            with pytest.raises(DBAPIError) as caught:
                await db.read(balance, fallback=0)  # the circuit was closed: an error is an error
            assert is_transient(caught.value)
            assert (CircuitState.OPEN, CircuitState.CLOSED) == (reading.state, writing.state)
            assert [] == await db.read(balance, fallback=[])

            async def kept(error: Exception) -> str:
                return type(error).__name__

            assert "CircuitOpenError" == await db.read(balance, fallback=kept)
            with pytest.raises(CircuitOpenError):
                await db.read(balance)
            with pytest.raises(DBAPIError):
                await db.write(deposit)
            with pytest.raises(CircuitOpenError) as rejected:
                await db.write(deposit)
            assert 0 < (rejected.value.retry_after or 0) <= 60
            health = await db.check()
            assert not health.ok
            assert health.error is not None
            server.start()
            assert (await db.check()).ok
            reading.reset()
            writing.reset()
            await db.write(deposit)
            assert 101 == await db.read(balance)

    run(main)


@pytest.mark.parametrize(
    ("driver", "where"),
    # psycopg spends 5 s on asking the server to cancel a statement before it gives up
    [("asyncpg", "statement"), ("asyncpg", "between"), ("psycopg", "between")],
)
def test_a_server_that_hangs(server, driver, where):
    """
    Issue 6.2: SIGSTOP: the call ends by its own clock, whatever the unit waits for, and the breaker counts it.

    After SIGCONT all is well, and nothing of the unit is there.
    """

    async def main() -> None:
        writes, breaker = guards("hung", timeout=1.0)
        given = {"pool_timeout": 0.5}
        async with database(server, driver, writes=writes, engine=given) as db:

            async def unit(session: AsyncSession) -> None:
                await deposit(session)
                server.pause()
                if where == "statement":
                    await deposit(session)
                else:
                    await asyncio.Event().wait()

            try:
                with pytest.raises(TimeoutExceededError):
                    await db.write(unit)
                assert 1 == breaker.snapshot().failures
                assert not (await db.check(timeout=0.5)).ok
            finally:
                server.go_on()
            assert 100 == await db.read(balance)

    run(main)


def at_commit(db: DatabaseManager, action: Callable[[], None]) -> list[int]:
    """Do something between the last statement and the first COMMIT; how many were sent."""
    commits: list[int] = []

    @event.listens_for(db.engine.sync_engine, "commit")
    def _(_: Any) -> None:
        commits.append(1)
        if len(commits) == 1:
            action()

    return commits


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_commit_of_unknown_fate_is_not_repeated(server, driver):
    """
    Issue 6.2: the server dies while COMMIT is under way. Nobody knows, so a write is not done again.
    """

    async def main() -> None:
        writes, breaker = guards("fate")
        async with database(server, driver, writes=writes) as db:
            commits = at_commit(db, server.restart)
            with pytest.raises(CommitUnknownError) as caught:
                await db.write(deposit)
            assert isinstance(caught.value.__cause__, DBAPIError)
            assert (1, 1) == (len(commits), breaker.snapshot().failures)
            assert 1 == db.snapshot().commits_unknown

    run(main)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_write_that_is_there_is_not_there_twice(server, driver):
    """
    Issue 6.2: COMMIT arrives, its answer does not, and the connection is reset: another attempt would deposit twice.
    """

    async def main() -> None:
        async with (
            ChaosProxy("127.0.0.1", server.port) as proxy,
            database(server, driver) as direct,
        ):
            engine = create_async_engine(server.url(driver, port=proxy.port))
            async with DatabaseManager(engine, name=f"proxied-{driver}") as db:
                silent = asyncio.Event()

                def fall_silent() -> None:
                    proxy.add(Blackhole(direction="down"))
                    silent.set()

                at_commit(db, fall_silent)
                writing = asyncio.create_task(db.write(deposit))
                await silent.wait()
                while 101 != await direct.read(balance):  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.01)
                proxy.clear()
                proxy.reset()
                with pytest.raises(CommitUnknownError):
                    await writing
                assert 101 == await db.read(balance)

    run(main)


@pytest.mark.parametrize("how", ["idempotent", "read"])
def test_a_unit_that_may_run_twice_does(server, how):
    """
    The same for a read, and for a write whose author says that twice is once.
    """

    async def main() -> None:
        async with database(server) as db:
            commits = at_commit(db, server.restart)
            if how == "read":
                assert 100 == await db.read(balance)
            else:
                await db.write(deposit, idempotent=True)
            assert (2, 0) == (len(commits), db.snapshot().commits_unknown)

    run(main)


def test_a_retry_of_everything_does_not_repeat_a_commit(server):
    """
    Whatever policies a user brings: a unit whose COMMIT was not answered does not run again.
    """
    attempts: list[int] = []

    async def main() -> None:
        everything = Retry(3, on=Exception, wait=lambda _: 0.0)
        async with database(server, writes=everything) as db:
            at_commit(db, server.restart)

            async def unit(session: AsyncSession) -> None:
                attempts.append(1)
                await deposit(session)

            with pytest.raises(CommitUnknownError):
                await db.write(unit)

    run(main)
    assert 1 == len(attempts)


def test_a_commit_that_is_cut_off_is_of_unknown_fate(server):
    """
    Our own clock ends while COMMIT waits for a server that hangs; after SIGCONT it may be there.
    """

    async def main() -> None:
        writes, _ = guards("cut", timeout=1.0)
        async with database(server, writes=writes, engine={"pool_timeout": 0.5}) as db:
            at_commit(db, server.pause)
            try:
                with pytest.raises(CommitUnknownError) as caught:
                    await db.write(deposit)
                assert isinstance(caught.value.__cause__, TimeoutExceededError)
            finally:
                server.go_on()

    run(main)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_commit_that_is_refused(server, driver):
    """
    What the database says to a COMMIT is an answer: a deferred constraint is raised as it is, 40001 is tried again.
    """

    async def main() -> None:
        async with database(server, driver) as db:

            async def twice(session: AsyncSession) -> None:
                await session.execute(text("INSERT INTO once VALUES (1), (1)"))

            with pytest.raises(IntegrityError) as caught:
                await db.write(twice)
            assert "23505" == sqlstate(caught.value)

            attempts: list[int] = []

            async def refused(session: AsyncSession) -> None:
                if not attempts:
                    await session.execute(text("SELECT setval('commits', 1, false)"))
                attempts.append(1)
                await session.execute(text("INSERT INTO refused VALUES (1)"))

            await db.write(refused)
            assert 2 == len(attempts)
            assert 0 == db.snapshot().commits_unknown

    run(main)


@pytest.mark.parametrize("driver", DRIVERS)
def test_too_many_connections(server, driver):
    """
    Issue 6.2: 53300 is tried again until somebody leaves.
    """
    states: list[str | None] = []

    async def main() -> None:
        async with database(server, driver, user="narrow") as rival:
            leave = asyncio.Event()

            async def stay(session: AsyncSession) -> None:
                await session.execute(text("SELECT 1"))
                inside.set()
                await leave.wait()

            inside = asyncio.Event()
            staying = asyncio.create_task(rival.read(stay))
            await inside.wait()

            def worth_it(error: Exception) -> bool:
                states.append(sqlstate(error))
                leave.set()
                return is_transient(error)

            patient = Retry(200, on=worth_it, wait=lambda _: 0.05)
            async with database(server, driver, user="narrow", reads=patient) as db:
                reading = asyncio.create_task(db.read(one))
                await leave.wait()
                await staying
                await rival.aclose()
                assert 1 == await reading

    run(main)
    # libpq tells no SQLSTATE when connecting fails, so with psycopg it is a connection that never came to be.
    assert {"53300" if driver == "asyncpg" else None} == set(states)


async def one(session: AsyncSession) -> int:
    answer: int = (await session.execute(text("SELECT 1"))).scalar_one()
    return answer


def test_an_answer_is_no_outage(server):
    """
    A statement that is wrong, a constraint: the database is well, and nothing is tried again.
    """
    attempts: list[int] = []

    async def main() -> None:
        writes, breaker = guards("answers", failures=1)
        async with database(server, writes=writes) as db:

            async def wrong(session: AsyncSession) -> None:
                attempts.append(1)
                await session.execute(text("SELECT nothing"))

            with pytest.raises(ProgrammingError):
                await db.write(wrong)
            assert CircuitState.CLOSED is breaker.state

    run(main)
    assert 1 == len(attempts)


def test_a_statement_that_takes_too_long_counts(server):
    """
    57014 by ``statement_timeout``: against the database, and not tried again.
    """

    async def main() -> None:
        reads, breaker = guards("slow", failures=1)
        async with database(server, reads=reads) as db:

            async def slow(session: AsyncSession) -> None:
                await session.execute(text("SET LOCAL statement_timeout = 1"))
                await session.execute(text("SELECT pg_sleep(60)"))

            with pytest.raises(DBAPIError) as caught:
                await db.read(slow)
            assert ("57014", CircuitState.OPEN) == (sqlstate(caught.value), breaker.state)

    run(main)


def test_the_drivers_own_clock_counts(server):
    """
    The ``command_timeout`` of asyncpg raises a TimeoutError that SQLAlchemy would pass as it is.
    """

    async def main() -> None:
        reads, breaker = guards("command", failures=1)
        given = {"connect_args": {"command_timeout": 0.2}, "pool_pre_ping": False}
        async with database(server, reads=reads, engine=given) as db:

            async def slow(session: AsyncSession) -> None:
                await session.execute(text("SELECT pg_sleep(60)"))

            with pytest.raises(OperationalError) as caught:
                await db.read(slow)
            assert isinstance(caught.value.orig, TimeoutError)
            assert CircuitState.OPEN is breaker.state

    run(main)


def test_a_server_that_hangs_does_not_hold_the_end(server):
    """
    Connections that nobody answers on are dropped when the manager is closed.
    """

    async def main() -> None:
        db = database(server)
        await db.read(balance)
        server.signal(signal.SIGSTOP)
        try:
            assert await db.aclose()
        finally:
            server.go_on()

    run(main)
