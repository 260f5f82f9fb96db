"""What deletes, and the field updates that come with them, leave in the trail."""

import datetime as dt

import pytest
from django.db import connection, transaction
from django.db.models.deletion import Collector
from django.db.models.signals import pre_delete
from django.db.models.sql.subqueries import DeleteQuery
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_signal_audit import internals, suspend_audit
from django_signal_audit.testing import capture_events
from tests.capture.helpers import recorded, settings_for, told
from tests.testapp.models import (
    Account,
    Author,
    Book,
    Building,
    Chapter,
    Child,
    Composite,
    Garage,
    Keeper,
    Parent,
    Place,
    Plain,
    Profile,
    Quick,
    Restaurant,
    Tag,
    Topic,
    Tower,
)

pytestmark = pytest.mark.django_db


DELETES = {
    "instance": lambda author: author.delete(),
    "queryset": lambda author: Author.objects.filter(pk=author.pk).delete(),
    "queryset of all": lambda author: Author.objects.all().delete(),
    "joined filter": lambda author: Author.objects.filter(books__title="Notes").delete(),
    "distinct": lambda author: Author.objects.filter(books__title="Notes").distinct().delete(),
}


@pytest.mark.parametrize("way", DELETES)
def test_a_delete_holds_the_last_values(way):
    author = Author.objects.create(name="Ada", born=dt.date(1815, 12, 10))
    book = Book.objects.create(title="Notes", author=author)
    key = author.pk
    with capture_events() as events:
        DELETES[way](author)
    assert told(events) == [
        ("update", str(book.pk), {"author": [key, None]}),
        (
            "delete",
            str(key),
            {"id": [key, None], "name": ["Ada", None], "born": ["1815-12-10", None]},
        ),
    ]
    assert events[1].object_repr == "Ada"
    assert not Author.objects.exists()


def test_the_last_values_are_what_the_database_held():
    stale = Author.objects.create(name="Ada")
    Author.objects.update(name="Bob")
    [(_, _, changes)] = recorded(stale.delete)
    assert changes["name"] == ["Bob", None]


def test_a_receiver_that_changes_the_row_before_its_delete_is_seen():
    def change(instance, **kwargs):
        Author.objects.filter(pk=instance.pk).update(name="changed")

    author = Author.objects.create(name="Ada")
    pre_delete.connect(change, sender=Author)
    try:
        told = recorded(author.delete)
    finally:
        pre_delete.disconnect(change, sender=Author)
    assert [row[0] for row in told] == ["update", "delete"]
    assert told[1][2]["name"] == ["changed", None]


def test_cascades_are_recorded_each():
    parent = Parent.objects.create(name="p")
    children = [Child.objects.create(parent=parent, name=n) for n in "ab"]
    Profile.objects.create(parent=parent)
    keys = {("testapp.child", str(c.pk)) for c in children}
    keys |= {("testapp.parent", str(parent.pk)), ("testapp.profile", str(parent.pk))}
    with capture_events() as events:
        Parent.objects.filter(pk=parent.pk).delete()
    assert {(e.object_type, e.object_id) for e in events} == keys
    assert len(events) == 4
    assert {e.event for e in events} == {"model.delete"}


def test_a_cascade_from_an_unaudited_model_is_recorded():
    tag = Tag.objects.create(name="t")
    book = Book.objects.create(title="Notes")
    book.tags.add(tag)
    assert recorded(tag.delete) == []
    with override_settings(SIGNAL_AUDIT={"MODELS": {"testapp.Book": False}}):
        chapter = Chapter.objects.create(book=book, number=1)
        assert [row[:2] for row in recorded(book.delete)] == [("delete", str(chapter.pk))]


@pytest.mark.parametrize("lazy", [False, True], ids=["instances", "queryset"])
def test_what_keeps_its_row_is_updated(lazy):
    first, second = Parent.objects.create(name="a"), Parent.objects.create(name="b")
    keepers = [
        Keeper.objects.create(nullable=second, default=second, chosen=second) for _ in range(2)
    ]
    with capture_events() as events:
        if lazy:
            Parent.objects.filter(pk=second.pk).delete()
        else:
            second.delete()
    key = int(events[-1].object_id)
    found = {}
    for event in events.named("model.update"):
        assert not set(found.setdefault(event.object_id, {})) & set(event.changes)
        found[event.object_id] |= event.changes
    assert found == {
        str(keeper.pk): {
            "nullable": [key, None],
            "default": [key, None],
            "chosen": [key, first.pk],
        }
        for keeper in keepers
    }
    assert [e.event for e in events][-1] == "model.delete"


def test_a_refused_delete_leaves_nothing():
    def refuse(**kwargs):
        raise PermissionError

    author = Author.objects.create(name="Ada")
    pre_delete.connect(refuse, sender=Author)
    try:
        with capture_events() as events, pytest.raises(PermissionError), transaction.atomic():
            author.delete()
    finally:
        pre_delete.disconnect(refuse, sender=Author)
    assert events == []


def test_a_delete_of_nothing_leaves_nothing():
    assert recorded(Author.objects.filter(pk=-1).delete) == []
    assert recorded(Author.objects.none().delete) == []
    assert recorded(Chapter.objects.filter(pk=-1).delete) == []


def test_an_audited_child_is_deleted_once_with_inherited_values():
    restaurant = Restaurant.objects.create(name="Roma", stars=2)
    key = restaurant.pk
    with capture_events() as events:
        restaurant.delete()
    [event] = events
    assert (event.object_type, event.object_id) == ("testapp.restaurant", str(key))
    assert event.changes["name"] == ["Roma", None]
    assert event.changes["stars"] == [2, None]


def test_a_child_goes_with_its_parent():
    restaurant = Restaurant.objects.create(name="Roma", stars=2)
    with capture_events() as events:
        Place.objects.get(pk=restaurant.pk).delete()
    assert [(e.object_type, e.event) for e in events] == [("testapp.restaurant", "model.delete")]


@pytest.mark.parametrize(
    ("model", "recorded_as"), [(Tower, "testapp.building"), (Garage, "testapp.garage")]
)
@pytest.mark.parametrize("through_parent", [False, True])
def test_a_multi_table_row_is_deleted_once(model, recorded_as, through_parent):
    held = model.objects.create(floors=4)
    key = held.pk
    with capture_events() as events:
        (Building.objects.get(pk=key) if through_parent else held).delete()
    [event] = events
    assert (event.object_type, event.object_id) == (recorded_as, str(key))
    assert event.changes["floors"] == [4, None]


def test_a_parent_that_is_kept_is_not_recorded_as_deleted():
    tower = Tower.objects.create(floors=4)
    assert recorded(tower.delete, keep_parents=True) == []
    assert Building.objects.exists()


def test_every_kind_of_row_is_deleted_as_django_counts():
    Topic.everything.create(name="a", hidden=True)
    with capture_events() as events:
        assert Topic.everything.all().delete()[0] == 1
    assert [row[0] for row in told(events)] == ["delete"]

    Composite.objects.create(tenant=1, number=2, name="a")
    assert [row[:2] for row in recorded(Composite.objects.all().delete)] == [("delete", "[1,2]")]


def test_deletes_cross_chunks():
    Chapter.objects.bulk_create(
        [Chapter(book=Book.objects.create(title="a"), number=i) for i in range(1)]
    )
    book = Book.objects.get()
    Chapter.objects.bulk_create([Chapter(book=book, number=i) for i in range(1, 1200)])
    with capture_events() as events:
        assert Chapter.objects.filter(number__gte=0).delete() == (1200, {"testapp.Chapter": 1200})
    assert sorted(e.changes["number"][0] for e in events) == list(range(1200))

    Author.objects.bulk_create([Author(name=str(i)) for i in range(1200)])
    with capture_events() as events:
        assert Author.objects.all().delete()[0] == 1200
    assert len({e.object_id for e in events}) == 1200
    assert not Author.objects.exists()


def test_masked_values_stay_masked_and_on_decides():
    account = Account.objects.create(email="a@b.c", address="Main St", note="n")
    [(_, _, changes)] = recorded(account.delete)
    assert changes["address"] == ["[redacted]", None]
    assert "note" not in changes
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Chapter", on=["create", "update"])):
        book = Book.objects.create(title="a")
        chapter = Chapter.objects.create(book=book, number=1)
        assert recorded(chapter.delete) == []
        Chapter.objects.create(book=book, number=1)
        assert recorded(Chapter.objects.all().delete) == []


def test_fast_deletes_stay_fast(django_assert_num_queries):
    book = Book.objects.create(title="a")
    Chapter.objects.bulk_create([Chapter(book=book, number=i) for i in range(50)])
    chapters = Chapter.objects.filter(number__lt=40)
    assert Collector(using="default").can_fast_delete(chapters)
    # A locked SELECT and the DELETE; MariaDB finds the rows first, so as not to wait for others.
    found_first = internals.update_passes_locked_rows(connection)
    with django_assert_num_queries(2 + found_first) as captured:
        assert chapters.delete() == (40, {"testapp.Chapter": 40})
    if connection.vendor == "postgresql":
        assert "FOR NO KEY UPDATE" in captured.captured_queries[0]["sql"]
    chapter = Chapter.objects.first()
    with django_assert_num_queries(2):
        chapter.delete()


@pytest.mark.parametrize(
    ("prepare", "more"),
    [
        (lambda: Quick.objects.create(name="a"), 1),
        (lambda: Author.objects.create(name="a"), 1),
        (lambda: Plain.objects.create(name="a"), 0),
    ],
    ids=["fast", "with an update of others", "unaudited"],
)
def test_queries_of_a_delete(prepare, more, django_assert_num_queries):
    Account.objects.create(email="a@b.c")  # takes SQLite's write lock
    held, other = prepare(), prepare()
    with suspend_audit(), CaptureQueriesContext(connection) as own:
        held.delete()
    with CaptureQueriesContext(connection) as audited:
        other.delete()
    assert len(audited) <= len(own) + more + 1


@pytest.mark.parametrize("lazy", [False, True], ids=["instances", "queryset"])
@pytest.mark.parametrize(
    "options", [{"on": ["delete"]}, {"exclude_fields": ["nullable", "default", "chosen"]}]
)
def test_what_keeps_its_row_is_changed_unrecorded_where_no_policy_asks_for_it(options, lazy):
    first, second = Parent.objects.create(name="a"), Parent.objects.create(name="b")
    keeper = Keeper.objects.create(nullable=second, default=second, chosen=second)
    with (
        override_settings(SIGNAL_AUDIT=settings_for("testapp.Keeper", **options)),
        capture_events() as events,
    ):
        (Parent.objects.filter(pk=second.pk) if lazy else second).delete()
    assert [(e.object_type, e.event) for e in events] == [("testapp.parent", "model.delete")]
    keeper.refresh_from_db()
    assert (keeper.nullable, keeper.default, keeper.chosen) == (None, None, first)


def test_rows_deleted_by_a_bare_query_are_recorded_too():
    book = Book.objects.create(title="a")
    keys = [Chapter.objects.create(book=book, number=n).pk for n in (1, 2)]
    told = recorded(DeleteQuery(Chapter).delete_batch, keys, "default")
    assert [(operation, key) for operation, key, _ in told] == [("delete", str(k)) for k in keys]
    assert not Chapter.objects.exists()
