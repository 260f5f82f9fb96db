from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from django_signal_audit import formats
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.formats import available_formats, get_formatter
from django_signal_audit.formats.base import render_lines
from tests.factories import make_event


def keep_event_name(logger, method, event_dict):
    assert logger is None
    event_dict["seen"] = method
    return event_dict


def render_name_and_level(logger, method, event_dict):
    return f"{event_dict['event']} {event_dict['seen']}"


def my_format():
    return [keep_event_name, render_name_and_level]


def my_bytes():
    return (lambda *args: b"bytes",)


def my_dropping():
    def drop(logger, method, event_dict):
        if event_dict["message"] == "drop":
            raise structlog.DropEvent
        return event_dict["message"]

    return [drop]


def my_breaking():
    return [lambda *args: "two\nlines\n"]


def my_surrogates():
    return [lambda *args: "half \ud83d of a pair"]


def my_broken():
    return 1 / 0


def my_empty():
    return []


def my_nothing():
    return None


def my_wrong_items():
    return ["json"]


def my_dict():
    return [lambda logger, method, event_dict: event_dict]


NOT_A_FACTORY = 3


def test_the_formats_are_the_modules_of_the_package():
    files = {path.stem for path in Path(formats.__path__[0]).glob("[!_]*.py")} - {"base"}

    assert available_formats() == sorted(files)
    assert {"json", "text"} <= files


@pytest.mark.parametrize("name", available_formats())
def test_every_format_makes_one_line_of_an_event(name):
    line = get_formatter(name)(make_event(message="two\nlines", object_repr="\x1b[31mred"))

    assert isinstance(line, bytes)
    assert line
    assert b"\n" not in line


def test_a_new_format_is_one_new_file(tmp_path, monkeypatch):
    (tmp_path / "shouting_format.py").write_text(
        "def processors():\n    return [lambda logger, method, event: event['message'].upper()]\n"
    )
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])

    assert "shouting_format" in available_formats()
    assert get_formatter("shouting_format")(make_event(message="hello")) == b"HELLO"


def test_a_dotted_path_names_a_factory():
    formatter = get_formatter("tests.formats.test_base.my_format")

    assert formatter(make_event(event="a.b", level="warning")) == b"a.b warning"


def test_a_renderer_may_return_bytes():
    assert get_formatter("tests.formats.test_base.my_bytes")(make_event()) == b"bytes"


def test_a_renderer_cannot_break_lines():
    formatter = get_formatter("tests.formats.test_base.my_breaking")

    assert formatter(make_event()) == b"two\\nlines"


def test_half_a_surrogate_pair_is_shown():
    formatter = get_formatter("tests.formats.test_base.my_surrogates")

    assert formatter(make_event()) == b"half \\ud83d of a pair"


def test_a_dropped_event_reaches_the_caller():
    formatter = get_formatter("tests.formats.test_base.my_dropping")

    with pytest.raises(structlog.DropEvent):
        formatter(make_event(message="drop"))


def test_lines_leave_dropped_events_out():
    formatter = get_formatter("tests.formats.test_base.my_dropping")
    events = [make_event(message=text) for text in ("one", "drop", "two")]

    assert render_lines(formatter, events) == b"one\ntwo\n"
    assert render_lines(formatter, [make_event(message="drop")]) == b""


def test_a_formatter_leaves_the_event_as_it_is():
    event = make_event(context={"a": 1})
    before = event.to_dict()
    for name in available_formats():
        get_formatter(name)(event)

    assert event.to_dict() == before


def test_an_unknown_format_is_named_with_the_nearest_good_one():
    with pytest.raises(AuditConfigurationError) as caught:
        get_formatter("jsno")

    assert str(caught.value) == "There is no format 'jsno'. Did you mean 'json'?"


def test_a_format_like_no_other_is_told_which_there_are():
    with pytest.raises(AuditConfigurationError) as caught:
        get_formatter("zzzzzz")

    assert ", ".join(map(repr, available_formats())) in str(caught.value)


@pytest.mark.parametrize("name", ["base", "_visible", "", "Json", "zzzzzz"])
def test_what_is_no_format_is_refused(name):
    with pytest.raises(AuditConfigurationError, match=r"There is no format .*json"):
        get_formatter(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests.formats.test_base.my_emty", r"Did you mean 'tests.formats.test_base.my_empty'\?"),
        ("tests.formats.tst_base.my_empty", r"Did you mean 'tests.formats.test_base.my_empty'\?"),
        ("tests.formats.test_base.my_broken", r"raised ZeroDivisionError \(division by zero\)"),
        ("no_such_package.formats.mine", r"cannot be imported \(No module named"),
        ("tests.formats.test_base.NOT_A_FACTORY", "is no function that returns"),
        ("tests.formats.test_base.my_empty", r"returned \[\]\. Return a list"),
        ("tests.formats.test_base.my_nothing", "returned None. Return a list"),
        ("tests.formats.test_base.my_wrong_items", r"returned \['json'\]\. Return a list"),
    ],
)
def test_a_wrong_factory_is_refused(name, message):
    with pytest.raises(AuditConfigurationError, match=message) as caught:
        get_formatter(name)

    assert repr(name) in str(caught.value)


def test_a_module_without_processors_is_refused(tmp_path, monkeypatch):
    (tmp_path / "bare_format.py").write_text("")
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])

    with pytest.raises(AuditConfigurationError, match="'bare_format' is no function that"):
        get_formatter("bare_format")


def test_a_format_that_needs_more_says_so(tmp_path, monkeypatch):
    (tmp_path / "needy_format.py").write_text("import no_such_package\n")
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])

    with pytest.raises(
        AuditConfigurationError, match=r"No module named 'no_such_package'\)\. Install"
    ):
        get_formatter("needy_format")


def test_a_chain_that_does_not_render_is_refused():
    formatter = get_formatter("tests.formats.test_base.my_dict")

    with pytest.raises(AuditConfigurationError, match=r"my_dict' rendered a dict. Let its last"):
        formatter(make_event())
