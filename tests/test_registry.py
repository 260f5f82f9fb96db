from __future__ import annotations

from types import MappingProxyType

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ModelState, ProjectState
from django.test import override_settings
from django.test.utils import isolate_apps

from django_signal_audit import audited, register, registry, unregister
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.models import AuditRecord
from django_signal_audit.registry import policy_for
from django_signal_audit.testing import capture_events
from tests.testapp import models as testapp
from tests.testapp.models import (
    Account,
    Author,
    Book,
    BookProxy,
    Invoice,
    Plain,
    Tag,
    Timestamped,
)


@pytest.fixture(autouse=True)
def _registrations():
    """Whatever a test registers is forgotten after it."""
    kept = (
        dict(registry._by_label),
        dict(registry._by_abstract_class),
        set(registry._unregistered),
    )
    yield
    for current, before in zip(
        (registry._by_label, registry._by_abstract_class, registry._unregistered),
        kept,
        strict=True,
    ):
        current.clear()
        current.update(before)
    registry._forget()


def from_settings(labels):
    return override_settings(SIGNAL_AUDIT={"MODELS": labels})


# Where a policy comes from


def test_a_decorated_model_is_audited_and_others_are_not():
    assert policy_for(Author) == registry.AuditPolicy(label="testapp.author")
    assert policy_for(Plain) is None


def test_settings_alone_make_a_model_audited():
    with from_settings({"testapp.Plain": {"mask_fields": ["name"]}}):
        assert policy_for(Plain).mask_fields == {"name"}
    assert policy_for(Plain) is None


def test_labels_are_case_insensitive():
    with from_settings({"TESTAPP.plain": {}}):
        assert policy_for(Plain) is not None
    register("TestApp.PLAIN")
    assert policy_for(Plain) is not None


@isolate_apps("tests.testapp")
def test_an_app_label_with_capitals_is_matched_too():
    class Loud(models.Model):
        class Meta:
            app_label = "LoudApp"

    register(Loud, mask_fields=["x"])
    with from_settings({"loudapp.*": {"on": ["create"]}}):
        policy = policy_for(Loud)

    assert policy.mask_fields == {"x"}
    assert policy.on == {"create"}
    assert policy.label == Loud._meta.label_lower


def test_exact_beats_app_beats_star():
    labels = {
        "*": {"mask_fields": ["star"]},
        "testapp.*": {"mask_fields": ["app"]},
        "testapp.Plain": {"mask_fields": ["exact"]},
    }
    with from_settings(labels):
        assert policy_for(Plain).mask_fields == {"exact"}
        assert policy_for(Tag).mask_fields == {"app"}
        assert policy_for(Group).mask_fields == {"star"}


@pytest.mark.parametrize(
    ("labels", "audited"),
    [
        ({"testapp.*": {}, "testapp.Plain": False}, False),
        ({"testapp.*": False, "testapp.Plain": {}}, True),
        ({"*": {}, "testapp.*": False}, False),
        ({"*": False, "testapp.*": {}}, True),
    ],
)
def test_false_excludes_and_the_most_exact_label_decides(labels, audited):
    with from_settings(labels):
        assert (policy_for(Plain) is not None) is audited


def test_false_excludes_a_decorated_model():
    with from_settings({"testapp.Author": False}):
        assert policy_for(Author) is None


def test_settings_override_the_decorator_key_by_key():
    with from_settings({"testapp.Account": {"mask_fields": ["email"]}}):
        policy = policy_for(Account)

    assert policy.mask_fields == {"email"}
    assert policy.exclude_fields == {"note"}


def test_a_wildcard_overrides_the_decorator_too():
    with from_settings({"*": {"on": ["delete"]}}):
        policy = policy_for(Account)

    assert policy.on == {"delete"}
    assert policy.mask_fields == {"address"}


# Which models


@pytest.mark.parametrize("label", ["*", "django_signal_audit.*", "django_signal_audit.AuditRecord"])
def test_own_tables_are_never_audited(label):
    with from_settings({label: {}}):
        assert policy_for(AuditRecord) is None
    register(AuditRecord)
    assert policy_for(AuditRecord) is None


def test_auto_created_through_tables_are_never_audited_as_rows():
    with from_settings({"*": {}, "testapp.Book_tags": {}}):
        assert policy_for(Book.tags.through) is None
        assert policy_for(Book.readers.through) is not None


def test_the_bookkeeping_of_migrate_is_not_meant_by_a_wildcard():
    with from_settings({"*": {}}):
        assert policy_for(MigrationRecorder.Migration) is None
        assert policy_for(ContentType) is not None


def test_an_abstract_parents_policy_is_inherited():
    assert policy_for(Invoice) is not None


def test_a_concrete_parents_policy_is_not_inherited():
    assert policy_for(testapp.Building) is not None
    assert policy_for(testapp.Tower) is None
    assert policy_for(testapp.Place) is None
    assert policy_for(testapp.Restaurant) is not None


def test_a_proxy_is_its_concrete_model_both_ways():
    assert policy_for(BookProxy) is policy_for(Book)
    unregister(BookProxy)
    assert policy_for(Book) is None
    register(BookProxy, on=["create"])
    assert policy_for(Book).on == {"create"}


@isolate_apps("tests.testapp")
def test_the_nearest_abstract_parent_decides_and_an_own_policy_beats_it():
    @audited(on=["create"])
    class Far(models.Model):
        class Meta:
            abstract = True
            app_label = "testapp"

    @audited(on=["update"])
    class Near(Far):
        class Meta:
            abstract = True
            app_label = "testapp"

    class Inheriting(Near):
        class Meta:
            app_label = "testapp"

    @audited(on=["delete"])
    class Own(Near):
        class Meta:
            app_label = "testapp"

    assert policy_for(Inheriting).on == {"update"}
    assert policy_for(Own).on == {"delete"}


def historical(model):
    state = ProjectState()
    state.add_model(ModelState.from_model(model))
    return state.apps.get_model(model._meta.app_label, model._meta.model_name)


@pytest.mark.parametrize("model", [Author, Invoice])
def test_a_historical_model_has_the_policy_of_its_label(model):
    registry._resolved.clear()
    old = historical(model)

    assert old is not model
    assert policy_for(old) is not None
    assert policy_for(old) is policy_for(model)


# register and unregister


def test_third_party_models_are_registered_by_class_or_label():
    register(Group)
    register("contenttypes.ContentType", exclude_fields=["model"])

    assert policy_for(Group) is not None
    assert policy_for(ContentType).exclude_fields == {"model"}
    unregister(Group)
    unregister("contenttypes.contenttype")
    assert policy_for(Group) is None
    assert policy_for(ContentType) is None


def test_registering_takes_effect_at_once_and_records():
    assert policy_for(Plain) is None
    register(Plain)
    assert policy_for(Plain) is not None


@pytest.mark.django_db
def test_writes_of_a_registered_model_are_events():
    register(Plain)
    with capture_events() as events:
        plain = Plain.objects.create(name="a")
    unregister(Plain)
    with capture_events() as later:
        plain.save()

    assert [event.event for event in events] == ["model.create"]
    assert later == []


def test_an_inheriting_model_can_be_unregistered_and_registered_again():
    unregister(Invoice)
    assert policy_for(Invoice) is None
    register(Invoice)
    assert policy_for(Invoice) is not None


def test_an_abstract_model_can_be_unregistered_and_registered_again():
    unregister(Timestamped)
    assert policy_for(Invoice) is None
    register(Timestamped)
    assert policy_for(Invoice) is not None


def test_unregister_does_not_touch_the_settings():
    with from_settings({"testapp.Plain": {}}):
        unregister(Plain)
        assert policy_for(Plain) is not None


@pytest.mark.parametrize("label", ["Plain", "a.b.c", "", ".", "testapp.", "testapp.*", "*"])
def test_a_string_that_is_no_label_is_refused(label):
    for function in (register, unregister):
        with pytest.raises(AuditConfigurationError, match=r"is no model label\. Write"):
            function(label)


# Live settings


def test_settings_are_read_live_and_cached_answers_are_forgotten():
    for _ in range(2):
        with from_settings({"testapp.Plain": {}}):
            assert policy_for(Plain) is not None
        assert policy_for(Plain) is None


def test_one_model_has_one_policy_object():
    assert policy_for(Author) is policy_for(Author)


# Arguments


def test_neither_settings_nor_arguments_are_written():
    options = MappingProxyType({"mask_fields": ("name",), "on": frozenset({"create"})})
    labels = MappingProxyType({"testapp.Plain": options, "testapp.*": MappingProxyType({})})
    with override_settings(SIGNAL_AUDIT=MappingProxyType({"MODELS": labels})):
        assert policy_for(Plain).mask_fields == {"name"}
    fields = ["name"]
    register(Plain, mask_fields=fields)
    assert policy_for(Plain).mask_fields == {"name"}
    assert fields == ["name"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": ["name"]}, r"there is no audit option 'mask'. Did you mean 'mask_fields'\?"),
        ({"label": "x"}, "there is no audit option 'label'."),
        (
            {"mask_fields": "name"},
            r"mask_fields cannot be 'name'\. Write a list of names, such as \['name'\]",
        ),
        ({"mask_fields": None}, "mask_fields cannot be None. Write a list of names"),
        (
            {"exclude_fields": 5},
            r"exclude_fields cannot be 5\. Write a list of names, such as \['name'\]",
        ),
        ({"include_fields": [5]}, "include_fields cannot be .5.. Write a list of names"),
        ({"m2m_fields": [["tags"]]}, "m2m_fields cannot be .*. Write a list of names"),
        ({"sinks": "default"}, r"sinks cannot be .* a list of names, such as \['default'\]"),
        ({"on": "create"}, r"on cannot be .* a list of names, such as \['create'\]"),
        ({"on": None}, "on cannot be None. Write a list of names"),
        ({"on": ["insert"]}, "on cannot be 'insert'. Choose one of 'create'"),
        ({"on": ["Create"]}, r"on cannot be 'Create'. Did you mean 'create'\?"),
        ({"before": "memory"}, "before cannot be 'memory'. Write 'database' or 'loaded'"),
        ({"before": ["loaded"]}, "before cannot be .* Write 'database' or 'loaded'"),
        ({"bulk": "sum"}, "bulk cannot be 'sum'. Write 'rows', 'summary' or 'off'"),
        ({"coalesce": "yes"}, "coalesce cannot be 'yes'. Write True or False"),
        ({"ignore_only": "x"}, "ignore_only cannot be 'x'. Write a list of names"),
        ({"when": "always"}, "when cannot be 'always'. Write a function"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(AuditConfigurationError, match=message):
        register(Plain, **options)
    with from_settings({"testapp.Plain": options}), pytest.raises(AuditConfigurationError) as error:
        policy_for(Plain)
    assert "testapp.plain: " in str(error.value)


def test_include_with_exclude_is_refused_and_told_what_to_do():
    register(Plain, include_fields=["name"], exclude_fields=["id"])

    with pytest.raises(AuditConfigurationError, match="include_fields or exclude_fields, not both"):
        policy_for(Plain)


def test_include_in_settings_against_exclude_in_code_is_told_the_way_out():
    with (
        from_settings({"testapp.Account": {"include_fields": ["email"]}}),
        pytest.raises(AuditConfigurationError, match=r"'exclude_fields': \[\]"),
    ):
        policy_for(Account)
    way_out = {"testapp.Account": {"include_fields": ["email"], "exclude_fields": []}}
    with from_settings(way_out):
        assert policy_for(Account).include_fields == {"email"}


@pytest.mark.parametrize("value", [True, None, [], "x"])
def test_an_entry_must_be_a_dict_or_false(value):
    with from_settings({"testapp.Plain": value}), pytest.raises(AuditConfigurationError):
        policy_for(Plain)


@pytest.mark.parametrize("target", [5, "shop.Order", object, User()])
def test_the_decorator_belongs_on_a_model_class(target):
    with pytest.raises(AuditConfigurationError, match="belongs on a model class"):
        audited(on=["create"])(target)


def test_policies_answer_which_fields_they_record():
    policy = registry.make_policy("x.y", {"include_fields": ["a", "b"], "m2m_fields": ["tags"]})
    assert policy.records_field("a") and not policy.records_field("c")
    assert policy.records_m2m("tags") and not policy.records_m2m("readers")

    policy = registry.make_policy("x.y", {"exclude_fields": ["a", "tags"]})
    assert policy.records_field("b") and not policy.records_field("a")
    assert policy.records_m2m("readers") and not policy.records_m2m("tags")

    assert not registry.make_policy("x.y", {"on": ["create"]}).records_m2m("tags")


# Proxies by label


def test_a_proxys_label_in_the_settings_means_its_concrete_model():
    with from_settings({"testapp.BookProxy": {"mask_fields": ["title"]}}):
        assert policy_for(Book).mask_fields == {"title"}
        assert policy_for(BookProxy).mask_fields == {"title"}


def test_a_proxys_label_excludes_its_concrete_model():
    with from_settings({"testapp.BookProxy": False}):
        assert policy_for(Book) is None


def test_a_models_own_label_beats_that_of_its_proxy():
    with from_settings({"testapp.BookProxy": False, "testapp.Book": {"on": ["create"]}}):
        assert policy_for(Book).on == {"create"}


def test_a_proxys_label_registers_its_concrete_model():
    unregister("testapp.BookProxy")
    assert policy_for(Book) is None
    register("testapp.BookProxy", mask_fields=["title"])
    assert policy_for(Book).mask_fields == {"title"}
