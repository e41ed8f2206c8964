"""
Issue 4.1, hazard H48: one guard per key, bounded in number, that never forgets one that is open or in use.
"""

from __future__ import annotations

import gc
import itertools
import threading
import tracemalloc

import anyio
import pytest

from resilience import (
    CircuitBreaker,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    Pipeline,
    Timeout,
)
from resilience.registry import Registry
from resilience.registry.families import OTHERS, label_of
from resilience.testing import Script, Wait
from tests.composition.support import timed
from tests.laws.breaker.kit import open_up

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    return f"family-{next(_numbers)}"


@pytest.fixture
def hosts(name, clock):
    """At most four breakers, each of which opens at the first failure."""
    return Registry().family(
        name,
        on=OSError,
        trip=ConsecutiveFailures(1),
        break_duration=10,
        clock=clock,
        max_keys=4,
    )


def test_one_per_key(hosts, name):
    """
    The same key is the same breaker, with the options of the family and a name of its own.
    """
    assert hosts["a"] is hosts["a"]
    assert hosts["a"] is not hosts["b"]
    assert f"{name}[a]" == hosts["a"].name
    assert ["a", "b"] == list(hosts)
    assert (2, True, False) == (len(hosts), "a" in hosts, "c" in hosts)
    assert hosts.peek("c") is None
    assert hosts["b"] is hosts.peek("b")
    assert "2 of at most 4" in repr(hosts)


def test_the_least_recently_used_goes(hosts):
    """
    Bounded: the fifth takes the place of the one that nobody asked for.
    """
    for key in "abcd":
        assert hosts[key]
    for key in "acd":
        assert hosts[key]
    assert hosts["e"]

    assert 4 == len(hosts)
    assert "b" not in hosts


def test_an_open_one_is_never_forgotten(hosts):
    """
    H48: a thousand new keys do not flush an open circuit out.
    """
    bad = open_up(hosts["bad"])
    isolated = hosts["isolated"]
    isolated.isolate()
    for number in range(1000):
        assert hosts[number]

    assert bad is hosts["bad"]
    assert isolated is hosts["isolated"]
    assert CircuitState.OPEN is hosts["bad"].state
    assert 4 == len(hosts)


def test_where_all_are_open_new_keys_share_one(hosts, name):
    """
    H48: neither unbounded nor forgetful; the shared one is shown under its own key.
    """
    bad = [open_up(hosts[key]) for key in "abcd"]
    shared = hosts["e"]

    assert shared is hosts["f"]
    assert f"{name}[{OTHERS}]" == shared.name
    assert bad == [hosts[key] for key in "abcd"]
    assert [*"abcd", OTHERS] == sorted(dict(hosts.items()), key=str.__len__)
    bad[0].reset()
    assert hosts["e"] is not shared
    assert "a" not in hosts


def test_when_its_break_is_over_an_open_one_may_go_in_its_turn(hosts, clock):
    """
    A family is not clogged for good by hosts that nobody asks for any more; what is closed goes first.
    """
    for key in ("a", "b", "d"):
        open_up(hosts[key])
    assert hosts["c"]
    clock.advance(10)
    for key, left in [("e", "abde"), ("f", "bdef"), ("g", "defg")]:
        assert hosts[key]
        assert set(left) == set(hosts)


async def test_one_in_use_is_found_again(backend, unit, hosts):
    """
    A call in flight, a wrapped function, a pipeline: while one of them is there, its breaker is not forgotten.
    """
    slow = Script(Wait(2 * unit, OSError))
    call = Pipeline(hosts["used"], Timeout(50 * unit)).wrap(slow)
    async with anyio.create_task_group() as group:
        group.start_soon(timed, call())
        await anyio.sleep(unit)
        for number in range(10):
            assert hosts[number]
        assert "used" not in hosts
        again = hosts["used"]
        assert again.trip == ConsecutiveFailures(1)

    # The failure of the call that began before fell on the same circuit.
    assert CircuitState.OPEN is again.state
    assert again is hosts["used"]


def test_one_that_is_held_is_the_same_object(hosts):
    """
    Issue 4.1: same name, same object; nobody holds it: it is gone.
    """
    held = hosts["held"]
    for number in range(10):
        assert hosts[number]
    assert held is hosts["held"]
    held_id = held.generation
    held._core.circuit.totals.failures += 7
    del held
    for number in range(20, 30):
        assert hosts[number]
    gc.collect()
    assert 0 == hosts["held"].snapshot().totals.failures
    assert 1 == held_id
    assert 4 >= len(hosts._faded)


def test_one_that_is_held_while_all_places_are_taken(hosts):
    """
    It cannot be kept, and is still the one of its key.
    """
    held = hosts["held"]
    for key in "abcd":
        assert hosts[key]
    assert "held" not in hosts
    for key in "abcd":
        open_up(hosts[key])

    assert held is hosts["held"]
    assert "held" not in hosts


def test_memory_is_bounded(name):
    """
    H48, G6: a hundred thousand keys cost what a hundred do.
    """
    family = Registry().family(name, on=OSError, max_keys=100)
    held = []
    tracemalloc.start()
    try:
        for keys in (1000, 20_000):
            for number in range(keys):
                assert family[f"host-{number}"]
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()

    assert 100 == len(family)
    assert held[1] < 1.2 * held[0]


async def test_pipelines_per_key(backend, name):
    """
    A function builds them; each is live, and what is wrapped finds the same pipeline again.
    """
    registry = Registry()

    def build(host: str) -> Pipeline:
        return Pipeline(
            CircuitBreaker(f"{name} {host}", on=OSError, trip=ConsecutiveFailures(1)), Timeout(5)
        )

    family = registry.family(name, build, max_keys=2)
    call = family["a"].wrap(Script(OSError))
    await timed(call())
    for key in "bcd":
        assert family[key]
    assert "a" in family, "its breaker is open"
    family["a"].policies[0].reset()
    for key in "efg":
        assert family[key]
    assert "a" not in family
    again = family["a"]
    await timed(call())
    assert CircuitState.OPEN is again.policies[0].state
    assert family is registry.family(name, build, max_keys=2)
    assert f"{name}[a]" == again.name


def test_a_builder_that_fails(name):
    """
    RG-001: its error surfaces, nothing is kept, and the next one who asks builds anew.
    """
    answers = iter([OSError("no"), 5, Timeout(1)])

    def build(_: object) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    family = Registry().family(name, build)
    with pytest.raises(OSError, match="no"):
        assert family["a"]
    with pytest.raises(ConfigurationError, match="makes a policy or a pipeline"):
        assert family["a"]
    assert Timeout(1) == family["a"]


def test_a_function_or_options(name):
    """
    Not both, and options are checked when the family is made, not at the first key.
    """
    with pytest.raises(ConfigurationError, match="one of the two"):
        Registry().family(name, lambda key: Timeout(1), on=OSError)
    with pytest.raises(ConfigurationError, match=r"CircuitBreaker\.probes"):
        Registry().family(name, on=OSError, probes=-1)


def test_made_in_a_mode_they_may_go_in_it(name):
    """
    Breakers that were built to observe are no decision of somebody's about one of them.
    """

    def build(key: object) -> CircuitBreaker:
        breaker = CircuitBreaker(f"{name} {key}", on=OSError)
        breaker.observe()
        return breaker

    family = Registry().family(name, build, max_keys=2)
    for key in "abc":
        assert CircuitState.OBSERVING is family[key].state
    assert "a" not in family
    family["c"].disable()
    for key in "defg":
        assert family[key]
    assert "c" in family


def test_forgotten_on_request(hosts):
    """
    `discard` lets go whatever the state.
    """
    bad = open_up(hosts["bad"])
    hosts.discard("bad")
    hosts.discard("bad")
    assert "bad" not in hosts
    del bad
    assert CircuitState.CLOSED is hosts["bad"].state


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("api.example.org", "f[api.example.org]"),
        (("a", 443), "f[('a', 443)]"),
        (7, "f[7]"),
    ],
)
def test_a_readable_label(key, label):
    """
    What users see in logs and metrics.
    """
    assert label == label_of("f", key)


def test_a_hostile_key_makes_a_short_printable_label():
    """
    H48: a key from outside is cut at 128 characters, and different ones stay different.
    """
    labels = {label_of("f" * 300, "x" * 5000 + end) for end in "ab"} | {
        label_of("f", "a\nb"), label_of("f", "a?b"), label_of("f", "\ud800")
    }  # fmt: skip

    assert 5 == len(labels)
    assert all(len(label) <= 256 and label.isprintable() for label in labels)


def test_one_build_per_key_under_concurrency(name):
    """
    RG-001: many threads, few keys, each built once.
    """
    built = []

    def build(key: object) -> Timeout:
        built.append(key)
        return Timeout(1)

    family = Registry().family(name, build, max_keys=50)
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait(30)
        for number in range(200):
            assert family[number % 40]

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(built) == list(range(40))


def test_a_permit_by_hand_keeps_its_circuit(hosts):
    """
    Law 8: nobody holds the breaker, but a permit of it is out; its failure falls on the circuit that is found again.
    """
    permit = hosts["used"].admit()
    for number in range(10):
        assert hosts[number]
    assert "used" not in hosts
    again = hosts["used"]
    permit.failure(OSError())

    assert CircuitState.OPEN is again.state
    assert again.trip == ConsecutiveFailures(1)
    assert again is hosts["used"]
