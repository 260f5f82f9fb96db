"""A file sink that rotates its file: what is where afterwards, and what happens when it fails."""

from __future__ import annotations

import errno
import fcntl
import gzip
import logging
import os
import random
import re
import stat
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from django.core import checks

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.file_trail import FileTrail
from django_signal_audit.sinks import _compression, _disk, _rotation, _rotator, counters
from django_signal_audit.sinks._rotation import Rotation, rotated_files
from django_signal_audit.sinks._urls import parse_url
from django_signal_audit.sinks.file import FileSink
from tests import disks
from tests.factories import make_config, make_event
from tests.sinks.contract import SinkContract
from tests.sinks.rotating import emit, in_directory, names, read, rotated
from tests.sinks.test_file import messages_in, run_writers, synced  # noqa: F401 - a fixture

STAMP = re.compile(r"\d{8}T\d{6}\.\d{6}Z")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="django_signal_audit")
    return lambda: [record.getMessage() for record in caplog.records]


class TestContract(SinkContract):
    @pytest.fixture(params=[None, "gzip", "zstd"])
    def sink(self, request, path):
        sink = FileSink(make_config(), path=path, rotate_bytes=5_000, compress=request.param)
        yield sink
        sink.close()

    def written(self, sink):
        return [event.to_dict() for event in FileTrail([sink.path], rotated=True)]


# By size


def test_a_file_grows_to_its_size_and_not_beyond(path):
    line = len(orjson.dumps(make_event(message="0").to_dict())) + 1
    sink = FileSink(make_config(), path=path, rotate_bytes=3 * line)
    emit(sink, *"0123456")
    sink.close()

    first, second = rotated_files(path)
    assert [messages_in(one) for one in (first, second, path)] == [list("012"), list("345"), ["6"]]
    assert first.stat().st_size == 3 * line
    assert all(STAMP.fullmatch(one.name.removeprefix("audit.jsonl.")) for one in (first, second))


def test_the_events_of_one_emit_stay_in_one_file_however_long(path):
    sink = FileSink(make_config(), path=path, rotate_bytes=1000)
    emit(sink, "before")
    sink.emit([make_event(message=text) for text in "abcdef"])
    emit(sink, "after")
    sink.close()

    assert [messages_in(one) for one in (*rotated_files(path), path)] == [
        ["before"],
        list("abcdef"),
        ["after"],
    ]


def test_an_empty_file_is_not_rotated(path):
    path.touch()
    os.utime(path, (0, 0))
    sink = FileSink(make_config(), path=path, rotate_bytes=1, rotate_every="hour")
    emit(sink, "one")
    sink.close()

    assert names(path) == []


# By time


@pytest.mark.parametrize(
    ("every", "before", "after"),
    [
        ("hour", "2026-03-01T12:59:59.999", "2026-03-01T13:00"),
        ("day", "2026-03-01T23:59:59.999", "2026-03-02T00:00"),
        ("week", "2026-03-01T23:59:59.999", "2026-03-02T00:00"),  # a Monday
        ("month", "2026-12-31T23:59:59.999", "2027-01-01T00:00"),
    ],
)
def test_the_first_line_of_a_period_begins_a_file(path, monkeypatch, every, before, after):
    old, new = (datetime.fromisoformat(said).replace(tzinfo=UTC) for said in (before, after))
    sink = FileSink(make_config(), path=path, rotate_every=every)
    emit(sink, "one")
    os.utime(path, (old.timestamp(),) * 2)
    monkeypatch.setattr(time, "time", old.timestamp)
    emit(sink, "two")
    assert names(path) == []
    os.utime(path, (old.timestamp(),) * 2)
    monkeypatch.setattr(time, "time", new.timestamp)
    emit(sink, "three")
    sink.close()

    (first,) = rotated_files(path)
    assert messages_in(first) == ["one", "two"]
    assert messages_in(path) == ["three"]


@pytest.mark.parametrize(
    ("every", "before", "after"),
    [
        ("hour", "2026-03-01T12:00", "2026-03-01T12:59:59"),
        ("day", "2026-03-01T00:00", "2026-03-01T23:59:59"),
        ("week", "2026-03-02T00:00", "2026-03-08T23:59:59"),
        ("month", "2026-12-01T00:00", "2026-12-31T23:59:59"),
        ("day", "2026-03-02T00:00", "2026-03-01T23:59:59"),  # the clock was put back
    ],
)
def test_within_a_period_a_file_stays(path, monkeypatch, every, before, after):
    old, new = (datetime.fromisoformat(said).replace(tzinfo=UTC) for said in (before, after))
    path.write_bytes(b"a line\n")
    os.utime(path, (old.timestamp(),) * 2)
    monkeypatch.setattr(time, "time", new.timestamp)

    assert not Rotation(None, every).is_due(path.stat(), 1)


# Names


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_rotated_file_is_later_than_all_others_also_if_the_clock_goes_back(path, suffix):
    later = datetime.now(UTC).replace(microsecond=999_999) + timedelta(days=300)
    path.with_name(f"{path.name}.{later.strftime(_rotation._STAMP)}{suffix}").touch()
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, "one", "two")
    sink.close()

    next_one = (later + timedelta(microseconds=1)).strftime(_rotation._STAMP)
    assert names(path)[-1] == f".{next_one}"
    assert messages_in(path.with_name(f"{path.name}.{next_one}")) == ["one"]


def test_names_that_only_look_alike_are_left_alone(path):
    others = [
        "audit.jsonl.1",
        "audit.jsonl.20260101T000000Z",
        "audit.jsonl.20260101T000000.000000Z.bz2",
        "audit.jsonl.20260101T000000.000000Z~",
        "Xaudit.jsonl.20260101T000000.000000Z",
        "audit.jsonlX20260101T000000.000000Z",
        "other",
    ]
    for name in others:
        path.with_name(name).write_text("theirs")
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip", keep=1)
    emit(sink, *"abcd")
    sink.close()

    assert all(path.with_name(name).read_text() == "theirs" for name in others)
    assert len(rotated_files(path)) == 1


def test_a_name_of_digits_that_is_no_moment_is_no_error(path, warnings):
    path.with_name(f"{path.name}.20260231T000000.000000Z").touch()
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, *"ab")
    sink.close()

    assert read(path) == ["a", "b"]
    assert len(rotated_files(path)) == 2
    assert warnings() == []


def test_of_later_names_the_last_that_is_a_moment_counts(path, warnings):
    now = datetime.now(UTC)
    moment = now + timedelta(days=1)
    stamps = [moment.strftime(_rotation._STAMP), f"{now.year}1331T000000.000000Z"]
    for stamp in stamps:
        path.with_name(f"{path.name}.{stamp}").touch()
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, *"ab")
    sink.close()

    expected = (moment + timedelta(microseconds=1)).strftime(_rotation._STAMP)
    assert set(names(path)) == {f".{stamp}" for stamp in (*stamps, expected)}
    assert warnings() == []


@pytest.mark.parametrize("stamp", ["99991231T235959.999999Z", "99999999T999999.999999Z"])
def test_a_name_from_the_far_future_does_not_stop_rotation(path, warnings, stamp):
    path.with_name(f"{path.name}.{stamp}").touch()
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, *"abc")
    sink.close()

    before = datetime.now(UTC).strftime(_rotation._STAMP)
    assert [name < f".{before}" for name in names(path)] == [True, True, False]
    assert read(path) == ["a", "b", "c"]
    assert warnings() == []


def test_to_rotate_nothing_is_imported_that_may_be_closed_by_now(path, monkeypatch, warnings):
    later = datetime.now(UTC) + timedelta(days=1)
    path.with_name(f"{path.name}.{later.strftime(_rotation._STAMP)}").touch()
    monkeypatch.setitem(sys.modules, "_strptime", None)
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, *"ab")
    sink.close()

    assert messages_in(path) == ["b"]
    assert warnings() == []


def test_no_error_of_rotation_keeps_an_event_from_the_file(path, monkeypatch, warnings):
    def fail(path, descriptor):
        raise ImportError("no module")

    monkeypatch.setattr(_rotator, "rotate", fail)
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, *"abc")
    sink.close()

    assert messages_in(path) == ["a", "b", "c"]
    assert warnings() == [
        f"Sink 'audit': {path} could not be rotated and goes on growing: ImportError: no module."
    ]


# Access rights


def test_the_next_file_has_the_permissions_of_the_last_but_for_execution(path):
    path.touch()
    path.chmod(0o776)
    umask = os.umask(0o077)
    try:
        sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")
        emit(sink, "one", "two")
        sink.close()
    finally:
        os.umask(umask)

    (compressed,) = path.parent.glob("*.gz")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(compressed.stat().st_mode) == 0o666


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to somebody else")
def test_a_command_that_root_runs_leaves_the_file_to_its_owner(path):
    path.touch()
    os.chown(path, 65534, 65533)
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")
    emit(sink, "one", "two")
    sink.close()

    (compressed,) = path.parent.glob("*.gz")
    for file in (path, compressed):
        assert (file.stat().st_uid, file.stat().st_gid) == (65534, 65533)


def test_the_path_names_a_file_at_every_moment(path, monkeypatch):
    """Else a command that root runs could make one there that nobody else may write."""
    seen = []

    def looking(original):
        def call(*args, **options):
            seen.append(path.exists())
            done = original(*args, **options)
            seen.append(path.exists())
            return done

        return call

    for module, name in ((os, "open"), (os, "link"), (os, "replace"), (fcntl, "flock")):
        monkeypatch.setattr(module, name, looking(getattr(module, name)))
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, "one")
    del seen[:]
    emit(sink, "two")
    sink.close()

    assert len(seen) >= 8
    assert all(seen)


def test_who_may_not_give_a_file_away_keeps_it(path, monkeypatch):
    asked = []

    def refuse(descriptor, user, group):
        asked.append((user, group))
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    with path.open("wb") as file:
        own = os.fstat(file.fileno())
        status = SimpleNamespace(st_uid=own.st_uid + 1, st_gid=own.st_gid + 1, st_mode=0o100664)
        _disk.copy_access(status, file.fileno())

    assert asked == [(-1, own.st_gid + 1), (own.st_uid + 1, -1)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


# Durability


def test_the_old_file_is_forced_to_disk_before_and_the_name_after(path, synced):  # noqa: F811
    sink = FileSink(make_config(), path=path, rotate_bytes=1, fsync="commit")
    emit(sink, "one")
    del synced[:]
    emit(sink, "two")
    sink.close()

    assert synced == [path.name, path.parent.name, path.name]


def test_nothing_is_forced_if_fsync_is_never(path, synced):  # noqa: F811
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, "one", "two")
    sink.close()

    assert synced == []


# Failures


def test_a_process_killed_before_any_system_call_loses_nothing(path):
    report = run_writers("die", path, programs="file_rotators")

    # Each run has died at another call, until one went through.
    assert [run["killed"] for run in report] == [True] * (len(report) - 1) + [False]
    assert len(report) > 15
    for number, run in enumerate(report):
        found = Counter(run["found"])
        assert set(found.values()) == {1}
        assert {f"{number}:{part}" for part in range(run["acknowledged"])} <= set(found)
        assert run["damaged"] == 0
        assert run["left"] == [], "what was begun is used or removed by the next rotations"


def test_where_a_file_cannot_be_rotated_it_goes_on_growing_and_says_so_once(
    path, monkeypatch, warnings
):
    sink = FileSink(make_config(), path=path, rotate_bytes=1)

    def refuse(*args, **options):
        raise OSError(errno.EPERM, "Operation not permitted")

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", refuse)
            emit(sink, "one", "two", "three")
        emit(sink, "four")
    sink.close()

    assert [messages_in(one) for one in (*rotated_files(path), path)] == [
        ["one", "two", "three"],
        ["four", "one", "two", "three"],
        ["four"],
    ]
    said = (
        f"Sink 'audit': {path} could not be rotated and goes on growing: PermissionError: "
        "[Errno 1] Operation not permitted. Let the process make files in its directory, and see "
        "that there is room."
    )
    assert warnings() == [said, said]


def test_a_second_name_that_a_killed_process_gave_is_used(path):
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip", keep=5)
    emit(sink, "one")
    linked = path.with_name(f"{path.name}.20260101T000000.000000Z")
    os.link(path, linked)
    begun = path.with_name(f"{path.name}.20260101T000000.000000Z.new")
    begun.touch()
    assert read(path) == ["one"]
    emit(sink, "two")
    sink.close()

    assert names(path) == [".20260101T000000.000000Z.gz"]
    assert read(path) == ["one", "two"]


def test_a_file_that_is_compressed_while_that_name_is_looked_for_is_no_error(
    path, monkeypatch, warnings
):
    gone = path.with_name(f"{path.name}.20251231T000000.000000Z")
    linked = path.with_name(f"{path.name}.20260101T000000.000000Z")
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, "one")
    os.link(path, linked)
    monkeypatch.setattr(_rotation, "rotated_files", lambda path: {gone: [gone], linked: [linked]})
    emit(sink, "two")
    sink.close()

    assert messages_in(linked, path) == ["one", "two"]
    assert warnings() == []


def test_a_file_with_a_name_elsewhere_gets_a_new_one(path, tmp_path):
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    rotated(path, "20260101T000000.000000Z")
    emit(sink, "one")
    os.link(path, tmp_path / "zzz")
    emit(sink, "two")
    sink.close()

    assert read(path) == ["old", "one", "two"]


def test_what_is_current_under_two_names_is_neither_compressed_nor_counted(path):
    sink = FileSink(make_config(), path=path)
    emit(sink, "one")
    old = rotated(path, "20260101T000000.000000Z")
    linked = path.with_name(f"{path.name}.20260102T000000.000000Z")
    os.link(path, linked)
    compressor = _compression.Compressor("audit", path, "gzip")
    _rotation.delete_oldest(path, 1)
    compressor.start()
    compressor.wait()
    emit(sink, "two")
    sink.close()

    assert not old.exists()
    assert names(path) == [".20260101T000000.000000Z.gz", ".20260102T000000.000000Z"]
    assert read(path) == ["old", "one", "two"]


# Many processes


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_writers_that_rotate_lose_nothing_that_was_acknowledged(path, seconds):
    report = run_writers("kill", path, seconds, programs="file_rotators")
    last = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")
    emit(last, "next to last", "last")
    last.close()
    trail = FileTrail([path], rotated=True)
    found = Counter(event.message for event in trail)

    assert report["kills"] >= 10, "at any moment, beside those at the end"
    assert set(report["acknowledged"]) <= set(found)
    assert set(found.values()) == {1}
    assert sum(trail.damaged.values()) <= report["kills"] + report["kills at the end"]
    files = [path, *path.parent.glob("*.gz")]
    assert len(files) > 10
    assert sorted(files) == sorted(path.parent.iterdir()), "what was begun is done or removed"
    for file in files:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as content:
            assert all(line.count(b'{"id":') <= 1 for line in content), "none is merged"


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    with disks.small_disk(tmp_path / "disk", kilobytes=256) as path:
        yield path


@pytest.mark.parametrize("compress", [None, "gzip"])
def test_a_full_disk_loses_nothing_and_room_resumes(small_disk, warnings, compress):
    path = small_disk / "audit.jsonl"
    (small_disk / "ballast").write_bytes(bytes(100_000))
    sink = FileSink(make_config(), path=path, rotate_bytes=20_000, compress=compress)
    acknowledged, refused = [], []
    for number in range(400):
        events = [
            make_event(message=f"{number}.{part}", data={"random": random.randbytes(400).hex()})
            for part in range(2)
        ]
        try:
            sink.emit(events)
        except OSError as error:
            refused.append(error.errno)
        else:
            acknowledged += [event.message for event in events]
    sink.close()

    trail = FileTrail([path], rotated=True)
    assert [event.message for event in trail] == acknowledged
    assert not any(trail.damaged.values()), "what failed left whole lines"
    assert set(refused) == {errno.ENOSPC}
    assert not list(small_disk.glob("*.part"))
    if compress:
        assert any("No space left on device" in warning for warning in warnings())

    (small_disk / "ballast").unlink()
    emit(sink, *(f"after {number}" for number in range(20)))
    sink.close()
    emit(sink, *(f"again {number}" for number in range(20)))
    sink.close()

    assert read(path) == [
        *acknowledged,
        *(f"after {number}" for number in range(20)),
        *(f"again {number}" for number in range(20)),
    ]


def test_where_files_cannot_grow_nothing_is_lost_and_room_resumes(path):
    """Where no disk can be mounted: a limit on the size of files, lower and higher in turn."""
    report = run_writers("limit", path, programs="file_rotators")
    trail = FileTrail([path], rotated=True)

    assert [event.message for event in trail] == report["acknowledged"]
    assert not any(trail.damaged.values())
    assert set(report["refused"]) == {errno.ENOSPC, errno.EFBIG}
    assert any("File too large" in said for said in report["warnings"]), "of compressing"
    assert report["left"] == [], "is compressed once there is room"
    assert len(rotated_files(path)) > 5


# Deleting


def test_the_oldest_files_are_deleted(path):
    for day in (1, 2, 3):
        rotated(path, f"2026010{day}T000000.000000Z")
    path.with_name(f"{path.name}.20260101T000000.000000Z.gz.part").touch()
    sink = FileSink(make_config(), path=path, rotate_bytes=1, keep=2)
    emit(sink, "one")
    assert len(names(path)) == 4, "not before it rotates"
    emit(sink, "two")
    sink.close()

    assert [messages_in(one) for one in (*rotated_files(path), path)] == [["old"], ["one"], ["two"]]
    assert names(path)[0] == ".20260103T000000.000000Z"


def test_compressed_files_are_counted_and_deleted_alike(path):
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip", keep=2)
    for message in "abcdef":
        emit(sink, message)
        sink.close()

    assert [Path(name).suffix for name in names(path)] == [".gz"] * 2
    assert read(path) == ["d", "e", "f"]


def test_a_file_that_cannot_be_deleted_is_said(path, warnings):
    path.with_name(f"{path.name}.20260101T000000.000000Z").mkdir()
    sink = FileSink(make_config(), path=path, rotate_bytes=1, keep=1)
    emit(sink, "one", "two")
    sink.close()

    assert warnings()[0].startswith("Sink 'audit': old rotated files could not be deleted: [Errno ")


# copytruncate


def truncated():
    return counters.snapshot().get("audit", {}).get("truncated", 0)


@pytest.mark.parametrize("options", [{}, {"rotate_bytes": 1_000_000}])
def test_a_file_that_another_program_cuts_is_said_and_counted(path, warnings, options):
    counters.reset()
    sink = FileSink(make_config(), path=path, **options)
    emit(sink, "one", "two")
    os.truncate(path, 0)
    emit(sink, "three", "four")
    sink.close()

    assert truncated() == 1
    (warning,) = warnings()
    assert warning == (
        f"Sink 'audit': another program has cut {path}. Lines that were written between its copy "
        "and the cut are lost. In logrotate write 'nocreate' instead of 'copytruncate', or let the "
        "sink rotate the file, with 'rotate_bytes' or 'rotate_every' in its OPTIONS."
    )
    assert messages_in(path) == ["three", "four"]


def test_a_sink_that_takes_back_its_own_lines_has_cut_nothing(path, monkeypatch, warnings):
    counters.reset()
    sinks = [FileSink(make_config(), path=path) for _ in range(2)]  # as two processes have
    for sink in sinks:
        emit(sink, "one")
    original = os.write
    for failing in sinks:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda descriptor, data: original(descriptor, data[:50]))
            with pytest.raises(OSError, match="could not be written"):
                emit(failing, "two")
        for sink in sinks:
            emit(sink, "three")
    for sink in sinks:
        sink.close()

    assert (truncated(), warnings()) == (0, [])


@pytest.mark.parametrize("how", ["rename", "own", "close"])
def test_a_new_file_is_no_cut_one(path, warnings, how):
    counters.reset()
    sink = FileSink(make_config(), path=path, rotate_bytes=1 if how == "own" else None)
    emit(sink, "a long one" * 100)
    if how == "rename":
        path.rename(f"{path}.1")
    if how == "close":
        sink.close()
        os.truncate(path, 0)
    emit(sink, "two")
    sink.close()

    assert (truncated(), warnings()) == (0, [])


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": 0o755}, "mode is 493. Nobody runs a trail: write 0o644, so that nobody can."),
        ({"rotate_bytes": 0}, "rotate_bytes is 0. Write a whole number of bytes above 0"),
        ({"rotate_bytes": "1M"}, "rotate_bytes is '1M'. Write a whole number of bytes"),
        ({"rotate_bytes": True}, "rotate_bytes is True. Write a whole"),
        (
            {"rotate_every": "year"},
            "rotate_every is 'year'. Write 'hour', 'day', 'week' or 'month'.",
        ),
        ({"rotate_bytes": 1, "compress": "bzip2"}, "compress is 'bzip2'. Write 'gzip' or 'zstd'."),
        ({"rotate_bytes": 1, "keep": 0}, "keep is 0. Write a whole number of files above 0, or"),
        ({"rotate_bytes": 1, "keep": 1.5}, "keep is 1.5. Write a whole number of files above 0"),
        ({"keep": 5}, "keep is 5. It is about rotated files: write 'rotate_bytes' or"),
        ({"compress": "gzip"}, "compress is 'gzip'. It is about rotated files: write"),
    ],
)
def test_a_wrong_option_is_refused(path, options, message):
    with pytest.raises(AuditConfigurationError) as caught:
        FileSink(make_config(), path=path, **options)

    assert f"Sink 'audit': {message}" in str(caught.value)
    assert caught.value.number == "E024"


def test_a_missing_library_is_refused_with_what_to_install(path, monkeypatch):
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(AuditConfigurationError) as caught:
        FileSink(make_config(), path=path, rotate_bytes=1, compress="zstd")

    assert str(caught.value) == (
        "Sink 'audit': compress is 'zstd'. Zstandard needs a library that is not installed. "
        'Install it with: pip install "django-signal-audit[zstd]"'
    )


def test_options_come_from_a_url():
    said = "rotate_bytes=1000000&rotate_every=day&compress=gzip&keep=5"

    assert FileSink.options_from_url(parse_url("AUDIT_SINKS", f"file:///var/log/x?{said}")) == {
        "path": "/var/log/x",
        "rotate_bytes": 1_000_000,
        "rotate_every": "day",
        "compress": "gzip",
        "keep": 5,
    }
    assert FileSink.options_from_url(
        parse_url("AUDIT_SINKS", "file:x?rotate_bytes=none&compress=none")
    ) == {
        "path": "x",
        "rotate_bytes": None,
        "compress": None,
    }


# Checks


def test_a_file_that_may_be_executed_is_a_check_warning(path):
    path.touch()
    path.chmod(0o740)

    assert FileSink(make_config(), path=path).check() == [
        checks.Warning(
            f"Sink 'audit': {path} may be executed, and its lines hold what users have typed.",
            hint=f"Take the permission away: chmod a-x {path}",
            id="django_signal_audit.W207",
        )
    ]


def test_a_sink_that_rotates_needs_to_make_files_in_the_directory(path, monkeypatch):
    path.touch()

    def refuse(**options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert FileSink(make_config(), path=path).check() == []
    (found,) = FileSink(make_config(), path=path, rotate_bytes=1).check()
    assert found == checks.Error(
        f"Sink 'audit': No file can be made in {path.parent} by this process: Permission denied.",
        hint="Permit its user to write to the directory, or write another path.",
        id="django_signal_audit.E203",
    )


def test_a_sink_that_can_rotate_has_no_message(path):
    path.touch(0o640)

    assert FileSink(make_config(), path=path, rotate_every="day").check() == []
    assert in_directory(path) == [path.name]
