"""What changes of many-to-many relations leave in the trail."""

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.db import connection, transaction
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.signals import m2m_changed
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from django_signal_audit import audit_receiver, suspend_audit
from django_signal_audit.capture import relations
from django_signal_audit.testing import capture_events
from tests.capture.helpers import recorded, settings_for, told
from tests.testapp.models import (
    Author,
    Book,
    BookProxy,
    Casting,
    Club,
    Code,
    Drawer,
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


def test_m2m_add_remove_set_clear_forward_is_one_event_for_one_call(book, tags):
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


def test_m2m_from_the_reverse_side_is_told_on_the_object_that_owns_the_field(book, tags):
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


# What receivers do inside of a call


@pytest.fixture
def receiver():
    """Connects functions to ``m2m_changed`` of the books' tags, for one test."""
    connected = []

    def connect(function, sender=Book.tags.through):
        m2m_changed.connect(function, sender=sender)
        connected.append((function, sender))

    yield connect
    for function, sender in connected:
        m2m_changed.disconnect(function, sender=sender)


def test_rows_that_a_receiver_writes_are_told(book, tags, receiver):
    other = Book.objects.create(title="Other")

    def copy(action, instance, pk_set, **kwargs):
        if action == "post_add":
            for pk in pk_set:
                Book.tags.through.objects.create(book=other, tag_id=pk)

    receiver(copy)
    assert sorted(recorded(book.tags.add, *tags[:2]), key=str) == [
        change(book, added=tags[:2]),
        change(other, added=tags[:1]),
        change(other, added=tags[1:2]),
    ]


def test_rows_that_a_receiver_writes_for_the_same_object_are_a_part_of_the_call(
    book, tags, receiver
):
    def more(action, instance, **kwargs):
        if action == "post_add":
            Book.tags.through.objects.create(book=book, tag=tags[2])

    receiver(more)
    assert recorded(book.tags.add, *tags[:2]) == [change(book, added=tags)]


def test_a_receiver_that_undoes_the_call_leaves_nothing_to_tell(book, tags, receiver):
    def undo(action, instance, pk_set, **kwargs):
        if action == "post_add":
            instance.tags.remove(*pk_set)

    receiver(undo)
    assert recorded(book.tags.add, *tags) == []
    assert not book.tags.exists()


def test_a_receiver_that_calls_another_manager_of_the_same_object(book, tags, receiver):
    def default(action, instance, pk_set, **kwargs):
        if action == "post_add" and tags[2].pk not in pk_set:
            instance.tags.add(tags[2])

    receiver(default)
    assert recorded(book.tags.set, tags[:2]) == [
        change(book, added=tags[2:]),
        change(book, added=tags[:2]),
    ]


def test_a_row_that_a_receiver_of_a_receiver_writes_belongs_to_the_outer_call(book, tags, receiver):
    other = Book.objects.create(title="Other")

    def first(action, instance, **kwargs):
        if action == "post_add" and instance == book:
            other.tags.add(tags[1])
        elif action == "post_add" and instance == other:
            Book.tags.through.objects.filter(book=book).delete()

    receiver(first)
    assert recorded(book.tags.add, tags[0]) == [change(other, added=tags[1:2])]
    assert not book.tags.exists()


def test_rows_of_another_relation_that_a_receiver_writes_are_told(book, tags, receiver):
    other = Book.objects.create(title="Other")

    def own_field(action, instance, **kwargs):
        if action == "post_add":
            reader = Reader.objects.create(name="r")
            instance.readers.add(reader)
            Loan.objects.create(book=other, reader=reader)

    receiver(own_field)
    found = recorded(book.tags.add, tags[0])
    reader = Reader.objects.get()
    assert found == [
        change(book, "readers", added=[reader]),
        change(other, "readers", added=[reader]),
        change(book, added=tags[:1]),
    ]


def test_a_receiver_that_fails_leaves_no_call_under_way(book, tags, receiver):
    def fail(action, **kwargs):
        raise RuntimeError(action)

    receiver(fail)
    with capture_events() as events, pytest.raises(RuntimeError):
        _in_savepoint(lambda: book.tags.add(*tags))
    assert events == []
    m2m_changed.disconnect(fail, sender=Book.tags.through)
    assert recorded(book.tags.add, *tags) == [change(book, added=tags)]


def test_the_handlers_own_writes_carry_it_as_cause(book, tags):
    other = Book.objects.create(title="Other")

    @audit_receiver(m2m_changed, sender=Book.tags.through, event="copied")
    def copy(sender, action, instance, **kwargs):
        if action == "post_add" and instance == book:
            Book.tags.through.objects.create(book=other, tag=tags[0])

    try:
        with capture_events() as events:
            book.tags.add(tags[0])
    finally:
        m2m_changed.disconnect(copy, sender=Book.tags.through)
    causes = {e.object_id: e.cause for e in events.named("model.m2m")}
    assert causes[str(book.pk)] is None
    assert causes[str(other.pk)] in {e.id for e in events.named("copied")}


def test_defaults_for_rows_that_have_none_are_computed_in_the_open(book, tags):
    def default():
        return Plain.objects.create(name="computed")

    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Plain")):
        found = recorded(book.tags.add, tags[0], through_defaults={"id": lambda: default().pk})
    assert [row[0] for row in found] == ["create", "m2m"]


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


def test_the_policy_decides_about_each_field_of_one_table():
    club, person = Club.objects.create(name="chess"), Person.objects.create(code="p1")
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Club", m2m_fields=["members"])):
        assert recorded(club.members.add, person) == [change(club, "members", added=[person])]
        assert recorded(club.sponsors.add, person) == []
        # Django clears the rows of the object, whichever field they are of.
        assert recorded(club.sponsors.clear) == [change(club, "members", removed=[person])]


def test_texts_are_told_as_the_rows_hold_them():
    drawer = Drawer.objects.create()
    code, _ = Code.objects.create(code="a"), Code.objects.create(code="b")
    both = {"codes": {"added": ["a", "b"], "removed": []}}
    assert recorded(drawer.codes.add, "a", "b") == [("m2m", str(drawer.pk), both)]
    assert recorded(drawer.codes.add, code) == []
    if connection.vendor == "mysql":
        # It compares without regard to case, and leaves out what is there.
        assert recorded(drawer.codes.add, "A") == []
    gone = {"codes": {"added": [], "removed": ["a", "b"]}}
    assert recorded(drawer.codes.clear) == [("m2m", str(drawer.pk), gone)]


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
    with transaction.atomic():
        call()


def test_a_fixture_is_one_change(book, tags):
    text = serializers.serialize("json", [book]).replace('"tags": []', f'"tags": [{tags[0].pk}]')
    with capture_events() as events:
        for found in serializers.deserialize("json", text):
            found.save()
    [event] = events.named("model.m2m")
    assert told([event]) == [change(book, added=tags[:1])]
    assert event.data == {"raw": True}


@pytest.mark.parametrize("through", [False, True])
def test_a_fixture_that_is_not_to_be_recorded_leaves_nothing(through, book, tags):
    text = serializers.serialize("json", [book]).replace('"tags": []', f'"tags": [{tags[0].pk}]')
    objects = list(serializers.deserialize("json", text))
    if through:
        row = Book.tags.through(book=book, tag=tags[1])
        objects += serializers.deserialize("json", serializers.serialize("json", [row]))
    with override_settings(SIGNAL_AUDIT={"RECORD_FIXTURES": False}), capture_events() as events:
        for found in objects:
            found.save()
    assert events == []
    assert book.tags.count() == len(objects)


def test_a_through_row_in_a_fixture_is_a_raw_change(book, tags):
    row = Book.tags.through(pk=9, book=book, tag=tags[1])
    [found] = serializers.deserialize("json", serializers.serialize("json", [row]))
    with capture_events() as events:
        found.save()
    assert told(events) == [change(book, added=tags[1:2])]
    assert events[0].data == {"raw": True}


def test_what_a_receiver_of_a_fixture_does_is_not_raw(book, tags):
    other = Book.objects.create(title="Other")

    def copy(action, instance, **kwargs):
        if action == "post_add" and instance == book:
            other.tags.add(tags[0])

    text = serializers.serialize("json", [book]).replace('"tags": []', f'"tags": [{tags[0].pk}]')
    m2m_changed.connect(copy, sender=Book.tags.through)
    try:
        with capture_events() as events:
            for found in serializers.deserialize("json", text):
                found.save()
    finally:
        m2m_changed.disconnect(copy, sender=Book.tags.through)
    data = {e.object_id: e.data for e in events.named("model.m2m")}
    assert data == {str(book.pk): {"raw": True}, str(other.pk): {}}


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


def test_an_object_that_holds_its_key_as_text(book, tags):
    again = Book.objects.get(pk=book.pk)
    again.pk = str(book.pk)
    assert recorded(again.tags.set, tags) == [change(book, added=tags)]
    assert recorded(again.tags.set, tags[:1]) == [change(book, removed=tags[1:])]


@pytest.mark.skipif("connection.vendor != 'mysql'", reason="others refuse it at COMMIT")
def test_a_far_object_that_is_not_there_and_that_mariadb_leaves_out_is_not_told(tags, book):
    assert recorded(book.tags.add, tags[0], 999_999) == [change(book, added=tags[:1])]


def test_what_another_transaction_adds_at_the_same_moment_is_not_told_as_added(
    monkeypatch, book, tags
):
    held = relations._held

    def look(call, column, values):
        found = held(call, column, values)
        monkeypatch.setattr(relations, "_held", held)
        with suspend_audit():
            Book.tags.through.objects.create(book=book, tag=tags[0])
        return found

    monkeypatch.setattr(relations, "_held", look)
    assert recorded(book.tags.add, tags[0]) == []
    with suspend_audit():
        book.tags.clear()
    monkeypatch.setattr(relations, "_held", look)
    with capture_events() as events:
        book.tags.add(*tags)
    assert told(events) == [change(book, added=tags)]
    assert events[0].data == {"added_meanwhile": 1}


def test_a_value_that_is_refused_before_the_first_write_leaves_the_transaction_usable(book, tags):
    with transaction.atomic():
        with pytest.raises(TypeError):
            book.tags.set(None)
        assert not connection.needs_rollback
        assert recorded(book.tags.add, tags[0]) == [change(book, added=tags[:1])]
    assert book.tags.count() == 1


def test_managers_of_historical_models_are_seen(book, tags):
    historical = historical_apps()
    old_book, old_tag = historical.get_model("testapp.Book"), historical.get_model("testapp.Tag")
    same = old_book.objects.get(pk=book.pk)
    assert recorded(same.tags.add, old_tag.objects.get(pk=tags[0].pk)) == [
        change(book, added=tags[:1])
    ]
    through = old_book.tags.through
    row = through(book_id=book.pk, tag_id=tags[1].pk)
    assert recorded(row.save) == [change(book, added=tags[1:2])]
    loan = historical.get_model("testapp.Loan")
    reader = Reader.objects.create(name="r")
    assert recorded(loan.objects.create, book_id=book.pk, reader_id=reader.pk) == [
        change(book, "readers", added=[reader])
    ]
    assert recorded(same.tags.clear) == [change(book, removed=tags[:2])]


def historical_apps():
    """The registry of a state such as migrations make."""
    state = ProjectState()
    for model in (Author, Book, Reader, Loan, Tag):
        state.add_model(ModelState.from_model(model))
    return state.apps


QUERIES = {
    "add": (lambda book, tags, _: book.tags.add(*tags), 1),
    "add nothing new": (lambda book, tags, _: book.tags.add(*tags[1:]), 1),
    "set": (lambda book, tags, _: book.tags.set(tags[:1]), 2),
    "set what is there": (lambda book, tags, _: book.tags.set(tags[1:]), 0),
    "set, cleared first": (lambda book, tags, _: book.tags.set(tags, clear=True), 2),
    "remove": (lambda book, tags, _: book.tags.remove(tags[2]), 1),
    "clear": (lambda book, tags, _: book.tags.clear(), 1),
    "create": (lambda book, tags, _: book.tags.create(name="d"), 1),
    "from the far side": (lambda book, tags, _: tags[0].books.add(book), 1),
    "clear from the far side": (lambda book, tags, _: tags[2].books.clear(), 1),
    "symmetrical add": (lambda book, _, friends: friends[0].friends.add(friends[1]), 2),
    "symmetrical clear": (lambda book, _, friends: friends[2].friends.clear(), 1),
    # Rows of a model without a unique constraint are counted.
    "add by a model": (lambda book, tags, _: book.readers.add(Reader.objects.create()), 1),
    "clear by a model": (lambda book, tags, _: book.readers.clear(), 2),
}


@pytest.mark.parametrize("name", QUERIES)
def test_queries_of_each_call(name):
    call, more = QUERIES[name]
    Author.objects.create(name="primes the write lock")
    counts = []
    for suspended in (True, False):
        book = Book.objects.create(title="b")
        tags = [Tag.objects.create(name=tag) for tag in "abc"]
        friends = [Friend.objects.create(name=friend) for friend in "abcd"]
        book.tags.set(tags[1:])
        book.readers.add(Reader.objects.create())
        friends[2].friends.add(friends[3])
        with CaptureQueriesContext(connection) as queries:
            if suspended:
                with suspend_audit():
                    call(book, tags, friends)
            else:
                call(book, tags, friends)
        counts.append(len(queries))
    own, ours = counts
    if connection.vendor == "mysql":
        more += MORE_ON_MARIADB.get(name, 0)
    assert ours - own == more


MORE_ON_MARIADB = {
    # What is added is read again: MariaDB may have left it out.
    "add": 1,
    "create": 1,
    "from the far side": 1,
    "symmetrical add": 2,
    # What is removed is found without a lock first: see "MariaDB looks before it locks".
    "remove": 1,
    "clear": 1,
    "clear from the far side": 1,
    "symmetrical clear": 1,
    "clear by a model": 1,
    # Both.
    "set": 2,
    "set, cleared first": 2,
}
