"""
Makes the pictures again: ``python -m docs.pictures [--check] [name ...]``. ``--check`` writes nothing.
"""

from __future__ import annotations

import sys

from docs.pictures import FOLDER, pictures

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Draw those of these names, or all, and say which are other than they were kept; 1: ``--check``, and some are."""
    writes, names = "--check" not in arguments, {each for each in arguments if each != "--check"}
    others = 0
    for name, draw in pictures().items():
        if names and name.removesuffix(".svg") not in names:
            continue
        path = FOLDER / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if (after := draw()) == before:
            print(f"as it was: {name}")
            continue
        others += 1
        print(f"{'drawn' if writes else 'another one now'}: {name}")
        if writes:
            path.write_text(after, encoding="utf-8")
    return 0 if writes else min(others, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
