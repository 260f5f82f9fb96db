"""What auditing costs each kind of write: the ratio to the same write without audit.

    python benchmarks/writes.py [--url URL] [--rounds N] [--rows N] [--only WORD]

Both contenders are the same models, in two applications; one of them is audited. They take
turns, in one process and one database, so that a busy machine slows both. A turn is `--rows`
rows; times are for one row, the median of `--rounds` turns, and the ratio is the median of those of
two turns next to each other. The statements are those of a write of one row. Recorded is the
share of the events that there must be, for what records nothing is fast; if it is not all of
them, the program fails.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import django
from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

HEAD = f"{'write':47} {'statements':>10} {'plain us':>9} {'audited us':>10} {'ratio':>6} recorded"


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
        INSTALLED_APPS=["django_signal_audit", "benchmarks.plain", "benchmarks.watched"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SIGNAL_AUDIT={"MODELS": {"watched.*": {}}},
    )
    django.setup()


@contextmanager
def audited_as(kind):
    """The policy of the audited models, as long as one kind of write is measured."""
    from django.test import override_settings  # noqa: PLC0415 - after settings.configure

    said = {"MODELS": {"watched.tag": False, "watched.*": kind.policy}, **kind.settings}
    with override_settings(SIGNAL_AUDIT=said):
        yield


def empty_tables() -> None:
    from django.apps import apps  # noqa: PLC0415 - after settings.configure
    from django.db import connection, transaction  # noqa: PLC0415

    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)}
    with connection.constraint_checks_disabled(), transaction.atomic(), connection.cursor() as now:
        for table in tables:
            now.execute(f"DELETE FROM {connection.ops.quote_name(table)}")


def take_turn(kind, models, rows, *, count=False):
    """Seconds, or the number of statements, and the number of events of one turn."""
    from django.db import connection  # noqa: PLC0415 - after settings.configure
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

    from django_signal_audit import suspend_audit  # noqa: PLC0415
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415

    steps = kind.write(models, rows)
    with suspend_audit():
        next(steps)
    with CaptureQueriesContext(connection) if count else nullcontext(()) as captured:
        start = time.perf_counter()
        next(steps, None)
        seconds = time.perf_counter() - start
    events = AuditRecord.objects.count()
    with suspend_audit():
        empty_tables()
    return len(captured) if count else seconds, events


def measure(kind, rounds: int, rows: int) -> bool:
    """Print the line of one kind; returns whether all was recorded."""
    from benchmarks.plain import models as plain  # noqa: PLC0415 - after settings.configure
    from benchmarks.watched import models as watched  # noqa: PLC0415

    with audited_as(kind):
        # The turn of one row is the warm-up too.
        sent = [take_turn(kind, models, 1, count=True)[0] for models in (plain, watched)]
        seconds: dict = {plain: [], watched: []}
        recorded = 0
        for turn in range(rounds):
            for models in (plain, watched) if turn % 2 else (watched, plain):
                took, events = take_turn(kind, models, rows)
                seconds[models].append(took / rows * 1e6)
                recorded += events
    pairs = list(zip(seconds[plain], seconds[watched], strict=True))
    without, with_it = map(statistics.median, zip(*pairs, strict=True))
    ratio = statistics.median(audited / bare for bare, audited in pairs)
    wanted = kind.events(rows) * rounds
    share = f"{recorded / wanted:8.0%}" if wanted else f"{recorded or 'none':>8}"
    statements = "{} -> {}".format(*sent)
    print(
        f"{kind.title:47} {statements:>10} {without:9.1f} {with_it:10.1f} {ratio:6.2f} {share}",
        flush=True,
    )
    return recorded == wanted


def describe() -> str:
    from django.db import connection  # noqa: PLC0415 - after settings.configure

    vendor = "MariaDB" if connection.vendor == "mysql" else connection.display_name
    version = ".".join(map(str, connection.get_database_version()))
    return f"{vendor} {version}, Django {django.__version__}, Python {platform.python_version()}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", help="a scratch database of PostgreSQL or MariaDB, not SQLite")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rows", type=int, default=100, help="of a turn")
    parser.add_argument("--only", default="", metavar="WORD", help="kinds with this in the title")
    options = parser.parse_args()
    if min(options.rounds, options.rows) < 1:
        parser.error("--rounds and --rows must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        configure(options.url, folder)
        from django.core.management import call_command  # noqa: PLC0415 - after configure

        from benchmarks.kinds import KINDS  # noqa: PLC0415

        call_command("migrate", run_syncdb=True, verbosity=0)
        empty_tables()
        print(f"{describe()}; {options.rows} rows a turn, {options.rounds} rounds\n{HEAD}")
        wanted = [kind for kind in KINDS if options.only in kind.title]
        complete = [measure(kind, options.rounds, options.rows) for kind in wanted]
    return 0 if all(complete) else 1


if __name__ == "__main__":
    sys.exit(main())
