"""``manage.py audit_export``: the trail as JSON Lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from django_signal_audit import reader
from django_signal_audit.exceptions import AuditError
from django_signal_audit.formats import get_formatter
from django_signal_audit.management import arguments
from django_signal_audit.management.output import whole_file
from django_signal_audit.management.progress import Progress

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from django_signal_audit.event import AuditEvent

STDOUT: Final = "-"
_SIGPIPE: Final = 128 + 13  # how a shell reports a program that SIGPIPE ended
_FILTERS: Final = ("since", "until", "model", "object", "actor", "event", "database")


class Command(BaseCommand):
    """Streams the trail, in constant memory, to a file or to stdout."""

    help = "Export the audit trail as JSON Lines, one event a line, oldest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--output", metavar="PATH", default=STDOUT, help="A file; - is stdout, the default."
        )
        parser.add_argument(
            "--since",
            metavar="WHEN",
            help="First moment included: an ISO date or time, or an age such as 2h or 7d.",
        )
        parser.add_argument(
            "--until", metavar="WHEN", help="First moment left out; a date is the start of its day."
        )
        parser.add_argument("--model", metavar="APP.MODEL", help="Events of this model only.")
        parser.add_argument(
            "--object",
            metavar="APP.MODEL:KEY",
            help="Events of one object only; just its key if --model is given.",
        )
        parser.add_argument(
            "--actor", help="What one actor did: type:id (user:5), an id, or a label (a username)."
        )
        parser.add_argument(
            "--event",
            action="append",
            metavar="PATTERN",
            help="Events of this name only, such as 'model.*'; may be repeated.",
        )
        parser.add_argument(
            "--database",
            action="append",
            metavar="ALIAS",
            help="Read this database only; may be repeated. Default: all that hold a trail.",
        )
        parser.add_argument("--overwrite", action="store_true", help="Replace an existing file.")
        parser.add_argument(
            "--allow-empty", action="store_true", help="Succeed also if no event matches."
        )

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as a program; one whose reader has left, as in ``| head``, ends quietly."""
        try:
            super().run_from_argv(argv)
        except BrokenPipeError:
            # Python flushes stdout once more at exit, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_SIGPIPE)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Check the arguments, then export."""
        said = {name: options[name] for name in _FILTERS if options[name] not in (None, [], ())}
        trail_filter, unknown_model = _read_filter(said)
        databases = arguments.parse_databases(options["database"])
        output = str(options["output"])
        if not output:
            raise CommandError(f"--output is empty. Write the path of a file, or {STDOUT}.")
        with _explained():
            trail = self._find_trail(databases, trail_filter)
        progress = Progress(self.stderr, shown=self._is_progress_shown(output, options))
        try:
            with self._open(output, overwrite=options["overwrite"]) as write:
                for event in _reading(trail):
                    write(to_line(event))
                    progress.step()
                if progress.count == 0:
                    _refuse_empty(said, unknown_model, allowed=options["allow_empty"])
        finally:
            progress.clear()
            self._warn_of_damage(trail)
        if options["verbosity"] > 0:
            self._report(progress.count, output)

    def _find_trail(
        self, databases: list[str], trail_filter: reader.TrailFilter
    ) -> Iterable[AuditEvent]:
        if not databases and not reader.has_database_sink():
            return self._find_files(trail_filter)
        for alias in databases:
            if not reader.has_trail(alias):
                raise CommandError(
                    f"Database {alias!r} has no audit table. Make it with: manage.py migrate "
                    f"django_signal_audit --database {alias}"
                )
        databases = databases or reader.trail_databases()
        if not databases:
            raise CommandError(
                "No database has the audit table. Make it with: manage.py migrate "
                "django_signal_audit"
            )
        return reader.read_databases(databases, trail_filter)

    def _find_files(self, trail_filter: reader.TrailFilter) -> reader.FileTrail:
        files = reader.trail_files()
        if not files:
            raise CommandError(
                "No sink keeps a trail that can be read back. In SIGNAL_AUDIT['SINKS'], configure "
                "django_signal_audit.sinks.DatabaseSink, or django_signal_audit.sinks.FileSink in "
                "the format json; or name a database that holds a trail with --database."
            )
        found = []
        for alias, path in files.items():
            if path.exists():
                found.append(path)
                self._note(f"No database sink is configured: reading {path} (sink {alias!r}).")
            else:
                self._note(f"{path} (sink {alias!r}) does not exist: nothing was written to it.")
        return reader.FileTrail(found, trail_filter)

    @contextmanager
    def _open(self, output: str, *, overwrite: bool) -> Iterator[Callable[[bytes], object]]:
        if output != STDOUT:
            with whole_file(Path(output), overwrite=overwrite) as file:
                yield file.write
            return
        # JSON Lines are UTF-8, whatever the terminal's encoding.
        binary = getattr(self.stdout, "buffer", None)
        try:
            self.stdout.flush()
            yield binary.write if binary is not None else self._write_text
            if binary is not None:
                binary.flush()
            self.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CommandError(f"Stdout cannot be written: {error.strerror or error}.") from error

    def _write_text(self, line: bytes) -> None:
        self.stdout.write(line.decode(), _plain, ending="")

    def _is_progress_shown(self, output: str, options: dict[str, Any]) -> bool:
        on_the_lines = output == STDOUT and self.stdout.isatty()
        return options["verbosity"] > 0 and self.stderr.isatty() and not on_the_lines

    def _warn_of_damage(self, trail: Iterable[AuditEvent]) -> None:
        if not isinstance(trail, reader.FileTrail):
            return
        for path, count in trail.damaged.items():
            if count:
                lines = "1 line" if count == 1 else f"{count} lines"
                self._note(f"Warning: {lines} of {path} could not be read and were left out.")

    def _report(self, count: int, output: str) -> None:
        events = "1 event" if count == 1 else f"{count} events"
        if output == STDOUT:
            self._note(f"Exported {events}.")
        else:
            self.stdout.write(f"Exported {events} to {output}.")

    def _note(self, text: str) -> None:
        self.stderr.write(text, _plain)


def to_line(event: AuditEvent) -> bytes:
    """One event as the ``json`` format writes it, with its newline."""
    try:
        return _format(event) + b"\n"
    except TypeError as error:
        raise CommandError(f"Event {event.id} cannot be written as JSON: {error}.") from error


_format: Final = get_formatter("json")


def _read_filter(said: dict[str, Any]) -> tuple[reader.TrailFilter, str | None]:
    """The filter, and the label of a model in it that is not installed."""
    values: dict[str, Any] = {
        name: arguments.parse_moment(f"--{name}", said.get(name)) for name in ("since", "until")
    }
    if values["since"] and values["until"] and values["since"] >= values["until"]:
        raise CommandError(
            f"--since {said['since']} is not before --until {said['until']}. Write the earlier "
            "moment after --since; --until is the first moment left out."
        )
    for name in ("model", "object", "actor"):
        if said.get(name) == "":
            raise CommandError(f"--{name} is empty. Write what to look for, or leave it out.")
    label = said.get("model")
    if "object" in said:
        values["object_type"], values["object_id"] = arguments.parse_object(said["object"], label)
        label = label or str(said["object"]).partition(":")[0]
    elif label:
        values["object_type"] = arguments.parse_model(label)[0]
    unknown = label if label and arguments.parse_model(label)[1] is None else None
    values["actor"] = said.get("actor")
    values["event"] = tuple(arguments.as_list(said.get("event")))
    if "" in values["event"]:
        raise CommandError("--event is empty. Write a name or a pattern such as 'model.*'.")
    return reader.TrailFilter(**values), unknown


def _refuse_empty(said: dict[str, Any], unknown_model: str | None, *, allowed: bool) -> None:
    """An empty export is an error unless it is allowed; of an unknown model it always is."""
    if unknown_model:
        raise CommandError(
            f"There is no model {unknown_model!r}, and no audit event of it; nothing was written. "
            f"{arguments.model_advice(unknown_model)}"
        )
    if allowed:
        return
    if said:
        words = " ".join(
            f"--{name} {value}"
            for name, values in said.items()
            for value in (values if isinstance(values, list | tuple) else [values])
        )
        raise CommandError(
            f"No audit events match {words}; nothing was written. Widen the filter, or allow an "
            "empty export with --allow-empty."
        )
    raise CommandError(
        "The trail holds no audit events; nothing was written. Allow an empty export with "
        "--allow-empty."
    )


def _reading(trail: Iterable[AuditEvent]) -> Iterator[AuditEvent]:
    with _explained():
        yield from trail


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what goes wrong while reading into an error without a traceback."""
    try:
        yield
    except (AuditError, DatabaseError, OSError) as error:
        raise CommandError(f"The trail cannot be read: {str(error).strip()}") from error


def _plain(text: str) -> str:
    return text
