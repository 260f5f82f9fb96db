"""The application: ``ready()`` is the one place where things are connected."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import AppConfig
from django.core.signals import setting_changed

from django_signal_audit.exceptions import AuditConfigurationError

logger = logging.getLogger("django_signal_audit")


class SignalAuditConfig(AppConfig):
    """Connects capture, the transaction rules and the checks."""

    name = "django_signal_audit"
    verbose_name = "Audit trail"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect everything; a second call changes nothing."""
        from django_signal_audit import checks, pipeline, transactions  # noqa: PLC0415
        from django_signal_audit.capture import (  # noqa: PLC0415
            blind,
            deletes,
            loaded,
            querysets,
            relations,
            saves,
            signals,
        )
        from django_signal_audit.sinks import aliases, migrating  # noqa: PLC0415

        checks.connect()
        migrating.connect()
        aliases.connect()
        transactions.connect_reads()
        saves.connect()
        querysets.connect()
        deletes.connect()
        relations.connect()
        blind.connect()
        setting_changed.connect(_settings_changed, dispatch_uid="django_signal_audit.settings")
        if checks.settings_are_sound():
            signals.connect()
            loaded.watch_all()
            pipeline.emit_waiting()
        else:
            _connect_what_is_sound()


def _connect_what_is_sound() -> None:
    """Leave the wrong rest to ``check``, where it has an id, and say so where none is run."""
    from django_signal_audit import checks  # noqa: PLC0415 - needs loaded apps
    from django_signal_audit.capture import signals  # noqa: PLC0415

    for problem in checks.settings_errors():
        said = f"{problem.msg} {problem.hint or ''}".rstrip()
        logger.error("The audit trail is not complete: %s (%s)", said, problem.id)
    try:
        signals.connect()
    except AuditConfigurationError:
        return  # it is among the problems above


def _settings_changed(setting: str, **kwargs: Any) -> None:
    if setting != "SIGNAL_AUDIT":
        return
    from django_signal_audit import checks  # noqa: PLC0415 - needs loaded apps
    from django_signal_audit.capture import loaded, signals  # noqa: PLC0415
    from django_signal_audit.sinks import routing  # noqa: PLC0415

    routing.close_sinks()
    if checks.settings_are_sound():
        signals.connect_settings()
        loaded.watch_all()
