"""
Laws as detectors: small scenes that a planted fault must spoil, on asyncio and on trio.

They are not the tests of the laws, which stand in tests/laws; they are what the instruments beside them cannot see:
what a caller gets, in whose context, after how long.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any
from unittest import mock

import anyio

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    Fallback,
    LastGood,
    Pipeline,
    RateLimit,
    RateLimitedError,
    Retry,
    RetryBudget,
    SingleFlight,
    Timeout,
    TimeoutExceededError,
)
from resilience.clock import loop_time
from resilience.core.trips import ConsecutiveFailures
from resilience.errors import PipelineWarning
from resilience.testing import ManualClock, Script, Wait, run
from resilience.testing.time import Backend

__all__ = ["LAWS", "broken_laws"]

_BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
_names = itertools.count()
_seen: ContextVar[str] = ContextVar("seen", default="")
LAWS: dict[str, Callable[[], Awaitable[None]]] = {}


def law(
    number: int | str,
) -> Callable[[Callable[[], Awaitable[None]]], Callable[[], Awaitable[None]]]:
    def kept(function: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        LAWS[f"law {number}"] = function
        return function

    return kept


def _breaker(**options: Any) -> CircuitBreaker:
    options = {"on": OSError, "trip": ConsecutiveFailures(1), "break_duration": 10} | options
    return CircuitBreaker(f"law {next(_names)}", **options)


async def _error_of(work: Awaitable[object]) -> BaseException | None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - looked at by the caller
        return error
    return None


@law(3)
async def a_deadline_of_ours_is_a_failure_of_the_breaker_inside() -> None:
    breaker = _breaker()
    error = await _error_of(Pipeline(Timeout(1), breaker)(Script(Wait(50))))
    assert isinstance(error, TimeoutExceededError)
    assert breaker.state is CircuitState.OPEN


@law(33)
async def who_sleeps_before_a_retry_has_paid_for_it() -> None:
    budget = RetryBudget(0, minimum_per_second=0.1)
    script = Script(OSError)
    guarded = Retry(2, on=OSError, wait=lambda _: 5.0, budget=budget).wrap(script)
    with anyio.move_on_after(1):
        await guarded()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(_error_of, guarded())
    assert script.calls == 1 + 5 + 1


@law(6)
async def a_listener_that_raises_changes_nothing() -> None:
    heard: list[object] = []

    def raises(_: object) -> None:
        raise RuntimeError("a listener's own")

    breaker = _breaker()
    own = OSError("the call's own")
    with mock.patch("resilience.events.hook_failed"):
        error = await _error_of(
            Pipeline(breaker, Timeout(5), listeners=[raises, heard.append])(Script(own))
        )
    assert error is own
    assert breaker.state is CircuitState.OPEN
    assert heard


@law(11)
async def callers_beside_a_probe_are_rejected_at_once() -> None:
    breaker = _breaker()
    breaker._core.force(CircuitState.HALF_OPEN)
    async with anyio.create_task_group() as group:
        group.start_soon(breaker, Script(Wait(5)))
        await anyio.sleep(1)
        asked = loop_time()
        error = await _error_of(breaker(Script(1)))
        assert isinstance(error, CircuitOpenError)
        assert loop_time() == asked


@law(16)
async def reading_changes_nothing() -> None:
    breaker = _breaker()
    breaker.admit().failure()
    await anyio.sleep(10)
    for _ in range(2):
        assert (breaker.state, breaker.generation) == (CircuitState.OPEN, 2)
    breaker.admit().ignore()
    assert breaker.state is CircuitState.HALF_OPEN


@law(20)
async def a_wall_clock_that_is_set_back_prolongs_nothing() -> None:
    clock = ManualClock()
    breaker = _breaker(clock=clock)
    breaker.admit().failure()
    clock.advance(10)
    with mock.patch.object(time, "time", return_value=time.time() - 3600):
        assert breaker.retry_after == 0.0
        breaker.admit().success()
    assert breaker.state is CircuitState.CLOSED


@law(23)
async def attempts_are_attempts_and_the_last_error_is_itself() -> None:
    last = OSError("the third")
    script = Script(OSError, OSError, last, 4)
    error = await _error_of(Pipeline(Retry(3, on=OSError, wait=lambda _: 0.0), Timeout(9))(script))
    assert script.calls == 3
    assert error is last


@law(17)
async def the_call_that_opens_the_circuit_gets_its_own_error() -> None:
    own = OSError("the call's own")
    breaker = _breaker()
    assert await _error_of(breaker(Script(own))) is own
    assert breaker.state is CircuitState.OPEN


@law(25)
async def an_open_circuit_ends_a_retry() -> None:
    own = OSError("the call's own")
    script = Script(own)
    began = loop_time()
    guarded = Pipeline(Retry(4, on=OSError, wait=lambda _: 3.0), _breaker(), Timeout(9))
    assert await _error_of(guarded(script)) is own
    assert script.calls == 1
    assert loop_time() - began <= 3


@law(29)
async def a_timeout_bounds_a_call_that_runs() -> None:
    began = loop_time()
    error = await _error_of(Timeout(1)(Script(Wait(50))))
    assert isinstance(error, TimeoutExceededError)
    assert 1 <= loop_time() - began < 1.1


@law(30)
async def a_timed_call_runs_in_the_context_of_its_caller() -> None:
    async def sets() -> None:
        _seen.set("inside")

    _seen.set("outside")
    await Timeout(5)(sets)
    assert _seen.get() == "inside"


@law(1)
async def a_stream_counts_by_its_first_item() -> None:
    async def fails() -> AsyncGenerator[int, None]:
        await anyio.sleep(1)
        raise OSError
        yield 1  # never reached; makes it a generator

    async def consume() -> list[int]:
        async with Pipeline(breaker, Timeout(9)).stream(fails)() as items:
            return [item async for item in items]

    breaker = _breaker()
    assert isinstance(await _error_of(consume()), OSError)
    assert breaker.state is CircuitState.OPEN


@law("33, places")
async def every_place_comes_back_and_once() -> None:
    bulkhead = Bulkhead(2, queue=5)
    with anyio.move_on_after(1):
        await bulkhead(Script(Wait(50)))
    assert bulkhead.in_flight == 0
    with bulkhead.admit(), bulkhead.admit() as place:
        place.release()
        place.release()
        assert bulkhead.in_flight == 1
    assert bulkhead.in_flight == 0


@law("33, handed over")
async def who_leaves_with_a_place_in_its_hand_passes_it_on() -> None:
    bulkhead = Bulkhead(1, queue=5)
    served: list[str] = []

    async def one(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            await bulkhead(Script(Wait(1)))
            served.append(name)

    async with anyio.create_task_group() as group:
        place, scopes = bulkhead.admit(), [anyio.CancelScope() for _ in range(3)]
        for name, scope in zip("abc", scopes, strict=True):
            group.start_soon(one, name, scope)
            await anyio.wait_all_tasks_blocked()
        scopes[1].cancel()
        await anyio.wait_all_tasks_blocked()
        waiter = bulkhead._core.places.first()
        place.release()
        bulkhead._core.places.leave(waiter)
        assert bulkhead.waiting == 0
        scopes[0].cancel()
    assert bulkhead.in_flight <= 0
    assert "c" in served


@law("K5")
async def nobody_overtakes() -> None:
    bulkhead = Bulkhead(2, queue=5, weight=lambda call: call.args[0])
    order: list[int] = []

    async def work(weight: int) -> None:
        order.append(weight)
        await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        with bulkhead.admit():
            group.start_soon(bulkhead, work, 2)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(bulkhead, work, 1)
            await anyio.wait_all_tasks_blocked()
            assert order == []
    assert order == [2, 1]


@law("H26")
async def a_task_does_not_wait_for_itself() -> None:
    bulkhead = Bulkhead(1, queue=5, max_wait=5)

    async def outer() -> int:
        return await bulkhead(Script(7))

    assert await bulkhead(outer) == 7


@law("L5, L7")
async def a_turn_comes_when_it_was_told_and_not_for_who_left() -> None:
    limit = RateLimit(2, burst=2, max_wait=20)
    for _ in range(2):
        limit.admit()
    with anyio.move_on_after(0.1):
        await limit.acquire()
    error = await _error_of(_admitted(limit))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after is not None
    assert 0.3 < error.retry_after < 0.45
    await anyio.sleep(error.retry_after)
    limit.admit()


async def _admitted(limit: RateLimit) -> None:
    limit.admit()


@law("2, answers")
async def a_caller_who_leaves_gets_no_answer() -> None:
    with anyio.move_on_after(1) as scope:
        await Fallback("answer", on=Exception)(Script(Wait(50)))
    assert scope.cancelled_caught


@law("2, flights")
async def a_caller_who_leaves_a_flight_leaves_it_to_the_others() -> None:
    script = Script(Wait(5, then="answer"))
    answers: list[object] = []

    async def waits(flights: SingleFlight, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            answers.append(await flights(script))

    async with SingleFlight(key="one") as flights, anyio.create_task_group() as group:
        group.start_soon(waits, flights, 1)
        group.start_soon(waits, flights, 50)
    assert (answers, script.calls) == (["answer"], 1)


@law("CA-001")
async def only_what_the_callee_returned_is_a_good_answer() -> None:
    kept = LastGood(60, key="one")
    guarded = Pipeline(kept, Fallback("fallback", on=OSError))
    assert await guarded(Script(OSError)) == "fallback"
    own = ValueError("the call's own")
    assert await _error_of(kept(Script(own))) is own


def broken_laws() -> list[str]:
    """The laws that do not hold, each with the backends on which it does not."""
    found: list[str] = []
    for name, scene in LAWS.items():
        broken = []
        for backend in _BACKENDS:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", PipelineWarning)
                    run(scene, backend=backend)
            except Exception:  # noqa: BLE001 - broken, however
                broken.append(backend)
        if broken:
            found.append(name if len(broken) == 2 else f"{name} ({broken[0]})")
    return found
