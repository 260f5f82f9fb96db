"""Processes that fill one spool and empty it, and are killed at it; ``test_spool.py`` runs this.

``python -m tests.sinks.spool_writers DIRECTORY``
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from django_signal_audit.sinks.spool import Spool
from tests.factories import make_event
from tests.sinks.file_writers import in_child, read_until

ROUNDS = 8


def main(directory):
    spool = Spool(directory / "state", "a")
    delivered = directory / "delivered"
    reading, writing = os.pipe()

    def emit(events):
        descriptor = os.open(delivered, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            lines = "".join(f"{event.message}\n" for event in events)
            os.write(descriptor, lines.encode())
        finally:
            os.close(descriptor)

    def write(name):
        number = 0
        while True:
            message = f"{name}:{number}"
            spool.append([make_event(message=message, data={"filler": "x" * 3000})])
            os.write(writing, f"{message}\n".encode())  # acknowledged
            number += 1

    def deliver():
        while True:
            spool.drain(emit)

    acknowledged = []
    for number in range(ROUNDS):
        victims = [in_child(lambda name=f"{number}.{part}": write(name)) for part in range(2)]
        victims.append(in_child(deliver))
        received = read_until(reading, b"", lambda got: got.count(b"\n") >= 10)
        time.sleep(random.uniform(0, 0.05))
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
        os.write(writing, b"round\n")
        received = read_until(reading, received, lambda got: got.endswith(b"round\n"))
        acknowledged += received.decode().split()[:-1]
    drained = spool.drain(emit)
    report = {
        "acknowledged": acknowledged,
        "delivered": delivered.read_text().split(),
        "killed_deliverers": ROUNDS,
    }
    if drained.error is not None:
        raise drained.error
    print(json.dumps(report))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main(Path(sys.argv[1]))
