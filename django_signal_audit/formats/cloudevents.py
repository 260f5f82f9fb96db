"""The ``cloudevents`` format: CloudEvents 1.0 in its JSON format, one event a line.

The event as published is the ``data``; the attributes around it say to a router what it may
want to know without reading that:

- ``id`` is the event's. ``source`` is ``/`` and the project's name, so that the two together
  name one event as the specification demands; give a URI of your own where several projects
  feed one broker.
- ``type`` is the event's name behind a prefix. The specification recommends a reversed domain
  name, which only the project has: give it as ``type_prefix``.
- ``subject`` is the object: ``app_label.model/key``.
- ``authtype`` and ``authid`` are the actor, as the extension "Auth Context" says;
  ``causationid`` is the ``cause``, and ``correlationid`` the ``transaction``, as the extension
  "Correlation" says.

The attributes are texts without control characters, as the specification wants them: such a
character is shown as an escape there. In ``data`` it is as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from structlog.processors import JSONRenderer

from django_signal_audit.formats._context import project_name
from django_signal_audit.formats._visible import visible
from django_signal_audit.formats.json import serialize

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

SPEC_VERSION: Final = "1.0"
TYPE_PREFIX: Final = "django_signal_audit."
DATA_SCHEMA: Final = "urn:django-signal-audit:event:v1"
"""The ``$id`` of the published JSON Schema, ``schema/event.v1.json``."""

# Of the extension's other values none is among our types of actors.
_AUTH_TYPES: Final = {
    "user": "app_user",
    "service": "service_account",
    "api_key": "api_key",
    "task": "system",
    "command": "system",
    "system": "system",
    "anonymous": "unauthenticated",
}


class CloudEventShape:
    """Make a CloudEvent of an event dict.

    Args:
        source: the ``source`` of every event, a URI reference.
        type_prefix: what stands before the event's name in ``type``.
    """

    def __init__(self, source: str, type_prefix: str) -> None:
        self._source = source
        self._type_prefix = type_prefix

    def __call__(self, _logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        """Put the event under ``data``, and the attributes around it."""
        shape = {
            "specversion": SPEC_VERSION,
            "id": event_dict["id"],
            "source": self._source,
            "type": self._type_prefix + visible(event_dict["event"]),
            "time": event_dict["timestamp"],
            "datacontenttype": "application/json",
            "dataschema": DATA_SCHEMA,
        }
        if event_dict["object_type"]:
            shape["subject"] = visible(_subject(event_dict))
        actor = event_dict["actor"]
        if actor is not None:
            shape["authtype"] = _AUTH_TYPES.get(actor["type"], "unknown")
            if actor["id"]:
                shape["authid"] = visible(actor["id"])
        if event_dict["cause"] is not None:
            shape["causationid"] = event_dict["cause"]
        if event_dict["transaction"] is not None:
            shape["correlationid"] = event_dict["transaction"]
        return {**shape, "data": dict(event_dict)}


def _subject(event: Mapping[str, Any]) -> str:
    if event["object_id"] is None:
        return str(event["object_type"])
    return f"{event['object_type']}/{event['object_id']}"


def processors(source: str | None = None, type_prefix: str = TYPE_PREFIX) -> list[Processor]:
    """The processors of this format.

    Args:
        source: where the events come from, a URI reference such as
            ``"https://shop.example/orders"``; ``/`` and the project's name if it is not given.
        type_prefix: what stands before the event's name in ``type``, such as
            ``"org.example.shop."``.

    Returns:
        One that shapes the event, and a renderer.
    """
    source = source or f"/{quote(project_name())}"
    return [CloudEventShape(source, type_prefix), JSONRenderer(serializer=serialize)]
