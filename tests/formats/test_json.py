from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_signal_audit.event import EVENT_FIELDS, Actor, Outcome
from django_signal_audit.formats import get_formatter
from tests.factories import make_event

formatter = get_formatter("json")


def test_a_line_is_exactly_the_published_shape():
    event = make_event(
        timestamp=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        outcome=Outcome.DENIED,
        level="warning",
        changes={"age": [None, 3], "shifts": {"added": [1, 2], "removed": []}},
        actor=Actor("user", "7", "Zoë"),
        cause=uuid.uuid4(),
        duration_ms=1.25,
        error={"type": "ValueError", "message": "no"},
        context={"ip": "::1"},
        data={"nested": {"list": [1, "two", None, True]}},
    )
    line = formatter(event)

    assert json.loads(line) == event.to_dict()
    assert tuple(json.loads(line)) == EVENT_FIELDS
    assert "Zoë".encode() in line
    assert b": " not in line.replace(b"View: ", b"").replace(b"created: ", b"")


@pytest.mark.parametrize(
    "character", ["\x00", "\n", "\r", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029", "\u202e"]
)
def test_what_a_terminal_acts_upon_is_escaped(character):
    event = make_event(message=f"é{character}b", context={character: character})
    line = formatter(event)

    assert character not in line.decode()
    assert json.loads(line) == event.to_dict()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_one_line_that_reads_back(text):
    event = make_event(message=text, data={text: [text]})
    line = formatter(event)

    assert len(line.decode().splitlines()) == 1
    assert json.loads(line) == event.to_dict()
