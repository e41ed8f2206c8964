"""
The circuit as the laws tell it, as slowly and as plainly as it can be: lists, counted again at every question.

Nothing here is taken from `resilience.core.circuit`. Time only goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from resilience.core.windows import Counts
from tests.core import naive

CLOSED, OPEN, HALF_OPEN = "CLOSED", "OPEN", "HALF_OPEN"
ISOLATED, DISABLED, OBSERVING = "ISOLATED", "DISABLED", "OBSERVING"
COUNTING = (CLOSED, OBSERVING)
SUCCESS, FAILURE, IGNORED = "SUCCESS", "FAILURE", "IGNORED"


@dataclass(eq=False)
class Pass:
    """
    A permit. ``number`` is its generation's, or None if whatever comes of it counts nowhere.

    ``entry``: what was recorded of it while it still ran. ``told``: thresholds at which that was done.
    """

    number: int | None
    started: float
    owner: object = None
    settled: bool = False
    entry: naive.Entry | None = None
    told: set[float] = field(default_factory=set)


@dataclass(frozen=True)
class No:
    """A refusal."""

    state: str
    retry_after: float | None


@dataclass
class Reference:
    """One circuit. ``spec`` is its trip, ``break_after`` the seconds of the n-th consecutive opening."""

    spec: naive.Spec
    break_after: Callable[[int], float]
    probes: int
    successes_to_close: int
    probe_lease: float
    overdue_after: float | None

    def __post_init__(self) -> None:
        self.state = CLOSED
        self.number = 1
        self.mode = CLOSED
        self.handles: set[int] = set()
        self.opening = 0
        self.until = math.inf
        self.history = naive.History(0.0)
        self.running: list[Pass] = []  # calls of this generation, in the order in which they began
        self.good = 0
        self.crossed = False
        self.totals = dict.fromkeys(
            ("successes", "failures", "ignored", "slow", "rejected", "openings"), 0
        )
        self.news: list[tuple[str, str, int, str, float]] = []
        self.crossings: list[tuple[int, int]] = []
        slow = naive.thresholds(self.spec)
        late = set() if self.overdue_after is None else {self.overdue_after}
        self.slow_after = min(slow, default=math.inf)
        self.thresholds = sorted(slow | late)

    # What callers do.

    def admit(self, now: float, owner: object = None) -> Pass | No:
        if self.state in COUNTING and self._find_overdue(now):
            self._judge(now)
        if self.state == HALF_OPEN:
            self._find_lapsed(now, self.running)
        if self.state == OPEN and now >= self.until:
            self._become(HALF_OPEN, "break over", now)
        match self.state:
            case "CLOSED" | "OBSERVING":
                permit = Pass(self.number, now)
            case "DISABLED":
                return Pass(None, now)
            case "ISOLATED":
                return self._no(None)
            case "OPEN":
                return self._no(self.until - now)
            case _:
                if owner is not None and any(each.owner == owner for each in self.running):
                    return Pass(None, now)
                if len(self.running) == self.probes:
                    return self._no(None)
                permit = Pass(self.number, now, owner)
        self.running.append(permit)
        return permit

    def settle(self, permit: Pass, verdict: str, now: float) -> None:
        if permit.settled or permit.number is None:
            return
        permit.settled = True
        ran = now - permit.started
        self.totals[{SUCCESS: "successes", FAILURE: "failures", IGNORED: "ignored"}[verdict]] += 1
        if verdict != IGNORED and ran >= self.slow_after:
            self.totals["slow"] += 1
        if permit.number != self.number:
            return
        if self.state in COUNTING:
            self._settle_counted(permit, verdict, now, ran)
        else:
            self._settle_probe(permit, verdict, now, ran)

    def _settle_counted(self, permit: Pass, verdict: str, now: float, ran: float) -> None:
        self.running.remove(permit)
        if permit.entry is not None:
            permit.entry.gone = True
        if self._find_overdue(now):
            self._judge(now)
            if permit.number != self.number:
                return
        judge = False
        if verdict != IGNORED:
            self.history.add(
                now, failed=verdict == FAILURE, duration=ran, success=verdict == SUCCESS
            )
            # Law 17: the outcome success opens nothing; a failure, a slow call or an overdue one may.
            judge = verdict == FAILURE or ran >= self.slow_after
        if judge:
            self._judge(now)

    def _settle_probe(self, permit: Pass, verdict: str, now: float, ran: float) -> None:
        others = [each for each in self.running if each is not permit]
        late = [permit] if ran >= self.probe_lease else []
        if self._find_lapsed(now, others + late):
            return
        self.running.remove(permit)
        too_slow = ran >= min([self.slow_after, *self.thresholds])
        if verdict == FAILURE:
            self._open(now, "probe failed")
        elif verdict == SUCCESS and too_slow:
            self._open(now, "probe slow")
        elif verdict == SUCCESS:
            self.good += 1
            if self.good >= self.successes_to_close:
                self._become(CLOSED, "probes succeeded", now)

    # What is found out on the way.

    def _find_overdue(self, now: float) -> bool:
        """Law 18: calls that run too long count while they run."""
        found = False
        for threshold in self.thresholds:
            for permit in self.running:
                if now - permit.started < threshold or threshold in permit.told:
                    continue
                permit.told.add(threshold)
                if permit.entry is not None:
                    permit.entry.gone = True
                failed = self.overdue_after is not None and threshold >= self.overdue_after
                permit.entry = self.history.add(now, failed=failed, duration=threshold)
                found = True
        return found

    def _find_lapsed(self, now: float, probes: list[Pass]) -> bool:
        """Laws 11, 12 and 18: a probe whose lease is over failed then; one that is slow or overdue fails now."""
        ends = [each.started + self.probe_lease for each in probes]
        if any(now - each.started >= self.probe_lease for each in probes):
            self._open(min(ends), "probe lease over")
            return True
        if any(
            now - each.started >= each_limit for each in probes for each_limit in self.thresholds
        ):
            self._open(now, "probe slow")
            return True
        return False

    def _judge(self, now: float) -> None:
        if not naive.holds(self.spec, self.history, now):
            self.crossed = False
        elif self.state == CLOSED:
            self._open(now, "tripped")
        elif not self.crossed:
            self.crossed = True
            failures, slow = self.counts(now)
            self.crossings.append((failures.hits, slow.hits))

    def _no(self, retry_after: float | None) -> No:
        self.totals["rejected"] += 1
        return No(self.state, retry_after)

    # Where it goes.

    def _open(self, since: float, reason: str) -> None:
        opening = self.opening + 1 if self.state == HALF_OPEN else 1
        self.totals["openings"] += 1
        self._become(OPEN, reason, since)
        self.opening = opening
        self.until = since + self.break_after(opening)

    def _become(self, state: str, reason: str, now: float) -> None:
        old, self.state = self.state, state
        self.number += 1
        self.history = naive.History(now)
        self.running = []
        self.good = 0
        self.crossed = False
        if old != state:
            self.news.append((old, state, self.number, reason, now))

    # By hand.

    def isolate(self, handle: int, now: float) -> None:
        self.handles.add(handle)
        if self.state != ISOLATED:
            self._become(ISOLATED, "by hand", now)

    def release(self, handle: int, now: float) -> None:
        held = handle in self.handles
        self.handles.discard(handle)
        if held and not self.handles and self.state == ISOLATED:
            self._become(self.mode, "by hand", now)

    def switch(self, mode: str, now: float) -> None:
        self.mode = mode
        if self.state not in (mode, ISOLATED):
            self._become(mode, "by hand", now)

    def reset(self, now: float) -> None:
        self.mode = CLOSED
        self.handles.clear()
        self._become(CLOSED, "by hand", now)

    # To be read.

    def retry_after(self, now: float) -> float | None:
        return max(0.0, self.until - now) if self.state == OPEN else None

    def counts(self, now: float) -> tuple[Counts, Counts]:
        if self.state not in COUNTING:
            return Counts(0, 0), Counts(0, 0)
        failures, slow = naive.shown(self.spec, self.history, now)
        if failures is None:
            outcomes = [
                each
                for each in self.history.entries
                if not each.gone and (each.failed or each.success)
            ]
            failures = Counts(len(outcomes), sum(each.failed for each in outcomes))
        return failures, slow or Counts(failures.calls, 0)

    def known(self, now: float) -> dict[str, Any]:
        """Everything an onlooker can see."""
        return {
            "state": self.state,
            "number": self.number,
            "retry_after": self.retry_after(now),
            "counts": self.counts(now),
            "totals": self.totals,
            "news": self.news,
            "crossings": self.crossings,
        }
