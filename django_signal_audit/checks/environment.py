"""The check of variables: a secret in one whose name does not tell Django to hide it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.module_loading import import_string
from django.views.debug import SafeExceptionReporterFilter

from django_signal_audit import conf
from django_signal_audit.checks.findings import Findings, warning
from django_signal_audit.sinks import SinkURL

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from django.core.checks import CheckMessage


def shown_variables(findings: Findings) -> Iterator[CheckMessage]:
    """Sinks whose URL holds a secret, in a variable that pages and mails of errors show.

    A request of ``runserver``, and of some other servers, holds all variables in its ``META``.

    Args:
        findings: of a look at the settings.
    """
    for route in findings.routes:
        url = findings.said.SINKS[route.alias].get("OPTIONS")
        if not isinstance(url, SinkURL) or not url.has_password:
            continue
        for variable in url.variables:
            if not _hidden_names().search(variable):
                yield warning(
                    f"{conf.SETTING}['SINKS'][{route.alias!r}] has a secret in its URL, and the "
                    f"variable {variable} holds it: Django hides variables by their names, and "
                    "shows this one on its debug page and in mails about errors.",
                    f"Write the URLs into a file that {variable}_FILE names, and read it by "
                    "environ.FileAwareEnv(); or give the variable a name that Django hides, such "
                    f"as {variable}_SECRET.",
                    "W062",
                )


def _hidden_names() -> re.Pattern[str]:
    used = import_string(settings.DEFAULT_EXCEPTION_REPORTER_FILTER)
    found: re.Pattern[str] = getattr(
        used, "hidden_settings", SafeExceptionReporterFilter.hidden_settings
    )
    return found
