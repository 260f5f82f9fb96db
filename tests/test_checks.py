from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import Group
from django.core import checks
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from django_signal_audit import register
from django_signal_audit.checks import (
    check_deployment,
    check_models,
    check_settings,
    check_tables,
    settings_are_sound,
)
from django_signal_audit.models import AuditRecord
from tests.test_registry import _registrations  # noqa: F401 - a fixture

HINT = "See docs/reference/settings.md."
MEMORY = "django_signal_audit.sinks.MemorySink"
FILE = "django_signal_audit.sinks.FileSink"


def error(number, message, hint=HINT):
    return checks.Error(message, hint=hint, id=f"django_signal_audit.{number}")


def audit(**setting):
    return override_settings(SIGNAL_AUDIT=setting)


def test_right_settings_have_no_messages():
    assert check_settings() == []
    assert check_models() == []
    assert settings_are_sound()


def test_the_checks_are_registered():
    with audit(MODLES={}):
        messages = checks.run_checks(tags=["signal_audit"])

    assert [message.id for message in messages] == ["django_signal_audit.E001"]


def test_e001_an_unknown_key():
    with audit(MODLES={}):
        assert check_settings() == [
            error("E001", "SIGNAL_AUDIT has no key 'MODLES'. Did you mean 'MODELS'?")
        ]
        assert check_models() == check_tables(databases=["default"]) == check_deployment() == []
        assert not settings_are_sound()


def test_e001_a_wrong_type():
    with override_settings(SIGNAL_AUDIT=None):
        assert check_settings() == [
            error(
                "E001",
                "SIGNAL_AUDIT must be a dict such as {'MODELS': {'shop.Order': {}}}, not NoneType.",
            )
        ]


def test_e002_a_wrong_entry_of_models():
    with audit(
        MODELS={"testapp.Plain": {"mask": []}, "testapp.Tag": None, "auth.*": {"on": ["x"]}}
    ):
        assert check_settings() == [
            error(
                "E002",
                "SIGNAL_AUDIT['MODELS']['testapp.Plain']: there is no audit option 'mask'. "
                "Did you mean 'mask_fields'?",
            ),
            error(
                "E002",
                "SIGNAL_AUDIT['MODELS']['testapp.Tag'] must be a dict of options, or False to "
                "exclude it, not None.",
            ),
            error(
                "E002",
                "SIGNAL_AUDIT['MODELS']['auth.*']: on='x' is no operation. Choose one of "
                "'create', 'delete', 'm2m', 'update'.",
            ),
        ]
        assert not settings_are_sound()


CONTRADICTION = (
    "give include_fields or exclude_fields, not both; a field that is not included is excluded "
    "already. If one is in the code and one in the settings, switch the code's off in the "
    "settings: 'include_fields': None or 'exclude_fields': []."
)


def test_e002_include_with_exclude_in_the_settings_is_said_once():
    with audit(MODELS={"*": {"include_fields": ["id"], "exclude_fields": ["name"]}}):
        assert check_settings() == [error("E002", f"SIGNAL_AUDIT['MODELS']['*']: {CONTRADICTION}")]


def test_e002_include_in_the_settings_with_exclude_in_the_code():
    with audit(MODELS={"testapp.Account": {"include_fields": ["email"]}}):
        assert check_settings() == []
        assert check_models() == [error("E002", f"testapp.account: {CONTRADICTION}")]
        assert not settings_are_sound()


def test_e002_include_with_exclude_in_the_code():
    register(Group, include_fields=["id"], exclude_fields=["name"])

    assert check_models() == [error("E002", f"auth.group: {CONTRADICTION}")]


def test_e003_sinks_that_cannot_be_built():
    with audit(SINKS={"a": {"BACKEND": MEMORY, "ON_ERROR": "raise"}, "b": {"BACKEND": "x.Y"}}):
        found = check_settings()

    assert found == [
        error(
            "E003",
            "SIGNAL_AUDIT['SINKS']['a']['ON_ERROR'] = 'raise' would be a lie: MemorySink writes "
            "after COMMIT, when nothing can be rolled back any more. Use 'log'.",
        ),
        error(
            "E003",
            "SIGNAL_AUDIT['SINKS']['b']: cannot import BACKEND 'x.Y' (No module named 'x'). "
            "Choose one of 'django_signal_audit.sinks.DatabaseSink', "
            "'django_signal_audit.sinks.FileSink', 'django_signal_audit.sinks.MemorySink', "
            "'django_signal_audit.sinks.StdoutSink'.",
        ),
    ]


@pytest.mark.parametrize(
    ("path", "said", "message"),
    [
        (
            "nowhere.signal",
            {},
            (
                "cannot import the signal (No module named 'nowhere'). Write the dotted path of a "
                "django.dispatch.Signal, such as 'shop.signals.order_paid'."
            ),
        ),
        (
            "django.db.models.signals.post_save",
            [],
            "must be a dict such as {'event': 'order.paid'}, not [].",
        ),
        (
            "django.db.models.signals.post_save",
            {"evnt": "x"},
            "has no key 'evnt'. Did you mean 'event'?",
        ),
        (
            "django.db.models.signals.post_save",
            {"level": "loud"},
            (
                "level 'loud' is no level. Choose one of 'critical', 'debug', 'error', 'info', "
                "'warning'."
            ),
        ),
        ("django.test.TestCase", {}, "is a type, no Signal."),
    ],
)
def test_e004_wrong_entries_of_signals(path, said, message):
    with audit(SIGNALS={path: said}):
        found = check_settings()
        assert not settings_are_sound()

    where = f"SIGNAL_AUDIT['SIGNALS'][{path!r}]"
    colon = "" if message.startswith(("must", "has", "is")) else ":"
    assert found == [error("E004", f"{where}{colon} {message}")]


def test_e005_labels_of_models_and_apps_that_do_not_exist():
    register("auth.Grup")
    sinks = {"a": {"BACKEND": MEMORY, "MODELS": ["testapp.Autor", "testapp.*", "*.author", "*"]}}
    labels = {"testapp.Plian": {}, "tstapp.*": {}, "TESTAPP.plain": {}, "*": {}}
    with audit(MODELS=labels, SINKS=sinks):
        found = check_models()

    assert found == [
        error(
            "E005",
            "SIGNAL_AUDIT['MODELS'] names the model 'testapp.Plian', which does not exist. "
            "Did you mean 'testapp.Plain'?",
        ),
        error(
            "E005",
            "SIGNAL_AUDIT['MODELS'] names the app 'tstapp', which is not installed. "
            "Did you mean 'testapp'?",
        ),
        error(
            "E005",
            "SIGNAL_AUDIT['SINKS']['a']['MODELS'] names the model 'testapp.autor', which does "
            "not exist. Did you mean 'testapp.Author'?".replace("autor", "Autor"),
        ),
        error(
            "E005",
            "register() names the model 'auth.grup', which does not exist. "
            "Did you mean 'auth.Group'?",
        ),
    ]


def test_e005_a_table_that_django_makes_for_a_relation():
    with audit(MODELS={"testapp.Book_tags": {}}):
        found = check_models()

    assert found == [
        error(
            "E005",
            "SIGNAL_AUDIT['MODELS'] names 'testapp.Book_tags', the table Django makes for a "
            "many-to-many field. Its changes are recorded as those of testapp.Book; name that "
            "model.",
        )
    ]


def test_e006_fields_that_do_not_exist():
    options = {"mask_fields": ["titel", "author_id", "chapters"], "m2m_fields": ["tag"]}
    with audit(MODELS={"testapp.Book": options, "testapp.Plain": {"m2m_fields": ["tags"]}}):
        found = check_models()

    columns = "'author', 'id', 'meta', 'price', 'published', 'readers', 'stock', 'tags', 'title', "
    masked = "testapp.Book: mask_fields names {}, which is no field with a column or many-to-many "
    many = "{} names {}, which is no many-to-many field. {}"
    assert [message.msg for message in found] == [
        masked.format("'author_id'") + "field. Did you mean 'author'?",
        masked.format("'chapters'") + f"field. Choose one of {columns}'updated'.",
        masked.format("'titel'") + "field. Did you mean 'title'?",
        many.format("testapp.Book: m2m_fields", "'tag'", "Did you mean 'tags'?"),
        many.format("testapp.Plain: m2m_fields", "'tags'", "The model has none."),
    ]
    assert {(message.id, message.hint) for message in found} == {("django_signal_audit.E006", HINT)}


def test_e007_sinks_of_a_policy_that_do_not_exist():
    with audit(MODELS={"testapp.Plain": {"sinks": ["defalt"]}}):
        assert check_models() == [
            error(
                "E007",
                "testapp.Plain: sinks names 'defalt', which is not in SIGNAL_AUDIT['SINKS']. "
                "Did you mean 'default'?",
            )
        ]


def test_w101_no_sink_at_all():
    with audit(SINKS={}):
        assert check_settings() == [
            checks.Warning(
                "SIGNAL_AUDIT['SINKS'] is empty: no event goes anywhere.",
                hint="Leave SINKS out for the database sink, or name a sink.",
                id="django_signal_audit.W101",
            )
        ]


def test_w102_a_sink_for_development_under_deploy():
    with audit(
        SINKS={"a": {"BACKEND": MEMORY}, "b": {"BACKEND": "django_signal_audit.sinks.StdoutSink"}}
    ):
        assert check_deployment() == [
            checks.Warning(
                "SIGNAL_AUDIT['SINKS']['a'] is a MemorySink, which is made for development: its "
                "events do not outlive the process.",
                hint="Use another sink in production.",
                id="django_signal_audit.W102",
            )
        ]
        assert check_settings() == []
        deployed = checks.run_checks(tags=["signal_audit"], include_deployment_checks=True)
        assert [message.id for message in deployed] == ["django_signal_audit.W102"]


def paths(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    return {
        "E201": tmp_path / "missing" / "audit.jsonl",
        "E202": tmp_path,
        "E203": tmp_path / "file" / "audit.jsonl",
        "E204": tmp_path / "link",
        "E205": "/dev/null",
    }


@pytest.mark.parametrize("number", ["E201", "E202", "E203", "E204", "E205"])
def test_the_sinks_own_messages_are_among_the_checks(number, tmp_path):
    path = str(paths(tmp_path)[number])
    with audit(SINKS={"file": {"BACKEND": FILE, "OPTIONS": {"path": path}}}):
        found = check_settings()

    assert [message.id for message in found] == [f"django_signal_audit.{number}"]
    assert "'file'" in found[0].msg and path.removesuffix("/audit.jsonl") in found[0].msg
    assert found[0].hint


# The table


class NoTrailHere:
    def allow_migrate(self, db, app_label, **hints):
        return app_label != "django_signal_audit"


@pytest.fixture
def _no_table(transactional_db):
    with connection.schema_editor() as editor:
        editor.delete_model(AuditRecord)
    yield
    with connection.schema_editor() as editor:
        editor.create_model(AuditRecord)


@pytest.mark.django_db
def test_with_the_table_there_is_no_message():
    assert check_tables(databases=["default"]) == []


def test_no_database_is_asked_unless_it_is_named():
    assert check_tables() == []


MESSAGE = "Database 'default' holds the audited model {} but no table of audit records."


@pytest.mark.usefixtures("_no_table")
def test_e010_the_table_is_gone_although_its_migration_was_applied():
    found = check_tables(databases=["default"])

    assert found == [
        error(
            "E010",
            MESSAGE.format("testapp.Author"),
            "Its migration was applied, so it was dropped or renamed since. Restore it, or run "
            "manage.py migrate --database default django_signal_audit zero, then without zero.",
        )
    ]


@pytest.mark.usefixtures("_no_table")
def test_e010_a_router_keeps_the_table_away():
    with override_settings(DATABASE_ROUTERS=[NoTrailHere()]):
        found = check_tables(databases=["default"])

    assert found == [
        error(
            "E010",
            MESSAGE.format("testapp.Author"),
            "A router in DATABASE_ROUTERS forbids django_signal_audit on this alias; let "
            "allow_migrate() return True for it.",
        )
    ]


@pytest.mark.usefixtures("_no_table")
def test_no_table_is_needed_where_no_sink_writes_to_it():
    with audit(SINKS={"a": {"BACKEND": MEMORY}}):
        assert check_tables(databases=["default"]) == []


@pytest.mark.usefixtures("_no_table")
def test_w110_a_table_that_is_still_to_be_made_is_no_error_so_that_migrate_can_make_it():
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("django_signal_audit", "0001_initial")
    assert check_tables(databases=["default"]) == [
        checks.Warning(
            MESSAGE.format("testapp.Author"),
            hint="Run manage.py migrate --database default.",
            id="django_signal_audit.W110",
        )
    ]

    call_command(
        "migrate", verbosity=0, stderr=io.StringIO(), stdout=io.StringIO(), skip_checks=False
    )

    assert check_tables(databases=["default"]) == []
    with connection.schema_editor() as editor:
        editor.delete_model(AuditRecord)


@pytest.mark.django_db
def test_migrations_are_complete():
    try:
        call_command("makemigrations", "django_signal_audit", check=True, dry_run=True, verbosity=0)
    except (SystemExit, CommandError) as stopped:
        pytest.fail(f"makemigrations --check: {stopped}")
