"""Large and strange values: one well-formed record, and a write that the audit does not touch.

What a database refuses, it refuses as it does without audit, and then nothing is recorded. Every
event of these tests is held against the published schema, as in all others.
"""

import datetime as dt
import enum
import math
import uuid
from decimal import Decimal
from types import MappingProxyType, SimpleNamespace

import orjson
import pytest
from django.core.files.base import ContentFile
from django.db import connection, connections, transaction
from django.test import override_settings
from django.utils.functional import SimpleLazyObject, lazystr
from django.utils.safestring import mark_safe

from django_signal_audit import event_signal, suspend_audit
from django_signal_audit.capture import images
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from django_signal_audit.values import MAX_DEPTH
from tests.capture.helpers import settings_for
from tests.testapp.models import Author, Gauge, Kind

pytestmark = pytest.mark.django_db

MEGABYTES = 10 * 2**20
EAST = dt.timezone(dt.timedelta(hours=14))
WEST = dt.timezone(dt.timedelta(hours=-12))


class Shouting(str):
    """Text whose methods say something else."""

    __slots__ = ()

    def __str__(self):
        return "shouted"

    def __len__(self):
        return 10**9

    def encode(self, *args):
        raise RuntimeError("no bytes")


class Colour(enum.Enum):
    RED = "red"


class Half(enum.IntEnum):
    ONE = 1


def nested(depth):
    return _in_lists("core", depth)


def cyclic():
    value = {"a": []}
    value["a"].append(value)
    return value


VALUES = [
    ("name", "10 MB", lambda: "é" * (MEGABYTES // 2)),
    ("name", "NUL", lambda: "a\x00b"),
    ("name", "lone surrogate", lambda: "a\ud800b"),
    ("name", "str subclass", lambda: Shouting("truth")),
    ("name", "safe text", lambda: mark_safe("<b>")),
    ("name", "lazy text", lambda: lazystr("later")),
    ("name", "lazy object", lambda: SimpleLazyObject(lambda: "later")),
    ("name", "integer as text", lambda: 5),
    ("kind", "choice", lambda: Kind.FANCY),
    ("kind", "enum", lambda: Colour.RED),
    ("count", "10**5000", lambda: 10**5000),
    ("count", "bool", lambda: True),
    ("count", "int enum", lambda: Half.ONE),
    ("count", "float", lambda: 2.0),
    ("ratio", "NaN", lambda: math.nan),
    ("ratio", "Infinity", lambda: math.inf),
    ("ratio", "-Infinity", lambda: -math.inf),
    ("ratio", "-0.0", lambda: -0.0),
    ("ratio", "smallest", lambda: 5e-324),
    ("ratio", "10**400", lambda: 10**400),
    ("price", "sNaN", lambda: Decimal("sNaN")),
    ("price", "Decimal infinity", lambda: Decimal("Infinity")),
    ("price", "-0", lambda: Decimal("-0")),
    ("blob", "bytes", lambda: b"\x00\xff" * 1000),
    ("blob", "bytearray", lambda: bytearray(b"\x00\xff")),
    ("blob", "memoryview", lambda: memoryview(b"\x00\xff")),
    ("moment", "datetime.max in the west", lambda: dt.datetime.max.replace(tzinfo=WEST)),
    ("moment", "datetime.min in the east", lambda: dt.datetime.min.replace(tzinfo=EAST)),
    ("moment", "year 1", lambda: dt.datetime(1, 1, 2, tzinfo=dt.UTC)),
    ("day", "year 1", lambda: dt.date.min),
    ("day", "year 9999", lambda: dt.date.max),
    ("time", "last", lambda: dt.time.max),
    ("span", "longest", lambda: dt.timedelta.max),
    ("span", "shortest", lambda: dt.timedelta.min),
    ("span", "-1 microsecond", lambda: dt.timedelta(microseconds=-1)),
    ("uid", "largest", lambda: uuid.UUID(int=2**128 - 1)),
    ("file", "file", lambda: ContentFile(b"x", name="a.txt")),
    ("file", "file without name", lambda: ContentFile(b"x")),
    ("data", "10 MB in JSON", lambda: {"a": "x" * MEGABYTES}),
    ("data", "NUL in JSON", lambda: {"a\x00": "a\x00b"}),
    ("data", "lone surrogate in JSON", lambda: ["\ud800"]),
    ("data", "NaN in JSON", lambda: {"n": [math.nan]}),
    ("data", "Infinity in JSON", lambda: {"n": [math.inf, -math.inf]}),
    ("data", "large integer in JSON", lambda: {"n": 10**4000}),
    ("data", "10**5000 in JSON", lambda: {"n": 10**5000}),
    ("data", "-0.0 in JSON", lambda: [-0.0]),
    ("data", "keys that are no text", lambda: {1: "a", None: "b", False: "c", 1.5: "d"}),
    ("data", "keys that cannot be", lambda: {(1, 2): "a"}),
    ("data", "nested in JSON", lambda: nested(30)),
    ("data", "nested deeply in JSON", lambda: nested(800)),
    ("data", "nested as deeply as MariaDB can", lambda: nested(31)),
    ("data", "nested too deeply in JSON", lambda: nested(10_000)),
    ("data", "cyclic JSON", cyclic),
    ("data", "set", lambda: {1, 2}),
    ("data", "generator", lambda: (n for n in range(2))),
    ("data", "half an escape", lambda: ["\\u0000", "\\"]),
]
IDS = [f"{column}: {name}".replace("\x00", "") for column, name, _ in VALUES]

WAYS = {
    "create": lambda column, value: Gauge.objects.create(**{column: value}),
    "save": lambda column, value: _saved(Gauge.objects.create(), column, value),
    "update": lambda column, value: Gauge.objects.filter(
        pk=Gauge.objects.create(name="b").pk
    ).update(**{column: value}),
    "bulk_create": lambda column, value: Gauge.objects.bulk_create([Gauge(**{column: value})]),
}


def _saved(gauge, column, value):
    setattr(gauge, column, value)
    gauge.save()


def attempt(way, column, value):
    """The row as the database holds it afterwards, and the type of the error if there was one."""
    failed = None
    try:
        with transaction.atomic():
            WAYS[way](column, value)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        failed = type(error)
    name = connection.ops.quote_name(Gauge._meta.get_field(column).column)
    table = connection.ops.quote_name(Gauge._meta.db_table)
    with connection.cursor() as cursor:
        # As the driver gives it: some of these values can be written but not be read by Django.
        cast = {"postgresql": f"{name}::text", "mysql": f"HEX({name})"}.get(
            connection.vendor, f"typeof({name}), {name}"
        )
        cursor.execute(f"SELECT {cast} FROM {table} ORDER BY id")
        rows = cursor.fetchall()
    with suspend_audit(), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table}")
    return rows, failed


@pytest.fixture(autouse=True)
def _storage():
    storage = {"BACKEND": "django.core.files.storage.InMemoryStorage"}
    with override_settings(STORAGES={"default": storage}):
        yield


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("column", "make"), [(c, make) for c, _, make in VALUES], ids=IDS)
def test_the_row_and_the_error_are_those_of_an_unaudited_write(column, make, way):
    if column == "file":
        pytest.skip("a storage gives each file another name; see test_saves")
    with suspend_audit():
        expected = attempt(way, column, make())
    with capture_events() as events:
        assert attempt(way, column, make()) == expected
    _, failed = expected
    operations = {"save": ["create", "update"], "update": ["create", "update"]}.get(way, ["create"])
    if failed:
        operations = operations[: len(events)]
        assert len(operations) == len(WAYS_BEFORE[way])
    found = [event.event.removeprefix("model.") for event in events]
    # -0 is 0, and what SQLite makes NULL is what was there.
    assert found == operations or (found == ["create"] and way in {"save", "update"})
    AuditRecord.objects.count()  # writes them
    for record in AuditRecord.objects.filter(pk__in=[event.id for event in events]):
        orjson.dumps(record.changes)


# What has been recorded by the time that a refused write is tried.
WAYS_BEFORE = {"create": [], "save": ["create"], "update": ["create"], "bulk_create": []}


class Raising:
    def __raise(self, *args):
        raise ZeroDivisionError

    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = __raise

    def __hash__(self):
        raise ZeroDivisionError

    def __getattr__(self, name):
        raise ZeroDivisionError


class NotText:
    def __str__(self):
        return 5  # noqa: PLE0307 - that is the point

    __repr__ = __str__


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError


class Array:
    """As much of numpy's as can harm: comparing is no bool."""

    def __eq__(self, other):
        return self

    def __hash__(self):
        return 0

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")

    def __repr__(self):
        return "array([1., 2.])"


class Asking:
    """Its repr asks the database, and a wrong question would break PostgreSQL's transaction."""

    def __repr__(self):
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
        raise AssertionError("a query was let through")


class Writing:
    def __repr__(self):
        Author.objects.create(name="by a repr")
        return "written"


CUSTOM = {
    "raising": Raising,
    "no text": NotText,
    "error": UnprintableError,
    "array": Array,
    "asking": Asking,
    "writing": Writing,
    "namespace of a queryset": lambda: SimpleNamespace(rows=Author.objects.all()),
    "queryset": lambda: Author.objects.all(),  # noqa: PLW0108 - made when it is used
    "instance": lambda: Author(name="Ada"),
    "cyclic": cyclic,
    "10,000 levels": lambda: nested(10_000),
    "a mark in the deepest container": lambda: _in_lists(b"x", MAX_DEPTH - 3),
    "10,000 levels of dicts": lambda: _deep_dict(10_000),
    "keys of any type": lambda: {Half.ONE: 1, (1,): 2, b"\xff": 3, None: 4, 2.5: 5, Colour: 6},
    "set of sets": lambda: {frozenset({1, "a"}), frozenset()},
    "proxy": lambda: MappingProxyType({"a": {1: Raising()}}),
    "generator": lambda: (Raising() for _ in range(2)),
    "class": lambda: Raising,
    "function": lambda: cyclic,
    "sNaN": lambda: Decimal("sNaN"),
    "complex": lambda: complex(math.nan, math.inf),
    "ellipsis": lambda: ...,
    "exception group": lambda: ExceptionGroup("two", [ValueError(), UnprintableError()]),
}


def _in_lists(value, depth):
    for _ in range(depth):
        value = [value]
    return value


def _deep_dict(depth):
    value = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("inside", ["data", "list", "masked", "message"])
@pytest.mark.parametrize(
    "make",
    [*CUSTOM.values(), *(make for _, _, make in VALUES)],
    ids=[*CUSTOM, *IDS],
)
def test_anything_in_a_custom_event_is_one_well_formed_record(make, inside):
    value = make()
    given = {
        "data": {"it": value},
        "list": {"it": [1, value, {"x": value}]},
        "masked": {"it": 1, "password": value},
        "message": {"message": value},
    }[inside]
    with capture_events() as events:
        Author.objects.create(name="before")
        event_signal.send("x", **given)
        Author.objects.create(name="after")
    assert [event.event for event in events] == ["model.create", "event", "model.create"]
    assert len(orjson.dumps(events[1].to_dict())) < 30_000
    stored = AuditRecord.objects.get(pk=events[1].id)
    assert orjson.loads(orjson.dumps(stored.data)) == orjson.loads(orjson.dumps(events[1].data))
    assert sorted(Author.objects.values_list("name", flat=True)) == ["after", "before"]


def test_a_row_whose_json_is_nested_deeply_is_compared_without_recursion():
    gauge = Gauge()
    gauge.data = deep = nested(25 if connection.vendor == "mysql" else 900)
    gauge.save()
    with capture_events() as events:
        gauge.save()
        deep[0] = "changed"
        gauge.save()
    assert [(event.object_id, *event.changes) for event in events] == [(str(gauge.pk), "data")]


def test_loaded_values_that_cannot_be_copied_are_asked_of_the_database():
    depth = 25 if connection.vendor == "mysql" else 900
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Gauge", before="loaded")):
        Gauge.objects.create(data=nested(depth))
        gauge = Gauge.objects.get()
        gauge.data = [1]
        with capture_events() as events:
            gauge.save()
    [event] = events
    assert event.changes["data"][1] == [1]
    assert event.changes["data"][0] != [1]


def test_a_field_whose_values_have_no_truth_is_compared_as_it_is_written(monkeypatch):
    class Odd(Array):
        def __init__(self, text):
            self.text = text

    # A compiled SELECT has the converters of its columns; this one ends with the test.
    monkeypatch.setitem(vars(connections["default"]), images._STATEMENTS, {})
    field = Gauge._meta.get_field("address")
    monkeypatch.setattr(field, "from_db_value", lambda value, *_: Odd(value), raising=False)
    monkeypatch.setattr(
        field, "get_prep_value", lambda value: getattr(value, "text", value), raising=False
    )
    gauge = Gauge.objects.create(address="::1")
    with capture_events() as events:
        gauge.save()
        gauge.address = "::2"
        gauge.save()
    assert [event.event for event in events] == ["model.update"]


class Guessing:
    """Its text takes a query, and says something else without an answer."""

    def __repr__(self):
        try:
            return f"{Author.objects.count()} authors"
        except Exception:  # noqa: BLE001 - as programs do
            return "no authors"


@pytest.mark.django_db
@override_settings(SIGNAL_AUDIT={"SINKS": {}})
def test_a_value_whose_text_would_be_another_with_a_query_is_named_by_its_type_alone():
    with capture_events() as events:
        event_signal.send("x", value=Guessing())
    assert events[0].data["value"] == {"$type": "tests.capture.test_strange_values.Guessing"}
