"""
Laws 1, 4, 5, 6 and 7: what a call's end means to a breaker.
"""

from __future__ import annotations

import itertools
import logging

import anyio
import pytest
import tenacity

from resilience import (
    CircuitOpenError,
    CircuitState,
    ConsecutiveFailures,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.events import CircuitStateChanged
from resilience.testing import Recorder, Script
from tests.laws.breaker.kit import (
    a_breaker,
    a_cancellation,
    due,
    free_seats,
    open_up,
    pipeline,
    totals,
    visible,
)

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


class UnavailableError(Exception):
    """What the dependency raises when it is not there."""


class RefusedError(Exception):
    """What the dependency raises when the caller is wrong."""


@pytest.fixture(params=["plain", "watched"])
def lane(request):
    """The two ways through a closed breaker: the plain one, and the one of breakers that watch running calls."""
    return {} if request.param == "plain" else {"overdue_after": 50.0}


# ------------------------------------------------------------------------------------------ law 1


@pytest.mark.parametrize(
    ("step", "counted"),
    [(42, "successes"), (UnavailableError, "failures"), (RefusedError, "ignored")],
)
async def test_a_call_ends_with_exactly_one_of_three_verdicts(backend, clock, lane, step, counted):
    """
    Law 1: success, failure or ignored, and each call is counted once.
    """
    trip = ConsecutiveFailures(9)
    breaker = a_breaker(clock, on=UnavailableError, ignore=RefusedError, trip=trip, **lane)
    guarded = pipeline(breaker)
    for number in range(1, 4):
        await guarded.outcome(Script(step))
        expected = dict.fromkeys(totals(breaker), 0) | {counted: number}
        assert expected == totals(breaker)


async def test_ignored_changes_nothing_in_a_closed_circuit(backend, clock, lane):
    """
    Law 1: no counter, no state, no timer; a streak of failures goes on over it.
    """
    breaker = a_breaker(
        clock, on=UnavailableError, ignore=RefusedError, trip=ConsecutiveFailures(2), **lane
    )
    guarded = pipeline(breaker)
    await guarded.outcome(Script(UnavailableError))
    before = visible(breaker)
    for _ in range(20):
        await guarded.outcome(Script(RefusedError))
    assert before == visible(breaker)
    await guarded.outcome(Script(UnavailableError))
    assert OPEN is breaker.state


async def test_ignored_changes_nothing_in_a_half_open_circuit(backend, clock):
    """
    Law 1, HO-006, HO-007: the place is given back, what was counted stays, and no number of them decides anything.
    """
    breaker = a_breaker(
        clock, on=UnavailableError, ignore=RefusedError, probes=2, successes_to_close=3
    )
    breaker.admit().failure()
    clock.advance(10.0)
    guarded = pipeline(breaker)
    await guarded(Script(1))
    await guarded(Script(1))
    before = visible(breaker)
    for _ in range(20):
        await guarded.outcome(Script(RefusedError))
        assert before == visible(breaker)
    assert 2 == free_seats(breaker)
    await guarded(Script(1))
    assert CLOSED is breaker.state


async def test_ignored_does_not_move_the_end_of_a_break(backend, clock):
    """
    Law 1: no timer; a call from before the break ends in it.
    """
    breaker = a_breaker(clock, on=UnavailableError, ignore=RefusedError)
    late = breaker.admit()
    breaker.admit().failure()
    clock.advance(4.0)
    before = visible(breaker)
    late.ignore()
    assert before == visible(breaker)
    assert 6.0 == breaker.retry_after


# ------------------------------------------------------------------------------------------ law 4


async def test_the_rejection_of_an_inner_breaker_is_nothing_to_an_outer_one(backend, clock):
    """
    Law 4: the dependency was never asked, whatever ``on`` would say of the error.
    """
    outer, inner = a_breaker(clock, on=Exception), a_breaker(clock)
    open_up(inner)
    before, script = visible(outer), Script(1)
    with pytest.raises(CircuitOpenError):
        await pipeline(outer, inner)(script)
    assert (before, 1, 0) == (visible(outer), totals(outer)["ignored"], script.calls)


async def test_a_probe_that_an_inner_policy_rejects_gives_its_place_back(backend, clock):
    """
    Law 4, HO-026: neither closed nor reopened; the next caller may probe.
    """
    outer = due(a_breaker(clock, on=Exception), clock)
    inner = open_up(a_breaker(clock))
    for _ in range(3):
        with pytest.raises(CircuitOpenError) as caught:
            await pipeline(outer, inner)(Script(1))
        assert inner.name == caught.value.breaker
    assert (HALF_OPEN, 1) == (outer.state, free_seats(outer))


async def test_after_a_failed_attempt_the_last_error_is_raised_and_not_the_rejection(
    backend, clock
):
    """
    Law 4: ``RejectedError`` is raised only if no attempt ran; a note says what ended the attempts.
    """
    breaker, error = a_breaker(clock), OSError("down")
    script = Script(error)
    guarded = pipeline(Retry(5, on=OSError), breaker)
    with pytest.raises(OSError, match="down") as caught:
        await guarded(script)
    assert error is caught.value
    assert (1, 1) == (script.calls, len(caught.value.__notes__))
    with pytest.raises(CircuitOpenError):
        await guarded(script)
    assert 1 == script.calls


async def test_a_rejection_inside_a_group_is_nothing_either(backend, clock, lane):
    """
    Laws 4 and 7: a group of nothing but rejections is ignored.
    """
    breaker = a_breaker(clock, on=Exception, **lane)
    error = ExceptionGroup("both", [CircuitOpenError("one"), CircuitOpenError("other")])
    await pipeline(breaker).outcome(Script(error))
    assert (CLOSED, 1) == (breaker.state, totals(breaker)["ignored"])


# ------------------------------------------------------------------------------------------ law 5


NOT_MINE = tenacity.retry_if_not_exception_type(RefusedError)


@pytest.mark.parametrize(
    ("options", "error", "counted"),
    [
        ({"on": OSError}, OSError(), "failures"),
        ({"on": OSError}, ConnectionResetError(), "failures"),
        ({"on": (OSError, UnavailableError)}, UnavailableError(), "failures"),
        ({"on": OSError}, ValueError(), "successes"),
        ({"on": OSError, "ignore": ValueError}, ValueError(), "ignored"),
        ({"on": OSError, "ignore": ConnectionError}, ConnectionResetError(), "ignored"),
        ({"on": ConnectionError, "ignore": OSError}, ConnectionError(), "ignored"),
        ({"on": lambda error: error.errno == 5}, OSError(5, "io"), "failures"),
        ({"on": lambda error: error.errno == 5}, OSError(6, "io"), "successes"),
        (
            {"on": Exception, "ignore": lambda error: "mine" in str(error)},
            OSError("mine"),
            "ignored",
        ),
        ({"on": Exception, "ignore": lambda error: "mine" in str(error)}, OSError(), "failures"),
        ({"on": tenacity.retry_if_exception_type(OSError)}, OSError(), "failures"),
        ({"on": tenacity.retry_if_exception_type(OSError)}, ValueError(), "successes"),
        ({"on": NOT_MINE}, RefusedError(), "successes"),
        (
            {"on": NOT_MINE | tenacity.retry_if_exception_type(RefusedError)},
            RefusedError(),
            "failures",
        ),
        (
            {"on": Exception, "ignore": tenacity.retry_if_exception_type(OSError)},
            OSError(),
            "ignored",
        ),
        ({"on": (), "on_result": lambda _: True}, OSError(), "successes"),
        ({"on": UnavailableError}, TimeoutExceededError(1.0), "failures"),
        ({"on": UnavailableError, "ignore": TimeoutError}, TimeoutExceededError(1.0), "failures"),
        ({"on": UnavailableError, "ignore": lambda _: True}, TimeoutExceededError(1.0), "failures"),
        ({"on": Exception, "ignore": TimeoutExceededError}, TimeoutExceededError(1.0), "ignored"),
        (
            {"on": Exception, "ignore": (OSError, TimeoutExceededError)},
            TimeoutExceededError(1.0),
            "ignored",
        ),
        ({"on": Exception, "ignore": TimeoutExceededError}, TimeoutError(), "failures"),
    ],
)
async def test_on_says_what_is_a_failure_and_ignore_what_is_nothing(
    *, backend, clock, lane, options, error, counted
):
    """
    Law 5, CB-013, CB-014: both match: ignored; neither: success; our own deadline first of all, unless named itself.
    """
    breaker = a_breaker(clock, trip=ConsecutiveFailures(9), **(options | lane))
    outcome = await pipeline(breaker).outcome(Script(error))
    assert error is outcome.error
    expected = dict.fromkeys(totals(breaker), 0) | {counted: 1}
    assert expected == totals(breaker)


async def test_a_real_deadline_is_a_failure_before_on_is_asked(backend, unit):
    """
    Law 5: on the way through a real ``Timeout``, inside the breaker and outside of it.
    """
    asked = []
    for policies in ((a_breaker, Timeout), (Timeout, a_breaker)):
        breaker = a_breaker(on=asked.append, probe_lease=60 * unit)
        made = [breaker if each is a_breaker else Timeout(unit) for each in policies]
        with pytest.raises(TimeoutExceededError):
            await pipeline(*made)(anyio.sleep_forever)
        assert (OPEN, "TimeoutExceededError") == (breaker.state, breaker.snapshot().last_failure)
    assert [] == asked


@pytest.mark.parametrize("ignored", [TimeoutExceededError, (ValueError, TimeoutExceededError)])
async def test_a_real_deadline_that_ignore_names_is_nothing(backend, unit, ignored):
    """
    Law 5: named itself it is ignored, inside the breaker and outside of it.
    """
    for outside in (False, True):
        breaker = a_breaker(on=Exception, ignore=ignored)
        made = (Timeout(unit), breaker) if outside else (breaker, Timeout(unit))
        with pytest.raises(TimeoutExceededError):
            await pipeline(*made)(anyio.sleep_forever)
        assert (CLOSED, 1) == (breaker.state, totals(breaker)["ignored"])


@pytest.mark.parametrize(
    ("predicate", "bad", "good"),
    [
        (lambda result: result >= 500, 503, 200),
        (tenacity.retry_if_result(lambda result: result is None), None, 200),
    ],
)
async def test_a_result_can_be_a_failure(*, backend, clock, lane, predicate, bad, good):
    """
    Law 5, CB-010: a refused result counts as failure, is returned all the same, and the rejections have no cause.
    """
    breaker = a_breaker(clock, on=(), on_result=predicate, trip=ConsecutiveFailures(2), **lane)
    guarded = pipeline(breaker)
    assert [good, bad, bad] == [await guarded(Script(each)) for each in (good, bad, bad)]
    assert (1, 2) == (totals(breaker)["successes"], totals(breaker)["failures"])
    with pytest.raises(CircuitOpenError) as caught:
        await guarded(Script(good))
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


# ------------------------------------------------------------------------------------------ law 6


_faults = itertools.count(1)


def _faulty(name="hook"):
    """A function of the user's that raises, under a name that no log has seen."""

    def hook(_):
        raise ZeroDivisionError("a fault of the user's own")

    hook.__qualname__ = f"{name}_of_law_six_{next(_faults)}"
    return hook


def _errors(caplog):
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.mark.parametrize("option", ["on", "ignore"])
async def test_a_predicate_that_raises_is_a_failure_and_the_error_of_the_call_stands(
    backend, clock, lane, option, caplog
):
    """
    Law 6, H9: the bookkeeping is that of a failure, the caller gets the call's own error, the log names the predicate.
    """
    error, hook = UnavailableError("down"), _faulty("predicate")
    breaker = a_breaker(clock, **({"on": UnavailableError, option: hook} | lane))
    guarded = pipeline(breaker)
    with pytest.raises(UnavailableError) as caught:
        await guarded(Script(error))
    assert error is caught.value
    assert (None, None) == (error.__cause__, error.__context__)
    assert (OPEN, 1) == (breaker.state, totals(breaker)["failures"])
    clock.advance(10.0)
    await guarded.outcome(Script(error))
    assert [True] == [hook.__qualname__ in text for text in _errors(caplog)]


async def test_a_predicate_of_results_that_raises_is_a_failure_and_the_result_is_returned(
    backend, clock, lane
):
    """
    Law 6: never replaces the call's own result.
    """
    breaker = a_breaker(clock, on=(), on_result=_faulty(), **lane)
    assert 42 == await pipeline(breaker)(Script(42))
    assert (OPEN, 1) == (breaker.state, totals(breaker)["failures"])


@pytest.mark.parametrize("option", ["on", "ignore", "on_result"])
async def test_a_predicate_that_raises_leaks_no_probe(backend, clock, option):
    """
    Law 6: in half-open the failure reopens, and the round after it has its place.
    """
    breaker = due(a_breaker(clock, **{"on": UnavailableError, option: _faulty()}), clock)
    for opening in range(2, 5):
        await pipeline(breaker).outcome(Script(1 if option == "on_result" else UnavailableError))
        assert (OPEN, opening) == (breaker.state, breaker.snapshot().openings)
        clock.advance(10.0)
    breaker.admit().ignore()
    assert (HALF_OPEN, 1) == (breaker.state, free_seats(breaker))


class Interrupted(BaseException):
    """Such as KeyboardInterrupt, or what a test framework raises to fail a test."""


@pytest.mark.parametrize("option", ["on", "ignore", "on_result"])
async def test_a_predicate_that_is_interrupted_leaks_no_probe(backend, clock, option):
    """
    Laws 2 and 6, H6: what is no ``Exception`` is passed on, and the place is given back as for any of them.
    """

    def interrupted(_):
        raise Interrupted

    breaker = due(a_breaker(clock, **{"on": UnavailableError, option: interrupted}), clock)
    with pytest.raises(Interrupted):
        await pipeline(breaker)(Script(1 if option == "on_result" else UnavailableError))
    assert (HALF_OPEN, 1, 1) == (breaker.state, free_seats(breaker), breaker.snapshot().openings)


async def test_a_break_duration_that_raises_is_the_default(backend, clock, caplog):
    """
    Law 6: a strategy's fault changes no transition; it opens, for the default of 30 s.
    """
    hook = _faulty("strategy")
    breaker = a_breaker(clock, break_duration=hook)
    with pytest.raises(OSError, match="down"):
        await pipeline(breaker)(Script(OSError("down")))
    assert (OPEN, 30.0) == (breaker.state, breaker.retry_after)
    assert [True] == [hook.__qualname__ in text for text in _errors(caplog)]


async def test_a_listener_that_raises_is_logged_once_with_its_name(backend, clock, caplog):
    """
    Law 6, EVT-002, H28: state first, then listeners; the outcome, the transitions and the other listeners stand.
    """
    hook, heard, breaker = _faulty("listener"), Recorder(CircuitStateChanged), a_breaker(clock)
    guarded = pipeline(breaker, listeners=[hook, heard])
    for _ in range(3):
        with pytest.raises(OSError, match="down"):
            await guarded(Script(OSError("down")))
        clock.advance(10.0)
    assert 42 == await guarded(Script(42))
    assert CLOSED is breaker.state
    assert ["OPEN", "HALF_OPEN"] * 3 + ["CLOSED"] == [event.new for event in heard]
    assert [True] == [hook.__qualname__ in text for text in _errors(caplog)]


@pytest.mark.parametrize("place", ["handler", "filter"])
async def test_a_log_that_raises_is_a_listener_that_raises(backend, clock, place):
    """
    Law 6: what hangs on the package's logger is the user's too; the call's own error and the other listeners stand.
    """

    class Broken(logging.NullHandler):
        def handle(self, record):
            raise ZeroDivisionError("a fault of the user's own")

    def filtering(record):
        raise ZeroDivisionError("a fault of the user's own")

    logger, handler = logging.getLogger("resilience"), Broken()
    heard, breaker, error = Recorder(CircuitStateChanged), a_breaker(clock), OSError("down")
    guarded = pipeline(breaker, listeners=[heard, _faulty("listener")])
    logger.addHandler(handler) if place == "handler" else logger.addFilter(filtering)
    try:
        outcome = await guarded.outcome(Script(error))
        clock.advance(10.0)
        assert 42 == await guarded(Script(42))
    finally:
        logger.removeHandler(handler)
        logger.removeFilter(filtering)
    assert error is outcome.error
    assert ["OPEN", "HALF_OPEN", "CLOSED"] == [event.new for event in heard]


# ------------------------------------------------------------------------------------------ law 7


def _group(*errors, depth=1):
    group = ExceptionGroup("together", list(errors))
    for _ in range(depth - 1):
        group = ExceptionGroup("deeper", [group])
    return group


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    ("errors", "counted"),
    [
        ([UnavailableError()], "failures"),
        ([UnavailableError(), ValueError()], "failures"),
        ([RefusedError(), UnavailableError()], "failures"),
        ([RefusedError(), RefusedError()], "ignored"),
        ([RefusedError(), CircuitOpenError("x")], "ignored"),
        ([RefusedError(), ValueError()], "successes"),
        ([ValueError(), KeyError()], "successes"),
        ([RefusedError(), TimeoutExceededError(1.0)], "failures"),
        ([RefusedError(), _group(ValueError(), _group(UnavailableError()))], "failures"),
    ],
)
async def test_a_group_counts_by_its_leaves(*, backend, clock, lane, depth, errors, counted):
    """
    Law 7, H10: any failure leaf is a failure; else all ignored is ignored; else the dependency answered.
    """
    trip = ConsecutiveFailures(9)
    breaker = a_breaker(clock, on=UnavailableError, ignore=RefusedError, trip=trip, **lane)
    group = _group(*errors, depth=depth)
    outcome = await pipeline(breaker).outcome(Script(group))
    assert group is outcome.error
    assert dict.fromkeys(totals(breaker), 0) | {counted: 1} == totals(breaker)


async def test_a_group_with_a_cancelled_leaf_is_ignored(backend, clock, lane):
    """
    Law 7: whatever else is in it; a ``BaseExceptionGroup`` passes by identity.
    """
    group = BaseExceptionGroup("left", [UnavailableError(), a_cancellation()])
    breaker = a_breaker(clock, on=UnavailableError, **lane)
    with pytest.raises(BaseExceptionGroup) as caught:
        await pipeline(breaker)(Script(group))
    assert group is caught.value
    assert (CLOSED, 1) == (breaker.state, totals(breaker)["ignored"])
