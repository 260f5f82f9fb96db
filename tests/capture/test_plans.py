"""How a column is read, compared and shown."""

import datetime as dt
import json
import uuid
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.db.models import F, Value
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from django_signal_audit.capture import plans
from django_signal_audit.capture.plans import UNKNOWN, plan_for
from django_signal_audit.registry import AuditPolicy, policy_for
from tests.testapp.models import (
    Account,
    Book,
    Casting,
    Composite,
    Document,
    Gauge,
    Kind,
    Profile,
    Restaurant,
)

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)


def fields_of(model, **options):
    label = model._meta.label_lower
    policy = AuditPolicy(label, **options) if options else policy_for(model) or AuditPolicy(label)
    return {f.name: f for f in plan_for(model, policy).fields}


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [
        ("count", None, None),
        ("count", 5, 5),
        ("name", "a", "a"),
        ("kind", Kind.FANCY, "fancy"),
        ("price", Decimal(1), Decimal("1.00")),
        ("price", 1, Decimal("1.00")),
        ("price", Decimal("1E+2"), Decimal("100.00")),
        ("ratio", 1, 1.0),
        ("ratio", 1.5, 1.5),
        ("moment", NOON.astimezone(dt.timezone(dt.timedelta(hours=2))), NOON),
        ("data", {1: (2,)}, {"1": [2]}),
        ("data", [1.0, 1e14, 10**20, "1e+20"], [1.0, 1e14, 10**20, "1e+20"]),
        ("file", "a.txt", "a.txt"),
        ("uid", uuid.UUID(int=1), uuid.UUID(int=1)),
        ("blob", b"a", b"a"),
    ],
)
def test_what_is_stored_for_certain(column, value, stored):
    found = fields_of(Gauge)[column].stored(value)
    assert found == stored
    assert type(found) is type(stored)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("count", "5"),
        ("count", True),
        ("count", F("count") + 1),
        ("name", 5),
        ("price", 1.5),
        ("price", True),
        ("price", Decimal("1.005")),
        ("price", Decimal("NaN")),
        ("price", Decimal("1E+20")),
        ("ratio", float("nan")),
        ("ratio", 2**53 + 1),
        ("ratio", Decimal("1.5")),
        ("moment", dt.datetime(2024, 5, 1)),  # noqa: DTZ001
        ("moment", "2024-05-01"),
        ("day", NOON),
        ("time", dt.time(1, tzinfo=dt.UTC)),
        ("uid", str(uuid.UUID(int=1))),
        ("address", "::1"),
        ("data", Value(1)),
        ("data", 1e20),
        ("data", {"a": [{"b": -1e300}]}),
        ("name", SimpleLazyObject(lambda: "a")),
    ],
)
def test_what_only_the_row_can_tell(column, value):
    assert fields_of(Gauge)[column].stored(value) is UNKNOWN


@override_settings(USE_TZ=False)
def test_naive_datetimes_without_time_zones():
    moment = fields_of(Gauge)["moment"]
    naive = dt.datetime(2024, 5, 1)  # noqa: DTZ001
    assert moment.stored(naive) == naive
    assert moment.stored(NOON) is UNKNOWN


def test_json_with_a_decoder_of_its_own_is_read_back(monkeypatch):
    data = fields_of(Gauge)["data"]
    monkeypatch.setattr(data.field, "decoder", json.JSONDecoder)
    assert data.stored({"a": 1}) is UNKNOWN


def test_json_is_read_at_once_so_that_later_changes_do_not_show():
    value = {"a": [1]}
    stored = fields_of(Gauge)["data"].stored(value)
    value["a"].append(2)
    assert stored == {"a": [1]}


@pytest.mark.parametrize(
    ("column", "old", "new", "same"),
    [
        ("count", 1, 1, True),
        ("count", None, 1, False),
        ("data", {"a": 1}, {"a": True}, False),
        ("data", [0], [False], False),
        ("data", [True], [True], True),
        ("data", {"a": 1}, {"a": 1.0}, True),
        ("data", {"a": 1}, {"b": 1}, False),
        ("data", [1, 2], [1], False),
        ("data", [float("nan")], [float("nan")], True),
        ("ratio", float("nan"), float("nan"), True),
        ("blob", memoryview(b"a"), b"a", True),
        ("blob", memoryview(b"a"), None, False),
        ("moment", NOON, NOON.astimezone(dt.timezone(dt.timedelta(hours=2))), True),
    ],
)
def test_equality_is_that_of_the_database(column, old, new, same):
    assert fields_of(Gauge)[column].same(old, new) is same


class Array:
    """As much of numpy's as can harm: comparing is no bool."""

    def __init__(self, text):
        self.text = text

    def __eq__(self, other):
        return self

    __hash__ = None

    def __bool__(self):
        raise ValueError("the truth value is ambiguous")


def test_values_that_cannot_be_compared_are_compared_as_they_are_written(monkeypatch):
    count = fields_of(Gauge)["count"]
    monkeypatch.setattr(count.field, "get_prep_value", lambda value: value.text)
    assert count.same(Array("a"), Array("a"))
    assert not count.same(Array("a"), Array("b"))
    # In doubt it is a change.
    assert not count.same(Array("a"), None)


def test_nesting_deeper_than_the_stack_is_compared():
    deep, same = [], []
    for _ in range(20_000):
        deep, same = [deep], [same]
    data = fields_of(Gauge)["data"]
    assert data.same(deep, same)
    assert not data.same(deep, [same])


def test_json_that_is_nested_too_deeply_to_be_parsed_here_is_read_back(monkeypatch):
    def refuse(*args):
        raise RecursionError

    monkeypatch.setattr(plans, "_PARSER", SimpleNamespace(decode=refuse))
    assert fields_of(Gauge)["data"].stored([1]) is UNKNOWN


def test_the_first_and_last_hours_of_the_calendar_keep_their_offset():
    last = dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-12)))
    assert fields_of(Gauge)["moment"].stored(last) is last


def test_what_is_shown():
    fields = fields_of(Gauge, mask_fields=frozenset(["name"]))
    assert fields["name"].shown("secret") == "[redacted]"
    assert fields["name"].shown(None) is None
    assert fields["price"].shown(Decimal("1.00")) == "1.00"
    assert fields["data"].shown({"token": "x", "a": 1}) == {"token": "[redacted]", "a": 1}
    assert fields["blob"].shown(b"abc")["$bytes"]["size"] == 3


def test_names_that_sound_like_secrets_are_masked():
    assert fields_of(Account)["api_token"].masked
    assert fields_of(Account)["address"].masked
    assert not fields_of(Account)["email"].masked
    assert fields_of(User)["password"].masked


def test_included_and_excluded_columns():
    assert set(fields_of(Gauge, include_fields=frozenset(["name"]))) == {"name"}
    assert "name" not in fields_of(Gauge, exclude_fields=frozenset(["name"]))


def test_the_columns_of_a_plan():
    assert set(fields_of(Composite)) == {"tenant", "number", "name"}
    assert set(fields_of(Restaurant)) == {"id", "name", "place_ptr", "stars"}
    assert fields_of(Document)["size"].generated
    assert fields_of(Book)["author"].attname == "author_id"
    # A relation's value is that of the column it leads to in the end.
    assert fields_of(Casting)["film"].value_field.max_length == 20
    assert fields_of(Profile)["parent"].value_field.name == "id"


def test_a_plan_is_made_once():
    policy = policy_for(Book)
    assert plan_for(Book, policy) is plan_for(Book, policy)
    assert {f.name for f in plan_for(Book, policy).select({"author_id", "title"})} == {
        "author",
        "title",
    }
