import pytest
from django.db import models, transaction

from django_signal_audit import event_signal
from django_signal_audit.models import AuditRecord
from tests.testapp.models import *

R = AuditRecord.objects


def show():
    for r in R.order_by("id"):
        print(
            r.event,
            r.object_type,
            r.object_id,
            r.object_repr,
            r.changes,
            r.data,
            r.rolled_back,
            r.message,
        )


@pytest.mark.django_db(transaction=True)
def test_all():
    a = Author.objects.create(name="A")
    b = Book.objects.create(title="T", author=a, price="1.50")
    b.title = "U"
    b.save()
    b.save()
    Book.objects.update(stock=models.F("stock") + 1)
    t1 = Tag.objects.create(name="x")
    t2 = Tag.objects.create(name="y")
    b.tags.add(t1)
    b.tags.set([t2])
    t2.books.remove(b)
    b.tags.set([t1, t2])
    b.tags.clear()
    Chapter.objects.bulk_create([Chapter(book=b, number=i) for i in range(3)])
    Chapter.objects.filter(number=1).delete()
    Account.objects.create(email="a@b.c", api_token="sekret123", address="x")
    d = Document.objects.create(body="abc")
    d.body = "abcd"
    d.save()
    r = Restaurant.objects.create(name="r", stars=1)
    r.name = "q"
    r.save()
    r.delete()
    tw = Tower.objects.create()
    q = Quick.objects.get(pk=Quick.objects.create(name="n").pk)
    q.name = "m"
    q.save()
    try:
        with transaction.atomic():
            Author.objects.create(name="gone")
            event_signal.send(sender="x", message="survivor")
            1 / 0
    except ZeroDivisionError:
        pass
    a.delete()
    b.delete()
    show()


@pytest.mark.django_db
def test_in():
    a = Author.objects.create(name="A")
    assert R.count() == 1
    a.name = "B"
    a.save()
    assert R.get_for_object(a).count() == 2
    s = (
        transaction.savepoint()
        if not hasattr(transaction, "savepoint_create")
        else transaction.savepoint_create()
    )
    a.delete()
    assert R.count() == 3
    transaction.savepoint_rollback(s)
    assert R.count() == 2
