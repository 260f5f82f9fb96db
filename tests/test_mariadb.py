"""What MariaDB does differently, and what the trail says nonetheless."""

# ruff: noqa: PT012 - blocks that fail are what is tested

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress

import pytest
from django.core import checks
from django.core.checks import run_checks
from django.db import (
    DatabaseError,
    DataError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.models import F

from django_signal_audit import event_signal, internals
from django_signal_audit.event import Actor
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import DatabaseSink, mariadb
from django_signal_audit.testing import capture_events
from tests.capture.test_querysets import guarded, hold_a_guard
from tests.databases import without_records
from tests.factories import make_config, make_event
from tests.test_transactions import (
    OursError,
    created,
    database_and_memory,
    let_the_server_cut,
    manual,
    second_connection,
    texts,
    told,
)
from tests.testapp.models import Account, Author, Book, Chapter, Counter, Seat, TextKey

pytestmark = [
    pytest.mark.skipif("connection.vendor != 'mysql'", reason="about MariaDB"),
    pytest.mark.django_db(transaction=True),
]

EMOJI = "\N{PARTY POPPER}"


def run(sql, *parameters, on=None):
    with (on or connection).cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def act(message="act"):
    event_signal.send(sender="test", message=message)


@pytest.fixture
def fresh():
    with second_connection("default") as other:
        yield other


@contextmanager
def options(**wanted):
    """The default connection, connected anew with other options."""
    settings = connection.settings_dict
    before = settings["OPTIONS"]
    cached = ("mysql_server_data", "sql_mode")
    connection.close()
    settings["OPTIONS"] = {**before, **wanted}
    try:
        for name in cached:
            connections["default"].__dict__.pop(name, None)
        yield
    finally:
        connection.close()
        settings["OPTIONS"] = before
        for name in cached:
            connections["default"].__dict__.pop(name, None)


# Keys are compared exactly


@pytest.mark.parametrize("other", ["ABC", "abc ", "\u00e4bc", "abc\t"])
def test_two_keys_that_differ_a_little_are_two_objects(other):
    DatabaseSink(make_config()).write(
        connection, [make_event(object_type="testapp.textkey", object_id="abc")]
    )
    DatabaseSink(make_config()).write(
        connection, [make_event(object_type="testapp.textkey", object_id=other)]
    )

    for key in ("abc", other):
        [record] = AuditRecord.objects.get_for_object(TextKey(key=key))
        assert record.object_id == key
        assert AuditRecord.objects.filter(object_id__in=[key]).count() == 1


def test_names_and_actors_are_compared_exactly_too():
    DatabaseSink(make_config()).write(
        connection, [make_event(event="order.paid", actor=Actor("service", "Importer", "Importer"))]
    )
    assert AuditRecord.objects.filter(event="order.paid").count() == 1
    assert AuditRecord.objects.filter(event="Order.paid").count() == 0
    assert AuditRecord.objects.by_actor(Actor("service", "Importer")).count() == 1
    assert AuditRecord.objects.by_actor(Actor("service", "importer")).count() == 0


def test_texts_for_people_are_searched_without_regard_to_case():
    DatabaseSink(make_config()).write(
        connection, [make_event(message="Order Paid", object_repr="Ada")]
    )
    assert AuditRecord.objects.filter(message__icontains="order p").count() == 1
    assert AuditRecord.objects.filter(object_repr__icontains="ADA").count() == 1


def test_records_can_be_joined_with_columns_of_the_database():
    author = Author.objects.create(name="a")
    assert Author.objects.filter(name__in=AuditRecord.objects.values("object_repr")).exists()
    held = TextKey.objects.create(key="k")
    assert TextKey.objects.filter(pk__in=AuditRecord.objects.values("object_id")).get() == held
    assert author.pk


def test_a_row_found_by_another_spelling_is_recorded_under_its_own():
    TextKey.objects.create(key="abc", label="old")
    for write in (
        lambda held: held.save(),
        lambda held: held.save(update_fields=["label"]),
        lambda held: held.delete(),
    ):
        held = TextKey(key="ABC", label="new")
        held._state.adding = False
        TextKey.objects.filter(key="abc").update(label="old")
        with capture_events() as events:
            write(held)
        [event] = events
        assert event.object_id == "abc"
        assert event.changes["label"][0] == "old"
        if event.event == "model.update":
            assert event.changes == {"label": ["old", "new"]}


# Characters and lengths


@pytest.fixture
def latin1():
    """A table of records made in a database of another character set."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with without_records():
        run(f"ALTER DATABASE {name} CHARACTER SET latin1")
        connection.close()
        with connection.schema_editor() as editor:
            editor.create_model(AuditRecord)
        try:
            yield
        finally:
            with connection.schema_editor() as editor:
                editor.delete_model(AuditRecord)
            run(f"ALTER DATABASE {name} CHARACTER SET utf8mb4")
            connection.close()


def test_the_table_of_records_knows_every_character_in_any_database(latin1):
    act(EMOJI)
    assert AuditRecord.objects.get().message == EMOJI
    columns = run(
        "SELECT DISTINCT character_set_name FROM information_schema.columns WHERE table_name = %s "
        "AND table_schema = DATABASE() AND character_set_name IS NOT NULL",
        AuditRecord._meta.db_table,
    )
    assert columns == (("utf8mb4",),)
    assert AuditRecord.objects.filter(message__icontains=EMOJI).count() == 1


@pytest.mark.parametrize("charset", ["utf8mb3", "latin1"])
def test_a_connection_of_few_characters_stores_whole_records(charset):
    with options(charset=charset):
        with transaction.atomic():
            Author.objects.create(name="a")
            event_signal.send(
                sender="test", message=EMOJI + "\u00e9'\\", text=EMOJI, number=1.5, duration_ms=0.1
            )
        assert Author.objects.count() == 1
        [found] = run_checks(tags=["signal_audit"], databases=["default"])[-1:]
        assert found == checks.Warning(
            f"The connection to database 'default' has the character set {charset}, which lacks "
            "characters: records are stored whole, but read back with question marks.",
            hint="Leave 'charset' out of DATABASES['default']['OPTIONS']; Django's default "
            "is utf8mb4.",
            id="django_signal_audit.W054",
        )
    record = AuditRecord.objects.get(event="event")
    assert record.message == EMOJI + "\u00e9'\\"
    assert record.data == {"text": EMOJI, "number": 1.5, "duration_ms": 0.1}
    assert AuditRecord.objects.get(event="model.create").changes["name"] == [None, "a"]


def test_there_is_nothing_to_warn_of_otherwise():
    assert list(mariadb.server_warnings("default")) == []


def test_a_server_that_sorts_ids_by_their_last_part_is_warned_of(monkeypatch):
    # This server sorts ids of the older version 1 as it once sorted all.
    monkeypatch.setattr(mariadb, "_EARLIER", mariadb._EARLIER.replace("-7", "-1"))
    monkeypatch.setattr(mariadb, "_LATER", mariadb._LATER.replace("-7", "-1"))
    assert list(mariadb.server_warnings("default")) == [
        checks.Warning(
            "The server of database 'default' does not sort ids by time: records come out of "
            "order, and between() misses some.",
            hint="Use MariaDB 10.11.6 or newer (of 11.0, 11.0.4).",
            id="django_signal_audit.W055",
        )
    ]


def test_texts_beyond_64_kilobytes_are_stored_whole():
    long = EMOJI * 50_000
    event = make_event(message=long, changes={"a": [None, long]}, reason=long, sender=long)
    DatabaseSink(make_config()).write(connection, [event])
    record = AuditRecord.objects.get()
    assert (record.message, record.reason, record.sender) == (long, long, long)
    assert record.changes == {"a": [None, long]}


def test_a_flush_of_many_large_events_stays_below_the_largest_packet():
    [[largest]] = run("SELECT @@max_allowed_packet")
    events = [make_event(message=EMOJI * 500_000) for _ in range(10)]
    assert sum(len(event.message.encode()) for event in events) > largest
    DatabaseSink(make_config()).write(connection, events)
    assert AuditRecord.objects.count() == 10


def test_keeping_what_is_stored_hides_no_other_error():
    with pytest.raises(DataError):
        DatabaseSink(make_config()).write(
            connection, [make_event(event="e" * 256)], ignore_existing=True
        )
    assert AuditRecord.objects.count() == 0


NOT_STRICT = {"init_command": "SET sql_mode = ''"}


def test_what_a_server_that_is_not_strict_cuts_is_recorded_as_cut():
    with options(**NOT_STRICT), capture_events() as events:
        author = Author.objects.create(name="n" * 150)
        author.name = "m" * 150
        author.save()
        Author.objects.update(name="o" * 150)
        Author.objects.bulk_create([Author(name="p" * 150)])
    assert [event.changes["name"] for event in events] == [
        [None, "n" * 100],
        ["n" * 100, "m" * 100],
        ["m" * 100, "o" * 100],
        [None, "p" * 100],
    ]


def test_a_server_that_is_not_strict_updates_keys_too():
    held = TextKey.objects.create(key="a", label="l")
    with options(**NOT_STRICT), capture_events() as events:
        TextKey.objects.filter(pk=held.pk).update(key="b", label="m")
    assert [event.changes for event in events] == [{"key": ["a", "b"], "label": ["l", "m"]}]


def test_a_server_that_is_not_strict_cuts_no_record():
    long = "k" * 700
    with options(**NOT_STRICT):
        event_signal.send(
            sender=long, event=long, message=long, actor=Actor(long, long, long), text=long
        )
        TextKey.objects.create(key=long)
        for record in AuditRecord.objects.all():
            before = record.to_event()
            assert len(before.event) <= 255
            assert len(before.object_id or "") <= 255
        assert AuditRecord.objects.get_for_object(TextKey(key=long)).count() == 1
        assert run("SHOW WARNINGS") == ()


def test_keys_without_a_sign_are_recorded():
    counter = Counter.objects.create(pk=2**64 - 1)
    counter.count = 1
    with capture_events() as events:
        counter.save()
        Counter.objects.update(count=2)
        counter.delete()
    assert {event.object_id for event in events} == {str(2**64 - 1)}
    assert [event.changes["count"] for event in events] == [[0, 1], [1, 2], [2, None]]


# Writes in bulk


def test_an_update_in_an_order_keeps_it_beyond_one_chunk():
    Seat.objects.bulk_create([Seat(row=1, number=n) for n in range(1200)])
    with capture_events() as events:
        assert Seat.objects.order_by("-number").update(number=F("number") + 1) == 1200
    assert sorted(event.changes["number"] for event in events) == [[n, n + 1] for n in range(1200)]


def test_a_conflict_on_any_unique_column_is_seen():
    held = Account.objects.create(email="held@b.c", settings={"a": 1})
    with capture_events() as events:
        Account.objects.bulk_create(
            [Account(pk=held.pk + 100, email="held@b.c", settings={"a": 2})],
            update_conflicts=True,
            update_fields=["settings"],
        )
    [event] = events
    assert (event.event, event.object_id) == ("model.update", str(held.pk))
    assert event.changes == {"settings": [{"a": 1}, {"a": 2}]}


def test_a_conflict_with_another_spelling_is_seen():
    held = Account.objects.create(email="held@b.c", settings={"a": 1})
    with capture_events() as events:
        Account.objects.bulk_create([Account(email="HELD@b.c")], ignore_conflicts=True)
    assert events == []
    with capture_events() as events:
        Account.objects.bulk_create(
            [Account(email="HELD@b.c", settings={"a": 2})],
            update_conflicts=True,
            update_fields=["settings"],
        )
    assert [event.object_id for event in events] == [str(held.pk)]


# Locks


def lock(author, on):
    run("SELECT id FROM testapp_author WHERE id = %s FOR UPDATE", author.pk, on=on)


@pytest.fixture
def authors():
    return [Author.objects.create(name=name) for name in "ab"]


@pytest.mark.parametrize(
    "write",
    [
        lambda: Author.objects.filter(name="b").update(born="2000-01-01"),
        lambda: Author.objects.filter(name="b", books__isnull=True).update(born="2000-01-01"),
        lambda: Author.objects.get(name="b").save(),
    ],
    ids=["update", "joined update", "save"],
)
def test_a_write_waits_for_no_row_that_it_does_not_mean(authors, fresh, write):
    if not internals.update_passes_locked_rows(connection):
        pytest.skip("under REPEATABLE READ an UPDATE waits for them by itself")
    run("SET SESSION innodb_lock_wait_timeout = 1")
    fresh.set_autocommit(False)
    lock(authors[0], fresh)
    write()


def test_a_row_that_is_written_is_locked_before_it_is_read(authors, fresh):
    fresh.set_autocommit(False)
    run("SET SESSION innodb_lock_wait_timeout = 1", on=fresh)
    with transaction.atomic():
        Author.objects.filter(name="b").update(born="2000-01-01")
        with pytest.raises(OperationalError, match="1205"):
            lock(authors[1], fresh)


@pytest.mark.parametrize(
    "write",
    [
        lambda author: Author.objects.filter(pk=author.pk).update(name="new"),
        lambda author: Author.objects.filter(name="other").update(name="new"),
        lambda author: Author(pk=author.pk, name="new").save(),
        lambda author: Author(pk=author.pk, name="new").save(update_fields=["name"]),
        lambda author: Author.objects.filter(pk=author.pk).delete(),
    ],
    ids=["update", "update by filter", "save", "update_fields", "delete"],
)
def test_what_another_transaction_wrote_is_the_old_value_not_the_snapshots(authors, fresh, write):
    with options(isolation_level="repeatable read"), transaction.atomic():
        assert Author.objects.get(pk=authors[1].pk).name == "b"
        run("UPDATE testapp_author SET name = 'other' WHERE name = 'b'", on=fresh)
        assert Author.objects.get(pk=authors[1].pk).name == "b"
        with capture_events() as events:
            write(authors[1])
    [event] = events
    assert event.changes["name"][0] == "other"


def test_an_update_to_what_the_row_holds_already_is_no_change(authors, fresh):
    """The snapshot still shows what the row held before."""
    author = authors[1]
    with options(isolation_level="repeatable read"), transaction.atomic():
        assert Author.objects.get(pk=author.pk).name == "b"
        run("UPDATE testapp_author SET name = 'other' WHERE name = 'b'", on=fresh)
        with capture_events() as events:
            assert Author.objects.filter(pk=author.pk).update(name=F("name")) == 1
            assert Author.objects.bulk_update([Author(pk=author.pk, name="other")], ["name"])
            author.name = F("name")
            author.save()
            Author.objects.bulk_create([Author(pk=author.pk)], ignore_conflicts=True)
        assert events == []


def test_many_rows_are_read_as_they_are_not_as_the_snapshot_shows_them(fresh):
    Author.objects.bulk_create([Author(name="a") for _ in range(1100)])
    with options(isolation_level="repeatable read"), transaction.atomic():
        assert Author.objects.filter(name="a").count() == 1100
        run("UPDATE testapp_author SET name = 'other'", on=fresh)
        with capture_events() as events:
            Author.objects.filter(name="other").update(name="new")
    assert {tuple(event.changes["name"]) for event in events} == {("other", "new")}
    assert len(events) == 1100


@pytest.mark.parametrize("guard", guarded(Chapter.objects))
@pytest.mark.parametrize("write", ["update", "delete"])
def test_a_guard_holds_under_repeatable_read_too(guard, write):
    with options(isolation_level="repeatable read"):
        hold_a_guard(guard, write)


def test_a_joined_row_is_written_once(authors):
    for title in "xyz":
        Book.objects.create(title=title, author=authors[0])
    for level in ("read committed", "repeatable read"):
        with options(isolation_level=level), capture_events() as events:
            assert Author.objects.filter(books__stock=0).update(name=level) == 1
        assert len(events) == 1


def test_a_lock_that_is_waited_for_in_vain_ends_only_its_statement(authors, fresh):
    fresh.set_autocommit(False)
    lock(authors[0], fresh)
    with transaction.atomic():
        run("SET SESSION innodb_lock_wait_timeout = 1")
        Author.objects.create(name="c")
        with pytest.raises(OperationalError, match="1205"):
            lock(authors[0], connection)
        Author.objects.create(name="d")
    assert told() == created("a", "b", "c", "d")


# A deadlock rolls the whole transaction back


@contextmanager
def deadlock(authors):
    """Inside, locking the first author fails: another thread holds it and waits for the second.

    The server gives up the one who has written less; the other has written many rows.
    """
    lock(authors[1], connection)
    holds = threading.Event()

    def other():
        try:
            with transaction.atomic():
                run("INSERT INTO testapp_plain (name) VALUES " + ", ".join(["('x')"] * 500))
                lock(authors[0], connections["default"])
                holds.set()
                lock(authors[1], connections["default"])
        finally:
            connections.close_all()

    thread = threading.Thread(target=other)
    thread.start()
    assert holds.wait(20)
    try:
        yield
    finally:
        thread.join(20)


def test_a_deadlock_leaves_nothing_of_what_came_before_it(authors):
    """Caught inside of the block, where Django goes on as if the block had not been undone."""
    with database_and_memory() as memory:
        with transaction.atomic():
            Author.objects.create(name="undone")
            act("tried")
            with deadlock(authors), pytest.raises(OperationalError, match="1213"):
                lock(authors[0], connection)
            Author.objects.create(name="after")
        assert texts(memory.events) == ["tried", "after"]
        assert [event.rolled_back for event in memory.events] == [True, False]
    assert set(Author.objects.values_list("name", flat=True)) == {"a", "b", "after"}
    assert sorted(told()) == sorted(
        [*created("a", "b"), ("event", "tried", True), *created("after")]
    )


def test_a_deadlock_in_a_save_leaves_only_custom_events(authors):
    with pytest.raises(OperationalError, match="1213"), transaction.atomic():
        Author.objects.create(name="undone")
        act("tried")
        with deadlock(authors):
            authors[0].name = "c"
            authors[0].save()
    assert Author.objects.count() == 2
    assert told() == [*created("a", "b"), ("event", "tried", True)]


def test_a_deadlock_in_an_inner_block_takes_the_outer_one_with_it(authors):
    with pytest.raises(DatabaseError), transaction.atomic():
        Author.objects.create(name="undone")
        with suppress(DatabaseError), transaction.atomic(), deadlock(authors):
            authors[0].name = "c"
            authors[0].save()
        Author.objects.create(name="after")
    assert Author.objects.count() == 2
    assert told() == created("a", "b")


def test_a_deadlock_in_a_transaction_by_hand_is_forgotten_with_it(authors):
    with manual():
        Author.objects.create(name="undone")
        with deadlock(authors), pytest.raises(OperationalError, match="1213"):
            lock(authors[0], connection)
        Author.objects.create(name="after")
        transaction.commit()
    assert told() == created("a", "b", "after")


# Statements that commit what is open


@pytest.fixture
def _made_table():
    yield
    run("DROP TABLE IF EXISTS made")


COMMITTING = [
    "CREATE TABLE made (a INT)",
    "  -- a comment\n /* and one more */ ALTER TABLE testapp_plain COMMENT = 'x'",
    "TRUNCATE TABLE testapp_plain",
    "COMMIT",
    "CREATE TABLE testapp_author (a INT)",
    "SET STATEMENT max_statement_time = 10 FOR TRUNCATE TABLE testapp_plain",
    "set default role none",
    "/*!50000 CREATE TABLE made AS */ SELECT 1",
]


@pytest.mark.usefixtures("_made_table")
@pytest.mark.parametrize("statement", COMMITTING)
@pytest.mark.parametrize("fails_later", [False, True])
def test_a_statement_that_commits_takes_the_records_with_it(statement, fails_later):
    with database_and_memory() as memory, suppress(OursError), transaction.atomic():
        Author.objects.create(name="before")
        act("meant")
        with suppress(OperationalError):  # the last table is there already
            run(statement)
        assert texts(memory.events) == ["before", "meant"]
        Author.objects.create(name="after")
        if fails_later:
            raise OursError
    after = [] if fails_later else ["after"]
    assert list(Author.objects.order_by("id").values_list("name", flat=True)) == ["before", *after]
    assert told() == [*created("before"), ("event", "meant", False), *created(*after)]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TEMPORARY TABLE made (a INT)",
        "ALTER TABLE no such thing",
        "DO 1",
        "(SELECT 1)",
        "SELECT nothing",
    ],
)
def test_a_statement_that_commits_nothing_changes_nothing(statement):
    with database_and_memory() as memory:
        with pytest.raises(OursError), transaction.atomic():
            Author.objects.create(name="undone")
            act("tried")
            with suppress(DatabaseError):
                run(statement)
            run("DROP TEMPORARY TABLE IF EXISTS made")
            assert memory.events == []
            raise OursError
        assert texts(memory.events) == ["tried"]
    assert Author.objects.count() == 0
    assert told() == [("event", "tried", True)]


def test_a_committing_statement_in_a_broken_block_is_refused_as_ever():
    with transaction.atomic():
        Author.objects.create(name="undone")
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            run("CREATE TABLE made (a INT)")
    assert told() == []


def test_autocommit_that_is_set_by_a_statement_commits():
    with suppress(OursError), transaction.atomic():
        Author.objects.create(name="before")
        run("SET @@autocommit = 1")
        raise OursError
    connection.close()
    assert told() == created("before")
    assert Author.objects.count() == 1


@pytest.mark.parametrize("statement", ["ROLLBACK", "/* all */ rollback and chain"])
def test_a_statement_that_rolls_back_leaves_only_custom_events(statement):
    with transaction.atomic():
        Author.objects.create(name="undone")
        act("tried")
        run(statement)
        Author.objects.create(name="after")
    assert set(Author.objects.values_list("name", flat=True)) == {"after"}
    assert sorted(told()) == sorted([("event", "tried", True), *created("after")])


def test_a_statement_that_rolls_back_to_a_savepoint_leaves_the_transaction():
    with transaction.atomic():
        Author.objects.create(name="kept")
        run("SAVEPOINT mine")
        run("ROLLBACK TO SAVEPOINT mine")
    assert told() == created("kept")


def test_without_records_no_statement_commits():
    with without_records():
        with pytest.raises(DatabaseError, match="migrate"), transaction.atomic():
            Author.objects.create(name="undone")
            run("CREATE TABLE made (a INT)")
        assert Author.objects.count() == 0
        assert run("SHOW TABLES LIKE 'made'") == ()


def test_a_statement_on_a_dead_connection_leaves_only_custom_events():
    with pytest.raises(OperationalError), transaction.atomic():
        Author.objects.create(name="undone")
        act("tried")
        let_the_server_cut(connection)
        with pytest.raises(OperationalError):
            run("SELECT 1")
    assert Author.objects.count() == 0
    assert told() == [("event", "tried", True)]


def test_the_programs_own_statement_wrappers_are_left_in_place():
    connection.close()
    seen = []

    def note(execute, sql, *arguments):
        seen.append(sql)
        return execute(sql, *arguments)

    with second_connection("default") as other:
        connections["default"], before = other, connections["default"]
        try:
            with other.execute_wrapper(note):
                Author.objects.create(name="a")
            ours = list(other.execute_wrappers)
            count = len(seen)
            with transaction.atomic():
                Author.objects.create(name="undone")
                run("ALTER TABLE testapp_plain COMMENT = 'x'", on=other)
                transaction.set_rollback(True)
        finally:
            connections["default"] = before
    assert note not in ours
    assert len(ours) == 2  # that of blind writes, and that of statements that commit
    assert len(seen) == count > 0
    assert told() == created("a", "undone")
