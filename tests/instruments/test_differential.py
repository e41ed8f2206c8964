"""
The differential oracle in the suite: 20,000 random plans, and proof that it would notice.
"""

from __future__ import annotations

import pytest

from tests.instruments.differential.comparing import compare, shrunk, sweep
from tests.instruments.differential.plans import make, possibilities
from tests.instruments.differential.playing import play, prepared
from tests.instruments.faults import Edit, Fault, faults

_EVENTS = {
    "AttemptFinished", "CallFinished", "CallQueued", "CallRejected", "CircuitStateChanged", "FallbackFailed",
    "FallbackUsed", "HedgeFinished", "HedgeStarted", "RetryScheduled", "RetryStopped", "TimedOut",
}  # fmt: skip
_CHUNKS = [
    *(("asyncio", range(first, first + 2_100)) for first in range(0, 16_800, 2_100)),
    *(("trio", range(first, first + 1_600)) for first in range(0, 3_200, 1_600)),
]
# What no plan has: threads, streams, flights, and what only hands do that settle or release twice.
_ELSEWHERE = {
    "counter_is_read_and_written", "flight_goes_with_its_first_caller", "place_is_given_back_twice",
    "place_is_taken_after_a_look", "seat_is_taken_after_a_look", "second_settle_counts", "small_call_overtakes",
    "stream_counts_before_its_first_item",
}  # fmt: skip
_PATIENCE = 2_500  # plans until a fault is found; most take a few dozen


@pytest.mark.parametrize(
    ("library", "seeds"),
    [
        pytest.param(*chunk, id=f"{chunk[0]}-{chunk[1].start}-{chunk[1].stop - 1}")
        for chunk in _CHUNKS
    ],
)
def test_engines_cannot_be_told_apart(library: str, seeds: range) -> None:
    """
    Law 35: results, errors and their chains, events, states, checkpoints and instants are the same, whatever happens.
    """
    report = sweep(library, seeds, stop_at=3)
    assert not report.wrong, "\n\n".join(map(str, report.wrong))
    assert [] == report.crashed[:5]
    assert len(seeds) == report.plans
    wanted = possibilities(library) | {f"event {name}" for name in _EVENTS}
    assert set() == wanted - set(report.seen)
    assert report.lane > report.entries / (8 if library == "asyncio" else 30)


def test_there_are_twenty_thousand_plans() -> None:
    """
    Twenty thousand, most of them on asyncio, some thousand on trio.
    """
    assert 20_000 == sum(len(seeds) for _, seeds in _CHUNKS)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_a_plan_is_played_alike_twice(library: str) -> None:
    """
    What the oracle finds is of the engines: one engine plays a plan alike each time.
    """
    with prepared():
        for seed in range(150):
            plan = make(seed, library)
            assert plan == make(seed, library)
            assert play(plan, "linked").trace == play(plan, "linked").trace


@pytest.mark.parametrize(
    ("seed", "ends"),
    [
        pytest.param(109_948, True, id="anyio cancels a task that waits for a slow one"),
        pytest.param(111_017, False, id="a task waits for another one's place"),
        pytest.param(240_422, True, id="a wheel fires between others' callbacks"),
        pytest.param(917_981, True, id="a group's task outlives its group"),
    ],
)
def test_what_is_of_the_loop_is_no_difference(seed: int, ends: bool) -> None:  # noqa: FBT001
    """
    Time goes on while a cancellation is delivered again and again; what hangs on both engines leaves nothing behind.
    """
    report = sweep("asyncio", range(seed, seed + 2))
    assert [] == report.wrong
    assert ends == (not report.crashed)


def test_a_caller_outlives_what_was_beside_its_cancellation() -> None:
    """
    Nothing of what a callee raises ends a plan for the other callers.
    """
    report = sweep("trio", range(100_612, 100_613))
    assert ([], []) == (report.wrong, report.crashed)


def test_a_look_for_a_shield_ends_with_its_call() -> None:
    """
    Laws 31 and 35: a deadline that waited for a shield has nothing to say to the next call of its task.
    """
    assert [] == sweep("asyncio", range(665_369, 665_370)).wrong


def test_an_edit_that_changes_nothing_is_not_noticed() -> None:
    """
    What the oracle finds of a fault is of the fault, not of how it is planted.
    """
    edit = Edit(
        "policies._wheel:Wheel._fire", "self.timer = None", "self.timer = None  # as it was"
    )
    assert [] == sweep("asyncio", range(300), edit.made).wrong


@pytest.mark.parametrize(
    "fault",
    [each for each in faults() if each.name not in _ELSEWHERE],
    ids=lambda fault: fault.name,
)
def test_a_fault_of_one_engine_is_noticed(fault: Fault) -> None:
    """
    Planted in one of the two engines, a fault is a difference.
    """
    report = sweep("asyncio", range(_PATIENCE), fault.planted, stop_at=1)
    assert report.wrong


def test_a_difference_is_told_by_seed_plan_and_place() -> None:
    """
    A failure prints its seed, the plan as text, the first difference, and the command that replays it.
    """
    edit = Edit(
        "policies._retrying:Retrying._reason_against_another",
        "attempt >= policy.attempts",
        "attempt > policy.attempts",
    )
    with prepared():
        seed = sweep("asyncio", range(100), edit.made, stop_at=1).wrong[0].plan.seed
        found = compare(make(seed, "asyncio"), edit.made)
        least = shrunk(make(seed, "asyncio"), lambda plan: compare(plan, edit.made) is not None)
    told = str(found)
    assert f"seed {seed} on asyncio" in told
    assert "  linked: " in told
    assert " express: " in told
    assert told.endswith(f"--backend asyncio --seeds {seed}")
    assert 1 == len(least.callers)
    assert 1 == len(least.callers[0].calls)
    assert "Retry" in least.text()
