"""Connections of handlers to signals: which one a dispatch comes by, and what is kept of it."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import AppRegistryNotReady
from django.db import connections
from django.db.models import Model
from django.http import HttpRequest

from django_signal_audit import context
from django_signal_audit.acts import ActKind, OpenAct
from django_signal_audit.arguments import secrets_among
from django_signal_audit.capture.signals import BUILT_IN, named_values
from django_signal_audit.endings import is_object
from django_signal_audit.internals import is_connected
from django_signal_audit.registry import policy_for
from django_signal_audit.signals import AuditSignal, describe_sender

if TYPE_CHECKING:
    from django.apps.registry import Apps
    from django.dispatch import Signal


@dataclass(frozen=True, eq=False, kw_only=True)
class Connection:
    """One connection of a handler to a signal, and how calls by it are recorded.

    Attributes:
        name: of the signal, if it could be found.
        sender: gives the only sender it answers to; ``None`` means any.
        by_text: whether the sender is a text that Django would tell apart by identity, so that
            the handler has to compare it.
        uid: what Django tells its receiver by.
        registry: where a sender that is a text is looked up among the models.
        arguments: of the signal, to keep in the data.
        target: the argument that a call is about.
    """

    signal: Signal
    name: str | None
    sender: Callable[[], Any] | None
    by_text: bool
    uid: Hashable
    registry: Apps
    kind: ActKind
    arguments: tuple[str, ...]
    target: str

    def answers(self, sender: object) -> bool:
        """Whether a dispatch of its signal comes by this connection."""
        if self.sender is None:
            return True
        wanted = self.sender()
        if not isinstance(wanted, str):
            return wanted is sender
        if isinstance(sender, type) and issubclass(sender, Model):
            return wanted.lower() == sender._meta.label_lower
        return isinstance(sender, str) and wanted == sender

    def replaces(self, other: Connection) -> bool:
        """Whether Django would take another connection for this one."""
        mine, its = _now(self.sender), _now(other.sender)
        if other.signal is not self.signal or other.uid != self.uid:
            return False
        return mine is its or (isinstance(mine, str) and mine == its)

    def is_gone(self) -> bool:
        """Whether Django no longer has it: it was disconnected, or what it names is no more."""
        sender = _now(self.sender)
        if self.sender is not None and sender is None:
            return True
        if self.by_text:
            sender = None
        elif isinstance(self.signal, AuditSignal):
            sender = self.signal._known_sender(sender)  # noqa: SLF001 - the package's own
        elif isinstance(sender, str):
            try:
                sender = self.registry.get_model(sender, require_ready=False)
            except (LookupError, AppRegistryNotReady):
                return False  # it waits for its model
        return not is_connected(self.signal, self.uid, sender)

    def open(self, name: str, sender: Any, named: Mapping[str, Any]) -> OpenAct:
        """The act of a call that comes by this connection.

        Args:
            name: of the handler.
            sender: of the signal.
            named: the other arguments of the dispatch.
        """
        using, request, about = named.get("using"), named.get("request"), named.get(self.target)
        known = isinstance(using, str) and apps.ready and using in connections
        signal = {} if self.name is None else {"signal": self.name}
        act = OpenAct(
            self.kind,
            describe_sender(sender),
            data={"receiver": name, **signal, **self._chosen(sender, named)},
            target=about if is_object(about) else None,
            using=using if known else None,
            # Such as of user_logged_in: where it happens, not a part of it.
            request=request if isinstance(request, HttpRequest) else None,
            secrets=self._secrets(sender, named),
        )
        act.keep_data()
        return act

    def _chosen(self, sender: Any, named: Mapping[str, Any]) -> dict[str, Any]:
        if self._makes_instance(named):
            # By field, so that secrets among them are known as such.
            named = {**named, **named_values(sender, named["args"], named["kwargs"])}
        return {
            key: describe_sender(named[key]) if isinstance(named[key], type) else named[key]
            for key in self.arguments
            if key in named and not isinstance(named[key], HttpRequest)
        }

    def _secrets(self, sender: Any, named: Mapping[str, Any]) -> frozenset[str]:
        """The values that no text of a call may show, whether they are kept or not."""
        if context.is_suspended():
            return frozenset()
        secrets = secrets_among(named)
        if self._makes_instance(named):
            policy = policy_for(sender)
            fields = [field.name for field in sender._meta.fields]
            values = {**dict(zip(fields, named["args"], strict=False)), **named["kwargs"]}
            masked = frozenset[str]() if policy is None else policy.mask_fields
            secrets |= secrets_among(values, masked)
        return secrets

    def _makes_instance(self, named: Mapping[str, Any]) -> bool:
        return self.signal is BUILT_IN["pre_init"] and {"args", "kwargs"} <= named.keys()


def built_in_name(signal: Signal) -> str | None:
    """The name of a signal of models; ``None`` for any other."""
    return next((name for name, built_in in BUILT_IN.items() if built_in is signal), None)


def signal_name(signal: Signal, module: str | None) -> str | None:
    """The name of a signal, if it can be found: signals have none of their own.

    Args:
        signal: any.
        module: the name of its handler's module, which may know it.

    Returns:
        Of ``define_event`` that of its event, of Django's signals the bare name, of others the
        dotted path of a module's attribute.
    """
    if isinstance(signal, AuditSignal):
        return signal.event
    places = [place for place in list(sys.modules) if place.endswith("signals")]
    # Django's first: another module may have imported them under other names.
    places.sort(key=lambda place: not place.startswith("django."))
    for place in (*places, module or ""):
        for name, value in list(vars(sys.modules.get(place, object)).items()):
            if value is signal:
                return name if place.startswith("django.") else f"{place}.{name}"
    return None


def reference(sender: Any) -> Callable[[], Any] | None:
    """A way to a sender that others keep alive; ``None`` for any sender."""
    if sender is None:
        return None
    try:
        return weakref.ref(sender)
    except TypeError:
        return lambda: sender


def _now(sender: Callable[[], Any] | None) -> Any:
    return None if sender is None else sender()
