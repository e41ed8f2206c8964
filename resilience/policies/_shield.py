"""
anyio's shields, for a deadline that cancels the task by hand.

A scope of anyio with ``shield=True`` keeps cancellation out, and ``Task.cancel`` knows nothing of it. So when a
deadline fires, and only then, this file looks whether the task is inside a shield that was entered *within* the guarded
call, and if so waits until it has left. A shield *around* the guarded call does not concern its deadline. By then a
scope around the call may be cancelled as well; then the caller has left, and the deadline has nothing more to say: so
it is on trio, too.

anyio keeps, for each task, the chain of its scopes (``_task_states``); which of them were entered inside the guard is
read off the suspended frames below it: a ``with`` block keeps the exit method of what it entered on its frame, and what
is entered is the scope or a manager that has it. What is found on neither side of the guard counts as around it. These
internals are looked up by name and nowhere else; without them no shield is seen, as in `asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack
from typing import Any

from resilience._fronts import LANE

__all__ = ["when_unshielded"]

_SUSPENDED = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_EXITS = frozenset({"__exit__", "__aexit__"})
_MANAGING = frozenset({"__enter__", "__aenter__"}) | _EXITS
_DEPTH = 4


def when_unshielded(
    task: asyncio.Task[Any],
    call: object,
    entries: Mapping[Any, object],
    loop: asyncio.AbstractEventLoop,
    act: Callable[[], object],
) -> bool:
    """
    Whether the guard whose frame holds both *call*, a task for its first, and *entries* must not cancel *task* now.

    Where the task is shielded inside the guard, *act* is called as soon as it no longer is, before a later wait of the
    task can go unseen. Where a scope around the guard has been cancelled, or the entry of *call* is no longer the same
    by then, it is never called.
    """
    chain = list(_scopes_of(task))
    if not any(scope.shield or scope.cancel_called for scope in chain):
        return False
    # A scope of another task was entered before this task began, so outside every guard of it.
    ours = {id(scope) for scope in chain if getattr(scope, "_host_task", None) is task}
    within = _entered_within(task, call, entries, ours)
    if not any(scope.shield and id(scope) in within for scope in chain):
        return _left([scope for scope in chain if id(scope) not in within])

    entry = entries.get(call)

    def look_again(_: object = None) -> None:
        # The call may have ended, and the next one of its task be in its place.
        if entries.get(call) is entry and not when_unshielded(task, call, entries, loop, act):
            act()

    # The task moves only when what it waits for is done; our callback runs after the task's own, so after its step.
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None:
        loop.call_soon(look_again)
    else:
        waiter.add_done_callback(look_again)
    return True


def _left(around: list[Any]) -> bool:
    """Whether one of these scopes, from the innermost on, is cancelled and not shielded from."""
    for scope in around:
        if scope.cancel_called:
            return True
        if scope.shield:
            return False
    return False


def _entered_within(
    task: asyncio.Task[Any], call: object, entries: object, scopes: set[int]
) -> set[int]:
    """Which of these scopes, by their ids, were entered inside the guard."""
    around: dict[int, int] = {}
    within: dict[int, int] = {}
    found = around
    for owner in _suspended(task.get_coro()):
        frame = _frame_of(owner)
        names = {} if frame is None else frame.f_locals
        # One that was entered by hand is at least a variable here; the weakest of signs.
        by_hand = ((each, _DEPTH - 1) for each in names.values())
        for each, distance in (*_entered_by(owner, 0), *by_hand):
            if id(each) in scopes:
                found[id(each)] = min(distance, found.get(id(each), _DEPTH))
        if _guards(names, call, entries):
            found = within
    # What is found on both sides, as an attribute of something, was entered on the side that is nearer to it.
    return {each for each, distance in within.items() if distance < around.get(each, _DEPTH)}


def _guards(names: Mapping[str, object], call: object, entries: object) -> bool:
    """Whether a frame with these variables is the guard: a step's, or the express lane's with several in one."""
    if (names.get("call") is call or names.get("key") is call) and names.get("entries") is entries:
        return True
    # A frame of the lane that has left for the steps has never begun a deadline.
    return (
        f"{LANE}now" in names
        and names.get(f"{LANE}task") is call
        and any(each is entries and name.startswith(LANE) for name, each in names.items())
    )


def _scopes_of(task: asyncio.Task[Any]) -> Iterator[Any]:
    """The scopes of anyio around what the task does now, from the innermost on."""
    backend = sys.modules.get("anyio._backends._asyncio")
    state = getattr(backend, "_task_states", {}).get(task)
    scope = getattr(state, "cancel_scope", None)
    while scope is not None:
        yield scope
        scope = getattr(scope, "_parent_scope", None)


def _suspended(
    outermost: Coroutine[Any, Any, Any] | Generator[Any, Any, Any] | None,
) -> Iterator[Any]:
    """The coroutines and generators that wait for one another, from the outermost to the innermost."""
    node: Any = outermost
    while node is not None:
        if isinstance(node, _SUSPENDED):
            yield node
            node = (
                getattr(node, "cr_await", None)
                or getattr(node, "gi_yieldfrom", None)
                or getattr(node, "ag_await", None)
            )
        else:
            # anext() and the like: an awaitable that wraps the frame it drives.
            node = next(
                (each for each in gc.get_referents(node) if isinstance(each, _SUSPENDED)), None
            )


def _frame_of(owner: object) -> types.FrameType | None:
    return next((getattr(owner, name) for name in _FRAMES if hasattr(owner, name)), None)


def _entered_by(owner: object, distance: int) -> Iterator[tuple[object, int]]:
    """What the ``with`` blocks of a suspended frame have entered, and how far below it stands."""
    for held in gc.get_referents(owner):
        if isinstance(held, types.MethodType) and held.__name__ in _EXITS:
            yield from _managed(held.__self__, distance)
    # A manager that waits in its own entering or leaving is not, or no longer, held by the ``with`` block.
    frame = _frame_of(owner)
    if frame is not None and frame.f_code.co_name in _MANAGING and frame.f_code.co_argcount:
        yield from _managed(frame.f_locals.get(frame.f_code.co_varnames[0]), distance)


def _managed(manager: Any, distance: int) -> Iterator[tuple[object, int]]:
    """A context manager, and those it was made of."""
    if distance >= _DEPTH:
        return
    yield manager, distance
    generator = getattr(manager, "gen", None)
    if isinstance(generator, Generator | AsyncGenerator):
        yield from _entered_by(generator, distance)
    if isinstance(manager, ExitStack | AsyncExitStack):
        for _, callback in manager._exit_callbacks:  # type: ignore[union-attr] # noqa: SLF001
            yield from _entered_by((callback,), distance)
    for part in _attributes(manager):
        if any(hasattr(type(part), name) for name in _EXITS):
            yield from _managed(part, distance + 1)


def _attributes(thing: object) -> Iterator[object]:
    yield from getattr(thing, "__dict__", {}).values()
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(thing, name, None)
