"""
What a server says about when to come back, read as the word of a stranger.

`Retry-After` is seconds or an HTTP date (RFC 9110, 10.2.3). 64 characters at most; ASCII digits, or the preferred date
format; anything else was not said. Nothing here raises.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["pushback_of", "seconds_until"]

_LENGTH = 64
_DIGITS = re.compile(r"[0-9]{1,10}", re.ASCII)
_HTTP_DATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{2}) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT",
    re.ASCII,
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def seconds_until(value: Any, wall: float) -> float | None:  # noqa: PLR0911 - a reading each
    """*value* as seconds from *wall* (Unix time), 0.0 for what has passed; None if it says nothing we understand."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if 0 <= value <= sys.float_info.max else None
    if isinstance(value, bytes) and len(value) <= _LENGTH:
        value = value.decode("ascii", "replace")
    if not isinstance(value, str) or len(value) > _LENGTH:
        return None
    text = value.strip(" \t")
    if _DIGITS.fullmatch(text):
        return float(text)
    if (date := _HTTP_DATE.fullmatch(text)) is None:
        return None
    day, month, year, hour, minute, second = date.groups()
    try:
        instant = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute),
            min(int(second), 59), tzinfo=UTC,
        )  # fmt: skip
        return max(0.0, instant.timestamp() - wall)
    except (ValueError, OverflowError):
        return None


def pushback_of(source: Any, wall: Callable[[], float]) -> float | None:
    """
    Seconds that *source*, an error or a result, asks to wait; None if it asks nothing.

    Read from ``source.retry_after``, or the ``Retry-After`` header in ``source.headers`` or
    ``source.response.headers``. *wall* gives Unix time, and is asked only if something was said.
    """
    try:
        said = getattr(source, "retry_after", None)
        if said is None:
            headers = getattr(source, "headers", None)
            if headers is None:
                headers = getattr(getattr(source, "response", None), "headers", None)
            if headers is None:
                return None
            said = headers.get("retry-after")
            if said is None:
                said = headers.get("Retry-After")
        return None if said is None else seconds_until(said, wall())
    except Exception:  # noqa: BLE001 - a stranger's object; whatever it does, it said nothing
        return None
