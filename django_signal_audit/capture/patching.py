"""How Django's own functions are wrapped: in one way, once, and recognisably.

Those that write are marked while they run, so that their statements are told from those
that nobody sees: ``capture.blind`` looks for the latter.
"""

from __future__ import annotations

import functools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django_signal_audit import conf, internals
from django_signal_audit.capture.statement import table_name
from django_signal_audit.exceptions import AuditConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from django.db.models import Model

    Writes = Callable[..., AbstractContextManager[None]]

ORIGINAL: Final = "signal_audit_original"


class _Expected(threading.local):
    """The tables that Django's functions write to just now, the innermost last."""

    def __init__(self) -> None:
        self.tables: list[frozenset[str] | None] = []


_expected = _Expected()


def wrap(
    owner: Any, name: str, replacement: Callable[..., Any], *, writes: Writes | None = None
) -> None:
    """Put a function in the place of one of Django's; a second call changes nothing.

    Args:
        owner: the class or module that has it.
        name: its name there.
        replacement: called with the original and the arguments of the call.
        writes: if the original itself writes, what marks it: one of the context managers
            below, called with the arguments that the original gets.
    """
    original = getattr(owner, name)
    if hasattr(original, ORIGINAL):
        return
    called = original if writes is None else _marked(original, writes)

    # functools.wraps copies alters_data and queryset_only, which Django sets on functions.
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return replacement(called, *args, **kwargs)

    setattr(wrapper, ORIGINAL, original)
    setattr(owner, name, wrapper)


def _marked(original: Callable[..., Any], writes: Writes) -> Callable[..., Any]:
    @functools.wraps(original)
    def marked(*args: Any, **kwargs: Any) -> Any:
        if blind_writes() == "ignore":
            return original(*args, **kwargs)
        with writes(*args, **kwargs):
            return original(*args, **kwargs)

    return marked


def blind_writes() -> str:
    """``BLIND_WRITES`` as it is now.

    While the settings are wrong it is ``ignore``: that is for ``check`` to say, and not for
    each statement, of which ``check`` may need some itself.
    """
    try:
        return conf.current().BLIND_WRITES
    except AuditConfigurationError:
        return "ignore"


@contextmanager
def expected(model: type[Model] | None) -> Iterator[None]:
    """Say that what writes to the tables of a model, inside, is no blind write.

    Put it around what makes a statement, not around what calls receivers too.

    Args:
        model: its own table and those of its parents are meant; ``None`` means any table.
    """
    tables = None
    if model is not None:
        tables = frozenset(table_name(m._meta.db_table) for m in (model, *model._meta.all_parents))
    _expected.tables.append(tables)
    try:
        yield
    finally:
        _expected.tables.pop()


def is_expected(table: str) -> bool:
    """Whether a function of Django's that is marked writes to a table now, in this thread.

    Args:
        table: as ``table_name`` names it.
    """
    if not _expected.tables:
        return False
    tables = _expected.tables[-1]
    return tables is None or table in tables


def any_writes(*args: Any, **kwargs: Any) -> AbstractContextManager[None]:
    """Mark a function that may write to any table."""
    return expected(None)


def queryset_writes(queryset: Any, /, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
    """Mark a method of ``QuerySet`` that makes an INSERT or an UPDATE."""
    return expected(queryset.model)


def query_writes(query: Any, /, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
    """Mark a method of ``DeleteQuery`` or ``UpdateQuery``."""
    return expected(internals.model_of(query))


def save_writes(
    instance: Any, raw: bool = False, cls: Any = None, *args: Any, **kwargs: Any
) -> AbstractContextManager[None]:
    """Mark ``Model._save_table``."""
    return expected(cls or type(instance))


def schema_writes(
    editor: Any, model: type[Model], *args: Any, **kwargs: Any
) -> AbstractContextManager[None]:
    """Mark a method of a schema editor that fills a column of a model."""
    return expected(model)


def collector_writes(collector: Any) -> AbstractContextManager[None]:
    """Mark the fast deletes of a ``Collector.delete``, which calls receivers as well.

    Its other statements have marks of their own.
    """
    return internals.replaced_fast_deletes(collector, _ExpectedDelete)


class _ExpectedDelete:
    """Stands in for a queryset among the fast deletes of a collector, or for its stand-in."""

    def __init__(self, queryset: Any, using: str) -> None:
        self.queryset = queryset
        self.model = queryset.model

    def _raw_delete(self, using: str) -> int:
        with expected(self.model):
            return internals.raw_delete(self.queryset, using)
