"""
Places and the line before them, without a loop: against an oracle that says the same as plainly as it can.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience.core import lines
from resilience.core.lines import Places, locked

KINDS = (Places, locked(Places))


class Waiter:
    """Who waits, and is told."""

    def __init__(self, weight: int = 1, *, gone: bool = False) -> None:
        self.weight = weight
        self.handed: list[None] = []
        self.refused = False
        self.gone = gone
        self.woken = 0

    def wake(self) -> bool:
        self.woken += 1
        return not self.gone


class Naive:
    """A bulkhead as a list: who is in, who waits, nothing kept twice."""

    def __init__(self, limit: int, queue: int) -> None:
        self.limit, self.queue = limit, queue
        self.inside: list[tuple[int, int]] = []
        self.line: list[tuple[int, int]] = []

    @property
    def taken(self) -> int:
        return sum(weight for _, weight in self.inside)

    def ask(self, who: int, weight: int) -> str:
        if not self.line and self.taken + weight <= self.limit:
            self.inside.append((who, weight))
            return "in"
        if weight > self.limit or len(self.line) >= self.queue:
            return "refused"
        self.line.append((who, weight))
        self.serve()
        return "in" if any(who == each for each, _ in self.inside) else "waits"

    def out(self, who: int) -> None:
        self.inside = [each for each in self.inside if each[0] != who]
        self.line = [each for each in self.line if each[0] != who]
        self.serve()

    def change(self, limit: int, queue: int) -> None:
        self.limit, self.queue = limit, queue
        self.line = [each for each in self.line if each[1] <= limit]
        self.serve()

    def serve(self) -> None:
        while self.line and self.taken + self.line[0][1] <= self.limit:
            self.inside.append(self.line.pop(0))


steps = st.one_of(
    st.tuples(st.just("ask"), st.integers(1, 4)),
    st.tuples(st.just("out"), st.integers(0, 40)),
    st.tuples(st.just("change"), st.integers(0, 6), st.integers(0, 5)),
)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(limit=st.integers(0, 5), queue=st.integers(0, 4), plan=st.lists(steps, max_size=60))
def test_places_are_those_of_the_oracle(
    kind: type[Places], limit: int, queue: int, plan: list[tuple[Any, ...]]
) -> None:
    """
    K1 to K8, BH-001 to BH-003: after each step the same are in, the same wait in the same order, the same were refused.
    """
    places, naive = kind(limit, queue), Naive(limit, queue)
    inside: dict[int, int] = {}
    waiters: dict[int, Waiter] = {}
    for number, (what, *args) in enumerate(plan):
        if what == "ask":
            weight = args[0]
            expected = naive.ask(number, weight)
            waiter = Waiter(weight)
            if places.take(weight):
                found = "in"
            elif places.join(waiter):
                places.advance()
                found = "in" if waiter.handed else "waits"
            else:
                found = "refused"
            assert expected == found
            if found == "in":
                inside[number] = weight
            elif found == "waits":
                waiters[number] = waiter
        elif what == "out":
            everyone = [*inside, *waiters]
            if not everyone:
                continue
            who = everyone[args[0] % len(everyone)]
            naive.out(who)
            if who in inside:
                places.give(inside.pop(who))
            else:
                places.leave(waiters.pop(who))
        else:
            naive.change(*args)
            places.change(*args)
        for who, waiter in list(waiters.items()):
            if waiter.handed:
                inside[who] = waiters.pop(who).weight
            elif waiter.refused:
                del waiters[who]
        assert dict(naive.inside) == inside
        assert [who for who, _ in naive.line] == [
            who for each in places for who, waiter in waiters.items() if waiter is each
        ]
        assert (naive.taken, len(naive.line)) == (places.taken, places.waiting)
        assert sum(weight for _, weight in naive.line) == places.queued
    for weight in inside.values():
        places.give(weight)
    for waiter in waiters.values():
        places.leave(waiter)
    assert (0, 0, 0) == (places.taken, places.waiting, places.queued)


def full(queue: int = 10) -> Places:
    places = Places(1, queue)
    assert places.take()
    return places


def test_who_leaves_with_a_place_in_its_hand_passes_it_on() -> None:
    """
    H4, K7, BH-009: a waiter that leaves in the moment in which it is handed a place keeps none.
    """
    places = full()
    first, second = Waiter(), Waiter()
    assert places.join(first)
    assert places.join(second)
    places.give()
    assert first.handed
    places.leave(first)
    assert not first.handed
    assert second.handed
    places.leave(second)
    assert 0 == places.taken


def test_who_leaves_between_the_taking_and_the_handing_over_gets_nothing() -> None:
    """
    H4: another thread may take a waiter out of the line while a place is on its way to it; the place is not lost.
    """
    places = full()

    class Leaving(Waiter):
        def __init__(self) -> None:
            super().__init__()
            self.handed = self  # type: ignore[assignment]  # to act in the moment of the handing over
            self.given = 0

        def append(self, _: None) -> None:
            places.withdraw(self)
            self.given += 1

        def pop(self) -> None:
            self.given -= 1

    leaving, next_one = Leaving(), Waiter()
    assert places.join(leaving)
    assert places.join(next_one)
    places.give()
    assert 0 == leaving.given
    assert next_one.handed
    assert 1 == places.taken


def test_who_is_gone_with_its_loop_is_passed_over() -> None:
    """
    H39: a waiter whose loop is closed is skipped, and gives back nothing a second time when it is collected.
    """
    places = full()
    dead, living = Waiter(gone=True), Waiter()
    places.join(dead)
    places.join(living)
    places.give()
    assert living.handed
    places.leave(dead)
    assert 1 == places.taken


def test_who_is_gone_and_has_left_by_itself_gives_back_once() -> None:
    """
    H39: the closing of the coroutine and the skipping may meet.
    """
    places = full()

    class Closing(Waiter):
        def wake(self) -> bool:
            places.leave(self)
            return False

    closing = Closing()
    places.join(closing)
    places.give()
    assert 0 == places.taken


def test_a_place_given_back_in_the_middle_of_the_handing_out_is_handed_out() -> None:
    """
    K6: a finalizer or a signal handler may give a place back while another is on its way.
    """
    places = Places(2, 10)
    assert places.take(2)

    class Giving(Waiter):
        def wake(self) -> bool:
            places.give()  # as a finalizer would
            return super().wake()

    first, second = Giving(), Waiter()
    places.join(first)
    places.join(second)
    places.give()
    assert first.handed
    assert second.handed
    assert 2 == places.taken


def test_a_place_that_becomes_free_while_another_hands_out_is_not_forgotten() -> None:
    """
    K6, law 15: one thread has the turn and has looked already; another gives a place back and goes.
    """
    looked, given = threading.Event(), threading.Event()

    class Slow(Places):
        def _take_for_first(self, weight: int, now: float) -> bool:
            answer = super()._take_for_first(weight, now)
            if not looked.is_set():
                looked.set()
                assert given.wait(60)
            return answer

    places, waiter = Slow(1, 10), Waiter()
    assert places.take()
    places.join(waiter)
    thread = threading.Thread(target=places.advance)
    thread.start()
    assert looked.wait(60)
    places.give()
    given.set()
    thread.join(60)
    assert waiter.handed


def test_a_heavy_one_that_leaves_no_longer_keeps_the_others() -> None:
    """
    K6: what is too little for the first is enough for the next when the first is gone.
    """
    places = Places(3, 10)
    assert places.take(2)
    heavy, light = Waiter(3), Waiter(1)
    places.join(heavy)
    places.join(light)
    places.advance()
    assert not light.handed
    places.leave(heavy)
    assert light.handed


def test_who_asks_for_more_than_there_will_be_is_sent_away() -> None:
    """
    K8: a limit that is lowered revokes nothing, and refuses those at once who can never be served.
    """
    places = Places(3, 10)
    assert places.take(3)
    heavy, light = Waiter(3), Waiter(1)
    places.join(heavy)
    places.join(light)
    places.change(2, 10)
    assert heavy.refused
    assert heavy.woken
    assert not light.refused
    assert 3 == places.taken
    places.give(2)
    assert light.handed


def test_who_has_left_already_is_not_sent_away() -> None:
    """
    A waiter that is out of the line has its answer.
    """
    places = full()
    waiter = Waiter()
    places.join(waiter)
    places.withdraw(waiter)
    assert not places.send_away(waiter)
    assert not waiter.refused


def test_a_hundred_thousand_wait_at_flat_cost(lines_run_in: Any) -> None:
    """
    K5: in order, at the same number of lines for each of 100 and of 100,000, those who leave in the middle included.
    """

    def work(number: int) -> tuple[float, float]:
        places = full(number)
        waiters = [Waiter() for _ in range(number)]
        order: list[int] = []

        def join() -> None:
            for each in waiters:
                places.join(each)
            for each in waiters[number // 4 : number // 2]:
                places.leave(each)

        def serve() -> None:
            for place, each in enumerate(waiters):
                if number // 4 <= place < number // 2:
                    continue
                places.give()
                assert each.handed
                order.append(place)

        joined = lines_run_in(lines, join) / number
        served = lines_run_in(lines, serve) / number
        assert sorted(order) == order
        assert 1 == places.taken
        return joined, served

    small, large = work(100), work(100_000)
    assert large[0] == pytest.approx(small[0], rel=0.05)
    assert large[1] == pytest.approx(small[1], rel=0.05)
