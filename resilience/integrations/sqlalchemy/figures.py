"""
What a manager tells of its database: health, and figures at one instant.
"""

from __future__ import annotations

from typing import final

import attrs

from resilience.policies.circuit_breaker import CircuitSnapshot

__all__ = ["DatabaseSnapshot", "Health", "PoolSnapshot"]


@final
@attrs.frozen(kw_only=True)
class Health:
    """
    What the database said just now.

    Attributes:
        ok: It answered.
        seconds: That took.
        error: Type name of what went wrong, or None.
    """

    ok: bool
    seconds: float
    error: str | None


@final
@attrs.frozen(kw_only=True)
class PoolSnapshot:
    """
    The connection pool at one instant.

    Attributes:
        kind: Class name of the pool.
        in_use: Connections checked out; None where the pool does not count.
        idle: Connections that wait for a unit; None where the pool does not count.
    """

    kind: str
    in_use: int | None
    idle: int | None


@final
@attrs.frozen(kw_only=True)
class DatabaseSnapshot:
    """
    A manager at one instant.

    Attributes:
        name: Of the manager.
        in_flight: Units that run.
        reads, writes: Units begun, rejected ones included.
        pool_full: Attempts that the pool had no connection for.
        commits_unknown: Writes whose fate nobody knows.
        pool: The connections.
        breakers: Of reads and writes, each once.
        closed: No more units are taken.
    """

    name: str
    in_flight: int
    reads: int
    writes: int
    pool_full: int
    commits_unknown: int
    pool: PoolSnapshot
    breakers: tuple[CircuitSnapshot, ...]
    closed: bool
