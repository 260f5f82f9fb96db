"""The columns of the models that are written, once without audit and once with it."""

from django.db import models
from django.db.models.functions import Length


class Author(models.Model):
    name = models.CharField(max_length=100)
    born = models.DateField(null=True)

    class Meta:
        abstract = True


class Book(models.Model):
    author = models.ForeignKey("Author", models.SET_NULL, null=True, related_name="books")
    title = models.CharField(max_length=200)
    stock = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    text = models.TextField(default="")
    tags = models.ManyToManyField("Tag", related_name="books")
    labels = models.ManyToManyField("Tag", through="Label", related_name="labelled")

    class Meta:
        abstract = True


class Chapter(models.Model):
    book = models.ForeignKey("Book", models.CASCADE, null=True)
    number = models.IntegerField(default=0)
    title = models.CharField(max_length=100, default="")

    class Meta:
        abstract = True


class Document(models.Model):
    body = models.TextField()
    state = models.CharField(max_length=20, db_default="new")
    size = models.GeneratedField(
        expression=Length("body"), output_field=models.IntegerField(), db_persist=True
    )

    class Meta:
        abstract = True


class Label(models.Model):
    book = models.ForeignKey("Book", models.CASCADE)
    tag = models.ForeignKey("Tag", models.CASCADE)

    class Meta:
        abstract = True


class Seat(models.Model):
    number = models.IntegerField(unique=True)
    guest = models.CharField(max_length=50)

    class Meta:
        abstract = True


class Tag(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True
