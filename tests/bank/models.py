"""Models whose fields look sensitive, or only nearly. None is audited by code."""

from django.db import models


class EncryptedTextField(models.TextField):
    """As packages call a field whose column is encrypted: attributes and events are not."""


class Customer(models.Model):
    iban = models.CharField(max_length=40, primary_key=True)
    tax_id = models.IntegerField(null=True)
    passport = models.CharField(max_length=20, blank=True)
    diagnosis = EncryptedTextField(blank=True)
    iban_country = models.CharField(max_length=2, blank=True)
    passport_expires = models.DateField(null=True)
    bank_account_open = models.BooleanField(default=False)
    seed = models.IntegerField(default=0)
    access_code = models.CharField(max_length=1, choices=[("a", "A")], blank=True)
    license = models.CharField(max_length=20, blank=True)
    spinner = models.CharField(max_length=20, blank=True)
    card_number = models.CharField(max_length=20, blank=True)


class Payment(models.Model):
    """Its foreign key holds what the customer's key holds."""

    customer = models.ForeignKey(Customer, models.CASCADE)
