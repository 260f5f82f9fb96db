"""Text and other single values as JSON holds them; ``values`` builds containers from these."""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from django.db.models.query import QuerySet, RawQuerySet
from django.utils.duration import duration_iso_string
from django.utils.functional import Promise

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_LENGTH: Final = 255

_KEY_HEAD: Final = 190
CUT_HEAD: Final = 200
NAME_LENGTH: Final = 200
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_INT_DIGITS: Final = 1000
_INT_BITS: Final = 3322  # no longer integer has 1000 digits

_BROKEN: Final = re.compile("[\x00\ud800-\udfff]")
_ESCAPABLE: Final = re.compile("[\x00\\\\\ud800-\udfff]")
_ESCAPED: Final = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")


def safe_text(value: Any, *, limit: int = 1000) -> str:
    r"""Text for a column or a message: visible escapes, at most ``limit`` characters.

    NUL and lone surrogates show as ``\x00`` and ``\udc80``; what is left out is counted in a
    trailing ``...[+N]``. A raising ``__str__`` gives ``<unprintable TypeName: ExcName>``.
    """
    if type(value) is str:
        text = value
    else:
        try:
            # str() may return a subclass; SafeString.__str__ returns itself.
            text = str.__str__(str(value))
        except Exception as error:  # noqa: BLE001 - foreign code; the result names the error
            text = f"<unprintable {type(value).__name__}: {type(error).__name__}>"
    if not _is_clean(text):
        text = _BROKEN.sub(_show, text)
    if len(text) <= limit:
        return text
    keep = limit - len(f"...[+{len(text)}]")
    if keep <= 0:
        return text[: max(limit, 0)]
    return f"{text[:keep]}...[+{len(text) - keep}]"


def restore_text(escaped: str) -> str:
    """The original of a ``{"$text": ...}`` value."""
    return _ESCAPED.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else "\\",
        escaped,
    )


def _is_clean(text: str) -> bool:
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _show(found: re.Match[str]) -> str:
    return r"\x00" if found[0] == "\x00" else f"\\u{ord(found[0]):04x}"


def _escape(found: re.Match[str]) -> str:
    return r"\\" if found[0] == "\\" else f"\\u{ord(found[0]):04x}"


def short_key(text: str) -> str:
    """The text in at most 255 clean characters: a longer one ends in its checksum."""
    shown = text if _is_clean(text) else _BROKEN.sub(_show, text)
    if len(shown) <= KEY_LENGTH:
        return shown
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{shown[:_KEY_HEAD]}~{digest}"


def cut(content: bytes, head: str) -> dict[str, Any]:
    """The mark of a value that is longer than the limit."""
    digest = hashlib.sha256(content).hexdigest()
    return {"$cut": {"size": len(content), "sha256": digest, "head": head}}


def type_name(value: Any) -> str:
    """``module.QualName`` of the value's type."""
    kind = type(value)
    return safe_text(f"{kind.__module__}.{kind.__qualname__}", limit=NAME_LENGTH)


def failed(value: Any, error: Exception) -> dict[str, Any]:
    """The mark of a value whose own code raised."""
    name = safe_text(type(error).__name__, limit=NAME_LENGTH)
    return {"$type": type_name(value), "$repr_failed": name}


def _only_type(value: Any, _limit: int) -> dict[str, Any]:
    return {"$type": type_name(value)}


def text_value(value: str, limit: int) -> Any:
    """A string as it is, escaped in a ``$text`` mark, or cut."""
    if len(value) > limit:
        head = _BROKEN.sub(_show, value[:CUT_HEAD])
        return cut(value.encode("utf-8", "surrogatepass"), head)
    if _is_clean(value):
        return value
    return {"$text": _ESCAPABLE.sub(_escape, value)}


def integer_value(value: int, _limit: int = 0) -> Any:
    """An integer as it is, or marked when it does not fit 64 bits."""
    if _INT_MIN <= value <= _INT_MAX:
        return value
    if value.bit_length() <= _INT_BITS:
        # Built in two halves: a program may set Python's own digit limit as low as 640.
        high, low = divmod(abs(value), 10**500)
        digits = f"{high}{low:0500d}".lstrip("0")
        if len(digits) <= _INT_DIGITS:
            return {"$int": f"-{digits}" if value < 0 else digits}
    text = f"{value:x}"
    return cut(text.encode(), text[:32])


def restore_floats(value: Any) -> Any:
    """JSON as it was recorded, from what a database made of it.

    PostgreSQL's jsonb keeps the float ``1e300`` as a number of 301 digits, which comes back as
    an integer that JSON writers refuse. Integers of that size are recorded as ``$int``.
    """
    if type(value) is dict:
        return {key: restore_floats(item) for key, item in value.items()}
    if type(value) is list:
        return [restore_floats(item) for item in value]
    if type(value) is int and not _INT_MIN <= value <= _INT_MAX:
        try:
            return float(value)
        except OverflowError:
            return integer_value(value)  # nothing of ours: no float is as large
    return value


def _float_value(value: float, _limit: int) -> Any:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return {"$float": "NaN"}
    return {"$float": "Infinity" if value > 0 else "-Infinity"}


def _bytes_value(value: bytes | bytearray | memoryview, _limit: int) -> dict[str, Any]:
    content = value.tobytes() if isinstance(value, memoryview) else value
    return {"$bytes": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}}


def _datetime_value(value: datetime, _limit: int) -> str:
    if value.tzinfo is UTC:
        return value.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"
    if value.tzinfo is None or value.utcoffset() is None:
        return value.replace(tzinfo=None).isoformat(timespec="microseconds")
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        # The first and last hours of the calendar have no UTC counterpart: keep the offset.
        return value.isoformat(timespec="microseconds")
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _date_value(value: date, _limit: int) -> str:
    return value.isoformat()


def _time_value(value: time, _limit: int) -> str:
    return value.isoformat(timespec="microseconds")


def _timedelta_value(value: timedelta, _limit: int) -> str:
    return duration_iso_string(value)


def _as_text(value: Any, limit: int) -> Any:
    text = str(value)
    return text_value(text if type(text) is str else str.__str__(text), limit)


def _exception(value: BaseException, _limit: int) -> dict[str, Any]:
    return {"type": safe_text(type(value).__name__, limit=NAME_LENGTH), "message": safe_text(value)}


EXACT: Final[dict[type, Callable[[Any, int], Any]]] = {
    str: text_value,
    int: integer_value,
    float: _float_value,
    Decimal: _as_text,
    datetime: _datetime_value,
    uuid.UUID: _as_text,
    date: _date_value,
    time: _time_value,
    timedelta: _timedelta_value,
    bytes: _bytes_value,
    bytearray: _bytes_value,
    memoryview: _bytes_value,
}

_IP_TYPES: Final = (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

# In this order: a datetime is a date, and a file handle is an iterator.
BASES: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any, int], Any]], ...]] = (
    (str, lambda value, limit: text_value(str.__str__(value), limit)),
    (int, lambda value, limit: integer_value(int.__int__(value), limit)),
    (float, lambda value, limit: _float_value(float.__float__(value), limit)),
    (datetime, _datetime_value),
    (date, _date_value),
    (time, _time_value),
    (timedelta, _timedelta_value),
    ((bytes, bytearray), _bytes_value),
    ((Decimal, uuid.UUID, PurePath, Promise, *_IP_TYPES), _as_text),
    (BaseException, _exception),
    ((QuerySet, RawQuerySet, Iterator), _only_type),
)
