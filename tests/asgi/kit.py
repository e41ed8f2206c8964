"""
An ASGI client without a server, and a real server in a thread.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from urllib.parse import unquote

import anyio
import uvicorn
from attrs import field, frozen


@frozen
class Reply:
    """What an application answered."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self):
        return json.loads(self.body)


def scope_of(method, target, *, headers=(), root=""):
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode("latin-1"),
        "root_path": root,
        "headers": [(k.encode(), v.encode()) for k, v in headers],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 5000),
    }


async def ask(app, method, target, **options):
    """One request and the whole answer; exactly one start, and nothing after the end."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        assert not sent or sent[-1].get("more_body", True)
        sent.append(message)

    await app(scope_of(method, target, **options), receive, send)
    start, *bodies = sent
    assert "http.response.start" == start["type"]
    assert all("http.response.body" == each["type"] for each in bodies)
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in start["headers"]}
    return Reply(start["status"], headers, b"".join(each["body"] for each in bodies))


class Viewer:
    """Somebody who reads the stream of events, and leaves when told to."""

    def __init__(self, app, **options):
        self.app = app
        self.scope = scope_of("GET", "/events", **options)
        self.messages = []
        self.gone = anyio.Event()
        self.ended = anyio.Event()

    async def __call__(self):
        async def receive():
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            self.messages.append(message)

        await self.app(self.scope, receive, send)
        self.ended.set()

    @property
    def seen(self):
        """The data of each event so far."""
        text = b"".join(each.get("body", b"") for each in self.messages).decode()
        blocks = [block for block in text.split("\n\n") if block.startswith("data: ")]
        return [json.loads(block.removeprefix("data: ")) for block in blocks]


@contextlib.contextmanager
def serving(app, port=0):
    """A real server in a thread; gives its address."""
    config = uvicorn.Config(
        app, port=port, log_level="critical", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        (socket,) = server.servers[0].sockets
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
