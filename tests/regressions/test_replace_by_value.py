"""
`Pipeline.replace` knew the policy to exchange by identity only, though a policy without state is a value.
"""

from __future__ import annotations

import pytest

from resilience import CircuitBreaker, ConfigurationError, Pipeline, Retry, Timeout


def test_the_policy_to_exchange_is_named_as_it_is_written():
    """``old=Timeout(10)`` finds the timeout of ten seconds."""
    guarded = Pipeline(Timeout(10), Retry(2, on=OSError), Timeout(2))

    assert Pipeline(Timeout(20), Retry(2, on=OSError), Timeout(2)) == guarded.replace(
        Timeout(20), old=Timeout(10)
    )


def test_of_two_equal_policies_the_object_itself_is_exchanged():
    """Equal is not enough where two are; the very object is."""
    outer, inner = Retry(2, on=OSError), Retry(2, on=OSError)
    with pytest.warns(match="multiply"):
        guarded = Pipeline(outer, inner)

    with pytest.raises(ConfigurationError, match="2 candidates"):
        guarded.replace(Retry(3, on=OSError), old=Retry(2, on=OSError))
    with pytest.warns(match="up to 6 attempts"):
        assert (outer, Retry(3, on=OSError)) == guarded.replace(
            Retry(3, on=OSError), old=inner
        ).policies


def test_a_breaker_is_known_by_itself_only():
    """A policy with state has identity: another one of the same options is another one."""
    one = CircuitBreaker("replaced", on=OSError, overdue_after=1)
    other = CircuitBreaker("replacing", on=OSError, overdue_after=1)

    with pytest.raises(ConfigurationError, match="0 candidates"):
        Pipeline(one).replace(one, old=other)
    assert (other,) == Pipeline(one).replace(other, old=one).policies
