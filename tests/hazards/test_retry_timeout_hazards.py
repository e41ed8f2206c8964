"""
The hazards of retry and timeout: H11 to H22, H35 to H37, H39 to H43 and H46, each with the right behaviour asserted.

Without a test here, and why:

===  ==========================================================================================
H16  the library starts no task group of either kind; a test reads its files and holds it to that
H20  (as H16) and no ``wait_for``
H42  the other half (hedged attempts in tasks of their own) has no policy yet
H43  the interpreters and loops are the matrix of nox and of the ``backend`` fixture
===  ==========================================================================================
"""

import ast
import asyncio
import contextlib
import contextvars
import gc
import inspect
import math
import multiprocessing
import os
import pathlib
import subprocess
import sys
import threading
import time
import warnings
from datetime import timedelta

import anyio
import pytest
import tenacity
import trio
from tenacity import wait_none

import resilience
from resilience import (
    ConfigurationError,
    DeadlineExpiredError,
    FullJitter,
    Pipeline,
    ResilienceWarning,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.clock import RNG
from resilience.testing import Hang, Script, Wait
from tests.composition.support import about, breaker, pending_cancellations, timed

VARIABLE = contextvars.ContextVar("variable", default=0)
PACKAGE = pathlib.Path(resilience.__file__).parent


# ---------------------------------------------------------------------------------- cause chains


async def test_h11_a_cause_that_leads_back_ends(backend):
    """
    H11: `raise e from e` and longer circles: every walk of ours ends, and so does the call.
    """
    loop, back = OSError("first"), KeyError("second")
    loop.__cause__, back.__cause__ = back, loop
    alone = OSError("alone")
    alone.__cause__ = alone.__context__ = alone
    gate = breaker(99)

    for error in (loop, alone):
        with anyio.fail_after(5):
            guarded = Pipeline(Retry(3, on=OSError, wait=wait_none()), gate, Timeout(50))
            found, _ = await timed(guarded(Script(error)))
        assert error is found
    assert 6 == gate.snapshot().failures


async def test_h11_a_group_in_a_group_in_a_group(backend):
    """
    H11: groups nested a thousand deep are walked to their leaves, without recursion.
    """
    error = group = OSError("leaf")
    for depth in range(1000):
        group = ExceptionGroup(str(depth), [group])
    script = Script(group)

    found, _ = await timed(Retry(2, on=OSError, wait=wait_none())(script))

    assert group is found
    assert (2, None) == (script.calls, error.__context__)


# ---------------------------------------------------------------------------- level and edge


async def test_h12_a_cancellation_is_not_swallowed_by_any_layer(backend, unit):
    """
    H12: the first cancellation the callee lets pass ends the call: no layer eats one and waits for the next.
    """
    seen = []

    async def callee():
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            seen.append(type(error))
            raise

    guarded = Pipeline(
        Timeout(50 * unit), Retry(5, on=Exception, wait=wait_none()), breaker(), Timeout(4 * unit)
    )
    with anyio.move_on_after(unit) as scope:
        await guarded(callee)

    assert scope.cancelled_caught
    assert [anyio.get_cancelled_exc_class()] == seen


async def test_h13_releasing_waits_for_nothing(backend, unit):
    """
    H13: what is given back in a cancelled scope is given back without an await, which would be skipped there.
    """
    gate = breaker(1, overdue_after=50 * unit)
    guarded = Pipeline(gate, Timeout(9 * unit))

    with anyio.CancelScope() as scope:
        scope.cancel()
        await guarded(Script(Hang()))

    assert scope.cancelled_caught
    assert not gate._core.circuit.current.watch
    assert 1 == gate.snapshot().totals.ignored


async def test_h14_a_callee_that_ignores_its_cancellation_is_waited_for(backend, unit):
    """
    H14: our deadline tells it once and waits, as it must; nothing of ours spins, and the result is the callee's.
    """
    told = []

    async def stubborn():
        until = anyio.current_time() + 3 * unit
        while (left := until - anyio.current_time()) > 0:
            with anyio.CancelScope(shield=backend == "trio" and bool(told)):
                try:
                    await anyio.sleep(left)
                except (asyncio.CancelledError, trio.Cancelled):
                    told.append(anyio.current_time())
        return "done in my time"

    answer, took = await timed(Timeout(unit)(stubborn))

    assert ("done in my time", about(3 * unit, backend)) == (answer, took)
    assert 1 == len(told)
    assert 0 == pending_cancellations()


@pytest.mark.parametrize("inner", ["ours", "anyio", "asyncio"])
@pytest.mark.parametrize("outer", ["ours", "anyio", "asyncio"])
@pytest.mark.parametrize("first", ["inner", "outer"])
async def test_h15_nested_deadlines_of_any_kind_leave_no_residue(
    backend, unit, inner, outer, first
):
    """
    H15: in every nest of ours, anyio's and asyncio's: who is first ends the call, and the count is as before.
    """
    if backend == "trio" and "asyncio" in {inner, outer}:
        pytest.skip("asyncio's own")
    seconds = {"inner": (unit, 3 * unit), "outer": (3 * unit, unit)}[first]

    def limited(kind, limit, callee):
        async def ours():
            await Timeout(limit)(callee)

        async def of_anyio():
            with anyio.fail_after(limit):
                await callee()

        async def of_asyncio():
            async with asyncio.timeout(limit):
                await callee()

        return {"ours": ours, "anyio": of_anyio, "asyncio": of_asyncio}[kind]

    callee = limited(outer, seconds[1], limited(inner, seconds[0], anyio.sleep_forever))
    error, took = await timed(callee())

    winner = inner if first == "inner" else outer
    assert isinstance(error, TimeoutError)
    assert (winner == "ours") is isinstance(error, TimeoutExceededError)
    assert about(unit, backend) == took
    assert 0 == pending_cancellations()
    await anyio.sleep(4 * unit)


def calls_in(path):
    """The dotted names of all that a file calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_h16_and_h20_no_file_starts_tasks_or_waits_for():
    """
    H16, H20: nothing a call goes through creates a task, a task group or calls `wait_for`.

    But policies whose purpose is to run calls of their own: these start them, and nobody waits by `wait_for`.
    """
    starting = {"create_task", "create_task_group", "start_soon"}
    forbidden = {"ensure_future", "TaskGroup", "open_nursery", "wait_for", "gather"}
    forbidden |= {"run_coroutine_threadsafe"}
    allowed_to_none = forbidden - {
        "open_nursery",
        "gather",
    }  # trio's way to start; a method of theirs
    owners = {"single_flight.py", "hedge.py", "_hedging.py", "_race.py"}
    files = [path for room in (".", "core", "policies") for path in (PACKAGE / room).glob("*.py")]
    found = [
        (path.name, name)
        for path in files
        for name in calls_in(path)
        if name.rpartition(".")[2]
        in (allowed_to_none if path.name in owners else forbidden | starting)
        or name == "asyncio.gather"
    ]

    assert len(files) > 20
    assert [] == found


async def test_h17_an_async_generator_is_refused_where_it_is_wrapped(backend):
    """
    H17: no scope may stay open across a yield, so such functions have a door of their own, which the error names.
    """

    async def rows():
        yield 1

    for guard in (Timeout(1), Retry(on=OSError), Pipeline(Timeout(1), Retry(1, on=OSError))):
        with pytest.raises(TypeError, match=r"async generator function: use p\.stream\("):
            guard.wrap(rows)


async def test_h17_a_consumer_is_not_cancelled_by_the_deadline_of_a_stream(backend, unit):
    """
    H17: the deadline is for the first item; a consumer that takes its time with it is never cut.
    """

    async def rows():
        yield 1
        await anyio.sleep(3 * unit)
        yield 2

    async with Timeout(unit).stream(rows)() as items:
        got = [await anext(items)]
        await anyio.sleep(3 * unit)
        got += [item async for item in items]

    assert [1, 2] == got
    assert 0 == pending_cancellations()


# ------------------------------------------------------------------------------------ deadlines


async def test_h18_a_result_in_the_tick_of_the_deadline_is_returned_or_closed(backend, unit):
    """
    H18: a callee that returns after its deadline fired keeps its result; more of it in the tests of law 29.
    """

    async def callee():
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2 * unit)
        return "result"

    assert "result" == await Timeout(unit)(callee)


async def test_h19_an_inner_timeout_error_that_comes_after_our_deadline_passes(backend, unit):
    """
    H19: both are `TimeoutError`; the one that the callee raised, even late, is the callee's.
    """
    mine = TimeoutError("the driver's")

    async def callee():
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2 * unit)
        raise mine

    error, _ = await timed(Timeout(unit)(callee))

    assert mine is error
    assert 0 == pending_cancellations()


async def test_h21_no_sleep_is_begun_that_cannot_end(backend, unit):
    """
    H21: fail now with the last error, rather than sleep into the total deadline and report that.
    """
    script = Script(Wait(unit, OSError("the reason")))
    guarded = Pipeline(
        Timeout(4 * unit), Retry(9, on=OSError, wait=lambda s: 5 * unit, max_delay=9)
    )

    error, took = await timed(guarded(script))

    assert "the reason" == str(error)
    assert about(unit, backend) == took


WRONG = [
    math.nan,
    -1,
    -0.0,
    0,
    True,
    "1",
    None,
    math.inf,
    -math.inf,
    10**400,
    timedelta(0),
    [1],
    1j,
]


@pytest.mark.parametrize("wrong", WRONG, ids=[repr(each)[:20] for each in WRONG])
def test_h22_a_duration_is_judged_at_construction(wrong):
    """
    H22: NaN, infinity, nothing, less than nothing, booleans and strings never reach a loop.
    """
    for make in (Timeout, lambda value: Retry(on=OSError, max_delay=value)):
        with pytest.raises(ConfigurationError, match="must be seconds > 0"):
            make(wrong)


@pytest.mark.parametrize(
    "wrong", [each for each in WRONG if each is not None], ids=lambda w: repr(w)[:20]
)
async def test_h22_a_duration_that_comes_later_is_mended(backend, wrong):
    """
    H22: from a function the same values hang nothing, raise nothing of ours and wait at most `max_delay`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResilienceWarning)
        retry = Retry(2, on=OSError, wait=lambda state: wrong, max_delay=0.01)
        error, took = await timed(retry(Script(OSError)))
    assert OSError is type(error)
    assert -1e-6 <= took <= 0.011 or backend == "uvloop"

    answer, _ = await timed(Timeout(lambda call: wrong)(Script(42)))
    assert 42 == answer or isinstance(answer, DeadlineExpiredError)


# ------------------------------------------------------------------------------ maths and chance


@pytest.mark.parametrize("attempt", [1, 62, 63, 1023, 1024, 2000, 10**7, 10**30])
def test_h35_backoff_does_not_overflow(attempt):
    """
    H35: capped exponent, then capped delay: finite after any number of attempts, in no time.
    """
    started = time.thread_time()  # its own work; what else the machine does is not the question

    assert 0 < FullJitter(0.1, 5).bound(attempt) <= 5
    assert 0 < FullJitter(1e300, 1e308).bound(attempt) <= 1e308
    assert 0.0 == FullJitter(0, 5).bound(attempt)
    assert 0.05 > time.thread_time() - started


def _first_draws(connection):
    connection.send([RNG.random() for _ in range(3)])
    connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_h36_forked_workers_do_not_jitter_alike():
    """
    H36: eight workers forked from one process draw eight sequences (G13, R9).
    """
    context = multiprocessing.get_context("fork")
    draws = []
    for _ in range(8):
        mine, theirs = context.Pipe()
        worker = context.Process(target=_first_draws, args=(theirs,))
        worker.start()
        draws.append(tuple(mine.recv()))
        worker.join(120)

    assert 8 == len(set(draws))
    assert 8 == len({first for first, *_ in draws})


def test_h37_a_seed_of_the_users_freezes_nothing_of_ours():
    """
    H37: two processes that both call `random.seed(0)` do not back off in step.
    """
    program = (
        "import random; random.seed(0); from resilience import FullJitter; random.seed(0);"
        "from resilience.strategies import AttemptState; print(FullJitter()(AttemptState()))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, timeout=300
        ).stdout
        for _ in range(2)
    }

    assert 2 == len(said)


# -------------------------------------------------------------------------------------- runtime


def test_h39_a_loop_that_closed_disturbs_no_other():
    """
    H39: a loop dies with a deadline armed; the same guard in another thread's loop keeps its own.
    """
    policy = Timeout(0.03)
    found = []

    async def main(hang):
        if not hang:
            return await policy(asyncio.sleep, 0)
        found.append(type((await timed(policy(asyncio.sleep, 30)))[0]))
        return None

    for _ in range(3):
        asyncio.run(main(hang=False))
        thread = threading.Thread(target=lambda: asyncio.run(main(hang=True)))
        thread.start()
        thread.join(120)

    assert [TimeoutExceededError] * 3 == found


IMPORTED = Pipeline(Timeout(30), Retry(3, on=OSError, wait=wait_none()), breaker(99), Timeout(5))
IMPORTED_SCRIPT = Script(Wait(0.001, OSError), Wait(0.001, 42))


@IMPORTED.wrap
async def imported():
    return await IMPORTED_SCRIPT()


@pytest.mark.parametrize("run", range(3))
async def test_h40_what_was_made_at_import_serves_every_loop(backend, run):
    """
    H40: this module's pipeline was made before any loop, and each test here has a loop of its own.
    """
    assert 42 == await imported()


async def test_h41_guarded_calls_as_eager_tasks(backend, unit):
    """
    H41: begun inside `create_task`, many at once: the right ones end at creation, the others in time.
    """
    if backend == "trio":
        pytest.skip("trio has no eager tasks")
    guarded = Pipeline(Timeout(4 * unit), Retry(2, on=OSError, wait=wait_none()), Timeout(unit))
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(guarded(Script(step))) for step in (1, Wait(unit / 4, 2), Hang())]
    eager = backend == "asyncio+eager"

    assert [eager, False, False] == [task.done() for task in tasks]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [1, 2] == answers[:2]
    assert isinstance(answers[2], TimeoutExceededError)
    assert [0, 0, 0] == [task.cancelling() for task in tasks]


async def test_h42_every_attempt_keeps_the_context(backend):
    """
    H42: what is set inside the call is there afterwards, through all layers and attempts.
    """

    async def callee():
        VARIABLE.set(VARIABLE.get() + 1)
        if VARIABLE.get() < 3:
            raise OSError

    VARIABLE.set(0)
    await Pipeline(Timeout(50), Retry(5, on=OSError, wait=wait_none()), breaker(9), Timeout(5))(
        callee
    )

    assert 3 == VARIABLE.get()


async def test_h43_in_asyncios_debug_mode(backend, unit):
    """
    H43: with the loop's checks on (wrong threads, slow callbacks, coroutines never awaited) all is the same.
    """
    if backend == "trio":
        pytest.skip("asyncio's own")
    asyncio.get_running_loop().set_debug(True)
    guarded = Pipeline(Timeout(9 * unit), Retry(3, on=OSError, wait=wait_none()), Timeout(unit))

    assert 42 == await guarded(Script(OSError, Wait(50 * unit), 42))
    assert 0 == pending_cancellations()


async def test_h46_a_rejected_call_makes_no_coroutine(backend):
    """
    H46: the callee is called after admission only, so nothing is left that "was never awaited".
    """
    called = []

    async def callee():
        called.append(True)

    gate = breaker()
    gate.isolate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for guard in (Pipeline(gate, Timeout(50)), Timeout(lambda call: 0)):
            await timed(guard(callee))
            await timed(guard.wrap(callee)())
        gc.collect()

    assert [] == called


async def test_h46_a_coroutine_object_is_closed_and_the_spelling_shown(backend):
    """
    H46: given the coroutine in the place of the function: it is closed, and the error says how it is done.
    """

    async def charge(order):
        raise AssertionError("must not run")

    for guard in (Timeout(1), Retry(on=OSError), Pipeline(Timeout(1))):
        coroutine = charge("order")
        with pytest.raises(TypeError, match=r"guarded\(charge, \.\.\.\), not guarded\(charge"):
            await guard(coroutine)
        assert "CORO_CLOSED" == inspect.getcoroutinestate(coroutine)


async def test_h46_a_pending_call_that_is_collected_leaves_nothing(backend, unit):
    """
    H46: the coroutine of a guarded call is dropped while it waits: closed, nothing pending, the permit given back.
    """
    gate = breaker(1, overdue_after=50 * unit)
    running = Pipeline(Timeout(unit), gate)(Script(Hang()))
    running.send(None)
    assert 1 == len(gate._core.circuit.current.watch)
    del running
    gc.collect()

    assert 0 == len(gate._core.circuit.current.watch)
    await anyio.sleep(2 * unit)
    assert (0, 1) == (pending_cancellations(), gate.snapshot().totals.ignored)


async def test_tenacity_swallows_a_cancellation_that_we_do_not(backend, unit):
    """
    A rival's defect (tenacity #529): "retry if not ValueError" retries a cancelled task there, and not here.
    """
    script = Script(Hang())

    with anyio.move_on_after(unit) as scope, contextlib.suppress(OSError):
        await Retry(2, on=tenacity.retry_if_not_exception_type(ValueError), wait=wait_none())(
            script
        )

    assert scope.cancelled_caught
    assert 1 == script.calls
