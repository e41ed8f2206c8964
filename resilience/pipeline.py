"""
Pipeline: several policies around one call, outermost first, as it reads.

Linked once, when it is built: each policy turns the step inside it into a step. A pipeline is frozen; what changes at
run time changes inside its policies, and a function wrapped before obeys at its next call.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar, final

from resilience.call import Call, Step, invoke
from resilience.checks import Explanation, Finding, findings_of, worst_of
from resilience.doors import F_co, Guard, Policy
from resilience.errors import ConfigurationError, PipelineWarning, RejectedError
from resilience.events import (
    LISTENER,
    AttemptFinished,
    CallFinished,
    Hub,
    Listener,
    hears,
    hook_failed,
)
from resilience.validation import Allowed, check, is_function, one_of
from resilience.validation import key as a_key
from resilience.validation import name as a_name
from resilience.watch import attempts_told, call_told

__all__ = ["Pipeline", "flat", "parts_of", "spliced", "without_warnings"]

G = TypeVar("G")

_ENABLED = one_of(
    "True, False, or a function without arguments that returns one, not async",
    lambda value: isinstance(value, bool) or is_function(value),
    {"none": None, "number": 1, "text": "yes", "class": bool, "async": asyncio.sleep},
)
_POLICY = one_of(
    "a policy or a pipeline",
    lambda value: isinstance(value, Policy | Pipeline),
    {"number": 5, "text": "retry", "none": None, "class": Policy, "function": asyncio.sleep},
)


FIELDS: dict[str, Allowed] = {
    "policies": _POLICY,
    "name": a_name(none=True),
    "key": a_key(),
    "listeners": LISTENER,
    "enabled": _ENABLED,
}
"""What each argument of `Pipeline` takes; of ``policies`` and ``listeners``, each element."""


_QUIET: ContextVar[bool] = ContextVar("resilience_quiet", default=False)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pipelines that are built inside do not warn: whoever builds them does, or has reason not to."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


@final
class Pipeline(Guard[F_co]):
    """
    Policies around a call, outermost first. Frozen; it may be shared by any number of tasks, loops and threads.

    ``Pipeline(a, Pipeline(b, c))`` is ``Pipeline(a, b, c)``; an inner one with a name, a key, listeners or
    a switch of its
    own stays a step of its own. ``Pipeline()`` is the bare call.

    Args:
        policies: Outermost first.
        name: For events and logs: 1 to 256 printable characters.
        key: What ``Call.key`` gives: a hashable value, or a function of the call's arguments, called when it is read.
        listeners: Functions of an `Event`; see `Listener`.
        enabled: False, or a function that returns it: the call runs bare.

    Raises:
        ConfigurationError: what cannot work, all findings at once.

    Warns:
        PipelineWarning: what is likely wrong, one warning for each finding.
    """

    __slots__ = ("_enabled", "_explained", "_key_of", "_listeners", "_name", "_policies")

    _policies: tuple[Policy[Any] | Pipeline[Any], ...]
    _name: str | None
    _key_of: Any
    _listeners: tuple[Listener, ...]
    _enabled: bool | Callable[[], bool]
    _explained: tuple[Finding, ...]

    def __init__(
        self,
        *policies: Policy[F_co] | Pipeline[F_co],
        name: str | None = None,
        key: Any = None,
        listeners: Iterable[Listener] = (),
        enabled: bool | Callable[[], bool] = True,
    ) -> None:
        for place, policy in enumerate(policies):
            check(f"Pipeline.policies[{place}]", policy, FIELDS["policies"])
        check("Pipeline.name", name, FIELDS["name"])
        check("Pipeline.key", key, FIELDS["key"])
        # A `Recorder` is callable, and it can be iterated over: for its events.
        one = (
            callable(listeners) or isinstance(listeners, str) or not isinstance(listeners, Iterable)
        )
        heard: tuple[Any, ...] = (listeners,) if one else tuple(listeners)
        for place, listener in enumerate(heard):
            check(f"Pipeline.listeners[{place}]", listener, FIELDS["listeners"])
        check("Pipeline.enabled", enabled, FIELDS["enabled"])
        self._set("_policies", tuple(spliced(policies)))
        self._set("_name", name)
        self._set("_key_of", key)
        self._set("_listeners", heard)
        self._set("_enabled", enabled)
        found = findings_of(flat(self._policies))
        self._set("_explained", found)
        errors = [str(finding) for finding in found if finding.severity == "error"]
        if errors:
            raise ConfigurationError(
                "Pipeline",
                got=repr(self),
                allowed=f"a pipeline that can work ({'; '.join(errors)})",
            )
        self._set("_step", self._link())
        for finding in () if _QUIET.get() else found:
            warnings.warn(f"{finding.text} - {finding.remedy}", PipelineWarning, stacklevel=2)

    def _set(self, attribute: str, value: object) -> None:
        object.__setattr__(self, attribute, value)

    def __setattr__(self, attribute: str, value: object) -> NoReturn:
        raise AttributeError(f"a Pipeline is frozen; use replace() or build another ({attribute})")

    def __repr__(self) -> str:
        parts = [repr(policy) for policy in self._policies]
        if self._name is not None:
            parts.append(f"name={self._name!r}")
        if self._enabled is False:
            parts.append("enabled=False")
        return f"Pipeline({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        return self._parts() == other._parts() if isinstance(other, Pipeline) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._policies, self._name))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, self._parts()

    def _keeper(self) -> str | None:
        return next((found for each in flat((self,)) if (found := each._keeper())), None)  # noqa: SLF001 - our own class

    def _racer(self) -> str | None:
        return next((repr(each) for each in flat((self,)) if each.makes_attempts_at_once), None)

    def _parts(self) -> tuple[Any, ...]:
        return self._policies, self._name, self._key_of, self._listeners, self._enabled

    @property
    def policies(self) -> tuple[Policy[Any] | Pipeline[Any], ...]:
        """What it is made of, outermost first, unnamed inner pipelines spliced in."""
        return self._policies

    @property
    def name(self) -> str | None:
        """Its name in events and logs."""
        return self._name

    @property
    def _key(self) -> Any:
        return self._key_of

    @property
    def _told_as(self) -> tuple[str | None, str]:
        _, label = super()._told_as
        return self._name, label

    @property
    def _own_listeners(self) -> tuple[Listener, ...]:
        return self._listeners

    def _watched(self, step: Step, call: Call) -> Step:
        off = not (_on(self._enabled) if callable(self._enabled) else self._enabled)
        return step if off else super()._watched(step, call)

    def replace(
        self, policy: Policy[G], /, *, old: Policy[Any] | None = None
    ) -> Pipeline[F_co | G]:
        """
        The same pipeline with one policy exchanged for *policy*.

        That is the one of its class, or *old* where there are several.

        Raises:
            ConfigurationError: there is none, or more than one and *old* does not say which.
        """
        places = [
            place
            for place, each in enumerate(self._policies)
            if (each == old if old is not None else type(each) is type(policy))
        ]
        if len(places) > 1:
            places = [place for place in places if self._policies[place] is old] or places
        if len(places) != 1:
            raise ConfigurationError(
                "Pipeline.replace",
                got=f"{len(places)} candidates in {self!r}",
                allowed="a policy of a class that stands here once, or old= to say which",
            )
        changed = [*self._policies]
        changed[places[0]] = policy
        _, *rest = self._parts()
        return _rebuilt(tuple(changed), *rest)

    def explain(self) -> Explanation:
        """
        Worst-case duration and attempts, and the findings of the checks, as data and (``str``) as text.

        Breakers are taken to admit, chance to be unkind, and a server to ask for the longest waits that are honoured.
        A callee that ends when it is cut off cannot exceed them, and one that knows the pipeline reaches them. They are
        too high where a strategy cannot be read off, a `Timeout` is a function, or retries in one another differ in
        what they take up.
        """
        policies = flat(self._policies) if self._enabled is not False else ()
        bounds = worst_of(policies)
        return Explanation(bounds.attempts, bounds.duration, self._explained, repr(self))

    def link(self, step: Step, hub: Hub) -> Step:
        """The step that guards *step*, as part of another pipeline with *hub*."""
        inner = Hub(self._name or hub.pipeline, self._listeners, hub)
        linked = self._linked_with(step, inner)
        inner.parts.clear()
        return linked

    def _link(self) -> Step:
        hub = Hub(self._name, self._listeners)
        step = self._linked_with(invoke, hub)
        parts = hub.take_parts(isinstance(each, Policy) and each.laned for each in self._policies)
        # A listener for every call or attempt stands in a step of its own, and so does a switch.
        if self._enabled is True and not any(
            hub.own(each) for each in (AttemptFinished, CallFinished)
        ):
            self._set("_laned_parts", parts)
        return step

    def _linked_with(self, bare: Step, hub: Hub) -> Step:
        if self._enabled is False:
            return bare
        step = bare
        if heard := tuple(each for each in self._listeners if hears(each, AttemptFinished)):
            step = attempts_told(step, heard, hub.pipeline, repr(self))
        others = len(hub.gates)
        for policy in reversed(self._policies):
            step = policy.link(step, hub)
        if callable(self._enabled):
            hub.gates[others:] = [
                _switched_gate(self._enabled, each) for each in hub.gates[others:]
            ]
        if heard := hub.own(CallFinished):
            step = call_told(step, heard, hub.pipeline, repr(self))
        return _switched(self._enabled, step, bare) if callable(self._enabled) else step


def _rebuilt(
    policies: tuple[Policy[Any] | Pipeline[Any], ...],
    name: str | None,
    key: Any,
    listeners: tuple[Listener, ...],
    enabled: bool | Callable[[], bool],  # noqa: FBT001 - Pipeline's own
) -> Pipeline[Any]:
    return Pipeline(*policies, name=name, key=key, listeners=listeners, enabled=enabled)


def parts_of(pipeline: Pipeline[Any]) -> tuple[Any, ...]:
    """Policies, name, key, listeners and switch: all it was made of."""
    return pipeline._parts()  # noqa: SLF001 - our own class


def spliced(
    policies: Iterable[Policy[Any] | Pipeline[Any]],
) -> Iterator[Policy[Any] | Pipeline[Any]]:
    """The same with the pipelines that are no more than their policies dissolved."""
    for policy in policies:
        if isinstance(policy, Pipeline) and policy._parts()[1:] == (None, None, (), True):  # noqa: SLF001
            yield from policy.policies
        else:
            yield policy


def flat(policies: Iterable[Policy[Any] | Pipeline[Any]]) -> tuple[Policy[Any], ...]:
    """Every policy, those of inner pipelines that stay steps of their own included."""
    return tuple(_flattened(policies))


def _flattened(policies: Iterable[Policy[Any] | Pipeline[Any]]) -> Iterator[Policy[Any]]:
    for policy in policies:
        if isinstance(policy, Pipeline):
            if policy._enabled is not False:  # noqa: SLF001
                yield from _flattened(policy.policies)
        else:
            yield policy


def _on(enabled: Callable[[], bool]) -> bool:
    try:
        return bool(enabled())
    except Exception as error:  # noqa: BLE001 - law 6: a switch that fails leaves the guard on
        hook_failed("Pipeline.enabled", enabled, error)
        return True


def _switched(enabled: Callable[[], bool], step: Step, bare: Step) -> Step:
    async def guarded(call: Call) -> Any:
        return await (step if _on(enabled) else bare)(call)

    return guarded


def _switched_gate(
    enabled: Callable[[], bool], gate: Callable[[], RejectedError | None]
) -> Callable[[], RejectedError | None]:
    """A gate that turns nobody away while its pipeline is switched off."""
    return lambda: gate() if _on(enabled) else None
