"""What ``QuerySet.update``, ``bulk_update`` and ``bulk_create`` leave in the trail."""

import threading
import time

import django
import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Q,
    Subquery,
    Sum,
    Value,
    When,
)
from django.db.models.functions import Concat, Lower, Now
from django.db.models.query import QuerySet
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_signal_audit.capture import querysets, rows
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import routing
from django_signal_audit.testing import capture_events
from tests.capture.helpers import recorded, settings_for, told
from tests.testapp.models import (
    Account,
    Author,
    Book,
    BookProxy,
    Building,
    Casting,
    Chapter,
    Composite,
    Contract,
    Document,
    Film,
    Garage,
    Gauge,
    Person,
    Plain,
    Restaurant,
    Seat,
    Tag,
    Tower,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def books():
    author = Author.objects.create(name="Ada")
    books = [
        Book.objects.create(title="one", stock=1, author=author),
        Book.objects.create(title="two", stock=2, author=author),
        Book.objects.create(title="three", stock=3),
    ]
    tags = [Tag.objects.create(name=name) for name in ("red", "red", "blue")]
    for book in books[:2]:
        book.tags.set(tags)
    return books


def titles(events):
    """Changes of updates by the object's place in creation order."""
    return {key: changes for _, key, changes in told(events)}


def test_constants(books):
    one, two, three = books
    with capture_events() as events:
        assert Book.objects.update(stock=2) == 3
    assert titles(events) == {str(one.pk): {"stock": [1, 2]}, str(three.pk): {"stock": [3, 2]}}
    assert all(e.data == {"bulk": "update"} for e in events)
    assert two.pk


def test_expressions_are_recorded_as_values(books):
    with capture_events() as events:
        assert (
            Book.objects.filter(stock__lt=3).update(
                stock=F("stock") * 10, title=Concat("title", Value("!")), published=Now()
            )
            == 2
        )
    for event, (stock, title) in zip(events, [(1, "one"), (2, "two")], strict=True):
        assert event.changes["stock"] == [stock, stock * 10]
        assert event.changes["title"] == [title, f"{title}!"]
        assert event.changes["published"][0] is None


def test_case(books):
    with capture_events() as events:
        Book.objects.update(stock=Case(When(title="two", then=Value(20)), default=F("stock")))
    assert titles(events) == {str(books[1].pk): {"stock": [2, 20]}}


def test_a_filter_on_the_changed_column(books):
    with capture_events() as events:
        assert Book.objects.filter(stock=1).update(stock=F("stock") + 1) == 1
    assert titles(events) == {str(books[0].pk): {"stock": [1, 2]}}


def test_a_related_manager(books):
    with capture_events() as events:
        assert Author.objects.get().books.update(stock=0) == 2
    assert titles(events) == {
        str(books[0].pk): {"stock": [1, 0]},
        str(books[1].pk): {"stock": [2, 0]},
    }


SHAPES = {
    "joined": lambda: Book.objects.filter(tags__name="red"),
    "joined outer": lambda: Book.objects.filter(Q(author__name="Ada") | Q(author__name="x")),
    "distinct": lambda: Book.objects.filter(tags__name="red").distinct(),
    "exclude joined": lambda: Book.objects.exclude(author=None),
    "annotated": lambda: Book.objects.annotate(n=Count("tags")).filter(n=3),
    "annotated value": lambda: Book.objects.annotate(n=F("stock") + 1).filter(n__lte=3),
    "alias": lambda: Book.objects.alias(n=F("stock") + 1).filter(n__lte=3),
    "values": lambda: Book.objects.filter(stock__lte=2).values("title"),
    "values_list": lambda: Book.objects.filter(stock__lte=2).values_list("title", flat=True),
    "grouped": lambda: Book.objects.filter(stock__lte=2).values("author").annotate(Count("stock")),
    "select_related": lambda: Book.objects.select_related("author").filter(stock__lte=2),
    "prefetched": lambda: Book.objects.prefetch_related("tags").filter(stock__lte=2),
    "locked": lambda: Book.objects.select_for_update().filter(author__name="Ada").distinct(),
    "ordered": lambda: Book.objects.filter(stock__lte=2).order_by("-stock"),
    "ordered by annotation": lambda: (
        Book.objects.filter(stock__lte=2).annotate(x=F("stock")).order_by("-x")
    ),
    "only": lambda: Book.objects.only("title").filter(stock__lte=2),
    "subquery": lambda: Book.objects.filter(
        pk__in=Book.objects.filter(author__name="Ada").values("pk")
    ),
    "exists": lambda: Book.objects.filter(
        Exists(Author.objects.filter(pk=OuterRef("author"), name="Ada"))
    ),
    "proxy": lambda: BookProxy.objects.filter(stock__lte=2),
    "extra": lambda: Book.objects.extra(where=["stock <= 2"], select={"y": "1"}),
    "or": lambda: Book.objects.filter(stock=1) | Book.objects.filter(stock=2),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [9, F("stock") + 8], ids=["constant", "expression"])
def test_every_shape_of_queryset(books, shape, value):
    with capture_events() as events:
        assert SHAPES[shape]().update(stock=value) == 2
    new = (9, 9) if value == 9 else (9, 10)
    assert titles(events) == {
        str(books[0].pk): {"stock": [1, new[0]]},
        str(books[1].pk): {"stock": [2, new[1]]},
    }
    assert {e.object_type for e in events} == {"testapp.book"}
    assert list(Book.objects.order_by("pk").values_list("stock", flat=True)) == [*new, 3]


def test_a_value_taken_from_an_annotation(books):
    name = Author.objects.filter(pk=OuterRef("author")).values("name")[:1]
    found = Book.objects.filter(tags__name="blue").annotate(by=Subquery(name))
    with capture_events() as events:
        assert found.update(title=F("by")) == 2
    assert titles(events) == {
        str(books[0].pk): {"title": ["one", "Ada"]},
        str(books[1].pk): {"title": ["two", "Ada"]},
    }


def test_a_relation_by_instance_and_key(books):
    bob = Author.objects.create(name="Bob")
    ada = Author.objects.get(name="Ada")
    one = Book.objects.filter(pk=books[0].pk)
    assert recorded(one.update, author=bob) == [
        ("update", str(books[0].pk), {"author": [ada.pk, bob.pk]})
    ]
    assert recorded(one.update, author_id=ada.pk) == [
        ("update", str(books[0].pk), {"author": [bob.pk, ada.pk]})
    ]
    assert recorded(one.update, author=None) == [
        ("update", str(books[0].pk), {"author": [ada.pk, None]})
    ]


def test_an_update_of_nothing_leaves_nothing(books):
    with capture_events() as events:
        assert Book.objects.none().update(stock=9) == 0
        assert Book.objects.filter(pk=-1).update(stock=9) == 0
        assert Book.objects.filter(pk__in=[]).update(stock=9) == 0
        assert Book.objects.update(stock=F("stock")) == 3
    assert events == []


@pytest.mark.parametrize("rows", ["some", "none"])
@pytest.mark.parametrize(
    ("update", "error"),
    [
        (lambda found: found[:1].update(stock=1), TypeError),
        (lambda found: found.union(found).update(stock=1), Exception),
        (lambda found: found.update(stock="many"), ValueError),
        (lambda found: found.update(stock=1, price="x"), Exception),
        (lambda found: found.update(nothing=1), FieldDoesNotExist),
        (lambda found: found.update(stock=1, tags=1), FieldError),
        (lambda found: found.update(stock=F("author__name")), FieldError),
        (lambda found: found.update(stock=Count("tags")), FieldError),
    ],
)
def test_errors_are_those_of_django(books, update, error, rows):
    found = Book.objects.all() if rows == "some" else Book.objects.filter(pk=-1)
    with capture_events() as events, pytest.raises(error):
        update(found)
    assert events == []


def test_distinct_columns(books):
    found = Book.objects.distinct("title")
    if django.VERSION >= (6, 1):
        with pytest.raises(TypeError, match="distinct"):
            found.update(stock=9)
    else:
        assert len(recorded(found.update, stock=9)) == 3


def test_an_inherited_column(books):
    roma = Restaurant.objects.create(name="Roma", stars=1)
    assert recorded(Restaurant.objects.update, name="Pisa", stars=F("stars") + 1) == [
        ("update", str(roma.pk), {"name": ["Roma", "Pisa"], "stars": [1, 2]})
    ]
    garage = Garage.objects.create(floors=1)
    assert recorded(Garage.objects.filter(cars=0).update, floors=2) == [
        ("update", str(garage.pk), {"floors": [1, 2]})
    ]


def test_an_inherited_column_of_a_parent_that_alone_is_audited():
    tower = Tower.objects.create(floors=1, height=5)
    with capture_events() as events:
        assert Tower.objects.filter(height=5).update(floors=F("floors") + 1, height=6) == 1
        assert Tower.objects.filter(height=5).update(floors=7) == 0
        assert Tower.objects.update(height=7) == 1
    assert told(events) == [("update", str(tower.pk), {"floors": [1, 2]})]
    assert {e.object_type for e in events} == {"testapp.building"}
    tower.refresh_from_db()
    assert (tower.floors, tower.height) == (2, 7)


def test_an_inherited_column_that_no_policy_records_is_updated_unrecorded():
    garage, tower = Garage.objects.create(floors=1), Tower.objects.create(floors=1)
    nobody = {"MODELS": {"testapp.Garage": False, "testapp.Building": False}}
    with override_settings(SIGNAL_AUDIT=nobody):
        assert recorded(Garage.objects.update, floors=2) == []
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Building", on=["create"])):
        assert recorded(Tower.objects.update, floors=3) == []
    for held, floors in ((garage, 2), (tower, 3)):
        held.refresh_from_db()
        assert held.floors == floors


def test_a_generated_column_follows():
    document = Document.objects.create(body="a")
    assert recorded(Document.objects.update, body="abc") == [
        ("update", str(document.pk), {"body": ["a", "abc"], "size": [1, 3]})
    ]


def test_a_key_that_is_updated_is_told_under_the_old():
    author = Author.objects.create(name="Ada")
    [(operation, key, changes)] = recorded(Author.objects.update, id=author.pk + 100)
    assert (operation, key) == ("update", str(author.pk))
    assert changes == {"id": [author.pk, author.pk + 100]}


def test_composite_keys():
    for number in (1, 2):
        Composite.objects.create(tenant=1, number=number, name="a")
    with capture_events() as events:
        assert Composite.objects.filter(tenant=1).update(name=Concat("name", Value("b"))) == 2
    assert titles(events) == {
        "[1,1]": {"name": ["a", "ab"]},
        "[1,2]": {"name": ["a", "ab"]},
    }
    [held, _] = Composite.objects.order_by("number")
    held.name = "c"
    assert recorded(Composite.objects.bulk_update, [held], ["name"]) == [
        ("update", "[1,1]", {"name": ["ab", "c"]})
    ]


def test_1200_rows_cross_chunks():
    Author.objects.bulk_create([Author(name=f"{i}") for i in range(1200)])
    with capture_events() as events:
        assert Author.objects.update(name=Concat("name", Value("!"))) == 1200
    assert sorted(int(e.changes["name"][0]) for e in events) == list(range(1200))
    assert all(e.changes["name"][1] == f"{e.changes['name'][0]}!" for e in events)


def test_a_filter_on_other_changed_rows_holds_for_every_chunk():
    Author.objects.bulk_create([Author(name="first"), *(Author(name="a") for _ in range(700))])
    found = Author.objects.annotate(x=Value(1)).filter(Exists(Author.objects.filter(name="first")))
    with capture_events() as events:
        assert found.update(name="b") == 701
    assert len(events) == 701
    assert set(Author.objects.values_list("name", flat=True)) == {"b"}


def test_the_policy_decides():
    plain = Plain.objects.create(name="a")
    with override_settings(SIGNAL_AUDIT=settings_for(on=["create"])):
        assert recorded(Plain.objects.update, name="b") == []
        plain.name = "bulk"
        assert recorded(Plain.objects.bulk_update, [plain], ["name"]) == []
        assert Plain.objects.get().name == "bulk"
        assert len(recorded(Plain.objects.bulk_create, [Plain(name="x")])) == 1
    with override_settings(SIGNAL_AUDIT=settings_for(on=["update"])):
        assert len(recorded(Plain.objects.update, name="c")) == 2
        assert recorded(Plain.objects.bulk_create, [Plain(name="x")]) == []
    with override_settings(
        SIGNAL_AUDIT=settings_for(when=lambda event: event.object_id == str(plain.pk))
    ):
        assert [row[1] for row in recorded(Plain.objects.update, name="d")] == [str(plain.pk)]
    with override_settings(SIGNAL_AUDIT=settings_for(exclude_fields=["name"])):
        assert recorded(Plain.objects.update, name="e") == []
    with override_settings(SIGNAL_AUDIT=settings_for(mask_fields=["name"])):
        assert recorded(Plain.objects.filter(pk=plain.pk).update, name="f") == [
            ("update", str(plain.pk), {"name": ["[redacted]", "[redacted]"]})
        ]


@pytest.mark.django_db(transaction=True)
def test_the_sinks_of_a_policy_are_the_only_ones():
    memory = {"BACKEND": "django_signal_audit.sinks.MemorySink"}
    said = settings_for(sinks=["one"]) | {"SINKS": {"one": memory, "two": memory}}
    with override_settings(SIGNAL_AUDIT=said):
        Plain.objects.create(name="a")
        Plain.objects.update(name="b")
        Author.objects.create(name="c")
        sinks = {route.alias: route.sink for route in routing.all_routes()}
        assert [e.event for e in sinks["one"].events if e.sender == "testapp.Plain"] == [
            "model.create",
            "model.update",
        ]
        assert {e.sender for e in sinks["two"].events} == {"testapp.Author"}


def test_the_wrapped_methods_keep_what_django_notes_on_them():
    for name in ("update", "bulk_create", "bulk_update"):
        assert getattr(QuerySet, name).alters_data is True
    assert hasattr(Author.objects, "update")


def test_many_rows_found_through_a_join_are_written_once_each():
    tags = [Tag.objects.create(name="red") for _ in range(2)]
    books = Book.objects.bulk_create([Book(title=f"{n}") for n in range(600)])
    for tag in tags:
        tag.books.add(*books)
    with capture_events() as events:
        assert Book.objects.filter(tags__name="red").update(stock=F("stock") + 1) == 600
    assert len({e.object_id for e in events}) == len(events) == 600
    assert set(Book.objects.values_list("stock", flat=True)) == {1}


def test_a_joined_filter_on_other_changed_rows_holds_for_every_chunk():
    author = Author.objects.create(name="Ada")
    Book.objects.bulk_create(
        [Book(title="first", author=author), *(Book(title="a", author=author) for _ in range(700))]
    )
    first = Exists(Book.objects.filter(title="first"))
    with capture_events() as events:
        assert Book.objects.filter(first, author__name="Ada").update(title="b") == 701
    assert len(events) == 701
    assert set(Book.objects.values_list("title", flat=True)) == {"b"}


def test_the_calls_of_a_related_manager_on_a_foreign_key_are_the_updates_they_are(books):
    ada, bob = Author.objects.get(name="Ada"), Author.objects.create(name="Bob")
    one, two, three = (str(book.pk) for book in books)
    assert recorded(ada.books.add, books[2]) == [
        ("update", three, {"author": [None, ada.pk]}),
    ]
    assert recorded(ada.books.remove, books[2]) == [
        ("update", three, {"author": [ada.pk, None]}),
    ]
    assert recorded(bob.books.set, books[:1]) == [("update", one, {"author": [ada.pk, bob.pk]})]
    assert recorded(ada.books.clear) == [("update", two, {"author": [ada.pk, None]})]
    assert sorted(recorded(bob.books.set, books[1:])) == sorted(
        [
            ("update", one, {"author": [bob.pk, None]}),
            ("update", two, {"author": [None, bob.pk]}),
            ("update", three, {"author": [None, bob.pk]}),
        ]
    )


def test_the_async_calls(books):
    async def write():
        await Book.objects.filter(pk=books[0].pk).aupdate(stock=F("stock") + 5)
        books[1].stock = 7
        await Book.objects.abulk_update(books[1:2], ["stock"])

    assert recorded(async_to_sync(write)) == [
        ("update", str(books[0].pk), {"stock": [1, 6]}),
        ("update", str(books[1].pk), {"stock": [2, 7]}),
    ]


class Loud(QuerySet):
    def update(self, **kwargs):
        kwargs["title"] = Lower(Value("LOUD"))
        return super().update(**kwargs)


def test_a_queryset_class_that_overrides_update(books):
    assert Loud(Book).filter(pk=books[0].pk).update(stock=2) == 1
    with capture_events() as events:
        assert Loud(Book).filter(pk=books[1].pk).update(stock=3) == 1
        assert Loud(Book).bulk_update(books[2:], ["stock"]) == 1
    assert [(e.object_id, e.changes) for e in events] == [
        (str(books[1].pk), {"stock": [2, 3], "title": ["two", "loud"]}),
        (str(books[2].pk), {"title": ["three", "loud"]}),
    ]


def test_the_key_by_its_short_name_is_refused_as_django_does(books):
    tower = Tower.objects.create()
    for model in (Author, Tower):
        with pytest.raises(FieldDoesNotExist):
            model.objects.update(pk=5)
    assert Tower.objects.get() == tower


def test_update_or_create_is_one_create_or_one_update():
    assert [row[0] for row in recorded(Author.objects.update_or_create, name="Ada")] == ["create"]
    assert recorded(
        Author.objects.update_or_create, name="Ada", defaults={"born": "2000-01-02"}
    ) == [("update", str(Author.objects.get().pk), {"born": [None, "2000-01-02"]})]
    assert recorded(Author.objects.update_or_create, name="Ada") == []


def test_fields_that_alone_make_no_event(books):
    ignored = settings_for("testapp.Book", ignore_only=["stock", "updated"])
    with override_settings(SIGNAL_AUDIT=ignored):
        assert recorded(Book.objects.update, stock=9) == []
        books[0].stock = 8
        assert recorded(Book.objects.bulk_update, books[:1], ["stock"]) == []
        one = Book.objects.filter(pk=books[0].pk)
        assert recorded(one.update, stock=7, title="x") == [
            ("update", str(books[0].pk), {"stock": [8, 7], "title": ["one", "x"]})
        ]
    assert Book.objects.get(pk=books[0].pk).stock == 7


@pytest.mark.django_db(databases=["default", "other"])
def test_an_update_on_a_second_alias_is_recorded_there():
    author = Author.objects.using("other").create(name="Ada")
    with capture_events() as events:
        Author.objects.using("other").update(name="Bob")
        author.name = "Cleo"
        Author.objects.using("other").bulk_update([author], ["name"])
    assert [(e.database, e.changes["name"]) for e in events] == [
        ("other", ["Ada", "Bob"]),
        ("other", ["Bob", "Cleo"]),
    ]
    records = AuditRecord.objects.using("other").filter(event="model.update")
    assert records.count() == 2


# bulk_update


def test_bulk_update_is_told_once_for_each_changed_row(books):
    books[0].stock, books[1].title = 10, "zwei"
    with capture_events() as events:
        assert Book.objects.bulk_update((b for b in books), ["stock", "title"]) == 3
    assert titles(events) == {
        str(books[0].pk): {"stock": [1, 10]},
        str(books[1].pk): {"title": ["two", "zwei"]},
    }


def test_bulk_update_of_many_rows():
    authors = Author.objects.bulk_create([Author(name=f"{i}") for i in range(1100)])
    for author in authors:
        author.name += "!"
    with capture_events() as events:
        assert Author.objects.bulk_update(authors, ["name"]) == 1100
    assert len({e.object_id for e in events}) == len(events) == 1100


@pytest.mark.parametrize(("on", "statements"), [(["create"], 1), (["update"], 2)])
def test_bulk_update_is_cut_only_where_updates_are_recorded(monkeypatch, on, statements):
    monkeypatch.setattr(querysets, "CHUNK", 1)
    plains = [Plain.objects.create(name=name) for name in "ab"]
    with (
        override_settings(SIGNAL_AUDIT=settings_for(on=on)),
        CaptureQueriesContext(connection) as captured,
    ):
        assert Plain.objects.bulk_update(plains, ["name"]) == 2
    assert sum(query["sql"].startswith("UPDATE") for query in captured) == statements


def test_bulk_update_refuses_what_django_refuses(books):
    for size in (0, -1):
        with pytest.raises(ValueError, match="positive"):
            Book.objects.bulk_update(books, ["stock"], batch_size=size)
    with pytest.raises(ValueError, match="primary key"):
        Book.objects.bulk_update(books, ["id"])


# bulk_create


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_bulk_create(keys, batch_size):
    objs = [Author(pk=500 + i if keys else None, name=f"{i}") for i in range(5)]
    with capture_events() as events:
        made = Author.objects.bulk_create((o for o in objs), batch_size)
    assert made == objs
    assert told(events) == [
        (
            "create",
            str(o.pk),
            {"id": [None, o.pk], "name": [None, o.name], "born": [None, None]},
        )
        for o in Author.objects.order_by("name")
    ]
    assert events[0].object_repr == "0"


def test_bulk_create_with_mixed_keys_and_computed_columns():
    with capture_events() as events:
        Document.objects.bulk_create([Document(body="abc"), Document(body="d", state="old")])
        Author.objects.bulk_create([Author(name="a", pk=900), Author(name="b")])
    assert [(e.changes["size"], e.changes["state"]) for e in events if "size" in e.changes] == [
        ([None, 3], [None, "new"]),
        ([None, 1], [None, "old"]),
    ]
    assert len(events) == 4


def test_bulk_create_of_json_with_expressions():
    with capture_events() as events:
        Gauge.objects.bulk_create([Gauge(count=Value(2) + Value(3)), Gauge(count=1)])
    assert [e.changes["count"] for e in events] == [[None, 5], [None, 1]]


def test_bulk_create_refuses_what_django_refuses():
    with pytest.raises(ValueError, match="multi-table"):
        Restaurant.objects.bulk_create([Restaurant(name="a")])
    with pytest.raises(ValueError, match="mutually exclusive"):
        Author.objects.bulk_create([Author(name="a")], ignore_conflicts=True, update_conflicts=True)
    with capture_events() as events:
        assert Author.objects.bulk_create([]) == []
        with pytest.raises(IntegrityError), transaction.atomic():
            Account.objects.bulk_create([Account(email="a@b.c"), Account(email="a@b.c")])
    assert events == []


def test_a_refused_bulk_create_leaves_the_transaction_as_django_does():
    with transaction.atomic():
        with pytest.raises(ValueError, match="unsaved related"):
            Book.objects.bulk_create([Book(title="a", author=Author(name="unsaved"))])
        assert not Book.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_refused_bulk_create_in_autocommit_raises_what_django_raises_and_leaves_nothing():
    with capture_events() as events, pytest.raises(IntegrityError):
        Account.objects.bulk_create([Account(email="a@b.c"), Account(email="a@b.c")])
    assert events == []
    assert not Account.objects.exists()


def test_a_row_whose_key_the_database_does_not_return_is_told_without_it(monkeypatch):
    """As on MySQL and Oracle."""
    features = connections["default"].features
    monkeypatch.setattr(type(features), "can_return_rows_from_bulk_insert", False)
    with capture_events() as events:
        Author.objects.bulk_create([Author(name="a")])
        keyed = Author.objects.bulk_create([Author(pk=800, name="b")])
    assert [(e.object_id, e.changes["name"]) for e in events] == [
        (None, [None, "a"]),
        (str(keyed[0].pk), [None, "b"]),
    ]
    assert [e.data for e in events] == [
        {"bulk": "bulk_create", "key": "unknown"},
        {"bulk": "bulk_create"},
    ]


def test_a_row_whose_unique_value_is_an_expression_is_counted_because_it_cannot_be_found():
    with capture_events() as events:
        Account.objects.bulk_create(
            [Account(email=Lower(Value("A@B.C"))), Account(email="d@e.f")], ignore_conflicts=True
        )
    assert [(e.object_repr, e.data.get("rows_attempted")) for e in events] == [
        (f"Account object ({Account.objects.get(email='d@e.f').pk})", None),
        ("", 1),
    ]
    assert Account.objects.filter(email="a@b.c").exists()


def test_ignored_conflicts_are_not_told():
    held = Account.objects.create(email="held@b.c", address="x")
    with capture_events() as events:
        Account.objects.bulk_create(
            [
                Account(email="held@b.c"),
                Account(email="new@b.c"),
                Account(pk=held.pk, email="other@b.c"),
                Account(pk=700, email="keyed@b.c"),
            ],
            ignore_conflicts=True,
        )
    assert {(op, changes["email"][1]) for op, _, changes in told(events)} == {
        ("create", "new@b.c"),
        ("create", "keyed@b.c"),
    }
    assert {e.object_id for e in events} == {
        str(Account.objects.get(email="new@b.c").pk),
        "700",
    }
    assert all(e.data == {"bulk": "bulk_create", "conflicts": "ignore"} for e in events)


def test_rows_that_no_database_can_name_are_counted():
    with capture_events() as events:
        Author.objects.bulk_create([Author(name="a"), Author(name="b")], ignore_conflicts=True)
    [event] = events
    assert (event.event, event.object_id) == ("model.create", None)
    assert event.data == {"bulk": "bulk_create", "conflicts": "ignore", "rows_attempted": 2}


def conflict_target(*names):
    """What ``bulk_create`` is told a conflict is; on MariaDB every unique column is one."""
    named = connection.features.supports_update_conflicts_with_target
    return {"unique_fields": list(names)} if named else {}


def test_updated_conflicts_are_updates_and_the_rest_creates():
    held = Account.objects.create(email="held@b.c", api_token="", settings={"a": 1})
    same = Account.objects.create(email="same@b.c", settings={"a": 2})
    with capture_events() as events:
        Account.objects.bulk_create(
            [
                Account(email="held@b.c", settings={"a": 2}),
                Account(email="same@b.c", settings={"a": 2}),
                Account(email="new@b.c"),
            ],
            update_conflicts=True,
            update_fields=["settings"],
            **conflict_target("email"),
        )
    update, create = sorted(told(events), key=lambda row: row[0], reverse=True)
    assert update == ("update", str(held.pk), {"settings": [{"a": 1}, {"a": 2}]})
    assert (create[0], create[2]["email"]) == ("create", [None, "new@b.c"])
    assert same.pk


@pytest.mark.parametrize("options", ["ignore", "update"])
def test_conflicts_over_several_columns(options):
    Seat.objects.create(row=1, number=1, guest="Ada")
    how = (
        {"ignore_conflicts": True}
        if options == "ignore"
        else {
            "update_conflicts": True,
            "update_fields": ["guest"],
            **conflict_target("row", "number"),
        }
    )
    with capture_events() as events:
        Seat.objects.bulk_create([Seat(row=1, number=n, guest="Bob") for n in range(1, 401)], **how)
    updates = [row[2] for row in told(events) if row[0] == "update"]
    assert updates == ([] if options == "ignore" else [{"guest": ["Ada", "Bob"]}])
    assert len(events) == 399 + len(updates)


def test_conflicts_by_primary_key():
    author = Author.objects.create(name="Ada")
    with capture_events() as events:
        Author.objects.bulk_create(
            [Author(pk=author.pk, name="Bob"), Author(pk=author.pk + 1, name="Cleo")],
            update_conflicts=True,
            update_fields=["name"],
            **conflict_target("pk"),
        )
    assert [(op, changes["name"]) for op, _, changes in told(events)] == [
        ("update", ["Ada", "Bob"]),
        ("create", [None, "Cleo"]),
    ]


@pytest.mark.parametrize(
    ("on", "expected"), [(["create"], {"create"}), (["update"], {"update"}), (["delete"], set())]
)
def test_on_decides_about_conflicts(on, expected):
    Seat.objects.create(row=1, number=1, guest="Ada")
    with (
        override_settings(SIGNAL_AUDIT=settings_for("testapp.Seat", on=on)),
        capture_events() as events,
    ):
        Seat.objects.bulk_create(
            [Seat(row=1, number=1, guest="Bob"), Seat(row=1, number=2)],
            update_conflicts=True,
            update_fields=["guest"],
            **conflict_target("row", "number"),
        )
    assert {row[0] for row in told(events)} == expected


def test_a_foreign_key_to_a_text_column_in_bulk():
    for code in ("a", "b"):
        Person.objects.create(code=code)
        Film.objects.create(code=code)
    with capture_events() as events:
        Casting.objects.bulk_create(
            [Casting(film_id="a", person_id="b"), Casting(film_id="b", person_id="a")]
        )
        Casting.objects.filter(film__studio=None).update(person="b")
    rows = [e for e in events if e.event != "model.m2m"]
    assert [e.changes["person"] for e in rows] == [[None, "b"], [None, "a"], ["a", "b"]]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="others have no weaker lock")
def test_rows_are_locked_as_weakly_as_an_update_locks_them(books, django_assert_num_queries):
    with django_assert_num_queries(3) as captured:
        Book.objects.filter(author__name="Ada").update(stock=9)
    assert "FOR NO KEY UPDATE" in captured.captured_queries[0]["sql"]
    assert Building.objects.count() == 0


def test_columns_may_have_any_name():
    values = dict.fromkeys(("policy", "original", "name", "replacement", "using"), "new")
    Contract.objects.create(**dict.fromkeys(values, "old"))
    with capture_events() as events:
        assert Contract.objects.update(**values) == 1
    assert events[0].changes == {key: ["old", "new"] for key in values}


# A write that waits for another transaction must see what that one did. Each writer takes
# the same ten pieces, if ten are left; only one of them may succeed. (A guard in a subquery is
# none: PostgreSQL does not ask it again, with or without audit.)


def guarded(chapters):
    left = F("number") + 0
    return {
        "a filter": chapters.filter(number__gte=10),
        "an annotation": chapters.annotate(left=left).filter(left__gte=10),
        "an alias": chapters.alias(left=left).filter(left__gte=10),
        "distinct": chapters.filter(number__gte=10).distinct(),
        "a join": chapters.filter(number__gte=10, book__title="b"),
        "an aggregate": chapters.annotate(n=Count("book"), left=left).filter(left__gte=10, n=1),
    }


WAITING = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def beside(work):
    """Start some work in another thread, and wait until the server makes it wait for a lock."""
    done = []

    def run():
        try:
            done.append(work())
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    give_up = time.monotonic() + 20
    while thread.is_alive() and time.monotonic() < give_up:
        with connection.cursor() as cursor:
            cursor.execute(WAITING[connection.vendor])
            if cursor.fetchone()[0]:
                break
        time.sleep(0.12)  # MariaDB shows what it was a tenth of a second ago, if asked sooner
    return thread, done


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks the whole database")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("guard", guarded(Chapter.objects))
@pytest.mark.parametrize("write", ["update", "delete"])
def test_a_guard_holds_against_a_concurrent_write(guard, write):
    hold_a_guard(guard, write)


def hold_a_guard(guard, write):
    book = Book.objects.create(title="b")
    chapter = Chapter.objects.create(book=book, number=10)

    def take():
        found = guarded(Chapter.objects.filter(pk=chapter.pk))[guard]
        return found.update(number=F("number") - 10) if write == "update" else found.delete()[0]

    with transaction.atomic():
        Chapter.objects.filter(pk=chapter.pk).update(number=F("number") - 10)
        thread, done = beside(take)
    thread.join(20)

    assert done == [0]
    chapter.refresh_from_db()
    assert chapter.number == 0
    updates = AuditRecord.objects.filter(event="model.update")
    assert [record.changes["number"] for record in updates] == [[10, 0]]


@pytest.mark.parametrize("model", [Book, Tower], ids=["own", "inherited"])
def test_a_value_that_is_looked_up_in_the_same_table_is_that_from_before_the_update(
    model, monkeypatch
):
    monkeypatch.setattr(rows, "CHUNK", 2)
    name = "stock" if model is Book else "floors"
    for number in range(1, 6):
        model.objects.create(**{name: number})
    group = Value(1, output_field=IntegerField())
    sums = model.objects.order_by().annotate(one=group).values("one")
    total = Subquery(sums.annotate(total=Sum(name)).values("total"))
    with capture_events() as events:
        assert model.objects.filter(**{f"{name}__gt": 1}).update(**{name: total}) == 4
    assert sorted(model.objects.values_list(name, flat=True)) == [1, 15, 15, 15, 15]
    assert sorted(e.changes[name] for e in events) == [[number, 15] for number in (2, 3, 4, 5)]
    assert model.objects.filter(**{name: 99}).update(**{name: total}) == 0
