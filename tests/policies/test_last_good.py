"""
LastGood: which answers are kept, for whom, how long, and how a caller is told that one is old.
"""

from __future__ import annotations

import copy
import logging
import pickle
import threading
from contextlib import asynccontextmanager

import anyio
import pytest

from resilience import (
    Call,
    CircuitOpenError,
    Fallback,
    LastGood,
    Pipeline,
    Retry,
    Timeout,
)
from resilience.core.answers import Answers
from resilience.events import StaleServed
from resilience.registry import Registry
from resilience.testing import Hang, ManualClock, Recorder, Script, run
from tests.composition.support import breaker


async def test_a_failed_call_gets_the_answer_of_the_last_good_one(backend, clock):
    """
    Api: the last good answer, the same object.
    """
    answer = object()
    guarded = LastGood(60, clock=clock).wrap(Script(answer, OSError))

    assert answer is await guarded("sku")
    clock.advance(59.9)
    assert answer is await guarded("sku")


async def test_without_an_answer_the_error_is_the_calls_own(backend):
    """
    CA-001: errors are not kept; the error passes as the object it is.
    """
    own = OSError("down")
    with pytest.raises(OSError, match="down") as caught:
        await LastGood(60)(Script(own))
    assert own is caught.value
    assert own.__context__ is None


async def test_at_the_end_of_its_time_an_answer_is_gone(backend, clock):
    """
    Law 16: at the very end of ``ttl`` it is too old, and is forgotten.
    """
    kept = LastGood(60, clock=clock)
    guarded = kept.wrap(Script(1, OSError))

    await guarded("sku")
    clock.advance(60)
    with pytest.raises(OSError, match="step 2"):
        await guarded("sku")
    assert 0 == kept.snapshot().keys


async def test_a_later_answer_takes_the_place_of_an_earlier_one(backend, clock):
    """
    The last one, and its time.
    """
    guarded = LastGood(60, clock=clock).wrap(Script(1, 2, OSError))

    await guarded("sku")
    clock.advance(50)
    await guarded("sku")
    clock.advance(50)
    assert 2 == await guarded("sku")


async def test_the_caller_can_see_that_it_is_stale_and_how_old(backend, clock):
    """
    Api: ``outcome`` and the event say so; a fresh answer has no age.
    """
    recorder = Recorder()
    guarded = Pipeline(LastGood(60, clock=clock, name="prices"), listeners=[recorder])
    service = Script(1, OSError)

    fresh = await guarded.outcome(service, "sku")
    recorder.clear()
    clock.advance(12.5)
    stale = await guarded.outcome(service, "sku")

    assert (False, None) == (fresh.from_fallback, fresh.age)
    assert (True, 12.5) == (stale.from_fallback, stale.age)
    [event] = recorder.of(StaleServed)
    assert ("prices", 12.5, "OSError") == (event.policy, event.age, event.error)


async def test_a_clock_that_runs_backwards_makes_nothing_younger_than_new(backend, clock):
    """
    Law 20: no age below zero.
    """
    guarded = LastGood(60, clock=clock)
    service = Script(1, OSError)

    await guarded(service, "sku")
    clock.advance(-1000)
    assert 0.0 == (await guarded.outcome(service, "sku")).age


async def test_each_call_has_an_answer_of_its_own(backend):
    """
    Without a key, callee and arguments say which calls are the same; types count.
    """
    kept = LastGood(60)
    ok = True

    async def lookup(sku, **options):
        if ok:
            return sku, options
        raise OSError("no answer")

    async def price(sku):
        if ok:
            return f"price of {sku}"
        raise OSError("no answer")

    calls = [((1,), {}), ((1.0,), {}), ((True,), {}), (("a",), {}), (("a",), {"fresh": True})]
    guarded = kept.wrap(lookup)
    good = [await guarded(*args, **kwargs) for args, kwargs in calls]
    await kept(price, "a")
    ok = False

    assert good == [await guarded(*args, **kwargs) for args, kwargs in calls]
    assert list(map(repr, good)) == [repr(await guarded(*args, **kwargs)) for args, kwargs in calls]
    assert "price of a" == await kept(price, "a")
    with pytest.raises(OSError, match="no answer"):
        await kept(price, 1)


async def test_a_key_of_its_own(backend):
    """
    ``key=``: a function of the arguments, or one value for all calls.
    """
    by_sku = LastGood(60, key=lambda sku, *, user: sku).wrap(Script("ada's", OSError))
    one = LastGood(60, key="rates").wrap(Script("rates", OSError))

    await by_sku("a", user="ada")
    assert "ada's" == await by_sku("a", user="bob")
    await one(1)
    assert "rates" == await one(2)


async def test_the_pipelines_key(backend):
    """
    Api: ``Call.key`` where the pipeline has one; another callee's answers stay its own.
    """
    guarded = Pipeline(LastGood(60), key=lambda sku, user: sku)
    service = Script("a", OSError)

    await guarded(service, "sku", "ada")
    assert "a" == await guarded(service, "sku", "bob")
    with pytest.raises(OSError, match="step 1"):
        await guarded(Script(OSError), "sku", "ada")


async def test_informed_callees_are_told_apart_too(backend):
    """
    The callee is the user's function, not what a door makes of it.
    """
    script = Script(1, OSError)

    async def lookup(call: Call, sku: str) -> object:
        return await script()

    guarded = LastGood(60).informed(lookup)
    assert [1, 1] == [await guarded("a"), await guarded("a")]


@pytest.mark.parametrize(
    ("key", "argument"), [(None, []), (lambda _: [], "sku"), (lambda _: 1 / 0, "sku")],
    ids=["arguments", "key", "raises"],
)  # fmt: skip
async def test_a_call_whose_key_cannot_be_told_is_left_alone(backend, caplog, key, argument):
    """
    Law 6: nothing is kept and nothing given; the call's own result and error pass; logged once.
    """
    kept = LastGood(60, key=key)
    guarded = kept.wrap(Script(1, 2, OSError))

    assert [1, 2] == [await guarded(argument) for _ in range(2)]
    with pytest.raises(OSError, match="step 3"):
        await guarded(argument)
    assert (0, 1) == (kept.snapshot().keys, kept.snapshot().missed)
    assert 1 == caplog.text.count("LastGood.key")


async def test_nothing_that_is_no_answer_of_the_callee_is_kept(backend):
    """
    Errors, a fallback's answer, a refused result and one that a retry gave up on: none of them is good.
    """
    kept = LastGood(60, on_result=lambda result: result == "refused")
    with_fallback = Pipeline(kept, Fallback("fallback", on=OSError))
    exhausted = Pipeline(
        kept, Retry(2, on=(), on_result=lambda result: result == "bad", wait=lambda _: 0.0)
    )
    with pytest.raises(OSError, match="step 1"):
        await kept(Script(OSError))

    assert "fallback" == await with_fallback(Script(OSError))
    assert "refused" == await kept(Script("refused"))
    assert "bad" == await exhausted(Script("bad"))
    assert 0 == kept.snapshot().keys


async def test_after_an_attempt_that_was_given_up_a_good_answer_is_kept(backend):
    """
    What an earlier attempt of an outer retry ended with does not taint the next.
    """
    kept = LastGood(60)
    inner = Retry(2, on=(), on_result=lambda result: result == "bad", wait=lambda _: 0.0)
    with pytest.warns(UserWarning, match="multiply"):
        guarded = Pipeline(
            Retry(2, on=(), on_result=lambda result: result == "bad", wait=lambda _: 0.0),
            kept,
            inner,
        )

    outcome = await guarded.outcome(Script("bad", "bad", "good"))
    assert ("good", False, 1) == (outcome.unwrap(), outcome.exhausted, kept.snapshot().keys)


async def test_a_refused_result_gets_the_last_good_one(backend):
    """
    By result as by error.
    """
    guarded = LastGood(60, on_result=lambda result: not result).wrap(Script([1], []))

    assert [[1], [1]] == [await guarded("sku"), await guarded("sku")]


async def test_an_answer_that_is_false_is_an_answer(backend):
    """
    None and 0 are kept like any other.
    """
    guarded = LastGood(60).wrap(Script(None, OSError))

    await guarded("sku")
    assert None is await guarded("sku")


async def test_what_is_not_named_passes(backend):
    """
    ``on`` is as in Fallback; its default is every `Exception`.
    """
    guarded = LastGood(60, on=OSError).wrap(Script(1, KeyError, ConnectionError))

    await guarded("sku")
    with pytest.raises(KeyError):
        await guarded("sku")
    assert 1 == await guarded("sku")


async def test_a_cancellation_is_never_answered(backend, unit):
    """
    Law 2: a caller who leaves has left.
    """
    guarded = LastGood(60).wrap(Script(1, Hang()))

    await guarded("sku")
    with anyio.move_on_after(unit) as scope:
        await guarded("sku")
    assert scope.cancelled_caught


async def test_it_sees_the_rejection_that_ended_a_retry(backend):
    """
    Law 25: as a Fallback does.
    """
    guarded = Pipeline(
        LastGood(60, on=CircuitOpenError),
        Retry(5, on=OSError, wait=lambda _: 0.0),
        breaker(2),
        Timeout(60),
    )
    service = Script("good", ConnectionError)

    assert "good" == await guarded(service, "sku")
    assert "good" == await guarded(service, "sku")
    assert 3 == service.calls


async def test_it_is_bounded(backend):
    """
    H48: of too many keys the one goes that was used longest ago; an answer that was given counts as used.
    """
    kept = LastGood(60, max_keys=2)
    down: set[str] = set()

    async def lookup(sku):
        if sku in down:
            raise OSError(sku)
        return sku

    guarded = kept.wrap(lookup)
    for sku in ("a", "b"):
        await guarded(sku)
    down = {"a", "b"}
    await guarded("a")  # given, and so used after b
    await guarded("c")

    assert "a" == await guarded("a")
    with pytest.raises(OSError, match="b"):
        await guarded("b")
    assert (2, 3, 2, 1) == (
        kept.snapshot().keys,
        kept.snapshot().kept,
        kept.snapshot().served,
        kept.snapshot().missed,
    )


async def test_forget(backend):
    """
    None of them is given any more.
    """
    kept = LastGood(60)
    guarded = kept.wrap(Script(1, OSError))

    await guarded("sku")
    kept.forget()
    with pytest.raises(OSError, match="step 2"):
        await guarded("sku")


async def test_one_object_is_shared_by_two_pipelines(backend):
    """
    Api: a policy that holds state has identity.
    """
    kept = LastGood(60)
    service = Script(1, OSError)

    await Pipeline(kept, Timeout(9))(service, "sku")
    assert 1 == await Pipeline(kept)(service, "sku")


def test_two_loops_in_two_threads_share_it():
    """
    Law 15, 37: nothing is bound to a loop; what one learned the other may give.
    """
    kept = LastGood(60, key="rates")
    answers = []

    def other() -> None:
        answers.append(run(kept.wrap(Script(OSError)), backend="trio"))

    run(kept.wrap(Script("good")))
    thread = threading.Thread(target=other)
    thread.start()
    thread.join(30)
    assert ["good"] == answers


def test_threads_that_fill_it_at_once_keep_it_bounded():
    """
    Law 15: no lock, no error, no more keys than allowed.
    """
    answers = Answers(60, 10)
    errors = []
    start = threading.Barrier(4)

    def fill(number: int) -> None:
        start.wait(30)
        try:
            for each in range(3000):
                answers.keep((number, each % 17), each, 0.0)
                answers.last((number, each % 13), float(each % 2) * 100)
        except Exception as error:  # noqa: BLE001 - what is looked for
            errors.append(error)

    threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [] == errors
    assert len(answers) <= 10


def test_doors_that_open_something_are_refused():
    """
    A connection that was left, or the first item of a stream, is nobody else's good answer.
    """

    @asynccontextmanager
    async def connect():
        yield 1

    async def rows():
        yield 1

    live = Registry().pipeline("live", Timeout(1), LastGood(60))
    nested = Pipeline(Timeout(1), Pipeline(LastGood(60), name="inner"))
    for guarded in (LastGood(60), nested, live, Pipeline(live)):
        with pytest.raises(TypeError, match=r"LastGood\(60.0\) gives one answer .* opening"):
            guarded.opening(connect)
        with pytest.raises(TypeError, match=r"LastGood\(60.0\) gives one answer .* stream"):
            guarded.stream(rows)


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pickle_and_copy_are_refused(attempt):
    """
    Law 37: in one sentence.
    """
    with pytest.raises(TypeError, match="LastGood holds the state of this process"):
        attempt(LastGood(60))


def test_a_repr_is_what_one_would_type():
    """
    Law 36: no answers in it.
    """
    kept = LastGood(60, on=OSError, max_keys=5)
    run(kept.wrap(Script("canary")), backend="asyncio")

    assert "LastGood(60.0, on=OSError, max_keys=5)" == repr(kept)
    assert "canary" not in repr(kept.snapshot())


async def test_what_is_said_in_the_log(backend, caplog, clock: ManualClock):
    """
    At DEBUG: a dead dependency must not flood the log.
    """
    caplog.set_level(logging.DEBUG, "resilience")
    guarded = LastGood(60, clock=clock, name="prices").wrap(Script(1, OSError))

    await guarded("sku")
    await guarded("sku")

    assert ["prices: gave an answer 0 s old (OSError)"] == caplog.messages
