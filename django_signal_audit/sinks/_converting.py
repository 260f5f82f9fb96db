"""From the text of a URL's parameter to the type that the option's annotation names."""

from __future__ import annotations

import collections.abc
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")

_COLLECTIONS: Final[dict[object, Callable[[Iterable[object]], object]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.Set: frozenset,
}


class WrongValueError(ValueError):
    """The text does not fit the type; its message is what to write instead."""


def annotations_of(sink: type) -> dict[str, Any] | None:
    """The options of a sink and the types that they are annotated with.

    Args:
        sink: the class; its options are the arguments of ``__init__`` after ``config``.

    Returns:
        Name to type. An option without annotation, or with one whose names exist for type
        checkers only, is a ``str``. ``None`` if the sink takes any option.
    """
    parameters = inspect.signature(sink).parameters.values()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return None
    names = getattr(inspect.unwrap(inspect.getattr_static(sink, "__init__")), "__globals__", {})
    return {
        one.name: _resolved(one.annotation, names) for one in parameters if one.name != "config"
    }


def convert(texts: Sequence[str], annotation: Any) -> object:
    """Turn what a URL says into the value of an option.

    Args:
        texts: what was given, more than once where the parameter is repeated.
        annotation: the option's type: ``str``, ``int``, ``float``, ``bool``, ``Path``,
            ``Literal``, ``None``, unions of these, and lists, tuples and sets of them, whose
            items are separated by commas or repeated. Any other type gets the text.

    Returns:
        The value.

    Raises:
        WrongValueError: the text does not fit.
    """
    kind = get_origin(annotation)
    if kind in (Union, UnionType):
        return _convert_to_one_of(texts, annotation)
    if (factory := _COLLECTIONS.get(kind or annotation)) is not None:
        items = [item.strip() for text in texts for item in text.split(",")]
        of = (*get_args(annotation), str)[0]
        return factory(convert([item], of) for item in items if item)
    if len(texts) > 1:
        raise WrongValueError("Write it once.")
    return _convert_one(texts[0], annotation)


def _convert_to_one_of(texts: Sequence[str], annotation: Any) -> object:
    said = f"Write {_expected(annotation)}."
    for member in sorted(get_args(annotation), key=_width):
        try:
            return convert(texts, member)
        except WrongValueError as exc:
            said = str(exc) if len(texts) > 1 else said
    raise WrongValueError(said)


def _width(annotation: Any) -> int:
    """Narrow types before wide ones: any text is a ``str``, few are a number."""
    narrow = (NoneType, bool, int, float)
    if annotation in narrow:
        return narrow.index(annotation)
    if get_origin(annotation) is Literal:
        return len(narrow)
    if (get_origin(annotation) or annotation) in _COLLECTIONS:
        return len(narrow) + 3
    return len(narrow) + (2 if annotation is str else 1)


def _convert_one(text: str, annotation: Any) -> object:
    word = text.strip().lower()
    if annotation is NoneType and word == "none":
        return None
    if annotation is bool and word in _TRUE | _FALSE:
        return word in _TRUE
    if annotation is int and _WHOLE.fullmatch(word):
        return _parsed(int, word)
    if annotation is float:
        return _parsed(_finite, word)
    if get_origin(annotation) is Literal:
        for value in get_args(annotation):
            if str(value) == text:
                return value
    elif annotation not in (NoneType, bool, int):
        return Path(text) if annotation is Path else text
    raise WrongValueError(f"Write {_expected(annotation)}.")


def _parsed(read: Callable[[str], float], word: str) -> float:
    try:
        return read(word)
    except ValueError:
        raise WrongValueError(f"Write {_expected(float)}.") from None


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(word)
    return value


def _expected(annotation: Any) -> str:
    """What to write, in words."""
    kind = get_origin(annotation)
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(_expected(member) for member in get_args(annotation)))
    if kind is Literal:
        *most, last = [repr(str(value)) for value in get_args(annotation)]
        return f"{', '.join(most)} or {last}" if most else last
    if kind in _COLLECTIONS:
        return f"{_expected(get_args(annotation)[0])}, repeated for more"
    words = {NoneType: "none", bool: "true or false", int: "a whole number", float: "a number"}
    return words.get(annotation, "a text")


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """The type behind an annotation; ``str`` where there is none."""
    if annotation is inspect.Parameter.empty:
        return str
    holder = types.SimpleNamespace(__annotations__={"option": annotation})
    try:
        return typing.get_type_hints(holder, names)["option"]
    except Exception:  # noqa: BLE001 - whatever an annotation may raise, the option is a text
        return str
