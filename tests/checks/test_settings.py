from __future__ import annotations

import pytest
from django.core import checks

from django_signal_audit.checks import (
    check_deployment,
    check_middleware,
    check_models,
    check_settings,
    check_tables,
    settings_are_sound,
)
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import MemorySink
from tests.checks.helpers import audit, error, warning


def test_right_settings_have_no_messages():
    assert check_settings() == check_models() == check_middleware() == check_deployment() == []
    assert settings_are_sound()


def test_the_checks_are_registered():
    with audit(MODLES={}):
        messages = checks.run_checks(tags=["signal_audit"], include_deployment_checks=True)

    assert [message.id for message in messages] == ["django_signal_audit.E001"]


def test_e001_an_unknown_key():
    with audit(MODLES={}, FILE={}):
        assert check_settings() == [
            error("E001", "SIGNAL_AUDIT has no key 'MODLES'.", "Did you mean 'MODELS'?"),
            error(
                "E001",
                "SIGNAL_AUDIT has no key 'FILE'.",
                "Choose one of 'BLIND_WRITES', 'BUFFER_SIZE', 'MODELS', 'PLAIN_NAMES', "
                "'PROCESSORS', 'RECORD_FIXTURES', 'RECORD_UNCHANGED', 'REPR_LIMIT', "
                "'SENSITIVE_NAMES', 'SIGNALS', 'SINKS', 'STATE_DIR', 'VALUE_LIMIT'.",
            ),
        ]
        assert check_models() == check_tables(databases=["default"]) == check_deployment() == []
        assert not settings_are_sound()


def test_e001_no_dict_at_all(settings):
    settings.SIGNAL_AUDIT = None

    assert check_settings() == [
        error(
            "E001",
            "SIGNAL_AUDIT is a NoneType.",
            "Write a dict, such as {'MODELS': {'shop.Order': {}}}.",
        )
    ]


def test_e002_values_of_a_wrong_type():
    with audit(
        BUFFER_SIZE=0,
        MODELS=["shop.Order"],
        SINKS={5: {}},
        PLAIN_NAMES="token",
        SENSITIVE_NAMES=[5],
        RECORD_UNCHANGED="no",
    ):
        found = check_settings()
        assert not settings_are_sound()

    assert found == [
        error("E002", "SIGNAL_AUDIT['BUFFER_SIZE'] is 0.", "Write a whole number of at least 1."),
        error(
            "E002",
            "SIGNAL_AUDIT['MODELS'] is a list.",
            "Write a dict whose keys are labels, such as 'shop.Order'.",
        ),
        error(
            "E002",
            "SIGNAL_AUDIT['SINKS'] has 5, which is no text.",
            "Its keys are aliases, such as 'default'.",
        ),
        error(
            "E002",
            "SIGNAL_AUDIT['PLAIN_NAMES'] is 'token'.",
            "Write a list of names, such as ['token'].",
        ),
        error(
            "E002",
            "SIGNAL_AUDIT['SENSITIVE_NAMES'] has 5, which is no text.",
            "Its items are names.",
        ),
        error("E002", "SIGNAL_AUDIT['RECORD_UNCHANGED'] is 'no'.", "Write True or False."),
    ]


def test_a_mistake_in_one_place_hides_none_elsewhere():
    with audit(
        MODLES={},
        MODELS={"testapp.Plain": {"mask": []}, "testapp.Book": {"mask_fields": ["titel"]}},
        SINKS={"a": {"BACKEND": "x.Y", "LEVEL": "loud"}},
        PROCESSORS=["x.y"],
        SIGNALS={"x.y": {"evnt": ""}},
    ):
        found = [*check_settings(), *check_models()]

    assert [message.id.partition(".")[2] for message in found] == [
        "E001",
        "E012",
        "E026",
        "E022",
        "E027",
        "E031",
        "E032",
        "E015",
    ]


def test_w071_no_sink_at_all():
    with audit(SINKS={}):
        assert check_settings() == [
            warning(
                "W071",
                "SIGNAL_AUDIT['SINKS'] is empty: no event goes anywhere.",
                "Leave SINKS out for the database sink, or name a sink.",
            )
        ]


class Asking(MemorySink):
    """Its check asks for all settings, as a sink may."""

    def check(self):
        if self.alias == "angry":
            raise AuditConfigurationError("never right")
        check_settings_are_readable()
        return []


def check_settings_are_readable():
    from django_signal_audit.sinks import routing  # noqa: PLC0415

    routing.all_routes()


def test_a_sinks_own_check_may_fail_on_what_is_reported_already():
    with audit(SINKS={"a": {"BACKEND": f"{__name__}.Asking"}}, MODLES={}):
        assert [message.id for message in check_settings()] == ["django_signal_audit.E001"]


def test_a_sinks_own_check_that_fails_by_itself_is_seen():
    with (
        audit(SINKS={"angry": {"BACKEND": f"{__name__}.Asking"}}),
        pytest.raises(AuditConfigurationError, match="never right"),
    ):
        check_settings()
