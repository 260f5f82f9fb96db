"""Processes that update at once on one SQLite file, with and without the audit.

Prints ``{"errors": {message: number}, "updates": n, "records": n}`` as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter

from common import answer, set_up

AUDITED, BLOCKS = (argument == "yes" for argument in sys.argv[1:3])
PROCESSES, ROUNDS = map(int, sys.argv[3:5])

set_up()

from django.db import DatabaseError, connections, transaction  # noqa: E402

from django_signal_audit import suspend_audit  # noqa: E402
from django_signal_audit.models import AuditRecord  # noqa: E402
from tests.testapp.models import Book  # noqa: E402


def update(book, number):
    """One instance and one queryset; each writes first, so that without audit it may wait."""
    book.stock = number
    book.save()
    Book.objects.filter(pk=book.pk).update(price=number)


def in_block(book, number):
    with transaction.atomic():
        update(book, number)


def work(book):
    errors = Counter()
    for number in range(1, ROUNDS + 1):
        try:
            (in_block if BLOCKS else update)(book, number)
        except DatabaseError as exc:
            errors[str(exc)] += 1
    return errors


def child(book, pipe):
    if AUDITED:
        errors = work(book)
    else:
        with suspend_audit():
            errors = work(book)
    os.write(pipe, json.dumps(errors).encode())


def main():
    with suspend_audit():
        books = [Book.objects.create(title=str(number)) for number in range(PROCESSES)]
    connections.close_all()
    pipes = []
    for book in books:
        read, write = os.pipe()
        if not os.fork():
            os.close(read)
            try:
                child(book, write)
            finally:
                os._exit(0)
        os.close(write)
        pipes.append(read)
    errors = Counter()
    for pipe in pipes:
        with os.fdopen(pipe) as said:
            errors.update(json.loads(said.read()))
    for _ in books:
        os.wait()
    answer(
        {
            "errors": errors,
            "updates": PROCESSES * ROUNDS * 2,
            "records": AuditRecord.objects.count(),
        }
    )


main()
