"""The choice itself; what it leaves of a trail is tested with the readers."""

import pytest

from django_signal_audit.models import AuditRecord
from django_signal_audit.trail_filter import TrailFilter
from tests.management.trails import NOON


@pytest.mark.parametrize(
    "wanted",
    [
        {"actor": ""},
        {"object_type": ""},
        {"event": ("model.*", "")},
        {"object_id": "5"},
        {"since": NOON, "until": NOON},
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(wanted):
    with pytest.raises(ValueError, match=r"leave the filter out|needs object_type|before until"):
        TrailFilter(**wanted)


@pytest.mark.django_db
def test_a_trailing_wildcard_is_left_to_the_database():
    narrowed = TrailFilter(event=("model.*",)).narrow(AuditRecord.objects.all())

    assert "LIKE" in str(narrowed.query).upper()
