"""A project behaves with the audit as it does without: each story is told twice and compared."""

# ruff: noqa: PT012 - blocks that fail are what is tested

from __future__ import annotations

from contextlib import contextmanager, nullcontext

import pytest
from django.db import connections, transaction
from django.db.models.signals import post_delete, post_save, pre_save
from django.test import TestCase

from django_signal_audit import suspend_audit
from django_signal_audit.models import AuditRecord
from tests.databases import shared_database
from tests.testapp.models import Author, Book

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


class OursError(Exception):
    """Raised by receivers."""


@contextmanager
def receiving(signal, receiver, sender=Author):
    signal.connect(receiver, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=sender)


@contextmanager
def second_connection(alias):
    fresh = connections[alias].copy()
    try:
        yield fresh
    finally:
        fresh.close()


def names_on(fresh):
    with fresh.cursor() as cursor:
        cursor.execute(f"SELECT name FROM {Author._meta.db_table} ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def names(alias="default"):
    return list(Author.objects.using(alias).order_by("id").values_list("name", flat=True))


def attempt(work):
    """The name of the error that a piece of work ends in, or what it returns."""
    try:
        return work()
    except Exception as exc:  # noqa: BLE001 - the error is the observation
        return type(exc).__name__


def task_in_post_save(alias, seen):
    """``task.delay(pk)`` whose worker is quick: it reads the row from its own connection."""
    with second_connection(alias) as worker:

        def delay(instance, **kwargs):
            seen.append(names_on(worker))

        with receiving(post_save, delay):
            Author.objects.using(alias).create(name="a")
            author = Author.objects.using(alias).get()
            author.name = "b"
            author.save()
            with transaction.atomic(using=alias):
                Author.objects.using(alias).create(name="c")
            Author.objects.using(alias).update_or_create(name="b", defaults={"name": "d"})


def durable_block_in_a_receiver(alias, seen):
    def receiver(instance, **kwargs):
        seen.append(connections[alias].in_atomic_block)
        with transaction.atomic(using=alias, durable=True):
            Book.objects.using(alias).create(title="of " + instance.name)

    for signal in (pre_save, post_save):
        with receiving(signal, receiver):
            seen.append(attempt(lambda: Author.objects.using(alias).create(name="a").name))
    seen.append(list(Book.objects.using(alias).values_list("title", flat=True)))


def raising_post_save(alias, seen):
    def receiver(**kwargs):
        raise OursError

    with receiving(post_save, receiver):
        seen.append(attempt(lambda: Author.objects.using(alias).create(name="a")))
        seen.append(names(alias))
        with transaction.atomic(using=alias):
            seen.append(attempt(lambda: Author(name="b").save(using=alias)))
            seen.append(connections[alias].needs_rollback)
        seen.append(names(alias))
        seen.append(
            attempt(lambda: Author.objects.using(alias).bulk_create([Author(name="c")])[0].name)
        )


def caught_pre_save_error(alias, seen):
    def receiver(instance, **kwargs):
        if instance.name == "bad":
            raise OursError

    with receiving(pre_save, receiver), transaction.atomic(using=alias):
        Author.objects.using(alias).create(name="a")
        seen.append(attempt(lambda: Author.objects.using(alias).create(name="bad")))
        seen.append(connections[alias].needs_rollback)
        Author.objects.using(alias).create(name="b")
    seen.append(names(alias))


def hooks(alias, seen):
    def on_commit(what):
        transaction.on_commit(lambda: seen.append(what()), using=alias)

    def saved(instance, **kwargs):
        on_commit(lambda: ("saved", instance.name))

    def deleted(instance, **kwargs):
        on_commit(lambda: ("deleted", instance.name, instance.pk is not None))

    with receiving(post_save, saved), receiving(post_delete, deleted):
        first = Author.objects.using(alias).create(name="a")
        seen.append("after the first")
        with transaction.atomic(using=alias):
            on_commit(lambda: "outer")
            Author.objects.using(alias).create(name="b")
            with transaction.atomic(using=alias):
                on_commit(lambda: "inner")
                Author.objects.using(alias).create(name="c")
            seen.append(attempt(lambda: undone_block(alias, lambda: on_commit(lambda: "never"))))
            seen.append("the end of the block")
        first.delete()
        seen.append(("key after delete", first.pk))
        Author.objects.using(alias).all().delete()
    seen.append(names(alias))


def undone_block(alias, work):
    with transaction.atomic(using=alias):
        work()
        raise OursError


def raising_hook(alias, seen):
    def block():
        with transaction.atomic(using=alias):
            transaction.on_commit(lambda: seen.append("first"), using=alias)
            transaction.on_commit(lambda: (_ for _ in ()).throw(OursError), using=alias)
            transaction.on_commit(lambda: seen.append("third"), using=alias)
            Author.objects.using(alias).create(name="a")

    seen.append(attempt(block))
    seen.append(names(alias))
    transaction.on_commit(lambda: seen.append("at once"), using=alias)


def refused_by_the_database(alias, seen):
    seen.append(attempt(lambda: Book.objects.using(alias).create(title=None)))
    with transaction.atomic(using=alias):
        Author.objects.using(alias).create(name="a")
        seen.append(attempt(lambda: Book.objects.using(alias).create(title=None)))
        seen.append(connections[alias].needs_rollback)
        seen.append(attempt(lambda: Author.objects.using(alias).count()))
    seen.append(names(alias))
    with transaction.atomic(using=alias):
        Author.objects.using(alias).create(name="b")
        seen.append(attempt(lambda: undone_by_the_database(alias)))
        Author.objects.using(alias).create(name="c")
    seen.append(names(alias))


def undone_by_the_database(alias):
    with transaction.atomic(using=alias):
        Book.objects.using(alias).create(title=None)


def a_refused_instance_keeps_its_state(alias, seen):
    book = Book(title=None)
    seen.append(attempt(lambda: book.save(using=alias)))
    seen.append((book.pk, book._state.adding))
    book.title = "now"
    book.save(using=alias)
    seen.append((book.pk is not None, book._state.adding, book._state.db == alias))


def results(alias, seen):
    """What methods return, and which errors they raise."""
    authors = Author.objects.using(alias)
    seen.append(authors.update(name="none"))
    made = authors.bulk_create([Author(name="a"), Author(name="b")])
    seen.append([author.pk is not None for author in made])
    seen.append(authors.filter(name="a").update(name="c"))
    seen.append(authors.bulk_create([]))
    seen.append(authors.bulk_update(made, ["name"]))
    seen.append(attempt(lambda: Author(pk=10_000, name="x").save(using=alias, force_update=True)))
    seen.append(attempt(lambda: Author(pk=10_000).save(using=alias, update_fields=["name"])))
    seen.append(
        attempt(lambda: Author(pk=made[0].pk, name="x").save(using=alias, force_insert=True))
    )
    seen.append(authors.filter(name="b").delete())
    seen.append(attempt(lambda: authors.all()[:1].update(name="x")))
    seen.append(attempt(authors.all()[:1].delete))
    seen.append(names(alias))


def wrong_calls_inside_a_block(alias, seen):
    """Errors that Django raises before it writes leave the block usable."""
    authors = Author.objects.using(alias)
    wrong = [
        lambda: authors.update(nonsense=1),
        lambda: authors.update(name="x", nonsense=1),
        lambda: authors.update(name="x", books=None),
        lambda: authors.all()[:1].update(name="x"),
        lambda: authors.bulk_create([Author(name="x")], batch_size=-1),
        lambda: authors.bulk_create(
            [Author(name="x")], ignore_conflicts=True, update_conflicts=True
        ),
        lambda: authors.bulk_create([Author(name="x")], update_conflicts=True),
        lambda: authors.bulk_update([Author(name="x")], ["name"]),
        lambda: Author(name="x").delete(),
        lambda: Author(name="x").save(using=alias, force_insert=True, force_update=True),
        lambda: Author(name="x").save(using=alias, update_fields=["nonsense"]),
    ]
    for number, call in enumerate(wrong):
        with transaction.atomic(using=alias):
            seen.append((number, attempt(call), connections[alias].needs_rollback))


STORIES = [
    task_in_post_save,
    durable_block_in_a_receiver,
    raising_post_save,
    caught_pre_save_error,
    hooks,
    raising_hook,
    refused_by_the_database,
    a_refused_instance_keeps_its_state,
    results,
    wrong_calls_inside_a_block,
]


def clean(alias):
    with suspend_audit():
        Book.objects.using(alias).all().delete()
        Author.objects.using(alias).all().delete()


def told(story, alias, *, audited):
    clean(alias)
    seen = []
    with nullcontext() if audited else suspend_audit():
        story(alias, seen)
    return seen


@pytest.fixture
def alias(tmp_path, transactional_db):
    with shared_database(tmp_path) as name:
        yield name


@pytest.mark.parametrize("story", STORIES)
def test_a_story_goes_the_same_way_with_the_audit(story, alias):
    without = told(story, alias, audited=False)
    assert AuditRecord.objects.using(alias).count() == 0
    audited = told(story, alias, audited=True)
    assert audited == without


def test_the_stories_are_audited_when_they_should_be(alias):
    told(results, alias, audited=True)
    assert AuditRecord.objects.using(alias).count() > 3


# What the stories show without the audit, so that two wrong answers do not pass as equal


def test_a_worker_finds_the_row_that_post_save_tells_it_of(alias):
    seen = told(task_in_post_save, alias, audited=True)
    assert seen[:2] == [["a"], ["b"]]


def test_a_durable_block_in_a_receiver_works(alias):
    seen = told(durable_block_in_a_receiver, alias, audited=True)
    assert seen == [False, "a", False, "a", ["of a", "of a"]]


def test_a_raising_post_save_receiver_leaves_the_row(alias):
    seen = told(raising_post_save, alias, audited=True)
    assert seen[:2] == [OursError.__name__, ["a"]]


def test_after_a_caught_pre_save_error_the_block_goes_on(alias):
    seen = told(caught_pre_save_error, alias, audited=True)
    assert seen == [OursError.__name__, False, ["a", "b"]]


def test_a_hook_of_post_delete_knows_the_key(alias):
    seen = told(hooks, alias, audited=True)
    assert ("deleted", "a", True) in seen
    assert ("key after delete", None) in seen


class TestHooksInATestCase(TestCase):
    databases = ("default", "other")

    def work(self):
        with self.captureOnCommitCallbacks() as callbacks:
            author = Author.objects.create(name="a")
            with transaction.atomic():
                transaction.on_commit(lambda: None)
                author.save()
                Author.objects.update(name="b")
            with pytest.raises(OursError), transaction.atomic():
                transaction.on_commit(lambda: None)
                raise OursError
            author.delete()
        return len(callbacks)

    def test_as_many_hooks_are_captured_as_without_the_audit(self):
        with suspend_audit():
            without = self.work()
        assert self.work() == without == 1
