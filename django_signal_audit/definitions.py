"""Where code names sinks beside policies, so that a system check can say which it mistyped."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Definition:
    """One place in code that names sinks.

    Attributes:
        where: module and event, such as ``shop.signals: define_event('order.paid')``.
        sinks: the aliases it names.
    """

    where: str
    sinks: tuple[str, ...]


# Weak, so that what a test or a function defined for itself is forgotten with it.
_known: WeakKeyDictionary[object, list[Definition]] = WeakKeyDictionary()


def remember(owner: T, where: str, sinks: Collection[str] | None, module: str = "") -> T:
    """Note which sinks a definition names; without any there is nothing to note.

    Args:
        owner: what is defined: a signal, a decorated function; it is kept alive by others.
        where: how the definition reads, such as ``define_event('order.paid')``.
        sinks: the aliases it names.
        module: the module it stands in; left out, the one that called this package.

    Returns:
        The owner.
    """
    if sinks:
        definition = Definition(f"{module or _calling_module()}: {where}", tuple(sinks))
        _known.setdefault(owner, []).append(definition)
    return owner


def all_definitions() -> list[Definition]:
    """What was remembered and still exists, in the order of its places."""
    found = [definition for definitions in _known.values() for definition in definitions]
    return sorted(found, key=lambda definition: definition.where)


def _calling_module() -> str:
    """The name of the module whose code called into this package."""
    frame = inspect.currentframe()
    while frame is not None and _module_of(frame).partition(".")[0] == _PACKAGE:
        frame = frame.f_back
    return "?" if frame is None else _module_of(frame)


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))
