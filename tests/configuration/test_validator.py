"""
Issue 4.3: every rule of the validator, from both sides: what is wrong is found, what is right is not.
"""

from __future__ import annotations

import json
import pickle

import pytest

from resilience import ConfigurationError
from resilience.config import InfrastructureConfigValidator, InvalidConfigError, Mistake, Report
from resilience.config.presets import BREAKER_PRESETS, PIPELINE_PRESETS
from tests.configuration.kit import breaker, of, piped, usual


def found(data, **options):
    """Codes of the findings, with their severity."""
    report = InfrastructureConfigValidator(data, **options).validate()
    return {(each.severity, each.code) for each in report.findings}


def guarded(trip=None, attempt="2s", retry=None, inside=(), **options):
    """A breaker between a retry and an attempt timeout."""
    steps = [of("retry", on="network", **retry)] if retry is not None else []
    gate = of("circuit_breaker", on="network", **({"trip": trip} if trip else {}), **options)
    return piped(*steps, gate, *inside, of("timeout", seconds=attempt))


ROW = {"type": "consecutive_failures"}
RATE = {"type": "failure_rate"}
SLOW = {"type": "slow_rate", "ratio": 0.5}
TOTAL = of("timeout", seconds=10, name="total")
FIXED = {"type": "fixed", "seconds": 5}

BOTH_SIDES = [
    ("error", "attempt-timeout", piped(TOTAL, of("timeout", seconds=10)), piped(TOTAL, of("timeout", seconds=9))),
    (
        "warning", "retries-do-not-fit",
        piped(TOTAL, of("retry", on="OSError", attempts=3, wait=FIXED), of("timeout", seconds=2)),
        piped(TOTAL, of("retry", on="OSError", attempts=2, wait=FIXED), of("timeout", seconds=2)),
    ),
    ("error", "probe-lease", guarded(probe_lease="1s"), guarded(probe_lease="2s")),
    (
        "error", "cannot-close",
        guarded(probe_lease="4s", inside=[of("retry", on="OSError", wait=FIXED)]),
        guarded(probe_lease="20s", inside=[of("retry", on="OSError", wait=FIXED)]),
    ),
    ("warning", "slow-to-close", guarded(successes_to_close=11), guarded(successes_to_close=10)),
    ("warning", "break-below-attempt", guarded(break_duration=1), guarded(break_duration=2)),
    (
        "warning", "retry-inside-breaker",
        guarded(inside=[of("retry", on="OSError")]), guarded(retry={}),
    ),
    ("warning", "threshold-below-attempts", guarded(ROW | {"n": 2}, retry={}), guarded(ROW | {"n": 3}, retry={})),
    (
        "warning", "threshold-below-attempts",
        guarded(RATE | {"minimum_calls": 4}, retry={"attempts": 5}),
        guarded(RATE | {"minimum_calls": 5}, retry={"attempts": 5}),
    ),
    ("error", "window-too-short", guarded(RATE | {"window": "3s"}), guarded(RATE | {"window": "4s"})),
    (
        "error", "window-too-short",
        guarded(SLOW | {"slower_than": 1, "window": "3s"}),
        guarded(SLOW | {"slower_than": 1, "window": {"type": "count", "calls": 20}}),
    ),
    ("warning", "never-slow", guarded(SLOW | {"slower_than": 3}), guarded(SLOW | {"slower_than": 2})),
    ("error", "invalid", piped(of("timeout", seconds=0)), piped(of("timeout", seconds=1))),
    ("warning", "unit-slip", piped(of("timeout", seconds=30000)), piped(of("timeout", seconds="30m"))),
    ("warning", "unit-slip", piped(of("timeout", seconds=0.0005)), piped(of("timeout", seconds=0.001))),
    (
        "warning", "unit-slip",
        {"breakers": {"b": breaker(break_duration=5000)}}, {"breakers": {"b": breaker(break_duration="2h")}},
    ),
    ("warning", "huge-timeout", piped(of("timeout", seconds="61m")), piped(of("timeout", seconds="1h"))),
    (
        "warning", "nested-retries",
        piped(of("retry", on="OSError"), of("retry", on="OSError")), piped(of("retry", on="OSError")),
    ),
    (
        "warning", "breaker-without-timeout",
        piped(of("circuit_breaker", on="OSError")),
        piped(of("circuit_breaker", on="OSError"), of("timeout", seconds=1)),
    ),
    ("warning", "missing", {}, usual()),
    (
        "warning", "unused",
        {"policies": {"b": of("bulkhead", limit=1)}, **usual()},
        {"policies": {"b": of("bulkhead", limit=1)}, **piped({"use": "b"})},
    ),
    (
        "warning", "contradiction",
        piped(of("timeout", seconds=1, mode="enforce"), mode="off"),
        piped(of("timeout", seconds=1, mode="enforce"), mode="observe"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("severity", "code", "wrong", "right"),
    BOTH_SIDES,
    ids=[f"{code}-{number}" for number, (_, code, _, _) in enumerate(BOTH_SIDES)],
)
def test_a_rule_from_both_sides(severity, code, wrong, right):
    """
    Issue 4.3: what the rule is about is found, and what is next to it is not.
    """
    assert (severity, code) in found(wrong)
    assert (severity, code) not in found(right)


def calling(*pairs: tuple[str, list[str], int]) -> dict:
    """Pipelines that call one another: name, calls, attempts."""
    return {
        "pipelines": {
            name: {
                "policies": [
                    of("retry", on="OSError", attempts=attempts),
                    of("timeout", seconds=1),
                ],
                "calls": calls,
            }
            for name, calls, attempts in pairs
        }
    }


def test_retries_across_pipelines_multiply():
    """
    Issue 4.3: along what `calls` says, however far; a pipeline without further attempts between them does not help.
    """
    wrong = calling(("shop", ["stock"], 3), ("stock", ["db"], 1), ("db", [], 3))
    report = InfrastructureConfigValidator(wrong).validate()
    (finding,) = [each for each in report.findings if each.code == "nested-retries-across"]
    assert "3 x 1 x 3 = 9 attempts" in finding.text
    assert "pipelines.shop.calls" == finding.path
    right = calling(("shop", ["stock"], 1), ("stock", ["db"], 1), ("db", [], 3))
    assert ("warning", "nested-retries-across") not in found(right)


def test_pipelines_that_call_one_another_in_a_circle():
    """
    Issue 4.3: said once, and not for ever.
    """
    report = InfrastructureConfigValidator(calling(("a", ["b"], 1), ("b", ["a"], 1))).validate()
    assert 1 == [each.code for each in report.errors].count("circular-calls")


def test_environments():
    """
    Issue 4.3: the file's, the one it runs in, by argument or by variable, and the presets'.
    """
    mismatch = ("error", "environment-mismatch")
    data = {"environment": "production", **usual()}
    assert mismatch in found(data, environment="staging")
    assert mismatch in found(data, environ={"RESILIENCE_ENVIRONMENT": "staging"})
    assert mismatch not in found(data, environ={"RESILIENCE_ENVIRONMENT": "production"})
    assert mismatch not in found(data)
    warning = ("warning", "environment-mismatch")
    preset = {"environment": "production", "pipelines": {"a": {"preset": "staging/medium"}}}
    assert warning in found(preset)
    assert warning not in found(preset | {"environment": "staging"})
    assert warning not in found({"environment": "staging", "pipelines": {"a": {"preset": "llm"}}})


def test_what_the_program_will_ask_for():
    """
    Issue 4.3: missing settings at start-up, by name.
    """
    missing = ("error", "missing")
    assert missing in found(usual(), expected=["catalogue", "search"])
    assert missing not in found(usual(), expected=["catalogue"])


def test_two_variables_that_contradict_each_other():
    """
    Issue 4.3: contradicting settings at start-up.
    """
    contradiction = ("error", "contradiction")
    data = {"breakers": {"db": breaker()}}
    environ = {"RESILIENCE_DB_MODE": "off", "RESILIENCE__BREAKERS__DB__MODE": "observe"}
    assert contradiction in found(data, environ=environ)
    environ["RESILIENCE_DB_MODE"] = "observe"
    assert contradiction not in found(data, environ=environ)


@pytest.mark.parametrize("name", PIPELINE_PRESETS)
def test_presets_of_pipelines_have_no_findings(name):
    """
    Issue 4.2: what we recommend is what we would not warn of; Microsoft's two are accepted by name.
    """
    assert set() == found({"pipelines": {"catalogue": {"preset": name}}})


@pytest.mark.parametrize("name", BREAKER_PRESETS)
def test_presets_of_breakers_have_no_findings(name):
    """
    Issue 4.2: and can close.
    """
    data = {"breakers": {"b": {"preset": name}}, **piped({"use": "b"}, of("timeout", seconds="5s"))}
    assert set() == found(data)


def test_a_report_as_text_as_data_and_as_an_exit_code(tmp_path):
    """
    Issue 4.3: severity and remedy as data, text and JSON; strict mode makes errors of warnings.
    """
    file = tmp_path / "r.toml"
    file.write_text(
        "[[pipelines.a.policies]]\ntype = 'timeout'\nseconds = 30000\n"
        "[pipelines.b]\npreset = 'llm'\npolicies.attempt = { seconds = '400s' }\n"
    )
    report = InfrastructureConfigValidator(file).validate()

    assert (False, 1) == (report.ok, report.exit_code)
    assert ["attempt-timeout", "break-below-attempt", "unit-slip", "retries-do-not-fit"][
        0
    ] == report.errors[0].code
    assert (4, str(file), "pipelines.b") == (
        report.errors[0].line, report.errors[0].source, report.errors[0].path,
    )  # fmt: skip
    (slip,) = [each for each in report.warnings if each.code == "unit-slip"]
    assert (3, "pipelines.a.policies[0].seconds") == (slip.line, slip.path)
    assert "30 if it is" in slip.remedy
    assert "8h20m" in slip.text
    text = str(report)
    assert f"{file}:3: warning: pipelines.a.policies[0].seconds: 30000 is 8h20m" in text
    assert text.endswith(("warnings", "warning"))
    data = json.loads(report.as_json())
    assert (False, len(report.findings)) == (data["ok"], len(data["findings"]))
    assert {"severity", "code", "text", "remedy", "path", "source", "line"} == set(
        data["findings"][0]
    )
    with pytest.raises(ConfigurationError, match="can never fire"):
        report.raise_if_not_ok()


def test_strict_mode():
    """
    Issue 4.3: a warning is enough to say no.
    """
    data = piped(of("timeout", seconds=30000))
    report = InfrastructureConfigValidator(data).validate()
    assert (True, 0, 1) == (report.ok, report.exit_code, len(report.warnings))
    report.raise_if_not_ok()
    strict = InfrastructureConfigValidator(data, strict=True).validate()
    assert (False, 1) == (strict.ok, strict.exit_code)
    assert str(strict).endswith("not ok: no errors, 1 warning")
    with pytest.raises(ConfigurationError, match="unit-slip"):
        strict.raise_if_not_ok()
    clean = InfrastructureConfigValidator(usual(), strict=True).validate()
    assert "ok: nothing to say" == str(clean)
    assert Report(()) == InfrastructureConfigValidator(usual()).validate()


def test_accepted_findings_are_left_out():
    """
    By code, for one pipeline.
    """
    data = guarded(break_duration=1)
    data["pipelines"]["catalogue"]["accept"] = ["break-below-attempt"]
    assert set() == found(data)


def test_errors_survive_pickle():
    """
    Law 37: with their mistakes.
    """
    error = InvalidConfigError([Mistake("a", "b", "c", "d", 3)])
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert error.mistakes == again.mistakes
    assert str(error) == str(again)
    assert "" == InvalidConfigError().field
