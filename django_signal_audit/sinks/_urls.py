"""A sink's URL: read strictly, and never quoted where it may hold a secret.

A mistake in a URL is told by what is wrong and what to write. Of the URL itself a message shows
the number in its list, names that the sink knows, and values of options that are no secrets.
All else may be a piece of a password that was not percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from django_signal_audit import conf
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.redaction import Redactor
from django_signal_audit.sinks._converting import WrongValueError, annotations_of, convert
from django_signal_audit.sinks._secrets import HIDDEN, Secret, as_secret, is_address

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import Any

NUMBER: Final = "E030"
EXAMPLE: Final = "'file:///var/log/app/audit.jsonl'"

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):(?://(?P<authority>[^/?]*))?"
    r"(?P<path>[^?]*)(?:\?(?P<query>.*))?"
)
_SERVER: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.~%\-]*)(?::(?P<port>[0-9]{1,5}))?")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LAST_PORT: Final = 65_535
_ENCODE: Final = (
    "In user names, passwords and values write %40 for @, %2F for /, %3F for ?, %23 for #, "
    "%2C for a comma, %26 for & and %25 for %."
)
_PARTS: Final = {
    "username": "user name",
    "password": "password",
    "host": "host",
    "port": "port",
    "path": "path",
}
# Without the settings' own words: a URL is read while the settings are being made.
_redactor: Final = Redactor()


@dataclass(frozen=True, repr=False)
class SinkURL:
    """The parts of a sink's URL, percent-decoded.

    Attributes:
        origin: where the URL was written, for messages: ``"AUDIT_SINKS, URL 2"``.
        scheme: before the colon.
        username: before the ``@``; empty if there is none.
        password: the same.
        host: of the server; empty if there is none.
        port: of the server.
        path: with its leading slash, if it has one.
        parameters: of the query: name to values, in their order.
        variables: of the process's environment that hold the URL.
    """

    origin: str
    scheme: str
    username: str = ""
    password: str = ""
    host: str = ""
    port: int | None = None
    path: str = ""
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variables: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<SinkURL {HIDDEN} of {self.origin}>"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What of it nobody may see; in some URLs the path is the password."""
        said = (self.username, self.path, self.path.strip("/"), *self._passwords())
        return tuple(map(Secret, said))

    @property
    def has_password(self) -> bool:
        """Whether it holds a password, or a value that counts as one."""
        return any(self._passwords())

    def _passwords(self) -> Iterator[str]:
        yield self.password
        for name, values in self.parameters.items():
            yield from (value for value in values if is_sensitive(name, value))

    def error(self, problem: str, hint: str) -> AuditConfigurationError:
        """An error about this URL.

        Args:
            problem: what is wrong, as the end of a sentence that begins with where the URL
                stands; without anything that may be a secret.
            hint: what to write instead.
        """
        return AuditConfigurationError(f"{self.origin}: {problem}", hint=hint, number=NUMBER)

    def with_parameter(self, name: str, *values: str) -> SinkURL:
        """The URL with more values of a parameter."""
        said = {**self.parameters, name: (*self.parameters.get(name, ()), *values)}
        return replace(self, parameters=said)

    def with_host_as(self, name: str) -> SinkURL:
        """The URL with its host, if it has one, as a parameter."""
        return replace(self, host="").with_parameter(name, self.host) if self.host else self


@dataclass(frozen=True)
class WrongSink:
    """Stands in ``SINKS`` for a sink whose URL is wrong.

    Settings are read before checks can run. This carries the mistake to where sinks
    are built, so that it ends as a system check error, and no write goes unrecorded.

    Attributes:
        problem: what is wrong.
        hint: what to write instead.
    """

    problem: str
    hint: str

    def error(self) -> AuditConfigurationError:
        """The mistake as an error."""
        return AuditConfigurationError(self.problem, hint=self.hint, number=NUMBER)


def parse_url(origin: str, text: object) -> SinkURL:
    """Read a URL, stricter than browsers do: what could be a torn password is refused.

    Raises:
        AuditConfigurationError: saying what is wrong; it quotes nothing of the text.
    """
    blank = SinkURL(origin, "")
    if not isinstance(text, str):
        raise blank.error(
            f"a URL must be a text, not {type(text).__name__}.", f"Write one such as {EXAMPLE}."
        )
    text = text.strip()
    if not text:
        raise blank.error("it is empty.", f"Write a URL such as {EXAMPLE}, or take a comma away.")
    if _CONTROL.search(text):
        raise blank.error(
            "it holds a line break or another control character.", "Separate URLs by commas."
        )
    if "#" in text:
        raise blank.error("it holds a '#'.", _ENCODE)
    if _BAD_PERCENT.search(text):
        raise blank.error("it holds a '%' without two hexadecimal digits after it.", _ENCODE)
    found = _URL.fullmatch(text)
    if found is None:
        raise blank.error(
            "it does not begin with a scheme.",
            f"Write a URL such as {EXAMPLE}; a comma inside of a URL is written %2C.",
        )
    userinfo, _, server = (found["authority"] or "").rpartition("@")
    if "@" in userinfo or "@" in found["path"] or "@" in (found["query"] or ""):
        raise blank.error("it holds an '@' that does not end a user name and password.", _ENCODE)
    host, port = _server(blank, server)
    username, colon, password = userinfo.partition(":")
    if colon and not password:
        raise blank.error(
            "its password is empty.", "Write one, or take the colon before the '@' away."
        )
    return SinkURL(
        origin,
        found["scheme"],
        Secret(_decoded(blank, username)),
        Secret(_decoded(blank, password)),
        host,
        port,
        _decoded(blank, found["path"]),
        _parameters(blank, found["query"] or ""),
    )


def options_of(sink: type, url: SinkURL) -> dict[str, object]:
    """The options of a sink as the parts and parameters of a URL with their names say them.

    Args:
        sink: the sink's class.
        url: its URL; the keys of ``SINKS`` are not among its parameters.

    Returns:
        Option to value, converted by the annotations of ``__init__``.

    Raises:
        AuditConfigurationError: the URL says something that is no option, or says it twice, or
            says what the option cannot be.
    """
    known = annotations_of(sink)
    said = dict(url.parameters)
    hidden = set()
    for part, words in _PARTS.items():
        value = str(getattr(url, part) or "")
        if not value or (part == "path" and value == "/"):
            continue
        if known is not None and part not in known:
            raise url.error(
                f"{sink.__name__} takes no {words} in its URL.", _advice(sink, known, part)
            )
        said[part] = (*said.get(part, ()), value)
        if part not in {"host", "port"}:
            hidden.add(part)
    options: dict[str, object] = {}
    for name, values in said.items():
        if known is not None and name not in known:
            what = repr(name) if is_near(name, known) else "of a name that it gives after '?'"
            raise url.error(f"{sink.__name__} has no option {what}.", _advice(sink, known, name))
        options[name] = _value(
            sink, url, name, values, (known or {}).get(name, str), name in hidden
        )
    return options


def is_near(name: str, good: Collection[str]) -> bool:
    """Whether a wrong name resembles a good one, and may be shown.

    One that does not may be a piece of a secret.
    """
    return bool(get_close_matches(name.lower(), [one.lower() for one in good], n=1))


def is_sensitive(name: str, value: str) -> bool:
    """Whether a parameter is a secret, settings apart."""
    return _redactor.is_sensitive(name) or "@" in value or is_address(name, value)


def _advice(sink: type, known: Collection[str], name: str) -> str:
    return conf.nearest(name, known) if known else f"{sink.__name__} takes no options."


def _value(
    sink: type,
    url: SinkURL,
    name: str,
    values: Sequence[str],
    annotation: Any,
    hidden: bool,
) -> object:
    hidden = hidden or any(is_sensitive(name, value) for value in values)
    try:
        value = convert(values, annotation)
    except WrongValueError as exc:
        what = "said more than once" if len(values) > 1 else repr(values[0])
        raise url.error(
            f"option {name!r} of {sink.__name__} cannot be {HIDDEN if hidden else what}.", str(exc)
        ) from None
    return as_secret(value) if hidden else value


def _server(blank: SinkURL, server: str) -> tuple[str, int | None]:
    found = _SERVER.fullmatch(server)
    if found is None or int(found["port"] or 1) not in range(1, _LAST_PORT + 1):
        raise blank.error(
            "its host and port cannot be read.",
            f"Write host:port with a port from 1 to {_LAST_PORT}. {_ENCODE}",
        )
    host = _decoded(blank, found["host"]).removeprefix("[").removesuffix("]")
    return host, int(found["port"]) if found["port"] else None


def _parameters(blank: SinkURL, query: str) -> dict[str, tuple[str, ...]]:
    said: dict[str, tuple[str, ...]] = {}
    for piece in query.split("&"):
        if not piece:
            continue
        name, equals, value = piece.partition("=")
        if not name or not equals:
            raise blank.error(
                "a parameter after its '?' lacks its name or value.",
                f"Write ?name=value&name=value. {_ENCODE}",
            )
        name = _decoded(blank, name)
        said[name] = (*said.get(name, ()), _decoded(blank, value))
    return said


def _decoded(blank: SinkURL, text: str) -> str:
    # Not unquote_plus(): a plus is a plus, as it often is in a password.
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded = "\0"
    if _CONTROL.search(decoded):
        raise blank.error(
            "what is percent-encoded in it is no UTF-8, or a control character.", _ENCODE
        )
    return decoded
