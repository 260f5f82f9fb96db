"""The arguments of a call: which are kept, which one it is about, and which are secret."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from django.conf import settings

from django_signal_audit import conf, context
from django_signal_audit._known import collect_secrets
from django_signal_audit.endings import is_object
from django_signal_audit.exceptions import AuditConfigurationError
from django_signal_audit.redaction import Redactor, redactor

# Names that only a type checker imports must not be looked up.
_UNEVALUATED: Final[dict[str, Any]] = (
    {"annotation_format": importlib.import_module("annotationlib").Format.STRING}
    if sys.version_info >= (3, 14)
    else {}
)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a callable; of one that tells none, such as some of C: anything."""
    # method_decorator() gives a partial that claims to wrap the unbound method.
    is_partial = isinstance(function, functools.partial)
    try:
        return inspect.signature(function, follow_wrapped=not is_partial, **_UNEVALUATED)
    except (TypeError, ValueError):
        return _ANYTHING


def _anything(*args: Any, **kwargs: Any) -> None: ...


_ANYTHING: Final = inspect.signature(_anything)


class Parameters:
    """What the values of a call are called.

    Args:
        function: is called with them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        # As a text: what is called may be held weakly.
        self._name = getattr(function, "__qualname__", repr(function))
        self._signature = signature_of(function)
        self._others = next(
            (p.name for p in self._signature.parameters.values() if p.kind is p.VAR_KEYWORD), None
        )

    def require(self, where: str, names: Collection[str]) -> None:
        """Refuse names of arguments that no call can give.

        Raises:
            AuditConfigurationError: naming one, and the nearest that there is.
        """
        known = self._signature.parameters
        for name in names:
            if name not in known and self._others is None:
                raise AuditConfigurationError(
                    f"{where}: {self._name} has no argument {name!r}.",
                    hint=conf.nearest(name, list(known) or ["(none)"]),
                )

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a call by name, defaults included; of a wrong call only its keywords."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:
            return dict(kwargs)  # the call itself says better what is wrong
        bound.apply_defaults()
        others = {} if self._others is None else bound.arguments[self._others]
        return {**others, **bound.arguments}

    def chosen(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Collection[str]
    ) -> dict[str, Any]:
        """The values of a call that have one of these names."""
        if not names:
            return {}
        given = self.named(args, kwargs)
        return {name: given[name] for name in names if name in given}

    def secrets(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> frozenset[str]:
        """The texts of all values of a call whose name is sensitive, whether kept or not."""
        if context.is_suspended():
            return frozenset()
        hide = _redactor()
        if not any(map(hide.is_sensitive, (*self._signature.parameters, *kwargs))):
            return frozenset()
        return secrets_among(self.named(args, kwargs))


def secrets_among(
    named: Mapping[str, Any], masked: Collection[str] = frozenset()
) -> frozenset[str]:
    """The texts of values whose name is sensitive.

    Args:
        named: values by name.
        masked: further names whose values are secret.
    """
    hide, secrets = _redactor(), set[str]()
    for name, value in named.items():
        if name in masked or hide.is_sensitive(name):
            collect_secrets(value, secrets)
    return frozenset(secrets)


def apart(
    given: dict[str, Any], arguments: Collection[str], target: str | None
) -> tuple[dict[str, Any], Any]:
    """Part the chosen arguments of a call into its data and the object it is about.

    Args:
        given: those of ``arguments``, and the target.
        arguments: names that go to the data.
        target: name of the object; if it is none, it goes to the data too.
    """
    about = given.get(target) if target is not None else None
    if about is None or not is_object(about):
        return given, None
    return {name: value for name, value in given.items() if name in arguments}, about


def _redactor() -> Redactor:
    # A function may be called, and the event wait, before there are settings.
    return redactor() if settings.configured else Redactor()
