"""What was run on which Python, Django and database, and the page in the docs that says so.

As a pytest plugin, with ``MATRIX_DIR`` set: leaves a file in that folder for each run of the suite,
or of the tests of capture alone.
As a program: ``python tests/matrix.py write DIR`` makes the page of those files, ``check DIR``
fails where the page claims a combination that was not run, or lacks one that was. The
versions and counts on the page are those of the last ``write``; ``check`` compares major and minor
versions of Python and Django, and the database by its name. ``capture`` says which tests are
those of capture.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "tested-versions.md"
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB"}
CAPTURE = ("tests/capture", "tests/replay", "tests/test_internals.py")
"""Whether a trail is true, and the shape of what it rests on in Django."""

HEADER = ("Python", "Django", "database", "passed", "skipped")
TEXT = """\
# What was tested

Made by the tests (`python tests/matrix.py write`) from the runs of `.ci/run` on {date}.
`.ci/run` fails where this table names a combination that it has not run. Tests that ask no
database run once for each Django; what is skipped is mostly about another database.

{whole}

Capture depends most on Django and the database, so its own tests and the replayed trails
({paths}) also run where the rest of the suite does not:

{capture}

Every warning was an error. The other supported combinations of Python and Django have an
environment of their own too, such as `tox run -e py313-django52-postgres`, and so has Python 3.14;
they are not a part of `.ci/run`.
"""

_database: dict[str, str] = {}


def describe_database() -> dict[str, str]:
    """The default alias's database, asked by a query; only where tests may use one."""
    from django.db import connection  # noqa: PLC0415 - needs the settings

    question = "SELECT sqlite_version()" if connection.vendor == "sqlite" else "SELECT version()"
    with connection.cursor() as cursor:
        cursor.execute(question)
        answer = str(cursor.fetchone()[0])
    connection.close()
    version = re.search(r"\d+(\.\d+)+", answer)
    return {"name": DATABASES[connection.vendor], "version": version[0] if version else answer}


def remember_database(config: Any) -> None:
    """Keep the answer where the end of the run finds it, also from a worker of xdist."""
    found = describe_database()
    _database.update(found)
    if hasattr(config, "workeroutput"):
        config.workeroutput["database"] = found


def pytest_testnodedown(node: Any, error: Any) -> None:
    """A worker has ended: take over what it found."""
    _database.update(getattr(node, "workeroutput", {}).get("database", {}))


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: Any) -> None:
    """The run has ended: leave its line, if it was good, and whole or of all of capture."""
    folder = os.environ.get("MATRIX_DIR")
    scope = scope_of(config)
    if not folder or exitstatus or not _database or scope is None:
        return
    import django  # noqa: PLC0415 - the program part needs none

    run = {
        "scope": scope,
        "python": platform.python_version(),
        "django": django.__version__,
        "database": dict(_database),
        "passed": len(terminalreporter.stats.get("passed", ())),
        "skipped": len(terminalreporter.stats.get("skipped", ())),
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{'-'.join(combination(run))}.json").write_text(json.dumps(run))


def scope_of(config: Any) -> str | None:
    """What a run was of: ``whole``, ``capture``, or ``None`` for tests that somebody has picked."""
    if hasattr(config, "workerinput"):
        return None  # a worker of xdist has run its share only
    asked = config.option
    if (
        asked.keyword
        or asked.deselect
        or getattr(asked, "lf", False)
        or not asked.markexpr.startswith("not slow")
    ):
        return None
    if config.args_source is not config.ArgsSource.ARGS:
        return "whole"
    return "capture" if set(config.args) == set(CAPTURE) else None


def combination(run: dict[str, Any]) -> tuple[str, str, str, str]:
    """What two runs must differ in to be two rows."""
    python, django = (".".join(run[name].split(".")[:2]) for name in ("python", "django"))
    return python, django, run["database"]["name"], run["scope"]


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """The runs that left a file, in the order of the table."""
    runs = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(runs, key=lambda run: [_sortable(word) for word in combination(run)[:3]])


def _sortable(word: str) -> tuple[int, ...]:
    if word in DATABASES.values():
        return (list(DATABASES.values()).index(word),)
    return tuple(int(part) for part in word.split("."))


def make_table(runs: list[dict[str, Any]]) -> str:
    """The runs as a Markdown table."""
    rows = [
        (
            run["python"],
            run["django"],
            f"{run['database']['name']} {run['database']['version']}",
            str(run["passed"]),
            str(run["skipped"]),
        )
        for run in runs
    ]
    lines = [HEADER, tuple("---" for _ in HEADER), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def make_page(runs: list[dict[str, Any]]) -> str:
    """The page with a table for each scope."""
    tables = {
        scope: make_table([run for run in runs if run["scope"] == scope])
        for scope in ("whole", "capture")
    }
    date = datetime.now(tz=UTC).date().isoformat()
    return TEXT.format(date=date, paths=", ".join(f"`{path}`" for path in CAPTURE), **tables)


def read_page() -> set[tuple[str, str, str, str]]:
    """The combinations that the page claims."""
    found = set()
    tables = 0
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        tables += line.startswith(f"| {HEADER[0]} |")
        row = re.match(r"\| (\d+\.\d+)\S* \| (\d+\.\d+)\S* \| (\w+) ", line)
        if row:
            found.add((row[1], row[2], row[3], "whole" if tables == 1 else "capture"))
    return found


def main(arguments: list[str]) -> int:
    """Write or check the page, or name the tests of capture; returns the exit code."""
    if arguments == ["capture"]:
        sys.stdout.write(f"{' '.join(CAPTURE)}\n")
        return 0
    if len(arguments) != 2 or arguments[0] not in {"write", "check"}:
        _say("Write: python tests/matrix.py write|check DIR, or: python tests/matrix.py capture")
        return 2
    folder = Path(arguments[1])
    runs = read_runs(folder)
    if not runs:
        _say(f"{folder} holds no runs. Run the tests with MATRIX_DIR={folder}.")
        return 2
    if arguments[0] == "write":
        PAGE.write_text(make_page(runs), encoding="utf-8")
        return 0
    claimed, ran = read_page(), {combination(run) for run in runs}
    for missing in sorted(claimed - ran):
        _say(f"{PAGE.name} claims {_named(missing)}, which was not run.")
    for new in sorted(ran - claimed):
        _say(f"{PAGE.name} lacks {_named(new)}, which was run.")
    if claimed != ran:
        _say(f"Correct it by: python tests/matrix.py write {folder}")
    return int(claimed != ran)


def _named(found: tuple[str, str, str, str]) -> str:
    *versions, scope = found
    return " / ".join(versions) + (" for capture" if scope == "capture" else "")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
