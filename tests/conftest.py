"""
Every test that is an ``async def`` runs on every backend, in virtual time where the backend has it.

With ``--engine linked`` what is wrapped runs on the linked engine; the default is the express lane where there is one.
With ``--backends asyncio,trio`` only these are run; the default is all.
A cell that cannot run is skipped with its reason; a skip without one fails the run (`pytest_runtest_makereport`).
"""

from __future__ import annotations

import argparse
import functools
import gc
import inspect
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from resilience import events
from resilience.modes import MODES
from resilience.testing import BACKENDS, ManualClock, run
from tests.punctual import watch_the_clock

_ENGINE = pytest.StashKey[Any]()
_NO_EAGER = "eager tasks came with Python 3.12"


def _cells(chosen: tuple[str, ...]) -> list[Any]:
    old = sys.version_info < (3, 12)
    return [
        pytest.param(
            backend,
            marks=[pytest.mark.skip(reason=_NO_EAGER)]
            if old and backend == "asyncio+eager"
            else [],
        )
        for backend in BACKENDS
        if backend in chosen
    ]


def _backends(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := set(chosen).difference(BACKENDS):
        raise argparse.ArgumentTypeError(f"{sorted(unknown)}; there are {', '.join(BACKENDS)}")
    return chosen


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=("express", "linked"),
        default="express",
        help="what is wrapped in the tests runs on it",
    )
    parser.addoption(
        "--backends",
        type=_backends,
        default=BACKENDS,
        help=f"tests run on these: {','.join(BACKENDS)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ENGINE] = MODES.engine.set(config.getoption("engine"))


def pytest_unconfigure(config: pytest.Config) -> None:
    MODES.engine.reset(config.stash[_ENGINE])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", _cells(metafunc.config.getoption("backends")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            assert "backend" in item.fixturenames, (
                f"{item.nodeid}: async without the backend fixture"
            )
    watch_the_clock(items)


def pytest_collection_finish() -> None:
    # Ten thousand tests are a heap that every `gc.collect()` would walk: a third of a second, each time.
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    # Hypothesis, if imported only now to report, asks who refers to trio's generator; what is frozen is not found.
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    run(functools.partial(pyfuncitem.obj, **arguments), backend=pyfuncitem.funcargs["backend"])
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[Any]:
    report = yield
    if report.skipped and not (
        isinstance(report.longrepr, tuple) and len(report.longrepr[2]) > len("Skipped: ")
    ):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped without a reason"
    return report


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """What one test silences, or has logged once already, is no other test's."""
    logger = logging.getLogger("resilience")
    before = logger.disabled, logger.level, logger.propagate, logger.handlers[:]
    events._reported.clear()
    yield
    logger.disabled, logger.level, logger.propagate, logger.handlers[:] = before


@pytest.fixture
def unit(backend: str) -> float:
    """One second of a test's story: virtual where time can jump, 20 real milliseconds on uvloop."""
    return 0.02 if backend == "uvloop" else 1.0


@pytest.fixture
def clock() -> ManualClock:
    """A clock for ``clock=`` that moves when the test says so."""
    return ManualClock()
