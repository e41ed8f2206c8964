"""
Fallback: what is answered for and what is not, by whom, and what it leaves of the error.
"""

from __future__ import annotations

import copy
import pickle
import traceback
from contextlib import asynccontextmanager

import anyio
import pytest
import tenacity

from resilience import (
    Call,
    CircuitOpenError,
    ConfigurationError,
    Fallback,
    Pipeline,
    RejectedError,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.events import LOGGER, FallbackFailed, FallbackUsed
from resilience.testing import Hang, Recorder, Script
from tests.composition.support import breaker, pending_cancellations


class Stop(BaseException):
    """Not an `Exception`."""


async def test_answers_for_what_is_named_and_for_nothing_else(backend):
    """
    FB-001: the value for a named error; any other passes as the object it is.
    """
    other = KeyError("not named")

    assert None is await Fallback(None, on=OSError)(Script(OSError))
    assert 42 == await Fallback(None, on=OSError)(Script(42))
    with pytest.raises(KeyError) as caught:
        await Fallback(None, on=OSError)(Script(other))
    assert other is caught.value
    assert other.__context__ is None


async def test_the_value_is_the_same_object_each_time(backend):
    """
    A value is not copied: what has to be new for each caller is made by a function.
    """
    empty: list[int] = []
    guarded = Fallback(empty, on=OSError)

    assert empty is await guarded(Script(OSError)) is await guarded(Script(OSError))


@pytest.mark.parametrize(
    "on",
    [
        OSError,
        (KeyError, OSError),
        lambda error: isinstance(error, OSError),
        tenacity.retry_if_exception_type(OSError),
    ],
    ids=["class", "classes", "predicate", "tenacity's"],
)
async def test_every_way_to_name_it(backend, on):
    """
    Api: as in Retry and CircuitBreaker.
    """
    guarded = Fallback("cached", on=on)

    assert "cached" == await guarded(Script(ConnectionError))
    with pytest.raises(ValueError, match="step 1"):
        await guarded(Script(ValueError))


async def test_results(backend):
    """
    FB-001: a refused result is answered for like an error.
    """
    recorder = Recorder(FallbackUsed)
    guarded = Pipeline(
        Fallback("cached", on=(), on_result=lambda result: result is None), listeners=[recorder]
    )

    assert "fresh" == await guarded(Script("fresh"))
    assert "cached" == await guarded(Script(None))
    with pytest.raises(OSError, match="step 1"):
        await guarded(Script(OSError))
    assert [None] == [event.error for event in recorder.of(FallbackUsed)]


async def test_a_function_makes_the_answer_of_the_error_and_the_call(backend):
    """
    Api: ``Fallback.using(async_fn_of_error_and_call)``.
    """
    own = OSError("down")

    async def replica(error: Exception, call: Call) -> str:
        await anyio.lowlevel.checkpoint()
        assert own is error
        return f"{call.args[0]} from a replica, after attempt {call.attempt}"

    guarded = Pipeline(Fallback.using(replica, on=OSError), Retry(2, on=OSError, wait=lambda _: 0))

    assert "sku-7 from a replica, after attempt 2" == await guarded(Script(own), "sku-7")


async def test_a_plain_function_will_do(backend):
    """
    As the fallbacks of other libraries are written: what returns no awaitable is the answer.
    """
    made = Fallback.using(lambda error, call: [], on=OSError)

    first, second = await made(Script(OSError)), await made(Script(OSError))

    assert [] == first == second
    assert first is not second


async def test_a_function_is_told_that_a_result_was_refused(backend):
    """
    Of a refused result there is no error to hand over.
    """

    async def replica(error: Exception | None, call: Call) -> object:
        return error

    guarded = Fallback.using(replica, on=OSError, on_result=lambda result: result == 7)

    assert None is await guarded(Script(7))


async def test_a_chain_asks_the_next_where_one_fails(backend):
    """
    Api: a chain; each function gets the error of the one before.
    """
    own, replicas = OSError("the call's"), OSError("the replica's")
    seen = []

    async def replica(error: Exception, call: Call) -> str:
        seen.append(error)
        raise replicas

    async def cache(error: Exception, call: Call) -> str:
        seen.append(error)
        return "cached"

    recorder = Recorder(FallbackUsed, FallbackFailed)
    guarded = Pipeline(Fallback.using(replica, cache, on=OSError), listeners=[recorder])

    assert "cached" == await guarded(Script(own))
    assert [own, replicas] == seen
    assert own is replicas.__context__
    assert ["FallbackFailed", "FallbackUsed"] == recorder.kinds


async def test_a_chain_ends_where_a_function_raises_what_is_not_named(backend):
    """
    An error that nobody thought of is not answered for, wherever it comes from.
    """

    async def replica(error: Exception, call: Call) -> str:
        raise KeyError("not named")

    async def cache(error: Exception, call: Call) -> str:
        raise AssertionError("not asked")

    with pytest.raises(KeyError) as caught:
        await Fallback.using(replica, cache, on=OSError)(Script(OSError))
    assert isinstance(caught.value.__context__, OSError)


async def test_a_fallback_that_fails_raises_its_own_error(backend):
    """
    FB-002: that error, with the original as its context.
    """
    own, failure = OSError("the call's"), OSError("the fallback's")

    async def replica(error: Exception, call: Call) -> str:
        raise failure

    recorder = Recorder(FallbackUsed, FallbackFailed)
    guarded = Pipeline(Fallback.using(replica, on=OSError), listeners=[recorder])

    outcome = await guarded.outcome(Script(own))
    assert failure is outcome.error
    assert own is failure.__context__
    assert not outcome.from_fallback
    [event] = recorder.events
    assert ("OSError", "OSError") == (event.error, event.failure)


async def test_a_fallback_may_raise_the_error_it_was_asked_for(backend):
    """
    The same object passes; it is not its own context.
    """
    own = OSError("down")

    async def gives_up(error: Exception, call: Call) -> str:
        raise error

    with pytest.raises(OSError, match="down") as caught:
        await Fallback.using(gives_up, on=OSError)(Script(own))
    assert own is caught.value
    assert own.__context__ is None


async def test_nested_fallbacks_are_a_chain(backend):
    """
    The outer one answers where the inner one fails.
    """

    async def replica(error: Exception, call: Call) -> str:
        raise OSError("the replica's")

    guarded = Pipeline(Fallback("nothing", on=OSError), Fallback.using(replica, on=OSError))

    assert "nothing" == await guarded(Script(OSError))


async def test_a_cancellation_is_never_answered(backend, unit):
    """
    Law 2, FB-003, PY-006: a caller who leaves has left, whatever ``on`` names.
    """
    pending = pending_cancellations()

    with anyio.move_on_after(unit) as scope:
        await Fallback("cached", on=Exception)(Script(Hang()))
    assert scope.cancelled_caught
    assert pending == pending_cancellations()


async def test_a_cancellation_inside_the_function_leaves_it(backend, unit):
    """
    Law 2: the function that makes the answer is as cancellable as the call.
    """

    async def slow(error: Exception, call: Call) -> str:
        await anyio.sleep_forever()
        raise AssertionError("not reached")

    with anyio.move_on_after(unit) as scope:
        await Fallback.using(slow, on=OSError)(Script(OSError))
    assert scope.cancelled_caught


@pytest.mark.parametrize("leaves", [Stop, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_what_is_no_exception_passes(backend, leaves):
    """
    Law 2, H6: as the object it is.
    """
    if leaves is KeyboardInterrupt and backend != "trio":
        leaves = Stop  # asyncio lets it through its own loop
    own = leaves("no exception")

    async def callee():
        raise own

    with pytest.raises(leaves) as caught:
        await Fallback(None, on=Exception)(callee)
    assert own is caught.value


async def test_groups_count_by_their_leaves(backend):
    """
    Law 7: answered for if every leaf is named, so that none is lost that was not.
    """
    guarded = Fallback("cached", on=OSError)
    mixed = ExceptionGroup("mixed", [OSError("named"), ValueError("not named")])

    assert "cached" == await guarded(
        Script(ExceptionGroup("", [OSError(), ExceptionGroup("", [ConnectionError()])]))
    )
    with pytest.raises(ExceptionGroup) as caught:
        await guarded(Script(mixed))
    assert mixed is caught.value
    assert "cached" == await Fallback("cached", on=ExceptionGroup)(Script(mixed))


async def test_a_group_with_a_cancellation_passes(backend):
    """
    Law 7: a cancelled leaf is nothing to answer for.
    """
    with pytest.raises(BaseExceptionGroup):
        await Fallback(None, on=Exception)(Script(BaseExceptionGroup("", [OSError(), Stop()])))


async def test_a_predicate_that_raises_has_said_yes(backend, caplog):
    """
    Law 6: it counts as failure, is logged once and never replaces the call's error.
    """

    def broken(error: Exception) -> bool:
        raise RuntimeError("a bug")

    guarded = Fallback("cached", on=broken)

    assert ["cached"] * 2 == [await guarded(Script(OSError)) for _ in range(2)]
    assert 1 == caplog.text.count("RuntimeError")


async def test_our_own_deadline_has_to_be_named(backend, unit):
    """
    A call that was cut off is answered for only by who said so; it is also a TimeoutError.
    """
    inside = Script(Hang())

    assert "late" == await Pipeline(Fallback("late", on=TimeoutError), Timeout(unit))(inside)
    with pytest.raises(TimeoutExceededError):
        await Pipeline(Fallback("late", on=ConnectionError), Timeout(unit))(inside)


async def test_it_sees_the_rejection_that_ended_a_retry(backend):
    """
    Law 25, CP-006: the last error is raised, and ``on=CircuitOpenError`` sees the rejection all the same.
    """
    recorder = Recorder(FallbackUsed)
    service = Script(ConnectionError)
    guarded = Pipeline(
        Fallback("cached", on=CircuitOpenError),
        Retry(5, on=OSError, wait=lambda _: 0.0),
        breaker(2),
        Timeout(60),
        listeners=[recorder],
    )

    outcome = await guarded.outcome(service)

    assert ("cached", True, 2) == (outcome.unwrap(), outcome.from_fallback, outcome.attempts)
    assert isinstance(outcome.rejection, CircuitOpenError)
    [event] = recorder.events
    assert ("ConnectionError", "CircuitOpenError") == (event.error, event.rejection)


async def test_a_rejection_of_an_earlier_attempt_is_not_seen(backend):
    """
    Law 25: what ended the inner retry in the outer one's first attempt did not end its second.
    """
    inner = breaker(1)
    service = Script(ConnectionError("first"), ValueError("second"))

    class Resets:
        """Closes the circuit before the outer retry's next attempt."""

        def __call__(self, state):
            inner.reset()
            return 0.0

    with pytest.warns(UserWarning, match="multiply"):
        guarded = Pipeline(
            Fallback("cached", on=CircuitOpenError),
            Retry(2, on=OSError, wait=Resets()),
            Retry(2, on=ConnectionError, wait=lambda _: 0.0),
            inner,
            Timeout(60),
        )

    with pytest.raises(ValueError, match="second"):
        await guarded(service)


async def test_an_attempt_that_was_answered_for_does_not_mark_the_next(backend):
    """
    ``from_fallback`` is the last attempt's, where a retry outside refused the fallback's answer.
    """
    guarded = Pipeline(
        Retry(2, on=(), on_result=lambda result: result is None, wait=lambda _: 0.0),
        Fallback(None, on=OSError),
    )

    outcome = await guarded.outcome(Script(OSError, "fresh"))

    assert ("fresh", False) == (outcome.unwrap(), outcome.from_fallback)


async def test_an_outcome_says_where_the_answer_is_from(backend):
    """
    Api: ``outcome`` has ``from_fallback``.
    """
    guarded = Fallback("cached", on=OSError)

    assert (await guarded.outcome(Script(OSError))).from_fallback
    assert not (await guarded.outcome(Script("fresh"))).from_fallback


async def test_the_rejected_callee_is_never_called(backend):
    """
    Law 10: an open circuit is answered for without the callee.
    """
    opened = breaker(1)
    opened.isolate()
    service = Script("fresh")

    assert "cached" == await Pipeline(Fallback("cached", on=RejectedError), opened, Timeout(1))(
        service
    )
    assert 0 == service.calls


async def test_traceback_and_context_of_a_constant_error_do_not_grow(backend):
    """
    P11: an instance that is answered for again and again keeps the traceback of one call more than the bare call.
    """
    constant = OSError("raised for ever")
    failure = OSError("the fallback's, for ever")

    async def fails(error: Exception, call: Call) -> str:
        raise failure.with_traceback(None)

    async def callee():
        raise constant.with_traceback(None)

    guarded = Fallback.using(fails, on=OSError)
    lengths = []
    for _ in range(20):
        with pytest.raises(OSError, match="fallback"):
            await guarded(callee)
        lengths.append(len(traceback.extract_tb(failure.__traceback__)))
        assert constant is failure.__context__
        assert constant.__context__ is None
    assert 1 == len(set(lengths))


async def test_a_connection_may_be_answered_for(backend):
    """
    The door ``opening``: the answer is what the block gets, and there is nothing to leave.
    """

    @asynccontextmanager
    async def connect():
        raise OSError("no route")
        yield

    async with Fallback("offline", on=OSError).opening(connect)() as connection:
        assert "offline" == connection


async def test_a_stream_may_be_answered_for(backend):
    """
    The door ``stream``: what it answers is the only item; an item that was delivered is never replaced.
    """

    async def rows(*items):
        for item in items:
            if isinstance(item, Exception):
                raise item
            yield item

    guarded = Fallback("none", on=OSError)

    async with guarded.stream(rows)(OSError("no rows")) as items:
        assert ["none"] == [item async for item in items]
    async with guarded.stream(rows, hold=True)(1, OSError("the second")) as items:
        assert 1 == await anext(items)
        with pytest.raises(OSError, match="the second"):
            await anext(items)


async def test_nobody_listens_and_nothing_is_made(backend):
    """
    Law 36: without a listener and a log there is no event, and the answer is the same.
    """
    LOGGER.disabled = True  # the fixture of all tests puts it back
    failing = Fallback.using(Script(KeyError), on=OSError)

    assert "cached" == await Fallback("cached", on=OSError)(Script(OSError))
    with pytest.raises(KeyError):
        await failing(Script(OSError))
    with pytest.raises(ConfigurationError, match="at least one async function"):
        Fallback.using(on=OSError)


def test_equal_and_hashable_whatever_the_value():
    """
    A frozen value: equal by what it was given, so that ``replace(old=...)`` finds it.
    """
    items: list[int] = []

    assert Fallback(1, on=OSError) == Fallback(1, on=OSError)
    assert Fallback(1, on=OSError) != Fallback(2, on=OSError)
    assert Fallback(items, on=OSError) == Fallback(items, on=OSError)
    assert Fallback(items, on=OSError) != Fallback([1], on=OSError)
    assert hash(Pipeline(Fallback(items, on=OSError))) == hash(
        Pipeline(Fallback(items, on=OSError))
    )


def test_a_value_without_state_survives_pickle_and_copy():
    """
    Law 37: only what holds state refuses them.
    """
    policy = Fallback(("none",), on=OSError)

    assert policy == pickle.loads(pickle.dumps(policy)) == copy.deepcopy(policy)  # noqa: S301 - our own


def test_a_repr_is_what_one_would_type_without_what_calls_return():
    """
    Law 36: the value is what calls return, so only an empty one is written out.
    """
    assert "Fallback(None, on=OSError)" == repr(Fallback(None, on=OSError))
    assert "Fallback([], on=OSError)" == repr(Fallback([], on=OSError))
    assert "Fallback(<str>, on=OSError)" == repr(Fallback("canary", on=OSError))
    assert "Fallback(<int>, on=OSError)" == repr(Fallback(1, on=OSError))
    script = Script()
    assert "Fallback.using(Script, on=OSError)" == repr(Fallback.using(script, on=OSError))
    assert "Fallback.using(broken, Script, on=OSError)" == repr(
        Fallback.using(broken, script, on=OSError)
    )


async def broken(error: Exception, call: Call) -> str:
    """A function with a name."""
    raise AssertionError("not called")
