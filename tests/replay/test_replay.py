"""Whatever is written, replaying the trail from nothing gives the rows in the database."""

import datetime as dt
import os
import uuid
from pprint import pformat

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from django_signal_audit import suspend_audit
from tests.replay.failed_sequences import FAILED
from tests.replay.operations import Atomic, Create, Delete, Plus, Related, Row, Save, Update
from tests.replay.reducing import reduced
from tests.replay.replayer import TrailError, replay
from tests.replay.runner import refused, require_replay, run
from tests.replay.stored import trail
from tests.replay.strategies import sequences

ON_BOTH = {"databases": ["default", "other"]}
# To empty all tables after a test takes longer than most tests here; they need no COMMIT.
in_one_transaction = pytest.mark.django_db(**ON_BOTH)
on_real_transactions = pytest.mark.django_db(transaction=True, **ON_BOTH)

PROFILE = {
    "deadline": None,
    "derandomize": False,
    "print_blob": True,
    "database": None,
    "phases": [Phase.generate],  # what fails is reduced by `reduced`
    "report_multiple_bugs": False,
    "suppress_health_check": [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
}


def failure(writes):
    """Why the trail of a sequence does not replay, if it does not."""
    try:
        run(writes)
        require_replay()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised below
        return error
    return None


def replay_sequences(number, part):
    # In CI a run can be had again; everywhere else each run looks at sequences of its own.
    seeded = seed(part) if os.environ.get("CI") else lambda test: test

    @seeded
    @settings(max_examples=number, **PROFILE)
    @given(sequences)
    def replays(writes):
        error = failure(writes)
        if error is not None:
            kept = reduced(writes, lambda shorter: type(failure(shorter)) is type(error))
            problem = failure(kept) or error
            raise AssertionError(
                f"{problem}\nKeep this in failed_sequences.py:\n{pformat(kept)}"
            ) from problem

    replays()


# In parts, so that several processes can share them.
@on_real_transactions
@pytest.mark.parametrize("part", range(4))
def test_the_trail_of_any_sequence_of_writes_replays_to_the_rows(part):
    replay_sequences(25, part)


@pytest.mark.slow
@on_real_transactions
@pytest.mark.parametrize("part", range(20))
def test_the_trails_of_thousands_of_sequences_replay(part):
    replay_sequences(100, part)


@on_real_transactions
@pytest.mark.parametrize("name", FAILED)
def test_a_sequence_that_failed_once_replays(name):
    run(FAILED[name])
    require_replay()


@in_one_transaction
def test_what_every_sequence_finds_is_written_without_refusals():
    run(())
    assert refused == []
    assert {e["object_type"] for e in trail("default")} > {"replayapp.item", "replayapp.amphibian"}
    require_replay()


@in_one_transaction
@pytest.mark.parametrize(
    "write",
    [
        Create("Item", {"slot": 3}),
        Save("Item", 0, {"count": Plus("count", 1)}),
        Update("Item", {}, {"note": "b"}),
        Delete("Item", 0),
        Delete("Shelf", 1),
        Related("Item", 0, "tags", "clear"),
        Related("Shelf", 0, "items", "clear"),
    ],
    ids=lambda write: f"{type(write).__name__} {write.model}",
)
def test_a_write_that_is_not_recorded_does_not_replay(write):
    run(())
    with suspend_audit():
        write.run({})
    with pytest.raises(AssertionError, match="the trail tells"):
        require_replay()


def _without_column(events):
    events[0]["changes"].pop("slot")


def _wrong_old_value(events):
    events[1]["changes"]["count"][0] = 5


@in_one_transaction
@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lambda events: events.insert(0, events[0]), "it is there already"),
        (lambda events: events.append(events[1]), "count is said to have been 1"),
        (lambda events: events.pop(0), "no such row"),
        (_wrong_old_value, "count is said to have been 5"),
        (lambda events: events[1]["changes"].clear(), "nothing was changed"),
        (_without_column, "nothing is said of slot"),
        (lambda events: events.append(events[2]), "was added, but was there"),
    ],
    ids=["created twice", "updated twice", "lost", "old value", "empty", "column", "added twice"],
)
def test_a_trail_that_lies_does_not_replay(lie, message):
    run([Save("Item", 0, {"count": 7})])
    events = trail("default")
    created = next(e for e in events if e["object_type"] == "replayapp.item")
    events = [e for e in events if e["object_id"] == created["object_id"]]
    told = [created, events[-1], next(e for e in events if e["event"] == "model.m2m")]
    replay(told)
    lie(told)
    with pytest.raises(TrailError, match=message):
        replay(told)


@in_one_transaction
def test_shown_values_are_those_of_the_documentation():
    run(
        [
            Create(
                "Item",
                {
                    "id": 900,
                    "price": 2,
                    "moment": dt.datetime(
                        2024, 1, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))
                    ),
                    "day": "2024-01-02",
                    "blob": b"a",
                    "shelf": Row(0),
                    "count": "5",
                },
            ),
            Create("Tag", {"id": uuid.UUID(int=7)}),
        ]
    )
    [event] = [e for e in trail("default") if e["object_id"] == "900"]
    told = {name: new for name, (_, new) in event["changes"].items()}
    assert told["price"] == "2.00"
    assert told["moment"] == "2024-01-01T12:00:00.000000Z"
    assert (told["day"], told["shelf"], told["count"], told["doubled"]) == (
        "2024-01-02",
        "a",
        5,
        10,
    )
    assert told["blob"]["$bytes"]["size"] == 1


def test_a_failing_sequence_is_reduced_to_what_it_takes():
    needed = Save("Item", 0, {"count": 2})
    other = Create("Tag", {})
    long = [other, Atomic((other, Save("Item", 0, {"note": "a", "count": 2}))), other, other]
    assert reduced(long, lambda writes: "'count': 2" in repr(writes)) == [needed]
