"""
Law 28: tenacity's strategies are taken whole, its loop is not used, and none of it is touched before a failure.

That every strategy sees and does the same here as there is shown in ``tests/policies/test_tenacity_parity.py``.
"""

import subprocess
import sys

import anyio
import pytest
import tenacity
from tenacity import retry_if_exception_type, stop_after_attempt, wait_fixed, wait_none

from resilience import (
    CircuitBreaker,
    ConsecutiveFailures,
    FullJitter,
    Pipeline,
    ResilienceWarning,
    Retry,
    Timeout,
)
from resilience.strategies import AttemptState
from resilience.testing import Script
from tests.composition.support import about, timed

LAZY = """
import sys
import anyio
from resilience import CircuitBreaker, Pipeline, Retry, Timeout

def loaded(when):
    found = sorted(name for name in sys.modules if name.split(".")[0] == "tenacity")
    assert not found, f"{when}: {found}"

loaded("import")
guarded = Pipeline(Timeout(10), Retry(on=OSError), CircuitBreaker("lazy", on=OSError), Timeout(2))
loaded("construction")

async def succeed():
    return 42

async def fail():
    raise OSError

async def main():
    assert await guarded(succeed) == 42
    assert await guarded.wrap(succeed)() == 42
    loaded("success")
    try:
        await Retry(2, on=OSError)(fail)
    except OSError:
        pass
    else:
        raise AssertionError
    loaded("a failure that asks no strategy of tenacity's")

anyio.run(main)
"""


def test_tenacity_is_not_imported_before_a_strategy_of_its_is_asked():
    """
    Import, construction, success, and failures with our own strategies: tenacity is not loaded (law 28).
    """
    subprocess.run([sys.executable, "-c", LAZY], check=True, timeout=300)


async def test_no_strategy_is_asked_of_a_success(backend):
    """
    A first attempt that succeeds asks neither stop nor wait, nor a strategy that judges errors (law 28, trap 7).
    """

    def never(state):
        raise AssertionError("asked")

    class Asked(retry_if_exception_type):
        def __call__(self, retry_state):
            assert retry_state.outcome.failed
            return super().__call__(retry_state)

    with_types = Retry(on=OSError, wait=never, stop=never)
    with_object = Retry(on=retry_if_exception_type(OSError), wait=never, stop=never)

    assert 1 == await with_types(Script(1))
    assert 2 == await with_object(Script(2))


async def test_a_strategy_of_the_users_is_asked_about_results_too(backend):
    """
    A class derived from one of tenacity's may say yes to a result, so it is asked (law 28).
    """

    class OrEmpty(retry_if_exception_type):
        def __call__(self, retry_state):
            if not retry_state.outcome.failed:
                return not retry_state.outcome.result()
            return super().__call__(retry_state)

    script = Script([], OSError, [1])

    assert [1] == await Retry(5, on=OrEmpty(OSError), wait=wait_none())(script)
    assert 3 == script.calls


async def test_the_order_is_retry_wait_stop(backend):
    """
    Strategies are asked in tenacity's order, after each attempt, so stop sees the wait that would follow (law 28).
    """
    asked = []

    def say(name, answer):
        def strategy(state):
            asked.append((name, state.attempt_number, state.upcoming_sleep, state.idle_for))
            return answer(state)

        return strategy

    retry = Retry(
        on=tenacity.retry_any(say("retry", lambda s: s.outcome.failed)),
        wait=say("wait", lambda s: s.attempt_number / 1024),
        stop=say("stop", lambda s: s.attempt_number == 2),
    )
    with pytest.raises(OSError, match="step 2"):
        await retry(Script(OSError))

    once, twice = 1 / 1024, 2 / 1024
    assert [
        ("retry", 1, 0.0, 0.0),
        ("wait", 1, 0.0, 0.0),
        ("stop", 1, once, 0.0),
        ("retry", 2, once, once),
        ("wait", 2, once, once),
        ("stop", 2, twice, once),
    ] == asked


async def test_the_state_has_what_tenacitys_has(backend):
    """
    Every public attribute of `RetryCallState` that a strategy may read is there, of the same kind (law 28).
    """
    seen = []

    def look(state):
        theirs = tenacity.RetryCallState(None, look, (), {})
        names = {name for name in (*vars(theirs), *dir(theirs)) if not name.startswith("_")}
        actions = {"prepare_for_next_attempt", "set_exception", "set_result"}
        seen.append({name for name in names - actions if not hasattr(state, name)})
        assert (1, 2) == state.args
        assert {"three": 3} == state.kwargs
        assert script is state.fn
        assert isinstance(state.outcome, tenacity.Future)
        assert 1 == state.outcome.attempt_number
        assert state.outcome_timestamp >= state.start_time
        assert isinstance(state.get_fn_name(), str)
        return True

    script = Script(OSError)
    with pytest.raises(OSError, match="step"):
        await Retry(on=OSError, wait=wait_none(), stop=look)(script, 1, 2, three=3)

    assert [set()] == seen


async def test_strategies_are_shared_by_calls_without_harm(backend, unit):
    """
    One retry object serves two calls at once; each has a state of its own (law 28: tenacity's loop is not safe so).
    """
    retry = Retry(on=OSError, wait=wait_fixed(unit), stop=stop_after_attempt(3))
    scripts = [Script(OSError, OSError, n) for n in range(5)]
    results = []

    async def one(script):
        results.append(await retry(script))

    async with anyio.create_task_group() as group:
        for script in scripts:
            group.start_soon(one, script)

    assert list(range(5)) == sorted(results)
    assert all([about(n * unit, backend) for n in range(3)] == script.times for script in scripts)


async def test_try_again_is_an_order(backend):
    """
    `tenacity.TryAgain` asks for another attempt whatever `on` says; attempts still end it (law 28).
    """
    script = Script(tenacity.TryAgain, tenacity.TryAgain, 42)
    assert 42 == await Retry(3, on=OSError, wait=wait_none())(script)

    with pytest.raises(tenacity.TryAgain):
        await Retry(3, on=tenacity.retry_never, wait=wait_none())(Script(tenacity.TryAgain))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (-1.0, "no number"),
        (float("nan"), "no number"),
        ("soon", "no number"),
        (None, "no number"),
        (True, "no number"),
        (61.0, "above max_delay"),
        (float("inf"), "above max_delay"),
        (10**400, "above max_delay"),
        (10**5000, "above max_delay"),
        (-(10**400), "no number"),
    ],
    ids=["negative", "nan", "text", "none", "bool", "61", "inf", "huge", "unprintable", "-huge"],
)
async def test_a_wait_that_is_none_is_mended_with_one_warning(backend, answer, kind):
    """
    Negative, NaN or no number: the default wait; above `max_delay`: the cap; one warning, never an error (law 21).
    """
    retry = Retry(4, on=OSError, wait=lambda _: answer, max_delay=0.01, rng=Half())
    with pytest.warns(ResilienceWarning, match=kind) as warned:
        error, took = await timed(retry(Script(OSError)))

    assert OSError is type(error)
    assert 1 == len(warned)
    assert about(0.03, backend) == took


class Half:
    """A source of chance that always says one half."""

    def random(self):
        return 0.5


async def test_waits_that_are_wrong_each_in_its_own_way_warn_once(backend):
    """
    The warning is about the strategy, not about each of its answers, which may be many (law 21).
    """
    answers = iter([-1, -2, float("nan"), "four"])
    retry = Retry(5, on=OSError, wait=lambda _: next(answers), max_delay=0.001)

    with pytest.warns(ResilienceWarning) as warned, pytest.raises(OSError, match="step 5"):
        await retry(Script(OSError))

    assert 1 == len(warned)


async def test_a_warning_that_is_an_error_does_not_become_the_calls(backend):
    """
    Under `-W error` the call still raises its own error (law 6).
    """
    with pytest.raises(OSError, match="step 2"):
        await Retry(2, on=OSError, wait=lambda _: -1, max_delay=0.001)(Script(OSError))


@pytest.mark.parametrize("broken", ["on", "wait", "stop", "retry_after"])
async def test_a_strategy_that_raises_never_replaces_the_calls_error(backend, broken):
    """
    on: counts as failure; wait: the default; stop: the safe end; retry_after: no floor (law 6).
    """

    def bad(_):
        raise RuntimeError("mine")

    options = {"on": OSError, "wait": wait_none(), "attempts": 2, broken: bad}
    script = Script(OSError)
    # Waits are mended with a warning, which is an error here, and swallowed as the test above says.
    with pytest.raises(OSError, match="step"):
        await Retry(**options)(script)

    assert (1 if broken == "stop" else 2) == script.calls


async def test_a_break_may_be_drawn_from_a_wait_strategy(backend, clock):
    """
    `break_duration` takes tenacity's objects and sees the number of the consecutive opening (law 28, HO-017).
    """
    breaker = CircuitBreaker(
        "law-28-break",
        on=OSError,
        trip=ConsecutiveFailures(1),
        break_duration=tenacity.wait_incrementing(start=10, increment=5),
        clock=clock,
    )
    guarded = Pipeline(breaker, Timeout(5))
    found = []
    for _ in range(3):
        with pytest.raises(OSError, match="step"):
            await guarded(Script(OSError))
        found.append(breaker.retry_after)
        clock.advance(breaker.retry_after)

    assert [10.0, 15.0, 20.0] == found


def test_the_default_wait_is_a_strategy_of_tenacitys_shape():
    """
    FullJitter can be handed to tenacity, and added to its strategies there (law 28).
    """
    jitter = FullJitter(initial=1, cap=3, rng=Half())

    assert [0.5, 1.0, 1.5, 1.5] == [
        tenacity.wait_combine(jitter)(AttemptState(attempt_number=n)) for n in range(1, 5)
    ]
