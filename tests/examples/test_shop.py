"""
The shop of examples/, as real processes: its catalogue is killed, hung and brought back.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 60.0  # seconds, for whatever a busy machine may take


class Process:
    """One of the two, started anew on the same port as often as wanted."""

    def __init__(self, *command: str, port: int = 0, **environment: str) -> None:
        self._command = command
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        self.port = port

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, *(part.format(port=self.port) for part in self._command)],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = []
        for line in self.process.stdout:
            said.append(line)
            if found := re.search(r"^(\d+)$|running on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1] or found[2])
                break
        else:
            raise AssertionError("".join(said))
        self._drain = threading.Thread(target=self.process.stdout.read, daemon=True)
        self._drain.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)
        self._drain.join(LIMIT)
        self.process.stdout.close()

    def send(self, what: signal.Signals) -> None:
        self.process.send_signal(what)


class Shop:
    """What its callers and its operators see."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def ask(self) -> httpx.Response:
        return self.client.get("/items/7")

    def until(self, status: int) -> tuple[httpx.Response, set[int]]:
        """Ask until that status comes; what came before."""
        before: set[int] = set()
        ends = time.monotonic() + LIMIT
        while time.monotonic() < ends:
            response = self.ask()
            if response.status_code == status:
                return response, before
            before.add(response.status_code)
            time.sleep(0.05)
        raise AssertionError(f"no {status} but {before} in {LIMIT} s")

    def circuit(self) -> dict:
        (circuit,) = self.client.get("/operations/circuit-breakers").json()["circuit_breakers"]
        return circuit


@pytest.fixture
def catalogue() -> Iterator[Process]:
    with Process("examples/catalogue.py", "{port}") as running:
        yield running


@pytest.fixture
def shop_at(catalogue) -> Iterator:
    with ExitStack() as stack:

        def start(**environment: str) -> Shop:
            url = f"http://127.0.0.1:{catalogue.port}"
            command = ("-m", "uvicorn", "--app-dir", "examples", "shop:app", "--port", "{port}")
            shop = stack.enter_context(Process(*command, CATALOGUE_URL=url, **environment))
            base = f"http://127.0.0.1:{shop.port}"
            return Shop(stack.enter_context(httpx.Client(base_url=base, timeout=LIMIT)))

        yield start


def test_a_catalogue_that_is_killed_and_comes_back(catalogue, shop_at):
    """Issue 4: 503 with Retry-After while it is gone, the circuit on the page, 200 when it is back."""
    shop = shop_at()
    assert {"sku": "7", "cents": 7} == shop.ask().json()
    assert 404 == shop.client.get("/items/none").status_code

    catalogue.kill()
    refused, before = shop.until(503)
    assert before <= {502}
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert "circuit_open" == refused.json()["error"]
    circuit = shop.circuit()
    assert f"catalogue[127.0.0.1:{catalogue.port}]" == circuit["name"]
    assert circuit["state"] in {"open", "half_open"}
    assert "ConnectError" == circuit["last_failure"]
    page = shop.client.get("/operations/")
    assert page.headers["content-type"].startswith("text/html")
    assert circuit["name"] in shop.client.get("/operations/snapshot").text  # what the page shows

    with catalogue:
        answer, _ = shop.until(200)
        assert 7 == answer.json()["cents"]
        assert "closed" == shop.circuit()["state"]


def test_a_catalogue_that_hangs(catalogue, shop_at):
    """Issue 4: it holds its port and answers nothing; callers get 504 in time, then 503 at once."""
    shop = shop_at()
    assert 200 == shop.ask().status_code

    catalogue.send(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        assert 504 == shop.ask().status_code
        assert time.monotonic() - begun < LIMIT / 2
        refused, before = shop.until(503)
        assert before <= {504}
        assert "retry-after" in refused.headers
        assert "TimeoutExceededError" == shop.circuit()["last_failure"]
    finally:
        catalogue.send(signal.SIGCONT)

    shop.until(200)


def test_a_shop_that_only_observes(catalogue, shop_at):
    """Issue 4: one variable and no code; the circuit counts and turns nobody away."""
    shop = shop_at(RESILIENCE_CATALOGUE_MODE="observe")
    assert 200 == shop.ask().status_code

    catalogue.kill()
    assert {502} == {shop.ask().status_code for _ in range(20)}
    circuit = shop.circuit()
    assert ("observing", 20) == (circuit["state"], circuit["failures"])

    with catalogue:
        assert 200 == shop.ask().status_code
