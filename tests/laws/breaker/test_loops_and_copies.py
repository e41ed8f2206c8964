"""
Law 37: what holds state refuses to be copied, and nothing is bound to a loop before a loop runs it.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import subprocess
import sys
import weakref

import anyio
import pytest
import trio

from resilience import (
    CircuitIsolatedError,
    CircuitOpenError,
    CircuitState,
    ConfigurationError,
    DeadlineExpiredError,
    RejectedError,
    ResilienceError,
    ResilienceWarning,
    Retry,
    Timeout,
    TimeoutExceededError,
)
from resilience.policies._breaker_core import current_task
from resilience.testing import Script, VirtualEventLoop, run
from tests.laws.breaker.kit import a_breaker, open_up, pipeline

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN

SPLITS = {
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle protocol {number}": lambda each, number=number: pickle.dumps(each, number)
        for number in range(pickle.HIGHEST_PROTOCOL)
    },
}


@pytest.mark.parametrize("split", SPLITS)
async def test_a_breaker_refuses_to_be_split(backend, clock, split):
    """
    Law 37, H44: a copy would count for itself; one sentence says why, for the breaker and for all that holds it.
    """
    breaker = a_breaker(clock)
    guarded = pipeline(Retry(2, on=OSError), breaker)
    holders = [breaker, [breaker]] if split == "deepcopy" else [breaker]
    if split.startswith("pickle"):
        holders += [guarded, {"of": breaker}]
    for holder in holders:
        with pytest.raises(TypeError) as caught:
            SPLITS[split](holder)
        assert (
            "a CircuitBreaker holds the state of this process and cannot be pickled or copied"
            == str(caught.value)
        )
    assert 1 == await guarded(Script(1))


def _pickled(error):
    return pickle.loads(pickle.dumps(error))  # noqa: S301 - our own


@pytest.mark.parametrize(
    "error",
    [
        CircuitOpenError("orders", state="HALF_OPEN", last_failure="OSError", retry_after=1.5),
        CircuitIsolatedError("orders", last_failure="OSError"),
        RejectedError("told", policy="P", retry_after=2.0, reason="full"),
        DeadlineExpiredError(policy="Timeout(2.0)"),
        TimeoutExceededError(2.0, policy="Timeout(2.0)"),
        ConfigurationError("A.b", got="1", allowed="2"),
        ResilienceError("plain"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, _pickled])
def test_errors_survive_pickle_and_copy(error, through):
    """
    Law 37: class, text, fields, notes; in a worker's answer as in a test's deep copy.
    """
    error.add_note("after 3 attempts")
    twin = through(error)
    assert type(error) is type(twin)
    assert twin is not error
    assert (str(error), repr(error), error.args) == (str(twin), repr(twin), twin.args)
    assert vars(error) == vars(twin)


async def test_a_rejection_of_a_real_breaker_survives(backend, clock):
    """
    Law 37: as it comes out of a pipeline, with its traceback and its context behind it.
    """
    breaker = open_up(a_breaker(clock))
    with pytest.raises(CircuitOpenError) as caught:
        await pipeline(Retry(2, on=OSError), breaker)(Script(1))
    twin = _pickled(caught.value)
    assert (breaker.name, "OPEN", "OSError", 10.0, "circuit_open") == (
        twin.breaker,
        twin.state,
        twin.last_failure,
        twin.retry_after,
        twin.reason,
    )


class Service:
    """A pipeline as a module would make it at import, where no loop runs."""

    def __init__(self) -> None:
        self.breaker = a_breaker(on=ConnectionError)
        retry = Retry(2, on=ConnectionError, wait=lambda _: 0.001)
        self.guarded = pipeline(Timeout(20), retry, self.breaker, Timeout(0.02))
        self.tasks: list[weakref.ref[object]] = []

    async def used(self) -> None:
        """All that can arm a timer, take a permit or move the circuit, on the loop that runs."""
        self.tasks.append(weakref.ref(current_task()))
        assert 1 == await self.guarded(Script(1))
        with pytest.raises(TimeoutExceededError):
            await self.guarded(anyio.sleep_forever)
        assert OPEN is self.breaker.state
        assert isinstance((await self.guarded.outcome(Script(1))).error, CircuitOpenError)
        self.breaker.reset()


def test_one_pipeline_serves_one_loop_after_the_other(backend):
    """
    Law 37, H40: made where no loop runs, used on a loop of each kind, closed and made anew, in any order.
    """
    service = Service()
    for on in (backend, "asyncio", backend, "trio", backend):
        run(service.used, backend=on)
    seen = service.breaker.snapshot().totals
    assert (5, 5, 5, 5) == (seen.successes, seen.failures, seen.openings, seen.rejected)


def test_what_a_loop_held_dies_with_it():
    """
    Law 37: the breaker and its pipeline live on, and no loop that used them does, nor any of its tasks.
    """
    service, loops = Service(), []
    for _ in range(3):
        loop = VirtualEventLoop()
        loops.append(weakref.ref(loop))
        with asyncio.Runner(loop_factory=lambda loop=loop: loop) as runner:
            runner.run(service.used())
        del loop, runner
    trio.run(service.used)
    gc.collect()
    assert [None] * 3 == [each() for each in loops]
    assert [None] * 4 == [each() for each in service.tasks]
    assert 4 == service.breaker.snapshot().openings


AT_IMPORT = """
import asyncio, sys, threading
import asyncio.events

made = []
for name in ("new_event_loop", "get_event_loop"):
    setattr(asyncio, name, lambda *a, name=name: made.append(name))
    setattr(asyncio.events, name, getattr(asyncio, name))
before = threading.active_count()

from resilience import *
import resilience.testing

breaker = CircuitBreaker("b", on=OSError, break_duration=FullJitter(), overdue_after=3)
guarded = Pipeline(Timeout(20), Retry(2, on=OSError), breaker, Timeout(2))

@guarded.wrap
async def fetch():
    return 42

assert made == [], made
assert threading.active_count() == before
assert "trio" not in sys.modules, "trio"
assert "tenacity" not in sys.modules, "tenacity"
assert "uvloop" not in sys.modules, "uvloop"
print("unbound")
"""


def test_importing_and_constructing_starts_nothing():
    """
    Law 37: no loop, no thread, no other library's loop; in a process of its own.
    """
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", AT_IMPORT],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ("unbound\n", 0) == (ran.stdout, ran.returncode), ran.stderr


async def test_a_breaker_that_is_dropped_is_gone(backend, clock):
    """
    Law 37, H47: nothing keeps it, no registry, no cycle and no pipeline that is gone; the name is free at once.
    """
    gc.disable()
    try:
        breaker = a_breaker(clock)
        await pipeline(breaker).outcome(Script(OSError))
        await pipeline(breaker).outcome(Script(1))
        gone = weakref.ref(breaker._core.circuit)
        name = breaker.name
        with pytest.warns(
            ResilienceWarning, match=f"two live circuit breakers are called {name!r}"
        ):
            type(breaker)(name, on=OSError)
        del breaker
        assert gone() is None
    finally:
        gc.enable()
