"""
Law 33: permits are taken outermost first and given back in reverse, and none is left, whatever happens.

A cancellation before every single step is an instrument of its own; here are the orders, and ends of every kind.
"""

import contextlib

import anyio
import pytest
from tenacity import wait_fixed

from resilience import CircuitState, Pipeline, Retry, Timeout
from resilience.testing import Hang, Script, Wait, forced
from tests.composition.support import Turnstile, breaker, pending_cancellations, timed


def turnstiles(log, names="abc"):
    return [Turnstile(name, log) for name in names]


ENDS = {
    "returns": 42,
    "raises": OSError,
    "raises no exception": SystemExit,
    "times out": Hang(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_taken_outermost_first_given_back_in_reverse(backend, unit, end):
    """
    In the order of the pipeline and back, however the call ends (law 33, P1, CP-001).
    """
    log = []
    a, b, c = turnstiles(log)
    guarded = Pipeline(Timeout(unit), a, Pipeline(b, c, name="inner"))

    with contextlib.suppress(OSError, SystemExit):
        await guarded(Script(end))

    assert ["+a", "+b", "+c", "-c", "-b", "-a"] == log
    assert [[], [], []] == [each.inside for each in (a, b, c)]


async def test_a_caller_who_leaves_gives_back_in_reverse(backend, unit):
    """
    Also a cancellation unwinds from the innermost outwards (law 33, P4).
    """
    log = []
    with anyio.move_on_after(unit):
        await Pipeline(*turnstiles(log))(Script(Hang()))

    assert ["+a", "+b", "+c", "-c", "-b", "-a"] == log


async def test_each_attempt_takes_and_gives_back_what_is_inside(backend, unit):
    """
    What stands outside the retry is taken once, what stands inside once per attempt, and not during waits (law 33, P5).
    """
    log = []
    outer, inner = turnstiles(log, "oi")
    during = []

    class Watched:
        def __call__(self, state):
            during.append((list(outer.inside), list(inner.inside)))
            return 0.0

    guarded = Pipeline(outer, Retry(3, on=OSError, wait=Watched()), inner)
    assert 42 == await guarded(Script(OSError, OSError, 42))

    assert ["+o", "+i", "-i", "+i", "-i", "+i", "-i", "-o"] == log
    assert [(["o"], [])] * 2 == during


async def test_a_policy_that_rejects_leaves_what_is_inside_untouched(backend):
    """
    An open circuit in the middle: what stands outside is taken and given back, nothing inside is (law 33, law 10).
    """
    log = []
    a, b = turnstiles(log, "ab")
    gate = breaker()
    gate.isolate()

    error, _ = await timed(Pipeline(a, gate, b, Timeout(50))(Script(42)))

    assert "CircuitIsolatedError" == type(error).__name__
    assert ["+a", "-a"] == log


def gauges(gate):
    """Probes in flight, and calls watched for being slow."""
    current = gate._core.circuit.current
    live = len(getattr(current, "live", ()))
    watched = len(getattr(current, "watch", None) or ())
    return live, watched


CALLEES = {
    "returns": lambda unit: Script(Wait(unit / 4, 42)),
    "raises": lambda unit: Script(Wait(unit / 4, OSError)),
    "raises what counts as nothing": lambda unit: Script(Wait(unit / 4, KeyError)),
    "hangs": lambda unit: Script(Hang()),
    "fails then hangs": lambda unit: Script(OSError, Hang()),
}


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@pytest.mark.parametrize("make", CALLEES.values(), ids=CALLEES)
@pytest.mark.parametrize("leave", [0.0, 0.1, 0.3, 9.0], ids=["at once", "early", "later", "never"])
@pytest.mark.parametrize("half_open", [False, True], ids=["closed", "half-open"])
async def test_all_gauges_are_back_at_zero(backend, unit, make, leave, half_open):
    """
    Whoever ends the call, at whatever moment: no probe seat, no register entry, no pending cancellation is left (P4).
    """
    gate = breaker(99, overdue_after=50 * unit, ignore=KeyError, probes=2, successes_to_close=9)
    log = []
    door = Turnstile("d", log)
    guarded = Pipeline(
        Timeout(unit),
        Retry(2, on=OSError, wait=wait_fixed(unit / 5)),
        gate,
        Timeout(unit / 2),
        door,
    )
    state = CircuitState.HALF_OPEN if half_open else CircuitState.CLOSED

    with forced(gate, state):
        with anyio.move_on_after(leave * unit):
            await timed(guarded(make(unit)))
        assert (0, 0) == gauges(gate)
        if gate.state is CircuitState.HALF_OPEN:
            assert 2 == len(gate._core.circuit.current.seats)
    assert [] == door.inside
    assert 0 == pending_cancellations()


async def test_no_gauge_moves_below_zero_or_above_what_is_in_flight(backend, unit):
    """
    While calls run, the register and the seats say how many (law 33, law 11).
    """
    gate = breaker(99, overdue_after=50 * unit)
    guarded = Pipeline(gate, Timeout(9 * unit))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(guarded, Script(Wait(unit)))
        await anyio.sleep(unit / 2)
        assert (0, 5) == gauges(gate)
    assert (0, 0) == gauges(gate)
