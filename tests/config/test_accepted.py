"""
Every spelling an option takes, and what becomes of it.
"""

from __future__ import annotations

import enum
import itertools
import operator
import random
import time
from datetime import timedelta
from fractions import Fraction
from functools import partial
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
import tenacity

from resilience import (
    CircuitBreaker,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    FullJitter,
    Pipeline,
    Retry,
    SlowRate,
    Timeout,
    TimeWindow,
)
from resilience.events import CallFinished, Event, TimedOut
from resilience.testing import ManualClock, Recorder

_names = itertools.count(1)


def breaker(**options: Any) -> CircuitBreaker:
    return CircuitBreaker(f"accepted-{next(_names)}", **({"on": OSError} | options))


class Tick(enum.IntEnum):
    """A number with a name."""

    TWO = 2
    THREE = 3


class Metres(float):
    """A float of some library's own, as numpy's are."""


@pytest.mark.parametrize(
    "two",
    [2, 2.0, timedelta(seconds=2), Tick.TWO, Metres(2)],
    ids=["int", "float", "timedelta", "int of a kind", "float of a kind"],
)
def test_a_duration_in_every_spelling_is_a_float_of_seconds(two):
    """Api: all durations are float seconds or timedelta, converted at the door."""
    found = [
        Timeout(two).seconds,
        Retry(on=OSError, max_delay=two).max_delay,
        breaker(break_duration=two).break_duration,
        breaker(probe_lease=two).probe_lease,
        breaker(overdue_after=two).overdue_after,
        TimeWindow(two).seconds,
        SlowRate(0.5, two).slower_than,
        FullJitter(two).initial,
        FullJitter(cap=two).cap,
    ]

    assert [2.0] * len(found) == found
    assert {float} == set(map(type, found))


@pytest.mark.parametrize("seconds", [5e-324, 1e-9, 1e9, timedelta.max, 1.7e308], ids=repr)
def test_a_duration_has_no_limit_but_zero_and_infinity(seconds):
    """Law 21: what is finite and above zero is taken, however odd."""
    assert Timeout(seconds).seconds > 0


@pytest.mark.parametrize("seconds", [0, 0.0, timedelta(0)], ids=repr)
def test_a_wait_may_be_nothing(seconds):
    """Of all durations only the waits of `FullJitter` may be zero."""
    assert 0.0 == FullJitter(seconds, seconds).bound(9)


@pytest.mark.parametrize("number", [Fraction(1, 2), "0.5", 1j], ids=repr)
def test_a_number_of_another_kind_is_not_guessed_at(number):
    """Law 21: text and exotic numbers are refused, not converted."""
    with pytest.raises(ConfigurationError):
        Timeout(number)


@pytest.mark.parametrize("three", [3, Tick.THREE], ids=repr)
def test_counts(three):
    """Whole numbers, in every field that counts."""
    assert 3 == Retry(three, on=OSError).attempts
    assert 3 == breaker(probes=three).probes
    assert 3 == breaker(successes_to_close=three).successes_to_close
    assert 3 == ConsecutiveFailures(three).n
    assert 3 == CountWindow(three).calls
    assert 3 == TimeWindow(1, buckets=three).buckets
    assert 3 == FailureRate(minimum_calls=three).minimum_calls


@pytest.mark.parametrize("ratio", [1, 1.0, 0.5, 5e-324, Metres(0.25)], ids=repr)
def test_ratios(ratio):
    """A share in (0, 1], its upper end included."""
    assert ratio == FailureRate(ratio).ratio == SlowRate(ratio, 1).ratio


@pytest.mark.parametrize("minimum", [1, 5])
def test_minimum_calls_up_to_the_window(minimum):
    """A count window may be asked for as many calls as it holds."""
    assert minimum == FailureRate(1, CountWindow(5), minimum_calls=minimum).minimum_calls


def test_buckets_of_a_microsecond():
    """The narrowest that clocks tell apart."""
    assert 1000 == TimeWindow(0.001, buckets=1000).buckets


FILTERS: list[Any] = [
    OSError,
    Exception,
    (OSError,),
    (OSError, ValueError),
    lambda error: True,
    partial(operator.is_, None),
    Mock(return_value=True),
    MagicMock(return_value=True),
    tenacity.retry_if_exception_type(OSError),
    tenacity.retry_if_exception_type(OSError) | tenacity.retry_if_exception_message("x"),
    tenacity.retry_if_exception(bool),
]


@pytest.mark.parametrize("on", FILTERS, ids=range(len(FILTERS)))
def test_what_counts_as_a_failure(on):
    """Api: exception types, a predicate, or a tenacity ``retry_if_*`` object."""
    assert on is Retry(on=on).on
    assert on is breaker(on=on).on
    assert on is breaker(ignore=on).ignore


async def _later(_: object) -> bool:
    return True


@pytest.mark.parametrize(
    "on",
    [
        _later,
        partial(_later),
        tenacity.asyncio.retry_if_exception(_later),
        tenacity.asyncio.retry_if_exception(_later) | tenacity.retry_if_exception_type(OSError),
    ],
    ids=["function", "partial", "tenacity's", "among others"],
)
def test_an_async_predicate_is_for_retries_only(on):
    """Law 10: a breaker settles synchronously; law 28: a retry takes async predicates as tenacity does."""
    assert on is Retry(on=on).on
    with pytest.raises(ConfigurationError, match=r"CircuitBreaker.on must be .*none of them async"):
        breaker(on=on)
    with pytest.raises(
        ConfigurationError, match=r"CircuitBreaker.ignore must be .*none of them async"
    ):
        breaker(ignore=on)


def test_results_alone_may_be_what_fails():
    """``on=()`` is nothing by itself, and enough with ``on_result``."""
    assert () == Retry(on=(), on_result=operator.not_).on
    assert () == breaker(on=(), on_result=operator.not_).on
    assert _later is Retry(on=(), on_result=_later).on_result


@pytest.mark.parametrize(
    "wait",
    [
        FullJitter(1, 2),
        tenacity.wait_fixed(1),
        tenacity.wait_fixed(1) + tenacity.wait_random(0, 1),
        lambda state: 1,
        _later,
    ],
    ids=["ours", "tenacity's", "a sum", "a function", "an async one"],
)
def test_waits(wait):
    """Law 28: tenacity's ``wait_*`` objects, sums of them and plain callables."""
    assert wait is Retry(on=OSError, wait=wait).wait


@pytest.mark.parametrize(
    "stop",
    [
        None,
        tenacity.stop_after_attempt(1),
        tenacity.stop_after_attempt(1) & tenacity.stop_after_delay(1),
        lambda state: True,
        _later,
    ],
    ids=["none", "tenacity's", "joined", "a function", "an async one"],
)
def test_stops(stop):
    """Law 28: tenacity's ``stop_*`` objects, joined, and plain callables."""
    assert stop is Retry(on=OSError, stop=stop).stop


def test_attempts_are_three_unless_something_else_stops():
    """Law 23: with ``stop`` and without ``attempts`` there is no limit of the retry's own."""
    assert 3 == Retry(on=OSError).attempts
    assert None is Retry(on=OSError, stop=tenacity.stop_after_attempt(9)).attempts
    assert 2 == Retry(2, on=OSError, stop=tenacity.stop_after_attempt(9)).attempts


@pytest.mark.parametrize(
    "duration", [lambda opening: 1.0, FullJitter(1, 2), tenacity.wait_fixed(1)]
)
def test_break_durations_that_are_drawn(duration):
    """Api: seconds, or a tenacity wait strategy, or a callable of the number of the opening."""
    assert duration is breaker(break_duration=duration).break_duration


@pytest.mark.parametrize(
    "retry_after", [True, False, float, lambda error: 1], ids=["yes", "no", "class", "function"]
)
def test_who_reads_retry_after(retry_after):
    """Api: True, False, or a callable that reads it; a class reads nothing."""
    if retry_after is float:
        with pytest.raises(ConfigurationError):
            Retry(on=OSError, retry_after=retry_after)
    else:
        assert retry_after is Retry(on=OSError, retry_after=retry_after).retry_after


class _Counting:
    """A clock of a user's own."""

    def now(self) -> float:
        return 7.0


@pytest.mark.parametrize(
    ("clock", "reads"),
    [(ManualClock(5), 5.0), (_Counting(), 7.0), (lambda: 6.0, 6.0)],
    ids=["manual", "an object", "a function"],
)
def test_clocks(clock, reads):
    """Law 20: an object with ``now()`` or a bare function; both tell the breaker's time."""
    assert reads == breaker(clock=clock).snapshot().since


def test_a_clock_of_the_standard_library_is_written_as_it_is():
    """``repr`` prints what one would type, the clock left readable."""
    assert time.monotonic() <= breaker(clock=time.monotonic).snapshot().since + 300
    assert "clock=<built-in function monotonic>" in repr(breaker(clock=time.monotonic))


@pytest.mark.parametrize("rng", [random.Random(1), random.SystemRandom(), random], ids=range(3))
def test_sources_of_chance(rng):
    """Law 22: whatever has ``random()``, the module included."""
    assert rng is Retry(on=OSError, rng=rng).rng
    assert rng is breaker(rng=rng).rng
    assert rng is FullJitter(rng=rng).rng


@pytest.mark.parametrize("name", ["a", "x" * 256, "catalogue/eu-1: read", "Süd-Østen 北"])
def test_names(name):
    """1 to 256 printable characters of any script."""
    assert name == CircuitBreaker(name, on=OSError).name == Pipeline(name=name).name


@pytest.mark.parametrize("enabled", [True, False, lambda: False], ids=["on", "off", "function"])
def test_switches(enabled):
    """A bool or a function that is asked at each call."""
    assert isinstance(Pipeline(Timeout(1), enabled=enabled), Pipeline)


@pytest.mark.parametrize(
    "key", [None, "tenant", 5, ("a", 1), lambda tenant: tenant, str], ids=range(6)
)
def test_keys(key):
    """Anything hashable, or a function (or class) of the call's arguments."""
    assert isinstance(Pipeline(key=key), Pipeline)


def _hears_all(_: Event) -> None: ...


def _hears_some(_: Event) -> None: ...


_hears_some.listens_to = (TimedOut, CallFinished)


def _hears_none(_: Event) -> None: ...


_hears_none.listens_to = ()


@pytest.mark.parametrize(
    "listener", [_hears_all, _hears_some, _hears_none, Recorder(), Recorder(TimedOut), print, Mock()],
    ids=["function", "some", "none", "recorder", "recorder of one", "builtin", "mock"],
)  # fmt: skip
def test_listeners(listener):
    """Api: any callable of an event; ``listens_to`` is a tuple of event classes where there is one."""
    if isinstance(listener, Mock):
        listener.listens_to = None

    for listeners in ([listener], (listener,), {listener}, iter([listener]), listener):
        assert Pipeline(listeners=listeners) == Pipeline(listeners=[listener])


def test_one_name_twice_warns_only_while_both_live():
    """Api: two live breakers of one name warn, and name the Registry."""
    first = CircuitBreaker("a name for two", on=OSError)

    with pytest.warns(
        UserWarning, match=r"two live circuit breakers are called 'a name for two'.*Registry"
    ):
        CircuitBreaker("a name for two", on=OSError)
    del first
    again = CircuitBreaker("a name for two", on=OSError)

    assert CircuitState.CLOSED is again.state
