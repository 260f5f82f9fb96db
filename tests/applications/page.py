"""The tables in ``docs/explanation/other-applications.md``, made of the runs and of the list."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.applications.suites import PLAIN, Application, Difference, Run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "other-applications.md"
MODES = {
    PLAIN: "as it is",
    "ignore": "audited",
    "record": "audited, strict mode `record`",
    "raise": "audited, strict mode `raise`",
}
_OUTCOMES = ("passed", "skipped", "failed")
_EVENTS = ("model.create", "model.update", "model.delete", "model.m2m", "model.blind_write")

Runs = Mapping[str, Run]


def make_blocks(runs: Sequence[tuple[Application, Runs]]) -> dict[str, str]:
    """The generated blocks of the page, by name."""
    return {
        "surroundings": surroundings(runs),
        "outcomes": _table(("application", "run", "tests", *_OUTCOMES, "differ"), _rows(runs)),
        "events": _table(("application", "run", *_EVENTS), _event_rows(runs)),
        "differences": "\n".join(_explanations(runs)).strip(),
        "statements": _table(("application", "statement", "times"), _statement_rows(runs)),
    }


def surroundings(runs: Sequence[tuple[Application, Runs]]) -> str:
    """Python, Django and the database, by major and minor version."""
    (told,) = {tuple(run.surroundings.items()) for _, by_mode in runs for run in by_mode.values()}
    return ", ".join(f"{name} {version}".strip() for name, version in told)


def _rows(runs: Sequence[tuple[Application, Runs]]) -> Iterator[tuple[str, ...]]:
    for application, by_mode in runs:
        plain = by_mode[PLAIN]
        for mode, run in by_mode.items():
            found = list(run.tests.values())
            counts = (str(found.count(outcome)) for outcome in _OUTCOMES)
            differ = sum(run.tests.get(test) != outcome for test, outcome in plain.tests.items())
            told = "" if mode == PLAIN else str(differ)
            yield application.name, MODES[mode], str(len(found)), *counts, told


def _event_rows(runs: Sequence[tuple[Application, Runs]]) -> Iterator[tuple[str, ...]]:
    for application, by_mode in runs:
        for mode, run in by_mode.items():
            if mode not in {PLAIN, "raise"}:
                counts = (f"{run.events.get(name, 0):,}" for name in _EVENTS)
                yield application.name, MODES[mode], *counts


def _statement_rows(runs: Sequence[tuple[Application, Runs]]) -> Iterator[tuple[str, ...]]:
    for application, by_mode in runs:
        if "record" not in by_mode:
            continue
        found = by_mode["record"]
        for statement in sorted(found.statements()):
            times = sum(one.get(statement, 0) for one in found.blind.values())
            yield application.name, f"`{statement}`", f"{times:,}"


def _explanations(runs: Sequence[tuple[Application, Runs]]) -> Iterator[str]:
    for application, _ in runs:
        for entry in application.differs:
            yield from _explanation(application, "differ when audited", entry)
        for entry in application.fails:
            yield from _explanation(application, "fail without audit too", entry)
        for entry in application.left_out:
            yield from _explanation(application, "left out", entry)


def _explanation(application: Application, what: str, entry: Difference) -> Iterator[str]:
    yield f"**{application.name}**, {what}: {entry.reason}\n"
    yield from (f"- `{name}`" for name in entry.tests)
    yield ""


def _table(header: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(blocks: Mapping[str, str], page: Path = PAGE) -> None:
    """Put the blocks into the page."""
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        whole = f"<!-- {name} -->\n\n{block}\n\n<!-- /{name} -->"
        text = _pattern(name).sub(lambda _, whole=whole: whole, text)
    page.write_text(text, encoding="utf-8")


def stale(blocks: Mapping[str, str], page: Path = PAGE) -> list[str]:
    """What the page says otherwise than the runs.

    How many events and statements there were is as of the last ``write``: it changes with
    capture. All else is compared, if the page is about these versions and this database.
    """
    text = page.read_text(encoding="utf-8")
    said = {name: _block(text, name) for name in blocks}
    if said["surroundings"] != blocks["surroundings"]:
        return []
    wrong = [name for name in ("outcomes", "differences") if said[name] != blocks[name]]
    if _without_counts(said["statements"]) != _without_counts(blocks["statements"]):
        wrong.append("statements")
    return [f"{page.name}: the block {name!r} says otherwise than the runs." for name in wrong]


def _block(text: str, name: str) -> str:
    found = _pattern(name).search(text)
    return found[1].strip() if found else ""


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(f"<!-- {name} -->(.*?)<!-- /{name} -->", re.DOTALL)


def _without_counts(table: str) -> list[str]:
    return [line.rpartition("| ")[0] for line in table.splitlines()]
