"""``before="loaded"``: old values without a query."""

import copy
import pickle

import pytest
from django.test import override_settings

from django_signal_audit import suspend_audit
from django_signal_audit.capture import loaded
from tests.capture.helpers import recorded, rolled_back, settings_for
from tests.testapp.models import Gauge, Plain, Quick

pytestmark = pytest.mark.django_db


@pytest.fixture
def quick():
    Quick.objects.create(name="a", count=1)
    return Quick.objects.get()


def test_the_old_values_cost_no_query(quick, django_assert_num_queries):
    quick.name = "b"
    with django_assert_num_queries(1):
        told = recorded(quick.save)
    assert told == [("update", str(quick.pk), {"name": ["a", "b"]})]


def test_they_are_what_was_loaded(quick):
    Quick.objects.update(count=9)
    quick.name = "b"
    assert recorded(quick.save) == [("update", str(quick.pk), {"name": ["a", "b"]})]


def test_a_query_sees_what_was_not_loaded(quick):
    partial = Quick.objects.only("name").get()
    partial.count = 5
    assert recorded(partial.save) == [("update", str(quick.pk), {"count": [1, 5]})]


def test_a_save_that_is_not_recorded_makes_the_next_one_ask_the_database(quick):
    quick.name = "unseen"
    with suspend_audit():
        quick.save()
    quick.name = "a"
    assert recorded(quick.save) == [("update", str(quick.pk), {"name": ["unseen", "a"]})]


def test_they_are_not_copied_nor_pickled(quick):
    for clone in (
        copy.copy(quick),
        copy.deepcopy(quick),
        pickle.loads(pickle.dumps(quick)),
    ):
        assert loaded.image_of(clone, ()) is None
    assert loaded.image_of(quick, ()) == {}
    assert b"signal_audit" not in pickle.dumps(quick)


def test_a_clone_asks_the_database(quick):
    clone = copy.copy(quick)
    Quick.objects.update(name="held")
    clone.name = "b"
    assert recorded(clone.save) == [("update", str(quick.pk), {"name": ["held", "b"]})]


def test_a_copy_without_key_is_a_create(quick):
    quick.pk, quick._state.adding = None, True
    assert [row[0] for row in recorded(quick.save)] == ["create"]


def test_values_of_one_row_are_not_those_of_another(quick):
    other = Quick.objects.create(name="other", count=7)
    quick.pk = other.pk
    assert recorded(quick.save) == [
        ("update", str(other.pk), {"name": ["other", "a"], "count": [7, 1]})
    ]


def test_refresh_from_db_drops_them(quick):
    Quick.objects.update(name="held")
    quick.refresh_from_db()
    assert loaded.image_of(quick, ()) is None
    quick.name = "b"
    assert recorded(quick.save) == [("update", str(quick.pk), {"name": ["held", "b"]})]


def test_a_save_that_may_be_rolled_back_is_not_remembered(quick):
    quick.name = "b"
    rolled_back(quick.save)
    assert recorded(quick.save) == [("update", str(quick.pk), {"name": ["a", "b"]})]


@pytest.mark.django_db(transaction=True)
def test_a_committed_save_is_remembered(quick):
    quick.name = "b"
    quick.save()
    quick.name, quick.count = "c", 5
    assert recorded(quick.save, update_fields=["name"]) == [
        ("update", str(quick.pk), {"name": ["b", "c"]})
    ]
    Quick.objects.update(name="held")
    assert recorded(quick.save) == [("update", str(quick.pk), {"count": [1, 5]})]


def test_json_changed_in_place_is_a_change():
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Gauge", before="loaded")):
        Gauge.objects.create(data={"a": [1]})
        gauge = Gauge.objects.get()
        gauge.data["a"].append(2)
        assert recorded(gauge.save) == [
            ("update", str(gauge.pk), {"data": [{"a": [1]}, {"a": [1, 2]}]})
        ]


@pytest.mark.django_db(transaction=True)
def test_a_file_that_is_renamed_in_place_is_a_change():
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Gauge", before="loaded")):
        gauge = Gauge.objects.create(file="a.txt")
        gauge.file.name = "b.txt"
        assert recorded(gauge.save) == [("update", str(gauge.pk), {"file": ["a.txt", "b.txt"]})]


def test_settings_alone_can_ask_for_it(django_assert_num_queries):
    with override_settings(SIGNAL_AUDIT=settings_for(before="loaded")):
        Plain.objects.create(name="a")
        plain = Plain.objects.get()
        plain.name = "b"
        with django_assert_num_queries(1):
            assert recorded(plain.save) == [("update", str(plain.pk), {"name": ["a", "b"]})]


@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_copied_is_asked_of_the_database(monkeypatch):
    def refuse(value):
        raise RecursionError

    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Gauge", before="loaded")):
        gauge = Gauge.objects.create(data={"a": 1})
        monkeypatch.setattr(loaded.copy, "deepcopy", refuse)
        gauge.data = {"a": 2}
        told = recorded(gauge.save)
        assert told == [("update", str(gauge.pk), {"data": [{"a": 1}, {"a": 2}]})]
        Gauge.objects.update(data={"a": 3})
        gauge.data = {"a": 4}
        told = recorded(gauge.save)
    assert told == [("update", str(gauge.pk), {"data": [{"a": 3}, {"a": 4}]})]
