"""
What came of it: numbers from the clients' records and the server's request log, and the tables that show them.

Pure: records in, figures and text out. The definitions under the tables are part of the result; a figure that cannot be
had, such as the latency of no answers, is None and is shown as a dash.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from resilience.demo.plan import Fault, Mode, Plan, Span
from resilience.demo.records import (
    BARE,
    GROUPS,
    GUARDED,
    Attempt,
    Call,
    Fate,
    Outcome,
    Request,
    Served,
)

__all__ = [
    "PATIENCE",
    "Clients",
    "FaultFigures",
    "Match",
    "PhaseFigures",
    "Report",
    "Run",
    "Server",
    "Sheet",
    "reckon",
]

_SHARE = 0.95
_WINDOW = 1.0
PATIENCE = 1.0
"""Seconds after which an answer is late."""


def quantile(values: Iterable[float], q: float) -> float | None:
    """The smallest value that at least the share `q` of all values do not exceed (nearest rank); None of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else None


@attrs.frozen
class Run:
    """Everything that was written down: both groups' calls and attempts, the server's log, the circuit's openings."""

    plan: Plan
    elapsed: float
    calls: Mapping[str, Sequence[Call]]
    attempts: Mapping[str, Sequence[Attempt]]
    log: Sequence[Request]
    openings: Sequence[float] = ()


@attrs.frozen
class Clients:
    """One group's calls, by how they ended for the caller; times in seconds."""

    calls: int
    answered: int
    in_time: int
    rejected: int
    failed: int
    dropped: int
    unfinished: int
    attempts: int
    attempts_per_call: float | None
    p50: float | None
    p99: float | None
    p50_failed: float | None
    p99_failed: float | None
    errors: Mapping[str, int]

    @classmethod
    def of(cls, calls: Iterable[Call]) -> Clients:
        """The figures of these calls."""
        calls = tuple(calls)
        outcomes = Counter(call.outcome for call in calls)
        started = len(calls) - outcomes[Outcome.DROPPED]
        attempts = sum(call.attempts for call in calls)

        def waited(outcome: Outcome) -> list[float]:
            return [
                call.end - call.at
                for call in calls
                if call.outcome is outcome and call.end is not None
            ]

        answered, failed = waited(Outcome.ANSWERED), waited(Outcome.FAILED)
        return cls(
            calls=len(calls),
            answered=outcomes[Outcome.ANSWERED],
            in_time=sum(seconds <= PATIENCE for seconds in answered),
            rejected=outcomes[Outcome.REJECTED],
            failed=outcomes[Outcome.FAILED],
            dropped=outcomes[Outcome.DROPPED],
            unfinished=outcomes[Outcome.UNFINISHED],
            attempts=attempts,
            attempts_per_call=attempts / started if started else None,
            p50=quantile(answered, 0.5),
            p99=quantile(answered, 0.99),
            p50_failed=quantile(failed, 0.5),
            p99_failed=quantile(failed, 0.99),
            errors=dict(
                sorted(Counter(call.error for call in calls if call.error is not None).items())
            ),
        )


@attrs.frozen
class Server:
    """One group's requests as the server logged them; `p50` and `p99` are seconds in the server, of those answered."""

    requests: int
    answered: int
    failed: int
    shed: int
    gone: int
    killed: int
    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, requests: Iterable[Request]) -> Server:
        """The figures of these requests."""
        requests = tuple(requests)
        fates = Counter(request.fate for request in requests)
        inside = [
            request.end - request.at for request in requests if request.fate is Served.ANSWERED
        ]
        return cls(
            requests=len(requests),
            answered=fates[Served.ANSWERED],
            failed=fates[Served.ERROR] + fates[Served.RESET] + fates[Served.HALF],
            shed=fates[Served.SHED],
            gone=fates[Served.GONE],
            killed=fates[Served.KILLED],
            p50=quantile(inside, 0.5),
            p99=quantile(inside, 0.99),
        )


@attrs.frozen
class Match:
    """
    The clients' attempts against the server's log.

    Attributes:
        attempts: What the clients count.
        refused: Of these, no connection was had.
        logged: Of these, the server logged.
        unseen: Neither: the client left, or the connection broke, before the server had read the request.
        strangers: Logged requests that no client sent. Anything but 0 is a defect of the demo.
        missing: Answers that a client got and the server did not log. Only a server that was killed leaves any.
    """

    attempts: int
    refused: int
    logged: int
    unseen: int
    strangers: int
    missing: int

    @classmethod
    def of(cls, attempts: Iterable[Attempt], requests: Iterable[Request]) -> Match:
        """Attempts and requests are the same where call and attempt number are."""
        fates = {(attempt.call, attempt.number): attempt.fate for attempt in attempts}
        served = {(request.call, request.attempt) for request in requests}
        outside = [fate for key, fate in fates.items() if key not in served]
        refused = outside.count(Fate.REFUSED)
        return cls(
            attempts=len(fates),
            refused=refused,
            logged=len(fates) - len(outside),
            unseen=len(outside) - refused,
            strangers=len(served - fates.keys()),
            missing=outside.count(Fate.ANSWERED),
        )


@attrs.frozen
class PhaseFigures:
    """One phase: the calls that arrived and the requests that reached the server in it, by group."""

    mode: Mode
    start: float
    end: float
    clients: Mapping[str, Clients]
    server: Mapping[str, Server]


@attrs.frozen
class FaultFigures:
    """One fault: seconds until each group noticed it and recovered from it (None: it did not), and the time it had."""

    mode: Mode
    start: float
    end: float
    notice: Mapping[str, float | None]
    recover: Mapping[str, float | None]
    calm: float
    window: float


@attrs.frozen
class Report:
    """The figures of a whole run."""

    clients: Mapping[str, Clients]
    server: Mapping[str, Server]
    attempts_in_faults: Mapping[str, int]
    phases: Sequence[PhaseFigures]
    faults: Sequence[FaultFigures]
    matches: Mapping[str, Match]

    def sheets(self) -> tuple[Sheet, ...]:
        """The tables: totals, phases, and faults if there were any."""
        faults = (_fault_sheet(self.faults),) if self.faults else ()
        return (_total_sheet(self), _phase_sheet(self.phases), *faults)

    def notes(self) -> tuple[str, ...]:
        """What the figures mean, and whether the two accounts agree."""
        return (
            *_paragraphs(_DEFINITIONS),
            *(_verdict(name, self.matches[name]) for name in GROUPS),
            *(() if self.faults else (self._nothing_gained(),)),
        )

    def _nothing_gained(self) -> str:
        guarded, bare = self.clients[GUARDED], self.clients[BARE]
        return (
            f"No fault in this run, so nothing to gain: guarded answered {guarded.answered} of "
            f"{guarded.calls}, bare {bare.answered} of {bare.calls}. A difference in p50 or p99 is "
            "noise, or what the guard costs."
        )


def reckon(run: Run) -> Report:
    """All figures of a run, as far as it went."""
    log = {name: [request for request in run.log if request.group == name] for name in GROUPS}
    faults = [fault for fault in run.plan.faults() if fault.start < run.elapsed]
    return Report(
        clients={name: Clients.of(run.calls[name]) for name in GROUPS},
        server={name: Server.of(log[name]) for name in GROUPS},
        attempts_in_faults={
            name: sum(
                _within(attempt.at, fault) for attempt in run.attempts[name] for fault in faults
            )
            for name in GROUPS
        },
        phases=[
            PhaseFigures(
                span.mode,
                span.start,
                span.end,
                {
                    name: Clients.of(call for call in run.calls[name] if _within(call.at, span))
                    for name in GROUPS
                },
                {
                    name: Server.of(request for request in log[name] if _within(request.at, span))
                    for name in GROUPS
                },
            )
            for span in run.plan.spans()
            if span.start < run.elapsed
        ],
        faults=[_figures(fault, run) for fault in faults],
        matches={name: Match.of(run.attempts[name], log[name]) for name in GROUPS},
    )


def _within(at: float, span: Span | Fault) -> bool:
    return span.start <= at < span.end


def _figures(fault: Fault, run: Run) -> FaultFigures:
    calm_until = min(fault.calm_until, run.elapsed)
    calm = max(0.0, calm_until - fault.end)
    window = min(_WINDOW, calm / 2)
    return FaultFigures(
        mode=fault.mode,
        start=fault.start,
        end=fault.end,
        notice={
            name: _notice(fault, run.calls[name], run.openings if name == GUARDED else None)
            for name in GROUPS
        },
        recover={name: _recover(run.calls[name], fault.end, calm_until, window) for name in GROUPS},
        calm=calm,
        window=window,
    )


def _notice(fault: Fault, calls: Iterable[Call], openings: Iterable[float] | None) -> float | None:
    """Seconds until the first failure, or, for the group with a circuit, until it opened or first rejected a call."""
    sign = Outcome.FAILED if openings is None else Outcome.REJECTED
    signs = [
        call.end
        for call in calls
        if call.outcome is sign and call.end is not None and _within(call.at, fault)
    ] + [at for at in openings or () if _within(at, fault)]
    return min(signs) - fault.start if signs else None


def _recover(calls: Iterable[Call], end: float, until: float, window: float) -> float | None:
    """Seconds from `end` to the first window whose calls were answered, all but one in twenty."""
    arrived = [call for call in calls if end <= call.at < until]
    for start in (end, *(call.at for call in arrived)):
        if start + window > until:
            break
        inside = [
            call.outcome is Outcome.ANSWERED
            for call in arrived
            if start <= call.at < start + window
        ]
        if inside and sum(inside) >= _SHARE * len(inside):
            return start - end
    return None


@attrs.frozen
class Sheet:
    """A table as text: the first column is set left, the others right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """Plain lines, columns aligned; an empty row is a blank line and a row of one cell a heading."""
        cells = [self.columns, *self.rows]
        widths = [
            max(len(row[index]) for row in cells if index < len(row) > 1)
            for index in range(len(self.columns))
        ]

        def line(row: Sequence[str]) -> str:
            first, *others = zip(row, widths, strict=False)
            return "  ".join(
                [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
            ).rstrip()

        rule = "-" * len(line(["-" * width for width in widths]))
        return "\n".join([self.title, rule, line(self.columns), rule, *map(line, self.rows), rule])


def span_text(seconds: float | None, none: str = "-") -> str:
    """A time as people read it."""
    if seconds is None:
        return none
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _total_sheet(report: Report) -> Sheet:
    def row(label: str, values: Mapping[str, str]) -> tuple[str, ...]:
        return (label, *(values[name] for name in GROUPS))

    def client(label: str, field: str) -> tuple[str, ...]:
        return row(
            label, {name: _cell(getattr(each, field)) for name, each in report.clients.items()}
        )

    def server(label: str, field: str) -> tuple[str, ...]:
        return row(
            label, {name: _cell(getattr(each, field)) for name, each in report.server.items()}
        )

    return Sheet(
        "All calls",
        ("", *GROUPS),
        (
            ("by the clients' records",),
            client("calls", "calls"),
            client("  answered", "answered"),
            client(f"    within {PATIENCE:g} s", "in_time"),
            client("  rejected", "rejected"),
            client("  failed", "failed"),
            client("  dropped", "dropped"),
            client("  unfinished", "unfinished"),
            client("p50 of the answered", "p50"),
            client("p99 of the answered", "p99"),
            client("p50 of the failed", "p50_failed"),
            client("p99 of the failed", "p99_failed"),
            row(
                "attempts per call",
                {name: _ratio(each.attempts_per_call) for name, each in report.clients.items()},
            ),
            row(
                "attempts during faults",
                {name: str(count) for name, count in report.attempts_in_faults.items()},
            ),
            ("by the server's log",),
            server("requests", "requests"),
            server("  answered", "answered"),
            server("  failed", "failed"),
            server("  shed", "shed"),
            server("  client gone", "gone"),
            server("  killed", "killed"),
            server("p50 in the server", "p50"),
            server("p99 in the server", "p99"),
        ),
    )


def _cell(value: float | None) -> str:
    return str(value) if isinstance(value, int) else span_text(value)


def _phase_sheet(phases: Iterable[PhaseFigures]) -> Sheet:
    def row(phase: PhaseFigures, name: str) -> tuple[str, ...]:
        clients, server = phase.clients[name], phase.server[name]
        first = name == GROUPS[0]
        return (
            f"{phase.start:5.1f} {phase.mode}" if first else "",
            name,
            str(clients.answered),
            str(clients.rejected),
            str(clients.failed),
            str(clients.dropped),
            span_text(clients.p99),
            str(server.requests),
        )

    return Sheet(
        "By phase",
        ("    s phase", "group", "answered", "rejected", "failed", "dropped", "p99", "requests"),
        [row(phase, name) for phase in phases for name in GROUPS],
    )


def _fault_sheet(faults: Iterable[FaultFigures]) -> Sheet:
    def recover(fault: FaultFigures, name: str) -> str:
        return span_text(fault.recover[name], f"not in {fault.calm:.1f} s" if fault.calm else "-")

    return Sheet(
        "By fault",
        (
            "    s fault",
            *(f"{name} notices" for name in GROUPS),
            *(f"{name} recovers" for name in GROUPS),
        ),
        [
            (
                f"{fault.start:5.1f} {fault.mode}",
                *(span_text(fault.notice[name], "never") for name in GROUPS),
                *(recover(fault, name) for name in GROUPS),
            )
            for fault in faults
        ],
    )


_DEFINITIONS = f"""
calls: arrivals at a fixed rate, the same times in both groups. rejected: turned away by the circuit,
no attempt made. dropped: arrived while the group had all the calls in flight that it may have.
unfinished: cut by the end of the demo. Phases count the calls that arrived in them.

p50, p99: nearest rank, from a call's appointed time to its end; in the server, from reading the
request to the end of the answer.

attempts per call: requests the clients tried to send, by the calls that were not dropped.

requests: those the server read; while it is dead it reads none. failed: 503, reset or half an
answer. shed: 503, the queue was full. client gone: the client left before the answer. killed: the
server died, or the demo ended, before the answer.

notices: from the start of the fault to the first failed call (bare), or to the opening of the
circuit or the first rejected call (guarded), of the calls that arrived during the fault.

recovers: from the end of the fault to the first {_WINDOW:g} s (half the calm, where that is shorter) in
which at least {_SHARE:.0%} of the calls that arrived were answered in the end.

Each group has workers and a queue of its own in the server, so neither slows the other.
"""


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        yield " ".join(paragraph.split())


def _verdict(name: str, match: Match) -> str:
    text = (
        f"{name}: {match.attempts} attempts = {match.logged} in the server's log + {match.refused} refused + "
        f"{match.unseen} cut before the server read them"
    )
    if match.strangers or match.missing:
        return (
            f"{text}; the two accounts DISAGREE: {match.strangers} logged and never sent, "
            f"{match.missing} answered and not logged."
        )
    return f"{text}; the two accounts agree."
