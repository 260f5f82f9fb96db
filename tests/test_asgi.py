"""A real uvicorn, with Django's own ASGI handler, spoken to over HTTP."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from contextlib import contextmanager

import httpx
import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db.utils import ConnectionHandler

from django_signal_audit import tasks
from django_signal_audit.asgi import audit_lifespan
from django_signal_audit.models import AuditRecord
from tests.running import SCRIPTS
from tests.test_sandbox import (
    ERROR_LINE,
    SUCCESS_LINE,
    Sandbox,
    fetch,
    scratch_database,
    wait_for,
)

USERS = 50


class Site:
    """One server with a database and files of its own."""

    def __init__(self, folder, database, *, lifespan=True):
        self.folder = folder
        self.database = database
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        environment = {
            "SITE_DIR": str(folder),
            "SCRIPT_DATABASE": json.dumps(database),
            "SITE_LIFESPAN": "1" if lifespan else "0",
        }
        with listener, (folder / "output.txt").open("ab") as output:
            # Whoever connects before the server is there waits in the socket's queue.
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPTS / "asgi_site.py"), str(listener.fileno())],
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                pass_fds=[listener.fileno()],
            )

    @property
    def output(self):
        return (self.folder / "output.txt").read_text(encoding="utf-8")

    def client(self):
        return httpx.AsyncClient(base_url=self.address, timeout=60)

    def get(self, path, text=""):
        """One request of a visitor."""
        return httpx.get(self.address + path, params={"text": text}, timeout=60)

    def lines(self, name):
        path = self.folder / name
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    def events(self, text):
        """The events in the file that say a text that begins so, in order of their time."""
        found = [event for event in self.lines("audit.jsonl") if f'"{text}' in json.dumps(event)]
        return sorted(found, key=lambda event: event["id"])

    def all_sinks_agree(self):
        """Whether database, file and standard output hold the same events, each of them once."""
        connection = ConnectionHandler({"default": self.database})["default"]
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM {AuditRecord._meta.db_table}")
            stored = sorted(uuid.UUID(str(row[0])) for row in cursor.fetchall())
        connection.close()
        in_files = [
            sorted(uuid.UUID(event["id"]) for event in self.lines(name))
            for name in ("audit.jsonl", "output.txt")
        ]
        return in_files == [stored, stored]

    def wait_for(self, text, count):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            found = self.events(text)
            if len(found) >= count:
                return found
            time.sleep(0.02)
        return pytest.fail(f"{self.events(text)}\n{self.output}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def database_for(folder):
    """Settings of a new database: a SQLite file, or one on the server of this run."""
    suites = settings.DATABASES["default"]
    if suites["ENGINE"] != "django.db.backends.sqlite3":
        with scratch_database() as url:
            yield {**plain(suites), "NAME": url.rpartition("/")[2]}
        return
    options = {"transaction_mode": "IMMEDIATE", "timeout": 60}
    options["init_command"] = "PRAGMA journal_mode=WAL"
    yield {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(folder / "db.sqlite3"),
        "OPTIONS": options,
    }


def plain(database):
    return {key: database[key] for key in ("ENGINE", "HOST", "PORT", "USER", "PASSWORD")}


@contextmanager
def running(folder, **options):
    with database_for(folder) as database:
        site = Site(folder, database, **options)
        try:
            yield site
        finally:
            site.process.kill()
            site.process.wait(60)


@pytest.fixture(autouse=True)
def _sites_have_their_own_databases(django_db_blocker):
    with django_db_blocker.unblock():
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("site")) as one:
        assert one.get("/state/").status_code == 200, one.output
        yield one


@pytest.fixture
def text():
    """What tells one test's events from another's."""
    return uuid.uuid4().hex


PATHS = {
    # Each with the events it makes, by name.
    "/send/": {"sent": 1},
    "/await-send/": {"sent": 1},
    "/sync-save/": {"sent": 1, "model.create": 1},
    "/both/": {"sent": 1, "model.create": 4},
    "/stream/": {"part": 3},
    "/save/": {
        "model.create": 3,
        "model.update": 2,
        "model.m2m": 1,
        "model.delete": 1,
    },
}


@pytest.mark.parametrize("path", PATHS)
def test_when_the_response_is_there_its_events_are(site, text, path):
    assert site.get(path, text).status_code == 200

    named = Counter(event["event"] for event in site.events(text))
    assert named == PATHS[path]
    assert site.all_sinks_agree()


async def enter(site, name):
    async with site.client() as client:
        await client.get(f"/enter/{name}/")
        return client.cookies


async def visit(site, cookies, path, name, text):
    async with site.client() as client:
        client.cookies = cookies
        response = await client.get(
            path, params={"text": f"{text} {name}"}, headers={"X-Request-ID": f"{name}{path}"}
        )
    assert response.status_code == 200


def test_requests_of_many_users_at_once_never_mix(site, text):
    async def main():
        names = [f"user{number}" for number in range(USERS)]
        cookies = await asyncio.gather(*[enter(site, name) for name in names])
        before = (await client_state(site))["opened"]
        await asyncio.gather(
            *[
                visit(site, cookies[number], list(PATHS)[number % len(PATHS)], name, text)
                for number, name in enumerate(names)
            ]
        )
        return before

    before = asyncio.run(main())
    events = site.events(text)
    wrong = [
        event
        for event in events
        if event["actor"]["label"] != name_in(event, text)
        or event["context"]["request_id"] != name_in(event, text) + event["context"]["path"]
        or event["context"]["route"] != event["context"]["path"].lstrip("/")
    ]
    assert wrong == []
    expected = Counter()
    for number in range(USERS):
        path = list(PATHS)[number % len(PATHS)]
        expected.update({(path, event): count for event, count in PATHS[path].items()})
    assert Counter((event["context"]["path"], event["event"]) for event in events) == expected
    assert site.all_sinks_agree()

    transactions = {}
    for event in events:
        if event["transaction"] is not None:
            transactions.setdefault(event["transaction"], set()).add(event["context"]["request_id"])
    assert {len(requests) for requests in transactions.values()} == {1}
    state = site.get("/state/").json()
    assert state["opened"] > before
    assert (state["connections"], state["writes"]) == (0, 0)


async def client_state(site):
    async with site.client() as client:
        return (await client.get("/state/")).json()


def name_in(event, text):
    """The user's name, from the text that the event was made with."""
    place = json.dumps(event).index(f'"{text} ') + len(text) + 2
    return json.dumps(event)[place:].split('"')[0].split(" ")[0].rstrip("!")


def test_who_leaves_right_after_sending_is_still_the_actor(site, text):
    async def main():
        async with site.client() as client:
            client.cookies = await enter(site, f"leaver{text}")
            await client.get("/leave/")

    asyncio.run(main())
    (event,) = site.events(f"leaver{text}")[-1:]
    assert (event["event"], event["actor"]["label"]) == ("left", f"leaver{text}")


def test_a_request_that_the_client_gives_up_loses_nothing(site, text):
    async def main():
        async with site.client() as client:
            request = asyncio.create_task(client.get("/hang/", params={"text": text}))
            await asyncio.to_thread(site.wait_for, text, 1)
            request.cancel()
            await asyncio.wait([request])

    asyncio.run(main())
    events = site.wait_for(text, 2)
    assert [event["event"] for event in events] == ["hanging", "cancelled"]
    assert len({event["context"]["request_id"] for event in events}) == 1


def test_a_streamed_response_that_the_client_gives_up_ends_inside_of_its_request(site, text):
    async def main():
        async with site.client() as client:
            client.cookies = await enter(site, "quitter")
            async with client.stream("GET", "/endless/", params={"text": text}) as response:
                await anext(response.aiter_bytes())

    asyncio.run(main())
    (event,) = site.wait_for(text, 1)
    assert (event["event"], event["actor"]["label"]) == ("abandoned", "quitter")
    assert event["context"]["path"] == "/endless/"


def test_a_task_that_outlives_its_request_still_writes_and_leaves_no_connection(site, text):
    site.get("/later/", text)

    events = site.wait_for(text, 2)
    assert [event["message"] for event in events] == [f"{text} sent", f"{text} awaited"]
    assert {event["context"]["path"] for event in events} == {"/later/"}
    assert site.get("/state/").json()["connections"] == 0


def test_in_an_exception_handler_the_exception_stays_as_it_was(site, text):
    assert site.get("/handler/", text).text == "handler"
    assert len(site.events(text)) == 2


def test_a_sink_that_fails_fails_no_response_and_no_other_sink(site, text):
    assert site.get("/broken/", text).status_code == 200

    assert len(site.events(text)) == 2
    assert site.output.count(text) >= 2
    assert "out of order" in site.output


def test_the_sandbox_is_served_by_uvicorn(tmp_path):
    sandbox = Sandbox(tmp_path)
    assert sandbox.manage("migrate", "-v", "0").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    output = tmp_path / "uvicorn.txt"
    with output.open("wb") as stream:
        server = sandbox.start(
            *("-m", "uvicorn", "speedster.asgi:application", "--port", str(port)),
            stdout=stream,
            stderr=stream,
        )
        try:
            site = f"http://127.0.0.1:{port}"
            wait_for(site, server, output)
            assert fetch(site, "/test_logging/")[0] == 200
            assert fetch(site, "/test_logging/?age=age")[0] == 400
        finally:
            server.terminate()
            server.wait(30)
    success, error = sandbox.lines("log_event.log")
    assert SUCCESS_LINE.fullmatch(success)
    assert ERROR_LINE.fullmatch(error)
    sent = [e for e in sandbox.events("audit.jsonl").values() if e["event"] == "event"]
    assert {event["context"]["path"] for event in sent} == {"/test_logging/"}
    assert "Application shutdown complete" in output.read_text(encoding="utf-8")


# The end of the server


def until_accepted(site):
    deadline = time.monotonic() + 20
    while not (site.folder / "accepted").exists():
        assert time.monotonic() < deadline, site.output
        time.sleep(0.01)


def test_events_of_a_task_are_written_before_the_server_ends(tmp_path, text):
    with running(tmp_path) as site:
        assert site.get("/slow-later/", text).status_code == 200, site.output
        until_accepted(site)
        assert site.stop() == -signal.SIGTERM

        assert len(site.events(text)) == 3, site.output
        assert site.all_sinks_agree()


def test_a_request_under_way_when_the_server_is_told_to_stop_is_finished(tmp_path, text):
    async def main():
        async with site.client() as client:
            request = asyncio.create_task(client.get("/slow/", params={"text": text}))
            await asyncio.to_thread(until_accepted, site)
            code = await asyncio.to_thread(site.stop)
            return code, (await request).status_code

    # Django's application alone: a request waits for its own events.
    with running(tmp_path, lifespan=False) as site:
        assert asyncio.run(main()) == (-signal.SIGTERM, 200)
        assert len(site.events(text)) == 3
        assert site.all_sinks_agree()


def test_a_wrapped_application_still_gets_its_requests():
    seen = []

    async def application(scope, receive, send):
        seen.append((scope, receive, send))

    async_to_sync(audit_lifespan(application))({"type": "http"}, 1, 2)
    assert seen == [({"type": "http"}, 1, 2)]


def test_the_lifespan_ends_when_what_was_accepted_is_written():
    order = []

    async def application(scope, receive, send):
        pytest.fail("Django knows no lifespan")

    async def receive():
        if order:
            tasks.start(lambda: (time.sleep(0.05), order.append("written")))
            return {"type": "lifespan.shutdown"}
        return {"type": "lifespan.startup"}

    async def send(message):
        order.append(message["type"])

    async_to_sync(audit_lifespan(application))({"type": "lifespan"}, receive, send)
    assert order == ["lifespan.startup.complete", "written", "lifespan.shutdown.complete"]
