"""What the settings say of the databases that hold the trail, checked without asking them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.apps import AppConfig, apps
from django.core import checks
from django.db import DatabaseError, connections, router

from django_signal_audit import conf, internals, registry
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.sinks.identity import have_same_settings

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.sinks.base import Sink, TransactionalSink
    from django_signal_audit.sinks.database import DatabaseSink

FORWARD: Final = ("after_commit", "command")

_APP: Final = "django_signal_audit"


def connect() -> None:
    """Register the check that asks a database."""
    checks.register(check_own_databases, "signal_audit", checks.Tags.database)


def require_options(sink: str, database: object, forward: object) -> None:
    """Refuse options of a database sink that mean nothing.

    Args:
        sink: its key in the settings.
        database: the option of that name.
        forward: the option of that name.

    Raises:
        AuditConfigurationError: naming the option, and what to write instead.
    """
    where = f"{conf.SETTING}['SINKS'][{sink!r}]['OPTIONS']"
    known = isinstance(database, str) and database in connections.settings
    if database is not None and not known:
        raise AuditConfigurationError(
            f"{where}['database'] is {database!r}, which is not in DATABASES.",
            hint=conf.nearest(str(database), list(connections)),
            number="E211",
        )
    if forward not in FORWARD:
        raise AuditConfigurationError(
            f"{where}['forward'] is {forward!r}, which is neither of its two words.",
            hint=conf.nearest(str(forward), FORWARD),
            number="E211",
        )
    if database is None and forward != FORWARD[0]:
        raise AuditConfigurationError(
            f"{where} has 'forward', but no 'database' that records could be moved to.",
            hint="Add 'database', the alias of a database of the trail's own, or leave out "
            "'forward'.",
            number="E211",
        )


def own_databases() -> list[str]:
    """The aliases that database sinks move records to; none while the settings are wrong."""
    try:
        found = _database_sinks()
    except AuditConfigurationError:
        return []
    return list(dict.fromkeys(sink.database for sink in found if sink.database is not None))


def _database_sinks() -> list[DatabaseSink]:
    from django_signal_audit.sinks import DatabaseSink, routing  # noqa: PLC0415 - they import this

    sinks = [route.sink for route in routing.all_routes()]
    return [sink for sink in sinks if isinstance(sink, DatabaseSink)]


def messages(sink: TransactionalSink, database: str | None) -> list[checks.CheckMessage]:
    """What is wrong with the databases of a database sink.

    Args:
        sink: whose records are meant.
        database: the alias of the trail's own database.
    """
    written = _written_aliases(sink)
    found = [*_forbidden_writes(written, database), *_other_routes(written, database)]
    if database is not None:
        found += [*_forbidden_home(database), *_same_databases(written, database)]
        if sink.follows_commit and connections[database].settings_dict["ATOMIC_REQUESTS"]:
            found.append(
                checks.Warning(
                    f"Database {database!r} has ATOMIC_REQUESTS: a view may be inside of a "
                    "transaction there when its changes are committed, and records are not moved "
                    "into somebody's transaction.",
                    hint=f"Set ATOMIC_REQUESTS of {database!r} to False.",
                    id="django_signal_audit.W213",
                )
            )
    sinks = _database_sinks()
    if sinks[:1] == [sink] and len({one.database for one in sinks}) > 1:
        found.append(
            checks.Error(
                f"{conf.SETTING}['SINKS'] has database sinks that keep the trail in different "
                "places, but all write it into one table first.",
                hint="Give all of them the same option 'database', or none.",
                id="django_signal_audit.E214",
            )
        )
    return found


def health(sink: TransactionalSink, database: str | None) -> list[str]:
    """Whether the databases of a database sink can be reached and have the table of records.

    Args:
        sink: whose records are meant.
        database: the alias of the trail's own database.

    Returns:
        A sentence for each problem.
    """
    from django_signal_audit.models import record_table_exists  # noqa: PLC0415 - needs loaded apps

    found = []
    for alias in dict.fromkeys([*_written_aliases(sink), *([database] if database else ())]):
        try:
            if not record_table_exists(alias):
                found.append(
                    f"Database {alias!r} has no table of audit records. Run manage.py migrate "
                    f"--database {alias}."
                )
        except DatabaseError as error:
            reason = str(error).strip().partition("\n")[0].rstrip(".")
            found.append(f"Database {alias!r} cannot be reached: {reason}.")
    return found


def check_own_databases(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Collection[str] | None = None,
    **kwargs: Any,
) -> list[checks.CheckMessage]:
    """Whether the trail's own database has the table of records; it is asked."""
    from django_signal_audit.models import AuditRecord, record_table_exists  # noqa: PLC0415

    return [
        # An error would keep `migrate`, which runs this check, from making the table.
        checks.Warning(
            f"Audit records are moved to database {alias!r}, which has no table of them.",
            hint=f"Run manage.py migrate --database {alias}.",
            id="django_signal_audit.W212",
        )
        for alias in own_databases()
        if alias in (databases or ())
        and router.allow_migrate_model(alias, AuditRecord)
        and not record_table_exists(alias)
    ]


def _written_aliases(sink: Sink) -> dict[str, str]:
    """The aliases that routers send audited writes to, each with the label of one model."""
    found: dict[str, str] = {}
    for model in apps.get_models():
        if not model._meta.proxy and _goes_to(sink, model):
            found.setdefault(router.db_for_write(model), model._meta.label)
    return {alias: label for alias, label in found.items() if alias in connections}


def _goes_to(sink: Sink, model: type[Model]) -> bool:
    from django_signal_audit.sinks.routing import routes_for  # noqa: PLC0415 - imports the sinks

    try:
        policy = registry.policy_for(model)
        return policy is not None and any(
            route.sink is sink
            for operation in policy.on
            for route in routes_for(
                (f"model.{operation}", policy.label, "info", policy.sinks)
            ).transactional
        )
    except AuditConfigurationError:
        return False  # another check reports it


def _forbidden_writes(
    written: dict[str, str], database: str | None
) -> Iterator[checks.CheckMessage]:
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    for alias, label in written.items():
        forbids = internals.forbidding_router(alias, AuditRecord)
        if forbids is None or alias == database:
            continue
        stays = f"Let its allow_migrate() return True for {_APP!r} on {alias!r}"
        if database is None:
            homes = [one for one in connections if router.allow_migrate_model(one, AuditRecord)]
            home = homes[0] if homes else "audit"
            hint = (
                f"{stays}, where records then stay. To keep them in {home!r}, also write "
                f"'OPTIONS': {{'database': {home!r}}}: they wait on {alias!r} and are moved "
                "after COMMIT."
            )
        else:
            hint = f"{stays}: records wait there until they are moved to {database!r}."
        yield checks.Error(
            f"{forbids} in DATABASE_ROUTERS keeps the table of audit records from database "
            f"{alias!r}, where {label} is written: the record must be in the transaction of the "
            "change.",
            hint=hint,
            id="django_signal_audit.E212",
        )


def _other_routes(written: dict[str, str], database: str | None) -> Iterator[checks.CheckMessage]:
    """Routers that name another database for records than the one where they are."""
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    writes = internals.routed("db_for_write", AuditRecord)
    if writes is not None and writes != database and writes not in written and written:
        alias, label = next(iter(written.items()))
        yield checks.Warning(
            f"A router in DATABASE_ROUTERS sends writes of AuditRecord to {writes!r}, but records "
            f"are written where the change is: of {label} on {alias!r}.",
            hint=f"To move them there after COMMIT, write 'OPTIONS': {{'database': {writes!r}}}.",
            id="django_signal_audit.W211",
        )
    reads = internals.routed("db_for_read", AuditRecord)
    if database is None or reads in (None, database) or mirrors(str(reads)) == database:
        return
    yield checks.Warning(
        f"A router in DATABASE_ROUTERS sends reads of AuditRecord to {reads!r}, but the trail is "
        f"in {database!r}: AuditRecord.objects does not see it.",
        hint=f"Let db_for_read() return {database!r}, or None, for {_APP!r}.",
        id="django_signal_audit.W211",
    )


def _forbidden_home(database: str) -> Iterator[checks.CheckMessage]:
    from django_signal_audit.models import AuditRecord  # noqa: PLC0415 - needs loaded apps

    forbids = internals.forbidding_router(database, AuditRecord)
    if forbids is not None:
        yield checks.Error(
            f"{forbids} in DATABASE_ROUTERS keeps the table of audit records from database "
            f"{database!r}, to which records are to be moved.",
            hint=f"Let its allow_migrate() return True for {_APP!r} on {database!r}.",
            id="django_signal_audit.E213",
        )


def _same_databases(written: dict[str, str], database: str) -> Iterator[checks.CheckMessage]:
    if mirrors(database) is not None:
        return  # tests put both into one database on purpose
    for alias in written:
        if alias != database and have_same_settings(connections[alias], connections[database]):
            yield checks.Error(
                f"Databases {alias!r} and {database!r} have the same settings, so no record can "
                "be moved from one to the other.",
                hint=f"Give {database!r} a database of its own, or leave out the option "
                "'database'.",
                id="django_signal_audit.E215",
            )


def mirrors(alias: str) -> str | None:
    """The alias whose data this one shows, as ``DATABASES`` says for tests: a replica's primary."""
    if alias not in connections:
        return None
    mirrored: str | None = connections[alias].settings_dict["TEST"].get("MIRROR")
    return mirrored
