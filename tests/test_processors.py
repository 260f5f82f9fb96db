from __future__ import annotations

import asyncio
import functools
import threading

import pytest
import structlog
from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.test import override_settings

from django_signal_audit import audit_event, event_signal, pipeline, tasks
from django_signal_audit.exceptions import AuditConfigurationError, AuditProcessorError
from django_signal_audit.models import AuditRecord
from django_signal_audit.processors import global_processors, resolve, run
from django_signal_audit.sinks import counters, routing
from django_signal_audit.testing import capture_events
from tests.factories import make_event
from tests.testapp.models import Author, Book

MEMORY = "django_signal_audit.sinks.MemorySink"
HERE = __name__
WHERE = "SIGNAL_AUDIT['PROCESSORS']"


def add_host(logger, method_name, event_dict):
    assert logger is None
    event_dict["host"] = f"web-1 {method_name}"
    return event_dict


def drop_authors(logger, method_name, event_dict):
    if event_dict["object_type"] == "testapp.author":
        raise structlog.DropEvent
    return event_dict


def raise_error(logger, method_name, event_dict):
    raise LookupError("no host\nsecond line")


def forget(logger, method_name, event_dict):
    event_dict["x"] = 1


def rename(logger, method_name, event_dict):
    event_dict["event"] = "grave.loss"
    event_dict["level"] = "critical"
    return event_dict


def spoil(logger, method_name, event_dict):
    event_dict["context"]["spoilt"] = True
    event_dict["data"].clear()
    (event_dict["changes"] or {}).clear()
    raise structlog.DropEvent


async def add_later(logger, method_name, event_dict):
    return event_dict


class Adder:
    def __init__(self, key="x"):
        self.key = key

    def __call__(self, logger, method_name, event_dict):
        return {**event_dict, self.key: 1}


class LaterAdder:
    async def __call__(self, logger, method_name, event_dict):
        return event_dict


def two(logger, event_dict):
    return event_dict


ADDER = Adder()
NUMBER = 5


def configured(*found, **more):
    return override_settings(SIGNAL_AUDIT={"PROCESSORS": list(found), **more})


# Finding them


def test_paths_functions_and_instances_are_processors():
    partial = functools.partial(add_host)
    found = resolve(WHERE, (f"{HERE}.add_host", add_host, f"{HERE}.ADDER", ADDER, partial))

    assert [one.name for one in found] == [
        f"{HERE}.add_host",
        f"{HERE}.add_host",
        f"{HERE}.ADDER",
        f"{HERE}.Adder",
        "functools.partial",
    ]
    assert [one.function for one in found] == [add_host, add_host, ADDER, ADDER, partial]


def test_none_are_none():
    assert resolve(WHERE, []) == resolve(WHERE, ()) == ()


def test_what_does_not_tell_its_arguments_is_trusted():
    assert [one.name for one in resolve(WHERE, [max])] == ["builtins.max"]


MISSING = f'Module "{HERE}" does not define a "add_hots" attribute/class'
ADVICE = (
    "Write the dotted path of a function (logger, method_name, event_dict) that returns the "
    "event dict."
)


@pytest.mark.parametrize(
    ("value", "problem", "hint"),
    [
        (
            "shop.audit.add",
            "is 'shop.audit.add'.",
            "Write a list of dotted paths, such as ['shop.audit.add'].",
        ),
        (None, "is None.", "Write a list of dotted paths, such as ['shop.audit.add_host']."),
        (
            [f"{HERE}.add_hots"],
            f"names '{HERE}.add_hots', which cannot be imported ({MISSING}).",
            f"Did you mean '{HERE}.add_host'?",
        ),
        (
            ["zzz"],
            "names 'zzz', which cannot be imported (zzz doesn't look like a module path).",
            ADVICE,
        ),
        (
            [f"{HERE}.NUMBER"],
            f"names '{HERE}.NUMBER', which is a int and cannot be called.",
            ADVICE,
        ),
        ([5], "names 5, which is a int and cannot be called.", ADVICE),
        (
            [f"{HERE}.Adder"],
            f"names '{HERE}.Adder', which is a class.",
            "Make an instance of it in a module of yours, and write the instance's dotted path.",
        ),
        (
            [f"{HERE}.add_later"],
            f"names '{HERE}.add_later', which is async.",
            "Write a plain function; it runs inside of the write.",
        ),
        (
            [f"{HERE}.two"],
            f"names '{HERE}.two', which does not take (logger, method_name, event_dict).",
            ADVICE,
        ),
    ],
)
def test_a_wrong_one_is_refused(value, problem, hint):
    with pytest.raises(AuditConfigurationError) as caught:
        resolve(WHERE, value)

    error = caught.value
    assert (error.problem, error.hint, error.number) == (f"{WHERE} {problem}", hint, "E026")


def test_an_async_instance_is_refused():
    with pytest.raises(AuditConfigurationError, match="which is async"):
        resolve(WHERE, [LaterAdder()])


def test_every_wrong_one_is_told():
    with pytest.raises(AuditConfigurationError) as caught:
        resolve(WHERE, [5, f"{HERE}.add_host", 6])

    assert len(caught.value.all()) == 2


def test_a_module_that_cannot_be_imported_is_told(tmp_path, monkeypatch):
    (tmp_path / "broken_processors.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)

    message = r"cannot be imported \(ZeroDivisionError: division by zero\)"
    with pytest.raises(AuditConfigurationError, match=message):
        resolve(WHERE, ["broken_processors.add"])


def test_the_global_ones_are_found_once_for_each_setting():
    assert global_processors() == ()
    with configured(f"{HERE}.add_host"):
        assert global_processors() is global_processors()
        assert [one.function for one in global_processors()] == [add_host]
        with configured(ADDER):
            assert [one.function for one in global_processors()] == [ADDER]
    assert global_processors() == ()


def test_a_wrong_setting_is_told_with_its_number():
    with (
        override_settings(SIGNAL_AUDIT={"PROCESSORS": f"{HERE}.add_host"}),
        pytest.raises(AuditConfigurationError) as caught,
    ):
        global_processors()

    assert caught.value.number == "E026"


def test_a_sinks_own_are_told_with_its_alias():
    entry = {"BACKEND": MEMORY, "PROCESSORS": [f"{HERE}.add_hots", 5]}
    with pytest.raises(AuditConfigurationError) as caught:
        routing.build_route("file", entry)

    assert [one.number for one in caught.value.all()] == ["E026", "E026"]
    assert caught.value.problem.startswith("SIGNAL_AUDIT['SINKS']['file']['PROCESSORS'] names ")


# Running them


def chain(*found):
    return resolve(WHERE, found)


def test_they_run_in_order_on_one_dict():
    def see_host(logger, method_name, event_dict):
        return {**event_dict, "seen": event_dict["host"]}

    event = make_event(level="warning", data={"a": 1})
    found = run(chain(add_host, see_host), event)

    assert found.data == {"a": 1, "host": "web-1 warning", "seen": "web-1 warning"}
    assert event.data == {"a": 1}


def test_the_level_they_are_given_is_that_which_the_event_came_with():
    assert run(chain(rename, add_host), make_event()).data == {"host": "web-1 info"}


def test_an_event_stays_as_it_is_whatever_they_do():
    event = make_event(context={"a": 1}, data={"b": [1]}, changes={"c": [1, 2]})
    before = event.to_dict()
    with pytest.raises(structlog.DropEvent):
        run(chain(spoil), event)

    assert event.to_dict() == before
    assert event.context == {"a": 1}


def test_one_that_raises_is_named():
    with pytest.raises(AuditProcessorError) as caught:
        run(chain(add_host, f"{HERE}.raise_error"), make_event())

    assert str(caught.value) == f"The processor {HERE}.raise_error raised LookupError: no host"
    assert isinstance(caught.value.__cause__, LookupError)


def test_one_that_returns_no_event_is_named():
    with pytest.raises(AuditProcessorError) as caught:
        run(chain(f"{HERE}.forget", add_host), make_event())

    assert str(caught.value).startswith(f"The processor {HERE}.forget returned NoneType, no dict.")


# structlog's own


def test_context_variables_are_added_to_the_data():
    with structlog.contextvars.bound_contextvars(request_id="r-1", event="x", password="p"):
        event = run(
            chain("structlog.contextvars.merge_contextvars"), make_event(event="y", data={"a": 1})
        )

    assert event.event == "y"
    assert event.data == {"a": 1, "request_id": "r-1", "password": "[redacted]"}


def test_the_level_is_there_already():
    event = make_event(level="error")

    assert run(chain("structlog.processors.add_log_level"), event) is event


def test_a_time_stamp_needs_a_key_of_its_own():
    stamper = structlog.processors.TimeStamper(fmt="iso")
    with pytest.raises(AuditProcessorError, match="TimeStamper changed 'timestamp', which tells"):
        run(chain(stamper), make_event())

    stamper = structlog.processors.TimeStamper(fmt="%Y", key="seen")
    assert len(run(chain(stamper), make_event()).data["seen"]) == 4


def test_call_sites_may_be_added():
    adder = structlog.processors.CallsiteParameterAdder(
        [structlog.processors.CallsiteParameter.FUNC_NAME],
        additional_ignores=["django_signal_audit"],
    )
    event = run(chain(adder), make_event())

    assert event.data == {"func_name": "test_call_sites_may_be_added"}


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (structlog.processors.JSONRenderer(), "JSONRenderer returned str, no dict"),
        (structlog.processors.EventRenamer("msg"), "EventRenamer removed 'event'"),
        (structlog.stdlib.add_logger_name, "add_logger_name raised AttributeError: 'NoneType'"),
        (structlog.stdlib.filter_by_level, "filter_by_level raised AttributeError: 'NoneType'"),
    ],
)
def test_those_that_make_no_sense_are_named(processor, message):
    with pytest.raises(AuditProcessorError, match=message):
        run(chain(processor), make_event())


# In the pipeline


@pytest.mark.django_db
def test_every_event_runs_through_them_once():
    calls = []

    def count(logger, method_name, event_dict):
        calls.append(event_dict["id"])
        return event_dict

    sinks = {alias: {"BACKEND": MEMORY} for alias in ("a", "b")}
    with configured(count, add_host, SINKS=sinks), capture_events() as events:
        Author.objects.create(name="a")
        event_signal.send("x", a=1)

    assert calls == [str(event.id) for event in events]
    assert [event.data for event in events] == [
        {"host": "web-1 info"},
        {"a": 1, "host": "web-1 info"},
    ]


@pytest.mark.django_db
def test_a_record_says_what_they_made_of_the_event():
    with configured(add_host):
        author = Author.objects.create(name="a")

    record = AuditRecord.objects.get_for_object(author).get()
    assert record.data == {"host": "web-1 info"}
    assert record.changes["name"] == [None, "a"]


@pytest.mark.django_db(transaction=True)
def test_a_changed_name_and_level_go_another_way():
    sinks = {
        "all": {"BACKEND": MEMORY},
        "models": {"BACKEND": MEMORY, "EVENTS": ["model.*"]},
        "grave": {"BACKEND": MEMORY, "EVENTS": ["grave.*"], "LEVEL": "critical"},
    }
    with configured(rename, SINKS=sinks):
        Author.objects.create(name="a")
        event_signal.send("x")
        got = {route.alias: len(route.sink.events) for route in routing.all_routes()}

    assert got == {"all": 2, "models": 0, "grave": 2}


@pytest.mark.django_db(transaction=True)
def test_an_event_that_would_go_nowhere_may_be_sent_somewhere():
    sinks = {"grave": {"BACKEND": MEMORY, "EVENTS": ["grave.*"]}}
    with configured(rename, SINKS=sinks):
        Author.objects.create(name="a")
        assert [event.event for event in routing.all_routes()[0].sink.events] == ["grave.loss"]


@pytest.mark.django_db(transaction=True)
def test_the_sinks_of_a_policy_stay_its_sinks():
    sinks = {alias: {"BACKEND": MEMORY} for alias in ("a", "b")}
    models = {"testapp.Author": {"sinks": ["b"]}}
    with configured(rename, SINKS=sinks, MODELS=models):
        Author.objects.create(name="a")
        got = [len(route.sink.events) for route in routing.all_routes()]

    assert got == [0, 1]


@pytest.mark.django_db(transaction=True)
def test_what_they_drop_is_recorded_nowhere_and_counted():
    sinks = {
        "db": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
        "memory": {"BACKEND": MEMORY},
        "other": {"BACKEND": MEMORY, "EVENTS": ["other"]},
    }
    with configured(drop_authors, SINKS=sinks), capture_events() as events:
        with transaction.atomic():
            author = Author.objects.create(name="a")
            Book.objects.create(title="b")
        event_signal.send("x", instance=author)
        memory = routing.all_routes()[1].sink.events

    assert [event.object_type for event in events] == ["testapp.book"]
    assert [event.object_type for event in memory] == ["testapp.book"]
    assert [record.object_type for record in AuditRecord.objects.all()] == ["testapp.book"]
    assert Author.objects.count() == 1
    assert counters.snapshot() == {
        "db": {"emitted": 3, "dropped": 2, "written": 1},
        "memory": {"emitted": 3, "dropped": 2, "written": 1},
    }


@pytest.mark.django_db
def test_emitting_what_is_dropped_returns_no_id():
    with configured(drop_authors):
        assert pipeline.emit_act(pipeline.Act(event="x", object_type="testapp.author")) is None
        assert pipeline.emit_act(pipeline.Act(event="x")) is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("wrong", [raise_error, forget])
def test_one_that_fails_undoes_the_write(wrong):
    with configured(wrong):
        with pytest.raises(AuditProcessorError, match=f"The processor {HERE}.{wrong.__name__} "):
            Author.objects.create(name="a")
        with pytest.raises(AuditProcessorError):
            Author.objects.bulk_create([Author(name="b")])

    assert not Author.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_one_that_fails_undoes_the_transaction():
    def fail_on_authors(logger, method_name, event_dict):
        assert event_dict["object_type"] != "testapp.author"
        return event_dict

    with configured(fail_on_authors), transaction.atomic():
        Book.objects.create(title="b")
        with pytest.raises(AuditProcessorError):
            Author.objects.create(name="a")
        assert transaction.get_rollback()

    assert not Author.objects.exists()
    assert not Book.objects.exists()
    assert not AuditRecord.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_one_that_fails_on_an_own_event_is_raised_to_its_sender():
    with configured(raise_error), pytest.raises(AuditProcessorError):
        event_signal.send("x")

    assert not AuditRecord.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_under_a_loop_the_failure_is_logged(caplog):
    async def send():
        event_signal.send("x")
        await tasks.wait_for_writes()

    with configured(raise_error):
        asyncio.run(send())

    assert "An audit event was lost." in caplog.text
    assert "The processor tests.test_processors.raise_error raised LookupError" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_what_they_write_themselves_is_not_recorded():
    def write(logger, method_name, event_dict):
        Author.objects.create(name="by the processor")
        event_signal.send("by the processor")
        return event_dict

    with configured(write), capture_events() as events:
        Book.objects.create(title="b")

    assert [event.object_type for event in events] == ["testapp.book"]
    assert Author.objects.count() == 1


@pytest.mark.django_db
def test_events_of_one_call_do_not_share_what_they_change():
    def number(logger, method_name, event_dict):
        event_dict["context"]["n"] = len(event_dict["context"])
        return event_dict

    with configured(number), capture_events() as events:
        Author.objects.bulk_create([Author(name="a"), Author(name="b")])

    assert [event.context for event in events] == [{"n": 0}, {"n": 0}]


@pytest.mark.django_db
def test_they_hide_no_error_of_the_program():
    @audit_event("shift.assign")
    def assign():
        raise PermissionDenied("no")

    with configured(add_host), capture_events() as events, pytest.raises(PermissionDenied):
        assign()

    assert events[0].data == {"host": "web-1 warning"}


@pytest.mark.django_db
def test_threads_have_their_own_dicts():
    with configured(add_host, ADDER, SINKS={}), capture_events() as events:
        threads = [threading.Thread(target=event_signal.send, args=("x",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [event.data for event in events] == [{"host": "web-1 info", "x": 1}] * 8


# Before the apps are ready


@pytest.mark.parametrize(
    ("processor", "got"), [(add_host, ["x"]), (spoil, []), (raise_error, []), (drop_authors, ["x"])]
)
def test_early_events_run_through_them_and_no_failure_stops_the_start(
    processor, got, monkeypatch, caplog
):
    with configured(processor, SINKS={"memory": {"BACKEND": MEMORY}}):
        monkeypatch.setattr(apps, "ready", False)
        monkeypatch.setattr(pipeline, "_sinks_known", False)
        event_signal.send("x")
        pipeline.emit_waiting()
        events = routing.all_routes()[0].sink.events

    assert [event.sender for event in events] == got
    assert ("An audit event was lost." in caplog.text) == (processor is raise_error)


def test_without_them_no_event_is_copied(monkeypatch):
    monkeypatch.setattr(pipeline, "run", None)
    with override_settings(SIGNAL_AUDIT={"SINKS": {}}), capture_events() as events:
        pipeline._emit_without_database(pipeline.Act(event="x"))

    assert len(events) == 1
