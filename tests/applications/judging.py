"""What is wrong with the runs of an application's tests: differences that nobody has explained.

All functions yield sentences; a good run yields none.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.applications.suites import PLAIN, Application, Difference, Run

REFUSED = "AuditBlindWriteError"
"""The error that refuses a statement, as pytest writes it down."""


def judge(application: Application, runs: dict[str, Run]) -> Iterator[str]:
    """Everything that is wrong with an application's runs.

    Args:
        application: with what is known of its tests.
        runs: by ``PLAIN`` and what ``BLIND_WRITES`` was in the others.
    """
    plain = runs[PLAIN]
    yield from _plain(application, plain)
    for audit, run in runs.items():
        if audit == PLAIN:
            continue
        refusing = audit == "raise"
        if refusing:
            complaints = [*_refusals(application, runs["record"], run)]
        else:
            complaints = [*_differences(application, plain, run), *_trail(application, run)]
        if audit == "record":
            complaints += _blind(application, run)
        for complaint in complaints:
            yield f"BLIND_WRITES={audit!r}: {complaint}"


def _plain(application: Application, plain: Run) -> Iterator[str]:
    if not any(outcome == "passed" for outcome in plain.tests.values()):
        yield "without audit: no test has passed."
    for test in sorted(plain.failed()):
        if not _explained(application.fails, test, plain):
            yield f"without audit: {test} fails: {plain.messages[test]}"


def _differences(application: Application, plain: Run, run: Run) -> Iterator[str]:
    if plain.tests.keys() != run.tests.keys():
        other = sorted(plain.tests.keys() ^ run.tests.keys())
        yield f"other tests were run: {', '.join(other[:10])} are in one run only."
    for test in sorted(plain.tests.keys() & run.tests.keys()):
        before, after = plain.tests[test], run.tests[test]
        if before == after:
            continue
        known = (before, after) == ("passed", "failed") and _explained(
            application.differs, test, run
        )
        if not known:
            yield f"{test} is {before} without audit, and now {after}: {run.messages.get(test)}"
    differing = {test for test, outcome in run.tests.items() if plain.tests.get(test) != outcome}
    for difference in application.differs:
        for name in difference.tests:
            if not any(Difference("", "", (name,)).means(test) for test in differing):
                yield f"{name} makes no difference any more, though the list explains one."


def _explained(known: tuple[Difference, ...], test: str, run: Run) -> bool:
    said = run.messages.get(test, "")
    return any(entry.means(test) and entry.says in said for entry in known)


def _trail(application: Application, run: Run) -> Iterator[str]:
    for name in sorted(application.events - run.events.keys()):
        yield f"no {name} was recorded."
    made, written = sum(run.events.values()), run.sinks.get("written", 0)
    if made != written or run.sinks.keys() - {"written"}:
        yield f"{made} events were made, and the sink counts {run.sinks}."


def _blind(application: Application, run: Run) -> Iterator[str]:
    found = run.statements()
    for statement in sorted(found - application.blind):
        yield f"{statement} was written outside of capture, which the list does not name."
    for statement in sorted(application.blind - found):
        yield f"the list names {statement}, and strict mode does not."


def _refusals(application: Application, recorded: Run, run: Run) -> Iterator[str]:
    expected = set(recorded.blind) | recorded.failed()
    if not recorded.blind:
        yield "there was nothing to refuse."
    for test in sorted(expected - run.failed()):
        yield f"{test} writes outside of capture, and was not refused."
    for test in sorted(run.failed() - expected):
        yield f"{test} fails: {run.messages[test]}"
    for test in sorted(set(recorded.blind) & run.failed()):
        if REFUSED not in run.messages[test]:
            yield f"{test} was not refused but fails otherwise: {run.messages[test]}"
