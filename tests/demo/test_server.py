"""The service, over real sockets: each way it fails, what it logs, and how its process is held."""

import errno
import importlib
import json
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute

from resilience.demo import server
from resilience.demo.clients import BrokenAnswerError, ServiceError, fetch
from resilience.demo.plan import Behaviour, Kind, Mode
from resilience.demo.records import Served, read_log
from tests.demo.support import loops, plan_of, service


def run(loop, test, *arguments):
    """Run it, and let nothing hang."""

    async def limited():
        with anyio.fail_after(60):
            await test(*arguments)

    anyio.run(limited, backend=loop)


async def ended(served, number):
    """The log, once it has so many lines."""
    while len(served.requests()) < number:  # noqa: ASYNC110 - a log tells nobody that it grows
        await anyio.sleep(0.005)
    return served.requests()


@loops
def test_a_healthy_service_answers_and_logs(loop, monkeypatch):
    """
    One request, one answer, one line with the group, the call and the attempt it came from.
    """
    plan = plan_of(monkeypatch, (Mode.HEALTHY, 5))

    async def test():
        async with service(plan) as served:
            assert b"teapot" in await fetch(served.port, "guarded", 17, 3)
            (request,) = await ended(served, 1)
            assert ("guarded", 17, 3, Mode.HEALTHY, Served.ANSWERED) == (
                request.group,
                request.call,
                request.attempt,
                request.mode,
                request.fate,
            )
            assert 0 <= request.at <= request.at + request.queued < request.end < 5

    run(loop, test)


@loops
@pytest.mark.parametrize(
    ("kind", "error", "fate"),
    [
        (Kind.ERROR, ServiceError, Served.ERROR),
        (Kind.RESET, BrokenAnswerError, Served.RESET),
        (Kind.HALF, BrokenAnswerError, Served.HALF),
    ],
    ids=["error", "reset", "half"],
)
def test_each_failure_is_an_error_for_the_client_and_a_line_in_the_log(
    loop, kind, error, fate, monkeypatch
):
    """
    A status, a reset and half a body: nothing of it is taken for an answer.
    """
    plan = plan_of(monkeypatch, (Mode.HEALTHY, 5))
    monkeypatch.setattr(server, "behave", lambda *_: Behaviour(kind, 0.0))

    async def test():
        async with service(plan) as served:
            with pytest.raises(error):
                await fetch(served.port, "bare", 1, 1)
            (request,) = await ended(served, 1)
            assert fate is request.fate

    run(loop, test)


@loops
def test_a_client_that_leaves_frees_its_worker(loop, monkeypatch):
    """
    A hanging request holds the only worker until its client has gone, then the next one gets it.
    """
    plan = plan_of(monkeypatch, (Mode.HANGING, 0.3), (Mode.HEALTHY, 5))

    async def test():
        async with service(plan, workers=1) as served:
            with anyio.move_on_after(0.4):
                await fetch(served.port, "bare", 1, 1)
            await fetch(served.port, "bare", 2, 1)
            gone, answered = await ended(served, 2)
            assert (1, Served.GONE) == (gone.call, gone.fate)
            assert (2, Served.ANSWERED) == (answered.call, answered.fate)

    run(loop, test)


@loops
def test_a_full_queue_sheds_and_does_not_trouble_the_other_group(loop, monkeypatch):
    """
    One worked on, one waiting, the third is answered with 503 at once; the other group has a lane of its own.
    """
    plan = plan_of(monkeypatch, (Mode.HANGING, 5))

    async def test():
        async with service(plan, workers=1, queue=1) as served, anyio.create_task_group() as tasks:
            tasks.start_soon(fetch, served.port, "bare", 1, 1)
            tasks.start_soon(fetch, served.port, "bare", 2, 1)
            await anyio.sleep(0.1)
            with pytest.raises(ServiceError, match="503"):
                await fetch(served.port, "bare", 3, 1)
            with anyio.move_on_after(0.1) as other:
                await fetch(served.port, "guarded", 3, 1)
            assert other.cancelled_caught
            shed, gone = await ended(served, 2)
            assert (Served.SHED, Served.GONE) == (shed.fate, gone.fate)
            tasks.cancel_scope.cancel()

    run(loop, test)


@loops
def test_a_dead_service_resets_what_it_had_refuses_and_comes_back_on_its_port(loop, monkeypatch):
    """
    Its connections are reset, its port is taken and refuses, and after the phase it answers there again.
    """
    plan = plan_of(monkeypatch, (Mode.HANGING, 0.3), (Mode.DEAD, 1.5), (Mode.HEALTHY, 20))

    async def test():
        async with service(plan) as served:
            with pytest.raises(BrokenAnswerError):
                await fetch(served.port, "bare", 1, 1)
            await anyio.sleep(0.1)
            with pytest.raises(OSError, match="connection") as refused:
                await fetch(served.port, "bare", 2, 1)
            assert isinstance(refused.value.__cause__, ConnectionRefusedError)
            with socket.socket() as other, pytest.raises(OSError) as taken:  # noqa: PT011 - its errno is checked
                other.bind((server.HOST, served.port))
            assert errno.EADDRINUSE == taken.value.errno
            await anyio.sleep(1.6)
            await fetch(served.port, "bare", 3, 1)
            killed, answered = await ended(served, 2)
            assert (1, Served.KILLED) == (killed.call, killed.fate)
            assert (3, Served.ANSWERED) == (answered.call, answered.fate)

    run(loop, test)


@loops
def test_a_plan_may_end_dead(loop, monkeypatch):
    """
    The last phase goes on: until it is told to stop, the service refuses.
    """
    plan = plan_of(monkeypatch, (Mode.HEALTHY, 0.1), (Mode.DEAD, 0.1))

    async def test():
        async with service(plan) as served:
            await anyio.sleep(0.4)
            with pytest.raises(OSError, match="connection"):
                await fetch(served.port, "bare", 1, 1)

    run(loop, test)


@loops
@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"POST /item HTTP/1.1\r\nX-Group: bare\r\nX-Call: 1\r\nX-Attempt: 1\r\n\r\n",
        b"GET /item FTP/1.1\r\nX-Group: bare\r\nX-Call: 1\r\nX-Attempt: 1\r\n\r\n",
        b"GET /item HTTP/1.1\r\nX-Group: strangers\r\nX-Call: 1\r\nX-Attempt: 1\r\n\r\n",
        b"GET /item HTTP/1.1\r\nX-Group: bare\r\nX-Call: one\r\nX-Attempt: 1\r\n\r\n",
        b"GET /item HTTP/1.1\r\nX-Group: bare\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"x" * 10_000,
    ],
    ids=["nonsense", "method", "version", "group", "call", "nothing", "too-long"],
)
def test_a_request_that_no_client_of_ours_sent_is_refused_and_not_logged(loop, text, monkeypatch):
    """
    400, and the server goes on.
    """
    plan = plan_of(monkeypatch, (Mode.HEALTHY, 5))

    async def test():
        async with service(plan) as served:
            async with await anyio.connect_tcp(server.HOST, served.port) as stream:
                await stream.send(text)
                assert (await stream.receive()).startswith(b"HTTP/1.1 400 ")
            await fetch(served.port, "bare", 1, 1)
            assert 1 == len(await ended(served, 1))

    run(loop, test)


@loops
def test_clients_that_say_nothing_are_left_alone(loop, monkeypatch):
    """
    One leaves in the middle of its head, one sends nothing for too long: neither is a request.
    """
    plan = plan_of(monkeypatch, (Mode.HEALTHY, 5))
    monkeypatch.setattr(server, "_HEAD_SECONDS", 0.1)

    async def test():
        async with service(plan) as served:
            async with await anyio.connect_tcp(server.HOST, served.port) as stream:
                await stream.send(b"GET /item")
            async with await anyio.connect_tcp(server.HOST, served.port) as stream:
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            assert () == served.requests()
            await fetch(served.port, "bare", 1, 1)

    run(loop, test)


@loops
def test_a_client_may_send_more_than_it_should(loop, monkeypatch):
    """
    What follows the head is not read as a request and is not taken for the client's leaving.
    """
    plan = plan_of(monkeypatch, (Mode.HEALTHY, 5))
    head = b"GET / HTTP/1.1\r\nX-Group: bare\r\nX-Call: 1\r\nX-Attempt: 1\r\n\r\n"

    async def test():
        async with service(plan) as served:
            async with await anyio.connect_tcp(server.HOST, served.port) as stream:
                await stream.send(head)
                await stream.send(b"and more")
                assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
            (request,) = await ended(served, 1)
            assert Served.ANSWERED is request.fate

    run(loop, test)


@loops
def test_a_client_that_resets_before_the_answer_is_gone(loop, monkeypatch):
    """
    The answer cannot be sent; the watcher has not seen it yet.
    """
    plan = plan_of(monkeypatch, (Mode.HEALTHY, 5))

    async def test():
        async with service(plan) as served:
            with pytest.raises(BrokenAnswerError):
                await fetch(served.port, "bare", 1, 1)
            (request,) = await ended(served, 1)
            assert Served.GONE is request.fate

    async def send(stream, data):
        if data is server._OK:
            raise anyio.BrokenResourceError
        await real_send(stream, data)

    backend = importlib.import_module(f"anyio._backends._{loop}").SocketStream
    real_send = backend.send
    monkeypatch.setattr(backend, "send", send)
    run(loop, test)


@loops
def test_a_socket_that_is_gone_needs_no_reset(loop):
    """
    The client was faster: its connection is closed already when the server wants to reset it.
    """

    async def test():
        listener = await anyio.create_tcp_listener(local_host=server.HOST)
        async with listener:
            port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
            stream = await anyio.connect_tcp(server.HOST, port)
            await stream.aclose()
            server._reset_on_close(stream)

    run(loop, test)


def config(folder: Path, backend: str) -> str:
    return json.dumps(
        {
            "plan": "healthy",
            "seconds": 5.0,
            "seed": 1,
            "workers": 2,
            "queue": 2,
            "backend": backend,
            "log": str(folder / "log.jsonl"),
        }
    )


@loops
def test_the_process_is_held_by_its_standard_input(loop, tmp_path):
    """
    It announces its port, serves, and ends with code 0 and a whole log when its standard input ends.
    """
    command = [sys.executable, "-m", "resilience.demo.server", config(tmp_path, loop)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        port = json.loads(process.stdout.readline())["port"]
        process.stdin.write(b"\n")
        process.stdin.flush()
        anyio.run(fetch, port, "bare", 1, 1, backend=loop)
        process.stdin.close()
        assert 0 == process.wait(60)
    with (tmp_path / "log.jsonl").open() as lines:
        assert [1] == [request.call for request in read_log(lines)]


@loops
def test_the_command_line_is_one_string_of_json(loop, tmp_path, monkeypatch, capfd):
    """
    The same in this process: a pipe that says start and then stop.
    """
    read, write = os.pipe()
    os.write(write, b"\nmore")
    os.close(write)
    try:
        assert 0 == server.main([config(tmp_path, loop)], control=read)
        monkeypatch.setattr(sys, "argv", ["server", config(tmp_path, loop)])
        assert 0 == server.main(control=read)  # at its end: it stops before it has started
    finally:
        os.close(read)
    assert "" == (tmp_path / "log.jsonl").read_text()


def test_the_module_is_a_program(tmp_path, monkeypatch, capsys):
    """
    As a script it exits with the code of `main`.
    """
    monkeypatch.setattr(sys, "argv", ["server", config(tmp_path, "asyncio")])
    monkeypatch.setattr(os, "read", lambda *_: b"")  # standard input has ended

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(server.__file__, run_name="__main__")

    assert 0 == ended.value.code
