"""
Policies that watch and do not act: what ``mode = "observe"`` makes of a gate and of a timeout.

The call goes through whatever they think of it. What they would have done is told as `WouldHaveActed`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import attrs

from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK
from resilience.doors import Policy
from resilience.errors import RejectedError
from resilience.events import Event, Hub, Listener, WouldHaveActed

__all__ = ["Observed", "ObservedTimeout"]


@final
class _Quiet:
    """In the place of a hub: what a watched policy tells would be taken for true."""

    __slots__ = ("__weakref__", "followers", "gates", "parts", "pipeline")

    def __init__(self, pipeline: str | None) -> None:
        self.pipeline = pipeline
        self.parts: list[Any] = []  # for an express lane that is not taken
        self.gates: list[Callable[[], RejectedError | None]] = []
        self.followers: list[tuple[object, Callable[[], None]]] = []

    def listeners(self, kind: type[Event]) -> tuple[Listener, ...]:  # noqa: ARG002
        return ()

    def wants(self, kind: type[Event]) -> bool:  # noqa: ARG002
        return False

    def emit(self, event: Event) -> None:
        """Nobody hears it."""


@final
class Observed(Policy):
    """
    A gate that turns nobody away: a call that it rejects is told of and runs all the same.

    Attributes:
        policy: The gate. What it counts, it counts.
    """

    __slots__ = ("policy",)

    policy: Policy

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def __repr__(self) -> str:
        return f"Observed({self.policy!r})"

    def __eq__(self, other: object) -> bool:
        return self.policy == other.policy if isinstance(other, Observed) else NotImplemented

    def __hash__(self) -> int:
        return hash((Observed, self.policy))

    def link(self, step: Step, hub: Hub) -> Step:
        let_in: set[Call] = set()

        async def marked(call: Call) -> Any:
            let_in.add(call)
            return await step(call)

        quiet: Any = _Quiet(hub.pipeline)
        watched = self.policy.link(marked, quiet)
        label = getattr(self.policy, "name", None) or repr(self.policy)

        async def guarded(call: Call) -> Any:
            try:
                return await watched(call)
            except RejectedError as error:
                if call in let_in:
                    raise
                reason = error.reason
            finally:
                let_in.discard(call)
            if hub.wants(WouldHaveActed):
                at = PROCESS_CLOCK.now()
                hub.emit(WouldHaveActed(policy=label, pipeline=hub.pipeline, at=at, action=reason))
            return await step(call)

        return guarded


@final
@attrs.frozen(repr=False)
class ObservedTimeout(Policy):
    """A timeout that cuts nothing off: a call that took longer is told of when it ends."""

    seconds: float

    def link(self, step: Step, hub: Hub) -> Step:
        seconds, label = self.seconds, f"Timeout({self.seconds!r})"

        async def guarded(call: Call) -> Any:
            began = PROCESS_CLOCK.now()
            try:
                return await step(call)
            finally:
                at = PROCESS_CLOCK.now()
                if at - began >= seconds and hub.wants(WouldHaveActed):
                    hub.emit(
                        WouldHaveActed(policy=label, pipeline=hub.pipeline, at=at, action="timeout")
                    )

        return guarded
