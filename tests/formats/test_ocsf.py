from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import py_ocsf_models
import pytest
from hypothesis import given
from py_ocsf_models.events.base_event import BaseEvent
from py_ocsf_models.events.findings.severity_id import SeverityID
from py_ocsf_models.objects.metadata import Metadata
from py_ocsf_models.objects.product import Product
from py_ocsf_models.objects.service import Service
from py_ocsf_models.objects.url import URL
from py_ocsf_models.objects.user import User

from django_signal_audit.event import Actor, Outcome
from django_signal_audit.event_shape import event_from_dict
from django_signal_audit.formats import get_formatter, ocsf
from tests.factories import make_event
from tests.formats.typical import CAUSE, REQUEST, TYPICAL, ZOE, facts, varied

FACTS = facts("ocsf")
SCALARS = {
    "integer_t": lambda value: type(value) is int and -(2**31) <= value < 2**31,
    "ip_t": lambda value: bool(ip_address(value)),
    "long_t": lambda value: type(value) is int,
    "object": lambda value: type(value) is dict,
    "string_t": lambda value: type(value) is str,
    "string_t[]": lambda value: type(value) is list and {type(one) for one in value} == {str},
    "timestamp_t": lambda value: type(value) is int,
    "username_t": lambda value: type(value) is str,
}
USER_TYPES = {1: "user", 3: "system", 4: "service"}

formatter = get_formatter("ocsf")


def shaped(event):
    return json.loads(formatter(event))


def check_object(value, rules):
    assert value.keys() <= rules["attributes"].keys()
    assert value.keys() >= set(rules.get("required", ()))
    if rules.get("at_least_one"):
        assert value.keys() & set(rules["at_least_one"])
    for name, item in value.items():
        kind = rules["attributes"][name]
        if kind in SCALARS:
            assert SCALARS[kind](item), (name, item)
        else:
            check_object(item, FACTS["objects"][kind])
        allowed = rules.get("enum", {}).get(name)
        assert allowed is None or str(item) in allowed, (name, item)


def check(document):
    of_class = FACTS["classes"][str(document["class_uid"])]
    attributes = {**FACTS["base"]["attributes"], **of_class["attributes"]}
    if of_class["extends"]:
        attributes |= FACTS[of_class["extends"]]["attributes"]
        for profile in document["metadata"].get("profiles", ()):
            attributes |= FACTS[of_class["extends"]]["profiles"][profile]
    required = FACTS["base"]["required"] + of_class["required"]
    check_object(
        document,
        {**FACTS["base"], **of_class, "attributes": attributes, "required": required},
    )
    for name in ("class_name", "category_uid", "category_name"):
        assert document[name] == of_class[name]
    assert document["type_uid"] == document["class_uid"] * 100 + document["activity_id"]
    activity = of_class["activities"][str(document["activity_id"])]
    assert document["activity_name"] == activity or activity == "Other"
    assert document["type_name"] == f"{of_class['class_name']}: {activity}"
    for name in ("severity", "status"):
        assert document[name] == FACTS["base"]["enum"][f"{name}_id"][str(document[f"{name}_id"])]
    assert document["metadata"]["version"] == FACTS["version"] == ocsf.OCSF_VERSION


def read_user(user):
    if user is None:
        return None
    kind = USER_TYPES.get(user["type_id"], user["type"])
    return {"type": kind, "id": user.get("uid"), "label": user.get("name", "")}


def read_context(document):
    request = document.get("http_request", {})
    known = {
        "ip": document.get("src_endpoint", {}).get("ip"),
        "method": request.get("http_method"),
        "request_id": request.get("uid"),
        "user_agent": request.get("user_agent"),
        "path": request.get("url", {}).get("path"),
        "query": request.get("url", {}).get("query_string"),
    }
    rest = document["unmapped"].get("context", {})
    return {name: value for name, value in known.items() if value is not None} | rest


def read_back(document):
    """What a reader who knows the mapping finds: an event as published."""
    metadata, unmapped = document["metadata"], document["unmapped"]
    entity = document.get("entity", {})
    error = None
    if "status_code" in document:
        error = {"type": document["status_code"], "message": document["status_detail"]}
    return {
        "id": metadata["uid"],
        "timestamp": metadata["original_time"],
        "event": metadata["event_code"],
        "level": metadata["log_level"],
        "outcome": unmapped["outcome"],
        "sender": unmapped.get("sender", ""),
        "message": document["message"],
        "object_type": entity.get("type", unmapped.get("object_type")),
        "object_id": entity.get("uid", unmapped.get("object_id")),
        "object_repr": unmapped.get("object_repr", entity.get("name", "")),
        "changes": unmapped.get("changes"),
        "actor": unmapped.get("actor", read_user(document.get("actor", {}).get("user"))),
        "on_behalf_of": unmapped.get("on_behalf_of"),
        "reason": document.get("comment", unmapped.get("reason")),
        "cause": unmapped.get("cause"),
        "duration_ms": unmapped.get("duration_ms"),
        "error": error,
        "context": read_context(document),
        "data": unmapped.get("data", {}),
        "database": unmapped.get("database"),
        "transaction": metadata.get("correlation_uid"),
        "rolled_back": unmapped["rolled_back"],
        "schema_version": unmapped["schema_version"],
    }


@pytest.mark.parametrize("event", TYPICAL, ids=lambda event: event.event)
def test_a_typical_event_is_as_the_schema_says_and_reads_back(event):
    check(shaped(event))

    assert event_from_dict(read_back(shaped(event))) == event


@given(varied)
def test_any_event_is_as_the_schema_says_and_reads_back(event):
    document = shaped(event)

    check(document)
    assert read_back(document) == event.to_dict()


@given(varied)
def test_py_ocsf_models_reads_any_event(event):
    document = shaped(event)
    read = BaseEvent.model_validate(document)

    assert read.metadata == Metadata.model_validate(document["metadata"])
    assert read.metadata.version == py_ocsf_models.OCSF_VERSION
    assert read.metadata.uid == str(event.id)
    assert read.metadata.product == Product(name=ocsf.PRODUCT, vendor_name=ocsf.PRODUCT)
    assert read.severity_id is SeverityID(document["severity_id"])
    assert read.severity_id.name == document["severity"]
    assert (read.message, read.status) == (event.message, document["status"])
    assert read.unmapped == document["unmapped"]


# What the library demands of an object and the schema does not.
MODELS = {
    "metadata": (Metadata, {}),
    "product": (Product, {}),
    "service": (Service, {"uid": "", "version": ""}),
    "url": (URL, {}),
    "user": (User, {"name": "", "uid": "", "account": {"name": "", "uid": "", "type_id": 99}}),
}
WITHOUT_A_MODEL = {"actor", "entity", "http_request", "src_endpoint"}


def objects_in(document):
    """Each object below a document that is not unmapped, with the name it has there."""
    for name, value in document.items():
        if type(value) is dict and name != "unmapped":
            yield name, value
            yield from objects_in(value)


def read_by_model(name, value):
    model, demanded = MODELS[name]
    read = model.model_validate({**demanded, **value})
    found = read.model_dump(include=set(value), exclude_unset=True)
    assert found == value, "the library knows each attribute and reads it as it was"


@given(varied)
def test_py_ocsf_models_reads_each_object_that_it_has_a_model_for(event):
    for name, value in objects_in(shaped(event)):
        if name not in WITHOUT_A_MODEL:
            read_by_model(name, value)


def test_each_of_these_models_reads_an_object():
    documents = [shaped(event) for event in TYPICAL]
    found = [one for document in documents for one in objects_in(document)]

    assert {name for name, _ in found} == MODELS.keys() | WITHOUT_A_MODEL
    for name, value in found:
        if name in MODELS:
            read_by_model(name, value)


def test_the_library_has_no_model_of_the_others():
    files = {path.stem for path in Path(py_ocsf_models.__path__[0]).rglob("*.py")}

    assert not files & {"actor", "managed_entity", "http_request", "network_endpoint"}
    assert not files & {"authentication", "entity_management"}


@pytest.mark.parametrize(
    ("name", "values", "type_uid", "activity", "status"),
    [
        ("model.create", {}, 300401, "Create", "Success"),
        ("model.update", {}, 300403, "Update", "Success"),
        ("model.m2m", {}, 300403, "Update", "Success"),
        ("model.delete", {}, 300404, "Delete", "Success"),
        ("model.blind_write", {"outcome": Outcome.DENIED}, 300499, "model.blind_write", "Failure"),
        ("shift.assigned", {}, 300499, "shift.assigned", "Success"),
        ("shift.assign.started", {"cause": CAUSE}, 300499, "shift.assign.started", "Unknown"),
        ("auth.login", {}, 300201, "Logon", "Success"),
        ("auth.login_failed", {"outcome": Outcome.FAILURE}, 300201, "Logon", "Failure"),
        ("auth.login.started", {"cause": CAUSE}, 300201, "Logon", "Unknown"),
        ("auth.logout", {}, 300202, "Logoff", "Success"),
        ("auth.password_changed", {}, 300299, "auth.password_changed", "Success"),
        ("report.export", {"object_type": None}, 99, "report.export", "Success"),
        ("http.request", {"object_type": ""}, 99, "http.request", "Success"),
    ],
)
def test_an_event_has_a_class_and_an_activity(name, values, type_uid, activity, status):
    document = shaped(make_event(event=name, **values))
    check(document)

    assert document["type_uid"] == type_uid
    assert (document["activity_name"], document["status"]) == (activity, status)


def test_the_time_is_in_milliseconds_and_the_exact_one_is_there():
    event = make_event(timestamp=datetime(2022, 11, 14, 13, 31, 12, 345999, tzinfo=UTC))
    document = shaped(event)

    assert document["time"] == 1668432672345
    assert document["metadata"]["original_time"] == "2022-11-14T13:31:12.345999Z"


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        ("debug", "Informational"),
        ("info", "Informational"),
        ("warning", "Low"),
        ("error", "Medium"),
        ("critical", "Critical"),
    ],
)
def test_a_level_is_a_severity(level, severity):
    assert shaped(make_event(level=level))["severity"] == severity


@pytest.mark.parametrize(
    ("actor", "data", "user"),
    [
        (ZOE, {}, {"type_id": 1, "type": "User", "uid": "7", "name": "zoe"}),
        (Actor("anonymous"), {"username": "kim"}, {"type_id": 0, "type": "Unknown", "name": "kim"}),
        (None, {"username": 7}, {"type_id": 0, "type": "Unknown", "name": "unknown"}),
        (None, {"username": ""}, {"type_id": 0, "type": "Unknown", "name": "unknown"}),
        (Actor("robot", "r2"), {}, {"type_id": 99, "type": "robot", "uid": "r2"}),
    ],
)
def test_who_logs_on_is_the_actor_or_the_name_that_was_given(actor, data, user):
    document = shaped(make_event(event="auth.login", actor=actor, data=data))
    check(document)

    assert document["user"] == user
    assert document["service"] == {"name": "tests"}


def test_what_a_request_has_no_attribute_for_is_unmapped():
    context = {"method": "PURGE", "query": "a=b", "ip": "unix:", "route": "x"}
    document = shaped(make_event(context=context))
    check(document)

    assert not {"http_request", "src_endpoint"} & document.keys()
    assert document["unmapped"]["context"] == context


def test_a_request_is_told_as_one():
    document = shaped(make_event(context=REQUEST))

    assert document["src_endpoint"] == {"ip": "192.0.2.7"}
    assert document["http_request"] == {
        "http_method": "POST",
        "uid": "4f1c",
        "user_agent": "Mozilla/5.0",
        "url": {"path": "/orders/5", "query_string": "dry=1"},
    }


def test_an_entity_always_has_a_name_or_a_key():
    document = shaped(make_event(event="model.update", object_id=None, object_repr=""))
    check(document)

    assert document["entity"]["name"] == "speedy.employees"
    assert read_back(document)["object_repr"] == ""


def test_the_service_is_what_is_given():
    [shape, _render] = ocsf.processors(service="orders")

    assert shape(None, "info", make_event().to_dict())["actor"] == {"app_name": "orders"}
