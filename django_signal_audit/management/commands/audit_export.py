"""``manage.py audit_export``: the trail as JSON Lines or as CSV."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import BaseCommand, CommandError

from django_signal_audit.management import arguments, export_format, selection
from django_signal_audit.management.output import refuse_trail, whole_file
from django_signal_audit.management.progress import Progress
from django_signal_audit.management.sources import Source

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from django_signal_audit.event import AuditEvent
    from django_signal_audit.exports import BaseExporter

STDOUT: Final = "-"
_SIGPIPE: Final = 128 + 13  # how a shell reports a program that SIGPIPE ended


class Command(BaseCommand):
    """Streams the trail, in constant memory, to a file or to stdout."""

    help = "Export the audit trail, oldest event first, as JSON Lines or as CSV."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--output", metavar="PATH", default=STDOUT, help="A file; - is stdout, the default."
        )
        export_format.add_arguments(parser)
        selection.add_arguments(parser)
        parser.add_argument(
            "--file",
            action="append",
            metavar="PATH",
            help="Read this file of JSON lines instead, also one that ends in .gz or .zst; may be "
            "repeated.",
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
        wanted = selection.read_selection(options)
        output = str(options["output"])
        if not output:
            raise CommandError(f"--output is empty. Write the path of a file, or {STDOUT}.")
        exporter = export_format.choose_exporter(options, output)
        files = _files(options["file"])
        if output != STDOUT:
            refuse_trail(Path(output), files)
        source = Source(wanted, self._note, files)
        progress = Progress(self.stderr, shown=self._is_progress_shown(output, options))
        try:
            with self._open(output, overwrite=options["overwrite"]) as write:
                # Not before the first event: an export that is refused leaves stdout empty.
                head = exporter.head()
                for event in source:
                    write(head + to_rows(exporter, event))
                    head = b""
                    progress.step()
                if progress.count == 0:
                    wanted.refuse_empty(allowed=options["allow_empty"])
                    write(head)
        finally:
            progress.clear()
            source.warn_of_damage()
        for warning in exporter.warnings():
            self._note(f"Warning: {warning}")
        if options["verbosity"] > 0:
            self._report(progress.count, output)

    @contextmanager
    def _open(self, output: str, *, overwrite: bool) -> Iterator[Callable[[bytes], object]]:
        if output != STDOUT:
            with whole_file(Path(output), overwrite=overwrite) as file:
                yield file.write
            return
        # An export is UTF-8, whatever the terminal's encoding.
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

    def _report(self, count: int, output: str) -> None:
        events = "1 event" if count == 1 else f"{count} events"
        if output == STDOUT:
            self._note(f"Exported {events}.")
        else:
            self.stdout.write(f"Exported {events} to {output}.")

    def _note(self, text: str) -> None:
        self.stderr.write(text, _plain)


def to_rows(exporter: BaseExporter, event: AuditEvent) -> bytes:
    """One event as an exporter writes it.

    Raises:
        CommandError: it cannot be written; the message names the event.
    """
    try:
        return exporter.rows(event)
    except (LookupError, TypeError, ValueError) as error:
        raise CommandError(f"Event {event.id} cannot be exported: {error!r}.") from error


def _files(said: Any) -> list[Path]:
    files = [said] if isinstance(said, Path) else arguments.as_list(said)
    if "" in files:
        raise CommandError("--file is empty. Write the path of a file.")
    return [Path(file) for file in files]


def _plain(text: str) -> str:
    return text
