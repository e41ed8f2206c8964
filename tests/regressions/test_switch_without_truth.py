"""
A switch that answers with something of which nobody can say whether it is true, as arrays do.
"""

from resilience import Pipeline, Retry
from resilience.testing import Script


class Ambiguous:
    def __bool__(self):
        raise ValueError("more than one element")


async def test_a_switch_whose_answer_has_no_truth_leaves_the_guard_on(backend, caplog):
    """Law 6: it is logged once and never becomes the call's error."""
    script = Script(OSError, 42)
    guarded = Pipeline(Retry(2, on=OSError, wait=lambda _: 0.0), enabled=lambda: Ambiguous())  # noqa: PLW0108 - a class is no switch

    assert 42 == await guarded(script)
    assert ["Pipeline.enabled"] == [r.getMessage().split()[0] for r in caplog.records]
