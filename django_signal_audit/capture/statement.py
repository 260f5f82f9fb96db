"""Which tables a statement of SQL writes to, as far as its text says.

Only the beginning of each statement is read, up to the names of its tables. What a function,
a trigger or a prepared statement does is not in the text.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from django_signal_audit.capture.clauses import (
    READS,
    assigned,
    path_of,
    references_of,
    resolved,
    targets_of,
)
from django_signal_audit.capture.tokens import Reader


@dataclass(frozen=True, slots=True)
class Write:
    """A table that a text writes to.

    Attributes:
        operation: ``insert``, ``update``, ``delete``, ``replace``, ``merge``, ``truncate``,
            ``copy`` or ``load``.
        table: its name in lower case, without its schema.
        counted: whether the row count of the whole text is that of this table.
        cascades: whether it is a TRUNCATE that takes in all tables that refer to this one.
    """

    operation: str
    table: str
    counted: bool = True
    cascades: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text says.

    Attributes:
        writes: the tables that it writes to, each once for each operation.
        statements: how many there are, of any kind.
    """

    writes: tuple[Write, ...]
    statements: int


_CACHED_LENGTH: Final = 4000

_DATA_MODIFYING: Final = frozenset({"insert", "update", "delete", "merge"})
_ROUTINES: Final = frozenset({"trigger", "function", "procedure", "event", "package", "rule"})
_PRIORITIES: Final = frozenset({"low_priority", "high_priority", "delayed", "quick"})
_ON_CONFLICT: Final = frozenset({"or", "replace", "ignore", "abort", "fail", "rollback"})


def read(text: str, vendor: str) -> Reading:
    """Read a text of one or several statements.

    Args:
        text: any; placeholders of parameters may be in it.
        vendor: of the connection, whose way to quote and to comment is known.
    """
    return (_known if len(text) <= _CACHED_LENGTH else _read)(text, vendor)


@functools.lru_cache(maxsize=2048)
def table_name(table: str) -> str:
    """A model's ``db_table`` as ``Write.table`` names it.

    It may hold quotes, because programs put a schema into it: ``'"accounts"."user"'``.
    """
    quoted = table if table[:1] in {'"', "`"} else f'"{table}"'
    return path_of(Reader(quoted, "sqlite"))[-1]


def _read(text: str, vendor: str) -> Reading:
    reader = Reader(text, vendor)
    found: list[Write] = []
    statements = 0
    more = not reader.ended or reader.next_statement()
    while more:
        statements += not reader.ended
        found += _statement(reader)
        more = reader.next_statement()
    if statements > 1:
        found = _uncounted(found)
    return Reading(tuple(dict.fromkeys(found)), statements)


_known = functools.lru_cache(maxsize=2048)(_read)


def _statement(reader: Reader) -> list[Write]:
    while reader.at("("):
        reader.advance()
    counted = True
    while reader.word in _PREFIXES:
        prefix = reader.advance().text
        if not _PREFIXES[prefix](reader):
            return []
        counted = counted and prefix in {"begin", "set"}
    parse = _VERBS.get(reader.word)
    if parse is None:
        return []
    reader.advance()
    found = parse(reader)
    return found if counted else _uncounted(found)


def _uncounted(writes: Iterable[Write]) -> list[Write]:
    return [replace(write, counted=False) for write in writes]


def _writes(operation: str, tables: Iterable[str]) -> list[Write]:
    names = list(dict.fromkeys(tables))
    return [Write(operation, name, counted=len(names) == 1) for name in names]


def _insert(reader: Reader) -> list[Write]:
    operation = "insert"
    while reader.word in _ON_CONFLICT | _PRIORITIES:
        if reader.advance().text == "replace":
            operation = "replace"
    return _into(operation, reader)


def _replace(reader: Reader) -> list[Write]:
    reader.skip(*_PRIORITIES)
    return _into("replace", reader)


def _merge(reader: Reader) -> list[Write]:
    return _into("merge", reader)


def _into(operation: str, reader: Reader) -> list[Write]:
    reader.skip("into", "only")
    return _writes(operation, path_of(reader)[-1:])


def _update(reader: Reader) -> list[Write]:
    reader.skip(*_ON_CONFLICT, *_PRIORITIES)
    references = references_of(reader)
    tables = [one.table for one in references]
    if len(references) > 1:
        owners = assigned(reader)
        if None not in owners:
            tables = [resolved(references, owner) for owner in owners if owner is not None]
    return _writes("update", tables)


def _delete(reader: Reader) -> list[Write]:
    reader.skip(*_PRIORITIES, "ignore")
    targets_first = reader.word != "from"
    reader.skip("from")
    targets = targets_of(reader)
    references = []
    if reader.word == ("from" if targets_first else "using"):
        reader.advance()
        references = references_of(reader)
    return _writes("delete", (resolved(references, target) for target in targets))


def _truncate(reader: Reader) -> list[Write]:
    reader.skip("table")
    tables = dict.fromkeys(targets_of(reader))
    reader.skip("restart", "continue", "identity")
    cascades = reader.word == "cascade"
    return [Write("truncate", table, counted=False, cascades=cascades) for table in tables]


def _copy(reader: Reader) -> list[Write]:
    reader.skip("binary")
    path = path_of(reader)
    if path and reader.at("("):
        reader.advance()
        reader.leave_group()
    return _writes("copy", path[-1:]) if reader.word == "from" else []


def _load(reader: Reader) -> list[Write]:
    while not reader.ended and reader.word != "table":
        reader.advance()
    reader.advance()
    return _writes("load", path_of(reader)[-1:])


def _with(reader: Reader) -> list[Write]:
    """Common table expressions, of which PostgreSQL's may write, and the statement itself."""
    found: list[Write] = []
    reader.skip("recursive")
    named, body = False, False
    while not reader.ended:
        if not named:
            reader.advance()
            named = True
        elif reader.at("("):
            reader.advance()
            if body and reader.word in _DATA_MODIFYING:
                found += _uncounted(_VERBS[reader.advance().text](reader))
            reader.leave_group()
            body = False
        elif reader.word in READS:
            break
        elif reader.word in _VERBS:
            return found + _VERBS[reader.advance().text](reader)
        else:
            token = reader.advance()
            named = token.sign != ","
            body = token.word in {"as", "materialized"}
    return found


def _explains(reader: Reader) -> bool:
    """Go on to what is explained; whether it is run, too."""
    runs = False
    while not (reader.ended or reader.word in _VERBS or reader.word in READS):
        if reader.advance().word in {"analyze", "analyse"}:
            runs = reader.word not in {"false", "off", "0"}
    return runs


def _analyzes(reader: Reader) -> bool:
    """MariaDB runs what it analyzes: ``ANALYZE FORMAT=JSON UPDATE ...``."""
    while not (reader.ended or reader.word in _VERBS or reader.word in READS):
        reader.advance()
    return reader.vendor == "mysql"


def _begins(reader: Reader) -> bool:
    """Go on to the first statement of MariaDB's ``BEGIN NOT ATOMIC``."""
    reader.skip("not", "atomic")
    return not reader.ended


def _sets(reader: Reader) -> bool:
    """Go on to the statement of MariaDB's ``SET STATEMENT max_statement_time=1 FOR ...``."""
    if reader.word != "statement":
        return False
    while not reader.ended and reader.word != "for":
        reader.advance()
    reader.advance()
    return True


def _creates(reader: Reader) -> bool:
    """Leave a routine unread: the statements in it do not run now, and none can follow."""
    while not reader.ended and reader.word not in {"table", "view", "index"}:
        if reader.advance().word in _ROUTINES:
            reader.finish()
    return False


_VERBS: Final[dict[str, Callable[[Reader], list[Write]]]] = {
    "insert": _insert,
    "replace": _replace,
    "update": _update,
    "delete": _delete,
    "merge": _merge,
    "truncate": _truncate,
    "copy": _copy,
    "load": _load,
    "with": _with,
}

_PREFIXES: Final[dict[str, Callable[[Reader], bool]]] = {
    "explain": _explains,
    "describe": _explains,
    "desc": _explains,
    "analyze": _analyzes,
    "begin": _begins,
    "set": _sets,
    "create": _creates,
}
