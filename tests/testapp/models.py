"""Models of the test application: one for each kind of column and relation."""

import uuid

from django.db import models
from django.utils import timezone

from django_signal_audit import audited


class Tag(models.Model):
    name = models.CharField(max_length=50)


@audited
class Author(models.Model):
    name = models.CharField(max_length=100)
    born = models.DateField(null=True)

    def __str__(self):
        return self.name


@audited
class Book(models.Model):
    title = models.CharField(max_length=200)
    author = models.ForeignKey(Author, null=True, on_delete=models.SET_NULL, related_name="books")
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    stock = models.IntegerField(default=0)
    published = models.DateTimeField(null=True)
    meta = models.JSONField(default=dict)
    updated = models.DateTimeField(auto_now=True)
    tags = models.ManyToManyField(Tag, related_name="books")
    readers = models.ManyToManyField("Reader", through="Loan", related_name="books")

    def __str__(self):
        return self.title


class Reader(models.Model):
    name = models.CharField(max_length=50)


class Loan(models.Model):
    book = models.ForeignKey(Book, on_delete=models.CASCADE)
    reader = models.ForeignKey(Reader, on_delete=models.CASCADE)


@audited
class Chapter(models.Model):
    """Fast-deletable: nothing points here, no signals, no parents."""

    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="chapters")
    number = models.IntegerField()


@audited(mask_fields=["address"], exclude_fields=["note"])
class Account(models.Model):
    email = models.EmailField(unique=True)
    api_token = models.CharField(max_length=100, blank=True)
    address = models.TextField(blank=True)
    note = models.TextField(blank=True)
    settings = models.JSONField(default=dict)

    def __str__(self):
        return f"{self.email} {self.api_token}"


@audited
class Document(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    body = models.TextField(blank=True)
    size = models.GeneratedField(
        expression=models.functions.Length("body"),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    state = models.CharField(max_length=20, db_default="new")
    created = models.DateTimeField(default=timezone.now)


@audited
class TextKey(models.Model):
    key = models.TextField(primary_key=True)
    label = models.TextField(blank=True)

    def __str__(self):
        return self.label


class Plain(models.Model):
    """Not audited by code."""

    name = models.CharField(max_length=50)


class BookProxy(Book):
    class Meta:
        proxy = True


@audited
class Timestamped(models.Model):
    created_by = models.CharField(max_length=50, blank=True)

    class Meta:
        abstract = True


class Invoice(Timestamped):
    """Audited because its abstract parent is."""

    total = models.DecimalField(max_digits=10, decimal_places=2)


class Place(models.Model):
    name = models.CharField(max_length=50)


@audited
class Restaurant(Place):
    stars = models.IntegerField(default=0)


@audited
class Building(models.Model):
    floors = models.IntegerField(default=1)


class Tower(Building):
    height = models.IntegerField(default=100)


@audited(before="loaded")
class Quick(models.Model):
    name = models.CharField(max_length=50)
    count = models.IntegerField(default=0)


@audited
class Parent(models.Model):
    name = models.CharField(max_length=50)


@audited
class Child(models.Model):
    parent = models.ForeignKey(Parent, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)


@audited
class Friend(models.Model):
    name = models.CharField(max_length=50)
    friends = models.ManyToManyField("self")
