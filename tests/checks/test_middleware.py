"""MIDDLEWARE: what is warned about is what is lost; the last tests show that it is."""

from __future__ import annotations

import pytest
from django.contrib.auth.middleware import PersistentRemoteUserMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path

from django_signal_audit.checks import check_middleware
from django_signal_audit.middleware import AuditMiddleware
from django_signal_audit.testing import capture_events
from tests.checks.helpers import audit, warning

OURS = "django_signal_audit.middleware.AuditMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
REMOTE = "django.contrib.auth.middleware.RemoteUserMiddleware"

OWN = f"{__name__}.Own"
NO_MODELS = {"*": False}


class Own(AuditMiddleware):
    """As a project may extend it."""


class OwnSession(SessionMiddleware):
    pass


def factory(get_response):
    return get_response


def chain(*paths):
    return override_settings(MIDDLEWARE=list(paths))


def test_w041_no_middleware_though_a_model_is_audited():
    with chain(SESSION, AUTH):
        assert check_middleware() == [
            warning(
                "W041",
                f"{OURS} is not in MIDDLEWARE, though testapp.Author is audited: events of "
                "requests know neither the request nor its user.",
                f"Add '{OURS}' to MIDDLEWARE.",
            )
        ]


def test_w041_no_middleware_though_a_signal_is_audited():
    signal = "django.contrib.auth.signals.user_logged_in"
    with chain(), audit(MODELS=NO_MODELS, SIGNALS={signal: {}}):
        assert check_middleware() == [
            warning(
                "W041",
                f"{OURS} is not in MIDDLEWARE, though the signal {signal} is audited: events of "
                "requests know neither the request nor its user.",
                f"Add '{OURS}' to MIDDLEWARE.",
            )
        ]


@pytest.mark.parametrize("root", ["", None])
def test_a_project_that_serves_no_requests_needs_no_middleware(root):
    with chain(), override_settings(ROOT_URLCONF=root):
        assert check_middleware() == []


def test_nothing_is_said_where_nothing_is_audited():
    with chain(), audit(MODELS=NO_MODELS):
        assert check_middleware() == []


def test_nothing_is_said_while_the_settings_are_wrong():
    with chain(), audit(MODLES={}):
        assert check_middleware() == []


@pytest.mark.parametrize(
    "paths", [(OURS,), (OWN,), ("nowhere.Middleware", f"{__name__}.factory", OURS)]
)
def test_a_subclass_counts_and_what_is_no_class_does_not_disturb(paths):
    with chain(*paths):
        assert check_middleware() == []


def test_w042_it_is_there_twice():
    with chain(OURS, AUTH, OWN):
        assert check_middleware() == [
            warning(
                "W042",
                f"MIDDLEWARE holds AuditMiddleware 2 times: '{OURS}', '{OWN}'.",
                f"Leave one, '{OURS}': the others do the same work again.",
            )
        ]


@pytest.mark.parametrize("session", [SESSION, f"{__name__}.OwnSession"])
def test_w042_it_stands_after_the_middleware_that_saves_audited_sessions(session):
    with chain(session, AUTH, OURS), audit(MODELS={"sessions.Session": {}}):
        assert check_middleware() == [
            warning(
                "W042",
                f"'{OURS}' stands after '{session}' in MIDDLEWARE: the changes of sessions that "
                "are saved with the response are recorded without request and user.",
                f"Move '{OURS}' before it.",
            )
        ]


def test_w042_it_stands_after_the_middleware_that_creates_audited_users():
    with chain(SESSION, AUTH, REMOTE, OURS), audit(MODELS={"auth.User": {}}):
        assert check_middleware() == [
            warning(
                "W042",
                f"'{OURS}' stands after '{REMOTE}' in MIDDLEWARE: the changes of users that it "
                "creates or logs in are recorded without request and user.",
                f"Move '{OURS}' before it.",
            )
        ]


def test_a_place_that_loses_nothing_is_right():
    everything = {"sessions.Session": {}, "auth.User": {}}
    with chain(OURS, SESSION, AUTH, REMOTE), audit(MODELS=everything):
        assert check_middleware() == []
    with chain(SESSION, AUTH, REMOTE, OURS):  # neither sessions nor users are audited
        assert check_middleware() == []
    engine = "django.contrib.sessions.backends.signed_cookies"  # it keeps no rows
    with (
        chain(SESSION, AUTH, OURS),
        audit(MODELS=everything),
        override_settings(SESSION_ENGINE=engine),
    ):
        assert check_middleware() == []


# That it is so


def keep(request):
    request.session["visits"] = 1
    return HttpResponse()


urlpatterns = [path("keep/", keep)]


def known(*paths):
    """For each changed model whether its event knows the request."""
    models = {"sessions.Session": {}, "auth.User": {}}
    with (
        chain(*paths),
        audit(MODELS=models),
        override_settings(
            ROOT_URLCONF=__name__,
            AUTHENTICATION_BACKENDS=["django.contrib.auth.backends.RemoteUserBackend"],
        ),
        capture_events() as events,
    ):
        Client().get("/keep/", REMOTE_USER="someone")
    saved = [event for event in events if event.event.startswith("model.")]
    created = [event.context.get("path") for event in saved if event.object_type == "auth.user"]
    sessions = [event.context.get("path") for event in saved if event.object_type != "auth.user"]
    return (
        [bool(created) and all(created)] if REMOTE in paths else [],
        sessions[-1] == "/keep/",
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ((OURS, SESSION, AUTH), ([], True)),
        ((SESSION, OURS, AUTH), ([], False)),
        ((SESSION, AUTH, OURS), ([], False)),
        ((OURS, SESSION, AUTH, REMOTE), ([True], True)),
        ((SESSION, AUTH, OURS, REMOTE), ([True], False)),
        ((SESSION, AUTH, REMOTE, OURS), ([False], False)),
    ],
)
def test_what_stands_before_it_writes_without_request(paths, expected):
    assert known(*paths) == expected
    with chain(*paths), audit(MODELS={"sessions.Session": {}, "auth.User": {}}):
        warned = [message.msg for message in check_middleware()]
    users, sessions = expected
    assert any("changes of sessions" in text for text in warned) is not sessions
    assert any("changes of users" in text for text in warned) is (users == [False])


def test_a_remote_user_that_persists_is_one_too():
    own = f"{PersistentRemoteUserMiddleware.__module__}.{PersistentRemoteUserMiddleware.__name__}"
    with chain(AUTH, own, OURS), audit(MODELS={"auth.User": {}}):
        assert [message.id for message in check_middleware()] == ["django_signal_audit.W042"]
