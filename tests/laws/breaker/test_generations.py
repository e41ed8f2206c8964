"""
Laws 9 and 14: what is over does not vote, and every move is told once.
"""

from __future__ import annotations

import random

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    CircuitState,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    SlowRate,
    TimeWindow,
)
from resilience.events import CircuitStateChanged, CircuitTripped
from resilience.testing import Recorder, Script
from resilience.verdicts import Verdict
from tests.laws.breaker.kit import (
    Caught,
    Held,
    a_breaker,
    due,
    free_seats,
    gained,
    open_up,
    pipeline,
    settle,
    stranger,
    totals,
    visible,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
ISOLATED, OBSERVING = CircuitState.ISOLATED, CircuitState.OBSERVING


class RefusedError(Exception):
    """What a breaker of these tests ignores."""


ENDINGS = {
    "successes": "fine",
    "failures": OSError("late"),
    "ignored": RefusedError("late"),
    "slow success": "fine",
}


def _reopened(breaker, clock):
    open_up(breaker)


def _half_open(breaker, clock):
    due(breaker, clock).admit().ignore()


def _half_open_and_full(breaker, clock):
    due(breaker, clock)
    breaker.held = stranger(breaker)


def _closed_again(breaker, clock):
    settle(breaker, stranger(due(breaker, clock)), Verdict.SUCCESS)


def _closed_again_with_a_failure(breaker, clock):
    _closed_again(breaker, clock)
    settle(breaker, stranger(breaker), Verdict.FAILURE)


def _isolated(breaker, clock):
    breaker.isolate()


def _observing(breaker, clock):
    breaker.observe()


def _reset(breaker, clock):
    breaker.reset()


MEANWHILE = [
    _reopened,
    _half_open,
    _closed_again,
    _closed_again_with_a_failure,
    _isolated,
    _observing,
    _reset,
]

TRIPS = {
    "plain": ConsecutiveFailures(2),
    "timed": FailureRate(0.5, TimeWindow(1000), 2),
    "watched": ConsecutiveFailures(2) | SlowRate(1.0, 5.0, CountWindow(2), 2),
}


# ------------------------------------------------------------------------------------------ law 9


@pytest.mark.parametrize("trip", TRIPS)
@pytest.mark.parametrize("meanwhile", MEANWHILE)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_call_of_an_older_generation_changes_nothing_but_the_totals(
    *, backend, clock, trip, meanwhile, ending
):
    """
    Law 9, GEN-001, GEN-002, GEN-003, GEN-005, GEN-006, H23, B6: not the state, not the window, not the last failure.

    The caller still gets the real result, and the lifetime totals count it.
    """
    breaker = a_breaker(clock, ignore=RefusedError, trip=TRIPS[trip])
    callee, caught = Held(ENDINGS[ending]), Caught()
    async with anyio.create_task_group() as group:
        group.start_soon(caught, pipeline(breaker), callee)
        await callee.entered.wait()
        meanwhile(breaker, clock)
        if ending == "slow success":
            clock.advance(6.0)
        before, seen = totals(breaker), visible(breaker)
        callee.go.set()
    assert seen == visible(breaker)
    expected = {"successes" if ending == "slow success" else ending: 1}
    late = clock.now() - 1000.0
    if trip == "watched" and ending != "ignored" and late >= 5.0:
        expected["slow"] = 1
    assert expected == gained(breaker, before)
    if isinstance(callee.ending, BaseException):
        assert callee.ending is caught.error
    else:
        assert callee.ending == caught.result


@pytest.mark.parametrize("ending", ["successes", "failures", "ignored"])
async def test_a_call_of_an_older_generation_frees_no_probes_place(backend, clock, ending):
    """
    Law 9: not the number of probes in flight; the next caller is still turned away, and the probe's word still counts.
    """
    breaker = a_breaker(clock, ignore=RefusedError)
    callees = [Held(ENDINGS[ending]) for _ in range(3)]
    async with anyio.create_task_group() as group:
        for callee in callees:
            group.start_soon(Caught(), pipeline(breaker), callee)
            await callee.entered.wait()
        due(breaker, clock)
        probe = stranger(breaker)
        for callee in callees:
            callee.go.set()
    assert (HALF_OPEN, None) == (breaker.state, stranger(breaker))
    settle(breaker, probe, Verdict.SUCCESS)
    assert CLOSED is breaker.state


@pytest.mark.parametrize("ending", ["successes", "failures", "ignored"])
async def test_a_probe_of_an_older_round_is_as_old_as_any_other_call(backend, clock, ending):
    """
    Law 9: it neither closes nor reopens the round of now, nor gives this round a place more.
    """
    breaker = due(a_breaker(clock, probes=2, ignore=RefusedError), clock)
    callee = Held(ENDINGS[ending])
    async with anyio.create_task_group() as group:
        group.start_soon(Caught(), pipeline(breaker), callee)
        await callee.entered.wait()
        settle(breaker, stranger(breaker), Verdict.FAILURE)
        assert OPEN is breaker.state
        clock.advance(10.0)
        probe = stranger(breaker)
        seen, before = visible(breaker), totals(breaker)
        callee.go.set()
    assert seen == visible(breaker)
    assert {ending: 1} == gained(breaker, before)
    assert 1 == free_seats(breaker)
    settle(breaker, probe, Verdict.SUCCESS)
    assert HALF_OPEN is breaker.state


async def test_probes_that_are_left_over_when_it_closes_are_no_longer_asked(backend, clock):
    """
    Law 9: ``successes_to_close`` was reached without them; their failures belong to the round that is over.
    """
    breaker = due(a_breaker(clock, probes=3, successes_to_close=1), clock)
    callees = [Held("fine"), Held(OSError("late")), Held(OSError("late"))]
    async with anyio.create_task_group() as group:
        for callee in callees:
            group.start_soon(Caught(), pipeline(breaker), callee)
            await callee.entered.wait()
        callees[0].go.set()
        await anyio.sleep(0.01)
        assert CLOSED is breaker.state
        for callee in callees[1:]:
            callee.go.set()
    assert (CLOSED, 0, 0) == (breaker.state, breaker.snapshot().calls, breaker.snapshot().failures)
    assert (1, 3) == (totals(breaker)["successes"], totals(breaker)["failures"])


@pytest.mark.parametrize("trip", TRIPS)
async def test_lifetime_totals_count_every_outcome_exactly(backend, clock, trip):
    """
    Law 9: over openings, resets, calls that come late, and generations that nobody holds any more.
    """
    rng = random.Random(9)
    breaker = a_breaker(clock, ignore=RefusedError, trip=TRIPS[trip], break_duration=3.0)
    guarded = pipeline(breaker)
    expected = dict.fromkeys(("successes", "failures", "ignored", "rejected"), 0)
    in_flight = []
    for number in range(400):
        clock.advance(rng.random())
        if number % 50 == 49:
            breaker.reset()
        if rng.random() < 0.3 and (permit := stranger(breaker)) is not None:
            in_flight.append(permit)
        elif in_flight and rng.random() < 0.3:
            verdict = rng.choice(list(Verdict))
            settle(breaker, in_flight.pop(rng.randrange(len(in_flight))), verdict)
            expected[
                {"SUCCESS": "successes", "FAILURE": "failures"}.get(verdict.name, "ignored")
            ] += 1
        else:
            kind = rng.choice(["successes", "failures", "ignored"])
            script = Script(ENDINGS[kind])
            await guarded.outcome(script)
            expected[kind] += script.calls
    for permit in in_flight:
        settle(breaker, permit, Verdict.SUCCESS)
        expected["successes"] += 1
    counted = totals(breaker)
    assert breaker.generation > 20
    assert [expected[name] for name in ("successes", "failures", "ignored")] == [
        counted[name] for name in ("successes", "failures", "ignored")
    ]


# ----------------------------------------------------------------------------------------- law 14


async def test_every_transition_makes_a_new_generation_with_empty_counters(backend, clock):
    """
    Law 14, B8, B14, HO-011, CB-009: the number grows by one, the window and the last failure of a closed one are gone.
    """
    breaker = a_breaker(clock, trip=FailureRate(0.5, CountWindow(10), 4))
    guarded = pipeline(breaker)
    for step in (1, 1, OSError, OSError):
        assert (CLOSED, 1) == (breaker.state, breaker.generation)
        await guarded.outcome(Script(step))
    seen = breaker.snapshot()
    assert (OPEN, 2, 0, 0, "OSError") == (
        seen.state, seen.generation, seen.calls, seen.failures, seen.last_failure,
    )  # fmt: skip
    clock.advance(10.0)
    await guarded(Script(1))
    seen = breaker.snapshot()
    assert (CLOSED, 4, 0, 0, None) == (
        seen.state, seen.generation, seen.calls, seen.failures, seen.last_failure,
    )  # fmt: skip
    await guarded.outcome(Script(OSError))
    assert (1, 1, "OSError") == (
        breaker.snapshot().calls, breaker.snapshot().failures, breaker.snapshot().last_failure,
    )  # fmt: skip


async def test_a_transition_is_announced_once_after_it_happened(backend, clock):
    """
    Law 14, B20, CB-003, MAN-010: a listener that looks at the breaker finds it where the event says it is.
    """
    found = []

    def listener(event):
        seen = breaker.snapshot()
        found.append((event.old, event.new, event.generation, event.reason))
        assert (event.new, event.generation) == (seen.state.name, seen.generation)
        assert seen.openings == sum(each[1] == "OPEN" for each in found)

    listener.listens_to = (CircuitStateChanged,)
    breaker = a_breaker(clock)
    guarded = pipeline(breaker, listeners=[listener])
    for step in (OSError, 1):
        await guarded.outcome(Script(step))
    clock.advance(10.0)
    for step in (OSError, 1, 1):
        await guarded.outcome(Script(step))
    clock.advance(10.0)
    await guarded(Script(1))
    breaker.reset()
    with breaker.isolate():
        breaker.isolate().release()
    assert [
        ("CLOSED", "OPEN", 2, "tripped"),
        ("OPEN", "HALF_OPEN", 3, "break over"),
        ("HALF_OPEN", "OPEN", 4, "probe failed"),
        ("OPEN", "HALF_OPEN", 5, "break over"),
        ("HALF_OPEN", "CLOSED", 6, "probes succeeded"),
        ("CLOSED", "ISOLATED", 8, "by hand"),
        ("ISOLATED", "CLOSED", 9, "by hand"),
    ] == found


async def test_what_a_listener_causes_is_announced_after_what_caused_it(backend, clock):
    """
    Law 14, H27, EVT-001: a listener may call back; everybody hears the moves in the order in which they happened.
    """
    heard = Recorder(CircuitStateChanged)
    breaker = a_breaker(clock)

    def closes_it_again(event):
        if event.new == "OPEN" and breaker.generation < 20:
            breaker.reset()
            breaker.admit().failure()

    guarded = pipeline(breaker, listeners=[closes_it_again, heard])
    await guarded.outcome(Script(OSError))
    assert list(range(2, 21)) == [event.generation for event in heard]
    assert ["OPEN", "CLOSED"] * 9 + ["OPEN"] == [event.new for event in heard]


async def test_calls_that_fail_together_open_it_once(backend, clock):
    """
    Law 14, GEN-007: as many failures as there are callers, one opening, one announcement, one break.
    """
    heard = Recorder(CircuitStateChanged)
    breaker, callee = a_breaker(clock), Held(OSError("down"))
    guarded = pipeline(breaker, listeners=[heard])
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(Caught(), guarded, callee)
        while callee.calls < 50:
            await anyio.lowlevel.checkpoint()
        callee.go.set()
        await anyio.lowlevel.checkpoint()
        clock.advance(1.0)
    assert (["OPEN"], 1, 50) == (
        [event.new for event in heard],
        breaker.snapshot().openings,
        totals(breaker)["failures"],
    )


async def test_one_listener_of_two_pipelines_around_one_breaker_hears_once(backend, clock):
    """
    Law 14: exactly once, whatever number of pipelines share the breaker; a pipeline's own listener hears it too.
    """
    shared, own = Recorder(CircuitStateChanged), Recorder(CircuitStateChanged)
    breaker = a_breaker(clock)
    one = pipeline(breaker, listeners=[shared])
    other = pipeline(breaker, listeners=[shared, own])
    await one.outcome(Script(OSError))
    assert (1, 1) == (len(shared), len(own))
    clock.advance(10.0)
    await other(Script(1))
    assert (3, 3) == (len(shared), len(own))


async def test_an_event_tells_what_was_seen_when_it_moved(backend, clock):
    """
    Law 14: counts of the generation that ended, the break it begins, and of the failure the type name alone.
    """
    heard = Recorder(CircuitStateChanged)
    breaker = a_breaker(clock, trip=FailureRate(0.5, CountWindow(10), 4))
    guarded = pipeline(breaker, listeners=[heard])
    for step in (1, 1, OSError("secret"), OSError("secret")):
        clock.advance(1.0)
        await guarded.outcome(Script(step))
    (event,) = heard
    assert (breaker.name, "CLOSED", "OPEN", 2, "tripped") == (
        event.policy, event.old, event.new, event.generation, event.reason,
    )  # fmt: skip
    assert (1004.0, 10.0, 4, 2, 0, "OSError", None) == (
        event.at, event.retry_after, event.calls, event.failures, event.slow,
        event.last_failure, event.error_text,
    )  # fmt: skip
    assert "secret" not in repr(event)


async def test_an_observing_circuit_tells_what_it_saw_when_it_would_have_opened(backend, clock):
    """
    Law 14, MAN-006: its counts and the type name of the failure seen last, as an opening tells them.
    """
    heard = Recorder(CircuitTripped)
    breaker = a_breaker(clock, trip=FailureRate(0.5, CountWindow(10), 4))
    breaker.observe()
    guarded = pipeline(breaker, listeners=[heard])
    for step in (1, 1, OSError("secret"), ConnectionError("secret"), OSError("secret")):
        await guarded.outcome(Script(step))
    (event,) = heard
    assert (breaker.name, 1000.0, 4, 2, 0, "ConnectionError") == (
        event.policy, event.at, event.calls, event.failures, event.slow, event.last_failure,
    )  # fmt: skip
    assert "secret" not in repr(event)
