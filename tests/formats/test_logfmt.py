from __future__ import annotations

import json
import re

import pytest
from hypothesis import given

from django_signal_audit.event import EVENT_FIELDS, Actor, Outcome
from django_signal_audit.formats import get_formatter
from django_signal_audit.formats._visible import visible
from tests.factories import make_event
from tests.strategies import events

formatter = get_formatter("logfmt")

_PAIR = re.compile(
    r'(?P<key>[^\s="]+)=(?:"(?P<quoted>(?:\\.|[^"\\])*)"|(?P<plain>[^ "=]*))(?: |\Z)'
)


def parse(line):
    """What a strict reader of logfmt finds in a line: pairs of texts."""
    found = []
    position = 0
    while position < len(line):
        pair = _PAIR.match(line, position)
        assert pair is not None, line[position:]
        quoted = pair["quoted"]
        value = pair["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        found.append((pair["key"], value))
        position = pair.end()
    return found


def pairs(event):
    return dict(parse(formatter(event).decode()))


def test_a_line_as_grep_and_loki_like_it():
    event = make_event(
        event="model.update",
        sender="shop.Order",
        message="model.update",
        object_type="shop.order",
        object_id="5",
        object_repr="Order 5",
        changes={
            "title": ["a b", None],
            "age": [30, 31],
            "shifts": {"added": [1, 2], "removed": []},
        },
        actor=Actor("user", "7", "zoe"),
        context={"path": "/x?a=b", "ip": "::1"},
        data={"n": {"deep": {"er": True}, "none": None, "empty": {}}, "list": [1, {"a": "b"}]},
        database="default",
    )

    assert formatter(event).decode() == (
        "timestamp=2022-11-14T13:31:12.000000Z level=info event=model.update "
        f"id={event.id} outcome=success sender=shop.Order message=model.update "
        'object_type=shop.order object_id=5 object_repr="Order 5" '
        "changes.age=[30,31] changes.shifts.added=[1,2] changes.shifts.removed=[] "
        r'changes.title="[\"a b\",null]" actor.id=7 actor.label=zoe actor.type=user '
        'context.ip=::1 context.path="/x?a=b" '
        r'data.list="[1,{\"a\":\"b\"}]" data.n.deep.er=true data.n.empty={} '
        "database=default rolled_back=false schema_version=1"
    )


def test_null_is_left_out_and_so_are_an_empty_context_and_data():
    found = pairs(make_event(object_type=None, data={"a": None}, object_repr=""))

    assert found["object_repr"] == ""
    assert not any(key.startswith(("object_type", "data", "context", "actor")) for key in found)


def test_keys_have_the_same_order_whatever_the_order_of_a_mapping():
    one = make_event(data={"a": 1, "b": {"c": 1, "d": 2}})
    two = make_event(id=one.id, data={"b": {"d": 2, "c": 1}, "a": 1})

    assert formatter(one) == formatter(two)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("a b", "data.a_b"),
        ("a=b", "data.a_b"),
        ('"a"', "data._a_"),
        ("a\nlevel=error", "data.a_level_error"),
        ("\x1b[2J\x85\u2028\u202e\u00a0", "data._[2J____"),
        ("", "data."),
        ("http.status", "data.http.status"),
        ("größe", "data.größe"),
    ],
)
def test_a_key_can_forge_nothing(key, shown):
    assert pairs(make_event(data={key: 1}))[shown] == "1"


def test_keys_that_look_alike_are_all_kept():
    found = pairs(make_event(data={"a.b": 1, "a": {"b": 2}, "a b": 3, "a_b": 4}))

    assert (found["data.a.b"], found["data.a.b~2"]) == ("2", "1")
    assert (found["data.a_b"], found["data.a_b~2"]) == ("3", "4")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nevent=forged", r'data.x="a\\nevent=forged"'),
        ("\x1b[31m", r"data.x=\x1b[31m"),
        ('say "hi"', r'data.x="say \"hi\""'),
        (r"C:\new", r"data.x=C:\new"),
        (r"C:\my documents", r'data.x="C:\\my documents"'),
        ("", "data.x="),
        (True, "data.x=true"),
        (1.5, "data.x=1.5"),
        (["\x9b31m\u2028"], r'data.x="[\"\\u009b31m\\u2028\"]"'),
    ],
)
def test_a_value_can_forge_nothing(value, shown):
    line = formatter(make_event(data={"x": value})).decode()

    assert f" {shown} rolled_back=" in line


@given(events)
def test_any_event_is_one_line_that_reads_back(event):
    line = formatter(event).decode()
    found = parse(line)

    assert len(line.splitlines()) == 1
    assert len(dict(found)) == len(found)
    assert [key for key, _ in found][:3] == ["timestamp", "level", "event"]
    assert {key.partition(".")[0] for key, _ in found} <= set(EVENT_FIELDS)
    said = dict(found)
    for name, value in event.to_dict().items():
        if isinstance(value, str):
            assert said[name] == visible(value)
        if value is None:
            assert name not in said
    for name, change in (event.changes or {}).items():
        if isinstance(change, list) and name.isalnum():
            assert json.loads(said[f"changes.{name}"]) == change


def test_an_outcome_is_a_word():
    assert pairs(make_event(outcome=Outcome.DENIED))["outcome"] == "denied"
