"""
A configuration at work: read, built into a registry, and read again while calls run.

What is wrong with it is one error for all of it, and the last good one stays.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path as File
from typing import Any, TypeAlias, final

import attrs

from resilience.clock import PROCESS_CLOCK
from resilience.config.building import Builder, drawn, worked_out
from resilience.config.mistakes import InvalidConfigError, Mistake, Mistakes
from resilience.config.modes import Modes, modes_of
from resilience.config.reading import Budget, Merged, Plan, read, step_names
from resilience.config.sources import Layer, Source, environment_layer, layer_of, normal
from resilience.config.table import known_errors
from resilience.doors import Policy
from resilience.errors import ConfigurationError
from resilience.events import ChangeRefused, OptionsChanged
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.registry.live import LivePipeline
from resilience.registry.registry import Registry, default_registry

__all__ = ["PREFIX", "Config", "Reading", "get_config", "load", "reading_of"]

PREFIX = "RESILIENCE"
ErrorNames: TypeAlias = "Mapping[str, type[Exception] | tuple[type[Exception], ...]]"


@final
@attrs.frozen
class Reading:
    """
    Sources that were read: the document, the plan, its modes, and sketches of its policies.

    ``pipelines`` holds the policies of each pipeline, outermost first, as if all enforced.
    """

    whole: Merged
    plan: Plan
    modes: Modes
    sketches: Mapping[str, Policy]
    pipelines: Mapping[str, tuple[Policy, ...]]


def reading_of(
    sources: Iterable[Source],
    environ: Mapping[str, str],
    prefix: str,
    errors: ErrorNames,
    mistakes: list[Mistake],
    *,
    refuse: bool = True,
    budgets: Mapping[str, Budget] | None = None,
) -> Reading | None:
    """Read all of it; None if there were *mistakes*, to which they are appended; *refuse*: what cannot work is one."""
    layers: list[Layer] = []
    for source in sources:
        try:
            layers.append(layer_of(source))
        except InvalidConfigError as error:
            mistakes += error.mistakes
    try:
        layers.append(environment_layer(environ, prefix, _resolver(_below(layers))))
    except InvalidConfigError as error:
        mistakes += error.mistakes
    if mistakes:
        return None
    whole = Merged()
    noted = Mistakes(whole.place)
    whole.lay(layers, noted)
    plan = read(whole, known_errors(errors), noted, budgets)
    modes = modes_of(plan, environ, prefix, noted)
    sketches = drawn(plan, noted)
    pipelines = worked_out(plan, sketches, noted, refuse=refuse) if not noted.found else {}
    mistakes += _sorted(noted.found)
    return None if mistakes else Reading(whole, plan, modes, sketches, pipelines)


def _below(layers: list[Layer]) -> dict[str, Any]:
    whole = Merged()
    whole.lay(layers, Mistakes(whole.place))
    return whole.data


def _sorted(found: Iterable[Mistake]) -> list[Mistake]:
    unique = dict.fromkeys(found)
    return sorted(unique, key=lambda each: (each.source, each.line or 0))


def _resolver(data: Mapping[str, Any]) -> Callable[[list[str]], tuple[str | int, ...] | None]:
    """How the parts of a variable's name become a path: names are found in what the files hold."""

    def one(part: str, known: Iterable[str]) -> str:
        for name in known:
            if normal(name) == normal(part):
                return name
        return part.lower()

    def resolve(parts: list[str]) -> tuple[str | int, ...] | None:
        section = parts[0].lower()
        if section == "environment" and len(parts) == 1:
            return ("environment",)
        known = section in {"budgets", "breakers", "policies", "pipelines"}
        if not known or len(parts) < 3 or not all(parts):  # noqa: PLR2004 - section, name, key
            return None
        tables = data.get(section)
        names = tables if isinstance(tables, dict) else {}
        name = one(parts[1], names)
        rest = parts[2:]
        if section == "pipelines" and rest[0].lower() not in {
            "mode",
            "preset",
            "accept",
            "calls",
            "policies",
        }:
            table = names.get(name)
            steps = table.get("policies") if isinstance(table, dict) else None
            labels = step_names(steps) if isinstance(steps, list) else []
            return ("pipelines", name, "policies", one(rest[0], labels), *map(str.lower, rest[1:]))
        return (section, name, *map(str.lower, rest))

    return resolve


@final
class Config:
    """
    Pipelines and breakers from files, mappings and the environment; made by `load` or `get_config`.

    Attributes:
        registry: The `Registry` that holds what it made.
        environment: As the configuration says, or None.
        modes: Name of each pipeline and shared policy, and ``pipeline.policy`` -> its mode.
    """

    def __init__(
        self,
        sources: tuple[Source, ...],
        environ: Mapping[str, str] | None,
        prefix: str,
        registry: Registry,
        errors: ErrorNames,
    ) -> None:
        self.registry: Registry = registry
        self._sources = sources
        self._environ = environ
        self._prefix = prefix
        self._errors = dict(errors)
        self._builder = Builder(registry)
        self._lock = threading.RLock()
        self._budgets: Mapping[str, Budget] = {}
        self._reading = self._read()
        self._budgets = self._reading.plan.budgets
        self._build(self._reading)

    def __repr__(self) -> str:
        return f"<Config of {len(self.pipelines)} pipelines and {len(self.policies)} policies>"

    @property
    def environment(self) -> str | None:
        return self._reading.plan.environment

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Names of the pipelines."""
        return tuple(self._reading.plan.pipelines)

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the policies that hold state, breakers included."""
        return tuple(self._reading.plan.policies)

    @property
    def modes(self) -> dict[str, str]:
        modes = self._reading.modes
        steps = {f"{pipeline}.{label}": mode for (pipeline, label), mode in modes.steps.items()}
        return {**modes.shared, **modes.pipelines, **steps}

    def pipeline(self, name: str) -> LivePipeline:
        """
        The pipeline of that name.

        Raises:
            KeyError: the configuration has none; the text names those it has.
        """
        if name not in self._reading.plan.pipelines:
            raise KeyError(f"{name} (there are: {', '.join(self.pipelines) or 'none'})")
        return self.registry.pipeline(name)

    def breaker(self, name: str) -> CircuitBreaker:
        """
        The breaker of that name, whether it stands under ``breakers`` or in a pipeline.

        Raises:
            KeyError: the configuration has none; the text names those it has.
        """
        plan = self._reading.plan.policies
        breakers = [each for each in plan if plan[each].type.cls is CircuitBreaker]
        if name not in breakers:
            raise KeyError(f"{name} (there are: {', '.join(breakers) or 'none'})")
        return self.registry.breaker(name)

    def reload(self) -> tuple[str, ...]:
        """
        Read all sources again, files and environment, and bring the registry to what they say.

        New calls use the new settings, running ones finish on the old, and breakers keep their state. Nothing else is
        changed by it: a breaker that was isolated by hand stays so.

        Returns:
            The names of the pipelines and policies that changed.

        Raises:
            InvalidConfigError: there are mistakes. The last good configuration stays, and a `ChangeRefused` says so.
        """
        with self._lock:
            hub = self.registry._hub  # noqa: SLF001 - our own class
            try:
                reading = self._read()
                changed = self._build(reading)
            except ConfigurationError as error:
                at = PROCESS_CLOCK.now()
                hub.emit(ChangeRefused(policy="configuration", at=at, reason=str(error)))
                raise
            self._reading, self._budgets = reading, reading.plan.budgets
            if changed:
                at = PROCESS_CLOCK.now()
                hub.emit(OptionsChanged(policy="configuration", at=at, changed=changed))
            return changed

    def _build(self, reading: Reading) -> tuple[str, ...]:
        return self._builder.build(reading.plan, reading.modes, reading.pipelines)

    def _read(self) -> Reading:
        environ = os.environ if self._environ is None else self._environ
        mistakes: list[Mistake] = []
        reading = reading_of(
            self._sources, environ, self._prefix, self._errors, mistakes, budgets=self._budgets
        )
        if reading is None:
            raise InvalidConfigError(mistakes)
        return reading


def load(
    *sources: Source,
    environ: Mapping[str, str] | None = None,
    prefix: str = PREFIX,
    registry: Registry | None = None,
    errors: ErrorNames | None = None,
) -> Config:
    """
    Pipelines and breakers from sources, a later one over an earlier one, the environment over all.

    Args:
        sources: Paths of TOML files, and mappings of the same shape.
        environ: The variables. Default ``os.environ``, as it is now and at each reload.
        prefix: What its variables begin with. Default ``RESILIENCE``.
        registry: Where to make them. Default: one of its own.
        errors: Exception classes, or tuples of them, that ``on`` and ``ignore`` may name besides the builtin ones and
            those of this package: ``{"httpx": httpx.TransportError}``.

    Raises:
        InvalidConfigError: every mistake, with path, file and line.
    """
    return Config(
        sources, environ, prefix, Registry() if registry is None else registry, _named(errors or {})
    )


def _named(errors: ErrorNames) -> ErrorNames:
    for name, kinds in errors.items():
        each = kinds if isinstance(kinds, tuple) else (kinds,)
        if (
            not isinstance(name, str)
            or not each
            or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in each)
        ):
            raise ConfigurationError(
                "errors",
                got=f"{name!r:.80}",
                allowed="names with exception classes, or tuples of them",
            )
    return errors


_cached: list[Config] = []
_cached_lock = threading.RLock()


def get_config(*, reload: bool = False, errors: ErrorNames | None = None) -> Config:
    """
    The configuration of the process, read once: the files that ``RESILIENCE_CONFIG`` names, else ``resilience.toml``.

    Several files are separated as on ``PATH``; a later one wins. Without a file there is the environment only. What it
    makes is in `default_registry()`.

    Args:
        reload: Read it again, into the same object; see `Config.reload`.
        errors: As in `load`; of the first call that gives them.

    Raises:
        InvalidConfigError: every mistake. A first one that fails is not kept, and a later call reads anew.
    """
    with _cached_lock:
        if not _cached:
            named = os.environ.get(f"{PREFIX}_CONFIG")
            files = (
                [each for each in named.split(os.pathsep) if each]
                if named
                else [each for each in ("resilience.toml",) if File(each).is_file()]
            )
            _cached.append(load(*files, registry=default_registry(), errors=errors))
        elif reload:
            _cached[0].reload()
        return _cached[0]
