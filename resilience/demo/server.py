"""
The service: a small HTTP/1.1 server in a process of its own, which follows a fault plan and logs every request.

Why one lane per group: the two groups are compared, so the load of one must not slow the other. Each has its own
workers and its own queue, as if it had the service for itself; the fault plan is the same.

How it is held: it binds a free loopback port and prints one line of JSON with its number. The
first byte on its standard input starts the plan, the end of its standard input ends the process. A
parent that dies closes the pipe too, so no server is ever left behind, and none needs to be killed.

A dead service closes its listening socket and resets its connections. The port stays bound meanwhile: were it free,
some client could be given it for its own end of a connection and would then connect to itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from random import Random
from typing import TextIO

import anyio
import attrs
from anyio.abc import SocketAttribute, SocketStream
from anyio.from_thread import BlockingPortal
from anyio.streams.buffered import BufferedByteReceiveStream

from resilience.demo.plan import PLANS, Kind, Mode, Plan, Span, behave
from resilience.demo.records import GROUPS, Request, Served

__all__ = ["HOST", "Config", "Service", "main", "parse_head", "serve"]

HOST = "127.0.0.1"
_HEAD_LIMIT = 8192
_HEAD_SECONDS = 5.0
_LINGER_NOT = struct.pack("ii", 1, 0)
_BODY = b'{"item": "teapot", "in stock": true}\n'
_GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


@attrs.frozen
class Config:
    """
    What the server needs to know.

    Attributes:
        plan: Name of a plan in `PLANS`.
        seconds: Length it is stretched to.
        seed: Of the draws.
        workers: Requests of one group worked on at once.
        queue: Requests of one group that may wait for a worker; the next one is answered with 503.
        backend: ``asyncio`` or ``trio``.
        log: Path of the request log.
    """

    plan: str
    seconds: float
    seed: int
    workers: int
    queue: int
    backend: str
    log: str

    def timetable(self) -> Plan:
        """The plan at its length."""
        return PLANS[self.plan].lasting(self.seconds)


def parse_head(head: bytes) -> tuple[str, int, int]:
    """Group, call and attempt from the head of a request; ValueError for anything else than our clients send."""
    first, *rest = head.decode("latin-1").split("\r\n")
    method, _, version = first.split(" ")
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in rest)
    }
    if method != "GET" or not version.startswith("HTTP/1.") or fields.get("x-group") not in GROUPS:
        raise ValueError(first)
    return fields["x-group"], int(fields.get("x-call", "")), int(fields.get("x-attempt", ""))


def _answer(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
    return head.encode() + b"\r\n\r\n" + body


_OK = _answer("200 OK", _BODY)
_UNAVAILABLE = _answer("503 Service Unavailable", b'{"error": "unavailable"}\n')
_OVERLOADED = _answer("503 Service Unavailable", b'{"error": "overloaded"}\n')
_REPLIES = {
    Kind.ANSWER: (_OK, Served.ANSWERED),
    Kind.ERROR: (_UNAVAILABLE, Served.ERROR),
    Kind.HALF: (_OK[: -len(_BODY) // 2], Served.HALF),
}
_BAD_REQUEST = _answer("400 Bad Request", b'{"error": "bad request"}\n')


def _reset_on_close(stream: SocketStream) -> None:
    """Make the coming close a reset, as when a process is killed, instead of a proper end."""
    with contextlib.suppress(OSError):  # the client was faster and the socket is gone
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - no Django here
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


class _Lane:
    """One group's share of the service."""

    def __init__(self, workers: int, queue: int) -> None:
        self._workers = anyio.Semaphore(workers)
        self._queue = queue
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        return self._waiting >= self._queue

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        try:
            self._workers.acquire_nowait()
        except anyio.WouldBlock:  # only who really waits takes a place in the queue
            self._waiting += 1
            try:
                await self._workers.acquire()
            finally:
                self._waiting -= 1
        try:
            yield
        finally:
            self._workers.release()


class Service:
    """
    Answers requests as the plan says, and logs each when it has ended.

    Args:
        config: What it is to do.
        log: Where the lines of the request log go.
        clock: Seconds, monotonic.
    """

    def __init__(self, config: Config, log: TextIO, clock: Callable[[], float]) -> None:
        self.plan: Plan = config.timetable()
        self._seed = config.seed
        self._log = log
        self._clock = clock
        self._began = clock()
        self._lanes = {group: _Lane(config.workers, config.queue) for group in GROUPS}

    def begin(self) -> None:
        """Start the plan now; before, its first phase holds."""
        self._began = self._clock()

    @property
    def now(self) -> float:
        """Seconds since the plan began."""
        return self._clock() - self._began

    async def handle(self, stream: SocketStream) -> None:
        """Serve one connection: one request, then the end."""
        async with stream:
            try:
                with anyio.fail_after(_HEAD_SECONDS):
                    head = await BufferedByteReceiveStream(stream).receive_until(
                        b"\r\n\r\n", _HEAD_LIMIT
                    )
                group, call, attempt = parse_head(head)
            except (TimeoutError, anyio.IncompleteRead, *_GONE):
                return
            except (ValueError, anyio.DelimiterNotFound):
                with contextlib.suppress(*_GONE):
                    await stream.send(_BAD_REQUEST)
                return
            request = Request(self.now, group, call, attempt, self.plan.at(self.now).mode)
            try:
                await self._serve(stream, request)
            finally:
                if request.fate is None:
                    request.fate = Served.KILLED
                    _reset_on_close(stream)
                request.end = self.now
                self._log.write(request.to_line())
                self._log.flush()

    async def _serve(self, stream: SocketStream, request: Request) -> None:
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                # A client that has left frees its worker and its place in the queue.
                with contextlib.suppress(*_GONE):
                    while True:
                        await stream.receive()
                if request.fate is None:
                    request.fate = Served.GONE
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                request.fate = await self._work(stream, request)
            except _GONE:
                request.fate = Served.GONE
            tasks.cancel_scope.cancel()

    async def _work(self, stream: SocketStream, request: Request) -> Served:
        lane = self._lanes[request.group]
        if lane.is_full:
            await stream.send(_OVERLOADED)
            return Served.SHED
        async with lane.worker():
            request.queued = self.now - request.at
            span = self.plan.at(self.now)
            progress = (self.now - span.start) / (span.end - span.start)
            rng = Random(f"{self._seed}/{request.call}/{request.attempt}")  # noqa: S311 - no secret
            behaviour = behave(span.mode, progress, rng)
            await anyio.sleep(behaviour.seconds)
            if behaviour.kind is Kind.HANG:
                await anyio.sleep_forever()
            if behaviour.kind is Kind.RESET:
                _reset_on_close(stream)
                return Served.RESET
            reply, fate = _REPLIES[behaviour.kind]
            await stream.send(reply)
            return fate


@contextlib.contextmanager
def _reserved(port: int) -> Iterator[None]:
    """Keep the port bound, and refuse connections."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, port))
        yield


async def serve(
    config: Config,
    log: TextIO,
    *,
    announce: Callable[[int], None],
    started: anyio.Event,
    stopped: anyio.Event,
) -> None:
    """
    Follow the plan: listen, and while the service is dead, do not.

    Args:
        config: What to do.
        log: Where the request log goes.
        announce: Called once with the port.
        started: Begins the plan.
        stopped: Ends the service, whatever it is doing. After the plan its last phase goes on until then.
    """
    service = Service(config, log, anyio.current_time)
    port = 0

    async def wait_until(seconds: float) -> None:
        await anyio.sleep(max(0.0, seconds - service.now))

    async def listen_until(span: Span, *, for_good: bool) -> None:
        nonlocal port
        async with (
            await anyio.create_tcp_listener(local_host=HOST, local_port=port) as listener,
            anyio.create_task_group() as connections,
        ):
            connections.start_soon(listener.serve, service.handle)
            if not port:
                port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
                announce(port)
                await started.wait()
                service.begin()
            await wait_until(span.end)
            if not for_good:
                connections.cancel_scope.cancel()

    async def follow() -> None:
        spans = service.plan.spans()
        for is_dead, group in groupby(spans, lambda each: each.mode is Mode.DEAD):
            last = tuple(group)[-1]
            if is_dead:
                with _reserved(port):
                    await wait_until(last.end)
            else:
                await listen_until(last, for_good=last is spans[-1])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await stopped.wait()
        tasks.cancel_scope.cancel()


def main(arguments: Sequence[str] | None = None, *, control: int = 0) -> int:
    """
    Run the server as a process.

    Args:
        arguments: One string, the configuration as JSON. Default: the command line's.
        control: File descriptor that starts the plan with a byte and ends the server with its end.
    """
    (text,) = sys.argv[1:] if arguments is None else arguments
    config = Config(**json.loads(text))

    with Path(config.log).open("w", encoding="utf-8") as log:
        anyio.run(_serve_until_told, config, log, control, backend=config.backend)
    return 0


async def _serve_until_told(config: Config, log: TextIO, control: int) -> None:
    started, stopped = anyio.Event(), anyio.Event()
    async with BlockingPortal() as portal:

        def obey() -> None:
            if os.read(control, 1):
                portal.call(started.set)
                while os.read(control, 64):
                    pass
            portal.call(stopped.set)

        # A daemon, and os.read: a thread that waits for input must not keep a failed server alive.
        threading.Thread(target=obey, name="control", daemon=True).start()
        await serve(config, log, announce=_announce, started=started, stopped=stopped)


def _announce(port: int) -> None:
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
