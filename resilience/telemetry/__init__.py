"""
Where events go: logs, metrics, traces, alerts, a list to look at.

Everything here is a listener or a collector that reads snapshots; nothing in the house knows of it. What needs another
library has a module of its name and is not imported from here: ``logging``, ``structlog``, ``opentelemetry``,
``prometheus``. Each has an ``install()`` that wires it to all present and future pipelines and breakers.
"""

from resilience.telemetry.alerts import Alert, Alerts, CircuitOpened, LowSuccess, ManyRejections
from resilience.telemetry.event_log import EventLog, Logged
from resilience.telemetry.event_queue import EventQueue
from resilience.telemetry.installation import Installation

__all__ = [
    "Alert",
    "Alerts",
    "CircuitOpened",
    "EventLog",
    "EventQueue",
    "Installation",
    "Logged",
    "LowSuccess",
    "ManyRejections",
]
