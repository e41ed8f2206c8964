"""
Resilience for asynchronous Python: one pipeline object that any coroutine can be wrapped in.

Composes a lock-free circuit breaker, retries with tenacity's strategies and timeouts; runs on asyncio and on trio.

``import resilience`` loads nothing but this file; each name is loaded when it is first asked for, with what it needs
(PEP 562). So a program pays for the policies it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilience.budgets import BudgetSnapshot, RetryBudget
    from resilience.call import Call
    from resilience.checks import Explanation, Finding
    from resilience.core.backoff import FullJitter
    from resilience.core.generations import CircuitState
    from resilience.core.latency import Quantile
    from resilience.core.limits import AIMD, Gradient2, Vegas
    from resilience.core.trips import ConsecutiveFailures, FailureRate, SlowRate
    from resilience.core.windows import CountWindow, TimeWindow
    from resilience.deadlines import deadline, remaining
    from resilience.doors import Failure, Outcome, Policy, Success
    from resilience.errors import (
        BulkheadFullError,
        CircuitIsolatedError,
        CircuitOpenError,
        ConfigurationError,
        DeadlineExpiredError,
        PipelineWarning,
        RateLimitedError,
        RejectedError,
        ResilienceError,
        ResilienceWarning,
        ThrottledError,
        TimeoutExceededError,
    )
    from resilience.pipeline import Pipeline
    from resilience.policies.bulkhead import Bulkhead, BulkheadSnapshot, Place
    from resilience.policies.chaos import Chaos, ChaosSnapshot
    from resilience.policies.circuit_breaker import (
        CircuitBreaker,
        CircuitSnapshot,
        Isolation,
        Permit,
    )
    from resilience.policies.concurrency_limit import ConcurrencyLimit, ConcurrencyLimitSnapshot
    from resilience.policies.fallback import Fallback
    from resilience.policies.hedge import Hedge
    from resilience.policies.last_good import LastGood, LastGoodSnapshot
    from resilience.policies.rate_limit import RateLimit, RateLimitSnapshot
    from resilience.policies.retry import Retry
    from resilience.policies.single_flight import SingleFlight, SingleFlightSnapshot
    from resilience.policies.throttle import Throttle, ThrottleSnapshot
    from resilience.policies.timeout import Timeout

__all__ = [
    "AIMD",
    "BudgetSnapshot",
    "Bulkhead",
    "BulkheadFullError",
    "BulkheadSnapshot",
    "Call",
    "Chaos",
    "ChaosSnapshot",
    "CircuitBreaker",
    "CircuitIsolatedError",
    "CircuitOpenError",
    "CircuitSnapshot",
    "CircuitState",
    "ConcurrencyLimit",
    "ConcurrencyLimitSnapshot",
    "ConfigurationError",
    "ConsecutiveFailures",
    "CountWindow",
    "DeadlineExpiredError",
    "Explanation",
    "Failure",
    "FailureRate",
    "Fallback",
    "Finding",
    "FullJitter",
    "Gradient2",
    "Hedge",
    "Isolation",
    "LastGood",
    "LastGoodSnapshot",
    "Outcome",
    "Permit",
    "Pipeline",
    "PipelineWarning",
    "Place",
    "Policy",
    "Quantile",
    "RateLimit",
    "RateLimitSnapshot",
    "RateLimitedError",
    "RejectedError",
    "ResilienceError",
    "ResilienceWarning",
    "Retry",
    "RetryBudget",
    "SingleFlight",
    "SingleFlightSnapshot",
    "SlowRate",
    "Success",
    "Throttle",
    "ThrottleSnapshot",
    "ThrottledError",
    "TimeWindow",
    "Timeout",
    "TimeoutExceededError",
    "Vegas",
    "deadline",
    "remaining",
]

# To a checker a module's __getattr__ would let every misspelt name pass.
if not TYPE_CHECKING:  # pragma: no branch - always so where it runs
    # Where each name lives; a test holds it to the imports above.
    _NAMES = {
        "budgets": "BudgetSnapshot RetryBudget",
        "call": "Call",
        "checks": "Explanation Finding",
        "core.backoff": "FullJitter",
        "core.generations": "CircuitState",
        "core.latency": "Quantile",
        "core.limits": "AIMD Gradient2 Vegas",
        "core.trips": "ConsecutiveFailures FailureRate SlowRate",
        "core.windows": "CountWindow TimeWindow",
        "deadlines": "deadline remaining",
        "doors": "Failure Outcome Policy Success",
        "errors": (
            "BulkheadFullError CircuitIsolatedError CircuitOpenError ConfigurationError "
            "DeadlineExpiredError PipelineWarning RateLimitedError RejectedError "
            "ResilienceError ResilienceWarning ThrottledError TimeoutExceededError"
        ),
        "pipeline": "Pipeline",
        "policies.bulkhead": "Bulkhead BulkheadSnapshot Place",
        "policies.chaos": "Chaos ChaosSnapshot",
        "policies.circuit_breaker": "CircuitBreaker CircuitSnapshot Isolation Permit",
        "policies.concurrency_limit": "ConcurrencyLimit ConcurrencyLimitSnapshot",
        "policies.fallback": "Fallback",
        "policies.hedge": "Hedge",
        "policies.last_good": "LastGood LastGoodSnapshot",
        "policies.rate_limit": "RateLimit RateLimitSnapshot",
        "policies.retry": "Retry",
        "policies.single_flight": "SingleFlight SingleFlightSnapshot",
        "policies.throttle": "Throttle ThrottleSnapshot",
        "policies.timeout": "Timeout",
    }
    _HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
    # As attributes of the package, for who has imported no more than that.
    _MODULES = {home.partition(".")[0] for home in _NAMES} | {"events"}

    def __getattr__(name: str) -> object:
        from importlib import import_module  # noqa: PLC0415 - nor is this needed before

        if name in _HOMES:
            found = globals()[name] = getattr(import_module(f"resilience.{_HOMES[name]}"), name)
            return found
        if name in _MODULES:
            return import_module(f"resilience.{name}")
        raise AttributeError(f"module 'resilience' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
