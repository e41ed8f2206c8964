"""
Alerts: the three rules that everybody wants, rules of one's own, and quiet after the first word.
"""

from __future__ import annotations

import logging

import pytest

from resilience import CircuitBreaker, ConfigurationError, ConsecutiveFailures, Pipeline, Timeout
from resilience.events import CallFinished, CircuitStateChanged, RetryScheduled, listen
from resilience.telemetry import Alerts, CircuitOpened, LowSuccess, ManyRejections
from resilience.testing import Script


def finished(outcome, pipeline="shop"):
    return CallFinished(
        policy="Pipeline()", pipeline=pipeline, at=0.0, outcome=outcome, attempts=1, elapsed=0.1, error=None
    )  # fmt: skip


@pytest.fixture
def told():
    return []


@pytest.fixture
def alerts(told, clock):
    return Alerts(told.append, clock=clock)


async def test_an_opening_is_told_once_per_cooldown(backend, told, clock):
    """
    A circuit that opens is an alert of its own name; within the cool-down it is not told again, after it is.
    """
    gate = CircuitBreaker("catalogue", on=OSError, trip=ConsecutiveFailures(1))
    other = CircuitBreaker("prices", on=OSError, trip=ConsecutiveFailures(1))
    guarded = Pipeline(gate, Timeout(5), name="shop").wrap(Script(OSError).__call__)
    with listen(Alerts(told.append, clock=clock, cooldown=60)):
        for _ in range(2):
            with pytest.raises(OSError, match="step"):
                await guarded()
            gate.reset()
        other.admit().failure()
        clock.advance(59.9)
        other.isolate()
        clock.advance(0.1)
        with pytest.raises(OSError, match="step"):
            await guarded()
    assert [("catalogue", "high"), ("prices", "high"), ("catalogue", "high")] == [
        (alert.subject, alert.severity) for alert in told
    ]
    assert "circuit 'catalogue' is OPEN (tripped, last failure OSError)" == told[0].text
    assert ("circuit_opened", CircuitStateChanged) == (told[0].rule, type(told[0].event))


def test_low_success_needs_more_than_ten_calls(alerts, told):
    """
    Success below 50 % over more than 10 calls: not at ten, not at one half exactly, and rejections do not count.
    """
    for _ in range(5):
        alerts(finished("success"))
        alerts(finished("failure"))
    for _ in range(3):
        alerts(finished("rejected"))
        alerts(finished("cancelled"))
    assert [] == told
    alerts(finished("failure"))
    (alert,) = told
    assert ("low_success", "shop", "medium") == (alert.rule, alert.subject, alert.severity)
    assert "5 of 11 calls succeeded" == alert.text


def test_rejections_need_more_than_five_and_a_tenth(alerts, told):
    """
    More than 10 % and more than 5 of the calls turned away.
    """
    for _ in range(54):
        alerts(finished("success"))
    for _ in range(6):
        alerts(finished("rejected"))
    assert [] == told  # 6 of 60 are a tenth, and no more
    alerts(finished("rejected"))
    assert ["7 of 61 calls were turned away"] == [alert.text for alert in told]
    assert "many_rejections" == told[0].rule
    for _ in range(5):
        alerts(finished("rejected", "rare"))
    assert 1 == len(told)
    alerts(finished("rejected", "rare"))
    assert ["shop", "rare"] == [alert.subject for alert in told]


def test_what_is_older_than_the_window_is_forgotten(alerts, told, clock):
    """
    Failures of an hour ago wake nobody.
    """
    for _ in range(10):
        alerts(finished("failure"))
    clock.advance(3600)
    alerts(finished("failure"))
    assert [] == told
    for _ in range(9):
        clock.advance(1)
        alerts(finished("failure"))
    assert [] == told
    alerts(finished("failure"))
    assert ["0 of 11 calls succeeded"] == [alert.text for alert in told]


def test_rules_of_ones_own(told, clock, caplog):
    """
    A function of the event, the tally and the instant; one that raises is logged once and stops no other rule.
    """

    def broken(event, tally, now):
        raise RuntimeError("mine")

    def three_retries(event, tally, now):
        return "third attempt" if isinstance(event, RetryScheduled) and event.attempt > 2 else None

    def loud(alert):
        told.append(alert)
        raise RuntimeError("mine")

    caplog.set_level(logging.ERROR, "resilience")
    alerts = Alerts(loud, rules=[broken, three_retries], clock=clock, cooldown=0)
    for attempt in (1, 2, 3, 3):
        alerts(
            RetryScheduled(
                policy="Retry()", at=0.0, attempt=attempt, delay=0.0, elapsed=0.0, error=None
            )
        )
    assert [("three_retries", "Retry()", "medium")] * 2 == [
        (alert.rule, alert.subject, alert.severity) for alert in told
    ]
    assert 2 == len(caplog.messages)
    assert "mine" not in caplog.text


def test_rules_take_other_numbers(told, clock):
    """
    The thresholds are fields.
    """
    rules = [
        LowSuccess(below=1.0, calls=1, severity="low"),
        ManyRejections(above=0.9, rejections=1),
    ]
    alerts = Alerts(told.append, rules=rules, clock=clock)
    for outcome in ("success", "failure", "rejected", "rejected"):
        alerts(finished(outcome))
    assert [("low_success", "low")] == [(alert.rule, alert.severity) for alert in told]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"handler": "page"}, r"Alerts\.handler"),
        ({"rules": [CircuitOpened]}, r"Alerts\.rules\[0\]"),
        ({"cooldown": -1}, r"Alerts\.cooldown"),
        ({"window": 0}, r"Alerts\.window"),
        ({"clock": 5}, r"Alerts\.clock"),
    ],
)
def test_bad_options_are_refused(options, field):
    """
    One error that names the field.
    """
    with pytest.raises(ConfigurationError, match=rf"{field} must be"):
        Alerts(**({"handler": print} | options))
    for kind, bad in ((LowSuccess, {"below": 50}), (ManyRejections, {"severity": "urgent"})):
        with pytest.raises(ConfigurationError, match=kind.__name__):
            kind(**bad)
