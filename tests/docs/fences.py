"""
Finds the Python examples of a Markdown page and runs one as its reader would.

Why not a doctest tool: the examples await at the top level and have to run on asyncio and on trio
under virtual time, and a Markdown parser (markdown-it) is all the help that needs.

An HTML comment directly above a fence, invisible to the reader, changes how it runs:

    <!-- not run: reason -->          it cannot run here, and this is why
    <!-- asyncio only: reason -->     on that backend only; `trio only` likewise
    <!-- real time: reason -->        not under virtual time
    <!-- continues -->                after the fence before it, in the same namespace
    <!-- setup
    code -->                          this runs first: what the reader has and the page leaves out
"""

from __future__ import annotations

import ast
import gc
import inspect
import re
import textwrap
from types import CodeType
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, frozen
from markdown_it import MarkdownIt

from resilience import testing

if TYPE_CHECKING:
    from collections.abc import Iterator

Backend = Literal["asyncio", "trio"]
BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")

NOT_RUN = re.compile(r"<!-- not run: (\S.*?) -->", re.DOTALL)
ONLY = re.compile(r"<!-- (asyncio|trio) only: \S.*? -->", re.DOTALL)
REAL = re.compile(r"<!-- real time: \S.*? -->", re.DOTALL)
CONTINUES = re.compile(r"<!-- continues -->")
SETUP = re.compile(r"<!-- setup\n(.*?)-->", re.DOTALL)


class MisspelledFenceError(Exception):
    """
    A fence that GitHub would colour as Python and that would not run.
    """


@frozen
class Example:
    """
    One fence: where it stands, its program (every line under its number on the page), how it runs.
    """

    page: str
    line: int
    program: dict[int, str] = field(repr=False)
    not_run: str | None
    only: Backend | None
    real: bool = False

    @property
    def code(self) -> CodeType:
        """
        The program with its lines where the page has them: a traceback points into the page.
        """
        last = max(self.program, default=0)
        source = "\n".join(self.program.get(n, "") for n in range(1, last + 1))
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, self.page, "exec", flags, dont_inherit=True)
        assert isinstance(code, CodeType)
        return code

    @property
    def backends(self) -> tuple[Backend | None, ...]:
        """
        Where it runs; None for a script that awaits nothing or brings its own loop.
        """
        if not self.code.co_flags & inspect.CO_COROUTINE:
            return (None,)
        return (self.only,) if self.only else BACKENDS

    def run(self, backend: Backend | None) -> None:
        """
        Run the program in a namespace of its own; on *backend*, under virtual time unless the page says otherwise.
        """
        code = self.code
        namespace: dict[str, Any] = {"__name__": "__main__"}

        async def main() -> None:
            await eval(code, namespace)  # noqa: S307 - our own pages

        try:
            if backend is None:
                exec(code, namespace)  # noqa: S102 - our own pages
            else:
                testing.run(main, backend=backend, real=self.real)
        finally:
            # Its breakers go now: the next example may use the same names, and two live breakers
            # of one name warn.
            namespace.clear()
            gc.collect()


def examples(page: str, text: str) -> Iterator[Example]:
    """
    The Python fences of one page, each with the comments directly above it.
    """
    above: dict[int, str] = {}
    before: dict[int, str] = {}
    for token in MarkdownIt("commonmark").parse(text):
        # A blank line ends no run of comments; any other block does.
        if token.type == "html_block" and token.map:
            above[token.map[0] + 1] = token.content
            continue
        if token.type == "fence" and token.map:
            language = (token.info.split() or [""])[0]
            line = token.map[0] + 1
            if language == "python":
                example = _example(page, line, token.content, above, before)
                before = example.program
                yield example
            elif language.lower() in {"py", "pycon", "python", "python3"}:
                text = f"{page}:{line}: spell it ```python, got ```{language}"
                raise MisspelledFenceError(text)
        above = {}


def _example(
    page: str, line: int, content: str, above: dict[int, str], before: dict[int, str]
) -> Example:
    comments = "".join(above.values())
    not_run = NOT_RUN.search(comments)
    only = ONLY.search(comments)
    program = dict(before) if CONTINUES.search(comments) else {}
    for first, comment in above.items():
        if setup := SETUP.match(comment):
            program |= _numbered(setup[1], first + 1)
    program |= _numbered(content, line + 1)
    return Example(
        page=page,
        line=line,
        program=program,
        not_run=not_run[1] if not_run else None,
        only="trio" if only and only[1] == "trio" else "asyncio" if only else None,
        real=REAL.search(comments) is not None,
    )


def _numbered(code: str, first: int) -> dict[int, str]:
    return dict(enumerate(textwrap.dedent(code).splitlines(), first))
