"""Models of the test application: one for each kind of column and relation."""

import uuid

import django
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
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


@audited(coalesce=True)
class Draft(models.Model):
    """Saved again and again in one transaction."""

    title = models.CharField(max_length=50, blank=True)
    words = models.IntegerField(default=0)
    api_token = models.CharField(max_length=50, blank=True)
    labels = models.ManyToManyField(Plain, related_name="+")

    def __str__(self):
        return self.title


class Boat(models.Model):
    """Not audited, but its children are."""

    name = models.CharField(max_length=50, blank=True)


@audited
class Cutter(Boat):
    decks = models.IntegerField(default=1)


class Ferry(Cutter):
    """Not audited, but its parent is, with a parent of its own."""

    cars = models.IntegerField(default=0)


@audited
class Engine(models.Model):
    engine_id = models.AutoField(primary_key=True)
    power = models.IntegerField(default=100)


@audited
class Steamer(Cutter, Engine):
    """Of two audited parents."""

    whistle = models.CharField(max_length=20, blank=True)


@audited
class Raft(Boat):
    """Its key is its own; it names the link to its parent."""

    number = models.AutoField(primary_key=True)
    hull = models.OneToOneField(Boat, models.CASCADE, parent_link=True)
    planks = models.IntegerField(default=1)


@audited
class Crate(models.Model):
    """What the database computes, of columns and of what it has computed."""

    width = models.IntegerField(default=1)
    height = models.IntegerField(default=1)
    area = models.GeneratedField(
        expression=models.F("width") * models.F("height"),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    if connection.vendor != "postgresql":  # before 18 it has no virtual columns
        perimeter = models.GeneratedField(
            expression=(models.F("width") + models.F("height")) * 2,
            output_field=models.IntegerField(),
            db_persist=False,
        )
        price = models.GeneratedField(
            expression=models.F("area") * 10,
            output_field=models.IntegerField(),
            db_persist=False,
        )


@audited
class Voucher(models.Model):
    """The database gives the key, and a value to an expression."""

    code = models.CharField(max_length=5, primary_key=True, db_default=models.Value("A7"))
    note = models.CharField(max_length=20, db_default=models.functions.Upper(models.Value("free")))


class CountryManager(models.Manager):
    def get_by_natural_key(self, code):
        return self.get(code=code)


@audited
class Country(models.Model):
    code = models.CharField(max_length=2, unique=True)
    people = models.IntegerField(default=0)

    objects = CountryManager()

    class Meta:
        constraints = [  # noqa: RUF012
            models.CheckConstraint(condition=models.Q(people__gte=0), name="some_people")
        ]

    def natural_key(self):
        return (self.code,)


@audited
class City(models.Model):
    name = models.CharField(max_length=50)
    country = models.ForeignKey(Country, models.CASCADE)
    guests = models.ManyToManyField(Country, related_name="+")


class Harbour(models.Model):
    """Not audited; since Django 6.1 the database acts on its deletes."""

    code = models.CharField(max_length=20, unique=True)


if django.VERSION >= (6, 1):

    class Pier(models.Model):
        """Not audited; stands between."""

        harbour = models.ForeignKey(Harbour, models.DB_CASCADE, related_name="+")

    @audited
    class Ship(models.Model):
        pier = models.ForeignKey(Pier, models.DB_CASCADE, related_name="+")
        name = models.CharField(max_length=20)

    @audited
    class Slip(models.Model):
        pk = models.CompositePrimaryKey("pier_id", "number")
        pier = models.ForeignKey(Pier, models.DB_CASCADE, related_name="+")
        number = models.IntegerField()

    @audited
    class Flag(models.Model):
        """Its foreign keys go by another column than the key, and a column follows one of them."""

        flown = models.ForeignKey(
            Harbour, models.DB_SET_NULL, to_field="code", null=True, related_name="+"
        )
        kept = models.ForeignKey(Harbour, models.DB_SET_NULL, null=True, related_name="+")
        is_kept = models.GeneratedField(
            expression=models.Q(kept__isnull=False),
            output_field=models.BooleanField(),
            # MariaDB lets nothing that is stored follow a foreign key.
            db_persist=connection.vendor != "mysql",
        )

    @audited
    class Permit(models.Model):
        harbour = models.ForeignKey(
            Harbour, models.DB_SET_DEFAULT, db_default=1, null=True, related_name="+"
        )

        class Meta:
            required_db_features = {"supports_on_delete_db_default"}  # noqa: RUF012

    @audited
    class Branch(models.Model):
        """A tree, or a ring; and a row that points at its twin."""

        harbour = models.ForeignKey(Harbour, models.DB_CASCADE, null=True, related_name="+")
        parent = models.ForeignKey("self", models.DB_CASCADE, null=True, related_name="+")
        twin = models.ForeignKey("self", models.DB_SET_NULL, null=True, related_name="+")

    @audited
    class Vessel(models.Model):
        harbour = models.ForeignKey(Harbour, models.DB_CASCADE, null=True, related_name="+")
        tons = models.IntegerField(default=1)

    @audited
    class Tug(Vessel):
        vessel_ptr = models.OneToOneField(
            Vessel, models.DB_CASCADE, parent_link=True, primary_key=True
        )
        power = models.IntegerField(default=1)

    @audited
    class Line(models.Model):
        """Calls at harbours."""

        calls = models.ManyToManyField(Harbour, through="Call", related_name="+")
        berths = models.ManyToManyField(Harbour, through="Berth", related_name="+")

    class Call(models.Model):
        """A through model that is not audited."""

        line = models.ForeignKey(Line, models.DB_CASCADE)
        harbour = models.ForeignKey(Harbour, models.DB_CASCADE)

    class Berth(models.Model):
        """A through row that stays when its harbour goes."""

        line = models.ForeignKey(Line, models.DB_CASCADE)
        harbour = models.ForeignKey(Harbour, models.DB_SET_NULL, null=True)

    @audited
    class Wreck(models.Model):
        """Without a constraint, the database does nothing, whatever the field says."""

        harbour = models.ForeignKey(
            Harbour, models.DB_CASCADE, db_constraint=False, related_name="+"
        )


@audited
class Club(models.Model):
    """Two relations by one table, whose rows may repeat a pair and lack an end."""

    name = models.CharField(max_length=20)
    members = models.ManyToManyField(
        Person, through="Membership", through_fields=("club", "member"), related_name="clubs"
    )
    sponsors = models.ManyToManyField(
        Person, through="Membership", through_fields=("club", "sponsor"), related_name="+"
    )


class Membership(models.Model):
    club = models.ForeignKey(Club, models.CASCADE, null=True)
    member = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    sponsor = models.ForeignKey(Person, models.CASCADE, null=True, related_name="+")
    note = models.CharField(max_length=20, blank=True)


@audited
class HonoraryMembership(Membership):
    """Records the inherited columns itself."""

    title = models.CharField(max_length=20, blank=True)


class GuestMembership(Membership):
    """Is not audited."""

    until = models.IntegerField(default=0)


@audited
class Course(models.Model):
    students = models.ManyToManyField(Reader, through="EnrolmentProxy", related_name="courses")


class Enrolment(models.Model):
    """Its key is the pair."""

    pk = models.CompositePrimaryKey("course", "student")
    course = models.ForeignKey(Course, models.CASCADE)
    student = models.ForeignKey(Reader, models.CASCADE)
    mark = models.IntegerField(default=0)


class EnrolmentProxy(Enrolment):
    class Meta:
        proxy = True


class Team(models.Model):
    """Not audited, but one of its children is."""

    code = models.CharField(max_length=20, unique=True)
    tags = models.ManyToManyField(Tag, related_name="teams")


@audited
class SeniorTeam(Team):
    league = models.IntegerField(default=1)


class VeteranTeam(SeniorTeam):
    """A child of the audited child."""


class YouthTeam(Team):
    age = models.IntegerField(default=10)


@audited
class Labelled(models.Model):
    labels = models.ManyToManyField(Tag, related_name="+")

    class Meta:
        abstract = True


class Folder(Labelled):
    """Its many-to-many field is that of its abstract parent."""


@audited
class Remark(models.Model):
    """About anything."""

    content_type = models.ForeignKey(ContentType, models.CASCADE, db_constraint=False)
    object_id = models.PositiveBigIntegerField()
    about = GenericForeignKey()


@audited
class Estate(models.Model):
    """Every rule of ``on_delete`` that changes nothing points here."""

    owner = models.ForeignKey("self", models.CASCADE, null=True, related_name="owned")
    remarks = GenericRelation(Remark)


class Lien(models.Model):
    protects = models.ForeignKey(Estate, models.PROTECT, null=True, related_name="+")
    restricts = models.ForeignKey(Estate, models.RESTRICT, null=True, related_name="+")


@audited
class Deed(models.Model):
    """Points at what may be gone."""

    estate = models.ForeignKey(Estate, models.DO_NOTHING, db_constraint=False, related_name="+")


@audited(bulk="summary")
class Sample(models.Model):
    """A call that writes many of its rows leaves one event."""

    name = models.CharField(max_length=50)
    api_token = models.CharField(max_length=50, blank=True)
    part_of = models.ForeignKey("self", models.CASCADE, null=True, related_name="parts")


@audited(bulk="summary")
class Reading(models.Model):
    """Fast-deletable."""

    number = models.IntegerField()
    estate = models.ForeignKey(Estate, models.CASCADE, null=True)


@audited(bulk="summary")
class Hangar(Building):
    planes = models.IntegerField(default=0)


class Code(models.Model):
    code = models.CharField(max_length=10, primary_key=True)


@audited
class Drawer(models.Model):
    """Its far keys are text."""

    codes = models.ManyToManyField(Code, related_name="+")
