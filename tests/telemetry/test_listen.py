"""
Listening to the whole process: who was built before is heard, and nobody pays for ears that are not there.
"""

from __future__ import annotations

import dis
import gc
import logging
import weakref

import anyio
import pytest

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitIsolatedError,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    FullJitter,
    Pipeline,
    RateLimit,
    RejectedError,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience import testing as kit
from resilience.doors import Guard
from resilience.events import (
    EVERYWHERE,
    LISTENER,
    AttemptFinished,
    CallFinished,
    CallRejected,
    CircuitStateChanged,
    Event,
    RetryScheduled,
    RetryStopped,
    TimedOut,
    listen,
)
from resilience.modes import MODES
from resilience.policies.circuit_breaker import live_breakers
from resilience.testing import Hang, Recorder, Script


def breaker(name="listened to", **options):
    gc.collect()
    return CircuitBreaker(name, on=OSError, trip=ConsecutiveFailures(1), **options)


async def test_reaches_functions_wrapped_before(backend, unit):
    """
    A function wrapped before anybody listened is heard from its next call on, and no longer when they stop.
    """
    gate = breaker()
    guarded = Pipeline(Retry(2, on=OSError, wait=lambda _: 0.0), gate, Timeout(unit), name="shop")
    wrapped = guarded.wrap(Script(OSError, "fine"))
    everything = Recorder(Event)

    with listen(everything):
        with pytest.raises(OSError, match="step 1"):
            await wrapped()
        kinds = everything.kinds
        with pytest.raises(CircuitOpenError):
            await wrapped()
    gate.reset()
    heard = len(everything)
    assert "fine" == await wrapped()

    assert ["AttemptFinished", "CircuitStateChanged", "RetryStopped", "CallFinished"] == kinds
    assert ["CallRejected", "CallFinished"] == everything.kinds[4:]
    assert heard == len(everything)
    attempt, opened, stopped, finished, rejected, turned_away = everything.events
    assert (1, "failure", "OSError") == (attempt.attempt, attempt.outcome, attempt.error)
    assert {"shop"} == {e.pipeline for e in (attempt, stopped, finished, rejected, turned_away)}
    assert "listened to" == opened.policy
    assert ("failure", 1, "OSError") == (finished.outcome, finished.attempts, finished.error)
    assert ("rejected", 0) == (turned_away.outcome, turned_away.attempts)
    assert finished.policy == repr(guarded) == attempt.policy


@pytest.mark.parametrize("door", ["call", "wrap", "informed", "outcome", "opening", "stream"])
async def test_every_door_tells_of_calls_and_attempts(backend, door):
    """
    Each door of a pipeline built before tells of its call once and of each attempt.
    """
    guarded = Pipeline(Retry(3, on=OSError, wait=lambda _: 0.0), name=door)
    recorder = Recorder(CallFinished, AttemptFinished)
    script = Script(OSError, "fine")

    async def informed(call, x):
        return await script(x)

    class Opened:
        def __init__(self, x):
            self.x = x

        async def __aenter__(self):
            return await script(self.x)

        async def __aexit__(self, *_):
            return None

    async def stream(x):
        yield await script(x)

    wrapped = guarded.wrap(script.__call__)
    told = guarded.informed(informed)
    with listen(recorder):
        match door:
            case "call":
                answer = await guarded(script, 1)
            case "wrap":
                answer = await wrapped(1)
            case "informed":
                answer = await told(1)
            case "outcome":
                answer = (await guarded.outcome(script, 1)).unwrap()
            case "opening":
                async with guarded.opening(Opened)(1) as answer:
                    pass
            case _:
                async with guarded.stream(stream)(1) as items:
                    (answer,) = [item async for item in items]

    assert "fine" == answer
    assert ["AttemptFinished", "AttemptFinished", "CallFinished"] == recorder.kinds
    assert [(1, "failure"), (2, "success")] == [
        (each.attempt, each.outcome) for each in recorder.of(AttemptFinished)
    ]
    assert ("success", 2) == (recorder.events[2].outcome, recorder.events[2].attempts)
    assert all(event.pipeline == door and event.elapsed >= 0 for event in recorder.events)


async def test_a_single_policy_is_heard(backend, unit):
    """
    A policy on its own is a pipeline without a name; its call is told with the policy as it is written.
    """
    timeout = Timeout(unit)
    recorder = Recorder(CallFinished, TimedOut)
    with listen(recorder):
        for _ in range(2):
            with pytest.raises(TimeoutExceededError):
                await timeout(Script(Hang()))
    assert ["TimedOut", "CallFinished"] * 2 == recorder.kinds
    assert {(None, repr(timeout))} == {(e.pipeline, e.policy) for e in recorder.events}
    assert "failure" == recorder.of(CallFinished)[0].outcome


async def test_a_listener_that_stands_in_the_pipeline_too_hears_once(backend):
    """
    Being a pipeline's listener and one of the process at once doubles nothing.
    """
    recorder = Recorder(CallFinished, AttemptFinished, CallRejected, CircuitStateChanged)
    guarded = Pipeline(breaker(), Timeout(50), name="both", listeners=[recorder])
    with listen(recorder), listen(recorder):
        await guarded.outcome(Script(OSError))
        await guarded.outcome(Script())
    kinds = ["AttemptFinished", "CircuitStateChanged", "CallFinished"]
    assert [*kinds, "CallRejected", "CallFinished"] == recorder.kinds


async def test_only_those_who_name_attempts_hear_of_them(backend):
    """
    A listener without ``listens_to`` hears every event but the attempts, here and everywhere.
    """
    here, everywhere = Recorder(), Recorder()
    with listen(everywhere):
        await Pipeline(Timeout(5), listeners=[here])(Script())
    assert ["CallFinished"] == here.kinds == everywhere.kinds
    named = Recorder(AttemptFinished)
    assert 1 == await Pipeline(Timeout(5), name="p", listeners=[named])(Script(1))
    (attempt,) = named.events
    assert ("p", 1, "success", None) == (
        attempt.pipeline,
        attempt.attempt,
        attempt.outcome,
        attempt.error,
    )


async def test_of_pipelines_in_one_another_the_outermost_tells_of_the_call(backend):
    """
    One call is one `CallFinished` and one attempt for those who listen to the process, however deep it goes.
    """
    recorder = Recorder(CallFinished, AttemptFinished)
    inner = Pipeline(Timeout(2), name="inner")
    outer = Pipeline(Timeout(5), inner, name="outer")
    with listen(recorder):
        await outer(Script())
    assert [("AttemptFinished", "outer"), ("CallFinished", "outer")] == [
        (type(event).__name__, event.pipeline) for event in recorder.events
    ]


async def test_a_pipeline_that_is_off_tells_nothing(backend):
    """
    Switched off, by a constant or by a function, a pipeline is the bare call for listeners as well.
    """
    on = [False]
    recorder = Recorder(Event)
    with listen(recorder):
        await Pipeline(Timeout(5), enabled=False)(Script())
        switched = Pipeline(Timeout(5), enabled=lambda: on[0])
        await switched(Script())
        with kit.disabled():
            await Pipeline(Timeout(5))(Script())
        assert [] == recorder.kinds
        on[0] = True
        await switched(Script())
    assert ["CallFinished"] == [kind for kind in recorder.kinds if kind != "AttemptFinished"]


async def test_a_retry_built_before_says_how_long_it_took(backend, unit):
    """
    ``elapsed`` is right from the first call that begins while somebody listens, 0.0 for one that had begun before.
    """
    recorder = Recorder(RetryScheduled)
    retry = Pipeline(Retry(2, on=OSError, wait=FullJitter(0.001)))

    async def slow():
        await anyio.sleep(unit)
        raise OSError

    async def early():
        await retry.outcome(slow)

    async with anyio.create_task_group() as group:
        group.start_soon(early)
        await anyio.sleep(unit / 2)
        subscription = listen(recorder)
    await retry.outcome(slow)
    subscription.stop()
    subscription.stop()
    late = Pipeline(Retry(2, on=OSError, wait=FullJitter(0.001)))
    with listen(recorder):
        await late.outcome(slow)
    before, after, built_later = (event.elapsed for event in recorder.events)
    assert 0.0 == before
    assert min(after, built_later) >= unit - 0.01


def test_a_breaker_driven_by_hand_is_heard():
    """
    Without any pipeline around it a breaker tells those who listen to the process, its rejections by hand included.
    """
    recorder = Recorder(CircuitStateChanged, CallRejected)
    gate = breaker("by hand")
    with listen(recorder):
        gate.admit().failure(OSError())
        with pytest.raises(CircuitOpenError):
            gate.admit()
        with gate.isolate(), pytest.raises(CircuitIsolatedError):
            gate.admit()
    heard = len(recorder)
    gate.reset()
    gate.admit().failure()
    with pytest.raises(CircuitOpenError):
        gate.admit()
    told = [event.reason for event in recorder.events]
    assert ["tripped", "circuit_open", "by hand", "circuit_isolated"] == told[:4]
    assert heard == len(recorder)
    assert 29 < recorder.of(CallRejected)[0].retry_after <= 30


async def test_law_6_a_process_listener_that_raises_changes_nothing(backend, caplog):
    """
    Law 6: it is logged once with its name, and the call ends as it would have.
    """

    def broken(_):
        raise RuntimeError("mine")

    broken.listens_to = (CallFinished, AttemptFinished, RetryStopped)
    caplog.set_level(logging.ERROR, "resilience")
    guarded = Pipeline(Retry(2, on=OSError, wait=lambda _: 0.0)).wrap(Script(KeyError, 7))
    with listen(broken):
        with pytest.raises(KeyError):
            await guarded()
        assert 7 == await guarded()
    assert 1 == len(caplog.messages)
    assert "broken" in caplog.text
    assert "mine" not in caplog.text


async def test_cancellation_is_told_as_such(backend, unit):
    """
    Law 2: a caller who leaves passes through the listeners' steps unchanged, and its permits are given back.
    """
    recorder = Recorder(CallFinished, AttemptFinished)
    gate = breaker("left", probes=1)
    guarded = Pipeline(gate, Timeout(50 * unit)).wrap(Script(Hang()))
    with listen(recorder):
        with anyio.move_on_after(unit) as scope:
            await guarded()
        assert scope.cancelled_caught
    assert ["cancelled", "cancelled"] == [event.outcome for event in recorder.events]
    assert 1 == gate.snapshot().totals.ignored


@pytest.mark.parametrize("rule", LISTENER.breaches)
def test_what_cannot_listen_is_refused(rule):
    """
    A bad listener is one error at the door and no subscription.
    """
    with pytest.raises(
        ConfigurationError, match=r"listen\.listener must be a function of an event"
    ):
        listen(LISTENER.breaches[rule])


def test_what_nobody_listens_to_pays_nothing():
    """
    The path of a wrapped call asks one attribute, `MODES.in_use`, and nothing of who listens.
    """
    wrapped = Pipeline(Timeout(5), Retry(2, on=OSError)).wrap(Script().__call__)
    code = wrapped.__code__
    names = {each.argval for each in dis.get_instructions(code) if isinstance(each.argval, str)}
    assert "in_use" in names
    assert not names & {"EVERYWHERE", "per_call", "listeners", "watch"}
    # One look, one branch: everything else of listening stands behind it.
    assert 1 == sum(each.argval == "in_use" for each in dis.get_instructions(code))
    assert not MODES.in_use


def test_a_listener_of_rare_events_leaves_the_doors_alone():
    """
    Who wants transitions and retries only does not send every call another way in.
    """
    with listen(Recorder(RetryScheduled, CircuitStateChanged)):
        assert not MODES.in_use
        with listen(Recorder(AttemptFinished)):
            assert 1 == MODES.in_use
        assert not MODES.in_use


def test_the_subscriptions_keep_no_pipeline_alive():
    """
    Who was built while nobody listened is remembered weakly.
    """
    before = len(EVERYWHERE._unaware)
    pipeline = Pipeline(Retry(2, on=OSError))
    assert len(EVERYWHERE._unaware) == before + 1
    assert isinstance(pipeline, Guard)
    del pipeline
    gc.collect()
    assert len(EVERYWHERE._unaware) <= before


def isolated():
    made = breaker()
    return made, made.isolate()


def full():
    made = Bulkhead(1)
    return made, made.admit()


def used_up():
    made = RateLimit(1, per=3600)
    return made, made.admit()


@pytest.mark.parametrize("policy", [isolated, full, used_up], ids=lambda each: each.__name__)
def test_who_no_longer_listens_is_kept_by_nobody(policy):
    """
    What turned a caller away by hand while somebody listened does not hold on to the listener.
    """
    closed, held = policy()
    listener = Recorder(CallRejected)
    kept = weakref.ref(listener)
    with listen(listener), pytest.raises(RejectedError):
        closed.admit()
    assert [CallRejected] == [type(each) for each in listener.events]
    del listener
    gc.collect()
    assert None is kept()
    if held is not None:
        held.release()


def test_live_breakers_are_those_that_can_still_be_called():
    """
    A breaker that only the functions it guards still hold is listed, read and moved; one that is gone is not.
    """
    wrapped = breaker("kept by its function").wrap(Script(OSError).__call__)
    gc.collect()
    (live,) = [each for each in live_breakers() if each.name == "kept by its function"]
    with live.isolate():
        assert CircuitState.ISOLATED is live.snapshot().state
    live.reset()
    assert CircuitState.CLOSED is live.snapshot().state
    assert "<LiveBreaker 'kept by its function'>" == repr(live)
    assert sorted(each.name for each in live_breakers()) == [each.name for each in live_breakers()]
    del wrapped, live
    gc.collect()
    assert "kept by its function" not in [each.name for each in live_breakers()]


async def test_tenacitys_strategies_see_the_users_function(backend):
    """
    Law 28: what a strategy is told of the call is the same whether somebody listens or not.
    """
    seen = []

    async def fetch():
        raise OSError

    def wait(state):
        seen.append((state.fn, state.get_fn_name()))
        return 0.0

    retry = Pipeline(Retry(2, on=OSError, wait=wait))
    await retry.outcome(fetch)
    with listen(Recorder(AttemptFinished)):
        await retry.outcome(fetch)
    assert seen[0] == seen[1]
    assert seen[0][0] is fetch


def test_who_comes_late_is_told_at_once():
    """
    A guard that is made while somebody listens to the whole process knows it from the beginning.
    """
    told = []

    class Late:
        def aware(self):
            told.append(True)

    late = Late()
    EVERYWHERE.tell_when_heard(late)
    assert [] == told
    with listen(lambda _: None):
        assert [True] == told
        EVERYWHERE.tell_when_heard(late)
        assert [True, True] == told
