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
from resilience.core.generations import Ticket
from resilience.events import CircuitStateChanged
from resilience.testing import ManualClock, Recorder
from resilience.verdicts import Verdict

THREADS = 8
CALLS = 6000
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

    def give_back(self) -> None:
        self.seats = self._plus(self.seats, 1)

    @staticmethod
    def _plus(number: int, more: int) -> int:
        return sum((number, more))


def test_the_control_loses_counts():
    """
    Law 15: an unprotected counter loses counts in the same harness.
    """

    def lost() -> int:
        control = Careless(0)

        async def main(_: int) -> None:
            for number in range(5 * CALLS):
                control.count()
                if number % 50 == 0:
                    await asyncio.sleep(0)

        in_loops(main)
        return THREADS * 5 * CALLS - control.counted

    # A quiet scheduler may serve one thread after the other; not fifty times.
    assert any(lost() for _ in range(50))


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


HANDOVERS = 4000


def most_at_once(take: Callable[[], Any], give_back: Callable[[Any], None]) -> int:
    """The most seats that eight loops hold at once, each taking and giving back as fast as it can."""
    lock = threading.Lock()
    held = most = 0

    async def main(_: int) -> None:
        nonlocal held, most
        for number in range(HANDOVERS):
            seat = take()
            if seat:
                with lock:
                    held += 1
                    most = max(most, held)
                if number % 3 == 0:
                    await asyncio.sleep(0)
                with lock:
                    held -= 1
                give_back(seat)

    in_loops(main)
    return most


def test_seats_that_change_hands_never_exceed_the_probes(circuit):
    """
    Law 15, law 11: probes given back and taken again by eight loops are never more than `probes`, and none is lost.
    """
    shared = breaker(trip=ConsecutiveFailures(1), probes=3)
    core = shared._core.circuit
    core.force(CircuitState.HALF_OPEN, 0.0)

    def take() -> Ticket | None:
        answer = core.admit(0.0, object())
        return answer if isinstance(answer, Ticket) else None

    assert most_at_once(take, lambda ticket: core.settle(ticket, Verdict.IGNORED, 0.0)) <= 3
    assert [True, True, True, False] == [bool(take()) for _ in range(4)]


def test_the_control_lets_too_many_in_or_loses_a_seat():
    """
    Law 15: check-then-act on a number of seats over-admits, or loses seats, in the same harness.
    """

    def wrong() -> bool:
        control = Careless(3)
        return most_at_once(control.take, lambda _: control.give_back()) > 3 or control.seats != 3

    assert any(wrong() for _ in range(50))


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
