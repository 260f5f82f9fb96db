"""Sequences whose trail once did not replay, reduced to what it takes; each begins with ``BEFORE``.

Where a replay by hypothesis fails, its sequence belongs here: hypothesis prints it as code. The
comment says what was wrong.
"""

from __future__ import annotations

import uuid

from tests.replay.operations import (
    Atomic,
    Create,
    Delete,
    DeleteMany,
    Manual,
    Mutate,
    Plus,
    Related,
    Row,
    Save,
    Savepoint,
    Shouted,
    Update,
)

FAILED = {
    # What an update wrote besides a new key was looked for by the old one, and left out.
    "a constant key and an expression": (
        Update("Draft", {}, {"id": 3, "version": Plus("version", 1)}),
    ),
    "a constant key and a generated column": (
        Create("Item", {"id": 1, "home": None}),
        Update("Item", {"pk__in": [1, 2]}, {"id": 3, "count": 5}),
    ),
    "a part of a composite key and an expression": (
        Create("Pair", {"left": 1, "right": 1, "name": "a"}),
        Update("Pair", {}, {"left": 2, "name": Shouted("name")}),
    ),
    # The event of the child said that all its columns had gone, and nothing said that the
    # row of the parent stayed.
    "the parents of a deleted child are kept": (Delete("Car", 0, "keep_parents"),),
    "two parents of a deleted child are kept": (Delete("Amphibian", 0, "keep_parents"),),
    "a grandchild goes and its parents are kept": (
        Create("Racer", {}),
        Delete("Racer", 0, "keep_parents"),
    ),
    "kept parents go later": (
        Delete("Car", 0, "keep_parents"),
        Create("Car", {"id": 4}),
        Delete("Vehicle", 1),
    ),
    "a child goes with its own child and its parent is kept": (
        Create("Racer", {}),
        Delete("Car", 1, "keep_parents"),
    ),
    "the parents are kept after a savepoint was rolled back on another alias": (
        Savepoint(
            (Create("Vehicle", {}),), (Delete("Racer", 0, "keep_parents", "other"),), "rollback"
        ),
    ),
    # A deleted object took its rows of many-to-many tables with it, and no event said so.
    "an object that follows itself is deleted and saved again": (
        Create("Item", {"home": None}),
        Related("Item", 3, "follows", "add", (3,)),
        Save("ItemProxy", 3, {}, how="delete_and_save"),
    ),
    "an object in relations of each kind is deleted": (Delete("ItemProxy", 0),),
    "the far ends of relations are deleted": (DeleteMany("Tag", {"name": ""}),),
    # The replayer was wrong: one row of a parent may have two children, and both events show its
    # columns when all three go.
    "two children of one parent go with it": (
        Create("Racer", {"vehicle_ptr": Row(1)}),
        Delete("Vehicle", 1),
    ),
    # An integer of more than 64 bits could not be written to the trail, and the write was undone.
    "a large number in JSON": (
        Create("Item", {"meta": 1e20}),
        Create("Item", {"meta": 2**70}),
    ),
    # An UPDATE of no columns is a success to Django, also where the row is gone: it was told.
    "a deferred object is deleted and saved again": (
        Save("ItemProxy", 0, {}, load="only", how="delete_and_save"),
        Save("ItemProxy", 0, {}, load="only", how="delete_and_save", hold=0, using="other"),
    ),
    # The key of a parent was told to be that of the instance, which no column had been given.
    "some columns of a child of two parents, of which one has another key": (
        Save("Amphibian", 0, {"garage": Row(0)}, load="construct", how="update_fields"),
    ),
    # The row before was looked for under the link that the instance had been given, which Django
    # sets back to the key of its parent's row.
    "a child is given another parent and keeps its own": (
        Create("Car", {"depot": "a", "vehicle_ptr": Row(1)}, "update_or_create"),
    ),
    # A child without a row: Django writes what its parents have, and nothing told of it.
    "some columns of the parents of a child whose row is gone": (
        Savepoint(
            (Create("Racer", {}, "create", hold=0),),
            (Delete("Racer", 1, "keep_parents"),),
            "commit",
        ),
        Save("Racer", 0, {"doors": 1}, load="held", how="update_fields"),
    ),
    # psycopg refuses to switch autocommit on amid a transaction: what was written must still be
    # recorded once, when it is committed.
    "a refused switch to autocommit": (
        Manual((Create("Tag", {"id": uuid.UUID(int=3)}), Save("Item", 0, {"count": 2})), "switch"),
        Mutate(0, "a", 2),
    ),
    "an error of the last constraint at COMMIT": (
        Atomic((Create("Item", {"boss": 99}), Save("Item", 0, {"count": 3}))),
    ),
}
