"""``bulk_create``: what each kind of object leaves, and what it meets in many pieces."""

import uuid

import django
import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat, Lower
from django.test import override_settings

from django_signal_audit import suspend_audit
from django_signal_audit.capture import creates
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.capture.helpers import recorded, settings_for, told
from tests.testapp.models import (
    Account,
    Author,
    Book,
    BookProxy,
    Casting,
    Chapter,
    Composite,
    Document,
    Film,
    Gauge,
    Parent,
    Person,
    Plain,
    Profile,
    Seat,
    Step,
)

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def creates_of(events):
    return [e.changes for e in events.named("model.create")]


def target(*names):
    """What a conflict is; on MariaDB every unique column is one."""
    named = connection.features.supports_update_conflicts_with_target
    return {"unique_fields": list(names)} if named else {}


def test_db_default_generated_and_uuid_columns_are_as_stored():
    key = uuid.uuid4()
    with capture_events() as events:
        Document.objects.bulk_create(
            [Document(pk=key, body="abc"), Document(body="d", state=Lower(Value("OLD")))]
        )
    first, second = creates_of(events)
    assert (first["id"], first["size"], first["state"]) == (
        [None, str(key)],
        [None, 3],
        [None, "new"],
    )
    assert second["state"] == [None, "old"]
    assert {e.object_id for e in events} == {str(d.pk) for d in Document.objects.all()}


def test_auto_now_is_as_stored():
    with capture_events() as events:
        Book.objects.bulk_create([Book(title="a")])
    [changes] = creates_of(events)
    stored = Book.objects.get().updated
    assert changes["updated"][1] == stored.isoformat().replace("+00:00", "Z")


def test_values_of_another_type_are_as_the_column_holds_them():
    with capture_events() as events:
        Gauge.objects.bulk_create([Gauge(count="5", price=1.5, ratio=2, name=Value("x"))])
    [changes] = creates_of(events)
    assert changes["count"] == [None, 5]
    assert changes["price"] == [None, "1.50"]
    assert changes["ratio"] == [None, 2.0]
    assert changes["name"] == [None, "x"]


def test_an_expression_is_its_result():
    with capture_events() as events:
        Author.objects.bulk_create([Author(name=Concat(Value("A"), Value("da")))])
    assert creates_of(events)[0]["name"] == [None, "Ada"]


def test_a_foreign_key_by_another_column_and_a_key_that_is_a_relation():
    person = Person.objects.create(code="p")
    film = Film.objects.create(code="f")
    with capture_events() as events:
        Casting.objects.bulk_create([Casting(film=film, person=person)])
    assert creates_of(events)[0]["person"] == [None, "p"]
    parent = Parent.objects.create(name="p")
    with capture_events() as events:
        Profile.objects.bulk_create([Profile(parent=parent, bio="x")])
    assert [e.object_id for e in events] == [str(parent.pk)]


def test_a_proxy_is_its_concrete_model():
    with capture_events() as events:
        BookProxy.objects.bulk_create([BookProxy(title="a")])
        assert BookProxy.objects.update(title="b") == 1
    assert {e.object_type for e in events} == {"testapp.book"}
    assert len(events) == 2


def test_composite_keys():
    with capture_events() as events:
        Composite.objects.bulk_create([Composite(tenant=1, number=n, name="a") for n in (1, 2)])
        Composite.objects.bulk_create(
            [Composite(tenant=1, number=n, name="b") for n in (2, 3)],
            update_conflicts=True,
            update_fields=["name"],
            **target("tenant", "number"),
        )
    assert [(op, key) for op, key, _ in told(events)] == [
        ("create", "[1,1]"),
        ("create", "[1,2]"),
        ("update", "[1,2]"),
        ("create", "[1,3]"),
    ]


@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django gave none, and refused the rows")
def test_the_place_that_django_gives_a_row_in_an_order():
    parent = Parent.objects.create(name="p")
    with capture_events() as events:
        Step.objects.bulk_create([Step(parent=parent, name=name) for name in "ab"])
    assert [changes["_order"] for changes in creates_of(events)] == [[None, 0], [None, 1]]


def test_json_null_and_no_value_read_alike():
    """Both are ``None`` to a program that reads the row, so they are in the trail."""
    nothing = getattr(models, "JSONNull", lambda: Value(None, models.JSONField()))()
    with capture_events() as events:
        Gauge.objects.bulk_create([Gauge(data=nothing), Gauge(data=None)])
    assert [changes["data"] for changes in creates_of(events)] == [[None, None]] * 2
    assert Gauge.objects.filter(data__isnull=True).count() == 1


def test_the_async_call():
    async def create():
        await Author.objects.abulk_create([Author(name="a"), Author(name="b")])

    with capture_events() as events:
        async_to_sync(create)()
    assert [changes["name"] for changes in creates_of(events)] == [[None, "a"], [None, "b"]]


def test_a_second_alias():
    with capture_events() as events:
        Author.objects.using("other").bulk_create([Author(name="a")])
        Author.objects.using("other").update(name=Concat("name", Value("!")))
    assert [(e.event, e.database) for e in events] == [
        ("model.create", "other"),
        ("model.update", "other"),
    ]
    assert not Author.objects.exists()


# More objects than are compared in one piece


@pytest.fixture
def pieces(monkeypatch):
    monkeypatch.setattr(creates, "AT_ONCE", 2)


def seats(*numbers, guest="Bob"):
    return [Seat(row=1, number=number, guest=guest) for number in numbers]


UPDATE = {"update_conflicts": True, "update_fields": ["guest"]}


@pytest.mark.usefixtures("pieces")
def test_conflicts_in_many_pieces_are_told_as_they_happened():
    held = Seat.objects.create(row=1, number=3, guest="Ada")
    objs = seats(1, 2, 3, 4, 5)
    with capture_events() as events:
        made = Seat.objects.bulk_create(objs, **UPDATE, **target("row", "number"))
    assert made == objs
    assert [(op, changes.get("number")) for op, _, changes in told(events)] == [
        ("create", [None, 1]),
        ("create", [None, 2]),
        ("update", None),
        ("create", [None, 4]),
        ("create", [None, 5]),
    ]
    [update] = events.named("model.update")
    assert (update.object_id, update.changes) == (str(held.pk), {"guest": ["Ada", "Bob"]})


@pytest.mark.usefixtures("pieces")
def test_an_object_given_twice_is_created_once_and_then_updated():
    with capture_events() as events:
        Seat.objects.bulk_create(
            seats(1, 2) + seats(1, guest="Cleo"), **UPDATE, **target("row", "number")
        )
    assert [(op, changes["guest"]) for op, _, changes in told(events)] == [
        ("create", [None, "Bob"]),
        ("create", [None, "Bob"]),
        ("update", ["Bob", "Cleo"]),
    ]


@pytest.mark.usefixtures("pieces")
def test_objects_with_keys_are_inserted_first_as_django_does():
    objs = [*seats(1, 2, 3), Seat(pk=900, row=1, number=1, guest="keyed")]
    with capture_events() as events:
        Seat.objects.bulk_create(objs, ignore_conflicts=True)
    held = Seat.objects.get(number=1)
    assert (held.pk, held.guest) == (900, "keyed")
    assert {changes["number"][1] for changes in creates_of(events)} == {1, 2, 3}
    assert len(events) == 3


@pytest.mark.usefixtures("pieces")
def test_keys_that_a_default_makes_keep_their_order():
    objs = [Document(body=f"{n}") for n in range(5)]
    with capture_events() as events:
        Document.objects.bulk_create(objs, ignore_conflicts=True)
    assert {e.object_id for e in events} == {str(o.pk) for o in objs}


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("how", ["atomic", "autocommit"])
@pytest.mark.django_db(transaction=True)
def test_what_django_refuses_in_a_later_piece_takes_the_earlier_ones_with_it(how):
    book = Book.objects.create(title="a")
    objs = [Chapter(pk=n, book=book, number=n) for n in (1, 2, 3)]
    objs.append(Chapter(pk=4, book=Book(), number=4))
    with capture_events() as events:
        if how == "autocommit":
            with pytest.raises(ValueError, match="unsaved related"):
                Chapter.objects.bulk_create(objs, ignore_conflicts=True)
        else:
            with transaction.atomic():
                with pytest.raises(ValueError, match="unsaved related"):
                    Chapter.objects.bulk_create(objs, ignore_conflicts=True)
                assert not Chapter.objects.exists()
    assert not Chapter.objects.exists()
    assert len(events) == 2
    assert not records_of_chapters()


def records_of_chapters():
    return AuditRecord.objects.filter(object_type="testapp.chapter").exists()


@pytest.mark.usefixtures("pieces")
@pytest.mark.django_db(transaction=True)
def test_what_the_database_refuses_in_a_later_piece_dooms_the_transaction_as_django_does():
    book = Book.objects.create(title="a")
    objs = [Chapter(pk=n, book=book, number=n) for n in (1, 2, 3)]
    objs += [Chapter(pk=n, book=book, number=None) for n in (4, 5)]
    with pytest.raises(IntegrityError), transaction.atomic():
        Chapter.objects.bulk_create(
            objs, 1, update_conflicts=True, update_fields=["number"], **target("pk")
        )
    assert not Chapter.objects.exists()
    assert not records_of_chapters()


def test_what_a_policy_does_not_ask_for_is_created_as_ever():
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Plain", on=["delete"])):
        assert recorded(Plain.objects.bulk_create, [Plain(name="a")]) == []
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Plain", on=["update"])):
        assert recorded(Plain.objects.bulk_create, [Plain(name="a")]) == []
    assert Plain.objects.count() == 2


def test_a_secret_stays_out_of_the_rows_text():
    with capture_events() as events:
        Account.objects.bulk_create([Account(email="a@b.c", api_token="t0ps3cret")])
    [event] = events
    assert "t0ps3cret" not in event.object_repr
    assert event.changes["api_token"] == [None, "[redacted]"]


def test_rows_written_again_by_an_expression_follow():
    Author.objects.bulk_create([Author(name="a")])
    with capture_events() as events:
        Author.objects.update(name=Concat(F("name"), Value("b")))
    assert [e.changes for e in events] == [{"name": ["a", "ab"]}]


@pytest.mark.parametrize("ours", [0, 1])
def test_what_another_transaction_inserts_at_the_same_moment_is_not_told_as_created(
    monkeypatch, ours
):
    seats = [Seat(row=1, number=number) for number in range(1 + ours)]
    look = creates.Conflicts.__init__

    def look_and_be_late(self, *args):
        look(self, *args)
        with suspend_audit():
            Seat.objects.create(row=1, number=0)

    monkeypatch.setattr(creates.Conflicts, "__init__", look_and_be_late)

    with capture_events() as events:
        Seat.objects.bulk_create(seats, ignore_conflicts=True)

    assert Seat.objects.count() == len(seats)
    assert len(events) == 2 * ours
    assert all(event.data["inserted_meanwhile"] == 1 for event in events)
