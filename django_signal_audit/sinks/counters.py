"""How many events each sink wrote, failed to write, and lost, in this process."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import Literal

Outcome = Literal[
    "emitted",
    "written",
    "failed",
    "dropped",
    "spooled",
    "lost",
    "slow",
    "truncated",
    "forwarded",
    "delayed",
]

# A signal handler or a finalizer may record an event while its own thread is counting one.
_lock = threading.RLock()
_counts: dict[str, Counter[str]] = {}


def count(alias: str, outcome: Outcome, events: int) -> None:
    """Add to a sink's counter.

    Args:
        alias: the sink's key in the settings.
        outcome: ``written``; ``dropped`` by a rule, such as a table that is not there yet
            during ``migrate``; or ``lost`` because the sink failed. Of those written,
            ``forwarded`` to a database of their own, or ``delayed`` on the way there.
        events: how many.
    """
    if not events:
        return
    with _lock:
        _counts.setdefault(alias, Counter())[outcome] += events


def snapshot() -> dict[str, dict[str, int]]:
    """The counters of every sink that was used, by alias."""
    with _lock:
        return {alias: dict(counter) for alias, counter in _counts.items()}


def reset() -> None:
    """Start from zero, for tests."""
    with _lock:
        _counts.clear()


def _renew_lock() -> None:
    """Start anew in a forked child: the thread that held the lock was not copied."""
    global _lock  # noqa: PLW0603 - one lock for one process
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
