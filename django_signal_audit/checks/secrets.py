"""The check of fields that look sensitive, beyond those that are masked by themselves.

What is certainly a secret is masked without a word. Here are names that may be one: a warning
asks, and an answer in the settings silences it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from django.db import models

from django_signal_audit import conf
from django_signal_audit._patterns import words_of
from django_signal_audit.checks.findings import warning
from django_signal_audit.masking import is_masked, value_field
from django_signal_audit.redaction import redactor

if TYPE_CHECKING:
    from django.core.checks import CheckMessage

    from django_signal_audit.registry import AuditPolicy

    Field = models.Field[Any, Any]

_LIKELY: Final = (  # noqa: SIM905 - reads better than one name per line
    # bank accounts and cards
    "iban,bban,bank account,account iban,routing number,card no,card num,card pan,cc number,cc num,"
    "cc no,"
    # numbers that the state gives to a person
    "tax id,tax number,taxpayer id,fiscal code,national id,national number,national insurance,"
    "insurance number,identity number,identity card,id card,personal number,passport number,"
    "passport no,passport num,passport id,driver license,driver licence,driving license,"
    "driving licence,aadhaar,aadhar,cpf,curp,pesel,dni,bsn,"
    # what opens or proves something
    "puk,licence key,product key,activation key,activation code,serial key,auth key,unlock code,"
    "door code,gate code,alarm code,access code,entry code,login code,reset code,sms code,"
    "recovery phrase,recovery word,seed word,wallet seed,private pem,key material,keystore,"
    "connection string,database url,broker url,dsn"
).split(",")
# The whole name, as a part of a longer one it says something else.
_LIKELY_ALONE: Final = frozenset({"passport", "pem", "seed"})
# A name that ends so is about the secret: passport_country, iban_status.
_ABOUT: Final = frozenset(
    words_of(
        "count total type kind status state country issuer authority format length label policy "
        "provider scheme version verified valid required enabled expiry note"
    )
)
_PHRASES: Final = frozenset(tuple(words_of(name)) for name in _LIKELY)
_ENCRYPTED: Final = frozenset({"encrypted", "fernet", "pgp"})
_HARMLESS: Final = (
    models.BooleanField,
    models.DateField,
    models.DecimalField,
    models.DurationField,
    models.FileField,
    models.FloatField,
    models.TimeField,
)


def secret_warnings(model: type[models.Model], policy: AuditPolicy) -> Iterator[CheckMessage]:
    """Fields of an audited model that are recorded in clear though they look like a secret."""
    if policy.on <= {"m2m"}:
        return
    for field in model._meta.concrete_fields:
        if (
            policy.records_field(field.name)
            and not is_masked(model, field, policy.mask_fields, redactor())
            and looks_sensitive(field)
        ):
            yield warning(
                f"{model._meta.label}: the field {field.name!r} looks sensitive and is recorded "
                "in clear.",
                f"Name it in the policy's mask_fields, or in {conf.SETTING}['SENSITIVE_NAMES'] to "
                f"mask it everywhere; if it is no secret, in {conf.SETTING}['PLAIN_NAMES'].",
                "W061",
            )


def looks_sensitive(field: Field) -> bool:
    """Whether the name or the type of a field says that its values are sensitive."""
    column = value_field(field)
    if field.choices or isinstance(column, _HARMLESS):
        return False
    if field.name.casefold() in {name.strip().casefold() for name in conf.current().PLAIN_NAMES}:
        return False
    # The name of a foreign key is that of another object; what it holds is that one's key.
    words = words_of(column.name)
    if words[-1] not in _ABOUT and _says_likely(words):
        return True
    if (
        len(words) == 1
        and words[0] in _LIKELY_ALONE
        and not isinstance(column, models.IntegerField)
    ):
        return True
    return any(map(_is_sensitive_type, type(column).__mro__))


def _says_likely(words: Sequence[str]) -> bool:
    return any(
        tuple(words[start:end]) in _PHRASES for start, end in combinations(range(len(words) + 1), 2)
    )


def _is_sensitive_type(cls: type) -> bool:
    """Whether a class of columns is made for secrets: ``EncryptedTextField``, ``IBANField``."""
    if cls.__module__.startswith("django.db."):
        return False
    words = words_of(cls.__name__.removesuffix("Field"))
    return (
        not _ENCRYPTED.isdisjoint(words)
        or _says_likely(words)
        or redactor().is_sensitive("_".join(words))
    )
