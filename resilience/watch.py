"""
The steps that tell of each call and of each attempt, for those who listen to them.

They stand around a pipeline's step and around the callee: in the pipelines whose own listeners ask for them, and, while
somebody listens to the whole process, at every door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from resilience.call import Call, Step
from resilience.clock import PROCESS_CLOCK
from resilience.events import AttemptFinished, CallFinished, Listener, outcome_of, publish

__all__ = ["attempts_told", "call_told", "entries_told"]


def call_told(step: Step, heard: Iterable[Listener], pipeline: str | None, label: str) -> Step:
    """One step more: *heard* are told of each call that leaves *step*."""

    async def guarded(call: Call) -> Any:
        started = PROCESS_CLOCK.now()
        raised: BaseException | None = None
        try:
            return await step(call)
        except BaseException as error:
            raised = error
            raise
        finally:
            at = PROCESS_CLOCK.now()
            event = CallFinished(
                policy=label,
                pipeline=pipeline,
                at=at,
                outcome=outcome_of(raised),
                attempts=call.entered,
                elapsed=at - started,
                error=None if raised is None else type(raised).__name__,
            )
            raised = None  # held by this frame, which its traceback holds
            publish(event, heard)

    return guarded


def attempts_told(step: Step, heard: Iterable[Listener], pipeline: str | None, label: str) -> Step:
    """One step more around the callee: *heard* are told of each attempt."""

    async def guarded(call: Call) -> Any:
        return await _told(lambda: step(call), call.attempt, heard, pipeline, label)

    return guarded


def entries_told(
    heard: Iterable[Listener], pipeline: str | None, label: str
) -> Callable[[Call, Callable[..., Any]], Callable[..., Any]]:
    """For `dress`, on a call that is about to run; *heard* are told of each time its callee is entered."""

    def dressed(call: Call, fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def entered(*args: Any, **kwargs: Any) -> Any:
            return await _told(lambda: fn(*args, **kwargs), call.attempt, heard, pipeline, label)

        return entered

    return dressed


async def _told(
    enter: Callable[[], Awaitable[Any]],
    attempt: int,
    heard: Iterable[Listener],
    pipeline: str | None,
    label: str,
) -> Any:
    started = PROCESS_CLOCK.now()
    raised: BaseException | None = None
    try:
        return await enter()
    except BaseException as error:
        raised = error
        raise
    finally:
        at = PROCESS_CLOCK.now()
        event = AttemptFinished(
            policy=label,
            pipeline=pipeline,
            at=at,
            attempt=attempt,
            outcome=outcome_of(raised),
            elapsed=at - started,
            error=None if raised is None else type(raised).__name__,
        )
        raised = None  # (as above)
        publish(event, heard)
