"""Fixtures of the whole suite."""

import json
import os
from importlib.resources import files

import pytest
from django.db import connections
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator

from django_signal_audit import pipeline
from django_signal_audit.sinks import after_commit, counters, routing
from tests.matrix import (
    pytest_terminal_summary,  # noqa: F401 - hooks, found by their names
    pytest_testnodedown,  # noqa: F401
    remember_database,
)

# What they test asks no database, or brings its own: once is enough, with SQLite.
SAME_ON_EVERY_DATABASE = (
    "capture/test_keys_found.py",
    "capture/test_statement.py",
    "exports/",
    "formats/",
    "sinks/test_faults.py",
    "sinks/test_file.py",
    "sinks/test_file_compression.py",
    "sinks/test_file_rotation.py",
    "sinks/test_memory.py",
    "sinks/test_shared_counts.py",
    "sinks/test_spool.py",
    "sinks/test_stdout.py",
    "test_applications.py",
    "test_coalescing.py",
    "test_docs.py::test_the_tutorial",
    "test_environ.py",
    "test_event.py",
    "test_ids.py",
    "test_import.py",
    "test_packaging.py",
    "test_redaction.py",
    "test_sandbox.py",
    "test_truth_table.py",
    "test_values.py",
)

# How fast the machine is just now, coverage measured or not, is no property of the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

SCHEMA = json.loads(files("django_signal_audit").joinpath("schema/event.v1.json").read_text())
VALIDATED_PER_TEST = 200


def pytest_collection_modifyitems(items):
    """Mark what need not run again for each database."""
    for item in items:
        module = item.nodeid.removeprefix("tests/")
        if module.startswith(SAME_ON_EVERY_DATABASE) and "on_a_server" not in item.name:
            item.add_marker("once")


@pytest.fixture(scope="session", autouse=True)
def _known_database(request, django_db_blocker):
    """What the table of tested versions says of this run."""
    if os.environ.get("MATRIX_DIR"):
        with django_db_blocker.unblock():
            remember_database(request.config)


# Django makes these anew after each flush, one by one; no test changes them for good.
KEPT = {"django_content_type", "auth_permission"}


def _quick(original):
    def sql_flush(self, style, tables, **options):
        emptied = [table for table in tables if table not in KEPT]
        if self.connection.vendor != "postgresql":
            return original(self, style, emptied, **options)
        # For a few rows this is far quicker than TRUNCATE. Any order will do: foreign keys are
        # deferred until COMMIT.
        return [f"DELETE FROM {self.quote_name(table)}" for table in emptied]

    return sql_flush


@pytest.fixture(scope="session", autouse=True)
def _quick_flush():
    """What empties the database after each test that commits."""
    with pytest.MonkeyPatch.context() as patch:
        for operations in {type(connection.ops) for connection in connections.all()}:
            patch.setattr(operations, "sql_flush", _quick(operations.sql_flush))
        yield


@pytest.fixture(autouse=True)
def _fresh_sinks(monkeypatch):
    """Every test starts with closed sinks and counters at zero.

    How long a sink takes on this machine just now is a matter of the tests of that alone.
    """
    monkeypatch.setattr(after_commit, "SLOW", 3600)
    routing.close_sinks()
    counters.reset()
    yield
    routing.close_sinks()
    counters.reset()


@pytest.fixture(autouse=True)
def _events_match_the_schema():
    """Every event that any test makes is of the published shape."""
    validator = Draft202012Validator(SCHEMA)
    seen = []

    def keep(event):
        if len(seen) < VALIDATED_PER_TEST:
            seen.append(event.to_dict())

    with pipeline.observe(keep):
        yield
    for event in seen:
        validator.validate(event)
