"""The wheel, the tools' settings, and the table of what was tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import files, metadata
from pathlib import Path

import pytest

import django_signal_audit
from tests import matrix

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(django_signal_audit.__file__).parent
TREE = os.environ.get("SIGNAL_AUDIT_TREE")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

needs_wheel = pytest.mark.skipif(not TREE, reason="tox runs the tests on the built wheel")


@needs_wheel
def test_the_tests_import_the_installed_package():
    assert Path(sys.prefix) in PACKAGE.parents
    assert not (ROOT / "django_signal_audit").exists()


@needs_wheel
def test_the_wheel_holds_each_file_of_the_package_and_nothing_else():
    tree = Path(TREE or "")
    there = {
        str(path.relative_to(tree))
        for path in (tree / "django_signal_audit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    installed = {
        str(path)
        for path in files("django-signal-audit") or ()
        if ".dist-info" not in path.parts[0] and "__pycache__" not in path.parts
    }
    assert installed == there
    assert "django_signal_audit/py.typed" in installed


@needs_wheel
def test_the_wheel_names_its_licence_and_extras():
    about = metadata("django-signal-audit")
    assert about["License-Expression"] == "MIT"
    assert set(about.get_all("Provides-Extra") or ()) == set(
        PROJECT["project"]["optional-dependencies"]
    )


def test_nothing_is_left_out_of_the_measured_coverage():
    told = PROJECT["tool"]["coverage"]
    assert told["run"]["branch"] is True
    assert told["report"]["fail_under"] == 100
    for way_out in ("omit", "exclude_lines", "exclude_also", "partial_branches", "include"):
        assert way_out not in told["run"] and way_out not in told["report"]
    pragmas = re.compile(r"#\s*pragma:\s*no\s*(cover|branch)", re.IGNORECASE)
    found = [p.name for p in PACKAGE.rglob("*.py") if pragmas.search(p.read_text("utf-8"))]
    assert found == []
    commands = (ROOT / "tox.ini").read_text(encoding="utf-8")
    assert re.findall(r"--(?:omit|include|fail-under)\S*", commands) == [
        "--include=django_signal_audit/*"
    ]


def test_a_warning_is_an_error():
    assert PROJECT["tool"]["pytest"]["ini_options"]["filterwarnings"] == ["error"]


def test_each_supported_version_is_a_classifier_and_has_an_environment():
    classifiers = "\n".join(PROJECT["project"]["classifiers"])
    pythons = re.findall(r"Python :: (3\.\d+)", classifiers)
    djangos = re.findall(r"Django :: (\d\.\d)", classifiers)
    told = (ROOT / "tox.ini").read_text(encoding="utf-8")
    environments = re.findall(r"\[testenv:py\{([\d,]+)\}-django\{?([\d,]+)\}?", told)
    have = {
        (python, django)
        for pythons_of, djangos_of in environments
        for python in pythons_of.split(",")
        for django in djangos_of.split(",")
    }
    expected = {
        (python.replace(".", ""), django.replace(".", ""))
        for python in pythons
        for django in djangos
        if django == "5.2" or python != "3.11"  # Django 6 needs Python 3.12
    }
    assert have == expected


def run_of(**changes):
    return {
        "scope": "whole",
        "python": "3.12.1",
        "django": "6.0.10",
        "database": {"name": "PostgreSQL", "version": "15.19"},
        "passed": 12,
        "skipped": 1,
    } | changes


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder of two runs, and a page of its own."""
    monkeypatch.setattr(matrix, "PAGE", tmp_path / "page.md")
    folder = tmp_path / "runs"
    folder.mkdir()
    for name, run in {
        "later": run_of(),
        "earlier": run_of(database={"name": "SQLite", "version": "3.40.1"}),
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(run))
    return folder


def test_the_table_has_a_row_for_each_run(runs):
    assert matrix.main(["write", str(runs)]) == 0
    assert (
        "| 3.12.1 | 6.0.10 | SQLite 3.40.1 | 12 | 1 |\n"
        "| 3.12.1 | 6.0.10 | PostgreSQL 15.19 | 12 | 1 |\n"
    ) in matrix.PAGE.read_text()
    assert matrix.main(["check", str(runs)]) == 0


def test_runs_of_capture_alone_have_a_table_of_their_own(runs):
    (runs / "capture.json").write_text(json.dumps(run_of(scope="capture", django="5.2.1")))
    matrix.main(["write", str(runs)])
    whole, capture = matrix.PAGE.read_text().split("Capture depends most")
    assert "| 5.2.1 |" in capture
    assert "| 5.2.1 |" not in whole
    assert matrix.main(["check", str(runs)]) == 0


def test_a_run_of_capture_alone_is_not_taken_for_a_whole_one(runs, capsys):
    matrix.main(["write", str(runs)])
    (runs / "later.json").write_text(json.dumps(run_of(scope="capture")))
    assert matrix.main(["check", str(runs)]) == 1
    said = capsys.readouterr().err
    assert "claims 3.12 / 6.0 / PostgreSQL, which was not run" in said
    assert "lacks 3.12 / 6.0 / PostgreSQL for capture, which was run" in said


def test_the_tests_of_capture_are_there(capsys):
    assert matrix.main(["capture"]) == 0
    paths = capsys.readouterr().out.split()
    assert paths
    assert all((ROOT / path).exists() for path in paths)


def test_a_table_that_claims_what_was_not_run_is_refused(runs, capsys):
    matrix.main(["write", str(runs)])
    (runs / "later.json").write_text(json.dumps(run_of(django="6.1.3")))
    assert matrix.main(["check", str(runs)]) == 1
    said = capsys.readouterr().err
    assert "claims 3.12 / 6.0 / PostgreSQL, which was not run" in said
    assert "lacks 3.12 / 6.1 / PostgreSQL, which was run" in said


def test_another_patch_release_needs_no_new_table(runs):
    matrix.main(["write", str(runs)])
    (runs / "later.json").write_text(json.dumps(run_of(python="3.12.9", passed=99)))
    assert matrix.main(["check", str(runs)]) == 0


def test_a_folder_without_runs_is_refused(tmp_path, capsys):
    assert matrix.main(["check", str(tmp_path)]) == 2
    assert "holds no runs" in capsys.readouterr().err


SUITE = """
def test_passes():
    pass
"""


@pytest.fixture
def suite(tmp_path):
    """Runs a suite of one test, as another process."""
    (tmp_path / "test_one.py").write_text(SUITE)
    (tmp_path / "conftest.py").write_text(
        "from tests.conftest import _known_database  # noqa\n"
        "from tests.matrix import pytest_terminal_summary, pytest_testnodedown  # noqa\n"
    )

    def run(*arguments):
        told = {"MATRIX_DIR": str(tmp_path / "runs"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=tmp_path,
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return matrix.read_runs(tmp_path / "runs")

    return run


def test_a_run_with_workers_leaves_its_versions_and_counts(suite):
    (run,) = suite("-m", "not slow", "-n", "1")
    assert run["scope"] == "whole"
    assert run["passed"] == 1
    assert run["python"] == ".".join(map(str, sys.version_info[:3]))
    assert run["database"]["name"] in matrix.DATABASES.values()


@pytest.mark.parametrize("picked", ["test_one.py", "-k passes"])
def test_a_run_of_some_tests_is_no_row(suite, picked):
    assert suite("-m", "not slow", *picked.split(" ")) == []


@pytest.mark.parametrize(("left", "scope"), [(0, ["capture"]), (1, [])])
def test_a_run_of_all_of_capture_is_a_row_of_its_own(suite, tmp_path, left, scope):
    for path in matrix.CAPTURE:
        place = tmp_path / path / "test_it.py" if "." not in path else tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(SUITE)
    asked = matrix.CAPTURE[left:]
    found = suite("-m", "not slow and not once", *asked, "--import-mode=importlib")
    assert [run["scope"] for run in found] == scope
