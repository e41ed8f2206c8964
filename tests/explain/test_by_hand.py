"""
What `Pipeline.explain` says, worked out on paper: a line each for what the random pipelines do not single out.
"""

from __future__ import annotations

import math
import threading
import time
from datetime import timedelta
from typing import Any

import anyio
import pytest
import tenacity
from tenacity import (
    stop_after_attempt,
    stop_after_delay,
    stop_all,
    stop_any,
    stop_before_delay,
    stop_never,
    stop_when_event_set,
    wait_fixed,
)

from resilience import (
    Bulkhead,
    Chaos,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    FullJitter,
    LastGood,
    Pipeline,
    PipelineWarning,
    RateLimit,
    Retry,
    SingleFlight,
    Timeout,
)
from resilience.strategies import only_counts, stops_from, wait_bounds
from resilience.testing import Script, run
from tests.explain.kit import built, explained, worst

INF = math.inf


async def _replica(_: object, __: object) -> None:
    raise OSError


def retry(attempts: int | None = 3, wait: Any = 1, **options: Any) -> Retry:
    """Without Retry-After, and waits that are numbers unless told otherwise."""
    strategy = wait_fixed(wait) if isinstance(wait, int | float) else wait
    given: dict[str, Any] = {"on": OSError, "wait": strategy, "retry_after": False}
    return Retry(attempts, **(given | options))


# ------------------------------------------------------------------- the shapes


@pytest.mark.parametrize(
    ("policies", "attempts", "seconds"),
    [
        pytest.param((), 1, INF, id="the bare call"),
        pytest.param((Timeout(2),), 1, 2, id="a timeout"),
        pytest.param((Timeout(2), Timeout(1)), 1, 1, id="the shorter of two"),
        pytest.param((retry(3),), 3, INF, id="a retry of what may hang"),
        pytest.param((retry(3), Timeout(2)), 3, 3 * 2 + 2 * 1, id="attempts and waits"),
        pytest.param((retry(1), Timeout(2)), 1, 2, id="one attempt has no wait"),
        pytest.param((Timeout(9), retry(3), Timeout(2)), 3, 8, id="within the total"),
        pytest.param((Timeout(7), retry(3), Timeout(2)), 3, 7, id="cut by the total"),
        pytest.param((Timeout(2.5), retry(5)), 3, 2.5, id="attempts at 0, 1 and 2"),
        pytest.param((Timeout(2), retry(5)), 2, 2, id="no wait that ends with the deadline"),
        pytest.param((Timeout(6), retry(3, 9), Timeout(2)), 1, 2, id="no wait that cannot end"),
        pytest.param((retry(3, retry_after=True), Timeout(2)), 3, 126, id="a server is heard"),
        pytest.param(
            (retry(3, retry_after=True, max_delay=5), Timeout(2)), 3, 16, id="up to max_delay"
        ),
        pytest.param((retry(3, 90), Timeout(2)), 3, 6 + 2 * 60, id="no wait exceeds max_delay"),
        pytest.param(
            (Retry(3, on=OSError, retry_after=False), Timeout(2)), 3, 6.3, id="the default wait"
        ),
        pytest.param(
            (Timeout(1), Retry(9, on=OSError)), 9, 1, id="waits of no length are possible"
        ),
        pytest.param(
            (retry(3), retry(4), Timeout(2)), 12, 12 * 2 + 11, id="nested retries multiply"
        ),
        pytest.param(
            (retry(3), Timeout(2.5), retry(9)), 9, 3 * 2.5 + 2, id="a deadline in between"
        ),
        pytest.param((Timeout(lambda _: 2),), 1, INF, id="a timeout that nobody can read"),
        pytest.param(
            (Fallback(None, on=OSError), retry(3), Timeout(2)), 3, 8, id="a value takes no time"
        ),
        pytest.param(
            (Timeout(20), Fallback.using(_replica, on=OSError), retry(3), Timeout(2)),
            3,
            20,
            id="a function takes as long as it may",
        ),
        pytest.param((Fallback.using(_replica, on=OSError), Timeout(2)), 1, INF, id="or for ever"),
        pytest.param((LastGood(60), Timeout(2)), 1, 2, id="an old answer takes no time"),
        pytest.param((SingleFlight(), Timeout(2)), 1, 2, id="a flight alone"),
        pytest.param(
            (retry(3), Timeout(2), Chaos(1, fault=OSError)), 3, 8, id="chaos that fails at once"
        ),
        pytest.param((Timeout(9), Chaos(0.1, latency=5)), 1, 9, id="chaos in time"),
        pytest.param(
            (retry(2), Chaos(0.1, latency=5), Timeout(2)), 2, 15, id="chaos that takes its time"
        ),
        pytest.param((Chaos(0.1, latency=lambda _: 5), Timeout(2)), 1, INF, id="nobody knows"),
        pytest.param(
            (Timeout(9), Chaos(0.1, behaviour=_replica), Timeout(2)), 1, 9, id="as long as it may"
        ),
        pytest.param(
            (Timeout(7), SingleFlight(), retry(3), Timeout(2)), 3, 7, id="a flight and its caller"
        ),
        pytest.param(
            (Timeout(1.5), SingleFlight(), retry(9, 1)), 2, 1.5, id="begun, although it cannot end"
        ),
        pytest.param(
            (Timeout(7.5), SingleFlight(), retry(9, 4), Timeout(2)), 2, 7.5, id="slept to the end"
        ),
        pytest.param(
            (Timeout(20), SingleFlight(), retry(3), Timeout(2)), 3, 8, id="a flight with time left"
        ),
        pytest.param((Timeout(5), Timeout(lambda _: 2)), 1, 5, id="inside one that can be read"),
        pytest.param((Bulkhead(1), Timeout(2)), 1, 2, id="nobody waits for a place"),
        pytest.param((Bulkhead(1, queue=9, max_wait=0), Timeout(2)), 1, 2, id="or not for long"),
        pytest.param((Bulkhead(1, queue=9, max_wait=3), Timeout(2)), 1, 5, id="a wait for a place"),
        pytest.param((Bulkhead(1, queue=9), Timeout(2)), 1, INF, id="which may last"),
        pytest.param(
            (Timeout(9), Bulkhead(1, queue=9), Timeout(2)), 1, 9, id="until the deadline around"
        ),
        pytest.param(
            (retry(3), Bulkhead(1, queue=9, max_wait=3), Timeout(2)), 3, 17, id="for each attempt"
        ),
        pytest.param((RateLimit(1), Timeout(2)), 1, 2, id="nobody waits for a turn"),
        pytest.param((RateLimit(1, max_wait=3), Timeout(2)), 1, 5, id="a wait for a turn"),
        pytest.param(
            (RateLimit(1, max_wait=3), Bulkhead(1, queue=1, max_wait=4), Timeout(2)),
            1,
            9,
            id="first one, then the other",
        ),
    ],
)
def test_the_worst_of_a_shape(policies, attempts, seconds):
    """Issue 2: worst attempts and worst duration, worked out by hand."""
    assert (attempts, pytest.approx(seconds)) == worst(*policies)


@pytest.mark.parametrize(
    ("policies", "attempts", "seconds"),
    [
        # At once: 0 and 9, then the outer retry. Held back until 9 does not fit any more, at 1.0: then every 0.1.
        pytest.param((Timeout(10), retry(100, 0.1), retry(2, 9)), 91, 10, id="hold the first"),
        # Each attempt may take 1 s: from 1.0 on a wait of 50 does not fit into 51, but at 1.0 it does into 52.
        pytest.param(
            (Timeout(51), retry(10_000, 0.1), retry(2, 50), Timeout(1)), 500, 51, id="just enough"
        ),
        pytest.param(
            (Timeout(52), retry(10_000, 0.1), retry(2, 50), Timeout(1)), 21, 52, id="too much time"
        ),
        # The inner retry's second attempt ends at 12 at the latest, the next one at 13, and 10 more do not fit.
        pytest.param((Timeout(15), retry(2, 0), retry(2, 10), Timeout(1)), 3, 13, id="a gap"),
        # 0, 1, 2 and 3, 4, 5: all waits are alike.
        pytest.param((Timeout(5.5), retry(3), retry(3)), 6, 5.5, id="all alike"),
    ],
)
def test_a_deadline_around_nested_retries(policies, attempts, seconds):
    """Law 24: what the deadline ends early in the inner retry the outer one takes up, and a callee may aim at that."""
    assert (attempts, pytest.approx(seconds)) == worst(*policies)


def test_a_breaker_is_taken_to_admit():
    """What a breaker rejects only makes less of both."""
    breaker = CircuitBreaker("explained by hand", on=OSError)

    assert (3, 8) == worst(retry(3), breaker, Timeout(2))


def test_inner_pipelines_count_with_what_they_hold():
    """A step of its own is no wall: named pipelines are read through, one that is switched off is the bare call."""
    inner = built(retry(3), Timeout(2), name="inner")
    off = built(retry(3), Timeout(2), enabled=False)

    assert (3, 7) == worst(Timeout(7), inner)
    assert (1, 7) == worst(Timeout(7), off)
    assert (1, INF) == worst(retry(3), Timeout(2), enabled=False)
    assert (3, 8) == worst(retry(3), Timeout(2), enabled=lambda: False)


def test_a_rejection_that_is_named_may_set_any_wait():
    """Law 25: the ``retry_after`` of a rejection is a floor, whatever ``retry_after=`` says of the server's."""
    assert (3, 3 * 2 + 2 * 60) == worst(retry(3, on=(OSError, CircuitOpenError)), Timeout(2))


def test_the_text_says_what_the_data_say():
    """``str(p.explain())`` is the pipeline, the two numbers and the findings, a line each."""
    with pytest.warns(PipelineWarning):
        bad = Pipeline(Timeout(6), Retry(3, on=OSError), Timeout(3), name="shop")
    lines = str(bad.explain()).splitlines()

    assert "Pipeline(Timeout(6.0), Retry(3, on=OSError), Timeout(3.0), name='shop')" == lines[0]
    assert [
        "  worst duration: 6 s",
        "  worst attempts: 3 (the load on a dependency that fails, per call)",
    ] == lines[1:3]
    assert lines[3].startswith("  warning: 3 attempts with their waits can need 9.3 s")
    assert 4 == len(lines)


def test_the_text_of_what_nothing_bounds():
    """No number where there is none."""
    text = str(explained(retry(None, 0, stop=stop_never)))

    assert "worst duration: unbounded" in text
    assert "worst attempts: unbounded" in text


# -------------------------------------------------------------- stop strategies


class StopSoon(stop_after_attempt):
    """A subclass may do anything."""


@pytest.mark.parametrize(
    ("stop", "attempts", "seconds"),
    [
        pytest.param(stop_after_attempt(3), 3, 8, id="attempts"),
        pytest.param(stop_after_attempt(3) | stop_after_attempt(4), 3, 8, id="any"),
        pytest.param(stop_after_attempt(3) & stop_after_attempt(4), 4, 11, id="all"),
        # Attempts at 0, 1, ... 30; or one that ends just before 30, a wait and one of 2 s.
        pytest.param(stop_after_delay(30), 31, 33, id="after a delay"),
        pytest.param(stop_after_delay(timedelta(seconds=30)), 31, 33, id="a timedelta"),
        # The last one starts before 30.
        pytest.param(stop_before_delay(30), 30, 32, id="before a delay"),
        pytest.param(stop_any(stop_before_delay(30), stop_after_attempt(3)), 3, 8, id="either"),
        pytest.param(stop_all(stop_after_delay(30), stop_after_attempt(3)), 31, 33, id="both"),
        pytest.param(
            stop_all(stop_after_delay(0), stop_after_attempt(3)), 3, 8, id="both, one over"
        ),
        pytest.param(stop_after_delay(0), 1, 2, id="at once"),
        pytest.param(stop_before_delay(0), 1, 2, id="before anything"),
        pytest.param(stop_never, INF, INF, id="never"),
        pytest.param(stop_when_event_set(threading.Event()), INF, INF, id="an event"),
        pytest.param(lambda _: True, INF, INF, id="a function"),
        pytest.param(StopSoon(3), INF, INF, id="a subclass"),
    ],
)
def test_a_stop_strategy_is_read_off(stop, attempts, seconds):
    """Law 23: with ``stop``, whichever stops first; what cannot be read off is no limit."""
    assert (attempts, pytest.approx(seconds)) == worst(retry(None, 1, stop=stop), Timeout(2))


@pytest.mark.parametrize("runs_on", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("stop", "then"),
    [
        # The tenth attempt starts at 27. One that ends just before 30 has another one after its wait.
        pytest.param(stop_after_delay(30), [0, 1.999], id="after a delay"),
        # One that starts just before 30 has its two seconds.
        pytest.param(stop_before_delay(30), [1.999], id="before a delay"),
    ],
)
def test_a_delay_that_stops_is_reached_in_both_ways(stop, then, runs_on):
    """Issue 2: the attempts by failing at once, the duration by an attempt that ends just in time for one more."""
    guarded = built(retry(None, 1, stop=stop), Timeout(2))
    bounds = guarded.explain()
    at_once = Script(OSError)
    slow = Script(*[_until_cut] * 9, *map(_after, then), _until_cut)

    async def main() -> float:
        await guarded.outcome(at_once)
        return (await guarded.outcome(slow)).elapsed

    seconds = run(main, backend=runs_on)

    assert bounds.attempts == at_once.calls
    assert pytest.approx(bounds.duration, abs=0.002) == seconds


async def _until_cut() -> None:
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        raise OSError from None


def _after(seconds: float) -> Any:
    async def callee() -> None:
        await anyio.sleep(seconds)
        raise OSError

    return callee


def test_a_clock_of_its_own_reads_no_delay():
    """Law 20: ``clock=`` may stand still, so what a strategy makes of it is no bound."""
    stopped = retry(None, 1, stop=stop_after_delay(30), clock=lambda: 0.0)

    assert (INF, INF) == worst(stopped, Timeout(2))


@pytest.mark.parametrize(
    ("stop", "counts"),
    [
        (None, True),
        (stop_never, True),
        (stop_after_attempt(3), True),
        (stop_after_attempt(3) | stop_after_attempt(4), True),
        (stop_after_attempt(3) & stop_after_delay(4), False),
        (stop_after_delay(3), False),
        (stop_before_delay(3), False),
        (StopSoon(3), False),
        (len, False),
    ],
)
def test_what_goes_by_the_number_of_attempts_alone(stop, counts):
    """Only such a strategy cannot be made to stop early by a callee that takes its time."""
    assert counts is only_counts(stop)
    assert 2 == len(stops_from(stop, 1))


# -------------------------------------------------------------- wait strategies


class WaitLonger(wait_fixed):
    """A subclass may do anything."""

    def __call__(self, retry_state: Any) -> float:
        return 7.0


def _jitter(**options: Any) -> Any:
    return tenacity.wait_exponential_jitter(**options)


CAP = 60.0


@pytest.mark.parametrize(
    ("wait", "attempt", "bounds"),
    [
        pytest.param(FullJitter(0.1, 5), 1, (0, 0.1), id="the default, first"),
        pytest.param(FullJitter(0.1, 5), 99, (0, 5), id="the default, late"),
        pytest.param(FullJitter(1, 100), 99, (0, CAP), id="the default, cut"),
        pytest.param(tenacity.wait_none(), 1, (0, 0), id="none"),
        pytest.param(wait_fixed(3), 1, (3, 3), id="fixed"),
        pytest.param(wait_fixed(99), 1, (CAP, CAP), id="cut"),
        pytest.param(wait_fixed(-1), 1, (0, CAP), id="negative: mended to the default wait"),
        pytest.param(wait_fixed(math.nan), 1, (0, CAP), id="not a number: mended"),
        pytest.param(tenacity.wait_random(1, 3), 1, (1, 3), id="random"),
        pytest.param(tenacity.wait_random(3, 1), 1, (1, 3), id="random, written backwards"),
        pytest.param(tenacity.wait_exponential(2, max=30), 3, (8, 8), id="exponential"),
        pytest.param(tenacity.wait_exponential(2, max=30, min=5), 1, (5, 5), id="with a minimum"),
        pytest.param(tenacity.wait_exponential(2, max=30), 10**6, (30, 30), id="far out"),
        pytest.param(
            tenacity.wait_random_exponential(2, max=30, min=1), 3, (1, 8), id="full jitter"
        ),
        pytest.param(_jitter(max=30, jitter=2), 3, (4, 6), id="jitter"),
        pytest.param(_jitter(max=5, jitter=2), 3, (4, 5), id="jitter, cut by its own maximum"),
        pytest.param(_jitter(max=30), 10**6, (30, 30), id="jitter, far out"),
        pytest.param(tenacity.wait_incrementing(1, 2, 30), 3, (5, 5), id="growing"),
        pytest.param(wait_fixed(1) + tenacity.wait_random(0, 2), 1, (1, 3), id="a sum"),
        pytest.param(wait_fixed(-1) + wait_fixed(3), 1, (2, 2), id="a sum with a negative part"),
        pytest.param(
            tenacity.wait_combine(wait_fixed(1), len), 1, (0, CAP), id="a sum with a function"
        ),
        pytest.param(tenacity.wait_chain(wait_fixed(1), wait_fixed(2)), 1, (1, 1), id="a chain"),
        pytest.param(
            tenacity.wait_chain(wait_fixed(1), wait_fixed(2)), 9, (2, 2), id="past its end"
        ),
        pytest.param(tenacity.wait_exception(lambda _: 3.0), 1, (0, CAP), id="by the error"),
        pytest.param(lambda _: 3.0, 1, (0, CAP), id="a function"),
        pytest.param(WaitLonger(3), 1, (0, CAP), id="a subclass"),
    ],
)
def test_the_shortest_and_the_longest_wait(wait, attempt, bounds):
    """Law 28: read off tenacity's objects; (0, max_delay) where that cannot be done."""
    assert bounds == wait_bounds(wait, attempt, CAP)


@pytest.mark.parametrize(
    "wait",
    [
        tenacity.wait_fixed(3),
        tenacity.wait_random(1, 3),
        tenacity.wait_exponential(0.5, max=30, exp_base=3),
        tenacity.wait_random_exponential(0.5, max=30, min=0.2),
        tenacity.wait_exponential_jitter(max=20, jitter=2),
        tenacity.wait_incrementing(1, 2, 30),
        tenacity.wait_fixed(1) + tenacity.wait_random(0, 2),
        tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_random(2, 4)),
    ],
    ids=lambda wait: type(wait).__name__,
)
def test_tenacity_draws_within_the_bounds_and_comes_near_them(wait):
    """Law 28: what a strategy returns lies between the bounds, and a few hundred draws nearly fill them."""
    for attempt in (1, 2, 5, 50):
        state = tenacity.RetryCallState(tenacity.AsyncRetrying(), None, (), {})
        state.attempt_number = attempt
        low, high = wait_bounds(wait, attempt, INF)
        drawn = [wait(state) for _ in range(300)]

        assert low <= min(drawn) + 1e-9
        assert max(drawn) - 1e-9 <= high
        assert (high - low) * 0.8 <= max(drawn) - min(drawn)


# ------------------------------------------------------------------ upper bounds


@pytest.mark.parametrize(
    ("policies", "attempts", "seconds"),
    [
        pytest.param((retry(10**9, 0), Timeout(1)), 10**9, INF, id="a thousand million attempts"),
        pytest.param((retry(10**9, 0), retry(10**9, 0), Timeout(1)), 10**18, INF, id="squared"),
        pytest.param(
            (Timeout(60), retry(10**9, 0), retry(10**9, 0), Timeout(1)),
            10**18,
            60,
            id="in a minute",
        ),
        pytest.param((Timeout(60), retry(1000, 0), retry(1000, 0)), 10**6, 60, id="a million"),
        pytest.param((Timeout(3600), retry(None, 1, stop=stop_never)), 3600, 3600, id="an hour"),
        pytest.param((Timeout(60), retry(None, 0, stop=stop_never)), INF, 60, id="without an end"),
    ],
)
def test_numbers_nobody_can_follow_are_bounded_and_soon(policies, attempts, seconds):
    """Invariant: building and explaining take no longer for a retry of a thousand million attempts."""
    began = time.thread_time()  # its own work; what else the machine does is not the question
    found, lasts = worst(*policies)

    assert time.thread_time() - began < 10
    assert attempts == found
    assert lasts <= seconds


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        pytest.param({"on": (OSError, ValueError)}, {}, id="another error"),
        pytest.param({"on": lambda _: True}, {}, id="a predicate"),
        pytest.param({"on_result": lambda result: result is None}, {}, id="a result"),
        pytest.param({}, {"stop": lambda _: False}, id="a stop of its own"),
        pytest.param({}, {"retry_after": True}, id="a server only one hears"),
        pytest.param(
            {"retry_after": True, "max_delay": 9},
            {"retry_after": True, "max_delay": 8},
            id="longer",
        ),
    ],
)
def test_an_inner_retry_that_can_be_ended_by_what_the_outer_takes_up(outer, inner):
    """Law 23: then the long waits of the inner one are no help against load, and the bound counts without them."""
    alike = retry(50, 0.1), retry(2, 9)
    unlike = retry(50, 0.1, **outer), retry(2, 9, **inner)

    assert (12, 10) == worst(Timeout(10), *alike, Timeout(0.5))
    assert 50 <= explained(Timeout(10), *unlike, Timeout(0.5)).attempts <= 100


def test_a_deadline_between_retries_that_hear_a_server():
    """Law 26: a wait that fits the outer deadline and not the inner one is the outer retry's."""
    policies = (
        Timeout(20),
        retry(50, 0.1, retry_after=True),
        Timeout(9.5),
        retry(2, 9, retry_after=True),
    )

    assert 50 <= explained(*policies, Timeout(0.2)).attempts <= 100


def test_what_a_subclass_of_an_inner_error_is_ends_nothing_early():
    """Law 23: every error the outer one takes up is one of the inner one's, so only the deadline ends that."""
    outer, inner = retry(50, 0.1, on=(ConnectionError, TimeoutError)), retry(2, 9, on=OSError)

    assert (12, 10) == worst(Timeout(10), outer, inner, Timeout(0.5))
