"""
The tables, in Markdown, each figure's meaning under it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import attrs

from benchmarks.outcomes.contenders import ATTEMPT, CONTENDERS, TOTAL
from benchmarks.outcomes.figures import PATIENCE, Figures
from benchmarks.outcomes.openings import TRAFFIC
from benchmarks.outcomes.plans import PLANS, Plan
from benchmarks.outcomes.trips import FAULTS, RATES, WATCHED, Condition
from benchmarks.outcomes.words import NONE, percent, seconds, table
from benchmarks.report import Table

__all__ = ["Results", "picture_name", "report", "tables"]


@attrs.frozen(kw_only=True)
class Results:
    """
    Everything one run found.

    Attributes:
        seed, rate: It was run with; calls per second.
        figures: By plan and contender, keys of `PLANS` and `CONTENDERS`.
        openings: By breaker and traffic, in `day` seconds.
        day: Length of the days, simulated seconds.
        trips: By name of the condition.
        absent: Distributions that were not installed.
    """

    seed: int
    rate: float
    figures: Mapping[str, Mapping[str, Figures]]
    openings: Mapping[str, Mapping[str, int]]
    day: float
    trips: Mapping[str, Condition]
    absent: Sequence[str]


def picture_name(plan: str) -> str:
    """File name of a plan's picture."""
    return plan.replace(" ", "-") + ".svg"


def _pair(first: str, second: str) -> str:
    return first if second == NONE else f"{first} / {second}"


@attrs.frozen
class _Shown:
    """A table: its title, what a cell says, and what that means."""

    title: str
    cell: Callable[[Plan, Figures], str]
    meaning: str


_SHOWN: tuple[_Shown, ...] = (
    _Shown(
        "Goodput",
        lambda _, f: _pair(percent(f.goodput), percent(f.goodput_after)),
        "Share of the calls that got an answer, of those that arrived during the fault / after it. An answer counts if "
        f"it came within {PATIENCE:g} s of the call's arrival, which is everybody's total limit but the bare call's.",
    ),
    _Shown(
        "Load amplification",
        lambda _, f: f"{f.load:.2f} / {f.load_peak:.1f}",
        "Requests that reached the server per call, refused ones included, during the fault / in the worst second of "
        "the plan. 1 is what bare calls send; less means that the circuit kept calls back.",
    ),
    _Shown(
        "Time to notice",
        lambda plan, f: (
            seconds(f.noticed)
            + (f" ({f.openings} times)" if f.openings > 1 else "")
            + (" **!**" if plan.quiet and f.openings else "")
        ),
        "From the start of the fault until the circuit opened and rejected calls, and how often it opened in the plan. "
        "**!** marks plans in which it should stay closed: the server is well, or a second attempt is enough.",
    ),
    _Shown(
        "Time to 95 % goodput",
        lambda _, f: _pair(seconds(f.recovered), seconds(f.recovered_break)),
        "From the end of the fault until at least 95 % of the calls of the next 5 s are answered / the same from the "
        "end of the break that was running when the fault ended, where one was. The first figure is how much of the "
        "break was left, which is chance: on average half of it.",
    ),
    _Shown(
        "Callers waited",
        lambda _, f: seconds(f.waited),
        "99 % of all callers of the plan had their answer or error within this time.",
    ),
    _Shown(
        "Calls in flight",
        lambda _, f: str(f.in_flight),
        "Most calls in flight at once: connections, memory, and what is stuck in the caller when the server hangs.",
    ),
    _Shown(
        "Wasted work",
        lambda _, f: str(f.wasted),
        "Requests worked on to the end although their client had left, until the last caller was done.",
    ),
)


def report(results: Results) -> str:
    """The whole page."""
    plans = [PLANS[name] for name in results.figures]
    parts = [_heading(results)]
    if {"dead", "hanging", "brown-out"} <= results.figures.keys() and results.openings:
        parts.append(_targets(results))
    parts.append("## Who plays\n\n" + _contenders(results))
    parts.append("## What happens\n\n" + _plans(plans))
    parts += [_matrix(results, shown) for shown in _SHOWN]
    if results.openings:
        parts.append(_openings(results))
    if results.trips:
        parts.append(_trips(results))
    parts.append(_pictures(plans))
    return "\n\n".join(parts) + "\n"


def tables(results: Results) -> list[Table]:
    """What `report` shows, without its prose, for a terminal and for JSON."""
    keys = _keys(results)
    found = []
    for shown in _SHOWN:
        rows = [
            [name, *(shown.cell(PLANS[name], by[key]) for key in keys)]
            for name, by in results.figures.items()
        ]
        columns = {"plan": ""} | {CONTENDERS[key].name: "" for key in keys}
        name = shown.title.lower().replace(" % ", " ").replace(" ", "_")
        found.append(
            Table(name=name, title=shown.title, columns=columns, rows=rows, notes=[shown.meaning])
        )
    if results.openings:
        traffic = list(next(iter(results.openings.values())))
        rows = [[name, *by.values()] for name, by in results.openings.items()]
        columns = {"breaker": ""} | dict.fromkeys(traffic, "d")
        title = f"Openings in {results.day / 3600:g} h"
        found.append(Table(name="openings", title=title, columns=columns, rows=rows))
    return found  # fmt: skip


def _keys(results: Results) -> list[str]:
    return list(next(iter(results.figures.values())))


def _heading(results: Results) -> str:
    names = ("circuitbreaker", "nopanic", "tenacity")
    versions = ", ".join(
        f"{name} {'(not installed)' if name in results.absent else version(name)}" for name in names
    )
    lengths = [PLANS[name].seconds for name in results.figures]
    return (
        "# Outcomes\n\n"
        f"CPython {platform.python_version()}, {versions}. {results.rate:g} calls per second arrive as a Poisson "
        "stream whether or not earlier ones are done, for "
        f"{min(lengths):g} to {max(lengths):g} s. "
        f"Seed {results.seed}.\n\n"
        "The real code of each contender runs in virtual time (`resilience.testing.run`) against one model of a "
        "server with service slots, a bounded queue and faults. Calls, work and luck are the same for all of them. "
        "Nothing is measured in real time: the same seed and versions give the same page, and "
        "`python -m benchmarks.outcomes --markdown benchmarks/results/outcomes.md --svg benchmarks/results/outcomes` "
        "writes it again."
    )


_JUDGED = ("mix", "nopanic", "nopanic-brisk", "ours", "ours-budget", "stated")


def _targets(results: Results) -> str:
    keys = [
        key
        for key in ("mix", "nopanic", "nopanic-brisk", "ours", "ours-budget", "stated")
        if key in _keys(results)
    ]
    names = {
        "mix": "circuitbreaker",
        "nopanic": "nopanic",
        "nopanic-brisk": "nopanic, brisk",
        "ours": "resilience",
        "ours-budget": "resilience",  # a budget is no part of a breaker
        "stated": "resilience, stated",
    }
    one_percent = next(name for name in TRAFFIC if name.startswith("1 %"))

    def cell(value: float | None, limit: float, text: str) -> str:
        met = value is not None and value <= limit
        return text if met else f"{text} (missed)"

    def of(plan: str, key: str) -> Figures:
        return results.figures[plan][key]

    def noticed(plan: str) -> list[str]:
        return [cell(of(plan, key).noticed, 1.0, seconds(of(plan, key).noticed)) for key in keys]

    def recovery(key: str) -> str:
        after = [
            value
            for by in results.figures.values()
            if (value := by[key].recovered_break) is not None
        ]
        return cell(max(after), 2.0, seconds(max(after))) if after else NONE

    def opened(key: str) -> str:
        count = results.openings.get(names[key], {}).get(one_percent)
        return NONE if count is None else cell(count, 0, str(count))

    rows = [
        ["load on a dead dependency, whole fault: at most 1.25",
         *(cell(of("dead", k).load, 1.25, f"{of('dead', k).load:.2f}") for k in keys)],
        ["the same in the worst second: at most 1.25",
         *(cell(of("dead", k).load_peak, 1.25, f"{of('dead', k).load_peak:.2f}") for k in keys)],
        ["dead, noticed within 1 s", *noticed("dead")],
        ["brown-out, noticed within 1 s", *noticed("brown-out")],
        ["hanging, noticed within 1 s", *noticed("hanging")],
        ["95 % goodput within 2 s of the break's end, worst plan", *map(recovery, keys)],
        [f"false openings in {results.day / 3600:g} h at 1 % errors: 0", *map(opened, keys)],
    ]  # fmt: skip
    return (
        "## Targets\n\n"
        + table(["target", *(CONTENDERS[key].name for key in keys)], rows)
        + "\n\nThe stated pipeline meets them all. The defaults notice slowly, because half of 30 s has to fail; "
        "[why they stay](../../docs/design/adr/0018-the-default-trip-stays.md). A budget alone helps less than it "
        "seems: the good seconds before the fault have filled it, so the worst second is as bad, and fewer failing "
        "calls are noticed later. What the stated pipeline costs is in the rows *partial* and *rate-limited* below."
    )


def _contenders(results: Results) -> str:
    lines = [f"- **{CONTENDERS[key].name}**: {CONTENDERS[key].text}." for key in _keys(results)]
    if results.absent:
        lines.append(f"- Not installed, and so not here: {', '.join(results.absent)}.")
    return "\n".join(lines) + (
        f"\n\nBut for the bare call, all have {TOTAL:g} s for a call, {ATTEMPT:g} s for an attempt and three attempts. "
        "Retries are for connection errors, timeouts and 429; circuits count connection errors and timeouts. tenacity "
        "does not read `Retry-After` by itself. circuitbreaker counts failures in a row and lets every caller in after "
        "30 s. nopanic's call limit is its `timeout`, because its `deadline` reads the process's clock."
    )


def _plans(plans: Sequence[Plan]) -> str:
    text = table(
        ["plan", "server"],
        (
            [f"**{plan.name}**: {plan.text}", f"{plan.slots} slots, {plan.capacity:.0f}/s, queue {plan.queue}"]
            for plan in plans
        ),
        text=2,
    )  # fmt: skip
    return text + (
        "\n\nFault plans begin with 40 s in which all is well and end with 60 s of it; the long tail lasts from "
        "beginning to end. Work is 0.1 s on average. A request that finds the queue full gets 503. A request whose "
        "client has left is worked on all the same."
    )


def _matrix(results: Results, shown: _Shown) -> str:
    keys = _keys(results)
    head = ["plan", *(CONTENDERS[key].name for key in keys)]
    rows = (
        [name, *(shown.cell(PLANS[name], by[key]) for key in keys)]
        for name, by in results.figures.items()
    )
    return f"## {shown.title}\n\n{table(head, rows)}\n\n{shown.meaning}"


def _openings(results: Results) -> str:
    traffic = list(next(iter(results.openings.values())))
    rows = ([name, *(str(by[each]) for each in traffic)] for name, by in results.openings.items())
    return (
        f"## Openings in {results.day / 3600:g} h\n\n"
        + table(["breaker", *traffic], rows)
        + "\n\nThe breakers alone, settings as above, no retries. Every error is a failure of its own accord, and no "
        "call takes any time. At 1 % and 10 % every opening is a false one; whether 25 % errors, or a second in which "
        "everything fails, are worth one is for the user to say: what notices a fault within a second also notices a "
        "fault of a second."
    )


def _trips(results: Results) -> str:
    traffic = list(next(iter(results.trips.values())).openings)
    noticed = table(
        ["noticed after", *(f"{fault}, {rate:g}/s" for rate in RATES for fault in FAULTS)],
        (
            [name, *(seconds(each.noticed[fault, rate]) for rate in RATES for fault in FAULTS)]
            for name, each in results.trips.items()
        ),
    )
    opened = table(
        [f"openings in {WATCHED / 3600:g} h", *traffic],
        (
            [name, *(str(each.openings[kind]) for kind in traffic)]
            for name, each in results.trips.items()
        ),
    )
    return (
        f"## Other trip conditions\n\n{noticed}\n\n"
        "The pipeline of *resilience* with other conditions: seconds from the start of the fault until the circuit "
        "opened, at 100, 10 and 1 calls per second; the server is scaled with the calls.\n\n"
        f"{opened}\n\nThe same breakers alone, as above. A window of the last calls is quick where there are many "
        "calls, a window of time where there are few; either of them is enough to open."
    )


def _pictures(plans: Sequence[Plan]) -> str:
    return "## Pictures\n\n" + "\n\n".join(
        f"### {plan.name}\n\n{plan.text}\n\n![{plan.name}](outcomes/{picture_name(plan.name)})"
        for plan in plans
    )
