"""The table of records on each alias with audited models."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from django_signal_audit.checks import check_tables
from django_signal_audit.models import AuditRecord
from tests.checks.helpers import MEMORY, audit, error, warning
from tests.databases import another_alias


class NoTrailHere:
    def allow_migrate(self, db, app_label, **hints):
        return app_label != "django_signal_audit"


class NoModelsHere:
    def allow_migrate(self, db, app_label, **hints):
        return False


@pytest.fixture
def _no_table(transactional_db):
    with connection.schema_editor() as editor:
        editor.delete_model(AuditRecord)
    yield
    with connection.schema_editor() as editor:
        editor.create_model(AuditRecord)


@pytest.mark.django_db
def test_with_the_table_there_is_no_message():
    assert check_tables(databases=["default"]) == []


def test_no_database_is_asked_unless_it_is_named():
    assert check_tables() == []


MESSAGE = "Database 'default' holds the audited model {} but no table of audit records."


@pytest.mark.usefixtures("_no_table")
def test_e051_the_table_is_gone_although_its_migration_was_applied():
    assert check_tables(databases=["default"]) == [
        error(
            "E051",
            MESSAGE.format("testapp.Author"),
            "Its migration was applied, so it was dropped or renamed since. Restore it, or run "
            "manage.py migrate --database default django_signal_audit zero, then without zero.",
        )
    ]


@pytest.mark.usefixtures("_no_table")
def test_e051_a_router_keeps_the_table_away():
    with override_settings(DATABASE_ROUTERS=[NoTrailHere()]):
        assert check_tables(databases=["default"]) == [
            error(
                "E051",
                MESSAGE.format("testapp.Author"),
                "NoTrailHere in DATABASE_ROUTERS forbids django_signal_audit on this alias: let "
                "its allow_migrate() return True for it.",
            )
        ]


@pytest.mark.usefixtures("_no_table")
def test_no_table_is_needed_where_no_audited_model_is():
    with override_settings(DATABASE_ROUTERS=[NoModelsHere()]):
        assert check_tables(databases=["default"]) == []


@pytest.mark.usefixtures("_no_table")
def test_no_table_is_needed_where_no_sink_writes_to_it():
    with audit(SINKS={"a": {"BACKEND": MEMORY}}):
        assert check_tables(databases=["default"]) == []


@pytest.mark.usefixtures("_no_table")
def test_w053_a_table_that_is_still_to_be_made_is_no_error_so_that_migrate_can_make_it():
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("django_signal_audit", "0001_initial")
    assert check_tables(databases=["default"]) == [
        warning(
            "W053", MESSAGE.format("testapp.Author"), "Run manage.py migrate --database default."
        )
    ]

    call_command(
        "migrate", verbosity=0, stderr=io.StringIO(), stdout=io.StringIO(), skip_checks=False
    )

    assert check_tables(databases=["default"]) == []
    with connection.schema_editor() as editor:
        editor.delete_model(AuditRecord)


def test_w056_a_database_that_cannot_be_reached_is_no_traceback(tmp_path):
    lost = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "no" / "lost.sqlite3")}
    with another_alias("lost", "default", **lost, OPTIONS={}):
        assert check_tables(databases=["lost"]) == [
            warning(
                "W056",
                "Database 'lost' cannot be asked for its table of audit records "
                "(unable to open database file).",
                "Run manage.py check --database lost again when it can be reached.",
            )
        ]


@pytest.mark.django_db
def test_migrations_are_complete():
    try:
        call_command("makemigrations", "django_signal_audit", check=True, dry_run=True, verbosity=0)
    except (SystemExit, CommandError) as stopped:
        pytest.fail(f"makemigrations --check: {stopped}")
