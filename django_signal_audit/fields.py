"""Columns of text that hold any character and compare alike on every database.

On MariaDB a column takes the character set and the collation of its database: that may know
three bytes a character, which is no emoji, and usually takes ``abc`` for ``ABC``. So columns
name their own there; other databases hold and compare text exactly by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

from django_signal_audit import internals

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    CharField = models.CharField[Any, Any]
    TextField = models.TextField[Any, Any]
else:
    CharField, TextField = models.CharField, models.TextField


class KeyField(CharField):
    """A name or key: equal only if every character is, case, accents and end spaces included."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """The column's type, with an exact collation on MariaDB and MySQL."""
        exact = ""
        if connection.vendor == "mysql":
            # The older utf8mb4_bin takes "abc " for "abc".
            mariadb = internals.is_mariadb(connection)
            exact = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
        return _with_collation(super().db_parameters(connection), exact)


class LabelField(CharField):
    """A short text for people, searched without regard to case by ``icontains``."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """The column's type, with a collation for people on MariaDB and MySQL."""
        return _with_collation(super().db_parameters(connection), _for_people(connection))


class ProseField(TextField):
    """The same for text of any length."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """The column's type, with a collation for people on MariaDB and MySQL."""
        return _with_collation(super().db_parameters(connection), _for_people(connection))


def _for_people(connection: BaseDatabaseWrapper) -> str:
    """A collation, if that of the database will not do.

    Its own is best: MariaDB refuses to compare two columns of different ones, unless one of
    them is exact.
    """
    if connection.vendor != "mysql":
        return ""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@character_set_database")
        return "" if cursor.fetchone()[0] == "utf8mb4" else "utf8mb4_unicode_520_ci"


def _with_collation(parameters: Any, collation: str) -> Any:
    # A collation names its character set, too.
    return {**parameters, "collation": collation} if collation else parameters
