"""
What somebody else has imported: trio and tenacity are looked for, and never imported for the looking.

A module stands in ``sys.modules`` from the first line of its import on. What another thread is still importing is not
there yet: nobody can run a task in it or hold an object of it.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["loaded"]


def loaded(name: str) -> Any:
    """The module of that name, or None if nobody has imported it to the end."""
    module = sys.modules.get(name)
    # The import system keeps this mark for itself; without it a module counts as whole.
    importing = getattr(getattr(module, "__spec__", None), "_initializing", False)
    return None if importing else module
