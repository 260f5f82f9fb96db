"""Counters that all processes of a machine add to."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import override_settings

from django_signal_audit.sinks import counters, shared_counts, state

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, signal, sys
from pathlib import Path
from django_signal_audit.sinks import shared_counts

directory = Path(sys.argv[1])
children = []
for name in range(8):
    child = os.fork()
    if not child:
        for number in range(500):
            shared_counts.add(directory, "a", {0: 1, 1: 2})
        shared_counts.close()
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children]
# The parent adds too, with descriptors and numbers that no child may take for its own.
shared_counts.add(directory, "a", {0: 1})
child = os.fork()
if not child:
    shared_counts.add(directory, "a", {0: 1})
    os.kill(os.getpid(), signal.SIGKILL)
codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert codes == [0] * 8 + [-9], codes
"""


@pytest.fixture
def directory(tmp_path):
    shared_counts.close()
    with override_settings(SIGNAL_AUDIT={"STATE_DIR": str(tmp_path / "state")}):
        yield tmp_path / "state"
    shared_counts.close()


def test_nothing_is_shared_without_a_directory(tmp_path):
    counters.count("a", "written", 1)

    assert counters.of_all_processes() is None
    counters.reset_of_all_processes()
    assert counters.snapshot() == {"a": {"written": 1}}


def test_every_process_adds_to_the_same_numbers(directory):
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory)], cwd=ROOT, check=True, timeout=60
    )
    counters.count_all("a", {"emitted": 3, "lost": 1, "slow": 0})
    counters.count("b/c", "truncated", 2)

    assert counters.of_all_processes() == {
        "a": {"emitted": 4005, "written": 8000, "lost": 1},
        "b/c": {"truncated": 2},
    }
    assert counters.snapshot() == {"a": {"emitted": 3, "lost": 1}, "b/c": {"truncated": 2}}


def test_they_outlive_the_process_and_can_be_set_to_zero(directory):
    counters.count("a", "written", 1)
    shared_counts.close()
    counters.count("a", "written", 1)
    assert counters.of_all_processes() == {"a": {"written": 2}}

    counters.reset_of_all_processes()
    assert counters.of_all_processes() == {"a": {}}
    counters.count("a", "written", 1)
    assert counters.of_all_processes() == {"a": {"written": 1}}


def test_nobody_waits_long_for_another_process_and_nothing_is_forgotten(directory, monkeypatch):
    monkeypatch.setattr(shared_counts, "_PATIENCE", 0.001)
    counters.count("a", "written", 1)
    descriptor = os.open(directory / "a.counters", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    counters.count("a", "written", 10)
    assert counters.of_all_processes() == {"a": {"written": 1}}
    # From then on it is not waited for at all, for whoever has the lock may be stopped.
    monkeypatch.setattr(shared_counts.time, "sleep", pytest.fail)
    counters.count("a", "failed", 1)

    os.close(descriptor)
    counters.count("a", "written", 100)
    assert counters.of_all_processes() == {"a": {"written": 111, "failed": 1}}


def test_what_is_still_to_be_added_is_added_at_the_end(directory, monkeypatch):
    counters.count("a", "written", 1)
    descriptor = os.open(directory / "a.counters", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    monkeypatch.setattr(shared_counts, "_PATIENCE", 0)
    counters.count("a", "written", 10)
    monkeypatch.setattr(shared_counts.time, "sleep", lambda seconds: os.close(descriptor))
    shared_counts.close()

    assert counters.of_all_processes() == {"a": {"written": 11}}


def test_the_end_does_not_wait_for_ever(directory, monkeypatch):
    counters.count("a", "written", 1)
    descriptor = os.open(directory / "a.counters", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    counters.count("a", "written", 10)
    monkeypatch.setattr(shared_counts, "_PATIENCE_AT_EXIT", 0)
    shared_counts.close()
    os.close(descriptor)

    assert counters.of_all_processes() == {"a": {"written": 1}}


def test_a_signal_handler_that_counts_amid_the_counting(directory, monkeypatch):
    pread = os.pread

    def interrupted(*args):
        monkeypatch.undo()
        found = pread(*args)
        counters.count("a", "lost", 1)
        return found

    monkeypatch.setattr(os, "pread", interrupted)
    counters.count("a", "written", 1)
    counters.count("a", "written", 1)

    assert counters.of_all_processes() == {"a": {"written": 2, "lost": 1}}


def test_a_file_that_was_removed_is_made_anew(directory):
    counters.count("a", "written", 1)
    (directory / "a.counters").unlink()
    counters.count("a", "written", 1)

    assert counters.of_all_processes() == {"a": {"written": 1}}


def test_a_file_of_something_else_counts_as_zero(directory):
    directory.mkdir()
    (directory / "a.counters").write_bytes(b"x" * 1000)
    (directory / "b.counters").write_bytes(b"x")

    assert counters.of_all_processes() == {"a": {}, "b": {}}


def test_a_failure_is_said_once_and_counts_go_on(directory, caplog):
    directory.mkdir()
    (directory / "a.counters").mkdir()
    counters.count("a", "written", 1)
    counters.count("a", "written", 1)

    assert counters.snapshot() == {"a": {"written": 2}}
    assert caplog.text.count("The counters of audit sink 'a' cannot be kept: ") == 1
    shared_counts.close()
    assert "Counters of audit sink 'a' were not kept: " in caplog.text


def test_a_full_disk_forgets_nothing(directory, monkeypatch):
    counters.count("a", "written", 1)

    def fail(*args):
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        patch.setattr(shared_counts, "_failed", set())
        counters.count("a", "written", 1)
    counters.count("a", "written", 1)
    assert counters.of_all_processes() == {"a": {"written": 3}}


def test_while_the_settings_are_wrong_this_process_counts_for_itself():
    with override_settings(SIGNAL_AUDIT={"STATE_DRI": "/x"}):
        counters.count("a", "written", 1)
        assert state.directory() is None

    assert counters.snapshot() == {"a": {"written": 1}}


def test_a_forked_child_takes_no_lock_of_its_parent(directory):
    counters.count("a", "written", 1)
    assert shared_counts._files
    descriptor = os.open(directory / "a.counters", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    counters.count("a", "written", 1)
    shared_counts._forget()
    os.close(descriptor)

    assert not shared_counts._files
    counters.count("a", "written", 1)
    assert counters.of_all_processes() == {"a": {"written": 2}}, "what waited is the parent's"


def test_there_is_room_for_every_outcome():
    assert len(counters.OUTCOMES) <= shared_counts._PLACES
