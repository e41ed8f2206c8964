"""
Resilience for asynchronous Python: one pipeline object that any coroutine can be wrapped in.

Composes a lock-free circuit breaker, retries with tenacity's strategies and timeouts; runs on asyncio and on trio.
"""

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
from resilience.policies.circuit_breaker import CircuitBreaker, CircuitSnapshot, Isolation, Permit
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
