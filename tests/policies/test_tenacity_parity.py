"""
Law 28 as a comparison: the same scripted failures through tenacity's own loop and through ours, for every strategy.

Each case names its strategies through `Names`, which writes down what was asked for, so that the last test can say
which of tenacity's exports no case has used. What is compared: the attempts and when they began, the answer by
identity, and a snapshot of the state at every decision, taken inside the strategies themselves: the ``__call__`` of
every class of tenacity's is watched, so the parts of a chain or a combination are seen too.

tenacity reads `time.monotonic`; its ``time`` is exchanged for the loop's, so both run in the same virtual time, from
the same instant. Random waits are seeded alike.

Left out on purpose, and documented in the laws: what ends a retry that only we know (deadlines, rejections), waits
above ``max_delay`` (tenacity has no cap; it is set out of reach here), and groups, which we judge by their leaves.
"""

import contextlib
import functools
import inspect
import random
import threading
import types
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import attrs
import pytest
import tenacity
from tenacity import asyncio as tenacity_asyncio

from resilience import Retry
from resilience.clock import PROCESS_CLOCK
from resilience.testing import Script, Wait, run

PREFIXES = ("stop_", "wait_", "retry_")
USED: set[str] = set()


class Names:
    """A module of tenacity's, which remembers what was taken from it; an older one may not have everything."""

    def __init__(self, module: Any, prefix: str = "") -> None:
        self._module = module
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        if not name.startswith((*PREFIXES, "async_")):
            raise AttributeError(name)
        USED.add(self._prefix + name)
        try:
            return getattr(self._module, name)
        except AttributeError:
            pytest.skip(f"this tenacity has no {self._prefix}{name}")


T = Names(tenacity)
A = Names(tenacity_asyncio.retry, "asyncio.")


@attrs.frozen
class Case:
    """Strategies, made anew for each engine, and the steps the callee plays."""

    make: Callable[[], dict[str, Any]]
    steps: tuple[Any, ...]


CASES: dict[str, Case] = {}


def case(*steps: Any) -> Callable[[Callable[[], dict[str, Any]]], Callable[[], dict[str, Any]]]:
    """Register a case: the function returns `retry`, `wait` and `stop`, each optional."""

    def register(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        CASES[make.__name__] = Case(make, steps)
        return make

    return register


class DatabaseError(OSError):
    pass


CAUSED = OSError("outer")
CAUSED.__cause__ = KeyError("middle")
CAUSED.__cause__.__cause__ = DatabaseError("inner")
LOOP = OSError("its own cause")
LOOP.__cause__ = KeyError("back")
LOOP.__cause__.__cause__ = LOOP
BUSY = OSError("busy, try later")
GONE = OSError("gone")
FOUR_FAIL = (OSError("1"), DatabaseError("2"), TimeoutError("3"), OSError("4"), "fifth")
SLOW = tuple(Wait(seconds, OSError(str(seconds))) for seconds in (0.25, 0.5, 1, 2, 4))


# ------------------------------------------------------------------------------------------- stop


@case(*FOUR_FAIL)
def stop_after_attempt():
    return {"stop": T.stop_after_attempt(3)}


@case(*FOUR_FAIL)
def stop_after_attempt_of_one():
    return {"stop": T.stop_after_attempt(1)}


@case(*SLOW)
def stop_after_delay():
    return {"stop": T.stop_after_delay(3), "wait": T.wait_fixed(0.5)}


@case(*SLOW)
def stop_after_delay_reached_exactly():
    return {"stop": T.stop_after_delay(timedelta(seconds=0.75)), "wait": T.wait_none()}


@case(*SLOW)
def stop_before_delay():
    return {"stop": T.stop_before_delay(3), "wait": T.wait_fixed(1)}


@case(*SLOW)
def stop_before_delay_sees_the_wait_to_come():
    return {"stop": T.stop_before_delay(4), "wait": T.wait_incrementing(start=0.1, increment=1.3)}


@case(*FOUR_FAIL)
def stop_never():
    return {"stop": T.stop_never}


@case(*FOUR_FAIL)
def stop_when_event_set():
    event = threading.Event()

    def wait(state):
        if state.attempt_number == 2:
            event.set()
        return 0.5

    return {"stop": T.stop_when_event_set(event), "wait": wait}


@case(*SLOW)
def stop_any():
    return {"stop": T.stop_any(T.stop_after_attempt(4), T.stop_after_delay(1.5))}


@case(*SLOW)
def stop_all():
    return {"stop": T.stop_all(T.stop_after_attempt(2), T.stop_after_delay(1.5))}


@case(*SLOW)
def stops_joined_by_or_and_and():
    return {
        "stop": (T.stop_after_attempt(2) & T.stop_after_delay(1)) | T.stop_before_delay(60),
        "wait": T.wait_fixed(0.5),
    }


@case(*FOUR_FAIL)
def a_plain_function_stops():
    return {"stop": lambda state: isinstance(state.outcome.exception(), TimeoutError)}


@case(*FOUR_FAIL)
def a_plain_object_stops():
    class AfterIdle:
        def __call__(self, state):
            return state.idle_for >= 3

    return {"stop": AfterIdle(), "wait": T.wait_fixed(1.5)}


@case(*FOUR_FAIL)
def an_async_function_stops():
    async def stop(state):
        await anyio.sleep(0.1)
        return state.attempt_number >= 3

    return {"stop": stop, "wait": T.wait_fixed(1)}


# ------------------------------------------------------------------------------------------- wait


@case(*FOUR_FAIL)
def wait_none():
    return {"wait": T.wait_none()}


@case(*FOUR_FAIL)
def wait_fixed():
    return {"wait": T.wait_fixed(2)}


@case(*FOUR_FAIL)
def wait_fixed_of_a_timedelta():
    return {"wait": T.wait_fixed(timedelta(milliseconds=1500))}


@case(*FOUR_FAIL)
def wait_random():
    return {"wait": T.wait_random(min=1, max=9)}


@case(*FOUR_FAIL)
def wait_incrementing():
    return {"wait": T.wait_incrementing(start=1, increment=2, max=4)}


@case(*FOUR_FAIL)
def wait_incrementing_downwards():
    return {"wait": T.wait_incrementing(start=3, increment=-1)}


@case(*FOUR_FAIL)
def wait_exponential():
    return {"wait": T.wait_exponential(multiplier=0.5, exp_base=3, min=1, max=10)}


@case(*[OSError(str(n)) for n in range(1100)])
def wait_exponential_far_beyond_a_float():
    return {
        "wait": T.wait_exponential(multiplier=1, max=7),
        "stop": T.stop_after_attempt(1090),
    }


@case(*FOUR_FAIL)
def wait_random_exponential():
    return {"wait": T.wait_random_exponential(multiplier=2, max=60)}


@case(*FOUR_FAIL)
def wait_full_jitter():
    return {"wait": T.wait_full_jitter(multiplier=2, max=60, min=1)}


@case(*FOUR_FAIL)
def wait_exponential_jitter():
    return {"wait": T.wait_exponential_jitter(max=20, exp_base=3, jitter=2)}


@case(*FOUR_FAIL)
def wait_chain():
    return {"wait": T.wait_chain(T.wait_fixed(1), T.wait_random(2, 3), T.wait_fixed(4))}


@case(*FOUR_FAIL)
def wait_combine():
    return {"wait": T.wait_combine(T.wait_fixed(1), T.wait_random(0, 1), T.wait_exponential())}


@case(*FOUR_FAIL)
def waits_joined_by_plus():
    return {"wait": T.wait_fixed(1) + T.wait_random(0, 1) + T.wait_incrementing(1, 1)}


@case(*FOUR_FAIL)
def waits_joined_by_sum():
    return {"wait": sum([T.wait_fixed(1), T.wait_random(0, 1)])}


@case(*FOUR_FAIL)
def waits_combined_in_a_chain():
    return {
        "wait": T.wait_chain(
            T.wait_fixed(1) + T.wait_random(0, 2), T.wait_combine(T.wait_fixed(3), T.wait_fixed(4))
        )
    }


@case(*FOUR_FAIL)
def wait_exception():
    def read(error):
        return {"1": 1.0, "2": 2.5}.get(str(error), 0.5)

    return {"wait": T.wait_exception(read)}


@case(*FOUR_FAIL)
def a_plain_function_waits():
    return {"wait": lambda state: state.attempt_number**2}


@case(*SLOW)
def a_plain_function_waits_by_what_it_sees():
    return {
        "wait": lambda state: state.seconds_since_start / 2 + state.idle_for / 4,
        "stop": T.stop_after_attempt(5),
    }


@case(*FOUR_FAIL)
def an_async_function_waits():
    async def wait(state):
        await anyio.sleep(0.25)
        return state.attempt_number

    return {"wait": wait, "stop": T.stop_after_attempt(4)}


# ------------------------------------------------------------------------------------------ retry


@case(OSError("1"), ValueError("2"), "third")
def retry_if_exception():
    return {"retry": T.retry_if_exception(lambda error: isinstance(error, OSError))}


@case(OSError("1"), DatabaseError("2"), ValueError("3"), "fourth")
def retry_if_exception_type():
    return {"retry": T.retry_if_exception_type(OSError)}


@case(OSError("1"), KeyError("2"), ValueError("3"), "fourth")
def retry_if_exception_type_of_several():
    return {"retry": T.retry_if_exception_type((OSError, KeyError))}


@case(OSError("1"), KeyError("2"), "third")
def retry_if_exception_type_of_all():
    return {"retry": T.retry_if_exception_type()}


@case(OSError("1"), KeyError("2"), ValueError("3"), "fourth")
def retry_if_not_exception_type():
    return {"retry": T.retry_if_not_exception_type(ValueError)}


@case("1", OSError("2"), "3", ValueError("4"), "fifth")
def retry_unless_exception_type():
    return {"retry": T.retry_unless_exception_type(ValueError)}


@case(CAUSED, OSError("no cause"), "third")
def retry_if_exception_cause_type():
    return {"retry": T.retry_if_exception_cause_type(DatabaseError)}


@case(LOOP, "second")
def retry_if_exception_cause_type_of_a_cycle():
    return {"retry": T.retry_if_exception_cause_type(DatabaseError)}


@case(BUSY, BUSY, GONE, "fourth")
def retry_if_exception_message():
    return {"retry": T.retry_if_exception_message(message="busy, try later")}


@case(BUSY, GONE, "third")
def retry_if_exception_message_by_pattern():
    return {"retry": T.retry_if_exception_message(match="busy.*")}


@case(BUSY, "second", GONE, "fourth")
def retry_if_not_exception_message():
    return {"retry": T.retry_if_not_exception_message(message="gone")}


@case(1, 2, 3, 4)
def retry_if_result():
    return {"retry": T.retry_if_result(lambda result: result < 3)}


@case(1, OSError("2"), 3)
def retry_if_result_and_an_error():
    return {"retry": T.retry_if_result(lambda result: result < 3)}


@case(1, 2, 3, 4)
def retry_if_not_result():
    return {"retry": T.retry_if_not_result(lambda result: result >= 3)}


@case(None, None, None, None, "fifth")
def a_result_refused_to_the_end():
    return {"retry": T.retry_if_result(lambda r: r is None), "stop": T.stop_after_attempt(3)}


@case(OSError("1"), "second")
def retry_never():
    return {"retry": T.retry_never}


@case(OSError("1"), "second", ValueError("3"), "fourth")
def retry_always():
    return {"retry": T.retry_always, "stop": T.stop_after_attempt(4)}


@case(OSError("1"), -1, KeyError("3"), 4)
def retry_any():
    return {
        "retry": T.retry_any(
            T.retry_if_exception_type(OSError), T.retry_if_result(lambda result: result < 0)
        )
    }


@case(BUSY, GONE, "third")
def retry_all():
    return {
        "retry": T.retry_all(
            T.retry_if_exception_type(OSError), T.retry_if_exception_message(match="busy")
        )
    }


@case(BUSY, -1, DatabaseError("busy too"), KeyError("4"), "fifth")
def retries_joined_by_or_and_and():
    return {
        "retry": (T.retry_if_exception_type(OSError) & T.retry_if_exception_message(match="busy"))
        | T.retry_if_result(lambda result: result == -1)
    }


@case(OSError("1"), -1, ValueError("3"), "fourth")
def a_plain_function_within_a_union():
    def mine(state):
        return not state.outcome.failed and state.outcome.result() == -1

    return {"retry": T.retry_if_exception_type(OSError) | mine}


@case(OSError("1"), OSError("2"), OSError("3"), "fourth")
def a_plain_function_within_an_intersection():
    return {"retry": T.retry_if_exception_type(OSError) & (lambda state: state.attempt_number < 3)}


@case(OSError("1"), "", KeyError("3"), "fourth")
def a_class_of_the_users():
    class OrEmpty(T.retry_base):
        def __call__(self, retry_state):
            outcome = retry_state.outcome
            return (
                isinstance(outcome.exception(), OSError) if outcome.failed else not outcome.result()
            )

    return {"retry": OrEmpty()}


# --------------------------------------------------------------------------- tenacity.asyncio.retry


async def is_os_error(error):
    await anyio.sleep(0.125)
    return isinstance(error, OSError)


async def is_negative(result):
    await anyio.sleep(0.125)
    return result < 0


@case(OSError("1"), KeyError("2"), "third")
def async_retry_if_exception():
    return {"retry": A.retry_if_exception(is_os_error)}


@case(-1, -2, 3, 4)
def async_retry_if_result():
    return {"retry": A.retry_if_result(is_negative)}


@case(-1, OSError("2"), 3, 4)
def async_retry_any():
    return {"retry": A.retry_any(A.retry_if_exception(is_os_error), A.retry_if_result(is_negative))}


@case(BUSY, GONE, "third")
def async_retry_all():
    return {
        "retry": A.retry_all(
            A.retry_if_exception(is_os_error), T.retry_if_exception_message(match="busy")
        )
    }


@case(-1, OSError("2"), KeyError("3"), 4)
def async_and_sync_joined_by_or():
    return {"retry": T.retry_if_exception_type(OSError) | A.retry_if_result(is_negative)}


@case(BUSY, OSError("other"), 3)
def async_and_sync_joined_by_and():
    return {"retry": A.retry_if_exception(is_os_error) & T.retry_if_exception_message(match="busy")}


@case(OSError("1"), -2, ValueError("3"), 4)
def an_async_class_of_the_users():
    class Patient(A.async_retry_base):
        async def __call__(self, retry_state):
            await anyio.sleep(0.5)
            return retry_state.attempt_number < 3

    return {"retry": Patient()}


# ------------------------------------------------------------------------------------------ others


@case(tenacity.TryAgain(), tenacity.TryAgain(), OSError("3"), "fourth")
def try_again_is_an_order():
    return {"retry": T.retry_if_exception_type(OSError), "wait": T.wait_fixed(1)}


@case(tenacity.TryAgain(), tenacity.TryAgain(), tenacity.TryAgain(), "fourth")
def try_again_is_stopped_like_others():
    return {"retry": T.retry_never, "stop": T.stop_after_attempt(2)}


@case(Wait(0.5, OSError("1")), Wait(0.25, -1), Wait(1, OSError("3")), Wait(2, 4))
def everything_at_once():
    return {
        "retry": T.retry_if_exception_type(OSError) | A.retry_if_result(is_negative),
        "wait": T.wait_chain(T.wait_fixed(1), T.wait_random(1, 2)) + T.wait_exponential(0.5),
        "stop": T.stop_before_delay(60) | (T.stop_after_attempt(9) & T.stop_after_delay(1)),
    }


# -------------------------------------------------------------------------------------- the harness


def strategy_classes():
    """Every class of tenacity's whose instances are asked something."""
    found, stack = [], [tenacity.retry_base, tenacity.stop.stop_base, tenacity.wait.wait_base]
    while stack:
        kind = stack.pop()
        stack += kind.__subclasses__()
        if "__call__" in vars(kind) and not inspect.isabstract(kind):
            found.append(kind)
    return found


class Watch:
    """Writes down what strategies see. Their classes are watched, so that the objects themselves stay what they are."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self.seen = []

    def classes(self):
        for kind in strategy_classes():
            self._monkeypatch.setattr(
                kind, "__call__", self.watched(kind.__name__, vars(kind)["__call__"])
            )

    def functions(self, strategies):
        """Plain functions have no class of tenacity's to watch."""
        kinds = (tenacity.retry_base, tenacity.stop.stop_base, tenacity.wait.wait_base)
        return {
            name: each
            if isinstance(each, kinds)
            else self.watched(name, each if inspect.isfunction(each) else each.__call__)
            for name, each in strategies.items()
        }

    def watched(self, name, function):
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def asked(*args, **kwargs):
                return self.note(name, args, kwargs, await function(*args, **kwargs))

        else:

            @functools.wraps(function)
            def asked(*args, **kwargs):
                return self.note(name, args, kwargs, function(*args, **kwargs))

        return asked

    def note(self, name, args, kwargs, answer):
        state = kwargs["retry_state"] if "retry_state" in kwargs else args[-1]
        outcome = state.outcome
        self.seen.append(
            {
                "strategy": name,
                "answer": answer,
                "attempt_number": state.attempt_number,
                "failed": outcome.failed,
                "outcome": outcome.exception() if outcome.failed else outcome.result(),
                "outcome.attempt_number": outcome.attempt_number,
                "seconds_since_start": state.seconds_since_start,
                "since_start": state.outcome_timestamp - state.start_time,
                "idle_for": state.idle_for,
                "upcoming_sleep": state.upcoming_sleep,
                "args": state.args,
                "kwargs": dict(state.kwargs),
                "next_action": state.next_action,
            }
        )
        return answer

    def decisions(self, answer):
        """What was seen; without the questions about a welcome result whose answer could only be no."""
        seen = list(self.seen)
        while (
            seen
            and not seen[-1]["failed"]
            and seen[-1]["outcome"] is answer
            and not seen[-1]["answer"]
        ):
            seen.pop()
        return seen


async def through_tenacity(script, strategies):
    options = {"stop": tenacity.stop_never, "wait": tenacity.wait_none(), **strategies}
    # At the end tenacity wraps; asked for the last outcome it hands out what `Retry` does.
    loop = tenacity.AsyncRetrying(
        sleep=anyio.sleep, retry_error_callback=lambda state: state.outcome.result(), **options
    )
    return await loop(script, "argument", keyword="argument")


async def through_ours(script, strategies):
    on = strategies.get("retry", tenacity.retry_if_exception_type())
    retry = Retry(
        on=on,
        wait=strategies.get("wait", tenacity.wait_none()),
        stop=strategies.get("stop", tenacity.stop_never),
        max_delay=1e12,
        retry_after=False,
    )
    return await retry(script, "argument", keyword="argument")


def played(engine, case, backend, monkeypatch, *, watched):
    """One run: the answer, the instants of the attempts, when it ended, and what the strategies saw."""
    script = Script(*case.steps)
    with monkeypatch.context() as patch:
        patch.setattr(
            tenacity, "time", types.SimpleNamespace(monotonic=PROCESS_CLOCK.now, sleep=None)
        )
        watch = Watch(patch)
        strategies = case.make()
        if watched:
            watch.classes()
            strategies = watch.functions(strategies)
        random.seed(1234)

        async def main():
            patch.setattr(tenacity.time, "monotonic", PROCESS_CLOCK.now)
            started = anyio.current_time()
            try:
                answer = await engine(script, strategies)
            except Exception as error:  # noqa: BLE001 - the answer, whatever it is
                answer = error
            return answer, anyio.current_time() - started

        answer, took = run(main, backend=backend)
    return answer, script.times, took, watch.decisions(answer)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
@pytest.mark.parametrize("name", CASES)
def test_the_same_attempts_waits_and_answer_as_tenacity(name, library, monkeypatch):
    """
    Unwatched, so that every object is the user's own: attempts, instants and answer are tenacity's (law 28, PY-005).
    """
    theirs = played(through_tenacity, CASES[name], library, monkeypatch, watched=False)
    ours = played(through_ours, CASES[name], library, monkeypatch, watched=False)

    assert theirs[0] is ours[0]
    assert theirs[1] == pytest.approx(ours[1], abs=1e-9)
    assert theirs[2] == pytest.approx(ours[2], abs=1e-9)


@pytest.mark.parametrize("library", ["asyncio", "trio"])
@pytest.mark.parametrize("name", CASES)
def test_every_strategy_sees_the_same_state_at_each_decision(name, library, monkeypatch):
    """
    Which strategies are asked, in which order, what each sees and what it answers: as in tenacity (law 28).
    """
    theirs = played(through_tenacity, CASES[name], library, monkeypatch, watched=True)
    ours = played(through_ours, CASES[name], library, monkeypatch, watched=True)

    expected, found = theirs[3], ours[3]
    assert expected or name.startswith("retry_never")
    assert [each["strategy"] for each in expected] == [each["strategy"] for each in found]
    for mine, yours in zip(found, expected, strict=True):
        assert mine["outcome"] is yours["outcome"]
        assert {
            key: round(value, 9) if isinstance(value, float) else value
            for key, value in mine.items()
        } == {
            key: round(value, 9) if isinstance(value, float) else value
            for key, value in yours.items()
        }


def test_the_harness_tells_engines_apart(monkeypatch):
    """
    A control: an engine that waits a little longer, or stops one attempt early, is found different.
    """
    example = CASES["wait_exponential"]

    async def slower(script, strategies):
        return await through_ours(
            script, {**strategies, "wait": strategies["wait"] + tenacity.wait_fixed(0.01)}
        )

    async def shorter(script, strategies):
        with contextlib.suppress(OSError):
            return await through_ours(
                script, {**strategies, "stop": tenacity.stop_after_attempt(4)}
            )

    theirs = played(through_tenacity, example, "asyncio", monkeypatch, watched=True)
    for engine in (slower, shorter):
        other = played(engine, example, "asyncio", monkeypatch, watched=True)
        assert theirs[1:3] != other[1:3]
        assert theirs[3] != other[3]


def exported():
    """What tenacity exports as a strategy, the asyncio ones with their prefix."""
    names = {name for name in tenacity.__all__ if name.startswith(PREFIXES)}
    names |= {name for name in dir(tenacity) if name.startswith(PREFIXES)}
    return names | {
        f"asyncio.{name}"
        for name in dir(tenacity_asyncio.retry)
        if "retry_" in name
        and inspect.isclass(each := getattr(tenacity_asyncio.retry, name))
        and each.__module__ == tenacity_asyncio.retry.__name__
    }


def test_no_strategy_of_tenacitys_is_left_out():
    """
    A walk over what tenacity exports: a strategy that a new version brings fails until it has a case (law 28).
    """
    for each in CASES.values():
        with contextlib.suppress(pytest.skip.Exception):
            each.make()

    assert len(exported()) > 30
    assert set() == exported() - USED


def test_our_wait_strategy_serves_tenacity_as_well():
    """
    The other way round: `FullJitter` in tenacity's loop waits what it waits in ours (law 28).
    """
    from resilience import FullJitter  # noqa: PLC0415 - of this test only

    def waits(engine):
        script = Script(*FOUR_FAIL)
        jitter = FullJitter(initial=1, cap=3, rng=random.Random(7))
        run(functools.partial(engine, script, {"wait": jitter}))
        return script.times

    theirs, ours = waits(through_tenacity), waits(through_ours)

    assert len(theirs) == 5
    assert theirs == pytest.approx(ours)
