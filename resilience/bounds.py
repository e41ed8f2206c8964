"""
The worst a pipeline can do, worked out from inside to outside: each policy says what it makes of what it holds.

Breakers are taken to admit: what is reported is the worst over all states they can be in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import attrs

__all__ = ["INVOKE", "Bounds", "Inner"]


@attrs.frozen
class Bounds:
    """
    The worst of one chain of policies.

    Attributes:
        attempts: Times the callee can be entered.
        duration: Seconds until the caller has an answer, infinity if nothing bounds it.
        quickest: Seconds of waiting in between when every attempt fails at once and chance is kind.
    """

    attempts: float
    duration: float
    quickest: float = 0.0


Inner: TypeAlias = Callable[[float], Bounds]
"""Bounds of what is inside, given the seconds that remain until the earliest deadline around."""


def INVOKE(remaining: float) -> Bounds:  # noqa: N802 - the constant at the bottom of every chain
    """The callee itself: entered once, and as long as it likes."""
    return Bounds(1, min(math.inf, remaining))
