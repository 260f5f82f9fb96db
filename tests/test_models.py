from __future__ import annotations

import io
import json
import uuid
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.core import serializers
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models.deletion import Collector
from django.db.models.query import QuerySet
from django.test import override_settings
from django.utils import timezone

from django_signal_audit import event_signal, set_actor
from django_signal_audit.event import Actor
from django_signal_audit.exceptions import AppendOnlyError
from django_signal_audit.formats import available_formats, get_formatter
from django_signal_audit.ids import uuid7
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import DatabaseSink, routing
from django_signal_audit.values import make_safe
from tests.factories import make_config, make_event
from tests.testapp.models import (
    LONG_KEY,
    Author,
    Book,
    BookProxy,
    Composite,
    Document,
    Plain,
    Restaurant,
    TextKey,
)

pytestmark = pytest.mark.django_db

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def record(moment=NOON, **values):
    """An unsaved record."""
    return AuditRecord(id=uuid7(moment), timestamp=moment, event="a.b", **values)


@pytest.fixture
def stored():
    made = record(message="as it was")
    made.save()
    return made


# Append-only


REFUSED = {
    "save": lambda stored: stored.save(),
    "save of some fields": lambda stored: stored.save(update_fields=["message"]),
    "save of a loaded one": lambda stored: AuditRecord.objects.get(pk=stored.pk).save(),
    "asave": lambda stored: async_to_sync(stored.asave)(),
    "delete": lambda stored: stored.delete(),
    "adelete": lambda stored: async_to_sync(stored.adelete)(),
    "update": lambda stored: AuditRecord.objects.update(message="x"),
    "filtered update": lambda stored: AuditRecord.objects.filter(pk=stored.pk).update(message="x"),
    "aupdate": lambda stored: async_to_sync(AuditRecord.objects.all().aupdate)(message="x"),
    "queryset delete": lambda stored: AuditRecord.objects.all().delete(),
    "queryset adelete": lambda stored: async_to_sync(AuditRecord.objects.all().adelete)(),
    "_raw_delete": lambda stored: AuditRecord.objects.all()._raw_delete("default"),
    "bulk_update": lambda stored: AuditRecord.objects.bulk_update([stored], ["message"]),
    "abulk_update": lambda stored: async_to_sync(AuditRecord.objects.all().abulk_update)(
        [stored], ["message"]
    ),
    "update_or_create": lambda stored: AuditRecord.objects.update_or_create(
        pk=stored.pk, defaults={"message": "x"}
    ),
    "bulk_create that updates": lambda stored: AuditRecord.objects.bulk_create(
        [record(message="x")],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["message"],
    ),
    "base manager": lambda stored: AuditRecord._base_manager.update(message="x"),
    "default manager": lambda stored: AuditRecord._default_manager.all().delete(),
}


@pytest.mark.parametrize("way", REFUSED)
def test_changing_and_deleting_are_refused_with_advice(stored, way):
    stored.message = "changed"
    with pytest.raises(AppendOnlyError, match=r"append-only.*send an event that says so"):
        REFUSED[way](stored)

    assert AuditRecord.objects.get().message == "as it was"


def test_a_deserialized_record_is_restored_but_never_overwrites(stored):
    text = serializers.serialize("json", [stored]).replace("as it was", "changed")
    (again,) = serializers.deserialize("json", text)
    with pytest.raises(IntegrityError), transaction.atomic():
        again.save()
    assert AuditRecord.objects.get().message == "as it was"

    other = json.loads(text)
    other[0]["pk"] = str(uuid7(NOON))
    (restored,) = serializers.deserialize("json", json.dumps(other))
    restored.save()
    assert AuditRecord.objects.filter(message="changed").count() == 1


def test_a_trail_is_dumped_and_loaded(stored, tmp_path):
    dumped = io.StringIO()
    call_command("dumpdata", "django_signal_audit", stdout=dumped)
    fixture = tmp_path / "trail.json"
    fixture.write_text(dumped.getvalue().replace(str(stored.pk), str(uuid7(NOON))))
    call_command("loaddata", str(fixture), verbosity=0)

    assert AuditRecord.objects.count() == 2


def test_records_can_be_added():
    record().save()
    AuditRecord.objects.create(id=uuid7(NOON), timestamp=NOON, event="a.b")
    AuditRecord.objects.bulk_create([record(), record()])
    _, created = AuditRecord.objects.get_or_create(
        id=uuid7(NOON), defaults={"timestamp": NOON, "event": "a.b"}
    )
    async_to_sync(AuditRecord.objects.all().abulk_create)([record()])

    assert created
    assert AuditRecord.objects.count() == 6


def test_the_same_id_twice_is_refused(stored):
    twin = record()
    twin.id = stored.id
    with pytest.raises(IntegrityError), transaction.atomic():
        twin.save()
    assert AuditRecord.objects.bulk_create([twin], ignore_conflicts=True)
    assert AuditRecord.objects.get().message == "as it was"


def test_records_have_only_the_view_permission():
    assert AuditRecord._meta.default_permissions == ("view",)


def test_writing_records_is_not_audited():
    with override_settings(SIGNAL_AUDIT={"MODELS": {"*": {}}}):
        record().save()

    assert AuditRecord.objects.count() == 1


# Reading


def names(records):
    return [found.event for found in records]


def test_get_for_object_is_that_object_alone_oldest_first():
    author, other = Author.objects.create(name="a"), Author.objects.create(name="b")
    author.name = "c"
    author.save()
    Book.objects.create(pk=author.pk, title="the same key")
    key = author.pk
    author.delete()
    author.pk = key

    assert names(AuditRecord.objects.get_for_object(author)) == [
        "model.create",
        "model.update",
        "model.delete",
    ]
    assert names(AuditRecord.objects.get_for_object(other)) == ["model.create"]


@pytest.mark.parametrize(
    "make",
    [
        Document.objects.create,
        lambda: TextKey.objects.create(key="k" * LONG_KEY),
        lambda: TextKey.objects.create(key="\U0001f469\u200d\U0001f680 'quoted' \\ %s"),
        lambda: Restaurant.objects.create(name="r"),
        lambda: Author.objects.create(pk=2**60, name="big"),
    ],
    ids=["uuid", "long", "odd text", "inherited", "big"],
)
def test_get_for_object_with_keys_of_every_kind(make):
    made = make()

    assert names(AuditRecord.objects.get_for_object(made)) == ["model.create"]
    assert names(AuditRecord.objects.get_for_objects([made])) == ["model.create"]


def test_two_long_keys_with_the_same_beginning_are_two_objects():
    one = TextKey.objects.create(key="k" * (LONG_KEY - 1) + "1")
    two = TextKey.objects.create(key="k" * (LONG_KEY - 1) + "2")

    records = AuditRecord.objects.get_for_objects([one, two])
    assert len({found.object_id for found in records}) == 2


def test_a_proxys_records_are_those_of_its_concrete_model():
    book = Book.objects.create(title="t")
    proxy = BookProxy.objects.get()
    proxy.title = "u"
    proxy.save()

    for obj in (book, proxy):
        assert names(AuditRecord.objects.get_for_object(obj)) == ["model.create", "model.update"]
    assert AuditRecord.objects.get_for_model(BookProxy).count() == 2


def test_get_for_objects_of_several_models():
    author, plain = Author.objects.create(name="a"), Plain.objects.create(name="p")
    event_signal.send("x", event="about.plain", instance=plain)
    Author.objects.create(name="other")

    assert names(AuditRecord.objects.get_for_objects([author, plain])) == [
        "model.create",
        "about.plain",
    ]
    assert list(AuditRecord.objects.get_for_objects([])) == []
    assert list(AuditRecord.objects.get_for_objects(Plain.objects.none())) == []


@pytest.mark.parametrize("obj", [Author(), Composite(tenant=1)])
def test_an_object_without_a_key_has_no_records_and_says_so(obj):
    for ask in (
        lambda: AuditRecord.objects.get_for_object(obj),
        lambda: AuditRecord.objects.get_for_objects([obj]),
    ):
        with pytest.raises(ValueError, match="has no primary key"):
            ask()


def test_get_for_model():
    Author.objects.create(name="a")
    Book.objects.create(title="b")

    assert names(AuditRecord.objects.get_for_model(Author)) == ["model.create"]
    assert AuditRecord.objects.get_for_model(Plain).count() == 0


def test_by_actor():
    zoe = User.objects.create_user("zoe")
    for actor in (zoe, "nightly", AnonymousUser(), Actor("api_key", str(zoe.pk), "zoe"), None):
        with set_actor(actor):
            event_signal.send("x", event=str(actor))

    def found(actor):
        return names(AuditRecord.objects.by_actor(actor))

    assert found(zoe) == found(Actor("user", str(zoe.pk))) == ["zoe"]
    assert found("nightly") == ["nightly"]
    assert found(AnonymousUser()) == ["AnonymousUser"]
    assert len(found(Actor("api_key", str(zoe.pk)))) == 1
    assert found(None) == ["None"]
    assert names(AuditRecord.objects.filter(actor_label="zoe", actor_type="user")) == ["zoe"]


def test_between_is_exact_at_its_boundaries():
    step = timedelta(microseconds=1)
    for offset in (-1, 0, 1):
        for _ in range(5):
            record(NOON + offset * step, message=str(offset)).save()

    def messages(since=None, until=None):
        found = AuditRecord.objects.between(since, until)
        return sorted({r.message for r in found}), len(found)

    assert messages(NOON) == (["0", "1"], 10)
    assert messages(None, NOON) == (["-1"], 5)
    assert messages(NOON, NOON + step) == (["0"], 5)
    assert messages(NOON, NOON) == ([], 0)
    assert messages() == (["-1", "0", "1"], 15)
    assert messages(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))[1] == 15


def test_between_reads_a_range_of_the_primary_key():
    sql = str(AuditRecord.objects.between(NOON, NOON).query)

    assert "timestamp" not in sql.partition("WHERE")[2]


def test_a_naive_moment_is_in_the_default_time_zone():
    record(datetime(2024, 1, 1, 11, tzinfo=UTC)).save()  # noon in Berlin

    assert AuditRecord.objects.between(datetime(2024, 1, 1, 12)).count() == 1  # noqa: DTZ001
    assert AuditRecord.objects.between(datetime(2024, 1, 1, 12, 1)).count() == 0  # noqa: DTZ001


@override_settings(USE_TZ=False)
def test_a_naive_moment_is_in_the_time_zone_that_naive_moments_are_stored_in():
    DatabaseSink(make_config()).write(
        connection, [make_event(timestamp=datetime(2024, 1, 1, 11, tzinfo=UTC))]
    )

    with timezone.override("Asia/Tokyo"):
        found = AuditRecord.objects.between(datetime(2024, 1, 1, 12))  # noqa: DTZ001
        assert found.count() == 1
        assert found.between(datetime(2024, 1, 1, 12, 1)).count() == 0  # noqa: DTZ001


@override_settings(USE_TZ=False)
@pytest.mark.parametrize("hour", [0, 1])
def test_a_moment_comes_back_as_it_was_though_the_hour_comes_twice(hour):
    """In Berlin it was 2:30 twice on that day."""
    event = make_event(timestamp=datetime(2026, 10, 25, hour, 30, 0, 999_999, tzinfo=UTC))
    DatabaseSink(make_config()).write(connection, [event])

    with timezone.override("Asia/Tokyo"):
        assert AuditRecord.objects.get().to_event() == event


def test_queries_chain():
    author = Author.objects.create(name="a")

    found = AuditRecord.objects.filter(event="model.create").get_for_object(author)
    assert names(found.between(NOON)) == ["model.create"]
    assert found.filter(changes__name=[None, "a"]).exists()


# Shape


def test_a_record_gives_its_event_back():
    event = make_event(
        changes={"name": ["a", None]},
        actor=Actor("user", "7", "zoe"),
        on_behalf_of=Actor("system", None, ""),
        reason="asked",
        cause=uuid7(NOON),
        duration_ms=0.5,
        error={"type": "ValueError", "message": "no"},
        context={"ip": "::1"},
        data={"any": [1, {"x": None}]},
        database="default",
        transaction=uuid.uuid4(),
        rolled_back=True,
    )
    routing.all_routes()[0].sink.write(connection, [event])

    assert AuditRecord.objects.get().to_event() == event


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        (int(1e300), 1e300),
        (-(10**20), -1e20),
        (2**64 - 1, 2**64 - 1),
        (10**400, {"$int": "1" + "0" * 400}),
    ],
)
def test_a_number_that_a_database_lengthened_can_be_written_by_every_format(stored, given):
    changed = record(
        data={"n": [stored]}, context={"n": stored}, changes={"n": [None, {"x": stored}]}
    )
    event = changed.to_event()

    assert event.data == {"n": [given]}
    assert event.context == {"n": given}
    assert event.changes == {"n": [None, {"x": given}]}
    assert type(event.context["n"]) is type(given)
    for name in available_formats():
        assert get_formatter(name)(event)


@pytest.mark.parametrize("number", [1e20, 1e300, 1e15, 10**20])
def test_a_large_number_comes_back_from_the_database_as_it_was_recorded(number):
    event = make_event(data=make_safe({"n": number}))
    routing.all_routes()[0].sink.write(connection, [event])

    assert orjson.dumps(AuditRecord.objects.get().to_event().data) == orjson.dumps(event.data)


def test_it_is_shown_by_its_event_and_object():
    assert str(record()) == "a.b"
    assert str(record(object_type="shop.order", object_id="5")) == "a.b shop.order 5"


def test_it_has_no_foreign_keys():
    assert not [field for field in AuditRecord._meta.get_fields() if field.is_relation]


def test_passwords_of_users_are_masked_everywhere():
    with override_settings(SIGNAL_AUDIT={"MODELS": {"auth.User": {}}}):
        user = User.objects.create_user("zoe", password="first-secret")
        first = user.password
        user.set_password("second-secret")
        user.save()
        User.objects.filter(pk=user.pk).update(password="!plain-hash-3")
        user.delete()

    found = list(AuditRecord.objects.order_by("id"))
    assert [r.changes["password"] for r in found] == [
        [None, "[redacted]"],
        ["[redacted]", "[redacted]"],
        ["[redacted]", "[redacted]"],
        ["[redacted]", None],
    ]
    text = json.dumps([r.to_event().to_dict() for r in found])
    for secret in (first, user.password, "plain-hash-3", "secret", "md5$"):
        assert secret not in text


@pytest.mark.django_db
def test_a_collector_and_a_plain_queryset_are_refused_too():
    Author.objects.create(name="a")
    record = AuditRecord.objects.get()
    collector = Collector(using="default")
    collector.collect([record])
    everything = QuerySet(AuditRecord)
    for change in (collector.delete, everything.delete, lambda: everything.update(message="x")):
        with pytest.raises(AppendOnlyError), transaction.atomic():
            change()
    assert AuditRecord.objects.get() == record


@pytest.mark.django_db
def test_records_can_be_read_before_anything_is_connected(monkeypatch):
    monkeypatch.setattr("django_signal_audit.models.before_read", None)
    assert list(AuditRecord.objects.all()) == []
