"""Runs ``audit_export``, here or as a program of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from django_signal_audit.formats import get_formatter
from tests.factories import make_event
from tests.management.trails import NOON, store

ROOT = Path(__file__).resolve().parents[2]


def lines(events):
    formatter = get_formatter("json")
    return b"".join(formatter(event) + b"\n" for event in events)


def export(**options):
    """Run the command to stdout; what it wrote to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command("audit_export", stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def error(**options):
    with pytest.raises(CommandError) as caught:
        export(**options)
    return str(caught.value)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


class Terminal(io.StringIO):
    def isatty(self):
        return True


# Where the tests run in the background, SIGINT is ignored, and a child would inherit that.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from django.conf import settings
import tests.settings as base
settings.configure(**{k: v for k, v in vars(base).items() if k.isupper() and k != "DATABASES"},
                   DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3",
                                          "NAME": ":memory:"}})
settings.SIGNAL_AUDIT = {"SINKS": {"file": {
    "BACKEND": "django_signal_audit.sinks.FileSink", "OPTIONS": {"path": sys.argv.pop(1)}}}}
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "audit_export", *sys.argv[1:]])
"""


def start(path, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path), *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **options,
    )


def untraced_environment():
    """For a program that is interrupted: amid coverage's tracer, its lock would stay locked."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def peak_of_export(count, path):
    """The memory, in bytes, that exporting so many more events takes at its highest."""
    for first in range(0, count, 5_000):
        store(
            make_event(
                timestamp=NOON + timedelta(seconds=first + n),
                changes={"name": [None, "x" * 200]},
            )
            for n in range(min(count, 5_000))
        )
    tracemalloc.start()
    try:
        export(output=path, overwrite=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
