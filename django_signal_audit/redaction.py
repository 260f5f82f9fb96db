"""Secrets stay out by default: which names are sensitive, and how their values leave a text."""

from __future__ import annotations

import html
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus, unquote_plus

from django_signal_audit import conf
from django_signal_audit.event import REDACTED
from django_signal_audit.exceptions import AuditConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_WORDS: Final = (  # noqa: SIM905 - reads better than one word per line
    "password passwd passphrase passcode passkey pwd secret token apikey credential cred "
    "authorization cookie session sessid csrf xsrf jwt otp totp hotp 2fa mfa cvv cvc pin ssn"
).split()
_PHRASES: Final = (  # noqa: SIM905
    "api key,private key,access key,secret key,signing key,encryption key,session key,"
    "master key,shared key,account key,license key,deploy key,ssh key,gpg key,pgp key,"
    "hmac key,aes key,rsa key,pass word,pass wd,pass phrase,pass code,user pass,db pass,"
    "database pass,smtp pass,email pass,credit card,debit card,card number,security code,"
    "security answer,verification code,confirmation code,auth code,recovery code,backup code,"
    "magic link,seed phrase,social security,session id,one time code"
).split(",")
# Unmistakable also inside a longer word, such as newpassword or accesstokenhash.
_INSIDE: Final = (  # noqa: SIM905
    "password passwd passphrase passcode passkey secret token apikey credential authorization "
    "privatekey secretkey accesskey signingkey encryptionkey creditcard csrf xsrf jwt sessionid "
    "sessid sessionkey"
).split()
_INNOCENT: Final = re.compile(
    r"secretar\w*|secret(?:ed?|ing|ion|ory|ive\w*|ly)|tokeni[sz]\w*|passwordless"
)
_WHOLE_NAMES: Final = frozenset({"auth", "pass"})

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS: Final = re.compile(r"[\W_]+")
_CACHED_NAMES: Final = 4096
_CACHED_LENGTH: Final = 200
_ANYWHERE_LENGTH: Final = 6
_PREFIX_LENGTH: Final = 4

_PARAMETER: Final = re.compile(r"([\w.\-\[\]]++)=")
# Any language: PostgreSQL translates the words around, not the brackets.
_KEY_DETAIL: Final = re.compile(
    r"\((?P<columns>[^=\n]{0,300})\)=\(.*?"
    r"(?:\)(?= already exists| is not present in| is still referenced| conflicts with"
    r"|\.?\s*\Z)|\Z)",
    re.DOTALL,
)
_COLUMN_ENDS: Final = re.compile(r"[,()]")
_FAILING_ROW: Final = re.compile(r"(Failing row contains \().*?(?P<end>\)\.?\s*)?\Z", re.DOTALL)
_DUPLICATE: Final = re.compile(
    r"(?P<head>Duplicate entry ')(?P<entry>.*?)(?P<tail>' for key '(?P<key>[^']*)')", re.DOTALL
)
_USERINFO: Final = re.compile(
    r"(?<=://)(?:[^\s/?#\"'<>]{1,1024}|[^\s/:@?#\"'<>]{0,256}:(?!\d+[/?#])[^\s@\"'<>]{0,256})(?=@)"
)
_BEARER: Final = re.compile(
    r"\b(Bearer\s+)(?:(?=[^\s\d]*\d)[\w.~+/=\-]{6,}|[\w.~+/=\-]{16,})", re.IGNORECASE
)
_PAIR: Final = re.compile(
    r"(?<![\w.\-])(?P<name>[\w.\-]++)\\*[\"']?\]?\s*(?P<sign>=>|==?|:(?!:))\s*"
)
_WORD_BEFORE: Final = re.compile(r"(\w+)[ ]\Z")
_WORD_REACH: Final = 32
_HEADERS: Final = frozenset({"authorization", "cookie"})
_TO_LINE_END: Final = re.compile(r"[^\r\n]+")
_NOTHING: Final = re.compile(r"(?:None|null)\b")
_QUOTED: Final = re.compile(
    r"(?:[bBuUrR]{0,2})(?:(?P<escaped>\\+[\"']).*?(?:(?P=escaped)|\Z)"
    r"|(?P<plain>[\"'])(?:\\.|(?!(?P=plain))[^\\])*+(?:(?P=plain)|\\?\Z))",
    re.DOTALL,
)
_UNQUOTED: Final = re.compile(r"(?:(?:Bearer|Basic|Digest|Token)\s+)?[^\s&]*[^\s&,.;:)\]}>\"']")
_CUT_TAIL: Final = re.compile(r"\.\.\.\[\+\d+\]\Z")


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
        phrases = {tuple(_words(name)) for name in (*_WORDS, *_PHRASES, *extra_names)} - {()}
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
        if ")=(" in text:
            text = _KEY_DETAIL.sub(self._key_detail, text)
        if "Failing row" in text:
            text = _FAILING_ROW.sub(lambda row: f"{row[1]}{REDACTED}{row['end'] or ')'}", text)
        if "Duplicate entry" in text:
            text = _DUPLICATE.sub(self._duplicate, text)
        if "://" in text:
            text = _USERINFO.sub(REDACTED, text)
        if ":" in text or "=" in text:
            text = "".join(self._without_pairs(text))
        text = _BEARER.sub(rf"\g<1>{REDACTED}", text)
        return _without_known(text, secrets)

    def _decide(self, name: str) -> bool:
        if name.strip().casefold() in self._plain:
            return False
        words = _words(name)
        if len(words) == 1 and words[0] in _WHOLE_NAMES:
            return True
        if any(map(self._is_sensitive_word, words)):
            return True
        return any(
            tuple(words[start : start + size]) in self._phrases
            for size in range(1, self._longest + 1)
            for start in range(len(words) - size + 1)
        )

    def _is_sensitive_word(self, word: str) -> bool:
        if _INNOCENT.fullmatch(word):
            return False
        return (
            any(part in word for part in _INSIDE)
            or word.startswith("session")
            or word.endswith(self._glued)
        )

    def _parameter(self, parameter: str) -> str:
        name, equals, value = parameter.partition("=")
        if not equals:
            return parameter
        inner = _PARAMETER.findall(unquote_plus(value)) if value else []
        if any(map(self.is_sensitive, (unquote_plus(name), *inner))):
            return f"{name}={REDACTED}"
        return parameter

    def _key_detail(self, found: re.Match[str]) -> str:
        columns = [column.strip(' "') for column in _COLUMN_ENDS.split(found["columns"])]
        if not any(map(self.is_sensitive, columns)):
            return found[0]
        return f"({found['columns']})=({REDACTED})"

    def _duplicate(self, found: re.Match[str]) -> str:
        if not self.is_sensitive(found["key"]):
            return found[0]
        return f"{found['head']}{REDACTED}{found['tail']}"

    def _without_pairs(self, text: str) -> Iterator[str]:
        done = 0
        for pair in _PAIR.finditer(text):
            if pair.start() < done or not self._names_secret(text, pair):
                continue
            end = _value_end(text, pair)
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
        before = _WORD_BEFORE.search(text[max(0, pair.start() - _WORD_REACH) : pair.start()])
        if before is None or self.is_sensitive(before[1]):
            return False
        return self.is_sensitive(f"{before[1]} {name}")


def _words(name: str) -> list[str]:
    """The words of a name: lower case, in the singular, without trailing digits."""
    parts = _SEPARATORS.split(_CAMEL.sub("_", name).casefold())
    return [_singular(part.rstrip("0123456789") or part) for part in parts if part]


def _singular(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _value_end(text: str, pair: re.Match[str]) -> int:
    """Where the value of a ``name: value`` pair ends; rather too far than too early."""
    start = pair.end()
    if start == len(text) or _NOTHING.match(text, start):
        return start
    if text[start] in "([{":
        return _closing(text, start)
    quoted = _QUOTED.match(text, start)
    if quoted:
        return quoted.end()
    whole_line = pair["sign"] == ":" and not _HEADERS.isdisjoint(_words(pair["name"]))
    value = (_TO_LINE_END if whole_line else _UNQUOTED).match(text, start)
    return value.end() if value else start


def _closing(text: str, start: int) -> int:
    depth = 0
    for position in range(start, len(text)):
        if text[position] in "([{":
            depth += 1
        elif text[position] in ")]}":
            depth -= 1
            if depth == 0:
                return position + 1
    return len(text)


def _without_known(text: str, secrets: Iterable[str]) -> str:
    known = sorted({secret for secret in secrets if secret.strip()}, key=len, reverse=True)
    if not known or not text:
        return text
    # What is redacted already stays as it is, whatever the secrets are.
    patterns = [re.escape(REDACTED)]
    for secret in known:
        present = sorted((form for form in _forms(secret) if form in text), key=len, reverse=True)
        anywhere = len(secret) >= _ANYWHERE_LENGTH
        patterns += [
            re.escape(form) if anywhere else rf"(?<!\w){re.escape(form)}(?!\w)" for form in present
        ]
    if len(patterns) > 1:
        text = re.sub("|".join(patterns), REDACTED, text)
    return _without_halves(text, known)


def _without_halves(text: str, known: list[str]) -> str:
    """Without the beginning of a secret at the very place where the text was cut."""
    tail = _CUT_TAIL.search(text)
    if tail is None:
        return text
    body = text[: tail.start()]
    for secret in known:
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
