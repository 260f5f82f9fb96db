from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime
from ipaddress import ip_address

import ecs_logging
import pytest
from hypothesis import given

from django_signal_audit.event import Actor, Outcome
from django_signal_audit.event_shape import event_from_dict
from django_signal_audit.formats import ecs, get_formatter
from tests.factories import make_event
from tests.formats.typical import CAUSE, TYPICAL, ZOE, facts, varied

FACTS = facts("ecs")
KINDS = {
    "date": lambda value: datetime.fromisoformat(value).tzinfo is not None,
    "ip": lambda value: bool(ip_address(value)),
    "keyword": lambda value: type(value) is str,
    "long": lambda value: type(value) is int and -(2**63) <= value < 2**63,
    "match_only_text": lambda value: type(value) is str,
    "wildcard": lambda value: type(value) is str,
}
OWN = {
    "signal_audit.actor_type": str,
    "signal_audit.cause": str,
    "signal_audit.changes.added": str,
    "signal_audit.changes.field": str,
    "signal_audit.changes.new": str,
    "signal_audit.changes.old": str,
    "signal_audit.changes.removed": str,
    "signal_audit.context": str,
    "signal_audit.data": str,
    "signal_audit.database": str,
    "signal_audit.object_id": str,
    "signal_audit.object_repr": str,
    "signal_audit.object_type": str,
    "signal_audit.on_behalf_of_type": str,
    "signal_audit.outcome": str,
    "signal_audit.rolled_back": bool,
    "signal_audit.schema_version": int,
    "signal_audit.transaction": str,
}

formatter = get_formatter("ecs")


def shaped(event):
    return json.loads(formatter(event))


def fields_of(document):
    """Every field with its values, as an index sees it: arrays are no field of their own."""
    found = defaultdict(list)

    def walk(path, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{path}.{key}" if path else key, inner)
        elif isinstance(value, list):
            for inner in value:
                walk(path, inner)
        else:
            found[path].append(value)

    walk("", document)
    return found


def check(document):
    found = fields_of(document)
    assert set(FACTS["required"]) <= found.keys()
    for path, items in found.items():
        if path.startswith("signal_audit."):
            assert {type(item) for item in items} == {OWN[path]}, path
        elif path.partition(".")[0] in FACTS["flat_objects_of_keywords"]:
            assert path.count(".") == 1
            assert all(type(item) is str and len(item) <= 1024 for item in items)
        else:
            kind = FACTS["fields"][path]
            assert all(KINDS[kind](item) for item in items), path
            assert set(items) <= set(FACTS["allowed"].get(path, items)), path
            if path not in FACTS["arrays"]:
                assert len(items) == 1, path
    for path in FACTS["arrays"]:
        group, _, name = path.partition(".")
        assert type(document.get(group, {}).get(name, [])) is list
    assert document["ecs.version"] == FACTS["version"] == ecs.ECS_VERSION
    for category in document["event"].get("category", []):
        assert set(document["event"]["type"]) & set(FACTS["expected_types"][category])


def read_user(user, kind):
    return {"type": kind, "id": user.get("id"), "label": user.get("name", "")} if kind else None


def read_change(change):
    if "added" in change:
        return {side: [json.loads(key) for key in change[side]] for side in ("added", "removed")}
    return [json.loads(change["old"]), json.loads(change["new"])]


def read_back(document):
    """What a reader who knows the mapping finds: an event as published."""
    own, said = document["signal_audit"], document["event"]
    user = document.get("user", {})
    request = document.get("http", {}).get("request", {})
    known = {
        "ip": document.get("client", {}).get("ip"),
        "method": request.get("method"),
        "request_id": request.get("id"),
        "path": document.get("url", {}).get("path"),
        "query": document.get("url", {}).get("query"),
        "user_agent": document.get("user_agent", {}).get("original"),
        "trace_id": document.get("trace", {}).get("id"),
        "span_id": document.get("span", {}).get("id"),
    }
    context = {name: value for name, value in known.items() if value is not None}
    changes = own.get("changes")
    return {
        "id": said["id"],
        "timestamp": document["@timestamp"],
        "event": said["action"],
        "level": document["log.level"],
        "outcome": own["outcome"],
        "sender": said.get("provider", ""),
        "message": document["message"],
        "object_type": own.get("object_type"),
        "object_id": own.get("object_id"),
        "object_repr": own.get("object_repr", ""),
        "changes": None if changes is None else {one["field"]: read_change(one) for one in changes},
        "actor": read_user(user, own.get("actor_type")),
        "on_behalf_of": read_user(user.get("effective", {}), own.get("on_behalf_of_type")),
        "reason": said.get("reason"),
        "cause": own.get("cause"),
        "duration_ms": said["duration"] / 1e6 if "duration" in said else None,
        "error": document.get("error"),
        "context": context | json.loads(own.get("context", "{}")),
        "data": json.loads(own.get("data", "{}")),
        "database": own.get("database"),
        "transaction": own.get("transaction"),
        "rolled_back": own["rolled_back"],
        "schema_version": own["schema_version"],
    }


@pytest.mark.parametrize("event", TYPICAL, ids=lambda event: event.event)
def test_a_typical_event_is_as_the_schema_says_and_reads_back(event):
    check(shaped(event))

    assert event_from_dict(read_back(shaped(event))) == event


@given(varied)
def test_any_event_is_as_the_schema_says_and_reads_back(event):
    document = shaped(event)
    found = read_back(document)
    expected = event.to_dict()

    check(document)
    # Nanoseconds are whole.
    assert found.pop("duration_ms") == pytest.approx(expected.pop("duration_ms"), abs=1e-6)
    assert found == expected


def test_elastics_own_library_leaves_the_event_as_it_is():
    event = TYPICAL[1]
    [shape, _render] = ecs.processors()
    document = shape(None, event.level, event.to_dict())
    # To that formatter ``event`` is the message, as to structlog.
    mine = {**document, "event": document["message"]}
    written = json.loads(ecs_logging.StructlogFormatter()(None, event.level, mine))

    assert list(written)[:3] == list(document)[:3]
    assert written.pop("ecs") == {"version": ecs.ECS_VERSION}
    assert written.pop("ecs.version") == ecs_logging.ECS_VERSION  # it adds its own
    assert written.items() <= document.items()
    assert document.keys() - written.keys() == {"event", "ecs.version"}


@pytest.mark.parametrize(
    ("name", "values", "category", "types", "outcome"),
    [
        ("model.create", {}, ["database"], ["change", "creation"], "success"),
        ("model.delete", {}, ["database"], ["change", "deletion"], "success"),
        ("model.m2m", {}, ["database"], ["change"], "success"),
        (
            "model.update",
            {"object_type": "auth.user"},
            ["database", "iam"],
            ["change", "user"],
            "success",
        ),
        (
            "model.create",
            {"object_type": "auth.group"},
            ["database", "iam"],
            ["change", "creation", "group"],
            "success",
        ),
        (
            "model.blind_write",
            {"outcome": Outcome.DENIED},
            ["database"],
            ["change", "denied"],
            "failure",
        ),
        ("auth.login", {}, ["authentication"], ["start"], "success"),
        (
            "auth.login_failed",
            {"outcome": Outcome.FAILURE},
            ["authentication"],
            ["start"],
            "failure",
        ),
        ("auth.login.started", {"cause": CAUSE}, ["authentication"], ["start"], "unknown"),
        ("auth.logout", {}, ["authentication"], ["end"], "success"),
        ("auth.password_changed", {}, ["authentication"], ["info"], "success"),
        ("http.request", {}, ["web"], ["access"], "success"),
        ("http.request", {"outcome": Outcome.FAILURE}, ["web"], ["access", "error"], "failure"),
        ("shift.assigned", {}, None, ["info"], "success"),
        ("shift.started", {}, None, ["info"], "success"),
        ("shift.assigned", {"outcome": Outcome.FAILURE}, None, ["error"], "failure"),
        ("shift.assigned", {"outcome": Outcome.DENIED}, None, ["info", "denied"], "failure"),
    ],
)
def test_an_event_is_categorised(name, values, category, types, outcome):
    document = shaped(make_event(event=name, **values))
    check(document)
    said = document["event"]

    assert (said.get("category"), said["type"], said["outcome"]) == (category, types, outcome)
    assert said["kind"] == "event"


def test_users_are_who_acted_whose_rights_were_used_and_who_was_changed():
    event = make_event(
        object_type="auth.user", object_id="3", actor=ZOE, on_behalf_of=Actor("user", "9", "kim")
    )

    assert shaped(event)["user"] == {
        "id": "7",
        "name": "zoe",
        "effective": {"id": "9", "name": "kim"},
        "target": {"id": "3"},
    }
    assert shaped(event)["related"] == {"user": ["7", "zoe", "9", "kim", "3"]}


def test_the_user_model_of_the_project_is_a_user(settings):
    settings.AUTH_USER_MODEL = "staff.Person"
    document = json.loads(
        get_formatter("ecs")(make_event(event="model.update", object_type="staff.person"))
    )

    assert document["event"]["category"] == ["database", "iam"]


@pytest.mark.parametrize("ip", ["not an address", "fe80::1%eth0", "", 7, None, ["192.0.2.7"]])
def test_what_is_no_address_does_not_make_elasticsearch_refuse_the_event(ip):
    document = shaped(make_event(context={"ip": ip}))

    assert not {"client", "source", "related"} & document.keys()
    assert json.loads(document["signal_audit"]["context"]) == {"ip": ip}


def test_the_status_of_a_request_is_that_of_its_response():
    document = shaped(make_event(event="http.request", data={"status": 404}))
    check(document)

    assert document["http"] == {"response": {"status_code": 404}}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("http.request", "404"),
        ("http.request", 200.0),
        ("http.request", 7),
        ("http.request", None),
        ("http.request", [404]),
        ("shift.assigned", 404),
    ],
)
def test_no_other_status_is(name, status):
    assert "http" not in shaped(make_event(event=name, data={"status": status}))


def test_labels_are_what_is_plain_in_the_data():
    data = {
        "shift": 4,
        "late": True,
        "rate": 1.5,
        "who": "zoe",
        "none": None,
        "list": [1],
        "a.b": "dotted",
        "": "nameless",
        "long": "x" * 1025,
    }
    document = shaped(make_event(data=data))

    assert document["labels"] == {"shift": "4", "late": "true", "rate": "1.5", "who": "zoe"}
    assert json.loads(document["signal_audit"]["data"]) == data


def test_the_service_is_the_project_or_what_is_given(settings):
    assert shaped(make_event())["service"] == {"name": "tests"}

    del settings.ROOT_URLCONF
    assert json.loads(get_formatter("ecs")(make_event()))["service"] == {"name": "django"}

    [shape, _render] = ecs.processors(service="orders")
    assert shape(None, "info", make_event().to_dict())["service"] == {"name": "orders"}


def test_a_line_begins_with_what_people_look_for():
    assert list(shaped(make_event()))[:3] == ["@timestamp", "log.level", "message"]
