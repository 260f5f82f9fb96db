from __future__ import annotations

import gc
from weakref import WeakKeyDictionary

import pytest

from django_signal_audit import definitions
from django_signal_audit.definitions import Definition, all_definitions, remember


@pytest.fixture(autouse=True)
def _own(monkeypatch):
    monkeypatch.setattr(definitions, "_known", WeakKeyDictionary())


class Owner:
    pass


def test_a_definition_is_known_with_its_module_and_forgotten_with_its_owner():
    owner = remember(Owner(), "define_event('b')", ["x", "y"])
    remember(owner, "define_event('a')", ("z",), module="shop.signals")

    assert all_definitions() == [
        Definition("shop.signals: define_event('a')", ("z",)),
        Definition("tests.test_definitions: define_event('b')", ("x", "y")),
    ]
    del owner
    gc.collect()
    assert all_definitions() == []


@pytest.mark.parametrize("sinks", [None, [], ()])
def test_one_that_names_no_sinks_is_not_kept(sinks):
    owner = Owner()
    assert remember(owner, "define_event('a')", sinks) is owner
    assert all_definitions() == []


def test_code_without_a_module_has_no_name():
    found = []
    code = "found.append(remember(Owner(), 'x', ['a']))"
    exec(code, {"found": found, "remember": remember, "Owner": Owner})

    assert [one.where for one in all_definitions()] == ["?: x"]
