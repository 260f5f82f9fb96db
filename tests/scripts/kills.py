"""Kills processes with SIGKILL in the middle of writes, and compares rows with records.

A run that is not killed counts the steps of an operation: before and after each statement
and each COMMIT. Then one forked process for each step dies exactly there, until enough
have died. At last processes that write without end are killed at any time.

Prints ``{operation: {"kills", "done", "undone", "wrong"}}`` as JSON.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import uuid

from common import Steps, answer, in_child, set_up

KILLS = int(sys.argv[1])

set_up()

from django.db import connection, connections  # noqa: E402

from django_signal_audit import suspend_audit  # noqa: E402
from django_signal_audit.models import AuditRecord  # noqa: E402
from tests.testapp.models import Author, Book, Chapter  # noqa: E402


class WriteSteps(Steps):
    """Counts the steps of an operation, and dies at one of them."""

    def run(self, work):
        connection.ensure_connection()
        connection._commit = self.around(connection._commit)

        def statement(execute, *args):
            return self.around(execute)(*args)

        with connection.execute_wrapper(statement):
            self.step()
            work()
            self.step()


class Operation:
    """One way to write: what is there before, the write, and whether row and record agree."""

    def prepare(self, tag):
        pass

    def write(self, tag):
        raise NotImplementedError

    def rows(self):
        """The tags of writes that reached the database."""
        raise NotImplementedError

    def records(self):
        """The tags of writes that are recorded."""
        raise NotImplementedError


class Create(Operation):
    prefix = "create"

    def write(self, tag):
        Author.objects.create(name=f"{self.prefix}-{tag}")

    def names(self, names):
        return {int(n.split("-")[1]) for n in names if n.startswith(f"{self.prefix}-")}

    def rows(self):
        return self.names(Author.objects.values_list("name", flat=True))

    def records(self):
        found = AuditRecord.objects.filter(event="model.create", object_type="testapp.author")
        return self.names(found.values_list("object_repr", flat=True))


class Naive(Create):
    """What the others must not be: the row first, its record in a transaction of its own."""

    prefix = "naive"

    def write(self, tag):
        with suspend_audit():
            super().write(tag)
        record = AuditRecord.objects.model(
            id=uuid.uuid4(),
            timestamp="2026-01-01T00:00:00Z",
            event="model.create",
            object_type="testapp.author",
            object_repr=f"{self.prefix}-{tag}",
        )
        record.save()


class BulkCreate(Operation):
    def write(self, tag):
        Author.objects.bulk_create([Author(name=f"bulk-{tag}-{n}") for n in range(3)])

    def complete(self, names):
        tags = [int(n.split("-")[1]) for n in names if n.startswith("bulk-")]
        assert all(tags.count(tag) == 3 for tag in tags), "a bulk write was cut"
        return set(tags)

    def rows(self):
        return self.complete(Author.objects.values_list("name", flat=True))

    def records(self):
        found = AuditRecord.objects.filter(event="model.create", object_type="testapp.author")
        return self.complete(found.values_list("object_repr", flat=True))


class Update(Operation):
    def prepare(self, tag):
        with suspend_audit():
            Book.objects.create(title=f"update-{tag}")

    def write(self, tag):
        book = Book.objects.get(title=f"update-{tag}")
        book.stock = tag + 1
        book.save()

    def rows(self):
        found = Book.objects.filter(title__startswith="update-", stock__gt=0)
        return {stock - 1 for stock in found.values_list("stock", flat=True)}

    def records(self):
        found = AuditRecord.objects.filter(event="model.update", object_type="testapp.book")
        return {r.changes["stock"][1] - 1 for r in found if "stock" in r.changes}


class Delete(Operation):
    """With what a delete brings along: chapters by a fast delete."""

    def prepare(self, tag):
        with suspend_audit():
            book = Book.objects.create(title=f"delete-{tag}")
            Chapter.objects.create(book=book, number=1000 + tag)

    def write(self, tag):
        Book.objects.get(title=f"delete-{tag}").delete()

    def rows(self):
        left = {int(t.split("-")[1]) for t in self.titles()}
        chapters = set(Chapter.objects.values_list("number", flat=True))
        assert chapters == {1000 + tag for tag in left}, "a cascade was cut"
        return set(range(self.tags)) - left

    def titles(self):
        return Book.objects.filter(title__startswith="delete-").values_list("title", flat=True)

    def records(self):
        found = AuditRecord.objects.filter(event="model.delete")
        books = {int(r.object_repr.split("-")[1]) for r in found.filter(object_type="testapp.book")}
        chapters = {
            r.changes["number"][0] - 1000 for r in found.filter(object_type="testapp.chapter")
        }
        assert books == chapters, "the records of a cascade were cut"
        return books


def steps_of(operation):
    """How many steps a run takes that is not killed, counted in a process of its own."""
    read, write = os.pipe()
    operation.prepare(0)

    def work():
        steps = WriteSteps()
        steps.run(lambda: operation.write(0))
        os.write(write, str(steps.taken).encode())

    assert in_child(work) == 0
    os.close(write)
    with os.fdopen(read) as counted:
        return int(counted.read())


CLIENTS = {
    "postgresql": "SELECT COUNT(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'kills' "
    "AND pid <> pg_backend_pid()",
    "mysql": "SELECT COUNT(*) FROM information_schema.processlist "
    "WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}


def wait_for_the_server():
    """A server may still be at work for a client that is dead."""
    if connection.vendor == "sqlite":
        return
    for _ in range(500):
        with connection.cursor() as cursor:
            cursor.execute(CLIENTS[connection.vendor])
            if cursor.fetchone()[0] == 0:
                return
        time.sleep(0.02)
    raise SystemExit("the server is still at work for killed processes")


def kill_at_each_step(operation):
    total = steps_of(operation)
    tag = 1
    while tag <= KILLS or tag <= total:
        operation.prepare(tag)
        last = (tag - 1) % total + 1

        def work(tag=tag, last=last):
            WriteSteps(last).run(lambda: operation.write(tag))

        assert os.WTERMSIG(in_child(work)) == signal.SIGKILL
        tag += 1
    operation.tags = tag
    return tag - 1


def kill_at_any_time(operation, first):
    """Kill processes that write without end, each with tags of its own."""
    for number in range(KILLS // 5):
        connections.close_all()
        child = os.fork()
        if not child:
            tag = first + number * 100_000
            while True:
                operation.write(tag)
                tag += 1
        time.sleep(random.uniform(0.01, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return KILLS // 5


def report(operation, kills):
    wait_for_the_server()
    rows, records = operation.rows(), operation.records()
    return {
        "kills": kills,
        "done": len(rows),
        "undone": kills + 1 - len(rows),
        "wrong": sorted(rows ^ records),
    }


def main():
    result = {}
    for operation in (Create(), Update(), BulkCreate(), Delete(), Naive()):
        kills = kill_at_each_step(operation)
        result[type(operation).__name__] = report(operation, kills)
    for operation in (Create(), BulkCreate()):
        kills = kill_at_any_time(operation, 1_000_000)
        result[f"{type(operation).__name__} at any time"] = report(operation, kills)
    answer(result)


main()
