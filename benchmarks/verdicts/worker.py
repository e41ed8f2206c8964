"""
One library's verdicts, as one line of JSON: ``python -m benchmarks.verdicts.worker NAME``.
"""

from __future__ import annotations

import json
import logging
import sys

from benchmarks.verdicts.clocks import install

CLOCKS = install()  # before anything imports a library that keeps a clock for itself

from benchmarks.report import found_version  # noqa: E402
from benchmarks.rivals import OURS, RIVALS, Missing, load  # noqa: E402
from benchmarks.verdicts.situations import judged  # noqa: E402


def main(name: str) -> int:
    logging.getLogger().addHandler(logging.NullHandler())  # what they log of it is not the question
    rival = next(each for each in (OURS, *RIVALS) if each.name == name)
    adapter = load(rival)
    answer: dict[str, object] = {"version": found_version(rival.distribution), "missing": None}
    if isinstance(adapter, Missing):
        answer["missing"] = adapter.reason
    elif not adapter.has("breaker"):
        answer["missing"] = "it has no circuit breaker"
    else:
        answer["verdicts"] = judged(adapter, CLOCKS)
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
