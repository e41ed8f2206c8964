"""
A place in a bulkhead in somebody's hand, and what a call weighs.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeAlias, final

from resilience.call import Call
from resilience.core.lines import Places
from resilience.errors import ResilienceWarning
from resilience.events import hook_failed
from resilience.validation import Allowed, is_function, one_of

__all__ = ["Place", "Weight", "weigher", "weight_option"]

Weight: TypeAlias = int | Callable[[Call], int]
"""What a call takes: a whole number >= 1, or a function of the `Call` that returns one."""

_MOST = 10**9


def _is_weight(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST


async def _an_async_weight(_: object) -> int:  # pragma: no cover - a value to be refused
    return 1


def weight_option() -> Allowed:
    """The validator of ``weight``."""
    return one_of(
        f"a whole number >= 1, at most {_MOST:,}, or a function of the Call that returns one, not async",
        lambda value: _is_weight(value) or is_function(value),
        {
            "none": None,
            "text": "2",
            "boolean": True,
            "fraction": 1.5,
            "zero": 0,
            "negative": -1,
            "above": _MOST + 1,
            "class": int,
            "async function": _an_async_weight,
        },
    )


def weigher(owner: str, given: Callable[[Call], int]) -> Callable[[Call], int]:
    """The user's function, mended: what is no weight becomes 1, with one warning; what it raises is logged once."""
    warned: list[None] = []

    def weigh(call: Call) -> int:
        try:
            weight: Any = given(call)
        except Exception as error:  # noqa: BLE001 - law 6: the user's function must not become the call's error
            hook_failed(f"{owner}.weight", given, error)
            return 1
        if _is_weight(weight):
            return weight  # type: ignore[no-any-return]
        if not warned:
            warned.append(None)
            # A filter that makes errors of warnings must not become the call's error.
            with contextlib.suppress(ResilienceWarning):
                warnings.warn(
                    f"{owner}.weight returned what is no whole number >= 1 ({type(weight).__name__}); 1 is taken",
                    ResilienceWarning,
                    stacklevel=2,
                )
        return 1

    return weigh


@final
class Place:
    """
    A place in a bulkhead, taken by hand: ``release()``, or the end of its ``with`` block, gives it back.

    A second time does nothing. One that is collected unreleased is given back, and warns.
    """

    __slots__ = ("_held", "_places", "weight")

    def __init__(self, places: Places, weight: int) -> None:
        self._places = places
        self._held: list[None] = [None]
        self.weight: int = weight

    def __repr__(self) -> str:
        return f"<Place weight={self.weight}{'' if self._held else ' (released)'}>"

    def release(self) -> None:
        """Give it back; from any task and any thread."""
        try:
            self._held.pop()
        except IndexError:
            return
        self._places.give(self.weight)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if self._held:
            self.release()
            warnings.warn("a place in a bulkhead was never released", ResourceWarning, stacklevel=2)

    # As a permit that was parked or is held by a stream: whatever the verdict, the place is free.

    def cut_off(self) -> None:
        """Our deadline cut the call off."""
        self.release()

    def ignore(self) -> None:
        """The caller left."""
        self.release()

    def ended(self, error: BaseException | None) -> None:  # noqa: ARG002 - of no interest here
        """The stream that held this place ended."""
        self.release()
