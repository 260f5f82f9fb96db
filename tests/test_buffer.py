"""The transaction buffer alone: no database, no settings."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from django_signal_audit.buffer import UNWRITTEN, Entry, TransactionBuffer
from tests.factories import make_event

KEY = ("event", None, "info", None)


def make_entry(name, *, survives=False, keep=False, folds=False):
    return Entry(make_event(message=name), KEY, survives=survives, keep=keep, folds=folds)


def names(entries):
    return [entry.event.message for entry in entries]


def remembered(buffer):
    return [entry for batch in buffer.batches() for entry in batch]


class Table:
    """Collects what is flushed; refuses the second row of an event, as a primary key does."""

    def __init__(self):
        self.rows = {}

    def write(self, entries):
        for entry in entries:
            assert entry.event.id not in self.rows, f"{entry.event.message} was INSERTed twice"
            self.rows[entry.event.id] = entry.event

    @property
    def names(self):
        return [event.message for event in self.rows.values()]


@pytest.fixture
def buffer():
    made = TransactionBuffer(limit=100)
    yield made
    made.clear()


@pytest.fixture
def table():
    return Table()


def add(buffer, *wanted, **options):
    for name in wanted:
        buffer.append(make_entry(name, **options))


def test_a_new_buffer_is_empty_and_false(buffer):
    assert not buffer
    assert remembered(buffer) == []


def test_events_are_flushed_in_order_and_once(buffer, table):
    add(buffer, "a", "b")
    buffer.flush(table.write)
    add(buffer, "c")
    buffer.flush(table.write)
    assert table.names == ["a", "b", "c"]


def test_a_rolled_back_savepoint_drops_what_came_after_it(buffer):
    add(buffer, "a")
    buffer.mark("s1")
    add(buffer, "b", "c")
    buffer.roll_back_to("s1")
    assert names(remembered(buffer)) == ["a"]


def test_a_released_savepoint_leaves_its_events_to_the_enclosing_one(buffer):
    buffer.mark("outer")
    add(buffer, "a")
    buffer.mark("inner")
    add(buffer, "b")
    buffer.release("inner")
    assert names(remembered(buffer)) == ["a", "b"]
    buffer.roll_back_to("outer")
    assert not buffer


def test_an_unknown_savepoint_was_set_before_the_first_event_and_undoes_all(buffer, table):
    add(buffer, "a")
    buffer.flush(table.write)
    add(buffer, "b")
    buffer.roll_back_to("never seen")
    assert not buffer


def test_a_savepoint_can_be_rolled_back_again_and_again(buffer):
    add(buffer, "a")
    buffer.mark("s1")
    for name in ("b", "c"):
        add(buffer, name)
        buffer.roll_back_to("s1")
    add(buffer, "d")
    assert names(remembered(buffer)) == ["a", "d"]


def test_rolling_back_an_outer_savepoint_forgets_the_inner_ones(buffer):
    buffer.mark("outer")
    add(buffer, "a")
    buffer.mark("inner")
    add(buffer, "b")
    buffer.roll_back_to("outer")
    add(buffer, "c")
    buffer.mark("inner")  # a name may come again: clean_savepoints() restarts the counter
    add(buffer, "d")
    buffer.roll_back_to("inner")
    assert names(remembered(buffer)) == ["c"]


def test_the_same_name_twice_means_the_later_savepoint_first(buffer):
    buffer.mark("s1")
    add(buffer, "a")
    buffer.mark("s1")
    add(buffer, "b")
    buffer.roll_back_to("s1")
    assert names(remembered(buffer)) == ["a"]
    buffer.release("s1")
    add(buffer, "c")
    buffer.roll_back_to("s1")
    assert not buffer


def test_releasing_an_outer_savepoint_releases_the_inner_ones(buffer):
    buffer.mark("outer")
    buffer.mark("inner")
    buffer.release("outer")
    assert buffer._marks == []


def test_an_event_flushed_inside_a_savepoint_is_unwritten_by_its_rollback(buffer, table):
    add(buffer, "a")
    buffer.mark("s1")
    buffer.flush(table.write)
    table.rows.clear()  # what the database does
    buffer.roll_back_to("s1")
    assert [entry.flush for entry in remembered(buffer)] == [UNWRITTEN]
    buffer.flush(table.write)
    assert table.names == ["a"]


def test_an_event_flushed_before_a_savepoint_stays_written(buffer, table):
    add(buffer, "a")
    buffer.flush(table.write)
    buffer.mark("s1")
    add(buffer, "b")
    buffer.flush(table.write)
    buffer.roll_back_to("s1")
    buffer.flush(table.write)
    assert table.names == ["a", "b"]


def test_a_custom_event_survives_a_savepoint_rollback_marked_and_is_written_again(buffer, table):
    buffer.mark("s1")
    add(buffer, "tried", survives=True)
    buffer.flush(table.write)
    table.rows.clear()
    buffer.roll_back_to("s1")
    buffer.flush(table.write)
    (event,) = table.rows.values()
    assert event.rolled_back
    assert event.message == "tried"


def test_a_custom_event_before_the_savepoint_is_not_marked_by_its_rollback(buffer):
    add(buffer, "early", survives=True)
    buffer.mark("s1")
    add(buffer, "late", survives=True)
    buffer.roll_back_to("s1")
    assert [entry.event.rolled_back for entry in remembered(buffer)] == [False, True]


def test_a_discarding_rollback_drops_custom_events_too(buffer):
    add(buffer, "before", survives=True)
    buffer.mark("s1")
    add(buffer, "late", survives=True)
    buffer.roll_back_to("s1", discard=True)
    assert names(remembered(buffer)) == ["before"]


def test_survivors_are_the_custom_events_all_marked(buffer):
    add(buffer, "change")
    add(buffer, "act", survives=True)
    (batch,) = buffer.survivors()
    assert [(e.event.message, e.event.rolled_back) for e in batch] == [("act", True)]


def test_a_failed_flush_remembers_nothing_as_written(buffer, table):
    add(buffer, "a", "b")

    def fail(entries):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        buffer.flush(fail)
    buffer.flush(table.write)
    assert table.names == ["a", "b"]


def test_spilling_forgets_what_the_database_alone_can_carry(buffer, table):
    add(buffer, "a", "b")
    buffer.flush(table.write)
    buffer.spill()
    assert not buffer
    assert buffer.has_spilled
    assert buffer._file is None


def test_spilling_keeps_what_a_sink_wants_after_commit_in_order(buffer, table):
    for chunk in ("ab", "cd"):
        add(buffer, *chunk, keep=True)
        buffer.flush(table.write)
        buffer.spill()
    add(buffer, "e", keep=True)
    assert buffer._entries[0].event.message == "e"
    assert names(remembered(buffer)) == list("abcde")


def test_spilling_keeps_a_custom_event_until_the_fate_is_known(buffer, table):
    add(buffer, "act", survives=True)
    buffer.flush(table.write)
    buffer.spill()
    assert names(batch[0] for batch in buffer.survivors()) == ["act"]


def test_spilling_keeps_what_an_open_savepoint_could_unwrite(buffer, table):
    add(buffer, "before")
    buffer.mark("s1")
    add(buffer, "after")
    buffer.flush(table.write)
    buffer.spill()
    assert names(remembered(buffer)) == ["before"]
    table.rows.clear()
    buffer.roll_back_to("s1")
    buffer.flush(table.write)
    assert table.names == ["before"]


def test_a_spilled_chunk_is_undone_like_the_rest(buffer, table):
    add(buffer, "a", keep=True)
    buffer.mark("s1")
    add(buffer, "b", keep=True)
    buffer.flush(table.write)
    buffer.spill()
    table.rows.clear()
    buffer.roll_back_to("s1")
    assert names(remembered(buffer)) == ["a"]
    buffer.flush(table.write)
    assert table.names == ["a"]


def test_events_come_back_from_the_temporary_file_as_they_were(buffer, table):
    add(buffer, "a", keep=True, survives=True)
    (before,) = remembered(buffer)
    buffer.flush(table.write)
    buffer.spill()
    (after,) = remembered(buffer)
    assert after == before
    assert after.event.to_dict() == before.event.to_dict()


def test_clear_closes_the_temporary_file():
    buffer = TransactionBuffer(limit=1)
    add(buffer, "a", keep=True)
    buffer.flush(lambda entries: None)
    buffer.spill()
    file = buffer._file
    buffer.clear()
    assert file.closed


class BufferAgainstDatabase(RuleBasedStateMachine):
    """The buffer beside a model database: lists, which savepoints cut back.

    ``events`` is what should be recorded so far, with its marks; ``rows`` is what a
    database holds that has been given the flushes and nothing else.
    """

    def __init__(self):
        super().__init__()
        self.begin()

    def begin(self):
        self.buffer = TransactionBuffer(limit=3)
        self.rows = {}
        self.events = []
        self.savepoints = []  # (name, rows, number of events)
        self.made = 0
        self.saved = 0

    def teardown(self):
        self.buffer.clear()

    def insert(self, entries):
        for entry in entries:
            name = entry.event.message
            assert name not in self.rows, f"{name} was INSERTed twice"
            self.rows[name] = entry.event.rolled_back

    @rule(survives=st.booleans(), keep=st.booleans())
    def make_event(self, survives, keep):
        name = f"e{self.made}"
        self.made += 1
        self.events.append([name, survives, keep, False])
        self.buffer.append(make_entry(name, survives=survives, keep=keep))
        if self.buffer.is_full:
            self.buffer.flush(self.insert)
            self.buffer.spill()

    @rule()
    def read(self):
        self.buffer.flush(self.insert)
        assert self.rows == self.expected_rows()

    @rule()
    def fail_to_read(self):
        def fail(entries):
            raise OSError

        with suppress(OSError):
            self.buffer.flush(fail)

    @rule(data=st.data())
    def savepoint(self, data):
        if self.buffer.has_spilled:
            self.buffer.flush(self.insert)
        known = [s[0] for s in self.savepoints]
        name = data.draw(st.sampled_from([f"s{self.saved}", *known]))
        self.saved += 1
        self.savepoints.append((name, dict(self.rows), len(self.events)))
        self.buffer.mark(name)

    @precondition(lambda self: self.savepoints)
    @rule(data=st.data())
    def release(self, data):
        name = data.draw(st.sampled_from([s[0] for s in self.savepoints]))
        del self.savepoints[self.position(name) :]
        self.buffer.release(name)

    @precondition(lambda self: self.savepoints)
    @rule(data=st.data())
    def roll_back(self, data):
        name = data.draw(st.sampled_from([s[0] for s in self.savepoints]))
        position = self.position(name)
        _, rows, events = self.savepoints[position]
        del self.savepoints[position + 1 :]
        self.rows = dict(rows)
        undone = [[n, s, k, True] for n, s, k, _ in self.events[events:] if s]
        self.events[events:] = undone
        self.buffer.roll_back_to(name)

    @rule()
    def commit(self):
        self.buffer.flush(self.insert)
        assert self.rows == self.expected_rows()
        delivered = [(e.event.message, e.event.rolled_back) for e in remembered(self.buffer)]
        kept = {name for name, _, keep, _ in self.events if keep}
        assert [d for d in delivered if d[0] in kept] == [
            (name, marked) for name, _, keep, marked in self.events if keep
        ]
        self.buffer.clear()
        self.begin()

    @rule()
    def roll_back_all(self):
        survivors = [e for batch in self.buffer.survivors() for e in batch]
        assert names(survivors) == [name for name, survives, _, _ in self.events if survives]
        assert all(entry.event.rolled_back for entry in survivors)
        self.buffer.clear()
        self.begin()

    def position(self, name):
        return max(i for i, s in enumerate(self.savepoints) if s[0] == name)

    def expected_rows(self):
        return {name: marked for name, _, _, marked in self.events}

    @invariant()
    def memory_is_bounded(self):
        assert len(self.buffer._entries) < self.buffer.limit


TestBufferAgainstDatabase = BufferAgainstDatabase.TestCase
TestBufferAgainstDatabase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)


# Folding


def join(entries):
    """Folds every run to its first entry, renamed to what it was made of."""
    entries = list(entries)
    entries[0].event = make_event(message="".join(names(entries)))
    return entries[:1]


def test_one_save_alone_is_nothing_to_fold(buffer):
    add(buffer, "a", folds=True)
    add(buffer, "b")
    assert not buffer.may_fold
    add(buffer, "c", folds=True)
    assert buffer.may_fold


def test_entries_are_folded_between_open_savepoints(buffer):
    add(buffer, "a", "b", folds=True)
    buffer.mark("outer")
    add(buffer, "c", "d", folds=True)
    buffer.mark("inner")
    add(buffer, "e", folds=True)
    buffer.mark("released")
    add(buffer, "f", folds=True)
    buffer.release("released")
    buffer.fold(join)
    assert names(remembered(buffer)) == ["ab", "cd", "ef"]
    buffer.roll_back_to("inner")
    assert names(remembered(buffer)) == ["ab", "cd"]


def test_what_was_flushed_is_nothing_to_fold_until_it_is_undone(buffer, table):
    buffer.mark("s1")
    add(buffer, "a", "b", folds=True)
    buffer.mark("s2")
    buffer.flush(table.write)
    assert not buffer.may_fold
    buffer.roll_back_to("s2")
    assert buffer.may_fold


def test_what_is_to_be_counted_is_kept_together_unless_a_savepoint_parts_it(buffer, table):
    def flush(alias="db"):
        add(buffer, "a")
        buffer.flush(lambda entries: buffer.tally(alias, {"written": len(entries)}))

    for number in range(1000):
        buffer.mark(f"{number}")
        flush()
        buffer.release(f"{number}")
    assert len(buffer._tally) == 2
    assert sum(numbers["written"] for _, numbers in buffer.tallied) == 1000
    flush("other")
    buffer.mark("outer")
    flush()
    flush("other")
    flush()
    assert len(buffer._tally) == 3
    assert sum(numbers["written"] for _, numbers in buffer.tallied) == 1004
    buffer.roll_back_to("outer")
    assert sorted((alias, dict(n)) for alias, n in buffer.tallied) == [
        ("db", {"written": 1000}),
        ("other", {"written": 1}),
    ]


def test_two_sinks_are_counted_for_one_flush(buffer, table):
    add(buffer, "a")

    def write(entries):
        buffer.tally("db", {"emitted": 1, "written": 1})
        buffer.tally("second", {"emitted": 1, "dropped": 1})

    buffer.flush(write)
    assert [(alias, dict(numbers)) for alias, numbers in buffer.tallied] == [
        ("db", {"emitted": 1, "written": 1}),
        ("second", {"emitted": 1, "dropped": 1}),
    ]
