r"""The ``console`` format: a line for people who watch, by structlog's console renderer.

    2022-11-14 14:31:12 [info    ] model.update shop.order 5 "Order 5" age 30 -> 31 by zoe (user 5)

Local time, level and event; then what the event has of outcome, message, object, changes, actor,
sender, reason, error, duration and data. Values are JSON, cut at 100 characters; the context
is left out. In colours on a terminal, as ``StdoutSink`` knows.

No value can forge a line or a part of one, or colour it: what is free text stands in double
quotes, and control characters are shown as escapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from structlog.dev import (
    BRIGHT,
    CYAN,
    DIM,
    GREEN,
    MAGENTA,
    RED,
    RESET_ALL,
    YELLOW,
    Column,
    ConsoleRenderer,
)

from django_signal_audit.formats._local import local_time
from django_signal_audit.formats._visible import visible
from django_signal_audit.formats.json import serialize

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S"
LONGEST: Final = 100

_EVENT_WIDTH: Final = 12
_LEVEL_WIDTH: Final = 8
_TEXT: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_PLAIN: Final = re.compile(r"[\w.@+/:-]+")

_LEVELS: Final = {
    "debug": GREEN,
    "info": GREEN,
    "warning": YELLOW,
    "error": RED,
    "critical": RED + BRIGHT,
}
_STYLES: Final[Mapping[str, str]] = {
    "time": DIM,
    "event": BRIGHT,
    "outcome": RED,
    "changes": CYAN,
    "actor": MAGENTA,
}


def summarize(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Make an event dict of the parts of the line, of texts that cannot forge another part."""
    return {name: text for name, make in _PARTS.items() if (text := make(event_dict))}


def _time(event: Mapping[str, Any]) -> str:
    return local_time(event["timestamp"]).strftime(TIME_FORMAT)


def _level(event: Mapping[str, Any]) -> str:
    return f"[{visible(event['level']):{_LEVEL_WIDTH}}]"


def _event(event: Mapping[str, Any]) -> str:
    return f"{_word(event['event']):{_EVENT_WIDTH}}"


def _outcome(event: Mapping[str, Any]) -> str:
    said = [] if event["outcome"] == "success" else [_word(event["outcome"])]
    return " ".join([*said, "rolled back"] if event["rolled_back"] else said)


def _message(event: Mapping[str, Any]) -> str:
    # The message of a model's event is the event's name.
    return "" if event["message"] in {"", event["event"]} else _json(event["message"])


def _object(event: Mapping[str, Any]) -> str:
    known = [event["object_type"], event["object_id"]]
    words = [_word(part) for part in known if part is not None]
    return " ".join([*words, _json(event["object_repr"])] if event["object_repr"] else words)


def _changes(event: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{_word(name)} {_change(change)}" for name, change in (event["changes"] or {}).items()
    )


def _change(change: Any) -> str:
    if isinstance(change, dict):
        return f"+{_json(change['added'])} -{_json(change['removed'])}"
    old, new = change
    return f"{_json(old)} -> {_json(new)}"


def _actor(event: Mapping[str, Any]) -> str:
    said = [
        f"{word} {_named(event[name])}"
        for word, name in (("by", "actor"), ("for", "on_behalf_of"))
        if event[name]
    ]
    return " ".join(said)


def _named(actor: Mapping[str, Any]) -> str:
    known = _word(actor["type"]) + ("" if actor["id"] is None else f" {_word(actor['id'])}")
    return f"{_word(actor['label'])} ({known})" if actor["label"] else known


def _sender(event: Mapping[str, Any]) -> str:
    # The sender of a model's event is the object's type.
    sender = event["sender"]
    if sender == "" or sender.lower() == event["object_type"]:
        return ""
    return f"sender={_word(sender)}"


def _rest(event: Mapping[str, Any]) -> str:
    return " ".join(f"{_word(name)}={text}" for name, text in _pairs(event))


def _pairs(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if event["reason"] is not None:
        yield "reason", _json(event["reason"])
    if event["error"] is not None:
        yield "error", _json(f"{event['error']['type']}: {event['error']['message']}")
    if event["duration_ms"] is not None:
        yield "duration_ms", _json(event["duration_ms"])
    for name, value in event["data"].items():
        yield f"data.{name}", _json(value)


def _word(text: str) -> str:
    """A text as it is, if it is one word; else in quotes."""
    return text if _PLAIN.fullmatch(text) and len(text) <= LONGEST else _json(text)


def _json(value: Any) -> str:
    if isinstance(value, str):
        # The closing quote stays.
        return _json_text(value[:LONGEST]) + ("..." if len(value) > LONGEST else "")
    text = _json_text(value)
    return text if len(text) <= LONGEST else f"{_closed(text[:LONGEST])}..."


def _closed(head: str) -> str:
    """The beginning of JSON with its last text closed: else what follows would seem to be text."""
    if '"' not in _TEXT.sub("", head):
        return head
    if (len(head) - len(head.rstrip("\\"))) % 2:
        head = head[:-1]  # half an escape, which would take the quote with it
    return f'{head}"'


def _json_text(value: Any) -> str:
    return serialize(value).decode()


_PARTS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "time": _time,
    "level": _level,
    "event": _event,
    "outcome": _outcome,
    "message": _message,
    "object": _object,
    "changes": _changes,
    "actor": _actor,
    "sender": _sender,
    "rest": _rest,
}


class _Part:
    """A column of the renderer that shows a text as it is, or in a colour."""

    def __init__(self, style: str) -> None:
        self._style = style

    def __call__(self, key: str, value: object) -> str:
        style = self._style
        if key == "level" and style:
            style = _LEVELS.get(str(value).strip("[] "), "")
        return f"{style}{value}{RESET_ALL}" if style else str(value)


def _renderer(styles: Mapping[str, str]) -> ConsoleRenderer:
    named = [Column(name, _Part(styles.get(name, ""))) for name in _PARTS]
    return ConsoleRenderer(columns=[*named, Column("", _Part(""))])


def processors() -> list[Processor]:
    """The processors of this format, for files and for pipes.

    Returns:
        One that chooses what to show, and structlog's renderer without colours.
    """
    return [summarize, _renderer({})]


def terminal_processors() -> list[Processor]:
    """The same for a terminal, in colours."""
    return [summarize, _renderer({**_STYLES, "level": GREEN})]
