"""Reading a trail back: which events, in which order, from where."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection, connections
from django.test import override_settings

from django_signal_audit import reader
from django_signal_audit.event import Actor
from django_signal_audit.event_shape import event_from_dict
from django_signal_audit.exceptions import AuditError
from django_signal_audit.formats import get_formatter
from django_signal_audit.models import AuditRecord
from django_signal_audit.reader import (
    FileTrail,
    read_database,
    read_databases,
)
from django_signal_audit.trail_filter import TrailFilter
from tests.factories import make_event
from tests.management.trails import NOON, store, write_lines

HOUR = timedelta(hours=1)
USER = Actor("user", "5", "alice")


@pytest.fixture(params=["database", "file"])
def trail(request, tmp_path):
    """Reads the same events from either source, so that both must agree."""
    if request.param == "database":
        request.getfixturevalue("db")

    def read(events, **wanted):
        trail_filter = TrailFilter(**wanted)
        if request.param == "database":
            store(events)
            return list(read_database("default", trail_filter, page_size=2))
        path = write_lines(tmp_path / "audit.jsonl", events)
        return list(FileTrail([path], trail_filter))

    return read


def test_what_is_read_is_what_was_recorded(trail):
    event = make_event(
        actor=USER,
        on_behalf_of=Actor("service", None, "cron"),
        changes={"name": [None, "ü"]},
        error={"type": "E", "message": "m"},
        cause=uuid.uuid4(),
        transaction=uuid.uuid4(),
        duration_ms=1.5,
        context={"ip": "::1"},
        data={"n": 1},
        database="default",
        rolled_back=True,
        reason="why",
    )

    assert trail([event]) == [event]


def test_pages_neither_lose_nor_repeat_an_event(trail):
    events = [make_event(timestamp=NOON) for _ in range(7)]

    assert trail(events) == events


def test_since_is_included_and_until_is_left_out(trail):
    events = [make_event(timestamp=NOON + n * timedelta(microseconds=1)) for n in range(4)]

    found = trail(events, since=events[1].timestamp, until=events[3].timestamp)

    assert found == events[1:3]


def test_naive_moments_are_in_the_current_time_zone(trail):
    events = [make_event(timestamp=NOON)]  # 13:00 in Berlin

    assert trail(events, since=datetime(2026, 1, 1, 13)) == events  # noqa: DTZ001


def test_naive_until_is_in_the_current_time_zone(trail):
    assert trail([make_event(timestamp=NOON)], until=datetime(2026, 1, 1, 13)) == []  # noqa: DTZ001


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"since": datetime.min.replace(tzinfo=UTC)}, True),
        ({"since": datetime.max.replace(tzinfo=UTC)}, False),
        ({"until": datetime.min.replace(tzinfo=UTC)}, False),
        ({"until": datetime.max.replace(tzinfo=UTC)}, True),
    ],
)
def test_moments_that_no_identifier_can_have_are_no_error(trail, wanted, found):
    assert bool(trail([make_event()], **wanted)) is found


def test_an_object_is_found_by_type_in_any_case_and_exact_key(trail):
    events = [make_event(object_id=key) for key in ("7", "72", "a", "A")]
    others = [make_event(object_type="speedy.shifts", object_id="A")]

    found = trail(events + others, object_type="speedy.Employees", object_id="A")

    assert found == [events[3]]


@pytest.mark.parametrize("text", ["user:5", "5", "alice"])
def test_an_actor_is_found_by_type_and_id_by_id_and_by_label(trail, text):
    wanted = make_event(actor=USER)
    others = [
        make_event(),
        make_event(actor=Actor("service", "6", "Alice")),
        make_event(actor=Actor("anonymous")),
    ]

    assert trail([wanted, *others], actor=text) == [wanted]


def test_an_actor_without_an_id_is_found_by_its_type(trail):
    anonymous = make_event(actor=Actor("anonymous"))

    assert trail([anonymous, make_event(actor=USER)], actor="anonymous") == [anonymous]


def test_the_type_of_an_actor_with_an_id_does_not_find_it(trail):
    assert trail([make_event(actor=USER)], actor="user") == []


@pytest.mark.parametrize("text", ["arn:aws:x", "service:arn:aws:x"])
def test_an_actor_whose_id_holds_a_colon_is_found(trail, text):
    event = make_event(actor=Actor("service", "arn:aws:x", ""))

    assert trail([event], actor=text) == [event]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("model.create",), ["model.create"]),
        (("model.*",), ["model.create", "model.update"]),
        (("model.*ate", "auth.login"), ["model.create", "model.update", "auth.login"]),
        (("*.login",), ["auth.login"]),
        (("model.[cd]*",), ["model.create"]),
        (("MODEL.*",), ["MODEL.create"]),
        (("*",), ["model.create", "model.update", "auth.login", "MODEL.create", "model_x"]),
        (("model_*",), ["model_x"]),
        ((), ["model.create", "model.update", "auth.login", "MODEL.create", "model_x"]),
    ],
)
def test_event_patterns_match_as_in_the_settings_of_a_sink(trail, patterns, names):
    every = ["model.create", "model.update", "auth.login", "MODEL.create", "model_x"]

    found = trail([make_event(event=name) for name in every], event=patterns)

    assert [event.event for event in found] == names


@pytest.mark.django_db
def test_a_row_that_is_no_event_is_named():
    event = make_event()
    store([event])
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {AuditRecord._meta.db_table} SET outcome = 'perhaps'")

    with pytest.raises(AuditError, match=str(event.id)):
        list(read_database("default"))


@pytest.mark.django_db(databases=["default", "other"])
def test_several_databases_are_read_in_the_order_of_the_events():
    events = [make_event(timestamp=NOON + n * HOUR) for n in range(6)]
    store(events[::2])
    store(events[1::2], "other")

    assert list(read_databases(["other", "default"])) == events


@pytest.mark.django_db(databases=["default", "other"])
def test_an_event_that_two_databases_hold_is_read_once():
    events = [make_event() for _ in range(3)]
    store(events)
    store(events, "other")

    assert list(read_databases(["default", "other", "default"])) == events


@pytest.mark.django_db
def test_without_a_database_nothing_is_read():
    assert list(read_databases([])) == []


@pytest.mark.django_db(databases=["default", "other"])
def test_databases_with_the_table_are_found():
    assert reader.trail_databases() == ["default", "other"]


def test_a_database_that_cannot_be_asked_is_named(monkeypatch):
    def fail(alias):
        raise OperationalError("server is away")

    monkeypatch.setattr(reader, "record_table_exists", fail)

    with pytest.raises(AuditError, match=r"'default'.*server is away"):
        reader.trail_databases()


def test_an_empty_default_database_holds_no_trail(monkeypatch):
    settings = connections["default"].settings_dict
    monkeypatch.setitem(settings, "ENGINE", "django.db.backends.dummy")

    assert reader.has_trail("default") is False


def test_damaged_lines_are_left_out_and_counted(tmp_path):
    good = [make_event() for _ in range(3)]
    lines = [get_formatter("json")(event) for event in good]
    values = good[0].to_dict()
    damage = [
        lines[0][:50],
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        json.dumps(values | {"id": "no id"}).encode(),
        json.dumps(values | {"timestamp": "2026-01-01"}).encode(),
        json.dumps(values | {"timestamp": 5}).encode(),
        json.dumps(values | {"outcome": "perhaps"}).encode(),
        json.dumps(values | {"schema_version": 2}).encode(),
        json.dumps(values | {"further": 1}).encode(),
        json.dumps(values | {"actor": {"id": "5"}}).encode(),
        json.dumps(values | {"cause": "x"}).encode(),
        json.dumps(values | {"context": None}).encode(),
        b"[" * 5000,
    ]
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"\n".join([lines[0], *damage, b"", lines[1], lines[2]]))  # no newline at end
    trail = FileTrail([path])

    assert list(trail) == good
    assert trail.damaged == {path: len(damage)}
    list(trail)
    assert trail.damaged == {path: len(damage)}


def test_a_torn_last_line_is_damage(tmp_path):
    event = make_event()
    path = write_lines(tmp_path / "audit.jsonl", [event, event])
    path.write_bytes(path.read_bytes()[:-20])
    trail = FileTrail([path])

    assert list(trail) == [event]
    assert trail.damaged[path] == 1


def test_an_overlong_line_is_one_damage_and_what_follows_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_LINE", 2000)
    event = make_event()
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"\0" * 8000 + b"\n" + get_formatter("json")(event) + b"\n")
    trail = FileTrail([path])

    assert list(trail) == [event]
    assert trail.damaged[path] == 1


def test_what_is_appended_while_reading_is_left_to_the_next_reading(tmp_path):
    event = make_event()
    path = write_lines(tmp_path / "audit.jsonl", [event])
    found = []
    for read in FileTrail([path]):
        found.append(read)
        with path.open("ab") as file:
            file.write(get_formatter("json")(make_event()) + b"\n")

    assert found == [event]


def test_a_file_that_is_cut_while_it_is_read_ends_where_it_was_cut(tmp_path):
    made = [make_event() for _ in range(200)]
    path = write_lines(tmp_path / "audit.jsonl", made)
    trail = iter(FileTrail([path]))
    found = [next(trail)]
    path.write_bytes(b"")
    found += trail

    assert 1 <= len(found) < 200
    assert found == made[: len(found)]


def test_an_event_in_several_files_is_read_once(tmp_path):
    events = [make_event() for _ in range(3)]
    first = write_lines(tmp_path / "a.jsonl", events[:2])
    second = write_lines(tmp_path / "b.jsonl", events[1:])

    assert list(FileTrail([first, second, first])) == events


def test_an_event_reads_back_from_its_published_shape():
    event = make_event(actor=USER)

    assert event_from_dict(event.to_dict()) == event


def test_the_files_of_a_trail_are_those_in_json(tmp_path):
    sinks = {
        "plain": {"path": "a.jsonl"},
        "named": {"path": "b.jsonl", "FORMAT": "json"},
        "dotted": {"path": "c.jsonl", "FORMAT": "django_signal_audit.formats.json.processors"},
        "text": {"path": "d.log", "FORMAT": "text"},
    }
    said = {
        alias: {
            "BACKEND": "django_signal_audit.sinks.FileSink",
            "OPTIONS": {"path": tmp_path / entry.pop("path")},
            **entry,
        }
        for alias, entry in sinks.items()
    }
    said["memory"] = {"BACKEND": "django_signal_audit.sinks.MemorySink"}

    with override_settings(SIGNAL_AUDIT={"SINKS": said}):
        assert reader.trail_files() == {
            "plain": tmp_path / "a.jsonl",
            "named": tmp_path / "b.jsonl",
            "dotted": tmp_path / "c.jsonl",
        }
        assert reader.has_database_sink() is False
    assert reader.has_database_sink() is True
