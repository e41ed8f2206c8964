"""
Law 38: a function that was wrapped before a change of configuration obeys it at its next call.
"""

import anyio
import pytest
from tenacity import wait_fixed

from resilience import CircuitIsolatedError, CircuitState, Pipeline, Retry, Timeout
from resilience.events import CircuitTripped
from resilience.testing import Hang, Recorder, Script, Wait, disabled, forced, instant
from tests.composition.support import about, breaker, timed


@pytest.fixture(params=["wrapped", "called"])
def bind(request):
    """A guarded function that was made before anything changed."""
    if request.param == "wrapped":
        return lambda guarded, fn: guarded.wrap(fn)
    return lambda guarded, fn: lambda *a, **k: guarded(fn, *a, **k)


async def test_isolation_and_release(backend, bind):
    """
    Isolated by hand: the next call is rejected; released: the one after passes (law 38).
    """
    gate = breaker()
    call = bind(Pipeline(gate, Timeout(50)), Script(42))

    assert 42 == await call()
    with gate.isolate(), pytest.raises(CircuitIsolatedError):
        await call()
    assert 42 == await call()


async def test_disable_observe_and_reset(backend, bind):
    """
    Disabled records nothing, observing reports and rejects nothing, reset is as new; each at the next call (law 38).
    """
    gate = breaker(1, break_duration=1000)
    recorder = Recorder(CircuitTripped)
    script = Script(OSError)
    call = bind(Pipeline(gate, Timeout(50), listeners=[recorder]), script)

    gate.disable()
    await timed(call())
    assert (CircuitState.DISABLED, 0) == (gate.state, gate.snapshot().calls)

    gate.observe()
    await timed(call())
    assert (CircuitState.OBSERVING, 1, 1) == (gate.state, gate.snapshot().calls, len(recorder))
    await timed(call())
    assert 3 == script.calls

    gate.reset()
    await timed(call())
    assert CircuitState.OPEN is gate.state
    await timed(call())
    assert 4 == script.calls


async def test_a_change_in_the_middle_of_a_call_is_for_the_next(backend, unit, bind):
    """
    A call in flight when the breaker is reset or disabled changes nothing of the new generation (laws 9 and 38).
    """
    for change in ("reset", "disable", "observe"):
        gate = breaker(1)
        call = bind(Pipeline(gate, Timeout(50)), Script(Wait(unit, OSError)))
        async with anyio.create_task_group() as group:
            group.start_soon(timed, call())
            await anyio.sleep(unit / 2)
            getattr(gate, change)()
        assert 0 == gate.snapshot().calls
        assert gate.state.name in {"CLOSED", "DISABLED", "OBSERVING"}


async def test_the_pipelines_switch(backend, unit, bind):
    """
    `enabled` is asked at every call: off is the bare call, on is the guard again (law 38).
    """
    on = [True]
    script = Script(Wait(2 * unit, 42))
    call = bind(Pipeline(Timeout(unit), enabled=lambda: on[0]), script)

    assert isinstance((await timed(call()))[0], TimeoutError)
    on[0] = False
    assert (42, about(2 * unit, backend)) == await timed(call())
    on[0] = True
    assert isinstance((await timed(call()))[0], TimeoutError)


async def test_an_inner_pipelines_switch(backend, bind):
    """
    Only the steps of the pipeline whose switch it is (law 38).
    """
    on = [False]
    gate = breaker()
    gate.isolate()
    inner = Pipeline(gate, Timeout(50), name="inner", enabled=lambda: on[0])
    call = bind(Pipeline(Timeout(60), inner), Script(42))

    assert 42 == await call()
    on[0] = True
    with pytest.raises(CircuitIsolatedError):
        await call()


async def test_a_switch_that_raises_leaves_the_guard_on(backend, bind):
    """
    The safe end of a broken switch (law 6, law 38).
    """
    gate = breaker()
    gate.isolate()
    call = bind(Pipeline(gate, Timeout(50), enabled=lambda: 1 / 0), Script(42))

    with pytest.raises(CircuitIsolatedError):
        await call()


async def test_the_testing_switches(backend, unit, bind):
    """
    `disabled`, `instant` and `forced` hold for functions wrapped long before, and end with their block (law 38).
    """
    gate = breaker()
    retry = Retry(3, on=OSError, wait=wait_fixed(4 * unit))
    guarded = Pipeline(retry, gate, Timeout(50 * unit))
    call = bind(guarded, Script(OSError, OSError, 42, OSError, 43))

    with disabled():
        assert isinstance((await timed(call()))[0], OSError)
    with instant():
        assert (42, about(0.0, backend)) == await timed(call())
    assert (43, about(4 * unit, backend)) == await timed(call())
    with forced(gate, CircuitState.ISOLATED), pytest.raises(CircuitIsolatedError):
        await call()


async def test_the_switches_hold_for_their_own_context_only(backend, unit):
    """
    A test that runs beside one with `disabled()` is guarded as ever; a task started inside is not (law 38).
    """
    guarded = Timeout(unit).wrap(anyio.sleep)
    found = {}

    async def call(name):
        found[name] = type((await timed(guarded(2 * unit)))[0])

    async with anyio.create_task_group() as group:

        async def switched():
            with disabled():
                async with anyio.create_task_group() as inner:
                    inner.start_soon(call, "inside")

        group.start_soon(switched)
        group.start_soon(call, "beside")

    assert type(None) is found["inside"]
    assert issubclass(found["beside"], TimeoutError)


async def test_listeners_of_a_shared_breaker_are_those_of_every_pipeline(backend):
    """
    A pipeline built later around the same breaker hears of what a function wrapped earlier causes (law 38).
    """
    gate = breaker(1)
    early = Pipeline(gate, Timeout(50)).wrap(Script(OSError))
    recorder = Recorder()
    late = Pipeline(gate, Timeout(50), listeners=[recorder])

    await timed(early())

    assert ["CircuitStateChanged"] == recorder.kinds
    assert late.policies[0] is gate


async def test_replace_makes_another_and_leaves_the_first(backend, unit):
    """
    New options are a new pipeline; a function wrapped by the old one keeps the old ones: they are frozen (law 38).
    """
    old = Pipeline(Timeout(3 * unit))
    before = old.wrap(Script(Hang()))
    after = old.replace(Timeout(unit)).wrap(Script(Hang()))

    assert about(3 * unit, backend) == (await timed(before()))[1]
    assert about(unit, backend) == (await timed(after()))[1]
    with pytest.raises(AttributeError, match="frozen"):
        old.name = "other"
