"""
`Hedge`: another attempt beside a slow one, the first answer, and nobody left behind.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import math
import pickle
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tenacity import wait_none

from resilience import (
    Call,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    Hedge,
    Pipeline,
    Quantile,
    Retry,
    RetryBudget,
    Timeout,
    TimeoutExceededError,
    deadline,
)
from resilience.events import HedgeFinished, HedgeSkipped, HedgeStarted
from resilience.policies._race import OtherAttempts
from resilience.testing import Hang, Recorder, Script, Wait, run
from tests.composition.support import about, breaker, pending_cancellations, timed
from tests.explain.kit import built, worst

EVENTS = (HedgeStarted, HedgeSkipped, HedgeFinished)


def hedge(after: Any, max_hedges: int = 1, **options: Any) -> Hedge:
    return Hedge(after, max_hedges, idempotent=True, **options)


class Attempts:
    """A callee whose attempts each take a time of their own and end their own way; it knows who was cancelled."""

    def __init__(self, *plans: Any) -> None:
        self.plans = plans
        self.started: list[int] = []
        self.ended: list[int] = []
        self.cancelled: list[int] = []
        self.running = 0

    async def __call__(self) -> Any:
        number = len(self.started) + 1
        self.started.append(number)
        seconds, answer = self.plans[min(number, len(self.plans)) - 1]
        self.running += 1
        try:
            if seconds is not None:
                await anyio.sleep(seconds)
            if isinstance(answer, BaseException):
                raise answer
            self.ended.append(number)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(number)
            raise
        finally:
            self.running -= 1
        return answer


# ------------------------------------------------------------------- the race


async def test_an_answer_in_time_is_not_hedged(backend, unit):
    """HG-001: the first attempt ends before the delay."""
    callee = Attempts((unit, "first"))
    heard = Recorder(*EVENTS)

    answer, took = await timed(Pipeline(hedge(2 * unit), listeners=[heard])(callee))

    assert ("first", about(unit, backend)) == (answer, took)
    assert ([1], []) == (callee.started, list(heard))
    await anyio.sleep(3 * unit)
    assert [1] == callee.started


async def test_the_hedge_wins_and_the_first_is_cancelled_and_awaited(backend, unit):
    """HG-002, H2, H3: first answer wins; the loser has ended when the call does."""
    callee = Attempts((20 * unit, "first"), (unit, "second"))
    heard = Recorder(*EVENTS)

    answer, took = await timed(Pipeline(hedge(2 * unit), name="p", listeners=[heard])(callee))

    assert ("second", about(3 * unit, backend)) == (answer, took)
    assert ([1, 2], [1], 0) == (callee.started, callee.cancelled, callee.running)
    assert 0 == pending_cancellations()
    started, finished = heard
    assert (2, "slow", None) == (started.attempt, started.reason, started.error)
    assert (2, 2) == (finished.attempts, finished.winner)
    assert ["p", "p"] == [each.pipeline for each in heard]


async def test_the_first_may_still_win(backend, unit):
    """HG-002: and then the hedge is cancelled and awaited."""
    callee = Attempts((3 * unit, "first"), (20 * unit, "second"))
    heard = Recorder(HedgeFinished)

    answer, took = await timed(Pipeline(hedge(2 * unit), listeners=[heard])(callee))

    assert ("first", about(3 * unit, backend)) == (answer, took)
    assert ([1, 2], [2], 0) == (callee.started, callee.cancelled, callee.running)
    assert [1] == [each.winner for each in heard]


async def test_no_delay_is_all_at_once(backend, unit):
    """HG-005, H1: four attempts and no more."""
    callee = Attempts((9 * unit, 1), (9 * unit, 2), (unit, 3), (9 * unit, 4))

    answer, took = await timed(hedge(0, 3)(callee))

    assert answer == 3 or callee.ended == [answer]
    assert about(unit, backend) == took
    assert 4 == len(callee.started)
    assert (3, 0) == (len(callee.cancelled), callee.running)


async def test_one_after_the_other_in_equal_steps(backend, unit):
    """H1: each hedge a delay after the one before, never more than max_hedges."""
    script = Script(Hang(), Hang(), Hang(), Wait(unit, "fourth"))
    answer, took = await timed(hedge(2 * unit, 3)(script))

    assert ("fourth", about(7 * unit, backend)) == (answer, took)
    assert [about(each * unit, backend) for each in (0, 2, 4, 6)] == script.times
    assert (4, 0) == (script.peak, script.running)


@pytest.mark.parametrize(
    "after",
    [math.inf, lambda _: -1, lambda _: None, lambda _: math.nan],
    ids=["infinity", "negative", "none", "not a number"],
)
async def test_without_end_only_a_failure_starts_the_next(backend, unit, after):
    """HG-006: sequential, never two at once."""
    script = Script(Wait(5 * unit, OSError), Wait(unit, "second"))

    answer, took = await timed(hedge(after)(script))

    assert ("second", about(6 * unit, backend), 1) == (answer, took, script.peak)


async def test_a_failure_starts_the_next_at_once(backend, unit):
    """HG-007, HG-010: not after the delay; while others still run too."""
    script = Script(OSError, Wait(2 * unit, "second"))
    heard = Recorder(HedgeStarted)

    answer, took = await timed(Pipeline(hedge(9 * unit), listeners=[heard])(script))

    assert ("second", about(2 * unit, backend)) == (answer, took)
    assert [("failed", "OSError")] == [(each.reason, each.error) for each in heard]

    callee = Attempts((20 * unit, 1), (unit, OSError()), (unit, 3))
    answer, took = await timed(hedge(9 * unit, 2)(callee))
    assert (3, about(11 * unit, backend)) == (answer, took)


async def test_an_error_that_is_not_named_is_the_answer(backend, unit):
    """`on`: a 404 is not asked for twice; who runs beside it is cancelled."""
    error = KeyError("missing")
    callee = Attempts((20 * unit, 1), (unit, error))

    raised, took = await timed(hedge(2 * unit, on=OSError)(callee))

    assert (error, about(3 * unit, backend)) == (raised, took)
    assert ([1], 0) == (callee.cancelled, callee.running)
    assert [1] == (await _started(Attempts((0, error)), hedge(9, on=OSError)))


async def _started(callee: Attempts, guard: Hedge) -> list[int]:
    await guard.outcome(callee)
    return callee.started


async def test_all_fail_and_the_last_error_is_raised_with_the_others(backend, unit):
    """HG-009, H5: by identity; the others are named in the note and are the group in its context."""
    errors = [OSError("one"), ValueError("two"), ConnectionError("three")]
    callee = Attempts((5 * unit, errors[0]), (unit, errors[1]), (6 * unit, errors[2]))
    heard = Recorder(HedgeFinished)

    error, took = await timed(Pipeline(hedge(2 * unit, 2), listeners=[heard])(callee))

    assert errors[2] is error
    assert about(9 * unit, backend) == took
    assert isinstance(error.__context__, OtherAttempts)
    assert (errors[1], errors[0]) == error.__context__.exceptions
    assert [
        "resilience: 3 attempts at once failed; the others: ValueError, OSError"
    ] == error.__notes__
    assert [(3, None)] == [(each.attempts, each.winner) for each in heard]


async def test_one_instance_raised_by_all_does_not_contain_itself(backend):
    """Law 23: nor does it grow with calls that raise it again."""
    error = OSError("a constant")
    for _ in range(3):
        raised, _ = await timed(hedge(9)(Script(error)))
        assert error is raised
        assert error.__context__ is None
        assert not hasattr(error, "__notes__")


async def test_a_context_of_the_error_is_kept(backend):
    """What the callee says it was handling is its own."""
    second = OSError("second")
    second.__context__ = cause = KeyError("its own")

    raised, _ = await timed(hedge(9)(Script(ValueError("first"), second)))

    assert second is raised
    assert cause is raised.__context__


async def test_no_exception_group_comes_out(backend, unit):
    """H5: an error of a child is itself, whoever raised it, in whatever task."""
    error = KeyError("answer")
    for plans in ([(9 * unit, 1), (unit, error)], [(3 * unit, error), (9 * unit, 2)]):
        raised, _ = await timed(hedge(unit, on=OSError)(Attempts(*plans)))
        assert error is raised


class Interrupted(BaseException):
    """No Exception: no policy may replace it."""


@pytest.mark.parametrize("by", [1, 2])
async def test_what_is_no_exception_passes_by_identity(backend, unit, by):
    """Law 2: whichever attempt raises it; the other has ended."""
    error = Interrupted()
    slow, fast = (9 * unit, "late"), (3 * unit, error)
    callee = Attempts(*((fast, slow) if by == 1 else (slow, fast)))

    with pytest.raises(Interrupted) as caught:
        await hedge(unit)(callee)
    assert error is caught.value
    assert ([3 - by], 0) == (callee.cancelled, callee.running)


async def test_a_cancellation_that_the_callee_raised_itself_passes(backend, unit):
    """Law 2, against HG-015: as the same object, from the first attempt or from one beside it."""
    if backend == "trio":
        pytest.skip("a callee cannot make a trio.Cancelled")
    for plans in ([asyncio.CancelledError("1")], [Wait(9 * unit), asyncio.CancelledError("2")]):
        with pytest.raises(asyncio.CancelledError) as caught:
            await hedge(unit)(Script(*plans))
        assert str(len(plans)) in str(caught.value)
        assert 0 == pending_cancellations()


# ---------------------------------------------------------------- who leaves


@pytest.mark.parametrize("at", [0.5, 2.5, 4.5])
async def test_a_caller_who_leaves_takes_all_attempts_along(backend, unit, at):
    """HG-014: before the hedge, beside it, and while only the hedge runs."""
    callee = Attempts((4 * unit, OSError()), (99 * unit, 2))

    with anyio.move_on_after(at * unit) as scope:
        await hedge(2 * unit)(callee)
    assert scope.cancelled_caught
    assert 0 == callee.running
    assert 2 not in callee.ended


async def test_a_deadline_around_cuts_all_and_is_a_failure_inside(backend, unit):
    """Law 3: the permits of every attempt count as cut off, those of the children too."""
    inside = breaker(9, overdue_after=500)
    guarded = built(Timeout(5 * unit), hedge(2 * unit), inside)

    error, took = await timed(guarded(Script(Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert about(5 * unit, backend) == took
    assert (2, 0) == (inside.snapshot().totals.failures, inside.snapshot().totals.ignored)


async def test_a_caller_who_leaves_is_nothing_to_the_breaker_inside(backend, unit):
    """Law 3."""
    inside = breaker(9, overdue_after=500)
    with anyio.move_on_after(5 * unit):
        await built(hedge(2 * unit), inside)(Script(Hang()))

    assert (0, 2) == (inside.snapshot().totals.failures, inside.snapshot().totals.ignored)


@pytest.mark.parametrize("winner", [1, 2])
async def test_a_loser_is_nothing_to_the_breaker_inside(backend, unit, winner):
    """H4: neutral, whichever lost."""
    inside = breaker(9, overdue_after=500)
    plans = [(3 * unit, 1), (99 * unit, 2)] if winner == 1 else [(99 * unit, 1), (unit, 2)]

    assert winner == await built(hedge(2 * unit), inside)(Attempts(*plans))

    totals = inside.snapshot().totals
    assert (1, 0, 1) == (totals.successes, totals.failures, totals.ignored)


async def test_no_attempt_starts_when_the_time_is_over(backend, unit):
    """Law 24: a deadline that has passed starts no hedge; what remains is every attempt's."""
    remaining: list[float] = []

    async def callee(call: Call) -> None:
        remaining.append(round(call.remaining() / unit, 1))
        await anyio.sleep_forever()

    with deadline(5 * unit):
        error, took = await timed(Pipeline(hedge(2 * unit, 9)).informed(callee)())

    assert isinstance(error, TimeoutExceededError)
    assert about(5 * unit, backend) == took
    assert len(remaining) == 3
    if backend != "uvloop":
        assert [5.0, 3.0, 1.0] == remaining


async def test_a_hedge_in_a_shield_is_awaited(backend, unit):
    """Law 32: a loser that must not be cut in half is not; the answer waits for it."""
    done: list[int] = []

    async def callee(call: Call) -> int:
        if call.attempt == 1:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5 * unit)
                done.append(1)
            await anyio.sleep(99 * unit)
        return call.attempt

    answer, took = await timed(Pipeline(hedge(2 * unit)).informed(callee)())

    assert (2, [1]) == (answer, done)
    assert about(5 * unit, backend) == took


async def test_a_loser_that_raises_while_it_is_cut_off_changes_nothing(backend, unit):
    """Its error is nobody's."""

    async def callee(call: Call) -> int:
        try:
            await anyio.sleep((9 if call.attempt == 1 else 1) * unit)
        except anyio.get_cancelled_exc_class():
            raise OSError("clean-up failed") from None
        return call.attempt

    assert 2 == await Pipeline(hedge(unit)).informed(callee)()


async def test_a_hedge_is_not_begun_when_all_is_over_at_once(backend):
    """Nought seconds, and an answer without a wait: nobody else is asked, and nobody is left."""
    script = Script("first")

    assert "first" == await hedge(0)(script)
    await anyio.lowlevel.checkpoint()
    assert 1 == script.calls or backend in {"trio", "asyncio+eager"}


async def test_a_failure_after_the_deadline_starts_nobody(backend, unit):
    """Law 24: of a callee that could not be cut off in time."""
    heard = Recorder(HedgeSkipped)
    started: list[None] = []

    async def shielded() -> None:
        started.append(None)
        with anyio.CancelScope(shield=True):
            await anyio.sleep(3 * unit)
            raise OSError

    await built(Timeout(2 * unit), hedge(9 * unit), listeners=[heard]).outcome(shielded)
    assert 1 == len(started)
    # On trio the caller is told before anybody asks for another attempt.
    assert ["deadline"] * (backend != "trio") == [each.reason for each in heard]


async def test_a_loser_that_answers_from_its_shield(backend, unit):
    """Law 32: it is never cut off; its result is discarded."""
    discarded: list[Any] = []

    async def callee(call: Call) -> int:
        if call.attempt == 1:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5 * unit)
                return 1
        return 2

    guard = hedge(2 * unit, on_discard=discarded.append)
    assert 2 == await Pipeline(guard).informed(callee)()
    assert [1] == discarded
    await anyio.sleep(unit)
    assert 0 == pending_cancellations()


async def test_a_listener_that_interrupts_is_the_callers(backend, unit):
    """Law 2: what is no Exception is raised where the call is awaited, not in a task of ours."""
    error = Interrupted()

    def listener(event: object) -> None:
        raise error

    listener.listens_to = (HedgeStarted,)  # type: ignore[attr-defined]
    callee = Attempts((9 * unit, 1))
    with pytest.raises(Interrupted) as caught:
        await Pipeline(hedge(unit), listeners=[listener])(callee)
    assert error is caught.value
    assert 0 == callee.running


async def test_an_answer_beats_a_caller_who_leaves_while_the_losers_end(backend, unit):
    """T5: it was produced; the wait for a loser in its shield does not turn the loop."""

    async def callee(call: Call) -> int:
        if call.attempt == 1:
            await anyio.sleep(2 * unit)
            return 1
        with anyio.CancelScope(shield=True):
            await anyio.sleep(9 * unit)
        return 2

    answers: list[Any] = []
    with anyio.move_on_after(4 * unit) as scope:
        answers.append(await Pipeline(hedge(unit)).informed(callee)())
        await anyio.lowlevel.checkpoint()
    assert ([1], True) == (answers, scope.cancelled_caught)


# -------------------------------------------------------------- what is discarded


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_each_result_that_is_not_returned_is_handed_over_once(backend, unit, asynchronous):
    """HG-003, H8: the results of losers that would not be cancelled; never the winner's."""
    discarded: list[Any] = []

    async def later(result: Any) -> None:
        await anyio.lowlevel.checkpoint()
        discarded.append(result)

    async def stubborn(call: Call) -> int:
        try:
            await anyio.sleep((2 if call.attempt == 3 else 50) * unit)
        except anyio.get_cancelled_exc_class():
            pass
        return call.attempt

    guard = hedge(unit, 2, on_discard=later if asynchronous else discarded.append)
    answer, _ = await timed(Pipeline(guard).informed(stubborn)())

    assert 3 == answer
    assert [1, 2] == sorted(discarded)
    assert 0 == pending_cancellations()


async def test_a_result_whose_caller_left_is_discarded_too(backend, unit):
    """T5: produced, and returned to nobody."""
    discarded: list[Any] = []

    async def stubborn() -> str:
        try:
            await anyio.sleep(50 * unit)
        except anyio.get_cancelled_exc_class():
            pass
        return "after all"

    async def second_only(call: Call) -> str:
        if call.attempt == 1:
            await anyio.sleep(99 * unit)
        return await stubborn()

    with anyio.move_on_after(4 * unit) as scope:
        await Pipeline(hedge(unit, on_discard=discarded.append)).informed(second_only)()
    assert scope.cancelled_caught
    assert ["after all"] == discarded


async def test_a_discarder_that_raises_or_hangs_is_not_the_calls(backend, unit, caplog):
    """Law 6: logged once, with its name; five seconds for one that hangs."""

    async def stubborn(call: Call) -> int:
        try:
            await anyio.sleep((1 if call.attempt == 2 else 50) * unit)
        except anyio.get_cancelled_exc_class():
            pass
        return call.attempt

    def raises(_: Any) -> None:
        raise RuntimeError("no")

    assert 2 == await Pipeline(hedge(unit, on_discard=raises)).informed(stubborn)()
    assert "Hedge.on_discard" in caplog.text
    if backend != "uvloop":

        async def hangs(_: Any) -> None:
            await anyio.sleep_forever()

        answer, took = await timed(Pipeline(hedge(unit, on_discard=hangs)).informed(stubborn)())
        assert (2, about(7 * unit, backend)) == (answer, took)


# ------------------------------------------------------------- delays, budget, push-back


async def test_a_quantile_waits_until_it_knows_enough(backend, unit):
    """HG-017: no hedge in the first twenty calls; then a slow one is hedged once, at the quantile."""
    guard = hedge(Quantile(0.95, window=600))
    guarded = Pipeline(guard)
    for _ in range(20):
        script = Script(Wait(unit, "page"))
        assert "page" == await guarded(script)
        assert 1 == script.calls
    script = Script(Hang(), "second")

    answer, took = await timed(guarded(script))

    assert ("second", 2) == (answer, script.calls)
    if backend != "uvloop":
        assert pytest.approx(unit, rel=0.021) == took


async def test_latencies_of_hedges_are_not_fed_back(backend, unit):
    """HG-017: one that loses is known to take at least as long as it took; the delay does not sink."""
    if backend == "uvloop":
        pytest.skip("a story about exact latencies")
    guard = hedge(Quantile(0.9, minimum_calls=10, window=1e6))
    guarded = Pipeline(guard)
    for number in range(300):
        # One in ten takes ten seconds, and its hedge a millisecond.
        slow = number % 10 == 9
        await guarded(Script(Wait(10 if slow else 1), Wait(0.001)))

    assert guard._latencies is not None
    read = guard._latencies.read(anyio.current_time())
    assert pytest.approx(1.0, rel=0.021) == read


async def test_failures_are_no_latencies(backend):
    """An error that comes at once does not make the service fast."""
    guard = hedge(Quantile(0.5, minimum_calls=5))
    for _ in range(9):
        await guard.outcome(Script(OSError))

    assert guard._latencies is not None
    assert guard._latencies.read(anyio.current_time()) is None


async def test_a_delay_for_each_call(backend, unit):
    """A function of the Call: asked for each attempt; one that raises means that only a failure counts."""
    asked: list[int] = []

    def after(call: Call) -> timedelta:
        asked.append(call.attempt)
        return timedelta(seconds=unit * call.attempt)

    script = Script(Hang(), Hang(), "third")
    answer, took = await timed(hedge(after, 2)(script))
    assert ("third", about(3 * unit, backend), [1, 2, 3]) == (answer, took, asked)

    def raises(_: Call) -> float:
        raise RuntimeError("no")

    script = Script(Wait(3 * unit, "first"))
    assert ("first", 1) == (await hedge(raises)(script), script.calls)


async def test_a_budget_stops_the_hedges_and_not_the_call(backend, unit):
    """HG-018, H7: the first attempt still returns its result."""
    budget = RetryBudget(0, minimum_per_second=0.1)
    heard = Recorder(*EVENTS)
    guarded = Pipeline(hedge(unit, 3, budget=budget), listeners=[heard])
    script = Script(Wait(9 * unit, "first"))

    assert "first" == await guarded(script)

    assert 2 == script.calls
    assert ["HedgeStarted", "HedgeSkipped", "HedgeFinished"] == heard.kinds
    assert ["budget"] == [each.reason for each in heard.of(HedgeSkipped)]
    assert (1, 0) == (budget.snapshot().spent, budget.snapshot().asleep)


async def test_without_budget_a_failure_is_raised_at_once(backend):
    """HG-018: the error itself, not one of the budget."""
    budget = RetryBudget(0, minimum_per_second=0)
    error = OSError("down")

    assert error is (await timed(hedge(99, budget=budget)(Script(error))))[0]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_where_tasks_begin_at_once_a_refused_hedge_is_not_waited_for():
    """HG-018: on eager tasks, whichever backends the tests are run on, the race is over before anybody waits for it."""
    error = OSError("down")

    async def main():
        budget = RetryBudget(0, minimum_per_second=0)
        return await timed(hedge(99, budget=budget)(Script(error)))

    assert (error, 0.0) == run(main, backend="asyncio+eager")


async def test_retry_and_hedge_have_one_account(backend, unit):
    """Api: one budget; a success of either is a deposit."""
    budget = RetryBudget(1, minimum_per_second=0)
    await hedge(9, budget=budget)(Script(1))
    script = Script(Hang(), "second")

    assert "second" == await hedge(unit, budget=budget)(script)
    assert (2, 1) == (budget.snapshot().successes, budget.snapshot().spent)
    outcome = await Retry(3, on=OSError, wait=wait_none(), budget=budget).outcome(Script(OSError))
    assert 2 == outcome.attempts


async def test_a_rejection_stops_further_hedges(backend, unit):
    """Law 4, push-back: a circuit inside that is open turns the hedge away; the first attempt goes on."""
    inside = breaker(1, overdue_after=500, break_duration=500)
    heard = Recorder(*EVENTS)
    guarded = built(hedge(unit, 5), inside, listeners=[heard])

    async def opens_it(call: Call) -> str:
        await anyio.sleep(unit / 2)
        inside.isolate()
        await anyio.sleep(5 * unit)
        return "first"

    assert "first" == await guarded.informed(opens_it)()
    assert 1 == len(heard.of(HedgeStarted))


async def test_a_rejection_alone_is_raised_and_one_beside_a_failure_is_not(backend, unit):
    """Law 4: RejectedError only if no attempt ran; the outcome still sees it."""
    inside = breaker(1, overdue_after=500)
    inside.isolate()
    assert isinstance((await timed(built(hedge(unit), inside)(Script(1))))[0], CircuitOpenError)

    inside.reset()
    error = OSError("down")
    outcome = await built(hedge(9), inside).outcome(Script(error))
    assert error is outcome.error
    assert isinstance(outcome.rejection, CircuitOpenError)
    assert 1 == outcome.attempts


async def test_a_rejection_that_is_named_goes_elsewhere(backend):
    """`on=CircuitOpenError`: of several endpoints the next one is asked."""
    calls: list[int] = []

    async def endpoints(call: Call) -> str:
        calls.append(call.attempt)
        if call.attempt == 1:
            raise CircuitOpenError("endpoint 1", retry_after=None)
        return "endpoint 2"

    assert "endpoint 2" == await Pipeline(hedge(9, on=CircuitOpenError)).informed(endpoints)()


async def test_a_server_that_is_busy_is_not_asked_again(backend, unit):
    """A6 of gRPC: an error that says when to come back stops the hedges; who runs may still answer."""

    class BusyError(Exception):
        retry_after = 3

    heard = Recorder(HedgeSkipped)
    script = Script(BusyError)
    error, _ = await timed(Pipeline(hedge(9, 5), listeners=[heard])(script))
    assert isinstance(error, BusyError)
    assert (1, ["retry_after"]) == (script.calls, [each.reason for each in heard])

    callee = Attempts((5 * unit, "first"), (unit, BusyError()))
    assert "first" == await hedge(2 * unit, 5)(callee)
    assert 2 == len(callee.started)


# --------------------------------------------------------------- the call of an attempt


async def test_each_attempt_has_a_call_of_its_own(backend, unit):
    """HG-011: its number, what failed before, the key; the arguments are the same."""
    seen: list[tuple[Any, ...]] = []
    calls: list[Call] = []

    async def callee(call: Call, sku: str, *, fresh: bool) -> str:
        calls.append(call)
        seen.append((call.attempt, type(call.previous_error).__name__, call.key, sku, fresh))
        if call.attempt == 1:
            raise OSError
        return "page"

    guarded = Pipeline(hedge(9), key=lambda sku, **_: sku.upper()).informed(callee)
    assert "page" == await guarded("sku", fresh=True)
    assert [(1, "NoneType", "SKU", "sku", True), (2, "OSError", "SKU", "sku", True)] == seen
    assert calls[0] is not calls[1]


async def test_an_outcome_counts_every_attempt(backend, unit):
    """Outcome: attempts are entries of the callee, of winners and losers."""
    outcome = await hedge(unit, 2).outcome(Script(Hang(), Hang(), "third"))

    assert (3, "third") == (outcome.attempts, outcome.unwrap())


async def test_what_the_winner_says_of_itself_is_kept(backend, unit):
    """HG-011: only the winner's: a result that a retry inside gave up on."""
    inside = Retry(2, on=OSError, on_result=lambda answer: answer == "bad", wait=wait_none())
    outcome = await built(hedge(unit), inside).outcome(Script(Hang(), "bad"))

    assert (True, "bad", 3) == (outcome.exhausted, outcome.unwrap(), outcome.attempts)


_set: contextvars.ContextVar[str] = contextvars.ContextVar("set_by_an_attempt", default="nobody")


@pytest.mark.parametrize("winner", [1, 2])
async def test_the_first_attempt_runs_in_the_callers_context(backend, unit, winner):
    """Law 30, H42: what it sets stays; what one beside it sets is its own, and it sees what was set before the call."""
    seen: list[str] = []

    async def callee(call: Call) -> int:
        seen.append(_set.get())
        if call.attempt == winner == 2 or call.attempt == 1 == winner:
            _set.set(f"attempt {call.attempt}")
        await anyio.sleep((9 if call.attempt != winner else 2) * unit)
        return call.attempt

    token = _set.set("the caller")
    try:
        assert winner == await Pipeline(hedge(unit)).informed(callee)()
        assert ("attempt 1" if winner == 1 else "the caller") == _set.get()
        assert ["the caller", "the caller"] == seen
    finally:
        _set.set("nobody")
        del token


async def test_the_first_attempt_runs_in_the_callers_task(backend):
    """Law 30: nothing is spawned for a call that is answered in time."""
    if backend == "trio":
        import trio  # noqa: PLC0415

        current: Callable[[], Any] = trio.lowlevel.current_task
    else:
        current = asyncio.current_task
    tasks: list[Any] = []

    async def callee() -> None:
        tasks.append(current())

    await hedge(9)(callee)
    assert [current()] == tasks


# --------------------------------------------------------------------- compositions


async def test_retry_over_hedge_retries_what_all_attempts_failed(backend):
    """Retry(Hedge): two attempts, twice."""
    script = Script(OSError, OSError, OSError, "fourth")

    answer = await built(Retry(3, on=OSError, wait=wait_none()), hedge(9))(script)

    assert ("fourth", 4) == (answer, script.calls)


async def test_hedge_over_retry_gives_each_its_own_retries(backend, unit):
    """Hedge(Retry): the first hangs in its second attempt; the one beside it retries on its own."""
    numbers: list[int] = []

    async def callee(call: Call) -> str:
        numbers.append(call.attempt)
        if len(numbers) == 2:
            await anyio.sleep(99 * unit)
        if len(numbers) in {1, 3}:
            raise OSError
        return "page"

    guarded = built(hedge(2 * unit), Retry(3, on=OSError, wait=wait_none()))
    answer, took = await timed(guarded.informed(callee)())

    assert ("page", about(2 * unit, backend), 4) == (answer, took, len(numbers))


async def test_hedge_over_timeout_a_cut_attempt_starts_the_next(backend, unit):
    """Hedge(Timeout): our own deadline is a failure before `on` is asked."""
    script = Script(Hang(), Wait(unit / 2, "second"))

    answer, took = await timed(Pipeline(hedge(9 * unit, on=OSError), Timeout(unit))(script))

    assert ("second", about(1.5 * unit, backend)) == (answer, took)


async def test_timeout_over_hedge_cuts_both(backend, unit):
    """Timeout(Hedge): and says so."""
    callee = Attempts((None, None), (99 * unit, 2))
    callee.plans = ((99 * unit, 1), (99 * unit, 2))

    error, took = await timed(Pipeline(Timeout(3 * unit), hedge(unit))(callee))

    assert isinstance(error, TimeoutExceededError)
    assert (about(3 * unit, backend), 0) == (took, callee.running)
    assert 0 == pending_cancellations()


async def test_circuit_breaker_over_hedge_has_one_verdict(backend, unit):
    """CircuitBreaker(Hedge): one call, whatever runs inside."""
    outside = breaker(1, overdue_after=500)
    guarded = built(outside, hedge(unit))

    assert "second" == await guarded(Script(OSError, "second"))
    assert (1, 0) == (outside.snapshot().totals.successes, outside.snapshot().totals.failures)
    await timed(guarded(Script(OSError)))
    assert CircuitState.OPEN is outside.state


async def test_hedge_over_a_half_open_breaker_takes_one_probe(backend, unit):
    """Hedge(CircuitBreaker): the second attempt finds no place and the first one decides."""
    inside = breaker(1, overdue_after=500)
    inside._core.force(CircuitState.HALF_OPEN)

    assert "first" == await built(hedge(unit), inside)(Script(Wait(3 * unit, "first")))
    assert CircuitState.CLOSED is inside.state


async def test_hedge_in_a_hedge(backend, unit):
    """Hedge(Hedge): two by two, and nobody is left."""
    callee = Attempts((99 * unit, 1), (99 * unit, 2), (99 * unit, 3), (unit, 4))

    answer, _ = await timed(built(hedge(3 * unit), hedge(2 * unit))(callee))

    assert (4, 0) == (answer, callee.running)
    assert 0 == pending_cancellations()


# ------------------------------------------------------------------------ doors, build


def test_what_is_opened_is_not_opened_in_several_tasks():
    """A manager belongs to the task that entered it, a stream to who iterates it: refused, with the reason."""
    guarded = built(Timeout(9), hedge(1))

    class Manager:
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *_: object) -> None: ...

    async def rows() -> Any:
        yield 1

    with pytest.raises(TypeError, match="makes attempts in several tasks"):
        guarded.opening(Manager)
    with pytest.raises(TypeError, match="leave it out of this pipeline"):
        guarded.stream(rows)
    with pytest.raises(TypeError, match="several tasks"):
        hedge(1).stream(rows)


def test_idempotent_has_to_be_said():
    """H6, H52: left out it is Python's error, denied it is ours."""
    with pytest.raises(TypeError, match="idempotent"):
        Hedge(1)  # type: ignore[call-arg]  # it is the point
    with pytest.raises(ConfigurationError, match=r"Hedge\.idempotent must be True"):
        Hedge(1, idempotent=False)  # type: ignore[arg-type]  # (as above)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_refuses_to_be_duplicated(duplicate):
    """Law 37."""
    with pytest.raises(TypeError, match="a Hedge holds the state of this process"):
        duplicate(hedge(1))


def test_it_prints_what_one_would_type():
    """House style."""
    assert "Hedge(0.1, 1, idempotent=True)" == repr(hedge(0.1))
    assert "Hedge(Quantile(0.95), 2, idempotent=True)" == repr(hedge(Quantile(), 2))


def test_outside_of_a_task_it_says_so():
    """As a Timeout does."""
    coroutine = hedge(1)(Script(1))
    with pytest.raises(RuntimeError, match="must be awaited in a task of asyncio or trio"):
        coroutine.send(None)


async def test_nothing_is_kept_of_a_call(backend):
    """H47: neither the errors nor the calls, once it is over."""

    class KeptError(OSError):
        pass

    async def fails() -> None:
        raise KeptError

    gc.collect()
    await timed(hedge(9)(fails))
    await anyio.lowlevel.checkpoint()
    gc.collect()
    assert [] == [each for each in gc.get_objects() if type(each) is KeptError]


def test_several_loops_share_it():
    """Law 37: what was observed is shared, nothing is bound to a loop."""
    guard = hedge(Quantile(minimum_calls=1))
    for backend in ("asyncio", "trio", "asyncio"):
        assert 1 == run(guard, Script(Wait(0.01, 1)), backend=backend)


# -------------------------------------------------------------------------- explain


@pytest.mark.parametrize(
    ("policies", "attempts", "seconds"),
    [
        ((hedge(1),), 2, math.inf),
        ((hedge(1), Timeout(5)), 2, 6),
        ((hedge(1, 3), Timeout(5)), 4, 8),
        ((hedge(0, 3), Timeout(5)), 4, 5),
        ((hedge(9), Timeout(5)), 2, 10),
        ((hedge(math.inf, 2), Timeout(5)), 3, 15),
        ((hedge(Quantile()), Timeout(5)), 2, 10),
        ((hedge(lambda _: 1), Timeout(5)), 2, 10),
        ((Timeout(4), hedge(1, 9)), 10, 4),
        ((Retry(3, on=OSError, wait=wait_none(), retry_after=False), hedge(1), Timeout(5)), 6, 18),
        ((hedge(1), Retry(3, on=OSError, wait=wait_none(), retry_after=False), Timeout(5)), 6, 16),
    ],
    ids=lambda value: None,
)
def test_what_explain_says(policies, attempts, seconds):
    """Explain: attempts add up, the last begins when all delays are over or the one before has failed."""
    assert (attempts, seconds) == worst(*policies)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("after", [0.5, 1.0, 3.0, 7.0, math.inf])
def test_what_explain_says_is_reached(after, loop):
    """Explain: a callee whose attempts fail a hair before the next is due, or hang, takes as long as that."""
    guarded = built(hedge(after, 2), Timeout(5))
    nearly = min(after, 5.0) - 1e-6
    script = Script(Wait(nearly, OSError), Wait(nearly, OSError), Hang())

    async def main() -> float:
        started = anyio.current_time()
        await guarded.outcome(script)
        return anyio.current_time() - started

    took = run(main, backend=loop)
    told = guarded.explain()
    assert (script.calls, pytest.approx(took, abs=1e-5)) == (told.attempts, told.duration)
