"""
`deadline`: a block has so many seconds, and every guarded call inside knows.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import math
import threading
import weakref
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tenacity import wait_fixed, wait_none

from resilience import (
    Bulkhead,
    Call,
    CircuitState,
    ConfigurationError,
    DeadlineExpiredError,
    Pipeline,
    Retry,
    Timeout,
    TimeoutExceededError,
    deadline,
    remaining,
)
from resilience.deadlines import (
    from_deadline_header,
    from_timeout_header,
    to_deadline_header,
    to_timeout_header,
)
from resilience.events import CallRejected, RetryStopped, TimedOut
from resilience.modes import MODES
from resilience.testing import Hang, Recorder, Script, Wait, disabled, run
from tests.composition.support import about, breaker, pending_cancellations, timed

bare = Pipeline()


@pytest.fixture(autouse=True)
def _none_is_left_open() -> Any:
    before = MODES.in_use
    yield
    assert before == MODES.in_use
    assert MODES.block.get() is None


async def test_a_call_in_the_block_is_cut_off_and_names_the_deadline(backend, unit):
    """Issue 5: TimeoutExceededError, also a TimeoutError, with the seconds of the block."""
    began = anyio.current_time()
    with deadline(2 * unit):
        await anyio.sleep(unit)
        error, _ = await timed(bare(Script(Hang())))

    assert isinstance(error, TimeoutExceededError)
    assert (2 * unit, f"deadline({2 * unit!r})") == (error.seconds, error.policy)
    assert about(2 * unit, backend) == anyio.current_time() - began
    assert 0 == pending_cancellations()


async def test_every_door_is_in_it(backend, unit):
    """A call, a wrapped function, an informed one, an entering, a stream, an outcome."""

    async def hang(*_: Any) -> None:
        await anyio.sleep_forever()

    class Manager:
        async def __aenter__(self) -> None:
            await hang()

        async def __aexit__(self, *_: object) -> None: ...

    async def rows() -> Any:
        await hang()
        yield 1

    async def enter() -> None:
        async with bare.opening(Manager)():
            pass

    async def stream() -> None:
        async with bare.stream(rows)():
            pass

    async def informed(call: Call) -> float:
        seen.append(call.remaining())
        await hang()
        return 0

    seen: list[float] = []
    for door in (
        lambda: bare(hang),
        bare.wrap(hang),
        bare.informed(informed),
        enter,
        stream,
        lambda: Timeout(50)(hang),
    ):
        began = anyio.current_time()
        async with deadline(unit):
            error, _ = await timed(door())
        assert isinstance(error, TimeoutExceededError)
        assert about(unit, backend) == anyio.current_time() - began
    assert about(unit, backend) == seen[0] or seen[0] <= unit
    with deadline(unit):
        outcome = await bare.outcome(hang)
    assert isinstance(outcome.error, TimeoutExceededError)


async def test_what_is_not_guarded_is_not_interrupted(backend, unit):
    """The block bounds calls, not code."""
    with deadline(unit) as block:
        await anyio.sleep(2 * unit)
        assert 0.0 == block.remaining() == remaining()


async def test_a_call_after_the_end_never_runs(backend, unit):
    """DeadlineExpiredError if no attempt ran: a rejection, at once."""
    heard = Recorder(CallRejected)
    guarded = Pipeline(Retry(on=Exception), name="late", listeners=[heard])
    script = Script("page")

    with deadline(unit):
        await anyio.sleep(2 * unit)
        error, took = await timed(guarded(script))

    assert isinstance(error, DeadlineExpiredError)
    assert (f"deadline({unit!r})", "deadline") == (error.policy, error.reason)
    assert 0 == script.calls
    assert [("late", "deadline")] == [(each.pipeline, each.reason) for each in heard]
    assert about(0.0, backend) == took


async def test_no_time_at_all_is_over_at_once(backend):
    """`deadline(0)`, as a header may say it."""
    with deadline(0):
        assert isinstance((await timed(bare(Script(1))))[0], DeadlineExpiredError)


async def test_none_is_no_deadline(backend):
    """`deadline(None)`: a header that was not sent."""
    with deadline(None) as block:
        assert math.inf == remaining() == block.remaining()
        assert 1 == await bare(Script(1))
        with deadline(60), deadline(None):
            assert remaining() <= 60 + 1e-6
    assert math.inf == remaining()


async def test_a_place_in_a_queue_that_is_not_reached_in_time(backend, unit):
    """Law 4: cut off before the callee was entered: the dependency was never asked; a breaker outside ignores it."""
    outside = breaker(1, overdue_after=500)
    gate = Bulkhead(1, queue=1)
    guarded = Pipeline(outside, gate)

    async with anyio.create_task_group() as group:
        group.start_soon(gate, anyio.sleep, 5 * unit)
        await anyio.sleep(unit / 10)
        with deadline(unit):
            error, _ = await timed(guarded(Script(1)))
        group.cancel_scope.cancel()

    assert isinstance(error, DeadlineExpiredError)
    assert (CircuitState.CLOSED, 0) == (outside.state, outside.snapshot().totals.failures)


# ------------------------------------------------------------- what policies make of it


async def test_a_breaker_counts_the_call_that_was_cut(backend, unit):
    """Law 3: our own deadline is a failure, wherever it stands."""
    inside = breaker(1, overdue_after=500)
    with deadline(unit):
        await timed(Pipeline(inside)(Script(Hang())))

    assert CircuitState.OPEN is inside.state


async def test_a_caller_who_leaves_within_the_block_does_not_count(backend, unit):
    """Law 3: the permit settles as ignored."""
    inside = breaker(1, overdue_after=500)
    with deadline(9 * unit), anyio.move_on_after(unit):
        await Pipeline(inside)(Script(Hang()))

    assert (CircuitState.CLOSED, 1) == (inside.state, inside.snapshot().totals.ignored)


async def test_a_retry_begins_no_wait_that_does_not_fit(backend, unit):
    """Law 24: it fails now, with the last error, and says why."""
    heard = Recorder(RetryStopped)
    script = Script(OSError)
    guarded = Pipeline(Retry(3, on=OSError, wait=wait_fixed(3 * unit)), listeners=[heard])

    with deadline(2 * unit):
        error, took = await timed(guarded(script))

    assert isinstance(error, OSError)
    assert (1, about(0.0, backend)) == (script.calls, took)
    assert ["deadline"] == [each.reason for each in heard]


async def test_an_attempt_is_cut_at_what_remains(backend, unit):
    """Law 24: the second attempt has the rest of the block, not its whole timeout."""
    script = Script(Wait(unit, OSError), Hang())
    guarded = Pipeline(Retry(3, on=OSError, wait=wait_none()), Timeout(5 * unit))

    began = anyio.current_time()
    with deadline(3 * unit):
        error, _ = await timed(guarded(script))

    assert isinstance(error, TimeoutExceededError)
    assert error.policy.startswith("deadline(")
    assert (2, about(3 * unit, backend)) == (script.calls, anyio.current_time() - began)


@pytest.mark.parametrize(("block", "own", "named"), [(1, 2, "deadline"), (2, 1, "Timeout")])
async def test_the_earlier_of_deadline_and_timeout_wins(backend, unit, block, own, named):
    """Law 31: and is named."""
    began = anyio.current_time()
    with deadline(block * unit):
        error, _ = await timed(Timeout(own * unit)(Script(Hang())))

    assert error.policy.startswith(named)
    assert about(unit, backend) == anyio.current_time() - began


async def test_at_a_tie_the_outer_is_named(backend, unit):
    """Law 31: the block is around the call."""
    if backend == "uvloop":
        unit = 0.1  # real time: the block began a moment earlier all the same
    with deadline(unit):
        error, _ = await timed(Timeout(unit)(Script(Hang())))

    assert error.policy.startswith("deadline(")


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_of_nested_blocks_the_earliest_wins(backend, unit, order):
    """Law 31: an inner block cannot give itself more time."""
    outer, inner = order
    began = anyio.current_time()
    with deadline(outer * unit), deadline(inner * unit) as last:
        assert remaining() <= unit + 1e-6
        error, _ = await timed(bare(Script(Hang())))
        assert about(unit, backend) == anyio.current_time() - began
        left = 0.0 if inner == 1 else about(unit, backend)
        assert left == last.remaining() or backend == "uvloop"

    assert f"deadline({float(unit)!r})" == error.policy


async def test_after_the_inner_block_the_outer_one_holds_again(backend, unit):
    """And after both none does."""
    with deadline(3 * unit):
        with deadline(unit):
            pass
        assert remaining() > unit
        _error, took = await timed(bare(Script(Hang())))
        assert about(3 * unit, backend) == took
    assert 1 == await bare(Script(Wait(4 * unit, 1)))


async def test_whoever_listens_hears_of_it(backend, unit):
    """TimedOut, in the pipeline that was cut off."""
    heard = Recorder(TimedOut)
    with deadline(unit):
        await timed(Pipeline(name="slow", listeners=[heard])(Script(Hang())))

    assert [("slow", f"deadline({unit!r})", unit)] == [
        (each.pipeline, each.policy, each.seconds) for each in heard
    ]


# ------------------------------------------------------------------------ whose it is


async def test_tasks_that_are_started_in_the_block_are_in_it(backend, unit):
    """Issue 5: in child tasks as well; others beside it are not."""
    answers: dict[str, Any] = {}

    async def child(name: str) -> None:
        answers[name] = (await timed(bare(Script(Wait(3 * unit, name)))))[0]

    async with anyio.create_task_group() as group:
        group.start_soon(child, "beside")
        async with anyio.create_task_group() as inner:
            with deadline(unit):
                inner.start_soon(child, "inside")
                await anyio.sleep(2 * unit)
    assert "beside" == answers["beside"]
    assert isinstance(answers["inside"], TimeoutExceededError)


async def test_a_task_that_outlives_the_block_is_free_again(backend, unit):
    """What a handler leaves behind must not be cut off by the deadline of a request that was answered."""
    answers: list[Any] = []
    go_on = anyio.Event()

    async def background() -> None:
        await go_on.wait()
        answers.append(remaining())
        answers.append(await bare(Script(Wait(3 * unit, "done"))))

    async with anyio.create_task_group() as group:
        with deadline(unit):
            group.start_soon(background)
            await anyio.lowlevel.checkpoint()
        # Another block, somewhere, so that calls look.
        with deadline(50 * unit):
            go_on.set()
            await anyio.sleep(5 * unit)
    assert [math.inf, "done"] == answers


async def test_a_call_in_flight_keeps_its_deadline_when_the_block_ends(backend, unit):
    """It began in time and knew when it would be over."""
    answers: list[Any] = []

    async def child() -> None:
        answers.append((await timed(bare(Script(Hang()))))[0])
        answers.append(anyio.current_time() - began)

    async with anyio.create_task_group() as group:
        began = anyio.current_time()
        with deadline(2 * unit):
            group.start_soon(child)
            await anyio.sleep(unit)
    assert isinstance(answers[0], TimeoutExceededError)
    assert about(2 * unit, backend) == answers[1]


async def test_a_shield_inside_is_respected(backend, unit):
    """Law 32: as for a Timeout."""

    async def commit() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(3 * unit)
        await anyio.sleep(9 * unit)
        return "done"

    with deadline(unit):
        error, took = await timed(bare(commit))
    assert isinstance(error, TimeoutExceededError)
    assert about(3 * unit, backend) == took


async def test_a_result_beats_the_deadline(backend, unit):
    """Law 29: of a callee that swallows the cancellation."""

    async def stubborn() -> str:
        try:
            await anyio.sleep(9 * unit)
        except anyio.get_cancelled_exc_class():
            return "after all"
        return "never"

    with deadline(unit):
        assert "after all" == await bare(stubborn)
    assert 0 == pending_cancellations()


async def test_a_block_is_entered_once(backend):
    """A deadline that was left is over."""
    block = deadline(5)
    assert 5.0 == block.remaining()
    with block, pytest.raises(RuntimeError, match=r"deadline\(5.0\) was entered before"):
        block.__enter__()
    with pytest.raises(RuntimeError, match="make one for each block"):
        async with block:
            pass


async def test_disabled_policies_have_no_deadline(backend, unit):
    """`testing.disabled` makes every pipeline the bare call."""
    with deadline(unit), disabled():
        assert 1 == await bare(Script(Wait(2 * unit, 1)))


def test_a_block_may_be_left_in_another_context():
    """PEP 789, H17: as that of a generator is; the deadlines do not pile up in the context it was entered in."""
    elsewhere = contextvars.copy_context()
    blocks = [deadline(5) for _ in range(3)]
    for block in blocks:
        elsewhere.run(block.__enter__)
        block.__exit__(None, None, None)
    assert elsewhere.run(remaining) == math.inf
    assert blocks[2]._outer is None
    assert elsewhere.run(MODES.block.get) is blocks[2]


def test_a_thread_with_a_loop_of_its_own_has_the_deadline_too():
    """The clocks of two loops disagree; what is left does not."""

    async def inner() -> float:
        async def seen(call: Call) -> float:
            return call.remaining()

        return await bare.informed(seen)()

    async def main() -> list[float]:
        with deadline(60):
            context = contextvars.copy_context()
            found: list[float] = []
            threads = [
                threading.Thread(
                    target=context.copy().run,
                    args=(lambda backend: found.append(anyio.run(inner, backend=backend)), name),
                )
                for name in ("asyncio", "trio")
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return found

    for each in asyncio.run(main()):
        assert 0 < each <= 60.001


def test_nothing_is_kept_of_a_block():
    """Law 37: its wheel dies with its loop, its timer with the block."""
    kept: list[Any] = []

    async def main() -> None:
        with deadline(1000) as block:
            assert 1 == await bare(Script(1))
        kept.append(weakref.ref(block))
        del block
        handles = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert [] == [each for each in handles if not each.cancelled()]

    asyncio.run(main())
    gc.collect()
    assert kept[0]() is None


def test_where_no_block_is_open_nobody_looks(monkeypatch):
    """The cost: `MODES.in_use` is nought, and a call reads nothing else."""

    class Watched:
        def get(self) -> None:
            raise AssertionError("a look for a deadline")

    async def main() -> None:
        monkeypatch.setattr(MODES, "block", Watched())
        assert 1 == await bare(Script(1))
        assert 1 == await bare.wrap(Script(1))()
        assert math.inf == remaining()
        monkeypatch.undo()

    run(main)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, True, "2", timedelta(seconds=-1)])
def test_what_is_no_number_of_seconds_is_refused(seconds):
    """Law 21: with the field's path."""
    with pytest.raises(ConfigurationError, match=r"deadline\.seconds must be seconds >= 0"):
        deadline(seconds)


async def test_it_goes_through_headers_and_back(backend, unit):
    """The codec: what remains here is the deadline there, in both notations."""
    assert (None, None) == (to_timeout_header(), to_deadline_header())
    with deadline(timedelta(seconds=100)):
        relative, absolute = to_timeout_header(), to_deadline_header()
    for seconds in (from_timeout_header(relative), from_deadline_header(absolute)):
        assert pytest.approx(100, abs=1) == seconds
        with deadline(seconds):
            assert 0 < remaining() <= 100 + 1e-6
    assert 5 == from_timeout_header(relative, cap=5)
    assert 5 == from_deadline_header(absolute, cap=timedelta(seconds=5))
    with deadline(from_timeout_header("whatever")):
        assert math.inf == remaining()
    with pytest.raises(ConfigurationError, match=r"from_timeout_header\.cap"):
        from_timeout_header("1S", cap=0)
    with pytest.raises(ConfigurationError, match=r"from_deadline_header\.cap"):
        from_deadline_header("1", cap=math.nan)


def test_it_prints_what_one_would_type():
    """House style."""
    assert "deadline(2.0)" == repr(deadline(2))
    assert "deadline(None)" == repr(deadline(None))


async def test_the_four_of_readme_in_a_block(backend, unit):
    """Timeout, Retry, CircuitBreaker, Timeout: the block is around them all."""
    gate = breaker(9, on=TimeoutError)
    guarded = Pipeline(
        Timeout(50 * unit),
        Retry(5, on=TimeoutError, wait=wait_fixed(unit)),
        gate,
        Timeout(2 * unit),
    )
    script = Script(Hang())
    with deadline(6 * unit):
        error, took = await timed(guarded(script))

    # Attempts at 0 and 3; the third would begin when the block ends.
    assert isinstance(error, TimeoutExceededError)
    assert (2, about(5 * unit, backend)) == (script.calls, took)
    assert 2 == gate.snapshot().totals.failures
