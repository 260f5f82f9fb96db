"""Every setting of the package: its type, its default, and a live read.

``current()`` compares the identity of ``settings.SIGNAL_AUDIT`` with the last one it saw,
so ``override_settings`` works without a receiver, and an unchanged setting costs one
attribute look-up.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final

from django.conf import Settings, settings

from django_signal_audit.exceptions import AuditConfigurationError

SETTING: Final = "SIGNAL_AUDIT"

DEFAULT_SINKS: Final[Mapping[str, Any]] = MappingProxyType(
    {"default": MappingProxyType({"BACKEND": "django_signal_audit.sinks.DatabaseSink"})}
)


@dataclass(frozen=True, eq=False)
class Config:
    """The parsed ``SIGNAL_AUDIT`` setting. Attribute names are the setting's keys.

    Attributes:
        MODELS: model label (``shop.Order``, ``shop.*`` or ``*``) to policy options, or
            ``False`` to exclude.
        SIGNALS: dotted path of a signal to options (``event``, ``level``).
        SINKS: alias to ``BACKEND``, ``OPTIONS``, ``FORMAT`` and filters.
        BUFFER_SIZE: events a transaction holds in memory before it writes early.
        VALUE_LIMIT: characters of a value that is kept whole; longer ones are cut.
        REPR_LIMIT: characters of ``object_repr``; 0 switches it off.
        SENSITIVE_NAMES: further words that make a field or key a secret.
        PLAIN_NAMES: exact names that look like secrets and are none.
        RECORD_UNCHANGED: also record saves that changed nothing.
    """

    MODELS: Mapping[str, Any] = field(default_factory=dict)
    SIGNALS: Mapping[str, Any] = field(default_factory=dict)
    SINKS: Mapping[str, Any] = field(default_factory=lambda: DEFAULT_SINKS)
    BUFFER_SIZE: int = 5000
    VALUE_LIMIT: int = 10_000
    REPR_LIMIT: int = 255
    SENSITIVE_NAMES: Collection[str] = ()
    PLAIN_NAMES: Collection[str] = ()
    RECORD_UNCHANGED: bool = False


KEYS: Final = tuple(f.name for f in fields(Config))

_INTEGERS: Final = {"BUFFER_SIZE": 1, "VALUE_LIMIT": 64, "REPR_LIMIT": 0}
_MAPPINGS: Final = {
    "MODELS": "labels, such as 'shop.Order'",
    "SIGNALS": "dotted paths, such as 'shop.signals.order_paid'",
    "SINKS": "aliases, such as 'default'",
}
_COLLECTIONS: Final = ("SENSITIVE_NAMES", "PLAIN_NAMES")

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_parsed: tuple[Any, Config] | None = None


def nearest(name: str, good: Collection[str]) -> str:
    """Advice for a mistyped name: the nearest good one, or all of them.

    Args:
        name: what was written.
        good: what could have been written; not empty.

    Returns:
        A sentence such as ``Did you mean 'SINKS'?``.
    """
    folded = {word.lower(): word for word in good}
    wrong = str(name).lower()
    close = difflib.get_close_matches(wrong, folded, n=1, cutoff=0.6)
    close = close or [word for word in folded if wrong and word.startswith(wrong)]
    if len(close) == 1:
        return f"Did you mean {folded[close[0]]!r}?"
    return f"Choose one of {', '.join(repr(word) for word in sorted(good))}."


def current() -> Config:
    """The configuration as the settings say it now.

    Raises:
        AuditConfigurationError: a key is unknown or a value has the wrong type.
    """
    global _parsed  # noqa: PLW0603 - one cached parse per settings object
    raw = _raw()
    parsed = _parsed
    if parsed is None or parsed[0] is not raw:
        _parsed = parsed = (raw, parse(raw))
    return parsed[1]


def _raw() -> Any:
    """``settings.SIGNAL_AUDIT``; every write asks, so the common answers are found quickly.

    Django keeps a setting that was read in the instance's ``__dict__`` until settings
    change. It keeps no note of one that is not there, and raises and catches an error each time.
    """
    known = settings.__dict__
    if SETTING in known:
        return known[SETTING]
    holder = known.get("_wrapped")
    if type(holder) is Settings and SETTING not in holder.__dict__:
        return _NOTHING
    return getattr(settings, SETTING, _NOTHING)


def parse(raw: Any) -> Config:
    """Turn the value of ``SIGNAL_AUDIT`` into a ``Config``, leaving the value untouched.

    Raises:
        AuditConfigurationError: naming the key and what to write instead.
    """
    if not isinstance(raw, Mapping):
        raise AuditConfigurationError(
            f"{SETTING} must be a dict such as {{'MODELS': {{'shop.Order': {{}}}}}}, "
            f"not {type(raw).__name__}."
        )
    for key in raw:
        if key not in KEYS:
            raise AuditConfigurationError(f"{SETTING} has no key {key!r}. {nearest(key, KEYS)}")
    for key, value in raw.items():
        _require_type(key, value)
    return Config(**raw)


def _require_type(key: str, value: Any) -> None:
    if key in _INTEGERS and (
        not isinstance(value, int) or isinstance(value, bool) or value < _INTEGERS[key]
    ):
        raise AuditConfigurationError(
            f"{SETTING}[{key!r}] must be a whole number of at least {_INTEGERS[key]}, "
            f"not {value!r}."
        )
    if key in _MAPPINGS:
        if not isinstance(value, Mapping):
            raise AuditConfigurationError(
                f"{SETTING}[{key!r}] must be a dict, not {type(value).__name__}."
            )
        _require_text(key, value, f"keys must be {_MAPPINGS[key]}")
    if key in _COLLECTIONS:
        if isinstance(value, str) or not isinstance(value, Collection):
            raise AuditConfigurationError(
                f"{SETTING}[{key!r}] must be a list of names, not {type(value).__name__}."
            )
        _require_text(key, value, "items must be names")
    if key == "RECORD_UNCHANGED" and not isinstance(value, bool):
        raise AuditConfigurationError(f"{SETTING}[{key!r}] must be True or False, not {value!r}.")


def _require_text(key: str, items: Collection[Any], rule: str) -> None:
    for item in items:
        if not isinstance(item, str):
            raise AuditConfigurationError(
                f"{SETTING}[{key!r}]: its {rule}, not {item!r} ({type(item).__name__})."
            )
