"""Writes that an event loop has accepted and not yet finished.

``send()`` inside a running loop must not block it and must not lose the event: the write
is handed to its thread at once, and a task, kept here so that it is neither
garbage-collected nor forgotten, follows it; the middleware awaits it before the response
ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from django_signal_audit import internals

logger = logging.getLogger("django_signal_audit")


class _Follower(asyncio.Task[None]):
    """A task that cannot be cancelled.

    ``asyncio.run`` and ``async_to_sync`` cancel what is left when their coroutine has
    returned, and wait for it: they shall wait for a write, not undo it.
    """

    def cancel(self, msg: Any = None) -> bool:
        """Say that nothing was cancelled."""
        return False


@dataclass(eq=False)
class _Write:
    """One write, from the moment it is accepted; calling it does the work, in some thread.

    Attributes:
        work: what to do.
        handled: what the program was handling when it asked.
        error: how it failed.
        is_awaited: whether somebody will be told of a failure.
        follower: the task that ends when it is done; ``None`` if it was done at once.
    """

    work: Callable[[], object]
    handled: BaseException | None
    error: BaseException | None = None
    is_awaited: bool = False
    follower: _Follower | None = None

    def __call__(self) -> None:
        _forget_detour(self.handled)
        try:
            self.work()
        except BaseException as exc:  # noqa: BLE001 - reported where somebody can be told
            self.error = exc

    def finish(self) -> None:
        """Report a failure that nobody else will hear of."""
        if self.error is not None and not self.is_awaited:
            log_failure("An audit event was lost.", error=self.error, handled=self.handled)


@dataclass(eq=False)
class _Request:
    """The unfinished writes of one request, or of one part of a streamed response."""

    followers: set[_Follower] = field(default_factory=set)
    is_over: bool = False


_Begun = tuple[Coroutine[Any, Any, None], Any]

_all: set[_Follower] = set()
_request: ContextVar[_Request | None] = ContextVar("signal_audit_tasks", default=None)


def loop_is_running() -> bool:
    """Whether a query here would block a loop, which Django refuses."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    # Notebooks and browser tests run sync code in a loop's thread, and say so.
    return not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")


def start(work: Callable[[], object]) -> None:
    """Do something in its thread, followed by a task of the running loop.

    Its first step is taken here and now. That step chooses the thread and hands the work to
    it; a moment later, the loop may be about to end and the right thread be gone.

    Args:
        work: what to do; it sees the context variables of this moment. Its failure is logged.
    """
    _start(_Write(work, sys.exception()))


async def run(work: Callable[[], object]) -> None:
    """Do something in its thread and wait for it; it is done also if the waiting is cancelled.

    Args:
        work: what to do; it sees the context variables of this moment.

    Raises:
        Exception: whatever the work raised.
    """
    write = _Write(work, sys.exception(), is_awaited=True)
    _start(write)
    try:
        if write.follower is not None:
            await asyncio.wait([write.follower])
    except asyncio.CancelledError:
        write.is_awaited = False
        if write.follower is not None and write.follower.done():
            write.finish()
        raise
    if write.error is not None:
        raise write.error


def _start(write: _Write) -> None:
    context = copy_context()
    begun = _hand_over(write, context)
    if begun is None:
        write.finish()
        return

    def finished(follower: asyncio.Task[None]) -> None:
        _all.discard(mine)
        if request is not None:
            request.followers.discard(mine)
        write.finish()

    loop = asyncio.get_running_loop()
    mine = write.follower = _Follower(_follow(write, begun), loop=loop, context=context)
    _all.add(mine)
    request = _request.get()
    if request is not None:
        request.followers.add(mine)
    mine.add_done_callback(finished)


def _hand_over(write: _Write, context: Context) -> _Begun | None:
    """Give a write to a thread; ``None`` if it is done already."""
    request = _request.get()
    is_over = (request is not None and request.is_over) or internals.thread_is_gone()
    if not is_over or internals.sync_code_waits():
        try:
            return _first_step(sync_to_async(write), context)
        except RuntimeError:
            # asgiref refuses before it hands anything over: the right thread is gone, because
            # this task outlived the block it belongs to, or it is waiting for this very loop.
            pass
    write.work = _with_own_connections(write.work)
    try:
        return _first_step(sync_to_async(write, thread_sensitive=False), context)
    except RuntimeError:
        # The program is ending, and no thread takes anything any more.
        _without_loop(write)
        return None


def _first_step(
    function: Callable[[], Coroutine[Any, Any, None]], context: Context
) -> _Begun | None:
    coroutine = function()
    try:
        return coroutine, context.run(coroutine.send, None)
    except StopIteration:
        return None


def _with_own_connections(work: Callable[[], object]) -> Callable[[], None]:
    """Work for a thread that no request owns, so that nothing else closes its connections."""

    def wrapper() -> None:
        try:
            work()
        finally:
            _close_connections()

    return wrapper


def _close_connections() -> None:
    handled = sys.exception()
    try:
        connections.close_all()
    except Exception as exc:  # noqa: BLE001 - logged
        # The event may well be written: this must not be reported as its loss.
        message = "A connection could not be closed."
        log_failure(message, error=exc, handled=handled, level=logging.WARNING)


def _without_loop(write: Callable[[], None]) -> None:
    """Write in the loop's own thread, which waits."""
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)  # noqa: SLF001 - asyncio means it for such uses
    try:
        write()
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001


async def _follow(write: _Write, begun: _Begun) -> None:
    try:
        await _go_on(*begun)
    except asyncio.CancelledError:
        # Whoever shut the executor down let it drop what it had not begun.
        write.work = _with_own_connections(write.work)
        _without_loop(write)


@types.coroutine
def _go_on(coroutine: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Drive a coroutine that has taken its first step."""
    while True:
        error: BaseException | None = None
        try:
            yield awaited
        except BaseException as exc:  # noqa: BLE001 - handed on to the coroutine
            error = exc
        try:
            awaited = coroutine.send(None) if error is None else coroutine.throw(error)
        except StopIteration:
            return


def _forget_detour(handled: BaseException | None) -> None:
    """Take asgiref's frames off the exception that the program is handling.

    ``sync_to_async`` raises it once more in the thread, so that it is the current one there. But
    the program goes on meanwhile, and shows it with frames that it never went through.
    """
    trace = None if handled is None else handled.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == "asgiref.sync":
        trace = trace.tb_next
    if handled is not None:
        handled.__traceback__ = trace


def log_failure(
    message: str,
    *args: Any,
    error: BaseException,
    handled: BaseException | None,
    level: int = logging.ERROR,
) -> None:
    """Log a failure that is swallowed, and nothing of what the program was handling.

    Python chains an exception to the one that is being handled when it is raised. That one is
    the user's: its text was not redacted and may quote a secret.

    Args:
        message: for the log, with ``args``.
        *args: of the message.
        error: such as why an event could not be recorded; the caller swallows it.
        handled: the user's exception.
        level: of the log line.
    """
    _unchain(error, handled)
    logger.log(level, message, *args, exc_info=error)


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
        self._mine = _Request()
        self._token = _request.set(self._mine)

    async def __aexit__(self, *exc_info: object) -> None:
        self._mine.is_over = True
        _request.reset(self._token)
        # Failures are logged; a failed write must not fail the response.
        await _wait_for(self._mine.followers)


async def wait_for_writes() -> None:
    """Await every write that this loop has accepted so far, for code outside of requests."""
    await _wait_for(_all)


async def _wait_for(followers: set[_Follower]) -> None:
    # A thread that a request started may run a loop of its own; it waits for its own writes.
    loop = asyncio.get_running_loop()
    mine = [follower for follower in tuple(followers) if follower.get_loop() is loop]
    if mine:
        await asyncio.wait(mine)
