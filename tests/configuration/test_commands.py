"""
Issue 4.3 and 4.7: the commands, their output and their exit codes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
from jsonschema import Draft202012Validator

from resilience.__main__ import main

GOOD = """
[pipelines.catalogue]
preset = "production/high"
"""
WARNED = """
[[pipelines.catalogue.policies]]
type = "timeout"
seconds = 30000
"""
MODULE = """
import warnings
from resilience import CircuitBreaker, ConsecutiveFailures, Pipeline, Retry, Timeout, ConfigurationError
from resilience.config import load
from resilience.registry import Registry

registry = Registry()
guarded = Pipeline(Retry(3, on=OSError, retry_after=False), Timeout(2), name="reads")
live = registry.pipeline("writes", Timeout(5))
breaker = CircuitBreaker("explained alone", on=OSError, overdue_after=1)
doubtful = Pipeline(CircuitBreaker("explained", on=OSError, break_duration=1), Retry(on=OSError), Timeout(2))
endless = Retry(on=OSError)
config = load({"pipelines": {"catalogue": {"preset": "llm"}}}, environ={})
empty = Registry()

class holder:
    inner = guarded

@guarded.wrap
async def lookup(): ...
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.toml").write_text(GOOD)
    (tmp_path / "warned.toml").write_text(WARNED)
    (tmp_path / "bad.toml").write_text("[breakers.x]\non = 'shop'\n")
    (tmp_path / "guards_of_mine.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "names_of_mine.py").write_text("NAMES = {'shop': LookupError}\nOTHER = 5\n")
    (tmp_path / "broken_of_mine.py").write_text("1 / 0\n")
    yield tmp_path
    for module in ("guards_of_mine", "names_of_mine", "broken_of_mine"):
        sys.modules.pop(module, None)
    while str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["good.toml"], 0, "ok: nothing to say"),
        (["good.toml", "--strict"], 0, "ok: nothing to say"),
        (["warned.toml"], 0, "[unit-slip]"),
        (["warned.toml", "--strict"], 1, "not ok: no errors, 1 warning"),
        (["bad.toml"], 1, "bad.toml:2: error: breakers.x.on: "),
        (["bad.toml", "--errors", "names_of_mine:NAMES"], 0, "ok"),
        (["good.toml", "warned.toml"], 0, "unit-slip"),
        (["good.toml", "--expect", "search"], 1, "[missing]"),
        (["good.toml", "--environment", "staging"], 0, "[environment-mismatch]"),
    ],
    ids=str,
)
def test_check(place, capsys, arguments, code, says):
    """
    Issue 4.3: text for people, exit codes for CI.
    """
    assert code == main(["check", *arguments])
    shown = capsys.readouterr()
    assert says in shown.out
    assert "" == shown.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.toml"], "nowhere.toml: no such file"),
        (["good.toml", "--errors", "names_of_mine"], "write module:object"),
        (["good.toml", "--errors", "names_of_mine:OTHER"], "is a int, not a mapping"),
        (["good.toml", "--errors", "nowhere_of_mine:X"], "cannot be imported: ModuleNotFoundError"),
    ],
    ids=str,
)
def test_check_cannot_look(place, capsys, arguments, says):
    """
    Exit code 2, on the other channel, without a traceback.
    """
    assert 2 == main(["check", *arguments])
    shown = capsys.readouterr()
    assert says in shown.err
    assert "" == shown.out


def test_check_as_json_and_with_the_shells_variables(place, capsys, monkeypatch):
    """
    Issue 4.3: data for other tools; the variables only if they are asked for.
    """
    monkeypatch.setenv("RESILIENCE_CATALOG_MODE", "off")
    assert 0 == main(["check", "good.toml", "--format", "json"])
    assert {"ok": True, "strict": False, "errors": 0, "warnings": 0, "findings": []} == json.loads(
        capsys.readouterr().out
    )
    assert 1 == main(["check", "good.toml", "--environ"])
    assert "did you mean 'RESILIENCE_CATALOGUE_MODE'?" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:two live circuit breakers")
@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("guards_of_mine:guarded", "worst duration: 6.3 s"),
        ("guards_of_mine:holder.inner", "worst attempts: 3"),
        ("guards_of_mine:live", "worst duration: 5 s"),
        ("guards_of_mine:registry", "Pipeline(Timeout(5.0), name='writes')"),
        ("guards_of_mine:config", "worst attempts: 4"),
        ("guards_of_mine:breaker", "worst attempts: 1"),
        ("guards_of_mine:doubtful", "warning: circuit breaker 'explained' is open for 1 s"),
        ("guards_of_mine:endless", "worst duration: unbounded"),
        ("guards_of_mine:empty", "it holds no pipeline"),
    ],
)
def test_explain(place, capsys, named, says):
    """
    Issue 4.7: the worst a pipeline can do, and what the checks say of it; a module's own warnings are not repeated.
    """
    assert 0 == main(["explain", named])
    assert says in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:two live circuit breakers")
def test_explain_as_json(place, capsys):
    """
    Without a bound is null.
    """
    assert 0 == main(["explain", "guards_of_mine:endless", "--format", "json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert (3, None, "guards_of_mine:endless") == (
        found["attempts"],
        found["duration"],
        found["name"],
    )
    assert 0 == main(["explain", "guards_of_mine:doubtful", "--format", "json"])
    (found,) = json.loads(capsys.readouterr().out)
    assert {"break-below-attempt", "retry-inside-breaker"} == {
        each["code"] for each in found["findings"]
    }


@pytest.mark.filterwarnings("ignore:two live circuit breakers")
def test_explain_says_errors_by_its_code(place, capsys):
    """
    A window that is too short keeps a pipeline from being deployed.
    """
    (place / "guards_of_mine.py").write_text(
        "from resilience import *\n"
        "short = Pipeline(CircuitBreaker('short', on=OSError, trip=FailureRate(0.5, TimeWindow(3))), Timeout(2))\n"
    )
    assert 1 == main(["explain", "guards_of_mine:short"])
    assert "error: circuit breaker 'short' looks back 3 s" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:two live circuit breakers")
@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("guards_of_mine", "write module:object"),
        (":guarded", "write module:object"),
        ("nowhere_of_mine:x", "cannot be imported: ModuleNotFoundError"),
        ("broken_of_mine:x", "cannot be imported: ZeroDivisionError: division by zero"),
        ("guards_of_mine:nobody", "guards_of_mine has no nobody"),
        ("guards_of_mine:lookup", "name the pipeline that it was wrapped with"),
        ("guards_of_mine:holder", "but a class"),
        ("names_of_mine:OTHER", "but a int"),
    ],
)
def test_explain_cannot_look(place, capsys, named, says):
    """
    Exit code 2, a sentence, no traceback.
    """
    assert 2 == main(["explain", named])
    shown = capsys.readouterr()
    assert says in shown.err
    assert "" == shown.out


def test_schema(capsys):
    """
    What it prints is the schema.
    """
    assert 0 == main(["schema"])
    Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


def test_in_a_process_of_its_own(place):
    """
    As CI runs it.
    """
    command = [sys.executable, "-m", "resilience", "check", "bad.toml"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (1, "") == (ended.returncode, ended.stderr)
    assert "not ok: 1 error, no warnings" in ended.stdout
