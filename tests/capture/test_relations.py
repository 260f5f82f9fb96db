"""What changes of many-to-many relations leave in the trail."""

import django
import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.db.models.signals import m2m_changed
from django.test import override_settings

from django_signal_audit import suspend_audit
from django_signal_audit.testing import capture_events
from tests.capture.helpers import recorded, settings_for, told
from tests.testapp.models import (
    Author,
    Book,
    BookProxy,
    Casting,
    Film,
    Friend,
    Loan,
    Person,
    Plain,
    Reader,
    Tag,
    Topic,
    Watched,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def book():
    return Book.objects.create(title="Notes")


@pytest.fixture
def tags():
    return [Tag.objects.create(name=name) for name in "abc"]


def change(obj, name="tags", added=(), removed=()):
    """One m2m event as ``told`` shows it."""
    ids = {"added": [o.pk for o in added], "removed": [o.pk for o in removed]}
    return ("m2m", str(obj.pk), {name: ids})


def test_each_call_is_one_event_with_what_it_changed(book, tags):
    a, b, c = tags
    assert recorded(book.tags.add, a, b.pk) == [change(book, added=[a, b])]
    assert recorded(book.tags.add, b, str(c.pk)) == [change(book, added=[c])]
    assert recorded(book.tags.add, a) == []
    assert recorded(book.tags.remove, a, a.pk) == [change(book, removed=[a])]
    assert recorded(book.tags.remove, a) == []
    assert recorded(book.tags.set, [a, b]) == [change(book, added=[a], removed=[c])]
    assert recorded(book.tags.set, [b, a]) == []
    assert recorded(book.tags.set, [c], clear=True) == [change(book, added=[c], removed=[a, b])]
    assert recorded(book.tags.clear) == [change(book, removed=[c])]
    assert recorded(book.tags.clear) == []
    assert recorded(book.tags.add) == []


def test_create_through_the_manager(book):
    told = recorded(book.tags.create, name="new")
    assert told == [change(book, added=[Tag.objects.get(name="new")])]
    assert recorded(book.tags.get_or_create, name="new") == []


def test_querysets_and_generators_are_read_once(book, tags):
    assert recorded(book.tags.set, (tag for tag in tags)) == [change(book, added=tags)]
    assert recorded(book.tags.remove, *Tag.objects.all()) == [change(book, removed=tags)]
    assert recorded(book.tags.set, Tag.objects.all()) == [change(book, added=tags)]
    assert recorded(book.tags.set, book.tags.filter(name="a"), clear=True) == [
        change(book, removed=tags[1:])
    ]


def test_from_the_far_side_it_is_the_owners_change(book, tags):
    tag = tags[0]
    other = Book.objects.create(title="Other")
    with capture_events() as events:
        tag.books.add(book, other)
    assert told(events) == [change(book, added=[tag]), change(other, added=[tag])]
    assert {(e.sender, e.object_type) for e in events} == {("testapp.Book", "testapp.book")}
    assert recorded(tag.books.set, [book]) == [change(other, removed=[tag])]
    assert recorded(tag.books.set, (b for b in [other])) == [
        change(book, removed=[tag]),
        change(other, added=[tag]),
    ]
    assert recorded(tag.books.clear) == [change(other, removed=[tag])]


def test_an_event_names_its_owner(book, tags):
    with capture_events() as events:
        book.tags.add(*tags)
    [event] = events
    assert (event.object_repr, event.message, event.data) == ("Notes", "model.m2m", {})


def test_a_symmetrical_relation_is_told_once():
    first, second = Friend.objects.create(name="a"), Friend.objects.create(name="b")
    with capture_events() as events:
        first.friends.add(second)
        second.friends.add(first)
        second.friends.remove(first)
    assert told(events) == [
        change(first, "friends", added=[second]),
        change(second, "friends", removed=[first]),
    ]
    assert all(e.data == {"symmetrical": True} for e in events)


def test_a_custom_through_with_its_defaults():
    book, reader = Book.objects.create(title="Notes"), Reader.objects.create(name="r")
    assert recorded(book.readers.add, reader) == [change(book, "readers", added=[reader])]
    assert recorded(reader.books.remove, book) == [change(book, "readers", removed=[reader])]
    assert not Loan.objects.exists()


def test_through_fields_and_other_columns_than_the_key():
    film = Film.objects.create(code="f1")
    other = Film.objects.create(code="f2")
    person = Person.objects.create(code="p1")
    add = recorded(film.cast.add, person, through_defaults={"role": "king"})
    casting = Casting.objects.get()
    assert casting.role == "king"
    assert ("m2m", str(film.pk), {"cast": {"added": ["p1"], "removed": []}}) in add
    assert [row[:2] for row in add if row[0] == "create"] == [("create", str(casting.pk))]
    added = recorded(person.films.set, [other])
    assert [row for row in added if row[0] == "m2m"] == [
        ("m2m", str(film.pk), {"cast": {"added": [], "removed": ["p1"]}}),
        ("m2m", str(other.pk), {"cast": {"added": ["p1"], "removed": []}}),
    ]


def test_what_the_far_manager_hides_is_not_told_as_removed():
    film = Film.objects.create(code="f1")
    shown = Topic.everything.create(name="a")
    hidden = Topic.everything.create(name="b", hidden=True)
    assert recorded(film.topics.add, shown, hidden) == [
        change(film, "topics", added=[shown, hidden])
    ]
    assert recorded(film.topics.remove, shown, hidden) == [change(film, "topics", removed=[shown])]
    assert recorded(film.topics.clear) == []
    assert recorded(film.topics.set, []) == []
    assert list(film.topics(manager="everything").all()) == [hidden]
    assert recorded(film.topics(manager="everything").clear) == [
        change(film, "topics", removed=[hidden])
    ]


def test_a_receiver_that_vetoes_is_believed(book, tags):
    def veto(action, pk_set, **kwargs):
        if action == "pre_add":
            pk_set.discard(tags[0].pk)

    m2m_changed.connect(veto, sender=Book.tags.through)
    try:
        assert recorded(book.tags.add, *tags) == [change(book, added=tags[1:])]
    finally:
        m2m_changed.disconnect(veto, sender=Book.tags.through)


def test_a_receiver_that_changes_another_relation_is_told_too(book, tags):
    other = Book.objects.create(title="Other")

    def copy(action, instance, **kwargs):
        if action == "post_add" and instance == book:
            other.tags.add(tags[0])

    m2m_changed.connect(copy, sender=Book.tags.through)
    try:
        with capture_events() as events:
            book.tags.set([tags[0]])
    finally:
        m2m_changed.disconnect(copy, sender=Book.tags.through)
    assert sorted(told(events), key=str) == [
        change(book, added=tags[:1]),
        change(other, added=tags[:1]),
    ]


@pytest.mark.parametrize("pattern", ["*", "testapp.*"])
def test_rows_of_automatic_through_tables_are_never_told(pattern, book, tags):
    plain = Plain.objects.create(name="a")
    with override_settings(SIGNAL_AUDIT=settings_for(pattern)), capture_events() as events:
        watched = Watched.objects.create(name="w")
        watched.plain.add(plain)
        book.tags.set(tags)
        book.tags.clear()
        book.delete()
    assert not [e for e in events if "_" in (e.object_type or "")]
    assert [e.object_type for e in events.named("model.m2m")] == [
        "testapp.watched",
        "testapp.book",
        "testapp.book",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 1),
        ({"on": ["create", "update", "delete"]}, 0),
        ({"on": ["m2m"]}, 1),
        ({"m2m_fields": ["readers"]}, 0),
        ({"m2m_fields": ["tags"]}, 1),
        ({"exclude_fields": ["tags"]}, 0),
        ({"when": lambda event: False}, 0),
    ],
)
def test_the_policy_decides(options, expected, book, tags):
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Book", **options)):
        assert len(recorded(book.tags.add, tags[0])) == expected


def test_a_masked_relation_hides_its_ids(book, tags):
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Book", mask_fields=["tags"])):
        [(_, _, changes)] = recorded(book.tags.add, *tags[:2])
    assert changes == {"tags": {"added": ["[redacted]"] * 2, "removed": []}}


def test_suspended_and_unaudited_changes_leave_nothing(book, tags):
    with suspend_audit():
        assert recorded(book.tags.set, tags) == []
    watched = Watched.objects.create(name="w")
    assert recorded(watched.plain.create, name="a") == []


def test_a_proxy_changes_its_concrete_model(book, tags):
    proxy = BookProxy.objects.get(pk=book.pk)
    with capture_events() as events:
        proxy.tags.add(tags[0])
    assert [e.object_type for e in events] == ["testapp.book"]


def test_refused_values_fail_as_without_the_package(book, tags):
    for call, error in (
        (lambda: book.tags.add("x"), ValueError),
        (lambda: book.tags.add(Tag(name="unsaved")), ValueError),
        (lambda: book.tags.add(book), TypeError),
        (lambda: book.tags.remove("x"), ValueError),
        (lambda: book.tags.set([book]), TypeError),
    ):
        with capture_events() as events, pytest.raises(error), suspend_audit():
            _in_savepoint(call)
        with pytest.raises(error):
            _in_savepoint(call)
        assert events == []


def _in_savepoint(call):
    from django.db import transaction  # noqa: PLC0415

    with transaction.atomic():
        call()


def test_a_fixture_is_one_change(book, tags):
    text = serializers.serialize("json", [book]).replace('"tags": []', f'"tags": [{tags[0].pk}]')
    with capture_events() as events:
        for found in serializers.deserialize("json", text):
            found.save()
    [event] = events.named("model.m2m")
    assert told([event]) == [change(book, added=tags[:1])]
    assert event.data == ({"raw": True} if django.VERSION >= (6, 1) else {})


@pytest.mark.django_db(databases=["default", "other"])
def test_a_change_on_another_alias_is_recorded_there():
    book = Book.objects.using("other").create(title="a")
    tag = Tag.objects.using("other").create(name="t")
    with capture_events() as events:
        book.tags.add(tag)
        tag.books.clear()
    assert [(e.event, e.database) for e in events] == [("model.m2m", "other")] * 2


@pytest.mark.django_db(transaction=True)
def test_async_methods():
    async def write():
        book = await Book.objects.acreate(title="a")
        tag = await Tag.objects.acreate(name="t")
        await book.tags.aadd(tag)
        await book.tags.aset([])
        await tag.books.aadd(book)
        await book.tags.aremove(tag)
        await book.tags.aadd(tag)
        await book.tags.aclear()

    with capture_events() as events:
        async_to_sync(write)()
    assert len(events.named("model.m2m")) == 6


@pytest.mark.parametrize(
    ("call", "more"),
    [
        (lambda book, tags: book.tags.add(*tags), 1),
        (lambda book, tags: book.tags.set(tags[:1]), 2),
        (lambda book, tags: book.tags.remove(tags[2]), 1),
        (lambda book, tags: book.tags.clear(), 1),
    ],
    ids=["add", "set", "remove", "clear"],
)
def test_queries_of_each_call(call, more, tags, django_assert_num_queries):
    from django.db import connection  # noqa: PLC0415
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

    books = [Book.objects.create(title=t) for t in "ab"]
    for book in books:
        book.tags.set(tags[1:])
    Author.objects.create(name="primes the write lock")
    with suspend_audit(), CaptureQueriesContext(connection) as own:
        call(books[0], tags)
    with django_assert_num_queries(len(own) + more):
        call(books[1], tags)
