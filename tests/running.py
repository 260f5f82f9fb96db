"""Scripts that tests run: what they do, such as dying, cannot be done in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
