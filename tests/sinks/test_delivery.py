from __future__ import annotations

import pytest
import structlog
from django.db import transaction
from django.test import override_settings

from django_signal_audit import event_signal
from django_signal_audit.exceptions import AuditSinkError
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import DatabaseSink, MemorySink, Sink, counters, routing
from django_signal_audit.sinks.delivery import transactional
from tests.testapp.models import Author, Book


class Raising(Sink):
    def emit(self, events):
        raise structlog.DropEvent


def add_host(logger, method_name, event_dict):
    event_dict["host"] = "web-1"
    event_dict["event"] += ".seen"
    return event_dict


def drop_b(logger, method_name, event_dict):
    if event_dict["object_repr"] == "b" or event_dict["sender"] == "b":
        raise structlog.DropEvent
    return event_dict


def fail_on_b(logger, method_name, event_dict):
    if event_dict["object_repr"] == "b" or event_dict["sender"] == "b":
        raise LookupError("b is wrong.")
    return event_dict


def spoil(logger, method_name, event_dict):
    event_dict["changes"].clear()
    event_dict["context"]["spoilt"] = 1
    return event_dict


def interrupt(logger, method_name, event_dict):
    raise KeyboardInterrupt


def sinks(**entries):
    return override_settings(
        SIGNAL_AUDIT={
            "SINKS": {alias: {"BACKEND": MemorySink} | entry for alias, entry in entries.items()}
        }
    )


def got(alias):
    return [
        event
        for route in routing.all_routes()
        if route.alias == alias
        for event in route.sink.events
    ]


def names(events):
    return [event.object_repr for event in events]


def create(*texts):
    with transaction.atomic():
        for text in texts:
            Author.objects.create(name=text)


@pytest.mark.django_db(transaction=True)
def test_each_sink_gets_what_its_own_processors_make():
    with sinks(
        plain={},
        named={"PROCESSORS": [add_host], "EVENTS": ["model.create"]},
        spoilt={"PROCESSORS": [spoil]},
        last={},
    ):
        create("a")
        plain, named, spoilt, last = (
            got(alias)[0] for alias in ("plain", "named", "spoilt", "last")
        )

    assert plain == last
    assert plain.data == {}
    assert plain.changes["name"] == [None, "a"]
    assert (named.event, named.data) == ("model.create.seen", {"host": "web-1"})
    assert (spoilt.changes, spoilt.context) == ({}, {"spoilt": 1})
    assert named.id == plain.id


@pytest.mark.django_db(transaction=True)
def test_the_database_stores_what_its_processors_make():
    with sinks(db={"BACKEND": DatabaseSink, "PROCESSORS": [add_host]}, plain={}):
        create("a")
        assert got("plain")[0].event == "model.create"

    assert [(one.event, one.data) for one in AuditRecord.objects.all()] == [
        ("model.create.seen", {"host": "web-1"})
    ]


@pytest.mark.django_db(transaction=True)
def test_a_text_sink_formats_what_its_processors_make(capsys):
    stdout = "django_signal_audit.sinks.StdoutSink"
    with sinks(out={"BACKEND": stdout, "PROCESSORS": [add_host], "FORMAT": "logfmt"}):
        create("a")

    assert " event=model.create.seen " in capsys.readouterr().out


@pytest.mark.django_db(transaction=True)
def test_what_they_drop_goes_to_the_other_sinks_and_is_counted():
    with sinks(
        db={"BACKEND": DatabaseSink, "PROCESSORS": [drop_b]},
        dropping={"PROCESSORS": [drop_b]},
        plain={},
    ):
        create("a", "b", "c")
        create("b")
        assert names(got("dropping")) == ["a", "c"]
        assert names(got("plain")) == ["a", "b", "c", "b"]

    assert names(AuditRecord.objects.order_by("id")) == ["a", "c"]
    assert counters.snapshot() == {
        "db": {"emitted": 4, "dropped": 2, "written": 2},
        "dropping": {"emitted": 4, "dropped": 2, "written": 2},
        "plain": {"emitted": 4, "written": 4},
    }


@pytest.mark.django_db(transaction=True)
def test_a_failure_rolls_back_where_the_policy_says_so():
    with sinks(db={"BACKEND": DatabaseSink, "PROCESSORS": [fail_on_b]}, plain={}):
        create("a")
        with pytest.raises(AuditSinkError) as caught:
            create("c", "b")
        assert names(got("plain")) == ["a"]

    assert names(AuditRecord.objects.all()) == ["a"]
    assert [author.name for author in Author.objects.all()] == ["a"]
    assert (
        "to database 'default': The processor tests.sinks.test_delivery.fail_on_b raised "
        "LookupError: b is wrong. The change was rolled back" in str(caught.value)
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("write", [create, lambda *names: [event_signal.send(n) for n in names]])
def test_a_failure_loses_one_event_where_the_policy_says_so(write, caplog):
    with sinks(
        db={"BACKEND": DatabaseSink, "PROCESSORS": [fail_on_b], "ON_ERROR": "log"},
        failing={"PROCESSORS": [fail_on_b]},
        plain={},
    ):
        write("a", "b", "c")
        write("b")
        assert len(got("failing")) == 2
        assert len(got("plain")) == 4

    assert AuditRecord.objects.count() == 2
    assert counters.snapshot() == {
        "db": {"emitted": 4, "failed": 2, "lost": 2, "written": 2},
        "failing": {"emitted": 4, "failed": 2, "lost": 2, "written": 2},
        "plain": {"emitted": 4, "written": 4},
    }
    assert "Audit sink 'failing' (MemorySink) lost 1 event" in caplog.text
    assert "The processor tests.sinks.test_delivery.fail_on_b raised LookupError" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_after_a_rollback_they_run_on_what_survives():
    with sinks(
        db={"BACKEND": DatabaseSink, "PROCESSORS": [drop_b, add_host]},
        plain={"PROCESSORS": [drop_b]},
    ):
        with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
            event_signal.send("a", event="x")
            event_signal.send("b", event="x")
            raise ZeroDivisionError
        assert [event.sender for event in got("plain")] == ["a"]

    record = AuditRecord.objects.get()
    assert (record.sender, record.event, record.rolled_back) == ("a", "x.seen", True)


@pytest.mark.django_db(transaction=True)
def test_after_a_rollback_a_failure_is_logged(caplog):
    with (  # noqa: PT012
        sinks(db={"BACKEND": DatabaseSink, "PROCESSORS": [fail_on_b]}),
        pytest.raises(ZeroDivisionError),
        transaction.atomic(),
    ):
        event_signal.send("b")
        raise ZeroDivisionError

    assert counters.snapshot() == {"db": {"emitted": 1, "failed": 1, "lost": 1}}
    assert "fail_on_b raised LookupError" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_large_transactions_run_through_them_too():
    setting = {
        "BUFFER_SIZE": 2,
        "SINKS": {
            "db": {"BACKEND": DatabaseSink, "PROCESSORS": [drop_b]},
            "memory": {"BACKEND": MemorySink, "PROCESSORS": [drop_b]},
        },
    }
    with override_settings(SIGNAL_AUDIT=setting):
        create(*"abcabcabc")
        assert names(got("memory")) == list("acacac")

    assert names(AuditRecord.objects.order_by("id")) == list("acacac")


@pytest.mark.django_db(transaction=True)
def test_an_interruption_stops_no_other_sink_and_is_raised():
    with sinks(bad={"PROCESSORS": [interrupt]}, plain={}):
        with pytest.raises(KeyboardInterrupt):
            create("a")
        assert names(got("plain")) == ["a"]

    assert Author.objects.exists()
    assert counters.snapshot() == {
        "bad": {"emitted": 1, "failed": 1, "lost": 1},
        "plain": {"emitted": 1, "written": 1},
    }


@pytest.mark.django_db(transaction=True)
def test_a_drop_that_leaves_a_sink_is_a_loss_and_no_interruption():
    with sinks(raising={"BACKEND": Raising}, plain={}):
        create("a")
        assert names(got("plain")) == ["a"]

    assert counters.snapshot() == {
        "raising": {"emitted": 1, "failed": 1, "lost": 1},
        "plain": {"emitted": 1, "written": 1},
    }


@pytest.mark.django_db(transaction=True)
def test_what_they_write_themselves_is_not_recorded():
    def write(logger, method_name, event_dict):
        Book.objects.create(title="by the processor")
        return event_dict

    with sinks(db={"BACKEND": DatabaseSink, "PROCESSORS": [write]}):
        create("a")

    assert names(AuditRecord.objects.all()) == ["a"]
    assert Book.objects.count() == 1


def test_only_a_transactional_sink_is_written_inside_of_a_transaction():
    with sinks(plain={}), pytest.raises(TypeError, match="audit sink 'plain' is not transactional"):
        transactional(routing.all_routes()[0])


@pytest.mark.django_db(transaction=True)
def test_what_was_rolled_back_does_not_count_as_written():
    with sinks(db={"BACKEND": DatabaseSink}):
        with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
            create("a")
            assert AuditRecord.objects.count() == 1, "it was INSERTed"
            raise ZeroDivisionError
        assert counters.snapshot() == {}
        with transaction.atomic():
            create("b")
            with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
                create("c")
                assert AuditRecord.objects.count() == 2
                raise ZeroDivisionError
            create("d")
            assert AuditRecord.objects.count() == 2
            assert counters.snapshot() == {}

    assert counters.snapshot() == {"db": {"emitted": 2, "written": 2}}


@pytest.mark.django_db(transaction=True)
def test_what_was_written_early_counts_once():
    with override_settings(
        SIGNAL_AUDIT={"BUFFER_SIZE": 2, "SINKS": {"db": {"BACKEND": DatabaseSink}}}
    ):
        create(*"abcdefg")
        with transaction.atomic():
            create(*"hi")  # all of it is forgotten in memory by the time of COMMIT

    assert AuditRecord.objects.count() == 9
    assert counters.snapshot() == {"db": {"emitted": 9, "written": 9}}


@pytest.mark.django_db(transaction=True)
def test_what_was_refused_counts_as_failed_and_not_as_lost():
    with (
        sinks(db={"BACKEND": DatabaseSink, "PROCESSORS": [fail_on_b]}),
        pytest.raises(AuditSinkError),
    ):
        create("a", "b")

    assert counters.snapshot() == {"db": {"emitted": 2, "failed": 2}}


@pytest.mark.django_db(transaction=True)
def test_a_loss_names_the_first_and_the_last_event(caplog):
    class Full(Sink):
        def emit(self, events):
            raise OSError("no room")

    with sinks(full={"BACKEND": Full}, plain={}):
        create("a", "b", "c")
        first, _, last = got("plain")

    assert (
        f"Audit sink 'full' (Full) lost 3 events, first model.create of testapp.author "
        f"{first.object_id} (id {first.id}), last model.create of testapp.author "
        f"{last.object_id} (id {last.id}) because it could not write: no room"
    ) in caplog.text
