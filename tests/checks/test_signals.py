"""Entries of SIGNALS."""

from __future__ import annotations

import pytest

from django_signal_audit.checks import check_settings, settings_are_sound
from tests.checks.helpers import audit, error

POST_SAVE = "django.db.models.signals.post_save"
ADVICE = "Write the dotted path of a django.dispatch.Signal, such as 'shop.signals.order_paid'."


def found_for(path, said):
    with audit(SIGNALS={path: said}):
        assert not settings_are_sound()
        return check_settings()


@pytest.mark.parametrize(
    ("path", "problem", "hint"),
    [
        (
            "nowhere.order_paid",
            ": the signal cannot be imported (No module named 'nowhere').",
            ADVICE,
        ),
        (
            "django.contrib.auth.signals.user_loged_in",
            (
                ': the signal cannot be imported (Module "django.contrib.auth.signals" does not '
                'define a "user_loged_in" attribute/class).'
            ),
            "Did you mean 'django.contrib.auth.signals.user_logged_in'?",
        ),
        (
            "django.contrib.auth.signal.user_logged_in",
            ": the signal cannot be imported (No module named 'django.contrib.auth.signal').",
            "Did you mean 'django.contrib.auth.signals.user_logged_in'?",
        ),
        (
            "tests.broken.signal",
            ": the signal cannot be imported (RuntimeError: not today).",
            ADVICE,
        ),
        ("django.test.TestCase", " is a type, no Signal.", ADVICE),
    ],
)
def test_e031_no_signal(path, problem, hint):
    where = f"SIGNAL_AUDIT['SIGNALS'][{path!r}]"
    assert found_for(path, {}) == [error("E031", f"{where}{problem}", hint)]


@pytest.mark.parametrize(
    ("said", "problem", "hint"),
    [
        ([], " is [].", "Write a dict, such as {'event': 'order.paid'}."),
        ({"evnt": "x"}, " has no key 'evnt'.", "Did you mean 'event'?"),
        ({"event": ""}, ": the event's name is ''.", "Write a text, such as 'shift.assigned'."),
        ({"level": "warn"}, ": level 'warn' is no level.", "Did you mean 'warning'?"),
    ],
)
def test_e032_wrong_options(said, problem, hint):
    where = f"SIGNAL_AUDIT['SIGNALS'][{POST_SAVE!r}]"
    assert found_for(POST_SAVE, said) == [error("E032", f"{where}{problem}", hint)]
