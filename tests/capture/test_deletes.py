"""What deletes, and the field updates that come with them, leave in the trail."""

import datetime as dt

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.migrations.state import ProjectState
from django.db.models import ProtectedError, RestrictedError
from django.db.models.deletion import Collector
from django.db.models.signals import post_delete, pre_delete
from django.db.models.sql.subqueries import DeleteQuery
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_signal_audit import internals, set_actor, suspend_audit
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.capture.helpers import recorded, rolled_back, settings_for, told
from tests.testapp.models import (
    Account,
    Author,
    Book,
    BookProxy,
    Building,
    Chapter,
    Child,
    Composite,
    Deed,
    Estate,
    Garage,
    Hangar,
    Keeper,
    Lien,
    Loan,
    Parent,
    Place,
    Plain,
    Profile,
    Quick,
    Reader,
    Reading,
    Remark,
    Restaurant,
    Sample,
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
    "adelete": lambda author: async_to_sync(author.adelete)(),
    "adelete of a queryset": lambda author: async_to_sync(Author.objects.all().adelete)(),
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
    key = tag.pk
    assert recorded(tag.delete) == [
        ("m2m", str(book.pk), {"tags": {"added": [], "removed": [key]}})
    ]
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


def test_a_child_deleted_by_a_bare_query_is_recorded():
    garage = Garage.objects.create(floors=2, cars=3)
    told = recorded(DeleteQuery(Garage).delete_batch, [garage.pk], "default")
    assert [(operation, key) for operation, key, _ in told] == [("delete", str(garage.pk))]


def kinds(events):
    """The model events as ``(operation, object_type, object_id)``, in their order."""
    return [(e.event.removeprefix("model."), e.object_type, e.object_id) for e in events]


@pytest.mark.parametrize("lazy", [False, True], ids=["instance", "queryset"])
def test_set_null_set_default_and_set_are_told_as_what_a_delete_did(lazy):
    first, second = Parent.objects.create(name="a"), Parent.objects.create(name="b")
    Keeper.objects.create(nullable=second, default=second, chosen=second)
    with capture_events() as events:
        (Parent.objects.filter(pk=second.pk) if lazy else second).delete()
    assert [e.data for e in events.named("model.update")] == [{"bulk": "on_delete"}] * 3
    assert Keeper.objects.get().chosen == first


@pytest.mark.parametrize("bulk", ["summary", "off"])
@pytest.mark.parametrize("lazy", [False, True], ids=["instance", "queryset"])
def test_set_null_is_recorded_by_row_under_every_policy_of_bulk_writes(lazy, bulk):
    author = Author.objects.create(name="Ada")
    book = Book.objects.create(title="Notes", author=author)
    key = author.pk
    with (
        override_settings(SIGNAL_AUDIT=settings_for("testapp.Book", bulk=bulk)),
        capture_events() as events,
    ):
        (Author.objects.all() if lazy else author).delete()
    assert told(events)[0] == ("update", str(book.pk), {"author": [key, None]})
    assert len(events) == 2


def test_field_updates_of_many_instances_are_written_and_recorded_in_chunks():
    first, second = Parent.objects.create(name="a"), Parent.objects.create(name="b")
    with suspend_audit():
        Keeper.objects.bulk_create([Keeper(chosen=second) for _ in range(1100)])
    with capture_events() as events:
        second.delete()
    updates = events.named("model.update")
    assert len({e.object_id for e in updates}) == 1100
    assert {tuple(e.changes["chosen"])[1] for e in updates} == {first.pk}
    assert Keeper.objects.filter(chosen=first).count() == 1100


def test_protect_and_restrict_that_refuse_a_delete_leave_nothing():
    for name, error in (("protects", ProtectedError), ("restricts", RestrictedError)):
        estate = Estate.objects.create()
        Lien.objects.create(**{name: estate})
        for delete in (estate.delete, Estate.objects.filter(pk=estate.pk).delete):
            with capture_events() as events, pytest.raises(error):
                delete()
            assert events == []
            assert Estate.objects.filter(pk=estate.pk).exists()


def test_do_nothing_leaves_the_rows_and_no_event_of_them():
    estate = Estate.objects.create()
    deed = Deed.objects.create(estate=estate)
    key = str(estate.pk)
    with capture_events() as events:
        estate.delete()
    assert kinds(events) == [("delete", "testapp.estate", key)]
    assert Deed.objects.filter(pk=deed.pk).exists()


def test_a_tree_of_one_model_is_recorded_each_row_once():
    top = Estate.objects.create()
    below = [Estate.objects.create(owner=top) for _ in range(2)]
    keys = {str(estate.pk) for estate in [top, *below]}
    # MariaDB looks at foreign keys at once, so Django sets them to NULL first.
    deleted = [key for operation, key, _ in recorded(top.delete) if operation == "delete"]
    assert len(deleted) == 3
    assert set(deleted) == keys


def test_generic_relations_cascade_and_are_recorded():
    estate, other = Estate.objects.create(), Estate.objects.create()
    remarks = [Remark.objects.create(about=estate) for _ in range(2)]
    Remark.objects.create(about=other)
    expected = {("delete", "testapp.remark", str(r.pk)) for r in remarks}
    expected.add(("delete", "testapp.estate", str(estate.pk)))
    with capture_events() as events:
        estate.delete()
    assert len(events) == 3
    assert set(kinds(events)) == expected


def test_children_are_recorded_before_the_parents_that_they_point_at():
    parent = Parent.objects.create(name="p")
    for name in "ab":
        Child.objects.create(parent=parent, name=name)
    with capture_events() as events:
        parent.delete()
    assert [e.object_type for e in events] == ["testapp.child"] * 2 + ["testapp.parent"]


@pytest.mark.parametrize("lazy", [False, True], ids=["instance", "queryset"])
def test_proxies_are_deleted_as_their_concrete_model(lazy):
    book = BookProxy.objects.create(title="a")
    key = str(book.pk)
    with capture_events() as events:
        (BookProxy.objects.all() if lazy else book).delete()
    assert kinds(events) == [("delete", "testapp.book", key)]
    assert events[0].object_repr == "a"


def test_a_parent_kept_by_keep_parents_stays_and_the_child_is_recorded():
    garage = Garage.objects.create(floors=3)
    key = str(garage.pk)
    with capture_events() as events:
        garage.delete(keep_parents=True)
    assert kinds(events) == [("delete", "testapp.garage", key)]
    assert Building.objects.exists()


def test_an_actor_who_deletes_their_own_account_is_recorded_before_and_after():
    with override_settings(SIGNAL_AUDIT={"MODELS": {"auth.User": {}}}):
        user = User.objects.create(username="ada")
        key = str(user.pk)
        with set_actor(user):
            user.first_name = "Ada"
            user.save()
            user.delete()
        said = AuditRecord.objects.filter(object_type="auth.user", actor_id=key)
        assert sorted(said.values_list("event", "actor_label")) == [
            ("model.delete", "ada"),
            ("model.update", "ada"),
        ]


def test_the_trail_stays_when_content_types_are_removed():
    remark = Remark.objects.create(about=Estate.objects.create())
    before = AuditRecord.objects.count()
    with capture_events() as events:
        ContentType.objects.get_for_model(Estate).delete()
    assert kinds(events) == [("delete", "testapp.remark", str(remark.pk))]
    assert AuditRecord.objects.count() == before + 1
    ContentType.objects.clear_cache()


def test_rows_of_a_many_to_many_field_that_go_with_either_end_are_told_of_its_owner():
    book, other = Book.objects.create(title="a"), Book.objects.create(title="b")
    tag = Tag.objects.create(name="t")
    book.tags.add(tag)
    other.tags.add(tag)
    keys = {str(book.pk), str(other.pk)}
    removed = {"tags": {"added": [], "removed": [tag.pk]}}
    with capture_events() as events:
        Tag.objects.all().delete()
    assert {e.object_id for e in events} == keys
    assert [e.changes for e in events.named("model.m2m")] == [removed] * 2


@pytest.mark.parametrize("signal", [pre_delete, post_delete], ids=["pre_delete", "post_delete"])
def test_a_delete_inside_of_a_receiver_is_recorded_once_and_by_itself(signal):
    def delete_another(instance, **kwargs):
        if instance.name == "other":
            return
        Quick.objects.all().delete()
        Author.objects.filter(name="other").delete()

    author = Author.objects.create(name="Ada")
    others = [Author.objects.create(name="other"), Quick.objects.create(name="a")]
    keys = {("delete", o._meta.label_lower, str(o.pk)) for o in [author, *others]}
    signal.connect(delete_another, sender=Author)
    try:
        with capture_events() as events:
            author.delete()
    finally:
        signal.disconnect(delete_another, sender=Author)
    assert len(events) == 3
    assert set(kinds(events)) == keys
    assert {e.object_repr for e in events} >= {"Ada", "other"}


def test_a_delete_rolled_back_by_a_savepoint_leaves_nothing():
    Author.objects.create(name="Ada")
    with transaction.atomic():
        rolled_back(Author.objects.all().delete)
        rolled_back(Author.objects.get().delete)
    assert not AuditRecord.objects.filter(event="model.delete").exists()
    assert Author.objects.exists()


@pytest.mark.django_db(databases=["default", "other"])
def test_a_delete_on_a_second_alias_is_recorded_there():
    author = Author.objects.using("other").create(name="Ada")
    Book.objects.using("other").create(title="a", author=author)
    Author.objects.create(pk=author.pk, name="here")
    with capture_events() as events:
        author.delete()
        Book.objects.using("other").all().delete()
    assert [(e.database, e.event) for e in events] == [
        ("other", "model.update"),
        ("other", "model.delete"),
        ("other", "model.delete"),
    ]
    assert AuditRecord.objects.using("other").filter(event="model.delete").count() == 2
    assert Author.objects.get().name == "here"


@pytest.mark.parametrize("lazy", [False, True], ids=["instance", "queryset"])
def test_a_delete_in_a_data_migration_is_recorded_with_its_cascades(lazy):
    book = Book.objects.create(title="a")
    chapter = Chapter.objects.create(book=book, number=1)
    expected = {
        ("delete", "testapp.book", str(book.pk)),
        ("delete", "testapp.chapter", str(chapter.pk)),
    }
    old = ProjectState.from_apps(apps).apps.get_model("testapp", "Book")
    with capture_events() as events:
        (old.objects.all() if lazy else old.objects.get()).delete()
    assert len(events) == 2
    assert set(kinds(events)) == expected


QUERIES = {
    # what a delete costs more than without the package: for each chunk one locked SELECT
    "unaudited instance": (lambda: Lien.objects.get().delete(), lambda: [Lien()], 0),
    "unaudited queryset": (lambda: Lien.objects.all().delete(), lambda: [Lien(), Lien()], 0),
    "fast instance": (lambda: Deed.objects.get().delete(), lambda: [Deed(estate_id=1)], 1),
    "collected instances": (
        lambda: Composite.objects.all().delete(),
        lambda: [Composite(tenant=1, number=n, name="a") for n in range(3)],
        1,
    ),
    "fast queryset": (
        lambda: Deed.objects.all().delete(),
        lambda: [Deed(estate_id=1) for n in range(500)],
        1,
    ),
    "fast queryset of three chunks": (
        lambda: Deed.objects.all().delete(),
        lambda: [Deed(estate_id=1) for n in range(1200)],
        # one piece, all keys; then for each chunk its rows, and a DELETE of its own
        2 + 3 + 2,
    ),
    "summary": (
        lambda: Reading.objects.filter(number__gte=0).delete(),
        lambda: [Reading(number=n) for n in range(1200)],
        0,
    ),
}


@pytest.mark.parametrize("kind", QUERIES)
def test_fast_deletes_stay_fast_and_each_kind_costs_what_it_must(kind):
    delete, make, more = QUERIES[kind]
    counts = {}
    Account.objects.create(email="a@b.c")  # takes SQLite's write lock
    with transaction.atomic():
        for name in ("own", "audited"):
            with suspend_audit():
                rows = make()
                type(rows[0]).objects.bulk_create(rows)
            with CaptureQueriesContext(connection) as captured:
                if name == "own":
                    with suspend_audit():
                        delete()
                else:
                    delete()
            counts[name] = len(captured)
    assert counts["audited"] <= counts["own"] + more


def summary(events):
    [event] = events
    assert (event.event, event.object_id, event.object_repr) == ("model.delete", None, "")
    assert event.changes == {}
    return event.object_type, event.data


def test_bulk_summary_makes_one_event_of_a_fast_delete():
    Reading.objects.bulk_create([Reading(number=n) for n in range(1200)])
    with capture_events() as events:
        assert Reading.objects.filter(number__gte=100).delete()[0] == 1100
    assert summary(events) == (
        "testapp.reading",
        {"bulk": "delete", "summary": True, "filter": "number >= 100", "rows": 1100},
    )
    with capture_events() as events:
        async_to_sync(Reading.objects.all().adelete)()
    assert summary(events)[1]["filter"] == "all rows"


def test_bulk_summary_makes_one_event_of_collected_instances_and_their_tree():
    top = Sample.objects.create(name="top")
    for name in "ab":
        Sample.objects.create(name=name, part_of=top)
    with capture_events() as events:
        assert Sample.objects.filter(name="top").delete()[0] == 3
    assert summary(events) == (
        "testapp.sample",
        {"bulk": "delete", "summary": True, "filter": 'name = "top"', "rows": 3},
    )


def test_bulk_summary_does_not_show_a_secret_of_the_filter():
    Sample.objects.create(api_token="hunter2-hunter2")
    with capture_events() as events:
        Sample.objects.filter(api_token="hunter2-hunter2").delete()
    assert "hunter2" not in str(summary(events))


def test_bulk_summary_makes_no_event_of_nothing():
    for model in (Reading, Sample):
        assert recorded(model.objects.all().delete) == []
        assert recorded(model.objects.none().delete) == []


def test_bulk_summary_is_not_for_deletes_of_an_instance():
    sample, reading = Sample.objects.create(name="a"), Reading.objects.create(number=1)
    for held in (sample, reading):
        key = str(held.pk)
        assert [row[:2] for row in recorded(held.delete)] == [("delete", key)]


def test_bulk_summary_is_not_for_rows_that_go_with_another_models():
    estate = Estate.objects.create()
    reading = Reading.objects.create(number=1, estate=estate)
    expected = [
        ("delete", "testapp.reading", str(reading.pk)),
        ("delete", "testapp.estate", str(estate.pk)),
    ]
    with capture_events() as events:
        Estate.objects.all().delete()
    assert kinds(events) == expected


def test_bulk_summary_leaves_cascades_to_their_own_policies():
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Book", bulk="summary")):
        book = Book.objects.create(title="a")
        chapter = Chapter.objects.create(book=book, number=1)
        tag = Tag.objects.create(name="t")
        book.tags.add(tag)
        with capture_events() as events:
            Book.objects.filter(title="a").delete()
    told = [(e.event, e.object_id) for e in events]
    assert len(told) == 3
    assert set(told[:2]) == {("model.m2m", str(book.pk)), ("model.delete", str(chapter.pk))}
    assert told[2] == ("model.delete", None)


def test_bulk_summary_of_a_child_holds_for_its_parents_row_too():
    Hangar.objects.create(floors=1)
    Hangar.objects.create(floors=2)
    with capture_events() as events:
        Hangar.objects.all().delete()
    assert summary(events)[1]["rows"] == 2
    assert not Building.objects.exists()


def test_bulk_summary_counts_the_rows_of_proxies_too():
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Book", bulk="summary")):
        BookProxy.objects.create(title="a")
        Book.objects.create(title="b")
        with capture_events() as events:
            BookProxy.objects.all().delete()
    assert summary(events)[1]["rows"] == 2


def test_bulk_off_makes_no_event_but_for_cascades():
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Parent", bulk="off")):
        parent = Parent.objects.create(name="p")
        child = Child.objects.create(parent=parent, name="a")
        with capture_events() as events:
            Parent.objects.all().delete()
        assert kinds(events) == [("delete", "testapp.child", str(child.pk))]
        parent = Parent.objects.create(name="p")
        assert [row[0] for row in recorded(parent.delete)] == ["delete"]


def test_bulk_summary_makes_none_where_deletes_are_not_recorded():
    policy = settings_for("testapp.Reading", bulk="summary", on=["create"])
    with override_settings(SIGNAL_AUDIT=policy):
        Reading.objects.create(number=1)
        assert recorded(Reading.objects.all().delete) == []


def test_bulk_summary_still_tells_the_owners_of_many_to_many_rows():
    policies = {"MODELS": {"testapp.Loan": {"bulk": "summary"}}}
    book, reader = Book.objects.create(title="a"), Reader.objects.create(name="r")
    with override_settings(SIGNAL_AUDIT=policies):
        Loan.objects.create(book=book, reader=reader)
        with capture_events() as events:
            Loan.objects.filter(book=book).delete()
    assert [(e.event, e.object_id, e.changes) for e in events.named("model.m2m")] == [
        ("model.m2m", str(book.pk), {"readers": {"added": [], "removed": [reader.pk]}})
    ]
    assert summary(events.named("model.delete"))[0] == "testapp.loan"


def test_a_summary_is_rolled_back_with_what_it_tells():
    Reading.objects.create(number=1)
    rolled_back(Reading.objects.all().delete)
    assert not AuditRecord.objects.filter(event="model.delete").exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", [Reading, Sample])
def test_a_summary_is_committed_together_with_what_it_tells(model):
    model.objects.create(**({"number": 1} if model is Reading else {}))
    model.objects.all().delete()
    record = AuditRecord.objects.get(event="model.delete")
    assert record.object_id is None
    assert record.data["rows"] == 1
