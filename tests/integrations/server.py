"""
A real HTTP/1.1 server that does on request what servers do wrong, and keeps a log of what it was asked.

The path says what: ``/name?do=503+1,reset,200`` answers the first request to ``/name`` with 503 and ``Retry-After: 1``,
resets the connection of the second and answers 200 from the third on; ``json:name`` and ``sse:name`` answer with what
`Server.bodies` has under that name. Threads and blocking sockets: it shares neither
loop nor library with what is tested. In the test's own process (`Server`), or in one that can be killed (`Process`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import attrs

LIMIT = 60.0  # seconds, for whatever a test waits for


@attrs.frozen
class Request:
    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: str
    at: float


class _GoneError(Exception):
    """The client closed the connection."""


class Connection:
    def __init__(self, sock: socket.socket, number: int, server: Server) -> None:
        self.sock, self.number, self.server = sock, number, server
        self.buffer = b""

    def serve(self) -> None:
        with contextlib.suppress(_GoneError, OSError), self.sock:
            while self.answer(self.request()):
                pass

    def more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise _GoneError
        self.buffer += data

    def until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(end)
        return head

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self.more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def request(self) -> Request:
        start, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, target, _ = start.split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        if headers.get("expect") == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(self.until(b"\r\n"), 16):
                body += self.exactly(size)
                self.until(b"\r\n")
            self.until(b"\r\n")
        else:
            body = self.exactly(int(headers.get("content-length", 0)))
        return Request(self.number, method, target, headers, body.decode("latin-1"), time.time())

    def answer(self, request: Request) -> bool:  # whether the connection lives on
        step = self.server.next_step(request)
        match step.partition(":"):
            case ("reset", _, _):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            case ("close", _, _):
                return False
            case ("hang", _, _):
                self.more()  # until the client goes
                return False
            case ("half", _, _):
                self.send(200, "content-length: 100", body=b"x" * 50)
                return False
            case ("halfhang", _, _):
                self.send(200, "content-length: 100", body=b"x" * 50)
                self.more()
                return False
            case ("drip", _, pause):
                self.send(200, "content-length: 20", body=b"x" * 10)
                time.sleep(float(pause))
                self.sock.sendall(b"y" * 10)
                return True
            case ("slow", _, pause):
                time.sleep(float(pause))
                self.send(200, "content-length: 2", body=b"ok")
                return True
            case ("json" | "sse" as kind, _, named):
                status, text, *headers = self.server.bodies[named]
                media = "application/json" if kind == "json" else "text/event-stream"
                length = f"content-length: {len(text.encode())}"
                self.send(status, f"content-type: {media}", length, *headers, body=text.encode())
                return True
            case ("bye", _, _):
                self.send(200, "content-length: 2", "connection: close", body=b"ok")
                return False
            case (status, _, where) if where:
                self.send(int(status), f"location: {where}", "content-length: 0")
                return True
        status, _, after = step.partition("+")
        headers = [f"retry-after: {after}"] if after else []
        if "@" in status:
            status, _, ahead = status.partition("@")
            headers = [f"retry-after: {formatdate(time.time() + float(ahead), usegmt=True)}"]
        text = b"" if request.method == "HEAD" else f"{request.method} {status}".encode()
        self.send(int(status), *headers, f"content-length: {len(text)}", body=text)
        return True

    def send(self, status: int, *headers: str, body: bytes = b"") -> None:
        head = "\r\n".join([f"HTTP/1.1 {status} Whatever", *headers, "", ""])
        self.sock.sendall(head.encode() + body)


class Server:
    """It serves while its ``with`` block lasts."""

    def __init__(self, port: int = 0, log: str = "") -> None:
        self.requests: list[Request] = []
        self.accepted = 0
        # Name -> status, text and lines of headers, for the steps ``json`` and ``sse``.
        self.bodies: dict[str, tuple[Any, ...]] = {}
        self._log = log
        self._port = port
        self._steps: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self.accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()

    def accept(self) -> None:
        for number in itertools.count(1):
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted = number
            self._open.add(sock)
            thread = threading.Thread(target=self.one, args=(sock, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def one(self, sock: socket.socket, number: int) -> None:
        try:
            Connection(sock, number, self).serve()
        finally:
            self._open.discard(sock)

    def next_step(self, request: Request) -> str:
        url = urlsplit(request.path)
        steps = parse_qs(url.query.replace("+", "%2B")).get("do", ["200"])[0].split(",")
        with self._lock:
            number = self._steps[url.path]
            self._steps[url.path] += 1
            self.requests.append(request)
            if self._log:
                with Path(self._log).open("a", encoding="utf-8") as file:
                    file.write(json.dumps(attrs.asdict(request)) + "\n")
        return steps[min(number, len(steps) - 1)]

    def asked(self, path: str) -> list[Request]:
        return [each for each in self.requests if urlsplit(each.path).path == path]

    @property
    def connected(self) -> int:
        """Connections that are open at this moment."""
        return len(self._open)


class Process:
    """The same in a process of its own, that can be killed, stopped and started again on its port."""

    def __init__(self) -> None:
        self._log = Path(tempfile.mkstemp(prefix="resilience-server-")[1])
        self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._log.unlink()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.port), str(self._log)], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def asked(self, path: str) -> list[Request]:
        lines = self._log.read_text(encoding="utf-8").splitlines()
        requests = [Request(**json.loads(line)) for line in lines]
        return [each for each in requests if urlsplit(each.path).path == path]


def main(port: str, log: str) -> None:
    with Server(int(port), log) as server:
        print(server.port, flush=True)
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
