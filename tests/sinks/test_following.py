"""What a connection remembers of commits until the sinks that follow them are told."""

from __future__ import annotations

import pytest
from django.test import override_settings

from django_signal_audit.sinks import following
from django_signal_audit.sinks.base import TransactionalSink
from django_signal_audit.sinks.following import Committed
from tests.factories import make_event

told = []


class Follower(TransactionalSink):
    follows_commit = True

    def committed(self, connection, ids, *, complete):
        told.append((connection, list(ids), complete))


@pytest.fixture(autouse=True)
def _follower():
    told.clear()
    with override_settings(SIGNAL_AUDIT={"SINKS": {"follower": {"BACKEND": Follower}}}):
        yield


def test_a_sink_is_told_once():
    committed = Committed()
    assert not committed
    events = [make_event(), make_event()]
    committed.add(events[:1])
    committed.add(events[1:])
    assert committed
    committed.tell("connection")
    assert told == [("connection", [event.id for event in events], True)]
    assert not committed


def test_more_than_a_bounded_number_is_not_remembered(monkeypatch):
    monkeypatch.setattr(following, "LIMIT", 3)
    events = [make_event() for _ in range(4)]
    committed = Committed()
    committed.add(events[:3])
    assert committed.complete
    committed.add(events[3:])
    committed.tell("connection")
    assert told == [("connection", [event.id for event in events[:3]], False)]


def test_that_there_were_more_is_remembered_without_any():
    committed = Committed()
    committed.add([], complete=False)
    assert committed
    committed.add([make_event()])
    assert not committed.complete


def test_without_a_sink_that_follows_nothing_is_remembered():
    committed = Committed()
    with override_settings(SIGNAL_AUDIT={}):
        committed.add([make_event()])
    assert not committed


def test_with_wrong_settings_nobody_is_told():
    with override_settings(SIGNAL_AUDIT={"SINKS": {"default": {"BACKEND": "nowhere"}}}):
        assert following.followers() == []


def test_by_default_a_sink_does_nothing():
    assert TransactionalSink.follows_commit is False
    assert TransactionalSink.committed(None, None, [], complete=True) is None
