"""
httpx and httpx2 through a network that misbehaves: a `ChaosProxy` between the client and the real server.
"""

from __future__ import annotations

import pytest

from resilience import CircuitOpenError
from resilience.testing import ChaosProxy
from resilience.testing.proxy import Blackhole, Latency, Reset, Slice


async def test_a_network_that_resets_is_tried_again_and_opens(backend, lib, server):
    """
    Issue 5.9, 4.5: resets are failures: three attempts each, and then the host's circuit; the server saw none of them.
    """
    async with (
        ChaosProxy("127.0.0.1", server.port) as proxy,
        lib.client(minimum_calls=3, break_duration=60) as client,
    ):
        url = f"http://{proxy.host}:{proxy.port}/reset"
        with proxy.suffering(Reset()):
            with pytest.raises(lib.module.TransportError):
                await client.get(url)
            with pytest.raises(CircuitOpenError):
                await client.get(url)
    assert [] == server.asked("/reset")


async def test_a_network_that_swallows_is_cut_off(backend, lib, server):
    """
    Issue 5.9, 4.5: nothing comes back; the attempt's time ends it, as the client's error and as ours.
    """
    async with (
        ChaosProxy("127.0.0.1", server.port) as proxy,
        lib.client(attempts=1, attempt_timeout=0.3, minimum_calls=100) as client,
    ):
        with proxy.suffering(Blackhole()), pytest.raises(lib.module.TimeoutException) as caught:
            await client.get(f"http://{proxy.host}:{proxy.port}/swallowed")
        assert isinstance(caught.value, TimeoutError)
        proxy.reset()
        assert 200 == (await client.get(f"http://{proxy.host}:{proxy.port}/after")).status_code


async def test_a_network_that_is_slow_and_torn_is_no_failure(backend, lib, server):
    """
    Issue 5.9: late and in pieces, the answer is whole and counts as a success.
    """
    async with (
        ChaosProxy("127.0.0.1", server.port) as proxy,
        lib.client(attempts=1, minimum_calls=1) as client,
    ):
        with proxy.suffering(Latency(0.05), Slice(7)):
            for _ in range(3):
                response = await client.get(f"http://{proxy.host}:{proxy.port}/torn")
                assert 200 == response.status_code
    assert 3 == len(server.asked("/torn"))
