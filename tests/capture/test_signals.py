"""Signals as they are: ``@audit_signals`` and ``SIGNAL_AUDIT["SIGNALS"]``."""

import logging

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.signals import user_logged_in
from django.db import models
from django.dispatch import Signal
from django.test import override_settings
from django.test.utils import isolate_apps
from django.utils.functional import SimpleLazyObject

from django_signal_audit import audit_signals, set_actor
from django_signal_audit.capture.signals import BUILT_IN, name_of, resolve_setting
from django_signal_audit.exceptions import AuditConfigurationError, AuditSinkError
from django_signal_audit.middleware import AuditMiddleware
from django_signal_audit.models import AuditRecord
from django_signal_audit.testing import capture_events
from tests.testapp.models import Plain, Watched, WatchedBase, WatchedChild

pytestmark = pytest.mark.django_db

order_paid = Signal()
cached_paid = Signal(use_caching=True)
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


def test_a_custom_signal_means_what_it_likes_by_using():
    with override_settings(SIGNAL_AUDIT=RECORDED), capture_events() as events:
        order_paid.send(sender="shop", using="a credit card")
        order_paid.send(sender="shop", using=3)
    assert [event.database for event in events] == ["default", "default"]
    assert [event.data["using"] for event in events] == ["a credit card", 3]


@pytest.mark.django_db(databases=["default", "other"])
def test_a_custom_signal_about_an_instance_is_recorded_where_that_lives():
    plain = Plain.objects.using("other").create(name="a")
    with override_settings(SIGNAL_AUDIT=RECORDED), capture_events() as events:
        order_paid.send(sender="shop", instance=SimpleLazyObject(lambda: plain))
        order_paid.send(sender="shop", instance=plain, using="default")
    assert [event.database for event in events] == ["other", "default"]
    assert [event.object_id for event in events] == [str(plain.pk)] * 2


def test_a_custom_signal_has_a_name_of_its_own():
    with override_settings(SIGNAL_AUDIT={"SIGNALS": {PATH: {}}}), capture_events() as events:
        order_paid.send(sender="shop", instance="no model")
    assert events[0].event == "signal.order_paid"
    assert events[0].data == {"instance": "no model"}


@pytest.mark.parametrize(
    ("path", "said", "message"),
    [
        (PATH, True, "is True. Write a dict"),
        (PATH, {"evnt": "a"}, "Did you mean 'event'"),
        (PATH, {"level": "warn"}, "Did you mean 'warning'"),
        (PATH, {"level": ["info"]}, "is no level"),
        (PATH, {"event": ""}, "the event's name is ''. Write a text"),
        (PATH, {"event": 5}, "the event's name is 5. Write a text"),
        (PATH, {"event": None}, "the event's name is None. Write a text"),
        ("tests.capture.test_signals.nothing", {}, "the signal cannot be imported"),
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


# Under a running event loop

RECORDED = {"SIGNALS": {PATH: {"event": "order.paid"}}}


@pytest.mark.django_db(transaction=True)
def test_a_custom_signal_sent_in_an_async_view_is_recorded_before_the_response_ends(rf):
    async def view(request):
        return order_paid.send(sender="shop", amount=5)

    async def main():
        responses = await AuditMiddleware(view)(rf.get("/pay/"))
        return responses, await AuditRecord.objects.aget()

    with override_settings(SIGNAL_AUDIT=RECORDED):
        ((_, response),), record = async_to_sync(main)()
    assert response is None
    assert (record.event, record.data, record.context["path"]) == (
        "order.paid",
        {"amount": 5},
        "/pay/",
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["asend", "asend_robust"])
def test_a_custom_signal_that_is_awaited_is_recorded_when_it_returns(way):
    async def main():
        await getattr(order_paid, way)(sender="shop", amount=5)
        return await AuditRecord.objects.aget()

    with override_settings(SIGNAL_AUDIT=RECORDED):
        assert async_to_sync(main)().data == {"amount": 5}


@pytest.mark.django_db(transaction=True)
def test_instances_made_by_async_code_are_recorded():
    async def main():
        return Watched(name="a")

    assert async_to_sync(main)().name == "a"
    assert names(AuditRecord.objects.order_by("id")) == ["pre_init", "post_init"]


def test_arguments_of_a_signal_in_a_loop_are_those_of_the_moment_of_sending():
    rows = [1]

    async def main():
        with set_actor("worker"):
            order_paid.send(sender="shop", rows=rows, password="s3cret-word")
        rows.append(2)

    with override_settings(SIGNAL_AUDIT=RECORDED), capture_events() as events:
        async_to_sync(main)()
    (event,) = events
    assert event.data == {"rows": [1], "password": "[redacted]"}
    assert event.actor.id == "worker"


@pytest.mark.parametrize("lazy", [False, True])
def test_the_actor_in_a_loop_is_the_user_before_the_log_out_that_follows(
    rf, django_user_model, lazy
):
    user = django_user_model.objects.create_user("planner")
    request = rf.get("/logout/")
    request.user = SimpleLazyObject(lambda: user) if lazy else user
    assert request.user.is_authenticated, "the view has asked who it is"

    async def main():
        order_paid.send(sender="shop", request=request)
        request.user = None

    with override_settings(SIGNAL_AUDIT=RECORDED), capture_events() as events:
        async_to_sync(main)()
    assert events[0].actor.label == "planner"


def test_a_user_that_takes_a_query_is_read_by_the_write_and_not_by_the_loop(
    rf, django_user_model, caplog
):
    user = django_user_model.objects.create_user("planner")
    request = rf.get("/")
    request.user = SimpleLazyObject(lambda: django_user_model.objects.get(pk=user.pk))

    async def main():
        order_paid.send(sender="shop", request=request)

    with override_settings(SIGNAL_AUDIT=RECORDED), capture_events() as events:
        async_to_sync(main)()
    assert events[0].actor.label == "planner"
    assert "could not be read" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_signal_in_a_loop_never_raises_and_a_failed_write_is_logged(monkeypatch, caplog):
    fail_writes(monkeypatch)

    async def main():
        try:
            int("CANARY")
        except ValueError:
            return order_paid.send(sender="shop")

    with override_settings(SIGNAL_AUDIT=RECORDED), caplog.at_level(logging.ERROR):
        ((_, response),) = async_to_sync(main)()
    assert response is None
    assert "An audit event was lost." in caplog.text
    assert "disk full" in caplog.text
    assert "CANARY" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_failed_write_is_a_response_of_send_robust(monkeypatch):
    fail_writes(monkeypatch)
    with override_settings(SIGNAL_AUDIT=RECORDED):
        ((_, response),) = order_paid.send_robust(sender="shop")
    assert isinstance(response, AuditSinkError)


def fail_writes(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("django_signal_audit.sinks.DatabaseSink.write", fail)


# No receiver silences the record


def raises(**kwargs):
    raise LookupError("receiver")


@pytest.mark.parametrize("signal", [order_paid, cached_paid])
def test_a_receiver_that_was_connected_before_and_raises_does_not_silence_the_record(signal):
    path = PATH if signal is order_paid else "tests.capture.test_signals.cached_paid"
    signal.connect(raises)
    try:
        with pytest.raises(LookupError):
            signal.send(sender=Plain)  # a signal that caches knows its receivers from now on
        recorded = {"SIGNALS": {path: {"event": "order.paid"}}}
        with (
            override_settings(SIGNAL_AUDIT=recorded),
            capture_events() as events,
            pytest.raises(LookupError),
        ):
            signal.send(sender=Plain)
    finally:
        signal.disconnect(raises)
    assert [e.event for e in events] == ["order.paid"]


@isolate_apps("tests.testapp")
@pytest.mark.parametrize("name", ["pre_init", "post_init", "pre_save", "class_prepared"])
def test_a_receiver_of_a_model_that_was_connected_before_does_not_silence_it(name):
    signal = BUILT_IN[name]

    class Later(models.Model):
        class Meta:
            app_label = "testapp"

    def act():
        if name == "class_prepared":
            type("Sub", (Later,), {"__module__": __name__, "Meta": type("Meta", (), META)})
        elif name == "pre_save":
            Later().save()
        else:
            Later()

    sender = None if name == "class_prepared" else Later
    signal.connect(raises, sender=sender)
    try:
        audit_signals(signal)(Later)
        with capture_events() as events, pytest.raises(LookupError):
            act()
    finally:
        signal.disconnect(raises, sender=sender)
    assert names(events) == [name]


META = {"app_label": "testapp"}


def test_receivers_keep_their_order_behind_the_record():
    called = []
    receivers = [lambda **kwargs: called.append(1), lambda **kwargs: called.append(2)]
    for receiver in receivers:
        order_paid.connect(receiver)
    try:
        with override_settings(SIGNAL_AUDIT=RECORDED):
            responses = order_paid.send(sender="shop")
    finally:
        for receiver in receivers:
            order_paid.disconnect(receiver)
    assert called == [1, 2]
    assert [receiver for receiver, _ in responses][1:] == receivers
