"""Known secrets: taken from masked values, and out of texts in every form a text may quote."""

from __future__ import annotations

import html
import json
import re
import uuid
from collections import deque
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

from django_signal_audit._scalars import safe_text
from django_signal_audit.event import REDACTED

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANYWHERE_LENGTH: Final = 6
_PREFIX_LENGTH: Final = 4
_MAX_SECRETS: Final = 10_000
_CUT_TAIL: Final = re.compile(r"\.\.\.\[\+\d+\]\Z")


class KnownSecrets:
    """Values that must not stay in a text; their forms are worked out once for many texts.

    Args:
        secrets: the values; one shorter than six characters is found only as a whole word.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if secret.strip()}
        self._known = sorted(known, key=len, reverse=True)
        self._forms = [
            (form, len(secret) >= _ANYWHERE_LENGTH)
            for secret in self._known
            for form in sorted(_forms(secret), key=len, reverse=True)
        ]

    def leave(self, text: str) -> str:
        """The text without them."""
        if not self._known or not text:
            return text
        patterns = [
            re.escape(form) if anywhere else rf"(?<!\w){re.escape(form)}(?!\w)"
            for form, anywhere in self._forms
            if form in text
        ]
        if patterns:
            # What is redacted already stays as it is, whatever the secrets are.
            text = re.sub("|".join([re.escape(REDACTED), *patterns]), REDACTED, text)
        return self._without_halves(text)

    def _without_halves(self, text: str) -> str:
        """Without the beginning of a secret at the very place where the text was cut."""
        tail = _CUT_TAIL.search(text)
        if tail is None:
            return text
        body = text[: tail.start()]
        for secret in self._known:
            for size in range(min(len(secret), len(body)), _PREFIX_LENGTH - 1, -1):
                if body.endswith(secret[:size]):
                    return f"{body[:-size]}{REDACTED}{tail[0]}"
        return text


def _forms(secret: str) -> set[str]:
    """How a value looks where it is quoted: as is, in a repr, in JSON, a URL, HTML or SQL."""
    if secret.isascii() and secret.isalnum():
        return {secret}
    return {
        secret,
        repr(secret)[1:-1],
        repr(f'"{secret}')[2:-1],  # the double quote makes repr() escape single ones
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret, errors="surrogatepass"),
        quote(secret, safe="", errors="surrogatepass"),
        quote_plus(secret, errors="surrogatepass"),
        html.escape(secret),
        secret.replace("'", "''"),
        secret.encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00"),
    }


def collect_secrets(value: Any, secrets: set[str]) -> None:
    """Add the strings and numbers inside a masked value, as text."""
    waiting: list[Any] = [value]
    seen: set[int] = set()
    visited = 0
    while waiting and visited < _MAX_SECRETS:
        visited += 1
        item = waiting.pop()
        kind = type(item)
        # Types are asked, not values: isinstance() would evaluate a lazy object.
        if kind is bool or id(item) in seen:
            continue
        if issubclass(kind, Enum):
            waiting.append(item._value_)
        elif issubclass(kind, str):
            secrets.update({str.__str__(item)} - {"", REDACTED})
        elif issubclass(kind, bytes):
            secrets.update({item.decode("utf-8", "backslashreplace")} - {""})
        elif issubclass(kind, (int, float, Decimal, uuid.UUID)):
            secrets.add(safe_text(item))
        elif issubclass(kind, (list, tuple, deque, set, frozenset)):
            seen.add(id(item))
            waiting.extend(item)
        elif issubclass(kind, dict):
            seen.add(id(item))
            waiting.extend(dict.values(item))
