"""
The front door loads what is asked of it, and what is not asked for costs nothing.

Held by counting what a fresh interpreter has loaded and compiled, which no other program on the machine can disturb.
"""

from __future__ import annotations

import ast
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import resilience

THREE = "from resilience import CircuitBreaker, Pipeline, Retry, Timeout"
BUILT = """
from resilience import CircuitBreaker, Pipeline, Retry, Timeout
Pipeline(Timeout(9), Retry(3, on=OSError), CircuitBreaker("db", on=OSError), Timeout(1))
"""
# What an application may never need, and is expensive. Nobody loads an event loop for us before there is a call.
HEAVY = {
    "anyio._backends", "dataclasses", "email", "http", "importlib.metadata", "json", "pydantic", "rich",
    "statistics", "tenacity", "trio", "urllib", "uuid", "uvloop",
}  # fmt: skip
REPORT = """
import builtins, json, sys
import anyio, attrs, typing
before = set(sys.modules)
compiled = []
compiles = builtins.compile
def counting(*args, **kwargs):
    compiled.append(args[1])
    return compiles(*args, **kwargs)
builtins.compile = counting
{code}
print(json.dumps([sorted(set(sys.modules) - before), compiled]))
"""


def loaded_by(code: str) -> tuple[list[str], list[str]]:
    """
    What a fresh interpreter that has anyio and attrs loads, and what it compiles besides modules: attrs' methods.
    """
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(code=code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    modules, compiled = json.loads(done.stdout)
    return modules, [name for name in compiled if name.startswith("<attrs")]


def test_importing_the_package_loads_its_front_door_only() -> None:
    """
    ``import resilience`` alone is one module, and not a class is made.
    """
    assert (["resilience"], []) == loaded_by("import resilience")


@pytest.mark.parametrize("code", [THREE, BUILT], ids=["imported", "built"])
def test_the_usual_three_load_nothing_heavy(code: str) -> None:
    """
    Law 28, and more: tenacity, trio and the rest are not loaded before somebody uses them.
    """
    modules, _ = loaded_by(code)
    parts = {
        ".".join(name.split(".")[: n + 1]) for name in modules for n in range(name.count(".") + 1)
    }
    assert set() == parts & HEAVY


@pytest.mark.parametrize("code", [THREE, BUILT], ids=["imported", "built"])
def test_the_usual_three_load_no_other_policy(code: str) -> None:
    """
    A pipeline is checked for what it holds; what it does not hold need not be loaded for that.
    """
    modules, compiled = loaded_by(code)
    others = "bulkhead chaos concurrency_limit fallback hedge last_good rate_limit single_flight throttle"
    assert [] == [name for name in others.split() if f"resilience.policies.{name}" in modules]
    assert 45 >= len([name for name in modules if name.startswith("resilience")])
    # Each class is about a millisecond; older versions of attrs compile its methods one by one.
    assert 14 >= len({name.split()[-1] for name in compiled}), compiled


def test_each_name_can_be_the_first_to_be_imported() -> None:
    """
    No module waits for another one to have been loaded by chance.
    """
    code = """
import sys
from resilience import __all__ as names
for name in names:
    for module in [each for each in sys.modules if each.split(".")[0] == "resilience"]:
        del sys.modules[module]
    scope = {}
    exec(f"from resilience import {name}", scope)
    assert name in scope, name
scope = {}
exec("from resilience import *", scope)
assert set(names) <= set(scope)
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_checkers_and_interpreters_are_told_the_same() -> None:
    """
    The imports that type checkers read and the table that answers name the same things in the same places.
    """
    (block,) = [
        node
        for node in ast.parse(Path(resilience.__file__).read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name)
    ]
    read = {
        each.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for each in node.names
    }
    homes: dict[str, str] = vars(resilience)["_HOMES"]
    assert read == {name: f"resilience.{home}" for name, home in homes.items()}
    assert resilience.__all__ == sorted(read)


def test_dir_names_what_can_be_asked_for() -> None:
    """
    Completion in a shell offers each name before it was asked for.
    """
    code = "import resilience; print(set(resilience.__all__) <= set(dir(resilience)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "True" == done.stdout.strip()


def test_a_misspelt_name_is_no_attribute() -> None:
    """
    As of any module: an AttributeError with the name, an ImportError on import.
    """
    with pytest.raises(AttributeError, match="module 'resilience' has no attribute 'Pipelines'"):
        getattr(resilience, "Pipelines")  # noqa: B009 - a checker would object to the attribute
    with pytest.raises(ImportError, match="Pipelines"):
        from resilience import Pipelines  # type: ignore[attr-defined]  # noqa: F401, PLC0415 - what is refused
    assert not hasattr(resilience, "__path_hooks__")


def test_its_modules_are_attributes() -> None:
    """
    ``resilience.errors.RejectedError`` needs no further import.
    """
    code = "import resilience; print(resilience.errors.RejectedError is resilience.RejectedError, resilience.events)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("True")


@pytest.mark.parametrize("name", resilience.__all__)
def test_a_name_is_the_same_object_each_time(name: str) -> None:
    """
    A class is found where its pickle says it is.
    """
    found: Any = getattr(resilience, name)
    assert found is getattr(resilience, name)
    if isinstance(found, type):
        assert found is pickle.loads(pickle.dumps(found))  # noqa: S301 - our own
