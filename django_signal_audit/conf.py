"""Every setting of the package: its type, its default, and a live read.

``current()`` compares the identity of ``settings.SIGNAL_AUDIT`` with the last one it saw,
so ``override_settings`` works without a receiver, and an unchanged setting costs one
attribute look-up.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final

from django.conf import Settings, settings

from django_signal_audit.exceptions import AuditConfigurationError, raise_found

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
        PROCESSORS: structlog processors that every event runs through; ``processors``
            resolves them.
        BUFFER_SIZE: events a transaction holds in memory before it writes early.
        VALUE_LIMIT: characters of a value that is kept whole; longer ones are cut.
        REPR_LIMIT: characters of ``object_repr``; 0 switches it off.
        SENSITIVE_NAMES: further words that make a field or key a secret.
        PLAIN_NAMES: exact names that look like secrets and are none.
        RECORD_UNCHANGED: also record saves that changed nothing.
        RECORD_FIXTURES: also record what ``loaddata`` and other raw saves write.
        BLIND_WRITES: what becomes of a statement that writes to an audited table outside of
            capture: ``ignore``, ``record``, ``warn`` or ``raise``.
        STATE_DIR: absolute path of a directory, local to the machine, for what must outlive a
            process: the spools of sinks that failed, and the counters. ``None`` for neither.
    """

    MODELS: Mapping[str, Any] = field(default_factory=dict)
    SIGNALS: Mapping[str, Any] = field(default_factory=dict)
    SINKS: Mapping[str, Any] = field(default_factory=lambda: DEFAULT_SINKS)
    PROCESSORS: Sequence[Any] = ()
    BUFFER_SIZE: int = 5000
    VALUE_LIMIT: int = 10_000
    REPR_LIMIT: int = 255
    SENSITIVE_NAMES: Collection[str] = ()
    PLAIN_NAMES: Collection[str] = ()
    RECORD_UNCHANGED: bool = False
    RECORD_FIXTURES: bool = True
    BLIND_WRITES: str = "ignore"
    STATE_DIR: str | os.PathLike[str] | None = None


KEYS: Final = tuple(f.name for f in fields(Config))

_INTEGERS: Final = {"BUFFER_SIZE": 1, "VALUE_LIMIT": 64, "REPR_LIMIT": 0}
_MAPPINGS: Final = {
    "MODELS": "labels, such as 'shop.Order'",
    "SIGNALS": "dotted paths, such as 'shop.signals.order_paid'",
    "SINKS": "aliases, such as 'default'",
}
_COLLECTIONS: Final = ("SENSITIVE_NAMES", "PLAIN_NAMES")
_SWITCHES: Final = ("RECORD_UNCHANGED", "RECORD_FIXTURES")
_CHOICES: Final = {"BLIND_WRITES": ("ignore", "record", "warn", "raise")}

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


def current_sound() -> tuple[Config, list[AuditConfigurationError]]:
    """What of the settings can be used, and what is wrong with the rest; for system checks.

    Returns:
        The configuration without the keys that are wrong, and every mistake.
    """
    return _parse_sound(_raw())


def parse(raw: Any) -> Config:
    """Turn the value of ``SIGNAL_AUDIT`` into a ``Config``, leaving the value untouched.

    Raises:
        AuditConfigurationError: naming the key and what to write instead.
    """
    config, mistakes = _parse_sound(raw)
    raise_found(mistakes)
    return config


def _parse_sound(raw: Any) -> tuple[Config, list[AuditConfigurationError]]:
    if not isinstance(raw, Mapping):
        return Config(), [
            AuditConfigurationError(
                f"{SETTING} is a {type(raw).__name__}.",
                hint="Write a dict, such as {'MODELS': {'shop.Order': {}}}.",
                number="E001",
            )
        ]
    sound: dict[str, Any] = {}
    mistakes: list[AuditConfigurationError] = []
    for key, value in raw.items():
        found = list(_mistakes(key, value))
        if not found:
            sound[key] = value
        mistakes += found
    return Config(**sound), mistakes


def _mistakes(key: Any, value: Any) -> Iterator[AuditConfigurationError]:
    if key not in KEYS:
        yield AuditConfigurationError(
            f"{SETTING} has no key {key!r}.", hint=nearest(key, KEYS), number="E001"
        )
    elif key in _INTEGERS:
        least = _INTEGERS[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            yield _wrong_value(key, value, f"Write a whole number of at least {least}.")
    elif key in _MAPPINGS:
        if isinstance(value, Mapping):
            yield from _text_mistakes(key, value, f"Its keys are {_MAPPINGS[key]}.")
        else:
            # Not the value itself: a sink's options may hold a password.
            yield AuditConfigurationError(
                f"{SETTING}[{key!r}] is a {type(value).__name__}.",
                hint=f"Write a dict whose keys are {_MAPPINGS[key]}.",
                number="E002",
            )
    elif key in _COLLECTIONS:
        if isinstance(value, Collection) and not isinstance(value, str):
            yield from _text_mistakes(key, value, "Its items are names.")
        else:
            example = value if isinstance(value, str) else "name"
            yield _wrong_value(key, value, f"Write a list of names, such as [{example!r}].")
    else:
        yield from _single_mistakes(key, value)


def _single_mistakes(key: str, value: Any) -> Iterator[AuditConfigurationError]:
    if key in _SWITCHES:
        if not isinstance(value, bool):
            yield _wrong_value(key, value, "Write True or False.")
    elif key in _CHOICES:
        if value not in _CHOICES[key]:
            yield _wrong_value(key, value, nearest(value, _CHOICES[key]))
    elif key == "STATE_DIR" and value is not None and not _is_absolute(value):
        # Processes are started in different places, and must find the same directory.
        yield _wrong_value(key, value, "Write an absolute path, such as BASE_DIR / 'audit-state'.")


def _is_absolute(value: Any) -> bool:
    if not isinstance(value, (str, os.PathLike)):
        return False
    path = os.fspath(value)
    return isinstance(path, str) and os.path.isabs(path) and "\0" not in path  # noqa: PTH117 - any text


def _text_mistakes(
    key: str, items: Collection[Any], rule: str
) -> Iterator[AuditConfigurationError]:
    for item in items:
        if not isinstance(item, str):
            yield AuditConfigurationError(
                f"{SETTING}[{key!r}] has {item!r}, which is no text.", hint=rule, number="E002"
            )


def _wrong_value(key: str, value: Any, hint: str) -> AuditConfigurationError:
    return AuditConfigurationError(f"{SETTING}[{key!r}] is {value!r}.", hint=hint, number="E002")
