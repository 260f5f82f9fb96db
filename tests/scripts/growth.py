"""Writes so many rows of an audited model, and prints the peak of memory that took."""

from __future__ import annotations

import json
import sys
import tracemalloc
from contextlib import nullcontext

from common import set_up


def write(model, name, objs):
    from django.db.models import F  # noqa: PLC0415 - needs settings

    if name == "update":
        return model.objects.update(number=F("number") + 1)
    if name == "delete":
        return model.objects.all().delete()[0]
    keywords = {"ignore_conflicts": True} if name == "conflicts" else {}
    return len(model.objects.bulk_create(objs, batch_size=500, **keywords))


def main(name, count, *, audit):
    set_up()
    from django.db import connection  # noqa: PLC0415 - needs settings

    from django_signal_audit.context import suspend_audit  # noqa: PLC0415
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415
    from tests.testapp.models import Chapter, Seat  # noqa: PLC0415

    with connection.schema_editor() as editor:
        editor.create_model(Seat)
    model, objs = Seat, []
    with suspend_audit(), connection.constraint_checks_disabled():
        if name in {"update", "delete"}:
            model = Chapter
            for start in range(0, count, 1000):
                numbers = range(start, start + 1000)
                Chapter.objects.bulk_create(Chapter(book_id=1, number=n) for n in numbers)
        else:
            objs = [Seat(row=1, number=n) for n in range(count)]
    with connection.constraint_checks_disabled(), nullcontext() if audit else suspend_audit():
        tracemalloc.start()
        written = write(model, name, objs)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    recorded = AuditRecord.objects.count()
    sys.stdout.write(json.dumps({"peak": peak, "written": written, "recorded": recorded}))


main(sys.argv[1], int(sys.argv[2]), audit=sys.argv[3] == "audit")
