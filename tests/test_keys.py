"""How objects are named in the trail."""

import hashlib
import uuid

import pytest
from django.contrib.sessions.models import Session
from django.test import override_settings
from django.utils import timezone

from django_signal_audit import event_signal
from django_signal_audit.keys import object_key, object_type
from django_signal_audit.models import AuditRecord
from tests.testapp.models import Book, BookProxy, Document

SECRET = "k3y0f4l1v3s3ss10n"


def test_a_number_and_its_text_name_the_same_row():
    assert object_key(Book, 5) == object_key(Book, "5") == "5"


def test_a_uuid_has_one_spelling():
    key = uuid.uuid4()
    assert object_key(Document, key.hex) == object_key(Document, key) == str(key)


def test_a_value_the_key_field_refuses_still_names_the_row():
    assert object_key(Book, "no number") == "no number"


def test_a_proxy_has_the_type_of_its_concrete_model():
    assert object_type(BookProxy) == object_type(Book) == "testapp.book"


def test_a_key_that_is_a_secret_is_named_by_its_checksum():
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    assert object_key(Session, SECRET) == f"sha256:{digest}"


@pytest.mark.django_db
@override_settings(SIGNAL_AUDIT={"MODELS": {"*": {}}})
def test_a_session_key_reaches_no_column_of_the_trail():
    session = Session.objects.create(
        session_key=SECRET, session_data="x", expire_date=timezone.now()
    )
    event_signal.send(sender="x", message=f"made {SECRET}", instance=session, other=session)
    Session.objects.filter(pk=SECRET).update(session_data="y")
    session.delete()
    records = list(AuditRecord.objects.values())
    assert len(records) == 4
    assert SECRET not in str(records)


@pytest.mark.django_db
@override_settings(SIGNAL_AUDIT={"MODELS": {"sessions.Session": {}}})
def test_records_of_an_object_with_a_secret_key_are_found():
    session = Session.objects.create(
        session_key=SECRET, session_data="x", expire_date=timezone.now()
    )
    assert AuditRecord.objects.get_for_object(session).count() == 1
