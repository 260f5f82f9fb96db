"""What is wanted of the writes to a table, and how long that is remembered."""

import gc
import threading
import weakref

import pytest
from django.apps import apps
from django.db import models
from django.db.migrations.state import ModelState, ProjectState
from django.test import override_settings
from django.test.utils import isolate_apps

from django_signal_audit import audited, register, registry, unregister
from django_signal_audit.capture import through, watching
from django_signal_audit.capture.watching import watch_for
from django_signal_audit.testing import capture_events
from tests.capture.helpers import settings_for
from tests.testapp.models import (
    Author,
    Book,
    BookProxy,
    Casting,
    Enrolment,
    EnrolmentProxy,
    GuestMembership,
    HonoraryMembership,
    Loan,
    Membership,
    Plain,
    Reader,
    Tag,
    Watched,
)


@pytest.fixture(autouse=True)
def _registrations():
    """Whatever a test registers is forgotten after it."""
    kept = dict(registry._by_label), set(registry._unregistered)
    yield
    registry._by_label.clear()
    registry._by_label.update(kept[0])
    registry._unregistered.clear()
    registry._unregistered.update(kept[1])
    registry._forget()


def fields(model):
    """The names of the relations that the rows of a model are watched for."""
    watch = watch_for(model)
    return [] if watch is None else sorted(one.field.name for one in watch.relations)


def test_a_table_is_watched_for_its_own_model_for_relations_or_for_both():
    assert watch_for(Author).policy is not None
    assert fields(Author) == []
    assert watch_for(Loan).policy is None
    assert fields(Loan) == ["readers"]
    assert watch_for(Casting).policy is not None
    assert fields(Casting) == ["cast"]
    assert fields(Book.tags.through) == ["tags"]
    assert watch_for(Plain) is None
    assert watch_for(Watched.plain.through) is None


def test_a_proxy_is_watched_as_its_concrete_model():
    assert watch_for(BookProxy).model is Book
    assert watch_for(EnrolmentProxy).model is Enrolment
    assert fields(Enrolment) == fields(EnrolmentProxy) == ["students"]


def test_an_audited_child_of_a_through_model_is_watched_for_its_relations_too():
    assert fields(Membership) == ["members", "sponsors"]
    assert fields(HonoraryMembership) == ["members", "sponsors"]
    assert watch_for(GuestMembership) is None


def test_both_ends_are_read_also_where_the_model_itself_is_not_audited():
    assert [(plan.name, plan.recorded) for plan in watch_for(Loan).plan.fields] == [
        ("book", False),
        ("reader", False),
    ]


def test_a_relation_knows_whether_rows_may_repeat_a_pair():
    unique = {
        one.field.name: one.unique
        for model in (Book.tags.through, Loan, Enrolment)
        for one in watch_for(model).relations
    }
    assert unique == {"tags": True, "readers": False, "students": True}


def test_what_is_found_is_remembered_until_policies_change():
    first = watch_for(Book.tags.through)
    assert watch_for(Book.tags.through) is first
    unregister(Book)
    assert watch_for(Book.tags.through) is None
    register(Book, m2m_fields=["readers"])
    assert watch_for(Book.tags.through) is None
    assert fields(Loan) == ["readers"]
    register(Book)
    assert fields(Book.tags.through) == ["tags"]
    with override_settings(SIGNAL_AUDIT={"MODELS": {"testapp.Book": False}}):
        assert watch_for(Book) is None
        assert fields(Loan) == []
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Watched")):
        assert fields(Watched.plain.through) == ["plain"]
    assert watch_for(Watched.plain.through) is None
    assert fields(Loan) == ["readers"]


def test_nothing_is_remembered_before_the_apps_are_ready(monkeypatch):
    monkeypatch.setattr(apps, "ready", False)
    registry._forget()
    assert watch_for(Loan) is not watch_for(Loan)
    assert fields(Loan) == ["readers"]
    monkeypatch.setattr(apps, "ready", True)
    assert watch_for(Loan) is watch_for(Loan)


def test_the_relations_of_all_models_are_looked_for_once(monkeypatch):
    registry._forget()
    looks = []
    original = through._by_through

    def look(known):
        looks.append(known)
        return original(known)

    monkeypatch.setattr(through, "_by_through", look)
    for model in apps.get_models(include_auto_created=True):
        watch_for(model)
    assert looks == [apps]


def test_a_model_that_is_made_later_is_found():
    assert fields(Plain) == []
    try:

        @audited
        class Latecomer(models.Model):
            plains = models.ManyToManyField(Reader, through=Loan, through_fields=("book", "reader"))

            class Meta:
                app_label = "testapp"

        assert registry.policy_for(Latecomer) is not None
        assert watch_for(Latecomer).policy is not None
    finally:
        del apps.all_models["testapp"]["latecomer"]
        apps.clear_cache()


@isolate_apps("tests.testapp")
def test_models_of_another_registry_are_found_there():
    class Pot(models.Model):
        class Meta:
            app_label = "testapp"

    @audited
    class Stall(models.Model):
        pots = models.ManyToManyField(Pot)

        class Meta:
            app_label = "testapp"

    assert fields(Stall.pots.through) == ["pots"]
    assert watch_for(Pot) is None


@isolate_apps("tests.testapp")
@override_settings(OTHER_STALL="testapp.Book")
def test_a_model_that_is_swapped_out_has_no_rows():
    @audited
    class Stall(models.Model):
        pots = models.ManyToManyField(Plain)

        class Meta:
            app_label = "testapp"
            swappable = "OTHER_STALL"

    assert Stall.pots.through is None
    assert watch_for(Stall).relations == ()


def historical():
    state = ProjectState()
    for model in (Author, Book, Reader, Loan, Tag):
        state.add_model(ModelState.from_model(model))
    return state.apps


def test_historical_models_are_watched_by_their_labels():
    old = historical()
    book = old.get_model("testapp.Book")
    assert watch_for(book).policy == registry.policy_for(Book)
    assert watch_for(book).model is book
    assert fields(book.tags.through) == ["tags"]
    [relation] = watch_for(old.get_model("testapp.Loan")).relations
    assert relation.owner is book


@pytest.mark.django_db
def test_historical_models_do_not_live_on_when_their_state_is_dropped():
    old = historical()
    book = old.get_model("testapp.Book").objects.create(title="a")
    tag = old.get_model("testapp.Tag").objects.create(name="t")
    with capture_events() as events:
        book.tags.add(tag)
        book.title = "b"
        book.save()
        book.tags.through.objects.all().delete()
        old.get_model("testapp.Loan").objects.all().delete()
        book.delete()
    assert len(events) == 4
    dropped = weakref.ref(old)
    del old, book, tag, events
    # What asks a registry for its models keeps it until models are made again.
    apps.clear_cache()
    gc.collect()
    assert dropped() is None


def test_threads_that_ask_while_policies_change_get_what_is_true_in_the_end():
    wrong = []

    def ask():
        for _ in range(200):
            watch = watch_for(Loan)
            if watch is not None and [one.field.name for one in watch.relations] != ["readers"]:
                wrong.append(watch)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        unregister(Book)
        register(Book)
    for thread in threads:
        thread.join()
    assert wrong == []
    assert fields(Loan) == ["readers"]
    unregister(Book)
    assert fields(Loan) == []


def test_the_watch_of_an_unaudited_model_is_one_look_up(monkeypatch):
    watch_for(Plain)

    def fail(model):
        raise AssertionError(model)

    monkeypatch.setattr(watching, "_make", fail)
    assert watch_for(Plain) is None
