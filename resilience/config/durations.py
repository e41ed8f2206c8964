"""
Durations as people write them: ``2.5``, ``"250ms"``, ``"1m30s"``.

A number is seconds. A text is numbers with units, the largest first, each at most once; a text without a unit is
refused, because it is the one that was meant in milliseconds.
"""

from __future__ import annotations

import re

__all__ = ["LONGEST", "PATTERN", "POSITIVE", "seconds_of", "spelled_out"]

LONGEST = 1e9
"""Seconds; 31 years. Larger numbers are mistakes, and JSON Schema needs a bound to refuse infinity."""

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_PART = r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?%s)?"
PATTERN = "^(?=[0-9])" + "".join(_PART % unit for unit in _UNITS) + "$"
"""The texts that are durations, as a regular expression for both Python and JSON Schema."""
POSITIVE = PATTERN.replace("(?=[0-9])", "(?=[0-9])(?=.*[1-9])")
"""Those of them that are longer than nothing."""

_MATCH = re.compile(
    "".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?){unit})?" for unit in _UNITS)
)


def seconds_of(text: str) -> float | None:
    """The seconds of a text such as ``"1m30s"``; None if it is none."""
    found = _MATCH.fullmatch(text)
    if not text or found is None:
        return None
    return sum(float(number) * _UNITS[unit] for unit, number in found.groupdict().items() if number)


def spelled_out(seconds: float) -> str:
    """``"1m30s"`` for 90.0: two units at most, for readers."""
    parts: list[str] = []
    rest = seconds
    for unit, length in _UNITS.items():
        whole = rest if unit == "us" else int(rest / length + 1e-9)
        if whole and len(parts) < 2:  # noqa: PLR2004 - see above
            parts.append(f"{whole:g}{unit}" if unit != "us" else f"{rest / length:g}us")
            rest = max(0.0, rest - whole * length)
            if rest < length * 1e-6:
                break
        elif parts:
            break
    return "".join(parts) or "0s"
