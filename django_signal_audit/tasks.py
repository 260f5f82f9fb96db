"""Writes that an event loop has accepted and not yet finished.

``send()`` inside a running loop must not block it and must not lose the event: the write
is handed to its thread at once, and a task, kept here so that it is neither
garbage-collected nor forgotten, follows it; the middleware awaits it before the response
ends.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

logger = logging.getLogger("django_signal_audit")


class _Write(asyncio.Task[Any]):
    """A task that cannot be cancelled.

    ``asyncio.run`` and ``async_to_sync`` cancel what is left when their coroutine has
    returned, and wait for it: they shall wait for a write, not undo it.
    """

    def cancel(self, msg: Any = None) -> bool:
        """Say that nothing was cancelled."""
        return False


_all: set[_Write] = set()
_of_request: ContextVar[list[_Write] | None] = ContextVar("signal_audit_tasks", default=None)


def loop_is_running() -> bool:
    """Whether a query here would block a loop, which Django refuses."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    # Notebooks and browser tests run sync code in a loop's thread, and say so.
    return not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")


def start(write: Callable[[], Any]) -> None:
    """Run a write in its thread, followed by a task of the running loop.

    Its first step is taken here and now. That step chooses the thread and hands the work to
    it; a moment later, the loop may be about to end and the right thread be gone.

    Args:
        write: does the work; it sees the context variables of this moment.
    """
    context = copy_context()
    begun = _begin(write, context)
    if begun is None:
        return
    loop = asyncio.get_running_loop()
    task = _Write(_follow(*begun), loop=loop, context=context)
    _all.add(task)
    task.add_done_callback(functools.partial(_finished, handled=sys.exception()))
    mine = _of_request.get()
    if mine is not None:
        mine.append(task)


def _begin(
    write: Callable[[], Any], context: Context
) -> tuple[Coroutine[Any, Any, Any], Any] | None:
    """Take the first step; ``None`` if it was the last."""
    coroutine = sync_to_async(write)()
    try:
        try:
            return coroutine, context.run(coroutine.send, None)
        except RuntimeError:
            # asgiref refuses before it hands anything over: the right thread is gone, because
            # this task outlived the block it belongs to, or it is waiting for this very loop.
            coroutine = sync_to_async(_with_own_connections(write), thread_sensitive=False)()
            return coroutine, context.run(coroutine.send, None)
    except StopIteration:
        return None


def _with_own_connections(write: Callable[[], Any]) -> Callable[[], Any]:
    """A write for a thread that no request owns, so that nothing else closes its connections."""

    def wrapper() -> None:
        try:
            write()
        finally:
            connections.close_all()

    return wrapper


async def _follow(write: Coroutine[Any, Any, Any], awaited: Any) -> None:
    await _go_on(write, awaited)


@types.coroutine
def _go_on(write: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, None]:
    """Drive a coroutine that has taken its first step."""
    while True:
        error: BaseException | None = None
        try:
            yield awaited
        except BaseException as exc:  # noqa: BLE001 - handed on to the coroutine
            error = exc
        try:
            awaited = write.send(None) if error is None else write.throw(error)
        except StopIteration:
            return


def _finished(task: asyncio.Task[Any], *, handled: BaseException | None) -> None:
    _all.discard(task)
    error = task.exception()
    if error is not None:
        log_failure("An audit event was lost.", error=error, handled=handled)


def log_failure(
    message: str, *args: Any, error: BaseException, handled: BaseException | None
) -> None:
    """Log that an event could not be recorded, and nothing of what the program was handling.

    Python chains an exception to the one that is being handled when it is raised. That one is
    the user's: its text was not redacted and may quote a secret.

    Args:
        message: for the log, with ``args``.
        *args: of the message.
        error: why the event could not be recorded; the caller swallows it.
        handled: the user's exception.
    """
    _unchain(error, handled)
    logger.error(message, *args, exc_info=error)


def _unchain(error: BaseException, handled: BaseException | None) -> None:
    links, seen = [error], set[int]()
    while links:
        link = links.pop()
        seen.add(id(link))
        if link.__context__ is handled:
            link.__context__ = None
        links += [
            e for e in (link.__cause__, link.__context__) if e is not None and id(e) not in seen
        ]


class pending_writes:  # noqa: N801 - used like a function
    """Collects the writes started inside, and awaits them at the end of the block."""

    async def __aenter__(self) -> None:
        self._token = _of_request.set([])

    async def __aexit__(self, *exc_info: object) -> None:
        mine = _of_request.get() or []
        _of_request.reset(self._token)
        if mine:
            # Failures are logged by _finished; a failed write must not fail the response.
            await asyncio.wait(mine)


async def wait_for_writes() -> None:
    """Await every write that this loop has accepted so far, for code outside of requests."""
    loop = asyncio.get_running_loop()
    while mine := [task for task in tuple(_all) if task.get_loop() is loop]:
        await asyncio.wait(mine)
