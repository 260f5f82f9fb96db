"""Two pages that change something when they are opened, as in the first version of this project.

A GET request that writes is handy in a sandbox and wrong in a real application.
"""

import datetime as dt
from http import HTTPStatus

from django.db import DataError, IntegrityError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from django_signal_audit import event_signal
from speedy.models import Employees, Shifts

SHIFTS_SHOWN = 50


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "speedy/index.html")


@require_GET
def test_signals(request: HttpRequest) -> JsonResponse:
    """Create an employee, whom the signals send to a shift, and show the shifts."""
    employee = Employees.objects.create(
        first_name="user1",
        last_name="last_user",
        address="1 Example Street",
        age=30,
        date_of_birth=dt.date(1990, 1, 1),
    )
    shifts = Shifts.objects.order_by("shift_date", "pk").prefetch_related("employees_shift")
    return JsonResponse(
        {
            "created": str(employee),
            "joined": [shift.shift_date for shift in employee.shifts.all()],
            "shifts": [
                {
                    "shift": str(shift),
                    "date": shift.shift_date,
                    "wage_bonus": shift.wage_bonus,
                    "total_hours": shift.total_hours,
                    "employees": [str(one) for one in shift.employees_shift.all()],
                }
                for shift in shifts[:SHIFTS_SHOWN]
            ],
        },
        json_dumps_params={"indent": 2},
    )


@require_GET
def test_logging(request: HttpRequest) -> JsonResponse:
    """Create an employee and say how it went; ``?age=age`` makes it fail."""
    emp_inst = None
    status = HTTPStatus.OK
    try:
        emp_inst = Employees.objects.create(
            first_name="user1",
            last_name="last_user",
            address="1 Example Street",
            age=request.GET.get("age", 30),
            date_of_birth=dt.date(1990, 1, 1),
        )
        message = f"Employees object created: {emp_inst.first_name} {emp_inst.last_name}"
    except (ValueError, OverflowError, DataError, IntegrityError) as error:
        message = str(error)
        status = HTTPStatus.BAD_REQUEST
    event_signal.send(sender="View: test_logging", message=message, instance=emp_inst)
    return JsonResponse({"message": message}, status=status, json_dumps_params={"indent": 2})
