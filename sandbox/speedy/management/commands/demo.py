"""``manage.py demo``: the story of the sandbox, its trail, and the proof that it is whole."""

import contextlib
import datetime as dt
import io
import logging
import textwrap
from collections.abc import Iterator
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, call_command
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count, F, QuerySet
from django.test import Client
from django.utils import timezone
from rich.console import Console
from rich.table import Table
from rich.text import Text

from django_signal_audit import set_actor
from django_signal_audit.models import AuditRecord
from speedy.models import Employees, PlanLock, Shifts
from speedy.proof import Proof
from speedy.signals.employee_assignment import (
    EMPLOYEES_PER_SHIFT,
    first_free_shift,
    open_new_shift,
)

EMPLOYEES_AT_LEAST = 4
EMPLOYEES_AT_MOST = 12
WIDTH = 100


class Command(BaseCommand):
    help = "Tell the shift-assignment story, print its audit trail, export it and check it."

    # A fresh database has none of the tables that checks may ask for: they run after migrate.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        # rich ends its lines itself; with an ending of its own Django would add more.
        self.stdout.ending = ""
        console = Console(file=self.stdout, highlight=False)
        # Without a terminal rich assumes 80 columns, and the table looks crowded.
        if not console.is_terminal or console.width > WIDTH:
            console.width = WIDTH
        story = Story(console)
        story.prepare_database()
        self.check(databases=[DEFAULT_DB_ALIAS])
        story.tell()
        story.show_trail()
        story.export()
        problems = story.check()
        if problems:
            raise CommandError("The trail is not what it should be:\n- " + "\n- ".join(problems))


class ChangeOfMindError(Exception):
    """Raised by the story itself, to roll a change back."""


class Story:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.steps = 0
        self.created = 0
        self.employees: list[Employees] = []
        self.problems: list[str] = []
        self.data_dir = Path(settings.DATA_DIR)
        self.export_file = self.data_dir / "trail-export.jsonl"

    def heading(self, title: str) -> None:
        self.steps += 1
        self.console.print()
        self.console.rule(Text(f"{self.steps}. {title}", style="bold"), align="left")

    def say(self, text: str, style: str = "") -> None:
        # Text, not a string: rich would take [redacted] for an instruction.
        self.console.print(Text(textwrap.fill(text, self.console.width), style=style))

    def result(self, text: str) -> None:
        indent = " " * 4
        wrapped = textwrap.fill(
            text, self.console.width, initial_indent=indent, subsequent_indent=indent
        )
        self.console.print(Text(wrapped, style="green"))

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(otherwise)

    def prepare_database(self) -> None:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing:
            self.say(f"Preparing the database: {len(missing)} migrations ...")
            call_command("migrate", interactive=False, verbosity=0)

    def tell(self) -> None:
        users = get_user_model().objects
        self.planner, _ = users.get_or_create(username="planner")
        self.payroll, _ = users.get_or_create(username="payroll")
        sinks = settings.SIGNAL_AUDIT["SINKS"]
        if missing := {"file", "log"} - sinks.keys():
            raise CommandError(
                f"The demo reads what the sinks 'file' and 'log' wrote, and AUDIT_SINKS has no "
                f"{min(missing)!r}. Unset AUDIT_SINKS, or add it: see .env.example."
            )
        self.proof = Proof(
            audit_file=Path(sinks["file"]["OPTIONS"]["path"]),
            log_file=Path(sinks["log"]["OPTIONS"]["path"]),
            export_file=self.export_file,
        )
        self.say(
            f"The shift-assignment story, on {connection.display_name}. Every new employee joins a"
            f" shift, no shift takes more than {EMPLOYEES_PER_SHIFT}, and every change is audited."
            " The dated lines below are what the stdout sink prints: one for each event, when its"
            " transaction has committed."
        )
        self.started = timezone.now()
        with set_actor(self.planner):
            self.join_shifts()
            self.update()
            self.move_by_hand()
            with set_actor(self.payroll):
                self.update_many()
            self.delete()
            self.wipe_expired()
        # Here the middleware knows who acts: the planner logs in.
        self.open_page()
        self.fail_on_page()
        with set_actor(self.planner):
            self.roll_back()
        self.ended = timezone.now()
        crowded = Shifts.objects.annotate(taken=Count("employees_shift")).filter(
            taken__gt=EMPLOYEES_PER_SHIFT
        )
        self.expect(not crowded.exists(), f"a shift has more than {EMPLOYEES_PER_SHIFT} employees")

    def join_shifts(self) -> None:
        self.heading("Employees join shifts until they are full, and one more opens a new shift")
        if Shifts.objects.exists():
            self.say("Shifts of an earlier run are still there; their free places go first.")
        opened = False
        while len(self.employees) < EMPLOYEES_AT_LEAST or (
            not opened and len(self.employees) < EMPLOYEES_AT_MOST
        ):
            known = set(Shifts.objects.values_list("pk", flat=True))
            employee = self.create_employee()
            shift = employee.shifts.get()
            if shift.pk in known:
                taken = shift.employees_shift.count()
                self.result(f"{name(employee)} is number {taken} in {name(shift)}.")
            elif known & set(Shifts.objects.values_list("pk", flat=True)):
                opened = True
                self.result(f"All shifts were full: {name(employee)} opens {name(shift)}.")
            else:
                self.result(f"There was no shift at all: {name(employee)} opens {name(shift)}.")

    def create_employee(self) -> Employees:
        self.created += 1
        number = self.created
        employee = Employees.objects.create(
            first_name=f"user{number}",
            last_name="last_user",
            address=f"{number} Example Street",
            age=29 + number,
            date_of_birth=dt.date(1990, 1, number),
        )
        self.employees.append(employee)
        return employee

    def update(self) -> None:
        self.heading("An update keeps the old values and the new")
        employee = self.employees[0]
        self.say(
            f"{name(employee)} has a birthday and moves house. The model masks the address: the"
            " trail says that it changed, not what it was or is."
        )
        employee.age += 1
        employee.address = "99 New Example Street"
        employee.save()
        self.result(summary(self.latest(employee)))

    def move_by_hand(self) -> None:
        self.heading("A change by hand: from one shift to another")
        employee = self.employees[0]
        with transaction.atomic():
            # As in the signals: without it someone else may take the last place meanwhile.
            PlanLock.acquire(DEFAULT_DB_ALIAS)
            old = employee.shifts.get()
            new = first_free_shift(DEFAULT_DB_ALIAS, but_not=old) or open_new_shift(
                DEFAULT_DB_ALIAS
            )
            self.say(
                f"{name(employee)} leaves {name(old)} and joins {name(new)}, in one transaction:"
                " both events or none."
            )
            old.employees_shift.remove(employee)
            new.employees_shift.add(employee)
        for shift in (old, new):
            self.result(f"{name(shift)}: {summary(self.latest(shift))}")

    def update_many(self) -> None:
        self.heading("Many rows in one statement")
        self.say(
            f"{self.payroll} raises the bonus of this story's shifts by 5.00 with"
            " QuerySet.update() and an F() expression. Django sends no signal for that; the"
            " trail has every row, with the amounts and not the formula."
        )
        keys = set(
            Shifts.objects.filter(employees_shift__in=self.employees).values_list("pk", flat=True)
        )
        shifts = Shifts.objects.filter(pk__in=keys).order_by("shift_date")
        changed = shifts.update(wage_bonus=F("wage_bonus") + Decimal("5.00"))
        self.expect(changed == len(keys), f"QuerySet.update() changed {changed} of {len(keys)}")
        for shift in shifts:
            self.result(f"{name(shift)}: {summary(self.latest(shift))}")

    def delete(self) -> None:
        self.heading("A delete keeps the last values")
        employee = self.employees.pop(1)
        shift = employee.shifts.get()
        self.say(f"{name(employee)} leaves the company; a place in {name(shift)} is free again.")
        key = str(employee.pk)
        employee.delete()
        gone = AuditRecord.objects.filter(object_type="speedy.employees", object_id=key)
        self.result(summary(gone.last()))

    def wipe_expired(self) -> None:
        self.heading("An expired shift is wiped")
        yesterday = timezone.localdate() - dt.timedelta(days=1)
        self.say(
            f"A shift dated {yesterday} is still in the plan. It goes just before the next new"
            " employee is saved."
        )
        expired = Shifts.objects.create(shift_date=yesterday)
        employee = self.create_employee()
        left = Shifts.objects.filter(pk=expired.pk).exists()
        self.expect(not left, f"{name(expired)} was not wiped")
        self.result(f"{name(employee)} joins {name(employee.shifts.get())}.")

    def open_page(self) -> None:
        self.heading("The application says something itself")
        self.say(
            f"{self.planner} logs in and opens /test_logging/. The view creates an employee and"
            " sends event_signal, which also goes to log_event.log."
        )
        self.get("/test_logging/", HTTPStatus.OK)

    def fail_on_page(self) -> None:
        self.heading("A failure is worth recording")
        self.say("The same page with ?age=age: nobody is created, and the attempt is known.")
        before = Employees.objects.count()
        with without_request_log():
            self.get("/test_logging/?age=age", HTTPStatus.BAD_REQUEST)
        self.expect(Employees.objects.count() == before, "the failing page created an employee")

    def get(self, path: str, expected: HTTPStatus) -> None:
        hosts = [host.lstrip(".") for host in settings.ALLOWED_HOSTS if host != "*"]
        client = Client(headers={"host": hosts[0] if hosts else "localhost"})
        client.force_login(self.planner)
        response = client.get(path)
        self.expect(
            response.status_code == expected,
            f"{path} answered {response.status_code} instead of {expected.value}",
        )
        if response.headers["Content-Type"] == "application/json":
            self.result(f"{response.status_code}: {response.json()['message']}")

    def roll_back(self) -> None:
        self.heading("What was rolled back never happened")
        employee = self.employees[0]
        self.say(
            f"{self.planner} makes {name(employee)} 99 years old inside a transaction, and thinks"
            " better of it."
        )
        history = AuditRecord.objects.get_for_object(employee)
        before = history.count()
        with contextlib.suppress(ChangeOfMindError), transaction.atomic():
            employee.age = 99
            employee.save()
            inside = history.count() - before
            raise ChangeOfMindError
        left = history.count() - before
        employee.refresh_from_db()
        self.expect(inside == 1, f"inside the transaction the trail had {inside} new events")
        self.expect(left == 0, f"the rolled-back change left {left} events")
        self.result(
            f"Inside the transaction the trail had {inside} new event; now {left}, and the age is"
            f" {employee.age}."
        )

    def trail(self) -> QuerySet[AuditRecord]:
        """The events of this run, in order."""
        return AuditRecord.objects.between(self.started, self.ended)

    def latest(self, instance: Employees | Shifts) -> AuditRecord | None:
        return AuditRecord.objects.get_for_object(instance).last()

    def show_trail(self) -> None:
        self.heading("The trail of this run")
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for column in ("time", "event", "object"):
            table.add_column(column, no_wrap=True)
        for column in ("changes, or message", "actor", "where it went"):
            table.add_column(column, overflow="fold")
        records = list(self.trail())
        whereabouts = self.proof.whereabouts(records)
        for record in records:
            kind = (record.object_type or "").rpartition(".")[2]
            row = (
                f"{timezone.localtime(record.timestamp):%H:%M:%S}",
                record.event,
                f"{kind} {record.object_id}" if kind else "",
                summary(record),
                record.actor_label or record.actor_type or "",
                whereabouts[str(record.pk)],
            )
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)

    def export(self) -> None:
        self.heading("The trail leaves the database by command, and is the same everywhere")
        since = self.started.isoformat()
        until = self.ended.isoformat()
        self.say(f"manage.py audit_export --output {self.export_file.name} --overwrite \\")
        self.say(f"    --since {since} --until {until}")
        call_command(
            "audit_export",
            since=since,
            until=until,
            output=str(self.export_file),
            overwrite=True,
            stdout=io.StringIO(),
            stderr=io.StringIO(),
        )

    def check(self) -> list[str]:
        counts, problems = self.proof.compare(self.trail())
        for place, count in counts.items():
            self.result(f"{count} events in {place}")
        problems = self.problems + problems
        if not problems:
            self.say(
                "The same events in the database, the file and the export, each valid against the"
                " package's JSON Schema; log_event.log has those that the code sent itself.",
                style="bold green",
            )
            self.say(f"The files are in {self.data_dir}")
        return problems


def name(thing: Employees | Shifts) -> str:
    if isinstance(thing, Shifts):
        return f"the shift of {thing.shift_date}"
    return f"{thing.first_name} {thing.last_name}"


def summary(record: AuditRecord | None) -> str:
    """What an event says, in one line."""
    if record is None:
        return "(no event)"
    if not record.changes:
        return record.message
    # Of a new row only the new values say something, of a deleted one only the old.
    side = {"model.create": 1, "model.delete": 0}.get(record.event)
    return ", ".join(
        f"{field} {change_text(change, side)}"
        for field, change in record.changes.items()
        if field != "id"
    )


def change_text(change: Any, side: int | None) -> str:
    if isinstance(change, dict):
        signed = (("+", change["added"]), ("-", change["removed"]))
        return " ".join(f"{sign}{key}" for sign, keys in signed for key in keys)
    return f"{change[0]} -> {change[1]}" if side is None else str(change[side])


@contextlib.contextmanager
def without_request_log() -> Iterator[None]:
    """Keep Django's own line about a status 400 out of the story."""
    logger = logging.getLogger("django.request")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
