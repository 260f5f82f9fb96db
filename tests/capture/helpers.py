"""What the tests of capture share."""

from django.db import transaction

from django_signal_audit.testing import capture_events


def told(events):
    """The model events as ``(operation, object_id, changes)``, in their order."""
    return [(e.event.removeprefix("model."), e.object_id, e.changes) for e in events]


def recorded(write, *args, **kwargs):
    """The model events of one call."""
    with capture_events() as events:
        write(*args, **kwargs)
    return told(events.named("model.*"))


def settings_for(label="testapp.Plain", **options):
    """``SIGNAL_AUDIT`` that audits a model by settings alone."""
    return {"MODELS": {label: options}}


def rolled_back(write):
    """Call a function in a savepoint and roll it back."""
    with transaction.atomic():
        write()
        transaction.set_rollback(True)
