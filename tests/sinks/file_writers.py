"""Programs that write to one file at once; ``test_file.py`` runs them and reads the file.

``python -m tests.sinks.file_writers COMMAND PATH``. They fork, which a process with threads
should not do, so they are processes of their own.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from django_signal_audit.sinks.file import FileSink
from tests.factories import make_config, make_event

PROCESSES = 8
THREADS = 3
EMITS = 100
FILLER = "x" * 8500
SIZE_LIMIT = 30_000


def in_child(work):
    """Run work in a forked child, whose exit code says whether it went well."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for(children):
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(f"children ended with {codes}")


def write_in_threads(sink, name):
    failures = []

    def write(thread):
        try:
            for number in range(EMITS):
                message = f"{name}:{thread}:{number}"
                sink.emit([make_event(message=message, data={"filler": FILLER})])
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def share(path, *, rename=False):
    """Eight processes with threads, which inherit an open sink."""
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event(message="parent")])
    children = [
        in_child(lambda name=name: write_in_threads(sink, name)) for name in range(PROCESSES)
    ]
    renamed = 0
    running = set(children)
    codes = []
    while running:
        done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            running.remove(done)
            codes.append(os.waitstatus_to_exitcode(status))
        elif rename and path.exists():
            path.rename(f"{path}.{renamed}")
            renamed += 1
        time.sleep(0.002)
    if any(codes):
        sys.exit(f"children ended with {codes}")
    sink.emit([make_event(message="parent again")])
    print(renamed)  # noqa: T201 - read by the test


def share_and_rename(path):
    share(path, rename=True)


def read_until(pipe, received, is_enough):
    while not is_enough(received):
        received += os.read(pipe, 65536)
    return received


def kill(path, rounds=20):
    """Writers that are killed at any moment, beside one that lives."""
    sink = FileSink(make_config(), path=path)
    reading, writing = os.pipe()
    stopping, stop = os.pipe()

    def write(name):
        number = 0
        while True:
            event = make_event(message=f"{name}:{number}", data={"filler": FILLER * 7})
            sink.emit([event])
            os.write(writing, f"{event.message}\n".encode())  # acknowledged
            number += 1

    def survive():
        os.close(stop)
        os.set_blocking(stopping, False)
        number = 0
        while True:
            sink.emit([make_event(message=f"survivor:{number}")])
            number += 1
            try:
                if os.read(stopping, 1) == b"":
                    return
            except BlockingIOError:
                time.sleep(0.001)

    survivor = in_child(survive)
    os.close(stopping)
    acknowledged = []
    for number in range(rounds):
        victims = [in_child(lambda name=f"{number}.{part}": write(name)) for part in range(2)]
        # However slowly a process starts here, they write by now.
        received = read_until(reading, b"", lambda got: got.count(b"\n") >= 3)
        time.sleep(random.uniform(0, 0.05))
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
        os.write(writing, b"round\n")
        received = read_until(reading, received, lambda got: got.endswith(b"round\n"))
        acknowledged += received.decode().split()[:-1]
    os.close(stop)
    wait_for([survivor])
    print(json.dumps({"kills": rounds * 2, "acknowledged": acknowledged}))  # noqa: T201


def limit(path):
    """A disk that is full after some lines, as RLIMIT_FSIZE makes it, and then is not."""
    sink = FileSink(make_config(), path=path)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE_LIMIT, hard))
    report = {"written": [], "errors": []}

    def emit(message, **data):
        try:
            sink.emit([make_event(message=f"{message}.{part}", data=data) for part in range(2)])
        except OSError as error:
            report["errors"].append([error.errno, str(error), path.stat().st_size])
        else:
            report["written"] += [f"{message}.0", f"{message}.1"]

    for number in range(3):  # the first fits, the others are cut
        emit(f"large {number}", filler=FILLER)
    emit("small")  # there is room for it
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    emit("not one byte")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    emit("after")
    print(json.dumps(report))  # noqa: T201


def fork(path):
    """Forks while other threads write, so that locks are held at that moment."""
    sink = FileSink(make_config(), path=path, fsync="interval", fsync_interval=0.001)
    sink.emit([make_event(message="first")])
    ended = threading.Event()
    counts = [0, 0]

    def write(thread):
        while not ended.is_set():
            message = f"thread {thread}:{counts[thread]}"
            sink.emit([make_event(message=message, data={"filler": FILLER})])
            counts[thread] += 1

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(2)]
    for thread in threads:
        thread.start()
    expected = ["first"]
    for number in range(20):
        messages = [f"child {number}:{part}" for part in range(3)]
        expected += messages

        def write_few(messages=messages):
            if sink._descriptor is not None:
                raise AssertionError("the child has the parent's descriptor and so its lock")
            for message in messages:
                sink.emit([make_event(message=message, data={"filler": FILLER})])

        wait_for([in_child(write_few)])
    ended.set()
    for thread in threads:
        thread.join()
    expected += [
        f"thread {at}:{number}" for at, count in enumerate(counts) for number in range(count)
    ]
    sink.close()
    print(json.dumps(expected))  # noqa: T201


if __name__ == "__main__":
    command = {
        "share": share,
        "rename": share_and_rename,
        "kill": kill,
        "limit": limit,
        "fork": fork,
    }
    command[sys.argv[1]](Path(sys.argv[2]))
