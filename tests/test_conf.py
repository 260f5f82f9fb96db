from __future__ import annotations

from types import MappingProxyType

import pytest
from django.test import override_settings

from django_signal_audit import conf
from django_signal_audit.exceptions import AuditConfigurationError


def test_without_the_setting_the_default_is_the_database_sink(settings):
    del settings.SIGNAL_AUDIT

    assert conf.current() == conf.current()
    assert dict(conf.current().SINKS["default"]) == {
        "BACKEND": "django_signal_audit.sinks.DatabaseSink"
    }
    assert conf.current().BUFFER_SIZE == 5000


def test_a_sinks_setting_replaces_the_default_wholly():
    sinks = {"memory": {"BACKEND": "django_signal_audit.sinks.MemorySink"}}
    with override_settings(SIGNAL_AUDIT={"SINKS": sinks}):
        assert sinks == conf.current().SINKS


def test_settings_are_read_live():
    with override_settings(SIGNAL_AUDIT={"BUFFER_SIZE": 7}):
        assert conf.current().BUFFER_SIZE == 7
        with override_settings(SIGNAL_AUDIT={"BUFFER_SIZE": 8}):
            assert conf.current().BUFFER_SIZE == 8
        assert conf.current().BUFFER_SIZE == 7
    assert conf.current().BUFFER_SIZE == 5000


def test_an_unchanged_setting_is_parsed_once():
    assert conf.current() is conf.current()


def test_the_setting_may_be_read_only_and_is_never_written():
    inner = MappingProxyType({"shop.Order": MappingProxyType({})})
    config = conf.parse(MappingProxyType({"MODELS": inner}))

    assert config.MODELS is inner


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("SINK", "Did you mean 'SINKS'?"),
        ("sinks", "Did you mean 'SINKS'?"),
        ("BUFFERSIZE", "Did you mean 'BUFFER_SIZE'?"),
        ("qqqqqq", "Choose one of 'BUFFER_SIZE', 'MODELS',"),
        (5, "Choose one of"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, advice):
    with pytest.raises(AuditConfigurationError) as caught:
        conf.parse({key: {}})

    assert f"SIGNAL_AUDIT has no key {key!r}." in str(caught.value)
    assert advice in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "MODELS", 5, {"MODELS"}])
def test_the_setting_itself_must_be_a_dict(value):
    with pytest.raises(AuditConfigurationError, match="SIGNAL_AUDIT must be a dict such as"):
        conf.parse(value)


@pytest.mark.parametrize("key", ["MODELS", "SIGNALS", "SINKS"])
@pytest.mark.parametrize("value", [None, [], ["shop.Order"], "shop.Order", 5])
def test_maps_must_be_dicts(key, value):
    with pytest.raises(AuditConfigurationError, match=rf"\['{key}'\] must be a dict, not "):
        conf.parse({key: value})


@pytest.mark.parametrize("key", ["MODELS", "SIGNALS", "SINKS"])
def test_keys_of_maps_must_be_text(key):
    with pytest.raises(AuditConfigurationError, match=rf"\['{key}'\]: its keys must be .* not 5"):
        conf.parse({key: {5: {}}})


@pytest.mark.parametrize("key", ["BUFFER_SIZE", "VALUE_LIMIT", "REPR_LIMIT"])
@pytest.mark.parametrize("value", [None, "5000", 1.5, True, -1])
def test_numbers_must_be_whole_and_large_enough(key, value):
    with pytest.raises(AuditConfigurationError, match=rf"\['{key}'\] must be a whole number of"):
        conf.parse({key: value})


@pytest.mark.parametrize("key", ["SENSITIVE_NAMES", "PLAIN_NAMES"])
@pytest.mark.parametrize("value", [None, "iban", 5])
def test_lists_of_names_must_be_lists(key, value):
    with pytest.raises(AuditConfigurationError, match=rf"\['{key}'\] must be a list of names"):
        conf.parse({key: value})


@pytest.mark.parametrize("key", ["SENSITIVE_NAMES", "PLAIN_NAMES"])
def test_names_must_be_text(key):
    with pytest.raises(AuditConfigurationError, match="its items must be names, not 5"):
        conf.parse({key: ["iban", 5]})


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_switches_must_be_booleans(value):
    with pytest.raises(AuditConfigurationError, match="must be True or False"):
        conf.parse({"RECORD_UNCHANGED": value})


def test_a_wrong_setting_stays_wrong_on_every_read():
    with override_settings(SIGNAL_AUDIT={"MODLES": {}}):
        for _ in range(2):
            with pytest.raises(AuditConfigurationError, match="Did you mean 'MODELS'"):
                conf.current()
