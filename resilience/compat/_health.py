"""A health checker's say in a recovery: asked by the call that would be the probe, so that no task has to be kept."""

from __future__ import annotations

from typing import Any, Protocol, final

from resilience.events import hook_failed

__all__ = ["HealthChecker", "HealthGate"]


class HealthChecker(Protocol):
    """Whether the dependency is well."""

    async def check_health(self) -> Any:
        """A truth value; or an object with ``success``, or with ``health_score`` from 0 to 1 or to 100."""


@final
class HealthGate:
    """
    Asks a checker, one question at a time, and not again for *interval* seconds after it said yes.

    What it raises is logged once, and is a no.
    """

    __slots__ = ("_checker", "_interval", "_turn", "_well_until")

    def __init__(self, checker: HealthChecker, interval: float) -> None:
        self._checker = checker
        self._interval = interval
        self._turn = [None]
        self._well_until = 0.0

    async def lets_pass(self, now: float) -> bool:
        """Whether a probe may go now; whoever comes while a question is out is told no."""
        if now < self._well_until:
            return True
        try:
            self._turn.pop()
        except IndexError:
            return False
        try:
            well = _says_yes(await self._checker.check_health())
        except Exception as error:  # noqa: BLE001 - the checker is the user's
            hook_failed("health_checker", self._checker, error)
            well = False
        finally:
            self._turn.append(None)
        if well:
            self._well_until = now + self._interval
        return well


def _says_yes(answer: Any) -> bool:
    if hasattr(answer, "success"):
        return bool(answer.success)
    score = getattr(answer, "health_score", None)
    if score is None:
        return bool(answer)
    return float(score) / (100.0 if score > 1 else 1.0) >= 0.5  # noqa: PLR2004 - the middle of its scale
