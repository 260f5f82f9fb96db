"""Routers: replicas that can only be read, databases for each application, and every ``using``."""

# ruff: noqa: PT012 - blocks that fail are what is tested

from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.db import connections, router, transaction
from django.test import override_settings

from django_signal_audit import audit_event, event_signal
from django_signal_audit.exceptions import AuditSinkError
from django_signal_audit.models import AuditRecord
from django_signal_audit.reader import read_databases, trail_databases
from tests.databases import another_alias, replica_of, shared_database, without_records
from tests.testapp.models import Account, Author, Book, Chapter, Tag

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DATABASE = {"BACKEND": "django_signal_audit.sinks.DatabaseSink"}


def routed_by(*routers):
    return override_settings(DATABASE_ROUTERS=list(routers))


def events_on(alias):
    return list(AuditRecord.objects.using(alias).order_by("id").values_list("event", flat=True))


# A replica


class ReplicaRouter:
    """As Django's documentation shows it: writes to the primary, reads from the replica."""

    def db_for_read(self, model, **hints):
        return "replica"

    def db_for_write(self, model, **hints):
        return "default"

    def allow_relation(self, one, other, **hints):
        return True


@pytest.fixture
def _replica(tmp_path):
    with (
        shared_database(tmp_path, "default"),
        replica_of("default"),
        routed_by(ReplicaRouter()),
    ):
        yield


@pytest.fixture
def statements():
    """What the replica was asked to do."""
    seen = []

    def watch(execute, sql, params, many, context):
        seen.append(sql)
        return execute(sql, params, many, context)

    with connections["replica"].execute_wrapper(watch):
        yield seen


@pytest.mark.usefixtures("_replica")
def test_the_replica_of_these_tests_cannot_be_written():
    with pytest.raises(Exception, match=r"(?i)read.?only"):
        Tag.objects.using("replica").create(name="refused")
    connections["replica"].close()


@pytest.mark.usefixtures("_replica")
def test_every_write_is_recorded_on_the_primary_and_nothing_is_written_to_the_replica(statements):
    author = Author.objects.create(name="Ann")
    author = Author.objects.get(pk=author.pk)
    assert author._state.db == "replica"
    author.name = "Bea"
    author.save()
    Author.objects.filter(name="Bea").update(name="Cleo")
    Author.objects.bulk_create([Author(name="Dora"), Author(name="Eve")])
    dora = Author.objects.get(name="Dora")
    dora.name = "Dora B."
    Author.objects.bulk_update([dora], ["name"])
    Author.objects.get_or_create(name="Fay")
    Author.objects.update_or_create(name="Fay", defaults={"name": "Fee"})
    book = Book.objects.create(title="A", author=Author.objects.get(name="Cleo"))
    book = Book.objects.get(pk=book.pk)
    tag = Tag.objects.create(name="new")
    book.tags.add(tag)
    book.tags.set([])
    Tag.objects.get().books.add(book)
    Chapter.objects.create(book=book, number=1)
    Author.objects.get(name="Cleo").delete()
    Book.objects.all().delete()

    # SET is how MariaDB's driver begins.
    assert {sql.lstrip("( \n").split()[0].upper() for sql in statements} <= {"SELECT", "SET"}
    assert [sql for sql in statements if " FOR " in sql.upper()] == []
    assert events_on("default") == [
        "model.create",
        "model.update",
        "model.update",
        "model.create",
        "model.create",
        "model.update",
        "model.create",
        "model.update",
        "model.create",
        "model.m2m",
        "model.m2m",
        "model.m2m",
        "model.create",
        "model.update",
        "model.delete",
        "model.m2m",
        "model.delete",
        "model.delete",
    ]
    databases = set(AuditRecord.objects.values_list("database", flat=True))
    assert databases == {"default"}


@pytest.mark.usefixtures("_replica")
def test_records_are_read_from_the_replica_and_without_events_of_an_open_transaction():
    author = Author.objects.create(name="Ann")
    assert AuditRecord.objects.all().db == "replica"
    with transaction.atomic():
        author.name = "Bea"
        author.save()
        assert [r.event for r in AuditRecord.objects.get_for_object(author)] == ["model.create"]
        mine = AuditRecord.objects.using("default").get_for_object(author)
        assert [r.event for r in mine] == ["model.create", "model.update"]
    assert AuditRecord.objects.get_for_object(author).count() == 2


@pytest.mark.usefixtures("_replica")
def test_events_about_an_instance_of_the_replica_go_to_the_primary():
    Author.objects.create(name="Ann")
    author = Author.objects.get()
    assert author._state.db == "replica"
    event_signal.send(sender="test", event="shift.assigned", instance=author)
    with transaction.atomic():
        event_signal.send(sender="test", event="shift.assigned", instance=author)
    found = AuditRecord.objects.using("default").filter(event="shift.assigned")
    assert set(found.values_list("database", flat=True)) == {"default"}
    assert found.count() == 2


@pytest.mark.usefixtures("_replica")
def test_an_act_that_reads_from_the_replica_is_recorded_on_the_alias_it_names():
    @audit_event("shift.listed")
    def of_default():
        return list(Author.objects.all())

    @audit_event("shift.listed", using="other")
    def of_other():
        return list(Author.objects.all())

    of_default()
    of_other()
    assert events_on("default") == events_on("other") == ["shift.listed"]


@pytest.mark.usefixtures("_replica")
def test_an_export_shows_an_event_of_a_replica_once(tmp_path):
    Author.objects.create(name="Ann")
    assert "replica" in trail_databases()
    assert len(list(read_databases(trail_databases()))) == 1
    path = tmp_path / "trail.jsonl"
    call_command("audit_export", output=str(path), verbosity=0)
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["model.create"]


def test_an_alias_that_mirrors_another_in_tests_shows_its_records(tmp_path):
    """``TEST: {"MIRROR": "default"}``: another connection to the same database."""
    with (
        shared_database(tmp_path, "default"),
        another_alias("replica", "default", TEST={"MIRROR": "default"}),
        routed_by(ReplicaRouter()),
    ):
        Author.objects.create(name="Ann")
        assert AuditRecord.objects.all().db == "replica"
        assert [record.event for record in AuditRecord.objects.all()] == ["model.create"]


# Databases for each application


class AuthorsElsewhere:
    """Authors live on ``other``, all else on ``default``."""

    def db_for_read(self, model, **hints):
        return "other" if model is Author else "default" if model is Account else None

    db_for_write = db_for_read


def test_one_request_that_writes_two_databases_is_recorded_in_each():
    with routed_by(AuthorsElsewhere()), transaction.atomic(), transaction.atomic(using="other"):
        Account.objects.create(email="a@example.com")
        Author.objects.create(name="Ann")
        Account.objects.update(email="b@example.com")
    (author,) = AuditRecord.objects.using("other")
    accounts = AuditRecord.objects.using("default")
    assert [record.event for record in accounts.order_by("id")] == ["model.create", "model.update"]
    assert {record.database for record in accounts} == {"default"}
    assert author.database == "other"
    assert len({record.transaction for record in accounts}) == 1
    assert author.transaction not in {None, accounts[0].transaction}


def test_a_rollback_on_one_database_leaves_the_other():
    with routed_by(AuthorsElsewhere()), transaction.atomic():
        Account.objects.create(email="a@example.com")
        with pytest.raises(ZeroDivisionError), transaction.atomic(using="other"):
            Author.objects.create(name="Ann")
            raise ZeroDivisionError
    assert events_on("other") == []
    assert events_on("default") == ["model.create"]


def test_every_using_is_followed():
    author = Author(name="Ann")
    author.save(using="other")
    author.name = "Bea"
    author.save()
    Author.objects.using("other").update(name="Cleo")
    Author.objects.using("other").bulk_create([Author(name="Dora")])
    Author.objects.db_manager("other").create(name="Eve")
    book = Book.objects.using("other").create(title="A", author=author)
    book.tags.add(Tag.objects.using("other").create(name="new"))
    author.books.clear()
    book.delete(using="other")
    assert events_on("default") == []
    assert events_on("other") == [
        "model.create",
        "model.update",
        "model.update",
        "model.create",
        "model.create",
        "model.create",
        "model.m2m",
        "model.update",
        "model.m2m",
        "model.delete",
    ]


def test_a_save_to_another_database_is_a_create_there():
    author = Author.objects.create(name="Ann")
    author.save(using="other")
    assert events_on("default") == events_on("other") == ["model.create"]


# The table of records


class RecordsElsewhere:
    """The tempting one: records alone on a database of their own, by a router."""

    def db_for_read(self, model, **hints):
        return "other" if model is AuditRecord else None

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return db == "other" if app_label == "django_signal_audit" else None


def test_a_router_does_not_decide_where_records_are_written():
    """The record is in the transaction of the change, or the two could part."""
    with routed_by(RecordsElsewhere()):
        assert router.db_for_write(AuditRecord) == "other"
        Author.objects.create(name="Ann")
    assert events_on("default") == ["model.create"]
    assert events_on("other") == []


def test_where_a_router_keeps_the_table_away_the_write_fails_and_says_so():
    with (
        without_records("default"),
        routed_by(RecordsElsewhere()),
        pytest.raises(AuditSinkError) as failed,
    ):
        Author.objects.create(name="Ann")
    assert not Author.objects.exists()
    assert "RecordsElsewhere in DATABASE_ROUTERS keeps" in str(failed.value)
    assert "migrate" in str(failed.value)


def test_migrate_makes_the_table_where_routers_allow_it(tmp_path):
    if connections["default"].vendor != "sqlite":
        pytest.skip("a new database is a file")
    with (
        another_alias("fresh", "default", NAME=str(tmp_path / "fresh.sqlite3")),
        routed_by(RecordsElsewhere()),
    ):
        call_command("migrate", "django_signal_audit", database="fresh", verbosity=0)
        assert "fresh" not in trail_databases()
    with another_alias("fresh", "default", NAME=str(tmp_path / "second.sqlite3")):
        call_command("migrate", "django_signal_audit", database="fresh", verbosity=0)
        assert "fresh" in trail_databases()


def test_a_model_whose_records_go_to_no_database_needs_no_table():
    setting = {"SINKS": {"default": {**DATABASE, "MODELS": ["testapp.book"]}}}
    with without_records("default"), override_settings(SIGNAL_AUDIT=setting):
        Author.objects.create(name="Ann")
    assert Author.objects.exists()
