"""
The registry itself: names to objects, and what may be done to them while calls run.

Two locks: one around the table, held for look-ups that make something; one that puts changes of options in a row. A
listener that hears of a change may look things up, from any thread.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, final

import anyio
import attrs

from resilience.clock import PROCESS_CLOCK, Clock, Rng
from resilience.core.trips import Trip
from resilience.doors import F_co, Policy
from resilience.errors import ConfigurationError
from resilience.events import ChangeRefused, Event, Hub, Listener, OptionsChanged
from resilience.pipeline import Pipeline, parts_of, spliced
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.registry.families import Family, breakers_in, label_of
from resilience.registry.live import LivePipeline, Slot
from resilience.registry.same import alike, conflict, named, options_of, shown_pipeline, sketch
from resilience.registry.views import (
    Entry,
    Kind,
    RegistrySnapshot,
    Summary,
    kind_of,
    snapshot_of,
    summary_of,
)
from resilience.validation import check, count, one_of
from resilience.validation import name as a_name
from resilience.verdicts import ErrorFilter, ResultFilter

if TYPE_CHECKING:
    from tenacity.wait import wait_base

__all__ = ["BreakerOptions", "Registry", "can_change", "default_registry"]

P = TypeVar("P", bound=Policy[Any])

Space: TypeAlias = Literal["policy", "pipeline"]
_SPACES: tuple[Space, ...] = ("policy", "pipeline")
"""A pipeline and a policy may have one name: the pipeline that guards the catalogue, and its breaker."""

_NAME = a_name()
_DOMAIN = one_of(
    "None, or a name of 1 to 100 printable characters without a colon",
    lambda value: (
        value is None
        or (isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable() and ":" not in value)  # noqa: PLR2004
    ),
    {"number": 1, "empty": "", "colon": "a:b", "long": "x" * 101, "line break": "a\nb"},
)  # fmt: skip
_MAX_KEYS = count(high=10**6)
FIELDS = {"name": _NAME, "domain": _DOMAIN, "max_keys": _MAX_KEYS}
"""What each argument of `Registry`'s methods takes."""

_LOOK_EVERY = 0.01
"""Seconds between two looks at calls in flight, at first; then twice as long each time, up to half a second."""
_LOOK_SELDOM = 0.5


class BreakerOptions(TypedDict, total=False):
    """The options of a `CircuitBreaker`, without its name."""

    on: ErrorFilter
    ignore: ErrorFilter
    on_result: ResultFilter | None
    trip: Trip
    break_duration: float | timedelta | Callable[[int], Any] | wait_base
    probes: int
    successes_to_close: int | None
    probe_lease: float | timedelta
    overdue_after: float | timedelta | None
    error_text: bool
    clock: Clock | Callable[[], float] | None
    rng: Rng | None


@final
class _Record:
    """An entry: the object, and as what it was asked for when it was made."""

    __slots__ = ("declared", "guard")

    def __init__(self, guard: Any, declared: Any) -> None:
        self.guard = guard
        self.declared = declared


@final
class Registry:
    """
    Breakers, pipelines and other policies with state, by name and, if wanted, domain.

    Made and changed from any thread; nothing in it is bound to a loop. A process may have several.

    Args:
        listeners: Hear `OptionsChanged` and `ChangeRefused`. The events of the policies go to the listeners of the
            pipelines they stand in.
    """

    def __init__(self, *, listeners: Iterable[Listener] = ()) -> None:
        self._hub = Hub(None, listeners)
        self._records: dict[tuple[Space, str | None, str], _Record] = {}
        self._lock = threading.RLock()
        self._changing = threading.RLock()

    def __repr__(self) -> str:
        return f"<Registry of {len(self._records)}>"

    # ------------------------------------------------------------ get or create

    def breaker(
        self, name: str, *, domain: str | None = None, **options: Unpack[BreakerOptions]
    ) -> CircuitBreaker:
        """
        The breaker of that name: the one there is, or a new one with these options.

        Without options it is only got. In a domain its own name, for errors and logs, is ``domain:name``.

        Raises:
            ConfigurationError: it exists with another configuration, and the error shows both; or none exists and
                options are missing; or an option is not allowed.
        """
        return self.policy(CircuitBreaker, name, domain=domain, **options)

    def policy(self, kind: type[P], name: str, *, domain: str | None = None, **options: Any) -> P:
        """
        As `breaker`, for any policy that holds state: ``registry.policy(Bulkhead, "db", limit=5)``.

        Args:
            kind: Its class, which takes ``name=``.
        """
        where = self._address(name, domain)
        own_name = name if domain is None else f"{domain}:{name}"
        with self._lock:
            record = self._records.get(("policy", domain, name))
            if record is not None:
                return self._the_same(record, kind, options | {"name": own_name}, where)
            try:
                sketch(kind, options | {"name": own_name}, {})
            except TypeError as error:
                known = ", ".join(sorted({each for *_, each in self._records})) or "nothing yet"
                raise ConfigurationError(
                    where,
                    got=f"no such name ({known[:200]}), and {error}",
                    allowed="a name that is registered, or all that is needed to make it",
                ) from None
            made: P = kind(**options, name=own_name)  # type: ignore[call-arg]  # sketched just now
            self._records["policy", domain, name] = _Record(made, options_of(made))
            return made

    def pipeline(
        self,
        name: str,
        *policies: Policy[F_co] | Pipeline[F_co],
        domain: str | None = None,
        key: Any = None,
        listeners: Iterable[Listener] = (),
        enabled: bool | Callable[[], bool] = True,
    ) -> LivePipeline[F_co]:
        """
        The pipeline of that name: the one there is, or a new one of these policies, outermost first.

        Without policies it is only got.

        Raises:
            ConfigurationError: as `breaker`.
        """
        where = self._address(name, domain)
        heard = (listeners,) if callable(listeners) else tuple(listeners)
        with self._lock:
            record = self._records.get(("pipeline", domain, name))
            if record is None:
                if not policies:
                    raise ConfigurationError(
                        where,
                        got="no such pipeline, and no policies",
                        allowed="a name that is registered, or all that is needed to make it",
                    )
                made = Pipeline(*policies, name=name, key=key, listeners=heard, enabled=enabled)
                live: LivePipeline[F_co] = LivePipeline(Slot(name, domain, made))
                self._records["pipeline", domain, name] = _Record(live, made)
                return live
            existing: LivePipeline = record.guard
            parts = (tuple(spliced(policies)), key, heard, enabled)
            if policies and not any(
                alike(parts, (each.policies, *parts_of(each)[2:]))
                for each in (record.declared, existing.pipeline)
            ):
                raise conflict(where, shown_pipeline(policies, name), repr(existing.pipeline))
            return existing

    def family(
        self,
        name: str,
        build: Callable[[Any], Policy[Any] | Pipeline[Any]] | None = None,
        *,
        domain: str | None = None,
        max_keys: int = 10_000,
        **options: Unpack[BreakerOptions],
    ) -> Family[Any]:
        """
        One guard per key: ``registry.family("hosts", on=ConnectionError)["api.example.org"]``.

        Args:
            build: Makes the guard of a key; a `Pipeline` becomes a `LivePipeline`. Left out: a breaker with *options*,
                named ``name[key]``.
            max_keys: Members it keeps, 1 to 1,000,000. Default 10,000. Beyond, the least recently used goes; never an
                open one while its break lasts, and what is in use elsewhere is found again. Where nothing may go, keys
                share the guard that is built for ``"(others)"``.

        Raises:
            ConfigurationError: it exists with another configuration, or an option is not allowed.
        """
        where = self._address(name, domain)
        check(f"{where}.max_keys", max_keys, _MAX_KEYS)
        path = name if domain is None else f"{domain}:{name}"
        declared: dict[str, Any] = {"build": build, "max_keys": max_keys}
        if build is None:
            declared["options"] = options_of(sketch(CircuitBreaker, {"name": path, **options}, {}))
        elif options:
            raise ConfigurationError(
                where, got="a build function and options", allowed="one of the two"
            )
        with self._lock:
            record = self._records.get(("policy", domain, name))
            if record is not None:
                existing = record.guard
                if not isinstance(existing, Family):
                    raise conflict(where, "a family", repr(existing))
                if not alike(record.declared, declared):
                    raise conflict(
                        where,
                        f"a family with {_shown(declared)}",
                        f"a family with {_shown(record.declared)}",
                    )
                return existing
            family: Family[Any] = Family(
                name, domain, max_keys, _builder(build, path, domain, options)
            )
            self._records["policy", domain, name] = _Record(family, declared)
            return family

    # ------------------------------------------------------------------ look up

    def get(self, name: str, *, domain: str | None = None) -> Policy[Any] | Family[Any]:
        """
        What is registered under that name: a policy or a family, else a pipeline.

        Raises:
            KeyError: nothing is.
        """
        return self._found(name, domain)[0].guard  # type: ignore[no-any-return]

    def __contains__(self, name: object) -> bool:
        """Whether a name, or a (domain, name), is registered."""
        return (name if isinstance(name, tuple) else (None, name)) in set(self)

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        """True, also when nothing is in it yet: ``registry or Registry()`` is the registry."""
        return True

    def __iter__(self) -> Iterator[tuple[str | None, str]]:
        """All (domain, name), in the order of their registration."""
        return iter(dict.fromkeys((domain, name) for _, domain, name in tuple(self._records)))

    def domains(self) -> tuple[str, ...]:
        """All domains that something is registered in, sorted."""
        return tuple(sorted({domain for domain, _ in self if domain is not None}))

    def entries(self, *, domain: str | None = None) -> tuple[Entry, ...]:
        """
        Everything registered, members of families and breakers inside pipelines included, each object once.

        Args:
            domain: Only what is registered there. Default: everything.
        """
        found: list[Entry] = []
        with self._lock:
            records = [*self._records.items()]
        for (_, where, name), record in records:
            if domain is not None and where != domain:
                continue
            guard = record.guard
            members = guard.items() if isinstance(guard, Family) else [(None, guard)]
            found += [Entry(kind_of(each), where, name, key, each) for key, each in members]
        seen = {id(entry.guard) for entry in found}
        for entry in tuple(found):
            for breaker in breakers_in(entry.guard):
                if id(breaker) not in seen:
                    seen.add(id(breaker))
                    found.append(
                        Entry("breaker", entry.domain, breaker.name, None, breaker, entry.address)
                    )
        return tuple(found)

    def breakers(self, *, domain: str | None = None) -> tuple[CircuitBreaker, ...]:
        """All breakers: registered, in families, inside registered pipelines."""
        return tuple(
            entry.guard
            for entry in self.entries(domain=domain)
            if isinstance(entry.guard, CircuitBreaker)
        )

    def find(self, address: str, *, kind: Kind | None = None) -> Entry:
        """
        The entry with that `Entry.address`: ``name``, ``domain:name`` or ``name[key]``.

        Where a pipeline and something else have the same, *kind* says which; without it, it is the other one.

        Raises:
            KeyError: there is none.
        """
        found = [
            entry
            for entry in self.entries()
            if entry.address == address and kind in {None, entry.kind}
        ]
        if not found:
            raise KeyError(address)
        return min(found, key=lambda entry: entry.kind == "pipeline")

    def snapshot(self, *, domain: str | None = None) -> RegistrySnapshot:
        """Everything at this instant, frozen."""
        entries = tuple(map(snapshot_of, self.entries(domain=domain)))
        states = [entry.circuit.state for entry in entries if entry.circuit is not None]
        return RegistrySnapshot(entries=entries, summary=summary_of(states))

    def summary(self, *, domain: str | None = None) -> Summary:
        """The breakers by state, and how many per cent of them let calls pass."""
        return summary_of(breaker.state for breaker in self.breakers(domain=domain))

    # ---------------------------------------------------------------------- act

    def reset(self, name: str, *, domain: str | None = None) -> int:
        """
        Close the breakers of one name: itself, those of a family, those inside a pipeline; returns how many.

        Raises:
            KeyError: nothing of that name is registered.
        """
        breakers: dict[int, CircuitBreaker] = {}
        for record in self._found(name, domain):
            guard = record.guard
            members = guard.items() if isinstance(guard, Family) else [(None, guard)]
            for _, member in members:
                breakers |= {id(each): each for each in breakers_in(member)}
        return _reset(breakers.values())

    def reset_all(self, *, domain: str | None = None) -> int:
        """Close all breakers, or all of a domain; returns how many."""
        return _reset(self.breakers(domain=domain))

    def change(self, name: str, *, domain: str | None = None, **options: Any) -> None:
        """
        Give a breaker, or another policy that allows it, other options while calls run.

        New calls use them, running ones finish on the old. A breaker keeps its state: a break that runs is not redrawn,
        windows and half-open probes start anew. Options that are left out stay as they are.

        Raises:
            KeyError: no policy of that name is registered.
            ConfigurationError: an option is not allowed, or cannot be changed (a name, a clock). Nothing has changed
                then, and a `ChangeRefused` says so.
        """
        with self._changing:
            record = self._record("policy", name, domain)
            where = named(name, domain)
            try:
                after = _checked(record.guard, options, where)
            except ConfigurationError as error:
                self._refused(where, error)
                raise
            if hasattr(record.guard, "_change"):
                record.guard._change(after)  # noqa: SLF001 - our own classes
            else:
                record.guard.change(**after)
            record.declared = options_of(record.guard)
            self._tell(OptionsChanged(policy=where, at=_now(), changed=tuple(sorted(options))))

    def change_pipeline(
        self,
        name: str,
        *policies: Policy[Any] | Pipeline[Any],
        domain: str | None = None,
        listeners: Iterable[Listener] | None = None,
        enabled: bool | Callable[[], bool] | None = None,
    ) -> None:
        """
        Exchange the policies of a pipeline while calls run.

        New calls go through the new ones, running ones finish on the old; a function wrapped before obeys at its next
        call. A policy that holds state and stands in both keeps it.

        Args:
            policies: All of the new pipeline, outermost first.
            listeners, enabled: Default: as they were.

        Raises:
            KeyError: no pipeline of that name is registered.
            ConfigurationError: the new one cannot work. The last good one stays then, and a `ChangeRefused` says so.
        """
        with self._changing:
            record = self._record("pipeline", name, domain)
            live: LivePipeline = record.guard
            where = named(name, domain)
            _, _, key, old_listeners, old_enabled = parts_of(live.pipeline)
            try:
                made = Pipeline(
                    *policies,
                    name=name,
                    key=key,
                    listeners=old_listeners if listeners is None else listeners,
                    enabled=old_enabled if enabled is None else enabled,
                )
            except ConfigurationError as error:
                self._refused(where, error)
                raise
            live._slot.change(made)  # noqa: SLF001 - our own class
            record.declared = made
            self._tell(OptionsChanged(policy=where, at=_now(), changed=("policies",)))

    async def remove(
        self, name: str, *, domain: str | None = None, only: Space | None = None,
        timeout: float | None = 30.0,  # noqa: ASYNC109 - a bound on waiting for others, not on a call
    ) -> bool:  # fmt: skip
        """
        Take a name out at once, and wait for the calls that are in flight.

        The name is free from the start: who asks for it gets a new object. What was wrapped before goes on through the
        old one; calls that begin after this are not waited for. A call that a disabled breaker let pass is not known
        to it.

        Args:
            only: ``policy`` (or family) or ``pipeline``, where both have the name. Default: both go.
            timeout: Seconds to wait at most, or None for as long as it takes. Default 30.

        Returns:
            True if all of them have ended, False if the time was over before.

        Raises:
            KeyError: nothing of that name is registered.
        """
        running: list[Callable[[], bool]] = []
        for guard in self.forget(name, domain=domain, only=only):
            members = [each for _, each in guard.items()] if isinstance(guard, Family) else [guard]
            running += [_drain(each) for each in members]
        pause = _LOOK_EVERY
        with anyio.move_on_after(timeout):
            while running := [each for each in running if each()]:
                await anyio.sleep(pause)
                pause = min(2 * pause, _LOOK_SELDOM)
        return not any(each() for each in running)

    # ------------------------------------------------------------------- inside

    def _address(self, name: str, domain: str | None) -> str:
        check("Registry.name", name, _NAME)
        check("Registry.domain", domain, _DOMAIN)
        return named(name, domain)

    def forget(
        self, name: str, *, domain: str | None = None, only: Space | None = None
    ) -> tuple[Policy | Family[Any], ...]:
        """Take a name out, as `remove` does, and wait for nothing; returns what had it."""
        with self._lock:
            found = self._found(name, domain, only)
            for space in _SPACES:
                if only in {None, space}:
                    self._records.pop((space, domain, name), None)
        return tuple(record.guard for record in found)

    def _record(self, space: Space, name: str, domain: str | None) -> _Record:
        return self._found(name, domain, space)[0]

    def _found(
        self, name: str, domain: str | None, only: Space | None = None
    ) -> tuple[_Record, ...]:
        found = tuple(
            record
            for space in _SPACES
            if only in {None, space}
            and (record := self._records.get((space, domain, name))) is not None
        )
        if not found:
            raise KeyError(name if domain is None else (domain, name))
        return found

    def _the_same(self, record: _Record, kind: type[P], options: dict[str, Any], where: str) -> P:
        existing = record.guard
        if not isinstance(existing, kind):
            raise conflict(where, f"a {kind.__name__}", repr(existing))
        if options.keys() == {"name"}:
            return existing
        required = {
            each.name: getattr(existing, each.name)
            for each in attrs.fields(kind)  # type: ignore[arg-type]  # attrs' own class
            if each.init and each.default is attrs.NOTHING
        }
        asked = sketch(kind, options, required)
        if not any(
            alike(options_of(asked), each) for each in (record.declared, options_of(existing))
        ):
            raise conflict(where, repr(asked), repr(existing))
        return existing

    def _refused(self, where: str, error: ConfigurationError) -> None:
        self._tell(ChangeRefused(policy=where, at=_now(), reason=str(error)))

    def _tell(self, event: Event) -> None:
        self._hub.emit(event)


def _now() -> float:
    return PROCESS_CLOCK.now()


def _shown(declared: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in declared.items())[:400]


def _builder(
    build: Callable[[Any], Policy[Any] | Pipeline[Any]] | None,
    path: str,
    domain: str | None,
    options: BreakerOptions,
) -> Callable[[Any], Policy[Any]]:
    if build is None:
        return lambda key: CircuitBreaker(label_of(path, key), **options)

    def built(key: Hashable) -> Policy[Any]:
        made = build(key)
        if isinstance(made, Pipeline):
            return LivePipeline(Slot(label_of(path, key), domain, made))
        if isinstance(made, Policy):
            return made
        raise ConfigurationError(
            f"{path}.build", got=f"a {type(made).__name__}", allowed="a function that makes a policy or a pipeline"
        )  # fmt: skip

    return built


def _reset(breakers: Iterable[CircuitBreaker]) -> int:
    done = 0
    for breaker in breakers:
        breaker.reset()
        done += 1
    return done


_FIXED = ("name", "clock")


def can_change(guard: Any, names: Iterable[str]) -> bool:
    """Whether these options of it can be changed while calls run."""
    if hasattr(guard, "_change"):
        return True
    change = getattr(guard, "change", None)
    return change is not None and {*names} <= {*inspect.signature(change).parameters}


def _checked(guard: Any, options: dict[str, Any], where: str) -> dict[str, Any]:
    """The options of *guard* with these in their place, checked; of a breaker all, else those that change."""
    whole = hasattr(guard, "_change")
    if not can_change(guard, ()):
        raise ConfigurationError(
            where,
            got=f"a {type(guard).__name__}",
            allowed="what can be changed while calls run, such as a breaker",
        )
    for name in options:
        if name in _FIXED or not can_change(guard, (name,)):
            raise ConfigurationError(
                f"{where}.{name}",
                got="another one",
                allowed="as it was: it cannot be changed while calls run",
            )
    try:
        made = options_of(sketch(type(guard), options, options_of(guard)))
    except TypeError as error:
        raise ConfigurationError(
            where, got=str(error), allowed="changed in options that it has"
        ) from None
    return {
        name: value
        for name, value in made.items()
        if name not in _FIXED and (whole or name in options)
    }


def _drain(guard: Any) -> Callable[[], bool]:
    if isinstance(guard, CircuitBreaker):
        core = guard._core  # noqa: SLF001 - our own classes
        return core.circuit.drain(core.now())
    if isinstance(guard, LivePipeline):
        return guard._slot.drain()  # noqa: SLF001
    return lambda: bool(getattr(guard, "in_flight", 0))


_default: list[Registry] = []
_default_lock = threading.Lock()


def default_registry() -> Registry:
    """One registry for those who want one for the whole process; made when it is first asked for."""
    with _default_lock:
        if not _default:
            _default.append(Registry())
        return _default[0]
