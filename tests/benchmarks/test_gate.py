"""
The gate on cost: nothing that succeeds, fails or is turned away becomes dearer unnoticed.
"""

from __future__ import annotations

import pytest

from benchmarks import gate
from benchmarks.instructions import CANONICAL


def test_what_a_call_costs_stays_within_its_limit():
    """
    Instructions where valgrind is installed, else time with limits three times as wide; both as multiples of W.
    """
    found, room = gate.ratios()

    assert [] == gate.exceeded(found, room=room)
    assert {*gate.LIMITS} <= {*found}
    assert 1.0 == found["W"]
    assert all(ratio > 1 for name, ratio in found.items() if name != "W")


def test_the_gate_works_by_the_clock_where_valgrind_is_missing(monkeypatch):
    """
    Ratios of time, measured in a process of their own, of everything that has a limit.
    """
    monkeypatch.setattr("shutil.which", lambda name: None)
    found, room = gate.ratios()

    assert {*gate.LIMITS} <= {*found}
    assert room > 1
    assert all(ratio > 0 for ratio in found.values())


@pytest.mark.parametrize("name", gate.LIMITS)
def test_the_gate_closes(name):
    """
    One ratio above its limit is named, with what it is and what it may be; at the limit it passes.
    """
    found = dict(gate.LIMITS)
    assert [] == gate.exceeded(found)
    found[name] += 0.01

    (said,) = gate.exceeded(found)

    assert said.startswith(f"{name}: ")
    assert f"at most {gate.LIMITS[name]:.2f}" in said
    assert [] == gate.exceeded(found, room=1.1)


def test_the_command_tells_and_judges(monkeypatch, capsys):
    """
    Every limit with what was found beside it; status 1 if one is exceeded.
    """
    found = {name: limit / 2 for name, limit in gate.LIMITS.items()}
    monkeypatch.setattr(gate, "ratios", lambda: (found, 1.0))
    assert 0 == gate.main([])
    assert len(gate.LIMITS) == len(capsys.readouterr().out.splitlines())

    found[CANONICAL] = 100.0
    assert 1 == gate.main([])
    assert f"{CANONICAL}: 100.00 W" in capsys.readouterr().out
