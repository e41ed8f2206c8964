"""
What a client is told when a call was rejected or cut off: a status, when to come back, and one word.

Nothing of what is behind the service: no name of a breaker, no error text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import final

import attrs

from resilience.errors import (
    DeadlineExpiredError,
    RateLimitedError,
    RejectedError,
    TimeoutExceededError,
)
from resilience.verdicts import leaves

__all__ = ["STATUSES", "Answer", "answer_of"]

STATUSES: Mapping[type[BaseException], int] = {
    RateLimitedError: 429,
    DeadlineExpiredError: 504,
    TimeoutExceededError: 504,
    RejectedError: 503,
}
"""Too Many Requests, Gateway Timeout, Service Unavailable; the nearest class decides."""

_LONGEST = 86_400
"""Seconds. What is further away is told as a day."""


@final
@attrs.frozen(kw_only=True)
class Answer:
    """
    An HTTP answer.

    Attributes:
        status: 429, 503 or 504.
        headers: ``content-type``, and ``retry-after`` in whole seconds where somebody knows.
        body: JSON with the keys ``error`` (the rejection's reason, or ``timeout``) and ``retry_after`` (seconds or
            null).
    """

    status: int
    headers: dict[str, str]
    body: bytes


def answer_of(
    error: Exception,
    *,
    retry_after: float | None = 1.0,
    statuses: Mapping[type[BaseException], int] = STATUSES,
) -> Answer | None:
    """
    The answer for an error of this package, alone or in an exception group of such; None for all others.

    Args:
        error: What a handler raised.
        retry_after: Seconds told where the rejection does not know; None: nothing is told. Default 1.
        statuses: Error class -> status; the nearest class decides.
    """
    ours = _ours(error)
    if ours is None:
        return None
    status = next((statuses[kind] for kind in type(ours).__mro__ if kind in statuses), 503)
    wait: float | None = None
    reason = "timeout"
    if isinstance(ours, RejectedError):
        reason = ours.reason
        known = ours.retry_after
        wait = known if isinstance(known, int | float) and math.isfinite(known) else None
        if wait is None and not isinstance(ours, DeadlineExpiredError):
            wait = retry_after
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    if wait is not None:
        # Rounded up: who comes back a moment early is turned away again.
        headers["retry-after"] = str(min(max(math.ceil(wait), 1), _LONGEST))
    body = json.dumps({"error": reason, "retry_after": None if wait is None else round(wait, 3)})
    return Answer(status=status, headers=headers, body=body.encode())


def _ours(error: Exception) -> RejectedError | TimeoutExceededError | None:
    """The error itself, or the first of a group in which all are ours."""
    found = list(leaves(error))
    if all(isinstance(each, RejectedError | TimeoutExceededError) for each in found):
        return found[0]  # type: ignore[return-value]  # looked at just now
    return None
