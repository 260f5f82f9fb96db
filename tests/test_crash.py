"""Killed at any point of a write: the rows are there if and only if their records are."""

from __future__ import annotations

import pytest
from django.db import connection, connections

from tests.running import run_script


@pytest.fixture
def database(tmp_path, transactional_db):
    """The settings of a database that processes share: a file, or the server's."""
    if connection.vendor == "sqlite":
        settings = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / "db.sqlite3"),
            # A killed process loses nothing that the operating system was given.
            "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},
        }
    else:
        given = connections.settings["default"]
        settings = {
            key: given[key] for key in ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")
        }
        settings["NAME"] = connection.settings_dict["NAME"]
        if connection.vendor == "postgresql":
            settings["OPTIONS"] = {"application_name": "kills"}
        else:
            settings["OPTIONS"] = {"charset": "utf8mb4"}
            # The script waits until its dead have left the database: nobody else is to be there.
            connections.close_all()
    return settings


def check(result, kills):
    naive = result.pop("Naive")
    assert naive["wrong"], "the harness does not see a row without its record"
    for operation, found in result.items():
        assert found["wrong"] == [], operation
        if "any time" not in operation:
            assert found["kills"] >= kills, operation
            assert found["undone"] > 0, f"{operation}: no process died before COMMIT"
        assert found["done"] > 1, f"{operation}: no process died after COMMIT"


def test_killed_at_each_point_of_a_write_rows_and_records_agree(database):
    check(run_script("kills.py", database, 50), 50)


@pytest.mark.slow
def test_killed_many_times_rows_and_records_agree(database):
    check(run_script("kills.py", database, 400), 400)
