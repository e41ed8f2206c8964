"""
The model check in the suite: no unsafe state, none from which the circuit never closes; and it sees what it should.
"""

from __future__ import annotations

import pytest

from resilience.core.circuit import Circuit
from resilience.verdicts import Verdict
from tests.instruments.__main__ import model_table
from tests.instruments.model import SHAPES, Ledger, Report, Shape, World, explore

_REPORTS: list[Report] = []


@pytest.mark.parametrize(
    ("world", "shape"), SHAPES, ids=[f"{world.__name__}-{shape}" for world, shape in SHAPES]
)
def test_no_state_is_unsafe_and_every_state_can_close(world: type[World], shape: Shape) -> None:
    """
    Laws 8 to 17, G3: whatever callers do, circuit and laws agree, and CLOSED can be reached from every state.
    """
    report = explore(shape, world)
    _REPORTS.append(report)
    assert not report.verdict
    assert report.states > 30


def test_the_largest_shape_has_sixteen_callers() -> None:
    """
    G3: up to 16 callers, 20 failures, 10 probes.
    """
    assert 16 == max(shape.callers for _, shape in SHAPES)
    assert 10 == max(shape.probes for _, shape in SHAPES)
    model_table(_REPORTS)


class _Stuck(Circuit):
    """Closes never again once it has opened."""

    __slots__ = ()

    def _settle_probe(self, generation, ticket, verdict, now):  # type: ignore[no-untyped-def]
        generation.live.pop(ticket, None)
        if verdict is Verdict.FAILURE:
            self._open(generation, now, "probe failed")
            return
        generation.seats.append(None)


class _StuckWorld(World):
    def make(self) -> Circuit:
        sound = super().make()
        return _Stuck(sound.rules, 0.0, self.announced.append, lambda *_: None)


def test_a_circuit_that_never_closes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    B15: the search finds states without a way back, when the ledger does not object to them.
    """
    shape = SHAPES[0][1]
    assert "the laws say CLOSED" in explore(shape, _StuckWorld).verdict
    ended = Ledger.ended

    def agrees(self: Ledger, caller: int, verdict: Verdict) -> None:
        ended(
            self,
            caller,
            verdict if self.number == 1 or verdict is Verdict.FAILURE else Verdict.IGNORED,
        )

    def quiet(*_: object) -> None:
        """The lifetime totals would tell."""

    monkeypatch.setattr(Ledger, "ended", agrees)
    monkeypatch.setattr("tests.instruments.model.judge", quiet)
    report = explore(shape, _StuckWorld)
    assert not report.unsafe
    assert 0 < report.stuck == report.stuck_when_healthy < report.states
