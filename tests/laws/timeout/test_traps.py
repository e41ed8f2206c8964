"""
The traps that guards without a scope of their own fall into: each was a bug of a prototype, and is a test here.

Numbers are those of the list of traps. 3 (a swallowed cancellation) is in ``test_law_29``, 4 (shields) in
``test_law_32``, 7 (tenacity's state) in ``tests/laws/retry/test_law_28``; 6 and 8 are not about deadlines.
"""

import asyncio
import contextlib
import gc
import math
import threading
import time
import types
import weakref

import anyio
import pytest
import trio

from resilience import Pipeline, Retry, Timeout, TimeoutExceededError
from resilience.testing import Hang, Script, VirtualEventLoop, Wait
from tests.composition.support import about, breaker, pending_cancellations, timed


def asyncio_only(backend):
    if backend == "trio":
        pytest.skip("about asyncio's tasks; trio's scopes are trio's own")


@types.coroutine
def turn():
    """Hand control back once, to whoever drives."""
    return (yield)


# ------------------------------------------------------------------- 1: coroutines that are given up


@pytest.mark.parametrize("how", ["close", "collect", "throw"])
async def test_a_coroutine_given_up_cancels_nothing_later(backend, unit, how):
    """
    Trap 1: a guarded coroutine that was begun and closed has no deadline any more, so nothing unrelated is cut by it.
    """
    running = Timeout(unit)(Script(Hang()))
    running.send(None)
    if how == "close":
        running.close()
    elif how == "throw":
        with pytest.raises(KeyError):
            running.throw(KeyError())
    del running
    gc.collect()

    await anyio.sleep(3 * unit)

    assert 0 == pending_cancellations()


async def test_a_coroutine_given_up_unstarted_leaves_nothing(backend):
    """
    Trap 1: one that never ran has no deadline, no permit, and made no coroutine of the callee's (H46).
    """
    script = Script(42)
    coroutine = Pipeline(Timeout(5), breaker(), Timeout(1)).wrap(script)()
    coroutine.close()

    assert 0 == script.calls


# ------------------------------------------------------------------- 2: re-entry


async def test_a_guard_entered_again_by_the_same_task_keeps_both_deadlines(backend, unit):
    """
    Trap 2: the inner call ends well, the outer one's deadline is still there and cuts on time.
    """
    policy = Timeout(3 * unit)

    async def outer():
        await anyio.sleep(unit)
        assert "inner" == await policy(Script(Wait(unit, "inner")))
        await anyio.sleep(50 * unit)

    error, took = await timed(policy(outer))

    assert isinstance(error, TimeoutExceededError)
    assert about(3 * unit, backend) == took
    assert 0 == pending_cancellations()


async def test_a_wrapped_function_may_call_itself(backend, unit):
    """
    Trap 2: recursion through the guard, ten deep; the innermost hangs, and the outermost deadline is the first.
    """
    depth = []

    @Timeout(2 * unit).wrap
    async def recurse(n):
        depth.append(n)
        await (recurse(n - 1) if n else anyio.sleep_forever())

    error, took = await timed(recurse(10))

    assert isinstance(error, TimeoutExceededError)
    assert list(range(10, -1, -1)) == depth
    assert about(2 * unit, backend) == took
    assert 0 == pending_cancellations()
    await anyio.sleep(3 * unit)


async def test_a_guard_entered_again_one_call_after_the_other(backend, unit):
    """
    Trap 2: what ended is forgotten; the second call has its own whole time.
    """
    policy = Timeout(2 * unit)

    assert 1 == await policy(Script(Wait(1.5 * unit, 1)))
    assert 2 == await policy(Script(Wait(1.5 * unit, 2)))
    error, took = await timed(policy(Script(Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert about(2 * unit, backend) == took


# ------------------------------------------------------------------- 5: tasks that are not as usual


async def test_two_coroutines_driven_by_hand_in_one_task(backend, unit):
    """
    Trap 5: two guards in one task that do not nest: each ends by itself, and neither's end disturbs the other.
    """
    asyncio_only(backend)

    async def callee(name):
        for _ in range(3):
            await turn()
        return name

    first, second = Timeout(unit)(callee, "first"), Timeout(2 * unit)(callee, "second")
    ended = []
    running = [first, second]
    while running:
        for each in tuple(running):
            try:
                each.send(None)
            except StopIteration as end:
                ended.append(end.value)
                running.remove(each)

    assert ["first", "second"] == ended
    await anyio.sleep(3 * unit)
    assert 0 == pending_cancellations()


async def test_a_deadline_of_a_coroutine_driven_by_hand_cuts_its_driver(backend, unit):
    """
    Trap 5: the task that drives is cancelled; if it hands that on, the guard knows it as its own.
    """
    asyncio_only(backend)

    async def callee():
        while True:
            await turn()

    short, long = Timeout(unit)(callee), Timeout(50 * unit)(callee)
    short.send(None)
    long.send(None)
    with pytest.raises(asyncio.CancelledError) as caught:
        await anyio.sleep(20 * unit)
    with pytest.raises(TimeoutExceededError) as cut:
        short.throw(caught.value)

    assert unit == cut.value.seconds
    assert 0 == pending_cancellations()
    long.close()
    await anyio.sleep(60 * unit if backend != "uvloop" else unit)


def test_outside_of_a_task_there_is_one_clear_error():
    """
    Trap 5: driven by hand without a loop, or from a callback of one: no deadline can be kept, and it says so.
    """
    with pytest.raises(RuntimeError, match=r"Timeout\(1\.0\) must be awaited in a task"):
        Timeout(1)(Script(42)).send(None)

    loop = asyncio.new_event_loop()
    found = []

    def callback():
        try:
            Timeout(1)(Script(42)).send(None)
        except RuntimeError as error:
            found.append(str(error))
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    loop.close()

    assert ["Timeout(1.0) must be awaited in a task of asyncio or trio"] == found


async def test_an_eager_task_that_is_done_at_its_creation(backend, unit):
    """
    Trap 5, H41: an eager task may run its guarded call, end, or begin to wait before `create_task` returns.
    """
    if backend != "asyncio+eager":
        pytest.skip("eager tasks are a backend of their own")
    policy = Timeout(unit)
    done = asyncio.create_task(policy(Script(42)))
    assert done.done()
    waiting = asyncio.create_task(policy(Script(Hang())))
    assert not waiting.done()
    started = anyio.current_time()

    answers = await asyncio.gather(done, waiting, return_exceptions=True)

    assert 42 == answers[0]
    assert isinstance(answers[1], TimeoutExceededError)
    assert about(unit, backend) == anyio.current_time() - started
    assert 0 == pending_cancellations() == waiting.cancelling()


def run_as_guest(main):
    """Run *main* in trio as the guest of an asyncio loop, beside a task of the host."""
    outcome = []

    async def host():
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def ended(result):
            outcome.append(result)
            done.set()

        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended,
            host_uses_signal_set_wakeup_fd=True,
        )
        beside = []
        with contextlib.suppress(TimeoutExceededError):
            await Timeout(0.02)(asyncio.sleep, 30)
            beside.append("not cut")
        beside.append(await Pipeline(Timeout(30), Retry(2, on=OSError))(Script(OSError, "host")))
        await done.wait()
        return beside

    beside = asyncio.run(host())
    return outcome[0].unwrap(), beside


def test_trio_as_a_guest_of_an_asyncio_loop():
    """
    Trap 5: an asyncio loop runs in this thread, and yet the call is trio's; deadlines and waits of both work.
    """

    async def guest():
        policy = Timeout(0.02)
        with pytest.raises(TimeoutExceededError):
            await policy(trio.sleep_forever)
        with pytest.raises(TimeoutExceededError):
            await policy.wrap(anyio.sleep_forever)()
        await trio.sleep(0.05)
        guarded = Pipeline(Timeout(30), Retry(3, on=OSError), breaker(), Timeout(3))
        remaining = []

        async def callee(call):
            remaining.append(call.remaining())
            if call.attempt < 2:
                raise OSError
            return "guest"

        answer = await guarded.informed(callee)()
        assert all(2.5 < each <= 3.001 for each in remaining)
        return answer

    assert ("guest", ["host"]) == run_as_guest(guest)


# ------------------------------------------------------------------- 9 and 10


@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_deadlines_are_told_on_the_process_clock(library):
    """
    Trap 9: trio's clock begins anywhere; `Call.deadline` is monotonic time whatever the loop counts by.
    """

    async def callee(call):
        await anyio.lowlevel.checkpoint()
        return call.deadline - time.monotonic(), call.remaining()

    async def main():
        return await Timeout(30).informed(callee)()

    left, remaining = anyio.run(main, backend=library)

    assert 29 < left <= 30.001
    assert 29 < remaining <= 30.001


@pytest.mark.parametrize(
    ("ignore", "state"),
    [
        (OSError, "OPEN"),
        (TimeoutError, "OPEN"),
        (lambda error: isinstance(error, OSError), "OPEN"),
        (TimeoutExceededError, "CLOSED"),
        ((KeyError, TimeoutExceededError), "CLOSED"),
    ],
    ids=["OSError", "TimeoutError", "predicate", "itself", "itself among others"],
)
async def test_ignoring_os_errors_does_not_ignore_timeouts(backend, unit, ignore, state):
    """
    Trap 10: `TimeoutError` is an `OSError`; our own deadline is a failure unless it is named itself (law 5).
    """
    gate = breaker(1, on=ConnectionError, ignore=ignore)

    error, _ = await timed(Pipeline(gate, Timeout(unit))(Script(Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert state == gate.state.name


# ------------------------------------------------------------------- the wheel


async def test_calls_of_one_deadline_fall_due_in_their_own_time(backend, unit):
    """
    Started apart, cut apart: each after its own two units, by one timer that moves from one to the next.
    """
    policy = Timeout(2 * unit)
    took = []

    async def call(delay):
        await anyio.sleep(delay)
        took.append((await timed(policy(Script(Hang()))))[1])

    async with anyio.create_task_group() as group:
        for n in range(5):
            group.start_soon(call, n * unit / 2)

    assert [about(2 * unit, backend)] * 5 == took


async def test_a_call_that_ended_early_does_not_move_the_others(backend, unit):
    """
    The timer was set for a call that is gone: those behind it are cut when they fall due, not with it and not never.
    """
    policy = Timeout(2 * unit)

    async def first():
        await policy(anyio.sleep, unit / 4)

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await anyio.sleep(unit / 2)
        error, took = await timed(policy(Script(Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert about(2 * unit, backend) == took


async def test_deadlines_go_on_working_after_a_pause(backend, unit):
    """
    All calls have ended and the timer has run out: the next call sets a new one.
    """
    policy = Timeout(unit)
    for _ in range(3):
        error, took = await timed(policy(Script(Hang())))
        assert isinstance(error, TimeoutExceededError)
        assert about(unit, backend) == took
        await anyio.sleep(3 * unit)


async def test_a_hundred_thousand_calls_leave_one_timer(backend):
    """
    TO-014: timers and entries do not pile up; what is left is the one timer of the deadline's length.
    """
    if backend not in {"asyncio", "asyncio+eager"}:
        pytest.skip("counts the timers of a loop written in Python")
    loop = asyncio.get_running_loop()
    before = len(loop._scheduled)

    async def callee():
        return None

    policy = Timeout(60)
    guarded = policy.wrap(callee)
    for _ in range(100_000):
        await guarded()
    per_call = Timeout(lambda call: 60).wrap(callee)
    for _ in range(1_000):
        await per_call()

    live = [handle for handle in loop._scheduled if not handle.cancelled()]
    assert before + 1 == len(live)


def test_loops_that_take_turns_have_one_timer_each():
    """
    TO-014: two loops in one thread, one call here and one there: each keeps its wheel while the other runs.
    """
    guarded = Timeout(60).wrap(Script(42).__call__)
    loops = [VirtualEventLoop(), VirtualEventLoop()]
    for _ in range(100):
        for loop in loops:
            assert 42 == loop.run_until_complete(guarded())
    timers = [sum(not handle.cancelled() for handle in loop._scheduled) for loop in loops]
    for loop in loops:
        loop.close()

    assert [1, 1] == timers


async def test_a_burst_of_deadlines_in_one_tick(backend, unit):
    """
    A thousand calls fall due together: all are cut then, and each once.
    """
    policy = Timeout(unit)
    errors = []

    async def call():
        error, took = await timed(policy(anyio.sleep_forever))
        errors.append((type(error), took, pending_cancellations()))

    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(call)

    assert [(TimeoutExceededError, about(unit, backend), 0)] * 1000 == errors


def in_loops_of(factories):
    """Run one guarded function in a new loop of each factory, one after the other; weak references to the loops."""
    policy = Timeout(60)
    guarded = Pipeline(policy, Retry(on=OSError), breaker(), Timeout(10)).wrap(
        Script(Wait(0.001, 42))
    )
    loops = []
    for factory in factories:
        with asyncio.Runner(loop_factory=factory) as runner:
            assert 42 == runner.run(guarded())
            loops.append(weakref.ref(runner.get_loop()))
        del runner
    return guarded, policy, loops


def test_a_closed_loop_takes_its_wheels_with_it():
    """
    Nothing that is kept holds on to a loop that is closed, although its timer was still armed (law 37, H40).
    """
    import uvloop  # noqa: PLC0415 - an extra

    kept = in_loops_of([VirtualEventLoop, asyncio.new_event_loop, uvloop.new_event_loop] * 2)
    gc.collect()

    assert [None] * 6 == [loop() for loop in kept[2]]


def test_a_loop_that_is_given_up_with_calls_in_flight_is_let_go():
    """
    Closed by hand, with a guarded call that never ended: the call, its task and the loop are collected (law 37).
    """
    policy = Timeout(60)

    def abandoned(make, *arguments):
        loop = VirtualEventLoop()

        async def main():
            task = loop.create_task(make(*arguments))
            task._log_destroy_pending = False
            await asyncio.sleep(1)

        loop.run_until_complete(main())
        loop.close()
        return weakref.ref(loop)

    control = abandoned(asyncio.sleep, 1000)
    guarded = abandoned(policy, asyncio.sleep, 1000)
    gc.collect()

    assert (None, None) == (control(), guarded())


def test_one_guarded_function_serves_loop_after_loop():
    """
    Made at import, used by asyncio, asyncio again and trio: every deadline is kept in each (H40, law 37).
    """
    guarded = Timeout(0.01).wrap(anyio.sleep_forever)

    for library in ("asyncio", "asyncio", "trio", "asyncio", "trio"):
        with pytest.raises(TimeoutExceededError):
            anyio.run(guarded, backend=library)


def test_one_guarded_function_serves_loops_in_threads():
    """
    Four loops in four threads share one deadline length: each call is cut by its own loop, on time (H39).
    """
    guarded = Timeout(0.05).wrap(asyncio.sleep)
    found = []
    start = threading.Barrier(4)

    async def main():
        start.wait(120)
        for _ in range(5):
            began = time.monotonic()
            with contextlib.suppress(TimeoutExceededError):
                await guarded(30)
                found.append(math.inf)
            found.append(time.monotonic() - began)
            await guarded(0)

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert 20 == len(found)
    assert all(0.045 < each < 25 for each in found)
