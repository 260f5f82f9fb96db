"""System checks: a wrong setting is found by ``manage.py check``, not by a lost event."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.apps import AppConfig, apps
from django.core import checks
from django.db import connections, router
from django.db.migrations.recorder import MigrationRecorder

from django_signal_audit import conf, registry
from django_signal_audit.capture.signals import resolve_setting
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import routing

if TYPE_CHECKING:
    from django.db.models import Model

TAG: Final = "signal_audit"

_HINT: Final = "See docs/reference/settings.md."
_FIRST_MIGRATION: Final = ("django_signal_audit", "0001_initial")
_WILD: Final = re.compile(r"[*?\[]")


def connect() -> None:
    """Register the checks."""
    checks.register(check_settings, TAG)
    checks.register(check_models, TAG)
    checks.register(check_tables, TAG, checks.Tags.database)
    checks.register(check_deployment, TAG, deploy=True)


def settings_are_sound() -> bool:
    """Whether the settings can be used at all.

    ``ready()`` asks, so that a mistake ends as a system check error with its id, and not
    as a traceback from loading the apps.
    """
    return not settings_errors()


def settings_errors() -> list[checks.CheckMessage]:
    """What keeps the settings from being used."""
    return _settings_errors() or _policy_errors()


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
    for alias, said in conf.current().SINKS.items():
        for label in said.get("MODELS") or ():
            if not _WILD.search(label.removesuffix(".*")):
                found.extend(_label_errors(label, f"{conf.SETTING}['SINKS'][{alias!r}]['MODELS']"))
    for label in sorted(registry.registered_labels()):
        found.extend(_label_errors(label, "register()"))
    wrong = _policy_errors()
    if wrong:
        return found + wrong
    for model in _concrete_models():
        policy = registry.policy_for(model)
        if policy is not None:
            found.extend(_field_errors(model, policy))
            found.extend(_sink_errors(model, policy))
    return found


def check_deployment(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Sinks that are made for development."""
    if _settings_errors():
        return []
    return [
        checks.Warning(
            f"{conf.SETTING}['SINKS'][{route.alias!r}] is a {type(route.sink).__name__}, which "
            "is made for development: its events do not outlive the process.",
            hint="Use another sink in production.",
            id="django_signal_audit.W102",
        )
        for route in routing.all_routes()
        if route.sink.development_only
    ]


def check_tables(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[checks.CheckMessage]:
    """The table of records on every alias that audited models are written to."""
    if settings_errors():
        return []
    if not any(route.sink.transactional for route in routing.all_routes()):
        return []
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        found.extend(_table_messages(alias))
    return found


def _table_messages(alias: str) -> Iterator[checks.CheckMessage]:
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    tables = set(connections[alias].introspection.table_names())
    if AuditRecord._meta.db_table in tables:
        return
    audited = [
        model._meta.label
        for model in _concrete_models()
        if model._meta.db_table in tables
        and registry.policy_for(model) is not None
        and router.allow_migrate_model(alias, model)
    ]
    if not audited:
        return
    message = (
        f"Database {alias!r} holds the audited model {audited[0]} but no table of audit records."
    )
    if not router.allow_migrate_model(alias, AuditRecord):
        hint = (
            "A router in DATABASE_ROUTERS forbids django_signal_audit on this alias; "
            "let allow_migrate() return True for it."
        )
        yield checks.Error(message, hint=hint, id="django_signal_audit.E010")
    elif _FIRST_MIGRATION in MigrationRecorder(connections[alias]).applied_migrations():
        hint = (
            "Its migration was applied, so it was dropped or renamed since. Restore it, or run "
            f"manage.py migrate --database {alias} django_signal_audit zero, then without zero."
        )
        yield checks.Error(message, hint=hint, id="django_signal_audit.E010")
    else:
        # An error would keep `migrate`, which runs this check, from making the table.
        hint = f"Run manage.py migrate --database {alias}."
        yield checks.Warning(message, hint=hint, id="django_signal_audit.W110")


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
    found.extend(_sinks_errors(config))
    for path, said in config.SIGNALS.items():
        try:
            resolve_setting(path, said)
        except AuditConfigurationError as exc:
            found.append(_error(str(exc), "E004"))
    return found


def _sinks_errors(config: conf.Config) -> list[checks.CheckMessage]:
    try:
        routing.all_routes()
    except AuditConfigurationError:
        pass  # the first mistake; what follows finds all
    else:
        return []
    found: list[checks.CheckMessage] = []
    for alias, said in config.SINKS.items():
        try:
            routing.build_route(alias, said)
        except AuditConfigurationError as exc:
            found.append(_error(str(exc), "E003"))
    return found


def _policy_errors() -> list[checks.CheckMessage]:
    """Policies that code and settings together make impossible."""
    found: list[checks.CheckMessage] = []
    for model in _concrete_models():
        try:
            registry.policy_for(model)
        except AuditConfigurationError as exc:
            found.append(_error(str(exc), "E002"))
    return found


def _concrete_models() -> list[type[Model]]:
    return [model for model in apps.get_models() if not model._meta.proxy]


def _require_policy(label: str, options: Any) -> None:
    where = f"{conf.SETTING}['MODELS'][{label!r}]"
    if options is False:
        return
    if not isinstance(options, Mapping):
        raise AuditConfigurationError(
            f"{where} must be a dict of options, or False to exclude it, not {options!r}."
        )
    registry.check_options(where, options)
    registry.require_consistent(where, options)


def _label_errors(label: str, where: str) -> Iterator[checks.CheckMessage]:
    if label == "*":
        return
    app_label, _, name = label.partition(".")
    if name == "*":
        known_apps = [config.label for config in apps.get_app_configs()]
        if app_label.lower() not in {known.lower() for known in known_apps}:
            yield _error(
                f"{where} names the app {app_label!r}, which is not installed. "
                f"{conf.nearest(app_label, known_apps)}",
                "E005",
            )
        return
    models = apps.get_models(include_auto_created=True, include_swapped=True)
    known = {model._meta.label.lower(): model for model in models}
    found = known.get(label.lower())
    if found is None:
        yield _error(
            f"{where} names the model {label!r}, which does not exist. "
            f"{conf.nearest(label, [model._meta.label for model in known.values()])}",
            "E005",
        )
    elif found._meta.auto_created:
        owner: Any = found._meta.auto_created
        yield _error(
            f"{where} names {label!r}, the table Django makes for a many-to-many field. Its "
            f"changes are recorded as those of {owner._meta.label}; name that model.",
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
            if name not in columns and name not in many:
                yield _error(
                    f"{model._meta.label}: {option} names {name!r}, which is no field with a "
                    f"column or many-to-many field. {conf.nearest(name, columns + many)}",
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
