"""
What a guarded httpx or httpx2 transport sends again, how often and when: by the log of the server it asked.
"""

from __future__ import annotations

import time

import anyio
import pytest

from resilience import CircuitOpenError
from resilience.deadlines import from_timeout_header
from resilience.events import RetryScheduled
from resilience.testing import Recorder
from tests.integrations.server import LIMIT, Server


async def test_a_status_that_may_pass_is_asked_again(backend, lib, server):
    """Issue 4: 408, 429 and 5xx, as Microsoft's standard handler has it."""
    async with lib.client(minimum_calls=100) as client:
        for status in (408, 429, 500, 502, 503, 504, 599):
            response = await client.get(f"{server.url}/{status}?do={status},200")

            assert (200, "GET 200") == (response.status_code, response.text)
            assert 2 == len(server.asked(f"/{status}"))


async def test_an_answer_is_not_asked_again(backend, lib, server):
    """RT-002: what is no failure ends the retry."""
    async with lib.client() as client:
        for status in (200, 301, 400, 401, 404, 409, 410):
            response = await client.get(f"{server.url}/{status}?do={status}")

            assert status == response.status_code
            assert 1 == len(server.asked(f"/{status}"))


async def test_a_broken_connection_is_asked_again(backend, lib, server):
    """A connection that ends without an answer, gently or not."""
    async with lib.client() as client:
        response = await client.get(f"{server.url}/a?do=reset,close,200")

    assert 200 == response.status_code
    assert 3 == len(server.asked("/a"))


async def test_the_last_answer_is_the_clients(backend, lib, server):
    """Law 27, RT-003: attempts used up, the last response is returned, with its body."""
    async with lib.client(minimum_calls=10) as client:
        response = await client.get(f"{server.url}/a?do=500,502,503")

    assert (503, "GET 503") == (response.status_code, response.text)
    assert 3 == len(server.asked("/a"))


async def test_the_last_error_is_the_clients(backend, lib, server):
    """Law 23: attempts used up, the last error itself is raised, with a note."""
    async with lib.client(minimum_calls=10) as client:
        with pytest.raises(lib.module.TransportError) as caught:
            await client.get(f"{server.url}/a?do=reset")

    assert "gave up after attempt 3" in caught.value.__notes__[0]
    assert 3 == len(server.asked("/a"))


async def test_idempotent_methods_are_repeated(backend, lib, server):
    """RFC 9110, 9.2.2."""
    async with lib.client(minimum_calls=100) as client:
        for method in ("DELETE", "GET", "HEAD", "OPTIONS", "PUT", "TRACE"):
            response = await client.request(method, f"{server.url}/{method}?do=503,200")

            assert 200 == response.status_code
            assert [method] * 2 == [each.method for each in server.asked(f"/{method}")]


async def test_other_methods_are_not(backend, lib, server):
    """RT-021, H52: one request, and its answer is the client's."""
    async with lib.client() as client:
        for method in ("POST", "PATCH"):
            url = f"{server.url}/{method}?do=503,200"
            response = await client.request(method, url, content=b"990")

            assert (503, f"{method} 503") == (response.status_code, response.text)
            assert 1 == len(server.asked(f"/{method}"))


async def test_the_error_of_what_is_not_repeated_says_why(backend, lib, server):
    """Law 4: the attempt's own error, with a note."""
    async with lib.client() as client:
        with pytest.raises(lib.module.TransportError) as caught:
            await client.post(f"{server.url}/a?do=reset,200", content=b"990")

    assert "POST is not repeated without an idempotency key" in caught.value.__notes__[0]
    assert 1 == len(server.asked("/a"))


async def test_a_key_makes_any_request_repeatable(backend, lib, server):
    """Go's net/http has the same two; the key and the body are the same each time."""
    async with lib.client() as client:
        for header in ("Idempotency-Key", "x-idempotency-key"):
            url = f"{server.url}/{header}?do=503,reset,200"
            response = await client.post(url, content=b"990", headers={header: "k-1"})

            assert 200 == response.status_code
            asked = server.asked(f"/{header}")
            sent = [(each.body, each.headers[header.lower()]) for each in asked]
            assert [("990", "k-1")] * 3 == sent


async def test_a_body_that_is_there_is_sent_again_whole(backend, lib, server):
    """RT-022 turned round: what can be replayed is."""
    bodies = ({"content": b"b"}, {"content": "t"}, {"json": {"a": 1}}, {"data": {"a": "1"}})
    async with lib.client(minimum_calls=100) as client:
        for number, body in enumerate(bodies):
            response = await client.put(f"{server.url}/{number}?do=503,reset,200", **body)

            assert 200 == response.status_code
            first, second, third = (each.body for each in server.asked(f"/{number}"))
            assert first == second == third != ""


@pytest.mark.parametrize("fault", ["503", "reset"])
async def test_a_body_that_can_be_read_once_is_sent_once(backend, lib, server, fault):
    """RT-022: after the first byte was taken there is no second attempt."""

    async def body():
        yield b"one "
        yield b"shot"

    async with lib.client() as client:
        try:
            response = await client.put(f"{server.url}/a?do={fault},200", content=body())
        except lib.module.TransportError as error:
            assert "reset" == fault
            assert "read only once" in error.__notes__[0]  # noqa: PT017 - either may be the answer
        else:
            assert (503, "PUT 503") == (response.status_code, response.text)

    assert ["one shot"] == [each.body for each in server.asked("/a")]


async def test_a_body_nobody_has_begun_to_read_may_be_sent(backend, lib):
    """The first attempt found nobody to connect to, so the body is as good as new."""
    with Server() as gone:
        port = gone.port
    back = Server(port)

    async def body():
        yield b"untouched"

    def come_back(event):
        if isinstance(event, RetryScheduled) and not hasattr(back, "port"):
            back.__enter__()

    try:
        async with lib.client(listeners=[come_back], backoff=0) as client:
            response = await client.put(f"http://127.0.0.1:{port}/a", content=body())

        assert 200 == response.status_code
        assert ["untouched"] == [each.body for each in back.asked("/a")]
    finally:
        back.__exit__()


async def test_retry_after_in_seconds_is_waited_for(backend, lib, server):
    """Law 26, RT-017."""
    async with lib.client() as client:
        await client.get(f"{server.url}/a?do=429+1,200")

    first, second = server.asked("/a")
    assert 1.0 <= second.at - first.at < LIMIT


async def test_retry_after_as_a_date_is_waited_for(backend, lib, server):
    """Law 26, RT-017: an HTTP date."""
    heard = Recorder()
    async with lib.client(listeners=[heard]) as client:
        begun = time.time()
        await client.get(f"{server.url}/a?do=503@2,200")

    first, second = server.asked("/a")
    assert int(begun) + 2 <= second.at + 0.01  # a clock set by steps of the kernel's
    (scheduled,) = heard.of(RetryScheduled)
    assert 0 < scheduled.delay <= 2
    assert first.at < second.at


async def test_retry_after_of_longer_than_one_waits_ends_the_retry(backend, lib, server):
    """Law 26: refused rather than slept through; the response with its header is the client's."""
    async with lib.client(max_delay=2) as client:
        response = await client.get(f"{server.url}/a?do=503+3600,200")

    assert (503, "3600") == (response.status_code, response.headers["retry-after"])
    assert "GET 503" == response.text
    assert 1 == len(server.asked("/a"))


async def test_retry_after_past_the_deadline_is_not_waited_for(backend, lib, server):
    """Law 24: no sleep is begun that would end after the total timeout."""
    async with lib.client(total_timeout=10, attempt_timeout=5) as client:
        with anyio.fail_after(8):
            response = await client.get(f"{server.url}/a?do=503+20,200")

    assert (503, "GET 503") == (response.status_code, response.text)
    assert 1 == len(server.asked("/a"))


async def test_what_a_retry_refused_is_closed_before_it_waits(backend, lib, server):
    """Issue 4: of a pool of one connection, another request has it while the first waits."""
    inner = lib.module.AsyncHTTPTransport(limits=lib.module.Limits(max_connections=1))
    waiting = anyio.Event()

    def hear(event):
        if isinstance(event, RetryScheduled):
            waiting.set()

    async with lib.client(inner, listeners=[hear]) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(client.get, f"{server.url}/a?do=503+2,200")
        with anyio.fail_after(LIMIT):
            await waiting.wait()
            await client.get(f"{server.url}/b")

    assert ["/a", "/b", "/a"] == [each.path.partition("?")[0] for each in server.requests]


async def test_a_refused_answer_whose_repeat_was_rejected_is_still_an_answer(backend, lib, server):
    """Law 4: the circuit was isolated while the retry waited; the last answer is returned, without its body."""

    def isolate(event):
        if isinstance(event, RetryScheduled):
            for breaker in client.guarded.breakers:
                breaker.isolate()

    async with lib.client(listeners=[isolate]) as client:
        response = await client.get(f"{server.url}/a?do=503,200")

        assert (503, "") == (response.status_code, response.text)
        assert "content-length" not in response.headers
        with pytest.raises(CircuitOpenError):
            await client.get(f"{server.url}/a?do=503,200")

    assert 1 == len(server.asked("/a"))


async def test_what_an_api_says_more_exactly(backend, lib):
    """``x-should-retry`` is stronger than the status, ``retry-after-ms`` than ``Retry-After``; nonsense is not said."""
    answers = []

    async def handler(request):
        status, headers = answers.pop(0)
        return lib.module.Response(status, headers=headers)

    inner = lib.module.MockTransport(handler)
    heard = Recorder()
    async with lib.client(inner, listeners=[heard], minimum_calls=99, backoff=0) as client:
        for first, then, delay in (
            ((409, {"x-should-retry": "true"}), 200, 0.0),
            ((503, {"x-should-retry": "false"}), 503, None),
            ((503, {"x-should-retry": "perhaps"}), 200, 0.0),
            ((200, {"x-should-retry": "true"}), 200, None),
            ((429, {"retry-after-ms": "30", "retry-after": "9"}), 200, 0.03),
            ((429, {"retry-after-ms": "-1", "retry-after": "0"}), 200, 0.0),
            ((429, {"retry-after-ms": "9" * 11}), 200, 0.0),
            ((429, {"retry-after-ms": "9999999999"}), 429, None),
        ):
            answers[:] = [first, (200, {})]
            response = await client.get("http://api.example/")
            assert then == response.status_code
            assert ([] if delay is None else [delay]) == [
                each.delay for each in heard.of(RetryScheduled)
            ]
            heard.clear()


async def test_a_server_is_told_how_long_it_has(backend, lib, server):
    """Issue 4: what an attempt has left, less each time; what the request says itself stands."""
    name = "grpc-timeout"
    async with lib.client(timeout_header=name, attempt_timeout=9, total_timeout=10) as client:
        request = client.build_request("GET", f"{server.url}/a?do=503+1,200")
        await client.send(request)
        assert name not in request.headers
        await client.get(f"{server.url}/b?do=503,200", headers={name: "5S"})
    async with lib.client(
        timeout_header=name, attempt_timeout=None, total_timeout=None
    ) as unbounded:
        await unbounded.get(f"{server.url}/c")

    first, second = (from_timeout_header(each.headers[name]) for each in server.asked("/a"))
    assert 8 < first <= 9
    assert second <= 9
    assert ["5S", "5S"] == [each.headers[name] for each in server.asked("/b")]
    assert [False] == [name in each.headers for each in server.asked("/c")]


async def test_redirects_are_followed_as_ever(backend, lib, server):
    """A redirect is an answer; what it leads to is a request of its own."""
    async with lib.client(minimum_calls=1) as client:
        response = await client.get(f"{server.url}/a?do=302:/b", follow_redirects=True)

    assert (200, 1) == (response.status_code, len(response.history))
    assert ["/a?do=302:/b", "/b"] == [each.path for each in server.requests]


async def test_an_auth_flow_goes_on_as_ever(backend, lib, server):
    """401 is an answer; the flow's second request passes too, and its retry is not the flow's affair."""

    class Challenged(lib.module.Auth):
        def auth_flow(self, request):
            response = yield request
            if response.status_code == 401:
                request.headers["Authorization"] = "Bearer t"
                yield request

    async with lib.client() as client:
        response = await client.get(f"{server.url}/a?do=401,503,200", auth=Challenged())

    assert 200 == response.status_code
    tokens = [each.headers.get("authorization") for each in server.asked("/a")]
    assert [None, "Bearer t", "Bearer t"] == tokens


async def test_connections_are_kept_and_left_as_ever(backend, lib, server):
    """Keep-alive is the pool's: one connection for three answers, another after ``Connection: close``."""
    async with lib.client() as client:
        for path in ("/a", "/b", "/c?do=bye", "/d"):
            await client.get(server.url + path)

    assert [1, 1, 1, 2] == [each.connection for each in server.requests]
