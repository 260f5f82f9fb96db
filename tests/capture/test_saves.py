"""What ``save()`` and everything that ends in it leaves in the trail."""

import datetime as dt
import uuid
from contextlib import contextmanager, nullcontext
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core import serializers
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, migrations, models, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.db.models import Case, ExpressionWrapper, F, Subquery, Value, When, signals
from django.db.models.functions import Coalesce, Now, Upper
from django.http import HttpRequest
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_signal_audit import event_signal, suspend_audit
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from django_signal_audit.values import make_safe
from tests.capture.helpers import recorded, rolled_back, settings_for, told
from tests.testapp.models import (
    LONG_KEY,
    Account,
    Author,
    Book,
    BookProxy,
    Building,
    Chapter,
    City,
    Composite,
    Country,
    Crate,
    Document,
    Engine,
    Ferry,
    Film,
    Garage,
    Gauge,
    Invoice,
    Kind,
    Parent,
    Person,
    Place,
    Plain,
    Profile,
    Quick,
    Raft,
    Restaurant,
    Steamer,
    Step,
    TextKey,
    Topic,
    Tower,
    Unprintable,
    Voucher,
)

pytestmark = pytest.mark.django_db

CREATES = {
    "save": lambda: Author(name="Ada").save(),
    "create": lambda: Author.objects.create(name="Ada"),
    "get_or_create": lambda: Author.objects.get_or_create(name="Ada"),
    "update_or_create": lambda: Author.objects.update_or_create(
        name="Ada", defaults={"born": None}
    ),
    "force_insert": lambda: Author(name="Ada").save(force_insert=True),
    "bulk_create": lambda: Author.objects.bulk_create([Author(name="Ada")]),
}


@pytest.mark.parametrize("way", CREATES)
def test_a_create_holds_every_column_as_stored(way):
    told = recorded(CREATES[way])
    author = Author.objects.get()
    assert told == [
        (
            "create",
            str(author.pk),
            {"id": [None, author.pk], "name": [None, "Ada"], "born": [None, None]},
        )
    ]


def test_related_managers_create_update_and_move():
    author = Author.objects.create(name="Ada")
    with capture_events() as events:
        book = author.books.create(title="Notes")
        author.books.get_or_create(title="Notes")
        author.books.update_or_create(title="Notes", defaults={"stock": 3})
    assert [(op, pk) for op, pk, _ in told(events)] == [
        ("create", str(book.pk)),
        ("update", str(book.pk)),
    ]
    assert told(events)[1][2]["stock"] == [0, 3]

    other = Author.objects.create(name="Bob")
    assert recorded(other.books.add, book) == [
        ("update", str(book.pk), {"author": [author.pk, other.pk]})
    ]
    assert recorded(other.books.set, []) == [("update", str(book.pk), {"author": [other.pk, None]})]
    author.books.add(book, bulk=False)
    assert recorded(author.books.clear) == [("update", str(book.pk), {"author": [author.pk, None]})]


def test_an_update_holds_the_changed_columns_only():
    author = Author.objects.create(name="Ada")
    author.name = "Ada L."
    assert recorded(author.save) == [("update", str(author.pk), {"name": ["Ada", "Ada L."]})]


def test_the_old_value_is_what_the_database_held_not_what_the_instance_believed():
    stale = Author.objects.create(name="Ada")
    Author.objects.filter(pk=stale.pk).update(name="Bob", born=dt.date(1815, 12, 10))
    stale.name = "Cleo"
    assert recorded(stale.save) == [
        ("update", str(stale.pk), {"name": ["Bob", "Cleo"], "born": ["1815-12-10", None]})
    ]


def test_an_unchanged_save_leaves_nothing():
    author = Author.objects.create(name="Ada")
    assert recorded(author.save) == []


@override_settings(SIGNAL_AUDIT={"RECORD_UNCHANGED": True})
def test_an_unchanged_save_is_recorded_if_the_setting_says_so():
    author = Author.objects.create(name="Ada")
    assert recorded(author.save) == [("update", str(author.pk), {})]
    update = Author.objects.filter(pk=author.pk).update
    assert recorded(update, name="Ada") == [("update", str(author.pk), {})]


def test_update_fields_records_what_was_written_only():
    author = Author.objects.create(name="Ada")
    author.name, author.born = "Bob", dt.date(1815, 12, 10)
    assert recorded(author.save, update_fields=["born"]) == [
        ("update", str(author.pk), {"born": [None, "1815-12-10"]})
    ]
    assert recorded(author.save, update_fields=[]) == []
    assert recorded(author.save) == [("update", str(author.pk), {"name": ["Ada", "Bob"]})]


def test_update_fields_takes_the_attname_of_a_relation():
    author = Author.objects.create(name="Ada")
    book = Book.objects.create(title="Notes")
    book.author = author
    assert recorded(book.save, update_fields=["author_id"]) == [
        ("update", str(book.pk), {"author": [None, author.pk]})
    ]


@pytest.mark.parametrize(
    ("expression", "stored"),
    [
        (F("count") + 1, 6),
        (Case(When(count__gt=3, then=Value(30)), default=Value(0)), 30),
    ],
    ids=["F", "Case"],
)
def test_an_expression_is_recorded_as_its_value(expression, stored):
    gauge = Gauge.objects.create(count=5)
    gauge.count = expression
    assert recorded(gauge.save) == [("update", str(gauge.pk), {"count": [5, stored]})]


def test_expressions_in_json_text_and_time_are_recorded_as_their_values():
    gauge = Gauge.objects.create(name="ada", data={"a": 1})
    gauge.name, gauge.data = Upper("name"), Value({"a": 2}, models.JSONField())
    gauge.moment = Now()
    [(_, _, changes)] = recorded(gauge.save)
    moment = changes.pop("moment")[1]
    assert dt.datetime.fromisoformat(moment).utcoffset() == dt.timedelta(0)
    assert changes == {"name": ["ada", "ADA"], "data": [{"a": 1}, {"a": 2}]}


def test_an_expression_in_a_create_is_recorded_as_its_value():
    [(_, _, changes)] = recorded(Gauge.objects.create, name=Upper(Value("ada")))
    assert changes["name"] == [None, "ADA"]


BERLIN = timezone.get_fixed_timezone(120)
NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
UID = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("column", "held", "equal"),
    [
        ("price", Decimal("1.00"), Decimal("1.0")),
        ("price", Decimal("1.00"), 1),
        ("price", Decimal("1.50"), 1.5),
        ("count", 5, "5"),
        ("count", 1, True),
        ("ratio", 5.0, 5),
        ("uid", UID, str(UID)),
        ("moment", NOON, NOON.astimezone(BERLIN)),
        ("moment", NOON, "2024-05-01T12:00:00+00:00"),
        ("day", dt.date(2024, 5, 1), "2024-05-01"),
        ("day", dt.date(2024, 5, 1), dt.datetime(2024, 5, 1, 12, tzinfo=BERLIN)),
        ("flag", True, 1),
        ("blob", b"abc", memoryview(b"abc")),
        ("kind", "fancy", Kind.FANCY),
        ("data", {"a": [1, 2]}, {"a": (1, 2)}),
        ("data", {"1": "x"}, {1: "x"}),
        ("span", dt.timedelta(hours=1), dt.timedelta(minutes=60)),
    ],
)
def test_equal_in_the_database_is_no_change(column, held, equal):
    gauge = Gauge.objects.create(**{column: held})
    setattr(gauge, column, equal)
    assert recorded(gauge.save) == []


@pytest.mark.parametrize(
    ("column", "given", "stored"),
    [
        ("price", 1.5, "1.50"),
        ("price", "2.5", "2.50"),
        ("price", Decimal("1E+2"), "100.00"),
        ("day", dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC), "2024-05-01"),
        ("count", "5", 5),
        ("count", True, 1),
        ("ratio", 5, 5.0),
        ("ratio", Decimal("1.5"), 1.5),
        ("uid", str(UID), str(UID)),
        ("uid", UID.hex, str(UID)),
        ("moment", NOON.astimezone(BERLIN), "2024-05-01T12:00:00.000000Z"),
        ("moment", "2024-05-01T14:00:00+02:00", "2024-05-01T12:00:00.000000Z"),
        ("time", "12:30", "12:30:00.000000"),
        ("name", 5, "5"),
        ("kind", Kind.FANCY, "fancy"),
        ("flag", 0, False),
        ("address", "0:0:0:0:0:0:0:1", "::1"),
        ("data", {1: (2, None)}, {"1": [2, None]}),
    ],
)
@pytest.mark.parametrize("way", ["create", "save", "bulk_create", "update"])
def test_a_value_of_another_type_is_recorded_as_the_column_holds_it(way, column, given, stored):
    if way == "create":
        told = recorded(Gauge.objects.create, **{column: given})
    elif way == "bulk_create":
        told = recorded(Gauge.objects.bulk_create, [Gauge(**{column: given})])
    elif way == "update":
        Gauge.objects.create()
        told = recorded(Gauge.objects.update, **{column: given})
    else:
        gauge = Gauge.objects.create()
        setattr(gauge, column, given)
        told = recorded(gauge.save)
    [(_, _, changes)] = told
    assert changes[column] == [None, stored]
    assert type(changes[column][1]) is type(stored)


def test_json_changed_in_place_is_a_change():
    gauge = Gauge.objects.create(data={"a": [1]})
    gauge.data["a"].append(2)
    assert recorded(gauge.save) == [
        ("update", str(gauge.pk), {"data": [{"a": [1]}, {"a": [1, 2]}]})
    ]


def test_true_is_not_one_in_json():
    gauge = Gauge.objects.create(data={"a": 1})
    gauge.data = {"a": True}
    [(_, _, changes)] = recorded(gauge.save)
    assert changes["data"][1]["a"] is True


def test_a_deferred_instance_records_what_it_wrote_and_loads_nothing(django_assert_num_queries):
    Book.objects.create(title="Notes", stock=1)
    book = Book.objects.only("title").get()
    book.title = "Other"
    with django_assert_num_queries(2), capture_events() as events:
        book.save()
    [event] = events
    assert event.changes == {"title": ["Notes", "Other"]}
    assert event.object_repr == f"Book object ({book.pk})"
    assert book.get_deferred_fields()


def test_saving_over_an_existing_row_is_an_update_with_the_true_old_values():
    held = Author.objects.create(name="Ada", born=dt.date(1815, 12, 10))
    assert recorded(Author(pk=held.pk, name="Bob").save) == [
        ("update", str(held.pk), {"name": ["Ada", "Bob"], "born": ["1815-12-10", None]})
    ]
    assert recorded(Author(pk=str(held.pk), name="Cleo").save) == [
        ("update", str(held.pk), {"name": ["Bob", "Cleo"]})
    ]


def test_a_given_key_that_is_free_is_a_create():
    [(operation, key, changes)] = recorded(Author(pk=77, name="Ada").save)
    assert (operation, key, changes["id"]) == ("create", "77", [None, 77])


def test_what_the_database_refuses_leaves_nothing():
    Account.objects.create(email="a@b.c")
    account = Account.objects.create(email="d@e.f")
    with capture_events() as events:
        with pytest.raises(IntegrityError), transaction.atomic():
            Account.objects.create(email="a@b.c")
        account.email = "a@b.c"
        with pytest.raises(IntegrityError), transaction.atomic():
            account.save()
        with pytest.raises(DatabaseError), transaction.atomic():
            Author(pk=999).save(force_update=True)
    assert events == []


@pytest.mark.parametrize("key", [2**70, -(2**70)])
def test_a_key_that_the_column_cannot_hold_fails_as_without_the_package(key):
    def failure():
        with pytest.raises((DatabaseError, OverflowError)) as found, transaction.atomic():
            Author(pk=key, name="Ada").save()
        return type(found.value)

    with suspend_audit():
        expected = failure()
    assert failure() is expected


def test_a_copy_without_key_is_a_create():
    author = Author.objects.create(name="Ada")
    first = author.pk
    author.pk, author._state.adding = None, True
    [(operation, key, changes)] = recorded(author.save)
    assert (operation, key, changes["name"]) == ("create", str(author.pk), [None, "Ada"])
    assert author.pk != first


def test_a_save_repeated_after_a_rollback_is_recorded_again():
    author = Author.objects.create(name="Ada")
    author.name = "Bob"
    rolled_back(author.save)
    assert recorded(author.save) == [("update", str(author.pk), {"name": ["Ada", "Bob"]})]


def test_a_changed_key_is_a_create_of_the_new():
    author = Author.objects.create(name="Ada")
    author.pk = 9000
    assert [row[:2] for row in recorded(author.save)] == [("create", "9000")]


def test_what_the_database_computes_is_filled_in():
    [(_, _, changes)] = recorded(Document.objects.create, body="abc")
    assert (changes["size"], changes["state"]) == ([None, 3], [None, "new"])
    assert changes["created"][1].endswith("Z")
    document = Document.objects.get()
    document.body = "abcd"
    assert recorded(document.save) == [
        ("update", str(document.pk), {"body": ["abc", "abcd"], "size": [3, 4]})
    ]


def test_auto_now_is_recorded_as_written():
    book = Book.objects.create(title="Notes")
    [(_, _, changes)] = recorded(book.save)
    assert list(changes) == ["updated"]
    book.refresh_from_db()
    assert dt.datetime.fromisoformat(changes["updated"][1]) == book.updated


@pytest.mark.parametrize("key", ["k" * LONG_KEY, "\N{PARTY POPPER}", "", " "])
def test_text_keys_are_recorded_and_bounded(key):
    with capture_events() as events:
        held = TextKey.objects.create(key=key, label="\N{PARTY POPPER}" * 400)
        held.label = "x"
        held.save()
        held.delete()
    assert [e.event for e in events] == ["model.create", "model.update", "model.delete"]
    assert len({e.object_id for e in events}) == 1
    assert all(len(e.object_id) <= 255 and len(e.object_repr) <= 255 for e in events)


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL refuses these itself")
@pytest.mark.parametrize("text", ["a\x00b", "\ud800"])
def test_text_that_breaks_jsonb_is_recorded_and_written(text):
    if connection.vendor == "mysql" and not text.isprintable() and "\x00" not in text:
        pytest.skip("MariaDB refuses half of a character in JSON")
    data = {"a": text}
    gauge = Gauge(data=data, name="a\x00b")
    assert [row[0] for row in recorded(gauge.save)] == ["create"]
    gauge.refresh_from_db()
    assert (gauge.data, gauge.name) == (data, "a\x00b")
    assert recorded(gauge.save) == []


@pytest.mark.parametrize("number", [1e20, 1e300, -1e16, 1e15, 1.5])
def test_a_float_in_json_is_the_same_in_each_event(number):
    with capture_events() as events:
        gauge = Gauge.objects.create(data={"n": [number]})
        gauge.data = None
        gauge.save()

    create, update = events
    assert repr(create.changes["data"][1]) == repr(update.changes["data"][0])


@pytest.mark.skipif(connection.vendor == "postgresql", reason="jsonb has no NaN")
def test_not_a_number_is_no_change_of_itself():
    try:
        with transaction.atomic():
            gauge = Gauge.objects.create(data=[float("nan")])
    except IntegrityError:
        pytest.skip("this database refuses NaN in JSON")
    assert recorded(gauge.save) == []


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite stores NaN as NULL, MariaDB refuses it"
)
def test_not_a_number_in_a_column_is_recorded_once():
    gauge = Gauge()
    gauge.ratio = float("nan")
    [(_, _, changes)] = recorded(gauge.save)
    assert changes["ratio"] == [None, {"$float": "NaN"}]
    assert recorded(gauge.save) == []


def test_a_file_is_recorded_by_its_name():
    storages = {"default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    with override_settings(STORAGES=storages):
        gauge = Gauge()
        gauge.file = ContentFile(b"abc", name="a.txt")
        [(_, _, changes)] = recorded(gauge.save)
        assert changes["file"] == [None, gauge.file.name]
        assert gauge.file.name.startswith("gauges/a")
        old = gauge.file.name
        told = recorded(gauge.file.delete)
    assert told == [("update", str(gauge.pk), {"file": [old, ""]})]


def test_a_raising_str_does_not_touch_the_write():
    with capture_events() as events:
        held = Unprintable.objects.create(name="x")
        held.delete()
    assert [e.event for e in events] == ["model.create", "model.delete"]
    assert events[0].object_repr == "<unprintable Unprintable: RuntimeError>"


def test_secrets_and_masks_and_exclusions():
    with capture_events() as events:
        account = Account.objects.create(
            email="a@b.c",
            api_token="t0ken",
            address="Main St",
            note="n",
            settings={"password": "p"},
        )
        account.api_token, account.address, account.note = "n3w", "", "m"
        account.save()
    create, update = events
    assert create.changes["api_token"] == [None, "[redacted]"]
    assert create.changes["address"] == [None, "[redacted]"]
    assert create.changes["settings"] == [None, {"password": "[redacted]"}]
    assert "note" not in create.changes
    assert "t0ken" not in create.object_repr
    assert update.changes == {
        "api_token": ["[redacted]", "[redacted]"],
        "address": ["[redacted]", "[redacted]"],
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["create", "update", "delete"]),
        ({"on": ["create"]}, ["create"]),
        ({"on": ["update"]}, ["update"]),
        ({"on": ["delete"]}, ["delete"]),
        ({"on": []}, []),
        ({"when": lambda event: event.event != "model.update"}, ["create", "delete"]),
        ({"exclude_fields": ["name"]}, ["create", "delete"]),
        ({"include_fields": ["name"]}, ["create", "update", "delete"]),
    ],
)
def test_a_policy_of_the_settings_decides(options, expected):
    with override_settings(SIGNAL_AUDIT=settings_for(**options)), capture_events() as events:
        plain = Plain.objects.create(name="a")
        plain.name = "b"
        plain.save()
        plain.delete()
    assert [row[0] for row in told(events)] == expected
    for event in events:
        assert set(event.changes) <= {"include_fields": {"name"}, "exclude_fields": {"id"}}.get(
            next(iter(options), ""), {"id", "name"}
        )


def test_without_a_policy_nothing_is_recorded():
    assert recorded(Plain.objects.create, name="a") == []
    with override_settings(SIGNAL_AUDIT={"MODELS": {"testapp.Author": False}}):
        assert recorded(Author.objects.create, name="a") == []


def test_suspended_audit_records_nothing():
    with suspend_audit(), capture_events() as events:
        author = Author.objects.create(name="Ada")
        Author.objects.update(name="Bob")
        Author.objects.bulk_create([Author(name="Cleo")])
        author.delete()
        garage = Garage.objects.create()
        garage.save()
    assert events == []


def test_a_proxy_is_recorded_as_its_concrete_model():
    with capture_events() as events:
        proxy = BookProxy.objects.create(title="Notes")
        proxy.title = "Other"
        proxy.save()
        proxy.delete()
    assert {(e.sender, e.object_type) for e in events} == {("testapp.Book", "testapp.book")}
    assert len(events) == 3


def test_a_subclass_of_an_audited_abstract_model_is_audited():
    [(operation, _, changes)] = recorded(Invoice.objects.create, total=5)
    assert (operation, changes["total"]) == ("create", [None, "5.00"])


def test_an_audited_child_records_its_own_and_inherited_columns_once():
    with capture_events() as events:
        restaurant = Restaurant.objects.create(name="Roma", stars=1)
        restaurant.name, restaurant.stars = "Pisa", 2
        restaurant.save()
        restaurant.name = "Bari"
        restaurant.save(update_fields=["name"])
        restaurant.save()
    key = str(restaurant.pk)
    assert told(events) == [
        (
            "create",
            key,
            {
                "id": [None, restaurant.pk],
                "name": [None, "Roma"],
                "place_ptr": [None, restaurant.pk],
                "stars": [None, 1],
            },
        ),
        ("update", key, {"name": ["Roma", "Pisa"], "stars": [1, 2]}),
        ("update", key, {"name": ["Pisa", "Bari"]}),
    ]
    assert {e.object_type for e in events} == {"testapp.restaurant"}


def test_a_child_of_an_existing_parent_is_a_create():
    place = Place.objects.create(name="Roma")
    restaurant = Restaurant(place_ptr=place, name="Roma", stars=3)
    [(operation, key, changes)] = recorded(restaurant.save)
    assert (operation, key, changes["stars"]) == ("create", str(place.pk), [None, 3])


def test_a_parent_that_alone_is_audited_is_recorded():
    with capture_events() as events:
        tower = Tower.objects.create(floors=3)
        tower.floors = 4
        tower.save()
        tower.height = 5
        tower.save()
    key = str(tower.pk)
    assert told(events) == [
        ("create", key, {"id": [None, tower.pk], "floors": [None, 3]}),
        ("update", key, {"floors": [3, 4]}),
    ]
    assert {e.object_type for e in events} == {"testapp.building"}


def test_a_child_and_a_parent_that_are_both_audited_are_recorded_once():
    with capture_events() as events:
        garage = Garage.objects.create(floors=1, cars=5)
        garage.floors = 2
        garage.save()
        Building.objects.create()
    assert [(e.object_type, e.event) for e in events] == [
        ("testapp.garage", "model.create"),
        ("testapp.garage", "model.update"),
        ("testapp.building", "model.create"),
    ]


def test_a_refused_multi_table_save_leaves_no_image_behind():
    garage = Garage.objects.create(floors=1, cars=5)
    garage.cars = None
    with pytest.raises(IntegrityError), transaction.atomic():
        garage.save()
    garage.cars = 7
    assert recorded(garage.save) == [("update", str(garage.pk), {"cars": [5, 7]})]
    from django_signal_audit.capture import saves  # noqa: PLC0415

    assert saves._in_flight.images == []


def test_images_of_multi_table_saves_are_taken_whatever_the_policy_says():
    from django_signal_audit.capture import saves  # noqa: PLC0415

    garage = Garage.objects.create(cars=5)
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Garage", on=["delete"])):
        garage.save()
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Garage", on=["create"])):
        garage.save()
    assert saves._in_flight.images == []


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Composite(tenant=1, number=2, name="a"), "[1,2]"),
        (lambda: Document(pk=UID), str(UID)),
        (lambda: Profile(parent=Parent.objects.create(pk=5), bio="a"), "5"),
    ],
    ids=["composite", "uuid", "relation"],
)
def test_every_kind_of_key_is_a_stable_string(make, key):
    held = make()
    with capture_events() as events:
        held.save()
        fetched = type(held).objects.get(pk=held.pk)
        for name in ("name", "body", "bio"):
            if hasattr(fetched, name):
                setattr(fetched, name, "changed")
        fetched.save()
        type(held).objects.filter(pk=held.pk).delete()
    mine = [e for e in events if e.object_type == held._meta.label_lower]
    assert [(e.event, e.object_id) for e in mine] == [
        ("model.create", key),
        ("model.update", key),
        ("model.delete", key),
    ]


def test_a_relation_to_another_column_than_the_key_is_its_raw_value():
    Person.objects.create(code="p1")
    second = Person.objects.create(code="p2")
    film = Film.objects.create(code="f1", studio_id="p1")
    film.studio = second
    assert recorded(film.save) == [("update", str(film.pk), {"studio": ["p1", "p2"]})]
    assert recorded(Film.objects.update, studio=Person.objects.get(code="p1")) == [
        ("update", str(film.pk), {"studio": ["p2", "p1"]})
    ]


def test_a_row_that_its_managers_hide_is_recorded_where_django_writes_it():
    topic = Topic.objects.create(name="a")
    assert recorded(Topic.everything.update, hidden=True) == [
        ("update", str(topic.pk), {"hidden": [False, True]})
    ]
    assert recorded(Topic.everything.update, name="b") == [
        ("update", str(topic.pk), {"name": ["a", "b"]})
    ]
    assert Topic.everything.get().name == "b"
    assert [row[0] for row in recorded(Topic.everything.all().delete)] == ["delete"]


def test_the_order_within_a_relation_is_a_column_like_others():
    parent = Parent.objects.create()
    first, second = (Step.objects.create(parent=parent, name=n) for n in "ab")
    told = recorded(parent.set_step_order, [second.pk, first.pk])
    assert {key: changes for _, key, changes in told} == {
        str(first.pk): {"_order": [0, 1]},
        str(second.pk): {"_order": [1, 0]},
    }


def test_fixtures_are_recorded_as_raw():
    text = """[
        {"model": "testapp.author", "pk": 5, "fields": {"name": "Ada", "born": null}},
        {"model": "testapp.place", "pk": 6, "fields": {"name": "Roma"}},
        {"model": "testapp.restaurant", "pk": 6, "fields": {"stars": 3}}
    ]"""
    with capture_events() as events:
        for found in serializers.deserialize("json", text):
            found.save()
        for found in serializers.deserialize("json", text.replace("Ada", "Bob")):
            found.save()
    assert told(events) == [
        ("create", "5", {"id": [None, 5], "name": [None, "Ada"], "born": [None, None]}),
        (
            "create",
            "6",
            {
                "id": [None, 6],
                "name": [None, "Roma"],
                "place_ptr": [None, 6],
                "stars": [None, 3],
            },
        ),
        ("update", "5", {"name": ["Ada", "Bob"]}),
    ]
    assert all(e.data == {"raw": True} for e in events)


def test_a_fixture_over_a_row_with_a_default_key_is_an_update_with_old_values():
    Document.objects.create(pk=UID, body="a")
    document = Document(pk=UID, body="b", state="new", created=NOON)
    [(operation, _, changes)] = recorded(document.save_base, raw=True)
    assert (operation, changes["body"]) == ("update", ["a", "b"])


def test_a_fixture_without_a_key_is_a_create_and_no_row_is_looked_for():
    Author.objects.create(name="Bob").save()  # compiles the SELECT
    author = Author(name="Ada")
    with CaptureQueriesContext(connection) as captured:
        told = recorded(author.save_base, raw=True)
    assert [(operation, key) for operation, key, _ in told] == [("create", str(author.pk))]
    assert not [query for query in captured if query["sql"].startswith("SELECT")]


def test_a_row_that_another_process_inserts_just_before_the_update_has_no_known_old_values():
    def insert_first(execute, sql, params, many, context):
        if sql.startswith("UPDATE"):
            table = connection.ops.quote_name(Author._meta.db_table)
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO {table} (id, name) VALUES (7, 'theirs')")
        return execute(sql, params, many, context)

    with capture_events() as events, connection.execute_wrapper(insert_first):
        Author(pk=7, name="ours").save()
    [event] = events
    assert (event.event, event.data) == ("model.update", {"before": "unknown"})
    assert event.changes["name"] == [None, "ours"]


def test_what_was_read_for_a_child_that_its_parents_table_refused_is_forgotten():
    restaurant = Restaurant.objects.create(name="Roma", stars=1)
    restaurant.name = None
    with pytest.raises(IntegrityError), transaction.atomic():
        restaurant.save()
    Restaurant.objects.update(stars=2)
    restaurant.stars = 3
    [(_, _, changes)] = recorded(restaurant.save_base, raw=True)  # reads the child's table alone
    assert changes == {"stars": [2, 3]}


def test_a_historical_model_is_audited_by_its_label():
    state = ProjectState.from_apps(apps)
    historical = state.apps.get_model("testapp", "Author")
    assert historical is not Author
    with capture_events() as events:
        author = historical.objects.create(name="Ada")
        historical.objects.filter(pk=author.pk).update(name="Bob")
        historical.objects.bulk_create([historical(name="Cleo")])
        author.delete()
    assert [row[0] for row in told(events)] == ["create", "update", "create", "delete"]
    assert {e.object_type for e in events} == {"testapp.author"}


@pytest.mark.django_db(databases=["default", "other"])
def test_a_write_to_another_alias_is_recorded_there():
    with capture_events() as events:
        author = Author.objects.using("other").create(name="Ada")
        author.name = "Bob"
        author.save()
        Author(pk=author.pk, name="Cleo").save(using="default")
        Author.objects.using("other").update(name="Dora")
        Author.objects.using("other").bulk_create([Author(name="Eve")])
        author.delete()
    assert [(e.event.removeprefix("model."), e.database) for e in events] == [
        ("create", "other"),
        ("update", "other"),
        ("create", "default"),
        ("update", "other"),
        ("create", "other"),
        ("delete", "other"),
    ]


@pytest.mark.django_db(transaction=True)
def test_async_methods_are_recorded():
    async def write():
        author = await Author.objects.acreate(name="Ada")
        author.name = "Bob"
        await author.asave()
        await Author.objects.filter(pk=author.pk).aupdate(name="Cleo")
        await Author.objects.abulk_create([Author(name="Dora")])
        await Author.objects.filter(name="Dora").adelete()
        await author.adelete()

    with capture_events() as events:
        async_to_sync(write)()
    assert [row[0] for row in told(events)] == [
        "create",
        "update",
        "update",
        "create",
        "delete",
        "delete",
    ]
    assert told(events)[2][2] == {"name": ["Bob", "Cleo"]}


def _prime():
    """Take SQLite's write lock, which is asked for once in a transaction."""
    Quick.objects.create(name="prime")


def _saved():
    return Book.objects.create(title="Notes")


def _add_one(gauge):
    gauge.count = F("count") + 1
    gauge.save()


QUERIES = {
    "create": (lambda: None, lambda _: Book.objects.create(title="a"), 1),
    "update": (_saved, lambda book: book.save(), 2),
    "update_fields": (_saved, lambda book: book.save(update_fields=["title"]), 2),
    "create with a free key": (lambda: None, lambda _: Book(pk=8000, title="a").save(), 3),
    "create of a child": (lambda: None, lambda _: Restaurant.objects.create(name="a"), 2),
    "update of a child": (lambda: Restaurant.objects.create(name="a"), lambda r: r.save(), 3),
    "generated column": (Document.objects.create, lambda d: d.save(), 3),
    "expression": (lambda: Gauge.objects.create(count=1), _add_one, 3),
    "update() of constants": (_saved, lambda _: Book.objects.update(stock=2), 2),
    "update() of expressions": (_saved, lambda _: Book.objects.update(stock=F("stock") + 2), 3),
    "bulk_create": (
        lambda: None,
        lambda _: Author.objects.bulk_create([Author(name=str(i)) for i in range(50)]),
        1,
    ),
}


@pytest.mark.parametrize("way", QUERIES)
def test_queries_of_each_kind_of_write(way, django_assert_max_num_queries):
    prepare, write, count = QUERIES[way]
    _prime()
    held = prepare()
    with django_assert_max_num_queries(count):
        write(held)


def test_unaudited_models_and_reads_pay_no_query(django_assert_num_queries):
    Author.objects.bulk_create([Author(name=str(i)) for i in range(20)])

    def write():
        plain = Plain.objects.create(name="a")
        plain.save()
        Plain.objects.update(name="b")
        Plain.objects.bulk_create([Plain(name="c")])
        Plain.objects.all().delete()

    with suspend_audit(), CaptureQueriesContext(connection) as own:
        write()
    with django_assert_num_queries(len(own)):
        write()
    with django_assert_num_queries(3):
        list(Author.objects.only("name"))
        list(Author.objects.iterator())
        list(Author.objects.values("name"))


# Row by row of the truth table


ASYNC_CREATES = {
    "acreate": lambda: Author.objects.acreate(name="Ada"),
    "asave": lambda: Author(name="Ada").asave(),
    "aget_or_create": lambda: Author.objects.aget_or_create(name="Ada"),
    "aupdate_or_create": lambda: Author.objects.aupdate_or_create(name="Ada"),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ASYNC_CREATES)
def test_an_async_create_holds_every_column_as_stored(way):
    async def create():
        await ASYNC_CREATES[way]()

    told = recorded(async_to_sync(create))
    author = Author.objects.get()
    changes = {"id": [None, author.pk], "name": [None, "Ada"], "born": [None, None]}
    assert told == [("create", str(author.pk), changes)]


def stored_in(instance):
    """The row as the trail should show it, read afresh."""
    fields = [f for f in type(instance)._meta.concrete_fields if f.column]
    row = type(instance)._base_manager.values(*(f.attname for f in fields)).get(pk=instance.pk)
    return {f.name: make_safe(row[f.attname]) for f in fields}


def last_values(events):
    values = {}
    for event in events:
        values.update({name: new for name, (_, new) in event.changes.items()})
    return values


def test_generated_columns_are_filled_in_virtual_and_stored_and_one_of_another():
    with capture_events() as events:
        crate = Crate.objects.create(width=2, height=3)
        assert last_values(events) == stored_in(crate)
        crate.height = 5
        crate.save(update_fields=["height"])
        assert last_values(events) == stored_in(crate)
        crate.width = F("width") * 2
        crate.save()
        assert last_values(events) == stored_in(crate)
        Crate.objects.update(width=1)
        assert last_values(events) == stored_in(crate)
    assert events[1].changes["area"] == [6, 10]
    assert "width" not in events[1].changes


def test_what_the_database_gives_by_default_is_filled_in_even_the_key():
    with capture_events() as events:
        voucher = Voucher.objects.create()
        explicit = Voucher.objects.create(code="B9", note="x")
    assert told(events) == [
        ("create", "A7", {"code": [None, "A7"], "note": [None, "FREE"]}),
        ("create", "B9", {"code": [None, "B9"], "note": [None, "x"]}),
    ]
    voucher.refresh_from_db()
    assert (voucher.pk, explicit.pk) == ("A7", "B9")


def test_returned_columns_leave_the_instance_as_without_audit():
    """From Django 6.0 an UPDATE returns what it has computed, where the database can."""

    def attributes():
        gauge = Gauge.objects.create(count=5, name="ada")
        gauge.count, gauge.name = F("count") + 1, Upper("name")
        gauge.save()
        return [str(vars(gauge).get(name)) for name in ("count", "name")]

    with suspend_audit():
        expected = attributes()
    with capture_events() as events:
        assert attributes() == expected
    assert events[1].changes == {"count": [5, 6], "name": ["ada", "ADA"]}


def test_subqueries_and_conditions_are_recorded_as_their_values():
    Gauge.objects.create(count=40)
    gauge = Gauge.objects.create(count=None, price=2, name="ada")
    others = Gauge.objects.filter(count__isnull=False).values("count")[:1]
    gauge.count = Coalesce(F("count"), Value(3))
    gauge.price = Subquery(others) if connection.vendor != "mysql" else F("price") * 20
    gauge.flag = Case(When(name="ada", then=Value(True)), default=Value(False))
    gauge.ratio = ExpressionWrapper(F("price") / 4, models.FloatField())
    [(_, _, changes)] = recorded(gauge.save)
    # What an integer divided by an integer is, each database says for itself.
    assert changes == {
        "count": [None, 3],
        "price": ["2.00", "40.00"],
        "flag": [None, True],
        "ratio": [None, stored_in(gauge)["ratio"]],
    }


def test_update_fields_of_generated_columns_and_keys_write_and_record_nothing():
    crate = Crate.objects.create(width=2)
    crate.width = 9
    assert recorded(crate.save, update_fields=[]) == []
    with pytest.raises(ValueError, match=r"fields do not exist"):
        crate.save(update_fields=["nothing"])
    assert stored_in(crate)["width"] == 2


def test_a_check_a_null_and_a_dangling_key_that_the_database_refuses_leave_nothing():
    country = Country.objects.create(code="de")
    with capture_events() as events:
        for write in (
            lambda: Country.objects.create(code="fr", people=-1),
            lambda: Country.objects.filter(pk=country.pk).update(people=-1),
            lambda: City.objects.create(name=None, country=country),
            lambda: Country.objects.create(code="de"),
        ):
            with pytest.raises(IntegrityError), transaction.atomic():
                write()
    assert events.named("model.update") == []
    assert Country.objects.count() == 1
    assert not AuditRecord.objects.exclude(object_id=str(country.pk)).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("inside", [False, True], ids=["autocommit", "atomic"])
def test_a_foreign_key_that_is_refused_at_commit_leaves_nothing(inside):
    city = City(name="Nowhere", country_id=999)

    def write():
        with transaction.atomic() if inside else nullcontext():
            city.save()

    with pytest.raises(IntegrityError):
        write()
    assert not AuditRecord.objects.exists()
    assert not City.objects.exists()
    if not inside:
        assert city.pk is None
    city.country = Country.objects.create(code="de")
    city.pk = None
    city.save()
    assert [r.event for r in AuditRecord.objects.order_by("pk")] == ["model.create"] * 2


def test_a_create_repeated_after_a_rollback_is_recorded_as_what_it_is():
    author = Author(name="Ada")
    rolled_back(author.save)
    assert author.pk is not None
    assert [row[0] for row in recorded(author.save)] == ["create"]


def test_a_child_of_an_unaudited_parent_with_the_parents_key_alone_has_true_old_values():
    held = Restaurant.objects.create(name="Roma", stars=1)
    known = Restaurant(id=held.pk, name="Bari", stars=2)
    assert known.pk is None
    assert recorded(known.save) == [
        ("update", str(held.pk), {"name": ["Roma", "Bari"], "stars": [1, 2]})
    ]


def test_a_parent_with_a_parent_of_its_own_is_recorded_by_the_save_of_an_unaudited_child():
    with capture_events() as events:
        ferry = Ferry.objects.create(name="a", decks=2, cars=3)
        ferry.name, ferry.decks, ferry.cars = "b", 3, 4
        ferry.save()
        ferry.cars = 5
        ferry.save()
        ferry.name = "c"
        ferry.save(update_fields=["name"])
    key = str(ferry.pk)
    assert told(events) == [
        (
            "create",
            key,
            {
                "id": [None, ferry.pk],
                "name": [None, "a"],
                "boat_ptr": [None, ferry.pk],
                "decks": [None, 2],
            },
        ),
        ("update", key, {"name": ["a", "b"], "decks": [2, 3]}),
        ("update", key, {"name": ["b", "c"]}),
    ]
    assert {e.object_type for e in events} == {"testapp.cutter"}


def test_a_child_of_several_parents_is_recorded_once_with_all_inherited_columns():
    with capture_events() as events:
        steamer = Steamer.objects.create(name="a", power=5, whistle="tu")
        steamer.name, steamer.power, steamer.decks = "b", 6, 7
        steamer.save()
        steamer.power = 8
        steamer.save(update_fields=["power"])
    assert {e.object_type for e in events} == {"testapp.steamer"}
    assert [e.event for e in events] == ["model.create", "model.update", "model.update"]
    assert last_values(events) == stored_in(steamer)
    assert events[1].changes == {"name": ["a", "b"], "decks": [1, 7], "power": [5, 6]}
    assert events[2].changes == {"power": [6, 8]}


def test_columns_of_a_child_of_several_parents_known_by_its_key_alone_leave_the_other_key():
    steamer = Steamer.objects.create(name="a", engine_id=1_000_000)
    assert steamer.pk != steamer.engine_id
    with capture_events() as events:
        Steamer(pk=steamer.pk, name="b").save(update_fields=["name"])
    assert [e.changes for e in events] == [{"name": ["a", "b"]}]


def test_a_child_that_is_linked_to_another_parent_has_the_columns_of_that_one():
    one, other = Steamer.objects.create(power=5), Engine.objects.create(power=7)
    before = one.engine_id
    one.engine_id, one.power = other.pk, 8
    with capture_events() as events:
        one.save(update_fields=["engine_ptr"])
    assert [e.changes for e in events] == [
        {"engine_id": [before, other.pk], "power": [5, 7], "engine_ptr": [before, other.pk]}
    ]
    assert last_values(events).items() <= stored_in(one).items()


def test_a_parent_link_that_is_not_the_key():
    with capture_events() as events:
        raft = Raft.objects.create(name="a", planks=5)
        raft.name, raft.planks = "b", 6
        raft.save()
    assert [e.object_id for e in events] == [str(raft.number)] * 2
    assert events[1].changes == {"name": ["a", "b"], "planks": [5, 6]}
    assert last_values(events) == stored_in(raft)


def test_a_child_over_an_existing_parent_by_a_raw_save_holds_the_inherited_columns_as_stored():
    place = Place.objects.create(name="Roma")
    restaurant = Restaurant(place_ptr_id=place.pk, name="not written", stars=3)
    [(operation, _, changes)] = recorded(restaurant.save_base, raw=True)
    assert operation == "create"
    assert {name: new for name, (_, new) in changes.items()} == stored_in(restaurant)
    assert changes["name"] == [None, "Roma"]


def test_a_proxy_of_a_child_is_recorded_as_its_concrete_model():
    class RestaurantProxy(Restaurant):
        class Meta:
            proxy = True
            app_label = "proxies"

    with capture_events() as events:
        proxy = RestaurantProxy.objects.create(name="Roma", stars=1)
        proxy.name = "Bari"
        proxy.save()
    assert {(e.sender, e.object_type) for e in events} == {
        ("testapp.Restaurant", "testapp.restaurant")
    }
    assert events[1].changes == {"name": ["Roma", "Bari"]}


@pytest.mark.parametrize("setting", [True, False], ids=["recorded", "left out"])
def test_fixtures_with_natural_keys_are_recorded_unless_the_setting_says_no(setting):
    text = """[
        {"model": "testapp.country", "fields": {"code": "de", "people": 5}},
        {"model": "testapp.city", "pk": 1, "fields": {"name": "Ulm", "country": ["de"]}}
    ]"""

    def load():
        for found in serializers.deserialize("json", text, use_natural_foreign_keys=True):
            found.save()

    with override_settings(SIGNAL_AUDIT={"RECORD_FIXTURES": setting}):
        with capture_events() as events:
            load()
            load()
        country = Country.objects.get()
        assert (country.people, City.objects.get().country) == (5, country)
        if setting:
            assert [e.event for e in events] == ["model.create"] * 2
            assert all(e.data == {"raw": True} for e in events)
            assert events[1].changes["country"] == [None, country.pk]
        else:
            assert events == []
        # What a receiver or the program itself writes is no fixture's.
        country.people = 6
        assert [row[0] for row in recorded(country.save)] == ["update"]


def test_many_to_many_rows_of_fixtures_follow_the_setting():
    de = Country.objects.create(code="de")
    City.objects.create(pk=1, name="Ulm", country=de)
    text = f"""[{{"model": "testapp.city", "pk": 1,
        "fields": {{"name": "Ulm", "country": {de.pk}, "guests": [{de.pk}]}}}}]"""

    def load():
        for found in serializers.deserialize("json", text):
            found.save()

    with override_settings(SIGNAL_AUDIT={"RECORD_FIXTURES": False}):
        assert recorded(load) == []
    City.guests.through.objects.all().delete()
    [(operation, _, changes)] = recorded(load)
    assert (operation, changes["guests"]["added"]) == ("m2m", [de.pk])


def test_loaddata_is_left_out_by_the_setting(tmp_path):
    path = tmp_path / "countries.json"
    path.write_text('[{"model": "testapp.country", "pk": 5, "fields": {"code": "de"}}]')
    with override_settings(SIGNAL_AUDIT={"RECORD_FIXTURES": False}):
        assert recorded(call_command, "loaddata", str(path), verbosity=0) == []
    assert Country.objects.get().pk == 5
    Country.objects.update(people=1)
    [(operation, key, changes)] = recorded(call_command, "loaddata", str(path), verbosity=0)
    assert (operation, key, changes) == ("update", "5", {"people": [1, 0]})


def test_queries_of_a_raw_insert_and_a_raw_update():
    _prime()
    with CaptureQueriesContext(connection) as insert:
        Country(pk=5, code="de").save_base(raw=True)
    with CaptureQueriesContext(connection) as update:
        Country(pk=5, code="fr").save_base(raw=True)
    with CaptureQueriesContext(connection) as child:
        Place(pk=6, name="Roma").save_base(raw=True)
        Restaurant(pk=6, stars=3).save_base(raw=True)
    kinds = [[q["sql"].split()[0] for q in c] for c in (insert, update, child)]
    # Django alone: UPDATE and INSERT; the SELECT tells which rows are new, and their old values.
    assert kinds[0] == ["SELECT", "UPDATE", "INSERT"]
    assert kinds[1] == ["SELECT", "UPDATE"]
    # The parent is not audited; the inherited columns of the child are those of its row.
    assert kinds[2] == ["UPDATE", "INSERT", "SELECT", "UPDATE", "INSERT", "SELECT"]


@pytest.mark.django_db(databases=["default", "other"])
def test_an_object_moved_between_aliases_is_a_create_there_and_an_update_from_then_on():
    author = Author.objects.create(pk=500, name="Ada")
    with capture_events() as events:
        author.save(using="other")
        author.name = "Bob"
        author.save()
        author.save(using="default")
    assert [(e.event.removeprefix("model."), e.database) for e in events] == [
        ("create", "other"),
        ("update", "other"),
        ("update", "default"),
    ]


def test_a_changed_password_is_recorded_as_changed_without_a_value():
    with override_settings(SIGNAL_AUDIT=settings_for("auth.User")):
        with capture_events() as events:
            user = User.objects.create_user("ada", password="first")
            user.set_password("second")
            user.save()
        assert events[0].changes["password"] == [None, "[redacted]"]
        assert events[1].changes == {"password": ["[redacted]", "[redacted]"]}
        assert user.password not in str([e.to_dict() for e in events])


def _logged_in(user):
    request = HttpRequest()
    request.session = SessionStore()
    login(request, user)


SEEN = timezone.now()
ONLY_LAST_LOGIN = {
    "save": lambda user: (setattr(user, "last_login", SEEN), user.save()),
    "save(update_fields)": lambda user: (
        setattr(user, "last_login", SEEN),
        user.save(update_fields=["last_login"]),
    ),
    "update()": lambda user: User.objects.filter(pk=user.pk).update(last_login=SEEN),
    "update() of an expression": lambda user: User.objects.update(last_login=Now()),
    "bulk_update": lambda user: (
        setattr(user, "last_login", SEEN),
        User.objects.bulk_update([user], ["last_login"]),
    ),
    "login()": _logged_in,
}


@pytest.mark.parametrize("way", ONLY_LAST_LOGIN)
def test_a_login_is_no_update_of_the_user(way):
    with override_settings(SIGNAL_AUDIT=settings_for("auth.User")):
        user = User.objects.create_user("ada", "a@b.c", "pw", last_login=None)
        with capture_events() as events:
            ONLY_LAST_LOGIN[way](user)
        assert [e for e in events if e.object_type == "auth.user"] == []
        assert User.objects.get().last_login is not None


def test_last_login_beside_another_column_is_recorded_with_it():
    with override_settings(SIGNAL_AUDIT=settings_for("auth.User")):
        user = User.objects.create_user("ada", "a@b.c", "pw")
        user.last_login, user.email = NOON, "d@e.f"
        [(operation, _, changes)] = recorded(user.save)
    assert operation == "update"
    assert changes == {
        "last_login": [None, "2024-05-01T12:00:00.000000Z"],
        "email": ["a@b.c", "d@e.f"],
    }


def test_fields_to_ignore_alone_are_those_of_the_policy():
    plain = settings_for(ignore_only=["name"])
    with override_settings(SIGNAL_AUDIT=plain):
        held = Plain.objects.create(name="a")
        held.name = "b"
        assert recorded(held.save) == []
    user = settings_for("auth.User", ignore_only=[])
    with override_settings(SIGNAL_AUDIT=user):
        ada = User.objects.create_user("ada")
        ada.last_login = NOON
        assert [list(changes) for _, _, changes in recorded(ada.save)] == [["last_login"]]


def test_a_row_that_is_locked_and_saved():
    author = Author.objects.create(name="Ada")
    with transaction.atomic():
        held = Author.objects.select_for_update().get(pk=author.pk)
        held.name = "Bob"
        assert recorded(held.save) == [("update", str(author.pk), {"name": ["Ada", "Bob"]})]


def test_a_save_that_calls_the_inherited_one_twice_is_what_each_wrote(monkeypatch):
    def save(self, *args, **kwargs):
        models.Model.save(self, *args, **kwargs)
        self.name += f"-{self.pk}"
        kwargs.pop("force_insert", None)
        models.Model.save(self, *args, **kwargs)

    monkeypatch.setattr(Author, "save", save)
    told = recorded(Author.objects.create, name="Ada")
    author = Author.objects.get()
    assert [(operation, changes["name"]) for operation, _, changes in told] == [
        ("create", [None, "Ada"]),
        ("update", ["Ada", f"Ada-{author.pk}"]),
    ]


@pytest.mark.parametrize("model", [Author, Restaurant])
def test_a_receiver_that_saves_again_leaves_events_in_the_order_of_the_writes(model):
    def again(sender, instance, **kwargs):
        if len(instance.name) < 3:
            instance.name += "x"
            instance.save()

    def before(sender, instance, **kwargs):
        if instance.name == "ax":
            other = sender.objects.get(pk=instance.pk)
            other.name = "before"
            other.save()

    with receiver_of(signals.post_save, again, model), receiver_of(signals.pre_save, before, model):
        told = recorded(model.objects.create, name="a")
    assert [(operation, changes["name"]) for operation, _, changes in told] == [
        ("create", [None, "a"]),
        ("update", ["a", "before"]),
        ("update", ["before", "ax"]),
        ("update", ["ax", "axx"]),
    ]
    assert model.objects.get().name == "axx"


@contextmanager
def receiver_of(signal, function, sender):
    signal.connect(function, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(function, sender=sender)


def test_reading_in_every_way_costs_no_query_more(django_assert_num_queries):
    Book.objects.bulk_create([Book(title=str(i)) for i in range(20)])
    Quick.objects.bulk_create([Quick(name=str(i)) for i in range(20)])
    for model in (Book, Quick):
        with django_assert_num_queries(6):
            list(model.objects.only("id"))
            list(model.objects.defer("id"))
            list(model.objects.iterator(chunk_size=5))
            list(model.objects.values_list("pk"))
            model.objects.in_bulk([1])
            [obj.pk for obj in model.objects.raw(f"SELECT * FROM {model._meta.db_table}")]


class _Historical(migrations.Migration):
    """A data migration over tables that are there, as ``apps.get_model`` shows them."""

    dependencies = ()

    @staticmethod
    def forwards(apps, schema_editor):
        author_model = apps.get_model("ledger", "Author")
        assert author_model is not Author
        author = author_model.objects.create(name="Ada")
        author.name = "Bob"
        author.save()
        author_model.objects.bulk_create([author_model(name="Cleo")])
        author_model.objects.filter(name="Cleo").update(name="Dora")
        author_model.objects.filter(name="Dora").delete()
        author.delete()


@pytest.mark.django_db(transaction=True)
def test_a_data_migration_is_recorded_as_any_write(monkeypatch):
    """A real executor, with an application that has a migration for its table and one for data."""
    create = migrations.Migration("0001_initial", "ledger")
    create.operations = [
        migrations.CreateModel(
            "Author",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=100)),
            ],
        ),
    ]
    fill = migrations.Migration("0002_fill", "ledger")
    fill.dependencies = [("ledger", "0001_initial")]
    fill.operations = [
        migrations.RunPython(_Historical.forwards, migrations.RunPython.noop),
    ]
    both = [("ledger", "0001_initial"), ("ledger", "0002_fill")]

    def load(self):
        self.disk_migrations = dict(zip(both, (create, fill), strict=True))
        self.unmigrated_apps, self.migrated_apps = set(), {"ledger"}

    monkeypatch.setattr(MigrationLoader, "load_disk", load)
    monkeypatch.setattr(MigrationLoader, "check_consistent_history", lambda *args: None)
    with override_settings(SIGNAL_AUDIT=settings_for("ledger.Author")):
        try:
            with capture_events() as events:
                MigrationExecutor(connection).migrate([both[1]])
        finally:
            with connection.schema_editor() as editor:
                editor.execute("DROP TABLE ledger_author")
            MigrationRecorder(connection).migration_qs.filter(app="ledger").delete()
    assert [row[0] for row in told(events)] == [
        "create",
        "update",
        "create",
        "update",
        "delete",
        "delete",
    ]
    assert {e.object_type for e in events} == {"ledger.author"}
    assert told(events)[1][2] == {"name": ["Ada", "Bob"]}
    assert AuditRecord.objects.filter(object_type="ledger.author").count() == 6


# What it costs to say which object


ASKING = {
    "follows a relation": lambda self: f"{self.book.title} {self.number}",
    "counts": lambda self: f"{Chapter.objects.count()} chapters",
    "asks another database": lambda self: str(Author.objects.using("other").count()),
    "is wrong": lambda self: str(list(Chapter.objects.extra(where=["nonsense"]))),
    "saves itself": lambda self: self.save() or "saved",
    "writes in a block": lambda _: _in_a_block(),
    "reads the trail": lambda self: str(AuditRecord.objects.count()),
    "catches what it is told": lambda chapter: _caught(chapter),  # noqa: PLW0108 - defined below
}


def _in_a_block():
    with transaction.atomic():
        Author.objects.create(name="by a text")
    return "written"


def _caught(chapter):
    try:
        return chapter.book.title
    except Exception:  # noqa: BLE001 - as careless code does
        return "no book"


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("how", ASKING)
def test_a_text_that_takes_a_query_is_not_waited_for(monkeypatch, how):
    book = Book.objects.create(title="Notes")
    Chapter.objects.create(book=book, number=0)

    def write():
        with CaptureQueriesContext(connection) as queries:
            chapter = Chapter.objects.create(book_id=book.pk, number=1)
            chapter = Chapter.objects.get(pk=chapter.pk)
            chapter.number = 2
            chapter.save()
            made = [Chapter(book_id=book.pk, number=n) for n in range(20)]
            Chapter.objects.bulk_create(made)
            Chapter.objects.exclude(number=0).delete()
        return len(queries)

    _prime()
    expected = write()
    monkeypatch.setattr(Chapter, "__str__", ASKING[how])
    with capture_events() as events:
        assert write() == expected
    assert len(events) == 2 + 20 + 20
    assert {e.object_repr for e in events} == {f"Chapter object ({e.object_id})" for e in events}
    # The transaction still works.
    assert not Author.objects.filter(name="by a text").exists()
    assert not connection.needs_rollback


def test_a_text_for_which_everything_is_there_is_kept(monkeypatch):
    monkeypatch.setattr(Chapter, "__str__", ASKING["follows a relation"])
    book = Book.objects.create(title="Notes")
    with capture_events() as events:
        Chapter.objects.create(book=book, number=1)
    assert events[0].object_repr == "Notes 1"


def test_a_custom_event_about_an_object_or_with_one_as_its_message_waits_for_no_text(monkeypatch):
    book = Book.objects.create(title="Notes")
    Chapter.objects.create(book=book, number=1)
    chapter = Chapter.objects.get()
    monkeypatch.setattr(Chapter, "__str__", ASKING["is wrong"])
    with capture_events() as events:
        event_signal.send("x", instance=chapter, message=chapter)
    assert (events[0].object_repr, events[0].message) == (f"Chapter object ({chapter.pk})",) * 2


def test_the_text_of_an_object_is_bounded_and_can_be_switched_off(monkeypatch):
    calls = []
    monkeypatch.setattr(Author, "__str__", lambda self: calls.append(1) or "x" * 10_000_000)
    with capture_events() as events:
        Author.objects.create(name="a")
        with override_settings(SIGNAL_AUDIT={"REPR_LIMIT": 0}):
            Author.objects.create(name="b")
    assert 250 < len(events[0].object_repr) <= 255
    assert (events[1].object_repr, calls) == ("", [1])
