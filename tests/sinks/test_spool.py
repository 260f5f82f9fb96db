"""The spool: in order, nothing lost, and at most one transaction twice."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from django_signal_audit.sinks import _spool_file, state
from django_signal_audit.sinks import spool as spool_module
from django_signal_audit.sinks.spool import Drained, Spool, Waiting, find_spools
from tests.factories import make_event

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "state", "a/file")


def messages(events):
    return [event.message for event in events]


def test_an_alias_of_any_text_has_a_file_of_its_own(spool, tmp_path):
    Spool(tmp_path / "state", "a").append([make_event()])
    spool.append([make_event(), make_event()])

    found = find_spools(tmp_path / "state")
    assert {alias: one.waiting().events for alias, one in found.items()} == {"a": 1, "a/file": 2}


def test_nothing_is_made_before_there_is_something_to_keep(spool, tmp_path):
    assert spool.is_empty()
    assert spool.waiting() == Waiting(0, 0, None)
    assert list(tmp_path.iterdir()) == []
    assert find_spools(tmp_path / "state") == {}


def test_it_can_be_read_by_owner_and_group_alone(spool):
    spool.append([make_event()])

    assert stat.S_IMODE(spool.path.stat().st_mode) & ~0o640 == 0
    assert stat.S_IMODE(spool.path.parent.stat().st_mode) & ~0o750 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody else can give files away")
def test_what_root_makes_belongs_to_the_owner_of_the_directory(tmp_path):
    os.chown(tmp_path, 65534, 65534)
    made = Spool(tmp_path / "state", "a")
    made.append([make_event()])

    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (made.path, made.path.parent)}
    assert owners == {(65534, 65534)}


def test_events_come_back_as_they_were_in_order_and_by_transaction(spool):
    one, other = uuid.uuid4(), uuid.uuid4()
    events = [
        make_event(transaction=one, message="1", changes={"a": [None, "\u2028\n\x1b"]}),
        make_event(transaction=one, message="2"),
        make_event(transaction=other, message="3"),
        make_event(message="4"),
        make_event(message="5"),
    ]
    spool.append(events[:2])
    spool.append(events[2:])
    calls = []

    assert spool.waiting() == Waiting(5, 0, events[0])
    assert spool.drain(calls.append) == Drained(delivered=5)
    assert calls == [events[:2], events[2:3], events[3:4], events[4:]]
    assert spool.is_empty()
    assert spool.path.stat().st_size == 0
    assert spool.drain(calls.append) == Drained()


def test_a_large_transaction_is_handed_over_in_parts(spool):
    events = [make_event(transaction=uuid.UUID(int=1)) for _ in range(spool_module.MAX_GROUP + 1)]
    spool.append(events)
    sizes = []

    spool.drain(lambda given: sizes.append(len(given)))
    assert sizes == [spool_module.MAX_GROUP, 1]


def test_lines_longer_than_what_is_read_at_once(spool, monkeypatch):
    monkeypatch.setattr(_spool_file, "_BLOCK", 100)
    events = [make_event(data={"filler": "x" * 1000}) for _ in range(3)]
    spool.append(events)
    given = []

    spool.drain(given.extend)
    assert given == events


def test_a_failure_keeps_that_transaction_and_all_after_it(spool):
    events = [make_event(message=str(number)) for number in range(4)]
    spool.append(events)
    error = OSError("no")
    given = []

    def emit(part):
        if part == [events[2]]:
            raise error
        given.extend(part)

    assert spool.drain(emit) == Drained(delivered=2, error=error, refused=(events[2],))
    assert spool.waiting() == Waiting(2, 0, events[2])
    spool.append([make_event(message="4")])
    given.clear()
    assert spool.drain(given.extend) == Drained(delivered=3)
    assert messages(given) == ["2", "3", "4"]


def test_an_interruption_keeps_what_was_not_taken(spool):
    spool.append([make_event()])
    error = KeyboardInterrupt()

    def emit(events):
        raise error

    assert spool.drain(emit).error is error
    assert spool.waiting().events == 1


def test_it_stops_when_time_is_over(spool):
    events = [make_event() for _ in range(3)]
    spool.append(events)
    given = []

    assert spool.drain(given.extend, seconds=0) == Drained(delivered=1)
    assert spool.waiting() == Waiting(2, 0, events[1])
    spool.drain(given.extend, seconds=60)
    assert given == events
    assert spool.is_empty()


def test_what_is_added_while_it_is_emptied_is_delivered_too(spool):
    first, second = make_event(message="1"), make_event(message="2")
    spool.append([first])
    given = []

    def emit(events):
        given.extend(events)
        if events == [first]:
            spool.append([second])  # nobody who adds waits for who delivers

    assert spool.drain(emit) == Drained(delivered=2)
    assert given == [first, second]
    assert spool.is_empty()


def test_one_delivers_at_a_time(spool):
    spool.append([make_event()])
    inside, done = threading.Event(), threading.Event()

    def emit(events):
        inside.set()
        assert done.wait(10)

    thread = threading.Thread(target=spool.drain, args=(emit,))
    thread.start()
    assert inside.wait(10)
    try:
        assert spool.drain(lambda events: None) == Drained(is_busy=True)
    finally:
        done.set()
        thread.join()
    assert spool.is_empty()


def test_a_line_that_a_killed_process_left_torn_is_put_aside(spool):
    spool.append([make_event(message="1")])
    with spool.path.open("ab") as file:
        file.write(b'{"id": "torn')
    assert spool.waiting().damaged == 1
    spool.append([make_event(message="2")])
    given = []

    assert spool.waiting().damaged == 1
    assert spool.drain(given.extend) == Drained(delivered=2, damaged=1)
    assert messages(given) == ["1", "2"]
    assert spool.skipped_path.read_bytes() == b'{"id": "torn\n'


def test_an_empty_line_is_no_damage(spool):
    """Such as ends a torn line that was put aside before the next event came."""
    spool.append([make_event()])
    with spool.path.open("ab") as file:
        file.write(b"\n")
    spool.append([make_event()])

    assert spool.waiting().damaged == 0
    assert spool.drain(lambda events: None) == Drained(delivered=2)


def test_a_torn_line_at_the_very_end_is_put_aside(spool):
    spool.append([make_event()])
    with spool.path.open("ab") as file:
        file.write(b'{"id": "torn')

    assert spool.drain(lambda events: None) == Drained(delivered=1, damaged=1)
    assert spool.is_empty()


@pytest.mark.parametrize("torn", [b"{", b'{"audit_spool": 1, "delivered_to_byte": "0000'])
def test_a_process_killed_amid_the_very_first_line(spool, torn):
    spool.path.parent.mkdir()
    spool.path.write_bytes(torn)

    assert spool.waiting() == Waiting(0, 0, None)
    assert spool.drain(lambda events: None) == Drained()
    assert spool.is_empty()
    spool.path.write_bytes(torn)
    event = make_event()
    spool.append([event])
    given = []
    spool.drain(given.extend)
    assert given == [event]


def test_a_file_that_is_no_spool_is_refused(spool):
    spool.path.parent.mkdir()
    spool.path.write_bytes(b"x" * 200 + b"\n")

    with pytest.raises(OSError, match="its first line was changed") as refused:
        spool.waiting()
    assert refused.value.errno == errno.EBADMSG
    assert refused.value.filename == str(spool.path)


def test_no_symbolic_link_is_followed(spool, tmp_path):
    spool.path.parent.mkdir()
    spool.path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match=r"symbolic|exists"):
        spool.append([make_event()])
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("written", [10, None])
def test_a_full_disk_adds_nothing(spool, monkeypatch, written):
    spool.append([make_event()])
    before = spool.path.read_bytes()
    write = os.write

    def short_write(descriptor, data):
        if written is None:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, bytes(data)[:written])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short_write)
        with pytest.raises(OSError, match=r"10 of \d+ bytes|full"):
            spool.append([make_event()])
    assert spool.path.read_bytes() == before


def test_what_cannot_be_cut_off_is_ended_by_the_next_line(spool, monkeypatch):
    spool.append([make_event(message="1")])
    write = os.write

    def refuse(*args):
        raise OSError(errno.EPERM, "append only")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:5]))
        patch.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="bytes could be written") as failed:
            spool.append([make_event()])
    assert "could not be cut off again" in failed.value.__notes__[0]
    spool.append([make_event(message="2")])
    given = []
    assert spool.drain(given.extend) == Drained(delivered=2, damaged=1)
    assert messages(given) == ["1", "2"]


def test_the_next_event_can_be_taken_out_of_the_way(spool):
    events = [make_event(message=str(number)) for number in range(3)]
    assert not spool.skip(events[0].id), "nothing waits"
    spool.append(events[:2])
    with spool.path.open("ab") as file:
        file.write(b"torn")
    spool.append(events[2:])

    assert not spool.skip(events[1].id), "it is not the next one"
    assert spool.skip(events[0].id)
    assert spool.skip(events[1].id)
    assert spool.skip(events[2].id)
    assert spool.is_empty()
    lines = spool.skipped_path.read_bytes().splitlines()
    assert lines.pop(2) == b"torn"
    assert [json.loads(line)["message"] for line in lines] == ["0", "1", "2"]


def test_another_process_that_makes_the_file_first(spool, monkeypatch):
    """Between finding no file and making one."""
    made = os.open
    rival = Spool(spool.path.parent, "a/file")

    def open_late(path, flags, *args, **kwargs):
        if flags & os.O_EXCL and Path(path) == spool.path:
            monkeypatch.undo()
            rival.append([make_event(message="1")])
        return made(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_late)
    spool.append([make_event(message="2")])
    given = []
    spool.drain(given.extend)
    assert messages(given) == ["1", "2"]


def test_a_fork_while_the_lock_is_held_locks_nobody_out(spool, monkeypatch):
    """The child has the lock too, until it ends: so it is released by word."""
    spool.append([make_event()])
    descriptors = []
    flock = fcntl.flock

    def keep_a_copy(descriptor, operation):
        flock(descriptor, operation)
        if operation & fcntl.LOCK_EX:
            descriptors.append(os.dup(descriptor))  # as a forked child has

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", keep_a_copy)
        spool.append([make_event()])
        spool.drain(lambda events: None)
    try:
        assert len(descriptors) > 2
        spool.append([make_event()])
        assert spool.drain(lambda events: None) == Drained(delivered=1)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_a_child_forked_amid_a_delivery_gives_up_its_parents_locks(spool):
    spool.append([make_event(message="1")])

    def emit(events):
        _spool_file._leave_to_the_parent()  # what a fork does in the child

    with pytest.raises(OSError, match="Bad file descriptor"):
        spool.drain(emit)
    assert not _spool_file._open
    assert spool.drain(lambda events: None) == Drained(delivered=1)


def test_a_process_that_is_stopped_amid_an_addition_keeps_others_waiting_for_a_while(
    spool, monkeypatch
):
    monkeypatch.setattr(_spool_file, "_PATIENCE", 0.01)
    spool.append([make_event()])
    with spool.path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="lslocks shows which one"):
            spool.append([make_event()])
    spool.append([make_event()])
    assert spool.waiting().events == 2


def test_a_signal_handler_that_adds_amid_an_addition_gets_an_error_and_waits_for_nothing(
    spool, monkeypatch
):
    spool.append([make_event()])
    write, caught = os.write, []

    def interrupted(descriptor, data):
        monkeypatch.undo()
        try:
            spool.append([make_event()])
        except RuntimeError as error:
            caught.append(str(error))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", interrupted)
    spool.append([make_event()])

    assert len(caught) == 1
    assert "Record the event after these return" in caught[0]
    assert spool.waiting().events == 2


def test_what_is_cut_while_it_is_read_ends_the_reading(spool, monkeypatch):
    events = [make_event(message=str(number)) for number in range(20)]
    spool.append(events)
    monkeypatch.setattr(_spool_file, "_BLOCK", 300)
    pread, reads = os.pread, []

    def cut_first(descriptor, length, offset):
        reads.append(offset)
        if len(reads) == 5:
            spool.path.write_bytes(b"")
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", cut_first)
    assert spool.waiting().events < 20
    assert len(reads) == 5


def test_counting_while_another_process_delivers_finds_no_damage(spool, monkeypatch):
    spool.append([make_event()])
    with spool.path.open("ab") as file:
        file.write(b"torn\n")

    with spool._delivering() as mine:
        assert mine
        assert spool.waiting().damaged == 0
        monkeypatch.setattr(spool_module, "_PATIENCE", 0)
        with pytest.raises(TimeoutError, match="another process is delivering"):
            spool.skip(uuid.uuid4())
    assert spool.waiting().damaged == 1


def test_one_event_at_a_time_finds_the_one_that_is_refused(spool):
    events = [make_event(transaction=uuid.UUID(int=1)) for _ in range(4)]
    spool.append(events)
    error = OSError("that one")

    def emit(given):
        if events[2] in given:
            raise error

    assert spool.drain(emit) == Drained(error=error, refused=tuple(events))
    assert spool.drain(emit, singly=True) == Drained(2, error=error, refused=(events[2],))


def test_the_group_may_write_what_it_may_write_to_the_directory_of(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o770)
    made = Spool(tmp_path / "state", "a")
    made.append([make_event()])

    assert stat.S_IMODE(made.path.stat().st_mode) & 0o067 in (0o060, 0o020)


def test_pauses_grow_once_for_all_threads_that_failed_together(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(spool_module.time, "monotonic", lambda: clock[0])
    pause = spool_module.Pause()
    found = []
    for _ in range(8):
        for _ in range(4):
            pause.begin()
        found.append(pause.seconds)
        clock[0] = pause.until
    assert found == [1, 2, 4, 8, 16, 32, 60, 60]
    pause.forget()
    pause.begin()
    assert pause.seconds == 1


def test_killed_at_any_moment_nothing_is_lost_and_the_order_stays(tmp_path):
    """Eight rounds of writers and deliverers that are killed, then one that is not."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.sinks.spool_writers", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    delivered = report["delivered"]

    assert len(report["acknowledged"]) > 50
    assert set(report["acknowledged"]) <= set(delivered)
    for name in {message.split(":")[0] for message in delivered}:
        numbers = [int(m.split(":")[1]) for m in delivered if m.split(":")[0] == name]
        # What was delivered when a process was killed comes again, and goes on from there.
        steps = {after - before for before, after in itertools.pairwise(numbers)}
        assert steps <= {0, 1}
    assert len(delivered) - len(set(delivered)) <= report["killed_deliverers"]


def test_a_name_that_outlives_a_power_cut(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def remember(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", remember)
    Spool(tmp_path / "state", "a").append([make_event()])
    assert synced == ["state", "a.spool.jsonl"]


def test_a_directory_that_another_process_makes_first(tmp_path, monkeypatch):
    def late(self, mode):
        mkdir(self, mode)
        raise FileExistsError

    mkdir = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", late)
    os.close(state.open_file(tmp_path / "state" / "a"))
    assert (tmp_path / "state" / "a").exists()
