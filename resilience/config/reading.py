"""
From layers to a plan: merged, every mistake noted, nothing built yet.

A later layer wins. Tables are merged key by key; all else, and a table of another ``type``, is replaced. The policies
of a pipeline are an array, which replaces; or a table, which changes those of the layers below by name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, final

import attrs

from resilience.budgets import RetryBudget
from resilience.config.kinds import BROKEN, Choice, Context, Fields, Kind, Name, is_name
from resilience.config.mistakes import Mistakes, Path, nearest, shown, written
from resilience.config.presets import BREAKER_PRESETS, PIPELINE_PRESETS
from resilience.config.sources import Layer
from resilience.config.table import ACCEPTABLE, BUDGET, MODE, POLICIES, PolicyType

__all__ = [
    "Merged",
    "PipelinePlan",
    "Plan",
    "PolicyPlan",
    "StepPlan",
    "read",
    "step_names",
]


@final
@attrs.frozen
class PolicyPlan:
    """
    One policy to be made.

    Attributes:
        name: In the registry, and in errors and logs.
        type: What it is.
        options: For its class, without the name.
        mode: As the files say, or None.
        path: Where it stands.
        numbers: Of durations given as plain numbers: key -> seconds.
    """

    name: str
    type: PolicyType
    options: Mapping[str, Any]
    mode: str | None
    path: Path
    numbers: Mapping[str, float] = attrs.field(factory=dict, eq=False)


@final
@attrs.frozen
class StepPlan:
    """
    One place in a pipeline.

    Attributes:
        label: Its name within the pipeline.
        policy: What stands there; or
        use: the name of a shared policy or of another pipeline.
    """

    label: str
    path: Path
    policy: PolicyPlan | None = None
    use: str | None = None


@final
@attrs.frozen
class PipelinePlan:
    """One pipeline to be made: ``calls`` are the pipelines that its callee goes through."""

    name: str
    steps: tuple[StepPlan, ...]
    mode: str | None
    accept: frozenset[str]
    calls: tuple[str, ...]
    preset: str | None
    path: Path


Budget: TypeAlias = "tuple[dict[str, Any], RetryBudget]"
"""Its table, and what was made of it."""


@final
@attrs.frozen
class Plan:
    """A configuration that has been read."""

    environment: str | None
    policies: Mapping[str, PolicyPlan]
    pipelines: Mapping[str, PipelinePlan]
    budgets: Mapping[str, Budget] = attrs.field(factory=dict)


# ---------------------------------------------------------------------------------------------------- merging

Origin: TypeAlias = "tuple[Layer, Path]"


@final
class Merged:
    """The layers as one document, which remembers where each value came from."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.origins: dict[Path, Origin] = {}

    def place(self, path: Path) -> tuple[str, int | None]:
        """The source, and the line, of the value at *path*, or of the nearest table around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                layer, there = self.origins[path[:length]]
                return layer.place((*there, *path[length:]))
        return "configuration", None

    def lay(self, layers: Sequence[Layer], mistakes: Mistakes) -> None:
        """One layer over the other, the presets that they name below all."""
        for layer in (_presets_of(layers), *layers):
            self._table(_Laid(layer, mistakes), self.data, layer.data, (), ())

    def _table(
        self, laid: _Laid, into: dict[str, Any], given: dict[str, Any], path: Path, there: Path
    ) -> None:
        for key, value in given.items():
            at, source = (*path, key), (*there, key)
            before = into.get(key)
            self.origins[at] = laid.layer, source
            if _is_policies(at) and isinstance(value, dict):
                self._policies(laid, into, value, at, source)
            elif isinstance(before, dict) and isinstance(value, dict) and _same_type(before, value):
                self._table(laid, before, value, at, source)
            else:
                self._forget(at)
                into[key] = copy.deepcopy(value)

    def _policies(
        self, laid: _Laid, into: dict[str, Any], given: dict[str, Any], path: Path, there: Path
    ) -> None:
        """Changes by name to the array that a layer below holds."""
        below = into.get("policies")
        if not isinstance(below, list):
            laid.mistakes.add(
                path, given, "an array of tables, or, above one, a table of changes by name"
            )
            into["policies"] = []
            return
        names = step_names(below)
        for name, change in given.items():
            at = (*path, name)
            if name not in names:
                allowed = f"the name of a policy below: {', '.join(names) or 'there is none'}"
                laid.mistakes.add(at, change, allowed, nearest(name, names), got="another name")
                continue
            place = names.index(name)
            table = below[place]
            if not isinstance(change, dict) or not isinstance(table, dict):
                laid.mistakes.add(at, change, "a table of keys to change")
                continue
            at, source = (*path, place), (*there, name)
            self.origins[at] = laid.layer, source
            if _same_type(table, change):
                self._table(laid, table, change, at, source)
            else:
                self._forget(at)
                below[place] = copy.deepcopy(change)

    def _forget(self, path: Path) -> None:
        length = len(path)
        for known in [
            each for each in self.origins if len(each) > length and each[:length] == path
        ]:
            del self.origins[known]


@final
@attrs.frozen
class _Laid:
    layer: Layer
    mistakes: Mistakes


def _presets_of(layers: Iterable[Layer]) -> Layer:
    """What stands below: the preset that each pipeline or breaker names last."""
    named: dict[tuple[str, str], str] = {}
    for layer in layers:
        for section, known in (("pipelines", PIPELINE_PRESETS), ("breakers", BREAKER_PRESETS)):
            tables = layer.data.get(section)
            for name, table in tables.items() if isinstance(tables, dict) else ():
                wanted = table.get("preset") if isinstance(table, dict) else None
                if isinstance(wanted, str) and wanted in known:
                    named[section, name] = wanted
    data: dict[str, Any] = {}
    for (section, name), wanted in named.items():
        known = PIPELINE_PRESETS if section == "pipelines" else BREAKER_PRESETS
        data.setdefault(section, {})[name] = copy.deepcopy(dict(known[wanted]))
    return Layer("preset", data, {})


def _is_policies(path: Path) -> bool:
    return len(path) == 3 and path[0] == "pipelines" and path[2] == "policies"  # noqa: PLR2004 - pipelines.NAME.policies


def _same_type(before: dict[str, Any], value: dict[str, Any]) -> bool:
    return "type" not in value or before.get("type") == value["type"]


def step_names(steps: Sequence[Any]) -> list[str]:
    """The names of a pipeline's policies: their own, what they use, or their type, numbered from the second on."""
    names: list[str] = []
    for step in steps:
        table = step if isinstance(step, dict) else {}
        name = table.get("name") or table.get("use") or table.get("type")
        base = name if isinstance(name, str) else "policy"
        number, unique = 1, base
        while unique in names:
            number += 1
            unique = f"{base}_{number}"
        names.append(unique)
    return names


# ---------------------------------------------------------------------------------------------------- reading

_TOP = ("environment", "budgets", "breakers", "policies", "pipelines")
_USE = Fields({"use": Name()}, ("use",))
PIPELINE_KEYS: Mapping[str, Kind] = {
    "mode": MODE,
    "preset": Choice(tuple(PIPELINE_PRESETS)),
}
_PIPELINE = ("policies", "mode", "preset", "accept", "calls")
_MOST_STEPS = 50


def read(
    whole: Merged,
    errors: Mapping[str, tuple[type[Exception], ...]],
    mistakes: Mistakes,
    before: Mapping[str, Budget] | None = None,
) -> Plan:
    """The plan of a merged document; mistakes are noted. Budgets that are as *before* are the same objects."""
    data = whole.data
    budgets = _budgets(data, Context(mistakes, errors), before or {})
    named = {"budgets": {name: budget for name, (_, budget) in budgets.items()}}
    context = Context(mistakes, errors, named)
    for key in data:
        if key not in _TOP:
            mistakes.add(
                (key,),
                data[key],
                f"one of the keys {', '.join(_TOP)}",
                nearest(key, _TOP),
                got="an unknown key",
            )
    environment = data.get("environment")
    if environment is not None and Name().read(environment, ("environment",), context) is BROKEN:
        environment = None
    policies = _shared(data, context)
    reader = _Pipelines(context, policies, data)
    pipelines = {
        name: made
        for name, table in _tables(data, "pipelines", mistakes)
        if (made := reader.pipeline(name, table)) is not None
    }
    return Plan(environment, policies, pipelines, budgets)


def _budgets(
    data: dict[str, Any], context: Context, before: Mapping[str, Budget]
) -> dict[str, Budget]:
    found: dict[str, Budget] = {}
    for name, table in _tables(data, "budgets", context.mistakes):
        if name in before and before[name][0] == table:
            found[name] = before[name]
            continue
        made = BUDGET.read(table, ("budgets", name), context)
        if made is not BROKEN:
            found[name] = table, made
    return found


def _shared(data: dict[str, Any], context: Context) -> dict[str, PolicyPlan]:
    mistakes = context.mistakes
    policies: dict[str, PolicyPlan] = {}
    for name, table in _tables(data, "breakers", mistakes):
        plan = _breaker(name, table, ("breakers", name), context)
        if plan is not None:
            policies[name] = plan
    for name, table in _tables(data, "policies", mistakes):
        path = ("policies", name)
        if name in data.get("breakers", {}):
            mistakes.add(
                path,
                table,
                "a name of its own: there is a breaker of that name",
                got="the same name",
            )
            continue
        plan = _policy(name, table, path, context)
        if plan is not None and plan.type.named:
            policies[name] = plan
        elif plan is not None:
            mistakes.add(
                (*path, "type"),
                table["type"],
                "a policy that holds state; others stand in pipelines",
            )
    return policies


def _tables(data: dict[str, Any], section: str, mistakes: Mistakes) -> Iterable[tuple[str, Any]]:
    tables = data.get(section, {})
    if not isinstance(tables, dict):
        mistakes.add((section,), tables, "a table of tables by name")
        return
    for name, table in tables.items():
        path = (section, name)
        if not is_name(name):
            mistakes.add(path, table, Name().text, got="another key")
        elif not isinstance(table, dict):
            mistakes.add(path, table, "a table")
        else:
            yield name, table


def _breaker(name: str, table: dict[str, Any], path: Path, context: Context) -> PolicyPlan | None:
    given = dict(table)
    known = Choice(tuple(BREAKER_PRESETS))
    if "preset" in given and known.read(given["preset"], (*path, "preset"), context) is BROKEN:
        return None
    given.pop("preset", None)
    entry = POLICIES["circuit_breaker"]
    keys = {
        each: kind for each, kind in entry.whole().kinds.items() if each not in {"type", "name"}
    }
    options = Fields(keys | {"preset": Choice(())}, entry.fields.required).read(
        given, path, context
    )
    return None if options is BROKEN else _planned(name, entry, options, path, table)


def _policy(name: str, table: dict[str, Any], path: Path, context: Context) -> PolicyPlan | None:
    word = table.get("type")
    if not isinstance(word, str) or word not in POLICIES:
        hint = nearest(word, POLICIES) if isinstance(word, str) else None
        got = "nothing" if word is None else shown(word, POLICIES)
        context.mistakes.add((*path, "type"), word, f"one of {', '.join(POLICIES)}", hint, got)
        return None
    entry = POLICIES[word]
    options = entry.whole().read(table, path, context)
    return None if options is BROKEN else _planned(name, entry, options, path, table)


def _planned(
    name: str, entry: PolicyType, options: dict[str, Any], path: Path, table: Mapping[str, Any]
) -> PolicyPlan:
    mode = options.pop("mode", None)
    for key in ("type", "name"):
        options.pop(key, None)
    numbers = {
        key: float(value)
        for key, value in table.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and isinstance(options.get(key), float)
    }
    return PolicyPlan(name, entry, options, mode, path, numbers)


class _Pipelines:
    def __init__(
        self, context: Context, policies: dict[str, PolicyPlan], data: dict[str, Any]
    ) -> None:
        self.context = context
        self.mistakes = context.mistakes
        self.policies = policies
        given = data.get("pipelines")
        self.pipelines: set[str] = set(given) if isinstance(given, dict) else set()
        shared = [data.get(section) for section in ("breakers", "policies")]
        self.shared: set[str] = {name for each in shared if isinstance(each, dict) for name in each}

    def pipeline(self, name: str, table: dict[str, Any]) -> PipelinePlan | None:
        path: Path = ("pipelines", name)
        before = len(self.mistakes.found)
        for key, value in table.items():
            if key not in _PIPELINE:
                self.mistakes.add((*path, key), value, f"one of the keys {', '.join(_PIPELINE)}",
                                  nearest(key, _PIPELINE), got="an unknown key")  # fmt: skip
        for key, kind in PIPELINE_KEYS.items():
            if key in table:
                kind.read(table[key], (*path, key), self.context)
        accept = self._words(table, path, "accept", ACCEPTABLE)
        calls = self._words(table, path, "calls", sorted(self.pipelines))
        steps = self._steps(name, table, path)
        if len(self.mistakes.found) > before:
            return None
        return PipelinePlan(
            name,
            steps,
            table.get("mode"),
            frozenset(accept),
            tuple(calls),
            table.get("preset"),
            path,
        )

    def _words(
        self, table: dict[str, Any], path: Path, key: str, known: Sequence[str]
    ) -> list[str]:
        given = table.get(key, [])
        if not isinstance(given, list):
            self.mistakes.add((*path, key), given, "an array of texts")
            return []
        for place, word in enumerate(given):
            Choice(tuple(known)).read(word, (*path, key, place), self.context)
        return given

    def _steps(self, name: str, table: dict[str, Any], path: Path) -> tuple[StepPlan, ...]:
        at: Path = (*path, "policies")
        given = table.get("policies")
        if given is None and "preset" in table:
            return ()  # the preset is wrong, and that was said
        if not isinstance(given, list) or not given or len(given) > _MOST_STEPS:
            allowed = f"an array of 1 to {_MOST_STEPS} tables, outermost first"
            said = {each.path for each in self.mistakes.found}
            if written(at) not in said:  # changes of nothing were noted when they were merged
                self.mistakes.add(at, given, allowed, got="nothing" if given is None else None)
            return ()
        steps: list[StepPlan] = []
        for place, (label, step) in enumerate(zip(step_names(given), given, strict=True)):
            where = (*at, place)
            if not isinstance(step, dict):
                self.mistakes.add(where, step, "a table with a type, or with use")
            elif "use" in step:
                self._use(steps, label, step, where)
            else:
                own_name = self._own_name(name, label, step)
                plan = _policy(own_name, step, where, self.context)
                if plan is not None:
                    self._own(plan)
                    steps.append(StepPlan(label, where, policy=plan))
        return tuple(steps)

    def _own_name(self, pipeline: str, label: str, step: dict[str, Any]) -> str:
        given = step.get("name")
        if is_name(given) and step.get("type") == "circuit_breaker":
            return str(given)
        return pipeline if step.get("type") == "circuit_breaker" else f"{pipeline}.{label}"

    def _own(self, plan: PolicyPlan) -> None:
        if plan.type.named:
            taken = self.policies.get(plan.name)
            if taken is not None or plan.name in self.shared:
                self.mistakes.add(plan.path, None, f"one with a name of its own ({plan.name!r} is taken; to share it, "
                                  "put it under breakers or policies and write use)", got="the same name")  # fmt: skip
            self.policies[plan.name] = plan

    def _use(self, steps: list[StepPlan], label: str, step: dict[str, Any], where: Path) -> None:
        options = _USE.read(step, where, self.context)
        if options is BROKEN:
            return
        known = self.shared | self.pipelines
        name = options["use"]
        if name not in known:
            self.mistakes.add((*where, "use"), name, "the name of a breaker, policy or pipeline of this configuration",
                              nearest(name, known), shown(name, known))  # fmt: skip
        else:
            steps.append(StepPlan(label, where, use=name))
