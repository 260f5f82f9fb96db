"""Writes that an event loop has accepted and not yet finished.

``send()`` inside a running loop must not block it and must not lose the event: the write
becomes a task, kept here so that it is neither garbage-collected nor forgotten, and the
middleware awaits it before the response ends.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

logger = logging.getLogger("django_signal_audit")

_all: set[asyncio.Task[Any]] = set()
_of_request: ContextVar[list[asyncio.Task[Any]] | None] = ContextVar(
    "signal_audit_tasks", default=None
)


def start(write: Coroutine[Any, Any, Any]) -> None:
    """Run a write as a task of the running loop."""
    task = asyncio.get_running_loop().create_task(write)
    _all.add(task)
    task.add_done_callback(_finished)
    mine = _of_request.get()
    if mine is not None:
        mine.append(task)


def _finished(task: asyncio.Task[Any]) -> None:
    _all.discard(task)
    if task.cancelled():
        logger.error("An audit event was lost: its write was cancelled.")
    elif task.exception() is not None:
        logger.error("An audit event was lost.", exc_info=task.exception())


class pending_writes:  # noqa: N801 - used like a function
    """Collects the writes started inside, and awaits them at the end of the block."""

    async def __aenter__(self) -> None:
        self._token = _of_request.set([])

    async def __aexit__(self, *exc_info: object) -> None:
        mine = _of_request.get() or []
        _of_request.reset(self._token)
        if mine:
            # Failures are logged by _finished; a failed write must not fail the response.
            await asyncio.gather(*mine, return_exceptions=True)


async def wait_for_writes() -> None:
    """Await every write that was accepted so far, for code outside of requests."""
    while _all:
        await asyncio.gather(*_all, return_exceptions=True)
