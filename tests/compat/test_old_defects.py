"""
Defects U1 to U15 of the old breaker, each as a story that holds here and fails on a small copy of the old behaviour.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import attrs
import pytest

from resilience import CircuitOpenError
from resilience.compat import unified
from resilience.testing import ManualClock, Script
from tests.compat import old

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@attrs.frozen
class World:
    """One of two implementations, with the hands of its clocks."""

    clock: ManualClock
    name: str
    unit: float
    new: bool = True

    def breaker(self, **given: Any) -> Any:
        given = {"name": self.name, "exponential_backoff": False} | given
        if self.new:
            return unified.UnifiedCircuitBreaker(
                unified.UnifiedCircuitConfig(**given), clock=self.clock
            )
        return old.OldBreaker(old.OldConfig(**given))

    def pass_(self, seconds: float) -> None:
        self.clock.advance(seconds)
        old.WALL.advance(seconds)

    def by_name(self, **given: Any) -> Any:
        given = {"name": self.name} | given
        if self.new:
            config = unified.UnifiedCircuitConfig(**given)
            return unified.get_circuit_breaker(self.name, config)
        return old.old_get_circuit_breaker(self.name, old.OldConfig(**given))

    def decorated(self, breaker: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        if not self.new:
            return old.old_decorator(breaker)
        return unified.unified_circuit_breaker(breaker.name, breaker.config)

    def open_error(self) -> type[Exception]:
        return unified.CircuitBreakerOpenError if self.new else old.OldOpenError


async def _ok() -> str:
    return "ok"


async def _down() -> None:
    raise OSError("down")


async def _fails(times: int, breaker: Any) -> None:
    for _ in range(times):
        with contextlib.suppress(OSError):
            await breaker.call(_down)


async def u1(world: World) -> None:
    """What is recorded by hand is counted, and no rate is above 100 %."""
    breaker = world.breaker()
    for _ in range(10):
        assert breaker.can_execute()
        breaker.record_success()
    metrics = breaker.get_status()["metrics"]
    assert (10, 1.0) == (metrics["total_calls"], metrics["success_rate"])


async def u2(world: World) -> None:
    """Ask, do, record: past the break it becomes half-open, its successes close it, and one failure opens nothing."""
    breaker = world.breaker(failure_threshold=3, recovery_timeout=60, success_threshold=2)
    for _ in range(3):
        assert breaker.can_execute()
        breaker.record_failure("OSError")
    assert not breaker.can_execute()
    world.pass_(61)
    for _ in range(2):
        assert breaker.can_execute()
        assert "half_open" == breaker.get_status()["state"]
        breaker.record_success()
    assert "closed" == breaker.get_status()["state"]
    assert breaker.can_execute()
    breaker.record_failure("OSError")
    assert breaker.can_execute()


async def u3(world: World) -> None:
    """Half-open admits as many calls at once as it may: of 50 that race, 3."""
    breaker = world.breaker(failure_threshold=1, recovery_timeout=60)
    await _fails(1, breaker)
    world.pass_(61)
    inside = 0
    done = anyio.Event()

    async def probe() -> None:
        nonlocal inside
        inside += 1
        await done.wait()

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(partial(_tried, breaker, probe, world.open_error()))
        await anyio.wait_all_tasks_blocked()
        seen = inside
        done.set()
    assert 3 == seen


async def _tried(breaker: Any, operation: Callable[..., Any], error: type[Exception]) -> None:
    with contextlib.suppress(error):
        await breaker.call(operation)


async def u4(world: World) -> None:
    """As many successful probes close it as the threshold says; failures are none of them."""
    breaker = world.breaker(failure_threshold=5, success_threshold=5, recovery_timeout=60)
    await _fails(5, breaker)
    world.pass_(61)
    for _ in range(4):
        await breaker.call(_ok)
        assert "half_open" == breaker.get_status()["state"]
    await breaker.call(_ok)
    assert "closed" == breaker.get_status()["state"]


async def u5(world: World) -> None:
    """One failed probe reopens, also after it was opened by hand."""
    breaker = world.breaker(failure_threshold=5, recovery_timeout=60)
    await breaker.force_open()
    assert not breaker.can_execute()
    world.pass_(61)
    await _fails(1, breaker)
    assert "open" == breaker.get_status()["state"]


async def u6(world: World) -> None:
    """Opened by hand-made records, a decorated function recovers like any other."""
    breaker = world.by_name(recovery_timeout=3 * world.unit)
    guarded = world.decorated(breaker)(_ok)
    for _ in range(5):
        breaker.record_failure("OSError")
    with pytest.raises(world.open_error()):
        await guarded()
    await anyio.sleep(4 * world.unit)
    old.WALL.advance(61)
    for _ in range(2):
        assert "ok" == await guarded()
    assert "closed" == breaker.get_status()["state"]


async def u7(world: World) -> None:
    """Whatever way a call comes in, it is counted in one place."""
    breaker = world.by_name()
    guarded = world.decorated(breaker)(_down)
    with contextlib.suppress(OSError):
        await guarded()
    await _fails(1, breaker)
    breaker.record_failure("OSError")
    metrics = breaker.get_status()["metrics"]
    assert (3, 3) == (metrics["failed_calls"], metrics["total_calls"])


async def u8(world: World) -> None:
    """The same name is the same breaker, with its state."""
    world.by_name().record_failure("OSError")
    assert world.by_name() is world.by_name()
    assert 1 == world.by_name().get_status()["metrics"]["failed_calls"]


async def u9(world: World) -> None:
    """A clock that is set back keeps nothing open."""
    breaker = world.breaker(failure_threshold=1, recovery_timeout=60)
    await _fails(1, breaker)
    old.WALL.advance(-3600)
    try:
        world.pass_(61)
        assert "ok" == await breaker.call(_ok)
    finally:
        old.WALL.advance(3600)


async def u10(world: World) -> None:
    """The error says when to come back, names the circuit, and says so once."""
    breaker = world.breaker(failure_threshold=1, recovery_timeout=60)
    await _fails(1, breaker)
    with pytest.raises(world.open_error()) as caught:
        await breaker.call(_ok)
    assert world.name == caught.value.circuit_name
    assert f"circuit {world.name!r} is OPEN; retry in 60 s; last failure: OSError" == str(
        caught.value
    )
    assert isinstance(caught.value, CircuitOpenError)
    assert 60.0 == caught.value.retry_after


class _Callable:
    async def __call__(self) -> None:
        raise OSError("down")


async def u11(world: World) -> None:
    """A callable object and a lambda that makes a coroutine are awaited, and their failures count."""
    breaker = world.breaker(failure_threshold=5)
    for operation in (_Callable(), lambda: _down(), partial(_down)):  # noqa: PLW0108 - what it is about
        with pytest.raises(OSError, match="down"):
            await breaker.call(operation)
    assert 3 == breaker.get_status()["metrics"]["failed_calls"]


async def u12(world: World) -> None:
    """A function that is not async does not hold up the loop."""
    breaker = world.breaker(timeout_seconds=None)

    def here(number: int, *, by: int) -> tuple[int, int]:
        return number * by, threading.get_ident()

    number, thread = await breaker.call(here, 6, by=7)
    assert 42 == number
    assert threading.get_ident() != thread


async def u13(world: World) -> None:
    """Rejected calls are counted, and reading the status changes nothing."""
    breaker = world.breaker(failure_threshold=1, recovery_timeout=60)
    await _fails(1, breaker)
    for _ in range(3):
        with pytest.raises(world.open_error()):
            await breaker.call(_ok)
    before = breaker.get_status()
    assert 3 == before["metrics"]["rejected_calls"]
    assert before == breaker.get_status()


async def u14(world: World) -> None:
    """What the dependency answered is no failure: 100 rejected tokens leave it closed."""
    breaker = world.breaker(failure_threshold=3, expected_exception=OSError)

    async def rejected_token() -> None:
        raise ValueError("expired")

    for _ in range(100):
        with pytest.raises(ValueError, match="expired"):
            await breaker.call(rejected_token)
    assert "closed" == breaker.get_status()["state"]


async def u15(world: World) -> None:
    """A call that began before the trip changes nothing when it ends, and prolongs no break."""
    breaker = world.breaker(failure_threshold=2, recovery_timeout=60)
    go = anyio.Event()

    async def late() -> None:
        await go.wait()
        raise OSError("late")

    async with anyio.create_task_group() as group:
        group.start_soon(partial(_tried, breaker, late, OSError))
        await anyio.wait_all_tasks_blocked()
        await _fails(2, breaker)
        world.pass_(40)
        go.set()
        await anyio.wait_all_tasks_blocked()
    world.pass_(21)
    assert "ok" == await breaker.call(_ok)


STORIES = {
    each.__name__: each
    for each in (u1, u2, u3, u4, u5, u6, u7, u8, u9, u10, u11, u12, u13, u14, u15)
}


@pytest.mark.parametrize("story", STORIES)
async def test_the_old_defects_are_not_here(backend, story, clock, named, unit):
    """
    U1 to U15: the story named holds.
    """
    await STORIES[story](World(clock, named, unit))


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
async def test_they_were_there(backend, story, clock, named, unit):
    """
    The control: each story fails on the old behaviour, so it would be seen.
    """
    with pytest.raises((AssertionError, pytest.fail.Exception, old.OldOpenError, AttributeError)):
        await STORIES[story](World(clock, named, unit, new=False))


async def test_a_timeout_is_kept(backend, clock, named, unit):
    """
    Acceptance: 0.1 s for a call of 0.2 s: it ends at 0.1 s, counts as failed, and two of them open a threshold of 2.
    """
    breaker = unified.UnifiedCircuitBreaker(
        unified.UnifiedCircuitConfig(
            name=named, failure_threshold=2, timeout_seconds=0.1 * unit, half_open_timeout=60
        )
    )
    ended = []

    async def slow() -> None:
        await anyio.sleep(0.2 * unit)
        ended.append(True)

    for _ in range(2):
        began = anyio.current_time()
        with pytest.raises(TimeoutError):
            await breaker.call(slow)
        if backend != "uvloop":
            assert 0.1 * unit == pytest.approx(anyio.current_time() - began)
    assert [] == ended
    assert breaker.is_open
    assert (2, 2) == (breaker.metrics.timeouts, breaker.metrics.failed_calls)


async def test_a_cancelled_probe_frees_its_place(backend, clock, named):
    """
    Acceptance: by ``call`` and by hand; it counts for nothing, and the next caller may try.
    """
    breaker = unified.UnifiedCircuitBreaker(
        unified.UnifiedCircuitConfig(
            name=named, failure_threshold=1, half_open_max_calls=1, success_threshold=1
        ),
        clock=clock,
    )
    breaker.record_failure("OSError")
    clock.advance(60)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(breaker.call, anyio.sleep_forever))
            await anyio.wait_all_tasks_blocked()
            assert not breaker.can_execute()
            scope.cancel()
    assert scope.cancelled_caught
    assert "ok" == await breaker.call(_ok)
    assert (True, 1, 1) == (
        breaker.is_closed,
        breaker.metrics.successful_calls,
        breaker.metrics.failed_calls,
    )


async def test_a_stuck_domain_default_closes(backend, clock, named):
    """
    The LLM default that wedged (one probe at a time, two successes) closes, and admits one probe of 20.
    """
    breaker = unified.DomainCircuitBreaker(
        unified.DomainType.LLM_SERVICE, named, 2, 120, 1, clock=clock
    )
    for _ in range(2):
        assert breaker.can_execute()
        breaker.record_failure("down")
    clock.advance(120)
    admitted = []

    async def ask() -> None:
        admitted.append(breaker.can_execute())
        await anyio.lowlevel.checkpoint()
        if admitted[-1] and breaker.is_half_open:
            await anyio.wait_all_tasks_blocked()

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)
    assert 1 == sum(admitted)
    assert 1 == breaker.get_status()["half_open_calls"]
    for _ in range(2):
        breaker.record_success()
        breaker.can_execute()
    assert breaker.is_closed


async def test_script_of_the_acceptance_list(backend, clock, named):
    """
    Acceptance: the fifth failure opens; a failed probe makes the next wait longer; closed, all is as at first.
    """
    breaker = unified.UnifiedCircuitBreaker(
        unified.UnifiedCircuitConfig(name=named, recovery_timeout=15, success_threshold=2),
        clock=clock,
    )
    script = Script(*[OSError] * 5, OSError, 1, 2, *[OSError] * 5)
    for _ in range(5):
        assert breaker.is_closed
        with pytest.raises(OSError, match="step"):
            await breaker.call(script)
    waits = []
    for _ in range(2):
        waits.append(breaker.get_status()["retry_after"])
        clock.advance(waits[-1])
        with contextlib.suppress(OSError):
            await breaker.call(script)
        if breaker.is_half_open:
            await breaker.call(script)
            for _ in range(5):
                with contextlib.suppress(OSError):
                    await breaker.call(script)
    assert [15.0, 30.0, 15.0] == [*waits, breaker.get_status()["retry_after"]]
