"""
stamina: its decorator. It has no breaker, and its timeout bounds no attempt.

Its instrumentation is off: by default it logs each retry as a warning, and ours as a debug message that nobody records.
"""

from __future__ import annotations

import stamina
import stamina.instrumentation

from benchmarks.rivals import Adapter, Function, Settings

__all__ = ["ADAPTER"]

stamina.instrumentation.set_on_retry_hooks([])


class ADAPTER(Adapter):
    on_trio = True

    def retry(self, fn: Function, settings: Settings) -> Function:
        return stamina.retry(
            on=settings.on,
            attempts=settings.attempts,
            timeout=None,
            wait_initial=0.0,
            wait_max=0.0,
            wait_jitter=0.0,
        )(fn)
