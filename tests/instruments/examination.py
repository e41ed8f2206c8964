"""
Every planted fault, and what finds it.

A fault that nothing finds means that the instruments see less than they should.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator

import attrs

from resilience.core.circuit import Circuit
from resilience.core.lines import Places
from resilience.testing import engine
from tests.instruments import cancellation, laws, model, threads
from tests.instruments.faults import Fault, faults

__all__ = ["DETECTORS", "Finding", "examine", "examine_all", "silent"]

_PATIENCE = 20  # seconds a detector may take under a fault that makes it wait for ever


def _model() -> str:
    for world, shape in model.QUICK:
        found = model.explore(shape, world, limit=5_000).verdict
        if found:
            return found
    return ""


_PLACES = cancellation.scenarios(
    [
        *((kind,) for kind in cancellation.KINDS),
        ("Timeout", "CircuitBreaker (half-open)"),
        ("Timeout (fires)", "Retry"),
        ("Retry", "CircuitBreaker (half-open)"),
        ("CircuitBreaker (watching)", "Timeout (fires)"),
        ("deadline", "Timeout"),
    ],
    ["call", "stream(hold)"],
)


def _cancellation() -> str:
    return cancellation.sweep(_PLACES, stop_at=1).verdict


def _laws() -> str:
    return ", ".join(laws.broken_laws())


def _threads() -> str:
    # The faults are planted in the linked steps; the lane would go by most of them.
    with engine("linked"):
        for measured in (
            threads.measure(threads.admissions, Circuit, openings=10, asks=50),
            threads.measure(threads.counts, Circuit, "a count window", calls=40),
            threads.measure(threads.places, Places, calls=30),
        ):
            if measured.lost:
                return measured.lost[0]
    return ""


DETECTORS: dict[str, Callable[[], str]] = {
    "model check": _model,
    "cancellation": _cancellation,
    "laws": _laws,
    "threads": _threads,
}
"""What each says of the code as it is: nothing, or what is wrong."""


@attrs.define
class Finding:
    """What was found of one fault: by detector, in its words."""

    fault: Fault
    by: dict[str, str] = attrs.field(factory=dict)
    seconds: float = 0.0


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Interrupt a detector that waits for ever, where that can be done: in the main thread of a Unix."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def interrupt(_: int, __: types.FrameType | None) -> None:
        raise TimeoutError(f"no end within {_PATIENCE} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _asked(detector: Callable[[], str]) -> str:
    try:
        with _patience():
            return detector()
    except Exception as error:  # noqa: BLE001 - a fault may break anything, and that is a finding
        return f"{type(error).__name__}: {error}"


# Threads meet by chance, and on a busy machine seldom: where nobody has found anything, all are asked again.
_ROUNDS = 6


def examine(fault: Fault) -> Finding:
    """Plant *fault* and ask all detectors."""
    began = time.perf_counter()
    finding = Finding(fault)
    with fault.planted():
        for _ in range(_ROUNDS):
            for name, detector in DETECTORS.items():
                said = _asked(detector)
                if said:
                    finding.by[name] = said
            if finding.by:
                break
    finding.seconds = time.perf_counter() - began
    return finding


def examine_all() -> Iterator[Finding]:
    """All faults, one after the other."""
    return map(examine, faults())


def silent() -> dict[str, str]:
    """What the detectors say of the code without a fault; nothing, or they prove nothing."""
    return {name: said for name, detector in DETECTORS.items() if (said := _asked(detector))}
