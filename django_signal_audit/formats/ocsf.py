"""The ``ocsf`` format: Open Cybersecurity Schema Framework 1.5.0, one JSON object a line.

An event becomes one of three classes:

- ``auth.*`` is 3002, Authentication: ``auth.login...`` is Logon, ``auth.logout...`` is Logoff,
  any other is Other.
- what is about an object is 3004, Entity Management, and the object its ``entity``:
  ``model.create`` is Create, ``model.update`` and ``model.m2m`` are Update, ``model.delete`` is
  Delete, and any other, such as an act of your own, is Other, with its name as ``activity_name``.
- all else is 0, Base Event, which the schema has for events that it does not define: 3004
  demands an entity, and there is none.

What OCSF has no attribute for, or not in that class, is in ``unmapped``, which is JSON of any
shape: ``changes``, ``data``, the rest of the ``context``, ``on_behalf_of`` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from structlog.processors import JSONRenderer

from django_signal_audit.formats._context import has_begun, project_name, split_context, whole
from django_signal_audit.formats.json import serialize

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

OCSF_VERSION: Final = "1.5.0"
PRODUCT: Final = "django-signal-audit"

BASE_EVENT: Final = 0
AUTHENTICATION: Final = 3002
ENTITY_MANAGEMENT: Final = 3004

_CLASSES: Final = {
    BASE_EVENT: ("Base Event", 0, "Uncategorized"),
    AUTHENTICATION: ("Authentication", 3, "Identity & Access Management"),
    ENTITY_MANAGEMENT: ("Entity Management", 3, "Identity & Access Management"),
}
_OTHER: Final = 99
_MODEL_ACTIVITIES: Final = {
    "model.create": (1, "Create"),
    "model.update": (3, "Update"),
    "model.m2m": (3, "Update"),
    "model.delete": (4, "Delete"),
}
_SEVERITIES: Final = {
    "debug": (1, "Informational"),
    "info": (1, "Informational"),
    "warning": (2, "Low"),
    "error": (3, "Medium"),
    "critical": (5, "Critical"),
}
_STATUSES: Final = {"success": (1, "Success"), "failure": (2, "Failure"), "denied": (2, "Failure")}
_USER_TYPES: Final = {"user": (1, "User"), "system": (3, "System"), "service": (4, "Service")}
_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_KNOWN_CONTEXT: Final = frozenset({"ip", "method", "path", "query", "request_id", "user_agent"})
_OBJECT: Final = ("object_type", "object_id", "object_repr")
_NEVER_NULL: Final = frozenset({"sender", "data", "object_repr"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class OcsfShape:
    """Make an OCSF event of an event dict.

    Args:
        service: the name of the application that acted, and that people log on to.
    """

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        """Put each field of the event where OCSF has it, or into ``unmapped``."""
        class_uid = _class_of(event_dict)
        shape = _classification(class_uid, event_dict) | _occurrence(event_dict)
        unmapped = _unmapped(event_dict)
        if class_uid == BASE_EVENT:
            # It has neither an actor nor a request.
            rest = event_dict["context"]
            unmapped |= _given(event_dict, "actor", "reason", *_OBJECT)
        else:
            known, rest = _request(event_dict["context"])
            shape |= known
            shape["actor"] = self._actor(event_dict)
            shape["metadata"]["profiles"] = ["host"]
            if event_dict["actor"] is not None and _is_nameless(event_dict["actor"]):
                unmapped["actor"] = event_dict["actor"]
        if class_uid == AUTHENTICATION:
            shape["user"] = _subject(event_dict)
            shape["service"] = {"name": self._service}
            unmapped |= _given(event_dict, "reason", *_OBJECT)
        elif class_uid == ENTITY_MANAGEMENT:
            shape["entity"] = _entity(event_dict)
            if event_dict["object_id"] is None and not event_dict["object_repr"]:
                unmapped["object_repr"] = ""  # the entity's name is another
            if event_dict["reason"] is not None:
                shape["comment"] = event_dict["reason"]
        if rest:
            unmapped["context"] = rest
        shape["unmapped"] = unmapped
        return shape

    def _actor(self, event: Mapping[str, Any]) -> dict[str, Any]:
        actor: dict[str, Any] = {"app_name": self._service}
        if event["actor"] is not None:
            actor["user"] = _user(event["actor"])
        return actor


def _class_of(event: Mapping[str, Any]) -> int:
    if event["event"].startswith("auth."):
        return AUTHENTICATION
    return ENTITY_MANAGEMENT if event["object_type"] else BASE_EVENT


def _classification(class_uid: int, event: Mapping[str, Any]) -> dict[str, Any]:
    class_name, category_uid, category_name = _CLASSES[class_uid]
    activity_id, activity_name = _activity(class_uid, event["event"])
    known = "Other" if activity_id == _OTHER else activity_name
    return {
        "activity_id": activity_id,
        "activity_name": activity_name,
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": class_uid,
        "class_name": class_name,
        "type_uid": class_uid * 100 + activity_id,
        "type_name": f"{class_name}: {known}",
    }


def _activity(class_uid: int, name: str) -> tuple[int, str]:
    if class_uid == ENTITY_MANAGEMENT:
        return _MODEL_ACTIVITIES.get(name, (_OTHER, name))
    if name.startswith("auth.login"):
        return 1, "Logon"
    return (2, "Logoff") if name.startswith("auth.logout") else (_OTHER, name)


def _occurrence(event: Mapping[str, Any]) -> dict[str, Any]:
    severity_id, severity = _SEVERITIES[event["level"]]
    status_id, status = (0, "Unknown") if has_begun(event) else _STATUSES[event["outcome"]]
    shape: dict[str, Any] = {
        "time": (datetime.fromisoformat(event["timestamp"]) - _EPOCH) // _MILLISECOND,
        "message": event["message"],
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "metadata": _metadata(event),
    }
    if event["error"] is not None:
        shape["status_code"] = event["error"]["type"]
        shape["status_detail"] = event["error"]["message"]
    if event["duration_ms"] is not None:
        shape["duration"] = whole(event["duration_ms"])
    return shape


def _metadata(event: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {
        "version": OCSF_VERSION,
        "uid": event["id"],
        "product": {"name": PRODUCT, "vendor_name": PRODUCT},
        "event_code": event["event"],
        "log_level": event["level"],
        "original_time": event["timestamp"],
    }
    if event["transaction"] is not None:
        metadata["correlation_uid"] = event["transaction"]
    return metadata


def _request(context: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    known, rest = split_context(context, _KNOWN_CONTEXT)
    shape: dict[str, Any] = {}
    if "ip" in known:
        shape["src_endpoint"] = {"ip": known["ip"]}
    request: dict[str, Any] = {}
    if known.get("method") in _METHODS:
        request["http_method"] = known["method"]
    elif "method" in known:
        rest["method"] = known["method"]
    for attribute, name in (("uid", "request_id"), ("user_agent", "user_agent")):
        if name in known:
            request[attribute] = known[name]
    if "path" in known:
        request["url"] = {"path": known["path"]}
        if "query" in known:
            request["url"]["query_string"] = known["query"]
    elif "query" in known:
        rest["query"] = known["query"]  # a URL needs its path
    if request:
        shape["http_request"] = request
    return shape, rest


def _user(actor: Mapping[str, Any]) -> dict[str, Any]:
    type_id, type_name = _USER_TYPES.get(actor["type"], (_OTHER, actor["type"]))
    user: dict[str, Any] = {"type_id": type_id, "type": type_name}
    if actor["id"] is not None:
        user["uid"] = actor["id"]
    if actor["label"] or actor["id"] is None:
        user["name"] = actor["label"] or actor["type"]  # a user must have a name or a uid
    return user


def _is_nameless(actor: Mapping[str, Any]) -> bool:
    return actor["id"] is None and not actor["label"]


def _subject(event: Mapping[str, Any]) -> dict[str, Any]:
    """Who logged on or off, or tried to: the actor if known, else the name that was given."""
    actor = event["actor"]
    if actor is not None and not _is_nameless(actor):
        return _user(actor)
    name = event["data"].get("username")
    known = type(name) is str and name
    return {"type_id": 0, "type": "Unknown", "name": name if known else "unknown"}


def _entity(event: Mapping[str, Any]) -> dict[str, Any]:
    entity = {"type_id": _OTHER, "type": event["object_type"]}
    if event["object_id"] is not None:
        entity["uid"] = event["object_id"]
    if event["object_repr"] or event["object_id"] is None:
        # It must have a name or a uid.
        entity["name"] = event["object_repr"] or event["object_type"]
    return entity


def _unmapped(event: Mapping[str, Any]) -> dict[str, Any]:
    unmapped = {
        "outcome": event["outcome"],
        "rolled_back": event["rolled_back"],
        "schema_version": event["schema_version"],
    }
    names = ("sender", "changes", "on_behalf_of", "cause", "duration_ms", "data", "database")
    return unmapped | _given(event, *names)


def _given(event: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those fields that are there; an empty text or object says nothing where null is none."""
    return {
        name: event[name]
        for name in names
        if event[name] or (event[name] is not None and name not in _NEVER_NULL)
    }


def processors(service: str | None = None) -> list[Processor]:
    """The processors of this format.

    Args:
        service: the name of the application; the project's name if it is not given.

    Returns:
        One that shapes the event, and a renderer.
    """
    return [OcsfShape(service or project_name()), JSONRenderer(serializer=serialize)]
