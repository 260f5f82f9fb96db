"""The checks of what databases delete and change by themselves, where it cannot be recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.db import OperationalError, connections, models

from django_signal_audit import internals
from django_signal_audit.capture.cascades import cascade_from
from django_signal_audit.capture.watching import watch_for
from django_signal_audit.checks.findings import concrete_models, settings_errors, warning

if TYPE_CHECKING:
    from django.apps import AppConfig
    from django.core.checks import CheckMessage
    from django.db.backends.base.base import BaseDatabaseWrapper

# The columns of a table's foreign keys, and what their constraints do when the target is deleted.
_CONSTRAINTS: Final = {
    "sqlite": 'SELECT "from", on_delete FROM pragma_foreign_key_list(%s)',
    "postgresql": (
        "SELECT a.attname, CASE c.confdeltype WHEN 'c' THEN 'CASCADE' WHEN 'n' THEN 'SET NULL'"
        " WHEN 'd' THEN 'SET DEFAULT' ELSE '' END"
        " FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid"
        " JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1]"
        " WHERE t.relname = %s AND c.contype = 'f' AND pg_table_is_visible(t.oid)"
    ),
    "mysql": (
        "SELECT k.column_name, r.delete_rule FROM information_schema.key_column_usage k"
        " JOIN information_schema.referential_constraints r"
        " ON r.constraint_name = k.constraint_name AND r.constraint_schema = k.constraint_schema"
        " WHERE k.table_name = %s AND k.table_schema = DATABASE()"
    ),
}

_ACTIONS: Final = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})


def check_cascades(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Audited rows that go with rows of a table which is not Django's."""
    if settings_errors():
        return []
    return list(_unmanaged())


def check_constraints(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """Constraints that delete or change audited rows, though the models do not say so."""
    if not databases or settings_errors():
        return []
    return [one for alias in databases for one in _unknown_actions(alias)]


def _unmanaged() -> Iterator[CheckMessage]:
    for model in concrete_models():
        if model._meta.managed:
            continue
        reached: set[str] = set()
        for alias in connections:
            cascade = cascade_from(model, alias)
            edges = [] if cascade is None else [e for es in cascade.edges.values() for e in es]
            reached.update(edge.model._meta.label for edge in edges if edge.watch is not None)
        if reached:
            yield warning(
                f"The database deletes or changes rows of {', '.join(sorted(reached))} together "
                f"with those of {model._meta.label}, a table that Django does not manage: what "
                "other programs delete there is not recorded.",
                "Let them delete through Django, or silence this warning if none does.",
                "W063",
            )


def _unknown_actions(alias: str) -> Iterator[CheckMessage]:
    connection = connections[alias]
    try:
        tables = set(connection.introspection.table_names())
    except OperationalError:
        return  # check_tables says so
    for model in apps.get_models(include_auto_created=True):
        meta = model._meta
        if meta.proxy or meta.db_table not in tables:
            continue
        if watch_for(model) is None and cascade_from(model, alias) is None:
            continue
        actions = _actions(connection, meta.db_table)
        for field in meta.concrete_fields:
            action = actions.get(str(field.column))
            if action is None or field.remote_field is None or field.model is not model:
                continue
            known = internals.database_action(field)
            if internals.is_left_to_the_database(field) and action.lower() != known:
                yield _unknown_action(alias, field, action)


def _unknown_action(alias: str, field: Any, action: str) -> CheckMessage:
    name = action.replace(" ", "_")
    on_delete = next(rule for rule in (f"DB_{name}", name) if hasattr(models, rule))
    said = field.remote_field.on_delete.__name__
    return warning(
        f"{field.model._meta.label}.{field.name}: on database {alias!r} its constraint says "
        f"ON DELETE {action}, but the field says {said}. What the database does then is not "
        "recorded.",
        f"Write on_delete=models.{on_delete}, or take the action off the constraint.",
        "W057",
    )


def _actions(connection: BaseDatabaseWrapper, table: str) -> dict[str, str]:
    """The columns of a table that the database writes when their target is deleted, and how."""
    with connection.cursor() as cursor:
        cursor.execute(_CONSTRAINTS[connection.vendor], [table])
        return {column: action for column, action in cursor.fetchall() if action in _ACTIONS}
