"""Whether the table of records is still to be made: true only while ``migrate`` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.db.models.signals import post_migrate, pre_migrate

from django_signal_audit import internals

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_FIRST_MIGRATION: Final = ("django_signal_audit", "0001_initial")

_migrating: set[str] = set()


def connect() -> None:
    """Follow ``migrate``, so that data migrations before our own do not fail."""
    pre_migrate.connect(_started, dispatch_uid="django_signal_audit.migrating", weak=False)
    post_migrate.connect(_finished, dispatch_uid="django_signal_audit.migrating", weak=False)


def table_is_missing(connection: BaseDatabaseWrapper) -> bool:
    """Whether ``migrate`` is at work on this database and has not made our table yet."""
    if connection.alias not in _migrating:
        return False
    from django_signal_audit.models import record_table_exists  # noqa: PLC0415 - needs loaded apps

    return not record_table_exists(connection.alias)


def was_never_migrated(connection: BaseDatabaseWrapper) -> bool:
    """Whether no ``migrate`` has made our table on this database yet, so that nobody dropped it.

    A custom event may come before ``pre_migrate``: commands read the database, and opening its
    connection sends ``connection_created``.
    """
    return not internals.has_migrated(connection, *_FIRST_MIGRATION)


def _started(using: str, **kwargs: Any) -> None:
    _migrating.add(using)


def _finished(sender: Any, using: str, **kwargs: Any) -> None:
    if using not in _migrating:
        return
    from django_signal_audit.models import record_table_exists  # noqa: PLC0415 - needs loaded apps

    # Sent once for each application, and receivers write: to permissions, to content types.
    if sender is _last_application() or record_table_exists(using):
        _migrating.discard(using)


def _last_application() -> Any:
    return [config for config in apps.get_app_configs() if config.models_module is not None][-1]
