"""The lock between the threads of one process that a sink writes under."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class SinkLock:
    """A mutual exclusion of threads that is free after a fork and refuses re-entry.

    A signal handler or a finalizer that writes an event while its own thread is writing
    one would wait for itself for ever; here it gets an error instead, which the
    sink's ``ON_ERROR`` counts.

    Args:
        after_fork: called in a forked child, where no other thread exists.
    """

    def __init__(self, after_fork: Callable[[], None] | None = None) -> None:
        self._after_fork = after_fork
        self._lock = threading.Lock()
        self._owner: int | None = None
        _locks.add(self)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self, timeout: float = -1) -> bool:
        """Keep the other threads out.

        Args:
            timeout: seconds to wait for the one that is in; -1 for as long as it takes.

        Returns:
            Whether it has left in time.

        Raises:
            RuntimeError: it is this thread itself.
        """
        me = threading.get_ident()
        if self._owner == me:
            raise RuntimeError(
                "An event was given to a sink while the same thread was writing one to it, as "
                "happens in signal handlers and in __del__. Record the event after these return."
            )
        if not self._lock.acquire(timeout=timeout):
            return False
        self._owner = me
        return True

    def release(self) -> None:
        """Let the next thread in."""
        self._owner = None
        self._lock.release()

    def renew(self) -> None:
        """Start anew in a forked child: the thread that held the lock was not copied."""
        self._lock = threading.Lock()
        self._owner = None
        if self._after_fork is not None:
            self._after_fork()


_locks: WeakSet[SinkLock] = WeakSet()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


os.register_at_fork(after_in_child=_renew_all)
