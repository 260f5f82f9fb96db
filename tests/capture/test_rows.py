"""Which rows a queryset means, and in which pieces they come."""

from __future__ import annotations

import pytest

from django_signal_audit.capture.images import CHUNK
from django_signal_audit.capture.plans import plan_for
from django_signal_audit.capture.rows import rows_of
from django_signal_audit.registry import policy_for
from tests.testapp.models import Author

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1])
def test_rows_come_in_chunks_and_once(count):
    Author.objects.bulk_create([Author(name=f"{i}") for i in range(count)])
    chunks = list(
        rows_of(Author.objects.all(), plan_for(Author, policy_for(Author)).fields, "default")
    )
    assert [len(keys) for keys, _ in chunks] == [
        size for size in (min(count, CHUNK), count - CHUNK) if size > 0
    ]
    names = [image["name"] for _, images in chunks for image in images.values()]
    assert sorted(names, key=int) == [f"{i}" for i in range(count)]
    assert all(keys == list(images) or set(keys) == set(images) for keys, images in chunks)
