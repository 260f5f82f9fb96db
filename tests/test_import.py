"""Importing the package is safe at any time: each case in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import django_signal_audit

ROOT = Path(__file__).resolve().parent.parent


def run(code, **environment):
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            **{name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_")},
            **environment,
        },
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_no_settings_are_needed_to_import_the_package_and_every_public_name():
    run("""
        import django_signal_audit
        for name in django_signal_audit.__all__:
            getattr(django_signal_audit, name)
        from django_signal_audit import *
        from django.conf import settings
        assert not settings.configured
    """)


def test_importing_the_package_loads_none_of_its_modules():
    run("""
        import sys, django_signal_audit
        loaded = [name for name in sys.modules if name.startswith("django_signal_audit.")]
        assert loaded == [], loaded
        assert "django" not in sys.modules
    """)


@pytest.mark.parametrize("name", ["audited", "event_signal", "register", "set_actor"])
def test_each_name_can_be_the_first_one_imported_before_setup(name):
    run(
        f"from django_signal_audit import {name}\n"
        "import django\n"
        "django.setup()\n"
        "from django_signal_audit import models\n",
        DJANGO_SETTINGS_MODULE="tests.settings",
    )


def test_a_name_it_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = django_signal_audit.nonsense


def test_dir_and_star_know_the_public_names():
    assert set(django_signal_audit.__all__) <= set(dir(django_signal_audit))


def test_definitions_and_sending_work_with_no_settings_at_all():
    run("""
        from django_signal_audit import audit_context, audit_event, define_event, event_signal
        paid = define_event("order.paid", required=["amount"])
        got = []
        def receiver(sender, **kwargs): got.append((sender, kwargs["amount"]))
        paid.connect(receiver, sender="till")
        paid.send("till", amount=5)
        event_signal.send("anyone", message="early")

        @audit_event("early.act", arguments=["x"])
        def act(x): return x
        with audit_context(ticket=1):
            assert act(3) == 3
        assert got == [("till", 5)]
    """)


MODELS_FIRST = """
    import sys, types
    from django.conf import settings
    settings.configure(
        INSTALLED_APPS=["early", "django_signal_audit", "late"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SIGNAL_AUDIT={"SINKS": {
            "memory": {"BACKEND": "django_signal_audit.sinks.MemorySink"},
            "default": {"BACKEND": "django_signal_audit.sinks.DatabaseSink"},
        }},
    )
    import django
    django.setup()
    from django.core.management import call_command
    from django.db import connection
    from early.models import Order, shipped
    from django_signal_audit.models import AuditRecord
    from django_signal_audit.sinks import routing

    memory = routing.all_routes()[0].sink
    assert [e.event for e in memory.events] == ["in.models", "in.late.ready"], memory.events
    assert all(e.database is None for e in memory.events)
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Order)
    order = Order.objects.create(name="a")
    shipped.send("x", instance=order, box=1)
    names = [record.event for record in AuditRecord.objects.order_by("id")]
    assert names == ["signal.post_save", "model.create", "shipped"] or names == [
        "model.create", "signal.post_save", "shipped"], names
"""


def test_a_models_module_before_the_package_may_use_every_decorator(tmp_path):
    for app in ("early", "late"):
        (tmp_path / app).mkdir()
        (tmp_path / app / "__init__.py").touch()
    (tmp_path / "early" / "models.py").write_text(
        textwrap.dedent("""
            from django.db import models
            from django.db.models.signals import post_save
            from django_signal_audit import audited, audit_signals, define_event, event_signal

            shipped = define_event("shipped", required=["box"])
            event_signal.send("early.models", event="in.models")

            @audit_signals(post_save)
            @audited
            class Order(models.Model):
                name = models.CharField(max_length=50)
        """)
    )
    (tmp_path / "late" / "apps.py").write_text(
        textwrap.dedent("""
            from django.apps import AppConfig
            class Late(AppConfig):
                name = "late"
                def ready(self):
                    from django_signal_audit import event_signal
                    event_signal.send("late", event="in.late.ready")
        """)
    )
    run(MODELS_FIRST, PYTHONPATH=f"{ROOT}:{tmp_path}")


@pytest.mark.parametrize(
    ("setting", "number"),
    [
        ({"MODLES": {}}, "E001"),
        ({"BUFFER_SIZE": 0}, "E002"),
        ({"MODELS": {"testapp.Author": {"mask": ["x"]}}}, "E012"),
        ({"MODELS": {"testapp.Account": {"include_fields": ["email"]}}}, "E014"),
        ({"SINKS": {"x": {"BACKEND": "nowhere.Sink"}}}, "E022"),
        ({"PROCESSORS": ["nowhere.processor"]}, "E026"),
        ({"SIGNALS": {"nowhere.signal": {}}}, "E031"),
    ],
    ids=["key", "value", "option", "contradiction", "sink", "processor", "signal"],
)
def test_a_wrong_setting_ends_as_a_check_error_and_is_said_where_none_is_run(
    setting, number, tmp_path
):
    (tmp_path / "wrong.py").write_text(
        f"from tests.settings import *\nSIGNAL_AUDIT = {setting!r}\n"
    )
    run(
        f"""
        import io, logging, django
        log = io.StringIO()
        logging.getLogger("django_signal_audit").addHandler(logging.StreamHandler(log))
        django.setup()
        assert "The audit trail is not complete" in log.getvalue(), log.getvalue()
        assert "{number}" in log.getvalue(), log.getvalue()
        from django.core.management import call_command
        from django.core.management.base import SystemCheckError
        try:
            call_command("check")
        except SystemCheckError as error:
            assert "django_signal_audit.{number}" in str(error), error
        else:
            raise AssertionError("check found nothing")
        """,
        DJANGO_SETTINGS_MODULE="wrong",
        PYTHONPATH=f"{ROOT}:{tmp_path}",
    )
