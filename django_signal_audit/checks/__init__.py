"""System checks: a wrong setting is found by ``manage.py check``, not by a lost event."""

from __future__ import annotations

from typing import Final

from django.core import checks

from django_signal_audit.checks.cascades import check_cascades, check_constraints
from django_signal_audit.checks.deployment import check_deployment
from django_signal_audit.checks.findings import settings_are_sound, settings_errors
from django_signal_audit.checks.middleware import check_middleware
from django_signal_audit.checks.models import check_models
from django_signal_audit.checks.settings import check_settings
from django_signal_audit.checks.tables import check_tables

__all__ = [
    "TAG",
    "check_cascades",
    "check_constraints",
    "check_deployment",
    "check_middleware",
    "check_models",
    "check_settings",
    "check_tables",
    "connect",
    "settings_are_sound",
    "settings_errors",
]

TAG: Final = "signal_audit"


def connect() -> None:
    """Register the checks."""
    checks.register(check_settings, TAG)
    checks.register(check_models, TAG)
    checks.register(check_cascades, TAG)
    checks.register(check_middleware, TAG)
    checks.register(check_tables, TAG, checks.Tags.database)
    checks.register(check_constraints, TAG, checks.Tags.database)
    checks.register(check_deployment, TAG, deploy=True)
