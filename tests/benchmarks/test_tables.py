"""
The instruments themselves: rounds, tables, the picture, the command.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import __main__ as command
from benchmarks import concurrency, cost, instructions, memory, sockets, startup, threads, windows
from benchmarks.field import Field
from benchmarks.picture import Line, drawn, lines_of
from benchmarks.report import Options, Table
from benchmarks.rivals.mixes import ByHand
from benchmarks.rivals.ours import ADAPTER
from benchmarks.rounds import cost_table, measure, rows_of, shuffled

NOBODY = Table(name="field", title="Who takes part", columns={"library": ""}, rows=[])
OURS_ALONE = Field(ADAPTER(), {}, {"one frame by hand": ByHand()}, NOBODY)


def test_what_costs_three_times_as_much_is_shown_as_three_times_as_much():
    """
    Ratios are taken within a round, so a round that was slow for everybody changes nothing.
    """
    times = [{"W": unit, "twice": 2 * unit, "thrice": 3 * unit} for unit in (1.0, 50.0, 7.0)]

    assert [("W", 1.0, 1.0, 1.0), ("twice", 2.0, 2.0, 2.0), ("thrice", 3.0, 3.0, 3.0)] == [
        (row.name, row.ratio, row.low, row.high) for row in rows_of(times, "W")
    ]


def test_spread_is_that_of_the_rounds():
    """
    The deciles of the ratios are shown with the median, so one lucky round cannot pass for a result.
    """
    times = [{"W": 1.0, "noisy": float(ratio)} for ratio in range(1, 12)]
    (row,) = (row for row in rows_of(times, "W") if row.name == "noisy")

    assert (6.0, 2.0, 10.0) == (row.ratio, row.low, row.high)


def test_every_contender_gets_its_slice_in_each_round():
    """
    A warm-up each, then rounds in an order that changes; the dearer one is called less often, the time is the same.
    """
    order: list[str] = []

    def contender(name: str, seconds: float):
        async def call(value: int) -> None:
            if order[-1:] != [name]:
                order.append(name)
            time.sleep(seconds)  # noqa: ASYNC251 - the loop is meant to be held

        return call

    contenders = {
        "W": contender("W", 0.0001),
        "a": contender("a", 0.0001),
        "b": contender("b", 0.001),
    }
    rows = asyncio.run(measure(contenders, rounds=5, seconds=0.004))
    expected = [
        *contenders,
        *(name for number in range(5) for name in shuffled([*contenders], number)),
    ]

    assert [
        name for name, before in zip(expected, [None, *expected], strict=False) if name != before
    ] == order
    assert {*contenders} == {row.name for row in rows}
    assert len({tuple(shuffled([*contenders], number)) for number in range(5)}) > 1


def test_a_slow_contender_is_slow_in_the_table():
    """
    What really takes longer comes out dearer than the unit, and after it.
    """

    async def quick(value: int) -> None:
        pass

    async def slow(value: int) -> None:
        time.sleep(0.002)  # noqa: ASYNC251 - the loop is meant to be held

    rows = asyncio.run(measure({"slow": slow, "W": quick}, rounds=5, seconds=0.001))

    assert ["W", "slow"] == [row.name for row in rows]
    assert rows[1].ratio > 10


def test_a_table_shows_what_the_others_cost_relative_to_ours():
    """
    ``x ours`` is the ratio of the ratios; rows that are cheaper than ours stay in the table.
    """
    rows = rows_of([{"W": 100.0, "ours": 400.0, "theirs": 200.0}], "W")
    table = cost_table("cost", "Cost", rows, unit="W", ours="ours")

    assert [("W", 0.25), ("theirs", 0.5), ("ours", 1.0)] == [
        (record["call"], record["x ours"]) for record in table.records()
    ]
    assert "| theirs | 2.00 | 2.00 to 2.00 | 0.50 | 200 |" in table.markdown()


def test_a_table_prints_nothing_where_there_is_nothing():
    """
    None is an empty cell, text stands as it is, numbers take the format of their column.
    """
    table = Table(
        name="t",
        title="T",
        columns={"a": "", "n": ",d"},
        rows=[["x", 1234], ["y", None]],
        notes=["Why."],
    )

    assert "### T\n\n| a | n |\n|---|--:|\n| x | 1,234 |\n| y |  |\n\nWhy." == table.markdown()
    assert {
        "title": "T",
        "rows": [{"a": "x", "n": 1234}, {"a": "y", "n": None}],
        "notes": ["Why."],
    } == table.plain()


def _line(name: str, *ratios: float) -> Line:
    return Line(
        name, [(10.0**place, each, each * 0.9, each * 1.1) for place, each in enumerate(ratios)]
    )


def _texts(picture: str) -> list[tuple[str, float, float]]:
    root = ET.fromstring(picture)  # noqa: S314 - of our own making
    found = root.iter("{http://www.w3.org/2000/svg}text")
    return [
        (each.text or "", float(each.get("x", "0")), float(each.get("y", "0"))) for each in found
    ]


def test_the_picture_names_every_line_and_keeps_the_names_apart():
    """
    Labels of lines that end together are moved apart and stay on the canvas; names are escaped.
    """
    lines = [_line(f"<{number}> & co", 1.0, 2.0 + number / 1000) for number in range(20)]
    texts = [(text, y) for text, x, y in _texts(drawn(lines, subtitle="a & b")) if "& co" in text]
    places = sorted(y for _, y in texts)

    assert {f"<{number}> & co (2.0)" for number in range(20)} == {text for text, _ in texts}
    assert all(b - a >= 16.9 for a, b in pairwise(places))
    assert places[0] > 0
    assert places[-1] < 560


def test_the_picture_puts_the_dearer_line_above():
    """
    Higher is dearer and further right is more tasks, on logarithmic axes: equal factors are equal distances.
    """
    picture = drawn(
        [_line("resilience", 1.0, 2.0, 4.0), _line("other", 2.0, 4.0, 8.0)], subtitle=""
    )
    root = ET.fromstring(picture)  # noqa: S314 - of our own making
    lines = [
        [tuple(map(float, pair.split(","))) for pair in each.get("points", "").split()]
        for each in root.iter("{http://www.w3.org/2000/svg}polyline")
    ]
    other, ours = lines  # ours is drawn last, on top

    assert [pytest.approx(y, abs=0.2) for _, y in ours[1:]] == [y for _, y in other[:-1]]
    assert all(mine[1] > theirs[1] for mine, theirs in zip(ours, other, strict=True))
    assert ours[1][0] - ours[0][0] == pytest.approx(ours[2][0] - ours[1][0], abs=0.2)


def test_the_picture_is_drawn_from_the_table_of_tasks(monkeypatch):
    """
    Every contender of the measured table but the unit is a line, with a point for each number of tasks.
    """
    monkeypatch.setattr(concurrency, "_QUICK_LEVELS", (1, 20))
    monkeypatch.setattr(concurrency, "_WAITING_TASKS", 10)
    tasks, waiting = concurrency.run(Options(quick=True, field=OURS_ALONE))
    lines = lines_of(tasks)

    assert {"bare", "one frame by hand", "resilience", "resilience, breaker"} == {
        line.name for line in lines
    }
    assert {(1.0, 20.0)} == {tuple(point[0] for point in line.points) for line in lines}
    assert "resilience, breaker (" in drawn(lines, subtitle="")
    assert 1.0 == waiting.records()[0]["p99.9 x bare"]
    assert all(50 <= record["p50, ms"] < 1000 for record in waiting.records())


def test_cost_has_a_row_for_each_thing_it_promises():
    """
    Floors, each policy, compositions, rejected and failing paths, doors, listeners, trio: all measured, all ordered.
    """
    tables = {table.name: table for table in cost.run(Options(quick=True, field=OURS_ALONE))}
    units = {name: [*table.columns][1].removeprefix("x ") for name, table in tables.items()}
    ratios = {
        name: {record["call"]: record[f"x {units[name]}"] for record in table.records()}
        for name, table in tables.items()
    }

    assert {
        "floors", "breaker", "retry", "timeout", "layers", "layers_suspending", "policies", "compositions",
        "gates", "doors", "listeners", "rejected", "failing", "failing_retry", "failing_layers", "trio",
    } <= {*tables}  # fmt: skip
    assert all(ratio > 0 for table in ratios.values() for ratio in table.values())
    assert all(1.0 == table.get(units[name], 1.0) for name, table in ratios.items())
    assert {"bare await", "three nested wrappers", "asyncio.timeout", "anyio.fail_after"} < {
        *ratios["floors"]
    }
    assert {"Timeout", "Retry", "CircuitBreaker", "Bulkhead", "RateLimit", "Hedge", "LastGood"} < {
        *ratios["policies"]
    }
    assert {"Pipeline()", "Retry + CircuitBreaker + Timeout", "the stated pipeline"} < {
        *ratios["compositions"]
    }
    assert {"trio.fail_after", "trio.CancelScope without a deadline", "resilience, timeout"} < {
        *ratios["trio"]
    }
    assert {"p.wrap(fn)", "await p(fn, x)", "await p.outcome(fn, x)", "p.stream(agen_fn)"} <= {
        *ratios["doors"]
    }
    assert {"resilience", "resilience, as an outcome", "resilience, isolated"} < {
        *ratios["rejected"]
    }


def test_instructions_are_left_out_with_a_line_where_valgrind_is_missing(monkeypatch):
    """
    Without valgrind the table is empty and says why.
    """
    monkeypatch.setattr("shutil.which", lambda name: None)
    table = instructions.table(Options(quick=True, field=OURS_ALONE))

    assert ([], ["Not counted: valgrind is not installed."]) == (table.rows, table.notes)


def test_instructions_of_many_calls_less_those_of_few_are_those_of_the_calls(monkeypatch):
    """
    What starting and importing takes cancels out.
    """
    names = instructions.names(Options(quick=True, field=OURS_ALONE))
    asked: list[list[str]] = []

    def valgrind(command, **_):
        asked.append(command)
        out = command[2].partition("=")[2]
        for place, name in enumerate(names):
            cost = 100 if name == "W" else 250
            for step, calls in enumerate(
                (instructions._WARM, instructions._FEW, instructions._MANY)
            ):
                total = 10**9 * (step == 0) + 777 + calls * cost
                Path(f"{out}.{3 * place + step + 1}").write_text(f"part: 1\n\ntotals: {total}\n")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(subprocess, "run", valgrind)
    found = {
        record["call"]: (record["instructions"], record["x W"])
        for record in instructions.table(Options(quick=True, field=OURS_ALONE)).records()
    }

    assert names == asked[0][-len(names) :]
    assert (100, 1.0) == found["W"]
    assert (250, 2.5) == found["resilience: layers"] == found["resilience: rejected"]


def test_a_callgrind_that_writes_nothing_is_an_error(monkeypatch):
    """
    Missing counts are never taken for none.
    """
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, 0, "", "no dump"),
    )

    with pytest.raises(RuntimeError, match="callgrind failed:\nno dump"):
        instructions.counted("valgrind", ["W"])


def test_sockets_are_real_and_every_contender_gets_its_answers(monkeypatch):
    """
    A server in another process echoes; a call that got no answer would have failed the run.
    """
    monkeypatch.setattr(sockets, "_limit", lambda wanted: 50)
    table, served = sockets.run(Options(quick=True, field=OURS_ALONE))

    assert [("bare", 50, 1.0)] == [
        (each["call"], each["tasks"], each["of bare"]) for each in table.records()[:1]
    ]
    assert table.records()[1]["calls/s"] > 0
    assert "service" == served.name
    assert [
        "bare", "three layers, linked", "canonical five, linked", "three layers, express", "canonical five, express",
    ] == [each["request"] for each in served.records()]  # fmt: skip
    assert all(each["µs of CPU"] > 0 for each in served.records())
    assert 2 == served.notes[0].count("Express saves")


def test_windows_are_full_before_they_are_measured():
    """
    One row per size and kind of traffic; the cost of ours does not grow with a window a thousand times as large.
    """
    (table,) = windows.run(Options(quick=True, field=OURS_ALONE))
    ratios = {(record["calls"], record["breaker"]): record["x W"] for record in table.records()}

    assert {
        (size, f"resilience: {what}")
        for size in (10, 100, 1_000, 10_000)
        for what in ("all succeed", "every tenth fails")
    } == {*ratios}
    # Whoever looks at the whole window pays a thousand times as much for the largest as for the smallest.
    assert ratios[10_000, "resilience: all succeed"] < 50 * ratios[10, "resilience: all succeed"]


def test_memory_is_more_than_nothing_and_the_bare_call_is_the_zero():
    """
    Bytes are relative to the bare call; a deadline of its own takes more than a plain wrapper.
    """
    flight, idle = memory.run(Options(quick=True, field=OURS_ALONE))
    added = {record["call"]: record["bytes"] for record in flight.records()}

    assert 0 == added["bare"]
    assert 0 < added["W"] < added["resilience, three layers"]
    assert all(0 < record["alone"] for record in idle.records())


def test_threads_and_startup_give_a_row_each():
    """
    Eight threads on one breaker and on eight; imports; builds and wraps.
    """
    (shared,) = threads.run(Options(quick=True, field=OURS_ALONE))
    imports, builds = startup.run(Options(quick=True, field=OURS_ALONE))
    taken = {record["what"]: record["µs here"] for record in builds.records()}

    assert ["resilience"] == [record["breaker"] for record in shared.records()]
    assert 0 < shared.records()[0]["share"]
    assert {"anyio, attrs", "asyncio", "resilience", "resilience, no name of it yet"} == {
        record["call"] for record in imports.records()
    }
    assert {
        "resilience: build the pipeline",
        "resilience: wrap a function",
        "resilience: build and wrap",
    } < {*taken}


@pytest.fixture
def ours_alone(monkeypatch):
    monkeypatch.setattr(command, "gather", lambda: OURS_ALONE)


def test_the_command_writes_what_it_measured(ours_alone, tmp_path, capsys):
    """
    The same tables on the terminal, as Markdown and as JSON.
    """
    target, data = tmp_path / "made.md", tmp_path / "made.json"

    assert 0 == command.main(["windows", "--quick", "--markdown", str(target), "--json", str(data)])
    written = target.read_text(encoding="utf-8")
    found = json.loads(data.read_text(encoding="utf-8"))
    assert written == capsys.readouterr().out
    assert "### Count windows" in written
    assert ["windows"] == [*found["parts"]]
    assert 8 == len(found["parts"]["windows"]["windows"]["rows"])


def test_the_command_draws_the_picture(ours_alone, monkeypatch, tmp_path):
    """
    ``--svg`` writes the picture of the part concurrency.
    """
    monkeypatch.setattr(concurrency, "_QUICK_LEVELS", (1, 20))
    monkeypatch.setattr(concurrency, "_WAITING_TASKS", 10)
    target = tmp_path / "made.svg"

    assert 0 == command.main(["concurrency", "--quick", "--svg", str(target)])
    assert any(
        "resilience, breaker" in text for text, _, _ in _texts(target.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["speed"], "no such part: speed (there are cost, concurrency"),
        (["cost", "--svg", "x.svg"], "--svg draws what the parts concurrency and outcomes measure"),
    ],
)
def test_the_command_says_what_it_does_not_know(given, said, capsys):
    """
    A part that does not exist, or a picture of nothing, ends with status 2 and one line that says so.
    """
    with pytest.raises(SystemExit) as ended:
        command.main(given)

    assert 2 == ended.value.code
    assert said in capsys.readouterr().err
