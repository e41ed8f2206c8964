"""
Events for asynchronous consumers, published from any thread, on asyncio and on trio.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

import anyio
import pytest

from resilience import ConfigurationError, Pipeline
from resilience.events import CallFinished, RetryStopped
from resilience.telemetry import EventQueue
from resilience.testing import Script


def event(n):
    return RetryStopped(policy=f"r{n}", at=float(n), attempts=n, reason="attempts", error=None)


async def test_a_consumer_gets_the_events_of_the_process(backend, shop):
    """
    Entered, it hears what happens anywhere; left, it hears nothing, and the iteration ends.
    """
    queue = EventQueue()
    got = []

    async def consume():
        async for each in queue:
            got.append(type(each).__name__)  # noqa: PERF401 - an iteration is what is tested

    async with anyio.create_task_group() as group, queue as events:
        assert events is queue
        group.start_soon(consume)
        await anyio.wait_all_tasks_blocked()
        await shop.outcome(Script(OSError))
        with anyio.fail_after(30):
            while len(got) < 2:
                await anyio.lowlevel.checkpoint()
    await shop.outcome(Script(OSError))
    assert ["RetryScheduled", "RetryStopped"] == got
    assert (0, 0) == (len(queue), queue.dropped)


@pytest.mark.parametrize(("drop", "kept"), [("oldest", [3, 4, 5]), ("newest", [1, 2, 3])])
async def test_full_it_drops_and_counts(backend, drop, kept):
    """
    Bounded: which events go is the user's choice, and how many is known.
    """
    async with EventQueue(3, drop=drop, everywhere=False) as queue:
        for n in range(1, 6):
            queue(event(n))
        assert (3, 2) == (len(queue), queue.dropped)
        assert kept == [(await anext(queue)).attempts for _ in range(3)]


async def test_threads_publish_and_nothing_is_lost(backend):
    """
    Law 15: four threads and a consumer that falls asleep in between: every event arrives once.
    """
    got = []
    async with EventQueue(100_000, everywhere=False) as queue:

        def publish(base):
            for n in range(500):
                queue(event(base + n))

        threads = [threading.Thread(target=publish, args=(k * 1000,)) for k in range(4)]
        for thread in threads:
            thread.start()
        with anyio.fail_after(3600):
            while len(got) < 2000:
                got.append((await anext(queue)).attempts)
        for thread in threads:
            thread.join()
    assert sorted(got) == sorted(k * 1000 + n for k in range(4) for n in range(500))
    assert 0 == queue.dropped


async def test_a_cancelled_consumer_loses_nothing(backend):
    """
    Cancelled while it waits, or on its way to an event, the consumer leaves the event where it is.
    """
    async with EventQueue(everywhere=False) as queue:
        with anyio.move_on_after(0) as scope:
            await anext(queue)
        assert scope.cancelled_caught
        queue(event(1))
        with anyio.CancelScope() as cancelled:
            cancelled.cancel()
            await anext(queue)
        assert 1 == len(queue)
        assert 1 == (await anext(queue)).attempts


async def test_an_event_that_comes_between_two_looks_is_not_slept_through(backend):
    """
    Published after the consumer found nothing and before it could be woken: it looks again before it sleeps.
    """

    class Late(deque):
        """Another thread publishes just after the first look."""

        def popleft(self):
            if not self:
                self.append(event(1))
                raise IndexError
            return super().popleft()

    async with EventQueue(everywhere=False) as queue:
        queue._items = Late()
        with anyio.fail_after(30):
            assert 1 == (await anext(queue)).attempts


async def test_several_consumers_share_the_events(backend):
    """
    Each event goes to one of them, and none of them sleeps on.
    """
    got = []

    async def consume(queue):
        async for each in queue:
            got.append(each.attempts)  # noqa: PERF401 - (as above)

    async with anyio.create_task_group() as group, EventQueue(everywhere=False) as queue:
        for _ in range(3):
            group.start_soon(consume, queue)
        await anyio.wait_all_tasks_blocked()
        for n in range(9):
            queue(event(n))
        with anyio.fail_after(30):
            while len(got) < 9:
                await anyio.lowlevel.checkpoint()
    assert list(range(9)) == sorted(got)


async def test_it_is_entered_once_at_a_time_and_can_be_entered_again(backend):
    """
    Two blocks at once would share one iteration; one after the other is fine and begins empty.
    """
    queue = EventQueue(everywhere=False)
    async with queue:
        queue(event(1))
        with pytest.raises(RuntimeError, match="once at a time"):
            async with queue:
                pass
    queue(event(2))
    async with queue:
        assert 0 == len(queue)


async def test_it_may_stand_in_a_pipeline(backend):
    """
    With ``everywhere=False`` it hears the pipelines it stands in.
    """
    queue = EventQueue(listens_to=(CallFinished,), everywhere=False)
    guarded = Pipeline(name="mine", listeners=[queue])
    async with queue:
        await guarded(Script())
        await Pipeline(name="other")(Script())
        assert "mine" == (await anext(queue)).pipeline
        assert 0 == len(queue)


def test_a_loop_that_is_gone_takes_no_publisher_with_it():
    """
    A block that was never left because its loop died: publishing does nothing, and raises nothing.
    """

    async def enter():
        queue = EventQueue(everywhere=False)
        await queue.__aenter__()
        task = asyncio.ensure_future(queue.__anext__())
        await asyncio.sleep(0.01)
        task.cancel()
        return queue

    queue = asyncio.run(enter())
    queue(event(1))
    assert 1 == len(queue)


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"drop": "all"}, {"everywhere": 1}], ids=lambda o: next(iter(o))
)
def test_bad_options_are_refused(options):
    """
    One error that names the field.
    """
    (field,) = options
    with pytest.raises(ConfigurationError, match=rf"EventQueue\.{field} must be"):
        EventQueue(**options)
