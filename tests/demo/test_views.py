"""What is shown: the plain lines and the live picture, of a run whose time stands where the test puts it."""

import io
import logging
from collections import Counter

import pytest
import rich.console

from resilience.demo.clients import Group, bare
from resilience.demo.guard import BREAKER, guarded
from resilience.demo.live import History, Live, bars, glyph, phase_bar
from resilience.demo.plan import Mode, Phase, Plan
from resilience.demo.records import Attempt, Call, Outcome
from resilience.demo.report import Run, reckon
from resilience.demo.view import Plain, Scene, quiet, transition
from resilience.events import LOGGER, CircuitStateChanged

pytestmark = pytest.mark.usefixtures("one_circuit")

PLAN = Plan("p", (Phase(Mode.HEALTHY, 2), Phase(Mode.DEAD, 1), Phase(Mode.RECOVERING, 1)))
OPENED = CircuitStateChanged(
    policy="demo",
    at=0.0,
    old="CLOSED",
    new="OPEN",
    generation=2,
    reason="tripped",
    retry_after=0.5,
    calls=10,
    failures=5,
)
HALF = CircuitStateChanged(
    policy="demo", at=0.0, old="OPEN", new="HALF_OPEN", generation=3, reason="break over"
)


class Stage:
    """A scene with two groups that do nothing by themselves."""

    def __init__(self):
        self.now = 0.0
        self.groups = {
            name: Group(name, bare, port=1, limit=1, clock=self.clock)
            for name in ("bare", "guarded")
        }
        self.pipeline = guarded()
        self.scene = Scene(PLAN, "asyncio", 40.0, self.groups, self.pipeline, self.clock)

    def clock(self) -> float:
        return self.now

    def report(self):
        calls = {name: group.calls for name, group in self.groups.items()}
        attempts = {name: group.attempts for name, group in self.groups.items()}
        return reckon(Run(PLAN, self.now, calls, attempts, []))


@pytest.fixture
def stage():
    return Stage()


def test_the_plain_view_prints_each_phase_once(stage):
    """
    And each transition below the phase it happened in, even if nobody asked for a refresh between them.
    """
    out = io.StringIO()
    view = Plain(out)
    view.refresh()
    view.circuit(OPENED)
    assert "" == out.getvalue(), "nothing has begun"

    view.begin(stage.scene)
    captions = out.getvalue().splitlines()
    view.refresh()
    stage.now = 2.1
    view.circuit(OPENED)
    view.refresh()
    view.end()
    stage.now = 3.5
    view.refresh()

    assert "plan p, 4.0 s, 40 calls/s per group, asyncio" == captions[0]
    assert any("client timeout of 5 s" in line for line in captions)
    assert [
        "   0.0 s  healthy",
        "   2.0 s  dead",
        "   2.1 s    circuit CLOSED -> OPEN for 0.5 s, tripped: 5 of 10 attempts failed",
    ] == out.getvalue().splitlines()[len(captions) - 1 :]


def test_the_plain_report_has_tables_and_definitions(stage):
    """
    No line is longer than 100 characters.
    """
    out = io.StringIO()
    stage.now = 4.0

    Plain(out).report(stage.report())

    lines = out.getvalue().splitlines()
    assert {"All calls", "By phase", "By fault"} <= set(lines)
    assert any(line.startswith("* recovers:") for line in lines)
    assert 100 >= max(map(len, lines))


def test_a_transition_without_calls_or_break_says_less():
    """
    A window that was not looked at has no share of failures.
    """
    assert "circuit OPEN -> HALF_OPEN, break over" == transition(HALF)


@pytest.mark.parametrize("before", [True, False])
def test_the_librarys_own_log_is_silent_while_a_view_is_shown(before, monkeypatch, caplog):
    """
    And is as it was afterwards.
    """
    monkeypatch.setattr(LOGGER, "disabled", before)

    with caplog.at_level(logging.DEBUG, LOGGER.name), quiet():
        LOGGER.warning("torn")

    assert [] == caplog.records
    assert before is LOGGER.disabled


def terminal(width: int = 80) -> rich.console.Console:
    return rich.console.Console(
        file=io.StringIO(), width=width, height=24, force_terminal=True, color_system=None
    )


def shown(console: rich.console.Console) -> str:
    return console.file.getvalue()


def last_picture(view: Live, console: rich.console.Console) -> list[str]:
    """The lines of one more refresh, without the codes that move the cursor."""
    before = len(shown(console))
    view.refresh()
    text = shown(console)[before:]
    return [line.rsplit("\x1b[2K", 1)[-1].rstrip() for line in text.splitlines()]


def test_the_live_view_shows_both_groups_on_one_axis(stage):
    """
    Strips by slice of the plan, numbers of now, the state of the circuit, its last transitions; all within 80 x 24.
    """
    console = terminal()
    view = Live(console)
    view.refresh()
    view.circuit(OPENED)
    assert "" == shown(console), "nothing has begun"
    view.begin(stage.scene)
    stage.groups["bare"].calls += [
        Call(0, 0.1, 0.2, Outcome.ANSWERED),
        Call(1, 2.1, 2.2, Outcome.FAILED),
    ]
    stage.groups["guarded"].calls += [
        Call(0, 0.1, 0.2, Outcome.ANSWERED),
        Call(1, 2.1, 2.1, Outcome.REJECTED),
    ]
    stage.groups["bare"].attempts += [Attempt(0, 1, 0.1), Attempt(1, 1, 2.1)]
    stage.now = 2.15
    view.circuit(OPENED)

    lines = last_picture(view, console)

    assert 24 >= len(lines)
    assert 80 >= max(map(len, lines))
    assert any("2.1 s of 4.0 s" in line and "the service is  dead" in line for line in lines)
    assert any("bare █" in line and "x" in line for line in lines)
    assert any("guarded █" in line and "░" in line for line in lines)
    assert any(line.startswith(f"circuit '{BREAKER}': CLOSED") for line in lines)
    assert "  2.1 s  circuit CLOSED -> OPEN for 0.5 s, tripped: 5 of 10 attempts failed" in lines
    assert ["bare", "0", "1", "0", "0", "1", "0", "100", "ms", "100", "ms"] in [
        line.split() for line in lines
    ]
    assert not any("waiting for the last calls" in line for line in lines)
    stage.now = 5.0
    assert any("waiting for the last calls" in line for line in last_picture(view, console))


def test_the_live_view_gives_the_terminal_back(stage):
    """
    The cursor is shown again and the strips stay; ending twice, or before it began, does nothing.
    """
    console = terminal()
    view = Live(console)
    view.end()
    assert "" == shown(console)

    view.begin(stage.scene)
    assert "\x1b[?25l" in shown(console)
    view.end()
    ended = shown(console)
    view.end()
    view.refresh()

    assert ended == shown(console)
    assert ended.rindex("\x1b[?25h") > ended.rindex("\x1b[?25l")
    assert "answered" in ended[ended.rindex("\x1b[?25h") :]


@pytest.mark.parametrize("width", [30, 80, 200])
def test_the_live_view_fits_the_terminal(stage, width):
    """
    However narrow, nothing raises and no line of the picture is longer; wide ones are not filled.
    """
    console = terminal(width)
    view = Live(console)
    view.begin(stage.scene)

    lines = last_picture(view, console)
    view.end()

    assert min(width, 120) >= max(map(len, lines))


def test_an_open_circuit_says_when_it_asks_again(stage):
    """
    The state of the real breaker, with the seconds that are left.
    """
    console = terminal()
    view = Live(console)
    view.begin(stage.scene)
    breaker = next(policy for policy in stage.pipeline.policies if hasattr(policy, "admit"))
    for _ in range(5):
        breaker.admit().failure()

    (line,) = [line for line in last_picture(view, console) if line.startswith("circuit")]

    assert f"circuit '{BREAKER}': OPEN, asks again in 0." in line


def test_the_live_report_has_the_same_tables(stage):
    """
    Nothing is cut at 80 columns.
    """
    console = terminal()
    stage.now = 4.0

    Live(console).report(stage.report())

    lines = shown(console).splitlines()
    assert {"All calls", "By phase", "By fault"} <= {line.strip() for line in lines}
    assert "…" not in shown(console)
    assert any(line.startswith("• recovers:") for line in lines)
    assert 80 >= max(map(len, lines))


def test_a_live_view_draws_on_the_terminal_by_default():
    """
    Rich finds it.
    """
    assert isinstance(Live()._console, rich.console.Console)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ({}, " "),
        ({"answered": 20, "failed": 1}, "█"),
        ({"answered": 18, "failed": 2}, "▄"),
        ({"answered": 1, "failed": 1}, "▄"),
        ({"answered": 1, "failed": 2, "rejected": 1}, "x"),
        ({"answered": 1, "rejected": 2, "failed": 1}, "░"),
        ({"late": 2, "answered": 1}, "▂"),
        ({"dropped": 1}, "↓"),
        ({"unfinished": 1}, "·"),
    ],
)
def test_a_glyph_says_what_happened_to_most(outcomes, expected):
    """
    Answered from 95 % on, partly from half on, else what most of the others met.
    """
    assert expected == glyph(Counter(outcomes))[0]


@pytest.mark.parametrize(
    ("counts", "most", "expected"), [([0, 1, 80], 80, " ▁█"), ([4, 8], 8, "▄█"), ([0, 0], 0, "  ")]
)
def test_bars_show_everything_above_nought(counts, most, expected):
    """
    One request among many is still seen.
    """
    assert expected == bars(counts, most)


@pytest.mark.parametrize("width", [1, 3, 4, 20, 77])
def test_the_phase_bar_is_as_wide_as_the_strips(width):
    """
    Names are cut where a phase is too short for them.
    """
    assert width == len(phase_bar(PLAN, width).plain)


def test_a_late_failure_paints_the_slice_its_caller_began_to_wait_in():
    """
    A call in flight is unfinished, then failed, in the slice of its arrival; an answer after a second is late.
    """
    group = Group("bare", bare, port=1, limit=1, clock=lambda: 0.0)
    history = History(group, seconds=4.0, slices=4)
    group.calls += [
        Call(0, 0.5),
        Call(1, 1.5, 1.6, Outcome.ANSWERED),
        Call(2, 3.9, 9.0, Outcome.ANSWERED),
    ]
    group.attempts += [Attempt(0, 1, 0.5), Attempt(2, 1, 9.0)]

    assert [{"unfinished": 1}, {"answered": 1}, {}, {"late": 1}] == history.outcomes()
    assert [1, 0, 0, 1] == history.attempts

    group.calls[0].end, group.calls[0].outcome = 5.5, Outcome.FAILED
    group.attempts.append(Attempt(2, 2, 0.6))

    for _ in range(2):  # what has ended is counted once
        assert [{"failed": 1}, {"answered": 1}, {}, {"late": 1}] == history.outcomes()
        assert [2, 0, 0, 1] == history.attempts
        assert {"failed": 1, "answered": 1, "late": 1} == history.totals


def test_now_is_the_last_two_seconds():
    """
    Latency of what was answered in them, whenever it arrived.
    """
    group = Group("bare", bare, port=1, limit=1, clock=lambda: 0.0)
    history = History(group, seconds=40.0, slices=40)
    group.calls += [
        Call(0, 1.0, 6.5, Outcome.ANSWERED),
        Call(1, 10.0, 18.5, Outcome.ANSWERED),
        Call(2, 16.0, 16.5, Outcome.ANSWERED),
        Call(3, 18.0, 19.0, Outcome.FAILED),
        Call(4, 19.0, 19.5, Outcome.ANSWERED),
        Call(5, 19.5),
    ]

    assert [0.5] == history.recent_waits(20.0)
    assert [0.5, 0.5] == history.recent_waits(18.4)
