"""Where a deprecation is told of: at the line of the program that uses the old name, whatever it went through here."""

from __future__ import annotations

import inspect
import sys
import warnings
from pathlib import Path

__all__ = ["deprecated"]

_HERE = str(Path(__file__).parent)


def deprecated(text: str) -> None:
    """A `DeprecationWarning` at the first line outside of this package."""
    if sys.version_info >= (3, 12):
        warnings.warn(text, DeprecationWarning, skip_file_prefixes=(_HERE,))
    else:  # pragma: no cover - another branch on each Python
        frame, level = inspect.currentframe(), 1
        while frame is not None and frame.f_code.co_filename.startswith(_HERE):
            frame, level = frame.f_back, level + 1
        warnings.warn(text, DeprecationWarning, stacklevel=level)
