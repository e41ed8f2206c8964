"""
Law 26: `Retry-After` is a floor for the wait, beyond `max_delay` it stops the retry, and hostile values say nothing.
"""

import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from types import SimpleNamespace

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tenacity import wait_fixed, wait_none

from resilience import Retry
from resilience.clock import PROCESS_CLOCK
from resilience.core.pushback import pushback_of, seconds_until
from resilience.testing import Script
from tests.composition.support import about, timed

WALL = 1_700_000_000.25
HOSTILE = [
    "",
    " ",
    "-5",
    "+5",
    "1.5",
    "1_000",
    "٣",  # an Arabic digit, which int() takes
    "²",
    "0x10",
    "1e3",
    "nan",
    "inf",
    "Infinity",
    "12345678901",  # eleven digits
    "9" * 65,
    "9" * 5000,
    "5\n",
    "5\r\nSet-Cookie: a=b",
    "5\x00",
    "5, 10",
    "5;q=1",
    "soon",
    "Tue, 14 Nov 2023 22:13:30",  # no zone
    "Tue, 14 Nov 2023 22:13:30 +0000",
    "Tue, 14 Nov 2023 22:13:30 EST",
    "Tue, 32 Nov 2023 22:13:30 GMT",
    "Tue, 31 Feb 2023 22:13:30 GMT",
    "Tue, 14 Nov 0000 22:13:30 GMT",
    "Tue, 14 Nov 2023 25:13:30 GMT",
    "Tue, 14 Nov ٢٠٢٣ 22:13:30 GMT",
    "14 Nov 2023 22:13:30 GMT",
    "Tuesday, 14-Nov-23 22:13:30 GMT",
    "2023-11-14T22:13:30Z",
    b"\xff\xfe",
    b"5" * 65,
    -1,
    -0.5,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    True,
    [5],
    {"seconds": 5},
    object(),
    datetime(2023, 11, 14, tzinfo=UTC),
    timedelta(seconds=-1),
]


class SaysError(OSError):
    """An error that carries what a server said."""

    def __init__(self, **said):
        super().__init__("the server said so")
        self.__dict__.update(said)


def answer(value, header="retry-after"):
    return SimpleNamespace(headers={header: value})


SPELLINGS = {
    "attribute": lambda value: SaysError(retry_after=value),
    "headers": lambda value: SaysError(headers={"retry-after": value}),
    "headers, capitalised": lambda value: SaysError(headers={"Retry-After": value}),
    "response": lambda value: SaysError(response=answer(value)),
    "response, capitalised": lambda value: SaysError(response=answer(value, "Retry-After")),
}


async def test_a_loop_that_rounds_down_brings_nobody_back_too_early(backend, unit, monkeypatch):
    """
    A sleep that ends early, as uvloop's may by a millisecond, is slept to its end: the server's word is kept (law 26).
    """
    sleep, slept = anyio.sleep, []

    async def rounded(delay):
        slept.append(delay)
        await sleep(delay if len(slept) > 1 else delay / 2)

    monkeypatch.setattr(anyio, "sleep", rounded)
    said = Retry(2, on=OSError, wait=wait_none())(Script(SaysError(retry_after=4 * unit), 42))

    assert (42, about(4 * unit, backend)) == await timed(said)
    assert len(slept) >= 2


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
async def test_it_is_read_wherever_clients_carry_it(backend, unit, spelling):
    """
    An attribute, headers of the error or of its response: the wait is what the server asked for (law 26, RT-017).
    """
    said = 3.0 if spelling is SPELLINGS["attribute"] else "3"
    script = Script(spelling(said), 42)
    retry = Retry(2, on=OSError, wait=wait_none())
    if backend == "uvloop":  # headers know whole seconds only, and there they would be real ones
        script = Script(SaysError(retry_after=3 * unit), 42)

    found, took = await timed(retry(script))

    assert 42 == found
    assert about(3 * unit, backend) == took


async def test_it_is_a_floor_and_not_the_wait(backend, unit):
    """
    A wait that is longer than the server asked for stays as long; a shorter one is raised to it (law 26).
    """
    script = Script(SaysError(retry_after=2 * unit), SaysError(retry_after=4 * unit), 42)

    found, _ = await timed(Retry(3, on=OSError, wait=wait_fixed(3 * unit))(script))

    assert 42 == found
    assert [about(each * unit, backend) for each in (0.0, 3.0, 7.0)] == script.times


async def test_it_is_read_from_results_too(backend, unit):
    """
    A response that is refused by `on_result` says when to come back, as an error would (law 26).
    """
    busy = SimpleNamespace(status=503, retry_after=3 * unit)
    fine = SimpleNamespace(status=200)
    retry = Retry(2, on=OSError, on_result=lambda r: r.status == 503, wait=wait_none())

    found, took = await timed(retry(Script(busy, fine)))

    assert fine is found
    assert about(3 * unit, backend) == took


async def test_beyond_max_delay_it_stops_the_retry(backend):
    """
    The server asks for more than any wait may last: no early attempt, no wait, the error with a note (law 26, R10).
    """
    error = SaysError(retry_after=61)
    script = Script(error, 42)

    found, took = await timed(Retry(5, on=OSError, wait=wait_none(), max_delay=60)(script))

    assert error is found
    assert 1 == script.calls
    assert about(0.0, backend) == took
    assert "(retry_after)" in found.__notes__[0]


async def test_at_max_delay_it_is_honoured(backend, unit):
    """
    "Beyond" is beyond: what is just as long as `max_delay` is waited for (law 26).
    """
    retry = Retry(2, on=OSError, wait=wait_none(), max_delay=3 * unit)

    assert (42, about(3 * unit, backend)) == await timed(
        retry(Script(SaysError(retry_after=3 * unit), 42))
    )


async def test_it_can_be_ignored(backend):
    """
    `retry_after=False`: the server is not asked (law 26).
    """
    retry = Retry(2, on=OSError, wait=wait_none(), retry_after=False)

    found, took = await timed(retry(Script(SaysError(retry_after=3), 42)))

    assert (42, about(0.0, backend)) == (found, took)


async def test_a_function_may_read_it(backend, unit):
    """
    Where it stands elsewhere, a function reads it from the error or the result; its answer is judged the same (law 26).
    """
    script = Script(
        SaysError(body={"wait": 2 * unit}), SimpleNamespace(body={"wait": 3 * unit}), 42
    )
    retry = Retry(
        3,
        on=OSError,
        on_result=lambda r: r != 42,
        wait=wait_none(),
        retry_after=lambda source: source.body["wait"],
    )

    assert 42 == await retry(script)
    assert [about(each * unit, backend) for each in (0.0, 2.0, 5.0)] == script.times


@pytest.mark.parametrize(
    "reader",
    [lambda _: 1 / 0, lambda _: None, lambda _: "soon", lambda _: -1, lambda _: math.nan],
    ids=["raises", "none", "text", "negative", "nan"],
)
async def test_a_function_that_fails_or_says_nothing_is_no_floor(backend, reader):
    """
    A reader's fault is not the call's: the wait is the strategy's own (law 26, law 6).
    """
    script = Script(OSError, 42)

    assert 42 == await Retry(2, on=OSError, wait=wait_none(), retry_after=reader)(script)
    assert [about(0.0, backend)] * 2 == script.times


@pytest.mark.parametrize(
    "value", HOSTILE, ids=[f"{n} {type(value).__name__}" for n, value in enumerate(HOSTILE)]
)
async def test_a_hostile_value_is_as_if_nothing_was_said(backend, value):
    """
    No value makes the retry raise another error, wait for ever or come back early and often (law 26).
    """
    script = Script(SaysError(retry_after=value), SaysError(headers={"retry-after": value}), 42)

    found, took = await timed(Retry(3, on=OSError, wait=wait_none())(script))

    assert (42, about(0.0, backend)) == (found, took)


class Hostile:
    """An object that does as it likes when it is looked at."""

    def __getattr__(self, name):
        raise RuntimeError("not yours")


@pytest.mark.parametrize(
    "said",
    [
        {"headers": Hostile()},
        {"headers": [("retry-after", "5")]},
        {"headers": None, "response": Hostile()},
        {"response": SimpleNamespace(headers=None)},
        {"retry_after": lambda: 5},
        {"headers": {}},
    ],
    ids=["raising headers", "a list", "raising response", "no headers", "a method", "empty"],
)
async def test_a_carrier_that_does_as_it_likes_says_nothing(backend, said):
    """
    Reading it never raises, whatever the object is (law 26: the server's error, never ours).
    """
    assert 42 == await Retry(2, on=OSError, wait=wait_none())(Script(SaysError(**said), 42))


def test_an_http_date_is_counted_from_the_wall_clock():
    """
    The date of RFC 9110 in seconds from now; one that has passed is 0, not an early attempt (law 26, RT-017).
    """
    date = "Tue, 14 Nov 2023 22:13:30 GMT"  # 1_700_000_010

    assert 9.75 == seconds_until(date, WALL)
    assert 9.75 == seconds_until(date.encode(), WALL)
    assert 0.0 == seconds_until(date, WALL + 100)
    assert 9.0 == seconds_until("Tue, 14 Nov 2023 22:13:60 GMT", 1_700_000_030)  # a leap second


async def test_a_date_is_waited_for_to_the_instant(backend):
    """
    Attempts come no earlier than the date says, not even by the fraction that rounding leaves (RT-017).

    dotnet/extensions #7001 comes up to 11 ms early.
    """
    if backend == "uvloop":
        until = PROCESS_CLOCK.wall() + 0.0604  # of which uvloop would make 60 ms
        script = Script(SaysError(retry_after=0.0604), PROCESS_CLOCK.wall)
        assert until <= await Retry(2, on=OSError, wait=wait_none())(script)
        return
    until = math.ceil(PROCESS_CLOCK.wall()) + 3
    date = format_datetime(datetime.fromtimestamp(until, UTC), usegmt=True)
    script = Script(SaysError(headers={"Retry-After": date}), PROCESS_CLOCK.wall)

    assert until == pytest.approx(await Retry(2, on=OSError, wait=wait_none())(script), abs=1e-6)


anything = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="0123456789 \t+-._eE", max_size=80),
    st.binary(max_size=80),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.timedeltas(),
    st.none(),
    st.datetimes(timezones=st.just(UTC)).map(lambda d: format_datetime(d, usegmt=True)),
    st.builds(
        "{0:.3}, {1:02} {2:.3} {3:04} {4:02}:{5:02}:{6:02} {7}".format,
        st.sampled_from(["Mon", "Tue", "Xyz", "mon"]),
        st.integers(0, 99),
        st.sampled_from(["Jan", "Feb", "Dec", "dec", "Foo"]),
        st.integers(0, 12000),
        st.integers(0, 99),
        st.integers(0, 99),
        st.integers(0, 99),
        st.sampled_from(["GMT", "UTC", "", "+0000"]),
    ),
)


@settings(max_examples=2000, deadline=None)
@example(10**400, WALL)
@example("9" * 10, WALL)
@example(5e-324, WALL)
@given(anything, st.floats(-1e12, 1e12))
def test_no_value_raises_and_every_answer_is_a_wait(value, wall):
    """
    Whatever a stranger sends: None, or a finite number of seconds >= 0 (law 26, R5, G18).
    """
    seconds = seconds_until(value, wall)

    assert seconds is None or (type(seconds) is float and 0 <= seconds < math.inf)
    assert seconds == pushback_of(SaysError(retry_after=value), lambda: wall)
    if isinstance(value, str | bytes) and len(value) > 64:
        assert seconds is None


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 10**10 - 1), st.sampled_from(["", " ", "\t ", " \t"]))
def test_plain_seconds_are_what_they_say(number, space):
    """
    Up to ten ASCII digits, with the white space a header may carry around them (law 26).
    """
    assert float(number) == seconds_until(f"{space}{number}{space}", WALL)
    assert float(number) == seconds_until(str(number).encode(), WALL)


@settings(max_examples=500, deadline=None)
@given(st.datetimes(min_value=datetime(1970, 1, 2)), st.integers(0, 4 * 10**9))  # noqa: DTZ001 - the zone is written
def test_dates_agree_with_the_standard_library(date, wall):
    """
    Every date that RFC 9110 prefers means what `email.utils` takes it for, which is an oracle (law 26).
    """
    text = format_datetime(date.replace(microsecond=0, tzinfo=UTC), usegmt=True)

    assert max(0.0, parsedate_to_datetime(text).timestamp() - wall) == seconds_until(text, wall)


@pytest.mark.parametrize("part", ["9", " ", "Mon, ", "1 "])
def test_a_long_value_costs_nothing(part):
    """
    A megabyte in the header is refused by its length, before anybody reads it (law 26, G18: < 1 ms each).
    """
    text = part * 1_000_000
    started = time.thread_time()  # its own work; what else the machine does is not the question
    for _ in range(100):
        assert seconds_until(text, WALL) is None

    assert 0.1 > time.thread_time() - started
