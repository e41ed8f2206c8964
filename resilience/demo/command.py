"""
The `demo` command: its options, and what is printed where.

Nothing heavy is imported until the command runs, so that `python -m resilience --help` answers at once and a missing
extra is one line instead of a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from resilience.demo.plan import PLANS

if TYPE_CHECKING:
    from resilience.demo.report import Report, Run
    from resilience.demo.run import Options, Signals
    from resilience.demo.view import View

__all__ = ["configure", "run"]

_QUICK = 0.5
_INTERRUPTED = 128  # plus the signal's number, as shells have it
_READER_GONE = _INTERRUPTED + 13  # SIGPIPE, which Windows has not


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.description = (
        "Start a real HTTP service in its own process, make it slow, failing, hanging and dead, and compare clients "
        "that call it bare with clients that call it through a pipeline."
    )
    parser.add_argument(
        "--plan", choices=PLANS, default="default", help="what goes wrong (default: %(default)s)"
    )
    parser.add_argument(
        "--backend",
        choices=("asyncio", "trio"),
        default="asyncio",
        help="event loop (default: %(default)s)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds",
        type=_number(1, 600),
        metavar="S",
        help="stretch or squeeze the plan to this length, 1 to 600",
    )
    length.add_argument("--quick", action="store_true", help="half the plan's own length")
    parser.add_argument(
        "--rate",
        type=_number(1, 500),
        default=40.0,
        metavar="N",
        help="calls per second of each group, 1 to 500 (default: %(default)g)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="of arrivals and faults (default: %(default)s)",
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="no live view; so it is where the output is no terminal",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures to this file too"
    )
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="keep the server's request log (JSON lines) here"
    )
    parser.set_defaults(run=run)


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            message = f"got {text!r}, allowed is a number from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(message)
        return value

    return parse


def run(arguments: argparse.Namespace) -> int:
    """
    Run the demo.

    Returns:
        0; 1 if the server ended early or never started; 2 for a missing extra or a file that cannot
        be written; 128 plus its number for a signal (130 for Ctrl-C; 141 if nobody reads the output).
    """
    problem = _missing(arguments) or _unwritable(arguments.json) or _unwritable(arguments.log)
    if problem is not None:
        sys.stderr.write(f"{problem}\n")
        return 2

    from resilience.demo.run import Signals  # noqa: PLC0415 - see the docstring above

    code = _READER_GONE
    with Signals().watched() as signals:
        try:
            code = _run(arguments, signals)
        except* BrokenPipeError:
            # Nobody reads on, as after `| head`. What is still buffered must not fail at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _missing(arguments: argparse.Namespace) -> str | None:
    if not arguments.plain and not _is_there("rich"):
        return (
            "the demo's live view needs rich: pip install 'resilience-anyio[demo]', or add --plain"
        )
    if arguments.backend == "trio" and not _is_there("trio"):
        return "--backend trio needs trio: pip install 'resilience-anyio[trio]'"
    return None


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _unwritable(path: Path | None) -> str | None:
    try:
        if path is not None:
            path.open("a", encoding="utf-8").close()
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    return None


def _run(arguments: argparse.Namespace, signals: Signals) -> int:
    from resilience.demo.report import reckon  # noqa: PLC0415 - see the docstring above
    from resilience.demo.run import Options, play  # noqa: PLC0415

    length = PLANS[arguments.plan].seconds * (_QUICK if arguments.quick else 1.0)
    options = Options(
        plan=arguments.plan,
        seconds=arguments.seconds or length,
        rate=arguments.rate,
        seed=arguments.seed,
        backend=arguments.backend,
        log=arguments.log,
    )
    view = _view(plain=arguments.plain)
    result = play(options, view, signals)
    if result.run is not None:
        report = reckon(result.run)
        view.report(report)
        if arguments.json is not None:
            ending = {"interrupted": signals.caught is not None, "problem": result.problem}
            figures = _figures(options, result.run, report, ending)
            arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if signals.caught is not None:
        sys.stderr.write("interrupted\n")
        return _INTERRUPTED + signals.caught
    if result.problem is not None:
        sys.stderr.write(f"{result.problem}\n")
        return 1
    return 0


def _view(*, plain: bool) -> View:
    if plain or not sys.stdout.isatty():
        from resilience.demo.view import Plain  # noqa: PLC0415

        return Plain(sys.stdout)
    from resilience.demo.live import Live  # noqa: PLC0415

    return Live()


def _figures(
    options: Options, played: Run, report: Report, ending: dict[str, Any]
) -> dict[str, Any]:
    return {
        "plan": options.plan,
        "seconds": options.seconds,
        "backend": options.backend,
        "rate": options.rate,
        "seed": options.seed,
        "elapsed": played.elapsed,
        **ending,
        **attrs.asdict(report),
    }
