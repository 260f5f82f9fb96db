"""A trail in a database of its own: what is moved there, when, and what is left where it is."""

# ruff: noqa: PT012 - blocks that fail are what is tested

from __future__ import annotations

import logging
import threading
import time

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import TestCase, override_settings

from django_signal_audit import event_signal
from django_signal_audit.models import AuditRecord
from django_signal_audit.reader import read_databases, trail_databases
from django_signal_audit.sinks import aliases, counters, forwarding, mariadb, moving, routing
from tests.databases import another_alias, refusing, shared_database, without_records
from tests.factories import make_event
from tests.management.trails import record, store
from tests.running import run_script
from tests.testapp.models import Author, Book

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

AUDIT = "other"


def sinks(**options):
    """The trail is written on the alias that is written, and moved to ``other``."""
    entry = {"BACKEND": "django_signal_audit.sinks.DatabaseSink"}
    given = {"database": AUDIT, **options}
    return override_settings(SIGNAL_AUDIT={"SINKS": {"default": {**entry, "OPTIONS": given}}})


@pytest.fixture
def _own():
    with sinks():
        yield


def events_on(alias):
    return list(AuditRecord.objects.using(alias).order_by("id").values_list("event", flat=True))


def ids_on(alias):
    return set(AuditRecord.objects.using(alias).values_list("id", flat=True))


def forwarder():
    (route,) = routing.all_routes()
    return route.sink._forwarder


def retry_now():
    forwarder()._not_before = 0.0


# What is moved


@pytest.mark.usefixtures("_own")
def test_a_record_is_moved_when_its_transaction_has_committed():
    with transaction.atomic():
        Author.objects.create(name="Ann")
        assert events_on(AUDIT) == []
    assert events_on("default") == []
    assert events_on(AUDIT) == ["model.create"]
    assert counters.snapshot()["default"] == {"emitted": 1, "written": 1, "forwarded": 1}


@pytest.mark.usefixtures("_own")
def test_a_write_in_autocommit_is_moved():
    author = Author.objects.create(name="Ann")
    Author.objects.filter(pk=author.pk).update(name="Bea")
    author.delete()
    assert events_on("default") == []
    assert events_on(AUDIT) == ["model.create", "model.update", "model.delete"]


@pytest.mark.usefixtures("_own")
def test_a_moved_record_is_the_event_that_was_written():
    seen = []
    with transaction.atomic():
        Book.objects.create(title="naïve 🦆 %s", price="1.10", meta={"n": 1.5, "on": [True, None]})
        seen.append(AuditRecord.objects.using("default").get().to_event())
    assert [AuditRecord.objects.using(AUDIT).get().to_event()] == seen
    assert seen[0].database == "default"


@pytest.mark.usefixtures("_own")
def test_what_is_written_on_the_audit_database_stays_there():
    Author.objects.using(AUDIT).create(name="Ann")
    assert events_on(AUDIT) == ["model.create"]
    assert counters.snapshot()["default"] == {"emitted": 1, "written": 1}


@pytest.mark.usefixtures("_own")
def test_an_event_outside_of_a_transaction_is_moved():
    event_signal.send(sender="test", event="shift.assigned")
    assert events_on("default") == []
    assert events_on(AUDIT) == ["shift.assigned"]


@pytest.mark.usefixtures("_own")
def test_an_event_that_outlived_its_transaction_is_moved():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Author.objects.create(name="Ann")
        event_signal.send(sender="test", event="shift.tried")
        raise ZeroDivisionError
    assert events_on("default") == []
    (found,) = AuditRecord.objects.using(AUDIT)
    assert (found.event, found.rolled_back) == ("shift.tried", True)


@pytest.mark.usefixtures("_own")
def test_a_rolled_back_change_is_nowhere():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Author.objects.create(name="Ann")
        raise ZeroDivisionError
    assert events_on("default") == events_on(AUDIT) == []


@pytest.mark.usefixtures("_own")
def test_manual_transactions_are_moved_when_autocommit_is_back():
    transaction.set_autocommit(False)
    try:
        Author.objects.create(name="Ann")
        transaction.commit()
        assert events_on("default") == ["model.create"]
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert events_on("default") == []
    assert events_on(AUDIT) == ["model.create"]


@pytest.mark.usefixtures("_own")
def test_hooks_of_the_program_run_before_and_cannot_stop_the_move():
    found = []

    def hook():
        found.append(events_on("default"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Author.objects.create(name="Ann")
        transaction.on_commit(hook)
    assert found == [["model.create"]]
    assert events_on(AUDIT) == ["model.create"]


@pytest.mark.usefixtures("_own")
def test_a_large_transaction_is_moved_piece_by_piece(monkeypatch, settings):
    monkeypatch.setattr(forwarding, "BATCH", 40)
    settings.SIGNAL_AUDIT = {**settings.SIGNAL_AUDIT, "BUFFER_SIZE": 10}
    Author.objects.bulk_create(Author(name=str(n)) for n in range(100))
    assert len(events_on(AUDIT)) == 40
    # Each of the next moves takes some of the rest.
    Author.objects.create(name="next")
    Author.objects.create(name="and next")
    assert len(events_on(AUDIT)) == 102
    assert events_on("default") == []


@pytest.mark.usefixtures("_own")
def test_what_others_left_is_taken_along_from_time_to_time(monkeypatch):
    Author.objects.create(name="looks for the first time")
    store([make_event()], "default")
    Author.objects.create(name="does not look again yet")
    assert events_on("default") == ["test.logging"]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + forwarding.SWEEP_EVERY + 1)
    Author.objects.create(name="looks")
    assert events_on("default") == []
    assert len(events_on(AUDIT)) == 4


def test_with_forward_command_nothing_is_moved_after_commit():
    with sinks(forward="command"):
        Author.objects.create(name="Ann")
        assert events_on("default") == ["model.create"]
        call_command("audit_forward", verbosity=0)
        assert events_on("default") == []
        assert events_on(AUDIT) == ["model.create"]


def test_without_the_option_records_stay():
    Author.objects.create(name="Ann")
    assert events_on("default") == ["model.create"]


@pytest.mark.usefixtures("_own")
def test_settings_that_change_meanwhile_leave_the_record():
    with transaction.atomic():
        Author.objects.create(name="Ann")
        wrong = override_settings(SIGNAL_AUDIT={"SINKS": {"default": {"BACKEND": "nowhere"}}})
        connection.run_on_commit.append((set(), wrong.enable, False))
    wrong.disable()
    assert events_on("default") + events_on(AUDIT) == ["model.create"]


class ATestCase(TestCase):
    databases = ("default", "other")

    def test_in_a_testcase_nothing_is_moved(self):
        with sinks():
            Author.objects.create(name="Ann")
            event_signal.send(sender="test", event="shift.assigned")
            assert events_on("default") == ["model.create", "shift.assigned"]
            assert events_on(AUDIT) == []


# What is left where it is


@pytest.mark.usefixtures("_own")
def test_inside_a_transaction_on_the_audit_database_records_wait():
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=AUDIT):
        Author.objects.create(name="Ann")
        raise ZeroDivisionError
    assert events_on("default") == ["model.create"]
    assert counters.snapshot()["default"]["delayed"] == 1
    Author.objects.create(name="Bea")
    assert events_on("default") == []
    assert events_on(AUDIT) == ["model.create"] * 2


@pytest.mark.usefixtures("_own")
def test_inside_a_manual_transaction_on_the_audit_database_records_wait():
    transaction.set_autocommit(False, using=AUDIT)
    try:
        Author.objects.create(name="Ann")
    finally:
        transaction.rollback(using=AUDIT)
        transaction.set_autocommit(True, using=AUDIT)
    assert events_on("default") == ["model.create"]


@pytest.mark.usefixtures("_own")
def test_while_the_audit_database_fails_the_change_goes_on_and_one_log_line_says_so(caplog):
    with without_records(AUDIT):
        for name in ("Ann", "Bea"):
            Author.objects.create(name=name)
        retry_now()
        Author.objects.create(name="Cleo")
    assert events_on("default") == ["model.create"] * 3
    (said,) = [r for r in caplog.records if r.name == "django_signal_audit"]
    assert said.levelno == logging.ERROR
    assert "could not move records from database 'default' to 'other'" in said.getMessage()
    assert "nothing is lost" in said.getMessage()
    assert counters.snapshot()["default"] == {"emitted": 3, "written": 3, "delayed": 3}


@pytest.mark.usefixtures("_own")
def test_what_waited_is_moved_when_the_audit_database_is_back(caplog):
    with without_records(AUDIT):
        Author.objects.create(name="Ann")
    Author.objects.create(name="still left alone")
    assert len(events_on("default")) == 2
    retry_now()
    with caplog.at_level(logging.INFO, "django_signal_audit"):
        Author.objects.create(name="Bea")
    assert events_on("default") == []
    assert events_on(AUDIT) == ["model.create"] * 3
    assert caplog.messages[-1] == "Audit sink 'default' moves records to 'other' again."


@pytest.mark.usefixtures("_own")
def test_while_the_audit_database_fails_only_one_thread_tries_it(monkeypatch):
    with without_records(AUDIT):
        Author.objects.create(name="Ann")
        retry_now()
        assert forwarder()._may_try()
        assert not forwarder()._may_try()


@pytest.mark.usefixtures("_own")
def test_an_error_message_of_nothing_is_told_by_its_type(monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise TimeoutError

    monkeypatch.setattr(forwarder(), "write", fail)
    Author.objects.create(name="Ann")
    assert ": TimeoutError. They wait where they are" in caplog.messages[0]


@pytest.mark.usefixtures("_own")
def test_an_error_while_moving_does_not_show_what_the_program_was_handling(monkeypatch, caplog):
    with without_records(AUDIT), pytest.raises(ValueError, match="secret"):
        try:
            int("a secret")
        except ValueError:
            event_signal.send(sender="test", event="shift.failed")
            raise
    assert "secret" not in caplog.text


@pytest.mark.usefixtures("_own")
def test_records_that_are_refused_stay_are_named_once_and_hold_up_nothing(monkeypatch, caplog):
    monkeypatch.setattr(forwarding, "BATCH", 2)
    refused = [make_event(event="e.refused") for _ in range(3)]
    others = [make_event() for _ in range(2)]
    store([*refused, *others])
    with refusing(AUDIT):
        Author.objects.create(name="Ann")
        for _ in range(4):
            event_signal.send(sender="test", event="e.refused")
            retry_now()
    assert events_on("default") == ["e.refused"] * 7
    assert events_on(AUDIT) == ["test.logging"] * 2 + ["model.create"]
    named = [str(event.id) for event in refused]
    assert [caplog.text.count(name) for name in named] == [1, 1, 1]
    assert caplog.messages[0].startswith(
        "Audit sink 'default' could not move 2 of the records on database 'default' to 'other'; "
        f"they stay where they are, and manage.py audit_forward names them all: {named[0]}: "
    )
    assert counters.snapshot()["default"]["delayed"] == 4


@pytest.mark.usefixtures("_own")
def test_no_more_refusals_are_remembered_than_memory_should_hold(monkeypatch):
    monkeypatch.setattr(forwarding, "_REMEMBERED", 2)
    with refusing(AUDIT):
        for _ in range(3):
            event_signal.send(sender="test", event="e.refused")
    assert len(forwarder()._reported) == 1


@pytest.mark.skipif("connection.vendor != 'mysql'", reason="about MariaDB's connections")
@pytest.mark.parametrize("charset", ["latin1", "utf8mb4"])
def test_a_connection_that_loses_characters_moves_nothing(charset, caplog):
    """By its settings, or by what the program sent to the server."""
    emoji = "\N{PARTY POPPER}"
    settings = connection.settings_dict
    before = settings["OPTIONS"]
    store([make_event(message=emoji)])
    connection.close()
    settings["OPTIONS"] = {**before, "charset": charset}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET NAMES latin1")
        with sinks():
            for _ in range(2):
                event_signal.send(sender="test", event="e.written")
                retry_now()
        with sinks(), pytest.raises(CommandError, match="and send no SET NAMES"):
            call_command("audit_forward")
        assert not mariadb.returns_every_character(connection)
    finally:
        connection.close()
        settings["OPTIONS"] = before
    assert len(caplog.messages) == 1
    assert "Leave 'charset' out of DATABASES['default']['OPTIONS']" in caplog.text
    assert ids_on(AUDIT) == set()
    with sinks():
        call_command("audit_forward")
    assert emoji in AuditRecord.objects.using(AUDIT).values_list("message", flat=True)


@pytest.mark.skipif("connection.vendor != 'mysql'", reason="about MariaDB's connections")
def test_a_target_whose_connection_loses_characters_stores_them_whole():
    emoji = "\N{PARTY POPPER}"
    options = {**connections[AUDIT].settings_dict["OPTIONS"], "charset": "latin1"}
    with another_alias("narrow", AUDIT, OPTIONS=options), sinks(database="narrow"):
        event_signal.send(sender="test", event="e.written", message=emoji, text=emoji)
    record = AuditRecord.objects.using(AUDIT).get()
    assert (record.message, record.data) == (emoji, {"text": emoji})
    assert events_on("default") == []


@pytest.mark.usefixtures("_own")
def test_what_cannot_be_deleted_is_in_both_and_read_once(monkeypatch):
    def refuse(*args):
        raise DatabaseError("permission denied")

    monkeypatch.setattr(moving, "_delete", refuse)
    Author.objects.create(name="Ann")
    assert ids_on("default") == ids_on(AUDIT)
    assert len(list(read_databases(trail_databases()))) == 1
    monkeypatch.undo()
    retry_now()
    Author.objects.create(name="Bea")
    assert events_on("default") == []
    assert len(events_on(AUDIT)) == 2


@pytest.mark.usefixtures("_own")
def test_a_connection_that_is_closed_forgets_what_it_would_have_moved(tmp_path):
    with shared_database(tmp_path, "default"):
        transaction.set_autocommit(False)
        Author.objects.create(name="Ann")
        transaction.commit()
        connection.close()
        connection.connect()
        assert events_on("default") == ["model.create"]
        Author.objects.create(name="Bea")
        assert events_on("default") == []


def test_a_connection_that_has_died_is_replaced_at_the_next_try(tmp_path, caplog):
    with shared_database(tmp_path, "default"), shared_database(tmp_path, "other"), sinks():
        Author.objects.create(name="Ann")
        connections[AUDIT].connection.close()
        Author.objects.create(name="Bea")
        assert events_on("default") == ["model.create"]
        retry_now()
        Author.objects.create(name="Cleo")
        assert events_on("default") == []
        assert len(events_on(AUDIT)) == 3
    assert [r.levelname for r in caplog.records if r.name == "django_signal_audit"] == ["ERROR"]


# Two names of one database


@pytest.fixture
def _same(tmp_path):
    """The audit database is the very database that is written, under another name."""
    with (
        shared_database(tmp_path, "default"),
        another_alias("audit", "default"),
        sinks(database="audit"),
    ):
        yield


@pytest.mark.usefixtures("_same")
def test_nothing_is_deleted_where_two_aliases_are_one_database(caplog):
    for name in ("Ann", "Bea"):
        Author.objects.create(name=name)
        retry_now()
    assert events_on("default") == events_on("audit") == ["model.create"] * 2
    assert "'default' and 'audit' are one and the same" in caplog.text
    assert len(list(read_databases(trail_databases()))) == 2


# Reading


@pytest.mark.usefixtures("_own")
def test_records_are_read_in_the_audit_database():
    author = Author.objects.create(name="Ann")
    assert AuditRecord.objects.all().db == AUDIT
    assert AuditRecord.objects.count() == 1
    (found,) = AuditRecord.objects.get_for_object(author)
    assert found._state.db == AUDIT
    found.refresh_from_db()
    assert AuditRecord.objects.using("default").count() == 0


@pytest.mark.usefixtures("_own")
def test_a_record_is_refreshed_where_it_was_read():
    with transaction.atomic():
        Author.objects.create(name="Ann")
        found = AuditRecord.objects.using("default").get()
        found.refresh_from_db()
        assert found._state.db == "default"


@pytest.mark.usefixtures("_own")
def test_records_that_importers_add_are_added_in_the_audit_database():
    with transaction.atomic(using=AUDIT):
        AuditRecord.objects.bulk_create([record(make_event())])
    assert len(ids_on(AUDIT)) == 1


class OwnRouter:
    def db_for_read(self, model, **hints):
        return "default" if model is AuditRecord else None

    def db_for_write(self, model, **hints):
        return None


@pytest.mark.usefixtures("_own")
def test_a_router_has_the_last_word_on_reading():
    with override_settings(DATABASE_ROUTERS=[OwnRouter()]):
        assert AuditRecord.objects.all().db == "default"
    with override_settings(DATABASE_ROUTERS=[object()]):
        assert AuditRecord.objects.all().db == AUDIT


def test_with_wrong_settings_records_are_read_by_default():
    with override_settings(SIGNAL_AUDIT={"SINKS": {"default": {"BACKEND": "nowhere"}}}):
        assert aliases.own_databases() == []
        assert AuditRecord.objects.all().db == "default"


@pytest.mark.usefixtures("_own")
def test_an_event_that_is_moved_while_it_is_read_is_read_once(monkeypatch):
    """Wherever the reader is when a move happens, no event is missed and none shown twice."""
    monkeypatch.setattr("django_signal_audit.reader.PAGE_SIZE", 3)
    everything = [make_event() for _ in range(20)]
    wanted = [event.id for event in everything]
    for moved_after in range(21):
        _empty(AUDIT)
        _empty("default")
        store(everything[::3], AUDIT)
        store([e for e in everything if e not in everything[::3]], "default")
        found = []
        reading = read_databases(trail_databases())
        for number, event in enumerate(reading):
            if number == moved_after:
                _move_everything()
            found.append(event.id)
        assert found == wanted, moved_after


def _empty(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute(f"DELETE FROM {AuditRecord._meta.db_table}")


def _move_everything():
    (route,) = routing.all_routes()
    for _ in forwarding.move_all(forwarding.waiting("default"), AUDIT, route.sink.write):
        pass


# Several movers, and death


def test_several_movers_lose_nothing_and_move_nothing_twice(tmp_path):
    writers, each = 3, 15
    with (
        shared_database(tmp_path, "default"),
        shared_database(tmp_path, "other"),
        sinks(),
    ):
        failed = []

        def write(number):
            try:
                for one in range(each):
                    with transaction.atomic():
                        Author.objects.create(name=f"{number}-{one}")
                    if one % 5 == 4:
                        _move_everything()
            except BaseException as exc:  # noqa: BLE001 - shown below
                failed.append(exc)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        _move_everything()
        assert ids_on("default") == set()
        reprs = AuditRecord.objects.using(AUDIT).values_list("object_repr", flat=True)
        assert sorted(reprs) == sorted(f"{n}-{m}" for n in range(writers) for m in range(each))


def databases_of_a_script(tmp_path):
    """The settings of two databases that processes share: files, or the server's."""
    found = {}
    for alias in ("default", "other"):
        given = connections[alias].settings_dict
        if connection.vendor == "sqlite":
            found[alias] = {
                "ENGINE": given["ENGINE"],
                "NAME": str(tmp_path / f"{alias}.sqlite3"),
                "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},
            }
        else:
            keys = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
            found[alias] = {key: given[key] for key in keys}
    return found


def test_killed_at_each_step_of_a_move_nothing_is_lost_or_read_twice(tmp_path):
    found = run_script("forwarding.py", databases_of_a_script(tmp_path))
    assert found["steps"] > 8
    assert found["lost"] == found["twice"] == found["phantoms"] == []
    assert found["in_both"] > 0, "no process died between INSERT and DELETE"
    assert found["waiting"] > 0, "no process died before the INSERT"
    assert found["left_in_the_end"] == 0
