"""Programs that rotate one file at once, and die at it; ``test_file_rotation.py`` runs them.

``python -m tests.sinks.file_rotators COMMAND PATH [SECONDS]``.
"""

from __future__ import annotations

import fcntl
import json
import logging.handlers
import os
import random
import resource
import select
import signal
import sys
import threading
import time
from pathlib import Path

from django_signal_audit.file_trail import FileTrail
from django_signal_audit.sinks import _compression
from django_signal_audit.sinks.file import FileSink
from tests.factories import make_config, make_event
from tests.sinks.file_writers import in_child, wait_for

PROCESSES = 8
THREADS = 4
SIZE = 50_000
KILLS = 10  # at least, however slow the machine

CALLS = (
    *((os, name) for name in ("open", "close", "read", "write", "fchmod", "fsync", "ftruncate")),
    *((os, name) for name in ("link", "replace", "unlink", "listdir", "pread")),
    (fcntl, "flock"),
)


def left_over(path):
    """What is beside the current file, and neither whole nor compressed."""
    names = [file.name for file in path.parent.iterdir()]
    return [name for name in names if not name.endswith((path.name, ".gz"))]


def die(path):
    """A process that is killed before its first system call, another before its second, ..."""
    report = []
    while not report or report[-1]["killed"]:
        report.append(die_at(path.parent / str(len(report)) / path.name, len(report)))
    print(json.dumps(report))  # noqa: T201 - read by the test


def die_at(path, number):
    path.parent.mkdir()
    reading, writing = os.pipe()
    options = {"path": path, "rotate_bytes": 1, "compress": "gzip", "fsync": "commit"}

    def write():
        acknowledge = os.write
        count_calls(number)
        sink = FileSink(make_config(), **options)
        for part in range(3):
            sink.emit([make_event(message=f"{number}:{part}")])
            acknowledge(writing, b".")
        sink.close()

    _, status = os.waitpid(in_child(write), 0)
    os.close(writing)
    acknowledged = len(os.read(reading, 100))
    os.close(reading)
    sink = FileSink(make_config(), **options)
    for part in range(3):
        sink.emit([make_event(message=f"after:{part}")])
    sink.close()
    trail = FileTrail([path], rotated=True)
    return {
        "killed": os.WIFSIGNALED(status),
        "acknowledged": acknowledged,
        "found": [event.message for event in trail],
        "damaged": sum(trail.damaged.values()),
        "left": left_over(path),
    }


def count_calls(limit):
    """Die before the system call after so many."""
    calls = []

    def counted(original):
        def call(*args, **options):
            if len(calls) == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            calls.append(original)
            return original(*args, **options)

        return call

    for module, name in CALLS:
        setattr(module, name, counted(getattr(module, name)))


def fork_compressing(path):
    """A fork while a thread compresses."""
    original = _compression._copy
    begun, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    def copy(*args):
        if os.getpid() == parent:
            begun.set()
            go_on.wait()
        original(*args)

    _compression._copy = copy
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")

    def emit(message):
        sink.emit([make_event(message=message)])

    def write():
        emit("child")
        sink.close()

    emit("one")
    emit("two")
    begun.wait()
    wait_for([in_child(write)])
    go_on.set()
    emit("parent")
    sink.close()
    print(json.dumps({"left": left_over(path)}))  # noqa: T201


def write(sink, writing, name):
    for number in range(sys.maxsize):
        filler = random.randbytes(random.choice((10, 500, 4000))).hex()
        event = make_event(message=f"{name}:{number}", data={"filler": filler})
        sink.emit([event])
        os.write(writing, f"{event.message}\n".encode())  # acknowledged


def write_in_threads(sink, writing, name):
    failed = threading.Event()

    def attempt(thread):
        try:
            write(sink, writing, f"{name}.{thread}")
        finally:
            failed.set()

    for thread in range(THREADS):
        threading.Thread(target=attempt, args=(thread,)).start()
    failed.wait()  # for ever, unless something is wrong
    os._exit(1)


def stop(child):
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit("a writer has failed")


def kill(path, seconds):
    """Eight processes with four threads each, of which one after the other is killed."""
    reading, writing = os.pipe()
    sink = FileSink(make_config(), path=path, rotate_bytes=SIZE, compress="gzip")
    running = []

    def start(name):
        running.append(in_child(lambda: write_in_threads(sink, writing, name)))

    for name in range(PROCESSES):
        start(name)
    received = bytearray(os.read(reading, 65536))  # however slowly they start, one writes by now
    kills = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or kills < KILLS:
        next_kill = time.monotonic() + random.uniform(0, 0.2)
        while (rest := next_kill - time.monotonic()) > 0:
            if select.select([reading], [], [], rest)[0]:
                received += os.read(reading, 65536)
        stop(running.pop(random.randrange(PROCESSES)))
        start(PROCESSES + kills)
        kills += 1
    for child in running:
        stop(child)
    os.close(writing)
    while more := os.read(reading, 65536):
        received += more
    report = {
        "kills": kills,
        "kills at the end": PROCESSES,
        "acknowledged": received.decode().split(),
    }
    print(json.dumps(report))  # noqa: T201


def limit(path):
    """Files that may not grow beyond 3,000 bytes, nor 14,000, and then may, again and again."""
    said = logging.handlers.BufferingHandler(1000)
    logging.getLogger("django_signal_audit").addHandler(said)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = FileSink(make_config(), path=path, rotate_bytes=20_000, compress="gzip")
    report = {"acknowledged": [], "refused": []}
    limits = (3_000, 14_000, hard)
    for number in range(600):
        size = limits[number // 20 % len(limits)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        data = {"random": random.randbytes(400).hex()}
        events = [make_event(message=f"{number}.{part}", data=data) for part in range(2)]
        try:
            sink.emit(events)
        except OSError as error:
            report["refused"].append(error.errno)
        else:
            report["acknowledged"] += [event.message for event in events]
        if number % 20 == 0:
            sink.close()  # so that each limit is met by what is compressed
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for number in range(40):  # two more rotations
        sink.emit([make_event(message=f"after {number}", data=data)])
        report["acknowledged"].append(f"after {number}")
    sink.close()
    report["left"] = left_over(path)
    report["warnings"] = [record.getMessage() for record in said.buffer]
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    command = {"die": die, "fork_compressing": fork_compressing, "kill": kill, "limit": limit}[
        sys.argv[1]
    ]
    command(Path(sys.argv[2]), *map(float, sys.argv[3:]))
