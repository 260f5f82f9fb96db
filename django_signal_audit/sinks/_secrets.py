"""Secrets among the options of a sink: they are given to the sink and shown to nobody."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from types import NoneType
from typing import Final
from urllib.parse import unquote

from django_signal_audit._known import KnownSecrets
from django_signal_audit._patterns import words_of
from django_signal_audit.event import REDACTED
from django_signal_audit.redaction import redactor

HIDDEN: Final = "***"

_ADDRESSES: Final = ("dsn", "uri", "url", "webhook")
_SHORTEST_PIECE: Final = 6


class Secret(str):
    """A text that ``repr()``, and so a printed dict of settings, shows as ``***``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def as_secret(value: object) -> object:
    """The value, its texts as ``Secret``."""
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(as_secret(inner) for inner in value)
    return Secret(value) if isinstance(value, str) else value


def is_address(name: str, value: object) -> bool:
    """Whether an option is a URL, which may hold a password or, as those of webhooks do, a token.

    Args:
        name: of the option: ``dsn``, ``webhook_url`` and the like say it.
        value: of the option.
    """
    named = any(word.endswith(_ADDRESSES) for word in words_of(name))
    return named or (isinstance(value, str) and "://" in value)


def without_secrets(text: str, hidden: object) -> str:
    """A text about a sink, such as that of an error, without what nobody may see.

    Args:
        text: of a message.
        hidden: what holds secrets: options, in which names tell, and ``Secret`` texts.
    """
    # The known ones first: what only looks like a secret may be half of one.
    known = KnownSecrets(_secrets(hidden)).leave(text)
    return redactor().scrub_text(known).replace(REDACTED, HIDDEN)


def quotable(error: BaseException, hidden: object) -> BaseException | None:
    """The error, as the cause of another, if nothing in its chain shows a secret."""
    link: BaseException | None = error
    while link is not None:
        if without_secrets(str(link), hidden) != str(link):
            return None
        link = link.__cause__ or link.__context__
    return error


def _secrets(value: object, *, inside: bool = False) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            secret = redactor().is_sensitive(str(key)) or is_address(str(key), inner)
            yield from _secrets(inner, inside=inside or secret)
    elif isinstance(value, Collection) and not isinstance(value, str | bytes):
        for inner in value:
            yield from _secrets(inner, inside=inside)
    elif isinstance(value, Secret) or (inside and not isinstance(value, bool | NoneType)):
        yield from _pieces(str(value))


def _pieces(secret: str) -> Iterator[str]:
    """The secret, and of a URL also the parts that an error may quote alone."""
    yield secret
    _, is_url, rest = secret.partition("://")
    if not is_url:
        return
    server, *paths = re.split(r"[/?#]", rest, maxsplit=1)
    pieces = server.rpartition("@")[0].split(":", 1)
    for path in paths:
        parts = (path, *re.split(r"[?#]", path), *re.split(r"[/?&=#]", path))
        pieces += [part for part in parts if len(part) >= _SHORTEST_PIECE]
    for piece in pieces:
        yield from (piece, unquote(piece))
