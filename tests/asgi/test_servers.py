"""
Against real servers: uvicorn on asyncio, hypercorn on trio, mounted in Starlette.
"""

from __future__ import annotations

import functools
import http.client
import json
import threading
from urllib.parse import urlsplit

import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from resilience import CircuitBreaker, ConsecutiveFailures, Pipeline, Timeout
from resilience.integrations.asgi import ResilienceMiddleware
from tests.asgi.kit import serving


def fetch(address, method, path):
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def first_event(address, path, act=lambda: None):
    """The data of the first event, and of the next after *act*."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert 200 == answer.status

        def event():
            while not (line := answer.readline()).startswith(b"data: "):
                assert line
            return json.loads(line.removeprefix(b"data: "))

        found = [event()]
        act()
        return [*found, event()]
    finally:
        connection.close()


@pytest.fixture
def gate():
    return CircuitBreaker("upstream", on=OSError, trip=ConsecutiveFailures(1), break_duration=20)


@pytest.fixture
def service(gate, operations):
    """A Starlette service that guards what it depends on, sheds load, and has the operations app mounted."""
    guarded = Pipeline(gate, Timeout(2), name="orders")

    async def upstream():
        raise OSError

    async def orders(request):
        await guarded(upstream)

    async def health(request):
        return PlainTextResponse("fine")

    return Starlette(
        routes=[
            Route("/orders", orders),
            Route("/health", health),
            Mount("/ops", operations([gate], interval=60, guard=lambda _: True)),
        ],
        middleware=[Middleware(ResilienceMiddleware, shed=50, exempt=["/health"])],
    )


def test_a_starlette_service_on_uvicorn(service, gate):
    """
    A failing dependency: 500, then 503 with Retry-After; the page shows it, and resets it; the stream pushes it.
    """
    with serving(service) as address:
        assert (200, b"fine") == fetch(address, "GET", "/health")[::2]
        before, after = first_event(
            address, "/ops/events", lambda: fetch(address, "GET", "/orders")
        )
        status, headers, body = fetch(address, "GET", "/orders")
        assert (503, "circuit_open") == (status, json.loads(body)["error"])
        assert int(headers["retry-after"]) in {19, 20}
        assert b"Circuit breakers" in fetch(address, "GET", "/ops/")[2]
        status, _, body = fetch(address, "POST", "/ops/circuit-breakers/upstream/reset")
        assert (200, "closed") == (status, json.loads(body)["state"])
    assert ["closed", "open"] == [e["circuit_breakers"][0]["state"] for e in (before, after)]


def test_on_hypercorn_with_trio(service, gate):
    """
    The same under trio, stream included.
    """
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    bound, started, stop = [], threading.Event(), []

    async def main():
        over = trio.Event()
        stop.append((trio.lowlevel.current_trio_token(), over))
        async with trio.open_nursery() as nursery:
            run = functools.partial(serve, service, config, shutdown_trigger=over.wait)
            bound.extend(await nursery.start(run))
            started.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert started.wait(60)
        address = bound[0]
        before, after = first_event(
            address, "/ops/events", lambda: fetch(address, "GET", "/orders")
        )
        assert 503 == fetch(address, "GET", "/orders")[0]
    finally:
        token, over = stop[0]
        token.run_sync_soon(over.set)
        thread.join(60)
    assert not thread.is_alive()
    assert ["closed", "open"] == [e["circuit_breakers"][0]["state"] for e in (before, after)]
