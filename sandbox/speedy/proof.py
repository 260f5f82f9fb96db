"""Reads back what one run left behind, and says whether it is the same everywhere."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
from django.utils import timezone

from django_signal_audit.models import AuditRecord

SHOWN_OF_MANY = 5


def seed_line(record: AuditRecord) -> str:
    """The line that log_event.log has had from the start."""
    local_time = timezone.localtime(record.timestamp, timezone.get_default_timezone())
    return (
        f"{local_time:%d_%m_%Y_%H_%M_%S} -- {record.sender} -- {record.message}"
        f" -- {record.object_repr or None}"
    )


class Tail:
    """What is appended to a file from now on; earlier runs stay in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.start = path.stat().st_size if path.exists() else 0

    def lines(self) -> Iterator[str]:
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as file:
            file.seek(self.start)
            yield from (line for line in file.read().split("\n") if line)


class Proof:
    """Compares the trail in the database with the files that the sinks and the export wrote."""

    def __init__(self, audit_file: Path, log_file: Path, export_file: Path) -> None:
        self.audit_tail = Tail(audit_file)
        self.log_tail = Tail(log_file)
        self.export_file = export_file
        schema = files("django_signal_audit").joinpath("schema/event.v1.json").read_text("utf-8")
        self.validator = jsonschema.Draft202012Validator(
            json.loads(schema), format_checker=jsonschema.FormatChecker()
        )

    def whereabouts(self, records: Iterable[AuditRecord]) -> dict[str, str]:
        """For each event the sinks that have it: read back, except for stdout."""
        in_file, _ = self._read(self.audit_tail.lines())
        logged = Counter(self.log_tail.lines())
        found = {}
        for record in records:
            sinks = ["database"]
            if str(record.pk) in in_file:
                sinks.append("file")
            sinks.append("stdout")
            if record.event == "event" and logged[seed_line(record)]:
                sinks.append("log")
            found[str(record.pk)] = " ".join(sinks)
        return found

    def compare(self, records: Iterable[AuditRecord]) -> tuple[dict[str, int], list[str]]:
        """How many events are where, and everything that is wrong."""
        in_database = {str(record.pk): record for record in records}
        in_file, problems = self._read(self.audit_tail.lines())
        exported: dict[str, Any] = {}
        if self.export_file.exists():
            text = self.export_file.read_text(encoding="utf-8")
            exported, invalid = self._read(line for line in text.split("\n") if line)
            problems += invalid
        logged = list(self.log_tail.lines())
        expected_log = [seed_line(one) for one in in_database.values() if one.event == "event"]

        if not in_database:
            problems.append("the database has no event of this run")
        for name, events in (
            (self.audit_tail.path.name, in_file),
            (self.export_file.name, exported),
        ):
            problems += some_of(f"missing in {name}", in_database.keys() - events.keys())
            problems += some_of(f"only in {name}", events.keys() - in_database.keys())
        problems += some_of(
            f"not the same in {self.audit_tail.path.name} and {self.export_file.name}",
            {key for key in in_file.keys() & exported.keys() if in_file[key] != exported[key]},
        )
        log_name = self.log_tail.path.name
        problems += some_of(f"missing in {log_name}", Counter(expected_log) - Counter(logged))
        problems += some_of(f"only in {log_name}", Counter(logged) - Counter(expected_log))

        counts = {
            "the database": len(in_database),
            self.audit_tail.path.name: len(in_file),
            self.export_file.name: len(exported),
            log_name: len(logged),
        }
        return counts, problems

    def _read(self, lines: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
        events: dict[str, Any] = {}
        problems = []
        for line in lines:
            try:
                event = json.loads(line)
                self.validator.validate(event)
            except ValueError as error:
                problems.append(f"not JSON: {error}: {line[:200]}")
                continue
            except jsonschema.ValidationError as error:
                problems.append(f"against the schema: {error.json_path}: {error.message[:200]}")
                continue
            if event["id"] in events:
                problems.append(f"twice: {event['id']}")
            events[event["id"]] = event
        return events, problems


def some_of(what: str, keys: Iterable[str]) -> list[str]:
    """One problem that names the first few keys, or none."""
    found = sorted(keys)
    if not found:
        return []
    more = f" and {len(found) - SHOWN_OF_MANY} more" if len(found) > SHOWN_OF_MANY else ""
    return [f"{what}: {', '.join(found[:SHOWN_OF_MANY])}{more}"]
