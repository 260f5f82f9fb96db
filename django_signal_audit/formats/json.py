"""The ``json`` format: one JSON object a line, exactly the published shape of the event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from structlog.processors import JSONRenderer

from django_signal_audit.formats._visible import ESCAPED_CHARACTERS

if TYPE_CHECKING:
    import re

    from structlog.typing import Processor


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be").hex()  # beyond the first plane: a surrogate pair
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def serialize(value: Any, **options: Any) -> bytes:
    r"""``orjson.dumps``, which also escapes what JSON allows and a terminal would act upon.

    Args:
        value: what to write.
        options: as for ``orjson.dumps``.

    Returns:
        One line of JSON that reads back as the same value; DEL, C1 controls, line separators,
        controls of direction and characters that nobody sees are written as ``\uXXXX``.
    """
    line = orjson.dumps(value, **options)
    if line.isascii() and b"\x7f" not in line:  # nearly always, and it costs next to nothing
        return line
    return ESCAPED_CHARACTERS.sub(_escape, line.decode()).encode()


def processors() -> list[Processor]:
    """The processors of this format.

    Returns:
        One renderer.
    """
    return [JSONRenderer(serializer=serialize)]
