"""
ChaosProxy over real sockets: what it passes on, what it does to it, and that nothing of it stays behind.

Time is real here, so a test claims only that something took long enough, or waits for it with a generous limit.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import random
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import anyio
import anyio.abc
import pytest

from resilience import CircuitState, ConfigurationError, Pipeline, Retry, Timeout
from resilience.testing import (
    BACKENDS,
    Blackhole,
    ChaosProxy,
    Latency,
    Reset,
    Slice,
    run,
)
from resilience.testing import proxy as proxy_module
from tests.composition.support import breaker

_LIMIT = 60  # seconds after which something is lost and not late
_GRAIN = 0.01  # seconds; libuv's clock counts milliseconds and may fire early
_SHORT = 0.2  # seconds that a test waits for something to have passed


def on_every_backend(test):
    """Real time and real sockets; the function is given nothing and runs in a loop of its own."""

    @pytest.mark.parametrize("name", BACKENDS)
    @functools.wraps(test)
    def ran(name):
        if name == "asyncio+eager" and sys.version_info < (3, 12):
            pytest.skip("eager tasks came with Python 3.12")

        async def limited():
            with anyio.fail_after(_LIMIT):
                await test()

        run(limited, backend=name, real=True)

    del ran.__wrapped__  # pytest would take its signature
    return ran


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A service that sends back what it gets, and ends when the client does; its port."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                async for data in stream:
                    await stream.send(data)

    async with serving(serve) as port:
        yield port


@asynccontextmanager
async def serving(serve: Any) -> AsyncIterator[int]:
    """A service in this loop; its port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no Django
        group.cancel_scope.cancel()


async def until(condition: Any) -> None:
    """Look at it again and again; the limit is the test's."""
    for _ in range(_LIMIT * 100):
        if condition():
            return
        await anyio.sleep(0.01)
    raise AssertionError("it never came to that")


@asynccontextmanager
async def echo_behind(*toxics: Any, **options: Any) -> AsyncIterator[ChaosProxy]:
    async with echo() as port, ChaosProxy("127.0.0.1", port, toxics=toxics, **options) as proxy:
        yield proxy


def connect(proxy: ChaosProxy) -> Any:
    return anyio.connect_tcp(proxy.host, proxy.port)


async def exactly(stream: anyio.abc.SocketStream, size: int) -> bytes:
    """So many bytes."""
    found = b""
    while len(found) < size:
        found += await stream.receive(size - len(found))
    return found


async def asked(proxy: ChaosProxy, question: bytes = b"ping") -> bytes:
    """What a new connection gives for a question."""
    async with await connect(proxy) as stream:
        await stream.send(question)
        return await exactly(stream, len(question))


@on_every_backend
async def test_without_toxics_it_only_passes_on():
    """
    Both ways, in order, much or little; an end of one side reaches the other.
    """
    much = random.Random(7).randbytes(3_000_000)
    async with echo_behind() as proxy:
        assert b"ping" == await asked(proxy)
        async with await connect(proxy) as stream:
            found = []

            async def read() -> None:
                found.append(await exactly(stream, len(much)))

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await stream.send(much)
            assert [much] == found
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()


@on_every_backend
async def test_latency():
    """
    What is sent arrives later, by both ways; removed, the next answer comes at once.
    """
    async with echo_behind() as proxy, await connect(proxy) as stream:
        with proxy.suffering(Latency(_SHORT)) as same:
            assert proxy is same
            began = anyio.current_time()
            await stream.send(b"ping")
            assert b"ping" == await exactly(stream, 4)
            assert anyio.current_time() - began >= 2 * _SHORT - _GRAIN
        assert () == proxy.toxics
        await stream.send(b"pong")
        assert b"pong" == await exactly(stream, 4)


@on_every_backend
async def test_latency_one_way_does_not_add_up():
    """
    A hundred pieces on their way together are as late as one, and stay in order.
    """
    late = Latency(timedelta(seconds=_SHORT), direction="down")
    async with echo_behind(late) as proxy, await connect(proxy) as stream:
        began = anyio.current_time()
        for number in range(100):
            await stream.send(b"%02d" % number)
            await anyio.lowlevel.checkpoint()
        found = await exactly(stream, 200)
        assert b"".join(b"%02d" % number for number in range(100)) == found
        assert _SHORT - _GRAIN <= anyio.current_time() - began < 50 * _SHORT


@on_every_backend
async def test_jitter_is_drawn_from_the_given_source():
    """
    Law 22: seeded, the same again.
    """

    class Highest:
        """Draws that are as high as can be."""

        count = 0

        def random(self) -> float:
            self.count += 1
            return 1.0

    chance = Highest()
    async with echo_behind(Latency(0, jitter=_SHORT, direction="up"), rng=chance) as proxy:
        began = anyio.current_time()
        assert b"ping" == await asked(proxy)
        assert anyio.current_time() - began >= _SHORT - _GRAIN
        assert chance.count >= 1


@on_every_backend
async def test_a_black_hole_swallows_and_stays_open():
    """
    Nothing comes, nothing breaks; lifted, what is sent then arrives, and what was swallowed does not.
    """
    async with echo_behind() as proxy, await connect(proxy) as stream:
        assert b"ping" == await asked(proxy)
        proxy.add(hole := Blackhole(direction="up"))
        await stream.send(b"lost")
        with anyio.move_on_after(_SHORT) as scope:
            await stream.receive()
        assert scope.cancelled_caught
        proxy.remove(hole)
        await stream.send(b"found")
        assert b"found" == await exactly(stream, 5)


@on_every_backend
async def test_an_end_waits_until_the_black_hole_is_lifted():
    """
    The other side learns nothing while it lasts.
    """
    async with echo_behind(Blackhole()) as proxy, await connect(proxy) as stream:
        await stream.send_eof()
        with anyio.move_on_after(_SHORT) as scope:
            await stream.receive()
        assert scope.cancelled_caught
        proxy.add(Latency(0))  # a change that lifts nothing
        proxy.clear()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


@on_every_backend
async def test_a_reset_breaks_what_is_open_and_what_comes():
    """
    RST and not an end: an open connection at once, a new one when it is accepted.
    """
    async with echo_behind() as proxy, await connect(proxy) as stream:
        await stream.send(b"ping")
        assert b"ping" == await exactly(stream, 4)
        with proxy.suffering(Reset()):
            with pytest.raises(anyio.BrokenResourceError):
                await stream.receive()
            with pytest.raises((anyio.BrokenResourceError, OSError)):
                await asked(proxy)
        assert b"ping" == await asked(proxy)


@on_every_backend
async def test_a_reset_in_the_middle_of_an_answer():
    """
    Exactly so many bytes arrive, then the connection breaks.
    """
    async with echo_behind(Reset(10, direction="down")) as proxy, await connect(proxy) as stream:
        await stream.send(b"0123456789abcdef")
        arrived: list[bytes] = []

        async def read() -> None:
            while True:
                arrived.append(await stream.receive())

        with pytest.raises(anyio.BrokenResourceError):
            await read()
        # What a reset leaves unread may be dropped by the kernel.
        assert b"0123456789".startswith(b"".join(arrived))


@on_every_backend
async def test_a_reset_of_what_has_passed_already():
    """
    More has passed than is allowed by now: nothing more does.
    """
    async with echo_behind() as proxy, await connect(proxy) as stream:
        await stream.send(b"ping")
        assert b"ping" == await exactly(stream, 4)
        proxy.add(Reset(2, direction="down"))
        await stream.send(b"pong")
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


@on_every_backend
async def test_what_cannot_be_delivered_ends_the_connection():
    """
    The receiver is gone: the sender's connection is reset, in whatever moment that is found out.
    """

    class Gone:
        """A socket whose other end has left."""

        def send(self, _: bytes) -> int:
            raise BrokenPipeError

    client, other = socket.socketpair()
    with other:
        connection = proxy_module._Connection(proxy_module._Network(random.Random(7)), client)
        send, receive = anyio.create_memory_object_stream[tuple[float, bytes]](1)
        async with send, receive:
            await send.send((0.0, b"ping"))
            await connection._deliver(receive, Gone(), "up")
        assert connection._broken
        connection.close()


@on_every_backend
async def test_a_reset_on_request():
    """
    `reset` breaks what is open now, and nothing that comes later.
    """
    async with echo_behind() as proxy, await connect(proxy) as stream:
        await stream.send(b"ping")
        await exactly(stream, 4)
        assert 1 == proxy.connections
        proxy.reset()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()
        assert b"ping" == await asked(proxy)


@on_every_backend
async def test_slices():
    """
    Small pieces, one after the other; nothing is lost.
    """
    text = b"0123456789" * 3
    async with (
        echo_behind(Slice(4, delay=0.01, direction="down")) as proxy,
        await connect(proxy) as stream,
    ):
        began = anyio.current_time()
        await stream.send(text)
        first = await stream.receive()
        found = first + await exactly(stream, len(text) - len(first))
        assert text == found
        assert 4 == len(first)
        assert anyio.current_time() - began >= 0.06 - 6 * 0.002


@on_every_backend
async def test_an_upstream_that_is_not_there():
    """
    The client is let in and reset, as behind a load balancer with nothing behind.
    """
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with ChaosProxy("127.0.0.1", port) as proxy:
        with pytest.raises((anyio.BrokenResourceError, OSError)):
            await asked(proxy)
        await until(lambda: not proxy.connections)


@on_every_backend
async def test_a_reset_of_one_side_reaches_the_other():
    """
    As it came, it goes on.
    """
    met, broken = anyio.Event(), anyio.Event()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            met.set()
            with contextlib.suppress(anyio.BrokenResourceError):
                await stream.receive()
                raise AssertionError("an end in the place of a reset")
            broken.set()

    async with serving(serve) as port, ChaosProxy("127.0.0.1", port) as proxy:
        client = socket.create_connection((proxy.host, proxy.port))
        client.sendall(b"ping")
        await met.wait()
        # Linger for no time: a reset in the place of an end.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        await broken.wait()


@on_every_backend
async def test_leaving_it_closes_everything():
    """
    No task, no socket, no port: also with connections open and data on its way.
    """
    async with echo() as port:
        async with ChaosProxy("127.0.0.1", port, toxics=[Latency(1000)]) as proxy:
            there = proxy.host, proxy.port
            stream = await anyio.connect_tcp(*there)
            await stream.send(b"ping")
            await until(lambda: proxy.connections)
        assert 0 == proxy.connections
        async with stream:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        with pytest.raises(OSError, match=r"attempts failed|refused"):
            await anyio.connect_tcp(*there)
        with pytest.raises(RuntimeError, match="listens while it is entered"):
            assert proxy.port
    gc.collect()  # a socket that was left open would warn


@on_every_backend
async def test_a_block_that_is_cancelled_or_raises_closes_it_too():
    """
    Structured: however the block ends; and its error is its own, in no group.
    """
    own = KeyError("the block's")
    async with echo() as port:
        with pytest.raises(KeyError) as caught:
            async with ChaosProxy("127.0.0.1", port) as proxy:
                raise own
        assert own is caught.value
        with anyio.move_on_after(_SHORT) as scope:
            async with proxy:
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with proxy:
            assert b"ping" == await asked(proxy)


@on_every_backend
async def test_it_is_entered_once_at_a_time():
    """
    A second time would forget the first port.
    """
    async with echo_behind() as proxy:
        with pytest.raises(RuntimeError, match="entered already"):
            await proxy.__aenter__()
    with pytest.raises(RuntimeError, match="was not entered"):
        await proxy.__aexit__(None, None, None)


@on_every_backend
async def test_a_pipeline_over_a_network_that_misbehaves():
    """
    The breaker opens on resets and on a black hole, and closes when the network is well again.
    """
    around = breaker(2, on=(OSError, anyio.BrokenResourceError, anyio.EndOfStream))
    async with echo_behind() as proxy:
        guarded = Pipeline(
            Retry(3, on=(anyio.BrokenResourceError, TimeoutError), wait=lambda _: 0.0),
            around,
            Timeout(_LIMIT / 2),
        ).wrap(functools.partial(asked, proxy))
        hasty = Pipeline(around, Timeout(_SHORT)).wrap(functools.partial(asked, proxy))

        assert b"ping" == await guarded()
        with proxy.suffering(Blackhole()):
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await hasty()
        assert CircuitState.OPEN is around.state
        around.reset()
        assert b"ping" == await guarded()


@pytest.mark.parametrize(
    ("construct", "field"),
    [
        (lambda: Latency(-1), "Latency.seconds"),
        (lambda: Latency(1, jitter="x"), "Latency.jitter"),
        (lambda: Latency(1, direction="left"), "Latency.direction"),
        (lambda: Blackhole(direction=None), "Blackhole.direction"),
        (lambda: Reset(-1), "Reset.after_bytes"),
        (lambda: Slice(0), "Slice.size"),
        (lambda: Slice(1, delay=-1), "Slice.delay"),
        (lambda: ChaosProxy("127.0.0.1", 0), "ChaosProxy.port"),
        (lambda: ChaosProxy("127.0.0.1", 80, rng=7), "ChaosProxy.rng"),
        (lambda: ChaosProxy("127.0.0.1", 80, toxics=[Reset(), 7]), "ChaosProxy.add[1]"),
    ],
    ids=range(10),
)
def test_bad_input(construct, field):
    """
    Law 21: one clear error that names the field.
    """
    with pytest.raises(ConfigurationError) as caught:
        construct()
    assert field == caught.value.field


def test_it_can_be_made_outside_of_a_loop():
    """
    Law 37: nothing is bound to a loop before it is entered; removing what is not there does nothing.
    """
    proxy = ChaosProxy("127.0.0.1", 8080, toxics=[Latency(1)])
    proxy.remove(Blackhole())
    proxy.add(Reset())

    assert (Latency(1), Reset()) == proxy.toxics
    assert "8080" in repr(proxy)
    proxy.clear()
    assert () == proxy.toxics


@on_every_backend
async def test_a_client_that_is_gone_before_it_is_accepted():
    """
    The listener goes on.
    """

    class Aborted:
        """A listener whose client has left."""

        def accept(self) -> None:
            raise ConnectionAbortedError

    assert None is proxy_module._accept(Aborted())
    first = iter([None])
    accept = proxy_module._accept
    with mock.patch.object(proxy_module, "_accept", lambda at: next(first, accept) and accept(at)):
        async with echo_behind() as proxy:
            assert b"ping" == await asked(proxy)
