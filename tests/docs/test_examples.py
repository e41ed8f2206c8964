"""
Every Python example in README.md and docs/ runs, on asyncio and on trio.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs.fences import Backend, Example, examples

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def cases() -> Iterator[object]:
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        page = path.relative_to(ROOT).as_posix()
        for example in examples(page, path.read_text(encoding="utf-8")):
            marks = [pytest.mark.skip(reason=example.not_run)] if example.not_run else []
            for library in example.backends if not example.not_run else (None,):
                name = f"{page}:{example.line}-{library or 'script'}"
                yield pytest.param(example, library, id=name, marks=marks)


@pytest.mark.parametrize(("example", "library"), list(cases()))
def test_an_example_runs(
    example: Example,
    library: Backend | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """
    It runs to its end, without a warning, in an empty directory.
    """
    monkeypatch.chdir(tmp_path)

    example.run(library)
