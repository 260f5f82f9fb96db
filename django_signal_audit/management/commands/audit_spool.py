"""``manage.py audit_spool``: what waits for sinks that failed, and another try."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from django.core.management.base import BaseCommand, CommandError

from django_signal_audit import conf
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.management import arguments
from django_signal_audit.sinks import counters, routing, state
from django_signal_audit.sinks.after_commit import deliver_spooled
from django_signal_audit.sinks.failures import described, short
from django_signal_audit.sinks.spool import find_spools

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from django_signal_audit.sinks.routing import Route
    from django_signal_audit.sinks.spool import Spool


# What ends the command, and is no failure of a sink.
_ENDINGS: Final = (KeyboardInterrupt, SystemExit)


class Command(BaseCommand):
    """Shows the spools, empties them into their sinks, or takes one event out of the way."""

    help = (
        "Show which events wait in the spools of sinks that failed. With --flush, try to "
        "deliver them, in order. It can be stopped at any time."
    )

    # They report a sink that cannot write, which is when this command is needed.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--flush", action="store_true", help="Deliver what waits.")
        parser.add_argument(
            "--singly",
            action="store_true",
            help="With --flush, hand over one event at a time, to find the one that is refused.",
        )
        parser.add_argument(
            "--sink",
            action="append",
            metavar="ALIAS",
            help="Only this sink's spool; may be repeated. Default: all.",
        )
        parser.add_argument(
            "--skip",
            metavar="ID",
            help="Take the event that is next, by its id, out of the spool of --sink, into a "
            "file beside it. For an event that the sink will never take.",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Check the arguments, then do it."""
        try:
            routes = {route.alias: route for route in routing.all_routes()}
        except AuditConfigurationError as error:
            raise CommandError(str(error)) from error
        directory = state.directory()
        if directory is None:
            raise CommandError(
                f"There are no spools: {conf.SETTING}['STATE_DIR'] is not set. Set it, and give a "
                "sink 'ON_ERROR': 'spool'."
            )
        try:
            spools = find_spools(directory)
            named = arguments.as_list(options["sink"])
            for alias in named:
                if alias not in {**routes, **spools}:
                    raise CommandError(
                        f"There is no audit sink {alias!r}. {conf.nearest(alias, list(routes))}"
                        if routes
                        else f"There is no audit sink {alias!r}: SINKS is empty."
                    )
            chosen = {
                alias: spool for alias, spool in spools.items() if alias in named or not named
            }
            if options["skip"] is not None:
                self._skip(chosen, named, options["skip"])
            elif options["flush"]:
                self._flush(chosen, routes, singly=options["singly"])
            else:
                self._show(chosen, routes)
        except OSError as error:
            raise CommandError(f"A spool cannot be read or written: {error}") from error

    def _show(self, spools: dict[str, Spool], routes: dict[str, Route]) -> None:
        for alias, spool in spools.items():
            waiting = spool.waiting()
            first = f", next {described([waiting.first]).rstrip(',')}" if waiting.first else ""
            gone = "" if alias in routes else " It is not in SINKS any more."
            self.stdout.write(
                f"{alias}: {_events(waiting.events)} wait{first}: {spool.path}.{gone}"
            )
            if waiting.damaged:
                self.stdout.write(f"{alias}: {waiting.damaged} damaged lines.")
        if not spools:
            self.stdout.write("Nothing waits.")

    def _flush(self, spools: dict[str, Spool], routes: dict[str, Route], *, singly: bool) -> None:
        problems = []
        for alias, spool in spools.items():
            if alias not in routes:
                problems.append(
                    f"{alias!r} is not in SINKS any more. Add the sink again, or move {spool.path} "
                    "elsewhere; its lines are events in the json format."
                )
                continue
            drained = deliver_spooled(routes[alias], spool, singly=singly)
            if isinstance(drained.error, _ENDINGS):
                raise drained.error
            if drained.is_busy:
                problems.append(f"Another process is just delivering the spool of {alias!r}.")
                continue
            self.stdout.write(f"Delivered {_events(drained.delivered)} to {alias!r}.")
            if drained.damaged:
                problems.append(
                    f"{drained.damaged} lines in the spool of {alias!r} are no events; they were "
                    f"moved to {spool.skipped_path}."
                )
            if drained.error is not None:
                events = list(drained.refused)
                one = " Which one it is about, --singly tells." if len(events) > 1 else ""
                problems.append(
                    f"{alias!r} still cannot write {described(events).rstrip(',')}: "
                    f"{short(drained.error).rstrip('.')}.{one} That and what follows wait in "
                    f"{spool.path}."
                )
        if problems:
            raise CommandError("\n".join(problems))
        if not spools:
            self.stdout.write("Nothing waits.")

    def _skip(self, spools: dict[str, Spool], named: list[str], identifier: str) -> None:
        if len(named) != 1:
            raise CommandError("--skip needs one --sink, whose spool is meant.")
        try:
            wanted = uuid.UUID(identifier)
        except ValueError as error:
            raise CommandError(
                f"--skip {identifier!r} is no id of an event. Write the one that is next; "
                "audit_spool without options shows it."
            ) from error
        spool = spools.get(named[0])
        if spool is None or not spool.skip(wanted):
            raise CommandError(
                f"Event {wanted} is not the next one in the spool of {named[0]!r}; audit_spool "
                "without options shows which one is."
            )
        counters.count(named[0], "dropped", 1)
        self.stdout.write(f"Moved event {wanted} to {spool.skipped_path}.")


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count} events"
