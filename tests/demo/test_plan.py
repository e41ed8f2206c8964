"""The fault plans: where each phase lies, what a request meets, when calls arrive."""

from collections import Counter
from random import Random

import pytest

from resilience.demo.plan import (
    PLANS,
    Behaviour,
    Fault,
    Kind,
    Mode,
    Phase,
    Plan,
    Span,
    arrivals,
    behave,
)

PLAN = Plan(
    "p",
    (
        Phase(Mode.HEALTHY, 1),
        Phase(Mode.SLOW, 2),
        Phase(Mode.DEAD, 3),
        Phase(Mode.RECOVERING, 4),
        Phase(Mode.FAILING, 5),
    ),
)


def test_phases_follow_one_another():
    """
    Each phase begins where the one before it ended.
    """
    assert 15 == PLAN.seconds
    assert (
        Span(Mode.HEALTHY, 0, 1),
        Span(Mode.SLOW, 1, 3),
        Span(Mode.DEAD, 3, 6),
        Span(Mode.RECOVERING, 6, 10),
        Span(Mode.FAILING, 10, 15),
    ) == PLAN.spans()


@pytest.mark.parametrize(
    ("seconds", "mode"),
    [
        (0, Mode.HEALTHY),
        (0.99, Mode.HEALTHY),
        (1, Mode.SLOW),
        (14.9, Mode.FAILING),
        (99, Mode.FAILING),
    ],
)
def test_the_last_phase_has_no_end(seconds, mode):
    """
    A phase holds from its start up to, not at, its end; after the plan its last phase goes on.
    """
    assert mode is PLAN.at(seconds).mode


def test_calm_lasts_from_a_fault_to_the_next():
    """
    A fault followed at once by another has no calm; a warm-up is calm, and the plan's end ends it.
    """
    assert (
        Fault(Mode.SLOW, 1, 3, calm_until=3),
        Fault(Mode.DEAD, 3, 6, calm_until=10),
        Fault(Mode.FAILING, 10, 15, calm_until=15),
    ) == PLAN.faults()


def test_a_plan_is_stretched_evenly():
    """
    Every phase keeps its share.
    """
    assert [2, 4, 6, 8, 10] == [phase.seconds for phase in PLAN.lasting(30).phases]


def test_the_default_plan_has_every_mode_and_ends_in_half_a_minute():
    """
    The demo shows healthy, slow, failing, hanging, dead and recovering, within 30 s.
    """
    assert set(Mode) == {phase.mode for phase in PLANS["default"].phases}
    assert 30 >= PLANS["default"].seconds
    assert {"default", "healthy", "dead", "slow", "hanging", "failing", "flapping"} <= PLANS.keys()


def test_every_plan_starts_alive():
    """
    A server has a port to announce only if its plan does not begin dead.
    """
    assert all(plan.phases[0].mode is Mode.HEALTHY for plan in PLANS.values())
    assert () == PLANS["healthy"].faults()


def kinds(mode: Mode, progress: float = 0.0) -> Counter[Kind]:
    return Counter(behave(mode, progress, Random(seed)).kind for seed in range(1000))


@pytest.mark.parametrize("mode", [Mode.HEALTHY, Mode.SLOW, Mode.RECOVERING])
def test_a_service_that_is_up_answers(mode):
    """
    Slow and recovering services answer everything, late.
    """
    assert {Kind.ANSWER: 1000} == kinds(mode)


def test_a_failing_service_fails_in_every_way():
    """
    About nine in ten requests fail: with a status, with a reset, with half an answer.
    """
    seen = kinds(Mode.FAILING)

    assert {Kind.ERROR, Kind.RESET, Kind.HALF, Kind.ANSWER} == seen.keys()
    assert 50 < seen[Kind.ANSWER] < 150


def test_a_hanging_service_never_answers_and_a_dying_one_resets():
    """
    What was read just before the socket closed is reset.
    """
    assert {Kind.HANG: 1000} == kinds(Mode.HANGING)
    assert Behaviour(Kind.RESET, 0.0) == behave(Mode.DEAD, 0.5, Random(1))


def test_a_warm_up_ends_at_healthy_speed():
    """
    The same request takes five times as long at the start of a warm-up, and no longer at its end or after it.
    """
    healthy = behave(Mode.HEALTHY, 0.0, Random(1)).seconds

    assert pytest.approx(5 * healthy) == behave(Mode.RECOVERING, 0.0, Random(1)).seconds
    assert pytest.approx(3 * healthy) == behave(Mode.RECOVERING, 0.5, Random(1)).seconds
    assert pytest.approx(healthy) == behave(Mode.RECOVERING, 1.0, Random(1)).seconds
    assert pytest.approx(healthy) == behave(Mode.RECOVERING, 9.0, Random(1)).seconds


def test_slow_is_far_slower():
    """
    A slow answer takes at least 600 ms, a healthy one at most 20 ms.
    """
    assert 0.6 <= behave(Mode.SLOW, 0.0, Random(1)).seconds
    assert 0.02 >= behave(Mode.HEALTHY, 0.0, Random(1)).seconds


def test_arrivals_have_the_rate_and_the_seed():
    """
    The same seed gives the same times, in order, within the run, at about the rate.
    """
    times = arrivals(50, 100, seed=3)

    assert times == arrivals(50, 100, seed=3) != arrivals(50, 100, seed=4)
    assert sorted(times) == list(times)
    assert 0 < times[0] < times[-1] < 100
    assert pytest.approx(5000, rel=0.05) == len(times)
