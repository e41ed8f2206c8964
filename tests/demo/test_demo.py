"""The demo as its user meets it: a process, its output, its figures and its end."""

import functools
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from pathlib import Path

import pytest

from resilience.demo.records import read_log
from tests.demo.support import loops

DEMO = [sys.executable, "-m", "resilience", "demo"]
STRICT = os.environ | {"PYTHONWARNINGS": "error"}


@functools.cache
def played(folder: Path, loop: str, plan: str):
    """One quick run: its output, its figures, its server's log. Each is run once and looked at by several tests."""
    figures, log = folder / f"{loop}-{plan}.json", folder / f"{loop}-{plan}.jsonl"
    where = ["--json", str(figures), "--log", str(log)]
    done = subprocess.run(
        [*DEMO, "--quick", "--plain", "--plan", plan, "--backend", loop, *where],
        env=STRICT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    with log.open() as lines:
        return done.stdout, json.loads(figures.read_text()), read_log(lines)


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Run the demo, or look at the run there was."""
    return functools.partial(played, tmp_path_factory.mktemp("demo"))


@loops
@pytest.mark.parametrize("plan", ["healthy", "dead"])
def test_the_servers_log_and_the_clients_tell_the_same_story(loop, plan, play):
    """
    Each attempt is in the log, refused, or cut before it was read; nothing is logged that was not sent.
    """
    _, figures, log = play(loop, plan)

    for group in ("bare", "guarded"):
        match = figures["matches"][group]
        clients, server = figures["clients"][group], figures["server"][group]
        logged = [request for request in log if request.group == group]
        assert match["attempts"] == clients["attempts"] > 0
        assert match["attempts"] == match["logged"] + match["refused"] + match["unseen"]
        assert len(logged) == match["logged"] == server["requests"]
        assert (0, 0) == (match["strangers"], match["missing"])
        fates = Counter(request.fate.value for request in logged)
        assert fates["answered"] == server["answered"] >= clients["answered"]
        assert clients["calls"] == sum(
            clients[each] for each in ("answered", "rejected", "failed", "dropped", "unfinished")
        )
        assert clients["calls"] == sum(
            phase["clients"][group]["calls"] for phase in figures["phases"]
        )


@loops
def test_on_a_healthy_service_guarded_is_no_better_than_bare(loop, play):
    """
    Both answer all but a hiccup of the machine; nothing is rejected, and no latency is gained.
    """
    output, figures, _ = play(loop, "healthy")
    bare, guarded = figures["clients"]["bare"], figures["clients"]["guarded"]
    noise = 0.02 * bare["calls"]

    assert 0 == guarded["rejected"] == bare["rejected"]
    assert bare["calls"] == guarded["calls"] > 100
    assert bare["answered"] >= bare["calls"] - noise
    assert bare["answered"] + noise >= guarded["answered"] >= guarded["calls"] - noise
    assert guarded["p50"] > 0.8 * bare["p50"]
    assert [] == figures["faults"]
    assert "nothing to gain" in output


@loops
def test_a_dead_service_is_left_alone_by_the_guarded_group(loop, play):
    """
    It is asked far less often; both groups notice, and both recover.
    """
    output, figures, log = play(loop, "dead")
    (fault,) = figures["faults"]
    bare, guarded = figures["clients"]["bare"], figures["clients"]["guarded"]
    attempts = figures["attempts_in_faults"]

    assert not [request for request in log if fault["start"] + 0.2 < request.at < fault["end"]]
    assert attempts["guarded"] < 0.6 * attempts["bare"]
    assert figures["matches"]["guarded"]["refused"] < 0.6 * figures["matches"]["bare"]["refused"]
    assert 0 == bare["rejected"] < 30 < guarded["rejected"]
    assert guarded["attempts_per_call"] < 1.0 == bare["attempts_per_call"]
    for group in ("bare", "guarded"):
        assert 0 <= fault["notice"][group] < 1.5
        assert 0 <= fault["recover"][group] < 1.5
    assert "circuit CLOSED -> OPEN" in output
    assert "-> CLOSED, probes succeeded" in output


@loops
def test_ctrl_c_ends_it_with_what_there_was(loop, tmp_path):
    """
    Exit code 130, a partial table and file, one word on standard error, no traceback.
    """
    path = tmp_path / "figures.json"
    arguments = ["--plain", "--plan", "hanging", "--backend", loop, "--json", str(path)]
    with subprocess.Popen(
        [*DEMO, *arguments], env=STRICT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(process.stdout, "healthy")
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)

    assert (130, "interrupted\n") == (process.returncode, errors)
    assert "All calls" in output
    figures = json.loads(path.read_text())
    assert figures["interrupted"]
    assert 0.5 < figures["elapsed"] < 11  # of 12 s
    assert 0 < figures["clients"]["bare"]["calls"] < 300


def wait_for(stream, text: str) -> None:
    for line in stream:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came")


TERMINAL = "import os, sys; os.login_tty(os.dup(0)); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


def test_ctrl_c_in_a_terminal_restores_it():
    """
    The live view on a real terminal, ended by the byte that Ctrl-C types: the cursor is back, and the modes are.
    """
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    environment = STRICT | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    output = b""
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *DEMO[1:], "--plan", "healthy"],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        try:
            has_typed = False
            until = time.monotonic() + 60
            while process.poll() is None:
                assert time.monotonic() < until, output
                output += read(ours)
                if b"the service is" in output and not has_typed:
                    has_typed = os.write(ours, b"\x03") == 1
            output += read(ours)
            assert before == termios.tcgetattr(theirs)
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)

    assert 130 == process.returncode
    assert output.rindex(b"\x1b[?25h") > output.rindex(b"\x1b[?25l")
    assert b"By phase" in output
    assert b"Traceback" not in output


def read(terminal: int) -> bytes:
    """What the terminal shows within a tenth of a second."""
    has_output, _, _ = select.select([terminal], [], [], 0.1)
    return os.read(terminal, 1 << 20) if has_output else b""


def test_a_reader_that_leaves_ends_it():
    """
    As after `| head`: exit code 141 as a shell has it for a broken pipe, no traceback, long before the plan's end.
    """
    with subprocess.Popen(
        [*DEMO, "--plain", "--plan", "flapping"],
        env=STRICT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(process.stdout, "healthy")
        process.stdout.close()
        assert 141 == process.wait(60)
        assert "" == process.stderr.read()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_demo_that_is_killed_leaves_no_server():
    """
    SIGKILL gives nobody a chance to clean up: the server ends because its standard input does.
    """
    with subprocess.Popen(
        [*DEMO, "--plain"], env=STRICT, stdout=subprocess.PIPE, text=True
    ) as process:
        wait_for(process.stdout, "healthy")
        (server,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert "resilience.demo.server" in Path(f"/proc/{server}/cmdline").read_text()
        process.kill()

    until = time.monotonic() + 60
    while is_running(server):
        assert time.monotonic() < until, "the server was left behind"
        time.sleep(0.05)


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("missing", "arguments"), [("rich", []), ("trio", ["--plain", "--backend", "trio"])]
)
def test_a_missing_extra_is_one_line_and_no_traceback(missing, arguments):
    """
    Exit code 2, at once.
    """
    code = f"import runpy, sys; sys.modules[{missing!r}] = None; runpy.run_module('resilience', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", *arguments],
        env=STRICT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert f"needs {missing}: pip install 'resilience-anyio[" in done.stderr


def test_the_package_knows_nothing_of_its_demo():
    """
    `import resilience` imports neither the demo nor rich nor argparse's command line.
    """
    code = "import sys, resilience; print([m for m in sys.modules if m.startswith(('resilience.demo', 'rich'))])"

    assert "[]\n" == subprocess.check_output([sys.executable, "-c", code], env=STRICT, text=True)


def test_the_command_line_alone_prints_its_help():
    """
    And `--help` of the demo names its plans.
    """
    alone = subprocess.check_output([sys.executable, "-m", "resilience"], env=STRICT, text=True)
    demo = subprocess.check_output([*DEMO, "--help"], env=STRICT, text=True)

    assert "demo" in alone
    assert all(
        plan in demo
        for plan in ("default", "healthy", "slow", "failing", "hanging", "dead", "flapping")
    )
