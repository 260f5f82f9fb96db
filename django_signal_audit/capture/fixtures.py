"""What is loaded from fixtures: rows, and the many-to-many fields of their objects.

A save is told that it is raw, but before Django 6.1 the managers are not.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from django.core.serializers.base import DeserializedObject

from django_signal_audit import conf
from django_signal_audit.capture.patching import wrap

if TYPE_CHECKING:
    from django.db.models import Model


class _Loading(threading.local):
    def __init__(self) -> None:
        self.objects: list[Any] = []


_loading = _Loading()


def connect() -> None:
    """Wrap the method that saves what was deserialized; a second call changes nothing."""
    wrap(DeserializedObject, "save", _save)


def is_loading(instance: Model) -> bool:
    """Whether this very object is being loaded from a fixture, in this thread."""
    return any(instance is one for one in _loading.objects)


def is_left_out(instance: Model, *, raw: bool) -> bool:
    """Whether a write is not recorded, because it comes from a fixture.

    Args:
        instance: that is written, or whose many-to-many field is.
        raw: the write was told so.
    """
    return (raw or is_loading(instance)) and not conf.current().RECORD_FIXTURES


def _save(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    _loading.objects.append(self.object)
    try:
        original(self, *args, **kwargs)
    finally:
        _loading.objects.pop()
