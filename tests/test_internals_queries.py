"""The shape of the querysets, queries and expressions that ``internals`` reads."""

import django
import pytest
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import connection, transaction
from django.db.models import (
    Case,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
    Window,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Concat, Lower, RowNumber
from django.db.models.sql import Query
from django.db.models.sql.where import WhereNode
from django.test.utils import CaptureQueriesContext

from django_signal_audit import internals
from django_signal_audit.internals.expressions import (
    Call,
    Column,
    Group,
    Inside,
    Literal,
    Opaque,
    Test,
)
from tests.testapp.models import (
    Author,
    Book,
    Casting,
    Composite,
    Film,
    Plain,
    Restaurant,
    Step,
    Tower,
)


def test_a_query_has_the_attributes_that_are_read_and_set():
    query = Book.objects.all().query
    for name in (
        "alias_map",
        "alias_refcount",
        "annotations",
        "combinator",
        "distinct",
        "distinct_fields",
        "extra",
        "extra_tables",
        "group_by",
        "is_sliced",
        "order_by",
        "select_for_update",
        "where",
    ):
        assert hasattr(query, name), f"Django's Query has no {name} any more"
    for name in ("chain", "clear_where", "get_meta", "is_empty"):
        assert callable(getattr(query, name)), f"Django's Query has no {name}() any more"
    assert type(query) is Query
    assert type(query.where) is WhereNode
    assert query.where.children == []


def test_a_queryset_has_the_attributes_that_are_read_and_set():
    queryset = Book.objects.all()
    assert queryset._for_write is False
    assert queryset._result_cache is None
    assert isinstance(queryset._chain(), QuerySet)


class Routes:
    def db_for_write(self, model, **hints):
        return "other"


def test_a_write_goes_where_routers_say(settings):
    settings.DATABASE_ROUTERS = [Routes()]
    queryset = Book.objects.all()
    assert queryset.db == "default"
    assert internals.database_to_write(queryset) == queryset.db == "other"
    assert internals.database_to_write(Book.objects.using("default")) == "default"


@pytest.mark.django_db
def test_a_queryset_whose_results_are_forgotten_asks_again():
    queryset = Plain.objects.all()
    assert list(queryset) == []
    Plain.objects.create(name="a")
    assert list(queryset) == []
    internals.forget_results(queryset)
    assert len(queryset) == 1


@pytest.mark.parametrize(
    ("make", "refused"),
    [
        (Book.objects.all, False),
        (Book.objects.none, True),
        (lambda: Book.objects.all()[:1], True),
        (lambda: Book.objects.all().union(Book.objects.all()), True),
        (Book.objects.distinct, False),
        (lambda: Book.objects.distinct("title"), django.VERSION >= (6, 1)),
    ],
)
def test_what_update_refuses(make, refused):
    assert internals.refuses_update(make()) is refused


def test_values_that_update_refuses_are_refused_without_a_query():
    internals.check_update_values(Book.objects.all(), {"stock": F("stock") + 1, "author": None})
    with pytest.raises(FieldDoesNotExist):
        internals.check_update_values(Book.objects.all(), {"nothing": 1})
    for values in ({"tags": 1}, {"stock": F("author__name")}, {"stock": Count("tags")}):
        with pytest.raises(FieldError):
            internals.check_update_values(Book.objects.all(), values)


@pytest.mark.django_db
def test_the_rows_with_some_keys_keep_annotations_and_order_but_no_filter():
    one, two = (Book.objects.create(title=title, stock=1) for title in "ab")
    found = Book.objects.annotate(n=F("stock") + 1).filter(stock=5).order_by("-title")
    assert internals.has_order_or_annotations(found)
    assert not internals.has_order_or_annotations(Book.objects.filter(stock=5))
    target = internals.with_keys_alone(found, [one.pk, two.pk], "default")
    assert [(book.title, book.n) for book in target] == [("b", 2), ("a", 2)]
    assert not found.exists()


PLAIN_OR_NOT = {
    "all": (Book.objects.all, True, True),
    "filtered": (lambda: Book.objects.filter(stock=1), True, True),
    "ordered by a relation": (lambda: Book.objects.order_by("author__name"), True, True),
    "compared with an object": (lambda: Book.objects.filter(author=Author(pk=1)), True, True),
    "joined": (lambda: Book.objects.filter(tags__name="x"), False, False),
    "counted": (lambda: Book.objects.annotate(n=Count("tags")), False, False),
    "an aggregate of its own": (lambda: Book.objects.annotate(n=Count("stock")), True, False),
    "a window": (lambda: Book.objects.annotate(n=Window(RowNumber())), True, False),
    "grouped": (lambda: Book.objects.values("title").annotate(n=Count("stock")), True, False),
    "distinct": (Book.objects.distinct, True, True),
    "extra": (lambda: Book.objects.extra(select={"y": "1"}), True, False),
    "extra tables": (lambda: Book.objects.extra(tables=["testapp_tag"]), True, False),
    "locked": (Book.objects.select_for_update, True, True),
}


@pytest.mark.parametrize("shape", PLAIN_OR_NOT)
def test_which_rows_can_be_locked_where_they_are_found(shape):
    make, one_table, lockable = PLAIN_OR_NOT[shape]
    found = internals.rows_meant(make(), "default", keep_order=False)
    # The tables of a query are known once it was compiled.
    assert internals.is_of_one_table(found) is one_table
    assert internals.can_lock(found) is lockable
    assert not found.query.select_for_update
    assert not found.query.order_by


def test_the_order_is_kept_only_if_it_was_asked_for():
    def order(queryset, *, keep):
        return internals.rows_meant(queryset, "default", keep_order=keep).query.order_by

    assert order(Book.objects.order_by("-stock"), keep=True) == ("-stock",)
    assert order(Book.objects.order_by("-stock"), keep=False) == ()
    assert order(Step.objects.all(), keep=True) == ()
    assert not internals.rows_meant(Step.objects.all(), "default", keep_order=True).ordered


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (Book.objects.all, True),
        (lambda: Book.objects.filter(pk=1), True),
        (lambda: Book.objects.filter(pk__in=[1, 2]), True),
        (lambda: Book.objects.filter(pk__gt=1), False),
        (lambda: Book.objects.filter(stock=1), False),
        (lambda: Book.objects.filter(pk=1, stock=1), False),
        (lambda: Book.objects.exclude(pk=1), False),
        (lambda: Book.objects.extra(where=["1 = 1"]), False),
        (lambda: Book.objects.filter(Exists(Author.objects.all())), False),
    ],
)
def test_whether_a_query_means_every_row_it_reads(make, expected):
    assert internals.means_what_it_reads(make()) is expected


@pytest.mark.django_db
def test_results_are_fetched_piece_by_piece():
    Author.objects.bulk_create([Author(name=f"{n}") for n in range(25)])
    with (
        transaction.atomic(),
        internals.unbuffered(connection),
        CaptureQueriesContext(connection) as captured,
    ):
        names = list(Author.objects.order_by("pk").values_list("name", flat=True).iterator(10))
    assert names == [f"{n}" for n in range(25)]
    assert sum("SELECT" in query["sql"] for query in captured) == 1
    assert "chunked_cursor" not in vars(connection) or connection.vendor == "postgresql"
    assert Author.objects.count() == 25


@pytest.mark.skipif(connection.vendor != "mysql", reason="the other drivers do so by themselves")
@pytest.mark.django_db
def test_an_unbuffered_cursor_of_mariadb_holds_no_rows():
    Author.objects.bulk_create([Author(name=f"{n}") for n in range(25)])
    with internals.unbuffered(connection):
        with connection.chunked_cursor() as cursor:
            cursor.execute("SELECT name FROM testapp_author ORDER BY id")
            assert cursor.fetchmany(2) == (("0",), ("1",))
            assert cursor.cursor.cursor._rows == () or cursor.cursor.cursor._rows is None
        with pytest.raises(RuntimeError), connection.chunked_cursor():
            raise RuntimeError
    assert Author.objects.count() == 25


# Conditions and expressions


def parts(queryset):
    return internals.parts_of_filter(queryset).parts


def fields(model, name):
    return model._meta.get_field(name)


STOCK = Column("stock", fields(Book, "stock"))
AUTHORS = Author.objects.filter(pk=OuterRef("author"))


def test_groups_of_conditions():
    assert internals.parts_of_filter(Book.objects.all()) == Group("AND", negated=False, parts=())
    [either] = parts(Book.objects.filter(Q(stock=1) | ~Q(stock__gt=2)))
    one = Test(STOCK, "exact", Literal(1))
    assert either == Group(
        "OR",
        negated=False,
        parts=(one, Group("AND", negated=True, parts=(Test(STOCK, "gt", Literal(2)),))),
    )
    assert parts(Book.objects.filter(stock__in=[1, 2])) == (Test(STOCK, "in", Literal([1, 2])),)


@pytest.mark.parametrize(
    ("make", "model", "name", "path"),
    [
        (lambda: Book.objects.filter(author__name="x"), Author, "name", "author__name"),
        (lambda: Book.objects.filter(author=3), Book, "author", "author"),
        (lambda: Author.objects.filter(books__title="x"), Book, "title", "books__title"),
        (lambda: Restaurant.objects.filter(name="x"), Restaurant, "name", "name"),
        (lambda: Tower.objects.filter(floors=1), Tower, "floors", "floors"),
        (lambda: Film.objects.filter(cast__code="x"), Casting, "person", "casting__person"),
    ],
)
def test_a_column_is_named_by_the_relations_that_lead_to_it(make, model, name, path):
    [test] = parts(make())
    assert test.left == Column(path, fields(model, name))


def test_expressions_are_read():
    def left(queryset):
        return parts(queryset)[0].left

    title = Column("title", fields(Book, "title"))
    books = Book.objects.all()
    assert left(books.alias(n=F("stock") + 1).filter(n=2)) == Call(
        "+", (STOCK, Literal(1)), infix=True
    )
    wrapped = ExpressionWrapper(F("stock"), IntegerField())
    assert left(books.alias(n=wrapped).filter(n=2)) == STOCK
    assert left(books.alias(n=Lower("title")).filter(n="x")) == Inside(title, "lower")
    meta = Column("meta", fields(Book, "meta"))
    assert left(books.filter(meta__a__0=1)) == Inside(Inside(meta, "a"), "0")
    year = Inside(Column("published", fields(Book, "published")), "year")
    assert left(books.filter(published__year=2020)) == year
    assert left(books.alias(n=Concat("title", Value("x"))).filter(n="x")).name == "Concat"
    assert left(books.alias(n=RawSQL("1", ())).filter(n=1)) == Opaque("RawSQL")
    authors = Opaque("subquery of testapp.Author")
    assert left(books.alias(n=Subquery(AUTHORS.values("name"))).filter(n="x")) == authors
    assert left(books.filter(Exists(AUTHORS))) == Call("Exists", (authors,))
    assert left(books.filter(~Exists(AUTHORS))) == Group(
        "AND", negated=True, parts=(Call("Exists", (authors,)),)
    )
    assert parts(books.extra(where=["1 = 1"])) == (Opaque("ExtraWhere"),)
    pair = tuple(Column(name, fields(Composite, name)) for name in ("tenant", "number"))
    assert left(Composite.objects.filter(pk=(1, 2))) == Call("", pair)
    assert left(books.alias(n=Count("tags")).filter(n=1)).name == "Count"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (F("stock") + 1, False),
        (Case(When(meta__a=1, then=F("stock") + 1), default=Value(2)), False),
        (Subquery(AUTHORS.values("pk")[:1]), True),
        (AUTHORS.values("pk")[:1], True),
        (F("stock") + RawSQL("1", ()), True),
        (Case(When(Exists(AUTHORS), then=Value(1)), default=Value(2)), True),
        (F("found"), True),
    ],
)
def test_an_expression_says_whether_it_looks_at_other_rows(expression, expected):
    books = Book.objects.annotate(found=Subquery(AUTHORS.values("pk")[:1]))
    resolved = internals.resolved_for_update(books, expression)
    assert internals.reads_other_rows(*resolved) is expected


def test_an_expression_of_an_update_is_resolved_in_its_queryset():
    found = Book.objects.annotate(twice=F("stock") * 2)
    expression, query = internals.resolved_for_update(found, F("twice") + 1)
    assert internals.parts_of_expression(expression, query) == Call(
        "+", (Call("*", (STOCK, Literal(2)), infix=True), Literal(1)), infix=True
    )
    expression, query = internals.resolved_for_update(Tower.objects.all(), F("floors"))
    assert internals.parts_of_expression(expression, query).path == "floors"


def test_a_key_that_the_database_makes_is_none_yet():
    assert internals.has_key(Author(pk=1))
    assert not internals.has_key(Author())
    assert not internals.has_key(Author(pk=Value(1) + Value(1)))
