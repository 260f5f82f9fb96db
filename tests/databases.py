"""A database that several connections can share, and one without its table of records."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

from django.db import connections

from django_signal_audit.models import AuditRecord
from tests.testapp.models import Author, Book, Chapter, Loan, Reader, Tag

ALIAS = "other"
MODELS = (AuditRecord, Author, Reader, Tag, Book, Loan, Chapter)


@contextmanager
def shared_database(path, alias=ALIAS):
    """Yield an alias that stands for a new SQLite file, or for a server's database.

    The suite's own SQLite databases are in memory: they ignore ``close()``, and a second
    connection to them locks whole tables.
    """
    suites = connections[alias]
    if suites.vendor != "sqlite":
        yield alias
        return
    settings = connections.settings[alias]
    connections.settings[alias] = {**settings, "NAME": str(path / f"shared-{alias}.sqlite3")}
    connections[alias] = type(suites)(connections.settings[alias], alias)
    try:
        with connections[alias].schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
        yield alias
    finally:
        connections[alias].close()
        connections.settings[alias] = settings
        connections[alias] = suites


def _connect(connection):
    if connection.connection is None:
        with connection.wrap_database_errors:
            connection.connect()


_READ_ONLY = {
    "postgresql": {"options": "-c default_transaction_read_only=on"},
    "mysql": {"init_command": "SET SESSION TRANSACTION READ ONLY"},
}


@contextmanager
def another_alias(name, like, **changed):
    """One more alias, of the database that another one reaches, with settings changed."""
    connections.settings[name] = {**connections[like].settings_dict, **changed}
    added = connections[name]
    # Django lets a test connect to the aliases alone that were there when it began.
    added.ensure_connection = partial(_connect, added)
    try:
        yield name
    finally:
        added.close()
        if added.connection is not None:  # Django ignores close() on a database in memory
            added.connection.close()
        del connections[name]
        del connections.settings[name]


@contextmanager
def replica_of(primary, name="replica"):
    """An alias that reads the database of another one and can neither write nor lock there."""
    like = connections[primary]
    if like.vendor == "sqlite":
        changed = {"NAME": f"file:{like.settings_dict['NAME']}?mode=ro"}
    else:
        options = {**like.settings_dict["OPTIONS"], **_READ_ONLY[like.vendor]}
        changed = {"OPTIONS": options}
    with another_alias(name, primary, **changed):
        yield name


_TRIGGER = {
    "sqlite": (
        (
            "CREATE TRIGGER refusing BEFORE INSERT ON {table} WHEN NEW.event LIKE '%%refused' "
            "BEGIN SELECT RAISE(ABORT, 'no such events'); END"
        ),
        "DROP TRIGGER refusing",
    ),
    "mysql": (
        (
            "CREATE TRIGGER refusing BEFORE INSERT ON {table} FOR EACH ROW "
            "IF NEW.event LIKE '%%refused' THEN "
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no such events'; END IF"
        ),
        "DROP TRIGGER refusing",
    ),
    "postgresql": (
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.event LIKE '%%refused' THEN RAISE EXCEPTION 'no such events'; END IF; "
            "RETURN NEW; END $$; "
            "CREATE TRIGGER refusing BEFORE INSERT ON {table} FOR EACH ROW "
            "EXECUTE FUNCTION refuse()"
        ),
        "DROP FUNCTION refuse CASCADE",
    ),
}


@contextmanager
def refusing(alias=ALIAS):
    """Let a trigger refuse records whose event ends in ``refused``."""
    connection = connections[alias]
    make, drop = _TRIGGER[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(make.format(table=AuditRecord._meta.db_table), ())
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(drop)


@contextmanager
def without_records(alias="default"):
    """Drop the table of records for a while."""
    with connections[alias].schema_editor() as editor:
        editor.delete_model(AuditRecord)
    try:
        yield
    finally:
        with connections[alias].schema_editor() as editor:
            editor.create_model(AuditRecord)
