"""Programs whose standard output is a stream that ``test_stdout.py`` reads, or does not.

``python -m tests.sinks.stdout_writers COMMAND [ARGUMENT ...]``. What they tell the test goes to
their standard error, one word a line; what they are told to do next is a line of their input.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading

from django_signal_audit.sinks.stdout import StdoutSink
from tests.factories import make_config, make_event
from tests.sinks.file_writers import in_child, wait_for

FORKED, SPAWNED, THREADS = 4, 4, 3
SIZES = (200, 5000, 200, 4000, 70_000, 200, 4096, 9000, 300_000, 500)
PATIENCE = 100


def make_sink(timeout=PATIENCE):
    return StdoutSink(make_config(), timeout=timeout)


def refuse_to_open_again():
    """As for the pipe of another user: who may do everything is not refused it."""
    allowed = os.open

    def guarded(path, *arguments, **options):
        if str(path).startswith("/proc/self/fd/"):
            raise PermissionError(13, "Permission denied", path)
        return allowed(path, *arguments, **options)

    os.open = guarded


def write(name, kind="own"):
    """Threads that write lines of all sizes."""
    if kind == "shared":
        refuse_to_open_again()
    sink = make_sink()
    failures = []

    def emit(thread):
        try:
            for number, size in enumerate(SIZES):
                message = f"{name}:{thread}:{number}"
                sink.emit([make_event(message=message, data={"filler": "x" * size})])
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=emit, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def share(kind):
    """Processes that were forked, and others, on one stream; ``mixed``: half of them is refused."""
    kinds = ("own", "shared") if kind == "mixed" else (kind, kind)
    children = [
        in_child(functools.partial(write, f"forked {number}", kinds[number % 2]))
        for number in range(FORKED)
    ]
    programs = [
        subprocess.Popen(
            [sys.executable, "-m", __spec__.name, "write", f"spawned {number}", kinds[number % 2]]
        )
        for number in range(SPAWNED)
    ]
    wait_for(children)
    codes = [program.wait() for program in programs]
    if any(codes):
        sys.exit(f"programs ended with {codes}")


def tear(kind, timeout):
    """Emit a line that is longer than a pipe, and one more each time that it is told to."""
    if kind == "shared":
        refuse_to_open_again()
    sink = make_sink(float(timeout))
    message, size = "long", 1_000_000
    while message:
        try:
            sink.emit([make_event(message=message, data={"filler": "x" * size})])
        except TimeoutError:
            tell("late")
        else:
            tell("written")
        message, size = sys.stdin.readline().strip(), 10


def tell(word):
    sys.stderr.write(f"{word}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    command = {"write": write, "share": share, "tear": tear}
    command[sys.argv[1]](*sys.argv[2:])
