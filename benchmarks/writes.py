"""What auditing costs each kind of write: the ratio to the same write without audit.

    python benchmarks/writes.py [--postgres URL] [--rounds N]

Both contenders are the same model; one is excluded from auditing. They take turns, a few
operations at a time, in one process and one database, so that a busy machine slows both.
The share of recorded rows is checked: a package that records nothing is fast.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import django
from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

TURNS = 5


def configure(url: str | None, folder: str) -> None:
    if url:
        import environ  # noqa: PLC0415 - only where a URL is given

        database = environ.Env.db_url_config(url)
    else:
        database = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(Path(folder) / "bench.sqlite3"),
            "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"},
        }
    settings.configure(
        SECRET_KEY="bench",
        USE_TZ=True,
        DATABASES={"default": database},
        INSTALLED_APPS=["django.contrib.contenttypes", "django_signal_audit"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()


def make_models():
    from django.db import models  # noqa: PLC0415 - after settings.configure

    from django_signal_audit import audited  # noqa: PLC0415

    def fields():
        return {
            "__module__": __name__,
            "Meta": type("Meta", (), {"app_label": "contenttypes"}),
            "name": models.CharField(max_length=100),
            "number": models.IntegerField(default=0),
            "price": models.DecimalField(max_digits=8, decimal_places=2, default=0),
            "day": models.DateField(null=True),
            "text": models.TextField(default=""),
        }

    plain = type("BenchPlain", (models.Model,), fields())
    watched = audited(type("BenchAudited", (models.Model,), fields()))
    return plain, watched


def prepare(*models) -> None:
    from django.core.management import call_command  # noqa: PLC0415 - after settings.configure
    from django.db import connection  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    existing = connection.introspection.table_names()
    with connection.schema_editor() as editor:
        for model in models:
            if model._meta.db_table in existing:
                editor.delete_model(model)
            editor.create_model(model)


def operations():
    from django.db import transaction  # noqa: PLC0415 - after settings.configure
    from django.db.models import F  # noqa: PLC0415

    def create(model):
        for n in range(20):
            model.objects.create(name="n", number=n)

    def update(model):
        for obj in model.objects.all()[:20]:
            obj.number += 1
            obj.save()

    def unchanged(model):
        for obj in model.objects.all()[:20]:
            obj.save()

    def creates_in_one(model):
        with transaction.atomic():
            for n in range(100):
                model.objects.create(name="n", number=n)

    def updates_in_one(model):
        with transaction.atomic():
            for obj in model.objects.all()[:100]:
                obj.number += 1
                obj.save()

    def bulk_create(model):
        model.objects.bulk_create([model(name="n", number=n) for n in range(2000)])

    def queryset_update(model):
        model.objects.update(number=F("number") + 1)

    def iterate(model):
        for _ in model.objects.iterator():
            pass

    def delete(model):
        for obj in model.objects.all()[:20]:
            obj.delete()

    def queryset_delete(model):
        model.objects.all().delete()

    return [
        ("create, autocommit", create),
        ("update one field, autocommit", update),
        ("save unchanged, autocommit", unchanged),
        ("100 creates in one transaction", creates_in_one),
        ("100 updates in one transaction", updates_in_one),
        ("bulk_create 2,000", bulk_create),
        ("QuerySet.update, all rows", queryset_update),
        ("iterate all rows", iterate),
        ("delete, autocommit", delete),
        ("QuerySet.delete, all rows", queryset_delete),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", metavar="URL", help="a scratch database")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        configure(options.postgres, folder)
        plain, watched = make_models()
        prepare(plain, watched)
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(options.rounds):
            for name, operation in operations():
                turns = 1 if "all rows" in name or "bulk" in name else TURNS
                for _turn in range(turns):
                    for label, model in (("plain", plain), ("audited", watched)):
                        start = time.perf_counter()
                        operation(model)
                        seconds.setdefault((name, label), []).append(time.perf_counter() - start)
        print(f"{'write':34} {'plain ms':>9} {'audited ms':>10} {'ratio':>6}")
        for name, _ in operations():
            without = statistics.median(seconds[name, "plain"]) * 1000
            with_it = statistics.median(seconds[name, "audited"]) * 1000
            print(f"{name:34} {without:9.1f} {with_it:10.1f} {with_it / without:6.2f}")
        check_recorded()


def check_recorded() -> None:
    from django.db.models import Count  # noqa: PLC0415 - after settings.configure

    from django_signal_audit.models import AuditRecord  # noqa: PLC0415

    counts = AuditRecord.objects.values("event").annotate(n=Count("*")).order_by("event")
    print("recorded:", ", ".join(f"{row['event']} {row['n']:,}" for row in counts))


if __name__ == "__main__":
    main()
