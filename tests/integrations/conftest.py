"""
Tests against real servers run in real time, on every backend; deadlines are short, what is waited for has long limits.
"""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Iterator
from typing import Any

import attrs
import httpx
import httpx2
import pytest

from resilience.clock import PROCESS_CLOCK
from resilience.integrations import httpx as for_httpx
from resilience.integrations import httpx2 as for_httpx2
from resilience.integrations.httpx import HttpOptions
from resilience.testing import run
from tests.integrations.server import Process, Server

_names = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}

    async def main() -> None:
        PROCESS_CLOCK.wall = time.time  # the servers' dates are of this world
        await pyfuncitem.obj(**arguments)

    run(main, backend=pyfuncitem.funcargs["backend"], real=True)
    return True


@attrs.frozen
class Library:
    """One of the two clients, with the transport for it."""

    module: Any
    guarded: Any

    def transport(self, inner: Any = None, /, **settings: Any) -> Any:
        """A guarded transport that opens at the third failure of three and waits as good as nothing."""
        options = {
            "attempts": 3,
            "backoff": 0.001,
            "minimum_calls": 3,
            "failure_ratio": 1.0,
            "attempt_timeout": 20,
            "total_timeout": 50,
            "window": 60,
        }
        ours = ("listeners", "max_hosts", "mode", "name", "pipeline", "registry")
        others = {key: settings.pop(key) for key in ours if key in settings}
        others.setdefault("name", f"test-{next(_names)}")
        return self.guarded(inner, options=HttpOptions(**(options | settings)), **others)

    def client(self, inner: Any = None, /, **settings: Any) -> Any:
        """A client with such a transport, which is ``client.guarded``."""
        transport = self.transport(inner, **settings)
        client = self.module.AsyncClient(transport=transport, timeout=30)
        client.guarded = transport
        return client


@pytest.fixture(params=["httpx", "httpx2"])
def lib(request) -> Library:
    return {
        "httpx": Library(httpx, for_httpx.GuardedTransport),
        "httpx2": Library(httpx2, for_httpx2.GuardedTransport),
    }[request.param]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def process() -> Iterator[Process]:
    with Process() as running:
        yield running
