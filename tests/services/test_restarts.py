"""The server is killed under load: a change is there if and only if its record is."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter

import pytest
from django.db import connections

from django_signal_audit.models import AuditRecord
from tests.databases import MODELS
from tests.running import SCRIPTS
from tests.services.lending import lent
from tests.services.servers import own_server
from tests.testapp.models import Author, Book

# Quick enough not to be slow: tox runs slow tests with SQLite alone.
pytestmark = [
    pytest.mark.service,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.skipif("connections['default'].vendor == 'sqlite'", reason="has no server"),
]

OWN = "other"
WRITERS = [f"w{n}" for n in range(4)]
RESTARTS = 4
PATIENCE = 60.0


@pytest.fixture
def server():
    with own_server(connections["default"].vendor) as found:
        settings = {**connections[OWN].settings_dict, "OPTIONS": {}, "PASSWORD": "", "PORT": ""}
        settings.update(found.settings())
        if settings["NAME"] == "test":
            with lent(OWN, {**settings, "NAME": "mysql"}), connections[OWN].cursor() as cursor:
                cursor.execute("CREATE DATABASE IF NOT EXISTS test")
        with lent(OWN, settings):
            with connections[OWN].schema_editor() as editor:
                for model in MODELS:
                    editor.create_model(model)
            connections[OWN].close()
            yield found


def noted(folder, sign):
    """What writers have begun (``?``), sent (``+``), or were told is done (``!``)."""
    text = "".join(path.read_text() for path in folder.glob("w*.log"))
    return re.findall(rf"^\{sign}(.+)$", text, re.MULTILINE)


def wait_for_each_writer(folder, writers, done):
    """Until every one of them has done more than it had."""
    deadline = time.monotonic() + PATIENCE
    while True:
        now = Counter(tag.partition("-")[0] for tag in noted(folder, "!"))
        if all(now[name] > done[name] + 3 for name in WRITERS):
            return now
        assert time.monotonic() < deadline, f"writers do not go on: {done} {now}"
        assert all(writer.poll() is None for writer in writers), "a writer has died"
        time.sleep(0.02)


def write_while_it_is_restarted(server, folder):
    environment = {**os.environ, "SCRIPT_DATABASE": json.dumps(server.settings())}
    with (folder / "stderr").open("wb") as stderr:
        writers = [
            subprocess.Popen(
                [sys.executable, str(SCRIPTS / "restarts.py"), name, str(folder)],
                env=environment,
                stderr=stderr,
            )
            for name in WRITERS
        ]
        try:
            done = Counter()
            for number in range(RESTARTS):
                done = wait_for_each_writer(folder, writers, done)
                time.sleep(random.uniform(0, 0.1))  # a moment that nobody chose
                server.kill(server.deaths[number % len(server.deaths)])
                server.start()
            wait_for_each_writer(folder, writers, done)
        finally:
            (folder / "stop").touch()
            ended = [writer.wait(PATIENCE) for writer in writers]
    assert ended == [0] * len(WRITERS), (folder / "stderr").read_text()[-3000:]


def changes(begun):
    """What is in the tables, in the words of the trail."""
    names = list(Author.objects.using(OWN).values_list("name", flat=True))
    titles = dict(Book.objects.using(OWN).values_list("title", "stock"))
    found = Counter(("create", name) for name in names if not name.endswith("-deleted"))
    found.update(("create", title) for title in titles if title.endswith("-book"))
    found.update(("update", title) for title, stock in titles.items() if stock)
    gone = {f"{tag}-deleted" for tag in begun if tag.endswith("-delete")} - set(names)
    found.update(("delete", name) for name in gone)
    return found


def test_killed_under_load_a_change_is_there_if_and_only_if_its_record_is(server, tmp_path):
    write_while_it_is_restarted(server, tmp_path)

    begun, done = noted(tmp_path, "?"), noted(tmp_path, "!")
    records = list(AuditRecord.objects.using(OWN))
    recorded = Counter(
        (record.event.partition(".")[2], record.object_repr)
        for record in records
        if record.event.startswith("model.")
    )
    found = changes(begun)
    assert recorded == found
    assert set(found.values()) == {1}
    changed = {re.match(r"w\d+-\d+-\w+", name)[0] for _, name in found}
    assert set(done) <= changed, "a change was acknowledged, and is gone"
    assert set(begun) - set(done), "the server never died in the middle of anything"

    acts = {record.message: record.rolled_back for record in records if record.event == "test.act"}
    assert len(acts) == sum(record.event == "test.act" for record in records)
    assert {tag for tag, rolled_back in acts.items() if not rolled_back} == {
        tag for tag in changed if tag.endswith("-block")
    }

    events = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    events = [event for event in events if event["sender"] != "signal.class_prepared"]
    ids = Counter(event["id"] for event in events)
    assert set(ids.values()) == {1}
    stored = {str(record.id) for record in records}
    assert {e["id"] for e in events if e["event"].startswith("model.")} <= stored
    told = {event["message"] for event in events if event["event"] == "test.act"}
    # A custom event whose transaction failed while the server was down is lost there, and said so.
    assert set(acts) <= told
    log = (tmp_path / "stderr").read_text()
    lost = [e["id"] for e in events if e["message"] in told - set(acts)]
    assert all(one in log for one in lost)
    assert told == set(noted(tmp_path, "+"))
