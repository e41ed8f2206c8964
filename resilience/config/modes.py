"""
Which policies act: ``off``, ``observe`` or ``enforce``, from the files and from ``RESILIENCE_<NAME>_MODE``.

What is nearest wins: the variable of a policy, that of its pipeline, the policy's own key, that of its pipeline;
without any it acts. A pipeline that observes changes nothing of its calls: of its policies those observe that can, and
the others are off. A policy that is told to observe, and cannot, is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

import attrs

from resilience.config.mistakes import Mistakes, nearest
from resilience.config.reading import PipelinePlan, Plan, PolicyPlan, StepPlan
from resilience.config.sources import normal
from resilience.config.table import MODES

__all__ = ["MADE_IN_CODE", "Modes", "modes_of"]

MADE_IN_CODE: set[str] = set()
"""Normal names of the guards of this process that no configuration makes: they read their variable themselves."""


@final
@attrs.frozen
class Modes:
    """The mode of each pipeline, each shared policy and each (pipeline, policy in it)."""

    pipelines: Mapping[str, str]
    shared: Mapping[str, str]
    steps: Mapping[tuple[str, str], str]


def modes_of(plan: Plan, environ: Mapping[str, str], prefix: str, mistakes: Mistakes) -> Modes:
    """All modes that hold; mistakes are noted."""
    told = _told(plan, environ, prefix, mistakes)
    inline = {
        step.policy.name
        for pipeline in plan.pipelines.values()
        for step in pipeline.steps
        if step.policy is not None
    }
    pipelines: dict[str, str] = {}
    shared: dict[str, str] = {}
    steps: dict[tuple[str, str], str] = {}
    for name, policy in plan.policies.items():
        if name not in inline:
            shared[name] = told.get(normal(name)) or policy.mode or "enforce"
            _observable(policy, shared[name], mistakes)
    for name, pipeline in plan.pipelines.items():
        mode = pipelines[name] = told.get(normal(name)) or pipeline.mode or "enforce"
        for step in pipeline.steps:
            if step.policy is not None:
                steps[name, step.label] = _of_step(told, pipeline, step, mode, mistakes)
    return Modes(pipelines, shared, steps)


def _of_step(
    told: Mapping[str, str], pipeline: PipelinePlan, step: StepPlan, around: str, mistakes: Mistakes
) -> str:
    policy = step.policy
    assert policy is not None  # noqa: S101 - the caller looked
    own = _own(told, pipeline.name, step)
    if own is None and normal(pipeline.name) not in told:
        own = policy.mode
    if own is not None:
        _observable(policy, own, mistakes)
        return own
    return "off" if around == "observe" and isinstance(policy.type.observe, str) else around


def _own(told: Mapping[str, str], pipeline: str, step: StepPlan) -> str | None:
    for name in _names(pipeline, step):
        if name != normal(pipeline) and name in told:
            return told[name]
    return None


def _names(pipeline: str, step: StepPlan) -> tuple[str, ...]:
    own = step.policy.name if step.policy is not None else step.label
    return normal(f"{pipeline}_{step.label}"), normal(own)


def _observable(policy: PolicyPlan, mode: str, mistakes: Mistakes) -> None:
    reason = policy.type.observe
    if mode == "observe" and isinstance(reason, str):
        allowed = f"off or enforce, as a {policy.type.word} cannot only observe ({reason})"
        mistakes.add((*policy.path, "mode"), mode, allowed, got=mode)


def _told(
    plan: Plan, environ: Mapping[str, str], prefix: str, mistakes: Mistakes
) -> dict[str, str]:
    """What the variables say: normal name -> mode."""
    known = {*map(normal, plan.policies), *map(normal, plan.pipelines)}
    for pipeline in plan.pipelines.values():
        for step in pipeline.steps:
            if step.policy is not None:
                known.update(_names(pipeline.name, step))
    own = {f"{prefix}_CONFIG", f"{prefix}_ENVIRONMENT"}
    noted = Mistakes(lambda _: ("environment", None))
    told: dict[str, str] = {}
    for variable in _ours(environ, prefix):
        name = variable[len(prefix) + 1 : -len("_MODE")]
        mode = environ[variable].strip().lower()
        in_code = variable.endswith("_MODE") and name in MADE_IN_CODE and name not in known
        if variable in own or in_code:
            pass
        elif not variable.endswith("_MODE") or name not in known:
            every = {f"{prefix}_{each}_MODE" for each in known} | own
            by_lower = {each.lower(): each for each in sorted(every)}
            hint = nearest(variable, by_lower)
            allowed = f"{prefix}_<NAME>_MODE with a name of this configuration, or one of {', '.join(sorted(own))}"
            meant = by_lower[hint] if hint else None
            noted.add((variable,), None, allowed, meant, got="another variable")
        elif mode not in MODES:
            allowed = f"one of {', '.join(MODES)}"
            noted.add((variable,), None, allowed, nearest(mode, MODES), got="another word")
        else:
            told[name] = mode
    mistakes.found += noted.found
    return told


def _ours(environ: Mapping[str, str], prefix: str) -> Iterator[str]:
    for variable in sorted(environ):
        if variable.startswith(f"{prefix}_") and not variable.startswith(f"{prefix}__"):
            yield variable
