"""System checks: a wrong setting is found by ``manage.py check``, not by a lost event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from django.apps import AppConfig, apps
from django.core import checks
from django.core.exceptions import FieldDoesNotExist
from django.db import connections, router

from django_signal_audit import conf, registry
from django_signal_audit.capture.signals import resolve_setting
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import routing

TAG: Final = "signal_audit"

_HINT: Final = "See docs/reference/settings.md."


def connect() -> None:
    """Register the checks."""
    checks.register(check_settings, TAG)
    checks.register(check_models, TAG)
    checks.register(check_tables, TAG, checks.Tags.database)


def settings_are_sound() -> bool:
    """Whether the settings can be read at all; ``check`` says what is wrong with them.

    ``ready()`` asks, so that a mistake ends as a system check error with its id, and not
    as a traceback from loading the apps.
    """
    return not _settings_errors()


def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Keys, sinks, formats, policies and signals in ``SIGNAL_AUDIT``."""
    errors = _settings_errors()
    if errors:
        return errors
    found: list[checks.CheckMessage] = []
    for route in routing.all_routes():
        found.extend(route.sink.check())
    if not conf.current().SINKS:
        found.append(
            checks.Warning(
                f"{conf.SETTING}['SINKS'] is empty: no event goes anywhere.",
                hint="Leave SINKS out for the database sink, or name a sink.",
                id="django_signal_audit.W101",
            )
        )
    return found


def check_models(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Labels and field names of policies."""
    if _settings_errors():
        return []
    found: list[checks.CheckMessage] = []
    for label in conf.current().MODELS:
        found.extend(_label_errors(label, f"{conf.SETTING}['MODELS']"))
    for label in registry.registered_labels():
        found.extend(_label_errors(label, "register()"))
    for model in apps.get_models():
        try:
            policy = registry.policy_for(model)
        except AuditConfigurationError as exc:
            found.append(_error(str(exc), "E002"))
            continue
        if policy is not None and not model._meta.proxy:
            found.extend(_field_errors(model, policy))
            found.extend(_sink_errors(model, policy))
    return found


def check_tables(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[checks.CheckMessage]:
    """The table of records on every alias that audited models are written to."""
    if _settings_errors():
        return []
    from django_signal_audit.models import (  # noqa: PLC0415 - needs loaded apps
        AuditRecord,
        record_table_exists,
    )

    if not any(route.sink.transactional for route in routing.all_routes()):
        return []
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        audited = [
            model._meta.label
            for model in apps.get_models()
            if registry.policy_for(model) is not None
            and router.allow_migrate_model(alias, model)
            and model._meta.db_table in connections[alias].introspection.table_names()
        ]
        if audited and not record_table_exists(alias):
            allowed = router.allow_migrate_model(alias, AuditRecord)
            hint = (
                f"Run manage.py migrate --database {alias}."
                if allowed
                else "A router in DATABASE_ROUTERS forbids django_signal_audit on this alias; "
                "let allow_migrate() return True for it."
            )
            found.append(
                checks.Error(
                    f"Database {alias!r} holds the audited model {audited[0]} but no table "
                    "of audit records.",
                    hint=hint,
                    id="django_signal_audit.E010",
                )
            )
    return found


def _settings_errors() -> list[checks.CheckMessage]:
    try:
        config = conf.current()
    except AuditConfigurationError as exc:
        return [_error(str(exc), "E001")]
    found: list[checks.CheckMessage] = []
    for label, options in config.MODELS.items():
        try:
            _require_policy(label, options)
        except AuditConfigurationError as exc:
            found.append(_error(str(exc), "E002"))
    for alias, said in config.SINKS.items():
        try:
            routing.build_route(alias, said)
        except AuditConfigurationError as exc:
            found.append(_error(str(exc), "E003"))
    for path, said in config.SIGNALS.items():
        try:
            resolve_setting(path, said)
        except AuditConfigurationError as exc:
            found.append(_error(str(exc), "E004"))
    return found


def _require_policy(label: str, options: Any) -> None:
    where = f"{conf.SETTING}['MODELS'][{label!r}]"
    if options is False:
        return
    if not isinstance(options, Mapping):
        raise AuditConfigurationError(
            f"{where} must be a dict of options, or False to exclude it, not {options!r}."
        )
    registry.check_options(where, options)


def _label_errors(label: str, where: str) -> Iterator[checks.CheckMessage]:
    if label == "*":
        return
    app_label, _, name = label.partition(".")
    if name == "*":
        known_apps = [config.label for config in apps.get_app_configs()]
        if app_label not in known_apps:
            yield _error(
                f"{where} names the app {app_label!r}, which is not installed. "
                f"{conf.nearest(app_label, known_apps)}",
                "E005",
            )
        return
    try:
        apps.get_model(label)
    except (LookupError, ValueError):
        known = [model._meta.label for model in apps.get_models()]
        yield _error(
            f"{where} names the model {label!r}, which does not exist. "
            f"{conf.nearest(label, known)}",
            "E005",
        )


def _field_errors(model: Any, policy: registry.AuditPolicy) -> Iterator[checks.CheckMessage]:
    named = [
        ("include_fields", policy.include_fields or ()),
        ("exclude_fields", policy.exclude_fields),
        ("mask_fields", policy.mask_fields),
    ]
    many = [field.name for field in model._meta.many_to_many]
    columns = [field.name for field in model._meta.concrete_fields]
    for option, names in named:
        for name in sorted(names):
            try:
                model._meta.get_field(name)
            except FieldDoesNotExist:
                yield _error(
                    f"{model._meta.label}: {option} names the field {name!r}, which does not "
                    f"exist. {conf.nearest(name, columns + many)}",
                    "E006",
                )
    for name in sorted(policy.m2m_fields or ()):
        if name not in many:
            advice = conf.nearest(name, many) if many else "The model has none."
            yield _error(
                f"{model._meta.label}: m2m_fields names {name!r}, which is no many-to-many "
                f"field. {advice}",
                "E006",
            )


def _sink_errors(model: Any, policy: registry.AuditPolicy) -> Iterator[checks.CheckMessage]:
    good = list(conf.current().SINKS)
    for alias in policy.sinks or ():
        if alias not in good:
            advice = conf.nearest(alias, good) if good else "SINKS is empty."
            yield _error(
                f"{model._meta.label}: sinks names {alias!r}, which is not in "
                f"{conf.SETTING}['SINKS']. {advice}",
                "E007",
            )


def _error(message: str, number: str) -> checks.Error:
    return checks.Error(message, hint=_HINT, id=f"django_signal_audit.{number}")
