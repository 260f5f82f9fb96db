"""Each system call of a short run of the file sink fails once, or is where the process is killed.

``strace`` does it. What the run has acknowledged must be in its files. So it is with a spool.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import orjson
import pytest

from django_signal_audit.file_trail import FileTrail, list_rotated
from tests.sinks import fault_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

WRITING = ("write", "pwrite64", "writev")
SYNCING = ("fsync", "fdatasync")
# Some machines lack those with a question mark.
OPENING = ("openat", "?open")
NAMING = ("?rename", "?renameat", "renameat2", "?link", "linkat", "?unlink", "unlinkat")
OTHER = ("ftruncate", "flock", "fchmod")
CALLS = (*WRITING, *SYNCING, *OPENING, *NAMING, *OTHER)

# Where the kernel may say so; of names it does on a file system in a network or of a program.
FAULTS = {
    "error=ENOSPC": (*WRITING, *SYNCING, *OPENING, *NAMING),
    "error=EIO": CALLS,
    "error=EINTR": CALLS,
    "signal=KILL": CALLS,
}

LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)")


@dataclass(frozen=True)
class Point:
    """The n-th call of a name in a run."""

    call: str
    number: int
    said: str


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    code: int
    log: str
    report: list[list[str]]

    def messages(self, word):
        """Of what was acknowledged as written, or failed."""
        return [
            message
            for said, *messages in self.report
            for message in messages
            if said == word and message.count(":") == 2
        ]


class Runs:
    """Runs one after another, each in a folder, traced or not."""

    def __init__(self, program, folder):
        self._program = program
        self._folder = folder
        self._numbers = count()

    def new_folder(self):
        folder = self._folder / f"run {next(self._numbers)}"
        folder.mkdir()
        return folder

    def run(self, folder, *inject, traced=True, **options):
        """One run; ``inject`` is what strace does to it."""
        number = next(self._numbers)
        report = self._folder / f"report {number}"
        log = self._folder / f"log {number}"
        order = {"folder": str(folder), "report": str(report), "name": f"n{number}", **options}
        self._say(json.dumps(order))
        process = self._answer()
        if traced:
            tracer = attach(process, log, inject)
        self._say("go")
        code = self._answer()
        if traced:
            tracer.wait(60)
            tracer.stderr.close()
        return Outcome(
            code,
            log.read_text() if traced else "",
            [json.loads(line) for line in report.read_text().splitlines()],
        )

    def _say(self, line):
        self._program.stdin.write(f"{line}\n")
        self._program.stdin.flush()

    def _answer(self):
        return int(self._program.stdout.readline())


def attach(process, log, inject):
    """Start strace on a process that waits; skip the test where that is not permitted."""
    tracer = subprocess.Popen(
        [
            "strace",
            *("-f", "-y", "-p", str(process), "-o", log),
            *("-e", f"trace={','.join(CALLS)}"),
            *(word for what in inject for word in ("-e", f"inject={what}")),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    said = tracer.stderr.readline()
    if "attached" not in said:
        tracer.communicate(timeout=60)
        cannot(f"strace cannot trace here: {said.strip()}")
    return tracer


def cannot(reason):
    if os.environ.get("REQUIRE_FAULTS") == "1":
        pytest.fail(f"REQUIRE_FAULTS=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    if shutil.which("strace") is None:
        cannot("strace is not installed")
    folder = tmp_path_factory.mktemp("faults")
    with (
        (folder / "errors").open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", fault_run.__name__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as program,
    ):
        yield Runs(program, folder)


@pytest.fixture(scope="module")
def points(runs):
    """The calls of a run that concern its folder, in order."""
    folder = runs.new_folder()
    outcome = runs.run(folder)
    verify(folder, outcome)
    assert outcome.messages("failed") == []
    return points_in(outcome.log, folder)


@pytest.fixture(scope="module")
def spool_points(runs):
    """The calls of a run that concern a spool, in order."""
    folder = runs.new_folder()
    outcome = runs.run(folder, spooling=True)
    assert outcome.messages("failed") == []
    verify_delivered(folder, outcome)
    return points_in(outcome.log, folder / "state")


def points_in(log, folder):
    seen = Counter()
    found = []
    for line in log.splitlines():
        if parts := LINE.match(line):
            seen[parts[1]] += 1
            if str(folder) in parts[2]:
                found.append(Point(parts[1], seen[parts[1]], line))
    return found


def verify_delivered(folder, *outcomes):
    """What was acknowledged came out of the spool, at least once and in order; nothing is left."""
    written = [message for outcome in outcomes for message in outcome.messages("written")]
    trail = FileTrail([folder / "audit.jsonl"])
    found = [event.message for event in trail]
    assert [message for message in found if message in set(written)] == written
    assert not any(trail.damaged.values())
    assert not [file for file in (folder / "state").glob("*.jsonl") if file.stat().st_size]


def verify(folder, *outcomes):
    """What was acknowledged is in the files, once and in order, and no line is damaged."""
    path = folder / "audit.jsonl"
    written = [message for outcome in outcomes for message in outcome.messages("written")]
    trail = FileTrail([path], rotated=True)
    found = [event.message for event in trail]
    assert [message for message in found if message in set(written)] == written
    assert not any(trail.damaged.values()), trail.damaged
    raw = [orjson.loads(line)["message"] for line in raw_lines(path)]
    assert sorted(raw) == sorted(set(found)), "no line is there twice"


def raw_lines(path):
    """Of each rotated file, and of the current one."""
    lines = []
    for stem in list_rotated(path):
        packed = stem.with_name(f"{stem.name}.gz")
        if stem.exists():
            # A process that was killed in between leaves both, and readers take the first.
            if not path.exists() or not stem.samefile(path):
                lines += stem.read_bytes().splitlines()
        elif packed.exists():
            lines += gzip.decompress(packed.read_bytes()).splitlines()
    return [*lines, *path.read_bytes().splitlines()] if path.exists() else lines


def with_fault(runs, point, fault, **options):
    """A run in which one call fails or is the last; its folder, and how it ended."""
    folder = runs.new_folder()
    outcome = runs.run(folder, f"{point.call}:{fault}:when={point.number}", **options)
    if fault == "signal=KILL":
        assert outcome.code == -signal.SIGKILL
        assert ["ended"] not in outcome.report
    else:
        (injected,) = (line for line in outcome.log.splitlines() if "(INJECTED)" in line)
        assert str(folder) in injected, "the count was of another call"
        assert outcome.code == 0
        assert outcome.report[-1] == ["ended"]
    return folder, outcome


def each(points, fault):
    calls = {call.lstrip("?") for call in FAULTS[fault]}
    return [point for point in points if point.call in calls]


def test_a_run_does_all_that_can_fail(points):
    kinds = Counter(point.call.removesuffix("at2").removesuffix("at") for point in points)

    assert set(kinds) >= {"write", "fsync", "open", "rename", "link", "unlink"}
    assert 2 <= kinds["link"] <= 3, "so many rotations"
    assert kinds["unlink"] == kinds["link"], "and as many files compressed"


@pytest.mark.parametrize("fault", ["error=ENOSPC", "error=EIO"])
def test_an_error_costs_one_call_at_most_and_nothing_that_was_acknowledged(runs, points, fault):
    failing = Counter()
    for point in each(points, fault):
        folder, outcome = with_fault(runs, point, fault)
        try:
            verify(folder, outcome)
            failed = [words for words in outcome.report if words[0] == "failed"]
            assert len(failed) <= 1
            failing[point.call] += len(failed)
        except AssertionError as error:
            error.add_note(f"{fault} at {point}; {outcome.report}")
            raise

    assert failing["write"] == len(fault_run.SIZES), "each line that could not be written is told"


def test_an_interruption_is_not_seen(runs, points):
    """Nor one while a file gets or loses a name, which Python does not try again."""
    for point in each(points, "error=EINTR"):
        folder, outcome = with_fault(runs, point, "error=EINTR")
        try:
            verify(folder, outcome)
            said = [words[0] for words in outcome.report]
            assert said == ["written"] * len(fault_run.SIZES) + ["ended"]
            # A rotation that did not come about is made up for by the next emit.
            current = folder / "audit.jsonl"
            assert list_rotated(current)
            assert current.stat().st_size <= fault_run.ROTATE_BYTES
            after = runs.run(folder, traced=False)
            assert after.messages("failed") == []
            verify(folder, outcome, after)
        except AssertionError as error:
            error.add_note(f"EINTR at {point}; {outcome.report}")
            raise
        names = {path.suffix for path in folder.iterdir()}
        assert names <= {".jsonl", ".gz"}, "nothing unfinished is left"


def test_a_process_killed_anywhere_leaves_what_was_acknowledged_and_the_next_goes_on(runs, points):
    for point in each(points, "signal=KILL"):
        folder, killed = with_fault(runs, point, "signal=KILL")
        try:
            verify(folder, killed)
            after = runs.run(folder, traced=False)
            assert after.messages("failed") == []
            verify(folder, killed, after)
        except AssertionError as error:
            error.add_note(f"killed at {point}; {killed.report}")
            raise
        names = {path.suffix for path in folder.iterdir()}
        assert names <= {".jsonl", ".gz"}, "nothing unfinished is left"


def test_a_sink_that_acknowledges_what_it_has_not_written_is_found_out(runs, points):
    point = next(point for point in points if point.call == "write")
    folder, outcome = with_fault(runs, point, "error=ENOSPC", careless=True)

    with pytest.raises(AssertionError):
        verify(folder, outcome)


def test_a_run_of_a_spool_does_all_that_can_fail(spool_points):
    calls = {point.call for point in spool_points}

    assert calls >= {"write", "pwrite64", "fsync", "ftruncate", "openat", "flock"}


@pytest.mark.parametrize("fault", ["error=ENOSPC", "error=EIO", "error=EINTR", "signal=KILL"])
def test_what_a_spool_acknowledged_is_delivered_whatever_fails(runs, spool_points, fault):
    for point in each(spool_points, fault):
        folder, outcome = with_fault(runs, point, fault, spooling=True)
        try:
            after = runs.run(folder, traced=False, spooling=True)
            assert after.messages("failed") == []
            assert len(after.messages("written")) == sum(fault_run.SIZES)
            verify_delivered(folder, outcome, after)
        except AssertionError as error:
            error.add_note(f"{fault} at {point}; {outcome.report}")
            raise
