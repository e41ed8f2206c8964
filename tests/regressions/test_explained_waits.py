"""
`Pipeline.explain` counted a wait after the last attempt, and one that the deadline would not let begin.
"""

from __future__ import annotations

import pytest
from tenacity import wait_fixed

from resilience import Pipeline, PipelineWarning, Retry, Timeout
from resilience.testing import Script, Wait


async def test_nothing_is_waited_for_after_the_last_attempt(backend, unit):
    """Law 23: three attempts have two waits between them, and the explained worst is reached exactly."""
    retry = Retry(3, on=TimeoutError, wait=wait_fixed(1 * unit), retry_after=False)
    guarded = Pipeline(retry, Timeout(2 * unit))

    outcome = await guarded.outcome(Script(Wait(9 * unit)))

    assert pytest.approx(8 * unit) == guarded.explain().duration
    assert pytest.approx(8 * unit, abs=unit) == outcome.elapsed


async def test_a_wait_that_the_deadline_does_not_hold_is_not_counted(backend, unit):
    """Law 24: a wait that would end after the deadline is not begun, so the attempt before it is the end."""
    retry = Retry(3, on=TimeoutError, wait=wait_fixed(9 * unit), retry_after=False)
    with pytest.warns(PipelineWarning, match="3 attempts with their waits can need"):
        guarded = Pipeline(Timeout(6 * unit), retry, Timeout(2 * unit))

    outcome = await guarded.outcome(Script(Wait(9 * unit)))

    assert pytest.approx(2 * unit) == guarded.explain().duration
    assert pytest.approx(2 * unit, abs=unit) == outcome.elapsed
    assert 1 == outcome.attempts == guarded.explain().attempts


def test_a_total_timeout_that_holds_the_attempts_and_the_waits_between_them_is_not_warned_of():
    """Two seconds, a wait of one and two seconds again are five: a total of six is enough."""
    retry = Retry(2, on=TimeoutError, wait=wait_fixed(1))

    assert () == Pipeline(Timeout(5.5), retry, Timeout(2)).explain().findings
