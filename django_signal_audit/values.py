r"""Raw values in, JSON-safe out: nothing made here can fail in orjson, in jsonb or in a reader.

A value that JSON cannot hold becomes a marked object, so that a reader sees what happened:

==================================== ======================================================
``{"$text": "a\\u0000"}``            text with NUL or lone surrogates; see ``restore_text``
``{"$int": "18446744073709551616"}`` an integer beyond 64 bits
``{"$float": "NaN"}``                ``NaN``, ``Infinity`` or ``-Infinity``
``{"$bytes": {size, sha256}}``       bytes are never copied into the trail
``{"$cut": {size, sha256, head}}``   longer than the limit
``{"$cut": {"depth": 27}}``          nested deeper than 27 containers
``{"$cut": {"items": n}}``           a container too large even to be read for its checksum
``{"$cycle": true}``                 a container inside itself
``{"$type": name}``                  a queryset, generator or iterator: never evaluated; or
                                     what would have to ask a database to show itself
``{"$repr": text, "$type": name}``   anything else
``{"$type": name, "$repr_failed"}``  the value's own code raised; the name of the exception
==================================== ======================================================

One rule for size: a string longer than ``limit`` characters is cut where it stands; a
container whose whole JSON text (its long strings already cut) is longer than ``limit``
bytes is cut as a whole.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import orjson
from django.core.files import File
from django.utils.functional import LazyObject

from django_signal_audit import internals
from django_signal_audit._known import collect_secrets
from django_signal_audit._scalars import (
    BASES,
    CUT_HEAD,
    EXACT,
    KEY_LENGTH,
    NAME_LENGTH,
    cut,
    failed,
    integer_value,
    restore_floats,
    restore_text,
    safe_text,
    short_key,
    text_value,
    type_name,
)
from django_signal_audit.event import REDACTED

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DEFAULT_LIMIT",
    "KEY_LENGTH",
    "MAX_DEPTH",
    "MAX_ITEMS",
    "free_key",
    "hidden_key",
    "make_safe",
    "restore_floats",
    "restore_text",
    "safe_text",
    "stable_key",
]

DEFAULT_LIMIT: Final = 10_000
# MariaDB stores JSON of at most 31 levels: a record has two around a value, and a mark is two.
MAX_DEPTH: Final = 27
MAX_ITEMS: Final = 1_000_000

_REPR_LENGTH: Final = 1000
_CHARACTERS_PER_ITEM: Final = 16
_PAIR_LENGTH: Final = 2
_SCRUBBED_BEYOND: Final = 1000
_NAMED: Final = re.compile(r"([\w.\-]++)[\"']?\s*[=:]")


class _TooLargeError(Exception):
    """Reading on would cost more memory and time than a checksum is worth."""


def make_safe(
    value: Any,
    *,
    limit: int = DEFAULT_LIMIT,
    is_sensitive: Callable[[str], bool] | None = None,
    secrets: set[str] | None = None,
    pairs: bool = False,
    scrub: Callable[[str], str] | None = None,
) -> Any:
    """Turn any Python value into plain JSON types; never raises on account of the value.

    Args:
        value: anything; querysets, generators and deferred fields are not evaluated.
        limit: characters of a string, or bytes of a container's JSON text, before it is cut.
        is_sensitive: asked for every mapping key; if true, a value other than ``None`` is
            replaced by ``"[redacted]"``.
        secrets: receives, as text, the strings and numbers inside each replaced value.
        pairs: whether ``("name", value)`` is masked like an entry of a mapping, as headers
            come; a list of two is a pair only inside a sequence.
        scrub: applied to every text, keys included, before it is cut.

    Returns:
        ``None``, a bool, int, float or str, or a new list or dict of them.
    """
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return integer_value(value)
    if scrub is None:
        if kind is str:
            return text_value(value, limit)
        handler = EXACT.get(kind)
        if handler is not None:
            try:
                return handler(value, limit)
            except Exception as error:  # noqa: BLE001 - foreign code, such as a tzinfo
                return failed(value, error)
    return _Walk(limit, is_sensitive, secrets, scrub, pairs=pairs).convert(value, 0)


def stable_key(value: Any) -> str:
    """The key of an object or actor as a string of at most 255 characters, always the same.

    A composite key becomes the text of a JSON array. A longer key keeps its first 190
    characters, followed by ``~`` and the SHA-256 of the whole.
    """
    kind = type(value)
    if issubclass(kind, str):
        text = str.__str__(value)
    elif issubclass(kind, (bytes, bytearray, memoryview)):
        text = bytes(value).hex()
    else:
        safe = make_safe(value)
        text = safe if type(safe) is str else orjson.dumps(safe).decode()
    return short_key(text)


def hidden_key(key: str) -> str:
    """A key that is a secret itself: its SHA-256 still tells objects apart."""
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


class _Walk:
    """One conversion: where it is, what it has cost so far, and what it must mask."""

    __slots__ = ("active", "is_sensitive", "limit", "pairs", "scrub", "secrets", "spent")

    def __init__(
        self,
        limit: int,
        is_sensitive: Callable[[str], bool] | None,
        secrets: set[str] | None,
        scrub: Callable[[str], str] | None,
        *,
        pairs: bool,
    ) -> None:
        self.limit = limit
        self.is_sensitive = is_sensitive
        self.secrets = secrets
        self.scrub = scrub
        self.pairs = pairs
        self.active: set[int] = set()
        self.spent = 0

    def convert(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        try:
            handler = EXACT.get(kind)
            if handler is not None:
                return self.single(value, kind, handler)
            return self.other(value, kind, depth)
        except _TooLargeError:
            raise
        except Exception as error:  # noqa: BLE001 - foreign code; the result names the error
            return failed(value, error)

    def other(self, value: Any, kind: type, depth: int) -> Any:
        # Types are asked, not values: isinstance() would evaluate a lazy object.
        build = self.builder(kind)
        if build is not None:
            return self.container(value, depth, build)
        if issubclass(kind, (Enum, LazyObject, File)):
            return self.convert(_inner(value, kind), depth)
        for base, handler in BASES:
            if issubclass(kind, base):
                return self.single(value, kind, handler)
        if hasattr(kind, "_meta") and hasattr(kind, "pk"):
            return self.reference(value)
        return self.described(value)

    def single(self, value: Any, kind: type, handler: Callable[[Any, int], Any]) -> Any:
        """What is no container; its text loses its secrets before it is cut."""
        if self.scrub is None:
            return handler(value, self.limit)
        if issubclass(kind, str):
            return self.text(str.__str__(value), self.scrub)
        safe = handler(value, sys.maxsize)
        if type(safe) is str:
            return self.text(safe, self.scrub)
        if type(safe) is dict:
            return {
                key: self.scrub(item) if type(item) is str else item for key, item in safe.items()
            }
        return safe

    def text(self, value: str, scrub: Callable[[str], str]) -> Any:
        if len(value) <= self.limit:
            return text_value(scrub(value), self.limit)
        # No more is scrubbed than is kept, and what a secret at its end may need.
        head = scrub(safe_text(value, limit=CUT_HEAD + _SCRUBBED_BEYOND))[:CUT_HEAD]
        return cut(value.encode("utf-8", "surrogatepass"), head)

    def builder(self, kind: type) -> Callable[[Any, int], Any] | None:
        if kind is dict or issubclass(kind, Mapping):
            return self.mapping
        if kind is list or issubclass(kind, (list, tuple, deque, MappingView)):
            return self.sequence
        return self.unordered if issubclass(kind, AbstractSet) else None

    def container(self, value: Any, depth: int, build: Callable[[Any, int], Any]) -> Any:
        if id(value) in self.active:
            return {"$cycle": True}
        if depth >= MAX_DEPTH:
            return {"$cut": {"depth": MAX_DEPTH}}
        self.active.add(id(value))
        try:
            result = build(value, depth + 1)
        except _TooLargeError:
            if depth:
                raise
            return {"$cut": {"items": len(value)}}
        finally:
            self.active.discard(id(value))
        if depth:
            return result
        content = orjson.dumps(result)
        if len(content) <= self.limit:
            return result
        # A character takes at most four bytes, so this holds the whole head.
        head = content[: 4 * CUT_HEAD].decode("utf-8", "ignore")[:CUT_HEAD]
        return cut(content, head)

    def mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        # A QueryDict's own items() would give only the last value of each key.
        pairs = dict.items(value) if isinstance(value, dict) else value.items()
        for key, item in pairs:
            name = self.key_text(key)
            self.charge(item)
            if item is not None and self.is_sensitive is not None and self.is_sensitive(name):
                safe = self.masked(item)
            else:
                safe = self.convert(item, depth)
            if self.scrub is not None:
                name = self.scrub(name)
            result[free_key(short_key(name), result)] = safe
        return result

    def sequence(self, value: Iterable[Any], depth: int) -> list[Any]:
        if self.pairs and isinstance(value, tuple) and self.is_secret_pair(value):
            return self.pair(value, depth)
        result = []
        for item in value:
            self.charge(item)
            if self.pairs and type(item) is list and self.is_secret_pair(item):
                result.append(self.pair(item, depth))
            else:
                result.append(self.convert(item, depth))
        return result

    def is_secret_pair(self, value: Sequence[Any]) -> bool:
        """Whether this is a name and its value, and the name is sensitive."""
        return (
            len(value) == _PAIR_LENGTH
            and issubclass(type(value[0]), (str, bytes))
            and value[1] is not None
            and self.is_sensitive is not None
            and self.is_sensitive(self.key_text(value[0]))
        )

    def pair(self, value: Sequence[Any], depth: int) -> list[Any]:
        # ASGI's headers have names of bytes, which would be recorded as a checksum.
        return [self.convert(self.key_text(value[0]), depth), self.masked(value[1])]

    def unordered(self, value: Iterable[Any], depth: int) -> list[Any]:
        return sorted(self.sequence(value, depth), key=orjson.dumps)

    def key_text(self, key: Any) -> str:
        if type(key) is str:
            return key
        if isinstance(key, str):
            return str.__str__(key)
        if isinstance(key, bytes):
            return key.decode("utf-8", "backslashreplace")
        return str(self.convert(key, MAX_DEPTH - 1))

    def reference(self, instance: Any) -> dict[str, Any]:
        """A model instance by type and key: its ``__str__`` may run queries or show secrets."""
        key = None if instance.pk is None else stable_key(instance.pk)
        name = getattr(getattr(instance._meta, "pk", None), "name", "")
        if key is not None and self.is_sensitive is not None and self.is_sensitive(name):
            key = hidden_key(key)
        return {
            "object_type": safe_text(instance._meta.label_lower, limit=NAME_LENGTH),
            "object_id": key,
        }

    def masked(self, value: Any) -> str:
        if self.secrets is not None:
            collect_secrets(value, self.secrets)
        return REDACTED

    def charge(self, item: Any) -> None:
        """Count what a checksum costs, so that shared or endless data cannot exhaust memory."""
        self.spent += 1
        if type(item) is str:
            self.spent += min(len(item), self.limit) // _CHARACTERS_PER_ITEM
        if self.spent > max(MAX_ITEMS, self.limit):
            raise _TooLargeError

    def described(self, value: Any) -> dict[str, Any]:
        shown, refused = internals.call_without_queries(lambda: repr(value))
        if refused:
            # What it shows without an answer is not what it is.
            return {"$type": type_name(value)}
        text = safe_text(shown, limit=_REPR_LENGTH)
        self.charge(text)
        if self.is_sensitive is not None and any(map(self.is_sensitive, _NAMED.findall(text))):
            text = REDACTED
        elif self.scrub is not None:
            text = self.scrub(text)
        return {"$repr": text, "$type": type_name(value)}


def _inner(value: Any, kind: type) -> Any:
    """What an enum member, a lazy object or a file stands for."""
    if issubclass(kind, Enum):
        return value._value_
    if issubclass(kind, File):
        return value.name
    return internals.wrapped_by(value)


def free_key(name: str, taken: dict[str, Any]) -> str:
    """The name, or with ``~2``, ``~3``, ... when ``1`` and ``"1"`` are both keys."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}~{number}"
    return free
