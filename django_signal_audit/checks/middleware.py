"""The check of ``MIDDLEWARE``: whether events can know their request and its user.

``AuditMiddleware`` serves wherever it stands, also before ``AuthenticationMiddleware``: the user
is read when an event is made. Only what other middleware writes before it or after it is recorded
without request and user, so it is asked which of Django's write what is audited.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.utils.module_loading import import_string

from django_signal_audit.checks.findings import Findings, look, warning
from django_signal_audit.middleware import AuditMiddleware

if TYPE_CHECKING:
    from django.apps import AppConfig
    from django.core.checks import CheckMessage
    from django.db.models import Model

_PATH: Final = f"{AuditMiddleware.__module__}.{AuditMiddleware.__qualname__}"
_SESSION: Final = "django.contrib.sessions.middleware.SessionMiddleware"
_REMOTE_USER: Final = "django.contrib.auth.middleware.RemoteUserMiddleware"


def check_middleware(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Whether ``AuditMiddleware`` is there, once, and before what writes audited rows."""
    findings = look()
    if findings.mistakes or not getattr(settings, "ROOT_URLCONF", None):
        return []
    chain = [(path, _imported(path)) for path in settings.MIDDLEWARE or ()]
    own = [place for place, (_, found) in enumerate(chain) if _is_a(found, AuditMiddleware)]
    if own:
        return [*_repetitions([chain[place][0] for place in own]), *_order(findings, chain, own[0])]
    return list(_absence(findings))


def _absence(findings: Findings) -> Iterator[CheckMessage]:
    audited = [model._meta.label for model, _ in findings.audited()]
    audited += [f"the signal {path}" for path in findings.config.SIGNALS]
    if audited:
        yield warning(
            f"{_PATH} is not in MIDDLEWARE, though {audited[0]} is audited: events of requests "
            "know neither the request nor its user.",
            f"Add '{_PATH}' to MIDDLEWARE.",
            "W041",
        )


def _repetitions(paths: Sequence[str]) -> Iterator[CheckMessage]:
    if len(paths) > 1:
        yield warning(
            f"MIDDLEWARE holds AuditMiddleware {len(paths)} times: {', '.join(map(repr, paths))}.",
            f"Leave one, {paths[0]!r}: the others do the same work again.",
            "W042",
        )


def _order(
    findings: Findings, chain: Sequence[tuple[str, object]], own: int
) -> Iterator[CheckMessage]:
    audited = {model for model, _ in findings.audited()}
    for path, found in chain[:own]:
        if _is_a(found, _imported(_SESSION)) and _sessions_in(audited):
            lost = "sessions that are saved with the response"
        elif _is_a(found, _imported(_REMOTE_USER)) and _users_in(audited):
            lost = "users that it creates or logs in"
        else:
            continue
        yield warning(
            f"{chain[own][0]!r} stands after {path!r} in MIDDLEWARE: the changes of {lost} are "
            "recorded without request and user.",
            f"Move {chain[own][0]!r} before it.",
            "W042",
        )


def _imported(path: object) -> object:
    """What stands at a dotted path; what cannot be imported is Django's to report."""
    try:
        return import_string(path)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - a module may raise anything while it is imported
        return None


def _is_a(found: object, wanted: object) -> bool:
    return isinstance(found, type) and isinstance(wanted, type) and issubclass(found, wanted)


def _sessions_in(audited: Collection[type[Model]]) -> bool:
    """Whether the rows that sessions are kept in, if they are, are audited."""
    store = _imported(f"{settings.SESSION_ENGINE}.SessionStore")
    model_class = getattr(store, "get_model_class", None)
    return model_class is not None and model_class() in audited


def _users_in(audited: Collection[type[Model]]) -> bool:
    return any(model._meta.label_lower == settings.AUTH_USER_MODEL.lower() for model in audited)
