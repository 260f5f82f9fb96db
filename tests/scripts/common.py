"""What the scripts share: Django on the database that the environment names."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def set_up(**settings):
    """Start Django on ``SCRIPT_DATABASE`` (JSON); a new SQLite file gets its tables."""
    start(**settings)
    make_tables()


def start(**settings):
    """Start Django on ``SCRIPT_DATABASE`` (JSON), whose tables are there or made elsewhere."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django  # noqa: PLC0415 - reads the environment
    from django.conf import settings as django_settings  # noqa: PLC0415

    database = json.loads(os.environ["SCRIPT_DATABASE"])
    django_settings.DATABASES = {"default": database}
    for name, value in settings.items():
        setattr(django_settings, name, value)
    django.setup()


def make_tables():
    """Give a new SQLite file its tables; a server's database has them."""
    from django.db import connection, connections  # noqa: PLC0415 - needs settings

    if connection.vendor == "sqlite":
        from tests.databases import MODELS  # noqa: PLC0415 - needs loaded apps

        with connection.schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
    connections.close_all()


class Steps:
    """Counts the steps of what a script does, and dies at one of them."""

    def __init__(self, last=None):
        self.taken = 0
        self.last = last

    def step(self):
        self.taken += 1
        if self.taken == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function):
        def wrapper(*args, **kwargs):
            self.step()
            result = function(*args, **kwargs)
            self.step()
            return result

        return wrapper


def in_child(work):
    """Run in a forked process; return the status it ended with."""
    from django.db import connections  # noqa: PLC0415 - needs settings

    connections.close_all()
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException as exc:  # noqa: BLE001 - a child must not go on as a second parent
            sys.stderr.write(f"{type(exc).__name__}: {exc}\n")
        os._exit(1)
    return os.waitpid(child, 0)[1]


def answer(result):
    """Print the result for the test that started the script."""
    sys.stdout.write(json.dumps(result))
