"""Rows before and after a write, as the database holds them."""

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from django.db import connection, connections
from django.db.models import Value
from django.test import override_settings

from django_signal_audit import event_signal, masking
from django_signal_audit.capture import images
from django_signal_audit.capture.images import (
    attribute_image,
    differences,
    instance_repr,
    locked,
    read_row,
    read_rows,
    secrets_of,
    stored_image,
)
from django_signal_audit.capture.plans import plan_for
from django_signal_audit.redaction import redactor
from django_signal_audit.registry import policy_for
from django_signal_audit.testing import capture_events
from tests.testapp.models import (
    Account,
    Author,
    Book,
    Composite,
    Gauge,
    Parent,
    Plain,
    Profile,
    Tag,
    TextKey,
    Topic,
)

pytestmark = pytest.mark.django_db

FULL = {
    "price": Decimal("1.50"),
    "day": dt.date(2024, 5, 1),
    "moment": dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC),
    "time": dt.time(12, 30),
    "count": 5,
    "ratio": 0.5,
    "uid": uuid.UUID(int=1),
    "name": "a",
    "kind": "fancy",
    "flag": True,
    "span": dt.timedelta(hours=1),
    "address": "::1",
    "data": {"a": [1, None]},
    "file": "a.txt",
}


def plan_of(model):
    return plan_for(model, policy_for(model))


@pytest.mark.parametrize("lock", [True, False])
def test_a_row_is_read_with_the_types_of_its_columns(lock):
    gauge = Gauge.objects.create(**FULL)
    image = read_row(Gauge, gauge.pk, plan_of(Gauge).fields, "default", lock=lock)
    assert image == {"id": gauge.pk, "blob": None, **FULL}
    for name, value in FULL.items():
        assert type(image[name]) is type(value)
    assert read_row(Gauge, str(gauge.pk), plan_of(Gauge).fields, "default", lock=lock) == image
    assert dict(read_rows(Gauge, [gauge.pk], plan_of(Gauge).fields, "default", lock=lock)) == {
        gauge.pk: image
    }


def test_a_row_that_is_not_there():
    fields = plan_of(Author).fields
    assert read_row(Author, 5, fields, "default", lock=True) is None
    assert read_row(Author, 5, (), "default", lock=True) is None
    assert read_row(Author, 2**70, fields, "default", lock=False) is None
    assert read_row(Author, 2**70, fields, "default", lock=True) is None
    assert list(read_rows(Author, [5, 6], fields, "default", lock=True)) == []


def test_a_row_of_no_recorded_columns_is_told_from_a_missing_one():
    author = Author.objects.create(name="a")
    assert read_row(Author, author.pk, (), "default", lock=True) == {}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Composite.objects.create(tenant=1, number=2, name="a"),
        lambda: TextKey.objects.create(key="k", label="a"),
        lambda: Profile.objects.create(parent=Parent.objects.create(), bio="a"),
        lambda: Topic.everything.create(name="a", hidden=True),
    ],
    ids=["composite", "text", "relation", "hidden by its managers"],
)
def test_rows_of_every_kind_of_key(make):
    held = make()
    fields = plan_of(type(held)).fields
    assert "a" in read_row(type(held), held.pk, fields, "default", lock=True).values()
    assert [pk for pk, _ in read_rows(type(held), [held.pk], fields, "default", lock=True)] == [
        held.pk
    ]


def test_the_statement_is_compiled_once(monkeypatch):
    author = Author.objects.create(name="a")
    fields = plan_of(Author).fields
    read_row(Author, author.pk, fields, "default", lock=True)
    monkeypatch.setattr("django.db.models.sql.query.Query.get_compiler", None)
    assert read_row(Author, author.pk, fields, "default", lock=True)["name"] == "a"
    [(key, image)] = read_rows(Author, [str(author.pk)], fields, "default", lock=True)
    assert (key, image["name"]) == (author.pk, "a"), "the key is as the database spells it"


def test_a_key_may_be_an_expression():
    author = Author.objects.create(name="a")
    fields = plan_of(Author).fields
    [(key, _)] = read_rows(Author, [Value(author.pk)], fields, "default", lock=True)
    assert key == author.pk


def test_a_key_too_large_for_the_database_is_found_missing_by_the_compiled_statement_too():
    author = Author.objects.create(name="a")
    fields = plan_of(Author).fields
    assert read_row(Author, author.pk, fields, "default", lock=True)["name"] == "a"
    assert read_row(Author, 2**70, fields, "default", lock=True) is None


def test_compiled_statements_are_kept_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(images, "_MOST_STATEMENTS", 2)
    author = Author.objects.create(name="a")
    for field in plan_of(Author).fields:
        assert list(read_row(Author, author.pk, [field], "default", lock=True)) == [field.name]
        assert len(vars(connections["default"])[images._STATEMENTS]) <= 2


@pytest.mark.skipif(connection.vendor != "postgresql", reason="others have no weaker lock")
def test_rows_are_locked_as_weakly_as_possible():
    assert "FOR NO KEY UPDATE" in str(locked(Author.objects.all()).query)


def test_attributes_tell_what_they_can():
    gauge = Gauge(count=5, price=1.5, name="a")
    image, unknown = attribute_image(gauge, plan_of(Gauge).fields, "default")
    assert (image["count"], image["name"]) == (5, "a")
    assert [f.name for f in unknown] == ["price"]


def test_deferred_attributes_are_not_loaded(django_assert_num_queries):
    Gauge.objects.create(count=5, name="a")
    gauge = Gauge.objects.only("count").get()
    with django_assert_num_queries(0):
        image, unknown = attribute_image(gauge, plan_of(Gauge).fields, "default")
    assert image == {"id": gauge.pk, "count": 5}
    assert "name" in {f.name for f in unknown}
    with django_assert_num_queries(1):
        assert stored_image(gauge, Gauge, plan_of(Gauge).fields, "default")["name"] == "a"


def test_differences():
    fields = [f for f in plan_of(Author).fields if f.name != "born"]
    old, new = {"id": 1, "name": "a"}, {"id": 1, "name": "b"}
    assert differences(fields, old, new) == {"name": ["a", "b"]}
    assert differences(fields, None, new) == {"id": [None, 1], "name": [None, "b"]}
    assert differences(fields, old, None) == {"id": [1, None], "name": ["a", None]}
    assert differences(fields, old, old) == {}
    assert differences(fields, {"id": 1}, new) == {}


def test_the_short_text_of_an_object(django_assert_num_queries):
    account = Account.objects.create(email="a@b.c", api_token="t0ken")
    plan = plan_of(Account)
    assert instance_repr(plan, account, "1") == "a@b.c [redacted]"
    assert secrets_of(account) == {"t0ken"}
    assert secrets_of(Plain(name="a")) == set()
    with django_assert_num_queries(1):
        partial = Account.objects.only("id").get()
        assert instance_repr(plan, partial, "1") == "Account object (1)"
    with override_settings(SIGNAL_AUDIT={"REPR_LIMIT": 0}):
        assert instance_repr(plan, account, "1") == ""
    with override_settings(SIGNAL_AUDIT={"REPR_LIMIT": 20}):
        assert len(instance_repr(plan_of(Book), Book(title="x" * 100), "1")) <= 20


NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
CANARY = "C4nary-5ecret"


@pytest.mark.parametrize(
    "meta",
    [
        {"api_key": CANARY},
        {"deep": [{"api_key": [CANARY]}]},
        {"api_key": {"value": CANARY}},
    ],
)
def test_a_nested_secret_leaves_the_short_text(monkeypatch, meta):
    monkeypatch.setattr(Book, "__str__", lambda self: f"{self.title} {CANARY} {self.meta}")
    with capture_events() as events:
        book = Book.objects.create(title="a", meta=meta)
        book.title = "b"
        book.save()
        book.tags.add(Tag.objects.create(name="t"))
        book.delete()

    told = [(event.event.removeprefix("model."), event.object_repr[:2]) for event in events]
    assert [one for one in told if one[0] != "m2m"] == [
        ("create", "a "),
        ("update", "b "),
        ("delete", "b "),
    ]
    assert ("m2m", "b ") in told
    assert all("4nary" not in event.object_repr for event in events)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("meta", {"x": ["abcd-1", 77]}, "abcd-1 77"),
        ("meta", {"x": 1}, "{'x': 1}"),
        ("published", NOON, f"{NOON}"),
        ("price", Decimal("12.50"), "12.50"),
    ],
)
def test_a_value_inside_of_a_masked_field_leaves_the_short_text(monkeypatch, field, value, text):
    monkeypatch.setattr(Book, "__str__", lambda self: f"Book: {text}")
    setting = {"MODELS": {"testapp.Book": {"mask_fields": [field]}}}
    with override_settings(SIGNAL_AUDIT=setting), capture_events() as events:
        Book.objects.create(title="a", **{field: value})
        event_signal.send("x", instance=Book(pk=1, **{field: value}))

    for event in events:
        assert set(event.object_repr.split()) <= {"Book:", "[redacted]"}


def test_a_model_that_can_hold_no_secret_is_not_looked_at():
    assert masking._columns(Author, frozenset(), redactor()) == ()
    assert masking._columns(Book, frozenset(), redactor()) == (("meta", False),)
    assert masking._columns(Account, frozenset(["email"]), redactor()) == (
        ("email", True),
        ("api_token", True),
        ("settings", False),
    )
