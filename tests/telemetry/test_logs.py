"""
Logs with fields: the standard library's logging and structlog.
"""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from resilience import CircuitBreaker, CircuitOpenError, ConsecutiveFailures
from resilience.events import (
    CallFinished,
    CircuitStateChanged,
    CircuitTripped,
    Event,
    RetryScheduled,
    RetryStopped,
)
from resilience.telemetry import logging as for_logging
from resilience.telemetry import structlog as for_structlog
from resilience.testing import Script


async def test_fields_for_a_json_formatter_in_the_place_of_the_built_in_lines(
    backend, shop, caplog
):
    """
    While it is installed each event is one record with its fields; afterwards the built-in lines are back.
    """
    caplog.set_level(logging.DEBUG, "resilience")
    with for_logging.install():
        await shop.outcome(Script(OSError))
        await shop.outcome(Script(OSError))
        await shop.outcome(Script())
    records = [(record.levelname, getattr(record, "resilience.event")) for record in caplog.records]
    assert [
        ("DEBUG", "retry_scheduled"),
        ("DEBUG", "retry_stopped"),
        ("WARNING", "circuit_state_changed"),
        ("DEBUG", "retry_stopped"),
        ("DEBUG", "call_rejected"),
    ] == records
    opened = caplog.records[2]
    assert "catalogue" == getattr(opened, "resilience.policy")
    assert ("CLOSED", "OPEN") == (
        getattr(opened, "resilience.old"),
        getattr(opened, "resilience.new"),
    )
    assert opened.getMessage().startswith("circuit_state_changed policy='catalogue' old='CLOSED'")
    assert "at=" not in opened.getMessage()
    caplog.clear()
    await shop.outcome(Script(KeyError))
    assert not [record for record in caplog.records if hasattr(record, "resilience.event")]


async def test_levels_are_the_users(backend, shop, caplog):
    """
    TE-002: a level per class of events, a base class for its subclasses, None for silence.
    """
    caplog.set_level(logging.DEBUG, "mine")
    levels = {CircuitStateChanged: logging.ERROR, RetryScheduled: None, Event: logging.INFO}
    with for_logging.install("mine", levels=levels, per_call=True):
        await shop.outcome(Script(OSError))
        await shop.outcome(Script(OSError))
    assert ["attempt_finished", "attempt_finished", "retry_stopped", "call_finished"] == [
        getattr(record, "resilience.event") for record in caplog.records[:4]
    ]
    assert {"INFO": 7, "ERROR": 1} == {
        level: [record.levelname for record in caplog.records].count(level)
        for level in ("INFO", "ERROR")
    }


def test_a_level_that_is_off_builds_no_record(caplog):
    """
    TE-002: below the logger's level nothing is formatted.
    """
    caplog.set_level(logging.WARNING, "quiet")
    listener = for_logging.LoggingListener(logging.getLogger("quiet"))
    listener(RetryStopped(policy="r", at=0.0, attempts=1, reason="attempts", error=None))
    assert [] == caplog.records


def moved(old, new):
    return CircuitStateChanged(policy="g", at=0.0, old=old, new=new, generation=2, reason="by hand")


@pytest.mark.parametrize(
    ("event", "method"),
    [
        (CircuitTripped(policy="g", at=0.0, calls=3, failures=3, slow=0), "warning"),
        (moved("OPEN", "HALF_OPEN"), "info"),
        (moved("CLOSED", "ISOLATED"), "warning"),
        (RetryStopped(policy="r", at=0.0, attempts=1, reason="attempts", error=None), "debug"),
    ],
)  # fmt: skip
def test_structlog_gets_the_name_and_the_fields(event, method):
    """
    The event's name, its fields as keyword arguments, what is None left out.
    """
    with structlog.testing.capture_logs() as logs:
        for_structlog.StructlogListener()(event)
    (line,) = logs
    assert method == line.pop("log_level")
    assert line.pop("event") in {"circuit_tripped", "circuit_state_changed", "retry_stopped"}
    assert None not in line.values()
    assert event.policy == line["policy"]
    json.dumps(line)


def test_structlog_is_wired_by_one_call():
    """
    One call, all breakers; levels of the user's, also one without a name, and silence.
    """
    said = []

    class Logger:
        def log(self, level, name, **fields):
            said.append((level, name, fields["policy"]))

        def error(self, name, **fields):
            said.append(("error", name, fields["policy"]))

    gate = CircuitBreaker("structured", on=OSError, trip=ConsecutiveFailures(1))
    levels = {CircuitStateChanged: logging.ERROR, Event: 35, CallFinished: None}
    with for_structlog.install(Logger(), levels=levels, per_call=True) as installed:
        gate.admit().failure()
        with pytest.raises(CircuitOpenError):
            gate.admit()
        installed.listener(
            CallFinished(policy="p", at=0.0, outcome="success", attempts=1, elapsed=0.0, error=None)
        )
    assert [
        ("error", "circuit_state_changed", "structured"),
        (35, "call_rejected", "structured"),
    ] == said
