"""
What other toolkits' suites expect of a circuit breaker: the cases CB-* (closed, tripping) and HO-* (half-open).

Cases that the laws decide otherwise are asserted in the law's sense. Cases without a test, and why:

======  ==========================================================================================
CB-006  the comparison is ``>=`` and nothing else; CB-005 is its test
CB-022  a server cannot push a circuit open; ``Retry-After`` is heard by `Retry` (law 26)
HO-015  nobody queues behind a probe, so nobody can be cancelled there; HO-014 is what happens
======  ==========================================================================================
"""

from __future__ import annotations

import math
import sys
from datetime import timedelta

import anyio
import pytest

from resilience import (
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    ResilienceWarning,
    SlowRate,
    TimeWindow,
)
from resilience.events import CircuitStateChanged
from resilience.testing import Recorder, Script
from tests.laws.breaker.kit import (
    BREAK,
    Caught,
    Held,
    a_breaker,
    due,
    free_seats,
    open_up,
    pipeline,
    totals,
    visible,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
HALF_OF_FIVE = FailureRate(0.5, CountWindow(5), minimum_calls=5)


def play(breaker: CircuitBreaker, outcomes: str) -> CircuitBreaker:
    """Calls that end at once: S well, F badly, i in nothing."""
    for outcome in outcomes:
        permit = breaker.admit()
        {"S": permit.success, "F": permit.failure, "i": permit.ignore}[outcome]()
    return breaker


def refused(breaker: CircuitBreaker) -> CircuitOpenError:
    """The rejection that the next caller meets."""
    with pytest.raises(CircuitOpenError) as caught:
        breaker.admit()
    return caught.value


# ------------------------------------------------------------------------------- closed, tripping


def test_a_new_breaker_is_closed_and_knows_no_rate(clock):
    """
    CB-001: closed, no calls, and a rate that is unknown, not 0.
    """
    seen = a_breaker(clock, trip=HALF_OF_FIVE).snapshot()
    assert (CLOSED, 1, 0, 0) == (seen.state, seen.generation, seen.calls, seen.failures)
    assert seen.failure_rate is None
    assert seen.last_failure is None


def test_below_its_minimum_of_calls_a_circuit_stays_closed_and_a_success_does_not_open_it(clock):
    """
    CB-002, decided otherwise by law 17: at 3 of 5 the fifth call succeeds; the next failure opens.
    """
    breaker = play(a_breaker(clock, trip=HALF_OF_FIVE), "FFFS")
    assert (CLOSED, 0.75) == (breaker.state, breaker.snapshot().failure_rate)
    play(breaker, "S")
    assert (CLOSED, 0.6) == (breaker.state, breaker.snapshot().failure_rate)
    play(breaker, "F")
    assert OPEN is breaker.state


def test_an_opening_is_announced_once_and_rejected_calls_are_counted_as_such_alone(clock):
    """
    CB-003: one event, then only ``rejected`` grows.
    """
    breaker, heard = a_breaker(clock, trip=HALF_OF_FIVE), Recorder(CircuitStateChanged)
    around = pipeline(breaker, listeners=[heard])
    play(breaker, "SSFFF")
    before = totals(breaker)
    for _ in range(7):
        refused(breaker)
    (event,) = heard.of(CircuitStateChanged)
    assert ("CLOSED", "OPEN", "tripped", 5, 3) == (
        event.old, event.new, event.reason, event.calls, event.failures,
    )  # fmt: skip
    assert before | {"rejected": 7} == totals(breaker)
    assert breaker is around.policies[0]


@pytest.mark.parametrize("ratio", [0.2, 0.4, 0.6, 0.8, 1.0])
def test_a_circuit_opens_at_exactly_its_ratio_with_exactly_its_minimum(clock, ratio):
    """
    CB-005: ``>=`` on both: one failure short of the ratio stays closed, the ratio itself opens.
    """
    bad = round(ratio * 5)
    short = a_breaker(clock, trip=FailureRate(ratio, CountWindow(5), 5))
    play(short, "S" * (6 - bad) + "F" * (bad - 1))
    assert CLOSED is short.state
    exact = a_breaker(clock, trip=FailureRate(ratio, CountWindow(5), 5))
    play(exact, "S" * (5 - bad) + "F" * bad)
    assert OPEN is exact.state


def test_a_window_that_ages_past_its_successes_opens_at_the_next_failure_only(clock):
    """
    CB-007, law 17: a success finds a ratio of 2/3 that time has made, and does not open; a failure does.
    """
    trip = FailureRate(0.6, TimeWindow(10), minimum_calls=3)
    breaker = play(a_breaker(clock, trip=trip), "SSSS")
    clock.advance(5.0)
    play(breaker, "FF")
    assert CLOSED is breaker.state
    clock.advance(5.0)
    play(breaker, "S")
    seen = breaker.snapshot()
    assert (CLOSED, 3, 2) == (seen.state, seen.calls, seen.failures)
    play(breaker, "F")
    assert OPEN is breaker.state


def test_closing_forgets_the_last_failure(clock):
    """
    CB-009: known while it is open and half-open, gone when it has closed.
    """
    breaker = due(a_breaker(clock), clock)
    probe = breaker.admit()
    assert (HALF_OPEN, "OSError") == (breaker.state, breaker.snapshot().last_failure)
    probe.success()
    assert (CLOSED, None) == (breaker.state, breaker.snapshot().last_failure)


async def test_a_result_can_open_and_its_rejection_has_no_cause(backend):
    """
    CB-010: a handled result is returned and counted as a failure; the rejection that follows names no error.
    """
    breaker = a_breaker(on=(), on_result=lambda result: result == 99, trip=ConsecutiveFailures(2))
    assert [98, 99, 99] == [await breaker(Script(result)) for result in (98, 99, 99)]
    error = refused(breaker)
    assert (None, None) == (error.__cause__, error.__context__)
    assert "result" == error.last_failure


async def test_a_rejection_names_the_last_failure_but_does_not_carry_it(backend):
    """
    CB-011, decided otherwise (H47): its source, the time left and the type name of what failed; never the error itself.
    """
    breaker = a_breaker()
    with pytest.raises(ConnectionResetError):
        await breaker(Script(ConnectionResetError("password=hunter2")))
    with pytest.raises(CircuitOpenError) as caught:
        await breaker(Script("never"))
    error = caught.value
    assert (None, None) == (error.__cause__, error.__context__)
    assert (breaker.name, "OPEN", "ConnectionResetError") == (
        error.breaker, error.state, error.last_failure,
    )  # fmt: skip
    assert f"CircuitBreaker({breaker.name!r})" == error.policy
    assert error.retry_after == pytest.approx(BREAK, abs=0.5)
    assert "hunter2" not in f"{error} {error!r} {vars(error)}"


async def test_an_error_that_is_not_named_is_a_success_and_an_ignored_one_is_nothing(backend):
    """
    CB-013: a KeyError that `on` does not name was an answer; a FileNotFoundError that `ignore` names is not counted.
    """
    breaker = a_breaker(ignore=FileNotFoundError, trip=HALF_OF_FIVE)
    for error in (KeyError, FileNotFoundError, FileNotFoundError):
        with pytest.raises(error):
            await breaker(Script(error))
    seen = breaker.snapshot()
    assert (1, 0) == (seen.calls, seen.failures)
    counted = totals(breaker)
    assert (1, 0, 2) == (counted["successes"], counted["failures"], counted["ignored"])


@pytest.mark.parametrize("on", [FileNotFoundError, OSError, lambda _: True])
async def test_ignore_is_stronger_than_on(backend, on):
    """
    CB-014, law 5: both match: ignored, whichever is the more exact.
    """
    breaker = a_breaker(on=on, ignore=OSError)
    with pytest.raises(FileNotFoundError):
        await breaker(Script(FileNotFoundError))
    assert (CLOSED, 0, 1) == (breaker.state, breaker.snapshot().calls, totals(breaker)["ignored"])


@pytest.mark.parametrize("state", [CLOSED, HALF_OPEN])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_a_base_exception_passes_as_it_is_and_is_counted_once_as_nothing(
    backend, clock, kind, state
):
    """
    CB-015, laws 1 and 2: the same object, no permit leaked, one ignored outcome.
    """
    breaker = a_breaker(clock, on=lambda _: True)
    if state is HALF_OPEN:
        due(breaker, clock)
    before, stop = totals(breaker), kind()
    with pytest.raises(kind) as caught:
        await breaker(Script(stop))
    assert stop is caught.value
    assert state is breaker.state
    assert before | {"ignored": 1} == totals(breaker)
    if state is HALF_OPEN:
        assert 1 == free_seats(breaker)


async def test_one_call_that_is_awaited_twice_is_counted_once(backend):
    """
    CB-017: a coroutine of a guarded function runs and counts once; to await it again is Python's error.
    """
    breaker, script = a_breaker(trip=HALF_OF_FIVE), Script("page")
    guarded = breaker.wrap(script)
    pending = guarded()
    assert "page" == await pending
    with pytest.raises(RuntimeError, match="already awaited"):
        await pending
    assert (1, 1) == (script.calls, totals(breaker)["successes"])


@pytest.mark.parametrize("outcome", ["S", "F", "i"])
async def test_a_permit_counts_as_a_call_does_and_only_the_first_time(backend, outcome):
    """
    CB-018: admit and settle by hand leave what a guarded call leaves; settling again, in any way, leaves no more.
    """
    by_hand = a_breaker(ignore=FileNotFoundError, trip=HALF_OF_FIVE)
    called = a_breaker(ignore=FileNotFoundError, trip=HALF_OF_FIVE)
    permit = by_hand.admit()
    match outcome:
        case "S":
            permit.success()
            await called(Script("page"))
        case "F":
            permit.failure(OSError())
            with pytest.raises(OSError, match="step"):
                await called(Script(OSError))
        case _:
            permit.ignore()
            with pytest.raises(FileNotFoundError):
                await called(Script(FileNotFoundError))
    for again in (permit.success, permit.failure, permit.ignore):
        again()
    assert 1 == sum(totals(by_hand).values())
    assert totals(called) == totals(by_hand)
    assert called.snapshot().failures == by_hand.snapshot().failures
    assert called.snapshot().calls == by_hand.snapshot().calls


def test_slow_calls_open_whether_they_succeed_or_fail(clock):
    """
    CB-019: 2 slow successes and 1 slow failure of 5 are 60 % slow, and open at 20 % failures.
    """
    trip = FailureRate(0.5, CountWindow(5), 5) | SlowRate(0.6, 4.0, CountWindow(5), 5)
    breaker, heard = a_breaker(clock, trip=trip), Recorder(CircuitStateChanged)
    around = pipeline(breaker, listeners=[heard])
    play(breaker, "SS")
    for ending in ("success", "failure", "success"):
        assert CLOSED is breaker.state
        permit = breaker.admit()
        clock.advance(4.0)
        getattr(permit, ending)()
    (event,) = heard.of(CircuitStateChanged)
    assert ("OPEN", 5, 1, 3) == (event.new, event.calls, event.failures, event.slow)
    assert (OPEN, 3) == (around.policies[0].state, totals(breaker)["slow"])


BAD = [
    *(("ratio", lambda bad=bad: FailureRate(bad)) for bad in (0.0, 1.01, 101, -0.1, math.nan, True)),
    *(("ratio", lambda bad=bad: SlowRate(bad, 1.0)) for bad in (0.0, 1.01, math.nan)),
    *(("slower_than", lambda bad=bad: SlowRate(0.5, bad)) for bad in (0.0, -1.0, math.inf)),
    *(("minimum_calls", lambda bad=bad: FailureRate(0.5, minimum_calls=bad)) for bad in (0, -1, 1.5)),
    ("minimum_calls", lambda: FailureRate(0.5, CountWindow(5), minimum_calls=6)),
    *(("calls", lambda bad=bad: CountWindow(bad)) for bad in (0, -5, 2.0, True)),
    *(("seconds", lambda bad=bad: TimeWindow(bad)) for bad in (0, -1.0, math.nan, math.inf, "10")),
    ("buckets", lambda: TimeWindow(10, buckets=0)),
    ("n", lambda: ConsecutiveFailures(0)),
    *(("probes", lambda bad=bad: a_breaker(probes=bad)) for bad in (0, -1, True, 1.0)),
    ("successes_to_close", lambda: a_breaker(successes_to_close=0)),
    *(("break_duration", lambda bad=bad: a_breaker(break_duration=bad)) for bad in (0, -1, math.inf)),
    ("break_duration", lambda: a_breaker(break_duration=10**400)),
    ("probe_lease", lambda: a_breaker(probe_lease=0)),
    ("overdue_after", lambda: a_breaker(overdue_after=math.nan)),
    ("on", lambda: a_breaker(on=())),
    ("name", lambda: CircuitBreaker("", on=OSError)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "make"), BAD, ids=[f"{number}-{field}" for number, (field, _) in enumerate(BAD)]
)
def test_an_option_that_cannot_work_is_refused_at_construction_by_its_name(field, make):
    """
    CB-021, law 21: one `ConfigurationError`, which names the field.
    """
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert field == caught.value.field.rpartition(".")[2]


# ------------------------------------------------------------------ open, half-open, closed again


async def test_an_open_circuit_rejects_and_does_not_call(backend, clock):
    """
    HO-001: until a hair before the end, with the seconds that remain.
    """
    breaker, script = open_up(a_breaker(clock)), Script("page")
    for left in (BREAK, 0.5, 0.001):
        clock.advance(breaker.retry_after - left)
        with pytest.raises(CircuitOpenError) as caught:
            await breaker(script)
        assert caught.value.retry_after == pytest.approx(left)
    assert (0, 3) == (script.calls, totals(breaker)["rejected"])


def test_at_the_very_end_of_the_break_a_call_is_admitted(clock):
    """
    HO-002, law 16: at t == d, not only after it.
    """
    breaker = open_up(a_breaker(clock))
    until = clock.now() + BREAK
    clock.advance(math.nextafter(until, 0.0) - clock.now())
    refused(breaker)
    clock.advance(until - clock.now())
    breaker.admit().success()
    assert CLOSED is breaker.state


def test_a_half_open_circuit_admits_as_many_as_it_has_probes(clock):
    """
    HO-003: 4 of 6 are admitted; the other two are counted as rejected and told that it is half-open.
    """
    breaker = due(a_breaker(clock, probes=4), clock)
    probes = [breaker.admit() for _ in range(4)]
    errors = [refused(breaker) for _ in range(2)]
    assert [("HALF_OPEN", None)] * 2 == [(each.state, each.retry_after) for each in errors]
    assert 2 == totals(breaker)["rejected"]
    for probe in probes:
        probe.success()
    assert CLOSED is breaker.state


@pytest.mark.parametrize("end", ["success", "ignore"])
def test_a_probe_that_ends_makes_room_for_one_more(clock, end):
    """
    HO-005: exactly one, whether it succeeded (of several that must) or was ignored.
    """
    breaker = due(a_breaker(clock, probes=2, successes_to_close=9), clock)
    first, second = breaker.admit(), breaker.admit()
    refused(breaker)
    getattr(first, end)()
    third = breaker.admit()
    refused(breaker)
    second.ignore()
    third.ignore()
    assert 2 == free_seats(breaker)


async def test_an_ignored_error_of_a_probe_gives_its_place_back(backend, clock):
    """
    HO-006: 3 of 4 successes, an ignored error (still half-open, place free), then the fourth success closes.
    """
    breaker = due(a_breaker(clock, probes=4, ignore=FileNotFoundError), clock)
    for _ in range(3):
        await breaker(Script("page"))
    with pytest.raises(FileNotFoundError):
        await breaker(Script(FileNotFoundError))
    assert (HALF_OPEN, 4) == (breaker.state, free_seats(breaker))
    await breaker(Script("page"))
    assert CLOSED is breaker.state


def test_ignored_probes_never_make_a_half_open_circuit_stuck(clock):
    """
    HO-007: a hundred ignored ones later all places are free, and successes close it.
    """
    breaker = due(a_breaker(clock, probes=4), clock)
    play(breaker, "i" * 100)
    assert (HALF_OPEN, 4) == (breaker.state, free_seats(breaker))
    play(breaker, "SSSS")
    assert CLOSED is breaker.state


def test_a_probe_that_hangs_loses_its_place_to_its_lease(clock):
    """
    HO-009, law 12: rejected while the lease runs; then it has failed, and the break runs from the lease's end.
    """
    breaker = due(a_breaker(clock, probe_lease=20.0), clock)
    hung = breaker.admit()
    clock.advance(19.5)
    assert "HALF_OPEN" == refused(breaker).state
    clock.advance(3.5)
    error = refused(breaker)
    assert ("OPEN", BREAK - 3.0) == (error.state, error.retry_after)
    clock.advance(BREAK - 3.0)
    probe = breaker.admit()
    hung.failure()
    assert HALF_OPEN is breaker.state
    probe.success()
    assert CLOSED is breaker.state


def test_a_probe_that_fails_reopens_for_a_whole_break_from_now(clock):
    """
    HO-010: the timer starts at the failure, not at the probe's start or the first opening.
    """
    breaker = due(a_breaker(clock), clock)
    probe = breaker.admit()
    clock.advance(7.0)
    probe.failure()
    assert (OPEN, BREAK) == (breaker.state, breaker.retry_after)
    clock.advance(BREAK - 0.5)
    assert 0.5 == refused(breaker).retry_after


def test_enough_successful_probes_close_with_empty_counters(clock):
    """
    HO-011: not one before; afterwards the window knows neither the old failures nor the probes.
    """
    trip = FailureRate(0.5, CountWindow(4), 2)
    breaker = due(a_breaker(clock, trip=trip, successes_to_close=3), clock)
    play(breaker, "SS")
    assert HALF_OPEN is breaker.state
    play(breaker, "S")
    seen = breaker.snapshot()
    assert (CLOSED, 0, 0) == (seen.state, seen.calls, seen.failures)
    play(breaker, "F")
    assert CLOSED is breaker.state


def test_one_failed_probe_reopens_at_once(clock):
    """
    HO-013, decided otherwise by law 11: not the fourth of a sample; the first, while others are still in flight.
    """
    breaker = due(a_breaker(clock, probes=10), clock)
    play(breaker, "SSSS")
    others = [breaker.admit() for _ in range(5)]
    play(breaker, "F")
    assert (OPEN, BREAK) == (breaker.state, breaker.retry_after)
    for each in others:
        each.success()
    assert (OPEN, BREAK) == (breaker.state, breaker.retry_after)


async def test_callers_beyond_the_probes_are_rejected_at_once_and_not_queued(backend, clock):
    """
    HO-014, decided by law 11: they are turned away while the probe still runs, and run nothing when it has ended.
    """
    breaker = due(a_breaker(clock), clock)
    probe, script = Held("page"), Script("never")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(breaker, probe)
        await probe.entered.wait()
        for _ in range(3):
            with pytest.raises(CircuitOpenError) as caught:
                await breaker(script)
            assert "HALF_OPEN" == caught.value.state
        probe.go.set()
    assert (CLOSED, 0, 1) == (breaker.state, script.calls, probe.calls)


def test_each_consecutive_opening_draws_its_own_break(clock):
    """
    HO-017: 1 s, then 2 s after a failed probe, then 4 s.
    """
    breaker = a_breaker(clock, break_duration=lambda opening: 2.0 ** (opening - 1))
    open_up(breaker)
    for expected in (1.0, 2.0, 4.0):
        assert expected == breaker.retry_after
        clock.advance(expected - 0.25)
        refused(breaker)
        clock.advance(0.25)
        play(breaker, "F")
    assert 8.0 == breaker.retry_after


def test_closing_starts_the_breaks_from_the_first_again(clock):
    """
    HO-018: 1, 2, closed, 1.
    """
    drawn = []
    breaker = a_breaker(clock, break_duration=lambda opening: drawn.append(opening) or 1.0)
    play(due(breaker, clock), "F")
    clock.advance(1.0)
    play(breaker, "S")
    assert CLOSED is breaker.state
    play(breaker, "F")
    assert [1, 2, 1] == drawn


@pytest.mark.parametrize(
    "longest", [sys.float_info.max, timedelta.max, lambda _: sys.float_info.max]
)
def test_a_break_of_astronomic_length_opens_and_stays_open(clock, longest):
    """
    HO-019: no overflow; the seconds left are a finite number.
    """
    breaker = open_up(a_breaker(clock, break_duration=longest))
    clock.advance(1e9)
    error = refused(breaker)
    assert error.retry_after > 1e10
    assert math.isfinite(error.retry_after)
    assert str(error).startswith("circuit")


@pytest.mark.parametrize("drawn", [10**400, math.inf, math.nan, -1.0, "soon", None])
def test_a_break_that_no_clock_can_hold_becomes_the_default(clock, drawn):
    """
    HO-019, law 21: what a user's function returns is mended with one warning, and never raised.
    """
    breaker = a_breaker(clock, break_duration=lambda _: drawn)
    with pytest.warns(ResilienceWarning, match="break_duration returned") as warned:
        play(breaker, "F")
    assert (OPEN, 30.0) == (breaker.state, breaker.retry_after)
    clock.advance(30.0)
    play(breaker, "F")  # a second warning would be an error
    assert (OPEN, 30.0, 1) == (breaker.state, breaker.retry_after, len(warned))


def test_a_break_that_was_ended_by_hand_does_not_end_a_second_time(clock):
    """
    HO-021: nothing is scheduled: when the old break would have ended, nothing happens.
    """
    breaker, heard = open_up(a_breaker(clock)), Recorder(CircuitStateChanged)
    around = pipeline(breaker, listeners=[heard])
    breaker.reset()
    clock.advance(BREAK)
    play(breaker, "SS")
    assert ["CLOSED"] == [event.new for event in heard]
    assert (CLOSED, 3, 2) == (breaker.state, breaker.generation, breaker.snapshot().calls)
    assert breaker is around.policies[0]


def test_a_break_that_is_over_reads_as_open_until_somebody_asks(clock):
    """
    HO-022, law 16: reading changes nothing: OPEN with 0.0 s to wait, until a caller comes.
    """
    breaker = due(a_breaker(clock), clock)
    clock.advance(5.0)
    before = visible(breaker)
    assert (OPEN, 0.0) == (breaker.state, breaker.retry_after)
    assert before == visible(breaker)
    probe = breaker.admit()
    assert (HALF_OPEN, None) == (breaker.state, breaker.retry_after)
    probe.ignore()


def test_the_minimum_of_calls_does_not_apply_while_half_open(clock):
    """
    HO-023: one failed probe reopens a breaker that wants 20 calls to open.
    """
    trip = FailureRate(0.5, CountWindow(20), minimum_calls=20)
    breaker = due(a_breaker(clock, trip=trip), clock)
    play(breaker, "F")
    assert OPEN is breaker.state


@pytest.mark.parametrize("probes", [1, 3])
async def test_of_a_thousand_that_race_for_a_half_open_circuit_its_probes_run(
    backend, clock, probes
):
    """
    HO-025: at the instant in which the break ends, exactly ``probes`` run and the others are rejected.
    """
    breaker = due(a_breaker(clock, probes=probes), clock)
    callee, rejected = Held("page"), []

    async def caller() -> None:
        try:
            await breaker(callee)
        except CircuitOpenError as error:
            rejected.append(error.state)
            if len(rejected) == 1000 - probes:
                callee.go.set()

    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(caller)
    assert (probes, 1000 - probes) == (callee.calls, len(rejected))
    assert CLOSED is breaker.state


async def test_a_probe_that_an_inner_policy_rejects_says_nothing_of_the_dependency(backend, clock):
    """
    HO-026, law 4: neither closed nor reopened; the place is free again.
    """
    outer, inner = due(a_breaker(clock), clock), a_breaker(clock)
    guarded, script = pipeline(outer, inner), Script("page")
    with inner.isolate():
        with pytest.raises(CircuitOpenError) as caught:
            await guarded(script)
        assert inner.name == caught.value.breaker
    assert (1, 1) == (totals(outer)["ignored"], totals(outer)["failures"])  # it had been opened
    assert (HALF_OPEN, 1, 0) == (outer.state, free_seats(outer), script.calls)
    assert "page" == await guarded(script)
    assert CLOSED is outer.state


async def test_a_cancelled_probe_is_neutral_and_hands_its_place_on(backend, clock):
    """
    HO-027: neither closed nor open; the next caller is the probe.
    """
    breaker = due(a_breaker(clock), clock)
    probe, caller = Held(), Caught()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(caller, breaker, probe)
        await probe.entered.wait()
        tasks.cancel_scope.cancel()
    assert isinstance(caller.error, anyio.get_cancelled_exc_class())
    assert caller.error is probe.thrown
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))
    await breaker(Script("page"))
    assert CLOSED is breaker.state
