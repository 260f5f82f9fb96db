from weakref import WeakKeyDictionary

import pytest

from django_signal_audit import definitions, registry


@pytest.fixture(autouse=True)
def _registrations(monkeypatch):
    """Whatever a test registers or defines is forgotten after it."""
    for name in ("_by_label", "_by_abstract_class", "_unregistered"):
        monkeypatch.setattr(registry, name, getattr(registry, name).copy())
    # Those of other tests may name sinks of their own.
    monkeypatch.setattr(definitions, "_known", WeakKeyDictionary())
    registry._resolved.clear()
    yield
    registry._resolved.clear()
