"""The truth table of the docs names tests that are there, and each of its rows has some."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "what-is-recorded.md"

_ROW = re.compile(r"^\| (?P<write>[^|]+) \| [^|]+ \| (?P<tests>[^|]+) \|$", re.MULTILINE)
_TEST = re.compile(r"\[([^\]]+)\]\(\.\./\.\./(tests/[^)]+\.py)\)")


def rows():
    for row in _ROW.finditer(PAGE.read_text()):
        if row["tests"] != "tests" and not row["tests"].startswith("-"):
            yield row["write"], row["tests"]


@functools.cache
def functions_of(path):
    module = ast.parse((ROOT / path).read_text())
    found = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(module) if isinstance(node, found)}


def test_the_table_is_there():
    assert len(list(rows())) > 40


@pytest.mark.parametrize(("write", "tests"), list(rows()))
def test_each_row_names_tests_that_exist(write, tests):
    named = _TEST.findall(tests)

    assert named, f"no test says that this is so: {write}"
    for title, path in named:
        name = f"test_{title.replace(' ', '_')}"
        assert name in functions_of(path), f"{path} has no {name}"
