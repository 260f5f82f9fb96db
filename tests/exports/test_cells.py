"""Cells: shown, never run, and turned back."""

from __future__ import annotations

import json
import sys
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_signal_audit.exports._cells import (
    FORMULA_CHARACTERS,
    read_text,
    write_cell,
    write_value,
)
from django_signal_audit.formats._visible import ACTING_CHARACTERS

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# Rare characters, often.
NASTY = st.text(
    st.sampled_from(
        "=+-@\uff1d\uff0b\uff0d\uff20\t\r\n\0'\";,\\un0|a \ufeff\u200b\u202e\x1b\u2028\x85"
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXT | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | NASTY, inner, max_size=3),
    max_leaves=8,
)


def runs(text):
    """Whether a spreadsheet could run what begins so; by Unicode's word, not by the code's."""
    text = text.lstrip('\ufeff\u200b\u00a0" ')
    return unicodedata.normalize("NFKC", text[:1]) in {*"=+-@"} or text[:1] in {*"\t\r\n\0"}


@given(TEXT | NASTY)
@example("=1+1")
@example("'=1+1")
@example("\\n")
@example("\\u003b=1")
def test_every_text_can_be_turned_back(text):
    assert read_text(write_cell(text)) == text
    assert read_text(write_value(text)) == text


@given(TEXT | NASTY)
def test_no_text_is_run(text):
    assert not runs(write_cell(text))


@given(TEXT | NASTY)
def test_no_text_is_run_where_a_semicolon_parts_columns(text):
    for piece in write_cell(text).split(";"):
        assert not runs(piece)


@given(st.lists(JSON) | st.dictionaries(TEXT, JSON))
def test_json_reads_back_and_no_piece_of_it_is_run(value):
    cell = write_cell(value)

    assert json.loads(cell) == value
    assert not any(runs(piece) for piece in cell.split(";"))


@given(JSON)
def test_nothing_in_a_cell_acts_on_a_terminal_or_ends_a_line(value):
    for cell in (write_cell(value), write_value(value)):
        assert not ACTING_CHARACTERS.search(cell)
        assert len(cell.splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("", ""),
        ("plain text, with a comma", "plain text, with a comma"),
        ("=HYPERLINK(A1)", "'=HYPERLINK(A1)"),
        ("+49 30 1234", "'+49 30 1234"),
        ("-5", "'-5"),
        ("@SUM(1)", "'@SUM(1)"),
        ("  =1", "'  =1"),
        ("\ufeff=1", "'\ufeff=1"),
        ("\u00a0=1", "'\u00a0=1"),
        ('"=1"', '\'"=1"'),
        ("\uff1d1", "'\uff1d1"),
        ("\uff0d1", "'\uff0d1"),
        ("\t=1", "'\\t=1"),
        ("\tx", "'\\tx"),
        ("\rx", "'\\rx"),
        ("\nx", "'\\nx"),
        ("\0x", "'\\u0000x"),
        ("\x1b=1", "'\\u001b=1"),
        ("\u202e@x", "'\\u202e@x"),
        ("'quoted'", "''quoted'"),
        ("O'Hara", "O'Hara"),
        ("a=b", "a=b"),
        ("a-b@c", "a-b@c"),
        ("one\r\ntwo\tthree", "one\\r\\ntwo\\tthree"),
        ("\x1b[31m", "\\u001b[31m"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("C:\\new", "C:\\\\new"),
        ("a; b", "a; b"),
        ("a;=1", "a\\u003b=1"),
        ('a; "=1', 'a\\u003b "=1'),
        ("日本 🎉", "日本 🎉"),
    ],
)
def test_a_text_stands_as(text, cell):
    assert write_cell(text) == cell
    assert read_text(cell) == text


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        (True, "true"),
        (0.5, "0.5"),
        (-3, "-3"),
        ([], "[]"),
        ({"age": [30, -31]}, '{"age":[30,-31]}'),
        ({"a": "x;=1\n\x9b"}, '{"a":"x\\u003b=1\\n\\u009b"}'),
    ],
)
def test_another_value_stands_as_json(value, cell):
    assert write_cell(value) == cell
    assert write_value(value) == cell


@pytest.mark.parametrize("number", ["-5", "-9.50", "-0.001", "-1e300", "-1.5E-7"])
def test_a_negative_number_stays_one_where_numbers_are_looked_for(number):
    assert write_value(number) == number


@pytest.mark.parametrize(
    "text", ["-5+1", "-", "-5 ", "--5", "+5", "-1-1", "-5\n", "-٣", "-.5", "-A1"]
)
def test_what_is_more_than_a_number_does_not(text):
    assert write_value(text).startswith("'")


def test_all_characters_that_unicode_takes_for_those_of_a_formula_are_known():
    alike = {
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.normalize("NFKC", character) in {*"=+-@\u2212"}
    }

    assert alike == {*FORMULA_CHARACTERS}


@pytest.mark.parametrize("text", [" " * 200_000, ";" * 200_000, "; " * 100_000, "\\" * 200_000])
def test_a_long_text_takes_no_long_time(text):
    started = time.perf_counter()
    write_cell(text)

    assert time.perf_counter() - started < 2


def test_a_value_that_no_json_can_hold_is_an_error():
    with pytest.raises(TypeError):
        write_cell(["\ud800"])
