"""
Law 30: the call runs in the caller's task and context; nothing is spawned to time out.
"""

import asyncio
import contextvars

import anyio
import pytest
import trio
from tenacity import wait_none

from resilience import Pipeline, Retry, Timeout
from resilience.testing import Script, Wait
from tests.composition.support import breaker, timed

REQUEST = contextvars.ContextVar("request", default="none")

GUARDS = {
    "timeout": lambda: Timeout(100),
    "timeouts": lambda: Pipeline(Timeout(100), Timeout(90)),
    "a function": lambda: Timeout(lambda call: 100),
    "three": lambda: Pipeline(
        Timeout(100), Retry(2, on=OSError, wait=wait_none()), breaker(), Timeout(30)
    ),
}


def current_task(backend):
    return trio.lowlevel.current_task() if backend == "trio" else asyncio.current_task()


def tasks(backend):
    """How many tasks there are."""
    if backend == "trio":
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


@pytest.fixture(params=GUARDS)
def guard(request):
    return GUARDS[request.param]()


async def test_the_callee_runs_in_the_callers_task(backend, guard):
    """
    Whoever asks for the current task inside gets the caller's, and no task has been added (law 30).
    """
    seen = []

    async def callee():
        await anyio.lowlevel.checkpoint()
        seen.append((current_task(backend), tasks(backend)))

    before = tasks(backend)
    await guard(callee)
    await guard.wrap(callee)()

    assert [(current_task(backend), before)] * 2 == seen
    assert before == tasks(backend)


async def test_context_variables_set_inside_are_seen_outside(backend, guard):
    """
    The callee's context is the caller's, in both directions (law 30, H42, TO-006).
    """

    async def callee():
        seen = REQUEST.get()
        REQUEST.set("set inside")
        await anyio.lowlevel.checkpoint()
        return seen

    REQUEST.set("set outside")

    assert "set outside" == await guard(callee)
    assert "set inside" == REQUEST.get()


async def test_what_a_cut_call_set_is_kept(backend, unit):
    """
    Also a call that is cut off ran in the caller's context (law 30).
    """

    async def callee():
        REQUEST.set("before the cut")
        await anyio.sleep_forever()

    error, _ = await timed(Timeout(unit)(callee))

    assert isinstance(error, TimeoutError)
    assert "before the cut" == REQUEST.get()


async def test_attempts_share_the_context(backend):
    """
    What one attempt sets the next one sees: attempts are calls in one task, not copies of a context (H42).
    """
    seen = []

    async def callee():
        seen.append(REQUEST.get())
        REQUEST.set(f"attempt {len(seen)}")
        if len(seen) < 3:
            raise OSError

    REQUEST.set("outside")
    await Retry(3, on=OSError, wait=wait_none())(callee)

    assert ["outside", "attempt 1", "attempt 2"] == seen


async def test_a_nursery_opened_by_the_callee_is_its_own(backend, unit):
    """
    A callee that opens a task group in the caller's task closes it there: the scopes nest (law 30, finding 3).
    """

    async def callee():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, unit)
        return "closed"

    with anyio.CancelScope():
        assert "closed" == await Timeout(50 * unit)(callee)


async def test_a_resource_delivered_in_the_tick_of_the_deadline_is_not_lost(backend):
    """
    A connection is returned or the callee closes it; none is left open in between (finding 3, G16).

    Libraries that run the call in a task of its own lose 300 of 300.
    """
    if backend == "uvloop":
        pytest.skip("real time: the tick of the deadline cannot be hit there")
    opened, closed, returned = [], [], []

    async def connect():
        await anyio.sleep(1)
        opened.append(object())
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException:
            closed.append(opened[-1])
            raise
        return opened[-1]

    for _ in range(100):
        answer, _ = await timed(Timeout(1)(connect))
        if not isinstance(answer, TimeoutError):
            returned.append(answer)

    assert len(opened) == len(closed) + len(returned)
    assert not set(map(id, closed)) & set(map(id, returned))


async def test_many_calls_in_flight_add_no_task(backend, unit):
    """
    A hundred guarded calls at once are a hundred tasks, the callers' (law 30).
    """
    guarded = Timeout(50 * unit).wrap(Script(Wait(unit)))

    async with anyio.create_task_group() as group:
        before = tasks(backend)
        for _ in range(100):
            group.start_soon(guarded)
        await anyio.sleep(unit / 2)
        assert before + 100 == tasks(backend)
