"""What the database holds, read afresh and written as events write it, by rules of its own."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import uuid
from decimal import Decimal

from django.apps import apps
from django.db import connections, transaction

from django_signal_audit import suspend_audit
from django_signal_audit.models import AuditRecord
from django_signal_audit.registry import policy_for
from tests.replay.replayer import columns_of, key_of


def show(field, value):  # noqa: C901, PLR0911 - a rule for each type of column
    """A value of a column as the documentation of events says it is written."""
    while field.remote_field is not None:
        field = field.target_field
    if value is None or isinstance(value, (bool, int)):
        # PostgreSQL gives the number 1e20 in JSON back as an integer.
        return value if value is None or abs(value) < 2**63 else {"$int": str(value)}
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return {"$float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, Decimal):
        return f"{value:.{field.decimal_places}f}"
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, dt.date):
        return value.strftime("%Y-%m-%d")
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (bytes, memoryview)):
        content = bytes(value)
        digest = hashlib.sha256(content).hexdigest()
        return {"$bytes": {"size": len(content), "sha256": digest}}
    if isinstance(value, str):
        if "\x00" in value:
            return {"$text": value.replace("\\", "\\\\").replace("\x00", "\\u0000")}
        return value
    return json.loads(json.dumps(value))


def audited_models():
    """The audited models of the graph."""
    found = apps.get_app_config("replayapp").get_models()
    return [model for model in found if policy_for(model) and not model._meta.proxy]


def stored_rows(using):
    """The rows of audited models: label, key and field name to the shown value."""
    rows = {}
    for model in audited_models():
        fields = columns_of(model)[model]
        table = {}
        for values in model._base_manager.using(using).values_list(*(f.attname for f in fields)):
            row = {f.name: show(f, v) for f, v in zip(fields, values, strict=True)}
            table[key_of(model, row)] = row
        if table:
            rows[model._meta.label_lower] = table
    return rows


def stored_relations(using):
    """The pairs of audited many-to-many fields: label, name and owner's key to far keys."""
    relations = {}
    for model in audited_models():
        for field in model._meta.local_many_to_many:
            through = field.remote_field.through
            near = through._meta.get_field(field.m2m_field_name())
            far = through._meta.get_field(field.m2m_reverse_field_name())
            sets = {}
            pairs = through._base_manager.using(using).values_list(near.attname, far.attname)
            for owner, other in pairs:
                sets.setdefault(str(owner), set()).add(show(far, other))
            if sets:
                relations[model._meta.label_lower, field.name] = sets
    return relations


def trail(using):
    """The events of an alias as dicts, oldest first."""
    records = AuditRecord.objects.using(using).order_by("id")
    return [record.to_event().to_dict() for record in records]


def empty_everything(using):
    """Delete the rows of the graph and of the trail, unseen."""
    connection = connections[using]
    tables = [
        m._meta.db_table
        for m in apps.get_app_config("replayapp").get_models(include_auto_created=True)
        if not m._meta.proxy
    ]
    tables.append(AuditRecord._meta.db_table)
    with (
        suspend_audit(),
        connection.constraint_checks_disabled(),
        transaction.atomic(using),
        connection.cursor() as cursor,
    ):
        for table in tables:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
