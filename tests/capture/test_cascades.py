"""What a database deletes and changes by itself: ``DB_CASCADE`` and its kin of Django 6.1."""

import threading
import tracemalloc

import django
import pytest
from django.contrib.sessions.models import Session
from django.db import (
    DEFAULT_DB_ALIAS,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.migrations.state import ProjectState
from django.db.models.sql.subqueries import DeleteQuery
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_signal_audit import suspend_audit
from django_signal_audit.capture import cascades
from django_signal_audit.capture.cascades import cascade_from
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.capture.helpers import recorded, rolled_back, settings_for, told
from tests.testapp import models
from tests.testapp.models import Author, Book, Harbour, Plain

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(django.VERSION < (6, 1), reason="since Django 6.1"),
]

WAYS = {
    "instance": lambda harbour: harbour.delete(),
    "queryset": lambda harbour: Harbour.objects.filter(pk=harbour.pk).delete(),
    "joined queryset": lambda harbour: Harbour.objects.filter(pk=harbour.pk).distinct().delete(),
    "bare statement": lambda harbour: DeleteQuery(Harbour).delete_batch([harbour.pk], "default"),
}
every_way = pytest.mark.parametrize("way", WAYS)


def harbour(code="x"):
    return Harbour.objects.create(code=code)


def rows(events):
    return [(e.event.removeprefix("model."), e.object_type, e.object_id) for e in events]


@every_way
def test_db_cascade_is_recorded_through_a_table_that_is_not_audited(way):
    gone, stays = harbour("a"), harbour("b")
    pier, other = (models.Pier.objects.create(harbour=h) for h in (gone, stays))
    ships = [models.Ship.objects.create(pier=pier, name=n) for n in "ab"]
    models.Ship.objects.create(pier=other, name="c")
    slip = models.Slip.objects.create(pier=pier, number=7)
    with capture_events() as events:
        WAYS[way](gone)
    assert sorted(told(events)) == sorted(
        [
            (
                "delete",
                str(ship.pk),
                {"id": [ship.pk, None], "pier": [pier.pk, None], "name": [ship.name, None]},
            )
            for ship in ships
        ]
        + [
            (
                "delete",
                f"[{pier.pk},7]",
                {"pier": [slip.pier_id, None], "number": [7, None]},
            )
        ]
    )
    assert list(models.Ship.objects.values_list("name", flat=True)) == ["c"]


@every_way
def test_db_set_null_is_recorded_also_by_another_column_than_the_key(way):
    gone, stays = harbour("a"), harbour("b")
    flag = models.Flag.objects.create(flown=gone, kept=gone)
    other = models.Flag.objects.create(flown=stays, kept=gone)
    models.Flag.objects.create(flown=stays, kept=stays)
    key = gone.pk
    with capture_events() as events:
        WAYS[way](gone)
    changes = {}
    for event in events:
        assert event.event == "model.update"
        assert event.data == {"bulk": "on_delete"}
        changes.setdefault(event.object_id, {}).update(event.changes)
    assert changes == {
        str(flag.pk): {"flown": ["a", None], "kept": [key, None], "is_kept": [True, False]},
        str(other.pk): {"kept": [key, None], "is_kept": [True, False]},
    }
    flag.refresh_from_db()
    assert (flag.flown_id, flag.kept_id, flag.is_kept) == (None, None, False)


@pytest.mark.skipif("connection.vendor == 'mysql'", reason="has no SET DEFAULT")
@every_way
def test_db_set_default_is_recorded_with_the_value_of_the_database(way):
    Harbour.objects.create(pk=1, code="default")
    gone = Harbour.objects.create(pk=2, code="a")
    key = gone.pk
    permit = models.Permit.objects.create(harbour=gone)
    with capture_events() as events:
        WAYS[way](gone)
    assert told(events) == [("update", str(permit.pk), {"harbour": [key, 1]})]
    permit.refresh_from_db()
    assert permit.harbour_id == 1


@pytest.mark.skipif("connection.vendor == 'mysql'", reason="has no SET DEFAULT")
def test_a_default_that_is_an_expression_is_worked_out_by_the_database(monkeypatch):
    Harbour.objects.create(pk=1, code="default")
    gone = Harbour.objects.create(pk=2, code="a")
    key = gone.pk
    permit = models.Permit.objects.create(harbour=gone)
    # The column's own default is 1 as well.
    expression = django.db.models.functions.Length(django.db.models.Value("x"))
    monkeypatch.setattr(models.Permit._meta.get_field("harbour"), "db_default", expression)
    assert recorded(gone.delete) == [("update", str(permit.pk), {"harbour": [key, 1]})]


def test_a_tree_goes_from_its_leaves_and_each_row_once():
    top = models.Branch.objects.create()
    middle = [models.Branch.objects.create(parent=top) for _ in range(2)]
    leaves = [models.Branch.objects.create(parent=m) for m in middle for _ in range(2)]
    parents = {str(b.pk): str(b.parent_id) for b in middle + leaves}
    deleted = [key for operation, key, _ in recorded(top.delete)]
    assert sorted(deleted) == sorted([*parents, str(top.pk or deleted[-1])])
    for key, parent in parents.items():
        assert deleted.index(key) < deleted.index(parent)
    assert not models.Branch.objects.exists()


@pytest.mark.parametrize("lazy", [False, True], ids=["instance", "queryset"])
def test_a_ring_is_recorded_once(lazy):
    first = models.Branch.objects.create()
    second = models.Branch.objects.create(parent=first)
    models.Branch.objects.filter(pk=first.pk).update(parent=second)
    keys = {str(first.pk), str(second.pk)}
    write = models.Branch.objects.filter(pk=first.pk).delete if lazy else first.delete
    told = recorded(write)
    assert {key for _, key, _ in told} == keys
    assert [operation for operation, _, _ in told] == ["delete", "delete"]


def test_rows_named_by_the_statement_and_reached_by_it_are_recorded_once():
    top = models.Branch.objects.create()
    below = models.Branch.objects.create(parent=top, twin=top)
    told = recorded(models.Branch.objects.filter(pk__in=[top.pk, below.pk]).delete)
    assert sorted(told) == sorted(
        [
            (
                "delete",
                str(branch.pk),
                {
                    "id": [branch.pk, None],
                    "harbour": [None, None],
                    "parent": [branch.parent_id, None],
                    "twin": [branch.twin_id, None],
                },
            )
            for branch in (top, below)
        ]
    )


def test_a_row_that_is_changed_and_deleted_is_only_deleted():
    top = models.Branch.objects.create()
    below = models.Branch.objects.create(parent=top, twin=top)
    outside = models.Branch.objects.create(twin=top)
    key = top.pk
    told = recorded(top.delete)
    assert sorted(row[:2] for row in told) == sorted(
        [("delete", str(below.pk)), ("update", str(outside.pk)), ("delete", str(key))]
    )
    assert [row[2] for row in told if row[0] == "update"] == [{"twin": [key, None]}]


def test_a_row_is_known_as_deleted_where_only_updates_are_recorded():
    policy = settings_for("testapp.Branch", on=["update"])
    with override_settings(SIGNAL_AUDIT=policy):
        top = models.Branch.objects.create()
        models.Branch.objects.create(parent=top, twin=top)
        assert recorded(top.delete) == []
        assert not models.Branch.objects.exists()


def test_a_chain_longer_than_pythons_stack():
    length = 12 if connection.vendor == "mysql" else 700  # MariaDB itself goes 15 deep
    models.Branch.objects.bulk_create([models.Branch(pk=n) for n in range(1, length + 1)])
    with suspend_audit():
        for n in range(2, length + 1):
            models.Branch.objects.filter(pk=n).update(parent=n - 1)
    told = recorded(models.Branch.objects.filter(pk=1).delete)
    assert [key for _, key, _ in told] == [str(n) for n in range(length, 0, -1)]


def test_an_inherited_row_that_the_database_deletes_is_recorded_once():
    gone = harbour()
    tug = models.Tug.objects.create(harbour=gone, tons=5, power=6)
    vessel = models.Vessel.objects.create(harbour=gone, tons=7)
    keys = (str(tug.pk), str(vessel.pk))
    with capture_events() as events:
        gone.delete()
    assert sorted(rows(events)) == sorted(
        [("delete", "testapp.tug", keys[0]), ("delete", "testapp.vessel", keys[1])]
    )
    changes = {e.object_type: e.changes for e in events}
    assert changes["testapp.tug"]["tons"] == [5, None]
    assert changes["testapp.tug"]["power"] == [6, None]


@pytest.mark.parametrize("through_parent", [False, True])
def test_a_child_whose_link_the_database_follows_is_recorded_once(through_parent):
    tug = models.Tug.objects.create(tons=5, power=6)
    key = str(tug.pk)
    with capture_events() as events:
        (models.Vessel.objects.get(pk=tug.pk) if through_parent else tug).delete()
    assert rows(events) == [("delete", "testapp.tug", key)]
    assert not models.Vessel.objects.exists()


def test_rows_of_a_many_to_many_field_that_the_database_deletes_are_its_m2m_event():
    gone, stays = harbour("a"), harbour("b")
    line = models.Line.objects.create()
    line.calls.add(gone, stays)
    key = gone.pk
    with capture_events() as events:
        gone.delete()
    assert told(events) == [("m2m", str(line.pk), {"calls": {"added": [], "removed": [key]}})]


def test_a_row_of_a_many_to_many_field_whose_end_is_set_to_null_is_its_m2m_event():
    gone, stays = harbour("a"), harbour("b")
    line = models.Line.objects.create()
    line.berths.add(gone, stays)
    key = gone.pk
    with capture_events() as events:
        gone.delete()
    assert told(events) == [("m2m", str(line.pk), {"berths": {"added": [], "removed": [key]}})]
    assert models.Berth.objects.count() == 2


@pytest.mark.parametrize("bulk", ["rows", "summary", "off"])
def test_rows_that_the_database_deletes_are_recorded_whatever_the_calls_own_model_leaves(bulk):
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Harbour", bulk=bulk)):
        gone = harbour()
        ship = models.Ship.objects.create(pier=models.Pier.objects.create(harbour=gone))
        key = None if bulk == "summary" else str(gone.pk)
        with capture_events() as events:
            Harbour.objects.all().delete()
    own = [] if bulk == "off" else [("delete", "testapp.harbour", key)]
    assert rows(events) == [("delete", "testapp.ship", str(ship.pk)), *own]
    assert not models.Ship.objects.exists()


def test_several_deletes_make_one_m2m_event_of_an_owner():
    line = models.Line.objects.create()
    line.calls.add(*[harbour(str(n)) for n in range(3)])
    told = recorded(Harbour.objects.all().delete)
    assert [(row[:2], len(row[2]["calls"]["removed"])) for row in told] == [
        (("m2m", str(line.pk)), 3)
    ]


def test_without_a_constraint_the_database_does_nothing():
    gone = harbour()
    wreck = models.Wreck.objects.create(harbour=gone)
    assert recorded(gone.delete) == []
    assert models.Wreck.objects.filter(pk=wreck.pk).exists()


def test_nothing_is_recorded_while_audit_is_suspended():
    pier = models.Pier.objects.create(harbour=harbour())
    models.Ship.objects.create(pier=pier)
    with suspend_audit():
        assert recorded(Harbour.objects.all().delete) == []
    assert not models.Ship.objects.exists()


@pytest.mark.parametrize("options", [{"on": ["create", "update"]}, {"exclude_fields": ["name"]}])
def test_policies_decide_about_rows_that_the_database_deletes(options):
    pier = models.Pier.objects.create(harbour=harbour())
    ship = models.Ship.objects.create(pier=pier, name="a")
    key = str(ship.pk)
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Ship", **options)):
        told = recorded(Harbour.objects.all().delete)
    if "on" in options:
        assert told == []
    else:
        assert [(row[:2], "name" in row[2]) for row in told] == [(("delete", key), False)]


@pytest.mark.parametrize(
    "options", [{"on": ["delete"]}, {"exclude_fields": ["flown", "kept", "is_kept"]}]
)
def test_policies_decide_about_rows_that_the_database_changes(options):
    gone = harbour()
    models.Flag.objects.create(flown=gone, kept=gone)
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Flag", **options)):
        assert recorded(gone.delete) == []


def test_a_statement_that_fails_leaves_nothing(monkeypatch):
    gone = harbour()
    models.Ship.objects.create(pier=models.Pier.objects.create(harbour=gone))

    def fail(*args, **kwargs):
        raise IntegrityError

    monkeypatch.setattr(DeleteQuery, "do_query", fail)
    with pytest.raises(IntegrityError), transaction.atomic():
        gone.delete()
    assert not AuditRecord.objects.filter(event="model.delete").exists()
    assert models.Ship.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_statement_that_fails_leaves_nothing_where_the_program_commits_by_itself(monkeypatch):
    gone = harbour()
    models.Ship.objects.create(pier=models.Pier.objects.create(harbour=gone))

    def fail(*args, **kwargs):
        raise IntegrityError

    monkeypatch.setattr(DeleteQuery, "do_query", fail)
    transaction.set_autocommit(False)
    try:
        with pytest.raises(IntegrityError):
            gone.delete()
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert not AuditRecord.objects.filter(event="model.delete").exists()
    assert models.Ship.objects.exists()


IMPATIENT = {
    "postgresql": "SET lock_timeout = '300ms'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
}


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="one writer at a time")
@pytest.mark.parametrize("lazy", [False, True], ids=["instance", "queryset"])
@pytest.mark.django_db(transaction=True)
def test_nobody_adds_a_row_between_the_reading_and_the_delete(lazy):
    gone = harbour()
    pier = models.Pier.objects.create(harbour=gone)
    ship = models.Ship.objects.create(pier=pier)
    added = []

    def add():
        try:
            with connection.cursor() as cursor:
                cursor.execute(IMPATIENT[connection.vendor])
            for make in (
                lambda: models.Pier.objects.create(harbour_id=gone.pk),
                lambda: models.Ship.objects.create(pier_id=pier.pk),
            ):
                try:
                    added.append(make())
                except OperationalError as exc:
                    added.append(type(exc))
        finally:
            connection.close()

    def between(execute, sql, *arguments):
        if sql.startswith("DELETE"):
            other = threading.Thread(target=add)
            other.start()
            other.join()
        return execute(sql, *arguments)

    with connection.execute_wrapper(between):
        told = recorded(Harbour.objects.all().delete if lazy else gone.delete)
    assert added == [OperationalError, OperationalError]
    # PostgreSQL looks at a foreign key only at COMMIT, which fails.
    assert [row[:2] for row in told if row[0] != "create"] == [("delete", str(ship.pk))]
    assert not models.Ship.objects.exists()


def test_a_savepoint_rolled_back_leaves_nothing():
    gone = harbour()
    models.Ship.objects.create(pier=models.Pier.objects.create(harbour=gone))
    rolled_back(Harbour.objects.all().delete)
    assert not AuditRecord.objects.filter(event="model.delete").exists()


def test_many_rows_are_read_in_chunks(django_assert_max_num_queries):
    piers = [models.Pier.objects.create(harbour=harbour(str(n))) for n in range(2)]
    with suspend_audit():
        models.Ship.objects.bulk_create(
            [models.Ship(pier=piers[n % 2], name=str(n)) for n in range(1300)]
        )
        models.Slip.objects.bulk_create([models.Slip(pier=piers[0], number=n) for n in range(1001)])
    with capture_events() as events, django_assert_max_num_queries(30):
        Harbour.objects.all().delete()
    names = [e.changes["name"][0] for e in events if e.object_type == "testapp.ship"]
    assert sorted(names, key=int) == [str(n) for n in range(1300)]
    numbers = [e.changes["number"][0] for e in events if e.object_type == "testapp.slip"]
    assert sorted(numbers) == list(range(1001))


def test_many_deleted_rows_are_followed_in_chunks():
    with suspend_audit():
        Harbour.objects.bulk_create([Harbour(code=str(n)) for n in range(1100)])
        models.Pier.objects.bulk_create([models.Pier(harbour=h) for h in Harbour.objects.all()])
        models.Ship.objects.bulk_create(
            [models.Ship(pier=p, name=str(p.pk)) for p in models.Pier.objects.all()]
        )
    with capture_events() as events:
        assert Harbour.objects.all().delete()[0] == 1100
    assert len({e.object_id for e in events}) == 1100
    assert not models.Ship.objects.exists()


@pytest.mark.django_db(databases=["default", "other"])
def test_a_second_alias_is_where_the_rows_are_read():
    gone = Harbour.objects.using("other").create(code="a")
    pier = models.Pier.objects.using("other").create(harbour=gone)
    ship = models.Ship.objects.using("other").create(pier=pier)
    with capture_events() as events:
        gone.delete()
    assert [(e.database, e.object_id) for e in events] == [("other", str(ship.pk))]


class NoShips:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return model_name != "ship"


def test_tables_that_a_router_keeps_away_are_not_read():
    pier = models.Pier.objects.create(harbour=harbour())
    models.Ship.objects.create(pier=pier)
    cascades._cascades.clear()
    try:
        with override_settings(DATABASE_ROUTERS=[NoShips()]):
            assert recorded(Harbour.objects.all().delete) == []
    finally:
        cascades._cascades.clear()


def test_historical_models_are_followed_too():
    gone = harbour()
    ship = models.Ship.objects.create(pier=models.Pier.objects.create(harbour=gone))
    apps = ProjectState.from_apps(django.apps.apps).apps
    old = apps.get_model("testapp", "Harbour")
    with capture_events() as events:
        old.objects.all().delete()
    assert rows(events) == [("delete", "testapp.ship", str(ship.pk))]


def test_a_model_that_reaches_nothing_costs_one_look_up():
    assert cascade_from(Plain, DEFAULT_DB_ALIAS) is None
    assert cascade_from(Book, DEFAULT_DB_ALIAS) is None
    assert cascade_from(Author, DEFAULT_DB_ALIAS) is None
    assert (Plain, DEFAULT_DB_ALIAS) in cascades._cascades
    held = [Session.objects.create(session_key=k, expire_date=timezone.now()) for k in "ab"]
    with suspend_audit(), CaptureQueriesContext(connection) as own:
        held[0].delete()
    with CaptureQueriesContext(connection) as audited:
        held[1].delete()
    assert len(audited) == len(own)


def test_what_is_known_is_bounded(monkeypatch):
    monkeypatch.setattr(cascades, "_MOST_CASCADES", 2)
    cascades._cascades.clear()
    for model in (Plain, Book, Author):
        cascade_from(model, DEFAULT_DB_ALIAS)
    assert list(cascades._cascades) == [(Author, DEFAULT_DB_ALIAS)]


def test_queries_of_a_delete_that_the_database_goes_on_with():
    gone = harbour()
    models.Ship.objects.create(pier=models.Pier.objects.create(harbour=gone))
    locks = connections["default"].features.has_select_for_update
    edges = sum(map(len, cascade_from(Harbour, "default").edges.values()))
    with CaptureQueriesContext(connection) as captured:
        gone.delete()
    sent = [query["sql"] for query in captured if query["sql"].startswith(("SELECT", "DELETE"))]
    assert len([sql for sql in sent if sql.startswith("DELETE")]) == 1
    # What is below a ship or a branch is not asked where there is none.
    assert len([sql for sql in sent if sql.startswith("SELECT")]) <= locks + edges
    if connection.vendor == "postgresql":
        assert "FOR UPDATE" in sent[0]


@pytest.mark.slow
def test_many_rows_below_one_need_no_more_memory_than_few():
    gone = harbour()
    pier = models.Pier.objects.create(harbour=gone)
    with suspend_audit():
        models.Ship.objects.bulk_create(
            (models.Ship(pier=pier, name=str(n)) for n in range(60_000)), batch_size=5_000
        )
    tracemalloc.start()
    try:
        gone.delete()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert AuditRecord.objects.filter(event="model.delete").count() == 60_000
    # 60,000 rows with their images would take more than 30 MB, and their events far more. What
    # the buffer keeps of the newest 5,000 events is most of this.
    assert peak < 40 * 1024 * 1024, peak
