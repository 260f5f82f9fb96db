"""``bulk="summary"`` and ``bulk="off"``: one event for a call that writes many rows, or none."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.db.models.query import QuerySet
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.capture.helpers import recorded, rolled_back
from tests.testapp.models import (
    Account,
    Author,
    Book,
    Building,
    Casting,
    Chapter,
    Film,
    Garage,
    Loan,
    Parent,
    Person,
    Plain,
    Reader,
    Seat,
    Step,
    Tower,
)

pytestmark = pytest.mark.django_db


def policies(*labels, bulk="summary", **options):
    return override_settings(
        SIGNAL_AUDIT={"MODELS": {label: {"bulk": bulk, **options} for label in labels}}
    )


def summaries(write, *args, **kwargs):
    """The data of the events of one call, all of which are summaries."""
    with capture_events() as events:
        write(*args, **kwargs)
    for event in events:
        assert (event.object_id, event.object_repr, event.changes) == (None, "", {})
        assert event.data["summary"] is True
        json.dumps(event.data)
    return [
        {"event": e.event, **{k: v for k, v in e.data.items() if k != "summary"}} for e in events
    ]


@pytest.fixture
def plains():
    return [Plain.objects.create(name=name) for name in "abc"]


def statements(write, *args, **kwargs):
    with CaptureQueriesContext(connection) as captured:
        write(*args, **kwargs)
    return [query["sql"] for query in captured]


@pytest.mark.parametrize("bulk", ["summary", "off"])
def test_no_row_is_read_or_locked(plains, bulk):
    kinds = {"SAVEPOINT", "RELEASE", "DELETE", "UPDATE", "INSERT"}
    with policies("testapp.Plain", bulk=bulk):
        for write in (
            lambda: Plain.objects.update(name="x"),
            lambda: Plain.objects.bulk_update(plains, ["name"]),
            lambda: Plain.objects.bulk_create([Plain(name="new")]),
        ):
            sent = [sql.split()[0] for sql in statements(write)]
            assert set(sent) <= kinds
            assert sum(kind in {"UPDATE", "INSERT"} for kind in sent) == 1


def test_an_update_is_one_event_with_its_filter_its_values_and_its_rows(plains):
    with policies("testapp.Plain"):
        assert summaries(Plain.objects.exclude(name="c").update, name="x") == [
            {
                "event": "model.update",
                "bulk": "update",
                "filter": 'NOT (name = "c")',
                "values": {"name": "x"},
                "rows": 2,
            }
        ]
        with capture_events() as events:
            assert Plain.objects.update(name=F("name")) == 3
    [event] = events
    assert (event.sender, event.object_type) == ("testapp.Plain", "testapp.plain")
    assert event.data["filter"] == "all rows"
    assert event.data["values"] == {"name": {"$expression": "name"}}
    assert set(Plain.objects.values_list("name", flat=True)) == {"x", "c"}


def test_an_update_of_no_row_leaves_nothing(plains):
    with policies("testapp.Plain"):
        assert summaries(Plain.objects.filter(name="z").update, name="x") == []
        assert summaries(Plain.objects.none().update, name="x") == []
        gone = Plain(pk=-1, name="gone")
        assert summaries(Plain.objects.bulk_update, [gone], ["name"]) == []
        assert summaries(Plain.objects.bulk_update, [], ["name"]) == []


def test_a_queryset_that_was_evaluated_asks_again(plains):
    with policies("testapp.Plain"):
        found = Plain.objects.order_by("pk")
        assert len(found) == 3
        found.update(name="x")
        assert [plain.name for plain in found] == ["x"] * 3


def test_values_of_masked_columns_and_columns_that_are_not_recorded_stay_out():
    Account.objects.create(email="a@b.c", api_token="t")
    with policies("testapp.Account"):
        [said] = summaries(
            Account.objects.filter(api_token="t", note="").update,
            api_token="u",
            address="x",
            note="y",
        )
        assert said["values"] == {"api_token": "[redacted]", "address": "[redacted]"}
        assert said["filter"] == "api_token = [redacted] AND note = [redacted]"
        assert summaries(Account.objects.update, note="z") == []
    assert Account.objects.get().note == "z"


def test_fields_that_alone_make_no_event_make_no_summary(plains):
    with policies("testapp.Author", ignore_only=["born"]):
        Author.objects.create(name="Ada")
        assert summaries(Author.objects.update, born=None) == []
        [said] = summaries(Author.objects.update, born=None, name="x")
        assert said["values"] == {"born": None, "name": "x"}
        author = Author.objects.get()
        assert summaries(Author.objects.bulk_update, [author], ["born"]) == []


def test_bulk_update_is_one_event_however_many_batches(plains):
    with policies("testapp.Plain"):
        for plain in plains:
            plain.name += "!"
        gone = Plain(pk=-1, name="gone")
        some = Plain.objects.exclude(name="c")
        assert summaries(some.bulk_update, iter([*plains, gone]), iter(["name"]), 1) == [
            {
                "event": "model.update",
                "bulk": "bulk_update",
                "filter": 'NOT (name = "c")',
                "fields": ["name"],
                "rows_given": 4,
                "rows": 2,
            }
        ]
        [said] = summaries(Plain.objects.update, name="x")
        assert said["bulk"] == "update"


def test_bulk_create_is_one_event(plains):
    with policies("testapp.Plain"):
        assert summaries(Plain.objects.bulk_create, (Plain(name=n) for n in "xyz"), 2) == [
            {"event": "model.create", "bulk": "bulk_create", "rows": 3}
        ]
        assert summaries(Plain.objects.bulk_create, []) == []


def test_bulk_create_with_conflicts_tells_how_many_were_attempted():
    named = connection.features.supports_update_conflicts_with_target
    target = {"unique_fields": ["row", "number"]} if named else {}
    update = {"update_conflicts": True, "update_fields": ["guest"], **target}
    Seat.objects.create(row=1, number=1)
    with policies("testapp.Seat"):
        assert summaries(
            Seat.objects.bulk_create, [Seat(row=1, number=n) for n in (1, 2)], ignore_conflicts=True
        ) == [
            {
                "event": "model.create",
                "bulk": "bulk_create",
                "conflicts": "ignore",
                "rows_attempted": 2,
            }
        ]
        expected = {
            "bulk": "bulk_create",
            "conflicts": "update",
            "update_fields": ["guest"],
            **target,
            "rows_attempted": 1,
        }
        seat = Seat(row=1, number=1, guest="Ada")
        assert summaries(Seat.objects.bulk_create, [seat], **update) == [
            {"event": "model.create", **expected}
        ]
    with policies("testapp.Seat", on=["update"]):
        assert summaries(Seat.objects.bulk_create, [seat], **update) == [
            {"event": "model.update", **expected}
        ]
        assert summaries(Seat.objects.bulk_create, [Seat(row=2, number=1)]) == []


@pytest.mark.parametrize(
    ("on", "events"), [(["create"], ["create"]), (["update"], ["update"] * 2), (["delete"], [])]
)
def test_on_decides(plains, on, events):
    with policies("testapp.Plain", on=on):
        found = summaries(Plain.objects.update, name="x")
        found += summaries(Plain.objects.bulk_update, plains, ["name"])
        found += summaries(Plain.objects.bulk_create, [Plain(name="y")])
    assert [said["event"] for said in found] == [f"model.{name}" for name in events]


def test_when_and_sinks_decide(plains):
    seen = []

    def few(event):
        seen.append(event.object_id)
        return event.data["rows"] < 3

    with policies("testapp.Plain", when=few):
        assert summaries(Plain.objects.update, name="x") == []
        assert len(summaries(Plain.objects.filter(pk=plains[0].pk).update, name="y")) == 1
    assert seen == [None, None]
    memory = {"BACKEND": "django_signal_audit.sinks.MemorySink"}
    database = {"BACKEND": "django_signal_audit.sinks.DatabaseSink"}
    for alias, records in (("default", 1), ("memory", 0)):
        with override_settings(
            SIGNAL_AUDIT={
                "MODELS": {"testapp.Plain": {"bulk": "summary", "sinks": [alias]}},
                "SINKS": {"default": database, "memory": memory},
            }
        ):
            before = AuditRecord.objects.count()
            Plain.objects.update(name="z")
            assert AuditRecord.objects.count() - before == records


def test_a_summary_shares_its_transactions_fate(plains):
    with policies("testapp.Plain"):
        rolled_back(lambda: Plain.objects.update(name="x"))
        assert not AuditRecord.objects.filter(event="model.update").exists()
        Plain.objects.update(name="x")
        assert AuditRecord.objects.filter(event="model.update").count() == 1


def test_off_leaves_nothing_of_bulk_calls_but_all_of_single_ones(plains):
    with policies("testapp.Plain", bulk="off"):
        assert recorded(Plain.objects.update, name="x") == []
        assert recorded(Plain.objects.bulk_update, plains, ["name"]) == []
        assert recorded(Plain.objects.bulk_create, [Plain(name="x")]) == []
        plains[0].name = "saved"
        assert len(recorded(plains[0].save)) == 1
        assert len(recorded(Plain.objects.create, name="y")) == 1


@pytest.mark.parametrize("bulk", ["summary", "off"])
def test_what_django_refuses_is_refused_as_ever(plains, bulk):
    with policies("testapp.Plain", "testapp.Account", "testapp.Chapter", bulk=bulk):
        with capture_events() as events:
            with pytest.raises(TypeError):
                Plain.objects.all()[:1].update(name="x")
            with pytest.raises(ValueError, match="primary key"):
                Plain.objects.bulk_update(plains, ["id"])
            with pytest.raises(ValueError, match="unsaved related"):
                Chapter.objects.bulk_create([Chapter(book=Book(), number=1)])
            with pytest.raises(IntegrityError), transaction.atomic():
                Account.objects.bulk_create([Account(email="a"), Account(email="a")])
        assert events == []
        assert Plain.objects.count() == 3


def test_a_refused_bulk_update_leaves_the_transaction_as_django_does(plains):
    book = Book.objects.create()
    chapter = Chapter.objects.create(book=book, number=1)
    chapter.book = Book()
    with policies("testapp.Chapter"), transaction.atomic():
        with pytest.raises(ValueError, match="unsaved related"):
            Chapter.objects.bulk_update([chapter], ["book"])
        assert Chapter.objects.count() == 1


# Calls that end in an update


def test_a_related_managers_call_is_the_update_it_ends_in():
    ada = Author.objects.create(name="Ada")
    books = [Book.objects.create(title=title) for title in "ab"]
    with policies("testapp.Book"):
        for call, value in (
            (lambda: ada.books.set(books), ada.pk),
            (ada.books.clear, None),
            (lambda: ada.books.add(*books), ada.pk),
            (lambda: ada.books.remove(*books), None),
        ):
            [said] = summaries(call)
            assert (said["bulk"], said["values"], said["rows"]) == ("update", {"author": value}, 2)


def test_the_async_calls_make_the_same_summaries():
    async def write():
        await Plain.objects.abulk_create([Plain(name="a")])
        await Plain.objects.aupdate(name="b")
        made = [plain async for plain in Plain.objects.all()]
        await Plain.objects.abulk_update(made, ["name"])

    with policies("testapp.Plain"):
        found = summaries(async_to_sync(write))
    assert [said["bulk"] for said in found] == ["bulk_create", "update", "bulk_update"]


class Careful(QuerySet):
    def update(self, **kwargs):
        Parent.objects.filter(name="other").update(name="seen")
        return super().update(**kwargs)


def test_an_update_that_a_bulk_update_calls_records_what_is_not_its_own(plains):
    Parent.objects.create(name="other")
    with policies("testapp.Plain", "testapp.Parent"):
        found = summaries(Careful(Plain).bulk_update, plains, ["name"])
    assert [said["bulk"] for said in found] == ["update", "bulk_update"]


# Inheritance


def test_an_inherited_column_of_a_parent_that_alone_is_audited():
    towers = [Tower.objects.create(floors=1, height=5) for _ in range(3)]
    with policies("testapp.Building"):
        with capture_events() as events:
            assert Tower.objects.filter(height=5).update(floors=F("floors") + 1, height=6) == 3
            assert Tower.objects.update(height=7) == 3
            assert Tower.objects.bulk_update(towers, ["floors", "height"], batch_size=2) == 3
            assert Tower.objects.bulk_update(towers, ["height"]) == 3
        update, bulk_update = events
        assert update.object_type == bulk_update.object_type == "testapp.building"
        assert update.data["filter"] == "height = 5"
        assert update.data["values"] == {"floors": {"$expression": "floors + 1"}}
        assert (bulk_update.data["fields"], bulk_update.data["rows"]) == (["floors"], 3)
    with policies("testapp.Building", bulk="off"):
        assert recorded(Tower.objects.update, floors=9) == []
    assert set(Tower.objects.values_list("floors", flat=True)) == {9}


def test_a_child_that_is_audited_decides_about_its_inherited_columns():
    Garage.objects.create(floors=1)
    with policies("testapp.Garage"):
        [said] = summaries(Garage.objects.update, floors=2)
        assert said["values"] == {"floors": 2}
    with policies("testapp.Building"):
        assert len(recorded(Garage.objects.update, floors=3)) == 1
        assert len(recorded(Building.objects.update, floors=4)) == 1


# Relations: the policy of the owner decides about its many-to-many fields


@pytest.mark.parametrize("bulk", ["summary", "off"])
def test_rows_of_a_relation_are_read_whatever_their_own_policy_says(bulk):
    for code in "ab":
        Person.objects.create(code=code)
        Film.objects.create(code=code)
    film = Film.objects.get(code="a")
    with policies("testapp.Casting", bulk=bulk):

        def write():
            rows = [Casting(film=film, person_id=code) for code in "ab"]
            Casting.objects.bulk_create(rows)
            Casting.objects.filter(person="b").update(film="b")
            casting = Casting.objects.get(person="a")
            casting.film_id = "b"
            Casting.objects.bulk_update([casting], ["film"])

        with capture_events() as events:
            write()
    assert len(events.named("model.m2m")) >= 3
    assert len(events.named("model.create")) == (1 if bulk == "summary" else 0)
    assert len(events.named("model.update")) == (2 if bulk == "summary" else 0)
    with policies("testapp.Casting", bulk=bulk), capture_events() as events:
        Casting.objects.update(role="x")
    assert not events.named("model.m2m")


def test_rows_of_a_relation_whose_own_model_is_not_audited():
    book = Book.objects.create(title="a")
    reader = Reader.objects.create(name="r")
    with capture_events() as events:
        Loan.objects.bulk_create([Loan(book=book, reader=reader)])
    assert {e.event for e in events} == {"model.m2m"}


def test_a_summary_of_a_column_that_the_order_of_rows_lives_in():
    parent = Parent.objects.create(name="p")
    steps = [Step.objects.create(parent=parent, name=name) for name in "ab"]
    with policies("testapp.Step"), capture_events() as events:
        parent.set_step_order([step.pk for step in reversed(steps)])
    [event] = events
    assert (event.data["bulk"], event.data["fields"]) == ("bulk_update", ["_order"])
