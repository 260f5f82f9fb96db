"""What asgiref does not document."""

from __future__ import annotations

from asgiref.sync import AsyncToSync, SyncToAsync


def sync_code_waits() -> bool:
    """Whether this coroutine was called by sync code, in whose thread all sync code then runs."""
    return getattr(AsyncToSync.executors, "current", None) is not None


def thread_is_gone() -> bool:
    """Whether the block that gave this task a thread of its own has ended, and the thread with it.

    Each ASGI request is such a block. asgiref would make a new thread, whose connections
    nobody closes.
    """
    block = SyncToAsync.thread_sensitive_context.get(None)
    return block is not None and block not in SyncToAsync.context_to_thread_executor
