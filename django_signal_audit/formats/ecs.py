"""The ``ecs`` format: Elastic Common Schema 8.17, one JSON object a line.

What ECS has a field for stands there; the rest is below ``signal_audit``, a namespace of our own,
as ECS asks of custom fields. ``@timestamp``, ``log.level`` and ``message`` come first and
``log.level`` and ``ecs.version`` keep their dots, as Elastic's own logging libraries write them.

Field names of an index are few and each has one type. The keys of ``changes``, ``context`` and
``data`` are anybody's: as field names they would grow the mapping without an end, and one number
where yesterday was a text (or a key ``a`` beside a key ``a.b``) makes Elasticsearch refuse the
whole event. A ``flattened`` field refuses events too, where they nest deep or have long values. So:

- ``signal_audit.changes`` is a list of ``{field, old, new}``, or ``{field, added, removed}`` of a
  many-to-many field, whose values are JSON as text;
- ``signal_audit.context``, what ECS has no field for, and ``signal_audit.data`` are JSON as text;
- ``labels``, which ECS has for this, repeats what is plain in ``data``: short texts, numbers and
  booleans, as text, under keys that are plain words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from structlog.processors import JSONRenderer

from django_signal_audit.formats._context import has_begun, project_name, split_context, whole
from django_signal_audit.formats.json import serialize

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

ECS_VERSION: Final = "8.17.0"
MODULE: Final = "signal_audit"
DATASET: Final = "signal_audit.trail"
LONGEST_LABEL: Final = 1024
"""Longer texts ECS itself does not index; of 32 KB, Elasticsearch would refuse the event."""

_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_NANOSECONDS: Final = 1_000_000
_KNOWN_CONTEXT: Final = frozenset(
    {"ip", "method", "path", "query", "request_id", "span_id", "trace_id", "user_agent"}
)
_OUTCOMES: Final = {"success": "success", "failure": "failure", "denied": "failure"}
_STATUSES: Final = range(100, 600)
_OWN: Final = ("object_type", "object_id", "cause", "transaction", "database")
_MODEL_TYPES: Final = {"create": ["change", "creation"], "delete": ["change", "deletion"]}


class EcsShape:
    """Make an ECS document of an event dict.

    Args:
        service: the ``service.name`` of every event.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._user_model = settings.AUTH_USER_MODEL.lower()
        self._managed = {
            self._user_model: "user",
            "auth.group": "group",
            "auth.permission": "admin",
        }

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        """Put each field of the event where ECS has it, or below ``signal_audit``."""
        known, rest = split_context(event_dict["context"], _KNOWN_CONTEXT)
        users = self._users(event_dict)
        shape: dict[str, Any] = {
            "@timestamp": event_dict["timestamp"],
            "log.level": event_dict["level"],
            "message": event_dict["message"],
            "ecs.version": ECS_VERSION,
            "event": self._event(event_dict),
            "service": {"name": self._service},
            **users,
            **_request(known),
        }
        status = event_dict["data"].get("status")
        # 200.0 and True are in a range too, but no ECS "long".
        is_status = type(status) is int and status in _STATUSES
        if is_status and event_dict["event"].startswith("http."):
            shape.setdefault("http", {})["response"] = {"status_code": status}
        related = _related(users.get("user", {}), known)
        if related:
            shape["related"] = related
        if event_dict["error"] is not None:
            shape["error"] = event_dict["error"]
        labels = _labels(event_dict["data"])
        if labels:
            shape["labels"] = labels
        shape["signal_audit"] = _own(event_dict, rest)
        return shape

    def _event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        categories, types = self._classify(event)
        said: dict[str, Any] = {"id": event["id"], "kind": "event"}
        if categories:
            said["category"] = categories
        said |= {
            "type": types,
            "action": event["event"],
            "outcome": "unknown" if has_begun(event) else _OUTCOMES[event["outcome"]],
            "module": MODULE,
            "dataset": DATASET,
        }
        if event["sender"]:
            said["provider"] = event["sender"]
        if event["reason"] is not None:
            said["reason"] = event["reason"]
        if event["duration_ms"] is not None:
            said["duration"] = whole(event["duration_ms"] * _NANOSECONDS)
        return said

    def _classify(self, event: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        group, _, act = event["event"].partition(".")
        failed = event["outcome"] == "failure"
        if group == "auth":
            categories, types = ["authentication"], [_session(act)]
        elif group == "model":
            categories, types = ["database"], [*_MODEL_TYPES.get(act, ["change"])]
            managed = self._managed.get(event["object_type"])
            if managed:
                categories.append("iam")
                types.append(managed)
        elif group == "http":
            categories, types = ["web"], ["access", "error"] if failed else ["access"]
        else:
            # ECS: what matches no category has none.
            categories, types = [], ["error" if failed else "info"]
        if event["outcome"] == "denied":
            types.append("denied")
        return categories, types

    def _users(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Who acted, whose rights were used, and who was changed."""
        user: dict[str, Any] = _user(event["actor"])
        effective = _user(event["on_behalf_of"])
        if effective:
            user["effective"] = effective
        if event["object_type"] == self._user_model and event["object_id"]:
            user["target"] = {"id": event["object_id"]}
        return {"user": user} if user else {}


def _session(act: str) -> str:
    if act.startswith("login"):
        return "start"
    return "end" if act.startswith("logout") else "info"


def _user(actor: Mapping[str, Any] | None) -> dict[str, Any]:
    said = {}
    if actor is not None and actor["id"] is not None:
        said["id"] = actor["id"]
    if actor is not None and actor["label"]:
        said["name"] = actor["label"]
    return said


def _request(known: Mapping[str, str]) -> dict[str, Any]:
    shape: dict[str, Any] = {}
    if "ip" in known:
        shape |= {"client": {"ip": known["ip"]}, "source": {"ip": known["ip"]}}
    request = _named(known, id="request_id", method="method")
    if request:
        shape["http"] = {"request": request}
    for field, said in (
        ("url", _named(known, path="path", query="query")),
        ("user_agent", _named(known, original="user_agent")),
        ("trace", _named(known, id="trace_id")),
        ("span", _named(known, id="span_id")),
    ):
        if said:
            shape[field] = said
    return shape


def _named(known: Mapping[str, str], **names: str) -> dict[str, str]:
    return {field: known[name] for field, name in names.items() if name in known}


def _related(user: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, list[str]]:
    people = (user, user.get("effective", {}), user.get("target", {}))
    names = [one[key] for one in people for key in ("id", "name") if one.get(key)]
    related = {"user": list(dict.fromkeys(names))} if names else {}
    if "ip" in known:
        related["ip"] = [known["ip"]]
    return related


def _labels(data: Mapping[str, Any]) -> dict[str, str]:
    labels = {}
    for key, value in data.items():
        if type(value) in {str, int, float, bool} and _LABEL.fullmatch(key):
            text = value if type(value) is str else _text(value)
            if len(text) <= LONGEST_LABEL:
                labels[key] = text
    return labels


def _own(event: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {
        "outcome": event["outcome"],
        "rolled_back": event["rolled_back"],
        "schema_version": event["schema_version"],
    }
    own |= {name: event[name] for name in _OWN if event[name] is not None}
    if event["object_repr"]:
        own["object_repr"] = event["object_repr"]
    own |= {
        f"{name}_type": event[name]["type"]
        for name in ("actor", "on_behalf_of")
        if event[name] is not None
    }
    if event["changes"] is not None:
        own["changes"] = [_change(*item) for item in event["changes"].items()]
    if context:
        own["context"] = _text(context)
    if event["data"]:
        own["data"] = _text(event["data"])
    return own


def _change(name: str, change: Any) -> dict[str, Any]:
    if isinstance(change, dict):
        return {
            "field": name,
            "added": [_text(key) for key in change["added"]],
            "removed": [_text(key) for key in change["removed"]],
        }
    old, new = change
    return {"field": name, "old": _text(old), "new": _text(new)}


def _text(value: Any) -> str:
    return serialize(value).decode()


def processors(service: str | None = None) -> list[Processor]:
    """The processors of this format.

    Args:
        service: the ``service.name`` of every event; the project's name if it is not given.

    Returns:
        One that shapes the event, and a renderer.
    """
    return [EcsShape(service or project_name()), JSONRenderer(serializer=serialize)]
