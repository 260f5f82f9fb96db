"""What Django does not document of conditions and expressions: they are read as plain values.

``parts_of_filter`` and ``parts_of_expression`` copy what the package shows of them; nothing
else knows how Django's own trees are built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, ExpressionWrapper, Lookup, Subquery, Transform, Value
from django.db.models.expressions import (
    Col,
    ColPairs,
    CombinedExpression,
    NegatedExpression,
    RawSQL,
    Ref,
)
from django.db.models.sql.query import Query
from django.db.models.sql.where import WhereNode

if TYPE_CHECKING:
    from django.db.models import Field, QuerySet


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined by ``AND``, ``OR`` or ``XOR``."""

    connector: str
    negated: bool
    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Test:
    """One condition: what is tested, the lookup's name, and what it is compared with."""

    left: Any
    lookup: str
    right: Any

    __test__ = False  # pytest takes it for a class of tests


@dataclass(frozen=True, slots=True)
class Column:
    """A column, with the relations that lead to it as in ``author__name``."""

    path: str
    field: Field[Any, Any]


@dataclass(frozen=True, slots=True)
class Inside:
    """What a transform takes of another part: a key of JSON, the year of a date."""

    part: Any
    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A value as the program gave it."""

    value: Any


@dataclass(frozen=True, slots=True)
class Call:
    """A function or another expression, by the name of its class; ``+`` and its kin too."""

    name: str
    parts: tuple[Any, ...]
    infix: bool = False


@dataclass(frozen=True, slots=True)
class Opaque:
    """What is only named: a subquery, SQL of the program's own."""

    name: str


def parts_of_filter(queryset: QuerySet[Any]) -> Group:
    """The conditions of a queryset."""
    query: Any = queryset.query
    return _read(query.where, query)  # type: ignore[no-any-return]


def parts_of_expression(expression: Any, query: Any) -> Any:
    """An expression, resolved in a query."""
    return _read(expression, query)


def reads_other_rows(expression: Any, query: Any) -> bool:
    """Whether an expression, resolved in a query, may look at more than the row it is for.

    That is so of subqueries, and of SQL of the program's own, which may hold one.
    """
    pending = [_read(expression, query)]
    while pending:
        part = pending.pop()
        if isinstance(part, Opaque):
            return True
        if isinstance(part, Group | Call):
            pending += part.parts
        elif isinstance(part, Test):
            pending += (part.left, part.right)
        elif isinstance(part, Inside):
            pending.append(part.part)
    return False


def _read(node: Any, query: Any) -> Any:
    if isinstance(node, WhereNode):
        parts = tuple(_read(child, query) for child in node.children)
        return Group(node.connector, node.negated, parts)
    if isinstance(node, Lookup):
        right = node.rhs
        compared = _read(right, query) if hasattr(right, "resolve_expression") else Literal(right)
        return Test(_read(node.lhs, query), node.lookup_name or "", compared)
    if isinstance(node, Query):
        return Opaque(f"subquery of {node.model._meta.label}" if node.model else "subquery")
    if hasattr(node, "get_source_expressions"):
        return _read_expression(node, query)
    return Opaque(type(node).__name__)


def _read_expression(node: Any, query: Any) -> Any:  # noqa: PLR0911 - one for each kind
    if isinstance(node, Col):
        return Column(_path(node, query), node.target)
    if isinstance(node, Value):
        return Literal(node.value)
    if isinstance(node, RawSQL):
        return Opaque("RawSQL")
    if isinstance(node, Subquery):
        subquery = _read(node.query, query)
        return Call("Exists", (subquery,)) if isinstance(node, Exists) else subquery
    parts = tuple(_read(part, query) for part in node.get_source_expressions() if part)
    if isinstance(node, NegatedExpression):
        return Group("AND", negated=True, parts=parts)
    if isinstance(node, ExpressionWrapper | Ref):
        return parts[0]
    if isinstance(node, Transform):
        name = getattr(node, "key_name", None) or getattr(node, "lookup_name", None)
        return Inside(parts[0], str(name or type(node).__name__))
    if isinstance(node, CombinedExpression):
        return Call(node.connector, parts, infix=True)
    return Call("" if isinstance(node, ColPairs) else type(node).__name__, parts)


def _path(column: Col, query: Any) -> str:
    """The names of the relations from the query's own table to a column, and its name."""
    names = [column.target.name]
    table = query.alias_map.get(column.alias)
    while table is not None and table.parent_alias is not None:
        field = table.join_field
        remote = getattr(field, "remote_field", None)
        # The link to a parent's table, and the hidden side of a many-to-many, say nothing.
        if not getattr(remote, "parent_link", False) and not field.name.endswith("+"):
            names.insert(0, field.name)
        table = query.alias_map.get(table.parent_alias)
    return "__".join(names)
