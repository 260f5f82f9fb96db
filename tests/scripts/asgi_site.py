"""A small ASGI site, served by uvicorn on a socket that the test has opened.

The environment says where its files go (``SITE_DIR``), its database (``SCRIPT_DATABASE``, JSON)
and whether its application knows the lifespan (``SITE_LIFESPAN``); the argument is the
descriptor of the socket.
"""
# ruff: noqa: E402 - most of it needs settings

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"

import django
import uvicorn
from asgiref.sync import sync_to_async
from django.conf import settings

SITE_DIR = Path(os.environ["SITE_DIR"])

settings.DATABASES = {"default": json.loads(os.environ["SCRIPT_DATABASE"])}
settings.ROOT_URLCONF = __name__
settings.ALLOWED_HOSTS = ["127.0.0.1"]
settings.SIGNAL_AUDIT = {
    "SINKS": {
        "database": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
        "slow": {"BACKEND": f"{__name__}.SlowSink", "EVENTS": ["slow"]},
        "file": {
            "BACKEND": "django_signal_audit.sinks.FileSink",
            "OPTIONS": {"path": str(SITE_DIR / "audit.jsonl")},
        },
        "stdout": {"BACKEND": "django_signal_audit.sinks.StdoutSink"},
        "broken": {"BACKEND": f"{__name__}.BrokenSink", "EVENTS": ["broken"]},
    }
}
django.setup()

from django.contrib.auth import alogin, alogout
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from django_signal_audit import event_signal, tasks
from django_signal_audit.asgi import audit_lifespan
from django_signal_audit.sinks import Sink
from tests.testapp.models import Author, Book, Tag

opened = []
background = set()


class BrokenSink(Sink):
    def emit(self, events):
        raise OSError("out of order")


class SlowSink(Sink):
    def emit(self, events):
        time.sleep(0.3)


def remember(connection, **kwargs):
    opened.append(connection)


connection_created.connect(remember)


async def enter(request, name):
    user, _ = await User.objects.aget_or_create(username=name)
    await alogin(request, user)
    return HttpResponse()


async def leave(request):
    """The user is known before, and gone right after."""
    await request.auser()
    event_signal.send("site", event="left")
    await alogout(request)
    return HttpResponse()


async def send(request):
    event_signal.send("site", event="sent", message=request.GET["text"])
    await asyncio.sleep(0)
    return HttpResponse()


async def await_send(request):
    await event_signal.asend("site", event="sent", message=request.GET["text"])
    return HttpResponse()


async def save(request):
    text = request.GET["text"]
    author = await Author.objects.acreate(name=text)
    await Author.objects.abulk_create([Author(name=text)])
    await Author.objects.filter(name=text).aupdate(name=f"{text}!")
    book = await Book.objects.acreate(title=text, author=author)
    tag = await Tag.objects.acreate(name=text)
    await book.tags.aadd(tag)
    await book.adelete()
    return HttpResponse()


def sync_save(request):
    with transaction.atomic():
        author = Author.objects.create(name=request.GET["text"])
        event_signal.send("site", event="sent", message=request.GET["text"], instance=author)
    return HttpResponse()


async def both(request):
    """Sync code in its thread, twice at once, beside what the view itself sends."""

    def write(part):
        with transaction.atomic():
            for number in range(2):
                Author.objects.create(name=f"{request.GET['text']} {part}.{number}")

    event_signal.send("site", event="sent", message=request.GET["text"])
    await asyncio.gather(*[sync_to_async(write)(part) for part in "ab"])
    return HttpResponse()


async def stream(request):
    async def parts():
        for number in range(3):
            event_signal.send("site", event="part", message=f"{request.GET['text']} {number}")
            await asyncio.sleep(0.01)
            yield f"{number};"

    return StreamingHttpResponse(parts())


async def endless(request):
    """For a client that leaves in the middle."""

    async def parts():
        try:
            while True:
                yield "more;"
                await asyncio.sleep(0.01)
        finally:
            event_signal.send("site", event="abandoned", message=request.GET["text"])

    return StreamingHttpResponse(parts())


async def hang(request):
    """For a client that does not wait."""
    event_signal.send("site", event="hanging", message=request.GET["text"])
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        event_signal.send("site", event="cancelled", message=request.GET["text"])
        raise


async def later(request):
    """What outlives its request."""

    async def work():
        await asyncio.sleep(0.2)
        event_signal.send("site", event="later", message=f"{request.GET['text']} sent")
        await event_signal.asend("site", event="later", message=f"{request.GET['text']} awaited")

    in_background(work())
    return HttpResponse()


async def slow_later(request):
    async def work():
        await asyncio.sleep(0.1)
        send_slowly(request.GET["text"])

    in_background(work())
    return HttpResponse()


async def slow(request):
    send_slowly(request.GET["text"])
    return HttpResponse()


def send_slowly(text):
    for number in range(3):
        event_signal.send("site", event="slow", message=f"{text} {number}")
    (SITE_DIR / "accepted").touch()


def in_background(coroutine):
    task = asyncio.create_task(coroutine)
    background.add(task)
    task.add_done_callback(background.discard)


async def handler(request):
    try:
        int("no number")
    except ValueError as error:
        event_signal.send("site", event="sent", message=request.GET["text"])
        await event_signal.asend("site", event="sent", message=request.GET["text"])
        return HttpResponse(error.__traceback__.tb_frame.f_code.co_name)


async def broken(request):
    event_signal.send("site", event="broken", message=request.GET["text"])
    await event_signal.asend("site", event="broken", message=request.GET["text"])
    return HttpResponse()


async def state(request):
    """What is open, besides what this request itself uses."""
    await sync_to_async(connections.close_all)()
    held = [one for one in opened if one.connection is not None]
    return JsonResponse(
        {
            "opened": len(opened),
            "connections": len(held),
            "writes": len(tasks._all),
            "threads": threading.active_count(),
        }
    )


urlpatterns = [
    path("enter/<name>/", enter),
    path("leave/", leave),
    path("send/", send),
    path("await-send/", await_send),
    path("save/", save),
    path("sync-save/", sync_save),
    path("both/", both),
    path("stream/", stream),
    path("endless/", endless),
    path("hang/", hang),
    path("later/", later),
    path("slow-later/", slow_later),
    path("slow/", slow),
    path("handler/", handler),
    path("broken/", broken),
    path("state/", state),
]


if __name__ == "__main__":
    call_command("migrate", verbosity=0, run_syncdb=True)
    connections.close_all()
    application = get_asgi_application()
    if os.environ["SITE_LIFESPAN"] == "1":
        application = audit_lifespan(application)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
