"""Models of the test application: one for each kind of column and relation."""

import uuid

from django.db import connection, models
from django.db.models import signals
from django.utils import timezone

from django_signal_audit import audit_signals, audited


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


# MariaDB has no keys of unlimited text: its indexes hold 3,072 bytes.
LONG_KEY = 750 if connection.vendor == "mysql" else 4096


@audited
class TextKey(models.Model):
    key = (
        models.CharField(max_length=LONG_KEY, primary_key=True)
        if connection.vendor == "mysql"
        else models.TextField(primary_key=True)
    )
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


class Kind(models.TextChoices):
    PLAIN = "plain"
    FANCY = "fancy"


@audited
class Gauge(models.Model):
    """One column of each type."""

    price = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    day = models.DateField(null=True)
    moment = models.DateTimeField(null=True)
    time = models.TimeField(null=True)
    count = models.IntegerField(null=True, db_column="how_many")
    ratio = models.FloatField(null=True)
    uid = models.UUIDField(null=True)
    name = models.CharField(max_length=50, null=True)
    kind = models.CharField(max_length=10, choices=Kind, null=True)
    blob = models.BinaryField(null=True)
    flag = models.BooleanField(null=True)
    span = models.DurationField(null=True)
    address = models.GenericIPAddressField(null=True)
    data = models.JSONField(null=True)
    file = models.FileField(upload_to="gauges", blank=True)


@audited
class Composite(models.Model):
    pk = models.CompositePrimaryKey("tenant", "number")
    tenant = models.IntegerField()
    number = models.IntegerField()
    name = models.CharField(max_length=50)


@audited
class Profile(models.Model):
    """The key is a relation."""

    parent = models.OneToOneField(Parent, on_delete=models.CASCADE, primary_key=True)
    bio = models.TextField(blank=True)


@audited
class Step(models.Model):
    parent = models.ForeignKey(Parent, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)

    class Meta:
        order_with_respect_to = "parent"


def first_parent():
    return Parent.objects.order_by("pk").first()


@audited
class Keeper(models.Model):
    """Keeps its row when the parents go."""

    nullable = models.ForeignKey(Parent, models.SET_NULL, null=True, related_name="+")
    default = models.ForeignKey(
        Parent, models.SET_DEFAULT, null=True, default=None, related_name="+"
    )
    chosen = models.ForeignKey(Parent, models.SET(first_parent), null=True, related_name="+")


class VisibleManager(models.Manager):
    def get_queryset(self):
        return super().get_queryset().filter(hidden=False)


@audited
class Topic(models.Model):
    """Its base manager hides rows, its default manager too."""

    name = models.CharField(max_length=50)
    hidden = models.BooleanField(default=False)

    objects = VisibleManager()
    everything = models.Manager()

    class Meta:
        base_manager_name = "objects"


class Person(models.Model):
    code = models.CharField(max_length=20, unique=True)


@audited
class Film(models.Model):
    """Its relations go by columns other than the key."""

    code = models.CharField(max_length=20, unique=True)
    studio = models.ForeignKey(Person, models.CASCADE, to_field="code", null=True)
    topics = models.ManyToManyField(Topic)
    cast = models.ManyToManyField(
        Person, through="Casting", through_fields=("film", "person"), related_name="films"
    )


@audited
class Casting(models.Model):
    film = models.ForeignKey(Film, models.CASCADE, to_field="code")
    person = models.ForeignKey(Person, models.CASCADE, to_field="code")
    inviter = models.ForeignKey(Person, models.CASCADE, null=True, related_name="+")
    role = models.CharField(max_length=20, blank=True)


@audited
class Seat(models.Model):
    row = models.IntegerField()
    number = models.IntegerField()
    guest = models.CharField(max_length=50, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["row", "number"], name="one_seat")]  # noqa: RUF012


@audited
class Garage(Building):
    """Audited like its parent."""

    cars = models.IntegerField(default=0)


@audited
class Unprintable(models.Model):
    name = models.CharField(max_length=50, blank=True)

    def __str__(self):
        raise RuntimeError("no text")


@audit_signals(
    signals.pre_init,
    signals.post_init,
    signals.pre_save,
    signals.post_save,
    signals.pre_delete,
    signals.post_delete,
    signals.m2m_changed,
)
class Watched(models.Model):
    name = models.CharField(max_length=50)
    api_token = models.CharField(max_length=50, blank=True)
    plain = models.ManyToManyField(Plain)


@audit_signals(signals.class_prepared, signals.post_save)
class WatchedBase(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True


class WatchedChild(WatchedBase):
    pass


@audited
class Contract(models.Model):
    """Its columns are called like the arguments of code that wraps an update."""

    policy = models.CharField(max_length=20)
    original = models.CharField(max_length=20)
    name = models.CharField(max_length=20)
    replacement = models.CharField(max_length=20)
    using = models.CharField(max_length=20)


@audited
class Counter(models.Model):
    """MariaDB counts to 2**64 where a column has no sign."""

    id = models.PositiveBigIntegerField(primary_key=True)
    count = models.IntegerField(default=0)
