"""
The load a throttle looks at, against the vectors of the SRE book and against a plain count.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.core.load import Load, rejection_probability


@pytest.mark.parametrize(
    ("requests", "accepts", "expected"),
    [(100, 100, 0.0), (100, 50, 0.0), (100, 40, 0.198), (100, 0, 0.9901), (0, 0, 0.0)],
)
def test_the_rule_of_the_book(requests: int, accepts: int, expected: float) -> None:
    """
    AT-001: K=2.
    """
    assert expected == pytest.approx(rejection_probability(requests, accepts, 2.0), abs=1e-4)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 8), st.booleans(), st.integers(0, 3)), max_size=80))
def test_the_window_is_that_of_a_plain_count(calls: list[tuple[float, bool, int]]) -> None:
    """
    Law 19: what is counted is what ended in the last seconds, to a slot of a tenth.
    """
    load, now = Load(10.0, 100.0), 100.0
    seen: list[tuple[float, bool]] = []
    for gap, accepted, level in calls:
        now += gap
        if now >= load.edge:
            load.roll(now)
        load.count(level, accepted=accepted)
        seen.append((now, accepted))
        slot = now - (now - 100.0) % 1.0
        lately = [each for each in seen if each[0] >= slot - 9.0 - 1e-9]
        before = [each for each in seen if each[0] >= slot - 10.0 - 1e-9]
        assert len(lately) <= load.requests <= len(before)
        assert sum(good for _, good in lately) <= load.accepts <= sum(good for _, good in before)


def test_after_a_day_of_rest_nothing_is_left() -> None:
    """
    Law 19: one step, and the slots keep their places.
    """
    load = Load(10.0, 0.0)
    load.count(0, accepted=False)
    load.roll(86_400.5)
    assert (0, 0) == (load.requests, load.accepts)
    assert 86_401.0 == pytest.approx(load.edge)


def test_the_least_important_are_turned_away_first() -> None:
    """
    Issue 5: the share falls on them; what theirs cannot take falls on the next.
    """
    load = Load(10.0, 0.0)
    for level, number in ((0, 50), (1, 30), (2, 20)):
        for _ in range(number):
            load.count(level, accepted=False)
    load.current.accepts = 35  # 30 of 101 too many
    assert 30 / 101 * 100 / 50 == pytest.approx(load.probability(0, 2.0, 0.9))
    assert 0.0 == load.probability(1, 2.0, 0.9) == load.probability(2, 2.0, 0.9)
    load.current.accepts = 10  # 80 of 101
    whole = 80 / 101 * 100
    assert 0.9 == load.probability(0, 2.0, 0.9)
    assert (whole - 45) / 30 > 0.9
    assert 0.9 == load.probability(1, 2.0, 0.9)
    assert (whole - 72) / 20 == pytest.approx(load.probability(2, 2.0, 0.9))
    load.current.accepts = 100
    assert [0.0] * 3 == [load.probability(level, 2.0, 0.9) for level in range(3)]
    load.current.accepts = 0
    assert 0.0 == load.probability(7, 2.0, 0.9)  # all of it falls on those below
    load.current.levels[:2] = [0, 80]
    assert 0.9 == load.probability(0, 2.0, 0.9)  # nobody of its kind has come yet
