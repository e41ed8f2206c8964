"""
Testing as a feature: virtual time, scripts, recorders and switches, for this package's own tests and for yours.

    from resilience.testing import Script, run

    def test_a_third_attempt_succeeds():
        async def main():
            script = Script(OSError, OSError, 42)
            assert await Retry(attempts=3, on=OSError)(script) == 42
            assert script.calls == 3

        run(main)                      # asyncio, in virtual time: waits of hours take milliseconds
        run(main, backend="trio")
"""

from resilience.testing.proxy import Blackhole, ChaosProxy, Latency, Reset, Slice
from resilience.testing.scripts import Calls, Hang, Recorder, Script, Wait
from resilience.testing.switches import disabled, engine, forced, instant
from resilience.testing.time import BACKENDS, ManualClock, VirtualEventLoop, follow, run

__all__ = [
    "BACKENDS",
    "Blackhole",
    "Calls",
    "ChaosProxy",
    "Hang",
    "Latency",
    "ManualClock",
    "Recorder",
    "Reset",
    "Script",
    "Slice",
    "VirtualEventLoop",
    "Wait",
    "disabled",
    "engine",
    "follow",
    "forced",
    "instant",
    "run",
]
