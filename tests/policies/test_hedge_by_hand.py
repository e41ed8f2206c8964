"""
A hedged call whose coroutine is driven, closed or cancelled by hand, on asyncio: nothing is left running.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import anyio
import pytest

from resilience import Hedge, Pipeline
from resilience.testing import VirtualEventLoop


def virtually(main: Any) -> Any:
    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        return runner.run(main())


def others() -> list[asyncio.Task[Any]]:
    return [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]


async def gone() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    assert [] == others()


def test_closed_while_an_attempt_runs():
    """
    Trap 1: ``coro.close()``: the attempts beside the first end without it, and no timer is left.
    """

    async def main() -> None:
        ended: list[int] = []

        async def callee(call: Any) -> None:
            try:
                await asyncio.sleep(9)
            finally:
                ended.append(call.attempt)

        hedged = Pipeline(Hedge(1, max_hedges=2, idempotent=True)).informed(callee)
        coroutine = hedged()
        coroutine.send(None)
        await asyncio.sleep(1.5)
        coroutine.close()
        await gone()
        assert [1, 2] == sorted(ended)

    virtually(main)


def test_closed_while_the_losers_end():
    """
    Trap 1: closed in the middle of its clean-up: it does not wait, and the loser ends all the same.
    """

    async def main() -> None:
        ended: list[int] = []

        async def callee(call: Any) -> int:
            if call.attempt == 1:
                await woken.wait()
                return 1
            with anyio.CancelScope(shield=True):
                started.set()
                await asyncio.sleep(5)
            ended.append(call.attempt)
            return 2

        woken, started = asyncio.Event(), asyncio.Event()
        hedged = Pipeline(Hedge(1, idempotent=True)).informed(callee)
        coroutine = hedged()

        async def drive() -> None:
            waiting = coroutine.send(None)
            await started.wait()
            woken.set()
            while not waiting.done():  # noqa: ASYNC110 - what is driven by hand wakes nobody
                await asyncio.sleep(0)
            coroutine.send(None)
            coroutine.close()

        await drive()
        await asyncio.sleep(6)
        await gone()
        assert [2] == ended

    virtually(main)


def test_cancelled_while_the_losers_end():
    """
    Law 2: who leaves while the loser ends is gone, after it has ended; the answer goes to on_discard, once.
    """

    async def main() -> None:
        discarded: list[int] = []
        ended: list[float] = []

        async def callee(call: Any) -> int:
            if call.attempt == 1:
                await asyncio.sleep(2)
                return 1
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(5)
            ended.append(asyncio.get_running_loop().time())
            return 2

        hedge = Hedge(1, idempotent=True, on_discard=discarded.append)
        task = asyncio.create_task(Pipeline(hedge).informed(callee)())
        await asyncio.sleep(3)
        task.cancel()
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 1 == len(ended)
        assert 1 in discarded
        await gone()

    virtually(main)


def test_cancelled_again_while_the_losers_end():
    """
    Law 2: who left already and is cancelled once more leaves once, after the loser has ended.
    """

    async def main() -> None:
        ended: list[int] = []

        async def callee(call: Any) -> None:
            if call.attempt == 1:
                await asyncio.sleep(9)
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(5)
            ended.append(call.attempt)

        task = asyncio.create_task(Pipeline(Hedge(1, idempotent=True)).informed(callee)())
        for _ in range(2):
            await asyncio.sleep(1.5)
            task.cancel("gone")
        with pytest.raises(asyncio.CancelledError, match="gone"):
            await task
        assert [2] == ended
        await gone()

    virtually(main)


def test_a_conductor_that_is_cancelled_from_outside():
    """
    Whoever cancels all tasks of a loop, as at its end, gets them all, and the call fails with what its first did.
    """

    async def main() -> None:
        async def callee(call: Any) -> None:
            await asyncio.sleep(1 + call.attempt)
            raise OSError(str(call.attempt))

        hedged = Pipeline(Hedge(1, max_hedges=3, idempotent=True)).informed(callee)
        task = asyncio.create_task(hedged())
        await asyncio.sleep(1.5)
        for each in others():
            if each is not task:
                each.cancel()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.wait_for(task, 60)
        assert task.done()
        await gone()

    virtually(main)
