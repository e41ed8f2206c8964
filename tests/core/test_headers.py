"""
A deadline as text: what is written can be read, and what a stranger writes is never ours to raise on.
"""

from __future__ import annotations

import math
import random
import string

import pytest

from resilience.core.headers import as_deadline, as_timeout, read_deadline, read_timeout

DAY = 86_400.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1n"),
        (1e-9, "1n"),
        (0.05, "50000000n"),
        (0.1, "100000u"),
        (1.5, "1500000u"),
        (99.9, "99900000u"),
        (100.0, "100000m"),
        (3600.0, "3600000m"),
        (2 * DAY, "172800S"),
        (1e8, "1666666M"),
        (1e10, "2777777H"),
        (1e300, "99999999H"),
    ],
)
def test_the_notation_of_grpc(seconds, text):
    """At most eight digits and a unit, the finest that has room, and never more than there is."""
    assert text == as_timeout(seconds)


@pytest.mark.parametrize("seed", range(200))
def test_what_is_written_can_be_read(seed):
    """Never more than was written, and less by no more than the unit has to be."""
    seconds = 10 ** random.Random(seed).uniform(-6, 9)
    read = read_timeout(as_timeout(seconds), math.inf)

    assert read is not None
    assert seconds * 0.99999 - 1e-9 <= read <= seconds * (1 + 1e-9) + 2e-9

    there = read_deadline(as_deadline(seconds, 1.7e9), 1.7e9, math.inf)
    if seconds < 8e9:
        assert there is not None
        assert seconds - 0.001001 <= there <= seconds + 1e-6


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1S", 1.0),
        (b"250m", 0.25),
        (" 5M\t", 300.0),
        ("00000010u", 1e-5),
        ("0n", 0.0),
        ("99999999H", DAY),
        ("1H", 3600.0),
    ],
)
def test_a_timeout_is_read_and_capped(text, seconds):
    """Every unit, in text or bytes; a day is all this stranger gets."""
    assert pytest.approx(seconds) == read_timeout(text, DAY)


HOSTILE = [
    None, 5, 1.5, True, [], {}, ..., "", " ", "S", "1", "1s", "-1S", "+1S", "1.5S", "1e3S", "1_000S", "1 S",
    "123456789S", "٣S", "1S\n1S", "1S;2S", "nan", "inf", "9" * 5000 + "S", b"\xff\xfe", b"1S" * 100, "0x10S", "\uff11S",
    "1700000000,5", "-1700000000", "1700000000.1234567890", "12345678901", ".5", "1.", "NaN", "Infinity", "1e9",
    "1700000000Z", "2023-11-14", "\x00", "1700000000\r\nX: y",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:30])
def test_what_a_stranger_writes_says_nothing(value):
    """Law 26's rule for every header: ASCII digits, 64 characters at most, nothing raised."""
    assert None is read_timeout(value, DAY)
    if value != "1":
        assert None is read_deadline(value, 1.7e9, DAY)


@pytest.mark.parametrize("seed", range(50))
def test_noise_never_raises(seed):
    """G18: any text and any bytes: seconds from nought to the cap, or nothing."""
    rng = random.Random(seed)
    for _ in range(400):
        text = "".join(rng.choices(string.digits + ".HMSmun -+eE_٣\n", k=rng.randint(0, 12)))
        for value in (text, text.encode()):
            for read in (read_timeout(value, 5.0), read_deadline(value, 1.7e9, 5.0)):
                assert read is None or 0 <= read <= 5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000002", 2.0),
        ("1700000001.5", 1.5),
        (b"1700000000.000000001", 0.0),
        ("1699999999", 0.0),
        ("0", 0.0),
        ("9999999999.999", DAY),
    ],
)
def test_an_instant_is_read_against_the_wall_clock(text, seconds):
    """What has passed is no time, what is far is the cap."""
    assert pytest.approx(seconds, abs=1e-6) == read_deadline(text, 1.7e9, DAY)


def test_an_instant_is_written_in_milliseconds_and_never_later():
    """A receiver has no more time than there is."""
    assert "1700000001.500" == as_deadline(1.5, 1.7e9)
    assert "1700000000.000" == as_deadline(0.0009, 1.7e9)
