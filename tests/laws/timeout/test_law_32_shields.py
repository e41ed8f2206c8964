"""
Law 32: shields are respected on every backend: a deadline waits until the task has left a shield it entered.

On trio the loop does that; on asyncio `Task.cancel` knows nothing of anyio's shields, and ``_shield.py`` looks for them
when a deadline fires. Each way there is to enter a shield is a case, and trio is the oracle for all of them.
"""

import asyncio
import contextlib

import anyio
import pytest

from resilience import Pipeline, Timeout, TimeoutExceededError
from resilience.policies import _wheel
from resilience.testing import Script, Wait
from tests.composition.support import about, breaker, pending_cancellations, timed


def shield():
    return anyio.CancelScope(shield=True)


WAYS = []


def way(function):
    """One way to be inside a shield of one's own until two units have passed."""
    WAYS.append(function)
    return function


@way
async def with_block(unit):
    with shield():
        await anyio.sleep(2 * unit)


@way
async def two_with_blocks(unit):
    with shield(), shield():
        await anyio.sleep(2 * unit)


@way
async def shield_in_a_shield(unit):
    with shield():
        with shield():
            await anyio.sleep(unit / 2)
        await anyio.sleep(3 * unit / 2)


@way
async def open_scope_in_a_shield(unit):
    with shield(), anyio.CancelScope():
        await anyio.sleep(2 * unit)


@way
async def many_waits(unit):
    with shield():
        for _ in range(8):
            await anyio.sleep(unit / 4)


@way
async def children_of_a_shielded_group(unit):
    async with anyio.create_task_group() as group:
        group.cancel_scope.shield = True
        group.start_soon(anyio.sleep, 2 * unit)


@way
async def body_of_a_shielded_group(unit):
    async with anyio.create_task_group() as group:
        group.cancel_scope.shield = True
        await anyio.sleep(2 * unit)


@way
async def group_within_a_shield(unit):
    with shield():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 2 * unit)


@way
async def fail_after(unit):
    with anyio.fail_after(9 * unit, shield=True):
        await anyio.sleep(2 * unit)


@way
async def move_on_after(unit):
    with anyio.move_on_after(2 * unit, shield=True):
        await anyio.sleep_forever()


@way
async def exit_stack(unit):
    with contextlib.ExitStack() as stack:
        stack.enter_context(shield())
        await anyio.sleep(2 * unit)


@way
async def async_exit_stack(unit):
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(anyio.fail_after(9 * unit, shield=True))
        await anyio.sleep(2 * unit)


@way
async def group_on_an_exit_stack(unit):
    async with contextlib.AsyncExitStack() as stack:
        group = await stack.enter_async_context(anyio.create_task_group())
        group.cancel_scope.shield = True
        group.start_soon(anyio.sleep, 2 * unit)


@contextlib.contextmanager
def generator_manager():
    with shield():
        yield


@way
async def in_a_generator_manager(unit):
    with generator_manager():
        await anyio.sleep(2 * unit)


@contextlib.asynccontextmanager
async def async_generator_manager(unit):
    with shield():
        yield
        await anyio.sleep(unit / 2)


@way
async def in_an_async_generator_manager(unit):
    async with async_generator_manager(unit):
        await anyio.sleep(3 * unit / 2)


class Manager:
    """A class that keeps a scope, as clients do."""

    def __enter__(self):
        self.scope = shield().__enter__()
        return self

    def __exit__(self, *reason):
        return self.scope.__exit__(*reason)


class SlottedManager(Manager):
    __slots__ = ("scope",)


class GroupManager:
    """A class that keeps a task group, as servers do."""

    async def __aenter__(self):
        self.group = await anyio.create_task_group().__aenter__()
        self.group.cancel_scope.shield = True
        return self

    async def __aexit__(self, *reason):
        return await self.group.__aexit__(*reason)


class StackManager:
    """A class that keeps an exit stack, and waits while it is entered."""

    def __init__(self, unit):
        self.unit = unit

    async def __aenter__(self):
        self.stack = contextlib.AsyncExitStack()
        self.stack.enter_context(shield())
        await anyio.sleep(2 * self.unit)
        return self

    async def __aexit__(self, *reason):
        return await self.stack.__aexit__(*reason)


@way
async def in_a_class(unit):
    with Manager():
        await anyio.sleep(2 * unit)


@way
async def in_a_slotted_class(unit):
    with SlottedManager():
        await anyio.sleep(2 * unit)


@way
async def in_a_class_with_a_group(unit):
    async with GroupManager():
        await anyio.sleep(2 * unit)


@way
async def leaving_a_class_with_a_group(unit):
    async with GroupManager() as manager:
        manager.group.start_soon(anyio.sleep, 2 * unit)


@way
async def entering_a_class_with_a_stack(unit):
    async with StackManager(unit):
        pass


@way
async def by_hand(unit):
    scope = shield()
    scope.__enter__()
    try:
        await anyio.sleep(2 * unit)
    finally:
        scope.__exit__(None, None, None)


@way
async def raised_later(unit):
    with anyio.CancelScope() as scope:
        await anyio.sleep(unit / 4)
        scope.shield = True
        await anyio.sleep(7 * unit / 4)


async def items(unit):
    with shield():
        for item in range(4):
            await anyio.sleep(unit / 2)
            yield item


@way
async def in_an_async_generator(unit):
    async for _ in items(unit):
        pass


@way
async def in_anext(unit):
    generator = items(unit)
    while True:
        try:
            await anext(generator)
        except StopAsyncIteration:
            break


class Awaitable:
    def __init__(self, unit):
        self.unit = unit

    def __await__(self):
        return with_block(self.unit).__await__()


@way
async def behind_an_awaitable(unit):
    await Awaitable(unit)


@way
async def far_below(unit, depth=30):
    await (far_below(unit, depth - 1) if depth else with_block(unit))


@way
async def in_another_guard(unit):
    await Timeout(50 * unit)(with_block, unit)


@way
async def cleaning_up(unit):
    try:
        await Script(Wait(unit / 4, OSError))()
    except OSError:
        with shield():
            await anyio.sleep(7 * unit / 4)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_deadline_waits_until_the_task_has_left_the_shield(backend, unit, way):
    """
    It falls due after one unit, inside; it cuts after two, at the first wait outside (law 32, trap 4).
    """
    left = []

    async def callee():
        await way(unit)
        left.append(anyio.current_time() - started)
        await anyio.sleep(50 * unit)

    started = anyio.current_time()
    error, took = await timed(Timeout(unit)(callee))

    assert isinstance(error, TimeoutExceededError)
    assert [about(2 * unit, backend)] == left
    assert about(2 * unit, backend) == took
    assert 0 == pending_cancellations()
    await anyio.sleep(unit / 10)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_result_that_follows_the_shield_at_once_is_kept(backend, unit, way):
    """
    No wait follows the shield: the call has its result, late as it is (laws 29 and 32).
    """

    async def callee():
        await way(unit)
        return "kept"

    answer, took = await timed(Timeout(unit)(callee))

    assert ("kept", about(2 * unit, backend)) == (answer, took)
    assert 0 == pending_cancellations()
    await anyio.sleep(unit / 10)


# ------------------------------------------------------------------------ what is no shield of ours


async def around_with(unit, guarded):
    with shield():
        return await timed(guarded())


async def around_group(unit, guarded):
    async with anyio.create_task_group() as group:
        group.cancel_scope.shield = True
        return await timed(guarded())


async def around_stack(unit, guarded):
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(shield())
        return await timed(guarded())


async def around_class(unit, guarded):
    async with GroupManager():
        return await timed(guarded())


async def around_generator(unit, guarded):
    async with async_generator_manager(0):
        return await timed(guarded())


AROUND = [around_with, around_group, around_stack, around_class, around_generator]


@pytest.mark.parametrize("around", AROUND, ids=lambda each: each.__name__)
@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "called"])
async def test_a_shield_around_the_guarded_call_does_not_concern_its_deadline(
    backend, unit, around, wrapped
):
    """
    Inside a shield of the caller's the deadline cuts the call on time (law 32).
    """
    policy = Timeout(unit)
    script = Script(Wait(50 * unit))
    guarded = policy.wrap(script) if wrapped else lambda: policy(script)

    error, took = await around(unit, guarded)

    assert isinstance(error, TimeoutExceededError)
    assert about(unit, backend) == took


@pytest.mark.parametrize("around", AROUND, ids=lambda each: each.__name__)
async def test_shields_around_and_within(backend, unit, around):
    """
    One around and one within: the one within is waited for, the one around is not (law 32).
    """

    async def callee():
        await with_block(unit)
        await anyio.sleep(50 * unit)

    error, took = await around(unit, lambda: Timeout(unit)(callee))

    assert isinstance(error, TimeoutExceededError)
    assert about(2 * unit, backend) == took


async def test_a_callee_that_holds_the_callers_shield_is_still_outside_of_it(backend, unit):
    """
    A method of a client whose own scope is a shield around the call: knowing it is not being in it (law 32).
    """

    class Client(GroupManager):
        async def fetch(self, scope):
            async with contextlib.nullcontext(self), contextlib.nullcontext(scope):
                await anyio.sleep(50 * unit)

    with shield() as scope:
        async with Client() as client:
            error, took = await timed(Timeout(unit)(client.fetch, scope))

    assert isinstance(error, TimeoutExceededError)
    assert about(unit, backend) == took


async def test_a_shield_in_another_task_does_not_concern_us(backend, unit):
    """
    A child that shields itself keeps its group waiting; the callee itself is cut on time (law 32).
    """
    cut = []

    async def callee():
        async with anyio.create_task_group() as group:
            group.start_soon(with_block, 2 * unit)
            try:
                await anyio.sleep(50 * unit)
            finally:
                cut.append(anyio.current_time() - started)

    started = anyio.current_time()
    error, took = await timed(Timeout(unit)(callee))

    assert isinstance(error, TimeoutExceededError)
    assert [about(unit, backend)] == cut
    assert about(4 * unit, backend) == took


async def test_a_shielded_call_keeps_no_other_waiting(backend, unit):
    """
    Calls under the same deadline beside one that is shielded are cut when they fall due (law 32).
    """
    policy = Timeout(unit)
    took = {}

    async def shielded():
        await with_block(unit)
        await anyio.sleep(50 * unit)

    async def call(name, callee):
        _, took[name] = await timed(policy(callee))

    async with anyio.create_task_group() as group:
        group.start_soon(call, "shielded", shielded)
        group.start_soon(call, "open", anyio.sleep_forever)
        await anyio.sleep(unit / 2)
        group.start_soon(call, "later", anyio.sleep_forever)

    assert about(unit, backend) == took["open"]
    assert about(unit, backend) == took["later"]
    assert about(2 * unit, backend) == took["shielded"]


async def test_a_shielded_call_is_looked_at_again_only_when_it_moves(backend, unit, monkeypatch):
    """
    However many deadlines of others pass meanwhile: a long shield must not cost more with each of them (law 32).
    """
    if backend == "trio":
        pytest.skip("asyncio's own")
    looked = []
    look = _wheel.when_unshielded
    monkeypatch.setattr(
        _wheel, "when_unshielded", lambda *about: looked.append(about[0]) or look(*about)
    )
    policy = Timeout(unit / 10)
    tasks = []

    async def shielded():
        tasks.append(asyncio.current_task())
        with shield():
            await anyio.sleep(2 * unit)
        await anyio.sleep(50 * unit)

    async def others():
        for _ in range(8):
            with pytest.raises(TimeoutExceededError):
                await policy(anyio.sleep_forever)

    async with anyio.create_task_group() as group:
        group.start_soon(timed, policy(shielded))
        group.start_soon(others)

    assert 1 == looked.count(*tasks)
    assert 9 == len(looked)


async def test_a_deadline_inside_the_shield_is_on_time(backend, unit):
    """
    The outer deadline waits for the shield, the inner one, whose whole call is inside it, does not (laws 31 and 32).
    """
    inner_took = []

    async def callee():
        with shield():
            _, took = await timed(Timeout(2 * unit)(anyio.sleep_forever))
            inner_took.append(took)
            await anyio.sleep(unit)
        await anyio.sleep(50 * unit)

    error, took = await timed(Timeout(unit)(callee))

    assert unit == error.seconds
    assert [about(2 * unit, backend)] == inner_took
    assert about(3 * unit, backend) == took


async def test_the_caller_may_leave_while_a_deadline_waits_for_a_shield(backend, unit):
    """
    Both wait for the shield: no cancellation escapes its scope and none is left (laws 29 and 32).
    """
    with anyio.move_on_after(unit) as scope:
        with contextlib.suppress(TimeoutExceededError):
            await Timeout(unit / 2)(cleanup_then_hang, unit)
        await anyio.sleep(50 * unit)

    assert scope.cancelled_caught
    assert 0 == pending_cancellations()
    await anyio.sleep(unit / 10)


@pytest.mark.parametrize("leaves", [0.5, 1.5], ids=["before", "after"])
@pytest.mark.parametrize("group", [False, True], ids=["scope", "group"])
async def test_a_scope_that_was_cancelled_meanwhile_has_the_last_word(backend, unit, leaves, group):
    """
    The deadline (1) waits for a shield (2); the caller's own scope ends before or after it, shielded from as well.

    The caller has left: cancelled, not timed out (laws 2 and 32), and no failure of the breaker's (law 3).
    """
    guard = breaker(failures=1)
    guarded = Pipeline(guard, Timeout(unit))
    ends = []

    async def callee():
        with shield():
            await anyio.sleep(2 * unit)
        await anyio.sleep(50 * unit)

    async def caller():
        try:
            await guarded(callee)
        except BaseException as error:
            ends.append(type(error))
            raise

    with anyio.move_on_after(leaves * unit) as scope:
        if group:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(caller)
        else:
            await caller()

    assert scope.cancelled_caught
    assert [anyio.get_cancelled_exc_class()] == ends
    totals = guard.snapshot().totals
    assert (0, 1) == (totals.failures, totals.ignored)
    assert 0 == pending_cancellations()
    await anyio.sleep(unit / 10)


@pytest.mark.parametrize("shielded", [False, True])
async def test_a_cancelled_scope_that_does_not_reach_the_call_changes_nothing(
    backend, unit, shielded
):
    """
    One inside, left again before the deadline, and one around a shield around the call: the call is timed out.
    """

    async def callee():
        with anyio.move_on_after(unit / 2):
            await anyio.sleep(50 * unit)
        with anyio.CancelScope(shield=shielded):
            await anyio.sleep(2 * unit)
        await anyio.sleep(50 * unit)

    with anyio.CancelScope() as scope:
        with shield():
            scope.cancel()
            with pytest.raises(TimeoutExceededError):
                await Timeout(unit)(callee)
        assert 0 == pending_cancellations()

    await anyio.sleep(unit / 10)


async def test_a_cancelled_scope_inside_keeps_no_deadline_off(backend, unit):
    """
    The callee's own scope and the deadline both wait for the shield: the deadline is around, and has the last word.
    """

    async def callee():
        with anyio.CancelScope() as inner:
            with shield():
                inner.cancel()
                await anyio.sleep(2 * unit)
            await anyio.sleep(50 * unit)
        await anyio.sleep(50 * unit)

    error, took = await timed(Timeout(unit)(callee))

    assert isinstance(error, TimeoutExceededError)
    assert about(2 * unit, backend) == took
    assert 0 == pending_cancellations()
    await anyio.sleep(unit / 10)


async def cleanup_then_hang(unit):
    await with_block(unit)
    await anyio.sleep_forever()


async def test_cleaning_up_after_the_cut_may_be_shielded(backend, unit):
    """
    The cut itself runs the callee's `finally`, whose shield is respected as everywhere (law 32, H13).
    """
    done = []

    async def callee():
        try:
            await anyio.sleep_forever()
        finally:
            with shield():
                await anyio.sleep(unit)
                done.append("released")

    error, took = await timed(Timeout(unit)(callee))

    assert isinstance(error, TimeoutExceededError)
    assert ["released"] == done
    assert about(2 * unit, backend) == took


async def test_asyncio_shield_keeps_the_inner_task_and_gives_up_waiting(backend, unit):
    """
    `asyncio.shield` protects what it shields, not the wait for it: the call is cut on time (law 32).
    """
    if backend == "trio":
        pytest.skip("asyncio's own")
    done = []

    async def inner():
        await asyncio.sleep(2 * unit)
        done.append(True)

    task = asyncio.get_running_loop().create_task(inner())
    error, took = await timed(Timeout(unit)(asyncio.shield, task))
    await task

    assert isinstance(error, TimeoutExceededError)
    assert about(unit, backend) == took
    assert [True] == done


async def test_a_breaker_learns_of_a_cut_that_waited_for_a_shield(backend, unit):
    """
    The verdict of a cut call is the same, shield or not: a failure (laws 3 and 32).
    """
    gate = breaker(1)

    async def callee():
        await with_block(unit)
        await anyio.sleep_forever()

    error, _ = await timed(Pipeline(Timeout(unit), gate, Timeout(unit / 2))(callee))

    assert isinstance(error, TimeoutExceededError)
    assert "OPEN" == gate.state.name
