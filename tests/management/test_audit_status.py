"""``manage.py audit_status``: what it shows, and when it says that something is wrong."""

from __future__ import annotations

import io
import json
import os

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connections
from django.test import override_settings

from django_signal_audit import event_signal
from django_signal_audit.sinks import DatabaseSink, FileSink, MemorySink, counters, shared_counts
from django_signal_audit.sinks.spool import Spool
from tests.databases import without_records
from tests.factories import make_event
from tests.testapp.models import Author

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class Failing(MemorySink):
    def emit(self, events):
        raise OSError("no")


@pytest.fixture
def state(tmp_path):
    yield tmp_path / "state"
    shared_counts.close()


def configured(state_dir=None, **entries):
    return override_settings(SIGNAL_AUDIT={"STATE_DIR": state_dir, "SINKS": entries})


def status(**options):
    out = io.StringIO()
    call_command("audit_status", stdout=out, **options)
    return out.getvalue()


def trouble(**options):
    """What a failing command prints, and what it fails with."""
    out = io.StringIO()
    with pytest.raises(CommandError) as failed:
        call_command("audit_status", stdout=out, **options)
    return out.getvalue(), str(failed.value)


def test_it_shows_promise_policy_and_counters_of_each_sink(state):
    with configured(
        state,
        default={"BACKEND": DatabaseSink},
        memory={"BACKEND": MemorySink, "EVENTS": ["model.*"]},
    ):
        Author.objects.create(name="a")
        event_signal.send("x")
        assert status() == (
            "sink     backend       promise        on error  emitted  written  dropped  failed  "
            "spooled  lost  slow  waiting\n"
            "default  DatabaseSink  transactional  raise           2        2        0       0  "
            "      0     0     0        0\n"
            "memory   MemorySink    at-most-once   log             1        1        0       0  "
            "      0     0     0        0\n"
            "\n"
            "Counted by all processes of this machine since the last --reset.\n"
            "Nothing is wrong.\n"
        )


def test_without_a_directory_it_says_that_it_counts_for_itself():
    with configured(memory={"BACKEND": MemorySink}):
        assert status().endswith(
            "\nCounted by this process alone. To see what all processes count, set "
            "SIGNAL_AUDIT['STATE_DIR'].\nNothing is wrong in this process.\n"
        )


def test_a_loss_is_something_wrong_until_it_is_looked_into(state):
    with configured(state, bad={"BACKEND": Failing}):
        event_signal.send("x")
        shown, problem = trouble()
        assert problem == "bad: 1 events were lost; the log says which, and why."
        assert "Nothing is wrong" not in shown

        assert status(reset=True).endswith("Nothing is wrong.\n")
        assert status().splitlines()[1].split()[4:] == ["0"] * 8


def test_what_another_process_lost_is_seen_where_there_is_a_directory(state):
    with configured(state, bad={"BACKEND": Failing}):
        event_signal.send("x")
        counters.reset()  # as in a process that starts
        assert trouble()[1] == "bad: 1 events were lost; the log says which, and why."


def test_events_that_wait_are_something_wrong(state):
    event = make_event()
    with configured(state, bad={"BACKEND": Failing, "ON_ERROR": "spool"}):
        spool = Spool(state, "bad")
        spool.append([event])
        with spool.path.open("ab") as file:
            file.write(b"torn\n")
        shown, problem = trouble()

    assert shown.splitlines()[1].split()[-1] == "1"
    assert problem == (
        f"bad: 1 events wait in its spool since 2022-11-14T13:31:12+00:00: {spool.path}.\n"
        f"bad: 1 lines in its spool are no events: {spool.path}."
    )


def test_a_line_that_is_no_event_is_something_wrong_by_itself(state):
    spool = Spool(state, "bad")
    spool.append([make_event()])

    def tear(events):
        with spool.path.open("ab") as file:
            file.write(b"torn\n")

    spool.drain(tear, seconds=0)
    with configured(state, bad={"BACKEND": MemorySink}):
        shown, problem = trouble()

    assert shown.splitlines()[1].split()[-1] == "0"
    assert problem == f"bad: 1 lines in its spool are no events: {spool.path}."


def test_a_spool_whose_sink_is_gone_is_not_forgotten(state):
    Spool(state, "gone").append([make_event()])
    with configured(state, memory={"BACKEND": MemorySink}):
        shown, problem = trouble()

    assert shown.splitlines()[2].split()[:4] == ["gone", "(not", "in", "SINKS)"]
    assert problem.endswith("gone: It is not in SINKS any more, so nothing will take what waits.")


def test_counters_of_a_sink_that_is_gone_are_still_shown(state):
    with configured(state, memory={"BACKEND": MemorySink}):
        counters.count("gone", "written", 5)
        assert status().splitlines()[2].split()[:6] == ["gone", "(not", "in", "SINKS)", "0", "5"]


def test_a_directory_that_cannot_be_written_is_found_before_it_is_needed(tmp_path):
    (tmp_path / "none").mkdir()
    state = tmp_path / "none" / "state"
    with configured(state, a={"BACKEND": MemorySink}):
        assert status()
        (tmp_path / "none").rmdir()
        assert trouble()[1] == (
            f"SIGNAL_AUDIT['STATE_DIR']: The directory {tmp_path / 'none'} does not exist. Create "
            "it, or correct the path."
        )


def test_a_directory_that_may_not_be_listed_is_not_taken_for_an_empty_one(state, monkeypatch):
    with configured(state, bad={"BACKEND": Failing}):
        event_signal.send("x")

        def refuse(path):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "scandir", refuse)
        assert trouble()[1].startswith("The counters and spools cannot be read: ")


def test_a_spool_that_cannot_be_read_hides_no_other_sink(state):
    Spool(state, "a").append([make_event()])
    Spool(state, "a").path.write_bytes(b"x" * 100)
    with configured(
        state,
        a={"BACKEND": MemorySink, "ON_ERROR": "spool"},
        b={"BACKEND": Sick},
    ):
        shown, problem = trouble()

    assert len(shown.splitlines()) == 5
    assert "a: Its spool cannot be read: " in problem
    assert problem.endswith("b: Its health cannot be told: ConnectionError: no route")


class Sick(MemorySink):
    def health(self):
        raise ConnectionError("no route\nto host")


def test_a_file_that_cannot_be_written_and_one_that_was_cut(tmp_path):
    options = {"path": str(tmp_path / "none" / "audit.jsonl")}
    with configured(file={"BACKEND": FileSink, "OPTIONS": options}):
        counters.count("file", "truncated", 2)
        assert trouble()[1] == (
            "file: Its file was cut 2 times by another program; lines that were written "
            "meanwhile may be lost.\n"
            f"file: The directory {tmp_path / 'none'} does not exist. Create it, or correct the "
            "path in the sink's OPTIONS."
        )


def test_a_database_without_its_table():
    with configured(default={"BACKEND": DatabaseSink}), without_records("default"):
        assert trouble()[1] == (
            "default: Database 'default' has no table of audit records. Run manage.py migrate "
            "--database default."
        )


def test_a_database_that_cannot_be_reached(monkeypatch):
    def refuse(*args, **kwargs):
        raise DatabaseError("no route to host\nat all")

    with configured(default={"BACKEND": DatabaseSink, "OPTIONS": {"database": "other"}}):
        monkeypatch.setattr(connections["other"], "cursor", refuse)
        assert trouble()[1] == "default: Database 'other' cannot be reached: no route to host."


def test_for_programs_it_is_one_object(state):
    with configured(state, bad={"BACKEND": Failing}):
        event_signal.send("x")
        shown, _ = trouble(json=True)

    assert json.loads(shown) == {
        "ok": False,
        "counted_by": "all processes",
        "sinks": [
            {
                "alias": "bad",
                "backend": "Failing",
                "promise": "at-most-once",
                "on_error": "log",
                "counts": {"emitted": 1, "failed": 1, "lost": 1},
                "waiting": 0,
                "problems": ["1 events were lost; the log says which, and why."],
            }
        ],
    }
    counters.reset()
    with configured(memory={"BACKEND": MemorySink}):
        found = json.loads(status(json=True))
    assert (found["ok"], found["counted_by"]) == (True, "this process")


def test_wrong_settings_are_told_of_as_everywhere():
    with configured(memory={"BACKEND": "MemorySnk"}):
        assert "Did you mean 'django_signal_audit.sinks.MemorySink'?" in trouble()[1]


def test_counters_that_cannot_be_read(state):
    state.mkdir()
    (state / "a.counters").mkdir()
    with configured(state, memory={"BACKEND": MemorySink}):
        assert trouble()[1].startswith("The counters and spools cannot be read: ")
