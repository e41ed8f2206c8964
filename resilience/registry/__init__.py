"""
Guards by name: one object for one name, everywhere in the program.

    registry = Registry()
    catalogue = registry.breaker("catalogue", on=ConnectionError)   # made here
    assert registry.breaker("catalogue") is catalogue               # and found again

A breaker of a registry is a plain `CircuitBreaker`, and a call through it costs what it always does. A pipeline of a
registry is a `LivePipeline`: one step more, so that it can be exchanged while calls run.
"""

from resilience.registry.families import Family
from resilience.registry.live import LivePipeline
from resilience.registry.registry import BreakerOptions, Registry, default_registry
from resilience.registry.views import Entry, EntrySnapshot, RegistrySnapshot, Summary

__all__ = [
    "BreakerOptions",
    "Entry",
    "EntrySnapshot",
    "Family",
    "LivePipeline",
    "Registry",
    "RegistrySnapshot",
    "Summary",
    "default_registry",
]
