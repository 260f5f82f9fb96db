"""A secret in a variable of the environment that Django does not hide."""

from __future__ import annotations

import os
import re

import environ
import pytest
from django.test import override_settings
from django.views.debug import SafeExceptionReporterFilter

from django_signal_audit.checks import check_settings
from django_signal_audit.environ import sinks_from_env, sinks_from_urls
from django_signal_audit.sinks import Sink
from tests.checks.helpers import audit, warning

BACKEND = f"backend={__name__}.Broker"
PLAIN = f"broker://app@h/topic?acks=all&{BACKEND}"
SECRET = f"broker://app:hunter22@h/topic?{BACKEND}"


class Broker(Sink):
    def __init__(self, config, **options):
        super().__init__(config)


def w062(alias, variable):
    return warning(
        "W062",
        f"SIGNAL_AUDIT['SINKS'][{alias!r}] has a secret in its URL, and the variable {variable} "
        "holds it: Django hides variables by their names, and shows this one on its debug page "
        "and in mails about errors.",
        f"Write the URLs into a file that {variable}_FILE names, and read it by "
        "environ.FileAwareEnv(); or give the variable a name that Django hides, such as "
        f"{variable}_SECRET.",
    )


def found(env=os.environ, name="AUDIT_SINKS"):
    with audit(SINKS=sinks_from_env(env, name)):
        return check_settings()


@pytest.mark.parametrize("env", [os.environ, environ.Env()], ids=["os", "environ"])
def test_w062_a_secret_in_a_variable_that_django_shows(env, monkeypatch):
    monkeypatch.setenv("AUDIT_SINKS", f"database://,{PLAIN}&alias=plain,{SECRET}")
    assert found(env) == [w062("broker", "AUDIT_SINKS")]


@pytest.mark.parametrize(
    "secret",
    ["token=hunter22", "url=h/T0", "to=https%3A%2F%2Fh%2FT0", "to=mailto%3Aa%40h", "webhook=h"],
)
def test_w062_a_secret_among_the_parameters(secret, monkeypatch):
    monkeypatch.setenv("AUDIT_SINKS", f"{PLAIN}&{secret}")
    assert found() == [w062("broker", "AUDIT_SINKS")]


def test_w062_names_the_variable_that_another_one_stands_for(monkeypatch):
    monkeypatch.setenv("SHARED_SINKS", SECRET)
    monkeypatch.setenv("SINKS_SECRET", "$SHARED_SINKS")
    assert found(environ.Env(), "SINKS_SECRET") == [w062("broker", "SHARED_SINKS")]


@pytest.mark.parametrize("name", ["AUDIT_SINKS_SECRET", "SINKS_TOKEN", "audit_key", "API_SINKS"])
def test_a_variable_that_django_hides_may_hold_a_secret(name, monkeypatch):
    monkeypatch.setenv(name, SECRET)
    assert found(name=name) == []


class FileEnv(environ.FileAwareEnv):
    ENVIRON = type(environ.FileAwareEnv.ENVIRON)(cache=False)


def test_a_file_may_hold_a_secret(tmp_path, monkeypatch):
    (tmp_path / "sinks").write_text(SECRET)
    monkeypatch.setenv("AUDIT_SINKS_FILE", str(tmp_path / "sinks"))
    assert found(FileEnv()) == []


def test_what_is_no_variable_of_the_process_is_shown_by_no_request():
    assert found({"AUDIT_SINKS": SECRET}) == []
    with audit(SINKS=sinks_from_urls(SECRET)):
        assert check_settings() == []


class Strict(SafeExceptionReporterFilter):
    hidden_settings = re.compile("SINKS")


class Bare:
    """A filter may have nothing of Django's."""


def test_the_projects_own_filter_says_what_is_hidden(monkeypatch):
    monkeypatch.setenv("AUDIT_SINKS", SECRET)
    with override_settings(DEFAULT_EXCEPTION_REPORTER_FILTER=f"{__name__}.Strict"):
        assert found() == []
    with override_settings(DEFAULT_EXCEPTION_REPORTER_FILTER=f"{__name__}.Bare"):
        assert found() == [w062("broker", "AUDIT_SINKS")]
