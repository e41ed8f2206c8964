"""
What is likely wrong with a configuration that is valid: settings that do not go together.

The rules of `resilience.checks`, which every `Pipeline` is held to, are asked and not repeated; here are those that
need more than one pipeline, the numbers as they were written, or the environment.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from resilience.checks import Finding, worst_of
from resilience.config.config import Reading
from resilience.config.durations import spelled_out
from resilience.config.mistakes import Path
from resilience.config.presets import PIPELINE_PRESETS
from resilience.config.reading import PolicyPlan
from resilience.core.trips import ConsecutiveFailures, FailureRate, SlowRate
from resilience.core.windows import TimeWindow
from resilience.doors import Policy
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.retry import Retry
from resilience.policies.timeout import Timeout

__all__ = ["advice_of", "found_in"]

Placed = tuple[Path, Finding]

HUGE = 3600.0
"""Seconds from which a timeout bounds nothing that a caller would wait for."""
_LIKE_MILLISECONDS = 1000.0
_TOO_SHORT = 0.001


# ------------------------------------------------------------------------------- policies, outermost first


def advice_of(policies: Sequence[Policy]) -> tuple[Finding, ...]:
    """Findings on these policies beyond those of `resilience.checks`."""
    return tuple(finding for rule in _RULES for finding in rule(policies))


def _attempt_timeout(policies: Sequence[Policy]) -> float | None:
    """The shortest fixed timeout among these."""
    given = [each.seconds for each in policies if isinstance(each, Timeout)]
    return min((each for each in given if isinstance(each, float)), default=None)


def _breaks_too_short(policies: Sequence[Policy]) -> Iterator[Finding]:
    for place, breaker in enumerate(policies):
        attempt = _attempt_timeout(policies[place + 1 :])
        if (
            isinstance(breaker, CircuitBreaker)
            and attempt is not None
            and isinstance(breaker.break_duration, float)
            and breaker.break_duration < attempt
        ):
            yield Finding(
                "warning",
                "break-below-attempt",
                f"circuit breaker {breaker.name!r} is open for {breaker.break_duration:g} s, and one attempt may take "
                f"{attempt:g} s: it is asked again while calls from before still hang",
                f"a break_duration of at least {attempt:g} s",
            )


def _thresholds_below_attempts(policies: Sequence[Policy]) -> Iterator[Finding]:
    for place, breaker in enumerate(policies):
        if not isinstance(breaker, CircuitBreaker):
            continue
        retries = [each for each in policies[:place] if isinstance(each, Retry)]
        attempts = worst_of(retries).attempts if retries else 1.0
        failures = _failures_that_open(breaker)
        if failures is not None and failures < attempts:
            yield Finding(
                "warning",
                "threshold-below-attempts",
                f"circuit breaker {breaker.name!r} opens at {failures} failures, and one call may fail {attempts:g} "
                "times: one call opens it for all",
                "a threshold of at least the number of attempts, or fewer attempts",
            )


def _failures_that_open(breaker: CircuitBreaker) -> int | None:
    trip = breaker.trip
    if isinstance(trip, ConsecutiveFailures):
        return trip.n
    return trip.minimum_calls if isinstance(trip, FailureRate) else None


def _windows_too_short(policies: Sequence[Policy]) -> Iterator[Finding]:
    for place, breaker in enumerate(policies):
        attempt = _attempt_timeout(policies[place + 1 :])
        if not isinstance(breaker, CircuitBreaker) or attempt is None:
            continue
        trip = breaker.trip
        window = trip.window if isinstance(trip, FailureRate | SlowRate) else None
        if isinstance(window, TimeWindow) and window.seconds < 2 * attempt:
            yield Finding(
                "error",
                "window-too-short",
                f"circuit breaker {breaker.name!r} looks back {window.seconds:g} s, less than two attempts of "
                f"{attempt:g} s: calls that time out one after the other are never seen together",
                f"a window of at least {2 * attempt:g} s",
            )


def _cannot_close(policies: Sequence[Policy]) -> Iterator[Finding]:
    for place, breaker in enumerate(policies):
        if not isinstance(breaker, CircuitBreaker):
            continue
        waits = _waits_of(policies[place + 1 :])
        overdue = breaker.overdue_after or breaker.probe_lease
        doubtful = min(breaker.probe_lease, overdue, *breaker.trip.slow_thresholds)
        if waits > doubtful:
            yield Finding(
                "error",
                "cannot-close",
                f"inside circuit breaker {breaker.name!r} a retry waits {waits:g} s, and a probe that takes "
                f"{doubtful:g} s has failed: a probe that needs its second attempt never closes it",
                "put the retry outside, or lengthen probe_lease, overdue_after and slower_than",
            )
        needed = breaker.successes_to_close or breaker.probes
        if needed > 10 * breaker.probes:
            yield Finding(
                "warning",
                "slow-to-close",
                f"circuit breaker {breaker.name!r} wants {needed} successes, {breaker.probes} at a time: one failure "
                "among them opens it again",
                f"successes_to_close of at most {10 * breaker.probes}, or more probes",
            )


def _waits_of(policies: Sequence[Policy]) -> float:
    """The shortest wait that a retry among these is sure to make."""
    waits = [getattr(each.wait, "wait_fixed", 0.0) for each in policies if isinstance(each, Retry)]
    return float(max(waits, default=0.0))


def _slow_calls_that_are_cut(policies: Sequence[Policy]) -> Iterator[Finding]:
    for place, breaker in enumerate(policies):
        attempt = _attempt_timeout(policies[place + 1 :])
        if not isinstance(breaker, CircuitBreaker) or attempt is None:
            continue
        for slow in sorted(breaker.trip.slow_thresholds):
            if slow > attempt:
                yield Finding(
                    "warning",
                    "never-slow",
                    f"to circuit breaker {breaker.name!r} a call is slow from {slow:g} s, and none lasts longer than "
                    f"{attempt:g} s",
                    f"slower_than of less than {attempt:g} s",
                )


_RULES: tuple[Callable[[Sequence[Policy]], Iterator[Finding]], ...] = (
    _breaks_too_short,
    _thresholds_below_attempts,
    _windows_too_short,
    _cannot_close,
    _slow_calls_that_are_cut,
)


# ------------------------------------------------------------------------------------ the whole configuration


def found_in(
    reading: Reading, environ: Mapping[str, str], prefix: str, environment: str | None, expected: Sequence[str]
) -> Iterator[Placed]:  # fmt: skip
    """Findings on the whole, each with the path it concerns."""
    yield from _numbers(reading)
    yield from _nested(reading)
    yield from _environments(reading, environment or environ.get(f"{prefix}_ENVIRONMENT"))
    yield from _missing(reading, expected)
    yield from _unused(reading)
    yield from _contradictions(reading, prefix)


def _policies(reading: Reading) -> Iterator[PolicyPlan]:
    seen: set[str] = set()
    for pipeline in reading.plan.pipelines.values():
        for step in pipeline.steps:
            if step.policy is not None:
                seen.add(step.policy.name)
                yield step.policy
    yield from (each for name, each in reading.plan.policies.items() if name not in seen)


_BOUNDS = {"seconds", "probe_lease", "overdue_after", "max_wait", "max_delay", "break_duration"}


def _numbers(reading: Reading) -> Iterator[Placed]:
    for policy in _policies(reading):
        for key, value in policy.options.items():
            if key not in _BOUNDS or not isinstance(value, float):
                continue
            path = (*policy.path, key)
            bare = key in policy.numbers
            if bare and value >= _LIKE_MILLISECONDS:
                yield (
                    path,
                    Finding(
                        "warning",
                        "unit-slip",
                        f"{value:g} is {spelled_out(value)}: durations are seconds, and this looks like milliseconds",
                        f"{value / 1000:g} if it is; else a text with its unit, such as {spelled_out(value)!r}",
                    ),
                )
            elif 0 < value < _TOO_SHORT:
                yield (
                    path,
                    Finding(
                        "warning",
                        "unit-slip",
                        f"{spelled_out(value)} is shorter than a loop's turn: durations are seconds",
                        "a longer one",
                    ),
                )
            elif policy.type.word == "timeout" and value > HUGE:
                yield (
                    path,
                    Finding(
                        "warning",
                        "huge-timeout",
                        f"a timeout of {spelled_out(value)} bounds nothing that a caller would wait for",
                        "at most an hour",
                    ),
                )


def _nested(reading: Reading) -> Iterator[Placed]:
    """Retries of pipelines that call one another multiply."""
    plan = reading.plan.pipelines
    reported: set[frozenset[str]] = set()

    def below(name: str, trail: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for called in plan[name].calls:
            if called in trail:
                yield (*trail, called)
            else:
                yield (*trail, called)
                yield from below(called, (*trail, called))

    for name in plan:
        for trail in itertools.islice(below(name, (name,)), 10_000):
            path = (*plan[name].path, "calls")
            if trail[-1] in trail[:-1]:
                circle = frozenset(trail)
                if circle not in reported:
                    reported.add(circle)
                    yield path, Finding(
                        "error", "circular-calls", f"the pipelines {' -> '.join(trail)} call one another in a circle",
                        "name in calls what the callee of a pipeline goes through, and no more",
                    )  # fmt: skip
                continue
            attempts = [worst_of(reading.pipelines[each]).attempts for each in trail]
            if sum(each > 1 for each in attempts) > 1 and attempts[-1] > 1:
                total = 1.0
                for each in attempts:
                    total *= each
                product = " x ".join(f"{each:g}" for each in attempts)
                yield path, Finding(
                    "warning", "nested-retries-across",
                    f"the retries of {' -> '.join(trail)} multiply: {product} = {total:g} attempts for one call",
                    "retry in one of them, the one nearest to the dependency",
                )  # fmt: skip


def _environments(reading: Reading, environment: str | None) -> Iterator[Placed]:
    own = reading.plan.environment
    if own is not None and environment is not None and own != environment:
        yield ("environment",), Finding(
            "error", "environment-mismatch", f"the configuration is for {own!r}, and it runs in {environment!r}",
            "load the file of this environment",
        )  # fmt: skip
    here = environment or own
    known = {name.partition("/")[0] for name in PIPELINE_PRESETS if "/" in name}
    for pipeline in reading.plan.pipelines.values():
        made_for = (pipeline.preset or "").partition("/")[0]
        if here is not None and made_for in known and made_for != here:
            yield (*pipeline.path, "preset"), Finding(
                "warning", "environment-mismatch", f"a preset for {made_for!r} in {here!r}",
                "a preset of this environment, or numbers of its own",
            )  # fmt: skip


def _missing(reading: Reading, expected: Sequence[str]) -> Iterator[Placed]:
    there = {*reading.plan.pipelines, *reading.plan.policies}
    for name in expected:
        if name not in there:
            yield (), Finding(
                "error", "missing", f"the program asks for {name!r}, and the configuration has none",
                f"add it; there are: {', '.join(sorted(there)) or 'none'}",
            )  # fmt: skip
    if not there:
        yield (
            (),
            Finding(
                "warning",
                "missing",
                "the configuration guards nothing",
                "add a pipeline or a breaker",
            ),
        )


def _unused(reading: Reading) -> Iterator[Placed]:
    used = {step.use for each in reading.plan.pipelines.values() for step in each.steps}
    for name, policy in reading.plan.policies.items():
        if policy.path[0] == "policies" and name not in used:
            yield policy.path, Finding(
                "warning", "unused", f"no pipeline uses the {policy.type.word} {name!r}", "use it, or leave it out"
            )  # fmt: skip


def _contradictions(reading: Reading, prefix: str) -> Iterator[Placed]:
    """One variable says a mode, another one another."""
    plan, modes = reading.plan, reading.modes
    written = [
        *((each.path, each.mode, modes.pipelines[name], name) for name, each in plan.pipelines.items()),
        *((each.path, each.mode, modes.shared.get(name), name) for name, each in plan.policies.items()),
    ]  # fmt: skip
    for path, said, holds, name in written:
        source, _ = reading.whole.place((*path, "mode"))
        if said is not None and holds is not None and said != holds and source == "environment":
            yield (*path, "mode"), Finding(
                "error", "contradiction",
                f"one variable says that {name!r} is to {said}, another one {holds}",
                f"keep {prefix}_..._MODE and drop the other",
            )  # fmt: skip
    for pipeline in plan.pipelines.values():
        holds = modes.pipelines[pipeline.name]
        for step in pipeline.steps:
            if step.policy is not None and step.policy.mode == "enforce" and holds == "off":
                yield (*step.path, "mode"), Finding(
                    "warning", "contradiction",
                    f"{step.label!r} is to enforce in the pipeline {pipeline.name!r}, which is off",
                    "leave the mode out, or switch the pipeline on",
                )  # fmt: skip
