"""
Law 15 under real threads: eight event loops, each in a thread of its own, share one breaker.

The interpreter is told to switch threads as often as it can. The same harness runs a control that is wrong on purpose
(a call between reading and writing a number); if that one lost nothing, the harness would prove nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from resilience import CircuitBreaker, CircuitState, ConsecutiveFailures, Pipeline
from resilience.core.circuit import Circuit, LockedCircuit
from resilience.events import CircuitStateChanged
from resilience.testing import ManualClock, Recorder

THREADS = 8
CALLS = 1500
ROUNDS = 25
RACERS = 12

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _busy_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=[Circuit, LockedCircuit], ids=["lock-free", "locked"])
def circuit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Circuit]:
    monkeypatch.setattr("resilience.policies._breaker_core.CIRCUIT", request.param)
    return request.param


def breaker(**options: Any) -> CircuitBreaker:
    return CircuitBreaker(f"threads {next(_numbers)}", on=OSError, ignore=KeyError, **options)


def in_loops(main: Callable[[int], Awaitable[None]]) -> None:
    """Run *main* in eight loops at once, one thread each, and raise what one of them raised."""
    gate = threading.Barrier(THREADS)
    errors: list[BaseException] = []

    async def started(number: int) -> None:
        gate.wait()
        await main(number)

    def run(number: int) -> None:
        try:
            asyncio.run(started(number))
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


async def answer(number: int) -> int:
    """Every third call fails, every seventh is ignored."""
    if number % 3 == 0:
        raise OSError
    if number % 7 == 0:
        raise KeyError
    return number


def test_eight_loops_lose_no_count(circuit):
    """
    Law 15, law 9: one breaker shared by eight loops in eight threads counts every outcome exactly.
    """
    shared = breaker(trip=ConsecutiveFailures(10**9))
    guarded = shared.wrap(answer)

    async def main(_: int) -> None:
        for number in range(CALLS):
            with contextlib.suppress(OSError, KeyError):
                await guarded(number)
            if number % 50 == 0:
                await asyncio.sleep(0)

    in_loops(main)

    failed = sum(number % 3 == 0 for number in range(CALLS))
    ignored = sum(number % 3 != 0 and number % 7 == 0 for number in range(CALLS))
    totals = shared.snapshot().totals
    assert THREADS * failed == totals.failures
    assert THREADS * ignored == totals.ignored
    assert THREADS * (CALLS - failed - ignored) == totals.successes
    assert THREADS * (CALLS - ignored) == shared.snapshot().calls


class Careless:
    """The control: the same bookkeeping with a call between reading and writing."""

    def __init__(self, seats: int) -> None:
        self.counted = 0
        self.seats = seats

    def count(self) -> None:
        self.counted = self._plus(self.counted, 1)

    def take(self) -> bool:
        if self._plus(self.seats, 0) > 0:
            self.seats = self._plus(self.seats, -1)
            return True
        return False

    @staticmethod
    def _plus(number: int, more: int) -> int:
        return sum((number, more))


def test_the_control_loses_counts():
    """
    Law 15: an unprotected counter loses counts in the same harness.
    """
    control = Careless(0)

    async def main(_: int) -> None:
        for number in range(20 * CALLS):
            control.count()
            if number % 50 == 0:
                await asyncio.sleep(0)

    in_loops(main)
    assert control.counted < THREADS * 20 * CALLS


def race(take: Callable[[], Any]) -> int:
    """How many of all racers in all loops get in."""
    won = [0] * THREADS

    async def main(number: int) -> None:
        for _ in range(RACERS):
            won[number] += bool(take())
            await asyncio.sleep(0)

    in_loops(main)
    return sum(won)


@pytest.mark.parametrize("probes", [1, 3])
def test_eight_loops_admit_exactly_the_probes(circuit, probes):
    """
    Law 15, law 11: of all callers in eight loops exactly `probes` are let in, in each of many half-open rounds.
    """
    clock = ManualClock()
    shared = breaker(trip=ConsecutiveFailures(1), probes=probes, clock=clock)
    core = shared._core.circuit
    for opening in range(1, ROUNDS + 1):
        if shared.state is not CircuitState.OPEN:
            shared.admit().failure()
        clock.advance(shared.retry_after)
        admitted: list[Any] = []

        def take(admitted: list[Any] = admitted) -> bool:
            ticket = core.admit(clock.now(), object())
            if getattr(ticket, "generation", None) is None:
                return False
            admitted.append(ticket)
            return True

        assert probes == race(take)
        assert opening == shared.snapshot().openings
        shared.reset()


def test_the_control_lets_too_many_in():
    """
    Law 15: check-then-act on a number of seats over-admits in the same harness.
    """
    surplus = sum(race(Careless(3).take) - 3 for _ in range(ROUNDS))
    attempts = 0
    while not surplus and attempts < 200:
        attempts += 1
        surplus = race(Careless(3).take) - 3
    assert surplus > 0


def test_eight_loops_open_it_once(circuit):
    """
    Law 15, law 14, GEN-007: failures that cross the threshold in eight loops at once open it once, and tell it once.
    """
    recorder = Recorder(CircuitStateChanged)
    clock = ManualClock()
    shared = breaker(trip=ConsecutiveFailures(5), clock=clock)
    guarded = _quiet(shared, recorder).wrap(answer)

    async def main(_: int) -> None:
        for _ in range(RACERS):
            with contextlib.suppress(Exception):  # failures and rejections, as they come
                await guarded(0)
            await asyncio.sleep(0)

    for opening in range(1, ROUNDS + 1):
        in_loops(main)
        assert CircuitState.OPEN is shared.state
        assert opening == shared.snapshot().openings
        shared.reset()

    told = [(event.old, event.new) for event in recorder.of(CircuitStateChanged)]
    assert [("CLOSED", "OPEN"), ("OPEN", "CLOSED")] * ROUNDS == told
    generations = [event.generation for event in recorder.of(CircuitStateChanged)]
    assert sorted(set(generations)) == generations


def _quiet(shared: CircuitBreaker, recorder: Recorder) -> Pipeline:
    with pytest.warns(match="ends a call that hangs"):
        return Pipeline(shared, listeners=[recorder])
