"""The command in this process: real servers, real signals, and every way a run can end."""

import io
import json
import os
import runpy
import signal
import stat
import sys
import time

import pytest

from resilience import __main__ as program
from resilience.demo import command, run
from resilience.demo.live import Live
from resilience.demo.plan import PLANS
from resilience.demo.records import read_log
from resilience.demo.run import Options, Signals, play
from resilience.demo.view import Plain
from tests.demo.support import loops

pytestmark = pytest.mark.usefixtures("one_circuit")


def options(loop="asyncio", plan="healthy", seconds=1.0, log=None, rate=40.0):
    return Options(plan=plan, seconds=seconds, rate=rate, seed=1, backend=loop, log=log)


@pytest.fixture
def started(monkeypatch):
    """The server processes that were started, each to be seen ended when the test is over."""
    processes = []
    open_process = run.anyio.open_process

    async def opened(*arguments, **others):
        processes.append(await open_process(*arguments, **others))
        return processes[-1]

    monkeypatch.setattr(run.anyio, "open_process", opened)
    yield processes
    assert all(process.returncode is not None for process in processes), "a server was left behind"


@loops
def test_a_run_leaves_records_of_both_groups_and_the_servers_log(loop, tmp_path, started):
    """
    The same arrivals for both, every attempt in the log that was asked for, no server left.
    """
    log = tmp_path / "requests.jsonl"

    result = play(options(loop, log=log), Plain(io.StringIO()), Signals())

    assert result.problem is None
    bare, guarded = (result.run.calls[name] for name in ("bare", "guarded"))
    assert [call.at for call in bare] == [call.at for call in guarded] != []
    with log.open() as lines:
        requests = read_log(lines)
    assert list(requests) == list(result.run.log)
    sent = {
        (name, attempt.call, attempt.number)
        for name in ("bare", "guarded")
        for attempt in result.run.attempts[name]
    }
    assert sent == {(request.group, request.call, request.attempt) for request in requests}
    assert [0] == [process.returncode for process in started]


@loops
def test_the_circuit_opens_and_its_openings_are_remembered(loop, started):
    """
    Within the dead phase, and both views are told.
    """
    out = io.StringIO()

    result = play(options(loop, "dead", 2.0), Plain(out), Signals())

    (fault,) = result.run.plan.faults()
    assert result.run.openings
    assert all(fault.start < at < fault.end + 0.5 for at in result.run.openings)
    assert "circuit CLOSED -> OPEN" in out.getvalue()
    outcomes = {call.outcome.value for call in result.run.calls["guarded"]}
    assert {"answered", "rejected", "failed"} == outcomes
    assert {"answered", "failed"} == {call.outcome.value for call in result.run.calls["bare"]}


@loops
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_and_keeps_what_there_was(loop, number, started, soon):
    """
    Cut calls are unfinished, none is lost, the server ends; the handlers are as they were.
    """
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    class Interrupted(Plain):
        def begin(self, scene):
            super().begin(scene)
            soon(0.5, os.kill, os.getpid(), number)

    with Signals().watched() as signals:
        result = play(options(loop, "hanging", 12.0), Interrupted(io.StringIO()), signals)

    assert number == signals.caught
    assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert result.problem is None
    assert 0.5 <= result.run.elapsed < 11  # of 12 s
    assert result.run.calls["bare"]


def test_the_first_signal_counts():
    """
    A second Ctrl-C while the run is being wound up changes nothing.
    """
    with Signals().watched() as signals:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    assert signal.SIGTERM == signals.caught


def program_file(tmp_path, text):
    path = tmp_path / "python"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@loops
def test_a_server_that_does_not_start_is_one_line(loop, tmp_path, monkeypatch, started):
    """
    With the last thing it said, and without a run.
    """
    broken = program_file(
        tmp_path, "#!/bin/sh\necho first >&2\necho '  | OSError: no luck' >&2\necho '  +----' >&2\n"
    )
    monkeypatch.setattr(sys, "executable", broken)

    result = play(options(loop), Plain(io.StringIO()), Signals())

    assert result.run is None
    assert "the server did not start: OSError: no luck" == result.problem


@loops
def test_a_server_that_says_nothing_is_killed(loop, tmp_path, monkeypatch, started):
    """
    It neither announces a port nor ends when its standard input does.
    """
    monkeypatch.setattr(sys, "executable", program_file(tmp_path, "#!/bin/sh\nexec sleep 60\n"))
    monkeypatch.setattr(run, "_START_SECONDS", 0.1)
    monkeypatch.setattr(run, "_STOP_SECONDS", 0.1)

    result = play(options(loop), Plain(io.StringIO()), Signals())

    assert "the server did not start" == result.problem
    assert [-signal.SIGKILL] == [process.returncode for process in started]


@loops
def test_a_signal_before_the_server_has_started(loop, tmp_path, monkeypatch, started):
    """
    There is nothing to report, and still nothing left behind.
    """
    monkeypatch.setattr(sys, "executable", program_file(tmp_path, "#!/bin/sh\nexec sleep 60\n"))
    monkeypatch.setattr(run, "_STOP_SECONDS", 0.1)
    signals = Signals()
    signals.caught = signal.SIGINT

    result = play(options(loop), Plain(io.StringIO()), signals)

    assert result.run is None
    assert result.problem is None


@loops
def test_a_server_that_is_killed_is_noticed_by_everybody(loop, monkeypatch, capsys, started, soon):
    """
    The run goes on against a closed port, the report stands, and the exit code is 1.
    """

    class Killing(Plain):
        def begin(self, scene):
            super().begin(scene)
            soon(0.5, started[0].kill)

    monkeypatch.setattr(command, "_view", lambda *, plain: Killing(sys.stdout))

    assert 1 == program.main(["demo", "--plan", "healthy", "--seconds", "1", "--backend", loop])

    shown = capsys.readouterr()
    assert f"the server ended early, with code {-signal.SIGKILL}\n" == shown.err
    assert "circuit CLOSED -> OPEN" in shown.out
    assert "the two accounts" in shown.out


def test_without_a_command_there_is_help(capsys):
    """
    And the exit code is 0.
    """
    assert 0 == program.main([])
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "0"], "argument --rate: got '0', allowed is a number from 1 to 500"),
        (["--rate", "nan"], "argument --rate: got 'nan', allowed is a number from 1 to 500"),
        (["--rate", "fast"], "argument --rate: got 'fast', allowed is a number from 1 to 500"),
        (["--seconds", "1e9"], "argument --seconds: got '1e9', allowed is a number from 1 to 600"),
        (["--seconds", "9", "--quick"], "not allowed with argument"),
        (["--plan", "rosy"], "invalid choice: 'rosy'"),
        (["--backend", "curio"], "invalid choice: 'curio'"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
    ],
)
def test_bad_options_are_one_clear_error(arguments, said, capsys):
    """
    What it got and what is allowed; exit code 2.
    """
    with pytest.raises(SystemExit) as ended:
        program.main(["demo", *arguments])

    assert 2 == ended.value.code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "arguments", "said"),
    [
        (
            "rich",
            [],
            "the demo's live view needs rich: pip install 'resilience-anyio[demo]', or add --plain\n",
        ),
        (
            "trio",
            ["--backend", "trio"],
            "--backend trio needs trio: pip install 'resilience-anyio[trio]'\n",
        ),
    ],
)
def test_a_missing_extra_is_one_line(missing, arguments, said, monkeypatch, capsys):
    """
    On standard error, with what to type, and exit code 2.
    """
    monkeypatch.setitem(sys.modules, missing, None)

    assert 2 == program.main(["demo", "--plan", "healthy", *arguments])
    assert ("", said) == capsys.readouterr()


@pytest.mark.parametrize("option", ["--json", "--log"])
def test_a_file_that_cannot_be_written_is_said_before_the_run(option, tmp_path, capsys):
    """
    Nobody waits half a minute to hear it.
    """
    path = tmp_path / "nowhere" / "file"

    assert 2 == program.main(["demo", option, str(path)])
    assert f"cannot write {path}: No such file or directory\n" == capsys.readouterr().err


def test_plain_needs_no_rich(monkeypatch, capsys, tmp_path):
    """
    With --plain the demo runs without any extra, and says everything in the tables and the file.
    """
    monkeypatch.setitem(sys.modules, "rich", None)
    path = tmp_path / "figures.json"

    assert 0 == program.main(
        ["demo", "--plan", "healthy", "--seconds", "1", "--plain", "--json", str(path)]
    )

    assert "By phase" in capsys.readouterr().out
    figures = json.loads(path.read_text())
    assert ("healthy", 1.0, "asyncio", 40.0, 1, False, None) == tuple(
        figures[key]
        for key in ("plan", "seconds", "backend", "rate", "seed", "interrupted", "problem")
    )
    assert figures["clients"]["bare"]["answered"] == figures["server"]["bare"]["answered"] > 20


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ([], PLANS["slow"].seconds),
        (["--quick"], PLANS["slow"].seconds / 2),
        (["--seconds", "7"], 7.0),
    ],
)
def test_the_length_of_a_run(arguments, seconds, monkeypatch, capsys):
    """
    The plan's own, half of it, or what was asked for; the server's share of it grows with the rate.
    """
    seen = []

    def played(options, view, signals):
        seen.append(options)
        return run.Result(None, None)

    monkeypatch.setattr(run, "play", played)

    assert 0 == program.main(["demo", "--plan", "slow", "--rate", "100", *arguments])
    assert seconds == seen[0].seconds == pytest.approx(seen[0].timetable().seconds)
    assert (250, 10, 400) == (seen[0].limit, seen[0].server("x").workers, seen[0].server("x").queue)


def test_the_view_is_live_on_a_terminal_only(monkeypatch):
    """
    And plain where it was asked for.
    """
    assert isinstance(command._view(plain=False), Plain)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert isinstance(command._view(plain=True), Plain)
    assert isinstance(command._view(plain=False), Live)


@pytest.mark.parametrize(("raised", "code"), [(None, 0), (KeyboardInterrupt, 130)])
def test_the_package_is_a_program(raised, code, monkeypatch, capsys):
    """
    `python -m resilience`; a Ctrl-C outside the demo is no traceback either.
    """

    def parse(*_):
        if raised is not None:
            raise raised
        return program.argparse.Namespace()

    monkeypatch.setattr(program.argparse.ArgumentParser, "parse_args", parse)

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(program.__file__, run_name="__main__")

    assert code == ended.value.code
