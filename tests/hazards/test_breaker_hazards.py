"""
What has gone wrong in the field with other people's breakers: H1-H10, H23-H34, H38 and H44-H47, each as it was met.

H4 (a queued waiter cancelled as it is granted) has no test: nobody queues at a breaker.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import math
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import warnings
import weakref

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import (
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    FullJitter,
    Pipeline,
    PipelineWarning,
    Timeout,
    TimeoutExceededError,
    TimeWindow,
)
from resilience.events import CircuitStateChanged
from resilience.testing import Hang, ManualClock, Recorder, Script, Wait
from tests.laws.breaker.kit import (
    BREAK,
    Caught,
    Held,
    a_breaker,
    due,
    examples,
    free_seats,
    open_up,
    pipeline,
    suspended,
    totals,
    visible,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


# ---------------------------------------------------------------------- cancellation and outcomes


async def test_a_cancelled_probe_does_not_reject_everybody_for_ever(backend, clock):
    """
    H1: the place is free, the state the same, and the next caller may probe; ten times over.
    """
    breaker = due(a_breaker(clock), clock)
    for _ in range(10):
        probe = Held()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(breaker, probe)
            await probe.entered.wait()
            with pytest.raises(CircuitOpenError):
                await breaker(Script("never"))
            tasks.cancel_scope.cancel()
        assert (HALF_OPEN, 1, 3) == (breaker.state, free_seats(breaker), breaker.generation)
    assert "page" == await breaker(Script("page"))
    assert CLOSED is breaker.state


async def test_a_probe_that_never_ends_does_not_reject_everybody_for_ever(backend, clock):
    """
    H2, law 12: its lease takes the place back, the dependency recovers, and the late answer is ignored.
    """
    breaker = due(a_breaker(clock, probe_lease=30.0), clock)
    hung = Held(OSError("at last"))
    caller = Caught()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller, breaker, hung)
        await hung.entered.wait()
        clock.advance(30.0 + BREAK)
        assert "page" == await breaker(Script("page"))
        assert CLOSED is breaker.state
        before = visible(breaker)
        hung.go.set()
    assert (hung.ending, before) == (caller.error, visible(breaker))


@pytest.mark.parametrize("cancellation", [asyncio.CancelledError, GeneratorExit])
def test_nothing_waits_between_the_permit_and_the_call(clock, cancellation):
    """
    H3, law 10: the first place at which a probe can be cancelled is the callee's own; there it gives its place back.
    """
    breaker = due(a_breaker(clock), clock)

    @breaker.wrap
    async def callee() -> None:
        await suspended("in the callee")

    running = callee()
    assert "in the callee" == running.send(None)
    assert HALF_OPEN is breaker.state
    with pytest.raises(cancellation):
        running.throw(cancellation())
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))


async def test_a_caller_that_is_cancelled_before_it_asks_takes_no_place_along(backend, clock):
    """
    H3: the scope around it was cancelled before the permit was issued.
    """
    breaker = due(a_breaker(clock), clock)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await breaker(Script(Hang()))
    assert scope.cancelled_caught
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))


async def test_a_cancellation_is_neither_success_nor_failure(backend, clock):
    """
    H5, law 2: a streak of one failure is neither ended nor made longer by it; the object that is raised is the same.
    """
    breaker = a_breaker(clock, trip=ConsecutiveFailures(2), on=lambda _: True)
    breaker.admit().failure(OSError())
    before, counted = visible(breaker), totals(breaker)
    callee, caller = Held(), Caught()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller, breaker, callee)
        await callee.entered.wait()
        tasks.cancel_scope.cancel()
    assert callee.thrown is caller.error
    assert (before, counted | {"ignored": 1}) == (visible(breaker), totals(breaker))
    breaker.admit().failure(OSError())
    assert OPEN is breaker.state


class Shutdown(BaseException):
    """Somebody's own way to end a program."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Shutdown])
@pytest.mark.parametrize("grouped", [False, True])
async def test_what_is_no_exception_is_nothing_to_a_breaker(backend, clock, kind, grouped):
    """
    H6: neutral, place released, re-raised as the same object, in a group with real failures as well.
    """
    breaker = due(a_breaker(clock, on=lambda _: True), clock)
    stop = BaseExceptionGroup("both", [OSError(), kind()]) if grouped else kind()
    with pytest.raises(type(stop)) as caught:
        await breaker(Script(stop))
    assert stop is caught.value
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))


async def test_our_deadline_is_told_from_a_caller_who_leaves(backend, unit):
    """
    H7, law 3: both look alike inside; the first is a failure, the second is nothing.
    """
    breaker = a_breaker(trip=ConsecutiveFailures(2))
    guarded = pipeline(Timeout(2 * unit), breaker)
    with anyio.move_on_after(unit):
        await guarded(Script(Hang()))
    assert (0, 1) == (totals(breaker)["failures"], totals(breaker)["ignored"])
    with pytest.raises(TimeoutExceededError):
        await guarded(Script(Hang()))
    assert (1, 1) == (totals(breaker)["failures"], totals(breaker)["ignored"])


@pytest.mark.parametrize("outside", [True, False])
async def test_a_dependency_that_hangs_opens_the_circuit_wherever_the_timeout_stands(
    backend, unit, outside
):
    """
    H8, decided otherwise by law 3: a timeout around the breaker trips it just as one inside does.
    """
    breaker, limit = a_breaker(trip=ConsecutiveFailures(2)), Timeout(unit)
    guarded = pipeline(*((limit, breaker) if outside else (breaker, limit)))
    for _ in range(2):
        with pytest.raises(TimeoutExceededError):
            await guarded(Script(Hang()))
    assert (OPEN, "TimeoutExceededError") == (breaker.state, breaker.snapshot().last_failure)


def test_a_breaker_with_no_timeout_inside_is_warned_of():
    """
    H8: nothing inside it ends a call that hangs; `overdue_after` or a timeout inside silences that.
    """
    with pytest.warns(PipelineWarning, match="nothing inside circuit breaker"):
        Pipeline(Timeout(10), a_breaker())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 2 == len(Pipeline(a_breaker(), Timeout(10)).policies)
        assert 1 == len(Pipeline(a_breaker(overdue_after=5.0)).policies)


@pytest.mark.parametrize("option", ["on", "ignore"])
async def test_a_predicate_that_raises_leaks_no_place_and_hides_no_error(
    backend, clock, caplog, option
):
    """
    H9, law 6: a failure, the original error, and one line in the log.
    """

    def predicate(error: Exception) -> bool:
        raise ZeroDivisionError("the predicate's")

    predicate.__qualname__ = f"predicate_of_{option}_{backend}".replace("+", "_")
    breaker = due(a_breaker(clock, **({"on": OSError} | {option: predicate})), clock)
    error = OSError("the call's")
    with pytest.raises(OSError, match="the call's") as caught:
        await breaker(Script(error))
    assert error is caught.value
    assert error.__context__ is None
    assert (OPEN, BREAK) == (breaker.state, breaker.retry_after)
    assert 1 == sum(predicate.__qualname__ in line for line in caplog.messages)
    clock.advance(BREAK)
    assert "page" == await breaker(Script("page"))


async def test_a_connection_error_that_comes_through_a_task_group_is_one(backend, clock):
    """
    H10, law 7: matched by its leaf however deep it lies; the group passes as it is.
    """
    breaker = a_breaker(clock, on=ConnectionError)

    async def fetch() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Script(ConnectionResetError))

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fetch)

    with pytest.raises(ExceptionGroup) as caught:
        await breaker(both)
    assert isinstance(caught.value.exceptions[0].exceptions[0], ConnectionResetError)
    assert (OPEN, "ExceptionGroup") == (breaker.state, breaker.snapshot().last_failure)


# ------------------------------------------------------------------------------------------ state


@pytest.mark.parametrize("ending", ["page", OSError("late")])
async def test_an_answer_from_before_the_break_does_not_vote_on_the_probe(backend, clock, ending):
    """
    H23, law 9: it started closed and ends while a probe runs: state and places stay; it is counted for life.
    """
    breaker = a_breaker(clock)
    old, probe, callers = Held(ending), Held("page"), [Caught(), Caught()]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(callers[0], breaker, old)
        await old.entered.wait()
        due(breaker, clock)
        tasks.start_soon(callers[1], breaker, probe)
        await probe.entered.wait()
        before, counted = visible(breaker), totals(breaker)
        old.go.set()
        await callers[0].done.wait()
        assert before == visible(breaker)
        late = "failures" if isinstance(ending, OSError) else "successes"
        assert counted | {late: counted[late] + 1} == totals(breaker)
        assert 0 == free_seats(breaker)
        probe.go.set()
    assert CLOSED is breaker.state


def test_who_comes_between_half_open_and_the_claim_takes_the_place_and_no_other_is_made(clock):
    """
    H24: a listener that hears of the half-open circuit before the first claim takes the place; the claim is rejected.
    """
    breaker, taken = a_breaker(clock), []

    def greedy(event: CircuitStateChanged) -> None:
        if event.new == "HALF_OPEN":
            taken.append(breaker.admit())

    greedy.listens_to = (CircuitStateChanged,)
    around = pipeline(breaker, listeners=[greedy])
    due(breaker, clock)
    with pytest.raises(CircuitOpenError):
        around.policies[0].admit()
    taken.pop().success()
    assert CLOSED is breaker.state


def test_no_listener_can_wait_in_the_middle_of_a_decision():
    """
    H24, H28: an async listener is refused when the pipeline is built.
    """

    async def listener(event) -> None:
        await anyio.sleep(1)

    with pytest.raises(ConfigurationError, match="not async"):
        pipeline(a_breaker(), listeners=[listener])


async def test_a_herd_that_waits_for_the_end_of_the_break_sends_one(backend, unit):
    """
    H25: of 17 that slept to the end of the break together one calls.
    """
    breaker = a_breaker(break_duration=2 * unit)
    open_up(breaker)
    script, rejected = Script(Wait(unit, "page")), []

    async def caller() -> None:
        await anyio.sleep(2.5 * unit)
        try:
            await breaker(script)
        except CircuitOpenError as error:
            rejected.append(error.state)

    async with anyio.create_task_group() as tasks:
        for _ in range(17):
            tasks.start_soon(caller)
    assert (1, ["HALF_OPEN"] * 16, CLOSED) == (script.calls, rejected, breaker.state)


def test_the_breaks_of_many_processes_can_be_spread(clock):
    """
    H25: with `FullJitter`, a hundred that open together do not probe together; each ends within its cap.
    """
    breaks = [
        open_up(
            a_breaker(clock, break_duration=FullJitter(8.0, 60.0), rng=random.Random(seed))
        ).retry_after
        for seed in range(100)
    ]
    assert 100 == len(set(breaks))
    assert 0.0 <= min(breaks) < 2.0
    assert 6.0 < max(breaks) <= 8.0


async def test_a_probe_that_calls_through_its_own_breaker_is_not_turned_away(backend, clock):
    """
    H26, law 13: it rides on its own permit, counts once, and a stranger is still rejected meanwhile.
    """
    breaker = due(a_breaker(clock), clock)
    before, other, never = totals(breaker)["successes"], Caught(), Script("never")

    @breaker.wrap
    async def countdown(depth: int) -> int:
        if not depth:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other, breaker, never)
            return 0
        return 1 + await countdown(depth - 1)

    assert 3 == await countdown(3)
    assert isinstance(other.error, CircuitOpenError)
    assert (CLOSED, before + 1, 0) == (
        breaker.state, totals(breaker)["successes"], never.calls,
    )  # fmt: skip


def test_a_listener_that_closes_the_breaker_each_time_it_opens_needs_no_stack(clock):
    """
    H27: two thousand transitions that cause one another are told one after another, not one inside another.
    """
    breaker, seen = a_breaker(clock), []

    def meddling(event: CircuitStateChanged) -> None:
        seen.append(event.generation)
        if event.new == "OPEN":
            breaker.reset()
        elif len(seen) < 2000:
            breaker.admit().failure(OSError())

    meddling.listens_to = (CircuitStateChanged,)
    around = pipeline(breaker, listeners=[meddling])
    around.policies[0].admit().failure(OSError())
    assert list(range(2, 2002)) == seen
    assert CLOSED is breaker.state


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
def test_a_listener_that_raises_finds_the_state_already_made(clock, fault):
    """
    H28, law 6: whatever it raises, the breaker opens, half-opens and closes as if nobody had listened.
    """
    breaker, heard = a_breaker(clock), []

    def broken(event: CircuitStateChanged) -> None:
        heard.append((event.new, breaker.state.name, breaker.generation == event.generation))
        raise fault

    broken.listens_to = (CircuitStateChanged,)
    around = pipeline(breaker, listeners=[broken])

    def step(action) -> object:
        if issubclass(fault, Exception):
            return action()
        with pytest.raises(fault):
            action()
        return None

    step(lambda: breaker.admit().failure(OSError()))
    assert OPEN is breaker.state
    clock.advance(BREAK)
    probe = step(breaker.admit) or breaker.admit()
    assert HALF_OPEN is breaker.state
    step(probe.success)
    assert CLOSED is around.policies[0].state
    assert [(state, state, True) for state in ("OPEN", "HALF_OPEN", "CLOSED")] == heard


def test_a_threshold_of_one_opens_at_one_and_nothing_opens_at_none(clock):
    """
    H29: the smallest numbers work, and zero is refused.
    """
    for trip in (ConsecutiveFailures(1), FailureRate(1.0, CountWindow(1), 1)):
        breaker = a_breaker(clock, trip=trip)
        breaker.admit().success()
        assert CLOSED is breaker.state
        breaker.admit().failure()
        assert OPEN is breaker.state
    for wrong in (lambda: ConsecutiveFailures(0), lambda: FailureRate(0.5, minimum_calls=0)):
        with pytest.raises(ConfigurationError):
            wrong()


@pytest.mark.parametrize("window", [CountWindow(10), TimeWindow(10)])
def test_ignored_calls_do_not_fill_the_minimum(clock, window):
    """
    H29: a window of nothing but ignored calls has no ratio; nine failures among them are below the minimum of ten.
    """
    breaker = a_breaker(clock, trip=FailureRate(0.1, window, minimum_calls=10))
    for number in range(100):
        breaker.admit().ignore()
        if number % 11 == 0 and number < 99:
            breaker.admit().failure()
    seen = breaker.snapshot()
    assert (CLOSED, 9, 9) == (seen.state, seen.calls, seen.failures)
    breaker.admit().failure()
    assert OPEN is breaker.state


@pytest.mark.parametrize("second", ["success", "failure", "ignore"])
@pytest.mark.parametrize("first", ["success", "ignore"])
def test_a_permit_given_back_twice_makes_no_second_place(clock, first, second):
    """
    H30, law 8: the number of probes in flight never falls below what it is.
    """
    breaker = due(a_breaker(clock, probes=2, successes_to_close=5), clock)
    permit, other = breaker.admit(), breaker.admit()
    getattr(permit, first)()
    before = visible(breaker), totals(breaker)
    getattr(permit, second)()
    assert before == (visible(breaker), totals(breaker))
    assert 1 == free_seats(breaker)
    other.ignore()
    assert 2 == free_seats(breaker)


# ------------------------------------------------------------------------------ clocks and numbers


@pytest.mark.parametrize("step", [1e9, -1e9])
def test_a_step_of_the_wall_clock_ends_no_break_and_prolongs_none(monkeypatch, step):
    """
    H31, law 20: by default time is the process's monotonic clock.
    """
    long, short = (open_up(a_breaker(break_duration=each)) for each in (10_000.0, 0.05))
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + step)
    assert 9_000.0 < long.retry_after <= 10_000.0
    with pytest.raises(CircuitOpenError):
        long.admit()
    assert 0.0 <= short.retry_after <= 0.05
    began = time.monotonic()
    while short.retry_after:
        assert time.monotonic() - began < 60
        time.sleep(0.005)
    short.admit().success()
    assert CLOSED is short.state


@pytest.mark.parametrize("slept", [0.0, 86_400.0])
def test_a_machine_that_was_suspended_wakes_with_a_circuit_that_works(clock, slept):
    """
    H32: whether the clock stood meanwhile (the break goes on) or ran (it is over), no more than the probes get in.
    """
    breaker = open_up(a_breaker(clock, probes=2))
    clock.advance(slept)
    if slept:
        permits = [breaker.admit(), breaker.admit()]
    else:
        assert BREAK == breaker.retry_after
        clock.advance(BREAK)
        permits = [breaker.admit(), breaker.admit()]
    with pytest.raises(CircuitOpenError):
        breaker.admit()
    for permit in permits:
        permit.success()
    assert CLOSED is breaker.state


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["success", "failure", "ignore", "hold"]),
        st.one_of(st.just(0.0), st.floats(-3600, 3600), st.floats(-1, 1)),
    ),
    max_size=40,
)


@examples(200)
@given(steps=STEPS)
def test_a_clock_that_stands_or_runs_backwards_admits_nobody_early(steps):
    """
    H33, law 20: whatever it reads, an open circuit admits only from its end on, and nothing raises.
    """
    clock = ManualClock()
    trip = ConsecutiveFailures(2) | FailureRate(0.5, TimeWindow(10), 4)
    breaker = a_breaker(clock, trip=trip, probe_lease=30.0)
    until, held = -math.inf, []
    for action, seconds in steps:
        if breaker.state is OPEN:
            until = breaker._core.circuit.current.until
        clock.advance(seconds)
        was_open = breaker.state is OPEN
        assert not was_open or 0.0 <= breaker.retry_after <= BREAK
        try:
            permit = breaker.admit()
        except CircuitOpenError:
            assert breaker.state in {OPEN, HALF_OPEN}
            continue
        assert not was_open or clock.now() >= until
        if action == "hold":
            held.append(permit)
        else:
            getattr(permit, action)()
    for permit in held:
        permit.ignore()


@pytest.mark.parametrize("start", [0.0, 30 * 86_400.0, 3650 * 86_400.0, 1e9])
def test_buckets_are_exact_after_years_of_uptime(start):
    """
    H34: one call in each of 10,000 slots of 0.1 s, at instants computed from the base: always ten in a window of ten.
    """
    clock = ManualClock(start)
    breaker = a_breaker(clock, trip=FailureRate(1.0, TimeWindow(1.0), 10**9))
    for slot in range(10_000):
        clock.advance(start + (slot + 0.5) * 0.1 - clock.now())
        breaker.admit().failure()
        assert min(slot + 1, 10) == breaker.snapshot().failures


@pytest.mark.parametrize("start", [0.0, 1e9])
def test_a_break_too_short_for_the_clock_to_show_ends(start):
    """
    H34: 1 ns is lost at 1e9 s, and the circuit then admits at once instead of never.
    """
    clock = ManualClock(start)
    breaker = open_up(a_breaker(clock, break_duration=1e-9))
    clock.advance(1e-9)
    assert 0.0 == breaker.retry_after
    breaker.admit().success()
    assert CLOSED is breaker.state


# ---------------------------------------------------------------------- threads, processes, memory


def test_loops_in_several_threads_get_exactly_the_probes_and_one_opening(clock):
    """
    H38, law 15: 4 threads with a loop of 50 callers each: every caller is a probe or rejected, none is lost.
    """
    heard = Recorder(CircuitStateChanged)
    for probes in (1, 3, 7):
        breaker = due(a_breaker(clock, probes=probes), clock)
        guarded = pipeline(breaker, listeners=[heard])
        heard.clear()
        before = totals(breaker)
        ready, entered, rejected = threading.Barrier(4), [], []

        async def callee(entered=entered, rejected=rejected) -> None:
            entered.append(None)
            while len(entered) + len(rejected) < 200:  # noqa: ASYNC110 - an event is of one loop
                await asyncio.sleep(0.001)
            raise OSError

        async def caller(guarded=guarded, rejected=rejected, callee=callee) -> None:
            try:
                await guarded(callee)
            except CircuitOpenError:
                rejected.append(None)
            except OSError:
                pass

        async def loop(ready=ready, caller=caller) -> None:
            ready.wait()
            async with asyncio.timeout(10):
                await asyncio.gather(*(caller() for _ in range(50)))

        threads = [threading.Thread(target=lambda: asyncio.run(loop())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (probes, 200 - probes) == (len(entered), len(rejected))
        assert ["HALF_OPEN", "OPEN"] == [event.new for event in heard]
        assert before | {
            "failures": before["failures"] + probes,
            "rejected": before["rejected"] + 200 - probes,
            "openings": before["openings"] + 1,
        } == totals(breaker)


@pytest.mark.parametrize(
    "split",
    [copy.copy, copy.deepcopy, *(lambda it, n=n: pickle.dumps(it, n) for n in range(6))],
    ids=["copy", "deepcopy", *(f"pickle {n}" for n in range(6))],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_breaker_cannot_be_split_by_copying(split, inside):
    """
    H44, law 37: one sentence that names it, alone and inside a pipeline that is pickled; never half of its state.
    """
    breaker = a_breaker()
    thing = {"of a cache": breaker} if inside else breaker
    if inside and split is copy.copy:
        assert breaker is split(thing)["of a cache"]
        return
    with pytest.raises(TypeError, match="a CircuitBreaker holds the state of this process"):
        split(thing)


FORKED = """
import logging, os
from resilience import CircuitBreaker, CircuitOpenError, ConsecutiveFailures
from resilience.testing import ManualClock

logging.getLogger("resilience").disabled = True
clock = ManualClock()
breaker = CircuitBreaker(
    "forked", on=OSError, trip=ConsecutiveFailures(1), break_duration=10, probe_lease=60, clock=clock
)
breaker.admit().failure()
clock.advance(10)
probe = breaker.admit()
child = os.fork()
if child == 0:
    clock.advance(60 + 10)
    breaker.admit().success()
    probe.failure()
    print(breaker.state.name, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
try:
    breaker.admit()
except CircuitOpenError as error:
    print(error.state)
probe.success()
print(breaker.state.name)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_that_was_forked_while_a_probe_ran_is_not_stuck():
    """
    H45, by the lease of law 12: the probe that the child inherited ends there at the latest; the parent's goes on.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKED],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert ["CLOSED", "HALF_OPEN", "CLOSED"] == done.stdout.split()


async def test_a_rejected_call_makes_no_coroutine_that_nobody_awaits(backend, clock):
    """
    H46, law 10: the function is not called; a coroutine object in its place is closed, with the right spelling told.
    """
    breaker, made = open_up(a_breaker(clock)), []

    async def callee() -> None: ...

    def function():
        made.append(callee())
        return made[-1]

    with pytest.raises(CircuitOpenError):
        await breaker(function)
    assert isinstance((await breaker.outcome(function)).error, CircuitOpenError)
    assert [] == made
    pending = callee()
    with pytest.raises(TypeError, match="callee"):
        await breaker(pending)
    with pytest.raises(RuntimeError, match="already awaited"):
        pending.send(None)


def test_a_probe_whose_coroutine_is_collected_leaves_its_place(clock):
    """
    H46: dropped in the middle of the call, closed by the collector, ignored by the breaker.
    """
    breaker = due(a_breaker(clock), clock)

    @breaker.wrap
    async def callee() -> None:
        await suspended("in the callee")

    running = callee()
    assert "in the callee" == running.send(None)
    assert 0 == free_seats(breaker)
    del running
    gc.collect()
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))


class WatchedError(OSError):
    """An error that can be watched, with a secret in its text and in the frame that raised it."""


@pytest.mark.parametrize("error_text", [False, True])
async def test_the_last_failure_keeps_neither_the_error_nor_what_its_frames_held(
    backend, clock, error_text
):
    """
    H47, law 36: the error is gone with its caller; its text is kept only on request, cut, with nothing unprintable.
    """
    breaker, heard = a_breaker(clock, error_text=error_text), Recorder()
    guarded, watched = pipeline(breaker, listeners=[heard]), []

    async def fails() -> None:
        error = WatchedError("hunter2\n" + "x" * 1000)
        watched.append(weakref.ref(error))
        raise error

    with pytest.raises(WatchedError):
        await guarded(fails)
    gc.collect()
    assert [None] == [each() for each in watched]
    seen = breaker.snapshot()
    assert "WatchedError" == seen.last_failure
    if error_text:
        assert "hunter2\\n" + "x" * 191 == seen.last_failure_text
    else:
        assert seen.last_failure_text is None
        assert "hunter2" not in f"{seen} {heard.events} {breaker!r}"
    with pytest.raises(CircuitOpenError) as caught:
        await guarded(fails)
    assert "hunter2" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
