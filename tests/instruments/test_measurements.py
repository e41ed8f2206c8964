"""
Law 15 measured: eight threads with eight loops each, on asyncio and trio, and each control loses in the same harness.
"""

from __future__ import annotations

from typing import Any

import pytest

from resilience.core.buckets import Bucket
from resilience.core.circuit import Circuit
from resilience.core.lines import Places
from tests.instruments import bytecode
from tests.instruments.__main__ import bytecode_table, threads_table
from tests.instruments.threads import (
    BUCKETS,
    CIRCUITS,
    CONTROLS,
    LANES,
    PLACES,
    CheckThenAct,
    LookThenSpend,
    LookThenTake,
    Outcome,
    ReadThenWrite,
    admissions,
    counts,
    measure,
    places,
    storm,
    tokens,
)

_OUTCOMES: list[Outcome] = []


def _lost(outcome: Outcome) -> list[str]:
    _OUTCOMES.append(outcome)
    return outcome.lost


@pytest.mark.parametrize("kind", CIRCUITS)
def test_of_thousands_who_race_exactly_the_probes_are_admitted(kind: type[Circuit]) -> None:
    """
    Laws 11 and 15, G14: at each of many openings, and it opens once for each.
    """
    assert [] == _lost(measure(admissions, kind))


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", CIRCUITS)
def test_eight_threads_with_eight_loops_each_lose_no_count(kind: type[Circuit], lane: str) -> None:
    """
    Laws 9 and 15: every success, failure, ignored and cancelled call of 64 loops is counted once.
    """
    assert [] == _lost(measure(counts, kind, lane))


@pytest.mark.parametrize("kind", CIRCUITS)
def test_a_storm_leaves_nothing_behind(kind: type[Circuit]) -> None:
    """
    Laws 8, 9, 11, 14 and 15: late and second settles, resets, isolations, readers and new pipelines, all at once.
    """
    assert [] == _lost(measure(storm, kind))


@pytest.mark.parametrize("kind", PLACES)
def test_eight_threads_with_eight_loops_share_the_places(kind: type[Places]) -> None:
    """
    G14, H38, K1 to K6: never more inside than the limit, nobody forgotten, nothing left taken.
    """
    assert [] == _lost(measure(places, kind))


@pytest.mark.parametrize("kind", BUCKETS)
def test_of_thousands_who_race_exactly_the_burst_is_served(kind: type[Bucket]) -> None:
    """
    L1, law 15: no token is spent twice.
    """
    assert [] == _lost(measure(tokens, kind))


def _loses(*what: Any) -> bool:
    """Whether a control is seen to fail, in one of some tries: threads switch when they like."""
    return any(_lost(measure(*what)) for _ in range(20))


def test_a_look_before_the_taking_lets_in_too_many() -> None:
    """
    H38: the controls of the places and of the tokens.
    """
    assert _loses(places, LookThenTake)
    assert _loses(tokens, LookThenSpend)


def test_a_look_before_the_step_admits_too_many() -> None:
    """
    H38: the control of the race for the probes.
    """
    assert _loses(admissions, CheckThenAct)


@pytest.mark.parametrize("lane", LANES)
def test_a_call_between_read_and_write_loses_counts(lane: str) -> None:
    """
    Trap 6: the control of the counts.
    """
    assert _loses(counts, ReadThenWrite, lane)


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_storm_finds_what_is_unprotected(kind: type[Circuit]) -> None:
    """
    Law 15: the controls of the storm.
    """
    assert _loses(storm, kind)
    threads_table(_OUTCOMES)


def test_no_shared_line_can_be_interrupted() -> None:
    """
    Law 15: between the read and the write of each `+=`, found in the source, the running Python switches no threads.
    """
    lines = bytecode.module_lines()
    bytecode_table(lines)
    assert [] == [line for line in lines if line.switches]
    assert set(bytecode.DOCUMENTED) <= {line.target.rpartition(".")[2] for line in lines}
    assert [] == bytecode.hidden_calls()


def test_lines_that_can_be_interrupted_are_told() -> None:
    """
    Law 15: the control; a call, a loop and an await between read and write are seen.
    """
    assert [True, True, True] == [bool(line.switches) for line in bytecode.controls()]
