"""
Law 15: state is confined by construction, not by locks.

The stress of many threads and its failing control are an instrument of their own; here is what each part promises.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import types
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilience import CircuitOpenError, CircuitState, ConsecutiveFailures
from resilience.core.circuit import CIRCUIT, Circuit
from resilience.events import CircuitStateChanged
from resilience.testing import Recorder, Script
from tests.laws.breaker.kit import a_breaker, due, pipeline, totals

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Semaphore)


@contextmanager
def hasty_threads() -> Iterator[None]:
    """The interpreter changes threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def in_threads(*functions: Callable[[], object]) -> None:
    """All of them at once, to their end; the first error is raised here."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(each,)) for each in functions]
    with hasty_threads():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def on_a_loop_of_its_own(main: Callable[[], Awaitable[Any]], backend: str) -> None:
    """*main* on a new loop in real time; the clock is the breaker's own."""
    options: dict[str, Any] = {}
    if backend == "asyncio+eager":
        # Resolved late: 3.11 has no eager tasks, and its cell is skipped.
        def made() -> asyncio.AbstractEventLoop:
            loop = asyncio.new_event_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            return loop

        options = {"loop_factory": made}
    elif backend == "uvloop":
        options = {"use_uvloop": True}
    anyio.run(main, backend="trio" if backend == "trio" else "asyncio", backend_options=options)


def _everything_in(root: object) -> list[object]:
    """What a circuit is made of, as the garbage collector sees it; functions, classes and modules left out."""
    seen: dict[int, object] = {}
    stack = [root]
    while stack:
        each = stack.pop()
        if id(each) in seen or isinstance(each, type | types.FunctionType | types.ModuleType):
            continue
        seen[id(each)] = each
        stack.extend(gc.get_referents(each))
    return list(seen.values())


def test_no_lock_is_taken_on_the_path_of_a_call(clock):
    """
    Law 15: with a GIL there is none in a breaker that could be taken, in whatever state it is.
    """
    assert Circuit is CIRCUIT
    breaker = a_breaker(clock, trip=ConsecutiveFailures(2), overdue_after=5.0)
    permit = breaker.admit()
    for step in (breaker.observe, breaker.reset, lambda: due(breaker, clock), breaker.isolate):
        step()
        parts = _everything_in(breaker._core)
        assert breaker._core.circuit.current in parts
        assert [] == [each for each in parts if isinstance(each, LOCKS)]
    permit.ignore()


@pytest.mark.parametrize(("threads", "probes"), [(4, 1), (4, 3)])
def test_loops_in_several_threads_share_a_breaker_and_its_probes(backend, clock, threads, probes):
    """
    Law 15, H38, H40: exactly ``probes`` run, it opens once, and every outcome is counted.
    """
    breaker = a_breaker(clock, probes=probes, break_duration=1.0)
    heard = Recorder(CircuitStateChanged)
    guarded = pipeline(breaker, listeners=[heard])
    callers = 25
    together, everybody_asked = threading.Barrier(threads), threading.Event()
    running, refused = [], []

    async def callee():
        running.append(1)
        while not everybody_asked.is_set():  # noqa: ASYNC110 - set by a thread
            await anyio.sleep(0.001)
        raise OSError("down")

    async def caller():
        try:
            await guarded(callee)
        except CircuitOpenError:
            refused.append(1)
        except OSError:
            return
        if len(refused) == threads * callers - probes:
            everybody_asked.set()

    async def main():
        together.wait()
        async with anyio.create_task_group() as group:
            for _ in range(callers):
                group.start_soon(caller)

    for opening in range(2, 5):
        due(breaker, clock) if breaker.state is CLOSED else clock.advance(1.0)
        running.clear()
        refused.clear()
        everybody_asked.clear()
        in_threads(*[lambda: on_a_loop_of_its_own(main, backend)] * threads)
        assert (probes, threads * callers - probes) == (len(running), len(refused))
        assert (OPEN, opening) == (breaker.state, breaker.snapshot().openings)
    assert ["OPEN"] + ["HALF_OPEN", "OPEN"] * 3 == [event.new for event in heard]
    assert 1 + 3 * probes == totals(breaker)["failures"]
    assert 3 * (threads * callers - probes) == breaker.snapshot().rejected


def test_pipelines_are_built_and_dropped_while_the_circuit_moves_in_other_threads(clock):
    """
    Law 15, EVT-003: a transition tells the listeners there are, and never trips over those that come and go.
    """
    breaker = a_breaker(clock, break_duration=1e-9)
    heard, done = Recorder(CircuitStateChanged), threading.Event()
    kept = pipeline(breaker, listeners=[heard])

    def build() -> None:
        pipelines = []
        while not done.is_set():
            pipelines.append(pipeline(breaker))
            if len(pipelines) > 20:
                pipelines.clear()

    def move() -> None:
        try:
            for _ in range(2_000):
                breaker.reset()
                breaker.isolate()
        finally:
            done.set()

    in_threads(build, move)
    told = [event.generation for event in heard]
    assert sorted(told) == told
    assert len(told) > 10
    assert breaker in kept.policies


def test_a_snapshot_is_taken_while_the_circuit_moves_in_other_threads(clock):
    """
    Laws 9 and 15: reading the totals never trips over generations that come and go, and loses none.
    """
    breaker, done = a_breaker(clock), threading.Event()
    calls = 0

    def read() -> None:
        while not done.is_set():
            breaker.snapshot()

    def move() -> None:
        nonlocal calls
        kept = []
        try:
            for _ in range(3_000):
                kept.append(breaker.admit())
                breaker.admit().success()
                calls += 1
                breaker.reset()
                if len(kept) > 20:
                    for each in kept:
                        each.ignore()
                    kept.clear()
        finally:
            for each in kept:
                each.ignore()
            done.set()

    in_threads(read, move)
    assert calls == breaker.snapshot().totals.successes > 10


async def test_one_breaker_serves_pipelines_and_hands_in_one_loop(backend, clock):
    """
    Law 15: permits by hand, two pipelines and a bare policy count into the same circuit, without loss.
    """
    breaker = a_breaker(clock, trip=ConsecutiveFailures(300))
    doors = [pipeline(breaker), pipeline(breaker), breaker]

    async def caller(number):
        script = Script(OSError) if number % 2 else Script(1)
        await doors[number % 3].outcome(script)
        with breaker.admit() as permit:
            await anyio.lowlevel.checkpoint()
            (permit.failure if number % 2 else permit.success)()

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(caller, number)
    counted = totals(breaker)
    assert (200, 200) == (counted["successes"], counted["failures"])


WITHOUT_GIL = """
import sys
sys._is_gil_enabled = lambda: False
from resilience import CircuitBreaker, CircuitState, ConsecutiveFailures, Pipeline, Retry, Timeout
from resilience.core.circuit import CIRCUIT, LockedCircuit
from resilience.testing import Recorder, ManualClock, Script, run

clock, heard = ManualClock(), Recorder()
breaker = CircuitBreaker("b", on=OSError, trip=ConsecutiveFailures(2), break_duration=10, clock=clock)
guarded = Pipeline(Retry(2, on=OSError, wait=lambda _: 0), breaker, Timeout(5), listeners=[heard])

async def main():
    assert await guarded(Script(42)) == 42
    await guarded.outcome(Script(OSError))
    assert breaker.state is CircuitState.OPEN
    clock.advance(10)
    assert await guarded(Script(42)) == 42

assert CIRCUIT is LockedCircuit is type(breaker._core.circuit)
for backend in ("asyncio", "trio"):
    run(main, backend=backend)
seen = breaker.snapshot()
assert (seen.totals.successes, seen.totals.failures, seen.openings) == (4, 4, 2), seen
assert [e.new for e in heard if hasattr(e, "new")] == ["OPEN", "HALF_OPEN", "CLOSED"] * 2
print("counted")
"""


def test_where_there_is_no_gil_the_circuit_with_a_lock_is_chosen_at_import():
    """
    Law 15: another tested counter, the same laws; in a process of its own, which is told that it has no GIL.
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_GIL],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ("counted\n", 0) == (ran.stdout, ran.returncode), ran.stderr
