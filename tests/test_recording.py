"""Under a running event loop; what is sent there is in the tests of each way of sending."""

import asyncio
import contextvars
import inspect
import json
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync
from django.db import connections
from django.test import override_settings

from django_signal_audit import suspend_audit, tasks
from django_signal_audit.pipeline import Act
from django_signal_audit.recording import record_act
from django_signal_audit.testing import capture_events

# Without sinks no query is made, so that no thread opens a connection to the tests' database.
without_sinks = override_settings(SIGNAL_AUDIT={"SINKS": {}})


@without_sinks
@pytest.mark.skipif(
    "executor" not in inspect.signature(ThreadSensitiveContext).parameters,
    reason="an older asgiref refuses nothing here",
)
def test_a_task_that_outlives_its_thread_sensitive_context_loses_nothing():
    async def background(ended):
        await ended.wait()
        record_act(Act(event="late"))

    async def main():
        ended = asyncio.Event()
        with ThreadPoolExecutor(max_workers=1) as executor:
            async with ThreadSensitiveContext(executor=executor):
                task = asyncio.create_task(background(ended))
            ended.set()
            await task

    with capture_events() as events:
        asyncio.run(main())
    assert [event.event for event in events] == ["late"]


@without_sinks
def test_a_loop_that_its_own_thread_waits_for_loses_nothing():
    async def main():
        record_act(Act(event="inner"))

    context = contextvars.copy_context()
    context.run(SyncToAsync.deadlock_context.set, True)
    with capture_events() as events:
        context.run(asyncio.run, main())
    assert [event.event for event in events] == ["inner"]


def test_a_write_in_a_thread_of_nobody_closes_its_connections(monkeypatch):
    closed = []
    monkeypatch.setattr(type(connections), "close_all", lambda self: closed.append(1))

    def fail():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        tasks._with_own_connections(fail)()
    assert closed == [1]


def test_suspended_nothing_is_handed_to_a_task():
    async def main():
        with suspend_audit():
            record_act(Act(event="a"))
        assert not tasks._all

    with capture_events() as events:
        async_to_sync(main)()
    assert events == []


def test_what_a_coroutine_sends_before_the_apps_are_ready_goes_where_no_database_is_needed(
    tmp_path,
):
    script = """
        import asyncio, sys
        from django.conf import settings
        settings.configure(
            INSTALLED_APPS=["django_signal_audit"],
            SIGNAL_AUDIT={"SINKS": {"out": {"BACKEND": "django_signal_audit.sinks.StdoutSink"}}},
        )
        import django
        from django_signal_audit import event_signal

        async def main():
            event_signal.send("x", event="early", message="word")

        asyncio.run(main())
        django.setup()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
    )

    assert done.returncode == 0, done.stderr
    event = json.loads(done.stdout)
    assert (event["event"], event["message"]) == ("early", "word")
