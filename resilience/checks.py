"""
What is wrong with a pipeline before its first call: errors for what cannot work, warnings for what will disappoint.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs

from resilience.bounds import INVOKE, ORIGIN, Around, Bounds, Effort, Inner, bounds_of
from resilience.doors import Policy
from resilience.errors import TimeoutExceededError
from resilience.strategies import named_exceptions
from resilience.values import Value
from resilience.verdicts import is_types

if TYPE_CHECKING:
    from resilience.policies.bulkhead import Bulkhead
    from resilience.policies.chaos import Chaos
    from resilience.policies.circuit_breaker import CircuitBreaker
    from resilience.policies.fallback import Fallback
    from resilience.policies.hedge import Hedge
    from resilience.policies.last_good import LastGood
    from resilience.policies.rate_limit import RateLimit
    from resilience.policies.retry import Retry
    from resilience.policies.single_flight import SingleFlight
    from resilience.policies.timeout import Timeout
else:
    # Nothing is an instance of (). A pipeline has no policy of a class that nobody has imported; `_names_of` puts
    # the class here when there is one.
    Bulkhead = Chaos = CircuitBreaker = Fallback = Hedge = LastGood = ()
    RateLimit = Retry = SingleFlight = Timeout = ()

__all__ = ["Explanation", "Finding", "findings_of", "worst_of"]

_POLICIES = "resilience.policies."


class Finding(Value, kw_only=False):
    """
    One thing the checks have to say.

    Attributes:
        severity: ``error`` (cannot work; refused at build) or ``warning`` (likely wrong; a `PipelineWarning`).
        code: A short stable name.
        text: What is wrong, with the numbers.
        remedy: What to do about it.
    """

    severity: Literal["error", "warning"]
    code: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.text} - {self.remedy}"


class Explanation(Value, kw_only=False):
    """
    The worst a pipeline can do, and what its checks found.

    Attributes:
        attempts: Most times one call can enter the callee: the load amplification.
        duration: Most seconds until the caller has an answer; infinity if nothing bounds it.
        findings: Of the checks, worst first.
        pipeline: The pipeline as it is written.
    """

    attempts: float
    duration: float
    findings: tuple[Finding, ...]
    pipeline: str

    def __str__(self) -> str:
        duration = "unbounded" if self.duration == math.inf else f"{self.duration:g} s"
        load = "unbounded" if self.attempts == math.inf else f"{self.attempts:g}"
        lines = [
            self.pipeline,
            f"  worst duration: {duration}",
            f"  worst attempts: {load} (the load on a dependency that fails, per call)",
        ]
        lines += [f"  {finding}" for finding in self.findings]
        return "\n".join(lines)


def worst_of(policies: Sequence[Policy[Any]]) -> Bounds:
    """The bounds of the callee inside these policies, outermost first."""
    inner: Inner = INVOKE
    effort = Effort()
    for place in reversed(range(len(policies))):
        inner = policies[place].worst(inner, Around(policies[:place], effort))
    return bounds_of(inner([ORIGIN], math.inf))


def findings_of(policies: Sequence[Policy[Any]]) -> tuple[Finding, ...]:
    """All findings on these policies, outermost first; errors before warnings."""
    here = _known(policies)
    found = [finding for kinds, check in _CHECKS if kinds <= here for finding in check(policies)]
    return tuple(sorted(found, key=lambda finding: finding.severity))


def _known(policies: Sequence[Policy[Any]]) -> frozenset[str]:
    """The names of their classes, which the checks can use from now on."""
    kinds: list[Any] = [type(policy) for policy in policies]
    return frozenset[str]().union(*map(_names_of, kinds))


@functools.cache
def _names_of(policy: Any) -> frozenset[str]:
    for kind in policy.__mro__:
        if kind.__module__.startswith(_POLICIES) and globals().get(kind.__name__) == ():
            globals()[kind.__name__] = kind
    return frozenset(kind.__name__ for kind in policy.__mro__)


def _seconds(policy: Policy[Any]) -> float | None:
    """The length of a fixed timeout, else None."""
    if isinstance(policy, Timeout) and isinstance(policy.seconds, float):
        return policy.seconds
    return None


def _timeouts_that_never_fire(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for first, last in itertools.combinations(range(len(policies)), 2):
        outer, inner = policies[first], policies[last]
        total, attempt = _seconds(outer), _seconds(inner)
        if total is None or attempt is None or attempt < total:
            continue
        # A flight may go on when the caller whose deadline is outside of it has left.
        if not any(isinstance(each, SingleFlight) for each in policies[first:last]):
            yield Finding(
                "error",
                "attempt-timeout",
                f"{inner!r} inside {outer!r} can never fire",
                "make the inner one shorter, or leave it out",
            )


def _shared_with_itself(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for outer, inner in itertools.combinations(policies, 2):
        if outer is inner and (code := _SHARED.get(type(outer).__name__)) is not None:
            yield Finding("error", code, f"{outer!r} stands twice in one pipeline", "leave one out")


def _leases_too_short(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for breaker, inner in itertools.combinations(policies, 2):
        attempt = _seconds(inner)
        if (
            isinstance(breaker, CircuitBreaker)
            and attempt is not None
            and breaker.probe_lease < attempt
        ):
            yield Finding(
                "error",
                "probe-lease",
                f"probe_lease={breaker.probe_lease:g} of {breaker.name!r} ends before {inner!r}: a probe that is "
                "still in time would count as failed",
                f"make the lease at least {attempt:g} s",
            )


def _retries_inside_breakers(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for breaker, inner in itertools.combinations(policies, 2):
        if isinstance(breaker, CircuitBreaker) and isinstance(inner, Retry):
            yield Finding(
                "warning",
                "retry-inside-breaker",
                f"the retry inside circuit breaker {breaker.name!r} hides failed attempts from it",
                "put the retry outside the breaker",
            )


def _breakers_that_cannot_see_a_hang(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for place, breaker in enumerate(policies):
        if (
            isinstance(breaker, CircuitBreaker)
            and breaker.overdue_after is None
            and not breaker.trip.slow_thresholds
            and not any(isinstance(inner, Timeout) for inner in policies[place + 1 :])
        ):
            yield Finding(
                "warning",
                "breaker-without-timeout",
                f"nothing inside circuit breaker {breaker.name!r} ends a call that hangs",
                "put a Timeout inside it, or set overdue_after",
            )


def _retries_that_do_not_fit(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for place, outer in enumerate(policies):
        total = _seconds(outer)
        if total is None:
            continue
        for offset, retry in enumerate(policies[place + 1 :], place + 1):
            if not isinstance(retry, Retry):
                continue
            needed = worst_of([_unasked(each) for each in policies[offset:]]).duration
            if total < needed < math.inf:
                tries = "the" if retry.attempts is None else retry.attempts
                yield Finding(
                    "warning",
                    "retries-do-not-fit",
                    f"{tries} attempts with their waits can need {needed:g} s, and {outer!r} ends them before",
                    "fewer attempts, a shorter attempt timeout or a longer total",
                )


def _unasked(policy: Policy[Any]) -> Policy[Any]:
    """The same without the waits that only a server could ask for."""
    return attrs.evolve(policy, retry_after=False) if isinstance(policy, Retry) else policy


def _nested_retries(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    retries = [policy for policy in policies if isinstance(policy, Retry)]
    if len(retries) > 1:
        attempts = worst_of(retries).attempts
        yield Finding(
            "warning",
            "nested-retries",
            f"{len(retries)} retries multiply: up to {attempts:g} attempts for one call",
            "retry in one place",
        )


def _answers_that_hide_failures(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for outer, inner in itertools.combinations(policies, 2):
        if not isinstance(inner, (Fallback, LastGood)):
            continue
        if isinstance(outer, CircuitBreaker) and _overlap((outer.on, TimeoutExceededError), inner):
            yield Finding(
                "warning",
                "fallback-inside-breaker",
                f"{inner!r} hides failures from circuit breaker {outer.name!r}, which is outside of it",
                "put it outside the breaker",
            )
        if isinstance(outer, Retry) and outer.on_result is None and _overlap(outer.on, inner):
            yield Finding(
                "warning",
                "fallback-inside-retry",
                f"{inner!r} answers for errors that {outer!r} around it is to try again",
                "put it outside the retry",
            )


def _answers_that_are_never_given(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for outer, inner in itertools.pairwise(policies):
        if (
            isinstance(outer, (Fallback, LastGood))
            and isinstance(inner, Fallback)
            and not inner.makes_its_answer
            and _takes_all(inner, outer)
        ):
            yield Finding(
                "warning",
                "fallback-never-used",
                f"{inner!r} cannot fail and answers for all that {outer!r} around it would answer for",
                "change their places, or leave one out",
            )


def _flights_that_hang(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for place, flight in enumerate(policies):
        if isinstance(flight, SingleFlight) and not any(
            isinstance(inner, Timeout) for inner in policies[place + 1 :]
        ):
            yield Finding(
                "warning",
                "flight-without-timeout",
                f"nothing inside {flight!r} ends a call that hangs, and all later ones join it",
                "put a Timeout inside it",
            )


def _verdicts_that_multiply(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for breaker, inner in itertools.combinations(policies, 2):
        if isinstance(breaker, CircuitBreaker) and isinstance(inner, SingleFlight):
            yield Finding(
                "warning",
                "flight-inside-breaker",
                f"circuit breaker {breaker.name!r} counts one failed call once for each caller that {inner!r} inside "
                "of it lets share it",
                "put the breaker inside",
            )


def _chaos_that_nobody_meets(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for place, chaos in enumerate(policies):
        unmet = [each for each in policies[place + 1 :] if not isinstance(each, Chaos)]
        if isinstance(chaos, Chaos) and unmet:
            yield Finding(
                "warning",
                "chaos-outside",
                f"what {chaos!r} injects is not met by {unmet[0]!r}, which is inside of it",
                "put the chaos innermost, where the dependency is",
            )


def _overlap(on: Any, inner: Fallback[Any] | LastGood) -> bool:
    """Whether *inner* answers for what *on* names; False where predicates keep it to themselves."""
    return any(
        issubclass(one, other) or issubclass(other, one)
        for one, other in itertools.product(named_exceptions(on), named_exceptions(inner.on))
    )


def _takes_all(inner: Fallback[Any], outer: Fallback[Any] | LastGood) -> bool:
    wanted, taken = named_exceptions(outer.on), named_exceptions(inner.on)
    return (
        outer.on_result is None
        and bool(wanted)
        and all(issubclass(each, taken) for each in wanted)
        and is_types(outer.on)
    )


def _waits_that_do_not_fit(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for outer, gate in itertools.combinations(policies, 2):
        total = _seconds(outer)
        wait = _longest_wait(gate)
        if total is not None and wait is not None and wait >= total:
            yield Finding(
                "warning",
                "wait-does-not-fit",
                f"{gate!r} lets a call wait for {wait:g} s, and {outer!r} ends it before",
                "a shorter max_wait or a longer timeout",
            )


def _longest_wait(policy: Policy[Any]) -> float | None:
    """What its ``max_wait`` allows, or None where nobody waits or no such limit is set."""
    if isinstance(policy, Bulkhead):
        return policy.max_wait if policy.queue else None
    return policy.max_wait if isinstance(policy, RateLimit) else None


_SHARED = {
    "CircuitBreaker": "same-breaker",
    "Bulkhead": "same-bulkhead",
    "RateLimit": "same-rate-limit",
    "Throttle": "same-throttle",
    "ConcurrencyLimit": "same-concurrency-limit",
    "LastGood": "same-last-good",
    "SingleFlight": "same-flight",
}
"""What must not stand twice in one pipeline, and the code of that finding."""


def _hedges_that_multiply(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for outer, inner in itertools.combinations(policies, 2):
        if not isinstance(outer, (Hedge, Retry)) or not isinstance(inner, (Hedge, Retry)):
            continue
        if isinstance(outer, Retry) and isinstance(inner, Retry):
            continue  # told of above
        if outer.budget is None or outer.budget is not inner.budget:
            attempts = worst_of([outer, inner]).attempts
            yield Finding(
                "warning",
                "hedge-multiplies",
                f"{outer!r} and {inner!r} multiply: up to {attempts:g} attempts for one call",
                "give both the same RetryBudget, or leave one out",
            )


def _hedges_that_hide_slow_calls(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for hedge, breaker in itertools.combinations(policies, 2):
        if (
            isinstance(hedge, Hedge)
            and isinstance(breaker, CircuitBreaker)
            and breaker.overdue_after is None
            and not breaker.trip.slow_thresholds
        ):
            yield Finding(
                "warning",
                "hedge-around-breaker",
                f"an attempt that loses is nothing to circuit breaker {breaker.name!r}: slow calls do not open it",
                "put the breaker outside the hedge, or set overdue_after or SlowRate",
            )


def _hedges_that_come_too_late(policies: Sequence[Policy[Any]]) -> Iterator[Finding]:
    for outer, hedge in itertools.combinations(policies, 2):
        total = _seconds(outer)
        if (
            total is not None
            and isinstance(hedge, Hedge)
            and isinstance(hedge.after, float)
            and total <= hedge.after < math.inf
        ):
            yield Finding(
                "warning",
                "hedge-too-late",
                f"{outer!r} is over before {hedge!r} starts another attempt",
                "a shorter delay, or a longer total",
            )


# Each with the names of the classes it is about: it is asked where there is one of each.
_CHECKS: tuple[tuple[frozenset[str], Callable[[Sequence[Policy[Any]]], Iterator[Finding]]], ...] = (
    tuple(
        (frozenset(kinds.split()), check)
        for kinds, check in (
            ("Timeout", _timeouts_that_never_fire),
            ("", _shared_with_itself),
            ("CircuitBreaker Timeout", _leases_too_short),
            ("CircuitBreaker Retry", _retries_inside_breakers),
            ("CircuitBreaker", _breakers_that_cannot_see_a_hang),
            ("Timeout Retry", _retries_that_do_not_fit),
            ("Retry", _nested_retries),
            ("Timeout", _waits_that_do_not_fit),
            ("", _answers_that_hide_failures),
            ("Fallback", _answers_that_are_never_given),
            ("SingleFlight", _flights_that_hang),
            ("CircuitBreaker SingleFlight", _verdicts_that_multiply),
            ("Chaos", _chaos_that_nobody_meets),
            ("Hedge", _hedges_that_multiply),
            ("CircuitBreaker Hedge", _hedges_that_hide_slow_calls),
            ("Timeout Hedge", _hedges_that_come_too_late),
        )
    )
)
