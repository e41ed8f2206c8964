"""
Issue 4: the reference of all keys is that of the real table, and the page of findings names every rule there is.
"""

from __future__ import annotations

import re
from pathlib import Path

import resilience
from resilience.config.presets import BREAKER_PRESETS, PIPELINE_PRESETS
from resilience.config.table import ACCEPTABLE
from tests.configuration.reference import PAGE, written

PACKAGE = Path(resilience.__file__).parent
CODES = {
    (severity, code)
    for file in (PACKAGE / "checks.py", PACKAGE / "config" / "rules.py")
    for severity, code in re.findall(r'"(error|warning)",\s*"([a-z-]+)",', file.read_text())
}


def test_the_page_lists_the_keys_of_the_table():
    """
    ``python -m tests.configuration.reference`` writes it anew.
    """
    text = PAGE.read_text()
    assert text == written(text)


def test_the_page_names_every_finding_and_every_preset():
    """
    A rule that is added is documented, and one that is gone is not.
    """
    text = PAGE.read_text()
    assert len(CODES) >= 20
    for _, code in CODES:
        assert f"`{code}`" in text, code
    for name in (*PIPELINE_PRESETS, *BREAKER_PRESETS):
        assert f"| `{name}` |" in text, name


def test_what_may_be_accepted_are_the_warnings_about_one_pipeline():
    """
    `accept` takes the codes of warnings that concern a pipeline's own policies.
    """
    warnings = {code for severity, code in CODES if severity == "warning"}
    of_the_whole = {
        "contradiction", "environment-mismatch", "huge-timeout", "missing", "nested-retries-across",
        "unit-slip", "unused",
    }  # fmt: skip

    assert warnings - of_the_whole == {*ACCEPTABLE}
