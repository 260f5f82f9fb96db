"""Runs a sequence of writes on real transactions, and replays the trail that it leaves."""

from __future__ import annotations

import uuid

import django
from django.core.exceptions import FieldError, MultipleObjectsReturned, ObjectDoesNotExist
from django.db import Error, connections, transaction
from django.db.models import ProtectedError

from django_signal_audit.exceptions import AuditError
from tests.replay.operations import BLOCKS, Atomic, Create, Related, Row
from tests.replay.replayer import plain, replay
from tests.replay.stored import empty_everything, stored_relations, stored_rows, trail

ALIASES = ("default", "other")

# What Django and databases raise for writes that make no sense: keys that are taken or missing,
# values that a column cannot hold, an expression in an INSERT, an unsaved related object.
REFUSALS = (
    Error,
    ProtectedError,
    ObjectDoesNotExist,
    MultipleObjectsReturned,
    FieldError,
    ValueError,
)


DATABASE_CASCADES = (
    Create("Leaf", {"root": Row(0)}),
    Create("Vein", {"leaf": Row(0)}),
    Create("Moss", {"root": Row(0)}),
) * (django.VERSION >= (6, 1))

# What every sequence finds, written by the ORM and recorded like the rest.
BEFORE = (
    Atomic(
        (
            Create("Shelf", {"code": "a", "label": "a"}),
            Create("Shelf", {"code": "b"}),
            Create("Tag", {"id": uuid.UUID(int=1), "name": "a"}),
            Create("Tag", {"id": uuid.UUID(int=2)}),
            Create("Item", {"slot": 1, "count": 1, "shelf": "a", "spare": "b", "meta": {"a": 1}}),
            Create("Item", {"slot": 2, "boss": Row(0), "twin": Row(0), "note": "a"}),
            Create("Item", {"home": None, "shelf": "b"}),
            Create("Car", {"depot": "a", "garage": "b"}),
            Create("Amphibian", {}),
            Create("Barn", {"site": "a"}),
            Create("Draft", {"id": 1}),
            Create("Root", {"id": 1}),
            *DATABASE_CASCADES,
            Create("Step", {"item": Row(0)}),
            Create("Step", {"item": Row(0)}),
            Related("Item", 0, "tags", "add", (0, 1)),
            Related("Item", 1, "tags", "add", (0,)),
            Related("Item", 0, "peers", "add", (1,)),
            Related("Item", 0, "follows", "add", (0, 1)),
            Related("Item", 0, "links", "add", (0,)),
            Related("Item", 1, "marks", "add", (0, 1)),
        )
    ),
    Atomic(
        (
            Create("Shelf", {"code": "a"}, using="other"),
            Create("Tag", {"id": uuid.UUID(int=1)}, using="other"),
            Create("Item", {"slot": 1}, using="other"),
            Create("Racer", {"depot": "a"}, using="other"),
            Related("Item", 0, "tags", "add", (0,), using="other"),
        ),
        using="other",
    ),
)


def attempt(write, held):
    """Run one write; what Django refuses is undone, as a program would."""
    try:
        if isinstance(write, BLOCKS):
            write.run(held, attempt)
        elif connections[write.using].in_atomic_block or not connections[write.using].autocommit:
            with transaction.atomic(write.using):
                write.run(held)
        else:
            write.run(held)
    except AuditError:
        raise
    except REFUSALS as error:
        refused.append((write, error))
    except AttributeError as error:
        # How Django refuses a Case() in an INSERT.
        if "contains_column_references" not in str(error):
            raise
        refused.append((write, error))


refused: list[tuple[object, Exception]] = []


def run(writes):
    """Run a sequence on empty tables."""
    for alias in ALIASES:
        empty_everything(alias)
    refused.clear()
    held = {}
    for write in (*BEFORE, *writes):
        attempt(write, held)


def require_replay():
    """Fail unless the trail of each alias, replayed from nothing, gives its rows."""
    for alias in ALIASES:
        rows, relations = replay(trail(alias))
        wrong = list(differences(rows, stored_rows(alias)))
        wrong += differences(relations, stored_relations(alias))
        assert not wrong, f"on {alias}:\n" + "\n".join(wrong)


def differences(told, stored):
    """What the trail tells and the database does not hold, or the other way round."""
    for label in {**told, **stored}:
        ours, theirs = told.get(label, {}), stored.get(label, {})
        for key in {**ours, **theirs}:
            if plain(ours.get(key)) != plain(theirs.get(key)):
                yield f"{label} {key}: the trail tells {_only(ours.get(key), theirs.get(key))}"


def _only(ours, theirs):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        unlike = [k for k in {**ours, **theirs} if plain(ours.get(k)) != plain(theirs.get(k))]
        ours = {k: ours.get(k) for k in unlike}
        theirs = {k: theirs.get(k) for k in unlike}
    return f"{ours}, the database holds {theirs}"
