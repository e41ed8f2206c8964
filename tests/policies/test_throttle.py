"""
Throttle as a policy: who is turned away, who is not, and what counts.
"""

from __future__ import annotations

import copy
import logging
import pickle
import random
from collections.abc import AsyncGenerator

import anyio
import pytest

from resilience import (
    Bulkhead,
    BulkheadFullError,
    CircuitState,
    Pipeline,
    ResilienceWarning,
    Retry,
    Throttle,
    ThrottledError,
    Timeout,
    TimeoutExceededError,
)
from resilience.events import CallRejected
from resilience.testing import Hang, Recorder, Script, Wait, disabled
from tests.composition.support import breaker


class Draws:
    """Chance as it is told."""

    def __init__(self, *draws: float) -> None:
        self.draws = list(draws)
        self.asked = 0

    def random(self) -> float:
        self.asked += 1
        return self.draws.pop(0) if len(self.draws) > 1 else self.draws[0]


async def ask(throttle, script, times):
    """How many of so many calls were turned away."""
    rejected = 0
    for _ in range(times):
        try:
            await throttle(script)
        except ThrottledError:
            rejected += 1
        except OSError:
            pass
    return rejected


async def test_a_dependency_that_is_well_is_never_kept_from_calls(backend):
    """
    AT-001: up to k requests for each accept nobody is turned away, and nothing is drawn.
    """
    draws = Draws(0.0)
    throttle = Throttle(2.0, rng=draws)
    script = Script(*[1, OSError] * 50)
    assert 0 == await ask(throttle, script, 100)
    told = throttle.snapshot()
    assert (100, 50, 0.0, 0, 0) == (
        told.requests, told.accepts, told.probability, told.rejected, draws.asked,
    )  # fmt: skip


async def test_the_share_is_turned_away(backend):
    """
    AT-001: with 100 requests and 40 accepts a fifth.
    """
    for draw, rejected in ((0.19, 1), (0.2, 0)):
        throttle = Throttle(rng=Draws(1.0, draw))
        throttle._core.rng.draws = [1.0]
        await ask(throttle, Script(*[OSError] * 60, 1), 100)
        assert 0.198 == pytest.approx(throttle.snapshot().probability, abs=1e-3)
        throttle._core.rng.draws = [draw]
        assert rejected == await ask(throttle, Script(1), 1)


async def test_who_is_turned_away_has_asked(backend):
    """
    AT-002: it counts as a request and not as accepted, and its callee is never called.
    """
    throttle = Throttle(rng=Draws(1.0))
    await ask(throttle, Script(OSError), 20)
    throttle._core.rng.draws = [0.0]
    script, recorder = Script(1), Recorder(CallRejected)
    with pytest.raises(ThrottledError) as caught:
        await Pipeline(throttle, listeners=[recorder])(script)
    told = throttle.snapshot()
    assert (21, 0, 1, 0) == (told.requests, told.accepts, told.rejected, script.calls)
    assert ("throttled", None) == (caught.value.reason, caught.value.retry_after)
    assert ["throttled"] == [each.reason for each in recorder]
    assert str(caught.value).startswith("throttled by Throttle(2.0")


async def test_never_quite_closed(backend, clock):
    """
    AT-003: nobody is turned away below the minimum, and never more than nine in ten; it recovers by what gets through.
    """
    throttle = Throttle(minimum_calls=5, rng=random.Random(7), window=10, clock=clock)
    assert 0 == await ask(throttle, Script(OSError), 5)
    rejected = await ask(throttle, Script(OSError), 2000)
    assert 0.87 * 2000 < rejected < 0.93 * 2000
    assert 0.9 == throttle.snapshot().probability
    for _ in range(30):
        clock.advance(1)
        await ask(throttle, Script(1), 100)
    assert 0.0 == throttle.snapshot().probability
    assert 0.0 == Throttle().snapshot().probability


async def test_it_lets_through_what_is_accepted_times_k(backend):
    """
    SRE book: a dependency that takes one in ten is asked about a fifth as often as callers come.
    """
    throttle = Throttle(2.0, max_rejection=1.0, rng=random.Random(3))
    asked = 0

    async def overloaded():
        nonlocal asked
        asked += 1
        if asked % 10:
            raise OSError

    await ask(throttle, overloaded, 500)
    asked_before = asked
    await ask(throttle, overloaded, 5000)
    assert asked - asked_before < 0.35 * 5000


async def test_what_was_long_ago_is_forgotten(backend, clock):
    """
    The window passes.
    """
    throttle = Throttle(clock=clock, rng=Draws(1.0), window=60)
    await ask(throttle, Script(OSError), 50)
    assert throttle.snapshot().probability == 0.9
    clock.advance(30)
    await ask(throttle, Script(1), 10)
    assert 60 == throttle.snapshot().requests
    clock.advance(40)
    assert (10, 10, 0.0) == (
        throttle.snapshot().requests,
        throttle.snapshot().accepts,
        throttle.snapshot().probability,
    )


async def test_the_less_important_go_first(backend):
    """
    Issue 5: with priorities.
    """
    throttle = Throttle(
        priority=lambda call: call.kwargs["priority"], rng=Draws(1.0), minimum_calls=1
    )
    for number in range(100):
        with pytest.raises(OSError, match="step"):
            await throttle(Script(OSError), priority=number % 2 * 5)
    throttle._core.load.current.accepts = 40
    throttle._core.rng.draws = [0.3]
    with pytest.raises(ThrottledError):
        await throttle(Script(1), priority=0)
    assert 1 == await throttle(Script(1), priority=5)


@pytest.mark.parametrize("answer", [-1, 10, 1.5, "high", None, True])
async def test_what_is_no_priority_is_the_lowest_with_one_warning(backend, answer):
    """
    Law 21: what users' functions return later is mended.
    """
    throttle = Throttle(priority=lambda _: answer)
    with pytest.warns(ResilienceWarning, match="0 is taken") as caught:
        assert [7, 7] == [await throttle(Script(7)) for _ in range(2)]
    assert 1 == len(caught)


async def test_a_priority_that_raises_is_the_lowest_and_logged_once(backend, caplog):
    """
    Law 6.
    """

    def priority(_):
        raise KeyError

    throttle = Throttle(priority=priority)
    with caplog.at_level(logging.ERROR, "resilience"):
        assert [7, 7] == [await throttle(Script(7)) for _ in range(2)]
    assert 1 == len(caplog.records)


async def test_what_counts(backend, unit):
    """
    Laws 1 to 5: our deadline counts, a caller who leaves and a rejection inside do not; `ignore`, `on_result` decide.
    """
    throttle = Throttle(ignore=KeyError, on_result=lambda result: result == "busy", priority=3)
    bulkhead = Bulkhead(1)

    def told():
        return throttle.snapshot().requests, throttle.snapshot().accepts

    with pytest.raises(KeyError):
        await throttle(Script(KeyError))
    with anyio.move_on_after(unit / 10):
        await throttle(Script(Hang()))
    with bulkhead.admit(), pytest.raises(BulkheadFullError):
        await Pipeline(throttle, bulkhead)(Script(1))
    assert (0, 0) == told()
    assert "busy" == await throttle(Script("busy"))
    assert (1, 0) == told()
    assert "well" == await throttle(Script("well"))
    assert (2, 1) == told()
    for policies in ((Timeout(unit / 10), throttle), (throttle, Timeout(unit / 10))):
        with pytest.raises(TimeoutExceededError):
            await Pipeline(*policies)(Script(Hang()))
    assert (4, 1) == told()


async def rows(error=None) -> AsyncGenerator[int, None]:
    yield 1
    if error is not None:
        raise error
    yield 2


async def test_a_stream_counts_when_it_ends_if_it_is_held(backend):
    """
    `hold=True`: its end is the verdict; of a consumer who was cancelled nothing is said.
    """
    throttle = Throttle()

    def told():
        return throttle.snapshot().requests, throttle.snapshot().accepts

    async with throttle.stream(rows, hold=True)() as items:
        assert (0, 0) == told()
        assert [1, 2] == [item async for item in items]
    assert (1, 1) == told()
    async with throttle.stream(rows, hold=True)(OSError()) as items:
        with pytest.raises(OSError):  # noqa: PT011 - the stream's own
            assert [1, 2] == [item async for item in items]
    assert (2, 1) == told()
    with anyio.CancelScope() as scope:
        async with throttle.stream(rows, hold=True)() as items:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert (2, 1) == told()


async def test_a_breaker_and_a_retry_around(backend):
    """
    Laws 4 and 25: a throttled call is no failure outside, and is not tried again unless it is named.
    """
    throttle, gate = Throttle(rng=Draws(0.0), minimum_calls=1), breaker(1)
    throttle._core.load.current.requests = 50
    throttle._core.load.current.levels[0] = 50
    script = Script(Wait(0, then=1))
    with pytest.raises(ThrottledError):
        await Pipeline(Retry(3, on=OSError), gate, throttle, Timeout(50))(script)
    assert (CircuitState.CLOSED, 0) == (gate.state, script.calls)
    assert 51 == throttle.snapshot().requests


async def test_switched_off_it_is_the_bare_call(backend):
    """
    The kit's switch.
    """
    throttle = Throttle(rng=Draws(0.0), minimum_calls=1)
    throttle._core.load.current.requests = throttle._core.load.current.levels[0] = 50
    with disabled():
        assert 1 == await throttle(Script(1))


@pytest.mark.parametrize("split", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_refuses_to_be_split(split):
    """
    Law 37.
    """
    with pytest.raises(TypeError, match="a Throttle holds the state of this process"):
        split(Throttle())
