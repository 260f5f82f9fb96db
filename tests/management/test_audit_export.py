"""``manage.py audit_export``: what comes out, what is refused, and what is left behind."""

from __future__ import annotations

import fcntl
import gzip
import io
import json
import os
import signal
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import override_settings

from django_signal_audit import exports, reader
from django_signal_audit.event import Actor
from django_signal_audit.management.commands import audit_export
from django_signal_audit.sinks import FileSink
from tests.factories import make_config, make_event
from tests.management.exporting import (
    Terminal,
    error,
    export,
    lines,
    names,
    peak_of_export,
    start,
    untraced_environment,
)
from tests.management.trails import NOON, store, write_lines
from tests.testapp.models import Author, Document

pytestmark = pytest.mark.django_db(databases=["default", "other"])

HOUR = timedelta(hours=1)


def file_sinks(**paths):
    return override_settings(
        SIGNAL_AUDIT={
            "SINKS": {
                alias: {
                    "BACKEND": "django_signal_audit.sinks.FileSink",
                    "OPTIONS": {"path": path},
                }
                for alias, path in paths.items()
            }
        }
    )


# What comes out


def test_stdout_gets_the_bytes_of_the_json_format_and_nothing_else(events):
    out, err = export()

    assert out.encode() == lines(events)
    assert err == "Exported 3 events.\n"


def test_a_file_gets_the_same_bytes_and_stdout_says_so(events, tmp_path):
    path = tmp_path / "out.jsonl"

    out, err = export(output=str(path))

    assert path.read_bytes() == lines(events)
    assert out == f"Exported 3 events to {path}.\n"
    assert err == ""
    assert names(tmp_path) == ["out.jsonl"]


def test_a_path_object_and_one_event_will_do(events, tmp_path):
    path = tmp_path / "out.jsonl"

    out, _ = export(output=path, until=NOON + HOUR)

    assert out == f"Exported 1 event to {path}.\n"


def test_verbosity_0_says_nothing(events, tmp_path):
    assert export(output=tmp_path / "out.jsonl", verbosity=0) == ("", "")


def test_what_the_package_recorded_itself_comes_out():
    author = Author.objects.create(name="Ü")

    out, _ = export(model="testapp.Author")

    assert [json.loads(line)["object_id"] for line in out.splitlines()] == [str(author.pk)]


@pytest.mark.parametrize("number", [1e300, -1e300, int(1e300), 2**64 - 1, -(2**63), 0.1])
def test_a_number_that_comes_back_from_a_database_comes_out(number):
    store([make_event(data={"n": [number]})])

    assert json.loads(export()[0])["data"] == {"n": [number]}


def test_text_that_no_json_can_hold_is_an_error_that_names_the_event():
    event = make_event(message="\ud800")

    with pytest.raises(CommandError, match=rf"^Event {event.id} cannot be exported: TypeError"):
        audit_export.to_rows(exports.exporters()["jsonl"](), event)


# Filters


@pytest.mark.parametrize(
    ("since", "found"),
    [
        ("2026-01-01", 3),
        ("2026-01-02", 0),
        ("2026-01-01T14:00", 2),  # in Berlin
        ("2026-01-01 13:00Z", 2),
        ("2026-01-01T13:00:00.000001+00:00", 1),
        (datetime(2026, 1, 1, 14, tzinfo=UTC), 1),
        (datetime(2026, 1, 1, 14), 2),  # noqa: DTZ001
        (date(2026, 1, 1), 3),
        ("1w", 0),
        ("1000w", 3),
    ],
)
def test_since_is_a_date_a_time_or_an_age(events, since, found):
    out, _ = export(since=since, allow_empty=True)

    assert out.encode() == lines(events[3 - found :])


@pytest.mark.parametrize(
    ("until", "found"),
    [("2026-01-02", 3), ("2026-01-01", 0), ("2026-01-01T13:00Z", 1), ("1s", 3)],
)
def test_until_is_left_out(events, until, found):
    out, _ = export(until=until, allow_empty=True)

    assert out.encode() == lines(events[:found])


@pytest.mark.parametrize(
    "options",
    [
        {"object": "testapp.Book:7"},
        {"object": "TESTAPP.book:7"},
        {"object": "testapp.BookProxy:7"},
        {"object": "testapp.Book:07"},
        {"model": "testapp.Book", "object": "7"},
        {"model": "testapp.Book", "object": 7},
        {"model": "testapp.Book", "object": "testapp.bookproxy:7"},
        {"model": "testapp.book", "event": "model.update"},
        {"event": ["model.update"]},
        {"event": ["none", "*.update"]},
        {"actor": "user:5"},
        {"actor": "alice"},
    ],
)
def test_filters_find_the_one_event(options):
    wanted = make_event(
        event="model.update",
        object_type="testapp.book",
        object_id="7",
        actor=Actor("user", "5", "alice"),
    )
    others = [
        make_event(object_type="testapp.book", object_id="8"),
        make_event(object_type="testapp.author", object_id="7"),
    ]
    store([wanted, *others])

    assert export(**options)[0].encode() == lines([wanted])


@pytest.mark.parametrize(
    ("model", "text", "key"),
    [
        (Document, "9E107D9D372BB6826BD81D3542A419D6", "9e107d9d-372b-b682-6bd8-1d3542a419d6"),
        ("testapp.TextKey", "a:b", "a:b"),
        ("testapp.TextKey", "auth.nothing:b", "auth.nothing:b"),
        ("testapp.TextKey", "testapp.textkey:testapp.Book:1", "testapp.Book:1"),
    ],
)
def test_a_key_is_written_as_people_write_it(model, text, key):
    label = model if isinstance(model, str) else model._meta.label
    wanted = make_event(object_type=label.lower(), object_id=key)
    store([wanted])

    assert export(model=label, object=text)[0].encode() == lines([wanted])


@pytest.mark.parametrize("options", [{"model": "gone.Thing"}, {"object": "gone.Thing:72"}])
def test_the_trail_of_a_model_that_is_no_longer_installed_comes_out(options):
    wanted = make_event(object_type="gone.thing")
    store([wanted, make_event()])

    assert export(**options)[0].encode() == lines([wanted])


# Several databases


def test_every_database_is_read_unless_told(tmp_path):
    events = [make_event(timestamp=NOON + n * HOUR) for n in range(4)]
    store(events[::2])
    store(events[1::2], "other")

    assert export()[0].encode() == lines(events)
    assert export(database="other")[0].encode() == lines(events[1::2])
    assert export(database=["other", "default", "other"])[0].encode() == lines(events)


@pytest.fixture
def _table_only_in_other(monkeypatch):
    monkeypatch.setattr(reader, "record_table_exists", lambda alias: alias == "other")


@pytest.mark.usefixtures("_table_only_in_other")
def test_a_database_without_the_table_is_left_out():
    events = [make_event()]
    store(events, "other")

    assert export()[0].encode() == lines(events)


@pytest.mark.usefixtures("_table_only_in_other")
def test_a_named_database_without_the_table_is_refused():
    assert error(database="default") == (
        "Database 'default' has no audit table. Make it with: manage.py migrate "
        "django_signal_audit --database default"
    )


def test_no_database_with_the_table_is_an_error(monkeypatch):
    monkeypatch.setattr(reader, "record_table_exists", lambda alias: False)

    assert error(allow_empty=True) == (
        "No database has the audit table. Make it with: manage.py migrate django_signal_audit"
    )


def test_a_database_that_is_away_is_an_error(monkeypatch):
    def fail(alias):
        raise OperationalError("connection refused\n")

    monkeypatch.setattr(reader, "record_table_exists", fail)

    assert error() == (
        "The trail cannot be read: Database 'default' cannot be read: connection refused"
    )


# Without a database sink


def test_without_a_database_sink_the_file_is_read(tmp_path):
    events = [make_event(timestamp=NOON + n * HOUR) for n in range(3)]
    path = write_lines(tmp_path / "audit.jsonl", events)

    with file_sinks(audit=path):
        out, err = export(since=NOON + HOUR)

    assert out.encode() == lines(events[1:])
    assert err == (
        f"No database sink is configured: reading {path} (sink 'audit').\nExported 2 events.\n"
    )


def test_events_in_several_files_come_out_once(tmp_path):
    events = [make_event() for _ in range(3)]
    first = write_lines(tmp_path / "a.jsonl", events[:2])
    second = write_lines(tmp_path / "b.jsonl", events[1:])

    with file_sinks(a=first, b=second, c=tmp_path / "none.jsonl"):
        out, err = export()

    assert out.encode() == lines(events)
    none = tmp_path / "none.jsonl"
    assert f"{none} (sink 'c') does not exist: nothing was written to it.\n" in err


@pytest.mark.parametrize(("count", "said"), [(1, "1 line"), (2, "2 lines")])
def test_damaged_lines_are_warned_of(tmp_path, count, said):
    events = [make_event()]
    path = write_lines(tmp_path / "audit.jsonl", events)
    path.write_bytes(b'{"torn\n' * count + path.read_bytes())

    with file_sinks(audit=path):
        out, err = export()

    assert out.encode() == lines(events)
    assert f"Warning: {said} of {path} could not be read and were left out.\n" in err


def test_files_that_the_sink_has_rotated_away_are_read_too(tmp_path):
    events = [make_event(timestamp=NOON + n * HOUR) for n in range(3)]
    path = tmp_path / "audit.jsonl"
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")
    for event in events:
        sink.emit([event])
    sink.close()

    with file_sinks(audit=path):
        out, err = export()

    assert out.encode() == lines(events)
    assert err == (
        f"No database sink is configured: reading {path} and 2 rotated away from it (sink "
        "'audit').\nExported 3 events.\n"
    )


def test_rotated_files_are_read_also_where_the_current_one_is_missing(tmp_path):
    events = [make_event()]
    path = tmp_path / "audit.jsonl"
    write_lines(tmp_path / "audit.jsonl.20260101T000000.000000Z", events)

    with file_sinks(audit=path):
        assert export()[0].encode() == lines(events)


# Named files


def test_named_files_are_read_instead_of_the_databases_and_the_sinks(events, tmp_path):
    old = [make_event() for _ in range(3)]
    first = write_lines(tmp_path / "audit.jsonl.2.gz", old[:1])
    first.write_bytes(gzip.compress(first.read_bytes()))
    second = write_lines(tmp_path / "audit.jsonl.1", old[1:2])
    third = write_lines(tmp_path / "audit.jsonl", old[2:])
    write_lines(tmp_path / "audit.jsonl.20260101T000000.000000Z", [make_event()])

    with file_sinks(audit=write_lines(tmp_path / "other.jsonl", [make_event()])):
        out, err = export(file=[str(first), str(second), third])

    assert out.encode() == lines(old)
    assert err == "Exported 3 events.\n"


@pytest.mark.parametrize("kind", [str, Path])
def test_one_named_file_is_read_with_the_filters(events, tmp_path, kind):
    wanted = make_event(event="test.wanted")
    path = write_lines(tmp_path / "audit.jsonl", [make_event(), wanted])

    assert export(file=kind(path), event="*.wanted")[0].encode() == lines([wanted])


def test_damage_in_a_named_file_is_warned_of(tmp_path):
    path = tmp_path / "audit.jsonl.gz"
    path.write_bytes(gzip.compress(lines([make_event()]) * 2)[:-4])

    out, err = export(file=path)

    assert len(out.splitlines()) == 1
    assert f"Warning: 1 line of {path} could not be read" in err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "--file {path} does not exist. Write the path of a file."),
        (
            "",
            (
                "--file {path} is a directory. Write the path of a file in it, and --file again "
                "for each further one."
            ),
        ),
    ],
)
def test_a_named_file_that_is_none_is_refused(tmp_path, name, message):
    good = write_lines(tmp_path / "audit.jsonl", [make_event()])
    path = tmp_path / name

    assert error(file=[str(good), str(path)]) == message.format(path=path)


def test_a_named_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "audit.jsonl", [make_event()])
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read any

    assert error(file=path) == (
        f"--file {path} cannot be read by this user. Permit it, or run as one who may."
    )


# An output that is a part of the trail


def refused(output, **options):
    said = error(output=str(output), overwrite=True, **options)
    assert said.startswith(f"{output} may not be the output: ")
    return said


def other_names(path):
    """A path, and whatever else leads to the file that it names."""
    folder = path.parent / "elsewhere"
    folder.mkdir()
    link, hard, around = folder / "link", folder / "hard", folder / "around"
    link.symlink_to(path)
    hard.hardlink_to(path)
    around.symlink_to(path.parent)
    return [path, link, hard, around / path.name, folder / ".." / path.name]


@pytest.mark.parametrize("number", range(5))
def test_a_file_that_is_read_is_no_output(tmp_path, number):
    path = write_lines(tmp_path / "audit.jsonl", [make_event()])
    before = path.read_bytes()
    output = other_names(path)[number]

    said = refused(output, file=str(path))

    assert said == (
        f"{output} may not be the output: {path} is a part of the trail, and its events would be "
        "lost. Choose another path."
    )
    assert path.read_bytes() == before


def test_what_is_written_on_the_way_to_an_output_is_no_file_that_is_read(tmp_path):
    path = write_lines(tmp_path / "audit.jsonl.part", [make_event()])

    refused(tmp_path / "audit.jsonl", file=str(path))

    assert path.read_bytes()


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("form", ["json", "text"])
def test_the_file_of_a_sink_is_no_output_whatever_is_read(events, tmp_path, number, form):
    path = write_lines(tmp_path / "audit.jsonl", [make_event()])
    sinks = {
        "a": {
            "BACKEND": "django_signal_audit.sinks.FileSink",
            "FORMAT": form,
            "OPTIONS": {"path": path},
        },
        "d": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
    }
    with override_settings(SIGNAL_AUDIT={"SINKS": sinks}):
        refused(other_names(path)[number])
        refused(path, file=str(write_lines(tmp_path / "other.jsonl", events)))


def test_the_file_of_a_sink_is_no_output_before_it_is_there_either(events, tmp_path):
    with file_sinks(a=tmp_path / "audit.jsonl", b=tmp_path / "missing" / "audit.jsonl"):
        refused(tmp_path / "audit.jsonl", database=["default"])
        refused(tmp_path / "missing" / "audit.jsonl", database=["default"])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_rotated_file_is_no_output(events, tmp_path, suffix):
    path = write_lines(tmp_path / "audit.jsonl", [make_event()])
    rotated = tmp_path / f"audit.jsonl.20260101T000000.000000Z{suffix}"
    rotated.write_bytes(path.read_bytes())
    with file_sinks(a=path):
        refused(rotated, database=["default"])


def test_no_file_of_the_state_directory_is_an_output(events, tmp_path):
    folder = tmp_path / "state"
    with override_settings(SIGNAL_AUDIT={"STATE_DIR": folder}):
        export(output=str(tmp_path / "first"))  # before there is one
        folder.mkdir()
        spool = write_lines(folder / "a.spool.jsonl", [make_event()])
        (tmp_path / "hard").hardlink_to(spool)

        refused(spool)
        refused(tmp_path / "hard")
        assert refused(folder / "new.jsonl").endswith(
            f"{folder} is the STATE_DIR, where spools are kept. Choose a path in another directory."
        )
        export(output=str(tmp_path / "out.jsonl"))


def test_where_the_sinks_are_unknown_nothing_is_replaced(tmp_path):
    path = write_lines(tmp_path / "audit.jsonl", [make_event()])
    with override_settings(SIGNAL_AUDIT={"SINKS": {"a": {"BACKEND": "no.such.Sink"}}}):
        said = error(output=str(tmp_path / "out"), file=str(path))

    assert said.startswith(f"Whether {tmp_path / 'out'} is a part of the trail is unknown: ")


def test_an_empty_name_of_a_file_is_refused():
    assert error(file=[""]) == "--file is empty. Write the path of a file."


def test_files_and_databases_exclude_each_other(tmp_path):
    path = write_lines(tmp_path / "audit.jsonl", [make_event()])

    assert error(file=path, database="default") == (
        "--file and --database exclude each other: an export is of files or of databases."
    )


def test_a_trail_of_damage_only_is_an_error_and_warned_of(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"torn\n")
    err = io.StringIO()

    with file_sinks(audit=path), pytest.raises(CommandError, match="holds no audit events"):
        call_command("audit_export", stderr=err)

    assert "Warning: 1 line" in err.getvalue()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path):
    with file_sinks(audit=tmp_path):
        message = error()

    assert message.startswith("The trail cannot be read: ")
    assert str(tmp_path) in message


def test_without_a_readable_sink_the_error_says_which_to_configure():
    sinks = {"memory": {"BACKEND": "django_signal_audit.sinks.MemorySink"}}

    with override_settings(SIGNAL_AUDIT={"SINKS": sinks}):
        assert error(allow_empty=True) == (
            "No sink keeps a trail that can be read back. In SIGNAL_AUDIT['SINKS'], configure "
            "django_signal_audit.sinks.DatabaseSink, or django_signal_audit.sinks.FileSink in "
            "the format json; or name a database that holds a trail with --database."
        )


def test_a_named_database_is_read_also_without_a_database_sink(events, tmp_path):
    with file_sinks(audit=tmp_path / "audit.jsonl"):
        assert export(database="default")[0].encode() == lines(events)


def test_a_wrong_setting_is_an_error_without_a_traceback():
    with override_settings(SIGNAL_AUDIT={"SINKS": {"a": {"BACKEND": "nowhere.Sink"}}}):
        assert "nowhere.Sink" in error(skip_checks=True)


# Nothing matches


def test_an_empty_export_is_an_error_and_leaves_nothing(events, tmp_path):
    path = tmp_path / "out.jsonl"

    message = error(output=path, actor="bob", event=["a.*", "b"])

    assert message == (
        "No audit events match --actor bob --event a.* --event b; nothing was written. Widen the "
        "filter, or allow an empty export with --allow-empty."
    )
    assert names(tmp_path) == []


def test_an_empty_trail_is_an_error():
    assert error() == (
        "The trail holds no audit events; nothing was written. Allow an empty export with "
        "--allow-empty."
    )


def test_an_empty_export_leaves_an_existing_file_alone(events, tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("before")

    error(output=path, actor="bob", overwrite=True)

    assert path.read_text() == "before"


def test_an_empty_export_is_made_if_allowed(events, tmp_path):
    path = tmp_path / "out.jsonl"

    out, _ = export(output=path, actor="bob", allow_empty=True)

    assert path.read_bytes() == b""
    assert out == f"Exported 0 events to {path}.\n"


# Wrong arguments


@pytest.mark.parametrize("allow_empty", [True, False])
@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("testapp.Bok", "Did you mean 'testapp.Book'?"),
        ("tests.Book", "Did you mean 'testapp.Book'?"),
        ("zzz.Qqqqqq", "The models are those of INSTALLED_APPS, such as 'auth.Permission'."),
    ],
)
def test_an_unknown_model_is_refused_with_the_nearest_name(model, advice, allow_empty):
    assert error(model=model, allow_empty=allow_empty) == (
        f"There is no model {model!r}, and no audit event of it; nothing was written. {advice}"
    )


@pytest.mark.parametrize("model", ["Book", "testapp.", ".Book", "testapp.models.Book"])
def test_a_label_of_the_wrong_form_is_refused(model):
    message = error(model=model)

    assert message.startswith(f"--model {model!r} names no model: write app_label.ModelName. ")
    if model != "testapp.":
        assert message.endswith("Did you mean 'testapp.Book'?")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"object": "5"},
            "--object '5' names no model. Write --object app.Model:5, or add --model app.Model.",
        ),
        (
            {"object": "Book:5"},
            (
                "--object 'Book:5' names no model. Write --object app.Model:Book:5, or add "
                "--model app.Model."
            ),
        ),
        (
            {"object": "testapp.Book:"},
            "--object 'testapp.Book:' has no key. Write it after the colon.",
        ),
        (
            {"object": "a.b.c:5"},
            "--object 'a.b.c' names no model: write app_label.ModelName.",
        ),
        (
            {"object": "testapp.Book:5", "model": "testapp.Author"},
            (
                "--object 'testapp.Book:5' is of another model than --model 'testapp.Author'. "
                "Leave out --model, or write just the key after --object."
            ),
        ),
        (
            {"since": "2026-01-02", "until": "2026-01-01"},
            (
                "--since 2026-01-02 is not before --until 2026-01-01. Write the earlier moment "
                "after --since; --until is the first moment left out."
            ),
        ),
        ({"since": "2026-01-02", "until": "2026-01-02"}, "--since 2026-01-02 is not before"),
        (
            {"database": "othr"},
            "--database 'othr' is not in DATABASES. Did you mean 'other'?",
        ),
        ({"database": ["default", "zz"]}, "--database 'zz' is not in DATABASES. Choose one of"),
        ({"actor": ""}, "--actor is empty. Write what to look for, or leave it out."),
        ({"model": ""}, "--model is empty. Write what to look for, or leave it out."),
        ({"object": ""}, "--object is empty. Write what to look for, or leave it out."),
        ({"event": ""}, "--event is empty. Write a name or a pattern such as 'model.*'."),
        ({"event": ["a", ""]}, "--event is empty. Write a name or a pattern such as 'model.*'."),
        ({"output": ""}, "--output is empty. Write the path of a file, or -."),
    ],
)
def test_a_wrong_argument_is_refused_with_what_to_write(options, message):
    assert error(**options).startswith(message)


@pytest.mark.parametrize("option", ["since", "until"])
@pytest.mark.parametrize(
    "value", ["yesterday", "2026-13-01", "", "7", "7y", "99999999999999d", "999999999w", 5, "٣d"]
)
def test_what_is_no_date_is_refused_with_what_to_write(option, value):
    message = error(**{option: value})

    assert message.startswith(f"--{option} {value!r} is no date or time. Write ")
    assert "(in the time zone Europe/Berlin)" in message
    assert "or an age such as 2h or 7d" in message


# The file


def test_an_existing_file_is_refused_without_overwrite(events, tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("before")

    message = error(output=path)

    assert message == f"{path} exists. Choose another path, or replace it with --overwrite."
    assert path.read_text() == "before"
    assert names(tmp_path) == ["out.jsonl"]


def test_an_existing_file_is_replaced_with_overwrite(events, tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("before" * 1000)

    export(output=path, overwrite=True)

    assert path.read_bytes() == lines(events)


def test_a_file_that_appears_meanwhile_is_not_replaced(events, tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    to_rows = audit_export.to_rows

    def slow(exporter, event):
        path.write_text("appeared")
        return to_rows(exporter, event)

    monkeypatch.setattr(audit_export, "to_rows", slow)

    assert "exists" in error(output=path)
    assert path.read_text() == "appeared"
    assert names(tmp_path) == ["out.jsonl"]


def test_of_a_link_the_file_it_points_to_is_replaced(events, tmp_path):
    (tmp_path / "real.jsonl").write_text("before")
    link = tmp_path / "link.jsonl"
    link.symlink_to("real.jsonl")

    export(output=link, overwrite=True)

    assert link.is_symlink()
    assert (tmp_path / "real.jsonl").read_bytes() == lines(events)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_after_a_failure_no_file_is_left(events, tmp_path, monkeypatch, failure):
    path = tmp_path / "out.jsonl"
    done = []

    def fail(exporter, event):
        assert names(tmp_path) == ["out.jsonl.part"]
        if done:
            raise failure
        done.append(event)
        return b"line\n"

    monkeypatch.setattr(audit_export, "to_rows", fail)

    with pytest.raises(failure):
        export(output=path)

    assert names(tmp_path) == []


def test_a_full_disk_is_an_error_and_leaves_no_file(events, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("django_signal_audit.management.output.os.fsync", fail)
    path = tmp_path / "out.jsonl"

    assert error(output=path) == (
        f"{path} cannot be written: No space left on device. Choose a path that this user may "
        "write to, with space on its disk."
    )
    assert names(tmp_path) == []


def test_the_file_is_not_for_everyone(events, tmp_path):
    path = tmp_path / "out.jsonl"

    export(output=path)

    assert path.stat().st_mode & 0o137 == 0


def test_a_part_that_a_killed_export_left_is_used_again(events, tmp_path):
    path = tmp_path / "out.jsonl"
    (tmp_path / "out.jsonl.part").write_bytes(b"x" * 100_000)

    export(output=path)

    assert path.read_bytes() == lines(events)


def test_a_part_that_another_export_is_writing_is_left_alone(events, tmp_path):
    part = tmp_path / "out.jsonl.part"
    part.write_text("theirs")
    with part.open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        message = error(output=tmp_path / "out.jsonl")

    assert message == (
        f"Another process is writing {part}. Wait until it is done, or choose another path."
    )
    assert part.read_text() == "theirs"


def test_a_missing_directory_is_an_error(events, tmp_path):
    path = tmp_path / "missing" / "out.jsonl"

    assert error(output=path) == (
        f"The directory {path.parent} does not exist. Make it, or choose another path."
    )


def test_a_directory_is_no_file(events, tmp_path):
    assert error(output=tmp_path, overwrite=True) == (
        f"{tmp_path} is a directory. Write the path of a file in it."
    )


def test_a_device_is_never_replaced(events, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    assert error(output=pipe, overwrite=True) == (
        f"{pipe} is no regular file, so it cannot be replaced. Write --output - and redirect "
        f"stdout: > {pipe}."
    )


def test_an_unwritable_directory_is_an_error(events, tmp_path, monkeypatch):
    def deny(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("django_signal_audit.management.output.os.open", deny)
    path = tmp_path / "out.jsonl"

    assert error(output=path).startswith(f"{path} cannot be written: Permission denied.")


def test_a_database_that_fails_midway_leaves_no_file(events, tmp_path, monkeypatch):
    def fail(*args):
        yield events[0]
        raise OperationalError("server closed the connection\n")

    monkeypatch.setattr(reader, "read_databases", fail)

    assert error(output=tmp_path / "out.jsonl") == (
        "The trail cannot be read: server closed the connection"
    )
    assert names(tmp_path) == []


# The terminal


def terminal_export(monkeypatch, tmp_path, **options):
    monkeypatch.setattr("django_signal_audit.management.progress._INTERVAL", 0)
    err = Terminal()
    call_command("audit_export", stderr=err, no_color=True, **options)
    return err.getvalue()


def test_progress_is_shown_on_a_terminal_and_taken_away(events, tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"

    shown = terminal_export(monkeypatch, tmp_path, output=path, stdout=io.StringIO())

    assert "\r\x1b[K3 events, " in shown
    assert " a second" in shown
    assert shown.endswith("\r\x1b[K")


def test_progress_does_not_disturb_lines_on_the_same_terminal(events, tmp_path, monkeypatch):
    shown = terminal_export(monkeypatch, tmp_path, stdout=Terminal())

    assert shown == "Exported 3 events.\n"


def test_verbosity_0_shows_no_progress(events, tmp_path, monkeypatch):
    assert terminal_export(monkeypatch, tmp_path, stdout=io.StringIO(), verbosity=0) == ""


def test_stdout_gets_utf_8_whatever_its_encoding():
    event = make_event(message="日本")
    store([event])
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, "latin-1")

    call_command("audit_export", stdout=out, stderr=io.StringIO())

    assert raw.getvalue() == lines([event])


def test_a_full_stdout_is_an_error(events):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    with pytest.raises(CommandError, match=r"^Stdout cannot be written: No space left on device\."):
        call_command("audit_export", stdout=Full(), stderr=io.StringIO())


# As a program


def test_as_a_program_it_exits_0_only_if_something_came_out(tmp_path):
    events = [make_event()]
    path = write_lines(tmp_path / "audit.jsonl", events)

    with start(path, "--event", "nothing", "--event", "test.*", "--actor", "x") as program:
        out, err = program.communicate()
        assert (out, program.returncode) == (b"", 1)
        assert b"CommandError: No audit events match --actor x --event nothing --event test" in err
    with start(path, "--event", "nothing", "--event", "test.*") as program:
        out, err = program.communicate()
        assert (out, program.returncode) == (lines(events), 0), err


def test_a_reader_that_leaves_ends_it_quietly(tmp_path):
    event = make_event()
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(lines([make_event()]) for _ in range(5000)) + lines([event]))

    with start(path) as program:
        program.stdout.readline()
        program.stdout.close()
        err = program.stderr.read().decode()

    assert program.returncode == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert "Exported" not in err


def test_an_interrupt_leaves_no_file(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(lines([make_event()]) for _ in range(200)) * 400)
    output = tmp_path / "out.jsonl"
    part = tmp_path / "out.jsonl.part"

    with start(path, "--output", str(output), env=untraced_environment()) as program:
        while not (part.exists() and part.stat().st_size) and program.poll() is None:
            pass
        program.send_signal(signal.SIGINT)
        program.communicate()

    assert program.returncode != 0
    assert names(tmp_path) == ["audit.jsonl"]


# Memory


def test_three_times_the_events_take_no_more_memory(tmp_path):
    path = tmp_path / "out.jsonl"
    export_once = peak_of_export(1_000, path)  # also loads what is loaded once

    assert peak_of_export(2_000, path) < export_once * 1.2


@pytest.mark.slow
def test_50_000_events_are_exported_in_constant_memory(tmp_path):
    path = tmp_path / "out.jsonl"

    peak = peak_of_export(50_000, path)

    with path.open("rb") as file:
        assert sum(1 for _ in file) == 50_000
    assert peak < 10_000_000
