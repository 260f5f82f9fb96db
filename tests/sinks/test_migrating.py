"""While ``migrate`` has not made the table yet, events go to the other sinks."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.signals import post_migrate, pre_migrate
from django.test import override_settings

from django_signal_audit import event_signal
from django_signal_audit.exceptions import AuditSinkError
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import counters, migrating, routing
from tests.databases import without_records
from tests.testapp.models import Author

pytestmark = pytest.mark.django_db(transaction=True)

SINKS = {
    "default": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
    "memory": {"BACKEND": "django_signal_audit.sinks.MemorySink"},
}


@pytest.fixture(autouse=True)
def _none_at_work():
    migrating._migrating.clear()
    yield
    migrating._migrating.clear()


@pytest.fixture
def quiet(monkeypatch):
    """No receiver but ours: others write permissions and content types."""
    for signal in (pre_migrate, post_migrate):
        ours = [r for r in signal.receivers if r[0][0] == "django_signal_audit.migrating"]
        assert len(ours) == 1
        monkeypatch.setattr(signal, "receivers", ours)
        signal.sender_receivers_cache.clear()
    yield
    for signal in (pre_migrate, post_migrate):
        signal.sender_receivers_cache.clear()


def applications():
    return [config for config in apps.get_app_configs() if config.models_module is not None]


def test_before_the_table_is_made_events_go_to_the_other_sinks_and_are_counted(quiet):
    with without_records(), override_settings(SIGNAL_AUDIT={"SINKS": SINKS}):
        pre_migrate.send(sender=applications()[0], using="default")
        Author.objects.create(name="a")
        (event,) = routing.all_routes()[1].sink.events
        assert event.object_repr == "a"
        assert counters.snapshot() == {
            "default": {"emitted": 1, "dropped": 1},
            "memory": {"emitted": 1, "written": 1},
        }
    assert Author.objects.count() == 1


def test_once_the_table_is_made_events_are_written(quiet):
    pre_migrate.send(sender=applications()[0], using="default")
    Author.objects.create(name="a")
    assert AuditRecord.objects.count() == 1


def test_outside_of_migrate_a_missing_table_is_an_error():
    with without_records(), pytest.raises(AuditSinkError):
        Author.objects.create(name="a")


@pytest.mark.usefixtures("quiet")
def test_without_the_table_migrate_is_at_work_until_its_last_application():
    first, *_, last = applications()
    with without_records():
        pre_migrate.send(sender=first, using="default")
        post_migrate.send(sender=first, using="default")
        assert migrating.table_is_missing(connections["default"])
        post_migrate.send(sender=last, using="default")
        assert not migrating.table_is_missing(connections["default"])
        with pytest.raises(AuditSinkError):
            Author.objects.create(name="a")


@pytest.mark.usefixtures("quiet")
def test_with_the_table_migrate_is_over_at_once_and_asks_no_more(django_assert_num_queries):
    first, *_ = applications()
    pre_migrate.send(sender=first, using="default")
    post_migrate.send(sender=first, using="default")
    with django_assert_num_queries(0):
        assert not migrating.table_is_missing(connections["default"])


def test_one_alias_at_work_says_nothing_of_another(quiet):
    pre_migrate.send(sender=applications()[0], using="other")
    with without_records(), pytest.raises(AuditSinkError):
        Author.objects.create(name="a")


def test_a_custom_event_before_the_first_migrate_is_dropped_and_said(caplog):
    recorder = MigrationRecorder(connections["default"])
    recorder.record_unapplied("django_signal_audit", "0001_initial")
    try:
        with without_records(), override_settings(SIGNAL_AUDIT={"SINKS": SINKS}):
            event_signal.send("connection_created")
            (event,) = routing.all_routes()[1].sink.events
            assert counters.snapshot() == {
                "default": {"emitted": 1, "dropped": 1},
                "memory": {"emitted": 1, "written": 1},
            }
    finally:
        recorder.record_applied("django_signal_audit", "0001_initial")
    (said,) = caplog.messages
    assert said == (
        f"Audit sink 'default' dropped 1 event, event (id {event.id}) because database 'default' "
        "has no table of records yet. Run manage.py migrate --database default to make the table."
    )


def test_a_custom_event_in_a_transaction_before_the_first_migrate_is_an_error():
    recorder = MigrationRecorder(connections["default"])
    recorder.record_unapplied("django_signal_audit", "0001_initial")
    try:
        with without_records(), pytest.raises(AuditSinkError), transaction.atomic():
            event_signal.send("view")
    finally:
        recorder.record_applied("django_signal_audit", "0001_initial")


def test_a_custom_event_where_the_table_was_dropped_is_an_error():
    with without_records(), pytest.raises(AuditSinkError, match="to make the table"):
        event_signal.send("view")
