"""Checks of the databases that hold the trail: each provoked, and compared whole."""

from __future__ import annotations

import pytest
from django.core import checks
from django.db import connections
from django.test import override_settings

from django_signal_audit.checks import check_settings
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.models import AuditRecord
from django_signal_audit.sinks import DatabaseSink, aliases
from tests.databases import another_alias, without_records
from tests.factories import make_config
from tests.testapp.models import Author

DATABASE = {"BACKEND": "django_signal_audit.sinks.DatabaseSink"}
MEMORY = {"BACKEND": "django_signal_audit.sinks.MemorySink"}
WHERE = "SIGNAL_AUDIT['SINKS']['audit']['OPTIONS']"


def sinks(**entries):
    return override_settings(SIGNAL_AUDIT={"SINKS": entries})


def own(**options):
    return sinks(default={**DATABASE, "OPTIONS": {"database": "other", **options}})


def routed_by(*routers):
    return override_settings(DATABASE_ROUTERS=list(routers))


def error(number, message, hint):
    return checks.Error(message, hint=hint, id=f"django_signal_audit.{number}")


def warning(number, message, hint):
    return checks.Warning(message, hint=hint, id=f"django_signal_audit.{number}")


def test_without_routers_there_is_nothing_to_say():
    with own():
        assert check_settings() == []
    with own(forward="command"):
        assert check_settings() == []


@pytest.mark.parametrize(
    ("options", "problem", "hint"),
    [
        (
            {"database": "othr"},
            f"{WHERE}['database'] is 'othr', which is not in DATABASES.",
            "Did you mean 'other'?",
        ),
        (
            {"database": ["other"]},
            f"{WHERE}['database'] is ['other'], which is not in DATABASES.",
            "Did you mean 'other'?",
        ),
        (
            {"database": "other", "forward": "aftercommit"},
            f"{WHERE}['forward'] is 'aftercommit', which is neither of its two words.",
            "Did you mean 'after_commit'?",
        ),
        (
            {"forward": "command"},
            f"{WHERE} has 'forward', but no 'database' that records could be moved to.",
            "Add 'database', the alias of a database of the trail's own, or leave out 'forward'.",
        ),
    ],
)
def test_e211_options_that_mean_nothing(options, problem, hint):
    with pytest.raises(AuditConfigurationError) as refused:
        DatabaseSink(make_config(), **options)
    assert (refused.value.problem, refused.value.hint) == (problem, hint)
    assert refused.value.number == "E211"
    with sinks(audit={**DATABASE, "OPTIONS": options}):
        (message,) = check_settings()
    assert problem in message.msg


class RecordsElsewhere:
    """Keeps the audit application from every database but one."""

    home = "other"

    def allow_migrate(self, db, app_label, **hints):
        return db == self.home if app_label == "django_signal_audit" else None


class RecordsNowhere(RecordsElsewhere):
    home = None


class NoOpinion:
    def allow_migrate(self, db, app_label, **hints):
        return None


FORBIDDEN = (
    "RecordsElsewhere in DATABASE_ROUTERS keeps the table of audit records from database "
    "'default', where testapp.Author is written: the record must be in the transaction of the "
    "change."
)


def test_e212_a_router_keeps_the_table_from_where_models_are_written():
    with sinks(default=DATABASE), routed_by(NoOpinion(), RecordsElsewhere()):
        assert check_settings() == [
            error(
                "E212",
                FORBIDDEN,
                "Let its allow_migrate() return True for 'django_signal_audit' on 'default', where "
                "records then stay. To keep them in 'other', also write 'OPTIONS': {'database': "
                "'other'}: they wait on 'default' and are moved after COMMIT.",
            )
        ]


def test_e212_also_where_records_are_to_be_moved_on():
    with own(), routed_by(RecordsElsewhere()):
        assert check_settings() == [
            error(
                "E212",
                FORBIDDEN,
                "Let its allow_migrate() return True for 'django_signal_audit' on 'default': "
                "records wait there until they are moved to 'other'.",
            )
        ]


def test_e212_and_e213_a_router_keeps_the_table_from_everywhere():
    with own(), routed_by(RecordsNowhere()):
        assert [message.id for message in check_settings()] == [
            "django_signal_audit.E212",
            "django_signal_audit.E213",
        ]
    with sinks(default=DATABASE), routed_by(RecordsNowhere()):
        (message,) = check_settings()
    assert "'OPTIONS': {'database': 'audit'}" in message.hint


def test_no_error_where_no_audited_model_is_written():
    with sinks(default={**DATABASE, "MODELS": ["testapp.tag"]}), routed_by(RecordsElsewhere()):
        assert check_settings() == []
    with sinks(default=MEMORY), routed_by(RecordsElsewhere()):
        assert check_settings() == []


def test_a_policy_that_is_wrong_is_left_to_its_own_check():
    wrong = {"testapp.Author": {"include_fields": ["name"], "exclude_fields": ["name"]}}
    with override_settings(SIGNAL_AUDIT={"MODELS": wrong}):
        assert (
            "testapp.Author" not in aliases._written_aliases(DatabaseSink(make_config())).values()
        )


class OnlyDefaultHoldsRecords(RecordsElsewhere):
    home = "default"


def test_e213_a_router_keeps_the_table_from_the_trails_own_database():
    with own(), routed_by(OnlyDefaultHoldsRecords()):
        assert check_settings() == [
            error(
                "E213",
                "OnlyDefaultHoldsRecords in DATABASE_ROUTERS keeps the table of audit records from "
                "database 'other', to which records are to be moved.",
                "Let its allow_migrate() return True for 'django_signal_audit' on 'other'.",
            )
        ]


def test_e214_sinks_that_disagree():
    moved = {**DATABASE, "OPTIONS": {"database": "other"}, "EVENTS": ["auth.*"]}
    with sinks(one=moved, two={**DATABASE, "EVENTS": ["model.*"]}):
        assert check_settings() == [
            error(
                "E214",
                "SIGNAL_AUDIT['SINKS'] has database sinks that keep the trail in different places, "
                "but all write it into one table first.",
                "Give all of them the same option 'database', or none.",
            )
        ]


@pytest.mark.django_db(databases=["default", "other"])
def test_e215_two_aliases_of_one_database(tmp_path):
    name = str(tmp_path / "one.sqlite3")
    same = {"ENGINE": "django.db.backends.sqlite3", "NAME": name}
    with (
        another_alias("one", "default", **same),
        another_alias("two", "default", **same),
        sinks(default={**DATABASE, "OPTIONS": {"database": "two"}}),
        routed_by(WritesTo("one", Author)),
    ):
        assert [message for message in check_settings() if message.id[-4:] == "E215"] == [
            error(
                "E215",
                "Databases 'one' and 'two' have the same settings, so no record can be moved from "
                "one to the other.",
                "Give 'two' a database of its own, or leave out the option 'database'.",
            )
        ]


@pytest.mark.django_db(databases=["default", "other"])
def test_an_alias_that_mirrors_another_in_tests_is_no_mistake():
    with (
        another_alias("audit", "default", TEST={"MIRROR": "default"}),
        sinks(default={**DATABASE, "OPTIONS": {"database": "audit"}}),
    ):
        assert check_settings() == []


class WritesTo:
    def __init__(self, alias, model):
        self.alias, self.model = alias, model

    def db_for_write(self, model, **hints):
        return self.alias if model is self.model else None


class ReadsFrom(WritesTo):
    def db_for_read(self, model, **hints):
        return self.db_for_write(model)

    db_for_write = WritesTo.db_for_write


def test_w211_a_router_names_another_database_for_writes():
    with sinks(default=DATABASE), routed_by(WritesTo("other", AuditRecord)):
        assert check_settings() == [
            warning(
                "W211",
                "A router in DATABASE_ROUTERS sends writes of AuditRecord to 'other', but records "
                "are written where the change is: of testapp.Author on 'default'.",
                "To move them there after COMMIT, write 'OPTIONS': {'database': 'other'}.",
            )
        ]


def test_a_router_that_names_where_records_are_is_fine():
    with sinks(default=DATABASE), routed_by(ReadsFrom("default", AuditRecord)):
        assert check_settings() == []
    with own(), routed_by(ReadsFrom("other", AuditRecord)):
        assert check_settings() == []
    with sinks(default={**DATABASE, "MODELS": []}), routed_by(WritesTo("other", AuditRecord)):
        assert check_settings() == []


class Reads:
    def __init__(self, alias):
        self.alias = alias

    def db_for_read(self, model, **hints):
        return self.alias


def test_w211_a_router_reads_the_trail_where_it_is_not():
    with own(), routed_by(Reads("default")):
        assert check_settings() == [
            warning(
                "W211",
                "A router in DATABASE_ROUTERS sends reads of AuditRecord to 'default', but the "
                "trail is in 'other': AuditRecord.objects does not see it.",
                "Let db_for_read() return 'other', or None, for 'django_signal_audit'.",
            )
        ]
    with own(), routed_by(Reads("gone")):
        assert [message.id for message in check_settings()] == ["django_signal_audit.W211"]


@pytest.mark.django_db(databases=["default", "other"])
def test_a_replica_of_the_trails_own_database_may_be_read():
    with (
        another_alias("replica", "other", TEST={"MIRROR": "other"}),
        own(),
        routed_by(Reads("replica")),
    ):
        assert check_settings() == []


def test_w213_every_view_is_in_a_transaction_of_the_trails_own_database(monkeypatch):
    monkeypatch.setitem(connections["other"].settings_dict, "ATOMIC_REQUESTS", True)
    with own():
        assert check_settings() == [
            warning(
                "W213",
                "Database 'other' has ATOMIC_REQUESTS: a view may be inside of a transaction there "
                "when its changes are committed, and records are not moved into somebody's "
                "transaction.",
                "Set ATOMIC_REQUESTS of 'other' to False.",
            )
        ]
    with own(forward="command"):
        assert check_settings() == []


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_w212_the_trails_own_database_lacks_the_table():
    with own(), without_records("other"):
        assert aliases.check_own_databases(databases=["default"]) == []
        assert aliases.check_own_databases() == []
        with routed_by(OnlyDefaultHoldsRecords()):
            assert aliases.check_own_databases(databases=["other"]) == []
        assert aliases.check_own_databases(databases=["other"]) == [
            warning(
                "W212",
                "Audit records are moved to database 'other', which has no table of them.",
                "Run manage.py migrate --database other.",
            )
        ]
        said = checks.run_checks(tags=["signal_audit"], databases=["other"])
    assert "django_signal_audit.W212" in [message.id for message in said]


@pytest.mark.django_db(databases=["default", "other"])
def test_a_database_with_the_table_is_fine():
    with own():
        assert aliases.check_own_databases(databases=["default", "other"]) == []
