"""A short run of a file sink or a spool, again and again, for ``test_faults.py`` to break.

``python -m tests.sinks.fault_run``. It imports once, forks for each run, and speaks JSON, a line
at a time: told of a run it says its process, which waits; told to go on it says how that ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from django_signal_audit.sinks.file import FileSink
from django_signal_audit.sinks.spool import Spool
from tests.factories import make_config, make_event

SIZES = (1, 3, 1, 2, 1, 3, 1, 1)
"""How many events each ``emit`` has."""

ROTATE_BYTES = 5000
_FILLER = "x" * 300
_PR_SET_PTRACER = 0x59616D61
_PTRACER_ANY = ctypes.c_ulong(-1)


class Careless(FileSink):
    """Says that it has written what it has not."""

    def emit(self, events):
        with suppress(OSError):
            super().emit(events)


def make_sink(folder, *, careless=False):
    """A sink that has opened nothing yet, while all it needs is imported."""
    kind = Careless if careless else FileSink
    return kind(
        make_config(),
        path=Path(folder, "audit.jsonl"),
        fsync="commit",
        rotate_bytes=ROTATE_BYTES,
        compress="gzip",
    )


def run(sink, report, name):
    """Write, and report what is acknowledged or failed: a word and the messages, one line each."""
    for number, size in enumerate(SIZES):
        messages = [f"{name}:{number}:{part}" for part in range(size)]
        events = [make_event(message=message, data={"filler": _FILLER}) for message in messages]
        try:
            sink.emit(events)
        except OSError as error:
            tell(report, "failed", *messages, str(error))
        else:
            tell(report, "written", *messages)
        if number == len(SIZES) // 2:
            close(sink, report)
    close(sink, report)
    tell(report, "ended")


def run_spool(folder, report, name):
    """Add to a spool and empty it in turn, into a file, and report as ``run`` does."""
    spool = Spool(Path(folder, "state"), "a")
    sink = FileSink(make_config(), path=Path(folder, "audit.jsonl"), fsync="commit")
    for number, size in enumerate(SIZES):
        messages = [f"{name}:{number}:{part}" for part in range(size)]
        try:
            spool.append([make_event(message=message) for message in messages])
        except OSError as error:
            tell(report, "failed", *messages, str(error))
        else:
            tell(report, "written", *messages)
        if number % 3 == 1:
            drain(spool, sink, report)
    drain(spool, sink, report)
    tell(report, "ended")


def drain(spool, sink, report):
    try:
        spool.drain(sink.emit)
    except OSError as error:
        tell(report, "not drained", str(error))


def close(sink, report):
    try:
        sink.close()
    except OSError as error:
        tell(report, "not closed", str(error))


def tell(report, *words):
    os.write(report, f"{json.dumps(words)}\n".encode())


def start(folder, report, name, *, spooling=False, **options):
    """Fork a run that waits; its process, and what to close to let it go on."""
    waiting, go = os.pipe()
    starting, started = os.pipe()
    child = os.fork()
    if child:
        os.close(waiting)
        os.close(started)
        os.read(starting, 1)  # from here on its calls are counted
        os.close(starting)
        return child, go
    try:
        os.close(go)
        # Where only ancestors may trace a process, strace is none.
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PTRACER_ANY, 0, 0, 0)
        descriptor = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        sink = make_sink(folder, **options)
        os.close(started)
        os.read(waiting, 1)
        if spooling:
            run_spool(folder, descriptor, name)
        else:
            run(sink, descriptor, name)
        os._exit(0)
    finally:
        os._exit(1)


def main():
    # System calls are counted. So a rotation's thread does its work where it is started, and a
    # first run imports what is imported when it is needed.
    threading.Thread.start = threading.Thread.run
    with tempfile.TemporaryDirectory() as folder, Path(folder, "report").open("w") as report:
        run(make_sink(folder), report.fileno(), "first")
        run_spool(folder, report.fileno(), "first")
    for line in sys.stdin:
        child, go = start(**json.loads(line))
        print(child, flush=True)  # noqa: T201 - the test reads it
        sys.stdin.readline()
        os.close(go)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
