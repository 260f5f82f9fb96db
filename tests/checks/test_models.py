"""Labels, policies, fields, and the sinks that they and definitions name."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import models
from django.db.models import signals
from django.test.utils import isolate_apps

from django_signal_audit import audit_event, audit_signals, define_event, register, unregister
from django_signal_audit.checks import check_models, check_settings, settings_are_sound
from tests.checks.helpers import MEMORY, audit, error


def test_e011_labels_of_models_and_apps_that_do_not_exist():
    register("auth.Grup")
    sinks = {
        "a": {"BACKEND": MEMORY, "MODELS": ["testapp.Autor", "testapp.*", "*.author", "*"]},
        "b": {"BACKEND": MEMORY, "MODELS": [5]},
        "c": None,
    }
    labels = {"testapp.Plian": {}, "tstapp.*": None, "TESTAPP.plain": {}, "*": {"on": []}}
    with audit(MODELS=labels, SINKS=sinks):
        found = check_models()

    assert found == [
        error(
            "E011",
            "SIGNAL_AUDIT['MODELS'] names the model 'testapp.Plian', which does not exist.",
            "Did you mean 'testapp.Plain'?",
        ),
        error(
            "E011",
            "SIGNAL_AUDIT['MODELS'] names the app 'tstapp', which is not installed.",
            "Did you mean 'testapp'?",
        ),
        error(
            "E011",
            "SIGNAL_AUDIT['SINKS']['a']['MODELS'] names the model 'testapp.Autor', which does not "
            "exist.",
            "Did you mean 'testapp.Author'?",
        ),
        error(
            "E011",
            "register() names the model 'auth.grup', which does not exist.",
            "Did you mean 'auth.Group'?",
        ),
    ]


def test_e011_a_table_that_django_makes_for_a_relation():
    with audit(MODELS={"testapp.Book_tags": {}}):
        assert check_models() == [
            error(
                "E011",
                "SIGNAL_AUDIT['MODELS'] names 'testapp.Book_tags', the table Django makes for a "
                "many-to-many field.",
                "Its changes are recorded as those of testapp.Book: name that model.",
            )
        ]


def test_e012_unknown_options_of_a_policy():
    with audit(MODELS={"testapp.Plain": {"mask": [], "exclude": []}, "testapp.Tag": False}):
        assert check_settings() == [
            error(
                "E012",
                "SIGNAL_AUDIT['MODELS']['testapp.Plain']: there is no audit option 'mask'.",
                "Did you mean 'mask_fields'?",
            ),
            error(
                "E012",
                "SIGNAL_AUDIT['MODELS']['testapp.Plain']: there is no audit option 'exclude'.",
                "Did you mean 'exclude_fields'?",
            ),
        ]
        assert not settings_are_sound()


def test_e013_wrong_values_of_options():
    plain = {"mask_fields": "name", "on": ["create", "x"], "before": "memory", "when": "always"}
    with audit(MODELS={"testapp.Plain": plain, "testapp.Tag": None}):
        found = check_settings()
        assert not settings_are_sound()

    where = "SIGNAL_AUDIT['MODELS']['testapp.Plain']: the audit option"
    assert found == [
        error(
            "E013",
            f"{where} mask_fields cannot be 'name'.",
            "Write a list of names, such as ['name'].",
        ),
        error(
            "E013",
            f"{where} on cannot be 'x'.",
            "Choose one of 'create', 'delete', 'm2m', 'update'.",
        ),
        error("E013", f"{where} before cannot be 'memory'.", "Write 'database' or 'loaded'."),
        error(
            "E013", f"{where} when cannot be 'always'.", "Write a function that takes the event."
        ),
        error(
            "E013",
            "SIGNAL_AUDIT['MODELS']['testapp.Tag'] is None.",
            "Write a dict of options, or False to exclude it.",
        ),
    ]


def contradiction(where):
    return error(
        "E014",
        f"{where}: include_fields and exclude_fields contradict each other; a field that is not "
        "included is excluded already.",
        "Give include_fields or exclude_fields, not both. If one is in the code and one in the "
        "settings, switch the code's off in the settings: 'include_fields': None or "
        "'exclude_fields': [].",
    )


def test_e014_a_contradiction_in_the_settings_is_said_once():
    with audit(MODELS={"*": {"include_fields": ["id"], "exclude_fields": ["name"]}}):
        assert check_settings() == [contradiction("SIGNAL_AUDIT['MODELS']['*']")]
        assert check_models() == []


def test_e014_a_contradiction_of_settings_and_code():
    with audit(MODELS={"testapp.Account": {"include_fields": ["email"]}}):
        assert check_settings() == []
        assert check_models() == [contradiction("testapp.account")]
        assert not settings_are_sound()


def test_e014_a_contradiction_in_the_code():
    register(Group, include_fields=["id"], exclude_fields=["name"])

    assert check_models() == [contradiction("auth.group")]


def test_e015_fields_that_do_not_exist():
    book = {"mask_fields": ["titel", "author_id", "chapters"], "m2m_fields": ["tag"]}
    with audit(MODELS={"testapp.Book": book, "testapp.Plain": {"m2m_fields": ["tags"]}}):
        found = check_models()

    masked = "testapp.Book: mask_fields names {!r}, which is no field with a column or many-to-many"
    assert found == [
        error("E015", f"{masked.format('author_id')} field.", "Did you mean 'author'?"),
        error(
            "E015",
            f"{masked.format('chapters')} field.",
            "Choose one of 'author', 'id', 'meta', 'price', 'published', 'readers', 'stock', "
            "'tags', 'title', 'updated'.",
        ),
        error("E015", f"{masked.format('titel')} field.", "Did you mean 'title'?"),
        error(
            "E015",
            "testapp.Book: m2m_fields names 'tag', which is no many-to-many field.",
            "Did you mean 'tags'?",
        ),
        error(
            "E015",
            "testapp.Plain: m2m_fields names 'tags', which is no many-to-many field.",
            "The model has none.",
        ),
    ]


def test_e015_fields_to_ignore_alone_that_do_not_exist():
    wanted = {"ignore_only": ["seen", "last_login", "tags", "stock"]}
    with audit(MODELS={"testapp.Book": wanted, "testapp.Plain": {"ignore_only": ["last_login"]}}):
        found = check_models()

    names = "testapp.Book: ignore_only names {!r}, which is no field with a column."
    columns = "'author', 'id', 'meta', 'price', 'published', 'stock', 'title', 'updated'"
    assert found == [
        error("E015", names.format("seen"), f"Choose one of {columns}."),
        error("E015", names.format("tags"), f"Choose one of {columns}."),
    ]


def test_e016_sinks_of_a_policy_that_do_not_exist():
    with audit(MODELS={"testapp.Plain": {"sinks": ["defalt"]}}):
        assert check_models() == [
            error(
                "E016",
                "testapp.Plain: sinks names 'defalt', which is not in SIGNAL_AUDIT['SINKS'].",
                "Did you mean 'default'?",
            )
        ]


@isolate_apps("tests.testapp")
def test_e016_sinks_of_definitions_that_do_not_exist():
    paid = define_event("order.paid", sinks=["defalt", "default"])

    @audit_event("shift.assign", sinks=["flie"])
    def assign():
        pass

    @audit_signals(signals.class_prepared, sinks=["nowhere"])
    class Own(models.Model):
        class Meta:
            app_label = "testapp"
            abstract = True

    found = check_models()
    del paid, assign, Own
    here = "tests.checks.test_models"
    absent = "which is not in SIGNAL_AUDIT['SINKS']."
    assert found == [
        error(
            "E016",
            f"{here}: @audit_event('shift.assign') names 'flie', {absent}",
            "Choose one of 'default'.",
        ),
        error(
            "E016",
            f"{here}: @audit_signals on Own names 'nowhere', {absent}",
            "Choose one of 'default'.",
        ),
        error(
            "E016",
            f"{here}: define_event('order.paid') names 'defalt', {absent}",
            "Did you mean 'default'?",
        ),
    ]


def test_e016_where_there_are_no_sinks():
    unregister("testapp.Plain")
    with audit(MODELS={"testapp.Plain": {"sinks": ["default"]}}, SINKS={}):
        assert check_models() == [
            error(
                "E016",
                "testapp.Plain: sinks names 'default', which is not in SIGNAL_AUDIT['SINKS'].",
                "SINKS is empty: add the sink.",
            )
        ]
