"""
tenacity: its decorator. It has no breaker and no timeout.
"""

from __future__ import annotations

import tenacity

from benchmarks.rivals import Adapter, Function, Settings

__all__ = ["ADAPTER"]


class ADAPTER(Adapter):
    on_trio = True

    def retry(self, fn: Function, settings: Settings) -> Function:
        return tenacity.retry(
            stop=tenacity.stop_after_attempt(settings.attempts),
            wait=tenacity.wait_none(),
            retry=tenacity.retry_if_exception_type(settings.on),
            reraise=True,
        )(fn)
