"""
The sweep in the suite: nothing leaks and nothing is swallowed, wherever a call is cancelled.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from resilience import Timeout
from resilience.testing import run
from tests.instruments.__main__ import cancellation_table
from tests.instruments.cancellation import (
    BLOCKS,
    DOORS,
    KINDS,
    POINTS_FILE,
    SHAPES,
    Report,
    points_text,
    scenarios,
    sweep,
    takes,
)


@pytest.fixture(scope="module")
def report() -> Report:
    made = sweep(scenarios())
    cancellation_table(made)
    return made


def test_nothing_leaks_and_nothing_is_swallowed(report: Report) -> None:
    """
    Laws 2, 3, 10 and 33, G4, H1, H3, H5, H12 to H15: before every step, once and at every wait, on both backends.
    """
    assert [] == report.wrong[:5]
    assert {"asyncio edge", "asyncio level", "asyncio closed", "trio level", "trio closed"} == set(
        report.runs
    )
    assert report.runs.total() > 20_000


def test_every_door_and_every_ordered_pair_is_there(report: Report) -> None:
    """
    G4: each policy alone and each ordered pair, behind each door, unless a pipeline refuses the pair.
    """
    for backend in ("asyncio", "trio"):
        swept = {(each.door, each.shape) for where, each in report.points if where == backend}
        wanted = {(door, shape) for door in DOORS for shape in SHAPES if takes(door, shape)}
        refused = wanted - swept
        assert {" > ".join(shape) for _, shape in refused} == report.refused
    assert {"Timeout (fires) > Timeout"} == report.refused
    pairs = len(KINDS) * (len(KINDS) + len(BLOCKS))
    assert pairs == sum(len(shape) == 2 for shape in SHAPES)
    assert sum(map(len, report.points.values())) > 1000


def test_the_points_are_those_of_the_list(report: Report) -> None:
    """
    A place in which a call waits that was not there before is a change to look at, and to keep.
    """
    kept = POINTS_FILE.read_text(encoding="utf-8").splitlines()
    found = points_text(report).splitlines()
    changed = list(difflib.unified_diff(kept, found, "kept", "found", n=0, lineterm=""))
    assert not changed, "\n".join([*changed[:20], "python -m tests.instruments points --write"])


async def _plain() -> None:
    await asyncio.sleep(100)


async def _child() -> None:
    await asyncio.create_task(asyncio.sleep(100))


async def _gathering() -> None:
    await asyncio.gather(asyncio.sleep(100), asyncio.sleep(101))


async def _group() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 100)


async def _theirs(callee: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(10):
        await callee()


async def _ours(callee: Callable[[], Awaitable[None]]) -> None:
    await Timeout(10)(callee)


def _ended(how: str, order: str, timed: Awaitable[None]) -> list[str]:
    """Whatever can be seen of a call whose caller leaves in the instant in which its deadline fires."""
    seen: list[str] = []

    async def host() -> None:
        task: Any = asyncio.current_task()
        loop = asyncio.get_running_loop()
        try:
            with anyio.CancelScope() as scope:
                leave = task.cancel if how == "edge" else scope.cancel
                if order == "before":
                    loop.call_at(loop.time() + 10, leave)
                else:
                    # Two steps, so that the timer stands behind that of the deadline.
                    loop.call_at(
                        loop.time() + 5, lambda at: loop.call_at(at, leave), loop.time() + 10
                    )
                try:
                    await timed
                except BaseException as error:
                    kind = TimeoutError if isinstance(error, TimeoutError) else type(error)
                    seen.append(f"the door: {kind.__name__}")
                    raise
        except (asyncio.CancelledError, TimeoutError):
            seen.append("left the scope")
        seen.append(f"caught {scope.cancelled_caught}, cancelling {task.cancelling()}")
        while task.cancelling():
            task.uncancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            seen.append("cancelled again")

    async def main() -> None:
        await asyncio.wait([asyncio.create_task(host())])

    run(main)
    return seen


def _ties() -> Iterator[Any]:
    for callee in (_plain, _child, _gathering, _group):
        for how in ("edge", "level"):
            for order in ("before", "after"):
                yield pytest.param(callee, how, order, id=f"{callee.__name__[1:]}-{how}-{order}")


@pytest.mark.parametrize(("callee", "how", "order"), list(_ties()))
def test_a_tie_of_caller_and_deadline_ends_as_with_asyncio_timeout(
    callee: Callable[[], Awaitable[None]], how: str, order: str
) -> None:
    """
    Law 29, H7, H15: a caller who leaves in the instant of the deadline gets what `asyncio.timeout` would give.
    """
    assert _ended(how, order, _theirs(callee)) == (ours := _ended(how, order, _ours(callee)))
    if how == "edge":
        assert ["the door: CancelledError", "left the scope", "caught False, cancelling 1"] == ours[
            :3
        ]
