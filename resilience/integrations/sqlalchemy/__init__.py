"""
Databases through SQLAlchemy's asyncio extension: units of work that are guarded and tried again as a whole.

    async with DatabaseManager("postgresql+asyncpg://...", name="orders") as database:
        found = await database.read(find, fallback=[])
        await database.write(place)

asyncio only, as SQLAlchemy's extension is.
"""

from resilience.integrations.sqlalchemy.errors import (
    CommitUnknownError,
    PoolFullError,
    is_outage,
    is_transient,
    sqlstate,
)
from resilience.integrations.sqlalchemy.figures import DatabaseSnapshot, Health, PoolSnapshot
from resilience.integrations.sqlalchemy.manager import DatabaseManager

__all__ = [
    "CommitUnknownError",
    "DatabaseManager",
    "DatabaseSnapshot",
    "Health",
    "PoolFullError",
    "PoolSnapshot",
    "is_outage",
    "is_transient",
    "sqlstate",
]
