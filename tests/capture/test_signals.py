"""Signals as they are: ``@audit_signals`` and ``SIGNAL_AUDIT["SIGNALS"]``."""

import pytest
from django.contrib.auth.signals import user_logged_in
from django.db import models
from django.dispatch import Signal
from django.test import override_settings
from django.test.utils import isolate_apps

from django_signal_audit import audit_signals
from django_signal_audit.capture.signals import BUILT_IN, name_of, resolve_setting
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.testing import capture_events
from tests.testapp.models import Plain, Watched, WatchedBase, WatchedChild

pytestmark = pytest.mark.django_db

order_paid = Signal()
not_a_signal = object()


def names(events):
    return [e.event.removeprefix("signal.") for e in events]


def test_a_save_and_a_delete_dispatch_what_django_dispatches():
    with capture_events() as events:
        watched = Watched(name="a")
        watched.save()
        watched.save(update_fields=["name"])
        key = str(watched.pk)
        watched.delete()
    assert names(events) == [
        "pre_init",
        "post_init",
        "pre_save",
        "post_save",
        "pre_save",
        "post_save",
        "pre_delete",
        "post_delete",
    ]
    created = events[3]
    assert (created.sender, created.object_type, created.object_id) == (
        "testapp.Watched",
        "testapp.watched",
        key,
    )
    assert created.data["created"] is True
    assert created.data["using"] == "default"
    assert events[5].data["update_fields"] == ["name"]
    assert events[5].data["created"] is False


def test_loading_dispatches_init():
    Watched.objects.create(name="a")
    with capture_events() as events:
        Watched.objects.get()
    assert names(events) == ["pre_init", "post_init"]
    assert events[0].data["args"]["name"] == "a"


def test_secrets_do_not_leak_through_the_arguments_of_init():
    Watched.objects.create(name="a", api_token="t0ken")
    with capture_events() as events:
        Watched.objects.get()
        Watched(api_token="t0ken")
        Watched.objects.only("name").get()
    assert "t0ken" not in str([e.to_dict() for e in events])
    assert events[0].data["args"]["api_token"] == "[redacted]"
    assert events[2].data["kwargs"]["api_token"] == "[redacted]"


def test_deferred_instances_are_not_loaded(django_assert_num_queries):
    Watched.objects.create(name="a")
    with django_assert_num_queries(1), capture_events() as events:
        Watched.objects.only("id").get()
    assert names(events) == ["pre_init", "post_init"]


def test_masks_of_the_policy_hold():
    Watched.objects.create(name="hidden")
    masked = {"MODELS": {"testapp.Watched": {"mask_fields": ["name"]}}}
    with override_settings(SIGNAL_AUDIT=masked), capture_events() as events:
        Watched.objects.get()
    assert events[0].data["args"]["name"] == "[redacted]"


def test_many_to_many_changes_are_dispatched():
    watched, plain = Watched.objects.create(name="a"), Plain.objects.create(name="b")
    with capture_events() as events:
        watched.plain.add(plain)
    assert names(events) == ["m2m_changed", "m2m_changed"]
    before, after = events
    assert (before.data["action"], after.data["action"]) == ("pre_add", "post_add")
    assert after.data["pk_set"] == [plain.pk]
    assert after.data["model"] == "testapp.Plain"
    assert after.object_id == str(watched.pk)


def test_the_subclasses_of_an_abstract_model_are_connected():
    with capture_events() as events:
        WatchedChild.objects.create(name="a")
    assert names(events) == ["post_save"]


@isolate_apps("tests.testapp")
def test_a_class_that_is_prepared_later_is_told():
    with capture_events() as events:

        class WatchedLater(WatchedBase):
            class Meta:
                app_label = "testapp"

    assert names(events) == ["class_prepared"]
    assert events[0].sender == WatchedLater._meta.label


@isolate_apps("tests.testapp")
def test_a_concrete_class_tells_its_own_preparation():
    with capture_events() as events:

        @audit_signals(models.signals.class_prepared)
        class Prepared(models.Model):
            class Meta:
                app_label = "testapp"

    assert [e.sender for e in events] == [Prepared._meta.label]


def test_every_built_in_signal_has_its_name():
    assert set(BUILT_IN) == {
        "pre_save",
        "post_save",
        "pre_delete",
        "post_delete",
        "pre_init",
        "post_init",
        "m2m_changed",
        "class_prepared",
    }
    for name, signal in BUILT_IN.items():
        assert name_of(signal) == name
    with pytest.raises(AuditConfigurationError, match="SIGNALS"):
        name_of(order_paid)


PATH = "tests.capture.test_signals.order_paid"


def test_a_custom_signal_of_the_settings_is_recorded():
    said = {"SIGNALS": {PATH: {"event": "order.paid", "level": "warning"}}}
    with override_settings(SIGNAL_AUDIT=said), capture_events() as events:
        order_paid.send(sender="shop", amount=5, instance=Plain(pk=7, name="a"), password="x")
        order_paid.send_robust(sender=Plain)
    first, second = events
    assert (first.event, first.level, first.sender) == ("order.paid", "warning", "shop")
    assert first.data == {"amount": 5, "password": "[redacted]"}
    assert (first.object_type, first.object_id) == ("testapp.plain", "7")
    assert second.sender == "testapp.Plain"
    with capture_events() as events:
        order_paid.send(sender="shop")
    assert events == []


def test_a_custom_signal_has_a_name_of_its_own():
    with override_settings(SIGNAL_AUDIT={"SIGNALS": {PATH: {}}}), capture_events() as events:
        order_paid.send(sender="shop", instance="no model")
    assert events[0].event == "signal.order_paid"
    assert events[0].data == {"instance": "no model"}


@pytest.mark.parametrize(
    ("path", "said", "message"),
    [
        (PATH, True, "must be a dict"),
        (PATH, {"evnt": "a"}, "Did you mean 'event'"),
        (PATH, {"level": "warn"}, "Did you mean 'warning'"),
        ("tests.capture.test_signals.nothing", {}, "cannot import"),
        ("tests.capture.test_signals.not_a_signal", {}, "no Signal"),
    ],
)
def test_a_wrong_entry_says_what_to_write(path, said, message):
    with pytest.raises(AuditConfigurationError, match=message):
        resolve_setting(path, said)


@pytest.mark.django_db
@override_settings(
    SIGNAL_AUDIT={
        "SIGNALS": {"django.contrib.auth.signals.user_logged_in": {"event": "auth.login"}}
    }
)
def test_the_request_of_a_custom_signal_is_where_it_happened(rf, django_user_model):
    user = django_user_model.objects.create_user("planner")
    request = rf.get("/login/")
    request.user = user
    with capture_events() as events:
        user_logged_in.send(sender=django_user_model, request=request, user=user)
    (event,) = events.named("auth.login")
    assert event.context["path"] == "/login/"
    assert event.actor.label == "planner"
    assert event.data == {"user": {"object_type": "auth.user", "object_id": str(user.pk)}}
