"""The user's structlog processors: found by their dotted paths, and run on events."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django_signal_audit import conf
from django_signal_audit.dotted import load, nearest_path
from django_signal_audit.exceptions import (
    AuditConfigurationError,
    AuditProcessorError,
    raise_found,
)
from django_signal_audit.revision import problem_of, revised

if TYPE_CHECKING:
    from django_signal_audit.event import AuditEvent

NUMBER: Final = "E026"

_SIGNATURE: Final = "(logger, method_name, event_dict)"
_ADVICE: Final = f"Write the dotted path of a function {_SIGNATURE} that returns the event dict."


@dataclass(frozen=True, slots=True, eq=False)
class Processor:
    """A structlog processor, with a name for messages.

    Attributes:
        name: its dotted path.
        function: takes ``None``, the event's level and the event dict, and returns that.
    """

    name: str
    function: Callable[[None, str, dict[str, Any]], Any]


def run(processors: tuple[Processor, ...], event: AuditEvent) -> AuditEvent:
    """Give an event to processors, one after the other; the event itself stays as it is.

    Args:
        processors: as ``resolve`` found them.
        event: what they are given as a dict of their own, ``event.own_dict()``.

    Returns:
        What they made of it; the same event if that is nothing new.

    Raises:
        structlog.DropEvent: one of them said: not this one.
        AuditProcessorError: one of them raised, or returned what is no event.
    """
    said = event.own_dict()
    for processor in processors:
        try:
            said = processor.function(None, event.level, said)
        except Exception as exc:
            text = str(exc).strip().partition("\n")[0]
            raise AuditProcessorError(
                f"The processor {processor.name} raised {type(exc).__name__}: {text}"
            ) from exc
        problem = problem_of(event, said)
        if problem is not None:
            raise AuditProcessorError(f"The processor {processor.name} {problem}")
    return revised(event, said)


def resolve(where: str, value: Any) -> tuple[Processor, ...]:
    """Find the processors that a setting names.

    Args:
        where: the setting, for messages.
        value: of the setting: a list of dotted paths or functions; not changed.

    Raises:
        AuditConfigurationError: the first mistake, with the others beside it.
    """
    if not isinstance(value, (list, tuple)):
        example = value if isinstance(value, str) else "shop.audit.add_host"
        raise AuditConfigurationError(
            f"{where} is {value!r}.",
            hint=f"Write a list of dotted paths, such as [{example!r}].",
            number=NUMBER,
        )
    found: list[Processor] = []
    mistakes: list[AuditConfigurationError] = []
    for item in value:
        try:
            found.append(_resolve_one(where, item))
        except AuditConfigurationError as exc:
            mistakes.append(exc)
    raise_found(mistakes)
    return tuple(found)


def global_processors() -> tuple[Processor, ...]:
    """The processors of ``SIGNAL_AUDIT["PROCESSORS"]``, which every event runs through.

    Raises:
        AuditConfigurationError: the setting is wrong.
    """
    global _global  # noqa: PLW0603 - one answer for each parsed configuration
    config = conf.current()
    if config.PROCESSORS == ():
        return ()
    if _global is None or _global[0] is not config:
        _global = (config, resolve(f"{conf.SETTING}['PROCESSORS']", config.PROCESSORS))
    return _global[1]


_global: tuple[conf.Config, tuple[Processor, ...]] | None = None


def _resolve_one(where: str, item: Any) -> Processor:
    function = item
    if isinstance(item, str):
        function = load(
            item,
            f"{where} names {item!r}, which cannot be imported",
            advice=lambda: nearest_path(item, _is_processor) or _ADVICE,
            number=NUMBER,
        )
    for problem, hint in _faults(function):
        raise AuditConfigurationError(
            f"{where} names {item!r}, {problem}.", hint=hint, number=NUMBER
        )
    return Processor(item if isinstance(item, str) else _path_of(item), function)


def _faults(function: Any) -> Iterator[tuple[str, str]]:
    if isinstance(function, type):
        yield (
            "which is a class",
            "Make an instance of it in a module of yours, and write the instance's dotted path.",
        )
    elif not callable(function):
        yield f"which is a {type(function).__name__} and cannot be called", _ADVICE
    elif _is_async(function):
        yield "which is async", "Write a plain function; it runs inside of the write."
    elif not _takes_three(function):
        yield f"which does not take {_SIGNATURE}", _ADVICE


def _is_processor(function: object) -> bool:
    return not any(_faults(function))


def _is_async(function: Any) -> bool:
    called = function if inspect.isroutine(function) else type(function).__call__
    return inspect.iscoroutinefunction(called)


def _takes_three(function: Any) -> bool:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some that are written in C do not tell
        return True
    try:
        signature.bind(None, "info", {})
    except TypeError:
        return False
    return True


def _path_of(function: Any) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
