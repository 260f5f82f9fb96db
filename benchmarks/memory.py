"""What auditing costs writes of very many rows in memory: the peak above the unaudited peak.

    python benchmarks/memory.py [--rows N] [--database URL] [--writes update delete ...]

Each write runs in a fresh process, once on a model that is excluded from auditing and once on
an audited one of the same columns. The rows are made by the database itself, so that the peak
is that of the write. The number of recorded events is shown: what records nothing is small.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

KILOBYTES = 1 if sys.platform != "darwin" else 1 / 1024
WRITES = ("update", "bulk_create", "bulk_update", "delete")


def configure(url: str) -> None:
    import django  # noqa: PLC0415 - in a fresh process only
    import environ  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415

    settings.configure(
        SECRET_KEY="bench",
        USE_TZ=True,
        DATABASES={"default": environ.Env.db_url_config(url)},
        INSTALLED_APPS=["django.contrib.contenttypes", "django_signal_audit"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()


def make_model(*, audit: bool):
    from django.core.management import call_command  # noqa: PLC0415 - after settings.configure
    from django.db import connection, models  # noqa: PLC0415

    from django_signal_audit import audited  # noqa: PLC0415

    class Item(models.Model):  # noqa: DJ008 - nobody reads it
        name = models.CharField(max_length=100)
        number = models.IntegerField(default=0)
        price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
        text = models.TextField(default="")

        class Meta:
            app_label = "contenttypes"

    if audit:
        audited(Item)
    call_command("migrate", "django_signal_audit", "zero", verbosity=0)
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        if Item._meta.db_table in connection.introspection.table_names():
            editor.delete_model(Item)
        editor.create_model(Item)
    return Item


def fill(model, rows: int) -> None:
    """Double the rows until there are enough: they never come here."""
    from django.db import connection  # noqa: PLC0415 - after settings.configure

    table = connection.ops.quote_name(model._meta.db_table)
    columns = "name, number, price, text"
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({columns}) VALUES ('a name', 1, 9.5, 'some text')")
        made = 1
        while made < rows:
            more = min(made, rows - made)
            cursor.execute(
                f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} LIMIT {more}"
            )
            made += more


def write(model, name: str, rows: int) -> None:
    from django.db.models import F  # noqa: PLC0415 - after settings.configure

    if name == "update":
        model.objects.update(number=F("number") + 1)
    elif name == "delete":
        model.objects.all().delete()
    elif name == "bulk_create":
        model.objects.bulk_create(
            [model(name="a name", number=n, price=1, text="some text") for n in range(rows)],
            batch_size=1000,
        )
    else:
        items = list(model.objects.all())
        for item in items:
            item.number += 1
        model.objects.bulk_update(items, ["number"], batch_size=500)


def child(name: str, rows: int, url: str, *, audit: bool) -> None:
    """Run one write and print what it took."""
    configure(url)
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - after settings.configure

    model = make_model(audit=audit)
    if name != "bulk_create":
        fill(model, rows)
    start = time.monotonic()
    write(model, name, rows)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTES / 1024
    print(json.dumps({"peak": peak, "seconds": seconds, "events": AuditRecord.objects.count()}))


def measure(name: str, rows: int, url: str, *, audit: bool) -> dict[str, float]:
    arguments = ["--child", name, "--rows", str(rows), *(["--audit"] if audit else [])]
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, "MEMORY_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", metavar="URL", help="a scratch database; SQLite if not given")
    parser.add_argument("--writes", nargs="+", choices=WRITES, default=WRITES)
    parser.add_argument("--child", choices=WRITES, help=argparse.SUPPRESS)
    parser.add_argument("--audit", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.rows, os.environ["MEMORY_URL"], audit=options.audit)
        return
    print(f"{options.rows:,} rows")
    print("write         plain MB audited MB   more     events   plain s audited s")
    for name in options.writes:
        with tempfile.TemporaryDirectory() as folder:
            url = options.database or f"sqlite:///{folder}/memory.sqlite3"
            plain = measure(name, options.rows, url, audit=False)
            audited = measure(name, options.rows, url, audit=True)
        print(
            f"{name:12} {plain['peak']:9.1f} {audited['peak']:10.1f} "
            f"{audited['peak'] - plain['peak']:6.1f} {audited['events']:10,} "
            f"{plain['seconds']:9.1f} {audited['seconds']:9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
