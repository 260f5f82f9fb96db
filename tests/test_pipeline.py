from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import PurePath
from types import SimpleNamespace

import pytest
import time_machine
from django.apps import apps
from django.db import IntegrityError, transaction
from django.test import override_settings
from django.utils.translation import gettext_lazy

from django_signal_audit import audit_context, audit_event, context, event_signal, pipeline
from django_signal_audit.ids import lowest_uuid7
from django_signal_audit.pipeline import Act, emit_act
from django_signal_audit.sinks import routing
from django_signal_audit.testing import capture_events
from tests.testapp.models import Account, Author, Book

MEMORY = "django_signal_audit.sinks.MemorySink"
MOMENT = datetime(2024, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
CAUSE = lowest_uuid7(MOMENT)


@pytest.mark.django_db
def test_id_and_timestamp_of_an_event_agree():
    with time_machine.travel(MOMENT, tick=False), capture_events() as events:
        Author.objects.create(name="a")
        event_signal.send("x")

    assert [event.timestamp for event in events] == [MOMENT, MOMENT]
    assert events[0].id < events[1].id
    assert all(lowest_uuid7(MOMENT) <= event.id for event in events)


@pytest.mark.django_db
def test_events_of_one_transaction_are_grouped():
    with capture_events() as events:
        with transaction.atomic():
            Author.objects.create(name="a")
            event_signal.send("x")
        with transaction.atomic():
            Author.objects.create(name="b")

    # The test's own transaction is around all three.
    assert len({event.transaction for event in events}) == 1
    assert events[0].transaction is not None


@pytest.mark.django_db(transaction=True)
def test_outside_of_a_transaction_a_custom_event_belongs_to_none():
    with capture_events() as events:
        event_signal.send("x")
        Author.objects.create(name="a")
        Author.objects.create(name="b")

    assert events[0].transaction is None
    assert None not in {events[1].transaction, events[2].transaction}
    assert events[1].transaction != events[2].transaction


@pytest.mark.django_db
def test_an_error_is_recorded_with_its_type_and_without_secrets():
    error = IntegrityError("Key (api_token)=(tok-123456) already exists.")
    with capture_events() as events:
        emit_act(Act(event="x", error=error))

    assert events[0].error["type"] == "IntegrityError"
    assert "tok-123456" not in events[0].error["message"]
    assert "[redacted]" in events[0].error["message"]


@pytest.mark.django_db
def test_secrets_of_the_context_do_not_reappear_in_the_texts():
    with capture_events() as events, audit_context(api_key="abcdef-1", reason="for abcdef-1"):
        emit_act(Act(event="x", message="used abcdef-1"))

    assert events[0].context == {"api_key": "[redacted]"}
    assert events[0].reason == "for [redacted]"
    assert events[0].message == "used [redacted]"


@pytest.mark.django_db
def test_own_words_make_a_name_sensitive_or_plain():
    setting = {"SENSITIVE_NAMES": ["iban"], "PLAIN_NAMES": ["token_count"]}
    with override_settings(SIGNAL_AUDIT=setting), capture_events() as events:
        event_signal.send("x", iban="DE00", token_count=5)
    with capture_events() as later:
        event_signal.send("x", iban="DE00", token_count=5)

    assert events[0].data == {"iban": "[redacted]", "token_count": 5}
    assert later[0].data == {"iban": "DE00", "token_count": "[redacted]"}


@pytest.mark.django_db
def test_when_is_asked_with_each_event_and_may_drop_it():
    asked = []

    def when(event):
        asked.append(event)
        return event.object_repr != "b"

    setting = {"MODELS": {"testapp.Author": {"when": when}}}
    with override_settings(SIGNAL_AUDIT=setting), capture_events() as events:
        Author.objects.bulk_create([Author(name="a"), Author(name="b"), Author(name="c")])

    assert [event.object_repr for event in events] == ["a", "c"]
    assert len(asked) == 3


@pytest.mark.django_db(transaction=True)
def test_a_when_that_raises_undoes_the_write():
    def when(event):
        raise LookupError("when")

    setting = {"MODELS": {"testapp.Author": {"when": when}}}
    with override_settings(SIGNAL_AUDIT=setting), pytest.raises(LookupError):
        Author.objects.create(name="a")

    assert not Author.objects.exists()


def test_before_apps_are_ready_events_wait_for_the_sinks_that_need_no_database(monkeypatch):
    sinks = {
        "memory": {"BACKEND": MEMORY},
        "db": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
    }
    with override_settings(SIGNAL_AUDIT={"SINKS": sinks}):
        monkeypatch.setattr(apps, "ready", False)
        monkeypatch.setattr(pipeline, "_sinks_known", False)
        with (
            time_machine.travel(MOMENT, tick=False),
            audit_context(reason="T-1", ticket=5),
            context.cause_scope(CAUSE),
        ):
            event_signal.send("early", detail=1)
        memory = routing.all_routes()[0].sink
        assert memory.events == []
        pipeline.emit_waiting()
        event_signal.send("later")

    assert [event.sender for event in memory.events] == ["early", "later"]
    assert memory.events[0].timestamp == MOMENT
    assert memory.events[0].database is None
    early = memory.events[0]
    assert (early.reason, early.cause, early.context["ticket"]) == ("T-1", CAUSE, 5)
    assert pipeline._waiting == []


@pytest.mark.django_db
def test_observers_see_the_events_of_every_thread_and_only_while_they_look():
    seen = []
    with pipeline.observe(seen.append), override_settings(SIGNAL_AUDIT={"SINKS": {}}):
        threads = [threading.Thread(target=event_signal.send, args=("x",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    event_signal.send("x")

    assert len(seen) == 8


@pytest.mark.django_db
def test_the_same_observer_may_look_twice():
    seen = []
    with pipeline.observe(seen.append):
        with pipeline.observe(seen.append):
            event_signal.send("x")
        event_signal.send("x")

    assert len(seen) == 3


@pytest.mark.django_db
def test_emitting_returns_the_id():
    with capture_events() as events:
        found = emit_act(Act(event="x"))

    assert found == events[0].id


@pytest.mark.django_db
def test_a_context_of_oversized_values_keeps_its_small_ones():
    with audit_context(ticket="T-1", rows=list(range(20_000))), capture_events() as events:
        Book.objects.create(title="b")

    assert events[0].context["ticket"] == "T-1"
    assert "$cut" in events[0].context["rows"]


@pytest.mark.django_db(transaction=True)
def test_a_unique_secret_quoted_by_the_database_is_masked():
    Account.objects.create(email="zoe@example.org", api_token="tok-123456")
    try:
        Account.objects.create(email="zoe@example.org", api_token="tok-123456")
    except IntegrityError as error:
        with capture_events() as events:
            event_signal.send("x", message=error, email="zoe@example.org", api_token="tok-123456")

    assert "tok-123456" not in str(events[0].to_dict())


CANARY = "C4nary-5ecret"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "data",
    [
        {"url": f"https://u:{CANARY}@h/?token={CANARY}"},
        {"error": ValueError(f"password={CANARY}")},
        {"body": f'{{"password":"{CANARY}"}}'},
        {"headers": [("Authorization", f"Basic {CANARY}")]},
        {"headers": [["Authorization", f"Basic {CANARY}"]]},
        {"headers": [(b"authorization", CANARY)]},
        {"header": ("X-Api-Key", CANARY)},
        {"items": {"api_key": CANARY}.items()},
        {"headers": [("Authorization", CANARY)], "note": f"sent {CANARY}"},
        {"note": f"sent {CANARY}", "password": CANARY},
        {"note": [{"deep": (f"sent {CANARY}",)}], "password": CANARY},
        {"by_key": {f"sent {CANARY}": 1}, "password": CANARY},
        {"long": f"sent {CANARY} " + "x" * 20_000, "password": CANARY},
        {"long": "x" * 195 + CANARY + "x" * 20_000, "password": CANARY},
        {"many": [f"sent {CANARY}"] * 20_000, "password": CANARY},
        {"path": PurePath(f"/reset/{CANARY}"), "password": CANARY},
        {"lazy": gettext_lazy(f"sent {CANARY}"), "password": CANARY},
        {"shown": SimpleNamespace(note=f"sent {CANARY}"), "password": CANARY},
        {"nul": f"\x00 sent {CANARY}", "password": CANARY},
    ],
    ids=",".join,
)
def test_no_text_inside_of_data_or_context_shows_a_secret(data):
    with capture_events() as events:
        event_signal.send("x", **data)
        with audit_context(**data):
            event_signal.send("x", message=CANARY if "password" in data else "")
            Author.objects.create(name="a")

    assert len(events) == 3
    assert all("4nary" not in str(event.to_dict()) for event in events)


@pytest.mark.django_db
def test_what_is_no_secret_stays_in_data_as_it_was():
    data = {
        "changed": ["password", "email"],
        "rows": [["a", "b"], ["c", "d"]],
        "tuple": ["a", "b"],
        "when": "12:30:00",
        "agent": "Mozilla/5.0 (X11; rv:128.0)",
        "count": 5,
    }
    with capture_events() as events:
        event_signal.send("x", **data | {"tuple": ("a", "b")})

    assert events[0].data == data


@pytest.mark.django_db
def test_a_secret_of_the_data_or_the_instance_leaves_the_context():
    account = Account(pk=1, email="a@b.c", api_token=CANARY)
    with audit_context(note=f"reset to {CANARY}"), capture_events() as events:
        event_signal.send("x", password=CANARY)
        event_signal.send("x", instance=account)

    assert [event.context for event in events] == [{"note": "reset to [redacted]"}] * 2


@pytest.mark.django_db
def test_the_name_of_an_event_shows_no_secret():
    with capture_events() as events:
        event_signal.send("x", event=f"token={CANARY}")
        event_signal.send("x", event=f"reset.{CANARY}", password=CANARY)
        event_signal.send("x", event="password.changed")

    assert [event.event for event in events] == [
        "token=[redacted]",
        "reset.[redacted]",
        "password.changed",
    ]


@pytest.mark.django_db
@override_settings(SIGNAL_AUDIT={"SENSITIVE_NAMES": ["stock"]})
def test_a_value_that_a_sensitive_field_refuses_is_masked_in_the_error():
    @audit_event("book.make")
    def make():
        Book.objects.create(title="t", stock=CANARY)

    with capture_events() as events, pytest.raises(ValueError, match=CANARY):
        make()

    assert events[0].error["message"] == "Field 'stock' expected a number but got [redacted]."


@pytest.mark.django_db
def test_a_text_column_is_recorded_as_it_is_stored():
    text = "token=abc"
    with capture_events() as events:
        Book.objects.create(title=text, meta={"note": text, "pair": ["token", "abc"]})

    assert events[0].changes["title"] == [None, text]
    assert events[0].changes["meta"] == [None, {"note": text, "pair": ["token", "abc"]}]


@pytest.mark.django_db
def test_a_change_that_nobody_asks_for_makes_no_event(monkeypatch):
    def unwanted(*args, **kwargs):
        raise AssertionError("an event was made")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_observers", [])  # the suite's own
        patch.setattr(pipeline, "AuditEvent", unwanted)
        with override_settings(SIGNAL_AUDIT={"SINKS": {}}):
            Author.objects.create(name="a")
        with pytest.raises(AssertionError, match="an event was made"):
            Author.objects.create(name="a")


def test_a_frozen_act_without_a_message_stays_without():
    act = Act(event="x", message=None)
    pipeline.freeze(act)
    assert act.message == ""
