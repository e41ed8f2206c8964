"""
What other toolkits' suites expect of answers that come late, of control by hand and of events.

The cases GEN-*, MAN-*, EVT-* and STA-*. Without a test, and why:

=======  =========================================================================================
STA-001  a breaker's state cannot be exported: it is this process's, and its instants this clock's
STA-002  (as STA-001)
STA-005  there is no warm-up; ``minimum_calls`` is what keeps the first few calls from opening
=======  =========================================================================================
"""

from __future__ import annotations

import threading

import attrs
import pytest

from resilience import (
    CircuitBreaker,
    CircuitIsolatedError,
    CircuitOpenError,
    CircuitState,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    Timeout,
)
from resilience.events import CallFinished, CallRejected, CircuitStateChanged, CircuitTripped
from resilience.testing import Recorder, Script, forced
from tests.laws.breaker.kit import (
    BREAK,
    a_breaker,
    due,
    free_seats,
    open_up,
    pipeline,
    stranger,
    totals,
    visible,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
ISOLATED, DISABLED = CircuitState.ISOLATED, CircuitState.DISABLED
OBSERVING = CircuitState.OBSERVING
ENDINGS = ["success", "failure", "ignore"]


def play(breaker: CircuitBreaker, outcomes: str) -> CircuitBreaker:
    """Calls that end at once: S well, F badly."""
    for outcome in outcomes:
        permit = breaker.admit()
        permit.success() if outcome == "S" else permit.failure(OSError())
    return breaker


def in_state(state: CircuitState, clock, **options) -> CircuitBreaker:
    """A breaker that came there the usual way."""
    breaker = a_breaker(clock, **options)
    match state:
        case CircuitState.OPEN:
            open_up(breaker)
        case CircuitState.HALF_OPEN:
            due(breaker, clock).admit().ignore()
        case CircuitState.ISOLATED:
            breaker.isolate()
        case CircuitState.DISABLED:
            breaker.disable()
        case CircuitState.OBSERVING:
            breaker.observe()
        case _:
            pass
    assert state is breaker.state
    return breaker


def moves(recorder: Recorder) -> list[tuple[str, str]]:
    """The transitions it heard of."""
    return [(event.old, event.new) for event in recorder.of(CircuitStateChanged)]


# ------------------------------------------------------------------------------------ late answers


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_call_of_an_earlier_generation_changes_nothing_once_it_has_closed_again(clock, ending):
    """
    GEN-001, law 9: state, window, streak and generation stay; the lifetime totals count it.
    """
    breaker = a_breaker(clock, trip=ConsecutiveFailures(2))
    old = breaker.admit()
    open_up(breaker)
    clock.advance(BREAK)
    play(breaker, "SF")
    before, counted = visible(breaker), sum(totals(breaker).values())
    getattr(old, ending)()
    assert before == visible(breaker)
    assert counted + 1 == sum(totals(breaker).values())
    play(breaker, "F")
    assert OPEN is breaker.state


def test_an_old_success_does_not_close_a_half_open_circuit_nor_touch_its_probes(clock):
    """
    GEN-002, law 9: with one place taken and with none taken, an old success neither votes nor gives a place.
    """
    breaker = a_breaker(clock, probes=2, successes_to_close=1)
    first, second = breaker.admit(), breaker.admit()
    due(breaker, clock)
    probe = breaker.admit()
    first.success()
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))
    probe.ignore()
    second.success()
    assert (HALF_OPEN, 2) == (breaker.state, free_seats(breaker))


def test_an_old_failure_does_not_reopen_a_half_open_circuit(clock):
    """
    GEN-003, law 9: it stays half-open, and the healthy probe that follows closes it.
    """
    breaker = a_breaker(clock)
    old = breaker.admit()
    due(breaker, clock)
    probe = breaker.admit()
    old.failure(ConnectionResetError())
    assert (HALF_OPEN, "OSError") == (breaker.state, breaker.snapshot().last_failure)
    probe.success()
    assert CLOSED is breaker.state


async def test_a_late_failure_does_not_extend_the_break_and_its_caller_sees_it(backend, clock):
    """
    GEN-005: no second opening, no later end; the error is the caller's as it is.
    """
    breaker, heard = a_breaker(clock), Recorder(CircuitStateChanged)
    guarded, late = pipeline(breaker, listeners=[heard]), ConnectionResetError("late")

    async def slow() -> None:
        play(breaker, "F")
        clock.advance(6.0)
        raise late

    with pytest.raises(ConnectionResetError) as caught:
        await guarded(slow)
    assert late is caught.value
    assert (OPEN, BREAK - 6.0) == (breaker.state, breaker.retry_after)
    assert [("CLOSED", "OPEN")] == moves(heard)
    assert (1, 2) == (totals(breaker)["openings"], totals(breaker)["failures"])


async def test_a_late_success_does_not_close_an_open_circuit(backend, clock):
    """
    GEN-006: only time governs; the caller gets the result.
    """
    breaker = a_breaker(clock)

    async def slow() -> str:
        play(breaker, "F")
        clock.advance(BREAK + 1.0)
        return "page"

    assert "page" == await breaker(slow)
    assert (OPEN, 2, 0.0) == (breaker.state, breaker.generation, breaker.retry_after)


def test_failures_that_cross_the_threshold_together_open_once(clock):
    """
    GEN-007: of a hundred in flight the fifth failure opens; the others neither announce it again nor prolong it.
    """
    breaker, heard = a_breaker(clock, trip=ConsecutiveFailures(5)), Recorder(CircuitStateChanged)
    around = pipeline(breaker, listeners=[heard])
    for permit in [breaker.admit() for _ in range(100)]:
        permit.failure(OSError())
        clock.advance(0.01)
    assert [("CLOSED", "OPEN")] == moves(heard)
    assert (1, 100) == (totals(breaker)["openings"], totals(around.policies[0])["failures"])
    assert breaker.retry_after == pytest.approx(BREAK - 0.96)


# ----------------------------------------------------------------------------------------- by hand


def test_an_isolated_breaker_rejects_with_an_error_of_its_own_and_no_outcome_changes_that(clock):
    """
    MAN-001: a `CircuitIsolatedError` without ``retry_after``; calls that were in flight do not end it, nor does time.
    """
    breaker = a_breaker(clock)
    running = [breaker.admit(), breaker.admit()]
    breaker.isolate()
    running[0].success()
    running[1].failure(OSError())
    clock.advance(100 * BREAK)
    with pytest.raises(CircuitIsolatedError) as caught:
        breaker.admit()
    error = caught.value
    assert isinstance(error, CircuitOpenError)
    assert (None, "circuit_isolated", "ISOLATED") == (error.retry_after, error.reason, error.state)
    assert ISOLATED is breaker.state
    assert breaker.retry_after is None


def test_an_isolation_ended_by_hand_is_announced_as_such(clock):
    """
    MAN-002: closed by ``reset()``; the events say that it was done by hand.
    """
    breaker, heard = a_breaker(clock), Recorder(CircuitStateChanged)
    around = pipeline(breaker, listeners=[heard])
    breaker.isolate()
    breaker.reset()
    assert CLOSED is around.policies[0].state
    assert [("CLOSED", "ISOLATED", "by hand"), ("ISOLATED", "CLOSED", "by hand")] == [
        (event.old, event.new, event.reason) for event in heard
    ]


def test_several_isolations_hold_until_the_last_is_released(clock):
    """
    MAN-003: the first, released twice, leaves the second's hold in force; its release closes; a third time is nothing.
    """
    breaker = a_breaker(clock)
    first, second = breaker.isolate(), breaker.isolate()
    first.release()
    first.release()
    assert ISOLATED is breaker.state
    second.release()
    assert CLOSED is breaker.state
    open_up(breaker)
    second.release()
    assert OPEN is breaker.state


class Overtaken(dict):
    """The holds of a circuit; after one look or change of them, another thread is faster once."""

    def __init__(self, holds, where: str, other_thread) -> None:
        super().__init__(holds)
        self._where, self._waiting = where, [other_thread]

    def _overtake(self, where: str) -> None:
        if where == self._where and self._waiting:
            self._waiting.pop()()

    def __bool__(self) -> bool:
        held = len(self) > 0
        self._overtake("look")
        return held

    def __setitem__(self, hold, value) -> None:
        super().__setitem__(hold, value)
        self._overtake("add")

    def clear(self) -> None:
        super().clear()
        self._overtake("clear")


@pytest.mark.parametrize(
    ("mine", "where", "other", "expected"),
    [
        ("release", "look", "isolate", ISOLATED),
        ("reset", "clear", "isolate", ISOLATED),
        ("isolate", "add", "reset", CLOSED),
    ],
)
def test_a_hold_taken_while_another_thread_lets_go_is_held(clock, mine, where, other, expected):
    """
    MAN-003, law 15: whoever comes between the look and the move, a breaker is isolated exactly while a hold is held.
    """
    breaker = a_breaker(clock)
    circuit, taken = breaker._core.circuit, []
    first = breaker.isolate() if mine != "isolate" else None
    overtaking = {"isolate": lambda: taken.append(breaker.isolate()), "reset": breaker.reset}[other]
    circuit._handles = Overtaken(circuit._handles, where, overtaking)
    {"release": first and first.release, "reset": breaker.reset, "isolate": breaker.isolate}[mine]()
    assert expected is breaker.state
    for hold in taken:
        hold.release()
    assert CLOSED is breaker.state


async def test_a_disabled_breaker_admits_everything_records_nothing_and_says_nothing(
    backend, clock
):
    """
    MAN-005: a hundred failures, no count, no event, no rejection.
    """
    breaker, heard = a_breaker(clock), Recorder(CircuitStateChanged, CircuitTripped, CallRejected)
    guarded, script = pipeline(breaker, listeners=[heard]), Script(OSError)
    breaker.disable()
    heard.clear()
    before = visible(breaker), totals(breaker)
    for _ in range(100):
        with pytest.raises(OSError, match="step"):
            await guarded(script)
        breaker.admit().failure(OSError())
    assert before == (visible(breaker), totals(breaker))
    assert (DISABLED, 100, []) == (breaker.state, script.calls, heard.events)


def test_an_observing_breaker_admits_and_reports_each_crossing_once(clock):
    """
    MAN-006: one `CircuitTripped` for one crossing however many failures follow, a second one for the next crossing.
    """
    trip = FailureRate(0.5, CountWindow(4), 4)
    breaker, heard = a_breaker(clock, trip=trip), Recorder(CircuitTripped)
    around = pipeline(breaker, listeners=[heard])
    breaker.observe()
    play(breaker, "SSFFFF")
    assert [(4, 2)] == [(event.calls, event.failures) for event in heard]
    seen = breaker.snapshot()
    assert (OBSERVING, 4, 4, 0) == (seen.state, seen.calls, seen.failures, seen.rejected)
    play(breaker, "SSSSFFF")
    assert [(4, 2), (4, 2)] == [(event.calls, event.failures) for event in heard]
    assert breaker is around.policies[0]


def test_a_breaker_forced_open_by_hand_never_lets_time_open_it(clock):
    """
    MAN-007: open by hand is isolation here; a year later it still rejects, and no place for a probe was made.
    """
    breaker = due(a_breaker(clock), clock)
    hold = breaker.isolate()
    for _ in range(3):
        clock.advance(365 * 86_400.0)
        assert stranger(breaker) is None
        assert ISOLATED is breaker.state
    hold.release()
    play(breaker, "S")
    assert CLOSED is breaker.state


@pytest.mark.parametrize(
    ("state", "move"),
    [
        (CLOSED, "reset"),
        (ISOLATED, "isolate"),
        (DISABLED, "disable"),
        (OBSERVING, "observe"),
    ],
)
def test_a_move_into_the_state_it_has_is_allowed_and_not_announced(clock, state, move):
    """
    MAN-009: no event; the state is what it was.
    """
    breaker, heard = in_state(state, clock), Recorder(CircuitStateChanged)
    around = pipeline(breaker, listeners=[heard])
    getattr(breaker, move)()
    assert state is around.policies[0].state
    assert [] == heard.events


@pytest.mark.parametrize("state", list(CircuitState))
def test_reset_closes_and_empties_from_every_state(clock, state):
    """
    MAN-010: closed, nothing counted, no hold left; announced only if it was not closed. Calls in flight count no more.
    """
    trip = ConsecutiveFailures(2)
    breaker, heard = in_state(state, clock, trip=trip), Recorder(CircuitStateChanged)
    around = pipeline(breaker, listeners=[heard])
    running = breaker.admit() if state not in {OPEN, ISOLATED} else None
    if state in {CLOSED, OBSERVING}:
        play(breaker, "F")
    number = breaker.generation
    breaker.reset()
    if running is not None:
        running.failure(OSError())
    seen = breaker.snapshot()
    assert (CLOSED, 0, 0, None) == (seen.state, seen.calls, seen.failures, seen.last_failure)
    assert number + 1 == seen.generation
    assert ([] if state is CLOSED else [(state.name, "CLOSED")]) == moves(heard)
    play(around.policies[0], "F")
    assert CLOSED is breaker.state


def test_openings_by_hand_are_none_of_the_consecutive_ones(clock):
    """
    MAN-011: the breaks are drawn for openings 1 and 2; isolation counts as no opening, and what it ends starts anew.
    """
    drawn = []
    breaker = a_breaker(clock, break_duration=lambda opening: drawn.append(opening) or BREAK)
    play(due(breaker, clock), "F")
    assert [1, 2] == drawn
    for _ in range(3):
        breaker.isolate().release()
    assert ([1, 2], 2) == (drawn, totals(breaker)["openings"])
    play(breaker, "F")
    assert [1, 2, 1] == drawn


# ------------------------------------------------------------------------------------------ events


def test_listeners_hear_transitions_in_order_even_those_that_they_cause(clock):
    """
    EVT-001, law 14: what a listener causes waits until all have heard of what went before; one that raises stops none.
    """
    breaker, heard, depth = a_breaker(clock), [], []

    def meddling(event) -> None:
        depth.append("in")
        heard.append(("meddling", event.new, depth.count("in") - depth.count("out")))
        if event.new == "OPEN":
            breaker.isolate().release()
        depth.append("out")
        raise RuntimeError("a listener's own fault")

    def quiet(event) -> None:
        heard.append(("quiet", event.new, event.generation))

    meddling.listens_to = quiet.listens_to = (CircuitStateChanged,)
    around = pipeline(breaker, listeners=[meddling, quiet])
    play(breaker, "F")
    assert [
        ("meddling", "OPEN", 1), ("quiet", "OPEN", 2),
        ("meddling", "ISOLATED", 1), ("quiet", "ISOLATED", 3),
        ("meddling", "CLOSED", 1), ("quiet", "CLOSED", 4),
    ] == heard  # fmt: skip
    assert (CLOSED, 4) == (around.policies[0].state, breaker.generation)


async def test_a_listener_that_raises_changes_no_outcome(backend, clock, caplog):
    """
    EVT-002, law 6: result, error, rejection and state as without it; it is logged once, by its name.
    """
    breaker = a_breaker(clock)

    def broken_listener(event) -> None:
        raise ValueError("secret of the listener")

    broken_listener.__qualname__ = f"broken_listener_of_{breaker.name}"
    guarded, down = pipeline(breaker, listeners=[broken_listener]), OSError("down")
    assert "page" == await guarded(Script("page"))
    with pytest.raises(OSError, match="down") as caught:
        await guarded(Script(down))
    assert (down, OPEN) == (caught.value, breaker.state)
    with pytest.raises(CircuitOpenError) as rejected:
        await guarded(Script("never"))
    assert rejected.value.__context__ is None
    clock.advance(BREAK)
    assert "page" == await guarded(Script("page"))
    assert CLOSED is breaker.state
    reports = [each for each in caplog.messages if broken_listener.__qualname__ in each]
    assert 1 == len(reports)
    assert "secret" not in reports[0]


def test_two_listeners_in_a_storm_from_many_threads_miss_nothing():
    """
    EVT-003, law 14: both hear every transition of four threads, once each, in the order of the generations.
    """
    breaker, first, second = a_breaker(), [], []
    around = pipeline(breaker, listeners=[first.append, second.append])
    ready = threading.Barrier(4)

    def storm() -> None:
        ready.wait()
        for _ in range(200):
            breaker.isolate().release()

    threads = [threading.Thread(target=storm) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert CLOSED is around.policies[0].state
    assert first == second
    numbers = [event.generation for event in first]
    assert sorted(set(numbers)) == numbers
    assert breaker.generation == numbers[-1]
    # A chain without a gap: each state is left for the next one that was announced.
    assert [event.new for event in first[:-1]] == [event.old for event in first[1:]]
    assert ("CLOSED", "CLOSED") == (first[0].old, first[-1].new)


async def test_the_events_of_one_call_tell_of_it_and_of_nothing_in_it(backend, clock):
    """
    EVT-002, law 36: what is heard of a failing and of a rejected call, in order, without arguments or texts.
    """
    breaker, heard = a_breaker(clock), Recorder()
    guarded = pipeline(Timeout(5.0), breaker, listeners=[heard], name="of the events")
    with pytest.raises(OSError, match="hunter2"):
        await guarded(Script(OSError("hunter2")), "hunter2")
    with pytest.raises(CircuitOpenError):
        await guarded(Script("hunter2"), "hunter2")
    assert ["CircuitStateChanged", "CallFinished", "CallRejected", "CallFinished"] == heard.kinds
    assert ["failure", "rejected"] == [event.outcome for event in heard.of(CallFinished)]
    assert "hunter2" not in repr(heard.events)


# ------------------------------------------------------------------------------------------- state


def test_a_snapshot_does_not_change_when_its_breaker_does(clock):
    """
    STA-003: frozen, totals included.
    """
    breaker = play(a_breaker(clock, trip=ConsecutiveFailures(3)), "SF")
    seen = breaker.snapshot()
    before = attrs.asdict(seen)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        seen.calls = 5
    play(breaker, "FF")
    assert OPEN is breaker.state
    assert before == attrs.asdict(seen)
    assert (CLOSED, 2, 1, 0) == (seen.state, seen.calls, seen.failures, seen.totals.openings)


async def test_pipelines_of_different_results_share_one_breaker(backend, clock):
    """
    STA-006: a failure in one opens it for the other, and both pipelines' listeners hear of it, each once.
    """
    breaker, one, other = a_breaker(clock), Recorder(CircuitStateChanged), Recorder()
    numbers = pipeline(breaker, listeners=[one])
    texts = pipeline(Timeout(5.0), breaker, listeners=[other])
    assert (7, "seven") == (await numbers(Script(7)), await texts(Script("seven")))
    with pytest.raises(OSError, match="step"):
        await numbers(Script(OSError))
    with pytest.raises(CircuitOpenError):
        await texts(Script("never"))
    assert [("CLOSED", "OPEN")] == moves(one) == moves(other)
    with forced(breaker, CLOSED):
        assert "seven" == await texts(Script("seven"))
