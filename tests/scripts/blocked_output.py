"""A change whose event waits for a reader that has stopped, and another process beside it.

Prints ``{"seen": bool, "locked": bool, "records": n, "still_waiting": bool, "ended": "x",
"lines": n}`` as JSON.
"""

from __future__ import annotations

import os
import select
import sys
import time

from common import answer, set_up

TIMEOUT = float(sys.argv[1])
RESUMES = sys.argv[2] == "yes"
PATIENCE = 60

set_up(
    SIGNAL_AUDIT={
        "SINKS": {
            "default": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
            "stdout": {
                "BACKEND": "django_signal_audit.sinks.StdoutSink",
                "OPTIONS": {"timeout": TIMEOUT},
                "EVENTS": ["model.*"],
            },
        }
    }
)

from django.db import connections, transaction  # noqa: E402

from django_signal_audit import suspend_audit  # noqa: E402
from django_signal_audit.models import AuditRecord  # noqa: E402
from tests.testapp.models import Author  # noqa: E402

NAME = f"blocked-{os.getpid()}"


def change(output, done):
    """With a full pipe for an output."""
    os.dup2(output, 1)
    os.set_blocking(output, False)
    try:
        while True:
            os.write(output, b"." * 4095 + b"\n")
    except BlockingIOError:
        os.set_blocking(output, True)
    with transaction.atomic():
        Author.objects.create(name=NAME)
    os.write(done, b"x")


def until(condition):
    ends = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.005)
    return True


def main():
    connections.close_all()
    reading, output = os.pipe()
    waiting, done = os.pipe()
    child = os.fork()
    if not child:
        try:
            change(output, done)
        finally:
            os._exit(0)
    os.close(output)
    os.close(done)
    author = Author.objects.filter(name=NAME)
    found = {"seen": until(author.exists)}
    with suspend_audit(), transaction.atomic():
        found["locked"] = author.update(name=f"{NAME} again") == 1
    found["records"] = AuditRecord.objects.filter(object_repr=NAME).count()
    found["still_waiting"] = not select.select([waiting], [], [], 0)[0]
    received = b""
    if RESUMES:
        while chunk := os.read(reading, 65536):
            received += chunk
    found["ended"] = os.read(waiting, 1).decode()
    os.waitpid(child, 0)
    found["lines"] = sum(NAME in line for line in received.decode().splitlines())
    answer(found)


main()
