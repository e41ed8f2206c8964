"""
`p.outcome(fn, ...)`: what happened, as a value.
"""

from __future__ import annotations

import copy

import anyio
import attrs
import pytest

from resilience import (
    Bulkhead,
    BulkheadFullError,
    CircuitOpenError,
    CircuitState,
    Failure,
    FullJitter,
    Pipeline,
    Retry,
    Success,
    Timeout,
)
from resilience.events import CallRejected
from resilience.testing import Hang, Script, Wait
from tests.doors.kit import plain_breaker

retry = Retry(3, on=OSError, wait=FullJitter(0, 0))


async def test_an_outcome_raises_no_exception(backend, unit):
    """
    api.md: Success or Failure, with attempts, elapsed, exhausted and the rejection.
    """
    good = await retry.outcome(Script(OSError, 42))
    assert isinstance(good, Success)
    assert (True, 42, 2, False, None) == (
        good.ok,
        good.unwrap(),
        good.attempts,
        good.exhausted,
        good.rejection,
    )
    bad = await retry.outcome(Script(OSError("down")))
    assert isinstance(bad, Failure)
    assert (False, 3, True) == (bad.ok, bad.attempts, bad.exhausted)
    with pytest.raises(OSError, match="down"):
        bad.unwrap()
    took = await Timeout(5 * unit).outcome(Script(Wait(unit, 1)))
    assert 0.9 * unit <= took.elapsed <= 3 * unit


async def test_an_outcome_shows_the_rejection(backend):
    """
    api.md, law 25: the rejection itself, or the one that ended the retries after an error.
    """
    breaker = plain_breaker(1)
    with pytest.warns(match="hang"):
        guarded = Pipeline(retry, breaker)
    ended = await guarded.outcome(Script(OSError))
    assert (OSError, CircuitOpenError) == (type(ended.error), type(ended.rejection))
    rejected = await guarded.outcome(Script(1))
    assert rejected.error is rejected.rejection
    assert 0 == rejected.attempts


async def test_an_outcome_lets_a_cancellation_pass(backend, unit):
    """
    Law 2: an outcome answers no cancellation.
    """
    with anyio.move_on_after(unit) as scope:
        await retry.outcome(Script(Hang()))
    assert scope.cancelled_caught


class _Rejections(list):
    """Hears of rejections, and so leaves a pipeline its lane."""

    listens_to = (CallRejected,)

    def __call__(self, event):
        self.append(event)


def _as_it_is_made(outcome):
    """The same by its own constructor."""
    fields = {each.name for each in attrs.fields(type(outcome)) if each.init}
    return type(outcome)(**{name: getattr(outcome, name) for name in fields})


async def test_an_outcome_is_what_its_class_makes(backend):
    """
    The door fills outcomes before they are frozen; nothing but the price may tell them from those made by hand.
    """
    for outcome in (await retry.outcome(Script(1)), await retry.outcome(Script(OSError))):
        made = _as_it_is_made(outcome)
        assert made == outcome
        assert repr(made) == repr(outcome)
        assert type(made) is type(outcome)
        assert outcome == copy.copy(outcome)
        assert not hasattr(outcome, "__dict__")
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            outcome.attempts = 9
    assert hash(made) == hash(outcome)


@pytest.mark.parametrize("isolated", [False, True])
async def test_a_rejection_is_an_outcome_without_being_raised(backend, clock, isolated):
    """
    Told, counted and worded as the raised one; the callee and the retry around are not asked, and no call is made.
    """
    breaker = plain_breaker(1, clock=clock)
    heard = _Rejections()
    guarded = Pipeline(Timeout(5), retry, breaker, Timeout(1), listeners=[heard])
    assert (await guarded.outcome(Script(1))).ok
    if isolated:
        breaker.isolate()
    else:
        breaker._core.force(CircuitState.OPEN)
    with pytest.raises(CircuitOpenError) as caught:
        await guarded(Script(1))
    script = Script(1)
    outcome = await guarded.outcome(script)
    expected = Failure(
        error=outcome.error, attempts=0, elapsed=outcome.elapsed, rejection=outcome.error
    )
    assert expected == outcome
    assert type(caught.value) is type(outcome.error)
    assert vars(caught.value) == vars(outcome.error)
    assert outcome.error.__traceback__ is None
    assert [CallRejected] * 2 == [type(each) for each in heard]
    assert 2 == breaker.snapshot().rejected
    assert 0 == script.calls


async def test_a_rejection_that_a_retry_takes_up_is_no_outcome_yet(backend, clock):
    """
    Law 25: where ``on`` names it, the rejection is waited out, by this door as by the others.
    """
    breaker = plain_breaker(1, clock=clock)
    breaker._core.force(CircuitState.OPEN)
    patient = Retry(2, on=(OSError, CircuitOpenError), wait=FullJitter(0, 0), max_delay=1)
    guarded = Pipeline(Timeout(5), patient, breaker, Timeout(1))
    outcome = await guarded.outcome(Script(1))
    assert outcome.exhausted


async def test_a_gate_that_another_may_forestall_is_not_asked_first(backend, clock):
    """
    Outermost first: what a full bulkhead turns away, the open circuit inside it does not hear of.
    """
    breaker = plain_breaker(1, clock=clock)
    breaker._core.force(CircuitState.OPEN)
    outcome = await Pipeline(Bulkhead(0), breaker, Timeout(1)).outcome(Script(1))
    assert isinstance(outcome.error, BulkheadFullError)
    assert 0 == breaker.snapshot().rejected
