r"""The ``text`` format: a line for people.

    14_11_2022_14_31_12 -- View: test_logging -- Employee created: a b -- Employees object (72)

Time, sender, message and instance, parted by `` -- ``; the instance is ``None`` where the
event has no object. The time is in the project's ``TIME_ZONE``, not in the zone that a
request activated for its user: the lines of one file must be comparable.

No value can forge a line or a column. Control characters, separators of lines and
controls of direction are shown as escapes (``\n``, ``\x1b``, ``\u202e``), and ``--`` standing by
itself in a value is written ``\--``. All other text stays as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from django_signal_audit.formats._local import local_time
from django_signal_audit.formats._visible import visible

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

DELIMITER: Final = " -- "
TIME_FORMAT: Final = "%d_%m_%Y_%H_%M_%S"

# Also at the ends of a value, where the delimiter beside it would complete it; any blank counts,
# since a no-break space looks the same.
_LONE_DASHES = re.compile(r"(?<!\S)--(?!\S)")


def add_local_time(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Put the event's time, in the project's time zone, under ``local_time``."""
    event_dict["local_time"] = local_time(event_dict["timestamp"]).strftime(TIME_FORMAT)
    return event_dict


def add_instance(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Put the text of the event's object under ``instance``, or ``None`` as text."""
    event_dict["instance"] = event_dict["object_repr"] if event_dict["object_type"] else "None"
    return event_dict


class VisibleValues:
    """Make values of the event dict safe to stand in a line.

    Args:
        keys: whose values; each must be there.
    """

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        """Replace the values of the keys by text that cannot forge a line or a column."""
        for key in self._keys:
            event_dict[key] = _LONE_DASHES.sub(r"\\--", visible(str(event_dict[key])))
        return event_dict


class DelimitedRenderer:
    """Render values of the event dict as one line.

    Args:
        keys: whose values, in this order.
        delimiter: what stands between them.
    """

    def __init__(self, *keys: str, delimiter: str = DELIMITER) -> None:
        self._keys = keys
        self._delimiter = delimiter

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
        """Join the values of the keys."""
        return self._delimiter.join(event_dict[key] for key in self._keys)


def processors() -> list[Processor]:
    """The processors of this format.

    Returns:
        Processors that end in a renderer of ``local_time -- sender -- message -- instance``.
    """
    return [
        add_local_time,
        add_instance,
        VisibleValues("sender", "message", "instance"),
        DelimitedRenderer("local_time", "sender", "message", "instance"),
    ]
