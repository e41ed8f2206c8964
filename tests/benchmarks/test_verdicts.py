"""
The table of verdicts: ours are all right, the committed table is what a run gives, and no situation judges blindly.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest

from benchmarks.report import found_version
from benchmarks.rivals import OURS, RIVALS, Adapter, Breaker, Settings
from benchmarks.verdicts import verdicts_of
from benchmarks.verdicts.clocks import Time
from benchmarks.verdicts.situations import SITUATIONS, SKIPPED, judged

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "benchmarks" / "results" / "verdicts.md"


def test_ours_is_right_in_every_situation():
    """
    Laws 2, 6, 8, 9, 11, 12, 15, 17 and 20 hold under load, for each way of counting.
    """
    found = verdicts_of(OURS)["verdicts"]

    assert {each.name: ["right", "right"] for each in SITUATIONS} == found


def _committed() -> dict[str, dict[str, str]]:
    """Library -> situation -> cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in COMMITTED.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    head, _, *body = rows
    return {
        name: {row[0]: row[column] for row in body} for column, name in enumerate(head) if column
    }


@pytest.mark.parametrize("rival", [OURS, *RIVALS], ids=lambda rival: rival.name)
def test_the_committed_table_is_what_a_run_gives(rival):
    """
    Each column of ``benchmarks/results/verdicts.md`` comes out again, where that version is installed.
    """
    if rival is not OURS and found_version(rival.distribution) != rival.version:
        pytest.skip(f"{rival.name} {rival.version} is not installed")
    answer = verdicts_of(rival)
    text = COMMITTED.read_text(encoding="utf-8")
    if answer["missing"] is not None:
        assert f"{rival.name} {rival.version}: {answer['missing']}" in text
        return
    version = "this tree" if rival is OURS else rival.version
    column = _committed()[f"{rival.name} ({version})"]

    assert {
        each.title: did if verdict != "wrong" else f"**{did}**"
        for each in SITUATIONS
        for verdict, did in [answer["verdicts"][each.name]]
    } == {title: cell for title, cell in column.items() if title != "right of judged"}


def test_every_definition_stands_under_the_committed_table():
    """
    A verdict is worth what its definition says: each is there, word for word.
    """
    text = COMMITTED.read_text(encoding="utf-8")

    assert [] == [each.name for each in SITUATIONS if each.definition not in text]


class _RejectedError(Exception):
    pass


class Believing(Breaker):
    """
    A breaker with the faults of its age: every end of every call is a vote, in whatever state it arrives.

    It reads the wall clock, limits no probe, takes a cancellation for a success, and lets its listener raise.
    """

    def __init__(self, settings: Settings, clocks: Time, listener: object) -> None:
        self.settings = settings
        self.clocks = clocks
        self.listener = listener
        self.is_open = self.probing = False
        self.count = self.good = 0
        self.until = 0.0

    def wrap(self, fn):
        async def guarded(*args, **kwargs):
            self.enter()
            try:
                result = await fn(*args, **kwargs)
            except ConnectionError:
                self.failed()
                raise
            except BaseException:
                self.succeeded()
                raise
            self.succeeded()
            return result

        return guarded

    def enter(self) -> None:
        if self.is_open:
            if self.clocks.wall() < self.until:
                raise _RejectedError
            self.is_open, self.probing = False, True

    def failed(self) -> None:
        count = self.count + 1
        time.sleep(0)  # between reading and writing: where threads lose counts
        self.count = count
        if self.probing or self.count >= self.settings.failures:
            self.is_open, self.probing = True, False
            self.until = self.clocks.wall() + self.settings.break_seconds
            self.good = 0
        self.tell()

    def succeeded(self) -> None:
        self.good += 1
        if not self.probing or self.good >= self.settings.successes:
            self.is_open = self.probing = False
            self.count = self.good = 0
        self.tell()

    def tell(self) -> None:
        if self.listener:
            self.listener("event")

    def state(self) -> str:
        return "open" if self.is_open else "half-open" if self.probing else "closed"

    def failures(self) -> int:
        return self.count


class Clinging(Believing):
    """One probe, whose place is given back by a failure or a success only; a cancelled call is a failure."""

    busy = 0

    def enter(self) -> None:
        super().enter()
        if self.probing:
            if self.busy >= self.settings.probes:
                raise _RejectedError
            self.busy += 1

    def failed(self) -> None:
        super().failed()
        self.busy = 0

    def succeeded(self) -> None:
        super().succeeded()
        self.busy = 0

    def wrap(self, fn):
        async def guarded(*args, **kwargs):
            self.enter()
            try:
                result = await fn(*args, **kwargs)
            except ConnectionError:
                self.failed()
                raise
            except asyncio.CancelledError:
                if not self.probing:
                    self.failed()
                raise
            except ValueError:
                raise  # its place is never given back
            self.succeeded()
            return result

        return guarded


class _Naive(Adapter):
    rejected = (_RejectedError,)
    kinds = ("consecutive",)

    def __init__(self, made: type[Believing]) -> None:
        self.made = made
        self.clocks = Time()

    def breaker(self, settings, listener=None):
        return self.made(settings, self.clocks, listener)


def test_a_breaker_that_believes_everything_is_wrong_nearly_everywhere():
    """
    No situation is passed by accident: each says what the naive breaker did in it.
    """
    adapter = _Naive(Believing)

    assert {
        "racing_callers": ["wrong", "admits 1,000"],
        "cancelled_probe": ["wrong", "closes"],
        "ignored_probe": ["wrong", "closes"],
        "cancelled_calls": ["wrong", "counts them as successes: forgets the failures"],
        "stale_success_open": ["wrong", "closes"],
        "stale_success_half_open": ["wrong", "closes"],
        "stale_failure_half_open": ["wrong", "opens again"],
        "stale_failures_recovered": ["wrong", "opens"],
        "stale_probe_succeeds": ["wrong", "counts it: closes one success early"],
        "stale_probe_fails": ["wrong", "opens again"],
        "raising_listener": ["wrong", "its error replaces the call's own"],
        "clock_set_back": ["wrong", "stays open an hour longer"],
        "hung_probe": ["right", "right"],
        "exact_counts": ["wrong", "loses failures"],
    } == judged(adapter, adapter.clocks)


def test_a_breaker_that_clings_to_its_probe_is_told_so():
    """
    A place that is never given back, and cancellations that count as failures, have their own words.
    """
    adapter = _Naive(Clinging)
    found = judged(adapter, adapter.clocks)

    assert ["right", "right"] == found["racing_callers"]
    assert ["wrong", "the place is lost, for ever half-open"] == found["cancelled_probe"]
    assert ["wrong", "the place is lost, for ever half-open"] == found["ignored_probe"]
    assert ["wrong", "counts them as failures: opens"] == found["cancelled_calls"]
    assert ["wrong", "rejects for ever"] == found["hung_probe"]


def test_what_a_breaker_has_no_setting_for_is_not_held_against_it():
    """
    Without listeners and without errors to ignore, two situations are skipped, with the reason.
    """
    adapter = _Naive(Believing)
    adapter.ignores = adapter.listens = False
    found = judged(adapter, adapter.clocks)

    assert [SKIPPED, "- (cannot ignore an error)"] == found["ignored_probe"]
    assert [SKIPPED, "- (no listeners)"] == found["raising_listener"]


def test_the_clocks_of_a_worker_are_virtual_for_everything():
    """
    Whoever reads a clock in a worker, bound to a name early or late, reads the one that situations move.
    """
    code = (
        "from benchmarks.verdicts.clocks import install\n"
        "clocks = install()\n"
        "import time; from time import monotonic; from datetime import datetime, timedelta\n"
        "before = datetime.utcnow(), datetime.now(), time.time()\n"
        "clocks.step -= 3600\n"
        "after = datetime.utcnow(), datetime.now(), time.time()\n"
        "print(monotonic(), *[(a - b) / timedelta(seconds=1) if isinstance(a, datetime) else a - b\n"
        "      for a, b in zip(after, before)])\n"
    )
    assert "1000.0 -3600.0 -3600.0 -3600.0" == _run(code)


def _run(code: str) -> str:
    import subprocess  # noqa: PLC0415 - of this test only
    import sys  # noqa: PLC0415 - (as above)

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"\s+", " ", done.stdout.strip())
