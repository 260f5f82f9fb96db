r"""The ``logfmt`` format: flat ``key=value`` pairs, for ``grep`` and for log collectors.

    timestamp=2022-11-14T13:31:12.000000Z level=info event=model.update ... changes.age=[30,31]

Time, level and event first, then the other fields in the order of the schema. What is inside
of a field has a dotted key, sorted by name; a list is JSON. A pair whose value is null is left
out, and so is an empty ``context`` or ``data``.

No key and no value can forge a pair or a line. Blanks, ``=``, ``"`` and control characters in
a key become ``_``; in a value control characters, separators of lines and controls of direction
are shown as escapes. A value with a blank, ``=`` or ``"`` stands in double quotes, in which
``\`` and ``"`` are escaped by ``\``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from structlog.processors import LogfmtRenderer

from django_signal_audit.formats._visible import ESCAPED_CHARACTERS, visible
from django_signal_audit.formats.json import serialize
from django_signal_audit.values import free_key

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

FIRST: Final = ("timestamp", "level", "event")

_NOT_IN_KEYS: Final = re.compile(rf'[\s="]|{ESCAPED_CHARACTERS.pattern}')


def flatten(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Make an event dict of texts and numbers under dotted keys that logfmt can hold."""
    flat: dict[str, Any] = {}
    ordered = {**{name: event_dict[name] for name in FIRST}, **event_dict}
    for name, value in ordered.items():
        for path, leaf in _leaves(name, value):
            flat[free_key(_NOT_IN_KEYS.sub("_", path), flat)] = leaf
    return flat


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _leaves(f"{path}.{key}", value[key])
        if not value and "." in path:
            yield path, "{}"
    elif isinstance(value, list):
        yield path, serialize(value).decode()
    elif isinstance(value, str):
        yield path, visible(value)
    elif value is not None:
        yield path, value


def processors() -> list[Processor]:
    """The processors of this format.

    Returns:
        One that flattens the event, and structlog's renderer.
    """
    return [flatten, LogfmtRenderer(bool_as_flag=False)]
