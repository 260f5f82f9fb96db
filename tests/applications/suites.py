"""Fetch an application's sdist and run its own tests, with or without audit."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIST = HERE / "applications.toml"
PLAIN = ""
"""The run without audit; the others are named by their ``BLIND_WRITES``."""


@dataclass(frozen=True)
class Difference:
    """Tests that fail when audited, what their failures say, and why that is right."""

    reason: str
    says: str
    tests: tuple[str, ...]

    def means(self, test: str) -> bool:
        """Whether a test is one of these."""
        return any(
            test.startswith(name[:-2]) if name.endswith("[*]") else test == name
            for name in self.tests
        )


@dataclass(frozen=True)
class Application:
    """A pinned sdist, how its tests are run, and what is known of them."""

    distribution: str
    version: str
    sha256: str
    settings: str
    runs: tuple[str, ...]
    events: frozenset[str]
    differs: tuple[Difference, ...] = ()
    fails: tuple[Difference, ...] = ()
    left_out: tuple[Difference, ...] = ()
    blind: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Run:
    """What one run of a suite came to.

    Attributes:
        tests: test id to ``passed``, ``skipped`` or ``failed``.
        messages: of those that failed, what they said.
        events: names of events, and how many of each were made.
        sinks: what became of them at the database sink.
        blind: test id to its statements outside of capture, such as ``UPDATE shop_order``.
        surroundings: versions and database.
        seconds: how long it took.
    """

    tests: dict[str, str]
    messages: dict[str, str]
    events: dict[str, int] = field(default_factory=dict)
    sinks: dict[str, int] = field(default_factory=dict)
    blind: dict[str, dict[str, int]] = field(default_factory=dict)
    surroundings: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def failed(self) -> set[str]:
        """The tests that failed."""
        return {test for test, outcome in self.tests.items() if outcome == "failed"}

    def statements(self) -> set[str]:
        """What was written outside of capture."""
        return {statement for found in self.blind.values() for statement in found}


def read_list() -> list[Application]:
    """The applications of the list, in its order."""
    told = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return [_application(entry) for entry in told["application"]]


def _application(entry: dict[str, Any]) -> Application:
    lists = {name: tuple(_difference(d) for d in entry.pop(name, ())) for name in _DIFFERENCES}
    sets = {name: frozenset(entry.pop(name, ())) for name in ("events", "blind")}
    return Application(runs=tuple(entry.pop("runs")), **lists, **sets, **entry)


_DIFFERENCES = ("differs", "fails", "left_out")


def _difference(entry: dict[str, Any]) -> Difference:
    return Difference(entry["reason"], entry.get("says", ""), tuple(entry["tests"]))


def fetch(application: Application, folder: Path) -> Path:
    """Download and unpack; returns the folder with the application and its tests.

    Raises:
        SystemExit: what was downloaded is not what the list names.
    """
    wanted = f"{application.distribution}=={application.version}"
    downloads = folder / "downloads" / wanted
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(downloads)]
    only_source = ["--no-binary", application.distribution]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, *only_source, wanted], check=True
    )
    (archive,) = downloads.iterdir()
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != application.sha256:
        raise SystemExit(
            f"{archive.name} has the SHA-256 {found}, but {LIST.name} names {application.sha256}."
        )
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "unpacked", filter="data")
    return folder / "unpacked" / archive.name.removesuffix(".tar.gz")


def run_suite(application: Application, folder: Path, audit: str) -> Run:
    """Run an application's tests.

    Args:
        application: whose.
        folder: where it is unpacked.
        audit: ``PLAIN``, or what ``BLIND_WRITES`` is to be.

    Raises:
        SystemExit: pytest could not run them.
    """
    outcomes = folder.parent / f"{folder.name}-{audit or 'plain'}.json"
    outcomes.unlink(missing_ok=True)
    inside = [str(HERE / "inside"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, inside)),
        "APPLICATION_SETTINGS": application.settings,
        "APPLICATION_AUDIT": audit,
        "APPLICATION_OUTCOMES": str(outcomes),
    }
    # Its own pyproject.toml, even if nothing there is for pytest: otherwise pytest takes ours.
    told = ["-c", "pyproject.toml", "--ds=audited_settings", "-p", "outcomes"]
    quiet = ["-q", "--tb=short", "--show-capture=no", "--disable-warnings"]
    named = [name for entry in application.left_out for name in entry.tests]
    left_out = [f"--deselect={name}" for name in named]
    without = [word for name in ("randomly", "cacheprovider") for word in ("-p", f"no:{name}")]
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "auto", *told, *quiet, *without, *left_out],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    said = f"{done.stdout}{done.stderr}"
    (outcomes.with_suffix(".log")).write_text(said, encoding="utf-8")
    if done.returncode not in {0, 1} or not outcomes.exists():
        raise SystemExit(f"{said}\n{application.name}: pytest ended with {done.returncode}.")
    found = json.loads(outcomes.read_text(encoding="utf-8"))
    return Run(**found, seconds=time.monotonic() - begun)
