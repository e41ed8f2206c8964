"""
stamina: its decorator, with its default instrumentation. It has no breaker, and its timeout bounds no attempt.
"""

from __future__ import annotations

import stamina

from benchmarks.rivals import Adapter, Function, Settings

__all__ = ["ADAPTER"]


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
