"""``AuditRecord``: an event stored as a database row, append-only through the ORM."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self

from django.db import connections, models
from django.dispatch import receiver
from django.utils import timezone

from django_signal_audit import internals
from django_signal_audit.actors import to_actor
from django_signal_audit.event import SCHEMA_VERSION, Actor, AuditEvent, Outcome
from django_signal_audit.exceptions import APPEND_ONLY, AppendOnlyError
from django_signal_audit.fields import KeyField, LabelField, ProseField
from django_signal_audit.ids import lowest_uuid7
from django_signal_audit.keys import object_key, object_type
from django_signal_audit.values import restore_floats

if TYPE_CHECKING:
    from uuid import UUID


_BITS_AFTER_MILLISECONDS: Final = 80

before_read: Callable[[str], None] | None = None
"""Called with the alias before any query on records is compiled; set by ``transactions``.

A hook, so that this module need not import the buffer it belongs to.
"""


own_database: Callable[[], str | None] | None = None
"""Tells the alias of the trail's own database, if it has one; set by ``transactions``, too."""


class RecordQuery(internals.AnnouncedQuery):
    """A query that first writes this thread's pending events, so that it can see them."""

    def before_compile(self, alias: str) -> None:
        """Flush; every read of records passes here."""
        if before_read is not None:
            before_read(alias)


class AuditRecordQuerySet(models.QuerySet["AuditRecord"]):
    """Reads the trail; refuses to change it."""

    def __init__(
        self,
        model: type[models.Model] | None = None,
        query: internals.AnnouncedQuery | None = None,
        using: str | None = None,
        hints: dict[str, models.Model] | None = None,
    ) -> None:
        if query is None and model is not None:
            query = RecordQuery(model)
        super().__init__(model=model, query=query, using=using, hints=hints)

    @property
    def db(self) -> str:
        """The trail's own database, unless ``using()`` or a router names another."""
        own = own_database() if own_database is not None else None
        if own is None or internals.names_database(self):
            return super().db
        action, hints = internals.routing_of(self)
        model: Any = self.model
        return internals.routed(action, model, **hints) or own

    def get_for_object(self, obj: models.Model) -> Self:
        """The records of one object, oldest first.

        Args:
            obj: a saved instance; a proxy's records are those of its concrete model.
        """
        return self._of_type(type(obj)).filter(object_id=_key_of(obj)).order_by("id")

    def get_for_objects(self, objs: Iterable[models.Model]) -> Self:
        """The records of several objects, of any models, oldest first."""
        keys: dict[str, set[str]] = {}
        for obj in objs:
            keys.setdefault(object_type(type(obj)), set()).add(_key_of(obj))
        if not keys:
            return self.none()
        condition = models.Q()
        for kind, ids in keys.items():
            condition |= models.Q(object_type=kind, object_id__in=ids)
        return self.filter(condition).order_by("id")

    def get_for_model(self, model: type[models.Model]) -> Self:
        """The records of all objects of one model, oldest first."""
        return self._of_type(model).order_by("id")

    def by_actor(self, actor: Any) -> Self:
        """What one actor did, oldest first.

        Args:
            actor: a user, an ``Actor``, or a service's name.
        """
        found = to_actor(actor)
        if found is None:
            return self.filter(actor_type=None).order_by("id")
        return self.filter(actor_type=found.type, actor_id=found.id).order_by("id")

    def between(self, since: datetime | None = None, until: datetime | None = None) -> Self:
        """The records of a time span, oldest first; it reads a range of the primary key.

        Args:
            since: first moment included; naive values are in the default time zone, as in
                Django's own queries.
            until: first moment left out.
        """
        found = self
        if since is not None:
            found = found.filter(id__gte=lowest_uuid7(_aware(since)))
        if until is not None:
            found = found.filter(id__lt=lowest_uuid7(_aware(until)))
        return found.order_by("id")

    def _of_type(self, model: type[models.Model]) -> Self:
        return self.filter(object_type=object_type(model))

    def update(self, **kwargs: Any) -> NoReturn:
        """Refused: records are append-only."""
        raise AppendOnlyError(APPEND_ONLY)

    def delete(self) -> NoReturn:
        """Refused: records are append-only."""
        raise AppendOnlyError(APPEND_ONLY)

    def _raw_delete(self, using: str | None) -> NoReturn:
        raise AppendOnlyError(APPEND_ONLY)

    def bulk_update(
        self, objs: Iterable[AuditRecord], fields: Iterable[str], batch_size: int | None = None
    ) -> NoReturn:
        """Refused: records are append-only."""
        raise AppendOnlyError(APPEND_ONLY)

    def bulk_create(
        self,
        objs: Iterable[AuditRecord],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[AuditRecord]:
        """Add records, as importers do; ``update_conflicts`` would change some and is refused."""
        if update_conflicts:
            raise AppendOnlyError(APPEND_ONLY)
        return super().bulk_create(objs, batch_size=batch_size, ignore_conflicts=ignore_conflicts)

    # As Django marks its own: a template cannot call them, a manager does not copy `delete`.
    update.alters_data = True  # type: ignore[attr-defined]
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]
    bulk_update.alters_data = True  # type: ignore[attr-defined]
    bulk_create.alters_data = True  # type: ignore[attr-defined]


AuditRecordManager = models.Manager.from_queryset(AuditRecordQuerySet, "AuditRecordManager")


class AuditRecord(models.Model):
    """One event of the trail, as a row. It has no foreign keys: it outlives what it names."""

    id = models.UUIDField(primary_key=True, editable=False)
    timestamp = models.DateTimeField(editable=False)
    event = KeyField(max_length=255, editable=False)
    level = KeyField(max_length=16, default="info", editable=False)
    outcome = KeyField(max_length=16, default=Outcome.SUCCESS.value, editable=False)
    sender = ProseField(blank=True, default="", editable=False)
    message = ProseField(blank=True, default="", editable=False)
    object_type = KeyField(max_length=255, null=True, editable=False)
    object_id = KeyField(max_length=255, null=True, editable=False)
    object_repr = ProseField(blank=True, default="", editable=False)
    changes = models.JSONField(null=True, editable=False)
    actor_type = KeyField(max_length=255, null=True, editable=False)
    actor_id = KeyField(max_length=255, null=True, editable=False)
    actor_label = LabelField(max_length=255, blank=True, default="", editable=False)
    on_behalf_of = models.JSONField(null=True, editable=False)
    reason = ProseField(null=True, editable=False)
    cause = models.UUIDField(null=True, editable=False)
    duration_ms = models.FloatField(null=True, editable=False)
    error = models.JSONField(null=True, editable=False)
    context = models.JSONField(default=dict, editable=False)
    data = models.JSONField(default=dict, editable=False)
    database = KeyField(max_length=255, null=True, editable=False)
    transaction = models.UUIDField(null=True, editable=False)
    rolled_back = models.BooleanField(default=False, editable=False)
    schema_version = models.PositiveSmallIntegerField(default=SCHEMA_VERSION, editable=False)

    objects: ClassVar[Any] = AuditRecordManager()

    class Meta:
        verbose_name = "audit record"
        verbose_name_plural = "audit records"
        default_permissions = ("view",)
        base_manager_name = "objects"
        indexes = [  # noqa: RUF012 - Django's own way to write it
            models.Index(fields=["object_type", "object_id", "id"], name="signal_audit_object"),
            models.Index(fields=["actor_type", "actor_id", "id"], name="signal_audit_actor"),
        ]

    def __str__(self) -> str:
        """The event and what it was about."""
        about = f" {self.object_type} {self.object_id}" if self.object_type else ""
        return f"{self.event}{about}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert a new record; changing a stored one is refused."""
        if not self._state.adding:
            raise AppendOnlyError(APPEND_ONLY)
        kwargs["force_insert"] = True
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: records are append-only."""
        raise AppendOnlyError(APPEND_ONLY)

    def _do_update(self, *args: Any, **kwargs: Any) -> list[Any]:
        # loaddata tries an UPDATE first, past save(). With no row updated it INSERTs, which
        # restores a record that is not there and fails on one that is.
        return []

    def to_event(self) -> AuditEvent:
        """The event this record stores."""
        return AuditEvent(
            id=self.id,
            timestamp=_stored_moment(self.timestamp, self.id),
            event=self.event,
            level=self.level,
            outcome=Outcome(self.outcome),
            sender=self.sender,
            message=self.message,
            object_type=self.object_type,
            object_id=self.object_id,
            object_repr=self.object_repr,
            changes=restore_floats(self.changes),
            actor=self.actor,
            on_behalf_of=Actor.from_dict(self.on_behalf_of) if self.on_behalf_of else None,
            reason=self.reason,
            cause=self.cause,
            duration_ms=self.duration_ms,
            error=restore_floats(self.error),
            context=restore_floats(self.context),
            data=restore_floats(self.data),
            database=self.database,
            transaction=self.transaction,
            rolled_back=self.rolled_back,
            schema_version=self.schema_version,
        )

    @property
    def actor(self) -> Actor | None:
        """Who acted, from the three actor columns."""
        if self.actor_type is None:
            return None
        return Actor(self.actor_type, self.actor_id, self.actor_label)


def _key_of(obj: models.Model) -> str:
    if not internals.is_pk_set(obj, obj._meta):
        raise ValueError(
            f"{obj._meta.label} has no primary key, so it has no records. "
            "For a deleted object use filter(object_type=..., object_id=...)."
        )
    return object_key(type(obj), obj.pk)


@receiver(models.signals.pre_delete, sender=AuditRecord)
def refuse_delete(**kwargs: Any) -> NoReturn:
    """Refused: records are append-only, also where a collector deletes them."""
    raise AppendOnlyError(APPEND_ONLY)


def record_table_exists(alias: str) -> bool:
    """Whether the database of an alias has the table of records."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        return AuditRecord._meta.db_table in connection.introspection.table_names(cursor)


def _aware(moment: datetime) -> datetime:
    if timezone.is_aware(moment):
        return moment
    return timezone.make_aware(moment, timezone.get_default_timezone())


def _stored_moment(moment: datetime, record: UUID) -> datetime:
    """Where ``USE_TZ`` is off, an hour comes twice each autumn; the id knows which one it was."""
    if timezone.is_aware(moment):
        return moment
    milliseconds = record.int >> _BITS_AFTER_MILLISECONDS
    both = (_aware(moment.replace(fold=fold)) for fold in (0, 1))
    found = min(both, key=lambda one: abs(round(one.timestamp() * 1000) - milliseconds))
    return found.astimezone(UTC)
