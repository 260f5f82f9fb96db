from __future__ import annotations

import json
import re
from datetime import datetime
from importlib import resources
from urllib.parse import urlsplit

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1 import conversion
from cloudevents.v1.http import CloudEvent as OldCloudEvent
from hypothesis import given
from hypothesis import strategies as st

from django_signal_audit.event import Actor
from django_signal_audit.event_shape import event_from_dict
from django_signal_audit.formats import cloudevents, get_formatter
from tests.factories import make_event
from tests.formats.typical import CAUSE, KINDS, TRANSACTION, TYPICAL, facts, varied

FACTS = facts("cloudevents")
NOT_IN_A_STRING = re.compile(FACTS["not_in_a_string"])
KNOWN = {**FACTS["attributes"], **FACTS["extensions"]}

formatter = get_formatter("cloudevents")


def shaped(event):
    return json.loads(formatter(event))


def is_noncharacter(character):
    return ord(character) & 0xFFFE == 0xFFFE


def check(document):
    attributes = {name: document[name] for name in document if name != "data"}
    assert attributes.keys() >= set(FACTS["required"])
    assert attributes.keys() <= KNOWN.keys()
    assert document["specversion"] == FACTS["version"] == cloudevents.SPEC_VERSION
    for name, value in attributes.items():
        assert re.fullmatch(FACTS["attribute_name"], name)
        assert type(value) is str and value
        assert not NOT_IN_A_STRING.search(value) and not any(map(is_noncharacter, value)), name
        assert value in FACTS["allowed"].get(name, [value])
        if KNOWN[name] == "Timestamp":
            assert datetime.fromisoformat(value).tzinfo is not None
        if KNOWN[name] == "URI":
            assert urlsplit(value).scheme
        if KNOWN[name].startswith("URI"):
            assert re.fullmatch(r"[\w:/?#\[\]@!$&'()*+,;=.~%-]+", value, re.ASCII)


@pytest.mark.parametrize("event", TYPICAL, ids=lambda event: event.event)
def test_a_typical_event_is_as_the_specification_says_and_reads_back(event):
    check(shaped(event))

    assert event_from_dict(shaped(event)["data"]) == event


@given(varied)
def test_any_event_is_as_the_specification_says_and_reads_back(event):
    document = shaped(event)

    check(document)
    assert document["data"] == event.to_dict()


@given(varied)
def test_the_library_reads_any_event(event):
    line = formatter(event)
    read = JSONFormat().read(CloudEvent, line)

    assert (read.get_id(), read.get_time()) == (str(event.id), event.timestamp)
    assert read.get_source() == "/tests"
    assert read.get_specversion() == "1.0"
    assert read.get_data() == event.to_dict()
    written = json.loads(JSONFormat().write(read))
    assert datetime.fromisoformat(written.pop("time")) == event.timestamp
    assert written.items() <= json.loads(line).items()


@given(varied)
def test_the_older_interface_of_the_library_reads_any_event(event):
    line = formatter(event)
    read = conversion.from_json(OldCloudEvent, line)

    assert read.get_data() == event.to_dict()
    assert {name: read[name] for name in read} == {
        name: value for name, value in shaped(event).items() if name != "data"
    }


def test_a_line_is_the_body_of_a_request_in_structured_mode():
    event = TYPICAL[1]
    headers = {"content-type": "application/cloudevents+json"}
    read = http.from_http_event(http.HTTPMessage(headers, formatter(event)), JSONFormat())

    assert read.get_subject() == "shop.order/5"
    assert read.get_type() == "django_signal_audit.model.update"
    assert read.get_data() == event.to_dict()


def test_the_data_schema_is_the_published_one():
    file = resources.files("django_signal_audit") / "schema" / "event.v1.json"
    published = json.loads(file.read_text(encoding="utf-8"))

    assert shaped(make_event())["dataschema"] == published["$id"]


@pytest.mark.parametrize(
    ("values", "subject"),
    [
        ({}, "speedy.employees/72"),
        ({"object_id": None}, "speedy.employees"),
        ({"object_id": "a\nb"}, r"speedy.employees/a\nb"),
        ({"object_type": None}, None),
        ({"object_type": ""}, None),
    ],
)
def test_the_subject_is_the_object(values, subject):
    assert shaped(make_event(**values)).get("subject") == subject


@pytest.mark.parametrize("kind", KINDS)
def test_an_actor_is_one_of_the_types_of_principals(kind):
    document = shaped(make_event(actor=Actor(kind, "7")))
    check(document)

    assert document["authid"] == "7"
    assert (document["authtype"] == "unknown") == (kind == "robot")


def test_what_there_is_none_of_has_no_attribute():
    document = shaped(make_event(actor=Actor("anonymous")))

    assert document["authtype"] == "unauthenticated"
    assert not {"authid", "causationid", "correlationid"} & document.keys()
    assert "authtype" not in shaped(make_event())


def test_a_cause_and_a_transaction_correlate():
    document = shaped(make_event(cause=CAUSE, transaction=TRANSACTION))

    assert document["causationid"] == str(CAUSE)
    assert document["correlationid"] == str(TRANSACTION)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_no_name_breaks_an_attribute(text):
    check(shaped(make_event(event=text, object_type=text, object_id=text, actor=Actor("x", text))))


def test_source_and_prefix_are_what_is_given(settings):
    [shape, _render] = cloudevents.processors("https://shop.example/a", "org.example.")
    document = shape(None, "info", make_event().to_dict())

    assert (document["source"], document["type"]) == (
        "https://shop.example/a",
        "org.example.test.logging",
    )

    settings.ROOT_URLCONF = "größe.urls"
    document = json.loads(get_formatter("cloudevents")(make_event()))
    check(document)
    assert document["source"] == "/gr%C3%B6%C3%9Fe"
