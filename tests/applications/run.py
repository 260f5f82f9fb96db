"""Run the tests of applications that nobody here wrote, with and without audit.

``python -m tests.applications.run check`` fails where audit makes a difference that
``applications.toml`` does not explain, where one that it explains no longer shows, where nothing
was recorded, and where ``docs/explanation/other-applications.md`` says otherwise. ``write`` makes
the tables of that page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.applications import page
from tests.applications.judging import judge
from tests.applications.suites import PLAIN, Application, Run, fetch, read_list, run_suite


def main(arguments: list[str]) -> int:
    """Fetch, run, compare; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.applications.run", description=__doc__)
    parser.add_argument("what", choices=("check", "write"))
    parser.add_argument("--folder", type=Path, help="where to unpack; a temporary one by default")
    parser.add_argument("--only", help="a part of the names of those to run; not with `write`")
    told = parser.parse_args(arguments)
    chosen = [one for one in read_list() if (told.only or "") in one.name]
    if not chosen or (told.only and told.what == "write"):
        parser.error("--only must name one of the list, and `write` needs them all.")
    with tempfile.TemporaryDirectory(prefix="applications-") as temporary:
        folder = (told.folder or Path(temporary)).resolve()
        runs = [(one, run_all(one, folder)) for one in chosen]
    wrong = [f"{one.name}: {said}" for one, by_mode in runs for said in judge(one, by_mode)]
    if not told.only:
        blocks = page.make_blocks(runs)
        if told.what == "write":
            page.write(blocks)
        else:
            wrong += page.stale(blocks)
    for complaint in wrong:
        _say(complaint)
    return int(bool(wrong))


def run_all(application: Application, folder: Path) -> dict[str, Run]:
    """All runs of one application, by ``PLAIN`` and the audited ones' ``BLIND_WRITES``."""
    unpacked = fetch(application, folder)
    runs = {}
    for audit in (PLAIN, *application.runs):
        runs[audit] = run = run_suite(application, unpacked, audit)
        told = f"{len(run.tests)} tests, {len(run.failed())} failed, {run.seconds:.0f} s"
        _say(f"{application.name}, {page.MODES[audit]}: {told}")
    return runs


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
