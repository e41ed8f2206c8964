"""
Connections that come back, against a real server: killed, hung, and closed with each class of code.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from resilience import CircuitBreaker, CircuitState, ConfigurationError, ConsecutiveFailures
from resilience.core.backoff import FullJitter
from resilience.integrations import websockets as ours
from resilience.integrations.websockets import Closed, Session, WebSocketManager

ROOT = Path(__file__).parents[2]
_PATIENCE = 60.0  # seconds before a test that waits for a machine gives up


@attrs.define
class Server:
    """The process; its lines are read as they come."""

    process: Any = None
    reader: Any = None
    port: int = 0
    accepted: list[float] = attrs.field(factory=list)

    def start(self) -> Server:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integrations.websocket_server", str(self.port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.port = int(self.process.stdout.readline().split()[1])
        self.reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self.reader.start()
        return self

    def _read(self, lines: Any) -> None:
        for line in lines:
            self.accepted.append(float(line.split()[1]))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    @property
    def uri(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"


@pytest.fixture(scope="module")
def lasting() -> Iterator[Server]:
    server = Server().start()
    yield server
    server.kill()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server().start()
    yield server
    server.kill()


_numbers = itertools.count(1)


def quick(name: str, **given: Any) -> WebSocketManager:
    return WebSocketManager(f"{name}-{next(_numbers)}", **({"wait": lambda _: 0.01} | given))


async def until(condition: Any) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not condition():  # noqa: ASYNC110 - of another process, which sets no event
            await asyncio.sleep(0.01)


async def said(manager: WebSocketManager, uri: str, *messages: str, **options: Any) -> list[Any]:
    """Send one message per connection; what came back, or the code that closed it."""
    answers: list[Any] = []
    waiting = list(messages)
    async with asyncio.timeout(_PATIENCE), aclosing(manager.connect(uri, **options)) as connections:
        async for connection in connections:
            if not waiting:
                break
            try:
                await connection.send(waiting.pop(0))
                answers.append(await connection.recv())
            except ConnectionClosed as closed:
                answers.append(closed.rcvd.code if closed.rcvd else None)
    return answers


@pytest.mark.parametrize("code", [1001, 1011, 1012, 1013, 1014, 3008, 4000, 4999])
def test_a_code_that_asks_for_another_try(lasting, code):
    """
    Issue 6.3: going away, server errors, restarts and what applications define connect again.
    """
    manager = quick(f"again-{code}")
    answers = asyncio.run(said(manager, lasting.uri, f"close {code}", "echo again"))
    assert [code, "again"] == answers
    assert 3 == manager.snapshot().connections


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003])
def test_a_code_that_no_other_try_mends(lasting, code):
    """
    Issue 6.3: errors that are ours end the loop with the library's error and its code; nobody hammers the server.
    """
    manager = quick(f"fatal-{code}")
    with pytest.raises(ConnectionClosedError) as caught:
        asyncio.run(said(manager, lasting.uri, f"close {code}", "echo never"))
    assert code == caught.value.rcvd.code
    assert (1, CircuitState.CLOSED) == (manager.snapshot().connections, manager.breaker.state)


def test_the_end_is_the_end(lasting):
    """
    Issue 6.3: after 1000 the loop ends, without an error.
    """
    assert [1000] == asyncio.run(said(quick("done"), lasting.uri, "close 1000", "echo never"))


def test_a_body_that_ends_first_gets_another_connection(lasting):
    """
    The code 1000 that only answers our own close is no end.
    """
    assert ["one", "two"] == asyncio.run(said(quick("ours"), lasting.uri, "echo one", "echo two"))


def test_a_lost_connection_comes_back(lasting):
    """
    Issue 6.3: 1006, no close frame.
    """
    assert [None, "back"] == asyncio.run(said(quick("lost"), lasting.uri, "drop", "echo back"))


def test_a_user_may_classify(lasting):
    """
    Codes of the application's own; a function that fails, or says nothing known, is as if it were not there.
    """
    fatal = quick("user", classify=lambda code: Closed.FATAL if code == 4001 else Closed.AGAIN)
    with pytest.raises(ConnectionClosedError):
        asyncio.run(said(fatal, lasting.uri, "close 4001", "echo never"))

    def broken(_: int | None) -> Closed:
        raise KeyError

    for classify in (broken, lambda _: None):
        manager = quick("user-broken", classify=classify)
        assert [1012, "x"] == asyncio.run(said(manager, lasting.uri, "close 1012", "echo x"))


@pytest.mark.parametrize(("status", "tries"), [(503, 3), (403, 1)])
def test_a_handshake_that_is_refused(lasting, status, tries):
    """
    Issue 6.3: 503 is tried again and counts as a failure; 403 is an answer, raised at once.
    """
    breaker = CircuitBreaker(
        f"handshake-{status}", on=ours.is_transient, trip=ConsecutiveFailures(3), overdue_after=60
    )
    manager = quick("handshake", breaker=breaker)

    async def main() -> None:
        task = asyncio.create_task(said(manager, f"{lasting.uri}status/{status}", "echo never"))
        await until(lambda: task.done() or breaker.state is CircuitState.OPEN)
        if not task.done():
            await until(lambda: manager.rejected)
            task.cancel()
        await task

    with pytest.raises(InvalidStatus if status == 403 else asyncio.CancelledError):
        asyncio.run(main())
    assert tries == manager.failures
    assert (status == 503) is (breaker.state is CircuitState.OPEN)


def test_it_resumes(lasting):
    """
    Issue 6.3: the hook gets each connection before the body, with the session's memory and the last code.
    """
    seen: list[Any] = []

    async def resume(connection: Any, session: Session) -> None:
        session.memory.setdefault("begun", session.connections)
        await connection.send("echo subscribed")
        seen.append((session.connections, session.last_code, await connection.recv()))

    session = Session()
    manager = quick("resume", resume=resume)
    answers = asyncio.run(said(manager, lasting.uri, "close 1012", "echo on", session=session))
    assert [1012, "on"] == answers
    assert [(1, None, "subscribed"), (2, 1012, "subscribed"), (3, 1000, "subscribed")] == seen
    assert {"begun": 1} == session.memory


def test_a_resumption_that_fails_is_no_connection(lasting):
    """
    What the hook raises counts as a failure to connect, where it is the network's; the connection is closed.
    """
    kept: list[Any] = []

    async def resume(connection: Any, session: Session) -> None:
        kept.append(connection)
        if session.connections < 3:
            raise TimeoutError("no answer to the subscription")

    manager = quick("no-resume", resume=resume)
    assert ["x"] == asyncio.run(said(manager, lasting.uri, "echo x"))[:1]
    assert 2 == manager.failures
    assert all(each.close_code is not None for each in kept)


def test_a_server_that_is_killed_and_started_again(server):
    """
    Issue 6.3: the loop lives through it, on the same session; the breaker opens and closes.
    """
    breaker = CircuitBreaker(
        "killed",
        on=ours.is_transient,
        trip=ConsecutiveFailures(2),
        break_duration=0.05,
        overdue_after=60,
    )
    manager = quick("killed", breaker=breaker)
    seen: list[str] = []

    async def client() -> None:
        async with aclosing(manager.connect(server.uri)) as connections:
            async for connection in connections:
                with suppress(ConnectionClosed):
                    while True:
                        await connection.send("echo tick")
                        seen.append(await connection.recv())
                        await asyncio.sleep(0.01)

    async def main() -> None:
        task = asyncio.create_task(client())
        await until(lambda: seen)
        server.kill()
        await until(lambda: breaker.snapshot().openings)
        await until(lambda: manager.rejected)
        await asyncio.to_thread(server.start)
        seen.clear()
        await until(lambda: seen)
        assert 1 == manager.snapshot().connected
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert CircuitState.CLOSED is breaker.state
    assert manager.rejected
    assert 0 == manager.snapshot().sessions


def test_a_server_that_hangs(server):
    """
    Issue 6.3: a heartbeat without an answer drops the connection, and connecting has its time.
    """
    manager = quick("hung", heartbeat=0.2, heartbeat_timeout=0.2, open_timeout=0.3)
    codes: list[Any] = []

    async def client() -> None:
        async with aclosing(manager.connect(server.uri, close_timeout=0.2)) as connections:
            async for connection in connections:
                try:
                    await connection.recv()
                except ConnectionClosed as closed:
                    codes.append(closed.sent.code if closed.sent else None)

    async def main() -> None:
        task = asyncio.create_task(client())
        await until(lambda: manager.connections)
        server.pause()
        await until(lambda: codes)
        await until(lambda: manager.failures)
        server.process.send_signal(signal.SIGCONT)
        await until(lambda: manager.connections >= 2)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert 1011 == codes[0]


def test_a_thousand_come_back_spread_out(server):
    """
    Issue 6.3: 1,000 connections through one restart: no tenth of the spread sees more than a quarter of them.
    """
    many, spread = 1000, 3.0
    manager = WebSocketManager(
        "thousand", wait=FullJitter(initial=spread, cap=2 * spread), heartbeat=None, open_timeout=30
    )

    async def client() -> None:
        async with aclosing(
            manager.connect(server.uri, proxy=None, compression=None)
        ) as connections:
            async for connection in connections:
                with suppress(ConnectionClosed):
                    await connection.recv()

    async def main() -> None:
        tasks = [asyncio.create_task(client()) for _ in range(many)]
        await until(lambda: manager.snapshot().connected == many)
        server.kill()
        server.accepted.clear()
        await asyncio.to_thread(server.start)
        await until(lambda: manager.snapshot().connected == len(server.accepted) == many)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    first = min(server.accepted)
    tenths = Counter(int((at - first) / (spread / 10)) for at in server.accepted)
    took = max(server.accepted) - first
    print(f"{many} back over {took:.1f} s, at most {max(tenths.values())} in {spread / 10:.1f} s")
    assert many == len(server.accepted)
    assert took >= spread / 2
    assert max(tenths.values()) <= many / 4


def test_a_connection_that_does_not_last_makes_the_next_wait_longer(lasting):
    """
    A server that accepts and closes is not asked in a loop; one that lasted begins the row anew.
    """
    waits: list[int] = []

    def wait(attempt: int) -> float:
        waits.append(attempt)
        return 0.0

    asyncio.run(said(quick("short", wait=wait), lasting.uri, *["close 1012"] * 3))
    asyncio.run(said(quick("long", wait=wait, stable_after=0), lasting.uri, *["close 1012"] * 3))
    assert [1, 2, 3, 1, 1, 1] == waits


def test_waits(lasting):
    """
    A function that fails or says nonsense is mended; a FullJitter draws from the manager's own source.
    """

    class Half:
        def random(self) -> float:
            return 0.5

    def broken(_: int) -> float:
        raise KeyError

    assert 2.5 == WebSocketManager("w1", rng=Half()).delay(1)
    for number, wait in enumerate((broken, lambda _: -1.0, lambda _: float("nan"), lambda _: 1e9)):
        assert 2.5 == WebSocketManager(f"w2-{number}", wait=wait, rng=Half()).delay(1)


def test_state_goes_away_with_the_connection(lasting):
    """
    Issue 6.3, section 3: breakers and sessions of connections stayed for ever; a loop that is left leaves nothing.
    """
    manager = quick("gone")

    async def main() -> None:
        async for _ in manager.connect(lasting.uri):
            assert (1, 1) == (manager.snapshot().sessions, manager.snapshot().connected)
            break

    asyncio.run(main())
    gc.collect()
    assert 0 == manager.snapshot().sessions
    assert f"WebSocketManager({manager.name!r})" == repr(manager)
    assert manager.name == manager.breaker.name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(field, value, id=f"{field}-{rule}")
        for field, allowed in ours.FIELDS.items()
        for rule, value in allowed.breaches.items()
        if not (field == "wait" and value is None)
    ],
)
def test_each_rule_of_each_setting(field, value):
    """
    Bad input: one error with the field, what it got and what is allowed.
    """
    given = {"name": "bad"} | {field: value}
    with pytest.raises(ConfigurationError) as caught:
        WebSocketManager(**given)
    assert f"WebSocketManager.{field}" == caught.value.field


def test_the_codes():
    """
    The registry: each code that can be received has a verdict.
    """
    verdicts = {code: ours.closed_by(code) for code in (None, *range(1000, 1016), 3000, 3003, 3008)}
    assert {1000} == {code for code, verdict in verdicts.items() if verdict is Closed.DONE}
    fatal = {code for code, verdict in verdicts.items() if verdict is Closed.FATAL}
    assert {1002, 1003, 1007, 1008, 1009, 1010, 1015, 3000, 3003} == fatal
