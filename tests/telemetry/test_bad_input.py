"""
Bad input: every rule of every field of the alert rules, generated from their own definitions.
"""

from __future__ import annotations

import attrs
import pytest

from resilience import ConfigurationError
from resilience.telemetry import CircuitOpened, LowSuccess, ManyRejections
from resilience.validation import Allowed

KINDS = (CircuitOpened, LowSuccess, ManyRejections)
PAIRS = [
    pytest.param(kind, field.name, value, id=f"{kind.__name__}.{field.name}-{rule}")
    for kind in KINDS
    for field in attrs.fields(kind)
    if field.init
    for rule, value in field.validator.breaches.items()
]


@pytest.mark.parametrize(("kind", "field", "value"), PAIRS)
def test_each_broken_rule_is_one_error(kind, field, value):
    """
    The error names the field and what is allowed.
    """
    with pytest.raises(ConfigurationError, match=rf"^{kind.__name__}\.{field} must be "):
        kind(**{field: value})


def test_every_field_has_its_rules():
    """
    Instrument: a field without a validator, or one without breaches, would not be generated.
    """
    for kind in KINDS:
        kind()
        for field in attrs.fields(kind):
            if field.init:
                assert isinstance(field.validator, Allowed)
                assert field.validator.breaches
