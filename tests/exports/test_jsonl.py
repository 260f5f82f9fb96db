"""The export as JSON Lines."""

from __future__ import annotations

import pytest

from django_signal_audit.exports.jsonl import Exporter
from django_signal_audit.formats import get_formatter
from tests.factories import make_event


def test_a_row_is_the_line_of_the_json_format():
    event = make_event(message="two\nlines")

    assert Exporter().rows(event) == get_formatter("json")(event) + b"\n"
    assert Exporter().head() == b""


def test_text_that_no_json_can_hold_is_an_error():
    with pytest.raises(TypeError):
        Exporter().rows(make_event(message="\ud800"))
