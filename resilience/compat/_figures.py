"""What the old status dictionaries tell of a breaker, beyond what its circuit counts: streaks, times, durations."""

from __future__ import annotations

from collections import Counter, deque

import attrs

from resilience.clock import PROCESS_CLOCK
from resilience.core.circuit import Circuit
from resilience.core.generations import Totals
from resilience.verdicts import Verdict

__all__ = ["CircuitMetrics", "Figures"]

_DURATIONS_KEPT = 100
_TYPES_KEPT = 1000


@attrs.frozen(kw_only=True)
class CircuitMetrics:
    """
    A breaker's figures at one instant, under their old names. Times are seconds since the epoch, or None.

    ``total_calls`` are those that succeeded or failed, by whatever way in; ``rejected_calls`` never ran.
    ``consecutive_failures`` and ``consecutive_successes`` are those since the other last came. ``failure_types`` looks
    back on the last 1000 failures, ``average_response_time`` on the last 100 calls, in seconds.
    """

    total_calls: int = 0
    successful_calls: int = 0
    failed_calls: int = 0
    rejected_calls: int = 0
    timeouts: int = 0
    slow_requests: int = 0
    consecutive_failures: int = 0
    consecutive_successes: int = 0
    state_changes: int = 0
    circuit_opened_count: int = 0
    adaptive_failure_threshold: int = 0
    average_response_time: float = 0.0
    current_error_rate: float = 0.0
    last_failure_time: float | None = None
    last_success_time: float | None = None
    failure_types: dict[str, int] = attrs.field(factory=dict)


@attrs.define
class Figures:
    """
    The figures since a breaker was made or reset. Written by any thread, each field in one step.

    Attributes:
        before: The circuit's totals at the beginning.
        failed_at: Instant of the last failure on the breaker's clock, or None.
    """

    before: Totals
    timeouts: int = 0
    slow: int = 0
    failures_in_a_row: int = 0
    successes_in_a_row: int = 0
    last_failure_time: float | None = None
    last_success_time: float | None = None
    failed_at: float | None = None
    durations: deque[float] = attrs.field(factory=lambda: deque(maxlen=_DURATIONS_KEPT))
    types: deque[str] = attrs.field(factory=lambda: deque(maxlen=_TYPES_KEPT))

    @classmethod
    def since_now(cls, circuit: Circuit) -> Figures:
        """From zero."""
        return cls(attrs.evolve(circuit.totals, successes=circuit.lifetime_successes()))

    def learn(
        self,
        verdict: Verdict,
        seconds: float,
        now: float,
        *,
        error: str | None = None,
        slow: bool = False,
        timeout: bool = False,
    ) -> None:
        """A call ended."""
        if verdict is Verdict.IGNORED:
            return
        self.durations.append(seconds)
        if slow:
            self.slow += 1
        if timeout:
            self.timeouts += 1
        if verdict is Verdict.SUCCESS:
            self.last_success_time = PROCESS_CLOCK.wall()
            self.failures_in_a_row = 0
            self.successes_in_a_row += 1
        else:
            self.types.append(error or "Exception")
            self.last_failure_time = PROCESS_CLOCK.wall()
            self.failed_at = now
            self.successes_in_a_row = 0
            self.failures_in_a_row += 1

    def metrics(self, circuit: Circuit, threshold: int) -> CircuitMetrics:
        """The figures now."""
        totals = circuit.totals
        succeeded = circuit.lifetime_successes() - self.before.successes
        failed = totals.failures - self.before.failures
        durations = tuple(self.durations)
        return CircuitMetrics(
            total_calls=succeeded + failed,
            successful_calls=succeeded,
            failed_calls=failed,
            rejected_calls=totals.rejected - self.before.rejected,
            timeouts=self.timeouts,
            slow_requests=self.slow,
            consecutive_failures=self.failures_in_a_row,
            consecutive_successes=self.successes_in_a_row,
            state_changes=circuit.current.number - 1,
            circuit_opened_count=totals.openings - self.before.openings,
            adaptive_failure_threshold=threshold,
            average_response_time=sum(durations) / len(durations) if durations else 0.0,
            current_error_rate=failed / (succeeded + failed) if succeeded + failed else 0.0,
            last_failure_time=self.last_failure_time,
            last_success_time=self.last_success_time,
            failure_types=dict(Counter(tuple(self.types))),
        )
