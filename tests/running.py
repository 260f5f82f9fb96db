"""Scripts that tests run: what they do, such as dying, cannot be done in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from django.db import connection

SCRIPTS = Path(__file__).parent / "scripts"


def run_script(script, database, *arguments):
    """What a script of ``tests/scripts`` answers, run on a database of these settings."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        env={**os.environ, "SCRIPT_DATABASE": json.dumps(database)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def database_of_a_script(tmp_path):
    """The settings of the database that processes share: a file, or the server's."""
    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return {
            "ENGINE": given["ENGINE"],
            "NAME": str(tmp_path / "db.sqlite3"),
            "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"},
        }
    keys = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    return {key: given[key] for key in keys}
