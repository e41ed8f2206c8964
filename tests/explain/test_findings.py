"""
The checks of a pipeline: each finding where it is due, and none a step to the side of it.
"""

from __future__ import annotations

import itertools
import re
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tenacity import stop_after_attempt, stop_after_delay, stop_never, wait_fixed, wait_none

from resilience import (
    Bulkhead,
    Chaos,
    CircuitBreaker,
    ConcurrencyLimit,
    ConfigurationError,
    ConsecutiveFailures,
    FailureRate,
    Fallback,
    Finding,
    Hedge,
    LastGood,
    Pipeline,
    PipelineWarning,
    RateLimit,
    ResilienceWarning,
    Retry,
    RetryBudget,
    SingleFlight,
    SlowRate,
    Throttle,
    Timeout,
    checks,
)
from resilience.checks import findings_of
from tests.explain.kit import built, explained

_names = itertools.count(1)


def breaker(**options: Any) -> CircuitBreaker:
    return CircuitBreaker(f"found-{next(_names)}", **({"on": OSError} | options))


def retry(attempts: int | None = 3, wait: float = 1, **options: Any) -> Retry:
    return Retry(attempts, on=OSError, wait=wait_fixed(wait), **options)


ONE = breaker(overdue_after=1)
OTHER = breaker(overdue_after=1)
KEPT = LastGood(60)
FLIGHT = SingleFlight()
CHAOS = Chaos(0.1, fault=OSError)
PLACES = Bulkhead(2)
RATE = RateLimit(2)
SHARE = Throttle()
BEARS = ConcurrencyLimit()


async def _replica(_: object, __: object) -> None:
    raise OSError


BUDGET = RetryBudget()


def hedge(after: Any = 1, **options: Any) -> Hedge:
    return Hedge(after, idempotent=True, **options)


FOUND: list[Any] = [
    # hedges
    pytest.param("hedge-multiplies", (retry(), hedge()), id="a hedge inside a retry"),
    pytest.param("hedge-multiplies", (hedge(), retry()), id="a retry inside a hedge"),
    pytest.param("hedge-multiplies", (hedge(), Timeout(9), hedge()), id="a hedge inside a hedge"),
    pytest.param("hedge-multiplies", (hedge(budget=BUDGET), retry()), id="a budget for one of two"),
    pytest.param(
        "hedge-multiplies",
        (hedge(budget=BUDGET), retry(budget=RetryBudget())),
        id="a budget for each",
    ),
    pytest.param(
        "hedge-around-breaker", (hedge(), breaker(), Timeout(2)), id="a breaker that sees no loser"
    ),
    pytest.param("hedge-too-late", (Timeout(2), hedge(2)), id="a hedge when all is over"),
    # an attempt timeout that cannot fire
    pytest.param("attempt-timeout", (Timeout(2), Timeout(2)), id="as long as the total"),
    pytest.param("attempt-timeout", (Timeout(2), retry(1), Timeout(3)), id="longer than the total"),
    pytest.param("attempt-timeout", (Timeout(5), Timeout(2), Timeout(2.5)), id="than the nearest"),
    # one breaker twice
    pytest.param("same-breaker", (ONE, ONE), id="twice in a row"),
    pytest.param("same-breaker", (ONE, Timeout(2), ONE), id="around something"),
    # a lease below the attempt timeout
    pytest.param("probe-lease", (breaker(probe_lease=1), Timeout(2)), id="a short lease"),
    pytest.param(
        "probe-lease",
        (breaker(probe_lease=1), breaker(overdue_after=1), Timeout(2)),
        id="further in",
    ),
    pytest.param("probe-lease", (breaker(), Timeout(timedelta(minutes=2))), id="the default lease"),
    # a retry that hides failures from a breaker
    pytest.param("retry-inside-breaker", (breaker(), retry(), Timeout(2)), id="directly"),
    pytest.param("retry-inside-breaker", (breaker(), Timeout(9), retry()), id="further inside"),
    # a breaker that a hang does not open
    pytest.param("breaker-without-timeout", (breaker(),), id="nothing inside"),
    pytest.param("breaker-without-timeout", (Timeout(2), breaker()), id="a timeout outside"),
    pytest.param(
        "breaker-without-timeout",
        (breaker(trip=ConsecutiveFailures(2)), retry()),
        id="a retry inside",
    ),
    # retries that the total timeout ends
    pytest.param("retries-do-not-fit", (Timeout(7), retry(), Timeout(2)), id="8 seconds into 7"),
    pytest.param(
        "retries-do-not-fit",
        (Timeout(7), breaker(), retry(), Timeout(2)),
        id="with a breaker between",
    ),
    pytest.param(
        "retries-do-not-fit",
        (Timeout(7), retry(None, stop=stop_after_attempt(3)), Timeout(2)),
        id="counted by a strategy",
    ),
    pytest.param(
        "retries-do-not-fit",
        (Timeout(7), retry(None, stop=stop_after_delay(9)), Timeout(2)),
        id="timed by a strategy",
    ),
    # retries in one another
    pytest.param("nested-retries", (retry(), retry()), id="two"),
    pytest.param("nested-retries", (retry(), Timeout(2), retry()), id="with a timeout between"),
    # one gate twice
    pytest.param("same-bulkhead", (PLACES, Timeout(2), PLACES), id="places"),
    pytest.param("same-rate-limit", (RATE, retry(), RATE), id="a rate"),
    pytest.param("same-throttle", (SHARE, retry(), SHARE), id="a share"),
    pytest.param("same-concurrency-limit", (BEARS, Timeout(2), BEARS), id="a size"),
    # a wait that the deadline ends
    pytest.param("wait-does-not-fit", (Timeout(2), Bulkhead(1, queue=1, max_wait=2)), id="queue"),
    pytest.param("wait-does-not-fit", (Timeout(2), retry(), RateLimit(1, max_wait=3)), id="turn"),
    # one memory twice
    pytest.param("same-last-good", (KEPT, Timeout(2), KEPT), id="one memory twice"),
    pytest.param("same-flight", (FLIGHT, Timeout(2), FLIGHT), id="a flight in itself"),
    pytest.param("flight-without-timeout", (FLIGHT, retry()), id="a flight that may hang"),
    pytest.param("flight-without-timeout", (Timeout(2), FLIGHT), id="a deadline of one caller"),
    pytest.param(
        "flight-inside-breaker", (ONE, FLIGHT, Timeout(2)), id="a verdict for each caller"
    ),
    pytest.param("chaos-outside", (CHAOS, Timeout(2)), id="chaos around a timeout"),
    pytest.param("chaos-outside", (retry(), CHAOS, CHAOS, ONE), id="chaos around a breaker"),
    # answers that hide failures
    pytest.param(
        "fallback-inside-breaker", (ONE, Fallback(None, on=ConnectionError)), id="a part of it"
    ),
    pytest.param(
        "fallback-inside-breaker",
        (breaker(on=ValueError), Timeout(2), Fallback(None, on=TimeoutError)),
        id="our own deadline",
    ),
    pytest.param("fallback-inside-breaker", (ONE, LastGood(60), Timeout(2)), id="a last good one"),
    pytest.param("fallback-inside-retry", (retry(), Fallback(None, on=OSError)), id="the same"),
    pytest.param("fallback-inside-retry", (retry(), Fallback(None, on=Exception)), id="all"),
    pytest.param("fallback-inside-retry", (retry(), Timeout(2), LastGood(60)), id="an old one"),
    # answers that are never given
    pytest.param(
        "fallback-never-used",
        (Fallback(1, on=ConnectionError), Fallback(None, on=OSError)),
        id="the inner value takes all",
    ),
    pytest.param(
        "fallback-never-used",
        (LastGood(60), Fallback(None, on=Exception)),
        id="a memory that nobody asks",
    ),
]

FINE: list[Any] = [
    pytest.param("chaos-outside", (Timeout(2), CHAOS), id="chaos innermost"),
    pytest.param(
        "chaos-outside", (Timeout(2), CHAOS, Chaos(0.1, latency=1)), id="two kinds of chaos"
    ),
    pytest.param(
        "hedge-multiplies", (retry(budget=BUDGET), hedge(budget=BUDGET)), id="one budget for both"
    ),
    pytest.param("hedge-multiplies", (retry(), retry()), id="retries are told of as retries"),
    pytest.param("hedge-around-breaker", (ONE, hedge()), id="the breaker outside"),
    pytest.param("hedge-around-breaker", (hedge(), ONE), id="one that looks for overdue calls"),
    pytest.param("hedge-too-late", (Timeout(2), hedge(1.9)), id="just in time"),
    pytest.param("hedge-too-late", (hedge(2), Timeout(1)), id="a timeout for each attempt"),
    pytest.param("hedge-too-late", (Timeout(2), hedge(float("inf"))), id="only on failure"),
    pytest.param("hedge-too-late", (Timeout(2), hedge(lambda _: 9)), id="who knows when"),
    pytest.param("same-last-good", (KEPT, LastGood(60)), id="two memories"),
    pytest.param("same-flight", (FLIGHT, SingleFlight()), id="two flights"),
    pytest.param("flight-without-timeout", (FLIGHT, Timeout(2)), id="a flight in time"),
    pytest.param(
        "flight-inside-breaker", (FLIGHT, ONE, Timeout(2)), id="a verdict for each flight"
    ),
    pytest.param(
        "attempt-timeout",
        (Timeout(2), FLIGHT, Timeout(5)),
        id="a flight has more time than a caller",
    ),
    pytest.param(
        "fallback-inside-breaker", (Fallback(None, on=OSError), ONE), id="a fallback outside"
    ),
    pytest.param(
        "fallback-inside-breaker", (ONE, Fallback(None, on=KeyError)), id="what counts for nothing"
    ),
    pytest.param(
        "fallback-inside-breaker", (ONE, Fallback(None, on=lambda _: True)), id="a predicate"
    ),
    pytest.param(
        "fallback-inside-retry", (Fallback(None, on=OSError), retry()), id="outside a retry"
    ),
    pytest.param(
        "fallback-inside-retry", (retry(), Fallback(None, on=KeyError)), id="another error"
    ),
    pytest.param(
        "fallback-inside-retry",
        (retry(on_result=lambda result: result is None), Fallback(None, on=OSError)),
        id="a result that is tried again",
    ),
    pytest.param(
        "fallback-never-used",
        (Fallback(1, on=OSError), Fallback(None, on=ConnectionError)),
        id="the inner one takes less",
    ),
    pytest.param(
        "fallback-never-used",
        (Fallback(1, on=OSError), Fallback.using(_replica, on=OSError)),
        id="the inner one may fail",
    ),
    pytest.param(
        "fallback-never-used",
        (Fallback(1, on=TimeoutError), Timeout(2), Fallback(None, on=OSError)),
        id="a deadline between them",
    ),
    pytest.param(
        "fallback-never-used",
        (Fallback(1, on=lambda _: True), Fallback(None, on=OSError)),
        id="nobody knows what it wants",
    ),
    pytest.param("attempt-timeout", (Timeout(2), Timeout(1.999)), id="a little shorter"),
    pytest.param("attempt-timeout", (Timeout(2),), id="only one"),
    pytest.param("attempt-timeout", (Timeout(2), Timeout(lambda _: 9)), id="a function inside"),
    pytest.param("same-breaker", (ONE, OTHER), id="two breakers"),
    pytest.param("same-breaker", (Timeout(3), Timeout(2)), id="no breakers"),
    pytest.param("same-breaker", (retry(), retry()), id="equal values"),
    pytest.param("probe-lease", (breaker(probe_lease=2), Timeout(2)), id="just as long"),
    pytest.param("probe-lease", (Timeout(2), breaker(probe_lease=1)), id="a timeout outside"),
    pytest.param(
        "probe-lease", (breaker(probe_lease=1), Timeout(lambda _: 9)), id="nobody can tell"
    ),
    pytest.param("retry-inside-breaker", (retry(), breaker(), Timeout(2)), id="outside"),
    pytest.param("retry-inside-breaker", (retry(), Timeout(2)), id="no breaker"),
    pytest.param("breaker-without-timeout", (breaker(), Timeout(2)), id="a timeout inside"),
    pytest.param("breaker-without-timeout", (breaker(), retry(), Timeout(2)), id="further inside"),
    pytest.param("breaker-without-timeout", (breaker(), Timeout(lambda _: 9)), id="by a function"),
    pytest.param("breaker-without-timeout", (breaker(overdue_after=1),), id="overdue_after"),
    pytest.param("breaker-without-timeout", (breaker(trip=SlowRate(0.5, 1)),), id="slow calls"),
    pytest.param(
        "breaker-without-timeout",
        (breaker(trip=FailureRate() | SlowRate(0.5, 1)),),
        id="slow calls among others",
    ),
    pytest.param("retries-do-not-fit", (Timeout(8), retry(), Timeout(2)), id="8 seconds into 8"),
    pytest.param(
        "retries-do-not-fit", (Timeout(7), retry()), id="no attempt timeout to count with"
    ),
    pytest.param("retries-do-not-fit", (retry(), Timeout(2)), id="no total"),
    pytest.param("retries-do-not-fit", (Timeout(lambda _: 7), retry(), Timeout(2)), id="who knows"),
    pytest.param(
        "retries-do-not-fit",
        (Timeout(8), retry(retry_after=True, max_delay=60), Timeout(2)),
        id="a server that nobody expects to ask",
    ),
    pytest.param(
        "retries-do-not-fit",
        (Timeout(8), retry(None, stop=stop_never), Timeout(2)),
        id="as many as fit, on purpose",
    ),
    pytest.param("same-bulkhead", (Bulkhead(2), Bulkhead(2)), id="two bulkheads"),
    pytest.param("same-rate-limit", (RateLimit(2), RateLimit(2, per=60)), id="two rates"),
    pytest.param("same-throttle", (Throttle(), Throttle()), id="two throttles"),
    pytest.param(
        "same-concurrency-limit", (ConcurrencyLimit(), ConcurrencyLimit()), id="two of a size"
    ),
    pytest.param("wait-does-not-fit", (Timeout(3), Bulkhead(1, queue=1, max_wait=2)), id="it fits"),
    pytest.param("wait-does-not-fit", (Timeout(2), Bulkhead(1, queue=1)), id="no limit of its own"),
    pytest.param("wait-does-not-fit", (Timeout(2), Bulkhead(1, max_wait=3)), id="no queue"),
    pytest.param("wait-does-not-fit", (RateLimit(1, max_wait=3), Timeout(2)), id="timeout inside"),
    pytest.param("wait-does-not-fit", (Timeout(lambda _: 1), RateLimit(1, max_wait=3)), id="?"),
    pytest.param("nested-retries", (retry(),), id="one"),
    pytest.param("nested-retries", (Timeout(3), Timeout(2)), id="none"),
]


@pytest.mark.parametrize(("code", "policies"), FOUND)
def test_a_finding_where_it_is_due(code, policies):
    """Api, Pipeline: what cannot work, and what is likely wrong, is found when the pipeline is built."""
    assert code in [finding.code for finding in findings_of(policies)]


@pytest.mark.parametrize(("code", "policies"), FINE)
def test_no_finding_a_step_to_the_side(code, policies):
    """Api, Pipeline: a check does not speak of what is as it should be."""
    assert code not in [finding.code for finding in findings_of(policies)]


def test_every_finding_is_tried_both_ways():
    """Instrument: a check that is added has its cases here."""
    codes = {"attempt-timeout", "same-breaker", "probe-lease", "retry-inside-breaker",
             "breaker-without-timeout", "retries-do-not-fit", "nested-retries",
             "same-last-good", "fallback-inside-breaker", "fallback-inside-retry",
             "fallback-never-used", "same-flight", "flight-without-timeout",
             "flight-inside-breaker", "chaos-outside", "same-bulkhead", "same-rate-limit",
             "wait-does-not-fit", "same-throttle", "hedge-multiplies", "hedge-around-breaker",
             "hedge-too-late", "same-concurrency-limit"}  # fmt: skip

    assert codes == {case.values[0] for case in FOUND}
    assert codes == {case.values[0] for case in FINE}
    assert codes == set(re.findall(r'"([a-z-]+)"', _codes_in_the_source()))


def _codes_in_the_source() -> str:
    """Where `checks` writes a finding's code: after its severity, or beside the class that must not stand twice."""
    source = Path(checks.__file__).read_text(encoding="utf-8")
    return (
        " ".join(re.findall(r'"(?:error|warning)",\s*"[a-z-]+"|: "same-[a-z-]+"', source))
        .replace('"error"', "")
        .replace('"warning"', "")
    )


def test_the_texts_give_the_numbers():
    """Each finding says what is wrong with the figures in question, and what to do."""
    lease = breaker(probe_lease=1)
    found = {each.code: str(each) for case in FOUND for each in findings_of(case.values[1])}

    assert str(findings_of((Timeout(2), Timeout(3)))[0]) == (
        "error: Timeout(3.0) inside Timeout(2.0) can never fire - make the inner one shorter, or leave it out"
    )
    assert str(findings_of((lease, Timeout(2)))[0]) == (
        f"error: probe_lease=1 of {lease.name!r} ends before Timeout(2.0): a probe that is still in time would "
        "count as failed - make the lease at least 2 s"
    )
    assert "up to 9 attempts for one call" in found["nested-retries"]
    assert "stands twice in one pipeline" in found["same-breaker"]
    assert str(findings_of((Timeout(7), retry(), Timeout(2)))[0]) == (
        "warning: 3 attempts with their waits can need 8 s, and Timeout(7.0) ends them before - fewer attempts, "
        "a shorter attempt timeout or a longer total"
    )


def test_errors_come_first_and_refuse_all_at_once():
    """One ConfigurationError names every error of the pipeline, and no warning is given for what is refused."""
    lease = breaker(probe_lease=1)
    policies = Timeout(5), retry(), lease, retry(), Timeout(9)
    severities = [finding.severity for finding in findings_of(policies)]

    with pytest.raises(ConfigurationError) as refused:
        Pipeline(*policies)  # warnings are errors here, so there was none

    assert sorted(severities) == severities
    assert {"error", "warning"} == set(severities)
    assert 2 == str(refused.value).count("error: ")
    assert "warning" not in str(refused.value)
    assert "Pipeline" == refused.value.field
    assert isinstance(refused.value, ValueError)


def test_a_warning_for_each_finding_at_the_line_that_builds():
    """Api: `PipelineWarning`, a `ResilienceWarning` with the remedy, shown where the pipeline is written."""
    with pytest.warns(PipelineWarning) as given:
        guarded = Pipeline(breaker(), retry(), retry())

    assert issubclass(PipelineWarning, ResilienceWarning)
    assert {__file__} == {each.filename for each in given}
    assert [str(each.message) for each in given] == [
        f"{finding.text} - {finding.remedy}" for finding in guarded.explain().findings
    ]
    assert 4 == len(
        given
    )  # the retry inside the breaker twice, nothing ends a hang, nested retries


def test_a_policy_on_its_own_is_not_checked():
    """Api: the checks run for explicit pipelines only."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        breaker().wrap(_fetch)
        retry().wrap(_fetch)


async def _fetch() -> None:
    """A callee."""


def test_what_stands_in_an_inner_pipeline_is_checked_too():
    """A named pipeline is a step of its own, and no way around a check; one that is switched off is none."""
    inner = built(Timeout(3), name="inner")
    off = built(Timeout(3), name="off", enabled=False)

    with pytest.raises(ConfigurationError, match="can never fire"):
        Pipeline(Timeout(2), inner)
    with pytest.raises(ConfigurationError, match="stands twice"):
        Pipeline(ONE, built(ONE, name="again"))
    assert () == explained(Timeout(2), off).findings


def test_the_findings_of_a_sound_pipeline_are_none():
    """The first example of the README has nothing to be told."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sound = Pipeline(
            Timeout(10),
            Retry(attempts=3, on=(ConnectionError, TimeoutError)),
            breaker(),
            Timeout(2),
        )

    assert () == sound.explain().findings


def test_a_finding_is_a_frozen_value():
    """Data that can be compared and kept."""
    (first,) = findings_of((retry(wait=0), Retry(3, on=OSError, wait=wait_none())))

    assert first == Finding(first.severity, first.code, first.text, first.remedy)
    with pytest.raises(AttributeError):
        first.code = "another"


def test_two_retries_and_a_hedge_are_three_pairs_with_two_that_multiply_by_the_hedge():
    """
    Two retries in one another are told of by their own check, and not once more beside a hedge.
    """
    policies = [
        Retry(2, on=OSError),
        Retry(3, on=OSError),
        Hedge(1.0, idempotent=True),
    ]

    found = [each for each in checks.findings_of(policies) if each.code == "hedge-multiplies"]

    assert 2 == len(found)
