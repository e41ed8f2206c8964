"""
Events for structlog: the event's name and its fields as keyword arguments.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, final

from resilience.events import LINES, Event, seldom
from resilience.telemetry._words import fields_of, level_of, name_of
from resilience.telemetry.installation import Installation

try:
    import structlog
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "resilience.telemetry.structlog needs structlog: pip install 'resilience-anyio[structlog]'"
    ) from _missing

__all__ = ["StructlogListener", "install"]


_METHODS = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
    logging.CRITICAL: "critical",
}


@final
class StructlogListener:
    """
    Logs each event as ``logger.warning("circuit_state_changed", policy=..., old=..., new=...)``.

    Args:
        logger: A structlog logger. Default ``structlog.get_logger("resilience")``.
        levels, per_call: As in `resilience.telemetry.logging.LoggingListener`.
    """

    def __init__(
        self,
        logger: Any = None,
        *,
        levels: Mapping[type[Event], int | None] | None = None,
        per_call: bool = False,
    ) -> None:
        self._logger = structlog.get_logger("resilience") if logger is None else logger
        self._levels = dict(levels or {})
        self.listens_to: tuple[type[Event], ...] = (Event,) if per_call else seldom()

    def __call__(self, event: Event, /) -> None:
        level = level_of(event, self._levels)
        if level is None:
            return
        name, fields = name_of(event), fields_of(event)
        # By method where there is one: wrapped loggers of every kind have these, and not all have log().
        if (method := _METHODS.get(level)) is not None:
            getattr(self._logger, method)(name, **fields)
        else:
            self._logger.log(level, name, **fields)


def install(
    logger: Any = None,
    *,
    levels: Mapping[type[Event], int | None] | None = None,
    per_call: bool = False,
) -> Installation:
    """
    Log the events of all present and future pipelines and breakers to structlog, in the place of the built-in lines.

    Arguments as in `StructlogListener`.
    """
    listener = StructlogListener(logger, levels=levels, per_call=per_call)
    LINES.replaced += 1
    return Installation(listener, _restore)


def _restore() -> None:
    LINES.replaced -= 1
