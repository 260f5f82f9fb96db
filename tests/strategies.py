"""Events of any content, for hypothesis."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from hypothesis import strategies as st

from django_signal_audit.event import LEVELS, Actor, Outcome
from tests.factories import make_event

# What breaks lines, pairs and terminals comes up often enough.
AWKWARD = [
    "\n",
    "\r\n",
    "\t",
    " ",
    "=",
    '"',
    "\\",
    ".",
    "\x1b[31m",
    "\x85",
    "\u2028",
    "\u202e",
    ",",
]

texts = st.one_of(
    st.text(max_size=20),
    st.lists(st.sampled_from([*AWKWARD, "a", "é", "0"]), max_size=8).map("".join),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
mappings = st.dictionaries(texts, values, max_size=4)
keys = st.lists(values, max_size=3)
changes = st.one_of(
    st.lists(values, min_size=2, max_size=2),
    st.fixed_dictionaries({"added": keys, "removed": keys}),
)
actors = st.builds(Actor, texts.filter(bool), st.none() | texts, texts)

_FIRST, _LAST = datetime(1970, 1, 2), datetime(2900, 1, 1)  # noqa: DTZ001 - as hypothesis asks

events = st.builds(
    make_event,
    timestamp=st.datetimes(_FIRST, _LAST, timezones=st.just(UTC)),
    event=texts.filter(bool),
    level=st.sampled_from(list(LEVELS)),
    outcome=st.sampled_from(Outcome),
    sender=texts,
    message=texts,
    object_type=st.none() | texts,
    object_id=st.none() | texts,
    object_repr=texts,
    changes=st.none() | st.dictionaries(texts, changes, max_size=3),
    actor=st.none() | actors,
    on_behalf_of=st.none() | actors,
    reason=st.none() | texts,
    cause=st.none() | st.just(uuid.UUID("01847656-3500-7000-95db-12b602ee14b4")),
    duration_ms=st.none() | st.floats(0, 1e9),
    error=st.none() | st.fixed_dictionaries({"type": texts, "message": texts}),
    context=mappings,
    data=mappings,
    database=st.none() | texts,
    rolled_back=st.booleans(),
)
