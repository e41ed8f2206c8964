"""
The commands ``check``, ``explain`` and ``schema`` of ``python -m resilience``.

Exit codes: 0 it may be deployed, 1 it must not, 2 it could not be looked at.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from resilience.checks import Explanation
from resilience.config.config import Config
from resilience.config.rules import advice_of
from resilience.config.schema import json_schema
from resilience.config.validator import InfrastructureConfigValidator
from resilience.doors import Policy
from resilience.errors import PipelineWarning
from resilience.pipeline import Pipeline, flat
from resilience.registry.live import LivePipeline
from resilience.registry.registry import Registry

__all__ = ["configure_check", "configure_explain", "configure_schema"]


class _NotFoundError(Exception):
    """What was named on the command line cannot be had; the text says why."""


def configure_check(parser: argparse.ArgumentParser) -> None:
    """Options of ``check``."""
    parser.description = (
        "Say what is wrong, and what is likely wrong, with a configuration. "
        "Exit codes: 0 it may be deployed, 1 it must not, 2 it could not be looked at."
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="TOML files, a later one over an earlier one"
    )
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.add_argument(
        "--environment", metavar="NAME", help="where it is to run, such as production"
    )
    parser.add_argument(
        "--environ",
        action="store_true",
        help="lay the variables RESILIENCE_... of this shell over it",
    )
    parser.add_argument("--expect", action="append", default=[], metavar="NAME",
                        help="a pipeline or policy that the program will ask for; may be repeated")  # fmt: skip
    parser.add_argument("--errors", metavar="MODULE:NAME",
                        help="a mapping of exception classes that files may name; the module is imported")  # fmt: skip
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    try:
        errors = _errors(arguments.errors)
    except _NotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    missing = [each for each in arguments.files if not os.path.isfile(each)]  # noqa: PTH113 - a path as it was typed
    for each in missing:
        print(f"{each}: no such file", file=sys.stderr)
    if missing:
        return 2
    report = InfrastructureConfigValidator(
        *arguments.files,
        environ=os.environ if arguments.environ else None,
        errors=errors,
        environment=arguments.environment,
        expected=arguments.expect,
        strict=arguments.strict,
    ).validate()
    print(report.as_json() if arguments.format == "json" else report)
    return report.exit_code


def _errors(named: str | None) -> Mapping[str, Any]:
    if named is None:
        return {}
    found = _object(named)
    if not isinstance(found, Mapping):
        raise _NotFoundError(
            f"{named} is a {type(found).__name__}, not a mapping of names to exception classes"
        )
    return found


def configure_schema(parser: argparse.ArgumentParser) -> None:
    """Options of ``schema``."""
    parser.description = "Print the JSON Schema of configuration files, for editors."
    parser.set_defaults(run=_schema)


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return 0


def configure_explain(parser: argparse.ArgumentParser) -> None:
    """Options of ``explain``."""
    parser.description = (
        "Import a pipeline and say the worst it can do: seconds, attempts, and what its checks found. "
        "Exit codes: 0 no findings or warnings only, 1 errors, 2 it could not be looked at."
    )
    parser.add_argument("object", metavar="MODULE:OBJECT",
                        help="a pipeline, a policy, a configuration or a registry; the module is imported")  # fmt: skip
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.set_defaults(run=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    try:
        explained = _explanations(arguments.object, _object(arguments.object))
    except _NotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.format == "json":
        print(json.dumps([_as_dict(name, each) for name, each in explained], indent=2))
    else:
        print("\n\n".join(str(each) for _, each in explained) or "it holds no pipeline")
    return int(
        any(finding.severity == "error" for _, each in explained for finding in each.findings)
    )


def _object(named: str) -> Any:
    module, _, path = named.partition(":")
    if not module or not path:
        raise _NotFoundError(f"{named}: write module:object, such as shop.guards:catalogue")
    if "" not in sys.path and os.getcwd() not in sys.path:  # noqa: PTH109 - as python -m has it
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - (as above)
    try:
        with warnings.catch_warnings():
            # Its findings are about to be printed.
            warnings.simplefilter("ignore", PipelineWarning)
            found: Any = importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - the module is the user's
        raise _NotFoundError(
            f"{module} cannot be imported: {type(error).__name__}: {error}"
        ) from None
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise _NotFoundError(f"{module} has no {path}") from None
    return found


def _explanations(named: str, found: Any) -> list[tuple[str, Explanation]]:
    if isinstance(found, Config):
        return [(name, _explained(found.pipeline(name))) for name in found.pipelines]
    if isinstance(found, Registry):
        guards = [entry for entry in found.entries() if isinstance(entry.guard, LivePipeline)]
        return [(entry.address, _explained(entry.guard)) for entry in guards]
    if isinstance(found, Pipeline | Policy):
        return [(named, _explained(found))]
    if isinstance(found, type) or not callable(found):
        kind = "a class" if isinstance(found, type) else f"a {type(found).__name__}"
    else:
        kind = "a function: name the pipeline that it was wrapped with"
    raise _NotFoundError(f"{named} is no pipeline, policy, configuration or registry, but {kind}")


def _explained(guard: Any) -> Explanation:
    pipeline = guard.pipeline if isinstance(guard, LivePipeline) else guard
    if not isinstance(pipeline, Pipeline):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PipelineWarning)
            pipeline = Pipeline(pipeline)
    explanation = pipeline.explain()
    more = advice_of(flat([pipeline]))
    findings = tuple(sorted((*explanation.findings, *more), key=lambda each: each.severity))
    return Explanation(explanation.attempts, explanation.duration, findings, explanation.pipeline)


def _as_dict(name: str, explanation: Explanation) -> dict[str, Any]:
    return {
        "name": name,
        "pipeline": explanation.pipeline,
        "attempts": _finite(explanation.attempts),
        "duration": _finite(explanation.duration),
        "findings": [
            {"severity": each.severity, "code": each.code, "text": each.text, "remedy": each.remedy}
            for each in explanation.findings
        ],
    }


def _finite(number: float) -> float | None:
    """JSON has no infinity: None is without a bound."""
    return number if number < math.inf else None
