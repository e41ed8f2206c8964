"""
Ten kinds of call site of the platform, unchanged, on the shim; and back on the old behaviour by one setting.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from resilience.compat import unified
from resilience.testing import Script

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:two live circuit breakers"
)


@attrs.frozen
class Site:
    """How a site is used: made with a callee, and asked; what it answers once its circuit is open."""

    module: str
    name: str
    method: str | None
    arguments: tuple[Any, ...]
    failures: int
    refused: Any
    before: tuple[Any, ...] = ()


SITES = {
    "redis": Site("by_hand", "Redis", "get", ("key",), 5, None),
    "pool": Site("by_hand", "Pool", "get", ("key",), 5, None),
    "message queue": Site("by_hand", "MessageQueue", "process", ("m",), 3, "queued", ("c1",)),
    "mcp server": Site("by_hand", "Server", "connect", (), 3, ConnectionError),
    "clickhouse": Site("by_call", "ClickHouse", "query", ("SELECT 1",), 5, "cached"),
    "network": Site("by_call", "Network", "handshake", (), 3, "CircuitBreakerOpenError"),
    "auth": Site("by_call", "Auth", "validate", ("token",), 3, "degraded"),
    "llm": Site("by_call", "LLM", "ask", ("hello",), 5, "please wait"),
    "endpoint": Site("by_decorator", "endpoint", None, ("request",), 5, "CircuitBreakerOpenError"),
    "agent": Site("by_agent", "Agent", "run", ("task",), 5, "unavailable"),
}


@pytest.fixture(params=["resilience", "old"])
def breakers(request, monkeypatch) -> Iterator[str]:
    """The platform, freshly imported on one side of the switch."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "platform"))
    monkeypatch.setenv("APP_BREAKERS", request.param)
    yield request.param
    for name in [each for each in sys.modules if each.partition(".")[0] == "app"]:
        del sys.modules[name]
    unified.get_unified_circuit_breaker_manager().cleanup_all()


def _made(site: Site, callee: Any) -> Callable[..., Awaitable[Any]]:
    module = importlib.import_module(f"app.sites.{site.module}")
    made = getattr(module, site.name)(*site.before, callee)
    return made if site.method is None else getattr(made, site.method)


@pytest.mark.parametrize("which", SITES)
async def test_a_call_site_runs_unchanged(backend, breakers, which):
    """
    Section 3: it answers when all is well, fails as often as its threshold says, and then calls nobody.
    """
    site = SITES[which]
    script = Script("ok", OSError)

    async def callee(*args: Any) -> Any:
        return await script(*args)

    ask = _made(site, callee)
    first = await ask(*site.arguments)
    assert ("processed" if which == "message queue" else "ok") == first
    for _ in range(site.failures):
        with contextlib.suppress(OSError):
            await ask(*site.arguments)
    called = script.calls
    if site.refused is ConnectionError:
        with pytest.raises(ConnectionError, match="circuit breaker open"):
            await ask(*site.arguments)
    elif site.refused == "CircuitBreakerOpenError":
        names = importlib.import_module("app.core.circuit_breaker")
        with pytest.raises(names.CircuitBreakerOpenError):
            await ask(*site.arguments)
    else:
        assert site.refused == await ask(*site.arguments)
    assert called == script.calls


async def test_the_pool_is_reset(backend, breakers):
    """
    Section 3: the operators' reset, async or not.
    """
    module = importlib.import_module("app.sites.by_hand")
    pool = module.Pool(Script(*[OSError] * 5, "ok"))
    for _ in range(5):
        with contextlib.suppress(OSError):
            await pool.get("key")
    assert "closed" == (await pool.reset_circuit_breaker())["state"]
    assert "ok" == await pool.get("key")


def test_a_connections_breaker_goes_with_it(breakers):
    """
    Section 3: breakers of connections stayed for ever; here their names can be removed.
    """
    module = importlib.import_module("app.sites.by_hand")
    if breakers == "old":
        assert not hasattr(module.get_unified_circuit_breaker_manager(), "remove")
        return
    module.MessageQueue("c7", Script(1))
    manager = unified.get_unified_circuit_breaker_manager()
    assert "processing_c7" in manager.names()
    assert manager.remove("processing_c7")
    assert "processing_c7" not in manager.names()
