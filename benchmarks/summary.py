"""
What all results come to: the page over all Pythons, and README's three sentences, from the JSON files that are there.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import compare, targets
from benchmarks.rivals import OURS, RIVALS

__all__ = [
    "BEGIN", "END", "NEWEST", "PYTHONS", "counted_losses", "index", "read", "right_of_judged", "sentences",
    "with_sentences", "write_index",
]  # fmt: skip

PYTHONS = ("3.13", "3.12", "3.11")
NEWEST = PYTHONS[0]
BEGIN = "<!-- three sentences, written by `python -m benchmarks.publish` -->"
END = "<!-- end of the three sentences -->"
_STATED = "stated"
_MIX = "hyx + circuitbreaker + asyncio.timeout"

Data = Mapping[str, Any]


def read(path: Path) -> dict[str, Any] | None:
    """A JSON file, or None if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _row(run: Data, part: str, table: str, name: str) -> dict[str, Any] | None:
    """A row by its first cell that is text; None if it is not there."""
    rows = run.get("parts", {}).get(part, {}).get(table, {}).get("rows", ())
    return next((row for row in rows if name in row.values()), None)


def _ratio(run: Data, table: str, name: str) -> float | None:
    """A ratio to W (or the table's own unit) of the part cost."""
    row = _row(run, "cost", table, name)
    return None if row is None else float(list(row.values())[1])


def _times(value: float | None, spec: str = ".1f") -> str:
    return "-" if value is None else format(value, spec)


# ------------------------------------------------------------------ the three sentences


def _cost_sentence(run: Data) -> str:
    def pair(name: str) -> str:
        at_once, suspending = (
            _ratio(run, table, name) for table in ("layers", "layers_suspending")
        )
        return f"{_times(suspending)} ({_times(at_once)})"

    alone = _times(_ratio(run, "timeout", "asyncio.timeout"))
    return (
        "**Cost.** Around a call that suspends once (that returns at once), retry, breaker and timeout cost "
        f"{pair(OURS.name)} times as much as the cheapest wrapper Python allows; nopanic {pair('nopanic')}, "
        f"the fastest mix of libraries {pair(_MIX)}, interlock-cb {pair('interlock-cb')}, and `asyncio.timeout` "
        f"alone ({alone})."
    )


def right_of_judged(run: Data) -> dict[str, tuple[int, int]]:
    """By library: situations it was right in, and those it was judged in."""
    rows = run["parts"]["verdicts"]["verdicts"]["rows"]
    scores = next(row for row in rows if row["situation"] == "right of judged")
    found = {}
    for head, cell in scores.items():
        if head != "situation":
            right, _, judged = cell.partition(" of ")
            found[head.rpartition(" (")[0]] = int(right), int(judged)
    return found


def _verdict_sentence(run: Data) -> str:
    scores = right_of_judged(run)
    right, judged = scores.pop(OURS.name)
    best = max(scores, key=lambda name: scores[name][0] / scores[name][1])
    typical = statistics.median(right / judged for right, judged in scores.values())
    return (
        f"**Right under load.** Of {judged} situations that trip circuit breakers (racing, cancelled and hung probes, "
        "late answers, raising listeners, clocks set back, threads) this one does what it should in "
        f"{right}, the best of {len(scores)} rivals ({best}) in {scores[best][0]} of {scores[best][1]}, "
        f"the median rival in {100 * typical:.0f} %."
    )


def _outcome_sentence(played: Data) -> str:
    figures = played["figures"]
    ours, naive = figures["dead"][_STATED], figures["dead"]["naive"]
    noticed = [figures[plan][_STATED]["noticed"] for plan in ("dead", "brown-out", "hanging")]
    after = max(
        by[_STATED]["recovered_break"]
        for by in figures.values()
        if by[_STATED]["recovered_break"] is not None
    )
    opened = next(
        by[traffic] for name, by in played["openings"].items() if name == "resilience, stated"
        for traffic in by if traffic.startswith("1 %")
    )  # fmt: skip
    return (
        f"**On the bad day.** At {played['rate']:g} calls/s the "
        "[stated pipeline]({docs}docs/how-to/notice-within-a-second.md) "
        f"notices a dead, failing or hanging dependency within {max(noticed):.1f} s, sends a dead one "
        f"{ours['load']:.2f} requests per call ({ours['load_peak']:.1f} in the worst second; naive retries "
        f"{naive['load']:.1f}), answers 95 % of the calls again within {max(after, 0.1):.1f} s of the end of its "
        f"break, and opens {opened} times by mistake in {played['day'] / 3600:g} h at 1 % errors."
    )


def sentences(run: Data, played: Data) -> list[str]:
    """The three that matter: cost, correctness, outcomes; ``{docs}`` is the way to the root."""
    return [_cost_sentence(run), _verdict_sentence(run), _outcome_sentence(played)]


def with_sentences(readme: str, said: Sequence[str]) -> str:
    """
    README with these sentences between its two marks.

    Raises:
        ValueError: the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md does not have the lines {BEGIN} and {END}")
    lines = "\n".join(_wrapped(f"- {each.format(docs='')}") for each in said)
    return f"{before}{BEGIN}\n{lines}\n{END}{after}"


def _wrapped(text: str, width: int = 120) -> str:
    """As prose is wrapped here; a link is not broken."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "  " + word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, line])


# ------------------------------------------------------------------ the page over all Pythons


def counted_losses(run: Data) -> tuple[int, int, list[str]]:
    """Comparisons with a rival in the tables of cost that ours loses, all of them, and the tables with a loss."""
    rivals = {rival.name for rival in RIVALS}
    lost, judged, where = 0, 0, []
    for table in run["parts"]["cost"].values():
        for row in table["rows"]:
            if "x ours" in row and row["call"].partition(",")[0] in rivals:
                judged += 1
                if row["x ours"] < 1:
                    lost += 1
                    if table["title"] not in where:
                        where.append(table["title"])
    return lost, judged, where


_COLUMNS: tuple[tuple[str, Callable[[Data], str]], ...] = (
    ("breaker", lambda run: _times(_ratio(run, "breaker", "resilience, rate of 30 s"))),
    ("timeout", lambda run: _times(_ratio(run, "timeout", "resilience"))),
    ("`asyncio.timeout`", lambda run: _times(_ratio(run, "timeout", "asyncio.timeout"))),
    ("three layers", lambda run: _times(_ratio(run, "layers", "resilience"))),
    ("nopanic", lambda run: _times(_ratio(run, "layers", "nopanic"))),
    ("fastest mix", lambda run: _times(_ratio(run, "layers", _MIX))),
    ("three layers, suspends once", lambda run: _times(_ratio(run, "layers_suspending", "resilience"))),
    ("rejected, x raised", lambda run: _times(_ratio(run, "rejected", "resilience"))),
)  # fmt: skip


def _again_cell(first: Data, second: Data | None) -> str:
    if second is None:
        return "-"
    pairs = compare.compared(compare.ratios_of(first), compare.ratios_of(second))
    moved = compare.differing(pairs)
    return f"{len(pairs) - len(moved)} of {len(pairs)}"


def _verdict_cell(run: Data) -> str:
    right, judged = right_of_judged(run)[OURS.name]
    return f"{right} of {judged}"


_LEGEND = (
    "Ratios to W, the cheapest generic wrapper Python allows; the call returns at once unless it says otherwise. "
    "*right*: of the situations of [correctness under load](verdicts.md). *again*: how many of the headline ratios a "
    "second run, later in the same session, gave again within 15 %; `python -m benchmarks.compare "
    "benchmarks/results/3.13.json benchmarks/results/3.13-again.json` says which."
)
_VIRTUAL = (
    "[Correctness under load](verdicts.md): 14 situations, every breaker, and what each did. [Outcomes](outcomes.md): "
    "12 fault plans played in virtual time, targets, false openings, a picture for each plan."
)


def index(runs: Mapping[str, Data], again: Mapping[str, Data], played: Data) -> str:
    """
    benchmarks/results/README.md.

    Args:
        runs: By Python, what was measured; the newest must be there.
        again: By Python, the second runs.
        played: The outcomes.
    """
    newest = runs[NEWEST]
    said = [each.format(docs="../../") for each in sentences(newest, played)]
    quick = [python for python in PYTHONS if python in runs and runs[python]["quick"]]
    head = ["Python", *(title for title, _ in _COLUMNS), "right", "again within 15 %"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for python in PYTHONS:
        if python in runs:
            run = runs[python]
            cells = [cell(run) for _, cell in _COLUMNS]
            cells += [_verdict_cell(run), _again_cell(run, again.get(python))]
            lines.append(f"| [{run['python']}]({python}.md) | " + " | ".join(cells) + " |")
    lost, judged, where = counted_losses(newest)
    same = [
        f"{runs[python]['python']} gives {_outcome_cell(runs[python])}"
        for python in PYTHONS
        if python in runs and "outcomes" in runs[python]
    ]
    parts = [
        "# Results",
        "Written by `nox -s bench`; nothing here is written by hand.",
        *(
            [f"**Preliminary:** quick runs on a busy machine ({', '.join(quick)})."]
            if quick
            else []
        ),
        "\n".join(f"- {each}" for each in said),
        "\n".join(lines),
        _LEGEND,
        "[Targets](targets.md): each row of what the express lane was to reach, met or missed.",
        f"On {newest['python']} ours is the dearer one in {lost} of {judged} comparisons with a rival, in the tables "
        + "; ".join(f"*{title}*" for title in where)
        + ".",
        "## Correctness and outcomes",
        _VIRTUAL + (f" Played with a fifth of the calls, {'; '.join(same)}." if same else ""),
        "## Cost against concurrency",
        "\n\n".join(f"![CPython {python}]({python}.svg)" for python in PYTHONS if python in runs),
        f"Machine: {newest['machine']}. It took "
        + ", ".join(f"{run['minutes']:g} min on {run['python']}" for run in runs.values())
        + ".",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _outcome_cell(run: Data) -> str:
    differing = run["outcomes"]["differing"]
    return (
        f"other figures in {', '.join(differing)}"
        if differing
        else "the same figures to the last digit"
    )


def write_index(folder: Path, readme: Path) -> None:
    """The page over all Pythons that are there, and README's sentences."""
    runs = {python: run for python in PYTHONS if (run := read(folder / f"{python}.json"))}
    again = {python: run for python in PYTHONS if (run := read(folder / f"{python}-again.json"))}
    played = read(folder / "outcomes.json")
    if NEWEST not in runs or played is None:
        return  # nothing to sum up before the newest Python has run
    (folder / "README.md").write_text(index(runs, again, played), encoding="utf-8")
    (folder / "targets.md").write_text(targets.page(runs), encoding="utf-8")
    text = readme.read_text(encoding="utf-8")
    readme.write_text(with_sentences(text, sentences(runs[NEWEST], played)), encoding="utf-8")
