"""Writes that an event loop has accepted and not yet finished.

``send()`` inside a running loop must not block it and must not lose the event: the write
is handed to its thread at once, and a task, kept here so that it is neither
garbage-collected nor forgotten, follows it; the middleware awaits it before the response
ends.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Generator
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

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


def start(write: Coroutine[Any, Any, Any]) -> None:
    """Run a write as a task of the running loop.

    Its first step is taken here and now. That step chooses the thread and hands the work to
    it; a moment later, the loop may be about to end and the right thread be gone.

    Args:
        write: a call of a ``sync_to_async`` function.
    """
    context = copy_context()
    try:
        awaited = context.run(write.send, None)
    except StopIteration:
        return
    loop = asyncio.get_running_loop()
    task = _Write(_follow(write, awaited), loop=loop, context=context)
    _all.add(task)
    task.add_done_callback(_finished)
    mine = _of_request.get()
    if mine is not None:
        mine.append(task)


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


def _finished(task: asyncio.Task[Any]) -> None:
    _all.discard(task)
    error = task.exception()
    if error is not None:
        logger.error("An audit event was lost.", exc_info=error)


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
