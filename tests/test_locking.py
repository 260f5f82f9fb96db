"""Eight processes on one SQLite file: the audit adds no "database is locked"."""

from __future__ import annotations

import pytest
from django.db import connection

from tests.running import run_script


@pytest.mark.skipif(connection.vendor != "sqlite", reason="about SQLite's write lock")
@pytest.mark.parametrize("blocks", ["no", "yes"], ids=["autocommit", "blocks"])
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_updates_from_eight_processes_wait_for_each_other_as_without_the_audit(
    tmp_path, journal, blocks
):
    def outcome(audited):
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(tmp_path / f"{audited}.sqlite3"),
            "OPTIONS": {
                "timeout": 30,
                "init_command": f"PRAGMA journal_mode={journal}; PRAGMA synchronous=OFF",
            },
        }
        return run_script("updaters.py", database, audited, blocks, 8, 12)

    without, audited = outcome("no"), outcome("yes")
    assert without["errors"] == {}
    assert without["records"] == 0
    assert audited["errors"] == {}
    assert audited["records"] == audited["updates"]
