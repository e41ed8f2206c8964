"""
Between two attempts of a retry: others have their turn, and a cancellation comes through, however short the wait.
"""

from __future__ import annotations

import anyio
import pytest
from tenacity import wait_none

from resilience import Retry, RetryBudget
from resilience.budgets import ASKED, outer_retries
from resilience.strategies import AttemptState


class _Failing:
    """Fails always; says how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        raise OSError


def _at_once(attempts: int) -> Retry:
    return Retry(attempts, on=OSError, wait=wait_none())


async def test_others_have_their_turn_between_attempts_without_a_wait(backend):
    """
    Law 35: a checkpoint stands between two attempts; a task beside it runs meanwhile.
    """
    seen: list[int] = []
    failing = _Failing()

    async def beside() -> None:
        while failing.calls < 4:
            seen.append(failing.calls)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(beside)
        with pytest.raises(OSError):  # noqa: PT011 - the callee's own
            await _at_once(4)(failing)
    # On trio who of the two is first changes from turn to turn.
    assert len([calls for calls in seen if calls]) >= 2


async def test_a_cancelled_scope_ends_it_between_attempts(backend):
    """
    Law 2: a scope of anyio's that was cancelled during an attempt ends the retry before the next one.
    """
    failing = _Failing()
    with anyio.CancelScope() as scope:

        async def cancels() -> None:
            scope.cancel()
            await failing()

        await _at_once(5)(cancels)
    assert scope.cancelled_caught
    assert 1 == failing.calls


async def test_within_a_shield_it_goes_on(backend):
    """
    Law 32: a cancellation around a shield does not come through a checkpoint inside it; it does right after.
    """
    failing = _Failing()
    with anyio.CancelScope() as scope:
        scope.cancel()
        with anyio.CancelScope(shield=True), pytest.raises(OSError):  # noqa: PT011
            await _at_once(3)(failing)
        await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert 3 == failing.calls


@pytest.mark.parametrize("asked", [False, True])
async def test_an_attempt_is_marked_only_where_somebody_may_ask(backend, monkeypatch, asked):
    """
    H49: in a process without a budget no context variable is set; the first budget changes that.
    """
    monkeypatch.setattr(ASKED, "by_anybody", False)
    budget = RetryBudget() if asked else None
    found: list[bool] = []

    async def asks() -> None:
        found.append(outer_retries())
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        await _at_once(3)(asks)
    assert [False, asked, asked] == found
    assert not outer_retries()
    assert (budget is not None) is ASKED.by_anybody


def test_an_outcome_is_of_the_attempt_that_it_was_recorded_for():
    """
    Law 28: made when a strategy asks for it, it says what it would have said at once; and it is one object.
    """
    state = AttemptState()
    assert state.outcome is None
    error = OSError()
    state.failed(error, 2.0)
    state.attempt_number = 2
    first = state.outcome
    assert (1, error, True) == (first.attempt_number, first.exception(), first.failed)
    assert first is state.outcome
    state.returned("well", 3.0)
    assert (2, "well") == (state.outcome.attempt_number, state.outcome.result())
    state.outcome = first
    assert first is state.outcome


async def test_an_asynchronous_wait_that_raises_is_mended(backend, caplog):
    """
    Law 6: the default wait is taken in its place, and the call goes on.
    """

    async def wait(state: AttemptState) -> float:
        raise KeyError

    failing = _Failing()
    with pytest.raises(OSError):  # noqa: PT011 - the callee's own
        await Retry(2, on=OSError, wait=wait, max_delay=0.01)(failing)

    assert 2 == failing.calls
    assert "Retry.wait" in caplog.text
