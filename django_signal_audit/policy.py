"""How one model is audited: ``AuditPolicy``, its options, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from django_signal_audit import conf
from django_signal_audit.exceptions import AuditConfigurationError, raise_found

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

OPERATIONS: Final = frozenset({"create", "update", "delete", "m2m"})

IGNORE_ONLY: Final = frozenset({"last_login"})
"""A login is an event of its own; that Django notes its time on the user is no second one."""


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """How one model is audited.

    Attributes:
        label: ``app_label.model``, lower case.
        include_fields: names of the only fields to record; ``None`` means all.
        exclude_fields: names of fields that are never recorded.
        mask_fields: names of fields whose values are recorded as ``"[redacted]"``.
        m2m_fields: names of many-to-many fields to record; ``None`` means all declared.
        on: which of ``create``, ``update``, ``delete``, ``m2m`` are recorded.
        sinks: aliases of the only sinks that get this model's events; ``None`` means all.
        before: where the old values come from: ``database`` or ``loaded``.
        bulk: what calls that write many rows leave: ``rows``, an event for each row;
            ``summary``, one event for the call; ``off``, none.
        coalesce: several saves of one object in one transaction make one event.
        ignore_only: names of fields that make no event where nothing else has changed.
        when: asked with each event; a false answer drops it.
    """

    label: str
    include_fields: frozenset[str] | None = None
    exclude_fields: frozenset[str] = frozenset()
    mask_fields: frozenset[str] = frozenset()
    m2m_fields: frozenset[str] | None = None
    on: frozenset[str] = OPERATIONS
    sinks: tuple[str, ...] | None = None
    before: Literal["database", "loaded"] = "database"
    bulk: Literal["rows", "summary", "off"] = "rows"
    coalesce: bool = False
    ignore_only: frozenset[str] = IGNORE_ONLY
    when: Callable[[AuditEvent], bool] | None = None

    def records_field(self, name: str) -> bool:
        """Whether a field's changes belong in the trail."""
        if self.include_fields is not None and name not in self.include_fields:
            return False
        return name not in self.exclude_fields

    def records_m2m(self, name: str) -> bool:
        """Whether a many-to-many field's changes belong in the trail."""
        if "m2m" not in self.on or name in self.exclude_fields:
            return False
        return self.m2m_fields is None or name in self.m2m_fields


class PolicyOptions(TypedDict, total=False):
    """The options of ``@audited``, ``register`` and an entry of ``MODELS``."""

    include_fields: Collection[str] | None
    exclude_fields: Collection[str]
    mask_fields: Collection[str]
    m2m_fields: Collection[str] | None
    on: Collection[str]
    sinks: Collection[str] | None
    before: Literal["database", "loaded"]
    bulk: Literal["rows", "summary", "off"]
    coalesce: bool
    ignore_only: Collection[str]
    when: Callable[[AuditEvent], bool] | None


OPTIONS: Final = tuple(f.name for f in fields(AuditPolicy) if f.name != "label")
_LISTS: Final = (
    "include_fields",
    "exclude_fields",
    "mask_fields",
    "m2m_fields",
    "on",
    "sinks",
    "ignore_only",
)
_CHOICES: Final = {"before": ("database", "loaded"), "bulk": ("rows", "summary", "off")}


def check_options(where: str, options: Mapping[str, Any]) -> None:
    """Refuse unknown policy options and wrong values.

    Whether they contradict each other is asked of a model's whole policy, code and
    settings together, by ``policy_for``.

    Args:
        where: what to name in the message: a model or its entry in the settings.
        options: as given by the user; not changed.

    Raises:
        AuditConfigurationError: naming the option and what to write instead; it carries all
            further mistakes.
    """
    raise_found(
        mistake for name, value in options.items() for mistake in _mistakes(where, name, value)
    )


def _mistakes(where: str, name: Any, value: Any) -> Iterator[AuditConfigurationError]:
    if name not in OPTIONS:
        yield AuditConfigurationError(
            f"{where}: there is no audit option {name!r}.",
            hint=conf.nearest(name, OPTIONS),
            number="E012",
        )
    elif name in _LISTS:
        optional = name in {"include_fields", "m2m_fields", "sinks"}
        if not _is_list_of_names(value) and not (optional and value is None):
            example = value if isinstance(value, str) else "name"
            yield _wrong_value(where, name, value, f"Write a list of names, such as [{example!r}].")
        elif name == "on":
            for operation in value:
                if operation not in OPERATIONS:
                    advice = conf.nearest(operation, OPERATIONS)
                    yield _wrong_value(where, name, operation, advice)
    elif name in _CHOICES and value not in _CHOICES[name]:
        *others, last = map(repr, _CHOICES[name])
        yield _wrong_value(where, name, value, f"Write {', '.join(others)} or {last}.")
    elif name == "coalesce" and not isinstance(value, bool):
        yield _wrong_value(where, name, value, "Write True or False.")
    elif name == "when" and value is not None and not callable(value):
        yield _wrong_value(where, name, value, "Write a function that takes the event.")


def _wrong_value(where: str, name: str, value: Any, hint: str) -> AuditConfigurationError:
    problem = f"{where}: the audit option {name} cannot be {value!r}."
    return AuditConfigurationError(problem, hint=hint, number="E013")


def _is_list_of_names(value: Any) -> bool:
    return (
        isinstance(value, Collection)
        and not isinstance(value, str)
        and all(isinstance(item, str) for item in value)
    )


def require_entry(where: str, value: Any) -> None:
    """Refuse an entry of ``MODELS`` that is no dict of options.

    Raises:
        AuditConfigurationError: naming the entry.
    """
    if not isinstance(value, Mapping):
        raise AuditConfigurationError(
            f"{where} is {value!r}.",
            hint="Write a dict of options, or False to exclude it.",
            number="E013",
        )


def require_consistent(where: str, options: Mapping[str, Any]) -> None:
    """Refuse options that contradict each other.

    Args:
        where: what to name in the message.
        options: checked one by one already.

    Raises:
        AuditConfigurationError: saying which to leave out.
    """
    if options.get("include_fields") is not None and options.get("exclude_fields"):
        raise AuditConfigurationError(
            f"{where}: include_fields and exclude_fields contradict each other; a field that is "
            "not included is excluded already.",
            hint="Give include_fields or exclude_fields, not both. If one is in the code and one "
            "in the settings, switch the code's off in the settings: 'include_fields': None or "
            "'exclude_fields': [].",
            number="E014",
        )


def make_policy(label: str, options: Mapping[str, Any]) -> AuditPolicy:
    """Build a policy from checked options."""

    def names(key: str) -> frozenset[str]:
        return frozenset(options.get(key) or ())

    return AuditPolicy(
        label=label,
        include_fields=names("include_fields")
        if options.get("include_fields") is not None
        else None,
        exclude_fields=names("exclude_fields"),
        mask_fields=names("mask_fields"),
        m2m_fields=names("m2m_fields") if options.get("m2m_fields") is not None else None,
        on=frozenset(options.get("on", OPERATIONS)),
        sinks=tuple(options["sinks"]) if options.get("sinks") is not None else None,
        before=options.get("before", "database"),
        bulk=options.get("bulk", "rows"),
        coalesce=options.get("coalesce", False),
        ignore_only=frozenset(options.get("ignore_only", IGNORE_ONLY)),
        when=options.get("when"),
    )
