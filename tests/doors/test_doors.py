"""
Every door: what it promises, what it refuses, and with which words.
"""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock

import anyio
import pytest

from resilience import (
    Call,
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    Failure,
    FullJitter,
    Pipeline,
    Retry,
    Success,
    Timeout,
    TimeoutExceededError,
)
from resilience.errors import CircuitIsolatedError, DeadlineExpiredError, RejectedError
from resilience.testing import Hang, ManualClock, Script, Wait

retry = Retry(3, on=OSError, wait=FullJitter(0, 0))


async def lookup(sku: str, /, size: int = 1, *rest: int, fresh: bool = False, **more: str) -> tuple:
    """Looks it up."""
    return sku, size, rest, fresh, more


class Shop:
    """A service with methods."""

    @retry.wrap
    async def find(self, sku: str) -> tuple:
        return self, sku

    @classmethod
    @retry.wrap
    async def of(cls, sku: str) -> tuple:
        return cls, sku

    @staticmethod
    @retry.wrap
    async def plain(sku: str) -> str:
        return sku

    @retry.informed
    async def attempt(self, call: Call, sku: str) -> tuple:
        return self, call.attempt, sku

    async def __call__(self, sku: str) -> str:
        return sku


@pytest.fixture(params=["pipeline", "policy"])
def guarded(request):
    return Pipeline(retry) if request.param == "pipeline" else retry


async def test_a_call_takes_anything_that_returns_an_awaitable(backend, guarded):
    """
    api.md: coroutine function, lambda, partial, bound method, callable object, mock; with its arguments.
    """
    shop = Shop()
    assert ("a", 2, (3,), True, {"x": "y"}) == await guarded(lookup, "a", 2, 3, fresh=True, x="y")
    assert "a" == (await guarded(lambda: lookup("a")))[0]
    assert "a" == (await guarded(functools.partial(lookup, "a")))[0]
    assert (shop, "a") == await guarded(shop.find, "a")
    assert "a" == await guarded(shop, "a")
    assert 7 == await guarded(AsyncMock(return_value=7), "a")


async def test_a_wrapped_function_keeps_its_signature(backend, guarded):
    """
    api.md: `wrap` gives a coroutine function with the exact signature, name and docs.
    """
    wrapped = guarded.wrap(lookup)
    assert inspect.iscoroutinefunction(wrapped)
    assert inspect.signature(lookup) == inspect.signature(wrapped)
    assert ("lookup", "Looks it up.") == (wrapped.__name__, wrapped.__doc__)
    assert ("a", 2, (3,), True, {"x": "y"}) == await wrapped("a", 2, 3, fresh=True, x="y")
    assert (await wrapped("a"))[1] == 1


async def test_methods_of_every_kind_are_wrapped(backend):
    """
    api.md: methods included; `wrap` stands below classmethod and staticmethod.
    """
    shop = Shop()
    assert (shop, "a") == await shop.find("a")
    assert (shop, "a") == await Shop.find(shop, "a")
    assert (Shop, "a") == await Shop.of("a")
    assert "a" == await Shop.plain("a")
    assert (shop, 1, "a") == await shop.attempt("a")
    assert ["self", "sku"] == list(inspect.signature(Shop.attempt).parameters)


@pytest.mark.parametrize(
    "fn",
    [functools.partial(lookup, "a"), Shop(), AsyncMock(return_value=("a",))],
    ids=["partial", "object", "mock"],
)
async def test_callables_without_a_name_are_wrapped(backend, guarded, fn):
    """
    api.md: `wrap` takes partials and callable objects.
    """
    arguments = () if isinstance(fn, functools.partial) else ("a",)
    assert "a" == (await guarded.wrap(fn)(*arguments))[0]


async def rows() -> AsyncIterator[int]:
    yield 1


@asynccontextmanager
async def connect(value: int = 1) -> AsyncIterator[int]:
    yield value


def plain(sku: str) -> str:
    return sku


def future(sku: str) -> Awaitable[str]:
    return Shop()(sku)


@pytest.mark.parametrize("door", ["wrap", "informed"])
@pytest.mark.parametrize(
    ("fn", "hint"),
    [
        (rows, r"use p\.stream\(rows\)"),
        (connect, r"use p\.opening\(connect\)"),
        (classmethod(lookup), r"put @p\.wrap below @classmethod"),
        (staticmethod(lookup), r"put @p\.wrap below @staticmethod"),
        (plain, r"nobody can tell whether plain .* await p\(plain, \.\.\.\)"),
        (len, "nobody can tell whether len"),
        (5, "a callable that returns an awaitable is needed, got int"),
    ],
    ids=["generator", "manager", "classmethod", "staticmethod", "plain", "builtin", "number"],
)
def test_what_cannot_be_wrapped_is_refused_with_the_right_spelling(guarded, door, fn, hint):
    """
    api.md, H17: refused when decorated, in words that name the spelling that works.
    """
    with pytest.raises(TypeError, match=hint):
        getattr(guarded, door)(fn)


async def test_a_plain_function_that_says_it_returns_an_awaitable_is_wrapped(backend, guarded):
    """
    api.md: a plain function is undecidable only if its annotation says nothing.
    """
    assert "a" == await guarded.wrap(future)("a")


@pytest.mark.parametrize("door", ["__call__", "outcome", "wrap"])
async def test_a_coroutine_object_is_closed_and_the_error_spells_it_right(backend, guarded, door):
    """
    api.md, H46: `guarded(charge(order))` closes the coroutine and prints `await guarded(charge, ...)`.
    """
    coroutine = lookup("a")
    with pytest.raises(TypeError, match=r"await guarded\(lookup, \.\.\.\), not guarded\(lookup"):
        await getattr(guarded, door)(coroutine)
    assert inspect.CORO_CLOSED == inspect.getcoroutinestate(coroutine)


def _decorations():
    def function(guard):
        @guard
        async def decorated() -> None: ...

    def method(guard):
        class Decorated:
            @guard
            async def method(self, sku: str = "a") -> None: ...

    def closure(guard):
        value = 1

        @guard
        async def decorated(default: int = 2, *, keyword: int = 3) -> int:
            return value

    return [function, method, closure]


@pytest.mark.parametrize("decorate", _decorations(), ids=lambda each: each.__name__)
@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
def test_a_bare_decorator_is_refused(guarded, decorate, traced):
    """
    api.md: `@p` without `.wrap` raises TypeError with `use @p.wrap`.
    """
    tracer = sys.gettrace()
    if traced:
        sys.settrace(lambda *_: None)
    try:
        with pytest.raises(TypeError, match=r"use @p\.wrap"):
            decorate(guarded)
    finally:
        sys.settrace(tracer)


async def test_calls_that_only_look_like_decoration_run(backend, guarded):
    """
    api.md: functions made on the spot are run, as long as they are not decorated.
    """

    def make():
        async def made() -> int:
            return 1

        return made

    async def local() -> int:
        return 2

    assert 1 == await guarded(make())
    assert 2 == await guarded(local)
    assert 3 == await guarded(lambda: asyncio_free(3))


async def asyncio_free(value: int) -> int:
    return value


async def test_an_informed_callee_knows_its_attempt_and_deadline(backend, unit):
    """
    api.md: attempt from 1, deadline, remaining(), key and the error before.
    """
    seen = []

    async def callee(call: Call, sku: str) -> str:
        left = call.remaining()
        seen.append((call.attempt, type(call.previous_error), 0 < left <= 10.1 * unit, call.key))
        assert call.deadline is not None
        if call.attempt < 3:
            raise OSError
        return sku

    guarded = Pipeline(Timeout(10 * unit), retry, key=lambda sku: sku.upper())
    assert "a" == await guarded.informed(callee)("a")
    assert [(1, type(None), True, "A"), (2, OSError, True, "A"), (3, OSError, True, "A")] == seen


async def test_a_call_without_a_deadline_has_all_the_time(backend):
    """
    api.md: without a Timeout the deadline is None and what remains is infinite.
    """

    async def callee(call: Call) -> tuple:
        return call.deadline, call.remaining(), call.key, repr(call)

    assert (None, float("inf"), "tenant", "<Call attempt=1>") == await Pipeline(
        retry, key="tenant"
    ).informed(callee)()


def test_an_informed_callee_needs_a_place_for_the_call(guarded):
    """
    api.md: a function without an argument for the Call is refused by name.
    """

    async def nothing() -> None: ...

    with pytest.raises(TypeError, match="nothing must take a Call as its first argument"):
        guarded.informed(nothing)


class Manager:
    """A context manager that tells what happens to it."""

    log: list

    def __init__(self, log, *fails) -> None:
        self.log = log
        self.fails = fails

    async def __aenter__(self):
        self.log.append("enter")
        if self.fails and len(self.log) <= len(self.fails):
            raise self.fails[len(self.log) - 1]
        return len(self.log)

    async def __aexit__(self, kind, *_):
        self.log.append("exit" if kind is None else kind.__name__)


async def test_opening_guards_the_entering_only(backend):
    """
    api.md: entering is retried with a new manager each time; the body is the caller's.
    """
    log: list = []
    with pytest.raises(OSError, match="body"):  # noqa: PT012 - the body is what raises
        async with Pipeline(retry).opening(Manager)(log, OSError(), OSError()) as value:
            assert 3 == value
            raise OSError("body")
    assert ["enter", "enter", "enter", "OSError"] == log


async def test_a_manager_whose_value_is_refused_is_left(backend):
    """
    api.md: a manager that was entered in vain is exited before the next, and the last one after the body.
    """
    log: list = []
    picky = Retry(5, on=OSError, on_result=lambda value: value < 5, wait=lambda _: 0.0)
    async with picky.opening(Manager)(log) as value:
        assert 5 == value
    assert ["enter", "exit", "enter", "exit", "enter", "exit"] == log


async def test_a_manager_is_left_when_the_waiting_is_cancelled(backend, unit):
    """
    api.md, P4: cancelled between two tries, what was entered is exited.
    """
    log: list = []
    picky = Retry(
        5, on=OSError, on_result=lambda _: True, wait=lambda _: 50 * unit, retry_after=False
    )
    with anyio.move_on_after(unit):
        async with picky.opening(Manager)(log):
            raise AssertionError
    assert ["enter", "Cancelled" if backend == "trio" else "CancelledError"] == log


class Source:
    """An async generator function that records its life."""

    def __init__(self, *runs) -> None:
        self.runs = list(runs)
        self.starts = self.closed = 0

    async def __call__(self, *_):
        run = self.runs[min(self.starts, len(self.runs) - 1)]
        self.starts += 1
        try:
            for item in run:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, Wait):
                    await anyio.sleep(item.seconds)
                    continue
                yield item
        finally:
            self.closed += 1


async def test_a_stream_is_retried_up_to_its_first_item_and_never_replayed(backend):
    """
    api.md: what was delivered is not delivered again; an error after the first item is the consumer's.
    """
    source = Source([OSError("start")], [1, 2, OSError("middle")])
    seen = []
    with pytest.raises(OSError, match="middle"):  # noqa: PT012 - the items are what raises
        async with Pipeline(retry).stream(source)("q") as items:
            async for item in items:
                seen.append(item)  # noqa: PERF401 - what came before the error counts
    assert ([1, 2], 2, 2) == (seen, source.starts, source.closed)


async def test_an_empty_stream_is_empty(backend):
    """
    api.md: a stream without items is a success and iterates over nothing.
    """
    async with retry.stream(Source([]))() as items:
        assert [] == [item async for item in items]


async def test_the_first_item_has_a_deadline_and_the_others_have_not(backend, unit):
    """
    api.md, H17: no deadline stays open across a yield.
    """
    slow = Source([Wait(5 * unit), 1])
    with pytest.raises(TimeoutExceededError):
        async with Timeout(unit).stream(slow)() as items:
            raise AssertionError
    assert 1 == slow.closed
    async with Timeout(unit).stream(Source([1, Wait(3 * unit), 2]))() as items:
        assert [1, 2] == [item async for item in items]


def a_breaker(name: str) -> CircuitBreaker:
    return CircuitBreaker(
        f"doors {name}", on=OSError, trip=ConsecutiveFailures(1), clock=ManualClock()
    )


@pytest.mark.parametrize("hold", [False, True])
@pytest.mark.parametrize("end", ["all", "early", "fails", "body", "cancelled"])
async def test_a_held_stream_is_judged_at_its_end(backend, unit, hold, end):
    """
    api.md: with `hold` the permits last to the end: an error is a failure, a consumer who stops early or leaves is not.
    """
    breaker = a_breaker(f"hold {hold} {end} {backend}")
    source = Source([1, 2, OSError("end")] if end == "fails" else [1, 2])

    async def consume():
        async with breaker.stream(source, hold=hold)() as items:
            assert not hold or 0 == breaker.snapshot().totals.successes
            async for _ in items:
                if end == "early":
                    break
                if end == "body":
                    raise KeyError
                if end == "cancelled":
                    await anyio.sleep(50 * unit)

    if end == "cancelled":
        with anyio.move_on_after(unit):
            await consume()
    elif end in {"fails", "body"}:
        with pytest.raises(OSError if end == "fails" else KeyError):
            await consume()
    else:
        await consume()

    totals = breaker.snapshot().totals
    counted = totals.successes, totals.failures, totals.ignored
    ended = {"fails": (0, 1, 0), "cancelled": (0, 0, 1)}
    assert (ended.get(end, (1, 0, 0)) if hold else (1, 0, 0)) == counted
    assert 1 == source.closed


async def test_a_stream_that_a_later_policy_fails_gives_its_permit_back(backend):
    """
    api.md, law 33: a held permit is settled when the stream never starts.
    """
    breaker = a_breaker(f"never {backend}")
    picky = Retry(2, on=OSError, on_result=lambda _: 1 / 0, wait=lambda _: 0.0)
    with pytest.warns(match="hang"):
        guarded = Pipeline(picky, breaker)
    async with guarded.stream(Source([1], [2]), hold=True)() as items:
        assert [2] == [item async for item in items]
    totals = breaker.snapshot().totals
    assert (2, 0, 0) == (totals.successes, totals.failures, totals.ignored)


async def test_an_outcome_raises_no_exception(backend, unit):
    """
    api.md: Success or Failure, with attempts, elapsed, exhausted and the rejection.
    """
    good = await retry.outcome(Script(OSError, 42))
    assert isinstance(good, Success)
    assert (True, 42, 2, False, None) == (
        good.ok,
        good.unwrap(),
        good.attempts,
        good.exhausted,
        good.rejection,
    )
    bad = await retry.outcome(Script(OSError("down")))
    assert isinstance(bad, Failure)
    assert (False, 3, True) == (bad.ok, bad.attempts, bad.exhausted)
    with pytest.raises(OSError, match="down"):
        bad.unwrap()
    took = await Timeout(5 * unit).outcome(Script(Wait(unit, 1)))
    assert 0.9 * unit <= took.elapsed <= 3 * unit


async def test_an_outcome_shows_the_rejection(backend):
    """
    api.md, law 25: the rejection itself, or the one that ended the retries after an error.
    """
    breaker = a_breaker(f"outcome {backend}")
    with pytest.warns(match="hang"):
        guarded = Pipeline(retry, breaker)
    ended = await guarded.outcome(Script(OSError))
    assert (OSError, CircuitOpenError) == (type(ended.error), type(ended.rejection))
    rejected = await guarded.outcome(Script(1))
    assert rejected.error is rejected.rejection
    assert 0 == rejected.attempts


async def test_an_outcome_lets_a_cancellation_pass(backend, unit):
    """
    Law 2: an outcome answers no cancellation.
    """
    with anyio.move_on_after(unit) as scope:
        await retry.outcome(Script(Hang()))
    assert scope.cancelled_caught


def test_pipelines_nest_and_keep_what_is_their_own():
    """
    api.md: an unnamed inner pipeline is spliced in; one with a name, a key, listeners or a switch stays a step.
    """
    first, last = Timeout(9), Timeout(3)
    assert Pipeline(first, retry, last) == Pipeline(first, Pipeline(retry, last))
    assert hash(Pipeline(first, retry, last)) == hash(Pipeline(first, Pipeline(retry, last)))
    assert (first, retry, last) == Pipeline(first, Pipeline(retry, last)).policies
    for own in ({"name": "inner"}, {"key": 1}, {"listeners": [print]}, {"enabled": False}):
        inner = Pipeline(last, **own)
        assert (first, inner) == Pipeline(first, inner).policies
    assert Pipeline(first) != first
    assert "Pipeline(Timeout(9.0), Timeout(3.0), name='n', enabled=False)" == repr(
        Pipeline(first, last, name="n", enabled=False)
    )


def test_a_pipeline_is_frozen():
    """
    api.md: a pipeline is frozen; `replace` makes another.
    """
    guarded = Pipeline(Timeout(9), name="n")
    with pytest.raises(AttributeError, match="frozen; use replace"):
        guarded.name = "other"
    assert "n" == guarded.name
    assert Pipeline(Timeout(5), name="n") == guarded.replace(Timeout(5))
    with pytest.raises(ConfigurationError, match="0 candidates"):
        guarded.replace(retry)
    with pytest.raises(ConfigurationError, match="2 candidates"):
        Pipeline(Timeout(9), Timeout(3)).replace(Timeout(1))


async def test_a_switched_off_pipeline_is_the_bare_call(backend):
    """
    api.md: `enabled` is False, or a function that says so at each call.
    """
    script = Script(OSError, OSError, 42)
    with pytest.raises(OSError, match="step 1"):
        await Pipeline(retry, enabled=False)(script)
    on = []
    switched = Pipeline(retry, enabled=lambda: bool(on)).wrap(script)
    with pytest.raises(OSError, match="step 2"):
        await switched()
    on.append(1)
    assert 42 == await switched()


def _pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


@pytest.mark.parametrize(
    "error",
    [
        RejectedError("no", policy="p", retry_after=2.0, reason="busy"),
        CircuitOpenError("db", retry_after=1.5, last_failure="OSError"),
        CircuitIsolatedError("db"),
        DeadlineExpiredError(policy="Timeout(2.0)"),
        TimeoutExceededError(2.0),
        ConfigurationError("Retry.attempts", got="0", allowed="a whole number >= 1"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, _pickled])
def test_errors_survive_pickle_and_copy(error, through):
    """
    Law 37: type, text, attributes and notes come through.
    """
    error = copy.copy(error)
    error.__notes__ = ["noted"]
    again = through(error)
    assert (type(error), str(error), repr(error)) == (type(again), str(again), repr(again))
    assert vars(error) == vars(again)
    assert ["noted"] == again.__notes__


def test_a_pipeline_of_values_can_be_copied_and_one_with_state_cannot():
    """
    Law 37: values copy; a stateful policy refuses with one sentence.
    """
    guarded = Pipeline(Timeout(9), Timeout(3), name="n")
    assert guarded == copy.deepcopy(guarded) == _pickled(guarded)
    breaker = a_breaker("copy")
    for refused in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            refused(breaker)
    assert CircuitState.CLOSED is breaker.state
