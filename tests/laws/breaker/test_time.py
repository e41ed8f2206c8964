"""
Law 20: whose time it is, and what a clock may do without anybody being admitted early.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time

import anyio
import pytest

from resilience import CircuitOpenError, CircuitState, FailureRate, FullJitter, TimeWindow
from resilience.clock import PROCESS_CLOCK
from resilience.testing import ManualClock, Script, follow
from resilience.verdicts import Verdict
from tests.laws.breaker.kit import (
    BREAK,
    a_breaker,
    due,
    free_seats,
    open_up,
    pipeline,
    settle,
    stranger,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


async def test_time_comes_from_the_clock_that_was_given(backend, clock):
    """
    Law 20: neither the loop's time nor real time opens it; a clock may be an object or a bare function.
    """
    readings = [1000.0]
    for given in (clock, lambda: readings[0]):
        breaker = open_up(a_breaker(given))
        guarded = pipeline(breaker)
        await anyio.sleep(0.001 if backend == "uvloop" else 1000.0)
        with pytest.raises(CircuitOpenError) as caught:
            await guarded(Script(1))
        assert BREAK == caught.value.retry_after
        clock.advance(BREAK)
        readings[0] += BREAK
        assert 1 == await guarded(Script(1))


async def test_by_default_a_test_that_follows_the_loop_sees_the_breaks_end(backend, unit):
    """
    Law 20: ``resilience.testing`` replaces the default while a test runs: the sleep that waits for a break ends it.
    """
    breaker = open_up(a_breaker(break_duration=2 * unit))
    guarded, until = pipeline(breaker), breaker.snapshot().since + 2 * unit
    await anyio.sleep(1.5 * unit)
    outcome = await guarded.outcome(Script(1))
    # Where time is real, the sleep may have been longer than it was asked to be.
    if PROCESS_CLOCK.now() < until:
        assert isinstance(outcome.error, CircuitOpenError)
        assert 0.0 < outcome.error.retry_after < 0.6 * unit
    else:
        assert "uvloop" == backend
    await anyio.sleep(unit)
    assert 1 == await guarded(Script(1))
    assert CLOSED is breaker.state


def test_outside_of_tests_it_is_the_one_monotonic_clock_of_the_process():
    """
    Law 20, H31: `time.monotonic` itself, read again at each call, so that no wall clock and no loop has a say.
    """
    assert time.monotonic is PROCESS_CLOCK.now
    breaker = a_breaker()
    before = time.monotonic()
    open_up(breaker)
    since = breaker.snapshot().since
    assert before <= since <= time.monotonic()
    with follow(ManualClock(since + 4.0)):
        assert pytest.approx(BREAK - 4.0) == breaker.retry_after
    assert time.monotonic is PROCESS_CLOCK.now


TWO_LOOPS = """
import asyncio, time
import trio
from resilience import CircuitBreaker, CircuitOpenError, ConsecutiveFailures

class LateLoop(asyncio.SelectorEventLoop):
    def time(self):
        return super().time() + 1e6

async def fails():
    raise OSError

async def works():
    return 42

async def opens():
    await breaker.outcome(fails)
    return breaker.snapshot().since

async def asks():
    return await breaker.outcome(works)

for seconds in 0.2, 2.0, 20.0:
    breaker = CircuitBreaker(
        f"{seconds} s", on=OSError, trip=ConsecutiveFailures(1), break_duration=seconds
    )
    with asyncio.Runner(loop_factory=LateLoop) as runner:
        since = runner.run(opens())
        assert abs(since - time.monotonic()) < 300
    refused = trio.run(asks)
    if time.monotonic() < since + seconds:
        break  # else this machine was late, and the break may have been over
assert isinstance(refused.error, CircuitOpenError), refused
assert 0 < refused.error.retry_after <= seconds, refused
time.sleep(seconds + 0.01)
assert trio.run(asks).unwrap() == 42
print("one time")
"""


def test_loops_that_disagree_about_the_time_agree_about_a_breaker():
    """
    Law 20, H40: opened on an asyncio loop that is a million seconds ahead, asked on trio, in real time.
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", TWO_LOOPS],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ("one time\n", 0) == (ran.stdout, ran.returncode), ran.stderr


@pytest.mark.parametrize("step", [0.0, -0.001, -5.0, -1e9])
async def test_a_clock_that_stands_or_runs_backwards_admits_nobody_early(backend, clock, step):
    """
    Law 20, H33, B2, B19, B21: it stays open until the clock has come to the end; the wait stays within the break.
    """
    breaker = open_up(a_breaker(clock))
    guarded, until = pipeline(breaker), clock.now() + BREAK
    clock.advance(4.0)
    clock.advance(step)
    for _ in range(3):
        with pytest.raises(CircuitOpenError) as caught:
            await guarded(Script(1))
        assert 0.0 < caught.value.retry_after <= BREAK
    clock.set(until - 0.001)
    with pytest.raises(CircuitOpenError):
        await guarded(Script(1))
    clock.set(until)
    assert 1 == await guarded(Script(1))


@pytest.mark.parametrize("step", [0.0, -1.0, -1e9])
async def test_a_probe_under_a_clock_that_runs_backwards_keeps_its_place(backend, clock, step):
    """
    Laws 12 and 20: no lease ends early, no negative time makes a call slow or overdue.
    """
    breaker = due(a_breaker(clock, probe_lease=5.0, overdue_after=3.0), clock)
    probe = stranger(breaker)
    clock.advance(2.0)
    clock.advance(step)
    with pytest.raises(CircuitOpenError) as caught:
        await pipeline(breaker)(Script(1))
    assert "HALF_OPEN" == caught.value.state
    settle(breaker, probe, Verdict.IGNORED)
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))
    assert 1 == await pipeline(breaker)(Script(lambda: (clock.advance(step) and 1) or 1))
    assert CLOSED is breaker.state


async def test_no_walk_of_a_clock_raises_or_admits_early(backend, clock):
    """
    Laws 19 and 20, B2, B3, B19: random steps forwards and backwards; what is admitted is checked against the furthest.
    """
    rng, seats = random.Random(20), 2
    breaker = a_breaker(
        clock,
        trip=FailureRate(0.5, TimeWindow(5), 3),
        probes=seats,
        probe_lease=4.0,
        overdue_after=3.0,
        break_duration=7.0,
    )
    guarded, refused = pipeline(breaker), 0
    for _ in range(2000):
        clock.advance(rng.choice([0.0, 0.1, 1.0, 3.0, 8.0, -0.5, -4.0, rng.uniform(-30, 30)]))
        before = breaker.snapshot()
        script = Script(rng.choice([1, OSError, OSError]))
        outcome = await guarded.outcome(script)
        if before.state is OPEN and clock.now() < before.since + 7.0:
            assert isinstance(outcome.error, CircuitOpenError)
            assert (0, True) == (script.calls, 0.0 <= outcome.error.retry_after <= 7.0)
            refused += 1
        else:
            assert 1 == script.calls or isinstance(outcome.error, CircuitOpenError)
    assert refused > 50
    assert breaker.snapshot().openings > 20


def test_a_jittered_break_is_drawn_once_and_does_not_move(clock):
    """
    Law 20, H34: an instant is computed once from a base and compared; nothing is added up while it waits.
    """
    breaker = open_up(a_breaker(clock, break_duration=FullJitter(initial=10.0, cap=10.0)))
    until = clock.now() + breaker.retry_after
    for _ in range(100):
        clock.advance((until - clock.now()) / 7)
        assert pytest.approx(until) == clock.now() + breaker.retry_after
