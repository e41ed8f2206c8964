"""
The validator: a report on a configuration before it is deployed, for people and for CI.

Nothing is built and nothing is registered. Mistakes that keep a configuration from being loaded are findings as well,
so that one report holds all there is to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, final

import attrs

from resilience.checks import Finding, findings_of
from resilience.config.config import PREFIX, ErrorNames, Reading, reading_of
from resilience.config.mistakes import Mistake, Path, written
from resilience.config.rules import advice_of, found_in
from resilience.config.sources import Source
from resilience.errors import ConfigurationError

__all__ = ["ConfigFinding", "InfrastructureConfigValidator", "Report"]


@final
@attrs.frozen
class ConfigFinding:
    """
    One thing the validator has to say.

    Attributes:
        severity: ``error`` (must not be deployed) or ``warning`` (likely wrong).
        code: A short stable name: ``invalid`` for a mistake, else that of the rule.
        text: What is wrong, with the numbers.
        remedy: What to do about it.
        path: Where, such as ``pipelines.catalogue``.
        source: The file, or a word for where it came from.
        line: Of the file, from 1, or None.
    """

    severity: Literal["error", "warning"]
    code: str
    text: str
    remedy: str
    path: str
    source: str
    line: int | None

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return (
            f"{place}: {self.severity}: {self.path}: {self.text} [{self.code}]\n    {self.remedy}"
        )


@final
@attrs.frozen
class Report:
    """
    What the validator found.

    Attributes:
        findings: Errors first, then in the order of the sources.
        strict: Warnings count as errors.
    """

    findings: tuple[ConfigFinding, ...]
    strict: bool = False

    @property
    def errors(self) -> tuple[ConfigFinding, ...]:
        """Findings that must be mended."""
        return tuple(each for each in self.findings if each.severity == "error")

    @property
    def warnings(self) -> tuple[ConfigFinding, ...]:
        """The others."""
        return tuple(each for each in self.findings if each.severity == "warning")

    @property
    def ok(self) -> bool:
        """Whether it may be deployed."""
        return not (self.findings if self.strict else self.errors)

    @property
    def exit_code(self) -> int:
        """0 if it may be deployed, else 1."""
        return 0 if self.ok else 1

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "ok": self.ok,
            "strict": self.strict,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "findings": [attrs.asdict(each) for each in self.findings],
        }

    def as_json(self) -> str:
        """The same as JSON text."""
        return json.dumps(self.as_dict(), indent=2)

    def __str__(self) -> str:
        counted = (
            f"{_counted(len(self.errors), 'error')}, {_counted(len(self.warnings), 'warning')}"
        )
        if not self.findings:
            counted = "nothing to say"
        return "\n".join([*map(str, self.findings), f"{'ok' if self.ok else 'not ok'}: {counted}"])

    def raise_if_not_ok(self) -> None:
        """
        For start-up code that must not go on.

        Raises:
            ConfigurationError: there are errors, or in strict mode warnings.
        """
        if not self.ok:
            first = (self.errors or self.findings)[0]
            raise ConfigurationError(
                first.path, got=f"{str(self)[:4000]}", allowed="one that passes its checks"
            )


def _counted(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"


@final
class InfrastructureConfigValidator:
    """
    Says what is wrong, and what is likely wrong, with a configuration.

    Args:
        sources: As in `load`.
        environ: The variables that go over them. Default none: a file is judged as it is; pass ``os.environ`` at
            start-up.
        prefix, errors: As in `load`.
        environment: Where it runs. Default: what ``RESILIENCE_ENVIRONMENT`` among the variables says.
        expected: Names of pipelines and policies that the program will ask for.
        strict: Warnings count as errors. Default False.
    """

    def __init__(
        self,
        *sources: Source,
        environ: Mapping[str, str] | None = None,
        prefix: str = PREFIX,
        errors: ErrorNames | None = None,
        environment: str | None = None,
        expected: Iterable[str] = (),
        strict: bool = False,
    ) -> None:
        self._sources = sources
        self._environ = environ or {}
        self._prefix = prefix
        self._errors = errors or {}
        self._environment = environment
        self._expected = tuple(expected)
        self._strict = strict

    def validate(self) -> Report:
        """Read the sources and judge them; never raises for what they hold."""
        mistakes: list[Mistake] = []
        reading = reading_of(
            self._sources, self._environ, self._prefix, self._errors, mistakes, refuse=False
        )
        if reading is None:
            return Report(tuple(map(_of_mistake, mistakes)), self._strict)
        found = [
            *self._of_pipelines(reading),
            *(
                _placed(reading, path, finding)
                for path, finding in found_in(
                    reading, self._environ, self._prefix, self._environment, self._expected
                )
            ),
        ]
        unique = dict.fromkeys(found)
        return Report(
            tuple(sorted(unique, key=lambda each: (each.severity, each.source, each.line or 0))),
            self._strict,
        )

    def _of_pipelines(self, reading: Reading) -> Iterable[ConfigFinding]:
        for name, policies in reading.pipelines.items():
            pipeline = reading.plan.pipelines[name]
            for finding in (*findings_of(policies), *advice_of(policies)):
                if finding.code not in pipeline.accept:
                    yield _placed(reading, pipeline.path, finding)


def _of_mistake(mistake: Mistake) -> ConfigFinding:
    remedy = f"did you mean {mistake.hint!r}?" if mistake.hint else f"give {mistake.allowed}"
    text = f"must be {mistake.allowed}, got {mistake.got}"
    return ConfigFinding(
        "error", "invalid", text, remedy, mistake.path, mistake.source, mistake.line
    )


def _placed(reading: Reading, path: Path, finding: Finding) -> ConfigFinding:
    source, line = reading.whole.place(path)
    return ConfigFinding(
        finding.severity, finding.code, finding.text, finding.remedy, written(path), source, line
    )
