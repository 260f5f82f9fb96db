"""Each kind of write, as a generator: what stands before its ``yield`` is not measured.

It takes a module of models and a number of rows. ``events`` says how many events the write must
leave of them; further keywords are the policy of the audited models. Of several decorators the
lowest is measured first.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction
from django.db.models import F


@dataclass(frozen=True)
class Kind:
    title: str
    write: Callable[[Any, int], Iterator[None]]
    events: Callable[[int], int]
    policy: dict[str, Any]
    settings: dict[str, Any]


KINDS: list[Kind] = []


def one_each(rows):
    return rows


def one(rows):
    return 1


def none(rows):
    return 0


def kind(title, *, events=one_each, settings=None, **policy):
    def decorate(write):
        KINDS.append(Kind(title, write, events, policy, settings or {}))
        return write

    return decorate


def new(model, rows, **values):
    return [model.objects.create(**values) for _ in range(rows)]


# One row at a time, each in a transaction of its own


@kind('create, on=["delete"]', events=none, on=["delete"])
@kind("create, REPR_LIMIT = 0", settings={"REPR_LIMIT": 0})
@kind("create")
def create(shop, rows):
    yield
    for _ in range(rows):
        shop.Book.objects.create(title="a")


@kind("create, with db_default and a generated column")
def create_document(shop, rows):
    yield
    for _ in range(rows):
        shop.Document.objects.create(body="a")


@kind("create, a table that inherits")
def create_child(shop, rows):
    yield
    for _ in range(rows):
        shop.Novelist.objects.create(name="a")


@kind("save(force_insert=True)")
def force_insert(shop, rows):
    yield
    for number in range(rows):
        shop.Author(pk=number + 1, name="a").save(force_insert=True)


@kind("get_or_create, new")
def get_or_create(shop, rows):
    yield
    for number in range(rows):
        shop.Author.objects.get_or_create(name=str(number))


@kind("update_or_create, there already")
def update_or_create(shop, rows):
    for number in range(rows):
        shop.Author.objects.create(pk=number + 1, name="a")
    yield
    for number in range(rows):
        shop.Author.objects.update_or_create(pk=number + 1, defaults={"name": "b"})


@kind('save, one column changed, before="loaded"', before="loaded")
@kind("save, one column changed")
def save(shop, rows):
    new(shop.Book, rows, title="a")
    books = list(shop.Book.objects.all())
    yield
    for book in books:
        book.stock += 1
        book.save()


@kind("save, nothing changed", events=none)
def save_unchanged(shop, rows):
    books = new(shop.Book, rows, title="a")
    yield
    for book in books:
        book.save()


@kind("save(update_fields=...)")
def save_update_fields(shop, rows):
    books = new(shop.Book, rows, title="a")
    yield
    for book in books:
        book.stock += 1
        book.save(update_fields=["stock"])


@kind("save, F()")
def save_expression(shop, rows):
    books = new(shop.Book, rows, title="a")
    yield
    for book in books:
        book.stock = F("stock") + 1
        book.save()


@kind("Model(pk=...).save()")
def save_by_key(shop, rows):
    keys = [author.pk for author in new(shop.Author, rows, name="a")]
    yield
    for key in keys:
        shop.Author(pk=key, name="b").save()


@kind("save, a proxy")
def save_proxy(shop, rows):
    books = new(shop.BookProxy, rows, title="a")
    yield
    for book in books:
        book.stock += 1
        book.save()


@kind("save, a table that inherits")
def save_child(shop, rows):
    children = new(shop.Novelist, rows, name="a")
    yield
    for child in children:
        child.name, child.genre = "b", "c"
        child.save()


@kind("delete")
def delete(shop, rows):
    seats = [shop.Seat.objects.create(number=number, guest="a") for number in range(rows)]
    yield
    for seat in seats:
        seat.delete()


@kind("delete, a table that inherits")
def delete_child(shop, rows):
    children = new(shop.Novelist, rows, name="a")
    yield
    for child in children:
        child.delete()


@kind("delete, SET_NULL of one row", events=lambda rows: 2 * rows)
def delete_set_null(shop, rows):
    authors = new(shop.Author, rows, name="a")
    for author in authors:
        shop.Book.objects.create(title="a", author=author)
    yield
    for author in authors:
        author.delete()


# Many rows in one transaction


@kind("creates in one transaction")
def creates_in_one(shop, rows):
    yield
    with transaction.atomic():
        for _ in range(rows):
            shop.Book.objects.create(title="a")


@kind("saves in one transaction")
def saves_in_one(shop, rows):
    books = new(shop.Book, rows, title="a")
    yield
    with transaction.atomic():
        for book in books:
            book.stock += 1
            book.save()


@kind("saves of one object, coalesce=True", events=one, coalesce=True)
@kind("saves of one object in one transaction")
def saves_of_one(shop, rows):
    (book,) = new(shop.Book, 1, title="a")
    yield
    with transaction.atomic():
        for _ in range(rows):
            book.stock += 1
            book.save()


# Many rows in one call


@kind('bulk_create, bulk="summary"', events=one, bulk="summary")
@kind("bulk_create")
def bulk_create(shop, rows):
    books = [shop.Book(title="a") for _ in range(rows)]
    yield
    shop.Book.objects.bulk_create(books)


@kind("bulk_create(ignore_conflicts=True)", events=lambda rows: rows - rows // 2)
def ignore_conflicts(shop, rows):
    shop.Seat.objects.bulk_create([shop.Seat(number=n, guest="a") for n in range(rows // 2)])
    seats = [shop.Seat(number=n, guest="b") for n in range(rows)]
    yield
    shop.Seat.objects.bulk_create(seats, ignore_conflicts=True)


@kind("bulk_create(update_conflicts=True)")
def update_conflicts(shop, rows):
    shop.Seat.objects.bulk_create([shop.Seat(number=n, guest="a") for n in range(rows // 2)])
    seats = [shop.Seat(number=n, guest="b") for n in range(rows)]
    unique = None if connection.vendor == "mysql" else ["number"]
    yield
    shop.Seat.objects.bulk_create(
        seats, update_conflicts=True, update_fields=["guest"], unique_fields=unique
    )


@kind('bulk_update, bulk="summary"', events=one, bulk="summary")
@kind("bulk_update")
def bulk_update(shop, rows):
    books = new(shop.Book, rows, title="a")
    for book in books:
        book.stock += 1
    yield
    shop.Book.objects.bulk_update(books, ["stock"])


@kind('QuerySet.update, bulk="off"', events=none, bulk="off")
@kind('QuerySet.update, bulk="summary"', events=one, bulk="summary")
@kind("QuerySet.update, a constant")
def update_constant(shop, rows):
    new(shop.Book, rows, title="a")
    yield
    shop.Book.objects.filter(stock=0).update(stock=1)


@kind("QuerySet.update, F()")
def update_expression(shop, rows):
    new(shop.Book, rows, title="a")
    yield
    shop.Book.objects.update(stock=F("stock") + 1)


@kind("QuerySet.update, a filter with a join")
def update_joined(shop, rows):
    (book,) = new(shop.Book, 1, title="a")
    new(shop.Chapter, rows, book=book)
    yield
    shop.Chapter.objects.filter(book__title="a").update(number=1)


@kind('QuerySet.delete, bulk="summary"', events=one, bulk="summary")
@kind("QuerySet.delete, fast")
def queryset_delete_fast(shop, rows):
    new(shop.Chapter, rows)
    yield
    shop.Chapter.objects.all().delete()


@kind("QuerySet.delete, collected")
def queryset_delete(shop, rows):
    new(shop.Author, rows, name="a")
    yield
    shop.Author.objects.all().delete()


@kind("delete, a cascade", events=lambda rows: rows + 1)
def delete_cascade(shop, rows):
    (book,) = new(shop.Book, 1, title="a")
    new(shop.Chapter, rows, book=book)
    yield
    book.delete()


# Relations: one call for many rows


@kind("many-to-many add", events=one)
def m2m_add(shop, rows):
    (book,) = new(shop.Book, 1, title="a")
    tags = new(shop.Tag, rows, name="a")
    yield
    book.tags.add(*tags)


@kind("many-to-many add, far side")
def m2m_add_reverse(shop, rows):
    (tag,) = new(shop.Tag, 1, name="a")
    books = new(shop.Book, rows, title="a")
    yield
    tag.books.add(*books)


@kind("many-to-many remove", events=one)
def m2m_remove(shop, rows):
    (book,) = new(shop.Book, 1, title="a")
    tags = new(shop.Tag, rows, name="a")
    book.tags.add(*tags)
    yield
    book.tags.remove(*tags)


@kind("many-to-many set", events=one)
def m2m_set(shop, rows):
    (book,) = new(shop.Book, 1, title="a")
    book.tags.add(*new(shop.Tag, rows, name="a"))
    tags = new(shop.Tag, rows, name="b")
    yield
    book.tags.set(tags)


@kind("many-to-many clear", events=one)
def m2m_clear(shop, rows):
    (book,) = new(shop.Book, 1, title="a")
    book.tags.add(*new(shop.Tag, rows, name="a"))
    yield
    book.tags.clear()


@kind("through rows, created one by one", events=lambda rows: 2 * rows)
def through(shop, rows):
    (book,) = new(shop.Book, 1, title="a")
    tags = new(shop.Tag, rows, name="a")
    yield
    for tag in tags:
        shop.Label.objects.create(book=book, tag=tag)


@kind("foreign key manager add")
def fk_add(shop, rows):
    (author,) = new(shop.Author, 1, name="a")
    books = new(shop.Book, rows, title="a")
    yield
    author.books.add(*books)


@kind("foreign key manager clear")
def fk_clear(shop, rows):
    (author,) = new(shop.Author, 1, name="a")
    new(shop.Book, rows, title="a", author=author)
    yield
    author.books.clear()


@kind('read: iterator(), before="loaded"', events=none, before="loaded")
@kind("read: iterator()", events=none)
def read(shop, rows):
    new(shop.Book, rows, title="a")
    yield
    for _ in shop.Book.objects.iterator():
        pass
