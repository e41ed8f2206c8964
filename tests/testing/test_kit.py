"""
Scripts, recorders and switches: what a test of ours, or of a user's, is written with.
"""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    CircuitBreaker,
    CircuitIsolatedError,
    CircuitOpenError,
    CircuitState,
    ConsecutiveFailures,
    Pipeline,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.clock import PROCESS_CLOCK
from resilience.events import CallFinished, CircuitStateChanged, Event, RetryScheduled, TimedOut
from resilience.modes import MODES
from resilience.testing import (
    Hang,
    ManualClock,
    Recorder,
    Script,
    Wait,
    disabled,
    forced,
    instant,
)


def a_breaker(name: str, clock: ManualClock, **options: Any) -> CircuitBreaker:
    """Opens at the first OSError, for 10 s."""
    given = {"on": OSError, "trip": ConsecutiveFailures(1), "break_duration": 10}
    return CircuitBreaker(f"kit-{name}", clock=clock, **given | options)


# ----------------------------------------------------------------------------------- Script


async def test_a_script_plays_one_step_per_call_and_repeats_the_last(backend: str) -> None:
    """
    Values are returned as they are, in order; after the last step it is the last step again.
    """
    items = ["same object"]
    script = Script(1, None, items)
    assert [1, None] == [await script(), await script()]
    for _ in range(3):
        assert items is await script()
    assert 5 == script.calls
    assert await Script()() is None


async def test_a_script_raises_errors_and_classes(backend: str) -> None:
    """
    An instance is raised itself; a class is raised anew each time, with the number of the step in its text.
    """
    mine = KeyError("mine")
    script = Script(mine, OSError)
    with pytest.raises(KeyError) as caught:
        await script()
    assert mine is caught.value
    texts = []
    for _ in range(2):
        with pytest.raises(OSError, match="step") as raised:
            await script()
        texts.append(str(raised.value))
    assert ["step 2", "step 3"] == texts
    assert 3 == script.calls
    assert 0 == script.running


async def test_a_script_waits_before_a_step_ends(backend: str, unit: float) -> None:
    """
    `Wait` takes its time and then ends as a step of its own would: value, error, class, function, another wait.
    """
    script = Script(
        Wait(2 * unit),
        Wait(unit, "late"),
        Wait(unit, OSError("late")),
        Wait(unit, Wait(unit, lambda sku: sku.upper())),
        "at once",
    )
    assert await script() is None
    assert "late" == await script()
    with pytest.raises(OSError, match="late"):
        await script()
    assert "SKU" == await script("sku")
    assert "at once" == await script()
    expected = [0, 2 * unit, 3 * unit, 4 * unit, 6 * unit]
    if backend == "uvloop":
        assert all(early - 0.005 <= at for early, at in zip(expected, script.times, strict=True))
    else:
        assert expected == script.times


async def test_a_script_that_hangs_ends_by_cancellation_only(backend: str, unit: float) -> None:
    """
    `Hang` outlasts any wait; cut off, it is no longer in flight, and the next step is the next call's.
    """
    script = Script(Hang(), "awake")
    with pytest.raises(TimeoutExceededError):
        await Timeout(3 * unit)(script)
    assert (1, 0) == (script.calls, script.running)
    assert "awake" == await script()


async def test_a_script_calls_functions_with_the_arguments(backend: str) -> None:
    """
    A function is a step made of the call's arguments; an async one is awaited, and its error is the call's.
    """

    async def later(number: int, *, plus: int) -> int:
        await anyio.lowlevel.checkpoint()
        return number + plus

    async def wrong(*_: int, **__: int) -> None:
        raise LookupError

    script = Script(lambda number, plus: number - plus, later, wrong)
    assert -1 == await script(1, plus=2)
    assert 3 == await script(1, plus=2)
    with pytest.raises(LookupError):
        await script(1, plus=2)


async def test_a_script_keeps_what_it_was_called_with_and_when(backend: str, unit: float) -> None:
    """
    ``history`` holds arguments and instants on the clock of the policies; ``times`` count from the first call.
    """
    script = Script()
    assert [] == script.times
    began = PROCESS_CLOCK.now()
    await script()
    await anyio.sleep(2 * unit)
    await script(1, "two", three=3)
    assert [(), (1, "two")] == [call.args for call in script.history]
    assert [{}, {"three": 3}] == [call.kwargs for call in script.history]
    assert began <= script.history[0].at <= began + (unit if backend == "uvloop" else 0)
    assert 0.0 == script.times[0]
    assert 2 * unit - 0.005 <= script.times[1]
    assert script.times[1] == script.history[1].at - script.history[0].at


async def test_a_script_counts_calls_in_flight(backend: str, unit: float) -> None:
    """
    ``running`` goes down by answer, error and cancellation alike; ``peak`` keeps the most there were.
    """
    script = Script(Wait(unit), Wait(2 * unit, OSError), Hang(), Wait(unit))

    async def caught() -> None:
        with pytest.raises(OSError, match="step"):
            await script()

    async with anyio.create_task_group() as group:
        group.start_soon(script)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(caught)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(script)
        await anyio.wait_all_tasks_blocked()
        assert (3, 3) == (script.running, script.peak)
        await anyio.sleep(3 * unit)
        assert (1, 3) == (script.running, script.peak)
        group.cancel_scope.cancel()
    assert (0, 3, 3) == (script.running, script.peak, script.calls)
    await script()
    assert 3 == script.peak


# --------------------------------------------------------------------------------- Recorder


async def test_a_recorder_keeps_all_events_in_order(backend: str, unit: float) -> None:
    """
    Length, iteration, kinds and ``of`` are views of one list; ``clear`` empties it and it hears on.
    """
    recorder = Recorder()
    pipeline = Pipeline(
        Retry(attempts=3, on=(OSError, TimeoutError), wait=lambda _: unit),
        Timeout(2 * unit),
        listeners=[recorder],
    )
    assert 7 == await pipeline(Script(OSError, Hang(), 7))
    kinds = ["RetryScheduled", "TimedOut", "RetryScheduled", "CallFinished"]
    assert kinds == recorder.kinds == [type(event).__name__ for event in recorder]
    assert 4 == len(recorder) == len(recorder.events)
    retries = recorder.of(RetryScheduled)
    assert [recorder.events[0], recorder.events[2]] == retries
    assert retries[1:] == recorder.of(RetryScheduled, lambda event: event is not retries[0])
    assert recorder.events == recorder.of(Event)
    assert [] == recorder.of(CircuitStateChanged)
    recorder.clear()
    assert (0, []) == (len(recorder), recorder.kinds)
    assert 8 == await pipeline(Script(8))
    assert ["CallFinished"] == recorder.kinds


async def test_a_recorder_hears_only_what_it_listens_to(backend: str, unit: float) -> None:
    """
    ``Recorder(TimedOut, CallFinished)`` is told of these and of nothing else.
    """
    narrow, wide = Recorder(TimedOut, CallFinished), Recorder()
    pipeline = Pipeline(
        Retry(attempts=2, on=TimeoutError, wait=lambda _: 0.0),
        Timeout(unit),
        listeners=[narrow, wide],
    )
    assert 1 == await pipeline(Script(Hang(), 1))
    assert (TimedOut, CallFinished) == narrow.listens_to
    assert ["TimedOut", "CallFinished"] == narrow.kinds
    assert ["TimedOut", "RetryScheduled", "CallFinished"] == wide.kinds


# --------------------------------------------------------------------------------- switches


async def test_instant_takes_the_waits_out_of_this_task_and_of_no_other(
    backend: str, unit: float
) -> None:
    """
    Two tasks retry side by side: the one inside `instant` does not wait, the other waits as written.
    """
    retry = Retry(attempts=3, on=OSError, wait=lambda _: 2 * unit)
    wrapped, slow = Script(OSError, OSError, 1), Script(OSError, OSError, 2)
    fast, child = Script(OSError, OSError, 3), Script(OSError, OSError, 4)
    entered = anyio.Event()
    left = anyio.Event()

    async def switched() -> None:
        with instant():
            entered.set()
            assert 3 == await retry(fast)
            assert 1 == await retry.wrap(wrapped.__call__)()
            async with anyio.create_task_group() as own:
                own.start_soon(retry, child)
            await left.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(switched)
        await entered.wait()
        assert 2 == await retry(slow)
        left.set()
    for script in (fast, wrapped, child):
        assert script.times[-1] <= (unit if backend == "uvloop" else 0.0)
    assert 4 * unit - 0.005 <= slow.times[-1]
    assert 0 == MODES.in_use


async def test_instant_ends_with_its_block(backend: str, unit: float) -> None:
    """
    After the block, one left by an error too, retries wait again; a nested block does not end the outer one.
    """
    retry = Retry(attempts=2, on=OSError, wait=lambda _: 2 * unit)
    inside, after = Script(OSError, 1), Script(OSError, 2)
    with pytest.raises(KeyError), instant():  # noqa: PT012 - used, then left by an error
        with instant():
            pass
        assert 1 == await retry(inside)
        raise KeyError
    assert 2 == await retry(after)
    assert inside.times[1] <= (unit if backend == "uvloop" else 0.0)
    assert 2 * unit - 0.005 <= after.times[1]


async def test_disabled_takes_the_policies_off_this_task_and_off_no_other(
    backend: str, unit: float
) -> None:
    """
    Two tasks call one pipeline side by side: inside `disabled` it is the bare call, in the other task it guards.
    """
    clock = ManualClock()
    breaker = a_breaker(f"disabled-{backend}", clock)
    recorder = Recorder()
    guarded = Pipeline(
        Retry(attempts=2, on=OSError, wait=lambda _: 0.0),
        breaker,
        Timeout(unit),
        listeners=[recorder],
    )
    entered, left = anyio.Event(), anyio.Event()

    async def switched() -> None:
        with disabled():
            entered.set()
            failing = Script(OSError)
            for door in (guarded, guarded.wrap(failing.__call__)):
                with pytest.raises(OSError, match="step"):
                    await (door(failing) if door is guarded else door())  # type: ignore[call-arg]
            assert 2 == failing.calls
            assert "uncut" == await guarded(Script(Wait(2 * unit, "uncut")))
            assert [] == recorder.events
            assert CircuitState.CLOSED is breaker.state
            left.set()
            await anyio.sleep(unit)
            assert "past an open circuit" == await guarded(Script("past an open circuit"))

    async with anyio.create_task_group() as group:
        group.start_soon(switched)
        await entered.wait()
        await left.wait()
        script = Script(OSError)
        with pytest.raises(OSError, match="step"):
            await guarded(script)
        assert 1 == script.calls
        assert CircuitState.OPEN is breaker.state
        with pytest.raises(CircuitOpenError):
            await guarded(script)
    with pytest.raises(CircuitOpenError):
        await guarded(script)
    assert 0 == MODES.in_use


_BEHAVES = {
    CircuitState.CLOSED: None,
    CircuitState.OPEN: CircuitOpenError,
    CircuitState.HALF_OPEN: None,
    CircuitState.ISOLATED: CircuitIsolatedError,
    CircuitState.DISABLED: None,
    CircuitState.OBSERVING: None,
}


@pytest.mark.parametrize("state", CircuitState)
def test_forced_puts_a_breaker_into_any_state_for_a_while(
    state: CircuitState, clock: ManualClock
) -> None:
    """
    In the block the breaker is and does what its state says; afterwards it is closed, by an error as well.
    """
    breaker = a_breaker(f"forced-{state.name}", clock)
    with pytest.raises(LookupError), forced(breaker, state) as same:  # noqa: PT012 - (as above)
        assert breaker is same
        assert state is breaker.state
        if refused := _BEHAVES[state]:
            with pytest.raises(refused) as caught:
                breaker.admit()
            assert refused is type(caught.value)
        else:
            breaker.admit().ignore()
        raise LookupError
    assert CircuitState.CLOSED is breaker.state
    breaker.admit().success()


@pytest.mark.parametrize("state", CircuitState)
def test_forced_starts_and_ends_with_a_fresh_generation(
    state: CircuitState, clock: ManualClock
) -> None:
    """
    What was counted before the block does not act in it, and what was counted in it does not act after it.
    """
    breaker = a_breaker(f"fresh-{state.name}", clock, trip=ConsecutiveFailures(2))
    breaker.admit().failure(OSError())
    with forced(breaker, state):
        assert (0, 0) == (breaker.snapshot().calls, breaker.snapshot().failures)
        if not _BEHAVES[state]:
            breaker.admit().failure(OSError())
    assert (0, 0) == (breaker.snapshot().calls, breaker.snapshot().failures)
    breaker.admit().failure(OSError())
    assert CircuitState.CLOSED is breaker.state
    breaker.admit().failure(OSError())
    assert CircuitState.OPEN is breaker.state


def test_forced_open_ends_its_break_on_the_breakers_clock(clock: ManualClock) -> None:
    """
    A forced OPEN is an open circuit: ``retry_after`` runs down and the break ends with a probe.
    """
    breaker = a_breaker("forced-break", clock)
    with forced(breaker, CircuitState.OPEN):
        assert 10.0 == breaker.retry_after
        clock.advance(10)
        breaker.admit().success()
        assert CircuitState.CLOSED is breaker.state


def test_forced_half_open_has_all_its_probes_to_give(clock: ManualClock) -> None:
    """
    With ``probes=2`` two are admitted and the third is turned away; two successes close the circuit.
    """
    breaker = a_breaker("forced-probes", clock, probes=2)
    with forced(breaker, CircuitState.HALF_OPEN):
        first, second = breaker.admit(), breaker.admit()
        with pytest.raises(CircuitOpenError, match="HALF_OPEN"):
            breaker.admit()
        first.success()
        second.success()
        assert CircuitState.CLOSED is breaker.state


def _opened(breaker: CircuitBreaker, clock: ManualClock) -> None:
    breaker.admit().failure(OSError())


def _half_opened(breaker: CircuitBreaker, clock: ManualClock) -> None:
    breaker.admit().failure(OSError())
    clock.advance(10)
    breaker.admit().ignore()


@pytest.mark.parametrize("state", [CircuitState.CLOSED, CircuitState.OPEN, CircuitState.DISABLED])
@pytest.mark.parametrize(
    ("bring", "before", "after"),
    [
        pytest.param(_opened, CircuitState.OPEN, CircuitState.CLOSED, id="opened"),
        pytest.param(_half_opened, CircuitState.HALF_OPEN, CircuitState.CLOSED, id="half-open"),
        pytest.param(
            lambda breaker, _: breaker.disable(),
            CircuitState.DISABLED,
            CircuitState.DISABLED,
            id="disabled",
        ),
        pytest.param(
            lambda breaker, _: breaker.observe(),
            CircuitState.OBSERVING,
            CircuitState.OBSERVING,
            id="observing",
        ),
    ],
)
def test_forced_gives_back_what_was_set_by_hand(
    bring: Any, before: CircuitState, after: CircuitState, state: CircuitState, clock: ManualClock
) -> None:
    """
    A mode set by hand is back after the block; a circuit that had opened by itself is closed and fresh.
    """
    breaker = a_breaker(f"back-{before.name}-{state.name}", clock)
    bring(breaker, clock)
    assert before is breaker.state
    with forced(breaker, state):
        assert state is breaker.state
    assert after is breaker.state


def test_forced_leaves_the_holds_of_an_isolation_alone(clock: ManualClock) -> None:
    """
    An isolation outlives the block, and its own release still ends it.
    """
    breaker = a_breaker("forced-isolated", clock)
    hold = breaker.isolate()
    with forced(breaker, CircuitState.CLOSED):
        breaker.admit().success()
    assert CircuitState.ISOLATED is breaker.state
    hold.release()
    assert CircuitState.CLOSED is breaker.state
