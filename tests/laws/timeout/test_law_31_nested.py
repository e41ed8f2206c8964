"""
Law 31: of nested deadlines the earliest wins and is named; at a tie the outer.
"""

import anyio
import pytest
from tenacity import wait_none

from resilience import Pipeline, PipelineWarning, Retry, Timeout, TimeoutExceededError
from resilience.events import TimedOut
from resilience.testing import Hang, Recorder, Script
from tests.composition.support import about, pending_cancellations, timed


def nested(*seconds):
    """Timeouts around a call that hangs, each a guard of its own, outermost first."""

    def around(limit, inner):
        async def guarded():
            return await Timeout(limit)(inner)

        return guarded

    callee = Script(Hang())
    for limit in reversed(seconds):
        callee = around(limit, callee)
    return callee


@pytest.mark.parametrize("order", ["123", "132", "213", "231", "312", "321"])
async def test_the_earliest_deadline_wins_and_is_named(backend, unit, order):
    """
    Whatever the order of nesting, the call ends after one unit and the error names that limit (law 31, T6, H21).
    """
    error, took = await timed(nested(*(int(each) * unit for each in order))())

    assert isinstance(error, TimeoutExceededError)
    assert unit == error.seconds
    assert f"Timeout({unit!r})" == error.policy
    assert about(unit, backend) == took
    assert 0 == pending_cancellations()


async def test_the_same_inside_one_call(backend, unit):
    """
    Also where the policies know of one another, in one call through nested pipelines; one event tells of it (law 31).
    """
    recorder = Recorder(TimedOut)
    innermost = Pipeline(Timeout(unit), name="innermost")
    middle = Pipeline(Timeout(2 * unit), innermost, name="middle")
    guarded = Pipeline(Timeout(3 * unit), middle, name="outer", listeners=[recorder])

    error, took = await timed(guarded(Script(Hang())))

    assert unit == error.seconds
    assert about(unit, backend) == took
    assert ["innermost"] == [event.pipeline for event in recorder]


@pytest.mark.parametrize("depth", [2, 3])
async def test_at_a_tie_the_outer_is_named(backend, depth):
    """
    Equal deadlines, reached in one tick: the outermost of them reports it (law 31).
    """
    if backend == "uvloop":
        pytest.skip("real time: two deadlines of two guards never fall on one instant there")
    names = []

    def around(policy, inner):
        async def guarded():
            try:
                return await policy(inner)
            except TimeoutExceededError:
                names.append(policy.seconds)
                raise

        return guarded

    callee = Script(Hang())
    # All end at 3.0; the outer ones start earlier and have longer.
    for level in range(depth):
        policy = Timeout(1.0 + level)

        async def late(inner=callee):
            await anyio.sleep(1.0)
            return await inner()

        callee = around(policy, late if level else callee)
    error, took = await timed(callee())

    assert float(depth) == error.seconds
    assert [float(depth)] == names
    assert about(float(depth), backend) == took
    assert 0 == pending_cancellations()


async def test_at_a_tie_inside_one_call_the_outer_is_named(backend):
    """
    A limit worked out to be exactly what remains does not fire: the one around it does (law 31).
    """
    if backend == "uvloop":
        pytest.skip("real time: what remains is less by the time it is used")
    guarded = Pipeline(Timeout(3), Timeout(lambda call: call.remaining()))

    error, _ = await timed(guarded(Script(Hang())))

    assert "Timeout(3.0)" == error.policy


async def test_an_inner_deadline_does_not_outlive_its_call(backend, unit):
    """
    After an attempt that was cut the outer deadline is the one that counts again (law 31, TO-006).
    """
    left = []

    async def callee(call):
        left.append(call.remaining())
        await anyio.sleep_forever()

    guarded = Pipeline(
        Timeout(5 * unit), Retry(2, on=TimeoutError, wait=wait_none()), Timeout(unit)
    )
    error, took = await timed(guarded.informed(callee)())

    assert unit == error.seconds
    assert about(2 * unit, backend) == took
    assert all(each <= unit + 1e-6 for each in left)


async def test_remaining_and_deadline_are_of_the_nearest(backend, unit):
    """
    The callee reads the time it has: of the attempt, and after an attempt of 3 in a total of 5 only 2 (law 31, law 24).
    """
    left = []

    async def callee(call):
        left.append(call.remaining())
        await anyio.sleep_forever()

    total, attempt = Timeout(5 * unit), Timeout(3 * unit)
    with pytest.warns(PipelineWarning, match="2 attempts"):
        guarded = Pipeline(total, Retry(2, on=TimeoutError, wait=wait_none()), attempt)
    error, took = await timed(guarded.informed(callee)())

    assert f"Timeout({5 * unit!r})" == error.policy
    assert about(5 * unit, backend) == took
    if backend != "uvloop":
        assert [3.0, 2.0] == pytest.approx(left)
