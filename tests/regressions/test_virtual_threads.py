"""
Virtual time and real threads: closing the loop waits for its threads, and no timer may end that wait.
"""

import asyncio
import threading

from resilience.testing import VirtualEventLoop


def test_threads_of_the_virtual_loop_may_end_late(recwarn):
    """The runner gives threads 300 s to end; these pass in earnest, and no warning says that they were over."""
    goes_on = threading.Event()

    async def main():
        asyncio.get_running_loop().run_in_executor(None, goes_on.wait)

    timer = threading.Timer(0.3, goes_on.set)
    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        runner.run(main())
        timer.start()
    timer.join()

    assert goes_on.is_set()
    assert [] == [str(each.message) for each in recwarn]
