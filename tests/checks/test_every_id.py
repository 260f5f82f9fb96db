"""No check without a test that provokes it and compares the whole message."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import django_signal_audit

TESTS = Path(__file__).resolve().parents[1]
ID = re.compile(r"(?:django_signal_audit\.)?([EW]\d{3})")


def ids_in_the_sources():
    found = set()
    for source in Path(django_signal_audit.__file__).parent.rglob("*.py"):
        found.update(re.findall(rf'"{ID.pattern}"', source.read_text(encoding="utf-8")))
    return found


def texts_in(tree):
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def provoked_in(source):
    """The ids that tests name and their bodies hold, beside a comparison with ``==``."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    found = set()
    for test in ast.walk(tree):
        if not isinstance(test, ast.FunctionDef) or not test.name.startswith("test_"):
            continue
        if any(isinstance(node, ast.Eq) for node in ast.walk(test)):
            found.update(match[1] for text in texts_in(test) if (match := ID.fullmatch(text)))
        called = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
        for helper in tree.body:
            if isinstance(helper, ast.FunctionDef) and helper.name in called:
                found.update(match[1] for text in texts_in(helper) if (match := ID.fullmatch(text)))
    return found


def test_each_id_has_a_test_that_provokes_it():
    provoked = set()
    for source in TESTS.rglob("test_*.py"):
        if source != Path(__file__):
            provoked |= provoked_in(source)

    assert ids_in_the_sources() - provoked == set()


def test_ids_are_found_in_sources_and_in_tests():
    """So that the test above cannot pass for want of ids."""
    assert {"E001", "E029", "W061", "E205"} <= ids_in_the_sources()
    assert provoked_in(TESTS / "checks" / "test_signals.py") == {"E031", "E032"}
