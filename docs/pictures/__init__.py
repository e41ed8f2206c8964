"""
The pictures of the documentation, drawn from the real code in virtual time.

One module per page, and in it one function per picture; each function whose name ends in ``_picture`` runs its policy
under `resilience.testing.run`, writes down what happened and returns an SVG. It is kept as ``<name>.svg`` beside it.
``python -m docs.pictures`` makes them again, and a test holds the kept ones against what the code makes today.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["FOLDER", "pictures"]

FOLDER = Path(__file__).parent
_ENDING = "_picture"


def pictures() -> dict[str, Callable[[], str]]:
    """File name -> the function that draws it."""
    found: dict[str, Callable[[], str]] = {}
    for each in pkgutil.iter_modules(__path__):
        if each.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{each.name}")
        for name, function in vars(module).items():
            if name.endswith(_ENDING) and function.__module__ == module.__name__:
                found[f"{name.removesuffix(_ENDING)}.svg"] = function
    return found
