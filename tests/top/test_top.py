"""
`python -m resilience top`: the breakers of a real service in a terminal, and one line for whatever goes wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import rich.console

from resilience import CircuitBreaker, ConsecutiveFailures, Pipeline, Timeout
from resilience.__main__ import main
from resilience.integrations.asgi import OperationsApp
from resilience.testing import Script
from resilience.top import command
from resilience.top.command import Unreachable, read
from resilience.top.view import Screen, drawn
from tests.asgi.kit import serving


@pytest.fixture
def service():
    """A service whose catalogue is open and whose prices are isolated; gives its address."""
    gc.collect()
    gates = [
        CircuitBreaker(name, on=OSError, trip=ConsecutiveFailures(2), break_duration=300)
        for name in ("catalogue", "prices", "search")
    ]
    app = OperationsApp(gates)
    guarded = Pipeline(gates[0], Timeout(5), name="catalogue reads")

    async def fail():
        for _ in range(3):
            await guarded.outcome(Script(OSError))

    asyncio.run(fail())  # in real time, as the service will be
    with gates[1].isolate(), serving(app) as address:
        yield address
    app.close()


@contextlib.contextmanager
def answering(status, body, seen=None):
    """A server that answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if seen is not None:
                seen.append((self.path, dict(self.headers)))
            self.send_response(status)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def text_of(found, width=120, height=None):
    console = rich.console.Console(file=io.StringIO(), width=width, highlight=False)
    console.print(drawn(found, width, height))
    return console.file.getvalue()


EMPTY = {"summary": {}, "circuit_breakers": [], "pipelines": [], "events": []}


def test_once_prints_what_is_there(service, capsys, monkeypatch):
    """
    The verdict, every breaker with why and until when, the calls, the transitions; then it ends with 0.
    """
    monkeypatch.setenv("COLUMNS", "160")
    assert 0 == main(["top", "--once", service])
    out, err = capsys.readouterr()
    assert "" == err
    assert "✕ 2 of 3 circuits turn calls away: prices, catalogue" in out
    words = " ".join(out.split())
    assert "✕ OPEN catalogue" in words
    assert "for 4 min 5" in words or "for 5 min" in words
    assert "2 of 2" in words
    assert "■ ISOLATED prices until released" in words
    assert "✓ closed search" in words
    assert "catalogue reads" in words
    assert "catalogue: CLOSED → OPEN (tripped, OSError)" in words


def test_a_pipe_gets_it_once(service, capsys):
    """
    Where the output is no terminal, nothing is redrawn.
    """
    assert 0 == main(["top", service.removeprefix("http://") + "/snapshot"])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"{}", "/snapshot answers 404"),
        (500, b"secret", "/snapshot answers 500"),
        (200, b"<html>", "is no operations app of resilience"),
        (200, b"[" * 100_000, "is no operations app of resilience"),
        (200, b"{}", "is no operations app of resilience"),
        (200, b'{"summary": {}, "circuit_breakers": [1], "pipelines": [], "events": []}', "is no operations app"),
        (200, b"\xff\xfe", "is no operations app of resilience"),
        (200, b" " * (2**24 + 1), "is no operations app of resilience"),
    ],
    ids=range(8),
)  # fmt: skip
def test_what_is_no_operations_app_is_one_line(status, body, said, capsys):
    """
    Whatever answers there, it is one line and exit code 1.
    """
    with answering(status, body) as address:
        assert 1 == main(["top", "--once", address])
    out, err = capsys.readouterr()
    assert "" == out
    assert said in err
    assert 1 == err.count("\n")
    assert "secret" not in err


def test_nobody_there_is_one_line(capsys):
    """
    A refused connection is named as what it is.
    """
    assert 1 == main(["top", "--once", "http://127.0.0.1:1/ops"])
    assert (
        "http://127.0.0.1:1/ops/snapshot cannot be reached: Connection refused\n"
        == capsys.readouterr().err
    )


def test_a_server_that_breaks_off_is_unreachable():
    """
    Bytes that are no HTTP end in the same sentence.
    """
    import socket  # noqa: PLC0415 - for this test alone

    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            client, _ = server.accept()
            client.recv(4096)
            client.sendall(b"nonsense\r\n\r\n")
            client.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unreachable, match="cannot be reached"):
            read(f"http://127.0.0.1:{server.getsockname()[1]}/snapshot", timeout=60, headers={})
        thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/", "http://", "http://host:99999/", "http://user:hunter2@host/", "http://a b/",
        "file:///etc/passwd", "", "http://h/\n", "http://h:x/",
    ],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_url_is_one_line(url, capsys):
    """
    Only web addresses, without a password, which is not repeated either.
    """
    assert 2 == main(["top", "--once", url])
    err = capsys.readouterr().err
    assert err.startswith("the URL must be http(s)://")
    assert 1 == err.count("\n")
    assert "hunter2" not in err


def test_headers_are_sent(capsys):
    """
    A token goes along; a header that is none is refused without being repeated.
    """
    seen = []
    with answering(200, json.dumps(EMPTY).encode(), seen) as address:
        assert 0 == main(
            ["top", "--once", "--header", "Authorization: Bearer x", f"{address}/ops/"]
        )
    ((path, headers),) = seen
    assert "/ops/snapshot" == path
    assert "Bearer x" == headers["Authorization"]
    assert "no circuit breaker yet" in capsys.readouterr().out
    for bad in ("hunter2", "a b: hunter2", "x: hunter2\r\ny: z"):
        with pytest.raises(SystemExit):
            main(["top", "--header", bad, "localhost"])
        assert "hunter2" not in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--interval", "0"), ("--interval", "x"), ("--timeout", "nan")])
def test_bad_options_are_refused(option, capsys):
    """
    Argparse's one line, with what is allowed.
    """
    with pytest.raises(SystemExit) as ended:
        main(["top", *option, "localhost"])
    assert 2 == ended.value.code
    assert "allowed is a number from" in capsys.readouterr().err


def test_without_rich_it_says_which_extra(monkeypatch, capsys):
    """
    A missing extra is one clear line.
    """
    monkeypatch.setitem(sys.modules, "rich", None)
    assert 2 == main(["top", "localhost"])
    assert "top needs rich: pip install 'resilience-anyio[top]'\n" == capsys.readouterr().err


def test_hostile_words_are_words():
    """
    Markup, control characters, wrong types and endless names from the other side neither run nor raise.
    """
    hostile = "\x1b[2J\x07[bold red]x[/]" + "y" * 1000
    found = {
        "summary": {"total": "9", "open": True, "isolated": 1.5, "half_open": None},
        "circuit_breakers": [
            {},
            {"name": hostile, "state": hostile, "reason": hostile, "retry_after": "soon", "last_failure": [1]},
            {"name": "g", "state": "open", "reason": "tripped", "transition": 5, "retry_after": 1e299},
            {"name": "h", "state": "half_open", "failure_rate": "x", "for_seconds": -1},
            {"name": "i", "failure_rate": float("nan"), "calls": float("inf"), "rejected": 10**400},
        ],
        "pipelines": [{"name": hostile, "success_rate": "x", "attempts_per_call": []}, {"rejected": "many"}],
        "events": [{"event": hostile, "policy": None}, {"event": "circuit_state_changed", "old": 5}],
    }  # fmt: skip
    text = text_of(found)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold red]" in text


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ({"total": 2, "half_open": 1}, "◐ 1 of 2 circuits probing"),
        ({"total": 2}, "✓ all 2 circuits let calls pass"),
        ({"total": 9, "open": 5}, "✕ 5 of 9 circuits turn calls away: a, b, c and 2 more"),
    ],
)
def test_the_verdict(summary, said):
    """
    One line says whether somebody has to get up.
    """
    circuits = [{"name": name, "state": "open"} for name in "abcde"]
    assert said in text_of(EMPTY | {"summary": summary, "circuit_breakers": circuits})


def test_a_small_terminal_shows_the_worst():
    """
    What does not fit is left out from below, and it is said how much; durations are in the units people use.
    """
    circuits = [
        {"name": f"gate {n}", "state": "open", "for_seconds": 60.0**n, "retry_after": 0.0}
        for n in range(5)
    ]
    calls = [{"name": f"pipeline {n}", "mean_seconds": 10.0 ** (n - 2)} for n in range(30)]
    events = [{"event": "options_changed", "policy": "gate", "seconds_ago": 3}] * 30
    found = {
        "summary": {"total": 50, "open": 50},
        "circuit_breakers": circuits * 10,
        "pipelines": calls,
        "events": events,
    }
    text = text_of(found, height=24)
    assert text.count("\n") <= 24
    assert "in no worse state" in text
    assert "gate: options changed" in text
    tall = text_of(found)
    for span in ("1 s", "1 min 0 s", "1 h 0 min", "2 d 12 h", "150 d 0 h", "next call probes"):
        assert span in tall
    assert "since" not in text_of(found, width=80)


def test_the_screen_says_what_it_lost():
    """
    Before the first answer, with one, and when the service is gone: what was seen stays, with its age.
    """
    console = rich.console.Console(file=io.StringIO(), force_terminal=True, width=100, height=30)
    with Screen(console) as screen:
        screen.lost("refused")
        assert "old" not in console.file.getvalue()
        screen.show(EMPTY | {"timestamp": "now"})
        screen.lost("refused")
    text = console.file.getvalue()
    assert text.index("waiting for the first answer") < text.index("live, now")
    assert "refused; what you see is 0 s old" in text


def test_it_goes_on_looking(monkeypatch):
    """
    A service that is gone is looked for again and again; what it was like stays on the screen.
    """
    said = []

    class Fake:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            said.append("left")

        def show(self, found):
            said.append("shown")

        def lost(self, why):
            said.append(why)

    answers = iter([EMPTY, Unreachable("gone"), EMPTY])

    def look():
        answer = next(answers, KeyboardInterrupt())
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr("resilience.top.view.Screen", Fake)
    with pytest.raises(KeyboardInterrupt):
        command._live(look, 0.0)
    assert ["shown", "gone", "shown", "left"] == said


def test_in_a_terminal_until_ctrl_c(service):
    """
    In a real terminal: it draws, Ctrl-C ends it with 0, the cursor is back and there is no traceback.
    """
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "resilience", "top", "--interval", "0.2", service]
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        # Whoever runs the tests in the background of a shell has SIGINT ignored, and its children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    os.close(follower)
    seen = b""
    until = time.monotonic() + 120
    try:
        while b"ISOLATED" not in seen or seen.count(b"live,") < 3:
            ready, _, _ = select.select([leader], [], [], until - time.monotonic())
            assert ready, seen
            seen += os.read(leader, 65536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # Linux says that nobody writes any more with an error
            while chunk := os.read(leader, 65536):
                seen += chunk
        assert 0 == process.wait(120)
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert b"Traceback" not in seen
    assert b"\x1b[?25h" in seen[-200:] or b"\x1b[?1049l" in seen[-200:]


def test_a_reader_that_leaves_is_no_traceback(service):
    """
    ``top --once | head -0``: exit code 141, nothing on stderr.
    """
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "resilience", "top", "--once", service]
    process = subprocess.run(
        command, stdout=writing, stderr=subprocess.PIPE, timeout=120, check=False
    )
    os.close(writing)
    assert (141, b"") == (process.returncode, process.stderr)
