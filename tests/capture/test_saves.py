"""What ``save()`` and everything that ends in it leaves in the trail."""

import datetime as dt
import uuid
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core import serializers
from django.core.files.base import ContentFile
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.migrations.state import ProjectState
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now, Upper
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_signal_audit import suspend_audit
from django_signal_audit.testing import capture_events
from tests.capture.helpers import recorded, rolled_back, settings_for, told
from tests.testapp.models import (
    LONG_KEY,
    Account,
    Author,
    Book,
    BookProxy,
    Building,
    Composite,
    Document,
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
    Restaurant,
    Step,
    TextKey,
    Topic,
    Tower,
    Unprintable,
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
        ("create", "6", {"place_ptr": [None, 6], "stars": [None, 3]}),
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
