"""Dotted paths in settings: what they lead to, or the nearest one that leads to what is wanted."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.utils.module_loading import import_string

from django_signal_audit.exceptions import AuditConfigurationError

if TYPE_CHECKING:
    from types import ModuleType


def load(path: str, problem: str, *, advice: Callable[[], str], number: str) -> Any:
    """Import what a setting names.

    Args:
        path: the dotted path.
        problem: begins the message if it cannot be imported; the reason follows in brackets.
        advice: asked for the hint then.
        number: of the system check.

    Raises:
        AuditConfigurationError: it cannot be imported.
    """
    try:
        return import_string(path)
    except Exception as error:
        # A module may raise anything while it is imported.
        raise AuditConfigurationError(
            f"{problem} ({reason_of(error)}).", hint=advice(), number=number
        ) from error


def nearest_path(path: str, fits: Callable[[object], bool]) -> str:
    """Advice for a dotted path: the nearest to something that fits.

    Each part of the path may be mistyped: the application, a module, the name in it.

    Args:
        path: what was written.
        fits: says whether an attribute of a module is what was wanted.

    Returns:
        A sentence such as ``Did you mean 'shop.signals.order_paid'?``; empty if nothing is near.
    """
    found = _correct(path.split("."), fits)
    return f"Did you mean {'.'.join(found)!r}?" if found else ""


def reason_of(error: Exception) -> str:
    """Why an import failed, for a message: a module that is imported may raise anything."""
    return str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"


def _correct(parts: Sequence[str], fits: Callable[[object], bool]) -> list[str]:
    """The path with what is wrong in it replaced, part by part; empty if that cannot be."""
    *modules, name = parts
    if not modules:
        return []
    good, package = _deepest_package(modules)
    if package is None:
        known = {config.name.partition(".")[0] for config in apps.get_app_configs()}
    elif good < len(modules):
        known = {module.name for module in pkgutil.iter_modules(getattr(package, "__path__", ()))}
    else:
        near = _near(name, [n for n, value in vars(package).items() if n[0] != "_" and fits(value)])
        return [*modules, near] if near else []
    # A module that is there and cannot be imported is not what is mistyped.
    near = _near(modules[good], known - {modules[good]})
    return _correct([*modules[:good], near, *modules[good + 1 :], name], fits) if near else []


def _deepest_package(parts: Sequence[str]) -> tuple[int, ModuleType | None]:
    """How many of the parts can be imported, and what they are."""
    for size in range(len(parts), 0, -1):
        try:
            return size, import_module(".".join(parts[:size]))
        except Exception:  # noqa: BLE001, S112 - a module may raise anything while it is imported
            continue
    return 0, None


def _near(wrong: str, good: Collection[str]) -> str:
    folded = {name.lower(): name for name in good}
    close = get_close_matches(wrong.lower(), folded, n=1)
    return folded[close[0]] if close else ""
