"""The audited tables by name, as a statement of SQL names them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps

from django_signal_audit import internals
from django_signal_audit.capture.statement import table_name
from django_signal_audit.capture.watching import watch_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import Model

    from django_signal_audit.capture.statement import Write
    from django_signal_audit.registry import AuditPolicy

# What a policy's `on` must hold for an operation to be of interest.
_AS_RECORDED: Final = {
    "insert": {"create", "update"},  # ON CONFLICT DO UPDATE
    "load": {"create", "update"},
    "copy": {"create"},
    "update": {"update"},
    "delete": {"delete"},
    "truncate": {"delete"},
    "replace": {"create", "update", "delete"},
    "merge": {"create", "update", "delete"},
}
_DELETING: Final = frozenset({"delete", "replace", "merge"})


@dataclass(frozen=True, slots=True)
class Touched:
    """An audited table that a statement writes to.

    Attributes:
        policy: under which it is recorded.
        label: of the model, as people write it.
        table: as the model names it.
        operation: what is done to it.
        counted: whether the row count of the statement is that of this table.
        field: the many-to-many field of the model whose rows these are.
        through: the table that the statement names, where it is the database that goes on
            to this one.
    """

    policy: AuditPolicy
    label: str
    table: str
    operation: str
    counted: bool
    field: str | None = None
    through: str | None = None


@dataclass(frozen=True, slots=True)
class _Tables:
    """The models by their tables.

    Attributes:
        models: the very list that the registry of apps gave: it makes a new one for a new model.
        by_name: as ``table_name`` names the tables; several models may be made for one table.
    """

    models: Any = None
    by_name: dict[str, list[type[Model]]] = field(default_factory=dict)


_tables = _Tables()


def touched_by(write: Write) -> Iterator[Touched]:
    """What a write means for audited tables; those are included that the database goes on to.

    Args:
        write: to any table.
    """
    for model in _by_name().get(write.table, ()):
        yield from _of(model, write.operation, counted=write.counted)
        if write.operation in _DELETING or write.cascades:
            through = model._meta.db_table
            for reached, operation in _reached(model, truncated=write.cascades):
                yield from _of(reached, operation, counted=False, through=through)


def _of(
    model: type[Model], operation: str, *, counted: bool, through: str | None = None
) -> Iterator[Touched]:
    watch = watch_for(model)
    if watch is None:
        return
    table = model._meta.db_table
    if watch.policy is not None and not watch.policy.on.isdisjoint(_AS_RECORDED[operation]):
        label = watch.model._meta.label
        yield Touched(watch.policy, label, table, operation, counted, through=through)
    for relation in watch.relations:
        label = relation.owner._meta.label
        yield Touched(
            relation.policy, label, table, operation, counted, relation.field.name, through
        )


def _by_name() -> dict[str, list[type[Model]]]:
    global _tables  # noqa: PLW0603 - replaced as a whole: other threads read it meanwhile
    models = apps.get_models(include_auto_created=True)
    tables = _tables
    if tables.models is not models:
        by_name: dict[str, list[type[Model]]] = {}
        for model in models:
            if not model._meta.proxy:
                by_name.setdefault(table_name(model._meta.db_table), []).append(model)
        _tables = tables = _Tables(models, by_name)
    return tables.by_name


def _reached(model: type[Model], *, truncated: bool) -> list[tuple[type[Model], str]]:
    """The tables that the database itself goes on to, and what it does to them.

    Args:
        model: whose rows are deleted.
        truncated: all of them, and those of every table that refers to it.
    """
    found: dict[tuple[type[Model], str], None] = {}
    pending = [model]
    while pending:
        for reference in internals.references_to(pending.pop()):
            operation = _goes_on(reference, truncated=truncated)
            if operation is not None and (reference.model, operation) not in found:
                found[reference.model, operation] = None
                if operation != "update":
                    pending.append(reference.model)
    return list(found)


def _goes_on(reference: Any, *, truncated: bool) -> str | None:
    if truncated:
        return "truncate" if internals.has_constraint(reference) else None
    action = internals.database_action(reference)
    if action is None:
        return None
    return "delete" if action == "cascade" else "update"
