"""
The benchmark of outcomes: a server that obeys queueing theory, stories that repeat, figures that mean what they say.

On asyncio only: the model is timers and futures of the running loop, in virtual time.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import time
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import attrs
import pytest

from benchmarks.outcomes import trips
from benchmarks.outcomes.__main__ import main
from benchmarks.outcomes.contenders import (
    ATTEMPT,
    ATTEMPTS,
    CLOSED,
    CONTENDERS,
    FAILURES,
    HALF_OPEN,
    OPEN,
    STATED,
    TOTAL,
    missing,
    rivals_in_virtual_time,
)
from benchmarks.outcomes.figures import figures_of, series_of
from benchmarks.outcomes.measure import measure, plain
from benchmarks.outcomes.openings import BREAKERS, TRAFFIC, Traffic, openings
from benchmarks.outcomes.pictures import _WIDTH, picture
from benchmarks.outcomes.plans import PLANS, Phase, Plan
from benchmarks.outcomes.play import Call, Story, arrivals, play
from benchmarks.outcomes.report import Results, picture_name, report, tables
from benchmarks.outcomes.server import (
    Luck,
    Server,
    TooManyRequestsError,
    UnavailableError,
    erlang_work,
    failing_aloud,
)
from benchmarks.outcomes.words import percent, seconds, table
from resilience import RetryBudget, Timeout
from resilience.events import LOGGER
from resilience.testing import run


def if_installed(key, needs):
    absent = missing(needs)
    reason = f"not installed: {', '.join(absent)}"
    return pytest.param(key, marks=[pytest.mark.skip(reason=reason)] if absent else [], id=key)


EVERYBODY = [if_installed(each.key, each.needs) for each in CONTENDERS.values()]


def constant(rng):
    return 1.0


def exponential(rng):
    return rng.expovariate(1.0)


def plan_of(*phases, slots=1, queue=100, work=1.0):
    return Plan(name="p", text="p", phases=phases, slots=slots, queue=queue, work=work)


def served(plan, at, *, work=constant, patience=math.inf):
    """
    Call the server at these instants; per call how it ended and when, in seconds since the plan began.
    """

    async def main():
        server = Server(plan, Luck(len(at), 1, work))
        ends = [None] * len(at)

        async def call(number):
            await asyncio.sleep(at[number] - server.now)
            try:
                async with asyncio.timeout(None if patience == math.inf else patience):
                    await server.request(number)
                ends[number] = "ok", server.now
            except (ConnectionError, TimeoutError, TooManyRequestsError) as error:
                ends[number] = error, server.now

        with failing_aloud():
            async with asyncio.TaskGroup() as tasks:
                for number in range(len(at)):
                    tasks.create_task(call(number))
        return server, ends

    return run(main)


def kinds(ends):
    return [end if end == "ok" else type(end) for end, _ in ends]


# ---------------------------------------------------------------------- the server


def erlang_c(slots, load):
    """
    Probability of having to wait in M/M/c with *load* erlangs.
    """
    last = load**slots / math.factorial(slots) * slots / (slots - load)
    return last / (sum(load**k / math.factorial(k) for k in range(slots)) + last)


@pytest.mark.parametrize(("slots", "load"), [(1, 0.5), (1, 0.8), (4, 3.0)])
def test_the_server_is_an_m_m_c_queue(slots, load):
    """
    With Poisson arrivals and exponential work, callers wait as long as Erlang's formula says.
    """
    calls = 30_000
    plan = plan_of(Phase(seconds=1, fault=False), slots=slots, queue=10**6)
    at = arrivals(load, calls / load, 3)

    server, ends = served(plan, at, work=exponential)

    stay = statistics.fmean(end - start for (_, end), start in zip(ends, at, strict=True))
    expected = 1 + erlang_c(slots, load) / (slots - load)
    assert stay == pytest.approx(expected, rel=0.1)
    assert server.busy_seconds / at[-1] == pytest.approx(load, rel=0.03)


def test_constant_work_waits_half_as_long():
    """
    M/D/1: the wait in the queue is half of M/M/1's (Pollaczek and Khinchine).
    """
    at = arrivals(0.8, 30_000, 4)

    _, ends = served(plan_of(Phase(seconds=1), queue=10**6), at)

    wait = statistics.fmean(end - start for (_, end), start in zip(ends, at, strict=True)) - 1
    assert wait == pytest.approx(0.8 / (2 * 0.2), rel=0.1)


@pytest.mark.parametrize(("slots", "load", "loss"), [(1, 1.0, 1 / 2), (2, 2.0, 2 / 5)])
def test_without_a_queue_the_server_loses_what_erlang_b_says(slots, load, loss):
    """
    No place to wait: the share of refused requests is Erlang's B, whatever the work is like.
    """
    plan = plan_of(Phase(seconds=1), slots=slots, queue=0)

    _, ends = served(plan, arrivals(load, 10_000 / load, 5), work=erlang_work)

    assert kinds(ends).count(UnavailableError) / len(ends) == pytest.approx(loss, rel=0.05)


def test_first_come_first_served_up_to_the_queue():
    """
    One slot, two places in the queue: the fourth of five at once is the first to be refused.
    """
    _, ends = served(plan_of(Phase(seconds=1), queue=2), [0.0] * 5)

    assert ["ok", "ok", "ok", UnavailableError, UnavailableError] == kinds(ends)
    assert [1.0, 2.0, 3.0] == pytest.approx([end for _, end in ends[:3]])


def test_who_leaves_is_worked_on_all_the_same():
    """
    Clients that give up take nothing back: their requests are worked on, and who comes later waits for that (H50).
    """
    plan = plan_of(Phase(seconds=1))

    server, ends = served(plan, [0.0, 0.0, 0.0, 1.2], patience=2.5)
    assert ["ok", "ok", TimeoutError, TimeoutError] == kinds(ends)
    assert 1 == server.wasted  # the last one's work is not over yet

    server, ends = served(plan, [0.0, 0.0, 0.0, 2.6], patience=0.5)
    assert [TimeoutError] * 4 == kinds(ends)
    assert (4.0, 3) == (server.busy_seconds, server.wasted)


def test_a_death_resets_what_is_held_and_refuses_what_comes():
    """
    Running and queued requests are reset at the instant of death; later ones are refused until it is over.
    """
    plan = plan_of(Phase(seconds=2.5), Phase(seconds=2, refused=1.0), Phase(seconds=9))

    server, ends = served(plan, [0.0, 2.0, 2.0, 3.0, 5.0])

    assert [
        "ok",
        ConnectionResetError,
        ConnectionResetError,
        ConnectionRefusedError,
        "ok",
    ] == kinds(ends)
    assert [1.0, 2.5, 2.5, 3.0, 6.0] == pytest.approx([end for _, end in ends], abs=0.01)
    assert 0 == server.busy
    assert 5 == len(server.reached)


def test_lost_slots_end_their_work_and_begin_no_other():
    """
    Four slots become one: what runs goes on, the next begins when fewer than one is busy.
    """
    plan = plan_of(Phase(seconds=0.5), Phase(seconds=9, slots=0.25), slots=4)

    _, ends = served(plan, [0.0] * 4 + [0.6, 0.7])

    assert [1.0] * 4 + [2.0, 3.0] == pytest.approx([end for _, end in ends])


def test_slots_that_come_back_begin_at_once():
    """
    The queue moves when the phase changes, not when the next request ends.
    """
    plan = plan_of(Phase(seconds=0.5, slots=0.25), Phase(seconds=9), slots=4)

    _, ends = served(plan, [0.0] * 3)

    assert [1.0, 1.5, 1.5] == pytest.approx([end for _, end in ends])


def test_silence_holds_no_slot():
    """
    Requests that vanish get no answer and are in nobody's way afterwards.
    """
    plan = plan_of(Phase(seconds=1, silent=1.0), Phase(seconds=9))

    server, ends = served(plan, [0.0, 0.5, 1.5], patience=2.0)

    assert [TimeoutError, TimeoutError, "ok"] == kinds(ends)
    assert 2.5 == pytest.approx(ends[2][1])
    assert 0 == server.wasted


def test_a_spent_quota_tells_when_to_come_back():
    """
    429 with whole seconds, rounded up: who waits that long finds the quota renewed.
    """
    plan = plan_of(Phase(seconds=3, spent=True), Phase(seconds=9), slots=9)

    _, ends = served(plan, [0.0, 0.5, 2.9, 3.1])

    assert [3, 3, 1] == [error.retry_after for error, _ in ends[:3]]
    assert "ok" == ends[3][0]


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (Phase(seconds=4, slower=(3.0, 3.0)), 3.0),
        (Phase(seconds=4, slower=(1.0, 5.0)), 3.0),
        (Phase(seconds=4, tail=(1.0, 7.0, 7.0)), 7.0),
    ],
)
def test_slowness(phase, expected):
    """
    Work is stretched by the factor of the instant at which it begins, or takes what the tail says.
    """
    _, ends = served(plan_of(phase), [2.0])

    assert 2.0 + expected == pytest.approx(ends[0][1])


@pytest.mark.parametrize(
    ("phase", "error"),
    [
        (Phase(seconds=9999, refused=0.3), ConnectionRefusedError),
        (Phase(seconds=9999, errors=0.3), UnavailableError),
        (Phase(seconds=9999, silent=0.3), TimeoutError),
    ],
)
def test_shares(phase, error):
    """
    Three in ten requests meet what befalls three in ten, each of them drawn for itself.
    """
    _, ends = served(plan_of(phase, slots=99, work=0.01), arrivals(1.0, 5000, 6), patience=50)

    assert kinds(ends).count(error) / len(ends) == pytest.approx(0.3, abs=0.02)


def test_luck_belongs_to_the_attempt():
    """
    In whatever order contenders ask, the n-th attempt of a call has the same luck.
    """
    one, other = Luck(3, 7), Luck(3, 7)

    first = {(0, 1): one.draw(0), (0, 2): one.draw(0), (2, 1): one.draw(2)}
    second = {(2, 1): other.draw(2), (0, 1): other.draw(0), (0, 2): other.draw(0)}

    assert first == second
    assert 3 == len(set(first.values()))
    assert Luck(1, 8).draw(0) != Luck(1, 7).draw(0)


def test_a_model_that_breaks_down_says_so():
    """
    What a callback raises is only logged by asyncio; here it ends the story.
    """

    async def main():
        with failing_aloud():
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(1)

    with pytest.raises(RuntimeError, match="a callback failed") as error:
        run(main)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


# ---------------------------------------------------------------------- plans and arrivals


def test_there_are_twelve_plans():
    """
    Each has a warm-up longer than the default window of 30 s, and those that heal at least 60 s to show it.
    """
    assert 12 == len(PLANS)
    assert [name for name in PLANS if not PLANS[name].heals] == ["healthy", "long tail"]
    for plan in PLANS.values():
        if plan.heals:
            start, end = plan.fault
            assert start >= 40
            assert plan.seconds - end >= 60


def test_a_fault_spans_its_calm_moments():
    """
    A fault lasts from its first phase to the end of its last one; only what is wrong in between is troubled.
    """
    flapping = PLANS["flapping"]

    assert (40.0, 80.0) == flapping.fault
    assert 8 == sum(span.phase.troubled for span in flapping.spans())
    assert not any(phase.troubled for phase in PLANS["healthy"].phases)
    assert (0.0, 60.0) == PLANS["long tail"].fault


def test_a_plan_is_scaled_with_the_load():
    """
    A tenth of the calls meets a tenth of the server: the same capacity per call.
    """
    plan = PLANS["overload"].scaled(0.1)

    assert (1, 200) == (plan.slots, plan.queue)
    assert 250.0 == pytest.approx(PLANS["dead"].capacity)
    assert 2500.0 == pytest.approx(PLANS["dead"].scaled(10).capacity)


def test_arrivals():
    """
    Poisson: as many as the rate says, with gaps as wide as their mean. Fixed: all gaps equal.
    """
    poisson = arrivals(100, 200, 1)
    gaps = [later - earlier for earlier, later in pairwise(poisson)]

    assert len(poisson) == pytest.approx(20_000, rel=0.02)
    assert statistics.stdev(gaps) == pytest.approx(0.01, rel=0.03)
    assert poisson == arrivals(100, 200, 1)
    assert poisson != arrivals(100, 200, 2)
    assert [0.0, 0.5, 1.0, 1.5] == arrivals(2, 2, 1, poisson=False)


# ---------------------------------------------------------------------- stories


@pytest.mark.parametrize("key", EVERYBODY)
def test_a_story_repeats(key):
    """
    The same seed gives the same story to the last float, whatever was drawn or played before; another seed does not.
    """
    plan = PLANS["flapping"]
    first = play(plan, CONTENDERS[key], seed=5, rate=20)
    random.random()

    assert first == play(plan, CONTENDERS[key], seed=5, rate=20)
    assert first != play(plan, CONTENDERS[key], seed=6, rate=20)


@pytest.mark.parametrize("key", EVERYBODY)
def test_nobody_spoils_a_healthy_day(key):
    """
    Where nothing goes wrong every call is answered, nothing is sent twice and no circuit opens.
    """
    story = play(PLANS["healthy"], CONTENDERS[key], rate=20)
    figures = figures_of(story)

    assert (1.0, 1.0, 1.0) == (figures.goodput, figures.load, figures.load_peak)
    assert 0 == figures.openings
    assert [(0.0, CLOSED)] == story.states
    assert len(story.calls) == len(story.reached)
    assert figures.waited < 0.5


@pytest.mark.parametrize("key", EVERYBODY)
def test_all_contenders_meet_the_same_calls(key):
    """
    Arrivals are open-loop: nobody's calls come later because earlier ones wait.
    """
    bare = play(PLANS["hanging"], CONTENDERS["bare"], rate=10)
    story = play(PLANS["hanging"], CONTENDERS[key], rate=10)

    assert [call.at for call in bare.calls] == [call.at for call in story.calls]


def test_naive_retries_treble_the_load_on_a_dead_server_and_change_nothing_else():
    """
    Dead is dead: three requests per call instead of one, and the same goodput (H49).
    """
    bare, naive = (
        figures_of(play(PLANS["dead"], CONTENDERS[key], rate=20)) for key in ("bare", "naive")
    )

    assert 1.0 == bare.load
    assert naive.load == pytest.approx(3.0, abs=0.05)
    assert (0.0, 1.0) == (bare.goodput, bare.goodput_after)
    assert (0.0, 1.0) == (naive.goodput, naive.goodput_after)


def test_naive_retries_keep_an_overload_alive():
    """
    The cause is gone after 20 s; bare calls recover, and with naive retries nothing is ever answered again (H50).
    """
    bare, naive, ours = (
        figures_of(play(PLANS["overload"], CONTENDERS[key], rate=50))
        for key in ("bare", "naive", "ours")
    )

    assert bare.goodput_after > 0.8
    assert bare.recovered < 20
    assert 0.0 == naive.goodput_after
    assert math.inf == naive.recovered
    assert naive.wasted > 10 * ours.wasted / 4
    assert ours.recovered < 40


def test_retries_hide_a_partial_outage():
    """
    A quarter refused: three attempts leave 1 in 64 calls without an answer, bare calls 1 in 4; ours stays closed.
    """
    bare, naive, ours = (
        figures_of(play(PLANS["partial"], CONTENDERS[key], rate=50))
        for key in ("bare", "naive", "ours")
    )

    assert bare.goodput == pytest.approx(3 / 4, abs=0.04)
    assert naive.goodput == pytest.approx(1 - 1 / 64, abs=0.01)
    assert ours.goodput == pytest.approx(1 - 1 / 64, abs=0.01)
    assert ours.load == pytest.approx(1 + 1 / 4 + 1 / 16, abs=0.05)
    assert 0 == ours.openings


def test_a_circuit_spares_a_dead_server_and_its_callers_of_a_hanging_one():
    """
    With the defaults: less load than a bare call sends, and far fewer calls in flight than without a limit.
    """
    dead = figures_of(play(PLANS["dead"], CONTENDERS["ours"], rate=50))
    hanging, bare = (
        figures_of(play(PLANS["hanging"], CONTENDERS[key], rate=50)) for key in ("ours", "bare")
    )

    assert dead.load < 1.0
    assert 1 == dead.openings
    assert hanging.in_flight < bare.in_flight / 3
    assert (hanging.waited, bare.waited) == (pytest.approx(6.2, abs=0.5), 30.0)


@pytest.mark.parametrize("plan", ["dead", "brown-out", "hanging"])
def test_the_stated_pipeline_meets_the_targets(plan):
    """
    At 100 calls per second: noticed within 1 s, at most 1.25 times the load, well 2 s after its break.
    """
    figures = figures_of(play(PLANS[plan], CONTENDERS["stated"]))

    assert figures.noticed <= 1.0
    assert figures.load <= 1.25
    assert figures.load_peak <= 1.25
    assert figures.recovered_break <= 2.0


def test_the_stated_pipeline_is_the_one_in_the_documentation():
    """
    What is played is what the page says, word for word: limits, attempts, budget and breaker.
    """
    page = Path(__file__).parents[2] / "docs" / "how-to" / "notice-within-a-second.md"
    fence = page.read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    found: dict = {}
    exec(compile(fence, str(page), "exec"), found)  # noqa: S102 - our own page
    total, retry, breaker, attempt = found["guarded"].policies

    assert (Timeout(TOTAL), Timeout(ATTEMPT)) == (total, attempt)
    assert (ATTEMPTS, repr(RetryBudget())) == (retry.attempts, repr(retry.budget))
    assert {name: getattr(breaker, name) for name in STATED} == STATED
    assert (FAILURES, FAILURES) == (retry.on, breaker.on)


def test_retry_after_is_worth_waiting_for():
    """
    Who waits as long as the 429 said loses no call; who comes back at once loses those of the whole outage.
    """
    naive, ours = (
        figures_of(play(PLANS["rate-limited"], CONTENDERS[key], rate=20))
        for key in ("naive", "ours")
    )

    assert ours.goodput > 0.99
    assert naive.goodput < 0.8
    assert naive.load > ours.load


def test_playing_leaves_no_trace():
    """
    The module's random numbers, the logger and circuitbreaker's clock are afterwards what they were.
    """
    random.seed(1)
    expected = random.Random(1).random()
    play(PLANS["dead"], CONTENDERS["ours"], rate=5)

    assert expected == random.random()
    assert not LOGGER.disabled
    if not missing(["circuitbreaker"]):
        import circuitbreaker  # noqa: PLC0415 - a rival, which need not be there

        with rivals_in_virtual_time(1, lambda: 5.0):
            assert 5.0 == circuitbreaker.monotonic()
        assert time.monotonic is circuitbreaker.monotonic


# ---------------------------------------------------------------------- figures


def story_of(calls, *, reached=(), states=((0.0, CLOSED),), in_flight=1, plan=None):
    plan = plan or plan_of(
        Phase(seconds=10, fault=False),
        Phase(seconds=10, errors=1.0),
        Phase(seconds=20, fault=False),
    )
    return Story(plan, "ours", 1.0, list(calls), list(reached), list(states), in_flight, wasted=0)


def each_second(answered, waited=0.1, length=40):
    return [Call(second + 0.5, waited, answered(second)) for second in range(length)]


def test_goodput_is_of_the_calls_that_arrived():
    """
    Counted by when the call arrived; an answer after 10 s counts for nothing.
    """
    calls = each_second(lambda second: not 10 <= second < 15)
    calls[25].waited = 10.1
    calls[26].waited = 10.0

    figures = figures_of(story_of(calls))

    assert 0.5 == figures.goodput
    assert 19 / 20 == figures.goodput_after


def test_load_is_of_the_fault_and_of_the_worst_second():
    """
    Requests over calls: in the fault as a whole, and in the worst second of it or after it.
    """
    reached = sorted([s + 0.5 for s in range(40)] + [12.6] * 4 + [25.6] * 6)

    figures = figures_of(story_of(each_second(lambda _: True), reached=reached))

    assert 1.4 == figures.load
    assert 7.0 == figures.load_peak


def test_time_to_notice_is_until_the_first_opening_in_the_fault():
    """
    An opening before the fault is counted and notices nothing.
    """
    states = [(0.0, CLOSED), (3.0, OPEN), (4.0, HALF_OPEN), (4.1, CLOSED), (12.5, OPEN)]

    figures = figures_of(story_of(each_second(lambda _: True), states=states))

    assert (2.5, 2) == (figures.noticed, figures.openings)
    assert figures_of(story_of(each_second(lambda _: True), states=states[:4])).noticed is None


def test_time_to_recover_is_from_healing_and_from_the_end_of_the_break():
    """
    Nothing is answered until 26: 6 s after healing, of which the break took 4.
    """
    states = [(0.0, CLOSED), (12.0, OPEN), (24.0, HALF_OPEN), (24.2, CLOSED)]
    calls = each_second(lambda second: not 10 <= second < 26)

    figures = figures_of(story_of(calls, states=states))

    assert figures.recovered == pytest.approx(5.6, abs=0.01)  # the first call arrives at 26.5
    assert figures.recovered_break == pytest.approx(1.6, abs=0.01)


def test_who_was_closed_at_healing_has_no_break_to_wait_for():
    """
    The second figure exists only where a break was running.
    """
    figures = figures_of(story_of(each_second(lambda second: second < 10 or second >= 20)))

    assert 0.0 == figures.recovered
    assert figures.recovered_break is None


def test_who_never_recovers():
    """
    Infinity, not the length of the plan.
    """
    assert math.inf == figures_of(story_of(each_second(lambda second: second < 10))).recovered


def test_a_plan_that_does_not_heal_has_no_recovery():
    """
    There is nothing after it.
    """
    plan = plan_of(Phase(seconds=40, errors=0.1))

    figures = figures_of(story_of(each_second(lambda _: True), plan=plan))

    assert (None, None, None) == (
        figures.goodput_after, figures.recovered, figures.recovered_break,
    )  # fmt: skip


def test_callers_waited():
    """
    99 % of all callers, those without an answer included.
    """
    calls = [Call(number / 10, 6.0 if number < 8 else 0.5, False) for number in range(400)]  # noqa: FBT003

    assert 6.0 == figures_of(story_of(calls)).waited
    assert 0.5 == figures_of(story_of(calls[6:])).waited


def test_series_are_counted_per_second():
    """
    Calls by arrival, requests by arrival at the server, answers by when they came.
    """
    plan = plan_of(Phase(seconds=3))
    calls = [Call(0.2, 1.0, True), Call(0.3, 0.1, False), Call(2.9, 0.5, True)]  # noqa: FBT003

    series = series_of(story_of(calls, reached=[0.2, 0.3, 0.9, 2.9, 3.1], plan=plan))

    assert ([2, 0, 1], [3, 0, 1], [0, 1, 0]) == (series.offered, series.load, series.goodput)


# ---------------------------------------------------------------------- days


EVERY_BREAKER = [
    pytest.param(each, marks=if_installed(each.name, each.needs).marks, id=each.name)
    for each in BREAKERS
]


@pytest.mark.parametrize("breaker", EVERY_BREAKER)
def test_no_false_opening_in_an_hour_at_one_percent(breaker):
    """
    One error in a hundred calls is no reason to open.
    """
    assert 0 == openings(breaker, TRAFFIC["1 % errors, 20 calls/s"], seconds=3600)


@pytest.mark.parametrize("breaker", EVERY_BREAKER)
def test_each_break_ends_and_is_counted(breaker):
    """
    Where everything fails the circuit opens, and again after each break: 30 s, or 2 s for those that say so.
    """
    pause = 2 if {"brisk", "stated"} & {*breaker.name.split()} else 30
    traffic = Traffic(name="dead", rate=20.0, errors=1.0)

    counted = openings(breaker, traffic, seconds=601)

    assert counted == pytest.approx(600 / pause, rel=0.1)
    assert counted == openings(breaker, traffic, seconds=601)


def test_a_blackout_fails_everything_for_its_time():
    """
    Once in a hundred seconds: a breaker of 50 calls opens at 60 calls per second, once for each.
    """
    stated = next(each for each in BREAKERS if each.name == "resilience, stated")
    traffic = Traffic(name="blackout", rate=60.0, errors=0.0, blackout=1.0)

    assert 6 == openings(stated, traffic, seconds=600)


def test_a_trip_condition_is_judged_by_when_it_notices_and_how_often_it_opens(monkeypatch):
    """
    Seconds to the first opening for each fault and rate, openings for each kind of traffic.
    """
    monkeypatch.setattr(trips, "RATES", (20.0,))
    monkeypatch.setattr(trips, "FAULTS", ("dead",))

    quick = trips.judge("the default, or 20 failures in a row", seconds=300.0)
    calm = trips.judge("50 % of 30 s (the default)", seconds=300.0)

    assert quick.noticed["dead", 20.0] < 1 < calm.noticed["dead", 20.0]
    assert [*TRAFFIC] == [*quick.openings] == [*calm.openings]
    assert 0 == quick.openings["1 % errors, 20 calls/s"] == calm.openings["1 % errors, 20 calls/s"]


def test_a_breaker_that_waits_is_refused():
    """
    Days are driven without a loop: who awaits something would be measured wrongly, so it is an error.
    """
    waiting = attrs.evolve(
        BREAKERS[-1], build=lambda clock, callee: (lambda: asyncio.sleep(0), bool)
    )

    with pytest.raises(RuntimeError, match="waited for something"):
        openings(waiting, TRAFFIC["1 % errors, 20 calls/s"], seconds=10)


# ---------------------------------------------------------------------- what is written


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "-"),
        (0.0, "0 %"),
        (0.0004, "0.1 %"),
        (0.344, "34 %"),
        (0.9996, "99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_percent(share, text):
    """
    0 % and 100 % mean none and all.
    """
    assert text == percent(share)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.inf, "never"),
        (0.0, "0 s"),
        (0.001, "0.01 s"),
        (0.05, "0.05 s"),
        (7.28, "7.3 s"),
    ],
)
def test_seconds(value, text):
    """
    0 s means at once.
    """
    assert text == seconds(value)


def test_table():
    """
    Words to the left, numbers to the right.
    """
    assert "| a | b | c |\n|---|---|--:|\n| x | y | 1 |" == table(
        ["a", "b", "c"], [["x", "y", "1"]], text=2
    )


def test_a_picture_shows_what_happened():
    """
    Well-formed, one panel per contender, the breaks where they were, and axes with their units.
    """
    plan = PLANS["dead"]
    stories = [play(plan, CONTENDERS[key], rate=20) for key in ("bare", "ours")]

    root = ET.fromstring(picture(plan, stories))  # noqa: S314 - our own

    name = "{http://www.w3.org/2000/svg}"
    panels = root.findall(f"{name}g")
    texts = [[text.text for text in panel.iter(f"{name}text")] for panel in panels]
    assert ["bare call", "resilience"] == [
        next(t for t in each if t in {"bare call", "resilience"}) for each in texts
    ]
    assert all({"calls per second", "0 s", "120"} <= set(each) for each in texts)
    breaks = [
        [each for each in panel.iter(f"{name}rect") if each.get("class") == "open"]
        for panel in panels
    ]
    (shown,) = breaks[1]
    opened = next(at for at, state in stories[1].states if state == OPEN)
    assert not breaks[0]
    assert float(shown.get("x")) == pytest.approx(_WIDTH * opened / plan.seconds, abs=0.1)
    assert float(shown.get("width")) == pytest.approx(_WIDTH * 30 / plan.seconds, abs=0.5)


def test_the_command_writes_tables_figures_and_pictures(tmp_path, capsys):
    """
    One plan, quick: the page on stdout and in a file, figures as JSON, one picture per plan.
    """
    page, figures, pictures = tmp_path / "o.md", tmp_path / "o.json", tmp_path / "svg"

    code = main(
        [
            "rolling restart",
            "--quick",
            "--markdown",
            str(page),
            "--json",
            str(figures),
            "--svg",
            str(pictures),
        ]
    )

    assert 0 == code
    text = page.read_text()
    assert text == capsys.readouterr().out
    assert "| rolling restart | 9" in text
    assert ["rolling-restart.svg"] == [each.name for each in pictures.iterdir()]
    assert f"](outcomes/{picture_name('rolling restart')})" in text
    found = json.loads(figures.read_text())
    assert 20.0 == found["rate"]
    assert 0 == found["figures"]["rolling restart"]["ours"]["openings"]


def test_the_command_knows_its_plans(capsys):
    """
    A plan that does not exist is an error that names those that do.
    """
    with pytest.raises(SystemExit) as error:
        main(["deadly"])

    assert 2 == error.value.code
    assert "'deadly'; there are: healthy, dead" in capsys.readouterr().err


def test_what_never_happened_is_written_as_a_word():
    """
    JSON has no infinity.
    """
    figures = figures_of(play(PLANS["overload"], CONTENDERS["naive"], rate=10))
    results = Results(
        seed=1,
        rate=10.0,
        figures={"overload": {"naive": figures}},
        openings={},
        day=1.0,
        trips={},
        absent=[],
    )

    written = json.dumps(plain(results), allow_nan=False)

    assert "never" == json.loads(written)["figures"]["overload"]["naive"]["recovered"]


def test_two_processes_give_what_one_gives():
    """
    Stories are the same wherever they are played.
    """
    one, _ = measure(["healthy"], quick=True, workers=1)
    two, stories = measure(["healthy"], quick=True, workers=2)

    assert plain(one) == plain(two)
    assert [*CONTENDERS] == [story.contender for story in stories["healthy"]] or missing(
        ["nopanic"]
    )


def test_the_tables_of_the_command_say_what_the_page_says():
    """
    ``python -m benchmarks outcomes`` has a table for each figure, a row for each plan, a column for each contender.
    """
    results, _ = measure(["healthy"], quick=True)
    results = attrs.evolve(results, openings={"x": {"1 % errors": 0}}, day=3600.0)

    found = {table.name: table for table in tables(results)}

    assert [
        "goodput", "load_amplification", "time_to_notice", "time_to_95_goodput", "callers_waited",
        "calls_in_flight", "wasted_work", "openings",
    ] == [*found]  # fmt: skip
    page = report(results)
    for each in found.values():
        assert " | ".join(map(str, each.rows[0])) in page
    assert "Openings in 1 h" == found["openings"].title
