"""
The runner of the examples can fail: what it finds, what it leaves out and where it points.
"""

from __future__ import annotations

import traceback
from textwrap import dedent

import pytest

from tests.docs.fences import BACKENDS, Backend, Example, MisspelledFenceError, examples


def page(text: str) -> list[Example]:
    return list(examples("page.md", dedent(text)))


@pytest.mark.parametrize("library", BACKENDS)
def test_a_failing_line_is_named_by_its_place_on_the_page(library: Backend) -> None:
    """
    The traceback of an example ends in the page, at the line the reader sees.
    """
    (example,) = page(
        """
        # Title

        ```python
        from anyio import sleep

        await sleep(0)
        assert 1 == 2
        ```
        """
    )

    with pytest.raises(AssertionError) as failed:
        example.run(library)

    last = traceback.extract_tb(failed.value.__traceback__)[-1]
    assert ("page.md", 8) == (last.filename, last.lineno)


@pytest.mark.parametrize("library", BACKENDS)
def test_an_example_that_awaits_runs_on_the_backend_it_is_given(library: Backend) -> None:
    """
    Asyncio and trio are not one and the same run, and an hour's sleep takes no time.
    """
    (example,) = page(
        """
        ```python
        import anyio
        import sniffio

        await anyio.sleep(3600)
        raise LookupError(sniffio.current_async_library())
        ```
        """
    )

    assert BACKENDS == example.backends
    with pytest.raises(LookupError, match=library):
        example.run(library)


def test_an_example_without_await_runs_once_as_a_script() -> None:
    """
    It sees itself as the main module and brings its own loop.
    """
    (example,) = page(
        """
        ```python
        if __name__ == "__main__":
            raise LookupError("ran")
        ```
        """
    )

    assert (None,) == example.backends
    with pytest.raises(LookupError, match="ran"):
        example.run(None)


def test_a_comment_directly_above_says_why_a_fence_does_not_run() -> None:
    """
    A comment with a reason counts, for the next block only; one without a reason does not count.
    """
    text = """
        <!-- not run: needs a server
        of its own -->

        ```python
        first
        ```

        <!-- not run: -->
        ```python
        second
        ```

        <!-- not run: not above a fence -->
        Some prose.

        ```python
        third
        ```
        """

    assert ["needs a server\nof its own", None, None] == [e.not_run for e in page(text)]


def test_a_fence_may_name_its_only_backend() -> None:
    """
    The reason is required here too.
    """
    text = """
        <!-- trio only: a nursery -->
        ```python
        await f()
        ```

        <!-- trio only: -->
        ```python
        await f()
        ```
        """

    assert [("trio",), BACKENDS] == [e.backends for e in page(text)]


def test_setup_and_continues_give_a_fence_what_the_page_leaves_out() -> None:
    """
    A setup runs before its own fence; a fence that continues has the one before it, and no other.
    """
    first, second, third = page(
        """
        <!-- setup
        a = 1
        -->
        ```python
        b = a + 1
        ```

        <!-- continues -->
        ```python
        assert (a, b) == (1, 2)
        ```

        1. In a list:

            ```python
            assert (a, b) == (1, 2)
            ```
        """
    )

    first.run(None)
    second.run(None)
    with pytest.raises(NameError):
        third.run(None)


@pytest.mark.parametrize("language", ["py", "Python", "python3", "pycon"])
def test_a_fence_that_would_be_passed_over_is_refused(language: str) -> None:
    """
    Coloured as Python and never run is how examples rot.
    """
    with pytest.raises(MisspelledFenceError, match=rf"page.md:2: .* ```{language}$"):
        page(f"\n```{language}\nx\n```\n")


def test_other_languages_are_left_alone() -> None:
    """
    A shell command is no Python.
    """
    assert [] == page("```console\npip install x\n```\n\n    indented\n")
