"""``manage.py audit_export --format``: which format is written, and what is refused."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from django_signal_audit.event import Actor
from django_signal_audit.exports import BaseExporter, option
from django_signal_audit.exports import csv as csv_export
from django_signal_audit.management.commands.audit_export import Command
from tests.factories import make_event
from tests.management.exporting import Terminal, error, export, lines, names, peak_of_export, start
from tests.management.trails import NOON, store, write_lines

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def table(events, **options):
    exporter = csv_export.Exporter(**options)
    return exporter.head() + b"".join(exporter.rows(event) for event in events)


@pytest.mark.usefixtures("events")
class TestWhichFormat:
    def test_csv_goes_to_stdout_if_asked_for(self, events):
        out, err = export(format="csv")

        assert out.encode() == table(events)
        assert err == "Exported 3 events.\n"

    @pytest.mark.parametrize("name", ["trail.csv", "TRAIL.CSV", "trail.2026.csv"])
    @pytest.mark.parametrize("said", [None, "csv"])
    def test_a_file_whose_name_ends_in_csv_is_csv(self, events, tmp_path, name, said):
        path = tmp_path / name

        out, _ = export(output=path, format=said)

        assert path.read_bytes() == table(events)
        assert out == f"Exported 3 events to {path}.\n"
        assert names(tmp_path) == [name]

    @pytest.mark.parametrize("name", ["trail", "trail.txt", "trail.json", "trail.ndjson", ".csv"])
    @pytest.mark.parametrize("said", [None, "jsonl"])
    def test_any_other_is_json_lines(self, events, tmp_path, name, said):
        path = tmp_path / name

        export(output=path, format=said)

        assert path.read_bytes() == lines(events)

    def test_a_name_that_says_nothing_takes_any_format(self, events, tmp_path):
        path = tmp_path / "trail.txt"

        export(output=path, format="csv")

        assert path.read_bytes() == table(events)

    @pytest.mark.parametrize(
        ("said", "name", "other", "ending"),
        [
            ("jsonl", "trail.csv", "csv", ".jsonl"),
            ("csv", "trail.jsonl", "jsonl", ".csv"),
            ("csv", "trail.json", "jsonl", ".csv"),
        ],
    )
    def test_a_name_that_says_another_is_refused(self, tmp_path, said, name, other, ending):
        path = tmp_path / name

        assert error(output=path, format=said) == (
            f"--format {said} contradicts --output {path}, which is the name of a {other} file. "
            f"Leave out --format, or end the name in {ending}."
        )
        assert names(tmp_path) == []

    @pytest.mark.parametrize(
        ("said", "advice"),
        [
            ("cvs", "Did you mean 'csv'?"),
            ("CSV", "Did you mean 'csv'?"),
            ("json", "Did you mean 'jsonl'?"),
            ("xlsx", "Choose one of 'csv', 'jsonl'."),
            ("", "Choose one of 'csv', 'jsonl'."),
        ],
    )
    def test_an_unknown_format_is_refused_with_the_nearest_name(self, said, advice):
        assert error(format=said) == f"There is no format {said!r}. {advice}"


@pytest.mark.usefixtures("events")
class TestOptionsOfFormats:
    def test_bom_and_per_field_are_those_of_csv(self, tmp_path):
        event = make_event(timestamp=NOON, changes={"a": [1, 2], "b": [3, 4]}, event="x.y")
        store([event])
        path = tmp_path / "trail.csv"

        export(output=path, per_field=True, bom=True, event="x.y")

        assert path.read_bytes() == table([event], per_field=True, bom=True)
        with path.open(encoding="utf-8-sig", newline="") as file:
            assert [row["new"] for row in csv.DictReader(file)] == ["2", "4"]

    @pytest.mark.parametrize("name", ["bom", "per_field"])
    @pytest.mark.parametrize("said", [None, "jsonl"])
    def test_json_lines_have_neither(self, name, said):
        flag = f"--{name.replace('_', '-')}"

        assert error(format=said, **{name: True}) == (
            f"{flag} belongs to --format csv, not to jsonl. Add --format csv, or leave out {flag}."
        )

    def test_each_is_explained_with_the_formats_that_have_it(self, monkeypatch):
        class Other(BaseExporter):
            title = "Other"
            suffixes = (".other",)
            bom: bool = option("another explanation")

        known = {"csv": csv_export.Exporter, "other": dataclass(Other)}
        monkeypatch.setattr("django_signal_audit.management.export_format.exporters", lambda: known)

        text = " ".join(Command().create_parser("manage.py", "audit_export").format_help().split())

        assert "--per-field With csv: one row for each changed field" in text
        assert "--bom With csv or other: begin with a byte order mark" in text


# What holds for JSON Lines holds for CSV


def test_a_reader_gets_what_people_wrote_and_a_spreadsheet_runs_nothing():
    store([make_event(actor=Actor("user", "1", "=1+1"), message="-2\n@x", object_id="007")])

    [row] = csv.DictReader(io.StringIO(export(format="csv")[0], newline=""))

    assert (row["actor_label"], row["message"], row["object_id"]) == ("'=1+1", "'-2\\n@x", "007")


def test_a_refused_empty_export_leaves_stdout_empty():
    out = io.StringIO()

    with pytest.raises(CommandError, match="holds no audit events"):
        call_command("audit_export", format="csv", stdout=out)

    assert out.getvalue() == ""


def test_an_empty_export_that_is_allowed_has_the_head_only(tmp_path):
    path = tmp_path / "trail.csv"

    export(output=path, allow_empty=True)

    assert path.read_bytes() == csv_export.Exporter().head()
    assert export(format="csv", allow_empty=True)[0].encode() == csv_export.Exporter().head()


def test_an_existing_file_is_refused(events, tmp_path):
    path = tmp_path / "trail.csv"
    path.write_text("before")

    assert "exists" in error(output=path)
    assert path.read_text() == "before"


def test_an_event_that_cannot_be_written_is_named_and_leaves_no_file(tmp_path):
    event = make_event(changes={"age": [30]})
    store([event])

    message = error(output=tmp_path / "trail.csv", per_field=True)

    assert message.startswith(f"Event {event.id} cannot be exported: ValueError(")
    assert names(tmp_path) == []


def test_what_does_not_fit_a_spreadsheet_is_warned_of(tmp_path):
    store([make_event(message="x" * 40_000)])

    out, err = export(output=tmp_path / "trail.csv", verbosity=0)

    assert out == ""
    assert err == (
        "Warning: 1 row has a cell of more than 32,767 characters, which Excel cuts. The file "
        "holds the whole; read it with another program.\n"
    )


def test_on_a_terminal_nothing_acts(events):
    store([make_event(message="\x1b[2J\u202e", timestamp=NOON + timedelta(days=1))])
    out = Terminal()

    call_command("audit_export", format="csv", stdout=out, stderr=io.StringIO())

    assert "\x1b" not in out.getvalue()
    assert "\\u001b[2J\\u202e" in out.getvalue()


def test_as_a_program_it_writes_utf_8_with_the_line_ends_of_rfc_4180(tmp_path):
    event = make_event(message="日本")
    path = write_lines(tmp_path / "audit.jsonl", [event])

    with start(path, "--format", "csv", "--bom", "--event", "test.*") as program:
        out, err = program.communicate()

    assert (out, program.returncode) == (table([event], bom=True), 0), err


def test_a_reader_that_leaves_ends_it_quietly(tmp_path):
    path = write_lines(tmp_path / "audit.jsonl", [make_event() for _ in range(5000)])

    with start(path, "--format", "csv") as program:
        program.stdout.readline()
        program.stdout.close()
        err = program.stderr.read().decode()

    assert program.returncode == 141
    assert err.count("\n") == 1, err  # which file is read


def test_three_times_the_events_take_no_more_memory(tmp_path):
    path = tmp_path / "out.csv"
    export_once = peak_of_export(1_000, path)

    assert peak_of_export(2_000, path) < export_once * 1.2
