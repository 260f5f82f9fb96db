from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest

from django_signal_audit.event import EVENT_FIELDS, Actor, Outcome, format_timestamp
from tests.factories import make_event


def test_an_event_cannot_be_changed():
    event = make_event()

    with pytest.raises(dataclasses.FrozenInstanceError):
        event.message = "other"


def test_it_is_published_in_the_order_of_its_fields():
    assert tuple(make_event().to_dict()) == EVENT_FIELDS


def test_it_is_published_as_json_types():
    transaction, cause = uuid.uuid4(), make_event().id
    event = make_event(
        transaction=transaction,
        cause=cause,
        actor=Actor("user", "7", "zoe"),
        outcome=Outcome.DENIED,
    ).to_dict()

    assert event["timestamp"] == "2022-11-14T13:31:12.000000Z"
    assert event["transaction"] == str(transaction)
    assert event["cause"] == str(cause)
    assert event["actor"] == {"type": "user", "id": "7", "label": "zoe"}
    assert event["on_behalf_of"] is None
    assert type(event["outcome"]) is str


def test_those_who_may_change_it_get_a_dict_of_their_own():
    event = make_event(changes={"a": [1, {"b": [2]}]}, context={"c": {}}, data={"d": ["e"]})
    own = event.own_dict()
    assert own == event.to_dict()

    own["changes"]["a"][1]["b"].append(3)
    own["context"]["c"]["x"] = 1
    own["data"].clear()
    assert event.changes == {"a": [1, {"b": [2]}]}
    assert (event.context, event.data) == ({"c": {}}, {"d": ["e"]})


def test_timestamps_are_utc_with_microseconds():
    moment = datetime(2024, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))

    assert format_timestamp(moment) == "2023-12-31T22:30:00.000000Z"


def test_a_rolled_back_event_is_the_same_event_marked():
    event = make_event()
    marked = event.as_rolled_back()

    assert not event.rolled_back
    assert marked == dataclasses.replace(event, rolled_back=True)
    assert marked.as_rolled_back() is marked


@pytest.mark.parametrize("actor", [Actor("user", "7", "zoe"), Actor("anonymous"), Actor("x", None)])
def test_an_actor_is_read_back_from_its_published_shape(actor):
    assert Actor.from_dict(actor.to_dict()) == actor


def test_an_events_own_defaults_are_not_shared():
    first, second = make_event(), make_event(timestamp=datetime.now(tz=UTC))
    first.data["x"] = 1

    assert second.data == {}
