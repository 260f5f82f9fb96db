"""A small graph of models, for sequences of writes whose trail is replayed."""

import uuid

import django
from django.db import models
from django.utils import timezone

from django_signal_audit import audited


@audited
class Shelf(models.Model):
    """Its key is text, which MariaDB compares without regard to case and end spaces."""

    code = models.CharField(max_length=10, primary_key=True)
    label = models.CharField(max_length=10, blank=True)


@audited
class Tag(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=10, blank=True)


@audited
class Item(models.Model):
    """A column of each type, a foreign key of each rule, a many-to-many field of each kind."""

    slot = models.IntegerField(unique=True, null=True)
    shelf = models.ForeignKey(Shelf, models.CASCADE, null=True, related_name="items")
    spare = models.ForeignKey(Shelf, models.SET_NULL, null=True, related_name="spares")
    home = models.ForeignKey(Shelf, models.SET_DEFAULT, null=True, default="a", related_name="+")
    guard = models.ForeignKey(Shelf, models.PROTECT, null=True, related_name="+")
    boss = models.ForeignKey("self", models.CASCADE, null=True, related_name="staff")
    twin = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+")
    count = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    moment = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    ratio = models.FloatField(null=True)
    note = models.TextField(blank=True, default="")
    flag = models.BooleanField(default=False)
    blob = models.BinaryField(null=True)
    meta = models.JSONField(null=True, default=dict)
    state = models.CharField(max_length=10, db_default="new")
    doubled = models.GeneratedField(
        expression=models.F("count") * 2, output_field=models.IntegerField(), db_persist=True
    )
    touched = models.DateTimeField(auto_now=True)
    tags = models.ManyToManyField(Tag, related_name="items")
    peers = models.ManyToManyField("self")
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")
    links = models.ManyToManyField(Tag, through="Link", related_name="linked")
    marks = models.ManyToManyField(Tag, through="Mark", related_name="marked")


class ItemProxy(Item):
    class Meta:
        proxy = True


@audited
class Link(models.Model):
    """An audited through model; the same two may be linked more than once."""

    item = models.ForeignKey(Item, models.CASCADE)
    tag = models.ForeignKey(Tag, models.CASCADE)
    weight = models.IntegerField(default=0)


class Mark(models.Model):
    """A through model that is not audited."""

    item = models.ForeignKey(Item, models.CASCADE)
    tag = models.ForeignKey(Tag, models.CASCADE)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["item", "tag"], name="one_mark")]  # noqa: RUF012


@audited
class Vehicle(models.Model):
    """Audited, as its children are."""

    wheels = models.IntegerField(default=4)
    depot = models.ForeignKey(Shelf, models.CASCADE, null=True)
    garage = models.ForeignKey(Shelf, models.SET_NULL, null=True, related_name="+")


@audited
class Car(Vehicle):
    doors = models.IntegerField(default=2)
    towed = models.ForeignKey(Vehicle, models.SET_NULL, null=True, related_name="+")


@audited
class Racer(Car):
    number = models.IntegerField(null=True)


@audited
class Boat(models.Model):
    hull = models.AutoField(primary_key=True)
    masts = models.IntegerField(default=1)


@audited
class Amphibian(Vehicle, Boat):
    """Two parents, two keys."""

    name = models.CharField(max_length=10, blank=True)


@audited
class Building(models.Model):
    """Audited; its child is not."""

    floors = models.IntegerField(default=1)
    site = models.ForeignKey(Shelf, models.SET_NULL, null=True, related_name="+")


class Barn(Building):
    cows = models.IntegerField(default=0)


class Animal(models.Model):
    """Not audited; its child is."""

    legs = models.IntegerField(default=4)


@audited
class Dog(Animal):
    name = models.CharField(max_length=10, blank=True)


@audited
class Pair(models.Model):
    pk = models.CompositePrimaryKey("left", "right")
    left = models.IntegerField()
    right = models.IntegerField()
    name = models.CharField(max_length=10, blank=True)


@audited
class Step(models.Model):
    """Ordered among those of its item, which is a bulk update."""

    item = models.ForeignKey(Item, models.CASCADE)
    name = models.CharField(max_length=10, blank=True)

    class Meta:
        order_with_respect_to = "item"


@audited(coalesce=True)
class Draft(models.Model):
    """Its saves of one transaction are one event."""

    title = models.CharField(max_length=10, blank=True)
    version = models.IntegerField(default=0)
    saved = models.DateTimeField(default=timezone.now)
    tags = models.ManyToManyField(Tag, related_name="+")


@audited
class Root(models.Model):
    name = models.CharField(max_length=10, blank=True)


if django.VERSION >= (6, 1):

    @audited
    class Leaf(models.Model):
        """Goes with its root, in the database."""

        root = models.ForeignKey(Root, models.DB_CASCADE)
        name = models.CharField(max_length=10, blank=True)

    @audited
    class Vein(models.Model):
        """Goes with its leaf, and so with the root."""

        leaf = models.ForeignKey(Leaf, models.DB_CASCADE)
        name = models.CharField(max_length=10, blank=True)

    @audited
    class Moss(models.Model):
        root = models.ForeignKey(Root, models.DB_SET_NULL, null=True)
        name = models.CharField(max_length=10, blank=True)
