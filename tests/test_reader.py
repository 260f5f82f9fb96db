"""Reading a trail back: which events, in which order, from where."""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
import threading
import tracemalloc
import uuid
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from django.db import OperationalError, connection, connections
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_signal_audit import file_trail, reader
from django_signal_audit.event import EVENT_FIELDS, Actor
from django_signal_audit.event_shape import event_from_dict
from django_signal_audit.exceptions import AuditError
from django_signal_audit.formats import available_formats, get_formatter
from django_signal_audit.models import AuditRecord
from django_signal_audit.reader import (
    FileTrail,
    list_rotated,
    read_database,
    read_databases,
)
from django_signal_audit.sinks import FileSink
from django_signal_audit.sinks._compression import zstd_library
from django_signal_audit.trail_filter import TrailFilter
from tests.factories import make_config, make_event
from tests.management.trails import NOON, store, write_lines
from tests.strategies import events
from tests.test_schema import validator

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
        cause=make_event().id,
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
    monkeypatch.setattr(file_trail, "MAX_LINE", 2000)
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


# Rotated and compressed files


def rotated_name(path, number, suffix=""):
    return path.with_name(f"{path.name}.2026010{number}T000000.000000Z{suffix}")


def write_compressed(path, events, compress=gzip.compress):
    write_lines(path, events)
    path.write_bytes(compress(path.read_bytes()))
    return path


def zstd(data):
    return zstd_library().compress(data)


@pytest.fixture
def rotated(tmp_path):
    """A path of which three files were rotated away, and the four events of all."""
    events = [make_event() for _ in range(4)]
    path = write_lines(tmp_path / "audit.jsonl", events[3:])
    write_compressed(rotated_name(path, 1, ".gz"), events[:1])
    write_compressed(rotated_name(path, 2, ".zst"), events[1:2], zstd)
    write_lines(rotated_name(path, 3), events[2:3])
    return path, events


def test_rotated_files_are_read_first_oldest_first(rotated):
    path, events = rotated
    trail = FileTrail([path], rotated=True)

    assert list(trail) == events
    assert list(FileTrail([path])) == events[3:]
    assert set(trail.damaged.values()) == {0}
    assert list(trail.damaged) == [
        path,
        rotated_name(path, 1, ".gz"),
        rotated_name(path, 2, ".zst"),
        rotated_name(path, 3),
    ]


def test_rotated_files_are_read_also_if_there_is_no_current_one(rotated):
    path, events = rotated
    path.unlink()

    assert list(FileTrail([path], rotated=True)) == events[:3]


def test_of_a_path_whose_directory_is_missing_nothing_is_read(tmp_path):
    assert list(FileTrail([tmp_path / "missing" / "audit.jsonl"], rotated=True)) == []


def test_an_event_in_a_file_and_its_compressed_one_is_read_once(rotated):
    path, events = rotated
    write_compressed(rotated_name(path, 3, ".gz"), events[2:3])

    assert list(FileTrail([path], rotated=True)) == events


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_file_that_is_compressed_meanwhile_is_found(rotated, suffix):
    path, events = rotated
    trail = iter(FileTrail([path], rotated=True))
    found = [next(trail)]
    write_compressed(
        rotated_name(path, 3, suffix), events[2:3], zstd if suffix == ".zst" else gzip.compress
    )
    rotated_name(path, 3).unlink()

    assert found + list(trail) == events


def test_a_file_that_is_deleted_meanwhile_is_left_out(rotated):
    path, events = rotated
    trail = iter(FileTrail([path], rotated=True))
    found = [next(trail)]
    rotated_name(path, 3).unlink()

    assert found + list(trail) == [*events[:2], events[3]]


def test_what_is_rotated_away_meanwhile_is_not_missed(rotated, monkeypatch):
    path, events = rotated
    original = file_trail.list_rotated

    def rotate(asked):
        path.rename(rotated_name(path, 4))
        write_lines(path, [make_event()])
        return original(asked)

    monkeypatch.setattr(file_trail, "list_rotated", rotate)

    assert list(FileTrail([path], rotated=True)) == events


@pytest.mark.parametrize("is_compressed", [False, True])
def test_files_that_are_rotated_away_meanwhile_keep_their_order(
    rotated, monkeypatch, is_compressed
):
    """The second of them was begun after the current one was opened."""
    path, events = rotated
    more = [make_event(), make_event()]
    original = file_trail.list_rotated

    def rotate(asked):
        path.rename(rotated_name(path, 4))
        if is_compressed:
            write_compressed(rotated_name(path, 4, ".gz"), events[3:])
            rotated_name(path, 4).unlink()
        write_lines(rotated_name(path, 5), more[:1])
        write_lines(path, more[1:])
        return original(asked)

    monkeypatch.setattr(file_trail, "list_rotated", rotate)
    trail = FileTrail([path], rotated=True)

    assert list(trail) == [*events, more[0]]


def test_a_name_that_changes_while_they_are_listed_is_not_missed(rotated, monkeypatch):
    """As a directory gives them: the old name is gone, and the new one was not there yet."""
    path, events = rotated
    original = file_trail.rotated_files
    listings = []

    def listed(asked):
        found = original(asked)
        if not listings:
            del found[rotated_name(path, 3)]
        listings.append(found)
        return found

    monkeypatch.setattr(file_trail, "rotated_files", listed)

    assert list(FileTrail([path], rotated=True)) == events


def damage_at_the_end(data):
    return data[:-6]


def damage_within(data):
    return data[:100] + bytes(len(data) - 100)


def garbage(data):
    return b"garbage " * 20


def nothing(data):
    return b""


@pytest.mark.parametrize("damage", [damage_at_the_end, damage_within, garbage, nothing])
@pytest.mark.parametrize(("suffix", "compress"), [(".gz", gzip.compress), (".zst", zstd)])
def test_a_damaged_compressed_file_is_counted_and_the_next_is_read(
    tmp_path, suffix, compress, damage
):
    path = tmp_path / "audit.jsonl"
    bad = rotated_name(path, 1, suffix)
    write_compressed(bad, [make_event() for _ in range(3)], compress)
    bad.write_bytes(damage(bad.read_bytes()))
    events = [make_event(), make_event()]
    write_lines(rotated_name(path, 2), events[:1])
    write_lines(path, events[1:])
    trail = FileTrail([path], rotated=True)

    assert list(trail)[-2:] == events
    assert trail.damaged == {path: 0, bad: 1, rotated_name(path, 2): 0}


def test_what_a_damaged_compressed_file_still_gives_is_read(tmp_path):
    events = [make_event(data={"random": random.randbytes(3000).hex()}) for _ in range(200)]
    path = write_compressed(tmp_path / "audit.jsonl.gz", events)
    path.write_bytes(path.read_bytes()[:-100_000])
    trail = FileTrail([path])
    found = list(trail)

    assert len(found) > 50
    assert found == events[: len(found)]
    assert trail.damaged == {path: 1}


def test_a_torn_line_in_a_compressed_file_is_damage(tmp_path):
    events = [make_event(), make_event()]
    path = write_lines(tmp_path / "audit.jsonl.1.gz", events)
    path.write_bytes(gzip.compress(path.read_bytes()[:-20]))
    trail = FileTrail([path])

    assert list(trail) == events[:1]
    assert trail.damaged == {path: 1}


def test_without_its_library_a_compressed_file_says_what_to_install(rotated, monkeypatch):
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(
        AuditError, match=r"Install it with: pip install .django-signal-audit\[zstd"
    ):
        list(FileTrail([rotated[0]], rotated=True))


def test_a_pipe_is_read_to_its_end(tmp_path):
    events = [make_event() for _ in range(3)]
    data = write_lines(tmp_path / "audit.jsonl", events).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()

    assert list(FileTrail([pipe])) == events
    writer.join()


def peak_of_reading(path):
    tracemalloc.start()
    try:
        assert sum(1 for _ in FileTrail([path], rotated=True)) > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_more_rotated_files_take_no_more_memory(tmp_path):
    path = write_lines(tmp_path / "audit.jsonl", [make_event()])
    peaks = []
    for number in range(1, 9):
        events = [make_event(data={"filler": "x" * 500}) for _ in range(300)]
        write_compressed(rotated_name(path, number, ".gz"), events)
        peaks.append(peak_of_reading(path))

    assert peaks[-1] < peaks[1] * 1.2


def test_reading_beside_a_writer_that_rotates_and_compresses_misses_nothing(tmp_path):
    path = tmp_path / "audit.jsonl"
    sink = FileSink(make_config(), path=path, rotate_bytes=5_000, compress="gzip")
    written = []
    ended = threading.Event()

    def write():
        while not ended.is_set():
            event = make_event(data={"filler": "x" * 300})
            sink.emit([event])
            written.append(event.id)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while writer.is_alive() and len(list_rotated(path)) < 100:
            before = list(written)
            found = [event.id for event in FileTrail([path], rotated=True)]
            assert set(before) <= set(found)
            assert len(set(found)) == len(found)
    finally:
        ended.set()
        writer.join()
        sink.close()

    assert len(list_rotated(path)) >= 100


def test_an_event_reads_back_from_its_published_shape():
    event = make_event(actor=USER)

    assert event_from_dict(event.to_dict()) == event


CUT = {"$cut": {"size": 9, "sha256": "0" * 64, "head": "b"}}
WRONG = [
    ("id", str(uuid.UUID(int=1))),
    ("timestamp", "0001-01-01T00:00:00+14:00"),
    ("timestamp", "9999-12-31T23:59:59-14:00"),
    ("timestamp", "9999-12-31T23:59:59Z"),
    ("timestamp", "0999-12-31T23:59:59Z"),
    ("timestamp", "2026-01-01T00:00:00"),
    ("event", ""),
    ("level", "notice"),
    ("duration_ms", -1),
    ("duration_ms", True),
    ("duration_ms", float("nan")),
    ("duration_ms", float("inf")),
    ("changes", {"a": 5}),
    ("changes", {"a": [1]}),
    ("changes", {"a": [1, 2, 3]}),
    ("changes", {"a": None}),
    ("changes", {"a": {"added": []}}),
    ("changes", {"a": {"added": [], "removed": 5}}),
    ("changes", {"a": {"added": {"$cut": 5}, "removed": []}}),
    ("changes", {"a": {"added": {"$cut": {"items": -1}}, "removed": []}}),
    ("changes", {"a": {"added": {"$cut": {"items": True}}, "removed": []}}),
    ("changes", {"a": {"added": {"$cut": CUT["$cut"] | {"sha256": 5}}, "removed": []}}),
    ("changes", {"a": {"added": {"$cut": CUT["$cut"] | {"sha256": "0"}}, "removed": []}}),
    ("error", {}),
    ("error", {"type": "E"}),
    ("error", {"type": "E", "message": None}),
    ("actor", {"type": "user", "id": "5", "label": None}),
    ("actor", {"type": "user", "id": "5"}),
    ("actor", {"type": "user", "id": 5, "label": ""}),
    ("actor", {"type": None, "id": "5", "label": ""}),
    ("actor", {"type": "", "id": "5", "label": ""}),
    ("on_behalf_of", {"type": "user", "id": "5", "label": 5}),
    ("cause", str(uuid.UUID(int=1))),
    ("transaction", "x"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_the_schema_forbids_is_no_event(name, value):
    with pytest.raises(ValueError, match=r"."):
        event_from_dict(make_event().to_dict() | {name: value})


@pytest.mark.parametrize(
    "change",
    [
        [None, {"any": 1}],
        {"added": [1], "removed": []},
        {"added": "[redacted]", "removed": "[redacted]"},
        {"added": CUT, "removed": {"$cut": {"items": 3}}},
    ],
)
def test_each_change_that_the_schema_permits_reads_back(change):
    event = make_event(changes={"a": change})

    assert event_from_dict(event.to_dict()) == event


def test_a_moment_of_another_zone_is_read_in_utc():
    values = make_event().to_dict() | {"timestamp": "2026-01-01T00:00:00+14:00"}

    assert event_from_dict(values).to_dict()["timestamp"] == "2025-12-31T10:00:00.000000Z"


ODD = [
    *WRONG,
    *((name, value) for name in EVENT_FIELDS for value in (None, "", {}, [], 5, 1e300, "x")),
    ("duration_ms", 2**64 - 1),
    ("timestamp", "1000-01-01T00:00:00Z"),
    ("timestamp", "9998-12-31T23:59:59.999999Z"),
    ("timestamp", "2026-01-01"),
    ("changes", {"a": {"added": CUT, "removed": "[redacted]"}}),
    ("changes", {"": [None, None]}),
    ("data", {"status": 200.0, "username": None}),
    ("actor", {"type": "x", "id": None, "label": ""}),
    ("error", {"type": "", "message": ""}),
]


@given(events, st.lists(st.sampled_from(ODD), max_size=3))
def test_what_is_accepted_every_format_can_write_and_the_schema_permits(event, odd):
    line = orjson.dumps(event.to_dict() | dict(odd))
    try:
        read = event_from_dict(orjson.loads(line))
    except ValueError:
        assert odd, "only what was changed is refused"
        return

    validator.validate(read.to_dict())
    assert event_from_dict(read.to_dict()) == read
    for name in available_formats():
        assert get_formatter(name)(read)


@pytest.mark.parametrize(("name", "value"), [odd for odd in ODD if odd not in WRONG])
def test_one_odd_value_is_refused_or_can_be_written(name, value):
    try:
        read = event_from_dict(make_event().to_dict() | {name: value})
    except ValueError:
        return

    validator.validate(read.to_dict())
    for one in available_formats():
        assert get_formatter(one)(read)


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
