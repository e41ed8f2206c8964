"""
Law 34: `Pipeline()` equals the bare call: result, error, context variables, number of checkpoints.
"""

import contextvars

import anyio
import pytest

from resilience import Pipeline, Retry, Timeout
from resilience.testing import Script
from tests.composition.support import Checkpoints, breaker

VARIABLE = contextvars.ContextVar("variable", default=0)

EMPTY = {
    "empty": Pipeline,
    "empty in empty": lambda: Pipeline(Pipeline(), Pipeline(Pipeline())),
    "named": lambda: Pipeline(name="nothing"),
    "disabled": lambda: Pipeline(Timeout(1), Retry(on=OSError), enabled=False),
    "switched off": lambda: Pipeline(Timeout(1), Retry(on=OSError), enabled=lambda: False),
}
FULL = {
    "timeout": lambda: Timeout(50),
    "retry": lambda: Retry(on=OSError),
    "breaker": breaker,
    "all": lambda: Pipeline(Timeout(50), Retry(on=OSError), breaker(), Timeout(5)),
    "nested": lambda: Pipeline(
        Timeout(50), Pipeline(Retry(on=OSError), breaker(), Timeout(5), name="n")
    ),
}
DOORS = {
    "called": lambda p, fn: lambda *a, **k: p(fn, *a, **k),
    "wrapped": lambda p, fn: p.wrap(fn),
}
empty = pytest.mark.parametrize("make", EMPTY.values(), ids=EMPTY)
either = pytest.mark.parametrize("make", [*EMPTY.values(), *FULL.values()], ids=[*EMPTY, *FULL])
doors = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


async def at_once(*args, **kwargs):
    return args, kwargs


async def three_waits(*args, **kwargs):
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    return args, kwargs


async def sleeps(*args, **kwargs):
    await anyio.sleep(0.001)
    return args, kwargs


async def in_a_group(*args, **kwargs):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.lowlevel.checkpoint)
    return args, kwargs


CALLEES = [at_once, three_waits, sleeps, in_a_group]


@either
@doors
@pytest.mark.parametrize("callee", CALLEES, ids=lambda c: c.__name__)
async def test_a_success_has_the_checkpoints_of_the_bare_call(backend, make, door, callee):
    """
    Counted by what the loop gets to see: no policy adds one, none takes one away (law 34, P2, P10).
    """
    bare = Checkpoints(callee(1, two=2))
    guarded = Checkpoints(door(make(), callee)(1, two=2))

    assert await bare == await guarded == ((1,), {"two": 2})
    assert bare.count == guarded.count


def test_the_counter_counts():
    """
    The instrument of these tests tells one checkpoint from three, or the equality above would prove nothing.
    """

    async def main():
        counters = [Checkpoints(callee()) for callee in CALLEES[:2]]
        for each in counters:
            await each
        return [each.count for each in counters]

    assert [0, 3] == anyio.run(main)
    zero, three = anyio.run(main, backend="trio")
    assert 0 == zero < three


@either
@doors
async def test_an_error_is_the_callees_object(backend, make, door):
    """
    By identity, with the cause and context it had, and no more of them (law 34).
    """
    error, cause = ValueError("mine"), KeyError("why")
    error.__cause__ = cause

    with pytest.raises(ValueError, match="mine") as caught:
        await door(make(), Script(error).__call__)()

    assert error is caught.value
    assert cause is error.__cause__
    assert error.__context__ is None


@empty
@doors
async def test_an_error_of_the_empty_pipeline_has_no_notes(backend, make, door):
    """
    Nothing is written on it: there is nothing to say (law 34).
    """
    with pytest.raises(OSError, match="step") as caught:
        await door(make(), Script(OSError).__call__)()

    assert not hasattr(caught.value, "__notes__")


@either
@doors
async def test_the_result_is_the_callees_object(backend, make, door):
    """
    By identity (law 34).
    """
    result = object()

    assert result is await door(make(), Script(result).__call__)()


@either
@doors
async def test_context_variables_pass_both_ways(backend, make, door):
    """
    The callee reads the caller's, the caller reads what the callee set (law 34, H42).
    """

    async def callee():
        seen = VARIABLE.get()
        VARIABLE.set(seen + 1)
        return seen

    VARIABLE.set(41)

    assert 41 == await door(make(), callee)()
    assert 42 == VARIABLE.get()


@empty
async def test_a_cancellation_passes_as_it_is(backend, unit, make):
    """
    The same object, once, and the scope that sent it catches it (law 34, T3).
    """
    seen = []

    async def callee():
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            seen.append(error)
            raise

    with anyio.move_on_after(unit) as scope:
        try:
            await make()(callee)
        except BaseException as error:
            seen.append(error)
            raise

    assert scope.cancelled_caught
    assert seen[0] is seen[1]


async def test_pipelines_are_associative(backend):
    """
    `(a | b) | c` is `a | (b | c)` is `a, b, c`: equal, and linked to the same steps (P8, CP-001).
    """
    a, b, c = Timeout(50), Retry(on=OSError), Timeout(5)

    flat = Pipeline(a, b, c)
    assert flat == Pipeline(Pipeline(a, b), c) == Pipeline(a, Pipeline(b, c)) == Pipeline(flat)
    assert (a, b, c) == Pipeline(Pipeline(), Pipeline(a), Pipeline(b, Pipeline(c))).policies


@pytest.mark.filterwarnings("ignore::resilience.PipelineWarning")
@pytest.mark.parametrize("make", FULL.values(), ids=FULL)
async def test_a_policy_alone_is_the_pipeline_of_one(backend, make):
    """
    Checkpoints, result and error are the same with `Pipeline(...)` around it (P3).
    """
    policy = make()
    alone, piped = (
        Checkpoints(policy(three_waits, 1)),
        Checkpoints(Pipeline(policy)(three_waits, 1)),
    )

    assert await alone == await piped
    assert alone.count == piped.count
