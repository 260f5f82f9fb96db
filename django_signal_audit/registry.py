"""Which models are audited, and how: one ``AuditPolicy`` per model.

Policies come from three places: ``@audited`` and ``register`` in code, and
``SIGNAL_AUDIT["MODELS"]``. They are kept by label, because historical models in
migrations are other classes with the same label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Unpack

from django.apps import apps

from django_signal_audit import conf, internals
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.policy import (
    OPERATIONS,
    OPTIONS,
    AuditPolicy,
    PolicyOptions,
    check_options,
    make_policy,
    require_consistent,
    require_entry,
)

if TYPE_CHECKING:
    from django.db.models import Model

__all__ = [
    "OPERATIONS",
    "OPTIONS",
    "AuditPolicy",
    "PolicyOptions",
    "generation",
    "is_record",
    "make_policy",
    "note_class",
    "policy_for",
    "policy_under",
    "register",
    "registered_labels",
    "unregister",
]

OWN_APP: Final = "django_signal_audit"
RECORD: Final = f"{OWN_APP}.auditrecord"

# The bookkeeping of `migrate` itself: a wildcard does not mean it; its exact label does.
_NOT_BY_WILDCARD: Final = frozenset({"migrations.migration"})


_by_label: dict[str, Mapping[str, Any]] = {}
_by_abstract_class: dict[type[Model], Mapping[str, Any]] = {}
_unregistered: set[str] = set()
_resolved: dict[str, AuditPolicy | None] = {}
_resolved_for: conf.Config | None = None
_proxies: Mapping[str, list[str]] | None = None
_generation = 0


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
    _forget()


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
    _forget()


def policy_for(model: type[Model]) -> AuditPolicy | None:
    """The policy of a model, ``None`` where it is not audited. The hot path of every write.

    Args:
        model: any model class: a proxy and a historical class have the policy of the
            concrete model with their label.
    """
    config = _config()
    label = _label_of(model)
    try:
        return _resolved[label]
    except KeyError:
        policy = _resolved[label] = _resolve(label, model, config)
        return policy


def note_class(model: type[Model]) -> None:
    """Look again at what is audited: a class of the project was made after its apps were ready."""
    if not internals.is_historical(model):
        _forget()


def generation() -> int:
    """A number that is another one as soon as policies may be others than before."""
    _config()
    return _generation


def _config() -> conf.Config:
    """The configuration; what was resolved under another one is forgotten."""
    global _resolved_for  # noqa: PLW0603 - the cache belongs to one parsed configuration
    config = conf.current()
    if config is not _resolved_for:
        _forget()
        _resolved_for = config
    return config


def _forget() -> None:
    global _generation, _proxies  # noqa: PLW0603 - counts the lives of the caches
    _resolved.clear()
    _proxies = None
    _generation += 1


def policy_under(model: type[Model], config: conf.Config) -> AuditPolicy | None:
    """The policy of a model as another configuration would make it, for system checks."""
    return _resolve(_label_of(model), model, config)


def is_record(model: type[Model]) -> bool:
    """Whether a model is the trail's own, whose rows nobody changes."""
    return _label_of(model) == RECORD


def registered_labels() -> frozenset[str]:
    """The labels that code has registered, for system checks."""
    return frozenset(_by_label)


def _require_label(label: str) -> str:
    if label.count(".") != 1 or not all(label.split(".")) or "*" in label:
        raise AuditConfigurationError(
            f"{label!r} is no model label.",
            hint="Write 'app_label.ModelName', such as 'auth.User'.",
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
    return [label.lower(), *_proxy_labels().get(label, ())]


def _proxy_labels() -> Mapping[str, list[str]]:
    """The lower-case labels of all proxies, by the label of their concrete model."""
    global _proxies  # noqa: PLW0603 - found once; see `note_class`
    if _proxies is not None:
        return _proxies
    found: dict[str, list[str]] = {}
    for model in _known_models():
        if model._meta.proxy:
            found.setdefault(_label_of(model), []).append(model._meta.label_lower.lower())
    for labels in found.values():
        labels.sort()
    if apps.ready:
        _proxies = found
    return found


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
            require_entry(f"{conf.SETTING}['MODELS'][{pattern!r}]", value)
            return True, value
    return None, {}
