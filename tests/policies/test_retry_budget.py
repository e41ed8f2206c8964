"""
`RetryBudget`: further attempts are bought with successes, and what the callers of a dependency spend is one account.
"""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from tenacity import wait_fixed, wait_none

from resilience import (
    CircuitBreaker,
    ConsecutiveFailures,
    Pipeline,
    PipelineWarning,
    Retry,
    RetryBudget,
    Timeout,
    TimeoutExceededError,
)
from resilience.events import RetryScheduled, RetryStopped
from resilience.testing import Recorder, Script, run
from tests.composition.support import timed


def empty() -> RetryBudget:
    return RetryBudget(0.2, minimum_per_second=0)


def retry(budget: RetryBudget | None, attempts: int = 3, **options: Any) -> Retry:
    return Retry(attempts, **({"on": OSError, "wait": wait_none(), "budget": budget} | options))


async def succeed(guarded: Any, times: int) -> None:
    for _ in range(times):
        await guarded(Script("page"))


async def failing() -> None:
    raise OSError


async def test_an_empty_budget_makes_no_retry_and_says_so_once(backend):
    """BG-001, BG-007, law 23: the error itself, with one note, and one event with the reason."""
    heard = Recorder(RetryStopped, RetryScheduled)
    guarded = Pipeline(retry(empty()), listeners=[heard])
    error = OSError("down")
    script = Script(error)

    outcome = await guarded.outcome(script)

    assert error is outcome.error
    assert ["resilience: gave up after attempt 1 (budget)"] == error.__notes__
    assert (1, True) == (script.calls, outcome.exhausted)
    assert [("budget", 1)] == [(each.reason, each.attempts) for each in heard]


async def test_five_successes_buy_one_retry(backend):
    """R7: at a ratio of 0.2, and not before the fifth."""
    guarded = Pipeline(retry(empty()))

    await succeed(guarded, 4)
    assert 1 == (await guarded.outcome(failing)).attempts
    await succeed(guarded, 1)
    assert 2 == (await guarded.outcome(failing)).attempts
    assert 1 == (await guarded.outcome(failing)).attempts


async def test_every_way_to_succeed_counts_and_no_way_to_fail(backend):
    """R7: at once, after a retry, with a result that was asked about; not an error that nobody retries."""
    budget = RetryBudget(1, minimum_per_second=0.1)
    guarded = Pipeline(retry(budget, on_result=lambda answer: answer is None))

    await guarded(Script("page"))
    assert 1 == budget.snapshot().successes
    await guarded(Script(None, "page"))
    assert (2, 1) == (budget.snapshot().successes, budget.snapshot().spent)
    await guarded.outcome(Script(KeyError))
    assert 2 == budget.snapshot().successes
    await Pipeline(retry(budget))(Script(OSError, "page"))
    assert (3, 2) == (budget.snapshot().successes, budget.snapshot().spent)


async def test_what_is_not_worth_it_costs_nothing(backend):
    """BG-010: an error that nobody retries, the last attempt, a wait that does not fit; none of them spends."""
    budget = RetryBudget(0, minimum_per_second=1)

    await retry(budget).outcome(Script(KeyError))
    await retry(budget, 1).outcome(failing)
    await Pipeline(Timeout(1), retry(budget, wait=wait_fixed(2))).outcome(failing)
    assert (0, 0, 10) == (
        budget.snapshot().spent,
        budget.snapshot().asleep,
        budget.snapshot().available,
    )


async def test_a_server_that_says_not_now_makes_the_others_try_less(backend):
    """BG-010: push-back that ends the retry is paid for as if it had been one."""

    class BusyError(Exception):
        retry_after = 3600

    budget = RetryBudget(0, minimum_per_second=1)

    outcome = await retry(budget, on=BusyError).outcome(Script(BusyError))

    assert (1, "resilience: gave up after attempt 1 (retry_after)") == (
        outcome.attempts,
        outcome.error.__notes__[0],
    )
    assert 9 == budget.snapshot().available


async def test_those_asleep_have_paid(backend, unit):
    """Envoy 30205: of a hundred callers who fail at the same moment as many sleep as the budget has."""
    budget = RetryBudget(0, minimum_per_second=1)
    script = Script(OSError)
    guarded = retry(budget, wait=wait_fixed(unit), max_delay=600).wrap(script)
    seen: list[int] = []

    async def caller() -> None:
        await timed(guarded())

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(caller)
        await anyio.sleep(unit / 2)
        seen += [budget.snapshot().asleep, budget.snapshot().available, script.calls]
    assert [10, 0, 100] == seen
    assert (110, 0, 10) == (script.calls, budget.snapshot().asleep, budget.snapshot().spent)


async def test_a_cancelled_sleeper_gives_back_what_it_paid(backend, unit):
    """Law 33: by a caller who leaves, and by a deadline that the retry does not know."""
    budget = RetryBudget(0, minimum_per_second=1)
    sleepy = retry(budget, wait=wait_fixed(20 * unit)).wrap(failing)

    with anyio.move_on_after(unit):
        await sleepy()
    assert (0, 10, 0) == (
        budget.snapshot().asleep,
        budget.snapshot().available,
        budget.snapshot().spent,
    )
    with pytest.raises(TimeoutExceededError):
        await Timeout(unit)(sleepy)
    assert (0, 10) == (budget.snapshot().asleep, budget.snapshot().available)


async def test_a_listener_that_interrupts_gives_it_back_too(backend):
    """Law 33: whatever is raised between paying and sleeping."""

    class Interrupted(BaseException):
        pass

    def listener(event: object) -> None:
        raise Interrupted

    listener.listens_to = (RetryScheduled,)  # type: ignore[attr-defined]
    budget = RetryBudget(0, minimum_per_second=1)

    with pytest.raises(Interrupted):
        await Pipeline(retry(budget), listeners=[listener])(failing)
    assert 0 == budget.snapshot().asleep


async def test_one_account_for_two_pipelines(backend):
    """Api: a budget has identity; used in two pipelines it is shared."""
    budget = RetryBudget(0, minimum_per_second=0.2)

    assert 3 == (await Pipeline(retry(budget)).outcome(failing)).attempts
    assert 1 == (await Pipeline(retry(budget, 5)).outcome(failing)).attempts
    assert Retry(on=OSError, budget=budget) == Retry(on=OSError, budget=budget)
    assert Retry(on=OSError, budget=RetryBudget()) != Retry(on=OSError, budget=RetryBudget())


def test_a_probe_by_hand_is_paid_for():
    """Issue 5: shared by retries, hedges and probes."""
    budget = RetryBudget(0, minimum_per_second=0.2, name="catalogue")

    assert [True, True, False] == [budget.spend() for _ in range(3)]
    told = budget.snapshot()
    assert ("catalogue", 2, 0, 1) == (told.name, told.spent, told.available, told.refused)


def test_it_prints_what_one_would_type():
    """Law 36, house style."""
    assert "RetryBudget(0.2)" == repr(RetryBudget())
    assert "RetryBudget(0.1, minimum_per_second=2, name='db')" == repr(
        RetryBudget(0.1, minimum_per_second=2, name="db")
    )


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_refuses_to_be_duplicated(duplicate):
    """Law 37, H44: in one sentence, and so does a retry that has it, where its state would be split."""
    with pytest.raises(TypeError, match="RetryBudget holds the state of this process"):
        duplicate(RetryBudget())
    if duplicate is not copy.copy:
        with pytest.raises(TypeError, match="RetryBudget holds the state of this process"):
            duplicate(retry(RetryBudget()))


def test_it_counts_by_its_own_clock(clock):
    """Law 20: from `clock=`."""
    budget = RetryBudget(0, minimum_per_second=0.1, clock=clock)

    assert budget.spend()
    assert not budget.spend()
    clock.advance(10)
    assert budget.spend()


def test_several_loops_share_it(clock):
    """Law 37: nothing of it is bound to a loop."""
    budget = RetryBudget(0, minimum_per_second=0.2, clock=clock)
    guarded = retry(budget).wrap(failing)

    async def main() -> Any:
        return (await timed(guarded()))[0]

    for backend in ("asyncio", "trio"):
        assert isinstance(run(main, backend=backend), OSError)
    assert 2 == budget.snapshot().spent


async def test_nothing_is_kept_of_a_call(backend):
    """H47: neither the error nor the call, once it is over."""
    budget = RetryBudget()

    async def fails() -> None:
        raise KeptError

    class KeptError(OSError):
        pass

    await timed(retry(budget)(fails))
    gc.collect()
    assert [] == [each for each in gc.get_objects() if type(each) is KeptError]


# ------------------------------------------------------------------- nested


def layered(
    layers: int, make: Callable[[], RetryBudget | None], callee: Callable[[], Awaitable[Any]]
) -> Callable[[], Awaitable[Any]]:
    """Functions that call one another, each through a pipeline of its own that retries."""
    for _ in range(layers):
        callee = Pipeline(retry(make())).wrap(callee)
    return callee


async def test_an_inner_one_leaves_it_to_the_outer_one_that_retries(backend):
    """H49: three attempts within, then one for each attempt of the outer one: five and not nine."""
    script = Script(OSError)
    rich = lambda: RetryBudget(1000, minimum_per_second=100)  # noqa: E731
    heard = Recorder(RetryStopped)
    inner = Pipeline(retry(rich()), listeners=[heard]).wrap(script)

    error, _ = await timed(Pipeline(retry(rich()))(inner))

    assert isinstance(error, OSError)
    assert 5 == script.calls
    assert ["attempts", "nested", "nested"] == [each.reason for each in heard]


async def test_without_a_budget_within_they_multiply_as_they_say(backend):
    """`explain` says nine of two retries without budgets, and nine it is."""
    script = Script(OSError)
    inner = Pipeline(retry(None)).wrap(script)

    await timed(Pipeline(retry(RetryBudget(1000, minimum_per_second=100)))(inner))

    assert 9 == script.calls


async def test_an_inner_one_retries_again_when_the_outer_one_is_done(backend):
    """What the context variable says ends with the attempt."""
    rich = RetryBudget(1000, minimum_per_second=100)
    inner = Pipeline(retry(rich))

    await timed(Pipeline(retry(None))(inner.wrap(failing)))

    assert 3 == (await inner.outcome(failing)).attempts


async def test_a_task_that_a_retry_started_is_not_its_attempt_for_ever(backend):
    """A background task keeps the context it was started in; its own retries must not stand down for life."""
    rich = RetryBudget(1000, minimum_per_second=100)
    found: list[int] = []
    go_on = anyio.Event()

    async def background() -> None:
        await go_on.wait()
        found.append((await Pipeline(retry(rich)).outcome(failing)).attempts)

    async with anyio.create_task_group() as group:
        calls = 0

        async def starts_it() -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise OSError
            group.start_soon(background)

        await Pipeline(retry(None))(starts_it)
        go_on.set()
    assert [3] == found


def test_a_coroutine_that_is_closed_in_another_context_leaves_it_alone():
    """H46: one that is collected half-way is closed wherever the collector runs."""
    import contextvars  # noqa: PLC0415

    async def second_time() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError
        await anyio.sleep_forever()

    from resilience.budgets import outer_retries  # noqa: PLC0415

    calls = 0
    found: list[bool] = []

    async def main() -> None:
        coroutine = retry(None)(second_time)
        elsewhere = contextvars.copy_context()
        while calls < 2:
            elsewhere.run(coroutine.send, None)
        found.append(elsewhere.run(outer_retries))
        coroutine.close()
        found.append(elsewhere.run(outer_retries))
        found.append(outer_retries())

    run(main)
    assert [True, False, False] == found


# --------------------------------------------------------------- four layers


LAYERS = 4
CALLS = 1000
PER_SECOND = 50


def load(make: Callable[[], RetryBudget | None], backend: Any, calls: int = CALLS) -> float:
    """Calls that arrive at a dead dependency for each that enters the first of four layers; 20 s of virtual time."""
    arrived = 0

    async def dead() -> None:
        nonlocal arrived
        arrived += 1
        raise OSError

    async def main() -> None:
        entry = layered(LAYERS, make, dead)
        for _ in range(calls):
            with pytest.raises(OSError):  # noqa: PT011 - the dependency's own
                await entry()
            await anyio.sleep(1 / PER_SECOND)

    run(main, backend=backend)
    return arrived / calls


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_dead_dependency_under_four_layers(loop):
    """G15, H49, issue 5: at most 1.25 times the load, with one budget for all, and with one for each layer."""
    shared = RetryBudget()

    assert 81 == load(lambda: None, loop, 10)
    assert 1.01 == pytest.approx(load(lambda: shared, loop), abs=0.005)
    assert 1.04 == pytest.approx(load(RetryBudget, loop), abs=0.01)
    # A hundred calls at once: the free five of each layer.
    assert 1.25 >= load(RetryBudget, loop, 100)
    assert 1.0 == load(empty, loop)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_dependency_that_dies_in_full_swing(loop):
    """G15: what succeeded before is spent within the time to live, and no more than it bought."""
    arrived = 0
    alive = True

    async def dying() -> None:
        nonlocal arrived
        arrived += 1
        if not alive:
            raise OSError

    async def main() -> None:
        nonlocal alive, arrived
        shared = RetryBudget()
        entry = layered(LAYERS, lambda: shared, dying)
        for number in range(2 * CALLS):
            if number == CALLS:
                alive, arrived = False, 0
            await timed(entry())
            await anyio.sleep(1 / PER_SECOND)

    run(main, backend=loop)
    # Each of the four layers counts the successes of ten seconds.
    assert arrived <= CALLS + 0.2 * LAYERS * 10 * PER_SECOND + 0.5 * (CALLS / PER_SECOND) + 5


# ------------------------------------------------------------------ explain


def explained(*policies: Any) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)
        told = Pipeline(*policies).explain()
    return told.attempts, told.duration


def test_what_explain_says_of_nested_budgets():
    """Explain: a budget is taken to give; a retry inside another one with a budget makes one attempt for each."""
    rich = RetryBudget(1000)

    assert (3, float("inf")) == explained(retry(rich))
    assert 5 == explained(retry(rich), retry(rich))[0]
    assert 5 == explained(retry(None), retry(rich))[0]
    assert 9 == explained(retry(rich), retry(None))[0]
    assert 7 == explained(retry(rich), retry(rich), retry(rich))[0]
    assert 5 == explained(Timeout(100), retry(rich), retry(rich), Timeout(1))[0]
    outer, inner = (retry(each, retry_after=False) for each in (None, rich))
    assert (5, 5) == explained(Timeout(100), outer, inner, Timeout(1))


async def test_a_breaker_sees_fewer_failures_not_none(backend):
    """Retry(CircuitBreaker): without budget left each call is one failure, and the circuit still opens."""
    breaker = CircuitBreaker("budgeted", on=OSError, trip=ConsecutiveFailures(3), overdue_after=9)
    guarded = Pipeline(retry(empty()), breaker)

    for _ in range(3):
        await guarded.outcome(failing)
    assert "OPEN" == breaker.state.name
