"""A failing sequence, made short within a minute: hypothesis would take five, and be killed."""

from __future__ import annotations

import dataclasses
import time

from tests.replay.operations import BLOCKS

SECONDS = 60


def reduced(writes, fails):
    """The sequence without the writes and values that it takes not to fail.

    Args:
        writes: a list that fails.
        fails: called with a shorter list.
    """
    end = time.monotonic() + SECONDS
    size = max(1, len(writes) // 2)
    while size:
        start = 0
        while start < len(writes) and time.monotonic() < end:
            shorter = writes[:start] + writes[start + size :]
            if fails(shorter):
                writes = shorter
            else:
                start += size
        size //= 2
    place = 0
    while place < len(writes) and time.monotonic() < end:
        for simpler in _simpler(writes[place]):
            if fails([*writes[:place], simpler, *writes[place + 1 :]]):
                writes = [*writes[:place], simpler, *writes[place + 1 :]]
                break
        else:
            place += 1
    return writes


def _simpler(write):
    """The write with one thing less in it, in each possible way."""
    if isinstance(write, BLOCKS):
        if len(write.writes) == 1:
            yield write.writes[0]
        for name in ("writes", "more"):
            inner = getattr(write, name, ())
            for place, one in enumerate(inner):
                left, right = inner[:place], inner[place + 1 :]
                if left or right or name == "more":
                    yield dataclasses.replace(write, **{name: left + right})
                for simpler in _simpler(one):
                    yield dataclasses.replace(write, **{name: (*left, simpler, *right)})
        return
    values = getattr(write, "values", None)
    if isinstance(values, dict):
        for key in values:
            fewer = {name: value for name, value in values.items() if name != key}
            yield dataclasses.replace(write, values=fewer)
