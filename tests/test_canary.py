"""A secret that goes in through any door comes out of no sink; what is no secret does."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import os
import secrets
import sys
import threading
from contextlib import contextmanager, suppress

import pytest
import structlog
from django.contrib.auth import authenticate, get_user_model
from django.core import checks
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Concat
from django.dispatch import Signal
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from django.utils.functional import SimpleLazyObject

from django_signal_audit import (
    audit_action,
    audit_context,
    audit_event,
    audit_receiver,
    event_signal,
    set_actor,
)
from django_signal_audit.context import request_scope
from django_signal_audit.environ import sinks_from_env
from django_signal_audit.event import Actor
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.formats import available_formats
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import DatabaseSink, MemorySink, Sink, routing
from tests.testapp.models import Account, Author, Club, Person, Sample, Watched

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

User = get_user_model()

DOORS = {}


def door(function):
    """A way in: it is given a secret and a visible word, each of its own."""
    DOORS[function.__name__] = function
    return function


def fields(secret, visible, n=0):
    """Columns that are secret by policy, by name, by a word of the settings, and inside of JSON."""
    return {
        "email": f"{secret}{n}@example.org",
        "api_token": f'{secret}"é',
        "address": f"{secret}\n/+ street",
        "note": secret,
        "settings": {
            "plain": f"{visible}{n}",
            "a": [{"password": secret, "b": {"api_key": secret}}],
        },
    }


# Models


@door
def save(secret, visible):
    account = Account(**fields(secret, visible))
    account.save()
    account.address, account.settings = f"{secret} again", {"token": secret, "plain": visible}
    account.save()
    account.save(update_fields=["api_token"])
    account.refresh_from_db()


@door
def create_and_delete(secret, visible):
    Account.objects.create(**fields(secret, visible)).delete()
    Account.objects.create(**fields(secret, visible))
    Account.objects.filter(email__startswith=secret).delete()


@door
def bulk(secret, visible):
    rows = Account.objects.bulk_create([Account(**fields(secret, visible, n)) for n in range(3)])
    rows = list(Account.objects.filter(email__startswith=secret))
    for row in rows:
        row.address, row.api_token = f"{secret} moved", f"{secret} new"
    Account.objects.bulk_update(rows, ["address", "api_token"])


@door
def update_by_a_query(secret, visible):
    Account.objects.create(**fields(secret, visible))
    mine = Account.objects.filter(email__startswith=secret)
    mine.update(address=f"{secret} moved", settings={"secret": secret, "plain": visible})
    mine.update(address=F("email"), api_token=Value(f"{secret} value"))
    mine.update(api_token=Case(When(pk__gt=0, then=Concat(F("email"), Value(secret)))))
    mine.update(email=Concat(Value("x"), F("email")))


@door
def get_or_create(secret, visible):
    given = fields(secret, visible)
    email = given.pop("email")
    for _ in range(2):
        Account.objects.get_or_create(email=email, defaults=given)
        Account.objects.update_or_create(email=email, defaults={"address": f"{secret} street"})


@door
def a_summary_of_many(secret, visible):
    Sample.objects.bulk_create([Sample(name=visible, api_token=f"{secret}{n}") for n in range(3)])
    Sample.objects.filter(name=visible).update(api_token=f"{secret} new")
    Sample.objects.filter(api_token__startswith=secret).delete()


@door
def fixtures(secret, visible):
    raw = [{"model": "testapp.account", "pk": 7_000_001, "fields": fields(secret, visible)}]
    name = FOLDER[0] / f"{visible}.json"
    name.write_text(json.dumps(raw))
    call_command("loaddata", str(name), verbosity=0)


@door
def rows_between(secret, visible):
    club = Club.objects.create(name=visible)
    club.members.add(Person.objects.create(code=visible), through_defaults={"note": secret})
    club.members.clear()


@door
def passwords(secret, visible):
    user = User.objects.create_user(username=visible, password=secret)
    hashes = [user.password]
    user.set_password(f"{secret} new")
    user.save()
    hashes.append(user.password)
    User.objects.filter(pk=user.pk).update(password=f"{secret} raw")
    user.delete()
    return hashes


@door
def signals(secret, visible):
    watched = Watched.objects.create(name=visible, api_token=secret)
    watched.delete()


# Acts


@door
def events(secret, visible):
    data = {"password": secret, "payload": {"deep": [{"session": secret}]}, "plain": visible}
    event_signal.send(
        sender=f"view?token={secret}",
        message=f"password={secret} {visible}",
        reason=f"Authorization: Bearer {secret}",
        instance=Account(**fields(secret, visible)),
        **data,
    )
    with transaction.atomic():
        event_signal.send_robust(sender="view", message="in a block", api_key=secret)
    with suppress(ZeroDivisionError), transaction.atomic():
        event_signal.send(sender="view", message=f"url=https://me:{secret}@example.org/", **data)
        raise ZeroDivisionError


@door
def arguments(secret, visible):
    @audit_event("canary.arguments", arguments=["password", "plain", "options"], started=True)
    def work(password, plain, options):
        raise ValueError(f"password={password}")

    signal = Signal()

    @audit_receiver(signal, arguments=["token", "plain"])
    def receive(sender, token, plain, **kwargs):
        raise KeyError(f"token: {token!r}")

    with suppress(ValueError):
        work(secret, plain=visible, options={"client_secret": secret})
    signal.send_robust(sender="shop", token=secret, plain=visible)


@door
def errors(secret, visible):
    given = fields(secret, visible)
    Account.objects.create(**given)
    wrong = ({**given}, {**given, "email": None}, {**given, "email": f"{secret}{'x' * 300}"})
    for row in wrong:
        # What is written while it is handled may fail in a sink, which logs it.
        with suppress(DatabaseError), audit_action("canary.error", data={"plain": visible}):
            try:
                with transaction.atomic():
                    Account.objects.create(**row)
            except DatabaseError:
                event_signal.send(sender="handler", message="failed", plain=visible)
                raise
        Account.objects.filter(email__contains="x" * 300).delete()
    with suppress(ValueError), audit_action("canary.value", target=Account(**given)):
        raise ValueError(f"refused: api_key='{secret}'; password: {secret}")


@door
def context(secret, visible):
    with (
        audit_context(
            actor=Actor("service", "7", f"https://me:{secret}@example.org"),
            reason=f"token={secret}",
            api_key=secret,
            nested={"cookie": secret},
            plain=visible,
        ),
        structlog.contextvars.bound_contextvars(session_id=secret),
    ):
        event_signal.send(sender="job", message="in a context")
        Author.objects.create(name=visible)
    with set_actor("job"), audit_context(password=secret):
        Author.objects.create(name=visible)


@door
def requests(secret, visible):
    client = Client(raise_request_exception=False)
    client.cookies["sessionid"] = secret
    client.cookies["csrftoken"] = secret
    client.post(
        f"/reset/{visible}/{secret}/?token={secret}&plain={visible}&next=/a%3Fapi_key%3D{secret}",
        json.dumps({"password": secret}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}", "X-Api-Key": secret},
    )
    client.post("/form/", {"password": secret, "plain": visible}, headers={"Cookie": secret})
    authenticate(None, username=visible, password=secret)


def view(request, uid="", token=""):
    event_signal.send(
        sender="View: reset", message=f"{uid} token={token}", request=request, uid=uid
    )
    Account.objects.create(email=f"{token}r@example.org", address=token, settings={"plain": uid})
    raise ValueError(f"token={token}")


def form(request):
    event_signal.send(sender="View: form", request=request, **request.POST.dict())
    return HttpResponse("done")


urlpatterns = [path("reset/<uid>/<token>/", view), path("form/", form)]


@door
def settings_of_sinks(secret, visible):
    """A URL with a password that is wrong, in settings that are right in all else."""
    logger = logging.getLogger("django_signal_audit")
    wrong = {"BACKEND": f"{_SINKS}.FileSink", "OPTIONS": {"password": secret}}
    urls = (f"file://me:{secret}@host/x", f"nope://me:{secret}@host", f"stdout://?token={secret}")
    found = [sinks_from_env({"AUDIT_SINKS": url}) for url in urls]
    for entries in (*found, {"file": wrong}):
        with override_settings(SIGNAL_AUDIT={"SINKS": entries}):
            with pytest.raises(AuditConfigurationError) as caught:
                routing.all_routes()
            logger.error("%s %s", visible, checks.run_checks(), exc_info=caught.value)
    event_signal.send(sender="settings", plain=visible)


@door
def failures_while_an_error_is_handled(secret, visible):
    """What the program handles is chained to whatever fails meanwhile, and the log shows both."""

    def no_session_store():
        raise OperationalError("gone away")

    request = RequestFactory().get(f"/?plain={visible}")
    request.user = SimpleLazyObject(no_session_store)
    try:
        raise ValueError(f"refused: {secret}")  # noqa: TRY301 - the program does
    except ValueError:
        with request_scope(request):
            event_signal.send(sender="view", message="refused", plain=visible)
        sink = sink_of("broken")
        sink.close = no_session_store
        routing.close_sinks()


# Sinks


class BrokenSink(Sink):
    """Fails, so that what it was given is logged or spooled."""

    def emit(self, events):
        raise OSError("no room")


class BrokenDatabaseSink(DatabaseSink):
    def write(self, connection, events, **options):
        raise DatabaseError("no table")


class CanarySink(MemorySink):
    """Is still looked at when other settings, or a closing, have made another in its place."""

    def __init__(self, config):
        super().__init__(config)
        MEMORIES.append(self)


FOLDER = []
MEMORIES = []

_SINKS = "django_signal_audit.sinks"
# These tell all of an event; the others some of it.
WHOLE = {"database", "memory", "stdout", "logging", "structlog", "file-json", "spool"}


def configured(folder):
    def sink(backend, **said):
        options = said.pop("options", {})
        return {"BACKEND": f"{_SINKS}.{backend}", "OPTIONS": options, **said}

    found = {
        "default": sink("DatabaseSink"),
        "memory": {"BACKEND": f"{__name__}.CanarySink"},
        "stdout": sink("StdoutSink"),
        "logging": sink(
            "LoggerSink", options={"logger": "canary", "library": "stdlib"}, FORMAT="json"
        ),
        "structlog": sink("LoggerSink", options={"library": "structlog"}),
        "rotated": sink(
            "FileSink",
            options={"path": str(folder / "rotated"), "rotate_bytes": 4000, "compress": "gzip"},
        ),
        "broken": {"BACKEND": f"{__name__}.BrokenSink", "ON_ERROR": "log"},
        "spooling": {"BACKEND": f"{__name__}.BrokenSink", "ON_ERROR": "spool"},
        "broken database": {"BACKEND": f"{__name__}.BrokenDatabaseSink", "ON_ERROR": "log"},
    }
    for name in available_formats():
        found[f"file-{name}"] = sink(
            "FileSink", options={"path": str(folder / f"file-{name}")}, FORMAT=name
        )
    return {
        "SINKS": found,
        "SENSITIVE_NAMES": ["email"],
        "MODELS": {
            "auth.User": {},
            "testapp.Membership": {"mask_fields": ["note"]},
        },
        "STATE_DIR": str(folder / "state"),
        "SIGNALS": {"django.contrib.auth.signals.user_login_failed": {"event": "canary.refused"}},
    }


@contextmanager
def piped_output(monkeypatch):
    """What is written to a real pipe in place of the standard output."""
    reading, writing = os.pipe()
    found = []

    def read():
        with os.fdopen(reading, "rb") as source:
            found.append(source.read())

    reader = threading.Thread(target=read)
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(writing, "w") as stream:
        patch.setattr(sys, "stdout", stream)
        yield found
    reader.join()


@contextmanager
def logging_to(file, name):
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    logger = logging.getLogger(name)
    level, logger.level = logger.level, logging.DEBUG
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()


@contextmanager
def every_sink(tmp_path, monkeypatch):
    """All of them, and after the block what bytes they hold."""
    FOLDER[:] = [tmp_path]
    MEMORIES.clear()
    (tmp_path / "state").mkdir(mode=0o700)
    held = {}
    with (
        piped_output(monkeypatch) as piped,
        (tmp_path / "structlog").open("w") as structured,
        logging_to(tmp_path / "logging", "canary"),
        logging_to(tmp_path / "own log", "django_signal_audit"),
        override_settings(SIGNAL_AUDIT=configured(tmp_path), ROOT_URLCONF=__name__),
    ):
        # merge_contextvars would show what the program itself bound, secrets too.
        structlog.configure(
            processors=[structlog.processors.JSONRenderer(ensure_ascii=False)],
            logger_factory=structlog.PrintLoggerFactory(structured),
        )
        try:
            yield held
        finally:
            structlog.reset_defaults()
        held["memory"] = repr([e.to_dict() for sink in MEMORIES for e in sink.events]).encode()
        held["database"] = table_of_records()
        routing.close_sinks()
    held["stdout"] = b"".join(piped)
    for found in tmp_path.iterdir():
        if found.name.startswith(("file-", "rotated", "structlog", "logging", "own log")):
            content = found.read_bytes()
            if found.suffix == ".gz":
                content = gzip.decompress(content)
            name, _, _ = found.name.partition(".")
            held_as = name if found.suffix != ".gz" else f"{name}, compressed"
            held[held_as] = held.get(held_as, b"") + content
    state = tmp_path / "state"
    held["spool"] = b"".join(f.read_bytes() for f in state.rglob("*") if f.is_file())


def sink_of(alias):
    return next(route.sink for route in routing.all_routes() if route.alias == alias)


def table_of_records():
    """All columns of all records, as the driver gives them."""
    AuditRecord.objects.count()  # what is still pending goes there
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(AuditRecord._meta.db_table)}")
        return repr(cursor.fetchall()).encode()


def forms(word):
    """A word of letters and digits as it may stand somewhere, also inside of something encoded."""
    yield word.encode()
    yield word.encode().hex().encode()
    for before in range(3):
        # The characters at both ends depend on what stands beside it.
        encoded = base64.b64encode(b"\0" * before + word.encode())
        yield encoded[4 : len(encoded) // 4 * 4 - 4] if before else encoded[: len(word) // 3 * 4]


def is_in(word, content):
    return any(form in content for form in forms(word))


def new_word(kind):
    return f"{kind}{secrets.token_hex(6)}"


def open_all():
    """The words of each door: those that must not be seen, and the one that must."""
    return {
        name: ((hidden := new_word("hid")), (shown := new_word("vis")), function(hidden, shown))
        for name, function in DOORS.items()
    }


def test_a_secret_is_found_in_whatever_form():
    word = new_word("hid")
    for shape in (
        f"x={word}",
        base64.b64encode(f"ab{word}c".encode()).decode(),
        word.encode().hex(),
    ):
        assert is_in(word, shape.encode())
    for cut in range(3):
        assert is_in(word, base64.b64encode(b"z" * cut + word.encode() + b"rest"))
    assert not is_in(word, new_word("hid").encode())


def test_a_secret_that_goes_in_through_any_door_is_in_no_sink(tmp_path, monkeypatch):
    with every_sink(tmp_path, monkeypatch) as held:
        given = open_all()
    assert set(held) >= {"own log", "rotated, compressed", *WHOLE}
    assert set(held) >= {f"file-{name}" for name in available_formats()}
    leaks = [
        f"{name} -> {sink}"
        for name, (hidden, _, more) in given.items()
        for sink, content in held.items()
        for word in (hidden, *(more or ()))
        if (is_in(word, content) if word == hidden else word.encode() in content)
    ]
    assert leaks == []
    # The same doors, and a word under a name that is no secret: it comes out.
    for sink, content in held.items():
        seen = {name for name, (_, shown, _) in given.items() if is_in(shown, content)}
        assert seen, sink
        if sink in WHOLE:
            assert seen == set(DOORS), sink
