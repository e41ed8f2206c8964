"""
A wait of 0.2 s was begun under a deadline of 0.2 s: 1000.2 - 1000.0 is a little more than 0.2.
"""

from __future__ import annotations

import anyio
import pytest
from tenacity import wait_fixed

from resilience import Pipeline, Retry, Timeout
from resilience.testing import Script


@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.3, 0.7, 1.1])
async def test_a_wait_that_ends_with_the_deadline_is_not_begun(backend, seconds):
    """Law 24: however the numbers round, the error of the attempt ends the call at once."""
    script = Script(OSError("down"))
    guarded = Pipeline(Timeout(seconds), Retry(2, on=OSError, wait=wait_fixed(seconds)))

    before = anyio.current_time()
    with pytest.raises(OSError, match="down"):
        await guarded(script)

    assert 1 == script.calls
    assert anyio.current_time() - before < seconds / 2
