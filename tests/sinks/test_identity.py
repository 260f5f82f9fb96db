"""Whether two aliases are one database is asked of the database, not guessed from settings."""

from __future__ import annotations

import pytest
from django.db import connections

from django_signal_audit.sinks import identity
from django_signal_audit.sinks.identity import have_same_settings, is_same_table
from tests.databases import another_alias, replica_of, shared_database

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def same(one, other):
    found = is_same_table(connections[one], connections[other])
    assert found == is_same_table(connections[other], connections[one])
    return found


def test_an_alias_is_itself():
    assert same("default", "default")


def test_two_databases_are_two(tmp_path):
    assert not same("default", "other")
    with shared_database(tmp_path, "default"), shared_database(tmp_path, "other"):
        assert not same("default", "other")


def test_another_alias_with_the_same_settings_is_the_same(tmp_path):
    with shared_database(tmp_path, "default"), another_alias("again", "default"):
        assert have_same_settings(connections["default"], connections["again"])
        assert same("default", "again")
        assert not same("other", "again")


def test_another_way_to_the_same_database_is_the_same(tmp_path):
    with shared_database(tmp_path, "default"), replica_of("default") as replica:
        assert not have_same_settings(connections["default"], connections[replica])
        assert same("default", replica)
        assert not same("other", replica)


@pytest.mark.skipif("connections['default'].vendor != 'sqlite'", reason="files are SQLite's")
def test_files_by_other_names_are_the_same(tmp_path):
    with shared_database(tmp_path, "default"):
        link = tmp_path / "link.sqlite3"
        link.symlink_to(connections["default"].settings_dict["NAME"])
        with another_alias("link", "default", NAME=str(link)):
            assert same("default", "link")


@pytest.mark.skipif("connections['default'].vendor != 'sqlite'", reason="files are SQLite's")
def test_a_file_that_is_not_there_yet_is_another_one(tmp_path):
    with (
        shared_database(tmp_path, "default"),
        another_alias("new", "default", NAME=str(tmp_path / "new.sqlite3")),
    ):
        assert not same("default", "new")


def test_memory_is_shared_by_name_alone():
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}
    shared = "file:identity?mode=memory&cache=shared"
    with (
        another_alias("one", "other", NAME=shared, **sqlite),
        another_alias("two", "other", NAME=shared, **sqlite, USER="somebody"),
        another_alias("private", "other", NAME=":memory:", **sqlite),
        another_alias("also private", "other", NAME=":memory:", **sqlite),
    ):
        assert same("one", "two")
        assert not same("private", "also private")
        assert not same("one", "private")


@pytest.mark.skipif("connections['default'].vendor != 'mysql'", reason="about MariaDB's clusters")
def test_nodes_of_one_cluster_are_one_database_though_they_share_no_locks(monkeypatch):
    with replica_of("default") as replica:
        monkeypatch.setattr(identity, "_IS_FREE", "SELECT 1 OR %s")
        assert not same("default", replica)
        monkeypatch.setattr(identity, "_CLUSTER", "SHOW STATUS LIKE 'no such variable'")
        assert not same("default", replica)
        # Something that is equal on both and not empty, as the id of a cluster is.
        monkeypatch.setattr(identity, "_CLUSTER", "SHOW VARIABLES LIKE 'version'")
        assert same("default", replica)
        assert not same("default", "other")
        monkeypatch.setattr(identity, "_CLUSTER", "SELECT 'id', CONNECTION_ID()")
        assert not same("default", replica)


@pytest.mark.skipif("connections['default'].vendor == 'sqlite'", reason="the other is SQLite")
def test_databases_of_two_vendors_are_two(tmp_path):
    engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    with another_alias("foreign", "default", **engine):
        assert not same("default", "foreign")


def test_a_vendor_that_is_not_known_is_told_by_its_settings(monkeypatch):
    for alias in ("default", "other"):
        monkeypatch.setattr(connections[alias], "vendor", "unheard of", raising=False)
    assert not same("default", "other")
