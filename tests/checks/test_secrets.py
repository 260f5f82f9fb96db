"""Fields that look sensitive and are recorded in clear."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import models

from django_signal_audit.checks import check_models
from django_signal_audit.checks.secrets import looks_sensitive
from django_signal_audit.testing import capture_events
from tests.bank.models import EncryptedTextField
from tests.checks.helpers import audit, warning

HINT = (
    "Name it in the policy's mask_fields, or in SIGNAL_AUDIT['SENSITIVE_NAMES'] to mask it "
    "everywhere; if it is no secret, in SIGNAL_AUDIT['PLAIN_NAMES']."
)


def suspicion(label, name):
    return warning(
        "W061", f"{label}: the field {name!r} looks sensitive and is recorded in clear.", HINT
    )


def customer(**options):
    return {"bank.Customer": options}


def names(found):
    return [message.msg.split("'")[1] for message in found]


def test_w061_fields_that_look_sensitive_by_name_or_type():
    with audit(MODELS=customer()):
        assert check_models() == [
            suspicion("bank.Customer", "iban"),
            suspicion("bank.Customer", "tax_id"),
            suspicion("bank.Customer", "passport"),
            suspicion("bank.Customer", "diagnosis"),
        ]


def test_w061_a_foreign_key_to_a_sensitive_key():
    with audit(MODELS={"bank.Payment": {}}):
        assert check_models() == [suspicion("bank.Payment", "customer")]


@pytest.mark.parametrize(
    "setting",
    [
        {"MODELS": customer(mask_fields=["iban"])},
        {"MODELS": customer(exclude_fields=["iban"])},
        {"MODELS": customer(include_fields=["tax_id", "passport", "diagnosis"])},
        {"MODELS": customer(), "SENSITIVE_NAMES": ["iban"]},
        {"MODELS": customer(), "PLAIN_NAMES": [" IBAN"]},
    ],
    ids=["masked", "excluded", "not included", "masked everywhere", "plain"],
)
def test_an_answer_silences_it(setting):
    with audit(**setting):
        assert names(check_models()) == ["tax_id", "passport", "diagnosis"]


def test_a_model_of_which_no_column_is_recorded_is_not_asked_about():
    with audit(MODELS=customer(on=["m2m"])):
        assert check_models() == []


def test_the_password_of_a_user_stays_masked_even_if_it_is_called_plain(db):
    with audit(MODELS={"auth.User": {}}, PLAIN_NAMES=["password"]):
        assert check_models() == []
        with capture_events() as events:
            User.objects.create_user("u", password="hunter2")
    assert events[0].changes["password"] == [None, "[redacted]"]


def test_the_models_of_django_and_of_the_tests_raise_no_false_alarm():
    """Every model audited, not a field suspected but those made for it."""
    with audit(MODELS={"*": {}}):
        assert {message.msg.partition(":")[0] for message in check_models()} == {
            "bank.Customer",
            "bank.Payment",
        }


SUSPECTED = [
    "iban",
    "IBAN",
    "customer_iban",
    "payout_iban",
    "iban2",
    "bank_account",
    "bank_account_no",
    "bankAccount",
    "tax_id",
    "taxpayer_id",
    "national_id",
    "national_insurance_number",
    "passport",
    "passport_number",
    "passport_no",
    "driving_licence",
    "identity_card",
    "card_no",
    "cc_num",
    "licence_key",
    "product_key",
    "activation_code",
    "door_code",
    "access_code",
    "recovery_phrase",
    "wallet_seed",
    "seed",
    "private_pem",
    "database_url",
    "sentry_dsn",
    "puk",
    "cpf",
]
PLAIN = [
    "spinner",
    "pincushion",
    "license",
    "license_plate",
    "account_number",
    "number",
    "title",
    "currency_iso",
    "state",
    "iban_country",
    "iban_status",
    "iban_count",
    "passport_country",
    "passport_type",
    "tax",
    "taxes",
    "tax_code",
    "tax_rate",
    "seeds_planted",
    "seeded",
    "idcard_note",
    "identity",
    "national",
    "country_code",
    "postcode",
    "code",
    "access",
    "sort_code",
    "card",
    "cards",
    "id_number",
    "email",
    "address",
    "phone",
    "date_of_birth",
    "salary",
]


@pytest.mark.parametrize("name", SUSPECTED)
def test_a_suspected_name(name):
    assert looks_sensitive(named(models.CharField(), name))


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_that_says_nothing_of_the_kind(name):
    assert not looks_sensitive(named(models.CharField(), name))


@pytest.mark.parametrize(
    "field",
    [
        models.BooleanField(),
        models.DateField(),
        models.DateTimeField(),
        models.FileField(),
        models.FloatField(),
        models.CharField(choices=[("a", "A")]),
    ],
    ids=lambda field: type(field).__name__,
)
def test_a_type_that_holds_no_secret(field):
    assert not looks_sensitive(named(field, "iban"))


class IBANField(models.CharField):
    pass


class CardNumberField(models.CharField):
    pass


class Pages(models.JSONField):
    pass


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(EncryptedTextField, True), (IBANField, True), (CardNumberField, True), (Pages, False)],
)
def test_a_type_made_for_secrets(kind, expected):
    assert looks_sensitive(named(kind(), "value")) is expected


def named(field, name):
    field.set_attributes_from_name(name)
    return field


def test_the_suite_has_models_of_each_application():
    """So that the test for false alarms means something."""
    assert {config.label for config in apps.get_app_configs()} >= {"auth", "sessions", "testapp"}
