"""
compat.tenacity beside tenacity itself: the same scripts give the same attempts, waits, hooks, results and errors.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import tenacity

from resilience.clock import PROCESS_CLOCK
from resilience.compat import tenacity as ours
from resilience.testing import Script, VirtualEventLoop, Wait


class Log:
    """What the hooks were told, by name."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def hook(self, name: str, *, asynchronous: bool = False) -> Callable[[Any], Any]:
        def told(state: Any) -> None:
            outcome = state.outcome
            end = None
            if outcome is not None:
                end = type(outcome.exception()).__name__ if outcome.failed else outcome.result()
            sleep = None if state.next_action is None else state.next_action.sleep
            self.lines.append(
                (name, state.attempt_number, end, sleep, round(state.idle_for, 6), state.args)
            )

        async def told_later(state: Any) -> None:
            await asyncio.sleep(0)
            told(state)

        return told_later if asynchronous else told


Options = Callable[[Any, Log], dict[str, Any]]

OPTIONS: dict[str, Options] = {
    "nothing": lambda _, __: {"stop": tenacity.stop_after_attempt(9)},
    "attempts and waits": lambda m, _: {
        "stop": m.stop_after_attempt(3),
        "wait": m.wait_fixed(2) + m.wait_incrementing(1, 1),
    },
    "reraise": lambda m, _: {"stop": m.stop_after_attempt(2), "reraise": True},
    "exponential": lambda m, _: {
        "stop": m.stop_after_delay(20) | m.stop_after_attempt(8),
        "wait": m.wait_exponential(multiplier=1, max=7),
    },
    "before delay": lambda m, _: {"stop": m.stop_before_delay(5), "wait": m.wait_fixed(2)},
    "types": lambda m, _: {
        "retry": m.retry_if_exception_type(KeyError),
        "stop": m.stop_after_attempt(5),
    },
    "not types": lambda m, _: {
        "retry": m.retry_if_not_exception_type(ValueError),
        "stop": m.stop_after_attempt(5),
    },
    "results": lambda m, _: {
        "retry": m.retry_if_result(lambda value: value != "ok") | m.retry_if_exception_type(),
        "stop": m.stop_after_attempt(4),
    },
    "a plain function": lambda m, _: {
        "retry": lambda state: state.outcome.failed and state.attempt_number < 3,
        "stop": m.stop_after_attempt(7),
    },
    "hooks": lambda m, log: {
        "before": log.hook("before"),
        "after": log.hook("after"),
        "before_sleep": log.hook("before_sleep"),
        "wait": m.wait_incrementing(1, 2),
        "stop": m.stop_after_attempt(4),
    },
    "async hooks": lambda m, log: {
        "before": log.hook("before", asynchronous=True),
        "after": log.hook("after", asynchronous=True),
        "before_sleep": log.hook("before_sleep", asynchronous=True),
        "wait": m.wait_fixed(1),
        "stop": m.stop_after_attempt(3),
    },
    "callback": lambda m, log: {
        "stop": m.stop_after_attempt(2),
        "retry_error_callback": lambda state: ("gave up", state.attempt_number),
    },
    "error class": lambda m, _: {"stop": m.stop_after_attempt(2), "retry_error_cls": Gone},
    "disabled": lambda _, __: {"enabled": False},
}


class Gone(tenacity.RetryError):
    """Another class than tenacity's."""


SCRIPTS: dict[str, tuple[Any, ...]] = {
    "well": ("ok",),
    "once": (OSError, "ok"),
    "down": (OSError("down"),),
    "of all kinds": (KeyError, Wait(3, then=OSError), ValueError, "no", "ok"),
    "again": (tenacity.TryAgain, tenacity.TryAgain, "ok"),
    "refused": ("no", "no", "ok"),
}


def _told(result: Any, error: BaseException | None) -> Any:
    if error is None:
        return result
    inner = error.last_attempt if isinstance(error, tenacity.RetryError) else None
    cause = type(error.__cause__).__name__
    return type(error).__name__, cause, None if inner is None else inner.attempt_number


async def _played(library: Any, options: Options, script: str, way: str) -> Any:
    log, played = Log(), Script(*SCRIPTS[script])
    started = asyncio.get_running_loop().time()

    async def callee(*args: Any) -> Any:
        times.append(asyncio.get_running_loop().time() - started)
        return await played(*args)

    times: list[float] = []
    given = options(library, log)
    result, error = None, None
    statistics: dict[str, Any] = {}
    try:
        if way == "call":
            retrying = library.AsyncRetrying(**given)
            result = await retrying(callee, 1)
            statistics = retrying.statistics
        elif way == "decorator":
            decorated = library.retry(**given)(callee)
            result = await decorated(1)
            statistics = decorated.statistics
        else:
            async for attempt in library.AsyncRetrying(**given):
                with attempt:
                    result = await callee(1)
                if not attempt.retry_state.outcome.failed:
                    attempt.retry_state.set_result(result)
    except Exception as raised:  # noqa: BLE001 - compared
        error = raised
    lines = [line[:-1] for line in log.lines] if way == "loop" else log.lines
    statistics.pop("start_time", None)
    return _told(result, error), times, lines, statistics.get("attempt_number")


@pytest.mark.parametrize("way", ["call", "decorator", "loop"])
@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("options", OPTIONS)
def test_it_does_what_tenacity_does(options, script, way, monkeypatch):
    """
    Law 28, issue 6.6: result or error with its cause, times of all attempts, what hooks were told.
    """

    def play(library: Any) -> Any:
        with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
            loop = runner.get_loop()
            monkeypatch.setattr("time.monotonic", loop.time)  # tenacity's clock, and ours
            monkeypatch.setattr(PROCESS_CLOCK, "now", loop.time)
            try:
                return runner.run(_played(library, OPTIONS[options], script, way))
            finally:
                monkeypatch.undo()

    theirs = play(tenacity)
    if options == "disabled" and script in {"once", "down", "of all kinds", "again"}:
        assert theirs[0] == play(ours)[0]
    else:
        assert theirs == play(ours)


async def test_one_object_may_be_shared(backend, unit):
    """
    Tenacity #93: of 200 calls at once of a shared object with an async predicate, 190 returned None.
    """

    async def worth_it(state: Any) -> bool:
        await anyio.lowlevel.checkpoint()
        return bool(state.outcome.failed)

    retrying = ours.AsyncRetrying(
        stop=ours.stop_after_attempt(3),
        retry=worth_it,
        after=lambda _: anyio.lowlevel.checkpoint(),
    )
    results: list[Any] = []

    async def call(number: int) -> None:
        results.append(await retrying(Script(OSError, number), number))

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(call, number)
    assert [*range(200)] == sorted(results)


async def test_a_cancellation_is_not_retried(backend):
    """
    Tenacity #529: retry_if_not_exception_type swallowed it; law 2.
    """
    script = Script(anyio.sleep_forever, "again")
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def call() -> None:
                await ours.AsyncRetrying(retry=ours.retry_if_not_exception_type(ValueError))(script)

            group.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert 1 == script.calls
    with anyio.CancelScope() as scope:
        async for attempt in ours.AsyncRetrying(stop=ours.stop_after_attempt(3)):
            with attempt:
                scope.cancel()
                await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_it_waits_on_trio_too(backend, unit):
    """
    The loop's own sleep.
    """
    began = anyio.current_time()
    assert 3 == await ours.retry(wait=ours.wait_fixed(unit))(Script(OSError, OSError, 3))()
    if backend != "uvloop":
        assert 2 * unit == pytest.approx(anyio.current_time() - began)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_sleep_of_ones_own(backend, asynchronous):
    """
    Tenacity's ``sleep``: called with each wait, drawn once.
    """
    slept: list[float] = []
    drawn = iter([1.0, 2.0, 3.0])

    async def later(seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        slept.append(seconds)

    retrying = ours.AsyncRetrying(
        sleep=later if asynchronous else slept.append, wait=lambda _: next(drawn)
    )
    assert "ok" == await retrying(Script(OSError, OSError, "ok"))
    assert [1.0, 2.0] == slept
    assert 3.0 == retrying.statistics["idle_for"]


async def test_a_hook_that_raises_changes_nothing(backend, caplog):
    """
    Law 6: logged once, by name.
    """

    def broken(state: Any) -> None:
        raise RuntimeError("in the hook")

    retrying = ours.AsyncRetrying(
        before=broken, after=broken, before_sleep=broken, stop=ours.stop_after_attempt(3)
    )
    with caplog.at_level(logging.ERROR, "resilience"):
        assert "ok" == await retrying(Script(OSError, OSError, "ok"))
    assert 3 == len([each for each in caplog.records if "RuntimeError" in each.message])


async def test_async_callbacks_and_predicates(backend):
    """
    Issue 6.6: whatever tenacity lets be async may be async.
    """

    async def gave_up(state: Any) -> str:
        await anyio.lowlevel.checkpoint()
        return f"gave up after {state.attempt_number}"

    errors = tenacity.asyncio.retry_if_exception(_always)
    retrying = ours.AsyncRetrying(
        retry=errors, stop=ours.stop_after_attempt(2), retry_error_callback=gave_up
    )
    assert "gave up after 2" == await retrying(Script(OSError))


async def _always(_: BaseException) -> bool:
    return True


def test_what_a_decorated_function_has():
    """
    ``retry``, ``retry_with`` and ``statistics``; its signature stays.
    """

    @ours.retry(stop=ours.stop_after_attempt(2), reraise=True)
    async def fetch(url: str, *, times: int = 1) -> str:
        """Fetch it."""
        raise OSError(url)

    assert "(url: 'str', *, times: 'int' = 1) -> 'str'" == str(inspect.signature(fetch))
    assert "Fetch it." == fetch.__doc__
    assert inspect.iscoroutinefunction(fetch)
    assert "<unknown>" == str(fetch.retry)
    assert "named" == str(fetch.retry.copy(name="named"))
    assert "stop_after_attempt" in repr(fetch.retry)
    with pytest.raises(OSError, match="x"):
        asyncio.run(fetch("x"))
    assert 2 == fetch.statistics["attempt_number"]
    with pytest.raises(ours.RetryError):
        asyncio.run(fetch.retry_with(stop=ours.stop_after_attempt(1), reraise=False)("x"))
    with pytest.raises(TypeError, match="async for"):
        iter(fetch.retry)


def test_without_arguments_and_without_async():
    """
    ``@retry`` alone; what is not async goes to tenacity's own engine, unless its sleep is async.
    """
    answers: list[Any] = [OSError, "ok"]

    def plain() -> str:
        answer = answers.pop(0)
        if answer is OSError:
            raise OSError
        return answer

    assert "ok" == ours.retry(plain)()
    assert isinstance(ours.retry(plain).retry, tenacity.Retrying)
    assert isinstance(ours.retry(sleep=anyio.sleep)(plain).retry, ours.AsyncRetrying)

    @ours.retry
    async def alone() -> str:
        return "alone"

    assert "alone" == asyncio.run(alone())


async def test_a_loop_that_leaves_its_block(backend):
    """
    ``async with attempt`` works as well; a block that ended without an answer ends the loop.
    """
    seen = []
    async for attempt in ours.AsyncRetrying(stop=ours.stop_after_attempt(3), reraise=True):
        async with attempt:
            seen.append(attempt.retry_state.attempt_number)
            if len(seen) < 3:
                raise OSError
    assert [1, 2, 3] == seen
    attempts = aiter(ours.AsyncRetrying())
    assert attempts is aiter(attempts)
    async for _ in ours.AsyncRetrying():
        seen.append("untouched")  # noqa: PERF401 - a block of one line
    assert [1, 2, 3, "untouched"] == seen
    raised = None
    try:
        async for attempt in ours.AsyncRetrying(enabled=False):
            with attempt:
                raise OSError("once")  # noqa: TRY301 - in the block
    except OSError as error:
        raised = error
    assert "once" == str(raised)
    assert "once" == await ours.AsyncRetrying(enabled=False)(Script("once"))


def test_every_name_of_tenacity_is_here():
    """
    A drop-in: the import line is all that changes.
    """
    assert {*tenacity.__all__} == {*ours.__all__}
    assert all(hasattr(ours, name) for name in ours.__all__)
