"""The shape of every undocumented API of Django that the package leans on.

A failure here names what changed in Django, before anything else fails because of it.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import types

import django
import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.apps import apps
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.backends.db import SessionStore
from django.core.serializers.base import DeserializedObject
from django.db import DatabaseError, connection, connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.operations import BaseDatabaseOperations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import QuerySet
from django.db.models.deletion import Collector
from django.db.models.fields import related_descriptors
from django.db.models.signals import m2m_changed
from django.db.models.sql import Query
from django.db.models.sql.subqueries import DeleteQuery, UpdateQuery
from django.dispatch import Signal
from django.http import HttpRequest, StreamingHttpResponse
from django.test import TestCase, override_settings
from django.test.utils import CaptureQueriesContext, isolate_apps
from django.utils.functional import SimpleLazyObject, empty

from django_signal_audit import internals
from tests.testapp.models import (
    Author,
    Book,
    Chapter,
    Document,
    Enrolment,
    Film,
    Friend,
    Loan,
    Restaurant,
    Seat,
    Tag,
)


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
    "QuerySet.bulk_update": (QuerySet.bulk_update, "self objs fields batch_size"),
    "QuerySet.bulk_create": (
        QuerySet.bulk_create,
        "self objs batch_size ignore_conflicts update_conflicts update_fields unique_fields",
    ),
    "Query.get_compiler": (Query.get_compiler, "self using connection elide_empty"),
    "create_forward_many_to_many_manager": (
        related_descriptors.create_forward_many_to_many_manager,
        "superclass rel reverse",
    ),
    "ManyRelatedManager._add_items": (
        Book.tags.related_manager_cls._add_items,
        "self source_field_name target_field_name objs through_defaults"
        + (" using raw" if django.VERSION >= (6, 1) else ""),
    ),
    "DeserializedObject.save": (DeserializedObject.save, "self save_m2m using kwargs"),
    "BaseDatabaseOperations.execute_sql_flush": (
        BaseDatabaseOperations.execute_sql_flush,
        "self sql_list",
    ),
    "BaseDatabaseSchemaEditor.add_field": (BaseDatabaseSchemaEditor.add_field, "self model field"),
    "BaseDatabaseSchemaEditor.alter_field": (
        BaseDatabaseSchemaEditor.alter_field,
        "self model old_field new_field strict",
    ),
    "BaseDatabaseWrapper._cursor": (BaseDatabaseWrapper._cursor, "self name"),
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


def test_a_many_to_many_manager_says_what_it_is_for(db):
    book, tag = Book.objects.create(title="b"), Tag.objects.create(name="t")
    near = internals.related_manager(book.tags)
    assert near.through is Book.tags.through
    assert near.instance is book
    assert (near.value, near.column, near.symmetrical, near.forward) == (
        book.pk,
        "book",
        False,
        True,
    )
    far = internals.related_manager(tag.books)
    assert (far.value, far.column, far.forward) == (tag.pk, "tag", False)
    assert internals.related_manager(Friend(pk="1").friends).symmetrical is True
    assert internals.related_manager(Friend(pk="1").friends).value == 1
    film = internals.related_manager(Film(pk=1, code="f").cast)
    assert (film.value, film.column) == ("f", "film")
    assert internals.alias_of_manager(book.tags) == "default"


def test_a_many_to_many_manager_says_what_it_would_add(db):
    book, tag = Book.objects.create(title="b"), Tag.objects.create(name="t")
    manager = book.tags
    assert internals.target_values(manager, "tag", [tag, tag.pk, str(tag.pk)]) == {tag.pk}
    with pytest.raises(TypeError):
        internals.target_values(manager, "tag", [book])
    with pytest.raises(ValueError, match="Cannot add"):
        internals.target_values(manager, "tag", [Tag()])


def test_a_many_to_many_manager_says_whether_it_adds_at_once(db):
    book = Book.objects.create(title="b")
    assert internals.adds_at_once(book.tags, "default", "book") is True
    assert internals.adds_at_once(book.readers, "default", "book") is False

    def receive(**kwargs):
        pass

    m2m_changed.connect(receive, sender=Book.tags.through)
    try:
        assert internals.adds_at_once(book.tags, "default", "book") is False
    finally:
        m2m_changed.disconnect(receive, sender=Book.tags.through)


def test_many_to_many_managers_have_the_methods_that_are_wrapped(db):
    manager = type(Book.objects.create(title="b").tags)
    names = [name for name in internals.MANAGER_METHODS if name in manager.__dict__]
    assert {"add", "remove", "clear", "set"} <= {*names}
    assert ("set_base" in names) is (django.VERSION >= (6, 1))
    for name in ("create", "get_or_create", "update_or_create"):
        assert "self.add(" in inspect.getsource(manager.__dict__[name])
    add_items = original(manager.__dict__[internals.ADD_ITEMS])
    assert [*inspect.signature(add_items).parameters][1:4] == [
        "source_field_name",
        "target_field_name",
        "objs",
    ]
    assert inspect.getsource(add_items).count("bulk_create(") == 2, "rows are added otherwise"


def test_a_many_to_many_field_says_where_its_rows_are():
    tags, cast = Book._meta.get_field("tags"), Film._meta.get_field("cast")
    assert internals.through_of(tags) is Book.tags.through
    assert internals.through_columns(tags) == ("book", "tag")
    assert internals.through_columns(cast) == ("film", "person")


@isolate_apps("tests.testapp")
def test_a_many_to_many_field_has_no_rows_until_they_can_be_named():
    class Early(models.Model):
        others = models.ManyToManyField("testapp.Late", through="testapp.Link")

        class Meta:
            app_label = "testapp"

    assert internals.through_of(Early._meta.get_field("others")) is None


def test_all_models_of_a_registry_at_any_time():
    found = set(internals.models_of(apps))
    assert found >= {*apps.get_models(include_auto_created=True)}


def test_which_columns_are_unique_together():
    assert internals.is_unique_together(Book.tags.through, ("book", "tag"))
    assert not internals.is_unique_together(Book.tags.through, ("book",))
    assert internals.is_unique_together(Book.tags.through, ("id", "tag"))
    assert not internals.is_unique_together(Loan, ("book", "reader"))
    assert internals.is_unique_together(Enrolment, ("course", "student"))
    assert internals.is_unique_together(Seat, ("row", "number"))
    assert not internals.is_unique_together(Seat, ("row", "guest"))


@isolate_apps("tests.testapp")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"fields": ["left", "right"]}, True),
        ({"fields": ["left"]}, True),
        ({"fields": ["left", "right"], "condition": models.Q(left__gt=0)}, False),
        ({"fields": ["left", "right"], "deferrable": models.Deferrable.DEFERRED}, False),
    ],
)
def test_a_unique_constraint_counts_where_it_holds_for_all_rows_at_all_times(options, expected):
    class Pair(models.Model):
        left = models.IntegerField()
        right = models.IntegerField()

        class Meta:
            app_label = "testapp"
            constraints = [models.UniqueConstraint(name="one", **options)]  # noqa: RUF012

    assert internals.is_unique_together(Pair, ("left", "right")) is expected


@isolate_apps("tests.testapp")
def test_a_constraint_by_expressions_says_nothing_of_columns():
    class Pair(models.Model):
        left = models.CharField(max_length=5)

        class Meta:
            app_label = "testapp"
            constraints = [  # noqa: RUF012
                models.UniqueConstraint(models.functions.Lower("left"), name="one")
            ]

    assert not internals.is_unique_together(Pair, ("left",))


def test_historical_classes_are_of_another_registry():
    state = ProjectState()
    state.add_model(ModelState.from_model(Tag))
    assert internals.is_historical(state.apps.get_model("testapp.Tag"))
    assert not internals.is_historical(Tag)


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


def test_a_transaction_that_was_begun_by_sql_is_noticed(transactional_db):
    connection.ensure_connection()
    assert not internals.has_begun_by_sql(connection)
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            assert internals.has_begun_by_sql(connection)
        finally:
            cursor.execute("ROLLBACK")
    assert not internals.has_begun_by_sql(connection)


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


OF_USERS = {"Model.from_db", "Model.refresh_from_db"}
"""Documented, and wrapped on the classes of users that ask for it."""


def test_all_that_is_wrapped_has_its_signature_guarded():
    Book(pk=1).tags.all()
    wrapped = [
        found.signal_audit_original
        for found in gc.get_objects()
        if type(found) is types.FunctionType and "signal_audit_original" in vars(found)
    ]
    names = {
        ".".join(function.__qualname__.split(".")[-2:])
        for function in wrapped
        if function.__module__.startswith("django.")
    }
    # Backends have schema editors of their own, which Django calls in the same way.
    names = {re.sub(r"^DatabaseSchemaEditor", "BaseDatabaseSchemaEditor", name) for name in names}
    assert names
    assert names <= {*SIGNATURES, *OF_USERS}


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


def test_rows_that_meet_a_conflict_are_not_counted_as_inserted(db):
    book, tag = Book.objects.create(title="a"), Tag.objects.create(name="a")
    through = Book.tags.through
    with internals.counting_inserts(connection, through) as inserted:
        for _ in range(2):
            rows = [through(book=book, tag=tag)]
            through.objects.bulk_create(rows, ignore_conflicts=True)
        Author.objects.bulk_create([Author(name="b")], ignore_conflicts=True)
    assert inserted.rows == 1


def test_each_statement_goes_through_the_wrappers_of_its_connection(db):
    """The first in the list is called first, and told of the cursor and the connection."""
    seen = []

    def looks(execute, sql, params, many, context):
        seen.append((sql, params, many, context["connection"] is connections["default"]))
        result = execute(sql, params, many, context)
        seen.append(internals.rows_written(context["cursor"], context["connection"]))
        return result

    connection.execute_wrappers.insert(0, looks)
    try:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE testapp_tag SET name = %s", ["x"])
            cursor.executemany("INSERT INTO testapp_tag (name) VALUES (%s)", [["a"], ["b"]])
    finally:
        connection.execute_wrappers.remove(looks)
    assert seen == [
        ("UPDATE testapp_tag SET name = %s", ["x"], False, True),
        0,
        ("INSERT INTO testapp_tag (name) VALUES (%s)", [["a"], ["b"]], True, True),
        2,
    ]


def test_wrappers_of_statements_stand_first_and_once():
    fresh = connections["default"].copy()

    def outer(*args): ...

    def inner(*args): ...

    with fresh.execute_wrapper(print):
        for _ in range(2):
            internals.wrap_statements(fresh, outer, outermost=True)
            internals.wrap_statements(fresh, inner)
        assert fresh.execute_wrappers == [outer, inner, print]
    assert fresh.execute_wrappers == [outer, inner]


def test_the_flush_of_a_database_is_one_method_of_its_operations():
    owner, name = internals.FLUSH
    assert inspect.signature(original(getattr(owner, name))).parameters.keys() == {
        "self",
        "sql_list",
    }
    assert type(connection.ops).execute_sql_flush is owner.execute_sql_flush


@pytest.mark.parametrize("name", internals.FILLS_COLUMNS)
def test_a_schema_editor_fills_columns_of_the_model_it_is_given(name):
    editor = internals.schema_editor_of(connection)
    assert list(inspect.signature(original(getattr(editor, name))).parameters)[:2] == [
        "self",
        "model",
    ]


def test_statements_may_be_given_as_bytes_or_as_what_composes_them():
    class Composed:
        def as_string(self, context):
            assert context is connection.connection
            return "SELECT 1"

    for sql in ("SELECT 1", b"SELECT 1", Composed()):
        assert internals.statement_text(sql, connection) == "SELECT 1"


def test_a_foreign_key_says_whether_the_database_knows_of_it():
    references = internals.references_to(Author)
    assert [internals.has_constraint(one) for one in references if one.model is Book] == [True]


# AnnouncedQuery, names_database, routing_of


class Announced(internals.AnnouncedQuery):
    """Notes the aliases that it is about to read."""

    told: list = []  # noqa: RUF012

    def before_compile(self, alias):
        self.told.append(alias)


def test_every_read_of_a_queryset_is_announced_first(db):
    Announced.told.clear()
    authors = QuerySet(Author, query=Announced(Author))
    reads = [
        list,
        QuerySet.count,
        QuerySet.exists,
        QuerySet.first,
        lambda found: found.aggregate(models.Count("pk")),
        lambda found: list(found.iterator()),
        lambda found: list(found.values("name")),
        lambda found: list(Book.objects.filter(author__in=found)),
        lambda found: list(found.union(Author.objects.all())),
    ]
    for number, read in enumerate(reads, 1):
        read(authors.all())
        assert len(Announced.told) >= number, f"read {number} was not announced"
        assert set(Announced.told) == {"default"}


@pytest.mark.django_db(databases=["default", "other"])
def test_whether_a_database_is_named_and_what_routers_are_asked():
    assert not internals.names_database(Author.objects.all())
    assert internals.names_database(Author.objects.using("other"))
    book = Book.objects.create(title="a")
    assert internals.names_database(book.chapters.all())
    assert internals.routing_of(Author.objects.all()) == ("db_for_read", {})
    assert internals.routing_of(book.chapters.all()) == ("db_for_read", {"instance": book})
    writing = Author.objects.all()
    writing._for_write = True
    assert internals.routing_of(writing)[0] == "db_for_write"


# evaluated_user, wrapped_by


def test_a_lazy_user_that_was_looked_up_for_the_trail_stays_lazy():
    request = HttpRequest()
    request.session = SessionStore()
    AuthenticationMiddleware(lambda request: None).process_request(request)
    found = internals.evaluated_user(request, request.user)

    assert found.is_anonymous
    assert not request.session.accessed, "the view has not asked yet"
    assert request.user.__dict__["_wrapped"] is empty
    assert request.user.is_anonymous
    assert request.session.accessed, "now it has"
    assert internals.evaluated_user(request, found) is found


def test_a_lazy_object_is_taken_off_layer_by_layer():
    inner = SimpleLazyObject(lambda: "text")
    outer = SimpleLazyObject(lambda: inner)
    assert internals.wrapped_by(outer) is inner
    assert internals.wrapped_by(inner) == "text"


def test_a_database_notes_what_was_migrated(db):
    assert internals.has_migrated(connection, "django_signal_audit", "0001_initial")
    assert not internals.has_migrated(connection, "django_signal_audit", "0000_never")


def test_every_cursor_of_a_connection_is_made_by_one_method(db, monkeypatch):
    owner, name = internals.OPEN_CURSOR
    django_s = original(getattr(owner, name))
    assert list(inspect.signature(django_s).parameters) == ["self", "name"]
    made = []

    def watching(self, *args, **kwargs):
        made.append(self.alias)
        return django_s(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, watching)
    connection.cursor().close()
    list(Author.objects.iterator())
    with transaction.atomic():
        pass
    assert len(made) >= 3, "Django makes cursors in another way; queries inside texts would run"


@pytest.mark.django_db(databases=["default", "other"])
def test_what_is_called_without_queries_is_refused_each():
    def ask():
        for query in (
            Author.objects.count,
            lambda: list(Author.objects.iterator()),
            Author.objects.using("other").first,
            lambda: Author.objects.create(name="a"),
            connection.savepoint,
        ):
            with pytest.raises(internals.QueryRefusedError):
                query()
        assert connection.needs_rollback
        return internals.call_without_queries(lambda: "inner")

    with transaction.atomic():
        assert internals.call_without_queries(ask) == (("inner", False), True)
        assert not connection.needs_rollback
        assert Author.objects.count() == 0
    assert internals.call_without_queries(lambda: "a") == ("a", False)


def test_what_raises_without_queries_leaves_the_connection_as_it_was(db):
    def ask():
        Author.objects.create(name="a")

    with transaction.atomic():
        with pytest.raises(internals.QueryRefusedError):
            internals.call_without_queries(ask)
        assert not connection.needs_rollback
        assert Author.objects.count() == 0


def test_whether_a_save_tries_an_update_first():
    author = Author(name="a")
    assert not internals.tries_update(author, Author, forced=True)
    author.pk = 5
    assert internals.tries_update(author, Author, forced=False)
    document = Document()  # its key has a default
    assert not internals.tries_update(document, Document, forced=False)
    assert internals.tries_update(document, Document, forced=True)
    document._state.adding = False
    assert internals.tries_update(document, Document, forced=False)


def test_the_key_of_a_row_whose_parent_alone_has_one():
    assert internals.row_key(Restaurant(), Restaurant) is None
    assert internals.row_key(Restaurant(id=5), Restaurant) == 5
    assert internals.row_key(Restaurant(place_ptr_id=6), Restaurant) == 6
    assert internals.row_key(Restaurant(id=5, place_ptr_id=6), Restaurant) == 5
    assert internals.row_key(Author(), Author) is None


def test_a_queryset_compiles_to_sql_and_converters(db):
    book = Book.objects.create(title="a", price="1.50")
    rows = Book.objects.filter(pk=book.pk).values_list("title", "price", "meta")
    sql, parameters, converters = internals.compiled(rows, "default")
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        row = cursor.fetchone()
    found = internals.converted(row, converters, connection)
    assert [str(value) for value in found] == ["a", "1.50", "{}"]
    assert found[2] == {}
