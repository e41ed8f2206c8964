"""
The instruments are tested: each planted fault must be found, and nothing where none is planted.
"""

from __future__ import annotations

import contextlib

import pytest

from tests.instruments.__main__ import faults_table
from tests.instruments.examination import Finding, examine, silent
from tests.instruments.faults import Edit, Fault, Stale, faults

_FINDINGS: list[Finding] = []


def test_nothing_is_found_where_nothing_is_planted() -> None:
    """
    G2: what is found of a fault is of the fault.
    """
    assert {} == silent()


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(fault: Fault) -> None:
    """
    G2: what rivals do wrong, and what the hazards warn of, cannot come in here unseen.
    """
    finding = examine(fault)
    _FINDINGS.append(finding)
    assert finding.by, f"nothing finds {fault.name}"


def test_they_are_many_and_half_of_them_were_observed() -> None:
    """
    At least fifteen, at least half of them observed in rivals; and the table of who found which.
    """
    all_of_them = faults()
    assert len(all_of_them) >= 15
    assert 2 * sum(each.observed for each in all_of_them) >= len(all_of_them)
    faults_table(_FINDINGS)


def test_what_was_planted_is_gone_afterwards() -> None:
    """
    A fault ends with its block, in every module that took the function by name, whatever is raised in it.
    """
    from resilience import events  # noqa: PLC0415 - looked at before, while and after
    from resilience.policies import _breaker_core  # noqa: PLC0415

    before = events.publish
    edit = Edit("events:publish", "_log(event)", "pass")
    with contextlib.suppress(KeyError), edit.made():
        assert events.publish is _breaker_core.publish is not before
        raise KeyError
    assert events.publish is _breaker_core.publish is before


def test_a_fault_that_fits_no_more_is_refused() -> None:
    """
    Where the code has changed, an edit that does nothing must not pass for a fault.
    """
    with pytest.raises(Stale, match="renew"), Edit("events:publish", "no such line", "").made():
        pass
