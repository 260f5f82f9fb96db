from __future__ import annotations

import threading
import time
from typing import ClassVar

import pytest
from django.test import override_settings

from django_signal_audit import define_event, event_signal
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import MemorySink, Sink, routing
from django_signal_audit.sinks.routing import build_route, routes_for
from tests.testapp.models import Author, Book, Plain

MEMORY = "django_signal_audit.sinks.MemorySink"


class Recorded(MemorySink):
    """Notes when it is made and closed."""

    made: ClassVar[list[Sink]] = []
    closed: ClassVar[list[Sink]] = []

    def __init__(self, config, **options):
        super().__init__(config, **options)
        time.sleep(0.01)  # long enough for another thread to come by
        self.made.append(self)

    def close(self):
        self.closed.append(self)


class Unclosable(MemorySink):
    def close(self):
        raise OSError("stuck")


class Demanding(Sink):
    def __init__(self, config, *, path, size=1):
        super().__init__(config)
        if size < 0:
            raise ValueError("size is negative")


@pytest.fixture(autouse=True)
def _no_instances():
    routing.close_sinks()
    Recorded.made.clear()
    Recorded.closed.clear()


def sinks(**entries):
    return override_settings(
        SIGNAL_AUDIT={
            "SINKS": {alias: {"BACKEND": MEMORY, **entry} for alias, entry in entries.items()}
        }
    )


def got(alias):
    found = [route for route in routing.all_routes() if route.alias == alias]
    return [event.event for event in found[0].sink.events]


# Filters


@pytest.mark.django_db(transaction=True)
def test_events_go_where_their_name_matches():
    with sinks(
        all={},
        auth={"EVENTS": ["auth.*"]},
        two={"EVENTS": ["auth.login", "shift.?"]},
        none={"EVENTS": []},
    ):
        for name in ("auth.login", "auth.logout", "shift.a", "shift.ab", "AUTH.login"):
            event_signal.send("x", event=name)

        assert got("all") == ["auth.login", "auth.logout", "shift.a", "shift.ab", "AUTH.login"]
        assert got("auth") == ["auth.login", "auth.logout"]
        assert got("two") == ["auth.login", "shift.a"]
        assert got("none") == []


@pytest.mark.django_db(transaction=True)
def test_events_go_where_their_model_matches():
    with sinks(
        authors={"MODELS": ["testapp.Author"]},
        app={"MODELS": ("testapp.*",)},
        auth={"MODELS": {"auth.*"}},
    ):
        author = Author.objects.create(name="a")
        Book.objects.create(title="b")
        event_signal.send("x", event="about", instance=author)
        event_signal.send("x", event="about.nothing")

        assert got("authors") == ["model.create", "about"]
        assert got("app") == ["model.create", "model.create", "about"]
        assert got("auth") == []


@pytest.mark.django_db(transaction=True)
def test_events_go_where_their_level_is_high_enough():
    with sinks(all={}, grave={"LEVEL": "warning"}):
        for level in routing.LEVELS:
            event_signal.send("x", event=level, level=level)

        assert got("all") == list(routing.LEVELS)
        assert got("grave") == ["warning", "error", "critical"]


@pytest.mark.django_db(transaction=True)
def test_a_policys_sinks_intersect_with_the_sinks_own_filters():
    with override_settings(
        SIGNAL_AUDIT={
            "SINKS": {
                "a": {"BACKEND": MEMORY, "EVENTS": ["model.create"]},
                "b": {"BACKEND": MEMORY},
                "c": {"BACKEND": MEMORY},
            },
            "MODELS": {"testapp.Plain": {"sinks": ["a", "b"]}},
        }
    ):
        plain = Plain.objects.create(name="x")
        plain.name = "y"
        plain.save()

        assert got("a") == ["model.create"]
        assert got("b") == ["model.create", "model.update"]
        assert got("c") == []


@pytest.mark.django_db(transaction=True)
def test_a_definitions_sinks_intersect_too_and_an_unknown_one_is_an_error():
    with sinks(a={"LEVEL": "error"}, b={}):
        define_event("x.y", sinks=["a", "b"]).send("x")

        assert got("a") == []
        assert got("b") == ["x.y"]
        with pytest.raises(AuditConfigurationError, match=r"no audit sink 'bb'.*Did you mean 'b'"):
            define_event("x.y", sinks=["bb"]).send("x")


def test_the_answer_for_one_kind_of_event_is_found_once_and_answers_do_not_pile_up():
    with sinks(a={}):
        key = ("x", None, "info", None)
        assert routes_for(key) is routes_for(key)
        for number in range(10_000):
            routes_for((f"made.up.{number}", None, "info", None))
        assert len(routing._current_table().found) <= routing._ANSWERS_KEPT


def test_no_sinks_means_no_routes():
    with override_settings(SIGNAL_AUDIT={"SINKS": {}}):
        assert not routes_for(("x", None, "info", None))


# Instances


RECORDED = f"{__name__}.Recorded"


def test_there_is_one_instance_for_each_alias_and_process():
    with sinks(a={"BACKEND": RECORDED}, b={"BACKEND": RECORDED}):
        routing.close_sinks()
        Recorded.made.clear()
        start = threading.Barrier(8)
        found = []

        def work():
            start.wait()
            found.append([id(route.sink) for route in routing.all_routes()])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(Recorded.made) == 2
        assert len({tuple(ids) for ids in found}) == 1


def test_changed_settings_close_the_sinks_and_build_new_ones():
    with sinks(a={"BACKEND": RECORDED}):
        first = routing.all_routes()[0].sink
        with sinks(a={"BACKEND": RECORDED}):
            assert first in Recorded.closed
            assert routing.all_routes()[0].sink is not first
        assert routing.all_routes()[0].sink is not first


def test_a_sink_that_cannot_be_closed_keeps_no_other_open_and_is_logged(caplog):
    with sinks(a={"BACKEND": f"{__name__}.Unclosable"}, b={"BACKEND": RECORDED}):
        routing.all_routes()
        routing.close_sinks()

    assert len(Recorded.closed) == 1
    assert "Audit sink 'a' could not be closed." in caplog.text


def test_the_backend_may_be_a_class():
    assert isinstance(build_route("a", {"BACKEND": MemorySink}).sink, MemorySink)


def test_a_sink_has_its_options_and_its_format():
    route = build_route("a", {"BACKEND": MEMORY, "OPTIONS": {"capacity": 2}, "FORMAT": "text"})

    assert route.sink._events.maxlen == 2
    assert route.sink.alias == "a"


# Mistakes


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (None, "is a NoneType. Write a dict with a 'BACKEND'."),
        ({}, "['BACKEND'] is None. Write the dotted path of a sink, such as"),
        ({"BACKEND": 5}, "['BACKEND'] is 5. Write the dotted path of a sink, such as"),
        ({"BACKEND": MEMORY, "EVENT": []}, "has no key 'EVENT'. Did you mean 'EVENTS'?"),
        ({"BACKEND": MEMORY, 5: []}, "has no key 5."),
        (
            {"BACKEND": "django_signal_audit.sinks.FileSnk"},
            "Did you mean 'django_signal_audit.sinks.FileSink'?",
        ),
        ({"BACKEND": "django_signal_audit.sinks.Sink"}, "is no sink. Derive one"),
        ({"BACKEND": "django.test.TestCase"}, "is no sink. Derive one"),
        ({"BACKEND": dict}, "is no sink. Derive one"),
        ({"BACKEND": MEMORY, "FORMAT": "jsn"}, "['FORMAT']: There is no format 'jsn'."),
        ({"BACKEND": MEMORY, "FORMAT": 5}, "['FORMAT'] is 5. Write the name of a format"),
        ({"BACKEND": MEMORY, "OPTIONS": []}, "['OPTIONS'] is a list. Write a dict."),
        ({"BACKEND": MEMORY, "OPTIONS": {"size": 5}}, "MemorySink has no option 'size'."),
        (
            {"BACKEND": MEMORY, "OPTIONS": {"capcity": 5}},
            "has no option 'capcity'. Did you mean 'capacity'?",
        ),
        ({"BACKEND": MEMORY, "OPTIONS": {"config": 5}}, "has no option 'config'."),
        ({"BACKEND": MEMORY, "OPTIONS": {"capacity": -1}}, "capacity is -1."),
        (
            {"BACKEND": Demanding},
            "Demanding needs the option 'path'. Write 'OPTIONS': {'path': ...}.",
        ),
        (
            {"BACKEND": Demanding, "OPTIONS": {"path": "x", "size": -1}},
            "Demanding cannot be made of 'path', 'size' (ValueError: size",
        ),
        (
            {"BACKEND": "django_signal_audit.sinks.DatabaseSink", "OPTIONS": {"x": 1}},
            "DatabaseSink has no option 'x'.",
        ),
        ({"BACKEND": MEMORY, "EVENTS": "auth.*"}, "Write a list of patterns, such as ['auth.*']."),
        ({"BACKEND": MEMORY, "EVENTS": [5]}, "['EVENTS'] is [5]. Write a list of patterns"),
        (
            {"BACKEND": MEMORY, "MODELS": {"a.b": {}}},
            "['MODELS'] is {'a.b': {}}. Write a list of patterns",
        ),
        (
            {"BACKEND": MEMORY, "LEVEL": "warn"},
            "is 'warn', which is no level. Did you mean 'warning'?",
        ),
        ({"BACKEND": MEMORY, "LEVEL": 30}, "['LEVEL'] is 30, which is no level."),
        ({"BACKEND": MEMORY, "LEVEL": ["info"]}, "is no level."),
        (
            {"BACKEND": MEMORY, "ON_ERROR": "ignore"},
            "['ON_ERROR'] is 'ignore', which is no policy.",
        ),
        ({"BACKEND": MEMORY, "ON_ERROR": []}, "is no policy."),
        ({"BACKEND": MEMORY, "ON_ERROR": "raise"}, "cannot be 'raise': MemorySink writes after"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_alias_and_advice(entry, message):
    with pytest.raises(AuditConfigurationError) as caught:
        build_route("audit", entry)

    assert message in str(caught.value)
    assert "'audit'" in str(caught.value)


def test_failure_policies_have_the_designs_defaults():
    database = "django_signal_audit.sinks.DatabaseSink"

    assert build_route("a", {"BACKEND": database}).on_error == "raise"
    assert build_route("a", {"BACKEND": database, "ON_ERROR": "log"}).on_error == "log"
    assert build_route("a", {"BACKEND": MEMORY}).on_error == "log"


@pytest.mark.django_db(transaction=True)
def test_a_wrong_sink_never_means_that_audit_is_silently_off():
    with sinks(good={}, bad={"LEVEL": "loud"}):
        with pytest.raises(AuditConfigurationError, match="'bad'"):
            Author.objects.create(name="a")
        with pytest.raises(AuditConfigurationError, match="'bad'"):
            event_signal.send("x")
    assert not Author.objects.exists()
