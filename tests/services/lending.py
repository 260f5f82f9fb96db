"""An alias of the test's own that stands for another database for a while."""

from __future__ import annotations

from contextlib import contextmanager

from django.db import connections


@contextmanager
def lent(alias, settings):
    """Let an alias stand for another database.

    Django's tests may use only the aliases that were there when they began, so a new one
    would not do: what is written through a fresh copy of it is refused.
    """
    own, own_settings = connections[alias], connections.settings[alias]
    connections.settings[alias] = settings
    connections[alias] = type(own)(settings, alias)
    try:
        yield
    finally:
        connections[alias].close()
        connections.settings[alias] = own_settings
        connections[alias] = own
