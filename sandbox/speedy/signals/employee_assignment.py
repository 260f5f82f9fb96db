"""New employees find their shift, and shifts of the past disappear."""

import datetime as dt
import logging
from typing import Any

from django.db import transaction
from django.db.models import Count, Max
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver
from django.utils import timezone

from speedy.models import Employees, PlanLock, Shifts

logger = logging.getLogger(__name__)

EMPLOYEES_PER_SHIFT = 3


def first_free_shift(using: str, but_not: Shifts | None = None) -> Shifts | None:
    """The first shift, by date, that has room for one more."""
    free = (
        Shifts.objects.using(using)
        .annotate(taken=Count("employees_shift"))
        .filter(taken__lt=EMPLOYEES_PER_SHIFT)
        .order_by("shift_date", "pk")
    )
    return (free.exclude(pk=but_not.pk) if but_not else free).first()


def open_new_shift(using: str) -> Shifts:
    """A shift for the day after the latest one, or for today when there is none."""
    latest = Shifts.objects.using(using).aggregate(latest=Max("shift_date"))["latest"]
    if latest is None:
        return Shifts.objects.using(using).create()
    return Shifts.objects.using(using).create(shift_date=latest + dt.timedelta(days=1))


@receiver(pre_save, sender=Employees, dispatch_uid="speedy.wipe_expired_shifts")
def wipe_expired_shifts(using: str, raw: bool = False, **kwargs: Any) -> None:
    """Delete the shifts dated before today."""
    expired = Shifts.objects.using(using).filter(shift_date__lt=timezone.localdate())
    if raw or not expired.exists():
        return
    with transaction.atomic(using=using):
        # The lock first, as everywhere: two transactions that took it and the shifts in
        # different order would wait for each other.
        PlanLock.acquire(using)
        expired.delete()


@receiver(post_save, sender=Employees, dispatch_uid="speedy.employee_created")
def employee_created(
    instance: Employees, created: bool, using: str, raw: bool = False, **kwargs: Any
) -> None:
    """Give a new employee the first free place, in a new shift if all are full."""
    if not created or raw:
        return
    with transaction.atomic(using=using):
        PlanLock.acquire(using)
        shift = first_free_shift(using) or open_new_shift(using)
        shift.employees_shift.add(instance)


def my_custom_function(instance: Employees, created: bool, **kwargs: Any) -> None:
    """Mention the save at DEBUG level; here to show the other way of connecting."""
    logger.debug("%s was %s", instance, "created" if created else "updated")


post_save.connect(my_custom_function, sender=Employees, dispatch_uid="speedy.my_custom_function")
