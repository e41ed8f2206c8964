"""
The waiting itself: one task on any loop, woken from any thread, cancelled in any way, at any moment.
"""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.lowlevel

from resilience.clock import PROCESS_CLOCK, loop_time
from resilience.core.lines import Places
from resilience.policies._waiting import Waiter, stand_in_line, waiter_here
from resilience.testing import run


def full(queue: int = 10**6) -> Places:
    places = Places(1, queue)
    assert places.take()
    return places


async def wait_for(places: Places, seconds: float = math.inf, waiter: Waiter | None = None) -> bool:
    waiter = waiter or waiter_here(1)
    assert places.join(waiter)
    due = loop_time() + seconds
    return await stand_in_line(places, waiter, lambda: due - loop_time(), PROCESS_CLOCK.now)


async def test_they_are_served_in_order(backend, unit):
    """
    K5: first come, first served.
    """
    places = full()
    order: list[int] = []

    async def one(number: int) -> None:
        assert await wait_for(places)
        order.append(number)
        await anyio.sleep(unit / 100)
        places.give()

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(one, number)
            await anyio.wait_all_tasks_blocked()
        places.give()

    assert [0, 1, 2, 3, 4] == order
    assert (0, 0) == (places.taken, places.waiting)


async def test_who_waits_too_long_is_out_of_the_line(backend, unit):
    """
    K4: the time it may wait is over; nothing is held, nobody is kept.
    """
    places = full()
    began = loop_time()

    assert not await wait_for(places, unit)

    assert loop_time() - began >= unit - 0.002  # uvloop counts in milliseconds
    assert (1, 0) == (places.taken, places.waiting)


async def test_a_place_that_is_free_by_now_is_taken_without_a_wait(backend):
    """
    K6: what was given back between the refusal and the joining is not waited for.
    """
    places = full()
    waiter = waiter_here(1)
    places.join(waiter)
    places.give()

    assert await stand_in_line(places, waiter, lambda: math.inf, PROCESS_CLOCK.now)


async def test_time_is_over_in_the_moment_of_the_handing_over(backend):
    """
    BH-009: the place that is handed over when the wait ends is not lost, and is the waiter's.
    """
    places = full()
    waiter = waiter_here(1)
    places.join(waiter)

    def left() -> float:
        places.give()
        return 0.0

    assert await stand_in_line(places, waiter, left, PROCESS_CLOCK.now)
    assert 1 == places.taken


async def test_time_is_over_in_the_moment_of_the_sending_away(backend):
    """
    K8: sent away by another thread while it looks at the clock; out of the line, once.
    """
    places = full()
    waiter = waiter_here(1)
    places.join(waiter)

    def left() -> float:
        assert places.send_away(waiter)
        return 0.0

    assert not await stand_in_line(places, waiter, left, PROCESS_CLOCK.now)
    assert (1, 0) == (places.taken, places.waiting)


@pytest.mark.parametrize("moment", ["waiting", "handed"])
@pytest.mark.parametrize("how", ["scope", "task"])
async def test_a_cancelled_waiter_holds_nothing_and_keeps_nobody(backend, moment, how):
    """
    K7, H4, law 33: cancelled while it waits, or when a place has just been handed to it: the next one has it.
    """
    if how == "task" and backend == "trio":
        how = "scope"  # trio has no other way
    places = full()
    served: list[str] = []
    tasks: list[Any] = []

    async def first(scope: anyio.CancelScope) -> None:
        with scope:
            if how == "task":
                tasks.append(asyncio.current_task())
            try:
                await wait_for(places)
                served.append("first")
            except asyncio.CancelledError:
                served.append("cancelled")
                if how == "task":
                    assert tasks[0].uncancel() == 0
                    return
                raise

    async def second() -> None:
        await wait_for(places)
        served.append("second")

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        group.start_soon(first, scope)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        if moment == "handed":
            places.give()
            tasks[0].cancel() if how == "task" else scope.cancel()
        else:
            tasks[0].cancel() if how == "task" else scope.cancel()
            await anyio.wait_all_tasks_blocked()
            places.give()
        with anyio.move_on_after(1 if backend == "uvloop" else 100):
            while "second" not in served and "first" not in served:
                await anyio.lowlevel.checkpoint()
        if "first" in served:  # trio: what was done before the cancellation arrived counts
            places.give()

    assert "second" in served
    assert (1, 0) == (places.taken, places.waiting)


async def test_a_coroutine_that_is_closed_while_it_waits_leaves_the_line(backend):
    """
    H46: GeneratorExit ends the wait as a cancellation does.
    """
    places = full()
    coroutine = wait_for(places)
    coroutine.send(None)
    assert 1 == places.waiting

    coroutine.close()

    assert 0 == places.waiting


def test_nobody_waits_outside_of_a_loop() -> None:
    """
    A wait needs somebody to end it.
    """
    with pytest.raises(RuntimeError, match="task of asyncio or trio"):
        waiter_here(1)


def _in_threads(*runs: Callable[[], Any]) -> None:
    errors: list[BaseException] = []

    def body(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=body, args=(each,)) for each in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("first", ["asyncio", "trio", "uvloop"])
@pytest.mark.parametrize("second", ["asyncio", "trio", "uvloop"])
def test_a_place_goes_from_loop_to_loop(first: str, second: str) -> None:
    """
    H38, H39: who gives back in one thread wakes who waits in another, on any two loops.
    """
    places = full()
    rounds = 50
    backends = {
        "asyncio": {"backend": "asyncio"},
        "trio": {"backend": "trio"},
        "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    }

    async def loop() -> None:
        with anyio.fail_after(60):
            for _ in range(rounds):
                assert await wait_for(places)
                await anyio.lowlevel.checkpoint()
                places.give()

    def starter() -> None:
        places.give()

    _in_threads(
        lambda: anyio.run(loop, **backends[first]),
        lambda: anyio.run(loop, **backends[second]),
        starter,
    )

    assert (0, 0) == (places.taken, places.waiting)


def test_who_waits_on_a_loop_that_was_closed_is_passed_over() -> None:
    """
    H39: a loop that is closed under its waiters keeps no place, and its coroutine gives nothing back a second time.
    """
    places = full()
    loop = asyncio.new_event_loop()
    coroutine = wait_for(places)

    async def begin() -> None:
        coroutine.send(None)

    loop.run_until_complete(begin())
    loop.close()
    assert 1 == places.waiting

    async def other() -> None:
        assert places.join(waiter := waiter_here(1))
        places.give()
        assert await stand_in_line(places, waiter, lambda: math.inf, PROCESS_CLOCK.now)
        assert (1, 0) == (places.taken, places.waiting)
        coroutine.close()
        assert (1, 0) == (places.taken, places.waiting)
        places.give()

    run(other)
    gc.collect()
    assert 0 == places.taken


def test_who_waited_in_a_trio_run_that_is_over_is_passed_over() -> None:
    """
    H39: the same for trio.
    """
    places = full()
    waiters: list[Waiter] = []

    async def begin() -> None:
        waiters.append(waiter_here(1))
        places.join(waiters[0])
        with trio.move_on_after(0):
            await waiters[0].wait(math.inf)

    trio.run(begin)
    assert 1 == places.waiting
    places.give()
    assert (0, 0) == (places.taken, places.waiting)


def test_trio_as_a_guest_waits_on_trio() -> None:
    """
    Trap 5: where trio is a guest of asyncio, the running asyncio loop is not whose task it is.
    """
    places = full()
    answers: list[Any] = []

    async def guest() -> None:
        answers.append(await wait_for(places))

    async def host() -> None:
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda outcome: over.set_result(outcome.unwrap()),
        )
        while not places.waiting:  # noqa: ASYNC110 - another run is what is waited for
            await asyncio.sleep(0)
        places.give()
        await over

    asyncio.run(host())
    assert [True] == answers


@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_a_wake_before_the_first_wait_is_not_lost(kind: str) -> None:
    """
    K6: another thread may hand a place over before the waiter has come to wait; it looks first.
    """

    async def main() -> None:
        waiter = waiter_here(1)
        waiter.handed.append(None)
        assert waiter.wake()
        with anyio.fail_after(1):
            await waiter.wait(math.inf)

    run(main, backend=kind)  # type: ignore[arg-type]  # a name of a backend


async def test_ten_rounds_of_ten_racers_lose_no_place(backend, unit):
    """
    BH-009, BH-015: waits that end in the moment in which places come back; afterwards all places are there.
    """
    for _ in range(10):
        places = full()
        admitted = 0

        async def racer(places: Places = places) -> None:
            nonlocal admitted
            if await wait_for(places, unit):
                admitted += 1
                places.give()

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(racer)
            await anyio.sleep(unit)
            places.give()
        assert (0, 0) == (places.taken, places.waiting)
