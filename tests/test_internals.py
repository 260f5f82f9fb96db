"""The shape of every undocumented API of Django that the package leans on.

A failure here names what changed in Django, before anything else fails because of it.
"""

from __future__ import annotations

import asyncio
import inspect

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.backends.db import SessionStore
from django.db import DatabaseError, connection, connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet
from django.db.models.deletion import Collector
from django.db.models.fields import related_descriptors
from django.db.models.sql import Query
from django.db.models.sql.subqueries import DeleteQuery, UpdateQuery
from django.dispatch import Signal
from django.http import HttpRequest, StreamingHttpResponse
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject, empty

from django_signal_audit import internals
from tests.testapp.models import Author, Book, Chapter, Document, Friend, Restaurant, Tag


def original(function):
    """What Django shipped, below our wrapper."""
    return getattr(function, "signal_audit_original", function)


SIGNATURES = {
    "Model._save_table": (
        models.Model._save_table,
        "self raw cls force_insert force_update using update_fields",
    ),
    "Model._save_parents": (
        models.Model._save_parents,
        "self cls using update_fields force_insert updated_parents",
    ),
    "Model._is_pk_set": (models.Model._is_pk_set, "self meta"),
    "Model._get_pk_val": (models.Model._get_pk_val, "self meta"),
    "Collector.delete": (Collector.delete, "self"),
    "DeleteQuery.delete_batch": (DeleteQuery.delete_batch, "self pk_list using"),
    "UpdateQuery.update_batch": (UpdateQuery.update_batch, "self pk_list values using"),
    "QuerySet._raw_delete": (QuerySet._raw_delete, "self using"),
    "QuerySet.update": (QuerySet.update, "self kwargs"),
    "QuerySet.bulk_create": (
        QuerySet.bulk_create,
        "self objs batch_size ignore_conflicts update_conflicts update_fields unique_fields",
    ),
    "Query.get_compiler": (Query.get_compiler, "self using connection elide_empty"),
    "create_forward_many_to_many_manager": (
        related_descriptors.create_forward_many_to_many_manager,
        "superclass rel reverse",
    ),
    "BaseDatabaseWrapper.set_autocommit": (
        BaseDatabaseWrapper.set_autocommit,
        "self autocommit force_begin_transaction_with_broken_autocommit",
    ),
    "BaseDatabaseWrapper.savepoint": (BaseDatabaseWrapper.savepoint, "self"),
    "BaseDatabaseWrapper.savepoint_rollback": (BaseDatabaseWrapper.savepoint_rollback, "self sid"),
    "BaseDatabaseWrapper.savepoint_commit": (BaseDatabaseWrapper.savepoint_commit, "self sid"),
    "BaseDatabaseWrapper.commit": (BaseDatabaseWrapper.commit, "self"),
    "BaseDatabaseWrapper.rollback": (BaseDatabaseWrapper.rollback, "self"),
    "BaseDatabaseWrapper.close": (BaseDatabaseWrapper.close, "self"),
    "BaseDatabaseWrapper.copy": (BaseDatabaseWrapper.copy, "self alias"),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_wrapped_function_has_the_signature_we_know(name):
    function, expected = SIGNATURES[name]
    found = " ".join(inspect.signature(original(function)).parameters)
    assert found == expected, f"Django changed the signature of {name}"


CALLS = {
    # what Django's own code calls, and with which arguments we expect it
    "Model.save_base calls _save_parents and _save_table": (
        models.Model.save_base,
        ["self._save_parents(", "self._save_table(", "force_insert or parent_inserted"],
    ),
    "Model._save_parents calls _save_table for each parent": (
        original(models.Model._save_parents),
        ["self._save_table("],
    ),
    "Collector.delete uses the queries we wrap": (
        original(Collector.delete),
        ["self.fast_deletes", "._raw_delete(", ".delete_batch(", ".update"],
    ),
    "Atomic.__enter__ sets the savepoint before it joins atomic_blocks": (
        transaction.Atomic.__enter__,
        ["connection.savepoint()", "savepoint_ids.append", "atomic_blocks.append(self)"],
    ),
    "Atomic.__exit__ rolls back a commit that fails with DatabaseError": (
        transaction.Atomic.__exit__,
        [
            "connection.commit()",
            "except DatabaseError:",
            "connection.rollback()",
            "set_autocommit(True)",
        ],
    ),
    "many-to-many managers write through these methods": (
        original(related_descriptors.create_forward_many_to_many_manager),
        [f"def {n}(" for n in ("add", "remove", "set", "clear", "_get_target_ids")],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_django_still_works_the_way_we_rely_on(name):
    function, expected = CALLS[name]
    source = inspect.getsource(function)
    at = 0
    ordered = name.startswith("Atomic.__enter__")
    for piece in expected:
        found = source.find(piece, at)
        assert found >= 0, f"{name}: {piece!r} is gone from {function.__qualname__}"
        at = found if ordered else 0


@pytest.mark.parametrize(
    "name",
    [
        "alias",
        "atomic_blocks",
        "autocommit",
        "closed_in_transaction",
        "connection",
        "features",
        "in_atomic_block",
        "needs_rollback",
        "ops",
        "rollback_exc",
        "run_on_commit",
        "savepoint_ids",
        "settings_dict",
        "vendor",
    ],
)
def test_a_connection_has_the_attribute(name):
    assert hasattr(connections["default"], name), f"connections have no {name} any more"


@pytest.mark.parametrize(
    "name", ["validate_thread_sharing", "validate_no_atomic_block", "ensure_connection", "cursor"]
)
def test_a_connection_has_the_method(name):
    assert callable(getattr(connections["default"], name, None))


@pytest.mark.parametrize(
    "name", ["savepoint_create_sql", "savepoint_rollback_sql", "savepoint_commit_sql"]
)
def test_a_backend_can_say_the_sql_of_savepoints(name):
    assert "x1" in getattr(connection.ops, name)("x1")


@pytest.mark.parametrize(
    "name", ["has_select_for_no_key_update", "has_native_uuid_field", "uses_savepoints"]
)
def test_a_backend_has_the_feature_flag(name):
    assert isinstance(getattr(connection.features, name), bool)


def test_methods_of_a_connection_can_be_shadowed_on_the_instance():
    fresh = connections["default"].copy()
    fresh.commit = lambda: "ours"
    assert fresh.commit() == "ours"


def test_atomic_calls_the_connections_own_methods(monkeypatch, transactional_db):
    called = []
    real = connections["default"]
    for name in ("commit", "rollback", "savepoint", "savepoint_rollback", "savepoint_commit"):
        method = getattr(real, name)

        def recorded(*args, _name=name, _method=method):
            called.append(_name)
            return _method(*args)

        monkeypatch.setattr(real, name, recorded)
    with transaction.atomic():
        with transaction.atomic():
            pass
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            1 / 0  # noqa: B018
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        1 / 0  # noqa: B018
    assert called == [
        "savepoint",
        "savepoint_commit",
        "savepoint",
        "savepoint_rollback",
        "savepoint_commit",
        "commit",
        "rollback",
    ]


def test_fast_deletes_are_querysets_in_a_list(db):
    author = Author.objects.create(name="a")
    book = Book.objects.create(title="b", author=author)
    collector = Collector(using="default", origin=book)
    collector.collect([book])
    assert isinstance(collector.fast_deletes, list)
    assert {queryset.model for queryset in collector.fast_deletes} >= {Chapter}
    assert all(hasattr(queryset, "_raw_delete") for queryset in collector.fast_deletes)
    assert set(collector.data) == {Book}


def test_many_to_many_managers_have_what_relations_read(db):
    book = Book.objects.create(title="b")
    manager = book.tags
    for name in (
        "instance",
        "reverse",
        "through",
        "source_field",
        "target_field",
        "source_field_name",
        "target_field_name",
        "related_val",
        "symmetrical",
        "_get_target_ids",
    ):
        assert hasattr(manager, name), f"many-to-many managers have no {name} any more"
    tag = Tag.objects.create(name="t")
    assert manager._get_target_ids(manager.target_field_name, [tag, tag.pk]) == {tag.pk}
    assert manager.related_val == (book.pk,)
    assert manager.target_field.get_foreign_related_value(tag) == (tag.pk,)
    assert tag.books.reverse is True
    assert manager.reverse is False
    assert Friend(pk=1).friends.symmetrical is True


def test_managers_of_many_to_many_are_made_by_the_factory_when_first_used():
    source = inspect.getsource(related_descriptors.ManyToManyDescriptor)
    assert "create_forward_many_to_many_manager(" in source


def test_a_compiler_tells_its_columns_and_converters():
    compiler = Author.objects.values_list("name").query.get_compiler(using="default")
    sql, parameters = compiler.as_sql()
    assert sql.startswith("SELECT")
    assert parameters == ()
    (column,) = [column for column, _, _ in compiler.select]
    assert compiler.get_converters([column]) == {}


def test_a_queryset_tells_what_capture_asks_before_an_update():
    query = Author.objects.all().query
    for name in (
        "is_sliced",
        "distinct_fields",
        "combinator",
        "annotations",
        "order_by",
        "alias_map",
    ):
        assert hasattr(query, name), f"queries have no {name} any more"
    assert query.is_empty() is False


def test_a_primary_key_is_set_when_all_its_parts_are():
    assert not internals.is_pk_set(Author(), Author._meta)
    assert internals.is_pk_set(Author(pk=1), Author._meta)
    assert internals.is_pk_set(Document(), Document._meta)


def test_the_columns_and_value_of_a_primary_key():
    assert internals.pk_fields(Author._meta) == [Author._meta.pk]
    assert internals.pk_value(Author(pk=5), Author._meta) == 5
    parent = Restaurant._meta.concrete_model._meta.get_parent_list()[0]
    assert internals.pk_value(Restaurant(place_ptr_id=7, id=7), parent._meta) == 7


class TestBlocksOfATestCase(TestCase):
    def test_the_outermost_block_is_known_as_a_testcases(self):
        assert connection.atomic_blocks[0]._from_testcase is True
        assert internals.in_testcase_transaction(connection)

    def test_the_savepoint_of_the_test_is_known_also_inside_of_blocks(self):
        expected = connection.savepoint_ids[0]
        assert expected is not None
        assert internals.testcase_savepoint(connection) == expected
        with transaction.atomic():
            assert internals.testcase_savepoint(connection) == expected

    def test_a_savepoint_begins_no_transaction_here(self):
        assert not internals.savepoint_begins_transaction(connection)


def test_outside_of_a_testcase_there_is_no_testcase_block(transactional_db):
    assert not internals.in_testcase_transaction(connection)
    with transaction.atomic():
        assert connection.atomic_blocks[0]._from_testcase is False
        assert not internals.in_testcase_transaction(connection)
        assert internals.testcase_savepoint(connection) is None


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite")
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (None, "BEGIN IMMEDIATE"),
        ("DEFERRED", "BEGIN IMMEDIATE"),
        ("IMMEDIATE", "BEGIN IMMEDIATE"),
        ("EXCLUSIVE", "BEGIN EXCLUSIVE"),
    ],
)
def test_a_transaction_of_our_own_begins_with_the_write_lock(
    transactional_db, monkeypatch, mode, expected
):
    connection.ensure_connection()
    monkeypatch.setattr(connections["default"], "transaction_mode", mode)
    with CaptureQueriesContext(connection) as captured:
        with internals.write_lock_first(connection):
            block = transaction.atomic()
            block.__enter__()
        block.__exit__(None, None, None)
    assert captured[0]["sql"] == expected
    assert connection.transaction_mode == mode


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite")
def test_releasing_the_savepoint_that_began_a_transaction_commits(transactional_db):
    """What ``savepoint_begins_transaction`` is for: python's sqlite3 and Django's use of it."""
    transaction.set_autocommit(False)
    try:
        with transaction.atomic():
            assert connection.connection.in_transaction
        assert not connection.connection.in_transaction
    finally:
        transaction.set_autocommit(True)


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="about PostgreSQL's drivers")
def test_the_driver_says_whether_the_server_has_a_transaction(transactional_db):
    connection.ensure_connection()
    assert internals.has_no_transaction(connection)
    assert not internals.is_left_open(connection)
    with transaction.atomic():
        Author.objects.count()
        assert not internals.has_no_transaction(connection)
        assert internals.is_left_open(connection)
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT nothing")
        assert internals.is_left_open(connection)
        transaction.set_rollback(True)
    connection.close()
    assert not internals.is_left_open(connection)


def test_a_doomed_block_rolls_back_and_says_why(transactional_db):
    error = RuntimeError("why")
    with transaction.atomic():
        Tag.objects.create(name="t")
        internals.doom(connection, error)
        with pytest.raises(transaction.TransactionManagementError) as caught:
            Tag.objects.count()
        assert caught.value.__cause__ is error
    assert Tag.objects.count() == 0


def test_our_wrappers_are_in_place_once():
    for function in (
        models.Model._save_table,
        models.Model._save_parents,
        Collector.delete,
        DeleteQuery.delete_batch,
        UpdateQuery.update_batch,
        QuerySet.update,
        QuerySet.bulk_create,
        related_descriptors.create_forward_many_to_many_manager,
    ):
        below = getattr(function, "signal_audit_original", None)
        assert below is not None, f"{function.__qualname__} is not wrapped"
        assert not hasattr(below, "signal_audit_original"), "wrapped twice"


@pytest.mark.parametrize("use_caching", [False, True])
def test_a_signal_has_the_list_lock_and_cache_that_connect_first_uses(use_caching):
    signal = Signal(use_caching=use_caching)

    def receiver(**kwargs):
        pass

    signal.connect(receiver, sender=Author, weak=False, dispatch_uid="uid")
    assert isinstance(signal.receivers, list)
    (entry,) = signal.receivers
    assert entry[0][0] == "uid"
    assert entry[1] is receiver, "a strong receiver is the second part of its entry"
    with signal.lock:
        assert hasattr(signal.sender_receivers_cache, "clear")
    assert signal.send(Author) == [(receiver, None)]
    assert signal.receivers == [entry]


@pytest.mark.parametrize("use_caching", [False, True])
def test_what_is_connected_first_is_called_first_and_once(use_caching):
    signal = Signal(use_caching=use_caching)
    called = []
    receivers = [lambda *, n=n, **kwargs: called.append(n) for n in range(4)]
    for receiver in receivers[:2]:
        signal.connect(receiver)
    signal.send(Author)
    internals.connect_first(signal, receivers[2], None, "uid")
    internals.connect_first(signal, receivers[3], None, "uid")
    called.clear()
    signal.send(Author)

    assert called == [2, 0, 1]
    assert signal.disconnect(dispatch_uid="uid")
    assert len(signal.send(Author)) == 2


# Requests


def test_a_lazy_user_says_how_it_will_be_found_and_whether_it_was():
    request = HttpRequest()
    request.session = SessionStore()
    AuthenticationMiddleware(lambda request: None).process_request(request)
    state = request.user.__dict__

    assert type(request.user) is SimpleLazyObject
    assert state["_wrapped"] is empty
    assert state["_setupfunc"].__module__ == "django.contrib.auth.middleware"
    assert internals.known_user(request, request.user) is None
    assert bool(request.user) and internals.known_user(request, request.user) is request.user


def test_what_an_async_view_asked_for_is_kept_beside_the_lazy_user(db):
    request = HttpRequest()
    request.session = SessionStore()
    AuthenticationMiddleware(lambda request: None).process_request(request)
    found = async_to_sync(request.auser)()

    assert internals.known_user(request, request.user) is found


def test_a_session_keeps_its_values_key_and_marks_where_we_look():
    session = SessionStore()
    assert not {"_session_cache", "flush", "cycle_key"} & vars(session).keys()
    session["a"] = 1
    assert vars(session)["_session_cache"] == {"a": 1}
    assert (session.accessed, session.modified, session.session_key) == (True, True, None)


def test_a_streamed_response_keeps_the_iterator_it_was_given():
    async def generator():
        yield b"a"

    parts = iter([b"a"])
    assert internals.parts_of(StreamingHttpResponse(parts)) is parts
    parts = generator()
    response = StreamingHttpResponse(parts)
    assert internals.parts_of(response) is parts
    assert response.is_async


# asgiref


def test_a_coroutine_knows_whether_sync_code_waits_for_it():
    async def main():
        return internals.sync_code_waits()

    assert not internals.sync_code_waits()
    assert async_to_sync(main)()
    assert not asyncio.run(main())


def test_a_task_knows_whether_its_thread_is_gone():
    async def later():
        await asyncio.sleep(0.01)
        return internals.thread_is_gone()

    async def main():
        assert not internals.thread_is_gone()
        async with ThreadSensitiveContext():
            await sync_to_async(list)()
            assert not internals.thread_is_gone()
            task = asyncio.create_task(later())
        return await task

    assert asyncio.run(main())


# receiver_key, is_connected, unwrapped


@pytest.mark.parametrize("bound", [False, True])
def test_a_receiver_is_found_by_its_key(bound):
    class Receiver:
        def method(self, **kwargs):
            return None

        def __call__(self, **kwargs):
            return None

    receiver = Receiver()
    given = receiver.method if bound else receiver
    signal = Signal()

    def other(**kwargs):
        return None

    signal.connect(other, sender=Author, dispatch_uid=internals.receiver_key(given))
    assert not signal.disconnect(other, sender=Author)
    assert signal.disconnect(given, sender=Author)


@pytest.mark.parametrize("sender", [None, Author])
@pytest.mark.parametrize("uid", [None, "mine"])
def test_whether_a_signal_still_has_a_receiver(uid, sender):
    def receiver(**kwargs):
        return None

    signal, key = Signal(), uid or internals.receiver_key(receiver)
    assert not internals.is_connected(signal, key, sender)
    signal.connect(receiver, sender=sender, dispatch_uid=uid)
    assert internals.is_connected(signal, key, sender)
    assert not internals.is_connected(signal, key, Signal)
    assert not internals.is_connected(signal, "other", sender)
    signal.disconnect(receiver, sender=sender, dispatch_uid=uid)
    assert not internals.is_connected(signal, key, sender)


def test_what_a_lazy_object_stands_for():
    made = []

    def make():
        made.append(object())
        return made[-1]

    lazy = SimpleLazyObject(make)
    nested = SimpleLazyObject(lambda: lazy)
    assert internals.unwrapped(nested) is made[0]
    assert internals.unwrapped(lazy) is made[0]
    assert internals.unwrapped(made) is made
    assert len(made) == 1


# routed, forbidding_router


class Quiet:
    """A router that has no opinion, and not every method."""

    def db_for_read(self, model, **hints):
        return None

    def allow_migrate(self, db, app_label, **hints):
        return None


class Opinionated:
    def db_for_read(self, model, **hints):
        return hints.get("hint", "default")

    def allow_migrate(self, db, app_label, model_name=None, **hints):
        assert hints["model"] is Author
        return db == "default" and (app_label, model_name) == ("testapp", "author")


def test_what_routers_say_is_what_django_hears():
    with override_settings(DATABASE_ROUTERS=[Quiet(), object(), Opinionated()]):
        assert internals.routed("db_for_read", Author) == router.db_for_read(Author) == "default"
        hinted = {"hint": "other"}
        assert internals.routed("db_for_read", Author, **hinted) == "other"
        assert router.db_for_read(Author, **hinted) == "other"
        assert internals.routed("db_for_write", Author) is None
        assert internals.forbidding_router("default", Author) is None
        assert router.allow_migrate_model("default", Author)
        assert internals.forbidding_router("other", Author) == "Opinionated"
        assert not router.allow_migrate_model("other", Author)
    with override_settings(DATABASE_ROUTERS=[Quiet()]):
        assert internals.forbidding_router("other", Author) is None
        assert internals.routed("db_for_read", Author) is None


@pytest.mark.django_db(transaction=True)
def test_whether_a_write_would_wait_for_a_commit():
    assert not internals.in_transaction(connection)
    with transaction.atomic():
        assert internals.in_transaction(connection)
    transaction.set_autocommit(False)
    try:
        assert internals.in_transaction(connection)
    finally:
        transaction.set_autocommit(True)
    fresh = connection.copy()
    assert not internals.in_transaction(fresh)
    fresh.settings_dict["AUTOCOMMIT"] = False
    assert internals.in_transaction(fresh)
    assert fresh.connection is None


@pytest.mark.skipif("connection.vendor != 'mysql'", reason="about MariaDB")
def test_a_connection_to_mariadb_says_how_it_works(transactional_db):
    connection.ensure_connection()
    assert internals.is_mariadb(connection)
    assert internals.reads_the_past(connection)
    assert internals.update_passes_locked_rows(connection) is (
        connection.isolation_level == "read committed"
    )
    assert internals.cuts_silently(connection) is not any(
        "STRICT" in m for m in connection.sql_mode
    )
    assert isinstance(connection.execute_wrappers, list)


@pytest.mark.skipif("connection.vendor == 'mysql'", reason="about the others")
def test_other_databases_work_as_standard_sql_says(transactional_db):
    assert not internals.reads_the_past(connection)
    assert not internals.update_passes_locked_rows(connection)
    assert not internals.cuts_silently(connection)


def test_the_block_of_a_statement_wrapper_takes_the_last_one_away():
    """So ours, which stays, is put first in the list."""
    wrappers = connections["default"].execute_wrappers
    before = list(wrappers)
    with connection.execute_wrapper(print):
        assert wrappers == [*before, print]
        wrappers.insert(0, len)
    assert wrappers == [len, *before]
    wrappers.remove(len)
