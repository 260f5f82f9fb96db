"""The check of what is audited: labels, fields and sinks that policies and definitions name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.apps import AppConfig, apps

from django_signal_audit import conf, registry
from django_signal_audit.checks.findings import error, look, policy_errors
from django_signal_audit.checks.secrets import secret_warnings
from django_signal_audit.definitions import all_definitions
from django_signal_audit.policy import IGNORE_ONLY

if TYPE_CHECKING:
    from django.core.checks import CheckMessage
    from django.db.models import Model

_SINKS: Final = f"{conf.SETTING}['SINKS']"
_WILDCARDS: Final = frozenset("*?[")
_ANY_FIELD: Final = "field with a column or many-to-many field"


def check_models(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Labels, field names, sinks and secrets of what is audited."""
    findings = look()
    found: list[CheckMessage] = []
    for label, where in _labels(findings.said):
        found.extend(_label_errors(label, where))
    found.extend(policy_errors(findings))
    good = list(findings.said.SINKS)
    for model, policy in findings.audited():
        found.extend(_field_errors(model, policy))
        found.extend(_alias_errors(f"{model._meta.label}: sinks", policy.sinks or (), good))
    for definition in all_definitions():
        found.extend(_alias_errors(definition.where, definition.sinks, good))
    if not findings.mistakes:
        for model, policy in findings.audited():
            found.extend(secret_warnings(model, policy))
    return found


def _labels(said: conf.Config) -> Iterator[tuple[str, str]]:
    """Every label of a model or an application, with what names it."""
    for label in said.MODELS:
        yield label, f"{conf.SETTING}['MODELS']"
    for alias, entry in said.SINKS.items():
        patterns = entry.get("MODELS") if isinstance(entry, Mapping) else None
        # Anything else than a list of texts is reported as a wrong entry of SINKS.
        for label in patterns if isinstance(patterns, Collection) else ():
            if isinstance(label, str) and _WILDCARDS.isdisjoint(label.removesuffix(".*")):
                yield label, f"{_SINKS}[{alias!r}]['MODELS']"
    for label in sorted(registry.registered_labels()):
        yield label, "register()"


def _label_errors(label: str, where: str) -> Iterator[CheckMessage]:
    if label == "*":
        return
    app_label, _, name = label.partition(".")
    if name == "*":
        known_apps = [config.label for config in apps.get_app_configs()]
        if app_label.lower() not in {known.lower() for known in known_apps}:
            yield error(
                f"{where} names the app {app_label!r}, which is not installed.",
                conf.nearest(app_label, known_apps),
                "E011",
            )
        return
    models = apps.get_models(include_auto_created=True, include_swapped=True)
    known = {model._meta.label.lower(): model for model in models}
    found = known.get(label.lower())
    if found is None:
        yield error(
            f"{where} names the model {label!r}, which does not exist.",
            conf.nearest(label, [model._meta.label for model in known.values()]),
            "E011",
        )
    elif found._meta.auto_created:
        owner: Any = found._meta.auto_created
        yield error(
            f"{where} names {label!r}, the table Django makes for a many-to-many field.",
            f"Its changes are recorded as those of {owner._meta.label}: name that model.",
            "E011",
        )


def _field_errors(model: type[Model], policy: registry.AuditPolicy) -> Iterator[CheckMessage]:
    many = [field.name for field in model._meta.many_to_many]
    columns = [field.name for field in model._meta.concrete_fields]
    for option, names, good, kind in (
        ("include_fields", policy.include_fields or (), columns + many, _ANY_FIELD),
        ("exclude_fields", policy.exclude_fields, columns + many, _ANY_FIELD),
        ("mask_fields", policy.mask_fields, columns + many, _ANY_FIELD),
        ("m2m_fields", policy.m2m_fields or (), many, "many-to-many field"),
        # What it means by default is a field of users alone.
        ("ignore_only", policy.ignore_only - IGNORE_ONLY, columns, "field with a column"),
    ):
        for name in sorted(set(names).difference(good)):
            yield error(
                f"{model._meta.label}: {option} names {name!r}, which is no {kind}.",
                conf.nearest(name, good) if good else "The model has none.",
                "E015",
            )


def _alias_errors(
    where: str, aliases: Collection[str], good: Collection[str]
) -> Iterator[CheckMessage]:
    for alias in aliases:
        if alias not in good:
            yield error(
                f"{where} names {alias!r}, which is not in {_SINKS}.",
                conf.nearest(alias, good) if good else "SINKS is empty: add the sink.",
                "E016",
            )
