"""The check for ``check --deploy``: what serves while developing, and not in production."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from django_signal_audit import conf
from django_signal_audit.checks.findings import Findings, look, warning

if TYPE_CHECKING:
    from django.apps import AppConfig
    from django.core.checks import CheckMessage

# Made for eyes: the next release may show it otherwise, and no program can read it back.
_FOR_EYES: Final = "console"


def check_deployment(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Sinks and formats that are made for development."""
    findings = look()
    found: list[CheckMessage] = []
    for route in findings.routes:
        where = f"{conf.SETTING}['SINKS'][{route.alias!r}]"
        if route.sink.development_only:
            found.append(
                warning(
                    f"{where} is a {type(route.sink).__name__}, which is made for development.",
                    "Use another sink in production, such as DatabaseSink or FileSink.",
                    "W081",
                )
            )
        entry = findings.said.SINKS[route.alias]
        if entry.get("FORMAT", route.sink.default_format) == _FOR_EYES:
            found.append(
                warning(
                    f"{where} writes the format 'console', which is made for people: no program "
                    "reads it back.",
                    "Use 'json' or 'logfmt' in production.",
                    "W082",
                )
            )
    found.extend(_unseen_losses(findings))
    return found


def _unseen_losses(findings: Findings) -> list[CheckMessage]:
    """Sinks that may lose events, which nobody counts for all processes."""
    losing = [route.alias for route in findings.routes if route.promise != "transactional"]
    if not losing or findings.said.STATE_DIR is not None:
        return []
    return [
        warning(
            f"Audit sink {losing[0]!r} may lose events, and each process counts its losses for "
            "itself alone.",
            f"Set {conf.SETTING}['STATE_DIR'], a directory of this machine, so that manage.py "
            "audit_status sees what all processes count.",
            "W083",
        )
    ]
