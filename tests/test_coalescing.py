"""Several saves told as one: events alone, no database."""

from __future__ import annotations

import uuid

import pytest

from django_signal_audit.buffer import Entry
from django_signal_audit.coalescing import coalesced, fold
from django_signal_audit.event import Actor
from tests.factories import make_event

KEY = ("event", None, "info", None)
TRANSACTION = uuid.UUID(int=1)


def save(operation, changes, **given):
    name = f"model.{operation}"
    said = {
        "event": name,
        "message": name,
        "sender": "testapp.Author",
        "object_type": "testapp.author",
        "object_id": "1",
        "changes": changes,
        "database": "default",
        "transaction": TRANSACTION,
    }
    return make_event(**{**said, **given})


def update(changes, **given):
    return save("update", changes, **given)


def told(entries):
    return [(e.event.event, e.event.changes, e.event.data) for e in entries]


def folded(*events, keep_unchanged=False, folds=True):
    entries = [Entry(e, KEY, survives=False, keep=False, folds=folds) for e in events]
    return told(coalesced(entries, keep_unchanged=keep_unchanged))


def test_a_create_and_its_updates_are_one_create_with_the_last_values():
    assert folded(
        save("create", {"name": [None, "a"], "n": [None, 1]}),
        update({"name": ["a", "b"]}),
        update({"name": ["b", "c"], "size": [3, 4]}),
    ) == [
        (
            "model.create",
            {"name": [None, "c"], "n": [None, 1], "size": [None, 4]},
            {"coalesced": 3},
        )
    ]


def test_updates_are_one_from_the_first_old_to_the_last_new_value():
    assert folded(update({"name": ["a", "b"]}), update({"name": ["b", "c"], "n": [1, 2]})) == [
        ("model.update", {"name": ["a", "c"], "n": [1, 2]}, {"coalesced": 2})
    ]


def test_a_column_that_ends_as_it_began_is_left_out():
    assert folded(update({"name": ["a", "b"], "n": [1, 2]}), update({"name": ["b", "a"]})) == [
        ("model.update", {"n": [1, 2]}, {"coalesced": 2})
    ]


def test_updates_that_came_to_nothing_are_no_event_unless_the_setting_keeps_them():
    events = update({"name": ["a", "b"]}), update({"name": ["b", "a"]})
    assert folded(*events) == []
    assert folded(*events, keep_unchanged=True) == [("model.update", {}, {"coalesced": 2})]


def test_an_unchanged_save_alone_stays_as_it_was_recorded():
    assert folded(update({})) == [("model.update", {}, {})]


@pytest.mark.parametrize(
    "hidden",
    [
        "[redacted]",
        {"token": "[redacted]"},
        [{"token": "[redacted]"}],
        {"$cut": {"items": 5}},
    ],
)
def test_a_value_that_cannot_be_compared_stays(hidden):
    assert folded(update({"x": [hidden, hidden]}), update({"x": [hidden, hidden]})) == [
        ("model.update", {"x": [hidden, hidden]}, {"coalesced": 2})
    ]


def test_json_without_marks_that_ends_as_it_began_is_left_out():
    plain = {"a": [1, {"b": "c"}]}
    assert folded(update({"x": [plain, 1]}), update({"x": [1, plain]})) == []


def test_identity_and_time_are_those_of_the_first_and_the_text_is_that_of_the_last():
    first, second = update({"n": [1, 2]}, object_repr="a"), update({"n": [2, 3]}, object_repr="b")
    found = fold(first, second)
    assert (found.id, found.timestamp, found.object_repr) == (first.id, first.timestamp, "b")
    assert first.changes == {"n": [1, 2]}


@pytest.mark.parametrize(
    "differs",
    [
        {"actor": Actor("user", "2", "bob")},
        {"on_behalf_of": Actor("user", "2", "bob")},
        {"reason": "another"},
        {"cause": uuid.UUID(int=7)},
        {"context": {"step": 2}},
        {"level": "warning"},
        {"message": "by a processor"},
        {"data": {"by": "a processor"}},
        {"data": {"before": "unknown"}},
        {"transaction": uuid.UUID(int=2)},
        {"changes": {"n": [5, 6]}},
        {"object_id": "2"},
        {"database": "other"},
    ],
    ids=lambda differs: next(iter(differs)),
)
def test_what_one_event_could_not_say_stays_two(differs):
    later = update({"n": [2, 3]}) if "changes" not in differs else None
    events = (
        update({"n": [1, 2]}),
        update(**{"changes": {"n": [2, 3]}, **differs}) if later else update(**differs),
    )
    assert [changes for _, changes, _ in folded(*events)] == [e.changes for e in events]


def test_old_values_that_nobody_knows_are_nothing_to_go_on_from():
    unknown = {"data": {"before": "unknown"}}
    events = update({"n": [None, 2]}, **unknown), update({"n": [None, 3]}, **unknown)
    assert len(folded(*events)) == 2


def test_what_processors_have_added_to_both_stays():
    data = {"tenant": 5, "coalesced": "their own"}
    assert folded(update({"n": [1, 2]}, data=data), update({"n": [2, 3]}, data=data)) == [
        ("model.update", {"n": [1, 3]}, {"tenant": 5, "coalesced": 2})
    ]


@pytest.mark.parametrize(
    "between",
    [
        save("delete", {"n": [2, None]}),
        save("update", {"m": [2, 3]}, data={"bulk": "update"}),
        save("create", {"n": [None, 2]}),
    ],
    ids=["delete", "bulk update", "create"],
)
def test_another_event_about_the_row_ends_the_run(between):
    entries = [
        Entry(update({"n": [1, 2]}), KEY, survives=False, keep=False, folds=True),
        Entry(between, KEY, survives=False, keep=False),
        Entry(update({"n": [2, 3]}), KEY, survives=False, keep=False, folds=True),
    ]
    assert len(coalesced(entries, keep_unchanged=False)) == 3


def test_a_create_after_a_delete_is_a_create_of_its_own():
    found = folded(save("create", {"n": [None, 1]}), save("create", {"n": [None, 2]}))
    assert len(found) == 2


@pytest.mark.parametrize(
    "between",
    [
        save("m2m", {"tags": {"added": ["1"], "removed": []}}),
        make_event(event="shift.assigned", object_type="testapp.author", object_id="1"),
        update({"n": [8, 9]}, object_id="2"),
        update({"n": [8, 9]}, object_type="testapp.book"),
        update({"n": [8, 9]}, object_type="gone.model"),
        update({"n": [8, 9]}, object_type=None),
    ],
    ids=["m2m", "custom", "another row", "another model", "a model of a migration", "no model"],
)
def test_events_about_something_else_do_not(between):
    entries = [
        Entry(update({"n": [1, 2]}), KEY, survives=False, keep=False, folds=True),
        Entry(between, KEY, survives=False, keep=False),
        Entry(update({"n": [2, 3]}), KEY, survives=False, keep=False, folds=True),
    ]
    found = coalesced(entries, keep_unchanged=False)
    assert [e.event.changes for e in found] == [{"n": [1, 3]}, between.changes]
    assert found[0] is entries[0]


@pytest.mark.parametrize("model", ["testapp.building", "testapp.tower"])
def test_a_row_of_a_parent_a_child_or_a_sibling_shares_columns_and_ends_the_run(model):
    def floors(old, new):
        return update({"floors": [old, new]}, object_type="testapp.garage")

    between = update({"floors": [2, 3]}, object_type=model)
    assert len(folded(floors(1, 2), between, floors(2, 3))) == 3


def test_only_saves_that_may_fold_and_are_not_stored_yet_do():
    events = update({"n": [1, 2]}), update({"n": [2, 3]})
    assert len(folded(*events, folds=False)) == 2
    entries = [Entry(e, KEY, survives=False, keep=False, folds=True) for e in events]
    entries[0].flush = 1
    assert len(coalesced(entries, keep_unchanged=False)) == 2


def test_an_event_that_is_no_save_is_nothing_to_fold():
    assert fold(save("delete", {}), update({})) is None
    assert fold(update({}), save("delete", {})) is None


def test_a_chain_of_saves_of_two_objects_is_two_events():
    one = [update({"n": [i, i + 1]}) for i in range(3)]
    two = [update({"n": [i, i + 1]}, object_id="2") for i in range(3)]
    mixed = [event for pair in zip(one, two, strict=True) for event in pair]
    assert folded(*mixed) == [("model.update", {"n": [0, 3]}, {"coalesced": 3})] * 2
