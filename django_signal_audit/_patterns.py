"""What names of secrets are made of, and what a text looks like where it shows a secret."""

from __future__ import annotations

import re
from typing import Final

WORDS: Final = (  # noqa: SIM905 - reads better than one word per line
    "password passwd passphrase passcode passkey pwd secret token apikey credential cred "
    "authorization cookie session sessid csrf xsrf jwt otp totp hotp 2fa mfa cvv cvc pin ssn"
).split()
PHRASES: Final = (  # noqa: SIM905
    "api key,private key,access key,secret key,signing key,encryption key,session key,"
    "master key,shared key,account key,license key,deploy key,ssh key,gpg key,pgp key,"
    "hmac key,aes key,rsa key,pass word,pass wd,pass phrase,pass code,user pass,db pass,"
    "database pass,smtp pass,email pass,credit card,debit card,card number,security code,"
    "security answer,verification code,confirmation code,auth code,recovery code,backup code,"
    "magic link,seed phrase,social security,session id,one time code"
).split(",")
# Unmistakable also inside a longer word, such as newpassword or accesstokenhash.
INSIDE: Final = (  # noqa: SIM905
    "password passwd passphrase passcode passkey secret token apikey credential authorization "
    "privatekey secretkey accesskey signingkey encryptionkey creditcard csrf xsrf jwt sessionid "
    "sessid sessionkey"
).split()
INNOCENT: Final = re.compile(
    r"secretar\w*|secret(?:ed?|ing|ion|ory|ive\w*|ly)|tokeni[sz]\w*|passwordless"
)
WHOLE_NAMES: Final = frozenset({"auth", "pass"})

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS: Final = re.compile(r"[\W_]+")

PARAMETER: Final = re.compile(r"([\w.\-\[\]]++)=")
# Any language: PostgreSQL translates the words around, not the brackets.
KEY_DETAIL: Final = re.compile(
    r"\((?P<columns>[^=\n]{0,300})\)=\(.*?"
    r"(?:\)(?= already exists| is not present in| is still referenced| conflicts with"
    r"|\.?\s*\Z)|\Z)",
    re.DOTALL,
)
COLUMN_ENDS: Final = re.compile(r"[,()]")
FAILING_ROW: Final = re.compile(r"(Failing row contains \().*?(?P<end>\)\.?\s*)?\Z", re.DOTALL)
DUPLICATE: Final = re.compile(
    r"(?P<head>Duplicate entry ')(?P<entry>.*?)(?P<tail>' for key '(?P<key>[^']*)')", re.DOTALL
)
# Django and MySQL say which value a field refused. Django: "Field 'x' expected a number but got".
EXPECTED: Final = re.compile(
    r"\bField \\*'(?P<name>[^'\\\n]{1,200})\\*' expected [^\n]{1,80}? but got "
)
REFUSED: Final = (
    (
        "Cannot assign",
        re.compile(
            r"Cannot assign \\*\"(?P<value>.*?)\\*\": "
            r"\\*\"(?:\w{1,200}\.){0,9}(?P<name>\w{1,200})\\*\" must be ",
            re.DOTALL,
        ),
    ),
    (
        "Cannot query",
        re.compile(
            r"Cannot query \\*\"(?P<value>.*?)\\*\": "
            r"Must be \\*\"(?P<name>\w{1,200})\\*\" instance",
            re.DOTALL,
        ),
    ),
    (
        " instance with ",
        re.compile(
            r" instance with (?P<name>\w{1,200}) (?P<value>.*?) (?:does not exist|is not a valid)",
            re.DOTALL,
        ),
    ),
    (
        "ncorrect ",
        re.compile(
            r"ncorrect [\w ]{1,40} value: '(?P<value>.*?)' for column "
            r"[`'\"]?(?:\w{1,200}[`'\"]?\.[`'\"]?){0,2}(?P<name>\w{1,200})",
            re.DOTALL,
        ),
    ),
)
USERINFO: Final = re.compile(
    r"(?<=://)(?:[^\s/?#\"'<>]{1,1024}|[^\s/:@?#\"'<>]{0,256}:(?!\d+[/?#])[^\s@\"'<>]{0,256})(?=@)"
)
BEARER: Final = re.compile(
    r"\b(Bearer\s+)(?:(?=[^\s\d]*\d)[\w.~+/=\-]{6,}|[\w.~+/=\-]{16,})", re.IGNORECASE
)
PAIR: Final = re.compile(
    r"(?<![\w.\-])(?P<name>[\w.\-]++)\\*[\"']?\]?\s*(?P<sign>=>|==?|:(?!:))\s*"
)
WORD_BEFORE: Final = re.compile(r"(\w+)[ ]\Z")
WORD_REACH: Final = 32
_HEADERS: Final = frozenset({"authorization", "cookie"})
_TO_LINE_END: Final = re.compile(r"[^\r\n]+")
_NOTHING: Final = re.compile(r"(?:None|null)\b")
_QUOTED: Final = re.compile(
    r"(?:[bBuUrR]{0,2})(?:(?P<escaped>\\+[\"']).*?(?:(?P=escaped)|\Z)"
    r"|(?P<plain>[\"'])(?:\\.|(?!(?P=plain))[^\\])*+(?:(?P=plain)|\\?\Z))",
    re.DOTALL,
)
_BEFORE_QUOTED: Final = frozenset("([{,:= ")
_SENTENCE_ENDS: Final = " \r\n.'\")]}"
_UNQUOTED: Final = re.compile(r"(?:(?:Bearer|Basic|Digest|Token)\s+)?[^\s&]*[^\s&,.;:)\]}>\"']")


def words_of(name: str) -> list[str]:
    """The words of a name: lower case, in the singular, without trailing digits."""
    parts = _SEPARATORS.split(_CAMEL.sub("_", name).casefold())
    return [_singular(part.rstrip("0123456789") or part) for part in parts if part]


def _singular(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def value_end(text: str, pair: re.Match[str]) -> int:
    """Where the value of a ``name: value`` pair ends; rather too far than too early."""
    start = pair.end()
    if start == len(text) or _NOTHING.match(text, start):
        return start
    if text[start] in "([{":
        return _closing(text, start)
    quoted = _QUOTED.match(text, start)
    if quoted:
        return quoted.end()
    whole_line = pair["sign"] == ":" and not _HEADERS.isdisjoint(words_of(pair["name"]))
    value = (_TO_LINE_END if whole_line else _UNQUOTED).match(text, start)
    return value.end() if value else start


def quoted_end(text: str, start: int) -> int:
    """Where a value ends that a sentence shows by its ``repr``; rather too far than too early."""
    if start < len(text) and text[start] in "([{":
        return _closing(text, start)
    quoted = _QUOTED.match(text, start)
    return quoted.end() if quoted else max(start, len(text.rstrip(_SENTENCE_ENDS)))


def _closing(text: str, start: int) -> int:
    depth = 0
    position = start
    while position < len(text):
        character = text[position]
        # A bracket inside a quoted text closes nothing; the apostrophe of a word opens none.
        if character in "\"'\\" and text[position - 1] in _BEFORE_QUOTED:
            quoted = _QUOTED.match(text, position)
            if quoted:
                position = quoted.end()
                continue
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return len(text)
