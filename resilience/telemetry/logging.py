"""
Events for the standard library's `logging`, with fields that a JSON formatter can use.

The house logs by itself, one readable line for what matters; this takes the place of those lines where logs are read by
machines: every event, its fields in ``extra``, levels to choose.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import final

from resilience.events import LINES, LOGGER, Event, seldom
from resilience.telemetry._words import fields_of, level_of, name_of
from resilience.telemetry.installation import Installation

__all__ = ["LoggingListener", "install"]


@final
class LoggingListener:
    """
    Logs each event: its name and fields as text, the fields in ``extra`` as ``resilience.policy`` and so on.

    Args:
        logger: A logger or its name. Default ``resilience``.
        levels: Event class -> level of `logging`, or None for silence; a base class stands for its subclasses. Default:
            WARNING for what turns calls away, INFO for other transitions, DEBUG for the rest.
        per_call: Log each call and attempt too. Default False.
    """

    def __init__(
        self,
        logger: logging.Logger | str = LOGGER,
        *,
        levels: Mapping[type[Event], int | None] | None = None,
        per_call: bool = False,
    ) -> None:
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._levels = dict(levels or {})
        self.listens_to: tuple[type[Event], ...] = (Event,) if per_call else seldom()

    def __call__(self, event: Event, /) -> None:
        level = level_of(event, self._levels)
        if level is None or not self._logger.isEnabledFor(level):
            return
        name, fields = name_of(event), fields_of(event)
        extra = {f"resilience.{key}": value for key, value in fields.items()}
        extra["resilience.event"] = name
        text = " ".join(f"{key}={value!r}" for key, value in fields.items() if key != "at")
        self._logger.log(level, "%s %s", name, text, extra=extra)


def install(
    logger: logging.Logger | str = LOGGER,
    *,
    levels: Mapping[type[Event], int | None] | None = None,
    per_call: bool = False,
) -> Installation:
    """
    Log the events of all present and future pipelines and breakers, in the place of the built-in lines.

    Arguments as in `LoggingListener`.
    """
    listener = LoggingListener(logger, levels=levels, per_call=per_call)
    LINES.replaced += 1
    return Installation(listener, _restore)


def _restore() -> None:
    LINES.replaced -= 1
