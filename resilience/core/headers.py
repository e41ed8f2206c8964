"""
A deadline as the text of a header: how much time is left, or when it is over.

Relative is gRPC's ``grpc-timeout`` (PROTOCOL-HTTP2: at most eight digits and a unit) and needs no clock that both sides
share; the time on the wire is not counted. Absolute is Unix time in seconds, which counts it and trusts both clocks.

What is read is the word of a stranger: 64 characters at most, ASCII, nothing but digits where digits belong; anything
else was not said. Nothing here raises.
"""

from __future__ import annotations

import math
import re
from typing import Any

__all__ = ["as_deadline", "as_timeout", "read_deadline", "read_timeout"]

_LENGTH = 64
_UNITS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1.0, "M": 60.0, "H": 3600.0}
_MOST = 99_999_999
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])", re.ASCII)
_DEADLINE = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,9})?", re.ASCII)
# A float of the process's clock has fewer digits than nanoseconds have.
_ROUNDING = 1e-9


def as_timeout(seconds: float) -> str:
    """So many seconds in gRPC's notation, never more, in the finest unit that has room for them; ``1n`` for none."""
    for unit, size in _UNITS.items():
        count = seconds / size
        if count <= _MOST:
            return f"{max(1, math.floor(count + _ROUNDING))}{unit}"
    return f"{_MOST}H"


def read_timeout(value: Any, cap: float) -> float | None:
    """Seconds, at most *cap*; None if it says nothing we understand."""
    found = _TIMEOUT.fullmatch(_text(value))
    return None if found is None else min(cap, int(found[1]) * _UNITS[found[2]])


def as_deadline(seconds: float, wall: float) -> str:
    """The instant in so many seconds from *wall* (Unix time), in milliseconds, never later."""
    return f"{max(0, math.floor((wall + seconds) * 1000 + 1e-3)) / 1000:.3f}"


def read_deadline(value: Any, wall: float, cap: float) -> float | None:
    """Seconds from *wall* (Unix time) to the instant, 0.0 if it has passed, at most *cap*; None if it says nothing."""
    found = _DEADLINE.fullmatch(_text(value))
    return None if found is None else min(cap, max(0.0, float(found[0]) - wall))


def _text(value: Any) -> str:
    if isinstance(value, bytes) and len(value) <= _LENGTH:
        value = value.decode("ascii", "replace")
    return value.strip(" \t") if isinstance(value, str) and len(value) <= _LENGTH else ""
