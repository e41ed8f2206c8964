"""
The old report's deployment readiness (4 tests), anew: what was stored is now what happens.
"""

from __future__ import annotations

import anyio
import pytest

from resilience import Pipeline, PipelineWarning, Retry, Timeout
from resilience.compat import unified
from resilience.compat.unified import CircuitConfig, UnifiedCircuitBreaker, UnifiedCircuitConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


async def test_staging_configuration(backend, named, clock, unit):
    """
    Readiness 1: 3 failures open, 15 s close the door, a call has 10 s; with 5 retries the worst case can be told.
    """
    config = UnifiedCircuitConfig(
        name=named, failure_threshold=3, recovery_timeout=15, timeout_seconds=10 * unit
    )
    breaker = UnifiedCircuitBreaker(config, clock=clock)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await breaker.call(anyio.sleep, 11 * unit)
    assert (True, 15.0) == (breaker.is_open, breaker.policy.retry_after)

    with pytest.warns(PipelineWarning, match="can need"):
        stack = Pipeline(
            Timeout(60),
            Retry(5, on=OSError, wait=lambda state: 0.5 * 2.0**state.attempt_number, max_delay=30),
            breaker.policy,
            Timeout(10),
        )
    assert (60.0, 5) == (stack.explain().duration, stack.explain().attempts)


def test_exponential_backoff_pattern(named, clock):
    """
    Readiness 2: each opening in a row is twice as long, capped, drawn once, and the row ends with closing.
    """
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(
            name=named,
            failure_threshold=1,
            success_threshold=1,
            recovery_timeout=10,
            max_backoff_seconds=60,
        ),
        clock=clock,
    )
    breaker.record_failure()
    waits = []
    for _ in range(5):
        waits.append(breaker.policy.retry_after)
        clock.advance(waits[-1])
        assert breaker.can_execute()
        breaker.record_failure()
    assert [10.0, 20.0, 40.0, 60.0, 60.0] == waits
    clock.advance(60)
    assert breaker.can_execute()
    breaker.record_success()
    breaker.record_failure()
    assert 10.0 == breaker.policy.retry_after


def test_jitter_is_bounded_and_drawn_once(named, clock):
    """
    Acceptance: 90 to 110 % of the formula, the same however often one asks, not the same for all.
    """
    drawn = set()
    for number in range(20):
        breaker = UnifiedCircuitBreaker(
            UnifiedCircuitConfig(
                name=f"{named}-{number}", failure_threshold=1, recovery_timeout=10, jitter=True
            ),
            clock=clock,
        )
        breaker.record_failure()
        assert breaker.policy.retry_after == breaker.policy.retry_after
        drawn.add(breaker.policy.retry_after)
    assert 9.0 <= min(drawn)
    assert max(drawn) <= 11.0
    assert len(drawn) > 10


async def test_integration_ready(backend, named):
    """
    Readiness 3: opened by hand it refuses, reset it lets pass; the state cannot be written from outside.
    """
    breaker = UnifiedCircuitBreaker(named)
    assert breaker.is_closed
    with pytest.raises(AttributeError, match="force_open"):
        breaker.state = unified.CircuitState.OPEN
    await breaker.force_open()
    assert (True, False) == (breaker.is_open, breaker.can_execute())
    await breaker.reset()
    assert (True, True) == (breaker.is_closed, breaker.can_execute())
    assert 0 == breaker.metrics.rejected_calls


@pytest.mark.parametrize(
    ("environment", "numbers"),
    [
        ("development", (10, 30.0, 5, 15.0)),
        ("staging", (8, 60.0, 4, 12.0)),
        ("production", (5, 120.0, 3, 10.0)),
        ("testing", (15, 5.0, 10, 30.0)),
    ],
)
def test_environments(named, environment, numbers):
    """
    Readiness 4: the four environments by their numbers, and a breaker that goes by them.
    """
    config = CircuitConfig.create_for_environment(named, environment)
    assert numbers == (
        config.failure_threshold,
        config.recovery_timeout,
        config.half_open_max_calls,
        config.timeout_seconds,
    )
    breaker = UnifiedCircuitBreaker(config)
    for _ in range(numbers[0]):
        assert breaker.is_closed
        breaker.record_failure()
    assert breaker.is_open
    assert numbers[1] == pytest.approx(breaker.policy.retry_after, abs=1)


def test_an_unknown_environment_is_an_error(named):
    """
    It was production's numbers in silence.
    """
    for wrong in ("prod", None):
        with pytest.raises(ValueError, match=r"CircuitConfig.environment must be one of .*staging"):
            CircuitConfig.create_for_environment(named, wrong)
