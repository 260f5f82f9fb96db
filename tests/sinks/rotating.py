"""Files that were rotated: to make them, to name them, and to read them back."""

from __future__ import annotations

from django_signal_audit.file_trail import FileTrail
from django_signal_audit.sinks.file import FileSink
from tests.factories import make_config, make_event


def emit(sink, *messages):
    for message in messages:
        sink.emit([make_event(message=message)])


def in_directory(path):
    return [file.name for file in path.parent.iterdir()]


def names(path):
    """The files beside the current one, without its name."""
    return sorted(name.removeprefix(path.name) for name in in_directory(path))[1:]


def read(path):
    return [event.message for event in FileTrail([path], rotated=True)]


def rotated(path, stamp, message="old", suffix=""):
    """A rotated file from earlier."""
    name = path.with_name(f"{path.name}.{stamp}{suffix}")
    emit(FileSink(make_config(), path=name), message)
    return name
