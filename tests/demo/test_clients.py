"""The clients: what counts as an answer, and how a group counts its calls."""

import contextlib

import anyio
import pytest
from anyio.abc import SocketAttribute

from resilience import CircuitOpenError
from resilience.demo.clients import BrokenAnswerError, Group, ServiceError, bare, fetch
from resilience.demo.plan import Mode
from resilience.demo.records import Fate, Outcome
from resilience.demo.server import HOST
from tests.demo.support import loops, plan_of, service


@contextlib.asynccontextmanager
async def answering(text: bytes):
    """A server that sends this and closes."""

    async def handle(stream):
        async with stream:
            await stream.receive()
            await stream.send(text)

    listener = await anyio.create_tcp_listener(local_host=HOST)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
        tasks.cancel_scope.cancel()


@loops
@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\n\r\nbody of no length",
        b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n1234567890",
        b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"220 smtp.example.org ESMTP\r\n\r\n",
        b"x" * 70_000,
    ],
    ids=["half-body", "half-head", "no-length", "bad-length", "no-status", "no-http", "no-end"],
)
def test_what_is_not_a_whole_answer_is_broken(loop, text):
    """
    A half body above all: its status was 200.
    """

    async def test():
        async with answering(text) as port:
            with pytest.raises(BrokenAnswerError):
                await fetch(port, "bare", 1, 1)

    anyio.run(test, backend=loop)


@loops
def test_a_status_is_an_error_once_the_answer_is_whole(loop):
    """
    404 with its whole body is the service's answer; cut in the middle it is a broken connection.
    """

    async def test():
        async with answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno") as port:
            with pytest.raises(ServiceError, match="status 404") as error:
                await fetch(port, "bare", 1, 1)
            assert 404 == error.value.status
        async with answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno") as port:
            with pytest.raises(BrokenAnswerError):
                await fetch(port, "bare", 1, 1)

    anyio.run(test, backend=loop)


def grouped(guard, *, port=1, limit=10):
    return Group("bare", guard, port=port, limit=limit, clock=anyio.current_time)


@loops
def test_calls_beyond_the_limit_are_dropped_and_counted(loop):
    """
    Three arrive at once, two may be in flight: the third never starts, and the fourth finds room again.
    """

    async def guard(_send, _call):
        await anyio.sleep(0.1)

    async def test():
        group = grouped(guard, limit=2)
        now = anyio.current_time()
        await group.run([now, now, now, now + 0.3])
        answered, dropped = Outcome.ANSWERED, Outcome.DROPPED
        assert [answered, answered, dropped, answered] == [call.outcome for call in group.calls]
        assert [0, 1, 2, 3] == [call.number for call in group.calls]
        assert now == group.calls[2].end
        assert 0 == group.in_flight

    anyio.run(test, backend=loop)


@loops
def test_arrivals_do_not_wait_for_answers(loop):
    """
    Open loop: a call that takes long delays no other, and its latency runs from its appointed time.
    """

    async def guard(_send, call):
        await anyio.sleep(0.3 if call.number == 0 else 0)

    async def test():
        group = grouped(guard)
        now = anyio.current_time()
        await group.run([now, now + 0.05, now + 0.1])
        slow, second, third = (call.end - call.at for call in group.calls)
        assert slow >= 0.3
        assert second < 0.2
        assert third < 0.2

    anyio.run(test, backend=loop)


@loops
@pytest.mark.parametrize(
    ("error", "outcome", "name"),
    [
        (CircuitOpenError("demo", state="OPEN"), Outcome.REJECTED, "CircuitOpenError"),
        (TimeoutError(), Outcome.FAILED, "TimeoutError"),
        (ConnectionRefusedError(), Outcome.FAILED, "ConnectionRefusedError"),
        (ServiceError(503), Outcome.FAILED, "ServiceError"),
    ],
    ids=["rejected", "timeout", "refused", "status"],
)
def test_how_a_call_ended(loop, error, outcome, name):
    """
    A rejection is no failure: nothing was asked.
    """

    async def guard(_send, _call):
        raise error

    async def test():
        group = grouped(guard)
        await group.run([0.0])
        (call,) = group.calls
        assert (outcome, name, 0) == (call.outcome, call.error, call.attempts)
        assert call.end is not None

    anyio.run(test, backend=loop)


@loops
def test_a_fault_of_the_demo_itself_is_not_counted_as_the_services(loop):
    """
    An error that no service causes ends the run.
    """

    async def guard(_send, _call):
        raise ZeroDivisionError

    async def test():
        with pytest.raises(ExceptionGroup) as error:
            await grouped(guard).run([0.0])
        assert error.group_contains(ZeroDivisionError)

    anyio.run(test, backend=loop)


@loops
def test_calls_that_are_cut_stay_unfinished(loop):
    """
    The end of the demo is no failure of theirs.
    """

    async def guard(_send, _call):
        await anyio.sleep_forever()

    async def test():
        group = grouped(guard)
        with anyio.move_on_after(0.1):
            await group.run([0.0])
        assert [(Outcome.UNFINISHED, None)] == [(call.outcome, call.end) for call in group.calls]
        assert 0 == group.in_flight

    anyio.run(test, backend=loop)


@loops
def test_attempts_are_recorded_with_their_fate(loop, monkeypatch):
    """
    Answered, an error, broken, cut and refused: one record per attempt, numbered within its call.
    """
    plan = plan_of(monkeypatch, (Mode.HEALTHY, 5))

    async def thrice(send, call):
        for _ in range(3):
            await send(call)

    async def cut(send, call):
        with anyio.move_on_after(0.1):
            await send(call)

    async def test():
        async def fates(guard, port):
            group = grouped(guard, port=port)
            await group.run([0.0])
            return [(attempt.call, attempt.number, attempt.fate) for attempt in group.attempts]

        async with service(plan) as served:
            expected = [(0, number, Fate.ANSWERED) for number in (1, 2, 3)]
            assert expected == await fates(thrice, served.port)
        async with answering(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n") as port:
            assert [(0, 1, Fate.ERROR)] == await fates(bare, port)
        async with answering(b"HTT") as port:
            assert [(0, 1, Fate.BROKEN)] == await fates(bare, port)
        hanging = plan_of(monkeypatch, (Mode.HANGING, 5))
        async with service(hanging) as served:
            assert [(0, 1, Fate.CUT)] == await fates(cut, served.port)
        assert [(0, 1, Fate.REFUSED)] == await fates(bare, served.port)

    anyio.run(test, backend=loop)


@loops
def test_a_bare_call_has_one_long_timeout(loop, monkeypatch):
    """
    And nothing else: one attempt, and TimeoutError when it is over.
    """
    monkeypatch.setattr("resilience.demo.clients.BARE_TIMEOUT", 0.05)

    async def guard(send, call):
        with pytest.raises(TimeoutError):
            await bare(send, call)
        raise TimeoutError

    async def test():
        plan = plan_of(monkeypatch, (Mode.HANGING, 5))
        async with service(plan) as served:
            group = grouped(guard, port=served.port)
            await group.run([0.0])
            assert [(Outcome.FAILED, 1)] == [(call.outcome, call.attempts) for call in group.calls]

    anyio.run(test, backend=loop)
