"""
The old report's authentication suite (10 tests), anew: counts are asserted, and nothing behind an `if`.
"""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import pytest

from resilience import (
    CircuitBreaker,
    CircuitState,
    ConsecutiveFailures,
    LastGood,
    Pipeline,
    Timeout,
)
from resilience.compat import unified
from resilience.compat.unified import (
    UnifiedCircuitBreaker,
    UnifiedCircuitConfig,
    get_circuit_breaker,
)
from resilience.testing import Script

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class InvalidTokenError(ValueError):
    """The service answered: no."""


class AuthService:
    """Looks users up; some are not there, and sometimes nobody is."""

    def __init__(self) -> None:
        self.calls = 0
        self.down = False

    async def validate(self, token: str) -> dict[str, int]:
        self.calls += 1
        await anyio.lowlevel.checkpoint()
        if self.down or token.startswith("fail"):
            raise ConnectionError("Database connection failed")
        if token.startswith("bad"):
            raise InvalidTokenError(token)
        return {"user_id": 123}


def test_imports():
    """
    Auth 1: what the auth service imports is there and is what it was.
    """
    assert issubclass(unified.CircuitBreakerOpenError, Exception)
    assert unified.CircuitBreaker is UnifiedCircuitBreaker
    assert callable(unified.circuit_breaker)


def test_three_named_breakers(named):
    """
    Auth 2: login, validation and look-up have a breaker each; what happens to one is not seen in the others.
    """
    login, tokens, users = (
        get_circuit_breaker(f"{named}-{each}") for each in ("login", "tokens", "users")
    )
    for _ in range(5):
        tokens.record_failure("ConnectionError")
    assert [True, False, True] == [each.can_execute() for each in (login, tokens, users)]


def test_five_failures_open(named):
    """
    Auth 3: the default threshold; the fourth leaves it closed, the fifth opens it.
    """
    breaker = get_circuit_breaker(named)
    seen = []
    for _ in range(5):
        breaker.record_failure("ConnectionError")
        seen.append(breaker.can_execute())
    assert [True, True, True, True, False] == seen
    assert (5, 5) == (breaker.metrics.failed_calls, breaker.metrics.consecutive_failures)


async def test_the_service_behind_a_check(backend, named):
    """
    Auth 4: check, run, record; the user's answer and the service's error are what they are without it.
    """
    breaker, service = get_circuit_breaker(named), AuthService()

    async def look_up(token: str) -> dict[str, int]:
        assert breaker.can_execute()
        try:
            user = await service.validate(token)
        except ConnectionError as error:
            breaker.record_failure(error)
            raise
        breaker.record_success()
        return user

    assert {"user_id": 123} == await look_up("good")
    with pytest.raises(ConnectionError, match="Database connection failed"):
        await look_up("fail_user")
    assert (1, 1, 2) == (
        breaker.metrics.successful_calls,
        breaker.metrics.failed_calls,
        breaker.metrics.total_calls,
    )


async def test_old_and_new_share_a_breaker(backend, named):
    """
    Auth 5: half moved, half not: a pipeline and the old idiom on one circuit count together.
    """
    breaker, service = get_circuit_breaker(named), AuthService()
    guarded = Pipeline(breaker.policy, Timeout(5)).wrap(service.validate)
    assert {"user_id": 123} == await guarded("good")
    breaker.record_failure("ConnectionError")
    assert 2 == breaker.get_status()["metrics"]["total_calls"]
    with pytest.raises(ConnectionError):
        await guarded("fail_user")
    assert 2 == breaker.get_status()["metrics"]["failed_calls"]


def test_nothing_that_is_promised_is_missing():
    """
    Auth 6: the old test wanted imports to fail; here each name that the module lists can be had.
    """
    missing = [name for name in unified.__all__ if getattr(unified, name, None) is None]
    assert [] == missing


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_decorators(backend, named, asynchronous):
    """
    Auth 7, 8: a function's error passes unchanged, whether it is async or not, and is counted.
    """
    error = ConnectionError("unchanged")

    @unified.unified_circuit_breaker(named)
    async def later(token: str) -> str:
        if token.startswith("invalid"):
            raise error
        return token

    @unified.unified_circuit_breaker(named)
    def now(token: str) -> str:
        if token.startswith("invalid"):
            raise error
        return token

    async def ask(token: str) -> str:
        return await later(token) if asynchronous else now(token)

    assert "valid" == await ask("valid")
    with pytest.raises(ConnectionError) as caught:
        await ask("invalid")
    assert error is caught.value
    metrics = get_circuit_breaker(named).metrics
    assert (1, 1) == (metrics.successful_calls, metrics.failed_calls)


async def test_cascading_failures(backend, named):
    """
    Auth 9: three breakers in a row, ten rounds: five calls each, and none once a breaker before is open.
    """
    chain = [UnifiedCircuitBreaker(f"{named}-{stage}") for stage in ("login", "tokens", "users")]
    calls = [0, 0, 0]

    async def fails(stage: int) -> None:
        calls[stage] += 1
        raise ConnectionError

    for _ in range(10):
        for stage, breaker in enumerate(chain):
            try:
                await breaker.call(fails, stage)
            except unified.CircuitBreakerOpenError:
                break
            except ConnectionError:
                continue
    assert [5, 5, 5] == calls
    assert ["open"] * 3 == [each.state.value for each in chain]
    assert [5, 0, 0] == [each.metrics.rejected_calls for each in chain]


async def test_recovery(backend, named, clock):
    """
    Auth 10: refused, then probes, then closed: it was refused, then let everybody through, and stayed open.
    """
    breaker = UnifiedCircuitBreaker(
        UnifiedCircuitConfig(name=named, recovery_timeout=60), clock=clock
    )
    for _ in range(6):
        breaker.record_failure()
    assert not breaker.can_execute()
    clock.advance(60)
    for _ in range(2):
        assert breaker.can_execute()
        breaker.record_success()
    assert (True, True) == (breaker.is_closed, breaker.get_status()["is_healthy"])


async def test_a_hundred_bad_tokens(backend, clock, named):
    """
    Acceptance: what the service answers is no failure; last good answers go to the same token only, and only if down.
    """
    service, down = AuthService(), (ConnectionError, TimeoutError)
    breaker = CircuitBreaker(named, on=down, trip=ConsecutiveFailures(3), clock=clock)
    auth = Pipeline(
        LastGood(
            30,
            key=lambda token: token,
            on=lambda error: not isinstance(error, InvalidTokenError),
            clock=clock,
        ),
        breaker,
        Timeout(1),
    )
    validate = auth.wrap(service.validate)
    assert {"user_id": 123} == await validate("good")
    for _ in range(100):
        with pytest.raises(InvalidTokenError):
            await validate("bad")
    assert (CircuitState.CLOSED, 101) == (breaker.state, service.calls)
    service.down = True
    answers: list[Any] = []
    for token in ("good", "bad", "good", "stranger"):
        outcome = await auth.outcome(service.validate, token)
        answers.append(outcome.value if outcome.ok else type(outcome.error).__name__)
    assert [{"user_id": 123}, "ConnectionError", {"user_id": 123}, "CircuitOpenError"] == answers
    assert 104 == service.calls
    clock.advance(30)
    with contextlib.suppress(ConnectionError):
        await validate("good")
    assert not (await auth.outcome(Script(ConnectionError), "good")).ok
