from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from importlib.resources import files

import pytest
from jsonschema import Draft202012Validator

from django_signal_audit.event import EVENT_FIELDS, SCHEMA_VERSION, Actor, Outcome
from tests.factories import make_event

SCHEMA = json.loads(files("django_signal_audit").joinpath("schema/event.v1.json").read_text())
validator = Draft202012Validator(SCHEMA)

FULL = {
    "changes": {
        "name": ["a", {"$cut": {"size": 9000, "sha256": "0" * 64, "head": "b"}}],
        "password": ["[redacted]", None],
        "shifts": {"added": [1, "x"], "removed": []},
    },
    "actor": Actor("user", "7", "zoe"),
    "on_behalf_of": Actor("system"),
    "reason": "asked by mail",
    "cause": make_event().id,
    "duration_ms": 0.5,
    "error": {"type": "ValueError", "message": "no"},
    "context": {"ip": "::1", "trace_id": None},
    "data": {"any": [1, {"thing": True}]},
    "database": "default",
    "transaction": uuid.uuid4(),
    "rolled_back": True,
}


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == "urn:django-signal-audit:event:v1"


def test_the_schema_has_the_fields_of_the_event_in_their_order():
    assert tuple(SCHEMA["properties"]) == EVENT_FIELDS
    assert tuple(SCHEMA["required"]) == EVENT_FIELDS
    assert SCHEMA["additionalProperties"] is False


def test_the_schema_knows_the_outcomes_and_the_version():
    assert SCHEMA["properties"]["outcome"]["enum"] == [outcome.value for outcome in Outcome]
    assert SCHEMA["properties"]["schema_version"]["const"] == SCHEMA_VERSION


@pytest.mark.parametrize(
    "overrides",
    [{}, FULL, {"object_type": None, "object_id": None, "object_repr": "", "changes": {}}],
    ids=["seed", "full", "bare"],
)
def test_events_are_valid(overrides):
    validator.validate(make_event(**overrides).to_dict())


@pytest.mark.parametrize(
    "moment",
    [datetime(1970, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)],
)
def test_any_moment_is_valid(moment):
    validator.validate(make_event(timestamp=moment).to_dict())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "0a3ae9f2-3f5f-4c0e-8f0b-1d1f0f0c2f11"),  # version 4
        ("id", None),
        ("timestamp", "2022-11-14T13:31:12Z"),
        ("timestamp", "2022-11-14T13:31:12.000000+00:00"),
        ("timestamp", "2022-13-14T13:31:12.000000Z"),
        ("event", ""),
        ("level", "loud"),
        ("outcome", "maybe"),
        ("sender", None),
        ("object_id", 72),
        ("changes", {"age": 3}),
        ("changes", {"age": [3]}),
        ("changes", {"shifts": {"added": [1]}}),
        ("changes", {"shifts": {"added": [1], "removed": [], "set": []}}),
        ("changes", []),
        ("actor", "zoe"),
        ("actor", {"type": "user", "id": 7, "label": ""}),
        ("actor", {"type": "user", "id": "7"}),
        ("on_behalf_of", {"type": "user", "id": "7", "label": "", "email": "z@example.org"}),
        ("cause", "none"),
        ("duration_ms", -1),
        ("error", {"type": "ValueError"}),
        ("context", None),
        ("data", []),
        ("transaction", 3),
        ("rolled_back", None),
        ("schema_version", 2),
    ],
)
def test_other_shapes_are_not_valid(field, value):
    assert not validator.is_valid({**make_event(**FULL).to_dict(), field: value})


def test_fields_can_neither_be_missing_nor_more():
    event = make_event().to_dict()

    assert not validator.is_valid({**event, "extra": 1})
    for field in EVENT_FIELDS:
        assert not validator.is_valid({key: event[key] for key in EVENT_FIELDS if key != field})
