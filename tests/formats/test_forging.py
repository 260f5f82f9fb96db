"""No text of an event can forge a line, a part of one, or what a terminal makes of it."""

from __future__ import annotations

import json
import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_signal_audit.event import Actor
from django_signal_audit.formats import available_formats, get_formatter
from django_signal_audit.formats._visible import ESCAPED_CHARACTERS, visible
from tests.factories import make_event
from tests.formats.test_logfmt import parse
from tests.formats.typical import REQUEST, varied

EVERY = [chr(number) for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000]

BLOCKS = {
    "C0 controls": [chr(number) for number in range(0x20)],
    "DEL and C1 controls": [chr(number) for number in range(0x7F, 0xA0)],
    "separators": list("\u2028\u2029"),
    "controls of direction": list(
        "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    ),
    "without a width": list("\u00ad\u180e\u200b\u2060\u2061\u2062\u2063\u2064\ufeff"),
    "deprecated": [chr(number) for number in range(0x206A, 0x2070)],
    "annotations": list("\ufff9\ufffa\ufffb"),
    "tags": [chr(number) for number in range(0xE0000, 0xE0080)],
    "noncharacters": list("\ufdd0\ufdef\ufffe\uffff\U0001ffff\U0010fffe"),
}

# Format characters that are seen, or without which a language cannot be written.
LEFT = {
    *"\u200c\u200d",  # joiners
    *map(chr, range(0x0600, 0x0606)),  # signs of numbers, in Arabic ...
    *"\u06dd\u0890\u0891\u08e2",
    "\u070f",  # ... in Syriac
    *"\U000110bd\U000110cd",  # ... and in Kaithi
    *map(chr, range(0x13430, 0x13440)),  # how hieroglyphs stand to each other
    *map(chr, range(0x1BCA0, 0x1BCA4)),  # the same in shorthand
}

FORGERIES = [
    '" outcome=success event="auth.login',
    "' outcome='success",
    "=1 level=critical",
    " -- View: admin -- granted -- None",
    "\\",
    '\\"',
    '","level":"critical',
    '"}\n{"event":"forged"}',
    "\r\n2022-11-14 14:31:12 [info    ] forged",
    "\x1b[2K\rforged",
    "|a=b|",
    ", age 30 -> 31",
    "{}[]:,",
    "%s %(message)s {message}",
]


def event_with(text):
    """An event that has the text wherever anybody's text can be."""
    actor = Actor(text, text, text)
    nested = {text: [text, {text: text}], f"x{text}": text}
    return make_event(
        event=f"test.{text}",
        sender=f"View: {text}",
        message=text,
        object_type=text,
        object_id=text,
        object_repr=text,
        changes={text: [text, nested], f"m{text}": {"added": [text], "removed": [nested]}},
        actor=actor,
        on_behalf_of=actor,
        reason=text,
        error={"type": text, "message": text},
        context={**nested, **dict.fromkeys(REQUEST, text)},
        data=nested,
        database=text,
        duration_ms=1.5,
    )


def structure(value):
    """JSON without its texts and names."""
    if isinstance(value, dict):
        return [structure(inner) for inner in value.values()]
    if isinstance(value, list):
        return [structure(inner) for inner in value]
    return "" if isinstance(value, str) else value


def of_json(line):
    return structure(json.loads(line))


def of_logfmt(line):
    return len(parse(line))


def of_console(line):
    """The words outside of quotes; JSON, which is cut where it is long, is one word."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line).replace(",", "")
    return re.sub(r'[{\[](?:[{}\[\]:]|"")*(?:\.\.\.)?', "JSON", outside).split()


def of_text(line):
    return len(line.split(" -- "))


SKELETONS = {
    "cloudevents": of_json,
    "console": of_console,
    "ecs": of_json,
    "json": of_json,
    "logfmt": of_logfmt,
    "ocsf": of_json,
    "text": of_text,
}


def test_every_format_is_tried():
    assert sorted(SKELETONS) == available_formats()


@pytest.mark.parametrize("characters", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("name", available_formats())
def test_no_acting_or_hidden_character_is_in_a_line(name, characters):
    formatter = get_formatter(name)
    for character in characters:
        line = formatter(event_with(f"a {character}b")).decode()

        assert character not in line
        assert len(line.splitlines()) == 1


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("name", available_formats())
def test_no_text_is_taken_for_a_part_of_the_line(name, forgery):
    formatter = get_formatter(name)
    skeleton = SKELETONS[name]
    line = formatter(event_with(f"a {forgery}b"))

    assert b"\n" not in line
    assert skeleton(line.decode()) == skeleton(formatter(event_with("a b")).decode())


@pytest.mark.parametrize("name", available_formats())
@given(event=varied)
def test_any_event_is_one_line_of_what_is_seen(name, event):
    line = get_formatter(name)(event).decode()

    assert len(line.splitlines()) == 1
    assert not ESCAPED_CHARACTERS.search(line)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_that_is_shown_has_nothing_more_to_escape(text):
    assert not ESCAPED_CHARACTERS.search(visible(text))
    assert visible(visible(text)) == visible(text)


def test_what_unicode_calls_a_control_is_escaped():
    escaped = {character for character in EVERY if ESCAPED_CHARACTERS.match(character)}
    controls = {one for one in EVERY if unicodedata.category(one) in {"Cc", "Zl", "Zp"}}
    formats = {one for one in EVERY if unicodedata.category(one) == "Cf"}
    directions = {
        one
        for one in EVERY
        if unicodedata.bidirectional(one)
        in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    }

    assert controls | directions <= escaped
    assert formats - escaped <= LEFT
    assert not LEFT & escaped
    assert escaped - formats - controls == {
        one for one in EVERY if unicodedata.category(one) == "Cn" and one in escaped
    }


@pytest.mark.parametrize("filler", ["x", "xy", "\\", "\\x", '"', '"x', "\n", "\x00y"])
@pytest.mark.parametrize("lead", range(12))
def test_a_value_that_the_console_cuts_leaves_no_quote_open(lead, filler):
    event = make_event(
        event="model.update",
        changes={"a": [None, ["z" * lead, filler * 100]]},
        reason="because by admin (user 1)",
    )
    outside = of_console(get_formatter("console")(event).decode())

    assert outside[-1] == 'reason=""'
    assert "admin" not in outside


def test_every_block_is_escaped():
    for character in (one for block in BLOCKS.values() for one in block):
        assert ESCAPED_CHARACTERS.fullmatch(character)


def test_letters_and_emoji_stay_as_they_are():
    words = [
        "Grüße",
        "\u05e9\u05dc\u05d5\u05dd",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    ]
    text = " ".join([*words, "\U0001f469\u200d\U0001f680", "\U0001f1e9\U0001f1ea"])

    assert visible(text) == text


def test_a_character_beyond_the_first_plane_reads_back():
    event = make_event(message="a\U000e0041b")
    line = get_formatter("json")(event)

    assert b"\\udb40\\udc41" in line
    assert json.loads(line)["message"] == event.message
