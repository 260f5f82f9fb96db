"""UUIDv7 identifiers that carry the event's own timestamp."""

from __future__ import annotations

import os
import random
import threading
import uuid
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COUNTER_BITS = 30
_RANDOM_BITS = 32
_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62


class _Generator:
    """A counter and a source of randomness for one process."""

    def __init__(self) -> None:
        self.reseed()

    def reseed(self) -> None:
        """Start anew: called after a fork, so that two processes never share a sequence."""
        # A signal handler or a finalizer may record an event while its own thread is in here.
        self._lock = threading.RLock()
        self._random = random.Random(os.urandom(32))  # noqa: S311 - uniqueness, not secrecy
        self._counter = self._random.getrandbits(_COUNTER_BITS - 1)

    def tail(self) -> int:
        """The next 62 low bits: a counter that only grows, then random bits."""
        with self._lock:
            self._counter = (self._counter + 1) & ((1 << _COUNTER_BITS) - 1)
            return (self._counter << _RANDOM_BITS) | self._random.getrandbits(_RANDOM_BITS)


_generator = _Generator()
os.register_at_fork(after_in_child=_generator.reseed)


def _time_bits(timestamp: datetime) -> int:
    """48 bits of milliseconds and 12 bits of the fraction, as RFC 9562, section 6.2, method 3."""
    # A filter may begin before the epoch; no event does.
    microseconds = max(0, (timestamp - _EPOCH) // _MICROSECOND)
    milliseconds, rest = divmod(microseconds, 1000)
    return (milliseconds << 80) | ((rest << 12) // 1000) << 64


def uuid7(timestamp: datetime) -> uuid.UUID:
    """Make an identifier from an event's timestamp.

    The identifier sorts by ``timestamp`` (to the microsecond), and within one microsecond
    of one process by the order of the calls, so also while the clock stands still. After a
    clock stepped back it sorts where its timestamp says: the time bits always come from
    ``timestamp``, never from a second look at the clock, so filters by id stay exact.

    Args:
        timestamp: an aware datetime.

    Returns:
        A version 7 UUID (RFC 9562).
    """
    return uuid.UUID(int=_time_bits(timestamp) | _VERSION | _VARIANT | _generator.tail())


def lowest_uuid7(timestamp: datetime) -> uuid.UUID:
    """The smallest identifier an event of that moment can have, for range filters by id."""
    return uuid.UUID(int=_time_bits(timestamp) | _VERSION | _VARIANT)
