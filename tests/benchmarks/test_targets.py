"""
The page of targets: what was met, what was missed, what was not measured.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import targets
from benchmarks.targets import TARGETS, Target

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def of(ratio: float) -> dict:
    """A run in which one call of a table cost that many W."""
    return {"parts": {"cost": {"layers": {"rows": [{"call": "resilience", "x W": ratio}]}}}}


LAYERS = Target("layers", targets._cost("layers", "resilience"), 1.8, older=3.0)


@pytest.mark.parametrize(
    ("python", "ratio", "cell"),
    [
        ("3.13", 1.8, "1.80"),
        ("3.13", 1.81, "**1.81**"),
        ("3.12", 2.99, "2.99"),
        ("3.12", 3.2, "**3.20**"),
        ("3.13", 1234.0, "**1,234**"),
    ],
)
def test_a_miss_is_bold(python, ratio, cell):
    """
    A figure beyond its target is bold; an older Python has its own target where one is given.
    """
    assert cell == LAYERS.measured(of(ratio), python)


def test_what_was_not_measured_is_a_dash():
    """
    A row that the run does not have is no success.
    """
    assert "-" == LAYERS.measured({"parts": {"cost": {"layers": {"rows": []}}}}, "3.13")


@pytest.mark.parametrize(("factor", "cell"), [(10.0, "10.00"), (9.9, "**9.90**")])
def test_a_lower_bound_is_missed_from_below(factor, cell):
    """
    Where more is better, less is a miss.
    """
    target = Target("rival", targets._cost("layers", "resilience"), at_least=10, unit="x")

    assert cell == target.measured(of(factor), "3.13")
    assert ">= 10 x" == target.text()


def test_every_target_is_measured():
    """
    The committed results of the newest Python have a figure for every target.
    """
    run = json.loads((RESULTS / "3.13.json").read_text(encoding="utf-8"))

    missing = [each.case for each in TARGETS if each.measured(run, "3.13") == "-"]

    assert not missing
