"""``manage.py audit_status``: how the sinks are."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import BaseCommand, CommandError

from django_signal_audit.conf import SETTING
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.management.status import SinkStatus, Status, current_status
from django_signal_audit.sinks import counters

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Iterator

_SHOWN: Final = ("emitted", "written", "dropped", "failed", "spooled", "lost", "slow")
_GAP: Final = "  "


class Command(BaseCommand):
    """Prints promise, policy, counters and health of each sink."""

    help = (
        "Print what each audit sink promises, what it has counted, and what is wrong with it. "
        "Ends with exit code 1 if something is."
    )
    # Wrong settings are told of here, in the same words as by the checks.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")
        parser.add_argument(
            "--reset",
            action="store_true",
            help="First set all counters to zero, once you have looked into what was lost.",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Look, print, and fail if something is wrong."""
        try:
            if options["reset"]:
                counters.reset()
                counters.reset_of_all_processes()
            status = current_status()
        except AuditConfigurationError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"The counters and spools cannot be read: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(_as_dict(status)))
        else:
            self.stdout.writelines(f"{line}\n" for line in _as_text(status))
        if status.problems:
            raise CommandError("\n".join(status.problems))


def _as_dict(status: Status) -> dict[str, Any]:
    return {
        "ok": not status.problems,
        "counted_by": "all processes" if status.is_shared else "this process",
        "sinks": [asdict(sink) for sink in status.sinks],
    }


def _as_text(status: Status) -> Iterator[str]:
    head = ("sink", "backend", "promise", "on error", *_SHOWN, "waiting")
    rows = [head, *map(_row, status.sinks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = head.index(_SHOWN[0])
    for row in rows:
        cells = [
            cell.ljust(width) if at < words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield _GAP.join(cells).rstrip()
    yield ""
    if status.is_shared:
        yield "Counted by all processes of this machine since the last --reset."
    else:
        yield (
            f"Counted by this process alone. To see what all processes count, set "
            f"{SETTING}['STATE_DIR']."
        )
    if not status.problems:
        yield "Nothing is wrong." if status.is_shared else "Nothing is wrong in this process."


def _row(sink: SinkStatus) -> tuple[str, ...]:
    return (
        sink.alias,
        sink.backend or "(not in SINKS)",
        sink.promise,
        sink.on_error,
        *(str(sink.counts.get(name, 0)) for name in _SHOWN),
        str(sink.waiting),
    )
