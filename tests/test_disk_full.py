"""A full disk: each policy is obeyed, what was acknowledged is there, and room resumes it all."""

from __future__ import annotations

import orjson
import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections, transaction
from django.test import override_settings

from django_signal_audit import event_signal
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import DatabaseSink, FileSink, counters
from django_signal_audit.sinks import spool as spool_module
from django_signal_audit.sinks.spool import Spool
from tests.databases import shared_database
from tests.disks import fill, small_disk
from tests.testapp.models import Author

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

FILLER = "x" * 3000


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=512) as path:
        yield path


def messages(path):
    content = path.read_bytes()
    assert content.endswith(b"\n")
    return [orjson.loads(line)["message"] for line in content.splitlines()]


def send(number):
    with transaction.atomic():
        Author.objects.create(name=f"{number}")
        event_signal.send("x", message=f"{number}", filler=FILLER)


def test_sinks_after_commit_on_a_full_disk(disk, tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "FIRST_PAUSE", 0)
    setting = {
        "STATE_DIR": tmp_path / "state",
        "SINKS": {
            "default": {"BACKEND": DatabaseSink},
            "kept": {
                "BACKEND": FileSink,
                "OPTIONS": {"path": disk / "kept.jsonl", "rotate_bytes": 50_000},
                "EVENTS": ["event"],
                "ON_ERROR": "spool",
            },
            "lossy": {
                "BACKEND": FileSink,
                "OPTIONS": {"path": disk / "lossy.jsonl", "fsync": "commit"},
                "EVENTS": ["event"],
            },
        },
    }
    with override_settings(SIGNAL_AUDIT=setting):
        for number in range(20):
            send(number)
        filler = fill(disk)
        for number in range(20, 40):
            send(number)
        spooled = Spool(tmp_path / "state", "kept").waiting().events
        lost = counters.snapshot()["lossy"]["lost"]
        filler.unlink()
        for number in range(40, 50):
            send(number)
        call_command("audit_spool", flush=True, verbosity=0)

    assert Author.objects.count() == 50, "no change failed because of a sink after COMMIT"
    assert AuditRecord.objects.filter(event="event").count() == 50
    kept = [m for path in sorted(disk.glob("kept.jsonl.*")) for m in messages(path)]
    kept += messages(disk / "kept.jsonl")
    assert kept == [str(number) for number in range(50)], "all, in order, once"
    assert spooled > 10
    assert lost > 10
    lossy = messages(disk / "lossy.jsonl")
    assert len(lossy) == 50 - lost
    assert lossy[-10:] == [str(number) for number in range(40, 50)]


def test_a_database_on_a_full_disk(disk):
    if connections["other"].vendor != "sqlite":
        pytest.skip("the disk of a server is its own")
    with (
        override_settings(SIGNAL_AUDIT={"SINKS": {"default": {"BACKEND": DatabaseSink}}}),
        shared_database(disk),
    ):
        written = 0

        def write():
            nonlocal written
            with transaction.atomic(using="other"):
                Author.objects.using("other").create(name=FILLER[:100])
                event_signal.send("x", using="other", filler=FILLER)
            written += 1

        for _ in range(5):
            write()
        filler = fill(disk, spare=20_000)
        failures = 0
        while failures < 5:
            try:
                write()
            except DatabaseError:
                failures += 1
        agree(written)
        filler.unlink()
        for _ in range(5):
            write()
        agree(written)


def agree(written):
    assert Author.objects.using("other").count() == written
    records = AuditRecord.objects.using("other")
    assert records.filter(event="model.create").count() == written
    ids = [record.data["filler"] for record in records.filter(event="event", rolled_back=False)]
    assert len(ids) == written
