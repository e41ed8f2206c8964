"""
Holds the lines of errors.py to what they claim: each ``# E: text`` must fail, and nothing else may.

mypy has to report an error that contains the text on that very line, pyright any error on that
line; an error that no comment claims fails as well. Run by ``nox -s types``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ERRORS = Path(__file__).with_name("errors.py")


def claims() -> dict[int, list[str]]:
    """
    Line number -> the texts claimed there.
    """
    lines = enumerate(ERRORS.read_text(encoding="utf-8").splitlines(), 1)
    split = ((number, line.split("  # E: ")[1:]) for number, line in lines)
    return {number: texts for number, texts in split if texts}


def mypy() -> dict[int, list[str]]:
    """
    Line number -> mypy's messages.
    """
    quiet = ["--no-error-summary", "--no-pretty", "--follow-imports=silent"]
    command = [sys.executable, "-m", "mypy", *quiet, str(ERRORS)]
    output = subprocess.run(command, capture_output=True, text=True, check=False)
    if output.stderr:
        sys.exit(output.stderr)
    found: dict[int, list[str]] = defaultdict(list)
    for line in output.stdout.splitlines():
        if match := re.fullmatch(r".*errors\.py:(\d+): error: (.*)", line):
            found[int(match[1])].append(match[2])
    return found


def pyright() -> dict[int, list[str]]:
    """
    Line number -> pyright's messages.
    """
    command = [sys.executable, "-m", "pyright", "--outputjson", str(ERRORS)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    found: dict[int, list[str]] = defaultdict(list)
    for diagnostic in json.loads(output.stdout)["generalDiagnostics"]:
        if diagnostic["severity"] == "error":
            found[diagnostic["range"]["start"]["line"] + 1].append(diagnostic["message"])
    return found


def main() -> None:
    """
    Print each difference and exit with 1 if there is one.
    """
    claimed, by_mypy, by_pyright = claims(), mypy(), pyright()
    wrong: list[str] = []
    for line in sorted({*claimed, *by_mypy, *by_pyright}):
        texts, said = claimed.get(line, []), by_mypy.get(line, [])
        silent = [text for text in texts if not any(text in message for message in said)]
        unclaimed = [message for message in said if not any(text in message for text in texts)]
        wrong += [f"{line}: mypy does not say: {text}" for text in silent]
        wrong += [f"{line}: mypy says, unclaimed: {message}" for message in unclaimed]
        if bool(texts) != (line in by_pyright):
            wrong.append(f"{line}: pyright: {by_pyright.get(line, 'sees nothing')}")
    if not claimed:
        wrong.append("no line claims anything")
    for text in wrong:
        print(f"{ERRORS.name}:{text}")
    print(f"{len(claimed)} lines must fail, {len(wrong)} differences")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
