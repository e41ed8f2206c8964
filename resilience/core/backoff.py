"""
How long to wait before the next attempt, when the user names no strategy of tenacity's.

Full jitter (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015): uniform between nothing and the
capped exponential, so that callers who failed together do not come back together.
"""

from __future__ import annotations

from typing import Any, final

import attrs

from resilience.clock import RNG, Rng
from resilience.validation import as_seconds, duration, rng

__all__ = ["FullJitter"]

_LARGEST_EXPONENT = 62


@final
@attrs.frozen
class FullJitter:
    """
    A wait strategy in tenacity's shape: uniform in ``[0, min(cap, initial * 2**(n - 1))]`` after the n-th failure.

    Args:
        initial: Seconds, the upper bound after the first failure. Default 0.1.
        cap: Seconds no wait exceeds. Default 5.
        rng: Where the draws come from. Default: the library's own generator, reseeded after a fork.
    """

    initial: float = attrs.field(default=0.1, converter=as_seconds, validator=duration(zero=True))
    cap: float = attrs.field(default=5.0, converter=as_seconds, validator=duration(zero=True))
    rng: Rng | None = attrs.field(default=None, validator=rng(), kw_only=True, eq=False, repr=False)

    def bound(self, attempt: int) -> float:
        """The longest wait after that many failures; finite for any number."""
        return min(self.cap, self.initial * 2.0 ** min(attempt - 1, _LARGEST_EXPONENT))

    def draw(self, attempt: int, source: Rng) -> float:
        """The wait after *attempt* failures, by this generator."""
        return self.bound(attempt) * source.random()

    def __call__(self, retry_state: Any) -> float:
        return self.draw(retry_state.attempt_number, self.rng or RNG)
