from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from django_signal_audit.formats import get_formatter
from tests.factories import make_event

formatter = get_formatter("text")


def fields(event):
    return formatter(event).decode().split(" -- ")


def test_the_line_of_the_seed():
    assert formatter(make_event()).decode() == (
        "14_11_2022_14_31_12 -- View: test_logging"
        " -- Employees object created: user1 last_user -- Employees object (72)"
    )


def test_the_seeds_line_of_an_error():
    event = make_event(
        message="Field 'age' expected a number but got 'age'.",
        object_type=None,
        object_id=None,
        object_repr="",
        level="error",
    )

    assert formatter(event).decode() == (
        "14_11_2022_14_31_12 -- View: test_logging"
        " -- Field 'age' expected a number but got 'age'. -- None"
    )


def test_the_time_is_in_the_projects_zone_in_summer_too():
    event = make_event(timestamp=datetime(2022, 7, 1, 22, 30, tzinfo=UTC))

    assert fields(event)[0] == "02_07_2022_00_30_00"


def test_the_zone_of_a_request_does_not_change_the_file():
    with timezone.override(zoneinfo.ZoneInfo("Asia/Tokyo")):
        assert fields(make_event())[0] == "14_11_2022_14_31_12"


def test_the_zone_follows_the_settings(settings):
    settings.TIME_ZONE = "America/New_York"

    assert fields(make_event())[0] == "14_11_2022_08_31_12"


@pytest.mark.parametrize(
    "text",
    [
        "Grüße an \u0448\u043a\u043e\u043b\u0430, \u65e5\u672c, \u05e9\u05dc\u05d5\u05dd",
        "\U0001f469\u200d\U0001f680 \U0001f1e9\U0001f1ea",
        "C:\\temp\\new --verbose a--b --- -- -",
        "quotes ' \" and {braces} %s",
    ],
)
def test_ordinary_text_stays_as_it_is(text):
    text = text.replace(" -- ", " ")
    line = formatter(make_event(sender=text, message=text, object_repr=text)).decode()

    assert line == f"14_11_2022_14_31_12 -- {text} -- {text} -- {text}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\nb", r"a\r\nb"),
        ("a\tb", r"a\tb"),
        ("\x00", r"\x00"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x7f\x85\x9b31m", r"\x7f\x85\x9b31m"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2066x\u2069\u200f\u061c", r"\u2066x\u2069\u200f\u061c"),
        ("a -- b", r"a \-- b"),
        ("a -- -- b", r"a \-- \-- b"),
        ("-- b", r"\-- b"),
        ("a --", r"a \--"),
        ("--", r"\--"),
        ("a\u00a0--\u00a0b", "a\u00a0\\--\u00a0b"),
        ("a\n-- b", r"a\n-- b"),
    ],
)
@pytest.mark.parametrize("field", ["sender", "message", "object_repr"])
def test_what_could_forge_a_line_is_shown(field, text, shown):
    position = {"sender": 1, "message": 2, "object_repr": 3}[field]

    assert fields(make_event(**{field: text}))[position] == shown


def test_a_forged_line_is_one_line():
    event = make_event(message="x -- y\n15_11_2022_00_00_00 -- View: admin -- granted -- None")

    assert len(fields(event)) == 4
    assert len(formatter(event).splitlines()) == 1


@given(st.text(), st.text(), st.text())
def test_any_text_is_one_line_of_four_columns(sender, message, instance):
    event = make_event(sender=sender, message=message, object_repr=instance)
    line = formatter(event).decode()

    assert len(line.splitlines()) <= 1
    assert len(line.split(" -- ")) == 4
    assert line.isprintable() or not any(ord(character) < 32 for character in line)
