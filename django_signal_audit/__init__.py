"""An audit trail for Django that commits with the change it records.

The public names, nothing else. They are loaded on first use, because a model module
imports this package while the apps are still being loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_signal_audit.actions import audit_action as audit_action
    from django_signal_audit.context import audit_context as audit_context
    from django_signal_audit.context import set_actor as set_actor
    from django_signal_audit.context import suspend_audit as suspend_audit
    from django_signal_audit.decorators import audit_event as audit_event
    from django_signal_audit.decorators import audit_signals as audit_signals
    from django_signal_audit.decorators import audited as audited
    from django_signal_audit.receivers import audit_receiver as audit_receiver
    from django_signal_audit.registry import register as register
    from django_signal_audit.registry import unregister as unregister
    from django_signal_audit.signals import define_event as define_event
    from django_signal_audit.signals import event_signal as event_signal

_HOMES = {
    "audit_action": "actions",
    "audit_context": "context",
    "audit_event": "decorators",
    "audit_receiver": "receivers",
    "audit_signals": "decorators",
    "audited": "decorators",
    "define_event": "signals",
    "event_signal": "signals",
    "register": "registry",
    "set_actor": "context",
    "suspend_audit": "context",
    "unregister": "registry",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - one list of names, not two


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only for the first use of a name

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
