"""Forks at the moments that matter, and tells what parent and children have recorded.

Each case names its parent's and its children's work by a tag of its own. A child that waits for
a lock for ever is ended by an alarm, which its status shows. Writes ``{case: {...}}`` as
JSON into the folder that the first argument names; the standard output belongs to a sink.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import common

import django_signal_audit

FOLDER = Path(sys.argv[1])
PATIENCE = 20
BUFFER = 8

SINKS = {
    "default": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
    "file": {
        "BACKEND": "django_signal_audit.sinks.FileSink",
        "OPTIONS": {
            "path": str(FOLDER / "audit.jsonl"),
            "rotate_bytes": 100_000,
            "compress": "gzip",
        },
    },
    "stdout": {"BACKEND": "django_signal_audit.sinks.StdoutSink"},
}
SETTINGS = {
    "SIGNAL_AUDIT": {
        "SINKS": SINKS,
        "BUFFER_SIZE": BUFFER,
        "STATE_DIR": str(FOLDER / "state"),
    }
}


def fork(work, leave=os._exit):
    """Start a child that does some work and ends with 0; its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.alarm(PATIENCE)
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - a child must not go on as a second parent
        traceback.print_exc()
    sys.stderr.flush()
    leave(status)
    raise AssertionError


def ended(*children):
    """How children ended: 0 is well, a negative number the signal that killed it."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def forked_after_import():
    """The parent has imported the package, and starts Django as its child does, after the fork."""
    reading, writing = os.pipe()

    def work():
        os.close(writing)
        os.read(reading, 1)  # until the tables are there
        common.start(**SETTINGS)
        write("import-child")

    child = fork(work)
    common.set_up(**SETTINGS)
    os.write(writing, b"x")
    write("import-parent")
    return ended(child)


def write(tag):
    """A change in autocommit, one in a block, and a custom event."""
    from django.db import transaction  # noqa: PLC0415 - needs settings

    from tests.testapp.models import Author  # noqa: PLC0415 - needs loaded apps

    Author.objects.create(name=f"{tag}-alone")
    with transaction.atomic():
        Author.objects.bulk_create([Author(name=f"{tag}-block-{n}") for n in range(BUFFER * 2)])
        act(f"{tag}-act")


def act(message):
    django_signal_audit.event_signal.send(sender="forks", event="test.act", message=message)


STARTED = forked_after_import()

from django.db import Error, connection, connections, transaction  # noqa: E402

from django_signal_audit import ids  # noqa: E402
from django_signal_audit.models import AuditRecord  # noqa: E402
from django_signal_audit.sinks import _lock, counters, routing, shared_counts  # noqa: E402
from tests.testapp.models import Author  # noqa: E402

ONE_WRITER = connection.vendor == "sqlite"

_inherited = []


def take_own_connections():
    """What is inherited is left to the parent: not closed, and not collected either."""
    for alias in connections:
        _inherited.append(connections[alias])
        connections[alias] = _inherited[-1].copy()


# After the sinks are open


def closed_before(leave):
    """As Django advises: no connection is open at the fork."""
    write(f"before-{leave.__name__}")
    connections.close_all()
    children = [fork(lambda n=n: write(f"child-{leave.__name__}-{n}"), leave) for n in range(3)]
    write(f"after-{leave.__name__}")
    return ended(*children)


def by_multiprocessing():
    write("multiprocessing-before")
    connections.close_all()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write, args=(f"multiprocessing-{n}",)) for n in range(3)]
    for process in processes:
        process.start()
    write("multiprocessing-after")
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]


# Inside of a block


class UndoneError(Exception):
    pass


def pending(tag, *, spill, savepoint):
    """Changes and acts that wait for the parent's COMMIT."""
    stack = contextlib.ExitStack()
    Author.objects.create(name=f"{tag}-pending")
    act(f"{tag}-pending-act")
    if savepoint:
        stack.enter_context(transaction.atomic())
        Author.objects.create(name=f"{tag}-in-savepoint")
        act(f"{tag}-in-savepoint-act")
    if spill:
        for n in range(BUFFER * 3):
            Author.objects.create(name=f"{tag}-spilled-{n}-{'x' * 40}")
            act(f"{tag}-spilled-act-{n}")
    return stack


def inside(tag, child_does, *, fails=False, spill=False, savepoint=False):
    """The parent's block goes on, and ends, when the child that was forked in it has ended.

    On SQLite the child that writes waits for the parent, who holds the only lock there is.
    """
    result = {}
    reading, writing = os.pipe()

    def work():
        os.close(writing)
        child_does(f"{tag}-child", lambda: ONE_WRITER and os.read(reading, 1))

    try:
        with transaction.atomic(), pending(tag, spill=spill, savepoint=savepoint):
            child = fork(work)
            if not (ONE_WRITER and child_does in WRITING):
                result["children"] = ended(child)
            act(f"{tag}-last-act")
            Author.objects.create(name=f"{tag}-last")
            if fails:
                raise UndoneError  # noqa: TRY301 - what fails is the block
    except UndoneError:
        pass
    except Error as exc:
        result["error"] = type(exc).__name__
        connections.close_all()
    os.close(writing)
    os.close(reading)
    if "children" not in result:
        result["children"] = ended(child)
    return result


def with_own_connections(tag, wait):
    take_own_connections()
    wait()
    write(tag)


def amid_a_block_of_its_own(tag, wait):
    """As a worker does that was killed in its first transaction."""
    take_own_connections()
    wait()
    with transaction.atomic():
        Author.objects.create(name=f"{tag}-uncommitted")
        act(f"{tag}-killed-with-it")
        os._exit(0)


def nothing(tag, wait):
    gc.collect()


def connection_closed(tag, wait):
    """The trap that Django describes: on a server, this ends the parent's session too."""
    connections.close_all()
    take_own_connections()
    gc.collect()
    wait()
    write(tag)


def connection_forgotten(tag, wait):
    """A child that knows of the trap drops the driver's connection, and connects anew."""
    _inherited.append(connection.connection)
    connection.connection = None
    connection.connect()
    wait()
    write(tag)


WRITING = (
    with_own_connections,
    amid_a_block_of_its_own,
    connection_forgotten,
    connection_closed,
)
# A process that inherits an open transaction of SQLite, and leaves it open, finds the file
# locked by itself for ever: there a child that writes closes what it inherited.
CHILDREN = (
    {"nothing": nothing, "closed": connection_closed}
    if ONE_WRITER
    else {
        "nothing": nothing,
        "own": with_own_connections,
        "forgotten": connection_forgotten,
        "killed": amid_a_block_of_its_own,
        "closed": connection_closed,
    }
)


def in_a_block_by_multiprocessing():
    context = multiprocessing.get_context("fork")
    is_over = context.Event()

    def wait():
        if ONE_WRITER:
            is_over.wait(PATIENCE)

    work = connection_closed if ONE_WRITER else with_own_connections
    process = context.Process(target=work, args=("block-multiprocessing-child", wait))
    result = {}
    try:
        with transaction.atomic(), pending("multiprocessing", spill=True, savepoint=True):
            process.start()
            if not ONE_WRITER:
                process.join(PATIENCE)
    except Error as exc:
        result["error"] = type(exc).__name__
        connections.close_all()
    is_over.set()
    process.join(PATIENCE)
    return {**result, "children": [process.exitcode]}


# Locks that another thread holds


def with_held_locks():
    routing.all_routes()
    modules = (routing, counters, shared_counts, ids._generator)
    locks = [*(module._lock for module in modules), *_lock._locks]
    held, free = threading.Event(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            held.set()
            free.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE)

    def work():
        write("held-child")
        routing.close_sinks()
        write("held-child-anew")

    connections.close_all()
    child = fork(work)
    found = ended(child)
    free.set()
    thread.join()
    return found


def amid_writing_threads():
    """Threads of the parent that are in the middle of anything when it forks."""
    quiet = django_signal_audit.define_event("test.quiet", sinks=["file", "stdout"])
    stop = threading.Event()

    def keep_writing():
        while not stop.is_set():
            quiet.send(sender="forks", message="amid threads")

    threads = [threading.Thread(target=keep_writing) for _ in range(3)]
    for thread in threads:
        thread.start()
    connections.close_all()
    found = []
    for n in range(12):
        found += ended(fork(lambda n=n: write(f"amid-{n}")))
    stop.set()
    for thread in threads:
        thread.join()
    return found


def main():
    cases = {
        "after import": {"children": STARTED},
        "open, os._exit": {"children": closed_before(os._exit)},
        "open, sys.exit": {"children": closed_before(sys.exit)},
        "open, multiprocessing": {"children": by_multiprocessing()},
    }
    for name, child_does in CHILDREN.items():
        for shape in ({}, {"spill": True}, {"savepoint": True}, {"spill": True, "savepoint": True}):
            for fails in (False, True):
                tag = "-".join([name, *shape, *(["fails"] * fails)])
                cases[f"block, {tag}"] = inside(tag, child_does, fails=fails, **shape)
    name = "closed" if ONE_WRITER else "own"
    cases[f"block, {name}, multiprocessing"] = in_a_block_by_multiprocessing()
    cases["held locks"] = {"children": with_held_locks()}
    cases["amid threads"] = {"children": amid_writing_threads()}
    routing.close_sinks()
    connections.close_all()
    answer = {
        "cases": cases,
        "children": list(CHILDREN),
        "rows": list(Author.objects.values_list("name", flat=True)),
        "records": [
            [str(record.id), record.event, record.object_repr or record.message, record.rolled_back]
            for record in AuditRecord.objects.all()
        ],
    }
    (FOLDER / "answer.json").write_text(json.dumps(answer))


main()
