"""
What the clients and the server write down, each for itself.

Two accounts of one run: the clients' calls and attempts, and the server's request log, one JSON object per line. The
report is reckoned from both and says where they disagree.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator

import attrs

from resilience.demo.plan import Mode

__all__ = [
    "BARE",
    "GROUPS",
    "GUARDED",
    "Attempt",
    "Call",
    "Fate",
    "Outcome",
    "Request",
    "Served",
    "read_log",
]

BARE = "bare"
GUARDED = "guarded"
GROUPS = (BARE, GUARDED)


class Outcome(enum.StrEnum):
    """How a call ended for its caller."""

    ANSWERED = "answered"
    REJECTED = "rejected"  # by the guard; no attempt was made
    FAILED = "failed"
    DROPPED = "dropped"  # it arrived while as many calls were in flight as a group may have, and never started
    UNFINISHED = "unfinished"


class Fate(enum.StrEnum):
    """How one attempt ended for the client."""

    ANSWERED = "answered"
    ERROR = "error"  # a complete answer with a status other than 200
    BROKEN = "broken"  # reset, or ended before the answer was complete
    REFUSED = "refused"  # no connection
    CUT = "cut"  # the client stopped waiting


class Served(enum.StrEnum):
    """How one request ended for the server."""

    ANSWERED = "answered"
    ERROR = "error"
    RESET = "reset"
    HALF = "half"
    SHED = "shed"  # 503 at once: the queue was full
    GONE = "gone"  # the client left first
    KILLED = "killed"  # the service died, or the run ended


@attrs.define
class Call:
    """One call of one client, times in seconds since the run began."""

    number: int
    at: float
    end: float | None = None
    outcome: Outcome = Outcome.UNFINISHED
    attempts: int = 0
    error: str | None = None


@attrs.define
class Attempt:
    """One request as its client saw it."""

    call: int
    number: int
    at: float
    fate: Fate = Fate.CUT


@attrs.define
class Request:
    """One request as the server saw it: it came at `at`, waited `queued` seconds for a worker and ended at `end`."""

    at: float
    group: str
    call: int
    attempt: int
    mode: Mode
    queued: float = 0.0
    end: float = 0.0
    fate: Served | None = None

    def to_line(self) -> str:
        """One line of the log."""
        return json.dumps(attrs.asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Request:
        """The request this line tells of."""
        fields = json.loads(line)
        return cls(**fields | {"mode": Mode(fields["mode"]), "fate": Served(fields["fate"])})


def read_log(lines: Iterable[str]) -> tuple[Request, ...]:
    """The server's log. A last line without an end, left by a server that was killed, is left out."""

    def requests() -> Iterator[Request]:
        for line in lines:
            if line.endswith("\n"):
                yield Request.from_line(line)

    return tuple(requests())
