"""The figures, against runs small enough to reckon by hand."""

import json

import attrs
import pytest

from resilience.demo.plan import Mode, Phase, Plan
from resilience.demo.records import Attempt, Call, Fate, Outcome, Request, Served, read_log
from resilience.demo.report import Clients, Match, Run, Server, Sheet, quantile, reckon, span_text

PLAN = Plan("p", (Phase(Mode.HEALTHY, 2), Phase(Mode.FAILING, 2), Phase(Mode.RECOVERING, 4)))


def call(
    at: float, outcome: Outcome = Outcome.ANSWERED, took: float = 0.1, attempts: int = 1
) -> Call:
    error = "OSError" if outcome is Outcome.FAILED else None
    return Call(int(at * 1000), at, at + took, outcome, attempts, error)


def run(bare: list[Call] = (), guarded: list[Call] = (), elapsed: float = 8.0, **others) -> Run:
    nothing = {"attempts": {"bare": [], "guarded": []}, "log": []}
    calls = {"bare": bare, "guarded": guarded}
    return Run(**{"plan": PLAN, "elapsed": elapsed, "calls": calls} | nothing | others)


def request(
    number: int, at: float = 0.0, fate: Served = Served.ANSWERED, group: str = "bare"
) -> Request:
    return Request(at, group, number, 1, Mode.HEALTHY, 0.0, at + 0.5, fate)


@pytest.mark.parametrize(
    ("count", "q", "expected"),
    [
        (0, 0.5, None),
        (1, 0.5, 1),
        (1, 0.99, 1),
        (2, 0.5, 1),
        (3, 0.5, 2),
        (100, 0.99, 99),
        (101, 0.99, 100),
        (5, 0, 1),
    ],
)
def test_quantiles_are_of_the_nearest_rank(count, q, expected):
    """
    The smallest value that a share q of the values does not exceed: a value that was seen, never one between.
    """
    assert expected == quantile(range(count, 0, -1), q)


def test_calls_are_counted_by_outcome():
    """
    Dropped calls were never started: they are calls, and no part of attempts per call.
    """
    figures = Clients.of(
        [
            call(0, took=0.1),
            call(1, took=1.5, attempts=2),
            call(2, Outcome.FAILED, took=3.0, attempts=3),
            call(3, Outcome.REJECTED, took=0.0, attempts=0),
            call(4, Outcome.DROPPED, took=0.0, attempts=0),
            Call(5, 5.0, attempts=1),
        ]
    )

    assert (6, 2, 1, 1, 1, 1, 1) == (
        figures.calls,
        figures.answered,
        figures.in_time,
        figures.rejected,
        figures.failed,
        figures.dropped,
        figures.unfinished,
    )
    assert 7 == figures.attempts
    assert pytest.approx(7 / 5) == figures.attempts_per_call
    assert pytest.approx((0.1, 1.5, 3.0, 3.0)) == (
        figures.p50,
        figures.p99,
        figures.p50_failed,
        figures.p99_failed,
    )
    assert {"OSError": 1} == figures.errors


def test_no_calls_have_no_latency():
    """
    Nothing is None, not nought.
    """
    figures = Clients.of([])

    assert (0, None, None) == (figures.calls, figures.attempts_per_call, figures.p50)


def test_requests_are_counted_by_their_end():
    """
    503, resets and half answers are failures; a full queue, a client that left and a death are not.
    """
    figures = Server.of([request(number, fate=fate) for number, fate in enumerate(Served)])

    assert (
        Server(requests=7, answered=1, failed=3, shed=1, gone=1, killed=1, p50=0.5, p99=0.5)
        == figures
    )


def test_a_bare_group_notices_by_a_failed_call_that_arrived_in_the_fault():
    """
    A failure before the fault, or of a call that arrived before it, tells nothing of it.
    """
    calls = [
        call(1.9, Outcome.FAILED, took=0.3),
        call(2.1, took=0.2),
        call(2.2, Outcome.FAILED, took=1.0),
        call(2.5, Outcome.FAILED, took=0.2),
        call(2.6, Outcome.REJECTED, took=0.0),
    ]

    (fault,) = reckon(run(calls)).faults

    assert pytest.approx(0.7) == fault.notice["bare"]


@pytest.mark.parametrize(
    ("openings", "expected"), [([], 0.6), ([2.4], 0.4), ([2.9], 0.6), ([1.9], 0.6), ([4.1], 0.6)]
)
def test_a_guarded_group_notices_by_the_opening_or_the_first_rejection(openings, expected):
    """
    Whichever came first, within the fault; a failed call alone is no notice.
    """
    calls = [call(2.1, Outcome.FAILED, took=0.1), call(2.6, Outcome.REJECTED, took=0.0)]

    (fault,) = reckon(run(guarded=calls, openings=openings)).faults

    assert pytest.approx(expected) == fault.notice["guarded"]


def test_who_never_failed_never_noticed():
    """
    A fault that no call met is noticed by nobody.
    """
    (fault,) = reckon(run()).faults

    assert {"bare": None, "guarded": None} == fault.notice


def test_recovered_is_the_first_second_with_nineteen_of_twenty_answered():
    """
    Calls every 0.1 s; the last failure at 4.5: one failure in ten is too many, so recovery begins with the next call.
    """
    calls = [
        call(4.0 + tenth / 10, Outcome.FAILED if tenth == 5 else Outcome.ANSWERED)
        for tenth in range(40)
    ]

    (fault,) = reckon(run(calls)).faults

    assert pytest.approx(0.6) == fault.recover["bare"]
    assert 1.0 == fault.window


def test_one_failure_in_twenty_is_recovered():
    """
    The share is compared with >=.
    """
    calls = [
        call(4.0 + step / 20, Outcome.REJECTED if step == 5 else Outcome.ANSWERED)
        for step in range(80)
    ]

    (fault,) = reckon(run(guarded=calls)).faults

    assert 0.0 == fault.recover["guarded"]


def test_no_recovery_within_the_calm_is_none():
    """
    A group whose calls all fail, and a group without calls, have not recovered.
    """
    calls = [call(4.0 + step / 10, Outcome.DROPPED) for step in range(40)]

    (fault,) = reckon(run(calls)).faults

    assert {"bare": None, "guarded": None} == fault.recover
    assert 4.0 == fault.calm


def test_a_short_calm_has_a_short_window():
    """
    Half the calm, where that is less than a second.
    """
    calls = [call(4.0 + step / 10) for step in range(10)]

    (fault,) = reckon(run(calls, elapsed=5.0)).faults

    assert (1.0, 0.5) == (fault.calm, fault.window)
    assert 0.0 == fault.recover["bare"]


def test_a_run_that_was_cut_short_tells_of_what_it_reached():
    """
    Phases and faults that had not begun are left out; a fault that was going on has no recovery.
    """
    report = reckon(run([call(0.5), call(2.5, Outcome.FAILED)], elapsed=3.0))

    assert [Mode.HEALTHY, Mode.FAILING] == [phase.mode for phase in report.phases]
    assert [1, 1] == [phase.clients["bare"].calls for phase in report.phases]
    assert 0.0 == report.faults[0].calm
    assert {"bare": None, "guarded": None} == report.faults[0].recover
    assert () == tuple(reckon(run(elapsed=1.0)).faults)


def test_calls_and_requests_belong_to_the_phase_they_came_in():
    """
    Attempts during faults are counted from the clients' side: a dead server logs nothing.
    """
    report = reckon(
        run(
            [call(1.9, took=2.0)],
            log=[request(1, at=1.9), request(2, at=2.0), request(3, at=2.1, group="guarded")],
            attempts={
                "bare": [
                    Attempt(1, 1, 1.9),
                    Attempt(2, 1, 2.0),
                    Attempt(3, 1, 3.99),
                    Attempt(4, 1, 4.0),
                ],
                "guarded": [],
            },
        )
    )

    assert [1, 0, 0] == [phase.clients["bare"].calls for phase in report.phases]
    assert [1, 1, 0] == [phase.server["bare"].requests for phase in report.phases]
    assert [0, 1, 0] == [phase.server["guarded"].requests for phase in report.phases]
    assert {"bare": 2, "guarded": 0} == report.attempts_in_faults


def test_attempts_are_matched_with_the_log():
    """
    Each attempt is in the log, was refused, or was cut before it was read; each logged request is an attempt.
    """
    attempts = [
        Attempt(1, 1, 0.0, Fate.ANSWERED),
        Attempt(2, 1, 0.0, Fate.REFUSED),
        Attempt(3, 1, 0.0, Fate.CUT),
        Attempt(4, 1, 0.0, Fate.ANSWERED),
    ]

    match = Match.of(attempts, [request(1), request(9)])

    assert Match(attempts=4, refused=1, logged=1, unseen=2, strangers=1, missing=1) == match


def test_a_disagreement_is_said():
    """
    The report does not hide that the two accounts differ.
    """
    answered = {"bare": [Attempt(1, 1, 0.0, Fate.ANSWERED)], "guarded": [Attempt(1, 1, 0.0)]}

    notes = reckon(run(attempts=answered, log=[request(1, group="guarded")])).notes()

    assert any("bare: 1 attempts" in note and "DISAGREE" in note for note in notes)
    assert any("guarded: 1 attempts" in note and "accounts agree" in note for note in notes)


def test_a_run_without_faults_says_that_there_was_nothing_to_gain():
    """
    And has no table of faults.
    """
    healthy = reckon(run([call(1.0)], [call(1.0)], elapsed=1.5))
    faulty = reckon(run([call(1.0)], [call(1.0)]))

    assert any("guarded answered 1 of 1, bare 1 of 1" in note for note in healthy.notes())
    assert not any("nothing to gain" in note for note in faulty.notes())
    assert ["All calls", "By phase"] == [sheet.title for sheet in healthy.sheets()]
    assert ["All calls", "By phase", "By fault"] == [sheet.title for sheet in faulty.sheets()]


def test_the_tables_show_the_figures():
    """
    One line per figure, one pair of lines per phase, one line per fault.
    """
    report = reckon(
        run(
            [call(1.0, took=2.0), call(2.5, Outcome.FAILED)],
            [call(1.0), call(2.5, Outcome.REJECTED, took=0.0, attempts=0)],
            log=[request(1000, at=1.0)],
        )
    )

    total, phases, faults = (sheet.text().splitlines() for sheet in report.sheets())

    assert ["calls", "2", "2"] in [line.split() for line in total]
    assert ["p50", "of", "the", "answered", "2.00", "s", "100", "ms"] in [
        line.split() for line in total
    ]
    assert ["p50", "in", "the", "server", "500", "ms", "-"] in [line.split() for line in total]
    assert ["attempts", "per", "call", "1.00", "0.50"] in [line.split() for line in total]
    assert ["2.0", "failing", "bare", "0", "0", "1", "0", "-", "0"] in [
        line.split() for line in phases
    ]
    assert ["2.0", "failing", "600", "ms", "500", "ms", *["not", "in", "4.0", "s"] * 2] in [
        line.split() for line in faults
    ]
    cut = reckon(run(elapsed=3.0)).sheets()[-1].text().splitlines()
    assert ["2.0", "failing", "never", "never", "-", "-"] in [line.split() for line in cut]


def test_a_table_is_aligned():
    """
    First column left, the others right; a row of one cell is a heading and widens nothing.
    """
    sheet = Sheet(
        "T", ("", "a", "bb"), [("a long heading of its own",), ("x", "100", "2"), ("yy", "3", "4")]
    )

    assert ["T", "-----------", "      a  bb", "-----------", "a long heading of its own"] == (
        sheet.text().splitlines()[:5]
    )
    assert ["x   100   2", "yy    3   4", "-----------"] == sheet.text().splitlines()[5:]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.0, "0 ms"), (0.0126, "13 ms"), (0.9994, "999 ms"), (1.0, "1.00 s")],
)
def test_times_are_readable(seconds, text):
    """
    Milliseconds below a second, two digits above.
    """
    assert text == span_text(seconds, "?")


def test_figures_are_json():
    """
    What --json writes is the report itself.
    """
    figures = json.loads(json.dumps(attrs.asdict(reckon(run([call(1.0)])))))

    assert 1 == figures["clients"]["bare"]["answered"]
    assert "failing" == figures["faults"][0]["mode"]


def test_a_log_line_comes_back():
    """
    The log is JSON lines; a last line that a killed server did not finish is left out.
    """
    first, second = request(1), request(2, fate=Served.SHED)

    assert (first, second) == read_log([first.to_line(), second.to_line(), first.to_line()[:-7]])
