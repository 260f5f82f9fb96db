"""``coalesce=True``: several saves of one object in one transaction are one event."""

import pytest
from django.db import connection, transaction
from django.test import override_settings

from django_signal_audit import audit_context
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks.memory import MemorySink
from django_signal_audit.sinks.routing import all_routes
from django_signal_audit.testing import capture_events
from tests.capture.helpers import settings_for
from tests.testapp.models import Draft, Plain

pytestmark = pytest.mark.django_db(transaction=True)


def trail():
    return [
        (r.event.removeprefix("model."), r.changes, r.data)
        for r in AuditRecord.objects.order_by("pk")
    ]


def test_a_create_and_its_saves_are_one_create():
    with transaction.atomic():
        draft = Draft.objects.create(title="a")
        for title in "bcd":
            draft.title = title
            draft.save()
        draft.words = 3
        draft.save(update_fields=["words"])
    [(operation, changes, data)] = trail()
    assert (operation, data) == ("create", {"coalesced": 5})
    assert changes == {
        "id": [None, draft.pk],
        "title": [None, "d"],
        "words": [None, 3],
        "api_token": [None, "[redacted]"],
    }
    assert AuditRecord.objects.get().object_repr == "d"


def test_updates_are_one_update_and_other_objects_keep_theirs():
    one, two = Draft.objects.create(title="a"), Draft.objects.create(title="x")
    before = len(trail())
    with transaction.atomic():
        for number in range(1, 4):
            one.words, two.words = number, number * 10
            one.save()
            two.save()
    assert trail()[before:] == [
        ("update", {"words": [0, 3]}, {"coalesced": 3}),
        ("update", {"words": [0, 30]}, {"coalesced": 3}),
    ]


def test_saves_that_come_to_nothing_are_no_event_but_a_masked_column_stays():
    with transaction.atomic():
        draft = Draft.objects.create()
    before = len(trail())
    with transaction.atomic():
        for title, token in (("b", ""), ("", "")):
            draft.title, draft.api_token = title, token
            draft.save()
    assert trail()[before:] == []
    with transaction.atomic():
        for token in ("t0ken", ""):
            draft.api_token = token
            draft.save()
    assert trail()[before:] == [
        ("update", {"api_token": ["[redacted]", "[redacted]"]}, {"coalesced": 2})
    ]


@override_settings(SIGNAL_AUDIT={"RECORD_UNCHANGED": True})
def test_saves_that_come_to_nothing_are_recorded_if_the_setting_says_so():
    draft = Draft.objects.create()
    before = len(trail())
    with transaction.atomic():
        draft.save()
        draft.save()
    assert trail()[before:] == [("update", {}, {"coalesced": 2})]


def test_in_autocommit_each_save_is_its_own_transaction():
    draft = Draft.objects.create(title="a")
    draft.title = "b"
    draft.save()
    assert [(operation, data) for operation, _, data in trail()] == [("create", {}), ("update", {})]


def test_a_rolled_back_savepoint_takes_its_saves_with_it():
    with transaction.atomic():
        draft = Draft.objects.create(title="a")
        with transaction.atomic():
            draft.title = "gone"
            draft.save()
            transaction.set_rollback(True)
        draft.title = "b"
        draft.save()
        with transaction.atomic():
            draft.title = "c"
            draft.save()
    [(operation, changes, data)] = trail()
    assert (operation, changes["title"], data) == ("create", [None, "c"], {"coalesced": 3})


def test_what_is_written_in_an_open_savepoint_can_still_be_undone():
    with transaction.atomic():
        draft = Draft.objects.create(title="a")
        with transaction.atomic():
            for title in "bc":
                draft.title = title
                draft.save()
            assert [data for _, _, data in trail()] == [{}, {"coalesced": 2}]
            transaction.set_rollback(True)
        draft.title = "d"
        draft.save()
    [(operation, changes, data)] = trail()
    assert (operation, changes["title"], data) == ("create", [None, "d"], {"coalesced": 2})


def test_a_read_of_the_trail_writes_what_is_there_and_later_saves_stand_alone():
    with transaction.atomic():
        draft = Draft.objects.create(title="a")
        draft.title = "b"
        draft.save()
        assert len(trail()) == 1
        draft.title = "c"
        draft.save()
    assert [(operation, data) for operation, _, data in trail()] == [
        ("create", {"coalesced": 2}),
        ("update", {}),
    ]


def test_a_full_buffer_folds_what_it_holds():
    setting = {"BUFFER_SIZE": 3}
    with override_settings(SIGNAL_AUDIT=setting), transaction.atomic():
        draft = Draft.objects.create(title="a")
        for title in "bcdef":
            draft.title = title
            draft.save()
    assert [(changes["title"], data) for _, changes, data in trail()] == [
        ([None, "c"], {"coalesced": 3}),
        (["c", "f"], {"coalesced": 3}),
    ]


def test_a_delete_ends_the_run():
    with transaction.atomic():
        draft = Draft.objects.create(title="a")
        key = draft.pk
        draft.title = "b"
        draft.save()
        draft.delete()
        again = Draft.objects.create(pk=key, title="x")
        again.title = "y"
        again.save()
    assert [(operation, changes["title"]) for operation, changes, _ in trail()] == [
        ("create", [None, "b"]),
        ("delete", ["b", None]),
        ("create", [None, "y"]),
    ]


def test_bulk_writes_stay_as_they_are_and_end_the_run():
    with transaction.atomic():
        draft = Draft.objects.create(title="a")
        Draft.objects.filter(pk=draft.pk).update(title="bulk")
        draft.title = "b"
        draft.save()
        draft.title = "c"
        draft.save()
        Draft.objects.bulk_update([draft], ["title"])
    assert [(operation, changes["title"]) for operation, changes, _ in trail()] == [
        ("create", [None, "a"]),
        ("update", ["a", "bulk"]),
        ("update", ["bulk", "c"]),
    ]


def test_many_to_many_changes_do_not_end_the_run():
    label = Plain.objects.create(name="l")
    with transaction.atomic():
        draft = Draft.objects.create(title="a")
        draft.labels.add(label)
        draft.title = "b"
        draft.save()
    assert [(operation, data.get("coalesced")) for operation, _, data in trail()] == [
        ("create", 2),
        ("m2m", None),
    ]


def test_what_somebody_wrote_unseen_in_between_keeps_the_saves_apart():
    with transaction.atomic():
        draft = Draft.objects.create(title="a")
        draft.title = "b"
        with connection.cursor() as cursor:
            table = connection.ops.quote_name(Draft._meta.db_table)
            cursor.execute(f"UPDATE {table} SET title = 'raw'")
        draft.save()
    assert [changes["title"] for _, changes, _ in trail()] == [[None, "a"], ["raw", "b"]]


def test_saves_of_several_people_and_reasons_stay_apart():
    with transaction.atomic():
        with audit_context(reason="first"):
            draft = Draft.objects.create(title="a")
            draft.title = "b"
            draft.save()
        with audit_context(reason="second"):
            draft.title = "c"
            draft.save()
    assert list(AuditRecord.objects.order_by("pk").values_list("reason", flat=True)) == [
        "first",
        "second",
    ]


def test_without_the_option_each_save_is_an_event():
    with override_settings(SIGNAL_AUDIT=settings_for("testapp.Draft", coalesce=False)):
        with transaction.atomic():
            draft = Draft.objects.create(title="a")
            draft.title = "b"
            draft.save()
        assert [(operation, data) for operation, _, data in trail()] == [
            ("create", {}),
            ("update", {}),
        ]


def test_sinks_after_commit_see_the_one_event_and_capture_each():
    setting = {"SINKS": {"memory": {"BACKEND": MemorySink}}}
    with override_settings(SIGNAL_AUDIT=setting):
        with capture_events() as made, transaction.atomic():
            draft = Draft.objects.create(title="a")
            draft.title = "b"
            draft.save()
        [route] = all_routes()
        [event] = route.sink.events
    assert len(made) == 2
    assert (event.id, event.timestamp) == (made[0].id, made[0].timestamp)
    assert (event.changes["title"], event.data) == ([None, "b"], {"coalesced": 2})


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_an_object_with_the_same_key_in_another_database_is_another_object():
    with transaction.atomic(), transaction.atomic(using="other"):
        for alias in ("default", "other"):
            Draft(pk=5, title="a").save(using=alias)
            Draft(pk=5, title="b").save(using=alias)
    for alias in ("default", "other"):
        [record] = AuditRecord.objects.using(alias).all()
        assert (record.database, record.changes["title"]) == (alias, [None, "b"])
