"""
A deadline that fired a rounding error early left the retry inside it a moment, and an attempt without a deadline.
"""

from __future__ import annotations

import anyio
import pytest
from tenacity import wait_none

from resilience import Pipeline, Retry, Timeout

JUST_BEFORE = 5e-10
"""Seconds: less than a loop tells apart, so a timer this much ahead of the deadline's comes with it."""


async def test_no_attempt_starts_after_a_deadline_that_the_callee_made_an_error_of(backend, unit):
    """Law 24: what a callee raises when it is cut off is not tried again, for no time remains."""
    attempts = 0

    async def turns_its_cancellation_into_an_error():
        nonlocal attempts
        attempts += 1
        try:
            await anyio.sleep(1 * unit - JUST_BEFORE)
        except anyio.get_cancelled_exc_class():
            raise OSError("interrupted") from None
        raise OSError("of its own")

    guarded = Pipeline(Timeout(1 * unit), Retry(3, on=OSError, wait=wait_none(), retry_after=False))

    before = anyio.current_time()
    with pytest.raises((OSError, TimeoutError)):
        await guarded(turns_its_cancellation_into_an_error)

    assert pytest.approx(1 * unit, abs=0.5 * unit) == anyio.current_time() - before
    assert attempts <= 2
