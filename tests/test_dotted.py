from __future__ import annotations

import pytest
from django.dispatch import Signal

from django_signal_audit.dotted import load, nearest_path
from django_signal_audit.exceptions import AuditConfigurationError

order_paid = Signal()
_order_prepaid = Signal()


def is_signal(found):
    return isinstance(found, Signal)


@pytest.mark.parametrize(
    "path",
    [
        "tests.test_dotted.order_payd",
        "tests.test_dotted.Order_Paid",
        "tests.test_doted.order_paid",
        "tests.test_doted.order_payd",
        "tsts.test_doted.order_pad",
    ],
)
def test_each_part_of_a_path_may_be_mistyped(path):
    assert nearest_path(path, is_signal) == "Did you mean 'tests.test_dotted.order_paid'?"


def test_a_private_name_is_not_advised():
    advice = nearest_path("tests.test_dotted._order_prepad", is_signal)
    assert advice == "Did you mean 'tests.test_dotted.order_paid'?"


@pytest.mark.parametrize(
    "path",
    [
        "order_paid",
        "",
        ".",
        "..order_paid",
        "tests.test_dotted.is_signal",  # near to none that fits
        "tests.zzzzzz.order_paid",
        "zzzzzz.test_dotted.order_paid",
        "tests.broken.order_paid",  # it is there and cannot be imported
        "tests.test_dotted.order_paid.inner",  # no package
    ],
)
def test_where_nothing_is_near_nothing_is_advised(path):
    assert nearest_path(path, is_signal) == ""


def test_what_can_be_imported_is_loaded_without_looking_for_advice():
    found = load("tests.test_dotted.order_paid", "No signal", advice=pytest.fail, number="E031")
    assert found is order_paid


def test_what_cannot_be_imported_is_refused_with_its_reason_and_advice():
    with pytest.raises(AuditConfigurationError) as caught:
        load("tests.broken.signal", "No signal", advice=lambda: "Write one.", number="E031")

    error = caught.value
    assert str(error).startswith("No signal (")
    assert (error.hint, error.number) == ("Write one.", "E031")
    assert error.__cause__ is not None
