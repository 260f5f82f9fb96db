"""The check of the databases: the table of records, and what a server would do to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.db import OperationalError, connections, router

from django_signal_audit import internals
from django_signal_audit.checks.findings import Findings, error, look, settings_errors, warning
from django_signal_audit.registry import OWN_APP
from django_signal_audit.sinks import mariadb

if TYPE_CHECKING:
    from django.apps import AppConfig
    from django.core.checks import CheckMessage

_FIRST_MIGRATION: Final = (OWN_APP, "0001_initial")


def check_tables(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """The table of records on every alias that audited models are written to."""
    if not databases or settings_errors():
        return []
    findings = look()
    if not any(route.sink.transactional for route in findings.routes):
        return []
    return [one for alias in databases for one in _table_messages(alias, findings)]


def _table_messages(alias: str, findings: Findings) -> Iterator[CheckMessage]:
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    connection = connections[alias]
    try:
        tables = set(connection.introspection.table_names())
    except OperationalError as exc:
        yield warning(
            f"Database {alias!r} cannot be asked for its table of audit records "
            f"({str(exc).strip().partition(chr(10))[0]}).",
            f"Run manage.py check --database {alias} again when it can be reached.",
            "W056",
        )
        return
    if AuditRecord._meta.db_table in tables:
        yield from mariadb.server_warnings(alias)
        return
    audited = [
        model._meta.label
        for model, _ in findings.audited()
        if model._meta.db_table in tables and router.allow_migrate_model(alias, model)
    ]
    if not audited:
        return
    problem = (
        f"Database {alias!r} holds the audited model {audited[0]} but no table of audit records."
    )
    forbids = internals.forbidding_router(alias, AuditRecord)
    if forbids is not None:
        hint = (
            f"{forbids} in DATABASE_ROUTERS forbids {OWN_APP} on this "
            "alias: let its allow_migrate() return True for it."
        )
        yield error(problem, hint, "E051")
    elif internals.has_migrated(connection, *_FIRST_MIGRATION):
        hint = (
            "Its migration was applied, so it was dropped or renamed since. Restore it, or run "
            f"manage.py migrate --database {alias} {OWN_APP} zero, then without zero."
        )
        yield error(problem, hint, "E051")
    else:
        # An error would keep `migrate`, which runs this check, from making the table.
        yield warning(problem, f"Run manage.py migrate --database {alias}.", "W053")
