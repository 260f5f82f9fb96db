"""``ready()`` is the one place where things are connected."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.core.checks.registry import registry as checks
from django.db.models import Model, QuerySet, signals

from django_signal_audit.testing import capture_events
from tests.testapp.models import Author, Watched


def connected():
    wrapped = (Model._save_table, QuerySet.update, QuerySet.bulk_create, Author.from_db.__func__)
    return wrapped, list(signals.post_save.receivers), set(checks.registered_checks)


@pytest.mark.django_db
def test_a_second_ready_changes_nothing():
    before = connected()
    apps.get_app_config("django_signal_audit").ready()
    assert connected() == before

    with capture_events() as events:
        Author.objects.create(name="a")
        Watched.objects.create(name="b")
    assert [e.event for e in events.named("model.*")] == ["model.create"]
    assert len(events.named("signal.post_save")) == 1
