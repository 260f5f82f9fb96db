"""How an act ends: as its block says, else as its exception or its response says."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http.response import HttpResponseBase
from django.utils.functional import LazyObject

from django_signal_audit.event import Outcome
from django_signal_audit.exceptions import AuditConfigurationError

_REFUSED: Final = (401, 403)
_FIRST_ERROR: Final = 400
_DEEPEST: Final = 50


class Action:
    """What a block may still say of the act that it is.

    Attributes:
        id: of the event to come; events made inside carry it as their ``cause``.
        data: the ``data`` of the event, to be added to until the block ends.
        target: the model instance that the act is about, or ``None``.
    """

    __slots__ = ("_data", "_said", "_target", "id")

    def __init__(self, event_id: uuid.UUID, data: Mapping[str, Any], target: Any) -> None:
        self.id = event_id
        self.data = data
        self.target = target
        self._said: tuple[Outcome, str] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The ``data`` of the event."""
        return self._data

    @data.setter
    def data(self, data: Mapping[str, Any]) -> None:
        require_data("The data of an act", data)
        self._data = dict(data)

    @property
    def target(self) -> Any:
        """The model instance that the act is about."""
        return self._target

    @target.setter
    def target(self, target: Any) -> None:
        require_object(target)
        self._target = target

    def deny(self, message: str = "") -> None:
        """Say that the act was not permitted, with no exception needed.

        Args:
            message: why, for people: the event's ``message``.
        """
        self._said = (Outcome.DENIED, message)

    def fail(self, message: str = "") -> None:
        """Say that the act failed, with no exception needed.

        Args:
            message: why, for people: the event's ``message``.
        """
        self._said = (Outcome.FAILURE, message)

    def ending(self, error: BaseException | None, status: int | None) -> tuple[Outcome, str]:
        """How the act ends: as the block said, else as its exception or its response says.

        Args:
            error: what it raised, unless that is a success.
            status: of the response that it returned.
        """
        if self._said is not None:
            return self._said
        if isinstance(error, PermissionDenied) or status in _REFUSED:
            return Outcome.DENIED, ""
        if error is not None or (status is not None and status >= _FIRST_ERROR):
            return Outcome.FAILURE, ""
        return Outcome.SUCCESS, ""


def mistake(error: BaseException | None) -> BaseException | None:
    """The exception itself, but ``None`` for a program that exits with the status of success."""
    if not isinstance(error, SystemExit):
        return error
    # Python prints any other object, 0.0 included, and exits with 1.
    good = error.code is None or (isinstance(error.code, int) and error.code == 0)
    return None if good else error


def status_of(result: object) -> int | None:
    """The status of a response; ``None`` for any other result."""
    # Its type is asked: isinstance() would evaluate a lazy object.
    if not issubclass(type(result), HttpResponseBase):
        return None
    status = getattr(result, "status_code", None)
    return int(status) if isinstance(status, int) else None


def is_object(value: object) -> bool:
    """Whether a value can be what an act is about; a lazy one is not loaded for the question."""
    return isinstance(value, LazyObject | Model)


def require_object(target: object) -> None:
    """Refuse a target that no act can be about.

    Raises:
        AuditConfigurationError: it is neither a model instance nor ``None``.
    """
    if target is not None and not is_object(target):
        raise AuditConfigurationError(
            f"The target of an act is a model instance, not {target!r:.100}.",
            hint="Put anything else into its data, such as data={'shift': 5}.",
        )


def require_data(what: str, data: object) -> None:
    """Refuse data that has no names.

    Args:
        what: what to name in the message.
        data: what was given.

    Raises:
        AuditConfigurationError: it is no mapping.
    """
    if not isinstance(data, Mapping):
        raise AuditConfigurationError(
            f"{what} is a {type(data).__name__}.",
            hint="Write a dict, such as data={'shift': 5}.",
        )


def with_own_containers(data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of data whose dicts, lists, sets and tuples are copies too; all else is shared."""
    known: dict[int, Any] = {}
    return {name: _copied(value, known, 1) for name, value in data.items()}


def _copied(value: Any, known: dict[int, Any], depth: int) -> Any:
    kind = type(value)
    if kind not in {dict, list, set, tuple} or depth > _DEEPEST:
        return value
    if id(value) in known:
        return known[id(value)]
    copy: Any
    if kind is dict:
        # It may hold itself, so it must be known before it is filled.
        copy = known[id(value)] = {}
        copy.update((key, _copied(item, known, depth + 1)) for key, item in value.items())
    elif kind is list:
        copy = known[id(value)] = []
        copy.extend(_copied(item, known, depth + 1) for item in value)
    elif kind is set:
        copy = known[id(value)] = set(value)
    else:
        copy = known[id(value)] = tuple(_copied(item, known, depth + 1) for item in value)
    return copy
