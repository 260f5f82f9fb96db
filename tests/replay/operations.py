"""Writes as data: a sequence of them can be printed, pasted and run again."""

from tests.replay.blocks import Atomic, Manual, Savepoint
from tests.replay.bulk import BulkCreate, BulkUpdate, Delete, DeleteMany, Update
from tests.replay.related import Related, Reorder, Through
from tests.replay.saves import Create, Fixture, Mutate, Save
from tests.replay.values import Cased, Copied, Fetched, Moment, Plus, Row, Shouted

__all__ = [
    "BLOCKS",
    "Atomic",
    "BulkCreate",
    "BulkUpdate",
    "Cased",
    "Copied",
    "Create",
    "Delete",
    "DeleteMany",
    "Fetched",
    "Fixture",
    "Manual",
    "Moment",
    "Mutate",
    "Plus",
    "Related",
    "Reorder",
    "Row",
    "Save",
    "Savepoint",
    "Shouted",
    "Through",
    "Update",
]

BLOCKS = (Atomic, Savepoint, Manual)
