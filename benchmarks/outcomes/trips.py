"""
Other trip conditions in the same pipeline: what a default is chosen by.

When each notices a fault at 100, 10 and 1 calls per second, and how often it opens on days on which it should not.
"""

from __future__ import annotations

from typing import Any

import attrs

from benchmarks.outcomes.contenders import Contender, our_pipeline
from benchmarks.outcomes.figures import figures_of
from benchmarks.outcomes.openings import DAY, TRAFFIC, openings, our_breaker
from benchmarks.outcomes.plans import PLANS
from benchmarks.outcomes.play import play
from resilience import ConsecutiveFailures, CountWindow, FailureRate, TimeWindow

__all__ = ["CONDITIONS", "FAULTS", "RATES", "WATCHED", "Condition", "judge"]

RATES = (100.0, 10.0, 1.0)
FAULTS = ("dead", "brown-out", "hanging")
WATCHED = DAY / 4
"""Seconds for which openings are counted: enough to see which condition opens too often."""
_DEFAULT = FailureRate(0.5, TimeWindow(30))


def _last(calls: int, least: int) -> FailureRate:
    return FailureRate(0.5, CountWindow(calls), minimum_calls=least)


CONDITIONS: dict[str, dict[str, Any]] = {
    "50 % of 30 s (the default)": {},
    "50 % of 10 s": {"trip": FailureRate(0.5, TimeWindow(10))},
    "50 % of 3 s": {"trip": FailureRate(0.5, TimeWindow(3))},
    "50 % of the last 100, at least 10": {"trip": _last(100, 10)},
    "the default, or 20 failures in a row": {"trip": _DEFAULT | ConsecutiveFailures(20)},
    "the default, or 50 % of the last 50, at least 10": {"trip": _DEFAULT | _last(50, 10)},
    "the default, or 50 % of the last 100, at least 10": {"trip": _DEFAULT | _last(100, 10)},
    "the default, or 50 % of the last 100, at least 100": {"trip": _DEFAULT | _last(100, 100)},
    "the default, or 50 % of the last 100, at least 10, overdue after 1 s": {
        "trip": _DEFAULT | _last(100, 10),
        "overdue_after": 1.0,
    },
}


@attrs.frozen
class Condition:
    """
    What one condition did.

    Attributes:
        noticed: By fault and rate: seconds until the circuit opened, or None.
        openings: By kind of traffic: how often it opened in `WATCHED` seconds.
    """

    noticed: dict[tuple[str, float], float | None]
    openings: dict[str, int]


def judge(name: str, *, seed: int = 1, seconds: float = WATCHED) -> Condition:
    """Play the faults and the days with the condition of this name."""
    settings = CONDITIONS[name]
    contender = Contender("trip", name, name, our_pipeline(**settings))
    noticed = {
        (fault, rate): figures_of(play(PLANS[fault], contender, seed=seed, rate=rate)).noticed
        for rate in RATES
        for fault in FAULTS
    }
    breaker = our_breaker(name, **settings)
    opened = {
        traffic.name: openings(breaker, traffic, seconds=seconds, seed=seed)
        for traffic in TRAFFIC.values()
    }
    return Condition(noticed, opened)
