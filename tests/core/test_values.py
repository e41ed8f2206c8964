"""
Values of our own are what attrs would have made of them, and say so when attrs asks.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import ClassVar

import attrs
import pytest

from resilience.checks import Finding
from resilience.events import CallFinished, RetryStopped
from resilience.values import Value


class Point(Value):
    """
    Two fields, one of them with a default, and something that is none.
    """

    unit: ClassVar[str] = "m"
    x: int
    y: int = 2


class Solid(Point):
    """
    A field after one with a default.
    """

    z: int


class Placed(Value, kw_only=False):
    """
    Written without names.
    """

    x: int
    y: int = 2


class Counting(Point):
    """
    A class of a user's with an ``__init__`` of its own.
    """

    def __init__(self, x: int) -> None:
        super().__init__(x=x, y=x + 1)


@attrs.frozen(kw_only=True)
class Labelled(Point):
    """
    A class of a user's that attrs makes.
    """

    label: str = "here"


def test_it_has_its_fields_and_their_defaults() -> None:
    """
    A base's fields come first, and a default stands where nothing is given.
    """
    solid = Solid(x=1, z=3)
    assert (1, 2, 3) == (solid.x, solid.y, solid.z)
    assert "Solid(x=1, y=2, z=3)" == repr(solid)
    assert "m" == solid.unit


@pytest.mark.parametrize("again", range(2), ids=["first", "later"])
@pytest.mark.parametrize("given", [{}, {"y": 1}, {"x": 1, "w": 1}], ids=str)
def test_it_refuses_what_is_missing_or_unknown(again: int, given: dict[str, int]) -> None:
    """
    The first object of a class is checked like the later ones.
    """
    with pytest.raises(TypeError, match=r"__init__\(\)"):
        Point(**given)


def test_only_where_the_class_says_so_a_field_may_be_given_by_its_place() -> None:
    """
    Events and snapshots grow: their fields go by their names.
    """
    assert Placed(x=1, y=3) == Placed(1, 3)
    with pytest.raises(TypeError, match="positional"):
        Point(1)  # type: ignore[misc]  # what is refused
    match Placed(1):
        case Placed(x, y):
            assert (1, 2) == (x, y)
    assert () == Point.__match_args__


def test_it_is_frozen() -> None:
    """
    Neither a field nor anything else can be set or deleted.
    """
    point = Point(x=1)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]  # what is refused
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        del point.x
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        point.other = 2  # type: ignore[attr-defined]  # what is refused


def test_equal_are_values_of_one_class_with_equal_fields() -> None:
    """
    A default that is written is the default; a class with the same fields is another class.
    """
    assert Point(x=1) == Point(x=1, y=2)
    assert hash(Point(x=1)) == hash(Point(x=1, y=2))
    assert Point(x=1) != Point(x=2)
    assert Point(x=1) != Placed(x=1)
    assert Point(x=1) != (1, 2)
    assert 2 == len({Point(x=1), Point(x=1, y=2), Placed(x=1)})


@pytest.mark.parametrize("value", [Solid(x=1, z=3), Placed(1), Labelled(x=1)], ids=repr)
def test_it_survives_pickle_and_copies(value: Point) -> None:
    """
    Law 37, for values: each copy equals it.
    """
    assert value == pickle.loads(pickle.dumps(value))  # noqa: S301 - our own
    assert value == copy.copy(value) == copy.deepcopy(value)


def test_attrs_knows_it() -> None:
    """
    ``fields``, ``has``, ``asdict`` and ``evolve`` of attrs take it, before a class has had an object as well.
    """

    class Fresh(Point):
        w: int = 4

    assert attrs.has(Fresh)
    assert ["x", "y", "w"] == [each.name for each in attrs.fields(Fresh)]
    assert [attrs.NOTHING, 2, 4] == [each.default for each in attrs.fields(Fresh)]
    assert {"x": 1, "y": 2, "w": 4} == attrs.asdict(Fresh(x=1))
    assert Fresh(x=1, y=5) == attrs.evolve(Fresh(x=1), y=5)
    assert Fresh(x=1, y=5) == Fresh(x=1).__replace__(y=5)


def test_a_class_is_not_made_like_its_base() -> None:
    """
    That a base had an object first changes nothing for those below it.
    """
    assert "Point(x=1, y=2)" == repr(Point(x=1))
    assert "Counting(x=1, y=2)" == repr(Counting(1))
    assert "Counting(x=2, y=3)" == repr(Counting(2))

    class Later(Point):
        z: int

    assert "z=3" in repr(Later(x=1, z=3))
    assert "here" == Labelled(x=1).label
    assert 2 == Labelled(x=1).y


def test_its_signature_is_the_fields_once_it_was_used() -> None:
    """
    What ``help`` shows.
    """
    Solid(x=1, z=3)
    assert "(*, x, y=2, z) -> None" == str(inspect.signature(Solid))


@pytest.mark.parametrize(
    "kind", [CallFinished, RetryStopped, Finding], ids=lambda kind: kind.__name__
)
def test_a_real_one_has_the_fields_it_documents(kind: type[Value]) -> None:
    """
    Each field of an event or a finding is an annotation of its class or of a base.
    """
    written = [name for base in reversed(kind.__mro__[:-2]) for name in base.__annotations__]
    assert written == [each.name for each in attrs.fields(kind)]


def test_a_class_may_follow_the_first_object_of_its_base():
    """
    What took the place of the base's ``__init__`` knows nothing of the fields of a class that comes later.
    """

    class Base(Value):
        name: str

    assert "a" == Base(name="a").name

    class Later(Base):
        number: int

    later = Later(name="b", number=1)
    assert ("b", 1) == (later.name, later.number)
    assert "c" == Base(name="c").name
