"""A pytest plugin: what became of each test, and what the trail was told, as one JSON file.

``APPLICATION_OUTCOMES`` is the path of the file. With workers of xdist, each counts its own events
and hands them to the process that started it.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

RANK = ("passed", "skipped", "failed")
"""The outcomes of a test's phases and subtests; the last in this order is the test's."""


class Outcomes:
    """Collects in the process that writes the file; in a worker, only events."""

    def __init__(self) -> None:
        self.tests: dict[str, str] = {}
        self.messages: dict[str, str] = {}
        self.events: Counter[str] = Counter()
        self.sinks: Counter[str] = Counter()
        self.blind: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def add_report(self, report: pytest.TestReport) -> None:
        """Take over what a phase of a test, or a subtest, came to."""
        known = self.tests.get(report.nodeid, "passed")
        self.tests[report.nodeid] = max(known, report.outcome, key=RANK.index)
        if report.failed and report.nodeid not in self.messages:
            crash = getattr(report.longrepr, "reprcrash", None)
            said = crash.message if crash is not None else str(report.longrepr)
            self.messages[report.nodeid] = said[:400]

    def add_event(self, event: Any) -> None:
        """Count an event; a blind write also by the test that made it."""
        self.events[event.event] += 1
        if event.event == "model.blind_write":
            test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
            self.blind[test][f"{event.data['operation']} {event.data['table']}"] += 1

    def add_worker(self, counted: dict[str, Any]) -> None:
        """Take over what a worker has counted."""
        self.events.update(counted["events"])
        self.sinks.update(counted["sinks"])
        for test, statements in counted["blind"].items():
            self.blind[test].update(statements)

    def counted(self) -> dict[str, Any]:
        """What this process has counted, as JSON can hold it."""
        return {
            "events": dict(self.events),
            "sinks": dict(self.sinks),
            "blind": {test: dict(statements) for test, statements in self.blind.items()},
        }


def surroundings() -> dict[str, str]:
    """What the run ran on: the versions that matter, and the database."""
    import django  # noqa: PLC0415 - pytest-django wants to be first
    from django.db import connection  # noqa: PLC0415

    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "Django": ".".join(django.__version__.split(".")[:2]),
        connection.display_name: "",
    }


_outcomes = Outcomes()


@pytest.fixture(scope="session", autouse=True)
def _events_are_counted():
    """Every event of this process, if the run is an audited one."""
    if not os.environ["APPLICATION_AUDIT"]:
        yield
        return
    from django_signal_audit import pipeline  # noqa: PLC0415 - needs the settings
    from django_signal_audit.sinks import DatabaseSink, counters  # noqa: PLC0415

    write = DatabaseSink.write

    def counting(self, connection, events, **options):
        """The counters take what was committed, and most tests never commit."""
        write(self, connection, events, **options)
        _outcomes.sinks["written"] += len(events)

    with (
        pipeline.observe(_outcomes.add_event),
        mock.patch.object(DatabaseSink, "write", counting),
    ):
        yield
    counted = counters.snapshot().get("default", {})
    _outcomes.sinks.update(
        {name: number for name, number in counted.items() if name not in {"emitted", "written"}}
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In a worker too, where nobody asks for it."""
    _outcomes.add_report(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker ends: hand over what it has counted."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["counted"] = _outcomes.counted()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """A worker has ended: take it over."""
    counted = getattr(node, "workeroutput", {}).get("counted")
    if counted is not None:
        _outcomes.add_worker(counted)


def pytest_terminal_summary() -> None:
    """The run has ended: leave its file."""
    found = {
        "tests": _outcomes.tests,
        "messages": _outcomes.messages,
        "surroundings": surroundings(),
        **_outcomes.counted(),
    }
    Path(os.environ["APPLICATION_OUTCOMES"]).write_text(json.dumps(found), encoding="utf-8")
