"""
Time in a test: a clock that is moved by hand, a loop whose time jumps, and `run`, which brings both together.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import anyio
import anyio.lowlevel
import pytest

from resilience import CircuitBreaker, CircuitState, ConfigurationError, ConsecutiveFailures
from resilience.clock import PROCESS_CLOCK, loop_time
from resilience.testing import BACKENDS, ManualClock, VirtualEventLoop, follow, run
from resilience.testing.time import Backend


def on_this_python(backend: str) -> object:
    """A cell that is skipped with its reason where the interpreter is too old for eager tasks."""
    old = backend == "asyncio+eager" and sys.version_info < (3, 12)
    marks = [pytest.mark.skip(reason="eager tasks came with Python 3.12")] if old else []
    return pytest.param(backend, marks=marks)


EVERY = [on_this_python(backend) for backend in BACKENDS]
VIRTUAL = [on_this_python(backend) for backend in BACKENDS if backend != "uvloop"]


# ------------------------------------------------------------------------------- ManualClock


def test_a_manual_clock_stands_until_it_is_moved() -> None:
    """
    It starts at 1000 s, moves by what it is told, back as well, and says what it shows.
    """
    clock = ManualClock()
    assert 1000.0 == clock.now() == clock.now()
    assert 1002.5 == clock.advance(2.5) == clock.now()
    assert 1000.5 == clock.advance(-2)
    clock.set(7)
    assert 7.0 == clock.now()
    assert float is type(clock.now())
    assert "ManualClock(7.0)" == repr(clock)
    assert 3.0 == ManualClock(3).now()


def test_a_manual_clock_is_the_time_of_the_policy_it_is_given_to() -> None:
    """
    ``clock=ManualClock()``: a break of 30 s is over when the clock has been moved by 30 s, and not before.
    """
    clock = ManualClock()
    breaker = CircuitBreaker("kit-manual", on=OSError, trip=ConsecutiveFailures(1), clock=clock)
    breaker.admit().failure(OSError())
    clock.advance(29.5)
    assert 0.5 == breaker.retry_after
    clock.advance(0.5)
    breaker.admit().success()
    assert CircuitState.CLOSED is breaker.state


# -------------------------------------------------------------------------- VirtualEventLoop


def test_the_virtual_loop_jumps_from_timer_to_timer_in_order() -> None:
    """
    Time begins at 1000.0, is exactly that of each timer when it runs, and no timer is passed over.
    """
    seen: list[tuple[str, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for name, delay in [("c", 86_400.0), ("a", 0.1), ("b", 0.1 + 1e-6)]:
            loop.call_later(delay, lambda name=name: seen.append((name, loop.time())))
        await asyncio.sleep(86_401)
        seen.append(("end", loop.time()))

    began = time.monotonic()
    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        assert 1000.0 == runner.get_loop().time()
        runner.run(main())
    assert time.monotonic() - began < 60
    assert [
        ("a", 1000.0 + 0.1),
        ("b", 1000.0 + (0.1 + 1e-6)),
        ("c", 87_400.0),
        ("end", 87_401.0),
    ] == seen


def test_virtual_time_stands_while_there_is_something_to_do() -> None:
    """
    Only waiting passes time: a hundred turns of the loop take none.
    """

    async def main() -> float:
        sleeper = asyncio.create_task(asyncio.sleep(5))
        for _ in range(100):
            await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        await sleeper
        assert 1005.0 == asyncio.get_running_loop().time()
        return now

    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        assert 1000.0 == runner.run(main())


def test_the_virtual_loop_serves_threads_and_sockets() -> None:
    """
    With nothing scheduled it waits in earnest for a thread to wake it, and real sockets answer.
    """

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> tuple[int, bytes]:
        ident = await asyncio.get_running_loop().run_in_executor(None, _slow_ident)
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"hello\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
        return ident, line

    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        ident, line = runner.run(main())
    assert threading.get_ident() != ident
    assert b"hello\n" == line


def _slow_ident() -> int:
    time.sleep(0.02)
    return threading.get_ident()


# -------------------------------------------------------------------------------------- run


async def _where() -> str:
    """The backend this runs on, told from the loop itself."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return "trio"
    loop = asyncio.get_running_loop()
    if type(loop).__module__.startswith("uvloop"):
        return "uvloop"
    started: list[int] = []

    async def child() -> None:
        started.append(1)

    task = asyncio.create_task(child())
    eager = bool(started)
    await task
    return "asyncio+eager" if eager else "asyncio"


@pytest.mark.parametrize("on", EVERY)
def test_run_runs_where_it_is_told(on: Backend) -> None:
    """
    Each name is its own backend: trio, uvloop, asyncio, and asyncio with tasks that start eagerly.
    """
    assert on == run(_where, backend=on)


def test_run_is_asyncio_unless_told_otherwise() -> None:
    """
    The default is plain asyncio in virtual time.
    """
    assert "asyncio" == run(_where)
    assert VirtualEventLoop is run(_loop_class)
    assert VirtualEventLoop is not run(_loop_class, real=True)


async def _loop_class() -> type:
    return type(asyncio.get_running_loop())


@pytest.mark.parametrize("on", EVERY)
def test_run_hands_over_arguments_answers_and_errors(on: Backend) -> None:
    """
    Arguments go in, the answer comes out, and an error comes out as itself.
    """
    error = LookupError("mine")

    async def divided(dividend: int, divisor: int) -> float:
        await anyio.lowlevel.checkpoint()
        if not divisor:
            raise error
        return dividend / divisor

    assert 3.5 == run(divided, 7, 2, backend=on)
    with pytest.raises(LookupError) as caught:
        run(divided, 7, 0, backend=on)
    assert error is caught.value


@pytest.mark.parametrize("on", VIRTUAL)
def test_run_makes_waits_of_hours_short(on: Backend) -> None:
    """
    A wait of a day ends at once, at its time to the second, and the clock of the policies went with it.
    """

    async def main() -> tuple[float, float]:
        loop, policies = loop_time(), PROCESS_CLOCK.now()
        await anyio.sleep(86_400)
        return loop_time() - loop, PROCESS_CLOCK.now() - policies

    began = time.monotonic()
    assert (86_400.0, 86_400.0) == run(main, backend=on)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("on", "real"),
    [
        ("asyncio", True),
        ("trio", True),
        ("uvloop", False),
        ("uvloop", True),
    ],
)
def test_run_keeps_real_time_where_asked_and_on_uvloop(on: Backend, *, real: bool) -> None:
    """
    ``real=True`` waits in earnest on every backend; uvloop has no clock that could jump and always does.
    """

    async def main() -> None:
        await anyio.sleep(0.05)

    began = time.monotonic()
    run(main, backend=on, real=real)
    assert 0.045 <= time.monotonic() - began


@pytest.mark.parametrize("unknown", ["curio", "", "Trio", None, 3])
def test_an_unknown_backend_is_refused_with_those_there_are(unknown: object) -> None:
    """
    The error names ``run.backend``, what it got and all four names; the function is never called.
    """
    called: list[int] = []

    async def main() -> None:
        called.append(1)

    with pytest.raises(ConfigurationError) as caught:
        run(main, backend=unknown)  # type: ignore[arg-type]
    assert "run.backend" == caught.value.field
    assert repr(unknown) == caught.value.got
    assert "one of asyncio, asyncio+eager, uvloop, trio" == caught.value.allowed
    assert [] == called


def test_eager_tasks_are_refused_on_python_3_11(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A backend that this Python lacks is a `ConfigurationError` that says since when it exists.
    """
    before = PROCESS_CLOCK.now
    with monkeypatch.context() as patched:
        patched.setattr(sys, "version_info", (3, 11, 9, "final", 0))
        with pytest.raises(ConfigurationError, match=r"run\.backend .*3\.12, got 'asyncio\+eager'"):
            run(_where, backend="asyncio+eager")
    assert before == PROCESS_CLOCK.now


@pytest.mark.parametrize("missing", ["trio", "uvloop"])
def test_a_backend_that_is_not_installed_is_named(
    missing: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Of the extras trio and uvloop: without one of them Python's own error says which, and time is as before.
    """
    before = PROCESS_CLOCK.now
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, missing, None)
        with pytest.raises(ModuleNotFoundError, match=missing):
            run(_where, backend=missing)
    assert before == PROCESS_CLOCK.now


# ----------------------------------------------------------------------------------- follow


def test_follow_puts_a_clock_under_every_policy_for_a_while() -> None:
    """
    A breaker without ``clock=`` obeys the followed clock, wall time moves with it, and both come back after it.
    """
    before = PROCESS_CLOCK.now, PROCESS_CLOCK.wall
    clock = ManualClock(50)
    breaker = CircuitBreaker("kit-follow", on=OSError, trip=ConsecutiveFailures(1))
    with follow(clock):
        assert 50.0 == PROCESS_CLOCK.now()
        wall = PROCESS_CLOCK.wall()
        breaker.admit().failure(OSError())
        assert 30.0 == breaker.retry_after
        clock.advance(20)
        assert 10.0 == breaker.retry_after
        assert 20.0 == PROCESS_CLOCK.wall() - wall
    assert before == (PROCESS_CLOCK.now, PROCESS_CLOCK.wall)


def test_follow_nests_and_ends_with_an_error_as_well() -> None:
    """
    The inner clock holds until its block ends, by an error too; then the outer one is back.
    """
    outer, inner = ManualClock(1), ManualClock(2)
    before = PROCESS_CLOCK.now
    with follow(outer):
        with pytest.raises(KeyError), follow(inner):  # noqa: PT012 - read, then left by an error
            assert 2.0 == PROCESS_CLOCK.now()
            raise KeyError
        assert 1.0 == PROCESS_CLOCK.now()
    assert before == PROCESS_CLOCK.now


def test_follow_without_a_clock_is_the_time_of_the_running_loop() -> None:
    """
    Inside a loop it is that loop's time; outside of any, the last one read, so that no instant lies in the future.
    """

    async def main() -> float:
        await asyncio.sleep(234)
        return PROCESS_CLOCK.now()

    with follow():
        assert 1000.0 == PROCESS_CLOCK.now()
        with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
            assert 1234.0 == runner.run(main())
        assert 1234.0 == PROCESS_CLOCK.now()
