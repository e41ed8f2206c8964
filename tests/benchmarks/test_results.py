"""
What is committed: two runs compared, the page over all Pythons, README's three sentences, the command that writes them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import compare, publish, summary
from benchmarks.field import Field
from benchmarks.report import Table
from benchmarks.rivals import RIVALS
from benchmarks.rivals.ours import ADAPTER
from benchmarks.summary import BEGIN, END, NEWEST, PYTHONS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def run_of(**ratios: float) -> dict:
    """A run whose headline ratios are 1.0, but for these tables."""
    parts: dict = {}
    for table, row in compare.HEADLINE:
        rows = parts.setdefault(table, {"title": table, "rows": []})["rows"]
        rows.append({"call": row, "x W": ratios.get(table, 1.0), "x ours": 0.5})
    return {"python": "3.13.0", "quick": False, "parts": {"cost": parts}}


def written(path: Path, run: dict) -> str:
    path.write_text(json.dumps(run), encoding="utf-8")
    return str(path)


# ---------------------------------------------------------------------- two runs


@pytest.mark.parametrize(
    ("second", "status"), [(1.0, 0), (1.14, 0), (1 / 1.14, 0), (1.16, 1), (1 / 1.16, 1)]
)
def test_a_second_run_is_held_against_the_first(second, status, tmp_path, capsys):
    """
    Status 0 if every headline ratio is within 15 %, up or down; else 1, and those that are not are named.
    """
    first = written(tmp_path / "a.json", run_of())
    again = written(tmp_path / "b.json", run_of(timeout=second))

    assert status == compare.main([first, again])
    said = capsys.readouterr().out
    assert len(compare.HEADLINE) == len(re.findall(r"^\| \w+: ", said, re.MULTILINE))
    if status:
        assert (
            "2 of 12 differ by more than 15%: timeout: resilience, timeout: asyncio.timeout."
            in said
        )
    else:
        assert "All 12 within 15%." in said


def test_the_allowance_can_be_set(tmp_path):
    """
    ``--within`` is the share that a ratio may move.
    """
    first = written(tmp_path / "a.json", run_of())
    again = written(tmp_path / "b.json", run_of(layers=1.5))

    assert 1 == compare.main([first, again])
    assert 0 == compare.main([first, again, "--within", "0.6"])


def test_runs_without_a_common_ratio_are_refused(tmp_path, capsys):
    """
    Nothing to compare is not "the same".
    """
    first = written(tmp_path / "a.json", run_of())
    empty = written(tmp_path / "b.json", {"parts": {}})

    with pytest.raises(SystemExit) as ended:
        compare.main([first, empty])

    assert 2 == ended.value.code
    assert "no headline ratio in common" in capsys.readouterr().err


# ---------------------------------------------------------------------- what is committed


@pytest.mark.parametrize("python", PYTHONS)
def test_the_results_of_each_python_are_there(python):
    """
    Tables, figures, the second run and the picture, all of this Python.
    """
    run = json.loads((RESULTS / f"{python}.json").read_text(encoding="utf-8"))

    assert run["python"].startswith(f"{python}.")
    assert [*run["parts"]] == [*command.TIMED, "verdicts"]
    assert {row for _, row in compare.HEADLINE} <= {
        row["call"] for table in run["parts"]["cost"].values() for row in table["rows"]
    }
    assert run["parts"]["cost"]["instructions"]["rows"]
    page = (RESULTS / f"{python}.md").read_text(encoding="utf-8")
    assert f"## CPython {run['python']}" in page
    assert all(
        f"### {table['title']}" in page
        for part, tables in run["parts"].items()
        if part != "verdicts"
        for table in tables.values()
    )
    assert f"CPython {run['python']}" in (RESULTS / f"{python}.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("python", PYTHONS)
def test_every_rival_was_measured_and_named_with_its_version(python):
    """
    All take part on each Python, those that beat us too, and each passed its behaviour check first.
    """
    run = json.loads((RESULTS / f"{python}.json").read_text(encoding="utf-8"))

    rows = run["field"]["rows"]
    assert {rival.name: rival.version for rival in RIVALS} == {
        row["library"]: row["installed"] for row in rows if row["adapter written for"] is not None
    }
    assert {"passed"} == {row["behaviour check"] for row in rows}


def test_the_index_is_what_its_figures_give(tmp_path):
    """
    The page over all Pythons and README's sentences come out of the committed figures, to the last character.
    """
    for path in RESULTS.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    readme = tmp_path / "copy.md"
    readme.write_bytes((ROOT / "README.md").read_bytes())

    assert 0 == publish.main(["--index", "--folder", str(tmp_path), "--readme", str(readme)])

    assert (RESULTS / "README.md").read_text("utf-8") == (tmp_path / "README.md").read_text("utf-8")
    assert (ROOT / "README.md").read_text("utf-8") == readme.read_text("utf-8")


def test_the_targets_are_met_by_the_stated_pipeline():
    """
    The committed outcomes: at most 1.25 times the load, noticed within 1 s, well 2 s after a break, never false.
    """
    played = json.loads((RESULTS / "outcomes.json").read_text(encoding="utf-8"))
    stated = {plan: by["stated"] for plan, by in played["figures"].items()}

    assert (100.0, 86_400.0) == (played["rate"], played["day"])
    assert max(stated["dead"]["load"], stated["dead"]["load_peak"]) <= 1.25
    assert all(stated[plan]["noticed"] <= 1.0 for plan in ("dead", "brown-out", "hanging"))
    assert all((each["recovered_break"] or 0.0) <= 2.0 for each in stated.values())
    assert 0 == played["openings"]["resilience, stated"]["1 % errors, 20 calls/s"]
    assert 0 == played["openings"]["resilience, stated"]["1 % errors, 0.5 calls/s"]


# ---------------------------------------------------------------------- how it is written


def test_readme_gets_its_sentences_between_the_marks():
    """
    What stands around them stays; lines are at most 120 long; without the marks nothing is written.
    """
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    said = ["word " * 60 + "[link]({docs}docs/x.md)", "short"]

    made = summary.with_sentences(text, said)

    assert made.startswith(f"before\n{BEGIN}\n- word")
    assert made.endswith(f"\n- short\n{END}\nafter\n")
    assert "[link](docs/x.md)" in made
    assert all(len(line) <= 120 for line in made.splitlines())
    assert made == summary.with_sentences(made, said)
    with pytest.raises(ValueError, match=r"README\.md does not have the lines"):
        summary.with_sentences("nothing", said)


def test_what_is_lost_to_rivals_is_counted():
    """
    Comparisons with rivals alone, ours dearer; floors, mixes and our own rows are none.
    """
    rows = [
        {"call": "W", "x W": 1.0, "x ours": 0.1},
        {"call": "resilience", "x W": 2.0, "x ours": 1.0},
        {"call": "nopanic", "x W": 3.0, "x ours": 1.5},
        {"call": "resilix, rate of 30 s", "x W": 1.5, "x ours": 0.75},
    ]
    tables = {
        "breaker": {"title": "Breaker", "rows": rows},
        "floors": {"title": "F", "rows": [{"call": "W"}]},
    }

    assert (1, 2, ["Breaker"]) == summary.counted_losses({"parts": {"cost": tables}})


def committed_tables(part: str) -> list[Table]:
    real = json.loads((RESULTS / f"{NEWEST}.json").read_text(encoding="utf-8"))
    return [
        Table(
            name=name,
            title=each["title"],
            columns=dict.fromkeys(each["rows"][0] if each["rows"] else (), ""),
            rows=[[*row.values()] for row in each["rows"]],
        )
        for name, each in real["parts"][part].items()
    ]


@pytest.fixture
def quick_publisher(monkeypatch):
    """
    Everything that takes time gives what is committed; the rest is the real publisher.
    """
    nobody = Table(name="field", title="Who takes part", columns={"library": ""}, rows=[])
    monkeypatch.setattr(publish, "gather", lambda: Field(ADAPTER(), {}, {}, nobody))
    monkeypatch.setattr(
        command, "measured", lambda parts, _: {part: committed_tables(part) for part in parts}
    )
    monkeypatch.setattr(publish.cost, "again", lambda _: committed_tables("cost"))
    monkeypatch.setattr(publish.instructions, "table", lambda _: committed_tables("cost")[-1])
    monkeypatch.setattr(publish.verdicts, "run", lambda _: committed_tables("verdicts"))

    def publisher(folder: Path, python: str, figures: dict) -> None:
        (folder / "outcomes.json").write_bytes((RESULTS / "outcomes.json").read_bytes())
        readme = folder / "copy.md"
        readme.write_text(f"x\n{BEGIN}\n{END}\n", encoding="utf-8")
        monkeypatch.setattr(publish, "this_python", lambda: python)
        monkeypatch.setattr(publish, "_plans_again", lambda _: figures)
        given = ["--keep-outcomes", "--folder", str(folder), "--readme", str(readme)]
        assert 0 == publish.main(given)

    return publisher


def test_publishing_writes_a_python_and_sums_up(quick_publisher, tmp_path):
    """
    Tables, figures, second run, picture and verdicts of this Python, the page over all, README.
    """
    quick_publisher(tmp_path, NEWEST, {"dead": 1})

    names = {
        f"{NEWEST}.json",
        f"{NEWEST}-again.json",
        f"{NEWEST}.md",
        f"{NEWEST}.svg",
        "verdicts.md",
        "README.md",
    }
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert "12 of 12 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "All 12 within 15%." in (tmp_path / f"{NEWEST}.md").read_text(encoding="utf-8")
    assert "- **Cost.** Around" in (tmp_path / "copy.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"dead": 1}, "gives the same figures to the last digit"),
        ({"dead": 2}, "gives other figures in dead"),
    ],
)
def test_other_pythons_are_held_against_the_newest(figures, said, quick_publisher, tmp_path):
    """
    Outcomes are the newest Python's; another one says whether it plays the same.
    """
    quick_publisher(tmp_path, NEWEST, {"dead": 1})
    quick_publisher(tmp_path, "3.11", figures)

    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert said in page
    assert "](3.11.md)" in page


def test_before_the_newest_python_has_run_there_is_nothing_to_sum_up(quick_publisher, tmp_path):
    """
    An older Python alone writes its own pages and touches neither the page over all nor README.
    """
    quick_publisher(tmp_path, "3.11", {"dead": 1})

    assert (tmp_path / "3.11.md").exists()
    assert not (tmp_path / "README.md").exists()
    assert f"x\n{BEGIN}\n{END}\n" == (tmp_path / "copy.md").read_text(encoding="utf-8")
