"""The export as CSV: columns that stay, rows that read back."""

from __future__ import annotations

import csv
import io
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_signal_audit.event import Actor, AuditEvent, Outcome, format_timestamp
from django_signal_audit.exports import csv as export
from django_signal_audit.exports.csv import CHANGE_COLUMNS, COLUMNS, Exporter, read_text
from django_signal_audit.ids import uuid7
from tests.exports.test_cells import JSON, NASTY, TEXT, runs
from tests.factories import make_event

ANY_TEXT = TEXT | NASTY
REAL_TEXT = ANY_TEXT.filter(bool)  # a cell cannot tell an empty text from none
ACTORS = st.none() | st.builds(Actor, REAL_TEXT, st.none() | REAL_TEXT, ANY_TEXT)
OBJECTS = st.dictionaries(ANY_TEXT, JSON, max_size=3)
CHANGES = st.dictionaries(
    ANY_TEXT,
    st.lists(JSON, min_size=2, max_size=2)
    | st.fixed_dictionaries({"added": st.lists(JSON), "removed": st.lists(JSON)}),
    max_size=3,
)
EVENTS = st.builds(
    lambda timestamp, values: AuditEvent(id=uuid7(timestamp), timestamp=timestamp, **values),
    st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.fixed_dictionaries(
        {
            "event": REAL_TEXT,
            "level": st.sampled_from(["info", "error"]),
            "outcome": st.sampled_from(Outcome),
            "sender": ANY_TEXT,
            "message": ANY_TEXT,
            "object_type": st.none() | REAL_TEXT,
            "object_id": st.none() | REAL_TEXT,
            "object_repr": ANY_TEXT,
            "changes": st.none() | CHANGES,
            "actor": ACTORS,
            "on_behalf_of": ACTORS,
            "reason": st.none() | REAL_TEXT,
            "cause": st.none() | st.uuids(),
            "duration_ms": st.none() | st.floats(0, 1e9),
            "error": st.none() | st.fixed_dictionaries({"type": REAL_TEXT, "message": ANY_TEXT}),
            "context": OBJECTS,
            "data": OBJECTS,
            "database": st.none() | REAL_TEXT,
            "transaction": st.none() | st.uuids(),
            "rolled_back": st.booleans(),
        }
    ),
)


def written(*events, **options):
    exporter = Exporter(**options)
    return exporter.head() + b"".join(exporter.rows(event) for event in events)


def table(*events, **options):
    text = written(*events, **options).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def part(row, prefix, *names):
    """A flattened field, put together again."""
    if not row[f"{prefix}_type"]:
        return None
    values = {name: read_text(row[f"{prefix}_{name}"]) for name in names}
    return values | {"id": values["id"] or None} if "id" in values else values


def to_dict(row):
    """What ``AuditEvent.to_dict()`` was, from the cells alone."""
    text = {name: read_text(row[name]) for name in COLUMNS if name in row}
    optional = ("object_type", "object_id", "reason", "cause", "database", "transaction")
    plain = ("id", "timestamp", "event", "level", "outcome", "sender", "message", "object_repr")
    loaded = ("context", "data", "rolled_back", "schema_version")
    return {
        **{name: text[name] for name in plain},
        **{name: text[name] or None for name in optional},
        **{name: json.loads(row[name]) for name in loaded},
        **{name: json.loads(row[name] or "null") for name in ("changes", "duration_ms")},
        **{name: part(row, name, "type", "id", "label") for name in ("actor", "on_behalf_of")},
        "error": part(row, "error", "type", "message"),
    }


@given(EVENTS)
def test_any_event_reads_back_the_same(event):
    [row] = table(event)

    assert to_dict(row) == event.to_dict()


@given(EVENTS)
def test_any_event_reads_back_the_same_from_its_fields(event):
    rows = table(event, per_field=True)
    whole = to_dict(rows[0])
    for row in rows[1:]:
        one = to_dict(row)
        whole["changes"] |= one.pop("changes")
        assert one == {name: value for name, value in whole.items() if name != "changes"}

    assert whole == event.to_dict()
    assert [read_text(row["field"]) for row in rows] == list(event.changes or [""])


@given(EVENTS)
def test_no_cell_is_run(event):
    for row in table(event, per_field=True):
        for name, cell in row.items():
            number = name in {"old", "new"} and cell[:1] == "-" and float(cell) is not None
            assert number or not runs(cell)


@given(st.lists(EVENTS, max_size=3))
def test_each_row_is_one_line_ended_as_rfc_4180_says(events):
    text = written(*events).decode()

    assert len(text.splitlines()) == len(events) + 1
    assert text.count("\r\n") == text.count("\n") == text.count("\r") == len(events) + 1


def test_the_columns_are_these_and_stay_these():
    """Others rely on them: with a new one the schema version changes."""
    assert ",".join(COLUMNS + CHANGE_COLUMNS) == (
        "id,timestamp,event,level,outcome,sender,message,object_type,object_id,object_repr,"
        "changes,actor_type,actor_id,actor_label,on_behalf_of_type,on_behalf_of_id,"
        "on_behalf_of_label,reason,cause,duration_ms,error_type,error_message,context,data,"
        "database,transaction,rolled_back,schema_version,field,old,new"
    )


def test_the_reference_lists_the_columns_in_their_order():
    page = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
    section = page.read_text(encoding="utf-8").partition("### CSV")[2].partition("\n### ")[0]
    listed = [
        name.strip("` ")
        for line in section.splitlines()
        if line.startswith("| `")
        for name in line.split("|")[1].split(",")
    ]

    assert tuple(listed) == COLUMNS + CHANGE_COLUMNS


@pytest.mark.parametrize("per_field", [False, True])
def test_the_head_names_the_columns_whatever_follows(per_field):
    names = COLUMNS + CHANGE_COLUMNS if per_field else COLUMNS

    assert Exporter(per_field=per_field).head().decode() == ",".join(names) + "\r\n"


def test_a_whole_event_stands_as():
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
    event = make_event(
        timestamp=moment,
        message='said "no", twice',
        changes={"age": [30, 31]},
        actor=Actor("user", "7", "=zoe"),
        reason="asked\nby mail",
        cause=uuid.UUID(int=1),
        duration_ms=0.5,
        error={"type": "ValueError", "message": "-1"},
        context={"ip": "::1"},
        database="default",
        rolled_back=True,
    )

    assert written(event).decode().split("\r\n")[1] == (
        f"{event.id},{format_timestamp(moment)},test.logging,info,success,View: test_logging,"
        '"said ""no"", twice",speedy.employees,72,Employees object (72),"{""age"":[30,31]}",'
        "user,7,'=zoe,,,,asked\\nby mail,00000000-0000-0000-0000-000000000001,0.5,ValueError,"
        '\'-1,"{""ip"":""::1""}",{},default,,true,1'
    )


def test_per_field_gives_one_row_for_each_changed_field():
    event = make_event(
        changes={
            "price": ["9.50", "-1.00"],
            "title": [None, "=x"],
            "tags": {"added": [3], "removed": []},
            "pages": [7, [1]],
        }
    )

    rows = table(event, per_field=True)

    assert [tuple(row[name] for name in ("changes", *CHANGE_COLUMNS)) for row in rows] == [
        ('{"price":["9.50","-1.00"]}', "price", "9.50", "-1.00"),
        ('{"title":[null,"=x"]}', "title", "", "'=x"),
        ('{"tags":{"added":[3],"removed":[]}}', "tags", "[]", "[3]"),
        ('{"pages":[7,[1]]}', "pages", "7", "[1]"),
    ]
    assert {row["id"] for row in rows} == {str(event.id)}


@pytest.mark.parametrize(("changes", "cell"), [(None, ""), ({}, "{}")])
def test_per_field_gives_one_row_to_an_event_without_changes(changes, cell):
    [row] = table(make_event(changes=changes), per_field=True)

    assert [row[name] for name in ("changes", *CHANGE_COLUMNS)] == [cell, "", "", ""]


def test_a_byte_order_mark_comes_first_if_asked_for():
    event = make_event()

    assert written(event, bom=True) == b"\xef\xbb\xbf" + written(event)


@pytest.mark.parametrize("changes", [{"a": [1]}, {"a": {"added": []}}, {"a": 5}])
def test_changes_of_another_shape_are_an_error(changes):
    with pytest.raises((LookupError, TypeError, ValueError)):
        Exporter(per_field=True).rows(make_event(changes=changes))


def test_text_that_is_no_unicode_is_an_error():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        Exporter().rows(make_event(message="\ud800"))


# What does not fit into a spreadsheet


def warnings_of(*events, **options):
    exporter = Exporter(**options)
    for event in events:
        exporter.rows(event)
    return exporter.warnings()


def test_what_fits_is_not_warned_of():
    assert warnings_of(make_event(message="x" * 32_767)) == []


@pytest.mark.parametrize("text", ["x" * 32_768, "🎉" * 16_384])
def test_cells_that_excel_cuts_are_warned_of_and_kept_whole(text):
    event = make_event(message=text)
    advice = (
        " of more than 32,767 characters, which Excel cuts. The file holds the whole; read it "
        "with another program."
    )

    assert table(event)[0]["message"] == text
    assert warnings_of(event) == [f"1 row has a cell{advice}"]
    assert warnings_of(event, event, make_event()) == [f"2 rows have cells{advice}"]


def test_more_rows_than_a_spreadsheet_shows_are_warned_of(monkeypatch):
    monkeypatch.setattr(export, "_MOST_ROWS", 3)
    event = make_event(changes={"a": [1, 2], "b": [1, 2]})

    assert warnings_of(event, event) == []
    assert warnings_of(event, per_field=True) == []
    assert warnings_of(event, event, per_field=True) == [
        (
            "the file has 5 rows. Excel and LibreOffice show the first 3; export shorter spans of "
            "time with --since and --until."
        )
    ]
