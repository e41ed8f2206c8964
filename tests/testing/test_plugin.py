"""
The pytest plugin, in a pytest of its own: a process, a test file and nothing of this suite's configuration.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from resilience.testing import plugin

ROOT = Path(plugin.__file__).parents[2]

_TESTS = """
import asyncio
import time

from resilience import CircuitBreaker, ConsecutiveFailures, Pipeline, Retry, Timeout
from resilience.clock import PROCESS_CLOCK
from resilience.modes import MODES
from resilience.testing import ManualClock, Recorder, Script, VirtualEventLoop, run


def opened():
    breaker = CircuitBreaker("inner", on=OSError, trip=ConsecutiveFailures(1))
    breaker.admit().failure(OSError())
    return breaker


def test_manual_clock(manual_clock):
    assert isinstance(manual_clock, ManualClock)
    breaker = opened()
    assert 30.0 == breaker.retry_after
    manual_clock.advance(29)
    assert 1.0 == breaker.retry_after


def test_manual_clock_is_another_one_for_each_test(manual_clock):
    assert 1000.0 == manual_clock.now()


def test_virtual_time(virtual_time):
    async def main():
        breaker = opened()
        await asyncio.sleep(30)
        breaker.admit().success()
        return breaker.state.name

    with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
        assert "CLOSED" == runner.run(main())


def test_recorder(recorder):
    assert isinstance(recorder, Recorder)
    assert [] == recorder.events
    asyncio.run(Pipeline(listeners=[recorder])(Script(1)))
    assert ["CallFinished"] == recorder.kinds


def test_recorder_is_another_one_for_each_test(recorder):
    assert [] == recorder.events


def test_instant_retries(instant_retries):
    script = Script(OSError, OSError, 3)
    began = time.monotonic()
    assert 3 == asyncio.run(Retry(attempts=3, on=OSError, wait=lambda _: 30.0)(script))
    assert time.monotonic() - began < 25


def test_no_policies(no_policies):
    script = Script(OSError)
    try:
        asyncio.run(Retry(attempts=3, on=OSError, wait=lambda _: 0.0)(script))
    except OSError:
        assert 1 == script.calls
    else:
        raise AssertionError("the error was kept")


def test_nothing_is_left_behind():
    assert PROCESS_CLOCK.now is time.monotonic
    assert PROCESS_CLOCK.wall is time.time
    assert 0 == MODES.in_use
    script = Script(OSError)
    try:
        asyncio.run(Retry(attempts=3, on=OSError, wait=lambda _: 0.0)(script))
    except OSError:
        assert 3 == script.calls
"""


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest there, with our plugin and no other."""
    # Installed, the package registers its plugin by itself, and the same one twice is an error.
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": str(ROOT),
        "PYTEST_ADDOPTS": "",
    }
    # Wherever the folder is, the suite's own pyproject.toml may be above it.
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-W", "error", "-m", "pytest", "-p", plugin.__name__]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_fixtures_do_what_they_say_and_leave_nothing_behind(tmp_path: Path) -> None:
    """
    Each fixture holds for its test only: the clock, virtual time, the recorder, instant retries, no policies.
    """
    (tmp_path / "test_inner.py").write_text(_TESTS)
    done = pytest_in(tmp_path, "-q")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert _TESTS.count("\ndef test_") == int(re.findall(r"(\d+) passed", done.stdout)[-1])


def test_without_the_fixtures_the_same_tests_fail(tmp_path: Path) -> None:
    """
    The tests inside can fail: with fixtures that do nothing, those that depend on one do.
    """
    empty = "import pytest\n" + "".join(
        f"@pytest.fixture\ndef {name}(): return None\n" for name in plugin.__all__
    )
    (tmp_path / "conftest.py").write_text(empty)
    (tmp_path / "test_inner.py").write_text(_TESTS.replace("30.0)(script)", "0.0)(script)"))
    done = pytest_in(tmp_path, "-q")
    assert 1 == done.returncode
    failed = set(re.findall(r"FAILED test_inner\.py::(\w+)", done.stdout))
    assert {"test_manual_clock", "test_virtual_time", "test_recorder", "test_no_policies"} <= failed
    assert "test_nothing_is_left_behind" not in failed


def test_each_fixture_is_listed_with_its_purpose(tmp_path: Path) -> None:
    """
    ``pytest --fixtures`` shows each fixture of the plugin with a sentence.
    """
    done = pytest_in(tmp_path, "--fixtures")
    for name in plugin.__all__:
        assert re.search(rf"^{name} -- .*\n +\S+", done.stdout, re.MULTILINE), name
    assert "no docstring available" not in done.stdout.partition("resilience.testing")[2]


def test_the_entry_point_names_the_plugin() -> None:
    """
    An installed package brings the fixtures by itself: pytest finds the plugin under its entry point.
    """
    file = ROOT / "pyproject.toml"
    if not file.exists():
        pytest.skip("an installed package has no pyproject.toml beside it")
    points = tomllib.loads(file.read_text())["project"]["entry-points"]["pytest11"]
    assert {"resilience": plugin.__name__} == points
