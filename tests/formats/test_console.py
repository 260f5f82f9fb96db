from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime

import pytest
from django.utils import timezone
from hypothesis import given
from structlog.dev import GREEN, RED, YELLOW

from django_signal_audit.event import Actor, Outcome
from django_signal_audit.formats import get_formatter
from django_signal_audit.formats.base import get_terminal_formatter
from tests.factories import make_event
from tests.strategies import events

formatter = get_formatter("console")
on_terminal = get_terminal_formatter("console")

START = "2022-11-14 14:31:12 [info    ] model.update"
STYLES = re.compile("\x1b\\[[0-9]+m")


def update(**overrides):
    return make_event(
        **{
            "event": "model.update",
            "sender": "shop.Order",
            "message": "model.update",
            "object_type": "shop.order",
            "object_id": "5",
            "object_repr": "Order 5",
        }
        | overrides
    )


def line(event):
    return formatter(event).decode()


def test_a_change_reads_from_left_to_right():
    event = update(
        changes={
            "age": [30, 31],
            "name": [None, "Zoë"],
            "shifts": {"added": [1, 2], "removed": []},
            "token": ["[redacted]", "[redacted]"],
        },
        actor=Actor("user", "7", "zoe"),
        on_behalf_of=Actor("user", "8", "Max Mustermann"),
    )

    assert line(event) == (
        f'{START} shop.order 5 "Order 5" age 30 -> 31, name null -> "Zoë", shifts +[1,2] -[], '
        'token "[redacted]" -> "[redacted]" by zoe (user 7) for "Max Mustermann" (user 8)'
    )


def test_an_act_shows_what_it_says():
    event = make_event(
        event="shift.assign",
        level="error",
        outcome=Outcome.FAILURE,
        rolled_back=True,
        sender="View: test_logging",
        message="no shift",
        object_type=None,
        object_id=None,
        object_repr="",
        actor=Actor("system"),
        reason="swap",
        error={"type": "ValueError", "message": "full"},
        duration_ms=1.5,
        data={"shift": 3, "to whom": ["a", None]},
        context={"ip": "::1"},
    )

    assert line(event) == (
        '2022-11-14 14:31:12 [error   ] shift.assign failure rolled back "no shift" by system '
        'sender="View: test_logging" reason="swap" error="ValueError: full" duration_ms=1.5 '
        'data.shift=3 "data.to whom"=["a",null]'
    )


def test_what_an_event_does_not_have_is_not_shown():
    event = update(
        event="x", sender="", message="", object_type=None, object_id=None, object_repr=""
    )

    assert line(event) == "2022-11-14 14:31:12 [info    ] x"


def test_the_time_is_in_the_projects_zone_whatever_the_requests_is():
    event = update(timestamp=datetime(2022, 7, 1, 22, 30, tzinfo=UTC))
    with timezone.override(zoneinfo.ZoneInfo("Asia/Tokyo")):
        assert line(event).startswith("2022-07-02 00:30:00 ")


def test_long_values_are_cut_inside_of_their_quotes():
    shown = line(update(object_repr="x" * 200, changes={"a": [list(range(200)), "é" * 101]}))

    assert f'"{"x" * 100}"... a [0,1,' in shown
    assert shown.endswith(f'... -> "{"é" * 100}"...')
    assert len(shown) < 450


@pytest.mark.parametrize(
    "field", ["event", "sender", "message", "object_id", "object_repr", "reason"]
)
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\n2022-11-14 14:31:12 [info", r'"a\u000a2022-11-14 14:31:12 [info"'),
        ("\x1b[31mred", r'"\u001b[31mred"'),
        ("\x9b2J\u202e\u2028", r'"\u009b2J\u202e\u2028"'),
        ('5 "x" by root (user 1)', r'"5 \"x\" by root (user 1)"'),
    ],
)
def test_a_text_can_forge_nothing(field, text, shown):
    assert shown.replace(r"\u000a", r"\n") in line(update(**{field: text}))


def test_a_key_can_forge_nothing():
    event = update(
        data={'x reason="because"': 1}, changes={"a 1 -> 2 by root": [1, 2]}, actor=Actor("a b")
    )

    assert line(event).endswith(r'"a 1 -> 2 by root" 1 -> 2 by "a b" "data.x reason=\"because\""=1')


def test_without_a_terminal_there_are_no_colours():
    assert "\x1b" not in line(update(level="critical", changes={"a": [1, 2]}))


@pytest.mark.parametrize(
    ("level", "colour"),
    [("debug", GREEN), ("info", GREEN), ("warning", YELLOW), ("error", RED), ("critical", RED)],
)
def test_on_a_terminal_the_level_has_its_colour(level, colour):
    assert f"{colour}" in on_terminal(update(level=level)).decode().partition(f"[{level}")[0]


def test_a_text_cannot_colour_a_terminal():
    event = update(message="\x1b[32m", object_repr="\x1b[0m", data={"\x1b[5m": "\x1b[5m"})
    shown = on_terminal(event).decode()

    assert not {"\x1b[5m"} & set(STYLES.findall(shown))
    assert STYLES.sub("", shown) == line(event)


def test_a_format_without_colours_has_no_other_for_a_terminal():
    assert get_terminal_formatter("json") is None
    assert get_terminal_formatter("tests.formats.test_base.my_format") is None


@given(events)
def test_any_event_is_one_line_that_a_terminal_only_prints(event):
    plain, coloured = line(event), on_terminal(event).decode()

    assert len(plain.splitlines()) == 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e\u2066]", plain)
    assert STYLES.sub("", coloured).rstrip() == plain.rstrip()
