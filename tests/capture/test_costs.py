"""Each kind of write with all that it sends, so that no query is added unseen.

A line that begins with ``+`` is what auditing adds; ``costs`` says how to read them. The reasons
that there are:

- ``+BEGIN``, ``+COMMIT``: the write and its record are one transaction, where Django needs none.
- ``+LOCK``: inside of a transaction, SQLite's write lock is taken before anything is read.
- ``+SELECT`` before the write: the rows as they are, locked, to know the old values.
- the same twice on MariaDB: rows of a filter are found without a lock and then locked by key,
  because a SELECT that locks would wait for all that it looks at.
- ``+SELECT`` after the write: what only the database knows, such as what an expression came to.
- ``+INSERT record``: the records of one transaction, all in one statement up to 1,000.

What has another reason says so below.
"""

from __future__ import annotations

import datetime as dt

import django
import pytest
from django.db import connection, transaction
from django.db.models import F

from tests.capture.costs import Kinds, expected, sent
from tests.testapp.models import (
    Author,
    Book,
    BookProxy,
    Chapter,
    Child,
    Composite,
    Document,
    Friend,
    Garage,
    Loan,
    Parent,
    Quick,
    Reader,
    Restaurant,
    Seat,
    Tag,
    Tower,
)

kinds = Kinds()


def new(model, rows, **values):
    """Rows that are there before what is measured."""
    return [model.objects.create(**values) for _ in range(rows)]


# Saves


@kinds.add("+BEGIN | INSERT author | +INSERT record | +COMMIT", author={})
def create(rows):
    yield
    Author.objects.create(name="a")


@kinds.add("+BEGIN | INSERT document | +SELECT document | +INSERT record | +COMMIT", document={})
def create_with_generated_columns_and_defaults_of_the_database(rows):
    yield
    Document.objects.create(body="a")


@kinds.add("+BEGIN | INSERT author | +INSERT record | +COMMIT", author={})
def force_insert(rows):
    author = Author(pk=7, name="a")
    yield
    author.save(force_insert=True)


@kinds.add("+BEGIN | +SELECT author | UPDATE author | +INSERT record | +COMMIT", author={})
def save_changed(rows):
    (author,) = new(Author, 1, name="a")
    yield
    author.name = "b"
    author.save()


# What was there must be known, to know that nothing has changed.
@kinds.add("+BEGIN | +SELECT author | UPDATE author | +COMMIT", author={})
def save_unchanged(rows):
    (author,) = new(Author, 1, name="a")
    yield
    author.save()


@kinds.add("+BEGIN | +SELECT author | UPDATE author | +INSERT record | +COMMIT", author={})
def save_update_fields(rows):
    (author,) = new(Author, 1, name="a")
    yield
    author.name = "b"
    author.save(update_fields=["name"])


@kinds.add("+BEGIN | +SELECT author | UPDATE author | +COMMIT", author={"include_fields": ["born"]})
def save_of_columns_that_are_not_recorded(rows):
    (author,) = new(Author, 1, name="a")
    yield
    author.name = "b"
    author.save(update_fields=["name"])


@kinds.add("+BEGIN | +SELECT author | UPDATE author | +COMMIT", author={"ignore_only": ["name"]})
def save_of_columns_that_alone_make_no_event(rows):
    (author,) = new(Author, 1, name="a")
    yield
    author.name = "b"
    author.save(update_fields=["name"])


@kinds.add(
    "+BEGIN | +SELECT chapter | UPDATE chapter | +SELECT chapter @5.2 mysql | "
    "+INSERT record | +COMMIT",
    chapter={},
)
def save_of_an_expression(rows):
    (book,) = new(Book, 1, title="a")
    (chapter,) = new(Chapter, 1, book=book, number=1)
    yield
    chapter.number = F("number") + 1
    chapter.save()


@kinds.add("+BEGIN | +SELECT author | UPDATE author | +INSERT record | +COMMIT", author={})
def save_of_a_deferred_instance(rows):
    new(Author, 1, name="a")
    author = Author.objects.only("name").get()
    yield
    author.name = "b"
    author.save()


@kinds.add("+BEGIN | +SELECT author | UPDATE author | +INSERT record | +COMMIT", author={})
def save_over_a_row_that_was_not_loaded(rows):
    (author,) = new(Author, 1, name="a")
    yield
    Author(pk=author.pk, name="b").save()


@kinds.add(
    "+BEGIN | +SELECT author | UPDATE author | INSERT author | +INSERT record | +COMMIT",
    author={},
)
def save_of_a_key_that_is_not_there(rows):
    yield
    Author(pk=7, name="b").save()


@kinds.add(
    "SELECT author | BEGIN | +LOCK author @sqlite | INSERT author | +INSERT record | COMMIT",
    author={},
)
def get_or_create_that_creates(rows):
    yield
    Author.objects.get_or_create(name="a")


@kinds.add("SELECT author", author={})
def get_or_create_that_gets(rows):
    new(Author, 1, name="a")
    yield
    Author.objects.get_or_create(name="a")


@kinds.add(
    "BEGIN | SELECT author | +LOCK author @sqlite | +SELECT author | UPDATE author | "
    "+INSERT record | COMMIT",
    author={},
)
def update_or_create_that_updates(rows):
    new(Author, 1, name="a")
    yield
    Author.objects.update_or_create(name="a", defaults={"born": dt.date(2000, 1, 1)})


@kinds.add(
    "BEGIN | SELECT author | SAVEPOINT | +LOCK author @sqlite | INSERT author | RELEASE | "
    "+INSERT record | COMMIT",
    author={},
)
def update_or_create_that_creates(rows):
    yield
    Author.objects.update_or_create(name="a", defaults={"born": dt.date(2000, 1, 1)})


@kinds.add("+BEGIN | UPDATE quick | +INSERT record | +COMMIT", quick={"before": "loaded"})
def save_of_what_was_loaded(rows):
    new(Quick, 1, name="a")
    quick = Quick.objects.get()
    yield
    quick.name = "b"
    quick.save()


@kinds.add(
    "+BEGIN | +SELECT composite | UPDATE composite | +INSERT record | +COMMIT",
    composite={},
)
def save_of_a_composite_key(rows):
    (row,) = new(Composite, 1, tenant=1, number=1, name="a")
    yield
    row.name = "b"
    row.save()


@kinds.add("+BEGIN | +SELECT book | UPDATE book | +INSERT record | +COMMIT", book={})
def save_of_a_proxy(rows):
    (book,) = new(BookProxy, 1, title="a")
    yield
    book.title = "b"
    book.save()


@kinds.add(
    "BEGIN | INSERT place | +LOCK restaurant @sqlite | INSERT restaurant | +INSERT record | COMMIT",
    restaurant={},
)
def create_a_child_of_a_parent_that_is_not_audited(rows):
    yield
    Restaurant.objects.create(name="a")


# The whole row is read once, before the first of its tables is written.
@kinds.add(
    "BEGIN | +LOCK restaurant @sqlite | +SELECT restaurant | UPDATE place | "
    "UPDATE restaurant | +INSERT record | COMMIT",
    restaurant={},
)
def save_a_child_of_a_parent_that_is_not_audited(rows):
    (child,) = new(Restaurant, 1, name="a")
    yield
    child.name, child.stars = "b", 2
    child.save()


@kinds.add(
    "BEGIN | +LOCK building @sqlite | INSERT building | INSERT tower | +INSERT record | COMMIT",
    building={},
)
def create_a_child_whose_parent_alone_is_audited(rows):
    yield
    Tower.objects.create(floors=2)


@kinds.add(
    "BEGIN | +LOCK building @sqlite | +SELECT building | UPDATE building | UPDATE tower | "
    "+INSERT record | COMMIT",
    building={},
)
def save_a_child_whose_parent_alone_is_audited(rows):
    (child,) = new(Tower, 1, floors=2)
    yield
    child.floors, child.height = 3, 4
    child.save()


@kinds.add(
    "BEGIN | +LOCK garage @sqlite | +SELECT garage | UPDATE building | UPDATE garage | "
    "+INSERT record | COMMIT",
    building={},
    garage={},
)
def save_a_child_that_is_audited_like_its_parent(rows):
    (child,) = new(Garage, 1, floors=2)
    yield
    child.floors, child.cars = 3, 4
    child.save()


@kinds.add(
    "BEGIN | +LOCK author @sqlite | +SELECT author | UPDATE author | +SELECT author | "
    "UPDATE author | +INSERT record | COMMIT",
    author={},
)
def two_saves_in_one_transaction(rows):
    authors = new(Author, 2, name="a")
    yield
    with transaction.atomic():
        for author in authors:
            author.name = "b"
            author.save()


@kinds.add(
    "BEGIN | +LOCK author @sqlite | +SELECT author | UPDATE author | +SELECT author | "
    "UPDATE author | +INSERT record | COMMIT",
    author={"coalesce": True},
)
def two_saves_of_one_object_that_are_coalesced(rows):
    (author,) = new(Author, 1, name="a")
    yield
    with transaction.atomic():
        for name in "bc":
            author.name = name
            author.save()


@kinds.add("INSERT author | UPDATE author", author={"on": ["delete", "m2m"]})
def saves_that_no_policy_wants(rows):
    yield
    author = Author.objects.create(name="a")
    author.name = "b"
    author.save()


@kinds.add(
    "+BEGIN | +SELECT author | UPDATE author | INSERT author | +INSERT record | +COMMIT",
    author={},
)
def save_of_a_fixture(rows):
    author = Author(pk=7, name="a")
    yield
    author.save_base(raw=True)


# Deletes


@kinds.add("+BEGIN | +SELECT seat | DELETE seat | +INSERT record | +COMMIT", seat={})
def delete_an_instance(rows):
    (row,) = new(Seat, 1, row=1, number=1)
    yield
    row.delete()


@kinds.add(
    "SELECT keeper | SELECT keeper | BEGIN | +LOCK child @sqlite | +SELECT child @mysql | "
    "+SELECT child | DELETE child | DELETE profile | DELETE step | UPDATE keeper | "
    "+SELECT parent | DELETE parent | +INSERT record | COMMIT",
    parent={},
    child={},
)
def delete_with_a_cascade(rows):
    (parent,) = new(Parent, 1, name="a")
    new(Child, rows, parent=parent, name="a")
    yield
    parent.delete()


@kinds.add(
    "BEGIN | DELETE book_tags | DELETE loan | +LOCK chapter @sqlite | "
    "+SELECT chapter @mysql | +SELECT chapter | DELETE chapter | DELETE book | "
    "+INSERT record | COMMIT",
    chapter={},
)
def delete_with_a_cascade_to_fast_deletes(rows):
    (book,) = new(Book, 1, title="a")
    new(Chapter, rows, book=book, number=1)
    yield
    book.delete()


@kinds.add(
    "BEGIN | +LOCK book @sqlite | +SELECT book @mysql | +SELECT book | UPDATE book | "
    "DELETE author | +INSERT record | COMMIT",
    book={},
)
def delete_with_set_null(rows):
    (author,) = new(Author, 1, name="a")
    new(Book, rows, title="a", author=author)
    yield
    author.delete()


@kinds.add(
    "BEGIN | +LOCK book_tags @sqlite | +SELECT book_tags @mysql | +SELECT book_tags | "
    "DELETE book_tags | DELETE team_tags | DELETE folder_labels | DELETE tag | "
    "+INSERT record | COMMIT",
    book={},
)
def delete_of_the_far_side_of_a_many_to_many_field(rows):
    (tag,) = new(Tag, 1, name="a")
    tag.books.add(*new(Book, rows, title="a"))
    yield
    tag.delete()


@kinds.add(
    "BEGIN | +LOCK garage @sqlite | +SELECT garage | DELETE garage | +SELECT building | "
    "DELETE building | +INSERT record | COMMIT",
    garage={},
    building={},
)
def delete_a_child(rows):
    (child,) = new(Garage, 1, floors=1)
    yield
    child.delete()


@kinds.add(
    "BEGIN | +LOCK chapter @sqlite | +SELECT chapter @mysql | +SELECT chapter | "
    "DELETE chapter | +INSERT record | COMMIT",
    chapter={},
)
def queryset_delete_that_is_fast(rows):
    (book,) = new(Book, 1, title="a")
    new(Chapter, rows, book=book, number=1)
    yield
    Chapter.objects.filter(number=1).delete()


@kinds.add(
    "SELECT author | BEGIN | UPDATE book | +LOCK author @sqlite | +SELECT author | "
    "DELETE author | +INSERT record | COMMIT",
    author={},
)
def queryset_delete_that_collects(rows):
    new(Author, rows, name="a")
    yield
    Author.objects.filter(name="a").delete()


@kinds.add(
    "BEGIN | UPDATE book | DELETE author | COMMIT | BEGIN | DELETE chapter | COMMIT",
    chapter={"on": ["create", "update"]},
    author={"on": ["create", "update"]},
)
def deletes_that_no_policy_wants(rows):
    (author,) = new(Author, 1, name="a")
    (book,) = new(Book, 1, title="a")
    new(Chapter, rows, book=book, number=1)
    yield
    author.delete()
    Chapter.objects.all().delete()


if django.VERSION >= (6, 1):
    from tests.testapp.models import Harbour, Pier, Ship

    # What the database deletes by itself is read before, table by table; the row that is deleted
    # is locked before that, so that nobody makes another one point to it.
    @kinds.add(
        "+BEGIN | +SELECT harbour @!sqlite | +SELECT pier @!postgresql | +SELECT ship @!postgresql"
        " | +DECLARE pier @postgresql | +DECLARE ship @postgresql | DELETE harbour"
        " | +INSERT record | +COMMIT",
        ship={},
    )
    def delete_with_a_cascade_of_the_database(rows):
        (harbour,) = new(Harbour, 1)
        (pier,) = new(Pier, 1, harbour=harbour)
        new(Ship, rows, pier=pier, name="a")
        yield
        harbour.delete()


# Querysets


@kinds.add("+BEGIN | +SELECT author | UPDATE author | +INSERT record | +COMMIT", author={})
def update_to_a_constant(rows):
    new(Author, rows, name="a")
    yield
    Author.objects.update(name="b")


@kinds.add(
    "+BEGIN | +SELECT author @mysql | +SELECT author | UPDATE author | +INSERT record | +COMMIT",
    author={},
)
def update_with_a_filter(rows):
    new(Author, rows, name="a")
    yield
    Author.objects.filter(name="a").update(name="b")


@kinds.add(
    "+BEGIN | +SELECT chapter @mysql | +SELECT chapter | UPDATE chapter | +SELECT chapter | "
    "+INSERT record | +COMMIT",
    chapter={},
)
def update_to_an_expression(rows):
    (book,) = new(Book, 1, title="a")
    new(Chapter, rows, book=book, number=1)
    yield
    Chapter.objects.filter(number=1).update(number=F("number") + 1)


# Of a join, rows are locked by a subquery; PostgreSQL and MariaDB are then asked whether the locked
# rows are still meant.
@kinds.add(
    "+BEGIN | +SELECT chapter @mysql | +SELECT chapter @!sqlite | +SELECT chapter | "
    "UPDATE chapter | +INSERT record | +COMMIT",
    chapter={},
)
def update_with_a_filter_on_another_table(rows):
    (book,) = new(Book, 1, title="a")
    new(Chapter, rows, book=book, number=1)
    yield
    Chapter.objects.filter(book__title="a").update(number=2)


# Rows are written by the keys that were found; without any, nothing is sent.
@kinds.add("-UPDATE author | +BEGIN | +SELECT author | +COMMIT", author={})
def update_of_no_row(rows):
    yield
    Author.objects.filter(name="a").update(name="b")


@kinds.add("UPDATE author", author={"include_fields": ["born"]})
def update_of_columns_that_are_not_recorded(rows):
    new(Author, rows, name="a")
    yield
    Author.objects.update(name="b")


@kinds.add(
    "+BEGIN | +SELECT garage @mysql | +SELECT garage | SELECT garage | UPDATE garage | "
    "UPDATE building | +INSERT record | +COMMIT",
    garage={},
    building={},
)
def update_of_inherited_columns(rows):
    new(Garage, rows, floors=1)
    yield
    Garage.objects.filter(cars=0).update(floors=2, cars=1)


@kinds.add(
    "BEGIN @5.2 | +BEGIN @!5.2 | INSERT author | +INSERT record | COMMIT @5.2 | +COMMIT @!5.2",
    author={},
)
def bulk_create(rows):
    authors = [Author(name="a") for _ in range(rows)]
    yield
    Author.objects.bulk_create(authors)


@kinds.add(
    "BEGIN @5.2 | +BEGIN @!5.2 | INSERT document | +SELECT document | +INSERT record | "
    "COMMIT @5.2 | +COMMIT @!5.2",
    document={},
)
def bulk_create_with_generated_columns_and_defaults_of_the_database(rows):
    documents = [Document(body="a") for _ in range(rows)]
    yield
    Document.objects.bulk_create(documents)


@kinds.add(
    "BEGIN @5.2 | +BEGIN @!5.2 | +SELECT seat | INSERT seat | +SELECT seat | "
    "+INSERT record | COMMIT @5.2 | +COMMIT @!5.2",
    seat={},
)
def bulk_create_that_ignores_conflicts(rows):
    new(Seat, 1, row=1, number=0, guest="a")
    seats = [Seat(row=1, number=n) for n in range(rows + 1)]
    yield
    Seat.objects.bulk_create(seats, ignore_conflicts=True)


@kinds.add(
    "BEGIN @5.2 | +BEGIN @!5.2 | +SELECT seat | INSERT seat | +SELECT seat | "
    "+INSERT record | COMMIT @5.2 | +COMMIT @!5.2",
    seat={},
)
def bulk_create_that_updates_conflicts(rows):
    new(Seat, 1, row=1, number=0, guest="a")
    seats = [Seat(row=1, number=n, guest="b") for n in range(rows + 1)]
    unique = [] if connection.vendor == "mysql" else ["row", "number"]
    yield
    Seat.objects.bulk_create(
        seats, update_conflicts=True, update_fields=["guest"], unique_fields=unique
    )


@kinds.add(
    "BEGIN | +LOCK author @sqlite | +SELECT author | UPDATE author | +SELECT author | "
    "+INSERT record | COMMIT",
    author={},
)
def bulk_update(rows):
    authors = new(Author, rows, name="a")
    for author in authors:
        author.name = "b"
    yield
    Author.objects.bulk_update(authors, ["name"])


@kinds.add("+BEGIN | UPDATE author | +INSERT record | +COMMIT", author={"bulk": "summary"})
def update_with_a_summary(rows):
    new(Author, rows, name="a")
    yield
    Author.objects.filter(name="a").update(name="b")


@kinds.add(
    "BEGIN @5.2 | +BEGIN @!5.2 | INSERT author | +INSERT record | COMMIT @5.2 | +COMMIT @!5.2",
    author={"bulk": "summary"},
)
def bulk_create_with_a_summary(rows):
    authors = [Author(name="a") for _ in range(rows)]
    yield
    Author.objects.bulk_create(authors)


@kinds.add("BEGIN | UPDATE author | +INSERT record | COMMIT", author={"bulk": "summary"})
def bulk_update_with_a_summary(rows):
    authors = new(Author, rows, name="a")
    yield
    Author.objects.bulk_update(authors, ["name"])


@kinds.add(
    "BEGIN | +LOCK chapter @sqlite | DELETE chapter | +INSERT record | COMMIT",
    chapter={"bulk": "summary"},
)
def queryset_delete_with_a_summary(rows):
    (book,) = new(Book, 1, title="a")
    new(Chapter, rows, book=book, number=1)
    yield
    Chapter.objects.filter(number=1).delete()


@kinds.add(
    "BEGIN @5.2 | INSERT author | COMMIT @5.2 | UPDATE author | BEGIN | "
    "+LOCK chapter @sqlite | DELETE chapter | COMMIT",
    author={"bulk": "off"},
    chapter={"bulk": "off"},
)
def bulk_calls_that_are_off(rows):
    (book,) = new(Book, 1, title="a")
    new(Chapter, rows, book=book, number=1)
    authors = [Author(name="a") for _ in range(rows)]
    yield
    Author.objects.bulk_create(authors)
    Author.objects.filter(name="a").update(name="b")
    Chapter.objects.filter(number=1).delete()


@kinds.add(
    "BEGIN @5.2 | INSERT author | COMMIT @5.2 | UPDATE author", author={"on": ["delete", "m2m"]}
)
def bulk_calls_that_no_policy_wants(rows):
    authors = [Author(name="a") for _ in range(rows)]
    yield
    Author.objects.bulk_create(authors)
    Author.objects.filter(name="a").update(name="b")


@kinds.add(
    "BEGIN @5.2 | +BEGIN @!5.2 | INSERT author | INSERT author @sqlite/5.2 | "
    "INSERT author @sqlite/5.2 | +INSERT record | +INSERT record @!sqlite | COMMIT @5.2 | "
    "+COMMIT @!5.2",
    rows=(1001,),
    author={},
)
def bulk_create_of_many_rows(rows):
    authors = [Author(name="a") for _ in range(rows)]
    yield
    Author.objects.bulk_create(authors)


def many_authors(rows):
    Author.objects.bulk_create([Author(name="a") for _ in range(rows)])


# The first SELECT finds that there are more than 500 rows; then keys, and chunks of 500 of them.
@kinds.add(
    "+BEGIN | +SELECT author | +SELECT author @!postgresql | +DECLARE author @postgresql | "
    "+SELECT author @mysql | +SELECT author @mysql | +SELECT author @mysql | "
    "+SELECT author | UPDATE author | +SELECT author | +UPDATE author | +SELECT author | "
    "+UPDATE author | +INSERT record | +INSERT record @!sqlite | +COMMIT",
    rows=(1001,),
    author={},
)
def update_of_many_rows(rows):
    many_authors(rows)
    yield
    Author.objects.filter(name="a").update(name="b")


@kinds.add(
    "+BEGIN | UPDATE author | +INSERT record | +COMMIT", rows=(1001,), author={"bulk": "summary"}
)
def update_of_many_rows_with_a_summary(rows):
    many_authors(rows)
    yield
    Author.objects.filter(name="a").update(name="b")


@kinds.add(
    "BEGIN | +LOCK chapter @sqlite | +SELECT chapter | +SELECT chapter @!postgresql | "
    "+DECLARE chapter @postgresql | +SELECT chapter @mysql | +SELECT chapter @mysql | "
    "+SELECT chapter @mysql | +SELECT chapter | DELETE chapter | +SELECT chapter | "
    "+DELETE chapter | +SELECT chapter | +DELETE chapter | +INSERT record | "
    "+INSERT record @!sqlite | COMMIT",
    rows=(1001,),
    chapter={},
)
def queryset_delete_of_many_rows(rows):
    (book,) = new(Book, 1, title="a")
    Chapter.objects.bulk_create([Chapter(book=book, number=1) for _ in range(rows)])
    yield
    Chapter.objects.filter(number=1).delete()


# Relations


# MariaDB does not say which rows it left out, where an id refers to nothing.
@kinds.add(
    "BEGIN | +SELECT book_tags | INSERT book_tags | +SELECT book_tags @mysql | "
    "+INSERT record | COMMIT",
    book={},
)
def many_to_many_add(rows):
    (book,) = new(Book, 1, title="a")
    tags = new(Tag, rows, name="a")
    yield
    book.tags.add(*tags)


@kinds.add(
    "BEGIN | +SELECT book_tags | INSERT book_tags | +SELECT book_tags @mysql | "
    "+INSERT record | COMMIT",
    book={},
)
def many_to_many_add_from_the_far_side(rows):
    (tag,) = new(Tag, 1, name="a")
    books = new(Book, rows, title="a")
    yield
    tag.books.add(*books)


@kinds.add(
    "BEGIN | +SELECT book_tags @mysql | +SELECT book_tags | DELETE book_tags | "
    "+INSERT record | COMMIT",
    book={},
)
def many_to_many_remove(rows):
    (book,) = new(Book, 1, title="a")
    tags = new(Tag, rows, name="a")
    book.tags.add(*tags)
    yield
    book.tags.remove(*tags)


@kinds.add(
    "BEGIN | +SELECT book_tags @mysql | +SELECT book_tags | DELETE book_tags | "
    "+INSERT record | COMMIT",
    book={},
)
def many_to_many_remove_from_the_far_side(rows):
    (tag,) = new(Tag, 1, name="a")
    books = new(Book, rows, title="a")
    tag.books.add(*books)
    yield
    tag.books.remove(*books)


# One SELECT before the DELETE and one before the INSERT that Django makes of it.
@kinds.add(
    "BEGIN | SELECT tag | +SELECT book_tags @mysql | +SELECT book_tags | DELETE book_tags | "
    "+SELECT book_tags | INSERT book_tags | +SELECT book_tags @mysql | +INSERT record | "
    "COMMIT",
    book={},
)
def many_to_many_set(rows):
    (book,) = new(Book, 1, title="a")
    book.tags.add(*new(Tag, rows, name="a"))
    tags = new(Tag, rows, name="b")
    yield
    book.tags.set(tags)


@kinds.add(
    "BEGIN | SELECT book | +SELECT book_tags @mysql | +SELECT book_tags | DELETE book_tags | "
    "+SELECT book_tags | INSERT book_tags | +SELECT book_tags @mysql | +INSERT record | "
    "COMMIT",
    book={},
)
def many_to_many_set_from_the_far_side(rows):
    (tag,) = new(Tag, 1, name="a")
    tag.books.add(*new(Book, rows, title="a"))
    books = new(Book, rows, title="b")
    yield
    tag.books.set(books)


@kinds.add(
    "BEGIN | +SELECT book_tags @mysql | +SELECT book_tags | DELETE book_tags | "
    "+INSERT record | COMMIT",
    book={},
)
def many_to_many_clear(rows):
    (book,) = new(Book, 1, title="a")
    book.tags.add(*new(Tag, rows, name="a"))
    yield
    book.tags.clear()


@kinds.add(
    "BEGIN | +SELECT book_tags @mysql | +SELECT book_tags | DELETE book_tags | "
    "+INSERT record | COMMIT",
    book={},
)
def many_to_many_clear_from_the_far_side(rows):
    (tag,) = new(Tag, 1, name="a")
    tag.books.add(*new(Book, rows, title="a"))
    yield
    tag.books.clear()


@kinds.add(
    "INSERT tag | BEGIN | +SELECT book_tags | INSERT book_tags | +SELECT book_tags @mysql | "
    "+INSERT record | COMMIT",
    book={},
)
def many_to_many_create(rows):
    (book,) = new(Book, 1, title="a")
    yield
    book.tags.create(name="a")


@kinds.add(
    "BEGIN | +SELECT friend_friends | INSERT friend_friends | +SELECT friend_friends | "
    "+SELECT friend_friends @mysql | INSERT friend_friends | +SELECT friend_friends @mysql | "
    "+INSERT record | COMMIT",
    friend={},
)
def many_to_many_add_to_itself(rows):
    (friend,) = new(Friend, 1, name="a")
    friends = new(Friend, rows, name="b")
    yield
    friend.friends.add(*friends)


# The second SELECT: whether the two were related before, by another row.
@kinds.add("+BEGIN | INSERT loan | +SELECT loan | +INSERT record | +COMMIT", book={})
def create_a_through_row(rows):
    (book,) = new(Book, 1, title="a")
    (reader,) = new(Reader, 1, name="a")
    yield
    Loan.objects.create(book=book, reader=reader)


# The second SELECT: whether the two are still related, by another row.
@kinds.add(
    "BEGIN | +LOCK loan @sqlite | +SELECT loan | DELETE loan | +SELECT loan | "
    "+INSERT record | COMMIT",
    book={},
)
def delete_through_rows(rows):
    (book,) = new(Book, 1, title="a")
    (reader,) = new(Reader, 1, name="a")
    new(Loan, rows, book=book, reader=reader)
    yield
    Loan.objects.all().delete()


@kinds.add("+BEGIN | +SELECT book | UPDATE book | +INSERT record | +COMMIT", book={})
def foreign_key_manager_add(rows):
    (author,) = new(Author, 1, name="a")
    books = new(Book, rows, title="a")
    yield
    author.books.add(*books)


@kinds.add(
    "+BEGIN | +SELECT book @mysql | +SELECT book | UPDATE book | +INSERT record | +COMMIT",
    book={},
)
def foreign_key_manager_remove(rows):
    (author,) = new(Author, 1, name="a")
    books = new(Book, rows, title="a", author=author)
    yield
    author.books.remove(*books)


@kinds.add(
    "BEGIN | SELECT book | +LOCK book @sqlite | +SELECT book @mysql | +SELECT book | "
    "UPDATE book | +SELECT book | UPDATE book | +INSERT record | COMMIT",
    book={},
)
def foreign_key_manager_set(rows):
    (author,) = new(Author, 1, name="a")
    new(Book, rows, title="a", author=author)
    books = new(Book, rows, title="b")
    yield
    author.books.set(books)


@kinds.add(
    "+BEGIN | +SELECT book @mysql | +SELECT book | UPDATE book | +INSERT record | +COMMIT",
    book={},
)
def foreign_key_manager_clear(rows):
    (author,) = new(Author, 1, name="a")
    new(Book, rows, title="a", author=author)
    yield
    author.books.clear()


@kinds.add(
    "SELECT book | SELECT book | SELECT book @!postgresql | SELECT quick @!postgresql | "
    "DECLARE book @postgresql | DECLARE quick @postgresql | SELECT quick | SELECT book",
    book={},
    author={},
    quick={"before": "loaded"},
)
def reads(rows):
    (author,) = new(Author, 1, name="a")
    new(Book, rows, title="a", author=author)
    new(Quick, rows, name="a")
    yield
    assert len(Book.objects.only("title")) == rows
    assert len(Book.objects.defer("title")) == rows
    assert len(list(Book.objects.iterator())) == rows
    assert len(list(Quick.objects.iterator())) == rows
    assert len(Quick.objects.only("name")) == rows
    assert Book.objects.select_related("author").first().author == author


BY_NAME = {kind.name: kind for kind in kinds.found}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", BY_NAME)
def test_queries_of(name):
    kind = BY_NAME[name]
    for rows in kind.rows:
        django_own = sent(kind, rows, audited=False, suspended=True)
        assert sent(kind, rows, audited=False) == django_own, "a model that is not audited pays"
        assert django_own == expected(kind.transcript, audited=False)
        assert sent(kind, rows, audited=True) == expected(kind.transcript, audited=True)


def test_each_kind_has_a_name_of_its_own():
    assert len(BY_NAME) == len(kinds.found)
