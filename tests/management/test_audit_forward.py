"""``manage.py audit_forward``: what is moved, what is said, and what is refused."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.test import override_settings

from django_signal_audit.models import AuditRecord
from tests.databases import (
    another_alias,
    refusing,
    replica_of,
    shared_database,
    without_records,
)
from tests.factories import make_event
from tests.management.trails import store

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DATABASE = {"BACKEND": "django_signal_audit.sinks.DatabaseSink"}


@pytest.fixture(autouse=True)
def _own():
    moved = {**DATABASE, "OPTIONS": {"database": "other", "forward": "command"}}
    with override_settings(SIGNAL_AUDIT={"SINKS": {"default": moved}}):
        yield


def forward(**options):
    out = io.StringIO()
    call_command("audit_forward", stdout=out, **options)
    return out.getvalue()


def refusal(**options):
    with pytest.raises(CommandError) as refused:
        forward(**options)
    return str(refused.value)


def ids_on(alias):
    return list(AuditRecord.objects.using(alias).order_by("id").values_list("id", flat=True))


def test_everything_that_waits_is_moved():
    events = [make_event() for _ in range(5)]
    store(events)
    assert forward(batch_size=2) == "Moved 5 records from 'default' to 'other'.\n"
    assert ids_on("default") == []
    assert ids_on("other") == [event.id for event in events]


def test_nothing_to_move_is_no_error():
    assert forward() == "Moved 0 records from 'default' to 'other'.\n"


def test_a_dry_run_counts_and_moves_nothing():
    store([make_event()])
    assert forward(dry_run=True) == "1 record on 'default' to be moved to 'other'.\n"
    assert len(ids_on("default")) == 1


def test_it_can_be_quiet():
    store([make_event()])
    assert forward(verbosity=0) == ""
    assert ids_on("default") == []


def test_databases_without_the_table_are_left_out():
    with without_records("default"):
        assert forward() == ""


def test_replicas_are_left_out(tmp_path):
    with shared_database(tmp_path, "default"), replica_of("default"):
        store([make_event(database="default") for _ in range(2)])
        assert forward() == (
            "Moved 2 records from 'default' to 'other'.\n"
            "Moved 0 records from 'replica' to 'other'.\n"
        )


def test_replicas_of_the_goal_are_left_out(tmp_path):
    mirror = {"TEST": {"MIRROR": "other"}}
    with shared_database(tmp_path, "other"), another_alias("replica", "other", **mirror):
        assert forward() == "Moved 0 records from 'default' to 'other'.\n"


def test_of_a_database_that_is_named_everything_is_moved():
    store([make_event(database="other"), make_event(database="default")])
    assert forward(dry_run=True) == "1 record on 'default' to be moved to 'other'.\n"
    assert forward(database="default") == "Moved 2 records from 'default' to 'other'.\n"


# What is refused


def test_without_a_database_of_its_own_there_is_nothing_to_move():
    with override_settings(SIGNAL_AUDIT={}):
        assert refusal() == (
            "No sink sends the trail to a database of its own, so there is nothing to move. To do "
            "so, write 'OPTIONS': {'database': 'audit'} at the database sink in "
            "SIGNAL_AUDIT['SINKS']."
        )


@pytest.mark.parametrize("size", [0, -1, 1001])
def test_a_batch_size_that_is_not_possible(size):
    assert refusal(batch_size=size) == (
        f"--batch-size {size} is not possible. Write a number from 1 to 1,000."
    )


def test_a_database_that_is_not_known():
    assert refusal(database="defalt") == (
        "--database 'defalt' is not in DATABASES. Did you mean 'default'?"
    )


def test_the_database_that_records_are_moved_to():
    assert refusal(database="other") == (
        "--database 'other' is where records are moved to. Name one that they come from."
    )


def test_a_database_that_is_named_and_lacks_the_table():
    with without_records("default"):
        assert refusal(database=["default"]) == (
            "Database 'default' has no audit table, so no record waits there."
        )


def test_a_database_that_cannot_be_asked(tmp_path):
    changed = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
    with another_alias("gone", "default", NAME=str(tmp_path / "no" / "file"), **changed):
        assert refusal().startswith("Database 'gone' cannot be read:")


def test_inside_a_transaction():
    with transaction.atomic():
        assert refusal() == (
            "Records of 'default' could not all be moved to 'other': Records cannot be moved while "
            "database 'default' is inside a transaction: they would share its fate. Move them "
            "after it has ended. What was not moved waits on 'default'."
        )


def test_an_audit_database_that_lacks_the_table():
    store([make_event()])
    with without_records("other"):
        said = refusal()
    assert said.startswith("Records of 'default' could not all be moved to 'other': ")
    assert said.endswith("What was not moved waits on 'default'.")
    assert len(ids_on("default")) == 1


def test_records_that_are_no_events_end_in_an_error_after_all_others_were_moved():
    events = [make_event() for _ in range(3)]
    store(events)
    spoil(events[0])
    assert refusal() == (
        f"Not moved: 1 record that is no event: {events[0].id}. Something other than this package "
        "has written that; look at it with SQL."
    )
    assert ids_on("default") == [events[0].id]
    assert len(ids_on("other")) == 2
    store([make_event()])
    spoil(AuditRecord.objects.using("default").last())
    assert refusal().startswith(f"Not moved: 2 records that are no events: {events[0].id}, ")


def test_records_that_are_refused_are_all_named_after_the_others_were_moved():
    events = [make_event(event=name) for name in ("a.refused", "b.refused", "c")]
    store(events)
    with refusing("other"):
        said = refusal(batch_size=1)
    first, second, third = said.splitlines()
    assert first == "Not moved: 2 records that database 'other' refuses:"
    assert second.startswith(f"  {events[0].id}: ")
    assert third.startswith(f"  {events[1].id}: ")
    assert "no such events" in third
    assert ids_on("other") == [events[2].id]
    store([make_event()])
    spoil(AuditRecord.objects.using("default").last())
    with refusing("other"):
        assert len(refusal().splitlines()) == 4


def spoil(event):
    key = AuditRecord._meta.pk.get_db_prep_value(event.id, connections["default"])
    with connections["default"].cursor() as cursor:
        table = AuditRecord._meta.db_table
        cursor.execute(f"UPDATE {table} SET outcome = 'strange' WHERE id = %s", [key])
