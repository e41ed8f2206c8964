"""
The ledger of a retry budget against the vectors of the cases and against a naive one, in bare numbers of seconds.
"""

from __future__ import annotations

import random

import pytest

from resilience.core.budget import LEDGER, Ledger, LockedLedger, Slot


@pytest.fixture(params=[Ledger, LockedLedger], ids=["lock-free", "locked"])
def kind(request) -> type[Ledger]:
    return request.param


def succeed(ledger: Ledger, now: float, times: int = 1) -> None:
    """What the path of a call does."""
    for _ in range(times):
        slot = ledger.current
        if slot.successes >= slot.edge:
            slot = ledger.turn(now)
        slot.successes += 1


def spend(ledger: Ledger, now: float) -> bool:
    if not ledger.take(now):
        return False
    ledger.start(now)
    return True


def bought(ledger: Ledger, now: float) -> int:
    """Attempts until it refuses one."""
    count = 0
    while spend(ledger, now):
        count += 1
    return count


def test_nothing_is_bought_with_nothing(kind):
    """BG-001: ratio 1 and no minimum: refused while nothing has succeeded."""
    ledger = kind(1.0, 0.0, 10.0)

    assert not ledger.take(0.0)
    assert (0, 1) == (ledger.asleep, ledger.refused)


def test_what_succeeded_too_long_ago_buys_nothing(kind):
    """BG-002: a success, then a wait beyond the time to live."""
    ledger = kind(1.0, 0.0, 1.0)
    succeed(ledger, 0.0)

    assert not spend(ledger, 1.1)


@pytest.mark.parametrize("at", [0.0, 0.05, 0.099, 0.5, 7.33])
def test_two_successes_at_a_half_buy_one(kind, at):
    """BG-003: ratio 0.5, time to live 1 s: both still count 901 ms later, and then they are used up."""
    ledger = kind(0.5, 0.0, 1.0)
    succeed(ledger, at, 2)

    assert spend(ledger, at + 0.901)
    assert not spend(ledger, at + 0.901)
    succeed(ledger, at + 1.5, 2)
    assert not spend(ledger, at + 1.5), "what was spent counts as long as what it was bought with"
    assert spend(ledger, at + 2.0)


def test_nought_and_nought_is_empty(kind):
    """BG-005: ratio 0 and no minimum buys nothing, ever."""
    ledger = kind(0.0, 0.0, 10.0)
    succeed(ledger, 0.0, 1000)

    assert 0 == bought(ledger, 0.0)


def test_the_minimum_is_free_and_comes_back(kind):
    """BG-006: half an attempt per second is five in any ten seconds, without a success."""
    ledger = kind(0.2, 0.5, 10.0)

    assert 5 == bought(ledger, 3.0)
    assert 0 == bought(ledger, 12.9)
    assert 5 == bought(ledger, 13.1)


@pytest.mark.parametrize(("ratio", "successes"), [(0.1, 10), (0.29, 100), (0.7, 10), (0.2, 5)])
def test_a_share_is_not_lost_to_rounding(kind, ratio, successes):
    """0.29 * 100 is 28.999999999999996 to a computer."""
    ledger = kind(ratio, 0.0, 10.0)
    succeed(ledger, 0.0, successes)

    assert round(ratio * successes) == bought(ledger, 0.0)


def test_who_sleeps_has_paid_however_long(kind):
    """Envoy 30205: an attempt in back-off counts for as long as it sleeps, past any time to live."""
    ledger = kind(0.0, 0.1, 10.0)

    assert ledger.take(0.0)
    assert not ledger.take(59.0)
    ledger.start(60.0)
    assert (0, 0.0) == (ledger.asleep, ledger.room(60.0))
    assert not ledger.take(69.0)
    assert ledger.take(70.1)


def test_what_is_given_back_buys_again(kind):
    """Law 33: an attempt that is never made costs nothing."""
    ledger = kind(0.0, 0.1, 10.0)

    assert ledger.take(0.0)
    ledger.give_back()
    assert ledger.take(0.0)
    assert 1 == ledger.asleep


def test_time_that_runs_backwards_buys_nothing_more(kind):
    """Law 20, H33: nothing dies early, nothing is free again, nothing raises."""
    ledger = kind(1.0, 0.0, 1.0)
    succeed(ledger, 100.0)

    assert spend(ledger, 40.0)
    assert not spend(ledger, -1e9)
    assert not spend(ledger, 100.9)
    succeed(ledger, 50.0)
    assert spend(ledger, 100.95)


@pytest.mark.parametrize("seed", range(30))
def test_it_is_what_a_list_of_instants_says(kind, seed):
    """Against a naive oracle: every success and attempt with its slot, added up at each question."""
    rng = random.Random(seed)
    ratio, free, ttl = rng.choice([0.1, 0.2, 1.0, 3.0]), rng.choice([0.0, 0.3, 2.0]), 10.0
    ledger = kind(ratio, free, ttl)
    now = origin = 5.0
    ledger.counts(now)
    good: list[int] = []
    spent: list[int] = []
    asleep = 0
    for _ in range(600):
        now += rng.choice([0.0, 0.0, 0.01, 0.3, 1.0, 4.0, 25.0])
        slot = int((now - origin) // (ttl / 10))
        match rng.choice(["success", "success", "success", "take", "start", "give back"]):
            case "success":
                succeed(ledger, now)
                good.append(slot)
            case "take":
                alive = [each for each in good if each > slot - 10]
                used = [each for each in spent if each > slot - 10]
                may = len(used) + asleep + 1 <= ratio * len(alive) + free * ttl + 1e-6
                assert may == ledger.take(now)
                asleep += may
            case "start" if asleep:
                ledger.start(now)
                spent.append(slot)
                asleep -= 1
            case "give back" if asleep:
                ledger.give_back()
                asleep -= 1
            case _:
                pass
    alive = [each for each in good if each > slot - 10]
    used = [each for each in spent if each > slot - 10]
    assert (len(alive), len(used)) == ledger.counts(now)
    assert asleep == ledger.asleep


def test_a_busy_slot_reads_the_clock_for_one_in_sixteen():
    """The cost of a success: from the 64th of a slot on most of them are one increment and no look at the clock."""
    ledger, looks = Ledger(1.0, 0.0, 1.0), 0
    for _ in range(64 + 160):
        slot = ledger.current
        if slot.successes >= slot.edge:
            looks += 1
            slot = ledger.turn(0.0)
        slot.successes += 1

    assert 64 + 10 == looks
    assert (224, 0) == ledger.counts(0.0)


def test_after_a_busy_slot_no_more_than_fifteen_count_as_older():
    """What that may cost: a caller is refused a little early, never allowed more."""
    ledger = Ledger(1.0, 0.0, 1.0)
    succeed(ledger, 0.0, 65)

    for number in range(40):
        succeed(ledger, 5.0 + number / 1e6)
    assert 25 <= bought(ledger, 5.1) <= 40


def test_old_slots_are_dropped():
    """Constant memory: ten slots and the one that begins, after any time."""
    ledger = Ledger(1.0, 0.0, 1.0)
    for second in range(1000):
        succeed(ledger, second / 10)

    assert len(ledger._slots) <= 11


def test_the_one_for_this_interpreter():
    """Law 15: without a GIL it is the one with the lock."""
    assert LEDGER in {Ledger, LockedLedger}
    assert Slot(3).number == 3
