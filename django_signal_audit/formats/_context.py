"""What the formats for collectors need to know of an event's context and of the project."""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any, Final

from django.conf import settings

STARTED: Final = ".started"
_LARGEST: Final = 2**63 - 1


def project_name() -> str:
    """The first part of ``ROOT_URLCONF``; ``django`` in a project that has none."""
    urls = getattr(settings, "ROOT_URLCONF", None)
    return str(urls).partition(".")[0] if urls else "django"


def split_context(
    context: Mapping[str, Any], names: Container[str]
) -> tuple[dict[str, str], dict[str, Any]]:
    """Part what a schema has a field for from the rest of a context.

    Anybody may add to a context. What has the name of a known part but is no text, or is no
    address where one belongs, would make a strict collector refuse the whole event: it is rest.

    Args:
        context: of an event.
        names: which parts have a field; ``ip`` must be an address.

    Returns:
        The texts that have a field, and all others.
    """
    known = {}
    rest = {}
    for name, value in context.items():
        if name in names and type(value) is str and (name != "ip" or is_address(value)):
            known[name] = value
        else:
            rest[name] = value
    return known, rest


@lru_cache(maxsize=1024)
def is_address(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address; one with a zone (``%eth0``) is none here."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def whole(number: float) -> int:
    """A number that is not negative as a whole one, for a field of 64 bits with a sign.

    Who measured more than it holds, as nobody has, gets the largest: else JSON could not hold it.
    """
    return round(min(number, _LARGEST))


def has_begun(event: Mapping[str, Any]) -> bool:
    """Whether an event only says that an act has begun, so that its outcome says nothing."""
    return event["cause"] is not None and event["event"].endswith(STARTED)
