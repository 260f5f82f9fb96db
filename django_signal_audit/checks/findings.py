"""What is wrong with the settings, all of it, and what of them is sound.

A mistake in one place must not hide those in others, so the checks go on with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core import checks

from django_signal_audit import conf, policy, processors, registry
from django_signal_audit.capture.signals import resolve_setting
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import routing

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.sinks.routing import Route


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What a look at ``SIGNAL_AUDIT`` has found.

    Attributes:
        said: the settings as they are, without keys that are no setting or of a wrong type.
        config: the same without the entries of ``MODELS`` that are wrong.
        routes: the sinks that can be built.
        mistakes: everything that keeps a part of the settings from being used.
    """

    said: conf.Config
    config: conf.Config
    routes: tuple[Route, ...]
    mistakes: tuple[AuditConfigurationError, ...]

    def policy_for(self, model: type[Model]) -> registry.AuditPolicy | None:
        """The policy of a model, as the sound part of the settings makes it.

        Raises:
            AuditConfigurationError: code and settings contradict each other.
        """
        if self.mistakes:
            return registry.policy_under(model, self.config)
        return registry.policy_for(model)

    def audited(self) -> Iterator[tuple[type[Model], registry.AuditPolicy]]:
        """The models that have a policy, but for those whose policy is impossible."""
        for model in concrete_models():
            try:
                found = self.policy_for(model)
            except AuditConfigurationError:
                continue
            if found is not None:
                yield model, found


def look() -> Findings:
    """Look at the settings as they are now."""
    said, mistakes = conf.current_sound()
    models = {}
    for label, options in said.MODELS.items():
        found = _mistakes_of(_require_entry, label, options)
        if not found:
            models[label] = options
        mistakes += found
    where = f"{conf.SETTING}['PROCESSORS']"
    mistakes += _mistakes_of(processors.resolve, where, said.PROCESSORS)
    routes, found = _routes(said)
    mistakes += found
    for path, options in said.SIGNALS.items():
        mistakes += _mistakes_of(resolve_setting, path, options)
    return Findings(said, replace(said, MODELS=models), routes, tuple(mistakes))


def settings_are_sound() -> bool:
    """Whether the settings can be used at all.

    ``ready()`` asks, so that a mistake ends as a system check error with its id, and not
    as a traceback from loading the apps.
    """
    return not settings_errors()


def settings_errors() -> list[checks.CheckMessage]:
    """What keeps the settings from being used."""
    findings = look()
    return [*map(message, findings.mistakes), *policy_errors(findings)]


def policy_errors(findings: Findings) -> list[checks.CheckMessage]:
    """Policies that code and settings together make impossible."""
    return [
        message(mistake)
        for model in concrete_models()
        for mistake in _mistakes_of(findings.policy_for, model)
    ]


def message(mistake: AuditConfigurationError) -> checks.CheckMessage:
    """A mistake as what ``manage.py check`` shows."""
    return error(mistake.problem, mistake.hint, mistake.number)


def error(problem: str, hint: str, number: str) -> checks.Error:
    """An error of this package."""
    return checks.Error(problem, hint=hint or None, id=f"{registry.OWN_APP}.{number}")


def warning(problem: str, hint: str, number: str) -> checks.Warning:
    """A warning of this package."""
    return checks.Warning(problem, hint=hint, id=f"{registry.OWN_APP}.{number}")


def concrete_models() -> list[type[Model]]:
    """Every model that has rows of its own."""
    return [model for model in apps.get_models() if not model._meta.proxy]


def _routes(said: conf.Config) -> tuple[tuple[Route, ...], list[AuditConfigurationError]]:
    try:
        return routing.all_routes(), []
    except AuditConfigurationError:
        pass  # one of the sinks, or the settings as a whole; what follows says which
    routes = []
    mistakes: list[AuditConfigurationError] = []
    for alias, entry in said.SINKS.items():
        try:
            routes.append(routing.build_route(alias, entry, said.STATE_DIR))
        except AuditConfigurationError as exc:
            mistakes += exc.all()
    return tuple(routes), mistakes


def _require_entry(label: str, options: Any) -> None:
    where = f"{conf.SETTING}['MODELS'][{label!r}]"
    if options is not False:
        policy.require_entry(where, options)
        policy.check_options(where, options)
        policy.require_consistent(where, options)


def _mistakes_of(function: Callable[..., object], *args: Any) -> list[AuditConfigurationError]:
    try:
        function(*args)
    except AuditConfigurationError as exc:
        return exc.all()
    return []
