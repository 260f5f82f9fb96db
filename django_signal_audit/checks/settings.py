"""The check of ``SIGNAL_AUDIT`` itself: its keys, entries, sinks, processors and signals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django_signal_audit import conf
from django_signal_audit.checks.environment import shown_variables
from django_signal_audit.checks.findings import error, look, message, warning
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import state

if TYPE_CHECKING:
    from django.apps import AppConfig
    from django.core.checks import CheckMessage


def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Keys, sinks, formats, processors, policies and signals in ``SIGNAL_AUDIT``."""
    findings = look()
    found = [message(mistake) for mistake in findings.mistakes]
    for route in findings.routes:
        try:
            found.extend(route.sink.check())
        except AuditConfigurationError:
            # A sink may ask for all settings; what is wrong with them is said above.
            if not findings.mistakes:
                raise
    found.extend(shown_variables(findings))
    found.extend(_state_dir_errors(findings.said))
    if not findings.said.SINKS:
        found.append(
            warning(
                f"{conf.SETTING}['SINKS'] is empty: no event goes anywhere.",
                "Leave SINKS out for the database sink, or name a sink.",
                "W071",
            )
        )
    return found


def _state_dir_errors(said: conf.Config) -> list[CheckMessage]:
    problem = None if said.STATE_DIR is None else state.find_problem(Path(said.STATE_DIR))
    if problem is None:
        return []
    return [error(f"{conf.SETTING}['STATE_DIR']: {problem[0]}", problem[1], "E037")]
