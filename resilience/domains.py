"""
Breakers by domain: what a dependency is (a database, a language model, an agent) says what its breaker begins with.

A thin layer over a `Registry` and the one table of presets. Every default here can recover: probes are counted while
they run, so one probe at a time is enough for two successes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Unpack, final

import attrs

from resilience.config.presets import BREAKER_PRESETS
from resilience.core.trips import ConsecutiveFailures
from resilience.errors import ConfigurationError
from resilience.policies.circuit_breaker import CircuitBreaker, CircuitSnapshot
from resilience.registry import BreakerOptions, Registry, Summary, default_registry
from resilience.validation import as_seconds, count, duration, name, one_of
from resilience.verdicts import ErrorFilter, error_filter

__all__ = [
    "Domain",
    "DomainCircuitBreakerManager",
    "DomainStatus",
    "default_manager",
]

_NETWORK = (ConnectionError, TimeoutError)
_PRESET = one_of(
    "a name without a colon, of 1 to 100 printable characters",
    lambda value: name().accepts(value) and len(value) <= 100 and ":" not in value,  # noqa: PLR2004
    {"number": 1, "none": None, "empty": "", "colon": "a:b", "long": "x" * 101, "line": "a\nb"},
)


@final
@attrs.frozen
class Domain:
    """
    A kind of dependency, and what a breaker of it begins with.

    Args:
        name: For the registry: ``name:breaker``. 1 to 100 printable characters, no colon.
        on: What counts as a failure. Default `ConnectionError` and `TimeoutError`; add what your driver raises.
        ignore: What counts as nothing. Default nothing.
        failures: Failures in a row that open it, >= 1. Default 5.
        break_duration: Seconds it stays open, > 0. Default 30.
        probes: Calls in flight at once while half-open, >= 1. Default 1.
        successes_to_close: Successful probes that close it, >= 1. Default 2.

    There are ``Domain.DATABASE``, ``EXTERNAL_API``, ``LLM``, ``CACHE``, ``FILE_SYSTEM``, ``NETWORK``, ``AUTH``,
    ``AGENT`` and ``WEBSOCKET``, with the numbers of ``resilience.config.preset("domain", "database")`` and so on.
    """

    DATABASE: ClassVar[Domain]
    EXTERNAL_API: ClassVar[Domain]
    LLM: ClassVar[Domain]
    CACHE: ClassVar[Domain]
    FILE_SYSTEM: ClassVar[Domain]
    NETWORK: ClassVar[Domain]
    AUTH: ClassVar[Domain]
    AGENT: ClassVar[Domain]
    WEBSOCKET: ClassVar[Domain]

    name: str = attrs.field(validator=_PRESET)
    on: ErrorFilter = attrs.field(default=_NETWORK, kw_only=True, validator=error_filter())
    ignore: ErrorFilter = attrs.field(default=(), kw_only=True, validator=error_filter())
    failures: int = attrs.field(default=5, kw_only=True, validator=count())
    break_duration: float = attrs.field(
        default=30.0, kw_only=True, converter=as_seconds, validator=duration()
    )
    probes: int = attrs.field(default=1, kw_only=True, validator=count(high=10**6))
    successes_to_close: int = attrs.field(default=2, kw_only=True, validator=count())

    def options(self) -> BreakerOptions:
        """The options of a `CircuitBreaker` of this domain."""
        return {
            "on": self.on,
            "ignore": self.ignore,
            "trip": ConsecutiveFailures(self.failures),
            "break_duration": self.break_duration,
            "probes": self.probes,
            "successes_to_close": self.successes_to_close,
        }


def _known(domain: str, on: ErrorFilter = _NETWORK) -> Domain:
    preset: Mapping[str, Any] = BREAKER_PRESETS[f"domain/{domain}"]
    return Domain(
        domain,
        on=on,
        failures=preset["trip"]["n"],
        break_duration=preset["break_duration"],
        probes=preset["probes"],
        successes_to_close=preset["successes_to_close"],
    )


Domain.DATABASE = _known("database", (OSError,))
Domain.EXTERNAL_API = _known("external_api")
Domain.LLM = _known("llm")
Domain.CACHE = _known("cache", (OSError,))
# Not all of `OSError`: a file that is not there, or not yours, is an answer.
Domain.FILE_SYSTEM = _known(
    "file_system",
    lambda error: (
        isinstance(error, OSError)
        and not isinstance(
            error, FileNotFoundError | FileExistsError | PermissionError | IsADirectoryError
            | NotADirectoryError,
        )
    ),
)  # fmt: skip
Domain.NETWORK = _known("network", (OSError,))
Domain.AUTH = _known("auth")
Domain.AGENT = _known("agent", (ConnectionError, TimeoutError, RuntimeError))
Domain.WEBSOCKET = _known("websocket", (OSError,))

_BUILT_IN: Mapping[str, Domain] = MappingProxyType({
    each.name: each
    for each in (
        Domain.DATABASE, Domain.EXTERNAL_API, Domain.LLM, Domain.CACHE, Domain.FILE_SYSTEM,
        Domain.NETWORK, Domain.AUTH, Domain.AGENT, Domain.WEBSOCKET,
    )
})  # fmt: skip


@final
@attrs.frozen(kw_only=True)
class DomainStatus:
    """
    A domain at one instant.

    Attributes:
        domain: Its name, or None for all domains together.
        summary: Its breakers by state, with the per cent that let calls pass.
        breakers: Snapshot by name; by ``domain:name`` for all domains together.
    """

    domain: str | None
    summary: Summary
    breakers: Mapping[str, CircuitSnapshot]


@final
class DomainCircuitBreakerManager:
    """
    Breakers by domain and name. Any thread may ask.

    Args:
        registry: Where they live. Default: that of the process, so that the operations page lists them.
        domains: Of your own, besides the nine.
    """

    def __init__(
        self, registry: Registry | None = None, *, domains: tuple[Domain, ...] = ()
    ) -> None:
        self.registry: Registry = default_registry() if registry is None else registry
        self._domains: dict[str, Domain] = dict(_BUILT_IN)
        for domain in domains:
            self.add(domain)

    def __repr__(self) -> str:
        return f"<DomainCircuitBreakerManager of {len(self._domains)} domains>"

    def __iter__(self) -> Iterator[Domain]:
        """The domains, the built-in ones first."""
        return iter(tuple(self._domains.values()))

    def add(self, domain: Domain) -> None:
        """
        A domain of your own.

        Raises:
            ConfigurationError: it is none, or one of that name is there with other numbers.
        """
        if not isinstance(domain, Domain):
            raise ConfigurationError(
                "DomainCircuitBreakerManager.domains", got=type(domain).__name__, allowed="a Domain"
            )
        found = self._domains.setdefault(domain.name, domain)
        if found != domain:
            raise ConfigurationError(
                f"domain {domain.name!r}", got=repr(domain), allowed=f"what it is: {found!r}"
            )

    def domain(self, domain: Domain | str) -> Domain:
        """
        The domain of that name; a `Domain` that is not known yet is added.

        Raises:
            ConfigurationError: there is none of that name.
        """
        if isinstance(domain, Domain):
            self.add(domain)
            return domain
        found = self._domains.get(domain) if isinstance(domain, str) else None
        if found is None:
            raise ConfigurationError(
                "domain", got=f"{domain!r:.60}", allowed=f"one of {', '.join(self._domains)}"
            )
        return found

    def get_circuit_breaker(
        self, domain: Domain | str, name: str, **options: Unpack[BreakerOptions]
    ) -> CircuitBreaker:
        """
        The breaker of that name: the one there is, or a new one with the domain's defaults.

        Args:
            options: Of a `CircuitBreaker`, in the place of the defaults; without any, it is got as it is.

        Raises:
            ConfigurationError: it exists with other options, and the error shows both; or there is no such domain.
        """
        kind = self.domain(domain)
        if not options and name in self._names(kind):
            return self.registry.breaker(name, domain=kind.name)
        chosen = kind.options()
        chosen.update(options)
        return self.registry.breaker(name, domain=kind.name, **chosen)

    def _names(self, domain: Domain) -> set[str]:
        return {
            each.name
            for each in self.registry.entries(domain=domain.name)
            if each.kind == "breaker" and each.inside is None
        }

    def get_domain_status(self, domain: Domain | str) -> DomainStatus:
        """The breakers of a domain; reading changes nothing."""
        kind = self.domain(domain)
        return self._status(kind.name)

    def get_all_status(self) -> DomainStatus:
        """The breakers of all domains."""
        return self._status(None)

    def _status(self, domain: str | None) -> DomainStatus:
        snapshot = self.registry.snapshot(domain=domain)
        return DomainStatus(
            domain=domain,
            summary=snapshot.summary,
            breakers=MappingProxyType(
                {
                    (each.name if domain is not None else each.address): each.circuit
                    for each in snapshot.entries
                    if each.circuit is not None
                }
            ),
        )

    def reset_circuit_breaker(self, domain: Domain | str, name: str) -> bool:
        """Close one; whether there was one."""
        kind = self.domain(domain)
        if name not in self._names(kind):
            return False
        self.registry.reset(name, domain=kind.name)
        return True

    def reset_all_domain_breakers(self, domain: Domain | str) -> int:
        """Close all of a domain; how many."""
        return self.registry.reset_all(domain=self.domain(domain).name)

    def reset_all(self) -> int:
        """Close all; how many."""
        return self.registry.reset_all()

    async def remove(
        self, domain: Domain | str, name: str, *, timeout: float | None = 30.0  # noqa: ASYNC109
    ) -> bool:  # fmt: skip
        """
        Forget one, such as that of a connection that was closed, and wait for its calls in flight.

        Args:
            timeout: Seconds to wait at most; None: as long as it takes. Default 30.

        Returns:
            Whether they have all ended.

        Raises:
            KeyError: there is none.
        """
        return await self.registry.remove(name, domain=self.domain(domain).name, timeout=timeout)


_manager: DomainCircuitBreakerManager | None = None


def default_manager() -> DomainCircuitBreakerManager:
    """The manager of this process, over its registry."""
    global _manager  # noqa: PLW0603 - one for the process
    if _manager is None:
        _manager = DomainCircuitBreakerManager()
    return _manager
