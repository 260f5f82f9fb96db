"""The shape of what Django does not document of deletes."""

from __future__ import annotations

import django
import pytest
from django.db import models
from django.db.models import QuerySet
from django.db.models.deletion import Collector
from django.db.models.sql.subqueries import DeleteQuery, UpdateQuery
from django.test import override_settings

from django_signal_audit import internals
from tests.testapp import models as testapp
from tests.testapp.models import (
    Author,
    Book,
    BookProxy,
    Building,
    Chapter,
    Child,
    Deed,
    Estate,
    Garage,
    Keeper,
    Lien,
    Parent,
    Plain,
    Step,
)

since_6_1 = pytest.mark.skipif(django.VERSION < (6, 1), reason="since Django 6.1")


def collecting(objects):
    collector = Collector(using="default", origin=objects)
    collector.collect(objects if isinstance(objects, QuerySet) else [objects])
    return collector


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (internals.DELETE, "Collector.delete"),
        (internals.DELETE_BATCH, "DeleteQuery.delete_batch"),
        (internals.UPDATE_BATCH, "UpdateQuery.update_batch"),
    ],
)
def test_the_statements_of_a_delete_are_methods_with_these_names(method, name):
    owner, attribute = method
    assert f"{owner.__name__}.{attribute}" == name
    assert callable(getattr(owner, attribute, None)), f"Django has no {name} any more"


def test_a_collector_tells_its_instances_its_origin_and_its_fast_deletes(db):
    book = Book.objects.create(title="b")
    collector = collecting(book)
    assert set(internals.collected(collector)) == {Book}
    assert internals.origin(collector) is book
    assert Chapter in {queryset.model for queryset in internals.fast_deletes(collector)}
    everything = Book.objects.all()
    assert internals.origin(collecting(everything)) is everything


def test_a_queryset_that_is_deleted_is_the_origin_of_its_collector(db, monkeypatch):
    seen = []
    monkeypatch.setattr(Collector, "delete", lambda self: seen.append(self) or (0, {}))
    everything = Plain.objects.all()
    everything.delete()
    Plain.objects.create().delete()
    assert internals.origin(seen[0]) is everything, "Django gives the collector another origin"
    assert isinstance(internals.origin(seen[1]), Plain)


def test_instances_are_a_list_in_the_order_of_their_keys_once_a_collector_deletes(db, monkeypatch):
    seen = []

    def look(self, pk_list, using):
        instances = internals.collected(collector)[self.model]
        seen.append((isinstance(instances, list), [i.pk for i in instances] == pk_list))
        return len(pk_list)

    for name in "abc":
        Author.objects.create(name=name)
    collector = collecting(Author.objects.all())
    monkeypatch.setattr(DeleteQuery, "delete_batch", look)
    collector.delete()
    assert seen == [(True, True)]


def test_fast_deletes_are_replaced_for_a_while(db):
    collector = collecting(Book.objects.create(title="b"))
    before = internals.fast_deletes(collector)
    with internals.replaced_fast_deletes(collector, lambda queryset, using: (queryset, using)):
        assert internals.fast_deletes(collector) == [(found, "default") for found in before]
    assert internals.fast_deletes(collector) is before


def test_a_collector_deletes_what_stands_in_for_a_fast_delete(db):
    asked = []
    stand_in = internals.FastDelete(Plain, lambda using: asked.append(using) or 41)
    collector = collecting(Lien.objects.all())
    with internals.replaced_fast_deletes(collector, lambda queryset, using: stand_in):
        assert collector.delete() == (41, {"testapp.Plain": 41})
    assert asked == ["default"]


def test_the_mark_of_an_on_delete_reaches_the_update_through_copies(db, monkeypatch):
    seen = []
    update = QuerySet.update
    monkeypatch.setattr(
        QuerySet,
        "update",
        lambda self, **v: seen.append(internals.is_on_delete(self)) or update(self, **v),
    )
    parents = [Parent.objects.create(name=n) for n in "ab"]
    Keeper.objects.create(nullable=parents[0], default=parents[1])
    # So many that Django asks for them in batches, and combines these by "or".
    monkeypatch.setattr(
        Collector, "get_del_batches", lambda self, objs, fields: [[o] for o in objs]
    )
    collector = collecting(Parent.objects.all())
    # As a rule of somebody's own may ask for it.
    collector.add_field_update(Keeper._meta.get_field("chosen"), None, list(Keeper.objects.all()))
    internals.mark_field_updates(collector)
    collector.delete()
    assert seen, "Django sets columns in another way"
    assert all(seen)
    assert not internals.is_on_delete(Keeper.objects.all())


def test_a_query_tells_its_model_and_can_be_made_anew():
    query = UpdateQuery(BookProxy)
    query.add_update_values({"title": "a"})
    assert internals.model_of(query) is BookProxy
    again = internals.made_anew(query)
    assert type(again) is UpdateQuery
    assert internals.model_of(again) is BookProxy
    assert again.values == []


def test_a_raw_delete_tells_how_many_rows_it_deleted(db):
    Plain.objects.create()
    assert internals.raw_delete(Plain.objects.all(), "default") == 1
    assert internals.raw_delete(Plain.objects.none(), "default") == 0


def test_references_are_those_to_a_models_own_table():
    fields = {f"{f.model.__name__}.{f.name}" for f in internals.references_to(Parent)}
    assert fields == {
        "Child.parent",
        "Profile.parent",
        "Step.parent",
        "Keeper.nullable",
        "Keeper.default",
        "Keeper.chosen",
    }
    assert {f.model for f in internals.references_to(Book)} >= {Chapter, Book.tags.through}
    assert internals.references_to(Garage) == []
    assert Garage in {f.model for f in internals.references_to(Building)}


def test_rules_of_django_are_no_actions_of_the_database():
    for model, name in ((Child, "parent"), (Keeper, "nullable"), (Deed, "estate")):
        assert internals.database_action(model._meta.get_field(name)) is None
    assert internals.is_cascade(Step._meta.get_field("parent"))
    assert not internals.is_cascade(Keeper._meta.get_field("nullable"))
    assert not internals.is_cascade(Keeper._meta.get_field("id"))
    assert internals.is_left_to_the_database(Deed._meta.get_field("estate"))
    assert not internals.is_left_to_the_database(Child._meta.get_field("parent"))


@since_6_1
@pytest.mark.parametrize(
    ("model", "name", "action"),
    [
        ("Pier", "harbour", "cascade"),
        ("Flag", "kept", "set null"),
        ("Permit", "harbour", "set default"),
    ],
)
def test_rules_of_the_database_are_its_actions(model, name, action):
    field = getattr(testapp, model)._meta.get_field(name)
    assert internals.database_action(field) == action
    assert internals.is_left_to_the_database(field)
    assert not internals.is_cascade(field)


@since_6_1
def test_a_rule_without_a_constraint_is_no_action():
    assert internals.database_action(testapp.Wreck._meta.get_field("harbour")) is None


class NoEstates:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return model_name != "estate"


def test_a_database_has_the_tables_that_are_meant_for_it(monkeypatch):
    assert internals.has_table(Estate, "default")
    with override_settings(DATABASE_ROUTERS=[NoEstates()]):
        assert not internals.has_table(Estate, "default")
    with monkeypatch.context() as patch:
        patch.setattr(Estate._meta, "required_db_vendor", "oracle")
        assert not internals.has_table(Estate, "default")
        patch.setattr(Estate._meta, "managed", False)
        assert internals.has_table(Estate, "default"), "whoever made the table decides"


def test_django_has_the_rules_that_the_database_follows():
    names = ("DB_CASCADE", "DB_SET_NULL", "DB_SET_DEFAULT")
    assert all(hasattr(models, name) == (django.VERSION >= (6, 1)) for name in names)
