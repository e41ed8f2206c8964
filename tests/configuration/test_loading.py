"""
Issue 4.2: pipelines and breakers from files, mappings and the environment, layered, and read again while calls run.
"""

from __future__ import annotations

import itertools
import logging
import os
import textwrap
from datetime import timedelta

import anyio
import pytest
from tenacity import wait_exponential, wait_fixed, wait_random

from resilience import (
    Bulkhead,
    CircuitBreaker,
    CircuitState,
    ConfigurationError,
    ConsecutiveFailures,
    CountWindow,
    FailureRate,
    Fallback,
    FullJitter,
    LastGood,
    PipelineWarning,
    Retry,
    SlowRate,
    Timeout,
    TimeoutExceededError,
    TimeWindow,
)
from resilience.config import InvalidConfigError, get_config, load, preset
from resilience.config import config as module
from resilience.config.table import ERRORS
from resilience.events import ChangeRefused, OptionsChanged
from resilience.registry import Registry
from resilience.registry.registry import default_registry
from resilience.registry.same import alike
from resilience.testing import Recorder, Script, Wait
from tests.composition.support import about, timed
from tests.configuration.kit import breaker, loaded, of, piped, refused, usual

pytestmark = pytest.mark.filterwarnings("ignore:two live circuit breakers")

_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    return f"configured-{next(_numbers)}"


# ------------------------------------------------------------------------------------------------- what is read


def test_a_pipeline_is_what_one_would_have_written():
    """
    Issue 4.2: the usual four, from a mapping.
    """
    config = loaded(usual())
    live = config.pipeline("catalogue")

    total, retry, gate, attempt = live.policies
    assert Timeout(10) == total
    assert alike(retry, Retry(3, on=(ConnectionError, TimeoutError)))
    assert gate is config.breaker("catalogue") is config.registry.breaker("catalogue")
    assert ConsecutiveFailures(5) == gate.trip
    assert Timeout(2) == attempt
    assert ("catalogue",) == config.pipelines == config.policies
    assert "<Config of 1 pipelines and 1 policies>" == repr(config)
    assert config.environment is None


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (2, 2.0), (0.5, 0.5), ("1m30s", 90.0), ("250ms", 0.25), ("1h", 3600.0), ("1d2h", 93600.0), ("1.5s", 1.5),
        ("10us", 1e-5), (timedelta(minutes=1), 60.0),
    ],
    ids=str,
)  # fmt: skip
def test_durations(given, seconds):
    """
    Issue 4.2: numbers of seconds, or texts with units; from a mapping a timedelta as well.
    """
    (timeout,) = loaded(piped(of("timeout", seconds=given))).pipeline("catalogue").policies

    assert pytest.approx(seconds) == timeout.seconds


@pytest.mark.parametrize(
    ("given", "trip"),
    [
        ({"type": "consecutive_failures", "n": 7}, ConsecutiveFailures(7)),
        ({"type": "failure_rate"}, FailureRate()),
        (
            {"type": "failure_rate", "ratio": 0.25, "window": "1m", "minimum_calls": 4},
            FailureRate(0.25, TimeWindow(60), 4),
        ),
        (
            {"type": "failure_rate", "window": {"type": "count", "calls": 50}},
            FailureRate(0.5, CountWindow(50)),
        ),
        (
            {"type": "slow_rate", "ratio": 1, "slower_than": 2,
             "window": {"type": "time", "seconds": 9, "buckets": 3}},
            SlowRate(1.0, 2, TimeWindow(9, buckets=3)),
        ),
        (
            {"type": "any", "of": [{"type": "consecutive_failures"},
                                   {"type": "slow_rate", "ratio": 0.5, "slower_than": 1}]},
            ConsecutiveFailures() | SlowRate(0.5, 1),
        ),
        (
            {"type": "all", "of": [{"type": "consecutive_failures"}, *[{"type": "failure_rate"}] * 2]},
            ConsecutiveFailures() & FailureRate() & FailureRate(),
        ),
    ],
    ids=["in a row", "defaults", "rate", "count window", "slow", "any", "all"],
)  # fmt: skip
def test_trips(name, given, trip):
    """
    Every condition of a breaker can be written.
    """
    assert trip == loaded({"breakers": {name: breaker(trip=given)}}).breaker(name).trip


@pytest.mark.parametrize(
    ("given", "wait"),
    [
        ({"type": "full_jitter", "initial": "1s", "cap": 9}, FullJitter(1, 9)),
        ({"type": "fixed", "seconds": "1s"}, wait_fixed(1.0)),
        ({"type": "random", "max": 2}, wait_random(max=2.0)),
        ({"type": "exponential", "multiplier": 0.5, "max": 10}, wait_exponential(0.5, 10.0)),
    ],
    ids=["ours", "fixed", "random", "exponential"],
)
def test_waits(given, wait):
    """
    Ours, and tenacity's that are plain numbers; a breaker's break may be one as well.
    """
    config = loaded(
        piped(of("retry", on="OSError", wait=given)),
        {"breakers": {"b": breaker(break_duration=given)}},
    )
    assert alike(wait, config.pipeline("catalogue").policies[0].wait)
    assert alike(wait, config.breaker("b").break_duration)


def test_every_other_wait_is_made():
    """
    The rest of tenacity's, by their own words.
    """
    for given in (
        {"type": "exponential_jitter", "initial": 1, "max": 9, "exp_base": 3, "jitter": 2},
        {"type": "incrementing", "start": 1, "increment": 2, "max": 9},
    ):
        (retry,) = (
            loaded(piped(of("retry", on="OSError", wait=given))).pipeline("catalogue").policies
        )
        assert f"wait_{given['type']}" == type(retry.wait).__name__


def test_exception_classes_by_name(name):
    """
    Issue 4.2: builtin ones, this package's, a known group, and what the program registered; nothing is imported.
    """

    class ShopError(Exception):
        pass

    config = loaded(
        {"breakers": {name: {"on": ["network", "OSError", "shop", "TimeoutExceededError"], "ignore": "ValueError"}}},
        errors={"shop": (ShopError, LookupError), "other": ShopError},
    )  # fmt: skip
    gate = config.breaker(name)
    assert (
        ConnectionError,
        TimeoutError,
        OSError,
        ShopError,
        LookupError,
        TimeoutExceededError,
    ) == gate.on
    assert (ValueError,) == gate.ignore
    assert not {"KeyboardInterrupt", "BaseException", "UserWarning", "IOError", "int"} & set(ERRORS)


def test_other_policies_and_shared_ones():
    """
    Each policy of the table; one that holds state is shared by those who use it.
    """
    config = loaded(
        {
            "policies": {"db": of("bulkhead", limit=5, queue=2)},
            "pipelines": {
                "reads": {
                    "policies": [of("fallback", value={"items": []}, on="Exception"), {"use": "db"},
                                 of("timeout", seconds=1)]
                },
                "writes": {"policies": [of("last_good", ttl=60), {"use": "db"}, {"use": "inner"}]},
                "inner": {"policies": [of("timeout", seconds=1), of("bulkhead", limit=1)]},
            },
        }
    )  # fmt: skip
    fallback, shared, _ = config.pipeline("reads").policies
    last_good, again, inner = config.pipeline("writes").policies
    assert {"items": []} == fallback.value
    assert isinstance(fallback, Fallback)
    assert isinstance(last_good, LastGood)
    assert shared is again
    assert isinstance(shared, Bulkhead)
    assert ("db", 5, 2) == (shared.name, shared.limit, shared.queue)
    assert inner is config.pipeline("inner")
    assert "inner.bulkhead" == inner.policies[1].name
    assert {"db", "inner.bulkhead", "writes.last_good"} == set(config.policies)


def test_what_is_not_there():
    """
    A KeyError that names what is.
    """
    config = loaded(usual())
    with pytest.raises(KeyError, match="there are: catalogue"):
        config.pipeline("catalog")
    with pytest.raises(KeyError, match="there are: catalogue"):
        config.breaker("catalog")
    with pytest.raises(KeyError, match="none"):
        loaded({}).breaker("x")
    with pytest.raises(KeyError, match="none"):
        loaded({}).pipeline("x")


def test_pipelines_warn_as_ever_unless_it_is_accepted():
    """
    The checks of a pipeline hold for one from a file; `accept` names what somebody has looked at.
    """
    inside = piped(
        of("circuit_breaker", on="OSError"), of("retry", on="OSError"), of("timeout", seconds=1)
    )
    with pytest.warns(PipelineWarning, match="hides failed attempts"):
        load(inside, environ={})
    inside["pipelines"]["catalogue"]["accept"] = ["retry-inside-breaker"]
    assert load(inside, environ={}).pipelines


# ------------------------------------------------------------------------------------------------------- layers


def test_a_later_layer_wins(tmp_path):
    """
    Issue 4.2: tables are merged key by key, other values replaced, policies changed by name.
    """
    base = tmp_path / "base.toml"
    base.write_text(
        textwrap.dedent("""
        environment = "production"
        [breakers.db]
        on = "network"
        probes = 2
        trip = { type = "consecutive_failures", n = 3 }
        [[pipelines.catalogue.policies]]
        type = "timeout"
        seconds = 10
        [[pipelines.catalogue.policies]]
        type = "retry"
        on = "network"
        [[pipelines.catalogue.policies]]
        type = "timeout"
        seconds = 2
        """)
    )
    over = tmp_path / "over.toml"
    over.write_text(
        textwrap.dedent("""
        [breakers.db]
        break_duration = "5s"
        trip = { type = "failure_rate", ratio = 0.1 }
        [pipelines.catalogue.policies.retry]
        attempts = 5
        [pipelines.catalogue.policies.timeout_2]
        seconds = "1s"
        """)
    )
    config = loaded(base, over, {"breakers": {"db": {"probes": 4}}})
    gate = config.breaker("db")
    assert (4, 5.0, FailureRate(0.1)) == (gate.probes, gate.break_duration, gate.trip)
    first, retry, second = config.pipeline("catalogue").policies
    assert (10.0, 5, 1.0) == (first.seconds, retry.attempts, second.seconds)
    assert "production" == config.environment
    whole = loaded(base, {"pipelines": {"catalogue": {"policies": [of("timeout", seconds=7)]}}})
    assert (Timeout(7),) == whole.pipeline("catalogue").policies
    other = loaded(
        base, {"pipelines": {"catalogue": {"policies": {"retry": of("bulkhead", limit=1)}}}}
    )
    assert isinstance(other.pipeline("catalogue").policies[1], Bulkhead)


def test_a_mistake_is_said_of_the_layer_that_made_it(tmp_path):
    """
    The file that holds the wrong value, not the one it is laid over.
    """
    base, over = tmp_path / "base.toml", tmp_path / "over.toml"
    base.write_text('[[pipelines.c.policies]]\ntype = "retry"\non = "network"\n')
    over.write_text("\n\n[pipelines.c.policies.retry]\nattempts = -1\n")
    (mistake,) = refused(base, over).mistakes
    assert (str(over), 4, "pipelines.c.policies[0].attempts") == (
        mistake.source, mistake.line, mistake.path,
    )  # fmt: skip


def test_the_environment_over_all():
    """
    Issue 4.2: one variable, one setting; its value is TOML, or a text.
    """
    config = loaded(
        usual(),
        {"breakers": {"my-db": breaker()}},
        environ={
            "RESILIENCE__BREAKERS__MY_DB__BREAK_DURATION": "5s",
            "RESILIENCE__BREAKERS__MY_DB__TRIP": '{ type = "consecutive_failures", n = 9 }',
            "RESILIENCE__BREAKERS__NEW__ON": '["OSError"]',
            "RESILIENCE__PIPELINES__CATALOGUE__RETRY__ATTEMPTS": "5",
            "RESILIENCE__PIPELINES__CATALOGUE__POLICIES__ATTEMPT__SECONDS": "1.5",
            "RESILIENCE__ENVIRONMENT": "staging",
            "RESILIENCE_ENVIRONMENT": "staging",
            "PATH": "/bin",
        },
    )
    assert (5.0, ConsecutiveFailures(9)) == (
        (gate := config.breaker("my-db")).break_duration, gate.trip,
    )  # fmt: skip
    assert (OSError,) == config.breaker("new").on
    assert (5, 1.5) == (
        (policies := config.pipeline("catalogue").policies)[1].attempts, policies[3].seconds,
    )  # fmt: skip
    assert "staging" == config.environment


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("RESILIENCE_CATALOG_MODE", "off", "RESILIENCE_CATALOGUE_MODE"),
        ("RESILIENCE_CATALOGUE_MDOE", "off", "RESILIENCE_CATALOGUE_MODE"),
        ("RESILIENCE_CATALOGUE_MODE", "obsrve", "observe"),
        ("RESILIENCE_CONFG", "x", "RESILIENCE_CONFIG"),
        ("RESILIENCE__BREAKER__CATALOGUE__ON", "x", None),
        ("RESILIENCE__BREAKERS__CATALOGUE", "x", None),
        ("RESILIENCE__BREAKERS____ON", "x", None),
        ("RESILIENCE__PIPELINES__CATALOGUE__RETRY__ATEMPTS", "3", "attempts"),
        ("RESILIENCE__PIPELINES__CATALOGUE__RETR__ATTEMPTS", "3", "retry"),
    ],
)
def test_a_variable_that_means_nothing_is_a_mistake(variable, value, hint):
    """
    Issue 4.2: a rollback that is misspelt must not be silent.
    """
    (mistake,) = refused(usual(), environ={variable: value}).mistakes

    assert hint == mistake.hint
    assert "environment" == mistake.source
    assert variable in mistake.path or "policies" in mistake.path


def test_another_prefix():
    """
    Two programs, two prefixes.
    """
    config = loaded(
        usual(), prefix="SHOP", environ={"SHOP_CATALOGUE_MODE": "off", "RESILIENCE_X": "1"}
    )
    assert "off" == config.modes["catalogue"]


# -------------------------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize(
    ("file", "environ", "expected"),
    [
        ({}, {}, ("enforce", "enforce", "enforce", "enforce")),
        ({"mode": "observe"}, {}, ("observe", "off", "observe", "observe")),
        ({"mode": "off"}, {}, ("off", "off", "off", "off")),
        ({}, {"RESILIENCE_CATALOGUE_MODE": "observe"}, ("observe", "off", "observe", "observe")),
        ({"mode": "observe"}, {"RESILIENCE_CATALOGUE_MODE": "Enforce "}, ("enforce",) * 4),
        ({}, {"RESILIENCE_CATALOGUE_RETRY_MODE": "off"}, ("enforce", "off", "enforce", "enforce")),
        (
            {"mode": "off"},
            {"RESILIENCE_CATALOGUE_MODE": "observe", "RESILIENCE_CATALOGUE_ATTEMPT_MODE": "enforce"},
            ("observe", "off", "observe", "enforce"),
        ),
    ],
    ids=["none", "observe", "off", "variable", "variable over file", "of one", "of one over the pipeline's"],
)  # fmt: skip
def test_modes(file, environ, expected):
    """
    Issue 4.2: ``off``, ``observe``, ``enforce`` by file and by variable; the nearest wins.
    """
    config = loaded(usual(**file), environ=environ)
    labels = ("total", "retry", "circuit_breaker", "attempt")

    assert expected == tuple(config.modes[f"catalogue.{label}"] for label in labels)
    state = {"enforce": "CLOSED", "observe": "OBSERVING", "off": "DISABLED"}[expected[2]]
    assert state == config.breaker("catalogue").state.name


def test_a_breaker_of_its_own_has_a_mode():
    """
    Issue 4.2: in the file, or by its name in a variable.
    """
    data = {"breakers": {"db": breaker(mode="observe"), "cache": breaker()}}
    assert CircuitState.OBSERVING is loaded(data).breaker("db").state
    config = loaded(data, environ={"RESILIENCE_CACHE_MODE": "off", "RESILIENCE_DB_MODE": "enforce"})
    assert (CircuitState.CLOSED, CircuitState.DISABLED) == (
        config.breaker("db").state, config.breaker("cache").state,
    )  # fmt: skip


def test_what_cannot_only_observe_says_so():
    """
    Issue 4.2: an error, not a retry that acts or one that is silently off.
    """
    data = piped(
        of("retry", on="OSError", mode="observe"),
        of("fallback", value=1, on="OSError", mode="observe"),
    )
    retry, fallback = refused(data).mistakes
    assert "a retry cannot only observe (whether another attempt succeeds" in retry.allowed
    assert "a fallback cannot only observe" in fallback.allowed
    (mistake,) = refused(usual(), environ={"RESILIENCE_CATALOGUE_RETRY_MODE": "observe"}).mistakes
    assert "cannot only observe" in mistake.allowed


async def test_switched_to_observe_without_code(backend, unit):
    """
    Issue 4, Shown by: the same file, one variable: nothing is cut off, nothing turned away, nothing retried.
    """
    data = piped(
        of("timeout", seconds=unit),
        of("retry", on="OSError", wait={"type": "fixed", "seconds": 0}),
        of("circuit_breaker", on="OSError", trip={"type": "consecutive_failures", "n": 1}),
        accept=["breaker-without-timeout", "threshold-below-attempts"],
    )
    script = Script(OSError, Wait(2 * unit, 42))
    call = (
        loaded(data, environ={"RESILIENCE_CATALOGUE_MODE": "observe"})
        .pipeline("catalogue")
        .wrap(script)
    )

    assert isinstance((await timed(call()))[0], OSError)
    assert 1 == script.calls
    assert (42, about(2 * unit, backend)) == await timed(call())


# ------------------------------------------------------------------------------------------------------- reload


class Reloaded:
    """A configuration from a file that the test rewrites."""

    def __init__(self, path, environ=None):
        self.path = path
        self.environ = environ if environ is not None else {}
        self.recorder = Recorder(OptionsChanged, ChangeRefused)
        self.registry = Registry(listeners=[self.recorder])

    def write(self, text):
        self.path.write_text(textwrap.dedent(text))

    def load(self):
        return loaded(self.path, environ=self.environ, registry=self.registry)


@pytest.fixture
def site(tmp_path):
    return Reloaded(tmp_path / "resilience.toml")


ONE = """
    [breakers.db]
    on = "OSError"
    trip = {{ type = "consecutive_failures", n = {n} }}
    [[pipelines.reads.policies]]
    type = "timeout"
    seconds = {seconds}
    [[pipelines.reads.policies]]
    use = "db"
    [[pipelines.reads.policies]]
    type = "timeout"
    seconds = 0.001
"""


async def test_a_function_wrapped_before_obeys_the_new_file(backend, site):
    """
    Law 38: new timeouts and a new threshold hold at the next call; the breaker is the same and keeps its state.
    """
    site.write(ONE.format(n=5, seconds=10))
    config = site.load()
    call = config.pipeline("reads").wrap(Script(OSError))
    gate = config.breaker("db")
    await timed(call())
    assert () == config.reload()

    site.write(ONE.format(n=1, seconds=20))
    assert ("db", "reads") == config.reload()
    assert gate is config.breaker("db")
    assert Timeout(20) == config.pipeline("reads").policies[0]
    await timed(call())
    assert CircuitState.OPEN is gate.state
    assert () == config.reload()
    assert CircuitState.OPEN is gate.state
    assert ("db", "reads") == site.recorder.events[-1].changed


@pytest.mark.parametrize(
    "text",
    [
        "[breakers.db]\non = 'OSError'\nprobes = 0",
        "= 1",
        ONE.format(n=5, seconds=0.0001),
        "[breakers.other]",
    ],
    ids=["mistake", "no toml", "cannot work", "required"],
)
def test_a_faulty_file_keeps_the_last_good_one_and_says_so(site, text, caplog):
    """
    RL0-02, issue 4.1: an error, an event and a line in the log; nothing has changed.
    """
    site.write(ONE.format(n=5, seconds=10))
    config = site.load()
    before = repr(config.pipeline("reads")), repr(config.breaker("db")), config.modes
    site.write(text)

    with caplog.at_level(logging.WARNING), pytest.raises(InvalidConfigError):
        config.reload()

    assert before == (repr(config.pipeline("reads")), repr(config.breaker("db")), config.modes)
    assert [ChangeRefused] == [type(event) for event in site.recorder]
    assert "the last good configuration stays" in caplog.text
    site.path.unlink()
    with pytest.raises(InvalidConfigError, match="FileNotFoundError"):
        config.reload()


def test_modes_change_with_the_environment(site):
    """
    Issue 4.2: rollout and rollback without a deploy, and what was set by hand is left alone otherwise.
    """
    site.write(ONE.format(n=5, seconds=10))
    config = site.load()
    gate = config.breaker("db")
    for mode, state in [("observe", "OBSERVING"), ("off", "DISABLED"), ("enforce", "CLOSED")]:
        site.environ["RESILIENCE_DB_MODE"] = mode
        assert ("db",) == config.reload()
        assert state == gate.state.name
    gate.isolate()
    assert () == config.reload()
    assert CircuitState.ISOLATED is gate.state
    site.environ["RESILIENCE_READS_MODE"] = "off"
    assert ("reads",) == config.reload()
    assert "enabled=False" in repr(config.pipeline("reads"))
    del site.environ["RESILIENCE_READS_MODE"]
    assert ("reads",) == config.reload()
    assert "enabled=False" not in repr(config.pipeline("reads"))


def test_pipelines_come_and_go(site):
    """
    What is new is made, what is gone is forgotten; a name may come back.
    """
    site.write(ONE.format(n=5, seconds=10))
    config = site.load()
    site.write("[[pipelines.writes.policies]]\ntype = 'timeout'\nseconds = 1\n")
    assert {"writes", "reads", "db"} == set(config.reload())
    assert (("writes",), ()) == (config.pipelines, config.policies)
    assert [(None, "writes")] == list(site.registry)
    site.write(ONE.format(n=5, seconds=10))
    assert {"writes", "reads", "db"} == set(config.reload())
    assert "CLOSED" == config.breaker("db").state.name


def test_a_bulkhead_changes_in_place_or_is_replaced(site):
    """
    Its limit changes while calls run; what it cannot change makes a new one, everywhere.
    """
    uses = "[[pipelines.p.policies]]\nuse = 'b'\n[[pipelines.q.policies]]\nuse = 'b'\n"
    text = "[policies.b]\ntype = 'bulkhead'\n{}\n" + uses
    site.write(text.format("limit = 1"))
    config = site.load()
    (first,) = config.pipeline("p").policies
    site.write(text.format("limit = 2\nqueue = 1"))
    assert ("b",) == config.reload()
    assert config.pipeline("p").policies == (first,)
    assert (2, 1) == (first.limit, first.queue)
    site.write(text.format("limit = 2\nqueue = 1\nmax_wait = 3"))
    assert {"b", "p", "q"} == set(config.reload())
    (second,) = config.pipeline("p").policies
    assert second is not first
    assert (second,) == config.pipeline("q").policies
    assert 3.0 == second.max_wait


def test_a_shared_policy_that_is_off_or_observes():
    """
    Off it is left out, observing it stands there and turns nobody away.
    """
    data = {
        "policies": {"b": of("bulkhead", limit=1, queue=5)},
        **piped({"use": "b"}, of("timeout", seconds=1)),
    }
    for mode, shown in [
        ("off", "Pipeline(Timeout"),
        ("observe", "Observed(Bulkhead(1, name='b'))"),
    ]:
        config = loaded(data, environ={"RESILIENCE_B_MODE": mode})
        assert shown in repr(config.pipeline("catalogue"))
    data["breakers"] = {"c": breaker()}
    data["pipelines"]["catalogue"]["policies"][0] = {"use": "c"}
    config = loaded(data, environ={"RESILIENCE_CATALOGUE_MODE": "observe"})
    assert "Observed(CircuitBreaker('c'" in repr(config.pipeline("catalogue"))
    assert CircuitState.CLOSED is config.breaker("c").state
    data["policies"]["b"] = of("last_good", ttl=1)
    data["pipelines"]["catalogue"]["policies"][0] = {"use": "b"}
    config = loaded(data, environ={"RESILIENCE_CATALOGUE_MODE": "observe"})
    assert "LastGood" not in repr(config.pipeline("catalogue"))


def test_a_name_that_the_program_has_taken(site):
    """
    Issue 4.1: the registry's error that shows both; and what was made before it is taken back.
    """
    site.registry.breaker("db", on=ValueError)
    site.write("[breakers.a]\non = 'OSError'\n" + textwrap.dedent(ONE.format(n=5, seconds=10)))
    with pytest.raises(ConfigurationError, match="as it is registered"):
        site.load()
    assert [(None, "db")] == list(site.registry)
    same = Registry()
    gate = same.breaker("a", on=OSError)
    assert gate is loaded({"breakers": {"a": {"on": "OSError"}}}, registry=same).breaker("a")


def test_a_breaker_that_the_program_took_away_fails_the_reload(site):
    """
    Faults that only building shows keep the last good one as well.
    """
    site.write(ONE.format(n=5, seconds=10))
    config = site.load()
    site.registry.pipeline("writes", Timeout(1))
    site.write(
        ONE.format(n=5, seconds=10)
        + "\n    [[pipelines.writes.policies]]\n    type = 'timeout'\n    seconds = 9\n"
    )
    with pytest.raises(ConfigurationError, match="as it is registered"):
        config.reload()
    assert ("reads",) == config.pipelines


# --------------------------------------------------------------------------------------------------- get_config


@pytest.fixture
def process(monkeypatch, tmp_path):
    """As if no configuration had been read, in an empty directory."""
    monkeypatch.setattr(module, "_cached", [])
    monkeypatch.chdir(tmp_path)
    for variable in [each for each in os.environ if each.startswith("RESILIENCE")]:
        monkeypatch.delenv(variable)
    before = set(default_registry())
    yield tmp_path
    for domain, each in set(default_registry()) - before:
        default_registry().forget(each, domain=domain)


def test_get_config_is_read_once(process, monkeypatch, name):
    """
    Issue 4.2: cached; nothing there is an empty configuration.
    """
    assert () == get_config().pipelines
    monkeypatch.setenv("RESILIENCE_CONFIG", "nowhere.toml")
    assert get_config() is get_config()


def test_get_config_finds_its_file_and_reads_it_again(process, name):
    """
    ``resilience.toml`` of the working directory; reloaded it is the same object.
    """
    file = process / "resilience.toml"
    file.write_text(f"[breakers.{name}]\non = 'shop'\n")
    config = get_config(errors={"shop": LookupError})
    assert (LookupError,) == config.breaker(name).on
    assert config.breaker(name) is default_registry().breaker(name)
    file.write_text(f"[breakers.{name}]\non = 'shop'\nprobes = 3\n")
    assert 1 == get_config().breaker(name).probes
    assert config is get_config(reload=True)
    assert 3 == config.breaker(name).probes


def test_get_config_reads_what_the_variable_names(process, monkeypatch, name):
    """
    Several files, a later one over an earlier one; a first reading that fails is not kept.
    """
    (process / "a.toml").write_text(f"[breakers.{name}]\non = 'OSError'\nprobes = 0\n")
    (process / "b.toml").write_text(f"[breakers.{name}]\nprobes = 2\n")
    monkeypatch.setenv("RESILIENCE_CONFIG", "a.toml")
    with pytest.raises(InvalidConfigError):
        get_config()
    monkeypatch.setenv("RESILIENCE_CONFIG", os.pathsep.join(["a.toml", "b.toml"]))
    assert 2 == get_config().breaker(name).probes


# ------------------------------------------------------------------------------------------------------ presets


def test_presets_are_a_base():
    """
    Issue 4.2: named in a file, changed by name; a breaker's preset likewise.
    """
    config = loaded(
        {
            "pipelines": {"api": {"preset": "http_client", "policies": {"retry": {"attempts": 2}}}},
            "breakers": {"db": {"preset": "domain/database", "probes": 5}},
        }
    )
    bulkhead, total, retry, gate, attempt = config.pipeline("api").policies
    assert (1000, 30.0, 2, 5.0, 10.0) == (
        bulkhead.limit, total.seconds, retry.attempts, gate.break_duration, attempt.seconds,
    )  # fmt: skip
    db = config.breaker("db")
    assert (ConsecutiveFailures(3), 30.0, 5, 2) == (
        db.trip, db.break_duration, db.probes, db.successes_to_close,
    )  # fmt: skip


def test_a_preset_for_code():
    """
    As a mapping to load; each call gives a copy.
    """
    given = preset("production", "critical")
    given["policies"][1]["attempts"] = 9
    assert 5 == preset("production/critical")["policies"][1]["attempts"]
    assert isinstance(loaded({"pipelines": {"c": given}}).breaker("c"), CircuitBreaker)


async def test_running_calls_finish_on_the_old_file(backend, unit, tmp_path):
    """
    RL0-01: begun under the old timeout, it may take as long.
    """
    site = Reloaded(tmp_path / "resilience.toml")  # told again, it begins with an empty registry
    site.write(f"[[pipelines.p.policies]]\ntype = 'timeout'\nseconds = {3 * unit}\n")
    config = site.load()
    call = config.pipeline("p").wrap(anyio.sleep)
    ended = []

    async def one():
        ended.append(await timed(call(2 * unit)))

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        await anyio.sleep(unit / 2)
        site.write(f"[[pipelines.p.policies]]\ntype = 'timeout'\nseconds = {unit}\n")
        config.reload()
        assert isinstance((await timed(call(2 * unit)))[0], TimeoutExceededError)
    assert [(None, about(2 * unit, backend))] == ended


def test_a_preset_that_there_is_not():
    """
    Issue 4.2: an unknown pair is an error, with the nearest; nothing falls back to another one in silence.
    """
    with pytest.raises(ConfigurationError, match="'production/low'") as caught:
        preset("production", "low")
    assert "production/critical" in caught.value.allowed
    with pytest.raises(ConfigurationError, match="did you mean 'http_client'"):
        preset("http_clients")


def test_three_layers_and_changes_without_a_base():
    """
    A table of another type replaces what two layers made of it; a change needs an array below.
    """
    config = loaded(
        {"breakers": {"b": breaker(trip={"type": "consecutive_failures", "n": 3})}},
        {"breakers": {"b": {"trip": {"n": 4}}}},
        {"breakers": {"b": {"trip": {"type": "failure_rate"}}}},
    )
    assert FailureRate() == config.breaker("b").trip
    (mistake,) = refused(
        {"pipelines": {"p": {"mode": "off"}}}, {"pipelines": {"p": {"policies": {"retry": {}}}}}
    ).mistakes
    assert ("pipelines.p.policies", "a table of 1") == (mistake.path, mistake.got)


def test_a_variable_that_is_no_finite_number():
    """
    It is taken as a text, and that is none of the values.
    """
    (mistake,) = refused(
        usual(), environ={"RESILIENCE__PIPELINES__CATALOGUE__TOTAL__SECONDS": "inf"}
    ).mistakes
    assert "a text of 3 characters" == mistake.got


def test_a_breaker_in_a_pipeline_may_have_a_name_of_its_own():
    """
    For errors, logs and the registry.
    """
    config = loaded(piped(of("circuit_breaker", on="OSError", name="db"), of("timeout", seconds=1)))
    assert "db" == config.breaker("db").name


def test_budgets_are_shared_and_outlast_a_reload(site):
    """
    Issue 4.2: one budget for the retries that name it; unchanged, it is the same object after a reload.
    """
    text = "[budgets.all]\nratio = {}\n" + "".join(
        f"[[pipelines.{name}.policies]]\ntype = 'retry'\non = 'OSError'\nbudget = 'all'\n"
        for name in "pq"
    )
    site.write(text.format(0.1))
    config = site.load()
    one, other = (config.pipeline(name).policies[0].budget for name in "pq")
    assert one is other
    assert 0.1 == one.ratio
    site.write(text.format(0.1) + "attempts = 2\n")
    assert ("q",) == config.reload()
    assert one is config.pipeline("q").policies[0].budget
    site.write(text.format(0.2))
    assert ("p", "q") == config.reload()
    assert 0.2 == config.pipeline("p").policies[0].budget.ratio


def test_none_is_the_default_of_an_option_that_has_it():
    """
    TOML has no such value, and a mapping has.
    """
    (retry,) = (
        loaded(piped(of("retry", on="OSError", attempts=None))).pipeline("catalogue").policies
    )
    assert 3 == retry.attempts


def test_none_leaves_a_duration_out():
    """
    As in code, where the option has None.
    """
    assert (
        loaded({"breakers": {"b": breaker(overdue_after=None)}}).breaker("b").overdue_after is None
    )
