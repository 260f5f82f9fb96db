from __future__ import annotations

from pathlib import Path
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
        ("qqqqqq", "Choose one of 'BLIND_WRITES', 'BUFFER_SIZE', 'MODELS',"),
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
    with pytest.raises(AuditConfigurationError, match=r"SIGNAL_AUDIT is a \w+\. Write a dict"):
        conf.parse(value)


@pytest.mark.parametrize("key", ["MODELS", "SIGNALS", "SINKS"])
@pytest.mark.parametrize("value", [None, [], ["shop.Order"], "shop.Order", 5])
def test_maps_must_be_dicts(key, value):
    with pytest.raises(AuditConfigurationError, match=rf"\['{key}'\] is a \w+\. Write a dict"):
        conf.parse({key: value})


@pytest.mark.parametrize("key", ["MODELS", "SIGNALS", "SINKS"])
def test_keys_of_maps_must_be_text(key):
    with pytest.raises(AuditConfigurationError, match=rf"\['{key}'\] has 5, .* Its keys are"):
        conf.parse({key: {5: {}}})


@pytest.mark.parametrize("key", ["BUFFER_SIZE", "VALUE_LIMIT", "REPR_LIMIT"])
@pytest.mark.parametrize("value", [None, "5000", 1.5, True, -1])
def test_numbers_must_be_whole_and_large_enough(key, value):
    with pytest.raises(AuditConfigurationError, match=rf"\['{key}'\] is .* a whole number of"):
        conf.parse({key: value})


@pytest.mark.parametrize("key", ["SENSITIVE_NAMES", "PLAIN_NAMES"])
@pytest.mark.parametrize("value", [None, "iban", 5])
def test_lists_of_names_must_be_lists(key, value):
    with pytest.raises(AuditConfigurationError, match=rf"\['{key}'\] is .* a list of names"):
        conf.parse({key: value})


@pytest.mark.parametrize("key", ["SENSITIVE_NAMES", "PLAIN_NAMES"])
def test_names_must_be_text(key):
    with pytest.raises(AuditConfigurationError, match=r"has 5, which is no text\. Its items are"):
        conf.parse({key: ["iban", 5]})


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_switches_must_be_booleans(value):
    with pytest.raises(AuditConfigurationError, match="Write True or False"):
        conf.parse({"RECORD_UNCHANGED": value})


def test_a_wrong_setting_stays_wrong_on_every_read():
    with override_settings(SIGNAL_AUDIT={"MODLES": {}}):
        for _ in range(2):
            with pytest.raises(AuditConfigurationError, match="Did you mean 'MODELS'"):
                conf.current()


def test_every_mistake_is_found_and_the_first_carries_the_others():
    with pytest.raises(AuditConfigurationError) as caught:
        conf.parse({"MODLES": {}, "BUFFER_SIZE": 0, "PLAIN_NAMES": [5, 6], "REPR_LIMIT": 10})

    assert [(one.number, one.problem) for one in caught.value.all()] == [
        ("E001", "SIGNAL_AUDIT has no key 'MODLES'."),
        ("E002", "SIGNAL_AUDIT['BUFFER_SIZE'] is 0."),
        ("E002", "SIGNAL_AUDIT['PLAIN_NAMES'] has 5, which is no text."),
        ("E002", "SIGNAL_AUDIT['PLAIN_NAMES'] has 6, which is no text."),
    ]


def test_what_is_sound_can_be_had_beside_the_mistakes():
    setting = {"MODLES": {}, "BUFFER_SIZE": 0, "REPR_LIMIT": 10}
    with override_settings(SIGNAL_AUDIT=setting):
        config, mistakes = conf.current_sound()

    assert (config.REPR_LIMIT, config.BUFFER_SIZE) == (10, 5000)
    assert len(mistakes) == 2


def test_a_wrong_dict_of_sinks_is_not_printed():
    with pytest.raises(AuditConfigurationError) as caught:
        conf.parse({"SINKS": [{"OPTIONS": {"password": "hunter2"}}]})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("rais", "Did you mean 'raise'"),
        (5, "Choose one of 'ignore'"),
        (["warn"], "Did you mean 'warn'"),
    ],
)
def test_blind_writes_are_one_of_four(value, advice):
    with pytest.raises(AuditConfigurationError, match=rf"\['BLIND_WRITES'\] is .* {advice}"):
        conf.parse({"BLIND_WRITES": value})


@pytest.mark.parametrize("value", ["state", 5, b"/state", "/a\0b", Path("state")])
def test_the_directory_of_state_is_an_absolute_path(value):
    with pytest.raises(AuditConfigurationError) as wrong:
        conf.parse({"STATE_DIR": value})

    assert wrong.value.problem == f"SIGNAL_AUDIT['STATE_DIR'] is {value!r}."
    assert wrong.value.hint == "Write an absolute path, such as BASE_DIR / 'audit-state'."


@pytest.mark.parametrize("value", [None, "/var/lib/app", Path("/var/lib/app")])
def test_the_directory_of_state_may_be_text_or_a_path(value):
    assert value == conf.parse({"STATE_DIR": value}).STATE_DIR
