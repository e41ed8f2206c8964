"""
From a plan to objects: first as sketches, which a check may look at, then for real, in a registry.

Nothing is registered before the whole plan has been sketched and found to work.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, final

import attrs

from resilience.checks import findings_of
from resilience.config.mistakes import Mistakes
from resilience.config.modes import Modes
from resilience.config.observing import Observed
from resilience.config.reading import PipelinePlan, Plan, PolicyPlan, StepPlan
from resilience.doors import Policy
from resilience.errors import ConfigurationError, PipelineWarning
from resilience.pipeline import Pipeline, spliced, without_warnings
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.registry.registry import Registry, can_change
from resilience.registry.same import alike, options_of, sketch

__all__ = ["Builder", "drawn", "in_order", "worked_out"]


# ----------------------------------------------------------------------------------------------------- sketches


def drawn(plan: Plan, mistakes: Mistakes) -> dict[str, Policy]:
    """Every policy of the plan, checked and not alive: by name, and for those without state by path."""
    found: dict[str, Policy] = {}
    for policy in _every(plan):
        options = dict(policy.options)
        if policy.type.named:
            options["name"] = policy.name
        try:
            made = sketch(policy.type.cls, options, {})
            if policy.type.cls is not CircuitBreaker:  # which warns of two of a name
                made = policy.type.cls(**options)  # with the checks that concern several options
        except ConfigurationError as error:
            mistakes.refused(policy.path, error)
        else:
            found[policy.name] = made
    return found


def _every(plan: Plan) -> list[PolicyPlan]:
    inline = [
        step.policy
        for pipeline in plan.pipelines.values()
        for step in pipeline.steps
        if step.policy is not None
    ]
    names = {policy.name for policy in inline}
    return [*inline, *(each for name, each in plan.policies.items() if name not in names)]


def in_order(plan: Plan, mistakes: Mistakes) -> list[PipelinePlan]:
    """The pipelines, those that others use first; a circle is a mistake."""
    done: list[PipelinePlan] = []
    state: dict[str, str] = {}

    def visit(name: str) -> None:
        if state.get(name) == "done":
            return
        pipeline = plan.pipelines[name]
        if state.get(name) == "open":
            mistakes.add(
                pipeline.path,
                None,
                "one that does not use itself, not by way of others either",
                got="a circle",
            )
            return
        state[name] = "open"
        for step in pipeline.steps:
            if _is_pipeline(plan, step):
                visit(str(step.use))
        state[name] = "done"
        done.append(pipeline)

    for name in plan.pipelines:
        visit(name)
    return done


def _is_pipeline(plan: Plan, step: StepPlan) -> bool:
    return step.use is not None and step.use not in plan.policies and step.use in plan.pipelines


def worked_out(
    plan: Plan, sketches: Mapping[str, Policy], mistakes: Mistakes, *, refuse: bool
) -> dict[str, tuple[Policy, ...]]:
    """
    The policies of each pipeline, outermost first, those of pipelines inside included, as if all enforced.

    What cannot work is a mistake, where it is to be refused: a mode that is off today does not make it right.
    """
    found: dict[str, tuple[Policy, ...]] = {}
    before = len(mistakes.found)
    ordered = in_order(plan, mistakes)
    if len(mistakes.found) > before:
        return found
    for pipeline in ordered:
        policies: list[Policy] = []
        for step in pipeline.steps:
            if _is_pipeline(plan, step):
                policies += found.get(str(step.use), ())
            else:
                name = step.policy.name if step.policy is not None else str(step.use)
                policies.append(sketches[name])
        found[pipeline.name] = tuple(policies)
        for finding in findings_of(policies) if refuse else ():
            if finding.severity == "error":
                mistakes.add(
                    pipeline.path, None, f"one that can work ({finding.remedy})", got=finding.text
                )
    return found


# ---------------------------------------------------------------------------------------------------- the real ones


@final
class Builder:
    """Brings a registry to what a plan says, and later to what the next one says."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.plan: Plan = Plan(None, {}, {})
        self.modes: Modes = Modes({}, {}, {})

    def build(
        self, plan: Plan, modes: Modes, pipelines: Mapping[str, tuple[Policy, ...]]
    ) -> tuple[str, ...]:
        """
        Make, change and forget; returns the names of what is not as it was.

        Warns of what *pipelines*, the policies as if all enforced, are likely to disappoint in, whatever the modes are
        today.

        Raises:
            ConfigurationError: a name is taken in the registry by something else; nothing that was made then stays.
        """
        plan = _quieted(plan, modes)
        changed: dict[str, None] = {}
        made: list[tuple[str, Any]] = []
        try:
            for name, policy in plan.policies.items():
                if self._policy(name, policy, made):
                    changed[name] = None
                if self._mode(name, policy, plan, modes):
                    changed[name] = None
            for pipeline in in_order(plan, Mistakes(lambda _: ("", None))):
                if self._pipeline(pipeline, plan, modes, made):
                    changed[pipeline.name] = None
        except BaseException:
            for name, space in made:
                self.registry.forget(name, only=space)
            raise
        changed |= dict.fromkeys(self._gone(plan))
        self.plan, self.modes = plan, modes
        _warn_of(plan, {name: pipelines[name] for name in changed if name in pipelines})
        return tuple(changed)

    def _gone(self, plan: Plan) -> list[str]:
        """Forget what the new plan has no more; its names."""
        pipelines = [each for each in self.plan.pipelines if each not in plan.pipelines]
        policies = [each for each in self.plan.policies if each not in plan.policies]
        for name in pipelines:
            self.registry.forget(name, only="pipeline")
        for name in policies:
            self.registry.forget(name, only="policy")
        return [*pipelines, *policies]

    def _policy(self, name: str, policy: PolicyPlan, made: list[tuple[str, Any]]) -> bool:
        before = self.plan.policies.get(name)
        if before is not None and before.type == policy.type:
            if alike(dict(before.options), dict(policy.options)):
                return False
            whole = options_of(sketch(policy.type.cls, {**policy.options, "name": name}, {}))
            present = options_of(self.registry.get(name))  # type: ignore[arg-type]  # no family
            options = {
                key: value for key, value in whole.items() if key != "name" and not alike(value, present[key])
            }  # fmt: skip
            if can_change(self.registry.get(name), options):
                self.registry.change(name, **options)
                return True
        if before is not None:
            # What cannot be changed in place is replaced, wherever it stands; its state goes with it.
            self.registry.forget(name, only="policy")
        taken = name in {each for _, each in self.registry} and _has_policy(self.registry, name)
        self.registry.policy(policy.type.cls, name, **policy.options)
        if not taken:
            made.append((name, "policy"))
        return True

    def _mode(self, name: str, policy: PolicyPlan, plan: Plan, modes: Modes) -> bool:
        if policy.type.cls is not CircuitBreaker:
            return False
        mode, before = _mode_of(name, plan, modes), _mode_of(name, self.plan, self.modes)
        if mode == (before or "enforce"):
            return False
        breaker: Any = self.registry.get(name)
        match mode:
            case "off":
                breaker.disable()
            case "observe":
                breaker.observe()
            case _:
                breaker.reset()
        return True

    def _pipeline(
        self, pipeline: PipelinePlan, plan: Plan, modes: Modes, made: list[tuple[str, Any]]
    ) -> bool:
        mode = modes.pipelines[pipeline.name]
        policies: list[Policy | Pipeline] = []
        for step in pipeline.steps:
            policies += self._step(pipeline, step, plan, modes)
        enabled = mode != "off"
        # An empty pipeline among them: the registry takes no policies at all for a question.
        whole = (*policies, Pipeline())
        with without_warnings():
            if pipeline.name not in self.plan.pipelines:
                self.registry.pipeline(pipeline.name, *whole, enabled=enabled)
                made.append((pipeline.name, "pipeline"))
                return True
            present = self.registry.pipeline(pipeline.name).pipeline
            if alike(present.policies, tuple(spliced(policies))) and (
                enabled == (self.modes.pipelines[pipeline.name] != "off")
            ):
                return False
            self.registry.change_pipeline(pipeline.name, *policies, enabled=enabled)
            return True

    def _step(
        self, pipeline: PipelinePlan, step: StepPlan, plan: Plan, modes: Modes
    ) -> list[Policy | Pipeline]:
        if step.policy is None:
            return self._used(pipeline, step, plan, modes)
        # A pipeline that is off is switched off as a whole, and keeps what it is made of.
        off = modes.pipelines[pipeline.name] == "off"
        return self._own(step.policy, "enforce" if off else modes.steps[pipeline.name, step.label])

    def _used(
        self, pipeline: PipelinePlan, step: StepPlan, plan: Plan, modes: Modes
    ) -> list[Policy | Pipeline]:
        name = str(step.use)
        if _is_pipeline(plan, step):
            return [self.registry.pipeline(name)]
        shared: Any = self.registry.get(name)
        entry, mode = plan.policies[name].type, modes.shared.get(name, "enforce")
        if entry.cls is CircuitBreaker and mode != "enforce":
            return [shared]  # it knows by itself
        if mode == "off":
            return []
        if "observe" in {mode, modes.pipelines[pipeline.name]}:
            return [] if isinstance(entry.observe, str) else [Observed(shared)]
        return [shared]

    def _own(self, policy: PolicyPlan, mode: str) -> list[Policy | Pipeline]:
        entry = policy.type
        if entry.cls is CircuitBreaker:
            return [self.registry.breaker(policy.name)]
        if mode == "off":
            return []
        own: Any = self.registry.get(policy.name) if entry.named else entry.cls(**policy.options)
        if mode == "observe" and not isinstance(entry.observe, str):
            return [entry.observe(own)]
        return [own]


def _warn_of(plan: Plan, pipelines: Mapping[str, tuple[Policy, ...]]) -> None:
    for name, policies in pipelines.items():
        for finding in findings_of(policies):
            if finding.code not in plan.pipelines[name].accept:
                text = f"pipeline {name!r}: {finding.text} - {finding.remedy}"
                warnings.warn(text, PipelineWarning, stacklevel=5)


def _quieted(plan: Plan, modes: Modes) -> Plan:
    """The same with the options of those who only observe such that they make nobody wait."""
    policies = {
        name: attrs.evolve(policy, options={**policy.options, **policy.type.quietly})
        if policy.type.quietly and _mode_of(name, plan, modes) == "observe"
        else policy
        for name, policy in plan.policies.items()
    }
    return attrs.evolve(plan, policies=policies)


def _mode_of(name: str, plan: Plan, modes: Modes) -> str | None:
    if name in modes.shared:
        return modes.shared[name]
    for pipeline in plan.pipelines.values():
        for step in pipeline.steps:
            if step.policy is not None and step.policy.name == name:
                return modes.steps.get((pipeline.name, step.label))
    return None


def _has_policy(registry: Registry, name: str) -> bool:
    return any(entry.name == name and entry.kind != "pipeline" for entry in registry.entries())
