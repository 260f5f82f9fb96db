"""Rotated files are compressed, or stay as they are."""

from __future__ import annotations

import errno
import fcntl
import gzip
import logging
import os
import stat
import threading
import time
from pathlib import Path

import orjson
import pytest

from django_signal_audit.sinks import _compression
from django_signal_audit.sinks.file import FileSink
from tests.factories import make_config
from tests.sinks.rotating import emit, in_directory, names, read, rotated
from tests.sinks.test_file import run_writers


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="django_signal_audit")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(("method", "suffix"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_rotated_files_are_compressed_when_the_sink_is_closed(path, method, suffix):
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress=method)
    emit(sink, "one", "two", "three")
    sink.close()

    assert [Path(name).suffix for name in names(path)] == [suffix] * 2
    assert read(path) == ["one", "two", "three"]


def test_a_gzip_file_is_one_that_others_read(path):
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")
    emit(sink, "one", "two")
    sink.close()

    (compressed,) = path.parent.glob("*.gz")
    with gzip.open(compressed) as file:
        assert orjson.loads(file.read())["message"] == "one"


def test_what_killed_processes_left_is_compressed_as_well(path):
    rotated(path, "20260101T000000.000000Z")
    path.with_name(f"{path.name}.20260101T000000.000000Z.gz.part").write_bytes(b"x" * 10_000)
    path.with_name(f"{path.name}.20260101T000000.000000Z.gz").write_bytes(b"y")
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")
    emit(sink, "one", "two")
    sink.close()

    assert [Path(name).suffix for name in names(path)] == [".gz", ".gz"]
    assert read(path) == ["old", "one", "two"]


def test_what_a_killed_process_began_too_late_is_removed(path):
    whole = path.with_name(f"{path.name}.20260101T000000.000000Z.gz")
    whole.write_bytes(gzip.compress(b""))
    whole.with_name(f"{whole.name}.part").touch()
    path.with_name(f"{path.name}.20260102T000000.000000Z.zst.part").touch()
    path.touch()
    compress(path)

    assert names(path) == [".20260101T000000.000000Z.gz"]


def test_what_was_begun_of_a_file_that_appears_just_now_is_left(path):
    old = rotated(path, "20260101T000000.000000Z")
    part = path.with_name(f"{old.name}.gz.part")
    part.touch()
    _compression._remove_parts(old, [part])

    assert part.exists()


def compress(path):
    compressor = _compression.Compressor("audit", path, "gzip")
    compressor.start()
    compressor.wait()
    return compressor


def test_what_another_process_is_compressing_is_left_to_it(path, warnings):
    old = rotated(path, "20260101T000000.000000Z")
    part = path.with_name(f"{old.name}.gz.part")
    part.write_text("theirs")
    with part.open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        compress(path)

    assert part.read_text() == "theirs"
    assert old.exists()
    assert warnings() == []


@pytest.mark.parametrize("what", ["part", "file"])
def test_what_another_process_finishes_meanwhile_is_left(path, monkeypatch, warnings, what):
    old = rotated(path, "20260101T000000.000000Z")
    path.touch()
    original = fcntl.flock

    def finish(descriptor, operation):
        (path.with_name(f"{old.name}.gz.part") if what == "part" else old).unlink()
        original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", finish)
    compress(path)

    assert names(path) == ([".20260101T000000.000000Z"] if what == "part" else [])
    assert warnings() == []


def test_what_is_gone_before_it_is_opened_is_left(path, monkeypatch, warnings):
    gone = path.with_name(f"{path.name}.20260101T000000.000000Z")
    monkeypatch.setattr(_compression, "rotated_files", lambda path: {gone: [gone]})
    compress(path)

    assert in_directory(path) == []
    assert warnings() == []


@pytest.fixture
def leftover(path):
    """The name that a killed process may have left a part by, of a file to be compressed."""
    old = rotated(path, "20260101T000000.000000Z")
    path.touch()
    return path.with_name(f"{old.name}.gz.part")


def test_a_part_that_is_another_file_as_well_is_not_written(path, tmp_path, leftover, warnings):
    other = tmp_path / "other"
    other.write_text("theirs")
    other.chmod(0o604)
    os.link(other, leftover)
    compress(path)

    assert other.read_text() == "theirs"
    assert stat.S_IMODE(other.stat().st_mode) == 0o604
    assert sorted(in_directory(path)) == [
        "audit.jsonl",
        "audit.jsonl.20260101T000000.000000Z.gz",
        "other",
    ]
    assert warnings() == []


def test_a_part_that_is_closed_and_old_is_removed(path, leftover, warnings):
    leftover.symlink_to("/nowhere")  # closed also to root
    os.utime(leftover, (time.time() - 601,) * 2, follow_symlinks=False)
    compress(path)

    assert names(path) == [".20260101T000000.000000Z.gz"]
    assert warnings() == []


def test_a_part_that_is_closed_and_new_is_left_to_who_is_at_work(path, leftover, warnings):
    leftover.symlink_to("/nowhere")
    compress(path)

    assert leftover.is_symlink()
    assert names(path)[0] == ".20260101T000000.000000Z"
    assert len(warnings()) == 1


def test_a_part_that_another_process_makes_just_now_is_left_to_it(
    path, leftover, monkeypatch, warnings
):
    def be_slow(part):
        part.write_text("theirs")
        return True

    monkeypatch.setattr(_compression, "_remove_leftover", be_slow)
    compress(path)

    assert leftover.read_text() == "theirs"
    assert names(path)[0] == ".20260101T000000.000000Z"
    assert warnings() == []


def test_a_part_that_another_process_has_taken_for_left_over_is_not_used(
    path, leftover, monkeypatch, warnings
):
    original = _compression._copy

    def replace(*args):
        original(*args)
        leftover.unlink()
        leftover.write_text("theirs")

    monkeypatch.setattr(_compression, "_copy", replace)
    compress(path)

    assert leftover.read_text() == "theirs"
    assert read(path) == ["old"]
    assert warnings() == []


def test_a_file_that_is_deleted_just_before_it_would_be_is_no_error(
    path, leftover, monkeypatch, warnings
):
    original = _compression._copy

    def delete(*args):
        original(*args)
        leftover.with_name(leftover.name.removesuffix(".gz.part")).unlink()

    monkeypatch.setattr(_compression, "_copy", delete)
    compress(path)

    assert names(path) == [".20260101T000000.000000Z.gz"]
    assert warnings() == []


def test_what_is_deleted_while_it_is_compressed_stays_deleted(path, monkeypatch, warnings):
    old = rotated(path, "20260101T000000.000000Z")
    path.touch()
    original = _compression._copy

    def delete(*args):
        original(*args)
        old.unlink()
        path.with_name(f"{old.name}.gz.part").unlink()

    monkeypatch.setattr(_compression, "_copy", delete)
    compress(path)

    assert names(path) == []
    assert warnings() == []


def test_a_failing_compression_leaves_the_file_and_says_so_once(path, monkeypatch, warnings):
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")
    original = _compression._write_all

    def fail(descriptor, data):
        original(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_compression, "_write_all", fail)
        emit(sink, "one", "two")
        sink.close()
        emit(sink, "three")
        sink.close()
        assert len(names(path)) == 2
        assert not list(path.parent.glob("*.gz*"))
    (warning,) = warnings()
    assert f"a rotated file of {path} could not be compressed and stays as it is" in warning
    assert "No space left on device" in warning
    emit(sink, "four")
    sink.close()

    assert [Path(name).suffix for name in names(path)] == [".gz"] * 3
    assert read(path) == ["one", "two", "three", "four"]


def test_one_file_that_cannot_be_compressed_does_not_keep_the_others_from_it(path, warnings):
    bad = path.with_name(f"{path.name}.20260101T000000.000000Z")
    bad.symlink_to("/nowhere")
    rotated(path, "20260102T000000.000000Z")
    path.touch()
    compress(path)

    assert names(path) == [".20260101T000000.000000Z", ".20260102T000000.000000Z.gz"]
    assert len(warnings()) == 1


def test_a_directory_that_cannot_be_listed_is_said(path, warnings):
    compress(path / "missing" / "audit.jsonl")

    assert "No such file or directory" in warnings()[0]


def test_a_file_rotated_while_another_is_compressed_is_compressed_next(path, monkeypatch):
    original = _compression._copy
    begun, go_on = threading.Event(), threading.Event()

    def wait(*args):
        begun.set()
        assert go_on.wait(30)
        original(*args)

    monkeypatch.setattr(_compression, "_copy", wait)
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")
    emit(sink, "one", "two")
    assert begun.wait(30)
    emit(sink, "three")
    assert sum(thread.name == "audit-gzip" for thread in threading.enumerate()) == 1
    go_on.set()
    sink.close()

    assert [Path(name).suffix for name in names(path)] == [".gz"] * 2


def test_at_the_end_of_the_interpreter_nothing_is_compressed_any_more(path, monkeypatch, warnings):
    def refuse(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    sink = FileSink(make_config(), path=path, rotate_bytes=1, compress="gzip")
    emit(sink, "one", "two")
    sink.close()

    assert read(path) == ["one", "two"]
    assert warnings() == []


def test_a_forked_child_knows_of_no_thread_and_has_no_lock_of_it(path):
    report = run_writers("fork_compressing", path, programs="file_rotators")

    assert report["left"] == []
    assert read(path) == ["one", "two", "child", "parent"]


def test_the_child_forgets_what_its_parent_compresses(path):
    compressor = _compression.Compressor("audit", path, "gzip")
    part = os.open(path, os.O_WRONLY | os.O_CREAT)
    compressor._parts.add(part)
    compressor.forget()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(part)


def test_a_forked_child_opens_the_file_itself(path):
    sink = FileSink(make_config(), path=path, rotate_bytes=1)
    emit(sink, "one")
    sink._forget()  # as after a fork
    emit(sink, "two")
    sink.close()

    assert read(path) == ["one", "two"]
