"""The same models, audited by the settings of `writes.py`."""

from django.db import models

from benchmarks import shop


class Author(shop.Author): ...


class Novelist(Author):
    genre = models.CharField(max_length=50, default="")


class Book(shop.Book): ...


class BookProxy(Book):
    class Meta:
        proxy = True


class Chapter(shop.Chapter): ...


class Document(shop.Document): ...


class Label(shop.Label): ...


class Seat(shop.Seat): ...


class Tag(shop.Tag): ...
