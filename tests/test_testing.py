from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import TestCase, override_settings

from django_signal_audit import audit_context, event_signal, set_actor
from django_signal_audit.event import Actor
from django_signal_audit.testing import assert_audited, capture_events
from tests.testapp.models import Author, Book

MEMORY = "django_signal_audit.sinks.MemorySink"


class InTestCase(TestCase):
    """Where COMMIT never comes; the two run in any order."""

    def test_events_are_seen(self):
        with capture_events() as events:
            Author.objects.create(name="a")
        assert [event.event for event in events] == ["model.create"]

    def test_events_are_seen_again(self):
        with assert_audited("model.create", count=1):
            Author.objects.create(name="a")

    def test_events_of_a_rolled_back_block_are_seen_because_they_were_made(self):
        with capture_events() as events, transaction.atomic():
            Author.objects.create(name="a")
            transaction.set_rollback(True)
        assert len(events) == 1


pytestmark = pytest.mark.django_db


def test_whatever_the_sinks_are():
    with override_settings(SIGNAL_AUDIT={"SINKS": {}}), capture_events() as events:
        Author.objects.create(name="a")
        event_signal.send("x")

    assert [event.event for event in events] == ["model.create", "event"]


def test_blocks_nest():
    with capture_events() as outer:
        event_signal.send("x", event="a")
        with capture_events() as inner:
            event_signal.send("x", event="b")
        event_signal.send("x", event="c")

    assert [event.event for event in outer] == ["a", "b", "c"]
    assert [event.event for event in inner] == ["b"]


def test_events_of_all_threads_are_collected():
    with override_settings(SIGNAL_AUDIT={"SINKS": {}}), capture_events() as events:
        threads = [
            threading.Thread(target=lambda: [event_signal.send("x") for _ in range(50)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(events) == 400


def test_after_an_exception_nothing_more_is_collected():
    with pytest.raises(LookupError), capture_events() as events:
        raise LookupError
    event_signal.send("x")

    assert events == []


def test_named_and_of():
    with capture_events() as events:
        author, other = Author.objects.create(name="a"), Author.objects.create(name="b")
        event_signal.send("x", event="shift.assigned", instance=author)

    assert [e.object_repr for e in events.named("model.*")] == ["a", "b"]
    assert [e.event for e in events.of(author)] == ["model.create", "shift.assigned"]
    assert [e.event for e in events.of(other)] == ["model.create"]


def test_assert_audited_passes_on_a_match():
    author = Author.objects.create(name="a")
    zoe = User.objects.create_user("zoe")
    with (
        assert_audited(
            "model.*",
            author,
            changes={"name": ["a", "b"]},
            reason="asked",
            actor=zoe,
            on_behalf_of="support",
        ) as events,
        set_actor(zoe, on_behalf_of="support"),
        audit_context(reason="asked"),
    ):
        author.name = "b"
        author.save()

    assert len(events) == 1


def test_the_object_may_be_made_in_the_block():
    book = Book(title="t")
    with assert_audited("model.create", book):
        book.save()


def create_and_send():
    author = Author.objects.create(name="a")
    event_signal.send("x", event="shift.assigned", shift=5)
    return author


@pytest.mark.parametrize("count", [None, 2])
def test_it_fails_when_nothing_matches_and_shows_what_was_recorded(count):
    wanted = "at least one" if count is None else "2"
    with (
        pytest.raises(AssertionError) as caught,
        assert_audited("model.update", changes={"name": ["a", "b"]}, reason="x", count=count),
    ):
        author = create_and_send()

    message = str(caught.value)
    assert message.startswith(
        f"expected {wanted} 'model.update' event(s) with changes {{'name': ['a', 'b']}}, with "
        "reason='x', found 0. Recorded:\n"
    )
    assert f"  model.create testapp.author {author.pk} {{'id': [None, {author.pk}]" in message
    assert "  shift.assigned {'shift': 5}" in message


def test_it_fails_when_it_was_another_object_and_names_the_one_that_was_meant():
    meant = Author.objects.create(name="a")
    with (
        pytest.raises(AssertionError) as caught,
        assert_audited("model.create", meant),
    ):
        Author.objects.create(name="b")

    assert str(caught.value).startswith(
        f"expected at least one 'model.create' event(s) about testapp.Author {meant.pk}, found 0."
    )


def test_it_fails_when_nothing_was_recorded_at_all():
    with pytest.raises(AssertionError, match=r"Recorded:\n  \(nothing\)"), assert_audited("x.*"):
        pass


def test_count_zero_means_none():
    with assert_audited("model.create", count=0):
        pass
    with (
        pytest.raises(AssertionError, match=r"expected 0 .* found 1"),
        assert_audited("model.create", count=0),
    ):
        Author.objects.create(name="a")


@pytest.mark.parametrize("changes", [{"name": [None, "b"]}, {"nonsense": None}])
def test_changes_must_match_exactly_where_they_are_named(changes):
    with (
        pytest.raises(AssertionError, match="found 0"),
        assert_audited("model.create", changes=changes),
    ):
        Author.objects.create(name="a")


def test_an_attribute_that_events_do_not_have_is_a_type_error():
    with (
        pytest.raises(TypeError, match=r"An event has no 'resaon'. Did you mean 'reason'\?"),
        assert_audited("x", resaon="x"),
    ):
        pass


def test_an_exception_in_the_block_is_the_one_that_is_raised():
    with pytest.raises(LookupError), assert_audited("x"):
        raise LookupError


def test_actors_may_be_given_as_they_are_recorded():
    with assert_audited("x.y", actor=Actor("service", "job", "job")), set_actor("job"):
        event_signal.send("x", event="x.y")
    with assert_audited("x.y", actor=None):
        event_signal.send("x", event="x.y")
