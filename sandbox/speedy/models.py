from decimal import Decimal

from django.db import models
from django.utils import timezone

from django_signal_audit import audited


@audited(mask_fields=["address"])
class Employees(models.Model):
    first_name = models.CharField(max_length=100)
    last_name = models.CharField(max_length=100)
    address = models.CharField(max_length=200)
    age = models.IntegerField()
    date_of_birth = models.DateField()

    class Meta:
        verbose_name = "employee"
        verbose_name_plural = "employees"

    # No __str__: the line format of log_event.log shows Django's own, "Employees object (72)".


@audited
class Shifts(models.Model):
    employees_shift = models.ManyToManyField(
        Employees, through="ShiftsEmployees", related_name="shifts"
    )
    wage_bonus = models.DecimalField(max_digits=8, decimal_places=2, default=Decimal("50.00"))
    total_hours = models.IntegerField(default=8)
    shift_date = models.DateField(default=timezone.localdate, db_index=True)

    class Meta:
        verbose_name = "shift"
        verbose_name_plural = "shifts"


class ShiftsEmployees(models.Model):
    """Who works when. Not audited by itself: the trail shows it as m2m events of the shift."""

    employee = models.ForeignKey(Employees, on_delete=models.CASCADE)
    shift = models.ForeignKey(Shifts, on_delete=models.CASCADE, db_index=False)

    class Meta:
        verbose_name = "assignment"
        # Its index serves "who works in this shift"; "which shifts has this employee" is
        # served by the one of the foreign key.
        constraints = (
            models.UniqueConstraint(
                fields=["shift", "employee"], name="speedy_employee_once_per_shift"
            ),
        )


class PlanLock(models.Model):
    """One row that whoever changes the shift plan holds until the end of the transaction.

    "At most three employees in a shift" and "the day after the latest shift" are rules about
    many rows, some of which do not exist yet, so locking shifts is not enough: two processes
    that both find every shift full would lock nothing in common and make the same new shift.
    A row of its own works on every database, in a fresh one too.
    """

    @classmethod
    def acquire(cls, using: str) -> None:
        """Wait until no other transaction holds the plan; needs an open transaction."""
        # An UPDATE locks the row at once on every database; on SQLite, where a row cannot be
        # locked, it takes the database's write lock. A migration has made the row.
        row = cls.objects.using(using).filter(pk=1)
        if not row.update(id=1):
            # Somebody has emptied the tables. Not done first: MariaDB lets two share the lock
            # of an INSERT that finds the row, and then neither can have it alone.
            cls.objects.using(using).bulk_create([cls(pk=1)], ignore_conflicts=True)
            row.update(id=1)
