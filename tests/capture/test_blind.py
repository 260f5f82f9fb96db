"""Strict mode: what becomes of statements that write to audited tables outside of capture."""

import contextlib
import threading
import warnings
from importlib import import_module

import django
import pytest
from django.core.management import call_command
from django.db import (
    IntegrityError,
    connection,
    connections,
    migrations,
    models,
    transaction,
)
from django.db.migrations.state import ProjectState
from django.db.models.signals import pre_delete
from django.db.models.sql.subqueries import UpdateQuery
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_signal_audit import suspend_audit
from django_signal_audit.capture import blind
from django_signal_audit.exceptions import (
    AuditBlindWriteError,
    AuditBlindWriteWarning,
    AuditProcessorError,
)
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.databases import another_alias
from tests.testapp.models import (
    Account,
    Author,
    Book,
    BookProxy,
    Building,
    Chapter,
    Friend,
    Garage,
    Gauge,
    Keeper,
    Loan,
    Parent,
    Place,
    Plain,
    Quick,
    Reader,
    Restaurant,
    Step,
    Tag,
    Tower,
)

pytestmark = pytest.mark.django_db

UPDATE = "UPDATE testapp_author SET name = %s"


def strict(mode="record", **settings):
    return override_settings(SIGNAL_AUDIT={"BLIND_WRITES": mode, **settings})


def run(sql, params=None, using="default"):
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)


def blind_writes(events):
    found = events.named("model.blind_write")
    return [(e.object_type, e.data["operation"], e.data["table"], e.data["rows"]) for e in found]


def seen(sql, params=None):
    with capture_events() as events:
        run(sql, params)
    return blind_writes(events)


@pytest.fixture
def authors():
    return [Author.objects.create(name=name) for name in ("Ada", "Bob")]


@strict("record")
def test_a_blind_write_is_an_event_with_table_operation_and_rows(authors):
    with capture_events() as events:
        run(UPDATE, ["hunter2"])
    (event,) = events
    assert event.event == event.message == "model.blind_write"
    assert (event.object_type, event.object_id, event.object_repr) == ("testapp.author", None, "")
    assert event.sender == "testapp.Author"
    assert event.outcome == "success"
    assert event.database == "default"
    assert event.changes == {}
    assert event.data == {"table": "testapp_author", "operation": "update", "rows": 2}
    assert "hunter2" not in str(event.to_dict())


OPERATIONS = {
    "insert": ("INSERT INTO testapp_author (name) VALUES ('x'), ('y')", 2),
    "update": ("UPDATE testapp_author SET name = 'x' WHERE name = 'Ada'", 1),
    "update of nothing": ("UPDATE testapp_author SET name = 'x' WHERE 1 = 0", 0),
    "delete": ("DELETE FROM testapp_author", 2),
}


@strict("record")
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_recorded_with_its_rows(authors, name):
    sql, rows = OPERATIONS[name]
    assert seen(sql) == [("testapp.author", name.split()[0], "testapp_author", rows)]


@strict("record")
def test_executemany_is_one_event_with_all_rows():
    with capture_events() as events, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO testapp_author (name) VALUES (%s)", [["a"], ["b"], ["c"]])
    assert blind_writes(events) == [("testapp.author", "insert", "testapp_author", 3)]
    assert Author.objects.count() == 3


@strict("record")
@pytest.mark.skipif(connection.vendor == "postgresql", reason="no such statement")
def test_replace_is_recorded_as_such(authors):
    key = authors[0].pk
    ((_, operation, _, _),) = seen("REPLACE INTO testapp_author (id, name) VALUES (%s, 'x')", [key])
    assert operation == "replace"
    assert Author.objects.get(pk=key).name == "x"


@strict("record")
def test_a_row_count_that_the_driver_does_not_say_is_null(authors):
    sql = "WITH x AS (SELECT 'x' AS name) DELETE FROM testapp_author WHERE name IN (SELECT 'Ada')"
    if connection.vendor == "mysql":
        sql = "DELETE testapp_author FROM testapp_author JOIN testapp_book ON 1 = 1"
        Book.objects.create(title="b")
    ((_, operation, _, rows),) = seen(sql)
    assert operation == "delete"
    assert rows == {"sqlite": None, "postgresql": 1, "mysql": 2}[connection.vendor]


@strict("record")
@pytest.mark.skipif(connection.vendor != "mysql", reason="statements of MariaDB")
def test_mariadb_several_tables_of_one_statement_are_an_event_each(authors):
    Book.objects.create(title="b", author=authors[0])
    assert seen(
        "UPDATE testapp_author a JOIN testapp_book b ON b.author_id = a.id "
        "SET a.name = 'x', b.title = 'y'"
    ) == [
        ("testapp.author", "update", "testapp_author", None),
        ("testapp.book", "update", "testapp_book", None),
    ]
    assert seen("DELETE b FROM testapp_author a JOIN testapp_book b ON b.author_id = a.id") == [
        ("testapp.book", "delete", "testapp_book", 1)
    ]


@strict("record")
@pytest.mark.skipif(connection.vendor != "postgresql", reason="statements of PostgreSQL")
def test_postgresql_a_cte_that_writes_is_recorded(authors):
    assert seen(
        "WITH gone AS (DELETE FROM testapp_author RETURNING name) "
        "INSERT INTO testapp_friend (name) SELECT name FROM gone"
    ) == [
        ("testapp.author", "delete", "testapp_author", None),
        ("testapp.friend", "insert", "testapp_friend", 2),
    ]


@strict("record")
@pytest.mark.skipif(connection.vendor != "postgresql", reason="statements of PostgreSQL")
def test_postgresql_truncate_merge_and_composed_statements_are_recorded(authors):
    from psycopg import sql  # noqa: PLC0415 - only where there is PostgreSQL

    composed = sql.SQL("UPDATE {} SET name = {}").format(
        sql.Identifier("testapp_author"), sql.Literal("x")
    )
    assert seen(composed) == [("testapp.author", "update", "testapp_author", 2)]
    assert seen(b"UPDATE testapp_author SET name = 'x'") == [
        ("testapp.author", "update", "testapp_author", 2)
    ]
    assert seen("TRUNCATE testapp_chapter, testapp_tower RESTART IDENTITY") == [
        ("testapp.chapter", "truncate", "testapp_chapter", None)
    ]
    # Of the tables that refer to this one, that of an audited relation alone is audited.
    with capture_events() as events:
        run("TRUNCATE testapp_tag CASCADE")
    assert [e.data for e in events if e.object_type == "testapp.book"] == [
        {
            "table": "testapp_book_tags",
            "operation": "truncate",
            "rows": None,
            "field": "tags",
            "through": "testapp_tag",
        }
    ]
    assert seen("SELECT 1; DELETE FROM testapp_author; SELECT 1") == [
        ("testapp.author", "delete", "testapp_author", None)
    ]


@strict("record")
def test_reading_and_ddl_and_tables_that_are_not_audited_leave_nothing(authors):
    with capture_events() as events:
        run("SELECT * FROM testapp_author WHERE name <> 'UPDATE testapp_author'")
        run("INSERT INTO testapp_plain (name) SELECT name FROM testapp_author")
        run("UPDATE testapp_plain SET name = 'testapp_author'")
        run("DELETE FROM testapp_plain")
        run("EXPLAIN SELECT * FROM testapp_author")
        list(Author.objects.select_for_update())
    assert events == []


@strict("record", MODELS={"testapp.Author": {"on": ["delete"]}})
def test_an_operation_that_the_policy_does_not_record_is_not_blind(authors):
    assert seen(UPDATE, ["x"]) == []
    assert [operation for _, operation, _, _ in seen("DELETE FROM testapp_author")] == ["delete"]


@strict("record", MODELS={"testapp.Author": {"when": lambda event: "name" in event.changes}})
def test_a_condition_on_changes_does_not_silence_blind_writes(authors):
    assert len(seen(UPDATE, ["x"])) == 1


@strict("record", MODELS={"testapp.Plain": {}})
def test_what_is_audited_by_settings_is_watched_as_long_as_they_say_so():
    assert len(seen("INSERT INTO testapp_plain (name) VALUES ('x')")) == 1
    with strict("record"):
        assert seen("INSERT INTO testapp_plain (name) VALUES ('x')") == []


@strict("record")
def test_the_tables_model_counts_where_models_inherit():
    garage, tower = Garage.objects.create(cars=1), Tower.objects.create(height=1)
    restaurant = Restaurant.objects.create(name="r")
    assert seen("UPDATE testapp_garage SET cars = 2") == [
        ("testapp.garage", "update", "testapp_garage", 1)
    ]
    assert seen("UPDATE testapp_building SET floors = 2") == [
        ("testapp.building", "update", "testapp_building", 2)
    ]
    assert seen("UPDATE testapp_tower SET height = 2") == []
    assert seen("UPDATE testapp_place SET name = 'x'") == []
    assert {type(one) for one in (garage, tower, restaurant)} == {Garage, Tower, Restaurant}
    assert Building.objects.count() == 2
    assert Place.objects.count() == 1


@strict("record")
def test_rows_of_an_audited_relation_are_told_of_with_its_owner():
    book, tag = Book.objects.create(title="b"), Tag.objects.create(name="t")
    reader = Reader.objects.create(name="r")
    with capture_events() as events:
        run("INSERT INTO testapp_book_tags (book_id, tag_id) VALUES (%s, %s)", [book.pk, tag.pk])
        run("INSERT INTO testapp_loan (book_id, reader_id) VALUES (%s, %s)", [book.pk, reader.pk])
    assert [(e.object_type, e.sender, e.data) for e in events] == [
        (
            "testapp.book",
            "testapp.Book",
            {"table": table, "operation": "insert", "rows": 1, "field": field},
        )
        for table, field in (("testapp_book_tags", "tags"), ("testapp_loan", "readers"))
    ]


def _refused_insert():
    run("INSERT INTO testapp_author (id, name) SELECT id, name FROM testapp_author")


@pytest.mark.django_db(transaction=True)
@strict("record")
@pytest.mark.parametrize("atomic", [True, False])
def test_a_statement_that_fails_leaves_nothing(authors, atomic):
    before = AuditRecord.objects.count()
    block = transaction.atomic() if atomic else contextlib.nullcontext()
    with capture_events() as events, pytest.raises(IntegrityError), block:
        _refused_insert()
    assert events == []
    assert AuditRecord.objects.count() == before
    assert Author.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@strict("record")
@pytest.mark.skipif(connection.vendor == "postgresql", reason="its transaction would be broken")
def test_a_failed_statement_that_is_caught_leaves_the_transaction_usable(authors):
    with transaction.atomic():
        with pytest.raises(IntegrityError):
            _refused_insert()
        run(UPDATE, ["x"])
    assert set(Author.objects.values_list("name", flat=True)) == {"x"}


def stored():
    return list(AuditRecord.objects.filter(event="model.blind_write").order_by("id"))


@pytest.mark.django_db(transaction=True)
@strict("record")
def test_in_autocommit_statement_and_record_share_a_transaction(authors):
    with capture_events() as events:
        run(UPDATE, ["x"])
    assert events[0].transaction is not None
    (record,) = stored()
    assert record.data["rows"] == 2


@pytest.mark.django_db(transaction=True)
def test_in_autocommit_a_statement_whose_record_fails_is_undone(authors):
    def fail(logger, name, event):
        raise ValueError

    with strict("record", PROCESSORS=[fail]), pytest.raises(AuditProcessorError):
        run(UPDATE, ["x"])
    assert set(Author.objects.values_list("name", flat=True)) == {"Ada", "Bob"}
    with strict("record", PROCESSORS=[fail]), transaction.atomic():
        with pytest.raises(AuditProcessorError):
            run(UPDATE, ["x"])
        assert connection.needs_rollback
    assert set(Author.objects.values_list("name", flat=True)) == {"Ada", "Bob"}


@pytest.mark.django_db(transaction=True)
@strict("record")
def test_a_rolled_back_statement_never_happened(authors):
    with transaction.atomic():
        run(UPDATE, ["x"])
        transaction.set_rollback(True)
    with transaction.atomic():
        sid = connection.savepoint()
        run(UPDATE, ["x"])
        connection.savepoint_rollback(sid)
        run("DELETE FROM testapp_author WHERE name = 'Ada'")
    assert [record.data["operation"] for record in stored()] == ["delete"]


@pytest.mark.django_db(transaction=True)
@strict("record")
def test_with_autocommit_off_the_record_waits_for_the_commit(authors):
    transaction.set_autocommit(False)
    try:
        run(UPDATE, ["x"])
        connection.rollback()
        run(UPDATE, ["y"])
        connection.commit()
    finally:
        connection.rollback()
        transaction.set_autocommit(True)
    assert len(stored()) == 1
    assert set(Author.objects.values_list("name", flat=True)) == {"y"}


@pytest.mark.django_db(transaction=True)
@strict("record")
def test_rows_that_a_statement_returns_can_still_be_read():
    sql = "INSERT INTO testapp_author (name) VALUES ('a'), ('b') RETURNING name"
    with connection.cursor() as cursor:
        cursor.execute(sql)
        assert list(cursor.fetchall()) == [("a",), ("b",)]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
        assert len(cursor.fetchall()) == 2
    counts = [record.data["rows"] for record in stored()]
    assert counts == ([None, None] if connection.vendor == "sqlite" else [2, 2])
    assert Author.objects.count() == 4


@pytest.mark.django_db(transaction=True)
@strict("record")
@pytest.mark.skipif(connection.vendor == "sqlite", reason="takes one statement at a time")
def test_several_statements_in_one_text_and_their_records(authors):
    run("UPDATE testapp_author SET name = 'x'; DELETE FROM testapp_author; SELECT 1")
    assert sorted(record.data["operation"] for record in stored()) == ["delete", "update"]
    assert Author.objects.count() == 0


@pytest.mark.django_db(transaction=True)
@strict("record")
@pytest.mark.skipif(connection.vendor != "mysql", reason="about MariaDB")
def test_mariadb_a_truncate_commits_and_its_record_stays(authors):
    Book.objects.create(title="b").chapters.create(number=1)
    with transaction.atomic():
        Author.objects.create(name="before")
        run("TRUNCATE testapp_chapter")
        Author.objects.create(name="after")
    run("TRUNCATE testapp_chapter")
    assert [record.data for record in stored()] == [
        {"table": "testapp_chapter", "operation": "truncate", "rows": None}
    ] * 2
    assert AuditRecord.objects.filter(event="model.create", object_type="testapp.author").count()
    assert Author.objects.filter(name__in=["before", "after"]).count() == 2


@strict("warn")
def test_a_warning_names_the_table_and_points_to_the_caller(authors):
    with (
        capture_events() as events,
        pytest.warns(AuditBlindWriteWarning, match="UPDATE of testapp_author") as caught,
    ):
        run(UPDATE, ["x"])
    (warning,) = caught
    assert warning.filename == __file__
    assert "suspend_audit()" in str(warning.message)
    assert blind_writes(events) == [("testapp.author", "update", "testapp_author", 2)]


@pytest.mark.django_db(transaction=True)
@strict("warn")
def test_a_warning_that_is_made_an_error_has_nothing_to_undo(authors):
    with transaction.atomic():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(AuditBlindWriteWarning):
                run(UPDATE, ["x"])
        Author.objects.create(name="still usable")
    assert stored() == []
    assert Author.objects.filter(name="x").count() == 0


@strict("raise")
def test_a_refused_statement_is_not_run_and_the_error_says_what_to_do(authors):
    with capture_events() as events, pytest.raises(AuditBlindWriteError) as caught:
        run(UPDATE, ["x"])
    assert str(caught.value) == (
        "A blind UPDATE of testapp_author (testapp.Author) was refused, not run. Use the ORM, or "
        "say with suspend_audit() that it is not to be recorded, or choose another value of "
        "SIGNAL_AUDIT['BLIND_WRITES']."
    )
    (event,) = events
    assert (event.event, event.outcome, event.level) == ("model.blind_write", "denied", "warning")
    assert (event.object_type, event.sender) == ("testapp.author", "testapp.Author")
    assert event.data == {"table": "testapp_author", "operation": "update", "rows": None}
    assert not Author.objects.filter(name="x").exists()


@pytest.mark.django_db(transaction=True)
@strict("raise")
def test_the_attempt_stays_in_the_trail_when_the_transaction_is_rolled_back(authors):
    with pytest.raises(AuditBlindWriteError), transaction.atomic():
        run(UPDATE, ["x"])
    with pytest.raises(AuditBlindWriteError):
        run(UPDATE, ["x"])
    assert [(record.outcome, record.rolled_back) for record in stored()] == [
        ("denied", True),
        ("denied", False),
    ]


@pytest.mark.django_db(transaction=True)
@strict("raise")
def test_a_transaction_goes_on_after_a_refusal_that_is_caught(authors):
    with transaction.atomic():
        with pytest.raises(AuditBlindWriteError):
            run(UPDATE, ["x"])
        Author.objects.create(name="Cyd")
    assert Author.objects.count() == 3
    assert [record.rolled_back for record in stored()] == [False]


@strict("raise")
def test_a_relation_is_named_in_the_refusal():
    with pytest.raises(AuditBlindWriteError, match=r"DELETE of testapp_book_tags \(testapp.Book"):
        run("DELETE FROM testapp_book_tags")


@strict("raise")
def test_a_statement_inside_suspend_audit_is_not_blind(authors):
    with capture_events() as events, suspend_audit():
        run(UPDATE, ["x"])
    assert events == []
    assert set(Author.objects.values_list("name", flat=True)) == {"x"}


@strict("ignore")
def test_by_default_nothing_is_looked_at(authors, monkeypatch):
    monkeypatch.setattr(blind, "read", None)
    with override_settings(SIGNAL_AUDIT={}):
        assert seen(UPDATE, ["x"]) == []
    assert seen(UPDATE, ["y"]) == []


@override_settings(SIGNAL_AUDIT={"BLIND_WRITES": "rais"})
def test_wrong_settings_do_not_stop_statements():
    run("SELECT 1")
    run("UPDATE testapp_plain SET name = 'x'")
    with pytest.raises(AuditBlindWriteError), strict("raise"):
        run(UPDATE, ["x"])


@strict("record")
def test_no_query_is_added_to_what_is_not_blind(authors):
    with CaptureQueriesContext(connection) as queries:
        run("SELECT 1")
        list(Author.objects.all())
        Plain.objects.create(name="x")
    assert len(queries) == 3


def _book():
    author = Author.objects.create(name="a")
    book = Book.objects.create(title="b", author=author)
    book.chapters.create(number=1)
    book.tags.add(Tag.objects.create(name="t"))
    return book


def _on_delete():
    parent, other = Parent.objects.create(name="p"), Parent.objects.create(name="q")
    Keeper.objects.create(nullable=other, default=other, chosen=other)
    Step.objects.create(parent=other, name="s")
    parent.set_step_order([])
    other.delete()


def _save_all_ways():
    author = Author(name="a")
    author.save()
    author.name = "b"
    author.save(update_fields=["name"])
    Author(pk=author.pk, name="c").save()
    Author.objects.update_or_create(name="c", defaults={"name": "d"})
    Garage.objects.create(cars=1).save()
    Tower.objects.create(height=1).delete()
    Quick.objects.create(name="q").delete()


def _fixture(tmp_path_factory):
    book = _book()
    path = tmp_path_factory / "fixture.json"
    call_command("dumpdata", "testapp.author", "testapp.book", output=str(path))
    book.delete()
    call_command("loaddata", str(path), verbosity=0)


ORM = {
    "save": _save_all_ways,
    "delete an instance": lambda: _book().delete(),
    "delete with cascades": lambda: _book() and Book.objects.all().delete(),
    "delete in the dark": lambda: _book() and Chapter.objects.all().delete(),
    "delete with on_delete": _on_delete,
    "set null": lambda: Author.objects.filter(pk=_book().author.pk).delete(),
    "update": lambda: _book() and Book.objects.update(title="x"),
    "update a proxy": lambda: _book() and BookProxy.objects.update(title="x"),
    "update a child": lambda: Garage.objects.create() and Garage.objects.update(cars=1, floors=2),
    "update an unaudited child": lambda: Tower.objects.create() and Tower.objects.update(floors=2),
    "bulk_create": lambda: Author.objects.bulk_create([Author(name="a"), Author(name="b")]),
    "bulk_create with conflicts": lambda: Account.objects.bulk_create(
        [Account(email="a@example.org"), Account(email="b@example.org")], ignore_conflicts=True
    ),
    "bulk_update": lambda: Book.objects.bulk_update([_book()], ["title", "stock"]),
    "add": lambda: _book().tags.add(Tag.objects.create(name="u")),
    "set": lambda: _book().tags.set([Tag.objects.create(name="u")]),
    "clear": lambda: _book() and Book.objects.first().tags.clear(),
    "remove": lambda: _book().tags.remove(*Tag.objects.all()),
    "add from the far side": lambda: Tag.objects.create(name="u").books.add(_book()),
    "symmetrical": lambda: Friend.objects.create(name="a").friends.add(
        Friend.objects.create(name="b")
    ),
    "through rows": lambda: Loan.objects.create(
        book=_book(), reader=Reader.objects.create(name="r")
    ).delete(),
    "through defaults": lambda: _book().readers.add(Reader.objects.create(name="r")),
    "related manager": lambda: Author.objects.create(name="z").books.set([_book()]),
}

POLICIES = {
    "recorded": {},
    "not at all": {"MODELS": {"testapp.*": {"on": []}}},
    "summary": {"MODELS": {"testapp.*": {"bulk": "summary"}}},
    "off": {"MODELS": {"testapp.*": {"bulk": "off"}}},
    "everything": {"MODELS": {"testapp.*": {}}},
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", ORM)
def test_no_write_by_the_orm_is_blind(way, policy):
    with strict("raise", **POLICIES[policy]):
        ORM[way]()
        with transaction.atomic():
            ORM[way]() if way != "bulk_create with conflicts" else None


@pytest.mark.django_db(transaction=True)
@strict("raise")
def test_no_fixture_is_blind(tmp_path):
    _fixture(tmp_path)
    assert Book.objects.count() == 1


@strict("record")
def test_what_goes_round_capture_is_blind(authors):
    with capture_events() as events:
        Author.objects.filter(name="Ada")._raw_delete("default")
        Author.objects.filter(name="Bob")._update([(Author._meta.get_field("name"), None, "x")])
        Author.objects._insert([Author(name="n")], fields=[Author._meta.get_field("name")])
        query = UpdateQuery(Author)
        query.add_update_values({"name": "y"})
        query.get_compiler("default").execute_sql("row count")
        if connection.features.can_return_columns_from_insert:
            list(Author.objects.raw("INSERT INTO testapp_author (name) VALUES ('r') RETURNING id"))
    operations = [operation for _, operation, _, _ in blind_writes(events)]
    assert operations[:4] == ["delete", "update", "insert", "update"]
    assert operations[4:] in (["insert"], [])


@strict("record")
def test_raw_sql_in_a_receiver_inside_of_a_delete_is_blind(authors):
    def receiver(**kwargs):
        run("UPDATE testapp_author SET name = 'x'")

    pre_delete.connect(receiver, sender=Author)
    try:
        with capture_events() as events:
            authors[0].delete()
    finally:
        pre_delete.disconnect(receiver, sender=Author)
    assert blind_writes(events) == [("testapp.author", "update", "testapp_author", 2)]


@strict("record")
def test_raw_sql_to_another_table_while_the_orm_writes_is_blind(authors, monkeypatch):
    def pre_save(self, instance, add):
        run("UPDATE testapp_author SET name = 'x'")
        return "text"

    monkeypatch.setattr(models.TextField, "pre_save", pre_save)
    with capture_events() as events:
        Gauge.objects.create()
        Account.objects.create(email="a@example.org")
    assert {found[:3] for found in blind_writes(events)} == {
        ("testapp.author", "update", "testapp_author")
    }


@pytest.mark.django_db(transaction=True)
@strict("raise")
def test_emptying_all_tables_is_not_blind(authors):
    call_command("flush", interactive=False, verbosity=0)
    assert Author.objects.count() == 0


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@strict("record")
def test_a_second_alias_is_watched():
    with capture_events() as events:
        run("INSERT INTO testapp_author (name) VALUES ('x')", using="other")
    (event,) = events
    assert event.database == "other"
    assert AuditRecord.objects.using("other").filter(event="model.blind_write").count() == 1


@pytest.mark.django_db(transaction=True)
@strict("raise")
def test_connections_of_later_threads_and_aliases_are_watched(authors):
    caught = []

    def in_thread():
        try:
            with pytest.raises(AuditBlindWriteError):
                run(UPDATE, ["x"])
            caught.append(True)
        finally:
            connection.connection.close()  # Django ignores close() on a database in memory

    with strict("raise", SINKS={}):
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        assert caught == [True]
        with (
            another_alias("third", "default"),
            pytest.raises(AuditBlindWriteError),
        ):
            run(UPDATE, ["x"], using="third")


@pytest.mark.django_db(transaction=True)
@strict("raise")
def test_a_connection_is_watched_once_and_a_copy_not_at_all():
    connection.ensure_connection()
    blind.connect()
    wrappers = connection.execute_wrappers
    assert wrappers.count(blind._around) == 1
    assert wrappers[0] is blind._around
    copy = connection.copy()
    try:
        copy.ensure_connection()
        assert blind._around not in copy.execute_wrappers
    finally:
        copy.connection.close()


def _apply(operation, before):
    after = before.clone()
    operation.state_forwards("testapp", after)
    atomic = connection.features.can_rollback_ddl
    with connection.schema_editor(atomic=atomic) as editor:
        operation.database_forwards("testapp", editor, before, after)
    return after


@pytest.mark.django_db(transaction=True)
@strict("raise")
def test_what_a_migration_fills_in_is_not_blind_but_run_sql_is(authors):
    if connection.vendor == "sqlite":
        connection.disable_constraint_checking()
    state = ProjectState()
    state.add_model(migrations.state.ModelState.from_model(Author))
    added = [
        ("motto", models.TextField(default="none")),
        ("rank", models.IntegerField(null=True)),
    ]
    try:
        for name, field in added:
            state = _apply(migrations.AddField("author", name, field), state)
        filled = models.IntegerField(default=7)
        state = _apply(migrations.AlterField("author", "rank", filled), state)
        with connection.cursor() as cursor:
            cursor.execute("SELECT motto, rank FROM testapp_author")
            assert set(cursor.fetchall()) == {("none", 7)}
        with pytest.raises(AuditBlindWriteError, match="UPDATE of testapp_author"):
            _apply(migrations.RunSQL("UPDATE testapp_author SET name = 'x'"), state)
        with suspend_audit():
            _apply(migrations.RunSQL("UPDATE testapp_author SET name = 'x'"), state)
        historical = state.apps.get_model("testapp", "Author")
        historical.objects.create(name="y", motto="m", rank=1)
        historical.objects.update(name="z")
        historical.objects.all().delete()
    finally:
        for name, _ in reversed(added):
            with contextlib.suppress(Exception):
                state = _apply(migrations.RemoveField("author", name), state)
        if connection.vendor == "sqlite":
            connection.enable_constraint_checking()
    assert Author.objects.count() == 0


@pytest.mark.skipif(django.VERSION < (6, 1), reason="Django 6.1 has cascades of the database")
@strict("record")
def test_a_delete_is_told_of_for_the_tables_that_the_database_goes_on_to():
    app = import_module("tests.replayapp.models")
    leaf = app.Leaf.objects.create(root=app.Root.objects.create())
    app.Vein.objects.create(leaf=leaf)
    with capture_events() as events:
        run("DELETE FROM replayapp_root")
    assert [(e.object_type, e.data) for e in events] == [
        ("replayapp.root", {"table": "replayapp_root", "operation": "delete", "rows": 1}),
        *(
            (
                f"replayapp.{name}",
                {
                    "table": f"replayapp_{name}",
                    "operation": operation,
                    "rows": None,
                    "through": "replayapp_root",
                },
            )
            for name, operation in (("leaf", "delete"), ("moss", "update"), ("vein", "delete"))
        ),
    ]
    assert app.Vein.objects.count() == 0
    with (
        strict("raise", MODELS={"replayapp.Root": False}),
        pytest.raises(AuditBlindWriteError, match="by way of replayapp_root"),
    ):
        run("DELETE FROM replayapp_root")
    with strict("raise"):
        app.Root.objects.create().delete()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(django.VERSION < (6, 1), reason="Django 6.1 has cascades of the database")
@pytest.mark.parametrize("root_is_audited", [True, False])
def test_the_lock_that_a_write_takes_first_is_not_blind_where_the_database_goes_on(root_is_audited):
    app = import_module("tests.replayapp.models")
    roots = [app.Root.objects.create() for _ in range(2)]
    app.Leaf.objects.create(root=roots[0])
    models = {} if root_is_audited else {"replayapp.Root": False}
    with strict("raise", MODELS=models), capture_events() as events:
        with transaction.atomic():
            roots[0].delete()
        with transaction.atomic():
            app.Root.objects.all().delete()
    assert blind_writes(events) == []
    assert len(events.named("model.delete")) == 1 + 2 * root_is_audited
    assert app.Root.objects.count() == app.Leaf.objects.count() == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("end", "name", "recorded"), [("COMMIT", "b", 1), ("ROLLBACK", "a", 0)])
def test_a_transaction_that_was_begun_by_sql_is_left_to_the_program(end, name, recorded):
    author = Author.objects.create(name="a")
    with strict("record"):
        run("BEGIN")
        try:
            run(UPDATE, ["b"])
        finally:
            run(end)
    author.refresh_from_db()
    assert author.name == name
    assert AuditRecord.objects.filter(event="model.blind_write").count() == recorded
