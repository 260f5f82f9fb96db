"""A connection that is cut around its COMMIT: a change is there if and only if its record is."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import pytest
from django.db import Error, connections, transaction
from django.test import override_settings

from django_signal_audit import event_signal, suspend_audit
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import routing
from tests.services import proxy as proxies
from tests.services.lending import lent
from tests.testapp.models import Author, Book, Chapter

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.skipif(
        "connections['default'].vendor == 'sqlite'", reason="has no server to be cut off from"
    ),
]

CUT = "other"
ROUNDS = 6
UNENCRYPTED = {"postgresql": {"sslmode": "disable", "gssencmode": "disable"}, "mysql": {}}


@pytest.fixture
def proxy():
    """A proxy to the server, and an alias that reaches the database through it."""
    like = connections["default"]
    with proxies.proxy_to(like.settings_dict) as found:
        changed = {
            "HOST": "127.0.0.1",
            "PORT": str(found.port),
            "OPTIONS": {**like.settings_dict["OPTIONS"], **UNENCRYPTED[like.vendor]},
        }
        with lent(CUT, {**like.settings_dict, **changed}):
            yield found


@pytest.fixture
def trail(tmp_path):
    """Where the file sink writes, beside the database sink."""
    path = tmp_path / "audit.jsonl"
    file = {"BACKEND": "django_signal_audit.sinks.FileSink", "OPTIONS": {"path": str(path)}}
    database = {"BACKEND": "django_signal_audit.sinks.DatabaseSink"}
    with override_settings(SIGNAL_AUDIT={"SINKS": {"default": database, "file": file}}):
        yield path
        routing.close_sinks()


def act(tag, accepted):
    event_signal.send(sender="test", event="test.act", message=tag, using=CUT)
    accepted.append(tag)


def author(tag):
    return Author.objects.using(CUT).get(name=f"{tag}-old")


# Each is told its tag, and the list of custom events that were accepted.


def create(tag, accepted):
    Author.objects.using(CUT).create(name=f"{tag}-new")


def update(tag, accepted):
    one = author(tag)
    one.name = f"{tag}-new"
    one.save()


def delete(tag, accepted):
    author(tag).delete()


def update_a_queryset(tag, accepted):
    Author.objects.using(CUT).filter(name=f"{tag}-old").update(name=f"{tag}-new")


def bulk_create(tag, accepted):
    with transaction.atomic(using=CUT):
        Author.objects.using(CUT).bulk_create([Author(name=f"{tag}-{n}") for n in range(4)])
        act(tag, accepted)


def all_in_a_block(tag, accepted):
    with transaction.atomic(using=CUT):
        act(f"{tag}-first", accepted)
        create(tag, accepted)
        with transaction.atomic(using=CUT):
            Author.objects.using(CUT).create(name=f"{tag}-inner")
        book = Book.objects.using(CUT).create(title=f"{tag}-book")
        Chapter.objects.using(CUT).create(book=book, number=1)
        delete(tag, accepted)
        act(f"{tag}-last", accepted)


def by_hand(tag, accepted):
    transaction.set_autocommit(False, using=CUT)
    act(tag, accepted)
    create(tag, accepted)
    transaction.commit(using=CUT)
    transaction.set_autocommit(True, using=CUT)


OPERATIONS = (
    create,
    update,
    delete,
    update_a_queryset,
    bulk_create,
    all_in_a_block,
    by_hand,
)


def changes_of(tag):
    """What is in the tables now that was not before, in the words of the trail."""
    names = list(Author.objects.filter(name__startswith=f"{tag}-").values_list("name", flat=True))
    found = Counter(("set", name) for name in names if not name.endswith("-old"))
    # An update leaves the row under its new name; the block makes another of that name.
    is_renamed = f"{tag}-new" in names and not tag.endswith("all_in_a_block")
    if f"{tag}-old" not in names and not is_renamed:
        found["deleted", f"{tag}-old"] += 1
    found.update(
        ("set", title)
        for title in Book.objects.filter(title__startswith=f"{tag}-").values_list(
            "title", flat=True
        )
    )
    return found


def recorded_of(tag):
    """The same, as the records say it."""
    found = Counter()
    for record in AuditRecord.objects.filter(event__startswith="model."):
        field = "title" if record.object_type == "testapp.book" else "name"
        old, new = record.changes.get(field, ("", ""))
        if not f"{new or old}".startswith(f"{tag}-"):
            continue
        found["set" if new else "deleted", new or old] += 1
    return found


def in_rounds(proxy, moment):
    """Cut each operation, some times; what was accepted, and the tags that ended in an error."""
    accepted, failed = [], []
    for number in range(ROUNDS):
        for operation in OPERATIONS:
            tag = f"{number}-{operation.__name__}"
            with suspend_audit():
                Author.objects.create(name=f"{tag}-old")
            connections[CUT].close()
            messages = random.randint(1, 40) if moment == proxies.ANY_TIME else None
            proxy.cut_next(moment, messages)
            try:
                operation(tag, accepted)
            except Error:
                failed.append(tag)
            proxy.cut_nothing()
            connections[CUT].close()
            # Whoever comes next finds a connection that works, and nothing of the last one.
            Author.objects.using(CUT).create(name=f"next-{tag}")
    return accepted, failed


@pytest.mark.parametrize(
    "moment", [proxies.BEFORE, proxies.MEANWHILE, proxies.AFTER, proxies.ANY_TIME]
)
def test_cut_at_commit_a_change_is_there_if_and_only_if_its_record_is(proxy, trail, moment):
    accepted, failed = in_rounds(proxy, moment)
    rounds = ROUNDS * len(OPERATIONS)
    assert proxy.commits >= rounds
    if moment == proxies.ANY_TIME:
        assert rounds // 10 < proxy.cuts <= rounds
    else:
        assert len(failed) == proxy.cuts == rounds

    committed, undone = set(), set()
    for number in range(ROUNDS):
        for operation in OPERATIONS:
            tag = f"{number}-{operation.__name__}"
            changed = changes_of(tag)
            assert recorded_of(tag) == changed, tag
            (committed if changed else undone).add(tag)
        assert AuditRecord.objects.filter(object_repr__startswith=f"next-{number}-").count() == len(
            OPERATIONS
        )
    if moment == proxies.BEFORE:
        assert committed == set()
    if moment == proxies.AFTER:
        assert undone == set()

    acts = list(AuditRecord.objects.filter(event="test.act").values_list("message", "rolled_back"))
    # Custom events are there once each, and marked if and only if their transaction failed.
    assert sorted(message for message, _ in acts) == sorted(accepted)
    for message, rolled_back in acts:
        tag = re.match(r"\d+-(?:all_in_a_block|bulk_create|by_hand)", message)[0]
        assert rolled_back == (tag in undone), message

    missing = missing_in_the_file(trail, accepted, failed)
    if moment == proxies.AFTER:
        assert missing, "that COMMIT was done, nobody could know who tells the file of it"


def missing_in_the_file(trail, accepted, failed):
    """What is in the file was committed or is marked; what is missing is of unknown fate."""
    events = [json.loads(line) for line in trail.read_text().splitlines()]
    assert max(Counter(event["id"] for event in events).values()) == 1
    told = [event["message"] for event in events if event["event"] == "test.act"]
    assert sorted(told) == sorted(accepted)
    written = {str(id_): mark for id_, mark in AuditRecord.objects.values_list("id", "rolled_back")}
    for event in events:
        assert event["id"] in written, "the file tells of what was not committed"
        assert event["rolled_back"] or not written[event["id"]]
    missing = set(written) - {event["id"] for event in events}
    for record in AuditRecord.objects.filter(id__in=missing):
        shown = json.dumps(record.changes)
        assert any(f"{tag}-" in shown for tag in failed) or record.object_type == "testapp.chapter"
    return missing
