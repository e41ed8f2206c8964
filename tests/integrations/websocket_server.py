"""
A WebSocket server in a process of its own: ``python -m tests.integrations.websocket_server PORT``.

It prints ``ready PORT``, then a line for each connection: ``+ SECONDS``. A client says what happens to it: ``close
CODE``, ``echo TEXT``, ``drop`` (the socket, without a close frame) or ``token`` (refused with 1008 unless it is good).
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import sys
import time
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def served(connection: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        await answering(connection)


async def answering(connection: ServerConnection) -> None:
    print(f"+ {time.monotonic():.6f}", flush=True)
    async for message in connection:
        word, _, rest = str(message).partition(" ")
        if word == "close":
            await connection.close(int(rest), "as you say")
            return
        if word == "drop":
            connection.transport.abort()
            return
        if word == "token" and rest != "good":
            await connection.close(1008, "bad token")
            return
        await connection.send(rest)


def answered(connection: ServerConnection, request: Any) -> Any:
    _, _, status = request.path.partition("/status/")
    if status:
        return connection.respond(http.HTTPStatus(int(status)), "no\n")
    return None


async def main(port: int) -> None:
    async with serve(served, "127.0.0.1", port, process_request=answered, backlog=2000) as server:
        print("ready", server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
