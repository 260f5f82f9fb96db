"""Which models are audited, and how: one ``AuditPolicy`` per model.

Policies come from three places: ``@audited`` and ``register`` in code, and
``SIGNAL_AUDIT["MODELS"]``. They are kept by label, because historical models in
migrations are other classes with the same label.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, Unpack

from django.apps import apps

from django_signal_audit import conf
from django_signal_audit.exceptions import AuditConfigurationError

if TYPE_CHECKING:
    from django.db.models import Model

    from django_signal_audit.event import AuditEvent

OPERATIONS: Final = frozenset({"create", "update", "delete", "m2m"})

OWN_APP: Final = "django_signal_audit"
RECORD: Final = f"{OWN_APP}.auditrecord"

# The bookkeeping of `migrate` itself: a wildcard does not mean it; its exact label does.
_NOT_BY_WILDCARD: Final = frozenset({"migrations.migration"})


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
    when: Callable[[AuditEvent], bool] | None


OPTIONS: Final = tuple(f.name for f in fields(AuditPolicy) if f.name != "label")

_by_label: dict[str, Mapping[str, Any]] = {}
_by_abstract_class: dict[type[Model], Mapping[str, Any]] = {}
_unregistered: set[str] = set()
_resolved: dict[str, AuditPolicy | None] = {}
_resolved_for: conf.Config | None = None


def register(model: type[Model] | str, **options: Unpack[PolicyOptions]) -> None:
    """Audit a model, for instance one of another package.

    Args:
        model: a model class (an abstract one stands for its subclasses) or ``"app.Model"``.
        **options: see ``AuditPolicy``.

    Raises:
        AuditConfigurationError: an option is unknown or has a wrong value.
    """
    checked = dict(options)
    where = model if isinstance(model, str) else model.__name__
    check_options(where, checked)
    if not isinstance(model, str) and model._meta.abstract:
        _by_abstract_class[model] = checked
    else:
        label = _concrete_label(model)
        _by_label[label] = checked
        _unregistered.discard(label)
    _resolved.clear()


def unregister(model: type[Model] | str) -> None:
    """Stop auditing a model, whichever way it was registered in code.

    An entry of ``SIGNAL_AUDIT["MODELS"]`` is not touched: set it to ``False`` there.

    Args:
        model: as given to ``register``; a subclass of an abstract model that is
            registered, too.

    Raises:
        AuditConfigurationError: a string is no label.
    """
    if not isinstance(model, str) and model._meta.abstract:
        _by_abstract_class.pop(model, None)
    else:
        label = _concrete_label(model)
        _by_label.pop(label, None)
        _unregistered.add(label)
    _resolved.clear()


def policy_for(model: type[Model]) -> AuditPolicy | None:
    """The policy of a model, ``None`` where it is not audited. The hot path of every write.

    Args:
        model: any model class: a proxy and a historical class have the policy of the
            concrete model with their label.
    """
    global _resolved_for  # noqa: PLW0603 - the cache belongs to one parsed configuration
    config = conf.current()
    if config is not _resolved_for:
        _resolved.clear()
        _resolved_for = config
    label = _label_of(model)
    try:
        return _resolved[label]
    except KeyError:
        policy = _resolved[label] = _resolve(label, model, config)
        return policy


def is_record(model: type[Model]) -> bool:
    """Whether a model is the trail's own, whose rows nobody changes."""
    return _label_of(model) == RECORD


def registered_labels() -> frozenset[str]:
    """The labels that code has registered, for system checks."""
    return frozenset(_by_label)


def check_options(where: str, options: Mapping[str, Any]) -> None:
    """Refuse unknown policy options and wrong values.

    Whether they contradict each other is asked of a model's whole policy, code and
    settings together, by ``policy_for``.

    Args:
        where: what to name in the message: a model or its entry in the settings.
        options: as given by the user; not changed.

    Raises:
        AuditConfigurationError: naming the option and what to write instead.
    """
    for name, value in options.items():
        if name not in OPTIONS:
            raise AuditConfigurationError(
                f"{where}: there is no audit option {name!r}. {conf.nearest(name, OPTIONS)}"
            )
        if name in {"include_fields", "exclude_fields", "mask_fields", "m2m_fields", "on", "sinks"}:
            optional = name in {"include_fields", "m2m_fields", "sinks"}
            _require_names(where, name, value, optional=optional)
    for operation in options.get("on", ()):
        if operation not in OPERATIONS:
            raise AuditConfigurationError(
                f"{where}: on={operation!r} is no operation. {conf.nearest(operation, OPERATIONS)}"
            )
    if options.get("before", "database") not in ("database", "loaded"):
        raise AuditConfigurationError(
            f"{where}: before={options['before']!r} must be 'database' or 'loaded'."
        )
    if options.get("when") is not None and not callable(options["when"]):
        raise AuditConfigurationError(
            f"{where}: when must be a callable that takes the event, not {options['when']!r}."
        )


def _require_names(where: str, name: str, value: Any, *, optional: bool) -> None:
    if optional and value is None:
        return
    if (
        isinstance(value, str)
        or not isinstance(value, Collection)
        or not all(isinstance(item, str) for item in value)
    ):
        example = value if isinstance(value, str) else "name"
        raise AuditConfigurationError(
            f"{where}: {name} must be a list of names, such as [{example!r}], not {value!r}."
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
            f"{where}: give include_fields or exclude_fields, not both; a field that is not "
            "included is excluded already. If one is in the code and one in the settings, "
            "switch the code's off in the settings: 'include_fields': None or "
            "'exclude_fields': []."
        )


def _require_label(label: str) -> str:
    if label.count(".") != 1 or not all(label.split(".")) or "*" in label:
        raise AuditConfigurationError(
            f"{label!r} is no model label; write 'app_label.ModelName', such as 'auth.User'."
        )
    return label.lower()


def _concrete_label(model: type[Model] | str) -> str:
    """The lower-case label of a model, or of the concrete model behind a proxy."""
    if not isinstance(model, str):
        return _label_of(model).lower()
    label = _require_label(model)
    for found in _known_models():
        if found._meta.label_lower.lower() == label:
            return _label_of(found).lower()
    return label  # its module is not loaded yet


def _known_models() -> Iterator[type[Model]]:
    for models in apps.all_models.values():
        yield from models.values()


def _label_of(model: type[Model]) -> str:
    concrete = model._meta.concrete_model
    return (concrete or model)._meta.label_lower


def _resolve(label: str, model: type[Model], config: conf.Config) -> AuditPolicy | None:
    meta = (model._meta.concrete_model or model)._meta
    if meta.app_label == OWN_APP or meta.auto_created:
        return None
    names = _names_of(label)
    said, options = _from_settings(names, meta.app_label, config)
    if said is False:
        return None
    removed = any(name in _unregistered for name in names)
    coded = None if removed else _from_code(names, model)
    if coded is None and said is None:
        return None
    merged = {**(coded or {}), **options}
    check_options(label, merged)
    require_consistent(label, merged)
    return make_policy(label, merged)


def _names_of(label: str) -> list[str]:
    """The lower-case labels that mean a model: its own, then those of its proxies."""
    proxies = [
        model._meta.label_lower
        for model in _known_models()
        if model._meta.proxy and _label_of(model) == label
    ]
    return [label.lower(), *sorted(proxy.lower() for proxy in proxies)]


def _from_code(names: Sequence[str], model: type[Model]) -> Mapping[str, Any] | None:
    for name in names:
        if name in _by_label:
            return _by_label[name]
    label = names[0]
    # A historical class has other bases than the class it stands for.
    real = apps.all_models.get(model._meta.app_label, {}).get(label.partition(".")[2], model)
    for base in real.__mro__:
        if base in _by_abstract_class:
            return _by_abstract_class[base]
    return None


def _from_settings(
    names: Sequence[str], app_label: str, config: conf.Config
) -> tuple[bool | None, Mapping[str, Any]]:
    """What MODELS says of a model: (True, options), (False, {}), or (None, {}) for nothing."""
    by_label = {key.lower(): value for key, value in config.MODELS.items()}
    patterns = list(names)
    if names[0] not in _NOT_BY_WILDCARD:
        patterns += [f"{app_label}.*".lower(), "*"]
    for pattern in patterns:
        if pattern in by_label:
            value = by_label[pattern]
            if value is False:
                return False, {}
            if not isinstance(value, Mapping):
                raise AuditConfigurationError(
                    f"{conf.SETTING}['MODELS'][{pattern!r}] must be a dict of options, or False "
                    f"to exclude it, not {value!r}."
                )
            return True, value
    return None, {}


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
        when=options.get("when"),
    )
