"""
Leave to make one call, in the hand of the user, and the hold on an isolated breaker.
"""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Self, final

from resilience.core.generations import Ticket
from resilience.errors import TimeoutExceededError
from resilience.policies._breaker_core import Core
from resilience.verdicts import Verdict

__all__ = ["Isolation", "Permit"]


@final
class Permit:
    """
    Leave to make one call by hand.

    It settles exactly once: ``success()``, ``failure(error)`` or ``ignore()``; a second time does nothing. As a context
    manager it is settled by the outcome of the block, as a pipeline would. A permit that is collected unsettled counts
    as ignored and warns.
    """

    __slots__ = ("_core", "_ticket")

    def __init__(self, core: Core, ticket: Ticket) -> None:
        self._core = core
        self._ticket = ticket

    def __repr__(self) -> str:
        return f"<Permit of {self._core.name!r}{' (settled)' if self._ticket.settled else ''}>"

    def success(self) -> None:
        """The dependency answered."""
        self._settle(Verdict.SUCCESS)

    def failure(self, error: BaseException | None = None) -> None:
        """The dependency failed; of *error* the type name is kept."""
        self._settle(Verdict.FAILURE, error)

    def ignore(self) -> None:
        """Nothing can be said; what was taken is given back."""
        self._settle(Verdict.IGNORED)

    def cut_off(self) -> None:
        """Our own deadline cut the call off: a failure, unless ``ignore`` names `TimeoutExceededError` itself."""
        error = TimeoutExceededError()
        self._settle(self._core.judge.error(error), error)

    def ended(self, error: BaseException | None) -> None:
        """The stream that held this permit ended, with *error* or well."""
        if error is None:
            self.success()
        elif not self._ticket.settled:
            self._core.settle_by_error(self._ticket, error)
            self._ticket.settled = True

    def _settle(self, verdict: Verdict, error: BaseException | None = None) -> None:
        self._core.settle(self._ticket, verdict, error)
        self._ticket.settled = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended(error)

    def __del__(self) -> None:
        if not self._ticket.settled:
            self.ignore()
            warnings.warn(
                f"a permit of circuit breaker {self._core.name!r} was never settled; it counts as ignored",
                ResourceWarning,
                stacklevel=2,
            )


@final
class Isolation:
    """A hold on an isolated breaker; released by ``release()`` or at the end of its ``with`` block."""

    __slots__ = ("_core", "_handle")

    def __init__(self, core: Core, handle: object) -> None:
        self._core = core
        self._handle = handle

    def __repr__(self) -> str:
        return f"<Isolation of {self._core.name!r}>"

    def release(self) -> None:
        """Let go; the last hold that does ends the isolation. A second time does nothing."""
        self._core.circuit.release(self._handle, self._core.now())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
