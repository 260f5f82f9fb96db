from __future__ import annotations

import json
import uuid
from collections import UserDict
from importlib.resources import files

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from django_signal_audit.event import EVENT_FIELDS, Actor, Outcome
from django_signal_audit.revision import FIXED, problem_of, revised
from tests.factories import make_event
from tests.strategies import events

SCHEMA = json.loads(files("django_signal_audit").joinpath("schema/event.v1.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)

EVENT = make_event(
    changes={"age": [30, 31], "shifts": {"added": [1], "removed": []}},
    actor=Actor("user", "7", "zoe"),
    context={"ip": "::1"},
    data={"n": {"deep": [1, True]}},
    database="default",
    transaction=uuid.UUID("01847656-3500-7000-95db-12b602ee14b4"),
)


def said(**overrides):
    return EVENT.own_dict() | overrides


def make(**overrides):
    value = said(**overrides)
    assert problem_of(EVENT, value) is None
    event = revised(EVENT, value)
    VALIDATOR.validate(event.to_dict())
    orjson.dumps(event.to_dict())
    return event


# What is refused


@pytest.mark.parametrize("value", [None, "text", b"bytes", 5, [], UserDict()])
def test_only_a_dict_is_an_event(value):
    assert problem_of(EVENT, value) == (
        f"returned {type(value).__name__}, no dict. Let it return the event dict, or raise "
        "structlog.DropEvent."
    )


@pytest.mark.parametrize("name", FIXED)
def test_what_identifies_an_event_stays(name):
    problem = (
        f"changed {name!r}, which tells what the event is and may not change. Leave it, and write "
        "what you have to say under a name of your own."
    )
    assert problem_of(EVENT, said(**{name: "other"})) == problem
    without = said()
    del without[name]
    assert problem_of(EVENT, without) == (None if EVENT.to_dict()[name] is None else problem)


def test_one_is_not_true():
    assert problem_of(EVENT, said(rolled_back=0)).startswith("changed 'rolled_back'")
    assert problem_of(EVENT, said(schema_version=1.0)).startswith("changed 'schema_version'")


@pytest.mark.parametrize("name", ["event", "level", "outcome"])
def test_what_every_event_has_stays(name):
    value = said()
    del value[name]

    assert problem_of(EVENT, value) == f"removed {name!r}, which every event has. Leave it."


def test_keys_are_texts():
    assert problem_of(EVENT, {**said(), 5: 1}) == "wrote under the key 5. Let keys be texts."


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("event", "", "a text such as 'shift.assigned'"),
        ("event", 5, "a text such as 'shift.assigned'"),
        ("level", "loud", "one of 'debug', 'info', 'warning', 'error', 'critical'"),
        ("level", ["info"], "one of 'debug', 'info', 'warning', 'error', 'critical'"),
        ("outcome", "ok", "one of 'success', 'failure', 'denied'"),
        ("outcome", [], "one of 'success', 'failure', 'denied'"),
        ("changes", {"age": 31}, "None, or a dict of field names to [old, new] or {'added'"),
        ("changes", {"age": [1, 2, 3]}, "None, or a dict of field names"),
        ("changes", {5: [1, 2]}, "None, or a dict of field names"),
        ("changes", [], "None, or a dict of field names"),
        ("changes", {"shifts": {"added": [1]}}, "None, or a dict of field names"),
        ("changes", {"shifts": {"added": 1, "removed": []}}, "None, or a dict of field names"),
        ("changes", {"new": {"added": {"$cut": 1}, "removed": []}}, "None, or a dict of field"),
        ("actor", "zoe", "None, or a dict of 'type', 'id' and 'label'"),
        ("actor", {"id": "7"}, "None, or a dict of 'type', 'id' and 'label'"),
        ("actor", {"type": ""}, "None, or a dict of 'type', 'id' and 'label'"),
        ("on_behalf_of", {"type": "user", "x": 1}, "None, or a dict of 'type', 'id' and 'label'"),
        ("duration_ms", -1, "None, or a number of milliseconds that is not negative"),
        ("duration_ms", True, "None, or a number of milliseconds that is not negative"),
        ("duration_ms", float("nan"), "None, or a number of milliseconds that is not negative"),
        ("duration_ms", float("inf"), "None, or a number of milliseconds that is not negative"),
        ("duration_ms", 10**400, "None, or a number of milliseconds that is not negative"),
        ("error", {"type": "E"}, "None, or a dict of 'type' and 'message'"),
        ("error", "no", "None, or a dict of 'type' and 'message'"),
        ("context", None, "a dict whose keys are texts"),
        ("data", {1: 2}, "a dict whose keys are texts"),
    ],
)
def test_a_field_can_only_be_what_the_schema_says(name, value, wanted):
    problem = problem_of(EVENT, said(**{name: value}))

    assert problem.startswith(f"made {name!r} ")
    assert f". Let it be {wanted}" in problem
    assert len(problem) < 400


# What becomes of the rest


def test_nothing_new_is_the_same_event():
    assert revised(EVENT, said()) is EVENT
    assert revised(EVENT, dict(reversed(said().items()))) is EVENT


def test_each_field_may_change():
    event = make(
        event="shift.assigned",
        level="error",
        outcome=Outcome.DENIED,
        sender="a",
        message=5,
        object_type="shop.order",
        object_id=5,
        object_repr="Order",
        changes={"age": (1, 2), "name": [None, "x"], "tags": {"added": {2, 1}, "removed": ()}},
        actor={"type": "service", "id": 5},
        on_behalf_of={"type": "user", "id": None, "label": None},
        reason="because",
        duration_ms=5,
        error={"type": "E", "message": "m"},
        context={"path": "/"},
        data={"a": (1, 2)},
    )

    assert event.to_dict() == EVENT.to_dict() | {
        "event": "shift.assigned",
        "level": "error",
        "outcome": "denied",
        "sender": "a",
        "message": "5",
        "object_type": "shop.order",
        "object_id": "5",
        "object_repr": "Order",
        "changes": {"age": [1, 2], "name": [None, "x"], "tags": {"added": [1, 2], "removed": []}},
        "actor": {"type": "service", "id": "5", "label": ""},
        "on_behalf_of": {"type": "user", "id": None, "label": ""},
        "reason": "because",
        "duration_ms": 5.0,
        "error": {"type": "E", "message": "m"},
        "context": {"path": "/"},
        "data": {"a": [1, 2]},
    }
    assert type(event.level) is str
    assert type(event.duration_ms) is float
    assert type(event.outcome) is Outcome


def test_what_is_removed_is_empty():
    full = make_event(
        reason="r", duration_ms=1.0, error={"type": "E", "message": "m"}, changes={}, data={"a": 1}
    )
    kept = {name: full.to_dict()[name] for name in (*FIXED, "event", "level", "outcome")}
    assert problem_of(full, kept) is None
    event = revised(full, kept)

    VALIDATOR.validate(event.to_dict())
    empty = [name for name in EVENT_FIELDS if name not in kept]
    assert {name: getattr(event, name) for name in empty} == {
        **dict.fromkeys(("sender", "message", "object_repr"), ""),
        "context": {},
        "data": {},
        **dict.fromkeys(("object_type", "object_id", "changes", "actor", "on_behalf_of")),
        **dict.fromkeys(("reason", "duration_ms", "error")),
    }


def test_null_texts_are_empty():
    event = make(message=None, object_repr=None)

    assert (event.message, event.object_repr) == ("", "")


def test_a_key_that_is_no_field_is_added_to_the_data_in_place_of_nothing():
    assert make(host="web-1", n=5).data == {"n": {"deep": [1, True]}, "n~2": 5, "host": "web-1"}
    assert make(host="web-1", data={}).data == {"host": "web-1"}


def test_what_is_new_is_masked_and_its_secrets_leave_every_text():
    event = make(
        message="signed in with hunter22-x",
        password="hunter22-x",
        context={"note": "hunter22-x"},
        changes={"age": [30, "hunter22-x"], "api_key": [None, "k-123456"]},
        error={"type": "E", "message": "k-123456 is no key"},
    )

    assert event.data["password"] == "[redacted]"
    assert event.message == "signed in with [redacted]"
    assert event.context == {"note": "[redacted]"}
    assert event.changes["age"] == [30, "[redacted]"]
    assert event.changes["api_key"] == [None, "[redacted]"]
    assert event.error["message"] == "[redacted] is no key"


def test_texts_that_were_there_lose_new_secrets_too():
    before = make_event(message="with hunter22-x", reason="hunter22-x", object_repr="hunter22-x")
    event = revised(before, before.own_dict() | {"password": "hunter22-x"})

    assert "hunter22" not in str(event.to_dict())


def test_what_was_recorded_as_it_is_stored_stays_so():
    before = make_event(changes={"note": ["token=abc", "token=abd"], "age": [1, 2]})
    value = before.own_dict()
    value["changes"]["age"] = [1, 3]
    value["changes"]["note"][1] = "token=new"
    event = revised(before, value)

    assert event.changes == {"note": ["token=abc", "token=[redacted]"], "age": [1, 3]}


def test_a_membership_that_was_cut_stays():
    cut = {"$cut": {"size": 5, "sha256": "0" * 64, "head": "x"}}
    before = make_event(changes={"tags": {"added": cut, "removed": "[redacted]"}})
    value = before.own_dict()
    value["note"] = 1
    value["changes"]["tags"]["removed"] = []
    assert problem_of(before, value) is None

    assert revised(before, value).changes == {"tags": {"added": cut, "removed": []}}


def test_a_pair_may_become_a_membership_and_the_other_way_round():
    event = make(changes={"age": {"added": [1], "removed": []}, "shifts": [1, 2]})

    assert event.changes == {"age": {"added": [1], "removed": []}, "shifts": [1, 2]}


def test_names_of_fields_that_no_database_takes_are_made_safe():
    event = make(changes={"a\x00": [1, 2], "a\\x00": [1, 2], "x" * 300: [1, 2]})

    assert list(event.changes)[:2] == [r"a\x00", r"a\x00~2"]
    assert all(len(name) <= 255 for name in event.changes)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {"a\x00\ud800": b"bytes"},
        float("nan"),
        10**400,
        {1, 2},
        "x" * 100_000,
        list(range(100_000)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_can_break_an_insert(value):
    event = make(
        event=str(value) + "\x00",
        sender=value,
        message=value,
        object_repr=value,
        object_type=value,
        object_id=value,
        reason=value,
        context={"v": value},
        data={"v": value},
        other=value,
        changes={"age": [value, 1]},
        actor={"type": "\x00" * 300, "id": value, "label": value},
        error={"type": value, "message": value},
    )

    assert "\x00" not in orjson.dumps(event.to_dict()).decode()
    for name in ("event", "object_type", "object_id", "object_repr"):
        assert len(getattr(event, name)) <= 255
    assert len(event.message) <= 10_000


def test_a_value_inside_of_itself_ends():
    loop = {}
    loop["loop"] = loop

    assert make(data=loop).data == {"loop": {"loop": {"$cycle": True}}}


@given(events, events)
def test_any_event_may_become_any_other(event, other):
    value = other.own_dict() | {name: event.to_dict()[name] for name in FIXED}
    assert problem_of(event, value) is None

    VALIDATOR.validate(revised(event, value).to_dict())


@given(events, st.dictionaries(st.text(), st.text()))
def test_no_key_gets_lost(event, others):
    value = {**others, **event.own_dict()}
    new = [key for key in others if key not in EVENT_FIELDS]

    assert len(revised(event, value).data) == len(event.data) + len(new)
