"""How many events each sink wrote, failed to write, and lost.

``snapshot()`` tells it of this process. Where ``STATE_DIR`` is set, every process adds to
counters that outlive it, which ``manage.py audit_status`` prints.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Final, Literal, get_args

from django_signal_audit.sinks import shared_counts, state

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
"""
- ``emitted``: events that were for this sink. Each of them is then ``written``, ``dropped`` or
  ``lost``, was rolled back with its change, or waits in the spool.
- ``written``: the sink has them; in a database, with their transaction.
- ``failed``: events of attempts to write that failed. What became of them: with the policy
  ``raise`` the change was rolled back, with ``log`` they are lost, with ``spool`` spooled.
- ``dropped``: by a rule, such as a processor, or a table that is not there yet during ``migrate``.
- ``spooled``: put into the spool; once they were delivered from there, written as well.
- ``lost``: they are nowhere.
- ``slow``: calls, not events, that kept the program waiting for more than 50 ms after COMMIT.
- ``truncated``: times, not events, that another program cut the sink's file.
- ``forwarded`` and ``delayed``: of those written, moved to a database of their own, or not at once.
"""

OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

# A signal handler or a finalizer may record an event while its own thread is counting one.
_lock = threading.RLock()
_counts: dict[str, Counter[str]] = {}


def count(alias: str, outcome: Outcome, events: int) -> None:
    """Add to one of a sink's counters.

    Args:
        alias: the sink's key in the settings.
        outcome: what became of the events.
        events: how many.
    """
    count_all(alias, {outcome: events})


def count_all(alias: str, numbers: Mapping[Outcome, int]) -> None:
    """Add to several counters of a sink at once.

    Args:
        alias: the sink's key in the settings.
        numbers: how many events had which outcome.
    """
    some = {outcome: number for outcome, number in numbers.items() if number}
    if not some:
        return
    with _lock:
        _counts.setdefault(alias, Counter()).update(some)
    directory = state.directory()
    if directory is not None:
        shared_counts.add(directory, alias, {OUTCOMES.index(o): n for o, n in some.items()})


def snapshot() -> dict[str, dict[str, int]]:
    """The counters of every sink that was used in this process, by alias."""
    with _lock:
        return {alias: dict(counter) for alias, counter in _counts.items()}


def of_all_processes() -> dict[str, dict[str, int]] | None:
    """The counters of all processes that share ``STATE_DIR``, ended ones too, by alias.

    Returns:
        ``None`` where ``STATE_DIR`` is not set.

    Raises:
        OSError: they cannot be read.
    """
    directory = state.directory()
    if directory is None:
        return None
    return {
        alias: {OUTCOMES[at]: number for at, number in numbers.items()}
        for alias, numbers in shared_counts.read(directory).items()
    }


def reset() -> None:
    """Start from zero in this process, for tests."""
    with _lock:
        _counts.clear()


def reset_of_all_processes() -> None:
    """Start from zero in all processes that share ``STATE_DIR``.

    Raises:
        OSError: the counters cannot be written.
    """
    directory = state.directory()
    if directory is not None:
        shared_counts.reset(directory)


def _renew_lock() -> None:
    """Start anew in a forked child: the thread that held the lock was not copied."""
    global _lock  # noqa: PLW0603 - one lock for one process
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)
