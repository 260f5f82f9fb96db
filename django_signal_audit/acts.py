"""One act, from its beginning to its end: identity, duration, outcome, object, data.

``@audit_event``, ``@audit_receiver`` and ``audit_action`` only differ in what they surround.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import Model

from django_signal_audit import conf, context, internals, pipeline, recording, registry, tasks
from django_signal_audit.endings import Action, mistake, status_of
from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.ids import uuid7
from django_signal_audit.masking import instance_secrets
from django_signal_audit.pipeline import Act
from django_signal_audit.signals import describe_instance

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

STARTED: Final = ".started"
OUTER_CAUSE: Final = "outer_cause"
STATUS: Final = "status"

_LEVELS: Final = {Outcome.DENIED: "warning", Outcome.FAILURE: "error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ActKind:
    """What is the same for every act of one decorator or block.

    Attributes:
        event: dotted name of the event.
        level: of a success; a denial is a ``warning``, a failure an ``error``.
        sinks: aliases of the only sinks it goes to.
        using: alias whose transaction it belongs to; ``None`` means that of its object.
        started: whether a second event says that it has begun.
    """

    event: str
    level: str = "info"
    sinks: tuple[str, ...] | None = None
    using: str | None = None
    started: bool = False


class OpenAct:
    """An act that is under way.

    Args:
        kind: of which kind.
        sender: who does it.
        data: the first keys of its data.
        target: the model instance it is about, perhaps a lazy one.
        using: alias it belongs to, in place of the kind's.
        reason: why.
        request: where it happens, if the middleware does not know it.
        secrets: values that no text of its events may show.
    """

    def __init__(
        self,
        kind: ActKind,
        sender: str,
        *,
        data: Mapping[str, Any] | None = None,
        target: Any = None,
        using: str | None = None,
        reason: str | None = None,
        request: Any = None,
        secrets: frozenset[str] = frozenset(),
    ) -> None:
        self.kind = kind
        self.sender = sender
        self.reason = reason
        self.request = request
        self.timestamp = datetime.now(tz=UTC)
        # Ids grow: in the order of ids the beginning stands before the act.
        self._started_id = uuid7(self.timestamp) if kind.started else None
        self.id = uuid7(self.timestamp)
        self.action = Action(self.id, data or {}, target)
        self._using = using or kind.using
        self._object = Act(event=kind.event)
        self._described: Model | None = None
        self._secrets = secrets
        self._status: int | None = None
        self._is_refused = False
        self._began = time.perf_counter()

    @property
    def begins_with_work(self) -> bool:
        """Whether ``begin`` may query, so that a coroutine must leave it to a thread."""
        return self.kind.started or self.action.target is not None

    def keep_data(self) -> None:
        """Note the data as it is now: what is called may change what it was given."""
        if self.action.data and apps.ready and not context.is_suspended():
            act = Act(event=self.kind.event, data=self.action.data, secrets=self._secrets)
            pipeline.freeze(act)
            self.action.data, self._secrets = dict(act.data), act.secrets

    def begin(self) -> None:
        """Note the object, and say that the act begins if that is wanted.

        Raises:
            AuditConfigurationError: there is no database or sink of that alias.
            AuditSinkError: outside of a transaction and of a loop, the "started" event could
                not be written to a sink whose policy is ``raise``.
        """
        if context.is_suspended():
            return
        try:
            self._require_aliases()
            self._describe()
            if self.kind.started:
                self._record_start()
        except AuditConfigurationError:
            self._is_refused = True
            raise
        self._began = time.perf_counter()

    def inside(self) -> context.cause_scope:
        """A scope in which events carry this act as their cause, and its reason."""
        return context.cause_scope(self.id, self.reason)

    def returned(self, result: object) -> None:
        """Note what the act returned: of a view, the status says how it ended."""
        self._status = status_of(result)
        if self._status is not None:
            self.action.data.setdefault(STATUS, self._status)

    def record(self, error: BaseException | None = None) -> None:
        """Record the act, now that its outcome is known.

        Raises:
            AuditSinkError: outside of a transaction and of a loop, a sink whose policy is
                ``raise`` failed.
        """
        if context.is_suspended():
            return
        duration = round((time.perf_counter() - self._began) * 1000, 3)
        self._describe()
        error = mistake(error)
        outcome, message = self.action.ending(error, self._status)
        act = self._act(self.id, self.kind.event)
        act.level = _LEVELS.get(outcome, self.kind.level)
        act.outcome = outcome
        act.message = message or self.kind.event
        act.error = error
        act.duration_ms = duration
        recording.record_act(act, self.request)

    def record_failure(self, error: BaseException) -> None:
        """Record an act that raised; its exception is the one to be raised."""
        if self._is_refused:
            # It was not begun, and cannot be recorded either, for the same reason.
            return
        try:
            self.record(error)
        except Exception as exc:  # noqa: BLE001 - logged; it must not hide the act's own
            tasks.log_failure(
                "The failure of %s (%s) could not be recorded as event %s.",
                self.sender,
                type(error).__name__,
                self.id,
                error=exc,
                handled=error,
            )

    def _record_start(self) -> None:
        act = self._act(self._started_id, f"{self.kind.event}{STARTED}")
        outer = context.current_cause()
        if outer is not None:
            # An act that never ends has no event that could say so.
            act.data = {**act.data, OUTER_CAUSE: outer}
        with self.inside():
            recording.record_act(act, self.request)

    def _act(self, event_id: uuid.UUID | None, event: str) -> Act:
        return Act(
            id=event_id,
            timestamp=self.timestamp,
            event=event,
            level=self.kind.level,
            sender=self.sender,
            message=event,
            object_type=self._object.object_type,
            object_id=self._object.object_id,
            object_repr=self._object.object_repr,
            reason=self.reason,
            data=dict(self.action.data),
            database=self._database(),
            sinks=self.kind.sinks,
            secrets=self._secrets | self._object.secrets,
        )

    def _describe(self) -> None:
        """Name the object: as it was in the beginning, or, if it had no key yet, as it is now."""
        if self.action.target is None or not apps.ready:
            return
        target = _loaded(self.action.target)
        if not isinstance(target, Model):
            return
        if self._described is target and self._object.object_id is not None:
            # Its text may take a query, and the transaction may be broken by now; its secrets
            # take none, and may be others than they were.
            policy = registry.policy_for(type(target))
            masked = frozenset[str]() if policy is None else policy.mask_fields
            self._secrets |= instance_secrets(target, masked)
            return
        self._secrets |= self._object.secrets
        self._object, self._described = Act(event=self.kind.event), target
        describe_instance(self._object, target)

    def _database(self) -> str:
        if self._using is not None:
            return self._using
        target = self._described
        if target is None:
            return DEFAULT_DB_ALIAS
        # An instance may have been read from a replica, which takes no records.
        alias: str = router.db_for_write(type(target), instance=target)
        return alias

    def _require_aliases(self) -> None:
        """An alias that is mistyped must be said before the work is done, not after it."""
        if self._using is not None and apps.ready and self._using not in connections:
            raise AuditConfigurationError(
                f"{self.kind.event!r}: using={self._using!r} is no alias of DATABASES.",
                hint=conf.nearest(self._using, list(connections)),
            )
        for alias in (self.kind.sinks or ()) if apps.ready else ():
            good = conf.current().SINKS
            if alias not in good:
                raise AuditConfigurationError(
                    f"{self.kind.event!r}: there is no audit sink {alias!r} in "
                    f"{conf.SETTING}['SINKS'].",
                    hint=conf.nearest(alias, good) if good else "SINKS is empty.",
                    number="E016",
                )


def _loaded(target: Any) -> Any:
    try:
        return internals.unwrapped(target)
    except SynchronousOnlyOperation:
        # A lazy user, in sync code that a coroutine called: it cannot be loaded here.
        return None
