from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import structlog
from django.core import checks

from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import file
from django_signal_audit.sinks.base import SinkConfig
from django_signal_audit.sinks.file import FileSink
from tests.factories import make_config, make_event
from tests.sinks import file_writers
from tests.sinks.contract import SinkContract

ROOT = Path(__file__).resolve().parents[2]


def run_writers(command, path, *arguments, programs="file_writers"):
    module = f"tests.sinks.{programs}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, command, str(path), *map(str, arguments)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def messages_in(*paths):
    """The messages of files that hold nothing but whole lines."""
    messages = []
    for path in paths:
        content = path.read_bytes()
        *lines, rest = content.split(b"\n")
        assert rest == b""
        messages += [orjson.loads(line)["message"] for line in lines]
    return messages


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def synced(monkeypatch):
    """What was forced to disk, as the names of files."""
    names = []
    original = os.fsync

    def fsync(descriptor):
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


class TestContract(SinkContract):
    @pytest.fixture(params=["never", "interval", "commit"])
    def sink(self, request, path):
        sink = FileSink(make_config(), path=path, fsync=request.param)
        yield sink
        sink.close()

    def written(self, sink):
        if not sink.path.exists():
            return []
        return [orjson.loads(line) for line in sink.path.read_bytes().splitlines()]


class TestManyWriters:
    def expected(self):
        own = [
            f"{name}:{thread}:{number}"
            for name in range(file_writers.PROCESSES)
            for thread in range(file_writers.THREADS)
            for number in range(file_writers.EMITS)
        ]
        return Counter(["parent", *own, "parent again"])

    def test_eight_processes_lose_and_tear_nothing(self, path):
        run_writers("share", path)

        messages = messages_in(path)
        assert Counter(messages) == self.expected()
        for thread in ("0:0:", "7:2:"):
            own = [message for message in messages if message.startswith(thread)]
            assert own == [f"{thread}{number}" for number in range(file_writers.EMITS)]

    def test_renaming_under_the_writers_loses_nothing(self, path):
        renamed = run_writers("rename", path)

        assert renamed > 2
        files = [Path(f"{path}.{number}") for number in range(renamed)]
        assert Counter(messages_in(*files, path)) == self.expected()

    def test_killed_writers_lose_nothing_that_was_acknowledged(self, path):
        report = run_writers("kill", path)
        messages, torn = [], []
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                messages.append(orjson.loads(line)["message"])
            except orjson.JSONDecodeError:
                torn.append(line)

        assert len(report["acknowledged"]) > report["kills"]
        assert set(report["acknowledged"]) <= set(messages)
        assert len(set(messages)) == len(messages)
        assert len(torn) <= report["kills"]
        assert all(line.count(b'{"id":') <= 1 for line in torn), "none is merged"
        survivors = [message for message in messages if message.startswith("survivor")]
        assert survivors == [f"survivor:{number}" for number in range(len(survivors))]

    def test_forking_while_threads_write(self, path):
        expected = run_writers("fork", path)

        assert Counter(messages_in(path)) == Counter(expected)

    def test_a_full_disk_leaves_whole_lines_and_room_resumes(self, path):
        report = run_writers("limit", path)

        assert report["written"] == [
            "large 0.0",
            "large 0.1",
            "small.0",
            "small.1",
            "after.0",
            "after.1",
        ]
        assert messages_in(path) == report["written"]
        short, again, full = report["errors"]
        assert short[2] == again[2] < full[2] < file_writers.SIZE_LIMIT
        assert [short[0], full[0]] == [errno.ENOSPC, errno.EFBIG]
        assert (
            f"bytes could not be written: only {file_writers.SIZE_LIMIT - short[2]} of " in short[1]
        )
        assert "bytes could not be written: File too large" in full[1]
        assert str(path) in short[1] and str(path) in full[1]


def test_an_emit_is_one_write(path, monkeypatch):
    writes = []
    original = os.write

    def write(descriptor, data):
        writes.append(bytes(data))
        return original(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event(message=text) for text in ("one", "two")])
    sink.close()

    assert writes == [path.read_bytes()]


def test_a_new_file_has_the_permissions_asked_for(path, tmp_path):
    other = tmp_path / "other"
    umask = os.umask(0o022)
    try:
        for sink in (
            FileSink(make_config(), path=path),
            FileSink(make_config(), path=other, mode=0o666),
        ):
            sink.emit([make_event()])
            sink.close()
    finally:
        os.umask(umask)

    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(other.stat().st_mode) == 0o644


def test_nothing_is_opened_before_the_first_event(path):
    sink = FileSink(make_config(), path=str(path))
    sink.check()
    sink.flush()
    sink.close()

    assert sink.path == path
    assert not path.exists()


def test_a_relative_path_is_resolved_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sink = FileSink(make_config(), path="audit.jsonl")
    monkeypatch.chdir("/")
    sink.emit([make_event()])
    sink.close()

    assert sink.path == tmp_path / "audit.jsonl"
    assert sink.path.exists()


def test_the_descriptor_is_not_inherited_by_other_programs(path):
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event()])

    assert not os.get_inheritable(sink._descriptor)
    sink.close()


def test_a_torn_tail_is_ended_first(path):
    path.write_bytes(b'{"message":"whole"}\n{"message":"to')
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event(message="next")])
    sink.emit([make_event(message="last")])
    sink.close()

    whole, torn, *rest = path.read_bytes().split(b"\n")
    assert (whole, torn) == (b'{"message":"whole"}', b'{"message":"to')
    assert [orjson.loads(line)["message"] for line in rest[:-1]] == ["next", "last"]
    assert rest[-1] == b""


def test_a_tail_torn_by_somebody_else_meanwhile_is_ended_too(path):
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event(message="one")])
    with path.open("ab") as file:
        file.write(b"to")
    sink.emit([make_event(message="two")])
    sink.close()

    assert path.read_bytes().split(b"\n")[1] == b"to"


@pytest.mark.parametrize("how", ["rename", "unlink", "replace"])
def test_the_file_of_the_path_is_written(path, tmp_path, how):
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event(message="one")])
    old = tmp_path / "old"
    if how == "unlink":
        path.unlink()
    else:
        path.rename(old)
    if how == "replace":
        path.touch()
    sink.emit([make_event(message="two")])
    sink.close()

    assert messages_in(path) == ["two"]
    if how != "unlink":
        assert messages_in(old) == ["one"]


def test_a_file_that_another_program_cuts_is_written_from_its_beginning(path):
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event(message="one")])
    os.truncate(path, 0)
    sink.emit([make_event(message="two")])
    sink.close()

    assert messages_in(path) == ["two"]


def test_a_path_that_changes_for_ever_is_an_error(path, monkeypatch):
    sink = FileSink(make_config(), path=path)
    monkeypatch.setattr(file, "named_status", lambda path, descriptor: None)

    with pytest.raises(OSError, match="named another file each of 1000 times") as caught:
        sink.emit([make_event()])
    assert caught.value.errno == errno.EBUSY
    assert sink._descriptor is None


def test_a_short_write_is_taken_back_and_raised(path, monkeypatch):
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event(message="one")])
    original = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: original(descriptor, data[:100]))
        with pytest.raises(OSError, match=r"Sink 'audit': .* only 100 of \d+ bytes") as caught:
            sink.emit([make_event(message="two"), make_event(message="three")])
    sink.emit([make_event(message="four")])
    sink.close()

    assert caught.value.errno == errno.ENOSPC
    assert str(path) in str(caught.value)
    assert messages_in(path) == ["one", "four"]


def test_a_failing_write_is_taken_back_and_raised(path, monkeypatch):
    sink = FileSink(make_config(), path=path)
    original = os.write

    def write(descriptor, data):
        original(descriptor, data[:100])
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match=r"'audit': .* could not be written: Input") as caught:
            sink.emit([make_event()])
    assert path.read_bytes() == b""
    sink.emit([make_event(message="next")])
    sink.close()

    assert caught.value.errno == errno.EIO
    assert caught.value.filename == str(path)
    assert messages_in(path) == ["next"]


def test_an_interrupted_emit_is_taken_back(path, monkeypatch):
    sink = FileSink(make_config(), path=path)
    original = os.write

    def write(descriptor, data):
        original(descriptor, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(KeyboardInterrupt):
            sink.emit([make_event()])
    sink.emit([make_event(message="next")])
    sink.close()

    assert messages_in(path) == ["next"]


def test_a_file_that_cannot_be_cut_says_so(path, monkeypatch):
    sink = FileSink(make_config(), path=path)
    original = os.write

    def refuse(descriptor, size):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: original(descriptor, data[:100]))
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="only 100 of") as caught:
            sink.emit([make_event(message="torn")])
    sink.emit([make_event(message="next")])
    sink.close()

    assert "could not be cut off again" in caught.value.__cause__.__notes__[0]
    assert orjson.loads(path.read_bytes().splitlines()[1])["message"] == "next"


@pytest.mark.parametrize("failing", ["lstat", "write"])
def test_after_an_error_other_processes_may_write(path, monkeypatch, failing):
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event(message="one")])

    def fail(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "lstat") if failing == "lstat" else (os, "write")), fail)
        with pytest.raises(PermissionError):
            sink.emit([make_event(message="two")])
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    sink.close()

    assert messages_in(path) == ["one"]


def test_waits_for_another_process_that_holds_the_lock(path):
    sink = FileSink(make_config(), path=path)
    sink.emit([make_event(message="one")])
    writer = threading.Thread(target=sink.emit, args=([make_event(message="two")],))
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        writer.start()
        time.sleep(0.05)
        assert messages_in(path) == ["one"]
    writer.join()
    sink.close()

    assert messages_in(path) == ["one", "two"]


class TestLocked:
    """Whoever may read the file can lock it."""

    @pytest.fixture
    def pauses(self, monkeypatch):
        """The pauses that were made for the lock, which take no time here."""
        made = []
        monkeypatch.setattr(time, "sleep", made.append)
        return made

    @pytest.fixture
    def other(self, path):
        """The file, locked as by another process."""
        with path.open("ab") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            yield other

    def test_an_emit_gives_up_and_names_the_file_and_what_to_do(self, path, other):
        sink = FileSink(make_config(), path=path, timeout=0.05)
        begun = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            sink.emit([make_event()])

        assert time.monotonic() - begun >= 0.05
        assert caught.value.errno == errno.ETIMEDOUT
        assert caught.value.filename == str(path)
        assert str(caught.value) == (
            "[Errno 110] Sink 'audit': the file could not be locked within 0.05 seconds: another "
            "process holds its lock, maybe one that is stopped. lslocks lists it.: "
            f"{str(path)!r}"
        )
        assert path.read_bytes() == b""
        sink.close()

    def test_a_stopped_writer_does_not_stop_the_others(self, path):
        program = (
            "import fcntl, os, signal, sys\n"
            "file = open(sys.argv[1], 'ab')\n"
            "fcntl.flock(file, fcntl.LOCK_EX)\n"
            "os.kill(os.getpid(), signal.SIGSTOP)\n"
        )
        sink = FileSink(make_config(), path=path, timeout=0.05)
        with subprocess.Popen([sys.executable, "-c", program, path]) as stopped:
            try:
                os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
                with pytest.raises(TimeoutError, match="'audit'"):
                    sink.emit([make_event(message="one")])
            finally:
                stopped.kill()
        sink.emit([make_event(message="two")])
        sink.close()

        assert messages_in(path) == ["two"]

    def test_the_next_ones_do_not_wait_until_the_lock_was_free_once(self, path, other, pauses):
        sink = FileSink(make_config(), path=path, timeout=0.01)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                sink.emit([make_event()])
            assert pauses
            del pauses[:]
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    sink.emit([make_event()])
            assert pauses == []
            fcntl.flock(other, fcntl.LOCK_UN)
            sink.emit([make_event(message="free")])
            fcntl.flock(other, fcntl.LOCK_EX)
        sink.close()

        assert messages_in(path) == ["free", "free"]

    def test_the_pauses_grow_to_two_milliseconds(self, path, other, pauses):
        sink = FileSink(make_config(), path=path, timeout=0.05)
        with pytest.raises(TimeoutError):
            sink.emit([make_event()])

        assert pauses[:4] == [0.00005, 0.0001, 0.0002, 0.0004]
        assert max(pauses) == 0.002

    def test_a_locked_file_may_be_renamed_to_be_rid_of_it(self, path, other):
        sink = FileSink(make_config(), path=path, timeout=0.01)
        with pytest.raises(TimeoutError):
            sink.emit([make_event(message="one")])
        path.rename(f"{path}.locked")
        sink.emit([make_event(message="two")])
        sink.close()

        assert messages_in(path) == ["two"]

    def test_a_thread_that_takes_too_long_is_not_waited_for(self, path, monkeypatch):
        sink = FileSink(make_config(), path=path, timeout=0.05)
        begun, go_on = threading.Event(), threading.Event()
        original = os.write

        def write(descriptor, data):
            begun.set()
            assert go_on.wait(30)
            return original(descriptor, data)

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            writer = threading.Thread(target=sink.emit, args=([make_event(message="one")],))
            writer.start()
            assert begun.wait(30)
            with pytest.raises(TimeoutError, match="other threads of this process were writing"):
                sink.emit([make_event(message="two")])
            go_on.set()
            writer.join()
        sink.emit([make_event(message="three")])
        sink.close()

        assert messages_in(path) == ["one", "three"]


class TestFsync:
    def test_never(self, path, synced):
        sink = FileSink(make_config(), path=path)
        sink.emit([make_event()])
        sink.flush()
        sink.close()

        assert synced == []

    def test_commit_before_each_emit_returns(self, path, synced):
        sink = FileSink(make_config(), path=path, fsync="commit")
        sink.emit([make_event()])
        assert synced == [path.parent.name, path.name], "a file without its name would be lost"
        sink.emit([make_event()])
        sink.flush()
        sink.close()

        assert synced == [path.parent.name, path.name, path.name]

    def test_commit_fails_where_the_disk_fails(self, path, monkeypatch):
        sink = FileSink(make_config(), path=path, fsync="commit")
        sink.emit([make_event()])

        def fail(descriptor):
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match="Input/output"):
                sink.emit([make_event()])
        sink.close()

    def test_a_new_file_whose_name_cannot_be_forced_to_disk_is_closed(self, path, monkeypatch):
        sink = FileSink(make_config(), path=path, fsync="commit")
        original = os.fsync

        def fail(descriptor):
            if Path(f"/proc/self/fd/{descriptor}").is_dir():
                raise OSError(errno.EIO, "Input/output error")
            original(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(OSError, match="Input/output"):
                sink.emit([make_event(message="one")])
        assert sink._descriptor is None
        sink.emit([make_event(message="two")])
        sink.close()

        assert messages_in(path) == ["two"]

    def test_interval_by_the_clock_and_on_flush_and_close(self, path, synced, monkeypatch):
        now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: now)
        sink = FileSink(make_config(), path=path, fsync="interval", fsync_interval=5)
        sink.emit([make_event()])
        del synced[:]  # the directory
        now += 4.9
        sink.emit([make_event()])
        assert synced == []
        now += 0.1
        sink.emit([make_event()])
        assert synced == [path.name]
        sink.emit([make_event()])
        assert synced == [path.name]
        sink.flush()
        sink.flush()
        assert synced == [path.name] * 2
        sink.emit([make_event()])
        sink.close()
        assert synced == [path.name] * 3

    def test_interval_forces_a_renamed_file_before_leaving_it(self, path, synced):
        sink = FileSink(make_config(), path=path, fsync="interval", fsync_interval=3600)
        sink.emit([make_event()])
        path.rename(f"{path}.1")
        sink.emit([make_event()])

        assert f"{path.name}.1" in synced
        sink.close()


def test_an_event_dropped_by_its_format_is_left_out(path):
    def drop_two(event):
        if event.message == "two":
            raise structlog.DropEvent
        return event.message.encode()

    sink = FileSink(SinkConfig("audit", drop_two), path=path)
    sink.emit([make_event(message="two")])
    assert not path.exists()
    sink.emit([make_event(message=text) for text in ("one", "two", "three")])
    sink.close()

    assert path.read_bytes() == b"one\nthree\n"


def test_an_error_of_the_format_writes_nothing(path):
    def fail_at_two(event):
        if event.message == "two":
            raise ZeroDivisionError
        return b"one"

    sink = FileSink(SinkConfig("audit", fail_at_two), path=path)
    with pytest.raises(ZeroDivisionError):
        sink.emit([make_event(message=text) for text in ("one", "two")])

    assert not path.exists()


def test_an_event_from_inside_the_same_write_is_refused_and_does_not_hang(path, monkeypatch):
    sink = FileSink(make_config(), path=path)
    original = os.write

    def write(descriptor, data):
        with pytest.raises(RuntimeError, match="while the same thread was writing"):
            sink.emit([make_event(message="from a signal handler")])
        return original(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    sink.emit([make_event(message="one")])
    sink.close()

    assert messages_in(path) == ["one"]


def make_missing(path):
    return path.parent / "missing" / path.name


def make_directory(path):
    path.mkdir()
    return path


def make_link(path):
    target = path.parent / "target"
    target.touch()
    path.symlink_to(target)
    return path


def make_dangling_link(path):
    path.symlink_to("/nowhere")
    return path


def make_pipe(path):
    os.mkfifo(path)
    return path


def make_below_a_file(path):
    path.touch()
    return path / "audit.jsonl"


@pytest.mark.parametrize(
    ("make", "number", "message", "hint"),
    [
        (make_missing, "E201", "The directory {parent} does not exist.", "Create it"),
        (make_directory, "E202", "{path} is a directory.", "Write the path of a file in it."),
        (make_link, "E204", "{path} is a symbolic link, which is not followed.", "Write the path"),
        (make_dangling_link, "E204", "{path} is a symbolic link, which is not followed.", "Write"),
        (make_pipe, "E205", "{path} is not a regular file.", "For the output of the process"),
        (make_below_a_file, "E203", "{path} cannot be reached: Not a directory.", "Correct"),
    ],
)
def test_a_path_that_cannot_serve_is_a_check_error_and_refused(path, make, number, message, hint):
    sink = FileSink(make_config(), path=make(path))
    message = message.format(path=sink.path, parent=sink.path.parent)

    (found,) = sink.check()
    assert isinstance(found, checks.Error)
    assert (found.id, found.msg) == (f"django_signal_audit.{number}", f"Sink 'audit': {message}")
    assert found.hint.startswith(hint)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the message is compared below
        sink.emit([make_event()])
    assert f"Sink 'audit': {message} {hint}" in str(caught.value)
    assert caught.value.filename == str(sink.path)
    assert sink._descriptor is None


# The suite may run as root, to whom permissions forbid nothing: these refuse it, too.


def test_a_directory_in_which_no_file_can_be_made_is_a_check_error():
    (found,) = FileSink(make_config(), path="/proc/audit.jsonl").check()

    assert found == checks.Error(
        "Sink 'audit': No file can be made in /proc by this process: No such file or directory.",
        hint="Permit its user to write to the directory, or write another path.",
        id="django_signal_audit.E203",
    )


def test_a_file_that_cannot_be_written_is_a_check_error(path):
    shutil.copy(shutil.which("sleep"), path)
    path.chmod(0o755)
    with subprocess.Popen([path, "60"]) as running:
        (found,) = FileSink(make_config(), path=path).check()
        running.kill()

    assert found == checks.Error(
        f"Sink 'audit': {path} cannot be written by this process: Text file busy.",
        hint="Permit its user to read and to write the file, or write another path.",
        id="django_signal_audit.E203",
    )


@contextmanager
def without_privileges():
    """As a user whom permissions bind, also where the suite runs as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("exists", [True, False])
def test_missing_permissions_are_a_check_error(exists):
    # pytest's own directories are closed to other users.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "audit.jsonl"
        if exists:
            path.touch(0o444)
        path.parent.chmod(0o555)
        sink = FileSink(make_config(), path=path)  # the package itself may be closed to others
        with without_privileges():
            (found,) = sink.check()
        path.parent.chmod(0o755)

    problem = f"{path} cannot be written" if exists else f"No file can be made in {path.parent}"
    assert found.id == "django_signal_audit.E203"
    assert found.msg == f"Sink 'audit': {problem} by this process: Permission denied."


def test_a_file_that_can_be_written_has_no_message_and_is_left_as_it_was(path):
    path.write_text("a line\n")
    before = path.stat()
    assert FileSink(make_config(), path=path).check() == []
    assert (path.read_text(), path.stat().st_mtime_ns) == ("a line\n", before.st_mtime_ns)


def test_a_check_leaves_no_file_behind(path):
    assert FileSink(make_config(), path=path).check() == []
    assert list(path.parent.iterdir()) == []


def test_a_file_that_cannot_be_opened_is_named(path, monkeypatch):
    def refuse(*args, **options):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="'audit': the file cannot be opened: Too many") as caught:
        FileSink(make_config(), path=path).emit([make_event()])
    assert caught.value.filename == str(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fsync": "always"}, "fsync is 'always'. Write 'never', 'interval' or 'commit'."),
        ({"fsync": True}, "fsync is True. Write 'never'"),
        ({"fsync_interval": 0}, "fsync_interval is 0. Write a number of seconds"),
        ({"fsync_interval": "1"}, "fsync_interval is '1'. Write a number of seconds"),
        ({"fsync_interval": math.inf}, "fsync_interval is inf. Write a number of seconds"),
        ({"fsync_interval": math.nan}, "fsync_interval is nan. Write a number of seconds"),
        ({"fsync_interval": True}, "fsync_interval is True. Write a number of seconds"),
        ({"timeout": 0}, "timeout is 0. Write a number of seconds above 0, at most 86400."),
        ({"timeout": -1}, "timeout is -1. Write a number of seconds"),
        ({"timeout": 86_401}, "timeout is 86401. Write a number of seconds"),
        ({"timeout": math.inf}, "timeout is inf. Write a number of seconds"),
        ({"timeout": math.nan}, "timeout is nan. Write a number of seconds"),
        ({"timeout": True}, "timeout is True. Write a number of seconds"),
        ({"timeout": "5"}, "timeout is '5'. Write a number of seconds"),
        ({"timeout": None}, "timeout is None. Write a number of seconds"),
        ({"mode": 0}, "mode is 0. The sink reads and writes its file: write 0o600."),
        ({"mode": 0o200}, "mode is 128. The sink reads and writes its file: write 0o600."),
        ({"mode": 0o444}, "mode is 292. The sink reads and writes its file: write 0o644."),
        ({"mode": 0o111}, "mode is 73. Nobody runs a trail: write 0o600, so"),
        ({"mode": True}, "mode is True. Write a number of permissions such as 0o640."),
        ({"mode": "0640"}, "mode is '0640'. Write a number of permissions such as 0o640."),
        ({"mode": 0o7777}, "mode is 4095. Write"),
        ({"path": ""}, "path is ''. Write the path of a file"),
        ({"path": b"/tmp/a"}, r"path is b'/tmp/a'. Write"),
        ({"path": "a\0b"}, r"path is 'a\\x00b'. Write"),
        ({"path": None}, "path is None. Write"),
    ],
)
def test_a_wrong_option_is_refused(path, options, message):
    with pytest.raises(AuditConfigurationError, match=f"Sink 'audit': {message}"):
        FileSink(make_config(), **({"path": path} | options))


def test_is_fit_for_production():
    assert not FileSink.development_only
    assert not FileSink.transactional
