"""
Building what the checks would warn of.
"""

from __future__ import annotations

import warnings
from typing import Any

from resilience import Explanation, Pipeline, PipelineWarning, Policy


def built(*policies: Policy | Pipeline, **options: Any) -> Pipeline:
    """A pipeline of the shape the test is about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PipelineWarning)
        return Pipeline(*policies, **options)


def explained(*policies: Policy | Pipeline, **options: Any) -> Explanation:
    """What it says of itself."""
    return built(*policies, **options).explain()


def worst(*policies: Policy | Pipeline, **options: Any) -> tuple[float, float]:
    """Attempts and seconds."""
    explanation = explained(*policies, **options)
    return explanation.attempts, explanation.duration
