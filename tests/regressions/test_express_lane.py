"""
What the differential oracle has found: calls that the express lane ended otherwise than the linked steps.
"""

from __future__ import annotations

import anyio
import pytest

from resilience import Retry, Timeout


async def test_parameters_may_have_any_name(backend: str) -> None:
    """
    Law 35, trap 8: a keyword argument called ``self`` is the callee's, after a failure as well.
    """
    failure = OSError()

    async def fetch(*, self: int, fn: int, call: int, error: int) -> None:
        raise failure

    with pytest.raises(OSError) as caught:  # noqa: PT011 - this one
        await Retry(attempts=1, on=OSError).wrap(fetch)(self=1, fn=2, call=3, error=4)
    assert failure is caught.value


async def test_a_deadline_that_came_too_late_is_not_the_next_calls(
    backend: str, unit: float
) -> None:
    """
    Laws 32 and 35: a call that was shielded past its deadline has ended; the next one of its task has time of its own.
    """

    async def shielded() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2 * unit)
        return "shielded"

    async def quick() -> str:
        await anyio.sleep(unit / 2)
        return "quick"

    guard = Timeout(unit)
    first, second = guard.wrap(shielded), guard.wrap(quick)
    assert ["shielded", "quick"] == [await first(), await second()]
