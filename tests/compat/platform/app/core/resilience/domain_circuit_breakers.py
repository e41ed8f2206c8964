"""The shim of another old path."""

from app.core.resilience.unified_circuit_breaker import *  # noqa: F403 - as the shim is written
