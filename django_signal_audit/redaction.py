"""Secrets stay out by default: which names are sensitive, and how their values leave a text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from django_signal_audit import conf
from django_signal_audit._known import KnownSecrets
from django_signal_audit._patterns import (
    BEARER,
    COLUMN_ENDS,
    DUPLICATE,
    EXPECTED,
    FAILING_ROW,
    INNOCENT,
    INSIDE,
    KEY_DETAIL,
    PAIR,
    PARAMETER,
    PHRASES,
    REFUSED,
    USERINFO,
    WHOLE_NAMES,
    WORD_BEFORE,
    WORD_REACH,
    WORDS,
    quoted_end,
    value_end,
    words_of,
)
from django_signal_audit.event import REDACTED
from django_signal_audit.exceptions import AuditConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

_CACHED_NAMES: Final = 4096
_CACHED_LENGTH: Final = 200


class Redactor:
    """Decides by name what is secret, and takes secrets out of query strings and texts.

    Immutable and safe to share between threads.

    Args:
        extra_names: further words or phrases (``"iban"``, ``"home address"``) that make a
            name sensitive wherever they stand in it.
        plain_names: exact names, in any case, that are never masked.
    """

    def __init__(
        self,
        extra_names: Collection[str] = (),
        plain_names: Collection[str] = (),
    ) -> None:
        for option, names in (("extra_names", extra_names), ("plain_names", plain_names)):
            if isinstance(names, str):
                raise AuditConfigurationError(
                    f"{option} must be a list of names, not the string {names!r}; "
                    f"write [{names!r}]."
                )
        self._plain = frozenset(name.strip().casefold() for name in plain_names)
        phrases = {tuple(words_of(name)) for name in (*WORDS, *PHRASES, *extra_names)} - {()}
        self._phrases = frozenset(phrases)
        self._glued = tuple("".join(phrase) for phrase in phrases if len(phrase) > 1)
        self._longest = max(map(len, phrases))
        self._cached = lru_cache(maxsize=_CACHED_NAMES)(self._decide)

    def is_sensitive(self, name: str) -> bool:
        """Whether a value under this name must never be recorded."""
        # A request may bring any number of endless names: those are not worth keeping.
        return self._cached(name) if len(name) <= _CACHED_LENGTH else self._decide(name)

    def redact_query_string(self, query: str) -> str:
        """The query string with the values of sensitive parameters replaced.

        A parameter whose value carries a sensitive parameter of its own, such as
        ``next=/reset%3Ftoken%3Dabc``, is replaced too. All else stays byte for byte.
        """
        return "&".join(map(self._parameter, query.split("&")))

    def scrub_text(self, text: str, secrets: Iterable[str] = ()) -> str:
        """The text without the known secrets and without what looks like one.

        Args:
            text: a message or ``repr``; best before it is cut, as a cut may halve a secret.
            secrets: known values; shorter than six characters only as whole words.
        """
        return KnownSecrets(secrets).leave(self._without_likely(text))

    def scrubber(self, secrets: Iterable[str]) -> Callable[[str], str]:
        """``scrub_text`` for many texts, prepared once for the secrets they must not show."""
        known = KnownSecrets(secrets)
        return lambda text: known.leave(self._without_likely(text))

    def _without_likely(self, text: str) -> str:
        if ")=(" in text:
            text = KEY_DETAIL.sub(self._key_detail, text)
        if "Failing row" in text:
            text = FAILING_ROW.sub(lambda row: f"{row[1]}{REDACTED}{row['end'] or ')'}", text)
        if "Duplicate entry" in text:
            text = DUPLICATE.sub(self._duplicate, text)
        if "' expected " in text:
            text = "".join(self._without_refused(text))
        for hint, pattern in REFUSED:
            if hint in text:
                text = pattern.sub(self._refused, text)
        if "://" in text:
            text = USERINFO.sub(REDACTED, text)
        if ":" in text or "=" in text:
            text = "".join(self._without_pairs(text))
        if "bearer" in text.lower():
            text = BEARER.sub(rf"\g<1>{REDACTED}", text)
        return text

    def _decide(self, name: str) -> bool:
        if name.strip().casefold() in self._plain:
            return False
        words = words_of(name)
        if len(words) == 1 and words[0] in WHOLE_NAMES:
            return True
        if any(map(self._is_sensitive_word, words)):
            return True
        return any(
            tuple(words[start : start + size]) in self._phrases
            for size in range(1, self._longest + 1)
            for start in range(len(words) - size + 1)
        )

    def _is_sensitive_word(self, word: str) -> bool:
        if INNOCENT.fullmatch(word):
            return False
        return (
            any(part in word for part in INSIDE)
            or word.startswith("session")
            or word.endswith(self._glued)
        )

    def _parameter(self, parameter: str) -> str:
        name, equals, value = parameter.partition("=")
        if not equals:
            return parameter
        inner = PARAMETER.findall(unquote_plus(value)) if value else []
        if any(map(self.is_sensitive, (unquote_plus(name), *inner))):
            return f"{name}={REDACTED}"
        return parameter

    def _key_detail(self, found: re.Match[str]) -> str:
        columns = [column.strip(' "') for column in COLUMN_ENDS.split(found["columns"])]
        if not any(map(self.is_sensitive, columns)):
            return found[0]
        return f"({found['columns']})=({REDACTED})"

    def _duplicate(self, found: re.Match[str]) -> str:
        if not self.is_sensitive(found["key"]):
            return found[0]
        return f"{found['head']}{REDACTED}{found['tail']}"

    def _refused(self, found: re.Match[str]) -> str:
        if not self.is_sensitive(found["name"]):
            return found[0]
        start, end = found.span("value")
        before, after = found.string[found.start() : start], found.string[end : found.end()]
        return f"{before}{REDACTED}{after}"

    def _without_refused(self, text: str) -> Iterator[str]:
        done = 0
        for found in EXPECTED.finditer(text):
            if found.start() >= done and self.is_sensitive(found["name"]):
                yield text[done : found.end()]
                yield REDACTED
                done = quoted_end(text, found.end())
        yield text[done:]

    def _without_pairs(self, text: str) -> Iterator[str]:
        done = 0
        for pair in PAIR.finditer(text):
            if pair.start() < done or not self._names_secret(text, pair):
                continue
            end = value_end(text, pair)
            if end > pair.end():
                yield text[done : pair.end()]
                yield REDACTED
                done = end
        yield text[done:]

    def _names_secret(self, text: str, pair: re.Match[str]) -> bool:
        name = pair["name"]
        if self.is_sensitive(name):
            return True
        if name.casefold() in self._plain:
            return False
        before = WORD_BEFORE.search(text[max(0, pair.start() - WORD_REACH) : pair.start()])
        if before is None or self.is_sensitive(before[1]):
            return False
        return self.is_sensitive(f"{before[1]} {name}")


_redactor_for: tuple[conf.Config, Redactor] | None = None


def redactor() -> Redactor:
    """The redactor of the present settings."""
    global _redactor_for  # noqa: PLW0603 - one for each parsed configuration
    config = conf.current()
    if _redactor_for is None or _redactor_for[0] is not config:
        _redactor_for = (
            config,
            Redactor(extra_names=config.SENSITIVE_NAMES, plain_names=config.PLAIN_NAMES),
        )
    return _redactor_for[1]
