"""What databases delete and change by themselves, where it cannot be recorded."""

from __future__ import annotations

import django
import pytest
from django.db import connection

from django_signal_audit.checks import check_cascades, check_constraints
from tests.checks.helpers import audit, warning
from tests.databases import another_alias
from tests.testapp.models import Deed, Harbour, Plain

HAS_DATABASE_ACTIONS = django.VERSION >= (6, 1)

MAKE = {
    "sqlite": (
        "DROP TABLE testapp_deed",
        (
            "CREATE TABLE testapp_deed (id integer PRIMARY KEY AUTOINCREMENT, estate_id bigint "
            "NOT NULL REFERENCES testapp_estate (id) ON DELETE CASCADE)"
        ),
    ),
    None: (
        (
            "ALTER TABLE testapp_deed ADD CONSTRAINT by_hand FOREIGN KEY (estate_id) "
            "REFERENCES testapp_estate (id) ON DELETE CASCADE"
        ),
    ),
}


@pytest.fixture
def _made_by_hand(transactional_db):
    with connection.cursor() as cursor:
        for statement in MAKE.get(connection.vendor, MAKE[None]):
            cursor.execute(statement)
    yield
    with connection.schema_editor() as editor:
        editor.delete_model(Deed)
        editor.create_model(Deed)


@pytest.mark.usefixtures("_made_by_hand")
def test_w057_a_constraint_made_by_hand_deletes_rows_that_django_leaves_alone():
    on_delete = "DB_CASCADE" if HAS_DATABASE_ACTIONS else "CASCADE"
    assert check_constraints(databases=["default"]) == [
        warning(
            "W057",
            "testapp.Deed.estate: on database 'default' its constraint says ON DELETE CASCADE, "
            "but the field says DO_NOTHING. What the database does then is not recorded.",
            f"Write on_delete=models.{on_delete}, or take the action off the constraint.",
        )
    ]
    with audit(MODELS={"testapp.Deed": False}):
        assert check_constraints(databases=["default"]) == []


@pytest.mark.django_db
def test_constraints_that_do_what_the_models_say_are_no_warning():
    assert check_constraints(databases=["default"]) == []


def test_no_database_is_asked_for_its_constraints_unless_it_is_named():
    assert check_constraints() == []


def test_constraints_of_a_database_that_cannot_be_reached_are_no_traceback(tmp_path):
    lost = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "no" / "lost.sqlite3")}
    with another_alias("lost", "default", **lost, OPTIONS={}):
        assert check_constraints(databases=["lost"]) == []


@pytest.mark.django_db
def test_wrong_settings_are_reported_elsewhere():
    with audit(MODEL={}):
        assert check_constraints(databases=["default"]) == []
        assert check_cascades() == []


def test_tables_that_django_manages_are_no_warning():
    assert check_cascades() == []


def test_w063_rows_go_with_those_of_a_table_that_others_write(monkeypatch):
    for model in (Harbour, Plain):
        monkeypatch.setattr(model._meta, "managed", False)
    reached = "testapp.Berth, testapp.Branch, testapp.Call, testapp.Flag"
    if connection.vendor != "mysql":
        reached += ", testapp.Permit"
    reached += ", testapp.Ship, testapp.Slip, testapp.Tug, testapp.Vessel"
    expected = [
        warning(
            "W063",
            f"The database deletes or changes rows of {reached} together with those of "
            "testapp.Harbour, a table that Django does not manage: what other programs delete "
            "there is not recorded.",
            "Let them delete through Django, or silence this warning if none does.",
        )
    ]
    assert check_cascades() == (expected if HAS_DATABASE_ACTIONS else [])
