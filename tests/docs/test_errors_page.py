"""
The page of the errors shows all of them: somebody looks there to choose an ``except`` line.
"""

import re
from pathlib import Path

import pytest

from resilience import errors

PAGE = (Path(__file__).parents[2] / "docs/reference/errors.md").read_text()
CLASSES = [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_stands_in_the_tree_below_its_base(error):
    """The tree of the page is that of the classes, and of the module's own."""
    for tree in (PAGE.partition("```text")[2].partition("```")[0], errors.__doc__):
        if not issubclass(error, Warning) or tree is not errors.__doc__:
            lines = tree.splitlines()
            (at,) = (n for n, line in enumerate(lines) if re.match(rf"\W*{error.__name__}\b", line))
            depth = lines[at].index(error.__name__)
            above = [line for line in lines[:at] if re.search(r"\w", line)]
            around = [re.search(r"\w+", line) for line in reversed(above)]
            parent = next((each[0] for each in around if each.start() < depth), None)
            base = error.__bases__[0].__name__
            assert (base if base in errors.__all__ else None) == (
                parent if parent in errors.__all__ else None
            )


@pytest.mark.parametrize(
    "error", [each for each in CLASSES if issubclass(each, errors.RejectedError)]
)
def test_every_reason_stands_in_the_table(error):
    """A word for metrics, and who raises it."""
    assert re.search(rf"^\| `{error.reason}` \| .*`{error.__name__}`", PAGE, re.MULTILINE)
