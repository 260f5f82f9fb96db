"""One writer: audited changes without end on a server that is killed again and again.

It notes in its own file what it begins (``?``), whose custom event was accepted (``+``), and
what it was told is done (``!``).
Its arguments: its name, the folder. It ends when there is a file ``stop`` in the folder.
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

from common import start

NAME, FOLDER = sys.argv[1], Path(sys.argv[2])

SINKS = {
    "default": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
    "file": {
        "BACKEND": "django_signal_audit.sinks.FileSink",
        "OPTIONS": {"path": str(FOLDER / "audit.jsonl")},
    },
}
start(SIGNAL_AUDIT={"SINKS": SINKS})

from django.db import Error, connection, transaction  # noqa: E402

from django_signal_audit import event_signal, suspend_audit  # noqa: E402
from tests.testapp.models import Author, Book  # noqa: E402

LOG = (FOLDER / f"{NAME}.log").open("a", buffering=1)


def note(sign, tag):
    LOG.write(f"{sign}{tag}\n")


def create(tag):
    Author.objects.create(name=f"{tag}-created")


def block(tag):
    with transaction.atomic():
        event_signal.send(sender="writer", event="test.act", message=tag)
        note("+", tag)
        Author.objects.bulk_create([Author(name=f"{tag}-{n}") for n in range(3)])
        Book.objects.create(title=f"{tag}-book")


def update(tag):
    with suspend_audit():
        book = Book.objects.create(title=f"{tag}-updated")
    yield
    book.stock = 1
    book.save()


def delete(tag):
    with suspend_audit():
        author = Author.objects.create(name=f"{tag}-deleted")
    yield
    author.delete()


def main():
    for number in itertools.count():
        if (FOLDER / "stop").exists():
            return
        operation = (create, block, update, delete)[number % 4]
        tag = f"{NAME}-{number}-{operation.__name__}"
        try:
            prepared = operation(tag) if operation in (update, delete) else iter(())
            next(prepared, None)
            note("?", tag)
            if operation in (create, block):
                operation(tag)
            next(prepared, None)
            note("!", tag)
        except Error:
            connection.close()
            time.sleep(0.01)  # as a polite client does; nothing waits for it


main()
