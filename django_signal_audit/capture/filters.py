"""Which rows a call was about, and what it wrote, in words that show no secret.

``stock >= 3 AND NOT (title = "x" OR author__name contains "A")``: columns by their names in
Django, values as JSON. It tells a person what was asked; it is not meant to be run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson
from django.db.models import JSONField

from django_signal_audit import internals
from django_signal_audit.capture.plans import UNKNOWN
from django_signal_audit.capture.updates import constant_of, values_by_field
from django_signal_audit.event import REDACTED
from django_signal_audit.internals.expressions import (
    Call,
    Column,
    Group,
    Inside,
    Literal,
    Opaque,
    Test,
)
from django_signal_audit.masking import is_masked
from django_signal_audit.redaction import redactor
from django_signal_audit.registry import policy_for
from django_signal_audit.values import make_safe

if TYPE_CHECKING:
    from django.db.models import Model, QuerySet

    from django_signal_audit.capture.plans import FieldPlan, ModelPlan

ALL_ROWS: Final = "all rows"

_MOST_TEXT: Final = 2000
_MOST_PARTS: Final = 50
_MOST_ITEMS: Final = 20
_MOST_VALUE: Final = 200

_OPERATORS: Final = {"exact": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_WITHHELD: Final = "?"


def filter_text(queryset: QuerySet[Any]) -> str:
    """The conditions of a queryset as a text of bounded length.

    Values of columns that are masked or not recorded are shown as ``[redacted]``; literals
    inside of expressions as ``?``; subqueries and SQL of the program's own are only named.

    Returns:
        ``"all rows"`` where there is no condition.
    """
    parts = internals.parts_of_filter(queryset)
    if not parts.parts:
        return ALL_ROWS
    return _cut(_Text(queryset.model, literals=False).of(parts))


def values_shown(
    plan: ModelPlan,
    fields: tuple[FieldPlan, ...],
    values: Mapping[str, Any],
    queryset: QuerySet[Any],
) -> dict[str, Any]:
    """What an update writes to each of some fields.

    Args:
        plan: of the model.
        fields: those to show.
        values: the keywords of the update.
        queryset: that was updated; expressions refer to it.

    Returns:
        The value by the field's name; of an expression ``{"$expression": text}``.
    """
    given = values_by_field(plan, values)
    return {field.name: _value_shown(field, given[field.name], queryset) for field in fields}


def _value_shown(field: FieldPlan, given: Any, queryset: QuerySet[Any]) -> Any:
    if not hasattr(given, "resolve_expression"):
        stored = constant_of(field, given)
        return field.shown(given if stored is UNKNOWN else stored)
    if field.masked:
        return REDACTED
    expression, query = internals.resolved_for_update(queryset, given)
    part = internals.parts_of_expression(expression, query)
    if isinstance(part, Literal):
        return field.shown(part.value)
    secret = _Text(queryset.model, literals=True).tells_secret(part)
    return {"$expression": _cut(_Text(queryset.model, literals=not secret).of(part))}


class _Text:
    """Writes parts of one queryset as text.

    Args:
        model: of the queryset.
        literals: whether values inside of expressions are shown.
    """

    def __init__(self, model: type[Model], *, literals: bool) -> None:
        self.model = model
        self.literals = literals

    def of(self, part: Any) -> str:  # noqa: PLR0911 - one for each kind of part
        match part:
            case Group():
                return self._group(part)
            case Test():
                return self._test(part)
            case Column():
                return part.path
            case Inside():
                return f"{self.of(part.part)}__{part.name}"
            case Literal():
                return _json(part.value) if self.literals else _WITHHELD
            case Call(infix=True):
                return f" {part.name} ".join(
                    f"({self.of(p)})" if isinstance(p, Call) and p.infix else self.of(p)
                    for p in part.parts
                )
            case Call():
                return f"{part.name}({', '.join(self._all(part.parts))})"
        name: str = part.name
        return name

    def _all(self, parts: tuple[Any, ...]) -> Iterator[str]:
        for part in parts[:_MOST_PARTS]:
            yield self.of(part)
        if len(parts) > _MOST_PARTS:
            yield f"{len(parts) - _MOST_PARTS} more"

    def _group(self, group: Group) -> str:
        texts = []
        for part in group.parts[:_MOST_PARTS]:
            text = self.of(part)
            # A negated part has brackets of its own.
            brackets = isinstance(part, Group) and not part.negated and len(group.parts) > 1
            texts.append(f"({text})" if brackets else text)
        if len(group.parts) > _MOST_PARTS:
            texts.append(f"{len(group.parts) - _MOST_PARTS} more")
        text = f" {group.connector} ".join(texts)
        return f"NOT ({text})" if group.negated else text

    def _test(self, test: Test) -> str:
        left = self.of(test.left)
        match test:
            case Test(lookup="isnull", right=Literal(value)):
                return f"{left} is {'' if value else 'not '}null"
            case Test(left=Group() | Call(), lookup="exact", right=Literal(True)):
                return left  # Exists() and its kin
        return f"{left} {_OPERATORS.get(test.lookup, test.lookup)} {self._compared(test)}"

    def _compared(self, test: Test) -> str:
        if not isinstance(test.right, Literal):
            return self.of(test.right)
        if self.tells_secret(test.left) or _is_text_of_json(test):
            return REDACTED
        if isinstance(test.left, Literal):
            return self.of(test.right)
        return _json(test.right.value)

    def tells_secret(self, part: Any) -> bool:
        """Whether a value compared or combined with this part may be a secret's."""
        match part:
            case Column():
                return self._is_secret(part.field)
            case Inside():
                return redactor().is_sensitive(part.name) or self.tells_secret(part.part)
            case Group() | Call():
                return any(self.tells_secret(inner) for inner in part.parts)
            case Test():
                return self.tells_secret(part.left) or self.tells_secret(part.right)
        return isinstance(part, Opaque)

    def _is_secret(self, field: Any) -> bool:
        owners = [field.model]
        if field.model in self.model._meta.all_parents:
            owners.append(self.model)
        return any(_hides(owner, field) for owner in owners)


def _is_text_of_json(test: Test) -> bool:
    """Whether all of a JSON column is compared with a text, which may quote any value in it."""
    return isinstance(test.right.value, str) and _holds_json(test.left)


def _holds_json(part: Any) -> bool:
    if isinstance(part, Call):
        return any(_holds_json(inner) for inner in part.parts)
    return isinstance(part, Column) and isinstance(part.field, JSONField)


def _hides(model: type[Model], field: Any) -> bool:
    policy = policy_for(model)
    if policy is not None and not policy.records_field(field.name):
        return True
    mask_fields = frozenset() if policy is None else policy.mask_fields
    return is_masked(model, field, mask_fields, redactor())


def _json(value: Any) -> str:
    hide = redactor().is_sensitive
    if isinstance(value, list | tuple):
        items = value[:_MOST_ITEMS]
        shown = [_json(item) for item in items]
        if len(value) > len(items):
            shown.append(f"{len(value) - len(items)} more")
        return f"[{', '.join(shown)}]"
    return orjson.dumps(make_safe(value, limit=_MOST_VALUE, is_sensitive=hide)).decode()


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
