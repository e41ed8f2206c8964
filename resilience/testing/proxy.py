"""
ChaosProxy: a TCP proxy on loopback that does to a connection what networks do.

Why not a callee that raises: a client has pools, buffers and time limits of its own, and what it makes of a reset in
the middle of an answer only real sockets tell. The sockets are driven here and not by streams, because a stream says
goodbye before it closes, and a reset does not.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Self, TypeAlias, TypeVar, final

import anyio
import anyio.abc
import attrs

from resilience.clock import RNG, Rng
from resilience.validation import (
    as_seconds,
    check,
    count,
    duration,
    instance,
    one_of,
    rng,
)

__all__ = ["Blackhole", "ChaosProxy", "Direction", "Latency", "Reset", "Slice", "Toxic"]

Direction: TypeAlias = Literal["up", "down", "both"]
"""``up``: from the client to the upstream; ``down``: back; or both."""

_CHUNK = 65_536
_AHEAD = 64  # chunks that may be on their way in one direction

_DIRECTION = one_of(
    "'up', 'down' or 'both'",
    lambda value: value in {"up", "down", "both"} if isinstance(value, str) else False,
    {"none": None, "number": 1, "text": "left"},
)


@final
@attrs.frozen
class Latency:
    """
    What is sent arrives later, in order; the time does not add up over chunks that are on their way together.

    Args:
        seconds: How much later, >= 0.
        jitter: Up to so many seconds more, >= 0, drawn for each chunk. Default 0.
        direction: Default both.
    """

    seconds: float = attrs.field(converter=as_seconds, validator=duration(zero=True))
    jitter: float = attrs.field(
        default=0.0, kw_only=True, converter=as_seconds, validator=duration(zero=True)
    )
    direction: Direction = attrs.field(default="both", kw_only=True, validator=_DIRECTION)


@final
@attrs.frozen
class Blackhole:
    """
    What is sent is swallowed, and the connection stays open. An end of the stream arrives when it is lifted.

    Args:
        direction: Default both.
    """

    direction: Direction = attrs.field(default="both", kw_only=True, validator=_DIRECTION)


@final
@attrs.frozen
class Reset:
    """
    The connection is reset (RST): at once, or after so many bytes, in the middle of an answer if need be.

    Args:
        after_bytes: Bytes that pass in that direction since the connection began, >= 0. Default 0: open connections are
            reset as soon as this is added, new ones when they are accepted.
        direction: Default both: each counts its own.
    """

    after_bytes: int = attrs.field(default=0, validator=count(low=0))
    direction: Direction = attrs.field(default="both", kw_only=True, validator=_DIRECTION)


@final
@attrs.frozen
class Slice:
    """
    What is sent arrives in small pieces.

    Args:
        size: Bytes in a piece, >= 1.
        delay: Seconds after each piece, >= 0. Default 0.
        direction: Default both.
    """

    size: int = attrs.field(validator=count())
    delay: float = attrs.field(
        default=0.0, kw_only=True, converter=as_seconds, validator=duration(zero=True)
    )
    direction: Direction = attrs.field(default="both", kw_only=True, validator=_DIRECTION)


Toxic: TypeAlias = Latency | Blackhole | Reset | Slice
T = TypeVar("T", Latency, Blackhole, Reset, Slice)
_TOXIC = instance((Latency, Blackhole, Reset, Slice), "a Latency, Blackhole, Reset or Slice")
_RNG = rng()
_PORT = count(low=1, high=65_535)


@final
class _Network:
    """The toxics that are in force, as the connections ask for them."""

    def __init__(self, chance: Rng) -> None:
        self._chance = chance
        self._changed: anyio.Event | None = None
        self.toxics: tuple[Toxic, ...] = ()

    def change(self, toxics: tuple[Toxic, ...]) -> None:
        self.toxics = toxics
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def wait_for_a_change(self) -> None:
        self._changed = self._changed or anyio.Event()
        await self._changed.wait()

    def those(self, kind: type[T], direction: Direction) -> list[T]:
        return [
            each
            for each in self.toxics
            if isinstance(each, kind) and each.direction in {direction, "both"}
        ]

    def resets_at_once(self) -> bool:
        return any(isinstance(each, Reset) and not each.after_bytes for each in self.toxics)

    def lateness(self, direction: Direction) -> float:
        return sum(
            each.seconds + each.jitter * self._chance.random()
            for each in self.those(Latency, direction)
        )


@final
class ChaosProxy:
    """
    A TCP proxy on loopback whose network misbehaves on request, on asyncio and on trio, in real time.

        async with ChaosProxy("127.0.0.1", port) as proxy:
            client = connect(proxy.host, proxy.port)
            with proxy.suffering(Latency(2)):
                ...

    Toxics are added and removed while connections are open; it is driven by the tasks of one event loop. Leaving the
    block closes all sockets and ends all tasks.

    Args:
        host, port: Where the real service listens: the upstream.
        toxics: What there is from the beginning. Default nothing: it only passes on.
        rng: Where jitter is drawn from. Default: the library's own.

    Attributes:
        host, port: Where it listens itself, once entered.
        connections: Open connections.
    """

    def __init__(
        self, host: str, port: int, *, toxics: Iterable[Toxic] = (), rng: Rng | None = None
    ) -> None:
        check("ChaosProxy.port", port, _PORT)
        check("ChaosProxy.rng", rng, _RNG)
        self._upstream = host, port
        self._network = _Network(rng or RNG)
        self._open: list[_Connection] = []
        self._listener: socket.socket | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self.add(*toxics)

    def __repr__(self) -> str:
        return f"<ChaosProxy for port {self._upstream[1]}, {list(self.toxics)!r}>"

    # ----------------------------------------------------------------- toxics

    @property
    def toxics(self) -> tuple[Toxic, ...]:
        """Those in force, in the order in which they were added."""
        return self._network.toxics

    def add(self, *toxics: Toxic) -> None:
        """Put them in force, for open connections and for new ones."""
        for place, toxic in enumerate(toxics):
            check(f"ChaosProxy.add[{place}]", toxic, _TOXIC)
        self._network.change((*self.toxics, *toxics))
        if self._network.resets_at_once():
            self.reset()

    def remove(self, *toxics: Toxic) -> None:
        """Lift them, each once; what is on its way stays as late as it is."""
        left = [*self.toxics]
        for toxic in toxics:
            if toxic in left:
                left.remove(toxic)
        self._network.change(tuple(left))

    def clear(self) -> None:
        """Lift them all."""
        self._network.change(())

    @contextlib.contextmanager
    def suffering(self, *toxics: Toxic) -> Iterator[Self]:
        """Put them in force for a block."""
        self.add(*toxics)
        try:
            yield self
        finally:
            self.remove(*toxics)

    def reset(self) -> None:
        """Reset (RST) the connections that are open now."""
        for connection in [*self._open]:
            connection.reset()

    # ------------------------------------------------------------------- life

    @property
    def host(self) -> str:
        return self._address()[0]

    @property
    def port(self) -> int:
        return self._address()[1]

    @property
    def connections(self) -> int:
        return len(self._open)

    def _address(self) -> tuple[str, int]:
        if self._listener is None:
            raise RuntimeError("a ChaosProxy listens while it is entered: async with proxy: ...")
        host, port = self._listener.getsockname()[:2]
        return host, port

    async def __aenter__(self) -> Self:
        if self._listener is not None:
            raise RuntimeError("this ChaosProxy was entered already")
        self._listener = listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0)  # nothing here blocks
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._serve, listener)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> bool | None:
        group, self._group = self._group, None
        listener, self._listener = self._listener, None
        if group is None or listener is None:
            raise RuntimeError("this ChaosProxy was not entered")
        group.cancel_scope.cancel()
        try:
            return await group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as raised:
            # Connections keep their errors to themselves, so this one is the block's own.
            if raised.exceptions == (error,):
                return False
            raise  # pragma: no cover - nothing else has been seen to get into it
        finally:
            listener.close()

    async def _serve(self, listener: socket.socket) -> None:
        async with anyio.create_task_group() as group:
            while True:
                client = await _ready(listener, anyio.wait_readable, _accept)
                if client is not None:
                    group.start_soon(self._carry, _Connection(self._network, client))

    async def _carry(self, connection: _Connection) -> None:
        self._open.append(connection)
        try:
            await connection.run(*self._upstream)
        finally:
            self._open.remove(connection)
            connection.close()


@final
class _Connection:
    """A client, the upstream, and what passes between them."""

    def __init__(self, network: _Network, client: socket.socket) -> None:
        self._network = network
        self._client = client
        self._upstream: socket.socket | None = None
        self._scope = anyio.CancelScope()
        self._broken = False

    async def run(self, host: str, port: int) -> None:
        _prepare(self._client)
        if self._network.resets_at_once():
            self.reset()
        with self._scope:
            try:
                self._upstream = upstream = await _connected(host, port)
            except OSError:  # nobody listens there
                self._broken = True
                return
            async with anyio.create_task_group() as group:
                group.start_soon(self._pump, self._client, upstream, "up")
                group.start_soon(self._pump, upstream, self._client, "down")

    def reset(self) -> None:
        """End it without a goodbye."""
        self._broken = True
        self._scope.cancel()

    def close(self) -> None:
        for each in (self._client, self._upstream):
            if each is not None:
                if self._broken:
                    # Linger for no time: the kernel drops what was not sent, and sends a reset.
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.close()

    async def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        send, receive = anyio.create_memory_object_stream[tuple[float, bytes]](_AHEAD)
        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(self._deliver, receive, sink, direction)
            data = b"-"
            while data:
                try:
                    data = await _ready(source, anyio.wait_readable, _receive)
                except OSError:
                    self.reset()  # as it came, it goes on
                    return
                await send.send((anyio.current_time() + self._network.lateness(direction), data))

    async def _deliver(
        self,
        arriving: anyio.abc.ObjectReceiveStream[tuple[float, bytes]],
        sink: socket.socket,
        direction: Direction,
    ) -> None:
        network = self._network
        passed = 0
        async for due, data in arriving:
            await anyio.sleep(max(0.0, due - anyio.current_time()))
            try:
                if data:
                    passed = await self._forward(data, sink, direction, passed)
                    continue
                while network.those(Blackhole, direction):
                    await network.wait_for_a_change()
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                self.reset()
            return

    async def _forward(
        self, data: bytes, sink: socket.socket, direction: Direction, passed: int
    ) -> int:
        """Pass *data* on, piece by piece, as the toxics of each moment want it; how much has passed by then."""
        those = self._network.those
        while data and not those(Blackhole, direction):
            slices = those(Slice, direction)
            left = min((each.after_bytes for each in those(Reset, direction)), default=None)
            size = min((each.size for each in slices), default=len(data))
            piece = data[: size if left is None else max(0, min(size, left - passed))]
            if piece:
                sent = await _ready(sink, anyio.wait_writable, functools.partial(_send, piece))
                passed += sent
                data = data[sent:]
            if left is not None and passed >= left:
                self.reset()
            # A pause between pieces, in which a reset takes effect.
            await anyio.sleep(sum(each.delay for each in slices))
        return passed


def _prepare(connected: socket.socket) -> None:
    connected.settimeout(0)
    # What was sliced would be put together again.
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _connected(host: str, port: int) -> socket.socket:
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    with contextlib.ExitStack() as unless_connected:
        unless_connected.callback(made.close)
        _prepare(made)
        with contextlib.suppress(BlockingIOError):
            made.connect(address)
        await anyio.wait_writable(made)
        made.getpeername()  # raises what kept it from connecting
        unless_connected.pop_all()
    return made


async def _ready(
    which: socket.socket, wait: Callable[[Any], Any], attempt: Callable[[socket.socket], Any]
) -> Any:
    """Do it as soon as the socket lets it."""
    while True:
        try:
            return attempt(which)
        except BlockingIOError:
            await wait(which)


def _accept(listener: socket.socket) -> socket.socket | None:
    try:
        return listener.accept()[0]
    except ConnectionAbortedError:  # gone before it was here
        return None


def _send(piece: bytes, sink: socket.socket) -> int:
    return sink.send(piece)


def _receive(source: socket.socket) -> bytes:
    return source.recv(_CHUNK)
