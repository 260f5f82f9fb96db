"""Kills processes with SIGKILL at each step of a write and of the move that follows its COMMIT.

After each death the databases are looked at: the row of the author, its record where it was
written, in the trail's own database, or in both. Prints what was wrong, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import time

from common import Steps, answer, in_child, set_up

OWN = "other"
databases = json.loads(os.environ["SCRIPT_DATABASE"])
set_up(
    DATABASES=databases,
    SIGNAL_AUDIT={
        "SINKS": {
            "default": {
                "BACKEND": "django_signal_audit.sinks.DatabaseSink",
                "OPTIONS": {"database": OWN},
            }
        }
    },
)

from django.core.management import call_command  # noqa: E402
from django.db import connection, connections  # noqa: E402

from django_signal_audit.models import AuditRecord  # noqa: E402
from django_signal_audit.reader import read_databases  # noqa: E402
from tests.testapp.models import Author  # noqa: E402

SESSIONS = {
    "postgresql": "SELECT COUNT(*) FROM pg_stat_activity WHERE datname IN (%s, %s)",
    "mysql": "SELECT COUNT(*) FROM information_schema.processlist WHERE db IN (%s, %s)",
}


class MoveSteps(Steps):
    """Counts statements and COMMITs on both databases, and dies at one of them."""

    def run(self, name):
        for alias in ("default", OWN):
            one = connections[alias]
            one.ensure_connection()
            one._commit = self.around(one._commit)
            one.execute_wrappers.append(lambda execute, *args: self.around(execute)(*args))
        self.step()
        Author.objects.create(name=name)
        self.step()


def count_steps():
    read, write = os.pipe()

    def work():
        steps = MoveSteps()
        steps.run("counted")
        os.write(write, str(steps.taken).encode())

    assert in_child(work) == 0
    os.close(write)
    with os.fdopen(read) as counted:
        return int(counted.read())


def sessions():
    """How many clients the server has in both databases, ours among them."""
    if connection.vendor == "sqlite":
        return 0
    for alias in ("default", OWN):
        connections[alias].ensure_connection()
    with connection.cursor() as cursor:
        names = [connections[alias].settings_dict["NAME"] for alias in ("default", OWN)]
        cursor.execute(SESSIONS[connection.vendor], names)
        return cursor.fetchone()[0]


def wait_for_the_server(before):
    """A server may still be at work for a client that is dead."""
    for _ in range(500):
        if sessions() <= before:
            return
        time.sleep(0.01)
    raise SystemExit("sessions of killed processes are still there")


def ids(alias, name):
    return set(AuditRecord.objects.using(alias).filter(object_repr=name).values_list("id"))


def main():
    if connection.vendor == "sqlite":
        with connections[OWN].schema_editor() as editor:
            editor.create_model(AuditRecord)
    before = sessions()
    steps = count_steps()
    result = {"steps": steps, "in_both": 0, "waiting": 0, "lost": [], "twice": [], "phantoms": []}
    for last in range(1, steps + 1):
        name = f"step-{last}"
        status = in_child(lambda name=name, last=last: MoveSteps(last).run(name))
        assert os.WTERMSIG(status) == signal.SIGKILL
        wait_for_the_server(before)
        here, there = ids("default", name), ids(OWN, name)
        result["in_both"] += bool(here & there)
        result["waiting"] += bool(here - there)
        shown = [e.id for e in read_databases(["default", OWN]) if e.object_repr == name]
        exists = Author.objects.filter(name=name).exists()
        if exists and not shown:
            result["lost"].append(last)
        if shown and not exists:
            result["phantoms"].append(last)
        if len(shown) > 1:
            result["twice"].append(last)
    call_command("audit_forward", verbosity=0)
    result["left_in_the_end"] = AuditRecord.objects.using("default").count()
    reprs = AuditRecord.objects.using(OWN).values_list("object_repr", flat=True)
    names = Author.objects.exclude(name="counted").values_list("name", flat=True)
    result["lost"] += sorted(set(names) - set(reprs))
    answer(result)


main()
