"""
Blocks, settings that may be changed, health checkers, fallbacks, managers: what the old code base used besides calls.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import pickle
from functools import partial
from typing import Any

import anyio
import attrs
import pytest

from resilience import CircuitBreaker, CircuitIsolatedError, ConfigurationError, ResilienceWarning
from resilience.compat import _settings, unified
from resilience.compat.unified import UnifiedCircuitBreaker, UnifiedCircuitConfig
from resilience.testing import Recorder, Script

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def opened(name: str, clock: Any, **given: Any) -> UnifiedCircuitBreaker:
    config = UnifiedCircuitConfig(
        **({"name": name, "failure_threshold": 1, "exponential_backoff": False} | given)
    )
    breaker = UnifiedCircuitBreaker(config, clock=clock)
    breaker.record_failure("OSError")
    return breaker


async def test_a_block_is_guarded_and_its_error_passes(backend, named):
    """
    Section 1.1: the old context manager masked the body's exception; here it passes, counted once.
    """
    error = OSError("body")
    with (
        pytest.raises(OSError, match="body") as caught,
        unified.unified_circuit_breaker_context(named),
    ):
        raise error
    assert error is caught.value
    async with unified.unified_circuit_breaker_context(named) as breaker:
        await anyio.lowlevel.checkpoint()
    assert (1, 1) == (breaker.metrics.failed_calls, breaker.metrics.successful_calls)
    for _ in range(4):
        with contextlib.suppress(OSError), breaker:
            raise OSError
    breaker.record_failure()
    for _ in range(4):
        breaker.record_failure()
    ran = False
    with pytest.raises(unified.CircuitBreakerOpenError), breaker:
        ran = True  # pragma: no cover - not to be reached
    assert not ran


async def test_a_block_that_is_cancelled_counts_for_nothing(backend, named):
    """
    Law 2: nobody's verdict; blocks of many tasks do not disturb one another, nested ones neither.
    """
    breaker = UnifiedCircuitBreaker(named)

    async def nested() -> None:
        async with breaker, breaker:
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(nested)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert (0, {}) == (breaker.total_calls, breaker.metrics.failure_types)
    with breaker:
        pass
    assert 1 == breaker.success_count


def test_a_function_that_is_not_async_is_run_in_place(named, clock):
    """
    U6, U7: the decorator of a plain function is another way into the same circuit.
    """
    script: list[Any] = [1, ValueError("no"), 2]

    @unified.unified_circuit_breaker(named, UnifiedCircuitConfig(failure_threshold=1))
    def function(*, key: int) -> int:
        answer = script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer * key

    assert 7 == function(key=7)
    with pytest.raises(ValueError, match="no"):
        function(key=7)
    with pytest.raises(unified.CircuitBreakerOpenError):
        function(key=7)
    assert [2] == script
    assert inspect.signature(function) == inspect.signature(function.__wrapped__)  # type: ignore[attr-defined]


async def test_asked_in_one_task_and_recorded_in_another(backend, named, clock):
    """
    U2: a record without a question of its own settles the oldest probe that was asked for, so that it recovers.
    """
    breaker = opened(named, clock, success_threshold=1)
    clock.advance(60)
    assert breaker.can_execute()

    async def elsewhere() -> None:
        breaker.record_success()

    async with anyio.create_task_group() as group:
        group.start_soon(elsewhere)
    assert breaker.is_closed


async def test_a_late_record_does_not_vote(backend, named, clock):
    """
    Law 9, U15: who asked before the trip is no probe, and changes the totals alone.
    """
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(name=named, failure_threshold=1, success_threshold=1), clock=clock
    )
    go = anyio.Event()

    async def late() -> None:
        assert breaker.can_execute()
        await go.wait()
        breaker.record_success()

    async with anyio.create_task_group() as group:
        group.start_soon(late)
        await anyio.wait_all_tasks_blocked()
        breaker.record_failure()
        clock.advance(60)
        assert breaker.can_execute()
        assert breaker.can_execute(), "a task that holds a probe rides on it"
        go.set()
    assert breaker.is_half_open
    assert (1, 1) == (breaker.metrics.successful_calls, breaker.metrics.failed_calls)


def test_what_is_asked_and_never_recorded_gives_its_place_back(named, clock):
    """
    Law 12: after the lease; half_open_timeout sets it.
    """
    breaker = opened(named, clock, half_open_max_calls=1, half_open_timeout=40, timeout_seconds=5)
    clock.advance(60)
    assert breaker.can_execute()
    clock.advance(40)
    assert (False, True) == (breaker.can_execute(), breaker.is_open)
    clock.advance(60)
    assert breaker.can_execute()
    assert breaker.is_half_open


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        ("Timeout", 1),
        (OSError, 1),
        (OSError("down"), 1),
        (ValueError("a bad token"), 0),
        (KeyboardInterrupt(), 1),
    ],
    ids=["name", "class", "error", "unnamed error", "base exception"],
)
def test_what_a_record_may_be_given(named, error, failed):
    """
    Law 5: an error is judged as in a call; a name or a class is a failure as it is said.
    """
    breaker = UnifiedCircuitBreaker(UnifiedCircuitConfig(name=named, expected_exception=OSError))
    breaker.record_failure(error)
    assert (failed, 1) == (breaker.metrics.failed_calls, breaker.metrics.total_calls)


def test_a_record_takes_nothing_else(named):
    """
    Bad input: one error that says what is allowed.
    """
    for wrong in (7, int):
        with pytest.raises(ConfigurationError, match="an error, its class or its name"):
            UnifiedCircuitBreaker(f"{named}-{wrong}").record_failure(wrong)  # type: ignore[arg-type]


def test_thresholds_and_timeouts_may_be_changed(named, clock):
    """
    Law 38: the settable properties; the totals stay, and an open circuit stays open.
    """
    breaker = UnifiedCircuitBreaker(named, clock=clock)
    breaker.record_failure()
    breaker.failure_threshold = 2
    breaker.timeout = 7
    assert (2, 7.0) == (breaker.failure_threshold, breaker.timeout)
    assert "Timeout(7.0)" in repr(breaker.guard)
    breaker.record_failure()
    assert breaker.is_closed
    breaker.record_failure()
    assert (True, 3) == (breaker.is_open, breaker.metrics.failed_calls)
    breaker.failure_threshold = 9
    assert breaker.is_open
    breaker.timeout = None
    assert breaker.policy is breaker.guard
    for attribute in ("last_failure_time", "opened_at"):
        with pytest.raises(AttributeError, match="clock="):
            setattr(breaker, attribute, 0)


def test_times_are_those_of_the_wall(named, clock):
    """
    Status: seconds since the epoch, None where nothing has happened; opened_at only while open.
    """
    breaker = UnifiedCircuitBreaker(named, clock=clock)
    assert (None, None, None) == (
        breaker.last_failure_time,
        breaker.last_success_time,
        breaker.opened_at,
    )
    breaker.record_success()
    for _ in range(5):
        breaker.record_failure()
    clock.advance(10)
    metrics = breaker.get_status()["metrics"]
    assert 10 == pytest.approx(metrics["time_since_opened"], abs=5)
    assert metrics["opened_at"] == pytest.approx(breaker.last_state_change, abs=5)
    assert metrics["last_failure_time"] == pytest.approx(metrics["last_success_time"], abs=60)
    assert breaker.get_state() is breaker.state
    assert 5 == breaker.failure_count
    assert "UnifiedCircuitBreaker" in repr(breaker)
    breaker.cleanup()


async def test_reset_timeout_forgets_failures(backend, named, clock):
    """
    Section 1.6: failures that are older than reset_timeout do not open it any more.
    """
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(name=named, failure_threshold=2, reset_timeout=60), clock=clock
    )
    breaker.record_failure()
    clock.advance(60)
    breaker.record_failure()
    assert (True, 1) == (breaker.is_closed, breaker.failure_count)
    with pytest.raises(OSError, match="step"):
        await breaker.call(Script(OSError))
    assert breaker.is_open
    clock.advance(60)
    await breaker.call(Script(1))
    assert breaker.is_half_open


async def test_adaptive_threshold_opens_on_slow_calls(backend, named, clock):
    """
    Section 1.1: dead code there; here half of the last ten calls slower than slow_call_threshold open it.
    """
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(
            name=named, adaptive_threshold=True, slow_call_threshold=2, timeout_seconds=None
        ),
        clock=clock,
    )

    async def takes(seconds: float) -> None:
        clock.advance(seconds)

    for seconds in (0, 3) * 5:
        assert breaker.is_closed
        await breaker.call(takes, seconds)
    assert (True, 5) == (breaker.is_open, breaker.metrics.slow_requests)
    assert 1.5 == breaker.metrics.average_response_time


async def test_a_rate_opens_where_one_is_given(backend, named):
    """
    Section 1.2: half of at least three calls; without one of its settings only failures in a row count.
    """
    rated = UnifiedCircuitBreaker(UnifiedCircuitConfig(name=named, error_rate_threshold=0.5))
    plain = UnifiedCircuitBreaker(UnifiedCircuitConfig(name=f"{named}-plain"))
    for breaker in (rated, plain):
        breaker.record_failure()
        breaker.record_success()
        assert breaker.is_closed
        breaker.record_failure()
    assert (True, True) == (rated.is_open, plain.is_closed)


async def test_expected_exceptions_by_name(backend, named):
    """
    Section 1.2: expected_exception_types, never read there; subclasses count, others are answers.
    """
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(
            name=named, expected_exception_types=["OSError"], expected_exception=KeyError
        )
    )
    for error in (ConnectionError, KeyError, ValueError):
        with pytest.raises(error):
            await breaker.call(Script(error))
    assert {"ConnectionError": 1, "KeyError": 1} == breaker.metrics.failure_types


@attrs.define
class Checker:
    answers: list[Any]
    asked: int = 0

    async def check_health(self) -> Any:
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@attrs.frozen
class Scored:
    health_score: float


@attrs.frozen
class Result:
    success: bool


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (True, True),
        (None, False),
        (OSError("down"), False),
        (Result(True), True),  # noqa: FBT003 - a result
        (Result(False), False),  # noqa: FBT003
        (Scored(0.8), True),
        (Scored(0.2), False),
        (Scored(80), True),
        (Scored(20), False),
    ],
    ids=str,
)
async def test_a_health_checker_has_a_say_in_the_recovery(backend, named, clock, answer, well):
    """
    Section 4: it can hold a recovery back; no task is started, and what it raises is a no.
    """
    checker = Checker([answer])
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(name=named, failure_threshold=1), checker, clock=clock
    )
    breaker.record_failure()
    with pytest.raises(unified.CircuitBreakerOpenError):
        await breaker.call(Script(1))
    assert 0 == checker.asked, "not before the break is over"
    clock.advance(60)
    if well:
        assert 1 == await breaker.call(Script(1))
    else:
        script = Script(1)
        with pytest.raises(unified.CircuitBreakerOpenError):
            await breaker.call(script)
        assert 0 == script.calls
    assert 1 == checker.asked


async def test_a_health_checker_is_asked_once_at_a_time(backend, named, clock):
    """
    It is told of no herd: while a question is out, others are refused; after a yes it is left alone for a while.
    """
    checker = Checker([True, True])
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(
            name=named, failure_threshold=1, success_threshold=9, exponential_backoff=False
        ),
        checker,
        clock=clock,
    )
    breaker.record_failure()
    clock.advance(60)
    answers: list[str] = []

    async def caller() -> None:
        try:
            await breaker.call(anyio.lowlevel.checkpoint)
        except unified.CircuitBreakerOpenError:
            answers.append("refused")
        else:
            answers.append("passed")

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(caller)
    assert 1 == checker.asked
    assert "passed" in answers
    await breaker.force_open()
    clock.advance(60)
    await breaker.call(Script(1))
    assert 2 == checker.asked
    await breaker.force_open()
    clock.advance(0)
    breaker._health._well_until = clock.now() + 100  # type: ignore[union-attr]
    clock.advance(60)
    await breaker.call(Script(1))
    assert 2 == checker.asked


@attrs.define
class Fallback:
    seen: list[Any] = attrs.field(factory=list)

    async def execute(self, operation: Any, *args: Any, **kwargs: Any) -> str:
        self.seen.append((args, kwargs))
        return "cached"


async def test_a_fallback_answers_failures_and_rejections(backend, named, clock):
    """
    Section 1.2: fallback_chain, which the old manager lost on the way.
    """
    fallback = Fallback()
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(name=named, failure_threshold=1), fallback_chain=fallback, clock=clock
    )
    assert "cached" == await breaker.call(Script(OSError), 1)
    assert "cached" == await breaker.call(Script(5), key=2)
    assert [((1,), {}), ((), {"key": 2})] == fallback.seen
    assert (1, 1) == (breaker.metrics.failed_calls, breaker.metrics.rejected_calls)


async def test_an_inner_breakers_rejection_is_not_the_outers_failure(backend, named):
    """
    Law 4: nested breakers, as in the auth client.
    """
    inner = UnifiedCircuitBreaker(UnifiedCircuitConfig(name=f"{named}-in", failure_threshold=1))
    outer = UnifiedCircuitBreaker(UnifiedCircuitConfig(name=named, failure_threshold=1))
    inner.record_failure()
    for _ in range(5):
        with pytest.raises(unified.CircuitBreakerOpenError, match="-in"):
            await outer.call(partial(inner.call, Script(1)))
    assert (True, 0) == (outer.is_closed, outer.total_calls)
    new = CircuitBreaker(f"{named}-new", on=OSError)
    with new.isolate(), pytest.raises(CircuitIsolatedError):
        await outer.call(partial(new, Script(1)))
    assert outer.is_closed


async def test_managers(backend, named):
    """
    Section 1.1: what four modules called and nobody had: status of all, health, reset, names; removal.
    """
    manager = unified.UnifiedCircuitBreakerManager()
    for name in ("a", "b", "c"):
        manager.create_circuit_breaker(f"{named}-{name}", UnifiedCircuitConfig(failure_threshold=1))
    assert "done" == await manager.call_with_circuit_breaker(f"{named}-a", Script("done"))
    a, b, c = (manager.get_breaker(f"{named}-{name}") for name in "abc")
    b.record_failure()
    c.policy._core.force(unified_half_open())
    assert [f"{named}-a", f"{named}-b", f"{named}-c"] == manager.get_all_circuit_breaker_names()
    assert ["closed", "open", "half_open"] == [
        each["state"] for each in manager.get_all_status().values()
    ]
    assert {
        "total_circuit_breakers": 3,
        "healthy_circuit_breakers": 1,
        "degraded_circuit_breakers": 1,
        "unhealthy_circuit_breakers": 1,
        "overall_health": "degraded",
    } == manager.get_health_summary()
    assert await manager.reset_circuit_breaker(f"{named}-b")
    assert b.is_closed
    assert not await manager.reset_circuit_breaker("nobody")
    b.record_failure()
    await manager.reset_all()
    assert "healthy" == manager.get_health_summary()["overall_health"]
    assert (True, False) == (manager.remove(f"{named}-a"), manager.remove(f"{named}-a"))
    with pytest.warns(ResilienceWarning, match="two live"):
        assert a is not manager.get_breaker(f"{named}-a")
    manager.cleanup_all()
    assert [] == manager.names()


def unified_half_open() -> Any:
    from resilience import CircuitState  # noqa: PLC0415 - the new states

    return CircuitState.HALF_OPEN


def test_services(named):
    """
    Section 1.1: one breaker for each operation of a service; the five presets by their numbers.
    """
    service = unified.UnifiedServiceCircuitBreakers(named)
    assert service.get_breaker("read") is service.get_breaker("read")
    assert f"{named}_read" == service.get_breaker("read").name
    numbers = {
        "database": (3, 30.0, 10.0, 8, 0.6),
        "auth_service": (5, 60.0, 15.0, 12, 0.5),
        "llm_service": (10, 10.0, 60.0, 6, 0.4),
        "clickhouse": (4, 45.0, 20.0, 10, 0.5),
        "redis": (5, 20.0, 5.0, 15, 0.6),
    }
    for preset, expected in numbers.items():
        config = getattr(
            unified.UnifiedServiceCircuitBreakers, f"get_{preset}_circuit_breaker"
        )().config
        assert expected == (
            config.failure_threshold,
            config.recovery_timeout,
            config.timeout_seconds,
            config.sliding_window_size,
            config.error_rate_threshold,
        )


def test_the_domain_manager(named):
    """
    Section 1.4: key by domain and name, status per domain, reset; reading the status flips no state.
    """
    manager = unified.DomainCircuitBreakerManager()
    database, llm = unified.DomainType.DATABASE, unified.DomainType.LLM_SERVICE
    for _ in range(3):
        assert manager.can_execute(database, named)
        manager.record_failure(database, named, "a message with a secret")
    assert not manager.can_execute(database, named)
    manager.record_success(llm, named)
    status = manager.get_domain_status(database)
    assert {"total": 1, "open": 1, "closed": 0, "half_open": 0, "health_percentage": 0.0} == status[
        "summary"
    ]
    assert (
        "open"
        == manager.get_domain_status(database)["circuit_breakers"][f"database:{named}"]["state"]
    )
    every = manager.get_all_status()
    assert (2, ["database", "llm_service"]) == (every["total_count"], every["domains"])
    assert {f"database:{named}", f"llm_service:{named}"} == {*every["circuit_breakers"]}
    assert "secret" not in str(every)
    assert (True, False) == (
        manager.reset_circuit_breaker(database, named),
        manager.reset_circuit_breaker(database, "nobody"),
    )
    assert (1, 0) == (
        manager.reset_all_domain_breakers(llm),
        manager.reset_all_domain_breakers(unified.DomainType.CACHE),
    )
    assert 100.0 == manager.get_domain_status(database)["summary"]["health_percentage"]
    assert (True, False) == (manager.remove(llm, named), manager.remove(llm, named))
    assert isinstance(unified.domain_circuit_breaker_manager, unified.DomainCircuitBreakerManager)


def test_an_agents_breaker(named, clock):
    """
    Section 1.4: all fields do what they say; success_threshold was a TypeError.
    """
    breaker = unified.AgentCircuitBreaker(
        named, failure_threshold=2, recovery_timeout_seconds=10, success_threshold=1, clock=clock
    )
    assert (2, 10.0, 1, 120.0) == (
        breaker.config.failure_threshold,
        breaker.config.recovery_timeout_seconds,
        breaker.config.success_threshold,
        breaker.config.to_dict()["task_timeout_seconds"],
    )
    assert breaker.can_execute_agent()
    breaker.record_agent_timeout()
    breaker.record_agent_error("LLMError", "a message with a secret")
    status = breaker.get_status()
    assert ("open", False, 10.0) == (status["state"], status["can_execute"], status["retry_after"])
    assert {"TimeoutError": 1, "LLMError": 1} == breaker.metrics.failure_types
    assert "secret" not in str(status) + str(breaker.policy.snapshot())
    clock.advance(10)
    assert breaker.get_status()["can_execute"]
    assert breaker.can_execute_agent()
    assert 1 == breaker.get_status()["half_open_calls"]
    breaker.record_success()
    assert breaker.is_closed


def test_an_agent_that_is_not_guarded(named):
    """
    Section 1.4: enabled=False, inert there, lets every call pass; what cannot be switched off says so.
    """
    breaker = unified.AgentCircuitBreaker(
        named, config=unified.AgentCircuitBreakerConfig(enabled=False)
    )
    for _ in range(9):
        assert breaker.can_execute()
        breaker.record_failure()
    assert breaker.is_closed
    with pytest.raises(ConfigurationError, match="cannot be switched off"):
        unified.AgentCircuitBreaker(f"{named}-2", nested_task_support=False)


CONFIGS = [
    unified.UnifiedCircuitConfig,
    unified.CircuitConfig,
    unified.AgentCircuitBreakerConfig,
    unified.RetryConfig,
]


def _breaches() -> list[Any]:
    cases = []
    for kind in CONFIGS:
        for field in attrs.fields(kind):
            validator = field.validator
            allowed = getattr(validator, "validator", validator)
            for rule, value in allowed.breaches.items():
                optional = validator is not allowed and value is None
                if not optional:
                    cases.append(
                        pytest.param(
                            kind, field.name, value, id=f"{kind.__name__}.{field.name}-{rule}"
                        )
                    )
    return cases


@pytest.mark.parametrize(("kind", "field", "value"), _breaches())
def test_each_rule_of_each_field(kind, field, value):
    """
    Bad input: one error with the field's path, what it got and what is allowed.
    """
    given = {"name": "x"} if kind is unified.CircuitConfig else {}
    with pytest.raises(ConfigurationError) as caught:
        kind(**(given | {field: value}))
    assert f"{kind.__name__}.{field}" == caught.value.field
    assert caught.value.got
    assert caught.value.allowed


@pytest.mark.parametrize("kind", CONFIGS, ids=[kind.__name__ for kind in CONFIGS])
def test_a_name_that_is_no_field_is_an_error(kind):
    """
    Section 1.1: unknown fields were dropped in silence; here the nearest spelling is named.
    """
    with pytest.raises(ConfigurationError, match="did you mean"):
        kind(failure_treshold=3, max_attemps=3)
    with pytest.raises(ConfigurationError) as caught:
        kind(zzz=3)
    assert "did you mean" not in str(caught.value)


def test_a_lease_below_the_timeout_is_refused():
    """
    Law 12.
    """
    with pytest.raises(
        ConfigurationError, match="half_open_timeout must be at least timeout_seconds"
    ):
        UnifiedCircuitConfig(half_open_timeout=5, timeout_seconds=10)


def test_settings_are_values():
    """
    They compare, copy and can be printed as one would type them.
    """
    config = UnifiedCircuitConfig(name="x", failure_threshold=0, recovery_timeout=0)
    assert "UnifiedCircuitConfig(name='x', failure_threshold=0, recovery_timeout=0.0)" == repr(
        config
    )
    assert config == copy.deepcopy(config) == pickle.loads(pickle.dumps(config))  # noqa: S301 - our own
    assert 5.0 == config.model_dump()["slow_call_threshold"]
    assert config is UnifiedCircuitConfig.of(config)
    wait = _settings.Doubling(2.0, 8.0, jitter=False)
    assert "wait_exponential(multiplier=2.0, max=8.0)" == repr(wait)
    assert "wait_random(0, 0.2)" in repr(_settings.Doubling(2.0, 8.0, jitter=True))
    assert 8.0 == wait(10**6)


def test_a_threshold_and_a_wait_of_nothing(named, clock):
    """
    Section 1.1: failure_threshold=0 opens at the first failure, and recovery_timeout=0 lets the next call try.
    """
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(name=named, failure_threshold=0, recovery_timeout=0), clock=clock
    )
    breaker.record_failure()
    assert breaker.is_open
    clock.advance(0.001)
    assert breaker.can_execute()


def test_settings_by_themselves(named):
    """
    The old constructor's other spellings.
    """
    one = UnifiedCircuitBreaker(name=named, failure_threshold=7)
    two = UnifiedCircuitBreaker(f"{named}-2", recovery_timeout=0.5)
    three = UnifiedCircuitBreaker(unified.CircuitConfig(f"{named}-3", timeout_seconds=1))
    four = unified.get_circuit_breaker(f"{named}-4", unified.CircuitConfig("x", timeout_seconds=1))
    assert (f"{named}-4", 1.0, False) == (four.name, four.timeout, four.config.exponential_backoff)
    assert (named, 7, 0.5, 1.0) == (
        one.name,
        one.failure_threshold,
        two.config.recovery_timeout,
        three.timeout,
    )


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_each_old_name_says_what_to_write(named, recwarn):
    """
    The warning stands at the line of the program, and gives the new spelling in full.
    """
    UnifiedCircuitBreaker(named)
    unified.get_circuit_breaker(f"{named}-2")
    unified.AgentCircuitBreaker(f"{named}-3")
    unified.UnifiedRetryHandler(f"{named}-4", unified.RetryConfig(circuit_breaker_enabled=True))
    texts = [str(each.message) for each in recwarn]
    assert all("write resilience." in text for text in texts)
    assert {__file__} == {each.filename for each in recwarn}
    assert (
        f"UnifiedCircuitBreaker is deprecated; write resilience.Pipeline(CircuitBreaker({named!r}, on=Exception, "
        "trip=ConsecutiveFailures(n=5), break_duration=wait_exponential(multiplier=60.0, max=300.0), probes=3, "
        "successes_to_close=2), Timeout(30.0))"
    ) == texts[0]


async def test_events_are_those_of_the_circuit(backend, named, clock):
    """
    U13: transitions are told to listeners, as for any breaker.
    """
    recorder = Recorder()
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(name=named, failure_threshold=1), clock=clock
    )
    from resilience import Pipeline, Timeout  # noqa: PLC0415 - the new world

    guarded = Pipeline(breaker.policy, Timeout(5), listeners=[recorder])
    breaker.record_failure("OSError")
    assert ["CircuitStateChanged"] == recorder.kinds
    with pytest.raises(Exception, match="OPEN"):
        await guarded(Script(1))
