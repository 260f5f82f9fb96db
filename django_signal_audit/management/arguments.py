"""What users write after the options of our commands, and what to tell them to write instead.

A value is text from the command line or, from ``call_command``, a Python object.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.core.management.base import CommandError
from django.db import connections
from django.utils import timezone

from django_signal_audit import conf, keys
from django_signal_audit.values import stable_key

if TYPE_CHECKING:
    from django.db.models import Model

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE: Final = re.compile(r"(\d+)([smhdw])", re.ASCII)


def as_list(value: Any) -> list[str]:
    """The values of an option that may be repeated; ``call_command`` may pass just one."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def parse_moment(option: str, value: Any) -> datetime | None:
    """Read a date, a date and time, or an age.

    Args:
        option: its name, for the message.
        value: ISO 8601 text, an age such as ``7d``, a ``datetime``, a ``date`` or ``None``.

    Returns:
        An aware datetime: a date is the start of its day, and what names no time zone is in
        the current one.

    Raises:
        CommandError: it is none of these.
    """
    if value is None:
        return None
    try:
        moment = _to_moment(value)
        return timezone.make_aware(moment) if timezone.is_naive(moment) else moment
    except (ValueError, OverflowError) as error:
        today = timezone.localtime(datetime.now(UTC)).date().isoformat()
        raise CommandError(
            f"{option} {value!r} is no date or time. Write {today}, {today}T14:30 (in the time "
            f"zone {timezone.get_current_timezone_name()}), {today}T14:30:00Z, or an age such as "
            "2h or 7d (units: s, m, h, d, w)."
        ) from error


def _to_moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - made aware above
    text = str(value).strip()
    age = _AGE.fullmatch(text)
    if age:
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    return datetime.fromisoformat(text)


def parse_model(label: str, option: str = "--model") -> tuple[str, type[Model] | None]:
    """Read a model's label.

    Args:
        label: such as ``shop.Order``, in any case.
        option: where it stands, for the message.

    Returns:
        The object type as the trail has it, and the model; ``None`` for a model that is not
        installed, since the trail outlives the models in it.

    Raises:
        CommandError: it has not the form of a label.
    """
    app_label, _, name = str(label).partition(".")
    if not app_label or not name or "." in name:
        raise CommandError(
            f"{option} {label!r} names no model: write app_label.ModelName. {model_advice(label)}"
        )
    try:
        model = apps.get_model(app_label, name)
    except LookupError:
        return label.lower(), None
    return keys.object_type(model), model


def model_advice(label: str) -> str:
    """What to write instead of a label that names no installed model."""
    labels = [model._meta.label for model in apps.get_models()]
    name = str(label).rpartition(".")[2].lower()
    same = [found for found in labels if found.rpartition(".")[2].lower() == name]
    if same:
        return f"Did you mean {' or '.join(repr(found) for found in same)}?"
    advice = conf.nearest(label, labels)
    if advice.startswith("Did"):
        return advice
    return f"The models are those of INSTALLED_APPS, such as {labels[0]!r}."


def parse_object(value: Any, model_label: str | None) -> tuple[str, str]:
    """Read an object: ``app.Model:key``, or just its key beside ``--model``.

    Returns:
        Object type and key, as the trail has them.

    Raises:
        CommandError: no model is named, or two different ones.
    """
    head, colon, key = str(value).partition(":")
    if model_label is None:
        if colon and not key:
            raise CommandError(f"--object {value!r} has no key. Write it after the colon.")
        if "." not in head or not colon:
            raise CommandError(
                f"--object {value!r} names no model. Write --object app.Model:{value}, or add "
                "--model app.Model."
            )
        object_type, model = parse_model(head, "--object")
        return object_type, _key(model, key)
    object_type, model = parse_model(model_label)
    named = _installed_type(head) if colon else None
    if named is None or not key:
        return object_type, _key(model, str(value))
    if named != object_type:
        raise CommandError(
            f"--object {value!r} is of another model than --model {model_label!r}. Leave out "
            f"--model, or write just the key after --object."
        )
    return object_type, _key(model, key)


def parse_databases(value: Any) -> list[str]:
    """Read database aliases, each once.

    Raises:
        CommandError: an alias is unknown.
    """
    aliases = list(dict.fromkeys(as_list(value)))
    for alias in aliases:
        if alias not in connections:
            good = conf.nearest(alias, list(connections))
            raise CommandError(f"--database {alias!r} is not in DATABASES. {good}")
    return aliases


def _installed_type(label: str) -> str | None:
    if label.count(".") != 1:
        return None
    object_type, model = parse_model(label)
    return None if model is None else object_type


def _key(model: type[Model] | None, text: str) -> str:
    # The key of a composite primary key is the text of a JSON array; no field reads it.
    if model is None or len(model._meta.pk_fields) > 1:
        return stable_key(text)
    return keys.object_key(model, text)
