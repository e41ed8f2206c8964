"""
Servers on a free port of the loopback, each in a process of its own, so that its CPU time is nobody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TypeAlias

__all__ = ["BODY", "Handler", "echo", "http", "serving"]

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

BODY = b'{"price": 42}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Each line comes back."""
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same answer to every request without a body; connections are kept alive."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(_ANSWER)
            await writer.drain()
    writer.close()


def _serve(told: Connection, handler: Handler) -> None:
    async def serve() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0, backlog=1024)
        told.send(server.sockets[0].getsockname()[1])
        # Until the other side hangs up, so that no server outlives its benchmark.
        await asyncio.to_thread(told.poll, None)

    asyncio.run(serve())


@contextmanager
def serving(handler: Handler) -> Iterator[int]:
    """A server of these connections; its port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, handler), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(30):
            raise RuntimeError("the server does not start")
        yield int(ours.recv())
    finally:
        ours.close()
        process.join(5)
        if process.is_alive():
            process.terminate()
            process.join()
