"""What is to be recorded of a model's columns, worked out once for each policy."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import models
from django.db.models.fields.files import FieldFile

from django_signal_audit import conf, internals
from django_signal_audit.event import REDACTED
from django_signal_audit.masking import is_masked, value_field
from django_signal_audit.redaction import Redactor, redactor
from django_signal_audit.values import make_safe

if TYPE_CHECKING:
    from collections.abc import Collection

    from django_signal_audit.registry import AuditPolicy

UNKNOWN: Final = object()
"""The stored value cannot be told from the attribute; the row must be read back."""

# Classes whose column holds exactly the attribute, if the attribute is exactly of this type.
# A subclass may convert, so it is not looked up by inheritance.
_EXACT: Final[dict[type, type]] = {
    **dict.fromkeys(
        (
            models.AutoField,
            models.BigAutoField,
            models.SmallAutoField,
            models.IntegerField,
            models.BigIntegerField,
            models.SmallIntegerField,
            models.PositiveIntegerField,
            models.PositiveBigIntegerField,
            models.PositiveSmallIntegerField,
        ),
        int,
    ),
    **dict.fromkeys(
        (
            models.CharField,
            models.TextField,
            models.SlugField,
            models.EmailField,
            models.URLField,
            models.FilePathField,
        ),
        str,
    ),
    models.BooleanField: bool,
    models.DateField: dt.date,
    models.UUIDField: uuid.UUID,
    models.DurationField: dt.timedelta,
    models.BinaryField: bytes,
}

# SQLite keeps decimals as REAL; beyond 15 digits it may store another number.
_DECIMAL_DIGITS: Final = 15

# Up to here every integer is a float.
_FLOAT_INTEGERS: Final = 2**53

# From about here Python writes a float without its ".0", by an exponent.
_FLOAT_DIGITS: Final = 1e15


@dataclass(frozen=True, slots=True, eq=False)
class FieldPlan:
    """How one recorded column is read and shown.

    Attributes:
        field: the concrete field.
        name: key in ``changes``.
        attname: attribute that holds the raw value.
        masked: values are shown as ``"[redacted]"``.
        value_field: the field itself, or what a foreign key points at in the end.
        generated: the database computes the column.
        recorded: it belongs in ``changes``; otherwise it is read for what it tells of a relation.
    """

    field: models.Field[Any, Any]
    name: str
    attname: str
    masked: bool
    value_field: models.Field[Any, Any]
    generated: bool
    recorded: bool = True

    def stored(self, value: Any) -> Any:
        """The value the column holds after ``value`` was written, or ``UNKNOWN``."""
        if value is None:
            return None
        kind = type(self.value_field)
        exact = _EXACT.get(kind)
        if type(value) is exact:
            return value
        if hasattr(value, "resolve_expression"):
            return UNKNOWN
        if isinstance(value, models.Choices) and type(value.value) is exact:
            return value.value
        rule = _RULES.get(kind)
        return UNKNOWN if rule is None else rule(self.value_field, value)

    def same(self, old: Any, new: Any) -> bool:
        """Whether two stored values are equal in the database."""
        if isinstance(old, memoryview) or isinstance(new, memoryview):
            return old is new or (old is not None and new is not None and bytes(old) == bytes(new))
        try:
            if type(self.value_field) is models.JSONField:
                return _same_json(old, new)
            return _equal(old, new)
        except Exception:  # noqa: BLE001 - values of others, such as numpy's arrays
            return self._same_to_a_database(old, new)

    def _same_to_a_database(self, old: Any, new: Any) -> bool:
        try:
            prepare = self.value_field.get_prep_value
            return _equal(prepare(old), prepare(new))
        except Exception:  # noqa: BLE001 - better a change too many than one too few
            return False

    def shown(self, value: Any) -> Any:
        """The value as it stands in the event: masked, safe and in typed JSON."""
        if value is None:
            return None
        if self.masked:
            return REDACTED
        if type(value) is bool or (type(value) is int and abs(value) <= _FLOAT_INTEGERS):
            return value  # what make_safe() says too; JSON may hold larger integers
        return make_safe(
            value, limit=conf.current().VALUE_LIMIT, is_sensitive=redactor().is_sensitive
        )


@dataclass(frozen=True, slots=True, eq=False)
class ModelPlan:
    """The columns of a model that are read, its own and inherited ones."""

    model: type[models.Model]
    fields: tuple[FieldPlan, ...]
    mask_fields: frozenset[str]

    def select(self, names: Collection[str]) -> tuple[FieldPlan, ...]:
        """The columns among field names or attnames."""
        return tuple(f for f in self.fields if f.name in names or f.attname in names)


def plan_for(
    model: type[models.Model], policy: AuditPolicy | None, also: tuple[str, ...] = ()
) -> ModelPlan:
    """The plan of a concrete model under a policy, made once.

    Args:
        model: a concrete class.
        policy: decides which columns are recorded; ``None`` records none.
        also: names of further columns to read.
    """
    make = _plan if internals.is_historical(model) else _kept_plan
    return make(model, policy, also, redactor())


def _plan(
    model: type[models.Model], policy: AuditPolicy | None, also: tuple[str, ...], hide: Redactor
) -> ModelPlan:
    mask_fields = frozenset() if policy is None else policy.mask_fields
    plans = []
    for field in model._meta.concrete_fields:
        recorded = policy is not None and policy.records_field(field.name)
        # A composite primary key has no column; its parts have.
        if field.column is None or not (recorded or field.name in also):
            continue
        plans.append(
            FieldPlan(
                field=field,
                name=field.name,
                attname=field.attname,
                masked=is_masked(model, field, mask_fields, hide),
                value_field=value_field(field),
                generated=bool(field.generated),
                recorded=recorded,
            )
        )
    return ModelPlan(model=model, fields=tuple(plans), mask_fields=mask_fields)


_kept_plan = lru_cache(maxsize=2048)(_plan)


def _stored_datetime(field: models.Field[Any, Any], value: Any) -> Any:
    if type(value) is not dt.datetime or (value.tzinfo is None) is settings.USE_TZ:
        return UNKNOWN
    try:
        return value.astimezone(dt.UTC) if settings.USE_TZ else value
    except OverflowError:
        return value  # in the first or last hours of the calendar, which UTC does not have


def _stored_time(field: models.Field[Any, Any], value: Any) -> Any:
    return value if type(value) is dt.time and value.tzinfo is None else UNKNOWN


def _stored_float(field: models.Field[Any, Any], value: Any) -> Any:
    if type(value) is int and abs(value) <= _FLOAT_INTEGERS:
        return float(value)
    return value if type(value) is float and value == value else UNKNOWN  # noqa: PLR0124 - NaN


def _stored_decimal(field: Any, value: Any) -> Any:
    if type(value) is int:
        value = Decimal(value)
    if type(value) is not Decimal or not value.is_finite() or field.decimal_places is None:
        return UNKNOWN
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or -exponent > field.decimal_places:
        return UNKNOWN  # the database rounds, each in its own way
    if len(digits) + max(0, exponent + field.decimal_places) > _DECIMAL_DIGITS:
        return UNKNOWN
    return value.quantize(Decimal(1).scaleb(-field.decimal_places))


class _DigitsError(Exception):
    """A float in JSON that PostgreSQL gives back as an integer."""


def _float_of_json(text: str) -> float:
    value = float(text)
    # jsonb writes 1e+20 out as 100000000000000000000.
    if abs(value) >= _FLOAT_DIGITS and value.is_integer():
        raise _DigitsError
    return value


_PARSER: Final = json.JSONDecoder(parse_float=_float_of_json)


def _stored_json(field: Any, value: Any) -> Any:
    if field.decoder is not None:
        return UNKNOWN
    try:
        return _PARSER.decode(json.dumps(value, cls=field.encoder))
    except (_DigitsError, RecursionError):
        return UNKNOWN


def _stored_file(field: models.Field[Any, Any], value: Any) -> Any:
    if isinstance(value, FieldFile):
        return value.name or ""
    return value if type(value) is str else UNKNOWN


_RULES: Final[dict[type, Any]] = {
    models.DateTimeField: _stored_datetime,
    models.TimeField: _stored_time,
    models.FloatField: _stored_float,
    models.DecimalField: _stored_decimal,
    models.JSONField: _stored_json,
    models.FileField: _stored_file,
    models.ImageField: _stored_file,
}


def _same_json(old: Any, new: Any) -> bool:
    """Equality of JSON values: ``true`` is not ``1``, although Python says so."""
    # No recursion: a column may hold what is nested deeper than Python's stack.
    waiting = [(old, new)]
    while waiting:
        one, other = waiting.pop()
        if isinstance(one, bool) or isinstance(other, bool):
            if one is not other:
                return False
        elif isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            waiting.extend((one[key], other[key]) for key in one)
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            waiting.extend(zip(one, other, strict=True))
        elif not _equal(one, other):
            return False
    return True


def _equal(old: Any, new: Any) -> bool:
    """Equality that takes NaN for itself, as a column does."""
    return bool(old == new or (old != old and new != new))  # noqa: PLR0124
