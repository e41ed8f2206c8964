"""
What a guarded aiohttp session sends again, counts and leaves behind: by the log of the server it asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import pickle
from collections.abc import AsyncIterator

import aiohttp
import anyio
import pytest

from resilience import (
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    Pipeline,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.deadlines import from_timeout_header
from resilience.events import RetryScheduled
from resilience.integrations._http.guard import FIELDS_OF_ADAPTERS
from resilience.integrations.aiohttp import GuardMiddleware, HttpOptions
from tests.integrations.server import LIMIT, Server

_names = itertools.count(1)


@pytest.fixture(autouse=True)
def _where_aiohttp_runs(request):
    if "backend" in request.fixturenames and request.getfixturevalue("backend") == "trio":
        pytest.skip("aiohttp runs on asyncio only")


def guard_of(**settings) -> GuardMiddleware:
    """A guard that opens at the third failure of three and waits as good as nothing."""
    options = {
        "attempts": 3,
        "backoff": 0.001,
        "minimum_calls": 3,
        "failure_ratio": 1.0,
        "attempt_timeout": 20,
        "total_timeout": 50,
        "window": 60,
    }
    ours = ("listeners", "max_hosts", "name", "pipeline", "registry")
    others = {key: settings.pop(key) for key in ours if key in settings}
    others.setdefault("name", f"aiohttp-{next(_names)}")
    return GuardMiddleware(options=HttpOptions(**(options | settings)), **others)


@contextlib.asynccontextmanager
async def session_of(
    guard=None, /, connector=None, **settings
) -> AsyncIterator[aiohttp.ClientSession]:
    guard = guard_of(**settings) if guard is None else guard
    async with aiohttp.ClientSession(connector=connector, middlewares=[guard]) as session:
        yield session


async def until(condition):
    with anyio.fail_after(LIMIT):
        while not condition():  # noqa: ASYNC110 - the server's sockets set no event
            await anyio.sleep(0.01)


def totals_of(guard):
    (breaker,) = guard.breakers
    totals = breaker.snapshot().totals
    return totals.successes, totals.failures, totals.ignored


async def test_what_may_pass_is_asked_again(backend, server):
    """Issue 4: 408, 429, 5xx and broken connections."""
    async with session_of(minimum_calls=99) as session:
        for step in ("408", "429", "500", "502", "503", "504"):
            async with session.get(f"{server.url}/{step}?do={step},200") as response:
                assert (200, "GET 200") == (response.status, await response.text())
            assert 2 == len(server.asked(f"/{step}"))


@pytest.mark.parametrize("fault", ["reset", "close"])
async def test_a_broken_connection_is_asked_as_often_as_set(backend, server, fault):
    """Law 23: aiohttp's own retry of idempotent requests does not come on top; the error has its note."""
    async with session_of(minimum_calls=99) as session:
        with pytest.raises(aiohttp.ClientConnectionError) as caught:
            await session.get(f"{server.url}/a?do={fault}")
        assert 3 == len(server.asked("/a"))
        assert "gave up after attempt 3" in caught.value.__notes__[0]

        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"{server.url}/a?do={fault}")
        assert 6 == len(server.asked("/a"))


async def test_an_answer_is_not_asked_again(backend, server):
    """RT-002, RT-021: neither 4xx nor what is not idempotent."""
    async with session_of() as session:
        for status in (200, 400, 404):
            async with session.get(f"{server.url}/{status}?do={status}") as response:
                assert status == response.status
            assert 1 == len(server.asked(f"/{status}"))
        async with session.post(f"{server.url}/post?do=503,200", data=b"990") as response:
            assert (503, "POST 503") == (response.status, await response.text())
        assert 1 == len(server.asked("/post"))
        with pytest.raises(aiohttp.ClientError) as caught:
            await session.post(f"{server.url}/reset?do=reset,200", data=b"990")
        assert "POST is not repeated without an idempotency key" in caught.value.__notes__[0]
        assert 1 == len(server.asked("/reset"))


async def test_a_key_makes_any_request_repeatable(backend, server):
    """The key and the body are the same each time."""
    async with session_of() as session:
        url = f"{server.url}/a?do=503,reset,200"
        headers = {"Idempotency-Key": "k-1"}
        async with session.post(url, json={"a": 1}, headers=headers) as response:
            assert 200 == response.status

    sent = [(each.body, each.headers["idempotency-key"]) for each in server.asked("/a")]
    assert [('{"a": 1}', "k-1")] * 3 == sent


async def test_a_body_that_can_be_read_again_is(backend, server):
    """RT-022 turned round: a file is sent from where it was."""
    async with session_of() as session:
        file = io.BytesIO(b"not this: but this")
        file.seek(10)
        async with session.put(f"{server.url}/a?do=503,reset,200", data=file) as response:
            assert 200 == response.status

    assert ["but this"] * 3 == [each.body for each in server.asked("/a")]


async def shot():
    yield b"one "
    yield b"shot"


@pytest.mark.parametrize("fault", ["503", "reset"])
async def test_a_body_that_can_be_read_once_is_sent_once(backend, server, fault):
    """RT-022: after the first byte was taken there is no second attempt."""
    async with session_of() as session:
        try:
            async with session.put(f"{server.url}/a?do={fault},200", data=shot()) as response:
                assert ("503", 503) == (fault, response.status)
        except aiohttp.ClientError as error:
            assert "reset" == fault
            assert "read only once" in error.__notes__[0]  # noqa: PT017 - either may be the answer

    assert ["one shot"] == [each.body for each in server.asked("/a")]


async def test_a_body_nobody_has_begun_to_read_may_be_sent(backend):
    """The first attempt found nobody to connect to."""
    with Server() as gone:
        port = gone.port
    back = Server(port)

    def come_back(event):
        if isinstance(event, RetryScheduled) and not hasattr(back, "port"):
            back.__enter__()

    try:
        async with session_of(listeners=[come_back], backoff=0) as session:
            response = await session.put(f"http://127.0.0.1:{port}/a", data=shot())
            assert 200 == response.status
        assert ["one shot"] == [each.body for each in back.asked("/a")]
    finally:
        back.__exit__()


async def test_retry_after_is_waited_for_or_ends_the_retry(backend, server):
    """Law 26, RT-017."""
    async with session_of(max_delay=5) as session:
        async with session.get(f"{server.url}/a?do=429+1,200") as response:
            assert 200 == response.status
        async with session.get(f"{server.url}/b?do=503+3600,200") as response:
            assert (503, "GET 503") == (response.status, await response.text())

    first, second = server.asked("/a")
    assert 1.0 <= second.at - first.at
    assert 1 == len(server.asked("/b"))


async def test_what_a_retry_refused_is_released_before_it_waits(backend, server):
    """Issue 4: of a pool of one connection, another request has it while the first waits."""
    waiting = asyncio.Event()

    def hear(event):
        if isinstance(event, RetryScheduled):
            waiting.set()

    connector = aiohttp.TCPConnector(limit=1)
    async with session_of(None, connector, listeners=[hear]) as session:

        async def one(path):
            async with session.get(server.url + path) as response:
                await response.read()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, "/a?do=503+2,200")
            with anyio.fail_after(LIMIT):
                await waiting.wait()
                await one("/b")

    assert ["/a", "/b", "/a"] == [each.path.partition("?")[0] for each in server.requests]


async def test_a_rejection_is_ours_and_the_clients(backend, server):
    """Issue 4: whoever catches either catches it; it survives pickle; the server is not asked."""
    guard = guard_of(attempts=1, minimum_calls=1)
    async with session_of(guard) as session:
        await session.get(f"{server.url}/a?do=500")
        with pytest.raises(aiohttp.ClientConnectionError) as caught:
            await session.get(f"{server.url}/a?do=500")

    error = caught.value
    assert isinstance(error, CircuitOpenError)
    assert 0 < error.retry_after <= 5
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(error), str(error)) == (type(again), str(again))
    assert 1 == len(server.asked("/a"))
    assert [f"127.0.0.1:{server.port}"] == list(guard.hosts)
    assert repr(guard).startswith("<GuardMiddleware 'aiohttp-")


async def test_a_deadline_is_ours_and_the_clients_timeout(backend, server):
    """Law 3: our own deadline is a failure, of the attempt and of the circuit."""
    guard = guard_of(attempts=2, attempt_timeout=0.3)
    async with session_of(guard) as session:
        with pytest.raises(aiohttp.ServerTimeoutError) as caught:
            await session.get(f"{server.url}/a?do=hang")

    assert isinstance(caught.value, TimeoutExceededError)
    assert isinstance(caught.value, TimeoutError)
    assert (0, 2, 0) == totals_of(guard)
    assert len(server.asked("/a")) <= 2


async def test_a_killed_server_opens_the_circuit_and_one_that_is_back_closes_it(backend, process):
    """Issue 4: refused connections are failures; the first answer after the break closes."""
    guard = guard_of(attempts=1, minimum_calls=2, failure_ratio=0.5, break_duration=0.2)
    async with session_of(guard) as session:
        async with session.get(f"{process.url}/a") as response:
            assert 200 == response.status
        process.kill()
        (breaker,) = guard.breakers
        for _ in range(20):
            with contextlib.suppress(aiohttp.ClientError):
                await session.get(f"{process.url}/a")
            if breaker.state is not CircuitState.CLOSED:
                break
        assert CircuitState.OPEN is breaker.state
        process.start()
        with anyio.fail_after(LIMIT):
            while breaker.state is not CircuitState.CLOSED:
                try:
                    async with session.get(f"{process.url}/b") as response:
                        assert 200 == response.status
                except CircuitOpenError as error:
                    await anyio.sleep(error.retry_after or 0.01)


@pytest.mark.parametrize("connect", [0.2, None], ids=["connect timeout", "no connect timeout"])
async def test_an_exhausted_pool_counts_for_nothing(backend, server, connect):
    """Issue 4: the server was never asked, whichever of the client's and our deadlines is the shorter."""
    guard = guard_of(attempts=2, minimum_calls=1, attempt_timeout=0.8)
    timeout = aiohttp.ClientTimeout(connect=connect)
    async with (
        session_of(guard, aiohttp.TCPConnector(limit=1)) as session,
        session.get(f"{server.url}/a?do=halfhang"),
    ):
        for _ in range(2):
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await session.get(f"{server.url}/b", timeout=timeout)

    assert (1, 0, 2) == totals_of(guard)
    assert [] == server.asked("/b")


async def test_a_pool_that_becomes_free_in_time(backend, server):
    """What waited for a connection and got one has the rest of its time for the server; so has what has no guard."""
    guard = guard_of()
    async with session_of(guard, aiohttp.TCPConnector(limit=1)) as session:

        async def one(path, *middlewares):
            async with session.get(server.url + path, middlewares=middlewares) as response:
                await response.read()

        await one("/first", guard)
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(one, f"/{number}?do=slow:0.1", *([guard] if number < 3 else []))

    assert (4, 0, 0) == totals_of(guard)
    assert 5 == len(server.requests)


async def test_without_a_deadline_a_pool_is_waited_for(backend, server):
    """No time to share: the wait lasts as long as the client lets it."""
    guard = guard_of(attempt_timeout=None, total_timeout=None)
    async with session_of(guard, aiohttp.TCPConnector(limit=1)) as session:

        async def one(path):
            async with session.get(server.url + path) as response:
                await response.read()

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(one, f"/{number}?do=slow:0.1")

    assert (3, 0, 0) == totals_of(guard)


async def test_no_connection_is_left_behind(backend, server):
    """Issue 4: after every kind of end the real pool has nothing in use."""
    connector = aiohttp.TCPConnector(limit=4)
    async with session_of(None, connector, attempt_timeout=0.3, minimum_calls=1000) as session:

        async def one(path):
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(server.url + path) as response:
                    await response.read()

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                for path in ("503", "503,200", "reset,503,200", "hang", "503,hang,200", "429,half"):
                    tasks.start_soon(one, f"/{number}{path}?do={path}")
        with anyio.move_on_after(0.1):
            await one("/left?do=hang")
        assert not connector._acquired
    await until(lambda: server.connected == 0)


async def test_a_caller_who_leaves_is_nobodys_failure(backend, server):
    """Law 2: cancelled while the server hangs."""
    guard = guard_of(minimum_calls=1)
    async with session_of(guard) as session:
        with anyio.move_on_after(0.2):
            await session.get(f"{server.url}/a?do=hang")

    assert (0, 0, 1) == totals_of(guard)
    await until(lambda: server.connected == 0)


async def test_nothing_is_buffered_and_a_body_may_take_longer(backend, server):
    """Issue 4: the first part is the caller's while the server holds the rest back, past the attempt's time."""
    async with session_of(attempt_timeout=0.3, total_timeout=0.5) as session:
        async with session.get(f"{server.url}/a?do=halfhang") as response:
            with anyio.fail_after(LIMIT):
                assert b"x" * 50 == await response.content.readany()
        async with session.get(f"{server.url}/b?do=drip:1") as response:
            assert "x" * 10 + "y" * 10 == await response.text()


async def test_half_a_body_where_the_headers_decide(backend, server):
    """By default what breaks off after the headers is neither retried nor counted."""
    guard = guard_of()
    async with session_of(guard) as session:
        response = await session.get(f"{server.url}/a?do=half,200")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()

    assert (1, 0, 0) == totals_of(guard)
    assert 1 == len(server.asked("/a"))


async def test_where_the_bodys_end_decides(backend, server):
    """``verdict="body"``: broken off is a failure, read or left early a success, cancelled nothing."""
    guard = guard_of(verdict="body", minimum_calls=99)
    async with session_of(guard) as session:
        response = await session.get(f"{server.url}/half?do=half")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
        assert (0, 1, 0) == totals_of(guard)

        async with session.get(f"{server.url}/whole?do=503,drip:0.1") as response:
            assert (0, 2, 0) == totals_of(guard)
            await response.read()
        assert (1, 2, 0) == totals_of(guard)

        async with session.get(f"{server.url}/early?do=halfhang"):
            pass
        assert (2, 2, 0) == totals_of(guard)

        with anyio.move_on_after(0.2):
            async with session.get(f"{server.url}/cancelled?do=halfhang") as response:
                await response.read()
        assert (2, 2, 1) == totals_of(guard)

        async with session.head(f"{server.url}/none") as response:
            assert (3, 2, 1) == totals_of(guard)


async def test_a_server_is_told_how_long_it_has(backend, server):
    """Issue 4: what an attempt has left; what the request says itself stands."""
    name = "grpc-timeout"
    async with session_of(timeout_header=name, attempt_timeout=9, total_timeout=10) as session:
        await session.get(f"{server.url}/a?do=503,200")
        await session.get(f"{server.url}/b?do=503,200", headers={name: "5S"})

    for each in server.asked("/a"):
        assert 8 < from_timeout_header(each.headers[name]) <= 9
    assert 2 == len(server.asked("/a"))
    assert ["5S", "5S"] == [each.headers[name] for each in server.asked("/b")]


async def test_redirects_are_followed_as_ever(backend, server):
    """A redirect is an answer; what it leads to is a request of its own."""
    async with session_of(minimum_calls=1) as session:
        response = await session.get(f"{server.url}/a?do=302:/b")
        assert (200, 1) == (response.status, len(response.history))

    assert ["/a?do=302:/b", "/b"] == [each.path for each in server.requests]


async def test_a_pipeline_of_ones_own_repeats_no_more_than_is_safe(backend, server):
    """Issue 4: its `Retry` knows nothing of methods and bodies, and need not."""
    error = aiohttp.ClientError
    breaker = CircuitBreaker(f"aiohttp own {backend}", on=error)
    own = Pipeline(Retry(3, on=error, wait=lambda _: 0.0), breaker, Timeout(20))
    async with session_of(pipeline=lambda _: own) as session:
        await session.get(f"{server.url}/get?do=reset,200")
        with pytest.raises(error):
            await session.post(f"{server.url}/post?do=reset,200")

    assert [2, 1] == [len(server.asked(path)) for path in ("/get", "/post")]


async def test_a_guard_inside_a_guard(backend, server):
    """Law 4: the inner one's rejection is the outer's error, by identity."""
    inner, outer = guard_of(attempts=1, minimum_calls=1), guard_of(attempts=1, minimum_calls=9)
    async with aiohttp.ClientSession(middlewares=[outer, inner]) as session:
        await session.get(f"{server.url}/a?do=500")
        with pytest.raises(CircuitOpenError) as caught:
            await session.get(f"{server.url}/a?do=500")

    assert inner.breakers[0].name == caught.value.breaker
    assert (0, 1, 1) == totals_of(outer)


async def test_hosts_by_their_names(backend, server):
    """A default port is no part of a host's name."""
    guard = guard_of(attempts=1)
    async with session_of(guard) as session:
        for url in ("http://[::1]:1/", "http://127.0.0.1:1/", "http://localhost.invalid/"):
            with contextlib.suppress(aiohttp.ClientError):
                await session.get(url)

    assert ["[::1]:1", "127.0.0.1:1", "localhost.invalid"] == list(guard.hosts)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{rule}")
        for name, allowed in FIELDS_OF_ADAPTERS.items()
        for rule, value in allowed.breaches.items()
        if not (name == "options" and value is None)  # left out: the default
    ],
)
def test_a_broken_rule_is_one_clear_error(name, value):
    """Law 21: the path of the field."""
    with pytest.raises(ConfigurationError) as caught:
        GuardMiddleware(**{name: [value] if name == "listeners" else value})

    assert f"GuardMiddleware.{name}" == caught.value.field.partition("[")[0]


def test_nothing_need_be_said():
    """Three lines: the numbers are Microsoft's."""
    guard = GuardMiddleware()

    assert () == guard.breakers
    assert HttpOptions() == guard._options
