"""
The command line: `python -m resilience <command>`.

A command is a function that adds its options to a parser and sets `run` to a function that takes the
parsed arguments and returns the exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from resilience.config import commands as config
from resilience.demo import command as demo
from resilience.top import command as top

__all__ = ["main"]

_COMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("check", "say what is wrong with a configuration file", config.configure_check),
    ("demo", "watch a real service fail, bare and guarded", demo.configure),
    ("explain", "say the worst that a pipeline of yours can do", config.configure_explain),
    ("schema", "print the JSON Schema of configuration files", config.configure_schema),
    ("top", "show the circuit breakers of a running service", top.configure),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; without a command, print the help."""
    parser = argparse.ArgumentParser(
        prog="python -m resilience", description="Resilience for async Python."
    )
    commands = parser.add_subparsers(title="commands", metavar="<command>")
    for name, summary, configure in _COMMANDS:
        configure(commands.add_parser(name, help=summary))
    parsed = parser.parse_args(arguments)
    if "run" not in parsed:
        parser.print_help()
        return 0
    code: int = parsed.run(parsed)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before or after the part that handles it
        sys.exit(130)
