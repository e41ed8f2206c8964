"""
The `top` command: its options, and how it asks the operations app of a service.

Nothing heavy is imported until the command runs, so that `python -m resilience --help` answers at once and a missing
extra is one line instead of a traceback.
"""

from __future__ import annotations

import argparse
import http.client
import importlib
import json
import math
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

__all__ = ["Unreachable", "configure", "read", "run"]

_LARGEST = 16 * 2**20
"""Bytes. No snapshot is that large; whatever answers with more is something else."""
_READER_GONE = 141  # 128 plus SIGPIPE, as shells have it


class Unreachable(Exception):  # noqa: N818 - it ends in a sentence, not in a traceback
    """The operations app did not answer, or something else did; the text says which."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options to the command's parser."""
    parser.description = (
        "Show the circuit breakers of a running service, as its operations app tells of them "
        "(resilience.integrations.asgi.OperationsApp)."
    )
    parser.add_argument(
        "url", help="where the operations app is, such as http://localhost:8000/ops"
    )
    parser.add_argument("--once", action="store_true", help="print what is there now, and end")
    parser.add_argument(
        "--interval",
        type=_number(0.2, 3600),
        default=1.0,
        metavar="S",
        help="seconds between two looks, 0.2 to 3600 (default: %(default)g)",
    )
    parser.add_argument(
        "--timeout",
        type=_number(0.1, 600),
        default=5.0,
        metavar="S",
        help="seconds to wait for an answer, 0.1 to 600 (default: %(default)g)",
    )
    parser.add_argument(
        "--header",
        type=_header,
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="send this header, such as an Authorization; may be repeated",
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


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if (
        not colon
        or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name)
        or not value.isprintable()
    ):
        # The value may be a secret and is not repeated.
        raise argparse.ArgumentTypeError("allowed is 'NAME: VALUE' on one line")
    return name, value.strip()


def run(arguments: argparse.Namespace) -> int:
    """
    Show it until Ctrl-C, or once.

    Returns:
        0; with ``--once`` 1 if nothing could be read; 2 for a URL that cannot be one or a missing extra; 141 if nobody
        reads the output.
    """
    try:
        importlib.import_module("rich")
    except ImportError:
        sys.stderr.write("top needs rich: pip install 'resilience-anyio[top]'\n")
        return 2
    try:
        address = _address(arguments.url)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2

    def look() -> dict[str, Any]:
        return read(address, timeout=arguments.timeout, headers=dict(arguments.header))

    try:
        return (
            _once(look)
            if arguments.once or not sys.stdout.isatty()
            else _live(look, arguments.interval)
        )
    except KeyboardInterrupt:
        return 0  # the way out
    except BrokenPipeError:
        # Nobody reads on, as after `| head`. What is still buffered must not fail at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE


def _once(look: Callable[[], dict[str, Any]]) -> int:
    from resilience.top.view import print_once  # noqa: PLC0415 - see the top of the file

    try:
        found = look()
    except Unreachable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print_once(found)
    return 0


def _live(look: Callable[[], dict[str, Any]], interval: float) -> int:
    from resilience.top.view import Screen  # noqa: PLC0415 - see the top of the file

    with Screen() as screen:
        while True:
            try:
                screen.show(look())
            except Unreachable as error:
                screen.lost(str(error))
            time.sleep(interval)


def _address(text: str) -> str:
    """
    The snapshot's address; ``http://`` may be left out.

    Raises:
        ValueError: it is no address of a web server.
    """
    url = text if "://" in text else f"http://{text}"
    parts = urllib.parse.urlsplit(url)
    try:
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        fine = False
    if not fine or parts.username is not None or not url.isprintable() or " " in url:
        shown = "" if "@" in url else f", got {text!r}"
        message = f"the URL must be http(s)://host[:port][/path] without a password{shown}"
        raise ValueError(message)
    path = f"{parts.path.rstrip('/').removesuffix('/snapshot')}/snapshot"
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def read(address: str, *, timeout: float, headers: dict[str, str]) -> dict[str, Any]:
    """
    The snapshot of an operations app.

    Raises:
        Unreachable: there is none.
    """
    request = urllib.request.Request(address, headers={"accept": "application/json"} | headers)  # noqa: S310 - http(s)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - (as above)
            body = answer.read(_LARGEST + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise Unreachable(f"{address} answers {error.code}") from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = getattr(error, "reason", error)
        words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise Unreachable(f"{address} cannot be reached: {words}") from None
    found: Any
    try:
        found = json.loads(body) if len(body) <= _LARGEST else None
    except (ValueError, RecursionError):
        found = None
    if not _is_snapshot(found):
        raise Unreachable(f"{address} is no operations app of resilience") from None
    return found  # type: ignore[no-any-return]


def _is_snapshot(found: Any) -> bool:
    lists = ("circuit_breakers", "pipelines", "events")
    return (
        isinstance(found, dict)
        and isinstance(found.get("summary"), dict)
        and all(
            isinstance(found.get(key), list) and all(isinstance(each, dict) for each in found[key])
            for key in lists
        )
    )
