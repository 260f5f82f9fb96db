from __future__ import annotations

import contextlib
import importlib
import os
import pprint
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin
from urllib.parse import quote

import environ
import pytest
from django.core import checks
from django.test import RequestFactory, override_settings
from django.views.debug import ExceptionReporter
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from django_signal_audit import sinks
from django_signal_audit.checks import check_settings
from django_signal_audit.environ import (
    shipped_sinks,
    sink_from_url,
    sinks_from_env,
    sinks_from_urls,
)
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks import Sink, SinkURL, routing
from django_signal_audit.sinks._converting import annotations_of
from django_signal_audit.sinks._urls import parse_url
from tests.testapp.models import Author

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "django_signal_audit.sinks.DatabaseSink"
FILE = "django_signal_audit.sinks.FileSink"
MEMORY = "django_signal_audit.sinks.MemorySink"
STDOUT = "django_signal_audit.sinks.StdoutSink"
HERE = __name__


class Broker(Sink):
    """Takes every part of a URL, and options of every type."""

    def __init__(
        self,
        config,
        *,
        username: str = "",
        password: str = "",
        host: str = "localhost",
        port: int = 9092,
        path: str = "",
        acks: int | Literal["all"] = 1,
        idempotent: bool = False,
        linger: float = 0.0,
        token: str | None = None,
        tokens: frozenset[str] = frozenset(),
        servers: list[str] | None = None,
        partitions: tuple[int, ...] = (),
        cache: Path | None = None,
        dsn: str = "",
        ratio: NotKnownHere = None,  # noqa: F821 - as a name that is imported for type checkers
        plain=None,
    ):
        super().__init__(config)
        self.said = {k: v for k, v in locals().items() if k not in {"self", "config", "__class__"}}


class Leaky(Broker):
    def __init__(
        self,
        config,
        *,
        username: str = "",
        password: str = "",
        host: str = "",
        port: int = 0,
        path: str = "",
        token: str = "",
    ):
        cause = OSError(f"refused {username} {password} {path}")
        raise ValueError(f"no broker at {host}{path} for {token}") from cause


class Anything(Sink):
    def __init__(self, config, **options):
        super().__init__(config)
        self.said = options


class Renaming(Sink):
    def __init__(self, config, *, topic: str):
        super().__init__(config)
        self.topic = topic

    @classmethod
    def options_from_url(cls, url):
        if "/" in url.path.strip("/"):
            raise url.error("a topic has no slash.", "Write kafka://host/topic.")
        return {"topic": url.path.strip("/")}


class Webhook(Sink):
    def __init__(self, config, *, address, header):
        raise AuditConfigurationError(f"{address} refused", hint=f"Not {header}?", number="E999")

    @classmethod
    def options_from_url(cls, url):
        return {
            "address": f"https://{url.host}{url.path}",
            "header": f"Basic {url.username}:{url.password} {url.parameters.get('token')}",
        }


class Clumsy(Sink):
    @classmethod
    def options_from_url(cls, url):
        raise KeyError(url.password)


def options(url):
    """The options of the only sink, as it gets them."""
    (entry,) = sinks_from_urls([url]).values()
    return entry.get("OPTIONS", {})


def built(url):
    return routing.build_route("x", sink_from_url(url)).sink


def mistake(said):
    """Problem and hint of the only mistake that the checks find in these sinks."""
    with override_settings(SIGNAL_AUDIT={"SINKS": said}):
        (found,) = check_settings()
    assert isinstance(found, checks.Error)
    assert found.id == "django_signal_audit.E030"
    return found.msg, found.hint


# What a URL says


def test_urls_separated_by_commas_are_the_sinks():
    text = "database://, file:///var/log/app/audit.jsonl ,stdout://?format=text"
    assert sinks_from_urls(text) == {
        "database": {"BACKEND": DATABASE},
        "file": {"BACKEND": FILE, "OPTIONS": {"path": "/var/log/app/audit.jsonl"}},
        "stdout": {"BACKEND": STDOUT, "FORMAT": "text"},
    }
    assert sinks_from_urls(text.split(",")) == sinks_from_urls(text)


def test_each_shipped_sink_has_a_scheme():
    shipped = {one for one in vars(sinks).values() if isinstance(one, type)} - {
        sinks.SinkConfig,
        SinkURL,
        Sink,
        sinks.TransactionalSink,
    }
    assert set(shipped_sinks().values()) == shipped
    for scheme in ("database", "file", "memory", "stdout", "stderr"):
        assert scheme in shipped_sinks()


def test_a_new_module_of_sinks_is_a_scheme(tmp_path, monkeypatch):
    (tmp_path / "pigeon.py").write_text(
        "from django_signal_audit.sinks import MemorySink\n"
        "class PigeonSink(MemorySink):\n"
        "    'Sends events by pigeon.'\n"
    )
    monkeypatch.setattr(sinks, "__path__", [*sinks.__path__, str(tmp_path)])
    shipped_sinks.cache_clear()
    try:
        said = sinks_from_urls("pigeon://?capacity=2")
        module = importlib.import_module("django_signal_audit.sinks.pigeon")
        with override_settings(SIGNAL_AUDIT={"SINKS": said}):
            assert type(routing.all_routes()[0].sink) is module.PigeonSink
    finally:
        shipped_sinks.cache_clear()
        sys.modules.pop("django_signal_audit.sinks.pigeon")
        del sinks.pigeon
    assert said == {
        "pigeon": {
            "BACKEND": "django_signal_audit.sinks.pigeon.PigeonSink",
            "OPTIONS": {"capacity": 2},
        }
    }


def samples(annotation):
    """Texts for an option, and the values they are."""
    kind = get_origin(annotation)
    if kind in {Union, UnionType}:
        return [pair for one in get_args(annotation) for pair in samples(one)]
    if kind is Literal:
        return [(str(one), one) for one in get_args(annotation)]
    if kind in {list, tuple} or annotation in {list, tuple}:
        return [("a,b", (kind or annotation)(["a", "b"]))]
    known = {
        NoneType: [("none", None), ("None", None)],
        bool: [("true", True), ("off", False), ("1", True), ("No", False)],
        int: [("5", 5), ("-1", -1)],
        float: [("2.5", 2.5), ("3", 3.0)],
    }
    return known.get(annotation, [("some.name", "some.name")])


SETTABLE = [
    (scheme, option, text, value)
    for scheme, sink in shipped_sinks().items()
    for option, annotation in annotations_of(sink).items()
    for text, value in samples(annotation)
    if scheme != "stderr"
]


@pytest.mark.parametrize(("scheme", "option", "text", "value"), SETTABLE)
def test_each_option_of_each_shipped_sink_can_be_set(scheme, option, text, value):
    if option == "mode":
        text, value = "600", 0o600
    path = "" if option == "path" else "/a" if scheme == "file" else ""
    found = options(f"{scheme}:{path}?{option}={text}")
    assert (found[option], type(found[option])) == (value, type(value))


def test_no_option_of_a_shipped_sink_has_the_name_of_a_key():
    keys = {"alias", *(key.lower() for key in routing.KEYS)}
    assert {
        (sink.__name__, option)
        for sink in shipped_sinks().values()
        for option in annotations_of(sink)
        if option in keys
    } == set()


def test_each_key_of_sinks_can_be_set():
    assert sinks_from_urls(
        "stdout://?alias=out&format=text&level=info&on_error=log&events=auth.*&events=http.*"
        "&models=auth.*%2Cshop.*&processors=shop.audit.add_host"
    ) == {
        "out": {
            "BACKEND": STDOUT,
            "FORMAT": "text",
            "LEVEL": "info",
            "ON_ERROR": "log",
            "EVENTS": ["auth.*", "http.*"],
            "MODELS": ["auth.*", "shop.*"],
            "PROCESSORS": ["shop.audit.add_host"],
        }
    }
    assert set(routing.KEYS) == {
        *("BACKEND", "OPTIONS", "FORMAT", "LEVEL", "ON_ERROR"),
        *("EVENTS", "MODELS", "PROCESSORS"),
    }


def test_an_empty_list_of_events_is_no_event_and_blanks_are_nothing():
    (said,) = sinks_from_urls("memory://?events=&models= a.b %2C ").values()
    assert said == {"BACKEND": MEMORY, "EVENTS": [], "MODELS": ["a.b"]}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///var/log/x.jsonl", "/var/log/x.jsonl"),
        ("file://localhost/var/log/x.jsonl", "/var/log/x.jsonl"),
        ("file:/var/log/x.jsonl", "/var/log/x.jsonl"),
        ("file://./x.jsonl", "./x.jsonl"),
        ("file://../logs/x.jsonl", "../logs/x.jsonl"),
        ("file:x.jsonl", "x.jsonl"),
        ("file:logs/x.jsonl", "logs/x.jsonl"),
        ("file:?path=logs/x.jsonl", "logs/x.jsonl"),
        ("file:///a%20b/100%25/%C3%A9%2C%23%3F+.jsonl", "/a b/100%/é,#?+.jsonl"),
        ("file:///a b/x.jsonl", "/a b/x.jsonl"),
        ("FILE:///Logs/X.jsonl", "/Logs/X.jsonl"),
    ],
)
def test_paths_of_files(url, path):
    assert options(url) == {"path": path}


@pytest.mark.parametrize("mode", ["640", "0640", "0o640"])
def test_permissions_are_octal(mode):
    assert options(f"file:///a?mode={mode}")["mode"] == 0o640


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("database://audit_trail", {"database": "audit_trail"}),
        ("database://Audit?forward=command", {"database": "Audit", "forward": "command"}),
        ("logger://shop.audit", {"logger": "shop.audit"}),
    ],
)
def test_the_host_is_the_alias_of_a_database_or_the_name_of_a_logger(url, options):
    (said,) = sinks_from_urls(url).values()
    assert said["OPTIONS"] == options


def test_the_reference_names_each_scheme():
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert [scheme for scheme in shipped_sinks() if f"`{scheme}://" not in page] == []


def test_stderr_is_a_stream_of_the_stdout_sink():
    assert sinks_from_urls("stderr://") == {
        "stderr": {"BACKEND": STDOUT, "OPTIONS": {"stream": "stderr"}}
    }


@pytest.mark.parametrize("url", ["memory:", "memory://", "memory:/", "memory:///", "memory:?&"])
def test_a_sink_without_options_may_be_written_in_many_ways(url):
    assert sinks_from_urls(url) == {"memory": {"BACKEND": MEMORY}}


def test_one_url_is_one_entry():
    assert sink_from_url("memory://?capacity=5&level=info") == {
        "BACKEND": MEMORY,
        "LEVEL": "info",
        "OPTIONS": {"capacity": 5},
    }


# Sinks of the user's own


def test_a_sink_of_ones_own_gets_the_parts_and_parameters_as_options():
    sink = built(
        "kafka://app:p%40ss%2C%3A%2F%3F%23%25+w@broker.example:9093/audit"
        f"?backend={HERE}.Broker&acks=all&idempotent=yes&linger=.5&token=none"
        "&servers=a:1%2C b:2&servers=c:3&partitions=1&partitions=2&cache=/c&ratio=2&plain=3"
        "&tokens=x&tokens=y&dsn=postgres://u:p%40h"
    )
    assert sink.said == {
        "username": "app",
        "password": "p@ss,:/?#%+w",
        "host": "broker.example",
        "port": 9093,
        "path": "/audit",
        "acks": "all",
        "idempotent": True,
        "linger": 0.5,
        "token": None,
        "tokens": frozenset({"x", "y"}),
        "servers": ["a:1", "b:2", "c:3"],
        "partitions": (1, 2),
        "cache": Path("/c"),
        "dsn": "postgres://u:p@h",
        "ratio": "2",
        "plain": "3",
    }
    assert repr(sink.said["password"]) == repr(sink.said["dsn"]) == "'***'"
    assert repr(sink.said["tokens"]).count("***") == 2


def test_secrets_are_texts_like_any_other():
    secret = built(f"kafka://:pass@h?backend={HERE}.Broker").said["password"]
    assert (secret, f"{secret}!", len(secret)) == ("pass", "pass!", 4)
    assert isinstance(secret, str)


def test_numbers_of_hosts():
    sink = built(f"kafka://[::1]:9/?backend={HERE}.Broker")
    assert (sink.said["host"], sink.said["port"], sink.said["path"]) == ("::1", 9, "")


def test_a_sink_that_takes_any_option_gets_texts():
    sink = built(f"kafka://h:1/t?backend={HERE}.Anything&acks=1")
    assert sink.said == {"acks": "1", "host": "h", "port": "1", "path": "/t"}


def test_a_sink_may_read_its_url_itself():
    assert built(f"kafka://h/orders?backend={HERE}.Renaming").topic == "orders"
    said = sinks_from_urls(f"memory:,kafka://h/a/b?backend={HERE}.Renaming")
    assert mistake(said) == ("SINKS, URL 2: a topic has no slash.", "Write kafka://host/topic.")


def test_a_sink_that_cannot_read_its_url_says_no_more_than_that():
    secret = "hunter" * 2
    with pytest.raises(AuditConfigurationError) as caught:
        built(f"kafka://:{secret}@h?backend={HERE}.Clumsy")
    assert str(caught.value) == (
        "sink_from_url(): Clumsy.options_from_url() raised KeyError. "
        "Let it raise url.error(problem, hint) where the URL is wrong."
    )
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_a_sink_of_ones_own_is_not_imported_while_settings_are_read():
    (said,) = sinks_from_urls("kafka://h?backend=nowhere.at.All&format=text").values()
    assert said["BACKEND"] == "nowhere.at.All"
    assert said["FORMAT"] == "text"
    assert "***" in repr(said["OPTIONS"])


def test_a_url_can_be_extended_by_its_sink():
    url = SinkURL("here", "kafka", host="h")
    assert url.with_host_as("database").parameters == {"database": ("h",)}
    assert url.with_host_as("database").host == ""
    assert url.with_host_as("a").with_host_as("a").parameters == {"a": ("h",)}
    assert url.with_parameter("a", "1").with_parameter("a", "2").parameters == {"a": ("1", "2")}
    assert url.parameters == {}


# Mistakes

ENCODE = (
    "In user names, passwords and values write %40 for @, %2F for /, %3F for ?, %23 for #, "
    "%2C for a comma, %26 for & and %25 for %."
)
OWN = "A sink of your own is named by ?backend=myapp.sinks.MySink."
SCHEMES = ", ".join(repr(scheme) for scheme in sorted(shipped_sinks()))
EXAMPLE = "'file:///var/log/app/audit.jsonl'"
SLASHES = (
    "Write three slashes before an absolute path, file:///var/log/app/audit.jsonl, and one dot "
    "before a relative one, file://./audit.jsonl."
)

MISTAKES = [
    ("", "it is empty.", f"Write a URL such as {EXAMPLE}, or take a comma away."),
    (
        "database://\nstdout://",
        "it holds a line break or another control character.",
        "Separate URLs by commas.",
    ),
    ("file:///a#b", "it holds a '#'.", ENCODE),
    ("file:///a%b", "it holds a '%' without two hexadecimal digits after it.", ENCODE),
    (
        "file:///a%FF",
        "what is percent-encoded in it is no UTF-8, or a control character.",
        ENCODE,
    ),
    (
        "file:///a%00",
        "what is percent-encoded in it is no UTF-8, or a control character.",
        ENCODE,
    ),
    (
        "/var/log/audit.jsonl",
        "it does not begin with a scheme.",
        f"Write a URL such as {EXAMPLE}; a comma inside of a URL is written %2C.",
    ),
    (
        "kafka://user:pa/ss@host",
        "it holds an '@' that does not end a user name and password.",
        ENCODE,
    ),
    (
        "kafka://user:pa?ss@host",
        "it holds an '@' that does not end a user name and password.",
        ENCODE,
    ),
    (
        "kafka://user:pa@ss@host",
        "it holds an '@' that does not end a user name and password.",
        ENCODE,
    ),
    (
        "kafka://user:@host",
        "its password is empty.",
        "Write one, or take the colon before the '@' away.",
    ),
    (
        "kafka://host:port",
        "its host and port cannot be read.",
        f"Write host:port with a port from 1 to 65535. {ENCODE}",
    ),
    (
        "database://audit;x",
        "its host and port cannot be read.",
        f"Write host:port with a port from 1 to 65535. {ENCODE}",
    ),
    (
        "kafka://host:65536",
        "its host and port cannot be read.",
        f"Write host:port with a port from 1 to 65535. {ENCODE}",
    ),
    (
        "kafka://host:0",
        "its host and port cannot be read.",
        f"Write host:port with a port from 1 to 65535. {ENCODE}",
    ),
    (
        "memory://?capacity",
        "a parameter after its '?' lacks its name or value.",
        f"Write ?name=value&name=value. {ENCODE}",
    ),
    ("fiel:///a", "no sink has the scheme 'fiel'.", f"Did you mean 'file'? {OWN}"),
    ("syslog://", "no sink has its scheme.", f"Choose one of {SCHEMES}. {OWN}"),
    ("file://", "it has no path.", "Write the path of a file: file:///var/log/app/audit.jsonl."),
    ("file://var/log/a", "it names a host, and a file has none.", SLASHES),
    (
        "file:///a?path=b",
        "option 'path' of FileSink cannot be said more than once.",
        "Write it once.",
    ),
    (
        "file:///a?mode=rw",
        "option 'mode' of FileSink cannot be 'rw'.",
        "Write permissions in octal digits, such as 640.",
    ),
    (
        "file:///a?fsync=sometimes",
        "option 'fsync' of FileSink cannot be 'sometimes'.",
        "Write 'never', 'interval' or 'commit'.",
    ),
    (
        "file:///a?fsync_interval=soon",
        "option 'fsync_interval' of FileSink cannot be 'soon'.",
        "Write a number.",
    ),
    (
        "file:///a?fsync_interval=inf",
        "option 'fsync_interval' of FileSink cannot be 'inf'.",
        "Write a number.",
    ),
    ("file:///a?fsink=never", "FileSink has no option 'fsink'.", "Did you mean 'fsync'?"),
    ("memory://h", "MemorySink takes no host in its URL.", "Choose one of 'capacity'."),
    ("memory://:x@", "MemorySink takes no password in its URL.", "Choose one of 'capacity'."),
    ("memory:///a", "MemorySink takes no path in its URL.", "Choose one of 'capacity'."),
    (
        "memory://?capacity=many",
        "option 'capacity' of MemorySink cannot be 'many'.",
        "Write a whole number or none.",
    ),
    (
        "memory://?capacity=1&capacity=2",
        "option 'capacity' of MemorySink cannot be said more than once.",
        "Write it once.",
    ),
    (
        "memory://?colour=red",
        "MemorySink has no option of a name that it gives after '?'.",
        "Choose one of 'capacity'.",
    ),
    (
        "memory://?alias=a b",
        "'a b' cannot be an alias.",
        "Write letters, digits, dots, hyphens, underscores.",
    ),
    ("memory://?level=info&level=error", "'level' is given more than once.", "Write it once."),
    (
        "stderr://?stream=stdout",
        "option 'stream' of StdoutSink cannot be said more than once.",
        "Write it once.",
    ),
    (
        f"kafka://h?backend={HERE}.Broker&idempotent=maybe",
        "option 'idempotent' of Broker cannot be 'maybe'.",
        "Write true or false.",
    ),
    (
        f"kafka://h?backend={HERE}.Broker&partitions=1%2Ctwo",
        "option 'partitions' of Broker cannot be '1,two'.",
        "Write a whole number.",
    ),
    (
        f"kafka://h?backend={HERE}.Broker&acks=some",
        "option 'acks' of Broker cannot be 'some'.",
        "Write a whole number or 'all'.",
    ),
]


@pytest.mark.parametrize(("url", "problem", "hint"), MISTAKES, ids=[one[0] for one in MISTAKES])
def test_a_mistake_is_a_check_error_and_names_what_to_write(url, problem, hint):
    assert mistake(sinks_from_urls(f"database://,{url}", "AUDIT_SINKS")) == (
        f"AUDIT_SINKS, URL 2: {problem}",
        hint,
    )


def test_what_is_no_text_is_a_mistake_too():
    assert mistake({"a": sink_from_url(None)}) == (
        "sink_from_url(): a URL must be a text, not NoneType.",
        f"Write one such as {EXAMPLE}.",
    )


def test_the_alias_of_one_url_is_its_key():
    assert mistake({"a": sink_from_url("memory://?alias=b")}) == (
        "sink_from_url(): MemorySink has no option of a name that it gives after '?'.",
        "Choose one of 'capacity'.",
    )


def test_two_sinks_of_one_alias_are_a_mistake_that_names_both():
    said = sinks_from_urls("file:///a,database:,file:///b", "AUDIT_SINKS")
    assert list(said) == ["file", "database", "AUDIT_SINKS, URL 3"]
    said["file"]["OPTIONS"]["path"] = os.devnull.replace("null", "shm/x")
    with override_settings(SIGNAL_AUDIT={"SINKS": {**said, "file": {"BACKEND": MEMORY}}}):
        assert check_settings() == [
            checks.Error(
                "AUDIT_SINKS, URL 3: the alias 'file' is that of URL 1 already.",
                hint="Give one of the two a name of its own: ?alias=...",
                id="django_signal_audit.E030",
            )
        ]


def test_a_wrong_sink_keeps_its_alias_and_its_mistake_where_settings_change_it():
    said = sinks_from_urls("file://var/log/x")
    said["file"]["EVENTS"] = ["auth.*"]
    assert mistake({**said, "file": {**said["file"], "LEVEL": "info"}})[1] == SLASHES


def test_all_mistakes_are_found_at_once():
    with override_settings(SIGNAL_AUDIT={"SINKS": sinks_from_urls("file:,fiel:,memory://h")}):
        assert [one.id for one in check_settings()] == ["django_signal_audit.E030"] * 3


@pytest.mark.django_db(transaction=True)
def test_no_write_goes_unrecorded_while_a_url_is_wrong():
    with (
        override_settings(SIGNAL_AUDIT={"SINKS": sinks_from_urls("database:,memry:")}),
        pytest.raises(AuditConfigurationError, match="Did you mean 'memory'"),
    ):
        Author.objects.create(name="a")
    assert not Author.objects.exists()


# The variable


class Env(environ.Env):
    ENVIRON: dict[str, str] = {}  # noqa: RUF012 - django-environ's


@pytest.fixture
def env(monkeypatch):
    monkeypatch.setattr(Env, "ENVIRON", {})
    return Env()


def test_a_variable_is_read_through_django_environ(env):
    env.ENVIRON |= {"AUDIT_SINKS": "memory://?capacity=3", "OTHER": "stdout:", "PROXY": "$OTHER"}
    assert sinks_from_env(env) == {"memory": {"BACKEND": MEMORY, "OPTIONS": {"capacity": 3}}}
    assert sinks_from_env(env, "PROXY") == {"stdout": {"BACKEND": STDOUT}}
    env.prefix = "OT"
    assert sinks_from_env(env, "HER") == {"stdout": {"BACKEND": STDOUT}}


def test_a_mapping_will_do():
    assert list(sinks_from_env({"A": "memory:"}, "A")) == ["memory"]
    assert list(sinks_from_env(os.environ, "NO_SUCH_VARIABLE")) == ["default"]


@pytest.mark.parametrize("of", [Env, dict], ids=["Env", "dict"])
def test_without_the_variable_the_default_holds(of):
    own = {"x": {"BACKEND": MEMORY}}
    found = sinks_from_env(of(), "NO_SUCH_VARIABLE", default=own)
    assert found == own
    found["x"]["LEVEL"] = "info"
    found["y"] = {}
    assert own == {"x": {"BACKEND": MEMORY}}
    assert sinks_from_env(of(), "NO_SUCH_VARIABLE", default={}) == {}
    assert sinks_from_env(of(), "NO_SUCH_VARIABLE") == {"default": {"BACKEND": DATABASE}}
    assert list(sinks_from_env(of(), "NO_SUCH_VARIABLE", default="memory:,stdout:")) == [
        "memory",
        "stdout",
    ]
    assert mistake(sinks_from_env(of(), "NO_SUCH_VARIABLE", default="memry:"))[0] == (
        "The default of NO_SUCH_VARIABLE, URL 1: no sink has the scheme 'memry'."
    )


def test_the_default_of_the_environments_own_scheme_holds_too(monkeypatch):
    monkeypatch.setattr(Env, "ENVIRON", {})
    assert list(sinks_from_env(Env(AUDIT_SINKS=(str, "memory:")))) == ["memory"]
    assert list(sinks_from_env(Env(AUDIT_SINKS=(list, ["memory:", "stdout:"])))) == [
        "memory",
        "stdout",
    ]


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_empty_variable_is_a_mistake_and_not_an_audit_that_is_off(text, env):
    env.ENVIRON["AUDIT_SINKS"] = text
    assert (
        mistake(sinks_from_env(env))
        == mistake(sinks_from_env({"AUDIT_SINKS": text}))
        == (
            "AUDIT_SINKS is set, but empty.",
            (
                "Unset it for the default sinks, or write a URL such as 'database://'. To switch "
                "the trail off, say SIGNAL_AUDIT = {'SINKS': {}} in the settings."
            ),
        )
    )


def test_a_variable_that_points_nowhere_is_a_mistake(env):
    env.ENVIRON["AUDIT_SINKS"] = "$ELSEWHERE"
    assert mistake(sinks_from_env(env, default={})) == (
        "AUDIT_SINKS is set, but its value cannot be read (ImproperlyConfigured).",
        "Set the variable, or correct the file, that it points to.",
    )


def test_a_secret_file_is_read_and_a_missing_one_is_a_mistake(tmp_path, monkeypatch):
    class FileEnv(environ.FileAwareEnv):
        ENVIRON = environ.FileAwareEnv.ENVIRON.__class__({})

    env = FileEnv()
    env.ENVIRON.env["AUDIT_SINKS_FILE"] = str(tmp_path / "sinks")
    assert mistake(sinks_from_env(env))[0] == (
        "AUDIT_SINKS is set, but its value cannot be read (No such file or directory)."
    )
    (tmp_path / "sinks").write_bytes(b"\xff")
    assert "UnicodeDecodeError" in mistake(sinks_from_env(env))[0]
    (tmp_path / "sinks").write_text("memory://\n")
    assert list(sinks_from_env(env)) == ["memory"]


def run(code, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{cwd}", **environment},
    )


def test_a_settings_module_may_call_everything_before_settings_are_there(tmp_path):
    (tmp_path / "bare.py").write_text(
        textwrap.dedent("""
            import os, sys
            from django.conf import settings
            from django_signal_audit.environ import sink_from_url, sinks_from_env, sinks_from_urls

            SECRET_KEY = "x"
            DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
            INSTALLED_APPS = ["django_signal_audit"]
            SIGNAL_AUDIT = {"SINKS": sinks_from_env(os.environ)}
            sink_from_url("stderr://")
            sinks_from_urls(["nonsense", "kafka://h?backend=own.Sink"])
            assert not settings.configured
            assert "django_signal_audit.models" not in sys.modules
            assert "own" not in sys.modules
        """)
    )
    (tmp_path / "own.py").write_text(
        "from django_signal_audit.sinks import Sink\n"
        "from django_signal_audit.models import AuditRecord\n"
        "class Own(Sink):\n"
        "    def __init__(self, config, *, port: int):\n"
        "        super().__init__(config)\n"
        "        self.port = port\n"
    )
    done = run(
        """
        import django
        django.setup()
        from django.core.management import call_command
        from django_signal_audit.sinks import routing
        call_command("check")
        assert routing.all_routes()[1].sink.port == 5
        """,
        tmp_path,
        DJANGO_SETTINGS_MODULE="bare",
        AUDIT_SINKS="database://,own://:5?backend=own.Own",
    )
    assert done.returncode == 0, done.stderr


def test_a_wrong_variable_is_no_traceback_but_what_check_says(tmp_path):
    (tmp_path / "wrong.py").write_text(
        "import os\n"
        "from tests.settings import *\n"
        "from django_signal_audit.environ import sinks_from_env\n"
        "SIGNAL_AUDIT = {'SINKS': sinks_from_env(os.environ)}\n"
    )
    done = run(
        "from django.core.management import execute_from_command_line as run\n"
        "run(['manage.py', 'check'])",
        tmp_path,
        DJANGO_SETTINGS_MODULE="wrong",
        AUDIT_SINKS="databse://app:hunter22@db/x",
    )
    assert done.returncode == 1
    assert "AUDIT_SINKS, URL 1: no sink has the scheme 'databse'." in done.stderr
    assert "Did you mean 'database'?" in done.stderr
    assert "django_signal_audit.E030" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter22" not in done.stdout + done.stderr


# Secrets

MARKS = ("S3cr3tAlpha", "T0k3nBravo")
SEPARATORS = [*",:/@?#&=% +;[]'\"\\$\n\t", "%2", "%zz", "..", "é"]
SECRETS = st.lists(st.sampled_from([*MARKS, *SEPARATORS]), min_size=1, max_size=7).map(
    lambda pieces: "".join([*pieces, MARKS[0]])
)
PLACES = [
    "kafka://user:{}@localhost:9092/topic?backend={backend}",
    "kafka://{}@localhost:9092/topic?backend={backend}",
    "kafka://{}:word@localhost/topic?backend={backend}",
    "kafka://localhost/topic?backend={backend}&token={}",
    "kafka://localhost/topic?token={}&backend={backend}",
    "kafka://localhost/{}?backend={backend}",
    "kafka://localhost:{}/topic?backend={backend}",
    "kafka://localhost/topic?backend={backend}#{}",
    "kafka://user:{}@local host:port?backend={backend}",
    "kafka://user:{}@[::1?backend={backend}",
    "kafka://user:{}",
    "kafka:{}?backend={backend}",
    "kafka//user:{}@localhost",
    "//user:{}@localhost",
    "{}@localhost:9092",
    "{}",
    "fiel://user:{}@localhost/x",
    "file://user:{}@localhost/x",
    "database://user:{}@localhost",
    "memory://user:{}@",
    "memory://?password={}",
    "memory://?capacity=5&{}",
    "stdout://#{}",
]
BACKENDS = ["Broker", "Leaky", "Renaming", "Clumsy", "Talkative", "Webhook", "Missing"]


def hosts_of(text):
    """What a URL names as host is no secret, whatever it was meant to be."""
    for url in [text, *text.split(",")]:
        with contextlib.suppress(AuditConfigurationError):
            yield parse_url("", url).host


def everything_said(said, caplog):
    """All that may be printed of these sinks."""
    yield from (repr(said), pprint.pformat(said))
    with override_settings(SIGNAL_AUDIT={"SINKS": said}):
        yield from (f"{one} {one.hint} {one!r}" for one in check_settings())
        try:
            routing.all_routes()
        except AuditConfigurationError:
            yield traceback.format_exc()
    yield caplog.text


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    secret=SECRETS.filter(lambda secret: "://" not in secret),
    place=st.sampled_from(PLACES),
    backend=st.sampled_from(BACKENDS),
    encoded=st.booleans(),
    around=st.sampled_from(["{}", "database://,{}", "{},stdout://"]),
)
def test_a_secret_is_never_shown_wherever_it_stands(
    secret, place, backend, encoded, around, caplog
):
    shown = quote(secret, safe="") if encoded else secret
    text = around.format(place.format(shown, backend=f"{HERE}.{backend}"))
    assume(not any(mark in host for host in hosts_of(text) for mark in MARKS))
    for said in (
        sinks_from_env({"AUDIT_SINKS": text}, "AUDIT_SINKS"),
        {"only": sink_from_url(text)},
    ):
        for words in everything_said(said, caplog):
            for mark in MARKS:
                assert mark.lower() not in words.lower()


def test_options_written_by_hand_hide_their_secrets_too():
    class Refusing(Sink):
        def __init__(self, config, **options):
            raise ValueError(f"at {options['dsn']}") from OSError(f"cannot use {options}")

    said = {
        "dsn": "kafka://app:hunter22@localhost/t",
        "conf": {"sasl.password": "hunter23", "pins": [1234567], "use_token": True},
    }
    with pytest.raises(AuditConfigurationError) as caught:
        routing.build_route("x", {"BACKEND": Refusing, "OPTIONS": said})
    told = "".join(traceback.format_exception(caught.value))
    for secret in ("hunter22", "hunter23", "1234567"):
        assert secret not in told
    assert "(ValueError: at ***)" in told


@pytest.mark.parametrize("name", ["dsn", "url", "baseUrl", "uris", "webhook_2", "target"])
def test_a_url_among_the_options_is_a_secret_with_all_its_parts(name):
    secrets = ["T0/B1/t0k3n-in-path", "t0k3n-in-path", "us:er", "p%40ss", "p@ss", "in query"]

    class Refusing(Sink):
        def __init__(self, config, **options):
            raise ValueError(f"{options[name]}: {', '.join(secrets)}; cannot connect")

    url = "https://us%3Aer:p%40ss@hooks.example/T0/B1/t0k3n-in-path?q=in%20query"
    by_hand = {"BACKEND": Refusing, "OPTIONS": {name: url}}
    from_url = {
        "BACKEND": Refusing,
        "OPTIONS": parse_url("here", f"x://?{name}={quote(url, safe='')}"),
    }
    for entry in (by_hand, from_url):
        with pytest.raises(AuditConfigurationError) as caught:
            routing.build_route("x", entry)
        told = "".join(traceback.format_exception(caught.value))
        assert (
            f"of {name!r} (ValueError: ***: ***, ***, ***, ***, ***, ***; cannot connect)" in told
        )


@pytest.mark.parametrize("name", ["dsn", "url", "webhook"])
def test_an_option_that_is_named_as_a_url_is_a_secret_whatever_it_holds(name):
    class Refusing(Sink):
        def __init__(self, config, **options):
            raise ValueError(f"no {options[name]} at {options['server']}")

    for said in ({name: "T0/B1", "server": "h"}, parse_url("", f"x://?{name}=T0/B1&server=h")):
        with pytest.raises(AuditConfigurationError, match=r"\(ValueError: no \*\*\* at h\)"):
            routing.build_route("x", {"BACKEND": Refusing, "OPTIONS": said})


class Talkative(Sink):
    @classmethod
    def options_from_url(cls, url):
        raise url.error(
            f"{url.username} cannot log in with {url.password} to {url.path}.",
            f"Write no {url.parameters.get('token')}, nor {url.password}.",
        ) from LookupError(url.password)


def test_what_a_sink_says_of_its_url_is_shown_without_secrets():
    said = sinks_from_urls(
        f"x://appuser:hunter22@h/some-topic?token=hunter23&backend={HERE}.Talkative", "AUDIT_SINKS"
    )
    assert mistake(said) == (
        "AUDIT_SINKS, URL 1: *** cannot log in with *** to ***.",
        "Write no ('***',), nor ***.",
    )
    with pytest.raises(AuditConfigurationError) as caught:
        routing.build_route("x", said["x"])
    assert "hunter" not in "".join(traceback.format_exception(caught.value))


class Failing(Broker):
    """Can be made, and so is reached by what may show its settings."""

    def emit(self, events):
        raise RuntimeError("x")


SHOWING = f"""
import os
from tests.settings import *
from django_signal_audit.environ import sinks_from_env, sinks_from_urls
DEBUG = True
ROOT_URLCONF = "showing"
urlpatterns = []
SIGNAL_AUDIT = {{"SINKS": {{
    **sinks_from_env(os.environ),
    **sinks_from_urls("file:///var/hunter-plain/a,stdout://?processors=a.b"),
    "own": {{
        "BACKEND": "{HERE}.Failing",
        "OPTIONS": dict(sinks_from_urls("x://u:hunter22@h?backend={HERE}.Failing")),
    }},
}}}}
"""


def test_pages_and_reprs_of_the_settings_show_no_secret(tmp_path):
    (tmp_path / "showing.py").write_text(SHOWING)
    done = run(
        """
        import django
        django.setup()
        from django.conf import settings
        from django.core.management import call_command
        from django.http import HttpRequest
        from django.views.debug import ExceptionReporter
        call_command("diffsettings")
        print(repr(settings.SIGNAL_AUDIT), settings.SIGNAL_AUDIT)
        try:
            raise ValueError(settings.SIGNAL_AUDIT)
        except ValueError:
            import sys
            request = HttpRequest()
            request.META = {"SERVER_NAME": "h", "SERVER_PORT": "80"}
            reporter = ExceptionReporter(request, *sys.exc_info())
        print(reporter.get_traceback_html(), reporter.get_traceback_text())
        """,
        tmp_path,
        DJANGO_SETTINGS_MODULE="showing",
        AUDIT_SINKS=f"kafka://u:hunter22@h?token=hunter22&backend={HERE}.Broker",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SinkURL ***") > 4
    assert "hunter-plain" in done.stdout
    assert "hunter22" not in done.stdout + done.stderr


@pytest.mark.parametrize(("name", "shown"), [("AUDIT_SINKS", True), ("AUDIT_SINKS_SECRET", False)])
def test_the_debug_page_shows_variables_that_a_server_puts_into_meta_unless_named_as_secrets(
    name, shown
):
    """Why W062 exists; should Django hide them one day, the check and the docs can go."""
    request = RequestFactory().get("/", **{name: "kafka://u:hunter22@h"})
    reporter = ExceptionReporter(request, None, None, None)
    assert ("hunter22" in reporter.get_traceback_html()) is shown


def test_an_error_without_secrets_keeps_its_cause():
    class Refusing(Sink):
        def __init__(self, config, *, password, use_token, size):
            raise ValueError(f"size is {size}, use_token {True}")

    said = {"password": "hunter22", "use_token": True, "size": -1}
    with pytest.raises(AuditConfigurationError, match="size is -1") as caught:
        routing.build_route("x", {"BACKEND": Refusing, "OPTIONS": said})
    assert isinstance(caught.value.__cause__, ValueError)


def test_diffsettings_shows_no_secret(tmp_path):
    (tmp_path / "shown.py").write_text(
        "from tests.settings import *\n"
        "from django_signal_audit.environ import sinks_from_urls\n"
        "SIGNAL_AUDIT = {'SINKS': sinks_from_urls("
        f"'kafka://u:hunter22@h?token=hunter22&backend={HERE}.Broker')}}\n"
    )
    done = run(
        "from django.core.management import execute_from_command_line as run\n"
        "run(['manage.py', 'diffsettings'])",
        tmp_path,
        DJANGO_SETTINGS_MODULE="shown",
    )
    assert "SinkURL ***" in done.stdout
    assert "hunter22" not in done.stdout + done.stderr
