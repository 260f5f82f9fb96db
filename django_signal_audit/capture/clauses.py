"""The parts of a statement of SQL that name tables: names, joined tables, lists of targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from django_signal_audit.capture.tokens import NAME, WORD, Reader

READS: Final = frozenset({"select", "values", "table"})
_REFERENCES_END: Final = frozenset({"set", "where", "order", "limit", "returning"})
_ASSIGNMENTS_END: Final = frozenset({"where", "order", "limit", "returning", "from"})
_JOINS: Final = frozenset({"join", "straight_join"})
_NO_ALIAS: Final = frozenset(
    {"inner", "left", "right", "full", "outer", "cross", "natural", "on", "using", "from", "for"}
    | {"partition", "use", "force", "ignore", "indexed", "not", "values"}
    | {"restart", "continue", "cascade", "restrict"}
    | _REFERENCES_END
    | _JOINS
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A table as the rest of its statement calls it."""

    table: str
    called: str


def path_of(reader: Reader) -> list[str]:
    """A name and what qualifies it, ``["accounts", "user"]``; also ``user.*`` of MariaDB."""
    parts = []
    while reader.token.kind in {WORD, NAME}:
        parts.append(reader.advance().text.lower())
        if not reader.at("."):
            break
        reader.advance()
    if reader.at("*"):
        reader.advance()
    return parts


def _called(reader: Reader, table: str) -> str:
    if reader.word == "as":
        reader.advance()
        return reader.advance().text.lower()
    if reader.token.kind in {WORD, NAME} and reader.word not in _NO_ALIAS:
        return reader.advance().text.lower()
    return table


def references_of(reader: Reader) -> list[Reference]:
    """The tables of an UPDATE, or of what follows FROM or USING; joined or not."""
    found = []
    depth = 0
    expected = True
    while not reader.ended:
        if expected and reader.at("("):
            reader.advance()
            if reader.word in READS or reader.word == "with":
                reader.leave_group()
                expected = False
            else:
                depth += 1
        elif expected and reader.word in {"only", "lateral"}:
            reader.advance()
        elif expected:
            expected = False
            path = path_of(reader)
            if path:
                found.append(Reference(path[-1], _called(reader, path[-1])))
        elif reader.at("("):
            reader.advance()
            reader.leave_group()
        elif (reader.word in _REFERENCES_END or reader.at(")")) and not depth:
            break
        else:
            token = reader.advance()
            depth -= token.sign == ")"
            expected = token.sign == "," or token.word in _JOINS
    return found


def resolved(references: Iterable[Reference], name: str) -> str:
    """The table that a statement calls so; the name itself, if it has no other."""
    return next((one.table for one in references if one.called == name), name)


def assigned(reader: Reader) -> list[str | None]:
    """What qualifies the columns that an UPDATE sets; ``None`` for one that stands alone."""
    found: list[str | None] = []
    reader.skip("set")
    expected = True
    while not (reader.ended or reader.at(")") or reader.word in _ASSIGNMENTS_END):
        if expected:
            path = path_of(reader)
            found.append(path[-2] if len(path) > 1 else None)
            expected = False
        elif reader.at("("):
            reader.advance()
            reader.leave_group()
        else:
            expected = reader.advance().sign == ","
    return found


def targets_of(reader: Reader) -> list[str]:
    """Tables in a row: ``a``, ``ONLY (a)``, ``a AS x``, ``a.*, b.*``."""
    found = []
    more = True
    while more:
        reader.skip("only")
        group = reader.at("(")
        if group:
            reader.advance()
        path = path_of(reader)
        found += path[-1:]
        if group:
            reader.leave_group()
        _called(reader, "")
        more = reader.at(",")
        if more:
            reader.advance()
    return found
