"""The benchmark runs, and records all that it measures."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
LINE = re.compile(r"^.{47} +\d+ -> \d+ +[\d.]+ +[\d.]+ +[\d.]+ +(100%|none)$")


def run_benchmark(*arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / "writes.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_benchmark_measures_each_kind_of_write_and_records_all_of_it():
    from benchmarks.kinds import KINDS  # noqa: PLC0415 - the module needs settings

    done = run_benchmark("--rounds", "1", "--rows", "4")
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, *lines = done.stdout.splitlines()
    assert [line[:47].rstrip() for line in lines] == [kind.title for kind in KINDS]
    assert all(map(LINE.match, lines)), done.stdout
    assert len(lines) <= 55, "it is to be read on one page"


@pytest.mark.parametrize("option", ["--rounds", "--rows"])
def test_numbers_of_nothing_are_refused(option):
    done = run_benchmark(option, "0")
    assert done.returncode == 2
    assert "must be at least 1" in done.stderr
